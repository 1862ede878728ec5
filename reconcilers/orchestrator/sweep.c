/* Orphans: what a driver still holds of Workloads that are gone. A finalizer removes what a
 * Workload ran; this is for those whose finalizer was taken away by force, or whose orchestrator
 * was. */
#include "lib/map.h"
#include "lib/str.h"
#include "reconcilers/orchestrator/orchestrator_internal.h"

#define GRACE_MS       30000
#define SWEEP_AGAIN_MS 5000   /* while orphans are stopping */
#define SWEEP_EACH_MS  600000 /* although nothing tells of new ones */

static char present[] = "";

static void collect_cached(const struct fl_orchestrator_view *view, struct fl_map *uids)
{
    struct fl_list list;

    fl_cache_list(view->controller->workloads, NULL, &list);
    for (size_t i = 0; i < list.count; i++)
        fl_map_put(uids, list.objects[i]->uid, present);
    fl_list_finish(&list);
}

static int collect_live(const struct fl_orchestrator_view *view, struct fl_map *uids,
                        struct fl_error *err)
{
    struct fl_gvr gvr = fl_gvr_of(&fl_workload_type);
    FL_JSON items = NULL;
    json_t *item;
    size_t i;
    int r;

    r = fl_apiclient_list(view->rc->client, &gvr, NULL, NULL, &items, err);
    if (r < 0)
        return fl_error_wrap(err, "list Workloads");
    json_array_foreach(items, i, item) {
        const char *uid = fl_json_str(item, "metadata.uid");

        if (uid)
            fl_map_put(uids, uid, present);
    }
    return 0;
}

static bool has_others(const struct fl_orchestrator_view *view, const struct fl_map *known)
{
    for (size_t i = 0; i < view->uids.count; i++)
        if (!fl_map_get(known, view->uids.items[i]))
            return true;
    return false;
}

static int remove_run(const struct fl_orchestrator_view *view, const char *uid,
                      const struct fl_run *run, struct fl_error *err)
{
    const struct fl_orchestrator_ops *ops = view->driver->ops;
    struct fl_run_id id = {uid, run->index};

    if (run->state == FL_RUN_ENDED)
        return ops->remove(view->driver, &id, err);
    fl_requeue_after(view->rc, SWEEP_AGAIN_MS);
    if (run->state == FL_RUN_STOPPING)
        return 0;
    fl_log_warn(view->rc->log, "instance of no Workload is stopped", FL_STR("uid", uid),
                FL_INT("index", run->index));
    return ops->stop(view->driver, &id, GRACE_MS, "Stopped", err);
}

static int remove_workload(const struct fl_orchestrator_view *view, const char *uid,
                           struct fl_error *err)
{
    struct fl_run_list runs;
    int r;

    r = view->driver->ops->observe(view->driver, uid, view->rc->arena, &runs, err);
    for (size_t i = 0; r == 0 && i < runs.count; i++)
        r = remove_run(view, uid, &runs.items[i], err);
    return r;
}

/* The driver was asked before the list was made, and what it holds began after its Workload did: so
 * who is not in the list is gone. */
static int remove_orphans(const struct fl_orchestrator_view *view, struct fl_error *err)
{
    FL_CLEANUP(fl_map_destroyp) struct fl_map *live = fl_map_create(NULL);
    int r;

    r = collect_live(view, live, err);
    for (size_t i = 0; r == 0 && i < view->uids.count; i++)
        if (!fl_map_get(live, view->uids.items[i]))
            r = remove_workload(view, view->uids.items[i], err);
    return r < 0 ? fl_error_wrap(err, "orphans") : 0;
}

int fl_orchestrator_sweep(const struct fl_orchestrator_view *view, struct fl_error *err)
{
    FL_CLEANUP(fl_map_destroyp) struct fl_map *cached = fl_map_create(NULL);

    fl_requeue_after(view->rc, SWEEP_EACH_MS);
    collect_cached(view, cached);
    return has_others(view, cached) ? remove_orphans(view, err) : 0;
}
