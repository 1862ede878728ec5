/* The event loop of a program (libevent behind a door of ours): timers, signals, descriptors, calls
 * posted from other threads, and slow work handed to a few worker threads.
 *
 * One thread runs the loop and owns everything that was made on it; only fl_loop_post and
 * fl_loop_stop may be called from other threads. Callbacks run on the loop's thread, one at a time,
 * and must not block.
 *
 * A simulated loop has the same calls and timers, and virtual time instead of sockets, descriptors,
 * signals and threads: its owner steps it, moves the clock of its fake env, and so decides all. */
#ifndef FL_LIB_LOOP_H
#define FL_LIB_LOOP_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct fl_fake_env;
struct fl_loop;
struct fl_loop_fd;
struct fl_timer;

typedef void fl_loop_fn(void *user);

int fl_loop_create(struct fl_loop **ret_loop, struct fl_error *err);
/* Runs what was posted, joins the workers, frees. Everything made on the loop must be gone. */
void fl_loop_destroy(struct fl_loop *loop);
FL_DEFINE_CLEANUP(struct fl_loop, fl_loop_destroy)

void fl_loop_run(struct fl_loop *loop);                         /* until fl_loop_stop */
void fl_loop_run_for(struct fl_loop *loop, int64_t timeout_ms); /* or until stopped; for tests */
void fl_loop_stop(struct fl_loop *loop); /* any thread; a stop before the run ends it */
/* Whether the calling thread is running the loop just now: then it must not wait for it. */
bool fl_loop_is_running_here(const struct fl_loop *loop);

/* Simulated: lives on one thread, which steps it in place of fl_loop_run. `fake` is lent. What is
 * offloaded is done at once. There are no descriptors, signals or sockets on it. */
int fl_loop_create_simulated(struct fl_fake_env *fake, struct fl_loop **ret_loop,
                             struct fl_error *err);
bool fl_loop_is_simulated(const struct fl_loop *loop);
/* Runs what was posted so far, in order, then the timers that are due now, the earliest first; what
 * those post or arm waits for the next step. Returns how many calls ran: until it is 0, there is
 * more to do at this time. Never moves the clock. May be called from a callback that it runs: that
 * one then goes on where the outer step is. */
size_t fl_loop_step(struct fl_loop *loop);
/* When there is something to do next, in fl_monotonic_ms: not later than now where there is
 * already; INT64_MAX: never, until somebody posts or arms. */
int64_t fl_loop_next_due_ms(struct fl_loop *loop);

/* Any thread: `fn(user)` runs on the loop soon, in the order posted. */
void fl_loop_post(struct fl_loop *loop, fl_loop_fn *fn, void *user);

/* `work(user)` runs on a worker thread, then `done(user)` on the loop. At most `queue` limit jobs
 * wait (default 1024); UNAVAILABLE beyond. */
int fl_loop_offload(struct fl_loop *loop, fl_loop_fn *work, fl_loop_fn *done, void *user,
                    struct fl_error *err);

/* One-shot or repeating timer, not armed at first. Destroy is safe in its own callback. Timers of
 * one due time fire in the order in which they were armed, where the loop is simulated. */
struct fl_timer *fl_timer_create(struct fl_loop *loop, fl_loop_fn *fn, void *user);
void fl_timer_arm(struct fl_timer *timer, int64_t delay_ms); /* moves an armed one */
void fl_timer_repeat(struct fl_timer *timer, int64_t interval_ms);
/* Soon: before the loop sleeps, without asking a clock. Cheaper than a delay of 0; again and again
 * before it fired is once. */
void fl_timer_fire(struct fl_timer *timer);
void fl_timer_cancel(struct fl_timer *timer);
void fl_timer_destroy(struct fl_timer *timer);

/* `fn(user)` runs on the loop when the signal arrives; until the loop is destroyed. */
int fl_loop_on_signal(struct fl_loop *loop, int signum, fl_loop_fn *fn, void *user,
                      struct fl_error *err);

/* `fn(user, what)` runs on the loop as long as the descriptor is readable (pidfd: has ended) or
 * writable, whichever of it was asked for; until it is unwatched, which is safe in its own callback
 * and comes before the descriptor is closed. Errors and hang-ups of the other side show as both.
 * Fails for what cannot be waited for (regular files), and on a simulated loop. */
enum { FL_LOOP_READ = 1, FL_LOOP_WRITE = 2 };
typedef void fl_loop_fd_fn(void *user, unsigned what);
int fl_loop_watch_fd(struct fl_loop *loop, int fd, unsigned what, fl_loop_fd_fn *fn, void *user,
                     struct fl_loop_fd **ret_watched, struct fl_error *err);
void fl_loop_unwatch_fd(struct fl_loop_fd *watched); /* NULL is fine */

/* For modules of lib/ that put sockets on the loop, which is a real one. */
struct event_base *fl_loop_base(struct fl_loop *loop);

#endif
