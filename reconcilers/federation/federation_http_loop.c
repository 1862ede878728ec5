/* What is asked of roots, and what they answer. To a root there is a connection that waits for news
 * of the whole, one for each round that is followed, and one for all that is told to it. */
#include "reconcilers/federation/federation_http_internal.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS        75000 /* a root answers after 30 s by itself */
#define TELL_MS        20000
#define FIRST_PAUSE_MS 50
#define LAST_PAUSE_MS  5000
#define GLANCE_MS      1000 /* between two looks at a root that holds none */

static int64_t now_ms(const struct driver *driver)
{
    return fl_monotonic_ms(driver->options.env);
}

bool fl_http_round_is_over(const struct round *round)
{
    const enum fl_round_phase phase = round->report.phase;

    return round->known == FL_FEDERATION_KNOWN &&
           (phase == FL_ROUND_COMMITTED || phase == FL_ROUND_FAILED || phase == FL_ROUND_ABORTED);
}

void fl_http_round_free(struct round *round)
{
    TAILQ_REMOVE(&round->federation->rounds, round, all);
    round->federation->round_count--;
    fl_arena_destroy(round->arena);
    fl_bytes_unref(round->order);
    free(round);
}

/* --- on the loop: what is heard ------------------------------------------------------------- */

/* Without the lock. */
void fl_http_tell(struct driver *driver, const char *ns, const char *name)
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
void fl_http_doubt_all(struct federation *federation)
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
        fl_http_tell(driver, ns, name);
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
        fl_http_doubt_all(federation);
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
    if (!round->ask && (fl_http_round_is_over(round) || round->known == FL_FEDERATION_ABSENT ||
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

void fl_http_hang_up(struct federation *federation)
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

    fl_http_hang_up(federation);
    federation->moved = false;
    federation->pause_ms = federation->down_us = 0;
    federation->has_status = false;
    federation->status.version = 0;
    fl_http_doubt_all(federation);
    TAILQ_FOREACH(round, &federation->rounds, all)
        if (!fl_http_round_is_over(round))
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

void fl_http_on_told(void *user)
{
    struct driver *driver = user;
    struct federation *federation;
    FL_LOCKED(driver->lock);

    while (!driver->stopping && (federation = next_dirty(driver))) {
        if (federation->forgotten) {
            fl_http_hang_up(federation);
            fl_map_remove(driver->federations, federation->uid);
            continue;
        }
        if (!federation->again)
            federation->again = fl_timer_create(driver->loop, on_again, federation);
        attend(federation);
        federation->dirty = false;
    }
}
