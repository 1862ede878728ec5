/* The Workloads that an FLProject leads to, before any of them runs. */
#ifndef FL_CMD_SLA_PROJECT_H
#define FL_CMD_SLA_PROJECT_H

#include "api/gen/flops_types.h"
#include "cmd/options.h"
#include "lib/error.h"
#include "lib/json.h"

/* Called for each, those that others connect to first. `*ret_port`: of its first port; 0: none. */
typedef int fl_sla_each_fn(void *user, const struct fl_workload *workload, int64_t *ret_port,
                           struct fl_error *err);

/* As the reconciler plans it for these clusters, which have all data that it wants. Addresses are
 * not known yet and shown as <NAME>. Texts live in the arena. */
int fl_sla_project(const json_t *object, const struct fl_words *clusters, struct fl_arena *arena,
                   fl_sla_each_fn *each, void *user, struct fl_error *err);

#endif
