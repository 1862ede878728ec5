/* What the files of the HTTP server share; nobody else includes it.
 *
 * http_server.c  listens, keeps deadlines and the bound on connections, buries the dead
 * http_conn.c    one connection: bytes in, requests out, the state machine
 * http_io.c      a connection's socket and TLS, and its queue of output
 * http_reply.c   answers and streams
 * http_ask.c     requests of the process itself: a connection without a socket, answered by a call
 *
 * A connection is in one state and in at most one deadline list. Nothing frees a connection but the
 * reaper, which runs from the loop: whoever finds it broken closes it and goes on; its memory lasts
 * until the callbacks on the stack have returned. In the same way a request's memory lasts until
 * the callback that answered it has returned. */
#ifndef FL_LIB_HTTP_SERVER_INTERNAL_H
#define FL_LIB_HTTP_SERVER_INTERNAL_H

#include "lib/http_parse.h"
#include "lib/http_server.h"

#include <event2/event_struct.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/queue.h>
#include <sys/types.h>

#define FL_HTTP_READ_BYTES   ((size_t)64 * 1024) /* taken from a socket at once */
#define FL_HTTP_RECORD_BYTES ((size_t)16 * 1024) /* of a TLS record; what is gathered into one */
#define FL_HTTP_PIPELINE_BYTES                                                                     \
    ((size_t)16 * 1024) /* kept while a request before it is answered                              \
                         */

enum fl_http_state {
    FL_HTTP_HANDSHAKE, /* TLS */
    FL_HTTP_IDLE,      /* between requests */
    FL_HTTP_HEAD,      /* a part of a head has come */
    FL_HTTP_BODY,      /* a part of a body is missing */
    FL_HTTP_HANDLING,  /* the handler has the request */
    FL_HTTP_STREAMING, /* a stream is open */
    FL_HTTP_FLUSHING,  /* answered; the end of it may still be queued */
    FL_HTTP_LINGERING, /* all is written, the rest of a refused request is thrown away */
    FL_HTTP_CLOSED,    /* waits for the reaper */
};

enum fl_http_wait {
    FL_HTTP_WAIT_IDLE,
    FL_HTTP_WAIT_HEAD,
    FL_HTTP_WAIT_BODY,
    FL_HTTP_WAIT_WRITE,
    FL_HTTP_WAIT_LINGER,
    FL_HTTP_WAITS,
    FL_HTTP_WAIT_NONE = FL_HTTP_WAITS,
};

/* A piece of queued output: lent bytes, owned memory, a file, or a copy in `room` bytes of its own.
 */
struct fl_http_segment {
    TAILQ_ENTRY(fl_http_segment) link;
    struct fl_bytes *bytes;
    char *heap;
    bool is_file;
    int fd;           /* of a file, which is the segment's */
    uint64_t offset;  /* of its first byte not yet written */
    const char *data; /* the first byte not yet written */
    size_t len;       /* of what is not yet written */
    size_t room;      /* left behind it, for more copies */
    char copy[];
};

struct fl_http_reply_header {
    struct fl_http_reply_header *next;
    const char *name, *value;
};

struct fl_http_request {
    struct fl_http_conn *conn;
    struct fl_arena *arena;
    struct fl_http_head head;
    int64_t started_ms;

    size_t max_body_bytes;
    fl_http_data_fn *data; /* takes the body as it comes */
    void *data_user;
    struct fl_http_chunks chunks;
    uint64_t body_left;  /* of a Content-Length */
    uint64_t body_bytes; /* so far */
    struct fl_buf body;

    fl_loop_fn *gone;
    void *gone_user;
    fl_loop_fn *drained;
    void *drained_user;
    struct fl_http_reply_header *headers;
    bool beginning; /* inside options.begin */
    bool handed;    /* the handler was called: somebody may hold the request */
    bool answered;  /* nobody may hold it any more */
    bool chunked;   /* the stream's framing; else it ends with the connection */
};

TAILQ_HEAD(fl_http_segments, fl_http_segment);

/* A request of the process itself. It lives with its connection, which has no socket and is in
 * server->asks; states: HANDLING, STREAMING, CLOSED. */
struct fl_http_asked {
    struct fl_http_conn *conn;
    fl_http_answered_fn *done; /* NULL: called, or not to be called */
    void *user;
    struct fl_bytes *body; /* the request's */
    size_t max_stream_bytes;
    struct fl_buf stream;
    int status;
    const char *content_type;
};

struct fl_http_conn {
    struct fl_http_server *server;
    struct fl_http_asked *asked; /* NULL: a real connection */
    SSL *ssl;
    int fd;
    enum fl_http_state state;
    struct event read_event, write_event;
    bool reading, writing; /* the events are added */
    bool processing;       /* input is being taken: the one who does will settle */
    bool ready;            /* in server->ready */
    bool buried;           /* in server->closed */
    bool close_after;      /* once the answer is written */
    bool linger;           /* … and the peer may still be sending */
    bool peer_ended;       /* it will not send any more */
    bool refused;          /* over the bound: gets its 503 and goes */
    size_t progress;       /* body bytes since the deadline was last moved */

    struct fl_buf in; /* not yet taken; without memory while empty */
    size_t scanned;   /* of a head in it */
    size_t buffered;  /* what `in` and the body count in server->bytes_buffered */
    struct fl_http_request *request;

    struct fl_http_segments out;
    size_t queued;

    enum fl_http_wait wait;
    int64_t deadline_ms;
    TAILQ_ENTRY(fl_http_conn) wait_link, all_link, ready_link, closed_link;
    struct fl_tls_peer *peer; /* made when asked for, and only where there is one */
    char address[INET6_ADDRSTRLEN];
};

TAILQ_HEAD(fl_http_conns, fl_http_conn);

#define FL_HTTP_SPARE_ARENAS 64

struct fl_http_server {
    struct fl_http_server_options options; /* with the defaults filled in */
    struct event_base *base;               /* NULL: without a port */
    int fd;
    uint16_t port;
    struct event accept_event;
    struct fl_timer *accept_pause;

    struct fl_http_conns conns;
    unsigned conn_count, refused_count; /* refused_count: of conn_count, those over the bound */
    struct fl_http_conns asks;
    size_t ask_count;
    bool closing;
    struct fl_http_conns closed, ready;
    struct fl_timer *reaper, *settler; /* run soon after something came into `closed`, `ready` */

    struct fl_http_conns waiting[FL_HTTP_WAITS];
    int64_t timeouts_ms[FL_HTTP_WAITS];
    struct fl_timer *timer;
    int64_t timer_due_ms; /* 0: not armed */

    bool leaving; /* answers end their connections */
    bool draining;
    struct fl_timer *drain_timer;
    fl_loop_fn *drained;
    void *drained_user;

    uint64_t connections_total, requests_total, refused_total, bytes_queued, bytes_buffered;
    int64_t date_second;
    char date[32];
    struct fl_arena *spare[FL_HTTP_SPARE_ARENAS];
    size_t spare_count;
    struct fl_buf reply; /* an answer being built */
    char scratch[FL_HTTP_READ_BYTES];
};

/* http_server.c */
int64_t fl_http_now_ms(const struct fl_http_server *server);
void fl_http_wait(struct fl_http_conn *conn, enum fl_http_wait wait); /* from now on */
void fl_http_bury(struct fl_http_conn *conn);         /* hands a closed one to the reaper */
void fl_http_forget(struct fl_http_conn *conn);       /* frees it */
void fl_http_settle_later(struct fl_http_conn *conn); /* fl_http_conn_settle from the loop */
struct fl_arena *fl_http_take_arena(struct fl_http_server *server);
void fl_http_return_arena(struct fl_http_server *server, struct fl_arena *arena);

/* http_conn.c */
void fl_http_conn_start(struct fl_http_conn *conn);
void fl_http_conn_settle(
    struct fl_http_conn *conn); /* does what an answered request leaves to do */
void fl_http_conn_expire(struct fl_http_conn *conn); /* its deadline has passed */
void fl_http_conn_close(struct fl_http_conn *conn);  /* at once; an open request hears it later */
void fl_http_conn_free(struct fl_http_conn *conn);

/* http_io.c */
enum { FL_HTTP_IO_AGAIN = 0, FL_HTTP_IO_END = -1, FL_HTTP_IO_BROKEN = -2 };
ssize_t fl_http_io_read(struct fl_http_conn *conn, char *data, size_t len, bool *ret_more);
int fl_http_io_handshake(struct fl_http_conn *conn); /* 1: done; else as above */
void fl_http_io_listen(struct fl_http_conn *conn, bool reading);
void fl_http_io_end(struct fl_http_conn *conn);     /* says that nothing more will be written */
bool fl_http_io_discard(struct fl_http_conn *conn); /* false: nothing more will come */
void fl_http_out_send(struct fl_http_conn *conn, const char *data, size_t len);
void fl_http_out_copy(struct fl_http_conn *conn, const char *data, size_t len);
void fl_http_out_bytes(struct fl_http_conn *conn, struct fl_bytes *bytes);
void fl_http_out_heap(struct fl_http_conn *conn, char *heap, size_t len);
void fl_http_out_file(struct fl_http_conn *conn, int fd, uint64_t offset, size_t len);
void fl_http_out_flush(struct fl_http_conn *conn);
void fl_http_out_push(struct fl_http_conn *conn); /* flush, unless it is known to be of no use */
void fl_http_out_drop(struct fl_http_conn *conn);

/* http_ask.c: the answer of a request that came without a connection, which the caller has claimed.
 */
void fl_http_ask_answer(struct fl_http_request *request, int status, const char *content_type,
                        struct fl_bytes *body); /* takes the reference */
void fl_http_ask_stream(struct fl_http_request *request, int status, const char *content_type);
void fl_http_ask_collect(struct fl_http_request *request, const char *data, size_t len);
void fl_http_ask_stream_end(struct fl_http_request *request);
/* Ends it without an answer; the handler hears of it from the loop, if it has not answered. */
void fl_http_ask_fail(struct fl_http_asked *asked, const struct fl_error *err);
void fl_http_ask_free(struct fl_http_asked *asked);

/* http_reply.c */
void fl_http_reply_fault(struct fl_http_conn *conn, int status, const char *detail);

#endif
