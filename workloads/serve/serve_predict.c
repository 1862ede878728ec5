/* A request for a prediction, from its body to its answer. */
#include "lib/str.h"
#include "workloads/serve/serve_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct prediction {
    struct fl_serve *serve;
    struct prediction *next, *previous;
    struct fl_http_request *request; /* NULL: its client has gone */
    enum protocol protocol;
    struct fl_ask ask; /* its rows are the engine's */
    struct fl_servable *served;
    int64_t began_us;
};

static void refuse(struct fl_serve *serve, struct fl_http_request *request, enum protocol protocol,
                   int status, const char *message, int64_t began_us)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf body = {0};

    fl_serve_write_error(&body, protocol, status, message);
    if (serve->served)
        fl_http_set_header(request, "X-Model-Digest", fl_servable_digest(serve->served));
    if (status == 429 || status == 503)
        fl_http_set_header(request, "Retry-After", "1");
    if (status == 401)
        fl_http_set_header(request, "WWW-Authenticate", "Bearer");
    fl_serve_count(serve, protocol, status, began_us);
    fl_http_respond_buf(request, status, "application/json", &body);
}

void fl_serve_refuse(struct fl_serve *serve, struct fl_http_request *request,
                     enum protocol protocol, int status, const char *message)
{
    refuse(serve, request, protocol, status, message, fl_machine_monotonic_us());
}

static void prediction_free(struct prediction *prediction)
{
    if (prediction->previous)
        prediction->previous->next = prediction->next;
    else
        prediction->serve->predictions = prediction->next;
    if (prediction->next)
        prediction->next->previous = prediction->previous;
    prediction->serve->in_flight--;
    fl_servable_unref(prediction->served);
    free(prediction);
}

static void answer(struct prediction *prediction, const float *answers)
{
    struct fl_http_request *request = prediction->request;
    FL_CLEANUP(fl_buf_finish) struct fl_buf body = {0};
    size_t header_len = 0;
    char text[24];

    fl_serve_write_answer(&body, prediction->protocol, prediction->serve->options.name,
                          prediction->served, &prediction->ask, answers, &header_len);
    fl_http_set_header(request, "X-Model-Digest", fl_servable_digest(prediction->served));
    if (header_len > 0) {
        (void)snprintf(text, sizeof(text), "%zu", header_len);
        fl_http_set_header(request, "Inference-Header-Content-Length", text);
    }
    fl_serve_count(prediction->serve, prediction->protocol, 200, prediction->began_us);
    fl_http_respond_buf(request, 200,
                        header_len > 0 ? "application/octet-stream" : "application/json", &body);
}

/* What the engine and the predictor say, to a client. */
static int failure_status(int code)
{
    return code == FL_E_INVALID ? 400 : fl_error_http_status(code);
}

static void done(void *user, const float *answers, const struct fl_error *err)
{
    struct prediction *prediction = user;

    if (prediction->request) {
        fl_http_on_gone(prediction->request, NULL, NULL);
        if (answers)
            answer(prediction, answers);
        else
            refuse(prediction->serve, prediction->request, prediction->protocol,
                   failure_status(err->code), err->msg, prediction->began_us);
    }
    prediction_free(prediction);
}

static bool is_wanted(void *user)
{
    return ((const struct prediction *)user)->request != NULL;
}

static void on_gone(void *user)
{
    ((struct prediction *)user)->request = NULL;
}

static int read_body(struct fl_http_request *request, enum protocol protocol,
                     const struct fl_signature *signature, struct fl_ask *ask, struct fl_error *err)
{
    struct fl_arena *arena = fl_http_arena(request);
    size_t len;
    const char *body = fl_http_body(request, &len), *type = fl_http_header(request, "Content-Type"),
               *header = fl_http_header(request, "Inference-Header-Content-Length");
    int64_t header_len = -1;

    if (protocol == PROTOCOL_KSERVE_V1)
        return fl_ask_read_instances(arena, signature, body, len, ask, err);
    if (protocol == PROTOCOL_OPEN_INFERENCE) {
        if (header && !fl_str_to_int64(header, 0, INT64_MAX, &header_len))
            return fl_error_set(err, FL_E_BAD_REQUEST,
                                "Inference-Header-Content-Length: must be a number");
        return fl_ask_read_v2(arena, signature, body, len, header_len, ask, err);
    }
    if (type && fl_str_has_prefix(type, "text/csv"))
        return fl_ask_read_csv(arena, signature, body, len, ask, err);
    return fl_ask_read_invocations(arena, signature, body, len, ask, err);
}

/* 0: it may be read. */
static int check(const struct fl_serve *serve, const struct fl_http_request *request,
                 enum protocol protocol, const char **ret_why)
{
    const char *type = fl_http_header(request, "Content-Type"),
               *coding = fl_http_header(request, "Content-Encoding");

    *ret_why = "the model is not loaded yet";
    if (!serve->served)
        return 503;
    *ret_why = "too many requests are under way";
    if (serve->in_flight >= serve->options.max_concurrency)
        return 429;
    *ret_why = "Content-Type: must be application/json or text/csv";
    if (protocol == PROTOCOL_MLFLOW && type && !fl_str_has_prefix(type, "application/json") &&
        !fl_str_has_prefix(type, "text/csv"))
        return 415;
    *ret_why = "Content-Encoding: only identity is known here";
    if (coding && strcasecmp(coding, "identity") != 0)
        return 415;
    return 0;
}

static int status_of(int code)
{
    return code == FL_E_TOO_LARGE ? 413 : 400;
}

static void submit(struct fl_serve *serve, struct fl_http_request *request, enum protocol protocol,
                   struct fl_ask *ask, int64_t began_us)
{
    struct prediction *prediction = fl_calloc(1, sizeof(*prediction));
    const struct fl_job job = {.served = serve->served,
                               .rows = ask->rows,
                               .count = ask->count,
                               .deadline_ms =
                                   fl_monotonic_ms(serve->options.env) + serve->options.timeout_ms,
                               .done = done,
                               .wanted = is_wanted,
                               .user = prediction};

    *prediction = (struct prediction){.serve = serve,
                                      .request = request,
                                      .protocol = protocol,
                                      .ask = *ask,
                                      .served = fl_servable_ref(serve->served),
                                      .began_us = began_us,
                                      .next = serve->predictions};
    if (prediction->next)
        prediction->next->previous = prediction;
    serve->predictions = prediction;
    serve->in_flight++;
    fl_http_on_gone(request, on_gone, prediction);
    if (fl_engine_submit(serve->engine, &job))
        return;
    fl_http_on_gone(request, NULL, NULL);
    fl_numbers_finish(&ask->rows);
    prediction_free(prediction);
    refuse(serve, request, protocol, 503, "too many rows wait", began_us);
}

void fl_serve_predict(struct fl_serve *serve, struct fl_http_request *request,
                      enum protocol protocol)
{
    const int64_t began_us = fl_machine_monotonic_us();
    const struct fl_signature *signature;
    struct fl_ask ask = {0};
    struct fl_error err = {0};
    const char *why;
    int status = check(serve, request, protocol, &why);

    if (status != 0) {
        refuse(serve, request, protocol, status, why, began_us);
        return;
    }
    signature = fl_servable_signature(serve->served);
    ask.rows.max = serve->options.max_rows * signature->width;
    if (read_body(request, protocol, signature, &ask, &err) < 0) {
        fl_numbers_finish(&ask.rows);
        refuse(serve, request, protocol, status_of(err.code), err.msg, began_us);
        return;
    }
    submit(serve, request, protocol, &ask, began_us);
}

/* The engine is gone: nobody will be told. */
void fl_serve_stop_predictions(struct fl_serve *serve)
{
    while (serve->predictions) {
        struct prediction *prediction = serve->predictions;

        if (prediction->request) {
            fl_http_on_gone(prediction->request, NULL, NULL);
            fl_http_abort(prediction->request);
        }
        prediction_free(prediction);
    }
}
