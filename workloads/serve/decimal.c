#include "workloads/serve/decimal.h"

#include "lib/str.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS_MAX    19 /* that fit 64 bits */
#define EXACT_POWER   22 /* the largest power of ten that is a double */
#define EXACT_INTEGER (UINT64_C(1) << 53)
#define WHOLE_POWER   19 /* the largest power of ten that fits 64 bits */
#define EXPONENT_MAX  99999

/* Up to EXACT_POWER they are exact; above, the nearest. */
static const double powers[] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13,
    1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27,
    1e28, 1e29, 1e30, 1e31, 1e32, 1e33, 1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40, 1e41,
    1e42, 1e43, 1e44, 1e45, 1e46, 1e47, 1e48, 1e49, 1e50, 1e51, 1e52, 1e53, 1e54,
};

static const uint64_t whole_powers[WHOLE_POWER + 1] = {
    UINT64_C(1),
    UINT64_C(10),
    UINT64_C(100),
    UINT64_C(1000),
    UINT64_C(10000),
    UINT64_C(100000),
    UINT64_C(1000000),
    UINT64_C(10000000),
    UINT64_C(100000000),
    UINT64_C(1000000000),
    UINT64_C(10000000000),
    UINT64_C(100000000000),
    UINT64_C(1000000000000),
    UINT64_C(10000000000000),
    UINT64_C(100000000000000),
    UINT64_C(1000000000000000),
    UINT64_C(10000000000000000),
    UINT64_C(100000000000000000),
    UINT64_C(1000000000000000000),
    UINT64_C(10000000000000000000),
};

/* Reading */

struct scan {
    const char *at, *end;
    uint64_t digits;
    int count;    /* of digits, zeros in front aside */
    int exponent; /* of the last digit */
};

static inline bool is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

/* Eight digits at once (Lemire 2021): pairs, then fours, then eight, in one word. */
static inline bool eight_digits(const char *at, uint64_t *ret_value)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    if (((word & UINT64_C(0xF0F0F0F0F0F0F0F0)) |
         (((word + UINT64_C(0x0606060606060606)) & UINT64_C(0xF0F0F0F0F0F0F0F0)) >> 4)) !=
        UINT64_C(0x3333333333333333))
        return false;
    word -= UINT64_C(0x3030303030303030);
    word = word * 10 + (word >> 8);
    *ret_value = (((word & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x000F424000000064)) +
                  (((word >> 16) & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x0000271000000001))) >>
                 32;
    return true;
}

static inline void scan_digits(struct scan *scan, int step)
{
    uint64_t eight;

    while (scan->end - scan->at >= 8 && scan->digits != 0 && scan->count <= DIGITS_MAX - 8 &&
           eight_digits(scan->at, &eight)) {
        scan->digits = scan->digits * 100000000 + eight;
        scan->count += 8;
        scan->exponent += 8 * step;
        scan->at += 8;
    }
    for (; is_digit(*scan->at); scan->at++) {
        scan->digits = scan->digits * 10 + (uint64_t)(*scan->at - '0');
        scan->count += scan->digits != 0;
        scan->exponent += step;
    }
}

static bool scan_exponent(struct scan *scan)
{
    bool negative = false;
    int value = 0;

    if ((*scan->at | 0x20) != 'e')
        return true;
    scan->at++;
    if (*scan->at == '-' || *scan->at == '+')
        negative = *scan->at++ == '-';
    if (!is_digit(*scan->at))
        return false;
    for (; is_digit(*scan->at); scan->at++)
        value = value > EXPONENT_MAX ? value : value * 10 + (*scan->at - '0');
    scan->exponent += negative ? -value : value;
    return true;
}

static bool scan_number(struct scan *scan)
{
    if (!is_digit(*scan->at))
        return false;
    if (*scan->at == '0' && is_digit(scan->at[1]))
        return false;
    scan_digits(scan, 0);
    if (*scan->at == '.') {
        scan->at++;
        if (!is_digit(*scan->at))
            return false;
        scan_digits(scan, -1);
    }
    return scan_exponent(scan);
}

/* digits / 10^power, rounded once: the quotient has 62 bits at least, more than a double, and its
 * last bit says whether anything was left over. */
static double divide(uint64_t digits, unsigned power)
{
    const int up = __builtin_clzll(digits), down = __builtin_clzll(whole_powers[power]);
    const unsigned __int128 dividend = (unsigned __int128)(digits << up) << 63;
    const uint64_t divisor = whole_powers[power] << down;
    uint64_t quotient = (uint64_t)(dividend / divisor);

    quotient |= quotient * (unsigned __int128)divisor != dividend;
    return ldexp((double)quotient, down - up - 63);
}

static double convert(const struct scan *scan, const char *text)
{
    if (scan->digits == 0 && scan->count <= DIGITS_MAX)
        return 0;
    if (scan->count > DIGITS_MAX)
        return strtod(text, NULL);
    if (scan->digits <= EXACT_INTEGER && scan->exponent >= -EXACT_POWER &&
        scan->exponent <= EXACT_POWER)
        return scan->exponent < 0 ? (double)scan->digits / powers[-scan->exponent]
                                  : (double)scan->digits * powers[scan->exponent];
    if (scan->exponent < 0 && scan->exponent >= -WHOLE_POWER)
        return divide(scan->digits, (unsigned)-scan->exponent);
    return strtod(text, NULL);
}

const char *fl_decimal_read(const char *text, const char *end, double *ret_value)
{
    const bool negative = *text == '-';
    struct scan scan = {.at = text + negative, .end = end};
    double value;

    if (!scan_number(&scan) || scan.at > end || scan.at - text > FL_DECIMAL_LONGEST)
        return NULL;
    value = convert(&scan, text + negative);
    *ret_value = negative ? -value : value;
    return scan.at;
}

/* Writing */

static char *put_digits(char *at, uint64_t digits, int count)
{
    for (int i = count - 1; i >= 0; i--, digits /= 10)
        at[i] = (char)('0' + digits % 10);
    return at + count;
}

/* digits has `count` digits, the first of which stands for 10^exponent. */
static char *put_fixed(char *at, uint64_t digits, int count, int exponent)
{
    const int whole = exponent + 1;

    if (whole <= 0) {
        *at++ = '0';
        *at++ = '.';
        for (int i = whole; i < 0; i++)
            *at++ = '0';
        return put_digits(at, digits, count);
    }
    if (count <= whole) {
        at = put_digits(at, digits, count);
        for (int i = count; i < whole; i++)
            *at++ = '0';
        *at++ = '.';
        *at++ = '0';
        return at;
    }
    at = put_digits(at, digits / whole_powers[count - whole], whole);
    *at++ = '.';
    return put_digits(at, digits % whole_powers[count - whole], count - whole);
}

static char *put_scientific(char *at, uint64_t digits, int count, int exponent)
{
    at = put_fixed(at, digits, count, 0);
    *at++ = 'e';
    if (exponent < 0)
        *at++ = '-';
    exponent = exponent < 0 ? -exponent : exponent;
    return put_digits(at, (uint64_t)exponent, exponent < 10 ? 1 : 2);
}

/* value * 10^power, and back; powers beyond the exact ones only for nine digits, where an error in
 * the last place of a double does no harm: floats are much further apart. */
static double scale(double value, int power)
{
    return power < 0 ? value / powers[-power] : value * powers[power];
}

/* Of a positive value: digits with the first one at 10^*exponent. */
static uint64_t digits_of(float value, int *exponent, int *count)
{
    int first = (int)floor(log10((double)value));
    uint64_t digits = 0;

    for (*count = 6; *count <= 9; ++*count) {
        const int power = *count - 1 - first;

        if (*count < 9 && (power > EXACT_POWER || power < -EXACT_POWER))
            continue;
        digits = (uint64_t)(scale((double)value, power) + 0.5);
        if (*count == 9 || (float)scale((double)digits, -power) == value)
            break;
    }
    if (digits >= whole_powers[*count]) { /* rounded up to the next power */
        digits /= 10;
        first++;
    }
    *exponent = first;
    return digits;
}

size_t fl_decimal_write_float(float value, char out[FL_DECIMAL_TEXT_SIZE])
{
    char *at = out;
    int exponent, count;
    uint64_t digits;

    if (signbit(value))
        *at++ = '-';
    value = fabsf(value);
    if (value == 0) {
        at = put_fixed(at, 0, 1, 0);
        return (size_t)(at - out);
    }
    digits = digits_of(value, &exponent, &count);
    while (count > 1 && digits % 10 == 0) {
        digits /= 10;
        count--;
    }
    at = exponent >= -5 && exponent < 10 ? put_fixed(at, digits, count, exponent)
                                         : put_scientific(at, digits, count, exponent);
    return (size_t)(at - out);
}

size_t fl_decimal_write_double(double value, char out[FL_DECIMAL_TEXT_SIZE])
{
    size_t len;

    fl_str_from_double(value, out);
    len = strlen(out);
    if (!strpbrk(out, ".e")) {
        out[len++] = '.';
        out[len++] = '0';
    }
    return len;
}

size_t fl_decimal_write_int(int64_t value, char out[FL_DECIMAL_TEXT_SIZE])
{
    uint64_t left = value < 0 ? -(uint64_t)value : (uint64_t)value;
    char digits[20];
    size_t at = sizeof(digits), len = 0;

    do
        digits[--at] = (char)('0' + left % 10);
    while (left /= 10);
    if (value < 0)
        out[len++] = '-';
    memcpy(out + len, digits + at, sizeof(digits) - at);
    return len + sizeof(digits) - at;
}
