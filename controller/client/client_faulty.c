/* A client that fails when told to. */
#include "controller/client/client_testing.h"

#include "lib/map.h"
#include "lib/str.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/queue.h>

struct faulty_watch {
    TAILQ_ENTRY(faulty_watch) link;
    void *inner;
    struct fl_gvr gvr;
    char *ns; /* NULL: all */
    void (*wake)(void *user);
    void *user;
    struct fl_event event; /* read from the inner watch and not handed out (so often) */
    int owed;              /* how often it still has to be handed out */
    bool held;             /* … and has its fate yet to be decided */
};

struct faulty {
    const struct fl_apiclient_ops *ops; /* of what is wrapped */
    void *inner;
    struct fl_client_faults *faults;
    struct fl_map *lists; /* the last one served, by kind and namespace */
    TAILQ_HEAD(, faulty_watch) watches;
};

/* What goes wrong now: 0, FL_CLIENT_STALE, or the error, which is set. */
static int decide(struct faulty *faulty, const struct fl_client_moment *moment,
                  struct fl_error *err)
{
    struct fl_client_faults *faults = faulty->faults;
    int code = 0;

    if (!faults->crashed) {
        faults->moments++;
        code = faults->moment ? faults->moment(faults->user, moment) : 0;
        faults->crashed = code == FL_CLIENT_CRASH;
    }
    if (faults->crashed)
        return fl_error_set(err, FL_CLIENT_CRASH, "the process has crashed");
    if (code == 0 || code == FL_CLIENT_STALE)
        return code;
    return fl_error_set(err, code, "a fault was wanted here: %s", fl_error_reason(code));
}

/* The second moment: what was done stays done, and `result` is what the caller would have got. */
static int decide_after(struct faulty *faulty, struct fl_client_moment *moment, int result,
                        struct fl_error *err)
{
    struct fl_error fault = {0};
    int r;

    moment->after = true;
    moment->result = result;
    r = decide(faulty, moment, &fault);
    assert(r != FL_CLIENT_STALE);
    return r < 0 ? fl_error_set(err, r, "%s", fault.msg) : 0;
}

static int faulty_call(void *self, const struct fl_api_user *user, const struct fl_api_call *call,
                       int *ret_status, struct fl_bytes **ret_body, struct fl_error *err)
{
    struct faulty *faulty = self;
    struct fl_client_moment moment = {.use = FL_CLIENT_CALL, .call = call};
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    int status = 0, r = decide(faulty, &moment, err), fault;

    assert(r != FL_CLIENT_STALE);
    if (r < 0)
        return r;
    r = faulty->ops->call(faulty->inner, user, call, &status, &body, err);
    fault = decide_after(faulty, &moment, r < 0 ? r : status, err);
    if (r < 0 || fault < 0)
        return fault < 0 ? fault : r;
    *ret_status = status;
    *ret_body = FL_TAKE(body);
    return 0;
}

/* Lists. */

static void list_destroy(void *user)
{
    fl_list_finish(user);
    free(user);
}

static void list_copy(const struct fl_list *list, struct fl_list *ret_list)
{
    *ret_list = *list;
    ret_list->objects = fl_calloc(list->count + 1, sizeof(struct fl_object *));
    for (size_t i = 0; i < list->count; i++)
        ret_list->objects[i] = fl_object_ref(list->objects[i]);
}

static void remember(struct faulty *faulty, const char *key, const struct fl_list *list)
{
    struct fl_list *copy = fl_malloc(sizeof(*copy));

    list_copy(list, copy);
    fl_map_put(faulty->lists, key, copy);
}

static int real_list(struct faulty *faulty, struct fl_client_moment *moment, const char *key,
                     struct fl_list *ret_list, struct fl_error *err)
{
    struct fl_list list = {0};
    int r = faulty->ops->list(faulty->inner, moment->gvr, moment->ns, &list, err);
    int fault = decide_after(faulty, moment, r, err);

    if (r < 0 || fault < 0) {
        if (r >= 0)
            fl_list_finish(&list);
        return fault < 0 ? fault : r;
    }
    remember(faulty, key, &list);
    *ret_list = list;
    return 0;
}

static int faulty_list(void *self, const struct fl_gvr *gvr, const char *ns,
                       struct fl_list *ret_list, struct fl_error *err)
{
    struct faulty *faulty = self;
    struct fl_client_moment moment = {.use = FL_CLIENT_LIST, .gvr = gvr, .ns = ns};
    FL_CLEANUP(fl_freep)
    char *key = fl_asprintf("%s.%s/%s", gvr->plural, gvr->group, fl_str_or(ns, ""));
    const struct fl_list *old = fl_map_get(faulty->lists, key);
    int r = decide(faulty, &moment, err);

    if (r < 0 && r != FL_CLIENT_STALE)
        return r;
    if (r == 0 || !old)
        return real_list(faulty, &moment, key, ret_list, err);
    list_copy(old, ret_list);
    return 0;
}

/* Watches. */

static int faulty_watch(void *self, const struct fl_gvr *gvr, const char *ns, uint64_t revision,
                        void (*wake)(void *user), void *user, void **ret_watch,
                        struct fl_error *err)
{
    struct faulty *faulty = self;
    struct fl_client_moment moment = {.use = FL_CLIENT_WATCH, .gvr = gvr, .ns = ns};
    struct faulty_watch *watch;
    void *inner = NULL;
    int r = decide(faulty, &moment, err), fault;

    assert(r != FL_CLIENT_STALE);
    if (r < 0)
        return r;
    r = faulty->ops->watch(faulty->inner, gvr, ns, revision, wake, user, &inner, err);
    fault = decide_after(faulty, &moment, r, err);
    if (r < 0 || fault < 0) {
        if (r >= 0)
            faulty->ops->watch_close(faulty->inner, inner);
        return fault < 0 ? fault : r;
    }
    watch = fl_calloc(1, sizeof(*watch));
    watch->inner = inner;
    watch->gvr = *gvr;
    watch->ns = ns ? fl_strdup(ns) : NULL;
    watch->wake = wake;
    watch->user = user;
    TAILQ_INSERT_TAIL(&faulty->watches, watch, link);
    *ret_watch = watch;
    return 0;
}

/* Sees to it that the watch owes an event, if there is one: 1; 0: none now, or held back. The
 * inner watch's references last until its next read, so the event is kept as it is. */
static int fetch(struct faulty *faulty, struct faulty_watch *watch, struct fl_error *err)
{
    const struct fl_client_faults *faults = faulty->faults;

    while (watch->owed == 0) {
        enum fl_client_fate fate = FL_CLIENT_PASS;
        int r = 1;

        if (!watch->held)
            r = faulty->ops->watch_next(faulty->inner, watch->inner, &watch->event, err);
        if (r <= 0)
            return r;
        if (faults->event)
            fate = faults->event(faults->user, &watch->gvr, &watch->event);
        watch->held = fate == FL_CLIENT_HOLD;
        if (watch->held)
            return 0;
        watch->owed = fate == FL_CLIENT_DROP ? 0 : fate == FL_CLIENT_DOUBLE ? 2 : 1;
    }
    return 1;
}

static int faulty_watch_next(void *self, void *handle, struct fl_event *ret_event,
                             struct fl_error *err)
{
    struct faulty *faulty = self;
    struct faulty_watch *watch = handle;
    struct fl_client_moment moment = {
        .use = FL_CLIENT_WATCH_NEXT, .gvr = &watch->gvr, .ns = watch->ns};
    int r = decide(faulty, &moment, err), fault;

    assert(r != FL_CLIENT_STALE);
    if (r < 0)
        return r;
    r = fetch(faulty, watch, err);
    fault = decide_after(faulty, &moment, r, err);
    if (r <= 0 || fault < 0)
        return fault < 0 ? fault : r;
    watch->owed--;
    *ret_event = watch->event;
    return 1;
}

static void faulty_watch_close(void *self, void *handle)
{
    struct faulty *faulty = self;
    struct faulty_watch *watch = handle;

    TAILQ_REMOVE(&faulty->watches, watch, link);
    faulty->ops->watch_close(faulty->inner, watch->inner);
    free(watch->ns);
    free(watch);
}

static void faulty_destroy(void *self)
{
    struct faulty *faulty = self;

    assert(TAILQ_EMPTY(&faulty->watches));
    fl_map_destroy(faulty->lists);
    free(faulty);
}

static const struct fl_apiclient_ops faulty_ops = {
    .name = "faulty",
    .destroy = faulty_destroy,
    .call = faulty_call,
    .list = faulty_list,
    .watch = faulty_watch,
    .watch_next = faulty_watch_next,
    .watch_close = faulty_watch_close,
};

struct fl_apiclient *fl_apiclient_create_faulty(const struct fl_env *env,
                                                struct fl_apiclient *client,
                                                struct fl_client_faults *faults)
{
    struct faulty *faulty = fl_calloc(1, sizeof(*faulty));

    faulty->ops = fl_apiclient_driver(client, &faulty->inner);
    faulty->faults = faults;
    faulty->lists = fl_map_create(list_destroy);
    TAILQ_INIT(&faulty->watches);
    return fl_apiclient_create(env, &faulty_ops, faulty);
}

static struct faulty *faulty_of(struct fl_apiclient *client)
{
    void *self = NULL;

    if (fl_apiclient_driver(client, &self) != &faulty_ops)
        abort();
    return self;
}

void fl_client_faults_release(struct fl_apiclient *faulty)
{
    struct faulty *own = faulty_of(faulty);
    struct faulty_watch *watch, *next;

    for (watch = TAILQ_FIRST(&own->watches); watch; watch = next) {
        next = TAILQ_NEXT(watch, link);
        if (watch->held)
            watch->wake(watch->user);
    }
}

bool fl_client_faults_holding(struct fl_apiclient *faulty)
{
    const struct faulty *own = faulty_of(faulty);
    const struct faulty_watch *watch;

    TAILQ_FOREACH(watch, &own->watches, link) {
        if (watch->held)
            return true;
    }
    return false;
}
