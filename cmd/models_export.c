/* `flops models export`: a model brought here, in the form that is asked for. */
#include "cmd/command.h"
#include "cmd/models.h"
#include "cmd/parts.h"
#include "lib/file.h"
#include "lib/folder.h"
#include "lib/process.h"
#include "lib/str.h"
#include "reconcilers/modelversion/export.h"
#include "workloads/model/mlflow.h"
#include "workloads/model/onnx.h"
#include "workloads/tensor/safetensors.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static const char help[] =
    "Usage: flops models export MODEL [options]\n\n"
    "      --format FORMAT     safetensors (the default): as it is in the content store\n"
    "                          onnx: with its graph, for any runtime\n"
    "                          mlflow: a directory that MLflow loads and serves\n"
    "  -o, --output PATH       default NAME.safetensors, NAME.onnx or NAME\n"
    "      --code DIR          with mlflow: of a model of your own code, that code, which MLflow\n"
    "                          then runs (a class with a method predict; see flops init)\n"
    "      --entry MODULE:NAME where in it, if it is not found by its usual name\n"
    "      --overwrite         a file that is there already; never a directory\n" //
    FL_CLIENT_HELP FL_MODELS_REFERENCE_HELP "\nExamples:\n"
    "  flops models export mnist:best --format onnx -o mnist.onnx\n"
    "  flops models export mnist:latest --format mlflow -o mnist && mlflow models serve -m mnist\n";

struct export
{
    struct fl_models *models;
    json_t *version;
    const char *format, *path, *code, *entry;
    bool overwrite;
    char *fetched; /* a file of ours beside the output, or NULL */
    struct fl_model *model;
};

static void export_finish(struct export *export)
{
    fl_model_unref(export->model);
    if (export->fetched)
        fl_path_remove(export->fetched);
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

static int read_model(struct export *export, struct fl_error *err)
{
    return fl_model_version_read(export->version, export->fetched, &export->model, err);
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
    const struct fl_model_note *notes = NULL;
    size_t count = 0;
    int r = read_model(export, err);

    fl_model_version_lineage(export->version, export->models->arena, &notes, &count);
    if (r == 0)
        r = fl_onnx_encode(export->model, notes, count, &file, err);
    if (r < 0)
        return r;
    assert(file); /* clang's analyser does not follow it there */
    return fl_file_write(export->path, file->data, file->len, 0644, err);
}

static int write_mlflow_of_code(struct export *export, struct fl_error *err)
{
    const struct fl_mlflow_python python = {.content = export->fetched,
                                            .code = export->code,
                                            .entry = export->entry,
                                            .adapter = fl_part_modules(export->models->arena)};

    if (!python.adapter)
        return fl_error_set(err, FL_E_NOT_FOUND,
                            "the adapter for Python is not part of this installation");
    return fl_model_version_write_python(export->version, &python, export->path, err);
}

static int write_mlflow(struct export *export, struct fl_error *err)
{
    int r;

    if (export->code)
        return write_mlflow_of_code(export, err);
    r = fl_model_version_write_mlflow(export->version, export->fetched, export->path, err);
    return r == FL_E_NOT_FOUND ? fl_error_wrap(err, "a model of your own code goes with --code DIR")
                               : r;
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
    r = fetch(export, err);
    return r < 0 ? r : form->write(export, err);
}

int fl_models_export(struct fl_models *models, int argc, char **argv)
{
    FL_CLEANUP(export_finish) struct export export = {.models = models, .format = "safetensors"};
    const struct fl_option more[] = {{"format", 0, FL_OPTION_TEXT, &export.format},
                                     {"output", 'o', FL_OPTION_TEXT, &export.path},
                                     {"code", 0, FL_OPTION_TEXT, &export.code},
                                     {"entry", 0, FL_OPTION_TEXT, &export.entry},
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
    if (export.code && strcmp(form->name, "mlflow") != 0)
        return fl_command_usage(models->command, "--code goes with --format mlflow");
    if (models->words.count != 1)
        return fl_command_usage(models->command, "say which: NAME, PROJECT:ALIAS or PROJECT:ROUND");
    if (export_model(&export, form, &err) < 0)
        return fl_client_report(models->client, models->words.items[0], &err);
    (void)printf("%s\n", export.path);
    return 0;
}
