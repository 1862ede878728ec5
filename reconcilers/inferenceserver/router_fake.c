/* Routers in memory: the real rules of choosing and counting, without sockets. */
#include "reconcilers/inferenceserver/router_fake.h"

#include "lib/map.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <stdlib.h>

struct fl_router_fake {
    struct fl_router_driver base;
    fl_router_changed_fn *changed;
    void *user;
    struct fl_lock *lock;
    struct fl_map *routers; /* address → struct fl_routes */
    bool unreachable;
};

static void routes_free(void *routes)
{
    fl_routes_destroy(routes);
}

struct fl_routes *fl_router_fake_routes(struct fl_router_driver *driver, const char *address)
{
    struct fl_router_fake *fake = (struct fl_router_fake *)driver;
    struct fl_routes *routes = fl_map_get(fake->routers, address);

    if (!routes) {
        routes = fl_routes_create();
        fl_map_put(fake->routers, address, routes);
    }
    return routes;
}

void fl_router_fake_lose(struct fl_router_driver *driver, const char *address)
{
    struct fl_router_fake *fake = (struct fl_router_fake *)driver;
    FL_LOCKED(fake->lock);

    (void)fl_map_remove(fake->routers, address);
}

void fl_router_fake_reach(struct fl_router_driver *driver, bool reachable)
{
    struct fl_router_fake *fake = (struct fl_router_fake *)driver;
    FL_LOCKED(fake->lock);

    fake->unreachable = !reachable;
}

static int observe(struct fl_router_driver *self, const struct fl_router_at *at,
                   int64_t fresh_in_ms, struct fl_arena *arena, struct fl_router_view *ret_view,
                   struct fl_error *err)
{
    struct fl_router_fake *fake = (struct fl_router_fake *)self;
    FL_LOCKED(fake->lock);
    FL_JSON status = NULL;

    (void)fresh_in_ms; /* what is told is always the newest */
    *ret_view = (struct fl_router_view){.message = "it cannot be reached"};
    if (fake->unreachable)
        return 0;
    status = fl_routes_status(fl_router_fake_routes(self, at->address), 0);
    return fl_router_view_read(arena, status, ret_view, err);
}

static int put(struct fl_router_driver *self, const struct fl_router_at *at, const json_t *table,
               struct fl_error *err)
{
    struct fl_router_fake *fake = (struct fl_router_fake *)self;
    bool news = false;

    (void)err;
    fl_lock_take(fake->lock);
    if (!fake->unreachable) {
        struct fl_routes *routes = fl_router_fake_routes(self, at->address);
        const int64_t version = fl_routes_version(routes);

        (void)fl_routes_apply(routes, table, 0, NULL);
        news = fl_routes_version(routes) != version;
    }
    fl_lock_release(fake->lock);
    if (news)
        fake->changed(fake->user, at->ns, at->name);
    return 0;
}

static void forget(struct fl_router_driver *self, const char *uid)
{
    (void)self;
    (void)uid; /* routers are the world's */
}

static void destroy(struct fl_router_driver *self)
{
    struct fl_router_fake *fake = (struct fl_router_fake *)self;

    fl_map_destroy(fake->routers);
    fl_lock_destroy(fake->lock);
    free(fake);
}

static const struct fl_router_ops ops = {
    .name = "fake", .destroy = destroy, .observe = observe, .put = put, .forget = forget};

struct fl_router_driver *fl_router_fake_create(fl_router_changed_fn *changed, void *user)
{
    struct fl_router_fake *fake = fl_calloc(1, sizeof(*fake));

    *fake = (struct fl_router_fake){.base.ops = &ops, .changed = changed, .user = user};
    fake->lock = fl_lock_create();
    fake->routers = fl_map_create(routes_free);
    return &fake->base;
}
