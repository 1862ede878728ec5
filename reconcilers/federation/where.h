/* Where a project's root is, as its children say: the address of the first instance of its Workload
 * "root", and the token in its Secret "federation". In the pass's arena; nothing is remembered. */
#ifndef FL_RECONCILERS_FEDERATION_WHERE_H
#define FL_RECONCILERS_FEDERATION_WHERE_H

#include "controller/runtime/reconcile.h"
#include "reconcilers/federation/federation.h"

#define FL_FEDERATION_ROOT   "root"       /* role of the Workload */
#define FL_FEDERATION_SECRET "federation" /* role of the Secret, */
#define FL_FEDERATION_TOKEN  "token"      /* and its key */

/* What aggregators, learners and rounds of a project call it: its own among all projects, so that a
 * learner that finds a stranger's aggregator at an old address is refused there. */
const char *fl_federation_name(struct fl_arena *arena, const struct fl_object_meta *project);

/* 0: *ret_at; > 0: not known now, and *ret_why says what is missing. `project`: the meta of the
 * FLProject. From the manager's caches, of which there must be one for Secrets. */
int fl_federation_where(struct fl_reconcile *rc, const struct fl_object_meta *project,
                        struct fl_federation_at *ret_at, const char **ret_why,
                        struct fl_error *err);

#endif
