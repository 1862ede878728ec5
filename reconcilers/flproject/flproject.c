#include "reconcilers/flproject/flproject.h"

#include "controller/runtime/manager.h"
#include "lib/str.h"
#include "reconcilers/flproject/flproject_internal.h"

#include <inttypes.h>

static int look_and_act(struct fl_reconcile *rc, void *object, struct fl_flproject_view *view,
                        struct fl_error *err)
{
    int r;

    *view = (struct fl_flproject_view){.rc = rc, .controller = rc->user, .project = object};
    r = fl_flproject_look(view, err);
    fl_flproject_wake_tracking(view);
    if (r == 0)
        r = fl_flproject_act(view, err);
    if (r == 0 && view->decision.look_again_ms >= 0)
        fl_requeue_after(rc, view->decision.look_again_ms);
    return r;
}

static int run(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct fl_flproject_view view;
    int r = look_and_act(rc, object, &view, err);

    return r < 0 ? r : fl_flproject_report(&view);
}

static int64_t living(const struct fl_flproject_view *view)
{
    int64_t sum = 0;

    for (size_t i = 0; i < view->input.workload_count; i++)
        if (view->input.workloads[i]->status.has_replicas)
            sum += view->input.workloads[i]->status.replicas.current;
    return sum;
}

static int suspend(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct fl_flproject_view view;
    int r = look_and_act(rc, object, &view, err);

    if (r < 0)
        return r;
    (void)fl_flproject_report(&view);
    if (living(&view) > 0)
        return fl_not_yet(rc, "Training", "Suspended", "%" PRId64 " processes are stopping",
                          living(&view));
    return FL_STEP_DONE;
}

static int finalize(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct fl_flproject_view view = {.rc = rc, .controller = rc->user, .project = object};
    int left = fl_flproject_remove_all(&view, err);

    if (left < 0)
        return fl_failed(rc, "Training", "Deleting", err);
    if (left > 0)
        return fl_not_yet(rc, "Training", "Deleting", "%d objects are being removed", left);
    fl_flproject_forget(&view);
    fl_flproject_forget_fetch(&view);
    fl_flproject_wake_tracking(&view);
    return FL_STEP_DONE;
}

static bool is_suspended(const void *object)
{
    return ((const struct fl_project *)object)->spec.suspend;
}

/* Who is woken by what. */

static void by_orchestrator(const json_t *object, fl_index_emit_fn *emit, void *user)
{
    emit(user, fl_str_or(fl_json_str(object, "spec.orchestrator"), "local"));
}

/* Those that begin with another project's model. */
static void by_source(const json_t *object, fl_index_emit_fn *emit, void *user)
{
    const char *name = fl_json_str(object, "spec.training.initialModel.project.name");

    if (name)
        emit(user, name);
}

/* Whose fetches they are (flproject_fetch.c). */
static void by_uid(const json_t *object, fl_index_emit_fn *emit, void *user)
{
    if (fl_json_path(object, "spec.source.git"))
        emit(user, fl_str_or(fl_json_str(object, "metadata.uid"), ""));
}

static const struct fl_cache_index indexes[] = {
    {"orchestrator", by_orchestrator},
    {"source", by_source},
    {"uid", by_uid},
};

static void add_all(struct fl_cache *cache, const char *index, const char *value, const char *ns,
                    fl_wake_add_fn *add, void *user)
{
    struct fl_list list;

    fl_cache_list_by(cache, index, value, &list);
    for (size_t i = 0; i < list.count; i++)
        if (!ns || fl_streq(list.objects[i]->ns, ns))
            add(user, list.objects[i]->ns, list.objects[i]->name);
    fl_list_finish(&list);
}

static void wake_named(struct fl_cache *cache, const json_t *object, fl_wake_add_fn *add,
                       void *user)
{
    const char *name = fl_json_str(object, "spec.project.name");
    const char *ns = fl_json_str(object, "metadata.namespace");

    (void)cache;
    if (name && ns)
        add(user, ns, name);
}

static void wake_by_model(struct fl_cache *cache, const json_t *object, fl_wake_add_fn *add,
                          void *user)
{
    const char *name = fl_json_str(object, "spec.project.name");

    wake_named(cache, object, add, user);
    if (name)
        add_all(cache, "source", name, fl_json_str(object, "metadata.namespace"), add, user);
}

static void wake_by_node(struct fl_cache *cache, const json_t *object, fl_wake_add_fn *add,
                         void *user)
{
    const char *name = fl_json_str(object, "spec.orchestrator");

    if (name)
        add_all(cache, "orchestrator", name, NULL, add, user);
}

static void wake_by_orchestrator(struct fl_cache *cache, const json_t *object, fl_wake_add_fn *add,
                                 void *user)
{
    const char *name = fl_json_str(object, "metadata.name");

    if (name)
        add_all(cache, "orchestrator", name, NULL, add, user);
}

#define GROUP "flops.dev", "v1alpha1"

static const struct fl_kind_ops ops = {
    .controller = "flproject",
    .type = &fl_project_type,
    FL_STATUS_OF(struct fl_project),
    .finalizer = "flops.dev/flproject",
    .indexes = indexes,
    .index_count = FL_COUNT_OF(indexes),
    .wakes = {{.gvr = {GROUP, "workloads", true}},
              {.gvr = {GROUP, "imagebuilds", true}},
              {.gvr = {GROUP, "flrounds", true}, .map = wake_named},
              {.gvr = {GROUP, "modelversions", true}, .map = wake_by_model},
              {.gvr = {GROUP, "inferenceservers", true}},
              {.gvr = {"", "v1", "secrets", true}},
              {.gvr = {GROUP, "edgenodes", false}, .map = wake_by_node, .delay_ms = 20},
              {.gvr = {GROUP, "edgeclusters", false}, .map = wake_by_node, .delay_ms = 20},
              {.gvr = {GROUP, "orchestrators", false}, .map = wake_by_orchestrator}},
    .is_suspended = is_suspended,
    .suspend = suspend,
    .steps = {run},
    .finalize = finalize,
};

int fl_flproject_controller_create(struct fl_manager *manager,
                                   struct fl_federation_driver *federation,
                                   struct fl_source *source,
                                   struct fl_flproject_controller **ret_controller,
                                   struct fl_error *err)
{
    FL_CLEANUP(fl_flproject_controller_destroyp)
    struct fl_flproject_controller *controller = fl_calloc(1, sizeof(*controller));
    int r;

    controller->manager = manager;
    controller->federation = federation;
    controller->source = source;
    r = fl_manager_add(manager, &ops, controller, err);
    if (r < 0)
        return fl_error_wrap(err, "flproject controller");
    *ret_controller = FL_TAKE(controller);
    return 0;
}

void fl_flproject_controller_destroy(struct fl_flproject_controller *controller)
{
    free(controller);
}

void fl_flproject_track(struct fl_flproject_controller *controller, struct fl_tracking *tracking)
{
    controller->tracking = tracking;
}

void fl_flproject_changed(struct fl_flproject_controller *controller, const char *ns,
                          const char *project)
{
    fl_manager_enqueue(controller->manager, ops.controller, ns, project);
}

static void enqueue(void *user, const char *ns, const char *name)
{
    fl_flproject_changed(user, ns, name);
}

/* A key begins with the project's uid. */
void fl_flproject_source_changed(void *user, const char *key)
{
    struct fl_flproject_controller *controller = user;
    struct fl_gvr gvr = fl_gvr_of(&fl_project_type);
    FL_CLEANUP(fl_freep) char *uid = fl_strndup(key, FL_UUID_SIZE - 1);

    add_all(fl_manager_cache(controller->manager, &gvr), "uid", uid, NULL, enqueue, controller);
}
