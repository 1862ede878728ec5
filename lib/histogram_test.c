#include "lib/histogram.h"

#include "lib/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

static void test_one_number(void **state)
{
    const int64_t numbers[] = {0,        1, 7, 8, 9, 15, 16, 17, 1000, 123456, INT64_C(1) << 40,
                               INT64_MAX};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(numbers); i++) {
        struct fl_histogram histogram = {0};
        int64_t told;

        fl_histogram_add(&histogram, numbers[i]);
        told = fl_histogram_quantile(&histogram, 0.5);
        assert_true(told >= numbers[i]);
        assert_true(told - numbers[i] <= numbers[i] / 8);
        assert_int_equal(fl_histogram_quantile(&histogram, 0), told);
        assert_int_equal(fl_histogram_quantile(&histogram, 1), told);
    }
}

static void test_quantiles(void **state)
{
    struct fl_histogram histogram = {0};
    const double quantiles[] = {0.01, 0.1, 0.5, 0.9, 0.99, 1};

    (void)state;
    assert_int_equal(fl_histogram_quantile(&histogram, 0.5), 0);
    for (int64_t i = 1; i <= 10000; i++)
        fl_histogram_add(&histogram, i);
    for (size_t i = 0; i < FL_COUNT_OF(quantiles); i++) {
        const int64_t exact = (int64_t)(quantiles[i] * 10000);
        const int64_t told = fl_histogram_quantile(&histogram, quantiles[i]);

        assert_true(told >= exact && told <= exact + exact / 8 + 1);
    }
    fl_histogram_add(&histogram, -5);
    assert_int_equal(histogram.counts[0], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_number),
                                       cmocka_unit_test(test_quantiles)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
