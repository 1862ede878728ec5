#include "api/cel_internal.h"
#include "lib/str.h"

/* A recursive descent parser with a table of binary precedences. Macros become nodes of their own
 * here, as the language defines them by their shape. */

struct parser {
    struct fl_cel *program;
    struct cel_lexer lexer;
    struct cel_token token; /* the next one */
    unsigned nesting;
    struct fl_error *err;
};

static int parse_expression(struct parser *parser, struct cel_node **ret_node);
static int parse_unary(struct parser *parser, struct cel_node **ret_node);

#define FAIL(parser, position, ...)                                                                \
    fl_error_negative(                                                                             \
        fl_cel_syntax_error((parser)->program->text, position, (parser)->err, __VA_ARGS__))

static int advance(struct parser *parser)
{
    return fl_cel_lex(&parser->lexer, &parser->token, parser->err);
}

static bool at(const struct parser *parser, const char *punctuation)
{
    return parser->token.type == CEL_T_PUNCTUATION && !strcmp(parser->token.text, punctuation);
}

/* 1: it was there and is behind us; 0: it is not there. */
static int accept(struct parser *parser, const char *punctuation)
{
    int r;

    if (!at(parser, punctuation))
        return 0;
    r = advance(parser);
    return r < 0 ? r : 1;
}

static int expect(struct parser *parser, const char *punctuation)
{
    int r = accept(parser, punctuation);

    if (r == 0)
        return FAIL(parser, parser->token.position, "expected '%s', got '%.40s'", punctuation,
                    parser->token.text);
    return r < 0 ? r : 0;
}

static struct cel_node *new_node(struct parser *parser, enum cel_op op, uint32_t position)
{
    struct cel_node *node = fl_new(parser->program->arena, struct cel_node);

    node->op = op;
    node->position = position;
    node->depth = 1;
    return node;
}

static void set_args(struct parser *parser, struct cel_node *node, struct cel_node *const *args,
                     size_t count)
{
    node->args = fl_new_array(parser->program->arena, struct cel_node *, count);
    node->count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        node->args[i] = args[i];
        if (args[i]->depth >= node->depth)
            node->depth = (uint16_t)(args[i]->depth + 1);
    }
}

static int check_depth(struct parser *parser, const struct cel_node *node)
{
    if (node->depth > CEL_MAX_DEPTH)
        return FAIL(parser, node->position, "expression nests deeper than %u", CEL_MAX_DEPTH);
    return 0;
}

/* A growing list of nodes, for arguments and elements. */
struct nodes {
    struct cel_node **items;
    bool *optional;
    size_t count, cap;
};

static void push(struct parser *parser, struct nodes *nodes, struct cel_node *node, bool optional)
{
    if (nodes->count == nodes->cap) {
        size_t cap = nodes->cap ? nodes->cap * 2 : 4;
        struct cel_node **items = fl_new_array(parser->program->arena, struct cel_node *, cap);
        bool *flags = fl_new_array(parser->program->arena, bool, cap);

        if (nodes->count) {
            memcpy(items, nodes->items, nodes->count * sizeof(*items));
            memcpy(flags, nodes->optional, nodes->count * sizeof(*flags));
        }
        nodes->items = items;
        nodes->optional = flags;
        nodes->cap = cap;
    }
    nodes->optional[nodes->count] = optional;
    nodes->items[nodes->count++] = node;
}

/* Expressions up to `end`; `elements` allows `?x` and a trailing comma. */
static int parse_list(struct parser *parser, const char *end, bool elements, struct nodes *list)
{
    int r = accept(parser, end);

    while (r == 0) {
        struct cel_node *node = NULL;
        int optional = elements ? accept(parser, "?") : 0;

        r = optional < 0 ? optional : parse_expression(parser, &node);
        if (r < 0)
            return r;
        push(parser, list, node, optional > 0);
        r = accept(parser, ",");
        if (r < 0)
            return r;
        if (r == 0)
            return expect(parser, end);
        r = elements ? accept(parser, end) : 0;
    }
    return r < 0 ? r : 0;
}

static int parse_map(struct parser *parser, struct cel_node *node)
{
    struct nodes list = {0};
    int r = accept(parser, "}");

    while (r == 0) {
        struct cel_node *key = NULL, *value = NULL;
        int optional = accept(parser, "?");

        r = optional < 0 ? optional : parse_expression(parser, &key);
        if (r >= 0)
            r = expect(parser, ":");
        if (r >= 0)
            r = parse_expression(parser, &value);
        if (r < 0)
            return r;
        push(parser, &list, key, false);
        push(parser, &list, value, optional > 0);
        r = accept(parser, ",");
        if (r == 0) {
            r = expect(parser, "}");
            break;
        }
        if (r > 0)
            r = accept(parser, "}");
    }
    if (r < 0)
        return r;
    set_args(parser, node, list.items, list.count);
    node->optional_args = list.optional;
    return 0;
}

bool fl_cel_is_reserved(const char *name)
{
    static const char *const reserved[] = {
        "as",  "break",  "const", "continue", "else",    "for",       "function",
        "if",  "import", "let",   "loop",     "package", "namespace", "return",
        "var", "void",   "while", "in",       "true",    "false",     "null",
    };

    for (size_t i = 0; i < FL_COUNT_OF(reserved); i++) {
        if (!strcmp(name, reserved[i]))
            return true;
    }
    return false;
}

/* `call` has its receiver and arguments; it becomes that macro. */
static int make_macro(struct parser *parser, struct cel_node *call,
                      const struct cel_macro_shape *shape)
{
    struct cel_node **args = call->args, *parts[3];
    size_t count = 0;

    call->variables = shape->variables;
    for (size_t v = 0; v < shape->variables; v++) {
        const struct cel_node *name = args[1 + v];

        if (name->op != CEL_NAME || name->leading_dot)
            return FAIL(parser, name->position, "argument must be a simple name");
        call->names[v] = name->name;
    }
    if (shape->variables == 2 && !strcmp(call->names[0], call->names[1]))
        return FAIL(parser, args[2]->position, "duplicate iteration variable");
    args += 1 + shape->variables;
    parts[count++] = call->args[0];
    if (!strcmp(call->name, "filter")) {
        struct cel_node *element = new_node(parser, CEL_NAME, call->position);

        element->name = call->names[0];
        parts[count++] = element;
        parts[count++] = args[0];
    } else if (shape->filters) {
        parts[count++] = args[1];
        parts[count++] = args[0];
    } else {
        parts[count++] = args[0];
    }
    call->op = CEL_MACRO;
    call->macro = shape->macro;
    call->filters = shape->filters;
    set_args(parser, call, parts, count);
    return 0;
}

static int make_call(struct parser *parser, struct cel_node *call, struct cel_node *receiver)
{
    const struct cel_macro_shape *shape;
    struct nodes list = {0};
    int r;

    call->member = receiver;
    if (receiver)
        push(parser, &list, receiver, false);
    r = parse_list(parser, ")", false, &list);
    if (r < 0)
        return r;
    set_args(parser, call, list.items, list.count);

    if (!receiver && !strcmp(call->name, "has") && call->count == 1) {
        struct cel_node *field = call->args[0];

        if (field->op != CEL_SELECT || field->optional)
            return FAIL(parser, field->position, "invalid argument to has() macro");
        field->op = CEL_HAS;
        *call = *field;
        return 0;
    }
    shape = receiver ? fl_cel_find_macro(call) : NULL;
    if (shape)
        return make_macro(parser, call, shape);
    return 0;
}

static int parse_name(struct parser *parser, bool leading_dot, struct cel_node *node)
{
    int r;

    if (parser->token.type != CEL_T_NAME || fl_cel_is_reserved(parser->token.text))
        return FAIL(parser, parser->token.position, "'%.40s' is no name", parser->token.text);
    node->op = CEL_NAME;
    node->name = parser->token.text;
    node->leading_dot = leading_dot;
    r = advance(parser);
    if (r < 0 || !at(parser, "("))
        return r;
    node->position = parser->token.position; /* where errors of a call point */
    r = advance(parser);
    if (r < 0)
        return r;
    node->op = CEL_CALL;
    return make_call(parser, node, NULL);
}

static int parse_literal(struct parser *parser, struct cel_node *node, bool negative)
{
    const struct cel_token *token = &parser->token;
    struct cel_value *value = &node->literal;

    node->op = CEL_LITERAL;
    switch (token->type) {
    case CEL_T_INT:
        if (token->uinteger > (uint64_t)INT64_MAX + negative)
            return FAIL(parser, token->position, "invalid int literal");
        *value = cel_int((int64_t)(negative ? 0 - token->uinteger : token->uinteger));
        break;
    case CEL_T_DOUBLE:
        *value = cel_double(negative ? -token->real : token->real);
        break;
    case CEL_T_UINT:
        *value = cel_uint(token->uinteger);
        break;
    case CEL_T_STRING:
    case CEL_T_BYTES:
        *value =
            cel_text(token->type == CEL_T_STRING ? CEL_STRING : CEL_BYTES, token->text, token->len);
        break;
    default:
        return FAIL(parser, token->position, "unexpected '%.40s'", token->text);
    }
    return advance(parser);
}

static int parse_primary(struct parser *parser, struct cel_node **ret_node)
{
    struct cel_node *node = new_node(parser, CEL_LITERAL, parser->token.position);
    struct nodes list = {0};
    int r;

    *ret_node = node;
    if (parser->token.type == CEL_T_NAME) {
        const char *name = parser->token.text;

        if (!strcmp(name, "true") || !strcmp(name, "false"))
            node->literal = cel_bool(*name == 't');
        else if (!strcmp(name, "null"))
            node->literal = cel_null();
        else
            return parse_name(parser, false, node);
        return advance(parser);
    }
    if (parser->token.type != CEL_T_PUNCTUATION)
        return parse_literal(parser, node, false);

    if ((r = accept(parser, ".")) != 0)
        return r < 0 ? r : parse_name(parser, true, node);
    if ((r = accept(parser, "(")) != 0) {
        if (r > 0)
            r = parse_expression(parser, ret_node);
        return r < 0 ? r : expect(parser, ")");
    }
    if ((r = accept(parser, "[")) != 0) {
        node->op = CEL_MAKE_LIST;
        if (r > 0)
            r = parse_list(parser, "]", true, &list);
        if (r < 0)
            return r;
        set_args(parser, node, list.items, list.count);
        node->optional_args = list.optional;
        return 0;
    }
    if ((r = accept(parser, "{")) != 0) {
        node->op = CEL_MAKE_MAP;
        return r < 0 ? r : parse_map(parser, node);
    }
    return parse_literal(parser, node, false);
}

/* `.name`, `.?name`, `.name(…)`, `[key]`, `[?key]` after `*node`. The token is the '.' or '['. */
static int parse_suffix(struct parser *parser, struct cel_node **node)
{
    bool index = at(parser, "[");
    struct cel_node *outer = new_node(parser, CEL_SELECT, parser->token.position), *key = NULL;
    struct cel_node *args[2] = {*node, NULL};
    int r = advance(parser);

    *node = outer;
    if (r < 0 || (r = accept(parser, "?")) < 0)
        return r;
    outer->optional = r > 0;
    if (index) {
        outer->op = CEL_INDEX;
        r = parse_expression(parser, &key);
        if (r < 0)
            return r;
        args[1] = key;
        set_args(parser, outer, args, 2);
        return expect(parser, "]");
    }
    if (parser->token.type != CEL_T_NAME)
        return FAIL(parser, parser->token.position, "expected a field's name");
    outer->name = parser->token.text;
    r = advance(parser);
    if (r < 0)
        return r;
    if (at(parser, "(") && !outer->optional) {
        outer->position = parser->token.position;
        outer->op = CEL_CALL;
        r = advance(parser);
        return r < 0 ? r : make_call(parser, outer, args[0]);
    }
    if (!strcmp(outer->name, "in") || !strcmp(outer->name, "true") ||
        !strcmp(outer->name, "false") || !strcmp(outer->name, "null"))
        return FAIL(parser, outer->position, "'%s' is no name", outer->name);
    set_args(parser, outer, args, 1);
    return 0;
}

static int parse_member(struct parser *parser, bool negative, uint32_t position,
                        struct cel_node **ret_node)
{
    struct cel_node *node = NULL;
    int r;

    if (negative) {
        node = new_node(parser, CEL_LITERAL, position);
        r = parse_literal(parser, node, true);
    } else {
        r = parse_primary(parser, &node);
    }
    while (r >= 0 && (at(parser, ".") || at(parser, "["))) {
        r = parse_suffix(parser, &node);
        if (r >= 0)
            r = check_depth(parser, node);
    }
    if (r < 0)
        return r;
    if (at(parser, "{") && (node->op == CEL_NAME || node->op == CEL_SELECT))
        return FAIL(parser, parser->token.position, "message literals are not supported");
    *ret_node = node;
    return check_depth(parser, node);
}

static int parse_unary(struct parser *parser, struct cel_node **ret_node)
{
    uint32_t position = parser->token.position;
    bool not = at(parser, "!");
    size_t count = 0;
    struct cel_node *node = NULL;
    int r = 1;

    while ((r = accept(parser, not ? "!" : "-")) > 0)
        count++;
    if (r < 0)
        return r;
    if (!not &&count == 1 &&
        (parser->token.type == CEL_T_INT || parser->token.type == CEL_T_DOUBLE))
        return parse_member(parser, true, position, ret_node);
    r = parse_member(parser, false, position, &node);
    if (r < 0)
        return r;
    if (not || count == 0) {
        /* two of them cancel, but for what they ask of the type */
        for (count = count > 2 ? 2 - count % 2 : count; count > 0; count--) {
            *ret_node = new_node(parser, CEL_NOT, position);
            set_args(parser, *ret_node, &node, 1);
            node = *ret_node;
        }
        *ret_node = node;
        return check_depth(parser, node);
    }
    for (count = count > 2 ? 2 - count % 2 : count; count > 0; count--) {
        *ret_node = new_node(parser, CEL_NEGATE, position);
        set_args(parser, *ret_node, &node, 1);
        node = *ret_node;
    }
    return check_depth(parser, node);
}

static const struct {
    const char *text;
    int precedence;
    enum cel_binary binary;
} binaries[] = {
    {"<", 1, CEL_LESS},     {"<=", 1, CEL_LESS_EQUAL},
    {">", 1, CEL_GREATER},  {">=", 1, CEL_GREATER_EQUAL},
    {"==", 1, CEL_EQUAL},   {"!=", 1, CEL_NOT_EQUAL},
    {"in", 1, CEL_IN},      {"+", 2, CEL_ADD},
    {"-", 2, CEL_SUBTRACT}, {"*", 3, CEL_MULTIPLY},
    {"/", 3, CEL_DIVIDE},   {"%", 3, CEL_MODULO},
};

static int find_binary(const struct parser *parser)
{
    if (parser->token.type != CEL_T_PUNCTUATION && parser->token.type != CEL_T_NAME)
        return -1;
    for (size_t i = 0; i < FL_COUNT_OF(binaries); i++) {
        if (!strcmp(parser->token.text, binaries[i].text))
            return (int)i;
    }
    return -1;
}

static int parse_binary(struct parser *parser, int precedence, struct cel_node **ret_node)
{
    struct cel_node *left = NULL, *right = NULL;
    int r = parse_unary(parser, &left), i;

    if (r < 0)
        return r;
    while (r >= 0 && (i = find_binary(parser)) >= 0 && binaries[i].precedence >= precedence) {
        struct cel_node *node = new_node(parser, CEL_BINARY, parser->token.position);

        r = advance(parser);
        if (r >= 0)
            r = parse_binary(parser, binaries[i].precedence + 1, &right);
        if (r < 0)
            return r;
        node->binary = binaries[i].binary;
        set_args(parser, node, (struct cel_node *[]){left, right}, 2);
        r = check_depth(parser, node);
        left = node;
    }
    *ret_node = left;
    return r;
}

/* `a && b && c` is one node, so that long chains are not deep. */
static int parse_chain(struct parser *parser, bool is_or, struct cel_node **ret_node)
{
    struct nodes list = {0};
    struct cel_node *node = NULL;
    uint32_t position = 0;
    int r;

    do {
        r = is_or ? parse_chain(parser, false, &node) : parse_binary(parser, 1, &node);
        if (r < 0)
            return r;
        push(parser, &list, node, false);
        if (list.count == 1)
            position = parser->token.position;
        r = accept(parser, is_or ? "||" : "&&");
    } while (r > 0);
    if (r == 0 && list.count > 1) {
        node = new_node(parser, is_or ? CEL_OR : CEL_AND, position);
        set_args(parser, node, list.items, list.count);
        r = check_depth(parser, node);
    }
    *ret_node = node;
    return r;
}

static int parse_ternary(struct parser *parser, struct cel_node **ret_node)
{
    struct cel_node *args[3] = {NULL}, *node;
    uint32_t position;
    int r = parse_chain(parser, true, &args[0]);

    if (r < 0)
        return r;
    *ret_node = args[0];
    position = parser->token.position;
    r = accept(parser, "?");
    if (r <= 0)
        return r;
    r = parse_chain(parser, true, &args[1]);
    if (r >= 0)
        r = expect(parser, ":");
    if (r >= 0)
        r = parse_expression(parser, &args[2]);
    if (r < 0)
        return r;
    node = new_node(parser, CEL_TERNARY, position);
    set_args(parser, node, args, 3);
    *ret_node = node;
    return check_depth(parser, node);
}

static int parse_expression(struct parser *parser, struct cel_node **ret_node)
{
    int r;

    if (++parser->nesting > CEL_MAX_NESTING)
        return FAIL(parser, parser->token.position, "expression nests deeper than %u",
                    CEL_MAX_NESTING);
    r = parse_ternary(parser, ret_node);
    parser->nesting--;
    return r;
}

int fl_cel_parse(struct fl_cel *program, size_t len, struct fl_error *err)
{
    struct parser parser = {
        .program = program,
        .lexer = {.arena = program->arena, .text = program->text, .len = len},
        .err = err,
    };
    int r = advance(&parser);

    if (r >= 0)
        r = parse_expression(&parser, &program->root);
    if (r >= 0 && parser.token.type != CEL_T_END)
        r = FAIL(&parser, parser.token.position, "expected end of expression, got '%.40s'",
                 parser.token.text);
    return r < 0 ? r : 0;
}
