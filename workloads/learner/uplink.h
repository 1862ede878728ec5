/* Carries out what a learner core asks of the network, on threads of its own, each with its own
 * connections: the long poll, all other requests, downloads, uploads. So control and bulk never
 * share a connection, and none of them waits for another.
 *
 * The core is the owner's, and lives on the loop's thread, as all functions and callbacks here do.
 * What is not the network's (train, evaluate, keep, release, ended) is handed to the owner. What is
 * cancelled is broken off within about a second. */
#ifndef FL_WORKLOADS_UPLINK_H
#define FL_WORKLOADS_UPLINK_H

#include "lib/blobs.h"
#include "lib/env.h"
#include "lib/http_client.h"
#include "lib/loop.h"
#include "workloads/learner/learner_core.h"

struct fl_uplink;

struct fl_uplink_options {
    const struct fl_env *env;
    struct fl_loop *loop;
    struct fl_learner_core *core;       /* lent */
    struct fl_http_client_options http; /* as whom; base_url is not used. Lent, with its texts */
    struct fl_blobs *blobs;             /* lent: where models go, and updates come from */
    int64_t max_model_bytes;            /* 0: 8 GiB */
    /* TRAIN, EVALUATE, KEEP, RELEASE, ENDED; and CANCEL of a ticket that is not the uplink's. It
     * may call the core, and need not pump. */
    void (*act)(void *user, const struct fl_learner_action *action);
    void *user;
};
int fl_uplink_create(const struct fl_uplink_options *options, struct fl_uplink **ret_uplink,
                     struct fl_error *err);
/* Breaks off what is under way and waits for its threads. */
void fl_uplink_destroy(struct fl_uplink *uplink);
FL_DEFINE_CLEANUP(struct fl_uplink, fl_uplink_destroy)

/* Takes the core's actions. To be called after anything was told to the core. */
void fl_uplink_pump(struct fl_uplink *uplink);

#endif
