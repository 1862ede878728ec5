/* What a reconciler is made of.
 *
 * A kind declares a table of short steps; the runner does the rest the same way for all: get from
 * the cache → decode → being deleted? finalize until nothing is left, then drop the finalizer → no
 * finalizer? add it → suspended? do what the kind does then → the steps in order, until one fails
 * or says "not yet" → Ready, Reconciling and Stalled (kstatus) from what the steps said → one patch
 * of status, only if something changed → the queue.
 *
 * A step looks at the world and makes one thing true. It may run twice, survives a crash on any
 * line, remembers nothing in memory or in its own status, and trusts no cache to be fresh. It may
 * block for short calls only; slow work is started under a fixed name and observed later.
 *
 * Everything a step allocates is in the pass's arena. A pass runs on one worker thread; never two
 * passes of one key at a time. */
#ifndef FL_CONTROLLER_RECONCILE_H
#define FL_CONTROLLER_RECONCILE_H

#include "api/field.h"
#include "api/gen/flops_types.h"
#include "controller/cache/cache.h"
#include "controller/client/client.h"
#include "lib/env.h"
#include "lib/error.h"
#include "lib/log.h"

#include <stddef.h>

struct fl_manager;
struct fl_pass; /* the runner's own part of a pass */

struct fl_reconcile {
    struct fl_arena *arena;
    const struct fl_env *env;
    struct fl_log *log; /* carries controller, namespace, name, reconcileID */
    struct fl_apiclient *client;
    struct fl_manager *manager;
    void *user;         /* the kind's own: drivers and settings, as given to fl_manager_add */
    const json_t *json; /* the object as it was read; lent */
    const struct fl_kind_type *type;
    const char *manager_name; /* field manager: "flops-workload" */
    struct fl_pass *pass;
};

/* What a step returns besides an error (< 0). An error that is worth a retry
 * (fl_error_is_retryable) or NOT_FOUND, FORBIDDEN, UNAUTHORIZED, EXPIRED is tried again with
 * back-off and shown as Ready False once it has failed twice in a row (a CONFLICT alone is not
 * shown); any other is terminal: Stalled until the spec, or something that wakes the object,
 * changes. */
enum fl_step_result {
    FL_STEP_DONE = 0,
    FL_STEP_WAIT,    /* not yet; something will wake the object, or fl_requeue_after was called */
    FL_STEP_STALLED, /* cannot go on by itself */
};

typedef int fl_step_fn(struct fl_reconcile *rc, void *object, struct fl_error *err);

/* Which objects to reconcile when another one changed: calls `add` with each key. `object` is its
 * content, `cache` that of the reconciled kind. */
typedef void fl_wake_add_fn(void *user, const char *ns, const char *name);
typedef void fl_wake_map_fn(struct fl_cache *cache, const json_t *object, fl_wake_add_fn *add,
                            void *user);
struct fl_wake {
    struct fl_gvr gvr;
    fl_wake_map_fn *map; /* NULL: its owners of the reconciled kind */
    int64_t delay_ms;    /* one pass for all changes of so long, where they are many; 0: at once */
};

#define FL_STEPS_MAX 16
#define FL_WAKES_MAX 10

struct fl_kind_ops {
    const char *controller; /* "workload": names queue, metrics, logs, field manager */
    const struct fl_kind_type *type;
    /* Where the struct keeps them: FL_STATUS_OF(struct fl_workload). */
    size_t conditions_offset, observed_generation_offset, has_observed_generation_offset;
    const char *finalizer;                /* NULL: deletion needs nothing */
    struct fl_wake wakes[FL_WAKES_MAX];   /* ended by one without plural */
    const struct fl_cache_index *indexes; /* of the kind's own cache */
    size_t index_count;
    bool (*is_suspended)(const void *object); /* may be NULL */
    fl_step_fn *suspend;                      /* what it does then; may be NULL */
    fl_step_fn *steps[FL_STEPS_MAX];          /* ended by NULL */
    fl_step_fn *finalize;                     /* FL_STEP_WAIT until nothing is left */
    int workers;                              /* 0: 2 */
};

#define FL_STATUS_OF(type_)                                                                        \
    .conditions_offset = offsetof(type_, status.conditions),                                       \
    .observed_generation_offset = offsetof(type_, status.observed_generation),                     \
    .has_observed_generation_offset = offsetof(type_, status.has_observed_generation)

/* Conditions. A step sets its own positive ones; Ready, Reconciling and Stalled are the runner's.
 * lastTransitionTime moves when the status flips. Each prints into the arena. */
void fl_true(struct fl_reconcile *rc, const char *condition, const char *reason, const char *fmt,
             ...) __attribute__((format(printf, 4, 5)));
/* False, and Ready is False for the same cause. Return FL_STEP_WAIT and FL_STEP_STALLED. condition
 * NULL: what holds is told already, and Ready alone has this cause. */
int fl_not_yet(struct fl_reconcile *rc, const char *condition, const char *reason, const char *fmt,
               ...) __attribute__((format(printf, 4, 5)));
int fl_stalled(struct fl_reconcile *rc, const char *condition, const char *reason, const char *fmt,
               ...) __attribute__((format(printf, 4, 5)));
/* False without stopping the pass; Ready is not affected. */
void fl_false(struct fl_reconcile *rc, const char *condition, const char *reason, const char *fmt,
              ...) __attribute__((format(printf, 4, 5)));
void fl_condition_remove(struct fl_reconcile *rc, const char *condition);
/* The reason and message of a Ready that is True, where all steps are done ("Running"). Suspended
 * and deleted objects have their own. */
void fl_ready_as(struct fl_reconcile *rc, const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* For an error that is returned: the condition and reason it is shown under. Returns err's code. */
int fl_failed(struct fl_reconcile *rc, const char *condition, const char *reason,
              struct fl_error *err);
const struct fl_condition *fl_condition_find(const struct fl_condition_list *conditions,
                                             const char *type);

/* Look again within so many milliseconds; the shortest of a pass counts. */
void fl_requeue_after(struct fl_reconcile *rc, int64_t delay_ms);

/* An Event about the object (events.h aggregates). The runner tells by itself when Ready's reason
 * changed. */
enum fl_event_severity { FL_NORMAL, FL_WARNING };
void fl_event_note(struct fl_reconcile *rc, enum fl_event_severity severity, const char *reason,
                   const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Reading. From the manager's caches, decoded into the arena: 0, or NOT_FOUND, or the decode error.
 */
int fl_read_cached(struct fl_reconcile *rc, const struct fl_kind_type *type, const char *ns,
                   const char *name, void **ret_object, struct fl_error *err);
/* Live, past any cache. */
int fl_read_live(struct fl_reconcile *rc, const struct fl_kind_type *type, const char *ns,
                 const char *name, void **ret_object, struct fl_error *err);

/* Whether `live`, the object by now, is in all that a pass decides on as it was read: its spec and
 * status, and that it is not being deleted where it was not. Others may have changed its labels and
 * annotations meanwhile. */
bool fl_is_as_read(const struct fl_reconcile *rc, const json_t *live);

/* Children: objects of the same namespace, owned by the reconciled one. Their names follow from the
 * owner's uid and the role, so that making one twice is making it once. */
/* "NAME-ROLE-HASH", at most 63 characters, HASH of uid and role. Arena. */
char *fl_child_name(struct fl_arena *arena, const char *owner_name, const char *owner_uid,
                    const char *role);
/* Applies a child as the kind's field manager, forced, with the owner reference and the label
 * flops.dev/role added. `object` is in the child's typed form; its meta.name is set from the role.
 * *ret_object (may be NULL): as the server has it. */
int fl_apply_child(struct fl_reconcile *rc, const struct fl_kind_type *type, const char *role,
                   void *object, void **ret_object, struct fl_error *err);
/* A Secret of the reconciled object's own, of type Opaque: each key with the value given, or, where
 * that is NULL, with one that is made by chance once and then stays (64 hex digits). Values are in
 * the entries afterwards. INVALID where another's Secret has the name. */
struct fl_secret_entry {
    const char *key, *value;
};
int fl_ensure_secret(struct fl_reconcile *rc, const char *role, struct fl_secret_entry *entries,
                     size_t count, const char **ret_name, struct fl_error *err);
/* The text under a key of a Secret; in the arena. NULL: it has none, or bytes that are no text. */
const char *fl_secret_text(struct fl_arena *arena, const json_t *secret, const char *key);
/* All children of a type that the cache knows, decoded, by name. */
struct fl_child_list {
    void **items; /* the typed objects */
    const char **names;
    size_t count;
};
int fl_list_children(struct fl_reconcile *rc, const struct fl_kind_type *type,
                     struct fl_child_list *ret_list, struct fl_error *err);
/* Deletes the children that `keep` does not want. > 0: how many there still are to go. */
int fl_prune_children(struct fl_reconcile *rc, const struct fl_kind_type *type,
                      bool (*keep)(void *user, const void *child), void *user,
                      struct fl_error *err);

#endif
