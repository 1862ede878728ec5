#include "workloads/trainer/thin.h"

#include <string.h>

#define WIDE          16 /* floats */
#define ROWS_MAX      64
#define BLAS_IS_SMALL 1000000 /* up to here OpenBLAS does not copy either */

/* Blocks: as much as the registers of the widest machine hold. */
#define F_ROWS  5
#define F_UNITS 4
#define B_ROWS  10
#define B_WIDE  2

/* Sizes of blocks are constants where these are called, so that their sums stay in registers. clang
 * is used for fuzzing only, and takes minutes over code that is so unrolled and instrumented. */
#ifdef __clang__
#define BLOCK_CODE static
#define UNROLL
#else
#define BLOCK_CODE static inline __attribute__((always_inline))
#define UNROLL     _Pragma("GCC unroll 16")
#endif

typedef float wide __attribute__((vector_size(WIDE * sizeof(float))));

struct code {
    void (*forward)(const struct fl_thin *size, const float *x, const float *w, float *y);
    void (*backward)(const struct fl_thin *size, const float *delta, const float *w, float *below);
};

/* The code is compiled for several machines by including it several times: vectors are taken apart
 * before functions are cloned for them. Products and sums may be fused, where a machine can; what
 * must agree to the bit with a plain loop stands elsewhere. */
#if defined(__x86_64__) && !defined(__clang__)
#define HAS_MACHINES
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#pragma GCC target("arch=skylake-avx512,prefer-vector-width=512")
#define THIN(name) name##_avx512
#include "workloads/trainer/thin_code.inc"
#undef THIN
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#pragma GCC target("arch=haswell")
#define THIN(name) name##_avx2
#include "workloads/trainer/thin_code.inc"
#undef THIN
#pragma GCC pop_options
#endif

#define THIN(name) name##_any
#include "workloads/trainer/thin_code.inc"
#undef THIN

static const struct code *code(void)
{
    static const struct code any = {forward_any, backward_any};
#ifdef HAS_MACHINES
    static const struct code avx512 = {forward_avx512, backward_avx512};
    static const struct code avx2 = {forward_avx2, backward_avx2};

    if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw"))
        return &avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &avx2;
#endif
    return &any;
}

bool fl_thin_is_worth(const struct fl_thin *size)
{
    return size->rows <= ROWS_MAX && size->inputs >= WIDE &&
           size->rows * size->inputs * size->units > BLAS_IS_SMALL;
}

void fl_thin_forward(const struct fl_thin *size, const float *x, const float *w, float *y)
{
    code()->forward(size, x, w, y);
}

void fl_thin_backward(const struct fl_thin *size, const float *delta, const float *w, float *below)
{
    code()->backward(size, delta, w, below);
}
