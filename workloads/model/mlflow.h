/* MLflow model directories: what `mlflow.pyfunc.load_model`, `mlflow models serve` and everything
 * that stands on them take.
 *
 * The directory has the model as ONNX, with MLflow's onnx flavour as loader, so that no code of
 * ours runs in the other's process; a signature from the model's description; what it needs from
 * PyPI (requirements.txt, conda.yaml, python_env.yaml), without versions that would be too old the
 * next year; and where it came from as metadata. Any thread. Source: MLflow's documentation of the
 * model format, and what it writes itself. */
#ifndef FL_WORKLOADS_MODEL_MLFLOW_H
#define FL_WORKLOADS_MODEL_MLFLOW_H

#include "workloads/model/description.h"

struct fl_mlflow_options {
    const char *path;                    /* made; ALREADY_EXISTS where it is there */
    int64_t made_us;                     /* when, since 1970 */
    const char *model_uuid;              /* 32 hexadecimal digits */
    const struct fl_model_note *lineage; /* as for fl_onnx_encode */
    size_t lineage_count;
};

/* All of it or nothing. Errors as of fl_onnx_encode, and of files. */
int fl_mlflow_write(struct fl_model *model, const struct fl_mlflow_options *options,
                    struct fl_error *err);

#endif
