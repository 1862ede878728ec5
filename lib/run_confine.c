#define FL_ALLOW_BANNED
#include "lib/run.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>

static int bound(int resource, const char *name, size_t value, struct fl_error *err)
{
    struct rlimit limit = {.rlim_cur = value, .rlim_max = value};

    if (setrlimit(resource, &limit) < 0)
        return fl_error_errno(err, errno, "bound on %s", name);
    return 0;
}

/* Sanitizers reserve terabytes of address space that they never use, and trace themselves. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif

static int bound_memory(size_t bytes, struct fl_error *err)
{
    return bytes > 0 && !IS_SANITIZED ? bound(RLIMIT_AS, "memory", bytes, err) : 0;
}

static int bound_rights(struct fl_error *err)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        (!IS_SANITIZED && prctl(PR_SET_DUMPABLE, 0) < 0))
        return fl_error_errno(err, errno, "bound on rights");
    return 0;
}

/* No handler is set, so the signal ends the process. */
static int bound_time(int64_t timeout_ms, struct fl_error *err)
{
    struct itimerval timer = {.it_value = {.tv_sec = timeout_ms / 1000 + 1}};

    if (signal(SIGALRM, SIG_DFL) == SIG_ERR || setitimer(ITIMER_REAL, &timer, NULL) < 0)
        return fl_error_errno(err, errno, "bound on time");
    return 0;
}

/* What cannot be written is an error of that write. */
static int ignore_write_signals(struct fl_error *err)
{
    if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return fl_error_errno(err, errno, "signals");
    return 0;
}

static int forget_environment(const char *home, struct fl_error *err)
{
    if (clearenv() != 0 || setenv("HOME", home, 1) < 0)
        return fl_error_errno(err, errno, "environment");
    return 0;
}

int fl_run_confine(const struct fl_run_confinement *confinement, struct fl_error *err)
{
    int r = bound(RLIMIT_CORE, "core files", 0, err);

    if (r == 0)
        r = bound_rights(err);
    if (r == 0)
        r = bound_memory(confinement->memory_bytes, err);
    if (r == 0 && confinement->file_bytes > 0)
        r = bound(RLIMIT_FSIZE, "files", confinement->file_bytes, err);
    if (r == 0)
        r = bound_time(confinement->timeout_ms, err);
    if (r == 0)
        r = ignore_write_signals(err);
    if (r == 0)
        r = forget_environment(confinement->home, err);
    return r;
}
