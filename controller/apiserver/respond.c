/* Answers: objects in the form the client asked for, and Status objects for what went wrong. */
#include "controller/apiserver/internal.h"

#include "lib/gzip.h"
#include "lib/yaml.h"

#define GZIP_FROM_BYTES                                                                            \
    ((size_t)128 * 1024) /* as a cluster does: below it costs more than it saves */
#define JSON_TYPE          "application/json"
#define WARNING_MAX_BYTES  ((size_t)256)
#define WARNINGS_MAX_BYTES ((size_t)4096)

static char *begin_audit(const struct fl_request *request)
{
    return fl_audit_begin(request->server->audit,
                          &(struct fl_audit_entry){
                              .id = request->audit_id,
                              .access = &request->access,
                              .source = fl_http_peer_address(request->http),
                              .user_agent = fl_http_header(request->http, "User-Agent"),
                              .target = fl_http_path(request->http),
                              .dry_run = fl_request_param(request, "dryRun") != NULL,
                          });
}

void fl_respond_done(struct fl_request *request, int status)
{
    struct fl_apiserver *server = request->server;
    int64_t took_ms = fl_monotonic_ms(server->env) - fl_http_started_ms(request->http);

    fl_metrics_request(server->metrics, request, status, took_ms);
    if (!request->is_write)
        return;
    if (!request->audit_text)
        request->audit_text = begin_audit(request);
    fl_audit_end(server->audit, FL_TAKE(request->audit_text), status, request->failure, took_ms);
}

static void owed_client_gone(void *user)
{
    struct fl_owed *owed = user;

    owed->request = NULL;
}

void fl_owed_begin(struct fl_owed *owed, struct fl_request *request)
{
    *owed = (struct fl_owed){
        .server = request->server,
        .request = request,
        .audit_text = begin_audit(request),
        .started_ms = fl_http_started_ms(request->http),
    };
    owed->server->writes_in_flight++;
    fl_http_on_gone(request->http, owed_client_gone, owed);
}

struct fl_request *fl_owed_settle(struct fl_owed *owed)
{
    owed->server->writes_in_flight--;
    if (!owed->request)
        return NULL;
    fl_http_on_gone(owed->request->http, NULL, NULL);
    owed->request->audit_text = FL_TAKE(owed->audit_text);
    return owed->request;
}

void fl_owed_end(struct fl_owed *owed, int status, const struct fl_error *err)
{
    int64_t took_ms = fl_monotonic_ms(owed->server->env) - owed->started_ms;

    if (owed->audit_text)
        fl_audit_end(owed->server->audit, FL_TAKE(owed->audit_text),
                     err ? fl_error_http_status(err->code) : status,
                     err ? fl_error_reason(err->code) : NULL, took_ms);
}

void fl_respond_buf(struct fl_request *request, int status, const char *content_type,
                    struct fl_buf *buf)
{
    const char *accepted = fl_http_header(request->http, "Accept-Encoding");

    if (buf->len > GZIP_FROM_BYTES && accepted && strstr(accepted, "gzip")) {
        struct fl_buf packed;

        fl_buf_init(&packed, 0);
        if (fl_gzip(buf->data, buf->len, &packed) == 0) {
            fl_http_set_header(request->http, "Content-Encoding", "gzip");
            fl_http_set_header(request->http, "Vary", "Accept-Encoding");
            fl_buf_finish(buf);
            *buf = packed;
        }
    }
    fl_respond_done(request, status);
    fl_http_respond_buf(request->http, status, content_type, buf);
}

void fl_respond_json(struct fl_request *request, int status, const json_t *value)
{
    struct fl_buf buf;

    fl_buf_init(&buf, 0);
    if (request->yaml)
        fl_yaml_write(&buf, value);
    else if (request->pretty)
        fl_json_write_pretty(&buf, value);
    else
        fl_json_write(&buf, value);
    if (!request->yaml && !request->pretty)
        fl_buf_putc(&buf, '\n');
    fl_respond_buf(request, status, request->yaml ? "application/yaml" : JSON_TYPE, &buf);
}

void fl_respond_text(struct fl_request *request, int status, const char *text)
{
    fl_respond_done(request, status);
    fl_http_respond(request->http, status, "text/plain; charset=utf-8", text, strlen(text));
}

void fl_respond_warning(struct fl_request *request, const char *text)
{
    size_t len = strlen(text);
    struct fl_buf buf;

    /* Clients refuse answers with endless headers, and strangers must not make us write them. */
    if (len > WARNING_MAX_BYTES)
        len = fl_utf8_cut(text, len, WARNING_MAX_BYTES);
    if (request->warned_bytes + len > WARNINGS_MAX_BYTES)
        return;
    request->warned_bytes += len;
    fl_buf_init(&buf, 0);
    fl_buf_puts(&buf, "299 - ");
    fl_buf_json_string(&buf, text, len);
    fl_http_add_header(request->http, "Warning", buf.data);
    fl_buf_finish(&buf);
}

/* "apiVersion" sorts before every other member a kind has at its top, so a stored object begins
 * with it unless someone named a field in capitals or "a…". */
bool fl_stored_as(const struct fl_resource *resource, const struct fl_object *object)
{
    static const char start[] = "{\"apiVersion\":\"";
    size_t start_len = sizeof(start) - 1, len = strlen(resource->api_version);
    const char *text = object->json->data;

    return object->json->len > start_len + len && memcmp(text, start, start_len) == 0 &&
           memcmp(text + start_len, resource->api_version, len) == 0 &&
           text[start_len + len] == '"';
}

json_t *fl_read_object(const struct fl_resource *resource, const struct fl_object *object)
{
    json_t *value = fl_object_parse(object);

    fl_resource_from_stored(resource, value);
    return value;
}

void fl_write_object(struct fl_buf *buf, const struct fl_resource *resource,
                     const struct fl_object *object)
{
    FL_JSON value = NULL;

    if (fl_stored_as(resource, object)) {
        fl_buf_append(buf, object->json->data, object->json->len);
        return;
    }
    value = fl_read_object(resource, object);
    fl_json_write(buf, value);
}

json_t *fl_make_partial(const json_t *object)
{
    return json_pack("{s:s, s:s, s:O}", "kind", "PartialObjectMetadata", "apiVersion",
                     "meta.k8s.io/v1", "metadata", json_object_get(object, "metadata"));
}

json_t *fl_make_table(const struct fl_request *request, const json_t *const *objects, size_t count,
                      struct fl_table_options *options)
{
    options->include = request->include;
    options->v1beta1 = request->table_v1beta1;
    options->now_us = fl_realtime_us(request->server->env);
    return fl_table_create(request->served->columns, objects, count, options);
}

static json_t *table_of_one(const struct fl_request *request, const json_t *object)
{
    struct fl_table_options options = {
        .resource_version = fl_json_str(object, "metadata.resourceVersion"),
    };

    return fl_make_table(request, &object, 1, &options);
}

/* Is this an object of the resource (and not a Scale, a Status …) that a view can show? */
static bool has_view(const struct fl_request *request, const json_t *object)
{
    return request->view != FL_VIEW_OBJECT && request->served &&
           fl_streq(fl_json_str(object, "kind"), request->resource->kind);
}

void fl_respond_value(struct fl_request *request, int status, const json_t *object)
{
    FL_JSON shown = NULL;

    if (has_view(request, object))
        shown = request->view == FL_VIEW_TABLE ? table_of_one(request, object)
                                               : fl_make_partial(object);
    fl_respond_json(request, status, shown ? shown : object);
}

void fl_respond_object(struct fl_request *request, int status, struct fl_object *object)
{
    FL_JSON value = NULL;

    if (request->view == FL_VIEW_OBJECT && !request->pretty && !request->yaml &&
        object->json->len < GZIP_FROM_BYTES && fl_stored_as(request->resource, object)) {
        fl_respond_done(request, status);
        fl_http_respond_bytes(request->http, status, JSON_TYPE, &object->json, 1);
        return;
    }
    value = fl_read_object(request->resource, object);
    fl_respond_value(request, status, value);
}

void fl_respond_error(struct fl_request *request, const struct fl_error *err,
                      const struct fl_status_details *details)
{
    FL_JSON status = fl_status_failure(err, details);
    int code = fl_error_http_status(err->code);

    request->failure = fl_error_reason(err->code);
    if (details && details->retry_after_seconds) {
        char seconds[16];

        (void)snprintf(seconds, sizeof(seconds), "%d", details->retry_after_seconds);
        fl_http_set_header(request->http, "Retry-After", seconds);
    }
    if (err->code == FL_E_UNAUTHORIZED)
        fl_http_set_header(request->http, "WWW-Authenticate", "Bearer realm=\"flops\"");
    fl_respond_json(request, code, status);
}

void fl_respond_failure(struct fl_request *request, const struct fl_error *err,
                        const struct fl_field_errors *causes)
{
    struct fl_status_details details = {
        .name = request->name,
        .group = request->group,
        .kind = request->plural,
        .causes = causes,
    };
    bool about_object = err->code == FL_E_NOT_FOUND || err->code == FL_E_ALREADY_EXISTS ||
                        err->code == FL_E_CONFLICT || err->code == FL_E_INVALID ||
                        err->code == FL_E_FORBIDDEN || err->code == FL_E_METHOD_NOT_ALLOWED;

    if (request->error_details) {
        fl_respond_error(request, err, request->error_details);
        return;
    }
    if (causes && causes->count && request->resource)
        details.kind = request->resource->kind;
    if (err->code == FL_E_TOO_MANY_REQUESTS || err->code == FL_E_UNAVAILABLE)
        details.retry_after_seconds = 1;
    fl_respond_error(request, err, about_object || details.retry_after_seconds ? &details : NULL);
}
