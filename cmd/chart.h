/* A curve in a terminal, of block characters: an eighth of a line is its finest step. Text only, no
 * terminal is asked. */
#ifndef FL_CMD_CHART_H
#define FL_CMD_CHART_H

#include "lib/buf.h"

#include <stdbool.h>
#include <stddef.h>

struct fl_chart {
    const double *values; /* one each x, in order; NAN: none */
    size_t count;
    const char *first, *last; /* what stands below the first and the last */
    size_t width, height;     /* of the drawing, in characters; more values than that are means */
    bool plain;               /* ASCII only, a line its finest step */
};
/* Lines with a scale at the left. Nothing where there is no value at all. */
void fl_chart_draw(struct fl_buf *out, const struct fl_chart *chart);

/* One line of at most `columns` characters: the last values, each a block between the lowest and
 * the highest of them; a NAN is a gap. Signs of ASCII where the terminal is not `utf8`. Returns the
 * columns taken. */
size_t fl_chart_spark(struct fl_buf *out, const double *values, size_t count, size_t columns,
                      bool utf8);

#endif
