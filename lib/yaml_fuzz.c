/* Any text: no crash, and what was read survives being written and read again. */
#include "lib/yaml.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fl_buf canonical(const json_t *value)
{
    struct fl_buf buf;

    fl_buf_init(&buf, 0);
    fl_json_write(&buf, value);
    return buf;
}

/* Compared as JSON text: a whole number may come back as an integer where it was a real. */
static int check_document(void *user, json_t *value, size_t line, struct fl_error *err)
{
    FL_JSON back = NULL;
    struct fl_buf yaml, before, after;

    (void)user;
    (void)line;
    fl_buf_init(&yaml, 0);
    fl_yaml_write(&yaml, value);
    if (fl_yaml_parse(fl_buf_text(&yaml), yaml.len, &(struct fl_yaml_limits){.max_bytes = 1 << 30},
                      &back, err) < 0)
        abort();
    before = canonical(value);
    after = canonical(back);
    if (before.len != after.len || memcmp(before.data, after.data, before.len) != 0)
        abort();
    fl_buf_finish(&yaml);
    fl_buf_finish(&before);
    fl_buf_finish(&after);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct fl_yaml_limits limits = {.max_bytes = 65536, .max_nodes = 20000};
    struct fl_error err;

    (void)fl_yaml_parse_all((const char *)data, size, &limits, check_document, NULL, &err);
    return 0;
}
