/* A group once it is made: entering, killing, counting, removing. Which files a folder has says
 * which hierarchy it is in. */
#include "lib/cgroup.h"

#include "lib/process.h"
#include "lib/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE 4096
#define DEPTH_MAX 32

static bool join(char out[PATH_SIZE], const char *folder, const char *name)
{
    int n = snprintf(out, PATH_SIZE, "%s/%s", folder, name);

    return n > 0 && n < PATH_SIZE;
}

static int write_file(const char *folder, const char *name, const char *text)
{
    char path[PATH_SIZE];
    int fd, r = 0;

    if (!join(path, folder, name))
        return ENAMETOOLONG;
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    if (write(fd, text, strlen(text)) < 0)
        r = errno;
    (void)close(fd);
    return r;
}

static bool read_file(const char *folder, const char *name, char *out, size_t size)
{
    char path[PATH_SIZE];
    size_t used = 0;
    ssize_t n = 0;
    int fd;

    if (!join(path, folder, name))
        return false;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    while (used < size - 1 && (n = read(fd, out + used, size - 1 - used)) > 0)
        used += (size_t)n;
    (void)close(fd);
    out[used] = '\0';
    return n >= 0;
}

static bool has_file(const char *folder, const char *name)
{
    char path[PATH_SIZE];

    return join(path, folder, name) && access(path, F_OK) == 0;
}

int fl_cgroup_enter(const struct fl_cgroup *cgroup)
{
    for (size_t i = 0; i < cgroup->count; i++) {
        int r = write_file(cgroup->folders[i], "cgroup.procs", "0");

        if (r)
            return r;
    }
    return 0;
}

/* Calls for the folder and all below it, the deepest first. */
static void each_folder(const char *folder, unsigned depth, void (*fn)(const char *, void *),
                        void *user)
{
    char path[PATH_SIZE];
    struct dirent *entry;
    DIR *dir = depth < DEPTH_MAX ? opendir(folder) : NULL;

    while (dir && (entry = readdir(dir)))
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.' && join(path, folder, entry->d_name))
            each_folder(path, depth + 1, fn, user);
    if (dir)
        (void)closedir(dir);
    fn(folder, user);
}

/* A member of 0 is in another pid namespace, out of our reach. */
static void kill_listed(const char *folder, void *user)
{
    char path[PATH_SIZE], line[32];
    bool *seen = user;
    FILE *file = join(path, folder, "cgroup.procs") ? fopen(path, "re") : NULL;
    int64_t pid;

    while (file && fgets(line, sizeof(line), file)) {
        line[strcspn(line, "\n")] = '\0';
        if (!fl_str_to_int64(line, 1, INT32_MAX, &pid))
            continue;
        *seen = true;
        (void)kill((pid_t)pid, SIGKILL);
    }
    if (file)
        (void)fclose(file);
}

static bool is_populated(const char *folder)
{
    char text[256];

    return read_file(folder, "cgroup.events", text, sizeof(text)) && strstr(text, "populated 1");
}

/* With a freezer nobody forks while the list is read; the dead thaw to die. */
static bool kill_in(const char *folder)
{
    bool seen = false, frozen;

    if (has_file(folder, "cgroup.kill")) {
        if (!is_populated(folder))
            return false;
        if (write_file(folder, "cgroup.kill", "1") == 0)
            return true;
    }
    frozen = write_file(folder, "freezer.state", "FROZEN") == 0;
    each_folder(folder, 0, kill_listed, &seen);
    if (frozen)
        (void)write_file(folder, "freezer.state", "THAWED");
    return seen;
}

bool fl_cgroup_kill(const struct fl_cgroup *cgroup)
{
    bool seen = false;

    for (size_t i = 0; i < cgroup->count; i++)
        seen |= kill_in(cgroup->folders[i]);
    return seen;
}

static int64_t count_of(const char *folder, const char *name, const char *key)
{
    char text[1024];
    const char *at;
    size_t len = strlen(key);

    if (!read_file(folder, name, text, sizeof(text)))
        return 0;
    for (at = text; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, key, len) == 0 && at[len] == ' ')
            return strtoll(at + len, NULL, 10);
    }
    return 0;
}

int64_t fl_cgroup_oom_kills(const struct fl_cgroup *cgroup)
{
    int64_t count = 0;

    for (size_t i = 0; i < cgroup->count; i++)
        count += count_of(cgroup->folders[i], "memory.events", "oom_kill") +
                 count_of(cgroup->folders[i], "memory.oom_control", "oom_kill");
    return count;
}

static void remove_one(const char *folder, void *user)
{
    bool *gone = user;

    if (rmdir(folder) != 0 && errno != ENOENT)
        *gone = false;
}

bool fl_cgroup_remove(const struct fl_cgroup *cgroup)
{
    bool gone = true;

    for (size_t i = 0; i < cgroup->count; i++)
        each_folder(cgroup->folders[i], 0, remove_one, &gone);
    return gone;
}
