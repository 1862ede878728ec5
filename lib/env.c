#define FL_ALLOW_BANNED
#include "lib/env.h"

#include "lib/str.h"

#include <assert.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int64_t read_clock(clockid_t id, int64_t per_second)
{
    struct timespec now;

    if (clock_gettime(id, &now) != 0)
        abort();
    return now.tv_sec * per_second + now.tv_nsec / (1000000000 / per_second);
}

int64_t fl_machine_monotonic_us(void)
{
    return read_clock(CLOCK_MONOTONIC, 1000000);
}

static int64_t real_realtime_us(void *user)
{
    (void)user;
    return read_clock(CLOCK_REALTIME, 1000000);
}

static int64_t real_monotonic_ms(void *user)
{
    (void)user;
    return read_clock(CLOCK_MONOTONIC, 1000);
}

static void real_random(void *user, void *out, size_t len)
{
    (void)user;
    randombytes_buf(out, len);
}

struct fl_env fl_env_real(struct fl_log *log)
{
    if (sodium_init() < 0)
        abort();
    return (struct fl_env){.realtime_us = real_realtime_us,
                           .monotonic_ms = real_monotonic_ms,
                           .random = real_random,
                           .log = log};
}

static int64_t fake_realtime_us(void *user)
{
    return ((struct fl_fake_env *)user)->realtime_us;
}

static int64_t fake_monotonic_ms(void *user)
{
    return ((struct fl_fake_env *)user)->monotonic_ms;
}

/* SplitMix64 (Steele, Lea, Flood 2014): small, and every seed is a good one. */
static uint64_t next_random(struct fl_fake_env *fake)
{
    uint64_t z = (fake->state += 0x9E3779B97F4A7C15u);

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static void fake_random(void *user, void *out, size_t len)
{
    for (unsigned char *byte = out; len > 0; byte++, len--)
        *byte = (unsigned char)next_random(user);
}

void fl_fake_env_init(struct fl_fake_env *fake, uint64_t seed, struct fl_log *log)
{
    *fake = (struct fl_fake_env){
        .env = {.realtime_us = fake_realtime_us,
                .monotonic_ms = fake_monotonic_ms,
                .random = fake_random,
                .user = fake,
                .log = log},
        .realtime_us = INT64_C(1767323045) * 1000000, /* 2026-01-02T03:04:05Z */
        .monotonic_ms = 1000,
        .state = seed,
    };
}

void fl_fake_env_advance(struct fl_fake_env *fake, int64_t ms)
{
    fake->realtime_us += ms * 1000;
    fake->monotonic_ms += ms;
}

uint64_t fl_random_below(const struct fl_env *env, uint64_t bound)
{
    uint64_t limit, value;

    assert(bound > 0);
    limit = UINT64_MAX - UINT64_MAX % bound;
    do
        env->random(env->user, &value, sizeof(value));
    while (value >= limit);
    return value % bound;
}

void fl_uuid_v4(const struct fl_env *env, char out[FL_UUID_SIZE])
{
    unsigned char raw[16];
    char hex[33];

    env->random(env->user, raw, sizeof(raw));
    raw[6] = (unsigned char)((raw[6] & 0x0F) | 0x40);
    raw[8] = (unsigned char)((raw[8] & 0x3F) | 0x80);
    fl_hex_encode(raw, sizeof(raw), hex);
    (void)snprintf(out, FL_UUID_SIZE, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16,
                   hex + 20);
}

static void split_time(int64_t realtime_us, struct tm *tm, int64_t *micros)
{
    time_t seconds = realtime_us / 1000000;

    *micros = realtime_us % 1000000;
    if (*micros < 0) {
        *micros += 1000000;
        seconds--;
    }
    (void)gmtime_r(&seconds, tm);
}

void fl_time_format(int64_t realtime_us, char out[FL_TIME_SIZE])
{
    struct tm tm;
    int64_t micros;

    split_time(realtime_us, &tm, &micros);
    (void)strftime(out, FL_TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

void fl_time_format_micro(int64_t realtime_us, char out[FL_TIME_SIZE])
{
    struct tm tm;
    int64_t micros;
    size_t used;

    split_time(realtime_us, &tm, &micros);
    used = strftime(out, FL_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(out + used, FL_TIME_SIZE - used, ".%06dZ", (int)micros);
}

/* `count` digits at *text, which moves on. */
static bool read_digits(const char **text, int count, int min, int max, int *ret_value)
{
    int value = 0;

    for (int i = 0; i < count; i++) {
        char c = (*text)[i];

        if (c < '0' || c > '9')
            return false;
        value = value * 10 + (c - '0');
    }
    *text += count;
    *ret_value = value;
    return value >= min && value <= max;
}

static bool read_char(const char **text, const char *allowed)
{
    if (!**text || !strchr(allowed, **text))
        return false;
    (*text)++;
    return true;
}

static bool read_fraction(const char **text, int64_t *ret_micros)
{
    int64_t micros = 0, scale = 100000;
    const char *start;

    *ret_micros = 0;
    if (**text != '.')
        return true;
    start = ++*text;
    for (; **text >= '0' && **text <= '9'; (*text)++, scale /= 10)
        micros += (**text - '0') * scale;
    *ret_micros = micros;
    return *text > start;
}

static bool read_offset(const char **text, int *ret_minutes)
{
    int sign, hours, minutes;

    *ret_minutes = 0;
    if (read_char(text, "Zz"))
        return true;
    sign = **text == '-' ? -1 : 1;
    if (!read_char(text, "+-") || !read_digits(text, 2, 0, 23, &hours) || !read_char(text, ":") ||
        !read_digits(text, 2, 0, 59, &minutes))
        return false;
    *ret_minutes = sign * (hours * 60 + minutes);
    return true;
}

static bool day_exists(int year, int month, int day)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return day <= days[month - 1] + (month == 2 && leap);
}

bool fl_time_parse(const char *text, int64_t *ret_realtime_us)
{
    struct tm tm = {0};
    int year, month, day, offset;
    int64_t micros;

    if (!read_digits(&text, 4, 0, 9999, &year) || !read_char(&text, "-") ||
        !read_digits(&text, 2, 1, 12, &month) || !read_char(&text, "-") ||
        !read_digits(&text, 2, 1, 31, &day) || !day_exists(year, month, day) ||
        !read_char(&text, "Tt") || !read_digits(&text, 2, 0, 23, &tm.tm_hour) ||
        !read_char(&text, ":") || !read_digits(&text, 2, 0, 59, &tm.tm_min) ||
        !read_char(&text, ":") || !read_digits(&text, 2, 0, 59, &tm.tm_sec) ||
        !read_fraction(&text, &micros) || !read_offset(&text, &offset) || *text)
        return false;
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    tm.tm_mday = day;
    *ret_realtime_us = ((int64_t)timegm(&tm) - offset * INT64_C(60)) * 1000000 + micros;
    return true;
}
