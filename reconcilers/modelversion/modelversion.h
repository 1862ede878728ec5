/* The ModelVersion kind: one committed global model, described by an object and held by the content
 * store.
 *
 * Who commits a round makes one (fl_model_version_make); who knows which is best or latest moves
 * its aliases (fl_model_version_alias). This controller tells whether the content is there and
 * whole; takes an alias away from all but the newest that claims it, within a project; and deletes
 * what the project's modelHistoryLimit does not keep: besides those with an alias or spec.keep, and
 * always the newest. There is no finalizer: a ModelVersion goes with its FLProject, and content
 * that no object names any more goes after a grace time (collect.h). */
#ifndef FL_RECONCILERS_MODELVERSION_H
#define FL_RECONCILERS_MODELVERSION_H

#include "controller/runtime/manager.h"

/* A function of project and round: who makes it twice makes it once. At most 63 characters. */
char *fl_model_version_name(struct fl_arena *arena, const char *project, const char *project_uid,
                            int64_t round);

/* From within a pass (of the FLRound). `project`: meta of the FLProject, which becomes its owner.
 * `spec`: all that is known of the model (round, digest, size, format, metrics, lineage; project is
 * filled in here); it cannot be changed later but for aliases and keep. One that is there already
 * stays as it is; CONFLICT where it is of another digest. Live calls, no cache. Once a round is
 * done with it, it must not ask again: what the history limit took would come back. *ret_name is in
 * the pass's arena. */
int fl_model_version_make(struct fl_reconcile *rc, const struct fl_object_meta *project,
                          const struct fl_modelversion_spec *spec, const char **ret_name,
                          struct fl_error *err);

/* From now on `alias` is the ModelVersion's of this name, and no other's of its project. Writes
 * only what changes. NOT_FOUND; CONFLICT where somebody else wrote first: again in the next pass.
 */
int fl_model_version_alias(struct fl_apiclient *client, const char *ns, const char *project,
                           const char *alias, const char *name, struct fl_error *err);

#endif
