/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "api/status.h"
#include "lib/str.h"

#include <stdlib.h>
#include <string.h>

static struct fl_arena *arena;
static struct fl_field_errors *errors;

static int set_up(void **state)
{
    (void)state;
    arena = fl_arena_create();
    errors = fl_new(arena, struct fl_field_errors);
    fl_field_errors_init(errors, arena);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fl_arena_destroy(arena);
    return 0;
}

static json_t *read_json(const char *text)
{
    json_t *value = NULL;
    struct fl_error err;

    if (fl_json_parse(text, strlen(text), NULL, NULL, NULL, &value, &err) < 0)
        fail_msg("%s: %s", text, err.msg);
    return fl_json_in_arena(arena, value);
}

/* What Go's field.Invalid(path, value, "d").ErrorBody() gives. */
static void values_print_as_in_go(void **state)
{
    static const struct {
        const char *value, *message;
    } cases[] = {
        {"null", "Invalid value: \"null\": d"},
        {"true", "Invalid value: true: d"},
        {"0", "Invalid value: 0: d"},
        {"-12", "Invalid value: -12: d"},
        {"1.5", "Invalid value: 1.5: d"},
        {"0.1", "Invalid value: 0.1: d"},
        {"1e21", "Invalid value: 1e+21: d"},
        {"123456.5", "Invalid value: 123456.5: d"},
        {"123456789.125", "Invalid value: 1.23456789125e+08: d"},
        {"0.0001", "Invalid value: 0.0001: d"},
        {"0.00001", "Invalid value: 1e-05: d"},
        {"2.5e30", "Invalid value: 2.5e+30: d"},
        {"\"a\"", "Invalid value: \"a\": d"},
        {"\"q\\\"\\\\\\n\\t\\u0001\\u007f\\u00e9\\u200b\\u2028\\ud83d\\ude00\"",
         "Invalid value: \"q\\\"\\\\\\n\\t\\x01\\x7f\xc3\xa9\\u200b\\u2028\xf0\x9f\x98\x80\": d"},
        {"{}", "Invalid value: map[string]interface {}{}: d"},
        {"[]", "Invalid value: []interface {}{}: d"},
        {"{\"b\":[1,\"x\",null,true,2.5],\"a\":{\"c\":\"d\"}}",
         "Invalid value: map[string]interface {}{\"a\":map[string]interface {}{\"c\":\"d\"}, "
         "\"b\":[]interface {}{1, \"x\", interface {}(nil), true, 2.5}}: d"},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        errors->count = 0;
        fl_field_error_add(errors, FL_FIELD_INVALID, "spec.x", read_json(cases[i].value), "d");
        assert_string_equal(errors->items[0].message, cases[i].message);
    }
}

static void add_one_of_each(void)
{
    FL_JSON a = json_string("a");
    FL_JSON three = json_integer(3);

    fl_field_error_add(errors, FL_FIELD_REQUIRED, "spec.x", a, "%s", "");
    fl_field_error_add(errors, FL_FIELD_REQUIRED, "spec.x", NULL, "why");
    fl_field_error_add(errors, FL_FIELD_FORBIDDEN, "spec.x", NULL, "no");
    fl_field_error_add(errors, FL_FIELD_DUPLICATE, "spec.x", a, "%s", "");
    fl_field_error_add(errors, FL_FIELD_NOT_SUPPORTED, "spec.x", a, "\"A\", \"B\"");
    fl_field_error_add(errors, FL_FIELD_TOO_LONG, "spec.x", a, "may not be more than %d bytes", 5);
    fl_field_error_add(errors, FL_FIELD_TOO_MANY, "spec.x", three, "must have at most %d items", 2);
    fl_field_error_add(errors, FL_FIELD_NOT_FOUND, "spec.x", a, "%s", "");
    fl_field_error_add_text(errors, FL_FIELD_INVALID, "metadata.resourceVersion", "0x0",
                            "must be specified for an update");
    fl_field_error_add(errors, FL_FIELD_INVALID, "", a, "junction");
    fl_field_error_add(errors, FL_FIELD_CONFLICT, ".spec.x", NULL, "conflict with \"m\" using v1");
    fl_field_error_add(errors, FL_FIELD_REQUIRED, "spec.x", NULL, "%s", "");
}

static const char whole_text[] =
    "[spec.x: Required value, spec.x: Required value: why, spec.x: Forbidden: no, "
    "spec.x: Duplicate value: \"a\", "
    "spec.x: Unsupported value: \"a\": supported values: \"A\", \"B\", "
    "spec.x: Too long: may not be more than 5 bytes, "
    "spec.x: Too many: 3: must have at most 2 items, spec.x: Not found: \"a\", "
    "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update, "
    "<nil>: Invalid value: \"a\": junction, .spec.x: conflict with \"m\" using v1]";

static void types_have_their_words(void **state)
{
    (void)state;
    add_one_of_each();
    assert_int_equal(errors->count, 12);
    assert_string_equal(fl_field_errors_text(errors), whole_text);
    assert_string_equal(fl_field_error_reason(FL_FIELD_TYPE_INVALID), "FieldValueTypeInvalid");
    assert_string_equal(fl_field_error_reason(FL_FIELD_CONFLICT), "FieldManagerConflict");
}

static void errors_become_a_status(void **state)
{
    struct fl_status_details details = {
        .name = "x", .group = "fl.example.io", .kind = "FLProject", .causes = errors};
    struct fl_error err;

    (void)state;
    fl_field_error_add(errors, FL_FIELD_REQUIRED, "spec.x", NULL, "%s", "");
    assert_int_equal(fl_field_errors_to_error(errors, "FLProject", "fl.example.io", "x\"y", &err),
                     FL_E_INVALID);
    assert_string_equal(err.msg,
                        "FLProject.fl.example.io \"x\\\"y\" is invalid: spec.x: Required value");
    assert_string_equal(
        fl_json_to_string(arena, fl_json_in_arena(arena, fl_status_failure(&err, &details))),
        "{\"apiVersion\":\"v1\",\"code\":422,\"details\":{\"causes\":[{\"field\":\"spec.x\","
        "\"message\":\"Required value\",\"reason\":\"FieldValueRequired\"}],\"group\":"
        "\"fl.example.io\",\"kind\":\"FLProject\",\"name\":\"x\"},\"kind\":\"Status\",\"message\":"
        "\"FLProject.fl.example.io \\\"x\\\\\\\"y\\\" is invalid: spec.x: Required value\","
        "\"metadata\":{},\"reason\":\"Invalid\",\"status\":\"Failure\"}");
    (void)fl_field_errors_to_error(errors, "Namespace", "", NULL, &err);
    assert_string_equal(err.msg, "Namespace \"\" is invalid: spec.x: Required value");
}

static void other_errors_become_a_status(void **state)
{
    struct fl_status_details details = {.retry_after_seconds = 3};
    struct fl_status_details gone = {.name = "x", .kind = "flprojects", .uid = "u"};
    struct fl_error err;

    (void)state;
    (void)fl_error_set(&err, FL_E_TOO_MANY_REQUESTS, "busy");
    assert_string_equal(
        fl_json_to_string(arena, fl_json_in_arena(arena, fl_status_failure(&err, &details))),
        "{\"apiVersion\":\"v1\",\"code\":429,\"details\":{\"retryAfterSeconds\":3},\"kind\":"
        "\"Status\",\"message\":\"busy\",\"metadata\":{},\"reason\":\"TooManyRequests\","
        "\"status\":\"Failure\"}");
    assert_null(json_object_get(fl_json_in_arena(arena, fl_status_failure(&err, NULL)), "details"));
    assert_string_equal(
        fl_json_to_string(arena, fl_json_in_arena(arena, fl_status_success(&gone))),
        "{\"apiVersion\":\"v1\",\"details\":{\"kind\":\"flprojects\",\"name\":\"x\",\"uid\":"
        "\"u\"},\"kind\":\"Status\",\"metadata\":{},\"status\":\"Success\"}");
}

/* More than a list holds is counted, long values are cut, and a Status is not: it says it all. */
static void what_a_stranger_sends_is_bounded(void **state)
{
    struct fl_status_details details = {.causes = errors};
    char *long_text = fl_malloc(100001);
    json_t *value, *status;
    struct fl_error err;
    size_t len;

    (void)state;
    memset(long_text, 'x', 100000);
    long_text[100000] = '\0';
    value = fl_json_in_arena(arena, json_string(long_text));
    fl_field_error_add(errors, FL_FIELD_INVALID, "spec.x", value, "d");
    assert_true(strlen(errors->items[0].message) < 1200);
    assert_true(fl_str_has_suffix(errors->items[0].message, "...\": d"));
    value = fl_json_in_arena(arena, json_pack("{s:[s,s]}", "k", long_text, long_text));
    fl_field_error_add(errors, FL_FIELD_INVALID, "spec.x", value, "d");
    assert_true(strlen(errors->items[1].message) < 1200);
    for (size_t i = 0; i < 2 * FL_FIELD_ERRORS_MAX; i++)
        fl_field_error_add(errors, FL_FIELD_FORBIDDEN, fl_arena_printf(arena, "spec.f%zu", i), NULL,
                           "not this one");
    assert_int_equal(errors->count, FL_FIELD_ERRORS_MAX);
    assert_int_equal(errors->dropped, FL_FIELD_ERRORS_MAX + 2);
    (void)fl_field_errors_to_error(errors, "K", "g", "n", &err);
    status = fl_json_in_arena(arena, fl_status_failure(&err, &details));
    len = strlen(fl_json_str(status, "message"));
    assert_true(len > FL_ERROR_TEXT_MAX);
    assert_true(fl_str_has_suffix(fl_json_str(status, "message"), ", and 66 more]"));
    free(long_text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_print_as_in_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(types_have_their_words, set_up, tear_down),
        cmocka_unit_test_setup_teardown(errors_become_a_status, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_errors_become_a_status, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_stranger_sends_is_bounded, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
