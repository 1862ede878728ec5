#include "workloads/serve/scan.h"

#include "lib/json.h"
#include "lib/str.h"
#include "workloads/serve/decimal.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fl_scan_init(struct fl_scan *scan, struct fl_arena *arena, const char *text, size_t len)
{
    *scan = (struct fl_scan){.arena = arena, .begin = text, .at = text, .end = text + len};
}

bool fl_scan_fail(struct fl_scan *scan, int code, const char *fmt, ...)
{
    char text[FL_ERROR_TEXT_MAX];
    va_list args;

    if (scan->err.code)
        return false;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    (void)fl_error_set(&scan->err, code, "%s", text);
    return false;
}

static bool bad(struct fl_scan *scan, const char *what)
{
    (void)fl_scan_fail(scan, FL_E_BAD_REQUEST, "byte %zu: %s", (size_t)(scan->at - scan->begin),
                       what);
    return false;
}

char fl_scan_peek(struct fl_scan *scan)
{
    while (scan->at < scan->end &&
           (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\r' || *scan->at == '\t'))
        scan->at++;
    return scan->err.code || scan->at == scan->end ? '\0' : *scan->at;
}

bool fl_scan_open(struct fl_scan *scan, char bracket)
{
    if (fl_scan_peek(scan) != bracket)
        return bad(scan, bracket == '{' ? "an object is expected" : "an array is expected");
    if (++scan->depth > FL_SCAN_DEPTH_MAX)
        return bad(scan, "nested too deep");
    scan->at++;
    return true;
}

bool fl_scan_more(struct fl_scan *scan, char closing, bool *first)
{
    const char next = fl_scan_peek(scan);

    if (next == closing) {
        scan->at++;
        scan->depth--;
        return false;
    }
    if (*first) {
        *first = false;
        return next != '\0' || bad(scan, "the text ends too early");
    }
    if (next != ',')
        return bad(scan, "a comma or the closing bracket is expected");
    scan->at++;
    return true;
}

/* The raw text between quotes. */
static bool take_quoted(struct fl_scan *scan, const char **ret_text, size_t *ret_len,
                        bool *ret_escaped)
{
    const char *start;

    *ret_escaped = false;
    if (fl_scan_peek(scan) != '"')
        return bad(scan, "a text is expected");
    start = ++scan->at;
    for (; scan->at < scan->end && *scan->at != '"'; scan->at++) {
        if ((unsigned char)*scan->at < 0x20)
            return bad(scan, "a control character in a text");
        if (*scan->at == '\\') {
            *ret_escaped = true;
            if (++scan->at == scan->end)
                break;
        }
    }
    if (scan->at == scan->end)
        return bad(scan, "a text without its end");
    *ret_text = start;
    *ret_len = (size_t)(scan->at++ - start);
    return true;
}

bool fl_scan_is(const char *name, size_t len, const char *wanted)
{
    return strlen(wanted) == len && memcmp(name, wanted, len) == 0;
}

/* Rare in what comes here: left to who knows all of it. */
static bool unescape(struct fl_scan *scan, const char *raw, size_t len, const char **ret_text)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf quoted = {0};
    FL_JSON list = NULL;

    fl_buf_puts(&quoted, "[\"");
    fl_buf_append(&quoted, raw, len);
    fl_buf_puts(&quoted, "\"]");
    if (fl_json_parse(quoted.data, quoted.len, NULL, NULL, NULL, &list, NULL) < 0)
        return bad(scan, "a text with a wrong escape");
    *ret_text = fl_arena_strdup(scan->arena, json_string_value(json_array_get(list, 0)));
    return true;
}

bool fl_scan_name(struct fl_scan *scan, const char **ret_name, size_t *ret_len)
{
    bool escaped;

    if (!take_quoted(scan, ret_name, ret_len, &escaped))
        return false;
    if (escaped) {
        if (!unescape(scan, *ret_name, *ret_len, ret_name))
            return false;
        *ret_len = strlen(*ret_name);
    }
    if (fl_scan_peek(scan) != ':')
        return bad(scan, "a colon is expected");
    scan->at++;
    return true;
}

bool fl_scan_text(struct fl_scan *scan, const char **ret_text)
{
    const char *raw;
    size_t len;
    bool escaped;

    if (!take_quoted(scan, &raw, &len, &escaped))
        return false;
    if (!fl_utf8_valid(raw, len))
        return bad(scan, "a text that is no UTF-8");
    if (escaped)
        return unescape(scan, raw, len, ret_text);
    *ret_text = fl_arena_strndup(scan->arena, raw, len);
    return true;
}

static bool take_number(struct fl_scan *scan, double *ret_value)
{
    const char first = fl_scan_peek(scan), *behind;

    if (first != '-' && (first < '0' || first > '9'))
        return bad(scan, "a number is expected");
    behind = fl_decimal_read(scan->at, scan->end, ret_value);
    if (!behind)
        return bad(scan, "that is no number");
    scan->at = behind;
    return true;
}

bool fl_scan_int(struct fl_scan *scan, int64_t *ret_value)
{
    double value;

    if (!take_number(scan, &value))
        return false;
    if (value != floor(value) || fabs(value) > 9007199254740991.0)
        return bad(scan, "a whole number is expected");
    *ret_value = (int64_t)value;
    return true;
}

static bool take_word(struct fl_scan *scan, const char *word)
{
    const size_t len = strlen(word);

    (void)fl_scan_peek(scan);
    if ((size_t)(scan->end - scan->at) < len || memcmp(scan->at, word, len) != 0)
        return false;
    scan->at += len;
    return true;
}

bool fl_scan_bool(struct fl_scan *scan, bool *ret_value)
{
    if (take_word(scan, "true"))
        *ret_value = true;
    else if (take_word(scan, "false"))
        *ret_value = false;
    else
        return bad(scan, "true or false is expected");
    return true;
}

static bool skip_members(struct fl_scan *scan, char opening, char closing)
{
    bool first = true;

    if (!fl_scan_open(scan, opening))
        return false;
    while (fl_scan_more(scan, closing, &first)) {
        const char *name;
        size_t len;

        if (opening == '{' && !fl_scan_name(scan, &name, &len))
            return false;
        if (!fl_scan_skip(scan))
            return false;
    }
    return !scan->err.code;
}

bool fl_scan_skip(struct fl_scan *scan)
{
    const char next = fl_scan_peek(scan), *text;
    double number;
    size_t len;
    bool escaped;

    switch (next) {
    case '{':
        return skip_members(scan, '{', '}');
    case '[':
        return skip_members(scan, '[', ']');
    case '"':
        return take_quoted(scan, &text, &len, &escaped);
    case 't':
    case 'f':
        return fl_scan_bool(scan, &escaped);
    case 'n':
        return take_word(scan, "null") || bad(scan, "that is no value");
    default:
        return take_number(scan, &number);
    }
}

bool fl_scan_end(struct fl_scan *scan)
{
    (void)fl_scan_peek(scan);
    if (scan->at != scan->end)
        return bad(scan, "something stands behind the value");
    return !scan->err.code;
}

/* Numbers */

void fl_numbers_finish(struct fl_numbers *numbers)
{
    free(numbers->items);
}

void fl_numbers_reserve(struct fl_numbers *numbers, size_t count)
{
    assert(count <= numbers->max);

    if (count <= numbers->room)
        return;
    numbers->room = count;
    numbers->items = fl_realloc(numbers->items, count * sizeof(float));
}

bool fl_numbers_add(struct fl_numbers *numbers, float number)
{
    if (numbers->count == numbers->room) {
        if (numbers->count >= numbers->max)
            return false;
        numbers->room = numbers->room ? numbers->room * 2 : 1024;
        if (numbers->room > numbers->max)
            numbers->room = numbers->max;
        numbers->items = fl_realloc(numbers->items, numbers->room * sizeof(float));
    }
    numbers->items[numbers->count++] = number;
    return true;
}

bool fl_scan_number(struct fl_scan *scan, float *ret_value)
{
    const char next = fl_scan_peek(scan);
    double value = 0;
    bool truth = false;

    if (next == 't' || next == 'f') {
        if (!fl_scan_bool(scan, &truth))
            return false;
        value = truth;
    } else if (!take_number(scan, &value)) {
        return false;
    }
    if (!(fabs(value) <= (double)FLT_MAX))
        return bad(scan, "a number that is too large for FP32");
    *ret_value = (float)value;
    return true;
}

static bool take_element(struct fl_scan *scan, struct fl_numbers *numbers)
{
    float value;

    if (!fl_scan_number(scan, &value))
        return false;
    return fl_numbers_add(numbers, value) ||
           fl_scan_fail(scan, FL_E_TOO_LARGE, "more than %zu numbers", numbers->max);
}

/* What most bodies consist of: numbers with a comma and perhaps a space between. Stops before
 * whatever else there is, an element being due: the careful way takes it from there. */
static void take_plain(struct fl_scan *scan, struct fl_numbers *numbers, int64_t *count)
{
    const char *at = scan->at + (*scan->at == ' ');
    double value = 0;

    while (numbers->count < numbers->room) {
        const char *behind = fl_decimal_read(at, scan->end, &value);

        if (!behind || *behind != ',' || !(fabs(value) <= (double)FLT_MAX))
            break;
        numbers->items[numbers->count++] = (float)value;
        ++*count;
        at = behind + 1;
        at += *at == ' ';
    }
    scan->at = at;
}

static bool take_array(struct fl_scan *scan, struct fl_numbers *numbers, unsigned level);

/* An element of an array at this level: all of one array are of one kind. */
static bool take_member(struct fl_scan *scan, struct fl_numbers *numbers, unsigned level,
                        int64_t *count)
{
    const bool is_array = fl_scan_peek(scan) == '[';

    if (numbers->rank == 0 && !is_array)
        numbers->rank = level + 1; /* the innermost level is known now */
    if (numbers->rank > 0 && is_array != (level + 1 < numbers->rank))
        return bad(scan, "rows of different depth");
    ++*count;
    if (is_array)
        return take_array(scan, numbers, level + 1);
    if (!take_element(scan, numbers))
        return false;
    if (*scan->at == ',') {
        scan->at++;
        take_plain(scan, numbers, count);
        ++*count;
        return take_element(scan, numbers);
    }
    return true;
}

/* `level` arrays are open. */
static bool take_array(struct fl_scan *scan, struct fl_numbers *numbers, unsigned level)
{
    int64_t count = 0;
    bool first = true;

    if (level >= FL_SCAN_RANK_MAX)
        return bad(scan, "arrays nested too deep");
    if (!fl_scan_open(scan, '['))
        return false;
    while (fl_scan_more(scan, ']', &first))
        if (!take_member(scan, numbers, level, &count))
            return false;
    if (scan->err.code)
        return false;
    if (numbers->rank == 0)
        numbers->rank = level + 1; /* empty */
    if (numbers->shape[level] >= 0 && numbers->shape[level] != count)
        return bad(scan, "rows of different length");
    if (level + 1 > numbers->rank)
        return bad(scan, "rows of different depth");
    numbers->shape[level] = count;
    return true;
}

bool fl_scan_numbers(struct fl_scan *scan, struct fl_numbers *numbers)
{
    numbers->rank = 0;
    for (unsigned i = 0; i < FL_SCAN_RANK_MAX; i++)
        numbers->shape[i] = -1;
    if (fl_scan_peek(scan) != '[')
        return take_element(scan, numbers);
    return take_array(scan, numbers, 0);
}
