/* A heap of times; what was set anew since is passed over when it comes up. */
#include "workloads/simulate/simulate_internal.h"

void timers_init(struct timers *timers, size_t nodes)
{
    *timers = (struct timers){.set_ms = fl_calloc(nodes, sizeof(int64_t))};
    for (size_t i = 0; i < nodes; i++)
        timers->set_ms[i] = INT64_MAX;
}

void timers_finish(struct timers *timers)
{
    free(timers->set_ms);
    free(timers->items);
}

static void push(struct timers *timers, size_t node, int64_t at_ms)
{
    size_t i = timers->count++;

    if (timers->count > timers->cap) {
        timers->cap = timers->cap ? timers->cap * 2 : 64;
        timers->items = fl_realloc(timers->items, timers->cap * sizeof(struct timer));
    }
    for (; i > 0 && at_ms < timers->items[(i - 1) / 2].at_ms; i = (i - 1) / 2)
        timers->items[i] = timers->items[(i - 1) / 2];
    timers->items[i] = (struct timer){at_ms, node};
}

static struct timer pop(struct timers *timers)
{
    struct timer first = timers->items[0], last = timers->items[--timers->count];
    size_t i = 0, child;

    while ((child = i * 2 + 1) < timers->count) {
        if (child + 1 < timers->count &&
            timers->items[child + 1].at_ms < timers->items[child].at_ms)
            child++;
        if (timers->items[child].at_ms >= last.at_ms)
            break;
        timers->items[i] = timers->items[child];
        i = child;
    }
    timers->items[i] = last;
    return first;
}

void timers_set(struct timers *timers, size_t node, int64_t at_ms)
{
    if (at_ms == timers->set_ms[node])
        return;
    timers->set_ms[node] = at_ms;
    if (at_ms != INT64_MAX)
        push(timers, node, at_ms);
}

bool timers_next(struct timers *timers, struct timer *ret_timer)
{
    while (timers->count > 0) {
        *ret_timer = timers->items[0];
        if (timers->set_ms[ret_timer->node] == ret_timer->at_ms)
            return true;
        (void)pop(timers);
    }
    return false;
}

void timers_drop(struct timers *timers)
{
    struct timer timer = pop(timers);

    timers->set_ms[timer.node] = INT64_MAX;
}
