#include "workloads/serve/serve.h"

#include "lib/str.h"
#include "workloads/serve/serve_internal.h"

#include <stdlib.h>

#define MAX_BODY_BYTES  ((size_t)8 * 1024 * 1024)
#define MAX_ROWS        4096
#define MAX_CONCURRENCY 1024
#define TIMEOUT_MS      30000
#define ADMIN_BODY      ((size_t)64 * 1024)
#define LEAVE_MS        1000 /* for requests that are on their way on idle connections */
#define LEAVE_LOOK_MS   10

static const char *copy(struct fl_serve *serve, const char *text)
{
    return text ? fl_arena_strdup(serve->arena, text) : NULL;
}

static void set_defaults(struct fl_serve *serve, const struct fl_serve_options *options)
{
    struct fl_serve_options *own = &serve->options;

    *own = *options;
    own->name = copy(serve, fl_str_or(options->name, "model"));
    own->token = copy(serve, options->token);
    own->admin_token = copy(serve, options->admin_token);
    own->protocols = own->protocols
                         ? own->protocols
                         : FL_SERVE_OPEN_INFERENCE | FL_SERVE_MLFLOW | FL_SERVE_KSERVE_V1;
    own->max_body_bytes = own->max_body_bytes ? own->max_body_bytes : MAX_BODY_BYTES;
    own->max_rows = own->max_rows ? own->max_rows : MAX_ROWS;
    own->max_concurrency = own->max_concurrency ? own->max_concurrency : MAX_CONCURRENCY;
    own->timeout_ms = own->timeout_ms ? own->timeout_ms : TIMEOUT_MS;
}

/* What the server finds itself: which protocol was spoken is not known then. */
static void write_fault(void *user, int status, const char *detail, struct fl_buf *body,
                        const char **ret_content_type)
{
    (void)user;
    fl_serve_write_error(body, PROTOCOL_COUNT, status, detail);
    *ret_content_type = "application/json";
}

static int open_servers(struct fl_serve *serve, struct fl_error *err)
{
    const struct fl_serve_options *options = &serve->options;
    const struct fl_http_server_options clients = {.env = options->env,
                                                   .loop = options->loop,
                                                   .tls = options->tls,
                                                   .address = options->address,
                                                   .port = options->port,
                                                   .handler = fl_serve_handle,
                                                   .begin = fl_serve_begin,
                                                   .error_body = write_fault,
                                                   .user = serve,
                                                   .max_body_bytes = options->max_body_bytes};
    const struct fl_http_server_options admin = {.env = options->env,
                                                 .loop = options->loop,
                                                 .address = options->admin_address,
                                                 .port = options->admin_port,
                                                 .handler = fl_serve_administer,
                                                 .user = serve,
                                                 .max_body_bytes = ADMIN_BODY,
                                                 .max_connections = 64};
    int r = fl_http_server_create(&clients, &serve->http, err);

    if (r < 0 || !options->admin_address)
        return r;
    r = fl_http_server_create(&admin, &serve->admin, err);
    return r < 0 ? fl_error_wrap(err, "the admin's port") : 0;
}

int fl_serve_create(const struct fl_serve_options *options, struct fl_serve **ret_serve,
                    struct fl_error *err)
{
    FL_CLEANUP(fl_serve_destroyp) struct fl_serve *serve = fl_calloc(1, sizeof(*serve));
    const struct fl_engine_options engine = {.env = options->env,
                                             .loop = options->loop,
                                             .threads = options->threads,
                                             .max_batch = options->max_batch,
                                             .max_waiting = options->max_waiting,
                                             .delay_ms = options->batch_delay_ms};
    int r;

    serve->arena = fl_arena_create();
    set_defaults(serve, options);
    if (options->folder)
        serve->cache = fl_serve_cache_open(options->env, options->folder);
    r = fl_engine_create(&engine, &serve->engine, err);
    if (r == 0)
        r = open_servers(serve, err);
    if (r == 0)
        *ret_serve = FL_TAKE(serve);
    return r;
}

void fl_serve_destroy(struct fl_serve *serve)
{
    if (!serve)
        return;
    fl_serve_stop_loading(serve);
    fl_engine_destroy(serve->engine);
    fl_serve_stop_predictions(serve);
    fl_timer_destroy(serve->leaving);
    fl_http_server_destroy(serve->http);
    fl_http_server_destroy(serve->admin);
    fl_servable_unref(serve->served);
    fl_serve_cache_unref(serve->cache);
    free(serve->token_origin);
    fl_arena_destroy(serve->arena);
    free(serve);
}

uint16_t fl_serve_port(const struct fl_serve *serve)
{
    return fl_http_server_port(serve->http);
}

uint16_t fl_serve_admin_port(const struct fl_serve *serve)
{
    return serve->admin ? fl_http_server_port(serve->admin) : 0;
}

/* The end */

static void look(void *user)
{
    struct fl_serve *serve = user;
    const int64_t now_ms = fl_monotonic_ms(serve->options.env);
    const int64_t left_ms = serve->drain_until_ms - now_ms;

    if (now_ms < serve->leave_until_ms && fl_http_server_stats(serve->http).connections_open > 0)
        return;
    fl_timer_cancel(serve->leaving);
    fl_http_server_drain(serve->http, left_ms > 0 ? left_ms : 0, serve->drained,
                         serve->drained_user);
}

size_t fl_serve_unanswered(const struct fl_serve *serve)
{
    const bool in_time = fl_monotonic_ms(serve->options.env) < serve->drain_until_ms;

    return serve->draining && in_time ? 0 : serve->in_flight;
}

void fl_serve_drain(struct fl_serve *serve, int64_t deadline_ms, fl_loop_fn *done, void *user)
{
    const int64_t now_ms = fl_monotonic_ms(serve->options.env);

    if (serve->draining)
        return;
    serve->draining = true;
    serve->drained = done;
    serve->drained_user = user;
    serve->drain_until_ms = now_ms + deadline_ms;
    serve->leave_until_ms = now_ms + (deadline_ms < LEAVE_MS ? deadline_ms : LEAVE_MS);
    fl_http_server_leave(serve->http);
    serve->leaving = fl_timer_create(serve->options.loop, look, serve);
    fl_timer_repeat(serve->leaving, LEAVE_LOOK_MS);
}
