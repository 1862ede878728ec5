/* Tasks, the jobs they consist of, and their results. */
#include "workloads/learner/learner_core_internal.h"

#include "lib/str.h"

#include <stdio.h>
#include <string.h>

/* --- jobs ----------------------------------------------------------------------------------- */

/* It may be through all the same, before it hears of it; and so may those before it. */
static void note_dropped(struct fl_learner_core *core)
{
    struct learner_dropped *dropped = &core->dropped[core->dropped_next % DROPPED_MAX];

    if (core->stage != STAGE_DOWNLOAD || core->job == 0)
        return;
    core->dropped_next++;
    dropped->ticket = core->job;
    memcpy(dropped->model, core->model, sizeof(dropped->model));
}

static void release_dropped(struct fl_learner_core *core, uint64_t ticket, bool is_there)
{
    for (size_t i = 0; i < DROPPED_MAX; i++) {
        struct learner_dropped *dropped = &core->dropped[i];

        if (ticket == 0 || dropped->ticket != ticket)
            continue;
        dropped->ticket = 0;
        if (is_there && !fl_learner_needs(core, dropped->model))
            learner_release(core, dropped->model);
    }
}

void learner_cancel_job(struct fl_learner_core *core)
{
    note_dropped(core);
    learner_cancel(core, &core->job);
}

void learner_drop_work(struct fl_learner_core *core)
{
    learner_cancel_job(core);
    core->stage = STAGE_NONE;
    core->done = core->all = 0;
}

void learner_give_up(struct fl_learner_core *core, const char *reason, const char *message)
{
    learner_drop_work(core);
    (void)snprintf(core->reason, sizeof(core->reason), "%s", reason);
    (void)snprintf(core->message, sizeof(core->message), "%.*s",
                   (int)fl_utf8_cut(message, strlen(message), sizeof(core->message) - 1), message);
    core->stage = STAGE_GIVE_UP;
    core->due_ms = core->now_ms;
}

static struct fl_learner_action *start_job(struct fl_learner_core *core, enum stage stage,
                                           enum fl_learner_action_kind kind, int64_t span_ms)
{
    struct fl_learner_action *action = learner_act(core, kind);

    core->stage = stage;
    core->job = action->ticket = ++core->tickets;
    core->job_start_ms = core->now_ms;
    core->job_until_ms = span_ms > 0 ? core->now_ms + span_ms : core->task_until_ms;
    core->done = core->all = 0;
    core->progress_due_ms = core->now_ms + core->progress_ms;
    action->address = learner_act_text(core, core->address);
    return action;
}

void learner_start_download(struct fl_learner_core *core)
{
    struct fl_learner_action *action =
        start_job(core, STAGE_DOWNLOAD, FL_LEARNER_DOWNLOAD, core->options.transfer_ms);

    action->digest = learner_act_text(core, core->task.model);
    action->size = core->task.model_size;
}

void learner_start_upload(struct fl_learner_core *core, const char *path)
{
    struct fl_learner_action *action =
        start_job(core, STAGE_UPLOAD, FL_LEARNER_UPLOAD, core->options.transfer_ms);

    action->target = learner_act_text(core, path);
    action->digest = learner_act_text(core, core->kept.offer.digest);
    action->size = core->kept.offer.size;
    action->chunk_bytes = core->chunk_bytes;
}

void learner_start_trainer(struct fl_learner_core *core)
{
    if (core->task.kind != FL_TASK_EVALUATE)
        start_job(core, STAGE_TRAIN, FL_LEARNER_TRAIN, 0)->task = &core->task;
    else
        start_job(core, STAGE_EVALUATE, FL_LEARNER_EVALUATE, 0)->task = &core->task;
}

void learner_offer_at(struct fl_learner_core *core, int64_t due_ms)
{
    core->stage = STAGE_OFFER;
    core->due_ms = due_ms;
}

/* A transfer failed: again, for a while. */
void learner_retry_job(struct fl_learner_core *core, const char *reason, const struct fl_error *err)
{
    core->job = 0;
    if (++core->failures >= core->options.max_failures) {
        learner_give_up(core, reason, err->msg);
        return;
    }
    core->due_ms = core->now_ms + learner_next_delay(core);
}

/* --- tasks ---------------------------------------------------------------------------------- */

/* The model of a task is here until a task names another. */
static void use_model(struct fl_learner_core *core, const char *model)
{
    if (!model || fl_streq(core->model, model))
        return;
    if (*core->model && !(core->has_kept && fl_streq(core->kept.offer.digest, core->model)))
        learner_release(core, core->model);
    (void)snprintf(core->model, sizeof(core->model), "%s", model);
}

static void adopt(struct fl_learner_core *core, const struct fl_task *task)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_task copy;

    fl_message_copy(arena, &fl_form_task, task, &copy);
    fl_arena_destroy(core->task_arena);
    core->task_arena = arena;
    core->task = copy;
    core->failures = 0;
    core->task_until_ms =
        task->late ? INT64_MAX : core->now_ms + task->deadline_ms + core->options.grace_ms;
    use_model(core, task->model);
}

static bool same_work(const struct fl_task *a, const struct fl_task *b)
{
    return (a->kind == FL_TASK_FIT || a->kind == FL_TASK_INIT) && a->kind == b->kind &&
           fl_streq(a->work, b->work) && a->seed == b->seed;
}

static void begin_fit(struct fl_learner_core *core)
{
    const struct fl_task *task = &core->task;
    bool moved = core->has_kept && core->kept.offered &&
                 !fl_streq(core->kept.offered, core->aggregator) && task->origin &&
                 fl_streq(core->kept.origin, task->origin);

    if (moved) {
        learner_give_up(core, "Moved", "its update was offered to another aggregator");
    } else if (!core->join.aggregator && core->join.examples < task->min_examples) {
        learner_give_up(core, "TooFewExamples", "it has fewer examples than wanted");
    } else if (core->has_kept && fl_streq(core->kept.offer.work, task->work) &&
               core->kept.seed == task->seed) {
        learner_offer_at(core, core->now_ms);
    } else {
        learner_forget_kept(core);
        learner_start_download(core);
    }
}

static void begin_init(struct fl_learner_core *core)
{
    const struct fl_task *task = &core->task;

    if (core->has_kept && fl_streq(core->kept.offer.work, task->work) &&
        core->kept.seed == task->seed) {
        learner_offer_at(core, core->now_ms);
    } else {
        learner_forget_kept(core);
        learner_start_trainer(core);
    }
}

void learner_end(struct fl_learner_core *core, const char *message)
{
    learner_drop_work(core);
    learner_cancel(core, &core->poll);
    learner_cancel(core, &core->call);
    core->ended = true;
    learner_act(core, FL_LEARNER_ENDED)->message = learner_act_text(core, message);
}

void learner_take_task(struct fl_learner_core *core, const struct fl_task *task)
{
    bool going_on = same_work(&core->task, task) &&
                    (core->stage == STAGE_DOWNLOAD || core->stage == STAGE_TRAIN);

    if (task->seq <= core->task.seq)
        return;
    if (going_on) {
        /* The trainer and the transfer know the task by its place. */
        adopt(core, task);
        if (core->job && core->stage == STAGE_TRAIN)
            core->job_until_ms = core->task_until_ms;
        return;
    }
    learner_drop_work(core);
    adopt(core, task);
    switch (task->kind) {
    case FL_TASK_FIT:
        begin_fit(core);
        break;
    case FL_TASK_INIT:
        begin_init(core);
        break;
    case FL_TASK_EVALUATE:
        learner_start_download(core);
        break;
    case FL_TASK_WAIT:
        break;
    case FL_TASK_MOVE:
        learner_move_to(core, core->task.address, NULL);
        break;
    case FL_TASK_END:
        learner_end(core, core->task.message);
        break;
    }
}

/* --- results of jobs ------------------------------------------------------------------------ */

void fl_learner_progressed(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                           int64_t done, int64_t all)
{
    core->now_ms = now_ms;
    if (ticket == 0 || ticket != core->job)
        return;
    core->done = done;
    core->all = all;
    if (core->stage == STAGE_DOWNLOAD || core->stage == STAGE_UPLOAD)
        core->job_until_ms = now_ms + core->options.transfer_ms;
    learner_advance(core);
}

static bool job_ends(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket)
{
    core->now_ms = now_ms;
    if (ticket == 0 || ticket != core->job)
        return false;
    core->job = 0;
    return true;
}

void fl_learner_downloaded(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                           const struct fl_error *err)
{
    release_dropped(core, ticket, !err);
    if (!job_ends(core, now_ms, ticket))
        return;
    if (err) {
        learner_retry_job(core, "DownloadFailed", err);
    } else {
        core->download_ms = now_ms - core->job_start_ms;
        core->failures = 0;
        learner_start_trainer(core);
    }
    learner_advance(core);
}

void fl_learner_uploaded(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                         const struct fl_error *err)
{
    if (!job_ends(core, now_ms, ticket))
        return;
    core->stage = STAGE_OFFER;
    core->due_ms = now_ms;
    if (err)
        learner_retry_job(core, "UploadFailed", err);
    learner_advance(core);
}

void fl_learner_trained(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                        const struct fl_offer *facts)
{
    struct fl_kept kept = {.offer = *facts, .seed = core->task.seed};

    if (!job_ends(core, now_ms, ticket)) {
        if (!fl_learner_needs(core, facts->digest)) /* it was cancelled, and done all the same */
            learner_release(core, facts->digest);
        return;
    }
    kept.offer.work = core->task.work;
    kept.offer.base = core->task.model;
    kept.offer.download_ms = core->download_ms;
    kept.offer.train_ms = now_ms - core->job_start_ms;
    core->join.expected_fit_ms = kept.offer.train_ms;
    learner_set_kept(core, &kept);
    learner_act(core, FL_LEARNER_KEEP)->kept = &core->kept;
    learner_offer_at(core, now_ms);
    learner_advance(core);
}

void fl_learner_evaluated(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                          const struct fl_result *result)
{
    if (!job_ends(core, now_ms, ticket))
        return;
    fl_arena_destroy(core->result_arena);
    core->result_arena = fl_arena_create();
    core->result = (struct fl_result){.examples = result->examples, .loss = result->loss};
    core->result.metrics.items =
        fl_new_array(core->result_arena, struct fl_metric, result->metrics.count + 1);
    core->result.metrics.count = result->metrics.count;
    for (size_t i = 0; i < result->metrics.count; i++)
        core->result.metrics.items[i] =
            (struct fl_metric){fl_arena_strdup(core->result_arena, result->metrics.items[i].name),
                               result->metrics.items[i].value};
    core->stage = STAGE_RESULT;
    core->due_ms = now_ms;
    learner_advance(core);
}

void fl_learner_failed(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                       const char *reason, const struct fl_error *err)
{
    if (!job_ends(core, now_ms, ticket))
        return;
    if (err && fl_error_is_retryable(err->code))
        learner_retry_job(core, fl_str_or(reason, "TrainingFailed"), err);
    else
        learner_give_up(core, fl_str_or(reason, "TrainingFailed"), err ? err->msg : "");
    learner_advance(core);
}
