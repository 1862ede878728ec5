/* Whole files: bounded reads, atomic durable writes. Any thread. */
#ifndef FL_LIB_FILE_H
#define FL_LIB_FILE_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stddef.h>
#include <sys/types.h>

/* Reads a whole regular file (or pipe) of at most max_bytes; TOO_LARGE above. NUL-terminated. */
int fl_file_read(const char *path, size_t max_bytes, struct fl_bytes **ret_bytes,
                 struct fl_error *err);
int fl_fd_read(int fd, size_t max_bytes, struct fl_bytes **ret_bytes, struct fl_error *err);

/* Writes to a temporary file beside `path`, syncs, renames over it, syncs the folder: after a crash
 * the old content or the new is there, whole. */
int fl_file_write(const char *path, const void *data, size_t len, mode_t mode,
                  struct fl_error *err);

/* The same from several pieces, one behind the other. */
struct fl_file_part {
    const void *data;
    size_t len;
};
int fl_file_write_parts(const char *path, const struct fl_file_part *parts, size_t count,
                        mode_t mode, struct fl_error *err);

/* mkdir -p with `mode` for what is made. */
int fl_dir_ensure(const char *path, mode_t mode, struct fl_error *err);

/* rm -rf: a folder with all in it. Gone already is fine. Follows no links. */
int fl_dir_remove(const char *path, struct fl_error *err);
/* All that is in it, and not the folder itself. Gone already is fine. */
int fl_dir_empty(const char *path, struct fl_error *err);

#endif
