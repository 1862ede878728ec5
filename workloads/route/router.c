#include "lib/file.h"
#include "lib/log.h"
#include "lib/str.h"
#include "workloads/route/router_internal.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BODY_BYTES ((size_t)8 * 1024 * 1024)
#define MAX_IN_FLIGHT  4096
#define TIMEOUT_MS     30000
#define HOLD_MS        5000

static bool is_equal(const char *a, const char *b)
{
    const size_t len = strlen(a);

    return len == strlen(b) && sodium_memcmp(a, b, len) == 0;
}

bool fl_router_is_allowed(const struct fl_http_request *request, const char *const *tokens,
                          size_t count)
{
    const char *shown = fl_http_header(request, "Authorization");
    bool allowed = false;

    if (!shown || strncasecmp(shown, "Bearer ", strlen("Bearer ")) != 0)
        return false;
    for (size_t i = 0; i < count; i++)
        allowed |= is_equal(shown + strlen("Bearer "), tokens[i]);
    return allowed;
}

static void set_defaults(struct fl_router *router, const struct fl_router_options *options)
{
    struct fl_router_options *own = &router->options;

    *own = *options;
    own->max_body_bytes = own->max_body_bytes ? own->max_body_bytes : MAX_BODY_BYTES;
    own->max_in_flight = own->max_in_flight ? own->max_in_flight : MAX_IN_FLIGHT;
    own->timeout_ms = own->timeout_ms ? own->timeout_ms : TIMEOUT_MS;
    own->hold_ms = own->hold_ms ? own->hold_ms : HOLD_MS;
    router->tokens = fl_new_array(router->arena, const char *, options->token_count);
    for (size_t i = 0; i < options->token_count; i++)
        router->tokens[i] = fl_arena_strdup(router->arena, options->tokens[i]);
    if (options->admin_token)
        router->admin_token = fl_arena_strdup(router->arena, options->admin_token);
    if (options->folder)
        router->table_path = fl_arena_printf(router->arena, "%s/routes.json", options->folder);
}

/* What was kept by an earlier life. A file that is no table any more is not worth a refusal to
 * start: the control plane says it again. */
static int take_up(struct fl_router *router, struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = FL_ROUTES_TABLE_BYTES, .max_depth = 8};
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    FL_JSON table = NULL;
    struct fl_error why = {0};
    int r;

    if (!router->table_path)
        return 0;
    r = fl_dir_ensure(router->options.folder, 0700, err);
    if (r < 0)
        return r;
    r = fl_file_read(router->table_path, FL_ROUTES_TABLE_BYTES, &text, &why);
    if (r == FL_E_NOT_FOUND)
        return 0;
    if (r == 0)
        r = fl_json_parse(text->data, text->len, &limits, NULL, NULL, &table, &why);
    if (r == 0)
        r = fl_routes_apply(router->routes, table, fl_monotonic_ms(router->options.env), &why);
    if (r < 0)
        fl_log_warn(router->options.env->log, "the kept table is not used",
                    FL_STR("error", why.msg));
    return 0;
}

static int open_servers(struct fl_router *router, struct fl_error *err)
{
    const struct fl_router_options *options = &router->options;
    const struct fl_http_async_options calls = {.loop = options->loop,
                                                .max_connections = (unsigned)options->max_in_flight,
                                                .kept_connections =
                                                    (unsigned)options->max_in_flight};
    const struct fl_http_server_options clients = {.env = options->env,
                                                   .loop = options->loop,
                                                   .tls = options->tls,
                                                   .address = options->address,
                                                   .port = options->port,
                                                   .handler = fl_router_forward,
                                                   .user = router,
                                                   .max_body_bytes = options->max_body_bytes};
    const struct fl_http_server_options admin = {.env = options->env,
                                                 .loop = options->loop,
                                                 .address = options->admin_address,
                                                 .port = options->admin_port,
                                                 .handler = fl_router_administer,
                                                 .user = router,
                                                 .max_body_bytes = FL_ROUTES_TABLE_BYTES,
                                                 .max_connections = 64};
    int r = fl_http_async_create(&calls, &router->calls, err);

    if (r == 0)
        r = fl_http_server_create(&admin, &router->admin, err);
    if (r < 0)
        return fl_error_wrap(err, "the admin's port");
    return fl_http_server_create(&clients, &router->server, err);
}

int fl_router_create(const struct fl_router_options *options, struct fl_router **ret_router,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_router_destroyp) struct fl_router *router = fl_calloc(1, sizeof(*router));
    int r;

    router->arena = fl_arena_create();
    router->routes = fl_routes_create();
    router->life = (int64_t)fl_random_below(options->env, INT64_MAX);
    set_defaults(router, options);
    r = take_up(router, err);
    if (r == 0)
        r = open_servers(router, err);
    if (r < 0)
        return r;
    *ret_router = FL_TAKE(router);
    return 0;
}

void fl_router_destroy(struct fl_router *router)
{
    if (!router)
        return;
    fl_router_stop_forwards(router);
    fl_router_stop_watchers(router);
    fl_http_server_destroy(router->server);
    fl_http_server_destroy(router->admin);
    fl_http_async_destroy(router->calls);
    fl_routes_destroy(router->routes);
    fl_arena_destroy(router->arena);
    free(router);
}

uint16_t fl_router_port(const struct fl_router *router)
{
    return fl_http_server_port(router->server);
}

uint16_t fl_router_admin_port(const struct fl_router *router)
{
    return fl_http_server_port(router->admin);
}

void fl_router_drain(struct fl_router *router, int64_t deadline_ms, fl_loop_fn *done, void *user)
{
    fl_http_server_drain(router->server, deadline_ms, done, user);
}
