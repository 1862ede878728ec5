/* The shim's life: start, wait, obey, tidy up, tell. It sleeps in poll and wakes for nothing. */
#include "lib/shim.h"

#include "lib/process.h"
#include "lib/shim_internal.h"
#include "lib/str.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PEERS_MAX       8
#define CHECKS_MAX      16 /* at one time */
#define SPEC_MAX        ((off_t)64 * 1024 * 1024)
#define STATUS_ROOM     (32 * 1024)
#define READ_SIZE       16384
#define READS_AT_ONCE   64 /* of one stream, so that orders are heard in between */
#define SWEEP_MAX_MS    200
#define RECORD_RETRY_MS 1000
#define RECORD_TRIES    600
#define STARTER_MS      120000 /* what starts a container may take */
#define REMOVE_MS       30000  /* what tidies up after it */
#define NEVER           INT64_MAX

struct check {
    pid_t pid; /* 0: free */
    int64_t ticket, deadline_ms;
    bool timed_out;
};

struct shim {
    struct fl_arena *arena;
    struct fl_shim_spec spec;
    struct fl_shim_spec beside; /* of a container: as its runtime's commands are run */
    struct fl_shim_status status;
    struct fl_shim_output *output;
    int signals, peers[PEERS_MAX], streams[FL_SHIM_STREAMS];
    int report; /* of a container's first process; < 0: none */
    struct check checks[CHECKS_MAX];
    pid_t program; /* 0: not there (any more) */
    pid_t starter; /* of a container, until it is up; 0: none */
    int64_t starter_ends_ms;
    bool starter_ended, starter_well;
    bool is_told;
    int refusal, told_how; /* the first process' word: the errno of exec, and the end */
    int how;               /* as waitpid told it */
    struct fl_shim_order stop;
    int64_t kill_at_ms;   /* NEVER: not asked for */
    int64_t record_at_ms; /* NEVER: that it is up is written down */
};

int64_t fl_shim_realtime_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t fl_shim_monotonic_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void tell(struct shim *s, const char *text)
{
    for (size_t i = 0; i < PEERS_MAX; i++)
        if (s->peers[i] >= 0)
            (void)fl_shim_send(s->peers[i], text); /* who does not listen will look by itself */
}

/* The program. */

static int open_streams(struct shim *s, int ends[FL_SHIM_STREAMS], struct fl_error *err)
{
    for (unsigned i = 0; i < FL_SHIM_STREAMS; i++) {
        int both[2];

        if (pipe2(both, O_CLOEXEC) != 0)
            return fl_error_errno(err, errno, "make a pipe");
        s->streams[i] = both[0];
        ends[i] = both[1];
        (void)fcntl(both[0], F_SETFL, O_NONBLOCK);
    }
    return 0;
}

static bool is_container(const struct shim *s)
{
    return s->spec.container.pid_file != NULL;
}

/* Who enters a container's group and becomes its user is its runtime's business. */
static void prepare_beside(struct shim *s)
{
    s->beside = s->spec;
    if (!is_container(s))
        return;
    s->beside.cgroup.count = 0;
    s->beside.user = -1;
    s->beside.privileged = true;
}

static int run_program(struct shim *s, const int ends[FL_SHIM_STREAMS], struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int to_program = -1;
    int both[2];

    if (!is_container(s))
        return fl_shim_run(&s->spec, &s->spec.command, ends, -1, &s->program, err);
    if (s->spec.container.init) {
        if (pipe2(both, O_CLOEXEC) != 0)
            return fl_error_errno(err, errno, "make a pipe");
        (void)fcntl(both[0], F_SETFL, O_NONBLOCK);
        s->report = both[0], to_program = both[1];
    }
    s->starter_ends_ms = fl_shim_monotonic_ms() + STARTER_MS;
    return fl_shim_run(&s->beside, &s->spec.command, ends, to_program, &s->starter, err);
}

static int start_program(struct shim *s, struct fl_error *err)
{
    int ends[FL_SHIM_STREAMS] = {-1, -1};
    int r = fl_shim_container_mount(&s->spec, err);

    prepare_beside(s);
    if (r == 0)
        r = fl_shim_put_files(&s->spec, err);
    if (r < 0)
        return r;
    r = open_streams(s, ends, err);
    if (r == 0)
        r = run_program(s, ends, err);
    for (unsigned i = 0; i < FL_SHIM_STREAMS; i++)
        fl_fd_closep(&ends[i]);
    return r;
}

static void pump(struct shim *s, unsigned stream)
{
    char data[READ_SIZE];
    ssize_t n = 0;

    for (unsigned i = 0; i < READS_AT_ONCE; i++) {
        n = read(s->streams[stream], data, sizeof(data));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        fl_shim_output_take(s->output, stream, data, (size_t)n);
    }
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        (void)close(s->streams[stream]);
        s->streams[stream] = -1;
    }
}

/* Checks: commands beside the program. */

static void end_check(struct shim *s, struct check *check, int64_t code)
{
    char text[64];

    (void)snprintf(text, sizeof(text), "checked %" PRId64 " %" PRId64, check->ticket, code);
    *check = (struct check){0};
    tell(s, text);
}

static void kill_these(const pid_t *pids, size_t count, size_t max)
{
    for (size_t i = 0; i < count && i < max; i++)
        (void)kill(pids[i], SIGKILL);
}

/* It had a session of its own, and what entered a container is its child; what left both goes when
 * the run does. */
static void kill_check(const struct check *check)
{
    pid_t pids[256];

    kill_these(pids, fl_process_descendants(check->pid, pids, FL_COUNT_OF(pids)),
               FL_COUNT_OF(pids));
    kill_these(pids, fl_process_session(check->pid, pids, FL_COUNT_OF(pids)), FL_COUNT_OF(pids));
    (void)kill(check->pid, SIGKILL);
}

static void start_check(struct shim *s, const struct fl_shim_order *order)
{
    static const int no_output[FL_SHIM_STREAMS] = {-1, -1};
    const struct fl_shim_list *command = &s->spec.checks[order->check];
    struct check *check = NULL, refused = {.ticket = order->ticket};
    pid_t pid;

    for (size_t i = 0; i < CHECKS_MAX && !check; i++)
        if (s->checks[i].pid == 0)
            check = &s->checks[i];
    if (!check || command->count == 0 || s->program == 0 ||
        fl_shim_run(&s->beside, command, no_output, -1, &pid, NULL) < 0) {
        end_check(s, &refused, FL_SHIM_CHECK_FAILED);
        return;
    }
    *check = (struct check){.pid = pid,
                            .ticket = order->ticket,
                            .deadline_ms = fl_shim_monotonic_ms() + order->timeout_ms};
}

/* Children. */

static void take_exit(struct shim *s, pid_t pid, int how)
{
    if (pid == s->starter) {
        s->starter = 0;
        s->starter_well = WIFEXITED(how) && WEXITSTATUS(how) == 0;
        s->starter_ended = true;
        return;
    }
    if (pid == s->program) {
        s->program = 0;
        s->how = how;
        s->status.ended_us = fl_shim_realtime_us();
        return;
    }
    for (size_t i = 0; i < CHECKS_MAX; i++) {
        struct check *check = &s->checks[i];

        if (check->pid != pid)
            continue;
        kill_check(check);
        end_check(s, check,
                  check->timed_out ? FL_SHIM_CHECK_TIMEOUT
                  : WIFEXITED(how) ? WEXITSTATUS(how)
                                   : 128 + WTERMSIG(how));
    }
}

/* False where there is no child at all: as what they leave behind becomes ours, none of the run is
 * left then. */
static bool reap(struct shim *s)
{
    struct signalfd_siginfo info;
    int how;
    pid_t pid;

    while (read(s->signals, &info, sizeof(info)) > 0)
        ;
    if (s->starter) { /* the program could be among others, and is not known yet */
        pid = waitpid(s->starter, &how, WNOHANG);
        if (pid > 0)
            take_exit(s, pid, how);
        return true;
    }
    while ((pid = waitpid(-1, &how, WNOHANG)) > 0)
        take_exit(s, pid, how);
    return pid == 0;
}

/* Without control groups a bomb forks while its parts are shot: they are all stopped first. */
static void kill_descendants(void)
{
    pid_t pids[1024];
    size_t count = 0, before;

    for (unsigned round = 0; round < 50; round++) {
        before = count;
        count = fl_process_descendants(getpid(), pids, FL_COUNT_OF(pids));
        for (size_t i = 0; i < count && i < FL_COUNT_OF(pids); i++)
            (void)kill(pids[i], SIGSTOP);
        if (count <= before)
            break;
    }
    for (size_t i = 0; i < count && i < FL_COUNT_OF(pids); i++)
        (void)kill(pids[i], SIGKILL);
}

static void kill_all(struct shim *s)
{
    if (!fl_cgroup_kill(&s->spec.cgroup))
        kill_descendants();
}

/* Nothing of the run may be left when its end is told, so this has no deadline; what is left only
 * while the kernel holds it (a disk that does not answer) is waited for. */
static void sweep(struct shim *s)
{
    struct pollfd wake = {.fd = s->signals, .events = POLLIN};
    int wait_ms = 1;

    while (reap(s)) {
        kill_all(s);
        (void)poll(&wake, 1, wait_ms);
        wait_ms = wait_ms * 2 < SWEEP_MAX_MS ? wait_ms * 2 : SWEEP_MAX_MS;
    }
    for (unsigned i = 0; i < 1000 && fl_cgroup_kill(&s->spec.cgroup); i++)
        (void)poll(NULL, 0, 1); /* not our descendants: somebody put them into the group */
}

/* Orders. */

/* One that is only being started is asked when it is there. */
static void ask_to_end(struct shim *s)
{
    if (s->program == 0 || s->stop.grace_ms <= 0)
        return;
    (void)kill(s->program, s->stop.signum);
    (void)kill(s->program, SIGCONT); /* a stopped one could not hear it */
}

static void obey_stop(struct shim *s, const struct fl_shim_order *order)
{
    int64_t kill_at_ms = fl_shim_monotonic_ms() + order->grace_ms;

    if (s->program == 0 && s->starter == 0)
        return;                   /* it ended by itself before it was told to */
    if (s->kill_at_ms == NEVER) { /* the first reason stays */
        s->stop = *order;
        ask_to_end(s);
    }
    if (kill_at_ms < s->kill_at_ms)
        s->kill_at_ms = kill_at_ms;
}

static void hear(struct shim *s, size_t peer)
{
    char text[FL_SHIM_MESSAGE_MAX];
    struct fl_shim_order order;
    int r;

    while ((r = fl_shim_receive(s->peers[peer], text)) > 0) {
        if (!fl_shim_order_parse(text, &order))
            continue;
        if (order.is_check)
            start_check(s, &order);
        else
            obey_stop(s, &order);
    }
    if (r < 0) {
        (void)close(s->peers[peer]);
        s->peers[peer] = -1;
    }
}

/* Who connects takes over: where all places are taken, the one who was first loses it. What
 * happened before is told at once. */
static void welcome(struct shim *s)
{
    int peer = accept4(FL_SHIM_SOCKET_FD, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (peer < 0)
        return;
    (void)fl_shim_send(peer, "changed");
    for (size_t i = 0; i < PEERS_MAX; i++) {
        if (s->peers[i] < 0) {
            s->peers[i] = peer;
            return;
        }
    }
    (void)close(s->peers[0]);
    s->peers[0] = peer;
}

/* That it is up. */

/* The room for the last words is taken while there is some. */
static void reserve_status(struct shim *s)
{
    const char *path = fl_arena_printf(s->arena, "%s/" FL_SHIM_STATUS ".next", s->spec.folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return;
    (void)posix_fallocate(fd, 0, STATUS_ROOM);
    (void)close(fd);
}

/* A run of which this is not known would be starting for ever: a disk that takes nothing is asked
 * again. */
static void record_start(struct shim *s)
{
    if (fl_shim_status_write(s->spec.folder, &s->status, false, NULL) < 0) {
        s->record_at_ms = fl_shim_monotonic_ms() + RECORD_RETRY_MS;
        return;
    }
    s->record_at_ms = NEVER;
    reserve_status(s);
    tell(s, "changed");
}

/* Time. */

static int64_t next_deadline(const struct shim *s)
{
    int64_t next = s->kill_at_ms < s->record_at_ms ? s->kill_at_ms : s->record_at_ms;

    if (s->starter && s->starter_ends_ms < next)
        next = s->starter_ends_ms;
    for (size_t i = 0; i < CHECKS_MAX; i++)
        if (s->checks[i].pid && !s->checks[i].timed_out && s->checks[i].deadline_ms < next)
            next = s->checks[i].deadline_ms;
    return next;
}

static int until(int64_t deadline_ms)
{
    int64_t rest = deadline_ms == NEVER ? -1 : deadline_ms - fl_shim_monotonic_ms();

    if (deadline_ms == NEVER)
        return -1;
    return rest < 0 ? 0 : rest > 3600000 ? 3600000 : (int)rest;
}

static void look_at_clock(struct shim *s)
{
    int64_t now_ms = fl_shim_monotonic_ms();

    for (size_t i = 0; i < CHECKS_MAX; i++) {
        struct check *check = &s->checks[i];

        if (check->pid && !check->timed_out && check->deadline_ms <= now_ms) {
            check->timed_out = true;
            kill_check(check);
        }
    }
    if (s->kill_at_ms <= now_ms && (s->program || s->starter)) {
        kill_all(s);
        if (s->program)
            (void)kill(s->program, SIGKILL);
        s->kill_at_ms = now_ms + SWEEP_MAX_MS;
    }
    if (s->starter && s->starter_ends_ms <= now_ms) {
        (void)kill(s->starter, SIGKILL);
        s->starter_ends_ms = NEVER;
    }
    if (s->record_at_ms <= now_ms)
        record_start(s);
}

static void note_start(struct shim *s)
{
    s->status.started_us = fl_shim_realtime_us();
    if (s->status.ended_us && s->status.ended_us < s->status.started_us)
        s->status.started_us = s->status.ended_us; /* it was quicker than its word */
    record_start(s);
}

/* A container is up when what started it has ended: from then on its first process is the program,
 * ours by inheritance. */
static void take_over(struct shim *s)
{
    if (!s->starter_ended)
        return;
    s->starter_ended = false;
    s->program = s->starter_well ? fl_shim_container_pid(&s->spec) : 0;
    if (s->program == 0)
        return;
    s->status.pid = s->program;
    if (s->kill_at_ms != NEVER)
        ask_to_end(s);
    if (s->report < 0)
        note_start(s);
    (void)reap(s);
}

/* What the first process says of the program. */
static void hear_program(struct shim *s)
{
    char text[1 + sizeof(int)];
    ssize_t n;

    while ((n = read(s->report, text, sizeof(text))) == (ssize_t)sizeof(text)) {
        if (text[0] == 's' && s->status.started_us == 0)
            note_start(s);
        if (text[0] != 'e' && text[0] != 'w')
            continue;
        memcpy(text[0] == 'e' ? &s->refusal : &s->told_how, text + 1, sizeof(s->how));
        s->is_told |= text[0] == 'w';
    }
    if (n >= 0 || (errno != EAGAIN && errno != EINTR)) {
        (void)close(s->report);
        s->report = -1;
    }
}

enum { AT_SIGNALS, AT_SOCKET, AT_REPORT, AT_STREAMS, AT_PEERS = AT_STREAMS + FL_SHIM_STREAMS };

static void wait_once(struct shim *s)
{
    struct pollfd fds[AT_PEERS + PEERS_MAX];

    fds[AT_SIGNALS].fd = s->signals;
    fds[AT_SOCKET].fd = FL_SHIM_SOCKET_FD;
    fds[AT_REPORT].fd = s->report;
    for (size_t i = 0; i < FL_SHIM_STREAMS; i++)
        fds[AT_STREAMS + i].fd = s->streams[i];
    for (size_t i = 0; i < PEERS_MAX; i++)
        fds[AT_PEERS + i].fd = s->peers[i];
    for (size_t i = 0; i < FL_COUNT_OF(fds); i++)
        fds[i].events = POLLIN, fds[i].revents = 0;
    if (poll(fds, FL_COUNT_OF(fds), until(next_deadline(s))) < 0)
        return;
    for (unsigned i = 0; i < FL_SHIM_STREAMS; i++)
        if (fds[AT_STREAMS + i].revents)
            pump(s, i);
    if (fds[AT_SIGNALS].revents) /* before orders: one that has ended is not stopped */
        (void)reap(s);
    take_over(s);
    if (s->report >= 0 && s->program)
        hear_program(s);
    if (fds[AT_SOCKET].revents)
        welcome(s);
    for (size_t i = 0; i < PEERS_MAX; i++)
        if (fds[AT_PEERS + i].revents && s->peers[i] >= 0)
            hear(s, i);
    look_at_clock(s);
}

/* The end. */

static void tell_how(struct shim *s)
{
    struct fl_shim_status *status = &s->status;
    int64_t oom_kills = fl_cgroup_oom_kills(&s->spec.cgroup);
    bool killed = WIFSIGNALED(s->how) && WTERMSIG(s->how) == SIGKILL;
    char name[FL_SIGNAL_NAME_SIZE];

    if (WIFEXITED(s->how)) {
        status->has_code = true;
        status->code = WEXITSTATUS(s->how);
        status->reason = status->code == 0 ? "Completed" : "Error";
        killed = status->code == 128 + SIGKILL; /* a shell tells so of what it ran */
    } else {
        fl_signal_name(WTERMSIG(s->how), name);
        status->signal = fl_arena_strdup(s->arena, name);
        status->reason = "Signal";
    }
    status->oom_killed = killed && oom_kills > 0 && s->kill_at_ms == NEVER;
    if (status->oom_killed)
        status->reason = "OOMKilled";
    if (s->kill_at_ms != NEVER) {
        status->reason = s->stop.reason;
        status->message = *s->stop.message ? s->stop.message : NULL;
    }
}

/* How a run ended must not be lost: a disk that takes nothing is asked again for a while. */
static void record_end(struct shim *s)
{
    s->status.ended = true;
    for (unsigned i = 0; i < RECORD_TRIES; i++) {
        if (fl_shim_status_write(s->spec.folder, &s->status, true, NULL) == 0 ||
            access(s->spec.folder, W_OK) != 0)
            return;
        (void)poll(NULL, 0, RECORD_RETRY_MS);
    }
}

/* What the runtime keeps of a container, and its groups. A runtime that hangs is killed; the next
 * control plane's sweep tries again. */
static void remove_container(struct shim *s)
{
    static const int no_output[FL_SHIM_STREAMS] = {-1, -1};
    const struct fl_shim_list *command = &s->spec.container.remove;
    int64_t deadline_ms = fl_shim_monotonic_ms() + REMOVE_MS;
    struct pollfd wake = {.fd = s->signals, .events = POLLIN};
    pid_t pid;

    if (!is_container(s) || command->count == 0 ||
        fl_shim_run(&s->beside, command, no_output, -1, &pid, NULL) < 0)
        return;
    while (reap(s) && fl_shim_monotonic_ms() < deadline_ms)
        (void)poll(&wake, 1, until(deadline_ms));
    sweep(s);
}

static void finish(struct shim *s)
{
    char *tail;

    if (s->status.ended_us == 0) /* it was stopped before it was there */
        s->status.ended_us = fl_shim_realtime_us();
    sweep(s);
    for (unsigned i = 0; i < FL_SHIM_STREAMS; i++)
        while (s->streams[i] >= 0) {
            struct pollfd more = {.fd = s->streams[i], .events = POLLIN};

            pump(s, i);
            if (poll(&more, 1, 0) <= 0)
                break; /* somebody else holds the other end */
        }
    fl_shim_output_finish(s->output);
    tell_how(s);
    remove_container(s); /* after the count of what was killed for memory */
    fl_shim_remove_files(&s->spec);
    (void)fl_cgroup_remove(&s->spec.cgroup);
    tail = fl_shim_output_tail(s->output);
    s->status.log_tail = tail;
    record_end(s);
    tell(s, "changed");
    free(tail);
}

static void fail_start(struct shim *s, const struct fl_error *err)
{
    sweep(s);
    remove_container(s);
    fl_shim_remove_files(&s->spec);
    (void)fl_cgroup_remove(&s->spec.cgroup);
    s->status.reason = "StartFailed";
    s->status.message = err->msg;
    s->status.ended_us = fl_shim_realtime_us();
    record_end(s);
    tell(s, "changed");
}

/* The beginning. */

/* A spec stays where it is: its memory is shared with nobody, and given back when the shim ends. */
static int read_spec(struct shim *s, struct fl_error *err)
{
    struct stat st;
    void *data;

    if (fstat(FL_SHIM_SPEC_FD, &st) != 0 || st.st_size <= 0 || st.st_size > SPEC_MAX)
        return fl_error_set(err, FL_E_INVALID, "there is no spec at descriptor 3");
    data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, FL_SHIM_SPEC_FD, 0);
    if (data == MAP_FAILED)
        return fl_error_errno(err, errno, "map the spec");
    (void)close(FL_SHIM_SPEC_FD);
    return fl_shim_spec_decode(s->arena, data, (size_t)st.st_size, &s->spec, err);
}

static int open_signals(struct shim *s, struct fl_error *err)
{
    static const int ignored[] = {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
    sigset_t children;

    for (size_t i = 0; i < FL_COUNT_OF(ignored); i++)
        (void)signal(ignored[i], SIG_IGN);
    (void)sigemptyset(&children);
    (void)sigaddset(&children, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &children, NULL);
    s->signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    return s->signals >= 0 ? 0 : fl_error_errno(err, errno, "watch for signals");
}

/* Why a container is not up. */
static void tell_problem(const struct shim *s, struct fl_error *err)
{
    if (s->refusal)
        (void)fl_error_errno(err, s->refusal, "cannot execute the program (%s)",
                             fl_str_or(s->spec.container.program, "?"));
    else
        (void)fl_shim_container_problem(&s->spec, err);
}

static int run(struct shim *s, struct fl_error *err)
{
    int r = read_spec(s, err);

    if (r < 0)
        return r;
    for (int fd = FL_SHIM_SOCKET_FD; fd <= FL_SHIM_LOCK_FD; fd++)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    (void)fcntl(FL_SHIM_SOCKET_FD, F_SETFL, O_NONBLOCK);
    (void)listen(FL_SHIM_SOCKET_FD, FL_SHIM_BACKLOG); /* who connects now is told of us */
    (void)umask(077);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    r = open_signals(s, err);
    if (r < 0)
        return r;
    s->output = fl_shim_output_create(&s->spec);
    if (start_program(s, err) < 0) {
        fail_start(s, err);
        return 0;
    }
    s->status.pid = s->program;
    if (s->program)
        note_start(s);
    while (s->program || s->starter)
        wait_once(s);
    if (s->report >= 0)
        hear_program(s);
    if (s->is_told)
        s->how = s->told_how; /* truer than what an exit status could say */
    if (s->status.started_us == 0 && s->kill_at_ms == NEVER) {
        tell_problem(s, err);
        fail_start(s, err);
    } else {
        finish(s);
    }
    return 0;
}

int fl_shim_main(void)
{
    struct shim s = {.arena = fl_arena_create(),
                     .kill_at_ms = NEVER,
                     .record_at_ms = NEVER,
                     .signals = -1,
                     .report = -1,
                     .how = SIGKILL};
    struct fl_error err = {0};
    int r;

    memset(s.peers, 0xff, sizeof(s.peers));
    memset(s.streams, 0xff, sizeof(s.streams));
    r = run(&s, &err);
    fl_shim_output_destroy(s.output);
    fl_arena_destroy(s.arena);
    if (r < 0)
        (void)fprintf(stderr, "shim: %s\n", err.msg);
    return r < 0 ? 1 : 0;
}
