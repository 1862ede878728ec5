/* What should exist. What is told of it is in flproject_show.c. */
#include "reconcilers/flproject/flproject_decide.h"

#include "controller/runtime/reconcile.h"
#include "lib/buf.h"
#include "lib/digest.h"
#include "lib/str.h"
#include "reconcilers/flproject/flproject_show.h"

#include <inttypes.h>

const char *fl_flproject_round_role(struct fl_arena *arena, int64_t number)
{
    return fl_arena_printf(arena, "round-%" PRId64, number);
}

void fl_flproject_look_again(struct fl_flproject_decide *d, int64_t delay_ms)
{
    struct fl_flproject_decision *out = d->out;

    if (delay_ms < 0)
        delay_ms = 0;
    if (out->look_again_ms < 0 || delay_ms < out->look_again_ms)
        out->look_again_ms = delay_ms;
}

/* Is training over? */

static bool target_is_reached(const struct fl_flproject_decide *d)
{
    const struct fl_project_training_best_model *best = &d->project->spec.training.best_model;
    double target, value;

    if (!best->has_stop_when || !best->stop_when.target)
        return false;
    target = strtod(best->stop_when.target, NULL);
    return fl_flproject_value(d->project, &d->tally.best.metrics, &value) &&
           !fl_flproject_is_better(d->project, target, value, 0);
}

static bool patience_is_out(const struct fl_flproject_decide *d)
{
    const struct fl_project_training_best_model *best = &d->project->spec.training.best_model;

    return best->has_stop_when && best->stop_when.has_patience &&
           d->tally.since_mark >= best->stop_when.patience;
}

/* A clock that was set back adds nothing. */
static bool deadline_is_over(struct fl_flproject_decide *d)
{
    const char *text = d->project->spec.training.deadline;
    int64_t deadline_ms, passed_ms;

    if (!text || d->tally.started_us == 0 || !fl_duration_parse(text, &deadline_ms))
        return false;
    passed_ms = (d->input->now_us - d->tally.started_us) / 1000;
    if (passed_ms >= deadline_ms)
        return true;
    fl_flproject_look_again(d, passed_ms < 0 ? deadline_ms : deadline_ms - passed_ms);
    return false;
}

static void end(struct fl_flproject_decide *d, const char *reason, const char *message)
{
    d->is_over = true;
    d->over_reason = reason;
    d->over_message = message;
}

static void judge_end(struct fl_flproject_decide *d)
{
    int64_t completed = d->tally.completed, wanted = d->project->spec.training.rounds;
    const char *text =
        fl_arena_printf(d->arena, "%" PRId64 " of %" PRId64 " rounds", completed, wanted);

    if (completed >= wanted)
        end(d, "RoundsDone", fl_arena_printf(d->arena, "all %" PRId64 " rounds are done", wanted));
    else if (target_is_reached(d))
        end(d, "TargetReached",
            fl_arena_printf(d->arena, "bestModel.stopWhen.target is reached after %s", text));
    else if (patience_is_out(d))
        end(d, "NoImprovement",
            fl_arena_printf(d->arena,
                            "%" PRId64 " evaluations in a row without a better model, "
                            "after %s",
                            d->tally.since_mark, text));
    else if (deadline_is_over(d))
        end(d, "DeadlineExceeded",
            fl_arena_printf(d->arena, "training.deadline is over after %s", text));
}

/* Rounds there are */

static bool is_told(const struct fl_round *round, const char *type)
{
    const struct fl_condition *condition = fl_condition_find(&round->status.conditions, type);

    return condition && condition->status == FL_CONDITION_STATUS_TRUE;
}

/* The round that the project's spec asks for, as it would be made now. */
static struct fl_round *make_round(struct fl_flproject_decide *d, int64_t number)
{
    const json_t *training = fl_json_path(d->input->json, "spec.training");
    json_t *json = json_pack(
        "{s:s, s:s, s:{s:s}, s:{s:{s:s}, s:I, s:O?, s:O?, s:O?}}", "apiVersion",
        "flops.dev/v1alpha1", "kind", "FLRound", "metadata", "name", d->project->meta.name, "spec",
        "project", "name", d->project->meta.name, "index", (json_int_t)number, "local",
        json_object_get(training, "local"), "strategy", json_object_get(training, "strategy"),
        "participation", json_object_get(training, "participation"));
    void *round = NULL;
    struct fl_error err;

    if (fl_object_decode(&fl_round_type, fl_json_in_arena(d->arena, json), d->arena, &round, &err) <
        0)
        return NULL;
    return round;
}

static bool equal_part(const json_t *a, const json_t *b, const char *path)
{
    const json_t *x = fl_json_path(a, path), *y = fl_json_path(b, path);

    return x == y || json_equal(x, y);
}

/* Whether the round was made of what the spec still says. */
static bool is_current(struct fl_flproject_decide *d, const struct fl_flproject_round *round)
{
    const struct fl_round *wanted = make_round(d, round->number);
    FL_JSON is = fl_round_encode(round->round);
    FL_JSON want = wanted ? fl_round_encode(wanted) : NULL;

    return want && equal_part(is, want, "spec.local") && equal_part(is, want, "spec.strategy") &&
           equal_part(is, want, "spec.participation");
}

static void drop(struct fl_flproject_decide *d, const struct fl_flproject_round *round)
{
    if (!round->is_deleting)
        d->out->drops[d->out->drop_count++] = round->round;
}

static void pause_or_resume(struct fl_flproject_decide *d, const struct fl_flproject_round *round)
{
    struct fl_round *copy;

    if (round->round->spec.suspend == d->input->suspend || round->is_deleting)
        return;
    copy = fl_object_clone(&fl_round_type, round->round, d->arena);
    copy->spec.suspend = d->input->suspend;
    d->out->pauses[d->out->pause_count++] = copy;
}

/* One that had failed is begun anew when the project changed, but with what it was made of. */
static bool is_outdated_retry(struct fl_flproject_decide *d, const struct fl_flproject_round *round)
{
    return round->round->status.has_run && round->round->status.run > 0 && !is_current(d, round);
}

static bool root_has(const struct fl_flproject_decide *d, const struct fl_flproject_round *round)
{
    return d->input->federation.known == FL_FLPROJECT_KNOWN && round->number > 0 &&
           d->input->federation.committed >= round->number;
}

/* One whose model is committed comes to its end by itself. */
static void look_at_open(struct fl_flproject_decide *d, const struct fl_flproject_round *round)
{
    bool is_committed = is_told(round->round, "Aggregated") || root_has(d, round);

    if (round->is_own && !is_committed && (d->is_over || is_outdated_retry(d, round))) {
        drop(d, round);
        d->waits_for_drop = true;
        return;
    }
    if (round->is_own)
        pause_or_resume(d, round);
    else if (round->round->spec.suspend)
        return;
    if (!d->open || round->is_own)
        d->open = round;
}

/* A round that failed stands in the way until somebody changes what it was made of. */
static void look_at_failed(struct fl_flproject_decide *d, const struct fl_flproject_round *round)
{
    if (!round->is_own || round->number <= d->tally.completed)
        return;
    if (round->is_deleting || d->is_over || !is_current(d, round)) {
        drop(d, round);
        d->waits_for_drop = true;
    } else {
        d->failed = round;
    }
}

static void drop_old_rounds(struct fl_flproject_decide *d)
{
    int64_t kept = 0, limit = d->project->spec.round_history_limit;

    for (size_t i = d->tally.round_count; i-- > 0;) {
        const struct fl_flproject_round *round = &d->tally.rounds[i];

        if (!round->is_own || round->phase == FL_FLPROJECT_ROUND_OPEN || round->number == 0)
            continue;
        if (kept++ < limit || round == d->tally.newest) /* whose tally is needed */
            continue;
        if (round->number <= d->tally.completed)
            drop(d, round);
    }
}

static void look_at_rounds(struct fl_flproject_decide *d)
{
    d->out->drops = fl_new_array(d->arena, const struct fl_round *, d->tally.round_count + 1);
    d->out->pauses = fl_new_array(d->arena, struct fl_round *, d->tally.round_count + 1);
    for (size_t i = 0; i < d->tally.round_count; i++) {
        const struct fl_flproject_round *round = &d->tally.rounds[i];

        if (round->phase == FL_FLPROJECT_ROUND_OPEN)
            look_at_open(d, round);
        else if (round->phase == FL_FLPROJECT_ROUND_FAILED)
            look_at_failed(d, round);
    }
    drop_old_rounds(d);
}

/* Services */

static void find_code(struct fl_flproject_decide *d)
{
    const struct fl_flproject_code_input input = {
        .json = d->input->json,
        .project = d->project,
        .fetched = &d->input->fetched,
        .builds = d->input->builds,
        .build_count = d->input->build_count,
        .workloads = d->input->workloads,
        .workload_count = d->input->workload_count,
    };

    fl_flproject_code(&input, d->arena, &d->out->code);
}

static void plan_services(struct fl_flproject_decide *d)
{
    const struct fl_flproject_plan_input input = {
        .json = d->input->json,
        .project = d->project,
        .nodes = d->input->nodes,
        .node_count = d->input->node_count,
        .workloads = d->input->workloads,
        .workload_count = d->input->workload_count,
        .learner_image = d->out->code.learner_image,
        .aggregator_image = d->out->code.aggregator_image,
        .pause = d->is_paused,
    };

    fl_flproject_plan(&input, d->arena, &d->out->plan);
}

/* Which services there are, and how many of each: not what a change of an address touches. */
static const char *digest_services(const struct fl_flproject_decide *d)
{
    const struct fl_flproject_services *services = &d->out->plan.services;
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};
    char digest[FL_DIGEST_SIZE];

    for (size_t i = 0; i < services->count; i++)
        fl_buf_printf(&text, "%s*%" PRId64 "@%" PRId64 "\n", services->items[i].role,
                      services->items[i].desired, services->items[i].first);
    if (d->out->code.learner_image)
        fl_buf_printf(&text, "%s\n", d->out->code.learner_image);
    if (d->out->code.aggregator_image)
        fl_buf_printf(&text, "%s\n", d->out->code.aggregator_image);
    fl_digest_of(text.data, text.len, digest);
    return fl_arena_strdup(d->arena, digest);
}

/* A round ends with the services that it began with. */
static bool must_hold(const struct fl_flproject_decide *d)
{
    const json_t *annotations =
        d->open && d->open->is_own ? d->open->round->meta.annotations : NULL;
    const char *began = json_string_value(json_object_get(annotations, FL_FLPROJECT_SERVICES));

    return began && !d->is_paused && d->input->workload_count > 0 &&
           strcmp(began, digest_services(d)) != 0;
}

/* Scaled down where nothing is to be trained, or cannot be. */
static bool wants_pause(const struct fl_flproject_decide *d)
{
    if (d->input->suspend)
        return true;
    return !d->open && (d->is_over || d->failed);
}

/* Models */

static bool has_alias(const struct fl_modelversion *model, const char *alias)
{
    for (size_t i = 0; i < model->spec.aliases.count; i++)
        if (strcmp(model->spec.aliases.items[i], alias) == 0)
            return true;
    return false;
}

static bool is_version(const struct fl_modelversion *model,
                       const struct fl_flproject_version *version)
{
    return version->number > 0 && model->spec.round == version->number &&
           fl_streq(model->spec.digest, version->model.digest);
}

static void set_alias(struct fl_flproject_decide *d, const struct fl_modelversion *model)
{
    struct fl_flproject_alias alias = {.model = model,
                                       .best = is_version(model, &d->tally.best),
                                       .latest = is_version(model, &d->tally.last)};

    if (alias.best || alias.latest || has_alias(model, "best") || has_alias(model, "latest"))
        d->out->aliases[d->out->alias_count++] = alias;
}

static void look_at_models(struct fl_flproject_decide *d)
{
    const struct fl_flproject_input *input = d->input;

    d->out->aliases = fl_new_array(d->arena, struct fl_flproject_alias, input->model_count + 1);
    for (size_t i = 0; i < input->model_count; i++)
        if (!input->models[i]->meta.deletion_timestamp)
            set_alias(d, input->models[i]);
}

/* The next round */

static const char *base_of_first(const struct fl_flproject_decide *d)
{
    const struct fl_project_training *training = &d->project->spec.training;

    if (!training->has_initial_model)
        return NULL;
    return training->initial_model.digest ? training->initial_model.digest
                                          : d->input->initial_model;
}

static void start_round(struct fl_flproject_decide *d)
{
    int64_t number = d->tally.completed + 1;
    struct fl_round *round = make_round(d, number);
    const char *base = number == 1 ? base_of_first(d) : NULL;
    const char *tally = fl_flproject_tally_text(d->input, &d->tally, d->arena);

    if (!round)
        return;
    round->meta.annotations =
        fl_json_in_arena(d->arena, json_pack("{s:s, s:s}", FL_FLPROJECT_TALLY, tally,
                                             FL_FLPROJECT_SERVICES, digest_services(d)));
    round->spec.has_base_model = base != NULL;
    round->spec.base_model.digest = base;
    d->out->start = round;
    d->out->start_number = number;
}

void fl_flproject_decide(const struct fl_flproject_input *input, struct fl_arena *arena,
                         struct fl_flproject_decision *ret_decision)
{
    struct fl_flproject_decide d = {
        .input = input, .arena = arena, .project = input->project, .out = ret_decision};

    *ret_decision =
        (struct fl_flproject_decision){.look_again_ms = -1, .verdict = FL_FLPROJECT_DONE};
    fl_flproject_count(input, arena, &d.tally);
    judge_end(&d);
    if (!d.is_over) { /* else nobody wants what was committed beside the objects */
        fl_flproject_count_root(input, &d.tally);
        judge_end(&d);
    }
    look_at_rounds(&d);
    look_at_models(&d);
    d.is_paused = wants_pause(&d);
    find_code(&d);
    plan_services(&d);
    ret_decision->holds = must_hold(&d);
    ret_decision->serve = d.project->spec.has_serve && d.tally.last.number > 0;
    fl_flproject_show(&d);
    if (d.may_start)
        start_round(&d);
}
