/* What bulk transfer reads of strangers. The first byte says which parser; what is accepted must be
 * within its bounds, and a state must read back as it was written. */
#include "lib/http_range.h"
#include "workloads/transfer/bulk_parse.h"

#include "lib/str.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ranges(const char *text)
{
    struct fl_http_part part = {0, 0};

    if (fl_http_range_parse(text, 1000, &part) == FL_HTTP_PART &&
        (part.len == 0 || part.offset >= 1000 || part.len > 1000 - part.offset))
        __builtin_trap();
    (void)fl_http_etag_matches(text, "\"x\"");
}

static void puts_and_keys(const char *text)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_bulk_check check;
    struct fl_bulk_put put;
    char whole[FL_DIGEST_SIZE];
    const char *key;

    if (fl_bulk_put_parse(text, &put, NULL) == 0 && (put.offset < 0 || put.offset > put.size))
        __builtin_trap();
    if (fl_bulk_key_parse(arena, text, &key, NULL) == 0 && (!*key || strlen(key) > FL_BULK_KEY_MAX))
        __builtin_trap();
    if (fl_bulk_check_parse(text, &check, NULL) == 0 && check.kind == FL_BULK_CHECK_NONE)
        __builtin_trap();
    if (fl_bulk_whole_parse(text, whole) && fl_digest_kind(whole) != FL_DIGEST_XXH128)
        __builtin_trap();
}

static void states(const char *data, size_t size)
{
    char text[FL_BULK_STATE_MAX + 1];
    struct fl_bulk_state state;

    if (!fl_bulk_state_parse(data, size, &state))
        return;
    fl_bulk_state_format(&state, text);
    if (strlen(text) != size || memcmp(text, data, size) != 0)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_freep) char *text = NULL;

    if (size == 0 || size > 8192)
        return 0;
    text = fl_strndup((const char *)data + 1, size - 1);
    if (data[0] % 3 == 0)
        ranges(text);
    else if (data[0] % 3 == 1)
        puts_and_keys(text);
    else
        states((const char *)data + 1, size - 1);
    return 0;
}
