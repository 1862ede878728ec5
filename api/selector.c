#include "api/selector.h"

#include "api/meta.h"
#include "lib/str.h"

#include <stdint.h>

#define TEXT_MAX         ((size_t)16 * 1024)
#define REQUIREMENTS_MAX 256
#define VALUES_MAX       256

enum op { OP_IN, OP_NOT_IN, OP_EXISTS, OP_NOT_EXISTS, OP_GREATER, OP_LESS };

struct requirement {
    const char *key;
    enum op op;
    const char **values;
    size_t value_count;
};

struct fl_selector {
    struct requirement *items;
    const char **keys;
    size_t count;
    bool absent_is_empty; /* fields: a missing one reads as "" */
};

struct parser {
    struct fl_arena *arena;
    const char *start, *at;
    struct fl_selector *selector;
};

static int bad(const struct parser *parser, struct fl_error *err, const char *what)
{
    return fl_error_set(err, FL_E_BAD_REQUEST,
                        "unable to parse requirement: %s at position %zu of %s", what,
                        (size_t)(parser->at - parser->start), parser->start);
}

static struct fl_selector *selector_create(struct fl_arena *arena)
{
    struct fl_selector *selector = fl_new(arena, struct fl_selector);

    selector->items = fl_new_array(arena, struct requirement, REQUIREMENTS_MAX);
    selector->keys = fl_new_array(arena, const char *, REQUIREMENTS_MAX);
    return selector;
}

static struct requirement *add_requirement(struct fl_selector *selector, const char *key,
                                           enum op op)
{
    struct requirement *item;

    if (selector->count == REQUIREMENTS_MAX)
        return NULL;
    selector->keys[selector->count] = key;
    item = &selector->items[selector->count++];
    item->key = key;
    item->op = op;
    return item;
}

static bool add_value(struct fl_arena *arena, struct requirement *item, const char *value)
{
    if (!item->values)
        item->values = fl_new_array(arena, const char *, VALUES_MAX);
    if (item->value_count == VALUES_MAX)
        return false;
    item->values[item->value_count++] = value;
    return true;
}

static void skip_space(struct parser *parser)
{
    while (*parser->at == ' ' || *parser->at == '\t')
        parser->at++;
}

static bool accept(struct parser *parser, const char *token)
{
    skip_space(parser);
    if (!fl_str_has_prefix(parser->at, token))
        return false;
    parser->at += strlen(token);
    return true;
}

static char *read_word(struct parser *parser)
{
    size_t len;

    skip_space(parser);
    len = strcspn(parser->at, " \t,=!()<>");
    parser->at += len;
    return fl_arena_strndup(parser->arena, parser->at - len, len);
}

static bool accept_word(struct parser *parser, const char *word)
{
    const char *before = parser->at;

    if (strcmp(read_word(parser), word) == 0)
        return true;
    parser->at = before;
    return false;
}

static int check_value(const struct parser *parser, const char *value, struct fl_error *err)
{
    const char *why;

    if (!fl_name_is_label_value(value, &why))
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "unable to parse requirement: values: Invalid value: \"%s\": %s", value,
                            why);
    (void)parser;
    return 0;
}

static int read_set(struct parser *parser, struct requirement *item, struct fl_error *err)
{
    int r;

    if (!accept(parser, "("))
        return bad(parser, err, "expected '('");
    do {
        const char *value = read_word(parser);

        r = check_value(parser, value, err);
        if (r < 0)
            return r;
        if (!add_value(parser->arena, item, value))
            return bad(parser, err, "too many values");
    } while (accept(parser, ","));
    if (!accept(parser, ")"))
        return bad(parser, err, "expected ',' or ')'");
    return 0;
}

static int read_one_value(struct parser *parser, struct requirement *item, struct fl_error *err)
{
    const char *value = read_word(parser);
    int64_t number;
    int r = check_value(parser, value, err);

    if (r < 0)
        return r;
    if ((item->op == OP_GREATER || item->op == OP_LESS) &&
        !fl_str_to_int64(value, INT64_MIN, INT64_MAX, &number))
        return bad(parser, err, "for 'Gt', 'Lt' operators, the value must be an integer");
    (void)add_value(parser->arena, item, value);
    return 0;
}

static int read_operator(struct parser *parser, struct requirement *item, struct fl_error *err)
{
    if (accept(parser, "!=")) {
        item->op = OP_NOT_IN;
        return read_one_value(parser, item, err);
    }
    if (accept(parser, "==") || accept(parser, "=")) {
        item->op = OP_IN;
        return read_one_value(parser, item, err);
    }
    if (accept(parser, ">")) {
        item->op = OP_GREATER;
        return read_one_value(parser, item, err);
    }
    if (accept(parser, "<")) {
        item->op = OP_LESS;
        return read_one_value(parser, item, err);
    }
    if (accept_word(parser, "in")) {
        item->op = OP_IN;
        return read_set(parser, item, err);
    }
    if (accept_word(parser, "notin")) {
        item->op = OP_NOT_IN;
        return read_set(parser, item, err);
    }
    item->op = OP_EXISTS;
    return 0;
}

static int read_requirement(struct parser *parser, struct fl_error *err)
{
    bool negated = accept(parser, "!");
    struct requirement *item;
    const char *key = read_word(parser), *why;

    if (!fl_name_is_qualified(key, &why))
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "unable to parse requirement: <nil>: Invalid value: \"%s\": %s", key,
                            why);
    item = add_requirement(parser->selector, key, OP_NOT_EXISTS);
    if (!item)
        return bad(parser, err, "too many requirements");
    return negated ? 0 : read_operator(parser, item, err);
}

static int check_length(const char *text, struct fl_error *err)
{
    if (strlen(text) > TEXT_MAX)
        return fl_error_set(err, FL_E_BAD_REQUEST, "selector of more than %zu bytes", TEXT_MAX);
    return 0;
}

int fl_label_selector_parse(struct fl_arena *arena, const char *text,
                            struct fl_selector **ret_selector, struct fl_error *err)
{
    struct parser parser = {.arena = arena, .start = text, .at = text};
    int r = check_length(text, err);

    if (r < 0)
        return r;
    skip_space(&parser);
    if (!*parser.at) {
        *ret_selector = NULL;
        return 0;
    }
    parser.selector = selector_create(arena);
    do {
        r = read_requirement(&parser, err);
        if (r < 0)
            return r;
    } while (accept(&parser, ","));
    skip_space(&parser);
    if (*parser.at)
        return bad(&parser, err, "unexpected text");
    *ret_selector = parser.selector;
    return 0;
}

static int add_expression(struct fl_arena *arena, struct fl_selector *selector,
                          const json_t *expression, struct fl_error *err)
{
    static const char *const names[] = {"In", "NotIn", "Exists", "DoesNotExist"};
    const char *key = fl_json_str(expression, "key"), *op = fl_json_str(expression, "operator");
    const json_t *values = json_object_get(expression, "values");
    struct requirement *item = NULL;
    size_t i = 0;
    json_t *value;

    while (op && i < FL_COUNT_OF(names) && strcmp(op, names[i]) != 0)
        i++;
    if (!key || !op || i == FL_COUNT_OF(names))
        return fl_error_set(err, FL_E_BAD_REQUEST, "\"%s\" is not a valid label selector operator",
                            fl_str_or(op, ""));
    item = add_requirement(selector, fl_arena_strdup(arena, key), (enum op)i);
    json_array_foreach((json_t *)values, i, value) {
        if (!item || !json_is_string(value) ||
            !add_value(arena, item, fl_arena_strdup(arena, json_string_value(value))))
            return fl_error_set(err, FL_E_BAD_REQUEST, "label selector: values must be strings");
    }
    if (!item || ((item->op == OP_IN || item->op == OP_NOT_IN) != (item->value_count > 0)))
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "label selector: %s of \"%s\" has the wrong number of values", op, key);
    return 0;
}

int fl_label_selector_from_json(struct fl_arena *arena, const json_t *value,
                                struct fl_selector **ret_selector, struct fl_error *err)
{
    struct fl_selector *selector = selector_create(arena);
    const char *key;
    json_t *item;
    size_t i;
    int r;

    json_object_foreach(json_object_get(value, "matchLabels"), key, item) {
        struct requirement *equal = add_requirement(selector, fl_arena_strdup(arena, key), OP_IN);

        if (!equal || !json_is_string(item))
            return fl_error_set(err, FL_E_BAD_REQUEST, "matchLabels.%s: must be a string", key);
        (void)add_value(arena, equal, fl_arena_strdup(arena, json_string_value(item)));
    }
    json_array_foreach(json_object_get(value, "matchExpressions"), i, item) {
        r = add_expression(arena, selector, item, err);
        if (r < 0)
            return r;
    }
    *ret_selector = selector->count ? selector : NULL;
    return 0;
}

/* Text up to an unescaped character of `stops`, unescaped. */
static char *read_field_text(struct parser *parser, const char *stops)
{
    char *out = fl_alloc(parser->arena, strlen(parser->at) + 1), *end = out;

    while (*parser->at && !strchr(stops, *parser->at)) {
        if (*parser->at == '\\' && parser->at[1])
            parser->at++;
        *end++ = *parser->at++;
    }
    return out;
}

static int read_field(struct parser *parser, struct fl_error *err)
{
    struct requirement *item;
    char *key = read_field_text(parser, "=!,");
    enum op op;

    if (accept(parser, "!="))
        op = OP_NOT_IN;
    else if (accept(parser, "==") || accept(parser, "="))
        op = OP_IN;
    else
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "invalid field selector: '%s'; can't understand '%s'", parser->start,
                            key);
    item = add_requirement(parser->selector, key, op);
    if (!item)
        return bad(parser, err, "too many requirements");
    (void)add_value(parser->arena, item, read_field_text(parser, ","));
    return 0;
}

int fl_field_selector_parse(struct fl_arena *arena, const char *text,
                            struct fl_selector **ret_selector, struct fl_error *err)
{
    struct parser parser = {.arena = arena, .start = text, .at = text};
    int r = check_length(text, err);

    if (r < 0)
        return r;
    *ret_selector = NULL;
    if (!*text)
        return 0;
    parser.selector = selector_create(arena);
    parser.selector->absent_is_empty = true;
    do {
        r = read_field(&parser, err);
        if (r < 0)
            return r;
    } while (accept(&parser, ","));
    *ret_selector = parser.selector;
    return 0;
}

static bool has_value(const struct requirement *item, const char *value)
{
    for (size_t i = 0; i < item->value_count; i++)
        if (strcmp(item->values[i], value) == 0)
            return true;
    return false;
}

static bool compare_numbers(const struct requirement *item, const char *value)
{
    int64_t have, bound;

    if (!value || !fl_str_to_int64(value, INT64_MIN, INT64_MAX, &have) ||
        !fl_str_to_int64(item->values[0], INT64_MIN, INT64_MAX, &bound))
        return false;
    return item->op == OP_GREATER ? have > bound : have < bound;
}

static bool requirement_matches(const struct requirement *item, const char *value)
{
    switch (item->op) {
    case OP_IN:
        return value && has_value(item, value);
    case OP_NOT_IN:
        return !value || !has_value(item, value);
    case OP_EXISTS:
        return value != NULL;
    case OP_NOT_EXISTS:
        return value == NULL;
    default:
        return compare_numbers(item, value);
    }
}

bool fl_selector_matches(const struct fl_selector *selector,
                         const char *(*get)(void *user, const char *key), void *user)
{
    for (size_t i = 0; selector && i < selector->count; i++) {
        const char *value = get(user, selector->items[i].key);

        if (!value && selector->absent_is_empty)
            value = "";
        if (!requirement_matches(&selector->items[i], value))
            return false;
    }
    return true;
}

size_t fl_selector_keys(const struct fl_selector *selector, const char *const **ret_keys)
{
    *ret_keys = selector ? selector->keys : NULL;
    return selector ? selector->count : 0;
}

const char *fl_selector_exact(const struct fl_selector *selector, const char *key)
{
    for (size_t i = 0; selector && i < selector->count; i++) {
        const struct requirement *item = &selector->items[i];

        if (item->op == OP_IN && item->value_count == 1 && strcmp(item->key, key) == 0)
            return item->values[0];
    }
    return NULL;
}
