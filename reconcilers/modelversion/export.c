#include "reconcilers/modelversion/export.h"

#include "lib/env.h"
#include "lib/file.h"
#include "lib/folder.h"
#include "lib/process.h"
#include "lib/str.h"
#include "reconcilers/modelversion/code.h"
#include "workloads/model/description.h"
#include "workloads/model/mlflow.h"
#include "workloads/model/onnx.h"
#include "workloads/tensor/safetensors.h"

#include <inttypes.h>
#include <string.h>

#define LINEAGE_MAX 96 /* the fixed ones, and 64 metrics */
#define UUID_CHARS  32

/* Lineage, as the exports tell it. */

struct gathering {
    const json_t *version;
    struct fl_arena *arena;
    struct fl_model_note *notes;
    size_t count;
};

static void add_text(struct gathering *gathering, const char *name, const char *value)
{
    struct fl_arena *arena = gathering->arena;

    if (!value || !*value || gathering->count == LINEAGE_MAX)
        return;
    gathering->notes[gathering->count++] = (struct fl_model_note){
        fl_arena_printf(arena, FL_ONNX_LINEAGE "%s", name), fl_arena_strdup(arena, value)};
}

static void add_path(struct gathering *gathering, const char *name, const char *path)
{
    const json_t *value = fl_json_path(gathering->version, path);

    if (json_is_integer(value))
        add_text(gathering, name,
                 fl_arena_printf(gathering->arena, "%" PRId64, (int64_t)json_integer_value(value)));
    else if (json_is_string(value))
        add_text(gathering, name, json_string_value(value));
    else if (json_array_size(value) > 0)
        add_text(gathering, name, fl_json_to_string(gathering->arena, value));
}

void fl_model_version_lineage(const json_t *version, struct fl_arena *arena,
                              const struct fl_model_note **ret_notes, size_t *ret_count)
{
    static const char *const paths[][2] = {
        {"namespace", "metadata.namespace"},
        {"modelVersion", "metadata.name"},
        {"project", "spec.project.name"},
        {"round", "spec.round"},
        {"digest", "spec.digest"},
        {"baseModel", "spec.lineage.baseModel"},
        {"builtin", "spec.lineage.source.builtin"},
        {"url", "spec.lineage.source.url"},
        {"commit", "spec.lineage.source.commit"},
        {"path", "spec.lineage.source.path"},
        {"imageDigest", "spec.lineage.imageDigest"},
        {"dataTags", "spec.lineage.dataTags"},
        {"contributors", "spec.lineage.contributors"},
        {"examples", "spec.lineage.examples"},
        {"strategy", "spec.lineage.strategy"},
        {"mode", "spec.lineage.mode"},
        {"seed", "spec.lineage.seed"},
        {"epsilon", "spec.lineage.epsilon"},
        {"time", "spec.lineage.time"},
    };
    struct gathering gathering = {version, arena,
                                  fl_new_array(arena, struct fl_model_note, LINEAGE_MAX), 0};
    const char *name;
    json_t *value;

    for (size_t i = 0; i < FL_COUNT_OF(paths); i++)
        add_path(&gathering, paths[i][0], paths[i][1]);
    json_object_foreach(fl_json_path(version, "spec.metrics"), name, value)
        add_text(&gathering, fl_arena_printf(arena, "metrics.%s", name), json_string_value(value));
    *ret_notes = gathering.notes;
    *ret_count = gathering.count;
}

static int read_onnx(const char *path, struct fl_model **ret_model, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *file = NULL;
    int r = fl_file_read(path, FL_ONNX_BYTES_MAX, &file, err);

    return r < 0 ? r : fl_onnx_read(file->data, file->len, NULL, ret_model, err);
}

int fl_model_version_read(const json_t *version, const char *path, struct fl_model **ret_model,
                          struct fl_error *err)
{
    const char *format = fl_str_or(fl_json_str(version, "spec.format"), "Safetensors");

    if (strcmp(format, "ONNX") == 0)
        return read_onnx(path, ret_model, err);
    if (strcmp(format, "Safetensors") == 0)
        return fl_safetensors_open(path, NULL, ret_model, err);
    return fl_error_set(err, FL_E_INVALID, "content of format %s cannot be read here", format);
}

bool fl_model_needs_code(const char *path)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_description description;

    return fl_safetensors_open(path, NULL, &model, NULL) == 0 &&
           fl_description_read(model, arena, &description, NULL) == FL_E_NOT_FOUND;
}

static int read_options(const json_t *version, const char *path, struct fl_arena *arena,
                        struct fl_mlflow_options *ret_options, struct fl_error *err)
{
    const char *time = fl_str_or(fl_json_str(version, "spec.lineage.time"),
                                 fl_json_str(version, "metadata.creationTimestamp"));
    const char *digest = fl_json_str(version, "spec.digest");
    struct fl_mlflow_options options = {.path = path};

    if (!digest || !fl_str_has_prefix(digest, "sha256:"))
        return fl_error_set(err, FL_E_INVALID, "the ModelVersion has no digest");
    options.model_uuid = fl_arena_strndup(arena, digest + strlen("sha256:"), UUID_CHARS);
    fl_model_version_lineage(version, arena, &options.lineage, &options.lineage_count);
    if (time)
        (void)fl_time_parse(time, &options.made_us);
    *ret_options = options;
    return 0;
}

int fl_model_version_write_mlflow(const json_t *version, const char *content, const char *path,
                                  struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_mlflow_options options;
    int r = fl_model_version_read(version, content, &model, err);

    if (r == 0)
        r = read_options(version, path, arena, &options, err);
    return r < 0 ? r : fl_mlflow_write(model, &options, err);
}

int fl_model_version_write_python(const json_t *version, const struct fl_mlflow_python *python,
                                  const char *path, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_mlflow_options options;
    int r = 0;

    if (!fl_streq(fl_str_or(fl_json_str(version, "spec.format"), "Safetensors"), "Safetensors"))
        r = fl_error_set(err, FL_E_INVALID, "the model of code of one's own is a safetensors file");
    if (r == 0)
        r = read_options(version, path, arena, &options, err);
    return r < 0 ? r : fl_mlflow_write_python(python, &options, err);
}

static int write_with_code(const json_t *version, const char *content,
                           const struct fl_model_tracking *tracking, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *image = fl_json_str(version, "spec.lineage.imageDigest");
    const char *unpacked = fl_arena_printf(arena, "%s.image", tracking->path);
    struct fl_mlflow_python python = {.content = content, .adapter = tracking->adapter};
    int r;

    if (!image || !tracking->adapter)
        return fl_error_set(err, FL_E_NOT_FOUND,
                            image ? "the adapter for Python is not here"
                                  : "no image is known that has its code");
    r = fl_dir_remove(unpacked, err);
    if (r == 0)
        r = fl_model_code_unpack(tracking->blobs, image, unpacked, arena, &python.code, err);
    if (r == 0)
        r = fl_model_version_write_python(version, &python, tracking->path, err);
    (void)fl_dir_remove(unpacked, NULL);
    return r;
}

int fl_model_version_write_tracked(const json_t *version, const char *content,
                                   const struct fl_model_tracking *tracking,
                                   struct fl_error *why_bare, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_mlflow_options options;
    int r = fl_model_version_write_mlflow(version, content, tracking->path, err);

    *why_bare = (struct fl_error){0};
    if (r != FL_E_NOT_FOUND || !fl_path_exists(content))
        return r;
    if (write_with_code(version, content, tracking, why_bare) == 0)
        return 0;
    r = read_options(version, tracking->path, arena, &options, err);
    return r < 0 ? r : fl_mlflow_write_content(content, &options, err);
}
