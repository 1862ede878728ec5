/* Counts of numbers (spans of time, sizes) from which quantiles can be told, in fixed memory.
 *
 * Buckets grow with the numbers: eight to each power of two, so a quantile is off by less than an
 * eighth. Copying the struct copies it; all zero is empty. One thread. */
#ifndef FL_LIB_HISTOGRAM_H
#define FL_LIB_HISTOGRAM_H

#include <stdint.h>

#define FL_HISTOGRAM_BUCKETS 488 /* up to 2^63 */

struct fl_histogram {
    uint64_t counts[FL_HISTOGRAM_BUCKETS], total;
};

void fl_histogram_add(struct fl_histogram *histogram, int64_t value); /* below 0 counts as 0 */
/* The largest number of the bucket in which the quantile (0 … 1) lies; 0 where it is empty. */
int64_t fl_histogram_quantile(const struct fl_histogram *histogram, double quantile);

#endif
