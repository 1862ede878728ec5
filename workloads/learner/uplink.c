#include "workloads/learner/uplink.h"

#include "lib/log.h"
#include "lib/process.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "workloads/steps/steps.h"
#include "workloads/transfer/bulk_client.h"

#include <assert.h>
#include <stdio.h>
#include <sys/queue.h>

#define ANSWER_MAX          FL_PROTOCOL_BODY_MAX
#define PROGRESS_MS         500 /* between two words of a transfer's progress */
#define MODEL_MAX           (INT64_C(8) << 30)
#define TRANSFER_MAX_TRIES  4 /* the core tries again by itself, more slowly */
#define TRANSFER_BACKOFF_MS 200

enum lane_name { LANE_POLL, LANE_CALL, LANE_DOWNLOAD, LANE_UPLOAD, LANES };

/* One thing to do; a copy of the action, and what came of it. */
struct errand {
    STAILQ_ENTRY(errand) link;
    struct lane *lane;
    enum fl_learner_action_kind kind;
    uint64_t ticket;
    struct fl_arena *arena;
    const char *address, *method, *target, *digest;
    struct fl_bytes *body;
    int64_t size, timeout_ms, chunk_bytes;
    bool cancelled; /* with the lane's lock */

    int result, http_status;
    struct fl_bytes *answer;
    struct fl_error err;
};

struct lane {
    struct fl_uplink *uplink;
    struct fl_thread *thread;
    struct fl_lock *lock;
    struct fl_signal *wake;
    STAILQ_HEAD(, errand) errands; /* waiting */
    struct errand *current;
    bool ending;
    /* the thread's own */
    char *address;
    struct fl_http_client *http;
    struct fl_bulk_client *bulk;
    int64_t told_ms;
};

/* Lives until the last thing posted to the loop was delivered. */
struct fl_uplink {
    struct fl_uplink_options options;
    struct fl_timer *timer;
    struct lane lanes[LANES];
    bool pumping;
    char complaint[sizeof(((struct fl_error *)NULL)->msg)]; /* the last that was logged; or "" */
    int refs; /* loop thread, or with no thread running */
    struct fl_lock *lock;
    bool closed;
};

/* A word to the loop about an errand. */
struct notice {
    struct fl_uplink *uplink;
    struct errand *errand; /* done; NULL: */
    uint64_t ticket;       /* progress */
    int64_t done, all;
};

static int64_t now_ms(const struct fl_uplink *uplink)
{
    return fl_monotonic_ms(uplink->options.env);
}

static void errand_destroy(struct errand *errand)
{
    if (!errand)
        return;
    fl_bytes_unref(errand->body);
    fl_bytes_unref(errand->answer);
    fl_arena_destroy(errand->arena);
    free(errand);
}

/* --- words to the loop --- */

static void hold(struct fl_uplink *uplink)
{
    FL_LOCKED(uplink->lock);
    uplink->refs++;
}

static void let_go(struct fl_uplink *uplink)
{
    bool last;

    fl_lock_take(uplink->lock);
    last = --uplink->refs == 0;
    fl_lock_release(uplink->lock);
    if (!last)
        return;
    fl_lock_destroy(uplink->lock);
    free(uplink);
}

static bool is_refused(const struct errand *errand, struct fl_error *ret_why)
{
    bool not_joined = false;

    if (errand->result < 0)
        *ret_why = errand->err;
    else if (errand->http_status >= 400)
        (void)fl_protocol_read_error(errand->http_status, errand->answer->data, errand->answer->len,
                                     &not_joined, ret_why);
    return ret_why->code != 0 && !not_joined; /* that is what a restart looks like */
}

/* Requests are repeated without end; so that people see why nothing happens, each new reason is
 * logged once. */
static void log_request(struct fl_uplink *uplink, const struct errand *errand)
{
    struct fl_log *log = uplink->options.env->log;
    const char *target = errand->target;
    struct fl_error why = {0};

    if (is_refused(errand, &why)) {
        target = fl_arena_strndup(errand->arena, target, strcspn(target, "?"));
        if (strcmp(uplink->complaint, why.msg) != 0)
            fl_log_warn(log, "a request had no success and is repeated",
                        FL_STR("aggregator", errand->address), FL_STR("request", target),
                        FL_STR("error", why.msg));
        (void)snprintf(uplink->complaint, sizeof(uplink->complaint), "%s", why.msg);
    } else if (*uplink->complaint) {
        fl_log_info(log, "requests are answered again", FL_STR("aggregator", errand->address));
        *uplink->complaint = '\0';
    }
}

static bool is_request(const struct errand *errand)
{
    return errand->kind == FL_LEARNER_POLL || errand->kind == FL_LEARNER_CALL;
}

static void tell_core(struct fl_uplink *uplink, const struct errand *errand)
{
    struct fl_learner_core *core = uplink->options.core;
    const struct fl_error *err = errand->result < 0 ? &errand->err : NULL;

    switch (errand->kind) {
    case FL_LEARNER_DOWNLOAD:
        fl_learner_downloaded(core, now_ms(uplink), errand->ticket, err);
        break;
    case FL_LEARNER_UPLOAD:
        fl_learner_uploaded(core, now_ms(uplink), errand->ticket, err);
        break;
    default:
        if (err)
            fl_learner_unanswered(core, now_ms(uplink), errand->ticket, err);
        else
            fl_learner_answered(core, now_ms(uplink), errand->ticket, errand->http_status,
                                errand->answer->data, errand->answer->len);
    }
}

static void deliver(void *user)
{
    struct notice *notice = user;
    struct fl_uplink *uplink = notice->uplink;

    if (!uplink->closed) {
        if (notice->errand && is_request(notice->errand) && !notice->errand->cancelled)
            log_request(uplink, notice->errand);
        if (notice->errand)
            tell_core(uplink, notice->errand);
        else
            fl_learner_progressed(uplink->options.core, now_ms(uplink), notice->ticket,
                                  notice->done, notice->all);
        fl_uplink_pump(uplink);
    }
    errand_destroy(notice->errand);
    free(notice);
    let_go(uplink);
}

static void post(struct fl_uplink *uplink, const struct notice *notice)
{
    struct notice *copy = fl_malloc(sizeof(*copy));

    *copy = *notice;
    copy->uplink = uplink;
    hold(uplink);
    fl_loop_post(uplink->options.loop, deliver, copy);
}

/* --- on a lane's thread --- */

static void close_clients(struct lane *lane)
{
    fl_http_client_destroy(FL_TAKE(lane->http));
    fl_lock_take(lane->lock); /* who cancels looks at it */
    fl_bulk_client_destroy(FL_TAKE(lane->bulk));
    fl_lock_release(lane->lock);
    free(FL_TAKE(lane->address));
}

static int open_bulk(struct lane *lane, struct fl_error *err)
{
    struct fl_bulk_client_options options = {.env = lane->uplink->options.env,
                                             .http = lane->uplink->options.http,
                                             .max_failures = TRANSFER_MAX_TRIES,
                                             .backoff_ms = TRANSFER_BACKOFF_MS};
    struct fl_bulk_client *bulk = NULL;
    int r;

    options.http.base_url = lane->address;
    r = fl_bulk_client_create(&options, &bulk, err);
    if (r < 0)
        return r;
    FL_LOCKED(lane->lock);
    lane->bulk = bulk;
    return 0;
}

static int open_clients(struct lane *lane, const char *address, bool bulk, struct fl_error *err)
{
    struct fl_http_client_options http = lane->uplink->options.http;

    if (lane->address && strcmp(lane->address, address) == 0)
        return 0;
    close_clients(lane);
    lane->address = fl_strdup(address);
    http.base_url = lane->address;
    http.max_response_bytes = ANSWER_MAX;
    return bulk ? open_bulk(lane, err) : fl_http_client_create(&http, &lane->http, err);
}

static bool is_cancelled(struct errand *errand)
{
    FL_LOCKED(errand->lane->lock);
    return errand->cancelled || errand->lane->ending;
}

static bool call_goes_on(void *user, int64_t sent, int64_t received)
{
    (void)sent;
    (void)received;
    return !is_cancelled(user);
}

static int call(struct lane *lane, struct errand *errand)
{
    const struct fl_env *env = lane->uplink->options.env;
    const struct fl_request_steps steps = fl_steps_of_request(errand->target);
    static const char *const headers[] = {"Content-Type: application/json",
                                          "Accept: application/json"};
    const struct fl_http_transfer transfer = {.method = errand->method,
                                              .target = errand->target,
                                              .headers = headers,
                                              .header_count = FL_COUNT_OF(headers),
                                              .body = errand->body ? errand->body->data : NULL,
                                              .body_len = errand->body ? errand->body->len : 0,
                                              .beat = call_goes_on,
                                              .user = errand,
                                              .quiet_ms = errand->timeout_ms,
                                              .total_ms = errand->timeout_ms};
    int r;

    fl_step(env, steps.asking);
    r = fl_http_transfer(lane->http, &transfer, &errand->http_status, &errand->answer, NULL,
                         &errand->err);
    if (r == 0)
        fl_step(env, steps.answered);
    return r;
}

static void note_progress(void *user, int64_t done, int64_t all)
{
    struct errand *errand = user;
    struct lane *lane = errand->lane;
    const int64_t now = now_ms(lane->uplink);

    if (errand->kind == FL_LEARNER_UPLOAD && done > 0 && done < all)
        fl_step(lane->uplink->options.env, FL_STEP_HALF_UPLOADED);
    if (now - lane->told_ms < PROGRESS_MS)
        return;
    lane->told_ms = now;
    post(lane->uplink,
         &(struct notice){.ticket = errand->ticket, .done = done, .all = all < 0 ? 0 : all});
}

static int download(struct lane *lane, struct errand *errand)
{
    const struct fl_uplink_options *options = &lane->uplink->options;
    const int64_t max = options->max_model_bytes ? options->max_model_bytes : MODEL_MAX;
    const struct fl_bulk_fetch fetch = {
        .digest = errand->digest, .max_bytes = max, .progress = note_progress, .user = errand};
    int r;

    fl_step(options->env, FL_STEP_DOWNLOADING);
    r = fl_bulk_fetch(lane->bulk, &fetch, options->blobs, &errand->err);
    if (r == 0)
        fl_step(options->env, FL_STEP_DOWNLOADED);
    return r;
}

static int upload(struct lane *lane, struct errand *errand)
{
    const struct fl_uplink_options *options = &lane->uplink->options;
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    struct fl_bulk_send send = {.target = errand->target,
                                .digest = errand->digest,
                                .chunk_bytes = errand->chunk_bytes,
                                .progress = note_progress,
                                .user = errand};
    int r = fl_blobs_get(options->blobs, errand->digest, &fd, &send.size, &errand->err);

    send.fd = fd;
    fl_step(options->env, FL_STEP_UPLOADING);
    if (r == 0)
        r = fl_bulk_send(lane->bulk, &send, &errand->err);
    if (r == 0)
        fl_step(options->env, FL_STEP_UPLOADED);
    return r;
}

static void carry_out(struct lane *lane, struct errand *errand)
{
    const bool bulk =
        lane == &lane->uplink->lanes[LANE_DOWNLOAD] || lane == &lane->uplink->lanes[LANE_UPLOAD];
    int r = open_clients(lane, errand->address, bulk, &errand->err);

    lane->told_ms = now_ms(lane->uplink);
    if (r < 0)
        free(FL_TAKE(lane->address)); /* half made: made anew the next time */
    else if (is_cancelled(errand))
        r = fl_error_set(&errand->err, FL_E_UNAVAILABLE, "cancelled");
    else if (!bulk)
        r = call(lane, errand);
    else if (errand->kind == FL_LEARNER_DOWNLOAD)
        r = download(lane, errand);
    else
        r = upload(lane, errand);
    errand->result = r;
}

/* NULL: the end. */
static struct errand *next_errand(struct lane *lane)
{
    FL_LOCKED(lane->lock);
    lane->current = NULL;
    while (!lane->ending && STAILQ_EMPTY(&lane->errands))
        (void)fl_signal_wait(lane->wake, lane->lock, -1);
    if (lane->ending)
        return NULL;
    lane->current = STAILQ_FIRST(&lane->errands);
    STAILQ_REMOVE_HEAD(&lane->errands, link);
    if (lane->bulk && !lane->current->cancelled)
        fl_bulk_client_reset(lane->bulk);
    return lane->current;
}

/* `current` is let go before its notice is posted: the loop frees it. */
static void lane_run(void *user)
{
    struct lane *lane = user;
    struct errand *errand;

    while ((errand = next_errand(lane))) {
        carry_out(lane, errand);
        fl_lock_take(lane->lock);
        lane->current = NULL;
        fl_lock_release(lane->lock);
        post(lane->uplink, &(struct notice){.errand = errand});
    }
    close_clients(lane);
}

/* --- on the loop --- */

static void lane_take(struct lane *lane, const struct fl_learner_action *action)
{
    struct errand *errand = fl_calloc(1, sizeof(*errand));
    struct fl_arena *arena = fl_arena_create();

    errand->lane = lane;
    errand->arena = arena;
    errand->kind = action->kind;
    errand->ticket = action->ticket;
    errand->address = fl_arena_strdup(arena, action->address);
    errand->method = action->method ? fl_arena_strdup(arena, action->method) : NULL;
    errand->target = action->target ? fl_arena_strdup(arena, action->target) : NULL;
    errand->digest = action->digest ? fl_arena_strdup(arena, action->digest) : NULL;
    errand->body = action->body ? fl_bytes_ref(action->body) : NULL;
    errand->size = action->size;
    errand->timeout_ms = action->timeout_ms;
    errand->chunk_bytes = action->chunk_bytes;
    FL_LOCKED(lane->lock);
    STAILQ_INSERT_TAIL(&lane->errands, errand, link);
    fl_signal_one(lane->wake);
}

static bool lane_cancel(struct lane *lane, uint64_t ticket)
{
    struct errand *errand;
    bool found = false;

    FL_LOCKED(lane->lock);
    STAILQ_FOREACH(errand, &lane->errands, link)
        if (errand->ticket == ticket)
            found = errand->cancelled = true;
    if (lane->current && lane->current->ticket == ticket) {
        found = lane->current->cancelled = true;
        if (lane->bulk)
            fl_bulk_client_cancel(lane->bulk);
    }
    return found;
}

static void cancel(struct fl_uplink *uplink, const struct fl_learner_action *action)
{
    for (int i = 0; i < LANES; i++)
        if (lane_cancel(&uplink->lanes[i], action->ticket))
            return;
    uplink->options.act(uplink->options.user, action);
}

static void take(struct fl_uplink *uplink, const struct fl_learner_action *action)
{
    switch (action->kind) {
    case FL_LEARNER_POLL:
        lane_take(&uplink->lanes[LANE_POLL], action);
        break;
    case FL_LEARNER_CALL:
        lane_take(&uplink->lanes[LANE_CALL], action);
        break;
    case FL_LEARNER_DOWNLOAD:
        lane_take(&uplink->lanes[LANE_DOWNLOAD], action);
        break;
    case FL_LEARNER_UPLOAD:
        lane_take(&uplink->lanes[LANE_UPLOAD], action);
        break;
    case FL_LEARNER_CANCEL:
        cancel(uplink, action);
        break;
    case FL_LEARNER_TRAIN:
    case FL_LEARNER_EVALUATE:
    case FL_LEARNER_KEEP:
    case FL_LEARNER_RELEASE:
    case FL_LEARNER_ENDED:
        uplink->options.act(uplink->options.user, action);
    }
}

/* The owner may call this from `act`: the outer call goes on with what is new. */
void fl_uplink_pump(struct fl_uplink *uplink)
{
    const struct fl_learner_action *action;
    int64_t due;

    if (uplink->pumping || uplink->closed)
        return;
    uplink->pumping = true;
    while ((action = fl_learner_next(uplink->options.core)))
        take(uplink, action);
    uplink->pumping = false;
    due = fl_learner_deadline(uplink->options.core);
    if (due == INT64_MAX)
        fl_timer_cancel(uplink->timer);
    else
        fl_timer_arm(uplink->timer, due > now_ms(uplink) ? due - now_ms(uplink) : 0);
}

static void on_timer(void *user)
{
    struct fl_uplink *uplink = user;

    fl_learner_tick(uplink->options.core, now_ms(uplink));
    fl_uplink_pump(uplink);
}

static int lane_start(struct fl_uplink *uplink, enum lane_name name, struct fl_error *err)
{
    static const char *const names[] = {"poll", "call", "download", "upload"};
    struct lane *lane = &uplink->lanes[name];

    lane->uplink = uplink;
    STAILQ_INIT(&lane->errands);
    lane->lock = fl_lock_create();
    lane->wake = fl_signal_create();
    return fl_thread_start(names[name], lane_run, lane, &lane->thread, err);
}

static void lane_end(struct lane *lane)
{
    struct errand *errand;

    if (!lane->lock)
        return;
    fl_lock_take(lane->lock);
    lane->ending = true;
    if (lane->bulk)
        fl_bulk_client_cancel(lane->bulk);
    fl_signal_all(lane->wake);
    fl_lock_release(lane->lock);
    fl_thread_join(lane->thread);
    while ((errand = STAILQ_FIRST(&lane->errands))) {
        STAILQ_REMOVE_HEAD(&lane->errands, link);
        errand_destroy(errand);
    }
    fl_signal_destroy(lane->wake);
    fl_lock_destroy(lane->lock);
}

int fl_uplink_create(const struct fl_uplink_options *options, struct fl_uplink **ret_uplink,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_uplink_destroyp) struct fl_uplink *uplink = fl_calloc(1, sizeof(*uplink));
    int r = 0;

    assert(options->env && options->loop && options->core && options->blobs && options->act);

    uplink->options = *options;
    uplink->refs = 1;
    uplink->lock = fl_lock_create();
    uplink->timer = fl_timer_create(options->loop, on_timer, uplink);
    for (int i = 0; r == 0 && i < LANES; i++)
        r = lane_start(uplink, (enum lane_name)i, err);
    if (r < 0)
        return r;
    *ret_uplink = FL_TAKE(uplink);
    return 0;
}

void fl_uplink_destroy(struct fl_uplink *uplink)
{
    if (!uplink)
        return;
    uplink->closed = true; /* read on the loop's thread only */
    for (int i = 0; i < LANES; i++)
        lane_end(&uplink->lanes[i]);
    fl_timer_destroy(uplink->timer);
    let_go(uplink);
}
