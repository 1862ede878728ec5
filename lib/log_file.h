/* Reads what a shim (lib/shim.h) wrote down of a program's output, as the program wrote it, across
 * rotated files and while they grow. One thread a reader. */
#ifndef FL_LIB_LOG_FILE_H
#define FL_LIB_LOG_FILE_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fl_log_file;

/* `folder`/`name` and its rotated ones; those that are not there yet may come. Begins with the last
 * `tail_lines`, < 0: with all; `timestamps`: each line behind its time and a space. */
int fl_log_file_open(const char *folder, const char *name, int64_t tail_lines, bool timestamps,
                     struct fl_log_file **ret_file, struct fl_error *err);
/* Bytes put into `out`; 0: no more for now. */
int64_t fl_log_file_read(struct fl_log_file *file, void *out, size_t size, struct fl_error *err);
void fl_log_file_close(struct fl_log_file *file);

#endif
