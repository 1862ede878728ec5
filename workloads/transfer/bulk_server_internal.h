/* What the files of the bulk server share; nobody else includes it.
 *
 * bulk_server.c   requests: models, and which upload a request is about
 * bulk_uploads.c  uploads: their files, states and bounds
 *
 * A request that sends a chunk, or waits for the whole digest, is its upload's `request`: there is
 * at most one. It is taken away from the upload by an answer, by its connection's end, or by a
 * newer request for the same key. */
#ifndef FL_WORKLOADS_BULK_SERVER_INTERNAL_H
#define FL_WORKLOADS_BULK_SERVER_INTERNAL_H

#include "lib/map.h"
#include "workloads/transfer/bulk_parse.h"
#include "workloads/transfer/bulk_server.h"

struct fl_bulk_verify;

struct fl_bulk_incoming {
    struct fl_bulk_server *server;
    struct fl_bulk_state state;
    char *path, *state_path;
    int fd, state_fd; /* -1: not open */
    int64_t last_ms;  /* somebody sent or asked */

    struct fl_http_request *request; /* sends a chunk, or waits for the verdict */
    struct fl_bulk_check check;      /* of the chunk that is coming */
    int64_t received;                /* of it */
    uint32_t crc;
    struct fl_sha256 *hash;
    struct fl_hash *whole;         /* of all that came, an xxh128; NULL: not all of it is known */
    struct fl_bulk_verify *verify; /* under way */
};

struct fl_bulk_server {
    struct fl_bulk_server_options options; /* with the defaults filled in, strings copied */
    char *uploads_dir;
    struct fl_http_server *http;
    struct fl_map *uploads; /* key -> struct fl_bulk_incoming */
    struct fl_timer *expiry;
    struct fl_bulk_server_stats stats;
};

/* The upload of a model has its digest as key, which no other may have. The digest, where it is
 * one; NULL. */
const char *fl_bulk_model_of_key(const char *key);

/* bulk_server.c: answers */
void fl_bulk_refuse(struct fl_bulk_server *server, struct fl_http_request *request,
                    const struct fl_error *err);
void fl_bulk_answer_upload(const struct fl_bulk_incoming *upload, struct fl_http_request *request,
                           int status);
/* Says where to go on, too. */
void fl_bulk_refuse_upload(const struct fl_bulk_incoming *upload, struct fl_http_request *request,
                           const struct fl_error *err);

/* bulk_uploads.c */
int fl_bulk_uploads_load(struct fl_bulk_server *server, struct fl_error *err);
void fl_bulk_uploads_expire(void *user);
/* An upload that is new, or has to begin anew. */
int fl_bulk_upload_start(struct fl_bulk_server *server, const char *key,
                         const struct fl_bulk_put *put, struct fl_bulk_incoming **ret_upload,
                         struct fl_error *err);
/* From `begin`: the request sends the chunk that is due. */
void fl_bulk_upload_receive(struct fl_bulk_incoming *upload, struct fl_http_request *request,
                            const struct fl_bulk_check *check);
/* The whole chunk has come. */
void fl_bulk_upload_received(struct fl_bulk_incoming *upload);
void fl_bulk_upload_drop(struct fl_bulk_incoming *upload); /* with its files */
void fl_bulk_upload_free(void *user);                      /* without them */

#endif
