/* An HTTP/1.1 server on the event loop (libevent, OpenSSL).
 *
 * Why not evhttp: it keeps whole bodies in memory, answers protocol errors in HTML by itself and
 * cannot bound connections; the API needs a Status object for each error, the data plane streams.
 *
 * Everything runs on the loop's thread. The handler is called once a request is complete (header
 * and body within bounds) and answers at once or later, exactly once, with fl_http_respond… or a
 * stream. A request is valid until it was answered in full or its connection went away, whichever
 * comes first; `on_gone` tells the second. (Its memory lasts until the callback that answered it
 * returns to the loop. Where no on_gone was set, the handler may also answer a request whose
 * connection has gone: it stays valid until then.) Requests on one connection are handled one at a
 * time, in order (pipelined ones wait). What a stranger may cost is bounded by the options: header
 * size and count, body size, time to deliver a header and a body, idle time, number of connections
 * (one that dawdles at its header, or the longest idle one, is closed first; then new ones are
 * refused), memory for unfinished requests, output waiting on a slow reader.
 *
 * A body makes progress when 4 KiB more have come, so that its rate has a floor. A peer that ends
 * its side of the connection still gets the answer to a request it has sent in full; the reader of
 * a stream is taken for gone. The process' SIGPIPE is ignored from the first server on; the limit
 * of open files is the program's to raise. */
#ifndef FL_LIB_HTTP_SERVER_H
#define FL_LIB_HTTP_SERVER_H

#include "lib/buf.h"
#include "lib/env.h"
#include "lib/error.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/tls.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fl_http_server;
struct fl_http_request;

typedef void fl_http_handler_fn(void *user, struct fl_http_request *request);

/* Writes the body for an error the server itself found (400 malformed, 408 too slow, 413, 414, 431,
 * 501, 505, 503 too many connections) and names its content type. */
typedef void fl_http_error_body_fn(void *user, int status, const char *detail, struct fl_buf *body,
                                   const char **ret_content_type);

/* Called when the header is complete, before a body is read; may choose a limit for this request
 * or take the body as it comes. NULL in the options: default limit, buffered. */
typedef void fl_http_begin_fn(void *user, struct fl_http_request *request);

struct fl_http_server_options {
    const struct fl_env *env;
    struct fl_loop *loop;
    struct fl_tls *tls;  /* NULL: plain text */
    const char *address; /* numeric IPv4 or IPv6; NULL: no port, only fl_http_server_ask */
    uint16_t port;       /* 0: any free one */
    fl_http_handler_fn *handler;
    fl_http_begin_fn *begin;           /* may be NULL */
    fl_http_error_body_fn *error_body; /* may be NULL: plain text */
    void *user;
    size_t max_header_bytes;   /* request line and headers together; 0: 64 KiB */
    size_t max_headers;        /* 0: 100 */
    size_t max_body_bytes;     /* 0: 3 MiB */
    size_t max_queued_bytes;   /* of a stream, see fl_http_stream_write; 0: 8 MiB */
    size_t max_buffered_bytes; /* of all unfinished requests together; 0: 256 MiB */
    unsigned max_connections;  /* 0: 8192 */
    int64_t header_timeout_ms; /* from the first byte, TLS handshake too; 0: 10 s */
    int64_t body_timeout_ms;   /* without any progress; 0: 30 s */
    int64_t idle_timeout_ms;   /* between requests; 0: 5 min */
    int64_t write_timeout_ms;  /* without any progress of a queued answer; 0: 60 s */
};

int fl_http_server_create(const struct fl_http_server_options *options,
                          struct fl_http_server **ret_server, struct fl_error *err);
/* Closes all connections at once (`gone` is told); no request is valid after it. */
void fl_http_server_destroy(struct fl_http_server *server);
uint16_t fl_http_server_port(const struct fl_http_server *server);
/* The polite beginning of an end: takes the connections that wait to be accepted, then no more;
 * answers end their connections from now on. Idle ones stay, as a request may be on its way on
 * them; fl_http_server_drain follows after a while. */
void fl_http_server_leave(struct fl_http_server *server);
/* Stops accepting; answers under way finish (`Connection: close`), streams are ended by their
 * owners; `done` runs when the last connection is gone or the deadline passed. */
void fl_http_server_drain(struct fl_http_server *server, int64_t deadline_ms, fl_loop_fn *done,
                          void *user);

/* Requests of the process itself: the handler gets a request that is bound to no connection, and
 * its answer goes to `done`, in whichever form it is given. Also on a simulated loop (where the
 * server has no port). `begin` is not asked, and no deadline of the server applies.
 *
 * Loop thread. `ask` and what it points to are copied (the body is shared). `done` is called
 * exactly once, on the loop's thread, possibly before fl_http_server_ask returns: with an answer,
 * whose parts last until it returns (reference the body to keep it), or with an error: TOO_LARGE
 * where body or stream exceed their bound, METHOD_NOT_ALLOWED where the answer is a stream and none
 * was asked for, UNAVAILABLE where the handler broke off or the server was destroyed. */
struct fl_http_pair {
    const char *name, *value;
};

struct fl_http_ask {
    const char *method, *target; /* target: path and query, escaped; begins with '/' */
    const struct fl_http_pair *headers;
    size_t header_count;
    struct fl_bytes *body;          /* may be NULL */
    const struct fl_tls_peer *peer; /* who asks, as if a certificate said so; NULL: nobody */
    size_t max_stream_bytes;        /* a stream is collected up to it; 0: no streams */
};

struct fl_http_answer {
    int status;
    const char *content_type;           /* NULL: none */
    const struct fl_http_pair *headers; /* what the handler set */
    size_t header_count;
    struct fl_bytes *body; /* never NULL */
};
/* Case-insensitive; the first of that name; NULL if absent. */
const char *fl_http_answer_header(const struct fl_http_answer *answer, const char *name);

typedef void fl_http_answered_fn(void *user, const struct fl_http_answer *answer, /* or NULL */
                                 const struct fl_error *err);
struct fl_http_asked; /* a request under way, until `done` was called */
/* NULL: `done` was called already. */
struct fl_http_asked *fl_http_server_ask(struct fl_http_server *server,
                                         const struct fl_http_ask *ask, fl_http_answered_fn *done,
                                         void *user);
/* As a client that goes away: the handler is told, `done` is not called. */
void fl_http_server_unask(struct fl_http_asked *asked);

struct fl_http_server_stats {
    uint64_t connections_total, connections_open, requests_total, refused_total, bytes_queued;
    uint64_t asks_open;
};
struct fl_http_server_stats fl_http_server_stats(const struct fl_http_server *server);

/* The request. Strings live as long as it does. */
const char *fl_http_method(const struct fl_http_request *request);
const char *fl_http_target(const struct fl_http_request *request); /* as sent: path and query */
const char *fl_http_path(const struct fl_http_request *request);   /* raw, before '?' */
const char *fl_http_query(const struct fl_http_request *request);  /* raw, "" if none */
/* Case-insensitive; repeated headers are joined with ", ". NULL if absent. */
const char *fl_http_header(const struct fl_http_request *request, const char *name);
/* The name, as sent, of a header that begins so (case-insensitive); NULL if none does. */
const char *fl_http_header_beginning(const struct fl_http_request *request, const char *prefix);
/* All of them as sent, repeated ones too; in the request's arena. */
const struct fl_http_pair *fl_http_headers(const struct fl_http_request *request,
                                           size_t *ret_count);
const char *fl_http_body(const struct fl_http_request *request, size_t *ret_len); /* NUL behind */
const char *fl_http_peer_address(const struct fl_http_request *request);          /* "127.0.0.1" */
const struct fl_tls_peer *fl_http_peer(const struct fl_http_request *request);    /* never NULL */
struct fl_arena *fl_http_arena(struct fl_http_request *request); /* lives as long as the request */
int64_t fl_http_started_ms(const struct fl_http_request *request); /* monotonic */

/* In `begin` only: another limit than the default, or take the body piece by piece (then `handler`
 * is called at its end, with an empty body). `data` returning < 0 refuses the rest: answer first.
 */
void fl_http_limit_body(struct fl_http_request *request, size_t max_bytes);
typedef int fl_http_data_fn(void *user, const void *data, size_t len);
void fl_http_stream_body(struct fl_http_request *request, fl_http_data_fn *data, void *user);

/* `gone(user)` runs from the loop (never inside a call below) when the connection ends before the
 * answer did. NULL takes it back. After it the request must not be touched. */
void fl_http_on_gone(struct fl_http_request *request, fl_loop_fn *gone, void *user);

/* `drained(user)` runs each time a stream's queue, once filled, has been sent. */
void fl_http_on_drained(struct fl_http_request *request, fl_loop_fn *drained, void *user);

/* Answers. Headers set before are sent with whichever form follows; Content-Length, Date,
 * Connection are the server's. A HEAD gets headers only; 204 and 304 have no body. */
void fl_http_set_header(struct fl_http_request *request, const char *name, const char *value);
void fl_http_add_header(struct fl_http_request *request, const char *name, const char *value);
void fl_http_respond(struct fl_http_request *request, int status, const char *content_type,
                     const void *data, size_t len); /* copies */
void fl_http_respond_bytes(struct fl_http_request *request, int status, const char *content_type,
                           struct fl_bytes *const *parts, size_t count); /* refs each; no copy */
void fl_http_respond_buf(struct fl_http_request *request, int status, const char *content_type,
                         struct fl_buf *buf); /* takes the buffer's memory */
/* A part of a regular file, which must keep those bytes until it was sent (a file that turns out
 * shorter breaks the connection). Nothing of it is kept in memory however slow the reader is: the
 * kernel sends it, or with TLS a record at a time is read. Takes the descriptor. */
void fl_http_respond_file(struct fl_http_request *request, int status, const char *content_type,
                          int fd, uint64_t offset, uint64_t len);

/* A chunked answer of unknown length. Headers go out at once, each write goes out at once. After
 * fl_http_stream_end the request is gone. A write that would make a queue that is not empty exceed
 * max_queued_bytes returns false, writes nothing, and the caller should end (or drop) the stream.
 * A write to a connection that has just broken returns true: `gone` is on its way. */
void fl_http_stream_begin(struct fl_http_request *request, int status, const char *content_type);
bool fl_http_stream_write(struct fl_http_request *request, const void *data, size_t len);
bool fl_http_stream_write_bytes(struct fl_http_request *request, struct fl_bytes *bytes);
/* Of a connection that has just broken: max_queued_bytes, so that a writer who minds it waits (for
 * `gone`) instead of reading on for nobody. */
size_t fl_http_stream_queued(const struct fl_http_request *request);
void fl_http_stream_end(struct fl_http_request *request);
/* Closes the connection without an end: the peer sees a broken stream. The request is gone. */
void fl_http_abort(struct fl_http_request *request);

#endif
