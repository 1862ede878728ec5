/* Inside the queue: an item, and the heap of those that wait for their time. Nobody outside
 * controller/queue includes this. All under the queue's lock. */
#ifndef FL_CONTROLLER_QUEUE_INTERNAL_H
#define FL_CONTROLLER_QUEUE_INTERNAL_H

#include "controller/queue/queue.h"

#include <sys/queue.h>

/* What is known of a key; there is none where nothing is. */
struct fl_queue_item {
    TAILQ_ENTRY(fl_queue_item) link; /* ready (dirty only) or working (processing) */
    int64_t due_ms;
    uint64_t order;     /* of delays that end at the same time */
    size_t delay_at;    /* 1 …: its place in the heap; 0: not delayed */
    int64_t added_us;   /* when it became dirty */
    int64_t started_us; /* when it was given out */
    unsigned failures;  /* since it was forgotten */
    bool dirty;         /* is to be given out: now, or when it is done */
    bool processing;
    char key[];
};

struct fl_queue_delays {
    struct fl_queue_item **items; /* from 1: a binary heap, the soonest first */
    size_t count, room;
    uint64_t order;
};

/* NULL: none. */
struct fl_queue_item *fl_queue_delays_first(const struct fl_queue_delays *delays);
/* Puts the item in, or moves it forward; a later time than the one it has changes nothing. True
 * where it is the first now. */
bool fl_queue_delays_put(struct fl_queue_delays *delays, struct fl_queue_item *item,
                         int64_t due_ms);
void fl_queue_delays_remove(struct fl_queue_delays *delays, struct fl_queue_item *item);

/* How many keys anything is known of. */
size_t fl_queue_known(struct fl_queue *queue);

#endif
