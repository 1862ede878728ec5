#include "lib/json.h"

#include "lib/str.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Writing. jansson's own dump sorts and prints reals, but not in the shortest form that Go and
 * JavaScript print; canonical text is ours. */

#define FEW_MEMBERS 32

struct pair {
    const char *key;
    const json_t *value;
};

static int compare_pairs(const void *a, const void *b)
{
    return strcmp(((const struct pair *)a)->key, ((const struct pair *)b)->key);
}

/* Members are few and mostly in order already: what we store was written by us. */
static void sort_few(struct pair *pairs, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct pair pair = pairs[i];
        size_t k = i;

        for (; k > 0 && strcmp(pairs[k - 1].key, pair.key) > 0; k--)
            pairs[k] = pairs[k - 1];
        pairs[k] = pair;
    }
}

static void write_real(struct fl_buf *buf, double value)
{
    char text[40];

    if (value == floor(value) && fabs(value) < 9007199254740992.0) {
        fl_buf_printf(buf, "%.0f", value == 0 ? 0.0 : value);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    fl_buf_puts(buf, text);
}

struct writer {
    struct fl_buf *buf;
    int indent; /* -1: compact */
};

static void new_line(const struct writer *writer, int depth)
{
    if (writer->indent < 0)
        return;
    fl_buf_putc(writer->buf, '\n');
    for (int i = 0; i < depth * writer->indent; i++)
        fl_buf_putc(writer->buf, ' ');
}

static void write_value(const struct writer *writer, const json_t *value, int depth);

static void write_member(const struct writer *writer, const struct pair *pair, int depth)
{
    new_line(writer, depth);
    fl_buf_json_string(writer->buf, pair->key, strlen(pair->key));
    fl_buf_putc(writer->buf, ':');
    if (writer->indent >= 0)
        fl_buf_putc(writer->buf, ' ');
    write_value(writer, pair->value, depth);
}

static void write_object(const struct writer *writer, const json_t *value, int depth)
{
    struct pair few[FEW_MEMBERS], *pairs = few;
    size_t size = json_object_size(value), count = 0;
    const char *key;
    json_t *member;

    if (size > FEW_MEMBERS)
        pairs = fl_calloc(size, sizeof(*pairs));
    json_object_foreach((json_t *)value, key, member)
        pairs[count++] = (struct pair){key, member};
    if (count > FEW_MEMBERS)
        qsort(pairs, count, sizeof(*pairs), compare_pairs);
    else
        sort_few(pairs, count);
    fl_buf_putc(writer->buf, '{');
    for (size_t i = 0; i < count; i++) {
        if (i)
            fl_buf_putc(writer->buf, ',');
        write_member(writer, &pairs[i], depth + 1);
    }
    if (count)
        new_line(writer, depth);
    fl_buf_putc(writer->buf, '}');
    if (pairs != few)
        free(pairs);
}

static void write_array(const struct writer *writer, const json_t *value, int depth)
{
    size_t count = json_array_size(value);

    fl_buf_putc(writer->buf, '[');
    for (size_t i = 0; i < count; i++) {
        if (i)
            fl_buf_putc(writer->buf, ',');
        new_line(writer, depth + 1);
        write_value(writer, json_array_get(value, i), depth + 1);
    }
    if (count)
        new_line(writer, depth);
    fl_buf_putc(writer->buf, ']');
}

static void write_value(const struct writer *writer, const json_t *value, int depth)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        write_object(writer, value, depth);
        break;
    case JSON_ARRAY:
        write_array(writer, value, depth);
        break;
    case JSON_STRING:
        fl_buf_json_string(writer->buf, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        fl_buf_printf(writer->buf, "%lld", (long long)json_integer_value(value));
        break;
    case JSON_REAL:
        write_real(writer->buf, json_real_value(value));
        break;
    case JSON_TRUE:
        fl_buf_puts(writer->buf, "true");
        break;
    case JSON_FALSE:
        fl_buf_puts(writer->buf, "false");
        break;
    default:
        fl_buf_puts(writer->buf, "null");
    }
}

void fl_json_write(struct fl_buf *buf, const json_t *value)
{
    write_value(&(struct writer){buf, -1}, value, 0);
}

void fl_json_write_pretty(struct fl_buf *buf, const json_t *value)
{
    write_value(&(struct writer){buf, 2}, value, 0);
    fl_buf_putc(buf, '\n');
}

struct fl_bytes *fl_json_to_bytes(const json_t *value)
{
    struct fl_buf buf;
    struct fl_bytes *bytes;

    fl_buf_init(&buf, 0);
    fl_buf_reserve(&buf, 1024);
    fl_json_write(&buf, value);
    bytes = fl_buf_to_bytes(&buf);
    fl_buf_finish(&buf);
    return bytes;
}

char *fl_json_to_string(struct fl_arena *arena, const json_t *value)
{
    struct fl_buf buf;
    char *text;

    fl_buf_init(&buf, 0);
    fl_json_write(&buf, value);
    text = fl_arena_strndup(arena, fl_buf_text(&buf), buf.len);
    fl_buf_finish(&buf);
    return text;
}

json_t *fl_json_path(const json_t *value, const char *path)
{
    const char *dot;

    while (value && (dot = strchr(path, '.'))) {
        value = json_object_getn(value, path, (size_t)(dot - path));
        path = dot + 1;
    }
    return json_object_get(value, path);
}

const char *fl_json_str(const json_t *value, const char *path)
{
    return json_string_value(fl_json_path(value, path));
}

int64_t fl_json_int(const json_t *value, const char *path, int64_t fallback)
{
    const json_t *member = fl_json_path(value, path);

    return json_is_integer(member) ? json_integer_value(member) : fallback;
}

bool fl_json_bool(const json_t *value, const char *path, bool fallback)
{
    const json_t *member = fl_json_path(value, path);

    return json_is_boolean(member) ? json_is_true(member) : fallback;
}

const char *fl_json_type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_REAL:
        return "number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "boolean";
    default:
        return "null";
    }
}

json_t *fl_json_ensure_object(json_t *object, const char *key)
{
    json_t *member = json_object_get(object, key);

    if (!json_is_object(member)) {
        member = json_object();
        (void)json_object_set_new_nocheck(object, key, member);
    }
    return member;
}

void fl_json_set_str(json_t *object, const char *key, const char *text)
{
    if (text)
        (void)json_object_set_new_nocheck(object, key, json_string_nocheck(text));
    else
        (void)json_object_del(object, key);
}

static void drop(void *user)
{
    json_decref(user);
}

json_t *fl_json_in_arena(struct fl_arena *arena, json_t *value)
{
    fl_arena_on_reset(arena, drop, value);
    return value;
}
