/* What the machine allows, and making groups. */
#include "lib/cgroup.h"

#include "lib/buf.h"
#include "lib/file.h"
#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOUNTS_MAX     ((size_t)4 * 1024 * 1024)
#define CPU_PERIOD     100000
#define CPU_MINIMUM    1000 /* of quota: less is refused by the kernel */
#define REMOVE_TRIES   40
#define REMOVE_WAIT_MS 5
#define OTHERS_MAX     16

/* A hierarchy that can be written: `base` is the folder of ours in it. */
struct hierarchy {
    char *base;
    char *below; /* the same from the mount on: "/own/base" */
    bool unified, freezer;
    unsigned limits; /* FL_LIMIT_… that it can set */
};

struct fl_cgroups {
    struct hierarchy items[FL_CGROUP_FOLDERS_MAX];
    size_t count;
    /* Hierarchies that are of no use here, but in which container runtimes make groups: what the
     * base would be there, to be tidied away. */
    char *others[OTHERS_MAX];
    size_t other_count;
    char *base;
    bool has_v1, has_v2;
    char *description;
};

struct detection {
    struct fl_arena *arena;
    const char *root, *base, *own; /* own: what /proc/self/cgroup says */
    struct fl_cgroups *found;
    const char *refusal;
};

static bool lists(const char *options, const char *name)
{
    size_t len = strlen(name);

    for (const char *at = options; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, len) == 0 && (at[len] == ',' || at[len] == '\0'))
            return true;
    }
    return false;
}

/* A line is "4:memory:/path", of version 2 "0::/path". */
static const char *own_path(struct detection *d, bool unified, const char *options)
{
    const char *rest = d->own, *line;

    while ((line = fl_str_next(d->arena, &rest, '\n'))) {
        const char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
        const char *first;

        if (!path)
            continue;
        first = fl_arena_strndup(d->arena, names + 1, (size_t)(path - names - 1));
        if (unified ? *first == '\0' : *first && lists(options, fl_str_next(d->arena, &first, ',')))
            return path + 1;
    }
    return NULL;
}

/* Where the mount shows only a part of the hierarchy, the own path begins with that part, or is
 * outside of it: then the mount's top is the best there is. */
static const char *below_mount(const char *mount_root, const char *own)
{
    size_t len = strlen(mount_root);

    if (len == 1)
        len = 0;
    if (strncmp(own, mount_root, len) != 0 || (own[len] != '/' && own[len] != '\0') ||
        strstr(own, "/.."))
        return "";
    return fl_streq(own + len, "/") ? "" : own + len;
}

static int put(const char *folder, const char *name, const char *text)
{
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC), r = 0;

    if (fd < 0)
        return errno;
    if (write(fd, text, strlen(text)) < 0)
        r = errno;
    (void)close(fd);
    return r;
}

static const char *get(struct detection *d, const char *folder, const char *name)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    const char *path = fl_arena_printf(d->arena, "%s/%s", folder, name);

    if (fl_file_read(path, MOUNTS_MAX, &bytes, NULL) < 0)
        return "";
    return fl_arena_strdup(d->arena, bytes->data);
}

static unsigned limits_in(const char *names, char separator)
{
    static const struct {
        const char *name;
        unsigned limit;
    } known[] = {{"cpu", FL_LIMIT_CPU}, {"memory", FL_LIMIT_MEMORY}, {"pids", FL_LIMIT_PIDS}};
    FL_CLEANUP(fl_freep) char *list = fl_strdup(names);
    unsigned limits = 0;

    for (char *at = list; *at; at++)
        if (*at == separator || *at == '\n')
            *at = ',';
    for (size_t i = 0; i < FL_COUNT_OF(known); i++)
        if (lists(list, known[i].name))
            limits |= known[i].limit;
    return limits;
}

/* Version 2 gives controllers only to the children of a group without processes. Where this process
 * is alone in its group (a service of its own), it moves into a child; others are left where they
 * are. */
static bool make_way(struct detection *d, const char *folder)
{
    const char *members = get(d, folder, "cgroup.procs"), *control;
    char own[16];

    (void)snprintf(own, sizeof(own), "%d\n", (int)getpid());
    if (strcmp(members, own) != 0)
        return false;
    control = fl_arena_printf(d->arena, "%s/control", folder);
    if (mkdir(control, 0755) != 0 && errno != EEXIST)
        return false;
    return put(control, "cgroup.procs", "0") == 0;
}

/* Asks for each by itself, so that one that is refused does not take the others along. */
static unsigned hand_down(struct detection *d, const char *folder, unsigned limits)
{
    static const struct {
        const char *text;
        unsigned limit;
    } asks[] = {{"+cpu", FL_LIMIT_CPU}, {"+memory", FL_LIMIT_MEMORY}, {"+pids", FL_LIMIT_PIDS}};
    unsigned given = 0;

    for (size_t i = 0; i < FL_COUNT_OF(asks); i++) {
        int r;

        if (!(limits & asks[i].limit))
            continue;
        r = put(folder, "cgroup.subtree_control", asks[i].text);
        if (r == EBUSY && make_way(d, folder))
            r = put(folder, "cgroup.subtree_control", asks[i].text);
        if (r == 0)
            given |= asks[i].limit;
    }
    return given;
}

/* The base is made once: that it can be is what "permitted" means. */
static void add_hierarchy(struct detection *d, const char *folder, const char *below, bool unified,
                          const char *options)
{
    struct hierarchy *item = &d->found->items[d->found->count];
    const char *base = fl_arena_printf(d->arena, "%s/%s", folder, d->base);

    if (d->found->count == FL_CGROUP_FOLDERS_MAX)
        return;
    if (mkdir(base, 0755) != 0 && errno != EEXIST) {
        d->refusal = fl_arena_printf(d->arena, "%s cannot be made: %s", base, strerror(errno));
        return;
    }
    item->unified = unified;
    item->freezer = !unified && lists(options, "freezer");
    item->limits =
        limits_in(unified ? get(d, folder, "cgroup.controllers") : options, unified ? ' ' : ',');
    if (unified)
        item->limits = hand_down(d, base, hand_down(d, folder, item->limits));
    item->base = fl_strdup(base);
    item->below = fl_asprintf("%s/%s", below, d->base);
    d->found->count++;
}

static void add_other(struct detection *d, const char *folder)
{
    if (d->found->other_count < OTHERS_MAX)
        d->found->others[d->found->other_count++] = fl_asprintf("%s/%s", folder, d->base);
}

static void look_at_hierarchy(struct detection *d, const char *mount_point, const char *below,
                              bool unified, const char *options)
{
    const char *folder = fl_arena_printf(d->arena, "%s%s%s", d->root, mount_point, below);

    if (unified || limits_in(options, ',') || lists(options, "freezer"))
        add_hierarchy(d, folder, below, unified, options);
    else
        add_other(d, folder);
}

/* "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory" */
static void look_at_mount(struct detection *d, const char *line)
{
    const char *fields[5] = {0}, *after = strstr(line, " - "), *rest = line, *type, *options, *own;
    bool unified;

    for (size_t i = 0; i < FL_COUNT_OF(fields) && rest; i++)
        fields[i] = fl_str_next(d->arena, &rest, ' ');
    if (!after || !fields[4])
        return;
    rest = after + 3;
    type = fl_str_next(d->arena, &rest, ' ');
    (void)(rest ? fl_str_next(d->arena, &rest, ' ') : NULL); /* the source has any name */
    options = rest ? rest : "";
    unified = strcmp(type, "cgroup2") == 0;
    if (!unified && strcmp(type, "cgroup") != 0)
        return;
    d->found->has_v2 |= unified;
    d->found->has_v1 |= !unified;
    own = own_path(d, unified, options);
    if (own)
        look_at_hierarchy(d, fields[4], below_mount(fields[3], own), unified, options);
}

static void describe(struct detection *d)
{
    static const char *const names[] = {"cpu", "memory", "pids"};
    struct fl_buf text;

    fl_buf_init(&text, 0);
    for (size_t i = 0; i < d->found->count; i++) {
        const struct hierarchy *item = &d->found->items[i];

        for (unsigned bit = 0; bit < FL_COUNT_OF(names); bit++)
            if (item->limits & 1U << bit)
                fl_buf_printf(&text, "%s%s (v%d)", text.len ? ", " : "", names[bit],
                              item->unified ? 2 : 1);
        if (item->unified || item->freezer)
            fl_buf_printf(&text, "%s%s (v%d)", text.len ? ", " : "",
                          item->unified ? "kill" : "freezer", item->unified ? 2 : 1);
    }
    if (d->found->count == 0)
        fl_buf_printf(&text, "none: %s", fl_str_or(d->refusal, "no hierarchy is mounted"));
    d->found->description = fl_buf_steal(&text);
}

struct fl_cgroups *fl_cgroups_detect(const char *root, const char *base)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct detection d = {.arena = arena, .root = root, .base = base};
    const char *folder = fl_arena_printf(arena, "%s/proc/self", root), *mounts, *line;

    d.found = fl_calloc(1, sizeof(*d.found));
    d.found->base = fl_strdup(base);
    d.own = get(&d, folder, "cgroup");
    mounts = get(&d, folder, "mountinfo");
    while ((line = fl_str_next(arena, &mounts, '\n')))
        look_at_mount(&d, line);
    describe(&d);
    return d.found;
}

/* A folder counts as busy for a moment after the last one in it was removed. One that still holds
 * groups stays. */
static void remove_base(const char *base)
{
    struct stat st;

    for (unsigned i = 0; i < REMOVE_TRIES && rmdir(base) != 0 && errno == EBUSY; i++) {
        if (stat(base, &st) != 0 || st.st_nlink > 2)
            return;
        (void)poll(NULL, 0, REMOVE_WAIT_MS);
    }
}

void fl_cgroups_destroy(struct fl_cgroups *cgroups)
{
    if (!cgroups)
        return;
    for (size_t i = 0; i < cgroups->count; i++) {
        remove_base(cgroups->items[i].base);
        free(cgroups->items[i].base);
        free(cgroups->items[i].below);
    }
    for (size_t i = 0; i < cgroups->other_count; i++) {
        remove_base(cgroups->others[i]);
        free(cgroups->others[i]);
    }
    free(cgroups->base);
    free(cgroups->description);
    free(cgroups);
}

const char *fl_cgroups_describe(const struct fl_cgroups *cgroups)
{
    return cgroups->description;
}

bool fl_cgroups_usable(const struct fl_cgroups *cgroups)
{
    return cgroups->count > 0;
}

const char *fl_cgroups_path(const struct fl_cgroups *cgroups, const char *name,
                            struct fl_arena *arena, bool *ret_relative)
{
    const char *below = cgroups->count > 0 ? cgroups->items[0].below : NULL;
    bool same = true;

    for (size_t i = 1; i < cgroups->count; i++)
        same = same && strcmp(cgroups->items[i].below, below) == 0;
    if (!below || (!same && !cgroups->has_v1))
        return NULL;
    *ret_relative = !same;
    return fl_arena_printf(arena, "%s/%s", same ? below : cgroups->base, name);
}

bool fl_cgroups_hybrid(const struct fl_cgroups *cgroups)
{
    return cgroups->has_v1 && cgroups->has_v2;
}

static bool put_number(const char *folder, const char *name, int64_t number)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%lld", (long long)number);
    return put(folder, name, text) == 0;
}

static bool limit_cpu(const char *folder, bool unified, int64_t milli)
{
    int64_t quota = milli > INT64_MAX / CPU_PERIOD ? INT64_MAX : milli * CPU_PERIOD / 1000;
    char text[48];

    if (quota < CPU_MINIMUM)
        quota = CPU_MINIMUM;
    if (!unified)
        return put_number(folder, "cpu.cfs_period_us", CPU_PERIOD) &&
               put_number(folder, "cpu.cfs_quota_us", quota);
    (void)snprintf(text, sizeof(text), "%lld %d", (long long)quota, CPU_PERIOD);
    return put(folder, "cpu.max", text) == 0;
}

/* What is swapped out counts too, where it can be counted. */
static bool limit_memory(const char *folder, bool unified, int64_t bytes)
{
    if (unified) {
        (void)put(folder, "memory.swap.max", "0");
        return put_number(folder, "memory.max", bytes);
    }
    if (!put_number(folder, "memory.limit_in_bytes", bytes))
        return false;
    (void)put_number(folder, "memory.memsw.limit_in_bytes", bytes);
    return true;
}

static unsigned set_limits(const struct hierarchy *item, const char *folder,
                           const struct fl_cgroup_limits *limits)
{
    unsigned held = 0;

    if (limits->cpu_milli > 0 && item->limits & FL_LIMIT_CPU &&
        limit_cpu(folder, item->unified, limits->cpu_milli))
        held |= FL_LIMIT_CPU;
    if (limits->memory_bytes > 0 && item->limits & FL_LIMIT_MEMORY &&
        limit_memory(folder, item->unified, limits->memory_bytes))
        held |= FL_LIMIT_MEMORY;
    if (limits->pids > 0 && item->limits & FL_LIMIT_PIDS &&
        put_number(folder, "pids.max", limits->pids))
        held |= FL_LIMIT_PIDS;
    return held;
}

int fl_cgroups_make(const struct fl_cgroups *cgroups, const char *name,
                    const struct fl_cgroup_limits *limits, struct fl_arena *arena,
                    struct fl_cgroup *ret_cgroup, unsigned *ret_missing, struct fl_error *err)
{
    unsigned asked = (limits->cpu_milli > 0 ? FL_LIMIT_CPU : 0U) |
                     (limits->memory_bytes > 0 ? FL_LIMIT_MEMORY : 0U) |
                     (limits->pids > 0 ? FL_LIMIT_PIDS : 0U);
    struct fl_cgroup made = {0};

    for (size_t i = 0; i < cgroups->count; i++) {
        const struct hierarchy *item = &cgroups->items[i];
        const char *folder = fl_arena_printf(arena, "%s/%s", item->base, name);

        (void)mkdir(item->base, 0755); /* another process may have tidied it away */
        if (mkdir(folder, 0755) != 0 && errno != EEXIST) {
            int errnum = errno;

            (void)fl_cgroup_remove(&made);
            return fl_error_errno(err, errnum, "make %s", folder);
        }
        made.folders[made.count++] = folder;
        asked &= ~set_limits(item, folder, limits);
    }
    *ret_cgroup = made;
    *ret_missing = asked;
    return 0;
}
