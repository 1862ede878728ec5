/* Any body: no crash, and what was read is JSON that can be written and read back the same. */
#include "api/protobuf.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const json_t *value)
{
    const struct fl_json_limits limits = {.max_bytes = 1 << 30, .max_depth = 1000};
    FL_JSON back = NULL;
    struct fl_buf buf;

    fl_buf_init(&buf, 0);
    fl_json_write(&buf, value);
    if (fl_json_parse(fl_buf_text(&buf), buf.len, &limits, NULL, NULL, &back, NULL) < 0)
        abort();
    if (!fl_json_str(back, "kind") || !fl_json_str(back, "apiVersion"))
        abort();
    fl_buf_finish(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fl_error err;
    json_t *value = NULL;

    if (fl_protobuf_decode(data, size, &value, &err) < 0) {
        if (value || err.code == FL_OK)
            abort();
        return 0;
    }
    check(value);
    json_decref(value);
    return 0;
}
