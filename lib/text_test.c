#define FL_ALLOW_BANNED
#include "lib/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <locale.h>
#include <wchar.h>

static void cuts_where_columns_end(void **state)
{
    static const struct {
        const char *text;
        size_t columns;
        bool utf8;
        const char *shown;
        size_t taken;
    } examples[] = {
        {"round", 9, true, "round", 5},
        {"round", 5, true, "round", 5},
        {"round", 4, true, "rou…", 4},
        {"round", 4, false, "rou~", 4},
        {"round", 1, true, "…", 1},
        {"round", 0, true, "", 0},
        {"", 0, true, "", 0},
        {"日本語", 6, true, "日本語", 6},
        {"日本語", 5, true, "日本…", 5},
        {"日本語", 4, true, "日…", 3}, /* half of a character is none */
        {"日本語", 3, false, "???", 3},
        {"e\xCC\x81t\xC3\xA9", 3, true, "e\xCC\x81t\xC3\xA9", 3}, /* an accent of its own */
        {"e\xCC\x81t\xC3\xA9", 3, false, "et?", 3},
        {"🚀 up", 3, true, "🚀…", 3},
        {"a\033[2Jb\nc\x7F", 20, true, "a [2Jb c ", 9},
        {"a\xC2\x9B"
         "2Jb",
         20, true, "a 2Jb", 5}, /* CSI in one character */
        {"a\xE2\x80\xAE"
         "b",
         20, true, "ab", 2}, /* right to left from here */
        {"a\xFF\xC3", 20, true, "a??", 3},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(examples); i++) {
        FL_CLEANUP(fl_buf_finish) struct fl_buf out = {0};
        const size_t taken =
            fl_text_put(&out, examples[i].text, examples[i].columns, examples[i].utf8);

        assert_string_equal(fl_buf_text(&out), examples[i].shown);
        assert_int_equal(taken, examples[i].taken);
    }
}

static void counts_columns(void **state)
{
    (void)state;
    assert_int_equal(fl_text_columns(""), 0);
    assert_int_equal(fl_text_columns("round 3/10"), 10);
    assert_int_equal(fl_text_columns("▁▃▅▇ ●○…"), 8);
    assert_int_equal(fl_text_columns("日本 한국 カナ"), 14);
}

/* The C library has a table of each character; ours has blocks, and must be right where people
 * write. */
static void agrees_with_the_c_library(void **state)
{
    static const struct {
        uint32_t first, last;
    } blocks[] = {{0x20, 0x7E},       {0xA1, 0x52F},     {0x1100, 0x115F}, {0x1E00, 0x1FFE},
                  {0x2010, 0x2027},   {0x2190, 0x2BFF},  {0x3000, 0x30FF}, {0x3400, 0x4DBF},
                  {0x4E00, 0x9FFF},   {0xAC00, 0xD7A3},  {0xFF01, 0xFF60}, {0x1F300, 0x1F64F},
                  {0x1F680, 0x1F6C5}, {0x20000, 0x2A6DF}};
    size_t seen = 0;

    (void)state;
    assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
    for (size_t i = 0; i < FL_COUNT_OF(blocks); i++)
        for (uint32_t c = blocks[i].first; c <= blocks[i].last; c++) {
            const int theirs = wcwidth((wchar_t)c);

            if (theirs < 0 || c == 0xAD)
                continue; /* not assigned; a soft hyphen */
            seen++;
            if ((int)fl_text_columns_of(c) != theirs)
                fail_msg("U+%04X takes %d columns, not %u", c, theirs, fl_text_columns_of(c));
        }
    assert_true(seen > 80000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_where_columns_end),
        cmocka_unit_test(counts_columns),
        cmocka_unit_test(agrees_with_the_c_library),
    };

    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
