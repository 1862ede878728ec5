/* Any JSON as a kind's schema: no crash, documents are JSON that reads back, and the protobuf has
 * lengths that fit. */
#include "api/openapi.h"

#include "lib/str.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_json(const json_t *document)
{
    const struct fl_json_limits limits = {.max_bytes = 1 << 30, .max_depth = 1000};
    FL_JSON back = NULL;
    struct fl_buf buf;

    fl_buf_init(&buf, 0);
    fl_json_write(&buf, document);
    if (fl_json_parse(fl_buf_text(&buf), buf.len, &limits, NULL, NULL, &back, NULL) < 0)
        abort();
    fl_buf_finish(&buf);
}

static uint64_t read_varint(const unsigned char **at, const unsigned char *end)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (*at == end)
            abort();
        value |= (uint64_t)(**at & 0x7f) << shift;
        if (*(*at)++ < 0x80)
            return value;
    }
    abort();
}

/* The top level: members of rising numbers, all of them with a length, that fill the text. */
static void check_protobuf(const json_t *document)
{
    const unsigned char *at, *end;
    uint64_t number = 0;
    struct fl_buf buf;

    fl_buf_init(&buf, 0);
    fl_openapi_v2_protobuf(document, &buf);
    at = (const unsigned char *)buf.data;
    end = at + buf.len;
    while (at < end) {
        uint64_t tag = read_varint(&at, end), len = read_varint(&at, end);

        if ((tag & 7) != 2 || tag >> 3 < number || len > (uint64_t)(end - at))
            abort();
        number = tag >> 3;
        at += len;
    }
    fl_buf_finish(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct fl_resource resource = {
        .group = "example.org",
        .version = "v1",
        .api_version = "example.org/v1",
        .plural = "things",
        .kind = "Thing",
        .list_kind = "ThingList",
        .verbs = (1u << FL_VERB_COUNT) - 1,
        .traits = {.namespaced = true, .has_status = true},
        .has_scale = true,
    };
    struct fl_openapi_kind kind = {.resource = &resource};
    json_t *schema = NULL;

    if (fl_json_parse((const char *)data, size, NULL, NULL, NULL, &schema, NULL) < 0)
        return 0;
    kind.schema = schema;
    {
        FL_JSON v3 = fl_openapi_v3(&kind, 1, "v1");
        FL_JSON v2 = fl_openapi_v2(&kind, 1, "v1");

        check_json(v3);
        check_json(v2);
        check_protobuf(v2);
    }
    json_decref(schema);
    return 0;
}
