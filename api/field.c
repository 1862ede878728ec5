#include "api/field.h"

#include "lib/str.h"
#include "lib/yaml.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* Access by offset. Lists of all types have one layout, but are different types to the compiler, so
 * their members are copied in and out. */

struct list {
    char *items;
    size_t count;
};

static void *at(const void *base, size_t offset)
{
    return (char *)base + offset;
}

#define GET(type, base, field)        (*(type const *)at(base, (field)->offset))
#define PUT(type, base, field, value) (*(type *)at(base, (field)->offset) = (value))

static struct list get_list(const void *base, const struct fl_field *field)
{
    struct list list;

    memcpy(&list, at(base, field->offset), sizeof(list));
    return list;
}

static void put_list(void *base, const struct fl_field *field, struct list list)
{
    memcpy(at(base, field->offset), &list, sizeof(list));
}

static bool is_text(enum fl_field_type type)
{
    return type >= FL_F_STRING && type <= FL_F_TIME;
}

static size_t element_size(const struct fl_field *field)
{
    switch (field->element) {
    case FL_F_OBJECT:
        return field->size;
    case FL_F_INT:
        return sizeof(int64_t);
    case FL_F_ENUM:
        return sizeof(int);
    default:
        return sizeof(const char *);
    }
}

/* An element of a list as if it were a field of its own, at the element's address. */
static struct fl_field element_field(const struct fl_field *list)
{
    struct fl_field field = *list;

    field.type = list->element;
    field.offset = field.has_offset = 0;
    field.def = NULL;
    field.min = INT64_MIN;
    field.max = 0;
    return field;
}

static bool has_flag(const void *base, const struct fl_field *field)
{
    return !field->has_offset || *(const bool *)at(base, field->has_offset);
}

static bool is_present(const void *base, const struct fl_field *field)
{
    switch (field->type) {
    case FL_F_LIST:
    case FL_F_MAP:
        return get_list(base, field).items != NULL;
    case FL_F_ENUM:
        return GET(int, base, field) != 0;
    case FL_F_INT:
    case FL_F_BOOL:
    case FL_F_OBJECT:
        return has_flag(base, field);
    case FL_F_JSON:
        return GET(const json_t *, base, field) != NULL;
    default:
        return GET(const char *, base, field) != NULL;
    }
}

/* Decoding. The way to a field is a list of frames on the stack, written out for errors only. */

struct way {
    const struct way *up;
    const char *name; /* NULL: an element of a list */
    size_t index;
};

struct decoder {
    struct fl_arena *arena;
    struct fl_error *err;
};

static void write_way(struct fl_buf *buf, const struct way *way)
{
    if (!way)
        return;
    write_way(buf, way->up);
    if (!way->name) {
        fl_buf_printf(buf, "[%zu]", way->index);
    } else if (*way->name) {
        if (buf->len)
            fl_buf_putc(buf, '.');
        fl_buf_puts(buf, way->name);
    }
}

static int invalid(const struct decoder *decoder, const struct way *way, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int invalid(const struct decoder *decoder, const struct way *way, const char *fmt, ...)
{
    struct fl_buf path;
    va_list ap;

    va_start(ap, fmt);
    (void)fl_error_vset(decoder->err, FL_E_INVALID, fmt, ap);
    va_end(ap);
    fl_buf_init(&path, 0);
    write_way(&path, way);
    (void)fl_error_wrap(decoder->err, "%s", fl_buf_text(&path));
    fl_buf_finish(&path);
    return FL_E_INVALID;
}

static const char *type_name(const json_t *json)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "a list",  [JSON_STRING] = "a string",
        [JSON_INTEGER] = "a number", [JSON_REAL] = "a number", [JSON_TRUE] = "a boolean",
        [JSON_FALSE] = "a boolean",  [JSON_NULL] = "null",
    };

    return names[json_typeof(json)];
}

static int wrong_type(const struct decoder *decoder, const struct way *way, const json_t *json,
                      const char *wanted)
{
    return invalid(decoder, way, "must be %s, not %s", wanted, type_name(json));
}

static int check_size(const struct decoder *decoder, const struct way *way,
                      const struct fl_field *field, size_t size, const char *unit)
{
    if (field->min > 0 && size < (size_t)field->min)
        return invalid(decoder, way, "has %zu %s, fewer than %lld", size, unit,
                       (long long)field->min);
    if (field->max && size > (size_t)field->max)
        return invalid(decoder, way, "has %zu %s, more than %lld", size, unit,
                       (long long)field->max);
    return 0;
}

static bool is_decimal(const char *text)
{
    char *end;

    if (!*text || strspn(text, "0123456789.eE+-") != strlen(text))
        return false;
    return isfinite(strtod(text, &end)) && !*end;
}

static int check_text(const struct decoder *decoder, const struct way *way,
                      const struct fl_field *field, const char *text)
{
    int64_t ignored;

    if (field->type == FL_F_DECIMAL && !is_decimal(text))
        return invalid(decoder, way, "\"%.64s\" is not a decimal number", text);
    if (field->type == FL_F_DURATION && !fl_duration_parse(text, &ignored))
        return invalid(decoder, way, "\"%.64s\" is not a duration such as 30s or 1h30m", text);
    if (field->type == FL_F_QUANTITY)
        return 0; /* its bounds are those of the number, its form is the schema's */
    return check_size(decoder, way, field, fl_utf8_count(text, strlen(text)), "characters");
}

static int decode_text(const struct decoder *decoder, const struct way *way,
                       const struct fl_field *field, const json_t *json, void *base)
{
    const char *text = json_string_value(json);
    int r;

    if (field->type == FL_F_QUANTITY && json_is_integer(json))
        text = fl_arena_printf(decoder->arena, "%lld", (long long)json_integer_value(json));
    else if (!text)
        return wrong_type(decoder, way, json, "a string");
    else
        text = fl_arena_strdup(decoder->arena, text);
    r = check_text(decoder, way, field, text);
    if (r < 0)
        return r;
    PUT(const char *, base, field, text);
    return 0;
}

/* 3.0 is an integer too: some clients write whole numbers so. */
static bool read_integer(const json_t *json, int64_t *ret_value)
{
    double real = json_real_value(json);

    if (json_is_integer(json)) {
        *ret_value = json_integer_value(json);
        return true;
    }
    if (!json_is_real(json) || real != floor(real) || fabs(real) >= 9007199254740992.0)
        return false;
    *ret_value = (int64_t)real;
    return true;
}

static int decode_int(const struct decoder *decoder, const struct way *way,
                      const struct fl_field *field, const json_t *json, void *base)
{
    int64_t value;

    if (!read_integer(json, &value))
        return wrong_type(decoder, way, json, "an integer");
    if (value < field->min)
        return invalid(decoder, way, "%lld is less than %lld", (long long)value,
                       (long long)field->min);
    if (field->max && value > field->max)
        return invalid(decoder, way, "%lld is more than %lld", (long long)value,
                       (long long)field->max);
    PUT(int64_t, base, field, value);
    return 0;
}

static int enum_value(const struct fl_field *field, const char *text)
{
    for (int i = 0; field->values[i]; i++)
        if (strcmp(field->values[i], text) == 0)
            return i + 1;
    return 0;
}

static int unknown_value(const struct decoder *decoder, const struct way *way,
                         const struct fl_field *field, const char *text)
{
    struct fl_buf known;
    int r;

    fl_buf_init(&known, 0);
    for (int i = 0; field->values[i]; i++)
        fl_buf_printf(&known, "%s%s", i ? ", " : "", field->values[i]);
    r = invalid(decoder, way, "\"%.64s\" is none of %s", text, fl_buf_text(&known));
    fl_buf_finish(&known);
    return r;
}

static int decode_enum(const struct decoder *decoder, const struct way *way,
                       const struct fl_field *field, const json_t *json, void *base)
{
    int value;

    if (!json_is_string(json))
        return wrong_type(decoder, way, json, "a string");
    value = enum_value(field, json_string_value(json));
    if (value == 0)
        return unknown_value(decoder, way, field, json_string_value(json));
    PUT(int, base, field, value);
    return 0;
}

static int decode_fields(const struct decoder *decoder, const struct way *way,
                         const struct fl_field *fields, const json_t *json, void *base);
static int decode_value(const struct decoder *decoder, const struct way *way,
                        const struct fl_field *field, const json_t *json, void *base);

static int decode_list(const struct decoder *decoder, const struct way *way,
                       const struct fl_field *field, const json_t *json, void *base)
{
    const struct fl_field element = element_field(field);
    size_t size = element_size(field), i;
    struct list list = {.count = json_array_size(json)};
    json_t *item;
    int r;

    if (!json_is_array(json))
        return wrong_type(decoder, way, json, "a list");
    r = check_size(decoder, way, field, list.count, "items");
    if (r < 0)
        return r;
    list.items = fl_alloc_array(decoder->arena, list.count, size);
    json_array_foreach(json, i, item) {
        r = decode_value(decoder, &(struct way){way, NULL, i}, &element, item,
                         list.items + i * size);
        if (r < 0)
            return r;
    }
    put_list(base, field, list);
    return 0;
}

static int decode_map(const struct decoder *decoder, const struct way *way,
                      const struct fl_field *field, const json_t *json, void *base)
{
    struct fl_string_map map = {.count = 0};
    const char *key;
    json_t *value;
    int r;

    if (!json_is_object(json))
        return wrong_type(decoder, way, json, "an object");
    r = check_size(decoder, way, field, json_object_size(json), "members");
    if (r < 0)
        return r;
    map.items = fl_new_array(decoder->arena, struct fl_string_pair, json_object_size(json));
    json_object_foreach((json_t *)json, key, value) {
        if (!json_is_string(value))
            return wrong_type(decoder, &(struct way){way, key, 0}, value, "a string");
        map.items[map.count++] = (struct fl_string_pair){
            fl_arena_strdup(decoder->arena, key),
            fl_arena_strdup(decoder->arena, json_string_value(value)),
        };
    }
    PUT(struct fl_string_map, base, field, map);
    return 0;
}

static int decode_object(const struct decoder *decoder, const struct way *way,
                         const struct fl_field *field, const json_t *json, void *base)
{
    if (!json_is_object(json))
        return wrong_type(decoder, way, json, "an object");
    return decode_fields(decoder, way, field->fields, json, at(base, field->offset));
}

static int decode_value(const struct decoder *decoder, const struct way *way,
                        const struct fl_field *field, const json_t *json, void *base)
{
    switch (field->type) {
    case FL_F_INT:
        return decode_int(decoder, way, field, json, base);
    case FL_F_BOOL:
        if (!json_is_boolean(json))
            return wrong_type(decoder, way, json, "a boolean");
        PUT(bool, base, field, json_is_true(json));
        return 0;
    case FL_F_ENUM:
        return decode_enum(decoder, way, field, json, base);
    case FL_F_OBJECT:
        return decode_object(decoder, way, field, json, base);
    case FL_F_LIST:
        return decode_list(decoder, way, field, json, base);
    case FL_F_MAP:
        return decode_map(decoder, way, field, json, base);
    case FL_F_JSON:
        PUT(const json_t *, base, field,
            fl_json_in_arena(decoder->arena, json_incref((json_t *)json)));
        return 0;
    default:
        return decode_text(decoder, way, field, json, base);
    }
}

/* The default as JSON; the caller's. */
static json_t *default_json(const struct fl_field *field)
{
    json_t *json = NULL;
    int64_t number = 0;

    switch (field->type) {
    case FL_F_INT:
        (void)fl_str_to_int64(field->def, INT64_MIN, INT64_MAX, &number);
        return json_integer(number);
    case FL_F_BOOL:
        return json_boolean(strcmp(field->def, "true") == 0);
    case FL_F_OBJECT:
    case FL_F_LIST:
    case FL_F_MAP:
    case FL_F_JSON:
        if (fl_json_parse(field->def, strlen(field->def), NULL, NULL, NULL, &json, NULL) < 0)
            abort(); /* a mistake in the table */
        return json;
    default:
        return json_string(field->def);
    }
}

static int decode_field(const struct decoder *decoder, const struct way *up,
                        const struct fl_field *field, const json_t *json, void *base)
{
    const struct way way = {up, field->name, 0};
    json_t *value = json_object_get(json, field->name);
    FL_JSON fallback = NULL;
    int r;

    if (!value || json_is_null(value)) {
        if (field->def)
            value = fallback = default_json(field);
        else if (field->required)
            return invalid(decoder, &way, "is required");
        else
            return 0;
    }
    r = decode_value(decoder, &way, field, value, base);
    if (r >= 0 && field->has_offset)
        *(bool *)at(base, field->has_offset) = true;
    return r;
}

static int decode_fields(const struct decoder *decoder, const struct way *way,
                         const struct fl_field *fields, const json_t *json, void *base)
{
    for (; fields->name; fields++) {
        int r = decode_field(decoder, way, fields, json, base);

        if (r < 0)
            return r;
    }
    return 0;
}

int fl_fields_decode(const struct fl_field *fields, size_t size, const json_t *json,
                     const char *path, struct fl_arena *arena, void *ret_struct,
                     struct fl_error *err)
{
    const struct decoder decoder = {arena, err};
    const struct way way = {NULL, path, 0};

    if (!json_is_object(json))
        return wrong_type(&decoder, &way, json, "an object");
    memset(ret_struct, 0, size);
    return decode_fields(&decoder, &way, fields, json, ret_struct);
}

/* Defaults alone: a struct in which required fields may be missing. */

static void default_fields(const struct decoder *decoder, const struct fl_field *fields, void *base)
{
    for (; fields->name; fields++) {
        FL_JSON value = NULL;

        if (fields->type == FL_F_OBJECT && (fields->required || fields->def))
            default_fields(decoder, fields->fields, at(base, fields->offset));
        if (!fields->def || (fields->type == FL_F_OBJECT && strcmp(fields->def, "{}") == 0))
            continue;
        value = default_json(fields);
        if (decode_value(decoder, NULL, fields, value, base) < 0)
            abort(); /* a mistake in the table */
    }
}

void fl_fields_default(const struct fl_field *fields, size_t size, struct fl_arena *arena,
                       void *ret_struct)
{
    memset(ret_struct, 0, size);
    default_fields(&(struct decoder){arena, NULL}, fields, ret_struct);
}

/* Encoding. */

static json_t *encode_value(const struct fl_field *field, const void *base);

static json_t *encode_list(const struct fl_field *field, const void *base)
{
    const struct fl_field element = element_field(field);
    struct list list = get_list(base, field);
    json_t *array = json_array();

    for (size_t i = 0; i < list.count; i++)
        (void)json_array_append_new(array,
                                    encode_value(&element, list.items + i * element_size(field)));
    return array;
}

static json_t *encode_map(const struct fl_field *field, const void *base)
{
    const struct fl_string_map *map = at(base, field->offset);
    json_t *object = json_object();

    for (size_t i = 0; i < map->count; i++)
        (void)json_object_set_new_nocheck(object, map->items[i].key,
                                          json_string_nocheck(map->items[i].value));
    return object;
}

static json_t *encode_value(const struct fl_field *field, const void *base)
{
    switch (field->type) {
    case FL_F_INT:
        return json_integer(GET(int64_t, base, field));
    case FL_F_BOOL:
        return json_boolean(GET(bool, base, field));
    case FL_F_ENUM:
        return json_string_nocheck(field->values[GET(int, base, field) - 1]);
    case FL_F_OBJECT:
        return fl_fields_encode(field->fields, at(base, field->offset));
    case FL_F_LIST:
        return encode_list(field, base);
    case FL_F_MAP:
        return encode_map(field, base);
    case FL_F_JSON:
        return json_incref((json_t *)GET(const json_t *, base, field));
    default:
        return json_string_nocheck(GET(const char *, base, field));
    }
}

json_t *fl_fields_encode(const struct fl_field *fields, const void *from)
{
    json_t *object = json_object();

    for (; fields->name; fields++)
        if (is_present(from, fields))
            (void)json_object_set_new_nocheck(object, fields->name, encode_value(fields, from));
    return object;
}

/* Cloning: the struct is copied, then everything it points to. */

static void clone_value(const struct fl_field *field, struct fl_arena *arena, void *base);

static void clone_list(const struct fl_field *field, struct fl_arena *arena, void *base)
{
    const struct fl_field element = element_field(field);
    size_t size = element_size(field);
    struct list from = get_list(base, field);
    struct list to = {fl_alloc_array(arena, from.count, size), from.count};

    memcpy(to.items, from.items, from.count * size);
    for (size_t i = 0; i < to.count; i++)
        clone_value(&element, arena, to.items + i * size);
    put_list(base, field, to);
}

static void clone_map(const struct fl_field *field, struct fl_arena *arena, void *base)
{
    struct fl_string_map *map = at(base, field->offset);
    struct fl_string_pair *items = fl_new_array(arena, struct fl_string_pair, map->count);

    for (size_t i = 0; i < map->count; i++)
        items[i] = (struct fl_string_pair){fl_arena_strdup(arena, map->items[i].key),
                                           fl_arena_strdup(arena, map->items[i].value)};
    map->items = items;
}

static void clone_fields(const struct fl_field *fields, struct fl_arena *arena, void *base)
{
    for (; fields->name; fields++)
        if (is_present(base, fields))
            clone_value(fields, arena, base);
}

static void clone_value(const struct fl_field *field, struct fl_arena *arena, void *base)
{
    if (field->type == FL_F_OBJECT)
        clone_fields(field->fields, arena, at(base, field->offset));
    else if (field->type == FL_F_LIST)
        clone_list(field, arena, base);
    else if (field->type == FL_F_MAP)
        clone_map(field, arena, base);
    else if (field->type == FL_F_JSON)
        (void)fl_json_in_arena(arena, json_incref((json_t *)GET(const json_t *, base, field)));
    else if (is_text(field->type))
        PUT(const char *, base, field, fl_arena_strdup(arena, GET(const char *, base, field)));
}

void fl_fields_clone(const struct fl_field *fields, size_t size, const void *from,
                     struct fl_arena *arena, void *ret_struct)
{
    memcpy(ret_struct, from, size);
    clone_fields(fields, arena, ret_struct);
}

/* Equality. Maps are equal in any order. */

static bool equal_value(const struct fl_field *field, const void *a, const void *b);

static bool equal_list(const struct fl_field *field, const void *a, const void *b)
{
    const struct fl_field element = element_field(field);
    struct list left = get_list(a, field), right = get_list(b, field);
    size_t size = element_size(field);

    if (left.count != right.count)
        return false;
    for (size_t i = 0; i < left.count; i++)
        if (!equal_value(&element, left.items + i * size, right.items + i * size))
            return false;
    return true;
}

static bool equal_map(const struct fl_string_map *a, const struct fl_string_map *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!fl_streq(fl_string_map_get(b, a->items[i].key), a->items[i].value))
            return false;
    return true;
}

static bool equal_value(const struct fl_field *field, const void *a, const void *b)
{
    switch (field->type) {
    case FL_F_INT:
        return GET(int64_t, a, field) == GET(int64_t, b, field);
    case FL_F_BOOL:
        return GET(bool, a, field) == GET(bool, b, field);
    case FL_F_ENUM:
        return GET(int, a, field) == GET(int, b, field);
    case FL_F_OBJECT:
        return fl_fields_equal(field->fields, at(a, field->offset), at(b, field->offset));
    case FL_F_LIST:
        return equal_list(field, a, b);
    case FL_F_MAP:
        return equal_map(at(a, field->offset), at(b, field->offset));
    case FL_F_JSON:
        return json_equal(GET(const json_t *, a, field), GET(const json_t *, b, field));
    default:
        return fl_streq(GET(const char *, a, field), GET(const char *, b, field));
    }
}

bool fl_fields_equal(const struct fl_field *fields, const void *a, const void *b)
{
    for (; fields->name; fields++) {
        bool here = is_present(a, fields), there = is_present(b, fields);

        if (here != there || (here && !equal_value(fields, a, b)))
            return false;
    }
    return true;
}

/* Whole objects. metadata's table is written by hand. */

static const struct fl_field meta_fields[] = {
    {"name", FL_F_STRING, .offset = offsetof(struct fl_object_meta, name)},
    {"namespace", FL_F_STRING, .offset = offsetof(struct fl_object_meta, namespace)},
    {"uid", FL_F_STRING, .offset = offsetof(struct fl_object_meta, uid)},
    {"resourceVersion", FL_F_STRING, .offset = offsetof(struct fl_object_meta, resource_version)},
    {"generation", FL_F_INT, .offset = offsetof(struct fl_object_meta, generation)},
    {"deletionTimestamp", FL_F_TIME, .offset = offsetof(struct fl_object_meta, deletion_timestamp)},
    {"labels", FL_F_JSON, .offset = offsetof(struct fl_object_meta, labels)},
    {"annotations", FL_F_JSON, .offset = offsetof(struct fl_object_meta, annotations)},
    {.name = NULL},
};

static const struct fl_field meta_field[] = {
    {"metadata", FL_F_OBJECT, .fields = meta_fields, .size = sizeof(struct fl_object_meta)},
    {.name = NULL},
};

static int check_kind(const struct fl_kind_type *type, const json_t *object, struct fl_error *err)
{
    const char *kind = fl_json_str(object, "kind");

    if (kind && strcmp(kind, type->kind) != 0)
        return fl_error_set(err, FL_E_BAD_REQUEST, "kind is %.64s, not %s", kind, type->kind);
    return 0;
}

int fl_object_decode(const struct fl_kind_type *type, const json_t *object, struct fl_arena *arena,
                     void **ret_object, struct fl_error *err)
{
    const struct decoder decoder = {arena, err};
    void *base = fl_alloc(arena, type->size);
    int r = check_kind(type, object, err);

    if (r < 0)
        return r;
    if (!json_is_object(object))
        return invalid(&decoder, NULL, "an object is expected");
    r = decode_fields(&decoder, NULL, meta_field, object, base);
    if (r >= 0)
        r = decode_fields(&decoder, NULL, type->fields, object, base);
    if (r < 0)
        return r;
    *ret_object = base;
    return 0;
}

void *fl_object_new(const struct fl_kind_type *type, struct fl_arena *arena)
{
    void *base = fl_alloc(arena, type->size);

    fl_fields_default(type->fields, type->size, arena, base);
    return base;
}

json_t *fl_object_encode(const struct fl_kind_type *type, const void *object)
{
    json_t *json = fl_fields_encode(type->fields, object);
    json_t *meta = fl_fields_encode(meta_fields, object);

    if (((const struct fl_object_meta *)object)->generation == 0)
        (void)json_object_del(meta, "generation");
    (void)json_object_set_new(json, "metadata", meta);
    (void)json_object_set_new(json, "apiVersion",
                              json_sprintf("%s/%s", type->group, type->version));
    (void)json_object_set_new(json, "kind", json_string(type->kind));
    return json;
}

void *fl_object_clone(const struct fl_kind_type *type, const void *object, struct fl_arena *arena)
{
    void *copy = fl_alloc(arena, type->size);

    memcpy(copy, object, type->size);
    clone_fields(meta_fields, arena, copy);
    clone_fields(type->fields, arena, copy);
    return copy;
}

bool fl_object_equal(const struct fl_kind_type *type, const void *a, const void *b)
{
    return fl_fields_equal(meta_fields, a, b) && fl_fields_equal(type->fields, a, b);
}

void fl_object_print(const struct fl_kind_type *type, const void *object, struct fl_buf *buf)
{
    FL_JSON json = fl_object_encode(type, object);

    fl_yaml_write(buf, json);
}

const char *fl_string_map_get(const struct fl_string_map *map, const char *key)
{
    for (size_t i = 0; i < map->count; i++)
        if (strcmp(map->items[i].key, key) == 0)
            return map->items[i].value;
    return NULL;
}

/* Durations. */

static int64_t take_unit_us(const char **text)
{
    static const struct {
        const char *name;
        int64_t us;
    } units[] = {{"ms", 1000}, {"s", 1000000}, {"m", 60000000}, {"h", 3600000000}};

    for (size_t i = 0; i < FL_COUNT_OF(units); i++) {
        if (fl_str_has_prefix(*text, units[i].name)) {
            *text += strlen(units[i].name);
            return units[i].us;
        }
    }
    return 0;
}

/* One "1.5s". Fractions count to the thousandth. */
static bool take_part(const char **text, int64_t *total_us)
{
    int64_t thousandths = 0, scale = 100, unit_us, us;
    const char *start = *text;

    for (; **text >= '0' && **text <= '9'; (*text)++)
        if (__builtin_mul_overflow(thousandths, 10, &thousandths) ||
            __builtin_add_overflow(thousandths, (**text - '0') * 1000, &thousandths))
            return false;
    if (*text == start)
        return false;
    if (**text == '.')
        for ((*text)++; **text >= '0' && **text <= '9'; (*text)++, scale /= 10)
            thousandths += (**text - '0') * scale;
    unit_us = take_unit_us(text);
    return unit_us && !__builtin_mul_overflow(thousandths, unit_us / 1000, &us) &&
           !__builtin_add_overflow(*total_us, us, total_us);
}

bool fl_duration_parse(const char *text, int64_t *ret_ms)
{
    int64_t total_us = 0;

    do {
        if (!take_part(&text, &total_us))
            return false;
    } while (*text);
    *ret_ms = total_us / 1000;
    return true;
}
