/* An HTTP/1.1 client on the event loop (libcurl's multi interface): many calls at a time, none of
 * which blocks, over connections that are kept.
 *
 * Loop thread. Whom to call and as whom is a struct fl_http_client (one for each peer, lent until
 * its calls are done); this one owns connections, and the calls under way. Every call has a
 * deadline and a bound on its answer, which is collected in memory. Redirects are not followed. A
 * call over a kept connection that turns out dead is begun anew on a fresh one by libcurl. */
#ifndef FL_LIB_HTTP_ASYNC_H
#define FL_LIB_HTTP_ASYNC_H

#include "lib/http_client.h"
#include "lib/http_server.h"
#include "lib/loop.h"

struct fl_http_async;
struct fl_http_async_request; /* under way, until `done` was called */

struct fl_http_async_options {
    struct fl_loop *loop;      /* a real one */
    unsigned max_connections;  /* more calls than that wait for one; 0: 1024 */
    unsigned kept_connections; /* idle ones that stay open; 0: 256 */
};
int fl_http_async_create(const struct fl_http_async_options *options,
                         struct fl_http_async **ret_async, struct fl_error *err);
/* Calls under way are broken off, without `done`. */
void fl_http_async_destroy(struct fl_http_async *async);
FL_DEFINE_CLEANUP(struct fl_http_async, fl_http_async_destroy)

/* The body of a 200 as it comes, in place of collecting it: a watch. < 0, with `err` set, breaks
 * the call off, and is how it ends. It may not cancel its own call. */
typedef int fl_http_async_piece_fn(void *user, const char *data, size_t len, struct fl_error *err);

struct fl_http_async_call {
    const char *method, *target; /* copied, as the headers */
    const struct fl_http_pair *headers;
    size_t header_count;
    struct fl_bytes *body;         /* may be NULL; referenced */
    int64_t timeout_ms;            /* 0: 60 s */
    size_t max_response_bytes;     /* 0: that of the client */
    fl_http_async_piece_fn *piece; /* NULL: the answer has the whole body; gets `user` */
};
/* `done` is called exactly once, from the loop and never from within this call: with an answer of
 * any status, whose parts last until it returns (reference the body to keep it), or with an error:
 * UNAVAILABLE (it never reached the peer, or the peer broke off), TIMEOUT, TOO_LARGE, BAD_REQUEST.
 * It may start further calls and cancel others, but not destroy the client. */
struct fl_http_async_request *fl_http_async_start(struct fl_http_async *async,
                                                  const struct fl_http_client *to,
                                                  const struct fl_http_async_call *call,
                                                  fl_http_answered_fn *done, void *user);
/* `done` will not be called. */
void fl_http_async_cancel(struct fl_http_async_request *request);
size_t fl_http_async_open(const struct fl_http_async *async); /* calls under way */

#endif
