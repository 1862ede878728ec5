#include "lib/env.h"
#include "workloads/tensor/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define N 9001 /* two whole blocks and a rest */

static struct fl_fake_env fake;

static float uniform(void)
{
    return (float)((double)fl_random_below(&fake.env, 1 << 24) / (1 << 23) - 1.0);
}

static float *noise(size_t n)
{
    float *values = fl_calloc(n, sizeof(float));

    for (size_t i = 0; i < n; i++)
        values[i] = uniform() * ldexpf(1.0f, (int)fl_random_below(&fake.env, 8) - 4);
    return values;
}

static int begin(void **state)
{
    (void)state;
    fl_fake_env_init(&fake, 7, NULL);
    return fl_kernels_init(NULL);
}

static void products(void **state)
{
    static const size_t sizes[][3] = {{1, 1, 1}, {3, 5, 7}, {10, 200, 784}, {33, 1, 64}, {4, 4, 0}};

    (void)state;
    for (size_t s = 0; s < FL_COUNT_OF(sizes); s++) {
        size_t m = sizes[s][0], n = sizes[s][1], k = sizes[s][2];

        for (unsigned form = 0; form < 4; form++) {
            FL_CLEANUP(fl_freep) float *a = noise(m * k + 1), *b = noise(k * n + 1);
            FL_CLEANUP(fl_freep) float *fast = noise(m * n), *plain = fl_calloc(m * n, 4);

            memcpy(plain, fast, m * n * sizeof(float));
            fl_k_gemm(form & 1, form & 2, m, n, k, 0.5f, a, b, 2.0f, fast);
            fl_ref_gemm(form & 1, form & 2, m, n, k, 0.5f, a, b, 2.0f, plain);
            for (size_t i = 0; i < m * n; i++)
                assert_true(fabsf(fast[i] - plain[i]) <= 1e-3f * (1 + fabsf(plain[i])));
        }
    }
}

static void vectors(void **state)
{
    FL_CLEANUP(fl_freep) float *x = noise(N), *fast = noise(N), *plain = fl_calloc(N, 4);
    double distance = fl_ref_distance2(N, x, fast);

    (void)state;
    assert_true(fabs(fl_k_distance2(N, x, fast) - distance) < 1e-9 * distance);
    memcpy(plain, fast, N * sizeof(float));
    fl_k_axpy(N, 0.25f, x, fast);
    fl_ref_axpy(N, 0.25f, x, plain);
    assert_memory_equal(fast, plain, N * sizeof(float));
    assert_int_equal(fl_k_find_bad(N, x), N);
    for (size_t at = 0; at < N; at += 977) {
        float before = x[at];

        x[at] = at % 2 ? NAN : -INFINITY;
        assert_int_equal(fl_k_find_bad(N, x), at);
        assert_int_equal(fl_ref_find_bad(N, x), at);
        x[at] = before;
    }
}

static void sums_are_the_same_bits(void **state)
{
    FL_CLEANUP(fl_freep) float *x = noise(N), *out = fl_calloc(N, 4), *again = fl_calloc(N, 4);
    FL_CLEANUP(fl_freep) int64_t *fast = fl_calloc(N, 8), *plain = fl_calloc(N, 8);
    int64_t limit = (int64_t)1 << 45;

    (void)state;
    x[0] = 0.5f, x[1] = -0.5f, x[2] = 1.5f * 0x1p-40f; /* ties */
    for (int64_t weight = 1; weight < 2000; weight = weight * 3 + 1) {
        assert_true(fl_k_fold(N, x, 0.7, 40, limit, weight, fast));
        assert_true(fl_ref_fold(N, x, 0.7, 40, limit, weight, plain));
    }
    assert_memory_equal(fast, plain, N * sizeof(int64_t));
    fl_k_unfold(N, fast, 3.0, 40, out);
    fl_ref_unfold(N, plain, 3.0, 40, again);
    assert_memory_equal(out, again, N * sizeof(float));
}

static void what_does_not_fit_leaves_no_trace(void **state)
{
    static const size_t places[] = {0, 4095, 4096, 8191, 8192, N - 1};
    static const float bad[] = {NAN, INFINITY, -INFINITY, 32.5f, -32.5f};
    FL_CLEANUP(fl_freep) float *x = noise(N);
    FL_CLEANUP(fl_freep) int64_t *sum = fl_calloc(N, 8), *before = fl_calloc(N, 8);

    (void)state;
    assert_true(fl_k_fold(N, x, 1.0, 40, (int64_t)1 << 45, 3, sum));
    memcpy(before, sum, N * sizeof(int64_t));
    for (size_t p = 0; p < FL_COUNT_OF(places); p++) {
        for (size_t b = 0; b < FL_COUNT_OF(bad); b++) {
            float kept = x[places[p]];

            x[places[p]] = bad[b];
            assert_false(fl_k_fold(N, x, 1.0, 40, (int64_t)1 << 45, 5, sum));
            assert_false(fl_ref_fold(N, x, 1.0, 40, (int64_t)1 << 45, 5, sum));
            assert_memory_equal(sum, before, N * sizeof(int64_t));
            x[places[p]] = kept;
        }
    }
}

static void several_at_once(void **state)
{
    FL_CLEANUP(fl_freep)
    float *good = noise(N), *early = noise(N), *late = noise(N), *other = noise(N);
    FL_CLEANUP(fl_freep) int64_t *sum = fl_calloc(N, 8), *want = fl_calloc(N, 8);
    const int64_t limit = (int64_t)1 << 45;
    struct fl_fold folds[] = {
        {.x = good, .factor = 0.7, .weight = 3},
        {.x = early, .factor = 1, .weight = 1000},
        {.x = late, .factor = 1, .weight = 5},
        {.x = other, .factor = -1.5, .weight = (int64_t)1 << 10},
    };

    (void)state;
    early[1] = NAN;
    late[N - 1] = 33;
    fl_k_fold_all(N, folds, FL_COUNT_OF(folds), 40, limit, sum);
    assert_true(folds[0].fits && folds[3].fits);
    assert_false(folds[1].fits || folds[2].fits);
    assert_true(fl_ref_fold(N, good, 0.7, 40, limit, 3, want));
    assert_true(fl_ref_fold(N, other, -1.5, 40, limit, (int64_t)1 << 10, want));
    assert_memory_equal(sum, want, N * sizeof(int64_t));
}

static void sums_of_sums(void **state)
{
    const int64_t limit = (int64_t)1 << 62;
    FL_CLEANUP(fl_freep) int64_t *sum = fl_calloc(N, 8), *add = fl_calloc(N, 8);
    FL_CLEANUP(fl_freep) int64_t *before = fl_calloc(N, 8);

    (void)state;
    for (size_t i = 0; i < N; i++)
        sum[i] = before[i] = (int64_t)i << 40, add[i] = -(int64_t)i;
    for (size_t at = 0; at < N; at += 1777) {
        int64_t kept = add[at];

        sum[at] = before[at] = limit - 1, add[at] = 2;
        assert_false(fl_k_add_sums(N, add, limit, sum));
        assert_memory_equal(sum, before, N * sizeof(int64_t));
        assert_false(fl_ref_add_sums(N, add, limit, sum));
        add[at] = INT64_MIN;
        assert_false(fl_k_add_sums(N, add, limit, sum));
        assert_memory_equal(sum, before, N * sizeof(int64_t));
        add[at] = kept, sum[at] = before[at] = 5;
    }
    assert_true(fl_k_add_sums(N, add, limit, sum));
    assert_true(fl_ref_add_sums(N, add, limit, before));
    assert_memory_equal(sum, before, N * sizeof(int64_t));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products),
        cmocka_unit_test(vectors),
        cmocka_unit_test(sums_are_the_same_bits),
        cmocka_unit_test(what_does_not_fit_leaves_no_trace),
        cmocka_unit_test(several_at_once),
        cmocka_unit_test(sums_of_sums),
    };

    return cmocka_run_group_tests(tests, begin, NULL);
}
