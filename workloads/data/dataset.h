/* Data sets of a node: features and labels in memory, read from files.
 *
 * A data set is one table: `count` examples of `width` floats (an image's pixels row by row, with
 * its height, width and channels kept) and for each a class or a number to be predicted. It is made
 * from arrays or read from IDX, CSV, NPY or safetensors; files that are broken are refused by row
 * and column (or byte). All numbers in it are finite, and classes are in their range: nobody has to
 * check again. Immutable once made; shared by threads. Parts are views that own only their list of
 * rows. Memory: the table and a buffer; a canonical safetensors file is mapped, not read, and must
 * not be changed in place as long as its data set lives. */
#ifndef FL_WORKLOADS_DATASET_H
#define FL_WORKLOADS_DATASET_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_DATASET_RANK_MAX    4
#define FL_DATASET_CLASSES_MAX 65536
#define FL_DATASET_WIDTH_MAX   ((size_t)1 << 24) /* floats of an example */

struct fl_dataset {
    int refs;
    size_t count;
    size_t width; /* floats of an example */
    int64_t shape[FL_DATASET_RANK_MAX];
    unsigned rank;                  /* of an example: 28 x 28 has 2, one number has 0 */
    int64_t classes;                /* labels are 0 … classes - 1; 0: there are targets instead */
    const char *const *class_names; /* where labels were texts; else NULL */
    const float *features;          /* of example i: fl_dataset_example */
    const int32_t *labels;          /* of example i: labels[fl_dataset_row(i)]; NULL: targets */
    const float *targets;           /* the same */
    const uint32_t *rows;           /* of a view: which rows of the whole; NULL: all */
    void *memory;                   /* the implementation's */
};

struct fl_dataset *fl_dataset_ref(struct fl_dataset *dataset);
void fl_dataset_unref(struct fl_dataset *dataset);
FL_DEFINE_CLEANUP(struct fl_dataset, fl_dataset_unref)

static inline size_t fl_dataset_row(const struct fl_dataset *dataset, size_t i)
{
    return dataset->rows ? dataset->rows[i] : i;
}

static inline const float *fl_dataset_example(const struct fl_dataset *dataset, size_t i)
{
    return dataset->features + fl_dataset_row(dataset, i) * dataset->width;
}

/* A copy of arrays: of `form` count, shape, rank, classes, class_names, features and labels or
 * targets are looked at. INVALID names the row of what is not finite or out of range. */
int fl_dataset_create(const struct fl_dataset *form, struct fl_dataset **ret_dataset,
                      struct fl_error *err);
/* The rows named of `dataset` (positions in it; doubles are allowed), as a view. */
int fl_dataset_view(struct fl_dataset *dataset, const uint32_t *rows, size_t count,
                    struct fl_dataset **ret_view, struct fl_error *err);

/* All rows of several data sets, in their order. INVALID where their examples differ in shape, or
 * their labels in meaning. One alone is taken as it is; several are copied, so that they need
 * memory for all of it. */
struct fl_dataset_part {
    struct fl_dataset *dataset;
    const char *name; /* for people */
};
int fl_dataset_join(const struct fl_dataset_part *parts, size_t count,
                    struct fl_dataset **ret_dataset, struct fl_error *err);

/* What a file may ask for, and what it cannot say itself. */
struct fl_dataset_limits {
    size_t max_bytes; /* in memory; 0: 4 GiB */
    /* Labels of a test set belong to the classes of its training set: at least so many classes, and
     * texts are found among these names (sorted; `classes` of them) and others refused. 0, NULL:
     * as many as the file has. */
    int64_t classes;
    const char *const *class_names;
};

/* Bytes (U8 in any binary format) are pixels: they are divided by 255. Other numbers are taken as
 * they are, and refused where a float cannot hold them. Labels that are integers are classes;
 * floats are targets. Files may be gzip, but for safetensors. */

/* A pair of IDX files: the first dimension counts the examples, the others are their shape. */
int fl_dataset_read_idx(const char *images, const char *labels,
                        const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                        struct fl_error *err);

/* RFC 4180, LF or CRLF, UTF-8 mark and empty lines skipped. Features are numbers. */
enum fl_csv_header {
    FL_CSV_HEADER_AUTO, /* the first row, if `label` is a name or one of its features is no number
                         */
    FL_CSV_HEADER_YES,
    FL_CSV_HEADER_NO,
};
enum fl_csv_labels {
    FL_CSV_LABELS_AUTO,    /* classes, or targets where all are numbers and not all are whole
                              numbers of 0 … FL_DATASET_CLASSES_MAX - 1 */
    FL_CSV_LABELS_CLASSES, /* such whole numbers, or else texts in bytewise order */
    FL_CSV_LABELS_TARGETS, /* numbers, even if all are whole */
};
struct fl_csv_options {
    const char *label; /* name of its column; NULL or "": the last */
    enum fl_csv_header header;
    enum fl_csv_labels labels;
};
/* Errors name row and column, both from 1, the header being row 1. `options` may be NULL. */
int fl_dataset_read_csv(const char *path, const struct fl_csv_options *options,
                        const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                        struct fl_error *err);
/* Version 1 to 3, C and Fortran order, either byte order; booleans, integers, floats. */
int fl_dataset_read_npy(const char *features, const char *labels,
                        const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                        struct fl_error *err);
/* Tensors "features" and "labels" (classes) or "targets". */
int fl_dataset_read_safetensors(const char *path, const struct fl_dataset_limits *limits,
                                struct fl_dataset **ret_dataset, struct fl_error *err);
/* The canonical file: features as F32, labels as I32 or targets as F32; classes and their names
 * are notes. A view is written as a whole of its own. */
int fl_dataset_write_safetensors(const struct fl_dataset *dataset, const char *path,
                                 struct fl_error *err);

/* Dividing among learners. Every row goes to exactly one of them, each gets at least
 * `min_examples`, and the result is a function of the data's labels and the seed (random.h). */
enum fl_partition_kind {
    FL_PARTITION_IID,       /* shuffled and cut into equal parts */
    FL_PARTITION_SHARDS,    /* sorted by label, cut into learners * per_learner shards, dealt out at
                               random (McMahan et al. 2017, with per_learner 2) */
    FL_PARTITION_DIRICHLET, /* each class by shares of its own from Dir(alpha) (Yurochkin et al.
                               2019); who lacks examples gets them from those who have most */
    FL_PARTITION_LABELS,    /* `per_learner` classes each, a class shared evenly by who has it */
    FL_PARTITION_QUANTITY,  /* shuffled; sizes fall as rank^-alpha, ranks dealt out at random */
};
const char *fl_partition_kind_name(enum fl_partition_kind kind); /* "IID", "Shards", … */
/* In any case of letters; false where there is none. */
bool fl_partition_kind_find(const char *name, enum fl_partition_kind *ret_kind);

#define FL_PARTITION_LEARNERS_MAX 1000000

struct fl_partition {
    enum fl_partition_kind kind;
    size_t learners;
    size_t per_learner;  /* of shards and labels; 0: 2 */
    size_t min_examples; /* 0: 1 */
    double alpha;        /* of Dirichlet (0: 0.5) and Quantity (0: 1) */
    uint64_t seed;
};

/* With what 0 stands for. */
struct fl_partition fl_partition_with_defaults(const struct fl_partition *partition);

/* Which rows each learner gets: of learner i items[starts[i]] to items[starts[i + 1]] - 1, rising.
 */
struct fl_partition_rows {
    size_t learners;
    size_t *starts; /* learners + 1 */
    uint32_t *items;
};
void fl_partition_rows_finish(struct fl_partition_rows *rows);
/* INVALID says what cannot be. */
int fl_partition_divide(const struct fl_dataset *dataset, const struct fl_partition *partition,
                        struct fl_partition_rows *ret_rows, struct fl_error *err);
/* The same as views: `ret_parts` (learners of them) are the caller's references. */
int fl_dataset_partition(struct fl_dataset *dataset, const struct fl_partition *partition,
                         struct fl_dataset **ret_parts, struct fl_error *err);
/* The first and the rest of a shuffled split; `share` of the rows (rounded) into the first. */
int fl_dataset_split(struct fl_dataset *dataset, double share, uint64_t seed,
                     struct fl_dataset **ret_first, struct fl_dataset **ret_rest,
                     struct fl_error *err);

#endif
