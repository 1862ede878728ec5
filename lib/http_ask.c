#include "lib/http_server_internal.h"

#include "lib/str.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HERE "127.0.0.1"

const char *fl_http_answer_header(const struct fl_http_answer *answer, const char *name)
{
    for (size_t i = 0; i < answer->header_count; i++)
        if (strcasecmp(answer->headers[i].name, name) == 0)
            return answer->headers[i].value;
    return NULL;
}

/* The request. */

static void copy_head(struct fl_arena *arena, const struct fl_http_ask *ask,
                      struct fl_http_head *head)
{
    const char *query = strchr(ask->target, '?');

    head->method = fl_arena_strdup(arena, ask->method);
    head->target = fl_arena_strdup(arena, ask->target);
    head->path =
        query ? fl_arena_strndup(arena, ask->target, (size_t)(query - ask->target)) : head->target;
    head->query = query ? fl_arena_strdup(arena, query + 1) : "";
    head->fields = fl_new_array(arena, struct fl_http_field, ask->header_count);
    for (size_t i = 0; i < ask->header_count; i++) {
        if (!ask->headers[i].value)
            continue;
        head->fields[head->field_count++] = (struct fl_http_field){
            .name = fl_arena_strdup(arena, ask->headers[i].name),
            .value = fl_arena_strdup(arena, ask->headers[i].value),
            .name_len = strlen(ask->headers[i].name),
        };
    }
    head->minor = 1;
    head->content_length = ask->body ? (int64_t)ask->body->len : -1;
}

static struct fl_http_request *make_request(struct fl_http_conn *conn,
                                            const struct fl_http_ask *ask)
{
    struct fl_arena *arena = fl_http_take_arena(conn->server);
    struct fl_http_request *request = fl_new(arena, struct fl_http_request);

    request->arena = arena;
    request->conn = conn;
    request->started_ms = fl_http_now_ms(conn->server);
    request->handed = true;
    copy_head(arena, ask, &request->head);
    if (ask->body) { /* lent: fl_http_ask_free takes it back */
        request->body.data = ask->body->data;
        request->body.len = ask->body->len;
    }
    return request;
}

static struct fl_http_asked *begin(struct fl_http_server *server, const struct fl_http_ask *ask)
{
    struct fl_http_conn *conn = fl_calloc(1, sizeof(*conn));
    struct fl_http_asked *asked = fl_calloc(1, sizeof(*asked));

    conn->server = server;
    conn->asked = asked;
    conn->fd = -1;
    conn->state = FL_HTTP_HANDLING;
    conn->wait = FL_HTTP_WAIT_NONE;
    TAILQ_INIT(&conn->out);
    memcpy(conn->address, HERE, sizeof(HERE));
    if (ask->peer) {
        conn->peer = fl_malloc(sizeof(*conn->peer));
        *conn->peer = *ask->peer;
    }
    asked->conn = conn;
    asked->max_stream_bytes = ask->max_stream_bytes;
    asked->body = ask->body ? fl_bytes_ref(ask->body) : NULL;
    conn->request = make_request(conn, ask);
    TAILQ_INSERT_TAIL(&server->asks, conn, all_link);
    server->ask_count++;
    server->requests_total++;
    return asked;
}

static int check(const struct fl_http_server *server, const struct fl_http_ask *ask,
                 struct fl_error *err)
{
    assert(ask->method && ask->target && ask->target[0] == '/');
    if (server->closing)
        return fl_error_set(err, FL_E_UNAVAILABLE, "the server is closing");
    if (ask->body && ask->body->len > server->options.max_body_bytes)
        return fl_error_set(err, FL_E_TOO_LARGE, "the request body is too large");
    return 0;
}

/* False: it was answered at once and is gone. */
static bool run_handler(struct fl_http_conn *conn)
{
    struct fl_http_server *server = conn->server;

    conn->processing = true;
    server->options.handler(server->options.user, conn->request);
    conn->processing = false;
    if (conn->state != FL_HTTP_CLOSED)
        return true;
    if (!conn->request->answered || conn->buried) {
        fl_http_bury(conn);
        return true;
    }
    fl_http_forget(conn);
    if (server->draining)
        fl_timer_fire(server->reaper);
    return false;
}

struct fl_http_asked *fl_http_server_ask(struct fl_http_server *server,
                                         const struct fl_http_ask *ask, fl_http_answered_fn *done,
                                         void *user)
{
    struct fl_http_asked *asked;
    struct fl_error err = {0};

    if (check(server, ask, &err) < 0) {
        done(user, NULL, &err);
        return NULL;
    }
    asked = begin(server, ask);
    asked->done = done;
    asked->user = user;
    return run_handler(asked->conn) && asked->done ? asked : NULL;
}

/* Its end. */

static void close_ask(struct fl_http_conn *conn)
{
    conn->state = FL_HTTP_CLOSED;
    if (!conn->processing)
        fl_http_bury(conn);
}

static void tell(struct fl_http_asked *asked, const struct fl_http_answer *answer,
                 const struct fl_error *err)
{
    fl_http_answered_fn *done = FL_TAKE(asked->done);

    if (done)
        done(asked->user, answer, err);
}

void fl_http_ask_fail(struct fl_http_asked *asked, const struct fl_error *err)
{
    if (asked->conn->state != FL_HTTP_CLOSED)
        close_ask(asked->conn);
    tell(asked, NULL, err);
}

void fl_http_server_unask(struct fl_http_asked *asked)
{
    asked->done = NULL;
    close_ask(asked->conn);
}

static const struct fl_http_pair *list_headers(const struct fl_http_request *request,
                                               size_t *ret_count)
{
    const struct fl_http_reply_header *header;
    struct fl_http_pair *pairs;
    size_t count = 0;

    for (header = request->headers; header; header = header->next)
        count++;
    pairs = fl_new_array(request->arena, struct fl_http_pair, count);
    *ret_count = count;
    count = 0;
    for (header = request->headers; header; header = header->next)
        pairs[count++] = (struct fl_http_pair){header->name, header->value};
    return pairs;
}

void fl_http_ask_answer(struct fl_http_request *request, int status, const char *content_type,
                        struct fl_bytes *body)
{
    struct fl_http_answer answer = {
        .status = status,
        .content_type = content_type,
        .body = body,
    };

    answer.headers = list_headers(request, &answer.header_count);
    close_ask(request->conn);
    tell(request->conn->asked, &answer, NULL);
    fl_bytes_unref(body);
}

/* Streams. */

void fl_http_ask_stream(struct fl_http_request *request, int status, const char *content_type)
{
    struct fl_http_asked *asked = request->conn->asked;
    struct fl_error err = {0};

    if (asked->max_stream_bytes == 0) {
        (void)fl_error_set(&err, FL_E_METHOD_NOT_ALLOWED,
                           "the answer to %s %.200s is a stream, which cannot be taken here",
                           request->head.method, request->head.path);
        fl_http_ask_fail(asked, &err);
        return;
    }
    request->conn->state = FL_HTTP_STREAMING;
    asked->status = status;
    asked->content_type = content_type ? fl_arena_strdup(request->arena, content_type) : NULL;
    fl_buf_init(&asked->stream, asked->max_stream_bytes);
}

void fl_http_ask_collect(struct fl_http_request *request, const char *data, size_t len)
{
    struct fl_http_asked *asked = request->conn->asked;
    struct fl_error err = {0};

    fl_buf_append(&asked->stream, data, len);
    if (!asked->stream.overflow)
        return;
    (void)fl_error_set(&err, FL_E_TOO_LARGE, "the answer to %s %.200s has more than %zu bytes",
                       request->head.method, request->head.path, asked->max_stream_bytes);
    fl_http_ask_fail(asked, &err);
}

void fl_http_ask_stream_end(struct fl_http_request *request)
{
    struct fl_http_asked *asked = request->conn->asked;

    fl_http_ask_answer(request, asked->status, asked->content_type,
                       fl_buf_to_bytes(&asked->stream));
}

void fl_http_ask_free(struct fl_http_asked *asked)
{
    asked->conn->request->body = (struct fl_buf){0};
    fl_bytes_unref(asked->body);
    fl_buf_finish(&asked->stream);
    free(asked);
}
