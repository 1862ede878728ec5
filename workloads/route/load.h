/* How much there is to do at a router, over the last while: what scaling decides by.
 *
 * It is either the requests under way (weighted by time) or those that came in a second. Its
 * average is over a window; another one over a tenth of that (the panic window of Knative's
 * autoscaler) tells of a sudden rush. What each of them was at most is told, too: the average's
 * maximum over a delay (as Kubernetes' horizontal autoscaler stabilises its way down), the rush's
 * over the window. So whoever decides needs no memory, and a restart of the control plane loses
 * nothing; a restart of the router does, which `covered_ms` shows.
 *
 * Memory is fixed: sixty buckets a window, sixty maxima a delay. No clock: times are given, and do
 * not go back. One thread. */
#ifndef FL_WORKLOADS_LOAD_H
#define FL_WORKLOADS_LOAD_H

#include "lib/error.h"
#include "lib/json.h"

#include <stdint.h>

#define FL_LOAD_BUCKETS 60

enum fl_load_metric { FL_LOAD_NONE, FL_LOAD_CONCURRENCY, FL_LOAD_REQUEST_RATE };

struct fl_load_terms {
    enum fl_load_metric metric; /* FL_LOAD_NONE: nothing is measured */
    int64_t window_ms;          /* from 1 s on */
    int64_t delay_ms;           /* 0: the maximum is the average of now */
};

/* Maxima over stretches of time. */
struct fl_load_peaks {
    int64_t width_us;
    int64_t stretch[FL_LOAD_BUCKETS]; /* which one the maximum is of */
    double most[FL_LOAD_BUCKETS];
};

struct fl_load {
    struct fl_load_terms terms;
    int64_t began_us, until_us; /* what is measured so far */
    int64_t width_us;           /* of a bucket */
    int64_t bucket;             /* the one that is being filled */
    double sums[FL_LOAD_BUCKETS];
    int64_t under_way;
    struct fl_load_peaks peaks, rushes;
};

struct fl_load_view {
    double average, panic;
    double peak;       /* of average within the delay */
    double panic_peak; /* of panic within the window */
    int64_t covered_ms;
};

/* Begins anew, but for the requests under way. Terms as they are change nothing. */
void fl_load_set(struct fl_load *load, const struct fl_load_terms *terms, int64_t now_us);
void fl_load_began(struct fl_load *load, int64_t now_us);
void fl_load_ended(struct fl_load *load, int64_t now_us);
struct fl_load_view fl_load_look(struct fl_load *load, int64_t now_us);

/* {"metric": "Concurrency" or "RequestRate", "windowMs", "delayMs"}; NULL: nothing is measured. */
int fl_load_read_terms(const json_t *terms, struct fl_load_terms *ret_terms, struct fl_error *err);
/* The same with "average", "panic", "peak", "panicPeak", "coveredMs"; NULL: nothing is measured. */
json_t *fl_load_show(struct fl_load *load, int64_t now_us);

#endif
