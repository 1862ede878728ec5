/* An orchestrator in memory and virtual time, for tests and the simulation.
 *
 * The world is what outlives a control plane: its nodes and what runs on them. A driver is one
 * control plane's door to it; a crash loses the driver, never the world. Time passes only in
 * fl_fake_world_step, which does what is due by env's monotonic clock. What happens to a run is
 * planned when it starts: by a callback of the owner, else by env's random.
 *
 * Inside it is asserted that no instance ever has two living runs. Any thread, where env is real;
 * else that of env. Callbacks `plan`, `changed` and `each` must not call back; `fault` may. */
#ifndef FL_RECONCILERS_ORCHESTRATOR_FAKE_H
#define FL_RECONCILERS_ORCHESTRATOR_FAKE_H

#include "reconcilers/workload/orchestrator_driver.h"

struct fl_fake_world;

/* Begins without nodes. `env` is lent. */
struct fl_fake_world *fl_fake_world_create(const struct fl_env *env);
/* After its driver. */
void fl_fake_world_destroy(struct fl_fake_world *world);
FL_DEFINE_CLEANUP(struct fl_fake_world, fl_fake_world_destroy)

/* A door to the world; the one before it must have crashed or been destroyed. `changed` may be
 * NULL. Freed by its ops->destroy. */
struct fl_orchestrator_driver *fl_fake_orchestrator_create(struct fl_fake_world *world,
                                                           fl_run_changed_fn *changed,
                                                           void *changed_user);
/* As fl_orchestrator_make_fn; `user` is the world. */
int fl_fake_orchestrator_make(void *user, const char *name, fl_run_changed_fn *changed,
                              void *changed_user, struct fl_orchestrator_driver **ret_driver,
                              struct fl_error *err);

/* What becomes of a run. Texts are copied. */
struct fl_fake_plan {
    int64_t start_ms;        /* from start until it is up */
    int64_t ready_ms;        /* from then until it is ready; < 0: never */
    int64_t run_ms;          /* from up until it ends by itself; < 0: never */
    int64_t stop_ms;         /* from the stop signal until it ends; < 0: it has to be killed */
    struct fl_run_exit exit; /* when it ends by itself; one that failed to start never comes up */
};
/* `plan` holds what random gave: up within 2 s, ready within 1 s, running for ever, stopping within
 * 3 s. */
typedef void fl_fake_plan_fn(void *user, const struct fl_run_spec *spec, struct fl_fake_plan *plan);
void fl_fake_world_on_plan(struct fl_fake_world *world, fl_fake_plan_fn *plan, void *user);

/* Faults, asked for before and after each call of the driver. */
enum fl_fake_op {
    FL_FAKE_CONFIGURE,
    FL_FAKE_NODES,
    FL_FAKE_OBSERVE,
    FL_FAKE_START,
    FL_FAKE_STOP,
    FL_FAKE_REMOVE,
    FL_FAKE_WORKLOADS,
};
enum fl_fake_fault {
    FL_FAKE_GOOD = 0,
    FL_FAKE_ERROR,  /* UNAVAILABLE: before, and nothing was done; after, although it was done */
    FL_FAKE_FORGET, /* before: says yes and does nothing (reads fail instead) */
    FL_FAKE_CRASH,  /* this driver is dead: UNAVAILABLE from now on, and no changes are told */
};
typedef enum fl_fake_fault fl_fake_fault_fn(void *user, enum fl_fake_op op, bool after);
void fl_fake_world_on_fault(struct fl_fake_world *world, fl_fake_fault_fn *fault, void *user);

/* Nodes. `requested`, `runs` and `ready_changed_us` are the world's own. */
void fl_fake_world_put_node(struct fl_fake_world *world, const struct fl_node *node);
/* A node that is not ready still obeys; what runs there goes on. */
void fl_fake_world_set_ready(struct fl_fake_world *world, const char *name, bool ready);
/* What ran there is lost at once. */
void fl_fake_world_remove_node(struct fl_fake_world *world, const char *name);
/* Whether it can be asked at all. */
void fl_fake_world_set_reachable(struct fl_fake_world *world, bool reachable);

/* From outside: the living run ends so, now; its readiness probe turns. False: none lives. */
bool fl_fake_world_end_run(struct fl_fake_world *world, const struct fl_run_id *id,
                           const struct fl_run_exit *exit);
bool fl_fake_world_turn_run(struct fl_fake_world *world, const struct fl_run_id *id, bool ready);

/* Time. Monotonic milliseconds of what is next; INT64_MAX: nothing. */
int64_t fl_fake_world_next_due_ms(const struct fl_fake_world *world);
/* Does all that is due; how much it was. */
size_t fl_fake_world_step(struct fl_fake_world *world);

/* For oracles: what there is, whatever a driver says. uid NULL: of all. */
struct fl_fake_counts {
    size_t living, ended; /* instances */
    size_t starts, stops; /* calls that had an effect, since the beginning */
};
struct fl_fake_counts fl_fake_world_count(const struct fl_fake_world *world, const char *uid);
struct fl_fake_item {
    const char *uid, *ns, *name, *spec_hash, *node;
    int64_t index, number;
    enum fl_run_state state;
    bool ready;
    const struct fl_run_port *ports;
    size_t port_count;
};
void fl_fake_world_each(const struct fl_fake_world *world,
                        void (*each)(void *user, const struct fl_fake_item *item), void *user);

#endif
