#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cmd/options.h"
#include "lib/str.h"

#include <string.h>

struct values {
    bool all, wait;
    const char *output, *dry_run;
    struct fl_words files;
    int64_t chunk, timeout_ms;
    double share;
};

/* `line` is split at spaces. */
static int parse(struct fl_arena *arena, const char *line, struct values *values,
                 struct fl_words *words)
{
    const struct fl_option items[] = {
        {"all", 'A', FL_OPTION_FLAG, &values->all},
        {"wait", 'w', FL_OPTION_FLAG, &values->wait},
        {"output", 'o', FL_OPTION_TEXT, &values->output},
        {"filename", 'f', FL_OPTION_LIST, &values->files},
        {"chunk", 0, FL_OPTION_INT, &values->chunk},
        {"timeout", 0, FL_OPTION_DURATION, &values->timeout_ms},
        {"share", 0, FL_OPTION_REAL, &values->share},
        {"dry-run", 0, FL_OPTION_CHOICE, &values->dry_run},
    };
    struct fl_options options = {"test", "help of the test\n", items, FL_COUNT_OF(items)};
    char name[] = "test", *argv[32] = {name};
    int argc = 1;

    while (line && argc < 31)
        argv[argc++] = fl_str_next(arena, &line, ' ');
    return fl_options_parse(&options, arena, argc, argv, words);
}

static void test_forms(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct values values = {.wait = true};
    struct fl_words words = {0};

    (void)state;
    assert_int_equal(parse(arena, "a --output json -f x b -fy -f=z -Aw --chunk=5 - --timeout 1m30s",
                           &values, &words),
                     -1);
    assert_int_equal(words.count, 3);
    assert_string_equal(words.items[0], "a");
    assert_string_equal(words.items[1], "b");
    assert_string_equal(words.items[2], "-");
    assert_string_equal(values.output, "json");
    assert_int_equal(values.files.count, 3);
    assert_string_equal(values.files.items[1], "y");
    assert_string_equal(values.files.items[2], "z");
    assert_true(values.all);
    assert_true(values.wait);
    assert_int_equal(values.chunk, 5);
    assert_int_equal(values.timeout_ms, 90000);
    assert_null(values.dry_run);
}

static void test_more_forms(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct values values = {.wait = true};
    struct fl_words words = {0};

    (void)state;
    /* a choice takes no word that follows; -- ends the options; a value may begin with a dash */
    assert_int_equal(
        parse(arena, "--wait=false --dry-run server -Ao -x -- --output", &values, &words), -1);
    assert_false(values.wait);
    assert_string_equal(values.dry_run, "");
    assert_string_equal(values.output, "-x");
    assert_int_equal(words.count, 2);
    assert_string_equal(words.items[0], "server");
    assert_string_equal(words.items[1], "--output");
    assert_int_equal(parse(arena, "--dry-run=server --share 2.5e-1", &values, &words), -1);
    assert_true(values.share == 0.25);
    assert_string_equal(values.dry_run, "server");
}

static void test_mistakes(void **state)
{
    static const char *const lines[] = {
        "--nope",       "-x",           "--output",   "-o",          "--chunk=-1",
        "--chunk=many", "--timeout=1y", "--timeout=", "--all=maybe", "--al",
        "-Ax",          "--=x",         "--share=-1", "--share=1x",  "--share=nan"};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(lines); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct values values = {0};
        struct fl_words words = {0};

        assert_int_equal(parse(arena, lines[i], &values, &words), 2);
    }
    {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct values values = {0};
        struct fl_words words = {0};

        assert_int_equal(parse(arena, "a --help --nope", &values, &words), 0);
    }
}

static void test_durations(void **state)
{
    static const struct {
        const char *text;
        int64_t ms; /* < 0: refused */
    } cases[] = {{"0", 0},
                 {"30", 30000},
                 {"30s", 30000},
                 {"500ms", 500},
                 {"1h30m", 5400000},
                 {"1d", 86400000},
                 {"", -1},
                 {"s", -1},
                 {"-1s", -1},
                 {"1.5s", -1},
                 {"5 m", -1},
                 {"9999999999d", -1},
                 {"366d", 31622400000},
                 {"367d", -1},
                 {"99999999999999s", -1}};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        int64_t ms = -1;

        if (fl_option_duration(cases[i].text, &ms) != (cases[i].ms >= 0) || ms != cases[i].ms)
            fail_msg("\"%s\" is %lld", cases[i].text, (long long)ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_more_forms),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_durations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
