/* Field ownership on any objects. The input is a byte of flags, then two lines of JSON: the live
 * object (or null) and the one that is written or applied. What comes out can be read again, and
 * writing the same once more changes nothing. */
#include "api/managed_fields.h"

#include "lib/str.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { APPLY = 1, FORCE = 2, STATUS = 4, NO_SCHEMA = 8, KUBECTL = 16 };

static const char schema_text[] =
    "{\"type\":\"object\",\"properties\":{\"spec\":{\"type\":\"object\",\"properties\":{"
    "\"n\":{\"type\":\"integer\"},\"any\":{\"x-kubernetes-int-or-string\":true},"
    "\"atom\":{\"type\":\"object\",\"x-kubernetes-map-type\":\"atomic\","
    "\"additionalProperties\":{\"type\":\"string\"}},"
    "\"map\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"object\","
    "\"x-kubernetes-preserve-unknown-fields\":true}},"
    "\"free\":{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true},"
    "\"list\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},"
    "\"set\":{\"type\":\"array\",\"x-kubernetes-list-type\":\"set\","
    "\"items\":{\"type\":\"string\"}},"
    "\"items\":{\"type\":\"array\",\"x-kubernetes-list-type\":\"map\","
    "\"x-kubernetes-list-map-keys\":[\"name\",\"port\"],\"items\":{\"type\":\"object\","
    "\"required\":[\"name\"],\"properties\":{\"name\":{\"type\":\"string\"},"
    "\"port\":{\"type\":\"integer\",\"default\":80},\"set\":{\"type\":\"array\","
    "\"x-kubernetes-list-type\":\"set\",\"items\":{\"type\":\"string\"}}}}}}},"
    "\"status\":{\"type\":\"object\",\"properties\":{\"phase\":{\"type\":\"string\"}}}}}";

static const struct fl_schema *schema(void)
{
    static struct fl_schema *compiled;
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = NULL;
    FL_JSON openapi = NULL;
    struct fl_field_errors errors;
    struct fl_error err = {0};

    if (compiled)
        return compiled;
    arena = fl_arena_create();
    fl_field_errors_init(&errors, arena);
    if (fl_json_parse(schema_text, strlen(schema_text), NULL, NULL, NULL, &openapi, &err) < 0 ||
        fl_schema_compile(openapi, "schema", &compiled, &errors, &err) < 0)
        abort();
    return compiled;
}

static void check(const struct fl_managed_write *write, const json_t *object)
{
    const json_t *entries = fl_json_path(object, "metadata.managedFields"), *after;
    FL_JSON again = json_deep_copy(object);
    struct fl_error err = {0};
    struct fl_managed_write same = *write;

    assert(!entries || fl_managed_validate(entries, &err) == 0);
    same.time = "2031-01-01T00:00:00Z";
    assert(fl_managed_update(&same, object, again, &err) == 0);
    after = fl_json_path(again, "metadata.managedFields");
    assert(entries ? json_equal(entries, after) : !after);
}

static void apply(const struct fl_managed_write *write, const json_t *live, const json_t *applied,
                  bool force)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_managed_conflict *conflicts;
    struct fl_error err = {0};
    FL_JSON object = NULL;
    size_t count;
    int r;

    r = fl_managed_apply(write, live, applied, force, arena, &object, &conflicts, &count, &err);
    assert(r < 0 ? err.code == r && !object : object && count == 0);
    assert(!force || r != FL_E_CONFLICT);
    if (object)
        check(write, object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data + 1, *line;
    struct fl_managed_write write = {
        .api_version = "g/v1", .time = "2030-01-01T00:00:00Z", .has_status = true};
    FL_JSON live = NULL;
    FL_JSON object = NULL;
    size_t left;

    line = size > 1 ? memchr(text, '\n', size - 1) : NULL;
    if (!line)
        return 0;
    left = size - 1 - (size_t)(line + 1 - text);
    if (fl_json_parse(text, (size_t)(line - text), NULL, NULL, NULL, &live, NULL) < 0 ||
        fl_json_parse(line + 1, left, NULL, NULL, NULL, &object, NULL) < 0 ||
        !json_is_object(object) || (!json_is_object(live) && !json_is_null(live)))
        return 0;
    write.schema = data[0] & NO_SCHEMA ? NULL : schema();
    write.manager = data[0] & KUBECTL ? "kubectl" : "m";
    write.subresource = data[0] & STATUS ? "status" : "";
    if (data[0] & APPLY) {
        apply(&write, json_is_null(live) ? NULL : live, object, data[0] & FORCE);
        return 0;
    }
    assert(fl_managed_update(&write, json_is_null(live) ? NULL : live, object, NULL) == 0);
    check(&write, object);
    return 0;
}
