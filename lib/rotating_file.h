/* A file that is appended to and rotated by size: path, path.1 … path.N, the oldest goes. One
 * thread. */
#ifndef FL_LIB_ROTATING_FILE_H
#define FL_LIB_ROTATING_FILE_H

#include "lib/error.h"

#include <stddef.h>

struct fl_rotating_file;

/* Opens for appending (mode 0600 where it is made); `kept` counts the old ones. */
int fl_rotating_file_open(const char *path, size_t max_bytes, unsigned kept,
                          struct fl_rotating_file **ret_file, struct fl_error *err);
/* Whole records: one is never split between two files. What the disk refuses is an error. */
int fl_rotating_file_write(struct fl_rotating_file *file, const void *data, size_t len,
                           struct fl_error *err);
/* What fits into the file before it is rotated. */
size_t fl_rotating_file_room(const struct fl_rotating_file *file);
void fl_rotating_file_close(struct fl_rotating_file *file);

#endif
