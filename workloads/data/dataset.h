/* Data sets of a node: features and labels in memory, read from files by their tag.
 *
 * A data set is one table: `count` examples of `width` floats (an image's pixels row by row, with
 * its height, width and channels kept) and an integer label or a float target each. It is read from
 * IDX, CSV, NPY or safetensors; files that are broken are refused by row and column (or offset).
 * Immutable once made; shared by threads. Splits are views that own only their list of rows. */
#ifndef FL_WORKLOADS_DATASET_H
#define FL_WORKLOADS_DATASET_H

#include "lib/env.h"
#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fl_dataset {
    int refs;
    size_t count;
    size_t width; /* floats of an example */
    int64_t shape[4];
    unsigned rank;         /* of an example: 28 x 28 has 2 */
    int64_t classes;       /* labels are 0 … classes - 1; 0: targets are numbers */
    const float *features; /* of example i: features + row(i) * width */
    const int32_t *labels;
    const float *targets;
    const uint32_t *rows; /* of a split: which rows of the whole; NULL: all */
    void *memory;         /* the implementation's */
};

struct fl_dataset *fl_dataset_ref(struct fl_dataset *dataset);
void fl_dataset_unref(struct fl_dataset *dataset);
FL_DEFINE_CLEANUP(struct fl_dataset, fl_dataset_unref)

static inline size_t fl_dataset_row(const struct fl_dataset *dataset, size_t i)
{
    return dataset->rows ? dataset->rows[i] : i;
}

struct fl_dataset_limits {
    size_t max_bytes; /* in memory; 0: 4 GiB */
};

/* A pair of IDX files (plain or gzip), pixels scaled to 0 … 1. */
int fl_dataset_read_idx(const char *images, const char *labels,
                        const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                        struct fl_error *err);
/* Header line optional; `label` names a column, or "" the last one. Numbers only, but for the
 * label.
 */
int fl_dataset_read_csv(const char *path, const char *label, const struct fl_dataset_limits *limits,
                        struct fl_dataset **ret_dataset, struct fl_error *err);
int fl_dataset_read_npy(const char *features, const char *labels,
                        const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                        struct fl_error *err);
/* Tensors "features" and "labels". */
int fl_dataset_read_safetensors(const char *path, const struct fl_dataset_limits *limits,
                                struct fl_dataset **ret_dataset, struct fl_error *err);
int fl_dataset_write_safetensors(const struct fl_dataset *dataset, const char *path,
                                 struct fl_error *err);

/* Dividing among learners. Every row goes to exactly one of them (but see Quantity), and the result
 * is a function of the seed. */
enum fl_partition_kind {
    FL_PARTITION_IID,
    FL_PARTITION_SHARDS,    /* sorted by label, `per_learner` shards each (McMahan et al. 2017) */
    FL_PARTITION_DIRICHLET, /* labels by Dir(alpha) (Hsu et al. 2019) */
    FL_PARTITION_LABELS,    /* `per_learner` labels each */
    FL_PARTITION_QUANTITY,  /* sizes by a power law of exponent alpha, labels at random */
};
struct fl_partition {
    enum fl_partition_kind kind;
    size_t learners;
    size_t per_learner;
    double alpha;
    uint64_t seed;
};
/* `ret_parts` (learners of them) are the caller's references. INVALID says what cannot be. */
int fl_dataset_partition(struct fl_dataset *dataset, const struct fl_partition *partition,
                         struct fl_dataset **ret_parts, struct fl_error *err);
/* The first and the rest of a shuffled split; `share` of the rows into the first. */
int fl_dataset_split(struct fl_dataset *dataset, double share, uint64_t seed,
                     struct fl_dataset **ret_first, struct fl_dataset **ret_rest,
                     struct fl_error *err);

#endif
