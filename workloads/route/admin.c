/* What the control plane says to a router, and hears of it. */
#include "lib/buf.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/str.h"
#include "workloads/route/router_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS 30000

/* A request that is held until something changes. */
struct watcher {
    struct fl_router *router;
    struct watcher *next, *previous;
    struct fl_http_request *request;
    struct fl_timer *timer;
};

static void respond_json(struct fl_http_request *request, int status, const json_t *value)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_json_to_bytes(value);

    fl_http_respond_bytes(request, status, "application/json", &text, 1);
}

static void respond_error(struct fl_http_request *request, const struct fl_error *err)
{
    FL_JSON body = json_pack("{s:{s:s, s:s}}", "error", "reason", fl_error_reason(err->code),
                             "message", err->msg);

    respond_json(request, fl_error_http_status(err->code), body);
}

static void respond_status(struct fl_router *router, struct fl_http_request *request)
{
    FL_JSON status = fl_routes_status(router->routes, fl_monotonic_ms(router->options.env));

    (void)json_object_set_new(status, "change", json_integer(router->change));
    (void)json_object_set_new(status, "life", json_integer(router->life));
    respond_json(request, 200, status);
}

/* Watching */

static void watcher_free(struct watcher *watcher)
{
    if (watcher->previous)
        watcher->previous->next = watcher->next;
    else
        watcher->router->watchers = watcher->next;
    if (watcher->next)
        watcher->next->previous = watcher->previous;
    fl_timer_destroy(watcher->timer);
    free(watcher);
}

static void tell(void *user)
{
    struct watcher *watcher = user;

    fl_http_on_gone(watcher->request, NULL, NULL);
    respond_status(watcher->router, watcher->request);
    watcher_free(watcher);
}

static void on_gone(void *user)
{
    watcher_free(user);
}

static void watch(struct fl_router *router, struct fl_http_request *request)
{
    struct watcher *watcher = fl_calloc(1, sizeof(*watcher));

    watcher->router = router;
    watcher->request = request;
    watcher->next = router->watchers;
    if (watcher->next)
        watcher->next->previous = watcher;
    router->watchers = watcher;
    watcher->timer = fl_timer_create(router->options.loop, tell, watcher);
    fl_timer_arm(watcher->timer, POLL_MS);
    fl_http_on_gone(request, on_gone, watcher);
}

void fl_router_changed(struct fl_router *router)
{
    router->change++;
    while (router->watchers)
        tell(router->watchers);
}

void fl_router_stop_watchers(struct fl_router *router)
{
    while (router->watchers) {
        fl_http_on_gone(router->watchers->request, NULL, NULL);
        fl_http_abort(router->watchers->request);
        watcher_free(router->watchers);
    }
}

static void get_routes(struct fl_router *router, struct fl_http_request *request)
{
    const char *query = fl_http_query(request);
    int64_t after = -1;

    if (fl_str_has_prefix(query, "after=") &&
        !fl_str_to_int64(query + strlen("after="), 0, INT64_MAX, &after)) {
        struct fl_error err = {0};

        (void)fl_error_set(&err, FL_E_BAD_REQUEST, "after: must be a number");
        respond_error(request, &err);
        return;
    }
    /* One that is ahead speaks of an earlier life of this router. */
    if (after == router->change)
        watch(router, request);
    else
        respond_status(router, request);
}

/* The table */

static int keep(struct fl_router *router, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;

    if (!router->table_path)
        return 0;
    text = fl_json_to_bytes(fl_routes_table(router->routes));
    return fl_file_write(router->table_path, text->data, text->len, 0600, err);
}

static int put_table(struct fl_router *router, const struct fl_http_request *request,
                     struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = FL_ROUTES_TABLE_BYTES, .max_depth = 8};
    FL_JSON table = NULL;
    size_t len;
    const char *body = fl_http_body(request, &len);
    int r = fl_json_parse(body, len, &limits, NULL, NULL, &table, err);

    if (r == 0)
        r = fl_routes_apply(router->routes, table, fl_monotonic_ms(router->options.env), err);
    return r < 0 ? r : keep(router, err);
}

static void put_routes(struct fl_router *router, struct fl_http_request *request)
{
    const int64_t version = fl_routes_version(router->routes);
    struct fl_error err = {0};

    if (put_table(router, request, &err) < 0) {
        respond_error(request, &err);
        return;
    }
    if (fl_routes_version(router->routes) != version)
        fl_router_changed(router);
    fl_router_retry_waiting(router);
    respond_status(router, request);
}

/* Metrics */

static void write_counter(struct fl_buf *text, const char *name, const char *help, uint64_t value)
{
    fl_buf_printf(text, "# HELP %s %s\n# TYPE %s counter\n%s %" PRIu64 "\n", name, help, name, name,
                  value);
}

static void write_groups(struct fl_buf *text, const json_t *groups)
{
    static const char *const names[][2] = {{"requests", "flops_router_group_requests_total"},
                                           {"errors", "flops_router_group_errors_total"}};
    const json_t *group;
    size_t i;

    for (size_t n = 0; n < FL_COUNT_OF(names); n++) {
        fl_buf_printf(text, "# TYPE %s counter\n", names[n][1]);
        json_array_foreach(groups, i, group)
            fl_buf_printf(text, "%s{group=\"%s\"} %" PRId64 "\n", names[n][1],
                          fl_json_str(group, "name"), fl_json_int(group, names[n][0], 0));
    }
}

static void get_metrics(struct fl_router *router, struct fl_http_request *request)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};
    FL_JSON status = fl_routes_status(router->routes, fl_monotonic_ms(router->options.env));

    write_counter(&text, "flops_router_requests_total", "Requests that came.", router->requests);
    write_counter(&text, "flops_router_refused_total", "Requests that were refused at once.",
                  router->refused);
    write_counter(&text, "flops_router_retries_total", "Tries at another server.", router->retries);
    write_counter(&text, "flops_router_no_server_total", "Requests for which no server came.",
                  router->no_server);
    fl_buf_printf(&text, "# TYPE flops_router_in_flight gauge\nflops_router_in_flight %zu\n",
                  router->in_flight);
    write_groups(&text, json_object_get(status, "groups"));
    fl_http_respond(request, 200, "text/plain; version=0.0.4", text.data, text.len);
}

static bool is_free_for_all(const char *path)
{
    return strcmp(path, "/healthz") == 0 || strcmp(path, "/metrics") == 0;
}

static void refuse(struct fl_http_request *request, int code, const char *message)
{
    struct fl_error err = {0};

    (void)fl_error_set(&err, code, "%s", message);
    respond_error(request, &err);
}

void fl_router_administer(void *user, struct fl_http_request *request)
{
    struct fl_router *router = user;
    const char *method = fl_http_method(request), *path = fl_http_path(request);
    const bool is_get = strcmp(method, "GET") == 0, is_put = strcmp(method, "PUT") == 0;

    if (router->admin_token && !is_free_for_all(path) &&
        !fl_router_is_allowed(request, &router->admin_token, 1))
        refuse(request, FL_E_UNAUTHORIZED, "a bearer token is needed");
    else if (is_get && strcmp(path, "/healthz") == 0)
        fl_http_respond(request, 200, "text/plain", "ok", 2);
    else if (is_get && strcmp(path, "/metrics") == 0)
        get_metrics(router, request);
    else if (is_get && strcmp(path, "/v1/routes") == 0)
        get_routes(router, request);
    else if (is_put && strcmp(path, "/v1/routes") == 0)
        put_routes(router, request);
    else
        refuse(request, FL_E_NOT_FOUND, "there is no such path");
}
