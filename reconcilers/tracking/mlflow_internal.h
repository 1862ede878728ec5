/* Between the parts of the MLflow driver. */
#ifndef FL_RECONCILERS_TRACKING_MLFLOW_INTERNAL_H
#define FL_RECONCILERS_TRACKING_MLFLOW_INTERNAL_H

#include "lib/http_client.h"
#include "lib/json.h"
#include "reconcilers/tracking/mlflow.h"

struct fl_mlflow {
    struct fl_tracker base;
    const struct fl_env *env;
    struct fl_arena *arena; /* of the session */
    struct fl_http_client *client;
    const char *url;
    const char *authorization; /* a header; NULL: none */
    bool (*go_on)(void *user);
    void *user;
};

/* What MLflow answers with its code; NONE where it is no answer of MLflow's. */
enum fl_mlflow_code {
    FL_MLFLOW_NONE = 0,
    FL_MLFLOW_OTHER,
    FL_MLFLOW_DOES_NOT_EXIST,
    FL_MLFLOW_ALREADY_EXISTS,
    FL_MLFLOW_NO_ENDPOINT,
};

struct fl_mlflow_call {
    const char *method, *path;     /* path below /api/2.0, query and all */
    const json_t *body;            /* NULL: none */
    enum fl_mlflow_code *ret_code; /* may be NULL; of a failure */
};
/* One call. *ret_answer (may be NULL) is in the arena, an object. */
int fl_mlflow_call(struct fl_mlflow *mlflow, const struct fl_mlflow_call *call,
                   struct fl_arena *arena, const json_t **ret_answer, struct fl_error *err);
/* Sends a file, by the artifact proxy. `path` is escaped here. */
int fl_mlflow_put_file(struct fl_mlflow *mlflow, const char *path, int fd, int64_t size,
                       struct fl_error *err);

/* Reading. */
/* An answer's error, in our words and codes; never < bounded text of the server's. */
int fl_mlflow_read_error(int status, const char *text, size_t len, enum fl_mlflow_code *ret_code,
                         struct fl_error *err);
/* "mlflow-artifacts:/1/abc/artifacts" → "1/abc/artifacts"; INVALID where the store is another one.
 */
int fl_mlflow_proxy_path(const char *uri, struct fl_arena *arena, const char **ret_path,
                         struct fl_error *err);
int fl_mlflow_read_run(const json_t *run, struct fl_arena *arena, struct fl_tracked_run *ret_run,
                       struct fl_error *err);
/* 64-bit numbers come as numbers or as texts. */
int64_t fl_mlflow_int(const json_t *value);
/* A text of a path that must be there: INVALID else. */
int fl_mlflow_text(const json_t *answer, const char *path, struct fl_arena *arena,
                   const char **ret_text, struct fl_error *err);

/* Writing. */
json_t *fl_mlflow_pairs(const struct fl_string_map *map); /* [{"key","value"}] */
json_t *fl_mlflow_number(double value);

/* The table's entries. */
int fl_mlflow_experiment(struct fl_tracker *tracker, const char *name,
                         const struct fl_string_map *tags, struct fl_arena *arena,
                         const char **ret_id, struct fl_error *err);
int fl_mlflow_find_run(struct fl_tracker *tracker, const char *experiment_id, const char *key,
                       const char *value, struct fl_arena *arena, struct fl_tracked_run *ret_run,
                       struct fl_error *err);
int fl_mlflow_create_run(struct fl_tracker *tracker, const char *experiment_id,
                         const struct fl_tracked_new_run *run, struct fl_arena *arena,
                         struct fl_tracked_run *ret_run, struct fl_error *err);
int fl_mlflow_log(struct fl_tracker *tracker, const char *run_id,
                  const struct fl_tracked_batch *batch, struct fl_error *err);
int fl_mlflow_steps(struct fl_tracker *tracker, const char *run_id, const char *metric,
                    struct fl_arena *arena, struct fl_int_list *ret_steps, struct fl_error *err);
int fl_mlflow_inputs(struct fl_tracker *tracker, const char *run_id,
                     const struct fl_tracked_dataset *datasets, size_t count, struct fl_error *err);
int fl_mlflow_set_status(struct fl_tracker *tracker, const char *run_id,
                         enum fl_tracked_status status, int64_t end_ms, struct fl_error *err);
int fl_mlflow_model(struct fl_tracker *tracker, const struct fl_tracked_model *model,
                    struct fl_arena *arena, struct fl_tracked_version *ret_version,
                    struct fl_error *err);

#endif
