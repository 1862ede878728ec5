/* Where rows become answers: at once on the loop where that takes less than a thread would cost, in
 * batches on a thread of its own otherwise.
 *
 * A batch is what waits when the thread comes back, up to a bound, of one model; with a delay it
 * waits that long for more, but only while others are under way already: a lone request is never
 * held back. Loop thread, but for the prediction. */
#ifndef FL_WORKLOADS_SERVE_ENGINE_H
#define FL_WORKLOADS_SERVE_ENGINE_H

#include "lib/env.h"
#include "lib/histogram.h"
#include "lib/loop.h"
#include "workloads/serve/servable.h"

struct fl_engine;

struct fl_engine_options {
    const struct fl_env *env;
    struct fl_loop *loop;
    size_t max_batch; /* rows; 0: 32 */
    int64_t delay_us; /* 0: none */
    double inline_us; /* what may be predicted on the loop; 0: 150, < 0: nothing */
};
int fl_engine_create(const struct fl_engine_options *options, struct fl_engine **ret_engine,
                     struct fl_error *err);
void fl_engine_destroy(struct fl_engine *engine); /* what waits is dropped, without `done` */
FL_DEFINE_CLEANUP(struct fl_engine, fl_engine_destroy)

/* `answers`: classes for each row, until it returns; NULL: it waited longer than its deadline. */
typedef void fl_engine_done_fn(void *user, const float *answers);
struct fl_job {
    struct fl_servable *served; /* referenced until done */
    struct fl_numbers rows;     /* taken over */
    size_t count;
    int64_t deadline_ms;     /* fl_monotonic_ms */
    fl_engine_done_fn *done; /* once; possibly before fl_engine_submit returns */
    void *user;
};
/* false: too much waits already; `done` is not called and the rows stay the caller's. */
bool fl_engine_submit(struct fl_engine *engine, const struct fl_job *job);
size_t fl_engine_waiting(const struct fl_engine *engine);
const struct fl_histogram *fl_engine_batches(const struct fl_engine *engine); /* rows in each */

#endif
