/* MLflow's scoring protocol as CSV: a line with the columns' names, then a row a line. */
#include "workloads/serve/request_internal.h"

#include "workloads/serve/decimal.h"

#include <float.h>
#include <math.h>
#include <string.h>

struct line {
    const char *at, *end; /* without its line break */
    size_t number;        /* from 1 */
};

/* Names may be quoted, with commas within and quotes doubled; no line breaks. */
static size_t count_names(const struct line *line)
{
    size_t count = 1;
    bool quoted = false;

    for (const char *at = line->at; at < line->end; at++) {
        quoted ^= *at == '"';
        count += *at == ',' && !quoted;
    }
    return count;
}

static bool check_names(struct fl_reading *reading, const struct line *line)
{
    const size_t count = count_names(line), width = reading->signature->width;

    return count == width ||
           fl_scan_fail(&reading->scan, FL_E_INVALID,
                        "the first line names %zu columns; %zu are expected", count, width);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* One number with spaces around; NULL where there is none. */
static const char *read_cell(const char *at, const char *end, double *ret_value)
{
    while (at < end && is_blank(*at))
        at++;
    at = fl_decimal_read(at, end, ret_value);
    while (at && at < end && is_blank(*at))
        at++;
    return at && fabs(*ret_value) <= (double)FLT_MAX ? at : NULL;
}

static bool wrong_width(struct fl_reading *reading, const struct line *line, size_t seen)
{
    return fl_scan_fail(
        &reading->scan, FL_E_INVALID, "line %zu has %s%zu columns; %zu are expected", line->number,
        seen > reading->signature->width ? "more than " : "",
        seen > reading->signature->width ? seen - 1 : seen, reading->signature->width);
}

static bool read_row(struct fl_reading *reading, const struct line *line)
{
    const size_t width = reading->signature->width;
    const char *at = line->at;
    size_t seen = 0;

    for (;;) {
        double value = 0;
        const char *behind = read_cell(at, line->end, &value);

        if (++seen > width)
            return wrong_width(reading, line, seen);
        if (!behind || (behind < line->end && *behind != ','))
            return fl_scan_fail(&reading->scan, FL_E_BAD_REQUEST,
                                "line %zu, column %zu: a number is expected", line->number, seen);
        if (!fl_numbers_add(&reading->ask->rows, (float)value))
            return fl_reading_too_many(reading);
        if (behind == line->end)
            break;
        at = behind + 1;
    }
    reading->ask->count++;
    return seen == width || wrong_width(reading, line, seen);
}

static bool read_csv(struct fl_reading *reading, const char *body, size_t len)
{
    const char *end = body + len;
    struct line line = {.at = body};

    while (line.at < end) {
        const char *newline = memchr(line.at, '\n', (size_t)(end - line.at));
        const char *next = newline ? newline + 1 : end;

        line.end = newline ? newline : end;
        line.number++;
        if (line.end > line.at && line.end[-1] == '\r')
            line.end--;
        if (line.number == 1 ? !check_names(reading, &line)
                             : line.end > line.at && !read_row(reading, &line))
            return false;
        line.at = next;
    }
    return true;
}

int fl_ask_read_csv(struct fl_arena *arena, const struct fl_signature *signature, const char *body,
                    size_t len, struct fl_ask *ask, struct fl_error *err)
{
    struct fl_reading reading = fl_reading_begin(arena, signature, body, len, ask);

    return fl_reading_end(&reading, read_csv(&reading, body, len), err);
}
