#include "lib/env.h"

#include "lib/str.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *text;
    int64_t us;
} times[] = {
    {"1970-01-01T00:00:00Z", 0},
    {"1970-01-01T00:00:00.000001Z", 1},
    {"1970-01-01t00:00:01z", 1000000},
    {"1969-12-31T23:59:59.5Z", -500000},
    {"2026-01-02T03:04:05Z", INT64_C(1767323045) * 1000000},
    {"2026-01-02T03:04:05.1234567899Z", INT64_C(1767323045123456)},
    {"2026-01-02T05:04:05+02:00", INT64_C(1767323045) * 1000000},
    {"2026-01-01T23:34:05-03:30", INT64_C(1767323045) * 1000000},
    {"2000-02-29T12:00:00Z", INT64_C(951825600) * 1000000},
    {"2024-02-29T00:00:00Z", INT64_C(1709164800) * 1000000},
    {"9999-12-31T23:59:59Z", INT64_C(253402300799) * 1000000},
    {"0001-01-01T00:00:00Z", INT64_C(-62135596800) * 1000000},
};

static void reads_times(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(times); i++) {
        int64_t us = 1;

        assert_true(fl_time_parse(times[i].text, &us));
        assert_true(us == times[i].us);
    }
}

static void refuses_what_is_no_time(void **state)
{
    static const char *const bad[] = {
        "",
        "2026",
        "2026-01-02",
        "2026-01-02T03:04:05",
        "2026-01-02 03:04:05Z",
        "2026-13-02T03:04:05Z",
        "2026-00-02T03:04:05Z",
        "2026-01-32T03:04:05Z",
        "2026-01-00T03:04:05Z",
        "2026-02-29T03:04:05Z",
        "1900-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-01-02T24:00:00Z",
        "2026-01-02T03:60:05Z",
        "2026-01-02T03:04:60Z",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05+2:00",
        "2026-01-02T03:04:05+24:00",
        "2026-01-02T03:04:05+0200",
        "2026-01-02T03:04:05Zx",
        "2026-1-2T03:04:05Z",
        "-026-01-02T03:04:05Z",
        "2026-01-02T03:04:05,5Z",
        "é",
    };
    int64_t us = 7;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(bad); i++)
        if (fl_time_parse(bad[i], &us))
            fail_msg("%s was read as a time", bad[i]);
    assert_int_equal(us, 7);
}

static void writes_times(void **state)
{
    char out[FL_TIME_SIZE];

    (void)state;
    fl_time_format(0, out);
    assert_string_equal(out, "1970-01-01T00:00:00Z");
    fl_time_format(INT64_C(1767323045999999), out);
    assert_string_equal(out, "2026-01-02T03:04:05Z");
    fl_time_format_micro(INT64_C(1767323045000042), out);
    assert_string_equal(out, "2026-01-02T03:04:05.000042Z");
    fl_time_format_micro(-1, out);
    assert_string_equal(out, "1969-12-31T23:59:59.999999Z");
    fl_time_format(INT64_C(951825600) * 1000000, out);
    assert_string_equal(out, "2000-02-29T12:00:00Z");
}

static void times_round_trip(void **state)
{
    struct fl_fake_env fake;

    (void)state;
    fl_fake_env_init(&fake, 1, NULL);
    for (int i = 0; i < 2000; i++) {
        int64_t us = (int64_t)fl_random_below(&fake.env, INT64_C(250000000000) * 1000000), back;
        char out[FL_TIME_SIZE];

        fl_time_format_micro(us, out);
        assert_true(fl_time_parse(out, &back));
        assert_true(us == back);
    }
}

static void the_fake_repeats_itself(void **state)
{
    struct fl_fake_env a, b, c;
    char first[FL_UUID_SIZE], second[FL_UUID_SIZE], third[FL_UUID_SIZE];

    (void)state;
    fl_fake_env_init(&a, 5, NULL);
    fl_fake_env_init(&b, 5, NULL);
    fl_fake_env_init(&c, 6, NULL);
    fl_uuid_v4(&a.env, first);
    fl_uuid_v4(&b.env, second);
    fl_uuid_v4(&c.env, third);
    assert_string_equal(first, second);
    assert_string_not_equal(first, third);
    assert_true(fl_realtime_us(&a.env) == INT64_C(1767323045000000));
    fl_fake_env_advance(&a, 1500);
    assert_true(fl_realtime_us(&a.env) == INT64_C(1767323046500000));
    assert_true(fl_monotonic_ms(&a.env) == 2500);
}

static void uuids_have_version_and_variant(void **state)
{
    struct fl_env env = fl_env_real(NULL);
    char one[FL_UUID_SIZE], two[FL_UUID_SIZE];

    (void)state;
    for (int i = 0; i < 100; i++) {
        fl_uuid_v4(&env, one);
        fl_uuid_v4(&env, two);
        assert_int_equal(strlen(one), 36);
        assert_int_equal(one[14], '4');
        assert_non_null(strchr("89ab", one[19]));
        assert_true(one[8] == '-' && one[13] == '-' && one[18] == '-' && one[23] == '-');
        assert_string_not_equal(one, two);
    }
}

static void random_stays_below_its_bound(void **state)
{
    struct fl_fake_env fake;
    int counts[7] = {0};

    (void)state;
    fl_fake_env_init(&fake, 3, NULL);
    for (int i = 0; i < 7000; i++)
        counts[fl_random_below(&fake.env, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(counts[i], 850, 1150);
    assert_int_equal(fl_random_below(&fake.env, 1), 0);
    assert_true(fl_random_below(&fake.env, UINT64_MAX) < UINT64_MAX);
}

static void the_real_clock_moves_forward(void **state)
{
    struct fl_env env = fl_env_real(NULL);
    int64_t before = fl_monotonic_ms(&env);

    (void)state;
    assert_true(fl_realtime_us(&env) > INT64_C(1700000000) * 1000000);
    assert_true(fl_monotonic_ms(&env) >= before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_times),
        cmocka_unit_test(refuses_what_is_no_time),
        cmocka_unit_test(writes_times),
        cmocka_unit_test(times_round_trip),
        cmocka_unit_test(the_fake_repeats_itself),
        cmocka_unit_test(uuids_have_version_and_variant),
        cmocka_unit_test(random_stays_below_its_bound),
        cmocka_unit_test(the_real_clock_moves_forward),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
