/* The event loop of a program (libevent behind a door of ours): timers, signals, calls posted from
 * other threads, and slow work handed to a few worker threads.
 *
 * One thread runs the loop and owns everything that was made on it; only fl_loop_post and
 * fl_loop_stop may be called from other threads. Callbacks run on the loop's thread, one at a time,
 * and must not block. */
#ifndef FL_LIB_LOOP_H
#define FL_LIB_LOOP_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdint.h>

struct event_base;
struct fl_loop;
struct fl_timer;

typedef void fl_loop_fn(void *user);

int fl_loop_create(struct fl_loop **ret_loop, struct fl_error *err);
/* Runs what was posted, joins the workers, frees. Everything made on the loop must be gone. */
void fl_loop_destroy(struct fl_loop *loop);
FL_DEFINE_CLEANUP(struct fl_loop, fl_loop_destroy)

void fl_loop_run(struct fl_loop *loop);                         /* until fl_loop_stop */
void fl_loop_run_for(struct fl_loop *loop, int64_t timeout_ms); /* or until stopped; for tests */
void fl_loop_stop(struct fl_loop *loop); /* any thread; a stop before the run ends it */

/* Any thread: `fn(user)` runs on the loop soon, in the order posted. */
void fl_loop_post(struct fl_loop *loop, fl_loop_fn *fn, void *user);

/* `work(user)` runs on a worker thread, then `done(user)` on the loop. At most `queue` limit jobs
 * wait (default 1024); UNAVAILABLE beyond. */
int fl_loop_offload(struct fl_loop *loop, fl_loop_fn *work, fl_loop_fn *done, void *user,
                    struct fl_error *err);

/* One-shot or repeating timer, not armed at first. Destroy is safe in its own callback. */
struct fl_timer *fl_timer_create(struct fl_loop *loop, fl_loop_fn *fn, void *user);
void fl_timer_arm(struct fl_timer *timer, int64_t delay_ms); /* moves an armed one */
void fl_timer_repeat(struct fl_timer *timer, int64_t interval_ms);
void fl_timer_cancel(struct fl_timer *timer);
void fl_timer_destroy(struct fl_timer *timer);

/* `fn(user)` runs on the loop when the signal arrives; until the loop is destroyed. */
int fl_loop_on_signal(struct fl_loop *loop, int signum, fl_loop_fn *fn, void *user,
                      struct fl_error *err);

/* For modules of lib/ that put sockets on the loop. */
struct event_base *fl_loop_base(struct fl_loop *loop);

#endif
