/* The API server: Kubernetes' HTTP API over the store, for unmodified clients.
 *
 * It serves the built-in kinds and whatever CustomResourceDefinitions are stored, knows nothing of
 * what kinds mean, and does what a cluster's server and its generic controllers do: validation,
 * field ownership, watches, garbage collection by owner reference, deletion of namespaces and of
 * definitions, expiry of events.
 *
 * Everything runs on the loop's thread. Options are lent for the server's life. */
#ifndef FL_CONTROLLER_APISERVER_H
#define FL_CONTROLLER_APISERVER_H

#include "controller/store/store.h"
#include "lib/env.h"
#include "lib/error.h"
#include "lib/http_server.h"
#include "lib/loop.h"
#include "lib/tls.h"

struct fl_apiserver;
struct fl_apiserver_subresource; /* controller/apiserver/subresource.h */
struct fl_apiserver_raw;         /* controller/apiserver/raw.h */

struct fl_apiserver_options {
    const struct fl_env *env;
    struct fl_loop *loop;
    struct fl_store *store;
    struct fl_tls *tls;                  /* NULL: plain HTTP, for tests */
    const char *address;                 /* numeric; NULL: no port, only fl_apiserver_ask */
    uint16_t port;                       /* 0: any free one */
    const char *token_file;              /* see auth.h; NULL: none */
    const unsigned char *capability_key; /* see capability.h; NULL: none are taken. Copied */
    const char *audit_file;              /* JSON lines, appended; NULL: none */
    const char *version;                 /* of the program */
    /* Definitions to have from the start (JSON text each), applied as a user would apply them. */
    const char *const *definitions;
    size_t definition_count;
    /* What else is served below objects. */
    const struct fl_apiserver_subresource *subresources;
    size_t subresource_count;
    /* What else is served at paths of its own. */
    const struct fl_apiserver_raw *raws;
    size_t raw_count;
    /* Appends to what /metrics says: lines of the text format, each ended. NULL: nothing. */
    void (*metrics)(void *user, struct fl_buf *text);
    void *metrics_user;
};

/* Opens the port and serves at once; ready when this returns. On a simulated loop there is no port:
 * what is written is answered when the loop is stepped. */
int fl_apiserver_create(const struct fl_apiserver_options *options,
                        struct fl_apiserver **ret_server, struct fl_error *err);
/* Ends watches, lets requests under way finish until the deadline, then calls done. */
void fl_apiserver_drain(struct fl_apiserver *server, int64_t deadline_ms, fl_loop_fn *done,
                        void *user);
/* Closes every connection; the server hears of commits still, and answers nobody. Before the store
 * is closed. */
void fl_apiserver_hang_up(struct fl_apiserver *server);
/* For a server that ends before its store does (tests, the simulation): hung up, it hears of no
 * commit any more. What it has heard of is done once the loop has run; then destroy. */
void fl_apiserver_detach(struct fl_apiserver *server);
void fl_apiserver_destroy(struct fl_apiserver *server);
uint16_t fl_apiserver_port(const struct fl_apiserver *server);

/* A request of the process itself, as a user for whom it vouches: the same authentication door,
 * RBAC, admission, audit and metrics as for a request from outside. Loop thread. `done` runs on it,
 * once, possibly before this returns (fl_http_server_ask says when it gets an error; so it does
 * when the server has hung up, and BAD_REQUEST where a name or the number of groups is beyond what
 * a certificate may hold). Returns NULL where `done` was called, else what fl_http_server_unask
 * takes.
 */
struct fl_apiserver_ask {
    const char *method, *target;
    const char *user;
    const char *const *groups;
    size_t group_count;
    const char *content_type; /* of the body; NULL without one */
    const char *accept;       /* NULL: JSON */
    const char *user_agent;   /* NULL: "flops" */
    struct fl_bytes *body;    /* shared; may be NULL */
    size_t max_stream_bytes;  /* 0: an answer that is a stream is refused */
};
struct fl_http_asked *fl_apiserver_ask(struct fl_apiserver *server,
                                       const struct fl_apiserver_ask *ask,
                                       fl_http_answered_fn *done, void *user);

/* Which resources are encrypted at rest; for fl_store_options.sealed. */
bool fl_apiserver_seals(const char *resource);

#endif
