#include "api/cel_internal.h"
#include "lib/str.h"

#include <stdlib.h>

/* The door: programs, and runs of them. */

int fl_cel_compile(const char *expression, const struct fl_cel_options *options,
                   struct fl_cel **ret_program, struct fl_error *err)
{
    FL_CLEANUP(fl_cel_destroyp) struct fl_cel *program = NULL;
    size_t len = strlen(expression), max = options->max_bytes ? options->max_bytes : CEL_MAX_BYTES;
    const char **variables;
    int r;

    if (len > max)
        return fl_error_set(err, FL_E_BAD_REQUEST, "expression is longer than %zu bytes", max);
    if (!fl_utf8_valid(expression, len))
        return fl_error_set(err, FL_E_BAD_REQUEST, "expression is not valid UTF-8");
    program = fl_calloc(1, sizeof(*program));
    program->arena = fl_arena_create();
    program->text = fl_arena_strdup(program->arena, expression);
    program->variable_count = options->variable_count;
    variables = fl_new_array(program->arena, const char *, options->variable_count + 1);
    for (size_t i = 0; i < options->variable_count; i++)
        variables[i] = fl_arena_strdup(program->arena, options->variables[i]);
    program->variables = variables;
    program->used = fl_new_array(program->arena, bool, options->variable_count + 1);

    r = fl_cel_parse(program, len, err);
    if (r >= 0)
        r = fl_cel_check(program, options, err);
    if (r < 0)
        return r;
    *ret_program = FL_TAKE(program);
    return 0;
}

void fl_cel_destroy(struct fl_cel *program)
{
    if (!program)
        return;
    fl_arena_destroy(program->arena);
    free(program);
}

bool fl_cel_may_return(const struct fl_cel *program, int type)
{
    switch (program->result) {
    case CEL_DYN:
        return true;
    case CEL_BOOL:
        return type == FL_CEL_BOOL;
    case CEL_STRING:
        return type == FL_CEL_STRING;
    default:
        return type == FL_CEL_OTHER;
    }
}

bool fl_cel_uses(const struct fl_cel *program, const char *variable)
{
    for (size_t i = 0; i < program->variable_count; i++) {
        if (!strcmp(program->variables[i], variable))
            return program->used[i];
    }
    return false;
}

static struct cel_value bound_value(struct cel_eval *eval, const struct fl_cel_binding *binding)
{
    struct cel_value value = fl_cel_from_json(eval, binding->value, binding->node);

    if (!binding->optional)
        return value;
    return fl_cel_optional(eval, binding->value ? &value : NULL);
}

static void set_variables(struct cel_eval *eval, const struct fl_cel_binding *bindings,
                          size_t count)
{
    const struct fl_cel *program = eval->program;

    for (size_t v = 0; v < program->variable_count; v++) {
        size_t i = 0;

        while (i < count && strcmp(bindings[i].name, program->variables[v]))
            i++;
        if (i < count)
            eval->slots[v] = bound_value(eval, &bindings[i]);
        else
            eval->slots[v] = fl_cel_error(eval, "no such attribute(s): %s", program->variables[v]);
    }
}

int fl_cel_eval(const struct fl_cel *program, const struct fl_cel_binding *bindings, size_t count,
                struct fl_arena *arena, uint64_t *cost, uint64_t cost_limit,
                struct fl_cel_result *ret_result, struct fl_error *err)
{
    struct cel_eval eval = {.program = program, .arena = arena, .cost = *cost, .limit = cost_limit};
    struct fl_cel_result result = {.type = FL_CEL_OTHER};
    struct cel_value value;

    eval.slots = fl_new_array(arena, struct cel_value, program->slot_count + 1);
    set_variables(&eval, bindings, count);
    value = fl_cel_evaluate(&eval, program->root);
    *cost = eval.cost;
    if (eval.exceeded)
        return fl_error_set(err, FL_E_TOO_LARGE, "%s", fl_cel_too_costly().text.data);
    if (value.kind == CEL_ERROR)
        return fl_error_set(err, FL_E_INVALID, "%s", value.text.data);
    if (value.kind == CEL_BOOL) {
        result.type = FL_CEL_BOOL;
        result.boolean = value.boolean;
    } else if (value.kind == CEL_STRING) {
        result.type = FL_CEL_STRING;
        result.string = fl_cel_strdup(&eval, &value);
    }
    *ret_result = result;
    return 0;
}
