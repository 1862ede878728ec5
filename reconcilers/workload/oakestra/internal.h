/* Within the orchestrator oakestra. All of it under the driver's lock, unless it says otherwise. */
#ifndef FL_RECONCILERS_OAKESTRA_INTERNAL_H
#define FL_RECONCILERS_OAKESTRA_INTERNAL_H

#include "reconcilers/workload/oakestra/oakestra.h"

#include "lib/log.h"
#include "lib/map.h"
#include "lib/thread.h"
#include "reconcilers/workload/oakestra/core.h"

#define OAK_RECORD_MAX     ((size_t)256 * 1024)
#define OAK_RECORD_VERSION 1

/* An instance and its last run. */
struct oak_run {
    struct fl_oakestra *driver;
    char *key, *uid;        /* key: "UID/INDEX" */
    struct fl_arena *arena; /* of the record */
    struct oak_record record;
    json_t *service; /* the microservice, until it is at the root; NULL */
    char *logs;      /* as the root told last; NULL */
};

/* A cluster, which is all that a root tells of its nodes. */
struct oak_place {
    struct oak_cluster cluster;
    const char *name;   /* as an object's name may be */
    int64_t changed_us; /* when that it is ready last did */
    bool listed;        /* now; else it is remembered for a while */
};

/* What the driver is told by its Orchestrator, as the thread uses it. */
struct oak_config {
    struct fl_arena *arena;
    const struct fl_orchestrator_spec *spec; /* a copy in it */
    const char *endpoint, *network_endpoint, *ns, *program_image;
    enum fl_orchestrator_oakestra_constraints constraints;
    int64_t timeout_ms, poll_ms, grace_ms;
    struct oak_settings settings;
};

struct fl_oakestra {
    struct fl_orchestrator_driver base;
    const struct fl_env *env;
    char *folder, *name;
    char prefix[OAK_PREFIX_SIZE];
    fl_oakestra_credentials_fn *credentials;
    void *credentials_user;
    fl_run_changed_fn *changed;
    void *changed_user;
    int64_t follow_ms;

    struct fl_lock *lock;
    struct fl_signal *wake;
    struct fl_thread *thread;
    bool stopping, poked;      /* poked: there is something to do before the next list is due */
    struct fl_map *runs;       /* key → struct oak_run */
    struct oak_config *config; /* the thread's; NULL: not configured yet */
    struct oak_config *next;   /* takes its place when the thread comes by; NULL */

    /* What was seen last. */
    struct fl_arena *seen_arena;
    struct oak_place *places; /* in it */
    size_t place_count;
    int64_t seen_us, seen_ms; /* realtime and monotonic; 0: never */
    int64_t silent_us;        /* when it was last back after being out of reach */
    struct fl_error problem;  /* of the last try; code 0: it answers */
    struct fl_oakestra_counts counts;
};

static inline struct fl_oakestra *oak_of(struct fl_orchestrator_driver *driver)
{
    return (struct fl_oakestra *)driver;
}

/* runs.c */
struct oak_run *oak_run_find(struct fl_oakestra *oak, const char *uid, int64_t index);
/* Takes the place of what was known of the instance. */
struct oak_run *oak_run_put(struct fl_oakestra *oak, const struct oak_record *record);
void oak_run_free(void *user);
/* Out of the table and off the disk. */
void oak_run_drop(struct oak_run *run);
int oak_run_write(const struct oak_run *run, struct fl_error *err);
int oak_runs_read(struct fl_oakestra *oak, struct fl_error *err);

/* record.c: pure. */
json_t *oak_record_encode(const struct oak_record *record);
int oak_record_decode(struct fl_arena *arena, const char *text, size_t len,
                      struct oak_record *ret_record, struct fl_error *err);

/* worker.c: the thread. */
void oak_work(void *user);

/* What holds from now on; NULL: nothing yet. */
static inline const struct oak_config *oak_config_of(const struct fl_oakestra *oak)
{
    return oak->next ? oak->next : oak->config;
}
void oak_config_free(struct oak_config *config);

/* nodes.c */
/* Takes over a list of clusters; true where something changed that matters. */
bool oak_see_clusters(struct fl_oakestra *oak, const struct oak_clusters *list);
const struct oak_place *oak_place_find(const struct fl_oakestra *oak, const char *name);
int oak_nodes(struct fl_orchestrator_driver *self, struct fl_arena *arena,
              struct fl_node_list *ret_nodes, struct fl_error *err);
/* UNAVAILABLE while the root is out of reach. */
int oak_check_reach(const struct fl_oakestra *oak, struct fl_error *err);

/* logs.c */
int oak_log_open(struct fl_orchestrator_driver *self, const struct fl_log_query *query,
                 void (*more)(void *user), void *user, struct fl_log_reader **ret_reader,
                 struct fl_error *err);
int64_t oak_log_read(struct fl_log_reader *reader, void *out, size_t size, bool *ret_ended,
                     struct fl_error *err);
void oak_log_close(struct fl_log_reader *reader);

/* As fl_run_changed_fn wants it: without the lock. */
void oak_tell(const struct fl_oakestra *oak, const char *ns, const char *name);
/* The thread shall look now. */
void oak_poke(struct fl_oakestra *oak);

#endif
