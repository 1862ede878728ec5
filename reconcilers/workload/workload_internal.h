/* The parts of a Workload's pass. All is in the pass's arena. */
#ifndef FL_RECONCILERS_WORKLOAD_INTERNAL_H
#define FL_RECONCILERS_WORKLOAD_INTERNAL_H

#include "lib/thread.h"
#include "reconcilers/workload/decide.h"
#include "reconcilers/workload/workload.h"

struct fl_workload_controller {
    struct fl_manager *manager;
    struct fl_orchestrators *orchestrators;
    struct fl_cache *workloads, *nodes, *clusters;
    /* Held from the look at nodes to the start of what was placed there, so that two passes do not
     * give away the same room. */
    struct fl_lock *placing;
};

/* What a pass sees. */
struct fl_workload_view {
    struct fl_reconcile *rc;
    struct fl_workload_controller *controller;
    struct fl_workload *workload;
    enum fl_workload_intent intent;
    struct fl_orchestrator *orchestrator;  /* the object */
    struct fl_orchestrator_driver *driver; /* until fl_workload_view_close */
    struct fl_workload_spec spec;          /* with the orchestrator's defaults */
    const char *spec_hash;
    struct fl_node_list nodes;
    struct fl_run_list runs;
    struct fl_decision decision;
};

static inline void fl_workload_view_close(struct fl_workload_view *view)
{
    fl_orchestrators_put(view->controller->orchestrators, view->driver);
}

/* Whether an EdgeNode or EdgeCluster says spec.unschedulable. NULL: no. */
bool fl_workload_edge_is_closed(const struct fl_object *edge);

/* Finds orchestrator and driver. FL_STEP_WAIT, with Ready's reason, where there is none now. */
int fl_workload_view_open(struct fl_workload_view *view, struct fl_error *err);
/* Looks at nodes and runs, and decides. */
int fl_workload_look(struct fl_workload_view *view, struct fl_error *err);

/* What is handed to each run of a pass. */
struct fl_workload_material {
    struct fl_run_env *env;
    size_t env_count;
    struct fl_run_file *files;
    size_t file_count;
    const char *pull_secret; /* NULL: none */
};

/* Reads Secrets, live. FL_STEP_WAIT with SecretNotFound where one is missing. */
int fl_workload_material_read(struct fl_workload_view *view,
                              struct fl_workload_material *ret_material, struct fl_error *err);

/* Does what was decided, in rounds until there is nothing to do or nothing moves. FL_STEP_WAIT or
 * an error, with Ready's reason, where something cannot be done. */
int fl_workload_act(struct fl_workload_view *view, struct fl_error *err);

/* Puts the decision into status and conditions; FL_STEP_…. */
void fl_workload_fill_status(const struct fl_workload_view *view);
int fl_workload_conclude(const struct fl_workload_view *view);

#endif
