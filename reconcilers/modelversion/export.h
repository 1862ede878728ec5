/* A ModelVersion's content in other people's forms, with what its object tells of where it came
 * from. Any thread; `version` is the object as JSON. */
#ifndef FL_RECONCILERS_MODELVERSION_EXPORT_H
#define FL_RECONCILERS_MODELVERSION_EXPORT_H

#include "lib/json.h"
#include "lib/mem.h"

struct fl_model; /* of workloads/tensor; the API's types have one of this name, too */
struct fl_model_note;

/* What is known of its making, as notes of an ONNX or MLflow export; in the arena. */
void fl_model_version_lineage(const json_t *version, struct fl_arena *arena,
                              const struct fl_model_note **ret_notes, size_t *ret_count);

/* Reads its content from a file, in the format that the object says. The caller's. */
int fl_model_version_read(const json_t *version, const char *path, struct fl_model **ret_model,
                          struct fl_error *err);

/* Whether a safetensors file is a model that does not say what it is, so that only the code that
 * trained it can use it. Looks at the header alone. */
bool fl_model_needs_code(const char *path);

/* Writes an MLflow directory of what the file `content` has. The same version gives the same
 * directory: time and id are the model's. Errors as of fl_mlflow_write (workloads/model/mlflow.h).
 */
int fl_model_version_write_mlflow(const json_t *version, const char *content, const char *path,
                                  struct fl_error *err);

/* The same of a model of somebody's own code (`python->content` is the file). INVALID where its
 * content is no safetensors file. */
struct fl_mlflow_python;
int fl_model_version_write_python(const json_t *version, const struct fl_mlflow_python *python,
                                  const char *path, struct fl_error *err);
/* For a tracker. As write_mlflow; a model that does not say what it is with the code of the image
 * that it was trained in (code.h) and `adapter`, the adapter for Python's modules. Where the code
 * cannot be had, `why_bare` says why (else its code is 0), and there is only the file. */
struct fl_blobs;
struct fl_model_tracking {
    struct fl_blobs *blobs; /* images are among them */
    const char *adapter;    /* NULL: there is none here */
    const char *path;
};
int fl_model_version_write_tracked(const json_t *version, const char *content,
                                   const struct fl_model_tracking *tracking,
                                   struct fl_error *why_bare, struct fl_error *err);

#endif
