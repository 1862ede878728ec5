/* Lines for a terminal or a pipe, painted from left to right: each part is made safe to show,
 * clipped to what is left of the line, and coloured where colours are wanted. Pure; one thread. */
#ifndef FL_CMD_PAINT_H
#define FL_CMD_PAINT_H

#include "lib/buf.h"

#include <stdbool.h>
#include <stddef.h>

enum fl_paint_style {
    FL_PAINT_PLAIN,
    FL_PAINT_BOLD,
    FL_PAINT_DIM,
    FL_PAINT_GOOD,
    FL_PAINT_BUSY,
    FL_PAINT_BAD,
};

struct fl_paint {
    struct fl_buf *out;
    size_t width; /* 0: a line has no end */
    bool utf8, colors;
    size_t used; /* columns of the line under way */
};

/* Text, from where the line is; "…" where it does not fit. Never a newline. */
void fl_paint_text(struct fl_paint *paint, enum fl_paint_style style, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Text of exactly so many columns: clipped, or filled up with spaces. */
void fl_paint_cell(struct fl_paint *paint, enum fl_paint_style style, size_t columns,
                   const char *text);
/* At the end of the line, where it has one and there is room; else after a gap. */
void fl_paint_right(struct fl_paint *paint, enum fl_paint_style style, const char *text);
/* One sign so many times: the first where UTF-8 is shown. */
void fl_paint_repeat(struct fl_paint *paint, enum fl_paint_style style, const char *sign,
                     const char *plain_sign, size_t times);
/* Lines that were made elsewhere, each ended by a newline: clipped and made safe. */
void fl_paint_lines(struct fl_paint *paint, const char *lines);
size_t fl_paint_left(const struct fl_paint *paint); /* columns; SIZE_MAX where there is no end */
void fl_paint_end_line(struct fl_paint *paint);

#endif
