#include "workloads/serve/decimal.h"

#include "lib/env.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

static void reads_as_strtod(const char *text)
{
    const char *end = text + strlen(text);
    double value = -7, expected = strtod(text, NULL);
    const char *after = fl_decimal_read(text, end, &value);

    if (after != end || memcmp(&value, &expected, sizeof(value)) != 0)
        fail_msg("%s: %.17g, not %.17g", text, value, expected);
}

static void numbers_are_read_as_strtod_does(void **state)
{
    static const char *const texts[] = {
        "0",
        "-0",
        "0.0",
        "-0.0",
        "1",
        "-1",
        "12345678",
        "123456789012345678",
        "1234567890123456789",
        "12345678901234567890",
        "0.1",
        "0.10000000149011612",
        "0.30000001192092896",
        "0.000012345678901234567",
        "1e5",
        "1E+5",
        "1e-5",
        "1.5e308",
        "1e309",
        "-1e309",
        "1e-400",
        "4.9e-324",
        "2.2250738585072014e-308",
        "9007199254740993",
        "9007199254740992.5",
        "0.9999999999999999999",
        "0.99999999999999999999999",
        "1.7976931348623158e308",
        "8.5070591730234616e37",
        "0.5000000000000000001",
        "0.0000000000000000001",
        "1e22",
        "1e23",
        "123456789012345e22",
        "0e99999999999",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        reads_as_strtod(texts[i]);
}

static void print(double value, unsigned form, char text[FL_DECIMAL_LONGEST])
{
    /* A fixed form of a large number would be longer than numbers may be. */
    if (form == 0 || fabs(value) > 1e300)
        (void)snprintf(text, FL_DECIMAL_LONGEST, "%.17g", value);
    else if (form == 1)
        (void)snprintf(text, FL_DECIMAL_LONGEST, "%.3f", value);
    else if (form == 2)
        (void)snprintf(text, FL_DECIMAL_LONGEST, "%.17f", value);
    else
        (void)snprintf(text, FL_DECIMAL_LONGEST, "%.19e", value);
}

static void numbers_by_chance_are_read_as_strtod_does(void **state)
{
    struct fl_fake_env fake;

    (void)state;
    fl_fake_env_init(&fake, 5, NULL);
    for (unsigned i = 0; i < 200000; i++) {
        char text[FL_DECIMAL_LONGEST];
        double value;

        if (i % 3 == 0)
            fake.env.random(fake.env.user, &value, sizeof(value));
        else
            value = (double)fl_random_below(&fake.env, UINT64_C(1) << 53) /
                    (double)(i % 3 == 1 ? UINT64_C(1) << 53 : UINT64_C(1) << 20);
        if (!isfinite(value))
            continue;
        print(value, i % 4, text);
        reads_as_strtod(text);
    }
}

static void what_is_no_number_is_refused(void **state)
{
    static const char *const texts[] = {"",    "-",   "+1",  "01",   "1.",  ".5",
                                        "1e",  "e5",  "1e+", "NaN",  "x",   "Infinity",
                                        "--1", "-01", " 1",  "0.e1", "-.1", "-e1"};
    char long_one[FL_DECIMAL_LONGEST + 2];
    double value;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_null(fl_decimal_read(texts[i], texts[i] + strlen(texts[i]), &value));
    memset(long_one, '1', sizeof(long_one) - 1);
    long_one[sizeof(long_one) - 1] = '\0';
    assert_null(fl_decimal_read(long_one, long_one + sizeof(long_one) - 1, &value));
}

static const char *digits(const char *at)
{
    while (*at >= '0' && *at <= '9')
        at++;
    return at;
}

/* Where the number ends by RFC 8259; NULL: it is none. */
static const char *end_of_number(const char *text)
{
    const char *at = text + (*text == '-'), *behind = digits(at);

    if (behind == at || (*at == '0' && behind > at + 1))
        return NULL;
    if (*behind == '.') {
        at = behind + 1;
        behind = digits(at);
        if (behind == at)
            return NULL;
    }
    if (*behind == 'e' || *behind == 'E') {
        at = behind + 1 + (behind[1] == '-' || behind[1] == '+');
        behind = digits(at);
        if (behind == at)
            return NULL;
    }
    return behind;
}

/* Several characters are looked at together: what they are, and what stands behind the number, must
 * not matter. */
static void numbers_within_text_are_read_as_strtod_does(void **state)
{
    static const char signs[] = "0123456789012345678900000..--eE+,]} /:x\x80\xff";
    struct fl_fake_env fake;

    (void)state;
    fl_fake_env_init(&fake, 6, NULL);
    for (unsigned i = 0; i < 500000; i++) {
        char text[40];
        const size_t len = 1 + fl_random_below(&fake.env, sizeof(text) - 2);
        const uint64_t kinds = 10 + fl_random_below(&fake.env, sizeof(signs) - 10);
        const char *wanted, *behind;
        double value = -7;

        for (size_t n = 0; n < len; n++)
            text[n] = signs[fl_random_below(&fake.env, kinds)];
        if (i % 2 && len > 4)
            text[1 + fl_random_below(&fake.env, 4)] = '.';
        if (i % 3)
            text[fl_random_below(&fake.env, len)] = ',';
        text[len] = '\0';
        wanted = end_of_number(text);
        behind = fl_decimal_read(text, text + len, &value);
        if (behind != wanted)
            fail_msg("%s: ends elsewhere", text);
        if (wanted) {
            double expected;

            text[wanted - text] = '\0'; /* strtod takes more than that: 0x1 */
            expected = strtod(text, NULL);
            if (memcmp(&value, &expected, sizeof(value)) != 0)
                fail_msg("%s: %.17g, not %.17g", text, value, expected);
        }
    }
}

static void only_the_number_is_taken(void **state)
{
    static const char *const texts[] = {"1,2", "0x10", "1.5]", "1 ", "12345678}", "1.25e2,"};
    static const size_t taken[] = {1, 1, 3, 1, 8, 6};
    double value;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_ptr_equal(fl_decimal_read(texts[i], texts[i] + strlen(texts[i]), &value),
                         texts[i] + taken[i]);
}

static void writes_back(float value)
{
    char text[FL_DECIMAL_TEXT_SIZE + 1];
    size_t len = fl_decimal_write_float(value, text);
    double again;

    assert_true(len <= FL_DECIMAL_TEXT_SIZE);
    text[len] = '\0';
    assert_non_null(strpbrk(text, ".e"));
    if (fl_decimal_read(text, text + len, &again) != text + len || (float)again != value ||
        strtof(text, NULL) != value)
        fail_msg("%.9g became %s", (double)value, text);
}

static void floats_are_written_so_that_they_read_back(void **state)
{
    static const float values[] = {
        0,          1,        -1,          0.1F,         1e-5F,  9.9e-6F,
        1e9F,       1e10F,    1.5e-38F,    3.4e38F,      1e-45F, 1.1754944e-38F,
        123456.78F, 16777216, 0.99999994F, 9.999999e-5F, 1e-20F, 9.9999998e9F};
    struct fl_fake_env fake;

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        writes_back(values[i]);
    fl_fake_env_init(&fake, 6, NULL);
    for (int i = 0; i < 300000; i++) {
        float value;

        fake.env.random(fake.env.user, &value, sizeof(value));
        if (isfinite(value))
            writes_back(value);
        writes_back((float)fl_random_below(&fake.env, 1 << 24) / (float)(1 << 24));
    }
}

static void texts_are_short(void **state)
{
    static const struct {
        float value;
        const char *text;
    } cases[] = {{0, "0.0"},
                 {-0.0F, "-0.0"},
                 {1, "1.0"},
                 {0.1F, "0.1"},
                 {-2.5F, "-2.5"},
                 {100, "100.0"},
                 {1e-5F, "0.00001"},
                 {1e-6F, "1.0e-6"},
                 {1.25e12F, "1.25e12"},
                 {0.3F, "0.3"},
                 {1e10F, "1.0e10"},
                 {16777216, "16777216.0"},
                 {0.33333334F, "0.33333334"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[FL_DECIMAL_TEXT_SIZE + 1];

        text[fl_decimal_write_float(cases[i].value, text)] = '\0';
        assert_string_equal(text, cases[i].text);
    }
}

static void other_types_too(void **state)
{
    char text[FL_DECIMAL_TEXT_SIZE + 1];

    (void)state;
    text[fl_decimal_write_int(INT64_MIN, text)] = '\0';
    assert_string_equal(text, "-9223372036854775808");
    text[fl_decimal_write_int(0, text)] = '\0';
    assert_string_equal(text, "0");
    text[fl_decimal_write_double(3, text)] = '\0';
    assert_string_equal(text, "3.0");
    text[fl_decimal_write_double(0.1, text)] = '\0';
    assert_string_equal(text, "0.1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_read_as_strtod_does),
        cmocka_unit_test(numbers_by_chance_are_read_as_strtod_does),
        cmocka_unit_test(what_is_no_number_is_refused),
        cmocka_unit_test(numbers_within_text_are_read_as_strtod_does),
        cmocka_unit_test(only_the_number_is_taken),
        cmocka_unit_test(floats_are_written_so_that_they_read_back),
        cmocka_unit_test(texts_are_short),
        cmocka_unit_test(other_types_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
