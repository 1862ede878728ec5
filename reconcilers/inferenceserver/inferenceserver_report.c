/* What a pass tells. */
#include "lib/str.h"
#include "reconcilers/inferenceserver/inferenceserver_internal.h"

#include <inttypes.h>

static const struct fl_serving_set *set_of(const struct fl_serving_view *view, const char *revision)
{
    for (size_t i = 0; i < view->world.set_count; i++)
        if (fl_streq(view->world.sets[i].revision, revision))
            return &view->world.sets[i];
    return NULL;
}

static void tell_replicas(struct fl_serving_view *view)
{
    struct fl_inferenceserver_status *status = &view->server->status;
    int64_t current = 0;

    for (size_t i = 0; i < view->world.set_count; i++)
        current += (int64_t)view->world.sets[i].instance_count;
    status->has_replicas = true;
    status->replicas = (struct fl_inferenceserver_status_replicas){
        .desired = view->world.replicas,
        .has_desired = true,
        .current = current,
        .has_current = true,
        .ready = view->plan.ready,
        .has_ready = true,
        .updated = view->plan.updated,
        .has_updated = true,
        .summary = fl_arena_printf(view->rc->arena, "%" PRId64 "/%" PRId64, view->plan.ready,
                                   view->world.replicas)};
}

static void tell_model(struct fl_serving_view *view)
{
    struct fl_inferenceserver_status *status = &view->server->status;
    const struct fl_serving_set *set = set_of(view, view->plan.serving);
    const bool is_target = set && fl_streq(set->revision, view->world.target.revision);

    if (!set)
        return;
    status->has_model = true;
    status->model = (struct fl_model){.digest = set->digest,
                                      .round = set->round,
                                      .has_round = view->server->spec.model.has_project,
                                      .uri = is_target ? view->model.uri : NULL,
                                      .version = is_target ? view->model.version : NULL};
}

static struct fl_inferenceserver_status_traffic show_traffic(struct fl_serving_view *view,
                                                             const struct fl_router_group *group)
{
    const struct fl_serving_set *set = set_of(view, group->name);
    struct fl_inferenceserver_status_traffic traffic = {
        .role = set && set->stable ? FL_INFERENCESERVER_STATUS_TRAFFIC_ROLE_STABLE
                                   : FL_INFERENCESERVER_STATUS_TRAFFIC_ROLE_CANARY,
        .percent = group->percent,
    };

    if (set) {
        traffic.digest = set->digest;
        traffic.round = set->round;
        traffic.has_round = view->server->spec.model.has_project;
        traffic.replicas = (int64_t)set->instance_count;
        traffic.has_replicas = true;
    }
    /* Counts would make each pass news; they are told where they decide. */
    if (view->plan.step > 0) {
        traffic.requests = group->requests;
        traffic.has_requests = true;
        traffic.error_rate = fl_arena_printf(
            view->rc->arena, "%.4f",
            group->requests > 0 ? (double)group->errors / (double)group->requests : 0.0);
        traffic.latency = fl_arena_printf(view->rc->arena, "%.3fms", (double)group->p99_us / 1000);
    }
    return traffic;
}

static void tell_traffic(struct fl_serving_view *view)
{
    struct fl_inferenceserver_status_traffic_list *list = &view->server->status.traffic;
    const struct fl_router_view *router = &view->world.router;

    *list = (struct fl_inferenceserver_status_traffic_list){0};
    if (!router->known || router->group_count == 0)
        return;
    list->items = fl_new_array(view->rc->arena, struct fl_inferenceserver_status_traffic,
                               router->group_count);
    for (size_t i = 0; i < router->group_count; i++)
        list->items[list->count++] = show_traffic(view, &router->groups[i]);
}

static const char *time_text(struct fl_serving_view *view, int64_t time_us)
{
    char text[FL_TIME_SIZE];

    fl_time_format(time_us, text);
    return fl_arena_strdup(view->rc->arena, text);
}

static void tell_rollout(struct fl_serving_view *view)
{
    static const enum fl_inferenceserver_status_rollout_state states[] = {
        [FL_SERVING_SETTLED] = FL_INFERENCESERVER_STATUS_ROLLOUT_STATE_COMPLETE,
        [FL_SERVING_ROLLING] = FL_INFERENCESERVER_STATUS_ROLLOUT_STATE_RUNNING,
        [FL_SERVING_ROLLED_BACK] = FL_INFERENCESERVER_STATUS_ROLLOUT_STATE_ROLLED_BACK,
    };
    struct fl_inferenceserver_status *status = &view->server->status;
    const struct fl_serving_set *target = set_of(view, view->world.target.revision);
    const bool back = view->plan.state == FL_SERVING_ROLLED_BACK;

    status->has_rollout = true;
    status->rollout = (struct fl_inferenceserver_status_rollout){
        .state = states[view->plan.state],
        .step = view->plan.step,
        .has_step = view->plan.step > 0,
        .start_time = target && target->created_us ? time_text(view, target->created_us) : NULL,
        .step_time = view->plan.step > 0 ? time_text(view, view->plan.step_us) : NULL,
        .rejected = back ? view->model.digest : NULL,
        .message = back ? view->plan.message : NULL};
    if (view->plan.state == FL_SERVING_ROLLING)
        fl_true(view->rc, "Progressing", "RollingOut", "%s", view->plan.message);
    else
        fl_false(view->rc, "Progressing", back ? "RolledBack" : "Complete", "%s",
                 view->plan.message);
}

static const struct fl_condition *condition_of(const struct fl_workload *workload)
{
    return workload ? fl_condition_find(&workload->status.conditions, "Ready") : NULL;
}

/* What keeps a child from running, in the words of its Workload. */
static const struct fl_condition *trouble(const struct fl_serving_view *view)
{
    static const char *const reasons[] = {
        "PortTaken",      "OrchestratorNotReady", "NoPlace",       "ImageNotFound",
        "SecretNotFound", "StartFailed",          "OutOfRestarts", "Restarting"};

    for (size_t c = 0; c <= view->set_count; c++) {
        const struct fl_condition *condition =
            condition_of(c == 0 ? view->router : view->sets[c - 1]);

        for (size_t i = 0; condition && i < FL_COUNT_OF(reasons); i++)
            if (fl_streq(condition->reason, reasons[i]))
                return condition;
    }
    return NULL;
}

static int tell_unavailable(struct fl_serving_view *view)
{
    const struct fl_condition *cause = trouble(view);

    if (view->plan.overdue)
        return fl_stalled(view->rc, "Available", cause ? cause->reason : "Starting",
                          "no server was ready within %s%s%s",
                          fl_str_or(view->server->spec.rollout.progress_deadline, "10m"),
                          cause ? ": " : "", cause ? cause->message : "");
    if (cause)
        return fl_not_yet(view->rc, "Available", cause->reason, "%s", cause->message);
    if (!view->world.router.known)
        return fl_not_yet(view->rc, "Available", "Starting", "the router is starting");
    return fl_not_yet(view->rc, "Available", "Starting", "%s", view->plan.message);
}

/* As it should be: who waits for Ready does not wait for servers that nobody asks for. */
static int tell_none_wanted(struct fl_serving_view *view)
{
    fl_false(view->rc, "Available", "ScaledToZero", "replicas is 0: no server is asked for");
    fl_ready_as(view->rc, "ScaledToZero", "replicas is 0: no server is asked for");
    return FL_STEP_DONE;
}

int fl_serving_report(struct fl_serving_view *view)
{
    struct fl_inferenceserver_status *status = &view->server->status;

    tell_replicas(view);
    tell_model(view);
    tell_traffic(view);
    tell_rollout(view);
    status->url = view->router
                      ? fl_serving_address(view->rc->arena, view->router, "http",
                                           view->server->spec.has_tls_secret ? "https" : "http")
                      : NULL;
    if (view->world.replicas == 0 && view->plan.state == FL_SERVING_SETTLED)
        return tell_none_wanted(view);
    if (view->plan.ready == 0 || !view->world.router.known || view->world.router.version == 0)
        return tell_unavailable(view);
    fl_true(view->rc, "Available", "Serving", "%" PRId64 " servers answer", view->plan.ready);
    if (view->plan.state == FL_SERVING_ROLLED_BACK && view->plan.overdue)
        return fl_stalled(view->rc, "Progressing", "RolledBack", "%s", view->plan.message);
    if (view->plan.state == FL_SERVING_ROLLING)
        return fl_not_yet(view->rc, NULL, "RollingOut", "%s", view->plan.message);
    if (view->plan.state == FL_SERVING_ROLLED_BACK)
        fl_ready_as(view->rc, "RolledBack", "%s", view->plan.message);
    else
        fl_ready_as(view->rc, "Serving", "%s", fl_str_or(status->url, view->plan.message));
    return FL_STEP_DONE;
}
