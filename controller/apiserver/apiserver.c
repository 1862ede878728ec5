#include "controller/apiserver/apiserver.h"

#include "controller/apiserver/internal.h"

#define CHORES_EVERY_MS  10000
#define EXPIRE_EVERY     30 /* chores: each looks into all Events */
#define AFTER_FAILURE_MS 500
#define SOON_MS          20
#define EVENT_LIFE_US    (INT64_C(3600) * 1000000)

/* What happened: the committing thread hands each commit's changes to the loop, where the catalog,
 * the collector and the watches learn of them in order, and before the writers are answered. */

struct batch {
    struct fl_apiserver *server;
    size_t count;
    struct fl_event events[];
};

static bool is_rbac(const char *resource)
{
    return fl_str_has_suffix(resource, ".rbac.authorization.k8s.io");
}

static void run_controllers(struct fl_apiserver *server)
{
    if (server->draining)
        return;
    fl_definitions_run(server);
    fl_namespaces_run(server);
    fl_gc_run(server->gc);
}

static void observe(void *user)
{
    struct batch *batch = user;
    struct fl_apiserver *server = batch->server;

    for (size_t i = 0; i < batch->count; i++) {
        struct fl_event *event = &batch->events[i];

        fl_definitions_changed(server, event);
        fl_namespaces_observe(server, event);
        fl_gc_observe(server->gc, event);
        if (is_rbac(event->object->resource))
            fl_auth_invalidate(server->auth);
        fl_object_unref(event->object);
        fl_object_unref(event->previous);
    }
    free(batch);
    fl_watchers_pump(server);
    run_controllers(server);
}

static void on_commit(void *user, const struct fl_event *events, size_t count)
{
    struct fl_apiserver *server = user;
    struct batch *batch = fl_calloc(1, sizeof(*batch) + count * sizeof(batch->events[0]));

    batch->server = server;
    batch->count = count;
    for (size_t i = 0; i < count; i++) {
        batch->events[i] = events[i];
        batch->events[i].cache = NULL;
        (void)fl_object_ref(events[i].object);
        if (events[i].previous)
            (void)fl_object_ref(events[i].previous);
    }
    fl_loop_post(server->loop, observe, batch);
}

/* Chores: what time alone brings. */

static bool is_old_event(void *user, const struct fl_object *object)
{
    const int64_t *now_us = user;
    FL_JSON value = fl_object_parse(object);
    const char *times[] = {
        fl_json_str(value, "series.lastObservedTime"),
        fl_json_str(value, "lastTimestamp"),
        fl_json_str(value, "eventTime"),
        fl_json_str(value, "metadata.creationTimestamp"),
    };
    int64_t when;

    for (size_t i = 0; i < FL_COUNT_OF(times); i++)
        if (times[i] && fl_time_parse(times[i], &when))
            return *now_us - when > EVENT_LIFE_US;
    return false;
}

static void expire_events(struct fl_apiserver *server)
{
    struct fl_served *served = fl_catalog_find_storage(server->catalog, "events");
    int64_t now_us = fl_realtime_us(server->env);
    struct fl_list_query query = {
        .resource = "events", .limit = 1000, .match = is_old_event, .user = &now_us};
    struct fl_error err = {0};
    struct fl_list list;

    if (fl_store_list(server->store, &query, &list, &err) < 0)
        return;
    for (size_t i = 0; i < list.count; i++)
        (void)fl_delete_object(server, served->resource, list.objects[i], FL_PROPAGATION_DEFAULT,
                               &err);
    fl_list_finish(&list);
}

static void do_chores(void *user)
{
    struct fl_apiserver *server = user;

    server->wake_ms = 0;
    run_controllers(server);
    if (fl_monotonic_ms(server->env) - server->chores_ms >= CHORES_EVERY_MS) {
        server->chores_ms = fl_monotonic_ms(server->env);
        if (++server->chores_done % EXPIRE_EVERY == 0)
            expire_events(server);
    }
    fl_apiserver_run_within(server, CHORES_EVERY_MS); /* sooner, where a controller asked for it */
}

void fl_apiserver_run_within(struct fl_apiserver *server, int64_t ms)
{
    int64_t now_ms = fl_monotonic_ms(server->env);

    if (server->wake_ms > now_ms && server->wake_ms <= now_ms + ms)
        return;
    server->wake_ms = now_ms + ms;
    fl_timer_arm(server->chores, ms);
}

void fl_apiserver_run_soon(struct fl_apiserver *server)
{
    fl_apiserver_run_within(server, SOON_MS);
}

void fl_apiserver_run_later(struct fl_apiserver *server)
{
    fl_apiserver_run_within(server, AFTER_FAILURE_MS);
}

/* Start and end */

/* What a first start wrote is nobody's history: watches begin behind it. */
static int forget_first_writes(struct fl_apiserver *server, uint64_t revision_before,
                               struct fl_error *err)
{
    if (revision_before > 0)
        return 0;
    return fl_store_compact(server->store, fl_store_revision(server->store), err);
}

static int start_parts(struct fl_apiserver *server, const struct fl_apiserver_options *options,
                       struct fl_error *err)
{
    uint64_t revision_before = fl_store_revision(server->store);
    int r;

    server->catalog = fl_catalog_create();
    server->metrics = fl_metrics_create();
    server->documents = fl_documents_create(server);
    server->terminating_definitions = fl_map_create(free);
    server->terminating_namespaces = fl_map_create(free);
    r = fl_catalog_load_builtins(server->catalog, err);
    if (r == 0)
        r = fl_auth_create(server->env, server->store, options->token_file, &server->auth, err);
    if (r == 0 && options->capability_key)
        fl_auth_take_capabilities(server->auth, options->capability_key);
    if (r == 0)
        r = fl_auth_bootstrap(server->auth, err);
    if (r == 0 && options->audit_file)
        r = fl_audit_open(server->env, options->audit_file, &server->audit, err);
    if (r == 0)
        r = fl_namespaces_bootstrap(server, err);
    if (r == 0)
        r = fl_definitions_install(server, options->definitions, options->definition_count, err);
    if (r == 0)
        r = forget_first_writes(server, revision_before, err);
    if (r == 0)
        r = fl_definitions_load(server, err);
    if (r < 0)
        return r;
    server->gc = fl_gc_create(server, err);
    fl_store_on_commit(server->store, on_commit, server);
    return 0;
}

static int open_port(struct fl_apiserver *server, const struct fl_apiserver_options *options,
                     struct fl_error *err)
{
    struct fl_http_server_options http = {
        .env = server->env,
        .loop = server->loop,
        .tls = options->tls,
        .address = options->address,
        .port = options->port,
        .handler = fl_request_handle,
        .begin = fl_request_begin,
        .error_body = fl_request_error_body,
        .user = server,
    };
    int r = fl_http_server_create(&http, &server->http, err);

    if (r < 0)
        return r;
    if (!options->address) {
        server->server_address = fl_strdup("");
        return 0;
    }
    server->server_address = fl_asprintf(strchr(options->address, ':') ? "[%s]:%u" : "%s:%u",
                                         options->address, fl_http_server_port(server->http));
    return 0;
}

int fl_apiserver_create(const struct fl_apiserver_options *options,
                        struct fl_apiserver **ret_server, struct fl_error *err)
{
    struct fl_apiserver *server = fl_calloc(1, sizeof(*server));
    int r;

    server->env = options->env;
    server->loop = options->loop;
    server->store = options->store;
    server->version = fl_strdup(options->version);
    server->subresources = options->subresources;
    server->subresource_count = options->subresource_count;
    server->raws = options->raws;
    server->raw_count = options->raw_count;
    server->more_metrics = options->metrics;
    server->more_metrics_user = options->metrics_user;
    TAILQ_INIT(&server->watchers);
    TAILQ_INIT(&server->streams);
    TAILQ_INIT(&server->raw_requests);
    server->chores = fl_timer_create(server->loop, do_chores, server);
    server->chores_ms = fl_monotonic_ms(server->env);
    r = start_parts(server, options, err);
    if (r == 0)
        r = open_port(server, options, err);
    if (r < 0) {
        fl_apiserver_destroy(server);
        return fl_error_wrap(err, "API server");
    }
    fl_timer_arm(server->chores, 0);
    *ret_server = server;
    return 0;
}

uint16_t fl_apiserver_port(const struct fl_apiserver *server)
{
    return fl_http_server_port(server->http);
}

void fl_apiserver_drain(struct fl_apiserver *server, int64_t deadline_ms, fl_loop_fn *done,
                        void *user)
{
    server->draining = true;
    fl_watchers_end(server);
    fl_streams_end(server);
    if (server->http)
        fl_http_server_drain(server->http, deadline_ms, done, user);
    else /* it has hung up: nothing is left to wait for */
        fl_loop_post(server->loop, done, user);
}

void fl_apiserver_hang_up(struct fl_apiserver *server)
{
    server->draining = true;
    if (server->http)
        fl_http_server_destroy(FL_TAKE(server->http));
}

void fl_apiserver_detach(struct fl_apiserver *server)
{
    fl_store_off_commit(server->store, on_commit, server);
}

void fl_apiserver_destroy(struct fl_apiserver *server)
{
    if (!server)
        return;
    if (server->http)
        fl_http_server_destroy(server->http);
    fl_timer_destroy(server->chores);
    fl_gc_destroy(server->gc);
    fl_map_destroy(server->terminating_definitions);
    fl_map_destroy(server->terminating_namespaces);
    fl_documents_destroy(server->documents);
    fl_metrics_destroy(server->metrics);
    fl_audit_close(server->audit);
    fl_auth_destroy(server->auth);
    fl_catalog_destroy(server->catalog);
    free(server->server_address);
    free(server->version);
    free(server);
}
