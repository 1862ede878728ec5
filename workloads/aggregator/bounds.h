/* What one learner may count with, and for how much sums are planned: pure functions of what the
 * members declare, the same for an aggregator and for a simulation of one. Any thread. */
#ifndef FL_WORKLOADS_AGGREGATOR_BOUNDS_H
#define FL_WORKLOADS_AGGREGATOR_BOUNDS_H

#include <stddef.h>
#include <stdint.h>

/* What a member declares: of all learners below it, and how many they are (1 or more). */
struct fl_declared {
    int64_t examples, learners;
};

/* The greatest count of examples that is no more than `share` (below 1) of all, where nobody counts
 * with more than it: so that whoever declares a lot does not raise his own bound. At least 1. Of a
 * member's learners only the mean is known. The list is sorted by it. */
int64_t fl_bound_examples(struct fl_declared *list, size_t count, double share);

/* Sums are planned for all that members declare (as far as they count: `most` 0 is no bound), twice
 * over and rounded up to a power of two, so that whoever comes or goes rarely changes it, and tiers
 * do not at all. */
int64_t fl_bound_weight(const struct fl_declared *list, size_t count, int64_t most);

#endif
