/* The table through which an InferenceServer's router is told what to do and asked how it fares.
 *
 * Functions hand over or tell what is known, and return at once; connections, polls and retries are
 * the driver's. `changed` says when something new is known: a router that came within reach, a
 * table that took effect, a server that left or cannot be reached. Counts alone are no news. What
 * is wanted is said again after a restart of the control plane; the router itself keeps its table.
 *
 * All functions: any thread; results are in the caller's arena. */
#ifndef FL_RECONCILERS_ROUTER_DRIVER_H
#define FL_RECONCILERS_ROUTER_DRIVER_H

#include "lib/env.h"
#include "lib/error.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stdint.h>

/* Where a router's admin is. Another address or token than before replaces the former. Copied. */
struct fl_router_at {
    const char *uid;       /* of the InferenceServer: the key */
    const char *ns, *name; /* of the InferenceServer: for `changed` */
    const char *address;   /* "http://…", no slash at the end */
    const char *token;     /* may be NULL; never logged */
};

struct fl_router_group {
    const char *name, *epoch;
    int64_t percent, requests, errors, p50_us, p99_us;
    bool mirror, trial;
};
struct fl_router_backend {
    const char *id, *group, *url;
    int64_t in_flight;
    bool reachable, removed;
};
struct fl_router_load { /* see workloads/route/load.h */
    const char *metric; /* NULL: not measured */
    int64_t window_ms, delay_ms, covered_ms;
    double average, panic, peak, panic_peak;
};
struct fl_router_view {
    bool known;          /* false: it was not heard of yet, or not any more */
    const char *message; /* not known: why */
    int64_t version;     /* of the table that is in force; 0: none */
    struct fl_router_group *groups;
    size_t group_count;
    struct fl_router_backend *backends;
    size_t backend_count;
    struct fl_router_load load;
};

typedef void fl_router_changed_fn(void *user, const char *ns, const char *name);

struct fl_router_driver;
struct fl_router_ops {
    const char *name;
    void (*destroy)(struct fl_router_driver *self);
    /* must: what the router said last; followed from the first call on until `forget`. Who judges
     * by counts says by `fresh_in_ms` (< 0: no need) when it wants newer ones: the router is asked
     * then, and `changed` comes with the answer. */
    int (*observe)(struct fl_router_driver *self, const struct fl_router_at *at,
                   int64_t fresh_in_ms, struct fl_arena *arena, struct fl_router_view *ret_view,
                   struct fl_error *err);
    /* must: bring this table into force (workloads/route/routes.h says its form). The last one said
     * counts; a router with a higher version refuses, which `observe` shows by that version. */
    int (*put)(struct fl_router_driver *self, const struct fl_router_at *at, const json_t *table,
               struct fl_error *err);
    void (*forget)(struct fl_router_driver *self, const char *uid);
};

/* First member of each driver's own struct. */
struct fl_router_driver {
    const struct fl_router_ops *ops;
};

/* Reads a router's status. INVALID: it is none. */
int fl_router_view_read(struct fl_arena *arena, const json_t *status,
                        struct fl_router_view *ret_view, struct fl_error *err);

/* The real one, with a thread of its own. */
int fl_router_http_create(const struct fl_env *env, fl_router_changed_fn *changed, void *user,
                          struct fl_router_driver **ret_driver, struct fl_error *err);

#endif
