/* Between the two kinds of MLflow directories. */
#ifndef FL_WORKLOADS_MODEL_MLFLOW_INTERNAL_H
#define FL_WORKLOADS_MODEL_MLFLOW_INTERNAL_H

#include "lib/json.h"
#include "workloads/model/mlflow.h"

#define FL_MLFLOW_PYTHON "3.10" /* at least */

/* Parts of MLmodel; `model` NULL: it says nothing of itself. */
json_t *fl_mlflow_metadata(const struct fl_model *model, const struct fl_mlflow_options *options);
json_t *fl_mlflow_time(int64_t made_us);
json_t *fl_mlflow_python_env(void);

int fl_mlflow_write_file(const char *folder, const char *name, const void *data, size_t len,
                         struct fl_error *err);
/* Takes the value. */
int fl_mlflow_write_yaml(const char *folder, const char *name, json_t *value, struct fl_error *err);

/* It is written beside its place, and moved there when `r` says that all went well. */
const char *fl_mlflow_part(struct fl_arena *arena, const struct fl_mlflow_options *options);
int fl_mlflow_finish(const char *folder, const struct fl_mlflow_options *options, int r,
                     struct fl_error *err);

#endif
