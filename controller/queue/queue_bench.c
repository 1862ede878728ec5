/* What the queue does on this machine: keys that go through it, and how long one waits for a worker
 * that has nothing else to do.
 *
 *     queue_bench [KEYS] */
#include "controller/queue/queue.h"

#include "controller/runtime/metrics.h"
#include "lib/thread.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS_MAX 16
#define SAMPLES     5000

struct bench {
    struct fl_env env;
    struct fl_queue *queue;
    struct fl_metric_registry *metrics;
    size_t per_producer;
    atomic_int number;
    atomic_size_t done;
    struct fl_lock *lock;
    struct fl_signal *finished;
    int64_t added_us, waited_us[SAMPLES];
    size_t samples;
};

static void bench_init(struct bench *bench)
{
    *bench = (struct bench){.env = fl_env_real(NULL)};
    bench->metrics = fl_metrics_registry_create();
    bench->queue = fl_queue_create(
        &(struct fl_queue_options){.env = &bench->env, .name = "bench", .metrics = bench->metrics});
    bench->lock = fl_lock_create();
    bench->finished = fl_signal_create();
}

static void bench_finish(struct bench *bench)
{
    fl_queue_destroy(bench->queue);
    fl_metrics_registry_destroy(bench->metrics);
    fl_signal_destroy(bench->finished);
    fl_lock_destroy(bench->lock);
}

static void start(void (*run)(void *user), void *user, struct fl_thread **ret_thread)
{
    struct fl_error err;

    if (fl_thread_start("bench", run, user, ret_thread, &err) < 0)
        abort();
}

static void produce(void *user)
{
    struct bench *bench = user;
    int number = atomic_fetch_add(&bench->number, 1);
    char key[48];

    for (size_t i = 0; i < bench->per_producer; i++) {
        (void)snprintf(key, sizeof(key), "default/workload-%d-%zu", number, i);
        fl_queue_add(bench->queue, key);
    }
}

static void consume(void *user)
{
    struct bench *bench = user;
    char *key;

    while ((key = fl_queue_get(bench->queue))) {
        fl_queue_forget(bench->queue, key);
        fl_queue_done(bench->queue, key);
        free(key);
        atomic_fetch_add(&bench->done, 1);
    }
}

static void run_through(size_t keys, int producers, int consumers)
{
    struct fl_thread *threads[2 * THREADS_MAX];
    struct bench bench;
    int64_t start_us, took_us;

    bench_init(&bench);
    bench.per_producer = keys / (size_t)producers;
    start_us = fl_machine_monotonic_us();
    for (int i = 0; i < producers; i++)
        start(produce, &bench, &threads[i]);
    for (int i = 0; i < consumers; i++)
        start(consume, &bench, &threads[producers + i]);
    for (int i = 0; i < producers; i++)
        fl_thread_join(threads[i]);
    while (fl_queue_depth(bench.queue) > 0) {
        FL_LOCKED(bench.lock);
        (void)fl_signal_wait(bench.finished, bench.lock, 1);
    }
    took_us = fl_machine_monotonic_us() - start_us;
    fl_queue_shut_down(bench.queue);
    for (int i = 0; i < consumers; i++)
        fl_thread_join(threads[producers + i]);
    printf("%d adding, %d working: %.0f keys/s\n", producers, consumers,
           (double)atomic_load(&bench.done) * 1e6 / (double)took_us);
    bench_finish(&bench);
}

static void take_samples(void *user)
{
    struct bench *bench = user;
    char *key;

    while ((key = fl_queue_get(bench->queue))) {
        int64_t now = fl_machine_monotonic_us();

        fl_queue_done(bench->queue, key);
        free(key);
        FL_LOCKED(bench->lock);
        bench->waited_us[bench->samples++] = now - bench->added_us;
        fl_signal_all(bench->finished);
    }
}

static int compare(const void *left, const void *right)
{
    const int64_t *a = left, *b = right;

    return (*a > *b) - (*a < *b);
}

static void measure_wake(void)
{
    struct fl_thread *threads[2];
    struct bench bench;

    bench_init(&bench);
    for (size_t i = 0; i < FL_COUNT_OF(threads); i++)
        start(take_samples, &bench, &threads[i]);
    for (size_t i = 0; i < SAMPLES; i++) {
        FL_LOCKED(bench.lock);
        bench.added_us = fl_machine_monotonic_us();
        fl_queue_add(bench.queue, "default/one");
        while (bench.samples <= i)
            (void)fl_signal_wait(bench.finished, bench.lock, 1000);
    }
    fl_queue_shut_down(bench.queue);
    for (size_t i = 0; i < FL_COUNT_OF(threads); i++)
        fl_thread_join(threads[i]);
    qsort(bench.waited_us, SAMPLES, sizeof(bench.waited_us[0]), compare);
    printf("from add to a worker that waits: %ld us, 99%% at most %ld us\n",
           (long)bench.waited_us[SAMPLES / 2], (long)bench.waited_us[SAMPLES * 99 / 100]);
    bench_finish(&bench);
}

static size_t allocated_bytes(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static void measure_memory(size_t keys)
{
    struct bench bench;
    size_t before;
    char key[48];

    bench_init(&bench);
    before = allocated_bytes();
    for (size_t i = 0; i < keys; i++) {
        (void)snprintf(key, sizeof(key), "default/workload-%zu", i);
        fl_queue_add_after(bench.queue, key, 3600000 + (int64_t)(i * 7919 % keys));
    }
    printf("%zu delayed keys: %zu bytes each\n", keys, (allocated_bytes() - before) / keys);
    fl_queue_shut_down(bench.queue);
    printf("after shutting down: %zu bytes in all\n", allocated_bytes() - before);
    bench_finish(&bench);
}

int main(int argc, char **argv)
{
    size_t keys = argc > 1 ? strtoul(argv[1], NULL, 10) : 400000;

    run_through(keys, 1, 1);
    run_through(keys, 4, 4);
    run_through(keys, 1, 8);
    measure_wake();
    measure_memory(10000);
    return 0;
}
