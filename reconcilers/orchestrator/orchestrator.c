#include "reconcilers/orchestrator/orchestrator.h"

#include "api/quantity.h"
#include "lib/str.h"
#include "reconcilers/orchestrator/orchestrator_internal.h"

#include <inttypes.h>

#define SEEN_AGAIN_US      ((int64_t)60 * 1000000) /* lastSeenTime is as exact as that */
#define WORKLOADS_DELAY_MS 1000                    /* their changes are many */

static const char *const types[] = {
    [FL_ORCHESTRATOR_TYPE_UNSET] = "",
    [FL_ORCHESTRATOR_TYPE_LOCAL] = "Local",
    [FL_ORCHESTRATOR_TYPE_OAKESTRA] = "Oakestra",
    [FL_ORCHESTRATOR_TYPE_KUBERNETES] = "Kubernetes",
};

/* `local`. */

int fl_orchestrator_ensure_local(struct fl_apiclient *client, struct fl_error *err)
{
    struct fl_gvr gvr = fl_gvr_of(&fl_orchestrator_type);
    FL_JSON object = json_pack("{s:s, s:s, s:{s:s}, s:{s:s}}", "apiVersion", "flops.dev/v1alpha1",
                               "kind", "Orchestrator", "metadata", "name", FL_ORCHESTRATOR_LOCAL,
                               "spec", "type", "Local");
    int r;

    r = fl_apiclient_create_object(client, &gvr, NULL, object, NULL, err);
    return r == FL_E_ALREADY_EXISTS ? 0 : r;
}

/* The first step: a driver that answers. */

static void tell_seen(const struct fl_orchestrator_view *view)
{
    struct fl_orchestrator_status *status = &view->orchestrator->status;
    int64_t now_us = fl_realtime_us(view->rc->env), last_us = 0;
    char text[FL_TIME_SIZE];

    if (status->reachable && status->last_seen_time &&
        fl_time_parse(status->last_seen_time, &last_us) && now_us >= last_us &&
        now_us - last_us < SEEN_AGAIN_US)
        return;
    fl_time_format(now_us, text);
    status->last_seen_time = fl_arena_strdup(view->rc->arena, text);
}

static int unreachable(const struct fl_orchestrator_view *view, struct fl_error *err)
{
    view->orchestrator->status.reachable = false;
    view->orchestrator->status.has_reachable = true;
    return fl_failed(view->rc, "Reachable", "Unreachable", err);
}

static int ask(struct fl_orchestrator_view *view, struct fl_error *err)
{
    const struct fl_orchestrator_ops *ops = view->driver->ops;
    int r;

    r = ops->nodes(view->driver, view->rc->arena, &view->nodes, err);
    if (r == 0)
        r = ops->workloads(view->driver, view->rc->arena, &view->uids, err);
    return r;
}

static int ask_about(struct fl_orchestrator_view *view, struct fl_error *err)
{
    struct fl_orchestrator_about about = {NULL, NULL};
    int r;

    if (!view->driver->ops->about)
        return 0;
    r = view->driver->ops->about(view->driver, view->rc->arena, &about, err);
    view->orchestrator->status.version = about.version;
    view->orchestrator->status.runtime = view->runtime = about.runtime;
    return r;
}

static int reach(struct fl_orchestrator_view *view, struct fl_error *err)
{
    const struct fl_orchestrator *orchestrator = view->orchestrator;
    struct fl_orchestrators *all = view->controller->orchestrators;
    int r;

    r = fl_orchestrators_ensure(all, orchestrator->meta.name, types[orchestrator->spec.type],
                                &orchestrator->spec, err);
    if (r < 0)
        return unreachable(view, err);
    view->driver = fl_orchestrators_get(all, orchestrator->meta.name);
    if (!view->driver)
        return fl_error_set(err, FL_E_CONFLICT, "its driver was taken away");
    r = ask(view, err);
    if (r == 0)
        r = ask_about(view, err);
    return r < 0 ? unreachable(view, err) : 0;
}

/* The second: what it has. */

static int64_t count_clusters(const struct fl_node_list *nodes)
{
    int64_t count = 0;

    for (size_t i = 0; i < nodes->count; i++) {
        bool seen = false;

        for (size_t other = 0; other < i && !seen; other++)
            seen = fl_streq(nodes->items[other].cluster, nodes->items[i].cluster);
        count += !seen;
    }
    return count;
}

static void tell(const struct fl_orchestrator_view *view)
{
    struct fl_orchestrator_status *status = &view->orchestrator->status;
    struct fl_node_capacity all = fl_orchestrator_sum(&view->nodes, NULL, false);
    struct fl_node_capacity left = fl_orchestrator_sum(&view->nodes, NULL, true);
    struct fl_arena *arena = view->rc->arena;

    tell_seen(view);
    status->reachable = status->has_reachable = true;
    status->clusters = count_clusters(&view->nodes);
    status->has_clusters = true;
    status->nodes = fl_orchestrator_count(arena, &view->nodes, NULL);
    status->has_nodes = true;
    status->workloads = (int64_t)view->uids.count;
    status->has_workloads = true;
    fl_orchestrator_show_capacity(arena, &all, &status->capacity, &status->has_capacity);
    fl_orchestrator_show_capacity(arena, &left, &status->available, &status->has_available);
    fl_true(view->rc, "Reachable", "Reachable", "%s nodes are ready", status->nodes.summary);
    fl_ready_as(view->rc, "Reachable", "%s nodes are ready", status->nodes.summary);
}

static int look_after(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    FL_CLEANUP(fl_orchestrator_view_close)
    struct fl_orchestrator_view view = {.rc = rc, .controller = rc->user, .orchestrator = object};
    int r;

    r = reach(&view, err);
    if (r == 0)
        r = fl_orchestrator_show_edges(&view, err);
    if (r == 0)
        r = fl_orchestrator_sweep(&view, err);
    if (r == 0)
        tell(&view);
    return r;
}

static bool is_suspended(const void *object)
{
    return ((const struct fl_orchestrator *)object)->spec.suspend;
}

/* The end. */

static json_t *others_finalizers(const struct fl_reconcile *rc, const char *ours)
{
    json_t *list = json_array(), *item;
    size_t i;

    json_array_foreach(fl_json_path(rc->json, "metadata.finalizers"), i, item) {
        if (!fl_streq(json_string_value(item), ours))
            (void)json_array_append(list, item);
    }
    return list;
}

#define FINALIZER "flops.dev/orchestrator"

/* `local` is there for ever: it goes now, and comes new in the same pass. The driver stays. */
static int come_back(struct fl_reconcile *rc, const struct fl_object_meta *meta,
                     struct fl_error *err)
{
    struct fl_gvr gvr = fl_gvr_of(&fl_orchestrator_type);
    FL_JSON patch =
        json_pack("{s:{s:s, s:s, s:o}}", "metadata", "uid", meta->uid, "resourceVersion",
                  meta->resource_version, "finalizers", others_finalizers(rc, FINALIZER));
    int r;

    r = fl_apiclient_patch(rc->client, &gvr, NULL, meta->name, NULL, patch, NULL, err);
    if (r < 0 && r != FL_E_NOT_FOUND)
        return fl_error_wrap(err, "finalizer");
    r = fl_orchestrator_ensure_local(rc->client, err);
    return r < 0 ? fl_error_wrap(err, "make it again") : FL_STEP_DONE;
}

/* What it holds has to go first, or nobody could stop it any more. */
static int wait_for_workloads(struct fl_orchestrator_view *view, struct fl_error *err)
{
    int r;

    r = reach(view, err);
    if (r == FL_E_INVALID) /* there cannot be a driver, and so there never was one */
        return FL_STEP_DONE;
    if (r == 0)
        r = fl_orchestrator_sweep(view, err);
    if (r < 0 || view->uids.count == 0)
        return r;
    return fl_not_yet(view->rc, "Reachable", "WorkloadsLeft", "%zu Workloads still have instances",
                      view->uids.count);
}

static int finalize(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    const struct fl_orchestrator *orchestrator = object;
    struct fl_orchestrator_view view = {.rc = rc, .controller = rc->user, .orchestrator = object};
    int r;

    if (fl_streq(orchestrator->meta.name, FL_ORCHESTRATOR_LOCAL))
        return come_back(rc, &orchestrator->meta, err);
    r = wait_for_workloads(&view, err);
    fl_orchestrator_view_close(&view);
    if (r == FL_STEP_DONE)
        fl_orchestrators_drop(view.controller->orchestrators, orchestrator->meta.name);
    return r;
}

/* What Workloads run is what it holds, and what its nodes have left. */
static void by_workload(struct fl_cache *cache, const json_t *workload, fl_wake_add_fn *add,
                        void *user)
{
    (void)cache;
    add(user, NULL, fl_str_or(fl_json_str(workload, "spec.orchestrator"), "local"));
}

static const struct fl_kind_ops ops = {
    .controller = "orchestrator",
    .type = &fl_orchestrator_type,
    FL_STATUS_OF(struct fl_orchestrator),
    .finalizer = FINALIZER,
    .wakes = {{.gvr = {"flops.dev", "v1alpha1", "edgenodes", false}},
              {.gvr = {"flops.dev", "v1alpha1", "edgeclusters", false}},
              {.gvr = {"flops.dev", "v1alpha1", "workloads", true},
               .map = by_workload,
               .delay_ms = WORKLOADS_DELAY_MS}},
    .is_suspended = is_suspended,
    .suspend = look_after, /* nothing new is started, by the workload controller */
    .steps = {look_after},
    .finalize = finalize,
    .workers = 1,
};

int fl_orchestrator_controller_create(struct fl_manager *manager,
                                      struct fl_orchestrators *orchestrators,
                                      struct fl_orchestrator_controller **ret_controller,
                                      struct fl_error *err)
{
    FL_CLEANUP(fl_orchestrator_controller_destroyp)
    struct fl_orchestrator_controller *controller = fl_calloc(1, sizeof(*controller));
    struct fl_gvr workloads = fl_gvr_of(&fl_workload_type);
    struct fl_gvr nodes = fl_gvr_of(&fl_edgenode_type);
    struct fl_gvr clusters = fl_gvr_of(&fl_edgecluster_type);
    int r;

    controller->manager = manager;
    controller->orchestrators = orchestrators;
    r = fl_manager_add(manager, &ops, controller, err);
    if (r < 0)
        return fl_error_wrap(err, "orchestrator controller");
    controller->workloads = fl_manager_cache(manager, &workloads);
    controller->nodes = fl_manager_cache(manager, &nodes);
    controller->clusters = fl_manager_cache(manager, &clusters);
    *ret_controller = FL_TAKE(controller);
    return 0;
}

void fl_orchestrator_controller_destroy(struct fl_orchestrator_controller *controller)
{
    free(controller);
}
