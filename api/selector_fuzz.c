/* Selectors of both forms. The first byte chooses: a label selector, a field selector, or the
 * object form. */
#include "api/selector.h"

#include "lib/str.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A key has itself as value, unless it is short. */
static const char *get(void *user, const char *key)
{
    (void)user;
    return strlen(key) < 3 ? NULL : key;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_freep) char *text = NULL;
    struct fl_selector *selector = NULL;
    const char *const *keys;
    FL_JSON value = NULL;
    int r;

    if (size == 0)
        return 0;
    text = fl_strndup((const char *)data + 1, size - 1);
    if (data[0] == 'f')
        r = fl_field_selector_parse(arena, text, &selector, NULL);
    else if (data[0] != 'o')
        r = fl_label_selector_parse(arena, text, &selector, NULL);
    else if (fl_json_parse(text, strlen(text), NULL, NULL, NULL, &value, NULL) == 0)
        r = fl_label_selector_from_json(arena, value, &selector, NULL);
    else
        return 0;
    if (r < 0)
        return 0;
    (void)fl_selector_matches(selector, get, NULL);
    for (size_t i = 0, count = fl_selector_keys(selector, &keys); i < count; i++) {
        const char *exact = fl_selector_exact(selector, keys[i]);

        if (exact && strlen(exact) > size)
            abort();
    }
    return 0;
}
