/* Routers over HTTP: one thread with a loop for all of them. What callers see is a copy behind a
 * lock; everything else belongs to the thread. */
#include "lib/http_async.h"
#include "lib/map.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "reconcilers/inferenceserver/router_driver.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS        45000 /* the router answers after 30 s by itself */
#define PUT_MS         10000
#define FIRST_PAUSE_MS 50
#define LAST_PAUSE_MS  5000
#define STATUS_BYTES   ((size_t)4 * 1024 * 1024)

struct driver {
    struct fl_router_driver base;
    const struct fl_env *env;
    fl_router_changed_fn *changed;
    void *user;
    struct fl_loop *loop;
    struct fl_thread *thread;
    struct fl_http_async *calls; /* made and destroyed on the thread */
    struct fl_lock *lock;        /* routers, and what is marked below */
    struct fl_map *routers;      /* uid → struct router */
    bool stopping;
};

struct router {
    struct driver *driver;
    char *uid;
    /* Behind the lock. */
    char *ns, *name, *address, *token;
    json_t *wanted, *status; /* status NULL: not known */
    char message[FL_ERROR_TEXT_MAX];
    bool forgotten, dirty;
    int64_t fresh_in_ms; /* < 0: nobody asks */
    /* The thread's. */
    char *called, *called_token; /* whom `client` calls */
    struct fl_http_client *client;
    struct fl_http_async_request *poll, *put, *glance;
    struct fl_timer *again, *later; /* to poll; to glance */
    bool glancing;                  /* it is due, or under way */
    int64_t pause_ms, change, put_version;
};

static void router_free(void *value)
{
    struct router *router = value;

    fl_http_client_destroy(router->client);
    fl_timer_destroy(router->again);
    fl_timer_destroy(router->later);
    json_decref(router->wanted);
    json_decref(router->status);
    free(router->uid);
    free(router->ns);
    free(router->name);
    free(router->address);
    free(router->token);
    free(router->called);
    free(router->called_token);
    free(router);
}

/* On the thread */

static void tell(struct router *router)
{
    FL_CLEANUP(fl_freep) char *ns = NULL;
    FL_CLEANUP(fl_freep) char *name = NULL;

    fl_lock_take(router->driver->lock);
    ns = fl_strdup(router->ns);
    name = fl_strdup(router->name);
    fl_lock_release(router->driver->lock);
    router->driver->changed(router->driver->user, ns, name);
}

static void poll_status(struct router *router);
static void put_wanted(struct router *router);

static void on_again(void *user)
{
    poll_status(user);
}

static void pause_then_again(struct router *router)
{
    router->pause_ms = router->pause_ms ? router->pause_ms * 2 : FIRST_PAUSE_MS;
    if (router->pause_ms > LAST_PAUSE_MS)
        router->pause_ms = LAST_PAUSE_MS;
    fl_timer_arm(router->again, router->pause_ms);
}

/* true: it is news. */
static bool lost(struct router *router, const char *why)
{
    FL_LOCKED(router->driver->lock);
    bool was_known = router->status != NULL;

    json_decref(FL_TAKE(router->status));
    (void)snprintf(router->message, sizeof(router->message), "%s", why);
    return was_known;
}

/* Answers overtake each other, since there are several calls at a time. A router that was started
 * anew has another life, and counts from the beginning. */
static bool is_overtaken(const struct router *router, const json_t *status)
{
    return router->status && fl_json_int(status, "change", 0) < router->change &&
           fl_json_int(status, "life", 0) == fl_json_int(router->status, "life", 0);
}

static bool heard(struct router *router, json_t *status)
{
    FL_LOCKED(router->driver->lock);
    const int64_t change = fl_json_int(status, "change", 0);
    bool news;

    if (is_overtaken(router, status))
        return false;
    news = !router->status || change != router->change;
    router->change = change;
    json_decref(router->status);
    router->status = json_incref(status);
    return news;
}

static int read_status(const struct fl_http_answer *answer, json_t **ret_status,
                       struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = STATUS_BYTES, .max_depth = 8};

    if (answer->status != 200)
        return fl_error_set(err, fl_error_from_status(NULL, answer->status),
                            "the router answers with status %d", answer->status);
    return fl_json_parse((const char *)answer->body->data, answer->body->len, &limits, NULL, NULL,
                         ret_status, err);
}

/* true: it is news. */
static bool take_answer(struct router *router, const struct fl_http_answer *answer,
                        const struct fl_error *err)
{
    struct fl_error why = {0};
    FL_JSON status = NULL;

    if (!answer || read_status(answer, &status, &why) < 0)
        return lost(router, answer ? why.msg : err->msg);
    router->pause_ms = 0;
    return heard(router, status);
}

static void on_polled(void *user, const struct fl_http_answer *answer, const struct fl_error *err)
{
    struct router *router = user;

    router->poll = NULL;
    if (take_answer(router, answer, err))
        tell(router);
    put_wanted(router);
    if (router->status)
        poll_status(router);
    else
        pause_then_again(router);
}

static void on_glanced(void *user, const struct fl_http_answer *answer, const struct fl_error *err)
{
    struct router *router = user;

    router->glance = NULL;
    router->glancing = false;
    (void)take_answer(router, answer, err);
    tell(router);
}

static void on_put(void *user, const struct fl_http_answer *answer, const struct fl_error *err)
{
    struct router *router = user;

    router->put = NULL;
    if (answer && (answer->status == 409 || answer->status == 422)) {
        tell(router); /* the caller sees another version than it wanted */
    } else {
        if (!answer || answer->status != 200)
            router->put_version = 0; /* said again once it is heard of */
        if (take_answer(router, answer, err))
            tell(router);
    }
    put_wanted(router); /* another one may have been said meanwhile */
}

static struct fl_http_async_request *call(struct router *router, const char *method,
                                          const char *target, struct fl_bytes *body,
                                          int64_t timeout_ms, fl_http_answered_fn *done)
{
    const struct fl_http_async_call what = {.method = method,
                                            .target = target,
                                            .body = body,
                                            .timeout_ms = timeout_ms,
                                            .max_response_bytes = STATUS_BYTES};

    return fl_http_async_start(router->driver->calls, router->client, &what, done, router);
}

static void poll_status(struct router *router)
{
    char target[64] = "/v1/routes";

    if (router->poll || !router->client)
        return;
    if (router->status)
        (void)snprintf(target, sizeof(target), "/v1/routes?after=%" PRId64, router->change);
    router->poll = call(router, "GET", target, NULL, POLL_MS, on_polled);
}

static void put_wanted(struct router *router)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    int64_t version = 0;

    if (router->put || !router->client)
        return;
    fl_lock_take(router->driver->lock);
    version = fl_json_int(router->wanted, "version", 0);
    if (version != router->put_version)
        body = fl_json_to_bytes(router->wanted);
    fl_lock_release(router->driver->lock);
    if (!body)
        return;
    router->put_version = version;
    router->put = call(router, "PUT", "/v1/routes", body, PUT_MS, on_put);
}

static void hang_up(struct router *router)
{
    struct fl_http_async_request **calls[] = {&router->poll, &router->put, &router->glance};

    for (size_t i = 0; i < FL_COUNT_OF(calls); i++)
        if (*calls[i])
            fl_http_async_cancel(FL_TAKE(*calls[i]));
    if (router->again)
        fl_timer_cancel(router->again);
    if (router->later)
        fl_timer_cancel(router->later);
    router->glancing = false;
    fl_http_client_destroy(FL_TAKE(router->client));
}

/* Another address or token: whatever was known is of somebody else. */
static void turn_to(struct router *router)
{
    struct fl_http_client_options options = {.user_agent = "flops-controller"};
    bool moved;

    fl_lock_take(router->driver->lock);
    moved = !fl_streq(router->called, router->address) ||
            !fl_streq(router->called_token, router->token);
    if (moved) {
        hang_up(router);
        free(router->called);
        free(router->called_token);
        router->called = fl_strdup(router->address);
        router->called_token = router->token ? fl_strdup(router->token) : NULL;
        json_decref(FL_TAKE(router->status));
        router->pause_ms = router->put_version = 0;
    }
    fl_lock_release(router->driver->lock);
    if (!moved)
        return;
    options.base_url = router->called;
    options.bearer_token = router->called_token;
    (void)fl_http_client_create(&options, &router->client, NULL);
}

static void on_later(void *user)
{
    struct router *router = user;

    if (router->client)
        router->glance = call(router, "GET", "/v1/routes", NULL, PUT_MS, on_glanced);
}

/* One that is due already is not put off. */
static void glance_later(struct router *router)
{
    int64_t in_ms;

    fl_lock_take(router->driver->lock);
    in_ms = router->fresh_in_ms;
    router->fresh_in_ms = -1;
    fl_lock_release(router->driver->lock);
    if (in_ms < 0 || router->glancing || !router->client)
        return;
    router->glancing = true;
    fl_timer_arm(router->later, in_ms);
}

static void attend(struct router *router)
{
    if (!router->again) {
        router->again = fl_timer_create(router->driver->loop, on_again, router);
        router->later = fl_timer_create(router->driver->loop, on_later, router);
    }
    turn_to(router);
    put_wanted(router);
    poll_status(router);
    glance_later(router);
}

/* The next one that somebody said something about. */
static struct router *next_dirty(struct driver *driver)
{
    void *cursor = NULL, *value;
    FL_LOCKED(driver->lock);

    while (fl_map_next(driver->routers, &cursor, NULL, &value)) {
        struct router *router = value;

        if (router->dirty || router->forgotten) {
            router->dirty = false;
            return router;
        }
    }
    return NULL;
}

static void on_told(void *user)
{
    struct driver *driver = user;
    struct router *router;

    while (!driver->stopping && (router = next_dirty(driver))) {
        if (!router->forgotten) {
            attend(router);
            continue;
        }
        hang_up(router);
        fl_lock_take(driver->lock);
        fl_map_remove(driver->routers, router->uid);
        fl_lock_release(driver->lock);
    }
}

static void run(void *user)
{
    struct driver *driver = user;

    fl_loop_run(driver->loop);
}

/* Any thread */

static void replace(char **text, const char *with)
{
    if (fl_streq(*text, with))
        return;
    free(*text);
    *text = with ? fl_strdup(with) : NULL;
}

/* With the lock. */
static struct router *router_of(struct driver *driver, const struct fl_router_at *at)
{
    struct router *router = fl_map_get(driver->routers, at->uid);

    if (!router) {
        router = fl_calloc(1, sizeof(*router));
        router->driver = driver;
        router->uid = fl_strdup(at->uid);
        router->fresh_in_ms = -1;
        (void)snprintf(router->message, sizeof(router->message), "it was not heard of yet");
        fl_map_put(driver->routers, at->uid, router);
        router->dirty = true;
    }
    router->dirty |= !fl_streq(router->address, at->address) ||
                     !fl_streq(router->token, at->token) || router->forgotten;
    router->forgotten = false;
    replace(&router->ns, at->ns);
    replace(&router->name, at->name);
    replace(&router->address, at->address);
    replace(&router->token, at->token);
    return router;
}

static int observe(struct fl_router_driver *self, const struct fl_router_at *at,
                   int64_t fresh_in_ms, struct fl_arena *arena, struct fl_router_view *ret_view,
                   struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    FL_LOCKED(driver->lock);
    struct router *router = router_of(driver, at);
    int r = 0;

    *ret_view = (struct fl_router_view){0};
    if (router->status)
        r = fl_router_view_read(arena, router->status, ret_view, err);
    else
        ret_view->message = fl_arena_strdup(arena, router->message);
    if (fresh_in_ms >= 0) {
        router->fresh_in_ms = fresh_in_ms;
        router->dirty = true;
    }
    if (router->dirty)
        fl_loop_post(driver->loop, on_told, driver);
    return r;
}

static int put(struct fl_router_driver *self, const struct fl_router_at *at, const json_t *table,
               struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    FL_LOCKED(driver->lock);
    struct router *router = router_of(driver, at);

    (void)err;
    if (router->wanted && json_equal(router->wanted, table))
        return 0;
    json_decref(router->wanted);
    router->wanted = json_deep_copy(table);
    router->dirty = true;
    fl_loop_post(driver->loop, on_told, driver);
    return 0;
}

static void forget(struct fl_router_driver *self, const char *uid)
{
    struct driver *driver = (struct driver *)self;
    FL_LOCKED(driver->lock);
    struct router *router = fl_map_get(driver->routers, uid);

    if (!router)
        return;
    router->forgotten = true;
    fl_loop_post(driver->loop, on_told, driver);
}

static void stop(void *user)
{
    struct driver *driver = user;

    driver->stopping = true;
    fl_loop_stop(driver->loop);
}

static void hang_up_all(struct driver *driver)
{
    void *cursor = NULL, *value;

    while (fl_map_next(driver->routers, &cursor, NULL, &value))
        hang_up(value);
}

static void destroy(struct fl_router_driver *self)
{
    struct driver *driver = (struct driver *)self;

    if (driver->thread) {
        fl_loop_post(driver->loop, stop, driver);
        fl_thread_join(driver->thread);
    }
    if (driver->routers)
        hang_up_all(driver);
    fl_http_async_destroy(driver->calls);
    fl_map_destroy(driver->routers);
    fl_loop_destroy(driver->loop);
    fl_lock_destroy(driver->lock);
    free(driver);
}

static const struct fl_router_ops ops = {
    .name = "http", .destroy = destroy, .observe = observe, .put = put, .forget = forget};

int fl_router_http_create(const struct fl_env *env, fl_router_changed_fn *changed, void *user,
                          struct fl_router_driver **ret_driver, struct fl_error *err)
{
    struct driver *driver = fl_calloc(1, sizeof(*driver));
    struct fl_http_async_options calls = {0};
    int r;

    *driver = (struct driver){.base.ops = &ops, .env = env, .changed = changed, .user = user};
    driver->lock = fl_lock_create();
    driver->routers = fl_map_create(router_free);
    r = fl_loop_create(&driver->loop, err);
    calls.loop = driver->loop;
    if (r == 0)
        r = fl_http_async_create(&calls, &driver->calls, err);
    if (r == 0)
        r = fl_thread_start("flops-routers", run, driver, &driver->thread, err);
    if (r < 0) {
        destroy(&driver->base);
        return r;
    }
    *ret_driver = &driver->base;
    return 0;
}
