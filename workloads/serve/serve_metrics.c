/* What it counts, for Prometheus. */
#include "lib/str.h"
#include "workloads/serve/serve_internal.h"

#include <inttypes.h>
#include <stdio.h>

static const double bounds[FL_SERVE_BUCKETS] = {
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5};
static const char *const names[PROTOCOL_COUNT] = {"OpenInference", "MLflow", "KServeV1"};

/* The last stands for all others. */
static const int codes[FL_SERVE_CODES] = {200, 400, 401, 404, 405, 413, 415, 429, 500, 503, 504, 0};

static size_t place_of(int status)
{
    size_t i = 0;

    while (i < FL_SERVE_CODES - 1 && codes[i] != status)
        i++;
    return i;
}

void fl_serve_count(struct fl_serve *serve, enum protocol protocol, int status, int64_t began_us)
{
    struct fl_serve_counts *counts = &serve->counts[protocol][place_of(status)];
    const double seconds = (double)(fl_machine_monotonic_us() - began_us) / 1e6;
    size_t bucket = 0;

    while (bucket < FL_SERVE_BUCKETS && seconds > bounds[bucket])
        bucket++;
    counts->buckets[bucket]++;
    counts->total++;
    counts->seconds += seconds;
}

static void write_counts(struct fl_buf *out, const struct fl_serve_counts *counts,
                         const char *labels)
{
    uint64_t sum = 0;

    for (size_t b = 0; b <= FL_SERVE_BUCKETS; b++) {
        char bound[32] = "+Inf";

        sum += counts->buckets[b];
        if (b < FL_SERVE_BUCKETS)
            (void)snprintf(bound, sizeof(bound), "%g", bounds[b]);
        fl_buf_printf(out,
                      "flops_serve_request_duration_seconds_bucket{%s,le=\"%s\"} %" PRIu64 "\n",
                      labels, bound, sum);
    }
    fl_buf_printf(out,
                  "flops_serve_request_duration_seconds_sum{%s} %.6f\n"
                  "flops_serve_request_duration_seconds_count{%s} %" PRIu64 "\n",
                  labels, counts->seconds, labels, counts->total);
}

static void write_requests(const struct fl_serve *serve, struct fl_buf *out)
{
    fl_buf_puts(out,
                "# HELP flops_serve_request_duration_seconds From a request's last byte to its "
                "answer.\n"
                "# TYPE flops_serve_request_duration_seconds histogram\n");
    for (size_t p = 0; p < PROTOCOL_COUNT; p++)
        for (size_t c = 0; c < FL_SERVE_CODES; c++) {
            char labels[64];

            if (serve->counts[p][c].total == 0 && codes[c] != 200)
                continue;
            if (codes[c])
                (void)snprintf(labels, sizeof(labels), "protocol=\"%s\",code=\"%d\"", names[p],
                               codes[c]);
            else
                (void)snprintf(labels, sizeof(labels), "protocol=\"%s\",code=\"other\"", names[p]);
            write_counts(out, &serve->counts[p][c], labels);
        }
}

static void write_batches(const struct fl_engine_stats *stats, struct fl_buf *out)
{
    uint64_t sum = 0;

    fl_buf_puts(out, "# HELP flops_serve_batch_rows Rows in a run of the model.\n"
                     "# TYPE flops_serve_batch_rows histogram\n");
    for (size_t b = 0; b < FL_ENGINE_BUCKETS - 1; b++) {
        sum += stats->runs[b];
        fl_buf_printf(out, "flops_serve_batch_rows_bucket{le=\"%zu\"} %" PRIu64 "\n",
                      (size_t)1 << b, sum);
    }
    sum += stats->runs[FL_ENGINE_BUCKETS - 1];
    fl_buf_printf(out,
                  "flops_serve_batch_rows_bucket{le=\"+Inf\"} %" PRIu64
                  "\nflops_serve_batch_rows_sum %" PRIu64 "\nflops_serve_batch_rows_count %" PRIu64
                  "\n",
                  sum, stats->rows_total, sum);
}

static void write_value(struct fl_buf *out, const char *name, const char *type, const char *help,
                        uint64_t value)
{
    fl_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", name, help, name, type, name,
                  value);
}

void fl_serve_write_metrics(const struct fl_serve *serve, struct fl_buf *out)
{
    const struct fl_engine_stats *stats = fl_engine_stats(serve->engine);

    write_requests(serve, out);
    write_batches(stats, out);
    write_value(out, "flops_serve_in_flight", "gauge", "Predictions under way.", serve->in_flight);
    write_value(out, "flops_serve_queue_requests", "gauge", "Predictions that wait for a run.",
                stats->waiting);
    write_value(out, "flops_serve_queue_rows", "gauge", "Their rows.", stats->waiting_rows);
    write_value(out, "flops_serve_running", "gauge", "Runs on threads.", stats->running);
    write_value(out, "flops_serve_dropped_total", "counter",
                "Predictions that were late, or whose client went away, before their run.",
                stats->dropped_total);
    write_value(out, "flops_serve_connections", "gauge", "Open connections.",
                fl_http_server_stats(serve->http).connections_open);
    write_value(out, "flops_serve_ready", "gauge", "1: requests are welcome.",
                fl_serve_is_ready(serve));
    write_value(out, "flops_serve_model_loads_total", "counter", "Models that took over.",
                serve->loads);
    write_value(out, "flops_serve_model_load_failures_total", "counter",
                "Models that could not be had.", serve->load_failures);
    write_value(out, "flops_serve_program_restarts_total", "counter",
                "Times that a program that predicts was started again, of the model that answers.",
                serve->served ? fl_servable_restarts(serve->served) : 0);
    if (serve->served)
        fl_buf_printf(out,
                      "# HELP flops_serve_model_info The model that answers.\n"
                      "# TYPE flops_serve_model_info gauge\n"
                      "flops_serve_model_info{digest=\"%s\",platform=\"%s\"} 1\n",
                      fl_servable_digest(serve->served), fl_servable_platform(serve->served));
}
