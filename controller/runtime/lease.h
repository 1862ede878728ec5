/* Leader election on a coordination.k8s.io/v1 Lease, by client-go's rules.
 *
 * Whether another holder lives is judged by when its Lease was last seen to change, on our own
 * clock; clocks of two machines are never compared. Writes have the version that was read as
 * precondition. Leadership ends by itself `renew_ms` after the beginning of the last renewal that
 * succeeded, which is before anybody else may take over (`lease_ms` after it).
 *
 * fl_lease_holds: any thread. The rest: one thread at a time. */
#ifndef FL_CONTROLLER_LEASE_H
#define FL_CONTROLLER_LEASE_H

#include "controller/client/client.h"

struct fl_lease;

struct fl_lease_options {
    const struct fl_env *env;
    struct fl_apiclient *client;
    const char *ns, *name, *identity;
    int64_t lease_ms, renew_ms, retry_ms; /* lease > renew > retry * 1.2; 0: 15 s, 10 s, 2 s */
};

/* INVALID where the times do not fit each other. Texts are copied. */
int fl_lease_create(const struct fl_lease_options *options, struct fl_lease **ret_lease,
                    struct fl_error *err);
void fl_lease_destroy(struct fl_lease *lease);
FL_DEFINE_CLEANUP(struct fl_lease, fl_lease_destroy)

/* One try to get or renew it, if one is due. */
void fl_lease_try(struct fl_lease *lease);
bool fl_lease_holds(struct fl_lease *lease);
/* How long a write that begins now may take, so that nobody else leads before it has ended; <= 0:
 * it must not begin. Any thread. */
int64_t fl_lease_left_ms(struct fl_lease *lease);
int64_t fl_lease_next_due_ms(struct fl_lease *lease); /* monotonic */
/* Gives it up, where it is held, so that another one need not wait. */
void fl_lease_release(struct fl_lease *lease);

#endif
