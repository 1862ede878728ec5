/* A sample of data for `flops try` and `flops simulate`: pictures of a few kinds, with noise, that
 * any classifier can learn. The same every time. */
#ifndef FL_CMD_TRY_SAMPLE_H
#define FL_CMD_TRY_SAMPLE_H

#include "workloads/data/store.h"

struct fl_sample {
    int64_t shape[FL_DATASET_RANK_MAX];
    unsigned rank;
    int64_t classes, examples;
};

/* "28x28", "32x32x3", "64"; false where it is none, or more numbers than an example may have. */
bool fl_sample_read_shape(const char *text, struct fl_sample *sample);

int fl_sample_make(const struct fl_sample *sample, struct fl_dataset **ret_dataset,
                   struct fl_error *err);
/* Keeps it as `tag`, divided among `learners`. */
int fl_sample_push(const struct fl_sample *sample, const struct fl_data_store *store,
                   const char *tag, size_t learners, struct fl_error *err);

#endif
