/* The inference server: a model over HTTP, in the protocols that clients speak.
 *
 *   Open Inference Protocol, version 2 (with binary tensors)
 *     GET  /v2, /v2/health/live, /v2/health/ready
 *     GET  /v2/models/NAME[/versions/V][/ready]
 *     POST /v2/models/NAME[/versions/V]/infer
 *   MLflow's scoring protocol
 *     GET  /ping, /health, /version
 *     POST /invocations          JSON in four forms, or CSV
 *   KServe's version 1
 *     GET  /v1/models, /v1/models/NAME
 *     POST /v1/models/NAME:predict
 *   and GET /metrics
 *
 * Every answer says in X-Model-Digest which model gave it. Errors have the form of the protocol
 * that was spoken: 400 with the place and what was expected, 413 for more bytes or rows than
 * allowed, 429 for more requests at a time, 503 with Retry-After where too much waits or there is
 * no model. Ready is who has a model and is not about to end.
 *
 * Another model takes over between two requests: those that came before it are answered by the old
 * one. The control plane asks for it on another port, the admin's:
 *
 *   PUT /v1/admin/model {"url" or "path", "digest"}   answered when that model serves, or cannot:
 * the old one serves on then. The one that serves already is fine; one that is overtaken by another
 * PUT is a CONFLICT GET /v1/admin/model                               {"digest", "loading",
 * "error", "ready"} GET /healthz, GET /metrics                        (also without a token)
 *
 * The token to fetch models with is shown to the host that the first model came from, and to no
 * other. Loop thread. */
#ifndef FL_WORKLOADS_SERVE_H
#define FL_WORKLOADS_SERVE_H

#include "lib/env.h"
#include "lib/error.h"
#include "lib/http_client.h"
#include "lib/loop.h"
#include "lib/tls.h"

#include <stdint.h>

struct fl_serve;
struct fl_trainer_program;

enum { FL_SERVE_OPEN_INFERENCE = 1, FL_SERVE_MLFLOW = 2, FL_SERVE_KSERVE_V1 = 4 };

struct fl_serve_options {
    const struct fl_env *env;
    struct fl_loop *loop;
    const char *address;
    uint16_t port;                       /* 0: any free one */
    struct fl_tls *tls;                  /* lent; NULL: plain text */
    const char *name;                    /* of the model in addresses; copied */
    unsigned protocols;                  /* 0: all */
    const char *token;                   /* that clients must show; NULL: none; copied */
    const char *admin_address;           /* NULL: no admin */
    uint16_t admin_port;                 /* 0: any free one */
    const char *admin_token;             /* NULL: nobody is asked; copied */
    struct fl_http_client_options fetch; /* as whom to fetch models; base_url is not used. Its texts
                                            are lent for the server's life */
    /* Where the last two models that were fetched by URL and digest are kept, so that who is
     * started again need not ask; made where it is not there, one process's at a time. Where it
     * cannot be used that is logged, and models are not kept. NULL: they are not. */
    const char *folder;
    size_t max_body_bytes;  /* 0: 8 MiB */
    size_t max_rows;        /* of a request; 0: 4096 */
    size_t max_concurrency; /* more requests at a time get 429; 0: 1024 */
    size_t max_waiting;     /* rows; more get 503; 0: 65,536 */
    int64_t timeout_ms;     /* 0: 30 s */
    unsigned threads;       /* for runs that are not quick; 0: 1 */
    size_t max_batch;       /* rows; 0: 32 */
    int64_t batch_delay_ms; /* 0: none */
    /* What predicts with models that are not of this program's trainers, a process for each of
     * `threads`; NULL: nothing. Lent for the server's life, with its texts. */
    const struct fl_trainer_program *program;
    /* There is no model, and the one asked for by fl_serve_load could not be had, after all tries.
     */
    void (*failed)(void *user, const struct fl_error *err);
    void *user;
};
int fl_serve_create(const struct fl_serve_options *options, struct fl_serve **ret_serve,
                    struct fl_error *err);
void fl_serve_destroy(struct fl_serve *serve);
FL_DEFINE_CLEANUP(struct fl_serve, fl_serve_destroy)
uint16_t fl_serve_port(const struct fl_serve *serve);
uint16_t fl_serve_admin_port(const struct fl_serve *serve); /* 0: no admin */

/* Begins to load a model: a path, or a URL that is tried again for a while. `digest` (may be NULL)
 * is what it must be. Serves the one it has until then. */
void fl_serve_load(struct fl_serve *serve, const char *source, const char *digest);
/* Not ready any more, no new connections; requests that are under way, or on their way on open
 * connections within a second, are answered; then `done`, at the deadline anyway. */
void fl_serve_drain(struct fl_serve *serve, int64_t deadline_ms, fl_loop_fn *done, void *user);
/* Predictions that had no answer when draining met its deadline. */
size_t fl_serve_unanswered(const struct fl_serve *serve);

#endif
