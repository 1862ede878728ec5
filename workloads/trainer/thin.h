/* The matrix products of a dense layer that go through its weights, for a few examples.
 *
 * A general product copies its matrices into an order that suits it, which pays when each number is
 * used often. With a mini-batch of ten, copying the weights costs as much as multiplying them: here
 * each weight is read where it lies, once for all examples of a block. Arrays do not overlap.
 * Nothing allocates, nothing fails; the same input gives the same bits on one machine type. */
#ifndef FL_WORKLOADS_TRAINER_THIN_H
#define FL_WORKLOADS_TRAINER_THIN_H

#include <stdbool.h>
#include <stddef.h>

struct fl_thin {
    size_t rows; /* examples */
    size_t inputs, units;
};
/* Whether it is thin enough for this to be the faster way. */
bool fl_thin_is_worth(const struct fl_thin *size);

/* y (rows x units) = x (rows x inputs) w^T (units x inputs) */
void fl_thin_forward(const struct fl_thin *size, const float *x, const float *w, float *y);
/* below (rows x inputs) = delta (rows x units) w */
void fl_thin_backward(const struct fl_thin *size, const float *delta, const float *w, float *below);

#endif
