#include "reconcilers/tracking/mlflow.h"

#include "lib/str.h"
#include "reconcilers/tracking/mlflow_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API            "/api/2.0"
#define AGENT          "flops"
#define ANSWER_MAX     ((size_t)16 * 1024 * 1024)
#define CONNECT_MS     5000
#define CALL_MS        20000
#define QUIET_MS       20000
#define PUT_TRIES      3
#define UPLOAD_MIN_BPS 16384 /* a server that takes less of a file is not well */
#define HEADERS_MAX    4

static bool go_on(void *user, int64_t sent, int64_t received)
{
    const struct fl_mlflow *mlflow = user;

    (void)sent;
    (void)received;
    return !mlflow->go_on || mlflow->go_on(mlflow->user);
}

/* Sends, and reads an answer of 200; else its error. *ret_status 0: there was no answer. */
static int exchange(struct fl_mlflow *mlflow, struct fl_http_transfer *transfer,
                    const char *content_type, enum fl_mlflow_code *ret_code, int *ret_status,
                    struct fl_bytes **ret_body, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    /* On a connection that was used before, libcurl sends again by itself what had no answer: a
     * version would be made twice. So each call has a connection of its own. */
    const char *headers[HEADERS_MAX] = {"User-Agent: " AGENT, "Connection: close"};
    int r;

    transfer->headers = headers;
    transfer->header_count = 2;
    if (content_type)
        headers[transfer->header_count++] = content_type;
    if (mlflow->authorization)
        headers[transfer->header_count++] = mlflow->authorization;
    transfer->beat = go_on;
    transfer->user = mlflow;
    transfer->quiet_ms = QUIET_MS;
    *ret_code = FL_MLFLOW_NONE;
    *ret_status = 0;
    r = fl_http_transfer(mlflow->client, transfer, ret_status, &body, NULL, err);
    if (r < 0)
        return r;
    if (*ret_status != 200)
        return fl_mlflow_read_error(*ret_status, body->data, body->len, ret_code, err);
    *ret_body = FL_TAKE(body);
    return 0;
}

/* The same again would make a second one. */
static bool makes_another(const struct fl_mlflow_call *call)
{
    return fl_str_has_suffix(call->path, "/create") ||
           fl_str_has_suffix(call->path, "/outputs") || /* is refused the second time */
           (strcmp(call->method, "POST") == 0 && fl_str_has_suffix(call->path, "/logged-models"));
}

/* What has no answer is said once more at once, if the same again changes nothing: where a server
 * loses some answers, passes that are broken off at each of them may never come to their end. What
 * is made is found by the next pass. */
static int exchange_twice(struct fl_mlflow *mlflow, struct fl_http_transfer *transfer,
                          const char *content_type, enum fl_mlflow_code *ret_code,
                          struct fl_bytes **ret_body, struct fl_error *err)
{
    struct fl_http_transfer again = *transfer;
    int status = 0, r = exchange(mlflow, transfer, content_type, ret_code, &status, ret_body, err);

    if (r == FL_E_UNAVAILABLE && status == 0 && (!mlflow->go_on || mlflow->go_on(mlflow->user)))
        r = exchange(mlflow, &again, content_type, ret_code, &status, ret_body, err);
    return r;
}

static int exchange_call(struct fl_mlflow *mlflow, const struct fl_mlflow_call *call,
                         struct fl_http_transfer *transfer, struct fl_bytes **ret_body,
                         struct fl_error *err)
{
    const char *type = call->body ? "Content-Type: application/json" : NULL;
    enum fl_mlflow_code code = FL_MLFLOW_NONE;
    int status, r = makes_another(call)
                        ? exchange(mlflow, transfer, type, &code, &status, ret_body, err)
                        : exchange_twice(mlflow, transfer, type, &code, ret_body, err);

    if (call->ret_code)
        *call->ret_code = code;
    return r;
}

int fl_mlflow_call(struct fl_mlflow *mlflow, const struct fl_mlflow_call *call,
                   struct fl_arena *arena, const json_t **ret_answer, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *sent = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    struct fl_http_transfer transfer = {.method = call->method, .total_ms = CALL_MS};
    const struct fl_json_limits limits = {.max_bytes = ANSWER_MAX};
    json_t *answer = NULL;
    int r;

    transfer.target = fl_arena_printf(arena, API "%s", call->path);
    if (call->body) {
        sent = fl_json_to_bytes(call->body);
        transfer.body = sent->data;
        transfer.body_len = sent->len;
    }
    r = exchange_call(mlflow, call, &transfer, &body, err);
    if (r < 0)
        return fl_error_wrap(err, "%s %s", call->method, call->path);
    if (!ret_answer)
        return 0;
    assert(body); /* clang's analyser does not follow it there */
    r = fl_json_parse(body->data, body->len, &limits, NULL, NULL, &answer, err);
    if (r == 0)
        (void)fl_json_in_arena(arena, answer);
    if (r < 0 || !json_is_object(answer))
        return fl_error_set(err, FL_E_INVALID, "%s %s: the server answers, but not as MLflow does",
                            call->method, call->path);
    *ret_answer = answer;
    return 0;
}

/* Each part of a path by itself: what stands between slashes. */
static const char *escape_path(struct fl_arena *arena, const char *path)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};
    const char *rest = path, *part;

    while ((part = fl_str_next(arena, &rest, '/')))
        fl_buf_printf(&text, "/%s", fl_url_encode(arena, part));
    return fl_arena_strdup(arena, fl_buf_text(&text));
}

int fl_mlflow_put_file(struct fl_mlflow *mlflow, const char *path, int fd, int64_t size,
                       struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    struct fl_http_transfer transfer = {
        .method = "PUT",
        .target =
            fl_arena_printf(arena, API "/mlflow-artifacts/artifacts%s", escape_path(arena, path)),
        .from_file = true,
        .file = fd,
        .body_len = (size_t)size,
        .total_ms = CALL_MS + size / UPLOAD_MIN_BPS * 1000};
    int status, r = FL_E_UNAVAILABLE;
    enum fl_mlflow_code code;

    /* Put twice it is the same file. */
    for (int i = 0; i < PUT_TRIES && fl_error_is_retryable(r); i++) {
        struct fl_http_transfer one = transfer;

        if (i > 0 && mlflow->go_on && !mlflow->go_on(mlflow->user))
            break;
        r = exchange(mlflow, &one, "Content-Type: application/octet-stream", &code, &status, &body,
                     err);
    }
    return r < 0 ? fl_error_wrap(err, "put %s", path) : 0;
}

static const char *run_url(struct fl_tracker *tracker, const char *experiment_id,
                           const char *run_id, struct fl_arena *arena)
{
    return fl_arena_printf(arena, "%s/#/experiments/%s/runs/%s", ((struct fl_mlflow *)tracker)->url,
                           experiment_id, run_id);
}

static void destroy(struct fl_tracker *tracker)
{
    struct fl_mlflow *mlflow = (struct fl_mlflow *)tracker;

    if (!mlflow)
        return;
    fl_http_client_destroy(mlflow->client);
    fl_arena_destroy(mlflow->arena);
    free(mlflow);
}

static const struct fl_tracker_ops ops = {
    .name = "mlflow",
    .destroy = destroy,
    .experiment = fl_mlflow_experiment,
    .find_run = fl_mlflow_find_run,
    .create_run = fl_mlflow_create_run,
    .log = fl_mlflow_log,
    .steps = fl_mlflow_steps,
    .inputs = fl_mlflow_inputs,
    .set_status = fl_mlflow_set_status,
    .model = fl_mlflow_model,
    .run_url = run_url,
};

static const char *authorization(const struct fl_tracker_server *server, struct fl_arena *arena)
{
    const char *both;

    if (server->token)
        return fl_arena_printf(arena, "Authorization: Bearer %s", server->token);
    if (!server->username)
        return NULL;
    both = fl_arena_printf(arena, "%s:%s", server->username, fl_str_or(server->password, ""));
    return fl_arena_printf(arena, "Authorization: Basic %s",
                           fl_base64_encode(arena, both, strlen(both)));
}

static bool is_url(const char *url)
{
    return fl_str_has_prefix(url, "http://") || fl_str_has_prefix(url, "https://");
}

int fl_tracker_mlflow_open(void *user, const struct fl_tracker_options *options,
                           struct fl_tracker **ret_tracker, struct fl_error *err)
{
    const struct fl_tracker_server *server = options->server;
    struct fl_mlflow *mlflow;
    struct fl_http_client_options client = {.user_agent = AGENT,
                                            .ca_pem = server->ca_pem,
                                            .connect_timeout_ms = CONNECT_MS,
                                            .max_response_bytes = ANSWER_MAX};
    int r;

    (void)user;
    if (!is_url(server->url))
        return fl_error_set(err, FL_E_INVALID, "the address must begin with http:// or https://");
    mlflow = fl_calloc(1, sizeof(*mlflow));
    mlflow->base.ops = &ops;
    mlflow->env = options->env;
    mlflow->arena = fl_arena_create();
    mlflow->go_on = options->go_on;
    mlflow->user = options->user;
    mlflow->url = fl_arena_strdup(mlflow->arena, server->url);
    mlflow->authorization = authorization(server, mlflow->arena);
    client.base_url = mlflow->url;
    r = fl_http_client_create(&client, &mlflow->client, err);
    if (r < 0) {
        destroy(&mlflow->base);
        return r;
    }
    *ret_tracker = &mlflow->base;
    return 0;
}
