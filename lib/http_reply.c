#include "lib/http_server_internal.h"

#include "lib/process.h"
#include "lib/str.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Answers up to this size are put behind their head and written in one go. */
#define INLINE_BYTES (FL_HTTP_RECORD_BYTES - 1024)

/* The head of an answer. */

static const char *date_of(struct fl_http_server *server)
{
    int64_t now = fl_realtime_us(server->options.env) / 1000000;

    if (now != server->date_second) {
        static const char days[] = "SunMonTueWedThuFriSat";
        static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
        time_t seconds = (time_t)now;
        struct tm tm;

        (void)gmtime_r(&seconds, &tm);
        server->date_second = now;
        /* Not %a and %b: those depend on the locale. */
        (void)strftime(server->date, sizeof(server->date), "xxx, %d xxx %Y %H:%M:%S GMT", &tm);
        memcpy(server->date, &days[tm.tm_wday * 3], 3);
        memcpy(server->date + 8, &months[tm.tm_mon * 3], 3);
    }
    return server->date;
}

static void put_number(struct fl_buf *out, uint64_t number)
{
    char digits[20];
    size_t at = sizeof(digits);

    do
        digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    fl_buf_append(out, digits + at, sizeof(digits) - at);
}

/* A line break in a value would begin a header that nobody meant. */
static void put_value(struct fl_buf *out, const char *value)
{
    size_t start = out->len;

    fl_buf_puts(out, value);
    for (size_t i = start; i < out->len; i++)
        if ((unsigned char)out->data[i] < ' ' || out->data[i] == 0x7F)
            out->data[i] = ' ';
}

static void put_header(struct fl_buf *out, const char *name, const char *value)
{
    fl_buf_puts(out, name);
    fl_buf_append(out, ": ", 2);
    put_value(out, value);
    fl_buf_append(out, "\r\n", 2);
}

static void put_status(struct fl_buf *out, int status)
{
    assert(status >= 200 && status <= 599);

    fl_buf_puts(out, "HTTP/1.1 ");
    put_number(out, (uint64_t)status);
    fl_buf_putc(out, ' ');
    fl_buf_puts(out, fl_http_status_text(status));
}

static void put_head(struct fl_http_conn *conn, int status, const char *content_type)
{
    struct fl_buf *out = &conn->server->reply;
    const struct fl_http_request *request = conn->request;

    fl_buf_clear(out);
    put_status(out, status);
    fl_buf_puts(out, "\r\nDate: ");
    fl_buf_puts(out, date_of(conn->server));
    fl_buf_append(out, "\r\n", 2);
    if (content_type)
        put_header(out, "Content-Type", content_type);
    for (const struct fl_http_reply_header *header = request ? request->headers : NULL; header;
         header = header->next)
        put_header(out, header->name, header->value);
    if (conn->close_after)
        fl_buf_puts(out, "Connection: close\r\n");
    else if (request && request->head.minor == 0)
        fl_buf_puts(out, "Connection: keep-alive\r\n");
}

static bool has_no_body(int status)
{
    return status == 204 || status == 304;
}

static bool is_head(const struct fl_http_request *request)
{
    return request && request->head.method && strcmp(request->head.method, "HEAD") == 0;
}

static void put_length(struct fl_buf *out, int status, uint64_t len)
{
    if (!has_no_body(status)) {
        fl_buf_puts(out, "Content-Length: ");
        put_number(out, len);
        fl_buf_append(out, "\r\n", 2);
    }
    fl_buf_append(out, "\r\n", 2);
}

/* Answering. */

/* False where there is nobody to answer any more. */
static bool claim(struct fl_http_request *request)
{
    struct fl_http_conn *conn = request->conn;

    assert(!request->answered && conn->state != FL_HTTP_STREAMING);
    request->answered = true;
    if (conn->state == FL_HTTP_CLOSED) {
        fl_http_bury(conn);
        return false;
    }
    /* An answer before the end of the body: what follows on the wire is not a request. */
    if (conn->state == FL_HTTP_BODY && (request->head.chunked || request->body_left > 0))
        conn->close_after = conn->linger = true;
    if (conn->server->leaving)
        conn->close_after = true;
    return true;
}

static void send_reply(struct fl_http_conn *conn)
{
    const struct fl_buf *out = &conn->server->reply;

    conn->state = FL_HTTP_FLUSHING;
    fl_http_wait(conn, FL_HTTP_WAIT_NONE);
    fl_http_out_send(conn, out->data, out->len);
    fl_http_settle_later(conn);
}

/* Queues the head; the body follows it into the queue before anything is written. */
static void queue_reply(struct fl_http_conn *conn)
{
    const struct fl_buf *out = &conn->server->reply;

    conn->state = FL_HTTP_FLUSHING;
    fl_http_wait(conn, FL_HTTP_WAIT_NONE);
    fl_http_out_copy(conn, out->data, out->len);
}

static void flush_reply(struct fl_http_conn *conn)
{
    fl_http_out_flush(conn);
    fl_http_settle_later(conn);
}

void fl_http_respond(struct fl_http_request *request, int status, const char *content_type,
                     const void *data, size_t len)
{
    struct fl_http_conn *conn = request->conn;
    struct fl_buf *out = &conn->server->reply;
    bool body = !is_head(request) && !has_no_body(status);

    if (!claim(request))
        return;
    if (conn->asked) {
        fl_http_ask_answer(request, status, content_type, fl_bytes_new(data, body ? len : 0));
        return;
    }
    put_head(conn, status, content_type);
    put_length(out, status, len);
    if (!body || len <= INLINE_BYTES) {
        if (body)
            fl_buf_append(out, data, len);
        send_reply(conn);
        return;
    }
    queue_reply(conn);
    fl_http_out_copy(conn, data, len);
    flush_reply(conn);
}

/* One part is shared, several are put together. */
static struct fl_bytes *join(struct fl_bytes *const *parts, size_t count)
{
    struct fl_bytes *whole;
    struct fl_buf buf;

    if (count == 1)
        return fl_bytes_ref(parts[0]);
    fl_buf_init(&buf, 0);
    for (size_t i = 0; i < count; i++)
        fl_buf_append(&buf, parts[i]->data, parts[i]->len);
    whole = fl_buf_to_bytes(&buf);
    fl_buf_finish(&buf);
    return whole;
}

void fl_http_respond_bytes(struct fl_http_request *request, int status, const char *content_type,
                           struct fl_bytes *const *parts, size_t count)
{
    struct fl_http_conn *conn = request->conn;
    struct fl_buf *out = &conn->server->reply;
    bool body = !is_head(request) && !has_no_body(status);
    size_t len = 0;

    if (!claim(request))
        return;
    if (conn->asked) {
        fl_http_ask_answer(request, status, content_type, join(parts, body ? count : 0));
        return;
    }
    for (size_t i = 0; i < count; i++)
        len += parts[i]->len;
    put_head(conn, status, content_type);
    put_length(out, status, len);
    if (!body || len <= INLINE_BYTES) {
        for (size_t i = 0; body && i < count; i++)
            fl_buf_append(out, parts[i]->data, parts[i]->len);
        send_reply(conn);
        return;
    }
    queue_reply(conn);
    for (size_t i = 0; i < count; i++)
        fl_http_out_bytes(conn, parts[i]);
    flush_reply(conn);
}

void fl_http_respond_buf(struct fl_http_request *request, int status, const char *content_type,
                         struct fl_buf *buf)
{
    struct fl_http_conn *conn = request->conn;

    if (buf->len <= INLINE_BYTES || is_head(request) || has_no_body(status) || conn->asked) {
        fl_http_respond(request, status, content_type, fl_buf_text(buf), buf->len);
        fl_buf_finish(buf);
        return;
    }
    if (claim(request)) {
        size_t len = buf->len;

        put_head(conn, status, content_type);
        put_length(&conn->server->reply, status, len);
        queue_reply(conn);
        fl_http_out_heap(conn, fl_buf_steal(buf), len);
        flush_reply(conn);
    }
    fl_buf_finish(buf);
}

/* Of the process itself: it wants the bytes, not the file. */
static struct fl_bytes *read_part(int fd, uint64_t offset, size_t len)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = fl_bytes_new(NULL, len);
    size_t used = 0;

    while (used < len) {
        ssize_t n = pread(fd, bytes->data + used, len - used, (off_t)(offset + used));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return NULL;
        used += (size_t)n;
    }
    return FL_TAKE(bytes);
}

static void ask_answer_file(struct fl_http_request *request, int status, const char *content_type,
                            int fd, uint64_t offset, size_t len)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    struct fl_error err = {0};

    if (len > request->conn->server->options.max_buffered_bytes)
        (void)fl_error_set(&err, FL_E_TOO_LARGE, "a file of %zu bytes is not for memory", len);
    else if (!(bytes = read_part(fd, offset, len)))
        (void)fl_error_set(&err, FL_E_UNAVAILABLE, "the file is shorter than it was");
    if (bytes)
        fl_http_ask_answer(request, status, content_type, FL_TAKE(bytes));
    else
        fl_http_ask_fail(request->conn->asked, &err);
}

void fl_http_respond_file(struct fl_http_request *request, int status, const char *content_type,
                          int fd, uint64_t offset, uint64_t len)
{
    FL_CLEANUP(fl_fd_closep) int owned = fd;
    struct fl_http_conn *conn = request->conn;
    bool body = len > 0 && !is_head(request) && !has_no_body(status);

    assert(fd >= 0);

    if (!claim(request))
        return;
    if (conn->asked) {
        ask_answer_file(request, status, content_type, fd, offset, body ? len : 0);
        return;
    }
    put_head(conn, status, content_type);
    put_length(&conn->server->reply, status, len);
    if (!body) {
        send_reply(conn);
        return;
    }
    queue_reply(conn);
    fl_http_out_file(conn, owned, offset, len);
    owned = -1;
    flush_reply(conn);
}

/* For errors the server finds itself: there may be no request yet, or half of one. */
void fl_http_reply_fault(struct fl_http_conn *conn, int status, const char *detail)
{
    struct fl_http_server *server = conn->server;
    const char *content_type = "text/plain";
    struct fl_buf body;

    fl_buf_init(&body, 0);
    if (server->options.error_body)
        server->options.error_body(server->options.user, status, detail, &body, &content_type);
    else
        fl_buf_printf(&body, "%s\n", detail);
    if (conn->request) {
        conn->request->answered = true;
        conn->request->headers = NULL;
    }
    put_head(conn, status, content_type);
    put_length(&server->reply, status, body.len);
    if (!is_head(conn->request))
        fl_buf_append(&server->reply, fl_buf_text(&body), body.len);
    fl_buf_finish(&body);
    send_reply(conn);
}

static void append_header(struct fl_http_request *request, const char *name, const char *value)
{
    struct fl_http_reply_header **at = &request->headers;

    while (*at)
        at = &(*at)->next;
    *at = fl_new(request->arena, struct fl_http_reply_header);
    (*at)->name = fl_arena_strdup(request->arena, name);
    (*at)->value = fl_arena_strdup(request->arena, value);
}

void fl_http_add_header(struct fl_http_request *request, const char *name, const char *value)
{
    append_header(request, name, value);
}

void fl_http_set_header(struct fl_http_request *request, const char *name, const char *value)
{
    struct fl_http_reply_header **at = &request->headers;

    while (*at) {
        if (strcasecmp((*at)->name, name) == 0)
            *at = (*at)->next;
        else
            at = &(*at)->next;
    }
    append_header(request, name, value);
}

/* Streams. */

void fl_http_stream_begin(struct fl_http_request *request, int status, const char *content_type)
{
    struct fl_http_conn *conn = request->conn;
    struct fl_buf *out = &conn->server->reply;

    if (!claim(request)) {
        return;
    }
    request->answered = false; /* it is the owner's until the end of the stream */
    if (conn->asked) {
        fl_http_ask_stream(request, status, content_type);
        return;
    }
    request->chunked = request->head.minor == 1;
    if (!request->chunked)
        conn->close_after = true;
    put_head(conn, status, content_type);
    if (request->chunked)
        fl_buf_puts(out, "Transfer-Encoding: chunked\r\n");
    fl_buf_append(out, "\r\n", 2);
    conn->state = FL_HTTP_STREAMING;
    fl_http_wait(conn, FL_HTTP_WAIT_NONE);
    fl_http_out_send(conn, out->data, out->len);
    /* A peer that ended before is noticed (again) by reading. */
    if (conn->state == FL_HTTP_STREAMING && conn->peer_ended)
        fl_http_io_listen(conn, true);
}

static void put_size_line(struct fl_buf *out, size_t len)
{
    char digits[2 * sizeof(len)];
    size_t at = sizeof(digits);

    do
        digits[--at] = "0123456789abcdef"[len & 15];
    while (len >>= 4);
    fl_buf_append(out, digits + at, sizeof(digits) - at);
    fl_buf_append(out, "\r\n", 2);
}

enum verdict { WRITE, IGNORE, REFUSE };

static enum verdict may_write(const struct fl_http_request *request, size_t len)
{
    const struct fl_http_conn *conn = request->conn;

    if (conn->state == FL_HTTP_CLOSED) /* its end is on the way */
        return IGNORE;
    assert(conn->state == FL_HTTP_STREAMING);
    if (len == 0 || is_head(request))
        return IGNORE;
    return conn->queued > 0 && conn->queued + len > conn->server->options.max_queued_bytes ? REFUSE
                                                                                           : WRITE;
}

/* A frame in one piece: one write, one TLS record. */
static void send_frame(struct fl_http_request *request, const char *data, size_t len)
{
    struct fl_buf *out = &request->conn->server->reply;

    if (request->conn->asked) {
        fl_http_ask_collect(request, data, len);
        return;
    }
    fl_buf_clear(out);
    if (request->chunked)
        put_size_line(out, len);
    fl_buf_append(out, data, len);
    if (request->chunked)
        fl_buf_append(out, "\r\n", 2);
    fl_http_out_send(request->conn, out->data, out->len);
}

bool fl_http_stream_write(struct fl_http_request *request, const void *data, size_t len)
{
    enum verdict verdict = may_write(request, len);

    if (verdict == WRITE)
        send_frame(request, data, len);
    return verdict != REFUSE;
}

bool fl_http_stream_write_bytes(struct fl_http_request *request, struct fl_bytes *bytes)
{
    struct fl_http_conn *conn = request->conn;
    struct fl_buf *out = &conn->server->reply;
    enum verdict verdict = may_write(request, bytes->len);

    if (verdict != WRITE)
        return verdict != REFUSE;
    if (conn->asked || (bytes->len <= INLINE_BYTES && (conn->queued == 0 || bytes->len <= 1024))) {
        send_frame(request, bytes->data, bytes->len);
        return true;
    }
    fl_buf_clear(out);
    if (request->chunked)
        put_size_line(out, bytes->len);
    fl_http_out_copy(conn, out->data, out->len);
    fl_http_out_bytes(conn, bytes);
    if (request->chunked)
        fl_http_out_copy(conn, "\r\n", 2);
    fl_http_out_push(conn);
    return true;
}

size_t fl_http_stream_queued(const struct fl_http_request *request)
{
    const struct fl_http_conn *conn = request->conn;

    return conn->state == FL_HTTP_CLOSED ? conn->server->options.max_queued_bytes : conn->queued;
}

void fl_http_stream_end(struct fl_http_request *request)
{
    struct fl_http_conn *conn = request->conn;

    assert(!request->answered);
    request->answered = true;
    if (conn->state == FL_HTTP_CLOSED) {
        fl_http_bury(conn);
        return;
    }
    assert(conn->state == FL_HTTP_STREAMING);
    if (conn->asked) {
        fl_http_ask_stream_end(request);
        return;
    }
    conn->state = FL_HTTP_FLUSHING;
    if (request->chunked && !is_head(request))
        fl_http_out_send(conn, "0\r\n\r\n", 5);
    fl_http_settle_later(conn);
}

void fl_http_abort(struct fl_http_request *request)
{
    struct fl_http_conn *conn = request->conn;
    struct linger reset = {.l_onoff = 1};

    request->answered = true;
    if (conn->state == FL_HTTP_CLOSED) {
        fl_http_bury(conn);
        return;
    }
    if (conn->asked) {
        struct fl_error err = {0};

        (void)fl_error_set(&err, FL_E_UNAVAILABLE, "the answer was broken off");
        fl_http_ask_fail(conn->asked, &err);
        return;
    }
    /* Where the end of the connection is the end of the answer, only a reset tells them apart. */
    if (conn->state == FL_HTTP_STREAMING && !request->chunked)
        (void)setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    fl_http_conn_close(conn);
}
