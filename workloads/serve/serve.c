#include "workloads/serve/serve.h"

#include "lib/json.h"
#include "lib/str.h"
#include "workloads/serve/serve_internal.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BODY_BYTES  ((size_t)8 * 1024 * 1024)
#define MAX_CONCURRENCY 1024
#define TIMEOUT_MS      30000
#define SERVER_VERSION  "1"

static void respond_json(struct fl_http_request *request, int status, json_t *value)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_json_to_bytes(value);

    json_decref(value);
    fl_http_respond_bytes(request, status, "application/json", &text, 1);
}

static bool is_ready(const struct fl_serve *serve)
{
    return serve->served && !serve->draining;
}

/* Version 2 */

static void get_server(struct fl_serve *serve, struct fl_http_request *request)
{
    (void)serve;
    respond_json(request, 200,
                 json_pack("{s:s, s:s, s:[s]}", "name", "flops", "version", SERVER_VERSION,
                           "extensions", "binary_tensor_data"));
}

static json_t *show_tensor(const char *name, const int64_t *shape, unsigned rank)
{
    json_t *sizes = json_pack("[i]", -1);

    for (unsigned i = 0; i < rank; i++)
        (void)json_array_append_new(sizes, json_integer(shape[i]));
    return json_pack("{s:s, s:s, s:o}", "name", name, "datatype", "FP32", "shape", sizes);
}

static void get_model(struct fl_serve *serve, struct fl_http_request *request)
{
    const struct fl_signature *signature;
    int64_t classes;

    if (!serve->served) {
        fl_serve_refuse(serve, request, PROTOCOL_OPEN_INFERENCE, 503,
                        "the model is not loaded yet");
        return;
    }
    signature = fl_servable_signature(serve->served);
    classes = (int64_t)signature->classes;
    respond_json(request, 200,
                 json_pack("{s:s, s:[s], s:s, s:[o], s:[o]}", "name", serve->options.name,
                           "versions", fl_servable_digest(serve->served), "platform",
                           fl_servable_platform(serve->served), "inputs",
                           show_tensor(signature->input, signature->shape, signature->rank),
                           "outputs", show_tensor(signature->output, &classes, 1)));
}

static void get_model_ready(struct fl_serve *serve, struct fl_http_request *request)
{
    const bool ready = is_ready(serve);

    respond_json(request, ready ? 200 : 503,
                 json_pack("{s:s, s:b}", "name", serve->options.name, "ready", ready));
}

/* What stands behind /v2/models/ or /v1/models/: false where it is another model. */
static bool take_name(const struct fl_serve *serve, const char **rest)
{
    const size_t len = strlen(serve->options.name);

    if (strncmp(*rest, serve->options.name, len) != 0)
        return false;
    *rest += len;
    return **rest == '\0' || **rest == '/' || **rest == ':';
}

/* "/versions/V", V being the digest of the model that is served or "1". */
static bool take_version(const struct fl_serve *serve, const char **rest)
{
    const char *digest = serve->served ? fl_servable_digest(serve->served) : "";
    size_t len;

    if (!fl_str_has_prefix(*rest, "/versions/"))
        return true;
    *rest += strlen("/versions/");
    len = strcspn(*rest, "/");
    if (!(len == 1 && **rest == '1') &&
        !(len == strlen(digest) && strncmp(*rest, digest, len) == 0))
        return false;
    *rest += len;
    return true;
}

static bool serve_v2(struct fl_serve *serve, struct fl_http_request *request, const char *rest,
                     bool is_get, bool is_post)
{
    if (is_get && (*rest == '\0' || strcmp(rest, "/") == 0))
        get_server(serve, request);
    else if (is_get && strcmp(rest, "/health/live") == 0)
        respond_json(request, 200, json_pack("{s:b}", "live", 1));
    else if (is_get && strcmp(rest, "/health/ready") == 0)
        respond_json(request, is_ready(serve) ? 200 : 503,
                     json_pack("{s:b}", "ready", is_ready(serve)));
    else if (!fl_str_has_prefix(rest, "/models/"))
        return false;
    else {
        rest += strlen("/models/");
        if (!take_name(serve, &rest) || !take_version(serve, &rest))
            return false;
        if (is_post && strcmp(rest, "/infer") == 0)
            fl_serve_predict(serve, request, PROTOCOL_OPEN_INFERENCE);
        else if (is_get && *rest == '\0')
            get_model(serve, request);
        else if (is_get && strcmp(rest, "/ready") == 0)
            get_model_ready(serve, request);
        else
            return false;
    }
    return true;
}

/* MLflow */

static bool serve_mlflow(struct fl_serve *serve, struct fl_http_request *request, const char *path,
                         bool is_get, bool is_post)
{
    if (is_get && (strcmp(path, "/ping") == 0 || strcmp(path, "/health") == 0))
        fl_http_respond(request, is_ready(serve) ? 200 : 503, "application/json", "\n", 1);
    else if (is_get && strcmp(path, "/version") == 0)
        fl_http_respond(request, 200, "text/plain", SERVER_VERSION, strlen(SERVER_VERSION));
    else if (is_post && strcmp(path, "/invocations") == 0)
        fl_serve_predict(serve, request, PROTOCOL_MLFLOW);
    else
        return false;
    return true;
}

/* Version 1 */

static bool serve_v1(struct fl_serve *serve, struct fl_http_request *request, const char *rest,
                     bool is_get, bool is_post)
{
    if (is_get && *rest == '\0') {
        respond_json(request, 200, json_pack("{s:[s]}", "models", serve->options.name));
        return true;
    }
    if (*rest != '/')
        return false;
    rest++;
    if (!take_name(serve, &rest))
        return false;
    if (is_post && strcmp(rest, ":predict") == 0)
        fl_serve_predict(serve, request, PROTOCOL_KSERVE_V1);
    else if (is_get && *rest == '\0')
        get_model_ready(serve, request);
    else
        return false;
    return true;
}

/* The admin */

static bool shows(const struct fl_http_request *request, const char *token)
{
    const char *shown = fl_http_header(request, "Authorization");

    if (!shown || strncasecmp(shown, "Bearer ", strlen("Bearer ")) != 0)
        return false;
    shown += strlen("Bearer ");
    return strlen(shown) == strlen(token) && sodium_memcmp(shown, token, strlen(token)) == 0;
}

static void put_model(struct fl_serve *serve, struct fl_http_request *request)
{
    const struct fl_json_limits limits = {.max_bytes = 65536, .max_depth = 4};
    FL_JSON body = NULL;
    struct fl_error err = {0};
    size_t len;
    const char *text = fl_http_body(request, &len), *source;

    if (!shows(request, serve->options.admin_token)) {
        fl_serve_refuse(serve, request, PROTOCOL_OPEN_INFERENCE, 401,
                        "the admin's token is needed");
        return;
    }
    if (fl_json_parse(text, len, &limits, NULL, NULL, &body, &err) < 0) {
        fl_serve_refuse(serve, request, PROTOCOL_OPEN_INFERENCE, 400, err.msg);
        return;
    }
    source = fl_str_or(fl_json_str(body, "url"), fl_json_str(body, "path"));
    if (!source || !fl_json_str(body, "digest") ||
        !fl_digest_is_valid(fl_json_str(body, "digest"))) {
        fl_serve_refuse(serve, request, PROTOCOL_OPEN_INFERENCE, 400,
                        "url or path, and digest (sha256:…) are needed");
        return;
    }
    fl_serve_load(serve, source, fl_json_str(body, "digest"));
    respond_json(request, 202, json_pack("{s:s}", "loading", fl_json_str(body, "digest")));
}

/* Routes */

static void get_metrics(struct fl_serve *serve, struct fl_http_request *request)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};

    fl_serve_write_metrics(serve, &text);
    fl_http_respond_buf(request, 200, "text/plain; version=0.0.4", &text);
}

static enum protocol protocol_of(const char *path)
{
    if (fl_str_has_prefix(path, "/v2"))
        return PROTOCOL_OPEN_INFERENCE;
    return fl_str_has_prefix(path, "/v1/") ? PROTOCOL_KSERVE_V1 : PROTOCOL_MLFLOW;
}

static bool is_for_all(const char *path)
{
    static const char *const paths[] = {"/v2/health/live", "/v2/health/ready", "/ping", "/health",
                                        "/metrics"};

    for (size_t i = 0; i < FL_COUNT_OF(paths); i++)
        if (strcmp(path, paths[i]) == 0)
            return true;
    return false;
}

static bool dispatch(struct fl_serve *serve, struct fl_http_request *request, const char *path,
                     bool is_get, bool is_post)
{
    const unsigned spoken = serve->options.protocols;

    /* Health is asked for by orchestrators, whatever clients speak. */
    if (fl_str_has_prefix(path, "/v2") && (path[3] == '/' || path[3] == '\0') &&
        (spoken & FL_SERVE_OPEN_INFERENCE || fl_str_has_prefix(path, "/v2/health/")))
        return serve_v2(serve, request, path + strlen("/v2"), is_get, is_post);
    if (fl_str_has_prefix(path, "/v1/models") && spoken & FL_SERVE_KSERVE_V1)
        return serve_v1(serve, request, path + strlen("/v1/models"), is_get, is_post);
    if (is_get && strcmp(path, "/metrics") == 0) {
        get_metrics(serve, request);
        return true;
    }
    return spoken & FL_SERVE_MLFLOW && serve_mlflow(serve, request, path, is_get, is_post);
}

static void handle(void *user, struct fl_http_request *request)
{
    struct fl_serve *serve = user;
    const char *method = fl_http_method(request), *path = fl_http_path(request);
    const bool is_get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

    if (serve->options.admin_token && strcmp(method, "PUT") == 0 &&
        strcmp(path, "/v1/admin/model") == 0)
        put_model(serve, request);
    else if (serve->options.token && !is_for_all(path) && !shows(request, serve->options.token))
        fl_serve_refuse(serve, request, protocol_of(path), 401, "a bearer token is needed");
    else if (!dispatch(serve, request, path, is_get, strcmp(method, "POST") == 0))
        fl_serve_refuse(serve, request, protocol_of(path), 404,
                        "there is no such path, or not for this method, or another model is "
                        "served here");
}

/* The front door */

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
    own->max_concurrency = own->max_concurrency ? own->max_concurrency : MAX_CONCURRENCY;
    own->timeout_ms = own->timeout_ms ? own->timeout_ms : TIMEOUT_MS;
}

int fl_serve_create(const struct fl_serve_options *options, struct fl_serve **ret_serve,
                    struct fl_error *err)
{
    FL_CLEANUP(fl_serve_destroyp) struct fl_serve *serve = fl_calloc(1, sizeof(*serve));
    const struct fl_engine_options engine = {.env = options->env,
                                             .loop = options->loop,
                                             .max_batch = options->max_batch,
                                             .delay_us = options->batch_delay_ms * 1000};
    struct fl_http_server_options http = {.env = options->env,
                                          .loop = options->loop,
                                          .tls = options->tls,
                                          .address = options->address,
                                          .port = options->port,
                                          .handler = handle,
                                          .user = serve};
    int r;

    serve->arena = fl_arena_create();
    set_defaults(serve, options);
    http.max_body_bytes = serve->options.max_body_bytes;
    r = fl_engine_create(&engine, &serve->engine, err);
    if (r == 0)
        r = fl_http_server_create(&http, &serve->http, err);
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
    fl_http_server_destroy(serve->http);
    fl_servable_unref(serve->served);
    fl_arena_destroy(serve->arena);
    free(serve);
}

uint16_t fl_serve_port(const struct fl_serve *serve)
{
    return fl_http_server_port(serve->http);
}

void fl_serve_drain(struct fl_serve *serve, int64_t deadline_ms, fl_loop_fn *done, void *user)
{
    serve->draining = true;
    fl_http_server_drain(serve->http, deadline_ms, done, user);
}
