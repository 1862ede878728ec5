/* Exact weighted sums of updates.
 *
 * An update's values are multiplied by a power of two and rounded once, to whole numbers; from then
 * on all is integer addition. So a sum has the same bits whatever the order in which updates come
 * and however tiers group them, and a masked sum is the same code. The precision of a round is
 * chosen by the root and handed down, so that all parties round alike: with values up to 2^range
 * and weights that sum up to 2^w there are min(50 - range, 62 - range - w) bits behind the point,
 * 48 at most.
 *
 * Float tensors are summed so; integer and boolean tensors are not averaged: they are taken from
 * the base model (counters of steps have no mean), as the header of a strategy says. What does not
 * fit is refused by the tensor's name and index, and leaves the sum as it was.
 *
 * Memory: 8 bytes a parameter. One thread at a time, with a crew where one was lent. */
#ifndef FL_WORKLOADS_EXACT_H
#define FL_WORKLOADS_EXACT_H

#include "lib/crew.h"
#include "workloads/tensor/kernels.h"
#include "workloads/tensor/tensor.h"

struct fl_exact;

struct fl_exact_precision {
    unsigned range_bits; /* values are at most 2^range_bits */
    unsigned bits;       /* behind the point */
    int64_t max_weight;  /* of all updates together */
};
/* For values of magnitude up to 2^range_bits (at least 1) and this sum of weights. INVALID where
 * fewer than 20 bits would be left. */
int fl_exact_plan(unsigned range_bits, int64_t max_weight, struct fl_exact_precision *ret_precision,
                  struct fl_error *err);

int fl_exact_create(const struct fl_model *like, const struct fl_exact_precision *precision,
                    struct fl_exact **ret_exact, struct fl_error *err);
void fl_exact_destroy(struct fl_exact *exact);
FL_DEFINE_CLEANUP(struct fl_exact, fl_exact_destroy)
void fl_exact_reset(struct fl_exact *exact);
void fl_exact_use(struct fl_exact *exact, struct fl_crew *crew); /* lent; NULL: none */

/* sum += weight * factor * update. All or nothing. INVALID: NaN, infinity, out of range, another
 * shape; TOO_LARGE: the sum of weights. */
int fl_exact_fold(struct fl_exact *exact, const struct fl_model *update, double factor,
                  int64_t weight, struct fl_error *err);
/* Several updates in one go through memory, each as by fl_exact_fold; at most FL_FOLDS_MAX. */
struct fl_exact_addend {
    const struct fl_model *update;
    double factor;
    int64_t weight;
    int result; /* the answer, and its error */
    struct fl_error err;
};
void fl_exact_fold_all(struct fl_exact *exact, struct fl_exact_addend *addends, size_t count);
/* What a tier hands up, as a model of I64 tensors with the float tensors' names; and taking it in.
 */
int fl_exact_partial(const struct fl_exact *exact, struct fl_model **ret_partial,
                     struct fl_error *err);
int fl_exact_fold_partial(struct fl_exact *exact, const struct fl_model *partial, int64_t weight,
                          struct fl_error *err);
int64_t fl_exact_weight(const struct fl_exact *exact);
/* sum / divisor into the float tensors of `out` (like the model; others stay). divisor 0: the sum
 * of weights. */
int fl_exact_mean(const struct fl_exact *exact, double divisor, struct fl_model *out,
                  struct fl_error *err);

/* out = base + scale * (sum - factors * base), in double, rounded once. */
int fl_exact_move(const struct fl_exact *exact, const struct fl_model *base, double factors,
                  double scale, struct fl_model *out, struct fl_error *err);

/* The same for single numbers (losses, norms): a sum of doubles that does not depend on order. */
struct fl_exact_scalar {
    __int128 fixed; /* in units of 2^-64 */
    bool overflow;
};
void fl_exact_scalar_add(struct fl_exact_scalar *sum, double value);
void fl_exact_scalar_merge(struct fl_exact_scalar *sum, const struct fl_exact_scalar *other);
double fl_exact_scalar_get(const struct fl_exact_scalar *sum);

#endif
