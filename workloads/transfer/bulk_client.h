/* The other side of bulk_server.h: fetches models and sends updates, whatever the network does.
 *
 * Blocking; one thread at a time uses a client, and any thread may cancel it. A transfer that is
 * cut off goes on where it was; what is damaged is sent again; nothing is given to the caller whose
 * digest was not checked: of a model that of its bytes which the server gives with it, where it
 * does (Repr-Digest), and its name's otherwise. Tries are repeated with jittered, growing delays,
 * until the deadline, or until so many in a row brought nothing. Memory: one chunk. */
#ifndef FL_WORKLOADS_BULK_CLIENT_H
#define FL_WORKLOADS_BULK_CLIENT_H

#include "lib/blobs.h"
#include "lib/env.h"
#include "lib/error.h"
#include "lib/http_client.h"

struct fl_bulk_client;

struct fl_bulk_client_options {
    const struct fl_env *env;           /* its clock and its chance */
    struct fl_http_client_options http; /* where, and as whom; texts are copied */
    int64_t chunk_bytes;                /* of uploads; 0: 4 MiB */
    int64_t quiet_ms;                   /* a try without a byte has failed; 0: 30 s */
    unsigned max_failures;              /* tries in a row that brought nothing; 0: 8 */
    int64_t backoff_ms, backoff_max_ms; /* 0: 200 ms, 10 s */
};
int fl_bulk_client_create(const struct fl_bulk_client_options *options,
                          struct fl_bulk_client **ret_client, struct fl_error *err);
void fl_bulk_client_destroy(struct fl_bulk_client *client);
FL_DEFINE_CLEANUP(struct fl_bulk_client, fl_bulk_client_destroy)

/* Any thread: what is under way fails (UNAVAILABLE) within about a second, and so does all that is
 * asked until fl_bulk_client_reset. */
void fl_bulk_client_cancel(struct fl_bulk_client *client);
bool fl_bulk_client_is_cancelled(struct fl_bulk_client *client);
void fl_bulk_client_reset(struct fl_bulk_client *client);

/* A sign of life, from the transfer's thread: about once a second and when something has moved.
 * `all` is < 0 while it is not known. */
typedef void fl_bulk_progress_fn(void *user, int64_t done, int64_t all);

struct fl_bulk_fetch {
    const char *digest;
    int64_t max_bytes;   /* TOO_LARGE above; 0: what the blobs take */
    int64_t deadline_ms; /* from now; 0: none */
    bool pin;            /* one pin on what was fetched */
    fl_bulk_progress_fn *progress;
    void *user;
};
/* Into the blobs; at once where it is there already. */
int fl_bulk_fetch(struct fl_bulk_client *client, const struct fl_bulk_fetch *fetch,
                  struct fl_blobs *blobs, struct fl_error *err);

struct fl_bulk_send {
    const char *target; /* "/v1/uploads/KEY", see fl_bulk_upload_target */
    const void *data;   /* NULL: */
    int fd;             /* read from its beginning */
    int64_t size;
    const char *digest;
    int64_t chunk_bytes; /* where smaller than the client's; 0: that */
    int64_t deadline_ms; /* from now; 0: none */
    fl_bulk_progress_fn *progress;
    void *user;
};
/* Done when the server has all and has checked the digest. What the server refuses for good is
 * returned as it says (TOO_LARGE, FORBIDDEN, ALREADY_EXISTS …). */
int fl_bulk_send(struct fl_bulk_client *client, const struct fl_bulk_send *send,
                 struct fl_error *err);

char *fl_bulk_upload_target(struct fl_arena *arena, const char *key);

/* What was done, for benchmarks and logs. */
struct fl_bulk_client_stats {
    uint64_t tries, failures, resumed;
};
struct fl_bulk_client_stats fl_bulk_client_stats(const struct fl_bulk_client *client);

#endif
