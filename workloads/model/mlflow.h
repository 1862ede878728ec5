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

/* A model that is no network of ours, with the code that it is for: model.safetensors, the folder
 * of code and our Python adapter beside it; MLflow runs them in its own process. What the code
 * needs from PyPI or conda is what its requirements.txt or conda.yaml says. Names that begin with a
 * dot and __pycache__ stay behind. TOO_LARGE where it is more than a repository of code has. */
struct fl_mlflow_python {
    const char *content; /* a safetensors file */
    const char *code;
    const char *entry;   /* "module:object"; NULL: as the adapter finds it */
    const char *adapter; /* a folder with flops_trainer and stand-ins */
};
int fl_mlflow_write_python(const struct fl_mlflow_python *python,
                           const struct fl_mlflow_options *options, struct fl_error *err);

/* The same model where its code is not at hand: its file, and where it came from. MLflow keeps,
 * registers and hands it out; it does not run it. `content` is a safetensors file. */
int fl_mlflow_write_content(const char *content, const struct fl_mlflow_options *options,
                            struct fl_error *err);

#endif
