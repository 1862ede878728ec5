/* The bulk side of an aggregator: models go out, updates come in, apart from control traffic.
 *
 *     GET, HEAD /v1/models/DIGEST     with Range, If-Range, If-None-Match; ETag is the digest.
 *         Repr-Digest, where the blobs have it: the XXH3-128 of the whole, "xxh128=:BASE64:"
 *     PUT /v1/models/DIGEST           the whole in one request (a Content-Length is needed), or as
 *         an upload: with ?offset=N&size=TOTAL&digest=DIGEST
 *     PUT /v1/uploads/KEY?offset=N&size=TOTAL&digest=D
 *         the bytes from N on, as one chunk with Content-Digest (crc32c or sha-256; RFC 9530).
 *         DIGEST of a model is a sha256, D of an upload may be an xxh128, too (lib/digest.h).
 *         204: safe so far, 201: all is here and has that digest; both say Upload-Offset
 *         409: another offset is due (Upload-Offset), or the upload is another one
 *         422: the chunk (or, at offset 0, the whole) is damaged; go on at Upload-Offset
 *         413, 429, 503 (with Retry-After), 507: bounds
 *     HEAD /v1/uploads/KEY            Upload-Offset, Upload-Length, Upload-Complete: ?1 or ?0
 *     DELETE /v1/uploads/KEY          gives an unfinished one up
 *
 * KEY is opaque: made by the owner's protocol, one for each thing that is to be sent. A chunk
 * counts when all of it has come and its check is right, or not at all; the newest connection that
 * sends for a key wins. No body is in memory: it is written as it comes, and models are sent by the
 * kernel. A restarted server goes on with what was safe; an upload nobody sends for expires.
 *
 * Loop thread. Whole digests are computed by the loop's workers, but an xxh128, which is made as
 * the bytes come, unless some came twice. What is wrong with a request is answered as JSON:
 * {"reason", "message"}. */
#ifndef FL_WORKLOADS_BULK_SERVER_H
#define FL_WORKLOADS_BULK_SERVER_H

#include "lib/blobs.h"
#include "lib/env.h"
#include "lib/error.h"
#include "lib/http_server.h"
#include "lib/loop.h"
#include "lib/tls.h"

struct fl_bulk_server;

struct fl_bulk_upload {
    const char *key, *digest;
    int64_t size;
    const char *path; /* the file, for as long as the server has the upload */
    bool complete;    /* it is all there, and has that digest */
};

/* Who may do what. < 0 refuses, and the error is the answer. */
struct fl_bulk_ask {
    const char *method; /* GET for HEAD too */
    const char *model;  /* the digest; or */
    const char *key;    /* the upload; and of a PUT of either: */
    const char *digest;
    int64_t size;
    const char *authorization; /* the header; NULL: none */
    const struct fl_tls_peer *peer;
};
typedef int fl_bulk_allow_fn(void *user, const struct fl_bulk_ask *ask, struct fl_error *err);

/* An upload has just become complete. < 0: it is not wanted after all; it is dropped and the error
 * is the answer. Otherwise the server keeps it until it is taken or forgotten, which may be here.
 */
typedef int fl_bulk_complete_fn(void *user, const struct fl_bulk_upload *upload,
                                struct fl_error *err);

/* Bytes have moved: of an upload, or (key NULL) to somebody who fetches `model`: all that was asked
 * for, when it is begun. */
typedef void fl_bulk_moved_fn(void *user, const char *key, const char *model, int64_t bytes);

/* Something was refused that will be asked for again, because of the server itself: no room, most
 * of the time. From within the request: no other function may be called. */
typedef void fl_bulk_lack_fn(void *user, const struct fl_error *err);

struct fl_bulk_server_options {
    const struct fl_env *env;
    struct fl_loop *loop;
    struct fl_tls *tls;  /* NULL: plain text */
    const char *address; /* NULL: no port of its own, see fl_bulk_server_begin */
    uint16_t port;
    unsigned max_connections; /* 0: the HTTP server's */
    struct fl_blobs *blobs;   /* lent: what is served; NULL: no models */
    const char *uploads_dir;  /* made where it is not there; NULL: no uploads */
    int64_t max_upload_bytes; /* of one; 0: 8 GiB */
    int64_t max_total_bytes;  /* of all that are here, as announced; 0: 64 GiB */
    int64_t max_chunk_bytes;  /* 0: 64 MiB */
    size_t max_uploads;       /* here at a time; 0: 1024 */
    int64_t idle_ms;          /* an unfinished upload without a chunk expires; 0: 10 min */
    bool fleeting; /* uploads end with this life: their folder is emptied, no state is kept */
    bool durable;  /* an upload is synced to the disk before it counts as complete */
    fl_bulk_allow_fn *allow;       /* NULL: anybody anything */
    fl_bulk_complete_fn *complete; /* of uploads; models go into the blobs by themselves */
    fl_bulk_moved_fn *moved;       /* may be NULL, as `complete` */
    fl_bulk_lack_fn *lacks;        /* may be NULL, too */
    void *user;
};

/* Takes up what an earlier life left in `uploads_dir`: nothing is told of it. */
int fl_bulk_server_create(const struct fl_bulk_server_options *options,
                          struct fl_bulk_server **ret_server, struct fl_error *err);
void fl_bulk_server_destroy(struct fl_bulk_server *server); /* files stay */
FL_DEFINE_CLEANUP(struct fl_bulk_server, fl_bulk_server_destroy)
uint16_t fl_bulk_server_port(const struct fl_bulk_server *server);
/* For an owner who has an HTTP server and shows it to this one: to be called first from the
 * server's `begin` and `handler`; true: it was for us. The owner destroys the HTTP server before
 * this. */
bool fl_bulk_server_begin(struct fl_bulk_server *server, struct fl_http_request *request);
bool fl_bulk_server_handle(struct fl_bulk_server *server, struct fl_http_request *request);
/* As fl_http_server_drain, of its own port. */
void fl_bulk_server_drain(struct fl_bulk_server *server, int64_t deadline_ms, fl_loop_fn *done,
                          void *user);

/* NOT_FOUND. What it points to lasts until the upload goes. */
int fl_bulk_server_find(struct fl_bulk_server *server, const char *key,
                        struct fl_bulk_upload *ret_upload, struct fl_error *err);
/* All that are here; `fn` may forget or take the one it is shown. */
void fl_bulk_server_each(struct fl_bulk_server *server,
                         void (*fn)(void *user, const struct fl_bulk_upload *upload), void *user);
/* Moves a complete one to `path` on the same file system; the server forgets it. */
int fl_bulk_server_take(struct fl_bulk_server *server, const char *key, const char *path,
                        struct fl_error *err);
/* With its file; whoever is just sending it is cut off. Gone already is fine. */
void fl_bulk_server_forget(struct fl_bulk_server *server, const char *key);

struct fl_bulk_server_stats {
    size_t uploads, complete;
    int64_t announced_bytes; /* of all uploads here */
    uint64_t uploads_completed, chunks, chunks_damaged, uploads_damaged, expired, refused;
    struct fl_http_server_stats http;
};
struct fl_bulk_server_stats fl_bulk_server_stats(const struct fl_bulk_server *server);

#endif
