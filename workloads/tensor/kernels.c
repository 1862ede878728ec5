#include "workloads/tensor/kernels.h"

#include <dlfcn.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

/* Each loop is compiled for several machines and chosen when the program is loaded. The results are
 * the same bits on all: sums are over whole numbers, or in a fixed number of lanes. */
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__) &&                 \
    !defined(__SANITIZE_ADDRESS__)
#define MACHINES __attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3")))
/* Where whole numbers of 64 bits are multiplied: avx512f has no instruction for it, and what stands
 * in for it is slower than avx2's. */
#define MACHINES_256 __attribute__((target_clones("avx2", "default"), optimize("O3")))
#else
#define MACHINES
#define MACHINES_256
#endif

#define BLOCK 4096 /* elements that stay in the nearest cache between two looks at them */

/* OpenBLAS */

typedef void sgemm_fn(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                      const float *a, int lda, const float *b, int ldb, float beta, float *c,
                      int ldc);
enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };

static _Atomic(sgemm_fn *) blas_sgemm;

int fl_kernels_init(struct fl_error *err)
{
    void *library, *symbol;
    void (*set_threads)(int);
    sgemm_fn *sgemm;

    if (atomic_load(&blas_sgemm))
        return 0;
    library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL); /* stays for the program's life */
    symbol = library ? dlsym(library, "cblas_sgemm") : NULL;
    if (!symbol)
        return fl_error_set(err, FL_E_UNAVAILABLE, "OpenBLAS (libopenblas.so.0) cannot be loaded");
    memcpy(&sgemm, &symbol, sizeof(sgemm));
    symbol = dlsym(library, "openblas_set_num_threads");
    if (symbol) {
        memcpy(&set_threads, &symbol, sizeof(set_threads));
        set_threads(1);
    }
    atomic_store(&blas_sgemm, sgemm);
    return 0;
}

void fl_k_gemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha,
               const float *a, const float *b, float beta, float *c)
{
    sgemm_fn *sgemm = atomic_load_explicit(&blas_sgemm, memory_order_relaxed);

    if (!sgemm) {
        fl_ref_gemm(transpose_a, transpose_b, m, n, k, alpha, a, b, beta, c);
        return;
    }
    if (m == 0 || n == 0)
        return;
    sgemm(ROW_MAJOR, transpose_a ? TRANSPOSE : NO_TRANSPOSE, transpose_b ? TRANSPOSE : NO_TRANSPOSE,
          (int)m, (int)n, (int)k, alpha, a, (int)(transpose_a ? m : k), b,
          (int)(transpose_b ? k : n), beta, c, (int)n);
}

void fl_ref_gemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha,
                 const float *a, const float *b, float beta, float *c)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            float sum = 0;

            for (size_t l = 0; l < k; l++)
                sum +=
                    a[transpose_a ? l * m + i : i * k + l] * b[transpose_b ? j * k + l : l * n + j];
            c[i * n + j] = alpha * sum + (beta == 0.0f ? 0.0f : beta * c[i * n + j]);
        }
    }
}

/* Vectors */

MACHINES void fl_k_axpy(size_t n, float a, const float *restrict x, float *restrict y)
{
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

void fl_ref_axpy(size_t n, float a, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

#define LANES 8 /* as many sums as the widest machine adds at once, so that all add alike */

MACHINES double fl_k_distance2(size_t n, const float *restrict x, const float *restrict y)
{
    double lanes[LANES] = {0}, sum = 0;
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++) {
            double d = (double)x[i + l] - (double)y[i + l];

            lanes[l] += d * d;
        }
    for (; i < n; i++) {
        double d = (double)x[i] - (double)y[i];

        lanes[i % LANES] += d * d;
    }
    for (size_t l = 0; l < LANES; l++)
        sum += lanes[l];
    return sum;
}

double fl_ref_distance2(size_t n, const float *x, const float *y)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    return sum;
}

/* All ones in the exponent. */
static bool is_bad(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return (bits & 0x7f800000u) == 0x7f800000u;
}

MACHINES static bool has_bad(size_t n, const float *restrict x)
{
    uint32_t bad = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, &x[i], sizeof(bits));
        bad |= (uint32_t)((bits & 0x7f800000u) == 0x7f800000u);
    }
    return bad != 0;
}

size_t fl_k_find_bad(size_t n, const float *x)
{
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t count = n - at < BLOCK ? n - at : BLOCK;

        if (has_bad(count, x + at))
            return at + fl_ref_find_bad(count, x + at);
    }
    return n;
}

size_t fl_ref_find_bad(size_t n, const float *x)
{
    for (size_t i = 0; i < n; i++)
        if (is_bad(x[i]))
            return i;
    return n;
}

/* Exact sums. A double of magnitude below 2^51 that has 1.5 * 2^52 added is rounded to a whole
 * number (to nearest, ties to even), which then stands in its lowest bits: the same value and bits
 * as rint and a conversion, but four or eight at a time on every machine. */

#define MAGIC      0x1.8p52
#define MAGIC_BITS 0x4338000000000000

static inline int64_t to_whole(double value)
{
    int64_t bits;

    value += MAGIC;
    memcpy(&bits, &value, sizeof(bits));
    return bits - MAGIC_BITS;
}

MACHINES static bool fits(size_t n, const float *restrict x, double scale, double limit)
{
    int bad = 0;

    for (size_t i = 0; i < n; i++)
        bad |= !(fabs(x[i] * scale) <= limit); /* a NaN is bad, too */
    return !bad;
}

MACHINES_256 static void fold_block(size_t n, const float *restrict x, double scale, int64_t weight,
                                    int64_t *restrict sum)
{
    for (size_t i = 0; i < n; i++)
        sum[i] += weight * to_whole(x[i] * scale);
}

static void fold_back(size_t n, const struct fl_fold *fold, double scale, int64_t *sum)
{
    for (size_t back = 0; back < n; back += BLOCK) /* whole blocks, all of them */
        fold_block(BLOCK, fold->x + back, scale, -fold->weight, sum + back);
}

void fl_k_fold_all(size_t n, struct fl_fold *folds, size_t count, unsigned bits, int64_t limit,
                   int64_t *sum)
{
    double scales[FL_FOLDS_MAX];

    for (size_t f = 0; f < count; f++) {
        scales[f] = ldexp(folds[f].factor, (int)bits);
        folds[f].fits = true;
    }
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t len = n - at < BLOCK ? n - at : BLOCK;

        for (size_t f = 0; f < count; f++) {
            if (!folds[f].fits)
                continue;
            folds[f].fits = fits(len, folds[f].x + at, scales[f], (double)limit);
            if (folds[f].fits)
                fold_block(len, folds[f].x + at, scales[f], folds[f].weight, sum + at);
            else
                fold_back(at, &folds[f], scales[f], sum);
        }
    }
}

bool fl_k_fold(size_t n, const float *x, double factor, unsigned bits, int64_t limit,
               int64_t weight, int64_t *sum)
{
    struct fl_fold fold = {.x = x, .factor = factor, .weight = weight};

    fl_k_fold_all(n, &fold, 1, bits, limit, sum);
    return fold.fits;
}

bool fl_ref_fold(size_t n, const float *x, double factor, unsigned bits, int64_t limit,
                 int64_t weight, int64_t *sum)
{
    double scale = ldexp(factor, (int)bits);

    for (size_t i = 0; i < n; i++)
        if (!(fabs(x[i] * scale) <= (double)limit))
            return false;
    for (size_t i = 0; i < n; i++)
        sum[i] += weight * (int64_t)rint(x[i] * scale);
    return true;
}

/* Both are within ±limit < 2^62, so that the sum itself cannot wrap. */
MACHINES static bool add_block(size_t n, const int64_t *restrict add, int64_t limit,
                               int64_t *restrict sum)
{
    int bad = 0;

    for (size_t i = 0; i < n; i++) {
        int64_t total = (int64_t)((uint64_t)sum[i] + (uint64_t)add[i]);

        bad |= (total > limit) | (total < -limit) | (add[i] > limit) | (add[i] < -limit);
        sum[i] = total;
    }
    return !bad;
}

MACHINES static void subtract(size_t n, const int64_t *restrict add, int64_t *restrict sum)
{
    for (size_t i = 0; i < n; i++)
        sum[i] = (int64_t)((uint64_t)sum[i] - (uint64_t)add[i]);
}

bool fl_k_add_sums(size_t n, const int64_t *add, int64_t limit, int64_t *sum)
{
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t count = n - at < BLOCK ? n - at : BLOCK;

        if (!add_block(count, add + at, limit, sum + at)) {
            subtract(at + count, add, sum);
            return false;
        }
    }
    return true;
}

bool fl_ref_add_sums(size_t n, const int64_t *add, int64_t limit, int64_t *sum)
{
    for (size_t i = 0; i < n; i++) {
        __int128 total = (__int128)sum[i] + add[i];

        if (total > limit || total < -limit || add[i] > limit || add[i] < -limit)
            return false;
    }
    for (size_t i = 0; i < n; i++)
        sum[i] += add[i];
    return true;
}

MACHINES void fl_k_unfold(size_t n, const int64_t *restrict sum, double divisor, unsigned bits,
                          float *restrict out)
{
    double scale = ldexp(divisor, (int)bits);

    for (size_t i = 0; i < n; i++)
        out[i] = (float)((double)sum[i] / scale);
}

void fl_ref_unfold(size_t n, const int64_t *sum, double divisor, unsigned bits, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (float)((double)sum[i] / ldexp(divisor, (int)bits));
}
