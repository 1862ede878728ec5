/* What a router knows of the servers behind it, and how it chooses among them.
 *
 * A table is what the control plane says: groups (all servers of one model; a share of the requests
 * each) and their backends. It is replaced as a whole; a version says which is in force. What is
 * counted stays with a group as long as its epoch is the same, and with a backend as long as it is
 * there. A backend that is no longer in the table gets no new request, and is told of until the
 * last one under way has ended: then it can be stopped without a request lost.
 *
 * Choosing: groups by smooth weighted round robin, so that shares are exact over any hundred
 * requests; within a group the backend with the fewest requests under way. One that does not answer
 * is left out for a while (1 s, doubled up to 30 s), unless nobody else is there. A group without
 * any backend hands its share to the others. Mirrors get copies whose answers nobody sees.
 * A group on trial answers clients only where it does well: what it refuses or fails is asked of
 * another group, which so says whose fault it was.
 *
 * No sockets, no clock: times are given. One thread. */
#ifndef FL_WORKLOADS_ROUTES_H
#define FL_WORKLOADS_ROUTES_H

#include "lib/error.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stdint.h>

#define FL_ROUTES_GROUPS_MAX   16
#define FL_ROUTES_BACKENDS_MAX 1024
#define FL_ROUTES_TABLE_BYTES  ((size_t)1024 * 1024)

struct fl_routes;
struct fl_route_backend; /* lives as long as it is in the table or a request is under way at it */

struct fl_routes *fl_routes_create(void);
void fl_routes_destroy(struct fl_routes *routes);
FL_DEFINE_CLEANUP(struct fl_routes, fl_routes_destroy)

/* {"version": 7,
 *  "groups": [{"name": "new", "percent": 90, "mirror": false, "trial": false, "epoch": "2"}, …],
 *  "backends": [{"id": "new/0", "group": "new", "url": "http://127.0.0.1:30001"}, …],
 *  "load": {"metric": "Concurrency", "windowMs": 60000, "delayMs": 300000}}   may be left out
 * percent: of those with backends, their sum counts as all. INVALID names the member. A version
 * below the one in force is a CONFLICT; the same one again is fine. */
int fl_routes_apply(struct fl_routes *routes, const json_t *table, int64_t now_ms,
                    struct fl_error *err);
int64_t fl_routes_version(const struct fl_routes *routes);
/* The table as it is in force, to be kept; NULL: none yet. Lent. */
const json_t *fl_routes_table(const struct fl_routes *routes);

/* The next backend for a request, that is not among those it was at already; NULL: none. It counts
 * as under way there until fl_routes_ended. */
struct fl_route_backend *fl_routes_choose(struct fl_routes *routes, int64_t now_ms,
                                          struct fl_route_backend *const *tried, size_t count);
/* As fl_routes_choose, of the groups that are not on trial. */
struct fl_route_backend *fl_routes_choose_proven(struct fl_routes *routes, int64_t now_ms,
                                                 struct fl_route_backend *const *tried,
                                                 size_t count);
/* One of each mirror group: at most `max`. */
size_t fl_routes_mirrors(struct fl_routes *routes, int64_t now_ms,
                         struct fl_route_backend **ret_backends, size_t max);
const char *fl_route_url(const struct fl_route_backend *backend);
const char *fl_route_id(const struct fl_route_backend *backend);
const char *fl_route_group(const struct fl_route_backend *backend);
bool fl_route_is_on_trial(const struct fl_route_backend *backend);
/* What belongs to the owner of the table, for each backend: a client. `drop` is called when the
 * backend goes. */
void **fl_route_user(struct fl_route_backend *backend);
void fl_routes_on_drop(struct fl_routes *routes, void (*drop)(void *user));

enum fl_route_result {
    FL_ROUTE_ANSWERED = 1,
    FL_ROUTE_FAILED,      /* answered with 5xx: counts as an error */
    FL_ROUTE_UNREACHABLE, /* no answer at all: it is left out for a while */
    FL_ROUTE_BUSY,        /* it refuses for now (503, 429): no error of the model */
    FL_ROUTE_CANCELLED,   /* the client has gone, or nobody knows: not counted */
};
/* true: something that fl_routes_status shows apart from counts has changed. */
bool fl_routes_ended(struct fl_routes *routes, struct fl_route_backend *backend,
                     enum fl_route_result result, int64_t took_us, int64_t now_ms);

/* {"version": 7,
 *  "groups": [{"name", "epoch", "percent", "mirror", "trial", "requests", "errors", "p50Us",
 *              "p99Us"}, …],
 *  "backends": [{"id", "group", "url", "inFlight", "requests", "errors", "reachable", "removed"},
 *               …],
 *  "load": where it is measured, what load.h shows} */
json_t *fl_routes_status(struct fl_routes *routes, int64_t now_ms);

/* A client's request, from when it came until it was answered: what load is. */
void fl_routes_request_came(struct fl_routes *routes, int64_t now_ms);
void fl_routes_request_left(struct fl_routes *routes, int64_t now_ms);

#endif
