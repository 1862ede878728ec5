/* One map of what is known of each key. A key is dirty from being added until it is given out, and
 * processing from then until it is done. Dirty and not processing: it is in `ready`; processing: in
 * `working`, and if it is dirty too, it is ready again when done. */
#include "controller/queue/queue.h"

#include "controller/queue/queue_internal.h"
#include "controller/runtime/metrics.h"
#include "lib/map.h"
#include "lib/thread.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

TAILQ_HEAD(item_list, fl_queue_item);

struct fl_queue {
    const struct fl_env *env;
    int64_t base_delay_ms, max_delay_ms;
    struct fl_metric_registry *metrics; /* never called with the lock taken */
    char *labels;
    struct fl_lock *lock; /* of all that follows */
    struct fl_signal *changed;
    struct fl_map *items; /* key → struct fl_queue_item */
    struct item_list ready, working;
    struct fl_queue_delays delays;
    size_t ready_count, dirty_count;
    uint64_t adds, retries;
    bool timed; /* a waiter will wake for the first delay; the others wait for being told */
    bool shut_down;
};

/* The buckets that client-go's consumers have: 10 ns to 1,000 s. */
static const double buckets[] = {1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100, 1000};

static const struct fl_metric_about depth_metric = {
    .name = "workqueue_depth",
    .help = "Keys that are to be processed and have not been given out yet",
    .type = FL_METRIC_GAUGE,
};
static const struct fl_metric_about adds_metric = {
    .name = "workqueue_adds_total",
    .help = "Keys that came in, without those that were in already",
    .type = FL_METRIC_COUNTER,
};
static const struct fl_metric_about retries_metric = {
    .name = "workqueue_retries_total",
    .help = "Keys that were added with a delay",
    .type = FL_METRIC_COUNTER,
};
static const struct fl_metric_about unfinished_metric = {
    .name = "workqueue_unfinished_work_seconds",
    .help = "How long the keys being processed have been, taken together",
    .type = FL_METRIC_GAUGE,
};
static const struct fl_metric_about longest_metric = {
    .name = "workqueue_longest_running_processor_seconds",
    .help = "How long the key that was given out first of those being processed has been",
    .type = FL_METRIC_GAUGE,
};
static const struct fl_metric_about waited_metric = {
    .name = "workqueue_queue_duration_seconds",
    .help = "How long a key waited until it was given out",
    .type = FL_METRIC_HISTOGRAM,
    .buckets = buckets,
    .bucket_count = FL_COUNT_OF(buckets),
};
static const struct fl_metric_about worked_metric = {
    .name = "workqueue_work_duration_seconds",
    .help = "How long processing a key took",
    .type = FL_METRIC_HISTOGRAM,
    .buckets = buckets,
    .bucket_count = FL_COUNT_OF(buckets),
};

static double seconds_since(int64_t start_us)
{
    return (double)(fl_machine_monotonic_us() - start_us) / 1e6;
}

static double compute_depth(void *user)
{
    struct fl_queue *queue = user;

    FL_LOCKED(queue->lock);
    return (double)queue->dirty_count;
}

static double compute_adds(void *user)
{
    struct fl_queue *queue = user;

    FL_LOCKED(queue->lock);
    return (double)queue->adds;
}

static double compute_retries(void *user)
{
    struct fl_queue *queue = user;

    FL_LOCKED(queue->lock);
    return (double)queue->retries;
}

static double compute_unfinished(void *user)
{
    struct fl_queue *queue = user;
    struct fl_queue_item *item;
    double sum = 0;

    FL_LOCKED(queue->lock);
    TAILQ_FOREACH(item, &queue->working, link)
        sum += seconds_since(item->started_us);
    return sum;
}

static double compute_longest(void *user)
{
    struct fl_queue *queue = user;

    FL_LOCKED(queue->lock);
    return TAILQ_EMPTY(&queue->working) ? 0
                                        : seconds_since(TAILQ_FIRST(&queue->working)->started_us);
}

static const struct {
    const struct fl_metric_about *metric;
    fl_metric_fn *fn;
} computed[] = {
    {&depth_metric, compute_depth},     {&adds_metric, compute_adds},
    {&retries_metric, compute_retries}, {&unfinished_metric, compute_unfinished},
    {&longest_metric, compute_longest},
};

struct fl_queue *fl_queue_create(const struct fl_queue_options *options)
{
    struct fl_queue *queue = fl_calloc(1, sizeof(*queue));

    queue->env = options->env;
    queue->base_delay_ms = options->base_delay_ms ? options->base_delay_ms : 5;
    queue->max_delay_ms = options->max_delay_ms ? options->max_delay_ms : 1000000;
    queue->metrics = options->metrics;
    queue->labels = fl_asprintf("controller=\"%s\",name=\"%s\"", options->name, options->name);
    queue->lock = fl_lock_create();
    queue->changed = fl_signal_create();
    queue->items = fl_map_create(free);
    TAILQ_INIT(&queue->ready);
    TAILQ_INIT(&queue->working);
    for (size_t i = 0; i < FL_COUNT_OF(computed); i++)
        fl_metric_compute(queue->metrics, computed[i].metric, queue->labels, computed[i].fn, queue);
    return queue;
}

void fl_queue_destroy(struct fl_queue *queue)
{
    if (!queue)
        return;
    for (size_t i = 0; i < FL_COUNT_OF(computed); i++)
        fl_metric_compute_end(queue->metrics, computed[i].metric, queue->labels);
    fl_map_destroy(queue->items);
    free(queue->delays.items);
    fl_signal_destroy(queue->changed);
    fl_lock_destroy(queue->lock);
    free(queue->labels);
    free(queue);
}

static struct fl_queue_item *ensure_item(struct fl_queue *queue, const char *key)
{
    struct fl_queue_item *item = fl_map_get(queue->items, key);
    size_t size = strlen(key) + 1;

    if (item)
        return item;
    item = fl_calloc(1, sizeof(*item) + size);
    memcpy(item->key, key, size);
    fl_map_put(queue->items, item->key, item);
    return item;
}

/* Nothing is kept of a key that nothing is known of. */
static void tidy(struct fl_queue *queue, struct fl_queue_item *item)
{
    if (item->dirty || item->processing || item->delay_at || item->failures)
        return;
    (void)fl_map_remove(queue->items, item->key);
}

static void push_ready(struct fl_queue *queue, struct fl_queue_item *item)
{
    TAILQ_INSERT_TAIL(&queue->ready, item, link);
    queue->ready_count++;
    fl_signal_one(queue->changed);
}

static void mark_dirty(struct fl_queue *queue, struct fl_queue_item *item)
{
    if (item->dirty)
        return;
    item->dirty = true;
    item->added_us = fl_machine_monotonic_us();
    queue->dirty_count++;
    queue->adds++;
    if (!item->processing)
        push_ready(queue, item);
}

void fl_queue_add(struct fl_queue *queue, const char *key)
{
    FL_LOCKED(queue->lock);
    if (!queue->shut_down)
        mark_dirty(queue, ensure_item(queue, key));
}

static void add_after(struct fl_queue *queue, struct fl_queue_item *item, int64_t delay_ms)
{
    int64_t now = fl_monotonic_ms(queue->env);

    queue->retries++;
    if (delay_ms <= 0) {
        mark_dirty(queue, item);
        return;
    }
    if (delay_ms > INT64_MAX - 1 - now)
        delay_ms = INT64_MAX - 1 - now;
    if (!fl_queue_delays_put(&queue->delays, item, now + delay_ms))
        return;
    /* Whoever waits for the first delay waits too long now; which of the waiters it is, is not
     * known. */
    if (queue->timed)
        fl_signal_all(queue->changed);
    else
        fl_signal_one(queue->changed);
}

void fl_queue_add_after(struct fl_queue *queue, const char *key, int64_t delay_ms)
{
    FL_LOCKED(queue->lock);
    if (!queue->shut_down)
        add_after(queue, ensure_item(queue, key), delay_ms);
}

/* Up to a tenth more, so that what failed together is not tried together again; at the maximum, up
 * to a tenth less. */
static int64_t back_off(const struct fl_queue *queue, unsigned failures)
{
    int64_t delay = queue->base_delay_ms, max = queue->max_delay_ms, jitter;

    for (; failures > 0 && delay < max; failures--)
        delay *= 2;
    if (delay > max)
        delay = max;
    jitter = (int64_t)fl_random_below(queue->env, (uint64_t)(delay / 10 + 1));
    return delay + jitter <= max ? delay + jitter : delay - jitter;
}

void fl_queue_add_rate_limited(struct fl_queue *queue, const char *key)
{
    struct fl_queue_item *item;

    FL_LOCKED(queue->lock);
    if (queue->shut_down)
        return;
    item = ensure_item(queue, key);
    add_after(queue, item, back_off(queue, item->failures));
    item->failures++;
}

void fl_queue_forget(struct fl_queue *queue, const char *key)
{
    struct fl_queue_item *item;

    FL_LOCKED(queue->lock);
    item = fl_map_get(queue->items, key);
    if (!item)
        return;
    item->failures = 0;
    tidy(queue, item);
}

unsigned fl_queue_failures(struct fl_queue *queue, const char *key)
{
    const struct fl_queue_item *item;

    FL_LOCKED(queue->lock);
    item = fl_map_get(queue->items, key);
    return item ? item->failures : 0;
}

static void move_due(struct fl_queue *queue)
{
    int64_t now = fl_monotonic_ms(queue->env);
    struct fl_queue_item *item;

    while ((item = fl_queue_delays_first(&queue->delays)) && item->due_ms <= now) {
        fl_queue_delays_remove(&queue->delays, item);
        mark_dirty(queue, item);
    }
}

static struct fl_queue_item *first_ready(struct fl_queue *queue)
{
    move_due(queue);
    return TAILQ_FIRST(&queue->ready);
}

/* Gives the item out. Who takes one and leaves others behind wakes another waiter for them: for a
 * key that is ready, or to wait in its place for the first delay. */
static char *give_out(struct fl_queue *queue, struct fl_queue_item *item, double *ret_waited)
{
    TAILQ_REMOVE(&queue->ready, item, link);
    queue->ready_count--;
    queue->dirty_count--;
    item->dirty = false;
    item->processing = true;
    item->started_us = fl_machine_monotonic_us();
    *ret_waited = (double)(item->started_us - item->added_us) / 1e6;
    TAILQ_INSERT_TAIL(&queue->working, item, link);
    if (queue->ready_count > 0 || (queue->delays.count > 0 && !queue->timed))
        fl_signal_one(queue->changed);
    return fl_strdup(item->key);
}

/* One waiter wakes for the first delay, so that the others need not. */
static void wait_for_change(struct fl_queue *queue)
{
    const struct fl_queue_item *first = fl_queue_delays_first(&queue->delays);
    int64_t left_ms;

    if (!first || queue->timed) {
        (void)fl_signal_wait(queue->changed, queue->lock, -1);
        return;
    }
    left_ms = first->due_ms - fl_monotonic_ms(queue->env);
    queue->timed = true;
    (void)fl_signal_wait(queue->changed, queue->lock, left_ms > 0 ? left_ms : 0);
    queue->timed = false;
}

static char *take(struct fl_queue *queue, bool wait, double *ret_waited)
{
    struct fl_queue_item *item;

    FL_LOCKED(queue->lock);
    while (!(item = first_ready(queue))) {
        if (!wait || queue->shut_down)
            return NULL;
        wait_for_change(queue);
    }
    return give_out(queue, item, ret_waited);
}

static char *take_and_tell(struct fl_queue *queue, bool wait)
{
    double waited = 0;
    char *key = take(queue, wait, &waited);

    if (key)
        fl_metric_observe(queue->metrics, &waited_metric, queue->labels, waited);
    return key;
}

char *fl_queue_get(struct fl_queue *queue)
{
    return take_and_tell(queue, true);
}

char *fl_queue_try_get(struct fl_queue *queue)
{
    return take_and_tell(queue, false);
}

static double finish(struct fl_queue *queue, const char *key)
{
    struct fl_queue_item *item;
    double worked;

    FL_LOCKED(queue->lock);
    item = fl_map_get(queue->items, key);
    assert(item && item->processing);
    worked = seconds_since(item->started_us);
    item->processing = false;
    TAILQ_REMOVE(&queue->working, item, link);
    if (item->dirty)
        push_ready(queue, item);
    tidy(queue, item);
    return worked;
}

void fl_queue_done(struct fl_queue *queue, const char *key)
{
    double worked = finish(queue, key);

    fl_metric_observe(queue->metrics, &worked_metric, queue->labels, worked);
}

size_t fl_queue_known(struct fl_queue *queue)
{
    FL_LOCKED(queue->lock);
    return fl_map_count(queue->items);
}

size_t fl_queue_depth(struct fl_queue *queue)
{
    FL_LOCKED(queue->lock);
    move_due(queue);
    return queue->ready_count;
}

size_t fl_queue_delayed(struct fl_queue *queue)
{
    FL_LOCKED(queue->lock);
    move_due(queue);
    return queue->delays.count;
}

int64_t fl_queue_next_due_ms(struct fl_queue *queue)
{
    const struct fl_queue_item *first;

    FL_LOCKED(queue->lock);
    if (first_ready(queue))
        return 0;
    first = fl_queue_delays_first(&queue->delays);
    return first ? first->due_ms : INT64_MAX;
}

static void drop_dirty(struct fl_queue *queue, struct fl_queue_item *item)
{
    if (!item->dirty)
        return;
    if (!item->processing) {
        TAILQ_REMOVE(&queue->ready, item, link);
        queue->ready_count--;
    }
    item->dirty = false;
    queue->dirty_count--;
}

void fl_queue_shut_down(struct fl_queue *queue)
{
    void *cursor = NULL, *value;

    FL_LOCKED(queue->lock);
    queue->shut_down = true;
    while (fl_map_next(queue->items, &cursor, NULL, &value)) {
        struct fl_queue_item *item = value;

        drop_dirty(queue, item);
        if (item->delay_at)
            fl_queue_delays_remove(&queue->delays, item);
        tidy(queue, item);
    }
    fl_signal_all(queue->changed);
}
