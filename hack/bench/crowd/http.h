/* One keep-alive HTTP/1.1 connection that never blocks: of a bench, which has thousands of them on
 * one loop (lib/http_client.h blocks a thread each). One request at a time; what is sent is lent
 * until its answer. Plain text, numeric IPv4. Loop thread. */
#ifndef FL_BENCH_HTTP_H
#define FL_BENCH_HTTP_H

#include "lib/digest.h"
#include "lib/loop.h"

#include <netinet/in.h>

struct bench_http;

struct bench_request {
    const char *method, *target;
    const char *header; /* a line without its end; may be NULL */
    const void *body;   /* NULL: none */
    size_t body_len;
};

struct bench_answer {
    int status;                 /* 0: there is none, the connection broke */
    int64_t upload_offset;      /* of the header; -1: absent */
    char whole[FL_DIGEST_SIZE]; /* of Repr-Digest; "": absent */
    char found[FL_DIGEST_SIZE]; /* where that is there: the body's */
    struct fl_bytes *body;      /* never NULL where there is an answer; lent */
};
typedef void bench_answered_fn(void *user, const struct bench_answer *answer);

struct bench_http *bench_http_create(struct fl_loop *loop, const struct sockaddr_in *server,
                                     bench_answered_fn *answered, void *user);
void bench_http_destroy(struct bench_http *http); /* no answer comes any more */
void bench_http_send(struct bench_http *http, const struct bench_request *request);
void bench_http_drop(struct bench_http *http); /* closes: the request is given up */

#endif
