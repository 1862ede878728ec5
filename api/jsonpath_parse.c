#include "api/jsonpath_internal.h"
#include "lib/str.h"

#include <stdlib.h>

struct parser {
    struct fl_jsonpath *path;
    const char *text;
    size_t len, at;
    bool bare; /* ends with the text, not with '}' */
    unsigned nesting;
    struct fl_error *err;
    bool is_range, is_end; /* what the action began with */
};

#define FAIL(parser, ...) fl_error_set((parser)->err, FL_E_BAD_REQUEST, __VA_ARGS__)

static int parse_action(struct parser *parser, struct jsonpath_steps *steps);

static char peek(const struct parser *parser)
{
    return parser->at < parser->len ? parser->text[parser->at] : '\0';
}

static bool looking_at(const struct parser *parser, const char *text)
{
    size_t len = strlen(text);

    return parser->len - parser->at >= len && !memcmp(parser->text + parser->at, text, len);
}

static struct jsonpath_step *add_step(struct parser *parser, struct jsonpath_steps *steps,
                                      enum jsonpath_step_type type)
{
    if (steps->count == steps->cap) {
        size_t cap = steps->cap ? steps->cap * 2 : 4;
        struct jsonpath_step *items = fl_new_array(parser->path->arena, struct jsonpath_step, cap);

        if (steps->count)
            memcpy(items, steps->items, steps->count * sizeof(*items));
        steps->items = items;
        steps->cap = cap;
    }
    steps->items[steps->count].type = type;
    return &steps->items[steps->count++];
}

static struct jsonpath_part *add_part(struct fl_jsonpath *path, enum jsonpath_part_type type)
{
    if (path->part_count == path->part_cap) {
        size_t cap = path->part_cap ? path->part_cap * 2 : 4;
        struct jsonpath_part *parts = fl_new_array(path->arena, struct jsonpath_part, cap);

        if (path->part_count)
            memcpy(parts, path->parts, path->part_count * sizeof(*parts));
        path->parts = parts;
        path->part_cap = cap;
    }
    path->parts[path->part_count].type = type;
    return &path->parts[path->part_count++];
}

static void add_literal(struct parser *parser, struct jsonpath_steps *steps, json_t *value)
{
    add_step(parser, steps, JSONPATH_LITERAL)->literal =
        fl_json_in_arena(parser->path->arena, value);
}

static bool ends_name(char c)
{
    return c == '\0' || strchr(" \t\r\n.,[]$@{}", c);
}

static bool begins_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (unsigned char)c >= 0x80;
}

/* A field up to what ends it; a backslash takes the next character as it is. */
static void parse_field(struct parser *parser, struct jsonpath_steps *steps)
{
    char *name = fl_alloc(parser->path->arena, parser->len - parser->at + 1);
    size_t start = parser->at, used = 0;

    while (!ends_name(peek(parser))) {
        if (peek(parser) == '\\' && parser->at + 1 < parser->len)
            parser->at++;
        if (peek(parser) != '\\')
            name[used++] = peek(parser);
        parser->at++;
    }
    if (parser->at - start == 1 && *name == '*')
        add_step(parser, steps, JSONPATH_WILDCARD);
    else
        add_step(parser, steps, JSONPATH_FIELD)->name = name;
}

/* 'text' or "text" with Go's simple escapes. */
static int parse_quote(struct parser *parser, struct jsonpath_steps *steps)
{
    static const char from[] = "abfnrtv\\\"'", to[] = "\a\b\f\n\r\t\v\\\"'";
    char quote = parser->text[parser->at++];
    char *text = fl_alloc(parser->path->arena, parser->len - parser->at + 1);
    size_t used = 0;

    for (; peek(parser) != quote; parser->at++) {
        char c = peek(parser);

        if (c == '\0' || c == '\n')
            return FAIL(parser, "unterminated quoted string");
        if (c == '\\') {
            const char *escape;

            c = parser->text[++parser->at];
            escape = c ? strchr(from, c) : NULL;
            if (!escape)
                return FAIL(parser, "unquote string error: invalid syntax");
            c = to[escape - from];
        }
        text[used++] = c;
    }
    parser->at++;
    if (!fl_utf8_valid(text, used))
        return FAIL(parser, "invalid UTF-8");
    add_literal(parser, steps, json_stringn(text, used));
    return 0;
}

static int parse_number(struct parser *parser, struct jsonpath_steps *steps)
{
    size_t start = parser->at;
    char *text, *end;
    int64_t integer;
    double real;

    parser->at++;
    while (peek(parser) == '.' || (peek(parser) >= '0' && peek(parser) <= '9'))
        parser->at++;
    text = fl_arena_strndup(parser->path->arena, parser->text + start, parser->at - start);
    if (fl_str_to_int64(text + (*text == '+'), INT64_MIN, INT64_MAX, &integer)) {
        add_literal(parser, steps, json_integer(integer));
        return 0;
    }
    real = strtod(text, &end);
    if (*end || end == text || !(real < 1e308 && real > -1e308))
        return FAIL(parser, "cannot parse number %.100s", text);
    add_literal(parser, steps, json_real(real));
    return 0;
}

static int parse_word(struct parser *parser, struct jsonpath_steps *steps)
{
    size_t start = parser->at;
    char *word;

    while (!ends_name(peek(parser)))
        parser->at++;
    word = fl_arena_strndup(parser->path->arena, parser->text + start, parser->at - start);
    if (!strcmp(word, "true") || !strcmp(word, "false"))
        add_literal(parser, steps, json_boolean(*word == 't'));
    else if (!strcmp(word, "range") && steps->count == 0)
        parser->is_range = true;
    else if (!strcmp(word, "end") && steps->count == 0)
        parser->is_end = true;
    else
        return FAIL(parser, "unrecognized identifier %.100s", word);
    return 0;
}

/* Parses a piece of the text as an action of its own. */
static int parse_piece(struct parser *parser, const char *text, size_t len,
                       struct jsonpath_steps *steps)
{
    struct parser inner = {
        .path = parser->path,
        .text = text,
        .len = len,
        .bare = true,
        .nesting = parser->nesting + 1,
        .err = parser->err,
    };
    int r;

    if (inner.nesting > JSONPATH_MAX_NESTING)
        return FAIL(parser, "path nests deeper than %u", JSONPATH_MAX_NESTING);
    r = parse_action(&inner, steps);
    if (r == 0 && (inner.is_range || inner.is_end))
        return FAIL(parser, "range and end are actions of their own");
    return r;
}

/* "a", "a:b", "a:b:c" with any part left out. */
static int parse_slice(struct parser *parser, const char *text, struct jsonpath_steps *steps)
{
    struct jsonpath_step *step = add_step(parser, steps, JSONPATH_SLICE);
    const char *rest = text, *part;
    size_t count = 0;

    while ((part = fl_str_next(parser->path->arena, &rest, ':'))) {
        if (count == 3 ||
            (*part && !fl_str_to_int64(part, INT32_MIN, INT32_MAX, &step->bounds[count].value)))
            return FAIL(parser, "invalid array index %.100s", text);
        step->bounds[count++].known = *part;
    }
    if (count == 1) {
        /* [] is [0], as kubectl takes it */
        step->bounds[1] = (struct jsonpath_bound){true, true, step->bounds[0].value + 1};
    }
    return 0;
}

static int parse_union(struct parser *parser, const char *text, struct jsonpath_steps *steps)
{
    struct jsonpath_step *step = add_step(parser, steps, JSONPATH_UNION);
    struct jsonpath_steps *branches;
    size_t max = 1, count = 0;
    const char *rest = text, *part;

    for (const char *c = text; *c; c++)
        max += *c == ',';
    branches = fl_new_array(parser->path->arena, struct jsonpath_steps, max);
    step->branches = branches;
    step->branch_count = max;
    while ((part = fl_str_next(parser->path->arena, &rest, ','))) {
        char *inner;
        int r;

        part += strspn(part, " ");
        inner = fl_arena_printf(parser->path->arena, "[%s", part);
        while (inner[strlen(inner) - 1] == ' ')
            inner[strlen(inner) - 1] = '\0';
        inner = fl_arena_printf(parser->path->arena, "%s]", inner);
        r = parse_piece(parser, inner, strlen(inner), &branches[count++]);
        if (r < 0)
            return r;
    }
    return 0;
}

static int parse_array(struct parser *parser, struct jsonpath_steps *steps)
{
    size_t start = ++parser->at, len;
    char *text;

    while (peek(parser) != ']') {
        if (peek(parser) == '\0' || peek(parser) == '\n')
            return FAIL(parser, "unterminated array");
        parser->at++;
    }
    len = parser->at++ - start;
    text = fl_arena_strndup(parser->path->arena, parser->text + start, len);
    if (strchr(text, ','))
        return parse_union(parser, text, steps);
    if (len >= 2 && *text == '\'' && strchr(text + 1, '\'') == text + len - 1) {
        /* as kubectl reads it: what is quoted is fields, separated by dots not escaped */
        text[0] = '.';
        return parse_piece(parser, text, len - 1, steps);
    }
    return parse_slice(parser, strcmp(text, "*") ? text : ":", steps);
}

static bool find_compare(const char *text, size_t len, enum jsonpath_compare *ret_compare)
{
    static const struct {
        const char *text;
        enum jsonpath_compare compare;
    } compares[] = {
        {"==", JSONPATH_EQUAL},      {"!=", JSONPATH_NOT_EQUAL}, {"<", JSONPATH_LESS},
        {"<=", JSONPATH_LESS_EQUAL}, {">", JSONPATH_GREATER},    {">=", JSONPATH_GREATER_EQUAL},
    };

    for (size_t i = 0; i < FL_COUNT_OF(compares); i++) {
        if (strlen(compares[i].text) == len && !memcmp(compares[i].text, text, len)) {
            *ret_compare = compares[i].compare;
            return true;
        }
    }
    return false;
}

/* The text between "[?(" and the ")" that ends it; parentheses within quotes do not. */
static int read_filter(struct parser *parser, const char **ret_text, size_t *ret_len)
{
    size_t start = parser->at += 3;
    char quote = '\0';

    for (;; parser->at++) {
        char c = peek(parser);

        if (c == '\0' || c == '\n')
            return FAIL(parser, "unterminated filter");
        if (quote) {
            if (c == quote && parser->text[parser->at - 1] != '\\')
                quote = '\0';
        } else if (c == '"' || c == '\'') {
            quote = c;
        } else if (c == ')') {
            break;
        }
    }
    *ret_text = parser->text + start;
    *ret_len = parser->at - start;
    parser->at++;
    if (peek(parser) != ']')
        return FAIL(parser, "unclosed array expect ]");
    parser->at++;
    return 0;
}

static int parse_filter(struct parser *parser, struct jsonpath_steps *steps)
{
    struct jsonpath_steps left = {0}, right = {0};
    enum jsonpath_compare compare = JSONPATH_EXISTS;
    struct jsonpath_step *step;
    const char *text = NULL;
    size_t len = 0, split = 0, sign;
    int r = read_filter(parser, &text, &len);

    if (r < 0)
        return r;
    while (split < len && !strchr("!<>=", text[split]))
        split++;
    for (sign = split; sign < len && strchr("!<>=", text[sign]);)
        sign++;
    if (split == 0 || split == len || sign == len) {
        r = parse_piece(parser, text, len, &left);
    } else {
        if (!find_compare(text + split, sign - split, &compare))
            return FAIL(parser, "unrecognized filter operator %.*s", (int)(sign - split),
                        text + split);
        r = parse_piece(parser, text, split, &left);
        if (r >= 0)
            r = parse_piece(parser, text + sign, len - sign, &right);
    }
    step = add_step(parser, steps, JSONPATH_FILTER);
    step->compare = compare;
    step->left = left;
    step->right = right;
    return r;
}

static int parse_recursive(struct parser *parser, struct jsonpath_steps *steps)
{
    if (steps->count && steps->items[steps->count - 1].type == JSONPATH_RECURSIVE)
        return FAIL(parser, "invalid multiple recursive descent");
    parser->at += 2;
    add_step(parser, steps, JSONPATH_RECURSIVE);
    if (begins_name(peek(parser)))
        parse_field(parser, steps);
    return 0;
}

static int parse_step(struct parser *parser, struct jsonpath_steps *steps)
{
    char c = peek(parser);

    if (looking_at(parser, "[?("))
        return parse_filter(parser, steps);
    if (looking_at(parser, ".."))
        return parse_recursive(parser, steps);
    if (c == ' ' || c == '@' || c == '$') {
        parser->at++;
        return 0;
    }
    if (c == '[')
        return parse_array(parser, steps);
    if (c == '"' || c == '\'')
        return parse_quote(parser, steps);
    if (c == '.') {
        parser->at++;
        parse_field(parser, steps);
        return 0;
    }
    if (c == '+' || c == '-' || (c >= '0' && c <= '9'))
        return parse_number(parser, steps);
    if (begins_name(c))
        return parse_word(parser, steps);
    return FAIL(parser, "unrecognized character in action at %zu", parser->at);
}

static int parse_action(struct parser *parser, struct jsonpath_steps *steps)
{
    for (;;) {
        char c = peek(parser);
        int r;

        if (parser->at >= parser->len && parser->bare)
            return 0;
        if (c == '}' && !parser->bare) {
            parser->at++;
            return 0;
        }
        if (c == '\0' || c == '\n' || c == '\r')
            return FAIL(parser, "unclosed action");
        r = parse_step(parser, steps);
        if (r < 0)
            return r;
    }
}

/* The parts of a template: text, and actions in braces. */
static int parse_template(struct parser *parser)
{
    while (parser->at < parser->len) {
        const char *brace = memchr(parser->text + parser->at, '{', parser->len - parser->at);
        size_t end = brace ? (size_t)(brace - parser->text) : parser->len;
        struct jsonpath_steps steps = {0};
        struct jsonpath_part *part;
        int r;

        if (end > parser->at)
            add_part(parser->path, JSONPATH_TEXT)->text =
                fl_arena_strndup(parser->path->arena, parser->text + parser->at, end - parser->at);
        if (!brace)
            return 0;
        parser->at = end + 1;
        parser->is_range = parser->is_end = false;
        r = parse_action(parser, &steps);
        if (r < 0)
            return r;
        part = add_part(parser->path, parser->is_range ? JSONPATH_RANGE
                                      : parser->is_end ? JSONPATH_END
                                                       : JSONPATH_ACTION);
        part->steps = steps;
    }
    return 0;
}

/* Tells each range where it ends; one without an {end} goes on to the end of the text. */
static int match_ranges(struct parser *parser)
{
    struct fl_jsonpath *path = parser->path;
    size_t open[JSONPATH_MAX_NESTING], depth = 0;

    for (size_t i = 0; i < path->part_count; i++) {
        struct jsonpath_part *part = &path->parts[i];

        part->end = path->part_count;
        if (part->type == JSONPATH_RANGE) {
            if (depth == FL_COUNT_OF(open))
                return FAIL(parser, "ranges nest deeper than %u", JSONPATH_MAX_NESTING);
            open[depth++] = i;
        } else if (part->type == JSONPATH_END) {
            if (depth == 0)
                return FAIL(parser, "not in range, nothing to end");
            path->parts[open[--depth]].end = i + 1;
        }
    }
    return 0;
}

int fl_jsonpath_parse(struct fl_jsonpath *path, const char *text, bool is_template,
                      struct fl_error *err)
{
    struct parser parser = {.path = path, .text = text, .len = strlen(text), .err = err};
    int r;

    if (parser.len > JSONPATH_MAX_BYTES)
        return FAIL(&parser, "path is longer than %zu bytes", JSONPATH_MAX_BYTES);
    if (!is_template && *text != '{')
        parser.text =
            fl_arena_printf(path->arena, "{%s%s}", strchr(".[$@", *text) ? "" : ".", text);
    parser.len = strlen(parser.text);
    r = parse_template(&parser);
    return r < 0 ? r : match_ranges(&parser);
}
