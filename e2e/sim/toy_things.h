/* The toy's outside world: things that run, each under a name of its own and with an owner.
 *
 * The world outlives the processes; a process reaches it through calls that meet faults. The world
 * lets anybody start as many things as they like: that only one of an owner lives is for the
 * reconciler to see to, and for an oracle to watch. */
#ifndef FL_E2E_SIM_TOY_THINGS_H
#define FL_E2E_SIM_TOY_THINGS_H

#include "e2e/sim/sim.h"

#define TOY_FINALIZER "sim.dev/brood"

struct toy_thing {
    char name[96], owner[40], payload[32];
    int64_t number, restarts;
    bool living, stopped; /* stopped: it was told to end */
};

#define TOY_THINGS_MAX 64
#define TOY_OWNERS_MAX 64

struct toy_things {
    struct toy_thing items[TOY_THINGS_MAX];
    size_t count;
    struct toy_count { /* how often a thing of the owner ended by itself since it first had one */
        char owner[40];
        int64_t ends;
    } counts[TOY_OWNERS_MAX];
    size_t count_count;
    uint64_t actions;
};

/* As a process does it. TIMEOUT and UNAVAILABLE leave open what happened. */
int toy_thing_start(struct sim_process *process, struct toy_things *things,
                    const struct toy_thing *thing, struct fl_error *err);
int toy_thing_stop(struct sim_process *process, struct toy_things *things, const char *name,
                   struct fl_error *err);
int toy_thing_remove(struct sim_process *process, struct toy_things *things, const char *name,
                     struct fl_error *err);
/* Copies, of one owner, or of all where it is NULL; by number. */
int toy_thing_list(struct sim_process *process, struct toy_things *things, const char *owner,
                   struct fl_arena *arena, struct toy_thing **ret_items, size_t *ret_count,
                   struct fl_error *err);

/* As it happens. */
bool toy_thing_ends(struct sim *sim, struct toy_things *things); /* one of the living */
int64_t toy_ends_of(const struct toy_things *things, const char *owner);
size_t toy_living_of(const struct toy_things *things, const char *owner);
size_t toy_records_of(const struct toy_things *things, const char *owner);    /* ended ones, too */
struct toy_thing *toy_thing_of(struct toy_things *things, const char *owner); /* the first */

#endif
