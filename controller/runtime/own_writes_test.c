#include "controller/runtime/own_writes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the three above first */
#include <cmocka.h>

#define KEY "default/boat"

static int setup(void **state)
{
    *state = fl_own_writes_create();
    return 0;
}

static int teardown(void **state)
{
    fl_own_writes_destroy(*state);
    return 0;
}

/* Written at revision 11 what was read at 10, and the cache has not shown it yet. */
static void write_one(struct fl_own_writes *writes)
{
    fl_own_writes_begin(writes, KEY);
    assert_false(fl_own_writes_end(writes, KEY, 10, 11, 1000));
}

static void test_nothing_written(void **state)
{
    assert_true(fl_own_writes_seen(*state, KEY, 5));
    assert_int_equal(fl_own_writes_wait_ms(*state, KEY, 5, 1000), 0);
}

static void test_own_event_is_no_news(void **state)
{
    write_one(*state);
    assert_true(fl_own_writes_seen(*state, "default/other", 11));
    assert_false(fl_own_writes_seen(*state, KEY, 10));
    assert_false(fl_own_writes_seen(*state, KEY, 11));
    assert_int_equal(fl_own_writes_count(*state), 0);
    assert_true(fl_own_writes_seen(*state, KEY, 12));
}

static void test_event_before_the_answer(void **state)
{
    fl_own_writes_begin(*state, KEY);
    assert_false(fl_own_writes_seen(*state, KEY, 11));
    assert_false(fl_own_writes_end(*state, KEY, 10, 11, 1000));
    assert_int_equal(fl_own_writes_count(*state), 0);
}

static void test_another_event_before_the_answer(void **state)
{
    fl_own_writes_begin(*state, KEY);
    assert_false(fl_own_writes_seen(*state, KEY, 11));
    assert_false(fl_own_writes_seen(*state, KEY, 12));
    assert_true(fl_own_writes_end(*state, KEY, 10, 11, 1000));
    assert_int_equal(fl_own_writes_count(*state), 0);
}

static void test_another_event_instead(void **state)
{
    write_one(*state);
    assert_true(fl_own_writes_seen(*state, KEY, 13)); /* 11 and it came as one */
    assert_int_equal(fl_own_writes_count(*state), 0);
}

/* Nobody knows whether it took place: whatever was seen has to be looked at. */
static void test_failed(void **state)
{
    fl_own_writes_begin(*state, KEY);
    assert_false(fl_own_writes_end(*state, KEY, 10, 0, 1000));
    fl_own_writes_begin(*state, KEY);
    assert_false(fl_own_writes_seen(*state, KEY, 11));
    assert_true(fl_own_writes_end(*state, KEY, 10, 0, 1000));
    assert_int_equal(fl_own_writes_count(*state), 0);
}

static void test_changed_nothing(void **state)
{
    fl_own_writes_begin(*state, KEY);
    assert_false(fl_own_writes_end(*state, KEY, 10, 10, 1000));
    assert_int_equal(fl_own_writes_count(*state), 0);
}

static void test_waiting(void **state)
{
    write_one(*state);
    assert_int_equal(fl_own_writes_wait_ms(*state, KEY, 10, 1500), 4500);
    assert_true(fl_own_writes_seen(*state, KEY, 11)); /* who waits is woken */
    assert_int_equal(fl_own_writes_wait_ms(*state, KEY, 11, 1600), 0);
    write_one(*state);
    assert_int_equal(fl_own_writes_wait_ms(*state, KEY, 10, 6000), 0); /* long enough */
    assert_int_equal(fl_own_writes_count(*state), 0);
    write_one(*state);
    assert_int_equal(fl_own_writes_wait_ms(*state, KEY, 11, 1500), 0);
    assert_int_equal(fl_own_writes_count(*state), 0);
}

static void test_gone(void **state)
{
    write_one(*state);
    fl_own_writes_gone(*state, KEY);
    assert_int_equal(fl_own_writes_count(*state), 0);
    fl_own_writes_begin(*state, KEY);
    fl_own_writes_gone(*state, KEY);
    assert_false(fl_own_writes_end(*state, KEY, 10, 11, 1000));
    assert_int_equal(fl_own_writes_count(*state), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_written),
        TEST(test_own_event_is_no_news),
        TEST(test_event_before_the_answer),
        TEST(test_another_event_before_the_answer),
        TEST(test_another_event_instead),
        TEST(test_failed),
        TEST(test_changed_nothing),
        TEST(test_waiting),
        TEST(test_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
