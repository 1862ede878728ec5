#include "api/cel_internal.h"
#include "lib/str.h"

/* Names become slots or types, calls become functions. What the values' types will be is not
 * known here, so a wrong type is found when the rule runs. */

struct scope {
    const struct scope *outer;
    const char *name;
    uint32_t slot;
};

struct checker {
    struct fl_cel *program;
    uint32_t next_slot;
    struct fl_error *err;
};

static const struct cel_function *const libraries[] = {
    fl_cel_standard_functions, fl_cel_time_functions,     fl_cel_string_functions,
    fl_cel_format_functions,   fl_cel_regex_functions,    fl_cel_list_functions,
    fl_cel_optional_functions, fl_cel_quantity_functions, fl_cel_url_functions,
    fl_cel_net_functions,
};

static const char *const types[] = {
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

static bool find_variable(const struct checker *checker, const struct scope *scope,
                          const struct cel_node *node, uint32_t *ret_slot)
{
    const struct fl_cel *program = checker->program;

    for (; scope && !node->leading_dot; scope = scope->outer) {
        if (!strcmp(scope->name, node->name)) {
            *ret_slot = scope->slot;
            return true;
        }
    }
    for (size_t i = 0; i < program->variable_count; i++) {
        if (!strcmp(program->variables[i], node->name)) {
            *ret_slot = (uint32_t)i;
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
    const char *base;
    uint32_t slot;

    if (node->op == CEL_NAME)
        return find_variable(checker, scope, node, &slot) ? NULL : node->name;
    if (node->op != CEL_SELECT || node->optional)
        return NULL;
    base = qualified_name(checker, scope, node->args[0]);
    if (!base || strlen(base) > 100)
        return NULL;
    return fl_arena_printf(checker->program->arena, "%s.%s", base, node->name);
}

static bool make_type(struct cel_node *node, const char *name)
{
    for (size_t i = 0; i < FL_COUNT_OF(types); i++) {
        if (!strcmp(types[i], name)) {
            node->op = CEL_LITERAL;
            node->count = 0;
            node->literal = cel_text(CEL_TYPE, types[i], strlen(types[i]));
            return true;
        }
    }
    return false;
}

static int check_name(struct checker *checker, const struct scope *scope, struct cel_node *node)
{
    uint32_t slot;

    if (find_variable(checker, scope, node, &slot)) {
        node->op = CEL_VARIABLE;
        node->slot = slot;
        if (slot < checker->program->variable_count)
            checker->program->used[slot] = true;
        return 0;
    }
    if (make_type(node, node->name))
        return 0;
    return fl_cel_syntax_error(checker->program->text, node->position, checker->err,
                               "undeclared reference to '%s' (in container '')", node->name);
}

/* 1: found; 0: the name is unknown; < 0: known, but not with these arguments. */
static int find_function(struct checker *checker, struct cel_node *call, const char *name,
                         bool member)
{
    size_t args = call->count - member;
    bool known = false;

    for (size_t l = 0; l < FL_COUNT_OF(libraries); l++) {
        for (const struct cel_function *f = libraries[l]; f->name; f++) {
            if (strcmp(f->name, name))
                continue;
            known = true;
            if (f->member == member && args >= f->min_args && args <= f->max_args) {
                call->function = f;
                return 1;
            }
        }
    }
    if (!known)
        return 0;
    return fl_cel_syntax_error(checker->program->text, call->position, checker->err,
                               "found no matching overload for '%s' applied to %zu argument%s",
                               name, args, args == 1 ? "" : "s");
}

/* A pattern that is a literal is compiled once, here, and refused here where it is none. */
static int check_regex(struct checker *checker, struct cel_node *call)
{
    struct fl_cel *program = checker->program;
    const struct cel_node *pattern = call->count > 1 ? call->args[1] : NULL;
    struct cel_node **grown;
    struct fl_error err = {0};

    if (!pattern || pattern->op != CEL_LITERAL || pattern->literal.kind != CEL_STRING ||
        (strcmp(call->name, "matches") && strcmp(call->name, "find") &&
         strcmp(call->name, "findAll")))
        return 0;
    if (fl_cel_regex_compile(pattern->literal.text.data, pattern->literal.text.len, &call->regex,
                             &err) < 0)
        return fl_cel_syntax_error(program->text, pattern->position, checker->err,
                                   "invalid matches argument: %s", err.msg);
    grown = fl_realloc(program->regexes, (program->regex_count + 1) * sizeof(struct cel_node *));
    grown[program->regex_count++] = call;
    program->regexes = grown;
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
        return fl_cel_syntax_error(checker->program->text, arg->position, checker->err,
                                   "invalid %s argument", call->name);
    return 0;
}

static int check_node(struct checker *checker, const struct scope *scope, struct cel_node *node);

static int check_args(struct checker *checker, const struct scope *scope, struct cel_node *node)
{
    for (size_t i = 0; i < node->count; i++) {
        int r = check_node(checker, scope, node->args[i]);

        if (r < 0)
            return r;
    }
    return 0;
}

static int check_call(struct checker *checker, const struct scope *scope, struct cel_node *call)
{
    const char *prefix = call->member ? qualified_name(checker, scope, call->args[0]) : NULL;
    int r = 0;

    if (prefix && strlen(prefix) <= 100) {
        const char *name = fl_arena_printf(checker->program->arena, "%s.%s", prefix, call->name);

        call->args++; /* the receiver was the name's first part */
        call->count--;
        r = find_function(checker, call, name, false);
        if (r < 0)
            return r;
        if (r > 0) {
            call->member = false;
            return check_args(checker, scope, call);
        }
        call->args--;
        call->count++;
    }
    r = find_function(checker, call, call->name, call->member);
    if (r == 0)
        return fl_cel_syntax_error(checker->program->text, call->position, checker->err,
                                   "undeclared reference to '%s' (in container '')", call->name);
    if (r > 0)
        r = check_args(checker, scope, call);
    if (r >= 0)
        r = check_regex(checker, call);
    return r < 0 ? r : check_literal_argument(checker, call);
}

static int check_macro(struct checker *checker, const struct scope *scope, struct cel_node *node)
{
    struct scope inner[2];
    int r = check_node(checker, scope, node->args[0]);

    if (r < 0)
        return r;
    node->slot = checker->next_slot;
    for (size_t i = 0; i < node->variables; i++) {
        inner[i] = (struct scope){i ? &inner[0] : scope, node->names[i], checker->next_slot++};
        if (checker->next_slot > checker->program->slot_count)
            checker->program->slot_count = checker->next_slot;
    }
    for (size_t i = 1; i < node->count && r >= 0; i++)
        r = check_node(checker, &inner[node->variables - 1], node->args[i]);
    checker->next_slot = node->slot;
    return r;
}

static int check_select(struct checker *checker, const struct scope *scope, struct cel_node *node)
{
    const char *name = qualified_name(checker, scope, node);

    if (name && node->op == CEL_SELECT && make_type(node, name))
        return 0;
    return check_args(checker, scope, node);
}

static int check_node(struct checker *checker, const struct scope *scope, struct cel_node *node)
{
    switch (node->op) {
    case CEL_NAME:
        return check_name(checker, scope, node);
    case CEL_CALL:
        return check_call(checker, scope, node);
    case CEL_MACRO:
        return check_macro(checker, scope, node);
    case CEL_SELECT:
        return check_select(checker, scope, node);
    default:
        return check_args(checker, scope, node);
    }
}

int fl_cel_check(struct fl_cel *program, struct fl_error *err)
{
    struct checker checker = {program, (uint32_t)program->variable_count, err};

    program->slot_count = program->variable_count;
    return check_node(&checker, NULL, program->root);
}
