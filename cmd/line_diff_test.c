#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cmd/line_diff.h"
#include "lib/env.h"

#include <stdlib.h>
#include <string.h>

static void assert_diff(const char *old_text, const char *new_text, const char *expected)
{
    struct fl_line_diff_options options = {.old_name = "a", .new_name = "b"};
    struct fl_buf out;

    fl_buf_init(&out, 0);
    assert_int_equal(fl_line_diff(old_text, new_text, &options, &out), *expected != '\0');
    assert_string_equal(fl_buf_text(&out), expected);
    fl_buf_finish(&out);
}

static void test_small(void **state)
{
    (void)state;
    assert_diff("", "", "");
    assert_diff("a\nb\n", "a\nb\n", "");
    assert_diff("", "a\nb\n", "--- a\n+++ b\n@@ -0,0 +1,2 @@\n+a\n+b\n");
    assert_diff("a\n", "", "--- a\n+++ b\n@@ -1 +0,0 @@\n-a\n");
    assert_diff("a\nb\nc\n", "a\nX\nc\n", "--- a\n+++ b\n@@ -1,3 +1,3 @@\n a\n-b\n+X\n c\n");
    assert_diff("a\nb\nc\na\nb\nb\na\n", "c\nb\na\nb\na\nc\n",
                "--- a\n+++ b\n@@ -1,7 +1,6 @@\n-a\n-b\n c\n+b\n a\n b\n-b\n a\n+c\n");
}

static void test_hunks(void **state)
{
    (void)state;
    /* six lines between two changes: their contexts meet; seven: two hunks */
    assert_diff("x\n1\n2\n3\n4\n5\n6\ny\n", "X\n1\n2\n3\n4\n5\n6\nY\n",
                "--- a\n+++ b\n@@ -1,8 +1,8 @@\n-x\n+X\n 1\n 2\n 3\n 4\n 5\n 6\n-y\n+Y\n");
    assert_diff("x\n1\n2\n3\n4\n5\n6\n7\ny\n", "X\n1\n2\n3\n4\n5\n6\n7\nY\n",
                "--- a\n+++ b\n@@ -1,4 +1,4 @@\n-x\n+X\n 1\n 2\n 3\n@@ -6,4 +6,4 @@\n 5\n 6\n 7\n"
                "-y\n+Y\n");
}

static void test_colors(void **state)
{
    struct fl_line_diff_options options = {.old_name = "a", .new_name = "b", .colors = true};
    struct fl_buf out;

    (void)state;
    fl_buf_init(&out, 0);
    assert_true(fl_line_diff("x\n", "y\n", &options, &out));
    assert_non_null(strstr(fl_buf_text(&out), "\033[31m-x\033[0m\n\033[32m+y\033[0m\n"));
    fl_buf_finish(&out);
}

/* Rebuilds one side of a diff with all lines in it: what is not of the other sign. */
static void rebuild(const char *diff, char other, struct fl_buf *out)
{
    while (*diff) {
        size_t len = strcspn(diff, "\n");

        if (strncmp(diff, "--- ", 4) != 0 && strncmp(diff, "+++ ", 4) != 0 && *diff != '@' &&
            *diff != other) {
            fl_buf_append(out, diff + 1, len - 1);
            fl_buf_putc(out, '\n');
        }
        diff += len + (diff[len] == '\n');
    }
}

/* Texts of few different lines, short enough that contexts hold all of them together or not: what
 * the diff leaves out is the same in both, so both sides lack the same lines. */
static void test_random(void **state)
{
    struct fl_fake_env fake;

    (void)state;
    fl_fake_env_init(&fake, 7, NULL);
    for (int round = 0; round < 3000; round++) {
        struct fl_line_diff_options options = {.old_name = "", .new_name = ""};
        struct fl_buf text[2], side, out;
        bool differs;

        fl_buf_init(&out, 0);
        fl_buf_init(&side, 0);
        for (int i = 0; i < 2; i++) {
            uint64_t lines = fl_random_below(&fake.env, 8);

            fl_buf_init(&text[i], 0);
            for (uint64_t j = 0; j < lines; j++)
                fl_buf_printf(&text[i], "%c\n", (int)('a' + fl_random_below(&fake.env, 3)));
        }
        differs = fl_line_diff(fl_buf_text(&text[0]), fl_buf_text(&text[1]), &options, &out);
        assert_int_equal(differs, strcmp(fl_buf_text(&text[0]), fl_buf_text(&text[1])) != 0);
        for (int i = 0; differs && i < 2; i++) {
            const char *whole = fl_buf_text(&text[i]);
            const char *part;

            fl_buf_clear(&side);
            rebuild(fl_buf_text(&out), i ? '-' : '+', &side);
            part = strstr(whole, fl_buf_text(&side));
            if (!part)
                fail_msg("round %d: \"%s\" is no part of \"%s\"", round, fl_buf_text(&side), whole);
        }
        fl_buf_finish(&text[0]);
        fl_buf_finish(&text[1]);
        fl_buf_finish(&side);
        fl_buf_finish(&out);
    }
}

/* Beyond the bound the middle is replaced whole, and that is still right. */
static void test_bound(void **state)
{
    struct fl_line_diff_options options = {.old_name = "a", .new_name = "b"};
    struct fl_buf text[2], side, out;

    (void)state;
    fl_buf_init(&out, 0);
    fl_buf_init(&side, 0);
    for (int i = 0; i < 2; i++) {
        fl_buf_init(&text[i], 0);
        for (int j = 0; j < 3000; j++)
            fl_buf_printf(&text[i], "%d-%d\n", i, j);
    }
    assert_true(fl_line_diff(fl_buf_text(&text[0]), fl_buf_text(&text[1]), &options, &out));
    for (int i = 0; i < 2; i++) {
        fl_buf_clear(&side);
        rebuild(fl_buf_text(&out), i ? '-' : '+', &side);
        assert_string_equal(fl_buf_text(&side), fl_buf_text(&text[i]));
        fl_buf_finish(&text[i]);
    }
    fl_buf_finish(&side);
    fl_buf_finish(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),  cmocka_unit_test(test_hunks), cmocka_unit_test(test_colors),
        cmocka_unit_test(test_random), cmocka_unit_test(test_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
