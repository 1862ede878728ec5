/* One process of a run: from fork to exec. The shim has one thread and little memory, so a plain
 * fork is cheap, and the child may do what it needs. */
#include "lib/process.h"
#include "lib/shim_internal.h"
#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define REPORT_FD 3
#define OOM_SCORE "500" /* the program goes before the shim does */

enum step {
    STEP_CGROUP,
    STEP_OUTPUT,
    STEP_USER,
    STEP_FOLDER,
    STEP_PRIVILEGES,
    STEP_PARENT,
    STEP_EXEC,
};
static const char *const step_texts[] = {
    [STEP_CGROUP] = "enter the control group", [STEP_OUTPUT] = "connect the output",
    [STEP_USER] = "become the user",           [STEP_FOLDER] = "enter the working folder",
    [STEP_PRIVILEGES] = "give up privileges",  [STEP_PARENT] = "be tied to the shim",
    [STEP_EXEC] = "execute the program",
};

struct report {
    enum step step;
    int errnum;
};

static void reset_signals(void)
{
    sigset_t none;

    for (int signum = 1; signum < NSIG; signum++)
        (void)signal(signum, SIG_DFL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static bool connect_output(const int fds[FL_SHIM_STREAMS], int report)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (report >= 0 &&
        (report == REPORT_FD ? fcntl(report, F_SETFD, 0) : dup2(report, REPORT_FD)) < 0)
        return false;
    return null >= 0 && dup2(null, STDIN_FILENO) >= 0 &&
           dup2(fds[FL_SHIM_STDOUT] >= 0 ? fds[FL_SHIM_STDOUT] : null, STDOUT_FILENO) >= 0 &&
           dup2(fds[FL_SHIM_STDERR] >= 0 ? fds[FL_SHIM_STDERR] : null, STDERR_FILENO) >= 0;
}

static bool become(int64_t user)
{
    if (user < 0)
        return true;
    if (geteuid() == 0 && setgroups(0, NULL) != 0)
        return false;
    return setresgid((gid_t)user, (gid_t)user, (gid_t)user) == 0 &&
           setresuid((uid_t)user, (uid_t)user, (uid_t)user) == 0;
}

static void raise_oom_score(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    if (write(fd, OOM_SCORE, strlen(OOM_SCORE)) < 0)
        (void)0; /* it is a hint for the kernel, and forbidden in some containers */
    (void)close(fd);
}

static struct report fail(enum step step)
{
    return (struct report){step, errno};
}

/* The tie to the shim comes after the user's change, which would cut it. */
static struct report become_program(const struct fl_shim_spec *spec,
                                    const struct fl_shim_list *command,
                                    const int fds[FL_SHIM_STREAMS], int to_program, pid_t shim)
{
    int r;

    (void)setsid();
    r = fl_cgroup_enter(&spec->cgroup);
    if (r)
        return (struct report){STEP_CGROUP, r};
    raise_oom_score();
    if (!connect_output(fds, to_program))
        return fail(STEP_OUTPUT);
    if (!become(spec->user))
        return fail(STEP_USER);
    if (chdir(spec->working_folder) != 0 || access(".", X_OK) != 0)
        return fail(STEP_FOLDER);
    if (!spec->privileged && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail(STEP_PRIVILEGES);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != shim)
        return fail(STEP_PARENT);
    /* What a runtime makes in an image on the way to a file is for the image's user. */
    (void)umask(spec->container.pid_file ? 022 : 077);
    reset_signals();
    (void)execve(command->items[0], (char *const *)command->items, (char *const *)spec->env.items);
    return fail(STEP_EXEC);
}

/* Closed by exec: nothing to read means that the program runs. */
static bool read_report(int fd, struct report *ret_report)
{
    ssize_t n;

    do
        n = read(fd, ret_report, sizeof(*ret_report));
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof(*ret_report);
}

static void child(const struct fl_shim_spec *spec, const struct fl_shim_list *command,
                  const int fds[FL_SHIM_STREAMS], int to_program, int report_fd, pid_t shim)
{
    struct report report = become_program(spec, command, fds, to_program, shim);

    if (write(report_fd, &report, sizeof(report)) < 0)
        _exit(126);
    _exit(127);
}

static int no_program(const struct fl_shim_spec *spec, const struct fl_shim_list *command,
                      const struct report *report, struct fl_error *err)
{
    const char *what = command->items[0];

    if (report->step == STEP_FOLDER)
        what = spec->working_folder;
    else if (report->step == STEP_CGROUP && spec->cgroup.count > 0)
        what = spec->cgroup.folders[0];
    return fl_error_errno(err, report->errnum, "cannot %s (%s)",
                          step_texts[report->step % FL_COUNT_OF(step_texts)], what);
}

int fl_shim_run(const struct fl_shim_spec *spec, const struct fl_shim_list *command,
                const int fds[FL_SHIM_STREAMS], int to_program, pid_t *ret_pid,
                struct fl_error *err)
{
    struct report report;
    int ends[2], r = 0;
    pid_t shim = getpid(), pid;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return fl_error_errno(err, errno, "make a pipe");
    pid = fork();
    if (pid == 0)
        child(spec, command, fds, to_program, ends[1], shim);
    (void)close(ends[1]);
    if (pid < 0) {
        r = fl_error_errno(err, errno, "fork");
    } else if (read_report(ends[0], &report)) {
        (void)waitpid(pid, NULL, 0);
        r = no_program(spec, command, &report, err);
    }
    (void)close(ends[0]);
    if (r == 0)
        *ret_pid = pid;
    return r;
}
