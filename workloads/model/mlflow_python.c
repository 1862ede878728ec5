/* MLflow directories of models with the code that they are for. */
#include "lib/file.h"
#include "lib/folder.h"
#include "lib/str.h"
#include "lib/yaml.h"
#include "workloads/model/mlflow_internal.h"

#include <inttypes.h>
#include <string.h>

#define LOADER       "flops_trainer.mlflow_model"
#define DEPTH_MAX    16
#define NAMES_MAX    4096 /* in one folder */
#define FILES_MAX    20000
#define BYTES_MAX    ((int64_t)1 << 30) /* of code, data and models that lie in a repository */
#define CONTENT_MAX  ((size_t)16 << 30)
#define TEXT_MAX     ((size_t)1 << 20)
#define REQUIREMENTS "requirements.txt"
#define CONDA        "conda.yaml"
#define CONTENT      "model.safetensors"

/* Copying */

struct copying {
    int64_t files, bytes;
};

static bool has_name(const struct fl_folder_list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->names[i], name) == 0)
            return true;
    return false;
}

static int copy_file(const char *from, const char *to, size_t max, int64_t *ret_size,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    int r = fl_file_read(from, max, &bytes, err);

    if (r < 0)
        return r;
    *ret_size = (int64_t)bytes->len;
    return fl_file_write(to, bytes->data, bytes->len, 0644, err);
}

static int copy_one(struct copying *copying, const char *from, const char *to, struct fl_error *err)
{
    int64_t size = 0;
    int r = copy_file(from, to, (size_t)BYTES_MAX, &size, err);

    copying->bytes += size;
    if (r == 0 && (++copying->files > FILES_MAX || copying->bytes > BYTES_MAX))
        r = fl_error_set(err, FL_E_TOO_LARGE, "%s: more than %d files or %" PRId64 " bytes", from,
                         FILES_MAX, BYTES_MAX);
    return r;
}

static int copy_tree(struct copying *copying, const char *from, const char *to, int depth,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_folder_list all, folders;
    int r = depth > DEPTH_MAX ? fl_error_set(err, FL_E_TOO_LARGE, "%s: folders are too deep", from)
                              : fl_dir_ensure(to, 0755, err);

    if (r == 0)
        r = fl_folder_list(arena, from, false, NAMES_MAX, &all, err);
    if (r == 0)
        r = fl_folder_list(arena, from, true, NAMES_MAX, &folders, err);
    for (size_t i = 0; r == 0 && i < all.count; i++) {
        const char *source = fl_arena_printf(arena, "%s/%s", from, all.names[i]);
        const char *target = fl_arena_printf(arena, "%s/%s", to, all.names[i]);

        if (strcmp(all.names[i], "__pycache__") == 0)
            continue;
        r = has_name(&folders, all.names[i]) ? copy_tree(copying, source, target, depth + 1, err)
                                             : copy_one(copying, source, target, err);
    }
    return r;
}

/* What it needs */

/* What a conda.yaml has pip install. */
static void add_of_conda(const char *path, struct fl_buf *text)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *file = NULL;
    FL_JSON conda = NULL;
    json_t *item, *line;
    size_t i, n;

    if (fl_file_read(path, TEXT_MAX, &file, NULL) < 0 ||
        fl_yaml_parse(file->data, file->len, NULL, &conda, NULL) < 0)
        return;
    json_array_foreach(json_object_get(conda, "dependencies"), i, item)
        json_array_foreach(json_object_get(item, "pip"), n, line)
            if (json_is_string(line))
                fl_buf_printf(text, "%s\n", json_string_value(line));
}

/* MLflow itself is one more, unless the lock has hashes: then all must have one, and it is left as
 * it is. */
static int write_requirements(struct fl_arena *arena, const char *folder, const char *code,
                              struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *lock = NULL;
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};
    int r = fl_file_read(fl_arena_printf(arena, "%s/" REQUIREMENTS, code), TEXT_MAX, &lock, err);

    if (r < 0 && r != FL_E_NOT_FOUND)
        return r;
    if (r == 0)
        fl_buf_printf(&text, "%s%s", lock->data, fl_str_has_suffix(lock->data, "\n") ? "" : "\n");
    else
        add_of_conda(fl_arena_printf(arena, "%s/" CONDA, code), &text);
    if (!lock || !strstr(lock->data, "--hash="))
        fl_buf_printf(&text, "%smlflow>=2.9\n", lock ? "" : "numpy\n");
    return fl_mlflow_write_file(folder, REQUIREMENTS, text.data, text.len, err);
}

/* The user's own, where there is one. */
static int write_conda(struct fl_arena *arena, const char *folder, const char *code,
                       struct fl_error *err)
{
    const char *from = fl_arena_printf(arena, "%s/" CONDA, code);
    int64_t size;

    if (fl_path_exists(from))
        return copy_file(from, fl_arena_printf(arena, "%s/" CONDA, folder), TEXT_MAX, &size, err);
    return fl_mlflow_write_yaml(folder, CONDA,
                                json_pack("{s:s, s:[s], s:[s, s, {s:[s]}]}", "name", "flops-model",
                                          "channels", "conda-forge", "dependencies",
                                          "python>=" FL_MLFLOW_PYTHON, "pip", "pip",
                                          "-r " REQUIREMENTS),
                                err);
}

/* All */

static json_t *python_function(void)
{
    return json_pack("{s:{s:s, s:s, s:s, s:{s:s, s:s}}}", "python_function", "loader_module",
                     LOADER, "code", "code", "data", "data", "env", "conda", CONDA, "virtualenv",
                     "python_env.yaml");
}

/* Takes the flavors. */
static json_t *mlmodel(json_t *flavors, const struct fl_mlflow_options *options, int64_t size)
{
    return json_pack("{s:o, s:o, s:o, s:s, s:I}", "flavors", flavors, "metadata",
                     fl_mlflow_metadata(NULL, options), "utc_time_created",
                     fl_mlflow_time(options->made_us), "model_uuid", options->model_uuid,
                     "model_size_bytes", (json_int_t)size);
}

static int write_data(struct fl_arena *arena, const char *folder,
                      const struct fl_mlflow_python *python, int64_t *ret_size,
                      struct fl_error *err)
{
    const char *data = fl_arena_printf(arena, "%s/data", folder);
    FL_JSON about = json_pack("{s:s?}", "entry", python->entry);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_json_to_bytes(about);
    struct copying copying = {0};
    int r =
        copy_tree(&copying, python->code, fl_arena_printf(arena, "%s/repository", data), 0, err);

    if (r == 0)
        r = fl_mlflow_write_file(data, "flops.json", text->data, text->len, err);
    return r < 0 ? r
                 : copy_file(python->content, fl_arena_printf(arena, "%s/" CONTENT, data),
                             CONTENT_MAX, ret_size, err);
}

static int fill(struct fl_arena *arena, const char *folder, const struct fl_mlflow_python *python,
                const struct fl_mlflow_options *options, struct fl_error *err)
{
    struct copying copying = {0};
    int64_t size = 0;
    int r = fl_dir_ensure(folder, 0755, err);

    if (r == 0)
        r = write_data(arena, folder, python, &size, err);
    if (r == 0)
        r = copy_tree(&copying, python->adapter, fl_arena_printf(arena, "%s/code", folder), 0, err);
    if (r == 0)
        r = write_requirements(arena, folder, python->code, err);
    if (r == 0)
        r = write_conda(arena, folder, python->code, err);
    if (r == 0)
        r = fl_mlflow_write_yaml(folder, "python_env.yaml", fl_mlflow_python_env(), err);
    return r < 0 ? r
                 : fl_mlflow_write_yaml(folder, "MLmodel",
                                        mlmodel(python_function(), options, size), err);
}

int fl_mlflow_write_python(const struct fl_mlflow_python *python,
                           const struct fl_mlflow_options *options, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *folder = fl_mlflow_part(arena, options);

    if (fl_path_exists(options->path))
        return fl_error_set(err, FL_E_ALREADY_EXISTS, "%s is there already", options->path);
    if (!fl_path_exists(python->code))
        return fl_error_set(err, FL_E_NOT_FOUND, "%s: there is no such folder", python->code);
    return fl_mlflow_finish(folder, options, fill(arena, folder, python, options, err), err);
}

int fl_mlflow_write_content(const char *content, const struct fl_mlflow_options *options,
                            struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *folder = fl_mlflow_part(arena, options);
    int64_t size = 0;
    int r;

    if (fl_path_exists(options->path))
        return fl_error_set(err, FL_E_ALREADY_EXISTS, "%s is there already", options->path);
    r = fl_dir_ensure(folder, 0755, err);
    if (r == 0)
        r = copy_file(content, fl_arena_printf(arena, "%s/" CONTENT, folder), CONTENT_MAX, &size,
                      err);
    if (r == 0)
        r = fl_mlflow_write_yaml(
            folder, "MLmodel",
            mlmodel(json_pack("{s:{s:s}}", "safetensors", "data", CONTENT), options, size), err);
    return fl_mlflow_finish(folder, options, r, err);
}
