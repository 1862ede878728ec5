/* For tests and the simulation: a control plane without controllers (loop, store, API server,
 * client) in one call, and a driver that fails when told to.
 *
 * Nothing here is for production. */
#ifndef FL_CONTROLLER_CLIENT_TESTING_H
#define FL_CONTROLLER_CLIENT_TESTING_H

#include "controller/apiserver/apiserver.h"
#include "controller/client/client.h"
#include "lib/loop.h"
#include "lib/thread.h"

/* A plane. Simulated: everything on the caller's thread, in the virtual time of `fake`; else the
 * loop runs in a thread of its own. Members are lent. */
struct fl_plane_options {
    bool simulated;
    uint64_t seed;      /* of a simulated one's chance */
    const char *driver; /* of the store; NULL: "memory" */
    const char *path;   /* for "sqlite" */
    const char *const *definitions;
    size_t definition_count;
    struct fl_log *log; /* may be NULL */
};

struct fl_plane {
    struct fl_fake_env fake; /* where simulated */
    struct fl_env env;
    struct fl_loop *loop;
    struct fl_store *store;
    struct fl_apiserver *server;
    struct fl_apiclient *client;
    struct fl_thread *thread;
};

int fl_plane_create(const struct fl_plane_options *options, struct fl_plane **ret_plane,
                    struct fl_error *err);
/* Watches, and clients that were derived from plane->client, must be gone. */
void fl_plane_destroy(struct fl_plane *plane);
FL_DEFINE_CLEANUP(struct fl_plane, fl_plane_destroy)
/* Simulated: steps the loop until nothing is left to do at this time (bounded; returns false where
 * it does not come to rest). */
bool fl_plane_settle(struct fl_plane *plane);
/* Simulated: moves the clock by `ms`, firing what is due on the way, each at its time. */
bool fl_plane_advance(struct fl_plane *plane, int64_t ms);

/* The driver `faulty`: wraps any client, and does what a table says goes wrong. The table is the
 * tester's, lent, and may be changed at any time; all zero, nothing goes wrong. One thread.
 *
 * Each use of the driver has two moments, before and after what it really does. At each, `moment`
 * may say 0 (go on) or the error that the caller gets instead: FL_E_UNAVAILABLE, FL_E_TIMEOUT,
 * FL_E_CONFLICT … Before: it is not done. After: it is done, and nobody is told (what a list or a
 * watch had for its caller comes again the next time).
 *
 * FL_CLIENT_CRASH is an error, too, and from then on all fails with it (`crashed` is set), so that
 * the code which unwinds can do nothing more to the world; closing watches works. Whoever runs the
 * code drops all that its process knew, clears `crashed`, and starts it anew.
 *
 * FL_CLIENT_STALE (before a list): the list as it was served the last time for this kind and
 * namespace, with its old revision; a watch from there has all that came since. Where there was
 * none before, nothing happens.
 *
 * `event` decides what becomes of each event of a watch. Held back: this watch says that there is
 * nothing, and `event` is asked again at the next read, or as soon as fl_client_faults_release has
 * woken the readers of watches that hold something. Events of one watch keep their order. */
#define FL_CLIENT_CRASH (-1)
#define FL_CLIENT_STALE (-2)

enum fl_client_use { FL_CLIENT_CALL, FL_CLIENT_LIST, FL_CLIENT_WATCH, FL_CLIENT_WATCH_NEXT };
enum fl_client_fate { FL_CLIENT_PASS, FL_CLIENT_DROP, FL_CLIENT_DOUBLE, FL_CLIENT_HOLD };

struct fl_client_moment {
    enum fl_client_use use;
    bool after;
    const struct fl_api_call *call; /* of a CALL */
    const struct fl_gvr *gvr;       /* of the others */
    const char *ns;
    int result; /* after: < 0 the error; a CALL's HTTP status; a WATCH_NEXT's 0 or 1 */
};

struct fl_client_faults {
    int (*moment)(void *user, const struct fl_client_moment *moment); /* may be NULL */
    enum fl_client_fate (*event)(void *user, const struct fl_gvr *gvr,
                                 const struct fl_event *event); /* may be NULL */
    void *user;
    bool crashed;
    uint64_t moments; /* so far: run once to count them, then once for each with a fault there */
};

/* `client` is lent and outlives it. */
struct fl_apiclient *fl_apiclient_create_faulty(const struct fl_env *env,
                                                struct fl_apiclient *client,
                                                struct fl_client_faults *faults);
/* Of a faulty client: wakes the readers of watches that hold something back. */
void fl_client_faults_release(struct fl_apiclient *faulty);
/* Whether any does. */
bool fl_client_faults_holding(struct fl_apiclient *faulty);

#endif
