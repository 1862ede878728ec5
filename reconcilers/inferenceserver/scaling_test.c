#include "reconcilers/inferenceserver/scaling.h"

#include "lib/env.h"
#include "lib/str.h"
#include "workloads/route/load.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define STEP_MS 10

static const struct fl_autoscale terms = {.min_replicas = 1,
                                          .max_replicas = 10,
                                          .metric = FL_AUTOSCALE_METRIC_CONCURRENCY,
                                          .target = 4,
                                          .window = "10s",
                                          .scale_down_delay = "30s"};

static void test_table(void **state)
{
    static const struct {
        const char *what;
        int64_t current;
        double average, panic, peak, panic_peak;
        int64_t covered_ms, wanted;
    } cases[] = {
        {"nothing decided yet", 0, 0, 0, 0, 0, 0, 1},
        {"as meant for", 2, 8, 8, 8, 8, 60000, 2},
        {"within tolerance above", 2, 8.7, 9, 9, 9, 60000, 2},
        {"within tolerance below", 3, 10.9, 10, 10.9, 10, 60000, 3},
        {"above tolerance", 2, 8.9, 9, 9, 9, 60000, 3},
        {"a hair above a whole number", 5, 12.000000001, 12, 12.000000001, 12, 60000, 3},
        {"far more", 1, 1000, 1000, 1000, 1000, 60000, 10},
        {"up needs no long measure", 2, 20, 20, 20, 20, 1000, 5},
        {"a rush", 2, 4, 17, 4, 17, 60000, 5},
        {"the rush goes on", 4, 6, 27, 6, 27, 60000, 7},
        {"a crowd within what there is", 7, 6, 27, 6, 27, 60000, 7},
        {"no rush: less than twice", 2, 8, 15, 8, 15, 60000, 2},
        {"the rush is over", 5, 6, 1, 6, 17, 60000, 5},
        {"long over", 5, 6, 6, 6, 6, 60000, 2},
        {"down", 5, 7, 7, 7, 7, 60000, 2},
        {"down as far as the delay lets it", 5, 3, 3, 14, 3, 60000, 4},
        {"down when measured long enough", 5, 3, 3, 3, 3, 29999, 5},
        {"the delay does not lead up", 2, 3, 3, 40, 3, 60000, 2},
        {"idle", 5, 0, 0, 0, 0, 60000, 1},
        {"above the bounds", 50, 40, 40, 40, 40, 60000, 10},
        {"no number", 3, NAN, NAN, NAN, NAN, 60000, 3},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_router_load load = fl_scaling_terms(&terms);
        int64_t wanted;

        load.average = cases[i].average;
        load.panic = cases[i].panic;
        load.peak = cases[i].peak;
        load.panic_peak = cases[i].panic_peak;
        load.covered_ms = cases[i].covered_ms;
        wanted = fl_scaling_decide(&terms, cases[i].current, &load, NULL, NULL);
        if (wanted != cases[i].wanted)
            fail_msg("%s: %d", cases[i].what, (int)wanted);
    }
}

/* What a router has measured by other terms, or not at all, is not gone by. */
static void test_not_measured(void **state)
{
    struct fl_router_load load = fl_scaling_terms(&terms), other = load;

    (void)state;
    load.average = other.average = 100;
    assert_int_equal(fl_scaling_decide(&terms, 2, &load, NULL, NULL), 10);
    other.window_ms++;
    assert_int_equal(fl_scaling_decide(&terms, 2, &other, NULL, NULL), 2);
    other = load;
    other.metric = "RequestRate";
    assert_int_equal(fl_scaling_decide(&terms, 2, &other, NULL, NULL), 2);
    other.metric = NULL;
    assert_int_equal(fl_scaling_decide(&terms, 2, &other, NULL, NULL), 2);
    assert_int_equal(fl_scaling_decide(&terms, 99, &other, NULL, NULL),
                     10); /* but for the bounds */
}

static void test_why(void **state)
{
    struct fl_router_load load = fl_scaling_terms(&terms);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *why = NULL;

    (void)state;
    load.average = load.panic = 4;
    (void)fl_scaling_decide(&terms, 1, &load, arena, &why);
    assert_null(why);
    load.average = 20;
    (void)fl_scaling_decide(&terms, 1, &load, arena, &why);
    assert_non_null(strstr(why, "5 servers instead of 1: Concurrency is 20.0"));
}

static void test_defaults(void **state)
{
    static const struct {
        const char *window;
        int64_t look_ms;
    } cases[] = {{NULL, 2000}, {"1m", 2000}, {"2s", 100}, {"10s", 500}, {"1ms", 100}};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_autoscale autoscale = terms;

        autoscale.window = cases[i].window;
        assert_int_equal(fl_scaling_look_ms(&autoscale), cases[i].look_ms);
    }
}

/* Load that is what it is, however many servers there are; the router's own measure of it. */
struct loop {
    struct fl_fake_env fake;
    struct fl_autoscale autoscale;
    struct fl_load load;
    int64_t now_ms, current, under_way;
    int64_t ups, downs;
};

static void set_load(struct loop *loop, int64_t under_way)
{
    while (loop->under_way < under_way) {
        loop->under_way++;
        fl_load_began(&loop->load, loop->now_ms * 1000);
    }
    while (loop->under_way > under_way) {
        loop->under_way--;
        fl_load_ended(&loop->load, loop->now_ms * 1000);
    }
}

static struct fl_router_load look(struct loop *loop)
{
    const struct fl_load_view view = fl_load_look(&loop->load, loop->now_ms * 1000);
    struct fl_router_load load = fl_scaling_terms(&loop->autoscale);

    load.average = view.average;
    load.panic = view.panic;
    load.peak = view.peak;
    load.panic_peak = view.panic_peak;
    load.covered_ms = view.covered_ms;
    return load;
}

static void decide(struct loop *loop)
{
    const struct fl_router_load load = look(loop);
    const int64_t wanted = fl_scaling_decide(&loop->autoscale, loop->current, &load, NULL, NULL);

    assert_true(wanted >= loop->autoscale.min_replicas && wanted <= loop->autoscale.max_replicas);
    loop->ups += loop->current > 0 && wanted > loop->current;
    loop->downs += loop->current > 0 && wanted < loop->current;
    loop->current = wanted;
}

/* `level` with noise, for a time. */
static void run(struct loop *loop, double level, double noise, int64_t for_ms)
{
    const int64_t until_ms = loop->now_ms + for_ms;
    int64_t next_ms = loop->now_ms;

    for (; loop->now_ms < until_ms; loop->now_ms += STEP_MS) {
        const double chance = (double)fl_random_below(&loop->fake.env, 1000000) / 1e6;
        const double exact = level * (1 + noise * (2 * chance - 1)) +
                             (double)fl_random_below(&loop->fake.env, 1000000) / 1e6;

        set_load(loop, (int64_t)exact);
        if (loop->now_ms >= next_ms) {
            decide(loop);
            next_ms = loop->now_ms + fl_scaling_look_ms(&loop->autoscale);
        }
    }
}

static struct loop loop_make(uint64_t seed)
{
    struct loop loop = {.autoscale = terms, .now_ms = 1000000};
    struct fl_router_load measured;
    struct fl_load_terms load = {.metric = FL_LOAD_CONCURRENCY};

    fl_fake_env_init(&loop.fake, seed, NULL);
    loop.autoscale.target = 1 + (int64_t)fl_random_below(&loop.fake.env, 20);
    loop.autoscale.min_replicas = 1 + (int64_t)fl_random_below(&loop.fake.env, 3);
    loop.autoscale.max_replicas =
        loop.autoscale.min_replicas + (int64_t)fl_random_below(&loop.fake.env, 20);
    measured = fl_scaling_terms(&loop.autoscale);
    load.window_ms = measured.window_ms;
    load.delay_ms = measured.delay_ms;
    fl_load_set(&loop.load, &load, loop.now_ms * 1000);
    return loop;
}

/* Whatever came before: with steady load the number comes to rest, is enough, and not too much. */
static void test_rest(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct loop loop = loop_make(seed);
        const double target = (double)loop.autoscale.target;
        double level = 0;

        loop.fake.env.user = &loop.fake;
        for (int i = 0; i < 3; i++) {
            level = (double)fl_random_below(&loop.fake.env, 12000) / 1000 * target;
            run(&loop, level, 0.5, 15000);
        }
        run(&loop, level, 0.3, 120000);
        loop.ups = loop.downs = 0;
        run(&loop, level, 0.3, 300000);
        /* It may come to rest late, but it does not go up and down. */
        if (loop.ups > 0 && loop.downs > 0)
            fail_msg("seed %d: %d up, %d down", (int)seed, (int)loop.ups, (int)loop.downs);
        if (loop.current < loop.autoscale.max_replicas)
            assert_true((double)loop.current * target * 1.1 >= level * 0.97);
        if (loop.current > loop.autoscale.min_replicas)
            assert_true((double)(loop.current - 1) * target <= level * 1.3 + 1);
    }
}

static void test_rush_and_calm(void **state)
{
    struct loop loop = loop_make(7);

    (void)state;
    loop.fake.env.user = &loop.fake;
    loop.autoscale = terms;
    run(&loop, 1, 0, 60000);
    assert_int_equal(loop.current, 1);
    run(&loop, 30, 0, 1500); /* a tenth of the window, and a look */
    assert_true(loop.current >= 7);
    loop.downs = 0;
    run(&loop, 1, 0, 9000); /* within the window */
    assert_int_equal(loop.downs, 0);
    run(&loop, 1, 0, 60000);
    assert_int_equal(loop.current, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table), cmocka_unit_test(test_not_measured),
        cmocka_unit_test(test_why),   cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_rest),  cmocka_unit_test(test_rush_and_calm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
