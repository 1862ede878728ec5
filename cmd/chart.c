#include "cmd/chart.h"

#include "lib/str.h"

#include <math.h>
#include <stdlib.h>

#define EIGHTHS     8
#define SCALE_WIDTH 10

static const char *const blocks[EIGHTHS + 1] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};

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

static struct columns gather(const struct fl_chart *chart)
{
    struct columns columns = {.count = chart->count < chart->width ? chart->count : chart->width,
                              .low = INFINITY,
                              .high = -INFINITY};

    columns.values = fl_calloc(columns.count + 1, sizeof(double));
    for (size_t i = 0; i < columns.count; i++) {
        const double value = column_of(chart, columns.count, i);

        columns.values[i] = value;
        if (isnan(value))
            continue;
        columns.low = value < columns.low ? value : columns.low;
        columns.high = value > columns.high ? value : columns.high;
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

static void draw_line(struct fl_buf *out, const struct columns *columns, size_t height, size_t line)
{
    const long below = (long)((height - 1 - line) * EIGHTHS);

    for (size_t i = 0; i < columns->count; i++) {
        long part = level_of(columns, columns->values[i], height) - below;

        part = part < 0 ? 0 : part > EIGHTHS ? EIGHTHS : part;
        fl_buf_puts(out, blocks[part]);
    }
    fl_buf_putc(out, '\n');
}

void fl_chart_draw(struct fl_buf *out, const struct fl_chart *chart)
{
    struct columns columns = gather(chart);

    if (columns.low <= columns.high) {
        for (size_t line = 0; line < chart->height; line++) {
            if (line == 0)
                fl_buf_printf(out, "%*.4g │", SCALE_WIDTH, columns.high);
            else if (line == chart->height - 1)
                fl_buf_printf(out, "%*.4g │", SCALE_WIDTH, columns.low);
            else
                fl_buf_printf(out, "%*s │", SCALE_WIDTH, "");
            draw_line(out, &columns, chart->height, line);
        }
        fl_buf_printf(out, "%*s └ %s … %s\n", SCALE_WIDTH, "", fl_str_or(chart->first, ""),
                      fl_str_or(chart->last, ""));
    }
    free(columns.values);
}
