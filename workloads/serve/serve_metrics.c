/* What it counts, for Prometheus. */
#include "lib/str.h"
#include "workloads/serve/serve_internal.h"

#include <inttypes.h>
#include <stdio.h>

static const double bounds[FL_SERVE_BUCKETS] = {
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5};
static const char *const names[PROTOCOL_COUNT] = {"OpenInference", "MLflow", "KServeV1"};

void fl_serve_count(struct fl_serve *serve, enum protocol protocol, int status, int64_t began_us)
{
    struct fl_serve_counts *counts = &serve->counts[protocol];
    double seconds;
    size_t bucket = 0;

    counts->codes[status / 100 < 6 ? status / 100 : 5]++;
    if (began_us < 0) /* refused: how fast is of no interest */
        return;
    seconds = (double)(fl_machine_monotonic_us() - began_us) / 1e6;
    while (bucket < FL_SERVE_BUCKETS && seconds > bounds[bucket])
        bucket++;
    counts->buckets[bucket]++;
    counts->seconds += seconds;
}

static void write_requests(const struct fl_serve *serve, struct fl_buf *out)
{
    fl_buf_puts(out, "# HELP flops_serve_requests_total Requests answered.\n"
                     "# TYPE flops_serve_requests_total counter\n");
    for (size_t p = 0; p < PROTOCOL_COUNT; p++)
        for (size_t c = 2; c < 6; c++)
            if (serve->counts[p].codes[c] > 0)
                fl_buf_printf(
                    out, "flops_serve_requests_total{protocol=\"%s\",code=\"%zuxx\"} %" PRIu64 "\n",
                    names[p], c, serve->counts[p].codes[c]);
}

static void write_latency(const struct fl_serve *serve, struct fl_buf *out)
{
    fl_buf_puts(out,
                "# HELP flops_serve_latency_seconds Time from a request's body to its answer.\n"
                "# TYPE flops_serve_latency_seconds histogram\n");
    for (size_t p = 0; p < PROTOCOL_COUNT; p++) {
        const struct fl_serve_counts *counts = &serve->counts[p];
        uint64_t sum = 0;

        for (size_t b = 0; b <= FL_SERVE_BUCKETS; b++) {
            char bound[32] = "+Inf";

            sum += counts->buckets[b];
            if (b < FL_SERVE_BUCKETS)
                (void)snprintf(bound, sizeof(bound), "%g", bounds[b]);
            fl_buf_printf(
                out, "flops_serve_latency_seconds_bucket{protocol=\"%s\",le=\"%s\"} %" PRIu64 "\n",
                names[p], bound, sum);
        }
        fl_buf_printf(out,
                      "flops_serve_latency_seconds_sum{protocol=\"%s\"} %.6f\n"
                      "flops_serve_latency_seconds_count{protocol=\"%s\"} %" PRIu64 "\n",
                      names[p], counts->seconds, names[p], sum);
    }
}

static void write_value(struct fl_buf *out, const char *name, const char *type, const char *help,
                        uint64_t value)
{
    fl_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", name, help, name, type, name,
                  value);
}

void fl_serve_write_metrics(const struct fl_serve *serve, struct fl_buf *out)
{
    const struct fl_histogram *batches = fl_engine_batches(serve->engine);

    write_requests(serve, out);
    write_latency(serve, out);
    write_value(out, "flops_serve_in_flight", "gauge", "Requests under way.", serve->in_flight);
    write_value(out, "flops_serve_queue", "gauge",
                "Predictions that wait or are made by the thread.",
                fl_engine_waiting(serve->engine));
    write_value(out, "flops_serve_batches_total", "counter", "Runs of the model.", batches->total);
    write_value(out, "flops_serve_batch_rows_p99", "gauge", "99th percentile of rows in a run.",
                (uint64_t)fl_histogram_quantile(batches, 0.99));
    write_value(out, "flops_serve_model_loads_total", "counter", "Models that took over.",
                serve->loads);
    write_value(out, "flops_serve_model_load_failures_total", "counter",
                "Models that could not be had.", serve->load_failures);
    if (serve->served)
        fl_buf_printf(out,
                      "# TYPE flops_serve_model_info gauge\n"
                      "flops_serve_model_info{digest=\"%s\"} 1\n",
                      fl_servable_digest(serve->served));
}
