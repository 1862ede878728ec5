/* x-kubernetes-validations: compiling the rules of a schema, and running them over an object whose
 * shape was found right. What may be spent is bounded for each call and for each object. */
#include "api/cel.h"
#include "api/schema_internal.h"
#include "lib/str.h"

#include <string.h>

#define CALL_COST_MAX   ((uint64_t)1000000)
#define OBJECT_COST_MAX ((uint64_t)10000000)
#define MESSAGE_MAX     ((size_t)5 * 1024)

/* Compiling. */

static void free_program(void *user)
{
    fl_cel_destroy(user);
}

/* What an expression is compiled with, and must give. */
struct shape {
    const struct fl_schema_node *node;
    bool with_old, optional_old, is_message;
};

static struct fl_cel *compile(struct fl_schema_builder *b, const json_t *expression,
                              const struct shape *shape, const struct fl_schema_path *path)
{
    static const char *const variables[] = {"self", "oldSelf"};
    const struct fl_schema_node *nodes[] = {shape->node, shape->node};
    const bool optional[] = {false, shape->optional_old};
    struct fl_cel_options options = {.variables = variables,
                                     .variable_count = shape->with_old ? 2 : 1,
                                     .nodes = nodes,
                                     .optional = optional};
    struct fl_cel *program = NULL;
    struct fl_error err;

    if (fl_cel_compile(json_string_value(expression), &options, &program, &err) < 0) {
        fl_schema_add(b->errors, FL_FIELD_INVALID, path, expression,
                      "compilation failed: ERROR: %s", err.msg);
        return NULL;
    }
    fl_arena_on_reset(b->schema->arena, free_program, program);
    if (!fl_cel_may_return(program, shape->is_message ? FL_CEL_STRING : FL_CEL_BOOL)) {
        fl_schema_add(b->errors, FL_FIELD_INVALID, path, expression,
                      shape->is_message ? "messageExpression must evaluate to a string"
                                        : "cel expression must evaluate to a bool");
        return NULL;
    }
    return program;
}

static enum fl_field_error_type reason_of(const char *name)
{
    static const enum fl_field_error_type reasons[] = {FL_FIELD_REQUIRED, FL_FIELD_FORBIDDEN,
                                                       FL_FIELD_DUPLICATE};

    for (size_t i = 0; name && i < FL_COUNT_OF(reasons); i++) {
        if (fl_streq(name, fl_field_error_reason(reasons[i])))
            return reasons[i];
    }
    return FL_FIELD_INVALID;
}

/* Without spaces around; NULL where nothing is left. */
static const char *trimmed(struct fl_arena *arena, const char *text)
{
    const char *end;

    if (!text)
        return NULL;
    text += strspn(text, " \t\r\n\v\f");
    for (end = text + strlen(text); end > text && strchr(" \t\r\n\v\f", end[-1]);)
        end--;
    return end > text ? fl_arena_strndup(arena, text, (size_t)(end - text)) : NULL;
}

static const char *trimmed_member(struct fl_arena *arena, const json_t *object, const char *key)
{
    return trimmed(arena, json_string_value(json_object_get(object, key)));
}

static void set_field_path(struct fl_arena *arena, struct fl_schema_rule *rule,
                           const json_t *openapi, const char *path)
{
    struct fl_buf text;

    if (!path || !*path)
        return;
    fl_buf_init(&text, 0);
    if (fl_schema_find_field(openapi, path, true, &text))
        rule->field_path = fl_arena_strdup(arena, fl_buf_text(&text));
    fl_buf_finish(&text);
}

/* oldSelf where the old value cannot be known would silently never hold. */
static void check_old_self(struct fl_schema_builder *b, const struct fl_schema_rule *rule,
                           const json_t *source, const struct fl_schema_path *path)
{
    const json_t *optional = json_object_get(source, "optionalOldSelf");

    if (rule->uses_old && b->uncorrelated)
        fl_schema_add(
            b->errors, FL_FIELD_INVALID, FL_PATH_CHILD(path, "rule"),
            json_object_get(source, "rule"),
            "oldSelf cannot be used on the uncorrelatable portion of the schema within %s",
            fl_schema_path_text(b->errors->arena, b->uncorrelated));
    if (!rule->uses_old && json_is_boolean(optional))
        fl_schema_add(b->errors, FL_FIELD_INVALID, FL_PATH_CHILD(path, "optionalOldSelf"), optional,
                      "may not be set if oldSelf is not used in rule");
}

static void build_rule(struct fl_schema_builder *b, struct fl_schema_rule *rule,
                       const struct fl_schema_node *node, const json_t *openapi,
                       const json_t *source, const struct fl_schema_path *path)
{
    struct shape shape = {node, true, json_is_true(json_object_get(source, "optionalOldSelf")),
                          false};
    struct fl_arena *arena = b->schema->arena;
    const json_t *expression = json_object_get(source, "messageExpression");

    rule->rule = trimmed_member(arena, source, "rule");
    rule->message = trimmed_member(arena, source, "message");
    rule->reason = reason_of(json_string_value(json_object_get(source, "reason")));
    rule->optional_old = shape.optional_old;
    set_field_path(arena, rule, openapi, json_string_value(json_object_get(source, "fieldPath")));
    rule->program =
        compile(b, json_object_get(source, "rule"), &shape, FL_PATH_CHILD(path, "rule"));
    if (!rule->program)
        return;
    rule->uses_old = fl_cel_uses(rule->program, "oldSelf");
    check_old_self(b, rule, source, path);
    shape.with_old = rule->uses_old;
    shape.is_message = true;
    if (json_string_length(expression) > 0)
        rule->message_program =
            compile(b, expression, &shape, FL_PATH_CHILD(path, "messageExpression"));
}

void fl_schema_build_rules(struct fl_schema_builder *b, struct fl_schema_node *node,
                           const json_t *openapi, const struct fl_schema_path *path)
{
    const json_t *rules = json_object_get(openapi, "x-kubernetes-validations"), *source;
    struct fl_schema_path up = {path, FL_PATH_FIELD, "x-kubernetes-validations", 0};
    size_t i;

    node->rule_count = json_array_size(rules);
    if (node->rule_count == 0)
        return;
    node->below_rules = true;
    node->rules = fl_new_array(b->schema->arena, struct fl_schema_rule, node->rule_count);
    json_array_foreach(rules, i, source)
        build_rule(b, &node->rules[i], node, openapi, source, FL_PATH_AT(&up, i));
}

/* Running. */

struct runner {
    struct fl_field_errors *errors;
    struct fl_arena *arena; /* of one evaluation */
    uint64_t left;          /* of the object's budget */
    bool stopped;
};

/* `old` is what oldSelf sees. Ratcheting looks further: where this place has no counterpart in the
 * old object, the nearest one above that has decides. */
struct place {
    const struct fl_schema_node *node;
    const json_t *value, *old;
    const struct fl_schema_path *path;
    const json_t *before;        /* this place in the old object; NULL: none */
    const struct place *nearest; /* the nearest place above with a `before` */
};

static void run(struct runner *r, const struct place *place);

static bool is_unchanged(const struct place *place)
{
    if (!place->before)
        place = place->nearest;
    return place && fl_schema_equal(place->node, place->value, place->before);
}

static const char *rule_name(const struct fl_schema_rule *rule)
{
    return fl_str_or(rule->message ? rule->message : rule->rule, "");
}

static void complain(struct runner *r, const struct place *place, enum fl_field_error_type type,
                     const struct fl_schema_path *path, const char *message)
{
    FL_JSON value =
        json_string(fl_str_or(place->node->type_name && place->node->type != FL_SCHEMA_INT_OR_STRING
                                  ? place->node->type_name
                                  : NULL,
                              ""));

    fl_schema_add(r->errors, type, path, value, "%s", type == FL_FIELD_DUPLICATE ? "" : message);
}

static void stop(struct runner *r, const struct place *place, const char *message)
{
    complain(r, place, FL_FIELD_INVALID, place->path, message);
    r->stopped = true;
}

/* Evaluates and pays. False where it failed; what there is to say was said, or is in `err`. */
static bool evaluate(struct runner *r, const struct place *place, const struct fl_cel *program,
                     const struct fl_schema_rule *rule, struct fl_cel_result *result,
                     struct fl_error *err)
{
    struct fl_cel_binding bindings[] = {
        {.name = "self", .value = place->value, .node = place->node},
        {.name = "oldSelf",
         .value = place->old,
         .node = place->node,
         .optional = rule->optional_old},
    };
    uint64_t cost = 0;
    int code = fl_cel_eval(program, bindings, rule->uses_old ? 2 : 1, r->arena, &cost,
                           CALL_COST_MAX, result, err);

    if (cost > r->left) {
        stop(r, place,
             "validation failed due to running out of cost budget, no further "
             "validation rules will be run");
        return false;
    }
    r->left -= cost;
    if (code == FL_E_TOO_LARGE)
        stop(r, place,
             fl_arena_printf(r->errors->arena,
                             "'operation cancelled: actual cost limit exceeded': no further "
                             "validation rules will be run due to call cost exceeds limit for "
                             "rule: %s",
                             rule_name(rule)));
    return code >= 0;
}

static const char *message_of(struct runner *r, const struct place *place,
                              const struct fl_schema_rule *rule)
{
    struct fl_cel_result result;
    struct fl_error err;
    const char *text;

    if (rule->message_program && evaluate(r, place, rule->message_program, rule, &result, &err) &&
        result.type == FL_CEL_STRING) {
        text = trimmed(r->errors->arena, result.string);
        if (text && strlen(text) <= MESSAGE_MAX && !strchr(text, '\n'))
            return text;
    }
    return rule->message
               ? rule->message
               : fl_arena_printf(r->errors->arena, "failed rule: %s", fl_str_or(rule->rule, ""));
}

static void complain_of_failure(struct runner *r, const struct place *place,
                                const struct fl_schema_rule *rule, const struct fl_error *err)
{
    bool is_overload = fl_str_has_prefix(err->msg, "no such overload");

    complain(r, place, FL_FIELD_INVALID, place->path,
             is_overload ? fl_arena_printf(r->errors->arena,
                                           "'%s': call arguments did not match a supported "
                                           "operator, function or macro signature for rule: %s",
                                           err->msg, rule_name(rule))
                         : fl_arena_printf(r->errors->arena, "%s evaluating rule: %s", err->msg,
                                           rule_name(rule)));
}

static void run_rule(struct runner *r, const struct place *place, const struct fl_schema_rule *rule)
{
    struct fl_schema_path field = {place->path, FL_PATH_FIELD, rule->field_path, 0};
    struct fl_cel_result result = {0};
    struct fl_error err;

    if (rule->uses_old && !place->old && !rule->optional_old)
        return;
    fl_arena_reset(r->arena);
    if (!evaluate(r, place, rule->program, rule, &result, &err)) {
        if (!r->stopped)
            complain_of_failure(r, place, rule, &err);
        return;
    }
    if (result.type == FL_CEL_BOOL && result.boolean)
        return;
    if (!rule->uses_old && is_unchanged(place))
        return;
    const char *message = message_of(r, place, rule);
    if (!r->stopped)
        complain(r, place, rule->reason, rule->field_path ? &field : place->path, message);
}

static void run_member(struct runner *r, const struct place *place,
                       const struct fl_schema_node *node, const json_t *value, const json_t *before,
                       bool keeps_old, const struct fl_schema_path *path)
{
    struct place below = {
        .node = node,
        .value = value,
        .old = keeps_old ? before : NULL,
        .path = path,
        .before = place->before ? before : NULL,
        .nearest = place->before ? place : place->nearest,
    };

    run(r, &below);
}

static void run_object(struct runner *r, const struct place *place)
{
    const struct fl_schema_node *node = place->node;
    const json_t *old = place->before ? place->before : place->old;
    const char *key;
    json_t *member;
    size_t len;

    json_object_keylen_foreach((json_t *)place->value, key, len, member) {
        const struct fl_schema_property *property = fl_schema_find_property(node, key, len);
        const struct fl_schema_node *child = property ? property->node : node->additional_node;

        if (r->stopped)
            return;
        if (child && child->below_rules)
            run_member(r, place, child, member, old ? json_object_getn(old, key, len) : NULL,
                       place->old && !node->map_atomic,
                       property ? FL_PATH_CHILD(place->path, key)
                                : FL_PATH_AT_KEY(place->path, key));
    }
}

static void run_list(struct runner *r, const struct place *place)
{
    struct fl_schema_old_list before =
        fl_schema_old_list(place->node, place->before ? place->before : place->old);
    const json_t *item;
    size_t i;

    json_array_foreach(place->value, i, item) {
        if (r->stopped)
            break;
        run_member(r, place, place->node->items, item, fl_schema_old_element(&before, item, i),
                   place->old != NULL, FL_PATH_AT(place->path, i));
    }
    fl_schema_old_list_finish(&before);
}

static void run(struct runner *r, const struct place *place)
{
    const struct fl_schema_node *node = place->node;

    /* A rule sees no null: whether there may be one is the business of the place above. */
    if (!node->below_rules || json_is_null(place->value))
        return;
    for (size_t i = 0; i < node->rule_count && !r->stopped; i++) {
        if (r->left == 0)
            stop(r, place,
                 "validation failed due to running out of cost budget, no further "
                 "validation rules will be run");
        else
            run_rule(r, place, &node->rules[i]);
    }
    if (json_is_object(place->value))
        run_object(r, place);
    else if (json_is_array(place->value) && node->items && node->items->below_rules)
        run_list(r, place);
}

/* Rules may count on what the schema promises, so they do not run where it was broken. */
static bool is_blocked(const struct fl_field_errors *errors)
{
    for (size_t i = 0; i < errors->count; i++) {
        enum fl_field_error_type type = errors->items[i].type;

        if (type == FL_FIELD_NOT_SUPPORTED || type == FL_FIELD_REQUIRED ||
            type == FL_FIELD_TOO_LONG || type == FL_FIELD_TOO_MANY || type == FL_FIELD_TYPE_INVALID)
            return true;
    }
    return errors->dropped > 0;
}

void fl_schema_check_rules(const struct fl_schema_node *node, const json_t *value,
                           const json_t *old, struct fl_field_errors *errors)
{
    struct fl_schema_path root = {NULL, FL_PATH_ROOT, "", 0};
    struct place place = {.node = node, .value = value, .old = old, .path = &root, .before = old};
    struct runner runner = {.errors = errors, .left = OBJECT_COST_MAX};

    if (is_blocked(errors)) {
        fl_schema_add(errors, FL_FIELD_INVALID, NULL, NULL,
                      "some validation rules were not checked because the object was invalid; "
                      "correct the existing errors to complete validation");
        return;
    }
    runner.arena = fl_arena_create();
    run(&runner, &place);
    fl_arena_destroy(runner.arena);
}
