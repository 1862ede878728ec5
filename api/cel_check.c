#include "api/cel_internal.h"
#include "lib/str.h"

/* Names become slots or types, calls become functions, and types are followed as far as they are
 * known: what depends on a dynamic value is left to the evaluator. */

struct scope {
    const struct scope *outer;
    const char *name;
    uint32_t slot;
    const struct cel_type *type;
};

struct checker {
    struct fl_cel *program;
    struct fl_arena *arena;        /* of types */
    const struct cel_type **types; /* of the program's variables */
    uint32_t next_slot;
    bool mixed; /* within the arguments of format(), which may be of any types */
    struct fl_error *err;
};

static const char *const type_names[] = {
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
    "optional_type",
    "kubernetes.Quantity",
    "kubernetes.URL",
    "net.IP",
    "net.CIDR",
};

#define FAIL(checker, node, ...)                                                                   \
    fl_error_negative(fl_cel_syntax_error((checker)->program->text, (node)->position,              \
                                          (checker)->err, __VA_ARGS__))

static int check_node(struct checker *checker, const struct scope *scope, struct cel_node *node,
                      const struct cel_type **ret_type);

static bool find_variable(const struct checker *checker, const struct scope *scope,
                          const struct cel_node *node, uint32_t *ret_slot,
                          const struct cel_type **ret_type)
{
    const struct fl_cel *program = checker->program;

    for (; scope && !node->leading_dot; scope = scope->outer) {
        if (!strcmp(scope->name, node->name)) {
            *ret_slot = scope->slot;
            *ret_type = scope->type;
            return true;
        }
    }
    for (size_t i = 0; i < program->variable_count; i++) {
        if (!strcmp(program->variables[i], node->name)) {
            *ret_slot = (uint32_t)i;
            *ret_type = checker->types[i];
            return true;
        }
    }
    return false;
}

/* "a.b.c" of a chain of selections whose first name is no variable; NULL where it is anything
 * else. */
static const char *qualified_name(const struct checker *checker, const struct scope *scope,
                                  const struct cel_node *node)
{
    const struct cel_type *type;
    const char *base;
    uint32_t slot;

    if (node->op == CEL_NAME)
        return find_variable(checker, scope, node, &slot, &type) ? NULL : node->name;
    if (node->op != CEL_SELECT || node->optional)
        return NULL;
    base = qualified_name(checker, scope, node->args[0]);
    if (!base || strlen(base) > 100)
        return NULL;
    return fl_arena_printf(checker->arena, "%s.%s", base, node->name);
}

static bool make_type(struct cel_node *node, const char *name)
{
    for (size_t i = 0; i < FL_COUNT_OF(type_names); i++) {
        if (!strcmp(type_names[i], name)) {
            node->op = CEL_LITERAL;
            node->count = 0;
            node->literal = cel_text(CEL_TYPE, type_names[i], strlen(type_names[i]));
            return true;
        }
    }
    return false;
}

static int check_name(struct checker *checker, const struct scope *scope, struct cel_node *node,
                      const struct cel_type **ret_type)
{
    uint32_t slot;

    if (find_variable(checker, scope, node, &slot, ret_type)) {
        node->op = CEL_VARIABLE;
        node->slot = slot;
        if (slot < checker->program->variable_count)
            checker->program->used[slot] = true;
        return 0;
    }
    *ret_type = fl_cel_type_basic(CEL_TYPE);
    if (make_type(node, node->name))
        return 0;
    return FAIL(checker, node, "undeclared reference to '%s' (in container '')", node->name);
}

/* "'(int, string)'", of a member function "'string.(int)'". */
static const char *types_text(struct checker *checker, const struct cel_type *const *types,
                              size_t count, bool member)
{
    const size_t first = member ? 1 : 0;
    const char *text = "";

    for (size_t i = first; i < count; i++)
        text = fl_arena_printf(checker->arena, "%s%s%s", text, i > first ? ", " : "",
                               fl_cel_type_text(checker->arena, types[i]));
    if (!member)
        return fl_arena_printf(checker->arena, "'(%s)'", text);
    return fl_arena_printf(checker->arena, "'%s.(%s)'", fl_cel_type_text(checker->arena, types[0]),
                           text);
}

static int no_overload(struct checker *checker, const struct cel_node *node, const char *name,
                       const struct cel_type *const *types, size_t count, bool member)
{
    return FAIL(checker, node, "found no matching overload for '%s' applied to %s", name,
                types_text(checker, types, count, member));
}

static int check_args(struct checker *checker, const struct scope *scope, struct cel_node *node,
                      const struct cel_type ***ret_types)
{
    const struct cel_type **types =
        fl_new_array(checker->arena, const struct cel_type *, node->count + 1);

    for (size_t i = 0; i < node->count; i++) {
        int r = check_node(checker, scope, node->args[i], &types[i]);

        if (r < 0)
            return r;
    }
    *ret_types = types;
    return 0;
}

/* Calls */

static int resolve_call(struct checker *checker, struct cel_node *call, const char *name,
                        const struct cel_type *const *types, const struct cel_type **ret_type)
{
    int r = fl_cel_find_function(checker->arena, name, call->member, types, call->count,
                                 &call->function, ret_type);

    if (r > 0)
        return 0;
    if (r < 0)
        return no_overload(checker, call, name, types, call->count, call->member);
    return FAIL(checker, call, "undeclared reference to '%s' (in container '')", name);
}

/* A pattern that is a literal is compiled once, here, and refused here where it is none. */
static int check_regex(struct checker *checker, struct cel_node *call)
{
    const struct cel_node *pattern = call->count > 1 ? call->args[1] : NULL;
    const char *problem;

    if (!pattern || pattern->op != CEL_LITERAL || pattern->literal.kind != CEL_STRING ||
        (strcmp(call->name, "matches") != 0 && strcmp(call->name, "find") != 0 &&
         strcmp(call->name, "findAll") != 0))
        return 0;
    call->regex = fl_cel_regex_compile(checker->program->arena, &pattern->literal, &problem);
    if (!call->regex)
        return FAIL(checker, pattern, "invalid matches argument: %s", problem);
    return 0;
}

static int check_literal_argument(struct checker *checker, const struct cel_node *call)
{
    const struct cel_node *arg = call->count == 1 ? call->args[0] : NULL;
    struct cel_value value;
    int64_t nanos;

    if (call->member || !arg || arg->op != CEL_LITERAL || arg->literal.kind != CEL_STRING)
        return 0;
    if ((!strcmp(call->name, "duration") &&
         !fl_cel_duration_parse(arg->literal.text.data, arg->literal.text.len, &nanos)) ||
        (!strcmp(call->name, "timestamp") &&
         !fl_cel_timestamp_parse(arg->literal.text.data, arg->literal.text.len, &value)))
        return FAIL(checker, arg, "invalid %s argument", call->name);
    return 0;
}

static int check_call(struct checker *checker, const struct scope *scope, struct cel_node *call,
                      const struct cel_type **ret_type)
{
    const char *prefix = call->member ? qualified_name(checker, scope, call->args[0]) : NULL;
    const char *name = call->name;
    const struct cel_type **types;
    bool mixed = checker->mixed;
    int r;

    if (prefix) {
        const char *whole = fl_arena_printf(checker->arena, "%s.%s", prefix, name);

        if (fl_cel_is_function(whole, false)) {
            name = whole;
            call->member = false;
            call->args++; /* the receiver was the name's first part */
            call->count--;
        }
    }
    checker->mixed |= call->member && !strcmp(name, "format");
    r = check_args(checker, scope, call, &types);
    checker->mixed = mixed;
    if (r >= 0)
        r = resolve_call(checker, call, name, types, ret_type);
    if (r >= 0)
        r = check_regex(checker, call);
    return r < 0 ? r : check_literal_argument(checker, call);
}

/* Fields and keys */

static const struct cel_type *wrap(struct checker *checker, const struct cel_type *type,
                                   bool optional)
{
    return optional ? fl_cel_type_make(checker->arena, CEL_OPTIONAL, type, NULL) : type;
}

static int check_field(struct checker *checker, const struct cel_node *node,
                       const struct cel_type *base, const struct cel_type **ret_type)
{
    bool optional = node->optional || base->kind == CEL_OPTIONAL;
    const struct cel_type *type = &fl_cel_dyn;
    const struct fl_schema_node *member;
    char name[FL_CEL_NAME_MAX];

    if (base->kind == CEL_OPTIONAL)
        base = base->inner;
    if (base->kind == CEL_STRUCT) {
        member = fl_cel_unescape(node->name, name) ? fl_schema_node_member(base->node, name) : NULL;
        if (!member)
            return FAIL(checker, node, "undefined field '%s'", node->name);
        type = fl_cel_type_of_node(checker->arena, member);
    } else if (base->kind == CEL_MAP) {
        type = base->inner;
    } else if (base->kind != CEL_DYN) {
        return FAIL(checker, node, "type '%s' does not support field selection",
                    fl_cel_type_text(checker->arena, base));
    }
    *ret_type = node->op == CEL_HAS ? fl_cel_type_basic(CEL_BOOL) : wrap(checker, type, optional);
    return 0;
}

static int check_select(struct checker *checker, const struct scope *scope, struct cel_node *node,
                        const struct cel_type **ret_type)
{
    const char *name = qualified_name(checker, scope, node);
    const struct cel_type *base = NULL;
    int r;

    *ret_type = fl_cel_type_basic(CEL_TYPE);
    if (name && node->op == CEL_SELECT && make_type(node, name))
        return 0;
    r = check_node(checker, scope, node->args[0], &base);
    return r < 0 ? r : check_field(checker, node, base, ret_type);
}

static int check_index(struct checker *checker, const struct scope *scope, struct cel_node *node,
                       const struct cel_type **ret_type)
{
    const struct cel_type **types, *base;
    int r = check_args(checker, scope, node, &types);
    bool fits = true, optional;

    if (r < 0)
        return r;
    base = types[0];
    optional = node->optional || base->kind == CEL_OPTIONAL;
    if (base->kind == CEL_OPTIONAL)
        base = base->inner;
    if (base->kind == CEL_LIST)
        fits = types[1]->kind == CEL_INT || types[1]->kind == CEL_DYN;
    else if (base->kind == CEL_MAP)
        fits = fl_cel_type_fits(base->key, types[1]);
    else
        fits = base->kind == CEL_DYN;
    if (!fits)
        return no_overload(checker, node, "_[_]", types, 2, false);
    *ret_type = wrap(checker, base->inner ? base->inner : &fl_cel_dyn, optional);
    return 0;
}

/* Literals */

/* One more element of a list, key or value of a map: of the type of those before. */
static int add_element(struct checker *checker, const struct cel_node *node,
                       const struct cel_type *type, bool optional, const struct cel_type **joined)
{
    if (optional) {
        if (type->kind != CEL_OPTIONAL && type->kind != CEL_DYN)
            return FAIL(checker, node, "expected type 'optional_type(dyn)' but found '%s'",
                        fl_cel_type_text(checker->arena, type));
        type = type->inner ? type->inner : &fl_cel_dyn;
    }
    if (!*joined) {
        *joined = type;
        return 0;
    }
    if (!fl_cel_type_fits(*joined, type) && checker->mixed)
        type = &fl_cel_dyn;
    else if (!fl_cel_type_fits(*joined, type))
        return FAIL(checker, node, "expected type '%s' but found '%s'",
                    fl_cel_type_text(checker->arena, *joined),
                    fl_cel_type_text(checker->arena, type));
    *joined = fl_cel_type_join(*joined, type);
    return 0;
}

static int check_list(struct checker *checker, const struct scope *scope, struct cel_node *node,
                      const struct cel_type **ret_type)
{
    const struct cel_type **types, *joined = NULL;
    int r = check_args(checker, scope, node, &types);

    for (size_t i = 0; i < node->count && r >= 0; i++)
        r = add_element(checker, node->args[i], types[i],
                        node->optional_args && node->optional_args[i], &joined);
    *ret_type = fl_cel_type_make(checker->arena, CEL_LIST, joined ? joined : &fl_cel_dyn, NULL);
    return r;
}

static int check_map(struct checker *checker, const struct scope *scope, struct cel_node *node,
                     const struct cel_type **ret_type)
{
    const struct cel_type **types, *key = NULL, *value = NULL;
    int r = check_args(checker, scope, node, &types);

    for (size_t i = 0; i < node->count && r >= 0; i += 2) {
        r = add_element(checker, node->args[i], types[i], false, &key);
        if (r >= 0)
            r = add_element(checker, node->args[i + 1], types[i + 1], node->optional_args[i + 1],
                            &value);
    }
    *ret_type = fl_cel_type_make(checker->arena, CEL_MAP, value ? value : &fl_cel_dyn,
                                 key ? key : &fl_cel_dyn);
    return r;
}

/* Operators */

static const struct {
    const char *name, *signature;
} operators[] = {
    [CEL_ADD] = {"_+_", "ii>i|uu>u|dd>d|ss>s|yy>y|ll>0|DD>D|tD>t|Dt>t"},
    [CEL_SUBTRACT] = {"_-_", "ii>i|uu>u|dd>d|tt>D|tD>t|DD>D"},
    [CEL_MULTIPLY] = {"_*_", "ii>i|uu>u|dd>d"},
    [CEL_DIVIDE] = {"_/_", "ii>i|uu>u|dd>d"},
    [CEL_MODULO] = {"_%_", "ii>i|uu>u"},
    [CEL_EQUAL] = {"_==_", "**>b"},
    [CEL_NOT_EQUAL] = {"_!=_", "**>b"},
#define ORDERED "bb>b|ii>b|iu>b|id>b|ui>b|uu>b|ud>b|di>b|du>b|dd>b|ss>b|yy>b|tt>b|DD>b"
    [CEL_LESS] = {"_<_", ORDERED},
    [CEL_LESS_EQUAL] = {"_<=_", ORDERED},
    [CEL_GREATER] = {"_>_", ORDERED},
    [CEL_GREATER_EQUAL] = {"_>=_", ORDERED},
#undef ORDERED
    [CEL_IN] = {"@in", "*l>b|*m>b"},
};

static bool operands_fit(const struct cel_node *node, const struct cel_type *const *types)
{
    if (node->binary == CEL_EQUAL || node->binary == CEL_NOT_EQUAL)
        return fl_cel_type_fits(types[0], types[1]);
    if (node->binary == CEL_ADD && types[0]->kind == CEL_LIST)
        return fl_cel_type_fits(types[0], types[1]);
    if (node->binary != CEL_IN || types[1]->kind == CEL_DYN)
        return true;
    return fl_cel_type_fits(types[0], types[1]->kind == CEL_MAP ? types[1]->key : types[1]->inner);
}

static int check_binary(struct checker *checker, const struct scope *scope, struct cel_node *node,
                        const struct cel_type **ret_type)
{
    const struct cel_type **types;
    int r = check_args(checker, scope, node, &types);

    if (r < 0)
        return r;
    *ret_type = fl_cel_type_call(checker->arena, operators[node->binary].signature, types, 2);
    if (!*ret_type || !operands_fit(node, types))
        return no_overload(checker, node, operators[node->binary].name, types, 2, false);
    return 0;
}

static int check_unary(struct checker *checker, const struct scope *scope, struct cel_node *node,
                       const struct cel_type **ret_type)
{
    const struct cel_type **types;
    bool not = node->op == CEL_NOT;
    int r = check_args(checker, scope, node, &types);

    if (r < 0)
        return r;
    *ret_type = fl_cel_type_call(checker->arena, not ? "b>b" : "i>i|d>d|D>D", types, 1);
    return *ret_type ? 0 : no_overload(checker, node, not ? "!_" : "-_", types, 1, false);
}

static bool is_bool(const struct cel_type *type)
{
    return type->kind == CEL_BOOL || type->kind == CEL_DYN;
}

static int check_chain(struct checker *checker, const struct scope *scope, struct cel_node *node,
                       const struct cel_type **ret_type)
{
    const struct cel_type **types;
    int r = check_args(checker, scope, node, &types);

    if (r < 0)
        return r;
    *ret_type = fl_cel_type_basic(CEL_BOOL);
    for (size_t i = 0; i < node->count; i++) {
        const struct cel_type *pair[2] = {*ret_type, types[i]};

        if (!is_bool(types[i]))
            return no_overload(checker, node, node->op == CEL_AND ? "_&&_" : "_||_", pair, 2,
                               false);
    }
    return 0;
}

static int check_ternary(struct checker *checker, const struct scope *scope, struct cel_node *node,
                         const struct cel_type **ret_type)
{
    const struct cel_type **types;
    int r = check_args(checker, scope, node, &types);

    if (r < 0)
        return r;
    if (!is_bool(types[0]) || !fl_cel_type_fits(types[1], types[2]))
        return no_overload(checker, node, "_?_:_", types, 3, false);
    *ret_type = fl_cel_type_join(types[1], types[2]);
    return 0;
}

/* Macros */

/* The types of a macro's variables. */
static int variable_types(struct checker *checker, const struct cel_node *node,
                          const struct cel_type *range, const struct cel_type *ret_types[2])
{
    bool two = node->variables == 2;

    ret_types[0] = ret_types[1] = &fl_cel_dyn;
    if (range->kind == CEL_DYN)
        return 0;
    if (node->macro == CEL_OPT_MAP || node->macro == CEL_OPT_FLAT_MAP) {
        if (range->kind != CEL_OPTIONAL)
            return no_overload(checker, node, node->name, &range, 1, true);
        ret_types[0] = range->inner;
    } else if (range->kind == CEL_LIST) {
        ret_types[two] = range->inner;
        if (two)
            ret_types[0] = fl_cel_type_basic(CEL_INT);
    } else if (range->kind == CEL_MAP) {
        ret_types[0] = range->key;
        ret_types[1] = range->inner;
    } else {
        return FAIL(checker, node->args[0],
                    "expression of type '%s' cannot be range of a comprehension (must be list, "
                    "map, or dynamic)",
                    fl_cel_type_text(checker->arena, range));
    }
    return 0;
}

static const struct cel_type *macro_type(struct checker *checker, const struct cel_node *node,
                                         const struct cel_type *key, const struct cel_type *body)
{
    switch (node->macro) {
    case CEL_TRANSFORM_LIST:
        return fl_cel_type_make(checker->arena, CEL_LIST, body, NULL);
    case CEL_TRANSFORM_MAP:
        return fl_cel_type_make(checker->arena, CEL_MAP, body, key);
    case CEL_OPT_MAP:
        return fl_cel_type_make(checker->arena, CEL_OPTIONAL, body, NULL);
    case CEL_TRANSFORM_MAP_ENTRY:
    case CEL_OPT_FLAT_MAP:
        return body;
    default:
        return fl_cel_type_basic(CEL_BOOL);
    }
}

static int check_macro(struct checker *checker, const struct scope *scope, struct cel_node *node,
                       const struct cel_type **ret_type)
{
    const struct cel_type *range = NULL, *variables[2], *body = NULL, *filter = &fl_cel_dyn;
    struct scope inner[2];
    int r = check_node(checker, scope, node->args[0], &range);

    if (r >= 0)
        r = variable_types(checker, node, range, variables);
    if (r < 0)
        return r;
    node->slot = checker->next_slot;
    for (size_t i = 0; i < node->variables; i++) {
        inner[i] = (struct scope){i ? &inner[0] : scope, node->names[i], checker->next_slot++,
                                  variables[i]};
        if (checker->next_slot > checker->program->slot_count)
            checker->program->slot_count = checker->next_slot;
    }
    r = check_node(checker, &inner[node->variables - 1], node->args[1], &body);
    if (r >= 0 && node->filters)
        r = check_node(checker, &inner[node->variables - 1], node->args[2], &filter);
    checker->next_slot = node->slot;
    if (r < 0)
        return r;
    if (node->macro <= CEL_EXISTS_ONE)
        filter = body;
    if (!is_bool(filter))
        return FAIL(checker, node->args[node->filters ? 2 : 1],
                    "expected type 'bool' but found '%s'",
                    fl_cel_type_text(checker->arena, filter));
    *ret_type = macro_type(checker, node, variables[0], body);
    return 0;
}

static int check_node(struct checker *checker, const struct scope *scope, struct cel_node *node,
                      const struct cel_type **ret_type)
{
    switch (node->op) {
    case CEL_LITERAL:
        *ret_type = fl_cel_type_basic(node->literal.kind);
        return 0;
    case CEL_NAME:
        return check_name(checker, scope, node, ret_type);
    case CEL_CALL:
        return check_call(checker, scope, node, ret_type);
    case CEL_MACRO:
        return check_macro(checker, scope, node, ret_type);
    case CEL_SELECT:
    case CEL_HAS:
        return check_select(checker, scope, node, ret_type);
    case CEL_INDEX:
        return check_index(checker, scope, node, ret_type);
    case CEL_MAKE_LIST:
        return check_list(checker, scope, node, ret_type);
    case CEL_MAKE_MAP:
        return check_map(checker, scope, node, ret_type);
    case CEL_AND:
    case CEL_OR:
        return check_chain(checker, scope, node, ret_type);
    case CEL_TERNARY:
        return check_ternary(checker, scope, node, ret_type);
    case CEL_BINARY:
        return check_binary(checker, scope, node, ret_type);
    default:
        return check_unary(checker, scope, node, ret_type);
    }
}

static const struct cel_type *variable_type(struct fl_arena *arena,
                                            const struct fl_cel_options *options, size_t i)
{
    const struct cel_type *type = &fl_cel_dyn;

    if (options->nodes && options->nodes[i])
        type = fl_cel_type_of_node(arena, options->nodes[i]);
    if (options->optional && options->optional[i])
        type = fl_cel_type_make(arena, CEL_OPTIONAL, type, NULL);
    return type;
}

int fl_cel_check(struct fl_cel *program, const struct fl_cel_options *options, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct checker checker = {
        .program = program,
        .arena = arena,
        .types = fl_new_array(arena, const struct cel_type *, program->variable_count + 1),
        .next_slot = (uint32_t)program->variable_count,
        .err = err,
    };
    const struct cel_type *type = &fl_cel_dyn;
    int r;

    for (size_t i = 0; i < program->variable_count; i++)
        checker.types[i] = variable_type(arena, options, i);
    program->slot_count = program->variable_count;
    r = check_node(&checker, NULL, program->root, &type);
    if (r >= 0)
        program->result = type->kind;
    return r;
}
