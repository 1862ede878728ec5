#include "workloads/transfer/bulk_server.h"

#include "lib/file.h"
#include "lib/http_range.h"
#include "lib/process.h"
#include "lib/str.h"
#include "workloads/transfer/bulk_server_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#define BODY_MAX    ((size_t)4096) /* of requests that need none */
#define MODELS      "/v1/models/"
#define UPLOADS     "/v1/uploads/"
#define RETRY_AFTER "1"

/* --- answers --- */

static void write_error(struct fl_buf *out, const char *reason, const char *message)
{
    fl_buf_puts(out, "{\"reason\":");
    fl_buf_json_string(out, reason, strlen(reason));
    fl_buf_puts(out, ",\"message\":");
    fl_buf_json_string(out, message, strlen(message));
    fl_buf_puts(out, "}\n");
}

static void error_body(void *user, int status, const char *detail, struct fl_buf *body,
                       const char **ret_content_type)
{
    (void)user;
    write_error(body, fl_error_reason(fl_error_from_status(NULL, status)), detail);
    *ret_content_type = "application/json";
}

void fl_bulk_refuse(struct fl_bulk_server *server, struct fl_http_request *request,
                    const struct fl_error *err)
{
    struct fl_buf body;

    server->stats.refused++;
    if (server->options.lacks && (err->code == FL_E_UNAVAILABLE || err->code == FL_E_INTERNAL))
        server->options.lacks(server->options.user, err);
    fl_buf_init(&body, 0);
    write_error(&body, fl_error_reason(err->code), err->msg);
    if (err->code == FL_E_TOO_MANY_REQUESTS || err->code == FL_E_UNAVAILABLE)
        fl_http_set_header(request, "Retry-After", RETRY_AFTER);
    fl_http_respond_buf(request, fl_error_http_status(err->code), "application/json", &body);
}

static void set_number(struct fl_http_request *request, const char *name, int64_t number)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRId64, number);
    fl_http_set_header(request, name, text);
}

static void set_upload_headers(const struct fl_bulk_incoming *upload,
                               struct fl_http_request *request)
{
    set_number(request, "Upload-Offset", upload->state.safe);
    set_number(request, "Upload-Length", upload->state.size);
    fl_http_set_header(request, "Upload-Complete", upload->state.complete ? "?1" : "?0");
    fl_http_set_header(request, "Cache-Control", "no-store");
}

void fl_bulk_answer_upload(const struct fl_bulk_incoming *upload, struct fl_http_request *request,
                           int status)
{
    set_upload_headers(upload, request);
    fl_http_respond(request, status, NULL, "", 0);
}

void fl_bulk_refuse_upload(const struct fl_bulk_incoming *upload, struct fl_http_request *request,
                           const struct fl_error *err)
{
    if (!request)
        return;
    set_upload_headers(upload, request);
    fl_bulk_refuse(upload->server, request, err);
}

static void method_not_allowed(struct fl_bulk_server *server, struct fl_http_request *request,
                               const char *allowed)
{
    struct fl_error err = {0};

    fl_http_set_header(request, "Allow", allowed);
    (void)fl_error_set(&err, FL_E_METHOD_NOT_ALLOWED, "%s is not for this",
                       fl_http_method(request));
    fl_bulk_refuse(server, request, &err);
}

static int ask_owner(struct fl_bulk_server *server, struct fl_http_request *request,
                     struct fl_bulk_ask *ask, struct fl_error *err)
{
    const bool head = strcmp(fl_http_method(request), "HEAD") == 0;

    if (!server->options.allow)
        return 0;
    ask->method = head ? "GET" : fl_http_method(request);
    ask->authorization = fl_http_header(request, "Authorization");
    ask->peer = fl_http_peer(request);
    return server->options.allow(server->options.user, ask, err);
}

/* --- models --- */

static int open_model(struct fl_bulk_server *server, struct fl_http_request *request,
                      const char **ret_digest, int *ret_fd, int64_t *ret_size, struct fl_error *err)
{
    const char *text = fl_http_path(request) + strlen(MODELS);
    const char *digest = fl_url_decode(fl_http_arena(request), text, strlen(text), false);
    struct fl_bulk_ask ask = {.model = digest};
    int r;

    if (!fl_digest_is_valid(digest))
        return fl_error_set(err, FL_E_BAD_REQUEST, "a model is named by its digest");
    r = ask_owner(server, request, &ask, err);
    if (r < 0)
        return r;
    *ret_digest = digest;
    return fl_blobs_get(server->options.blobs, digest, ret_fd, ret_size, err);
}

/* So that who fetches it need not make a SHA-256 of it. */
static void set_whole_digest(struct fl_bulk_server *server, struct fl_http_request *request,
                             const char *digest)
{
    char check[FL_DIGEST_SIZE], text[FL_BULK_CHECK_TEXT_SIZE];

    if (fl_blobs_check(server->options.blobs, digest, check) && fl_bulk_whole_text(check, text))
        fl_http_set_header(request, "Repr-Digest", text);
}

static void get_model(struct fl_bulk_server *server, struct fl_http_request *request)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    const char *digest, *etag;
    struct fl_error err = {0};
    int64_t size;

    if (open_model(server, request, &digest, &fd, &size, &err) < 0) {
        fl_bulk_refuse(server, request, &err);
        return;
    }
    etag = fl_arena_printf(fl_http_arena(request), "\"%s\"", digest);
    set_whole_digest(server, request, digest);
    if (server->options.moved && strcmp(fl_http_method(request), "GET") == 0 &&
        !fl_http_etag_matches(fl_http_header(request, "If-None-Match"), etag))
        server->options.moved(server->options.user, NULL, digest, size);
    fl_http_set_header(request, "Cache-Control", "immutable, max-age=31536000");
    fl_http_respond_ranges(request, etag, "application/octet-stream", fd, (uint64_t)size);
    fd = -1;
}

/* --- uploads --- */

/* The model that a path names, as the key of an upload. */
static int parse_model_key(struct fl_http_request *request, const char **ret_key,
                           struct fl_error *err)
{
    const char *text = fl_http_path(request) + strlen(MODELS);
    const char *digest = fl_url_decode(fl_http_arena(request), text, strlen(text), false);

    if (!fl_digest_is_valid(digest))
        return fl_error_set(err, FL_E_BAD_REQUEST, "a model is named by its digest");
    *ret_key = digest;
    return 0;
}

const char *fl_bulk_model_of_key(const char *key)
{
    return fl_digest_is_valid(key) ? key : NULL;
}

static int parse_key(struct fl_http_request *request, const char **ret_key, struct fl_error *err)
{
    int r;

    if (fl_str_has_prefix(fl_http_path(request), MODELS))
        return parse_model_key(request, ret_key, err);
    r = fl_bulk_key_parse(fl_http_arena(request), fl_http_path(request) + strlen(UPLOADS), ret_key,
                          err);
    if (r == 0 && fl_bulk_model_of_key(*ret_key))
        return fl_error_set(err, FL_E_BAD_REQUEST, "a model is sent to " MODELS);
    return r;
}

/* Fits what is known under that key? `*ret_due` is the upload to go on with; NULL: a new one is to
 * be begun, and the one in `found`, if there is, is dropped for it. */
static int match(struct fl_bulk_incoming *found, const struct fl_bulk_put *put,
                 struct fl_bulk_incoming **ret_due, struct fl_error *err)
{
    const bool same =
        found && found->state.size == put->size && strcmp(found->state.digest, put->digest) == 0;

    *ret_due = NULL;
    if (found && !same && (found->state.complete || found->verify))
        return fl_error_set(err, FL_E_ALREADY_EXISTS,
                            "another upload of %" PRId64 " bytes is here under this name",
                            found->state.size);
    if (same && found->state.safe != put->offset)
        return fl_error_set(err, FL_E_CONFLICT, "the upload goes on at %" PRId64,
                            found->state.safe);
    if (!same && put->offset != 0)
        return fl_error_set(err, FL_E_CONFLICT, "the upload begins at 0");
    if (same)
        *ret_due = found;
    return 0;
}

static void refuse_put(struct fl_bulk_server *server, struct fl_http_request *request,
                       const struct fl_bulk_incoming *found, const struct fl_bulk_put *put,
                       const struct fl_error *err)
{
    struct fl_bulk_incoming unknown = {.server = server, .state.size = put->size};
    const bool same =
        found && found->state.size == put->size && strcmp(found->state.digest, put->digest) == 0;

    fl_bulk_refuse_upload(same ? found : &unknown, request, err);
}

static void take_put(struct fl_bulk_server *server, struct fl_http_request *request,
                     const char *key, const struct fl_bulk_put *put,
                     const struct fl_bulk_check *check)
{
    struct fl_bulk_incoming *found = fl_map_get(server->uploads, key), *due;
    struct fl_error err = {0};
    int r;

    if (fl_bulk_model_of_key(key) && fl_blobs_has(server->options.blobs, put->digest)) {
        fl_http_respond(request, 201, NULL, "", 0);
        return;
    }
    if (found && found->state.complete && strcmp(found->state.digest, put->digest) == 0) {
        fl_bulk_answer_upload(found, request, 201); /* said before, and not heard */
        return;
    }
    r = match(found, put, &due, &err);
    if (r == 0 && !due) {
        if (found)
            fl_bulk_upload_drop(FL_TAKE(found));
        r = fl_bulk_upload_start(server, key, put, &due, &err);
    }
    if (r < 0)
        refuse_put(server, request, found, put, &err);
    else
        fl_bulk_upload_receive(due, request, check);
}

/* `model`: of a whole model in one request, its own digest is the check. */
static int parse_put(struct fl_http_request *request, const char *model, struct fl_bulk_put *put,
                     struct fl_bulk_check *check, struct fl_error *err)
{
    const char *length = fl_http_header(request, "Content-Length");
    int r;

    if (model && !*fl_http_query(request)) {
        *put = (struct fl_bulk_put){.offset = 0};
        *check = (struct fl_bulk_check){.kind = FL_BULK_CHECK_NONE};
        memcpy(put->digest, model, FL_DIGEST_SIZE);
        if (!length || !fl_str_to_int64(length, 0, INT64_MAX, &put->size))
            return fl_error_set(err, FL_E_BAD_REQUEST, "a Content-Length is needed");
        return 0;
    }
    r = fl_bulk_put_parse(fl_http_query(request), put, err);
    if (r == 0)
        r = fl_bulk_check_parse(fl_http_header(request, "Content-Digest"), check, err);
    if (r == 0 && model && strcmp(model, put->digest) != 0)
        r = fl_error_set(err, FL_E_BAD_REQUEST, "the digest is not the model's");
    return r;
}

static void begin_put(struct fl_bulk_server *server, struct fl_http_request *request)
{
    struct fl_bulk_check check = {0};
    struct fl_bulk_put put = {0};
    struct fl_error err = {0};
    const char *key, *model = NULL;
    int r = parse_key(request, &key, &err);

    if (r == 0)
        model = fl_bulk_model_of_key(key);
    if (r == 0)
        r = parse_put(request, model, &put, &check, &err);
    if (r == 0) {
        struct fl_bulk_ask ask = {
            .key = model ? NULL : key, .model = model, .digest = put.digest, .size = put.size};

        r = ask_owner(server, request, &ask, &err);
    }
    if (r < 0)
        fl_bulk_refuse(server, request, &err);
    else
        take_put(server, request, key, &put, &check);
}

static bool is_upload(const struct fl_bulk_server *server, const struct fl_http_request *request)
{
    return server->uploads_dir && fl_str_has_prefix(fl_http_path(request), UPLOADS);
}

static bool is_model(const struct fl_bulk_server *server, const struct fl_http_request *request)
{
    return server->options.blobs && fl_str_has_prefix(fl_http_path(request), MODELS);
}

/* Before the body: what is not wanted is refused unread. */
bool fl_bulk_server_begin(struct fl_bulk_server *server, struct fl_http_request *request)
{
    const bool ours = is_upload(server, request) || is_model(server, request);

    if (ours && strcmp(fl_http_method(request), "PUT") == 0 && server->uploads_dir)
        begin_put(server, request);
    else if (ours)
        fl_http_limit_body(request, BODY_MAX);
    return ours;
}

static void end_put(struct fl_bulk_server *server, struct fl_http_request *request)
{
    struct fl_bulk_incoming *upload = NULL;
    const char *key;

    if (parse_key(request, &key, NULL) == 0)
        upload = fl_map_get(server->uploads, key);
    assert(upload && upload->request == request); /* `begin` has seen to it */
    fl_bulk_upload_received(upload);
}

static int find_asked(struct fl_bulk_server *server, struct fl_http_request *request,
                      struct fl_bulk_incoming **ret_upload, struct fl_error *err)
{
    struct fl_bulk_ask ask = {0};
    int r = parse_key(request, &ask.key, err);

    if (r == 0)
        r = ask_owner(server, request, &ask, err);
    if (r < 0)
        return r;
    *ret_upload = fl_map_get(server->uploads, ask.key);
    return *ret_upload ? 0 : fl_error_set(err, FL_E_NOT_FOUND, "there is no such upload");
}

static void show_upload(struct fl_bulk_server *server, struct fl_http_request *request)
{
    struct fl_bulk_incoming *upload;
    struct fl_error err = {0};

    if (find_asked(server, request, &upload, &err) < 0) {
        fl_bulk_refuse(server, request, &err);
        return;
    }
    upload->last_ms = fl_monotonic_ms(server->options.env);
    fl_bulk_answer_upload(upload, request, 200);
}

static void give_up(struct fl_bulk_server *server, struct fl_http_request *request)
{
    struct fl_bulk_incoming *upload;
    struct fl_error err = {0};
    int r = find_asked(server, request, &upload, &err);

    if (r == 0 && upload->state.complete)
        r = fl_error_set(&err, FL_E_CONFLICT, "the upload is complete");
    if (r < 0) {
        fl_bulk_refuse(server, request, &err);
        return;
    }
    fl_bulk_upload_drop(upload);
    fl_http_respond(request, 204, NULL, "", 0);
}

static void serve_upload(struct fl_bulk_server *server, struct fl_http_request *request)
{
    const char *method = fl_http_method(request);

    if (strcmp(method, "PUT") == 0)
        end_put(server, request);
    else if (strcmp(method, "HEAD") == 0)
        show_upload(server, request);
    else if (strcmp(method, "DELETE") == 0)
        give_up(server, request);
    else
        method_not_allowed(server, request, "PUT, HEAD, DELETE");
}

static void serve_model(struct fl_bulk_server *server, struct fl_http_request *request)
{
    const char *method = fl_http_method(request);

    if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
        get_model(server, request);
    else if (strcmp(method, "PUT") == 0 && server->uploads_dir)
        end_put(server, request);
    else
        method_not_allowed(server, request, server->uploads_dir ? "GET, HEAD, PUT" : "GET, HEAD");
}

bool fl_bulk_server_handle(struct fl_bulk_server *server, struct fl_http_request *request)
{
    if (is_upload(server, request))
        serve_upload(server, request);
    else if (is_model(server, request))
        serve_model(server, request);
    else
        return false;
    return true;
}

static void begin(void *user, struct fl_http_request *request)
{
    (void)fl_bulk_server_begin(user, request);
}

static void handle(void *user, struct fl_http_request *request)
{
    struct fl_error err = {0};

    if (fl_bulk_server_handle(user, request))
        return;
    (void)fl_error_set(&err, FL_E_NOT_FOUND, "there is nothing at this path");
    fl_bulk_refuse(user, request, &err);
}

/* --- the server --- */

static void fill_in_defaults(struct fl_bulk_server_options *options)
{
#define DEFAULT(field, value) options->field = options->field ? options->field : (value)
    DEFAULT(max_upload_bytes, INT64_C(8) << 30);
    DEFAULT(max_total_bytes, INT64_C(64) << 30);
    DEFAULT(max_chunk_bytes, INT64_C(64) << 20);
    DEFAULT(max_uploads, 1024);
    DEFAULT(idle_ms, INT64_C(600000));
#undef DEFAULT
}

static int open_http(struct fl_bulk_server *server, struct fl_error *err)
{
    const struct fl_http_server_options options = {.env = server->options.env,
                                                   .loop = server->options.loop,
                                                   .tls = server->options.tls,
                                                   .address = server->options.address,
                                                   .port = server->options.port,
                                                   .handler = handle,
                                                   .begin = begin,
                                                   .error_body = error_body,
                                                   .user = server,
                                                   .max_body_bytes = BODY_MAX,
                                                   .max_connections =
                                                       server->options.max_connections};

    return options.address ? fl_http_server_create(&options, &server->http, err) : 0;
}

static int open_uploads(struct fl_bulk_server *server, struct fl_error *err)
{
    int r = fl_dir_ensure(server->uploads_dir, 0700, err);

    if (r == 0)
        r = fl_bulk_uploads_load(server, err);
    if (r < 0) {
        (void)fl_error_wrap(err, "uploads in %s", server->uploads_dir);
        return r;
    }
    server->expiry = fl_timer_create(server->options.loop, fl_bulk_uploads_expire, server);
    fl_timer_repeat(server->expiry, server->options.idle_ms >= 4 ? server->options.idle_ms / 4 : 1);
    return 0;
}

int fl_bulk_server_create(const struct fl_bulk_server_options *options,
                          struct fl_bulk_server **ret_server, struct fl_error *err)
{
    FL_CLEANUP(fl_bulk_server_destroyp)
    struct fl_bulk_server *server = fl_calloc(1, sizeof(*server));
    int r = 0;

    assert(options->env && options->loop && (options->blobs || options->uploads_dir));

    server->options = *options;
    fill_in_defaults(&server->options);
    server->uploads = fl_map_create(fl_bulk_upload_free);
    if (options->uploads_dir) {
        server->uploads_dir = fl_strdup(options->uploads_dir);
        r = open_uploads(server, err);
    }
    if (r == 0)
        r = open_http(server, err);
    if (r < 0)
        return r;
    *ret_server = FL_TAKE(server);
    return 0;
}

/* The HTTP server first: whoever is sending hears the end, and lets go of its upload. */
void fl_bulk_server_destroy(struct fl_bulk_server *server)
{
    if (!server)
        return;
    fl_http_server_destroy(server->http);
    fl_timer_destroy(server->expiry);
    fl_map_destroy(server->uploads);
    free(server->uploads_dir);
    free(server);
}

uint16_t fl_bulk_server_port(const struct fl_bulk_server *server)
{
    return server->http ? fl_http_server_port(server->http) : 0;
}

void fl_bulk_server_drain(struct fl_bulk_server *server, int64_t deadline_ms, fl_loop_fn *done,
                          void *user)
{
    fl_http_server_drain(server->http, deadline_ms, done, user);
}

struct fl_bulk_server_stats fl_bulk_server_stats(const struct fl_bulk_server *server)
{
    struct fl_bulk_server_stats stats = server->stats;
    void *cursor = NULL, *value;
    const char *key;

    stats.uploads = fl_map_count(server->uploads);
    while (fl_map_next(server->uploads, &cursor, &key, &value))
        stats.complete += ((const struct fl_bulk_incoming *)value)->state.complete;
    if (server->http)
        stats.http = fl_http_server_stats(server->http);
    return stats;
}
