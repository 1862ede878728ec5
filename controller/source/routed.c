/* Two sources as one: watched folders, and Git for the rest. */
#include "controller/source/source.h"

#include "lib/map.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <stdlib.h>

enum route { ROUTE_GIT, ROUTE_DIR, ROUTES };

struct routed {
    struct fl_source source;
    struct fl_source *to[ROUTES];
    struct fl_lock *lock;
    struct fl_map *folders; /* keys whose last fetch was of a folder; what is not here is Git's */
};

static struct routed *of(struct fl_source *source)
{
    return (struct routed *)source;
}

static enum route route_of(struct routed *routed, const char *key)
{
    FL_LOCKED(routed->lock);
    return fl_map_get(routed->folders, key) ? ROUTE_DIR : ROUTE_GIT;
}

static void set_route(struct routed *routed, const char *key, enum route route)
{
    FL_LOCKED(routed->lock);
    if (route == ROUTE_DIR)
        fl_map_put(routed->folders, key, routed);
    else
        (void)fl_map_remove(routed->folders, key);
}

/* Tickets of the two must not be taken for one another. */
static uint64_t mark(enum route route, uint64_t ticket)
{
    return ticket * ROUTES + route;
}

static int fetch(struct fl_source *self, const char *key, const struct fl_source_request *request,
                 uint64_t *ret_ticket, struct fl_error *err)
{
    struct routed *routed = of(self);
    enum route route = fl_str_has_prefix(request->url, "dir://") ? ROUTE_DIR : ROUTE_GIT;
    enum route before = route_of(routed, key);
    uint64_t ticket;
    int r = 0;

    if (route != before)
        r = routed->to[before]->ops->forget(routed->to[before], key, err);
    if (r < 0)
        return r;
    set_route(routed, key, route);
    r = routed->to[route]->ops->fetch(routed->to[route], key, request, &ticket, err);
    if (r < 0)
        return r;
    *ret_ticket = mark(route, ticket);
    return 0;
}

static int observe(struct fl_source *self, const char *key, struct fl_arena *arena,
                   struct fl_fetch_result *ret_result, struct fl_error *err)
{
    struct routed *routed = of(self);
    enum route route = route_of(routed, key);
    int r = routed->to[route]->ops->observe(routed->to[route], key, arena, ret_result, err);

    if (r == 0)
        ret_result->ticket = mark(route, ret_result->ticket);
    return r;
}

/* Both: which one had it is not known after a restart. */
static int forget(struct fl_source *self, const char *key, struct fl_error *err)
{
    struct routed *routed = of(self);
    int result = 0;

    for (int route = 0; route < ROUTES; route++) {
        int r = routed->to[route]->ops->forget(routed->to[route], key, err);

        if (r < 0)
            result = r;
    }
    set_route(routed, key, ROUTE_GIT);
    return result;
}

static void destroy(struct fl_source *self)
{
    struct routed *routed = of(self);

    for (int route = 0; route < ROUTES; route++)
        routed->to[route]->ops->destroy(routed->to[route]);
    fl_map_destroy(routed->folders);
    fl_lock_destroy(routed->lock);
    free(routed);
}

static const struct fl_source_ops ops = {
    .name = "routed", .destroy = destroy, .fetch = fetch, .observe = observe, .forget = forget};

struct fl_source *fl_source_create_routed(struct fl_source *dir, struct fl_source *git)
{
    struct routed *routed = fl_calloc(1, sizeof(*routed));

    routed->source.ops = &ops;
    routed->to[ROUTE_DIR] = dir;
    routed->to[ROUTE_GIT] = git;
    routed->lock = fl_lock_create();
    routed->folders = fl_map_create(NULL);
    return &routed->source;
}
