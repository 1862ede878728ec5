/* The Orchestrator kind: makes drivers for the objects that are there, tells how they are, shows
 * their clusters and nodes as EdgeClusters and EdgeNodes, and removes from them what belongs to no
 * Workload any more.
 *
 * `local` exists by itself: fl_orchestrator_ensure_local at the start, and again when somebody
 * deletes it. What runs goes on meanwhile. */
#ifndef FL_RECONCILERS_ORCHESTRATOR_H
#define FL_RECONCILERS_ORCHESTRATOR_H

#include "controller/runtime/manager.h"
#include "reconcilers/orchestrator/orchestrators.h"

struct fl_orchestrator_controller;

/* Adds the kind to the manager, before its start. Who is told of changes is set at `orchestrators`
 * (the workload controller does). Destroyed after the manager. */
int fl_orchestrator_controller_create(struct fl_manager *manager,
                                      struct fl_orchestrators *orchestrators,
                                      struct fl_orchestrator_controller **ret_controller,
                                      struct fl_error *err);
void fl_orchestrator_controller_destroy(struct fl_orchestrator_controller *controller);
FL_DEFINE_CLEANUP(struct fl_orchestrator_controller, fl_orchestrator_controller_destroy)

#define FL_ORCHESTRATOR_LOCAL "local"

/* Makes Orchestrator `local` where there is none. Blocks for one call. */
int fl_orchestrator_ensure_local(struct fl_apiclient *client, struct fl_error *err);

#endif
