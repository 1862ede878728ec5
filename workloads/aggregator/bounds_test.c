#include "workloads/aggregator/bounds.h"

#include "lib/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

static void test_bound(void **state)
{
    static const struct {
        struct fl_declared list[4];
        size_t count;
        double share;
        int64_t bound;
    } cases[] = {
        {{{0, 1}}, 0, 0.5, 1},
        {{{100, 1}, {100, 1}}, 2, 0.5, 100},
        {{{100, 1}, {100, 1}}, 2, 0.9, 180},  /* nobody is above it */
        {{{1000, 1}, {100, 1}}, 2, 0.5, 100}, /* half of what counts, not of what is said */
        {{{1000000000000, 1}, {100, 1}}, 2, 0.5, 100},
        {{{100, 1}, {100, 1}, {100, 1}, {300, 1}}, 4, 0.25, 100},
        {{{600, 1}, {200, 2}, {100, 1}}, 3, 0.4, 200},
        {{{5, 1}, {5, 1}}, 2, 0.01, 5}, /* a share that nobody could keep: equal weights */
        {{{0, 1}, {0, 1}}, 2, 0.5, 1},
        {{{301, 3}, {100, 1}},
         2,
         0.9,
         362}, /* of a member's learners the mean counts, rounded up */
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_declared list[4];

        memcpy(list, cases[i].list, sizeof(list));
        assert_int_equal(fl_bound_examples(list, cases[i].count, cases[i].share), cases[i].bound);
    }
}

/* Nobody raises the bound by declaring more than it. */
static void test_boasting_does_not_help(void **state)
{
    (void)state;
    for (int64_t boast = 100; boast < INT64_C(1) << 50; boast *= 3) {
        struct fl_declared list[] = {{boast, 1}, {90, 1}, {80, 1}, {70, 1}};

        assert_int_equal(fl_bound_examples(list, 4, 0.25), 70);
    }
}

static void test_weight(void **state)
{
    const struct fl_declared flat[] = {{100, 1}, {101, 1}, {300, 1}},
                             tiered[] = {{201, 2}, {300, 1}},
                             large[] = {{INT64_MAX, 1}, {INT64_MAX, 1}};

    (void)state;
    assert_int_equal(fl_bound_weight(flat, 0, 0), 1);
    assert_int_equal(fl_bound_weight(flat, 3, 0), 1024);
    assert_int_equal(fl_bound_weight(tiered, 2, 0), 1024);
    assert_int_equal(fl_bound_weight(flat, 3, 50), 512);
    assert_int_equal(fl_bound_weight(large, 2, 0), INT64_C(1) << 61);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bound),
                                       cmocka_unit_test(test_boasting_does_not_help),
                                       cmocka_unit_test(test_weight)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
