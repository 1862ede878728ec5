/* For fuzzers of two files: the input is two bytes with the first file's size, then both. */
#ifndef FL_WORKLOADS_FUZZ_PAIR_H
#define FL_WORKLOADS_FUZZ_PAIR_H

#include "workloads/data/dataset_internal.h"

#include <math.h>

static const struct fl_dataset_limits fuzz_limits = {.max_bytes = 1 << 20};

/* What the header promises of any data set. */
static inline void fuzz_check(const struct fl_dataset *dataset)
{
    if (dataset->count == 0 || dataset->width == 0 || !dataset->features ||
        !dataset->labels == !dataset->targets || !dataset->labels != (dataset->classes == 0))
        __builtin_trap();
    for (size_t i = 0; i < dataset->count * dataset->width; i++)
        if (!isfinite(dataset->features[i]))
            __builtin_trap();
    for (size_t i = 0; i < dataset->count; i++)
        if (dataset->labels ? dataset->labels[i] < 0 || dataset->labels[i] >= dataset->classes
                            : !isfinite(dataset->targets[i]))
            __builtin_trap();
}

static inline void fuzz_pair(const uint8_t *data, size_t size,
                             int (*parse)(struct fl_input *, struct fl_input *,
                                          const struct fl_dataset_limits *, struct fl_dataset **,
                                          struct fl_error *))
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;
    size_t first = size < 2 ? 0 : (size_t)data[0] | (size_t)data[1] << 8;
    struct fl_input features, labels;

    if (size < 2 || first > size - 2)
        return;
    features = fl_input_of(data + 2, first);
    labels = fl_input_of(data + 2 + first, size - 2 - first);
    if (parse(&features, &labels, &fuzz_limits, &dataset, NULL) == 0)
        fuzz_check(dataset);
}

#endif
