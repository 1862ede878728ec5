#define FL_ALLOW_BANNED
#include "lib/run.h"

#include "lib/buf.h"
#include "lib/env.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ASK_EVERY_MS 1000

struct fl_run_cancel {
    int fd;
};

int fl_run_cancel_create(struct fl_run_cancel **ret_cancel, struct fl_error *err)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct fl_run_cancel *cancel;

    if (fd < 0)
        return fl_error_errno(err, errno, "eventfd");
    cancel = fl_calloc(1, sizeof(*cancel));
    cancel->fd = fd;
    *ret_cancel = cancel;
    return 0;
}

void fl_run_cancel_destroy(struct fl_run_cancel *cancel)
{
    if (!cancel)
        return;
    (void)close(cancel->fd);
    free(cancel);
}

void fl_run_cancel(struct fl_run_cancel *cancel)
{
    (void)eventfd_write(cancel->fd, 1); /* stays readable for good */
}

void fl_run_result_finish(struct fl_run_result *result)
{
    fl_bytes_unref(result->output);
    fl_bytes_unref(result->errors);
    *result = (struct fl_run_result){0};
}

/* One run. The ends of ours of the three pipes are -1 once they are closed. */
struct run {
    const struct fl_run_options *options;
    int in, out, errors, pidfd;
    int theirs[3];
    pid_t pid;
    size_t written;
    struct fl_buf output, complaints;
    size_t heard; /* bytes of output that were given on */
    int64_t deadline_us, asked_us;
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static void finish(struct run *run)
{
    close_fd(&run->in);
    close_fd(&run->out);
    close_fd(&run->errors);
    close_fd(&run->pidfd);
    for (size_t i = 0; i < FL_COUNT_OF(run->theirs); i++)
        close_fd(&run->theirs[i]);
    fl_buf_finish(&run->output);
    fl_buf_finish(&run->complaints);
}

static int make_pipe(int *ours, int *theirs, bool we_write, struct fl_error *err)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return fl_error_errno(err, errno, "pipe");
    *ours = fds[we_write ? 1 : 0];
    *theirs = fds[we_write ? 0 : 1];
    if (fcntl(*ours, F_SETFL, O_NONBLOCK) < 0)
        return fl_error_errno(err, errno, "pipe");
    return 0;
}

static int make_pipes(struct run *run, struct fl_error *err)
{
    int r = make_pipe(&run->in, &run->theirs[0], true, err);

    if (r == 0)
        r = make_pipe(&run->out, &run->theirs[1], false, err);
    if (r == 0)
        r = make_pipe(&run->errors, &run->theirs[2], false, err);
    return r;
}

/* No signal is blocked or ignored there, and nothing of ours is open. */
static int spawn(struct run *run)
{
    static char *const nothing[] = {NULL};
    const struct fl_run_options *options = run->options;
    char *const *env = options->env ? (char *const *)options->env : nothing;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    int r;

    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    (void)posix_spawnattr_init(&attributes);
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                                    POSIX_SPAWN_SETSIGDEF);
    (void)posix_spawnattr_setsigmask(&attributes, &none);
    (void)posix_spawnattr_setsigdefault(&attributes, &all);
    (void)posix_spawn_file_actions_init(&actions);
    for (int i = 0; i < 3; i++)
        (void)posix_spawn_file_actions_adddup2(&actions,
                                               run->theirs[i == 2 && options->together ? 1 : i], i);
    (void)posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    r = posix_spawn(&run->pid, options->program, &actions, &attributes,
                    (char *const *)options->argv, env);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attributes);
    return r;
}

static int start(struct run *run, struct fl_error *err)
{
    int r = make_pipes(run, err);

    if (r < 0)
        return r;
    r = spawn(run);
    if (r != 0)
        return fl_error_set(err, FL_E_UNAVAILABLE, "%s cannot be started: %s",
                            run->options->program, strerror(r));
    for (size_t i = 0; i < FL_COUNT_OF(run->theirs); i++)
        close_fd(&run->theirs[i]);
    run->pidfd = (int)syscall(SYS_pidfd_open, run->pid, 0);
    return run->pidfd < 0 ? fl_error_errno(err, errno, "pidfd_open") : 0;
}

/* Whatever the program at large does about SIGPIPE: here it is an error of the write. */
static ssize_t write_quietly(int fd, const void *data, size_t len)
{
    static const struct timespec at_once = {0};
    sigset_t of_pipe, before;
    ssize_t n;
    int errnum;

    (void)sigemptyset(&of_pipe);
    (void)sigaddset(&of_pipe, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &of_pipe, &before);
    n = write(fd, data, len);
    errnum = errno;
    if (n < 0 && errnum == EPIPE)
        (void)sigtimedwait(&of_pipe, NULL, &at_once);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = errnum;
    return n;
}

/* A program that does not want all of its input is no failure of ours. */
static void feed(struct run *run)
{
    size_t left = run->options->input_len - run->written;
    ssize_t n = 0;

    if (left > 0)
        n = write_quietly(run->in, (const char *)run->options->input + run->written, left);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        run->written += (size_t)n;
    if (n < 0 || run->written == run->options->input_len)
        close_fd(&run->in);
}

static void drain(int *fd, struct fl_buf *into)
{
    char piece[16384];
    ssize_t n;

    while (*fd >= 0) {
        n = read(*fd, piece, sizeof(piece));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            close_fd(fd);
            return;
        }
        fl_buf_append(into, piece, (size_t)n);
        if (into->overflow)
            return;
    }
}

/* Who hears it gets it once; what was given on still counts. */
static void drain_output(struct run *run)
{
    bool overflow;

    drain(&run->out, &run->output);
    if (!run->options->heard || run->output.len == 0)
        return;
    run->heard += run->output.len;
    overflow = run->output.overflow || run->heard > run->options->output_max;
    run->options->heard(run->options->user, run->output.data, run->output.len);
    fl_buf_clear(&run->output);
    run->output.overflow = overflow;
}

static int too_much(const struct run *run, struct fl_error *err)
{
    return fl_error_set(err, FL_E_TOO_LARGE, "it wrote more than %zu bytes",
                        run->options->output_max);
}

/* What does not fit of the errors is dropped, so that the program goes on. */
static void drain_errors(struct run *run)
{
    char piece[4096];
    ssize_t n;

    while (run->errors >= 0 && (n = read(run->errors, piece, sizeof(piece))) != 0) {
        size_t room = run->options->errors_max - run->complaints.len;

        if (n < 0 && errno != EINTR)
            return;
        if (n > 0)
            fl_buf_append(&run->complaints, piece, (size_t)n < room ? (size_t)n : room);
    }
    close_fd(&run->errors);
}

static int timeout_of(const struct run *run)
{
    int64_t left_ms = (run->deadline_us - fl_machine_monotonic_us() + 999) / 1000;
    int most_ms = run->options->keep_going ? ASK_EVERY_MS : 60000;

    if (left_ms <= 0)
        return 0;
    return left_ms < most_ms ? (int)left_ms : most_ms;
}

static bool is_wanted(struct run *run)
{
    const struct fl_run_options *options = run->options;
    int64_t now_us = fl_machine_monotonic_us();

    if (!options->keep_going || now_us - run->asked_us < (int64_t)ASK_EVERY_MS * 1000)
        return true;
    run->asked_us = now_us;
    return options->keep_going(options->user);
}

/* > 0: it has ended. */
static int step(struct run *run, struct fl_error *err)
{
    struct fl_run_cancel *cancel = run->options->cancel;
    struct pollfd fds[] = {
        {.fd = run->pidfd, .events = POLLIN},
        {.fd = run->in, .events = POLLOUT},
        {.fd = run->out, .events = POLLIN},
        {.fd = run->errors, .events = POLLIN},
        {.fd = cancel ? cancel->fd : -1, .events = POLLIN},
    };

    if (poll(fds, FL_COUNT_OF(fds), timeout_of(run)) < 0 && errno != EINTR)
        return fl_error_errno(err, errno, "poll");
    if (fds[1].revents)
        feed(run);
    drain_output(run);
    drain_errors(run);
    if (run->output.overflow)
        return too_much(run, err);
    if (fds[0].revents)
        return 1;
    if (fds[4].revents || !is_wanted(run))
        return fl_error_set(err, FL_E_CONFLICT, "it was cancelled");
    if (fl_machine_monotonic_us() >= run->deadline_us)
        return fl_error_set(err, FL_E_TIMEOUT, "it did not end within %lld ms",
                            (long long)run->options->timeout_ms);
    return 0;
}

/* The group goes while its leader, dead or not, still holds the number. */
static void reap(struct run *run, struct fl_run_result *result)
{
    int status = 0;

    (void)kill(-run->pid, SIGKILL);
    (void)kill(run->pid, SIGKILL); /* where the group is not there yet */
    while (waitpid(run->pid, &status, 0) < 0 && errno == EINTR)
        ;
    result->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result->signum = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

int fl_run(const struct fl_run_options *options, struct fl_run_result *ret_result,
           struct fl_error *err)
{
    struct run run = {
        .options = options, .in = -1, .out = -1, .errors = -1, .pidfd = -1, .theirs = {-1, -1, -1}};
    int r;

    *ret_result = (struct fl_run_result){.status = -1};
    fl_buf_init(&run.output, options->output_max);
    fl_buf_init(&run.complaints, options->errors_max);
    run.deadline_us = fl_machine_monotonic_us() + options->timeout_ms * 1000;
    r = start(&run, err);
    while (r == 0)
        r = step(&run, err);
    if (run.pid > 0)
        reap(&run, ret_result);
    drain_output(&run);
    drain_errors(&run);
    ret_result->output = fl_buf_to_bytes(&run.output);
    ret_result->errors = fl_buf_to_bytes(&run.complaints);
    if (r > 0 && run.output.overflow)
        r = too_much(&run, err);
    finish(&run);
    return r < 0 ? r : 0;
}
