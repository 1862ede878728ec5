#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void prefixes_and_suffixes(void **state)
{
    (void)state;
    assert_true(fl_str_has_prefix("abc", "ab"));
    assert_true(fl_str_has_prefix("abc", ""));
    assert_false(fl_str_has_prefix("ab", "abc"));
    assert_true(fl_str_has_suffix("abc", "bc"));
    assert_true(fl_str_has_suffix("", ""));
    assert_false(fl_str_has_suffix("bc", "abc"));
    assert_true(fl_streq(NULL, NULL));
    assert_false(fl_streq("a", NULL));
    assert_string_equal(fl_str_or(NULL, "x"), "x");
}

static void reads_integers(void **state)
{
    static const char *const bad[] = {"",
                                      "-",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1.0",
                                      "0x1",
                                      "1e3",
                                      "--1",
                                      "a",
                                      "9223372036854775808",
                                      "-9223372036854775809",
                                      "- 1"};
    int64_t value = 42;
    uint64_t natural = 42;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(bad); i++)
        assert_false(fl_str_to_int64(bad[i], INT64_MIN, INT64_MAX, &value));
    assert_int_equal(value, 42);
    assert_true(fl_str_to_int64("-9223372036854775808", INT64_MIN, INT64_MAX, &value));
    assert_true(value == INT64_MIN);
    assert_true(fl_str_to_int64("007", 0, 7, &value));
    assert_int_equal(value, 7);
    assert_false(fl_str_to_int64("8", 0, 7, &value));
    assert_false(fl_str_to_int64("-1", 0, 7, &value));

    assert_true(fl_str_to_uint64("18446744073709551615", UINT64_MAX, &natural));
    assert_true(natural == UINT64_MAX);
    assert_false(fl_str_to_uint64("18446744073709551616", UINT64_MAX, &natural));
    assert_false(fl_str_to_uint64("-1", UINT64_MAX, &natural));
    assert_false(fl_str_to_uint64("", UINT64_MAX, &natural));
    assert_false(fl_str_to_uint64("11", 10, &natural));
}

static const struct {
    const char *text;
    size_t width;
} characters[] = {
    {"a", 1},
    {"\xC3\xA9", 2},
    {"\xE6\x97\xA5", 3},
    {"\xF0\x9F\x98\x80", 4},
    {"\xF4\x8F\xBF\xBF", 4}, /* U+10FFFF */
    {"\xEF\xBF\xBF", 3},
    {"\x80", 0},
    {"\xC0\x80", 0}, /* overlong NUL */
    {"\xC1\xBF", 0},
    {"\xE0\x9F\xBF", 0},     /* overlong */
    {"\xED\xA0\x80", 0},     /* surrogate */
    {"\xF0\x8F\xBF\xBF", 0}, /* overlong */
    {"\xF4\x90\x80\x80", 0}, /* above U+10FFFF */
    {"\xF5\x80\x80\x80", 0},
    {"\xFF", 0},
    {"\xC3(", 0},
    {"\xE6\x97(", 0},
};

static void measures_characters(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(characters); i++) {
        const char *text = characters[i].text;
        size_t len = strlen(text);

        assert_int_equal(fl_utf8_width(text, len), characters[i].width);
        assert_int_equal(fl_utf8_valid(text, len), characters[i].width > 0);
        for (size_t cut = 0; cut < characters[i].width; cut++)
            assert_int_equal(fl_utf8_width(text, cut), 0);
    }
    assert_int_equal(fl_utf8_width("\0", 1), 1);
    assert_true(fl_utf8_valid("", 0));
    assert_int_equal(fl_utf8_count("aé日😀\xff", 11), 5);
    assert_int_equal(fl_utf8_cut("aé", 3, 3), 3);
    assert_int_equal(fl_utf8_cut("aé", 3, 2), 1);
    assert_int_equal(fl_utf8_cut("é", 2, 1), 0);
}

static void splits(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *rest = "a,,b,";

    (void)state;
    assert_string_equal(fl_str_next(arena, &rest, ','), "a");
    assert_string_equal(fl_str_next(arena, &rest, ','), "");
    assert_string_equal(fl_str_next(arena, &rest, ','), "b");
    assert_string_equal(fl_str_next(arena, &rest, ','), "");
    assert_null(fl_str_next(arena, &rest, ','));
    assert_null(fl_str_next(arena, &rest, ','));
    rest = "";
    assert_string_equal(fl_str_next(arena, &rest, ','), "");
    assert_null(fl_str_next(arena, &rest, ','));
}

static void writes_hex(void **state)
{
    char out[9];

    (void)state;
    fl_hex_encode("\x00\x0f\xff\xa5", 4, out);
    assert_string_equal(out, "000fffa5");
}

static void base64_round_trip(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    static const char *const texts[] = {"",         "Zg==",     "Zm8=",    "Zm9v",
                                        "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    static const char *const bad[] = {
        "Zg", "Zg=", "Z", "Zm9v=", "Zg==Zg==", "Zm 9v", "Zm9_", "====", "Zm9v!"};
    char *data;
    size_t len;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(texts); i++) {
        assert_true(fl_base64_decode(arena, texts[i], strlen(texts[i]), &data, &len));
        assert_int_equal(len, i);
        assert_int_equal(data[len], 0);
        assert_memory_equal(data, "foobar", i);
        assert_string_equal(fl_base64_encode(arena, data, len), texts[i]);
    }
    for (size_t i = 0; i < FL_COUNT_OF(bad); i++)
        assert_false(fl_base64_decode(arena, bad[i], strlen(bad[i]), &data, &len));
    assert_true(fl_base64_decode(arena, "Zm9v\r\nYmFy\n", 11, &data, &len));
    assert_string_equal(data, "foobar");
}

static const char *url_decoded(struct fl_arena *arena, const char *text, bool plus)
{
    return fl_url_decode(arena, text, strlen(text), plus);
}

static void url_coding(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    static const char *const bad[] = {"%", "%4", "%zz", "a%", "%4g", "%00", "a%0"};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(bad); i++)
        assert_null(url_decoded(arena, bad[i], false));
    assert_null(fl_url_decode(arena, "a\0b", 3, false));
    assert_string_equal(url_decoded(arena, "", false), "");
    assert_string_equal(url_decoded(arena, "a%20b%2Fc%2f", false), "a b/c/");
    assert_string_equal(url_decoded(arena, "a+b%2B", true), "a b+");
    assert_string_equal(url_decoded(arena, "a+b", false), "a+b");
    assert_string_equal(fl_url_encode(arena, "a b/é~"), "a%20b%2F%C3%A9~");
    assert_string_equal(url_decoded(arena, fl_url_encode(arena, "a b+c=d&é%"), true), "a b+c=d&é%");
}

static void prints_doubles(void **state)
{
    static const struct {
        double value;
        const char *text;
    } samples[] = {
        {0, "0"},
        {1.5, "1.5"},
        {-2.25, "-2.25"},
        {100000, "100000"},
        {1e6, "1e+06"},
        {1234567, "1.234567e+06"},
        {1e-4, "0.0001"},
        {1e-5, "1e-05"},
        {0.1, "0.1"},
        {1e300, "1e+300"},
        {1.0 / 0.0, "+Inf"},
        {-1.0 / 0.0, "-Inf"},
        {123456789.125, "1.23456789125e+08"},
    };
    char text[FL_DOUBLE_TEXT_SIZE];

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(samples); i++) {
        fl_str_from_double(samples[i].value, text);
        assert_string_equal(text, samples[i].text);
    }
}

static void test_last_line(void **state)
{
    static const char *const cases[][2] = {{"", ""},
                                           {"\n\r\n", ""},
                                           {"one", "one"},
                                           {"one\ntwo\r\n\n", "two"},
                                           {"one\nthe é", "the "}}; /* no character is cut */
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++)
        assert_string_equal(fl_str_last_line(arena, cases[i][0], 5), cases[i][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_last_line),
        cmocka_unit_test(prints_doubles),
        cmocka_unit_test(prefixes_and_suffixes),
        cmocka_unit_test(reads_integers),
        cmocka_unit_test(measures_characters),
        cmocka_unit_test(splits),
        cmocka_unit_test(writes_hex),
        cmocka_unit_test(base64_round_trip),
        cmocka_unit_test(url_coding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
