#include "controller/runtime/metrics.h"

#include "lib/map.h"
#include "lib/thread.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERIES_MAX 4096u

struct series {
    double value; /* of a histogram: the sum */
    uint64_t count;
    fl_metric_fn *fn; /* NULL: `value` is it */
    void *user;
    uint64_t buckets[]; /* each its own, not yet what is below */
};

struct family {
    const struct fl_metric_about *metric;
    struct fl_map *series; /* labels → struct series */
};

struct fl_metric_registry {
    struct fl_lock *lock;
    struct fl_map *families; /* name → struct family */
    struct series *dropped;  /* in a family of its own */
    size_t series_count;
};

static const struct fl_metric_about dropped_metric = {
    .name = "flops_metrics_dropped_total",
    .help = "Values that were not taken because the registry has no room for another series",
    .type = FL_METRIC_COUNTER,
};

static void destroy_family(void *user)
{
    struct family *family = user;

    fl_map_destroy(family->series);
    free(family);
}

static struct family *ensure_family(struct fl_metric_registry *registry,
                                    const struct fl_metric_about *metric)
{
    struct family *family = fl_map_get(registry->families, metric->name);

    if (family) {
        assert(family->metric->type == metric->type);
        assert(family->metric->bucket_count == metric->bucket_count);
        return family;
    }
    family = fl_calloc(1, sizeof(*family));
    family->metric = metric;
    family->series = fl_map_create(free);
    fl_map_put(registry->families, metric->name, family);
    return family;
}

/* NULL where there is no room for another one. */
static struct series *ensure_series(struct fl_metric_registry *registry,
                                    const struct fl_metric_about *metric, const char *labels)
{
    struct family *family = ensure_family(registry, metric);
    struct series *series = fl_map_get(family->series, labels);

    if (series)
        return series;
    if (registry->series_count >= SERIES_MAX) {
        registry->dropped->value += 1;
        return NULL;
    }
    series = fl_calloc(1, sizeof(*series) + metric->bucket_count * sizeof(series->buckets[0]));
    fl_map_put(family->series, labels, series);
    registry->series_count++;
    return series;
}

struct fl_metric_registry *fl_metrics_registry_create(void)
{
    struct fl_metric_registry *registry = fl_calloc(1, sizeof(*registry));

    registry->lock = fl_lock_create();
    registry->families = fl_map_create(destroy_family);
    registry->dropped = ensure_series(registry, &dropped_metric, "");
    return registry;
}

void fl_metrics_registry_destroy(struct fl_metric_registry *registry)
{
    if (!registry)
        return;
    fl_map_destroy(registry->families);
    fl_lock_destroy(registry->lock);
    free(registry);
}

void fl_metric_add(struct fl_metric_registry *registry, const struct fl_metric_about *metric,
                   const char *labels, double amount)
{
    struct series *series;

    assert(metric->type != FL_METRIC_HISTOGRAM);
    assert(metric->type == FL_METRIC_GAUGE || amount >= 0);
    if (!registry)
        return;
    FL_LOCKED(registry->lock);
    series = ensure_series(registry, metric, labels);
    if (series)
        series->value += amount;
}

void fl_metric_set(struct fl_metric_registry *registry, const struct fl_metric_about *metric,
                   const char *labels, double value)
{
    struct series *series;

    assert(metric->type == FL_METRIC_GAUGE);
    if (!registry)
        return;
    FL_LOCKED(registry->lock);
    series = ensure_series(registry, metric, labels);
    if (series)
        series->value = value;
}

void fl_metric_observe(struct fl_metric_registry *registry, const struct fl_metric_about *metric,
                       const char *labels, double value)
{
    struct series *series;
    size_t i = 0;

    assert(metric->type == FL_METRIC_HISTOGRAM);
    if (!registry)
        return;
    FL_LOCKED(registry->lock);
    series = ensure_series(registry, metric, labels);
    if (!series)
        return;
    while (i < metric->bucket_count && !(value <= metric->buckets[i]))
        i++;
    if (i < metric->bucket_count)
        series->buckets[i]++;
    series->count++;
    series->value += value;
}

void fl_metric_compute(struct fl_metric_registry *registry, const struct fl_metric_about *metric,
                       const char *labels, fl_metric_fn *fn, void *user)
{
    struct series *series;

    assert(metric->type != FL_METRIC_HISTOGRAM);
    if (!registry)
        return;
    FL_LOCKED(registry->lock);
    series = ensure_series(registry, metric, labels);
    if (!series)
        return;
    series->fn = fn;
    series->user = user;
}

void fl_metric_compute_end(struct fl_metric_registry *registry,
                           const struct fl_metric_about *metric, const char *labels)
{
    struct family *family;

    if (!registry)
        return;
    FL_LOCKED(registry->lock);
    family = fl_map_get(registry->families, metric->name);
    if (family && fl_map_remove(family->series, labels))
        registry->series_count--;
}

struct named {
    const char *name;
    void *value;
};

static int compare_named(const void *left, const void *right)
{
    const struct named *a = left, *b = right;

    return strcmp(a->name, b->name);
}

/* The entries of a map by name; heap, the caller's. */
static struct named *sorted(const struct fl_map *map)
{
    struct named *entries = fl_calloc(fl_map_count(map) + 1, sizeof(*entries));
    void *cursor = NULL;
    size_t count = 0;

    while (fl_map_next(map, &cursor, &entries[count].name, &entries[count].value))
        count++;
    qsort(entries, count, sizeof(*entries), compare_named);
    return entries;
}

/* The shortest text that reads back the same. */
static void put_number(struct fl_buf *buf, double value)
{
    char text[40];

    if (isnan(value) || isinf(value)) {
        fl_buf_puts(buf, isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    fl_buf_puts(buf, text);
}

static void put_labels(struct fl_buf *buf, const char *labels)
{
    if (*labels)
        fl_buf_printf(buf, "{%s}", labels);
}

static void put_bucket(struct fl_buf *buf, const char *name, const char *labels, double bound,
                       uint64_t count)
{
    fl_buf_printf(buf, "%s_bucket{%s%sle=\"", name, labels, *labels ? "," : "");
    put_number(buf, bound);
    fl_buf_printf(buf, "\"} %" PRIu64 "\n", count);
}

static void put_histogram(struct fl_buf *buf, const struct fl_metric_about *metric,
                          const char *labels, const struct series *series)
{
    uint64_t below = 0;

    for (size_t i = 0; i < metric->bucket_count; i++) {
        below += series->buckets[i];
        put_bucket(buf, metric->name, labels, metric->buckets[i], below);
    }
    put_bucket(buf, metric->name, labels, INFINITY, series->count);
    fl_buf_printf(buf, "%s_sum", metric->name);
    put_labels(buf, labels);
    fl_buf_putc(buf, ' ');
    put_number(buf, series->value);
    fl_buf_printf(buf, "\n%s_count", metric->name);
    put_labels(buf, labels);
    fl_buf_printf(buf, " %" PRIu64 "\n", series->count);
}

static void put_series(struct fl_buf *buf, const struct fl_metric_about *metric, const char *labels,
                       const struct series *series)
{
    if (metric->type == FL_METRIC_HISTOGRAM) {
        put_histogram(buf, metric, labels, series);
        return;
    }
    fl_buf_puts(buf, metric->name);
    put_labels(buf, labels);
    fl_buf_putc(buf, ' ');
    put_number(buf, series->fn ? series->fn(series->user) : series->value);
    fl_buf_putc(buf, '\n');
}

static void put_help(struct fl_buf *buf, const struct fl_metric_about *metric)
{
    fl_buf_printf(buf, "# HELP %s ", metric->name);
    for (const char *c = metric->help; *c; c++) {
        if (*c == '\\' || *c == '\n')
            fl_buf_putc(buf, '\\');
        fl_buf_putc(buf, (char)(*c == '\n' ? 'n' : *c));
    }
    fl_buf_putc(buf, '\n');
}

static void put_family(struct fl_buf *buf, const struct family *family)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    FL_CLEANUP(fl_freep) struct named *series = sorted(family->series);

    if (!series[0].name)
        return;
    put_help(buf, family->metric);
    fl_buf_printf(buf, "# TYPE %s %s\n", family->metric->name, types[family->metric->type]);
    for (size_t i = 0; series[i].name; i++)
        put_series(buf, family->metric, series[i].name, series[i].value);
}

void fl_metrics_registry_write(struct fl_metric_registry *registry, struct fl_buf *buf)
{
    FL_CLEANUP(fl_freep) struct named *families = NULL;

    if (!registry)
        return;
    FL_LOCKED(registry->lock);
    families = sorted(registry->families);
    for (size_t i = 0; families[i].name; i++)
        put_family(buf, families[i].value);
}
