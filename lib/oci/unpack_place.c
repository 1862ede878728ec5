/* Where things of an archive go. Each part of a path is entered from the folder's descriptor, and
 * none of them may be a link: so nothing that an archive brought first can lead what it brings next
 * out of the folder. What this archive brought is known by its inode: hard links go there only, and
 * whiteouts spare it. */
#include "lib/oci/unpack_internal.h"

#include "lib/file.h"
#include "lib/folder.h"
#include "lib/process.h"
#include "lib/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PARTS_MAX    256 /* of a path: a descriptor each where a folder is removed */
#define PARENT_FLAGS (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

struct inodes {
    uint64_t *slots; /* 0: free; a power of two of them */
    size_t count, cap;
};

struct fl_place {
    int root;
    bool keep_owners;
    struct inodes brought;
    char *parent_path; /* of `parent`, which was entered last; NULL: none */
    int parent;
    bool stale; /* folders were removed since, of which it may be one */
};

/* Inodes. */

static size_t slot_of(const struct inodes *set, uint64_t inode)
{
    size_t at = (size_t)(inode * 0x9e3779b97f4a7c15ULL) & (set->cap - 1);

    while (set->slots[at] && set->slots[at] != inode)
        at = (at + 1) & (set->cap - 1);
    return at;
}

static void put_inode(struct inodes *set, uint64_t inode)
{
    size_t at = slot_of(set, inode);

    if (!set->slots[at])
        set->count++;
    set->slots[at] = inode;
}

static void add_inode(struct inodes *set, uint64_t inode)
{
    struct inodes bigger = {.cap = set->cap ? 2 * set->cap : 1024};

    if (2 * set->count >= set->cap) {
        bigger.slots = fl_calloc(bigger.cap, sizeof(*bigger.slots));
        for (size_t i = 0; i < set->cap; i++)
            if (set->slots[i])
                put_inode(&bigger, set->slots[i]);
        free(set->slots);
        *set = bigger;
    }
    put_inode(set, inode);
}

static bool is_brought(const struct fl_place *place, const struct stat *st)
{
    return place->brought.cap > 0 &&
           place->brought.slots[slot_of(&place->brought, st->st_ino)] == st->st_ino;
}

static void note(struct fl_place *place, int at, const char *name)
{
    struct stat st;

    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) == 0)
        add_inode(&place->brought, st.st_ino);
}

/* The way to a thing. */

int fl_place_open(const char *folder, bool keep_owners, struct fl_place **ret_place,
                  struct fl_error *err)
{
    bool is_new = !fl_path_exists(folder);
    struct fl_place *place;
    int r = fl_dir_ensure(folder, 0755, err), root;

    if (r < 0)
        return r;
    root = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return fl_error_errno(err, errno, "open %s", folder);
    if (is_new)
        (void)chmod(folder, 0755); /* whatever the umask */
    place = fl_calloc(1, sizeof(*place));
    place->root = root;
    place->parent = -1;
    place->keep_owners = keep_owners;
    *ret_place = place;
    return 0;
}

static void forget_parent(struct fl_place *place)
{
    fl_fd_closep(&place->parent);
    place->parent = -1;
    place->stale = false;
    free(FL_TAKE(place->parent_path));
}

void fl_place_close(struct fl_place *place)
{
    if (!place)
        return;
    forget_parent(place);
    (void)close(place->root);
    free(place->brought.slots);
    free(place);
}

static bool is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

/* As overlayfs marks a folder that hides the one below. Who may not set trusted attributes mounts
 * with `userxattr`. */
static int mark_opaque(int at, const char *name, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep)
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 || (fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) != 0 &&
                   (errno != EPERM || fsetxattr(fd, "user.overlay.opaque", "y", 1, 0) != 0)))
        return fl_error_errno(err, errno, "mark folder %s as opaque", name);
    return 0;
}

static int make_folder(struct fl_place *place, int at, const char *name, struct fl_error *err)
{
    struct stat st;
    bool hid;

    hid = fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && is_whiteout(&st);
    if (hid && unlinkat(at, name, 0) != 0)
        return fl_error_errno(err, errno, "remove a whiteout");
    if (mkdirat(at, name, 0755) != 0 || fchmodat(at, name, 0755, 0) != 0) /* whatever the umask */
        return fl_error_errno(err, errno, "make folder %.200s", name);
    note(place, at, name);
    return hid ? mark_opaque(at, name, err) : 0;
}

/* One step down. `make`: where it is missing. */
static int enter(struct fl_place *place, int at, const char *name, bool make, struct fl_error *err)
{
    int fd = openat(at, name, PARENT_FLAGS);
    struct stat st;

    if (fd >= 0)
        return fd;
    if (make &&
        (errno == ENOENT || (errno == ENOTDIR && fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                             is_whiteout(&st)))) {
        int r = make_folder(place, at, name, err);

        if (r < 0)
            return r;
        fd = openat(at, name, PARENT_FLAGS);
    }
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP || errno == ENOENT))
        return fl_error_set(err, FL_E_INVALID, "%.200s is no folder", name);
    return fd < 0 ? fl_error_errno(err, errno, "enter %.200s", name) : fd;
}

static int walk(struct fl_place *place, const char *path, bool make, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *copy = fl_strdup(path);
    int at = fcntl(place->root, F_DUPFD_CLOEXEC, 0);

    if (at < 0)
        return fl_error_errno(err, errno, "hold the folder");
    for (char *part = copy, *next; part; part = next) {
        int below;

        next = strchr(part, '/');
        if (next)
            *next++ = '\0';
        below = enter(place, at, part, make, err);
        (void)close(at);
        if (below < 0)
            return below;
        at = below;
    }
    return at;
}

/* The usual case in one call; whatever the kernel refuses is looked at part by part. */
static int open_folder(struct fl_place *place, const char *path, bool make, struct fl_error *err)
{
    struct open_how how = {.flags = PARENT_FLAGS, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    int fd = *path ? (int)syscall(SYS_openat2, place->root, path, &how, sizeof(how)) : -1;

    if (fd >= 0)
        return fd;
    if (*path)
        return walk(place, path, make, err);
    fd = fcntl(place->root, F_DUPFD_CLOEXEC, 0);
    return fd >= 0 ? fd : fl_error_errno(err, errno, "hold the folder");
}

static size_t parts_of(const char *path)
{
    size_t count = 1;

    for (; *path; path++)
        count += *path == '/';
    return count;
}

/* The folder that `path` is in, kept until another one is wanted. */
static int open_parent(struct fl_place *place, const char *path, const char **ret_name,
                       struct fl_error *err)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    int fd;

    if (parts_of(path) > PARTS_MAX)
        return fl_error_set(err, FL_E_INVALID, "more than %d folders deep", PARTS_MAX);
    *ret_name = slash ? slash + 1 : path;
    if (!place->stale && place->parent_path && strlen(place->parent_path) == len &&
        memcmp(place->parent_path, path, len) == 0)
        return place->parent;
    forget_parent(place);
    {
        FL_CLEANUP(fl_freep) char *folder = fl_strndup(path, len);

        fd = open_folder(place, folder, true, err);
        if (fd < 0)
            return fd;
        place->parent_path = FL_TAKE(folder);
    }
    place->parent = fd;
    return fd;
}

/* Removing. */

/* With all that is in it; `spare`: but what this archive brought. */
static int remove_at(struct fl_place *place, int at, const char *name, bool spare,
                     struct fl_error *err);

static int empty_folder(struct fl_place *place, int at, const char *name, bool spare,
                        struct fl_error *err)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;
    const struct dirent *item;
    DIR *list;

    if (fd < 0)
        return fl_error_errno(err, errno, "open folder %.200s", name);
    list = fdopendir(fd);
    if (!list) {
        (void)close(fd);
        return fl_error_errno(err, ENOMEM, "list folder %.200s", name);
    }
    while (r == 0 && (item = readdir(list)))
        if (strcmp(item->d_name, ".") != 0 && strcmp(item->d_name, "..") != 0)
            r = remove_at(place, dirfd(list), item->d_name, spare, err);
    (void)closedir(list);
    return r;
}

static int remove_at(struct fl_place *place, int at, const char *name, bool spare,
                     struct fl_error *err)
{
    struct stat st;
    bool keep;
    int r = 0;

    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : fl_error_errno(err, errno, "look at %.200s", name);
    keep = spare && is_brought(place, &st);
    if (S_ISDIR(st.st_mode))
        r = empty_folder(place, at, name, spare, err);
    if (r < 0 || keep)
        return r;
    if (unlinkat(at, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) != 0 &&
        !(spare && errno == ENOTEMPTY))
        return fl_error_errno(err, errno, "remove %.200s", name);
    place->stale |= S_ISDIR(st.st_mode);
    return 0;
}

/* What has the name goes; the latest entry of a name counts. */
static int clear_way(struct fl_place *place, const char *path, int *ret_parent,
                     const char **ret_name, struct fl_error *err)
{
    int parent = open_parent(place, path, ret_name, err), r;

    if (parent < 0)
        return parent;
    r = remove_at(place, parent, *ret_name, false, err);
    if (r < 0)
        return r;
    parent = open_parent(place, path, ret_name, err);
    *ret_parent = parent;
    return parent < 0 ? parent : 0;
}

/* Putting. */

static int set_owner(const struct fl_place *place, int at, const char *name,
                     const struct fl_place_meta *meta, struct fl_error *err)
{
    if (!place->keep_owners)
        return 0;
    if (fchownat(at, name, (uid_t)meta->user, (gid_t)meta->group,
                 AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0)
        return fl_error_errno(err, errno, "set the owner");
    return 0;
}

/* Without the archive's owners nobody but the caller is to be served, who must not lock itself
 * out. */
static mode_t mode_for(const struct fl_place *place, mode_t mode, mode_t at_least)
{
    return place->keep_owners ? mode & 07777 : (mode & 01777) | at_least;
}

int fl_place_folder(struct fl_place *place, const char *path, const struct fl_place_meta *meta,
                    struct fl_error *err)
{
    const char *name;
    struct stat st;
    int parent = open_parent(place, path, &name, err), r = 0;
    bool there;

    if (parent < 0)
        return parent;
    there = fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (there && S_ISDIR(st.st_mode))
        note(place, parent, name);
    else if (there && !is_whiteout(&st) && unlinkat(parent, name, 0) != 0)
        return fl_error_errno(err, errno, "remove what was there");
    else
        r = make_folder(place, parent, name, err);
    if (r == 0)
        r = set_owner(place, parent, name, meta, err);
    if (r == 0 && fchmodat(parent, name, mode_for(place, meta->mode, 0700), 0) != 0)
        r = fl_error_errno(err, errno, "set the mode");
    return r;
}

int fl_place_file(struct fl_place *place, const char *path, int *ret_fd, struct fl_error *err)
{
    const char *name;
    int parent, fd, r = clear_way(place, path, &parent, &name, err);

    if (r < 0)
        return r;
    fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fl_error_errno(err, errno, "create it");
    note(place, fd, "");
    *ret_fd = fd;
    return 0;
}

int fl_place_finish_file(struct fl_place *place, int fd, const struct fl_place_meta *meta,
                         struct fl_error *err)
{
    struct timespec times[2] = {meta->changed, meta->changed};
    int r = set_owner(place, fd, "", meta, err);

    if (r == 0 && fchmod(fd, mode_for(place, meta->mode, 0600)) != 0)
        r = fl_error_errno(err, errno, "set the mode");
    if (r == 0 && futimens(fd, times) != 0)
        r = fl_error_errno(err, errno, "set the time");
    return r;
}

int fl_place_link(struct fl_place *place, const char *path, const char *target,
                  const struct fl_place_meta *meta, struct fl_error *err)
{
    const char *name;
    int parent, r = clear_way(place, path, &parent, &name, err);

    if (r < 0)
        return r;
    if (symlinkat(target, parent, name) != 0)
        return fl_error_errno(err, errno, "make the link");
    note(place, parent, name);
    return set_owner(place, parent, name, meta, err);
}

/* Held by a descriptor while what has the new name is removed. */
int fl_place_hard_link(struct fl_place *place, const char *path, const char *target,
                       struct fl_error *err)
{
    const char *slash = strrchr(target, '/'), *end = slash ? slash + 1 : target, *name;
    FL_CLEANUP(fl_freep) char *folder = fl_strndup(target, slash ? (size_t)(slash - target) : 0);
    FL_CLEANUP(fl_fd_closep) int from = open_folder(place, folder, false, err);
    struct stat st;
    int parent, r;

    if (from < 0 || fstatat(from, end, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode) ||
        !is_brought(place, &st))
        return fl_error_set(err, FL_E_INVALID,
                            "a hard link to %.200s, which is no file of the archive", target);
    if (strcmp(path, target) == 0)
        return fl_error_set(err, FL_E_INVALID, "a hard link to itself");
    r = clear_way(place, path, &parent, &name, err);
    if (r < 0)
        return r;
    if (linkat(from, end, parent, name, 0) != 0)
        return fl_error_errno(err, errno, "make a hard link to %.200s", target);
    return 0;
}

/* Whiteouts. */

int fl_place_whiteout(struct fl_place *place, const char *path, bool for_overlay,
                      struct fl_error *err)
{
    const char *name;
    struct stat st;
    int parent = open_parent(place, path, &name, err);

    if (parent < 0)
        return parent;
    if (!for_overlay)
        return remove_at(place, parent, name, true, err);
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return S_ISDIR(st.st_mode) ? mark_opaque(parent, name, err) : 0;
    if (mknodat(parent, name, S_IFCHR, makedev(0, 0)) != 0)
        return fl_error_errno(err, errno, "make a whiteout");
    return 0;
}

int fl_place_opaque(struct fl_place *place, const char *folder, bool for_overlay,
                    struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = open_folder(place, folder, true, err);

    if (fd < 0)
        return fd;
    return for_overlay ? mark_opaque(fd, ".", err) : empty_folder(place, fd, ".", true, err);
}
