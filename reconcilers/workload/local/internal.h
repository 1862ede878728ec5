/* Within the local orchestrator. All of it under the driver's lock, unless it says otherwise. */
#ifndef FL_RECONCILERS_LOCAL_INTERNAL_H
#define FL_RECONCILERS_LOCAL_INTERNAL_H

#include "reconcilers/workload/local/local.h"

#include "lib/folder.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/map.h"
#include "lib/process.h"
#include "lib/shim.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "reconcilers/workload/local/images.h"

#define PORTS_FIRST   30000
#define PORTS_LAST    32767
#define RUN_PORTS_MAX 32
#define RUN_FILES_MAX 32
#define WORKLOADS_MAX 100000
#define INSTANCES_MAX 100000
/* In the folder of a run that is a container. */
#define CONTAINER_ROOT    "rootfs"
#define CONTAINER_BUNDLE  "bundle"
#define CONTAINER_CHANGES "changes"
#define LOCAL_PATH        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define RECORD_MAX        ((size_t)1024 * 1024)
#define RECORD_VERSION    1
#define MARK_NAME         "FLOPS_RUN"

struct run_port {
    const char *name;
    int64_t port;
    bool udp, fixed;
    const char *address; /* that it is bound on */
};

/* What is known of an instance's last run, on disk in its folder as `instance.json`. */
struct record {
    int64_t number, restarts, failures;
    int64_t first_us, requested_us, ready_us;
    bool started, ready; /* as the probes found it last */
    const char *spec_hash, *ns, *name, *cluster, *node;
    int64_t stop_signal, grace_ms;
    const char *working_folder;
    struct fl_string_list files; /* paths in it that the shim puts and removes */
    const char *address;
    struct run_port ports[RUN_PORTS_MAX];
    size_t port_count;
    struct fl_workload_probes probes;
    bool has_probes;
    struct fl_cgroup cgroup;
    struct fl_node_capacity requested;
    const char *note;            /* what of the spec does not hold here; NULL */
    struct fl_run_exit previous; /* of the run before; reason NULL: none */
    /* Of one that is an image; NULL of others. */
    const char *image, *image_digest;
    const char *container, *runtime; /* the container's id, and the path of what runs it */
    struct fl_string_list layers;    /* in use */
};

enum probe_role { PROBE_STARTUP, PROBE_READINESS, PROBE_LIVENESS, PROBE_ROLES };

struct fl_net_check;
struct probe {
    struct instance *instance;
    enum probe_role role;
    const struct fl_probe *spec; /* NULL: none */
    struct fl_timer *timer;
    struct fl_net_check *check; /* under way */
    int64_t ticket;             /* of a command under way; 0: none */
    int64_t good, bad;          /* in a row */
    int64_t asked_ms;           /* monotonic, of the last try */
    char *problem;              /* of the last try; NULL: none */
};

/* The start of a container whose image is not there yet. */
struct pending {
    struct fl_local *local;
    struct instance *instance;
    struct fl_arena *arena;
    struct fl_run_spec run;         /* a copy in it */
    struct fl_cgroup_limits limits; /* those that hold */
    struct fl_image_job *job;
    bool stopped;
    const char *reason, *message;
    struct fl_image *image; /* when it is there; else the error says why not */
    struct fl_error err;
};

struct instance {
    struct fl_local *local;
    struct workload *workload;
    int64_t index;
    struct fl_arena *arena; /* of the record and the status */
    struct record record;
    struct fl_shim_status status;
    bool alive, stopping, sweeping;
    int64_t sweeps; /* how often what a dead shim left was killed */
    bool gone;      /* forgotten; freed by the loop */
    struct pending *pending;
    bool holds;   /* its layers */
    int removing; /* what removes a container; 0: not begun, < 0: done */
    struct fl_shim shim;
    struct fl_loop_fd *socket_watch, *pidfd_watch; /* the loop's */
    struct fl_timer *watchdog;                     /* the loop's */
    struct probe probes[PROBE_ROLES];              /* the loop's */
    char message[512];                             /* of a probe that fails */
};

struct workload {
    char *uid;
    struct instance **instances; /* by index */
    size_t count, cap;
};

struct container_runtime {
    char *path;    /* NULL: none */
    char *why_not; /* then */
    bool crun;
};

struct fl_local {
    struct fl_orchestrator_driver base;
    const struct fl_env *env;
    char *data_dir, *folder, *program, *shim, *version;
    fl_run_changed_fn *changed;
    void *changed_user;
    struct fl_lock *lock;
    struct fl_map *workloads; /* uid → struct workload */
    struct fl_map *ports;     /* "tcp/30000" → struct instance */
    struct fl_arena *settings_arena;
    struct fl_orchestrator_local settings; /* in it */
    struct fl_cgroups *cgroups;            /* NULL: do without */
    struct fl_loop *loop;
    struct fl_thread *thread;
    int64_t hung_ms;
    int64_t next_ticket, next_port, next_trash;
    bool emptying, empty_again; /* the trash: the loop's */
    struct fl_lock *logs_lock;  /* taken after the other one */
    int log_watcher;
    struct fl_loop_fd *log_watcher_watch;
    struct fl_log_reader *readers;
    /* Containers. */
    struct fl_images *images; /* NULL: none are run */
    struct container_runtime runtime;
    char *first;        /* flops-init; NULL: programs are first themselves */
    char *state_folder; /* the runtime's */
    char *runtime_text; /* for people; NULL: not known yet */
    unsigned overlays;
    bool no_images, no_overlay, closing;
};

static inline struct fl_local *local_of(struct fl_orchestrator_driver *driver)
{
    return (struct fl_local *)driver;
}

/* instances.c: what there is. */
struct workload *local_workload(struct fl_local *local, const char *uid); /* NULL: none */
struct instance *local_instance(struct fl_local *local, const struct fl_run_id *id);
struct instance *local_instance_ensure(struct fl_local *local, const char *uid, int64_t index);
void local_instance_drop(struct instance *instance); /* out of the tables; freed on the loop */
void local_instance_free(void *user);
void local_workload_free(void *user);
const char *local_instance_folder(struct fl_arena *arena, const struct instance *instance);
const char *local_run_folder(struct fl_arena *arena, const struct instance *instance,
                             int64_t number);
const char *local_mark(struct fl_arena *arena, const struct instance *instance);
/* Moves a file or folder out of the way at once; a worker removes it. Any thread. */
void local_trash(struct fl_local *local, const char *path);
void local_empty_trash(struct fl_local *local); /* what an earlier control plane left there */
/* As fl_run_changed_fn wants it: call without the lock. */
void local_tell(struct fl_local *local, const char *ns, const char *name);

/* record.c: as bytes and on disk. */
json_t *record_encode(const struct record *record);
int record_decode(struct fl_arena *arena, const char *text, size_t len, struct record *ret_record,
                  struct fl_error *err);
/* INVALID for one that could not be read again. */
int record_check(const struct record *record, struct fl_error *err);
int record_write(const struct instance *instance, struct fl_error *err);
void record_clone_probes(struct fl_arena *arena, const struct fl_workload_probes *from,
                         struct fl_workload_probes *ret_probes);
struct fl_run_exit exit_of_status(const struct fl_shim_status *status);

/* ports.c */
/* Fills in the record's ports. CONFLICT where a fixed one is taken; UNAVAILABLE: none is free. */
int ports_take(struct instance *instance, struct fl_arena *arena,
               const struct fl_workload_spec *spec, const struct record *before,
               struct record *record, struct fl_error *err);
void ports_hold(struct instance *instance, const struct record *record, bool chosen_only);
void ports_release(struct instance *instance, const struct record *record, bool fixed_only);

/* start.c */
int local_start(struct fl_orchestrator_driver *self, const struct fl_run_spec *spec,
                struct fl_error *err);
/* What is run, as the shim wants it. */
struct plan {
    struct fl_arena *arena;
    struct instance *instance;
    const struct fl_run_spec *run;
    struct record record;
    struct fl_shim_spec shim;
    struct fl_cgroup_limits limits; /* those that hold */
    struct fl_shim_list env;        /* of the program */
    const char *folder, *temporary;
    bool own_folder; /* the working folder is ours */
    mode_t mode;     /* of folders that lead to it */
};
/* prepare.c: INVALID for what cannot be; touches nothing. */
int plan_check(const struct fl_local *local, const struct fl_run_spec *run, struct fl_error *err);
/* Program, environment and limits of a plan with its ports. */
int plan_program(struct plan *plan, struct fl_error *err);
/* Folders and mounts on disk. */
int plan_folders(struct plan *plan, struct fl_error *err);

void plan_environment(struct plan *plan); /* what every program is told */
void plan_log(struct plan *plan);
void plan_note(struct plan *plan, const char *what); /* that does not hold here */
const char *plan_folder_behind(struct plan *plan, const struct fl_workload_mount *mount,
                               size_t number);
/* Starts the shim of a plan. */
int local_launch(struct plan *plan, struct fl_error *err);

/* runtime.c */
int runtime_set_up(struct fl_local *local, const struct fl_image_source *source,
                   struct fl_error *err);
/* INVALID where exactly one is wanted and cannot be had. */
int runtime_choose(struct fl_local *local, enum fl_orchestrator_local_runtime wanted,
                   struct fl_error *err);
const char *runtime_version(const char *path, struct fl_arena *arena); /* blocks */
void runtime_finish(struct container_runtime *runtime);

/* container.c: a run that is an image. */
int container_begin(struct plan *plan, struct fl_error *err);
void container_stop(struct instance *instance, const char *reason, const char *message);
void container_settle(struct instance *instance);
void container_adopt(struct instance *instance);
bool container_remove(struct instance *instance);
/* container_plan.c */
const char *container_id(struct fl_arena *arena, const struct fl_run_spec *run);
bool container_is_read_only(const struct fl_workload_spec *spec);
int plan_container(struct plan *plan, const struct fl_image *image, struct fl_error *err);

/* Whom to tell, kept beyond the lock: note with it, spread without. */
struct news {
    struct fl_local *local;
    char *ns, *name; /* NULL: nothing */
};
void news_note(struct news *news, const struct instance *instance);
void news_spread(struct news *news);

/* supervise.c: the loop's thread. */
/* Any thread: of an instance whose shim was just connected, or is dead (no descriptors). */
void local_supervise(struct instance *instance);
int local_stop(struct instance *instance, int64_t grace_ms, const char *reason, const char *message,
               struct fl_error *err);
/* The run has ended without its shim's word, or before it had one. */
void local_record_end(struct instance *instance, const char *reason, const char *message);
bool local_is_ready(const struct instance *instance);

/* probes.c: the loop's thread. */
void probes_begin(struct instance *instance);
void probes_restore(struct instance *instance); /* any thread: what is ready without being asked */
void probes_end(struct instance *instance);
/* A command's result; true where something changed. */
bool probes_checked(struct instance *instance, int64_t ticket, int64_t code);

/* adopt.c */
int local_adopt(struct fl_local *local, struct fl_error *err);

/* nodes.c */
int local_nodes(struct fl_orchestrator_driver *self, struct fl_arena *arena,
                struct fl_node_list *ret_nodes, struct fl_error *err);

/* logs.c */
int local_log_open(struct fl_orchestrator_driver *self, const struct fl_log_query *query,
                   void (*more)(void *user), void *user, struct fl_log_reader **ret_reader,
                   struct fl_error *err);
int64_t local_log_read(struct fl_log_reader *reader, void *out, size_t size, bool *ret_ended,
                       struct fl_error *err);
void local_log_close(struct fl_log_reader *reader);
int local_logs_begin(struct fl_local *local, struct fl_error *err);
void local_logs_end(struct fl_local *local);
void local_logs_ended(struct instance *instance); /* what follows it may look again */

#endif
