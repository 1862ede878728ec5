#include "cmd/paint.h"

#include "lib/text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PART_MAX 1024 /* bytes of one text */
#define GAP      2

static const char *const codes[] = {
    [FL_PAINT_BOLD] = "\033[1m",  [FL_PAINT_DIM] = "\033[2m",  [FL_PAINT_GOOD] = "\033[32m",
    [FL_PAINT_BUSY] = "\033[33m", [FL_PAINT_BAD] = "\033[31m",
};

static void begin(struct fl_paint *paint, enum fl_paint_style style)
{
    if (paint->colors && style != FL_PAINT_PLAIN)
        fl_buf_puts(paint->out, codes[style]);
}

static void end(struct fl_paint *paint, enum fl_paint_style style)
{
    if (paint->colors && style != FL_PAINT_PLAIN)
        fl_buf_puts(paint->out, "\033[0m");
}

size_t fl_paint_left(const struct fl_paint *paint)
{
    if (paint->width == 0)
        return SIZE_MAX;
    return paint->used < paint->width ? paint->width - paint->used : 0;
}

static void put(struct fl_paint *paint, enum fl_paint_style style, const char *text, size_t columns)
{
    const size_t left = fl_paint_left(paint);

    if (left == 0)
        return;
    begin(paint, style);
    paint->used += fl_text_put(paint->out, text, columns < left ? columns : left, paint->utf8);
    end(paint, style);
}

void fl_paint_text(struct fl_paint *paint, enum fl_paint_style style, const char *fmt, ...)
{
    char text[PART_MAX];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    put(paint, style, text, SIZE_MAX);
}

static void spaces(struct fl_paint *paint, size_t columns)
{
    for (; columns > 0 && fl_paint_left(paint) > 0; columns--) {
        fl_buf_putc(paint->out, ' ');
        paint->used++;
    }
}

void fl_paint_cell(struct fl_paint *paint, enum fl_paint_style style, size_t columns,
                   const char *text)
{
    const size_t before = paint->used;

    put(paint, style, text, columns);
    if (paint->used - before < columns)
        spaces(paint, columns - (paint->used - before));
}

void fl_paint_right(struct fl_paint *paint, enum fl_paint_style style, const char *text)
{
    const size_t columns = fl_text_columns(text), left = fl_paint_left(paint);

    spaces(paint, paint->width > 0 && left > columns + GAP ? left - columns : GAP);
    put(paint, style, text, SIZE_MAX);
}

void fl_paint_repeat(struct fl_paint *paint, enum fl_paint_style style, const char *sign,
                     const char *plain_sign, size_t times)
{
    const size_t left = fl_paint_left(paint);

    times = times < left ? times : left;
    if (times == 0)
        return;
    begin(paint, style);
    for (size_t i = 0; i < times; i++)
        fl_buf_puts(paint->out, paint->utf8 ? sign : plain_sign);
    end(paint, style);
    paint->used += times;
}

void fl_paint_lines(struct fl_paint *paint, const char *lines)
{
    const char *newline;

    for (; (newline = strchr(lines, '\n')); lines = newline + 1) {
        FL_CLEANUP(fl_freep) char *line = fl_strndup(lines, (size_t)(newline - lines));

        put(paint, FL_PAINT_PLAIN, line, SIZE_MAX);
        fl_paint_end_line(paint);
    }
}

/* No spaces at the end: what is copied from a screen has none either. */
void fl_paint_end_line(struct fl_paint *paint)
{
    struct fl_buf *out = paint->out;

    while (out->len > 0 && out->data[out->len - 1] == ' ')
        out->data[--out->len] = '\0';
    fl_buf_putc(out, '\n');
    paint->used = 0;
}
