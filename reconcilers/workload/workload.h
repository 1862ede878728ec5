/* The Workload kind: instances that run, on the orchestrator that the spec names.
 *
 * A pass looks (orchestrator, nodes, runs), decides (decide.h), acts through the driver, and tells
 * what it sees in status. It is woken by changes of the object and by the driver; it looks again by
 * itself only when a delay or a deadline ends. Nothing is remembered: not here, not in status. */
#ifndef FL_RECONCILERS_WORKLOAD_H
#define FL_RECONCILERS_WORKLOAD_H

#include "controller/runtime/manager.h"
#include "reconcilers/orchestrator/orchestrators.h"

struct fl_workload_controller;

/* Adds the kind to the manager, before its start. `orchestrators` is lent, and its changes wake
 * this controller from then on. Destroyed after the manager. */
int fl_workload_controller_create(struct fl_manager *manager,
                                  struct fl_orchestrators *orchestrators,
                                  struct fl_workload_controller **ret_controller,
                                  struct fl_error *err);
void fl_workload_controller_destroy(struct fl_workload_controller *controller);
FL_DEFINE_CLEANUP(struct fl_workload_controller, fl_workload_controller_destroy)

#endif
