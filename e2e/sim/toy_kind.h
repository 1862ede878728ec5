/* A toy reconciler: a Brood owns chicks (children in the store), one thing in the world outside,
 * and the ConfigMaps it lists, which it marks as its own and remembers in an inventory.
 *
 * It does what real reconcilers do with the least of code, correctly; and each classic bug can be
 * planted in it, so that the simulation is seen to find it. */
#ifndef FL_E2E_SIM_TOY_KIND_H
#define FL_E2E_SIM_TOY_KIND_H

#include "controller/runtime/reconcile.h"
#include "e2e/sim/toy_things.h"

#define TOY_SOURCE "sim.dev/source" /* annotation: uid of the Brood that a ConfigMap is of */
#define TOY_NS     "default"

struct toy_brood {
    struct fl_object_meta meta;
    struct {
        int64_t chicks;
        const char *payload;
        bool suspend;
        struct fl_string_list maps;
    } spec;
    struct {
        int64_t observed_generation;
        bool has_observed_generation;
        struct fl_condition_list conditions;
        int64_t chicks, restarts;
        bool has_chicks, has_restarts;
        struct fl_string_list inventory;
        const char *checked; /* planted bugs only */
    } status;
};

struct toy_chick {
    struct fl_object_meta meta;
    struct {
        const char *payload;
    } spec;
};

extern const struct fl_kind_type toy_brood_type, toy_chick_type;
extern const char *const toy_definitions[]; /* ended by NULL */

/* What a process has in memory. */
struct toy_kinds {
    struct sim_process *process;
    struct toy_things *things; /* the world's */
    struct fl_map *memory;     /* planted bugs only */
    struct fl_kind_ops ops;
};

void toy_kind_ops(const struct sim *sim, struct fl_kind_ops *ret_ops);

#endif
