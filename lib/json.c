#include "lib/json.h"

#include "lib/str.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* One pass before jansson sees the text: bounds the nesting (jansson recurses) and, on request,
 * finds doubled keys with their paths (jansson only knows that there is one). It accepts some
 * texts that are not JSON; jansson refuses those afterwards. */
struct level {
    bool is_array;
    size_t index;      /* of the element, in an array */
    size_t path_len;   /* of the container's own path */
    json_t *seen;      /* keys met so far; NULL where nobody asked for duplicates */
};

struct scan {
    const char *text;
    size_t len, at;
    unsigned max_depth, depth;
    struct level *levels;
    struct fl_buf path;
    fl_json_duplicate_fn *duplicate;
    void *user;
};

static int at_position(const char *text, size_t at, struct fl_error *err, const char *what)
{
    size_t line = 1, column = 1;

    for (size_t i = 0; i < at; i++, column++) {
        if (text[i] == '\n') {
            line++;
            column = 0;
        }
    }
    return fl_error_set(err, FL_E_BAD_REQUEST, "line %zu, column %zu: %s", line, column, what);
}

static int push(struct scan *scan, bool is_array, struct fl_error *err)
{
    if (scan->depth == scan->max_depth) {
        char what[64];

        (void)snprintf(what, sizeof(what), "nesting deeper than %u levels", scan->max_depth);
        return at_position(scan->text, scan->at, err, what);
    }
    scan->levels[scan->depth++] = (struct level){
        .is_array = is_array,
        .path_len = scan->path.len,
        .seen = scan->duplicate && !is_array ? json_object() : NULL,
    };
    return 0;
}

static void set_path(struct scan *scan, size_t len)
{
    scan->path.len = len;
    if (scan->path.data)
        scan->path.data[len] = '\0';
}

static void note_key(struct scan *scan, const char *key, size_t len)
{
    struct level *level = &scan->levels[scan->depth - 1];

    set_path(scan, level->path_len);
    if (scan->path.len)
        fl_buf_putc(&scan->path, '.');
    fl_buf_append(&scan->path, key, len);
    if (json_object_getn(level->seen, key, len))
        scan->duplicate(scan->user, fl_buf_text(&scan->path));
    else
        (void)json_object_setn_new_nocheck(level->seen, key, len, json_true());
}

/* `key` stands between quotes. Escapes are resolved, for "a" and "\u0061" are one key. */
static void enter_key(struct scan *scan, const char *key, size_t len)
{
    FL_JSON plain = NULL;

    if (memchr(key, '\\', len))
        plain = json_loadb(key - 1, len + 2, JSON_DECODE_ANY, NULL);
    if (plain)
        note_key(scan, json_string_value(plain), json_string_length(plain));
    else
        note_key(scan, key, len);
}

static void enter_element(struct scan *scan)
{
    struct level *level = &scan->levels[scan->depth - 1];

    set_path(scan, level->path_len);
    fl_buf_printf(&scan->path, "[%zu]", level->index);
}

/* From the opening quote to the closing one. A string is a key where a colon follows. */
static void skip_string(struct scan *scan)
{
    size_t start = ++scan->at, after;

    while (scan->at < scan->len && scan->text[scan->at] != '"')
        scan->at += scan->text[scan->at] == '\\' ? 2 : 1;
    if (scan->at >= scan->len)
        return;
    if (!scan->duplicate || scan->depth == 0 || scan->levels[scan->depth - 1].is_array)
        return;
    for (after = scan->at + 1; after < scan->len && memchr(" \t\r\n", scan->text[after], 4);)
        after++;
    if (after < scan->len && scan->text[after] == ':')
        enter_key(scan, scan->text + start, scan->at - start);
}

static int scan_char(struct scan *scan, struct fl_error *err)
{
    char c = scan->text[scan->at];
    int r = 0;

    if (c == '"') {
        skip_string(scan);
    } else if (c == '{' || c == '[') {
        r = push(scan, c == '[', err);
        if (r == 0 && c == '[' && scan->duplicate)
            enter_element(scan);
    } else if (c == '}' || c == ']') {
        if (scan->depth > 0) {
            json_decref(scan->levels[--scan->depth].seen);
            set_path(scan, scan->levels[scan->depth].path_len);
        }
    } else if (c == ',' && scan->duplicate && scan->depth > 0 &&
               scan->levels[scan->depth - 1].is_array) {
        scan->levels[scan->depth - 1].index++;
        enter_element(scan);
    }
    return r;
}

static int scan_text(const char *text, size_t len, unsigned max_depth,
                     fl_json_duplicate_fn *duplicate, void *user, struct fl_error *err)
{
    struct scan scan = {.text = text, .len = len, .max_depth = max_depth,
                        .duplicate = duplicate, .user = user};
    int r = 0;

    scan.levels = fl_calloc(max_depth, sizeof(struct level));
    fl_buf_init(&scan.path, 0);
    for (; r == 0 && scan.at < len; scan.at++)
        r = scan_char(&scan, err);
    while (scan.depth > 0)
        json_decref(scan.levels[--scan.depth].seen);
    free(scan.levels);
    fl_buf_finish(&scan.path);
    return r;
}

/* The length of the string or number (or other character) at `text`. */
static size_t token_length(const char *text, size_t len, bool *ret_is_integer)
{
    size_t used = 1;

    *ret_is_integer = false;
    if (*text == '"') {
        while (used < len && text[used] != '"')
            used += text[used] == '\\' ? 2 : 1;
        return used + 1 < len ? used + 1 : len;
    }
    if (*text != '-' && (*text < '0' || *text > '9'))
        return 1;
    *ret_is_integer = true;
    for (; used < len && memchr("0123456789.eE+-", text[used], 15); used++)
        *ret_is_integer = *ret_is_integer && text[used] >= '0' && text[used] <= '9';
    return used;
}

static bool fits_int64(const char *digits, size_t len)
{
    FL_CLEANUP(fl_freep) char *copy = fl_strndup(digits, len);
    int64_t ignored;

    return fl_str_to_int64(copy, INT64_MIN, INT64_MAX, &ignored);
}

/* Reads a text that has an integer beyond 64 bits: as a real, which needs only a fraction behind
 * it. jansson could read all integers as reals; but then a 3 elsewhere would be none any more. */
static json_t *load_with_big_integers(const char *text, size_t len, json_error_t *where)
{
    struct fl_buf fixed;
    json_t *value;

    fl_buf_init(&fixed, 0);
    for (size_t at = 0; at < len;) {
        bool is_integer;
        size_t used = token_length(text + at, len - at, &is_integer);

        fl_buf_append(&fixed, text + at, used);
        if (is_integer && !fits_int64(text + at, used))
            fl_buf_puts(&fixed, ".0");
        at += used;
    }
    value = json_loadb(fl_buf_text(&fixed), fixed.len, JSON_DECODE_ANY, where);
    fl_buf_finish(&fixed);
    return value;
}

int fl_json_parse(const char *text, size_t len, const struct fl_json_limits *limits,
                  fl_json_duplicate_fn *duplicate, void *user, json_t **ret_value,
                  struct fl_error *err)
{
    size_t max_bytes = limits && limits->max_bytes ? limits->max_bytes : FL_JSON_MAX_BYTES;
    unsigned max_depth = limits && limits->max_depth ? limits->max_depth : FL_JSON_MAX_DEPTH;
    json_error_t where;
    json_t *value;
    int r;

    if (len > max_bytes)
        return fl_error_set(err, FL_E_TOO_LARGE, "JSON of %zu bytes, the limit is %zu", len,
                            max_bytes);
    r = scan_text(text, len, max_depth, duplicate, user, err);
    if (r < 0)
        return r;
    value = json_loadb(text, len, JSON_DECODE_ANY, &where);
    if (!value && json_error_code(&where) == json_error_numeric_overflow)
        value = load_with_big_integers(text, len, &where);
    if (!value)
        return fl_error_set(err, FL_E_BAD_REQUEST, "line %d, column %d: %s", where.line,
                            where.column, where.text);
    *ret_value = value;
    return 0;
}

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
