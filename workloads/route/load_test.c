#include "workloads/route/load.h"

#include "lib/env.h"
#include "lib/mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

#define MS    INT64_C(1000)
#define START (INT64_C(977) * 1000 * 1000 + 123)

static const struct fl_load_terms concurrency = {FL_LOAD_CONCURRENCY, 2000, 5000},
                                  rate = {FL_LOAD_REQUEST_RATE, 2000, 5000};

static struct fl_load load_of(const struct fl_load_terms *terms)
{
    struct fl_load load = {0};

    fl_load_set(&load, terms, START);
    return load;
}

static void assert_near(double got, double wanted, double by)
{
    if (!(fabs(got - wanted) <= by))
        fail_msg("%g is not %g", got, wanted);
}

static void begin(struct fl_load *load, int count, int64_t at_ms)
{
    for (int i = 0; i < count; i++)
        fl_load_began(load, START + at_ms * MS);
}

static void end(struct fl_load *load, int count, int64_t at_ms)
{
    for (int i = 0; i < count; i++)
        fl_load_ended(load, START + at_ms * MS);
}

static struct fl_load_view look(struct fl_load *load, int64_t at_ms)
{
    return fl_load_look(load, START + at_ms * MS);
}

static void test_steady(void **state)
{
    struct fl_load load = load_of(&concurrency);
    struct fl_load_view view;

    (void)state;
    begin(&load, 3, 0);
    for (int64_t at_ms = 200; at_ms < 20000; at_ms += 70) {
        view = look(&load, at_ms);
        assert_near(view.average, 3, 1e-9);
        assert_near(view.panic, 3, 1e-9);
        assert_near(view.peak, 3, 1e-9);
        assert_near(view.panic_peak, 3, 1e-9);
        assert_int_equal(view.covered_ms, at_ms);
    }
}

static void test_rush(void **state)
{
    struct fl_load load = load_of(&concurrency);
    struct fl_load_view view;

    (void)state;
    (void)look(&load, 10000);
    begin(&load, 20, 10000);
    view = look(&load, 10240); /* a tenth of the window, and the bucket on the way */
    assert_near(view.panic, 20, 1);
    assert_near(view.average, 20 * 240.0 / 2000, 0.1);
    assert_near(view.peak, view.average, 0.4);
    end(&load, 20, 10240);
    view = look(&load, 11500);
    assert_near(view.panic, 0, 1e-9);
    assert_near(view.panic_peak, 20, 1.5); /* within the window */
    view = look(&load, 12700);
    assert_near(view.average, 0, 1e-9);
    assert_near(view.panic_peak, 0, 1e-9);
    assert_near(view.peak, 20 * 240.0 / 2000, 0.2); /* within the delay */
    assert_near(look(&load, 17600).peak, 0, 1e-9);
}

static void test_rate(void **state)
{
    struct fl_load load = load_of(&rate);
    struct fl_load_view view = {0};

    (void)state;
    for (int64_t at_ms = 0; at_ms < 6000; at_ms += 10) {
        begin(&load, 1, at_ms);
        end(&load, 1, at_ms + 3);
    }
    view = look(&load, 6000);
    assert_near(view.average, 100, 1);
    assert_near(view.panic, 100, 6);
    assert_near(view.peak, 100, 3);
}

static void test_first_request_is_no_rush(void **state)
{
    struct fl_load load = load_of(&rate);

    (void)state;
    begin(&load, 1, 0);
    assert_near(look(&load, 1).average, 5, 1e-9); /* one in a fifth of a second at most */
    assert_near(look(&load, 1000).average, 1, 1e-9);
}

static void test_gaps(void **state)
{
    struct fl_load load = load_of(&concurrency);

    (void)state;
    begin(&load, 2, 0);
    assert_near(look(&load, INT64_C(1000) * 3600 * 24 * 90).average, 2, 1e-9);
    end(&load, 2, INT64_C(1000) * 3600 * 24 * 90);
    assert_near(look(&load, INT64_C(1000) * 3600 * 24 * 91).peak, 0, 1e-9);
}

static void test_terms(void **state)
{
    const struct fl_load_terms none = {0}, silly = {FL_LOAD_CONCURRENCY, INT64_MAX, INT64_MAX},
                               short_one = {FL_LOAD_CONCURRENCY, 1, 0};
    struct fl_load load = {0};

    (void)state;
    fl_load_began(&load, START); /* measured or not, they are under way */
    assert_near(look(&load, 1000).average, 0, 0);
    fl_load_set(&load, &concurrency, START + 1000 * MS);
    assert_near(look(&load, 3000).average, 1, 1e-9);
    fl_load_set(&load, &concurrency, START + 3000 * MS); /* the same: goes on */
    assert_int_equal(look(&load, 3000).covered_ms, 2000);
    fl_load_set(&load, &silly, START + 3000 * MS);
    assert_int_equal(look(&load, 4000).covered_ms, 1000);
    fl_load_set(&load, &short_one, START + 4000 * MS);
    assert_near(look(&load, 6000).peak, 1, 1e-9);
    fl_load_set(&load, &none, START + 6000 * MS);
    fl_load_ended(&load, START + 7000 * MS);
    assert_near(look(&load, 8000).average, 0, 0);
}

/* Held against a plain sum over all that ever happened. */
struct span {
    int64_t from_us, until_us;
};

static double plain_average(const struct span *spans, size_t count, int64_t from_us,
                            int64_t until_us)
{
    double sum = 0;

    for (size_t i = 0; i < count; i++) {
        const int64_t from = spans[i].from_us > from_us ? spans[i].from_us : from_us,
                      until = spans[i].until_us < until_us ? spans[i].until_us : until_us;

        sum += until > from ? (double)(until - from) : 0;
    }
    return sum / (double)(until_us - from_us);
}

static void test_random(void **state)
{
    struct fl_fake_env fake;

    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct fl_load load = load_of(&concurrency);
        struct span spans[300];
        size_t open = 0, count = 0;
        int64_t now_us = START, width_us = load.width_us;

        fl_fake_env_init(&fake, seed, NULL);
        while (count < FL_COUNT_OF(spans)) {
            now_us += (int64_t)fl_random_below(&fake.env, seed % 3 == 0 ? 900000 : 20000);
            if (open < count && fl_random_below(&fake.env, 2)) {
                spans[open++].until_us = now_us;
                fl_load_ended(&load, now_us);
            } else {
                spans[count++] = (struct span){now_us, INT64_MAX};
                fl_load_began(&load, now_us);
            }
            if (now_us - START > 2100 * MS)
                assert_near(
                    fl_load_look(&load, now_us).average,
                    plain_average(spans, count, (now_us / width_us - 59) * width_us, now_us), 1e-6);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steady), cmocka_unit_test(test_rush),
        cmocka_unit_test(test_rate),   cmocka_unit_test(test_first_request_is_no_rush),
        cmocka_unit_test(test_gaps),   cmocka_unit_test(test_terms),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
