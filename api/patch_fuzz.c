/* Patches of all three kinds on any value. The input is a byte that says which kind, then two lines
 * of JSON: the original and the patch. What comes out can be read again, and the original is as it
 * was. */
#include "api/patch.h"

#include "lib/str.h"

#include <assert.h>
#include <stdint.h>

#define MAX_BYTES ((size_t)128 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_result(const json_t *result)
{
    struct fl_bytes *text = fl_json_to_bytes(result);
    struct fl_error err = {0};
    json_t *again = NULL;

    if (fl_json_parse(text->data, text->len, NULL, NULL, NULL, &again, &err) < 0)
        assert(err.code == FL_E_TOO_LARGE);
    json_decref(again);
    fl_bytes_unref(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct fl_strategic_list lists[] = {
        {"set", NULL}, {"items", "name"}, {"items.items", "name"}};
    const char *text = (const char *)data + 1, *line;
    FL_JSON original = NULL;
    FL_JSON patch = NULL;
    FL_JSON result = NULL;
    FL_JSON before = NULL;
    struct fl_error err = {0};
    size_t left;
    int r;

    line = size > 1 ? memchr(text, '\n', size - 1) : NULL;
    if (!line)
        return 0;
    left = size - 1 - (size_t)(line + 1 - text);
    if (fl_json_parse(text, (size_t)(line - text), NULL, NULL, NULL, &original, NULL) < 0 ||
        fl_json_parse(line + 1, left, NULL, NULL, NULL, &patch, NULL) < 0)
        return 0;
    before = json_deep_copy(original);
    if (data[0] % 3 == 0)
        r = fl_patch_json(original, patch, MAX_BYTES, &result, &err);
    else if (data[0] % 3 == 1)
        r = fl_patch_merge(original, patch, &result, &err);
    else
        r = fl_patch_strategic(original, patch, lists, FL_COUNT_OF(lists), &result, &err);
    assert(r < 0 ? err.code == r && !result : result != NULL);
    assert(json_equal(original, before));
    if (result)
        check_result(result);
    return 0;
}
