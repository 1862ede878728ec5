/* Requests, and those of the control plane. */
#include "workloads/aggregator/aggregator_core_internal.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define STATUS_PAUSE_MS 20 /* between two walks over all members */

/* --- the control plane ---------------------------------------------------------------------- */

static void reply_status(struct fl_aggregator_core *core, uint64_t request)
{
    reply(core, request, &fl_form_round_report, &core->status);
}

/* The same is no news; another needs its turn. */
static int check_start(const struct fl_aggregator_core *core, const struct fl_round_order *spec,
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
                         const struct fl_round_order *spec)
{
    FL_CLEANUP(fl_bytes_unrefp)
    struct fl_bytes *text = fl_message_encode(&fl_form_round_order, spec);
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

static void add_watcher(struct fl_aggregator_core *core, uint64_t request, bool of_status,
                        int64_t after)
{
    struct watcher *watcher = fl_calloc(1, sizeof(*watcher));

    watcher->request = request;
    watcher->of_status = of_status;
    watcher->after = after;
    watcher->until_ms = core->now_ms + core->options.poll_ms;
    TAILQ_INSERT_TAIL(&core->watchers, watcher, all);
}

static void handle_watch(struct fl_aggregator_core *core, uint64_t request, int64_t round,
                         int64_t after)
{
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
    add_watcher(core, request, false, after);
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
    drop_initial(core);
    core->stopped = core->status_changed = true;
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

/* --- what is told of the whole -----------------------------------------------------------------
 */

static void fill_whole(const struct fl_aggregator_core *core, struct fl_status *status)
{
    void *cursor = NULL, *value;

    fl_message_init(&fl_form_status, status);
    status->protocol = FL_PROTOCOL_VERSION;
    status->aggregator = core->id;
    status->project = core->project;
    status->life = core->life;
    status->members = (int64_t)fl_map_count(core->members);
    status->round = core->has_round ? core->spec.round : 0;
    status->committed = core->committed;
    status->model = text_or_null(core->model);
    status->stopped = core->stopped;
    while (fl_map_next(core->members, &cursor, NULL, &value)) {
        const struct member *member = value;

        status->available += is_available(core, member);
        status->learners = add_up(status->learners, member->aggregator ? member->learners : 1);
        status->examples = add_up(status->examples, member->examples);
    }
}

/* It takes a walk over all members: not more often than makes sense. */
static void renew_status(struct fl_aggregator_core *core)
{
    struct fl_status status;
    struct fl_bytes *text;

    core->status_changed = false;
    core->status_ms = core->now_ms;
    fill_whole(core, &status);
    text = fl_message_encode(&fl_form_status, &status);
    if (!core->status_was || text->len != core->status_was->len ||
        memcmp(text->data, core->status_was->data, text->len) != 0)
        core->status_version = core->status_version ? core->status_version + 1 : core->version + 1;
    fl_bytes_unref(core->status_was);
    core->status_was = text;
}

static void reply_whole(struct fl_aggregator_core *core, uint64_t request)
{
    struct fl_status status;

    fill_whole(core, &status);
    status.version = core->status_version;
    reply(core, request, &fl_form_status, &status);
}

static void handle_status(struct fl_aggregator_core *core, uint64_t request, int64_t after)
{
    if (core->status_changed || !core->status_was)
        renew_status(core);
    if (after < 0)
        reply_whole(core, request);
    else
        add_watcher(core, request, true, after);
}

static bool is_due(const struct fl_aggregator_core *core, const struct watcher *watcher)
{
    if (core->now_ms >= watcher->until_ms)
        return true;
    return watcher->of_status ? core->status_version != watcher->after
                              : core->status.version > watcher->after;
}

static bool is_status_watched(const struct fl_aggregator_core *core)
{
    const struct watcher *watcher;

    TAILQ_FOREACH(watcher, &core->watchers, all)
        if (watcher->of_status)
            return true;
    return false;
}

void flush_watchers(struct fl_aggregator_core *core)
{
    struct watcher *watcher = TAILQ_FIRST(&core->watchers);

    if (core->status_changed && core->now_ms >= core->status_ms + STATUS_PAUSE_MS &&
        is_status_watched(core))
        renew_status(core);
    while (watcher) {
        struct watcher *next = TAILQ_NEXT(watcher, all);

        if (is_due(core, watcher)) {
            if (watcher->of_status)
                reply_whole(core, watcher->request);
            else
                reply_status(core, watcher->request);
            TAILQ_REMOVE(&core->watchers, watcher, all);
            free(watcher);
        }
        watcher = next;
    }
}

int64_t watch_deadline(const struct fl_aggregator_core *core)
{
    int64_t soonest = INT64_MAX;
    const struct watcher *watcher;

    TAILQ_FOREACH(watcher, &core->watchers, all)
        if (watcher->until_ms < soonest)
            soonest = watcher->until_ms;
    if (core->status_changed && is_status_watched(core) &&
        core->status_ms + STATUS_PAUSE_MS < soonest)
        soonest = core->status_ms + STATUS_PAUSE_MS;
    return soonest;
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
        return &fl_form_round_order;
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
    struct fl_round_order spec;
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
        handle_status(core, request, routed->after);
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
    (void)drop_held(core, request);
}

void fl_aggregator_stop(struct fl_aggregator_core *core, int64_t now_ms, const char *message)
{
    core->now_ms = now_ms;
    stop(core, message);
}
