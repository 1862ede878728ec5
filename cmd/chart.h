/* A curve in a terminal, of block characters: an eighth of a line is its finest step. Text only, no
 * terminal is asked. */
#ifndef FL_CMD_CHART_H
#define FL_CMD_CHART_H

#include "lib/buf.h"

#include <stddef.h>

struct fl_chart {
    const double *values; /* one each x, in order; NAN: none */
    size_t count;
    const char *first, *last; /* what stands below the first and the last */
    size_t width, height;     /* of the drawing, in characters; more values than that are means */
};
/* Lines with a scale at the left. Nothing where there is no value at all. */
void fl_chart_draw(struct fl_buf *out, const struct fl_chart *chart);

#endif
