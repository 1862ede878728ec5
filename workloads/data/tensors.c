/* Data sets in safetensors files. */
#include "workloads/data/dataset_internal.h"

#include "lib/file.h"
#include "lib/json.h"
#include "lib/str.h"
#include "workloads/tensor/tensor_internal.h"

#include <inttypes.h>

#define NOTE_CLASSES "classes"
#define NOTE_NAMES   "classNames"
#define NAMES_MAX    ((size_t)32 * 1024 * 1024)

/* --- reading --- */

static int read_form(struct fl_dataset *dataset, const struct fl_tensor *features,
                     const struct fl_dataset_limits *limits, struct fl_error *err)
{
    if (features->rank < 1 || features->rank > 1 + FL_DATASET_RANK_MAX)
        return fl_error_set(err, FL_E_INVALID, "tensor \"features\": %u dimensions; 1 to %d can be",
                            features->rank, 1 + FL_DATASET_RANK_MAX);
    dataset->count = (size_t)features->shape[0];
    dataset->rank = features->rank - 1;
    for (unsigned i = 0; i < dataset->rank; i++)
        dataset->shape[i] = features->shape[1 + i];
    return fl_dataset_measure(dataset, limits, err);
}

/* F32 stays where it lies. */
static int read_floats(const struct fl_tensor *tensor, const struct fl_elements *form, bool trusted,
                       float **ret_own, const float **ret_lent, struct fl_error *err)
{
    struct fl_elements elements = *form;
    const float *values = tensor->data;
    int r;

    elements.dtype = tensor->dtype;
    if (tensor->dtype != FL_DTYPE_F32) {
        r = fl_dataset_allocate(tensor->count, ret_own, err);
        if (r < 0)
            return r;
        fl_elements_convert(&elements, tensor->data, tensor->count, *ret_own);
        values = *ret_own;
    }
    r = trusted ? 0 : fl_elements_check(&elements, values, tensor->count, 0, err);
    if (r < 0)
        return fl_error_wrap(err, "tensor \"%s\"", tensor->name);
    *ret_lent = values;
    return 0;
}

static int check_labels(struct fl_dataset *dataset, const struct fl_dataset_limits *limits,
                        struct fl_error *err)
{
    int32_t largest = 0;

    for (size_t i = 0; i < dataset->count; i++) {
        int32_t label = dataset->labels[i];

        if (label < 0 || label >= FL_DATASET_CLASSES_MAX)
            return fl_error_set(err, FL_E_INVALID, "row %zu: label %d is no class of 0 … %d", i,
                                label, FL_DATASET_CLASSES_MAX - 1);
        largest = label > largest ? label : largest;
    }
    dataset->classes = fl_dataset_class_count(largest, limits);
    return 0;
}

static int read_labels(struct fl_dataset *dataset, const struct fl_tensor *tensor,
                       const struct fl_dataset_limits *limits, struct fl_error *err)
{
    const struct fl_elements form = {.width = 1};
    struct fl_dataset_memory *memory = dataset->memory;
    int r;

    if (tensor->count != dataset->count)
        return fl_error_set(err, FL_E_INVALID, "tensor \"%s\": %zu, where %zu examples are",
                            tensor->name, tensor->count, dataset->count);
    if (tensor->dtype == FL_DTYPE_I32) {
        dataset->labels = tensor->data;
        r = check_labels(dataset, limits, err);
        return r < 0 ? fl_error_wrap(err, "tensor \"%s\"", tensor->name) : 0;
    }
    r = read_floats(tensor, &form, false, &memory->targets, &dataset->targets, err);
    if (r < 0 || fl_dtype_is_float(tensor->dtype))
        return r;
    dataset->targets = NULL;
    r = fl_dataset_classify(dataset, limits, err);
    return r < 0 ? fl_error_wrap(err, "tensor \"%s\"", tensor->name) : 0;
}

static int find_labels(const struct fl_model *model, const struct fl_tensor **ret_tensor,
                       struct fl_error *err)
{
    const struct fl_tensor *labels = fl_model_find(model, "labels");
    const struct fl_tensor *targets = fl_model_find(model, "targets");

    if (!labels == !targets)
        return fl_error_set(err, FL_E_INVALID,
                            "a tensor \"labels\" or \"targets\" is needed, and not both");
    if (targets && !fl_dtype_is_float(targets->dtype))
        return fl_error_set(err, FL_E_INVALID, "tensor \"targets\": must be floats, not %s",
                            fl_dtype_name(targets->dtype));
    *ret_tensor = labels ? labels : targets;
    return 0;
}

static int read_names(struct fl_dataset *dataset, const char *text, struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = NAMES_MAX, .max_depth = 1};
    struct fl_dataset_memory *memory = dataset->memory;
    FL_JSON names = NULL;
    json_t *name;
    size_t i;
    int r = fl_json_parse(text, strlen(text), &limits, NULL, NULL, &names, err);

    if (r < 0)
        return fl_error_wrap(err, NOTE_NAMES);
    if (!json_is_array(names) || json_array_size(names) != (size_t)dataset->classes)
        return fl_error_set(err, FL_E_INVALID, NOTE_NAMES ": must be a list of %" PRId64 " texts",
                            dataset->classes);
    memory->names = fl_calloc((size_t)dataset->classes, sizeof(*memory->names));
    memory->name_count = dataset->classes;
    json_array_foreach(names, i, name) {
        if (!json_is_string(name))
            return fl_error_set(err, FL_E_INVALID, NOTE_NAMES ": item %zu is no text", i);
        memory->names[i] = fl_strdup(json_string_value(name));
    }
    return 0;
}

static int read_notes(struct fl_dataset *dataset, const struct fl_model *model,
                      struct fl_error *err)
{
    const char *classes = fl_model_get_note(model, NOTE_CLASSES);
    const char *names = fl_model_get_note(model, NOTE_NAMES);
    int64_t count = 0;

    if (dataset->classes == 0)
        return 0;
    if (classes && !fl_str_to_int64(classes, dataset->classes, FL_DATASET_CLASSES_MAX, &count))
        return fl_error_set(err, FL_E_INVALID,
                            NOTE_CLASSES ": must be a number of %" PRId64 " … %d, as labels need",
                            dataset->classes, FL_DATASET_CLASSES_MAX);
    if (classes)
        dataset->classes = count;
    return names ? read_names(dataset, names, err) : 0;
}

static int read_model(struct fl_dataset *dataset, const struct fl_dataset_limits *limits,
                      bool trusted, struct fl_error *err)
{
    struct fl_dataset_memory *memory = dataset->memory;
    const struct fl_tensor *features = fl_model_find(memory->model, "features"), *labels = NULL;
    struct fl_elements form = {.pixels = true};
    int r;

    if (!features)
        return fl_error_set(err, FL_E_INVALID, "a tensor \"features\" is needed");
    r = find_labels(memory->model, &labels, err);
    if (r == 0)
        r = read_form(dataset, features, limits, err);
    if (r < 0)
        return r;
    form.width = dataset->width;
    r = read_floats(features, &form, trusted, &memory->features, &dataset->features, err);
    if (r == 0)
        r = read_labels(dataset, labels, limits, err);
    return r < 0 ? r : read_notes(dataset, memory->model, err);
}

int fl_dataset_from_model(struct fl_model *model, const struct fl_dataset_limits *limits,
                          bool trusted, struct fl_dataset **ret_dataset, struct fl_error *err)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = fl_dataset_new();
    int r;

    fl_dataset_memory(dataset)->model = fl_model_ref(model);
    r = read_model(dataset, limits, trusted, err);
    if (r < 0)
        return r;
    fl_dataset_publish(dataset);
    *ret_dataset = FL_TAKE(dataset);
    return 0;
}

int fl_dataset_read_safetensors(const char *path, const struct fl_dataset_limits *limits,
                                struct fl_dataset **ret_dataset, struct fl_error *err)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    int r = fl_safetensors_open(path, NULL, &model, err);

    if (r < 0)
        return r;
    r = fl_dataset_from_model(model, limits, false, ret_dataset, err);
    return r < 0 ? fl_error_wrap(err, "%s", path) : 0;
}

/* --- writing --- */

/* The file's form without its data, which lies elsewhere. */
static int plan(const struct fl_dataset *dataset, struct fl_model **ret_model, struct fl_error *err)
{
    bool labels = dataset->classes > 0;
    struct fl_tensor tensors[2] = {
        {.name = "features", .dtype = FL_DTYPE_F32, .rank = dataset->rank + 1},
        {.name = labels ? "labels" : "targets",
         .dtype = labels ? FL_DTYPE_I32 : FL_DTYPE_F32,
         .rank = 1},
    };

    tensors[0].shape[0] = tensors[1].shape[0] = (int64_t)dataset->count;
    for (unsigned i = 0; i < dataset->rank; i++)
        tensors[0].shape[1 + i] = dataset->shape[i];
    return fl_model_prepare(tensors, FL_COUNT_OF(tensors), ret_model, err);
}

static void note_classes(const struct fl_dataset *dataset, struct fl_model *model)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON names = json_array();

    if (dataset->classes == 0)
        return;
    fl_model_note(model, NOTE_CLASSES, fl_arena_printf(arena, "%" PRId64, dataset->classes));
    if (!dataset->class_names)
        return;
    for (int64_t i = 0; i < dataset->classes; i++)
        json_array_append_new(names, json_string(dataset->class_names[i]));
    fl_model_note(model, NOTE_NAMES, fl_json_to_string(arena, names));
}

/* Rows of a view are gathered, so that they lie one behind the other. */
static int gather(const struct fl_dataset *dataset, const void *items, size_t width,
                  float **ret_copy, const void **ret_items, struct fl_error *err)
{
    size_t size = width * sizeof(float);
    int r;

    *ret_items = items;
    if (!dataset->rows)
        return 0;
    r = fl_dataset_allocate(dataset->count * width, ret_copy, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < dataset->count; i++)
        memcpy((char *)*ret_copy + i * size,
               (const char *)items + fl_dataset_row(dataset, i) * size, size);
    *ret_items = *ret_copy;
    return 0;
}

int fl_dataset_write_safetensors(const struct fl_dataset *dataset, const char *path,
                                 struct fl_error *err)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *header = NULL;
    FL_CLEANUP(fl_freep) float *features_copy = NULL, *labels_copy = NULL;
    const void *features = NULL, *labels = NULL,
               *own = dataset->classes ? (const void *)dataset->labels : dataset->targets;
    size_t size;
    int r = gather(dataset, dataset->features, dataset->width, &features_copy, &features, err);

    if (r == 0)
        r = gather(dataset, own, 1, &labels_copy, &labels, err);
    if (r == 0)
        r = plan(dataset, &model, err);
    if (r < 0)
        return r;
    note_classes(dataset, model);
    header = fl_safetensors_header(model, &size);
    return fl_file_write_parts(path,
                               (const struct fl_file_part[]){
                                   {header->data, header->len},
                                   {features, dataset->count * dataset->width * sizeof(float)},
                                   {labels, dataset->count * sizeof(float)},
                               },
                               3, 0600, err);
}
