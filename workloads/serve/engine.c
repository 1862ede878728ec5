#include "workloads/serve/engine.h"

#include "lib/thread.h"
#include "workloads/tensor/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define MAX_BATCH   32
#define MAX_WAITING 65536
#define INLINE_US   200
#define TURN_US     1000 /* then the sockets have their turn */

struct waiting {
    STAILQ_ENTRY(waiting) link;
    struct fl_job job;
    int64_t since_ms;
};
STAILQ_HEAD(queue, waiting);

/* Requests that are answered by one run. */
struct batch {
    struct queue jobs;
    size_t rows;
    const float *in;
    float *out;
    float *joined; /* where several requests were put together */
    int result;
    struct fl_error err;
};

/* What a thread has told the loop may be heard after the engine has ended. */
struct notice {
    struct lane *lane; /* NULL: then */
};

struct lane {
    struct fl_engine *engine;
    struct notice *notice;
    struct fl_thread *thread;
    unsigned seat;
    bool busy;          /* the loop's */
    struct batch batch; /* the thread's while busy */
    struct fl_lock *lock;
    bool given, stopping; /* under the lock */
    bool told;            /* by the thread before it is idle, by the loop while it is */
    struct fl_signal *change;
};

struct fl_engine {
    struct fl_engine_options options;
    struct queue queue;
    struct fl_timer *soon, *later;
    struct lane *lanes;
    unsigned lane_count;
    struct fl_engine_stats stats;
    float *in, *out; /* of runs on the loop */
    size_t in_room, out_room;
};

/* Batches */

static void waiting_free(struct waiting *waiting)
{
    fl_servable_unref(waiting->job.served);
    fl_numbers_finish(&waiting->job.rows);
    free(waiting);
}

static void take_first(struct fl_engine *engine)
{
    const struct waiting *first = STAILQ_FIRST(&engine->queue);

    engine->stats.waiting--;
    engine->stats.waiting_rows -= first->job.count;
    STAILQ_REMOVE_HEAD(&engine->queue, link);
}

/* Those that need no run any more are told so; true where one is left. */
static bool drop_unwanted(struct fl_engine *engine)
{
    const int64_t now_ms = fl_monotonic_ms(engine->options.env);
    struct waiting *first;

    while ((first = STAILQ_FIRST(&engine->queue))) {
        const bool late = now_ms > first->job.deadline_ms;
        struct fl_error err = {0};

        if (!late && (!first->job.wanted || first->job.wanted(first->job.user)))
            return true;
        take_first(engine);
        engine->stats.dropped_total++;
        (void)fl_error_set(&err, late ? FL_E_TIMEOUT : FL_E_UNAVAILABLE, "%s",
                           late ? "the prediction waited too long" : "nobody waits for it");
        first->job.done(first->job.user, NULL, &err);
        waiting_free(first);
    }
    return false;
}

/* How much the next run would take: requests of one model, at least one. */
static size_t next_rows(const struct fl_engine *engine)
{
    const struct waiting *first = STAILQ_FIRST(&engine->queue), *next = first;
    size_t rows = 0;

    do {
        rows += next->job.count;
        next = STAILQ_NEXT(next, link);
    } while (next && next->job.served == first->job.served &&
             rows + next->job.count <= engine->options.max_batch);
    return rows;
}

static void take_batch(struct fl_engine *engine, size_t rows, struct batch *batch)
{
    *batch = (struct batch){.rows = rows};
    STAILQ_INIT(&batch->jobs);
    for (size_t taken = 0; taken < rows;) {
        struct waiting *first = STAILQ_FIRST(&engine->queue);

        taken += first->job.count;
        take_first(engine);
        STAILQ_INSERT_TAIL(&batch->jobs, first, link);
    }
}

/* One behind the other; a single request lies so already. */
static void join(const struct batch *batch, float *in)
{
    const struct waiting *each;

    STAILQ_FOREACH(each, &batch->jobs, link) {
        memcpy(in, each->job.rows.items, each->job.rows.count * sizeof(float));
        in += each->job.rows.count;
    }
}

static bool is_single(const struct batch *batch)
{
    return !STAILQ_NEXT(STAILQ_FIRST(&batch->jobs), link);
}

static void count_run(struct fl_engine *engine, size_t rows)
{
    size_t bucket = 0;

    while (bucket < FL_ENGINE_BUCKETS - 1 && rows > (size_t)1 << bucket)
        bucket++;
    engine->stats.runs[bucket]++;
    engine->stats.rows_total += rows;
}

static void run(struct batch *batch, unsigned seat)
{
    batch->result = fl_servable_predict(STAILQ_FIRST(&batch->jobs)->job.served, seat, batch->in,
                                        batch->rows, batch->out, &batch->err);
}

/* Rows that break the model (numbers too large for it) break their own request only. */
static void tell_one(const struct waiting *each, const struct batch *batch, const float *answers)
{
    const size_t numbers = each->job.count * fl_servable_signature(each->job.served)->classes;
    struct fl_error err = batch->err;

    if (batch->result >= 0 && fl_k_find_bad(numbers, answers) < numbers)
        (void)fl_error_set(&err, FL_E_INVALID,
                           "the answer is no number: the input's numbers are too large");
    each->job.done(each->job.user, err.code ? NULL : answers, &err);
}

static void tell(struct batch *batch)
{
    const float *answers = batch->out;
    struct waiting *each;

    while ((each = STAILQ_FIRST(&batch->jobs))) {
        STAILQ_REMOVE_HEAD(&batch->jobs, link);
        tell_one(each, batch, answers);
        answers += each->job.count * fl_servable_signature(each->job.served)->classes;
        waiting_free(each);
    }
}

/* On the loop */

static float *room(float **memory, size_t *have, size_t needed)
{
    if (needed > *have) {
        *memory = fl_realloc(*memory, needed * sizeof(float));
        *have = needed;
    }
    return *memory;
}

static void run_here(struct fl_engine *engine, size_t rows)
{
    const struct fl_signature *signature =
        fl_servable_signature(STAILQ_FIRST(&engine->queue)->job.served);
    struct batch batch;

    take_batch(engine, rows, &batch);
    batch.out = room(&engine->out, &engine->out_room, rows * signature->classes);
    if (is_single(&batch)) {
        batch.in = STAILQ_FIRST(&batch.jobs)->job.rows.items;
    } else {
        join(&batch, room(&engine->in, &engine->in_room, rows * signature->width));
        batch.in = engine->in;
    }
    run(&batch, 0);
    count_run(engine, rows);
    engine->stats.inline_total++;
    tell(&batch);
}

/* On threads */

static void pump(void *user);

static void batch_finish(struct batch *batch)
{
    struct waiting *each;

    while ((each = STAILQ_FIRST(&batch->jobs))) {
        STAILQ_REMOVE_HEAD(&batch->jobs, link);
        waiting_free(each);
    }
    free(batch->joined);
    free(batch->out);
}

static void ran(void *user)
{
    struct notice *notice = user;
    struct lane *lane = notice->lane;
    struct fl_engine *engine;
    struct batch batch;

    if (!lane) {
        free(notice);
        return;
    }
    engine = lane->engine;
    batch = lane->batch; /* never an empty list, which could not be moved so */
    lane->batch = (struct batch){0};
    STAILQ_INIT(&lane->batch.jobs);
    lane->busy = lane->told = false;
    engine->stats.running--;
    tell(&batch);
    batch_finish(&batch);
    pump(engine);
}

static void lane_run(void *user)
{
    struct lane *lane = user;

    fl_lock_take(lane->lock);
    for (;;) {
        while (!lane->given && !lane->stopping)
            (void)fl_signal_wait(lane->change, lane->lock, -1);
        if (lane->stopping)
            break;
        lane->given = false;
        fl_lock_release(lane->lock);
        run(&lane->batch, lane->seat);
        fl_lock_take(lane->lock);
        lane->told = true;
        fl_loop_post(lane->engine->options.loop, ran, lane->notice);
    }
    fl_lock_release(lane->lock);
}

static void run_there(struct fl_engine *engine, struct lane *lane, size_t rows)
{
    const struct fl_signature *signature =
        fl_servable_signature(STAILQ_FIRST(&engine->queue)->job.served);
    struct batch *batch = &lane->batch;

    take_batch(engine, rows, batch);
    batch->out = fl_calloc(rows, signature->classes * sizeof(float));
    if (is_single(batch)) {
        batch->in = STAILQ_FIRST(&batch->jobs)->job.rows.items;
    } else {
        batch->joined = fl_calloc(rows, signature->width * sizeof(float));
        join(batch, batch->joined);
        batch->in = batch->joined;
    }
    count_run(engine, rows);
    engine->stats.running++;
    lane->busy = true;
    fl_lock_take(lane->lock);
    lane->given = true;
    fl_signal_one(lane->change);
    fl_lock_release(lane->lock);
}

static struct lane *free_lane(const struct fl_engine *engine)
{
    for (unsigned i = 0; i < engine->lane_count; i++)
        if (!engine->lanes[i].busy)
            return &engine->lanes[i];
    return NULL;
}

/* How long the next batch should wait for company; 0: not at all. */
static int64_t patience_ms(const struct fl_engine *engine, size_t rows)
{
    const struct waiting *first = STAILQ_FIRST(&engine->queue);
    int64_t left_ms;

    if (engine->stats.running == 0 || rows >= engine->options.max_batch)
        return 0;
    left_ms = first->since_ms + engine->options.delay_ms - fl_monotonic_ms(engine->options.env);
    return left_ms > 0 ? left_ms : 0;
}

/* False: what comes next has to wait. */
static bool give(struct fl_engine *engine, size_t rows)
{
    struct lane *lane = free_lane(engine);
    const int64_t wait_ms = patience_ms(engine, rows);

    if (!lane) /* its end will look again */
        return false;
    if (wait_ms > 0) {
        fl_timer_arm(engine->later, wait_ms);
        return false;
    }
    run_there(engine, lane, rows);
    return true;
}

static void pump(void *user)
{
    struct fl_engine *engine = user;
    double spent_us = 0;

    while (drop_unwanted(engine)) {
        const size_t rows = next_rows(engine);
        const double run_us = fl_servable_run_us(STAILQ_FIRST(&engine->queue)->job.served, rows);

        if (spent_us > TURN_US) {
            fl_timer_arm(engine->later, 0);
            return;
        }
        if (run_us > engine->options.inline_us) {
            if (!give(engine, rows))
                return;
            continue;
        }
        run_here(engine, rows);
        spent_us += run_us > 1 ? run_us : 1;
    }
}

bool fl_engine_submit(struct fl_engine *engine, const struct fl_job *job)
{
    struct waiting *waiting;

    if (engine->stats.waiting_rows > 0 &&
        engine->stats.waiting_rows + job->count > engine->options.max_waiting)
        return false;
    waiting = fl_calloc(1, sizeof(*waiting));
    waiting->job = *job;
    waiting->since_ms = fl_monotonic_ms(engine->options.env);
    (void)fl_servable_ref(job->served);
    STAILQ_INSERT_TAIL(&engine->queue, waiting, link);
    engine->stats.waiting++;
    engine->stats.waiting_rows += job->count;
    fl_timer_fire(engine->soon);
    return true;
}

const struct fl_engine_stats *fl_engine_stats(const struct fl_engine *engine)
{
    return &engine->stats;
}

unsigned fl_engine_seats(const struct fl_engine *engine)
{
    return engine->lane_count + 1;
}

/* Beginning and end */

static int start_lanes(struct fl_engine *engine, unsigned count, struct fl_error *err)
{
    engine->lanes = fl_calloc(count, sizeof(*engine->lanes));
    engine->lane_count = count;
    for (unsigned i = 0; i < count; i++) {
        struct lane *lane = &engine->lanes[i];

        lane->engine = engine;
        lane->seat = i + 1;
        STAILQ_INIT(&lane->batch.jobs);
        lane->notice = fl_calloc(1, sizeof(*lane->notice));
        lane->notice->lane = lane;
        lane->lock = fl_lock_create();
        lane->change = fl_signal_create();
    }
    for (unsigned i = 0; i < count; i++) {
        char name[16];
        int r;

        (void)snprintf(name, sizeof(name), "predict-%u", i % 100);
        r = fl_thread_start(name, lane_run, &engine->lanes[i], &engine->lanes[i].thread, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int fl_engine_create(const struct fl_engine_options *options, struct fl_engine **ret_engine,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_engine_destroyp) struct fl_engine *engine = fl_calloc(1, sizeof(*engine));
    struct fl_engine_options *own = &engine->options;
    int r;

    *own = *options;
    own->max_batch = own->max_batch ? own->max_batch : MAX_BATCH;
    own->max_waiting = own->max_waiting ? own->max_waiting : MAX_WAITING;
    own->inline_us = own->inline_us != 0 ? own->inline_us : INLINE_US;
    STAILQ_INIT(&engine->queue);
    engine->soon = fl_timer_create(own->loop, pump, engine);
    engine->later = fl_timer_create(own->loop, pump, engine);
    r = start_lanes(engine, own->threads ? own->threads : 1, err);
    if (r < 0)
        return r;
    *ret_engine = FL_TAKE(engine);
    return 0;
}

static void stop_lane(struct lane *lane)
{
    fl_lock_take(lane->lock);
    lane->stopping = true;
    fl_signal_one(lane->change);
    fl_lock_release(lane->lock);
    fl_thread_join(lane->thread);
    lane->notice->lane = NULL;
    if (!lane->told)
        free(lane->notice);
    batch_finish(&lane->batch);
    fl_signal_destroy(lane->change);
    fl_lock_destroy(lane->lock);
}

void fl_engine_destroy(struct fl_engine *engine)
{
    struct waiting *first;

    if (!engine)
        return;
    for (unsigned i = 0; i < engine->lane_count; i++)
        stop_lane(&engine->lanes[i]);
    while ((first = STAILQ_FIRST(&engine->queue))) {
        take_first(engine);
        waiting_free(first);
    }
    fl_timer_destroy(engine->soon);
    fl_timer_destroy(engine->later);
    free(engine->lanes);
    free(engine->in);
    free(engine->out);
    free(engine);
}
