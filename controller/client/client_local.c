/* The client of the process that has the API server.
 *
 * A call is handed to the loop and waited for. It belongs to both sides (references), so that one
 * who has waited long enough can leave: what the loop has not begun by then is not begun, a stream
 * is hung up on, and a write that is under way takes place or not, which nobody is told.
 *
 * Lists and watches go straight to the store. One commit hook knows all watches and wakes those for
 * which something has come; whether a watch wants that is a flag of its own, so that reading one
 * takes no lock but the store's. */
#include "controller/apiserver/apiserver.h"
#include "controller/client/client.h"
#include "lib/loop.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#ifndef __clang__ /* who frees a call depends on a count that is beyond gcc's analyser */
#pragma GCC diagnostic ignored "-Wanalyzer-use-after-free"
#endif

#define MAX_STREAM_BYTES ((size_t)4 * 1024 * 1024)

struct local_watch {
    TAILQ_ENTRY(local_watch) link;
    struct fl_watch *cursor;
    char *resource, *ns; /* ns NULL: all */
    atomic_bool idle;    /* nothing was left at the last read: wake at the next change */
    void (*wake)(void *user);
    void *user;
};

struct local {
    atomic_int refs; /* the client's, and one a call that the loop still holds */
    const struct fl_env *env;
    struct fl_loop *loop;
    struct fl_store *store;
    struct fl_apiserver *server;
    atomic_bool closed;
    struct fl_lock *lock; /* the list of watches; held while they are woken */
    TAILQ_HEAD(, local_watch) watches;
};

struct call {
    atomic_int refs;
    struct local *local;
    struct fl_arena *arena; /* of what is asked */
    struct fl_apiserver_ask ask;
    struct fl_http_asked *asked; /* loop thread: while it waits for the server's answer */

    struct fl_lock *lock; /* the rest */
    struct fl_signal *over;
    bool answered, abandoned;
    int status;
    struct fl_bytes *body;
    struct fl_error err; /* where no answer came */
};

static struct local *local_ref(struct local *local)
{
    (void)atomic_fetch_add(&local->refs, 1);
    return local;
}

static void local_unref(struct local *local)
{
    if (atomic_fetch_sub(&local->refs, 1) > 1)
        return;
    fl_lock_destroy(local->lock);
    free(local);
}

/* Calls. */

static struct call *call_ref(struct call *call)
{
    (void)atomic_fetch_add(&call->refs, 1);
    return call;
}

static void call_unref(struct call *call)
{
    if (atomic_fetch_sub(&call->refs, 1) > 1)
        return;
    fl_bytes_unref(call->ask.body);
    fl_bytes_unref(call->body);
    fl_signal_destroy(call->over);
    fl_lock_destroy(call->lock);
    fl_arena_destroy(call->arena);
    local_unref(call->local);
    free(call);
}
FL_DEFINE_CLEANUP(struct call, call_unref)

static struct call *call_create(struct local *local, const struct fl_api_user *user,
                                const struct fl_api_call *asked)
{
    struct call *call = fl_calloc(1, sizeof(*call));
    struct fl_arena *arena = fl_arena_create();
    const char **groups = fl_new_array(arena, const char *, user->group_count);

    for (size_t i = 0; i < user->group_count; i++)
        groups[i] = fl_arena_strdup(arena, user->groups[i]);
    atomic_init(&call->refs, 1);
    call->local = local_ref(local);
    call->arena = arena;
    call->ask = (struct fl_apiserver_ask){
        .method = fl_arena_strdup(arena, asked->method),
        .target = fl_arena_strdup(arena, asked->target),
        .user = fl_arena_strdup(arena, user->name),
        .groups = groups,
        .group_count = user->group_count,
        .content_type = asked->content_type ? fl_arena_strdup(arena, asked->content_type) : NULL,
        .body = asked->body ? fl_bytes_new(asked->body, asked->body_len) : NULL,
        .max_stream_bytes = MAX_STREAM_BYTES,
    };
    call->lock = fl_lock_create();
    call->over = fl_signal_create();
    return call;
}

/* The loop's side; it ends with the loop's reference. */

static void answered(void *user, const struct fl_http_answer *answer, const struct fl_error *err)
{
    struct call *call = user;

    call->asked = NULL;
    fl_lock_take(call->lock);
    if (answer) {
        call->status = answer->status;
        call->body = fl_bytes_ref(answer->body);
    } else {
        call->err = *err;
    }
    call->answered = true;
    fl_signal_one(call->over);
    fl_lock_release(call->lock);
    call_unref(call);
}

static bool is_abandoned(struct call *call)
{
    FL_LOCKED(call->lock);

    return call->abandoned;
}

static void begin(void *user)
{
    struct call *call = user;
    struct fl_error err = {0};
    struct fl_http_asked *asked;

    if (atomic_load(&call->local->closed)) {
        (void)fl_error_set(&err, FL_E_UNAVAILABLE, "the client was closed");
        answered(call, NULL, &err);
        return;
    }
    if (is_abandoned(call)) {
        call_unref(call);
        return;
    }
    (void)call_ref(call); /* `answered` may run, and let go, before there is anything to keep */
    asked = fl_apiserver_ask(call->local->server, &call->ask, answered, call);
    if (asked)
        call->asked = asked;
    call_unref(call);
}

/* Comes after `begin`, if that is still to come. */
static void leave(void *user)
{
    struct call *call = user;

    if (call->asked) {
        fl_http_server_unask(FL_TAKE(call->asked));
        call_unref(call); /* `answered` will not */
    }
    call_unref(call);
}

/* The caller's side. */

static void wait_in_threads(struct call *call, int64_t timeout_ms)
{
    int64_t end_us = fl_machine_monotonic_us() + timeout_ms * 1000, left_ms;

    assert(!fl_loop_is_running_here(call->local->loop)); /* it would wait for itself */
    fl_loop_post(call->local->loop, begin, call_ref(call));
    fl_lock_take(call->lock);
    while (!call->answered && (left_ms = (end_us - fl_machine_monotonic_us()) / 1000) > 0)
        (void)fl_signal_wait(call->over, call->lock, left_ms);
    call->abandoned = !call->answered;
    fl_lock_release(call->lock);
    if (call->abandoned)
        fl_loop_post(call->local->loop, leave, call_ref(call));
}

/* Where nothing is left to do at this time, time alone can bring the answer, and it does not move
 * while somebody waits. */
static void wait_by_turning(struct call *call)
{
    begin(call_ref(call));
    while (!call->answered && fl_loop_step(call->local->loop) > 0)
        ;
    call->abandoned = !call->answered;
    if (call->abandoned)
        leave(call_ref(call));
}

static int local_call(void *self, const struct fl_api_user *user, const struct fl_api_call *asked,
                      int *ret_status, struct fl_bytes **ret_body, struct fl_error *err)
{
    struct local *local = self;
    FL_CLEANUP(call_unrefp) struct call *call = call_create(local, user, asked);

    if (fl_loop_is_simulated(local->loop))
        wait_by_turning(call);
    else
        wait_in_threads(call, asked->timeout_ms);
    if (call->abandoned)
        return fl_error_set(err, FL_E_TIMEOUT, "no answer to %s %.200s within %d ms", asked->method,
                            asked->target, (int)asked->timeout_ms);
    if (!call->body)
        return fl_error_set(err, call->err.code, "%s", call->err.msg);
    *ret_status = call->status;
    *ret_body = FL_TAKE(call->body);
    return 0;
}

/* Lists and watches. */

static char *storage_name(const struct fl_gvr *gvr)
{
    return *gvr->group ? fl_asprintf("%s.%s", gvr->plural, gvr->group) : fl_strdup(gvr->plural);
}

static int local_list(void *self, const struct fl_gvr *gvr, const char *ns,
                      struct fl_list *ret_list, struct fl_error *err)
{
    struct local *local = self;
    FL_CLEANUP(fl_freep) char *resource = storage_name(gvr);
    struct fl_list_query query = {.resource = resource, .ns = ns};

    return fl_store_list(local->store, &query, ret_list, err);
}

static bool concerns(const struct local_watch *watch, const struct fl_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(watch->resource, events[i].object->resource) == 0 &&
            (!watch->ns || strcmp(watch->ns, events[i].object->ns) == 0))
            return true;
    return false;
}

static void on_commit(void *user, const struct fl_event *events, size_t count)
{
    struct local *local = user;
    struct local_watch *watch;

    FL_LOCKED(local->lock);
    TAILQ_FOREACH(watch, &local->watches, link) {
        if (concerns(watch, events, count) && atomic_exchange(&watch->idle, false))
            watch->wake(watch->user);
    }
}

static int local_watch(void *self, const struct fl_gvr *gvr, const char *ns, uint64_t revision,
                       void (*wake)(void *user), void *user, void **ret_watch, struct fl_error *err)
{
    struct local *local = self;
    FL_CLEANUP(fl_freep) char *resource = storage_name(gvr);
    struct fl_watch *cursor = NULL;
    struct local_watch *watch;
    int r = fl_store_watch(local->store, resource, ns, revision, &cursor, err);

    if (r < 0)
        return r;
    watch = fl_calloc(1, sizeof(*watch));
    watch->cursor = cursor;
    watch->resource = FL_TAKE(resource);
    watch->ns = ns ? fl_strdup(ns) : NULL;
    watch->wake = wake;
    watch->user = user;
    atomic_init(&watch->idle, true);
    fl_lock_take(local->lock);
    TAILQ_INSERT_TAIL(&local->watches, watch, link);
    fl_lock_release(local->lock);
    *ret_watch = watch;
    return 0;
}

/* The flag goes up before the look: a change that comes between the two wakes in vain, rather than
 * nobody. */
static int local_watch_next(void *self, void *handle, struct fl_event *ret_event,
                            struct fl_error *err)
{
    struct local_watch *watch = handle;
    int r;

    (void)self;
    atomic_store(&watch->idle, true);
    r = fl_watch_next(watch->cursor, ret_event, err);
    if (r != 0)
        atomic_store(&watch->idle, false);
    return r;
}

static void local_watch_close(void *self, void *handle)
{
    struct local *local = self;
    struct local_watch *watch = handle;

    fl_lock_take(local->lock);
    TAILQ_REMOVE(&local->watches, watch, link);
    fl_lock_release(local->lock);
    fl_watch_close(watch->cursor);
    free(watch->resource);
    free(watch->ns);
    free(watch);
}

/* Calls that were abandoned may still be with the loop; they keep what they need. */
static void local_destroy(void *self)
{
    struct local *local = self;

    assert(TAILQ_EMPTY(&local->watches));
    atomic_store(&local->closed, true);
    fl_store_off_commit(local->store, on_commit, local);
    local_unref(local);
}

static const struct fl_apiclient_ops local_ops = {
    .name = "local",
    .destroy = local_destroy,
    .call = local_call,
    .list = local_list,
    .watch = local_watch,
    .watch_next = local_watch_next,
    .watch_close = local_watch_close,
};

struct fl_apiclient *fl_apiclient_create_local(const struct fl_env *env, struct fl_loop *loop,
                                               struct fl_store *store, struct fl_apiserver *server)
{
    struct local *local = fl_calloc(1, sizeof(*local));

    atomic_init(&local->refs, 1);
    local->env = env;
    local->loop = loop;
    local->store = store;
    local->server = server;
    local->lock = fl_lock_create();
    TAILQ_INIT(&local->watches);
    fl_store_on_commit(store, on_commit, local);
    return fl_apiclient_create(env, &local_ops, local);
}
