/* gzip of a whole text (zlib). Any thread. */
#ifndef FL_LIB_GZIP_H
#define FL_LIB_GZIP_H

#include "lib/buf.h"

#include <stddef.h>

/* Appends the packed form, at the fastest level; < 0 where zlib refuses. */
int fl_gzip(const void *data, size_t len, struct fl_buf *packed);

#endif
