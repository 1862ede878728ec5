/* What a shim does for a container before and after the runtime's commands: mounts in a namespace
 * of its own, which end with it, and reading what the runtime left in files. */
#include "lib/process.h"
#include "lib/shim_internal.h"
#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEMORY_OPTIONS "mode=0700,size=96m"
#define OPTIONS_MAX    4096 /* the kernel takes a page */
#define ERROR_LOG_MAX  16384

/* What others mount is seen later, too; what is mounted here is not seen by others. */
static int leave_mounts(struct fl_error *err)
{
    if (unshare(CLONE_NEWNS) != 0)
        return fl_error_errno(err, errno, "make a mount namespace");
    if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) != 0)
        return fl_error_errno(err, errno, "keep mounts to itself");
    return 0;
}

/* Whatever the umask: the upper one is the container's root, which all its users enter. */
static bool make_folder(int fd, const char *name, mode_t mode)
{
    return (mkdirat(fd, name, mode) == 0 || errno == EEXIST) && fchmodat(fd, name, mode, 0) == 0;
}

static int open_changes(const struct fl_shim_spec *spec, struct fl_error *err)
{
    const char *folder = spec->container.changes ? spec->container.changes : spec->working_folder;
    int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return fl_error_errno(err, errno, "open %s", folder);
    if (!make_folder(fd, "upper", 0755) || !make_folder(fd, "work", 0700)) {
        int errnum = errno;

        (void)close(fd);
        return fl_error_errno(err, errnum, "make folders in %s", folder);
    }
    return fd;
}

/* Layers are named within their folder and changes by descriptor: paths could be too long in all,
 * or hold what separates them. */
static int write_options(const struct fl_shim_spec *spec, int changes, char out[OPTIONS_MAX],
                         struct fl_error *err)
{
    const struct fl_shim_list *layers = &spec->container.layers;
    size_t len = (size_t)snprintf(out, OPTIONS_MAX, "lowerdir=");

    for (size_t i = 0; i < layers->count && len < OPTIONS_MAX; i++)
        len +=
            (size_t)snprintf(out + len, OPTIONS_MAX - len, "%s%s", i ? ":" : "", layers->items[i]);
    if (len < OPTIONS_MAX)
        len += (size_t)snprintf(out + len, OPTIONS_MAX - len,
                                ",upperdir=/proc/self/fd/%d/upper,workdir=/proc/self/fd/%d/work",
                                changes, changes);
    if (len >= OPTIONS_MAX)
        return fl_error_set(err, FL_E_INVALID, "%zu layers are too many", layers->count);
    return 0;
}

static int mount_root(const struct fl_shim_spec *spec, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int changes = open_changes(spec, err);
    char options[OPTIONS_MAX];
    int r;

    if (changes < 0)
        return changes;
    r = write_options(spec, changes, options, err);
    if (r < 0)
        return r;
    if (chdir(spec->container.layers_folder) != 0)
        return fl_error_errno(err, errno, "enter %s", spec->container.layers_folder);
    if (mount("overlay", spec->container.root, "overlay", MS_NODEV, options) != 0)
        r = fl_error_errno(err, errno, "mount the image");
    return chdir("/") == 0 ? r : fl_error_errno(err, errno, "leave the layers");
}

int fl_shim_container_mount(const struct fl_shim_spec *spec, struct fl_error *err)
{
    int r;

    if (!spec->container.mounts)
        return 0;
    r = leave_mounts(err);
    if (r < 0)
        return r;
    if (mount("flops", spec->working_folder, "tmpfs", MS_NOSUID | MS_NODEV, MEMORY_OPTIONS) != 0)
        return fl_error_errno(err, errno, "put the working folder into memory");
    r = fl_shim_lend(spec, err);
    return r < 0 ? r : mount_root(spec, err);
}

static bool read_text(const char *path, char *out, size_t size)
{
    FL_CLEANUP(fl_fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);

    if (n < 0)
        return false;
    out[n] = '\0';
    return true;
}

pid_t fl_shim_container_pid(const struct fl_shim_spec *spec)
{
    char text[32];
    int64_t pid;

    if (!read_text(spec->container.pid_file, text, sizeof(text)))
        return 0;
    text[strspn(text, "0123456789")] = '\0';
    return fl_str_to_int64(text, 2, INT32_MAX, &pid) ? (pid_t)pid : 0;
}

/* A JSON text up to its end; what is escaped beyond quotes stays as it is. */
static void unescape(char *text)
{
    char *to = text;

    for (; *text && *text != '"'; text++) {
        if (*text == '\\' && (text[1] == '"' || text[1] == '\\' || text[1] == '/'))
            text++;
        *to++ = *text;
    }
    *to = '\0';
}

int fl_shim_container_problem(const struct fl_shim_spec *spec, struct fl_error *err)
{
    static const char key[] = "\"msg\":\"";
    char text[ERROR_LOG_MAX], *at, *last = NULL;

    if (!spec->container.error_log || !read_text(spec->container.error_log, text, sizeof(text)))
        return fl_error_set(err, FL_E_UNAVAILABLE, "%s fails and does not say why",
                            spec->command.items[0]);
    for (at = text; (at = strstr(at, key)); at += sizeof(key) - 1)
        last = at + sizeof(key) - 1;
    if (!last)
        return fl_error_set(err, FL_E_UNAVAILABLE, "%s fails: the output says why",
                            spec->command.items[0]);
    unescape(last);
    return fl_error_set(err, FL_E_UNAVAILABLE, "%s", last);
}
