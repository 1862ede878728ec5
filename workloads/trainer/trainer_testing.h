/* Data sets made in memory, for tests and benches: images with a pattern a class and noise, so that
 * any trainer must learn them. */
#ifndef FL_WORKLOADS_TRAINER_TRAINER_TESTING_H
#define FL_WORKLOADS_TRAINER_TRAINER_TESTING_H

#include "workloads/data/dataset.h"

struct fl_patterns {
    size_t count, height, width, channels; /* channels 0: one, and of rank 2 */
    int64_t classes;
    float noise; /* uniform within ± it, beside patterns within ±1 */
    uint64_t seed, pattern_seed;
};
void fl_patterns_make(const struct fl_patterns *patterns, struct fl_dataset *ret_data);
void fl_patterns_finish(struct fl_dataset *data);

#endif
