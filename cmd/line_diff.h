/* A unified diff of two texts, line by line (Myers). Bounded: texts that differ in more than
 * FL_LINE_DIFF_MAX lines show their middle as replaced whole, which is right, only longer. */
#ifndef FL_CMD_LINE_DIFF_H
#define FL_CMD_LINE_DIFF_H

#include "lib/buf.h"

#include <stdbool.h>

#define FL_LINE_DIFF_MAX 2000

struct fl_line_diff_options {
    const char *old_name, *new_name;
    bool colors;
};

/* Appends nothing where they are the same. True where they differ. */
bool fl_line_diff(const char *old_text, const char *new_text,
                  const struct fl_line_diff_options *options, struct fl_buf *out);

#endif
