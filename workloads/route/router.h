/* A router: the one stable address of an InferenceServer, before the servers that come and go.
 *
 * It forwards each request to a server that routes.h chooses, and hands the answer back as it is.
 * A server that cannot be reached, breaks off or is busy (429, 503) costs a try: the request goes
 * to another one (three in all, within its deadline). That is right because asking a model twice
 * changes nothing; so no request fails because a server was replaced. Where there is no server at
 * all, or none answers, requests wait a little for one. What a group on trial (a canary) refuses or
 * fails, or does not do in half the time, is asked of one that is not: clients do not pay for the
 * trial, and where that one does it, the fault is the canary's. Copies for mirrors (a dark launch)
 * are sent of what was answered well, and their answers dropped.
 *
 * The control plane speaks to another port, the admin's, which is on loopback or asks for a token:
 *
 *   PUT /v1/routes                  the table (routes.h) -> status
 *   GET /v1/routes?after=NUMBER     -> status, once its "change" is above NUMBER, or after 30 s
 *   GET /healthz, GET /metrics      (also without a token)
 *
 * A status is that of routes.h, with "change": it grows when the table, a backend's reach, or what
 * has left changes; counts alone do not. Changes are counted from the router's start, and "life" is
 * another number after each: so who has two answers knows which is newer. The table is kept in
 * FOLDER/routes.json: a router that is killed and started again goes on at once. Loop thread. */
#ifndef FL_WORKLOADS_ROUTER_H
#define FL_WORKLOADS_ROUTER_H

#include "lib/env.h"
#include "lib/error.h"
#include "lib/http_client.h"
#include "lib/loop.h"
#include "lib/tls.h"

#include <stdint.h>

struct fl_router;

struct fl_router_options {
    const struct fl_env *env;
    struct fl_loop *loop;
    const char *address;
    uint16_t port;      /* 0: any free one */
    struct fl_tls *tls; /* lent; NULL: plain text */
    /* Bearer tokens that clients may show; none: nobody is asked. Copied. */
    const char *const *tokens;
    size_t token_count;
    const char *admin_address;
    uint16_t admin_port;
    const char *admin_token;               /* NULL: nobody is asked; copied */
    const char *folder;                    /* made where it is not there; NULL: nothing is kept */
    struct fl_http_client_options backend; /* as whom to call servers; base_url is not used */
    size_t max_body_bytes;                 /* of a request; 0: 8 MiB. Answers: eight times that */
    size_t max_in_flight;                  /* more are refused with 429; 0: 4096 */
    int64_t timeout_ms;                    /* of a request with all its tries; 0: 30 s */
    int64_t hold_ms; /* for a server, where there is none or none answers; 0: 5 s */
};
int fl_router_create(const struct fl_router_options *options, struct fl_router **ret_router,
                     struct fl_error *err);
void fl_router_destroy(struct fl_router *router);
FL_DEFINE_CLEANUP(struct fl_router, fl_router_destroy)
uint16_t fl_router_port(const struct fl_router *router);
uint16_t fl_router_admin_port(const struct fl_router *router);
/* Takes no new connections, ends what is under way, then calls `done`; at the deadline anyway. */
void fl_router_drain(struct fl_router *router, int64_t deadline_ms, fl_loop_fn *done, void *user);

#endif
