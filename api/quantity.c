#include "api/quantity.h"

#include "lib/str.h"

#include <inttypes.h>

/* Wide enough for 24 digits and the largest suffix. */
typedef __int128 wide;

#define WHOLE_DIGITS_MAX    15
#define FRACTION_DIGITS_MAX 9
static const wide NANO = 1000000000; /* 10 to FRACTION_DIGITS_MAX */

static const struct {
    const char *text;
    wide factor, divisor;
} suffixes[] = {
    {"", 1, 1},
    {"m", 1, 1000},
    {"k", 1000, 1},
    {"Ki", (wide)1 << 10, 1},
    {"M", 1000000, 1},
    {"Mi", (wide)1 << 20, 1},
    {"G", 1000000000, 1},
    {"Gi", (wide)1 << 30, 1},
    {"T", 1000000000000, 1},
    {"Ti", (wide)1 << 40, 1},
};

/* Digits into `*value`; how many there were, or -1 above the limit. */
static int read_digits(const char **text, int max, wide *value)
{
    int count = 0;

    for (; **text >= '0' && **text <= '9'; (*text)++) {
        if (++count > max)
            return -1;
        *value = *value * 10 + (**text - '0');
    }
    return count;
}

/* The number in units of 10^-9. */
static bool read_nanos(const char **text, wide *ret_nanos)
{
    wide value = 0;
    int digits = 0;

    if (read_digits(text, WHOLE_DIGITS_MAX, &value) < 1)
        return false;
    if (**text == '.') {
        (*text)++;
        digits = read_digits(text, FRACTION_DIGITS_MAX, &value);
        if (digits < 1)
            return false;
    }
    for (; digits < FRACTION_DIGITS_MAX; digits++)
        value *= 10;
    *ret_nanos = value;
    return true;
}

/* At most 10^24 · 2^40 before the scale, which is all that 128 bits hold with it divided first. */
static int64_t scaled(wide nanos, wide factor, wide divisor, int64_t scale)
{
    wide amount = nanos * factor;

    if (__builtin_mul_overflow(amount, (wide)scale, &amount))
        return INT64_MAX;
    divisor *= NANO;
    amount = amount / divisor + (amount % divisor != 0);
    return amount > INT64_MAX ? INT64_MAX : (int64_t)amount;
}

bool fl_quantity_parse(const char *text, int64_t scale, int64_t *ret_amount)
{
    wide nanos;

    if (!text || !read_nanos(&text, &nanos))
        return false;
    for (size_t i = 0; i < FL_COUNT_OF(suffixes); i++)
        if (strcmp(text, suffixes[i].text) == 0) {
            *ret_amount = scaled(nanos, suffixes[i].factor, suffixes[i].divisor, scale);
            return true;
        }
    return false;
}

char *fl_quantity_of_milli(struct fl_arena *arena, int64_t milli)
{
    if (milli % 1000 == 0)
        return fl_arena_printf(arena, "%" PRId64, milli / 1000);
    return fl_arena_printf(arena, "%" PRId64 "m", milli);
}

char *fl_quantity_of_bytes(struct fl_arena *arena, int64_t bytes)
{
    static const char *const units[] = {"", "Ki", "Mi", "Gi", "Ti"};
    size_t unit = 0;

    while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < FL_COUNT_OF(units)) {
        bytes /= 1024;
        unit++;
    }
    return fl_arena_printf(arena, "%" PRId64 "%s", bytes, units[unit]);
}
