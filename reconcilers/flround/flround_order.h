/* What the root is told to do in a round: the project's training with the round's overrides.
 *
 * Pure; all is in the arena or lent by the inputs. Any thread. */
#ifndef FL_RECONCILERS_FLROUND_ORDER_H
#define FL_RECONCILERS_FLROUND_ORDER_H

#include "api/gen/flops_types.h"
#include "workloads/protocol/protocol.h"

struct fl_flround_plan {
    const struct fl_project *project;
    const struct fl_round *round;
    int64_t number, run;
    const char *base; /* digest; NULL: a learner makes the first model */
    int64_t base_size;
};

/* INVALID: the project asks for what no root here can do. */
int fl_flround_order(const struct fl_flround_plan *plan, struct fl_arena *arena,
                     struct fl_round_order *ret_order, struct fl_error *err);

/* Whether the round's model is to be evaluated. */
bool fl_flround_is_evaluated(const struct fl_project *project, int64_t number);

#endif
