#include "workloads/learner/learner_core.h"

#include "lib/str.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

enum stage {
    STAGE_NONE = 0,
    STAGE_DOWNLOAD, /* job: the model */
    STAGE_TRAIN,    /* job */
    STAGE_OFFER,    /* the kept update is to be offered at due_ms */
    STAGE_UPLOAD,   /* job: its bytes */
    STAGE_EVALUATE, /* job */
    STAGE_RESULT,   /* is to be told at due_ms */
    STAGE_GIVE_UP,  /* is to be told at due_ms */
    STAGE_DONE,     /* nothing more to do for this task */
};

enum call { CALL_NONE = 0, CALL_JOIN, CALL_PROGRESS, CALL_OFFER, CALL_RESULT, CALL_LEAVE };

struct queued {
    struct fl_learner_action action;
    TAILQ_ENTRY(queued) all;
};

struct fl_learner_core {
    struct fl_learner_options options;
    struct fl_arena *arena; /* of the options */
    struct fl_join join;
    int64_t now_ms;
    uint64_t tickets, random;
    TAILQ_HEAD(, queued) actions;
    struct queued *lent;
    struct fl_arena *action_arena;

    /* Where it belongs now */
    char *address, *aggregator, *parent, *orphan_of;
    char token[48]; /* of what was said last; of a life that nobody else had */
    uint64_t life, declared;
    bool joined, declare, leaving, ended;
    char *leave_message;
    int64_t heard_ms; /* of the aggregator */
    int64_t poll_ms, progress_ms;

    /* Requests */
    uint64_t poll, call;
    int64_t poll_until_ms, call_until_ms;
    enum call calling;
    int64_t call_seq;   /* the task that the call was for */
    int64_t retry_ms;   /* no request before */
    int64_t backoff_ms; /* the next delay */

    /* The task */
    struct fl_arena *task_arena;
    struct fl_task task; /* kind 0: none yet */
    enum stage stage;
    uint64_t job;
    int64_t job_until_ms, job_start_ms; /* until: INT64_MAX for trainers */
    int64_t done, all;                  /* progress */
    int64_t due_ms, progress_due_ms;
    int64_t failures, download_ms;
    char reason[64], message[FL_PROTOCOL_TEXT_MAX / 2];
    struct fl_arena *result_arena;
    struct fl_result result;

    /* The update that is kept */
    struct fl_arena *kept_arena;
    struct fl_kept kept;
    bool has_kept;

    char *base, *older; /* digests of the models that were fetched last; NULL: none */
};

/* --- actions -------------------------------------------------------------------------------- */

static struct fl_learner_action *act(struct fl_learner_core *core, enum fl_learner_action_kind kind)
{
    struct queued *queued = fl_calloc(1, sizeof(*queued));

    queued->action.kind = kind;
    TAILQ_INSERT_TAIL(&core->actions, queued, all);
    return &queued->action;
}

static const char *act_text(struct fl_learner_core *core, const char *text)
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

static void cancel(struct fl_learner_core *core, uint64_t *ticket)
{
    if (*ticket)
        act(core, FL_LEARNER_CANCEL)->ticket = *ticket;
    *ticket = 0;
}

static void release(struct fl_learner_core *core, const char *digest)
{
    if (digest)
        act(core, FL_LEARNER_RELEASE)->digest = act_text(core, digest);
}

/* From a half to all of the delay, so that those who failed together do not return together. */
static int64_t jitter(struct fl_learner_core *core, int64_t delay_ms)
{
    core->random ^= core->random << 13;
    core->random ^= core->random >> 7;
    core->random ^= core->random << 17;
    return delay_ms / 2 + (int64_t)(core->random % (uint64_t)(delay_ms / 2 + 1));
}

static int64_t next_delay(struct fl_learner_core *core)
{
    int64_t delay = core->backoff_ms;

    core->backoff_ms *= 2;
    if (core->backoff_ms > core->options.backoff_max_ms)
        core->backoff_ms = core->options.backoff_max_ms;
    return jitter(core, delay);
}

static void set_text(char **at, const char *text)
{
    char *copy = text ? fl_strdup(text) : NULL;

    free(*at);
    *at = copy;
}

/* --- a life --------------------------------------------------------------------------------- */

static void copy_offer(struct fl_arena *arena, const struct fl_offer *from, struct fl_offer *to)
{
    *to = *from;
#define COPY(member) to->member = from->member ? fl_arena_strdup(arena, from->member) : NULL
    COPY(learner);
    COPY(project);
    COPY(work);
    COPY(base);
    COPY(digest);
#undef COPY
    to->metrics.items = fl_new_array(arena, struct fl_metric, from->metrics.count + 1);
    for (size_t i = 0; i < from->metrics.count; i++)
        to->metrics.items[i] = (struct fl_metric){
            fl_arena_strdup(arena, from->metrics.items[i].name), from->metrics.items[i].value};
    to->contributors.items = fl_new_array(arena, const char *, from->contributors.count + 1);
    for (size_t i = 0; i < from->contributors.count; i++)
        to->contributors.items[i] = fl_arena_strdup(arena, from->contributors.items[i]);
}

static void set_kept(struct fl_learner_core *core, const struct fl_kept *kept)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_kept copy = *kept;

    copy_offer(arena, &kept->offer, &copy.offer);
    copy.origin = kept->origin ? fl_arena_strdup(arena, kept->origin) : NULL;
    copy.offered = kept->offered ? fl_arena_strdup(arena, kept->offered) : NULL;
    fl_arena_destroy(core->kept_arena);
    core->kept_arena = arena;
    core->kept = copy;
    core->has_kept = true;
}

struct fl_bytes *fl_kept_encode(const struct fl_kept *kept)
{
    struct fl_offer offer = kept->offer;
    FL_JSON value = json_object();

    offer.learner = offer.project = "any"; /* the next task says which, and which round */
    offer.round = offer.attempt = 1;
    json_object_set_new(value, "offer", fl_message_to_json(&fl_form_offer, &offer));
    json_object_set_new(value, "seed", json_integer(kept->seed));
    fl_json_set_str(value, "origin", kept->origin);
    fl_json_set_str(value, "offered", kept->offered);
    return fl_json_to_bytes(value);
}

int fl_kept_decode(struct fl_arena *arena, const void *data, size_t len, struct fl_kept *ret_kept,
                   struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = FL_PROTOCOL_BODY_MAX, .max_depth = 32};
    FL_JSON value = NULL;
    struct fl_kept kept = {0};
    const char *origin, *offered;
    int r = fl_json_parse(data, len, &limits, NULL, NULL, &value, err);

    if (r == 0)
        r = fl_message_from_json(arena, &fl_form_offer, json_object_get(value, "offer"),
                                 &kept.offer, err);
    if (r < 0)
        return fl_error_wrap(err, "kept update");
    kept.seed = fl_json_int(value, "seed", 0);
    origin = fl_json_str(value, "origin");
    offered = fl_json_str(value, "offered");
    kept.origin = origin ? fl_arena_strdup(arena, origin) : NULL;
    kept.offered = offered ? fl_arena_strdup(arena, offered) : NULL;
    *ret_kept = kept;
    return 0;
}

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
    DEFAULT(max_failures, 5);
#undef DEFAULT
}

static void move_to(struct fl_learner_core *core, const char *address, const char *orphan_of);
static void advance(struct fl_learner_core *core);

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
        set_kept(core, options->kept);
    core->backoff_ms = core->options.backoff_ms;
    set_text(&core->parent, options->parent);
    move_to(core, core->options.address, NULL);
    advance(core);
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
    free(core->base);
    free(core->older);
    free(core);
}

/* --- requests ------------------------------------------------------------------------------- */

static void send_call(struct fl_learner_core *core, enum call call, const char *target,
                      const struct fl_form *form, const void *message)
{
    struct fl_learner_action *action = act(core, FL_LEARNER_CALL);

    core->calling = call;
    core->call_seq = core->task.seq;
    core->call = action->ticket = ++core->tickets;
    core->call_until_ms = core->now_ms + core->options.request_ms;
    action->address = act_text(core, core->address);
    action->method = "POST";
    action->target = target;
    action->body = fl_message_encode(form, message);
    action->timeout_ms = core->options.request_ms;
}

static void send_join(struct fl_learner_core *core)
{
    struct fl_join join = core->join;

    (void)snprintf(core->token, sizeof(core->token), "%" PRIx64 "-%" PRIu64, core->life,
                   ++core->declared);
    join.token = core->token;
    join.orphan_of = core->orphan_of;
    core->declare = false;
    send_call(core, CALL_JOIN, "/v1/join", &fl_form_join, &join);
}

static const char *stage_name(enum stage stage)
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

static void send_progress(struct fl_learner_core *core, bool gave_up)
{
    struct fl_progress progress = {
        .learner = core->join.learner,
        .project = core->task.project,
        .round = core->task.round,
        .attempt = core->task.attempt,
        .stage = gave_up ? NULL : stage_name(core->stage),
        .done = core->done,
        .all = core->all,
        .gave_up = gave_up,
        .reason = gave_up ? core->reason : NULL,
        .message = gave_up && *core->message ? core->message : NULL,
    };

    core->progress_due_ms = core->now_ms + core->progress_ms;
    send_call(core, CALL_PROGRESS, "/v1/progress", &fl_form_progress, &progress);
}

/* Before it can count anywhere it is written down where it was offered. */
static void send_offer(struct fl_learner_core *core)
{
    struct fl_offer offer = core->kept.offer;

    if (!fl_streq(core->kept.offered, core->aggregator) ||
        !fl_streq(core->kept.origin, core->task.origin)) {
        core->kept.offered = fl_arena_strdup(core->kept_arena, core->aggregator);
        core->kept.origin =
            core->task.origin ? fl_arena_strdup(core->kept_arena, core->task.origin) : NULL;
        act(core, FL_LEARNER_KEEP)->kept = &core->kept;
    }
    offer.learner = core->join.learner;
    offer.project = core->task.project;
    offer.round = core->task.round;
    offer.attempt = core->task.attempt;
    offer.work = core->task.work;
    offer.base = core->task.model;
    send_call(core, CALL_OFFER, "/v1/updates", &fl_form_offer, &offer);
}

static void send_result(struct fl_learner_core *core)
{
    struct fl_result result = core->result;

    result.learner = core->join.learner;
    result.project = core->task.project;
    result.round = core->task.round;
    result.model = core->task.model;
    send_call(core, CALL_RESULT, "/v1/evaluations", &fl_form_result, &result);
}

static void send_poll(struct fl_learner_core *core)
{
    struct fl_learner_action *action = act(core, FL_LEARNER_POLL);

    core->poll = action->ticket = ++core->tickets;
    action->timeout_ms = core->poll_ms + core->options.request_ms;
    core->poll_until_ms = core->now_ms + action->timeout_ms;
    action->address = act_text(core, core->address);
    action->method = "GET";
    action->target = fl_arena_printf(
        core->action_arena, "/v1/task?learner=%s&after=%" PRId64 "&join=%s",
        fl_url_encode(core->action_arena, core->join.learner), core->task.seq, core->token);
}

/* --- jobs ----------------------------------------------------------------------------------- */

static void drop_work(struct fl_learner_core *core)
{
    cancel(core, &core->job);
    core->stage = STAGE_NONE;
    core->done = core->all = 0;
}

static void give_up(struct fl_learner_core *core, const char *reason, const char *message)
{
    drop_work(core);
    (void)snprintf(core->reason, sizeof(core->reason), "%s", reason);
    (void)snprintf(core->message, sizeof(core->message), "%.*s",
                   (int)fl_utf8_cut(message, strlen(message), sizeof(core->message) - 1), message);
    core->stage = STAGE_GIVE_UP;
    core->due_ms = core->now_ms;
}

static struct fl_learner_action *start_job(struct fl_learner_core *core, enum stage stage,
                                           enum fl_learner_action_kind kind, int64_t span_ms)
{
    struct fl_learner_action *action = act(core, kind);

    core->stage = stage;
    core->job = action->ticket = ++core->tickets;
    core->job_start_ms = core->now_ms;
    core->job_until_ms = span_ms > 0 ? core->now_ms + span_ms : INT64_MAX;
    core->done = core->all = 0;
    core->progress_due_ms = core->now_ms + core->progress_ms;
    action->address = act_text(core, core->address);
    return action;
}

static void release_unused(struct fl_learner_core *core, const char *digest)
{
    const bool is_update = core->has_kept && fl_streq(core->kept.offer.digest, digest);

    if (!fl_streq(core->task.model, digest) && !is_update)
        release(core, digest);
}

/* Whatever was fetched before is not needed any more: one is kept, however many rounds there are.
 * Twice, for a fetch that was cancelled may have been done just then. */
static void replace_base(struct fl_learner_core *core)
{
    if (fl_streq(core->base, core->task.model))
        return;
    release_unused(core, core->older);
    release_unused(core, core->base);
    set_text(&core->older, core->base);
    set_text(&core->base, core->task.model);
}

static void start_download(struct fl_learner_core *core)
{
    struct fl_learner_action *action;

    replace_base(core);
    action = start_job(core, STAGE_DOWNLOAD, FL_LEARNER_DOWNLOAD, core->options.transfer_ms);
    action->digest = act_text(core, core->task.model);
    action->size = core->task.model_size;
}

static void start_upload(struct fl_learner_core *core, const char *path)
{
    struct fl_learner_action *action =
        start_job(core, STAGE_UPLOAD, FL_LEARNER_UPLOAD, core->options.transfer_ms);

    action->target = act_text(core, path);
    action->digest = act_text(core, core->kept.offer.digest);
    action->size = core->kept.offer.size;
}

static void start_trainer(struct fl_learner_core *core)
{
    if (core->task.kind == FL_TASK_FIT)
        start_job(core, STAGE_TRAIN, FL_LEARNER_TRAIN, 0)->task = &core->task;
    else
        start_job(core, STAGE_EVALUATE, FL_LEARNER_EVALUATE, 0)->task = &core->task;
}

static void offer_at(struct fl_learner_core *core, int64_t due_ms)
{
    core->stage = STAGE_OFFER;
    core->due_ms = due_ms;
}

/* A transfer failed: again, for a while. */
static void retry_job(struct fl_learner_core *core, const char *reason, const struct fl_error *err)
{
    core->job = 0;
    if (++core->failures >= core->options.max_failures) {
        give_up(core, reason, err->msg);
        return;
    }
    core->due_ms = core->now_ms + next_delay(core);
}

/* --- tasks ---------------------------------------------------------------------------------- */

static void adopt(struct fl_learner_core *core, const struct fl_task *task)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_task copy;

    fl_message_copy(arena, &fl_form_task, task, &copy);
    fl_arena_destroy(core->task_arena);
    core->task_arena = arena;
    core->task = copy;
    core->failures = 0;
}

static bool same_work(const struct fl_task *a, const struct fl_task *b)
{
    return a->kind == FL_TASK_FIT && b->kind == FL_TASK_FIT && fl_streq(a->work, b->work) &&
           a->seed == b->seed;
}

static void forget_kept(struct fl_learner_core *core)
{
    if (core->has_kept)
        release(core, core->kept.offer.digest);
    core->has_kept = false;
}

static void begin_fit(struct fl_learner_core *core)
{
    const struct fl_task *task = &core->task;
    bool moved = core->has_kept && core->kept.offered &&
                 !fl_streq(core->kept.offered, core->aggregator) && task->origin &&
                 fl_streq(core->kept.origin, task->origin);

    if (moved) {
        give_up(core, "Moved", "its update was offered to another aggregator");
    } else if (!core->join.aggregator && core->join.examples < task->min_examples) {
        give_up(core, "TooFewExamples", "it has fewer examples than wanted");
    } else if (core->has_kept && fl_streq(core->kept.offer.work, task->work) &&
               core->kept.seed == task->seed) {
        offer_at(core, core->now_ms);
    } else {
        forget_kept(core);
        start_download(core);
    }
}

static void end(struct fl_learner_core *core, const char *message)
{
    drop_work(core);
    cancel(core, &core->poll);
    cancel(core, &core->call);
    core->ended = true;
    act(core, FL_LEARNER_ENDED)->message = act_text(core, message);
}

static void take_task(struct fl_learner_core *core, const struct fl_task *task)
{
    bool going_on = same_work(&core->task, task) &&
                    (core->stage == STAGE_DOWNLOAD || core->stage == STAGE_TRAIN);

    if (task->seq <= core->task.seq)
        return;
    if (going_on) {
        /* The trainer and the transfer know the task by its place. */
        adopt(core, task);
        return;
    }
    drop_work(core);
    adopt(core, task);
    switch (task->kind) {
    case FL_TASK_FIT:
        begin_fit(core);
        break;
    case FL_TASK_EVALUATE:
        start_download(core);
        break;
    case FL_TASK_WAIT:
        break;
    case FL_TASK_MOVE:
        move_to(core, core->task.address, NULL);
        break;
    case FL_TASK_END:
        end(core, core->task.message);
        break;
    }
}

/* --- where it belongs ----------------------------------------------------------------------- */

/* Work goes on: its update may be wanted there, too. But the task is that aggregator's. */
static void move_to(struct fl_learner_core *core, const char *address, const char *orphan_of)
{
    cancel(core, &core->poll);
    cancel(core, &core->call);
    core->calling = CALL_NONE;
    set_text(&core->orphan_of, orphan_of);
    set_text(&core->address, address);
    set_text(&core->aggregator, NULL);
    core->joined = false;
    core->task.seq = 0;
    core->heard_ms = core->now_ms;
    core->retry_ms = core->now_ms;
    core->backoff_ms = core->options.backoff_ms;
}

static void not_joined(struct fl_learner_core *core)
{
    core->joined = false;
    core->task.seq = 0;
    cancel(core, &core->poll);
}

/* Home, or to home's parent, in turns. */
static void look_elsewhere(struct fl_learner_core *core)
{
    bool home = fl_streq(core->address, core->options.address);
    FL_CLEANUP(fl_freep) char *lost = fl_strdup(fl_str_or(core->aggregator, "unknown"));

    core->heard_ms = core->now_ms;
    if (home && core->parent)
        move_to(core, core->parent, lost);
    else if (!home)
        move_to(core, core->options.address, NULL);
}

static void request_failed(struct fl_learner_core *core, enum call call)
{
    core->declare = core->declare || call == CALL_JOIN;
    core->retry_ms = core->now_ms + next_delay(core);
}

static void heard(struct fl_learner_core *core)
{
    core->heard_ms = core->now_ms;
    core->backoff_ms = core->options.backoff_ms;
}

/* --- answers -------------------------------------------------------------------------------- */

static void answered_join(struct fl_learner_core *core, struct fl_arena *arena, const void *body,
                          size_t len)
{
    struct fl_joined joined;

    if (fl_message_decode(arena, &fl_form_joined, body, len, &joined, NULL) < 0) {
        request_failed(core, CALL_JOIN);
        return;
    }
    core->joined = true;
    set_text(&core->aggregator, joined.aggregator);
    if (joined.parent && fl_streq(core->address, core->options.address))
        set_text(&core->parent, joined.parent);
    core->poll_ms = joined.poll_ms;
    core->progress_ms = joined.progress_ms;
}

static void answered_offer(struct fl_learner_core *core, const struct fl_answer *answer)
{
    switch (answer->verdict) {
    case FL_VERDICT_SEND:
        if (answer->path)
            start_upload(core, answer->path);
        else
            offer_at(core, core->now_ms + core->options.backoff_max_ms);
        break;
    case FL_VERDICT_WAIT:
        offer_at(core, core->now_ms + 1 + jitter(core, answer->retry_ms * 2));
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
        request_failed(core, call);
        return;
    }
    if (call == CALL_LEAVE)
        end(core, core->leave_message);
    if (!current)
        return;
    if (call == CALL_OFFER && core->stage == STAGE_OFFER)
        answered_offer(core, &answer);
    else if (call == CALL_RESULT && core->stage == STAGE_RESULT)
        core->stage = STAGE_DONE;
    else if (call == CALL_PROGRESS && core->stage == STAGE_GIVE_UP)
        core->stage = STAGE_DONE;
    else if (call == CALL_PROGRESS && answer.verdict == FL_VERDICT_STOP)
        drop_work(core);
}

static void answered_poll(struct fl_learner_core *core, const void *body, size_t len)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_task task;

    if (fl_message_decode(arena, &fl_form_task, body, len, &task, NULL) < 0)
        request_failed(core, CALL_NONE);
    else
        take_task(core, &task);
}

/* A request that the aggregator refuses is not sent again as it is. */
static void refused(struct fl_learner_core *core, enum call call, int http_status, const void *body,
                    size_t len)
{
    struct fl_error err = {0};
    bool unknown;

    (void)fl_protocol_read_error(http_status, body, len, &unknown, &err);
    if (unknown)
        not_joined(core);
    else if ((call == CALL_OFFER || call == CALL_RESULT) && !fl_error_is_retryable(err.code))
        give_up(core, fl_error_reason(err.code), err.msg);
    request_failed(core, call);
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
        heard(core);
        if (poll)
            answered_poll(core, body, len);
        else
            answered_call(core, call, body, len);
    } else {
        if (http_status < 500)
            core->heard_ms = now_ms;
        refused(core, call, http_status, body, len);
    }
    advance(core);
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
    request_failed(core, call);
    advance(core);
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
    if (core->job_until_ms != INT64_MAX)
        core->job_until_ms = now_ms + core->options.transfer_ms;
    advance(core);
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
    if (!job_ends(core, now_ms, ticket))
        return;
    if (err) {
        retry_job(core, "DownloadFailed", err);
    } else {
        core->download_ms = now_ms - core->job_start_ms;
        core->failures = 0;
        start_trainer(core);
    }
    advance(core);
}

void fl_learner_uploaded(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                         const struct fl_error *err)
{
    if (!job_ends(core, now_ms, ticket))
        return;
    core->stage = STAGE_OFFER;
    core->due_ms = now_ms;
    if (err)
        retry_job(core, "UploadFailed", err);
    advance(core);
}

void fl_learner_trained(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                        const struct fl_offer *facts)
{
    struct fl_kept kept = {.offer = *facts, .seed = core->task.seed};

    if (!job_ends(core, now_ms, ticket))
        return;
    kept.offer.work = core->task.work;
    kept.offer.base = core->task.model;
    kept.offer.download_ms = core->download_ms;
    kept.offer.train_ms = now_ms - core->job_start_ms;
    core->join.expected_fit_ms = kept.offer.train_ms;
    set_kept(core, &kept);
    act(core, FL_LEARNER_KEEP)->kept = &core->kept;
    offer_at(core, now_ms);
    advance(core);
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
    advance(core);
}

void fl_learner_failed(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                       const char *reason, const struct fl_error *err)
{
    if (!job_ends(core, now_ms, ticket))
        return;
    if (err && fl_error_is_retryable(err->code))
        retry_job(core, fl_str_or(reason, "TrainingFailed"), err);
    else
        give_up(core, fl_str_or(reason, "TrainingFailed"), err ? err->msg : "");
    advance(core);
}

void fl_learner_declare(struct fl_learner_core *core, int64_t now_ms, int64_t examples,
                        int64_t learners)
{
    core->now_ms = now_ms;
    core->join.examples = examples;
    core->join.learners = learners;
    core->declare = true;
    advance(core);
}

void fl_learner_leave(struct fl_learner_core *core, int64_t now_ms, const char *message)
{
    core->now_ms = now_ms;
    if (core->ended || core->leaving)
        return;
    drop_work(core);
    cancel(core, &core->poll);
    cancel(core, &core->call);
    core->calling = CALL_NONE;
    core->leaving = true;
    set_text(&core->leave_message, message);
    core->retry_ms = now_ms;
    core->heard_ms = now_ms;
    advance(core);
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
        send_call(core, CALL_LEAVE, "/v1/leave", &fl_form_leave, &leave);
    else if (!core->joined || core->declare)
        send_join(core);
    else if (core->task.seq == 0)
        return; /* the poll will say what is wanted */
    else if (core->stage == STAGE_OFFER && due)
        send_offer(core);
    else if (core->stage == STAGE_RESULT && due)
        send_result(core);
    else if (core->stage == STAGE_GIVE_UP && due)
        send_progress(core, true);
    else if (is_working(core) && core->now_ms >= core->progress_due_ms)
        send_progress(core, false);
}

static void check_times(struct fl_learner_core *core)
{
    struct fl_error err;

    (void)fl_error_set(&err, FL_E_TIMEOUT, "no progress in time");
    if (core->poll && core->now_ms >= core->poll_until_ms) {
        cancel(core, &core->poll);
        request_failed(core, CALL_NONE);
    }
    if (core->call && core->now_ms >= core->call_until_ms) {
        enum call call = core->calling;

        cancel(core, &core->call);
        core->calling = CALL_NONE;
        request_failed(core, call);
    }
    if (core->job && core->now_ms >= core->job_until_ms) {
        bool upload = core->stage == STAGE_UPLOAD;

        cancel(core, &core->job);
        retry_job(core, upload ? "UploadFailed" : "DownloadFailed", &err);
        if (upload && core->stage == STAGE_UPLOAD)
            core->stage = STAGE_OFFER;
    }
}

static void advance(struct fl_learner_core *core)
{
    bool again;

    if (core->ended)
        return;
    check_times(core);
    if (core->leaving && core->now_ms - core->heard_ms >= core->options.request_ms) {
        end(core, core->leave_message);
        return;
    }
    if (!core->leaving && core->now_ms - core->heard_ms >= lost_ms(core))
        look_elsewhere(core);
    again = core->job == 0 && core->now_ms >= core->due_ms;
    if (again && core->stage == STAGE_DOWNLOAD)
        start_download(core);
    else if (again && (core->stage == STAGE_TRAIN || core->stage == STAGE_EVALUATE))
        start_trainer(core);
    next_call(core);
    if (core->joined && !core->leaving && !core->poll && core->now_ms >= core->retry_ms)
        send_poll(core);
}

void fl_learner_tick(struct fl_learner_core *core, int64_t now_ms)
{
    core->now_ms = now_ms;
    advance(core);
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

const char *fl_learner_doing(const struct fl_learner_core *core)
{
    if (core->ended)
        return "Ended";
    if (!core->joined)
        return "Joining";
    if (core->stage == STAGE_NONE || core->stage == STAGE_DONE)
        return "Idle";
    return stage_name(core->stage);
}
