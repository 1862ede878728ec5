#include "cmd/chart.h"

#include "lib/str.h"

#include <math.h>
#include <stdlib.h>

#define EIGHTHS     8
#define SCALE_WIDTH 10

static const char *const blocks[EIGHTHS + 1] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
static const char *const plain_blocks[EIGHTHS + 1] = {" ", ".", ".", ".", ":", ":", "|", "|", "#"};
static const char *const plain_steps[EIGHTHS + 1] = {" ", "_", ".", ",", "-", "~", "=", "*", "#"};

struct columns {
    double *values; /* NAN: none */
    size_t count;
    double low, high;
};

/* The mean of the values that fall into a column. */
static double column_of(const struct fl_chart *chart, size_t columns, size_t column)
{
    const size_t from = column * chart->count / columns, to = (column + 1) * chart->count / columns;
    double sum = 0;
    size_t count = 0;

    for (size_t i = from; i < to; i++)
        if (!isnan(chart->values[i])) {
            sum += chart->values[i];
            count++;
        }
    return count > 0 ? sum / (double)count : NAN;
}

static void widen(struct columns *columns, double value)
{
    if (isnan(value))
        return;
    columns->low = value < columns->low ? value : columns->low;
    columns->high = value > columns->high ? value : columns->high;
}

static struct columns gather(const struct fl_chart *chart)
{
    struct columns columns = {.count = chart->count < chart->width ? chart->count : chart->width,
                              .low = INFINITY,
                              .high = -INFINITY};

    columns.values = fl_calloc(columns.count + 1, sizeof(double));
    for (size_t i = 0; i < columns.count; i++) {
        const double value = column_of(chart, columns.count, i);

        columns.values[i] = value;
        widen(&columns, value);
    }
    return columns;
}

/* From 1, so that the lowest is seen, to all there are. */
static long level_of(const struct columns *columns, double value, size_t height)
{
    const double span = columns->high - columns->low;
    const long all = (long)(height * EIGHTHS);

    if (isnan(value))
        return 0;
    return span > 0 ? 1 + lround((value - columns->low) / span * (double)(all - 1)) : all / 2;
}

static void draw_line(struct fl_buf *out, const struct columns *columns, size_t height, size_t line,
                      bool plain)
{
    const long below = (long)((height - 1 - line) * EIGHTHS);

    for (size_t i = 0; i < columns->count; i++) {
        long part = level_of(columns, columns->values[i], height) - below;

        part = part < 0 ? 0 : part > EIGHTHS ? EIGHTHS : part;
        fl_buf_puts(out, plain ? plain_blocks[part] : blocks[part]);
    }
    fl_buf_putc(out, '\n');
}

void fl_chart_draw(struct fl_buf *out, const struct fl_chart *chart)
{
    struct columns columns = gather(chart);
    const char *bar = chart->plain ? "|" : "│";

    if (columns.low <= columns.high) {
        for (size_t line = 0; line < chart->height; line++) {
            if (line == 0)
                fl_buf_printf(out, "%*.4g %s", SCALE_WIDTH, columns.high, bar);
            else if (line == chart->height - 1)
                fl_buf_printf(out, "%*.4g %s", SCALE_WIDTH, columns.low, bar);
            else
                fl_buf_printf(out, "%*s %s", SCALE_WIDTH, "", bar);
            draw_line(out, &columns, chart->height, line, chart->plain);
        }
        fl_buf_printf(out, chart->plain ? "%*s + %s ... %s\n" : "%*s └ %s … %s\n", SCALE_WIDTH, "",
                      fl_str_or(chart->first, ""), fl_str_or(chart->last, ""));
    }
    free(columns.values);
}

size_t fl_chart_spark(struct fl_buf *out, const double *values, size_t count, size_t columns,
                      bool utf8)
{
    const size_t from = count > columns ? count - columns : 0;
    struct columns shown = {.values = (double *)values + from,
                            .count = count - from,
                            .low = INFINITY,
                            .high = -INFINITY};

    for (size_t i = 0; i < shown.count; i++)
        widen(&shown, shown.values[i]);
    for (size_t i = 0; i < shown.count; i++) {
        const long level = level_of(&shown, shown.values[i], 1);

        fl_buf_puts(out, utf8 ? blocks[level] : plain_steps[level]);
    }
    return shown.count;
}
