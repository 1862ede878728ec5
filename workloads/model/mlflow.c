#include "workloads/model/mlflow.h"

#include "lib/env.h"
#include "lib/file.h"
#include "lib/folder.h"
#include "lib/str.h"
#include "lib/yaml.h"
#include "workloads/model/mlflow_internal.h"
#include "workloads/model/onnx.h"

#include <inttypes.h>

#define ONNX_FILE    "model.onnx"
#define ONNX_PACKAGE "1.12.0" /* of PyPI: the first that knows the opset */

static const char requirements[] = "mlflow>=2.9\n"
                                   "numpy\n"
                                   "onnx>=" ONNX_PACKAGE "\n"
                                   "onnxruntime>=" ONNX_PACKAGE "\n";

/* Signature: each side is JSON within YAML. */

static json_t *tensor_spec(const char *name, const int64_t *sizes, unsigned rank)
{
    json_t *shape = json_pack("[i]", -1); /* as many examples as one likes */

    for (unsigned i = 0; i < rank; i++)
        (void)json_array_append_new(shape, json_integer(sizes[i]));
    return json_pack("[{s:s, s:s, s:{s:s, s:o}}]", "name", name, "type", "tensor", "tensor-spec",
                     "dtype", "float32", "shape", shape);
}

static json_t *as_text(json_t *value)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_json_to_bytes(value);

    json_decref(value);
    return json_string(text->data);
}

static json_t *signature_of(const struct fl_description *description)
{
    return json_pack(
        "{s:o, s:o, s:n}", "inputs",
        as_text(tensor_spec(description->input_name, description->shape, description->rank)),
        "outputs", as_text(tensor_spec(description->output_name, &description->classes, 1)),
        "params");
}

/* What it says of itself and where it came from. */
json_t *fl_mlflow_metadata(const struct fl_model *model, const struct fl_mlflow_options *options)
{
    json_t *metadata = json_object();

    for (size_t i = 0; model && i < model->note_count; i++)
        (void)json_object_set_new(metadata, model->notes[i].key,
                                  json_string(model->notes[i].value));
    for (size_t i = 0; i < options->lineage_count; i++)
        (void)json_object_set_new(metadata, options->lineage[i].key,
                                  json_string(options->lineage[i].value));
    return metadata;
}

/* Without the version of Python that it was made with: there was none. */
static json_t *flavors(void)
{
    return json_pack("{s:{s:s, s:s, s:[s], s:n}, s:{s:s, s:s, s:{s:s, s:s}}}", "onnx", "data",
                     ONNX_FILE, "onnx_version", ONNX_PACKAGE, "providers", "CPUExecutionProvider",
                     "code", "python_function", "loader_module", "mlflow.onnx", "data", ONNX_FILE,
                     "env", "conda", "conda.yaml", "virtualenv", "python_env.yaml");
}

/* "2026-11-23 00:49:31.447311" */
json_t *fl_mlflow_time(int64_t made_us)
{
    char text[FL_TIME_SIZE];

    fl_time_format_micro(made_us, text);
    for (char *c = text; *c; c++)
        *c = *c == 'T' ? ' ' : *c;
    return json_stringn(text, strcspn(text, "Z"));
}

static json_t *mlmodel(const struct fl_model *model, const struct fl_description *description,
                       const struct fl_mlflow_options *options, size_t onnx_size)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:s, s:I}", "flavors", flavors(), "signature",
                     signature_of(description), "metadata", fl_mlflow_metadata(model, options),
                     "utc_time_created", fl_mlflow_time(options->made_us), "model_uuid",
                     options->model_uuid, "model_size_bytes", (json_int_t)onnx_size);
}

static json_t *conda_env(void)
{
    return json_pack("{s:s, s:[s], s:[s, s, {s:[s, s, s, s]}]}", "name", "flops-model", "channels",
                     "conda-forge", "dependencies", "python>=" FL_MLFLOW_PYTHON, "pip", "pip",
                     "mlflow>=2.9", "numpy", "onnx>=" ONNX_PACKAGE, "onnxruntime>=" ONNX_PACKAGE);
}

json_t *fl_mlflow_python_env(void)
{
    return json_pack("{s:s, s:[s, s, s], s:[s]}", "python", FL_MLFLOW_PYTHON, "build_dependencies",
                     "pip", "setuptools", "wheel", "dependencies", "-r requirements.txt");
}

/* Files */

int fl_mlflow_write_file(const char *folder, const char *name, const void *data, size_t len,
                         struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/%s", folder, name);

    return fl_file_write(path, data, len, 0644, err);
}

/* Takes the value. */
int fl_mlflow_write_yaml(const char *folder, const char *name, json_t *value, struct fl_error *err)
{
    struct fl_buf text;
    int r;

    fl_buf_init(&text, 0);
    fl_yaml_write(&text, value);
    r = fl_mlflow_write_file(folder, name, text.data, text.len, err);
    fl_buf_finish(&text);
    json_decref(value);
    return r;
}

static int fill(const char *folder, struct fl_model *model,
                const struct fl_description *description, const struct fl_mlflow_options *options,
                struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *onnx = NULL;
    int r = fl_onnx_encode(model, options->lineage, options->lineage_count, &onnx, err);

    if (r == 0)
        r = fl_dir_ensure(folder, 0755, err);
    if (r == 0)
        r = fl_mlflow_write_file(folder, ONNX_FILE, onnx->data, onnx->len, err);
    if (r == 0)
        r = fl_mlflow_write_yaml(folder, "MLmodel", mlmodel(model, description, options, onnx->len),
                                 err);
    if (r == 0)
        r = fl_mlflow_write_yaml(folder, "conda.yaml", conda_env(), err);
    if (r == 0)
        r = fl_mlflow_write_yaml(folder, "python_env.yaml", fl_mlflow_python_env(), err);
    return r < 0 ? r
                 : fl_mlflow_write_file(folder, "requirements.txt", requirements,
                                        sizeof(requirements) - 1, err);
}

const char *fl_mlflow_part(struct fl_arena *arena, const struct fl_mlflow_options *options)
{
    return fl_arena_printf(arena, "%s.part-%.32s", options->path, options->model_uuid);
}

int fl_mlflow_finish(const char *folder, const struct fl_mlflow_options *options, int r,
                     struct fl_error *err)
{
    if (r == 0)
        r = fl_folder_move(folder, options->path, err);
    if (r < 0)
        (void)fl_dir_remove(folder, NULL);
    return r;
}

int fl_mlflow_write(struct fl_model *model, const struct fl_mlflow_options *options,
                    struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *folder = fl_mlflow_part(arena, options);
    struct fl_description description;
    int r;

    if (fl_path_exists(options->path))
        return fl_error_set(err, FL_E_ALREADY_EXISTS, "%s is there already", options->path);
    r = fl_description_read(model, arena, &description, err);
    if (r == 0)
        r = fill(folder, model, &description, options, err);
    return fl_mlflow_finish(folder, options, r, err);
}
