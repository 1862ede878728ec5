/* Between the parts of the FLProject reconciler. */
#ifndef FL_RECONCILERS_FLPROJECT_INTERNAL_H
#define FL_RECONCILERS_FLPROJECT_INTERNAL_H

#include "reconcilers/flproject/flproject_plan.h"

/* An empty Workload of the project's, on its orchestrator. */
struct fl_workload *fl_flproject_new_workload(const struct fl_flproject_plan_input *input,
                                              struct fl_arena *arena);
/* Gives each service its Workload's content: program, arguments, ports, files; and what is known of
 * the one that runs. Parents come first. */
void fl_flproject_dress(const struct fl_flproject_plan_input *input, struct fl_arena *arena,
                        struct fl_flproject_services *services);

#endif
