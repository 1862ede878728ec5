/* A model that is served: what it takes and gives, and how long rows take it. Whoever serves holds
 * a reference; the last one frees it. What predicts is behind this door (predictor_driver.h). Made
 * on any thread; references belong to the loop's thread. */
#ifndef FL_WORKLOADS_SERVABLE_H
#define FL_WORKLOADS_SERVABLE_H

#include "lib/digest.h"
#include "workloads/serve/predictor_driver.h"

struct fl_servable;

struct fl_servable_options {
    unsigned seats;              /* threads that predict at the same time; 0: 2 */
    size_t max_batch;            /* rows in one run; 0: 32 */
    const char *expected_digest; /* NULL: any */
    /* NULL: whichever driver knows the file. */
    const struct fl_predictor_ops *ops;
    /* What predicts with a model that does not say what it is; NULL: nothing. Lent for as long as
     * anything is served, with its texts. It is never quick enough for a loop. */
    const struct fl_trainer_program *program;
    const struct fl_env *env; /* of the program; lent likewise */
};
/* From the bytes of a model's file. INVALID says why it cannot be served. Warm: rows have been
 * predicted on every seat before it returns. */
int fl_servable_load(const struct fl_servable_options *options, const void *data, size_t len,
                     struct fl_servable **ret_servable, struct fl_error *err);
struct fl_servable *fl_servable_ref(struct fl_servable *served);
void fl_servable_unref(struct fl_servable *served);
FL_DEFINE_CLEANUP(struct fl_servable, fl_servable_unref)

const struct fl_signature *fl_servable_signature(const struct fl_servable *served);
const char *fl_servable_digest(const struct fl_servable *served);
const char *fl_servable_platform(const struct fl_servable *served);
/* How often what predicts had to be started again. */
uint64_t fl_servable_restarts(const struct fl_servable *served);
/* How long a run with so many rows takes, as warming up has shown; INFINITY: nobody knows. */
double fl_servable_run_us(const struct fl_servable *served, size_t rows);

/* A seat is one thread's at a time. */
int fl_servable_predict(struct fl_servable *served, unsigned seat, const float *rows, size_t count,
                        float *ret_answers, struct fl_error *err);

#endif
