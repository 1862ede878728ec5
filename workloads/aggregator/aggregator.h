/* An aggregator as a program has it: the core (aggregator_core.h), an HTTP server for control and
 * bulk (they share a port and never a connection: bulk has paths of its own, see bulk_server.h), a
 * thread that folds (folding.h), the journal's file, and below a parent a learner's core with its
 * uplink.
 *
 *   FOLDER/journal     what must not be forgotten; synced before anything that follows from it
 *   FOLDER/models/     models, partial sums and strategies' states by digest
 *   FOLDER/uploads/    updates on their way in; none is in memory
 *   FOLDER/spill/      of robust rules
 *
 * Killed anywhere and started again over the same folder it goes on as journal.h says. Who may do
 * what: with certificates a learner is its common name and may speak for itself only, and the
 * control interface is for members of the organization FL_AGGREGATOR_CONTROLLERS or who has the
 * token; without a token and without certificates everybody who reaches the port may do anything,
 * which the program allows on loopback only. Loop thread. */
#ifndef FL_WORKLOADS_AGGREGATOR_H
#define FL_WORKLOADS_AGGREGATOR_H

#include "lib/env.h"
#include "lib/http_client.h"
#include "lib/http_server.h"
#include "lib/loop.h"
#include "workloads/aggregator/aggregator_core.h"

#define FL_AGGREGATOR_CONTROLLERS "flops:controllers"

struct fl_aggregator;

struct fl_aggregator_program {
    const struct fl_env *env;
    struct fl_loop *loop;
    struct fl_aggregator_options core; /* texts are lent; `parent` and `has_parent` follow from … */
    const char *parent; /* … this: its address, no slash at the end; NULL: the root */
    struct fl_http_client_options parent_http; /* as whom; base_url is not used; texts are lent */
    const char *folder;                        /* one process at a time */
    const char *address;
    uint16_t port; /* 0: any free one */
    struct fl_tls *tls;
    bool client_certificates;    /* nobody without one that verifies */
    const char *token;           /* of the control interface; NULL: see above. Lent */
    unsigned max_connections;    /* 0: the HTTP server's */
    void (*stopped)(void *user); /* training is over and everyone was told */
    void *user;
};
int fl_aggregator_open(const struct fl_aggregator_program *program,
                       struct fl_aggregator **ret_aggregator, struct fl_error *err);
void fl_aggregator_close(struct fl_aggregator *aggregator); /* as a crash, but for the memory */
FL_DEFINE_CLEANUP(struct fl_aggregator, fl_aggregator_close)
/* Says goodbye to the parent, so that it does not wait for this one; `stopped` follows, at once
 * where there is no parent. What was begun can be taken up again later. */
void fl_aggregator_leave(struct fl_aggregator *aggregator, const char *message);
uint16_t fl_aggregator_port(const struct fl_aggregator *aggregator);

#endif
