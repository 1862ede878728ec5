/* `flops-init`: the first process of a container. The kernel shields a first process from signals
 * that it does not handle, and hands it all orphans; most programs expect neither. So this one is
 * first, passes signals on to the program, reaps, and ends when the program does.
 *
 * flops-init PROGRAM [ARGUMENT]…
 *
 * On descriptor 3 it tells who holds the container: 's' when the program runs, 'e' and an errno
 * where it cannot be run, 'w' and a status as of wait when it has ended. Each is one letter and one
 * int. It is statically linked and is bound into images that may have no libraries. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define REPORT_FD 3

static void tell(char what, int value)
{
    char text[1 + sizeof(value)];

    text[0] = what;
    memcpy(text + 1, &value, sizeof(value));
    if (write(REPORT_FD, text, sizeof(text)) < 0)
        (void)0; /* nobody listens: then the exit status has to do */
}

/* Returns only where it fails. */
static int become_program(char **argv, const sigset_t *before)
{
    (void)setsid();
    (void)sigprocmask(SIG_SETMASK, before, NULL);
    (void)execvp(argv[0], argv);
    return errno;
}

/* The errno of exec; 0: it runs. The end of the pipe that the program would have is closed by its
 * exec. */
static int start(char **argv, const sigset_t *before, pid_t *ret_child)
{
    int ends[2], why = 0;
    pid_t child;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return errno;
    child = fork();
    if (child < 0)
        return errno;
    if (child == 0) {
        why = become_program(argv, before);
        if (write(ends[1], &why, sizeof(why)) < 0)
            _exit(126);
        _exit(127);
    }
    (void)close(ends[1]);
    if (read(ends[0], &why, sizeof(why)) != (ssize_t)sizeof(why))
        why = 0;
    (void)close(ends[0]);
    *ret_child = child;
    return why;
}

/* The status of the program; -1: it still runs. */
static int reap(pid_t program)
{
    int how, status = -1;
    pid_t pid;

    while ((pid = waitpid(-1, &how, WNOHANG)) > 0)
        if (pid == program)
            status = how;
    return status;
}

static int hold(pid_t program, const sigset_t *all)
{
    int status, signum;

    for (;;) {
        signum = sigwaitinfo(all, NULL);
        if (signum > 0 && signum != SIGCHLD)
            (void)kill(program, signum);
        status = reap(program);
        if (status >= 0)
            return status;
    }
}

int main(int argc, char **argv)
{
    sigset_t all, before;
    pid_t program = -1;
    int status, why;

    if (argc < 2)
        return 2;
    (void)fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC);
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &before);
    why = start(argv + 1, &before, &program);
    if (why) {
        tell('e', why);
        (void)fprintf(stderr, "%s: %s\n", argv[1], strerror(why));
        return 127;
    }
    tell('s', 0);
    status = hold(program, &all);
    tell('w', status);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
