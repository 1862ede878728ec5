/* A model that is served: what it takes and gives, and how long a row takes it. Whoever serves
 * holds a reference; the last one frees it. What predicts is behind this door: a native network
 * today. Made on any thread; references belong to the loop's thread. */
#ifndef FL_WORKLOADS_SERVED_H
#define FL_WORKLOADS_SERVED_H

#include "lib/digest.h"
#include "workloads/serve/request.h"

struct fl_served;

/* From the bytes of a model: safetensors of a native trainer. INVALID says why it cannot be served.
 * Warm: rows have been predicted before it returns. */
int fl_served_load(const void *data, size_t len, struct fl_served **ret_served,
                   struct fl_error *err);
struct fl_served *fl_served_ref(struct fl_served *served);
void fl_served_unref(struct fl_served *served);
FL_DEFINE_CLEANUP(struct fl_served, fl_served_unref)

const struct fl_signature *fl_served_signature(const struct fl_served *served);
const char *fl_served_digest(const struct fl_served *served);
const char *fl_served_platform(const struct fl_served *served); /* "flops_mlp" */
double fl_served_row_us(const struct fl_served *served);

/* Who predicts: each of these on one thread at a time, both at once. */
enum fl_served_seat { FL_SEAT_LOOP, FL_SEAT_WORKER };
void fl_served_predict(struct fl_served *served, enum fl_served_seat seat, const float *rows,
                       size_t count, float *ret_answers);

#endif
