/* What an ImageBuild says of a build that is not done. */
#include "reconcilers/imagebuild/imagebuild_internal.h"

#include "lib/str.h"

#include <inttypes.h>

#define DURATION_MOST_MS 999999999

int64_t fl_build_attempts(const struct fl_build_view *view)
{
    return view->object->status.has_attempts ? view->object->status.attempts : 0;
}

const char *fl_build_time_text(struct fl_arena *arena, int64_t realtime_us)
{
    char *text = fl_alloc(arena, FL_TIME_SIZE);

    fl_time_format(realtime_us, text);
    return text;
}

/* The clock may have been set meanwhile. */
const char *fl_build_duration_text(struct fl_arena *arena, int64_t ms)
{
    ms = ms < 0 ? 0 : ms < DURATION_MOST_MS ? ms : DURATION_MOST_MS;
    return fl_arena_printf(arena, "%" PRId64 ".%03" PRId64 "s", ms / 1000, ms % 1000);
}

void fl_build_show_stages(struct fl_build_view *view)
{
    static const enum fl_imagebuild_status_stage_state states[] = {
        [FL_STAGE_RUNNING] = FL_IMAGEBUILD_STATUS_STAGE_STATE_RUNNING,
        [FL_STAGE_DONE] = FL_IMAGEBUILD_STATUS_STAGE_STATE_DONE,
        [FL_STAGE_CACHED] = FL_IMAGEBUILD_STATUS_STAGE_STATE_CACHED,
        [FL_STAGE_FAILED] = FL_IMAGEBUILD_STATUS_STAGE_STATE_FAILED,
    };
    const struct fl_builder_known *known = &view->known;
    struct fl_arena *arena = view->rc->arena;
    struct fl_imagebuild_status_stage *items =
        fl_new_array(arena, struct fl_imagebuild_status_stage, known->stage_count + 1);

    for (size_t i = 0; i < known->stage_count; i++) {
        const struct fl_builder_stage *stage = &known->stages[i];

        items[i] = (struct fl_imagebuild_status_stage){
            .name = stage->name,
            .state = states[stage->state],
            .start_time = fl_build_time_text(arena, stage->started_us),
            .duration = stage->state == FL_STAGE_RUNNING
                            ? NULL
                            : fl_build_duration_text(arena, stage->took_ms),
            .message = stage->state == FL_STAGE_FAILED ? stage->message : NULL,
        };
    }
    view->object->status.stages =
        (struct fl_imagebuild_status_stage_list){items, known->stage_count};
    view->object->status.log_tail = known->log_tail;
}

static const struct stage_meaning {
    const char *stage, *condition, *running, *failed;
} meanings[] = {
    {"Fetch", "SourceReady", "Fetching", "SourceNotReady"},
    {"Check", "SourceReady", "Fetching", "SourceInvalid"},
    {"Resolve", "Built", "Resolving", "BuildFailed"},
    {"Push", "Pushed", "Pushing", "PushFailed"},
};

static struct stage_meaning meaning_of(const char *stage)
{
    static const struct stage_meaning other = {NULL, "Built", "Building", "BuildFailed"};

    for (size_t i = 0; i < FL_COUNT_OF(meanings); i++)
        if (fl_streq(stage, meanings[i].stage))
            return meanings[i];
    return other;
}

/* Of an attempt that has come so far, the parts before it hold, whatever an earlier one said. */
static void tell_passed(struct fl_build_view *view, const char *condition)
{
    bool is_pushing = fl_streq(condition, "Pushed");

    if (view->known.stage_count == 0)
        return;
    if (is_pushing || fl_streq(condition, "Built"))
        fl_true(view->rc, "SourceReady", "Ready", "%s",
                view->object->spec.has_source ? view->object->spec.source.commit
                                              : "no code is needed");
    if (is_pushing)
        fl_true(view->rc, "Built", "Built", "%zu platforms", view->object->spec.platforms.count);
}

int fl_build_tell_running(struct fl_build_view *view)
{
    const struct fl_builder_known *known = &view->known;
    const struct fl_builder_stage *last =
        known->stage_count > 0 ? &known->stages[known->stage_count - 1] : NULL;
    struct stage_meaning meaning = meaning_of(last ? last->name : NULL);

    fl_build_show_stages(view);
    tell_passed(view, meaning.condition);
    if (known->state == FL_BUILDER_WAITING)
        return fl_not_yet(view->rc, "Succeeded", "Building", "waits for builds before it");
    return fl_not_yet(view->rc, "Succeeded", meaning.running, "%s", last ? last->name : "begins");
}

/* A builder that was ended cannot say where. */
static const char *failed_stage(const struct fl_builder_known *known)
{
    if (known->failed_stage || known->stage_count == 0)
        return known->failed_stage;
    return known->stages[known->stage_count - 1].name;
}

static const char *last_of(const struct fl_build_view *view)
{
    int64_t attempt = fl_build_attempts(view);

    return attempt > view->object->spec.retry_limit && attempt > 1
               ? fl_arena_printf(view->rc->arena, " (attempt %" PRId64 ", the last)", attempt)
               : "";
}

int fl_build_give_up(struct fl_build_view *view)
{
    const struct fl_builder_known *known = &view->known;
    const char *stage = failed_stage(known);
    struct stage_meaning meaning = meaning_of(stage);
    const char *reason = known->err.code == FL_E_TIMEOUT ? "DeadlineExceeded" : meaning.failed;

    fl_build_show_stages(view);
    tell_passed(view, meaning.condition);
    return fl_stalled(view->rc, meaning.condition, reason, "%s%s: %s", fl_str_or(stage, "Build"),
                      last_of(view), known->err.msg);
}

int fl_build_wait_to_retry(struct fl_build_view *view,
                           const struct fl_imagebuild_decision *decision)
{
    const struct fl_builder_known *known = &view->known;
    const char *stage = failed_stage(known);
    struct stage_meaning meaning = meaning_of(stage);

    fl_build_show_stages(view);
    tell_passed(view, meaning.condition);
    fl_requeue_after(view->rc, decision->wait_ms);
    return fl_not_yet(view->rc, meaning.condition, meaning.failed,
                      "%s: %s; attempt %" PRId64 " comes next", fl_str_or(stage, "Build"),
                      known->err.msg, decision->attempt);
}

int fl_build_stay_given_up(struct fl_build_view *view)
{
    static const char *const names[] = {"SourceReady", "Built", "Pushed"};
    const struct fl_condition_list *conditions = &view->object->status.conditions;
    const struct fl_condition *ready = fl_condition_find(conditions, "Ready");
    const char *name = NULL;

    for (size_t i = 0; i < FL_COUNT_OF(names); i++) {
        const struct fl_condition *condition = fl_condition_find(conditions, names[i]);

        if (condition && ready && condition->status == FL_CONDITION_STATUS_FALSE &&
            fl_streq(condition->reason, ready->reason))
            name = names[i];
    }
    return fl_stalled(view->rc, name, ready ? ready->reason : "BuildFailed", "%s",
                      ready ? ready->message : "the build was given up");
}
