#include "lib/yaml.h"

#include "lib/map.h"
#include "lib/str.h"
#include "lib/yaml_internal.h"

#include <math.h>
#include <stdlib.h>
#include <yaml.h>

#define TAG_PREFIX "tag:yaml.org,2002:"

struct reader {
    yaml_parser_t parser;
    const char *text;
    size_t len;
    struct fl_yaml_limits limits;
    size_t nodes;  /* values made so far, copies for aliases included */
    size_t copied; /* bytes of text that aliases added */
    struct fl_map *anchors;
    struct fl_error *err;
};

static json_t *read_node(struct reader *reader, const yaml_event_t *event, unsigned depth);

static void delete_event(yaml_event_t *event)
{
    yaml_event_delete(event);
}
#define EVENT FL_CLEANUP(delete_event) yaml_event_t

static int fail_at(struct reader *reader, yaml_mark_t mark, int code, const char *what)
{
    return fl_error_set(reader->err, code, "line %zu, column %zu: %s", mark.line + 1,
                        mark.column + 1, what);
}

/* The form for functions that return a value. */
static json_t *no_value(struct reader *reader, yaml_mark_t mark, const char *what)
{
    (void)fail_at(reader, mark, FL_E_BAD_REQUEST, what);
    return NULL;
}

static yaml_mark_t mark_of_offset(const struct reader *reader, size_t offset)
{
    yaml_mark_t mark = {.index = offset};

    for (size_t i = 0; i < offset && i < reader->len; i++) {
        mark.column = reader->text[i] == '\n' ? 0 : mark.column + 1;
        mark.line += reader->text[i] == '\n';
    }
    return mark;
}

static int fail_parser(struct reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    const char *problem = fl_str_or(parser->problem, "not YAML");
    char what[256];

    if (parser->error == YAML_MEMORY_ERROR)
        abort();
    if (parser->error == YAML_READER_ERROR)
        return fail_at(reader, mark_of_offset(reader, parser->problem_offset), FL_E_BAD_REQUEST,
                       problem);
    (void)snprintf(what, sizeof(what), "%s%s%s", problem, parser->context ? ", " : "",
                   fl_str_or(parser->context, ""));
    return fail_at(reader, parser->problem_mark, FL_E_BAD_REQUEST, what);
}

static int next_event(struct reader *reader, yaml_event_t *event)
{
    if (yaml_parser_parse(&reader->parser, event))
        return 0;
    *event = (yaml_event_t){0};
    return fail_parser(reader);
}

static int count_node(struct reader *reader, yaml_mark_t mark)
{
    char what[80];

    if (reader->nodes++ < reader->limits.max_nodes)
        return 0;
    (void)snprintf(what, sizeof(what), "more than %zu values", reader->limits.max_nodes);
    return fail_at(reader, mark, FL_E_TOO_LARGE, what);
}

static int check_depth(struct reader *reader, yaml_mark_t mark, unsigned depth)
{
    char what[80];

    if (depth <= reader->limits.max_depth)
        return 0;
    (void)snprintf(what, sizeof(what), "nesting deeper than %u levels", reader->limits.max_depth);
    return fail_at(reader, mark, FL_E_BAD_REQUEST, what);
}

/* Anchors. One that is being read is known under a mark, so that a value cannot contain itself. */

static json_t *const unfinished = (json_t *)"unfinished";

static void forget_anchor(void *value)
{
    if (value != unfinished)
        json_decref(value);
}

static void open_anchor(struct reader *reader, const yaml_char_t *name)
{
    if (name)
        fl_map_put(reader->anchors, (const char *)name, unfinished);
}

static json_t *close_anchor(struct reader *reader, const yaml_char_t *name, json_t *value)
{
    if (name && value)
        fl_map_put(reader->anchors, (const char *)name, json_incref(value));
    return value;
}

static int count_copy(struct reader *reader, yaml_mark_t mark, size_t bytes)
{
    reader->copied += bytes;
    if (reader->copied > reader->limits.max_bytes)
        return fail_at(reader, mark, FL_E_TOO_LARGE, "aliases expand to too much text");
    return count_node(reader, mark);
}

/* A copy of its own for each alias: whoever changes one later must not change the others. Scalars
 * are never changed in place, so they are shared. */
static json_t *copy_value(struct reader *reader, const json_t *value, yaml_mark_t mark,
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
    json_object_foreach ((json_t *)value, key, member) {
        json_t *copied = copy_value(reader, member, mark, depth + 1);

        reader->copied += strlen(key);
        if (!copied)
            return NULL;
        (void)json_object_set_new_nocheck(copy, key, copied);
    }
    json_array_foreach (value, i, member) {
        json_t *copied = copy_value(reader, member, mark, depth + 1);

        if (!copied)
            return NULL;
        (void)json_array_append_new(copy, copied);
    }
    return FL_TAKE(copy);
}

static json_t *read_alias(struct reader *reader, const yaml_event_t *event, unsigned depth)
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

/* Scalars. */

static json_t *text_value(struct reader *reader, const yaml_event_t *event, const char *text,
                          size_t len)
{
    if (memchr(text, '\0', len))
        return no_value(reader, event->start_mark, "a NUL character in text");
    if (!fl_utf8_valid(text, len))
        return no_value(reader, event->start_mark, "text that is not UTF-8");
    return json_stringn_nocheck(text, len);
}

static json_t *binary_value(struct reader *reader, const yaml_event_t *event)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    char *data;
    size_t len;

    if (!fl_base64_decode(arena, (const char *)event->data.scalar.value,
                          event->data.scalar.length, &data, &len))
        return no_value(reader, event->start_mark, "!!binary value is not base64");
    return text_value(reader, event, data, len);
}

static json_t *real_value(struct reader *reader, const yaml_event_t *event, double real)
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

static json_t *resolved_value(struct reader *reader, const yaml_event_t *event, const char *tag)
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
static json_t *read_scalar(struct reader *reader, const yaml_event_t *event)
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

static json_t *read_sequence(struct reader *reader, unsigned depth)
{
    FL_JSON array = json_array();

    for (;;) {
        EVENT event = {0};
        json_t *value;

        if (next_event(reader, &event) < 0)
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
static bool key_text(struct reader *reader, yaml_mark_t mark, const json_t *key, struct fl_buf *buf)
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
        (void)fail_at(reader, mark, FL_E_BAD_REQUEST, "a key that is not text, number or boolean");
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
static int merge(struct reader *reader, yaml_mark_t mark, json_t *object, const json_t *source)
{
    if (json_is_object(source)) {
        (void)json_object_update(object, (json_t *)source);
        return 0;
    }
    for (size_t i = json_array_size(source); i > 0; i--)
        if (!json_is_object(json_array_get(source, i - 1)))
            return fail_at(reader, mark, FL_E_BAD_REQUEST, "a merge needs mappings");
    for (size_t i = json_array_size(source); i > 0; i--)
        (void)json_object_update(object, json_array_get(source, i - 1));
    return json_is_array(source) ? 0
                                 : fail_at(reader, mark, FL_E_BAD_REQUEST,
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

static int read_merge(struct reader *reader, struct mapping *mapping, unsigned depth)
{
    EVENT event = {0};
    FL_JSON source = NULL;

    if (next_event(reader, &event) < 0)
        return -1;
    source = read_node(reader, &event, depth);
    if (!source)
        return -1;
    if (!mapping->own)
        mapping->own = json_copy(mapping->object);
    return merge(reader, event.start_mark, mapping->object, source);
}

static int fail_duplicate(struct reader *reader, yaml_mark_t mark, const char *key)
{
    char what[160];

    (void)snprintf(what, sizeof(what), "key \"%.*s\" is already set in this mapping",
                   (int)fl_utf8_cut(key, strlen(key), 100), key);
    return fail_at(reader, mark, FL_E_BAD_REQUEST, what);
}

static int read_member(struct reader *reader, const yaml_event_t *key_event,
                       struct mapping *mapping, unsigned depth)
{
    FL_JSON key = read_node(reader, key_event, depth);
    EVENT event = {0};
    const char *name;
    json_t *value;

    if (!key || !key_text(reader, key_event->start_mark, key, &mapping->key))
        return -1;
    name = fl_buf_text(&mapping->key);
    if (json_object_get(mapping->own ? mapping->own : mapping->object, name))
        return fail_duplicate(reader, key_event->start_mark, name);
    if (next_event(reader, &event) < 0)
        return -1;
    value = read_node(reader, &event, depth);
    if (!value)
        return -1;
    if (mapping->own)
        (void)json_object_set_new_nocheck(mapping->own, name, json_true());
    (void)json_object_set_new_nocheck(mapping->object, name, value);
    return 0;
}

static json_t *read_mapping(struct reader *reader, unsigned depth)
{
    FL_CLEANUP(finish_mapping) struct mapping mapping = {.object = json_object()};

    for (;;) {
        EVENT event = {0};
        int r;

        if (next_event(reader, &event) < 0)
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
static json_t *read_node(struct reader *reader, const yaml_event_t *event, unsigned depth)
{
    if (event->type == YAML_ALIAS_EVENT)
        return read_alias(reader, event, depth);
    if (count_node(reader, event->start_mark) < 0)
        return NULL;
    if (event->type == YAML_SCALAR_EVENT)
        return close_anchor(reader, event->data.scalar.anchor, read_scalar(reader, event));
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

/* Documents. */

static bool is_empty_root(const yaml_event_t *event)
{
    return event->type == YAML_SCALAR_EVENT && event->data.scalar.length == 0 &&
           event->data.scalar.plain_implicit && !event->data.scalar.anchor;
}

/* From the root's event to the end of the document. */
static int read_document(struct reader *reader, fl_yaml_document_fn *document, void *user)
{
    EVENT root = {0}, end = {0};
    FL_JSON value = NULL;
    bool empty;

    if (next_event(reader, &root) < 0)
        return reader->err->code;
    empty = is_empty_root(&root);
    value = read_node(reader, &root, 0);
    if (!value || next_event(reader, &end) < 0)
        return reader->err->code;
    return empty ? 0 : document(user, value, root.start_mark.line + 1, reader->err);
}

static int read_stream(struct reader *reader, fl_yaml_document_fn *document, void *user)
{
    size_t documents = 0;

    for (;;) {
        EVENT event = {0};
        int r = next_event(reader, &event);

        if (r < 0 || event.type == YAML_STREAM_END_EVENT)
            return r;
        if (event.type != YAML_DOCUMENT_START_EVENT)
            continue;
        if (documents++ == reader->limits.max_documents)
            return fl_error_set(reader->err, FL_E_TOO_LARGE, "more than %zu documents",
                                reader->limits.max_documents);
        reader->anchors = fl_map_create(forget_anchor);
        r = read_document(reader, document, user);
        fl_map_destroy(reader->anchors);
        if (r < 0)
            return r;
    }
}

static struct fl_yaml_limits with_defaults(const struct fl_yaml_limits *limits)
{
    struct fl_yaml_limits all = limits ? *limits : (struct fl_yaml_limits){0};

    all.max_bytes = all.max_bytes ? all.max_bytes : (size_t)3 * 1024 * 1024;
    all.max_depth = all.max_depth ? all.max_depth : 128;
    all.max_nodes = all.max_nodes ? all.max_nodes : 1000000;
    all.max_documents = all.max_documents ? all.max_documents : 10000;
    return all;
}

/* libyaml compares each %TAG directive with all before it. */
#define DIRECTIVES_MAX 100

static bool has_many_directives(const char *text, size_t len)
{
    const char *end = text + len;

    for (int count = 0; count <= DIRECTIVES_MAX; count++) {
        text = memmem(text, (size_t)(end - text), "%TAG", 4);
        if (!text)
            return false;
        text += 4;
    }
    return true;
}

static void note_duplicate(void *user, const char *path)
{
    (void)path;
    *(bool *)user = true;
}

/* Text in braces is tried as JSON first: that is faster, and JSON has escapes that YAML lacks. NULL
 * where it is something else, or where an error with a YAML reader's words is due. */
static json_t *try_json(const char *text, size_t len, const struct fl_yaml_limits *limits)
{
    struct fl_json_limits json_limits = {limits->max_bytes, limits->max_depth};
    size_t start = 0;
    bool duplicate = false;
    json_t *value = NULL;

    while (start < len && memchr(" \t\r\n", text[start], 4))
        start++;
    if (start == len || text[start] != '{')
        return NULL;
    if (fl_json_parse(text, len, &json_limits, note_duplicate, &duplicate, &value, NULL) == 0 &&
        duplicate) {
        json_decref(value);
        return NULL;
    }
    return value;
}

static size_t first_line(const char *text)
{
    size_t line = 1;

    for (; *text != '{'; text++)
        line += *text == '\n';
    return line;
}

int fl_yaml_parse_all(const char *text, size_t len, const struct fl_yaml_limits *limits,
                      fl_yaml_document_fn *document, void *user, struct fl_error *err)
{
    struct fl_error own = {0};
    struct reader reader = {
        .text = text, .len = len, .limits = with_defaults(limits), .err = err ? err : &own};
    FL_JSON json = NULL;
    int r;

    if (len > reader.limits.max_bytes)
        return fl_error_set(err, FL_E_TOO_LARGE, "YAML of %zu bytes, the limit is %zu", len,
                            reader.limits.max_bytes);
    json = try_json(text, len, &reader.limits);
    if (json)
        return document(user, json, first_line(text), err);
    if (has_many_directives(text, len))
        return fl_error_set(err, FL_E_TOO_LARGE, "more than %d %%TAG directives", DIRECTIVES_MAX);
    if (!yaml_parser_initialize(&reader.parser))
        abort();
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, len);
    r = read_stream(&reader, document, user);
    yaml_parser_delete(&reader.parser);
    return r;
}

struct single {
    json_t *value;
    size_t line;
};

static int keep_single(void *user, json_t *value, size_t line, struct fl_error *err)
{
    struct single *single = user;

    if (single->value)
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "line %zu: a second document, where one is expected", line);
    *single = (struct single){json_incref(value), line};
    return 0;
}

int fl_yaml_parse(const char *text, size_t len, const struct fl_yaml_limits *limits,
                  json_t **ret_value, struct fl_error *err)
{
    struct single single = {0};
    int r = fl_yaml_parse_all(text, len, limits, keep_single, &single, err);

    if (r >= 0 && !single.value)
        r = fl_error_set(err, FL_E_BAD_REQUEST, "no document, where one is expected");
    if (r < 0) {
        json_decref(single.value);
        return r;
    }
    *ret_value = single.value;
    return 0;
}
