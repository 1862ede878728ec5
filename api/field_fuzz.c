/* Any document: what decodes as a kind comes back the same from encoding and from cloning. */
#include "api/gen/flops_types.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_object(const struct fl_kind_type *type, const json_t *json)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON encoded = NULL;
    FL_JSON again = NULL;
    struct fl_error err;
    void *object, *decoded;

    if (fl_object_decode(type, json, arena, &object, &err) < 0)
        return;
    encoded = fl_object_encode(type, object);
    if (fl_object_decode(type, encoded, arena, &decoded, &err) < 0 ||
        !fl_object_equal(type, object, decoded) ||
        !fl_object_equal(type, object, fl_object_clone(type, object, arena)))
        abort();
    again = fl_object_encode(type, decoded);
    if (!json_equal(encoded, again))
        abort();
}

/* Without a kind it is tried as each of them. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct fl_yaml_limits limits = {.max_bytes = 65536, .max_nodes = 20000};
    const struct fl_kind_type *type;
    FL_JSON json = NULL;
    struct fl_error err;

    if (fl_yaml_parse((const char *)data, size, &limits, &json, &err) < 0)
        return 0;
    type = fl_kind_type_find(fl_str_or(fl_json_str(json, "kind"), ""));
    if (type)
        check_object(type, json);
    for (size_t i = 0; !type && fl_kind_types[i]; i++)
        check_object(fl_kind_types[i], json);
    return 0;
}
