#define FL_ALLOW_BANNED
#include "lib/http_server_internal.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define SMALL_BYTES   ((size_t)2048) /* copied instead of lent: cheaper than a segment of its own */
#define SEGMENT_BYTES ((size_t)2048)
#define VECTORS       16
#define FLUSH_ROUNDS  64 /* records written before other connections have their turn */
#define FILE_BYTES    ((size_t)256 * 1024) /* of a file, given to the kernel at once */

/* Sockets and TLS. */

static int tls_result(struct fl_http_conn *conn, int r)
{
    switch (SSL_get_error(conn->ssl, r)) {
    case SSL_ERROR_WANT_READ:
        return FL_HTTP_IO_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        /* Also for a read that has to write first: the write event then tries both. */
        if (!conn->writing) {
            conn->writing = true;
            (void)event_add(&conn->write_event, NULL);
        }
        return FL_HTTP_IO_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return FL_HTTP_IO_END;
    default:
        return FL_HTTP_IO_BROKEN;
    }
}

static int socket_result(ssize_t n)
{
    if (n == 0)
        return FL_HTTP_IO_END;
    return errno == EAGAIN || errno == EINTR ? FL_HTTP_IO_AGAIN : FL_HTTP_IO_BROKEN;
}

int fl_http_io_handshake(struct fl_http_conn *conn)
{
    int r;

    ERR_clear_error();
    r = SSL_do_handshake(conn->ssl);
    return r == 1 ? 1 : tls_result(conn, r);
}

ssize_t fl_http_io_read(struct fl_http_conn *conn, char *data, size_t len, bool *ret_more)
{
    ssize_t n;

    if (conn->ssl) {
        ERR_clear_error();
        n = SSL_read(conn->ssl, data, (int)len);
        *ret_more = n > 0 && SSL_has_pending(conn->ssl);
        return n > 0 ? n : tls_result(conn, (int)n);
    }
    n = recv(conn->fd, data, len, 0);
    *ret_more = n == (ssize_t)len;
    return n > 0 ? n : socket_result(n);
}

static ssize_t write_some(struct fl_http_conn *conn, const char *data, size_t len)
{
    ssize_t n;

    if (conn->ssl) {
        ERR_clear_error();
        n = SSL_write(conn->ssl, data, len < INT32_MAX ? (int)len : INT32_MAX);
        return n > 0 ? n : tls_result(conn, (int)n);
    }
    n = send(conn->fd, data, len, MSG_NOSIGNAL);
    return n > 0 ? n : socket_result(n);
}

void fl_http_io_listen(struct fl_http_conn *conn, bool reading)
{
    if (conn->reading == reading)
        return;
    conn->reading = reading;
    if (!reading) {
        (void)event_del(&conn->read_event);
        return;
    }
    (void)event_add(&conn->read_event, NULL);
    /* What TLS has read already will not make the socket readable again. */
    if (conn->ssl && SSL_has_pending(conn->ssl))
        event_active(&conn->read_event, EV_READ, 0);
}

void fl_http_io_end(struct fl_http_conn *conn)
{
    if (conn->ssl) {
        ERR_clear_error();
        (void)SSL_shutdown(conn->ssl);
        ERR_clear_error();
    }
    (void)shutdown(conn->fd, SHUT_WR);
}

/* Below TLS: what is thrown away need not be decrypted, nor copied. */
bool fl_http_io_discard(struct fl_http_conn *conn)
{
    for (int i = 0; i < 16; i++) {
        ssize_t n = recv(conn->fd, NULL, (size_t)1 << 20, MSG_TRUNC);

        if (n <= 0)
            return socket_result(n) == FL_HTTP_IO_AGAIN;
    }
    return true;
}

/* The queue. */

static struct fl_http_segment *add_segment(struct fl_http_conn *conn, size_t room)
{
    struct fl_http_segment *segment = fl_malloc(sizeof(*segment) + room);

    *segment = (struct fl_http_segment){.room = room};
    TAILQ_INSERT_TAIL(&conn->out, segment, link);
    return segment;
}

static void count_queued(struct fl_http_conn *conn, size_t len)
{
    conn->queued += len;
    conn->server->bytes_queued += len;
}

void fl_http_out_copy(struct fl_http_conn *conn, const char *data, size_t len)
{
    struct fl_http_segment *segment = TAILQ_LAST(&conn->out, fl_http_segments);

    if (len == 0)
        return;
    if (!segment || segment->room < len) {
        size_t room = conn->queued < SEGMENT_BYTES ? SEGMENT_BYTES : FL_HTTP_RECORD_BYTES;

        segment = add_segment(conn, len > room ? len : room);
        segment->data = segment->copy;
    }
    memcpy((char *)segment->data + segment->len, data, len);
    segment->len += len;
    segment->room -= len;
    count_queued(conn, len);
}

void fl_http_out_bytes(struct fl_http_conn *conn, struct fl_bytes *bytes)
{
    struct fl_http_segment *segment;

    if (bytes->len < SMALL_BYTES) {
        fl_http_out_copy(conn, bytes->data, bytes->len);
        return;
    }
    segment = add_segment(conn, 0);
    segment->bytes = fl_bytes_ref(bytes);
    segment->data = bytes->data;
    segment->len = bytes->len;
    count_queued(conn, bytes->len);
}

void fl_http_out_heap(struct fl_http_conn *conn, char *heap, size_t len)
{
    struct fl_http_segment *segment = add_segment(conn, 0);

    segment->heap = heap;
    segment->data = heap;
    segment->len = len;
    count_queued(conn, len);
}

void fl_http_out_file(struct fl_http_conn *conn, int fd, uint64_t offset, size_t len)
{
    struct fl_http_segment *segment = add_segment(conn, 0);

    segment->is_file = true;
    segment->fd = fd;
    segment->offset = offset;
    segment->len = len;
    count_queued(conn, len);
}

static void drop_first(struct fl_http_conn *conn)
{
    struct fl_http_segment *segment = TAILQ_FIRST(&conn->out);

    TAILQ_REMOVE(&conn->out, segment, link);
    if (segment->is_file)
        (void)close(segment->fd);
    fl_bytes_unref(segment->bytes);
    free(segment->heap);
    free(segment);
}

void fl_http_out_drop(struct fl_http_conn *conn)
{
    while (!TAILQ_EMPTY(&conn->out))
        drop_first(conn);
    conn->server->bytes_queued -= conn->queued;
    conn->queued = 0;
}

static void advance(struct fl_http_conn *conn, size_t len)
{
    conn->queued -= len;
    conn->server->bytes_queued -= len;
    while (len > 0) {
        struct fl_http_segment *segment = TAILQ_FIRST(&conn->out);

        if (len < segment->len) {
            if (segment->is_file)
                segment->offset += len;
            else
                segment->data += len;
            segment->len -= len;
            return;
        }
        len -= segment->len;
        drop_first(conn);
    }
}

static ssize_t send_file(struct fl_http_conn *conn, const struct fl_http_segment *segment)
{
    off_t offset = (off_t)segment->offset;
    ssize_t n = sendfile(conn->fd, segment->fd, &offset,
                         segment->len < FILE_BYTES ? segment->len : FILE_BYTES);

    if (n == 0) /* shorter than it was said to be */
        return FL_HTTP_IO_BROKEN;
    return n > 0 ? n : socket_result(n);
}

static ssize_t write_vectors(struct fl_http_conn *conn)
{
    struct fl_http_segment *segment;
    struct iovec vectors[VECTORS];
    struct msghdr message = {.msg_iov = vectors};
    ssize_t n;

    if (TAILQ_FIRST(&conn->out)->is_file)
        return send_file(conn, TAILQ_FIRST(&conn->out));
    TAILQ_FOREACH(segment, &conn->out, link) {
        if (message.msg_iovlen == VECTORS || segment->is_file)
            break;
        vectors[message.msg_iovlen++] =
            (struct iovec){.iov_base = (char *)segment->data, .iov_len = segment->len};
    }
    n = sendmsg(conn->fd, &message, MSG_NOSIGNAL);
    return n > 0 ? n : socket_result(n);
}

static ssize_t write_file_record(struct fl_http_conn *conn, const struct fl_http_segment *segment)
{
    char record[FL_HTTP_RECORD_BYTES];
    size_t len = segment->len < sizeof(record) ? segment->len : sizeof(record);

    if (pread(segment->fd, record, len, (off_t)segment->offset) != (ssize_t)len)
        return FL_HTTP_IO_BROKEN;
    return write_some(conn, record, len);
}

/* One record from many segments. A write that has to be repeated finds the same bytes in front, and
 * at least as many: the queue only grows behind. */
static ssize_t write_record(struct fl_http_conn *conn)
{
    struct fl_http_segment *segment = TAILQ_FIRST(&conn->out);
    char record[FL_HTTP_RECORD_BYTES];
    size_t len = 0;

    if (segment->is_file)
        return write_file_record(conn, segment);
    if (segment->len >= sizeof(record) || !TAILQ_NEXT(segment, link))
        return write_some(conn, segment->data, segment->len);
    for (; segment && !segment->is_file && len < sizeof(record);
         segment = TAILQ_NEXT(segment, link)) {
        size_t room = sizeof(record) - len;
        size_t part = segment->len < room ? segment->len : room;

        memcpy(record + len, segment->data, part);
        len += part;
    }
    return write_some(conn, record, len);
}

static void watch_writable(struct fl_http_conn *conn, bool writing)
{
    if (conn->writing == writing)
        return;
    conn->writing = writing;
    if (writing)
        (void)event_add(&conn->write_event, NULL);
    else
        (void)event_del(&conn->write_event);
}

void fl_http_out_flush(struct fl_http_conn *conn)
{
    bool progress = false;

    for (int i = 0; i < FLUSH_ROUNDS && conn->queued > 0; i++) {
        ssize_t n = conn->ssl ? write_record(conn) : write_vectors(conn);

        if (n == FL_HTTP_IO_AGAIN)
            break;
        if (n < 0) {
            fl_http_conn_close(conn);
            return;
        }
        advance(conn, (size_t)n);
        progress = true;
    }
    watch_writable(conn, conn->queued > 0);
    if (conn->state < FL_HTTP_STREAMING) /* an interim answer: the request's own deadline counts */
        return;
    if (conn->queued == 0)
        fl_http_wait(conn, FL_HTTP_WAIT_NONE);
    else if (progress || conn->wait != FL_HTTP_WAIT_WRITE)
        fl_http_wait(conn, FL_HTTP_WAIT_WRITE);
}

/* Where the socket is known to be full, its event will come: no need to ask it again. */
void fl_http_out_push(struct fl_http_conn *conn)
{
    if (!conn->writing || conn->wait != FL_HTTP_WAIT_WRITE)
        fl_http_out_flush(conn);
}

/* The common case: nothing is queued and the socket takes all. */
void fl_http_out_send(struct fl_http_conn *conn, const char *data, size_t len)
{
    ssize_t n = 0;

    if (conn->queued == 0) {
        n = write_some(conn, data, len);
        if (n < 0) {
            fl_http_conn_close(conn);
            return;
        }
    }
    if ((size_t)n < len) {
        fl_http_out_copy(conn, data + n, len - (size_t)n);
        fl_http_out_push(conn);
    }
}
