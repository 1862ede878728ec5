/* A work queue of keys, as client-go's: added many times runs once, never twice at a time, added
 * while running runs again. Later additions can be delayed, and failures back off per key.
 *
 * A key is "namespace/name" (or "name"). Order is first come, first served; a delayed key comes in
 * when its time has come. Time is env's, so that the simulation moves it. All functions: any
 * thread, one lock inside. Production waits in fl_queue_get; the simulation steps with
 * fl_queue_try_get and asks when something becomes due. */
#ifndef FL_CONTROLLER_QUEUE_H
#define FL_CONTROLLER_QUEUE_H

#include "lib/env.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fl_queue;
struct fl_metric_registry;

struct fl_queue_options {
    const struct fl_env *env;
    const char *name;                   /* the controller's; in metrics */
    int64_t base_delay_ms;              /* of the back-off; 0: 5 */
    int64_t max_delay_ms;               /* 0: 1,000,000 (as controller-runtime) */
    struct fl_metric_registry *metrics; /* may be NULL */
};

struct fl_queue *fl_queue_create(const struct fl_queue_options *options);
void fl_queue_destroy(struct fl_queue *queue);
FL_DEFINE_CLEANUP(struct fl_queue, fl_queue_destroy)

void fl_queue_add(struct fl_queue *queue, const char *key);
/* Not before the delay has passed; of several delays of a key the one that ends first counts. A
 * delayed key that is also added at once comes twice, as each was promised. <= 0: now. */
void fl_queue_add_after(struct fl_queue *queue, const char *key, int64_t delay_ms);
/* After the key's back-off: base * 2^failures and up to a tenth more, or the maximum and up to a
 * tenth less. Counts a failure. */
void fl_queue_add_rate_limited(struct fl_queue *queue, const char *key);
void fl_queue_forget(struct fl_queue *queue, const char *key); /* its failures */
unsigned fl_queue_failures(struct fl_queue *queue, const char *key);

/* The next key (heap, the caller's), which is then being processed until fl_queue_done. get waits
 * until there is one, NULL when the queue shut down; try_get does not wait, NULL when none is due.
 */
char *fl_queue_get(struct fl_queue *queue);
char *fl_queue_try_get(struct fl_queue *queue);
void fl_queue_done(struct fl_queue *queue, const char *key);

size_t fl_queue_depth(struct fl_queue *queue);   /* due and waiting for a worker */
size_t fl_queue_delayed(struct fl_queue *queue); /* not due yet */
/* Monotonic time at which a delayed key becomes due; INT64_MAX: none. 0: one is due now. */
int64_t fl_queue_next_due_ms(struct fl_queue *queue);

/* Nothing comes in any more, what was in is dropped, waiting workers return NULL. What is being
 * processed finishes. */
void fl_queue_shut_down(struct fl_queue *queue);

#endif
