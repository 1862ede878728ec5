/* Requests and their answers. */
#include "workloads/learner/learner_core_internal.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- requests ------------------------------------------------------------------------------- */

void learner_send_call(struct fl_learner_core *core, enum call call, const char *target,
                       const struct fl_form *form, const void *message)
{
    struct fl_learner_action *action = learner_act(core, FL_LEARNER_CALL);

    core->calling = call;
    core->call_seq = core->task.seq;
    core->call = action->ticket = ++core->tickets;
    core->call_until_ms = core->now_ms + core->options.request_ms;
    action->address = learner_act_text(core, core->address);
    action->method = "POST";
    action->target = target;
    action->body = fl_message_encode(form, message);
    action->timeout_ms = core->options.request_ms;
}

void learner_send_join(struct fl_learner_core *core)
{
    struct fl_join join = core->join;

    (void)snprintf(core->token, sizeof(core->token), "%" PRIx64 "-%" PRIu64, core->life,
                   ++core->declared);
    join.token = core->token;
    join.orphan_of = core->orphan_of;
    core->declare = false;
    learner_send_call(core, CALL_JOIN, "/v1/join", &fl_form_join, &join);
}

const char *learner_stage_name(enum stage stage)
{
    switch (stage) {
    case STAGE_DOWNLOAD:
        return "Downloading";
    case STAGE_TRAIN:
        return "Training";
    case STAGE_EVALUATE:
        return "Evaluating";
    default:
        return "Uploading";
    }
}

void learner_send_progress(struct fl_learner_core *core, bool gave_up)
{
    struct fl_progress progress = {
        .learner = core->join.learner,
        .project = core->task.project,
        .round = core->task.round,
        .attempt = core->task.attempt,
        .stage = gave_up ? NULL : learner_stage_name(core->stage),
        .done = core->done,
        .all = core->all,
        .gave_up = gave_up,
        .reason = gave_up ? core->reason : NULL,
        .message = gave_up && *core->message ? core->message : NULL,
    };

    core->progress_due_ms = core->now_ms + core->progress_ms;
    learner_send_call(core, CALL_PROGRESS, "/v1/progress", &fl_form_progress, &progress);
}

/* Before it can count anywhere it is written down where it was offered. */
void learner_send_offer(struct fl_learner_core *core)
{
    struct fl_offer offer = core->kept.offer;

    if (!fl_streq(core->kept.offered, core->aggregator) ||
        !fl_streq(core->kept.origin, core->task.origin)) {
        core->kept.offered = fl_arena_strdup(core->kept_arena, core->aggregator);
        core->kept.origin =
            core->task.origin ? fl_arena_strdup(core->kept_arena, core->task.origin) : NULL;
        learner_act(core, FL_LEARNER_KEEP)->kept = &core->kept;
    }
    offer.learner = core->join.learner;
    offer.project = core->task.project;
    offer.round = core->task.round;
    offer.attempt = core->task.attempt;
    offer.work = core->task.work;
    offer.base = core->task.model;
    learner_send_call(core, CALL_OFFER, "/v1/updates", &fl_form_offer, &offer);
}

void learner_send_result(struct fl_learner_core *core)
{
    struct fl_result result = core->result;

    result.learner = core->join.learner;
    result.project = core->task.project;
    result.round = core->task.round;
    result.model = core->task.model;
    learner_send_call(core, CALL_RESULT, "/v1/evaluations", &fl_form_result, &result);
}

void learner_send_poll(struct fl_learner_core *core)
{
    struct fl_learner_action *action = learner_act(core, FL_LEARNER_POLL);

    core->poll = action->ticket = ++core->tickets;
    action->timeout_ms = core->poll_ms + core->options.request_ms;
    core->poll_until_ms = core->now_ms + action->timeout_ms;
    action->address = learner_act_text(core, core->address);
    action->method = "GET";
    action->target = fl_arena_printf(
        core->action_arena, "/v1/task?learner=%s&after=%" PRId64 "&join=%s",
        fl_url_encode(core->action_arena, core->join.learner), core->task.seq, core->token);
}

/* --- answers -------------------------------------------------------------------------------- */

static void answered_join(struct fl_learner_core *core, struct fl_arena *arena, const void *body,
                          size_t len)
{
    struct fl_joined joined;

    if (fl_message_decode(arena, &fl_form_joined, body, len, &joined, NULL) < 0) {
        learner_request_failed(core, CALL_JOIN);
        return;
    }
    core->joined = true;
    learner_set_text(&core->aggregator, joined.aggregator);
    if (joined.parent && fl_streq(core->address, core->options.address))
        learner_set_text(&core->parent, joined.parent);
    core->poll_ms = joined.poll_ms;
    core->progress_ms = joined.progress_ms;
    core->chunk_bytes = joined.chunk_bytes;
}

static void answered_offer(struct fl_learner_core *core, const struct fl_answer *answer)
{
    switch (answer->verdict) {
    case FL_VERDICT_SEND:
        if (answer->path)
            learner_start_upload(core, answer->path);
        else
            learner_offer_at(core, core->now_ms + core->options.backoff_max_ms);
        break;
    case FL_VERDICT_WAIT:
        learner_offer_at(core, core->now_ms + 1 + learner_jitter(core, answer->retry_ms * 2));
        break;
    default: /* settled; it is kept until other work is asked for */
        core->stage = STAGE_DONE;
        break;
    }
}

static void answered_call(struct fl_learner_core *core, enum call call, const void *body,
                          size_t len)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    bool current = core->call_seq == core->task.seq;
    struct fl_answer answer;

    if (call == CALL_JOIN) {
        answered_join(core, arena, body, len);
        return;
    }
    if (fl_message_decode(arena, &fl_form_answer, body, len, &answer, NULL) < 0) {
        learner_request_failed(core, call);
        return;
    }
    if (call == CALL_LEAVE)
        learner_end(core, core->leave_message);
    if (!current)
        return;
    if (call == CALL_OFFER && core->stage == STAGE_OFFER)
        answered_offer(core, &answer);
    else if ((call == CALL_RESULT && core->stage == STAGE_RESULT) ||
             (call == CALL_PROGRESS && core->stage == STAGE_GIVE_UP))
        core->stage = STAGE_DONE;
    else if (call == CALL_PROGRESS && answer.verdict == FL_VERDICT_STOP)
        learner_drop_work(core);
}

static void answered_poll(struct fl_learner_core *core, const void *body, size_t len)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_task task;

    if (fl_message_decode(arena, &fl_form_task, body, len, &task, NULL) < 0)
        learner_request_failed(core, CALL_NONE);
    else
        learner_take_task(core, &task);
}

/* A request that the aggregator refuses is not sent again as it is. */
static void refused(struct fl_learner_core *core, enum call call, int http_status, const void *body,
                    size_t len)
{
    struct fl_error err = {0};
    bool unknown;

    (void)fl_protocol_read_error(http_status, body, len, &unknown, &err);
    if (unknown)
        learner_not_joined(core);
    else if ((call == CALL_OFFER || call == CALL_RESULT) && !fl_error_is_retryable(err.code))
        learner_give_up(core, fl_error_reason(err.code), err.msg);
    learner_request_failed(core, call);
}

void fl_learner_answered(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                         int http_status, const void *body, size_t len)
{
    bool poll = ticket == core->poll;
    enum call call = core->calling;

    core->now_ms = now_ms;
    if (core->ended || ticket == 0 || (!poll && ticket != core->call))
        return;
    if (poll) {
        core->poll = 0;
        call = CALL_NONE;
    } else {
        core->call = 0;
        core->calling = CALL_NONE;
    }
    if (http_status == 200) {
        learner_heard(core);
        if (poll)
            answered_poll(core, body, len);
        else
            answered_call(core, call, body, len);
    } else {
        if (http_status < 500)
            core->heard_ms = now_ms;
        refused(core, call, http_status, body, len);
    }
    learner_advance(core);
}

void fl_learner_unanswered(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                           const struct fl_error *err)
{
    enum call call = core->calling;

    (void)err;
    core->now_ms = now_ms;
    if (core->ended || ticket == 0 || (ticket != core->poll && ticket != core->call))
        return;
    if (ticket == core->poll) {
        core->poll = 0;
        call = CALL_NONE;
    } else {
        core->call = 0;
        core->calling = CALL_NONE;
    }
    learner_request_failed(core, call);
    learner_advance(core);
}
