#include "lib/process.h"

#include "lib/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_FD    3
#define ENVIRON_MAX ((size_t)4 * 1024 * 1024)

void fl_fd_closep(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

/* The copies are above all places that they shall have, so that none is overwritten before its
 * turn. */
static int lift_fds(const struct fl_process_start *start, int *copies)
{
    for (size_t i = 0; i < start->fd_count; i++) {
        copies[i] = fcntl(start->fds[i], F_DUPFD_CLOEXEC, FIRST_FD + FL_PROCESS_FDS_MAX);
        if (copies[i] < 0)
            return -errno;
    }
    return 0;
}

static int describe_fds(posix_spawn_file_actions_t *actions, const struct fl_process_start *start,
                        const int *copies)
{
    size_t count = start->fd_count;
    int r = 0;

    for (int fd = 0; fd < FIRST_FD && r == 0; fd++)
        r = fd > 0 && start->output > 0
                ? posix_spawn_file_actions_adddup2(actions, start->output, fd)
                : posix_spawn_file_actions_addopen(actions, fd, "/dev/null",
                                                   fd == 0 ? O_RDONLY : O_WRONLY, 0);
    for (size_t i = 0; i < count && r == 0; i++)
        r = posix_spawn_file_actions_adddup2(actions, copies[i], FIRST_FD + (int)i);
    if (r == 0)
        r = posix_spawn_file_actions_addclosefrom_np(actions, FIRST_FD + (int)count);
    return -r;
}

static int describe_signals(posix_spawnattr_t *attributes)
{
    sigset_t all, none;
    int r;

    (void)sigfillset(&all);
    (void)sigemptyset(&none);
    r = posix_spawnattr_setsigdefault(attributes, &all);
    if (r == 0)
        r = posix_spawnattr_setsigmask(attributes, &none);
    if (r == 0)
        r = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK |
                                                     POSIX_SPAWN_SETSID);
    return -r;
}

static int spawn(const struct fl_process_start *start, const int *copies, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int r;

    if (posix_spawn_file_actions_init(&actions) != 0)
        return -ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return -ENOMEM;
    }
    r = describe_fds(&actions, start, copies);
    if (r == 0)
        r = describe_signals(&attributes);
    if (r == 0)
        r = -posix_spawn(ret_pid, start->argv[0], &actions, &attributes, (char *const *)start->argv,
                         (char *const *)start->env);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&actions);
    return r;
}

int fl_process_start(const struct fl_process_start *start, int *ret_pidfd, struct fl_error *err)
{
    int copies[FL_PROCESS_FDS_MAX], pidfd;
    pid_t pid = -1;
    int r;

    if (start->fd_count > FL_PROCESS_FDS_MAX)
        return fl_error_set(err, FL_E_INTERNAL, "%zu descriptors are too many", start->fd_count);
    memset(copies, 0xff, sizeof(copies));
    r = lift_fds(start, copies);
    if (r == 0)
        r = spawn(start, copies, &pid);
    for (size_t i = 0; i < FL_PROCESS_FDS_MAX; i++)
        fl_fd_closep(&copies[i]);
    if (r < 0)
        return fl_error_errno(err, -r, "start %s", start->argv[0]);
    pidfd = pidfd_open(pid, 0);
    if (pidfd < 0) { /* it would be nobody's */
        r = errno;
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        return fl_error_errno(err, r, "hold process %d", (int)pid);
    }
    *ret_pidfd = pidfd;
    return 0;
}

int fl_process_open(pid_t pid, int *ret_pidfd, struct fl_error *err)
{
    int fd = pidfd_open(pid, 0);

    if (fd < 0)
        return errno == ESRCH
                   ? fl_error_set(err, FL_E_NOT_FOUND, "there is no process %d", (int)pid)
                   : fl_error_errno(err, errno, "hold process %d", (int)pid);
    *ret_pidfd = fd;
    return 0;
}

bool fl_process_signal(int pidfd, int signum)
{
    return pidfd_send_signal(pidfd, signum, NULL, 0) == 0;
}

bool fl_process_take_end(int pidfd, struct fl_process_end *ret_end)
{
    siginfo_t info = {0};

    if (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0)
        return false;
    *ret_end = (struct fl_process_end){.status = info.si_status};
    if (info.si_code != CLD_EXITED)
        *ret_end = (struct fl_process_end){.status = -1, .signum = info.si_status};
    return true;
}

bool fl_process_reap(int pidfd)
{
    struct fl_process_end end;

    return fl_process_take_end(pidfd, &end);
}

/* 0: it has been reaped. */
static pid_t pid_of(int pidfd)
{
    char path[48], text[512];
    const char *line;
    int pid = 0;
    ssize_t n;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    text[n > 0 ? n : 0] = '\0';
    line = strstr(text, "\nPid:");
    return line && sscanf(line, " Pid: %d", &pid) == 1 && pid > 0 ? pid : 0;
}

void fl_process_signal_group(int pidfd, int signum)
{
    pid_t pid = pid_of(pidfd);

    if (pid > 0)
        (void)kill(-pid, signum);
}

uint64_t fl_process_memory(int pidfd)
{
    pid_t pid = pid_of(pidfd);
    char path[32], text[128];
    unsigned long long pages = 0;
    ssize_t n;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    text[n > 0 ? n : 0] = '\0';
    return sscanf(text, "%*u %llu", &pages) == 1 ? pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

/* What /proc/PID/stat says behind the name, which may hold anything. */
struct stat_line {
    char state;
    pid_t parent, session;
    uint64_t begin;
};

static bool parse_stat(const char *text, struct stat_line *ret_line)
{
    const char *rest = strrchr(text, ')');
    unsigned long long begin;
    int parent, session;
    char state;

    if (!rest || sscanf(rest + 1,
                        " %c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
                        "%*d %llu",
                        &state, &parent, &session, &begin) != 4)
        return false;
    *ret_line =
        (struct stat_line){.state = state, .parent = parent, .session = session, .begin = begin};
    return true;
}

static bool read_stat(pid_t pid, struct stat_line *ret_line)
{
    char path[32], text[1024];
    ssize_t n;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return parse_stat(text, ret_line);
}

uint64_t fl_process_begin(pid_t pid)
{
    struct stat_line line;

    return read_stat(pid, &line) && line.state != 'Z' ? line.begin : 0;
}

struct entry {
    pid_t pid;
    struct stat_line line;
    bool chosen;
};

struct table {
    struct entry *items;
    size_t count, cap;
};

static pid_t next_pid(DIR *proc)
{
    struct dirent *entry;
    int64_t pid;

    while ((entry = readdir(proc)))
        if (fl_str_to_int64(entry->d_name, 1, INT32_MAX, &pid))
            return (pid_t)pid;
    return 0;
}

static void add_entry(struct table *table, const struct entry *entry)
{
    if (table->count == table->cap) {
        table->cap = table->cap ? table->cap * 2 : 256;
        table->items = fl_realloc(table->items, table->cap * sizeof(*table->items));
    }
    table->items[table->count++] = *entry;
}

static int compare_pids(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;

    return (left->pid > right->pid) - (left->pid < right->pid);
}

static struct table read_table(void)
{
    struct table table = {0};
    DIR *proc = opendir("/proc");
    struct entry entry = {0};

    while (proc && (entry.pid = next_pid(proc)))
        if (read_stat(entry.pid, &entry.line))
            add_entry(&table, &entry);
    if (proc)
        (void)closedir(proc);
    if (table.count > 0)
        qsort(table.items, table.count, sizeof(*table.items), compare_pids);
    return table;
}

static bool is_chosen(const struct table *table, pid_t root, pid_t pid)
{
    struct entry key = {.pid = pid};
    const struct entry *found;

    if (pid == root)
        return true;
    found = bsearch(&key, table->items, table->count, sizeof(key), compare_pids);
    return found && found->chosen;
}

/* One level more in each round. */
static void choose_descendants(struct table *table, pid_t root)
{
    bool more = true;

    while (more) {
        more = false;
        for (size_t i = 0; i < table->count; i++) {
            struct entry *entry = &table->items[i];

            if (entry->chosen || entry->pid == root || !is_chosen(table, root, entry->line.parent))
                continue;
            entry->chosen = more = true;
        }
    }
}

static size_t write_chosen(struct table *table, pid_t *out, size_t max)
{
    size_t count = 0;

    for (size_t i = 0; i < table->count; i++) {
        if (!table->items[i].chosen || table->items[i].line.state == 'Z')
            continue;
        if (count < max)
            out[count] = table->items[i].pid;
        count++;
    }
    free(table->items);
    return count;
}

size_t fl_process_descendants(pid_t pid, pid_t *out, size_t max)
{
    struct table table = read_table();

    choose_descendants(&table, pid);
    return write_chosen(&table, out, max);
}

size_t fl_process_session(pid_t session, pid_t *out, size_t max)
{
    struct table table = read_table();

    for (size_t i = 0; i < table.count; i++)
        table.items[i].chosen = table.items[i].line.session == session;
    return write_chosen(&table, out, max);
}

static bool has_entry(const char *data, size_t len, const char *entry)
{
    size_t want = strlen(entry);

    for (const char *at = data; at < data + len;) {
        size_t width = strnlen(at, (size_t)(data + len - at));

        if (width == want && memcmp(at, entry, want) == 0)
            return true;
        at += width + 1;
    }
    return false;
}

/* The kernel gives the file in pieces of a page or so; it has no size to ask for. */
static size_t read_environment(pid_t pid, char *out, size_t size)
{
    char path[40];
    size_t used = 0;
    ssize_t n;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    while (used < size && (n = read(fd, out + used, size - used)) > 0)
        used += (size_t)n;
    (void)close(fd);
    return used;
}

size_t fl_process_marked(const char *entry, pid_t *out, size_t max)
{
    FL_CLEANUP(fl_freep) char *text = fl_malloc(ENVIRON_MAX);
    struct table table = read_table();

    for (size_t i = 0; i < table.count; i++) {
        size_t len = read_environment(table.items[i].pid, text, ENVIRON_MAX);

        table.items[i].chosen = len > 0 && has_entry(text, len, entry);
    }
    return write_chosen(&table, out, max);
}

uint64_t fl_process_capabilities(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    uint64_t mask = 0;
    char line[256];

    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, "CapEff:", 7) == 0)
            mask = strtoull(line + 7, NULL, 16);
    if (file)
        (void)fclose(file);
    return mask;
}

bool fl_process_is_root(void)
{
    return geteuid() == 0;
}

void fl_signal_name(int signum, char out[FL_SIGNAL_NAME_SIZE])
{
    const char *name = sigabbrev_np(signum);

    if (name)
        (void)snprintf(out, FL_SIGNAL_NAME_SIZE, "SIG%s", name);
    else
        (void)snprintf(out, FL_SIGNAL_NAME_SIZE, "SIG%d", signum);
}
