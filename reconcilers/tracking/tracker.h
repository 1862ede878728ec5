/* Trackers: servers that keep the record of trainings (experiments, runs, models), behind a table.
 *
 * A session is one server as one user. It knows nothing of projects: what should be there is said
 * by plan.h, and deliver.h brings a tracker to it. All that is made carries a tag by which it is
 * found again, so nothing need be remembered on this side.
 *
 * Must: look first and make then, so that what was made by a call whose answer was lost is found by
 * the next; take the same metrics again without doubling them; have a deadline for every call, and
 * a bound on every answer. A session is used by one thread at a time. What is returned is in the
 * arena. Errors: UNAVAILABLE, TIMEOUT, TOO_MANY_REQUESTS, INTERNAL (the server is not well, try
 * again later), UNAUTHORIZED, FORBIDDEN (the credentials are not good enough), INVALID (the server
 * refuses what it was given, or is no tracker). No text of an error holds a secret.
 *
 * Drivers: mlflow (mlflow.h), fake (tracker_fake.h). */
#ifndef FL_RECONCILERS_TRACKING_TRACKER_H
#define FL_RECONCILERS_TRACKING_TRACKER_H

#include "api/field.h"
#include "lib/env.h"
#include "lib/error.h"

/* Whom to call, and as whom. */
struct fl_tracker_server {
    const char *url;                 /* no slash at the end */
    const char *username, *password; /* basic; NULL: none */
    const char *token;               /* bearer; NULL: none */
    const char *ca_pem;              /* NULL: the system's authorities */
};

struct fl_tracked_metric {
    const char *key;
    double value;
    int64_t time_ms, step;
};

struct fl_tracked_dataset {
    const char *name;   /* of the data set's tag */
    const char *digest; /* at most 36 characters */
};

enum fl_tracked_status {
    FL_TRACKED_RUNNING = 1,
    FL_TRACKED_FINISHED,
    FL_TRACKED_FAILED,
    FL_TRACKED_KILLED,
};

/* A run that is to be made. */
struct fl_tracked_new_run {
    const char *name;
    int64_t start_ms;
    struct fl_string_map tags;
};

/* A run as the server has it. */
struct fl_tracked_run {
    const char *id;
    enum fl_tracked_status status; /* 0: one that we do not know */
    int64_t end_ms;
    struct fl_string_map tags, params;
};

struct fl_tracked_batch {
    struct fl_string_map params, tags;
    const struct fl_tracked_metric *metrics;
    size_t metric_count;
};

/* A model that is to be there: a folder of files in the form that the tracker's users load. */
struct fl_tracked_model {
    const char *experiment_id, *run_id;
    const char *name;         /* of the logged model */
    const char *key, *digest; /* the tag that it is found by, and its value */
    int64_t step;             /* the round */
    struct fl_string_map params, tags;
    const char *folder; /* on this machine; read only where the model is not there yet */
    int (*make)(void *user, const char **ret_folder, struct fl_error *err); /* … and made here */
    void *user;
    const char *registered;     /* name in the registry */
    const char *const *aliases; /* that it should have there */
    size_t alias_count;
    const char *owner_key, *owner; /* a tag on versions: whose aliases may be moved */
};

struct fl_tracked_version {
    const char *model_id; /* NULL: the server knows no logged models */
    const char *version;  /* in the registry */
    const char *url;      /* its page */
};

struct fl_tracker;

struct fl_tracker_ops {
    const char *name;
    void (*destroy)(struct fl_tracker *tracker);
    /* The experiment of this name, made where it is not there. INVALID where it was deleted. */
    int (*experiment)(struct fl_tracker *tracker, const char *name,
                      const struct fl_string_map *tags, struct fl_arena *arena, const char **ret_id,
                      struct fl_error *err);
    /* The run with this tag. NOT_FOUND. Doubles that a lost answer left are deleted. */
    int (*find_run)(struct fl_tracker *tracker, const char *experiment_id, const char *key,
                    const char *value, struct fl_arena *arena, struct fl_tracked_run *ret_run,
                    struct fl_error *err);
    int (*create_run)(struct fl_tracker *tracker, const char *experiment_id,
                      const struct fl_tracked_new_run *run, struct fl_arena *arena,
                      struct fl_tracked_run *ret_run, struct fl_error *err);
    /* Any amount: the driver divides it; metrics arrive in their order, params first, tags last. */
    int (*log)(struct fl_tracker *tracker, const char *run_id, const struct fl_tracked_batch *batch,
               struct fl_error *err);
    /* At which steps the run has this metric; ascending. */
    int (*steps)(struct fl_tracker *tracker, const char *run_id, const char *metric,
                 struct fl_arena *arena, struct fl_int_list *ret_steps, struct fl_error *err);
    /* Which data the run used. The same again is fine. */
    int (*inputs)(struct fl_tracker *tracker, const char *run_id,
                  const struct fl_tracked_dataset *datasets, size_t count, struct fl_error *err);
    int (*set_status)(struct fl_tracker *tracker, const char *run_id, enum fl_tracked_status status,
                      int64_t end_ms, struct fl_error *err);
    /* The model, its version in the registry, and that version's aliases. An alias that stands on
     * another owner's version is taken only by a version that is new. */
    int (*model)(struct fl_tracker *tracker, const struct fl_tracked_model *model,
                 struct fl_arena *arena, struct fl_tracked_version *ret_version,
                 struct fl_error *err);
    /* The page of a run, for people. */
    const char *(*run_url)(struct fl_tracker *tracker, const char *experiment_id,
                           const char *run_id, struct fl_arena *arena);
};

struct fl_tracker {
    const struct fl_tracker_ops *ops;
};

static inline void fl_tracker_destroy(struct fl_tracker *tracker)
{
    if (tracker)
        tracker->ops->destroy(tracker);
}
FL_DEFINE_CLEANUP(struct fl_tracker, fl_tracker_destroy)

/* Opens a session; calls nobody. `go_on` (may be NULL) is asked about every second during a call;
 * false breaks it off (UNAVAILABLE). `server` is copied, the rest lent. */
struct fl_tracker_options {
    const struct fl_env *env;
    const struct fl_tracker_server *server;
    bool (*go_on)(void *user);
    void *user;
};
typedef int fl_tracker_open_fn(void *user, const struct fl_tracker_options *options,
                               struct fl_tracker **ret_tracker, struct fl_error *err);

#endif
