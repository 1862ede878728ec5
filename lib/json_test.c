#include "lib/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *parsed(const char *text)
{
    struct fl_error err = {0};
    json_t *value = NULL;

    if (fl_json_parse(text, strlen(text), NULL, NULL, NULL, &value, &err) < 0)
        fail_msg("%s: %s", text, err.msg);
    return value;
}

static void assert_written(const json_t *value, const char *want)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    assert_string_equal(fl_json_to_string(arena, value), want);
}

static const struct {
    const char *text, *canonical;
} texts[] = {
    {"{ \"b\" : 1 , \"a\" : [ true , null , \"x\" ] }", "{\"a\":[true,null,\"x\"],\"b\":1}"},
    {"\"\\u00e9\\ud83d\\ude00\\/\\b\"", "\"é😀/\\u0008\""},
    {"{\"B\":1,\"a\":2,\"\":3,\"é\":4}", "{\"\":3,\"B\":1,\"a\":2,\"é\":4}"},
    {"9223372036854775807", "9223372036854775807"},
    {"-9223372036854775808", "-9223372036854775808"},
    {"-0", "0"},
    {"-0.0", "0"},
    {"1.0", "1"},
    {"1e3", "1000"},
    {"0.1", "0.1"},
    {"1.7976931348623157e308", "1.7976931348623157e+308"},
    {"0.30000000000000004", "0.30000000000000004"},
    {"9007199254740991.0", "9007199254740991"},
    {" 7 ", "7"},
    {"{\"a\":1,\"a\":2}", "{\"a\":2}"},
    /* an integer beyond 64 bits is a real, and the others stay integers */
    {"[1,12345678901234567890,9007199254740993]", "[1,1.2345678901234567e+19,9007199254740993]"},
    {"{\"99999999999999999999\":-99999999999999999999}", "{\"99999999999999999999\":-1e+20}"},
};

static void writes_canonically(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(texts); i++) {
        FL_JSON value = parsed(texts[i].text);
        FL_JSON again = parsed(texts[i].canonical);

        assert_written(value, texts[i].canonical);
        assert_written(again, texts[i].canonical);
    }
}

static void big_integers_leave_others_alone(void **state)
{
    FL_JSON value =
        parsed("{\"small\":3,\"big\":18446744073709551616,\"text\":\"99999999999999999999\"}");

    (void)state;
    assert_true(json_is_integer(json_object_get(value, "small")));
    assert_true(json_is_real(json_object_get(value, "big")));
    assert_string_equal(fl_json_str(value, "text"), "99999999999999999999");
}

static const struct {
    const char *text;
    size_t len; /* 0: strlen */
    const char *position;
} broken[] = {
    {"", 0, "line 1, column 1: the text ends in the middle of a value"},
    {"{", 0, "line 1, column 2: the text ends"},
    {"{\"a\":1,}", 0, "line 1, column 8"},
    {"[1,\n 2,\n x]", 0, "line 3, column 2"},
    {"{\"a\" 1}", 0, "line 1, column 6: a colon is expected"},
    {"[1 2]", 0, "line 1, column 4: a comma or a closing bracket"},
    {"{\"a\":1 \"b\":2}", 0, "line 1, column 8: a comma or a closing brace"},
    {"-", 0, "line 1"},
    {"1e+", 0, "line 1"},
    {"\"\\x\"", 0, "line 1, column 2: an escape that JSON does not know"},
    {"\"\\ud83d\\u0041\"", 0, "line 1, column 2: half"},
    {"\"\\u12g4\"", 0, "line 1, column 2: \\u without"},
    {"1 2", 0, "line 1, column 3: more text behind the value"},
    {"nul", 0, "line 1, column 1: a value is expected"},
    {"01", 0, "line 1, column 2: more text"},
    {"1.", 0, "line 1"},
    {"NaN", 0, "line 1"},
    {"1e999", 0, "line 1, column 1: a number beyond"},
    {"[99999999999999999999,", 0, "line 1"},
    {"'a'", 0, "line 1"},
    {"\"a\nb\"", 0, "line 1"},
    {"\"\xff\"", 0, "line 1"},
    {"\"\xC3\"", 0, "line 1"},
    {"\"\xED\xA0\x80\"", 0, "line 1"},
    {"\"\\ud800\"", 0, "line 1, column 2: half of a surrogate pair"},
    {"\"\\u0000\"", 0, "line 1, column 2: a NUL character"},
    {"\"a\0b\"", 5, "line 1"},
    {"{}\0", 3, "line 1"},
    {"\xEF\xBB\xBF{}", 0, "line 1"},
    {"\"\\", 0, "line 1"},
    {"]}]}", 0, "line 1"},
};

static void refuses_with_position(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(broken); i++) {
        size_t len = broken[i].len ? broken[i].len : strlen(broken[i].text);
        struct fl_error err = {0};
        json_t *value = NULL;

        assert_int_equal(fl_json_parse(broken[i].text, len, NULL, NULL, NULL, &value, &err),
                         FL_E_BAD_REQUEST);
        assert_null(value);
        if (!strstr(err.msg, broken[i].position))
            fail_msg("%s: %s", broken[i].text, err.msg);
    }
}

static void bounds_size_and_depth(void **state)
{
    const struct fl_json_limits small = {.max_bytes = 3, .max_depth = 2};
    char deep[100001];
    struct fl_error err;
    json_t *value = NULL;

    (void)state;
    assert_int_equal(fl_json_parse("1234", 4, &small, NULL, NULL, &value, &err), FL_E_TOO_LARGE);
    assert_int_equal(fl_json_parse("[[[", 3, &small, NULL, NULL, &value, &err), FL_E_BAD_REQUEST);
    assert_string_equal(err.msg, "line 1, column 3: nesting deeper than 2 levels");
    memset(deep, '[', sizeof(deep));
    assert_int_equal(fl_json_parse(deep, sizeof(deep), NULL, NULL, NULL, &value, &err),
                     FL_E_BAD_REQUEST);
    assert_non_null(strstr(err.msg, "column 129: nesting deeper than 128 levels"));
    /* brackets in text do not nest */
    assert_int_equal(fl_json_parse("[[\"[[[[\\\"[[\"]]", 14,
                                   &(struct fl_json_limits){.max_depth = 2}, NULL, NULL, &value,
                                   &err),
                     0);
    json_decref(value);
}

static void note(void *user, const char *path)
{
    fl_buf_puts(user, path);
    fl_buf_putc(user, ' ');
}

static const struct {
    const char *text, *paths;
} duplicates[] = {
    {"{\"a\":1,\"b\":{\"a\":1}}", ""},
    {"{\"a\":1,\"a\":2}", "a "},
    {"{\"spec\":{\"rounds\":1,\"rounds\":2,\"rounds\":3}}", "spec.rounds spec.rounds "},
    {"{\"spec\":{\"tiers\":[{\"a\":1},{\"name\":\"x\",\"name\":\"y\"}]}}", "spec.tiers[1].name "},
    {"[[{}],[1,{\"a\":1,\"a\":[]}]]", "[1][1].a "},
    {"{\"a\":{\"x\":1},\"a\":{\"x\":1,\"x\":2}}", "a a.x "},
    {"{\"a\":\"b\",\"b\":\"a\"}", ""},
    {"{\"a\" \n : 1, \"a\"\t: 2}", "a "},
    {"{\"a\":1,\"\\u0061\":2}", "a "},
    {"{\"q\\\"\":1,\"q\\\"\":2}", "q\" "},
    {"[\"a\",\"a\"]", ""},
};

static void names_duplicates(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(duplicates); i++) {
        FL_JSON value = NULL;
        struct fl_buf paths;

        fl_buf_init(&paths, 0);
        assert_int_equal(fl_json_parse(duplicates[i].text, strlen(duplicates[i].text), NULL, note,
                                       &paths, &value, NULL),
                         0);
        assert_string_equal(fl_buf_text(&paths), duplicates[i].paths);
        fl_buf_finish(&paths);
    }
}

static void a_path_is_bounded(void **state)
{
    FL_JSON value = NULL;
    struct fl_buf text, paths;

    (void)state;
    fl_buf_init(&text, 0);
    fl_buf_init(&paths, 0);
    fl_buf_puts(&text, "{\"a\":{\"");
    for (int i = 0; i < 5000; i++)
        fl_buf_putc(&text, 'x');
    fl_buf_puts(&text, "\":{\"b\":1,\"b\":2}}}");
    assert_int_equal(fl_json_parse(text.data, text.len, NULL, note, &paths, &value, NULL), 0);
    assert_string_equal(fl_buf_text(&paths), "a. ");
    fl_buf_finish(&text);
    fl_buf_finish(&paths);
}

static void writes_many_keys_and_pretty(void **state)
{
    FL_JSON many = json_object();
    FL_JSON value = parsed("{\"b\":[1,{}],\"a\":{\"c\":[]},\"d\":[{\"e\":null}]}");
    struct fl_buf buf;
    size_t at = 0;

    (void)state;
    for (int i = 999; i >= 0; i--) {
        char key[16];

        (void)snprintf(key, sizeof(key), "k%03d", i);
        json_object_set_new(many, key, json_integer(i));
    }
    fl_buf_init(&buf, 0);
    fl_json_write(&buf, many);
    for (int i = 0; i < 1000; i++) {
        char member[32];
        int len = snprintf(member, sizeof(member), "%c\"k%03d\":%d", i ? ',' : '{', i, i);

        assert_memory_equal(buf.data + at, member, len);
        at += (size_t)len;
    }
    fl_buf_clear(&buf);
    fl_json_write_pretty(&buf, value);
    assert_string_equal(fl_buf_text(&buf),
                        "{\n  \"a\": {\n    \"c\": []\n  },\n  \"b\": [\n    1,\n    {}\n  ],\n"
                        "  \"d\": [\n    {\n      \"e\": null\n    }\n  ]\n}\n");
    fl_buf_finish(&buf);
}

static void looks_up_by_path(void **state)
{
    FL_JSON value = parsed("{\"a\":{\"b\":{\"s\":\"x\",\"n\":5,\"t\":true}},\"l\":[1],\"a.b\":1}");
    json_t *made;

    (void)state;
    assert_string_equal(fl_json_str(value, "a.b.s"), "x");
    assert_null(fl_json_str(value, "a.b.n"));
    assert_null(fl_json_str(value, "a.x.s"));
    assert_null(fl_json_str(value, "l.0"));
    assert_null(fl_json_path(NULL, "a"));
    assert_null(fl_json_path(value, ""));
    assert_int_equal(fl_json_int(value, "a.b.n", 9), 5);
    assert_int_equal(fl_json_int(value, "a.b.s", 9), 9);
    assert_true(fl_json_bool(value, "a.b.t", false));
    assert_true(fl_json_bool(value, "a.b.n", true));

    made = fl_json_ensure_object(value, "l"); /* not an object: replaced */
    fl_json_set_str(made, "k", "v");
    assert_string_equal(fl_json_str(value, "l.k"), "v");
    assert_ptr_equal(fl_json_ensure_object(value, "l"), made);
    fl_json_set_str(made, "k", NULL);
    assert_null(json_object_get(made, "k"));
}

static void a_value_ends_with_its_arena(void **state)
{
    struct fl_arena *arena = fl_arena_create();
    json_t *value = fl_json_in_arena(arena, json_object());

    (void)state;
    json_incref(value);
    assert_int_equal(value->refcount, 2);
    fl_arena_destroy(arena);
    assert_int_equal(value->refcount, 1);
    json_decref(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_canonically),
        cmocka_unit_test(big_integers_leave_others_alone),
        cmocka_unit_test(refuses_with_position),
        cmocka_unit_test(bounds_size_and_depth),
        cmocka_unit_test(names_duplicates),
        cmocka_unit_test(a_path_is_bounded),
        cmocka_unit_test(writes_many_keys_and_pretty),
        cmocka_unit_test(looks_up_by_path),
        cmocka_unit_test(a_value_ends_with_its_arena),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
