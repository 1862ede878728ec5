#include "lib/rotating_file.h"

#include "lib/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct fl_rotating_file {
    char *path;
    int fd; /* -1: to be opened again */
    size_t size, max_bytes;
    unsigned kept;
};

static int open_current(struct fl_rotating_file *file, struct fl_error *err)
{
    struct stat st;

    file->fd = open(file->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file->fd < 0 || fstat(file->fd, &st) != 0)
        return fl_error_errno(err, errno, "open %s", file->path);
    file->size = (size_t)st.st_size;
    return 0;
}

int fl_rotating_file_open(const char *path, size_t max_bytes, unsigned kept,
                          struct fl_rotating_file **ret_file, struct fl_error *err)
{
    struct fl_rotating_file *file = fl_calloc(1, sizeof(*file));
    int r;

    file->path = fl_strdup(path);
    file->max_bytes = max_bytes;
    file->kept = kept;
    r = open_current(file, err);
    if (r < 0) {
        fl_rotating_file_close(file);
        return r;
    }
    *ret_file = file;
    return 0;
}

static void rotate(struct fl_rotating_file *file)
{
    for (unsigned i = file->kept; i > 0; i--) {
        FL_CLEANUP(fl_freep) char *to = fl_asprintf("%s.%u", file->path, i);
        FL_CLEANUP(fl_freep)
        char *from = i > 1 ? fl_asprintf("%s.%u", file->path, i - 1) : fl_strdup(file->path);

        (void)rename(from, to); /* the old ones may not be there yet */
    }
    if (file->kept == 0)
        (void)unlink(file->path);
    if (file->kept == 0)
        (void)unlink(file->path);
    (void)close(file->fd);
    file->fd = -1;
}

int fl_rotating_file_write(struct fl_rotating_file *file, const void *data, size_t len,
                           struct fl_error *err)
{
    const char *rest = data;

    if (file->fd >= 0 && file->size + len > file->max_bytes && file->size > 0)
        rotate(file);
    if (file->fd < 0 && open_current(file, err) < 0)
        return err ? err->code : FL_E_INTERNAL;
    while (len > 0) {
        ssize_t n = write(file->fd, rest, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fl_error_errno(err, errno, "write %s", file->path);
        rest += n;
        len -= (size_t)n;
        file->size += (size_t)n;
    }
    return 0;
}

size_t fl_rotating_file_room(const struct fl_rotating_file *file)
{
    return file->size < file->max_bytes ? file->max_bytes - file->size : 0;
}

void fl_rotating_file_close(struct fl_rotating_file *file)
{
    if (!file)
        return;
    if (file->fd >= 0)
        (void)close(file->fd);
    free(file->path);
    free(file);
}
