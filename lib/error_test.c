#include "lib/error.h"

#include "lib/str.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void set_returns_the_code(void **state)
{
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(fl_error_set(&err, FL_E_NOT_FOUND, "no %s", "x"), FL_E_NOT_FOUND);
    assert_int_equal(err.code, FL_E_NOT_FOUND);
    assert_string_equal(err.msg, "no x");
    assert_int_equal(fl_error_set(NULL, FL_E_CONFLICT, "nobody listens"), FL_E_CONFLICT);
}

static void wrap_keeps_the_text_below(void **state)
{
    struct fl_error err = {0};

    (void)state;
    (void)fl_error_set(&err, FL_E_CONFLICT, "revision 3, not 2");
    assert_int_equal(fl_error_wrap(&err, "update %s", "a"), FL_E_CONFLICT);
    assert_int_equal(fl_error_wrap(&err, "apply"), FL_E_CONFLICT);
    assert_string_equal(err.msg, "apply: update a: revision 3, not 2");
    assert_true(fl_error_wrap(NULL, "x") < 0);
}

static void never_returns_success(void **state)
{
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(fl_error_wrap(&err, "of what nobody said"), FL_E_INTERNAL);
    assert_int_equal(err.code, FL_E_INTERNAL);
    assert_int_equal(fl_error_set(&err, FL_OK, "done"), FL_E_INTERNAL);
    assert_int_equal(fl_error_set(NULL, 1, "done"), FL_E_INTERNAL);
    assert_int_equal(err.code, FL_E_INTERNAL);
}

static void assert_cut(const struct fl_error *err)
{
    size_t len = strlen(err->msg);

    assert_true(len < FL_ERROR_TEXT_MAX && len > FL_ERROR_TEXT_MAX - 10);
    assert_string_equal(err->msg + len - 3, "...");
    assert_true(fl_utf8_valid(err->msg, len));
}

/* At each offset, so that the cut meets each byte of a character. */
static void cuts_at_a_character(void **state)
{
    char text[2000];
    struct fl_error err;

    (void)state;
    for (size_t shift = 0; shift < 8; shift++) {
        memset(text, 'a', shift);
        for (size_t i = shift; i + 4 < sizeof(text); i += 4)
            memcpy(text + i, "😀", 5);
        (void)fl_error_set(&err, FL_E_INVALID, "%s", text);
        assert_cut(&err);
        assert_int_equal(fl_error_wrap(&err, "again"), FL_E_INVALID);
        assert_cut(&err);
        (void)fl_error_set(&err, FL_E_INVALID, "short");
        (void)fl_error_wrap(&err, "%s", text);
        assert_cut(&err);
        (void)fl_error_errno(&err, ENOENT, "%.*s",
                             (int)fl_utf8_cut(text, sizeof(text), FL_ERROR_TEXT_MAX - 10 + shift),
                             text);
        assert_true(fl_utf8_valid(err.msg, strlen(err.msg)));
    }
}

static void fits_exactly(void **state)
{
    char text[FL_ERROR_TEXT_MAX];
    struct fl_error err;

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    (void)fl_error_set(&err, FL_E_INVALID, "%s", text);
    assert_string_equal(err.msg, text);
    (void)fl_error_errno(&err, EIO, "%s", text);
    assert_cut(&err);
}

static void translates_errno(void **state)
{
    static const struct {
        int errnum, code;
    } cases[] = {
        {ENOENT, FL_E_NOT_FOUND},         {EEXIST, FL_E_ALREADY_EXISTS}, {EACCES, FL_E_FORBIDDEN},
        {ENOSPC, FL_E_UNAVAILABLE},       {ETIMEDOUT, FL_E_TIMEOUT},     {EIO, FL_E_INTERNAL},
        {ECONNREFUSED, FL_E_UNAVAILABLE},
    };
    struct fl_error err;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        assert_int_equal(fl_error_errno(&err, cases[i].errnum, "open x"), cases[i].code);
        assert_int_equal(fl_error_errno(NULL, cases[i].errnum, "open x"), cases[i].code);
    }
    (void)fl_error_errno(&err, ENOENT, "open x");
    assert_string_equal(err.msg, "open x: No such file or directory");
}

static void codes_map_to_http_and_back(void **state)
{
    (void)state;
    assert_string_equal(fl_error_reason(FL_E_TOO_LARGE), "RequestEntityTooLarge");
    assert_string_equal(fl_error_reason(0), "Unknown");
    assert_int_equal(fl_error_http_status(FL_E_EXPIRED), 410);
    assert_int_equal(fl_error_http_status(-1), 500);
    assert_true(fl_error_is_retryable(FL_E_CONFLICT));
    assert_false(fl_error_is_retryable(FL_E_INVALID));
    assert_int_equal(fl_error_from_status("AlreadyExists", 409), FL_E_ALREADY_EXISTS);
    assert_int_equal(fl_error_from_status(NULL, 409), FL_E_CONFLICT);
    assert_int_equal(fl_error_from_status("SomethingNew", 404), FL_E_NOT_FOUND);
    assert_int_equal(fl_error_from_status("", 418), FL_E_INTERNAL);
    assert_int_equal(fl_error_from_status(NULL, 200), FL_E_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_returns_the_code),
        cmocka_unit_test(wrap_keeps_the_text_below),
        cmocka_unit_test(never_returns_success),
        cmocka_unit_test(cuts_at_a_character),
        cmocka_unit_test(fits_exactly),
        cmocka_unit_test(translates_errno),
        cmocka_unit_test(codes_map_to_http_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
