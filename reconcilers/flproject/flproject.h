/* The FLProject kind: one federated training, from its services to its rounds.
 *
 * A pass looks (nodes, children, rounds, models, the root), decides (flproject_decide.h), acts
 * through the API, and tells what it sees in status. It is woken by changes of what it looked at
 * and looks again by itself only when a delay or a deadline ends. Nothing is remembered: not here,
 * not in status; what an old round told is carried on by the next (its tally).
 *
 * It makes, by role: for code of a Git link the ImageBuilds "image-…" and "aggregator-image-…", the
 * Secret "federation" with the control token, the Workloads "root", the tiers' and the learners',
 * the FLRounds "round-N", the FLHistories of those that went, and an InferenceServer. All of them,
 * and what they made, go with the project. */
#ifndef FL_RECONCILERS_FLPROJECT_H
#define FL_RECONCILERS_FLPROJECT_H

#include "lib/error.h"
#include "lib/mem.h"

struct fl_manager;
struct fl_source;
struct fl_federation_driver;
struct fl_flproject_controller;

/* Adds the kind to the manager, before its start. `federation` and `source` are lent; without a
 * source (NULL) projects with source.git are refused. Destroyed after the manager. */
int fl_flproject_controller_create(struct fl_manager *manager,
                                   struct fl_federation_driver *federation,
                                   struct fl_source *source,
                                   struct fl_flproject_controller **ret_controller,
                                   struct fl_error *err);
void fl_flproject_controller_destroy(struct fl_flproject_controller *controller);
FL_DEFINE_CLEANUP(struct fl_flproject_controller, fl_flproject_controller_destroy)

struct fl_tracking;
/* Who keeps spec.tracking; lent, before the manager's start. NULL, as at first: nobody, and that is
 * told. */
void fl_flproject_track(struct fl_flproject_controller *controller, struct fl_tracking *tracking);

/* For the federation's driver and the tracking: something about this project's root or
 * record changed. Any thread. */
void fl_flproject_changed(struct fl_flproject_controller *controller, const char *ns,
                          const char *project);
/* For the source: a fetch of this key ended; `user` is the controller. Any thread. */
void fl_flproject_source_changed(void *user, const char *key);

#endif
