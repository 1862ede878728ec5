#include "controller/source/dir_scan.h"

#include "controller/source/select.h"
#include "lib/file.h"
#include "lib/str.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH_MAX   64
#define FOLDERS_MAX FL_SOURCE_FILES_MAX
#define NAMES_MAX   ((size_t)2 * FL_SOURCE_FILES_MAX) /* worth a look, in one folder */
#define OPEN_TRIES  16                                /* while somebody renames beside us */
#define HOLD                                                                                       \
    "the folder is empty, as one that is not mounted is; put any file into it (a README) if "      \
    "nothing "                                                                                     \
    "is wanted"
#define WATCHED                                                                                    \
    (IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |            \
     IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct scan {
    int root;
    struct fl_dir_watch *watch;
    struct fl_map *folders; /* those met, as in the watch */
    struct fl_snapshot *snapshot;
    const char **keys;
    size_t room, bytes;
    bool has_names; /* the folder has anything at all in it */
    struct {
        dev_t device;
        ino_t inode;
    } above[DEPTH_MAX]; /* the folders we are in: links must not lead back into them */
};

struct names {
    char **items;
    size_t count, room;
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}
#define OPEN_FD FL_CLEANUP(close_fd) int

static void close_folder(DIR **folder)
{
    if (*folder)
        (void)closedir(*folder);
}

/* Watching */

int fl_dir_watch_open(struct fl_dir_watch *watch, struct fl_error *err)
{
    *watch = (struct fl_dir_watch){.fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK)};
    if (watch->fd < 0)
        return fl_error_errno(err, errno, "watching folders (fs.inotify.max_user_instances)");
    watch->folders = fl_map_create(NULL);
    return 0;
}

void fl_dir_watch_close(struct fl_dir_watch *watch)
{
    close_fd(&watch->fd);
    fl_map_destroy(watch->folders);
    *watch = (struct fl_dir_watch){.fd = -1};
}

/* By its descriptor, so that it is this folder and no other that has taken its name. */
static int watch_folder(struct scan *scan, int fd, const char *path, int *ret_watch,
                        struct fl_error *err)
{
    char place[64], text[16];
    int watch;

    (void)snprintf(place, sizeof(place), "/proc/self/fd/%d", fd);
    watch = inotify_add_watch(scan->watch->fd, place, WATCHED);
    if (watch < 0 && errno == ENOSPC)
        return fl_error_set(err, FL_E_UNAVAILABLE,
                            "%s: no more folders can be watched (fs.inotify.max_user_watches)",
                            path);
    if (watch < 0)
        return fl_error_errno(err, errno, "watching %s", path);
    (void)snprintf(text, sizeof(text), "%d", watch);
    fl_map_put(scan->folders, text, scan);
    *ret_watch = watch;
    return 0;
}

/* Folders that were moved away or are read no more: nobody wants to hear of them. */
static void unwatch_others(struct scan *scan)
{
    const char *text;
    void *cursor = NULL, *value;

    while (fl_map_next(scan->watch->folders, &cursor, &text, &value)) {
        int64_t watch;

        if (!fl_map_get(scan->folders, text) && fl_str_to_int64(text, 0, INT32_MAX, &watch))
            (void)inotify_rm_watch(scan->watch->fd, (int)watch);
    }
    fl_map_destroy(scan->watch->folders);
    scan->watch->folders = FL_TAKE(scan->folders);
}

/* Reading */

static int open_beneath(const struct scan *scan, const char *path, uint64_t flags)
{
    const struct open_how how = {
        .flags = flags | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    long fd = -1;

    for (int i = 0; i < OPEN_TRIES; i++) {
        fd = syscall(SYS_openat2, scan->root, path, &how, sizeof(how));
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    return (int)fd;
}

static int add_file(struct scan *scan, const struct fl_source_file *file, const char *key,
                    struct fl_error *err)
{
    struct fl_snapshot *snapshot = scan->snapshot;

    scan->bytes += file->len;
    if (snapshot->file_count == FL_SOURCE_FILES_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "more than %d files, at %s", FL_SOURCE_FILES_MAX,
                            file->path);
    if (scan->bytes > FL_SOURCE_BYTES_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "more than %zu MiB of files, at %s",
                            FL_SOURCE_BYTES_MAX >> 20, file->path);
    if (snapshot->file_count == scan->room) {
        size_t room = scan->room ? scan->room * 2 : 64;
        struct fl_source_file *files = fl_new_array(snapshot->arena, struct fl_source_file, room);
        const char **keys = fl_new_array(snapshot->arena, const char *, room);

        if (scan->room) {
            memcpy(files, snapshot->files, scan->room * sizeof(*files));
            memcpy(keys, scan->keys, scan->room * sizeof(*keys));
        }
        snapshot->files = files;
        scan->keys = keys;
        scan->room = room;
    }
    assert(scan->keys && snapshot->files);
    scan->keys[snapshot->file_count] = key;
    snapshot->files[snapshot->file_count++] = *file;
    return 0;
}

static int add_fault(struct scan *scan, const char *path, const char *what, struct fl_error *err)
{
    return add_file(scan, &(struct fl_source_file){.path = path, .data = "", .fault = what}, "",
                    err);
}

static int add_unreadable(struct scan *scan, const char *path, int errnum, struct fl_error *err)
{
    struct fl_error why = {0};

    (void)fl_error_errno(&why, errnum, "cannot be read");
    return add_fault(scan, path, fl_arena_strdup(scan->snapshot->arena, why.msg), err);
}

/* What went away while we looked is told by an event that is on its way. */
static int read_manifest(struct scan *scan, const char *path, const char *key, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    OPEN_FD fd = open_beneath(scan, path, O_RDONLY | O_NONBLOCK);
    struct fl_error why = {0};
    int r;

    if (fd < 0)
        return errno == ENOENT ? 0 : add_unreadable(scan, path, errno, err);
    r = fl_fd_read(fd, FL_SOURCE_FILE_BYTES_MAX, &bytes, &why);
    if (r == FL_E_TOO_LARGE)
        return fl_error_set(err, r, "%s: larger than %zu MiB", path,
                            FL_SOURCE_FILE_BYTES_MAX >> 20);
    if (r < 0)
        return add_unreadable(scan, path, EIO, err);
    return add_file(scan,
                    &(struct fl_source_file){
                        .path = path,
                        .data = fl_arena_strndup(scan->snapshot->arena, bytes->data, bytes->len),
                        .len = bytes->len,
                    },
                    key, err);
}

static int scan_folder(struct scan *scan, const char *path, size_t depth, struct fl_error *err);

/* A link, or what the file system does not tell: looked at without opening it. */
static int scan_unknown(struct scan *scan, const char *path, const char *key, size_t depth,
                        struct fl_error *err)
{
    OPEN_FD fd = open_beneath(scan, path, O_PATH);
    struct stat info;

    if (fd < 0 || fstat(fd, &info) < 0) {
        if (!fl_select_is_manifest(path))
            return 0;
        return add_fault(scan, path,
                         errno == EXDEV ? "is a link that leads out of the folder"
                                        : "is a link that leads nowhere",
                         err);
    }
    if (S_ISDIR(info.st_mode))
        return scan_folder(scan, path, depth + 1, err);
    return S_ISREG(info.st_mode) && fl_select_is_manifest(path)
               ? read_manifest(scan, path, key, err)
               : 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_worth_a_look(const struct dirent *entry)
{
    if (entry->d_name[0] == '.')
        return false;
    return entry->d_type == DT_DIR || entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN ||
           (entry->d_type == DT_REG && fl_select_is_manifest(entry->d_name));
}

static bool is_itself_or_above(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Each with the kind that the folder says it has, in front. */
static int list_names(struct scan *scan, DIR *folder, const char *path, struct fl_arena *arena,
                      struct names *names, struct fl_error *err)
{
    const struct dirent *entry;

    errno = 0;
    while ((entry = readdir(folder))) {
        scan->has_names = scan->has_names || !is_itself_or_above(entry->d_name);
        if (!is_worth_a_look(entry))
            continue;
        if (names->count == NAMES_MAX)
            return fl_error_set(err, FL_E_TOO_LARGE, "%s: more than %zu names", path, NAMES_MAX);
        if (names->count == names->room) {
            char **items;

            names->room = names->room ? names->room * 2 : 64;
            items = fl_new_array(arena, char *, names->room);
            if (names->count)
                memcpy(items, names->items, names->count * sizeof(*items));
            names->items = items;
        }
        names->items[names->count++] =
            fl_arena_printf(arena, "%s%c", entry->d_name, entry->d_type + 1);
    }
    if (names->count)
        qsort(names->items, names->count, sizeof(*names->items), compare_names);
    return errno ? fl_error_errno(err, errno, "reading %s", path) : 0;
}

static int scan_name(struct scan *scan, const char *folder, char *name, int watch, size_t depth,
                     struct fl_error *err)
{
    struct fl_arena *arena = scan->snapshot->arena;
    size_t len = strlen(name);
    int type = name[len - 1] - 1;
    const char *path, *key;

    name[len - 1] = '\0';
    path = *folder ? fl_arena_printf(arena, "%s/%s", folder, name) : fl_arena_strdup(arena, name);
    key = fl_arena_printf(arena, "%d/%s", watch, name);
    if (type == DT_DIR)
        return scan_folder(scan, path, depth + 1, err);
    if (type == DT_REG)
        return read_manifest(scan, path, key, err);
    return scan_unknown(scan, path, key, depth, err);
}

/* False where it is one of those that we are in: a link leads back up. */
static bool enter(struct scan *scan, int fd, size_t depth)
{
    struct stat info;

    if (fstat(fd, &info) < 0)
        return false;
    for (size_t i = 0; i < depth; i++)
        if (scan->above[i].device == info.st_dev && scan->above[i].inode == info.st_ino)
            return false;
    scan->above[depth].device = info.st_dev;
    scan->above[depth].inode = info.st_ino;
    return true;
}

static int scan_names(struct scan *scan, const char *path, DIR *folder, size_t depth,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct names names = {0};
    int watch = -1, r;

    r = watch_folder(scan, dirfd(folder), *path ? path : ".", &watch, err);
    if (r == 0)
        r = list_names(scan, folder, *path ? path : ".", arena, &names, err);
    for (size_t i = 0; r == 0 && i < names.count; i++)
        r = scan_name(scan, path, names.items[i], watch, depth, err);
    return r;
}

static int scan_folder(struct scan *scan, const char *path, size_t depth, struct fl_error *err)
{
    FL_CLEANUP(close_folder) DIR *folder = NULL;
    OPEN_FD fd = -1;

    if (depth == DEPTH_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "%s: folders within folders, deeper than %d", path,
                            DEPTH_MAX);
    if (fl_map_count(scan->folders) == FOLDERS_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "more than %d folders, at %s", FOLDERS_MAX, path);
    fd = open_beneath(scan, *path ? path : ".", O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return errno == ENOENT ? 0 : add_unreadable(scan, path, errno, err);
    if (!enter(scan, fd, depth))
        return 0;
    folder = fdopendir(fd);
    if (!folder)
        return fl_error_errno(err, errno, "reading %s", path);
    fd = -1; /* the folder's now */
    return scan_names(scan, path, folder, depth, err);
}

static int compare_files(const void *a, const void *b)
{
    const struct fl_source_file *left = a, *right = b;

    return strcmp(left->path, right->path);
}

/* Folders are read in order, but '/' is not the least of characters: "a/b" comes after "a-b". */
static void sort_files(struct scan *scan)
{
    struct fl_snapshot *snapshot = scan->snapshot;
    struct fl_map *keys = fl_map_create(NULL);

    for (size_t i = 0; i < snapshot->file_count; i++)
        fl_map_put(keys, snapshot->files[i].path, (void *)scan->keys[i]);
    if (snapshot->file_count)
        qsort(snapshot->files, snapshot->file_count, sizeof(*snapshot->files), compare_files);
    for (size_t i = 0; i < snapshot->file_count; i++)
        scan->keys[i] = fl_map_get(keys, snapshot->files[i].path);
    fl_map_destroy(keys);
}

static bool is_deleted(int fd)
{
    struct stat info;

    return fstat(fd, &info) < 0 || info.st_nlink == 0;
}

int fl_dir_scan(const char *root, struct fl_dir_watch *watch, struct fl_snapshot **ret_snapshot,
                const char *const **ret_keys, struct fl_error *err)
{
    FL_CLEANUP(fl_snapshot_unrefp) struct fl_snapshot *snapshot = fl_snapshot_create();
    OPEN_FD fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct scan scan = {.root = fd, .watch = watch, .snapshot = snapshot};
    int r;

    if (fd < 0)
        return fl_error_errno(err, errno, "%s", root);
    scan.folders = fl_map_create(NULL);
    r = scan_folder(&scan, "", 0, err);
    if (r == 0 && is_deleted(fd)) /* then it only seemed to be empty */
        r = fl_error_set(err, FL_E_NOT_FOUND, "was deleted");
    if (r == 0)
        unwatch_others(&scan);
    fl_map_destroy(scan.folders);
    if (r < 0)
        return fl_error_wrap(err, "%s", root);
    if (!scan.has_names)
        snapshot->hold = HOLD;
    sort_files(&scan);
    *ret_keys = scan.keys;
    *ret_snapshot = FL_TAKE(snapshot);
    return 0;
}
