/* Counters, gauges and histograms in Prometheus' text form, under the names that controller-runtime
 * and client-go use, so that existing dashboards read them.
 *
 * A series is a name and its labels, made at first use; there are at most 4,096 of a registry,
 * further ones are dropped and counted in `flops_metrics_dropped_total`. Any thread; one lock. */
#ifndef FL_CONTROLLER_METRICS_H
#define FL_CONTROLLER_METRICS_H

#include "lib/buf.h"
#include "lib/mem.h"

#include <stddef.h>

struct fl_metric_registry;

enum fl_metric_type { FL_METRIC_COUNTER, FL_METRIC_GAUGE, FL_METRIC_HISTOGRAM };

struct fl_metric_about { /* static: a metric's description */
    const char *name, *help;
    enum fl_metric_type type;
    const double *buckets; /* upper bounds, ascending; histograms only */
    size_t bucket_count;
};

struct fl_metric_registry *fl_metrics_registry_create(void);
void fl_metrics_registry_destroy(struct fl_metric_registry *registry);

/* `labels` is ready-made: `controller="workload",result="success"`, or "". `registry` may be NULL:
 * nothing happens. */
void fl_metric_add(struct fl_metric_registry *registry, const struct fl_metric_about *metric,
                   const char *labels, double amount); /* counter, gauge */
void fl_metric_set(struct fl_metric_registry *registry, const struct fl_metric_about *metric,
                   const char *labels, double value); /* gauge */
void fl_metric_observe(struct fl_metric_registry *registry, const struct fl_metric_about *metric,
                       const char *labels, double value); /* histogram */
/* A gauge or counter that is computed when asked for. `fn` runs under the registry's lock: it may
 * take a lock of its own, so that lock must not be held where the registry is called. A second one
 * of the same labels replaces the first. After the end, `fn` is not running and never called. */
typedef double fl_metric_fn(void *user);
void fl_metric_compute(struct fl_metric_registry *registry, const struct fl_metric_about *metric,
                       const char *labels, fl_metric_fn *fn, void *user);
void fl_metric_compute_end(struct fl_metric_registry *registry,
                           const struct fl_metric_about *metric, const char *labels);

/* Prometheus text format 0.0.4, appended: families by name, series by labels. */
void fl_metrics_registry_write(struct fl_metric_registry *registry, struct fl_buf *buf);

#endif
