/* Folders of the shim's owner that a container's user reads as its own: bind mounts whose owners
 * are shown as others (mount_setattr(2), MOUNT_ATTR_IDMAP). Nothing on disk changes, and nobody
 * else may read more than before. */
#include "lib/process.h"
#include "lib/shim_internal.h"
#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/mount.h>

static bool write_map(pid_t pid, const char *name, unsigned shown_from, unsigned shown_as)
{
    char path[64], line[64];
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    int len = snprintf(line, sizeof(line), "%u %u 1", shown_from, shown_as);

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, line, (size_t)len) == len;
}

/* A namespace is made by a process that has nothing else to do, and dies. */
static void make_namespace(int told)
{
    char ok = unshare(CLONE_NEWUSER) == 0;

    (void)!write(told, &ok, 1);
    while (ok)
        (void)pause();
    _exit(0);
}

static int open_namespace(pid_t pid, int told, const struct stat *owner, unsigned user)
{
    char path[64], ok = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    if (read(told, &ok, 1) != 1 || !ok || !write_map(pid, "uid_map", owner->st_uid, user) ||
        !write_map(pid, "gid_map", owner->st_gid, user))
        return -1;
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* A user namespace in which the owner is `user`; < 0: none can be had. */
static int map_owner(const struct stat *owner, unsigned user)
{
    int told[2], fd;
    pid_t pid;

    if (pipe2(told, O_CLOEXEC) != 0)
        return -1;
    pid = fork();
    if (pid == 0)
        make_namespace(told[1]);
    (void)close(told[1]);
    fd = pid < 0 ? -1 : open_namespace(pid, told[0], owner, user);
    (void)close(told[0]);
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    return fd;
}

/* Where the kernel or the file system cannot show other owners, as they are. */
static void show_as(int tree, const struct stat *owner, int64_t user)
{
    FL_CLEANUP(fl_fd_closep) int map = -1;
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP};

    if (user < 0 || (uid_t)user == owner->st_uid)
        return;
    map = map_owner(owner, (unsigned)user);
    if (map < 0)
        return;
    attr.userns_fd = (uint64_t)map;
    (void)mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr));
}

static int lend(const struct fl_shim_spec *spec, size_t number, struct fl_error *err)
{
    const char *folder = spec->container.lent.items[number];
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
    FL_CLEANUP(fl_freep)
    char *place = fl_asprintf("%s/" FL_SHIM_LENT "%zu", spec->working_folder, number);
    FL_CLEANUP(fl_fd_closep)
    int tree = open_tree(AT_FDCWD, folder, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    struct stat owner;

    if (tree < 0 || fstat(tree, &owner) != 0)
        return fl_error_errno(err, errno, "lend %s", folder);
    show_as(tree, &owner, spec->user);
    if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) != 0 ||
        mkdir(place, 0700) != 0 ||
        move_mount(tree, "", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH) != 0)
        return fl_error_errno(err, errno, "mount %s", folder);
    return 0;
}

int fl_shim_lend(const struct fl_shim_spec *spec, struct fl_error *err)
{
    int r = 0;

    for (size_t i = 0; i < spec->container.lent.count && r == 0; i++)
        r = lend(spec, i, err);
    return r;
}
