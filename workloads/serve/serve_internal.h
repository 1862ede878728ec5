/* The parts of the inference server. */
#ifndef FL_WORKLOADS_SERVE_INTERNAL_H
#define FL_WORKLOADS_SERVE_INTERNAL_H

#include "lib/buf.h"
#include "lib/http_server.h"
#include "workloads/serve/engine.h"
#include "workloads/serve/serve.h"

enum protocol { PROTOCOL_OPEN_INFERENCE, PROTOCOL_MLFLOW, PROTOCOL_KSERVE_V1, PROTOCOL_COUNT };

#define FL_SERVE_BUCKETS 14

struct fl_serve_counts {
    uint64_t codes[6]; /* answers by the first digit of their status */
    uint64_t buckets[FL_SERVE_BUCKETS + 1];
    double seconds;
};

struct prediction;
struct loading;

struct fl_serve {
    struct fl_serve_options options; /* with the defaults; texts are the arena's */
    struct fl_arena *arena;
    struct fl_http_server *http;
    struct fl_engine *engine;
    struct fl_servable *served;     /* NULL: none yet */
    struct prediction *predictions; /* under way */
    size_t in_flight;
    struct loading *loading; /* the one that counts; NULL: none is under way */
    bool draining;
    struct fl_serve_counts counts[PROTOCOL_COUNT];
    uint64_t loads, load_failures;
};

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
void fl_serve_write_error(struct fl_buf *out, enum protocol protocol, int status,
                          const char *message);

/* serve_load.c */
void fl_serve_stop_loading(struct fl_serve *serve);

/* serve_metrics.c */
void fl_serve_count(struct fl_serve *serve, enum protocol protocol, int status, int64_t began_us);
void fl_serve_write_metrics(const struct fl_serve *serve, struct fl_buf *out);

#endif
