/* The manager: caches, controllers and their workers, events, leadership, in one.
 *
 * In production it has threads: one that pumps the caches, some workers a controller, one for
 * events and the lease. In tests and the simulation nothing is started, and the owner steps: pump,
 * then process keys one by one, moving env's clock to what is due next. Nothing polls: a thread
 * with nothing to do waits until it is woken or something is due.
 *
 * Workers run only while this process leads (a Lease, as client-go's leader election). A leader
 * that cannot renew stops its workers before the lease runs out, and tells the owner; its requests
 * do not outlive the lease. A new leader works when its caches are listed anew. */
#ifndef FL_CONTROLLER_MANAGER_H
#define FL_CONTROLLER_MANAGER_H

#include "controller/cache/cache.h"
#include "controller/runtime/metrics.h"
#include "controller/runtime/reconcile.h"

struct fl_manager;
struct fl_controller;

struct fl_manager_options {
    const struct fl_env *env;
    struct fl_apiclient *client;
    struct fl_metric_registry *metrics;  /* may be NULL */
    int64_t resync_ms;                   /* of caches; 0: 10 h */
    int64_t base_delay_ms, max_delay_ms; /* of back-off; 0: 5 ms, 5 min */
    /* Leadership. `identity` NULL: none is asked for, this manager always leads. The identity of a
     * process that alone may open its store (an embedded one) is the store's, so that a restart
     * need not wait for its own old lease. */
    const char *identity;
    const char *lease_namespace, *lease_name;
    int64_t lease_ms, renew_ms, retry_ms; /* 0: 15 s, 10 s, 2 s */
    void (*lost)(void *user); /* leadership was lost: one of the manager's threads, which must
                                 not stop the manager itself */
    void *lost_user;
};

int fl_manager_create(const struct fl_manager_options *options, struct fl_manager **ret_manager,
                      struct fl_error *err);
/* Stopped before. */
void fl_manager_destroy(struct fl_manager *manager);
FL_DEFINE_CLEANUP(struct fl_manager, fl_manager_destroy)

/* Before the start. `ops` and `user` are lent for the manager's life. INVALID for a table that
 * lacks what it must have. */
int fl_manager_add(struct fl_manager *manager, const struct fl_kind_ops *ops, void *user,
                   struct fl_error *err);
/* The shared cache of a resource, made when first asked for (before the start). */
struct fl_cache *fl_manager_cache(struct fl_manager *manager, const struct fl_gvr *gvr);
/* Any thread: reconcile this one, for drivers that see a change. Unknown controllers: nothing. */
void fl_manager_enqueue(struct fl_manager *manager, const char *controller, const char *ns,
                        const char *name);

/* Production. */
int fl_manager_start(struct fl_manager *manager, struct fl_error *err);
/* Ends what waits, lets passes under way finish, gives up the lease. */
void fl_manager_stop(struct fl_manager *manager);
bool fl_manager_is_leader(struct fl_manager *manager);
bool fl_manager_synced(struct fl_manager *manager); /* all caches have their first list */

/* Stepping. */
size_t fl_manager_pump(struct fl_manager *manager);         /* caches; how many changes */
void fl_manager_lead(struct fl_manager *manager);           /* one try of the lease, if it is due */
size_t fl_manager_write_events(struct fl_manager *manager); /* what is queued; how many */
size_t fl_manager_controller_count(const struct fl_manager *manager);
struct fl_controller *fl_manager_controller(struct fl_manager *manager, size_t i);
const char *fl_controller_name(const struct fl_controller *controller);
/* One key, if one is due and this manager leads; false: none. */
bool fl_controller_process_next(struct fl_controller *controller);
size_t fl_controller_depth(struct fl_controller *controller);
/* When a cache, a delayed key or the lease becomes due; 0: something is due now; INT64_MAX: never.
 */
int64_t fl_manager_next_due_ms(struct fl_manager *manager);

#endif
