/* What the runtime's files share. The parts: manager (caches, threads), controller (queue, wakes,
 * workers), runner (one pass), conditions, status, children, events, lease. */
#ifndef FL_CONTROLLER_RUNTIME_INTERNAL_H
#define FL_CONTROLLER_RUNTIME_INTERNAL_H

#include "controller/queue/queue.h"
#include "controller/runtime/events.h"
#include "controller/runtime/lease.h"
#include "controller/runtime/manager.h"
#include "controller/runtime/own_writes.h"
#include "lib/map.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <stdatomic.h>

FL_DEFINE_CLEANUP(struct fl_log, fl_log_destroy)

#define FL_CONDITION_READY       "Ready"
#define FL_CONDITION_RECONCILING "Reconciling"
#define FL_CONDITION_STALLED     "Stalled"

#define FL_CONTROLLERS_MAX 32
#define FL_CACHES_MAX      64
#define FL_WORKERS_MAX     64 /* of a controller */

struct fl_controller {
    struct fl_manager *manager;
    const struct fl_kind_ops *ops;
    void *user;
    char *manager_name; /* "flops-workload" */
    char *labels;       /* of metrics: controller="workload" */
    const struct fl_field *status;
    struct fl_log *log;
    struct fl_cache *cache;
    struct fl_queue *queue;
    struct fl_own_writes *own_writes;
    struct wake {
        struct fl_controller *controller;
        const struct fl_wake *rule;
    } wakes[FL_WAKES_MAX];
    size_t worker_count;
    struct fl_thread *workers[FL_WORKERS_MAX];
};

struct fl_manager {
    struct fl_manager_options options;
    const struct fl_env *env;
    struct fl_apiclient *client; /* of passes: fenced, where there is a lease */
    struct fl_controller *controllers[FL_CONTROLLERS_MAX];
    size_t controller_count;
    struct {
        struct fl_gvr gvr;
        struct fl_cache *cache;
    } caches[FL_CACHES_MAX];
    size_t cache_count;
    bool prepared; /* wakes are connected; nothing is added any more */
    struct fl_events *events;
    struct fl_lease *lease; /* NULL: this manager always leads */
    atomic_bool synced;
    atomic_bool leads; /* as it was last told, and with caches that are no older than that */

    struct fl_lock *lock;      /* of what follows */
    struct fl_signal *changed; /* what decides whether there may be work */
    bool stopping;
    struct bell { /* each thread has its own, so that a commit wakes one */
        struct fl_signal *signal;
        bool rung;
    } pump_bell, office_bell;
    struct fl_thread *pump, *office;
};

/* What one pass has decided so far. */
struct fl_cause {
    const char *reason, *message; /* reason NULL: none */
};

struct fl_pass {
    struct fl_controller *controller;
    const char *key, *ns, *name; /* ns NULL: cluster-scoped */
    json_t *json;                /* as it was read; the arena's */
    void *object, *before;       /* as it is being changed, and as it was */
    const struct fl_object_meta *meta;
    uint64_t revision; /* of what was read */
    const char *now;   /* RFC 3339 */
    struct fl_cause cause, ready;
    int64_t requeue_after_ms; /* < 0: not asked for */
};

/* How a pass ended, for the queue and the metrics. */
enum fl_ending {
    FL_ENDED_WELL,     /* forget it; look again where that was asked for */
    FL_ENDED_LATER,    /* not really begun: look again after `delay_ms`, failures stay counted */
    FL_ENDED_CONFLICT, /* somebody else was quicker: again, with back-off */
    FL_ENDED_FAILED,   /* again, with back-off */
    FL_ENDED_TERMINAL, /* an error that no retry will cure */
};

struct fl_verdict {
    enum fl_ending ending;
    int64_t delay_ms; /* < 0: none */
};

/* runner.c: one pass of one key. */
struct fl_verdict fl_run_pass(struct fl_controller *controller, const char *key);

/* conditions.c */
struct fl_condition_list *fl_pass_conditions(const struct fl_controller *controller, void *object);
void fl_condition_set(struct fl_reconcile *rc, const char *type, enum fl_condition_status status,
                      const char *reason, const char *message);
void fl_condition_drop(struct fl_reconcile *rc, const char *type);

/* How far the steps came. */
enum fl_progress {
    FL_PROGRESS_DONE,
    FL_PROGRESS_WAIT,
    FL_PROGRESS_STALLED,
    FL_PROGRESS_RETRYING, /* failed more than once in a row */
    FL_PROGRESS_FAILED,   /* and will not be tried again */
    FL_PROGRESS_SUSPENDED,
    FL_PROGRESS_SUSPENDING,
    FL_PROGRESS_DELETING,
    FL_PROGRESS_DELETE_RETRYING,
    FL_PROGRESS_DELETE_STALLED,
};
/* Ready, Reconciling, Stalled and observedGeneration from it and the pass's cause. */
void fl_summarize(struct fl_reconcile *rc, enum fl_progress progress);

/* status.c: one patch of what differs, none where nothing does. 1: written. */
int fl_patch_status(struct fl_reconcile *rc, struct fl_error *err);
/* The finalizer comes and goes with what was read as precondition; the pass goes on with what the
 * server answered. */
int fl_add_finalizer(struct fl_reconcile *rc, struct fl_error *err);
int fl_pass_drop_finalizer(struct fl_reconcile *rc, struct fl_error *err);
/* The merge patch from one value to another; NULL where they are equal. The caller's. */
json_t *fl_merge_diff(const json_t *before, const json_t *after);

/* runner.c: the pass is about this content from now on; it belongs to the arena afterwards. */
int fl_pass_take(struct fl_reconcile *rc, json_t *json, struct fl_error *err);

/* controller.c */
int fl_controller_create(struct fl_manager *manager, const struct fl_kind_ops *ops, void *user,
                         struct fl_controller **ret_controller, struct fl_error *err);
void fl_controller_destroy(struct fl_controller *controller);
void fl_controller_connect(struct fl_controller *controller); /* its wakes */
void fl_controller_enqueue(struct fl_controller *controller, const char *ns, const char *name);
/* Workers: start all, or none; the queue is shut down before they are joined. */
int fl_controller_start(struct fl_controller *controller, struct fl_error *err);
void fl_controller_join(struct fl_controller *controller);

/* manager.c */
bool fl_manager_may_work(struct fl_manager *manager); /* it leads and has its caches */
/* Blocks until it may; false where it is to end. */
bool fl_manager_wait_for_work(struct fl_manager *manager);

/* applied.c: whether applying this configuration as that manager would change nothing: all that it
 * says is there, and what the manager owns is what it says. May be wrong in saying no. */
bool fl_is_applied(const json_t *live, const json_t *applied, const char *manager);

/* children.c: of an untyped child. */
json_t *fl_child_metadata(struct fl_reconcile *rc, const char *name, const char *role);

#endif
