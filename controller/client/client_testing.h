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

#endif
