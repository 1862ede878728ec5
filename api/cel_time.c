#include "api/cel_internal.h"
#include "lib/str.h"

#include <time.h>

/* Timestamps (0001-01-01 … 9999-12-31, nanoseconds) and durations (Go's form: "1h30m"). */

#define MIN_SECONDS INT64_C(-62135596800)
#define MAX_SECONDS INT64_C(253402300799)

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool read_unit(const char **at, const char *end, int64_t *ret_nanos)
{
    static const struct {
        const char *name;
        int64_t nanos;
    } units[] = {
        {"ns", 1},           {"us", 1000},     {"\xC2\xB5s", 1000}, /* micro sign */
        {"\xCE\xBCs", 1000},                                        /* Greek mu */
        {"ms", 1000000},     {"s", CEL_NANOS}, {"m", 60 * CEL_NANOS}, {"h", 3600 * CEL_NANOS},
    };

    for (size_t i = 0; i < FL_COUNT_OF(units); i++) {
        size_t len = strlen(units[i].name);

        if ((size_t)(end - *at) >= len && !memcmp(*at, units[i].name, len)) {
            *at += len;
            *ret_nanos = units[i].nanos;
            return true;
        }
    }
    return false;
}

/* One number with its unit, added to `*total` (in nanoseconds, as a magnitude). */
static bool read_part(const char **at, const char *end, uint64_t *total)
{
    uint64_t whole = 0, fraction = 0, scale = 1, part;
    bool digits = false;
    int64_t unit;

    for (; *at < end && is_digit(**at); (*at)++, digits = true) {
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(**at - '0'), &whole))
            return false;
    }
    if (*at < end && **at == '.') {
        for ((*at)++; *at < end && is_digit(**at); (*at)++, digits = true) {
            if (scale < UINT64_C(1000000000000000)) {
                fraction = fraction * 10 + (uint64_t)(**at - '0');
                scale *= 10;
            }
        }
    }
    if (!digits || !read_unit(at, end, &unit))
        return false;
    if (__builtin_mul_overflow(whole, (uint64_t)unit, &part))
        return false;
    part += (uint64_t)((unsigned __int128)fraction * (uint64_t)unit / scale);
    return !__builtin_add_overflow(*total, part, total) && *total <= (uint64_t)1 << 63;
}

bool fl_cel_duration_parse(const char *text, size_t len, int64_t *ret_nanoseconds)
{
    const char *at = text, *end = text + len;
    bool negative = len > 0 && *text == '-';
    uint64_t total = 0;

    if (len > 0 && (*text == '-' || *text == '+'))
        at++;
    if (end - at == 1 && *at == '0') {
        *ret_nanoseconds = 0;
        return true;
    }
    if (at == end)
        return false;
    while (at < end) {
        if (!read_part(&at, end, &total))
            return false;
    }
    if (!negative && total > INT64_MAX)
        return false;
    *ret_nanoseconds = (int64_t)(negative ? 0 - total : total);
    return true;
}

bool fl_cel_timestamp_make(int64_t seconds, int64_t nanos, int offset_minutes,
                           struct cel_value *ret_value)
{
    seconds += nanos / CEL_NANOS;
    nanos %= CEL_NANOS;
    if (nanos < 0) {
        nanos += CEL_NANOS;
        seconds--;
    }
    if (seconds < MIN_SECONDS || seconds > MAX_SECONDS)
        return false;
    *ret_value = (struct cel_value){.kind = CEL_TIMESTAMP,
                                    .time = {seconds, (int32_t)nanos, offset_minutes}};
    return true;
}

static bool read_digits(const char **at, int count, int min, int max, int *ret_value)
{
    int value = 0;

    for (int i = 0; i < count; i++) {
        if (!is_digit((*at)[i]))
            return false;
        value = value * 10 + ((*at)[i] - '0');
    }
    *at += count;
    *ret_value = value;
    return value >= min && value <= max;
}

static bool read_char(const char **at, char c)
{
    if (**at != c)
        return false;
    (*at)++;
    return true;
}

static bool read_offset(const char **at, int *ret_minutes)
{
    int sign, hours, minutes;

    *ret_minutes = 0;
    if (read_char(at, 'Z') || read_char(at, 'z'))
        return true;
    sign = **at == '-' ? -1 : 1;
    if ((!read_char(at, '+') && !read_char(at, '-')) || !read_digits(at, 2, 0, 23, &hours) ||
        !read_char(at, ':') || !read_digits(at, 2, 0, 59, &minutes))
        return false;
    *ret_minutes = sign * (hours * 60 + minutes);
    return true;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap);
}

bool fl_cel_timestamp_parse(const char *text, size_t len, struct cel_value *ret_value)
{
    char copy[64];
    const char *at = copy;
    struct tm tm = {0};
    int year, month, offset;
    int64_t nanos = 0, scale = CEL_NANOS / 10;

    if (len >= sizeof(copy))
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (!read_digits(&at, 4, 1, 9999, &year) || !read_char(&at, '-') ||
        !read_digits(&at, 2, 1, 12, &month) || !read_char(&at, '-') ||
        !read_digits(&at, 2, 1, days_in_month(year, month), &tm.tm_mday) ||
        (!read_char(&at, 'T') && !read_char(&at, 't')) ||
        !read_digits(&at, 2, 0, 23, &tm.tm_hour) || !read_char(&at, ':') ||
        !read_digits(&at, 2, 0, 59, &tm.tm_min) || !read_char(&at, ':') ||
        !read_digits(&at, 2, 0, 59, &tm.tm_sec))
        return false;
    if (read_char(&at, '.')) {
        if (!is_digit(*at))
            return false;
        for (; is_digit(*at); at++, scale /= 10)
            nanos += (*at - '0') * scale;
    }
    if (!read_offset(&at, &offset) || at != copy + len)
        return false;
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    return fl_cel_timestamp_make((int64_t)timegm(&tm) - offset * INT64_C(60), nanos, offset,
                                 ret_value);
}

/* ".5" of 500000000, without zeros at the end; "" of 0. */
static const char *fraction_text(struct cel_eval *eval, int64_t nanos)
{
    char text[16];
    size_t len;

    if (nanos == 0)
        return "";
    len = (size_t)snprintf(text, sizeof(text), ".%09lld", (long long)nanos);
    while (text[len - 1] == '0')
        len--;
    return fl_arena_strndup(eval->arena, text, len);
}

struct cel_value fl_cel_duration_text(struct cel_eval *eval, int64_t nanoseconds)
{
    uint64_t size = nanoseconds < 0 ? 0 - (uint64_t)nanoseconds : (uint64_t)nanoseconds;

    return fl_cel_cstring(
        fl_arena_printf(eval->arena, "%s%llu%ss", nanoseconds < 0 ? "-" : "",
                        (unsigned long long)(size / (uint64_t)CEL_NANOS),
                        fraction_text(eval, (int64_t)(size % (uint64_t)CEL_NANOS))));
}

struct cel_value fl_cel_timestamp_text(struct cel_eval *eval, const struct cel_value *time)
{
    int offset = time->time.offset_minutes, size = offset < 0 ? -offset : offset;
    time_t seconds = time->time.seconds + offset * INT64_C(60);
    char zone[16] = "Z";
    struct tm tm;

    (void)gmtime_r(&seconds, &tm);
    if (offset)
        (void)snprintf(zone, sizeof(zone), "%c%02d:%02d", offset < 0 ? '-' : '+', size / 60 % 100,
                       size % 60);
    return fl_cel_cstring(fl_arena_printf(
        eval->arena, "%04d-%02d-%02dT%02d:%02d:%02d%s%s", tm.tm_year + 1900, tm.tm_mon + 1,
        tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, fraction_text(eval, time->time.nanos), zone));
}

/* Getters. Of a timestamp in UTC or in the offset that is given ("+02:00"). */

enum part {
    YEAR,
    MONTH,
    DATE,
    DAY_OF_MONTH,
    DAY_OF_WEEK,
    DAY_OF_YEAR,
    HOURS,
    MINUTES,
    SECONDS,
    MILLISECONDS
};

static bool zone_minutes(const struct cel_value *zone, int *ret_minutes)
{
    char copy[16];
    const char *at = copy;
    int sign, hours, minutes;

    *ret_minutes = 0;
    if (zone->text.len == 0 || (zone->text.len == 3 && !memcmp(zone->text.data, "UTC", 3)))
        return true;
    if (zone->text.len >= sizeof(copy))
        return false;
    memcpy(copy, zone->text.data, zone->text.len);
    copy[zone->text.len] = '\0';
    sign = *at == '-' ? -1 : 1;
    if (*at == '-' || *at == '+')
        at++;
    if (!read_digits(&at, 2, 0, 23, &hours) || !read_char(&at, ':') ||
        !read_digits(&at, 2, 0, 59, &minutes) || *at)
        return false;
    *ret_minutes = sign * (hours * 60 + minutes);
    return true;
}

static struct cel_value part_of_time(struct cel_eval *eval, const struct cel_value *args,
                                     size_t count, enum part part)
{
    time_t seconds = args[0].time.seconds;
    int minutes = 0;
    struct tm tm;

    if (count > 1 && args[1].kind != CEL_STRING)
        return fl_cel_no_overload();
    if (count > 1 && !zone_minutes(&args[1], &minutes))
        return fl_cel_error(eval, "unknown time zone %.64s", fl_cel_strdup(eval, &args[1]));
    seconds += minutes * INT64_C(60);
    (void)gmtime_r(&seconds, &tm);
    switch (part) {
    case YEAR:
        return cel_int(tm.tm_year + 1900);
    case MONTH:
        return cel_int(tm.tm_mon);
    case DATE:
        return cel_int(tm.tm_mday);
    case DAY_OF_MONTH:
        return cel_int(tm.tm_mday - 1);
    case DAY_OF_WEEK:
        return cel_int(tm.tm_wday);
    case DAY_OF_YEAR:
        return cel_int(tm.tm_yday);
    case HOURS:
        return cel_int(tm.tm_hour);
    case MINUTES:
        return cel_int(tm.tm_min);
    case SECONDS:
        return cel_int(tm.tm_sec);
    default:
        return cel_int(args[0].time.nanos / 1000000);
    }
}

/* A duration's getters tell the whole of it in that unit, but for milliseconds: the rest. */
static struct cel_value get(struct cel_eval *eval, const struct cel_value *args, size_t count,
                            enum part part)
{
    if (args[0].kind == CEL_TIMESTAMP)
        return part_of_time(eval, args, count, part);
    if (args[0].kind != CEL_DURATION || count > 1 || part < HOURS)
        return fl_cel_no_overload();
    switch (part) {
    case HOURS:
        return cel_int(args[0].integer / (3600 * CEL_NANOS));
    case MINUTES:
        return cel_int(args[0].integer / (60 * CEL_NANOS));
    case SECONDS:
        return cel_int(args[0].integer / CEL_NANOS);
    default:
        return cel_int(args[0].integer / 1000000);
    }
}

#define GETTER(name, part)                                                                         \
    static struct cel_value name(struct cel_eval *eval, const struct cel_value *args,              \
                                 size_t count)                                                     \
    {                                                                                              \
        return get(eval, args, count, part);                                                       \
    }
GETTER(get_year, YEAR)
GETTER(get_month, MONTH)
GETTER(get_date, DATE)
GETTER(get_day_of_month, DAY_OF_MONTH)
GETTER(get_day_of_week, DAY_OF_WEEK)
GETTER(get_day_of_year, DAY_OF_YEAR)
GETTER(get_hours, HOURS)
GETTER(get_minutes, MINUTES)
GETTER(get_seconds, SECONDS)
GETTER(get_milliseconds, MILLISECONDS)

const struct cel_function fl_cel_time_functions[] = {
    {"getFullYear", true, "t>i|ts>i", get_year},
    {"getMonth", true, "t>i|ts>i", get_month},
    {"getDate", true, "t>i|ts>i", get_date},
    {"getDayOfMonth", true, "t>i|ts>i", get_day_of_month},
    {"getDayOfWeek", true, "t>i|ts>i", get_day_of_week},
    {"getDayOfYear", true, "t>i|ts>i", get_day_of_year},
    {"getHours", true, "t>i|ts>i|D>i", get_hours},
    {"getMinutes", true, "t>i|ts>i|D>i", get_minutes},
    {"getSeconds", true, "t>i|ts>i|D>i", get_seconds},
    {"getMilliseconds", true, "t>i|ts>i|D>i", get_milliseconds},
    {0},
};
