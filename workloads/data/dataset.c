#include "workloads/data/dataset_internal.h"

#include "lib/str.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <sys/mman.h>

#define MAX_BYTES  ((size_t)4 << 30)
#define LARGE_PAGE ((size_t)2 << 20)

struct fl_dataset *fl_dataset_new(void)
{
    struct fl_dataset *dataset = fl_calloc(1, sizeof(*dataset));

    dataset->refs = 1;
    dataset->memory = fl_calloc(1, sizeof(struct fl_dataset_memory));
    return dataset;
}

struct fl_dataset *fl_dataset_ref(struct fl_dataset *dataset)
{
    (void)__atomic_fetch_add(&dataset->refs, 1, __ATOMIC_RELAXED);
    return dataset;
}

static void free_names(char **names, int64_t count)
{
    for (int64_t i = 0; names && i < count; i++)
        free(names[i]);
    free(names);
}

void fl_dataset_unref(struct fl_dataset *dataset)
{
    struct fl_dataset_memory *memory;

    if (!dataset || __atomic_sub_fetch(&dataset->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    memory = dataset->memory;
    free(memory->features);
    free(memory->targets);
    free(memory->labels);
    free(memory->rows);
    free_names(memory->names, memory->name_count);
    fl_model_unref(memory->model);
    fl_dataset_unref(memory->whole);
    free(memory);
    free(dataset);
}

void fl_dataset_publish(struct fl_dataset *dataset)
{
    const struct fl_dataset_memory *memory = dataset->memory;

    if (memory->features)
        dataset->features = memory->features;
    if (memory->labels)
        dataset->labels = memory->labels;
    if (memory->targets)
        dataset->targets = memory->targets;
    if (memory->names)
        dataset->class_names = (const char *const *)memory->names;
}

/* --- sizes --- */

size_t fl_dataset_max_bytes(const struct fl_dataset_limits *limits)
{
    return limits && limits->max_bytes ? limits->max_bytes : MAX_BYTES;
}

static int measure_example(struct fl_dataset *dataset, struct fl_error *err)
{
    dataset->width = 1;
    for (unsigned i = 0; i < dataset->rank; i++) {
        if (dataset->shape[i] <= 0 || dataset->shape[i] > (int64_t)FL_DATASET_WIDTH_MAX)
            return fl_error_set(err, FL_E_INVALID, "dimension %u of an example is %" PRId64, i,
                                dataset->shape[i]);
        dataset->width *= (size_t)dataset->shape[i];
        if (dataset->width > FL_DATASET_WIDTH_MAX)
            return fl_error_set(err, FL_E_TOO_LARGE, "an example has more than %zu numbers",
                                FL_DATASET_WIDTH_MAX);
    }
    return 0;
}

int fl_dataset_measure(struct fl_dataset *dataset, const struct fl_dataset_limits *limits,
                       struct fl_error *err)
{
    size_t max = fl_dataset_max_bytes(limits), of_one;
    int r = measure_example(dataset, err);

    if (r < 0)
        return r;
    if (dataset->count == 0)
        return fl_error_set(err, FL_E_INVALID, "there are no examples");
    of_one = (dataset->width + 1) * sizeof(float);
    if (dataset->count > UINT32_MAX || dataset->count > max / of_one)
        return fl_error_set(err, FL_E_TOO_LARGE,
                            "%zu examples of %zu numbers need more than %zu bytes", dataset->count,
                            dataset->width, max);
    return 0;
}

/* Large arrays in large pages, where there are: touching so many small ones for the first time
 * takes longer than reading a file does. */
int fl_dataset_allocate(size_t count, float **ret_array, struct fl_error *err)
{
    size_t size = count * sizeof(float);
    bool large = size >= 4 * LARGE_PAGE;
    float *array =
        large ? aligned_alloc(LARGE_PAGE, (size + LARGE_PAGE - 1) & -LARGE_PAGE) : malloc(size);

    if (!array)
        return fl_error_set(err, FL_E_UNAVAILABLE, "no memory for %zu numbers", count);
    if (large)
        (void)madvise(array, size, MADV_HUGEPAGE);
    *ret_array = array;
    return 0;
}

/* --- classes --- */

int64_t fl_dataset_class_count(int64_t largest, const struct fl_dataset_limits *limits)
{
    int64_t classes = limits ? limits->classes : 0;

    return largest + 1 > classes ? largest + 1 : classes;
}

/* Labels take the place of the floats that they came as: both are four bytes. */
int fl_dataset_classify(struct fl_dataset *dataset, const struct fl_dataset_limits *limits,
                        struct fl_error *err)
{
    struct fl_dataset_memory *memory = dataset->memory;
    int64_t largest = 0;

    static_assert(sizeof(int32_t) == sizeof(float), "labels are as large as targets");
    for (size_t i = 0; i < dataset->count; i++) {
        float value = memory->targets[i];

        if (!(value >= 0 && value < FL_DATASET_CLASSES_MAX) || floorf(value) != value)
            return fl_error_set(err, FL_E_INVALID, "row %zu: label %g is no class of 0 … %d", i,
                                (double)value, FL_DATASET_CLASSES_MAX - 1);
        if ((int64_t)value > largest)
            largest = (int64_t)value;
    }
    memory->labels = (void *)memory->targets;
    for (size_t i = 0; i < dataset->count; i++) {
        float value = memory->targets[i];

        memory->labels[i] = (int32_t)value;
    }
    memory->targets = NULL;
    dataset->classes = fl_dataset_class_count(largest, limits);
    return 0;
}

/* --- from arrays --- */

static int check_form(const struct fl_dataset *form, struct fl_error *err)
{
    if (form->rank > FL_DATASET_RANK_MAX || form->classes < 0 ||
        form->classes > FL_DATASET_CLASSES_MAX)
        return fl_error_set(err, FL_E_INVALID, "rank %u, classes %" PRId64 ": out of range",
                            form->rank, form->classes);
    if (!form->features || !(form->classes ? (const void *)form->labels : form->targets))
        return fl_error_set(err, FL_E_INVALID, "features and labels or targets are needed");
    return 0;
}

static int copy_labels(struct fl_dataset *dataset, const struct fl_dataset *form,
                       struct fl_error *err)
{
    struct fl_dataset_memory *memory = dataset->memory;

    for (size_t i = 0; i < form->count; i++)
        if (form->labels[i] < 0 || form->labels[i] >= form->classes)
            return fl_error_set(err, FL_E_INVALID, "row %zu: label %d is none of %" PRId64, i,
                                form->labels[i], form->classes);
    memory->labels = fl_malloc(form->count * sizeof(*form->labels));
    memcpy(memory->labels, form->labels, form->count * sizeof(*form->labels));
    dataset->classes = form->classes;
    if (!form->class_names)
        return 0;
    memory->names = fl_calloc((size_t)form->classes, sizeof(*memory->names));
    memory->name_count = form->classes;
    for (int64_t i = 0; i < form->classes; i++)
        memory->names[i] = fl_strdup(form->class_names[i]);
    return 0;
}

static int copy_floats(size_t count, size_t width, const float *values, float **ret_copy,
                       struct fl_error *err)
{
    const struct fl_elements elements = {.dtype = FL_DTYPE_F32, .width = width};
    int r = fl_elements_check(&elements, values, count * width, 0, err);

    if (r == 0)
        r = fl_dataset_allocate(count * width, ret_copy, err);
    if (r == 0)
        memcpy(*ret_copy, values, count * width * sizeof(float));
    return r;
}

int fl_dataset_create(const struct fl_dataset *form, struct fl_dataset **ret_dataset,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = fl_dataset_new();
    struct fl_dataset_memory *memory = dataset->memory;
    int r = check_form(form, err);

    if (r < 0)
        return r;
    dataset->count = form->count;
    dataset->rank = form->rank;
    memcpy(dataset->shape, form->shape, sizeof(dataset->shape));
    r = fl_dataset_measure(dataset, NULL, err);
    if (r == 0)
        r = copy_floats(form->count, dataset->width, form->features, &memory->features, err);
    if (r == 0 && form->classes > 0)
        r = copy_labels(dataset, form, err);
    else if (r == 0)
        r = copy_floats(form->count, 1, form->targets, &memory->targets, err);
    if (r < 0)
        return r;
    fl_dataset_publish(dataset);
    *ret_dataset = FL_TAKE(dataset);
    return 0;
}

/* --- views --- */

int fl_dataset_view(struct fl_dataset *dataset, const uint32_t *rows, size_t count,
                    struct fl_dataset **ret_view, struct fl_error *err)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *view = fl_dataset_new();
    struct fl_dataset_memory *memory = view->memory, *own = dataset->memory;
    void *kept = view->memory;

    if (count == 0)
        return fl_error_set(err, FL_E_INVALID, "a part without examples");
    memory->rows = fl_malloc(count * sizeof(*rows));
    for (size_t i = 0; i < count; i++) {
        if (rows[i] >= dataset->count)
            return fl_error_set(err, FL_E_INVALID, "row %u of %zu", rows[i], dataset->count);
        memory->rows[i] = (uint32_t)fl_dataset_row(dataset, rows[i]);
    }
    /* A view of a view is one of the whole: chains would keep lists that nobody needs. */
    memory->whole = fl_dataset_ref(own->whole ? own->whole : dataset);
    *view = *dataset;
    view->refs = 1;
    view->memory = kept;
    view->count = count;
    view->rows = memory->rows;
    *ret_view = FL_TAKE(view);
    return 0;
}
