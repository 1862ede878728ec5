/* `flops models export`: a model brought here, in the form that is asked for. */
#include "cmd/command.h"
#include "cmd/models.h"
#include "lib/file.h"
#include "lib/folder.h"
#include "lib/process.h"
#include "lib/str.h"
#include "workloads/model/mlflow.h"
#include "workloads/model/onnx.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define LINEAGE_MAX 32

static const char help[] =
    "Usage: flops models export MODEL [options]\n\n"
    "      --format FORMAT     safetensors (the default): as it is in the content store\n"
    "                          onnx: with its graph, for any runtime\n"
    "                          mlflow: a directory that MLflow loads and serves\n"
    "  -o, --output PATH       default NAME.safetensors, NAME.onnx or NAME\n"
    "      --overwrite         a file that is there already; never a directory\n" //
    FL_CLIENT_HELP FL_MODELS_REFERENCE_HELP "\nExamples:\n"
    "  flops models export mnist:best --format onnx -o mnist.onnx\n"
    "  flops models export mnist:latest --format mlflow -o mnist && mlflow models serve -m mnist\n";

struct export
{
    struct fl_models *models;
    json_t *version;
    const char *format, *path;
    bool overwrite;
    char *fetched; /* a file of ours beside the output, or NULL */
    struct fl_model *model;
    struct fl_model_note lineage[LINEAGE_MAX];
    size_t lineage_count;
};

static void export_finish(struct export *export)
{
    fl_model_unref(export->model);
    if (export->fetched)
        fl_path_remove(export->fetched);
}

/* Lineage, as the exports tell it. */

static void add_text(struct export *export, const char *name, const char *value)
{
    struct fl_arena *arena = export->models->arena;

    if (!value || !*value || export->lineage_count == LINEAGE_MAX)
        return;
    export->lineage[export->lineage_count++] = (struct fl_model_note){
        fl_arena_printf(arena, FL_ONNX_LINEAGE "%s", name), fl_arena_strdup(arena, value)};
}

static void add_path(struct export *export, const char *name, const char *path)
{
    const json_t *value = fl_json_path(export->version, path);

    if (json_is_integer(value))
        add_text(
            export, name,
            fl_arena_printf(export->models->arena, "%" PRId64, (int64_t)json_integer_value(value)));
    else if (json_is_string(value))
        add_text(export, name, json_string_value(value));
    else if (json_array_size(value) > 0)
        add_text(export, name, fl_json_to_string(export->models->arena, value));
}

static void gather_lineage(struct export *export)
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
    const char *name;
    json_t *value;

    for (size_t i = 0; i < FL_COUNT_OF(paths); i++)
        add_path(export, paths[i][0], paths[i][1]);
    json_object_foreach(fl_json_path(export->version, "spec.metrics"), name, value)
        add_text(export, fl_arena_printf(export->models->arena, "metrics.%s", name),
                 json_string_value(value));
}

/* Fetching. */

static int fetch(struct export *export, struct fl_error *err)
{
    const char *digest = fl_json_str(export->version, "spec.digest");
    char *path;
    int r;

    if (!digest)
        return fl_error_set(err, FL_E_INVALID, "the ModelVersion has no digest");
    path = fl_arena_printf(export->models->arena, "%s.part-%ld", export->path, (long)getpid());
    r = fl_models_fetch(export->models, digest, fl_json_int(export->version, "spec.size", -1), path,
                        err);
    if (r == 0)
        export->fetched = path;
    return r;
}

static int read_onnx(const char *path, struct fl_model **ret_model, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *file = NULL;
    int r = fl_file_read(path, FL_ONNX_BYTES_MAX, &file, err);

    return r < 0 ? r : fl_onnx_read(file->data, file->len, NULL, ret_model, err);
}

static int read_model(struct export *export, struct fl_error *err)
{
    const char *format = fl_str_or(fl_json_str(export->version, "spec.format"), "Safetensors");

    if (strcmp(format, "ONNX") == 0)
        return read_onnx(export->fetched, &export->model, err);
    if (strcmp(format, "Safetensors") == 0)
        return fl_safetensors_open(export->fetched, NULL, &export->model, err);
    return fl_error_set(err, FL_E_INVALID, "content of format %s cannot be read here", format);
}

/* Writing. */

/* What was fetched is what was asked for: it gets its name. */
static int keep_fetched(struct export *export, struct fl_error *err)
{
    if (rename(export->fetched, export->path) != 0)
        return fl_error_errno(err, errno, "%s", export->path);
    export->fetched = NULL;
    return 0;
}

static int write_safetensors(struct export *export, struct fl_error *err)
{
    int r;

    if (!fl_streq(fl_json_str(export->version, "spec.format"), "ONNX"))
        return keep_fetched(export, err);
    r = read_model(export, err);
    return r < 0 ? r : fl_safetensors_write(export->model, export->path, err);
}

static int write_onnx(struct export *export, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *file = NULL;
    int r = read_model(export, err);

    if (r == 0)
        r = fl_onnx_encode(export->model, export->lineage, export->lineage_count, &file, err);
    if (r < 0)
        return r;
    assert(file); /* clang's analyser does not follow it there */
    return fl_file_write(export->path, file->data, file->len, 0644, err);
}

/* The same model gives the same directory: its time and id are the model's. */
static int write_mlflow(struct export *export, struct fl_error *err)
{
    const char *time = fl_str_or(fl_json_str(export->version, "spec.lineage.time"),
                                 fl_json_str(export->version, "metadata.creationTimestamp"));
    const char *digest = fl_json_str(export->version, "spec.digest");
    struct fl_mlflow_options options = {
        .path = export->path,
        .model_uuid = fl_arena_strndup(export->models->arena, digest + strlen("sha256:"), 32),
        .lineage = export->lineage,
        .lineage_count = export->lineage_count};
    int r = read_model(export, err);

    if (time)
        (void)fl_time_parse(time, &options.made_us);
    return r < 0 ? r : fl_mlflow_write(export->model, &options, err);
}

static const struct form {
    const char *name, *suffix;
    bool is_folder;
    int (*write)(struct export *export, struct fl_error *err);
} forms[] = {
    {"safetensors", ".safetensors", false, write_safetensors},
    {"onnx", ".onnx", false, write_onnx},
    {"mlflow", "", true, write_mlflow},
};

static const struct form *find_form(const char *name)
{
    for (size_t i = 0; i < FL_COUNT_OF(forms); i++)
        if (strcmp(forms[i].name, name) == 0)
            return &forms[i];
    return NULL;
}

static int export_model(struct export *export, const struct form *form, struct fl_error *err)
{
    int r = fl_models_find(export->models, export->models->words.items[0], &export->version, err);

    if (r < 0)
        return r;
    if (!export->path)
        export->path = fl_arena_printf(export->models->arena, "%s%s",
                                       fl_json_str(export->version, "metadata.name"), form->suffix);
    if (fl_path_exists(export->path) && (form->is_folder || !export->overwrite))
        return fl_error_set(err, FL_E_ALREADY_EXISTS, "%s is there already%s", export->path,
                            form->is_folder ? "" : " (--overwrite)");
    gather_lineage(export);
    r = fetch(export, err);
    return r < 0 ? r : form->write(export, err);
}

int fl_models_export(struct fl_models *models, int argc, char **argv)
{
    FL_CLEANUP(export_finish) struct export export = {.models = models, .format = "safetensors"};
    const struct fl_option more[] = {{"format", 0, FL_OPTION_TEXT, &export.format},
                                     {"output", 'o', FL_OPTION_TEXT, &export.path},
                                     {"overwrite", 0, FL_OPTION_FLAG, &export.overwrite}};
    int status = fl_models_open(models, help, more, FL_COUNT_OF(more), argc, argv);
    const struct form *form;
    struct fl_error err = {0};

    if (status >= 0)
        return status;
    form = find_form(export.format);
    if (!form)
        return fl_command_usage(models->command, "--format %s: safetensors, onnx or mlflow",
                                export.format);
    if (models->words.count != 1)
        return fl_command_usage(models->command, "say which: NAME, PROJECT:ALIAS or PROJECT:ROUND");
    if (export_model(&export, form, &err) < 0)
        return fl_client_report(models->client, models->words.items[0], &err);
    (void)printf("%s\n", export.path);
    return 0;
}
