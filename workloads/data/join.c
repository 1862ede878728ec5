/* Several data sets as one. */
#include "workloads/data/dataset_internal.h"

#include "lib/str.h"

#include <inttypes.h>

static bool has_same_form(const struct fl_dataset *a, const struct fl_dataset *b)
{
    if (a->rank != b->rank || (a->classes > 0) != (b->classes > 0))
        return false;
    for (unsigned i = 0; i < a->rank; i++)
        if (a->shape[i] != b->shape[i])
            return false;
    return true;
}

/* Numbers mean the same everywhere; texts became numbers in each data set for itself. */
static bool has_same_names(const struct fl_dataset *a, const struct fl_dataset *b)
{
    if (!a->class_names != !b->class_names || (a->class_names && a->classes != b->classes))
        return false;
    for (int64_t i = 0; a->class_names && i < a->classes; i++)
        if (strcmp(a->class_names[i], b->class_names[i]) != 0)
            return false;
    return true;
}

static int check_fit(const struct fl_dataset_part *first, const struct fl_dataset_part *other,
                     struct fl_error *err)
{
    if (!has_same_form(first->dataset, other->dataset))
        return fl_error_set(err, FL_E_INVALID,
                            "%s and %s cannot be trained on together: their examples or labels are "
                            "of another form",
                            first->name, other->name);
    if (!has_same_names(first->dataset, other->dataset))
        return fl_error_set(err, FL_E_INVALID,
                            "%s and %s cannot be trained on together: they name other classes",
                            first->name, other->name);
    return 0;
}

static int sum_up(const struct fl_dataset_part *parts, size_t count, struct fl_dataset *joined,
                  struct fl_error *err)
{
    const struct fl_dataset *first = parts[0].dataset;
    int r = 0;

    joined->rank = first->rank;
    memcpy(joined->shape, first->shape, sizeof(joined->shape));
    for (size_t i = 0; i < count && r == 0; i++) {
        const struct fl_dataset *part = parts[i].dataset;

        joined->count += part->count;
        if (part->classes > joined->classes)
            joined->classes = part->classes;
        r = check_fit(&parts[0], &parts[i], err);
    }
    return r < 0 ? r : fl_dataset_measure(joined, NULL, err);
}

static int allocate(struct fl_dataset *joined, struct fl_error *err)
{
    struct fl_dataset_memory *memory = fl_dataset_memory(joined);
    int r = fl_dataset_allocate(joined->count * joined->width, &memory->features, err);

    if (r == 0 && joined->classes > 0)
        memory->labels = fl_malloc(joined->count * sizeof(*memory->labels));
    else if (r == 0)
        r = fl_dataset_allocate(joined->count, &memory->targets, err);
    return r;
}

static void copy_part(const struct fl_dataset *part, size_t at, struct fl_dataset *joined)
{
    struct fl_dataset_memory *memory = fl_dataset_memory(joined);

    for (size_t i = 0; i < part->count; i++, at++) {
        memcpy(memory->features + at * joined->width, fl_dataset_example(part, i),
               joined->width * sizeof(float));
        if (memory->labels)
            memory->labels[at] = part->labels[fl_dataset_row(part, i)];
        else
            memory->targets[at] = part->targets[fl_dataset_row(part, i)];
    }
}

static void copy_names(const struct fl_dataset *first, struct fl_dataset *joined)
{
    struct fl_dataset_memory *memory = fl_dataset_memory(joined);

    if (!first->class_names)
        return;
    memory->names = fl_calloc((size_t)first->classes, sizeof(*memory->names));
    memory->name_count = first->classes;
    for (int64_t i = 0; i < first->classes; i++)
        memory->names[i] = fl_strdup(first->class_names[i]);
}

int fl_dataset_join(const struct fl_dataset_part *parts, size_t count,
                    struct fl_dataset **ret_dataset, struct fl_error *err)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *joined = NULL;
    size_t at = 0;
    int r;

    if (count == 1) {
        *ret_dataset = fl_dataset_ref(parts[0].dataset);
        return 0;
    }
    if (count == 0)
        return fl_error_set(err, FL_E_INVALID, "there are no examples");
    joined = fl_dataset_new();
    r = sum_up(parts, count, joined, err);
    if (r == 0)
        r = allocate(joined, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < count; at += parts[i++].dataset->count)
        copy_part(parts[i].dataset, at, joined);
    copy_names(parts[0].dataset, joined);
    fl_dataset_publish(joined);
    *ret_dataset = FL_TAKE(joined);
    return 0;
}
