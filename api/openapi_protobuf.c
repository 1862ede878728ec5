/* The v2 document as protobuf: gnostic's openapi.v2 Document, written by tables of its messages.
 *
 * A message is a list of members with their field numbers, in rising order; members of the JSON
 * that a table does not have are left out, and all that begins with "x-" goes where the message
 * keeps vendor extensions, as text of YAML (of which JSON is a part). A length stands before what
 * it counts, so that a message is written first and its length put in front of it after. */
#include "api/openapi_internal.h"

#include "lib/str.h"

#include <assert.h>
#include <math.h>

enum wire { WIRE_VARINT = 0, WIRE_DOUBLE = 1, WIRE_BYTES = 2 };

enum form {
    FORM_TEXT,
    FORM_BOOL,
    FORM_INT,
    FORM_DOUBLE,
    FORM_TEXTS,       /* repeated text */
    FORM_TYPE,        /* text or texts, inside a message's field 1 */
    FORM_ANY,         /* YAML text in field 2 of a message */
    FORM_ANYS,        /* repeated */
    FORM_MESSAGE,     /* another table */
    FORM_MESSAGES,    /* repeated */
    FORM_WRAPPED,     /* a table, inside a message's field 1 (a oneof's first choice) */
    FORM_ADDITIONAL,  /* WRAPPED, or a boolean in field 2 */
    FORM_MAP,         /* message of repeated {name = 1, value = 2 another table} in field 1 */
    FORM_MAP_WRAPPED, /* its values are in field `choice` of a message */
    FORM_PARAMETERS,
    FORM_SECURITY, /* repeated maps of texts */
};

struct message;

struct member {
    const char *key;
    unsigned number;
    enum form form;
    const struct message *message; /* of MESSAGE, MESSAGES, WRAPPED, ADDITIONAL, MAP… */
    unsigned choice;               /* of MAP_WRAPPED */
};

struct message {
    const struct member *members;
    size_t count;
    unsigned extensions; /* the field of vendor extensions, or 0 */
    unsigned paths;      /* the field of members whose name begins with '/', or 0 */
    const struct message *path;
};

#define MEMBERS(list) .members = (list), .count = FL_COUNT_OF(list)

static const struct message schema;

static const struct member schema_members[] = {
    {"$ref", 1, FORM_TEXT, NULL, 0},
    {"format", 2, FORM_TEXT, NULL, 0},
    {"title", 3, FORM_TEXT, NULL, 0},
    {"description", 4, FORM_TEXT, NULL, 0},
    {"default", 5, FORM_ANY, NULL, 0},
    {"multipleOf", 6, FORM_DOUBLE, NULL, 0},
    {"maximum", 7, FORM_DOUBLE, NULL, 0},
    {"exclusiveMaximum", 8, FORM_BOOL, NULL, 0},
    {"minimum", 9, FORM_DOUBLE, NULL, 0},
    {"exclusiveMinimum", 10, FORM_BOOL, NULL, 0},
    {"maxLength", 11, FORM_INT, NULL, 0},
    {"minLength", 12, FORM_INT, NULL, 0},
    {"pattern", 13, FORM_TEXT, NULL, 0},
    {"maxItems", 14, FORM_INT, NULL, 0},
    {"minItems", 15, FORM_INT, NULL, 0},
    {"uniqueItems", 16, FORM_BOOL, NULL, 0},
    {"maxProperties", 17, FORM_INT, NULL, 0},
    {"minProperties", 18, FORM_INT, NULL, 0},
    {"required", 19, FORM_TEXTS, NULL, 0},
    {"enum", 20, FORM_ANYS, NULL, 0},
    {"additionalProperties", 21, FORM_ADDITIONAL, &schema, 0},
    {"type", 22, FORM_TYPE, NULL, 0},
    {"items", 23, FORM_WRAPPED, &schema, 0},
    {"allOf", 24, FORM_MESSAGES, &schema, 0},
    {"properties", 25, FORM_MAP, &schema, 0},
};
static const struct message schema = {MEMBERS(schema_members), .extensions = 31};

static const struct member body_parameter_members[] = {
    {"description", 1, FORM_TEXT, NULL, 0},  {"name", 2, FORM_TEXT, NULL, 0},
    {"in", 3, FORM_TEXT, NULL, 0},           {"required", 4, FORM_BOOL, NULL, 0},
    {"schema", 5, FORM_MESSAGE, &schema, 0},
};
static const struct message body_parameter = {MEMBERS(body_parameter_members), .extensions = 6};

static const struct member query_parameter_members[] = {
    {"required", 1, FORM_BOOL, NULL, 0},     {"in", 2, FORM_TEXT, NULL, 0},
    {"description", 3, FORM_TEXT, NULL, 0},  {"name", 4, FORM_TEXT, NULL, 0},
    {"type", 6, FORM_TEXT, NULL, 0},         {"format", 7, FORM_TEXT, NULL, 0},
    {"uniqueItems", 20, FORM_BOOL, NULL, 0},
};
static const struct message query_parameter = {MEMBERS(query_parameter_members), .extensions = 23};

static const struct member path_parameter_members[] = {
    {"required", 1, FORM_BOOL, NULL, 0},     {"in", 2, FORM_TEXT, NULL, 0},
    {"description", 3, FORM_TEXT, NULL, 0},  {"name", 4, FORM_TEXT, NULL, 0},
    {"type", 5, FORM_TEXT, NULL, 0},         {"format", 6, FORM_TEXT, NULL, 0},
    {"uniqueItems", 19, FORM_BOOL, NULL, 0},
};
static const struct message path_parameter = {MEMBERS(path_parameter_members), .extensions = 22};

static const struct member response_members[] = {
    {"description", 1, FORM_TEXT, NULL, 0},
    {"schema", 2, FORM_WRAPPED, &schema, 0},
};
static const struct message response = {MEMBERS(response_members), .extensions = 5};

static const struct member operation_members[] = {
    {"tags", 1, FORM_TEXTS, NULL, 0},
    {"summary", 2, FORM_TEXT, NULL, 0},
    {"description", 3, FORM_TEXT, NULL, 0},
    {"operationId", 5, FORM_TEXT, NULL, 0},
    {"produces", 6, FORM_TEXTS, NULL, 0},
    {"consumes", 7, FORM_TEXTS, NULL, 0},
    {"parameters", 8, FORM_PARAMETERS, NULL, 0},
    {"responses", 9, FORM_MAP_WRAPPED, &response, 1},
    {"schemes", 10, FORM_TEXTS, NULL, 0},
    {"deprecated", 11, FORM_BOOL, NULL, 0},
};
static const struct message operation = {MEMBERS(operation_members), .extensions = 13};

static const struct member path_item_members[] = {
    {"get", 2, FORM_MESSAGE, &operation, 0},   {"put", 3, FORM_MESSAGE, &operation, 0},
    {"post", 4, FORM_MESSAGE, &operation, 0},  {"delete", 5, FORM_MESSAGE, &operation, 0},
    {"patch", 8, FORM_MESSAGE, &operation, 0}, {"parameters", 9, FORM_PARAMETERS, NULL, 0},
};
static const struct message path_item = {MEMBERS(path_item_members), .extensions = 10};

static const struct message paths = {.extensions = 1, .paths = 2, .path = &path_item};

static const struct member info_members[] = {
    {"title", 1, FORM_TEXT, NULL, 0},
    {"version", 2, FORM_TEXT, NULL, 0},
    {"description", 3, FORM_TEXT, NULL, 0},
};
static const struct message info = {MEMBERS(info_members), .extensions = 7};

static const struct member api_key_members[] = {
    {"type", 1, FORM_TEXT, NULL, 0},
    {"name", 2, FORM_TEXT, NULL, 0},
    {"in", 3, FORM_TEXT, NULL, 0},
    {"description", 4, FORM_TEXT, NULL, 0},
};
static const struct message api_key = {MEMBERS(api_key_members), .extensions = 5};

static const struct member document_members[] = {
    {"swagger", 1, FORM_TEXT, NULL, 0},
    {"info", 2, FORM_MESSAGE, &info, 0},
    {"paths", 8, FORM_MESSAGE, &paths, 0},
    {"definitions", 9, FORM_MAP, &schema, 0},
    {"security", 12, FORM_SECURITY, NULL, 0},
    {"securityDefinitions", 13, FORM_MAP_WRAPPED, &api_key, 2},
};
static const struct message root = {MEMBERS(document_members), .extensions = 16};

/* Primitives */

static void put_varint(struct fl_buf *buf, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        fl_buf_putc(buf, (char)(value | 0x80));
    fl_buf_putc(buf, (char)value);
}

static void put_tag(struct fl_buf *buf, unsigned number, enum wire wire)
{
    put_varint(buf, (uint64_t)number << 3 | wire);
}

static void put_bytes(struct fl_buf *buf, unsigned number, const char *data, size_t len)
{
    put_tag(buf, number, WIRE_BYTES);
    put_varint(buf, len);
    fl_buf_append(buf, data, len);
}

static void put_text(struct fl_buf *buf, unsigned number, const json_t *value)
{
    if (json_string_length(value) > 0)
        put_bytes(buf, number, json_string_value(value), json_string_length(value));
}

static void put_bool(struct fl_buf *buf, unsigned number, const json_t *value)
{
    if (json_is_true(value)) {
        put_tag(buf, number, WIRE_VARINT);
        fl_buf_putc(buf, 1);
    }
}

static void put_int(struct fl_buf *buf, unsigned number, const json_t *value)
{
    if (json_is_integer(value) && json_integer_value(value) != 0) {
        put_tag(buf, number, WIRE_VARINT);
        put_varint(buf, (uint64_t)json_integer_value(value));
    }
}

static void put_double(struct fl_buf *buf, unsigned number, const json_t *value)
{
    double real = json_number_value(value);
    uint64_t bits;

    if (fpclassify(real) == FP_ZERO)
        return;
    memcpy(&bits, &real, sizeof(bits));
    put_tag(buf, number, WIRE_DOUBLE);
    for (unsigned shift = 0; shift < 64; shift += 8)
        fl_buf_putc(buf, (char)(bits >> shift));
}

/* A message is what is appended between open and close. */
static size_t open_message(struct fl_buf *buf, unsigned number)
{
    put_tag(buf, number, WIRE_BYTES);
    fl_buf_putc(buf, 0); /* its length, if that is small */
    return buf->len;
}

static void close_message(struct fl_buf *buf, size_t start)
{
    uint64_t len = buf->len - start;
    size_t more = 0;

    for (uint64_t rest = len >> 7; rest; rest >>= 7) {
        fl_buf_putc(buf, 0);
        more++;
    }
    if (buf->overflow)
        return;
    if (more)
        memmove(buf->data + start + more, buf->data + start, len);
    for (size_t i = 0; i <= more; i++, len >>= 7)
        buf->data[start - 1 + i] = (char)((len & 0x7f) | (i < more ? 0x80 : 0));
}

/* The next character of valid UTF-8. */
static uint32_t next_character(const char *text, size_t width)
{
    uint32_t value = (unsigned char)*text;

    if (width > 1)
        value &= 0xffu >> (width + 1);
    for (size_t i = 1; i < width; i++)
        value = value << 6 | ((unsigned char)text[i] & 0x3f);
    return value;
}

/* JSON may have characters that YAML takes for line breaks or refuses, and that refusal would be
 * of the whole document: DEL, C1 controls, line and paragraph separators, U+FEFF, U+FFFE, U+FFFF.
 */
static bool is_foreign_to_yaml(uint32_t c)
{
    return (c >= 0x7f && c <= 0x9f) || c == 0x2028 || c == 0x2029 || c == 0xfeff || c == 0xfffe ||
           c == 0xffff;
}

static void put_yaml(struct fl_buf *buf, const json_t *value)
{
    struct fl_buf json;
    size_t start = 0, width;

    fl_buf_init(&json, 0);
    fl_json_write(&json, value);
    for (size_t i = 0; i < json.len; i += width) {
        uint32_t c;

        width = fl_utf8_width(json.data + i, json.len - i);
        c = next_character(json.data + i, width);
        if (!is_foreign_to_yaml(c))
            continue;
        fl_buf_append(buf, json.data + start, i - start);
        fl_buf_printf(buf, "\\u%04x", c);
        start = i + width;
    }
    fl_buf_append(buf, json.data + start, json.len - start);
    fl_buf_putc(buf, '\n');
    fl_buf_finish(&json);
}

static void put_any(struct fl_buf *buf, unsigned number, const json_t *value)
{
    size_t any = open_message(buf, number);
    size_t yaml = open_message(buf, 2);

    put_yaml(buf, value);
    close_message(buf, yaml);
    close_message(buf, any);
}

/* Messages */

static void put_message(struct fl_buf *buf, unsigned number, const struct message *message,
                        const json_t *value);

static void put_wrapped(struct fl_buf *buf, unsigned number, unsigned choice,
                        const struct message *message, const json_t *value)
{
    size_t start = open_message(buf, number);

    put_message(buf, choice, message, value);
    close_message(buf, start);
}

static void put_texts(struct fl_buf *buf, unsigned number, const json_t *list)
{
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)list, i, item)
        put_bytes(buf, number, fl_str_or(json_string_value(item), ""), json_string_length(item));
}

static void put_type(struct fl_buf *buf, unsigned number, const json_t *value)
{
    size_t start = open_message(buf, number);

    if (json_is_string(value))
        put_text(buf, 1, value);
    else
        put_texts(buf, 1, value);
    close_message(buf, start);
}

static void put_named(struct fl_buf *buf, unsigned number, const char *name, unsigned choice,
                      const struct message *message, const json_t *value)
{
    size_t start = open_message(buf, number);

    put_bytes(buf, 1, name, strlen(name));
    if (choice)
        put_wrapped(buf, 2, choice, message, value);
    else
        put_message(buf, 2, message, value);
    close_message(buf, start);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names of an object's members, sorted, so that equal documents are equal bytes. */
static const char **sorted_names(const json_t *object)
{
    const char **names = fl_calloc(json_object_size(object) + 1, sizeof(*names)), *name;
    json_t *ignored;
    size_t count = 0;

    json_object_foreach((json_t *)object, name, ignored)
        names[count++] = name;
    qsort(names, count, sizeof(*names), compare_names);
    return names;
}

static void put_map(struct fl_buf *buf, const struct member *member, const json_t *value)
{
    FL_CLEANUP(fl_freep) const char **names = sorted_names(value);
    size_t start = open_message(buf, member->number);

    for (size_t i = 0; names[i]; i++)
        put_named(buf, 1, names[i], member->choice, member->message,
                  json_object_get(value, names[i]));
    close_message(buf, start);
}

/* ParametersItem: a parameter (1) that is in the body (1) or not (2: in the query 3, in the path
 * 4). References (2) do not occur in our documents. */
static void put_parameters(struct fl_buf *buf, unsigned number, const json_t *list)
{
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)list, i, item) {
        const char *in = fl_json_str(item, "in");
        size_t start = open_message(buf, number);
        size_t parameter = open_message(buf, 1);

        if (fl_streq(in, "body"))
            put_message(buf, 1, &body_parameter, item);
        else if (fl_streq(in, "path"))
            put_wrapped(buf, 2, 4, &path_parameter, item);
        else
            put_wrapped(buf, 2, 3, &query_parameter, item);
        close_message(buf, parameter);
        close_message(buf, start);
    }
}

static void put_security(struct fl_buf *buf, unsigned number, const json_t *list)
{
    json_t *item, *scopes;
    const char *name;
    size_t i;

    json_array_foreach((json_t *)list, i, item) {
        size_t start = open_message(buf, number);

        json_object_foreach(item, name, scopes) {
            size_t entry = open_message(buf, 1);

            put_bytes(buf, 1, name, strlen(name));
            put_type(buf, 2, scopes); /* of the same shape */
            close_message(buf, entry);
        }
        close_message(buf, start);
    }
}

static void put_additional(struct fl_buf *buf, const struct member *member, const json_t *value)
{
    size_t start;

    if (json_is_object(value)) {
        put_wrapped(buf, member->number, 1, member->message, value);
        return;
    }
    start = open_message(buf, member->number);
    put_tag(buf, 2, WIRE_VARINT);
    fl_buf_putc(buf, json_is_true(value));
    close_message(buf, start);
}

static void put_member(struct fl_buf *buf, const struct member *member, const json_t *value)
{
    json_t *item;
    size_t i;

    switch (member->form) {
    case FORM_TEXT:
        put_text(buf, member->number, value);
        break;
    case FORM_BOOL:
        put_bool(buf, member->number, value);
        break;
    case FORM_INT:
        put_int(buf, member->number, value);
        break;
    case FORM_DOUBLE:
        put_double(buf, member->number, value);
        break;
    case FORM_TEXTS:
        put_texts(buf, member->number, value);
        break;
    case FORM_TYPE:
        put_type(buf, member->number, value);
        break;
    case FORM_ANY:
        put_any(buf, member->number, value);
        break;
    case FORM_ANYS:
        json_array_foreach((json_t *)value, i, item)
            put_any(buf, member->number, item);
        break;
    case FORM_MESSAGE:
        put_message(buf, member->number, member->message, value);
        break;
    case FORM_MESSAGES:
        json_array_foreach((json_t *)value, i, item)
            put_message(buf, member->number, member->message, item);
        break;
    case FORM_WRAPPED:
        put_wrapped(buf, member->number, 1, member->message, value);
        break;
    case FORM_ADDITIONAL:
        put_additional(buf, member, value);
        break;
    case FORM_MAP:
    case FORM_MAP_WRAPPED:
        put_map(buf, member, value);
        break;
    case FORM_PARAMETERS:
        put_parameters(buf, member->number, value);
        break;
    case FORM_SECURITY:
        put_security(buf, member->number, value);
        break;
    }
}

/* What is named by the document's author: paths and vendor extensions. */
static void put_open_members(struct fl_buf *buf, const struct message *message, const json_t *value)
{
    FL_CLEANUP(fl_freep) const char **names = sorted_names(value);

    for (size_t i = 0; names[i]; i++) {
        const json_t *member = json_object_get(value, names[i]);

        if (message->paths && *names[i] == '/')
            put_named(buf, message->paths, names[i], 0, message->path, member);
        if (message->extensions && fl_str_has_prefix(names[i], "x-")) {
            size_t start = open_message(buf, message->extensions);

            put_bytes(buf, 1, names[i], strlen(names[i]));
            put_any(buf, 2, member);
            close_message(buf, start);
        }
    }
}

static void put_members(struct fl_buf *buf, const struct message *message, const json_t *value)
{
    for (size_t i = 0; i < message->count; i++) {
        const json_t *member = json_object_get(value, message->members[i].key);

        if (member)
            put_member(buf, &message->members[i], member);
    }
    put_open_members(buf, message, value);
}

static void put_message(struct fl_buf *buf, unsigned number, const struct message *message,
                        const json_t *value)
{
    size_t start = open_message(buf, number);

    put_members(buf, message, value);
    close_message(buf, start);
}

void fl_openapi_v2_protobuf(const json_t *document, struct fl_buf *buf)
{
    assert(document && buf);

    put_members(buf, &root, document);
}
