#define FL_ALLOW_BANNED
#include "lib/thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

struct fl_lock {
    pthread_mutex_t mutex;
};

struct fl_signal {
    pthread_cond_t cond;
};

struct fl_thread {
    pthread_t id;
    void (*run)(void *user);
    void *user;
    char name[16];
};

static void must(int r)
{
    if (r != 0)
        abort();
}

struct fl_lock *fl_lock_create(void)
{
    struct fl_lock *lock = fl_calloc(1, sizeof(*lock));

    must(pthread_mutex_init(&lock->mutex, NULL));
    return lock;
}

void fl_lock_destroy(struct fl_lock *lock)
{
    if (!lock)
        return;
    must(pthread_mutex_destroy(&lock->mutex));
    free(lock);
}

void fl_lock_take(struct fl_lock *lock)
{
    must(pthread_mutex_lock(&lock->mutex));
}

void fl_lock_release(struct fl_lock *lock)
{
    must(pthread_mutex_unlock(&lock->mutex));
}

struct fl_signal *fl_signal_create(void)
{
    struct fl_signal *signal = fl_calloc(1, sizeof(*signal));
    pthread_condattr_t attributes;

    must(pthread_condattr_init(&attributes));
    must(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC));
    must(pthread_cond_init(&signal->cond, &attributes));
    must(pthread_condattr_destroy(&attributes));
    return signal;
}

void fl_signal_destroy(struct fl_signal *signal)
{
    if (!signal)
        return;
    must(pthread_cond_destroy(&signal->cond));
    free(signal);
}

static struct timespec deadline_in(int64_t timeout_ms)
{
    struct timespec when;

    (void)clock_gettime(CLOCK_MONOTONIC, &when);
    when.tv_sec += timeout_ms / 1000;
    when.tv_nsec += timeout_ms % 1000 * 1000000;
    if (when.tv_nsec >= 1000000000) {
        when.tv_nsec -= 1000000000;
        when.tv_sec++;
    }
    return when;
}

bool fl_signal_wait(struct fl_signal *signal, struct fl_lock *lock, int64_t timeout_ms)
{
    struct timespec when;
    int r;

    if (timeout_ms < 0) {
        must(pthread_cond_wait(&signal->cond, &lock->mutex));
        return true;
    }
    when = deadline_in(timeout_ms);
    r = pthread_cond_timedwait(&signal->cond, &lock->mutex, &when);
    if (r != ETIMEDOUT)
        must(r);
    return r == 0;
}

void fl_signal_one(struct fl_signal *signal)
{
    must(pthread_cond_signal(&signal->cond));
}

void fl_signal_all(struct fl_signal *signal)
{
    must(pthread_cond_broadcast(&signal->cond));
}

static void *run_thread(void *user)
{
    struct fl_thread *thread = user;

    (void)pthread_setname_np(pthread_self(), thread->name);
    thread->run(thread->user);
    return NULL;
}

int fl_thread_start(const char *name, void (*run)(void *user), void *user,
                    struct fl_thread **ret_thread, struct fl_error *err)
{
    struct fl_thread *thread = fl_calloc(1, sizeof(*thread));
    sigset_t all, before;
    int r;

    thread->run = run;
    thread->user = user;
    for (size_t i = 0; i < sizeof(thread->name) - 1 && name[i]; i++)
        thread->name[i] = name[i];
    (void)sigfillset(&all);
    must(pthread_sigmask(SIG_SETMASK, &all, &before));
    r = pthread_create(&thread->id, NULL, run_thread, thread);
    must(pthread_sigmask(SIG_SETMASK, &before, NULL));
    if (r != 0) {
        r = fl_error_errno(err, r, "start thread %s", thread->name);
        free(thread);
        return r;
    }
    *ret_thread = thread;
    return 0;
}

void fl_thread_join(struct fl_thread *thread)
{
    if (!thread)
        return;
    must(pthread_join(thread->id, NULL));
    free(thread);
}
