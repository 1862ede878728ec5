/* Shared by the cache's test and its bench: a client's driver over a store in memory that can lose,
 * double, delay and reorder events, end watches, refuse lists and give old ones, by chance or when
 * told to. */
#ifndef FL_CONTROLLER_CACHE_TESTING_H
#define FL_CONTROLLER_CACHE_TESTING_H

#include "controller/client/client.h"
#include "lib/thread.h"

#include <stdio.h>
#include <stdlib.h>

#define WORKLOADS "workloads.flops.dev"
static const struct fl_gvr workloads = {"flops.dev", "v1", "workloads", true};

#define POCKET_MAX 8

struct world_watch {
    struct world_watch *next;
    struct world *world;
    struct fl_watch *watch;
    void (*wake)(void *user);
    void *user;
    struct fl_event pocket[POCKET_MAX]; /* events that come later; references of our own */
    size_t pocketed;
    struct fl_event given; /* the one returned last, where it was in the pocket */
    bool ended;
};

/* In so many of 1,000. */
struct faults {
    unsigned drop, twice, delay, end_watch, refuse_list, refuse_watch, old_list;
};

struct world {
    struct fl_store *store;
    struct fl_lock *lock; /* of the watches */
    struct world_watch *watches;
    const struct fl_env *chance; /* NULL: no faults but what is told below */
    struct faults faults;
    unsigned drop_next, keep_next, refuse_lists, refuse_watches; /* so many more */
    bool end_watches, give_kept;
    unsigned lists, watches_opened;
};

static bool happens(const struct world *world, unsigned of_1000)
{
    return world->chance && fl_random_below(world->chance, 1000) < of_1000;
}

static bool is_told(unsigned *left)
{
    if (*left == 0)
        return false;
    (*left)--;
    return true;
}

static int world_list(void *self, const struct fl_gvr *gvr, const char *ns,
                      struct fl_list *ret_list, struct fl_error *err)
{
    struct world *world = self;
    struct fl_list_query query = {.resource = WORKLOADS, .ns = ns};

    (void)gvr;
    world->lists++;
    if (is_told(&world->refuse_lists) || happens(world, world->faults.refuse_list))
        return fl_error_set(err, FL_E_UNAVAILABLE, "no list today");
    if (happens(world, world->faults.old_list)) {
        uint64_t now = fl_store_revision(world->store);

        query.revision = now > 0 ? now - fl_random_below(world->chance, now < 20 ? now : 20) : 0;
    }
    return fl_store_list(world->store, &query, ret_list, err);
}

static int world_watch(void *self, const struct fl_gvr *gvr, const char *ns, uint64_t revision,
                       void (*wake)(void *user), void *user, void **ret_watch, struct fl_error *err)
{
    struct world *world = self;
    struct world_watch *watch;

    (void)gvr;
    if (is_told(&world->refuse_watches) || happens(world, world->faults.refuse_watch))
        return fl_error_set(err, FL_E_UNAVAILABLE, "no watch today");
    watch = fl_calloc(1, sizeof(*watch));
    *watch = (struct world_watch){.world = world, .wake = wake, .user = user};
    if (fl_store_watch(world->store, WORKLOADS, ns, revision, &watch->watch, err) < 0) {
        free(watch);
        return err->code;
    }
    world->watches_opened++;
    FL_LOCKED(world->lock);
    watch->next = world->watches;
    world->watches = watch;
    *ret_watch = watch;
    return 0;
}

static void forget_event(struct fl_event *event)
{
    fl_object_unref(event->object);
    fl_object_unref(event->previous);
    *event = (struct fl_event){0};
}

static bool pocket(struct world_watch *watch, const struct fl_event *event)
{
    struct fl_event *kept = &watch->pocket[watch->pocketed];

    if (watch->pocketed == POCKET_MAX)
        return false;
    *kept = *event;
    kept->object = fl_object_ref(event->object);
    kept->previous = event->previous ? fl_object_ref(event->previous) : NULL;
    kept->cache = NULL;
    watch->pocketed++;
    return true;
}

/* Any one of those that were kept back. */
static int give_pocketed(struct world_watch *watch, struct fl_event *ret_event)
{
    const struct fl_env *chance = watch->world->chance;
    size_t i = chance ? fl_random_below(chance, watch->pocketed) : 0;

    watch->given = watch->pocket[i];
    watch->pocket[i] = watch->pocket[--watch->pocketed];
    *ret_event = watch->given;
    return 1;
}

static bool is_lost(struct world_watch *watch, const struct fl_event *event)
{
    struct world *world = watch->world;

    if (is_told(&world->drop_next) || happens(world, world->faults.drop))
        return true;
    if ((is_told(&world->keep_next) || happens(world, world->faults.delay)) && pocket(watch, event))
        return true;
    if (happens(world, world->faults.twice))
        (void)pocket(watch, event);
    return false;
}

static int world_next(void *self, void *user, struct fl_event *ret_event, struct fl_error *err)
{
    struct world *world = self;
    struct world_watch *watch = user;
    int r;

    forget_event(&watch->given);
    if (world->end_watches || happens(world, world->faults.end_watch))
        watch->ended = true;
    if (watch->ended)
        return fl_error_set(err, FL_E_EXPIRED, "too old");
    if (watch->pocketed > 0 && (world->give_kept || happens(world, 300)))
        return give_pocketed(watch, ret_event);
    do
        r = fl_watch_next(watch->watch, ret_event, err);
    while (r == 1 && is_lost(watch, ret_event));
    if (r == 0 && watch->pocketed > 0 && happens(world, 500))
        return give_pocketed(watch, ret_event);
    return r;
}

static void unlink_watch(struct world *world, const struct world_watch *watch)
{
    FL_LOCKED(world->lock);
    for (struct world_watch **at = &world->watches; *at; at = &(*at)->next) {
        if (*at == watch) {
            *at = watch->next;
            return;
        }
    }
}

static void world_close(void *self, void *user)
{
    struct world_watch *watch = user;

    unlink_watch(self, watch);
    forget_event(&watch->given);
    for (size_t i = 0; i < watch->pocketed; i++)
        forget_event(&watch->pocket[i]);
    fl_watch_close(watch->watch);
    free(watch);
}

static void world_destroy(void *self)
{
    (void)self;
}

static int world_call(void *self, const struct fl_api_user *user, const struct fl_api_call *call,
                      int *ret_status, struct fl_bytes **ret_body, struct fl_error *err)
{
    (void)self;
    (void)user;
    (void)call;
    (void)ret_status;
    (void)ret_body;
    return fl_error_set(err, FL_E_UNAVAILABLE, "a cache calls nothing");
}

static const struct fl_apiclient_ops world_ops = {
    .name = "world",
    .destroy = world_destroy,
    .call = world_call,
    .list = world_list,
    .watch = world_watch,
    .watch_next = world_next,
    .watch_close = world_close,
};

static void wake_all(void *user, const struct fl_event *events, size_t count)
{
    struct world *world = user;

    (void)events;
    (void)count;
    FL_LOCKED(world->lock);
    for (struct world_watch *watch = world->watches; watch; watch = watch->next)
        watch->wake(watch->user);
}

static inline void world_init(struct world *world, const struct fl_env *env)
{
    struct fl_error err = {0};

    *world = (struct world){.lock = fl_lock_create()};
    if (fl_store_open(&(struct fl_store_options){.env = env, .driver = "memory"}, &world->store,
                      &err) < 0)
        abort();
    fl_store_on_commit(world->store, wake_all, world);
}

static inline void world_finish(struct world *world)
{
    fl_store_close(FL_TAKE(world->store));
    fl_lock_destroy(world->lock);
}

static inline void world_write(struct world *world, enum fl_store_op op, const char *ns,
                               const char *name, json_t *object)
{
    struct fl_store_write write = {op, {WORKLOADS, ns, name}, object, 0};
    struct fl_error err = {0};

    if (fl_store_write_wait(world->store, &write, NULL, &err) < 0) {
        (void)fprintf(stderr, "write %s/%s: %s\n", ns, name, err.msg);
        abort();
    }
}

#endif
