/* The parts of an Orchestrator's pass. All is in the pass's arena. */
#ifndef FL_RECONCILERS_ORCHESTRATOR_INTERNAL_H
#define FL_RECONCILERS_ORCHESTRATOR_INTERNAL_H

#include "reconcilers/orchestrator/orchestrator.h"

struct fl_orchestrator_controller {
    struct fl_manager *manager;
    struct fl_orchestrators *orchestrators;
    struct fl_cache *workloads, *nodes, *clusters;
};

/* What a pass sees. */
struct fl_orchestrator_view {
    struct fl_reconcile *rc;
    struct fl_orchestrator_controller *controller;
    struct fl_orchestrator *orchestrator;
    struct fl_orchestrator_driver *driver; /* until fl_orchestrator_view_close */
    struct fl_node_list nodes;
    struct fl_string_list uids; /* of Workloads of which it holds something */
    const char *runtime;        /* what runs images; NULL */
};

static inline void fl_orchestrator_view_close(struct fl_orchestrator_view *view)
{
    fl_orchestrators_put(view->controller->orchestrators, view->driver);
}

/* EdgeClusters and EdgeNodes as the driver reports them; those that it does not report go. */
int fl_orchestrator_show_edges(const struct fl_orchestrator_view *view, struct fl_error *err);

/* Stops and removes what belongs to no Workload, as a live list says. */
int fl_orchestrator_sweep(const struct fl_orchestrator_view *view, struct fl_error *err);

/* Sums of what nodes have; what is 0 is left out. */
struct fl_node_capacity fl_orchestrator_sum(const struct fl_node_list *nodes, const char *cluster,
                                            bool free);
void fl_orchestrator_show_capacity(struct fl_arena *arena, const struct fl_node_capacity *from,
                                   struct fl_capacity *ret_capacity, bool *ret_has);
struct fl_node_counts fl_orchestrator_count(struct fl_arena *arena,
                                            const struct fl_node_list *nodes, const char *cluster);

#endif
