#include "workloads/data/number.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX      120
#define DIGITS_MAX    19 /* that fit 64 bits */
#define EXPONENT_MAX  9999
#define EXACT_POWER   22 /* the largest power of ten that is a double */
#define EXACT_INTEGER (UINT64_C(1) << 53)

static const double powers[EXACT_POWER + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                               1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                               1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

struct scan {
    const char *at, *end;
    uint64_t digits;
    int count;    /* of digits, leading zeros aside */
    int exponent; /* of the last digit */
    bool any;
};

static inline bool is_digit(const char *at, const char *end)
{
    return at < end && (unsigned char)(*at - '0') < 10;
}

static inline void scan_digits(struct scan *scan, int exponent_step)
{
    for (; is_digit(scan->at, scan->end); scan->at++) {
        scan->any = true;
        scan->exponent += exponent_step;
        scan->digits = scan->digits * 10 + (uint64_t)(*scan->at - '0');
        scan->count += scan->digits != 0;
    }
}

/* False where an 'e' has no digits behind it. */
static bool scan_exponent(struct scan *scan)
{
    bool negative = false;
    int value = 0;

    if (scan->at == scan->end || (*scan->at | 0x20) != 'e')
        return true;
    scan->at++;
    if (scan->at < scan->end && (*scan->at == '-' || *scan->at == '+'))
        negative = *scan->at++ == '-';
    if (!is_digit(scan->at, scan->end))
        return false;
    for (; is_digit(scan->at, scan->end); scan->at++)
        value = value > EXPONENT_MAX ? value : value * 10 + (*scan->at - '0');
    scan->exponent += negative ? -value : value;
    return true;
}

/* Both numbers are exact, so that one operation rounds once (Clinger 1990). */
static bool is_exact(const struct scan *scan)
{
    return scan->count <= DIGITS_MAX && scan->digits <= EXACT_INTEGER &&
           scan->exponent >= -EXACT_POWER && scan->exponent <= EXACT_POWER;
}

static const char *read_slowly(const char *text, const char *end, double *ret_value)
{
    char copy[TEXT_MAX + 1];

    memcpy(copy, text, (size_t)(end - text));
    copy[end - text] = '\0';
    *ret_value = strtod(copy, NULL);
    return end;
}

const char *fl_number_read(const char *text, const char *end, double *ret_value)
{
    struct scan scan = {.at = text, .end = end - text > TEXT_MAX ? text + TEXT_MAX : end};
    bool negative = false;
    double value;

    if (scan.at < scan.end && (*scan.at == '-' || *scan.at == '+'))
        negative = *scan.at++ == '-';
    scan_digits(&scan, 0);
    if (scan.at < scan.end && *scan.at == '.') {
        scan.at++;
        scan_digits(&scan, -1);
    }
    if (!scan.any || !scan_exponent(&scan) || (scan.at == scan.end && scan.end != end))
        return NULL;
    if (!is_exact(&scan))
        return read_slowly(text, scan.at, ret_value);
    value = (double)scan.digits;
    value = scan.exponent < 0 ? value / powers[-scan.exponent] : value * powers[scan.exponent];
    *ret_value = negative ? -value : value;
    return scan.at;
}
