/* An FLProject's training as options of a simulation. */
#ifndef FL_CMD_SIMULATE_MANIFEST_H
#define FL_CMD_SIMULATE_MANIFEST_H

#include "workloads/simulate/simulate.h"

/* Of the one FLProject in a file ("-": standard input): source.builtin, training and
 * learners.count, all with the kind's defaults. What a simulation has no place for is left out.
 * Texts live in the arena. `ret_tag`: the first data tag, or NULL. */
int fl_simulate_manifest_read(struct fl_arena *arena, const char *path,
                              struct fl_simulation *simulation, const char **ret_tag,
                              struct fl_error *err);
/* "serverLearningRate=0.1": a parameter of the strategy, named as in an FLProject. */
int fl_simulate_parameter(const char *text, struct fl_strategy_spec *spec, struct fl_error *err);

#endif
