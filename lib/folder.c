#include "lib/folder.h"

#include "lib/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Some file systems do not tell the type. */
static bool is_folder(const char *folder, const struct dirent *entry)
{
    FL_CLEANUP(fl_freep) char *path = NULL;
    struct stat st;

    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    path = fl_asprintf("%s/%s", folder, entry->d_name);
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int read_names(struct fl_arena *arena, DIR *dir, const char *path, bool folders_only,
                      size_t max, struct fl_folder_list *list, struct fl_error *err)
{
    const struct dirent *entry;
    size_t cap = 0;

    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.' || (folders_only && !is_folder(path, entry)))
            continue;
        if (list->count == max)
            return fl_error_set(err, FL_E_TOO_LARGE, "%s has more than %zu entries", path, max);
        if (list->count == cap) {
            const char **names = fl_new_array(arena, const char *, cap ? cap * 2 : 16);

            if (cap > 0)
                memcpy(names, list->names, cap * sizeof(*names));
            list->names = names;
            cap = cap ? cap * 2 : 16;
        }
        list->names[list->count++] = fl_arena_strdup(arena, entry->d_name);
    }
    return 0;
}

int fl_folder_list(struct fl_arena *arena, const char *path, bool folders_only, size_t max,
                   struct fl_folder_list *ret_list, struct fl_error *err)
{
    struct fl_folder_list list = {0};
    DIR *dir = opendir(path);
    int r;

    if (!dir && errno == ENOENT) {
        *ret_list = list;
        return 0;
    }
    if (!dir)
        return fl_error_errno(err, errno, "open %s", path);
    r = read_names(arena, dir, path, folders_only, max, &list, err);
    (void)closedir(dir);
    if (r < 0)
        return r;
    if (list.count > 0)
        qsort(list.names, list.count, sizeof(*list.names), compare_names);
    *ret_list = list;
    return 0;
}

int fl_folder_link(const char *path, const char *target, struct fl_error *err)
{
    struct stat st;

    if (lstat(path, &st) == 0) {
        if (!S_ISLNK(st.st_mode))
            return fl_error_set(err, FL_E_ALREADY_EXISTS, "%s is there already", path);
        (void)unlink(path);
    }
    return symlink(target, path) == 0 ? 0 : fl_error_errno(err, errno, "link %s", path);
}

int fl_folder_move(const char *from, const char *to, struct fl_error *err)
{
    if (rename(from, to) == 0)
        return 0;
    return errno == ENOTEMPTY ? fl_error_set(err, FL_E_ALREADY_EXISTS, "%s is there already", to)
                              : fl_error_errno(err, errno, "move %s to %s", from, to);
}

int fl_folder_swap(const char *a, const char *b, struct fl_error *err)
{
    if (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0)
        return 0;
    return fl_error_errno(err, errno, "swap %s and %s", a, b);
}

int fl_folder_sync(const char *path, struct fl_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), errnum = errno;
    bool synced = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0) {
        errnum = errno;
        (void)close(fd);
    }
    return synced ? 0 : fl_error_errno(err, errnum, "sync %s", path);
}

int fl_file_link(const char *from, const char *to, struct fl_error *err)
{
    return link(from, to) == 0 ? 0 : fl_error_errno(err, errno, "link %s to %s", from, to);
}

int fl_file_lock(const char *path, int *ret_fd, struct fl_error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), errnum;

    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *ret_fd = fd;
        return 0;
    }
    errnum = errno;
    if (fd >= 0)
        (void)close(fd);
    if (errnum == EWOULDBLOCK)
        return fl_error_set(err, FL_E_CONFLICT, "%s is held by another process", path);
    return fl_error_errno(err, errnum, "lock %s", path);
}

void fl_file_unlockp(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

bool fl_path_exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

bool fl_path_is_executable(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

void fl_path_remove(const char *path)
{
    (void)unlink(path);
}

static bool is_plain_part(const char *part, size_t len)
{
    if (len == 0 || (len == 1 && part[0] == '.') || (len == 2 && part[0] == '.' && part[1] == '.'))
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)part[i] < 0x20 || part[i] == 0x7f)
            return false;
    return true;
}

bool fl_path_is_below(const char *path)
{
    for (;;) {
        size_t len = strcspn(path, "/");

        if (!is_plain_part(path, len))
            return false;
        if (path[len] == '\0')
            return true;
        path += len + 1;
    }
}

int fl_folder_watcher_open(int *ret_fd, struct fl_error *err)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

    if (fd < 0)
        return fl_error_errno(err, errno, "watch folders");
    *ret_fd = fd;
    return 0;
}

void fl_folder_watcher_close(int watcher)
{
    if (watcher >= 0)
        (void)close(watcher);
}

int fl_folder_watch(int watcher, const char *path, int *ret_watch, struct fl_error *err)
{
    int watch = inotify_add_watch(
        watcher, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE | IN_ONLYDIR);

    if (watch < 0)
        return fl_error_errno(err, errno, "watch %s", path);
    *ret_watch = watch;
    return 0;
}

void fl_folder_unwatch(int watcher, int watch)
{
    (void)inotify_rm_watch(watcher, watch);
}

size_t fl_folder_changes(int watcher, int *out, size_t max)
{
    char data[16 * (sizeof(struct inotify_event) + 256)]
        __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n = read(watcher, data, sizeof(data));
    size_t count = 0;

    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *event = (const struct inotify_event *)(data + at);

        if (count < max && !(event->mask & IN_IGNORED) &&
            (count == 0 || out[count - 1] != event->wd))
            out[count++] = event->wd;
        at += (ssize_t)(sizeof(*event) + event->len);
    }
    return count;
}
