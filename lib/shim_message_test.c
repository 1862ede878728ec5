/* Messages between a shim and whoever gives it orders. */
#include "lib/process.h"
#include "lib/shim_internal.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>

#include <cmocka.h>

/* Who gives an order and leaves, without listening to what the shim said meanwhile. */
static void an_order_counts_though_its_giver_left(void **state)
{
    char text[FL_SHIM_MESSAGE_MAX];
    struct fl_shim_order order;
    struct fl_shim giver = {.pidfd = -1};
    FL_CLEANUP(fl_fd_closep) int shim = -1;
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    giver.socket = pair[0], shim = pair[1];
    assert_true(fl_shim_send(shim, "changed"));
    assert_int_equal(fl_shim_stop(&giver, SIGKILL, 0, "Lost", "no record", NULL), 0);
    fl_shim_close(&giver);

    assert_int_equal(fl_shim_receive(shim, text), 1);
    assert_true(fl_shim_order_parse(text, &order));
    assert_int_equal(order.signum, SIGKILL);
    assert_string_equal(order.reason, "Lost");
    assert_int_equal(fl_shim_receive(shim, text), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_order_counts_though_its_giver_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
