/* What the control plane says to the server, and hears of it. */
#include "lib/str.h"
#include "workloads/serve/serve_internal.h"

#include <string.h>

static void refuse(struct fl_http_request *request, int code, const char *message)
{
    if (code == FL_E_UNAUTHORIZED)
        fl_http_set_header(request, "WWW-Authenticate", "Bearer");
    fl_serve_respond_json(
        request, fl_error_http_status(code),
        json_pack("{s:{s:s, s:s}}", "error", "reason", fl_error_reason(code), "message", message));
}

static void get_model(struct fl_serve *serve, struct fl_http_request *request)
{
    const char *loading = fl_serve_loading_source(serve);
    json_t *status =
        json_pack("{s:s, s:b}", "name", serve->options.name, "ready", fl_serve_is_ready(serve));

    if (serve->served)
        fl_json_set_str(status, "digest", fl_servable_digest(serve->served));
    fl_json_set_str(status, "loading", loading);
    if (serve->load_error.code)
        fl_json_set_str(status, "error", serve->load_error.msg);
    fl_serve_respond_json(request, 200, status);
}

void fl_serve_answer_waiter(struct fl_serve *serve, struct fl_http_request *waiter,
                            const struct fl_error *err)
{
    if (err->code)
        refuse(waiter, err->code, err->msg);
    else
        get_model(serve, waiter);
}

static int read_wish(const struct fl_http_request *request, json_t **ret_wish, struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_depth = 4};
    size_t len;
    const char *text = fl_http_body(request, &len), *digest;
    int r = fl_json_parse(text, len, &limits, NULL, NULL, ret_wish, err);

    if (r < 0)
        return r;
    if (!fl_json_str(*ret_wish, "url") == !fl_json_str(*ret_wish, "path"))
        return fl_error_set(err, FL_E_BAD_REQUEST, "one of url and path is needed");
    digest = fl_json_str(*ret_wish, "digest");
    if (!digest || !fl_digest_is_valid(digest))
        return fl_error_set(err, FL_E_BAD_REQUEST, "digest: sha256:… is needed");
    return 0;
}

static void put_model(struct fl_serve *serve, struct fl_http_request *request)
{
    FL_JSON wish = NULL;
    struct fl_error err = {0};
    const char *digest;

    if (read_wish(request, &wish, &err) < 0) {
        refuse(request, err.code, err.msg);
        return;
    }
    digest = fl_json_str(wish, "digest");
    if (serve->served && strcmp(fl_servable_digest(serve->served), digest) == 0) {
        fl_serve_stop_loading(serve); /* whatever else was asked for before */
        get_model(serve, request);
    } else {
        fl_serve_load_for(serve, fl_str_or(fl_json_str(wish, "url"), fl_json_str(wish, "path")),
                          digest, request);
    }
}

static void get_metrics(struct fl_serve *serve, struct fl_http_request *request)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};

    fl_serve_write_metrics(serve, &text);
    fl_http_respond_buf(request, 200, "text/plain; version=0.0.4", &text);
}

static bool is_free_for_all(const char *path)
{
    return strcmp(path, "/healthz") == 0 || strcmp(path, "/metrics") == 0;
}

void fl_serve_administer(void *user, struct fl_http_request *request)
{
    struct fl_serve *serve = user;
    const char *method = fl_http_method(request), *path = fl_http_path(request);
    const bool is_get = strcmp(method, "GET") == 0;

    if (!is_free_for_all(path) && !fl_serve_is_allowed(request, serve->options.admin_token))
        refuse(request, FL_E_UNAUTHORIZED, "a bearer token is needed");
    else if (is_get && strcmp(path, "/healthz") == 0)
        fl_http_respond(request, 200, "text/plain", "ok", 2);
    else if (is_get && strcmp(path, "/metrics") == 0)
        get_metrics(serve, request);
    else if (is_get && strcmp(path, "/v1/admin/model") == 0)
        get_model(serve, request);
    else if (strcmp(method, "PUT") == 0 && strcmp(path, "/v1/admin/model") == 0)
        put_model(serve, request);
    else
        refuse(request, FL_E_NOT_FOUND, "there is no such path, or not for this method");
}
