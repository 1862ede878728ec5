/* What a pass sees of the world. */
#include "lib/str.h"
#include "reconcilers/workload/workload_internal.h"

#define DEFAULT_NODE_GRACE_MS 600000

/* Settings of Workloads that leave them out. */
static void apply_defaults(struct fl_workload_view *view)
{
    const struct fl_orchestrator_spec *orchestrator = &view->orchestrator->spec;
    struct fl_workload_spec *spec = &view->spec;

    *spec = view->workload->spec;
    if (!orchestrator->has_defaults)
        return;
    if (!spec->has_resources && orchestrator->defaults.has_resources) {
        spec->has_resources = true;
        spec->resources = orchestrator->defaults.resources;
    }
    if (spec->placement.node_selector.count == 0 &&
        orchestrator->defaults.node_selector.count > 0) {
        spec->has_placement = true;
        spec->placement.node_selector = orchestrator->defaults.node_selector;
    }
}

/* An Orchestrator that went takes nothing with it: what ran may still run, and is removed as soon
 * as it is back. Where nothing is known to run there is nothing to wait for. */
static int without_orchestrator(struct fl_workload_view *view)
{
    const struct fl_workload *workload = view->workload;
    const char *name = workload->spec.orchestrator;

    if (view->intent == FL_INTENT_DELETE && workload->status.instances.count == 0)
        return FL_STEP_DONE;
    return fl_not_yet(view->rc, "Scheduled", "OrchestratorNotReady",
                      "there is no Orchestrator %s%s", name,
                      view->intent == FL_INTENT_RUN ? "" : ", on which instances may still run");
}

static bool is_ready(const struct fl_orchestrator *orchestrator)
{
    const struct fl_condition *ready = fl_condition_find(&orchestrator->status.conditions, "Ready");

    return ready && ready->status == FL_CONDITION_STATUS_TRUE;
}

/* A control plane that has just begun makes its drivers in a moment. That is no news to tell. */
static int without_driver(struct fl_workload_view *view, struct fl_error *err)
{
    const char *name = view->workload->spec.orchestrator;

    if (is_ready(view->orchestrator))
        return fl_error_set(err, FL_E_CONFLICT, "the driver of Orchestrator %s is being made",
                            name);
    return fl_not_yet(view->rc, "Scheduled", "OrchestratorNotReady",
                      "Orchestrator %s is not reachable", name);
}

int fl_workload_view_open(struct fl_workload_view *view, struct fl_error *err)
{
    const char *name = view->workload->spec.orchestrator;
    void *object = NULL;
    int r;

    r = fl_read_cached(view->rc, &fl_orchestrator_type, NULL, name, &object, err);
    if (r == FL_E_NOT_FOUND)
        return without_orchestrator(view);
    if (r < 0)
        return fl_failed(view->rc, "Scheduled", "OrchestratorNotReady", err);
    view->orchestrator = object;
    view->driver = fl_orchestrators_get(view->controller->orchestrators, name);
    if (!view->driver)
        return without_driver(view, err);
    apply_defaults(view);
    view->spec_hash = fl_workload_spec_hash(view->workload, view->rc->arena);
    return FL_STEP_DONE;
}

/* Looked for in the canonical text first: there may be a thousand nodes, and hardly ever is one
 * closed. */
bool fl_workload_edge_is_closed(const struct fl_object *edge)
{
    static const char mark[] = "\"unschedulable\":true";
    FL_JSON json = NULL;

    if (!edge || !memmem(edge->json->data, edge->json->len, mark, sizeof(mark) - 1))
        return false;
    json = fl_object_parse(edge);
    return fl_json_bool(json, "spec.unschedulable", false);
}

static bool is_closed(struct fl_cache *cache, const char *name)
{
    FL_CLEANUP(fl_object_unrefp) struct fl_object *object = fl_cache_get(cache, NULL, name);

    return fl_workload_edge_is_closed(object);
}

static bool *find_cordoned(const struct fl_workload_view *view)
{
    bool *cordoned = fl_new_array(view->rc->arena, bool, view->nodes.count);

    for (size_t i = 0; i < view->nodes.count; i++)
        cordoned[i] = view->orchestrator->spec.suspend ||
                      is_closed(view->controller->nodes,
                                fl_edgenode_name(view->rc->arena, &view->nodes, i)) ||
                      is_closed(view->controller->clusters, view->nodes.items[i].cluster);
    return cordoned;
}

static int64_t node_grace_ms(const struct fl_workload_view *view)
{
    int64_t grace_ms = DEFAULT_NODE_GRACE_MS;
    const char *text = view->orchestrator->spec.unreachable_grace_period;

    if (text)
        (void)fl_duration_parse(text, &grace_ms);
    return grace_ms;
}

int fl_workload_look(struct fl_workload_view *view, struct fl_error *err)
{
    struct fl_arena *arena = view->rc->arena;
    int r;

    r = view->driver->ops->nodes(view->driver, arena, &view->nodes, err);
    if (r == 0)
        r = view->driver->ops->observe(view->driver, view->workload->meta.uid, arena, &view->runs,
                                       err);
    if (r < 0) {
        (void)fl_error_wrap(err, "Orchestrator %s", view->workload->spec.orchestrator);
        return fl_failed(view->rc, "Scheduled", "OrchestratorNotReady", err);
    }
    fl_decide(&(struct fl_decide_input){.intent = view->intent,
                                        .spec = &view->spec,
                                        .spec_hash = view->spec_hash,
                                        .nodes = &view->nodes,
                                        .cordoned = find_cordoned(view),
                                        .runs = &view->runs,
                                        .now_us = fl_realtime_us(view->rc->env),
                                        .node_grace_ms = node_grace_ms(view)},
              arena, &view->decision);
    return 0;
}
