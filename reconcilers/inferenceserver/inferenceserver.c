#include "reconcilers/inferenceserver/inferenceserver.h"

#include "lib/str.h"
#include "reconcilers/inferenceserver/inferenceserver_internal.h"

static const struct fl_gvr workloads = {"flops.dev", "v1alpha1", "workloads", true},
                           versions = {"flops.dev", "v1alpha1", "modelversions", true};

/* One pass */

static int decide_and_act(struct fl_serving_view *view, struct fl_error *err)
{
    struct fl_router_driver *routers = view->controller->options.routers;
    struct fl_router_view ignored;
    int r;

    fl_serving_decide(view->rc->arena, &view->world, &view->plan);
    r = fl_serving_act(view, err);
    if (r == 0 && view->scaled)
        fl_event_note(view->rc, FL_NORMAL, "Scaled", "%s", view->scaled);
    if (r == 0 && view->plan.look_again_ms >= 0)
        fl_requeue_after(view->rc, view->plan.look_again_ms);
    if (r == 0 && view->plan.counts_needed && view->at.address)
        r = routers->ops->observe(routers, &view->at, view->plan.look_again_ms, view->rc->arena,
                                  &ignored, err);
    return r;
}

static int serve(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct fl_serving_view view = {.rc = rc, .controller = rc->user, .server = object};
    int found, r;

    found = fl_serving_find_model(&view, err);
    if (found < 0)
        return found;
    r = fl_serving_ensure_router(&view, err);
    if (r == FL_STEP_DONE)
        r = fl_serving_look(&view, err);
    if (r != FL_STEP_DONE)
        return r;
    if (!view.has_model && view.set_count == 0) {
        r = fl_serving_tidy(&view, err);
        return r < 0 ? r : found; /* nothing serves, and there is nothing to serve */
    }
    r = decide_and_act(&view, err);
    if (r == 0)
        r = fl_serving_tidy(&view, err);
    if (r < 0)
        return r;
    r = fl_serving_report(&view);
    return found == FL_STEP_DONE ? r : found;
}

static int pause_child(struct fl_reconcile *rc, struct fl_workload *workload, struct fl_error *err)
{
    struct fl_gvr gvr = workloads;
    FL_JSON patch = json_pack("{s:{s:b}}", "spec", "suspend", 1);

    if (workload->spec.suspend)
        return 0;
    return fl_apiclient_patch(rc->client, &gvr, workload->meta.namespace, workload->meta.name, NULL,
                              patch, NULL, err);
}

static int suspend(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct fl_inferenceserver *server = object;
    struct fl_child_list list;
    int64_t running = 0;
    int r = fl_list_children(rc, &fl_workload_type, &list, err);

    for (size_t i = 0; r == 0 && i < list.count; i++) {
        struct fl_workload *workload = list.items[i];

        r = pause_child(rc, workload, err);
        running += workload->status.has_replicas ? workload->status.replicas.current : 0;
    }
    if (r < 0)
        return r;
    server->status.traffic = (struct fl_inferenceserver_status_traffic_list){0};
    if (running > 0)
        return fl_not_yet(rc, "Available", "Suspended", "the servers are stopping");
    fl_false(rc, "Available", "Suspended", "the servers are stopped");
    return FL_STEP_DONE;
}

static bool is_suspended(const void *object)
{
    return ((const struct fl_inferenceserver *)object)->spec.suspend;
}

/* What it made goes by its owner references. */
static int finalize(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct fl_inferenceserver_controller *controller = rc->user;
    struct fl_router_driver *routers = controller->options.routers;

    (void)err;
    routers->ops->forget(routers, ((struct fl_inferenceserver *)object)->meta.uid);
    return FL_STEP_DONE;
}

/* Who is woken by what */

static void by_project(const json_t *object, fl_index_emit_fn *emit, void *user)
{
    const char *project = fl_json_str(object, "spec.model.project.name"),
               *ns = fl_str_or(fl_json_str(object, "metadata.namespace"), "");
    FL_CLEANUP(fl_freep) char *key = project ? fl_asprintf("%s/%s", ns, project) : NULL;

    if (key)
        emit(user, key);
}

static void by_secret(const json_t *object, fl_index_emit_fn *emit, void *user)
{
    const char *secret = fl_json_str(object, "spec.tokensSecret.name"),
               *ns = fl_str_or(fl_json_str(object, "metadata.namespace"), "");
    FL_CLEANUP(fl_freep) char *key = secret ? fl_asprintf("%s/%s", ns, secret) : NULL;

    if (key)
        emit(user, key);
}

static void wake_by(struct fl_cache *cache, const char *index, const char *ns, const char *name,
                    fl_wake_add_fn *add, void *user)
{
    FL_CLEANUP(fl_freep)
    char *key = fl_asprintf("%s/%s", fl_str_or(ns, ""), fl_str_or(name, ""));
    struct fl_list list;

    fl_cache_list_by(cache, index, key, &list);
    for (size_t i = 0; i < list.count; i++)
        add(user, list.objects[i]->ns, list.objects[i]->name);
    fl_list_finish(&list);
}

static void wake_by_version(struct fl_cache *cache, const json_t *version, fl_wake_add_fn *add,
                            void *user)
{
    wake_by(cache, "project", fl_json_str(version, "metadata.namespace"),
            fl_json_str(version, "spec.project.name"), add, user);
}

static void wake_by_secret(struct fl_cache *cache, const json_t *secret, fl_wake_add_fn *add,
                           void *user)
{
    wake_by(cache, "secret", fl_json_str(secret, "metadata.namespace"),
            fl_json_str(secret, "metadata.name"), add, user);
}

static const struct fl_cache_index indexes[] = {{"project", by_project}, {"secret", by_secret}};

static const struct fl_kind_ops ops = {
    .controller = "inferenceserver",
    .type = &fl_inferenceserver_type,
    FL_STATUS_OF(struct fl_inferenceserver),
    .finalizer = "flops.dev/inferenceserver",
    .indexes = indexes,
    .index_count = FL_COUNT_OF(indexes),
    .wakes = {{.gvr = {"flops.dev", "v1alpha1", "workloads", true}},
              {.gvr = {"flops.dev", "v1alpha1", "modelversions", true}, .map = wake_by_version},
              {.gvr = {"", "v1", "secrets", true}, .map = wake_by_secret}},
    .is_suspended = is_suspended,
    .suspend = suspend,
    .steps = {serve},
    .finalize = finalize,
};

void fl_inferenceserver_router_changed(void *user, const char *ns, const char *name)
{
    struct fl_inferenceserver_controller *controller = user;

    fl_manager_enqueue(controller->manager, ops.controller, ns, name);
}

int fl_inferenceserver_controller_create(struct fl_manager *manager,
                                         const struct fl_inferenceserver_options *options,
                                         struct fl_inferenceserver_controller **ret_controller,
                                         struct fl_error *err)
{
    FL_CLEANUP(fl_inferenceserver_controller_destroyp)
    struct fl_inferenceserver_controller *controller = fl_calloc(1, sizeof(*controller));
    int r;

    controller->manager = manager;
    controller->options = *options;
    r = fl_manager_add(manager, &ops, controller, err);
    if (r < 0)
        return fl_error_wrap(err, "inferenceserver controller");
    controller->versions = fl_manager_cache(manager, &versions);
    controller->secrets = fl_manager_cache(manager, &fl_gvr_secrets);
    *ret_controller = FL_TAKE(controller);
    return 0;
}

void fl_inferenceserver_controller_destroy(struct fl_inferenceserver_controller *controller)
{
    free(controller);
}
