#include "lib/histogram.h"

#include <math.h>
#include <stddef.h>

#define STEPS 8 /* of a power of two */
#define BITS  3

/* Numbers below STEPS have a bucket each; after that the highest bit gives the row, the next three
 * the place in it. */
static size_t bucket_of(int64_t value)
{
    uint64_t number = value < 0 ? 0 : (uint64_t)value;
    unsigned high;

    if (number < STEPS)
        return number;
    high = 63U - (unsigned)__builtin_clzll(number);
    return (high - BITS + 1) * STEPS + ((number >> (high - BITS)) & (STEPS - 1));
}

static int64_t largest_in(size_t bucket)
{
    unsigned row = (unsigned)(bucket / STEPS);
    uint64_t place = bucket % STEPS;

    if (row == 0)
        return (int64_t)place;
    return (int64_t)(((STEPS + place + 1) << (row - 1)) - 1);
}

void fl_histogram_add(struct fl_histogram *histogram, int64_t value)
{
    histogram->counts[bucket_of(value)]++;
    histogram->total++;
}

int64_t fl_histogram_quantile(const struct fl_histogram *histogram, double quantile)
{
    uint64_t rank = (uint64_t)ceil(quantile * (double)histogram->total), seen = 0;

    if (histogram->total == 0)
        return 0;
    for (size_t i = 0; i < FL_HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen >= rank && seen > 0)
            return largest_in(i);
    }
    return largest_in(FL_HISTOGRAM_BUCKETS - 1);
}
