/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "api/quantity.h"

static void reads_amounts(void **state)
{
    static const struct {
        const char *text;
        int64_t scale, amount;
    } cases[] = {
        {"0", 1, 0},
        {"2", 1000, 2000},
        {"500m", 1000, 500},
        {"1.5", 1000, 1500},
        {"0.0001", 1000, 1}, /* up: what was asked for is never nothing */
        {"500m", 1, 1},
        {"256Mi", 1, 268435456},
        {"1k", 1, 1000},
        {"1.5Gi", 1, 1610612736},
        {"1Ti", 1, 1099511627776},
        {"0.000000001", 1000, 1},
        {"999999999999999.999999999Ti", 1, INT64_MAX},
        {"999999999999999.999999999Ti", 1000, INT64_MAX},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        int64_t amount = -1;

        assert_true(fl_quantity_parse(cases[i].text, cases[i].scale, &amount));
        assert_int_equal(amount, cases[i].amount);
    }
}

static void refuses_what_is_none(void **state)
{
    static const char *const cases[] = {
        "",   "m",    ".5",  "5.",  "-1",  "+1",   " 1",           "1 ", "1mi",
        "1K", "1MiB", "1e3", "0x1", "1,5", "1..2", "1.0000000001", NULL, "1234567890123456",
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        int64_t amount = 7;

        assert_false(fl_quantity_parse(cases[i], 1, &amount));
        assert_int_equal(amount, 7);
    }
}

static void writes_the_shortest_form(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    assert_string_equal(fl_quantity_of_milli(arena, 2000), "2");
    assert_string_equal(fl_quantity_of_milli(arena, 1500), "1500m");
    assert_string_equal(fl_quantity_of_bytes(arena, 0), "0");
    assert_string_equal(fl_quantity_of_bytes(arena, 1000), "1000");
    assert_string_equal(fl_quantity_of_bytes(arena, 268435456), "256Mi");
    assert_string_equal(fl_quantity_of_bytes(arena, (int64_t)1 << 50), "1024Ti");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_amounts),
        cmocka_unit_test(refuses_what_is_none),
        cmocka_unit_test(writes_the_shortest_form),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
