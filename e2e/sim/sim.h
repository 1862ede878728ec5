/* The simulation: the whole control plane in one thread, with virtual time and a seed.
 *
 * The world is a store, an API server on a simulated loop, a clock, and what a scenario adds
 * (orchestrators, sources). Processes of the control plane (a client, a manager, drivers) live in
 * it and can die at any call they make; the world stays. Each turn picks one enabled event by the
 * seed. Then edits and faults end, the system comes to rest, and oracles say whether the world is
 * what the objects ask for.
 *
 * Everything that is decided by chance comes from sim_random, so a seed (with the call at which a
 * fault is set, if any) repeats a run exactly. All of a run is in one process of the machine,
 * forked from a world that has been set up: nothing is shared between runs. */
#ifndef FL_E2E_SIM_H
#define FL_E2E_SIM_H

#include "controller/apiserver/apiserver.h"
#include "controller/client/client.h"
#include "controller/runtime/manager.h"
#include "lib/buf.h"
#include "lib/env.h"
#include "lib/json.h"
#include "lib/loop.h"
#include "lib/map.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim;
struct sim_process;

/* Faults: what a call to the world can meet. */
enum sim_fault {
    SIM_FAULT_NONE = 0,
    SIM_CRASH_BEFORE, /* the process dies, the call did not take place */
    SIM_CRASH_AFTER,  /* it took place, then the process died */
    SIM_ERROR,        /* refused, nothing happened */
    SIM_CONFLICT,     /* API writes: somebody was faster */
    SIM_LOST_ANSWER,  /* it took place, and TIMEOUT is what comes back */
    SIM_SLOW,         /* it takes a second */
    SIM_FORGET,       /* drivers: says yes and does nothing */
    SIM_FAULT_COUNT,
};
const char *sim_fault_name(enum sim_fault fault);
bool sim_fault_from_name(const char *name, enum sim_fault *ret_fault);

#define SIM_PROCESSES_MAX 2

/* One life of a control plane's process. Its clocks are its own: realtime is wrong by some amount,
 * and monotonic begins anywhere. */
struct sim_process {
    struct sim *sim;
    unsigned slot;   /* which of the machines */
    unsigned number; /* of this life, over all machines */
    bool dead;       /* nothing it does reaches the world any more */
    struct fl_env env;
    int64_t realtime_skew_us, monotonic_offset_ms;
    uint64_t random;
    char identity[32];
    struct fl_apiclient *client;
    struct fl_manager *manager;
    struct sim_watch *watches; /* open ones */
    struct fl_map *seen;       /* resource → revision: nothing older is told to it */
    unsigned slow_calls;       /* of the turn */
    bool pumped;               /* the manager has connected its caches */
    void *kinds;               /* the scenario's: drivers and contexts that die with the process */
};

/* What a scenario adds to the world. Functions that find something wrong call sim_fail. */
struct sim_scenario {
    const char *name;
    unsigned processes;                 /* 1, or 2 that contend for a lease */
    const char *const *definitions;     /* CustomResourceDefinitions beyond the product's own */
    const struct fl_gvr *const *caches; /* of the managers, ended by NULL: pumped one by one */
    bool one_clock;                     /* machines and the world outside tell the same time */
    unsigned turns, edits;              /* of the busy phase; about */
    unsigned weight;     /* how many runs of a small scenario one of these costs; 0: 1. Of what is
                            asked for in all, it gets so much less */
    int64_t patience_ms; /* virtual time to come to rest in */
    int64_t settle_ms;   /* how long it may still tell of what it did */
    bool is_thrifty;     /* at rest no write is tried that would change nothing, either */
    int64_t idle_ms;     /* how long nothing must be written then, */
    const char *const
        *beats; /* but these, seldom: what tells that somebody was there; may be NULL */

    void *(*create)(struct sim *sim); /* the scenario's own world */
    void (*destroy)(void *world);
    /* Drivers and kinds of a new process, into its manager. */
    int (*join)(struct sim_process *process, struct fl_error *err);
    void (*leave)(struct sim_process *process);
    void (*edit)(struct sim *sim); /* a user does something */
    /* Something of the outside world happens by itself. `calm`: only what must happen at last
     * (a start that comes up, a fetch that ends). False: nothing to happen. */
    bool (*happen)(struct sim *sim, bool calm);
    int64_t (*next_due_ms)(struct sim *sim); /* of the outside world; INT64_MAX; may be NULL */
    void (*calm)(struct sim *sim);     /* edits and faults end: remotes are up again; may be NULL */
    bool (*watchful)(struct sim *sim); /* looked at after each turn; may be NULL */
    /* Is the world what the objects ask for? Says what is not. */
    bool (*converged)(struct sim *sim, struct fl_buf *why);
    void (*touch)(struct sim *sim,
                  struct sim_process *process); /* makes all passes run once more */
    uint64_t (*actions)(struct sim *sim);       /* of drivers that changed something, so far */
    void (*remove_all)(struct sim *sim);        /* a user deletes everything */
    bool (*nothing_left)(struct sim *sim, struct fl_buf *why);
};

extern const struct sim_scenario sim_toy, sim_toy_pair, sim_workload, sim_gitsync, sim_flround,
    sim_project, sim_serving, sim_imagebuild;

struct sim_options {
    uint64_t seed;
    const struct sim_scenario *scenario;
    const char *planted; /* a bug by name, or NULL */
    uint64_t fault_at;   /* which call meets `fault`; 0: faults are by chance */
    enum sim_fault fault;
    bool faultless; /* no faults at all: counts the calls */
    bool trace;     /* each turn to stderr */
};

struct sim_result {
    bool failed;
    bool is_no_oracle; /* the run itself broke or hung */
    char oracle[40];
    uint64_t calls, turns, passes, trace_hash;
    int64_t virtual_ms;
};

#define SIM_DEFINITIONS_MAX 32
#define SIM_TRACE_LINES     400
#define SIM_TRACE_SHOWN     50

struct sim {
    struct sim_options options;
    const struct sim_scenario *scenario;
    void *world; /* the scenario's */
    struct fl_fake_env clock;
    struct fl_env env; /* the world's: that of the API server */
    uint64_t random;
    struct fl_loop *loop;
    struct fl_store *store;
    struct fl_apiserver_options server_options; /* lent to it */
    const char *definitions[SIM_DEFINITIONS_MAX];
    struct fl_apiserver *server;
    struct fl_apiclient *client; /* past all faults: users and oracles */
    struct sim_process *processes[SIM_PROCESSES_MAX];
    unsigned lives;
    struct sim_process *acting; /* whose call is under way */
    struct sim_process *turned; /* whose pass is under way */
    bool busy;                  /* faults and edits are on */
    bool idle;                  /* nothing is to be written */
    unsigned beats;             /* written meanwhile */
    unsigned edits_left;
    int64_t began_ms;
    uint64_t turn, calls, passes;
    uint64_t first_revision; /* of the world before the run */
    uint64_t writes;         /* commits that are neither leases nor events */
    uint64_t last_revision;
    json_t *lease;        /* newest content */
    struct fl_map *known; /* uid → newest content */
    char *lines[SIM_TRACE_LINES];
    uint64_t line_count, trace_hash;
    struct sim_result result;
    struct fl_buf failure;
};

/* Chance. */
uint64_t sim_random(struct sim *sim);
uint64_t sim_below(struct sim *sim, uint64_t bound);
bool sim_chance(struct sim *sim, unsigned percent);

/* What happened: one line, kept for the report and mixed into the hash of the run. */
void sim_trace(struct sim *sim, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* An oracle speaks: the run is over. The first failure counts. */
void sim_fail(struct sim *sim, const char *oracle, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool sim_planted(const struct sim *sim, const char *bug);

/* Time of the world, in which nothing is skewed. */
static inline int64_t sim_now_ms(const struct sim *sim)
{
    return sim->clock.monotonic_ms;
}
void sim_advance(struct sim *sim, int64_t ms);

/* The world (world.c): made once, then forked for each run. */
int sim_world_create(struct sim *sim, const struct sim_scenario *scenario, struct fl_error *err);
void sim_world_destroy(struct sim *sim);
/* What the API server has in memory is lost; its clients must be gone. */
void sim_world_restart_server(struct sim *sim);
/* One run in this world, which is spent then. */
void sim_run(struct sim *sim, const struct sim_options *options);
void sim_report(const struct sim *sim, struct fl_buf *out); /* of a failure */

/* Processes (process.c). */
void sim_process_start(struct sim *sim, unsigned slot);
void sim_process_end(struct sim *sim, unsigned slot); /* drops all it had in memory */
void sim_process_bury(struct sim *sim);               /* dead ones end, and begin anew */

/* Calls (faults.c). What a call of the process meets; SIM_CRASH_… have killed it already when this
 * returns, and a dead one gets SIM_CRASH_BEFORE always. */
enum sim_call_kind { SIM_CALL_READ, SIM_CALL_WRITE, SIM_CALL_DRIVER_READ, SIM_CALL_DRIVER_WRITE };
enum sim_fault sim_call(struct sim_process *process, enum sim_call_kind kind, const char *what);
static inline bool sim_takes_place(enum sim_fault fault)
{
    return fault == SIM_FAULT_NONE || fault == SIM_CRASH_AFTER || fault == SIM_LOST_ANSWER ||
           fault == SIM_SLOW;
}
/* Whether old reads and odd events are in order just now. */
bool sim_is_odd(const struct sim *sim);
/* To be said once the call has taken place: where the process dies afterwards. */
void sim_call_done(struct sim_process *process, enum sim_fault fault);
/* The error that such a call returns, 0 for none. */
int sim_fault_error(enum sim_fault fault, struct fl_error *err);

/* The process's client (client.c): the local driver with faults. */
struct fl_apiclient *sim_client_create(struct sim_process *process);
void sim_watches_settle(struct sim_process *process); /* late events come, broken watches say so */
bool sim_watches_stir(struct sim_process *process);   /* one late thing comes; false: none */

/* Oracles that know no kind (rules.c): looked at in each commit. */
void sim_rules_begin(struct sim *sim);
/* The newest content of the object with this uid; borrowed, NULL where there is none. */
const json_t *sim_object_by_uid(struct sim *sim, const char *uid);
/* A driver is about to cause something for this owner: it must have its finalizer. */
void sim_rule_effect(struct sim_process *process, const char *uid, const char *finalizer);
void sim_rule_leader(struct sim_process *process, const char *what);

/* Objects, for scenarios: past all faults. NULL: not there. The caller's. */
json_t *sim_get(struct sim *sim, const struct fl_gvr *gvr, const char *ns, const char *name);
json_t *sim_list(struct sim *sim, const struct fl_gvr *gvr);                /* an array, by name */
void sim_create(struct sim *sim, const struct fl_gvr *gvr, json_t *object); /* steals */
void sim_patch(struct sim *sim, const struct fl_gvr *gvr, const char *ns, const char *name,
               json_t *patch); /* steals */
void sim_delete(struct sim *sim, const struct fl_gvr *gvr, const char *ns, const char *name);

/* Says what is wrong, and returns false. */
bool sim_wrong(struct fl_buf *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const json_t *sim_condition(const json_t *object, const char *type); /* or NULL */
bool sim_is_condition(const json_t *object, const char *type, const char *status);

/* The bugs that are planted to see that each is found (planted.c). */
struct sim_bug {
    const char *name, *what;
    const struct sim_scenario *scenario;
};
/* What a planted bug makes of a call (planted_calls.c): its new body, where it has one. */
struct fl_bytes *sim_plant_in_call(struct sim *sim, struct fl_api_call *call);
extern const struct sim_bug sim_bugs[];
extern const size_t sim_bug_count;

#endif
