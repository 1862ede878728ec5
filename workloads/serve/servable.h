/* A model that is served: what it takes and gives, and how long a row takes it. Whoever serves
 * holds a reference; the last one frees it. What predicts is behind this door: a native network
 * today. Made on any thread; references belong to the loop's thread. */
#ifndef FL_WORKLOADS_SERVABLE_H
#define FL_WORKLOADS_SERVABLE_H

#include "lib/digest.h"
#include "workloads/serve/request.h"

struct fl_servable;

/* From the bytes of a model: safetensors of a native trainer. INVALID says why it cannot be served.
 * Warm: rows have been predicted before it returns. */
int fl_servable_load(const void *data, size_t len, struct fl_servable **ret_servable,
                     struct fl_error *err);
struct fl_servable *fl_servable_ref(struct fl_servable *served);
void fl_servable_unref(struct fl_servable *served);
FL_DEFINE_CLEANUP(struct fl_servable, fl_servable_unref)

const struct fl_signature *fl_servable_signature(const struct fl_servable *served);
const char *fl_servable_digest(const struct fl_servable *served);
const char *fl_servable_platform(const struct fl_servable *served); /* "flops_mlp" */
double fl_servable_row_us(const struct fl_servable *served);

/* Who predicts: each of these on one thread at a time, both at once. */
enum fl_servable_seat { FL_SEAT_LOOP, FL_SEAT_WORKER };
void fl_servable_predict(struct fl_servable *served, enum fl_servable_seat seat, const float *rows,
                         size_t count, float *ret_answers);

#endif
