#include "reconcilers/flround/flround.h"

#include "lib/str.h"
#include "reconcilers/federation/where.h"
#include "reconcilers/flround/flround_internal.h"
#include "reconcilers/flround/flround_order.h"

#include <inttypes.h>

#define CONTROLLER  "flround"
#define PATIENCE_MS 30000 /* with a root that should abort the round of a deleted object */
#define NUDGE_MS    5000

static void begin_view(struct fl_flround_view *view, struct fl_reconcile *rc, void *object)
{
    *view = (struct fl_flround_view){.rc = rc, .controller = rc->user, .round = object};
    view->world.round = object;
}

/* --- steps ---------------------------------------------------------------------------------- */

static bool has_succeeded(const struct fl_round *round)
{
    const struct fl_condition *condition =
        fl_condition_find(&round->status.conditions, "Succeeded");

    return condition && condition->status == FL_CONDITION_STATUS_TRUE;
}

/* It stays so, whatever else changes. */
static int stay(struct fl_reconcile *rc, const struct fl_round *round)
{
    const struct fl_condition *condition =
        fl_condition_find(&round->status.conditions, "Succeeded");

    fl_ready_as(rc, "Committed", "%s", condition->message);
    return FL_STEP_DONE;
}

/* A number is written down before anything is done under it. */
static int give_number(struct fl_flround_view *view, struct fl_error *err)
{
    struct fl_round_status *status = &view->round->status;
    int r;

    view->number = fl_flround_number_of(view->round);
    if (view->number > 0) {
        status->index = view->number;
        status->has_index = true;
        return 0;
    }
    r = fl_flround_look_live(view, err);
    if (r < 0)
        return r;
    status->index = fl_flround_free_number(&view->world);
    status->has_index = true;
    fl_requeue_after(view->rc, 0);
    return fl_not_yet(view->rc, "Selected", "WaitingForTurn", "it is round %" PRId64,
                      status->index);
}

static int await_turn(struct fl_flround_view *view)
{
    const struct fl_round *other = NULL;

    switch (fl_flround_turn(&view->world, view->number, &other)) {
    case FL_FLROUND_LATER:
        return fl_not_yet(view->rc, "Selected", "WaitingForTurn",
                          "round %" PRId64 " (FLRound %s) comes first", fl_flround_number_of(other),
                          other->meta.name);
    case FL_FLROUND_TAKEN:
        if (view->round->spec.has_index)
            return fl_stalled(view->rc, "Selected", "NumberTaken",
                              "FLRound %s is round %" PRId64
                              " of this project; delete one of the two",
                              other->meta.name, view->number);
        view->round->status.has_index = false; /* another one, in the next pass */
        view->round->status.index = 0;
        fl_requeue_after(view->rc, 0);
        return fl_not_yet(view->rc, "Selected", "WaitingForTurn",
                          "FLRound %s is round %" PRId64 "; it gets another number",
                          other->meta.name, view->number);
    default:
        return 0;
    }
}

/* Another object of this number has done it, or this one in a pass that was cut off. */
static int adopt(struct fl_flround_view *view, const struct fl_modelversion *model)
{
    struct fl_round_status *status = &view->round->status;

    status->has_model = true;
    status->model = (struct fl_model){.digest = model->spec.digest,
                                      .round = view->number,
                                      .has_round = true,
                                      .version = model->meta.name,
                                      .size = model->spec.size,
                                      .has_size = model->spec.has_size};
    if (model->spec.metrics.count > 0) {
        status->has_metrics = true;
        status->metrics.evaluation = model->spec.metrics;
    }
    if (!status->completion_time)
        status->completion_time = model->spec.lineage.time;
    fl_true(view->rc, "Selected", "Selected", "learners were chosen");
    fl_true(view->rc, "Aggregated", "Committed", "the new model is %s", model->spec.digest);
    fl_true(view->rc, "Succeeded", "Committed", "round %" PRId64 " has made %s", view->number,
            model->meta.name);
    fl_ready_as(view->rc, "Committed", "round %" PRId64 " has made %s", view->number,
                model->meta.name);
    fl_flround_forget_pace(view->controller, view->round->meta.uid);
    return FL_STEP_DONE;
}

/* A pass that was cut off has told less than the root does, as long as that still knows. */
static void recall(struct fl_flround_view *view, const struct fl_modelversion *model)
{
    struct fl_federation_driver *driver = view->controller->federation;
    const char *why = NULL;

    if (fl_federation_where(view->rc, &view->world.project->meta, &view->at, &why, NULL) != 0 ||
        driver->ops->observe_round(driver, &view->at, view->number, view->rc->arena, &view->seen,
                                   NULL) < 0)
        return;
    if (view->seen.known == FL_FEDERATION_KNOWN && view->seen.report.phase == FL_ROUND_COMMITTED &&
        fl_streq(view->seen.report.model, model->spec.digest))
        fl_flround_fill(view, &view->seen.report);
}

static int find_root(struct fl_flround_view *view, struct fl_error *err)
{
    const char *why = NULL;
    int r = fl_federation_where(view->rc, &view->world.project->meta, &view->at, &why, err);

    if (r > 0)
        return fl_flround_repeat(view, "StartingAggregators", why);
    return r;
}

static int past(struct fl_flround_view *view)
{
    return fl_stalled(view->rc, "Selected", "NumberTaken",
                      "the root aggregator is past round %" PRId64
                      ", and no model of it is known; delete the object",
                      view->number);
}

/* What the root says of itself may say enough of a round that nobody has asked for yet: that saves
 * a question. Should it be wrong, the root refuses an order that it has already in another form. */
static int guess(struct fl_flround_view *view, struct fl_error *err)
{
    struct fl_federation_driver *driver = view->controller->federation;
    struct fl_federation_status status = {0};
    int r = driver->ops->status(driver, &view->at, view->rc->arena, &status, err);

    if (r == 0 && status.known == FL_FEDERATION_KNOWN && status.status.round < view->number)
        view->seen.known = FL_FEDERATION_ABSENT;
    return r;
}

static int look_at_root(struct fl_flround_view *view, struct fl_error *err)
{
    struct fl_federation_driver *driver = view->controller->federation;
    const int64_t run = view->round->status.has_run ? view->round->status.run : 0;
    int r = driver->ops->observe_round(driver, &view->at, view->number, view->rc->arena,
                                       &view->seen, err);

    if (r == 0 && view->seen.known == FL_FEDERATION_UNKNOWN && !view->seen.starting)
        r = guess(view, err);
    if (r < 0)
        return r;
    switch (view->seen.known) {
    case FL_FEDERATION_UNKNOWN:
        return fl_flround_repeat(view, "Selecting", "asking the root aggregator");
    case FL_FEDERATION_UNREACHABLE:
        fl_requeue_after(view->rc, NUDGE_MS);
        return fl_not_yet(view->rc, "Succeeded", "AggregatorUnreachable", "%s", view->seen.message);
    case FL_FEDERATION_PAST:
        return past(view);
    case FL_FEDERATION_ABSENT:
        if (view->seen.starting && view->seen.refused)
            return fl_flround_refused(view);
        if (view->seen.starting)
            return fl_flround_repeat(view, "Selecting", "the root aggregator begins the round");
        if (fl_flround_suspended(view))
            return fl_not_yet(view->rc, "Selected", "Suspended", "%s", fl_flround_suspended(view));
        return fl_flround_begin(view, run, err);
    default:
        return fl_flround_follow(view, err);
    }
}

static int run(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    const struct fl_modelversion *done;
    struct fl_flround_view view;
    int r;

    begin_view(&view, rc, object);
    if (has_succeeded(view.round))
        return stay(rc, view.round);
    r = fl_flround_look(&view, err);
    if (r == 0)
        r = give_number(&view, err);
    if (r != 0)
        return r;
    done = fl_flround_committed(&view.world, view.number);
    if (done) {
        recall(&view, done);
        return adopt(&view, done);
    }
    r = await_turn(&view);
    if (r == 0)
        r = find_root(&view, err);
    return r == 0 ? look_at_root(&view, err) : r;
}

/* --- the end -------------------------------------------------------------------------------- */

static bool is_out_of_patience(const struct fl_flround_view *view)
{
    int64_t since_us;

    return !fl_time_parse(fl_str_or(view->round->meta.deletion_timestamp, ""), &since_us) ||
           fl_realtime_us(view->rc->env) - since_us > INT64_C(1000) * PATIENCE_MS;
}

static bool is_over(const struct fl_federation_round *seen)
{
    const enum fl_round_phase phase = seen->report.phase;

    return seen->known == FL_FEDERATION_ABSENT || seen->known == FL_FEDERATION_PAST ||
           (seen->known == FL_FEDERATION_KNOWN &&
            (phase == FL_ROUND_COMMITTED || phase == FL_ROUND_FAILED || phase == FL_ROUND_ABORTED));
}

/* Only what this object has begun is ended with it. */
static int abort_it(struct fl_flround_view *view, struct fl_error *err)
{
    struct fl_federation_driver *driver = view->controller->federation;
    int r = driver->ops->observe_round(driver, &view->at, view->number, view->rc->arena,
                                       &view->seen, err);

    if (r < 0 || (is_over(&view->seen) && !view->seen.starting))
        return r;
    if (is_out_of_patience(view)) {
        fl_event_note(view->rc, FL_WARNING, "NotAborted",
                      "the root aggregator did not abort round %" PRId64 " within %d s",
                      view->number, PATIENCE_MS / 1000);
        return 0;
    }
    r = driver->ops->abort_round(driver, &view->at, view->number, err);
    if (r < 0)
        return r;
    fl_requeue_after(view->rc, NUDGE_MS);
    return fl_not_yet(view->rc, "Succeeded", "Deleting", "the root aggregator aborts the round");
}

static int finalize(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    const struct fl_round *other = NULL;
    struct fl_flround_view view;
    const char *why;
    int r;

    begin_view(&view, rc, object);
    view.number = fl_flround_number_of(view.round);
    fl_flround_forget_pace(view.controller, view.round->meta.uid);
    if (has_succeeded(view.round) || view.number == 0)
        return FL_STEP_DONE;
    r = fl_flround_look(&view, err);
    if (r != 0) /* with the project all went */
        return r < 0 ? r : FL_STEP_DONE;
    if (fl_flround_turn(&view.world, view.number, &other) != FL_FLROUND_OURS)
        return FL_STEP_DONE;
    r = fl_federation_where(rc, &view.world.project->meta, &view.at, &why, err);
    if (r != 0)
        return r < 0 ? r : FL_STEP_DONE;
    return abort_it(&view, err);
}

/* --- who is woken by what ------------------------------------------------------------------- */

static void by_project(const json_t *object, fl_index_emit_fn *emit, void *user)
{
    const char *name = fl_json_str(object, "spec.project.name");
    const char *ns = fl_json_str(object, "metadata.namespace");
    FL_CLEANUP(fl_freep) char *key = name && ns ? fl_asprintf("%s/%s", ns, name) : NULL;

    if (key)
        emit(user, key);
}

static const struct fl_cache_index indexes[] = {{"project", by_project}};

/* Canonical text: of a round that is done. */
static bool is_done(const struct fl_object *object)
{
    static const char mark[] = "\"status\":\"True\",\"type\":\"Succeeded\"";

    return memmem(object->json->data, object->json->len, mark, sizeof(mark) - 1) != NULL;
}

static void add_rounds(struct fl_cache *cache, const char *ns, const char *project,
                       fl_wake_add_fn *add, void *user)
{
    FL_CLEANUP(fl_freep) char *key = fl_asprintf("%s/%s", ns, project);
    struct fl_list list;

    fl_cache_list_by(cache, "project", key, &list);
    for (size_t i = 0; i < list.count; i++)
        if (!is_done(list.objects[i]))
            add(user, list.objects[i]->ns, list.objects[i]->name);
    fl_list_finish(&list);
}

static void wake_of_project(struct fl_cache *cache, const json_t *project, fl_wake_add_fn *add,
                            void *user)
{
    const char *ns = fl_json_str(project, "metadata.namespace");
    const char *name = fl_json_str(project, "metadata.name");

    if (ns && name)
        add_rounds(cache, ns, name, add, user);
}

/* Of the project that owns it: the root's Workload, the Secret. */
static void wake_of_owner(struct fl_cache *cache, const json_t *child, fl_wake_add_fn *add,
                          void *user)
{
    const char *ns = fl_json_str(child, "metadata.namespace");
    json_t *owner;
    size_t i;

    json_array_foreach(fl_json_path(child, "metadata.ownerReferences"), i, owner)
        if (ns && fl_streq(fl_json_str(owner, "kind"), "FLProject"))
            add_rounds(cache, ns, fl_str_or(fl_json_str(owner, "name"), ""), add, user);
}

static bool is_root(const json_t *workload)
{
    return fl_streq(json_string_value(json_object_get(fl_json_path(workload, "metadata.labels"),
                                                      "flops.dev/role")),
                    FL_FEDERATION_ROOT);
}

static void wake_of_root(struct fl_cache *cache, const json_t *workload, fl_wake_add_fn *add,
                         void *user)
{
    if (is_root(workload))
        wake_of_owner(cache, workload, add, user);
}

static const struct fl_kind_ops ops = {
    .controller = CONTROLLER,
    .type = &fl_round_type,
    FL_STATUS_OF(struct fl_round),
    .finalizer = "flops.dev/flround",
    .indexes = indexes,
    .index_count = FL_COUNT_OF(indexes),
    .wakes = {{.gvr = {"flops.dev", "v1alpha1", "flprojects", true}, .map = wake_of_project},
              {.gvr = {"flops.dev", "v1alpha1", "workloads", true}, .map = wake_of_root},
              {.gvr = {"", "v1", "secrets", true}, .map = wake_of_owner}},
    .steps = {run},
    .finalize = finalize,
    .workers = 1, /* two passes must not give two rounds the same number */
};

static void enqueue(void *user, const char *ns, const char *name)
{
    struct fl_flround_controller *controller = user;

    fl_manager_enqueue(controller->manager, CONTROLLER, ns, name);
}

/* One that is done, or went, makes room for the next. */
static void on_round(void *user, struct fl_object *old, struct fl_object *object)
{
    struct fl_flround_controller *controller = user;
    const struct fl_object *any = object ? object : old;
    FL_JSON json = NULL;
    const char *project;

    if (object && (!old || !is_done(object) || is_done(old)))
        return;
    json = fl_object_parse(any);
    project = fl_json_str(json, "spec.project.name");
    if (project)
        add_rounds(controller->rounds, any->ns, project, enqueue, controller);
}

void fl_flround_changed(struct fl_flround_controller *controller, const char *ns,
                        const char *project)
{
    add_rounds(controller->rounds, ns, project, enqueue, controller);
}

int fl_flround_controller_create(struct fl_manager *manager,
                                 struct fl_federation_driver *federation,
                                 struct fl_flround_controller **ret_controller,
                                 struct fl_error *err)
{
    FL_CLEANUP(fl_flround_controller_destroyp)
    struct fl_flround_controller *controller = fl_calloc(1, sizeof(*controller));
    const struct fl_gvr rounds = fl_gvr_of(&fl_round_type);
    const struct fl_gvr models = fl_gvr_of(&fl_modelversion_type);
    int r;

    controller->manager = manager;
    controller->federation = federation;
    controller->lock = fl_lock_create();
    controller->paces = fl_map_create(free);
    r = fl_federation_check(federation->ops, err);
    if (r == 0)
        r = fl_manager_add(manager, &ops, controller, err);
    if (r < 0)
        return fl_error_wrap(err, "flround controller");
    controller->rounds = fl_manager_cache(manager, &rounds);
    controller->models = fl_manager_cache(manager, &models);
    fl_cache_on_change(controller->rounds, on_round, controller);
    *ret_controller = FL_TAKE(controller);
    return 0;
}

void fl_flround_controller_destroy(struct fl_flround_controller *controller)
{
    if (!controller)
        return;
    fl_map_destroy(controller->paces);
    fl_lock_destroy(controller->lock);
    free(controller);
}
