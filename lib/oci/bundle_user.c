/* Who an image's program runs as. The files are a stranger's: they are read without following
 * links, up to a bound, and lines that are no entries are passed over. */
#include "lib/oci/bundle.h"

#include "lib/file.h"
#include "lib/process.h"
#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define FILE_MAX   ((size_t)1024 * 1024)
#define ID_MAX     INT32_MAX
#define FIELDS_MAX 7

static int open_below(const char *folder, const char *path, int flags)
{
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    FL_CLEANUP(fl_fd_closep) int at = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);

    return at < 0 ? -1 : (int)syscall(SYS_openat2, at, path, &how, sizeof(how));
}

/* Whether layers below this one have no say about /etc. */
static bool hides_lower(const char *folder)
{
    FL_CLEANUP(fl_fd_closep) int fd = open_below(folder, "etc", O_RDONLY);
    char value;

    if (fd < 0)
        return errno != ENOENT;
    return fgetxattr(fd, "trusted.overlay.opaque", &value, 1) == 1 ||
           fgetxattr(fd, "user.overlay.opaque", &value, 1) == 1;
}

/* "" where there is none. */
static const char *read_etc(struct fl_arena *arena, const char *const *folders, size_t count,
                            const char *path)
{
    for (size_t i = 0; i < count; i++) {
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
        FL_CLEANUP(fl_fd_closep)
        int fd = open_below(folders[i], path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
        struct stat st;

        if (fd < 0 && errno == ENOENT && !hides_lower(folders[i]))
            continue;
        if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
            fl_fd_read(fd, FILE_MAX, &bytes, NULL) < 0)
            return "";
        return fl_arena_strndup(arena, bytes->data, bytes->len);
    }
    return "";
}

static size_t split(struct fl_arena *arena, const char *line, const char *fields[FIELDS_MAX])
{
    const char *rest = line;
    size_t count = 0;

    while (rest && count < FIELDS_MAX)
        fields[count++] = fl_str_next(arena, &rest, ':');
    return count;
}

static bool is_id(const char *text, int64_t *ret_id)
{
    return text && fl_str_to_int64(text, 0, ID_MAX, ret_id);
}

/* "name:x:1000:1000:words:/home/name:/bin/sh" by name, or by number where `name` is NULL. */
static bool find_passwd(struct fl_arena *arena, const char *text, const char *name, int64_t id,
                        const char **ret_name, struct fl_bundle_user *user)
{
    const char *rest = text, *line, *fields[FIELDS_MAX] = {0};

    while ((line = fl_str_next(arena, &rest, '\n'))) {
        int64_t uid, gid;

        if (split(arena, line, fields) < 6 || !is_id(fields[2], &uid) || !is_id(fields[3], &gid))
            continue;
        if (name ? strcmp(fields[0], name) != 0 : uid != id)
            continue;
        user->user = uid;
        user->group = gid;
        user->home = *fields[5] == '/' ? fields[5] : "/";
        *ret_name = fields[0];
        return true;
    }
    return false;
}

static bool find_group(struct fl_arena *arena, const char *text, const char *name, int64_t *ret_id)
{
    const char *rest = text, *line, *fields[FIELDS_MAX] = {0};

    while ((line = fl_str_next(arena, &rest, '\n')))
        if (split(arena, line, fields) >= 3 && strcmp(fields[0], name) == 0 &&
            is_id(fields[2], ret_id))
            return true;
    return false;
}

static bool is_member(struct fl_arena *arena, const char *members, const char *name)
{
    const char *member;

    while ((member = fl_str_next(arena, &members, ',')))
        if (strcmp(member, name) == 0)
            return true;
    return false;
}

static void add_groups(struct fl_arena *arena, const char *text, const char *name,
                       struct fl_bundle_user *user)
{
    const char *rest = text, *line, *fields[FIELDS_MAX] = {0};
    int64_t id;

    while (user->group_count < FL_BUNDLE_GROUPS_MAX && (line = fl_str_next(arena, &rest, '\n')))
        if (split(arena, line, fields) >= 4 && is_id(fields[2], &id) &&
            is_member(arena, fields[3], name))
            user->groups[user->group_count++] = id;
}

int fl_bundle_find_user(struct fl_arena *arena, const char *const *folders, size_t folder_count,
                        const char *text, struct fl_bundle_user *ret_user, struct fl_error *err)
{
    struct fl_bundle_user user = {.home = "/"};
    const char *rest = fl_str_or(text, ""), *who = fl_str_next(arena, &rest, ':'), *name = NULL;
    const char *passwd = read_etc(arena, folders, folder_count, "etc/passwd");
    const char *group = read_etc(arena, folders, folder_count, "etc/group");

    if (!*who)
        who = "0";
    if (is_id(who, &user.user))
        (void)find_passwd(arena, passwd, NULL, user.user, &name, &user);
    else if (!find_passwd(arena, passwd, who, 0, &name, &user))
        return fl_error_set(err, FL_E_INVALID, "the image has no user %.64s", who);
    if (rest && *rest) {
        if (!is_id(rest, &user.group) && !find_group(arena, group, rest, &user.group))
            return fl_error_set(err, FL_E_INVALID, "the image has no group %.64s", rest);
    } else if (name) {
        add_groups(arena, group, name, &user);
    }
    *ret_user = user;
    return 0;
}
