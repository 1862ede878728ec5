/* What there is: sets, their servers, the router. */
#include "lib/str.h"
#include "reconcilers/inferenceserver/inferenceserver_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static const char *note(const struct fl_workload *set, const char *name)
{
    return json_string_value(json_object_get(set->meta.annotations, name));
}

/* Its own address, as the router shall call it. */
static const char *url_of(struct fl_arena *arena,
                          const struct fl_workload_status_instance *instance)
{
    const struct fl_workload_status one = {.instances = {(void *)instance, 1}};
    const struct fl_workload alone = {.status = one};

    return fl_serving_address(arena, &alone, "http", "http");
}

static void show_instances(struct fl_serving_view *view, const struct fl_workload *workload,
                           struct fl_serving_set *set)
{
    const struct fl_workload_status_instance_list *list = &workload->status.instances;

    set->instances = fl_new_array(view->rc->arena, struct fl_serving_instance, list->count);
    for (size_t i = 0; i < list->count; i++) {
        const char *url = url_of(view->rc->arena, &list->items[i]);

        if (list->items[i].message && !list->items[i].ready)
            set->trouble = list->items[i].message;
        if (list->items[i].state == FL_WORKLOAD_STATUS_INSTANCE_STATE_SUCCEEDED ||
            list->items[i].state == FL_WORKLOAD_STATUS_INSTANCE_STATE_FAILED)
            continue;
        set->instances[set->instance_count++] = (struct fl_serving_instance){
            .index = list->items[i].index,
            .ready = list->items[i].ready && url,
            .url = url,
            .id = fl_arena_printf(view->rc->arena, "%s/%" PRId64, set->revision,
                                  list->items[i].index)};
    }
}

static struct fl_serving_set show_set(struct fl_serving_view *view,
                                      const struct fl_workload *workload)
{
    const char *metric = note(workload, "flops.dev/metric"),
               *round = note(workload, "flops.dev/round"),
               *replicas = note(workload, "flops.dev/replicas"),
               *created = json_string_value(
                   json_object_get(workload->meta.annotations, "flops.dev/made-at"));
    struct fl_serving_set set = {
        .revision =
            json_string_value(json_object_get(workload->meta.labels, FL_SERVING_REVISION_LABEL)),
        .digest = note(workload, "flops.dev/model"),
        .round = round ? strtoll(round, NULL, 10) : 0,
        .metric = metric ? strtod(metric, NULL) : NAN,
        .asked = workload->spec.instances,
        .replicas = replicas ? strtoll(replicas, NULL, 10) : 0,
        .stable = fl_streq(note(workload, "flops.dev/stable"), "true"),
        .rejected = note(workload, "flops.dev/rejected"),
        .rejected_why = note(workload, "flops.dev/rejected-why"),
    };

    if (created)
        (void)fl_time_parse(created, &set.created_us);
    show_instances(view, workload, &set);
    return set;
}

static int list_children(struct fl_serving_view *view, struct fl_error *err)
{
    struct fl_child_list list;
    int r = fl_list_children(view->rc, &fl_workload_type, &list, err);

    for (size_t i = 0; r == 0 && i < list.count; i++) {
        struct fl_workload *workload = list.items[i];

        if (!json_object_get(workload->meta.labels, FL_SERVING_REVISION_LABEL))
            view->router = workload;
        else if (view->set_count < FL_SERVING_SETS_MAX && !workload->meta.deletion_timestamp)
            view->sets[view->set_count++] = workload;
    }
    return r;
}

static void show_target(struct fl_serving_view *view)
{
    view->world.target = (struct fl_serving_set){.revision = fl_serving_revision(view),
                                                 .digest = view->model.digest,
                                                 .round = view->model.round,
                                                 .metric = view->model.metric};
}

/* Without a model to go for, what serves goes on. */
static void keep_stable(struct fl_serving_view *view)
{
    for (size_t i = 0; i < view->set_count; i++)
        if (view->world.sets[i].stable || !view->world.target.revision)
            view->world.target = view->world.sets[i];
}

static int ask_router(struct fl_serving_view *view, struct fl_error *err)
{
    struct fl_router_driver *routers = view->controller->options.routers;
    const struct fl_object_meta *meta = &view->server->meta;

    view->at = (struct fl_router_at){
        .uid = meta->uid, .ns = meta->namespace, .name = meta->name, .token = view->admin_token};
    if (view->router)
        view->at.address = fl_serving_address(view->rc->arena, view->router, "admin", "http");
    view->world.has_router = view->at.address != NULL;
    if (!view->at.address)
        return 0;
    return routers->ops->observe(routers, &view->at, -1, view->rc->arena, &view->world.router, err);
}

int fl_serving_look(struct fl_serving_view *view, struct fl_error *err)
{
    const struct fl_inferenceserver_spec *spec = &view->server->spec;
    int r = list_children(view, err);

    if (r < 0)
        return r;
    view->world.rollout = &view->server->spec.rollout;
    if (spec->has_autoscale)
        view->world.autoscale = &spec->autoscale;
    view->world.now_us = fl_realtime_us(view->rc->env);
    view->world.sets = fl_new_array(view->rc->arena, struct fl_serving_set, view->set_count + 1);
    view->world.set_count = view->set_count;
    for (size_t i = 0; i < view->set_count; i++)
        view->world.sets[i] = show_set(view, view->sets[i]);
    if (view->has_model)
        show_target(view);
    else
        keep_stable(view);
    r = ask_router(view, err);
    view->world.replicas =
        fl_serving_replicas(view->rc->arena, &view->world, spec->replicas, &view->scaled);
    return r;
}
