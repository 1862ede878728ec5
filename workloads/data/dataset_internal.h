/* What the readers of data sets share. */
#ifndef FL_WORKLOADS_DATASET_INTERNAL_H
#define FL_WORKLOADS_DATASET_INTERNAL_H

#include "workloads/data/dataset.h"
#include "workloads/data/input.h"
#include "workloads/tensor/safetensors.h"

/* What a data set owns: its arrays, or the model that they lie in, or the whole it is a view of.
 * While a reader makes one, it fills these and the form; then it publishes them. */
struct fl_dataset_memory {
    float *features, *targets; /* targets: labels too, before they become classes */
    int32_t *labels;
    uint32_t *rows;
    char **names;
    int64_t name_count;
    struct fl_model *model;
    struct fl_dataset *whole;
};

struct fl_dataset *fl_dataset_new(void); /* empty; with its memory */
static inline struct fl_dataset_memory *fl_dataset_memory(const struct fl_dataset *dataset)
{
    return dataset->memory;
}

/* Sets width from rank and shape; INVALID where something is empty or vast, TOO_LARGE above the
 * limits. */
int fl_dataset_measure(struct fl_dataset *dataset, const struct fl_dataset_limits *limits,
                       struct fl_error *err);
size_t fl_dataset_max_bytes(const struct fl_dataset_limits *limits);
/* `count` floats (or what is as large), not zeroed; UNAVAILABLE where there is no memory. */
int fl_dataset_allocate(size_t count, float **ret_array, struct fl_error *err);
/* Turns the memory's targets into labels: INVALID names the row of what is no class. */
int fl_dataset_classify(struct fl_dataset *dataset, const struct fl_dataset_limits *limits,
                        struct fl_error *err);
/* The number of classes for labels that have been seen, from the largest. */
int64_t fl_dataset_class_count(int64_t largest, const struct fl_dataset_limits *limits);
/* Makes the memory's arrays those of the data set. */
void fl_dataset_publish(struct fl_dataset *dataset);

/* Elements of a file, as floats. */
struct fl_elements {
    enum fl_dtype dtype;
    bool big_endian;
    bool pixels;    /* U8 is divided by 255 */
    bool unchecked; /* fl_elements_read leaves the check to its caller */
    size_t width;   /* of a row, for messages */
};
void fl_elements_convert(const struct fl_elements *elements, const void *data, size_t count,
                         float *out);
/* INVALID names row and column of the first that is not finite; `first` is the index of values[0].
 */
int fl_elements_check(const struct fl_elements *elements, const float *values, size_t count,
                      size_t first, struct fl_error *err);
/* Reads, converts and checks `count` of them. */
int fl_elements_read(const struct fl_elements *elements, struct fl_input *input, size_t count,
                     float *out, struct fl_error *err);

/* The readers themselves, on anything that can be read. */
int fl_idx_parse(struct fl_input *images, struct fl_input *labels,
                 const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                 struct fl_error *err);
int fl_csv_parse(struct fl_input *input, const struct fl_csv_options *options,
                 const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                 struct fl_error *err);
int fl_npy_parse(struct fl_input *features, struct fl_input *labels,
                 const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                 struct fl_error *err);
/* `trusted`: was checked when it was written, so that the features need not be read. */
int fl_dataset_from_model(struct fl_model *model, const struct fl_dataset_limits *limits,
                          bool trusted, struct fl_dataset **ret_dataset, struct fl_error *err);

#endif
