#define FL_ALLOW_BANNED
#include "lib/loop.h"

#include "lib/env.h"

#include <assert.h>
#include <bsd/sys/tree.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORKERS     2
#define OFFLOAD_MAX 1024

struct posted {
    fl_loop_fn *fn;
    void *user;
};

struct job {
    STAILQ_ENTRY(job) link;
    fl_loop_fn *work, *done;
    void *user;
    struct fl_loop *loop;
};

struct watched_signal {
    SLIST_ENTRY(watched_signal) link;
    struct event *event;
    fl_loop_fn *fn;
    void *user;
};

struct fl_loop_fd {
    struct event *event;
    fl_loop_fd_fn *fn;
    void *user;
};

RB_HEAD(armed_timers, fl_timer);

struct fl_loop {
    struct event_base *base; /* NULL: simulated */
    struct event *wake_event, *deadline_event;
    int wake_fd;
    atomic_bool stopped;
    _Atomic(pthread_t) runner; /* 0: nobody runs it */
    SLIST_HEAD(, watched_signal) signals;

    struct fl_fake_env *fake; /* of a simulated loop */
    struct armed_timers armed;
    uint64_t armed_count; /* ever: the order among timers of one due time */

    pthread_mutex_t lock; /* what follows up to the workers' part */
    struct posted *posts;
    size_t post_first, post_count, post_cap; /* post_first: those before it have run */

    pthread_mutex_t jobs_lock; /* the rest */
    pthread_cond_t jobs_changed;
    STAILQ_HEAD(, job) jobs;
    size_t jobs_waiting;
    bool closing;
    pthread_t workers[WORKERS];
    unsigned worker_count; /* started when the first job comes */
};

struct fl_timer {
    struct fl_loop *loop;
    struct event *event; /* NULL: simulated */
    fl_loop_fn *fn;
    void *user;
    int64_t interval_ms; /* 0: one-shot */

    RB_ENTRY(fl_timer) link; /* simulated: in loop->armed while armed */
    bool armed;
    int64_t due_ms;
    uint64_t order;
};

static int compare_timers(const struct fl_timer *a, const struct fl_timer *b)
{
    if (a->due_ms != b->due_ms)
        return a->due_ms < b->due_ms ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wnull-dereference" /* the tree's invariants are beyond it */
RB_GENERATE_INTERNAL(armed_timers, fl_timer, link, compare_timers, __attribute__((unused)) static)
#pragma GCC diagnostic pop

static void wake(struct fl_loop *loop)
{
    uint64_t one = 1;
    ssize_t n;

    if (loop->fake)
        return;
    do
        n = write(loop->wake_fd, &one, sizeof(one));
    while (n < 0 && errno == EINTR);
}

/* Takes what is there in one go, so that the lock is held for a moment only and what a call posts
 * runs in the next turn, after the sockets had theirs. */
static bool run_posts(struct fl_loop *loop)
{
    struct posted *posts;
    size_t first, count;

    (void)pthread_mutex_lock(&loop->lock);
    posts = loop->posts;
    count = loop->post_count;
    first = loop->post_first;
    loop->posts = NULL;
    loop->post_first = loop->post_count = loop->post_cap = 0;
    (void)pthread_mutex_unlock(&loop->lock);
    for (size_t i = first; i < count; i++)
        posts[i].fn(posts[i].user);
    free(posts);
    return count > first;
}

static void on_wake(evutil_socket_t fd, short what, void *user)
{
    struct fl_loop *loop = user;
    uint64_t count;

    (void)what;
    if (read(fd, &count, sizeof(count)) < 0)
        return;
    (void)run_posts(loop);
    if (atomic_load(&loop->stopped))
        (void)event_base_loopbreak(loop->base);
}

void fl_loop_post(struct fl_loop *loop, fl_loop_fn *fn, void *user)
{
    bool first;

    (void)pthread_mutex_lock(&loop->lock);
    first = loop->post_count == 0;
    if (loop->post_count == loop->post_cap) {
        loop->post_cap = loop->post_cap ? loop->post_cap * 2 : 16;
        loop->posts = fl_realloc(loop->posts, loop->post_cap * sizeof(*loop->posts));
    }
    loop->posts[loop->post_count++] = (struct posted){fn, user};
    (void)pthread_mutex_unlock(&loop->lock);
    if (first) /* later ones are taken together with it */
        wake(loop);
}

void fl_loop_stop(struct fl_loop *loop)
{
    atomic_store(&loop->stopped, true);
    wake(loop);
}

void fl_loop_run(struct fl_loop *loop)
{
    assert(!loop->fake);
    atomic_store(&loop->runner, pthread_self());
    if (!atomic_load(&loop->stopped))
        (void)event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
    atomic_store(&loop->stopped, false);
    atomic_store(&loop->runner, 0);
}

bool fl_loop_is_running_here(const struct fl_loop *loop)
{
    return atomic_load(&loop->runner) == pthread_self();
}

static struct timeval to_timeval(int64_t ms)
{
    if (ms < 0)
        ms = 0;
    return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

static void on_deadline(evutil_socket_t fd, short what, void *user)
{
    struct fl_loop *loop = user;

    (void)fd;
    (void)what;
    (void)event_base_loopbreak(loop->base);
}

void fl_loop_run_for(struct fl_loop *loop, int64_t timeout_ms)
{
    struct timeval tv = to_timeval(timeout_ms);

    (void)event_add(loop->deadline_event, &tv);
    fl_loop_run(loop);
    (void)event_del(loop->deadline_event); /* a deadline must not end a later run */
}

struct event_base *fl_loop_base(struct fl_loop *loop)
{
    assert(loop->base);
    return loop->base;
}

/* Workers. */

static void finish_job(void *user)
{
    struct job *job = user;

    job->done(job->user);
    free(job);
}

static struct job *next_job(struct fl_loop *loop)
{
    struct job *job;

    (void)pthread_mutex_lock(&loop->jobs_lock);
    while (STAILQ_EMPTY(&loop->jobs) && !loop->closing)
        (void)pthread_cond_wait(&loop->jobs_changed, &loop->jobs_lock);
    job = STAILQ_FIRST(&loop->jobs);
    if (job) {
        STAILQ_REMOVE_HEAD(&loop->jobs, link);
        loop->jobs_waiting--;
    }
    (void)pthread_mutex_unlock(&loop->jobs_lock);
    return job;
}

static void *worker_main(void *user)
{
    struct fl_loop *loop = user;
    struct job *job;

    while ((job = next_job(loop))) {
        job->work(job->user);
        fl_loop_post(loop, finish_job, job);
    }
    return NULL;
}

/* Signals are the loop thread's business: workers are born with all of them blocked. */
static int start_workers(struct fl_loop *loop, struct fl_error *err)
{
    sigset_t all, old;
    int r = 0;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    while (r == 0 && loop->worker_count < WORKERS) {
        r = pthread_create(&loop->workers[loop->worker_count], NULL, worker_main, loop);
        if (r == 0)
            loop->worker_count++;
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return loop->worker_count > 0 ? 0 : fl_error_errno(err, r, "start a worker thread");
}

int fl_loop_offload(struct fl_loop *loop, fl_loop_fn *work, fl_loop_fn *done, void *user,
                    struct fl_error *err)
{
    struct job *job;
    bool full;

    if (loop->fake) {
        work(user);
        fl_loop_post(loop, done, user);
        return 0;
    }
    if (loop->worker_count == 0) {
        int r = start_workers(loop, err);

        if (r < 0)
            return r;
    }
    job = fl_calloc(1, sizeof(*job));
    *job = (struct job){.work = work, .done = done, .user = user, .loop = loop};
    (void)pthread_mutex_lock(&loop->jobs_lock);
    full = loop->jobs_waiting >= OFFLOAD_MAX;
    if (!full) {
        STAILQ_INSERT_TAIL(&loop->jobs, job, link);
        loop->jobs_waiting++;
        (void)pthread_cond_signal(&loop->jobs_changed);
    }
    (void)pthread_mutex_unlock(&loop->jobs_lock);
    if (full) {
        free(job);
        return fl_error_set(err, FL_E_UNAVAILABLE, "%d slow jobs are waiting already", OFFLOAD_MAX);
    }
    return 0;
}

static void join_workers(struct fl_loop *loop)
{
    (void)pthread_mutex_lock(&loop->jobs_lock);
    loop->closing = true;
    (void)pthread_cond_broadcast(&loop->jobs_changed);
    (void)pthread_mutex_unlock(&loop->jobs_lock);
    for (unsigned i = 0; i < loop->worker_count; i++)
        (void)pthread_join(loop->workers[i], NULL);
    loop->worker_count = 0;
    loop->closing = false; /* workers of a later job wait for it again */
}

/* Timers. */

static void on_timer(evutil_socket_t fd, short what, void *user)
{
    struct fl_timer *timer = user;

    (void)fd;
    (void)what;
    if (timer->interval_ms > 0) {
        struct timeval tv = to_timeval(timer->interval_ms);

        (void)event_add(timer->event, &tv);
    }
    timer->fn(timer->user); /* may destroy the timer: nothing after it */
}

struct fl_timer *fl_timer_create(struct fl_loop *loop, fl_loop_fn *fn, void *user)
{
    struct fl_timer *timer = fl_calloc(1, sizeof(*timer));

    timer->loop = loop;
    timer->fn = fn;
    timer->user = user;
    if (loop->fake)
        return timer;
    timer->event = event_new(loop->base, -1, 0, on_timer, timer);
    if (!timer->event)
        abort();
    return timer;
}

static void disarm(struct fl_timer *timer)
{
    if (timer->armed)
        RB_REMOVE(armed_timers, &timer->loop->armed, timer);
    timer->armed = false;
}

static void arm_simulated(struct fl_timer *timer, int64_t delay_ms)
{
    struct fl_loop *loop = timer->loop;

    disarm(timer);
    timer->armed = true;
    timer->due_ms = loop->fake->monotonic_ms + (delay_ms > 0 ? delay_ms : 0);
    timer->order = loop->armed_count++;
    (void)RB_INSERT(armed_timers, &loop->armed, timer);
}

static void schedule(struct fl_timer *timer, int64_t delay_ms, int64_t interval_ms)
{
    struct timeval tv = to_timeval(delay_ms);

    timer->interval_ms = interval_ms;
    if (timer->event)
        (void)event_add(timer->event, &tv);
    else
        arm_simulated(timer, delay_ms);
}

void fl_timer_arm(struct fl_timer *timer, int64_t delay_ms)
{
    schedule(timer, delay_ms, 0);
}

void fl_timer_repeat(struct fl_timer *timer, int64_t interval_ms)
{
    assert(interval_ms > 0);
    schedule(timer, interval_ms, interval_ms);
}

void fl_timer_fire(struct fl_timer *timer)
{
    timer->interval_ms = 0;
    if (timer->event)
        event_active(timer->event, EV_TIMEOUT, 0);
    else if (!timer->armed || timer->due_ms > timer->loop->fake->monotonic_ms)
        arm_simulated(timer, 0);
}

void fl_timer_cancel(struct fl_timer *timer)
{
    timer->interval_ms = 0;
    if (timer->event)
        (void)event_del(timer->event);
    else
        disarm(timer);
}

void fl_timer_destroy(struct fl_timer *timer)
{
    if (!timer)
        return;
    if (timer->event)
        event_free(timer->event);
    else
        disarm(timer);
    free(timer);
}

/* Stepping a simulated loop. One call is taken at a time, since a callback may step, too. */

static bool run_first_post(struct fl_loop *loop)
{
    struct posted first = {0};

    (void)pthread_mutex_lock(&loop->lock);
    if (loop->post_first < loop->post_count)
        first = loop->posts[loop->post_first++];
    if (loop->post_first == loop->post_count)
        loop->post_first = loop->post_count = 0;
    (void)pthread_mutex_unlock(&loop->lock);
    if (first.fn)
        first.fn(first.user);
    return first.fn != NULL;
}

/* Timers armed since `order` wait for the next step: one that arms itself for now must not keep
 * this one from ending. */
static bool run_first_timer(struct fl_loop *loop, uint64_t order)
{
    int64_t now_ms = loop->fake->monotonic_ms;
    struct fl_timer *timer = RB_MIN(armed_timers, &loop->armed);

    while (timer && timer->due_ms <= now_ms && timer->order >= order)
        timer = RB_NEXT(armed_timers, &loop->armed, timer);
    if (!timer || timer->due_ms > now_ms)
        return false;
    disarm(timer);
    if (timer->interval_ms > 0)
        arm_simulated(timer, timer->interval_ms);
    timer->fn(timer->user); /* may destroy the timer: nothing after it */
    return true;
}

static size_t posts_waiting(struct fl_loop *loop)
{
    size_t count;

    (void)pthread_mutex_lock(&loop->lock);
    count = loop->post_count - loop->post_first;
    (void)pthread_mutex_unlock(&loop->lock);
    return count;
}

size_t fl_loop_step(struct fl_loop *loop)
{
    size_t posts = posts_waiting(loop), done = 0;
    uint64_t order = loop->armed_count;

    assert(loop->fake);
    while (done < posts && run_first_post(loop))
        done++;
    while (run_first_timer(loop, order))
        done++;
    return done;
}

int64_t fl_loop_next_due_ms(struct fl_loop *loop)
{
    const struct fl_timer *timer = RB_MIN(armed_timers, &loop->armed);

    assert(loop->fake);
    if (posts_waiting(loop) > 0)
        return loop->fake->monotonic_ms;
    return timer ? timer->due_ms : INT64_MAX;
}

bool fl_loop_is_simulated(const struct fl_loop *loop)
{
    return loop->fake != NULL;
}

/* Signals. */

static void on_signal(evutil_socket_t fd, short what, void *user)
{
    struct watched_signal *watched = user;

    (void)fd;
    (void)what;
    watched->fn(watched->user);
}

int fl_loop_on_signal(struct fl_loop *loop, int signum, fl_loop_fn *fn, void *user,
                      struct fl_error *err)
{
    struct watched_signal *watched;

    if (loop->fake)
        return fl_error_set(err, FL_E_INTERNAL, "a simulated loop has no signals");
    watched = fl_calloc(1, sizeof(*watched));
    watched->fn = fn;
    watched->user = user;
    watched->event = evsignal_new(loop->base, signum, on_signal, watched);
    if (!watched->event || event_add(watched->event, NULL) != 0) {
        if (watched->event)
            event_free(watched->event);
        free(watched);
        return fl_error_set(err, FL_E_INTERNAL, "cannot watch signal %d", signum);
    }
    SLIST_INSERT_HEAD(&loop->signals, watched, link);
    return 0;
}

static void forget_signals(struct fl_loop *loop)
{
    struct watched_signal *watched;

    while ((watched = SLIST_FIRST(&loop->signals))) {
        SLIST_REMOVE_HEAD(&loop->signals, link);
        event_free(watched->event);
        free(watched);
    }
}

/* Descriptors. */

static void on_fd(evutil_socket_t fd, short what, void *user)
{
    struct fl_loop_fd *watched = user;

    (void)fd;
    watched->fn(watched->user,
                (what & EV_READ ? FL_LOOP_READ : 0u) | (what & EV_WRITE ? FL_LOOP_WRITE : 0u));
}

/* Files are always ready, and the kernel refuses to wait for them. */
static int check_can_wait(int fd, struct fl_error *err)
{
    struct stat about;

    if (fstat(fd, &about) < 0)
        return fl_error_errno(err, errno, "watch descriptor %d", fd);
    if (S_ISREG(about.st_mode) || S_ISDIR(about.st_mode))
        return fl_error_set(err, FL_E_INVALID, "watch descriptor %d: it is a file", fd);
    return 0;
}

int fl_loop_watch_fd(struct fl_loop *loop, int fd, unsigned what, fl_loop_fd_fn *fn, void *user,
                     struct fl_loop_fd **ret_watched, struct fl_error *err)
{
    short events = EV_PERSIST;
    struct fl_loop_fd *watched;
    int r;

    assert(what && fn);
    if (loop->fake)
        return fl_error_set(err, FL_E_INTERNAL, "a simulated loop has no descriptors");
    r = check_can_wait(fd, err);
    if (r < 0)
        return r;
    events |= what & FL_LOOP_READ ? EV_READ : 0;
    events |= what & FL_LOOP_WRITE ? EV_WRITE : 0;
    watched = fl_calloc(1, sizeof(*watched));
    watched->fn = fn;
    watched->user = user;
    watched->event = event_new(loop->base, fd, events, on_fd, watched);
    if (!watched->event || event_add(watched->event, NULL) != 0) {
        fl_loop_unwatch_fd(watched);
        return fl_error_set(err, FL_E_INTERNAL, "cannot watch descriptor %d", fd);
    }
    *ret_watched = watched;
    return 0;
}

void fl_loop_unwatch_fd(struct fl_loop_fd *watched)
{
    if (!watched)
        return;
    if (watched->event)
        event_free(watched->event);
    free(watched);
}

/* One thread uses the base, so its locks would be cost without a use. */
static struct event_base *create_base(void)
{
    struct event_config *config = event_config_new();
    struct event_base *base = NULL;

    if (config && event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0)
        base = event_base_new_with_config(config);
    if (config)
        event_config_free(config);
    return base;
}

static struct fl_loop *new_loop(void)
{
    struct fl_loop *loop = fl_calloc(1, sizeof(*loop));

    (void)pthread_mutex_init(&loop->lock, NULL);
    (void)pthread_mutex_init(&loop->jobs_lock, NULL);
    (void)pthread_cond_init(&loop->jobs_changed, NULL);
    STAILQ_INIT(&loop->jobs);
    SLIST_INIT(&loop->signals);
    RB_INIT(&loop->armed);
    loop->wake_fd = -1;
    return loop;
}

int fl_loop_create_simulated(struct fl_fake_env *fake, struct fl_loop **ret_loop,
                             struct fl_error *err)
{
    (void)err;
    *ret_loop = new_loop();
    (*ret_loop)->fake = fake;
    return 0;
}

int fl_loop_create(struct fl_loop **ret_loop, struct fl_error *err)
{
    FL_CLEANUP(fl_loop_destroyp) struct fl_loop *loop = new_loop();

    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (loop->wake_fd < 0)
        return fl_error_errno(err, errno, "make an event descriptor");
    loop->base = create_base();
    if (!loop->base)
        return fl_error_set(err, FL_E_INTERNAL, "cannot make an event base");
    loop->wake_event = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop);
    loop->deadline_event = event_new(loop->base, -1, 0, on_deadline, loop);
    if (!loop->wake_event || !loop->deadline_event || event_add(loop->wake_event, NULL) != 0)
        return fl_error_set(err, FL_E_INTERNAL, "cannot watch the event descriptor");
    *ret_loop = FL_TAKE(loop);
    return 0;
}

void fl_loop_destroy(struct fl_loop *loop)
{
    if (!loop)
        return;
    do /* what ends may post, and what was posted may offload once more */
        join_workers(loop);
    while (run_posts(loop));
    forget_signals(loop);
    if (loop->wake_event)
        event_free(loop->wake_event);
    if (loop->deadline_event)
        event_free(loop->deadline_event);
    if (loop->base)
        event_base_free(loop->base);
    if (loop->wake_fd >= 0)
        (void)close(loop->wake_fd);
    (void)pthread_cond_destroy(&loop->jobs_changed);
    (void)pthread_mutex_destroy(&loop->jobs_lock);
    (void)pthread_mutex_destroy(&loop->lock);
    free(loop);
}
