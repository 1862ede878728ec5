#include "lib/yaml_internal.h"

#include "lib/mem.h"
#include "lib/str.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct word {
    const char *text;
    struct fl_yaml_scalar value;
} words[] = {
#define WORD3(low, cap, up, ...)                                                                   \
    {low, {__VA_ARGS__}}, {cap, {__VA_ARGS__}},                                                    \
    {                                                                                              \
        up,                                                                                        \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
    {"y", {FL_YAML_BOOL, .boolean = true}},
    {"Y", {FL_YAML_BOOL, .boolean = true}},
    {"n", {FL_YAML_BOOL, .boolean = false}},
    {"N", {FL_YAML_BOOL, .boolean = false}},
    WORD3("yes", "Yes", "YES", FL_YAML_BOOL, .boolean = true),
    WORD3("true", "True", "TRUE", FL_YAML_BOOL, .boolean = true),
    WORD3("on", "On", "ON", FL_YAML_BOOL, .boolean = true),
    WORD3("no", "No", "NO", FL_YAML_BOOL, .boolean = false),
    WORD3("false", "False", "FALSE", FL_YAML_BOOL, .boolean = false),
    WORD3("off", "Off", "OFF", FL_YAML_BOOL, .boolean = false),
    {"", {.type = FL_YAML_NULL}},
    {"~", {.type = FL_YAML_NULL}},
    WORD3("null", "Null", "NULL", .type = FL_YAML_NULL),
    WORD3(".nan", ".NaN", ".NAN", FL_YAML_FLOAT, .real = NAN),
    WORD3(".inf", ".Inf", ".INF", FL_YAML_FLOAT, .real = INFINITY),
    WORD3("+.inf", "+.Inf", "+.INF", FL_YAML_FLOAT, .real = INFINITY),
    WORD3("-.inf", "-.Inf", "-.INF", FL_YAML_FLOAT, .real = -INFINITY),
    {"<<", {.type = FL_YAML_MERGE}},
#undef WORD3
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_sign(char c)
{
    return c == '+' || c == '-';
}

static const char *skip_digits(const char *text)
{
    while (is_digit(*text))
        text++;
    return text;
}

/* Integers: [sign] (0x | 0o | 0 | 0b) digits. */

static unsigned read_base(const char **text)
{
    const char *t = *text;
    unsigned base = 10;

    if (t[0] != '0' || !t[1])
        return 10;
    if (t[1] == 'x' || t[1] == 'X')
        base = 16;
    else if (t[1] == 'o' || t[1] == 'O')
        base = 8;
    else if (t[1] == 'b' || t[1] == 'B')
        base = 2;
    *text = t + (base == 10 ? 1 : 2);
    return base == 10 ? 8 : base;
}

static unsigned digit_value(char c)
{
    if (is_digit(c))
        return (unsigned)(c - '0');
    if (c >= 'a' && c <= 'f')
        return (unsigned)(c - 'a') + 10;
    if (c >= 'A' && c <= 'F')
        return (unsigned)(c - 'A') + 10;
    return 99;
}

static bool read_magnitude(const char *text, unsigned base, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (!*text)
        return false;
    for (; *text; text++) {
        unsigned digit = digit_value(*text);

        if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return false;
    }
    *ret_value = value;
    return true;
}

static bool read_integer(const char *text, struct fl_yaml_scalar *ret)
{
    bool negative = *text == '-', has_sign = is_sign(*text);
    uint64_t magnitude;
    unsigned base;

    text += has_sign;
    base = read_base(&text);
    if (!read_magnitude(text, base, &magnitude))
        return false;
    if (magnitude <= INT64_MAX || (negative && magnitude == (uint64_t)INT64_MAX + 1)) {
        ret->type = FL_YAML_INT;
        ret->integer = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
        return true;
    }
    if (has_sign)
        return false;
    ret->type = FL_YAML_BIG_INT;
    ret->real = (double)magnitude;
    return true;
}

/* Floats: [sign] digits [. digits] [e [sign] digits], digits on one side of the point at least. */

static bool looks_like_float(const char *text)
{
    const char *end;

    text += is_sign(*text);
    end = skip_digits(text);
    if (*end == '.') {
        const char *fraction = end + 1;

        if (end == text && !is_digit(*fraction))
            return false;
        end = skip_digits(fraction);
    } else if (end == text) {
        return false;
    }
    if (*end == 'e' || *end == 'E') {
        end += 1 + is_sign(end[1]);
        if (!is_digit(*end))
            return false;
        end = skip_digits(end);
    }
    return !*end;
}

static bool read_float(const char *text, struct fl_yaml_scalar *ret)
{
    double value;

    if (!looks_like_float(text))
        return false;
    value = strtod(text, NULL);
    if (isinf(value))
        return false; /* out of range: it stays text */
    ret->type = FL_YAML_FLOAT;
    ret->real = value;
    return true;
}

/* Timestamps: date, or date and time with T and a zone, or date and time with a space and none. */

static bool take_number(const char **text, int max_digits, int min, int max, int *ret_value)
{
    int value = 0, digits = 0;

    for (; digits < max_digits && is_digit(**text); digits++, (*text)++)
        value = value * 10 + (**text - '0');
    *ret_value = value;
    return digits > 0 && value >= min && value <= max;
}

static bool take(const char **text, const char *allowed)
{
    if (!**text || !strchr(allowed, **text))
        return false;
    (*text)++;
    return true;
}

static bool day_exists(int year, int month, int day)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return day <= days[month - 1] + (month == 2 && leap);
}

static bool take_date(const char **text)
{
    int year, month, day;

    if (skip_digits(*text) != *text + 4)
        return false;
    return take_number(text, 4, 0, 9999, &year) && take(text, "-") &&
           take_number(text, 2, 1, 12, &month) && take(text, "-") &&
           take_number(text, 2, 1, 31, &day) && day_exists(year, month, day);
}

static bool take_clock(const char **text)
{
    int ignored;

    if (!take_number(text, 2, 0, 23, &ignored) || !take(text, ":") ||
        !take_number(text, 2, 0, 59, &ignored) || !take(text, ":") ||
        !take_number(text, 2, 0, 59, &ignored))
        return false;
    if ((**text == '.' || **text == ',') && is_digit((*text)[1]))
        *text = skip_digits(*text + 1);
    return true;
}

static bool take_zone(const char **text)
{
    int ignored;

    if (take(text, "Z"))
        return true;
    return take(text, "+-") && is_digit((*text)[0]) && is_digit((*text)[1]) &&
           take_number(text, 2, 0, 24, &ignored) && take(text, ":") && is_digit((*text)[0]) &&
           is_digit((*text)[1]) && take_number(text, 2, 0, 60, &ignored);
}

static bool is_timestamp(const char *text)
{
    if (!take_date(&text))
        return false;
    if (!*text)
        return true;
    if (take(&text, "Tt"))
        return take_clock(&text) && take_zone(&text) && !*text;
    return take(&text, " ") && take_clock(&text) && !*text;
}

/* "1_000": underscores are for the eye. */
static char *without_underscores(const char *text, size_t len)
{
    char *plain = fl_malloc(len + 1), *end = plain;

    for (; *text; text++)
        if (*text != '_')
            *end++ = *text;
    *end = '\0';
    return plain;
}

/* After a leading point an underscore must stand between digits. */
static bool underscores_separate_digits(const char *text)
{
    for (size_t i = 1; text[i]; i++)
        if (text[i] == '_' && !(is_digit(text[i - 1]) && is_digit(text[i + 1])))
            return false;
    return true;
}

static void resolve_number(const char *text, size_t len, struct fl_yaml_scalar *ret)
{
    FL_CLEANUP(fl_freep) char *plain = NULL;

    if (text[0] == '.' ? !underscores_separate_digits(text) : is_timestamp(text)) {
        if (text[0] != '.')
            ret->type = FL_YAML_TIMESTAMP;
        return;
    }
    plain = without_underscores(text, len);
    if (text[0] == '.' || !read_integer(plain, ret))
        (void)read_float(plain, ret);
}

struct fl_yaml_scalar fl_yaml_resolve(const char *text, size_t len)
{
    struct fl_yaml_scalar scalar = {.type = FL_YAML_STRING};

    if (len <= 5)
        for (size_t i = 0; i < FL_COUNT_OF(words); i++)
            if (strcmp(words[i].text, text) == 0)
                return words[i].value;
    if (is_digit(text[0]) || is_sign(text[0]) || text[0] == '.')
        resolve_number(text, len, &scalar);
    return scalar;
}

/* [sign] digit (digit | _)* (: [0-5] digit)+ [. (digit | _)*] */
bool fl_yaml_is_base60(const char *text)
{
    text += is_sign(*text);
    if (!is_digit(*text))
        return false;
    while (is_digit(*text) || *text == '_')
        text++;
    if (*text != ':')
        return false;
    while (*text == ':') {
        if (!is_digit(text[1]))
            return false;
        text += text[1] <= '5' && is_digit(text[2]) ? 3 : 2;
    }
    if (*text == '.')
        for (text++; is_digit(*text) || *text == '_';)
            text++;
    return !*text;
}

void fl_yaml_format_real(double value, bool single, char out[FL_YAML_REAL_SIZE])
{
    int digits = 0, exponent;

    value = single ? (double)(float)value : value;
    if (!isfinite(value)) {
        (void)snprintf(out, FL_YAML_REAL_SIZE, "%s",
                       isnan(value) ? ".nan"
                       : value > 0  ? ".inf"
                                    : "-.inf");
        return;
    }
    do
        (void)snprintf(out, FL_YAML_REAL_SIZE, "%.*e", digits, value);
    while (digits++ < 17 && (single ? (double)strtof(out, NULL) : strtod(out, NULL)) != value);
    exponent = (int)strtol(strchr(out, 'e') + 1, NULL, 10);
    if (exponent < -4 || exponent >= 6)
        return;
    (void)snprintf(out, FL_YAML_REAL_SIZE, "%.*f",
                   digits - 1 > exponent ? digits - 1 - exponent : 0, value);
}
