/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "api/table.h"
#include "lib/str.h"

#define NOW INT64_C(1767323045000000) /* 2026-01-02T03:04:05Z */

static void test_durations(void **state)
{
    static const struct {
        int64_t seconds;
        const char *text;
    } samples[] = {
        {-2, "<invalid>"},     {-1, "0s"},        {0, "0s"},
        {119, "119s"},         {120, "2m"},       {130, "2m10s"},
        {599, "9m59s"},        {600, "10m"},      {10799, "179m"},
        {10800, "3h"},         {11100, "3h5m"},   {28799, "7h59m"},
        {28800, "8h"},         {172799, "47h"},   {172800, "2d"},
        {176400, "2d1h"},      {691199, "7d23h"}, {691200, "8d"},
        {63071999, "729d"},    {63072000, "2y"},  {63158400, "2y1d"},
        {252287999, "7y364d"}, {252288000, "8y"}, {999999999, "31y"},
    };
    char text[FL_DURATION_TEXT_SIZE];

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(samples); i++) {
        fl_duration_human(samples[i].seconds * 1000000, text);
        assert_string_equal(text, samples[i].text);
    }
    fl_duration_human(-1500000, text);
    assert_string_equal(text, "0s");
}

static json_t *parse(const char *text)
{
    struct fl_error err = {0};
    json_t *value = NULL;

    if (fl_json_parse(text, strlen(text), NULL, NULL, NULL, &value, &err) < 0)
        fail_msg("%s: %s", text, err.msg);
    return value;
}

static void assert_json(const json_t *value, const char *expected)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON json = parse(expected);

    assert_string_equal(fl_json_to_string(arena, value), fl_json_to_string(arena, json));
}

static const json_t *cells(const json_t *table, size_t row)
{
    return json_object_get(json_array_get(json_object_get(table, "rows"), row), "cells");
}

static json_t *make(const struct fl_table_columns *columns, const char *text,
                    enum fl_table_include include)
{
    const struct fl_table_options options = {.include = include, .now_us = NOW};
    FL_JSON object = parse(text);
    const json_t *objects[] = {object};

    return fl_table_create(columns, objects, 1, &options);
}

static const char custom_columns[] =
    "[{\"name\":\"S\",\"type\":\"string\",\"jsonPath\":\".s\",\"description\":\"a text\"},"
    "{\"name\":\"I\",\"type\":\"integer\",\"jsonPath\":\".i\",\"priority\":1,"
    "\"format\":\"int32\"},"
    "{\"name\":\"N\",\"type\":\"number\",\"jsonPath\":\".n\"},"
    "{\"name\":\"B\",\"type\":\"boolean\",\"jsonPath\":\".b\"},"
    "{\"name\":\"D\",\"type\":\"date\",\"jsonPath\":\".d\"},"
    "{\"name\":\"C\",\"type\":\"string\",\"jsonPath\":\".c[?(@.type==\\\"Ready\\\")].status\"}]";

static void test_custom_cells(void **state)
{
    static const struct {
        const char *object, *cells;
    } samples[] = {
        {"{\"metadata\":{\"name\":\"x\"},\"s\":\"t\",\"i\":3,\"n\":1.5,\"b\":true,"
         "\"d\":\"2026-01-02T03:04:00Z\",\"c\":[{\"type\":\"A\",\"status\":\"no\"},"
         "{\"type\":\"Ready\",\"status\":\"True\"}]}",
         "[\"x\",\"t\",3,1.5,true,\"5s\",\"True\"]"},
        {"{\"metadata\":{\"name\":\"x\"}}", "[\"x\",null,null,null,null,null,null]"},
        {"{\"metadata\":{\"name\":\"x\"},\"s\":{\"a\":1},\"i\":2.9,\"n\":2,\"b\":\"true\","
         "\"d\":\"soon\",\"c\":[]}",
         "[\"x\",\"{\\\"a\\\":1}\",2,2,null,\"<invalid>\",null]"},
        {"{\"metadata\":{\"name\":\"x\"},\"s\":7,\"i\":\"3\",\"n\":\"1\",\"d\":5,\"c\":{}}",
         "[\"x\",\"7\",null,null,null,null,null]"},
        {"{\"metadata\":{\"name\":\"x\"},\"s\":true,\"c\":[{}],\"d\":\"\"}",
         "[\"x\",\"true\",null,null,null,\"<unknown>\",null]"},
    };
    FL_CLEANUP(fl_table_columns_destroyp) struct fl_table_columns *columns = NULL;
    FL_JSON printer_columns = parse(custom_columns);

    (void)state;
    assert_int_equal(fl_table_columns_create(printer_columns, &columns, NULL), 0);
    for (size_t i = 0; i < FL_COUNT_OF(samples); i++) {
        FL_JSON table = make(columns, samples[i].object, FL_TABLE_NONE);

        assert_json(cells(table, 0), samples[i].cells);
    }
}

static void test_definitions(void **state)
{
    FL_CLEANUP(fl_table_columns_destroyp) struct fl_table_columns *columns = NULL;
    FL_JSON printer_columns = parse(custom_columns);
    FL_JSON table = NULL;
    const json_t *definitions;

    (void)state;
    assert_int_equal(fl_table_columns_create(printer_columns, &columns, NULL), 0);
    table = make(columns, "{\"metadata\":{\"name\":\"x\"}}", FL_TABLE_NONE);
    definitions = json_object_get(table, "columnDefinitions");
    assert_string_equal(fl_json_str(json_array_get(definitions, 0), "format"), "name");
    assert_json(json_array_get(definitions, 1), "{\"name\":\"S\",\"type\":\"string\",\"format\":"
                                                "\"\",\"description\":\"a text\",\"priority\":0}");
    assert_json(json_array_get(definitions, 2),
                "{\"name\":\"I\",\"type\":\"integer\",\"format\":\"int32\",\"description\":"
                "\"Custom resource definition column (in JSONPath format): .i\",\"priority\":1}");
}

static void test_bad_column(void **state)
{
    FL_JSON printer_columns = parse("[{\"name\":\"S\",\"type\":\"string\",\"jsonPath\":\".s[\"}]");
    struct fl_table_columns *columns = NULL;
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(fl_table_columns_create(printer_columns, &columns, &err), FL_E_BAD_REQUEST);
    assert_string_equal(err.msg, "unrecognized column definition \".s[\": unterminated array");
    assert_null(columns);
}

static void test_default_columns_and_objects(void **state)
{
    static const char object[] =
        "{\"apiVersion\":\"g/v1\",\"kind\":\"K\",\"metadata\":{\"name\":\"x\","
        "\"creationTimestamp\":\"2026-01-01T03:04:05Z\"},\"spec\":{}}";
    FL_CLEANUP(fl_table_columns_destroyp) struct fl_table_columns *columns = NULL;
    FL_JSON table = NULL;
    FL_JSON whole = NULL;
    FL_JSON none = NULL;

    (void)state;
    assert_int_equal(fl_table_columns_create(NULL, &columns, NULL), 0);
    table = make(columns, object, FL_TABLE_METADATA);
    assert_string_equal(fl_json_str(table, "kind"), "Table");
    assert_string_equal(fl_json_str(table, "apiVersion"), "meta.k8s.io/v1");
    assert_json(json_array_get(json_object_get(table, "rows"), 0),
                "{\"cells\":[\"x\",\"24h\"],\"object\":{\"kind\":\"PartialObjectMetadata\","
                "\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{\"name\":\"x\","
                "\"creationTimestamp\":\"2026-01-01T03:04:05Z\"}}}");
    whole = make(columns, object, FL_TABLE_OBJECT);
    assert_json(json_object_get(json_array_get(json_object_get(whole, "rows"), 0), "object"),
                object);
    none = make(columns, object, FL_TABLE_NONE);
    assert_null(json_object_get(json_array_get(json_object_get(none, "rows"), 0), "object"));
}

static void test_list_metadata(void **state)
{
    const struct fl_table_options first = {
        .resource_version = "5", .continue_token = "abc", .remaining = 2};
    const struct fl_table_options later = {.no_headers = true, .v1beta1 = true};
    const struct fl_table_columns *columns = fl_table_columns_builtin("", "Namespace");
    FL_JSON table = fl_table_create(columns, NULL, 0, &first);
    FL_JSON frame = fl_table_create(columns, NULL, 0, &later);

    (void)state;
    assert_json(json_object_get(table, "metadata"),
                "{\"resourceVersion\":\"5\",\"continue\":\"abc\",\"remainingItemCount\":2}");
    assert_json(json_object_get(table, "rows"), "[]");
    assert_json(json_object_get(frame, "metadata"), "{}");
    assert_true(json_is_null(json_object_get(frame, "columnDefinitions")));
    assert_string_equal(fl_json_str(frame, "apiVersion"), "meta.k8s.io/v1beta1");
}

static void test_builtin_cells(void **state)
{
    static const struct {
        const char *group, *kind, *object, *cells;
    } samples[] = {
        {"", "Namespace",
         "{\"metadata\":{\"name\":\"x\",\"creationTimestamp\":\"2026-01-02T03:03:"
         "05Z\"},\"status\":{\"phase\":\"Active\"}}",
         "[\"x\",\"Active\",\"60s\"]"},
        {"", "Secret", "{\"metadata\":{\"name\":\"x\"},\"type\":\"Opaque\",\"data\":{\"a\":\"\"}}",
         "[\"x\",\"Opaque\",1,\"<unknown>\"]"},
        {"", "ConfigMap",
         "{\"metadata\":{\"name\":\"x\"},\"data\":{\"a\":\"\"},\"binaryData\":"
         "{\"b\":\"\"}}",
         "[\"x\",2,\"<unknown>\"]"},
        {"coordination.k8s.io", "Lease",
         "{\"metadata\":{\"name\":\"x\"},\"spec\":"
         "{\"holderIdentity\":\"me\"}}",
         "[\"x\",\"me\",\"<unknown>\"]"},
        {"apiextensions.k8s.io", "CustomResourceDefinition",
         "{\"metadata\":{\"name\":\"x\",\"creationTimestamp\":\"2026-01-02T03:03:05Z\"}}",
         "[\"x\",\"2026-01-02T03:03:05Z\"]"},
        {"", "ServiceAccount", "{\"metadata\":{\"name\":\"x\"}}", "[\"x\",0,\"<unknown>\"]"},
        {"", "Service",
         "{\"metadata\":{\"name\":\"x\"},\"spec\":{\"type\":\"NodePort\","
         "\"clusterIP\":\"10.0.0.1\",\"ports\":[{\"port\":80,\"nodePort\":30000,"
         "\"protocol\":\"TCP\"},{\"port\":53,\"protocol\":\"UDP\"}],"
         "\"selector\":{\"a\":\"b\"}}}",
         "[\"x\",\"NodePort\",\"10.0.0.1\",\"<none>\",\"80:30000/TCP,53/UDP\",\"<unknown>\","
         "\"a=b\"]"},
        {"", "Service", "{\"metadata\":{\"name\":\"x\"},\"spec\":{\"type\":\"LoadBalancer\"}}",
         "[\"x\",\"LoadBalancer\",\"<none>\",\"<pending>\",\"<none>\",\"<unknown>\",\"<none>\"]"},
        {"", "Event",
         "{\"metadata\":{\"name\":\"x.1\"},\"type\":\"Normal\",\"reason\":\"Made\",\"message\":"
         "\" all well \\n\",\"involvedObject\":{\"kind\":\"FLProject\",\"name\":\"p\"},"
         "\"firstTimestamp\":\"2026-01-02T03:00:05Z\",\"lastTimestamp\":\"2026-01-02T03:04:00Z\","
         "\"count\":3,\"source\":{\"component\":\"c\",\"host\":\"h\"}}",
         "[\"5s\",\"Normal\",\"Made\",\"flproject/p\",\"\",\"c, h\",\"all well\",\"4m\",3,"
         "\"x.1\"]"},
        {"events.k8s.io", "Event",
         "{\"metadata\":{\"name\":\"x.1\"},\"eventTime\":\"2026-01-02T03:00:05.000000Z\","
         "\"series\":{\"count\":7,\"lastObservedTime\":\"2026-01-02T03:04:04.000000Z\"},"
         "\"reportingComponent\":\"r\",\"lastTimestamp\":null,\"firstTimestamp\":null}",
         "[\"1s\",\"\",\"\",\"\",\"\",\"r\",\"\",\"4m\",7,\"x.1\"]"},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(samples); i++) {
        FL_JSON table = make(fl_table_columns_builtin(samples[i].group, samples[i].kind),
                             samples[i].object, FL_TABLE_NONE);

        assert_json(cells(table, 0), samples[i].cells);
    }
}

static void assert_printed(const char *table_text, const struct fl_table_print_options *options,
                           const char *expected)
{
    FL_JSON table = parse(table_text);
    struct fl_buf out;

    fl_buf_init(&out, 0);
    fl_table_print(table, options, &out);
    assert_string_equal(fl_buf_text(&out), expected);
    fl_buf_finish(&out);
}

static void test_print(void **state)
{
    static const char table[] =
        "{\"columnDefinitions\":[{\"name\":\"Name\",\"format\":\"name\",\"priority\":0},"
        "{\"name\":\"N\",\"priority\":0},{\"name\":\"More\",\"priority\":1},"
        "{\"name\":\"Last Seen\",\"priority\":0}],\"rows\":["
        "{\"cells\":[\"a\",12,\"wide\",\"5s\"],\"object\":{\"metadata\":{\"namespace\":\"ns\","
        "\"labels\":{\"k\":\"v\",\"l\":\"w\"}}}},"
        "{\"cells\":[\"l\xC3\xA4nger\",null,\"w\",\"first\\nsecond\"],\"object\":{\"metadata\":"
        "{\"namespace\":\"default\"}}}]}";
    static const char frame[] = "{\"columnDefinitions\":null,\"rows\":[{\"cells\":[\"a\",1.5]}]}";
    FL_JSON columns = parse("[{\"name\":\"Name\"},{\"name\":\"N\"}]");

    (void)state;
    assert_printed(table, &(struct fl_table_print_options){0},
                   "NAME     N     LAST SEEN\n"
                   "a        12    5s\n"
                   "l\xC3\xA4nger         first...\n");
    assert_printed(table, &(struct fl_table_print_options){.wide = true, .no_headers = true},
                   "a        12    wide   5s\n"
                   "l\xC3\xA4nger         w      first...\n");
    assert_printed(table,
                   &(struct fl_table_print_options){
                       .with_namespace = true, .show_labels = true, .kind = "flp"},
                   "NAMESPACE   NAME         N     LAST SEEN   LABELS\n"
                   "ns          flp/a        12    5s          k=v,l=w\n"
                   "default     flp/l\xC3\xA4nger         first...    <none>\n");
    assert_printed(
        frame,
        &(struct fl_table_print_options){.no_headers = true, .columns = columns, .event = "ADDED"},
        "ADDED   a     1.5\n");
    assert_printed("{\"rows\":[]}", &(struct fl_table_print_options){0}, "");
    assert_printed("{\"columnDefinitions\":[{\"name\":\"X\"}],\"rows\":[{\"cells\":"
                   "[\"\\u001b[31mred\"]}]}",
                   &(struct fl_table_print_options){0}, "X\n^[[31mred\n");
}

static void test_print_keeps_widths(void **state)
{
    FL_JSON columns = parse("[{\"name\":\"Name\"},{\"name\":\"N\"}]");
    size_t widths[FL_TABLE_WIDTHS_MAX] = {0};
    struct fl_table_print_options options = {
        .no_headers = true, .columns = columns, .widths = widths};

    (void)state;
    assert_printed("{\"rows\":[{\"cells\":[\"a-long-name\",1]}]}", &options, "a-long-name   1\n");
    assert_printed("{\"rows\":[{\"cells\":[\"short\",2]}]}", &options, "short         2\n");
}

static void test_include(void **state)
{
    enum fl_table_include include = FL_TABLE_NONE;

    (void)state;
    assert_true(fl_table_include_parse("", &include));
    assert_int_equal(include, FL_TABLE_METADATA);
    assert_true(fl_table_include_parse("Object", &include));
    assert_int_equal(include, FL_TABLE_OBJECT);
    assert_true(fl_table_include_parse("None", &include));
    assert_int_equal(include, FL_TABLE_NONE);
    assert_false(fl_table_include_parse("object", &include));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_custom_cells),
        cmocka_unit_test(test_definitions),
        cmocka_unit_test(test_bad_column),
        cmocka_unit_test(test_default_columns_and_objects),
        cmocka_unit_test(test_list_metadata),
        cmocka_unit_test(test_builtin_cells),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_print_keeps_widths),
        cmocka_unit_test(test_include),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
