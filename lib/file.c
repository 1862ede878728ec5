#include "lib/file.h"

#include "lib/str.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void closep(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

static ssize_t read_some(int fd, void *data, size_t len)
{
    ssize_t n;

    do
        n = read(fd, data, len);
    while (n < 0 && errno == EINTR);
    return n;
}

/* One byte more than expected is asked for, so that the end is seen without growing first. */
static size_t first_guess(int fd, size_t max_bytes)
{
    struct stat st;
    size_t guess = 4096;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
        guess = (size_t)st.st_size;
    return guess < max_bytes ? guess : max_bytes;
}

int fl_fd_read(int fd, size_t max_bytes, struct fl_bytes **ret_bytes, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    size_t used = 0, room;

    assert(fd >= 0 && max_bytes < SIZE_MAX / 4);

    room = first_guess(fd, max_bytes) + 1;
    bytes = fl_bytes_new(NULL, room);
    for (;;) {
        ssize_t n = read_some(fd, bytes->data + used, room - used);

        if (n < 0)
            return fl_error_errno(err, errno, "read");
        if (n == 0)
            break;
        used += (size_t)n;
        if (used > max_bytes)
            return fl_error_set(err, FL_E_TOO_LARGE, "more than %zu bytes", max_bytes);
        if (used == room) {
            room = room * 2 <= max_bytes ? room * 2 : max_bytes + 1;
            bytes = fl_realloc(bytes, sizeof(*bytes) + room + 1);
        }
    }
    bytes = fl_realloc(bytes, sizeof(*bytes) + used + 1);
    bytes->len = used;
    bytes->data[used] = '\0';
    *ret_bytes = FL_TAKE(bytes);
    return 0;
}

int fl_file_read(const char *path, size_t max_bytes, struct fl_bytes **ret_bytes,
                 struct fl_error *err)
{
    FL_CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return fl_error_errno(err, errno, "open %s", path);
    if (fstat(fd, &st) != 0)
        return fl_error_errno(err, errno, "stat %s", path);
    if (S_ISDIR(st.st_mode))
        return fl_error_set(err, FL_E_BAD_REQUEST, "%s is a directory", path);
    if (fl_fd_read(fd, max_bytes, ret_bytes, err) < 0)
        return fl_error_wrap(err, "read %s", path);
    return 0;
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Mode first: a secret must not be readable for a moment. */
static int fill_and_sync(int fd, const struct fl_file_part *parts, size_t count, mode_t mode)
{
    int r = fchmod(fd, mode) == 0 ? 0 : -errno;

    for (size_t i = 0; r == 0 && i < count; i++)
        r = write_all(fd, parts[i].data, parts[i].len);
    if (r < 0)
        return r;
    return fsync(fd) == 0 ? 0 : -errno;
}

/* The folder part of `path`: "a/b" gives "a", "b" gives ".", "/b" gives "/". */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return fl_strdup(".");
    return slash == path ? fl_strdup("/") : fl_strndup(path, (size_t)(slash - path));
}

/* Without this the rename itself could be lost with the power. */
static int sync_folder_of(const char *path)
{
    FL_CLEANUP(fl_freep) char *folder = folder_of(path);
    FL_CLEANUP(closep) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) != 0)
        return -errno;
    return 0;
}

int fl_file_write_parts(const char *path, const struct fl_file_part *parts, size_t count,
                        mode_t mode, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *temporary = fl_asprintf("%s.XXXXXX", path);
    FL_CLEANUP(closep) int fd = mkostemp(temporary, O_CLOEXEC);
    int r;

    if (fd < 0)
        return fl_error_errno(err, errno, "create %s", temporary);
    r = fill_and_sync(fd, parts, count, mode);
    if (r == 0 && rename(temporary, path) != 0)
        r = -errno;
    if (r < 0) {
        (void)unlink(temporary);
        return fl_error_errno(err, -r, "write %s", path);
    }
    r = sync_folder_of(path);
    if (r < 0)
        return fl_error_errno(err, -r, "sync the folder of %s", path);
    return 0;
}

int fl_file_write(const char *path, const void *data, size_t len, mode_t mode, struct fl_error *err)
{
    const struct fl_file_part part = {data, len};

    return fl_file_write_parts(path, &part, 1, mode, err);
}

static int make_one(const char *path, mode_t mode, struct fl_error *err)
{
    struct stat st;
    int errnum;

    if (mkdir(path, mode) == 0)
        return 0;
    errnum = errno;
    /* It may be there although mkdir says "read-only" or "permission" rather than "exists". */
    if (stat(path, &st) != 0)
        return fl_error_errno(err, errnum, "make %s", path);
    if (!S_ISDIR(st.st_mode))
        return fl_error_set(err, FL_E_ALREADY_EXISTS, "%s is there and not a directory", path);
    return 0;
}

int fl_dir_ensure(const char *path, mode_t mode, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *partial = fl_strdup(path);

    if (!*path)
        return fl_error_set(err, FL_E_BAD_REQUEST, "a directory needs a name");
    for (char *slash = strchr(partial + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        int r;

        *slash = '\0';
        r = make_one(partial, mode, err);
        if (r < 0)
            return r;
        *slash = '/';
    }
    return make_one(partial, mode, err);
}

static int remove_entries(int fd, struct fl_error *err)
{
    DIR *dir = fdopendir(fd);
    const struct dirent *entry;
    int r = 0;

    if (!dir) {
        r = fl_error_errno(err, errno, "fdopendir");
        (void)close(fd);
        return r;
    }
    while (r == 0 && (entry = readdir(dir))) {
        int child;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            unlinkat(dirfd(dir), entry->d_name, 0) == 0)
            continue;
        child = openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        r = child < 0 ? fl_error_errno(err, errno, "%s", entry->d_name)
                      : remove_entries(child, err);
        if (r == 0 && unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
            r = fl_error_errno(err, errno, "%s", entry->d_name);
    }
    (void)closedir(dir);
    return r;
}

/* > 0: there is none. */
static int empty_folder(const char *path, struct fl_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT)
        return 1;
    return fd < 0 ? fl_error_errno(err, errno, "open it") : remove_entries(fd, err);
}

int fl_dir_empty(const char *path, struct fl_error *err)
{
    int r = empty_folder(path, err);

    return r < 0 ? fl_error_wrap(err, "empty %s", path) : 0;
}

int fl_dir_remove(const char *path, struct fl_error *err)
{
    int r = empty_folder(path, err);

    if (r == 0 && rmdir(path) < 0 && errno != ENOENT)
        r = fl_error_errno(err, errno, "rmdir");
    return r < 0 ? fl_error_wrap(err, "remove %s", path) : 0;
}
