#include "workloads/serve/engine.h"

#include "lib/thread.h"

#include <stdlib.h>
#include <string.h>

#define MAX_BATCH   32
#define INLINE_US   150
#define WAITING_MAX 4096

struct waiting {
    struct fl_job job;
    struct waiting *next;
    struct fl_engine *engine;
    float *answers; /* set by the thread; NULL: too late */
};

struct fl_engine {
    struct fl_engine_options options;
    struct fl_thread *thread;
    struct fl_lock *lock; /* the queue */
    struct fl_signal *more;
    struct waiting *first, **last, *done_first, **done_last;
    size_t count, rows, under_way;
    bool stopping, told;
    float *space, *answers; /* the loop's and the thread's own room, grown as needed */
    size_t answers_room;
    struct fl_histogram batches;
};

static bool fits_inline(const struct fl_engine *engine, const struct fl_job *job)
{
    return fl_servable_row_us(job->served) * (double)job->count <= engine->options.inline_us;
}

static void predict_here(struct fl_engine *engine, const struct fl_job *job)
{
    const size_t needed = job->count * fl_servable_signature(job->served)->classes;

    if (needed > engine->answers_room) {
        engine->answers_room = needed;
        engine->answers = fl_realloc(engine->answers, needed * sizeof(float));
    }
    fl_servable_predict(job->served, FL_SEAT_LOOP, job->rows.items, job->count, engine->answers);
    fl_histogram_add(&engine->batches, (int64_t)job->count);
    job->done(job->user, engine->answers);
    free(job->rows.items);
}

/* The thread */

/* With the lock: takes jobs of one model from the queue, at least one. */
static struct waiting *take_batch(struct fl_engine *engine, size_t *ret_rows)
{
    struct waiting *batch = engine->first, *end = batch;
    size_t rows = batch->job.count;

    engine->count--;
    while (end->next && end->next->job.served == batch->job.served &&
           rows + end->next->job.count <= engine->options.max_batch) {
        end = end->next;
        rows += end->job.count;
        engine->count--;
    }
    engine->first = end->next;
    if (!engine->first)
        engine->last = &engine->first;
    end->next = NULL;
    engine->rows -= rows;
    *ret_rows = rows;
    return batch;
}

static void wait_for_more(struct fl_engine *engine)
{
    const int64_t until_us = fl_machine_monotonic_us() + engine->options.delay_us;

    /* Whoever is alone has nobody to wait for. */
    while (!engine->stopping && engine->count > 1 && engine->rows < engine->options.max_batch) {
        const int64_t left_us = until_us - fl_machine_monotonic_us();

        if (left_us <= 0)
            return;
        (void)fl_signal_wait(engine->more, engine->lock, (left_us + 999) / 1000);
    }
}

static void predict_batch(struct waiting *batch, size_t rows)
{
    struct fl_servable *served = batch->job.served;
    const struct fl_signature *signature = fl_servable_signature(served);
    float *in = batch->job.rows.items, *out;
    size_t at = 0;

    out = fl_calloc(rows * signature->classes, sizeof(float));
    if (batch->next) {
        in = fl_calloc(rows * signature->width, sizeof(float));
        for (const struct waiting *one = batch; one; one = one->next) {
            memcpy(in + at * signature->width, one->job.rows.items,
                   one->job.count * signature->width * sizeof(float));
            at += one->job.count;
        }
    }
    fl_servable_predict(served, FL_SEAT_WORKER, in, rows, out);
    at = 0;
    for (struct waiting *one = batch; one; one = one->next) {
        const size_t size = one->job.count * signature->classes * sizeof(float);

        one->answers = fl_malloc(size);
        memcpy(one->answers, out + at * signature->classes, size);
        at += one->job.count;
    }
    if (in != batch->job.rows.items)
        free(in);
    free(out);
}

static void tell_done(void *user);

/* With the lock. */
static void hand_back(struct fl_engine *engine, struct waiting *batch)
{
    *engine->done_last = batch;
    for (; batch; batch = batch->next)
        engine->done_last = &batch->next;
    if (!engine->told) {
        engine->told = true;
        fl_loop_post(engine->options.loop, tell_done, engine);
    }
}

static void run(void *user)
{
    struct fl_engine *engine = user;
    struct waiting *batch;
    size_t rows;

    fl_lock_take(engine->lock);
    for (;;) {
        while (!engine->stopping && !engine->first)
            (void)fl_signal_wait(engine->more, engine->lock, -1);
        if (engine->stopping)
            break;
        if (engine->options.delay_us > 0)
            wait_for_more(engine);
        if (!engine->first)
            continue;
        batch = take_batch(engine, &rows);
        fl_histogram_add(&engine->batches, (int64_t)rows);
        fl_lock_release(engine->lock);
        predict_batch(batch, rows);
        fl_lock_take(engine->lock);
        hand_back(engine, batch);
    }
    fl_lock_release(engine->lock);
}

/* The loop */

static void waiting_free(struct waiting *waiting)
{
    fl_servable_unref(waiting->job.served);
    free(waiting->job.rows.items);
    free(waiting->answers);
    free(waiting);
}

static void tell_done(void *user)
{
    struct fl_engine *engine = user;
    struct waiting *done, *next;

    fl_lock_take(engine->lock);
    engine->told = false;
    done = FL_TAKE(engine->done_first);
    engine->done_last = &engine->done_first;
    fl_lock_release(engine->lock);
    for (; done; done = next) {
        const bool late = fl_monotonic_ms(engine->options.env) > done->job.deadline_ms;

        next = done->next;
        engine->under_way--;
        done->job.done(done->job.user, late ? NULL : done->answers);
        waiting_free(done);
    }
}

bool fl_engine_submit(struct fl_engine *engine, const struct fl_job *job)
{
    struct waiting *waiting;

    if (engine->under_way == 0 && fits_inline(engine, job)) {
        predict_here(engine, job);
        return true;
    }
    if (engine->under_way >= WAITING_MAX)
        return false;
    waiting = fl_calloc(1, sizeof(*waiting));
    *waiting = (struct waiting){.job = *job, .engine = engine};
    (void)fl_servable_ref(job->served);
    engine->under_way++;
    fl_lock_take(engine->lock);
    *engine->last = waiting;
    engine->last = &waiting->next;
    engine->count++;
    engine->rows += job->count;
    fl_signal_one(engine->more);
    fl_lock_release(engine->lock);
    return true;
}

size_t fl_engine_waiting(const struct fl_engine *engine)
{
    return engine->under_way;
}

const struct fl_histogram *fl_engine_batches(const struct fl_engine *engine)
{
    return &engine->batches;
}

int fl_engine_create(const struct fl_engine_options *options, struct fl_engine **ret_engine,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_engine_destroyp) struct fl_engine *engine = fl_calloc(1, sizeof(*engine));
    int r;

    engine->options = *options;
    if (options->max_batch == 0)
        engine->options.max_batch = MAX_BATCH;
    if (options->inline_us == 0)
        engine->options.inline_us = INLINE_US;
    engine->last = &engine->first;
    engine->done_last = &engine->done_first;
    engine->lock = fl_lock_create();
    engine->more = fl_signal_create();
    r = fl_thread_start("flops-predict", run, engine, &engine->thread, err);
    if (r == 0)
        *ret_engine = FL_TAKE(engine);
    return r;
}

static void drop(struct waiting *list)
{
    while (list) {
        struct waiting *next = list->next;

        waiting_free(list);
        list = next;
    }
}

void fl_engine_destroy(struct fl_engine *engine)
{
    if (!engine)
        return;
    if (engine->thread) {
        fl_lock_take(engine->lock);
        engine->stopping = true;
        fl_signal_all(engine->more);
        fl_lock_release(engine->lock);
        fl_thread_join(engine->thread);
    }
    drop(engine->first);
    drop(engine->done_first);
    fl_signal_destroy(engine->more);
    fl_lock_destroy(engine->lock);
    free(engine->answers);
    free(engine);
}
