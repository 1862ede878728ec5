#include "lib/json.h"

#include "lib/file.h"

#include "lib/str.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Reading, in one pass: bounds, duplicates with their paths and positions of errors are known where
 * they arise. (jansson's reader knows none of the three, and takes thrice the time.)
 *
 * Where we are is a chain of frames on the stack, one for each object or array around us; it is
 * written out only when somebody wants to know. */
struct frame {
    const struct frame *up;
    bool is_array;
    const char *key; /* of the member being read, in an object */
    size_t key_len;
    size_t index; /* of the element being read, in an array */
};

struct parser {
    const char *text, *at, *end;
    unsigned max_depth;
    struct fl_buf scratch; /* strings with escapes in them */
    fl_json_duplicate_fn *duplicate;
    void *user;
    struct fl_error *err;
};

/* A string as read: in the text itself, or in the scratch buffer where it had escapes. */
struct slice {
    const char *data;
    size_t len;
    bool in_scratch;
};

static json_t *read_value(struct parser *parser, const struct frame *up, unsigned depth);

static int fail_at(const struct parser *parser, const char *at, const char *what)
{
    size_t line = 1, column = 1;

    for (const char *c = parser->text; c < at; c++, column++) {
        if (*c == '\n') {
            line++;
            column = 0;
        }
    }
    return fl_error_set(parser->err, FL_E_BAD_REQUEST, "line %zu, column %zu: %s", line, column,
                        what);
}

static int fail_here(const struct parser *parser, const char *what)
{
    return fail_at(parser, parser->at,
                   parser->at == parser->end ? "the text ends in the middle of a value" : what);
}

/* The form for functions that return a value. */
static json_t *no_value(const struct parser *parser, const char *what)
{
    (void)fail_here(parser, what);
    return NULL;
}

static void skip_space(struct parser *parser)
{
    while (parser->at < parser->end && (*parser->at == ' ' || *parser->at == '\n' ||
                                        *parser->at == '\r' || *parser->at == '\t'))
        parser->at++;
}

static bool take(struct parser *parser, char c)
{
    if (parser->at == parser->end || *parser->at != c)
        return false;
    parser->at++;
    return true;
}

/* Strings. */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Four digits behind "\u". */
static bool read_unit(struct parser *parser, uint32_t *ret_unit)
{
    uint32_t unit = 0;

    if (parser->end - parser->at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(parser->at[i]);

        if (digit < 0)
            return false;
        unit = unit << 4 | (uint32_t)digit;
    }
    parser->at += 4;
    *ret_unit = unit;
    return true;
}

static void put_character(struct fl_buf *buf, uint32_t c)
{
    if (c < 0x80) {
        fl_buf_putc(buf, (char)c);
        return;
    }
    if (c < 0x800) {
        fl_buf_putc(buf, (char)(0xC0 | c >> 6));
    } else if (c < 0x10000) {
        fl_buf_putc(buf, (char)(0xE0 | c >> 12));
        fl_buf_putc(buf, (char)(0x80 | (c >> 6 & 0x3F)));
    } else {
        fl_buf_putc(buf, (char)(0xF0 | c >> 18));
        fl_buf_putc(buf, (char)(0x80 | (c >> 12 & 0x3F)));
        fl_buf_putc(buf, (char)(0x80 | (c >> 6 & 0x3F)));
    }
    fl_buf_putc(buf, (char)(0x80 | (c & 0x3F)));
}

static int read_unicode_escape(struct parser *parser, const char *start)
{
    uint32_t c, low;

    if (!read_unit(parser, &c))
        return fail_at(parser, start, "\\u without four hexadecimal digits");
    if (c == 0)
        return fail_at(parser, start, "a NUL character in text");
    if (c >= 0xD800 && c < 0xE000) {
        if (c >= 0xDC00 || !take(parser, '\\') || !take(parser, 'u') || !read_unit(parser, &low) ||
            low < 0xDC00 || low >= 0xE000)
            return fail_at(parser, start, "half of a surrogate pair");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    put_character(&parser->scratch, c);
    return 0;
}

/* Behind the backslash. */
static int read_escape(struct parser *parser)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *start = parser->at - 1, *found;

    if (parser->at == parser->end)
        return fail_at(parser, start, "the text ends in the middle of a string");
    if (take(parser, 'u'))
        return read_unicode_escape(parser, start);
    found = memchr(from, *parser->at++, sizeof(from) - 1);
    if (!found)
        return fail_at(parser, start, "an escape that JSON does not know");
    fl_buf_putc(&parser->scratch, to[found - from]);
    return 0;
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* Over what stands for itself; stops at a quote, a backslash or the end. */
static int skip_plain(struct parser *parser)
{
    for (;;) {
        size_t width;

        while (parser->at < parser->end && is_plain((unsigned char)*parser->at))
            parser->at++;
        if (parser->at == parser->end || *parser->at == '"' || *parser->at == '\\')
            return 0;
        if ((unsigned char)*parser->at < 0x20)
            return fail_at(parser, parser->at, "a control character in a string");
        width = fl_utf8_width(parser->at, (size_t)(parser->end - parser->at));
        if (width == 0)
            return fail_at(parser, parser->at, "text that is not UTF-8");
        parser->at += width;
    }
}

static int read_escaped_string(struct parser *parser, const char *start, struct slice *ret_slice)
{
    fl_buf_clear(&parser->scratch);
    for (;;) {
        int r;

        fl_buf_append(&parser->scratch, start, (size_t)(parser->at - start));
        if (take(parser, '"'))
            break;
        if (parser->at == parser->end)
            return fail_at(parser, parser->at, "the text ends in the middle of a string");
        parser->at++;
        r = read_escape(parser);
        start = parser->at;
        if (r == 0)
            r = skip_plain(parser);
        if (r < 0)
            return r;
    }
    *ret_slice = (struct slice){fl_buf_text(&parser->scratch), parser->scratch.len, true};
    return 0;
}

/* Behind the opening quote. */
static int read_string(struct parser *parser, struct slice *ret_slice)
{
    const char *start = parser->at;
    int r = skip_plain(parser);

    if (r < 0)
        return r;
    if (parser->at == parser->end || *parser->at != '"')
        return read_escaped_string(parser, start, ret_slice);
    *ret_slice = (struct slice){start, (size_t)(parser->at++ - start), false};
    return 0;
}

/* Numbers. */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool skip_digits(struct parser *parser)
{
    const char *start = parser->at;

    while (parser->at < parser->end && is_digit(*parser->at))
        parser->at++;
    return parser->at > start;
}

static json_t *real_number(struct parser *parser, const char *start)
{
    size_t len = (size_t)(parser->at - start);
    FL_CLEANUP(fl_freep) char *copy = fl_strndup(start, len);
    double value = strtod(copy, NULL);

    if (!isfinite(value)) {
        (void)fail_at(parser, start, "a number beyond the range of a double");
        return NULL;
    }
    return json_real(value);
}

/* Beyond 64 bits an integer becomes a real, as it does for Kubernetes. */
static json_t *whole_number(struct parser *parser, const char *start)
{
    bool negative = *start == '-';
    int64_t value = 0;

    for (const char *c = start + negative; c < parser->at; c++) {
        int digit = *c - '0';

        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, negative ? -digit : digit, &value))
            return real_number(parser, start);
    }
    return json_integer(value);
}

static json_t *read_number(struct parser *parser)
{
    const char *start = parser->at;
    bool real = false;

    (void)take(parser, '-');
    if (!take(parser, '0') && !skip_digits(parser))
        return no_value(parser, "a minus sign without a number");
    if (take(parser, '.')) {
        real = true;
        if (!skip_digits(parser))
            return no_value(parser, "a point without digits behind it");
    }
    if (take(parser, 'e') || take(parser, 'E')) {
        real = true;
        if (!take(parser, '+'))
            (void)take(parser, '-');
        if (!skip_digits(parser))
            return no_value(parser, "an exponent without digits");
    }
    return real ? real_number(parser, start) : whole_number(parser, start);
}

/* Objects and arrays. */

#define PATH_MAX_BYTES ((size_t)4096)

static void write_path(struct fl_buf *buf, const struct frame *frame)
{
    if (!frame)
        return;
    write_path(buf, frame->up);
    if (frame->is_array) {
        fl_buf_printf(buf, "[%zu]", frame->index);
        return;
    }
    if (buf->len)
        fl_buf_putc(buf, '.');
    fl_buf_append(buf, frame->key, frame->key_len);
}

static void tell_duplicate(const struct parser *parser, const struct frame *frame)
{
    struct fl_buf path;

    /* Bounded, or long keys around many duplicates would cost their product. */
    fl_buf_init(&path, PATH_MAX_BYTES);
    write_path(&path, frame);
    parser->duplicate(parser->user, fl_buf_text(&path));
    fl_buf_finish(&path);
}

static int read_member(struct parser *parser, struct frame *frame, unsigned depth, json_t *object)
{
    FL_CLEANUP(fl_freep) char *copy = NULL;
    struct slice key = {0};
    json_t *value;

    skip_space(parser);
    if (!take(parser, '"'))
        return fail_here(parser, "a key in quotes is expected");
    if (read_string(parser, &key) < 0)
        return -1;
    if (key.in_scratch)
        key.data = copy = fl_strndup(key.data, key.len);
    frame->key = key.data;
    frame->key_len = key.len;
    skip_space(parser);
    if (!take(parser, ':'))
        return fail_here(parser, "a colon is expected behind the key");
    if (parser->duplicate && json_object_getn(object, key.data, key.len))
        tell_duplicate(parser, frame);
    value = read_value(parser, frame, depth);
    if (!value)
        return -1;
    (void)json_object_setn_new_nocheck(object, key.data, key.len, value);
    return 0;
}

static json_t *read_object(struct parser *parser, const struct frame *up, unsigned depth)
{
    struct frame frame = {.up = up};
    FL_JSON object = json_object();

    skip_space(parser);
    if (take(parser, '}'))
        return FL_TAKE(object);
    do {
        if (read_member(parser, &frame, depth, object) < 0)
            return NULL;
        skip_space(parser);
    } while (take(parser, ','));
    if (!take(parser, '}'))
        return no_value(parser, "a comma or a closing brace is expected");
    return FL_TAKE(object);
}

static json_t *read_array(struct parser *parser, const struct frame *up, unsigned depth)
{
    struct frame frame = {.up = up, .is_array = true};
    FL_JSON array = json_array();

    skip_space(parser);
    if (take(parser, ']'))
        return FL_TAKE(array);
    do {
        json_t *value = read_value(parser, &frame, depth);

        if (!value)
            return NULL;
        (void)json_array_append_new(array, value);
        frame.index++;
        skip_space(parser);
    } while (take(parser, ','));
    if (!take(parser, ']'))
        return no_value(parser, "a comma or a closing bracket is expected");
    return FL_TAKE(array);
}

static json_t *read_collection(struct parser *parser, const struct frame *up, unsigned depth)
{
    char what[64];

    if (depth == parser->max_depth) {
        (void)snprintf(what, sizeof(what), "nesting deeper than %u levels", parser->max_depth);
        return no_value(parser, what);
    }
    return *parser->at++ == '{' ? read_object(parser, up, depth + 1)
                                : read_array(parser, up, depth + 1);
}

static bool take_word(struct parser *parser, const char *word)
{
    size_t len = strlen(word);

    if ((size_t)(parser->end - parser->at) < len || memcmp(parser->at, word, len) != 0)
        return false;
    parser->at += len;
    return true;
}

static json_t *read_text(struct parser *parser)
{
    struct slice text = {0};

    parser->at++;
    return read_string(parser, &text) < 0 ? NULL : json_stringn_nocheck(text.data, text.len);
}

static json_t *read_value(struct parser *parser, const struct frame *up, unsigned depth)
{
    char c;

    skip_space(parser);
    c = parser->at < parser->end ? *parser->at : '\0';
    if (c == '"')
        return read_text(parser);
    if (c == '{' || c == '[')
        return read_collection(parser, up, depth);
    if (c == '-' || is_digit(c))
        return read_number(parser);
    if (take_word(parser, "true"))
        return json_true();
    if (take_word(parser, "false"))
        return json_false();
    if (take_word(parser, "null"))
        return json_null();
    return no_value(parser, "a value is expected");
}

int fl_json_parse(const char *text, size_t len, const struct fl_json_limits *limits,
                  fl_json_duplicate_fn *duplicate, void *user, json_t **ret_value,
                  struct fl_error *err)
{
    size_t max_bytes = limits && limits->max_bytes ? limits->max_bytes : FL_JSON_MAX_BYTES;
    unsigned max_depth = limits && limits->max_depth ? limits->max_depth : FL_JSON_MAX_DEPTH;
    struct parser parser = {.text = text,
                            .at = text,
                            .end = text + len,
                            .max_depth = max_depth,
                            .duplicate = duplicate,
                            .user = user,
                            .err = err};
    FL_JSON value = NULL;

    if (len > max_bytes)
        return fl_error_set(err, FL_E_TOO_LARGE, "JSON of %zu bytes, the limit is %zu", len,
                            max_bytes);
    fl_buf_init(&parser.scratch, 0);
    value = read_value(&parser, NULL, 0);
    fl_buf_finish(&parser.scratch);
    if (!value)
        return FL_E_BAD_REQUEST;
    skip_space(&parser);
    if (parser.at < parser.end)
        return fail_at(&parser, parser.at, "more text behind the value");
    *ret_value = FL_TAKE(value);
    return 0;
}

int fl_json_read_secret(int fd, size_t max_bytes, json_t **ret_value, struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = max_bytes};
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    int r = fl_fd_read(fd, max_bytes, &text, err);

    if (r < 0)
        return r;
    r = fl_json_parse(text->data, text->len, &limits, NULL, NULL, ret_value, err);
    explicit_bzero(text->data, text->len);
    return r;
}
