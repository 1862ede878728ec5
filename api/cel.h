/* CEL, the Common Expression Language, as Kubernetes uses it in x-kubernetes-validations.
 *
 * An expression is compiled once (parsed, its identifiers and functions checked) and evaluated many
 * times over JSON values, with a cost counter so that no expression or object can hold the server.
 * A program is immutable and shared by threads; evaluation allocates from the arena it is given.
 * Values: null, bool, int, uint, double, string, bytes, list, map, timestamp, duration, type,
 * optional; JSON integers are int, reals double. Errors are values that `||`, `&&` and ternaries
 * absorb as the language defines.
 * Source: the CEL specification (cel-spec, doc/langdef.md) and Kubernetes' documented extensions.
 */
#ifndef FL_API_CEL_H
#define FL_API_CEL_H

#include "lib/error.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stdint.h>

struct fl_cel;
struct fl_schema_node;

struct fl_cel_options {
    const char *const *variables; /* names an expression may use: "self", "oldSelf" … */
    size_t variable_count;
    size_t max_bytes; /* of the expression; 0: 16 KiB */
    /* What is known of the variables' types, by variable, or NULL: then wrong types and unknown
       fields are found here and not only when the rule runs. Read during the call only. */
    const struct fl_schema_node *const *nodes;
    const bool *optional; /* which are bound as optionals; NULL: none */
};

/* BAD_REQUEST with "<input>:line:column: …" where it is not an expression, names an undeclared
 * variable or an unknown function, or where the types cannot be right. */
int fl_cel_compile(const char *expression, const struct fl_cel_options *options,
                   struct fl_cel **ret_program, struct fl_error *err);
void fl_cel_destroy(struct fl_cel *program);
FL_DEFINE_CLEANUP(struct fl_cel, fl_cel_destroy)
/* False where the expression is known never to give this (enum of fl_cel_result). */
bool fl_cel_may_return(const struct fl_cel *program, int type);
bool fl_cel_uses(const struct fl_cel *program, const char *variable);

struct fl_cel_binding {
    const char *name;
    const json_t *value;               /* NULL: null */
    const struct fl_schema_node *node; /* what is known of its type (formats date-time and
                                          duration, int-or-string, list types, names that need
                                          escaping); NULL: as JSON says */
    bool optional;                     /* bound as an optional (optionalOldSelf): value NULL is
                                          optional.none() */
};

struct fl_cel_result {
    enum { FL_CEL_BOOL, FL_CEL_STRING, FL_CEL_OTHER } type;
    bool boolean;
    const char *string; /* arena */
};

/* INVALID where evaluation ends in an error (no such key, division by zero, no such overload …);
 * TOO_LARGE when `*cost` (counted up from what the caller left in it) passes `cost_limit`. */
int fl_cel_eval(const struct fl_cel *program, const struct fl_cel_binding *bindings, size_t count,
                struct fl_arena *arena, uint64_t *cost, uint64_t cost_limit,
                struct fl_cel_result *ret_result, struct fl_error *err);

#endif
