/* Loops over numbers: the fast ones, and plain ones beside them that say what they mean.
 *
 * fl_k_… are used; fl_ref_… are the reference that tests compare with. float arrays do not overlap
 * unless said; sizes are in elements. Results do not depend on the number of threads (one BLAS
 * thread) nor, for the sums, on blocking: the same input gives the same bits on one machine type.
 * Any thread; no allocation. */
#ifndef FL_WORKLOADS_KERNELS_H
#define FL_WORKLOADS_KERNELS_H

#include "lib/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Takes up OpenBLAS, with one thread. Programs that compute call it once when they begin; those
 * that do not stay free of its memory and threads. UNAVAILABLE where it is not installed. Without
 * it the plain matrix product is used, which is right and slow. */
int fl_kernels_init(struct fl_error *err);

/* y += a * x */
void fl_k_axpy(size_t n, float a, const float *x, float *y);
void fl_ref_axpy(size_t n, float a, const float *x, float *y);
/* C (m x n) = alpha * op(A) op(B) + beta * C, row-major; op transposes where set. */
void fl_k_gemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha,
               const float *a, const float *b, float beta, float *c);
void fl_ref_gemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha,
                 const float *a, const float *b, float beta, float *c);
/* Sum of squares of differences, in double. */
double fl_k_distance2(size_t n, const float *x, const float *y);
double fl_ref_distance2(size_t n, const float *x, const float *y);
/* Index of the first value that is no number or infinite, or n. */
size_t fl_k_find_bad(size_t n, const float *x);
size_t fl_ref_find_bad(size_t n, const float *x);

/* Exact sums (see workloads/strategy/exact.h): sum[i] += weight * rint(factor * x[i] * 2^bits), in
 * whole numbers. False, with sum unchanged, where some |rint(…)| is above `limit` (below 2^51) or x
 * has a NaN or an infinity; that weight * limit, added up, fits is the caller's to know. */
bool fl_k_fold(size_t n, const float *x, double factor, unsigned bits, int64_t limit,
               int64_t weight, int64_t *sum);
bool fl_ref_fold(size_t n, const float *x, double factor, unsigned bits, int64_t limit,
                 int64_t weight, int64_t *sum);
/* Several at once, so that the sum, which is larger than they are, is read and written once for all
 * of them. Of those that do not fit nothing is added. */
#define FL_FOLDS_MAX 4
struct fl_fold {
    const float *x;
    double factor;
    int64_t weight;
    bool fits; /* the answer */
};
void fl_k_fold_all(size_t n, struct fl_fold *folds, size_t count, unsigned bits, int64_t limit,
                   int64_t *sum);
/* sum[i] += add[i]; false, with sum unchanged, where one of them is above `limit` after it. */
bool fl_k_add_sums(size_t n, const int64_t *add, int64_t limit, int64_t *sum);
bool fl_ref_add_sums(size_t n, const int64_t *add, int64_t limit, int64_t *sum);
/* out[i] = sum[i] / (divisor * 2^bits), in double, rounded once more to float. */
void fl_k_unfold(size_t n, const int64_t *sum, double divisor, unsigned bits, float *out);
void fl_ref_unfold(size_t n, const int64_t *sum, double divisor, unsigned bits, float *out);

#endif
