#include "lib/log.h"

#include "lib/env.h"
#include "lib/json.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A logger into a pipe; what it wrote, without the time. */
struct capture {
    int fds[2];
    struct fl_log *log;
    char text[40000];
};

static void begin(struct capture *capture, enum fl_log_level level, bool json)
{
    assert_int_equal(pipe(capture->fds), 0);
    capture->log = fl_log_create(capture->fds[1], level, json);
}

static const char *end(struct capture *capture)
{
    ssize_t n;

    fl_log_destroy(capture->log);
    assert_int_equal(close(capture->fds[1]), 0);
    n = read(capture->fds[0], capture->text, sizeof(capture->text) - 1);
    assert_true(n >= 0);
    capture->text[n] = '\0';
    assert_int_equal(close(capture->fds[0]), 0);
    return capture->text;
}

static void logfmt_quotes_where_needed(void **state)
{
    struct capture capture;
    const char *text;
    char when[FL_TIME_SIZE] = "";
    int64_t us;

    (void)state;
    begin(&capture, FL_LOG_INFO, false);
    fl_log_debug(capture.log, "not shown");
    fl_log_warn(capture.log, "a \"b\"\n", FL_STR("plain", "x/y:1"), FL_STR("space", "a b"),
                FL_STR("quote", "a\"b"), FL_STR("equals", "a=b"), FL_STR("empty", ""),
                FL_STR("null", NULL), FL_STR("line", "a\nb level=error"), FL_STR("utf8", "é\xff"),
                FL_INT("n", -5), FL_INT("max", INT64_MAX), FL_BOOL("yes", true));
    text = end(&capture);
    assert_true(fl_str_has_prefix(text, "time="));
    memcpy(when, text + 5, 27);
    assert_true(fl_time_parse(when, &us));
    assert_string_equal(text + 32, " level=warn msg=\"a \\\"b\\\"\\n\" plain=x/y:1 space=\"a b\" "
                                   "quote=\"a\\\"b\" equals=\"a=b\" empty=\"\" null=\"\" "
                                   "line=\"a\\nb level=error\" utf8=\"é\xEF\xBF\xBD\" n=-5 "
                                   "max=9223372036854775807 yes=true\n");
}

static void json_lines_are_json(void **state)
{
    struct capture capture;
    FL_JSON line = NULL;
    const char *text;

    (void)state;
    begin(&capture, FL_LOG_DEBUG, true);
    fl_log_debug(capture.log, "a\n\"b\"", FL_STR("s", "x\ty\\\xff"), FL_INT("n", 7),
                 FL_BOOL("no", false), FL_STR("null", NULL));
    text = end(&capture);
    assert_int_equal(fl_json_parse(text, strlen(text), NULL, NULL, NULL, &line, NULL), 0);
    assert_string_equal(fl_json_str(line, "level"), "debug");
    assert_string_equal(fl_json_str(line, "msg"), "a\n\"b\"");
    assert_string_equal(fl_json_str(line, "s"), "x\ty\\\xEF\xBF\xBD");
    assert_int_equal(fl_json_int(line, "n", 0), 7);
    assert_false(fl_json_bool(line, "no", true));
    assert_string_equal(fl_json_str(line, "null"), "");
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void children_add_fields(void **state)
{
    struct capture capture;
    struct fl_log *child, *grandchild;
    char kind[] = "FLProject";

    (void)state;
    begin(&capture, FL_LOG_INFO, false);
    child = fl_log_child(capture.log, &FL_STR("kind", kind), 1);
    kind[0] = 'x';
    grandchild =
        fl_log_child(child, (struct fl_log_field[]){FL_STR("name", "a"), FL_INT("n", 1)}, 2);
    fl_log_info(grandchild, "m", FL_INT("last", 2));
    fl_log_destroy(grandchild);
    fl_log_destroy(child);
    assert_string_equal(end(&capture) + 32,
                        " level=info msg=\"m\" kind=FLProject name=a n=1 last=2\n");
    assert_null(fl_log_child(NULL, NULL, 0));
    fl_log_info(NULL, "nowhere");
    fl_log_destroy(NULL);
}

static void a_line_too_long_says_so(void **state)
{
    struct capture capture;
    FL_JSON line = NULL;
    char *big = fl_calloc(1, 20001);
    const char *text;

    (void)state;
    memset(big, 'x', 20000);
    begin(&capture, FL_LOG_INFO, true);
    fl_log_info(capture.log, "m", FL_STR("big", big));
    free(big);
    text = end(&capture);
    assert_int_equal(fl_json_parse(text, strlen(text), NULL, NULL, NULL, &line, NULL), 0);
    assert_string_equal(fl_json_str(line, "msg"), "log line too long");
}

static void names_levels(void **state)
{
    enum fl_log_level level = FL_LOG_ERROR;

    (void)state;
    assert_true(fl_log_level_from_name("debug", &level));
    assert_int_equal(level, FL_LOG_DEBUG);
    assert_false(fl_log_level_from_name("DEBUG", &level));
    assert_false(fl_log_level_from_name("", &level));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logfmt_quotes_where_needed),
        cmocka_unit_test(json_lines_are_json),
        cmocka_unit_test(children_add_fields),
        cmocka_unit_test(a_line_too_long_says_so),
        cmocka_unit_test(names_levels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
