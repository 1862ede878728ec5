/* Where rows become answers, in batches.
 *
 * What was submitted while the loop looked at its sockets is one batch, up to a bound, of one
 * model; so many small requests at a time become one run of the model, and a lone one is run at
 * once. A run that is quick (as warming up has shown) is made on the loop, for that takes less than
 * telling a thread; others are made by threads, while the loop goes on. With a delay, a batch that
 * is not full waits that long for more, but only while a thread is at work already: a lone request
 * is never held back. What nobody waits for any more is dropped before it is run.
 *
 * Loop thread, but for the predictions. */
#ifndef FL_WORKLOADS_SERVE_ENGINE_H
#define FL_WORKLOADS_SERVE_ENGINE_H

#include "lib/env.h"
#include "lib/loop.h"
#include "workloads/serve/servable.h"

struct fl_engine;

struct fl_engine_options {
    const struct fl_env *env;
    struct fl_loop *loop;
    unsigned threads;   /* 0: 1 */
    size_t max_batch;   /* rows; 0: 32. A request with more is a batch of its own */
    size_t max_waiting; /* rows; 0: 65,536 */
    int64_t delay_ms;   /* 0: none */
    double inline_us;   /* what may be run on the loop; 0: 200, < 0: nothing */
};
int fl_engine_create(const struct fl_engine_options *options, struct fl_engine **ret_engine,
                     struct fl_error *err);
/* Waits for the threads' runs. Whatever has no answer yet gets none, and no `done`. */
void fl_engine_destroy(struct fl_engine *engine);
FL_DEFINE_CLEANUP(struct fl_engine, fl_engine_destroy)
/* Seats that its models need. */
unsigned fl_engine_seats(const struct fl_engine *engine);

/* `answers`: classes for each row, until it returns. NULL: `err` says why (TIMEOUT: it waited
 * beyond its deadline; else what the predictor says). */
typedef void fl_engine_done_fn(void *user, const float *answers, const struct fl_error *err);
struct fl_job {
    struct fl_servable *served; /* referenced until done */
    struct fl_numbers rows;     /* taken over */
    size_t count;
    int64_t deadline_ms;        /* fl_monotonic_ms: it is not begun after that */
    fl_engine_done_fn *done;    /* once, and never before fl_engine_submit has returned */
    bool (*wanted)(void *user); /* asked before it is run; false: `done` without a run */
    void *user;
};
/* False: too many rows wait already; `done` is not called and the rows stay the caller's. */
bool fl_engine_submit(struct fl_engine *engine, const struct fl_job *job);

#define FL_ENGINE_BUCKETS 12 /* runs by rows: 1, 2, 4, … 1024, more */
struct fl_engine_stats {
    size_t waiting, waiting_rows, running; /* requests, their rows, runs on threads */
    uint64_t runs[FL_ENGINE_BUCKETS], rows_total, inline_total, dropped_total;
};
const struct fl_engine_stats *fl_engine_stats(const struct fl_engine *engine);

#endif
