#include "lib/yaml_internal.h"

#include "lib/str.h"

#include <math.h>
#include <stdio.h>

#define TAG_PREFIX "tag:yaml.org,2002:"

/* The form for functions that return a value. */
static json_t *no_value(struct fl_yaml_reader *reader, yaml_mark_t mark, const char *what)
{
    (void)fl_yaml_fail_at(reader, mark, FL_E_BAD_REQUEST, what);
    return NULL;
}

static int count_node(struct fl_yaml_reader *reader, yaml_mark_t mark)
{
    char what[80];

    if (reader->nodes++ < reader->limits.max_nodes)
        return 0;
    (void)snprintf(what, sizeof(what), "more than %zu values", reader->limits.max_nodes);
    return fl_yaml_fail_at(reader, mark, FL_E_TOO_LARGE, what);
}

static int check_depth(struct fl_yaml_reader *reader, yaml_mark_t mark, unsigned depth)
{
    char what[80];

    if (depth <= reader->limits.max_depth)
        return 0;
    (void)snprintf(what, sizeof(what), "nesting deeper than %u levels", reader->limits.max_depth);
    return fl_yaml_fail_at(reader, mark, FL_E_BAD_REQUEST, what);
}

/* Anchors. One that is being read is known under a mark, so that a value cannot contain itself. */

static json_t *const unfinished = (json_t *)"unfinished";

static void forget_anchor(void *value)
{
    if (value != unfinished)
        json_decref(value);
}

static void open_anchor(struct fl_yaml_reader *reader, const yaml_char_t *name)
{
    if (name)
        fl_map_put(reader->anchors, (const char *)name, unfinished);
}

static json_t *set_anchor(struct fl_yaml_reader *reader, const yaml_char_t *name, json_t *value)
{
    if (name && value)
        fl_map_put(reader->anchors, (const char *)name, json_incref(value));
    return value;
}

/* What is inside may have taken the name; it came later, and keeps it. */
static json_t *close_anchor(struct fl_yaml_reader *reader, const yaml_char_t *name, json_t *value)
{
    bool is_ours = name && fl_map_get(reader->anchors, (const char *)name) == unfinished;

    return is_ours ? set_anchor(reader, name, value) : value;
}

static int count_copy(struct fl_yaml_reader *reader, yaml_mark_t mark, size_t bytes)
{
    reader->copied += bytes;
    if (reader->copied > reader->limits.max_bytes)
        return fl_yaml_fail_at(reader, mark, FL_E_TOO_LARGE, "aliases expand to too much text");
    return count_node(reader, mark);
}

/* A copy of its own for each alias: whoever changes one later must not change the others. Scalars
 * are never changed in place, so they are shared. */
static json_t *copy_value(struct fl_yaml_reader *reader, const json_t *value, yaml_mark_t mark,
                          unsigned depth)
{
    FL_JSON copy = NULL;
    const char *key;
    json_t *member;
    size_t i;

    if (count_copy(reader, mark, json_is_string(value) ? json_string_length(value) : 0) < 0)
        return NULL;
    if (!json_is_object(value) && !json_is_array(value))
        return json_incref((json_t *)value);
    if (check_depth(reader, mark, depth + 1) < 0)
        return NULL;
    copy = json_is_object(value) ? json_object() : json_array();
    json_object_foreach((json_t *)value, key, member) {
        json_t *copied = copy_value(reader, member, mark, depth + 1);

        reader->copied += strlen(key);
        if (!copied)
            return NULL;
        (void)json_object_set_new_nocheck(copy, key, copied);
    }
    json_array_foreach(value, i, member) {
        json_t *copied = copy_value(reader, member, mark, depth + 1);

        if (!copied)
            return NULL;
        (void)json_array_append_new(copy, copied);
    }
    return FL_TAKE(copy);
}

static json_t *read_alias(struct fl_yaml_reader *reader, const yaml_event_t *event, unsigned depth)
{
    const char *name = (const char *)event->data.alias.anchor;
    const json_t *value = fl_map_get(reader->anchors, name);
    char what[128];

    if (!value || value == unfinished) {
        (void)snprintf(what, sizeof(what),
                       value ? "anchor \"%.64s\" contains itself" : "unknown anchor \"%.64s\"",
                       name);
        return no_value(reader, event->start_mark, what);
    }
    return copy_value(reader, value, event->start_mark, depth);
}

static json_t *read_node(struct fl_yaml_reader *reader, const yaml_event_t *event, unsigned depth);

/* Scalars. */

static json_t *text_value(struct fl_yaml_reader *reader, const yaml_event_t *event,
                          const char *text, size_t len)
{
    if (memchr(text, '\0', len))
        return no_value(reader, event->start_mark, "a NUL character in text");
    if (!fl_utf8_valid(text, len))
        return no_value(reader, event->start_mark, "text that is not UTF-8");
    return json_stringn_nocheck(text, len);
}

static json_t *binary_value(struct fl_yaml_reader *reader, const yaml_event_t *event)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    char *data;
    size_t len;

    if (!fl_base64_decode(arena, (const char *)event->data.scalar.value, event->data.scalar.length,
                          &data, &len))
        return no_value(reader, event->start_mark, "!!binary value is not base64");
    return text_value(reader, event, data, len);
}

static json_t *real_value(struct fl_yaml_reader *reader, const yaml_event_t *event, double real)
{
    if (!isfinite(real))
        return no_value(reader, event->start_mark, "infinity and NaN have no JSON form");
    if (real == floor(real) && fabs(real) < 9223372036854775808.0)
        return json_integer((json_int_t)real);
    return json_real(real);
}

static const char *type_name(enum fl_yaml_type type)
{
    static const char *const names[] = {
        [FL_YAML_STRING] = "str",  [FL_YAML_NULL] = "null",           [FL_YAML_BOOL] = "bool",
        [FL_YAML_INT] = "int",     [FL_YAML_BIG_INT] = "int",         [FL_YAML_FLOAT] = "float",
        [FL_YAML_MERGE] = "merge", [FL_YAML_TIMESTAMP] = "timestamp",
    };

    return names[type];
}

/* A tag says what a value must be; text of another kind under it is an error. */
static bool tag_fits(const char *tag, struct fl_yaml_scalar *scalar)
{
    if (strcmp(tag, "float") == 0 && scalar->type == FL_YAML_INT) {
        scalar->type = FL_YAML_FLOAT;
        scalar->real = (double)scalar->integer;
    }
    return strcmp(tag, type_name(scalar->type)) == 0;
}

static bool is_known_tag(const char *tag)
{
    static const char *const known[] = {"bool", "int", "float", "null", "timestamp"};

    for (size_t i = 0; i < FL_COUNT_OF(known); i++)
        if (strcmp(tag, known[i]) == 0)
            return true;
    return false;
}

static json_t *resolved_value(struct fl_yaml_reader *reader, const yaml_event_t *event,
                              const char *tag)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    struct fl_yaml_scalar scalar = {.type = FL_YAML_STRING};
    char what[160];

    if (strlen(text) == len)
        scalar = fl_yaml_resolve(text, len);
    if (tag && !tag_fits(tag, &scalar)) {
        (void)snprintf(what, sizeof(what), "cannot read %s \"%.64s\" as %s", type_name(scalar.type),
                       text, tag);
        return no_value(reader, event->start_mark, what);
    }
    switch (scalar.type) {
    case FL_YAML_NULL:
        return json_null();
    case FL_YAML_BOOL:
        return json_boolean(scalar.boolean);
    case FL_YAML_INT:
        return json_integer(scalar.integer);
    case FL_YAML_BIG_INT:
    case FL_YAML_FLOAT:
        return real_value(reader, event, scalar.real);
    default:
        return text_value(reader, event, text, len);
    }
}

/* Quoted text is text. A tag of YAML's own types decides; any other tag leaves the text alone. */
static json_t *read_scalar(struct fl_yaml_reader *reader, const yaml_event_t *event)
{
    const char *tag = (const char *)event->data.scalar.tag;

    if (!tag && event->data.scalar.plain_implicit)
        return resolved_value(reader, event, NULL);
    if (tag && fl_str_has_prefix(tag, TAG_PREFIX)) {
        tag += strlen(TAG_PREFIX);
        if (strcmp(tag, "binary") == 0)
            return binary_value(reader, event);
        if (is_known_tag(tag))
            return resolved_value(reader, event, tag);
    }
    return text_value(reader, event, (const char *)event->data.scalar.value,
                      event->data.scalar.length);
}

/* Collections. */

static json_t *read_sequence(struct fl_yaml_reader *reader, unsigned depth)
{
    FL_JSON array = json_array();

    for (;;) {
        FL_YAML_EVENT event = {0};
        json_t *value;

        if (fl_yaml_next_event(reader, &event) < 0)
            return NULL;
        if (event.type == YAML_SEQUENCE_END_EVENT)
            return FL_TAKE(array);
        value = read_node(reader, &event, depth);
        if (!value)
            return NULL;
        (void)json_array_append_new(array, value);
    }
}

/* A key as text in the buffer: JSON has no other keys. Empty after an error. */
static bool key_text(struct fl_yaml_reader *reader, yaml_mark_t mark, const json_t *key,
                     struct fl_buf *buf)
{
    char number[FL_YAML_REAL_SIZE];

    fl_buf_clear(buf);
    fl_buf_reserve(buf, 1);
    switch (json_typeof(key)) {
    case JSON_STRING:
        fl_buf_append(buf, json_string_value(key), json_string_length(key));
        return true;
    case JSON_INTEGER:
        fl_buf_printf(buf, "%lld", (long long)json_integer_value(key));
        return true;
    case JSON_REAL:
        fl_yaml_format_real(json_real_value(key), true, number);
        fl_buf_puts(buf, number);
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        fl_buf_puts(buf, json_is_true(key) ? "true" : "false");
        return true;
    default:
        (void)fl_yaml_fail_at(reader, mark, FL_E_BAD_REQUEST,
                              "a key that is not text, number or boolean");
        return false;
    }
}

static bool is_merge_key(const yaml_event_t *event)
{
    return event->type == YAML_SCALAR_EVENT && event->data.scalar.length == 2 &&
           memcmp(event->data.scalar.value, "<<", 2) == 0 &&
           (event->data.scalar.plain_implicit ||
            fl_streq((const char *)event->data.scalar.tag, TAG_PREFIX "merge"));
}

/* "<<": the members of one mapping, or of several of which the first wins. */
static int merge(struct fl_yaml_reader *reader, yaml_mark_t mark, json_t *object,
                 const json_t *source)
{
    if (json_is_object(source)) {
        (void)json_object_update(object, (json_t *)source);
        return 0;
    }
    for (size_t i = json_array_size(source); i > 0; i--)
        if (!json_is_object(json_array_get(source, i - 1)))
            return fl_yaml_fail_at(reader, mark, FL_E_BAD_REQUEST, "a merge needs mappings");
    for (size_t i = json_array_size(source); i > 0; i--)
        (void)json_object_update(object, json_array_get(source, i - 1));
    return json_is_array(source) ? 0
                                 : fl_yaml_fail_at(reader, mark, FL_E_BAD_REQUEST,
                                                   "a merge needs a mapping or a list of mappings");
}

/* A mapping being read. `own` has the keys written in it, as against those that were merged in:
 * only the former can be duplicates. It exists only once something was merged. */
struct mapping {
    json_t *object, *own;
    struct fl_buf key;
};

static void finish_mapping(struct mapping *mapping)
{
    json_decref(mapping->object);
    json_decref(mapping->own);
    fl_buf_finish(&mapping->key);
}

static int read_merge(struct fl_yaml_reader *reader, struct mapping *mapping, unsigned depth)
{
    FL_YAML_EVENT event = {0};
    FL_JSON source = NULL;

    if (fl_yaml_next_event(reader, &event) < 0)
        return -1;
    source = read_node(reader, &event, depth);
    if (!source)
        return -1;
    if (!mapping->own)
        mapping->own = json_copy(mapping->object);
    return merge(reader, event.start_mark, mapping->object, source);
}

static int fail_duplicate(struct fl_yaml_reader *reader, yaml_mark_t mark, const char *key)
{
    char what[160];

    (void)snprintf(what, sizeof(what), "key \"%.*s\" is already set in this mapping",
                   (int)fl_utf8_cut(key, strlen(key), 100), key);
    return fl_yaml_fail_at(reader, mark, FL_E_BAD_REQUEST, what);
}

static int read_member(struct fl_yaml_reader *reader, const yaml_event_t *key_event,
                       struct mapping *mapping, unsigned depth)
{
    FL_JSON key = read_node(reader, key_event, depth);
    FL_YAML_EVENT event = {0};
    const char *name;
    json_t *value;

    if (!key || !key_text(reader, key_event->start_mark, key, &mapping->key))
        return -1;
    name = fl_buf_text(&mapping->key);
    if (json_object_get(mapping->own ? mapping->own : mapping->object, name))
        return fail_duplicate(reader, key_event->start_mark, name);
    if (fl_yaml_next_event(reader, &event) < 0)
        return -1;
    value = read_node(reader, &event, depth);
    if (!value)
        return -1;
    if (mapping->own)
        (void)json_object_set_new_nocheck(mapping->own, name, json_true());
    (void)json_object_set_new_nocheck(mapping->object, name, value);
    return 0;
}

static json_t *read_mapping(struct fl_yaml_reader *reader, unsigned depth)
{
    FL_CLEANUP(finish_mapping) struct mapping mapping = {.object = json_object()};

    for (;;) {
        FL_YAML_EVENT event = {0};
        int r;

        if (fl_yaml_next_event(reader, &event) < 0)
            return NULL;
        if (event.type == YAML_MAPPING_END_EVENT)
            return FL_TAKE(mapping.object);
        if (is_merge_key(&event))
            r = read_merge(reader, &mapping, depth);
        else
            r = read_member(reader, &event, &mapping, depth);
        if (r < 0)
            return NULL;
    }
}

/* `depth` counts the collections around the node. NULL after an error. */
static json_t *read_node(struct fl_yaml_reader *reader, const yaml_event_t *event, unsigned depth)
{
    if (event->type == YAML_ALIAS_EVENT)
        return read_alias(reader, event, depth);
    if (count_node(reader, event->start_mark) < 0)
        return NULL;
    if (event->type == YAML_SCALAR_EVENT)
        return set_anchor(reader, event->data.scalar.anchor, read_scalar(reader, event));
    if (check_depth(reader, event->start_mark, depth + 1) < 0)
        return NULL;
    if (event->type == YAML_SEQUENCE_START_EVENT) {
        open_anchor(reader, event->data.sequence_start.anchor);
        return close_anchor(reader, event->data.sequence_start.anchor,
                            read_sequence(reader, depth + 1));
    }
    open_anchor(reader, event->data.mapping_start.anchor);
    return close_anchor(reader, event->data.mapping_start.anchor, read_mapping(reader, depth + 1));
}

json_t *fl_yaml_read_root(struct fl_yaml_reader *reader, const yaml_event_t *event)
{
    json_t *value;

    reader->anchors = fl_map_create(forget_anchor);
    value = read_node(reader, event, 0);
    fl_map_destroy(reader->anchors);
    reader->anchors = NULL;
    return value;
}
