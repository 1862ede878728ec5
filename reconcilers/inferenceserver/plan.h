/* What should become of an InferenceServer's servers: a pure function of spec, servers, router and
 * time.
 *
 * The servers of one revision (model and settings) are a set: a Workload. One set is the stable
 * one; another, of the revision that is wanted now, may be on its way to take over. Which set is
 * stable, which revision was tried and taken back, and how many servers load asks for is written on
 * the stable set; at which step
 * a canary is, and since when, in the epoch of its group at the router. So whoever decides next
 * knows all that this one did.
 *
 * Invariants: with a stable set that serves, there is no moment at which nobody serves (but for
 * strategy Recreate). A server leaves the router's table first, and is asked to end only when the
 * router says that its last request has ended. */
#ifndef FL_RECONCILERS_SERVING_PLAN_H
#define FL_RECONCILERS_SERVING_PLAN_H

#include "api/gen/flops_types.h"
#include "lib/json.h"
#include "reconcilers/inferenceserver/router_driver.h"

#define FL_SERVING_SETS_MAX 8

struct fl_serving_instance {
    int64_t index;
    bool ready;
    const char *id, *url; /* as the router shall know it */
};

struct fl_serving_set {
    const char *revision; /* also its group at the router */
    const char *digest;   /* of the model; NULL: not known */
    int64_t round;
    double metric; /* NAN: not known */
    int64_t created_us;
    int64_t asked; /* instances that its Workload asks for */
    bool stable;
    int64_t replicas; /* that scaling has decided on, as this set remembers it; 0: none */
    const char *rejected, *rejected_why;   /* of the stable one: what was taken back; or NULL */
    struct fl_serving_instance *instances; /* that exist */
    size_t instance_count;
    const char *trouble; /* what keeps its servers from being ready, for people; NULL */
};

struct fl_serving_world {
    const struct fl_rollout *rollout;
    const struct fl_autoscale *autoscale; /* NULL: load is not looked at */
    int64_t replicas;                     /* fl_serving_replicas */
    int64_t now_us;
    struct fl_serving_set target; /* what is wanted; its servers are in `sets` where it has any */
    struct fl_serving_set *sets;
    size_t set_count;
    bool has_router;              /* it has an address */
    struct fl_router_view router; /* not known: nothing that serves is taken away */
};

/* What a set's Workload should be. */
struct fl_serving_wish {
    const char *revision;
    int64_t instances;
    bool stable, remove;
    const char *rejected, *rejected_why;
};

enum fl_serving_state {
    FL_SERVING_SETTLED = 1, /* the wanted revision serves, or is about to as the only one */
    FL_SERVING_ROLLING,
    FL_SERVING_ROLLED_BACK,
};

struct fl_serving_plan {
    struct fl_serving_wish wishes[FL_SERVING_SETS_MAX + 1];
    size_t wish_count;
    json_t *table; /* to be put; lives as long as the arena; NULL: the one in force is right */
    enum fl_serving_state state;
    bool overdue;           /* nothing moves within progressDeadline */
    const char *message;    /* for people */
    int64_t step;           /* of a canary, from 1; 0: none */
    int64_t step_us;        /* since when */
    int64_t look_again_ms;  /* < 0: when something changes */
    bool counts_needed;     /* the router's counts decide: have them fresh then */
    const char *serving;    /* revision with the most traffic; NULL: none */
    int64_t ready, updated; /* servers; those of the wanted revision */
};

/* How many servers there should be: `asked` where load does not decide. Needs sets, router and
 * autoscale of the world. `ret_why`: as fl_scaling_decide. */
int64_t fl_serving_replicas(struct fl_arena *arena, const struct fl_serving_world *world,
                            int64_t asked, const char **ret_why);

void fl_serving_decide(struct fl_arena *arena, const struct fl_serving_world *world,
                       struct fl_serving_plan *ret_plan);

#endif
