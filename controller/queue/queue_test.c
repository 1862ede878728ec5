#include "controller/queue/queue.h"

#include "controller/queue/queue_internal.h"
#include "controller/runtime/metrics.h"
#include "lib/map.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants them above */
#include <cmocka.h>

struct rig {
    struct fl_fake_env fake;
    struct fl_metric_registry *metrics;
    struct fl_queue *queue;
};

static int set_up(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));

    fl_fake_env_init(&rig->fake, 1, NULL);
    rig->metrics = fl_metrics_registry_create();
    rig->queue = fl_queue_create(
        &(struct fl_queue_options){.env = &rig->fake.env, .name = "test", .metrics = rig->metrics});
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    fl_queue_destroy(rig->queue);
    fl_metrics_registry_destroy(rig->metrics);
    free(rig);
    return 0;
}

/* The next key must be `expected` (NULL: none); it is being processed then. */
static void assert_next(struct fl_queue *queue, const char *expected)
{
    FL_CLEANUP(fl_freep) char *key = fl_queue_try_get(queue);

    if (!expected) {
        assert_null(key);
        return;
    }
    assert_non_null(key);
    assert_string_equal(key, expected);
}

static void assert_metric(struct rig *rig, const char *line)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text;
    FL_CLEANUP(fl_freep) char *whole = fl_asprintf("\n%s\n", line);

    fl_buf_init(&text, 0);
    fl_metrics_registry_write(rig->metrics, &text);
    if (!strstr(fl_buf_text(&text), whole))
        fail_msg("no line \"%s\" in:\n%s", line, fl_buf_text(&text));
}

static void runs_once_for_many_additions(void **state)
{
    struct fl_queue *queue = ((struct rig *)*state)->queue;

    fl_queue_add(queue, "ns/a");
    fl_queue_add(queue, "ns/b");
    fl_queue_add(queue, "ns/a");
    assert_int_equal(fl_queue_depth(queue), 2);
    assert_next(queue, "ns/a");
    assert_next(queue, "ns/b");
    assert_next(queue, NULL);
    fl_queue_done(queue, "ns/a");
    fl_queue_done(queue, "ns/b");
    assert_next(queue, NULL);
    assert_int_equal(fl_queue_next_due_ms(queue), INT64_MAX);
}

static void runs_again_when_added_while_running(void **state)
{
    struct rig *rig = *state;

    fl_queue_add(rig->queue, "a");
    assert_next(rig->queue, "a");
    fl_queue_add(rig->queue, "a");
    fl_queue_add(rig->queue, "a");
    fl_queue_add(rig->queue, "b");
    assert_int_equal(fl_queue_depth(rig->queue), 1);
    assert_next(rig->queue, "b");
    assert_next(rig->queue, NULL);
    fl_queue_done(rig->queue, "a");
    assert_next(rig->queue, "a");
    fl_queue_done(rig->queue, "a");
    assert_next(rig->queue, NULL);
    fl_queue_done(rig->queue, "b");
    assert_metric(rig, "workqueue_adds_total{controller=\"test\",name=\"test\"} 3");
    assert_metric(rig,
                  "workqueue_queue_duration_seconds_count{controller=\"test\",name=\"test\"} 3");
    assert_metric(rig,
                  "workqueue_work_duration_seconds_count{controller=\"test\",name=\"test\"} 3");
}

static void delays_until_the_first_of_several(void **state)
{
    struct rig *rig = *state;
    struct fl_queue *queue = rig->queue;
    int64_t start = fl_monotonic_ms(&rig->fake.env);

    fl_queue_add_after(queue, "late", 300);
    fl_queue_add_after(queue, "a", 200);
    fl_queue_add_after(queue, "a", 100);
    fl_queue_add_after(queue, "a", 250);
    fl_queue_add_after(queue, "now", 0);
    fl_queue_add_after(queue, "never", INT64_MAX);
    assert_next(queue, "now");
    assert_int_equal(fl_queue_delayed(queue), 3);
    assert_int_equal(fl_queue_next_due_ms(queue), start + 100);
    fl_fake_env_advance(&rig->fake, 99);
    assert_next(queue, NULL);
    fl_fake_env_advance(&rig->fake, 1);
    assert_int_equal(fl_queue_next_due_ms(queue), 0);
    assert_int_equal(fl_queue_depth(queue), 1);
    assert_next(queue, "a");
    fl_queue_done(queue, "a");
    fl_fake_env_advance(&rig->fake, 150);
    assert_next(queue, NULL); /* the longer delays of a are gone */
    fl_fake_env_advance(&rig->fake, 50);
    assert_next(queue, "late");
    assert_metric(rig, "workqueue_retries_total{controller=\"test\",name=\"test\"} 6");
}

static void a_delay_stands_beside_an_addition(void **state)
{
    struct rig *rig = *state;

    fl_queue_add_after(rig->queue, "a", 100);
    fl_queue_add(rig->queue, "a");
    assert_next(rig->queue, "a");
    fl_fake_env_advance(&rig->fake, 100);
    assert_next(rig->queue, NULL); /* due, but still being processed */
    fl_queue_done(rig->queue, "a");
    assert_next(rig->queue, "a");
}

static void keys_that_are_due_together_keep_their_order(void **state)
{
    struct rig *rig = *state;
    char key[16];

    for (int i = 0; i < 100; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        fl_queue_add_after(rig->queue, key, 50);
    }
    fl_fake_env_advance(&rig->fake, 50);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        assert_next(rig->queue, key);
    }
}

static int64_t fail_once(struct rig *rig, const char *key)
{
    int64_t before = fl_monotonic_ms(&rig->fake.env), due;

    fl_queue_add_rate_limited(rig->queue, key);
    due = fl_queue_next_due_ms(rig->queue);
    rig->fake.monotonic_ms = due;
    assert_next(rig->queue, key);
    fl_queue_done(rig->queue, key);
    return due - before;
}

static void backs_off_per_key(void **state)
{
    struct rig *rig = *state;
    int64_t ideal = 5, delay;

    for (unsigned i = 0; i < 30; i++, ideal *= 2) {
        assert_int_equal(fl_queue_failures(rig->queue, "a"), i);
        delay = fail_once(rig, "a");
        assert_true(delay <= 1000000);
        assert_true(ideal >= 1000000 ? delay >= 900000
                                     : delay >= ideal && delay <= ideal * 11 / 10);
    }
    assert_int_equal(fl_queue_failures(rig->queue, "b"), 0);
    assert_true(fail_once(rig, "b") <= 6);
    fl_queue_forget(rig->queue, "a");
    fl_queue_forget(rig->queue, "unknown");
    assert_int_equal(fl_queue_failures(rig->queue, "a"), 0);
    assert_true(fail_once(rig, "a") <= 6);
}

static void jitter_spreads_keys(void **state)
{
    struct fl_fake_env fake;
    FL_CLEANUP(fl_queue_destroyp) struct fl_queue *queue = NULL;
    int64_t first = INT64_MAX, last = 0;

    (void)state;
    fl_fake_env_init(&fake, 7, NULL);
    queue = fl_queue_create(
        &(struct fl_queue_options){.env = &fake.env, .name = "j", .base_delay_ms = 10000});
    for (int i = 0; i < 50; i++) {
        char key[16];
        int64_t due;

        (void)snprintf(key, sizeof(key), "k%d", i);
        fl_queue_add_rate_limited(queue, key);
        due = fl_queue_next_due_ms(queue) - fake.monotonic_ms;
        first = due < first ? due : first;
        while (fl_queue_delayed(queue) > 0)
            fake.monotonic_ms = fl_queue_next_due_ms(queue);
        assert_next(queue, key);
        last = due > last ? due : last;
        fl_queue_done(queue, key);
    }
    assert_in_range(first, 10000, 11000);
    assert_in_range(last, 10000, 11000);
    assert_true(last - first > 100);
}

static void keeps_nothing_of_forgotten_keys(void **state)
{
    struct rig *rig = *state;
    char key[16];

    for (int i = 0; i < 1000; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        if (i % 2)
            fl_queue_add(rig->queue, key);
        else
            fl_queue_add_rate_limited(rig->queue, key);
        fl_fake_env_advance(&rig->fake, 10);
        assert_next(rig->queue, key);
        fl_queue_done(rig->queue, key);
        assert_int_equal(fl_queue_known(rig->queue), i % 2 ? 0 : 1);
        fl_queue_forget(rig->queue, key);
        assert_int_equal(fl_queue_known(rig->queue), 0);
    }
    fl_queue_add(rig->queue, "ready");
    fl_queue_add_after(rig->queue, "delayed", 10);
    fl_queue_add_rate_limited(rig->queue, "failed");
    assert_int_equal(fl_queue_known(rig->queue), 3);
    fl_queue_shut_down(rig->queue);
    assert_int_equal(fl_queue_known(rig->queue), 1);
}

/* The heap with removals in the middle: what is left comes out in order. */
static void delays_end_in_their_order(void **state)
{
    struct fl_queue_item items[40] = {0}, *last, *first;
    struct fl_queue_delays delays = {0};
    struct fl_fake_env chance;

    (void)state;
    fl_fake_env_init(&chance, 3, NULL);
    for (int round = 0; round < 500; round++) {
        size_t left = FL_COUNT_OF(items), out = 0;

        for (size_t k = 0; k < FL_COUNT_OF(items); k++)
            (void)fl_queue_delays_put(&delays, &items[k],
                                      (int64_t)fl_random_below(&chance.env, 100));
        for (int i = 0; i < 15; i++) {
            struct fl_queue_item *item = &items[fl_random_below(&chance.env, FL_COUNT_OF(items))];

            left -= item->delay_at != 0;
            if (item->delay_at)
                fl_queue_delays_remove(&delays, item);
        }
        for (last = NULL; (first = fl_queue_delays_first(&delays)); last = first, out++) {
            assert_true(!last || last->due_ms < first->due_ms ||
                        (last->due_ms == first->due_ms && last->order < first->order));
            fl_queue_delays_remove(&delays, first);
        }
        assert_int_equal(out, left);
    }
    free(delays.items);
}

static void shut_down_drops_what_was_in(void **state)
{
    struct rig *rig = *state;

    fl_queue_add(rig->queue, "a");
    fl_queue_add(rig->queue, "b");
    fl_queue_add_after(rig->queue, "c", 10);
    assert_next(rig->queue, "a");
    fl_queue_add(rig->queue, "a");
    fl_queue_shut_down(rig->queue);
    fl_queue_add(rig->queue, "d");
    fl_queue_add_after(rig->queue, "d", 10);
    fl_queue_add_rate_limited(rig->queue, "d");
    assert_null(fl_queue_get(rig->queue));
    assert_int_equal(fl_queue_depth(rig->queue), 0);
    assert_int_equal(fl_queue_delayed(rig->queue), 0);
    assert_int_equal(fl_queue_next_due_ms(rig->queue), INT64_MAX);
    assert_metric(rig, "workqueue_depth{controller=\"test\",name=\"test\"} 0");
    fl_queue_done(rig->queue, "a");
    assert_null(fl_queue_get(rig->queue));
}

static void metrics_end_with_the_queue(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_buf_finish) struct fl_buf text;

    assert_metric(rig, "workqueue_unfinished_work_seconds{controller=\"test\",name=\"test\"} 0");
    assert_metric(
        rig, "workqueue_longest_running_processor_seconds{controller=\"test\",name=\"test\"} 0");
    fl_queue_destroy(FL_TAKE(rig->queue));
    fl_buf_init(&text, 0);
    fl_metrics_registry_write(rig->metrics, &text);
    assert_null(strstr(fl_buf_text(&text), "workqueue_"));
}

/* The queue against a model that is plain arrays and loops, over random operations. */
#define MODEL_KEYS 12

struct model {
    struct {
        bool dirty, processing;
        int64_t due_ms; /* 0: none */
        uint64_t due_order;
        unsigned failures;
    } keys[MODEL_KEYS];
    int order[MODEL_KEYS]; /* of those ready */
    int ready;
    uint64_t sequence;
};

static void model_add(struct model *model, int k)
{
    if (model->keys[k].dirty)
        return;
    model->keys[k].dirty = true;
    if (!model->keys[k].processing)
        model->order[model->ready++] = k;
}

static void model_delay(struct model *model, int k, int64_t due_ms)
{
    if (model->keys[k].due_ms && model->keys[k].due_ms <= due_ms)
        return;
    model->keys[k].due_ms = due_ms;
    model->keys[k].due_order = model->sequence++;
}

static int model_first_due(const struct model *model)
{
    int first = -1;

    for (int k = 0; k < MODEL_KEYS; k++) {
        if (model->keys[k].due_ms == 0)
            continue;
        if (first < 0 || model->keys[k].due_ms < model->keys[first].due_ms ||
            (model->keys[k].due_ms == model->keys[first].due_ms &&
             model->keys[k].due_order < model->keys[first].due_order))
            first = k;
    }
    return first;
}

static void model_move_due(struct model *model, int64_t now)
{
    int k;

    while ((k = model_first_due(model)) >= 0 && model->keys[k].due_ms <= now) {
        model->keys[k].due_ms = 0;
        model_add(model, k);
    }
}

static int model_get(struct model *model)
{
    int k;

    if (model->ready == 0)
        return -1;
    k = model->order[0];
    memmove(model->order, model->order + 1, (size_t)--model->ready * sizeof(model->order[0]));
    model->keys[k].dirty = false;
    model->keys[k].processing = true;
    return k;
}

static void model_done(struct model *model, int k)
{
    model->keys[k].processing = false;
    if (model->keys[k].dirty)
        model->order[model->ready++] = k;
}

static int key_number(const char *key)
{
    return key ? atoi(key + strlen("ns/")) : -1;
}

static void compare_with_model(struct rig *rig, const struct model *model)
{
    int first = model_first_due(model);
    size_t delayed = 0;
    int64_t due = first < 0 ? INT64_MAX : model->keys[first].due_ms;

    for (int k = 0; k < MODEL_KEYS; k++) {
        char key[16];

        (void)snprintf(key, sizeof(key), "ns/%d", k);
        delayed += model->keys[k].due_ms != 0;
        assert_int_equal(fl_queue_failures(rig->queue, key), model->keys[k].failures);
    }
    assert_int_equal(fl_queue_depth(rig->queue), model->ready);
    assert_int_equal(fl_queue_delayed(rig->queue), delayed);
    assert_int_equal(fl_queue_next_due_ms(rig->queue), model->ready > 0 ? 0 : due);
}

static void step_both(struct rig *rig, struct model *model, const struct fl_env *chance)
{
    int k = (int)fl_random_below(chance, MODEL_KEYS);
    int64_t delay = (int64_t)fl_random_below(chance, 60) - 5;
    FL_CLEANUP(fl_freep) char *got = NULL;
    char key[16];

    (void)snprintf(key, sizeof(key), "ns/%d", k);
    switch (fl_random_below(chance, 8)) {
    case 0:
    case 1:
        fl_queue_add(rig->queue, key);
        model_add(model, k);
        break;
    case 2:
        fl_queue_add_after(rig->queue, key, delay);
        if (delay <= 0)
            model_add(model, k);
        else
            model_delay(model, k, rig->fake.monotonic_ms + delay);
        break;
    case 3: /* without jitter: less than 10 ms have no tenth */
        if (model->keys[k].failures > 0)
            fl_queue_forget(rig->queue, key);
        fl_queue_add_rate_limited(rig->queue, key);
        model_delay(model, k, rig->fake.monotonic_ms + 5);
        model->keys[k].failures = 1;
        break;
    case 4:
        fl_queue_forget(rig->queue, key);
        model->keys[k].failures = 0;
        break;
    case 5:
        got = fl_queue_try_get(rig->queue);
        assert_int_equal(key_number(got), model_get(model));
        break;
    case 6:
        if (!model->keys[k].processing)
            break;
        fl_queue_done(rig->queue, key);
        model_done(model, k);
        break;
    default:
        fl_fake_env_advance(&rig->fake, (int64_t)fl_random_below(chance, 20));
        break;
    }
    model_move_due(model, rig->fake.monotonic_ms);
}

static void agrees_with_a_naive_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct model model = {0};
        struct fl_fake_env chance;
        void *rig;

        fl_fake_env_init(&chance, seed, NULL);
        (void)set_up(&rig);
        for (int i = 0; i < 1000; i++) {
            step_both(rig, &model, &chance.env);
            compare_with_model(rig, &model);
        }
        (void)tear_down(&rig);
    }
}

/* Real threads and real time. A key that was told of must be seen after that, and no key is ever in
 * two hands. */
#define KEYS      20
#define WORKERS   6
#define PRODUCERS 3
#define ROUNDS    2000

struct crowd {
    struct fl_env env;
    struct fl_queue *queue;
    atomic_int told[KEYS], seen[KEYS], in_hand[KEYS];
    atomic_int twice, producing, idle;
    struct fl_lock *lock;
    struct fl_signal *changed; /* a worker has seen something */
};

static void work(void *user)
{
    struct crowd *crowd = user;
    char *key;

    while ((key = fl_queue_get(crowd->queue))) {
        int k = key_number(key), version;

        if (atomic_fetch_add(&crowd->in_hand[k], 1) != 0)
            atomic_fetch_add(&crowd->twice, 1);
        version = atomic_load(&crowd->told[k]);
        if (version % 7 == 0)
            fl_queue_add_rate_limited(crowd->queue, key);
        else
            fl_queue_forget(crowd->queue, key);
        atomic_store(&crowd->seen[k], version);
        atomic_fetch_sub(&crowd->in_hand[k], 1);
        fl_queue_done(crowd->queue, key);
        free(key);
        FL_LOCKED(crowd->lock);
        fl_signal_all(crowd->changed);
    }
}

static void produce(void *user)
{
    struct crowd *crowd = user;
    char key[16];

    for (unsigned i = 0; i < ROUNDS; i++) {
        int k = (int)fl_random_below(&crowd->env, KEYS);

        (void)snprintf(key, sizeof(key), "ns/%d", k);
        atomic_fetch_add(&crowd->told[k], 1);
        if (i % 3 == 0)
            fl_queue_add_after(crowd->queue, key, (int64_t)fl_random_below(&crowd->env, 5));
        else
            fl_queue_add(crowd->queue, key);
    }
    atomic_fetch_sub(&crowd->producing, 1);
    FL_LOCKED(crowd->lock);
    fl_signal_all(crowd->changed);
}

static bool all_seen(struct crowd *crowd)
{
    if (atomic_load(&crowd->producing) > 0)
        return false;
    for (int k = 0; k < KEYS; k++)
        if (atomic_load(&crowd->seen[k]) != atomic_load(&crowd->told[k]))
            return false;
    return true;
}

static void wait_until_all_seen(struct crowd *crowd)
{
    int64_t deadline = fl_monotonic_ms(&crowd->env) + 120000;

    FL_LOCKED(crowd->lock);
    while (!all_seen(crowd)) {
        assert_true(fl_monotonic_ms(&crowd->env) < deadline);
        (void)fl_signal_wait(crowd->changed, crowd->lock, 1000);
    }
}

static void start(const char *name, void (*run)(void *user), void *user,
                  struct fl_thread **ret_thread)
{
    struct fl_error err = {0};

    assert_int_equal(fl_thread_start(name, run, user, ret_thread, &err), 0);
}

static void threads_lose_nothing_and_share_nothing(void **state)
{
    struct crowd crowd = {.env = fl_env_real(NULL), .producing = PRODUCERS};
    struct fl_metric_registry *metrics = fl_metrics_registry_create();
    struct fl_thread *workers[WORKERS], *producers[PRODUCERS];
    struct fl_buf text;

    (void)state;
    crowd.lock = fl_lock_create();
    crowd.changed = fl_signal_create();
    crowd.queue = fl_queue_create(&(struct fl_queue_options){
        .env = &crowd.env, .name = "crowd", .base_delay_ms = 1, .metrics = metrics});
    for (int i = 0; i < WORKERS; i++)
        start("worker", work, &crowd, &workers[i]);
    for (int i = 0; i < PRODUCERS; i++)
        start("producer", produce, &crowd, &producers[i]);
    fl_buf_init(&text, 0);
    fl_metrics_registry_write(metrics, &text);
    wait_until_all_seen(&crowd);
    fl_queue_shut_down(crowd.queue);
    for (int i = 0; i < PRODUCERS; i++)
        fl_thread_join(producers[i]);
    for (int i = 0; i < WORKERS; i++)
        fl_thread_join(workers[i]);
    assert_int_equal(atomic_load(&crowd.twice), 0);
    fl_buf_finish(&text);
    fl_queue_destroy(crowd.queue);
    fl_metrics_registry_destroy(metrics);
    fl_signal_destroy(crowd.changed);
    fl_lock_destroy(crowd.lock);
}

static void crowd_init(struct crowd *crowd)
{
    *crowd = (struct crowd){.env = fl_env_real(NULL)};
    crowd->lock = fl_lock_create();
    crowd->changed = fl_signal_create();
    crowd->queue = fl_queue_create(
        &(struct fl_queue_options){.env = &crowd->env, .name = "crowd", .base_delay_ms = 1});
}

static void crowd_finish(struct crowd *crowd)
{
    fl_queue_destroy(crowd->queue);
    fl_signal_destroy(crowd->changed);
    fl_lock_destroy(crowd->lock);
}

static void tell_after(struct crowd *crowd, int k, int64_t delay_ms)
{
    char key[16];

    (void)snprintf(key, sizeof(key), "ns/%d", k);
    atomic_fetch_add(&crowd->told[k], 1);
    fl_queue_add_after(crowd->queue, key, delay_ms);
}

/* Workers wait, one of them for an hour; a sooner delay must wake one in its time, though nothing
 * else happens. */
static void a_sooner_delay_wakes_waiting_workers(void **state)
{
    struct fl_thread *workers[WORKERS];
    struct crowd crowd;

    (void)state;
    crowd_init(&crowd);
    fl_queue_add_after(crowd.queue, "ns/0", 3600000);
    for (int i = 0; i < WORKERS; i++)
        start("worker", work, &crowd, &workers[i]);
    for (int k = 1; k < KEYS; k++) {
        tell_after(&crowd, k, 10);
        wait_until_all_seen(&crowd);
    }
    fl_queue_shut_down(crowd.queue);
    for (int i = 0; i < WORKERS; i++)
        fl_thread_join(workers[i]);
    crowd_finish(&crowd);
}

/* Holds its key until all keys of the round are in hand. */
static void hold_until_all_are_seen(void *user)
{
    struct crowd *crowd = user;
    char *key;

    for (atomic_fetch_add(&crowd->idle, 1); (key = fl_queue_get(crowd->queue));
         atomic_fetch_add(&crowd->idle, 1)) {
        int k = key_number(key);

        atomic_fetch_sub(&crowd->idle, 1);
        FL_LOCKED(crowd->lock);
        atomic_store(&crowd->seen[k], atomic_load(&crowd->told[k]));
        fl_signal_all(crowd->changed);
        while (!all_seen(crowd))
            if (!fl_signal_wait(crowd->changed, crowd->lock, 120000))
                break;
        fl_queue_done(crowd->queue, key);
        free(key);
    }
}

static void wait_until_idle(struct crowd *crowd, int workers)
{
    int64_t deadline = fl_monotonic_ms(&crowd->env) + 120000;

    FL_LOCKED(crowd->lock);
    while (atomic_load(&crowd->idle) < workers) {
        assert_true(fl_monotonic_ms(&crowd->env) < deadline);
        (void)fl_signal_wait(crowd->changed, crowd->lock, 1);
    }
}

/* One worker waits for a delayed key, the others for being told. Keys come at once for all but one
 * of them, so for the first who waited, too, and all are held until the delayed one is in hand: the
 * one that is left must wait for it. */
static void the_wait_for_delays_is_handed_over(void **state)
{
    struct fl_thread *workers[WORKERS];

    (void)state;
    for (int round = 0; round < 5; round++) {
        struct crowd crowd;

        crowd_init(&crowd);
        atomic_store(&crowd.producing, 1);
        tell_after(&crowd, 0, 100);
        for (int i = 0; i < WORKERS; i++) {
            start("worker", hold_until_all_are_seen, &crowd, &workers[i]);
            wait_until_idle(&crowd, i + 1);
        }
        for (int k = 1; k < WORKERS; k++)
            tell_after(&crowd, k, 0);
        atomic_store(&crowd.producing, 0);
        wait_until_all_seen(&crowd);
        fl_queue_shut_down(crowd.queue);
        for (int i = 0; i < WORKERS; i++)
            fl_thread_join(workers[i]);
        crowd_finish(&crowd);
    }
}

int main(void)
{
#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_RIG(runs_once_for_many_additions),
        WITH_RIG(runs_again_when_added_while_running),
        WITH_RIG(delays_until_the_first_of_several),
        WITH_RIG(a_delay_stands_beside_an_addition),
        WITH_RIG(keys_that_are_due_together_keep_their_order),
        WITH_RIG(backs_off_per_key),
        cmocka_unit_test(jitter_spreads_keys),
        WITH_RIG(keeps_nothing_of_forgotten_keys),
        cmocka_unit_test(delays_end_in_their_order),
        WITH_RIG(shut_down_drops_what_was_in),
        WITH_RIG(metrics_end_with_the_queue),
        cmocka_unit_test(agrees_with_a_naive_model),
        cmocka_unit_test(threads_lose_nothing_and_share_nothing),
        cmocka_unit_test(a_sooner_delay_wakes_waiting_workers),
        cmocka_unit_test(the_wait_for_delays_is_handed_over),
    };

    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
