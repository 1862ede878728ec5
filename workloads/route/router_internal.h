/* What the two faces of a router share: the one for clients (forward.c) and the one for the control
 * plane (admin.c). */
#ifndef FL_WORKLOADS_ROUTER_INTERNAL_H
#define FL_WORKLOADS_ROUTER_INTERNAL_H

#include "lib/http_async.h"
#include "lib/http_server.h"
#include "workloads/route/router.h"
#include "workloads/route/routes.h"

struct forward;
struct watcher;

struct fl_router {
    struct fl_router_options options; /* with the defaults; its texts are not used */
    struct fl_arena *arena;
    const char **tokens;
    const char *admin_token, *table_path;
    struct fl_routes *routes;
    struct fl_http_async *calls;
    struct fl_http_server *server, *admin;
    struct forward *forwards; /* under way */
    struct watcher *watchers; /* who waits for a change */
    size_t in_flight, waiting;
    int64_t change, life;
    uint64_t requests, refused, retries, no_server;
};

/* forward.c */
void fl_router_forward(void *user, struct fl_http_request *request); /* fl_http_handler_fn */
void fl_router_retry_waiting(struct fl_router *router);              /* a table has come */
void fl_router_stop_forwards(struct fl_router *router);

/* admin.c */
void fl_router_administer(void *user, struct fl_http_request *request);
void fl_router_changed(struct fl_router *router);
void fl_router_stop_watchers(struct fl_router *router);

/* Whether the request shows one of these tokens; constant time for each. */
bool fl_router_is_allowed(const struct fl_http_request *request, const char *const *tokens,
                          size_t count);

#endif
