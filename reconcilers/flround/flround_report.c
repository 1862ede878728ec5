/* What status says of a round. */
#include "reconcilers/flround/flround_internal.h"

#include "lib/str.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define PACE_MS 1000 /* counts that move are told this often */

struct pace {
    int64_t told_ms, attempt, run;
    enum fl_round_phase phase;
};

static const char *duration(struct fl_arena *arena, int64_t ms)
{
    if (ms < 1000)
        return fl_arena_printf(arena, "%" PRId64 "ms", ms > 0 ? ms : 0);
    if (ms < INT64_C(999999) * 1000)
        return fl_arena_printf(arena, "%" PRId64 ".%03" PRId64 "s", ms / 1000, ms % 1000);
    return fl_arena_printf(arena, "%" PRId64 "h", ms / 3600000);
}

static struct fl_string_map metrics(struct fl_arena *arena, const struct fl_metrics *from)
{
    struct fl_string_map map = {fl_new_array(arena, struct fl_string_pair, from->count + 1), 0};

    for (size_t i = 0; i < from->count; i++) {
        char text[FL_DOUBLE_TEXT_SIZE];

        if (!isfinite(from->items[i].value))
            continue;
        /* More digits than examples can tell apart are noise in a table. */
        (void)snprintf(text, sizeof(text), "%.6g", from->items[i].value);
        map.items[map.count++] =
            (struct fl_string_pair){from->items[i].name, fl_arena_strdup(arena, text)};
    }
    return map;
}

/* What the root asks is a learner or an aggregator with learners below it: people count learners.
 * Who was excluded is counted as the root saw it. */
static void fill_participants(struct fl_round_status *status, const struct fl_round_report *report,
                              struct fl_arena *arena)
{
    struct fl_round_status_participants *to = &status->participants;
    const bool counts_learners = report->asked >= report->selected; /* an older one does not */
    const int64_t selected = counts_learners ? report->asked : report->selected;
    const int64_t reported = counts_learners ? report->learners : report->reported;

    status->has_participants = true;
    *to = (struct fl_round_status_participants){
        .selected = selected,
        .has_selected = true,
        .reported = reported,
        .has_reported = true,
        .late = report->late,
        .has_late = true,
        .dropped = report->dropped,
        .has_dropped = true,
        .rejected = report->rejected,
        .has_rejected = true,
        .summary = fl_arena_printf(arena, "%" PRId64 "/%" PRId64, reported, selected),
    };
}

static void fill_excluded(struct fl_round_status *status, const struct fl_round_report *report,
                          struct fl_arena *arena)
{
    const size_t count = report->excluded.count;

    status->excluded.items = fl_new_array(arena, struct fl_round_status_excluded, count + 1);
    status->excluded.count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct fl_exclusion *one = &report->excluded.items[i];

        status->excluded.items[status->excluded.count++] = (struct fl_round_status_excluded){
            .learner = one->learner,
            .outcome = (enum fl_round_status_excluded_outcome)one->outcome,
            .reason = one->reason,
            .message = one->message};
    }
    if (count == 0)
        status->excluded.items = NULL;
    status->excluded_omitted = report->excluded_omitted;
    status->has_excluded_omitted = report->excluded_omitted > 0;
}

static void fill_durations(struct fl_round_status *status, const struct fl_round_report *report,
                           struct fl_arena *arena)
{
    struct fl_round_status_durations *to = &status->durations;

    status->has_durations = true;
    *to = (struct fl_round_status_durations){.select = duration(arena, report->select_ms)};
    if (report->model) {
        to->download = duration(arena, report->download_ms);
        to->train = duration(arena, report->train_ms);
        to->upload = duration(arena, report->upload_ms);
        to->aggregate = duration(arena, report->aggregate_ms);
    }
    if (report->evaluate_ms > 0)
        to->evaluate = duration(arena, report->evaluate_ms);
    if (report->total_ms > 0)
        to->total = duration(arena, report->total_ms);
}

static void fill_results(struct fl_flround_view *view, const struct fl_round_report *report)
{
    struct fl_round_status *status = &view->round->status;
    struct fl_arena *arena = view->rc->arena;
    char text[FL_DOUBLE_TEXT_SIZE];

    status->examples = report->examples;
    status->has_examples = report->examples > 0;
    status->has_metrics = report->train.count > 0 || report->evaluation.count > 0;
    status->metrics.train = metrics(arena, &report->train);
    status->metrics.evaluation = metrics(arena, &report->evaluation);
    status->has_bytes = true;
    status->bytes = (struct fl_round_status_bytes){
        .up = report->bytes_up, .has_up = true, .down = report->bytes_down, .has_down = true};
    status->has_staleness =
        view->world.project->spec.training.mode != FL_PROJECT_TRAINING_MODE_SYNC;
    if (!status->has_staleness)
        return;
    fl_str_from_double(report->staleness_mean, text);
    status->staleness = (struct fl_round_status_staleness){
        .max = report->staleness_max, .has_max = true, .mean = fl_arena_strdup(arena, text)};
}

/* --- pace ----------------------------------------------------------------------------------- */

/* Whether more than counts has changed, or they were told long enough ago. */
static bool is_time_to_tell(struct fl_flround_view *view, const struct fl_round_report *report)
{
    struct fl_flround_controller *controller = view->controller;
    const char *uid = view->round->meta.uid;
    const int64_t now = fl_monotonic_ms(view->rc->env);
    FL_LOCKED(controller->lock);
    struct pace *pace = fl_map_get(controller->paces, uid);

    if (pace && pace->phase == report->phase && pace->attempt == report->attempt &&
        pace->run == report->run && now - pace->told_ms < PACE_MS) {
        fl_requeue_after(view->rc, pace->told_ms + PACE_MS - now);
        return false;
    }
    if (!pace) {
        pace = fl_calloc(1, sizeof(*pace));
        fl_map_put(controller->paces, uid, pace);
    }
    *pace = (struct pace){now, report->attempt, report->run, report->phase};
    return true;
}

void fl_flround_forget_pace(struct fl_flround_controller *controller, const char *uid)
{
    FL_LOCKED(controller->lock);

    (void)fl_map_remove(controller->paces, uid);
}

void fl_flround_fill(struct fl_flround_view *view, const struct fl_round_report *report)
{
    struct fl_round_status *status = &view->round->status;
    struct fl_arena *arena = view->rc->arena;

    /* The end is told with all that belongs to it, also where the pass before could not write. */
    if (!is_time_to_tell(view, report) && report->phase < FL_ROUND_COMMITTED)
        return;
    status->attempt = report->attempt;
    status->has_attempt = report->attempt > 0;
    fill_participants(status, report, arena);
    fill_excluded(status, report, arena);
    fill_durations(status, report, arena);
    fill_results(view, report);
}

void fl_flround_note_run(struct fl_flround_view *view, int64_t run)
{
    struct fl_round_status *status = &view->round->status;
    const char *at = view->world.reconcile_at;
    char now[FL_TIME_SIZE];

    fl_time_format(fl_realtime_us(view->rc->env), now);
    if (!status->start_time)
        status->start_time = fl_arena_strdup(view->rc->arena, now);
    status->run = run;
    status->has_run = true;
    status->project_generation = view->world.project->meta.generation;
    status->has_project_generation = true;
    status->last_handled_reconcile_at =
        at ? fl_arena_strndup(view->rc->arena, at,
                              fl_utf8_cut(at, strlen(at), FL_FLROUND_RECONCILE_MAX))
           : NULL;
}

const char *fl_flround_suspended(const struct fl_flround_view *view)
{
    if (view->round->spec.suspend)
        return "spec.suspend is set";
    return view->world.project->spec.suspend ? "its project is suspended" : NULL;
}

/* What is true only of times before the root was asked, or of another spec. */
static bool is_outdated(const struct fl_flround_view *view, const char *reason)
{
    return fl_streq(reason, "ProjectNotFound") || fl_streq(reason, "StartingAggregators") ||
           fl_streq(reason, "NumberTaken") ||
           (fl_streq(reason, "Suspended") && !fl_flround_suspended(view));
}

int fl_flround_repeat(struct fl_flround_view *view, const char *reason, const char *message)
{
    const struct fl_condition_list *list = &view->round->status.conditions;
    const struct fl_condition *ready = fl_condition_find(list, "Ready");

    for (size_t i = 0; ready && !is_outdated(view, ready->reason) && i < list->count; i++) {
        const struct fl_condition *condition = &list->items[i];

        if (condition != ready && condition->status == FL_CONDITION_STATUS_FALSE &&
            !fl_streq(condition->type, "Stalled") && !fl_streq(condition->type, "Reconciling") &&
            fl_streq(condition->reason, ready->reason))
            return fl_not_yet(view->rc, condition->type, condition->reason, "%s",
                              condition->message);
    }
    return fl_not_yet(view->rc, "Selected", reason, "%s", message);
}
