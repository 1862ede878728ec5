#include "lib/interrupt.h"

#include "lib/mem.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct fl_interrupt {
    int fd;
    sigset_t before;
    bool has_come; /* atomic */
};

int fl_interrupt_create(struct fl_interrupt **ret_interrupt, struct fl_error *err)
{
    struct fl_interrupt *interrupt = fl_calloc(1, sizeof(*interrupt));
    sigset_t wanted;

    (void)sigemptyset(&wanted);
    (void)sigaddset(&wanted, SIGINT);
    (void)sigaddset(&wanted, SIGTERM);
    interrupt->fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    if (interrupt->fd < 0) {
        free(interrupt);
        return fl_error_errno(err, errno, "signals as a descriptor");
    }
    (void)pthread_sigmask(SIG_BLOCK, &wanted, &interrupt->before);
    *ret_interrupt = interrupt;
    return 0;
}

void fl_interrupt_destroy(struct fl_interrupt *interrupt)
{
    if (!interrupt)
        return;
    (void)fl_interrupt_has_come(interrupt); /* what was taken for an end ends nothing else */
    (void)pthread_sigmask(SIG_SETMASK, &interrupt->before, NULL);
    (void)close(interrupt->fd);
    free(interrupt);
}

bool fl_interrupt_has_come(struct fl_interrupt *interrupt)
{
    struct signalfd_siginfo info;

    if (__atomic_load_n(&interrupt->has_come, __ATOMIC_RELAXED))
        return true;
    if (read(interrupt->fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return false;
    __atomic_store_n(&interrupt->has_come, true, __ATOMIC_RELAXED);
    return true;
}
