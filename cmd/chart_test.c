#include "cmd/chart.h"

#include "lib/mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

static void test_drawings(void **state)
{
    static const double rising[] = {0, 1, 2, 3}, holes[] = {1, NAN, 3}, flat[] = {5, 5},
                        many[] = {0, 2, 4, 6, 8, 10, 12, 14}, none[] = {NAN, NAN};
    static const struct {
        const double *values;
        size_t count, width, height;
        const char *drawing;
    } cases[] = {
        {rising, 4, 10, 1, "         3 │▁▃▆█\n           └ a … b\n"},
        {rising, 4, 10, 2, "         3 │  ▃█\n         0 │▁▆██\n           └ a … b\n"},
        {holes, 3, 10, 1, "         3 │▁ █\n           └ a … b\n"},
        {flat, 2, 10, 1, "         5 │▄▄\n           └ a … b\n"},
        {many, 8, 2, 1, "        11 │▁█\n           └ a … b\n"},
        {none, 2, 10, 3, ""},
        {none, 0, 10, 3, ""},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_buf_finish) struct fl_buf out = {0};
        const struct fl_chart chart = {.values = cases[i].values,
                                       .count = cases[i].count,
                                       .first = "a",
                                       .last = "b",
                                       .width = cases[i].width,
                                       .height = cases[i].height};

        fl_chart_draw(&out, &chart);
        assert_string_equal(fl_buf_text(&out), cases[i].drawing);
    }
}

static void test_plain_drawing(void **state)
{
    static const double values[] = {0, 1, 2, 3};
    FL_CLEANUP(fl_buf_finish) struct fl_buf out = {0};
    const struct fl_chart chart = {.values = values,
                                   .count = 4,
                                   .first = "a",
                                   .last = "b",
                                   .width = 10,
                                   .height = 2,
                                   .plain = true};

    (void)state;
    fl_chart_draw(&out, &chart);
    assert_string_equal(fl_buf_text(&out),
                        "         3 |  .#\n         0 |.|##\n           + a ... b\n");
}

static void test_sparks(void **state)
{
    static const double rising[] = {0, 1, 2, 3, 4, 5, 6, 7}, holes[] = {3, NAN, 1}, one[] = {7};
    static const struct {
        const double *values;
        size_t count, columns;
        bool utf8;
        const char *line;
        size_t taken;
    } cases[] = {
        {rising, 8, 10, true, "▁▂▃▄▅▆▇█", 8}, {rising, 8, 10, false, "_.,-~=*#", 8},
        {rising, 8, 3, true, "▁▅█", 3}, /* the last, in their own range */
        {holes, 3, 10, true, "█ ▁", 3},       {one, 1, 10, true, "▄", 1},
        {rising, 8, 0, true, "", 0},          {one, 0, 10, true, "", 0},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_buf_finish) struct fl_buf out = {0};

        assert_int_equal(
            fl_chart_spark(&out, cases[i].values, cases[i].count, cases[i].columns, cases[i].utf8),
            cases[i].taken);
        assert_string_equal(fl_buf_text(&out), cases[i].line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_drawings),
                                       cmocka_unit_test(test_plain_drawing),
                                       cmocka_unit_test(test_sparks)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
