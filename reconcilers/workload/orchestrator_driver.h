/* The table that an orchestrator fills: for people who add one.
 *
 * A Workload is some instances 0 … n-1. What runs for one instance is a run; runs of an instance
 * are numbered from 1, and at most one of them lives at any time. The reconciler decides what
 * should run (placement, restarts, back-off, deadlines, replacement); a driver starts, observes,
 * stops and forgets runs, and probes them. What it is told it remembers by itself, durably: after a
 * restart of the control plane `observe` says what it said before, and what ended meanwhile has
 * ended there with its exit. Nothing here waits for a program: a call hands over and returns.
 *
 * All functions: any thread. Results are in the caller's arena. The contract test
 * (orchestrator_contract_test.c) says the rest. */
#ifndef FL_RECONCILERS_ORCHESTRATOR_DRIVER_H
#define FL_RECONCILERS_ORCHESTRATOR_DRIVER_H

#include "api/gen/flops_types.h"
#include "lib/env.h"
#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fl_node_capacity {
    int64_t cpu_milli, memory_bytes, storage_bytes, gpus;
};

/* A place where instances can run. */
struct fl_node {
    const char *cluster, *name;
    struct fl_string_map labels; /* those of its cluster included */
    struct fl_string_list platforms, addons, data_tags;
    struct fl_node_capacity capacity; /* 0: unknown, not counted */
    /* What the living runs on it ask for, and how many they are, of all Workloads; so that a
     * placement looks at one place. */
    struct fl_node_capacity requested;
    int64_t runs;
    bool ready;
    int64_t ready_changed_us; /* realtime, when `ready` last changed; 0: not known */
    bool runs_images, runs_processes;
    const char *message; /* why it is not ready */
};

struct fl_node_list {
    struct fl_node *items;
    size_t count;
};

struct fl_run_id {
    const char *workload_uid;
    int64_t index;
};

struct fl_run_env {
    const char *name, *value;
};

struct fl_run_file {
    const char *path;
    const void *data;
    size_t len;
    mode_t mode;
};

/* All that is needed to start one run. Values of Secrets are in env and files: a driver never logs
 * them, never puts them into arguments, and keeps them on disk only where the program reads them.
 */
struct fl_run_spec {
    struct fl_run_id id;
    int64_t number;        /* of this run, from 1 */
    int64_t restarts;      /* of this instance so far, kept for observe */
    int64_t failures;      /* starts in a row that went wrong, kept for observe */
    int64_t first_us;      /* realtime of the first start with this spec, kept for observe */
    const char *spec_hash; /* of what of the spec needs a new run when it changes; kept */
    const char *ns, *name; /* of the Workload: for people, and for fl_run_changed_fn */
    const char *cluster, *node;
    const struct fl_workload_spec *spec; /* image or process, args, ports, probes, limits … */
    const struct fl_run_env *env;        /* resolved */
    size_t env_count;
    const struct fl_run_file *files; /* resolved */
    size_t file_count;
    const char *pull_secret; /* of spec.imagePullSecret: .dockerconfigjson; NULL: none; secret */
};

enum fl_run_state {
    FL_RUN_STARTING = 1, /* handed over, not yet up, or up and not yet started as its startup probe
                            says */
    FL_RUN_RUNNING,
    FL_RUN_STOPPING,
    FL_RUN_ENDED,
    FL_RUN_UNKNOWN, /* the orchestrator cannot be asked */
};

struct fl_run_port {
    const char *name;
    int64_t port, host_port;
};

struct fl_run_exit {
    bool has_code;
    int64_t code;       /* ended by itself */
    const char *signal; /* "SIGKILL"; NULL */
    bool oom_killed;
    const char *reason;   /* Completed, Error, Signal, OOMKilled, ProbeFailed, Lost; what stop was
                             told (Stopped, Suspended, DeadlineExceeded); StartFailed, or more
                             exactly ImageNotFound or PortTaken */
    const char *message;  /* of failed starts and ProbeFailed: what went wrong; else NULL */
    int64_t ended_us;     /* realtime */
    const char *log_tail; /* the last lines, at most 2 KiB of valid UTF-8 */
};

struct fl_run {
    int64_t index, number, restarts, failures;
    int64_t first_us; /* as it was handed over */
    const char *spec_hash;
    const char *cluster, *node;
    enum fl_run_state state;
    bool ready;           /* readiness probe good, or none and running */
    const char *message;  /* of a probe that fails; may be NULL */
    int64_t requested_us; /* when start was called */
    int64_t started_us;   /* when the program came up; 0: not yet */
    int64_t ready_us;     /* when it was first ready; 0: never yet */
    const char *id;       /* process id, container id …; NULL */
    const char *address;  /* where its ports are reached; NULL */
    struct fl_run_port *ports;
    size_t port_count;
    const char *image_digest;
    struct fl_run_exit exit;      /* of an ended one */
    struct fl_run_exit last_exit; /* of the run before, where known: reason NULL if not */
};

struct fl_run_list {
    struct fl_run *items; /* by index; at most one an instance */
    size_t count;
};

/* Something about this Workload changed; with both NULL: the nodes, or whether it can be asked. Any
 * thread; must not call back into the driver. */
typedef void fl_run_changed_fn(void *user, const char *ns, const char *name);

/* Output of an instance, as it was written. */
struct fl_log_query {
    struct fl_run_id id;
    bool previous;      /* of the run before the last */
    int64_t tail_lines; /* < 0: all that is kept */
    bool timestamps;    /* each line behind its time, RFC 3339, and a space */
};
struct fl_log_reader;

struct fl_orchestrator_about {
    const char *version;
    const char *runtime; /* what runs images, with version */
};

struct fl_orchestrator_driver;

struct fl_orchestrator_ops {
    const char *type; /* as in an Orchestrator's spec.type: "Local" */
    void (*destroy)(struct fl_orchestrator_driver *self);

    /* must: settings of the Orchestrator object; called again when they change, which leaves alone
     * what runs. INVALID says what cannot be. */
    int (*configure)(struct fl_orchestrator_driver *self, const struct fl_orchestrator_spec *spec,
                     struct fl_error *err);
    /* must: all places. UNAVAILABLE while it cannot be asked. */
    int (*nodes)(struct fl_orchestrator_driver *self, struct fl_arena *arena,
                 struct fl_node_list *ret_nodes, struct fl_error *err);
    /* must: the last run of each instance of a Workload, with what is left of scaled-down ones.
     * Empty for one that is not known. */
    int (*observe)(struct fl_orchestrator_driver *self, const char *workload_uid,
                   struct fl_arena *arena, struct fl_run_list *ret_runs, struct fl_error *err);
    /* must: begin this run, once; the same number again does nothing. CONFLICT while another run of
     * the instance lives, or a later one was begun. UNAVAILABLE: try again. INVALID: no retry will
     * help. Where it failed half-way the run is ended with reason StartFailed, or was never begun.
     * One whose image had still to be fetched when the control plane ended may have ended as Lost.
     */
    int (*start)(struct fl_orchestrator_driver *self, const struct fl_run_spec *spec,
                 struct fl_error *err);
    /* must: begin to end the instance's living run: spec.stopSignal, then kill after grace_ms (a
     * later call can only shorten). `reason` is what its exit will say. None lives: nothing. */
    int (*stop)(struct fl_orchestrator_driver *self, const struct fl_run_id *id, int64_t grace_ms,
                const char *reason, struct fl_error *err);
    /* must: forget an ended instance: record, logs, state, scratch. CONFLICT while it lives. Not
     * known: nothing. */
    int (*remove)(struct fl_orchestrator_driver *self, const struct fl_run_id *id,
                  struct fl_error *err);
    /* must: uids of all Workloads of which anything is left. */
    int (*workloads)(struct fl_orchestrator_driver *self, struct fl_arena *arena,
                     struct fl_string_list *ret_uids, struct fl_error *err);

    /* may: what it is, for people; texts in the arena or NULL. */
    int (*about)(struct fl_orchestrator_driver *self, struct fl_arena *arena,
                 struct fl_orchestrator_about *ret_about, struct fl_error *err);

    /* may: output. NOT_FOUND where there is none. `more(user)` is called, on any thread, each time
     * something may have been added after a read that returned 0. */
    int (*log_open)(struct fl_orchestrator_driver *self, const struct fl_log_query *query,
                    void (*more)(void *user), void *user, struct fl_log_reader **ret_reader,
                    struct fl_error *err);
    /* Bytes read into `out`; 0: nothing now; *ret_ended: and nothing will come any more. */
    int64_t (*log_read)(struct fl_log_reader *reader, void *out, size_t size, bool *ret_ended,
                        struct fl_error *err);
    void (*log_close)(struct fl_log_reader *reader);
};

/* First member of each driver's own struct. */
struct fl_orchestrator_driver {
    const struct fl_orchestrator_ops *ops;
};

/* What one instance asks for; 0: nothing said. */
struct fl_node_capacity fl_workload_needs(const struct fl_workload_spec *spec);

/* INVALID for a table that lacks a must. */
int fl_orchestrator_check(const struct fl_orchestrator_ops *ops, struct fl_error *err);

#endif
