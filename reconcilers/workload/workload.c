#include "reconcilers/workload/workload.h"

#include "lib/str.h"
#include "reconcilers/workload/workload_internal.h"

#define NO_PLACE_AGAIN_MS 60000 /* room that comes free is told; this is for what was missed */

/* One pass with one intent. What could not be done does not keep the rest from being told. */

static int supervise(struct fl_workload_view *view, struct fl_error *err)
{
    int r;

    r = fl_workload_look(view, err);
    if (r < 0)
        return r;
    r = fl_workload_act(view, err);
    fl_workload_fill_status(view);
    if (view->decision.look_again_ms >= 0)
        fl_requeue_after(view->rc, view->decision.look_again_ms);
    if (view->decision.no_place)
        fl_requeue_after(view->rc, NO_PLACE_AGAIN_MS);
    return r;
}

/* FL_STEP_DONE: `view` was opened and supervised. */
static int look_after(struct fl_reconcile *rc, void *object, enum fl_workload_intent intent,
                      struct fl_workload_view *view, struct fl_error *err)
{
    int r;

    *view = (struct fl_workload_view){
        .rc = rc, .controller = rc->user, .workload = object, .intent = intent};
    r = fl_workload_view_open(view, err);
    if (r == FL_STEP_DONE && view->driver)
        r = supervise(view, err);
    return r;
}

static int run(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    FL_CLEANUP(fl_workload_view_close) struct fl_workload_view view;
    int r = look_after(rc, object, FL_INTENT_RUN, &view, err);

    return r == FL_STEP_DONE ? fl_workload_conclude(&view) : r;
}

static int suspend(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    FL_CLEANUP(fl_workload_view_close) struct fl_workload_view view;
    int r = look_after(rc, object, FL_INTENT_SUSPEND, &view, err);

    if (r != FL_STEP_DONE)
        return r;
    fl_condition_remove(rc, "Scheduled");
    if (view.decision.living > 0)
        return fl_not_yet(rc, "Available", "Suspended", "%s", view.decision.message);
    fl_false(rc, "Available", "Suspended", "%s", view.decision.message);
    return FL_STEP_DONE;
}

static int finalize(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    FL_CLEANUP(fl_workload_view_close) struct fl_workload_view view;
    int r = look_after(rc, object, FL_INTENT_DELETE, &view, err);

    if (r != FL_STEP_DONE || view.decision.left == 0)
        return r;
    return fl_not_yet(rc, "Available", "Stopping", "%zu instances are stopping",
                      view.decision.living);
}

static bool is_suspended(const void *object)
{
    return ((const struct fl_workload *)object)->spec.suspend;
}

/* Who is woken by what. */

static void by_orchestrator(const json_t *object, fl_index_emit_fn *emit, void *user)
{
    emit(user, fl_str_or(fl_json_str(object, "spec.orchestrator"), "local"));
}

static bool lacks_a_place(const json_t *object)
{
    json_t *condition;
    size_t i;

    json_array_foreach(fl_json_path(object, "status.conditions"), i, condition)
        if (fl_streq(fl_json_str(condition, "reason"), "NoPlace"))
            return true;
    return false;
}

static void by_want_of_place(const json_t *object, fl_index_emit_fn *emit, void *user)
{
    if (lacks_a_place(object))
        emit(user, "waits");
}

static void emit_secret(const json_t *ref, const char *ns, fl_index_emit_fn *emit, void *user)
{
    const char *name = fl_json_str(ref, "name");
    FL_CLEANUP(fl_freep) char *key = name ? fl_asprintf("%s/%s", ns, name) : NULL;

    if (key)
        emit(user, key);
}

/* Whoever uses the Secret, whether it lacks it or not: a pass may look for it just now. */
static void by_secret(const json_t *object, fl_index_emit_fn *emit, void *user)
{
    const char *ns = fl_str_or(fl_json_str(object, "metadata.namespace"), "");
    json_t *item;
    size_t i;

    json_array_foreach(fl_json_path(object, "spec.env"), i, item)
        emit_secret(fl_json_path(item, "valueFrom.secretKeyRef"), ns, emit, user);
    json_array_foreach(fl_json_path(object, "spec.files"), i, item)
        emit_secret(fl_json_path(item, "secretKeyRef"), ns, emit, user);
}

static void wake_users(struct fl_cache *cache, const json_t *secret, fl_wake_add_fn *add,
                       void *user)
{
    const char *ns = fl_str_or(fl_json_str(secret, "metadata.namespace"), "");
    FL_CLEANUP(fl_freep)
    char *key = fl_asprintf("%s/%s", ns, fl_str_or(fl_json_str(secret, "metadata.name"), ""));
    struct fl_list list;

    fl_cache_list_by(cache, "secret", key, &list);
    for (size_t i = 0; i < list.count; i++)
        add(user, list.objects[i]->ns, list.objects[i]->name);
    fl_list_finish(&list);
}

static const struct fl_cache_index indexes[] = {
    {"orchestrator", by_orchestrator},
    {"noplace", by_want_of_place},
    {"secret", by_secret},
};

static const struct fl_kind_ops ops = {
    .controller = "workload",
    .type = &fl_workload_type,
    FL_STATUS_OF(struct fl_workload),
    .finalizer = "flops.dev/workload",
    .indexes = indexes,
    .index_count = FL_COUNT_OF(indexes),
    .wakes = {{.gvr = {"", "v1", "secrets", true}, .map = wake_users}},
    .is_suspended = is_suspended,
    .suspend = suspend,
    .steps = {run},
    .finalize = finalize,
};

static void wake_by(struct fl_workload_controller *controller, const char *index, const char *value)
{
    struct fl_list list;

    fl_cache_list_by(controller->workloads, index, value, &list);
    for (size_t i = 0; i < list.count; i++)
        fl_manager_enqueue(controller->manager, ops.controller, list.objects[i]->ns,
                           list.objects[i]->name);
    fl_list_finish(&list);
}

/* All Workloads of an orchestrator, since its nodes or settings changed. */
static void wake_all(struct fl_workload_controller *controller, const char *orchestrator)
{
    wake_by(controller, "orchestrator", orchestrator);
}

/* A run that ends may leave room for those that wait for it. */
static void on_changed(void *user, const char *ns, const char *name)
{
    struct fl_workload_controller *controller = user;

    if (!ns) {
        fl_manager_enqueue(controller->manager, "orchestrator", NULL, name);
        wake_all(controller, name);
        return;
    }
    fl_manager_enqueue(controller->manager, ops.controller, ns, name);
    wake_by(controller, "noplace", "waits");
}

/* An EdgeNode or EdgeCluster that a user closed or opened. */
static void on_edge(void *user, struct fl_object *old, struct fl_object *edge)
{
    FL_JSON json = NULL;
    const char *orchestrator;

    if (!edge || fl_workload_edge_is_closed(old) == fl_workload_edge_is_closed(edge))
        return;
    json = fl_object_parse(edge);
    orchestrator = fl_json_str(json, "spec.orchestrator");
    if (orchestrator)
        wake_all(user, orchestrator);
}

/* An Orchestrator that came or went; its other changes come through its driver. */
static void on_orchestrator(void *user, struct fl_object *old, struct fl_object *object)
{
    if (!old)
        wake_all(user, object->name);
    else if (!object)
        wake_all(user, old->name);
}

int fl_workload_controller_create(struct fl_manager *manager,
                                  struct fl_orchestrators *orchestrators,
                                  struct fl_workload_controller **ret_controller,
                                  struct fl_error *err)
{
    FL_CLEANUP(fl_workload_controller_destroyp)
    struct fl_workload_controller *controller = fl_calloc(1, sizeof(*controller));
    struct fl_gvr workloads = fl_gvr_of(&fl_workload_type);
    struct fl_gvr nodes = fl_gvr_of(&fl_edgenode_type);
    struct fl_gvr clusters = fl_gvr_of(&fl_edgecluster_type);
    struct fl_gvr owners = fl_gvr_of(&fl_orchestrator_type);
    int r;

    controller->manager = manager;
    controller->orchestrators = orchestrators;
    controller->placing = fl_lock_create();
    r = fl_manager_add(manager, &ops, controller, err);
    if (r < 0)
        return fl_error_wrap(err, "workload controller");
    controller->workloads = fl_manager_cache(manager, &workloads);
    controller->nodes = fl_manager_cache(manager, &nodes);
    controller->clusters = fl_manager_cache(manager, &clusters);
    fl_cache_on_change(fl_manager_cache(manager, &owners), on_orchestrator, controller);
    fl_cache_on_change(controller->nodes, on_edge, controller);
    fl_cache_on_change(controller->clusters, on_edge, controller);
    fl_orchestrators_on_changed(orchestrators, on_changed, controller);
    *ret_controller = FL_TAKE(controller);
    return 0;
}

void fl_workload_controller_destroy(struct fl_workload_controller *controller)
{
    if (!controller)
        return;
    fl_orchestrators_on_changed(controller->orchestrators, NULL, NULL);
    fl_lock_destroy(controller->placing);
    free(controller);
}
