/* Counters under kube-apiserver's names, so that existing dashboards read them. */
#include "controller/apiserver/internal.h"

static const double bucket_seconds[] = {0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8,
                                        1,     1.25,  1.5,  2,   3,   4,   5,   6,
                                        8,     10,    15,   20,  30,  45,  60};
#define BUCKETS    FL_COUNT_OF(bucket_seconds)
#define SERIES_MAX 4096

struct durations { /* by verb and resource */
    uint64_t buckets[BUCKETS], count;
    double sum;
};

struct fl_metrics {
    struct fl_map *requests;  /* labels → uint64_t */
    struct fl_map *durations; /* labels → struct durations */
    struct fl_map *events;    /* labels → uint64_t */
};

struct fl_metrics *fl_metrics_create(void)
{
    struct fl_metrics *metrics = fl_calloc(1, sizeof(*metrics));

    metrics->requests = fl_map_create(free);
    metrics->durations = fl_map_create(free);
    metrics->events = fl_map_create(free);
    return metrics;
}

void fl_metrics_destroy(struct fl_metrics *metrics)
{
    if (!metrics)
        return;
    fl_map_destroy(metrics->requests);
    fl_map_destroy(metrics->durations);
    fl_map_destroy(metrics->events);
    free(metrics);
}

/* The series with these labels, made at first use; NULL above the bound. */
static void *series(struct fl_map *map, const char *labels, size_t size)
{
    void *value = fl_map_get(map, labels);

    if (!value && fl_map_count(map) < SERIES_MAX) {
        value = fl_calloc(1, size);
        fl_map_put(map, labels, value);
    }
    return value;
}

static const char *verb_label(const struct fl_request *request)
{
    static const char *const known[] = {"get",    "list",  "watch",  "create",
                                        "update", "patch", "delete", "deletecollection"};
    static const char *const upper[] = {"GET", "LIST",  "WATCH",  "POST",
                                        "PUT", "PATCH", "DELETE", "DELETECOLLECTION"};

    for (size_t i = 0; request->verb && i < FL_COUNT_OF(known); i++)
        if (strcmp(known[i], request->verb) == 0)
            return upper[i];
    return "other";
}

void fl_metrics_request(struct fl_metrics *metrics, const struct fl_request *request, int status,
                        int64_t duration_ms)
{
    const struct fl_resource *resource = request->resource;
    double seconds = (double)duration_ms / 1000;
    struct durations *durations;
    uint64_t *count;
    char labels[700];
    int len;

    /* Only what is served gives names to series: strangers cannot make up more. */
    len = snprintf(labels, sizeof(labels),
                   "verb=\"%s\",group=\"%s\",version=\"%s\",resource=\"%s\",subresource=\"%s\"",
                   verb_label(request), resource ? resource->group : "",
                   resource ? resource->version : "", resource ? resource->plural : "",
                   resource ? request->subresource : "");
    if (len < 0 || (size_t)len >= sizeof(labels) - 16)
        return;
    if (strcmp(verb_label(request), "WATCH") != 0 &&
        (durations = series(metrics->durations, labels, sizeof(*durations)))) {
        for (size_t i = 0; i < BUCKETS; i++)
            durations->buckets[i] += seconds <= bucket_seconds[i];
        durations->count++;
        durations->sum += seconds;
    }
    (void)snprintf(labels + len, sizeof(labels) - (size_t)len, ",code=\"%d\"", status);
    count = series(metrics->requests, labels, sizeof(*count));
    if (count)
        (*count)++;
}

void fl_metrics_watch_event(struct fl_metrics *metrics, const struct fl_resource *resource)
{
    uint64_t *count = fl_map_get(metrics->events, resource->storage);

    if (!count)
        count = series(metrics->events, resource->storage, sizeof(*count));
    if (count)
        (*count)++;
}

static void head(struct fl_buf *buf, const char *name, const char *type, const char *help)
{
    fl_buf_printf(buf, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_requests(const struct fl_metrics *metrics, struct fl_buf *buf)
{
    void *cursor = NULL, *value;
    const char *labels;

    head(buf, "apiserver_request_total", "counter", "Requests by verb, resource and code.");
    while (fl_map_next(metrics->requests, &cursor, &labels, &value))
        fl_buf_printf(buf, "apiserver_request_total{%s} %llu\n", labels,
                      (unsigned long long)*(uint64_t *)value);
    head(buf, "apiserver_request_duration_seconds", "histogram",
         "Time from the request's first byte to its answer.");
    for (cursor = NULL; fl_map_next(metrics->durations, &cursor, &labels, &value);) {
        const struct durations *durations = value;

        for (size_t i = 0; i < BUCKETS; i++)
            fl_buf_printf(buf, "apiserver_request_duration_seconds_bucket{%s,le=\"%g\"} %llu\n",
                          labels, bucket_seconds[i], (unsigned long long)durations->buckets[i]);
        fl_buf_printf(buf, "apiserver_request_duration_seconds_bucket{%s,le=\"+Inf\"} %llu\n",
                      labels, (unsigned long long)durations->count);
        fl_buf_printf(buf, "apiserver_request_duration_seconds_sum{%s} %g\n", labels,
                      durations->sum);
        fl_buf_printf(buf, "apiserver_request_duration_seconds_count{%s} %llu\n", labels,
                      (unsigned long long)durations->count);
    }
}

static void gauge(struct fl_buf *buf, const char *name, const char *type, const char *help,
                  uint64_t value)
{
    head(buf, name, type, help);
    fl_buf_printf(buf, "%s %llu\n", name, (unsigned long long)value);
}

static void write_objects(struct fl_apiserver *server, struct fl_buf *buf)
{
    const struct fl_group_version *all;
    size_t count = fl_catalog_group_versions(server->catalog, &all);

    head(buf, "apiserver_storage_objects", "gauge", "Stored objects by resource.");
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < all[i].count; k++) {
            const char *storage = all[i].items[k]->resource->storage;

            if (all[i].items[k] != fl_catalog_find_storage(server->catalog, storage))
                continue; /* another version of the same objects */
            fl_buf_printf(buf, "apiserver_storage_objects{resource=\"%s\"} %zu\n", storage,
                          fl_store_count(server->store, storage));
        }
    }
}

void fl_metrics_write(struct fl_apiserver *server, struct fl_buf *buf)
{
    struct fl_http_server_stats http = fl_http_server_stats(server->http);
    struct fl_store_stats store = fl_store_stats(server->store);
    void *cursor = NULL, *value;
    const char *resource;

    write_requests(server->metrics, buf);
    head(buf, "apiserver_watch_events_total", "counter", "Watch events sent by resource.");
    while (fl_map_next(server->metrics->events, &cursor, &resource, &value))
        fl_buf_printf(buf, "apiserver_watch_events_total{resource=\"%s\"} %llu\n", resource,
                      (unsigned long long)*(uint64_t *)value);
    head(buf, "apiserver_longrunning_requests", "gauge", "Watches being served.");
    fl_buf_printf(buf, "apiserver_longrunning_requests{verb=\"WATCH\"} %zu\n",
                  fl_watchers_count(server));
    write_objects(server, buf);
    gauge(buf, "flops_http_connections", "gauge", "Open connections.", http.connections_open);
    gauge(buf, "flops_http_refused_total", "counter", "Connections refused.", http.refused_total);
    gauge(buf, "flops_store_revision", "gauge", "Newest durable revision.", store.revision);
    gauge(buf, "flops_store_commits_total", "counter", "Commits.", store.commits);
    gauge(buf, "flops_store_writes_total", "counter", "Writes.", store.writes);
    gauge(buf, "flops_store_history_events", "gauge", "Changes kept for watches.",
          store.history_events);
    if (server->more_metrics)
        server->more_metrics(server->more_metrics_user, buf);
}
