#include "lib/interrupt.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

static void test_a_signal_is_kept(void **state)
{
    static const int signals[] = {SIGINT, SIGTERM};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct fl_interrupt *interrupt = NULL;

        assert_int_equal(fl_interrupt_create(&interrupt, NULL), 0);
        assert_false(fl_interrupt_has_come(interrupt));
        assert_int_equal(kill(getpid(), signals[i]), 0);
        assert_true(fl_interrupt_has_come(interrupt));
        assert_true(fl_interrupt_has_come(interrupt));
        fl_interrupt_destroy(interrupt);
    }
}

static volatile sig_atomic_t caught;

static void catch_it(int signum)
{
    caught = signum;
}

static void test_signals_are_given_back(void **state)
{
    struct fl_interrupt *interrupt = NULL;

    (void)state;
    assert_true(signal(SIGINT, catch_it) != SIG_ERR);
    assert_int_equal(fl_interrupt_create(&interrupt, NULL), 0);
    assert_int_equal(raise(SIGINT), 0);
    assert_int_equal(caught, 0);
    fl_interrupt_destroy(interrupt);
    assert_int_equal(caught, 0); /* it was looked at, and is over */
    assert_int_equal(raise(SIGINT), 0);
    assert_int_equal(caught, SIGINT);
    assert_true(signal(SIGINT, SIG_DFL) != SIG_ERR);
    fl_interrupt_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_signal_is_kept),
        cmocka_unit_test(test_signals_are_given_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
