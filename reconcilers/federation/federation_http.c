/* Federations over HTTP: one thread with a loop for all of them, and a few for models
 * (transfers.h). What is known is behind one lock; connections belong to the loop. To a root there
 * is a connection that waits for news of the whole, one for each round that is followed, and one
 * for all that is told to it. */
#include "reconcilers/federation/federation_http.h"

#include "lib/http_async.h"
#include "lib/map.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "reconcilers/federation/transfers.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define POLL_MS        75000 /* a root answers after 30 s by itself */
#define TELL_MS        20000
#define FIRST_PAUSE_MS 50
#define LAST_PAUSE_MS  5000
#define GLANCE_MS      1000 /* between two looks at a root that holds none */
#define REFUSED_MS     1000
#define ROUNDS_MAX     64 /* known of one federation */
#define SYSTEM         "flops-system"

struct driver {
    struct fl_federation_driver base;
    struct fl_federation_http_options options;
    struct fl_loop *loop;
    struct fl_thread *thread;
    struct fl_http_async *calls;
    struct fl_transfers *transfers;
    struct fl_lock *lock; /* all that follows */
    struct fl_map *federations;
    bool stopping;
};

enum order_state { ORDER_NONE = 0, ORDER_WANTED, ORDER_SENT, ORDER_TAKEN, ORDER_REFUSED };

struct round {
    TAILQ_ENTRY(round) all;
    struct federation *federation;
    int64_t number;
    enum fl_federation_known known;
    struct fl_arena *arena; /* of the report */
    struct fl_round_report report;
    struct fl_bytes *order;
    enum order_state order_state;
    int64_t refused_ms;
    struct fl_error refusal;
    bool followed, ask; /* ask: what is known may not be so any more */
    bool abort_wanted;
    struct fl_http_async_request *watch, *put, *abort; /* the loop's */
};

struct federation {
    struct driver *driver;
    char *uid, *ns, *name, *address, *token, *ca;
    bool moved, dirty, forgotten;
    /* What is known. */
    bool has_status;
    struct fl_arena *status_arena;
    struct fl_status status;
    int64_t down_us; /* since when it cannot be reached (real time); 0: it can */
    char down[FL_ERROR_TEXT_MAX];
    bool distrust; /* it may lack models that it says to have */
    TAILQ_HEAD(rounds, round) rounds;
    size_t round_count;
    struct fl_bytes *children;
    bool children_told;
    /* The loop's. */
    struct fl_http_client *client;
    struct fl_http_async_request *glance, *tell_children;
    struct fl_timer *again;
    int64_t pause_ms;
    bool pausing;
};

static int64_t now_ms(const struct driver *driver)
{
    return fl_monotonic_ms(driver->options.env);
}

static bool is_over(const struct round *round)
{
    const enum fl_round_phase phase = round->report.phase;

    return round->known == FL_FEDERATION_KNOWN &&
           (phase == FL_ROUND_COMMITTED || phase == FL_ROUND_FAILED || phase == FL_ROUND_ABORTED);
}

static void round_free(struct round *round)
{
    TAILQ_REMOVE(&round->federation->rounds, round, all);
    round->federation->round_count--;
    fl_arena_destroy(round->arena);
    fl_bytes_unref(round->order);
    free(round);
}

static void federation_free(void *value)
{
    struct federation *federation = value;
    struct round *round;

    while ((round = TAILQ_FIRST(&federation->rounds)))
        round_free(round);
    fl_timer_destroy(federation->again);
    fl_http_client_destroy(federation->client);
    fl_arena_destroy(federation->status_arena);
    fl_bytes_unref(federation->children);
    free(federation->uid);
    free(federation->ns);
    free(federation->name);
    free(federation->address);
    free(federation->token);
    free(federation->ca);
    free(federation);
}

/* --- on the loop: what is heard ------------------------------------------------------------- */

/* Without the lock. */
static void tell(struct driver *driver, const char *ns, const char *name)
{
    if (driver->options.changed)
        driver->options.changed(driver->options.user, ns, name);
}

/* true: that is news. */
static bool note_down(struct federation *federation, const char *why)
{
    const bool news = federation->down_us == 0;

    if (news)
        federation->down_us = fl_realtime_us(federation->driver->options.env);
    (void)snprintf(federation->down, sizeof(federation->down), "%s", why);
    federation->pause_ms = federation->pause_ms ? federation->pause_ms * 2 : FIRST_PAUSE_MS;
    if (federation->pause_ms > LAST_PAUSE_MS)
        federation->pause_ms = LAST_PAUSE_MS;
    federation->pausing = true;
    fl_timer_arm(federation->again, federation->pause_ms);
    return news;
}

static bool note_up(struct federation *federation)
{
    const bool news = federation->down_us != 0;

    federation->down_us = 0;
    federation->pause_ms = 0;
    return news;
}

/* What the root says in an answer that is no 200. */
static int read_refusal(const struct fl_http_answer *answer, struct fl_error *err)
{
    bool not_joined;

    return fl_protocol_read_error(answer->status, answer->body->data, answer->body->len,
                                  &not_joined, err);
}

/* An answer that says nothing about what was asked: it is not there, or not well. */
static bool is_no_answer(const struct fl_http_answer *answer, const struct fl_error *err,
                         struct fl_error *why)
{
    if (!answer) {
        *why = *err;
        return true;
    }
    if (answer->status < 500 && answer->status != 401 && answer->status != 403)
        return false;
    (void)read_refusal(answer, why);
    return true;
}

static bool set_report(struct round *round, const struct fl_http_answer *answer,
                       struct fl_error *err)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_round_report report;
    bool news;

    if (fl_message_decode(arena, &fl_form_round_report, answer->body->data, answer->body->len,
                          &report, err) < 0) {
        fl_arena_destroy(arena);
        return false;
    }
    news = round->known != FL_FEDERATION_KNOWN || round->report.version != report.version;
    fl_arena_destroy(round->arena);
    round->arena = arena;
    round->report = report;
    round->known = FL_FEDERATION_KNOWN;
    round->ask = false;
    if (report.phase == FL_ROUND_FAILED && fl_streq(report.reason, "BaseModelNotFound"))
        round->federation->distrust = true;
    return news;
}

static bool set_known(struct round *round, enum fl_federation_known known)
{
    const bool news = round->known != known;

    round->known = known;
    round->ask = false;
    return news;
}

/* Whatever is known of rounds may be of an earlier life's disk. */
static void doubt_all(struct federation *federation)
{
    struct round *round;

    TAILQ_FOREACH(round, &federation->rounds, all)
        round->ask = round->followed;
    federation->children_told = false;
    federation->distrust = true;
}

static void attend(struct federation *federation);

/* The end of each answer: `news` is told once the lock is free. */
static void go_on(struct federation *federation, bool news)
{
    struct driver *driver = federation->driver;
    FL_CLEANUP(fl_freep) char *ns = news ? fl_strdup(federation->ns) : NULL;
    FL_CLEANUP(fl_freep) char *name = news ? fl_strdup(federation->name) : NULL;

    attend(federation);
    fl_lock_release(driver->lock);
    if (news)
        tell(driver, ns, name);
}

static bool take_status(struct federation *federation, const struct fl_http_answer *answer,
                        struct fl_error *err)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_status status;
    bool news;

    if (fl_message_decode(arena, &fl_form_status, answer->body->data, answer->body->len, &status,
                          err) < 0) {
        fl_arena_destroy(arena);
        return false;
    }
    news = !federation->has_status || status.version == 0 ||
           status.version != federation->status.version;
    if (federation->has_status && status.life != federation->status.life)
        doubt_all(federation);
    fl_arena_destroy(federation->status_arena);
    federation->status_arena = arena;
    federation->status = status;
    federation->has_status = true;
    return news;
}

static void on_glance(void *user, const struct fl_http_answer *answer, const struct fl_error *err)
{
    struct federation *federation = user;
    struct fl_error why = {0};
    bool news = false;

    fl_lock_take(federation->driver->lock);
    federation->glance = NULL;
    if (is_no_answer(answer, err, &why)) {
        news = note_down(federation, why.msg);
    } else {
        news = note_up(federation);
        if (answer->status == 200)
            news |= take_status(federation, answer, &why);
        else
            (void)read_refusal(answer, &why);
        if (why.code != 0)
            news |= note_down(federation, why.msg);
        else if (federation->status.version == 0) /* it holds nothing */
            fl_timer_arm(federation->again, GLANCE_MS);
    }
    go_on(federation, news);
}

static void on_watch(void *user, const struct fl_http_answer *answer, const struct fl_error *err)
{
    struct round *round = user;
    struct federation *federation = round->federation;
    struct fl_error why = {0};
    bool news = false;

    fl_lock_take(federation->driver->lock);
    round->watch = NULL;
    if (is_no_answer(answer, err, &why)) {
        news = note_down(federation, why.msg);
    } else {
        news = note_up(federation);
        if (answer->status == 200)
            news |= set_report(round, answer, &why);
        else if (answer->status == 404 || answer->status == 410)
            news |=
                set_known(round, answer->status == 404 ? FL_FEDERATION_ABSENT : FL_FEDERATION_PAST);
        else
            (void)read_refusal(answer, &why);
        if (why.code != 0)
            news |= note_down(federation, why.msg);
    }
    go_on(federation, news);
}

static void on_put(void *user, const struct fl_http_answer *answer, const struct fl_error *err)
{
    struct round *round = user;
    struct federation *federation = round->federation;
    struct driver *driver = federation->driver;
    struct fl_error why = {0};
    bool news = false;

    fl_lock_take(driver->lock);
    round->put = NULL;
    if (is_no_answer(answer, err, &why)) {
        news = note_down(federation, why.msg);
        if (round->order_state == ORDER_SENT)
            round->order_state = ORDER_WANTED;
    } else if (round->order_state == ORDER_SENT) {
        (void)note_up(federation);
        news = true;
        if (answer->status == 200)
            (void)set_report(round, answer, &why);
        else
            (void)read_refusal(answer, &why);
        round->order_state = why.code == 0 ? ORDER_TAKEN : ORDER_REFUSED;
        round->refusal = why;
        round->refused_ms = now_ms(driver);
    }
    go_on(federation, news);
}

static void on_abort(void *user, const struct fl_http_answer *answer, const struct fl_error *err)
{
    struct round *round = user;
    struct federation *federation = round->federation;
    struct fl_error why = {0};
    bool news = false;

    fl_lock_take(federation->driver->lock);
    round->abort = NULL;
    if (is_no_answer(answer, err, &why)) {
        news = note_down(federation, why.msg);
    } else {
        news = note_up(federation);
        round->abort_wanted = false;
        if (answer->status == 200)
            news |= set_report(round, answer, &why);
        else
            news |= set_known(round, FL_FEDERATION_ABSENT);
    }
    go_on(federation, news);
}

static void on_children(void *user, const struct fl_http_answer *answer, const struct fl_error *err)
{
    struct federation *federation = user;
    struct fl_error why = {0};
    bool news = false;

    fl_lock_take(federation->driver->lock);
    federation->tell_children = NULL;
    if (is_no_answer(answer, err, &why)) {
        news = note_down(federation, why.msg);
        federation->children_told = false;
    }
    go_on(federation, news);
}

/* --- on the loop: what is asked and told ---------------------------------------------------- */

static struct fl_http_async_request *call(struct federation *federation, const char *method,
                                          const char *target, struct fl_bytes *body,
                                          int64_t timeout_ms, fl_http_answered_fn *done, void *user)
{
    static const struct fl_http_pair headers[] = {{"Content-Type", "application/json"}};
    const struct fl_http_async_call what = {.method = method,
                                            .target = target,
                                            .headers = headers,
                                            .header_count = body ? 1 : 0,
                                            .body = body,
                                            .timeout_ms = timeout_ms,
                                            .max_response_bytes = FL_PROTOCOL_BODY_MAX};

    return fl_http_async_start(federation->driver->calls, federation->client, &what, done, user);
}

static void look(struct federation *federation)
{
    char target[64] = "/v1/status";

    if (federation->glance)
        return;
    if (federation->has_status && federation->status.version > 0)
        (void)snprintf(target, sizeof(target), "/v1/status?after=%" PRId64,
                       federation->status.version);
    federation->glance = call(federation, "GET", target, NULL, POLL_MS, on_glance, federation);
}

static void watch(struct round *round)
{
    const bool fresh = round->ask || round->known != FL_FEDERATION_KNOWN;
    char target[96];

    if (round->watch || !round->followed || round->order_state == ORDER_WANTED ||
        round->order_state == ORDER_SENT)
        return;
    if (!round->ask && (is_over(round) || round->known == FL_FEDERATION_ABSENT ||
                        round->known == FL_FEDERATION_PAST))
        return;
    (void)snprintf(target, sizeof(target), "/v1/rounds/%" PRId64 "?after=%" PRId64, round->number,
                   fresh ? 0 : round->report.version);
    round->watch = call(round->federation, "GET", target, NULL, POLL_MS, on_watch, round);
}

static void give_order(struct round *round)
{
    char target[64];

    if (round->put || round->order_state != ORDER_WANTED)
        return;
    (void)snprintf(target, sizeof(target), "/v1/rounds/%" PRId64, round->number);
    round->order_state = ORDER_SENT;
    round->put = call(round->federation, "PUT", target, round->order, TELL_MS, on_put, round);
}

static void abort_it(struct round *round)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    char target[64];

    if (round->abort || !round->abort_wanted)
        return;
    body = fl_bytes_new("{}", 2);
    (void)snprintf(target, sizeof(target), "/v1/rounds/%" PRId64 "/abort", round->number);
    round->abort = call(round->federation, "POST", target, body, TELL_MS, on_abort, round);
}

static void hang_up(struct federation *federation)
{
    struct round *round;

    if (federation->glance)
        fl_http_async_cancel(FL_TAKE(federation->glance));
    if (federation->tell_children)
        fl_http_async_cancel(FL_TAKE(federation->tell_children));
    TAILQ_FOREACH(round, &federation->rounds, all) {
        struct fl_http_async_request **calls[] = {&round->watch, &round->put, &round->abort};

        for (size_t i = 0; i < FL_COUNT_OF(calls); i++)
            if (*calls[i])
                fl_http_async_cancel(FL_TAKE(*calls[i]));
        if (round->order_state == ORDER_SENT)
            round->order_state = ORDER_WANTED;
    }
    if (federation->again)
        fl_timer_cancel(federation->again);
    federation->pausing = false;
    fl_http_client_destroy(FL_TAKE(federation->client));
}

static void on_again(void *user)
{
    struct federation *federation = user;
    FL_LOCKED(federation->driver->lock);

    federation->pausing = false;
    federation->dirty = true; /* look again, whatever it is that waits */
    attend(federation);
}

/* Whatever was known may be of another root; that a round is over stays true. */
static void turn_to(struct federation *federation)
{
    const struct fl_http_client_options options = {.base_url = federation->address,
                                                   .bearer_token = federation->token,
                                                   .ca_pem = federation->ca,
                                                   .user_agent = "flops-controller"};
    struct round *round;
    struct fl_error err = {0};

    hang_up(federation);
    federation->moved = false;
    federation->pause_ms = federation->down_us = 0;
    federation->has_status = false;
    federation->status.version = 0;
    doubt_all(federation);
    TAILQ_FOREACH(round, &federation->rounds, all)
        if (!is_over(round))
            round->known = FL_FEDERATION_UNKNOWN;
    if (fl_http_client_create(&options, &federation->client, &err) < 0)
        (void)note_down(federation, err.msg);
}

/* With the lock. Begins whatever is wanted and not under way. */
static void attend(struct federation *federation)
{
    struct round *round;

    if (federation->moved)
        turn_to(federation);
    if (federation->pausing || !federation->client || federation->forgotten ||
        federation->driver->stopping)
        return;
    if (!federation->has_status || federation->status.version > 0 || federation->dirty)
        look(federation);
    federation->dirty = false;
    if (federation->children && !federation->children_told && !federation->tell_children) {
        federation->children_told = true;
        federation->tell_children = call(federation, "PUT", "/v1/children", federation->children,
                                         TELL_MS, on_children, federation);
    }
    TAILQ_FOREACH(round, &federation->rounds, all) {
        give_order(round);
        abort_it(round);
        watch(round);
    }
}

/* With the lock. */
static struct federation *next_dirty(struct driver *driver)
{
    void *cursor = NULL, *value;

    while (fl_map_next(driver->federations, &cursor, NULL, &value)) {
        struct federation *federation = value;

        if (federation->dirty || federation->moved || federation->forgotten)
            return federation;
    }
    return NULL;
}

static void on_told(void *user)
{
    struct driver *driver = user;
    struct federation *federation;
    FL_LOCKED(driver->lock);

    while (!driver->stopping && (federation = next_dirty(driver))) {
        if (federation->forgotten) {
            hang_up(federation);
            fl_map_remove(driver->federations, federation->uid);
            continue;
        }
        if (!federation->again)
            federation->again = fl_timer_create(driver->loop, on_again, federation);
        attend(federation);
        federation->dirty = false;
    }
}

/* --- any thread ----------------------------------------------------------------------------- */

static bool replace(char **text, const char *with)
{
    if (fl_streq(*text, with) || (!*text && !with))
        return false;
    free(*text);
    *text = with ? fl_strdup(with) : NULL;
    return true;
}

/* With the lock. */
static void stir(struct federation *federation)
{
    if (federation->dirty)
        return;
    federation->dirty = true;
    fl_loop_post(federation->driver->loop, on_told, federation->driver);
}

/* With the lock. One that is being forgotten is there again only when that is done. */
static int federation_of(struct driver *driver, const struct fl_federation_at *at,
                         struct federation **ret_federation, struct fl_error *err)
{
    struct federation *federation = fl_map_get(driver->federations, at->project_uid);

    if (federation && federation->forgotten)
        return fl_error_set(err, FL_E_CONFLICT, "the federation is just being forgotten");
    if (!federation) {
        federation = fl_calloc(1, sizeof(*federation));
        federation->driver = driver;
        federation->uid = fl_strdup(at->project_uid);
        TAILQ_INIT(&federation->rounds);
        fl_map_put(driver->federations, at->project_uid, federation);
    }
    (void)replace(&federation->ns, at->ns);
    (void)replace(&federation->name, at->name);
    federation->moved |= replace(&federation->address, at->address);
    federation->moved |= replace(&federation->token, at->token);
    federation->moved |= replace(&federation->ca, at->ca);
    if (federation->moved)
        stir(federation);
    *ret_federation = federation;
    return 0;
}

static const char *why_down(const struct federation *federation, struct fl_arena *arena)
{
    char since[FL_TIME_SIZE];

    fl_time_format(federation->down_us, since);
    return fl_arena_printf(arena, "%s cannot be reached since %s: %s", federation->address, since,
                           federation->down);
}

static int status(struct fl_federation_driver *self, const struct fl_federation_at *at,
                  struct fl_arena *arena, struct fl_federation_status *ret_status,
                  struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    struct federation *federation;
    FL_LOCKED(driver->lock);
    int r = federation_of(driver, at, &federation, err);

    if (r < 0)
        return r;
    *ret_status = (struct fl_federation_status){.known = FL_FEDERATION_UNKNOWN};
    if (federation->down_us && !federation->moved) {
        ret_status->known = FL_FEDERATION_UNREACHABLE;
        ret_status->message = why_down(federation, arena);
    } else if (federation->has_status && !federation->moved) {
        ret_status->known = FL_FEDERATION_KNOWN;
        fl_message_copy(arena, &fl_form_status, &federation->status, &ret_status->status);
    }
    return 0;
}

/* With the lock. The oldest that is over goes where there are too many. */
static struct round *round_of(struct federation *federation, int64_t number)
{
    struct round *round, *old = NULL;

    TAILQ_FOREACH(round, &federation->rounds, all) {
        if (round->number == number)
            return round;
        if (!old && is_over(round) && !round->watch && !round->put && !round->abort)
            old = round;
    }
    if (federation->round_count >= ROUNDS_MAX && old)
        round_free(old);
    round = fl_calloc(1, sizeof(*round));
    round->federation = federation;
    round->number = number;
    round->known = FL_FEDERATION_UNKNOWN;
    TAILQ_INSERT_TAIL(&federation->rounds, round, all);
    federation->round_count++;
    return round;
}

static void show_round(const struct round *round, struct fl_arena *arena,
                       struct fl_federation_round *shown)
{
    const struct federation *federation = round->federation;

    shown->known = round->known;
    shown->starting = round->order_state == ORDER_WANTED || round->order_state == ORDER_SENT;
    if (round->refusal.code != 0) {
        shown->refused = round->refusal.code;
        shown->message = fl_arena_strdup(arena, round->refusal.msg);
    }
    if (round->known == FL_FEDERATION_KNOWN)
        fl_message_copy(arena, &fl_form_round_report, &round->report, &shown->report);
    if (federation->down_us && !federation->moved && !is_over(round)) {
        shown->known = FL_FEDERATION_UNREACHABLE;
        shown->message = why_down(federation, arena);
    } else if (round->ask && is_over(round)) {
        shown->known = FL_FEDERATION_UNKNOWN;
    }
}

static int observe_round(struct fl_federation_driver *self, const struct fl_federation_at *at,
                         int64_t number, struct fl_arena *arena,
                         struct fl_federation_round *ret_round, struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    struct federation *federation;
    struct round *round;
    FL_LOCKED(driver->lock);
    int r = federation_of(driver, at, &federation, err);

    if (r < 0)
        return r;
    round = round_of(federation, number);
    *ret_round = (struct fl_federation_round){0};
    show_round(round, arena, ret_round);
    if (!round->followed || round->known == FL_FEDERATION_ABSENT) {
        round->followed = round->ask = true;
        stir(federation);
    }
    return 0;
}

static bool is_same_order(const struct round *round, const struct fl_bytes *text)
{
    return round->order && text->len == round->order->len &&
           memcmp(round->order->data, text->data, text->len) == 0;
}

static bool is_new_order(const struct round *round, const struct fl_bytes *text)
{
    const struct driver *driver = round->federation->driver;

    if (!is_same_order(round, text))
        return true;
    switch (round->order_state) {
    case ORDER_NONE:
        return true;
    case ORDER_REFUSED:
        return now_ms(driver) - round->refused_ms >= REFUSED_MS;
    case ORDER_TAKEN:
        return round->known == FL_FEDERATION_ABSENT;
    default:
        return false;
    }
}

static int start_round(struct fl_federation_driver *self, const struct fl_federation_at *at,
                       const struct fl_round_order *order, struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    FL_CLEANUP(fl_bytes_unrefp)
    struct fl_bytes *text = fl_message_encode(&fl_form_round_order, order);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct federation *federation;
    struct round *round;
    struct fl_round_order again;
    int r = fl_message_decode(arena, &fl_form_round_order, text->data, text->len, &again, err);

    if (r < 0)
        return fl_error_set(err, FL_E_INVALID, "round %" PRId64 ": %s", order->round,
                            err ? fl_arena_strdup(arena, err->msg) : "");
    FL_LOCKED(driver->lock);
    r = federation_of(driver, at, &federation, err);
    if (r < 0)
        return r;
    round = round_of(federation, order->round);
    round->followed = true;
    if (!is_new_order(round, text))
        return 0;
    if (!is_same_order(round, text)) /* else the refusal stands until there is another answer */
        round->refusal = (struct fl_error){0};
    fl_bytes_unref(round->order);
    round->order = FL_TAKE(text);
    round->order_state = ORDER_WANTED;
    round->abort_wanted = false;
    stir(federation);
    return 0;
}

static int abort_round(struct fl_federation_driver *self, const struct fl_federation_at *at,
                       int64_t number, struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    struct federation *federation;
    struct round *round;
    FL_LOCKED(driver->lock);
    int r = federation_of(driver, at, &federation, err);

    if (r < 0)
        return r;
    round = round_of(federation, number);
    if (is_over(round) || round->abort_wanted)
        return 0;
    round->abort_wanted = round->followed = true;
    if (round->order_state == ORDER_WANTED)
        round->order_state = ORDER_NONE;
    stir(federation);
    return 0;
}

static void ask_transfer(struct driver *driver, enum fl_transfer_kind kind,
                         const struct fl_federation_at *at, const char *what, int64_t size,
                         struct fl_arena *arena, struct fl_transfer *transfer)
{
    const struct fl_transfer_order order = {.kind = kind, .at = *at, .what = what, .size = size};

    fl_transfers_ask(driver->transfers, &order, arena, transfer);
}

/* What it made last it has. */
static bool root_has(const struct federation *federation, const char *digest)
{
    return federation->has_status && !federation->distrust && !federation->moved &&
           federation->down_us == 0 && fl_streq(federation->status.model, digest);
}

static int put_model(struct fl_federation_driver *self, const struct fl_federation_at *at,
                     const char *digest, struct fl_arena *arena, struct fl_transfer *ret_transfer,
                     struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    struct federation *federation;
    bool there;
    int r;

    fl_lock_take(driver->lock);
    r = federation_of(driver, at, &federation, err);
    there = r == 0 && root_has(federation, digest);
    fl_lock_release(driver->lock);
    if (r < 0)
        return r;
    if (there)
        *ret_transfer = (struct fl_transfer){.state = FL_TRANSFER_DONE, .digest = digest};
    else
        ask_transfer(driver, FL_TRANSFER_PUT, at, digest, 0, arena, ret_transfer);
    return 0;
}

static int get_model(struct fl_federation_driver *self, const struct fl_federation_at *at,
                     const char *digest, int64_t size, struct fl_arena *arena,
                     struct fl_transfer *ret_transfer, struct fl_error *err)
{
    (void)err;
    ask_transfer((struct driver *)self, FL_TRANSFER_GET, at, digest, size, arena, ret_transfer);
    return 0;
}

static int import_model(struct fl_federation_driver *self, const char *uri, const char *ns,
                        const char *project, struct fl_arena *arena,
                        struct fl_transfer *ret_transfer, struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    const struct fl_federation_at at = {.ns = ns, .name = project};

    (void)err;
    if (fl_str_has_prefix(uri, "file:") && !driver->options.files_everywhere &&
        !fl_streq(ns, SYSTEM))
        *ret_transfer = (struct fl_transfer){
            .state = FL_TRANSFER_FAILED,
            .failed = FL_E_FORBIDDEN,
            .message = "files of the control plane's machine are for projects of namespace " SYSTEM
                       "; put the model into the content store and name its digest"};
    else
        ask_transfer(driver, FL_TRANSFER_IMPORT, &at, uri, 0, arena, ret_transfer);
    return 0;
}

static int children(struct fl_federation_driver *self, const struct fl_federation_at *at,
                    const struct fl_children *wanted, struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    FL_CLEANUP(fl_bytes_unrefp)
    struct fl_bytes *text = fl_message_encode(&fl_form_children, wanted);
    struct federation *federation;
    FL_LOCKED(driver->lock);
    int r = federation_of(driver, at, &federation, err);

    if (r < 0)
        return r;
    if (federation->children && federation->children->len == text->len &&
        memcmp(federation->children->data, text->data, text->len) == 0)
        return 0;
    fl_bytes_unref(federation->children);
    federation->children = FL_TAKE(text);
    federation->children_told = false;
    stir(federation);
    return 0;
}

static void forget(struct fl_federation_driver *self, const char *project_uid)
{
    struct driver *driver = (struct driver *)self;
    struct federation *federation;

    fl_transfers_forget(driver->transfers, project_uid);
    FL_LOCKED(driver->lock);
    federation = fl_map_get(driver->federations, project_uid);
    if (!federation || federation->forgotten)
        return;
    federation->forgotten = true;
    fl_loop_post(driver->loop, on_told, driver);
}

/* A model that the root should have and has not: it has begun anew. */
static void transfer_ended(void *user, const struct fl_transfer_order *order, int failed)
{
    struct driver *driver = user;
    struct federation *federation;

    if (order->kind != FL_TRANSFER_IMPORT) {
        FL_LOCKED(driver->lock);
        federation = fl_map_get(driver->federations, order->at.project_uid);
        if (federation && failed == FL_E_NOT_FOUND && order->kind == FL_TRANSFER_GET) {
            doubt_all(federation);
            stir(federation);
        } else if (federation && failed == 0 && order->kind == FL_TRANSFER_PUT) {
            federation->distrust = false;
        }
    }
    tell(driver, order->at.ns, order->at.name);
}

/* --- a life --------------------------------------------------------------------------------- */

static void run(void *user)
{
    struct driver *driver = user;

    fl_loop_run(driver->loop);
}

static void stop(void *user)
{
    struct driver *driver = user;

    fl_lock_take(driver->lock);
    driver->stopping = true;
    fl_lock_release(driver->lock);
    fl_loop_stop(driver->loop);
}

static void hang_up_all(struct driver *driver)
{
    void *cursor = NULL, *value;

    while (fl_map_next(driver->federations, &cursor, NULL, &value))
        hang_up(value);
}

static void destroy(struct fl_federation_driver *self)
{
    struct driver *driver = (struct driver *)self;

    fl_transfers_destroy(driver->transfers);
    if (driver->thread) {
        fl_loop_post(driver->loop, stop, driver);
        fl_thread_join(driver->thread);
    }
    hang_up_all(driver);
    fl_http_async_destroy(driver->calls);
    fl_map_destroy(driver->federations);
    fl_loop_destroy(driver->loop);
    fl_lock_destroy(driver->lock);
    free(driver);
}

static const struct fl_federation_ops ops = {
    .name = "http",
    .destroy = destroy,
    .status = status,
    .start_round = start_round,
    .observe_round = observe_round,
    .abort_round = abort_round,
    .put_model = put_model,
    .get_model = get_model,
    .import_model = import_model,
    .children = children,
    .forget = forget,
};

static int open_parts(struct driver *driver, struct fl_error *err)
{
    const struct fl_transfers_options transfers = {.env = driver->options.env,
                                                   .content = driver->options.content,
                                                   .max_bytes = driver->options.max_model_bytes,
                                                   .ca_file = driver->options.import_ca,
                                                   .ended = transfer_ended,
                                                   .user = driver};
    struct fl_http_async_options calls = {0};
    int r = fl_loop_create(&driver->loop, err);

    calls.loop = driver->loop;
    if (r == 0)
        r = fl_http_async_create(&calls, &driver->calls, err);
    if (r == 0)
        r = fl_transfers_create(&transfers, &driver->transfers, err);
    if (r == 0)
        r = fl_thread_start("flops-rounds", run, driver, &driver->thread, err);
    return r;
}

int fl_federation_http_create(const struct fl_federation_http_options *options,
                              struct fl_federation_driver **ret_driver, struct fl_error *err)
{
    struct driver *driver = fl_calloc(1, sizeof(*driver));
    int r;

    *driver = (struct driver){.base.ops = &ops, .options = *options};
    driver->lock = fl_lock_create();
    driver->federations = fl_map_create(federation_free);
    r = open_parts(driver, err);
    if (r < 0) {
        destroy(&driver->base);
        return r;
    }
    *ret_driver = &driver->base;
    return 0;
}
