#include "workloads/aggregator/bounds.h"

#include <math.h>
#include <stdlib.h>

#define WEIGHT_MAX (INT64_C(1) << 61)

/* The mean of its learners, rounded up. */
static int64_t each_of(const struct fl_declared *member)
{
    return member->examples / member->learners + (member->examples % member->learners != 0);
}

static int by_examples(const void *a, const void *b)
{
    const struct fl_declared *x = a, *y = b;

    const int64_t a_each = each_of(x), b_each = each_of(y);

    return (a_each < b_each) - (a_each > b_each);
}

/* Those above the bound are the first of the list, the largest: with K of them and S examples of
 * the others it is share * (S + K * it). */
static int64_t bound_by_share(const struct fl_declared *list, size_t count, double share)
{
    double above = 0, bound;
    __int128 rest = 0;

    for (size_t i = 0; i < count; i++)
        rest += (__int128)each_of(&list[i]) * list[i].learners;
    for (size_t i = 0; i < count; i++) {
        bound = share * above < 1 ? share * (double)rest / (1 - share * above) : INFINITY;
        if (bound >= (double)each_of(&list[i]))
            return i > 0 && bound > (double)each_of(&list[i - 1]) ? each_of(&list[i - 1])
                                                                  : (int64_t)bound;
        rest -= (__int128)each_of(&list[i]) * list[i].learners;
        above += (double)list[i].learners;
    }
    return count > 0 ? each_of(&list[count - 1]) : 0;
}

int64_t fl_bound_examples(struct fl_declared *list, size_t count, double share)
{
    int64_t bound;

    if (count > 0)
        qsort(list, count, sizeof(*list), by_examples);
    bound = bound_by_share(list, count, share);
    return bound < 1 ? 1 : bound;
}

int64_t fl_bound_weight(const struct fl_declared *list, size_t count, int64_t most)
{
    __int128 all = 0;
    int64_t weight = 1;

    for (size_t i = 0; i < count; i++) {
        const __int128 bound = (__int128)most * list[i].learners;

        all += most > 0 && list[i].examples > bound ? bound : list[i].examples;
    }
    while (weight < WEIGHT_MAX && weight < all * 2)
        weight *= 2;
    return weight;
}
