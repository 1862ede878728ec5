/* Any text: no crash, and what was read is the same after canonical writing and reading. */
#include "lib/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count_duplicate(void *user, const char *path)
{
    (void)path;
    (*(size_t *)user)++;
}

static struct fl_bytes *written(const json_t *value, bool pretty)
{
    struct fl_buf buf;
    struct fl_bytes *bytes;

    fl_buf_init(&buf, 0);
    if (pretty)
        fl_json_write_pretty(&buf, value);
    else
        fl_json_write(&buf, value);
    bytes = fl_buf_to_bytes(&buf);
    fl_buf_finish(&buf);
    return bytes;
}

static void check_reread(const struct fl_bytes *text, const struct fl_bytes *want)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *again = NULL;
    FL_JSON value = NULL;
    size_t duplicates = 0;

    if (fl_json_parse(text->data, text->len, &(struct fl_json_limits){.max_bytes = 1 << 30},
                      count_duplicate, &duplicates, &value, NULL) < 0)
        abort();
    again = written(value, false);
    if (duplicates || again->len != want->len || memcmp(again->data, want->data, want->len) != 0)
        abort();
}

/* jansson's own reader is the yardstick: it accepts the same texts and reads the same values. It
 * alone refuses integers beyond 64 bits, nests deeper, and overlooks NUL behind a number. */
static void check_against_jansson(const char *text, size_t len, const json_t *value,
                                  const struct fl_error *err)
{
    json_error_t where;
    FL_JSON other = json_loadb(text, len, JSON_DECODE_ANY, &where);

    if (memchr(text, '\0', len))
        return;
    if (value && other && !json_equal(value, other))
        abort();
    if (value && !other && json_error_code(&where) != json_error_numeric_overflow)
        abort();
    if (!value && other && !strstr(err->msg, "nesting deeper"))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *compact = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *pretty = NULL;
    FL_JSON value = NULL;
    FL_JSON plain = NULL;
    size_t duplicates = 0;
    struct fl_error err;

    (void)fl_json_parse((const char *)data, size, NULL, count_duplicate, &duplicates, &value, &err);
    check_against_jansson((const char *)data, size, value, &err);
    if (!value)
        return 0;
    /* Looking for duplicates must not change what is read. */
    if (fl_json_parse((const char *)data, size, NULL, NULL, NULL, &plain, &err) < 0 ||
        !json_equal(value, plain))
        abort();
    compact = written(value, false);
    pretty = written(value, true);
    check_reread(compact, compact);
    check_reread(pretty, compact);
    return 0;
}
