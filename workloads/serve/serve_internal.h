/* The parts of the inference server. */
#ifndef FL_WORKLOADS_SERVE_INTERNAL_H
#define FL_WORKLOADS_SERVE_INTERNAL_H

#include "lib/buf.h"
#include "lib/http_server.h"
#include "lib/json.h"
#include "workloads/serve/engine.h"
#include "workloads/serve/serve.h"

enum protocol { PROTOCOL_OPEN_INFERENCE, PROTOCOL_MLFLOW, PROTOCOL_KSERVE_V1, PROTOCOL_COUNT };

#define FL_SERVE_BUCKETS 14
#define FL_SERVE_CODES   12

struct fl_serve_counts { /* of one protocol and one status */
    uint64_t buckets[FL_SERVE_BUCKETS + 1], total;
    double seconds;
};

struct prediction;
struct loading;
struct fl_serve_cache;

struct fl_serve {
    struct fl_serve_options options; /* with the defaults; texts are the arena's */
    struct fl_arena *arena;
    struct fl_http_server *http, *admin; /* admin: may be NULL */
    struct fl_engine *engine;
    struct fl_servable *served;     /* NULL: none yet */
    struct prediction *predictions; /* under way */
    size_t in_flight;
    struct loading *loading;      /* the one that counts; NULL: none is under way */
    struct fl_serve_cache *cache; /* NULL: models are not kept */
    char *token_origin;           /* "https://host:port", who alone is shown the fetching token */
    struct fl_error load_error;   /* of the last loading, where it failed */
    bool draining;
    struct fl_timer *leaving; /* while connections are left to end by themselves */
    int64_t leave_until_ms, drain_until_ms;
    fl_loop_fn *drained;
    void *drained_user;
    struct fl_serve_counts counts[PROTOCOL_COUNT][FL_SERVE_CODES];
    uint64_t loads, load_failures;
};

/* serve_routes.c */
void fl_serve_handle(void *user, struct fl_http_request *request); /* fl_http_handler_fn */
void fl_serve_begin(void *user, struct fl_http_request *request);  /* fl_http_begin_fn */
void fl_serve_respond_json(struct fl_http_request *request, int status, json_t *value); /* steals */
bool fl_serve_is_ready(const struct fl_serve *serve);
bool fl_serve_is_allowed(const struct fl_http_request *request, const char *token);

/* serve_predict.c */
void fl_serve_predict(struct fl_serve *serve, struct fl_http_request *request,
                      enum protocol protocol);
void fl_serve_stop_predictions(struct fl_serve *serve);
void fl_serve_refuse(struct fl_serve *serve, struct fl_http_request *request,
                     enum protocol protocol, int status, const char *message);

/* serve_answer.c: bodies. */
void fl_serve_write_answer(struct fl_buf *out, enum protocol protocol, const char *model,
                           const struct fl_servable *served, const struct fl_ask *ask,
                           const float *answers, size_t *ret_header_len);
/* PROTOCOL_COUNT: in a form that clients of each understand. */
void fl_serve_write_error(struct fl_buf *out, enum protocol protocol, int status,
                          const char *message);

/* serve_admin.c */
void fl_serve_administer(void *user, struct fl_http_request *request); /* fl_http_handler_fn */

/* serve_load.c */
/* `waiter` (may be NULL) is answered when it has ended. */
void fl_serve_load_for(struct fl_serve *serve, const char *source, const char *digest,
                       struct fl_http_request *waiter);
const char *fl_serve_loading_source(const struct fl_serve *serve); /* NULL: none is under way */
void fl_serve_stop_loading(struct fl_serve *serve);
/* serve_admin.c: what is told when a loading has ended. */
void fl_serve_answer_waiter(struct fl_serve *serve, struct fl_http_request *waiter,
                            const struct fl_error *err);

/* serve_cache.c: models that were fetched, on disk. */
struct fl_serve_cache *fl_serve_cache_open(const struct fl_env *env, const char *folder);
/* Loop thread. NULL is fine. */
struct fl_serve_cache *fl_serve_cache_ref(struct fl_serve_cache *cache);
void fl_serve_cache_unref(struct fl_serve_cache *cache);
/* Any thread. By the digest that options expect; NOT_FOUND. */
int fl_serve_cache_load(struct fl_serve_cache *cache, const struct fl_servable_options *options,
                        struct fl_servable **ret_servable, struct fl_error *err);
/* Any thread. What was kept longest without being used goes. */
int fl_serve_cache_keep(struct fl_serve_cache *cache, const struct fl_bytes *model,
                        struct fl_error *err);

/* serve_metrics.c */
void fl_serve_count(struct fl_serve *serve, enum protocol protocol, int status, int64_t began_us);
void fl_serve_write_metrics(const struct fl_serve *serve, struct fl_buf *out);

#endif
