#include "lib/str.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

bool fl_str_has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool fl_str_has_suffix(const char *text, const char *suffix)
{
    size_t text_len = strlen(text), suffix_len = strlen(suffix);

    return text_len >= suffix_len && memcmp(text + text_len - suffix_len, suffix, suffix_len) == 0;
}

bool fl_str_to_int64(const char *text, int64_t min, int64_t max, int64_t *ret_value)
{
    char *end;
    long long value;

    if (!(*text == '-' || (*text >= '0' && *text <= '9')))
        return false;
    errno = 0;
    value = strtoll(text, &end, 10);
    if (errno || *end || end == text || value < min || value > max)
        return false;
    *ret_value = value;
    return true;
}

bool fl_str_to_uint64(const char *text, uint64_t max, uint64_t *ret_value)
{
    char *end;
    unsigned long long value;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno || *end || value > max)
        return false;
    *ret_value = value;
    return true;
}

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xC0) == 0x80;
}

size_t fl_utf8_width(const char *text, size_t len)
{
    const unsigned char *u = (const unsigned char *)text;

    if (len == 0)
        return 0;
    if (u[0] < 0x80)
        return 1;
    if (u[0] < 0xC2 || u[0] > 0xF4)
        return 0;
    if (len < 2 || !is_continuation(text[1]))
        return 0;
    if (u[0] < 0xE0)
        return 2;
    if ((u[0] == 0xE0 && u[1] < 0xA0) || (u[0] == 0xED && u[1] > 0x9F) ||
        (u[0] == 0xF0 && u[1] < 0x90) || (u[0] == 0xF4 && u[1] > 0x8F))
        return 0;
    if (len < 3 || !is_continuation(text[2]))
        return 0;
    if (u[0] < 0xF0)
        return 3;
    return len >= 4 && is_continuation(text[3]) ? 4 : 0;
}

bool fl_utf8_valid(const char *text, size_t len)
{
    while (len > 0) {
        size_t width = fl_utf8_width(text, len);

        if (width == 0)
            return false;
        text += width;
        len -= width;
    }
    return true;
}

size_t fl_utf8_count(const char *text, size_t len)
{
    size_t count = 0;

    while (len > 0) {
        size_t width = fl_utf8_width(text, len);

        width = width ? width : 1;
        text += width;
        len -= width;
        count++;
    }
    return count;
}

size_t fl_utf8_cut(const char *text, size_t len, size_t max)
{
    if (len <= max)
        return len;
    while (max > 0 && is_continuation(text[max]))
        max--;
    return max;
}

char *fl_str_last_line(struct fl_arena *arena, const char *text, size_t max)
{
    size_t end = strlen(text), start;

    while (end > 0 && (text[end - 1] == '\n' || text[end - 1] == '\r'))
        end--;
    for (start = end; start > 0 && text[start - 1] != '\n'; start--)
        continue;
    return fl_arena_strndup(arena, text + start, fl_utf8_cut(text + start, end - start, max));
}

char *fl_str_next(struct fl_arena *arena, const char **rest, char separator)
{
    const char *start = *rest, *end;

    if (!start)
        return NULL;
    end = strchr(start, separator);
    if (!end) {
        *rest = NULL;
        return fl_arena_strdup(arena, start);
    }
    *rest = end + 1;
    return fl_arena_strndup(arena, start, (size_t)(end - start));
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

char *fl_url_decode(struct fl_arena *arena, const char *text, size_t len, bool plus_is_space)
{
    char *out = fl_alloc(arena, len + 1);
    size_t used = 0;

    for (size_t i = 0; i < len; i++) {
        if (text[i] == '%') {
            int high = len - i > 2 ? hex_digit(text[i + 1]) : -1;
            int low = len - i > 2 ? hex_digit(text[i + 2]) : -1;

            if (high < 0 || low < 0 || (high | low) == 0)
                return NULL;
            out[used++] = (char)(high * 16 + low);
            i += 2;
        } else if (text[i] == '+' && plus_is_space) {
            out[used++] = ' ';
        } else if (text[i] == '\0') {
            return NULL;
        } else {
            out[used++] = text[i];
        }
    }
    return out;
}

char *fl_url_encode(struct fl_arena *arena, const char *text)
{
    static const char unreserved[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    char *out = fl_alloc(arena, strlen(text) * 3 + 1), *end = out;

    for (; *text; text++) {
        if (strchr(unreserved, *text)) {
            *end++ = *text;
        } else {
            *end++ = '%';
            *end++ = "0123456789ABCDEF"[(unsigned char)*text >> 4];
            *end++ = "0123456789ABCDEF"[(unsigned char)*text & 15];
        }
    }
    return out;
}

/* Puts the exponent back as Go writes it: at least two digits. */
static void put_mantissa(char *out, const char *digits, size_t count, int exponent, bool negative)
{
    char *at = out;

    if (negative)
        *at++ = '-';
    *at++ = digits[0];
    if (count > 1) {
        *at++ = '.';
        memcpy(at, digits + 1, count - 1);
        at += count - 1;
    }
    (void)snprintf(at, 8, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent) % 1000);
}

static void put_plain(char *out, const char *digits, size_t count, int exponent, bool negative)
{
    char *at = out;

    if (negative)
        *at++ = '-';
    if (exponent < 0) {
        *at++ = '0';
        *at++ = '.';
        for (int i = -1; i > exponent; i--)
            *at++ = '0';
    }
    for (size_t i = 0; i < count; i++) {
        *at++ = digits[i];
        if (exponent >= 0 && i == (size_t)exponent && i + 1 < count)
            *at++ = '.';
    }
    for (int i = (int)count; i <= exponent; i++)
        *at++ = '0';
    *at = '\0';
}

void fl_str_from_double(double value, char out[FL_DOUBLE_TEXT_SIZE])
{
    char text[40], digits[20] = "0";
    size_t count = 0;
    int exponent;

    if (isnan(value) || isinf(value)) {
        (void)snprintf(out, FL_DOUBLE_TEXT_SIZE, "%s",
                       isnan(value) ? "NaN"
                       : value > 0  ? "+Inf"
                                    : "-Inf");
        return;
    }
    for (int precision = 0; precision < 17; precision++) {
        (void)snprintf(text, sizeof(text), "%.*e", precision, fabs(value));
        if (strtod(text, NULL) == fabs(value))
            break;
    }
    for (const char *c = text; *c != 'e'; c++) {
        if (*c != '.' && count < sizeof(digits))
            digits[count++] = *c;
    }
    exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    if (exponent < -4 || exponent >= 6)
        put_mantissa(out, digits, count, exponent, signbit(value));
    else
        put_plain(out, digits, count, exponent, signbit(value));
}

char *fl_str_from_size(struct fl_arena *arena, int64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 999.5 && unit + 1 < FL_COUNT_OF(units)) {
        value /= 1000;
        unit++;
    }
    return fl_arena_printf(arena, unit == 0 || value >= 99.95 ? "%.0f %s" : "%.1f %s", value,
                           units[unit]);
}
