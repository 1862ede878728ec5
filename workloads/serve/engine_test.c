#include "workloads/serve/engine.h"

#include "lib/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

/* A predictor whose answer to a row x is (x, rows in the run), and which can be held, be slow, or
 * fail: what the engine does is seen by it. */

#define WIDTH   2
#define CLASSES 2

struct fake {
    struct fl_signature signature;
    struct fl_lock *lock;
    struct fl_signal *change;
    bool slow; /* to warming up */
    bool held, fails, warm;
    unsigned seats, inside, most_inside;
    size_t runs, largest;
    bool seat_taken[8], seat_doubled;
};

/* The table has no argument for a test's own state; a test uses one at a time. */
static struct fake *the_fake;

static int fake_load(const struct fl_predictor_source *source, void **ret_state,
                     struct fl_error *err)
{
    (void)err;
    the_fake->seats = source->seats;
    *ret_state = the_fake;
    return 0;
}

static const struct fl_signature *fake_signature(const void *state)
{
    return &((const struct fake *)state)->signature;
}

static const char *fake_platform(const void *state)
{
    (void)state;
    return "fake";
}

static void enter(struct fake *fake, unsigned seat, size_t count)
{
    fake->seat_doubled |= seat >= fake->seats || fake->seat_taken[seat];
    fake->seat_taken[seat] = true;
    fake->inside++;
    fake->most_inside = fake->inside > fake->most_inside ? fake->inside : fake->most_inside;
    fake->runs++;
    fake->largest = count > fake->largest ? count : fake->largest;
    fl_signal_all(fake->change);
    while (fake->held)
        (void)fl_signal_wait(fake->change, fake->lock, -1);
}

static int fake_predict(void *state, unsigned seat, const float *rows, size_t count,
                        float *ret_answers, struct fl_error *err)
{
    struct fake *fake = state;
    FL_LOCKED(fake->lock);

    if (!fake->warm) { /* a run of a millisecond, or of none */
        const int64_t until_us = fl_machine_monotonic_us() + (fake->slow ? 1000 : 0);

        while (fl_machine_monotonic_us() < until_us)
            continue;
        memset(ret_answers, 0, count * CLASSES * sizeof(float));
        return 0;
    }
    enter(fake, seat, count);
    for (size_t i = 0; i < count; i++) {
        ret_answers[i * CLASSES] = rows[i * WIDTH] < 1000 ? rows[i * WIDTH] : 1.0F / 0.0F;
        ret_answers[i * CLASSES + 1] = (float)count;
    }
    fake->inside--;
    fake->seat_taken[seat] = false;
    return fake->fails ? fl_error_set(err, FL_E_UNAVAILABLE, "the worker has died") : 0;
}

static void fake_destroy(void *state)
{
    (void)state;
}

static bool fake_knows(const void *data, size_t len)
{
    (void)data;
    return len > 0;
}

static const struct fl_predictor_ops fake_ops = {.name = "fake",
                                                 .knows = fake_knows,
                                                 .load = fake_load,
                                                 .signature = fake_signature,
                                                 .platform = fake_platform,
                                                 .predict = fake_predict,
                                                 .destroy = fake_destroy};

struct world {
    struct fl_env env;
    struct fl_loop *loop;
    struct fl_engine *engine;
    struct fl_servable *served;
    struct fake fake;
    size_t done;
};

struct asked {
    struct world *world;
    float answers[64 * CLASSES];
    size_t count;
    int code;
    bool done, unwanted;
};

static void setup(struct world *world, bool slow, const struct fl_engine_options *extra)
{
    struct fl_engine_options options = *extra;
    struct fl_servable_options load = {.ops = &fake_ops, .max_batch = 8};

    *world = (struct world){.env = fl_env_real(NULL)};
    world->fake = (struct fake){.signature = {.input = "x",
                                              .output = "y",
                                              .shape = {WIDTH},
                                              .rank = 1,
                                              .width = WIDTH,
                                              .classes = CLASSES},
                                .lock = fl_lock_create(),
                                .change = fl_signal_create(),
                                .slow = slow};
    the_fake = &world->fake;
    assert_int_equal(fl_loop_create(&world->loop, NULL), 0);
    options.env = &world->env;
    options.loop = world->loop;
    options.max_batch = 8;
    assert_int_equal(fl_engine_create(&options, &world->engine, NULL), 0);
    load.seats = fl_engine_seats(world->engine);
    assert_int_equal(fl_servable_load(&load, "m", 1, &world->served, NULL), 0);
    world->fake.warm = true;
}

static void teardown(struct world *world)
{
    fl_engine_destroy(world->engine); /* its threads are gone */
    assert_false(world->fake.seat_doubled);
    fl_servable_unref(world->served);
    fl_loop_destroy(world->loop);
    fl_signal_destroy(world->fake.change);
    fl_lock_destroy(world->fake.lock);
}

static void done(void *user, const float *answers, const struct fl_error *err)
{
    struct asked *asked = user;

    assert_false(asked->done);
    asked->done = true;
    asked->code = answers ? 0 : err->code;
    if (answers)
        memcpy(asked->answers, answers, asked->count * CLASSES * sizeof(float));
    asked->world->done++;
    fl_loop_stop(asked->world->loop);
}

static bool is_wanted(void *user)
{
    return !((const struct asked *)user)->unwanted;
}

static bool ask(struct world *world, struct asked *asked, size_t count, float first,
                int64_t deadline_ms)
{
    struct fl_job job = {.served = world->served,
                         .rows.max = count * WIDTH,
                         .count = count,
                         .deadline_ms = fl_monotonic_ms(&world->env) + deadline_ms,
                         .done = done,
                         .wanted = is_wanted,
                         .user = asked};

    asked->world = world;
    asked->count = count;
    for (size_t i = 0; i < count * WIDTH; i++)
        assert_true(fl_numbers_add(&job.rows, first + (float)(i / WIDTH)));
    if (fl_engine_submit(world->engine, &job))
        return true;
    fl_numbers_finish(&job.rows);
    return false;
}

static void run_until(struct world *world, size_t wanted)
{
    const int64_t until_ms = fl_monotonic_ms(&world->env) + 60000;

    while (world->done < wanted && fl_monotonic_ms(&world->env) < until_ms)
        fl_loop_run_for(world->loop, 1000);
    assert_int_equal(world->done, wanted);
}

/* Waits, on the test's thread, until so many runs are held within. */
static void wait_inside(struct world *world, unsigned wanted)
{
    const int64_t until_ms = fl_monotonic_ms(&world->env) + 60000;

    while (fl_monotonic_ms(&world->env) < until_ms) {
        fl_loop_run_for(world->loop, 1);
        FL_LOCKED(world->fake.lock);
        if (world->fake.inside == wanted)
            return;
    }
    fail();
}

static void hold(struct world *world, bool held)
{
    FL_LOCKED(world->fake.lock);
    world->fake.held = held;
    fl_signal_all(world->fake.change);
}

static void assert_answers(const struct asked *asked, float first, size_t run)
{
    for (size_t i = 0; i < asked->count; i++) {
        assert_true(asked->answers[i * CLASSES] == first + (float)i);
        assert_true(asked->answers[i * CLASSES + 1] == (float)run);
    }
}

static void what_comes_at_a_time_is_one_run(void **state)
{
    const struct fl_engine_options options = {.inline_us = 1e9};
    struct asked asked[5] = {0};
    struct world world;

    (void)state;
    setup(&world, false, &options);
    for (size_t i = 0; i < 5; i++)
        assert_true(ask(&world, &asked[i], i + 1, (float)(100 * i), 60000));
    assert_int_equal(world.done, 0);
    assert_int_equal(fl_engine_stats(world.engine)->waiting_rows, 15);
    run_until(&world, 5);
    /* 1+2+3, then 4, then 5 rows: a request is never cut, and 8 is the bound */
    assert_answers(&asked[0], 0, 6);
    assert_answers(&asked[2], 200, 6);
    assert_answers(&asked[3], 300, 4);
    assert_answers(&asked[4], 400, 5);
    assert_int_equal(fl_engine_stats(world.engine)->waiting_rows, 0);
    assert_int_equal(fl_engine_stats(world.engine)->rows_total, 15);
    teardown(&world);
}

static void a_request_above_the_bound_is_a_run_of_its_own(void **state)
{
    const struct fl_engine_options options = {.inline_us = 1e9};
    struct asked asked[2] = {0};
    struct world world;

    (void)state;
    setup(&world, false, &options);
    assert_true(ask(&world, &asked[0], 30, 0, 60000));
    assert_true(ask(&world, &asked[1], 1, 500, 60000));
    run_until(&world, 2);
    assert_answers(&asked[0], 0, 30);
    assert_answers(&asked[1], 500, 1);
    teardown(&world);
}

static void slow_runs_are_made_by_threads_and_collect_company(void **state)
{
    const struct fl_engine_options options = {.threads = 2};
    struct asked asked[8] = {0};
    struct world world;

    (void)state;
    setup(&world, true, &options);
    hold(&world, true);
    assert_true(ask(&world, &asked[0], 1, 0, 60000));
    wait_inside(&world, 1);
    assert_true(ask(&world, &asked[1], 1, 100, 60000));
    wait_inside(&world, 2); /* both threads are at work */
    for (size_t i = 2; i < 8; i++)
        assert_true(ask(&world, &asked[i], 1, (float)(100 * i), 60000));
    fl_loop_run_for(world.loop, 20);
    assert_int_equal(fl_engine_stats(world.engine)->waiting, 6);
    assert_int_equal(fl_engine_stats(world.engine)->running, 2);
    hold(&world, false);
    run_until(&world, 8);
    assert_answers(&asked[0], 0, 1);
    assert_answers(&asked[2], 200, 6);
    assert_answers(&asked[7], 700, 6);
    assert_int_equal(world.fake.most_inside, 2);
    teardown(&world);
}

static void a_delay_holds_back_only_where_a_run_is_under_way(void **state)
{
    const struct fl_engine_options options = {.threads = 2, .delay_ms = 60000};
    struct asked asked[10] = {0};
    struct world world;

    (void)state;
    setup(&world, true, &options);
    hold(&world, true);
    assert_true(ask(&world, &asked[0], 1, 0, 600000));
    wait_inside(&world, 1); /* at once, whatever the delay */
    for (size_t i = 1; i < 8; i++)
        assert_true(ask(&world, &asked[i], 1, (float)(100 * i), 600000));
    fl_loop_run_for(world.loop, 20);
    assert_int_equal(fl_engine_stats(world.engine)->running, 1); /* a thread is free, and waits */
    assert_true(ask(&world, &asked[8], 1, 800, 600000));         /* the batch is full */
    wait_inside(&world, 2);
    hold(&world, false);
    run_until(&world, 9);
    assert_answers(&asked[1], 100, 8);
    /* nobody is under way: no delay */
    assert_true(ask(&world, &asked[9], 1, 900, 600000));
    run_until(&world, 10);
    assert_answers(&asked[9], 900, 1);
    teardown(&world);
}

static void late_and_unwanted_ones_are_not_run(void **state)
{
    const struct fl_engine_options options = {.threads = 1};
    struct asked asked[4] = {0};
    struct world world;
    size_t runs;

    (void)state;
    setup(&world, true, &options);
    hold(&world, true);
    assert_true(ask(&world, &asked[0], 1, 0, 60000));
    wait_inside(&world, 1);
    runs = world.fake.runs;
    assert_true(ask(&world, &asked[1], 1, 100, -1));
    assert_true(ask(&world, &asked[2], 1, 200, 60000));
    asked[2].unwanted = true;
    hold(&world, false);
    run_until(&world, 3);
    assert_int_equal(asked[0].code, 0);
    assert_int_equal(asked[1].code, FL_E_TIMEOUT);
    assert_int_equal(asked[2].code, FL_E_UNAVAILABLE);
    assert_int_equal(world.fake.runs, runs);
    assert_int_equal(fl_engine_stats(world.engine)->dropped_total, 2);
    teardown(&world);
}

static void too_much_is_refused(void **state)
{
    const struct fl_engine_options options = {.inline_us = 1e9, .max_waiting = 10};
    struct asked asked[4] = {0};
    struct world world;

    (void)state;
    setup(&world, false, &options);
    assert_true(ask(&world, &asked[0], 8, 0, 60000));
    assert_false(ask(&world, &asked[1], 3, 0, 60000));
    assert_true(ask(&world, &asked[1], 2, 0, 60000));
    run_until(&world, 2);
    /* one that is alone may be above the bound */
    assert_true(ask(&world, &asked[2], 20, 0, 60000));
    run_until(&world, 3);
    teardown(&world);
}

static void failures_are_told(void **state)
{
    const struct fl_engine_options options = {.inline_us = 1e9};
    struct asked asked[5] = {0};
    struct world world;

    (void)state;
    setup(&world, false, &options);
    /* numbers that break the model break their own request only */
    for (size_t i = 0; i < 3; i++)
        assert_true(ask(&world, &asked[i], 1, i == 1 ? 2000 : (float)i, 60000));
    run_until(&world, 3);
    assert_answers(&asked[0], 0, 3);
    assert_int_equal(asked[1].code, FL_E_INVALID);
    assert_answers(&asked[2], 2, 3);
    world.fake.fails = true;
    assert_true(ask(&world, &asked[3], 1, 0, 60000));
    assert_true(ask(&world, &asked[4], 1, 0, 60000));
    run_until(&world, 5);
    assert_int_equal(asked[3].code, FL_E_UNAVAILABLE);
    assert_int_equal(asked[4].code, FL_E_UNAVAILABLE);
    teardown(&world);
}

static void another_model_does_not_join(void **state)
{
    const struct fl_engine_options options = {.inline_us = 1e9};
    const struct fl_servable_options load = {.ops = &fake_ops, .max_batch = 8};
    FL_CLEANUP(fl_servable_unrefp) struct fl_servable *second = NULL;
    struct fl_servable *first;
    struct asked asked[3] = {0};
    struct world world;

    (void)state;
    setup(&world, false, &options);
    world.fake.warm = false;
    assert_int_equal(fl_servable_load(&load, "n", 1, &second, NULL), 0);
    world.fake.warm = true;
    assert_true(ask(&world, &asked[0], 1, 0, 60000));
    assert_true(ask(&world, &asked[1], 1, 100, 60000));
    first = world.served;
    world.served = second;
    assert_true(ask(&world, &asked[2], 1, 200, 60000));
    world.served = first;
    run_until(&world, 3);
    assert_answers(&asked[0], 0, 2);
    assert_answers(&asked[1], 100, 2);
    assert_answers(&asked[2], 200, 1);
    teardown(&world);
}

static void an_engine_may_end_with_work_under_way(void **state)
{
    const struct fl_engine_options options = {.threads = 2};
    struct asked asked[6] = {0};
    struct world world;

    (void)state;
    for (int round = 0; round < 20; round++) {
        setup(&world, true, &options);
        for (size_t i = 0; i < 6; i++) {
            asked[i] = (struct asked){0};
            assert_true(ask(&world, &asked[i], 1, 0, 60000));
        }
        fl_loop_run_for(world.loop, round % 3);
        teardown(&world); /* what threads have told meanwhile is heard by nobody */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_at_a_time_is_one_run),
        cmocka_unit_test(a_request_above_the_bound_is_a_run_of_its_own),
        cmocka_unit_test(slow_runs_are_made_by_threads_and_collect_company),
        cmocka_unit_test(a_delay_holds_back_only_where_a_run_is_under_way),
        cmocka_unit_test(late_and_unwanted_ones_are_not_run),
        cmocka_unit_test(too_much_is_refused),
        cmocka_unit_test(failures_are_told),
        cmocka_unit_test(another_model_does_not_join),
        cmocka_unit_test(an_engine_may_end_with_work_under_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
