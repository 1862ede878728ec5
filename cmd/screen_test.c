#include "cmd/paint.h"
#include "cmd/screen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void what_is_shown_of_a_long_body(void **state)
{
    static const struct {
        size_t first, lines, window, shown;
    } examples[] = {
        {0, 10, 20, 0},    {5, 10, 20, 0},    /* all fits */
        {5, 100, 20, 5},   {80, 100, 20, 80}, /* the last page */
        {81, 100, 20, 80}, {SIZE_MAX, 100, 20, 80}, {3, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(examples); i++)
        assert_int_equal(fl_screen_first(examples[i].first, examples[i].lines, examples[i].window),
                         examples[i].shown);
}

static void paints_from_left_to_right(void **state)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf out = {0};
    struct fl_paint paint = {.out = &out, .width = 20, .utf8 = true};

    (void)state;
    fl_paint_cell(&paint, FL_PAINT_BOLD, 6, "ab");
    fl_paint_cell(&paint, FL_PAINT_PLAIN, 3, "wider");
    fl_paint_right(&paint, FL_PAINT_GOOD, "end");
    fl_paint_text(&paint, FL_PAINT_BAD, "no room for %s", "this");
    fl_paint_end_line(&paint);
    fl_paint_text(&paint, FL_PAINT_PLAIN, "0123456789012345");
    fl_paint_right(&paint, FL_PAINT_PLAIN, "right");
    fl_paint_end_line(&paint);
    fl_paint_repeat(&paint, FL_PAINT_PLAIN, "●", "*", 100);
    fl_paint_end_line(&paint);
    fl_paint_lines(&paint, "日本語日本語日本語日本語\n\nb\n");
    fl_paint_cell(&paint, FL_PAINT_PLAIN, 10, "no spaces");
    fl_paint_end_line(&paint);
    assert_string_equal(fl_buf_text(&out), "ab    wi…        end\n"
                                           "0123456789012345  r…\n"
                                           "●●●●●●●●●●●●●●●●●●●●\n"
                                           "日本語日本語日本語…\n"
                                           "\n"
                                           "b\n"
                                           "no spaces\n");
}

static void colors_surround_their_text(void **state)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf out = {0};
    struct fl_paint paint = {.out = &out, .colors = true};

    (void)state;
    fl_paint_text(&paint, FL_PAINT_PLAIN, "a");
    fl_paint_text(&paint, FL_PAINT_BAD, "b\033[0m");
    fl_paint_repeat(&paint, FL_PAINT_GOOD, "●", "*", 2);
    fl_paint_right(&paint, FL_PAINT_DIM, "c");
    fl_paint_end_line(&paint);
    assert_string_equal(fl_buf_text(&out),
                        "a\033[31mb [0m\033[0m\033[32m**\033[0m  \033[2mc\033[0m\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_shown_of_a_long_body),
        cmocka_unit_test(paints_from_left_to_right),
        cmocka_unit_test(colors_surround_their_text),
    };

    return cmocka_run_group_tests_name("screen", tests, NULL, NULL);
}
