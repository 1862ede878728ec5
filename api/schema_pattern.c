/* Regular expressions of schemas. Their language is RE2's; the matcher is PCRE2, which knows more.
 *
 * So a pattern is first read here: what RE2 does not know is refused in the words of Go's
 * regexp/syntax, and what the two read differently is rewritten. What is left has no look-around,
 * back-reference, possessive or atomic group, recursion or verb; step limits bound what
 * backtracking may still cost. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "api/schema_internal.h"
#include "lib/buf.h"
#include "lib/str.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#define MATCH_STEPS_MAX 200000u
#define MATCH_HEAP_KIB  1024u
#define GROUPS_DEEP_MAX 100u
#define REPEAT_MAX      1000

struct fl_schema_pattern {
    pcre2_code *code;
    pcre2_match_context *limits;
};

struct reader {
    struct fl_arena *arena;
    const char *text;
    size_t len, at;
    struct fl_buf out;
    unsigned depth;
    bool has_operand;  /* something a repetition can apply to stands before */
    size_t repetition; /* where the repetition just read begins; SIZE_MAX: none */
    const char *problem;
};

static bool fail(struct reader *r, const char *what, size_t from, size_t to)
{
    if (to > r->len)
        to = r->len;
    while (to < r->len && ((unsigned char)r->text[to] & 0xc0) == 0x80) /* whole characters */
        to++;
    r->problem = fl_arena_printf(r->arena, "error parsing regexp: %s: `%.*s`", what,
                                 (int)(to - from), r->text + from);
    return false;
}

static bool copy(struct reader *r, size_t n)
{
    fl_buf_append(&r->out, r->text + r->at, n);
    r->at += n;
    return true;
}

static char peek(const struct reader *r, size_t ahead)
{
    return r->at + ahead < r->len ? r->text[r->at + ahead] : '\0';
}

static bool looking_at(const struct reader *r, const char *text)
{
    size_t len = strlen(text);

    return r->len - r->at >= len && memcmp(r->text + r->at, text, len) == 0;
}

static bool is_octal(char c)
{
    return c >= '0' && c <= '7';
}

static bool is_hex(char c)
{
    return c && strchr("0123456789abcdefABCDEF", c);
}

/* \x7f or \x{10ffff} */
static bool read_hex_escape(struct reader *r)
{
    size_t n = 3, value = 0;

    if (peek(r, 2) != '{') {
        if (!is_hex(peek(r, 2)) || !is_hex(peek(r, 3)))
            return fail(r, "invalid escape sequence", r->at, r->at + 2);
        return copy(r, 4);
    }
    for (; is_hex(peek(r, n)) && value <= 0x10ffff; n++)
        value = value * 16 + (size_t)strtol((char[]){peek(r, n), '\0'}, NULL, 16);
    if (n == 3 || value > 0x10ffff || peek(r, n) != '}')
        return fail(r, "invalid escape sequence", r->at, r->at + 2);
    return copy(r, n + 1);
}

/* \123: RE2 has no \8, and a single digit would be a back-reference. */
static bool read_octal_escape(struct reader *r)
{
    unsigned value = 0;
    size_t n = 1;

    if (peek(r, 1) != '0' && !is_octal(peek(r, 2)))
        return fail(r, "invalid escape sequence", r->at, r->at + 2);
    for (; n < 4 && is_octal(peek(r, n)); n++)
        value = value * 8 + (unsigned)(peek(r, n) - '0');
    fl_buf_printf(&r->out, "\\x{%x}", value);
    r->at += n;
    return true;
}

static bool read_property(struct reader *r)
{
    size_t n = 3;

    if (peek(r, 2) == '{') {
        n += peek(r, n) == '^';
        while ((peek(r, n) >= 'a' && peek(r, n) <= 'z') ||
               (peek(r, n) >= 'A' && peek(r, n) <= 'Z') || peek(r, n) == '_')
            n++;
        if (n == 3 || peek(r, n) != '}')
            return fail(r, "invalid character class range", r->at, r->at + n + 1);
        n++;
    } else if (!peek(r, 2) || !strchr("CLMNPSZ", peek(r, 2))) {
        return fail(r, "invalid character class range", r->at, r->at + 3);
    }
    return copy(r, n);
}

/* An escape that stands for one character or a class; the same in and out of brackets. */
static bool read_escape(struct reader *r, bool in_class)
{
    char c = peek(r, 1);

    if (!c)
        return fail(r, "trailing backslash at end of expression", r->len, r->len);
    if (c == 'x')
        return read_hex_escape(r);
    if (is_octal(c))
        return read_octal_escape(r);
    if (c == 'p' || c == 'P')
        return read_property(r);
    if (strchr("aftnrdDwW", c))
        return copy(r, 2);
    if (c == 'v') { /* a class in PCRE2 */
        fl_buf_puts(&r->out, "\\x0b");
    } else if (c == 's') { /* has the vertical tab in PCRE2 */
        fl_buf_puts(&r->out, in_class ? "\\t\\n\\f\\r " : "[\\t\\n\\f\\r ]");
    } else if (c == 'S') {
        fl_buf_puts(&r->out, in_class ? "\\S\\x0b" : "[^\\t\\n\\f\\r ]");
    } else if ((unsigned char)c < 0x80 &&
               !strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", c)) {
        return copy(r, 2);
    } else {
        return fail(r, "invalid escape sequence", r->at, r->at + 2);
    }
    r->at += 2;
    return true;
}

static bool read_class_item(struct reader *r, size_t begin)
{
    static const char *const names[] = {"alnum", "alpha", "ascii", "blank", "cntrl",
                                        "digit", "graph", "lower", "print", "punct",
                                        "space", "upper", "word",  "xdigit"};
    size_t width;

    if (looking_at(r, "[:")) {
        const char *close = memmem(r->text + r->at + 2, r->len - r->at - 2, ":]", 2);
        size_t end = close ? (size_t)(close - r->text) : 0, name = r->at + 2;

        if (close && name < end && r->text[name] == '^')
            name++;
        for (size_t i = 0; close && i < FL_COUNT_OF(names); i++) {
            if (strlen(names[i]) == end - name && memcmp(names[i], r->text + name, end - name) == 0)
                return copy(r, end + 2 - r->at);
        }
        if (close)
            return fail(r, "invalid character class range", r->at, end + 2);
    }
    if (peek(r, 0) == '[') { /* a literal in RE2; "[." and "[=" begin something in PCRE2 */
        fl_buf_puts(&r->out, "\\[");
        r->at++;
        return true;
    }
    if (peek(r, 0) == '\\')
        return read_escape(r, true);
    width = fl_utf8_width(r->text + r->at, r->len - r->at);
    if (width == 0)
        return fail(r, "missing closing ]", begin, r->len);
    return copy(r, width);
}

static bool read_class(struct reader *r)
{
    size_t begin = r->at;

    copy(r, 1);
    if (peek(r, 0) == '^')
        copy(r, 1);
    for (bool first = true; first || peek(r, 0) != ']'; first = false) {
        if (r->at >= r->len)
            return fail(r, "missing closing ]", begin, r->len);
        /* A hyphen stands first, last, or between the ends of a range. */
        if (peek(r, 0) == '-' && !first && peek(r, 1) != ']')
            return fail(r, "invalid character class range", r->at, r->at + 2);
        if (first && peek(r, 0) == ']') {
            fl_buf_puts(&r->out, "\\]");
            r->at++;
        } else if (peek(r, 0) == '-') {
            fl_buf_puts(&r->out, "\\-");
            r->at++;
        } else if (!read_class_item(r, begin)) {
            return false;
        }
        if (peek(r, 0) == '-' && r->at + 1 < r->len && peek(r, 1) != ']') {
            copy(r, 1);
            if (!read_class_item(r, begin))
                return false;
        }
    }
    copy(r, 1);
    r->has_operand = true;
    return true;
}

static bool is_name_char(char c)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* "(?P<name>" and "(?<name>" are read as plain groups: nothing refers to them. */
static bool read_group_name(struct reader *r)
{
    size_t begin = r->at, name = r->at + (peek(r, 2) == 'P' ? 4 : 3), end = name;
    const char *close = memchr(r->text + name, '>', r->len - name);

    while (end < r->len && is_name_char(r->text[end]))
        end++;
    if (!close || end == name || r->text[end] != '>')
        return fail(r, "invalid named capture", begin,
                    close ? (size_t)(close - r->text) + 1 : r->len);
    fl_buf_putc(&r->out, '(');
    r->at = end + 1;
    r->depth++;
    return true;
}

static bool read_flags(struct reader *r)
{
    size_t n = 2;
    bool negated = false, any = false;

    for (;; n++) {
        char c = peek(r, n);

        if (c && strchr("imsU", c)) {
            any = true;
        } else if (c == '-' && !negated) {
            negated = true;
            any = false;
        } else {
            break;
        }
    }
    if ((peek(r, n) != ':' && peek(r, n) != ')') || (negated && !any) ||
        (peek(r, n) == ')' && !any))
        return fail(r, "invalid or unsupported Perl syntax", r->at, r->at + n + 1);
    r->depth += peek(r, n) == ':';
    return copy(r, n + 1);
}

static bool read_open(struct reader *r)
{
    bool ok = true;

    if (r->depth >= GROUPS_DEEP_MAX)
        return fail(r, "expression nests too deeply", 0, r->len);
    if (peek(r, 1) == '*')
        return fail(r, "missing argument to repetition operator", r->at + 1, r->at + 2);
    if (peek(r, 1) != '?') {
        r->depth++;
        copy(r, 1);
    } else if (looking_at(r, "(?P<") || looking_at(r, "(?<")) {
        ok = read_group_name(r);
    } else {
        ok = read_flags(r);
    }
    r->has_operand = false;
    return ok;
}

static int read_number(struct reader *r, size_t *at)
{
    int value = 0;

    if (*at >= r->len || r->text[*at] < '0' || r->text[*at] > '9')
        return -1;
    while (*at < r->len && r->text[*at] >= '0' && r->text[*at] <= '9') {
        if (value <= REPEAT_MAX)
            value = value * 10 + (r->text[*at] - '0');
        (*at)++;
    }
    return value;
}

/* {n}, {n,} or {n,m}: its length, or 0 where a brace is only a brace. */
static size_t repetition_braces(struct reader *r, bool *ret_too_many)
{
    size_t at = r->at + 1;
    int min = read_number(r, &at), max = min;

    if (min < 0)
        return 0;
    if (at < r->len && r->text[at] == ',') {
        at++;
        max = at < r->len && r->text[at] == '}' ? -1 : read_number(r, &at);
        if (max < 0 && !(at < r->len && r->text[at] == '}'))
            return 0;
    }
    if (at >= r->len || r->text[at] != '}')
        return 0;
    *ret_too_many = min > REPEAT_MAX || max > REPEAT_MAX || (max >= 0 && max < min);
    return at + 1 - r->at;
}

static bool read_repetition(struct reader *r, size_t len, bool too_many)
{
    size_t begin = r->at;

    if (too_many)
        return fail(r, "invalid repeat count", r->at, r->at + len);
    if (r->repetition != SIZE_MAX)
        return fail(r, "invalid nested repetition operator", r->repetition, r->at + len);
    if (!r->has_operand)
        return fail(r, "missing argument to repetition operator", r->at, r->at + len);
    copy(r, len);
    if (peek(r, 0) == '?')
        copy(r, 1);
    r->repetition = begin;
    return true;
}

static bool read_backslash(struct reader *r)
{
    char c = peek(r, 1);
    const char *end;

    r->has_operand = true;
    if (c && strchr("AzbB", c))
        return copy(r, 2);
    if (c != 'Q')
        return read_escape(r, false);
    end = memmem(r->text + r->at + 2, r->len - r->at - 2, "\\E", 2);
    if (!end)
        fl_buf_append(&r->out, r->text + r->at, r->len - r->at);
    copy(r, end ? (size_t)(end - r->text) + 2 - r->at : 0);
    if (!end) {
        fl_buf_puts(&r->out, "\\E");
        r->at = r->len;
    }
    return true;
}

static bool read_one(struct reader *r)
{
    char c = peek(r, 0);
    bool too_many = false;
    size_t len = c == '*' || c == '+' || c == '?' ? 1
                 : c == '{'                       ? repetition_braces(r, &too_many)
                                                  : 0;

    if (len > 0)
        return read_repetition(r, len, too_many);
    r->repetition = SIZE_MAX;
    if (c == '[')
        return read_class(r);
    if (c == '(')
        return read_open(r);
    if (c == ')') {
        if (r->depth == 0)
            return fail(r, "unexpected )", 0, r->len);
        r->depth--;
        r->has_operand = true;
        return copy(r, 1);
    }
    if (c == '|') {
        r->has_operand = false;
        return copy(r, 1);
    }
    if (c == '\\')
        return read_backslash(r);
    r->has_operand = true;
    if (c == '{') { /* no repetition: a brace */
        fl_buf_puts(&r->out, "\\{");
        r->at++;
        return true;
    }
    return copy(r, 1);
}

static bool read_all(struct reader *r)
{
    if (r->len > FL_SCHEMA_PATTERN_MAX) {
        r->problem = fl_arena_printf(r->arena, "is longer than %zu bytes", FL_SCHEMA_PATTERN_MAX);
        return false;
    }
    while (r->at < r->len) {
        if (!read_one(r))
            return false;
    }
    if (r->depth > 0)
        return fail(r, "missing closing )", 0, r->len);
    return true;
}

static void free_pattern(void *user)
{
    struct fl_schema_pattern *pattern = user;

    pcre2_code_free(pattern->code);
    pcre2_match_context_free(pattern->limits);
}

static struct fl_schema_pattern *build(struct fl_arena *arena, const char *text, size_t len,
                                       const char **ret_problem)
{
    struct fl_schema_pattern *pattern = fl_new(arena, struct fl_schema_pattern);
    pcre2_compile_context *options = pcre2_compile_context_create(NULL);
    PCRE2_UCHAR words[128];
    PCRE2_SIZE at;
    int code;

    pcre2_set_newline(options, PCRE2_NEWLINE_LF);
    pattern->code = pcre2_compile((PCRE2_SPTR)text, len,
                                  PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C |
                                      PCRE2_NO_AUTO_CAPTURE,
                                  &code, &at, options);
    pcre2_compile_context_free(options);
    if (!pattern->code) {
        (void)pcre2_get_error_message(code, words, sizeof(words));
        *ret_problem = fl_arena_printf(arena, "error parsing regexp: %s", (const char *)words);
        return NULL;
    }
    /* Where there is no JIT compiler the interpreter does. */
    (void)pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE);
    pattern->limits = pcre2_match_context_create(NULL);
    if (!pattern->limits)
        abort();
    pcre2_set_match_limit(pattern->limits, MATCH_STEPS_MAX);
    pcre2_set_heap_limit(pattern->limits, MATCH_HEAP_KIB);
    fl_arena_on_reset(arena, free_pattern, pattern);
    return pattern;
}

struct fl_schema_pattern *fl_schema_pattern_compile(struct fl_arena *arena, const char *pattern,
                                                    const char **ret_problem)
{
    struct reader reader = {
        .arena = arena, .text = pattern, .len = strlen(pattern), .repetition = SIZE_MAX};
    struct fl_schema_pattern *made = NULL;

    fl_buf_init(&reader.out, 0);
    if (read_all(&reader))
        made = build(arena, fl_buf_text(&reader.out), reader.out.len, &reader.problem);
    fl_buf_finish(&reader.out);
    *ret_problem = reader.problem;
    return made;
}

/* A match needs a little memory for its offsets; the stack serves where that is enough. */
struct scratch {
    _Alignas(max_align_t) char bytes[1024];
    size_t used;
};

static void *scratch_alloc(PCRE2_SIZE size, void *user)
{
    struct scratch *scratch = user;
    size_t rounded = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    void *ptr;

    if (rounded < size || rounded > sizeof(scratch->bytes) - scratch->used)
        return malloc(size);
    ptr = scratch->bytes + scratch->used;
    scratch->used += rounded;
    return ptr;
}

static void scratch_free(void *ptr, void *user)
{
    struct scratch *scratch = user;

    if ((char *)ptr < scratch->bytes || (char *)ptr >= scratch->bytes + sizeof(scratch->bytes))
        free(ptr);
}

int fl_schema_pattern_find(const struct fl_schema_pattern *pattern, const char *text, size_t len,
                           size_t from, size_t *ret_start, size_t *ret_end)
{
    struct scratch scratch;
    pcre2_general_context *memory;
    pcre2_match_data *data;
    int r;

    scratch.used = 0;
    memory = pcre2_general_context_create(scratch_alloc, scratch_free, &scratch);
    data = pcre2_match_data_create(1, memory);
    if (!data)
        abort();
    r = pcre2_match(pattern->code, (PCRE2_SPTR)text, len, from, 0, data, pattern->limits);
    if (r >= 0) {
        *ret_start = pcre2_get_ovector_pointer(data)[0];
        *ret_end = pcre2_get_ovector_pointer(data)[1];
    }
    pcre2_match_data_free(data);
    pcre2_general_context_free(memory);
    if (r >= 0)
        return 1;
    return r == PCRE2_ERROR_NOMATCH ? 0 : -1;
}

int fl_schema_pattern_match(const struct fl_schema_pattern *pattern, const char *text, size_t len)
{
    size_t start, end;

    return fl_schema_pattern_find(pattern, text, len, 0, &start, &end);
}
