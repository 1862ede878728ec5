/* What may be asked of the server, and who answers. */
#include "lib/str.h"
#include "workloads/serve/serve_internal.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define SERVER_VERSION "1"

typedef void answer_fn(struct fl_serve *serve, struct fl_http_request *request);

struct route {
    const char *method;
    enum protocol protocol;
    answer_fn *answer; /* NULL: a prediction */
    bool open;         /* asks for no token */
};

void fl_serve_respond_json(struct fl_http_request *request, int status, json_t *value)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_json_to_bytes(value);

    json_decref(value);
    fl_http_respond_bytes(request, status, "application/json", &text, 1);
}

bool fl_serve_is_ready(const struct fl_serve *serve)
{
    return serve->served && !serve->draining;
}

static int readiness(const struct fl_serve *serve, struct fl_http_request *request)
{
    const bool ready = fl_serve_is_ready(serve);

    if (!ready)
        fl_http_set_header(request, "Retry-After", "1");
    return ready ? 200 : 503;
}

/* Version 2 */

static void get_server(struct fl_serve *serve, struct fl_http_request *request)
{
    (void)serve;
    fl_serve_respond_json(request, 200,
                          json_pack("{s:s, s:s, s:[s]}", "name", "flops", "version", SERVER_VERSION,
                                    "extensions", "binary_tensor_data"));
}

static void get_live(struct fl_serve *serve, struct fl_http_request *request)
{
    (void)serve;
    fl_serve_respond_json(request, 200, json_pack("{s:b}", "live", 1));
}

static void get_ready(struct fl_serve *serve, struct fl_http_request *request)
{
    const int status = readiness(serve, request);

    fl_serve_respond_json(request, status, json_pack("{s:b}", "ready", status == 200));
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
    fl_serve_respond_json(
        request, 200,
        json_pack("{s:s, s:[s], s:s, s:[o], s:[o]}", "name", serve->options.name, "versions",
                  fl_servable_digest(serve->served), "platform",
                  fl_servable_platform(serve->served), "inputs",
                  show_tensor(signature->input, signature->shape, signature->rank), "outputs",
                  show_tensor(signature->output, &classes, 1)));
}

static void get_model_ready(struct fl_serve *serve, struct fl_http_request *request)
{
    const int status = readiness(serve, request);

    fl_serve_respond_json(
        request, status,
        json_pack("{s:s, s:b}", "name", serve->options.name, "ready", status == 200));
}

/* MLflow */

static void get_ping(struct fl_serve *serve, struct fl_http_request *request)
{
    fl_http_respond(request, readiness(serve, request), "application/json", "\n", 1);
}

static void get_version(struct fl_serve *serve, struct fl_http_request *request)
{
    (void)serve;
    fl_http_respond(request, 200, "text/plain", SERVER_VERSION, strlen(SERVER_VERSION));
}

/* Version 1 */

static void get_models(struct fl_serve *serve, struct fl_http_request *request)
{
    fl_serve_respond_json(request, 200, json_pack("{s:[s]}", "models", serve->options.name));
}

static void get_metrics(struct fl_serve *serve, struct fl_http_request *request)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};

    fl_serve_write_metrics(serve, &text);
    fl_http_respond_buf(request, 200, "text/plain; version=0.0.4", &text);
}

/* Routes */

static const struct {
    unsigned protocol; /* FL_SERVE_…; 0: whatever is spoken */
    const char *path;
    struct route route;
} fixed[] = {
    {FL_SERVE_MLFLOW, "/invocations", {"POST", PROTOCOL_MLFLOW, NULL, false}},
    {FL_SERVE_MLFLOW, "/ping", {"GET", PROTOCOL_MLFLOW, get_ping, true}},
    {FL_SERVE_MLFLOW, "/health", {"GET", PROTOCOL_MLFLOW, get_ping, true}},
    {FL_SERVE_MLFLOW, "/version", {"GET", PROTOCOL_MLFLOW, get_version, false}},
    {FL_SERVE_KSERVE_V1, "/v1/models", {"GET", PROTOCOL_KSERVE_V1, get_models, false}},
    {FL_SERVE_OPEN_INFERENCE, "/v2", {"GET", PROTOCOL_OPEN_INFERENCE, get_server, false}},
    {FL_SERVE_OPEN_INFERENCE, "/v2/", {"GET", PROTOCOL_OPEN_INFERENCE, get_server, false}},
    /* Orchestrators ask for health, whatever clients speak. */
    {0, "/v2/health/live", {"GET", PROTOCOL_OPEN_INFERENCE, get_live, true}},
    {0, "/v2/health/ready", {"GET", PROTOCOL_OPEN_INFERENCE, get_ready, true}},
    {0, "/metrics", {"GET", PROTOCOL_OPEN_INFERENCE, get_metrics, true}},
};

static const struct {
    unsigned protocol;
    const char *rest; /* behind the model's name */
    struct route route;
} of_model[] = {
    {FL_SERVE_OPEN_INFERENCE, "/infer", {"POST", PROTOCOL_OPEN_INFERENCE, NULL, false}},
    {FL_SERVE_OPEN_INFERENCE, "", {"GET", PROTOCOL_OPEN_INFERENCE, get_model, false}},
    {FL_SERVE_OPEN_INFERENCE, "/ready", {"GET", PROTOCOL_OPEN_INFERENCE, get_model_ready, false}},
    {FL_SERVE_KSERVE_V1, ":predict", {"POST", PROTOCOL_KSERVE_V1, NULL, false}},
    {FL_SERVE_KSERVE_V1, "", {"GET", PROTOCOL_KSERVE_V1, get_model_ready, false}},
};

static const struct route *find_fixed(const struct fl_serve *serve, const char *path)
{
    for (size_t i = 0; i < FL_COUNT_OF(fixed); i++)
        if ((!fixed[i].protocol || fixed[i].protocol & serve->options.protocols) &&
            strcmp(fixed[i].path, path) == 0)
            return &fixed[i].route;
    return NULL;
}

/* "/versions/V", V being the digest of the model that is served, or "1". */
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

static const struct route *find_of_model(const struct fl_serve *serve, const char *path)
{
    const unsigned protocol = fl_str_has_prefix(path, "/v2/models/")   ? FL_SERVE_OPEN_INFERENCE
                              : fl_str_has_prefix(path, "/v1/models/") ? FL_SERVE_KSERVE_V1
                                                                       : 0;
    const char *rest;

    if (!(protocol & serve->options.protocols))
        return NULL;
    rest = path + strlen("/v2/models/");
    if (!fl_str_has_prefix(rest, serve->options.name))
        return NULL;
    rest += strlen(serve->options.name);
    if (protocol == FL_SERVE_OPEN_INFERENCE && !take_version(serve, &rest))
        return NULL;
    for (size_t i = 0; i < FL_COUNT_OF(of_model); i++)
        if (of_model[i].protocol == protocol && strcmp(of_model[i].rest, rest) == 0)
            return &of_model[i].route;
    return NULL;
}

static const struct route *find_route(const struct fl_serve *serve, struct fl_http_request *request)
{
    const char *path = fl_http_path(request);
    const struct route *route;

    if (strchr(path, '%'))
        path = fl_url_decode(fl_http_arena(request), path, strlen(path), false);
    if (!path)
        return NULL;
    route = find_of_model(serve, path);
    return route ? route : find_fixed(serve, path);
}

static enum protocol protocol_of(const char *path)
{
    if (fl_str_has_prefix(path, "/v2"))
        return PROTOCOL_OPEN_INFERENCE;
    return fl_str_has_prefix(path, "/v1/") ? PROTOCOL_KSERVE_V1 : PROTOCOL_MLFLOW;
}

bool fl_serve_is_allowed(const struct fl_http_request *request, const char *token)
{
    const char *shown = fl_http_header(request, "Authorization");

    if (!token)
        return true;
    if (!shown || strncasecmp(shown, "Bearer ", strlen("Bearer ")) != 0)
        return false;
    shown += strlen("Bearer ");
    return strlen(shown) == strlen(token) && sodium_memcmp(shown, token, strlen(token)) == 0;
}

static bool has_method(const struct fl_http_request *request, const struct route *route)
{
    const char *method = fl_http_method(request);

    return strcmp(method, route->method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0);
}

/* Before the body: what will be refused anyway is not read. */
void fl_serve_begin(void *user, struct fl_http_request *request)
{
    struct fl_serve *serve = user;
    const char *length = fl_http_header(request, "Content-Length");
    int64_t bytes = 0;

    if (length && fl_str_to_int64(length, 0, INT64_MAX, &bytes) &&
        (uint64_t)bytes > serve->options.max_body_bytes) {
        char message[96];

        (void)snprintf(message, sizeof(message), "the body has %" PRId64 " bytes; %zu are allowed",
                       bytes, serve->options.max_body_bytes);
        fl_serve_refuse(serve, request, protocol_of(fl_http_path(request)), 413, message);
    }
}

static void answer_route(struct fl_serve *serve, struct fl_http_request *request,
                         const struct route *route)
{
    if (!route->answer) {
        fl_serve_predict(serve, request, route->protocol);
        return;
    }
    if (serve->served)
        fl_http_set_header(request, "X-Model-Digest", fl_servable_digest(serve->served));
    route->answer(serve, request);
}

void fl_serve_handle(void *user, struct fl_http_request *request)
{
    struct fl_serve *serve = user;
    const struct route *route = find_route(serve, request);
    const enum protocol protocol = protocol_of(fl_http_path(request));

    if (!(route && route->open) && !fl_serve_is_allowed(request, serve->options.token)) {
        fl_serve_refuse(serve, request, protocol, 401, "a bearer token is needed");
    } else if (!route) {
        fl_serve_refuse(serve, request, protocol, 404,
                        "there is no such path, or another model is served here");
    } else if (!has_method(request, route)) {
        fl_http_set_header(request, "Allow", route->method);
        fl_serve_refuse(serve, request, protocol, 405, "this path has another method");
    } else {
        answer_route(serve, request, route);
    }
}
