/* A life of the core, its actions, where it belongs, what happens next. */
#include "workloads/learner/learner_core_internal.h"

#include "lib/str.h"

#include <inttypes.h>
#include <string.h>

/* --- actions -------------------------------------------------------------------------------- */

struct fl_learner_action *learner_act(struct fl_learner_core *core,
                                      enum fl_learner_action_kind kind)
{
    struct queued *queued = fl_calloc(1, sizeof(*queued));

    queued->action.kind = kind;
    TAILQ_INSERT_TAIL(&core->actions, queued, all);
    return &queued->action;
}

const char *learner_act_text(struct fl_learner_core *core, const char *text)
{
    return text ? fl_arena_strdup(core->action_arena, text) : NULL;
}

static void queued_destroy(struct queued *queued)
{
    if (!queued)
        return;
    fl_bytes_unref(queued->action.body);
    free(queued);
}

const struct fl_learner_action *fl_learner_next(struct fl_learner_core *core)
{
    queued_destroy(FL_TAKE(core->lent));
    core->lent = TAILQ_FIRST(&core->actions);
    if (!core->lent) {
        fl_arena_reset(core->action_arena);
        return NULL;
    }
    TAILQ_REMOVE(&core->actions, core->lent, all);
    return &core->lent->action;
}

void learner_cancel(struct fl_learner_core *core, uint64_t *ticket)
{
    if (*ticket)
        learner_act(core, FL_LEARNER_CANCEL)->ticket = *ticket;
    *ticket = 0;
}

void learner_release(struct fl_learner_core *core, const char *digest)
{
    if (digest)
        learner_act(core, FL_LEARNER_RELEASE)->digest = learner_act_text(core, digest);
}

/* From a half to all of the delay, so that those who failed together do not return together. */
int64_t learner_jitter(struct fl_learner_core *core, int64_t delay_ms)
{
    core->random ^= core->random << 13;
    core->random ^= core->random >> 7;
    core->random ^= core->random << 17;
    return delay_ms / 2 + (int64_t)(core->random % (uint64_t)(delay_ms / 2 + 1));
}

int64_t learner_next_delay(struct fl_learner_core *core)
{
    int64_t delay = core->backoff_ms;

    core->backoff_ms *= 2;
    if (core->backoff_ms > core->options.backoff_max_ms)
        core->backoff_ms = core->options.backoff_max_ms;
    return learner_jitter(core, delay);
}

void learner_set_text(char **at, const char *text)
{
    char *copy = text ? fl_strdup(text) : NULL;

    free(*at);
    *at = copy;
}

/* --- a life --------------------------------------------------------------------------------- */

static int64_t lost_ms(const struct fl_learner_core *core)
{
    return core->options.lost_ms + core->poll_ms;
}

static void fill_options(struct fl_learner_options *options)
{
#define DEFAULT(member, value) options->member = options->member > 0 ? options->member : (value)
    DEFAULT(lost_ms, 60000);
    DEFAULT(request_ms, 20000);
    DEFAULT(transfer_ms, 60000);
    DEFAULT(backoff_ms, 500);
    DEFAULT(backoff_max_ms, 30000);
    DEFAULT(grace_ms, 30000);
    DEFAULT(max_failures, 5);
#undef DEFAULT
}

int fl_learner_create(const struct fl_learner_options *options, int64_t now_ms,
                      struct fl_learner_core **ret_core, struct fl_error *err)
{
    FL_CLEANUP(fl_learner_destroyp) struct fl_learner_core *core = fl_calloc(1, sizeof(*core));
    FL_JSON join = fl_message_to_json(&fl_form_join, &options->join);
    int r;

    core->arena = fl_arena_create();
    core->action_arena = fl_arena_create();
    TAILQ_INIT(&core->actions);
    core->options = *options;
    fill_options(&core->options);
    core->options.kept = NULL;
    core->options.address = fl_arena_strdup(core->arena, options->address);
    r = fl_message_from_json(core->arena, &fl_form_join, join, &core->join, err);
    if (r < 0)
        return r;
    core->join.protocol = FL_PROTOCOL_VERSION;
    core->random = options->seed * 2654435769u + 0x9e3779b97f4a7c15u;
    core->life = core->random;
    core->now_ms = now_ms;
    if (options->kept)
        learner_set_kept(core, options->kept);
    core->backoff_ms = core->options.backoff_ms;
    learner_set_text(&core->parent, options->parent);
    learner_move_to(core, core->options.address, NULL);
    learner_advance(core);
    *ret_core = FL_TAKE(core);
    return 0;
}

void fl_learner_destroy(struct fl_learner_core *core)
{
    struct queued *queued;

    if (!core)
        return;
    while (core->actions.tqh_last && (queued = TAILQ_FIRST(&core->actions)) != NULL) {
        TAILQ_REMOVE(&core->actions, queued, all);
        queued_destroy(queued);
    }
    queued_destroy(core->lent);
    fl_arena_destroy(core->arena);
    fl_arena_destroy(core->action_arena);
    fl_arena_destroy(core->task_arena);
    fl_arena_destroy(core->result_arena);
    fl_arena_destroy(core->kept_arena);
    free(core->address);
    free(core->aggregator);
    free(core->parent);
    free(core->orphan_of);
    free(core->leave_message);
    free(core);
}

/* --- where it belongs ----------------------------------------------------------------------- */

/* Work goes on: its update may be wanted there, too. But the task is that aggregator's. */
void learner_move_to(struct fl_learner_core *core, const char *address, const char *orphan_of)
{
    learner_cancel(core, &core->poll);
    learner_cancel(core, &core->call);
    core->calling = CALL_NONE;
    learner_set_text(&core->orphan_of, orphan_of);
    learner_set_text(&core->address, address);
    learner_set_text(&core->aggregator, NULL);
    core->joined = false;
    core->task.seq = 0;
    core->heard_ms = core->now_ms;
    core->retry_ms = core->now_ms;
    core->backoff_ms = core->options.backoff_ms;
}

void learner_not_joined(struct fl_learner_core *core)
{
    core->joined = false;
    core->task.seq = 0;
    learner_cancel(core, &core->poll);
}

/* Home, or to home's parent, in turns. */
static void look_elsewhere(struct fl_learner_core *core)
{
    bool home = fl_streq(core->address, core->options.address);
    FL_CLEANUP(fl_freep) char *lost = fl_strdup(fl_str_or(core->aggregator, "unknown"));

    core->heard_ms = core->now_ms;
    if (home && core->parent)
        learner_move_to(core, core->parent, lost);
    else if (!home)
        learner_move_to(core, core->options.address, NULL);
}

void learner_request_failed(struct fl_learner_core *core, enum call call)
{
    core->declare = core->declare || call == CALL_JOIN;
    core->retry_ms = core->now_ms + learner_next_delay(core);
}

void learner_heard(struct fl_learner_core *core)
{
    core->heard_ms = core->now_ms;
    core->backoff_ms = core->options.backoff_ms;
}

void fl_learner_declare(struct fl_learner_core *core, int64_t now_ms, int64_t examples,
                        int64_t learners)
{
    core->now_ms = now_ms;
    core->join.examples = examples;
    core->join.learners = learners;
    core->declare = true;
    learner_advance(core);
}

void fl_learner_leave(struct fl_learner_core *core, int64_t now_ms, const char *message)
{
    core->now_ms = now_ms;
    if (core->ended || core->leaving)
        return;
    learner_drop_work(core);
    learner_cancel(core, &core->poll);
    learner_cancel(core, &core->call);
    core->calling = CALL_NONE;
    core->leaving = true;
    learner_set_text(&core->leave_message, message);
    core->retry_ms = now_ms;
    core->heard_ms = now_ms;
    learner_advance(core);
}

/* --- what happens next ---------------------------------------------------------------------- */

static bool is_working(const struct fl_learner_core *core)
{
    return core->job != 0;
}

/* The most urgent request, if any is due. */
static void next_call(struct fl_learner_core *core)
{
    struct fl_leave leave = {.learner = core->join.learner, .message = core->leave_message};
    bool due = core->now_ms >= core->due_ms;

    if (core->call || core->now_ms < core->retry_ms)
        return;
    if (core->leaving)
        learner_send_call(core, CALL_LEAVE, "/v1/leave", &fl_form_leave, &leave);
    else if (!core->joined || core->declare)
        learner_send_join(core);
    else if (core->task.seq == 0)
        return; /* the poll will say what is wanted */
    else if (core->stage == STAGE_OFFER && due)
        learner_send_offer(core);
    else if (core->stage == STAGE_RESULT && due)
        learner_send_result(core);
    else if (core->stage == STAGE_GIVE_UP && due)
        learner_send_progress(core, true);
    else if (is_working(core) && core->now_ms >= core->progress_due_ms)
        learner_send_progress(core, false);
}

static bool is_training(const struct fl_learner_core *core)
{
    return core->job && (core->stage == STAGE_TRAIN || core->stage == STAGE_EVALUATE);
}

static void check_times(struct fl_learner_core *core)
{
    struct fl_error err;

    (void)fl_error_set(&err, FL_E_TIMEOUT, "no progress in time");
    if (core->poll && core->now_ms >= core->poll_until_ms) {
        learner_cancel(core, &core->poll);
        learner_request_failed(core, CALL_NONE);
    }
    if (core->call && core->now_ms >= core->call_until_ms) {
        enum call call = core->calling;

        learner_cancel(core, &core->call);
        core->calling = CALL_NONE;
        learner_request_failed(core, call);
    }
    if (is_training(core) && core->now_ms >= core->job_until_ms) {
        learner_give_up(core, "Timeout", "it was not done by the deadline");
    } else if (core->job && core->now_ms >= core->job_until_ms) {
        bool upload = core->stage == STAGE_UPLOAD;

        learner_cancel_job(core);
        learner_retry_job(core, upload ? "UploadFailed" : "DownloadFailed", &err);
        if (upload && core->stage == STAGE_UPLOAD)
            core->stage = STAGE_OFFER;
    }
}

void learner_advance(struct fl_learner_core *core)
{
    bool again;

    if (core->ended)
        return;
    check_times(core);
    if (core->leaving && core->now_ms - core->heard_ms >= core->options.request_ms) {
        learner_end(core, core->leave_message);
        return;
    }
    if (!core->leaving && core->now_ms - core->heard_ms >= lost_ms(core))
        look_elsewhere(core);
    again = core->job == 0 && core->now_ms >= core->due_ms;
    if (again && core->stage == STAGE_DOWNLOAD)
        learner_start_download(core);
    else if (again && (core->stage == STAGE_TRAIN || core->stage == STAGE_EVALUATE))
        learner_start_trainer(core);
    next_call(core);
    if (core->joined && !core->leaving && !core->poll && core->now_ms >= core->retry_ms)
        learner_send_poll(core);
}

void fl_learner_tick(struct fl_learner_core *core, int64_t now_ms)
{
    core->now_ms = now_ms;
    learner_advance(core);
}

static bool waits_until_due(const struct fl_learner_core *core)
{
    return core->job == 0 && core->stage != STAGE_NONE && core->stage != STAGE_DONE;
}

int64_t fl_learner_deadline(const struct fl_learner_core *core)
{
    bool wants_call = !core->joined || core->declare || core->leaving;
    bool reports = core->joined && core->task.seq > 0;
    bool requests =
        waits_until_due(core) &&
        (core->stage == STAGE_OFFER || core->stage == STAGE_RESULT || core->stage == STAGE_GIVE_UP);
    int64_t soonest = core->heard_ms + (core->leaving ? core->options.request_ms : lost_ms(core));

    if (core->ended)
        return INT64_MAX;
#define SOONER(condition, time) soonest = (condition) && (time) < soonest ? (time) : soonest
#define LATER(a, b)             ((a) > (b) ? (a) : (b))
    SOONER(core->poll, core->poll_until_ms);
    SOONER(core->call, core->call_until_ms);
    SOONER(core->job, core->job_until_ms);
    SOONER(!core->call && wants_call, core->retry_ms);
    SOONER(core->joined && !core->poll && !core->leaving, core->retry_ms);
    SOONER(waits_until_due(core) && !requests, core->due_ms);
    SOONER(requests && reports && !core->call, LATER(core->due_ms, core->retry_ms));
    SOONER(core->job && reports && !core->call, LATER(core->progress_due_ms, core->retry_ms));
#undef LATER
#undef SOONER
    return soonest;
}

bool fl_learner_needs(const struct fl_learner_core *core, const char *digest)
{
    return fl_streq(core->model, digest) ||
           (core->has_kept && fl_streq(core->kept.offer.digest, digest));
}

const char *fl_learner_doing(const struct fl_learner_core *core)
{
    if (core->ended)
        return "Ended";
    if (!core->joined)
        return "Joining";
    if (core->stage == STAGE_NONE || core->stage == STAGE_DONE)
        return "Idle";
    return learner_stage_name(core->stage);
}
