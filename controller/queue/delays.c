/* The keys that wait for their time: a heap in which each item knows its place. */
#include "controller/queue/queue_internal.h"

#include <assert.h>

static bool is_before(const struct fl_queue_item *a, const struct fl_queue_item *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->order < b->order;
}

static void put_at(struct fl_queue_delays *delays, size_t at, struct fl_queue_item *item)
{
    delays->items[at] = item;
    item->delay_at = at;
}

static void sift_up(struct fl_queue_delays *delays, struct fl_queue_item *item)
{
    size_t at = item->delay_at;

    for (; at > 1 && is_before(item, delays->items[at / 2]); at /= 2)
        put_at(delays, at, delays->items[at / 2]);
    put_at(delays, at, item);
}

static void sift_down(struct fl_queue_delays *delays, struct fl_queue_item *item)
{
    size_t at = item->delay_at;

    for (size_t child = 2 * at; child <= delays->count; child = 2 * at) {
        if (child < delays->count && is_before(delays->items[child + 1], delays->items[child]))
            child++;
        if (!is_before(delays->items[child], item))
            break;
        put_at(delays, at, delays->items[child]);
        at = child;
    }
    put_at(delays, at, item);
}

struct fl_queue_item *fl_queue_delays_first(const struct fl_queue_delays *delays)
{
    return delays->count > 0 ? delays->items[1] : NULL;
}

static void append(struct fl_queue_delays *delays, struct fl_queue_item *item)
{
    if (delays->count + 1 >= delays->room) {
        delays->room = delays->room ? 2 * delays->room : 16;
        delays->items = fl_realloc(delays->items, delays->room * sizeof(struct fl_queue_item *));
    }
    put_at(delays, ++delays->count, item);
}

bool fl_queue_delays_put(struct fl_queue_delays *delays, struct fl_queue_item *item, int64_t due_ms)
{
    if (item->delay_at && due_ms >= item->due_ms)
        return false;
    item->due_ms = due_ms;
    item->order = delays->order++;
    if (!item->delay_at)
        append(delays, item);
    sift_up(delays, item);
    return item->delay_at == 1;
}

void fl_queue_delays_remove(struct fl_queue_delays *delays, struct fl_queue_item *item)
{
    struct fl_queue_item *last = delays->items[delays->count];

    assert(item->delay_at);
    delays->count--;
    if (last != item) {
        put_at(delays, item->delay_at, last);
        sift_up(delays, last);
        sift_down(delays, last);
    }
    item->delay_at = 0;
}
