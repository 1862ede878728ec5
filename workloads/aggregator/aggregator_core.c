/* The front door: a life of the core, its actions, requests, and the parent. */
#include "workloads/aggregator/aggregator_core_internal.h"

#include "lib/str.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- actions -------------------------------------------------------------------------------- */

struct fl_aggregator_action *act(struct fl_aggregator_core *core,
                                 enum fl_aggregator_action_kind kind)
{
    struct queued *queued = fl_calloc(1, sizeof(*queued));

    queued->action.kind = kind;
    TAILQ_INSERT_TAIL(&core->actions, queued, all);
    return &queued->action;
}

const char *act_text(struct fl_aggregator_core *core, const char *text)
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

static void flush_watchers(struct fl_aggregator_core *core);

const struct fl_aggregator_action *fl_aggregator_next(struct fl_aggregator_core *core)
{
    queued_destroy(FL_TAKE(core->lent));
    flush_watchers(core);
    core->lent = TAILQ_FIRST(&core->actions);
    if (!core->lent) {
        fl_arena_reset(core->action_arena);
        return NULL;
    }
    TAILQ_REMOVE(&core->actions, core->lent, all);
    return &core->lent->action;
}

void reply(struct fl_aggregator_core *core, uint64_t request, const struct fl_form *form,
           const void *message)
{
    struct fl_aggregator_action *action = act(core, FL_AGGREGATOR_REPLY);

    action->request = request;
    action->http_status = 200;
    action->body = fl_message_encode(form, message);
}

void reply_error(struct fl_aggregator_core *core, uint64_t request, const struct fl_error *err,
                 const char *reason)
{
    struct fl_aggregator_action *action = act(core, FL_AGGREGATOR_REPLY);

    action->request = request;
    action->http_status = fl_error_http_status(err->code);
    action->body = fl_protocol_error(err, reason);
}

void journal(struct fl_aggregator_core *core, const struct fl_record *record)
{
    struct fl_buf line;

    fl_buf_init(&line, 0);
    fl_journal_write(&line, record);
    act(core, FL_AGGREGATOR_JOURNAL)->body = fl_buf_to_bytes(&line);
    fl_buf_finish(&line);
}

void touch(struct fl_aggregator_core *core)
{
    core->status.version = ++core->version;
}

/* --- a life --------------------------------------------------------------------------------- */

static void fill_options(struct fl_aggregator_options *options)
{
#define DEFAULT(member, value) options->member = options->member > 0 ? options->member : (value)
    DEFAULT(poll_ms, 30000);
    DEFAULT(silence_ms, 90000);
    DEFAULT(progress_ms, 10000);
    DEFAULT(chunk_bytes, (int64_t)4 << 20);
    DEFAULT(max_update_bytes, (int64_t)8 << 30);
    DEFAULT(max_members, 100000);
    DEFAULT(max_uploads, 16);
    DEFAULT(upload_ms, 600000);
    DEFAULT(stop_ms, 60000);
    DEFAULT(keep_models, 2);
#undef DEFAULT
}

static void recover_counted(struct fl_aggregator_core *core, const struct fl_journal_state *state)
{
    for (size_t i = 0; i < state->counted_count; i++) {
        FL_CLEANUP(fl_freep)
        char *key =
            fl_asprintf("%" PRId64 ":%s", state->counted[i].work_round, state->counted[i].learner);

        fl_map_put(core->counted, key, core);
    }
}

static void recover_commit(struct fl_aggregator_core *core, const struct fl_journal_state *state)
{
    core->committed = state->committed;
    core->model_size = state->model_size;
    (void)snprintf(core->model, sizeof(core->model), "%s", fl_str_or(state->model, ""));
    (void)snprintf(core->state, sizeof(core->state), "%s", fl_str_or(state->state, ""));
    core->committed_arena = fl_arena_create();
    core->contributors.count = state->contributors.count;
    core->contributors.items =
        fl_new_array(core->committed_arena, const char *, state->contributors.count + 1);
    for (size_t i = 0; i < state->contributors.count; i++)
        core->contributors.items[i] =
            fl_arena_strdup(core->committed_arena, state->contributors.items[i]);
    if (state->state)
        act(core, FL_AGGREGATOR_RESTORE)->model = act_text(core, state->state);
}

/* A round that was not committed goes on with its next attempt; one that was, with its evaluation.
 */
static void recover_round(struct fl_aggregator_core *core, const struct fl_journal_state *state)
{
    bool committed = state->committed == state->spec.round && state->status.model;
    struct fl_round_status *status = &core->status;

    install_round(core, &state->spec, &state->tier, state->origin, state->work, state->attempt);
    for (size_t i = 0; i < state->holders.count; i++)
        fl_map_put(core->holders, state->holders.items[i], core);
    core->wait_until_ms = core->now_ms + core->spec.participation.available_within_ms;
    status->phase = FL_ROUND_WAITING;
    if (committed || state->failed) {
        fl_message_copy(core->round_arena, &fl_form_round_status, &state->status, status);
        status->project = core->project;
        if (status->excluded.count > 0)
            memcpy(core->excluded, status->excluded.items,
                   status->excluded.count * sizeof(*core->excluded));
    }
    touch(core);
    if (committed && !state->evaluated && !state->failed)
        start_evaluation(core, core->model, core->model_size, core->spec.round,
                         core->spec.evaluation.deadline_ms, false);
}

static void begin_life(struct fl_aggregator_core *core, const struct fl_journal_state *state,
                       size_t written)
{
    struct fl_record record = {.kind = FL_RECORD_START};

    core->life = record.life = state->life + 1;
    core->seq = core->version = core->life << 32;
    if (state->good_bytes < written)
        act(core, FL_AGGREGATOR_CUT)->size = (int64_t)state->good_bytes;
    journal(core, &record);
    recover_commit(core, state);
    recover_counted(core, state);
    if (state->has_round)
        recover_round(core, state);
    core->stopped = state->stopped;
    if (core->stopped)
        core->stop_until_ms = core->now_ms + core->options.stop_ms;
}

int fl_aggregator_create(const struct fl_aggregator_options *options, int64_t now_ms,
                         const void *journal_text, size_t len, struct fl_aggregator_core **ret_core,
                         struct fl_error *err)
{
    FL_CLEANUP(fl_aggregator_destroyp)
    struct fl_aggregator_core *core = fl_calloc(1, sizeof(*core));
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_journal_state state;

    core->options = *options;
    fill_options(&core->options);
    core->id = fl_strdup(options->id);
    core->project = options->project ? fl_strdup(options->project) : NULL;
    core->parent = options->parent ? fl_strdup(options->parent) : NULL;
    core->now_ms = now_ms;
    core->members = fl_map_create(member_destroy);
    core->children = fl_map_create(free);
    core->counted = fl_map_create(NULL);
    core->action_arena = fl_arena_create();
    TAILQ_INIT(&core->polls);
    TAILQ_INIT(&core->uploads);
    TAILQ_INIT(&core->watchers);
    TAILQ_INIT(&core->actions);
    fl_oort_init(&core->oort);
    if (fl_journal_replay(arena, journal_text, len, &state, err) < 0)
        return fl_error_wrap(err, "aggregator %s", core->id);
    begin_life(core, &state, len);
    *ret_core = FL_TAKE(core);
    return 0;
}

static void destroy_queues(struct fl_aggregator_core *core)
{
    struct queued *queued;
    struct upload *upload;
    struct watcher *watcher;

    while ((queued = TAILQ_FIRST(&core->actions)) != NULL) {
        TAILQ_REMOVE(&core->actions, queued, all);
        queued_destroy(queued);
    }
    while ((upload = TAILQ_FIRST(&core->uploads)) != NULL) {
        TAILQ_REMOVE(&core->uploads, upload, all);
        upload_destroy(upload);
    }
    while ((watcher = TAILQ_FIRST(&core->watchers)) != NULL) {
        TAILQ_REMOVE(&core->watchers, watcher, all);
        free(watcher);
    }
    queued_destroy(core->lent);
}

void fl_aggregator_destroy(struct fl_aggregator_core *core)
{
    if (!core)
        return;
    if (core->actions.tqh_last)
        destroy_queues(core);
    attempt_finish(&core->attempt);
    fl_map_destroy(core->members);
    fl_map_destroy(core->children);
    fl_map_destroy(core->counted);
    fl_map_destroy(core->holders);
    fl_map_destroy(core->train_metrics);
    fl_map_destroy(core->evaluation_metrics);
    fl_bytes_unref(core->spec_text);
    fl_arena_destroy(core->round_arena);
    fl_arena_destroy(core->committed_arena);
    fl_arena_destroy(core->action_arena);
    fl_arena_destroy(core->parent_arena);
    free(core->kept);
    free(core->stop_message);
    free(core->parent);
    free(core->project);
    free(core->id);
    free(core);
}

/* --- the control plane ---------------------------------------------------------------------- */

static void reply_status(struct fl_aggregator_core *core, uint64_t request)
{
    reply(core, request, &fl_form_round_status, &core->status);
}

/* The same is no news; another needs its turn. */
static int check_start(const struct fl_aggregator_core *core, const struct fl_round_spec *spec,
                       struct fl_error *err)
{
    bool failed = core->has_round &&
                  (core->status.phase == FL_ROUND_FAILED || core->status.phase == FL_ROUND_ABORTED);
    bool first = !core->has_round && core->committed == 0;

    if (core->options.has_parent)
        return fl_error_set(err, FL_E_FORBIDDEN, "the rounds of this aggregator are its parent's");
    if (core->stopped)
        return fl_error_set(err, FL_E_CONFLICT, "training was stopped");
    if (core->project && !fl_streq(core->project, spec->project))
        return fl_error_set(err, FL_E_CONFLICT, "this is an aggregator of project %s",
                            core->project);
    if (core->has_round && !round_is_over(core))
        return fl_error_set(err, FL_E_CONFLICT, "round %" PRId64 " is not over", core->spec.round);
    if (failed && spec->round == core->spec.round && spec->run <= core->spec.run)
        return fl_error_set(err, FL_E_CONFLICT,
                            "round %" PRId64 " has failed; another run of it has a higher \"run\"",
                            spec->round);
    if (!first && core->committed > 0 && spec->round != core->committed + 1)
        return fl_error_set(err, FL_E_CONFLICT, "round %" PRId64 " is next", core->committed + 1);
    return 0;
}

static void handle_start(struct fl_aggregator_core *core, uint64_t request, int64_t round,
                         const struct fl_round_spec *spec)
{
    FL_CLEANUP(fl_bytes_unrefp)
    struct fl_bytes *text = fl_message_encode(&fl_form_round_spec, spec);
    bool same = core->has_round && text->len == core->spec_text->len &&
                memcmp(text->data, core->spec_text->data, text->len) == 0;
    bool again = core->has_round && core->spec.round == spec->round;
    struct fl_error err = {0};
    int r = 0;

    if (round != spec->round)
        r = fl_error_set(&err, FL_E_INVALID, "round.round: is not that of the path");
    else if (!same)
        r = check_start(core, spec, &err);
    if (r < 0) {
        reply_error(core, request, &err, NULL);
        return;
    }
    if (!same)
        start_round(core, spec, NULL, NULL, NULL, again ? core->attempt_number : 0);
    reply_status(core, request);
}

static void handle_watch(struct fl_aggregator_core *core, uint64_t request, int64_t round,
                         int64_t after)
{
    struct watcher *watcher;
    struct fl_error err;

    if (!core->has_round || round != core->spec.round) {
        bool past = core->has_round && round < core->spec.round;

        (void)fl_error_set(&err, past ? FL_E_EXPIRED : FL_E_NOT_FOUND,
                           past ? "round %" PRId64 " is over and forgotten"
                                : "there is no round %" PRId64 " yet",
                           round);
        reply_error(core, request, &err, NULL);
        return;
    }
    watcher = fl_calloc(1, sizeof(*watcher));
    watcher->request = request;
    watcher->after = after;
    watcher->until_ms = core->now_ms + core->options.poll_ms;
    TAILQ_INSERT_TAIL(&core->watchers, watcher, all);
}

static void flush_watchers(struct fl_aggregator_core *core)
{
    struct watcher *watcher = TAILQ_FIRST(&core->watchers);

    while (watcher) {
        struct watcher *next = TAILQ_NEXT(watcher, all);

        if (core->status.version > watcher->after || core->now_ms >= watcher->until_ms) {
            reply_status(core, watcher->request);
            TAILQ_REMOVE(&core->watchers, watcher, all);
            free(watcher);
        }
        watcher = next;
    }
}

static void handle_abort(struct fl_aggregator_core *core, uint64_t request, int64_t round)
{
    struct fl_error err;

    if (!core->has_round || round != core->spec.round) {
        (void)fl_error_set(&err, FL_E_NOT_FOUND, "round %" PRId64 " does not run", round);
        reply_error(core, request, &err, NULL);
        return;
    }
    abort_round(core, "aborted by request");
    reply_status(core, request);
}

static void handle_children(struct fl_aggregator_core *core, uint64_t request,
                            const struct fl_children *children)
{
    const struct fl_answer answer = {.verdict = FL_VERDICT_OK};

    fl_map_destroy(core->children);
    core->children = fl_map_create(free);
    for (size_t i = 0; i < children->children.count; i++)
        fl_map_put(core->children, children->children.items[i].key,
                   fl_strdup(children->children.items[i].value));
    reply(core, request, &fl_form_answer, &answer);
}

static void stop(struct fl_aggregator_core *core, const char *message)
{
    const struct fl_record record = {.kind = FL_RECORD_STOP};
    void *cursor = NULL, *value;

    if (core->stopped)
        return;
    abort_round(core, "training was stopped");
    drop_evaluation(core);
    core->stopped = true;
    core->stop_until_ms = core->now_ms + core->options.stop_ms;
    core->stop_message = message ? fl_strdup(message) : NULL;
    journal(core, &record);
    discard_uploads(core, true);
    while (fl_map_next(core->members, &cursor, NULL, &value)) {
        finish_duty(core, value);
        set_task(core, value, FL_TASK_END);
    }
}

static void handle_stop(struct fl_aggregator_core *core, uint64_t request,
                        const struct fl_stop *message)
{
    const struct fl_answer answer = {.verdict = FL_VERDICT_OK};

    stop(core, message->message);
    reply(core, request, &fl_form_answer, &answer);
}

static void handle_status(struct fl_aggregator_core *core, uint64_t request)
{
    struct fl_status status;
    void *cursor = NULL, *value;

    fl_message_init(&fl_form_status, &status);
    status.protocol = FL_PROTOCOL_VERSION;
    status.aggregator = core->id;
    status.project = core->project;
    status.life = core->life;
    status.members = (int64_t)fl_map_count(core->members);
    status.round = core->has_round ? core->spec.round : 0;
    status.committed = core->committed;
    status.model = text_or_null(core->model);
    status.stopped = core->stopped;
    while (fl_map_next(core->members, &cursor, NULL, &value)) {
        const struct member *member = value;

        status.available += is_available(core, member);
        status.learners += member->aggregator ? member->learners : 1;
        status.examples += member->examples;
    }
    if (status.examples > FL_PROTOCOL_NUMBER_MAX)
        status.examples = FL_PROTOCOL_NUMBER_MAX;
    reply(core, request, &fl_form_status, &status);
}

/* --- requests ------------------------------------------------------------------------------- */

/* Routes with a body and their forms. */
static const struct fl_form *form_of(enum fl_route route)
{
    switch (route) {
    case FL_ROUTE_JOIN:
        return &fl_form_join;
    case FL_ROUTE_PROGRESS:
        return &fl_form_progress;
    case FL_ROUTE_OFFER:
        return &fl_form_offer;
    case FL_ROUTE_RESULT:
        return &fl_form_result;
    case FL_ROUTE_LEAVE:
        return &fl_form_leave;
    case FL_ROUTE_START_ROUND:
        return &fl_form_round_spec;
    case FL_ROUTE_CHILDREN:
        return &fl_form_children;
    case FL_ROUTE_STOP:
        return &fl_form_stop;
    default:
        return NULL;
    }
}

union message {
    struct fl_join join;
    struct fl_progress progress;
    struct fl_offer offer;
    struct fl_result result;
    struct fl_leave leave;
    struct fl_round_spec spec;
    struct fl_children children;
    struct fl_stop stop;
};

static const char *sender(const struct fl_routed *routed, const union message *message)
{
    switch (routed->route) {
    case FL_ROUTE_JOIN:
        return message->join.learner;
    case FL_ROUTE_TASK:
        return routed->learner;
    case FL_ROUTE_PROGRESS:
        return message->progress.learner;
    case FL_ROUTE_OFFER:
        return message->offer.learner;
    case FL_ROUTE_RESULT:
        return message->result.learner;
    case FL_ROUTE_LEAVE:
        return message->leave.learner;
    default:
        return NULL;
    }
}

static int check_sender(const struct fl_aggregator_request *request, const struct fl_routed *routed,
                        const union message *message, struct fl_error *err)
{
    const char *learner = sender(routed, message);

    if (fl_route_is_control_plane(routed->route) && !request->control_plane)
        return fl_error_set(err, FL_E_FORBIDDEN, "this is for the control plane");
    if (learner && request->peer && !fl_streq(learner, request->peer))
        return fl_error_set(err, FL_E_FORBIDDEN, "this connection is %s's", request->peer);
    return 0;
}

static void dispatch(struct fl_aggregator_core *core, uint64_t request,
                     const struct fl_routed *routed, const union message *message)
{
    switch (routed->route) {
    case FL_ROUTE_JOIN:
        handle_join(core, request, &message->join);
        break;
    case FL_ROUTE_TASK:
        handle_poll(core, request, routed);
        break;
    case FL_ROUTE_PROGRESS:
        handle_progress(core, request, &message->progress);
        break;
    case FL_ROUTE_OFFER:
        handle_offer(core, request, &message->offer);
        break;
    case FL_ROUTE_RESULT:
        handle_result(core, request, &message->result);
        break;
    case FL_ROUTE_LEAVE:
        handle_leave(core, request, &message->leave);
        break;
    case FL_ROUTE_START_ROUND:
        handle_start(core, request, routed->round, &message->spec);
        break;
    case FL_ROUTE_WATCH_ROUND:
        handle_watch(core, request, routed->round, routed->after);
        break;
    case FL_ROUTE_ABORT_ROUND:
        handle_abort(core, request, routed->round);
        break;
    case FL_ROUTE_CHILDREN:
        handle_children(core, request, &message->children);
        break;
    case FL_ROUTE_STOP:
        handle_stop(core, request, &message->stop);
        break;
    case FL_ROUTE_STATUS:
        handle_status(core, request);
        break;
    case FL_ROUTE_NONE:
        break;
    }
}

void fl_aggregator_request(struct fl_aggregator_core *core, int64_t now_ms,
                           const struct fl_aggregator_request *request)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_form *form;
    union message message = {0};
    struct fl_routed routed;
    struct fl_error err = {0};
    int r;

    core->now_ms = now_ms;
    r = fl_protocol_route(arena, request->method, request->target, &routed, &err);
    form = r == 0 ? form_of(routed.route) : NULL;
    if (form)
        r = fl_message_decode(arena, form, request->body, request->body_len, &message, &err);
    if (r == 0)
        r = check_sender(request, &routed, &message, &err);
    if (r < 0) {
        reply_error(core, request->request, &err, NULL);
        return;
    }
    dispatch(core, request->request, &routed, &message);
    advance(core);
}

void fl_aggregator_request_gone(struct fl_aggregator_core *core, int64_t now_ms, uint64_t request)
{
    struct member *member;
    struct watcher *watcher;

    core->now_ms = now_ms;
    TAILQ_FOREACH(member, &core->polls, polling)
        if (member->poll == request) {
            drop_poll(core, member);
            return;
        }
    TAILQ_FOREACH(watcher, &core->watchers, all)
        if (watcher->request == request) {
            TAILQ_REMOVE(&core->watchers, watcher, all);
            free(watcher);
            return;
        }
}

/* --- the parent ----------------------------------------------------------------------------- */

static void parent_texts(struct fl_aggregator_core *core, struct fl_offer *offer)
{
    struct fl_arena *arena = core->action_arena;

    offer->digest = fl_arena_strdup(arena, core->model);
    offer->contributors.items = fl_new_array(arena, const char *, core->contributors.count + 1);
    offer->contributors.count = core->contributors.count;
    for (size_t i = 0; i < core->contributors.count; i++)
        offer->contributors.items[i] = fl_arena_strdup(arena, core->contributors.items[i]);
}

/* `reason` NULL: the partial sum is there. */
void tell_parent_fit(struct fl_aggregator_core *core, const char *reason, const char *message)
{
    struct fl_aggregator_action *action;
    struct fl_parent_result *result;
    double loss = NAN;

    if (!core->parent_task || core->parent_task->kind != FL_TASK_FIT)
        return;
    action = act(core, FL_AGGREGATOR_PARENT_RESULT);
    result = &action->parent;
    fl_message_init(&fl_form_offer, &result->offer);
    result->work = act_text(core, core->parent_task->work);
    result->ok = reason == NULL;
    result->reason = act_text(core, reason);
    result->message = act_text(core, message);
    if (reason)
        return;
    parent_texts(core, &result->offer);
    result->offer.size = core->model_size;
    result->offer.partial = true;
    result->offer.examples = core->status.examples;
    result->offer.metrics.items =
        fl_new_array(core->action_arena, struct fl_metric, core->status.train.count + 1);
    for (size_t i = 0; i < core->status.train.count; i++) {
        struct fl_metric metric = core->status.train.items[i];

        if (fl_streq(metric.name, "loss"))
            loss = metric.value;
        metric.name = act_text(core, metric.name);
        result->offer.metrics.items[result->offer.metrics.count++] = metric;
    }
    result->offer.loss = loss;
}

void tell_parent_evaluation(struct fl_aggregator_core *core)
{
    struct fl_aggregator_action *action = act(core, FL_AGGREGATOR_PARENT_RESULT);
    struct fl_parent_result *result = &action->parent;

    fl_message_init(&fl_form_result, &result->result);
    result->ok = true;
    result->evaluation = true;
    result->work = act_text(core, core->evaluation.model);
    result->result.round = core->evaluation.round;
    result->result.model = result->work;
    result->result.examples = core->evaluation.examples;
    result->result.metrics = metrics_of(core->action_arena, core->evaluation_metrics);
    for (size_t i = 0; i < result->result.metrics.count; i++)
        if (fl_streq(result->result.metrics.items[i].name, "loss"))
            result->result.loss = result->result.metrics.items[i].value;
}

/* Our own rounds for one of the parent's: numbered on, so that round r of the parent is rounds
 * (r - 1) * n + 1 … r * n of ours. */
static void start_parent_step(struct fl_aggregator_core *core, int64_t round, const char *model,
                              int64_t model_size)
{
    const struct fl_task *task = core->parent_task;
    bool again = core->has_round && core->spec.round == round;
    struct fl_round_spec spec;

    fl_message_init(&fl_form_round_spec, &spec);
    spec.project = task->project;
    spec.round = round;
    spec.model = model;
    spec.model_size = model_size;
    spec.seed = task->seed;
    spec.local = task->local;
    spec.strategy = task->tier.strategy;
    spec.tags = task->tags;
    spec.min_examples = task->min_examples;
    spec.range_bits = task->tier.precision.range_bits;
    spec.participation.quorum = task->tier.quorum;
    spec.participation.fraction = task->tier.fraction;
    spec.participation.over_selection = task->tier.over_selection;
    spec.participation.deadline_ms = task->tier.deadline_ms;
    spec.participation.available_within_ms = task->tier.deadline_ms;
    spec.participation.retry_limit = task->tier.retry_limit;
    spec.rounds_per_parent_round = task->tier.rounds_per_parent_round;
    start_round(core, &spec, &task->tier, task->origin, task->work,
                again ? core->attempt_number : 0);
}

void next_parent_step(struct fl_aggregator_core *core)
{
    const struct fl_task *task = core->parent_task;
    int64_t steps, last, done;
    bool ours;

    if (!task || task->kind != FL_TASK_FIT)
        return;
    steps = task->tier.rounds_per_parent_round;
    last = task->round * steps;
    ours = core->has_round && fl_streq(core->work, task->work);
    done = ours && core->status.phase == FL_ROUND_COMMITTED ? core->spec.round : 0;
    if (ours && !round_is_over(core))
        return;
    if (done == last)
        tell_parent_fit(core, NULL, NULL);
    else if (done > last - steps)
        start_parent_step(core, done + 1, core->model, core->model_size);
    else
        start_parent_step(core, last - steps + 1, task->model, task->model_size);
}

static void set_parent_task(struct fl_aggregator_core *core, const struct fl_task *task)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_task *copy = fl_new(arena, struct fl_task);

    fl_message_copy(arena, &fl_form_task, task, copy);
    fl_arena_destroy(core->parent_arena);
    core->parent_arena = arena;
    core->parent_task = copy;
}

void fl_aggregator_parent_fit(struct fl_aggregator_core *core, int64_t now_ms,
                              const struct fl_task *task)
{
    core->now_ms = now_ms;
    assert(task->kind == FL_TASK_FIT && task->tier.present);
    set_parent_task(core, task);
    drop_evaluation(core);
    if (core->has_round && !fl_streq(core->work, task->work))
        abort_round(core, "the parent has gone on");
    next_parent_step(core);
    advance(core);
}

void fl_aggregator_parent_evaluate(struct fl_aggregator_core *core, int64_t now_ms,
                                   const struct fl_task *task)
{
    core->now_ms = now_ms;
    abort_round(core, "the parent has gone on");
    set_parent_task(core, task);
    start_evaluation(core, task->model, task->model_size, task->round,
                     (task->deadline_ms * 3 + 3) / 4, true);
    advance(core);
}

void fl_aggregator_parent_cancel(struct fl_aggregator_core *core, int64_t now_ms)
{
    core->now_ms = now_ms;
    core->parent_task = NULL;
    drop_evaluation(core);
    abort_round(core, "the parent has cancelled it");
    advance(core);
}

void fl_aggregator_stop(struct fl_aggregator_core *core, int64_t now_ms, const char *message)
{
    core->now_ms = now_ms;
    stop(core, message);
}

/* --- time ----------------------------------------------------------------------------------- */

static void check_stopped(struct fl_aggregator_core *core)
{
    bool all = true;
    void *cursor = NULL, *value;

    if (!core->stopped || core->stop_told)
        return;
    while (fl_map_next(core->members, &cursor, NULL, &value))
        all = all && ((struct member *)value)->told_end;
    if (core->now_ms < core->stop_until_ms && (!all || fl_map_count(core->members) == 0))
        return;
    core->stop_told = true;
    act(core, FL_AGGREGATOR_STOPPED);
}

void fl_aggregator_tick(struct fl_aggregator_core *core, int64_t now_ms)
{
    struct member *member;

    core->now_ms = now_ms;
    while ((member = TAILQ_FIRST(&core->polls)) != NULL && member->poll_until_ms <= now_ms)
        answer_poll(core, member);
    advance(core);
    check_stopped(core);
}

int64_t fl_aggregator_deadline(const struct fl_aggregator_core *core)
{
    int64_t soonest = round_deadline(core);
    const struct member *member = TAILQ_FIRST(&core->polls);
    const struct watcher *watcher = TAILQ_FIRST(&core->watchers);
    const struct upload *upload;

#define SOONER(condition, time) soonest = (condition) && (time) < soonest ? (time) : soonest
    SOONER(member, member->poll_until_ms);
    SOONER(watcher, watcher->until_ms);
    TAILQ_FOREACH(upload, &core->uploads, all)
        SOONER(upload->state == UPLOAD_EXPECTED, upload->until_ms);
    SOONER(core->stopped && !core->stop_told, core->stop_until_ms);
#undef SOONER
    return soonest;
}

bool fl_aggregator_serves(const struct fl_aggregator_core *core, const char *digest)
{
    if (fl_streq(digest, text_or_null(core->model)) ||
        (core->has_round && fl_streq(digest, core->spec.model)) ||
        (core->evaluation.deadline_ms > 0 && fl_streq(digest, core->evaluation.model)))
        return true;
    for (size_t i = 0; i < core->kept_count; i++)
        if (fl_streq(digest, core->kept[i]))
            return true;
    return false;
}
