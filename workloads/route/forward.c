/* A request's way through the router: chosen, sent, perhaps tried again elsewhere, answered. */
#include "lib/str.h"
#include "workloads/route/router_internal.h"

#include <stdlib.h>
#include <string.h>

#define TRIES_MAX     3
#define MIRRORS_MAX   4
#define PAUSE_MS      100 /* after all were tried, doubled each time */
#define ANSWER_FACTOR 8   /* an answer may be that many times as large as a request */

struct forward {
    struct fl_router *router;
    struct forward *next, *previous;
    struct fl_http_request *request; /* NULL: a copy for a mirror */
    struct fl_http_pair *headers;
    size_t header_count;
    char *method, *target; /* of a mirror's copy; else the request's */
    struct fl_bytes *body;
    struct fl_route_backend *tried[TRIES_MAX + 1]; /* one more after a trial */
    size_t tries;
    bool on_trial; /* was the last one when it was asked: it may be out by now */
    /* Of a group on trial, whose answer was no good: who is asked next says whose fault that was.
     */
    struct fl_route_backend *doubted;
    enum fl_route_result verdict;
    int64_t doubted_us; /* how long its answer took */
    struct fl_http_async_request *call;
    struct fl_timer *patience; /* while it waits for a server */
    int64_t deadline_ms, sent_us;
    int64_t hold_until_ms, pause_ms; /* 0: it did not have to wait yet */
    bool busy;                       /* so was who was tried last */
};

static int64_t now_ms(const struct fl_router *router)
{
    return fl_monotonic_ms(router->options.env);
}

static void settle_doubt(struct forward *forward)
{
    struct fl_router *router = forward->router;
    struct fl_route_backend *doubted = FL_TAKE(forward->doubted);

    if (doubted && fl_routes_ended(router->routes, doubted, forward->verdict, forward->doubted_us,
                                   now_ms(router)))
        fl_router_changed(router);
}

static void forward_free(struct forward *forward)
{
    struct fl_router *router = forward->router;

    settle_doubt(forward);
    if (forward->previous)
        forward->previous->next = forward->next;
    else
        router->forwards = forward->next;
    if (forward->next)
        forward->next->previous = forward->previous;
    if (forward->patience)
        router->waiting--;
    fl_timer_destroy(forward->patience);
    if (forward->request) {
        router->in_flight--;
        fl_routes_request_left(router->routes, now_ms(router));
    }
    fl_bytes_unref(forward->body);
    free(forward->method);
    free(forward->target);
    free(forward);
}

static struct forward *forward_create(struct fl_router *router)
{
    struct forward *forward = fl_calloc(1, sizeof(*forward));

    forward->router = router;
    forward->next = router->forwards;
    if (forward->next)
        forward->next->previous = forward;
    router->forwards = forward;
    forward->deadline_ms = now_ms(router) + router->options.timeout_ms;
    return forward;
}

/* Answers of the router itself */

static void respond_error(struct fl_http_request *request, int status, const char *message)
{
    FL_JSON body = json_pack("{s:s}", "error", message);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_json_to_bytes(body);

    if (status == 503 || status == 429)
        fl_http_set_header(request, "Retry-After", "1");
    if (status == 401)
        fl_http_set_header(request, "WWW-Authenticate", "Bearer");
    fl_http_respond_bytes(request, status, "application/json", &text, 1);
}

static void give_up(struct forward *forward, int status, const char *message)
{
    if (forward->request) {
        fl_http_on_gone(forward->request, NULL, NULL);
        respond_error(forward->request, status, message);
    }
    forward_free(forward);
}

/* Headers */

/* What belongs to one connection, and what each side makes by itself. */
static bool is_own(const char *name)
{
    static const char *const names[] = {"Connection",       "Keep-Alive", "Transfer-Encoding",
                                        "Content-Length",   "TE",         "Trailer",
                                        "Upgrade",          "Date",       "Host",
                                        "Proxy-Connection", "Expect",     "Authorization"};

    for (size_t i = 0; i < FL_COUNT_OF(names); i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

static void take_headers(struct forward *forward)
{
    struct fl_http_request *request = forward->request;
    size_t count, kept = 0;
    const struct fl_http_pair *sent = fl_http_headers(request, &count);

    forward->headers = fl_new_array(fl_http_arena(request), struct fl_http_pair, count + 1);
    for (size_t i = 0; i < count; i++)
        if (!is_own(sent[i].name))
            forward->headers[kept++] = sent[i];
    forward->headers[kept++] =
        (struct fl_http_pair){"X-Forwarded-For", fl_http_peer_address(request)};
    forward->header_count = kept;
}

static void respond(struct forward *forward, const struct fl_http_answer *answer)
{
    struct fl_http_request *request = forward->request;

    for (size_t i = 0; i < answer->header_count; i++)
        if (!is_own(answer->headers[i].name) &&
            strcasecmp(answer->headers[i].name, "Content-Type") != 0)
            fl_http_add_header(request, answer->headers[i].name, answer->headers[i].value);
    fl_http_on_gone(request, NULL, NULL);
    fl_http_respond_bytes(request, answer->status, answer->content_type, &answer->body, 1);
}

/* Servers */

static void drop_client(void *client)
{
    fl_http_client_destroy(client);
}

static struct fl_http_client *client_of(struct fl_router *router, struct fl_route_backend *backend)
{
    void **user = fl_route_user(backend);

    if (!*user) {
        struct fl_http_client_options options = router->options.backend;
        struct fl_http_client *client = NULL;

        options.base_url = fl_route_url(backend);
        options.user_agent = "flops-router";
        options.max_response_bytes = router->options.max_body_bytes * ANSWER_FACTOR;
        fl_routes_on_drop(router->routes, drop_client);
        if (fl_http_client_create(&options, &client, NULL) == 0)
            *user = client;
    }
    return *user;
}

/* A copy is of a request that was answered well, so whatever refuses it is at fault. */
static enum fl_route_result result_of(const struct forward *forward,
                                      const struct fl_http_answer *answer)
{
    if (!answer)
        return FL_ROUTE_UNREACHABLE;
    if (answer->status == 503 || answer->status == 429)
        return FL_ROUTE_BUSY;
    return answer->status >= (forward->request ? 500 : 400) ? FL_ROUTE_FAILED : FL_ROUTE_ANSWERED;
}

static void ended(struct forward *forward, enum fl_route_result result)
{
    struct fl_router *router = forward->router;
    const int64_t took_us = fl_machine_monotonic_us() - forward->sent_us;

    forward->call = NULL;
    if (fl_routes_ended(router->routes, forward->tried[forward->tries - 1], result, took_us,
                        now_ms(router)))
        fl_router_changed(router);
}

static void try_next(struct forward *forward);
static void send_to(struct forward *forward, struct fl_route_backend *backend);
static void send_copies(struct forward *forward);

/* Trials */

/* It is counted when the other one has answered, too. Until then it is under way there. */
static void doubt(struct forward *forward, enum fl_route_result result)
{
    forward->doubted = forward->tried[forward->tries - 1];
    forward->doubted_us = fl_machine_monotonic_us() - forward->sent_us;
    forward->verdict = result == FL_ROUTE_FAILED ? FL_ROUTE_FAILED : FL_ROUTE_CANCELLED;
    forward->call = NULL;
}

/* What a group on trial does badly, another one shall do: clients need not know of the trial. */
static bool ask_proven(struct forward *forward, const struct fl_http_answer *answer,
                       enum fl_route_result result)
{
    struct fl_router *router = forward->router;
    struct fl_route_backend *proven =
        fl_routes_choose_proven(router->routes, now_ms(router), forward->tried, forward->tries);

    if (!proven)
        return false;
    if (answer)
        doubt(forward, result);
    else
        ended(forward, result);
    router->retries++;
    send_to(forward, proven);
    return true;
}

static void reach_verdict(struct forward *forward, const struct fl_http_answer *answer)
{
    if (!forward->doubted || !answer || forward->verdict == FL_ROUTE_FAILED)
        return;
    forward->verdict = answer->status < 400 ? FL_ROUTE_FAILED : FL_ROUTE_ANSWERED;
}

/* Answers */

/* A server that is too slow is not asked again, and neither is another: the time is gone. */
static bool may_try_again(const struct forward *forward, enum fl_route_result result,
                          const struct fl_error *err)
{
    return forward->request && now_ms(forward->router) < forward->deadline_ms &&
           ((result == FL_ROUTE_BUSY && forward->tries < TRIES_MAX) ||
            (result == FL_ROUTE_UNREACHABLE && !(err && err->code == FL_E_TIMEOUT)));
}

static void done(void *user, const struct fl_http_answer *answer, const struct fl_error *err)
{
    struct forward *forward = user;
    enum fl_route_result result = result_of(forward, answer);

    if (err && err->code == FL_E_TOO_LARGE)
        result = FL_ROUTE_FAILED;
    if (forward->on_trial && !forward->doubted && (!answer || answer->status >= 400) &&
        result != FL_ROUTE_BUSY && ask_proven(forward, answer, result))
        return;
    ended(forward, result);
    forward->busy = result == FL_ROUTE_BUSY;
    if (may_try_again(forward, result, err)) {
        forward->router->retries++;
        try_next(forward);
        return;
    }
    reach_verdict(forward, answer);
    if (answer && forward->request) {
        if (answer->status < 400)
            send_copies(forward);
        respond(forward, answer);
        forward_free(forward);
        return;
    }
    if (err && err->code == FL_E_TIMEOUT)
        give_up(forward, 504, "the server took too long");
    else
        give_up(forward, 502, "the server did not answer");
}

/* Who is on trial leaves time for another one. */
static int64_t time_for(const struct forward *forward, bool on_trial)
{
    const int64_t left_ms = forward->deadline_ms - now_ms(forward->router);

    return left_ms < 2 ? 1 : on_trial ? left_ms / 2 : left_ms;
}

static void send_to(struct forward *forward, struct fl_route_backend *backend)
{
    struct fl_router *router = forward->router;
    const bool on_trial = forward->request && fl_route_is_on_trial(backend);
    const struct fl_http_async_call call = {
        .method = forward->request ? fl_http_method(forward->request) : forward->method,
        .target = forward->request ? fl_http_target(forward->request) : forward->target,
        .headers = forward->headers,
        .header_count = forward->header_count,
        .body = forward->body,
        .timeout_ms = time_for(forward, on_trial)};
    struct fl_http_client *client = client_of(router, backend);

    forward->on_trial = on_trial;
    forward->tried[forward->tries++] = backend;
    forward->sent_us = fl_machine_monotonic_us();
    if (!client) { /* an address that cannot be one */
        ended(forward, FL_ROUTE_UNREACHABLE);
        give_up(forward, 502, "the server's address is none");
        return;
    }
    forward->call = fl_http_async_start(router->calls, client, &call, done, forward);
}

static void try_anew(void *user)
{
    struct forward *forward = user;

    fl_timer_destroy(FL_TAKE(forward->patience));
    forward->router->waiting--;
    forward->tries = 0;
    try_next(forward);
}

static void give_up_waiting(struct forward *forward)
{
    forward->router->no_server++;
    give_up(forward, 503,
            forward->busy        ? "all servers are busy"
            : forward->tries > 0 ? "no server answers"
                                 : "no server is ready");
}

/* For the table that brings one; those that were tried and are gone may come back, too: the last
 * one of a small model is started again in less time than a client likes to be told of it. */
static void wait_for_server(struct forward *forward)
{
    struct fl_router *router = forward->router;
    const int64_t now = now_ms(router);

    if (forward->hold_until_ms == 0)
        forward->hold_until_ms = now + router->options.hold_ms < forward->deadline_ms
                                     ? now + router->options.hold_ms
                                     : forward->deadline_ms;
    if (forward->busy || now >= forward->hold_until_ms) {
        give_up_waiting(forward);
        return;
    }
    forward->pause_ms = forward->pause_ms ? forward->pause_ms * 2 : PAUSE_MS;
    if (forward->tries == 0 || now + forward->pause_ms > forward->hold_until_ms)
        forward->pause_ms = forward->hold_until_ms - now;
    forward->patience = fl_timer_create(router->options.loop, try_anew, forward);
    fl_timer_arm(forward->patience, forward->pause_ms);
    router->waiting++;
}

static struct fl_route_backend *choose(const struct forward *forward)
{
    struct fl_routes *routes = forward->router->routes;
    const int64_t now = now_ms(forward->router);

    if (forward->tries >= TRIES_MAX)
        return NULL;
    return forward->doubted ? fl_routes_choose_proven(routes, now, forward->tried, forward->tries)
                            : fl_routes_choose(routes, now, forward->tried, forward->tries);
}

static void try_next(struct forward *forward)
{
    struct fl_route_backend *backend = choose(forward);

    if (backend)
        send_to(forward, backend);
    else
        wait_for_server(forward);
}

void fl_router_retry_waiting(struct fl_router *router)
{
    struct forward *next;

    for (struct forward *forward = router->forwards; forward; forward = next) {
        next = forward->next;
        if (forward->patience)
            try_anew(forward);
    }
}

/* Copies */

static void send_copies(struct forward *forward)
{
    struct fl_router *router = forward->router;
    struct fl_route_backend *backends[MIRRORS_MAX];
    size_t count = fl_routes_mirrors(router->routes, now_ms(router), backends, MIRRORS_MAX);

    for (size_t i = 0; i < count; i++) {
        struct forward *copy = forward_create(router);

        copy->method = fl_strdup(fl_http_method(forward->request));
        copy->target = fl_strdup(fl_http_target(forward->request));
        copy->body = forward->body ? fl_bytes_ref(forward->body) : NULL;
        copy->headers = forward->headers; /* the request's: a copy is sent once, here */
        copy->header_count = forward->header_count;
        send_to(copy, backends[i]);
    }
}

/* In and out */

static void on_gone(void *user)
{
    struct forward *forward = user;

    if (forward->call) {
        fl_http_async_cancel(FL_TAKE(forward->call));
        ended(forward, FL_ROUTE_CANCELLED);
    }
    forward_free(forward);
}

static bool refuse(struct fl_router *router, struct fl_http_request *request)
{
    if (router->options.token_count > 0 &&
        !fl_router_is_allowed(request, router->tokens, router->options.token_count))
        respond_error(request, 401, "a bearer token is needed");
    else if (router->in_flight >= router->options.max_in_flight)
        respond_error(request, 429, "too many requests are under way");
    else
        return false;
    router->refused++;
    return true;
}

void fl_router_forward(void *user, struct fl_http_request *request)
{
    struct fl_router *router = user;
    struct forward *forward;
    const char *body;
    size_t len;

    router->requests++;
    if (refuse(router, request))
        return;
    body = fl_http_body(request, &len);
    forward = forward_create(router);
    forward->request = request;
    forward->body = len > 0 ? fl_bytes_new(body, len) : NULL;
    router->in_flight++;
    fl_routes_request_came(router->routes, now_ms(router));
    take_headers(forward);
    fl_http_on_gone(request, on_gone, forward);
    try_next(forward);
}

void fl_router_stop_forwards(struct fl_router *router)
{
    while (router->forwards) {
        struct forward *forward = router->forwards;

        forward->doubted = NULL;
        if (forward->request)
            fl_http_on_gone(forward->request, NULL, NULL);
        if (forward->call)
            fl_http_async_cancel(forward->call);
        if (forward->request)
            fl_http_abort(forward->request);
        forward_free(forward);
    }
}
