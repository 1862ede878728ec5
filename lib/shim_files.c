/* The files of a spec. Each part of a path is entered without following links, so that what an
 * earlier run left in a folder that is kept cannot lead outside. */
#include "lib/process.h"
#include "lib/shim_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One that is there stays as it is; one that the user could not enter is not left there. */
static int make_folder(int at, const char *name, int64_t user)
{
    int errnum;

    if (mkdirat(at, name, 0700) != 0)
        return errno == EEXIST ? 0 : -1;
    if (user < 0 || fchownat(at, name, (uid_t)user, (gid_t)user, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    errnum = errno;
    (void)unlinkat(at, name, AT_REMOVEDIR);
    errno = errnum;
    return -1;
}

/* Opens the folder that a file is in; *ret_name is the last part of the path. */
static int open_parent(const char *folder, const char *path, bool make, int64_t user,
                       const char **ret_name)
{
    int at = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC), errnum;
    const char *slash;

    for (; at >= 0 && (slash = strchr(path, '/')); path = slash + 1) {
        FL_CLEANUP(fl_freep) char *part = fl_strndup(path, (size_t)(slash - path));
        int next;

        next = make ? make_folder(at, part, user) : 0;
        if (next == 0)
            next = openat(at, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        errnum = errno;
        (void)close(at);
        errno = errnum;
        at = next;
    }
    *ret_name = path;
    return at;
}

static int fill(int fd, const struct fl_shim_file *file, int64_t user)
{
    const char *data = file->data;
    size_t len = file->len;

    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        data += n;
        len -= (size_t)n;
    }
    if (user >= 0 && fchown(fd, (uid_t)user, (gid_t)user) != 0)
        return errno;
    return fchmod(fd, file->mode) == 0 ? 0 : errno;
}

/* Never takes the place of a file that is there: it would be somebody's, and lost at the end. */
static int put_file(const struct fl_shim_spec *spec, const struct fl_shim_file *file,
                    struct fl_error *err)
{
    const char *name;
    FL_CLEANUP(fl_fd_closep)
    int parent = open_parent(spec->working_folder, file->path, true, spec->user, &name);
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    int r;

    if (parent < 0)
        return fl_error_errno(err, errno, "folder of file %s", file->path);
    fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fl_error_errno(err, errno, "create file %s", file->path);
    r = fill(fd, file, spec->user);
    if (r) {
        (void)unlinkat(parent, name, 0);
        return fl_error_errno(err, r, "write file %s", file->path);
    }
    return 0;
}

static void remove_files(const struct fl_shim_spec *spec, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *name;
        int parent =
            open_parent(spec->working_folder, spec->files[i].path, false, spec->user, &name);

        if (parent >= 0) {
            (void)unlinkat(parent, name, 0);
            (void)close(parent);
        }
    }
}

void fl_shim_remove_files(const struct fl_shim_spec *spec)
{
    remove_files(spec, spec->file_count);
}

int fl_shim_put_files(const struct fl_shim_spec *spec, struct fl_error *err)
{
    for (size_t i = 0; spec->user >= 0 && i < spec->owned.count; i++)
        if (lchown(spec->owned.items[i], (uid_t)spec->user, (gid_t)spec->user) != 0)
            return fl_error_errno(err, errno, "give %s to user %lld", spec->owned.items[i],
                                  (long long)spec->user);
    for (size_t i = 0; i < spec->file_count; i++) {
        int r = put_file(spec, &spec->files[i], err);

        if (r < 0) {
            remove_files(spec, i);
            return r;
        }
    }
    return 0;
}
