/* A round as the root reports it, up to its model. */
#include "reconcilers/flround/flround_internal.h"

#include "lib/str.h"
#include "reconcilers/flround/flround_order.h"
#include "reconcilers/modelversion/modelversion.h"

#include <inttypes.h>

#define AGAIN_MS 2000

/* --- models --------------------------------------------------------------------------------- */

static struct fl_modelversion_lineage lineage_of(const struct fl_flround_view *view,
                                                 const struct fl_round_report *report,
                                                 const struct fl_round_order *order)
{
    const struct fl_project_spec *project = &view->world.project->spec;
    struct fl_modelversion_lineage lineage = {
        .base_model = report->base,
        .contributors = report->learners,
        .has_contributors = true,
        .examples = report->examples,
        .has_examples = true,
        .strategy = order->strategy.name,
        .mode = (enum fl_modelversion_lineage_mode)project->training.mode,
        .has_round = true,
        .round = {.name = view->round->meta.name,
                  .uid = view->round->meta.uid,
                  .attempt = report->attempt,
                  .has_attempt = true},
    };

    return lineage;
}

static void add_source(const struct fl_flround_view *view, struct fl_modelversion_lineage *lineage)
{
    static const char *const trainers[] = {
        [FL_PROJECT_SOURCE_BUILTIN_TRAINER_SOFTMAX_REGRESSION] = "SoftmaxRegression",
        [FL_PROJECT_SOURCE_BUILTIN_TRAINER_MLP] = "MLP",
        [FL_PROJECT_SOURCE_BUILTIN_TRAINER_CNN] = "CNN",
    };
    const struct fl_project *project = view->world.project;
    const struct fl_project_source *source = &project->spec.source;

    lineage->has_source = source->has_builtin || source->has_git;
    if (source->has_builtin)
        lineage->source.builtin = trainers[source->builtin.trainer];
    if (source->has_git) {
        lineage->source.url = source->git.url;
        lineage->source.commit = project->status.source.commit;
    }
    lineage->image_digest = project->status.image.digest;
    lineage->data_tags = project->spec.data.tags;
    lineage->seed = project->spec.training.seed;
    lineage->has_seed = true;
}

static int make(struct fl_flround_view *view, struct fl_modelversion_spec *spec, int64_t number,
                const char *digest, int64_t size, const char **ret_name, struct fl_error *err)
{
    char now[FL_TIME_SIZE];

    fl_time_format(fl_realtime_us(view->rc->env), now);
    spec->round = number;
    spec->digest = digest;
    spec->size = size;
    spec->has_size = size > 0;
    spec->format = FL_MODELVERSION_FORMAT_SAFETENSORS;
    spec->has_lineage = true;
    spec->lineage.time = fl_arena_strdup(view->rc->arena, now);
    add_source(view, &spec->lineage);
    return fl_model_version_make(view->rc, &view->world.project->meta, spec, ret_name, err);
}

int fl_flround_make_version(struct fl_flround_view *view, int64_t number, const char *digest,
                            int64_t size, const char **ret_name, struct fl_error *err)
{
    struct fl_modelversion_spec spec = {0};

    return make(view, &spec, number, digest, size, ret_name, err);
}

/* Of what the round has made. */
static int make_result(struct fl_flround_view *view, const struct fl_round_report *report,
                       const char **ret_name, struct fl_error *err)
{
    const struct fl_flround_plan plan = {.project = view->world.project,
                                         .round = view->round,
                                         .number = view->number,
                                         .run = report->run,
                                         .base = report->base,
                                         .base_size = report->base_size};
    struct fl_modelversion_spec spec = {0};
    struct fl_round_order order;
    int r = fl_flround_order(&plan, view->rc->arena, &order, err);

    if (r < 0)
        return r;
    spec.lineage = lineage_of(view, report, &order);
    spec.metrics = view->round->status.metrics.evaluation;
    return make(view, &spec, view->number, report->model, report->model_size, ret_name, err);
}

/* What failed is tried again: until that has an end, the failure is what there is to tell. */
static int storing(struct fl_flround_view *view)
{
    const struct fl_condition *was =
        fl_condition_find(&view->round->status.conditions, "Succeeded");

    if (was && fl_streq(was->reason, "StoringModel"))
        return fl_not_yet(view->rc, "Succeeded", "StoringModel", "%s", was->message);
    return fl_not_yet(view->rc, "Succeeded", "StoringModel",
                      "the model is on its way into the content store");
}

/* 0: it is in the content store. */
static int fetch(struct fl_flround_view *view, const char *digest, int64_t size,
                 struct fl_error *err)
{
    struct fl_federation_driver *driver = view->controller->federation;
    struct fl_transfer transfer = {0};
    int r =
        driver->ops->get_model(driver, &view->at, digest, size, view->rc->arena, &transfer, err);

    if (r < 0 || transfer.state == FL_TRANSFER_DONE)
        return r;
    if (transfer.state == FL_TRANSFER_RUNNING)
        return storing(view);
    fl_requeue_after(view->rc, AGAIN_MS);
    return fl_not_yet(view->rc, "Succeeded", "StoringModel", "%s%s", transfer.message,
                      transfer.failed == FL_E_TOO_LARGE
                          ? "; delete ModelVersions that are not needed, or give the content store "
                            "more room (flops up --content-max-bytes)"
                          : "");
}

static bool is_known(const struct fl_flround_view *view, const char *digest)
{
    for (size_t i = 0; i < view->world.model_count; i++)
        if (fl_streq(view->world.models[i]->spec.digest, digest))
            return true;
    return false;
}

/* The model that a learner made for the first round is version 0. */
static int keep_initial(struct fl_flround_view *view, const struct fl_round_report *report,
                        struct fl_error *err)
{
    const char *name;
    int r;

    if (!report->base || view->round->spec.has_base_model || is_known(view, report->base) ||
        fl_flround_committed(&view->world, 0) || view->number != 1)
        return 0;
    r = fetch(view, report->base, report->base_size, err);
    return r == 0 ? fl_flround_make_version(view, 0, report->base, report->base_size, &name, err)
                  : r;
}

/* --- phases --------------------------------------------------------------------------------- */

static int waiting(struct fl_flround_view *view, const struct fl_round_report *report)
{
    if (report->message)
        return fl_not_yet(view->rc, "Selected", "WaitingForLearners",
                          "attempt %" PRId64 " has failed (%s: %s); waiting for the next",
                          report->attempt, fl_str_or(report->reason, "Failed"), report->message);
    return fl_not_yet(view->rc, "Selected", "WaitingForLearners",
                      report->base ? "waiting for learners"
                                   : "waiting for learners, one of which makes the initial model");
}

static int training(struct fl_flround_view *view, const struct fl_round_report *report)
{
    fl_true(view->rc, "Selected", "Selected", "learners were chosen");
    return fl_not_yet(view->rc, "Aggregated",
                      report->phase == FL_ROUND_TRAINING ? "Training" : "Aggregating",
                      "attempt %" PRId64 "%s%s", report->attempt, report->message ? "; " : "",
                      fl_str_or(report->message, ""));
}

/* All that is needed meanwhile begins while the model is evaluated. */
static int evaluating(struct fl_flround_view *view, const struct fl_round_report *report,
                      struct fl_error *err)
{
    struct fl_federation_driver *driver = view->controller->federation;
    struct fl_transfer transfer = {0};
    int r;

    fl_true(view->rc, "Selected", "Selected", "learners were chosen");
    fl_true(view->rc, "Aggregated", "Committed", "the new model is %s", report->model);
    r = driver->ops->get_model(driver, &view->at, report->model, report->model_size,
                               view->rc->arena, &transfer, err);
    if (r < 0)
        return r;
    return fl_not_yet(view->rc, "Evaluated", "Evaluating", "learners evaluate the new model");
}

static void tell_evaluated(struct fl_flround_view *view, const struct fl_round_report *report)
{
    if (report->evaluation.count > 0)
        fl_true(view->rc, "Evaluated", "Evaluated", "the new model was evaluated");
    else if (fl_flround_is_evaluated(view->world.project, view->number))
        fl_false(view->rc, "Evaluated", "NoResults", "no learner has evaluated it in time");
    else
        fl_false(view->rc, "Evaluated", "NotWanted", "models of this round are not evaluated");
}

static void set_model(struct fl_flround_view *view, const char *digest, int64_t size,
                      const char *name)
{
    struct fl_round_status *status = &view->round->status;

    status->has_model = true;
    status->model = (struct fl_model){.digest = digest,
                                      .round = view->number,
                                      .has_round = true,
                                      .version = name,
                                      .size = size,
                                      .has_size = size > 0};
}

static int committed(struct fl_flround_view *view, const struct fl_round_report *report,
                     struct fl_error *err)
{
    struct fl_round_status *status = &view->round->status;
    const char *name;
    char now[FL_TIME_SIZE];
    int r;

    fl_true(view->rc, "Selected", "Selected", "learners were chosen");
    fl_true(view->rc, "Aggregated", "Committed", "the new model is %s", report->model);
    tell_evaluated(view, report);
    r = fetch(view, report->model, report->model_size, err);
    if (r == 0)
        r = keep_initial(view, report, err);
    if (r == 0)
        r = make_result(view, report, &name, err);
    if (r != 0)
        return r;
    set_model(view, report->model, report->model_size, name);
    fl_time_format(fl_realtime_us(view->rc->env), now);
    status->completion_time = fl_arena_strdup(view->rc->arena, now);
    fl_true(view->rc, "Succeeded", "Committed", "round %" PRId64 " has made %s", view->number,
            name);
    fl_ready_as(view->rc, "Committed", "round %" PRId64 " has made %s", view->number, name);
    fl_flround_forget_pace(view->controller, view->round->meta.uid);
    return FL_STEP_DONE;
}

static int failed(struct fl_flround_view *view, const struct fl_round_report *report)
{
    const char *reason = fl_str_or(report->reason, "Failed");
    const char *type = report->selected > 0 ? "Aggregated" : "Selected";

    fl_flround_forget_pace(view->controller, view->round->meta.uid);
    return fl_stalled(
        view->rc, type, reason,
        "%s; it is begun anew when the project's spec or the annotation " FL_FLROUND_RECONCILE
        " changes",
        fl_str_or(report->message, reason));
}

static int go_on(struct fl_flround_view *view, const struct fl_round_report *report,
                 struct fl_error *err)
{
    switch (report->phase) {
    case FL_ROUND_WAITING:
        return waiting(view, report);
    case FL_ROUND_TRAINING:
    case FL_ROUND_AGGREGATING:
        return training(view, report);
    case FL_ROUND_EVALUATING:
        return evaluating(view, report, err);
    case FL_ROUND_COMMITTED:
        return committed(view, report, err);
    default:
        return failed(view, report);
    }
}

/* A new run is written down before it is begun: this pass ends, the next one begins it. */
static int record_run(struct fl_flround_view *view, int64_t run)
{
    fl_flround_note_run(view, run);
    fl_requeue_after(view->rc, 0);
    return fl_not_yet(view->rc, "Selected", "Selecting", "the round is begun anew, run %" PRId64,
                      run);
}

int fl_flround_follow(struct fl_flround_view *view, struct fl_error *err)
{
    const struct fl_round_report *report = &view->seen.report;
    int64_t run;

    switch (fl_flround_run(&view->world, report, &run)) {
    case FL_FLROUND_RUN_RECORD:
        return record_run(view, run);
    case FL_FLROUND_RUN_START:
        if (view->seen.starting)
            return fl_flround_repeat(view, "Selecting", "the root aggregator begins the round");
        return fl_flround_begin(view, run, err);
    default:
        break;
    }
    if (!view->round->status.start_time)
        fl_flround_note_run(view, report->run);
    fl_flround_fill(view, report);
    return go_on(view, report, err);
}
