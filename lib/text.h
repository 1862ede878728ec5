/* Text as a terminal shows it: how many columns it takes, what of it fits, and what of it is safe
 * to show. Pure; any thread.
 *
 * Characters of East Asian scripts and pictures take two columns, those that stand upon others
 * none. What could command a terminal (control characters, those that turn the direction of
 * writing) never comes out of here. */
#ifndef FL_LIB_TEXT_H
#define FL_LIB_TEXT_H

#include "lib/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of one character: 0, 1 or 2. */
unsigned fl_text_columns_of(uint32_t character);
/* As fl_text_put shows it, without a bound. */
size_t fl_text_columns(const char *text);

/* Appends at most `columns` columns of the text; what does not fit ends in an ellipsis. Control
 * characters become spaces, bad bytes '?', and where the terminal is not `utf8` so does all that is
 * not ASCII. Returns the columns taken. */
size_t fl_text_put(struct fl_buf *out, const char *text, size_t columns, bool utf8);

#endif
