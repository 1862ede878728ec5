#define FL_ALLOW_BANNED
#include "lib/http_server_internal.h"

#include <assert.h>
#include <event2/event.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_ROUNDS 8 /* reads before other connections have their turn */
/* A body that trickles makes progress only every so many bytes, so that its rate has a floor. */
#define PROGRESS_BYTES   ((size_t)4096)
#define BODY_START_BYTES ((size_t)64 * 1024) /* reserved on the strength of a Content-Length */

/* Ends. */

static void end_request(struct fl_http_conn *conn)
{
    struct fl_http_request *request = conn->request;

    if (!request)
        return;
    conn->request = NULL;
    if (request->body.data) {
        conn->server->bytes_buffered -= conn->buffered;
        conn->buffered = 0;
        fl_buf_finish(&request->body);
    }
    fl_http_return_arena(conn->server, request->arena);
}

void fl_http_conn_close(struct fl_http_conn *conn)
{
    if (conn->state == FL_HTTP_CLOSED)
        return;
    conn->state = FL_HTTP_CLOSED;
    (void)event_del(&conn->read_event);
    (void)event_del(&conn->write_event);
    conn->reading = conn->writing = false;
    fl_http_out_drop(conn);
    fl_http_wait(conn, FL_HTTP_WAIT_NONE);
    (void)close(conn->fd);
    conn->fd = -1;
    fl_http_bury(conn);
}

/* Politely: the peer is told that this was all. */
static void end_connection(struct fl_http_conn *conn)
{
    fl_http_io_end(conn);
    fl_http_conn_close(conn);
}

/* Closing a socket with unread input resets the connection, and the reset can overtake the answer:
 * so the rest is taken and thrown away for a while. */
static void linger(struct fl_http_conn *conn)
{
    fl_http_io_end(conn);
    if (conn->peer_ended || !fl_http_io_discard(conn)) {
        fl_http_conn_close(conn);
        return;
    }
    conn->state = FL_HTTP_LINGERING;
    fl_http_wait(conn, FL_HTTP_WAIT_LINGER);
    fl_http_io_listen(conn, true);
}

void fl_http_conn_free(struct fl_http_conn *conn)
{
    struct fl_http_request *request = conn->request;

    if (request && !request->answered && request->gone) {
        request->answered = true;
        request->gone(request->gone_user);
    }
    if (conn->asked)
        fl_http_ask_free(conn->asked);
    end_request(conn);
    fl_buf_finish(&conn->in);
    conn->server->bytes_buffered -= conn->buffered;
    SSL_free(conn->ssl);
    free(conn->peer);
    free(conn);
}

/* Answers with an error of the server's own, and ends the connection after it. */
static void fail(struct fl_http_conn *conn, int status, const char *detail)
{
    struct fl_http_request *request = conn->request;

    conn->close_after = conn->linger = true;
    if (request && request->gone && !request->answered) {
        fl_loop_fn *gone = request->gone;

        request->gone = NULL;
        gone(request->gone_user);
    }
    if (conn->state != FL_HTTP_CLOSED)
        fl_http_reply_fault(conn, status, detail);
}

void fl_http_conn_expire(struct fl_http_conn *conn)
{
    if (conn->state == FL_HTTP_HEAD)
        fail(conn, 408, "the request header took too long");
    else if (conn->state == FL_HTTP_BODY)
        fail(conn, 408, "the request body took too long");
    else if (conn->state == FL_HTTP_IDLE)
        end_connection(conn);
    else
        fl_http_conn_close(conn);
}

/* Heads. */

static void idle(struct fl_http_conn *conn)
{
    conn->state = FL_HTTP_IDLE;
    conn->scanned = 0;
    fl_http_wait(conn, FL_HTTP_WAIT_IDLE);
    fl_http_io_listen(conn, true);
}

static void dispatch(struct fl_http_conn *conn)
{
    struct fl_http_server *server = conn->server;

    conn->state = FL_HTTP_HANDLING;
    conn->request->handed = true;
    fl_http_wait(conn, FL_HTTP_WAIT_NONE);
    server->options.handler(server->options.user, conn->request);
}

static bool body_is_complete(const struct fl_http_request *request)
{
    return !request->head.chunked && request->body_left == 0;
}

static void expect_body(struct fl_http_conn *conn, bool some_has_come)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct fl_http_request *request = conn->request;

    conn->progress = 0;
    fl_http_wait(conn, FL_HTTP_WAIT_BODY);
    if (request->head.expect_continue && !some_has_come)
        fl_http_out_send(conn, go_on, sizeof(go_on) - 1);
    if (conn->state == FL_HTTP_BODY && conn->wait != FL_HTTP_WAIT_BODY)
        fl_http_wait(conn, FL_HTTP_WAIT_BODY);
}

static void begin_request(struct fl_http_conn *conn, bool more_has_come)
{
    struct fl_http_server *server = conn->server;
    struct fl_http_request *request = conn->request;

    server->requests_total++;
    request->max_body_bytes = server->options.max_body_bytes;
    request->body_left =
        request->head.content_length > 0 ? (uint64_t)request->head.content_length : 0;
    fl_buf_init(&request->body, 0);
    conn->close_after = !request->head.keep_alive || server->leaving;
    conn->state = FL_HTTP_BODY;
    if (server->options.begin) {
        request->beginning = true;
        server->options.begin(server->options.user, request);
        request->beginning = false;
        if (conn->state != FL_HTTP_BODY)
            return;
    }
    if (request->body_left > request->max_body_bytes)
        fail(conn, 413, "the request body is too large");
    else if (body_is_complete(request))
        dispatch(conn);
    else
        expect_body(conn, more_has_come);
}

static struct fl_http_request *create_request(struct fl_http_conn *conn)
{
    struct fl_arena *arena = fl_http_take_arena(conn->server);
    struct fl_http_request *request = fl_new(arena, struct fl_http_request);

    request->arena = arena;
    request->conn = conn;
    request->started_ms = fl_http_now_ms(conn->server);
    return request;
}

static size_t wait_for_head(struct fl_http_conn *conn, const char *data, size_t len,
                            const struct fl_http_fault *fault)
{
    if (fault->status)
        fail(conn, fault->status, fault->detail);
    else if (len < conn->server->options.max_header_bytes)
        return 0;
    else if (memchr(data, '\n', len))
        fail(conn, 431, "the request header is too large");
    else
        fail(conn, 414, "the request line is too long");
    return 0;
}

/* Returns the bytes taken; 0: the head is not complete. */
static size_t take_head(struct fl_http_conn *conn, const char *data, size_t len)
{
    const struct fl_http_server_options *options = &conn->server->options;
    struct fl_http_fault fault;
    size_t blank = 0, bound, end;

    if (conn->state == FL_HTTP_IDLE) {
        blank = fl_http_blank_prefix(data, len);
        if (blank == len)
            return blank;
        conn->state = FL_HTTP_HEAD;
        conn->scanned = 0;
    }
    data += blank;
    len -= blank;
    bound = len < options->max_header_bytes ? len : options->max_header_bytes;
    end = fl_http_head_end(data, bound, &conn->scanned, &fault);
    if (end == 0) {
        if (conn->wait != FL_HTTP_WAIT_HEAD)
            fl_http_wait(conn, FL_HTTP_WAIT_HEAD);
        return blank + wait_for_head(conn, data, bound, &fault);
    }
    conn->request = create_request(conn);
    if (fl_http_head_parse(conn->request->arena, fl_arena_strndup(conn->request->arena, data, end),
                           end, options->max_headers, &conn->request->head, &fault))
        begin_request(conn, len > end);
    else
        fail(conn, fault.status, fault.detail);
    return blank + end;
}

/* Bodies. */

/* False: the request has failed, or the one who takes the body has had enough. */
static bool take_piece(struct fl_http_conn *conn, const char *data, size_t len)
{
    struct fl_http_request *request = conn->request;

    request->body_bytes += len;
    if (request->body_bytes > request->max_body_bytes) {
        fail(conn, 413, "the request body is too large");
        return false;
    }
    if (request->data) {
        if (request->data(request->data_user, data, len) < 0 && conn->state == FL_HTTP_BODY)
            fail(conn, 400, "the request body was refused");
        return conn->state == FL_HTTP_BODY;
    }
    if (!request->body.data && request->body_left > 0)
        fl_buf_reserve(&request->body, request->body_left + len < BODY_START_BYTES
                                           ? (size_t)request->body_left + len
                                           : BODY_START_BYTES);
    fl_buf_append(&request->body, data, len);
    return true;
}

static void note_progress(struct fl_http_conn *conn, size_t len)
{
    conn->progress += len;
    if (conn->state == FL_HTTP_BODY && conn->progress >= PROGRESS_BYTES) {
        conn->progress = 0;
        fl_http_wait(conn, FL_HTTP_WAIT_BODY);
    }
}

static size_t take_chunked(struct fl_http_conn *conn, const char *data, size_t len)
{
    const char *at = data, *piece;
    size_t left = len, piece_len;
    struct fl_http_fault fault;

    while (conn->state == FL_HTTP_BODY) {
        switch (
            fl_http_chunks_next(&conn->request->chunks, &at, &left, &piece, &piece_len, &fault)) {
        case FL_HTTP_CHUNK_MORE:
            return len - left;
        case FL_HTTP_CHUNK_DATA:
            note_progress(conn, piece_len);
            (void)take_piece(conn, piece, piece_len);
            break;
        case FL_HTTP_CHUNK_END:
            dispatch(conn);
            break;
        case FL_HTTP_CHUNK_FAULT:
            fail(conn, fault.status, fault.detail);
            break;
        }
    }
    return len - left;
}

static size_t take_body(struct fl_http_conn *conn, const char *data, size_t len)
{
    struct fl_http_request *request = conn->request;

    if (request->head.chunked)
        return take_chunked(conn, data, len);
    if (len > request->body_left)
        len = (size_t)request->body_left;
    request->body_left -= len;
    note_progress(conn, len);
    if (take_piece(conn, data, len) && request->body_left == 0)
        dispatch(conn);
    return len;
}

/* The state machine. */

/* What is left to do once a request was answered; true where the next one may be taken. */
static bool finish_answered(struct fl_http_conn *conn)
{
    if (conn->state != FL_HTTP_FLUSHING || conn->queued > 0)
        return conn->state == FL_HTTP_IDLE;
    end_request(conn);
    if (!conn->close_after) {
        idle(conn);
        return true;
    }
    if (conn->linger)
        linger(conn);
    else
        end_connection(conn);
    return false;
}

static size_t take(struct fl_http_conn *conn, const char *data, size_t len)
{
    size_t used = 0;

    while (used < len) {
        size_t n;

        if (conn->state == FL_HTTP_IDLE || conn->state == FL_HTTP_HEAD)
            n = take_head(conn, data + used, len - used);
        else if (conn->state == FL_HTTP_BODY)
            n = take_body(conn, data + used, len - used);
        else if (finish_answered(conn))
            continue;
        else
            break;
        used += n;
        if (n == 0 && conn->state == FL_HTTP_HEAD)
            break;
    }
    return used;
}

/* Keeps what was not taken; a connection with nothing to keep has no buffer. */
static void keep_rest(struct fl_http_conn *conn, const char *data, size_t len)
{
    if (len == 0 || conn->state >= FL_HTTP_LINGERING) {
        fl_buf_finish(&conn->in);
    } else if (conn->in.len == 0) {
        fl_buf_append(&conn->in, data, len);
    } else {
        memmove(conn->in.data, data, len);
        conn->in.len = len;
    }
}

static void read_or_wait(struct fl_http_conn *conn)
{
    bool want = conn->state < FL_HTTP_FLUSHING && !conn->peer_ended;

    if (conn->state >= FL_HTTP_LINGERING)
        return;
    if (conn->state >= FL_HTTP_HANDLING && conn->in.len >= FL_HTTP_PIPELINE_BYTES)
        want = false;
    fl_http_io_listen(conn, want);
}

static void count_buffered(struct fl_http_conn *conn)
{
    size_t now = conn->in.cap + (conn->request ? conn->request->body.cap : 0);

    conn->server->bytes_buffered += now - conn->buffered; /* modulo 2^64, also downwards */
    conn->buffered = now;
}

/* Each request has its bounds; all together have one too. Those that are complete finish. */
static void refuse_beyond_bound(struct fl_http_conn *conn)
{
    count_buffered(conn);
    if (conn->server->bytes_buffered <= conn->server->options.max_buffered_bytes ||
        (conn->state != FL_HTTP_HEAD && conn->state != FL_HTTP_BODY))
        return;
    conn->server->refused_total++;
    fail(conn, 503, "too many requests are coming in at once");
}

static void process(struct fl_http_conn *conn, const char *data, size_t len)
{
    size_t used;

    conn->processing = true;
    if (conn->in.len > 0) {
        fl_buf_append(&conn->in, data, len);
        data = conn->in.data;
        len = conn->in.len;
    }
    used = take(conn, data, len);
    (void)finish_answered(conn);
    keep_rest(conn, data + used, len - used);
    conn->processing = false;
    refuse_beyond_bound(conn);
    read_or_wait(conn);
}

void fl_http_conn_settle(struct fl_http_conn *conn)
{
    if (conn->state == FL_HTTP_CLOSED || !finish_answered(conn))
        return;
    process(conn, "", 0);
    if (conn->peer_ended && conn->state <= FL_HTTP_BODY)
        fl_http_conn_close(conn);
}

/* The peer sends no more. It may still want the answer to a request it has sent in full; a stream
 * has no such end, so its reader is taken for gone. */
static void peer_ended(struct fl_http_conn *conn)
{
    conn->peer_ended = true;
    if (conn->state == FL_HTTP_HANDLING || conn->state == FL_HTTP_FLUSHING)
        fl_http_io_listen(conn, false);
    else if (conn->state == FL_HTTP_IDLE)
        end_connection(conn);
    else
        fl_http_conn_close(conn);
}

/* Somebody who speaks plain HTTP to the TLS port is told so, in plain HTTP. */
static void handshake_failed(struct fl_http_conn *conn)
{
    bool plain_http = ERR_GET_REASON(ERR_peek_error()) == SSL_R_HTTP_REQUEST;

    ERR_clear_error();
    if (!plain_http) {
        fl_http_conn_close(conn);
        return;
    }
    SSL_free(conn->ssl);
    conn->ssl = NULL;
    fail(conn, 400, "a plain HTTP request was sent to an HTTPS port");
}

static void open_for_requests(struct fl_http_conn *conn)
{
    idle(conn);
    if (conn->refused)
        fail(conn, 503, "too many connections");
}

static bool handshake(struct fl_http_conn *conn)
{
    int r = fl_http_io_handshake(conn);

    if (r == FL_HTTP_IO_AGAIN)
        return false;
    if (r < 0) {
        handshake_failed(conn);
        return false;
    }
    open_for_requests(conn);
    return conn->state == FL_HTTP_IDLE;
}

static void read_more(struct fl_http_conn *conn)
{
    struct fl_http_server *server = conn->server;
    bool more = true;

    if (conn->state == FL_HTTP_HANDSHAKE && !handshake(conn))
        return;
    if (conn->state == FL_HTTP_LINGERING) {
        if (!fl_http_io_discard(conn))
            fl_http_conn_close(conn);
        return;
    }
    for (int i = 0; more && conn->reading; i++) {
        ssize_t n;

        if (i == READ_ROUNDS) { /* TLS may hold bytes of which the socket knows nothing */
            event_active(&conn->read_event, EV_READ, 0);
            return;
        }
        /* Behind an unanswered request little is taken ahead. */
        n = fl_http_io_read(conn, server->scratch,
                            conn->state < FL_HTTP_HANDLING ? sizeof(server->scratch)
                                                           : FL_HTTP_PIPELINE_BYTES,
                            &more);
        if (n > 0)
            process(conn, server->scratch, (size_t)n);
        else if (n == FL_HTTP_IO_END)
            peer_ended(conn);
        else if (n == FL_HTTP_IO_BROKEN)
            fl_http_conn_close(conn);
    }
}

static void on_readable(evutil_socket_t fd, short what, void *user)
{
    (void)fd;
    (void)what;
    read_more(user);
}

/* A stream's reader has taken all there was: its writer may go on. */
static void tell_drained(struct fl_http_conn *conn)
{
    const struct fl_http_request *request = conn->request;

    if (conn->state == FL_HTTP_STREAMING && conn->queued == 0 && request->drained)
        request->drained(request->drained_user);
}

static void on_writable(evutil_socket_t fd, short what, void *user)
{
    struct fl_http_conn *conn = user;

    (void)fd;
    (void)what;
    if (conn->state == FL_HTTP_HANDSHAKE) {
        conn->writing = false;
        (void)event_del(&conn->write_event);
        read_more(conn);
        return;
    }
    fl_http_out_flush(conn);
    tell_drained(conn);
    fl_http_conn_settle(conn);
    if (conn->state != FL_HTTP_CLOSED && conn->ssl && conn->reading)
        read_more(conn); /* where a read had to write first */
}

void fl_http_conn_start(struct fl_http_conn *conn)
{
    struct event_base *base = conn->server->base;

    (void)event_assign(&conn->read_event, base, conn->fd, EV_READ | EV_PERSIST, on_readable, conn);
    (void)event_assign(&conn->write_event, base, conn->fd, EV_WRITE | EV_PERSIST, on_writable,
                       conn);
    if (!conn->ssl) {
        open_for_requests(conn);
        return;
    }
    conn->state = FL_HTTP_HANDSHAKE;
    fl_http_wait(conn, FL_HTTP_WAIT_HEAD);
    fl_http_io_listen(conn, true);
}
