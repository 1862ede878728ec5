/* Threads and locks (pthreads behind a door of ours).
 *
 * Code above lib/ is synchronous and mostly does not know its thread; what is shared between
 * threads (the queue, the cache, a driver's table) has one lock inside. Failure to make a thread is
 * an error, misuse of a lock is a mistake of ours and aborts. */
#ifndef FL_LIB_THREAD_H
#define FL_LIB_THREAD_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stdint.h>

struct fl_lock; /* not recursive */
struct fl_lock *fl_lock_create(void);
void fl_lock_destroy(struct fl_lock *lock);
void fl_lock_take(struct fl_lock *lock);
void fl_lock_release(struct fl_lock *lock);

/* Holds the lock to the end of the block: FL_LOCKED(queue->lock); */
static inline void fl_lock_releasep(struct fl_lock **lock)
{
    fl_lock_release(*lock);
}
static inline struct fl_lock *fl_lock_taken(struct fl_lock *lock)
{
    fl_lock_take(lock);
    return lock;
}
#define FL_LOCKED(lock)                                                                            \
    FL_CLEANUP(fl_lock_releasep)                                                                   \
    __attribute__((unused)) struct fl_lock *fl_locked_ = fl_lock_taken(lock)

/* A condition of a lock. Waiting is on the machine's monotonic clock; < 0: without a deadline. */
struct fl_signal;
struct fl_signal *fl_signal_create(void);
void fl_signal_destroy(struct fl_signal *signal);
/* With the lock taken. False past the deadline. May wake for nothing: look again. */
bool fl_signal_wait(struct fl_signal *signal, struct fl_lock *lock, int64_t timeout_ms);
void fl_signal_one(struct fl_signal *signal);
void fl_signal_all(struct fl_signal *signal);

/* A thread; all signals are blocked in it. `name` (15 characters) is what `ps` shows. */
struct fl_thread;
int fl_thread_start(const char *name, void (*run)(void *user), void *user,
                    struct fl_thread **ret_thread, struct fl_error *err);
void fl_thread_join(struct fl_thread *thread); /* waits for its end, then frees; NULL is fine */

#endif
