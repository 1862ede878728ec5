#include "api/cel_internal.h"
#include "lib/str.h"

#include <math.h>
#include <stdio.h>

struct cel_value fl_cel_error(struct cel_eval *eval, const char *fmt, ...)
{
    char message[FL_ERROR_TEXT_MAX];
    va_list ap;
    int len;

    va_start(ap, fmt);
    len = vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    if (len < 0)
        len = 0;
    if ((size_t)len >= sizeof(message))
        len = sizeof(message) - 1;
    return cel_text(CEL_ERROR, fl_arena_strndup(eval->arena, message, (size_t)len), (size_t)len);
}

static struct cel_value constant_error(const char *text)
{
    return cel_text(CEL_ERROR, text, strlen(text));
}

struct cel_value fl_cel_no_overload(void)
{
    return constant_error("no such overload");
}

struct cel_value fl_cel_too_costly(void)
{
    return constant_error("operation cancelled: actual cost limit exceeded");
}

struct cel_value fl_cel_cstring(const char *text)
{
    return cel_string(text, strlen(text));
}

const char *fl_cel_type_name(const struct cel_value *value)
{
    static const char *const names[] = {
        [CEL_ERROR] = "error",
        [CEL_NULL] = "null_type",
        [CEL_BOOL] = "bool",
        [CEL_INT] = "int",
        [CEL_UINT] = "uint",
        [CEL_DOUBLE] = "double",
        [CEL_STRING] = "string",
        [CEL_BYTES] = "bytes",
        [CEL_LIST] = "list",
        [CEL_MAP] = "map",
        [CEL_TIMESTAMP] = "google.protobuf.Timestamp",
        [CEL_DURATION] = "google.protobuf.Duration",
        [CEL_TYPE] = "type",
        [CEL_OPTIONAL] = "optional_type",
        [CEL_QUANTITY] = "kubernetes.Quantity",
        [CEL_URL] = "kubernetes.URL",
        [CEL_IP] = "net.IP",
        [CEL_CIDR] = "net.CIDR",
        [CEL_FORMAT] = "kubernetes.NamedFormat",
    };

    return names[value->kind];
}

static struct cel_value from_string(struct cel_eval *eval, const json_t *json,
                                    const struct fl_schema_node *node)
{
    const char *text = json_string_value(json);
    const char *format = node ? fl_schema_node_format(node) : NULL;
    size_t len = json_string_length(json);
    struct cel_value value;
    int64_t nanos;
    char *data;

    if (!format)
        return cel_string(text, len);
    if (!strcmp(format, "duration")) {
        if (!fl_cel_duration_parse(text, len, &nanos))
            return fl_cel_error(eval, "Invalid duration %.100s", text);
        return cel_duration(nanos);
    }
    if (!strcmp(format, "date-time")) {
        if (!fl_cel_timestamp_parse(text, len, &value))
            return fl_cel_error(eval, "Invalid date-time formatted string %.100s", text);
        return value;
    }
    if (!strcmp(format, "date")) {
        const char *whole = fl_arena_printf(eval->arena, "%.40sT00:00:00Z", text);

        if (len != 10 || !fl_cel_timestamp_parse(whole, strlen(whole), &value))
            return fl_cel_error(eval, "Invalid date formatted string %.100s", text);
        return value;
    }
    if (!strcmp(format, "byte")) {
        if (!fl_base64_decode(eval->arena, text, len, &data, &len))
            return fl_cel_error(eval, "Invalid byte formatted string %.100s", text);
        return cel_text(CEL_BYTES, data, len);
    }
    return cel_string(text, len);
}

struct cel_value fl_cel_from_json(struct cel_eval *eval, const json_t *json,
                                  const struct fl_schema_node *node)
{
    struct cel_value value = {0};
    enum fl_schema_type type;
    double real;

    if (!json || json_is_null(json))
        return cel_null();
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        value.kind = CEL_MAP;
        value.many.count = json_object_size(json);
        break;
    case JSON_ARRAY:
        value.kind = CEL_LIST;
        value.many.count = json_array_size(json);
        break;
    case JSON_STRING:
        return from_string(eval, json, node);
    case JSON_INTEGER:
        if (node && fl_schema_node_type(node) == FL_SCHEMA_NUMBER)
            return cel_double((double)json_integer_value(json));
        return cel_int(json_integer_value(json));
    case JSON_REAL:
        real = json_real_value(json);
        type = node ? fl_schema_node_type(node) : FL_SCHEMA_ANY;
        if ((type == FL_SCHEMA_INTEGER || type == FL_SCHEMA_INT_OR_STRING) && real == floor(real) &&
            fabs(real) < 0x1p63)
            return cel_int((int64_t)real);
        return cel_double(real);
    default:
        return cel_bool(json_is_true(json));
    }
    value.lent = true;
    value.many.json = json;
    value.node = node;
    return value;
}

struct cel_value fl_cel_item(struct cel_eval *eval, const struct cel_value *list, size_t index)
{
    if (!list->lent)
        return list->many.items[index];
    return fl_cel_from_json(eval, json_array_get(list->many.json, index),
                            list->node ? fl_schema_node_items(list->node) : NULL);
}

char *fl_cel_strdup(struct cel_eval *eval, const struct cel_value *text)
{
    return fl_arena_strndup(eval->arena, text->text.data, text->text.len);
}

static bool find_lent(struct cel_eval *eval, const struct cel_value *map, const char *key,
                      size_t len, struct cel_value *ret_value)
{
    const json_t *json = json_object_getn(map->many.json, key, len);
    const struct fl_schema_node *node = NULL;

    if (!json)
        return false;
    if (map->node)
        node = fl_schema_node_member(map->node, fl_arena_strndup(eval->arena, key, len));
    *ret_value = fl_cel_from_json(eval, json, node);
    return true;
}

bool fl_cel_find(struct cel_eval *eval, const struct cel_value *map, const struct cel_value *key,
                 struct cel_value *ret_value)
{
    if (map->lent)
        return key->kind == CEL_STRING &&
               find_lent(eval, map, key->text.data, key->text.len, ret_value);
    if (!fl_cel_charge(eval, map->many.count / 10))
        return false;
    for (size_t i = 0; i < map->many.count; i++) {
        if (fl_cel_equal(eval, &map->many.pairs[i].key, key)) {
            *ret_value = map->many.pairs[i].value;
            return true;
        }
    }
    return false;
}

/* Kubernetes' escapes for property names that are no CEL names. */
static const struct {
    const char *escape, *text;
} escapes[] = {{"__underscores__", "__"}, {"__dot__", "."}, {"__dash__", "-"}, {"__slash__", "/"}};

/* Replaces what is escaped; false where the name is too long. */
static bool replace_escapes(const char *name, char out[FL_CEL_NAME_MAX])
{
    size_t len = strlen(name), used = 0;

    if (len >= FL_CEL_NAME_MAX)
        return false;
    if (len > 4 && !strncmp(name, "__", 2) && !strcmp(name + len - 2, "__")) {
        memcpy(out, name + 2, len - 4);
        out[len - 4] = '\0';
        if (fl_cel_is_reserved(out))
            return true;
    }
    while (*name) {
        size_t i = 0;

        while (i < FL_COUNT_OF(escapes) && !fl_str_has_prefix(name, escapes[i].escape))
            i++;
        if (i < FL_COUNT_OF(escapes)) {
            memcpy(out + used, escapes[i].text, strlen(escapes[i].text));
            used += strlen(escapes[i].text);
            name += strlen(escapes[i].escape);
        } else {
            out[used++] = *name++;
        }
    }
    out[used] = '\0';
    return true;
}

bool fl_cel_unescape(const char *name, char out[FL_CEL_NAME_MAX])
{
    for (const char *at = strstr(name, "__"); at; at = strstr(at, "__")) {
        size_t i = 0, len = strlen(name);

        if (at == name && len > 4 && !strcmp(name + len - 2, "__"))
            break; /* perhaps a reserved word */
        while (i < FL_COUNT_OF(escapes) && !fl_str_has_prefix(at, escapes[i].escape))
            i++;
        if (i == FL_COUNT_OF(escapes))
            return false;
        at += strlen(escapes[i].escape);
    }
    return replace_escapes(name, out);
}

bool fl_cel_field(struct cel_eval *eval, const struct cel_value *map, const char *name,
                  struct cel_value *ret_value)
{
    struct cel_value key = fl_cel_cstring(name);
    char property[FL_CEL_NAME_MAX];

    if (map->lent && fl_schema_node_is_struct(map->node)) {
        /* a field is what the schema knows, and null is none */
        return fl_cel_unescape(name, property) && fl_schema_node_member(map->node, property) &&
               find_lent(eval, map, property, strlen(property), ret_value) &&
               ret_value->kind != CEL_NULL;
    }
    if (fl_cel_find(eval, map, &key, ret_value))
        return true;
    return map->lent && strstr(name, "__") && replace_escapes(name, property) &&
           find_lent(eval, map, property, strlen(property), ret_value);
}

const struct cel_pair *fl_cel_pairs(struct cel_eval *eval, const struct cel_value *map)
{
    struct cel_pair *pairs;
    const char *key;
    json_t *json;
    size_t i = 0;

    if (!map->lent)
        return map->many.pairs;
    fl_cel_charge(eval, map->many.count / 2);
    pairs = fl_new_array(eval->arena, struct cel_pair, map->many.count + 1);
    json_object_foreach((json_t *)map->many.json, key, json) {
        pairs[i].key = fl_cel_cstring(key);
        pairs[i].value =
            fl_cel_from_json(eval, json, map->node ? fl_schema_node_member(map->node, key) : NULL);
        i++;
    }
    return pairs;
}

struct cel_value fl_cel_optional(struct cel_eval *eval, const struct cel_value *inner)
{
    struct cel_value value = {.kind = CEL_OPTIONAL};

    if (inner) {
        struct cel_value *copy = fl_new(eval->arena, struct cel_value);

        *copy = *inner;
        value.inner = copy;
    }
    return value;
}

void fl_cel_push(struct cel_eval *eval, struct cel_items *list, const struct cel_value *value)
{
    if (list->count == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 8;
        struct cel_value *items = fl_new_array(eval->arena, struct cel_value, cap);

        if (list->count)
            memcpy(items, list->items, list->count * sizeof(*items));
        list->items = items;
        list->cap = cap;
    }
    list->items[list->count++] = *value;
}
