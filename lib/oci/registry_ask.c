/* One request, whatever the network and the registry make of it: redirects, credentials, tries. */
#include "lib/oci/registry_internal.h"
#include "lib/str.h"

#include <assert.h>
#include <stdio.h>

#define REDIRECTS_MAX  5
#define HINT_MAX_MS    INT64_C(60000) /* of what Retry-After asks for */
#define BACKOFF_MAX_MS INT64_C(10000)
#define STEP_MS        INT64_C(500) /* a wait is told of so often */

struct fl_registry_job fl_registry_begin(struct fl_registry *registry,
                                         const struct fl_registry_progress *progress,
                                         struct fl_arena *arena)
{
    return (struct fl_registry_job){.registry = registry,
                                    .arena = arena,
                                    .until_ms = fl_monotonic_ms(registry->env) + registry->total_ms,
                                    .progress = progress,
                                    .what = ""};
}

bool fl_registry_tell(struct fl_registry_job *job)
{
    const struct fl_registry_progress *progress = job->progress;

    if (!job->broken_off && progress && progress->moved &&
        !progress->moved(progress->user, job->what, job->done + job->sending, job->total))
        job->broken_off = true;
    return !job->broken_off;
}

int64_t fl_registry_left_ms(const struct fl_registry_job *job)
{
    return job->until_ms - fl_monotonic_ms(job->registry->env);
}

void fl_registry_answer_finish(struct fl_registry_answer *answer)
{
    fl_bytes_unref(answer->body);
    free(answer->headers);
    *answer = (struct fl_registry_answer){0};
}

const char *fl_registry_header(struct fl_registry_job *job, const struct fl_registry_answer *answer,
                               const char *name)
{
    char value[4096];

    if (!fl_http_find_header(answer->headers, name, value, sizeof(value)))
        return NULL;
    value[strcspn(value, "\r\n")] = '\0';
    return fl_arena_strdup(job->arena, value);
}

/* --- one exchange --- */

/* Another host has no certificate of ours (open_own), nor our leniency. */
static int open_other(struct fl_registry *registry, const char *origin, struct fl_error *err)
{
    struct fl_http_client_options options = registry->http;

    fl_http_client_destroy(FL_TAKE(registry->other));
    options.base_url = origin;
    options.insecure = false;
    (void)snprintf(registry->other_origin, sizeof(registry->other_origin), "%s", origin);
    return fl_http_client_create(&options, &registry->other, err);
}

static int client_for(struct fl_registry_job *job, const struct fl_registry_url *url,
                      struct fl_http_client **ret_client, struct fl_error *err)
{
    struct fl_registry *registry = job->registry;
    const char *origin = fl_registry_url_origin(job->arena, url);
    int r = 0;

    if (fl_registry_url_same_origin(url, &registry->base)) {
        *ret_client = registry->own;
        return 0;
    }
    if (!registry->other || !fl_streq(registry->other_origin, origin))
        r = open_other(registry, origin, err);
    *ret_client = registry->other;
    return r;
}

struct exchange {
    struct fl_registry_job *job;
    const struct fl_registry_request *request;
};

static int on_begin(void *user, int status, const char *headers, struct fl_error *err)
{
    const struct exchange *exchange = user;
    const struct fl_registry_request *request = exchange->request;

    return request->begin ? request->begin(request->user, status, headers, err) : 0;
}

static int on_piece(void *user, const void *data, size_t len, struct fl_error *err)
{
    const struct exchange *exchange = user;

    return exchange->request->piece(exchange->request->user, data, len, err);
}

static bool on_beat(void *user, int64_t sent, int64_t received)
{
    const struct exchange *exchange = user;

    (void)received; /* counted where it is taken */
    exchange->job->sending = exchange->request->counted ? sent : 0;
    return fl_registry_tell(exchange->job);
}

int fl_registry_exchange(struct fl_registry_job *job, const struct fl_registry_request *request,
                         const char *authorization, struct fl_registry_answer *ret_answer,
                         struct fl_error *err)
{
    const char *headers[FL_REGISTRY_HEADERS_MAX + 1];
    struct exchange exchange = {job, request};
    struct fl_http_transfer transfer = {.method = request->method,
                                        .target = request->url.target,
                                        .headers = headers,
                                        .header_count = request->header_count,
                                        .body = request->body,
                                        .body_len = request->body_len,
                                        .from_file = request->from_file,
                                        .file = request->file,
                                        .file_offset = request->file_offset,
                                        .begin = on_begin,
                                        .piece = request->piece ? on_piece : NULL,
                                        .beat = on_beat,
                                        .user = &exchange,
                                        .quiet_ms = job->registry->quiet_ms,
                                        .total_ms = fl_registry_left_ms(job)};
    struct fl_http_client *client;
    int r = client_for(job, &request->url, &client, err);

    if (r < 0)
        return r;
    if (transfer.total_ms <= 0)
        return fl_error_set(err, FL_E_TIMEOUT, "not done by the deadline");
    memcpy(headers, request->headers, sizeof(request->headers));
    if (authorization)
        headers[transfer.header_count++] = authorization;
    fl_registry_answer_finish(ret_answer);
    r = fl_http_transfer(client, &transfer, &ret_answer->status, &ret_answer->body,
                         &ret_answer->headers, err);
    job->sending = 0;
    ret_answer->url = request->url;
    return r;
}

/* --- redirects --- */

static bool is_redirect(int status)
{
    return (status >= 301 && status <= 303) || status == 307 || status == 308;
}

static bool is_reading(const char *method)
{
    return fl_streq(method, "GET") || fl_streq(method, "HEAD");
}

static int check_redirect(const struct fl_registry_job *job,
                          const struct fl_registry_request *request,
                          const struct fl_registry_url *next, int status, struct fl_error *err)
{
    if (request->url.https && !next->https)
        return fl_error_set(err, FL_E_INVALID, "it redirects from https to http");
    if (!is_reading(request->method) &&
        (status < 307 || !fl_registry_url_same_origin(next, &job->registry->base)))
        return fl_error_set(err, FL_E_INVALID,
                            "it redirects what is to be sent there to another host");
    return 0;
}

/* Where the answer leads next. */
static int follow(struct fl_registry_job *job, struct fl_registry_request *request,
                  const struct fl_registry_answer *answer, struct fl_error *err)
{
    const char *location = fl_registry_header(job, answer, "Location");
    struct fl_registry_url next;
    int r;

    if (!location || !fl_registry_url_resolve(job->arena, &request->url, location, &next))
        return fl_error_set(err, FL_E_INVALID, "it redirects to no address");
    r = check_redirect(job, request, &next, answer->status, err);
    if (r == 0)
        request->url = next;
    return r;
}

/* Credentials are lost with the first step to another host, and do not come back. */
static int ask_following(struct fl_registry_job *job, const struct fl_registry_request *request,
                         const char *authorization, struct fl_registry_answer *answer,
                         struct fl_error *err)
{
    struct fl_registry_request step = *request;

    for (int i = 0; i <= REDIRECTS_MAX; i++) {
        int r;

        if (!fl_registry_url_same_origin(&step.url, &job->registry->base))
            authorization = NULL;
        r = fl_registry_exchange(job, &step, authorization, answer, err);
        if (r < 0 || !is_redirect(answer->status))
            return r;
        r = follow(job, &step, answer, err);
        if (r < 0)
            return r;
    }
    return fl_error_set(err, FL_E_INVALID, "it redirects more than %d times", REDIRECTS_MAX);
}

/* --- credentials --- */

static int ask_authorised(struct fl_registry_job *job, const struct fl_registry_request *request,
                          struct fl_registry_answer *answer, struct fl_error *err)
{
    int r =
        ask_following(job, request, fl_registry_authorization(job, request->scope), answer, err);

    if (r < 0 || answer->status != 401)
        return r;
    if (!fl_registry_url_same_origin(&answer->url, &job->registry->base))
        return fl_error_set(err, FL_E_UNAUTHORIZED, "%s, where it redirects to, wants credentials",
                            answer->url.host);
    r = fl_registry_learn(job, answer, request->scope, err);
    if (r < 0)
        return r;
    return ask_following(job, request, fl_registry_authorization(job, request->scope), answer, err);
}

/* --- tries --- */

bool fl_registry_status_may_pass(int status)
{
    return status == 408 || status == 429 || (status >= 500 && status != 501 && status != 505);
}

bool fl_registry_may_pass(const struct fl_registry_job *job, int code)
{
    return !job->broken_off && (code == FL_E_UNAVAILABLE || code == FL_E_TIMEOUT ||
                                code == FL_E_TOO_MANY_REQUESTS || code == FL_E_INTERNAL);
}

int64_t fl_registry_hint_ms(const struct fl_registry_job *job,
                            const struct fl_registry_answer *answer)
{
    int64_t ms = fl_http_retry_after_ms(answer->headers, fl_realtime_us(job->registry->env));

    return ms < HINT_MAX_MS ? ms : HINT_MAX_MS;
}

/* Half of it is chance, so that those cut off together do not come back together. */
static int64_t delay_ms(const struct fl_registry *registry, unsigned failures, int64_t hint_ms)
{
    int64_t ms = registry->backoff_ms;

    for (unsigned i = 1; i < failures && ms < BACKOFF_MAX_MS; i++)
        ms *= 2;
    if (ms > BACKOFF_MAX_MS)
        ms = BACKOFF_MAX_MS;
    ms = ms / 2 + (int64_t)fl_random_below(registry->env, (uint64_t)(ms / 2 + 1));
    return ms > hint_ms ? ms : hint_ms;
}

int fl_registry_wait(struct fl_registry_job *job, unsigned failures, int64_t hint_ms,
                     const struct fl_error *failed, struct fl_error *err)
{
    struct fl_registry *registry = job->registry;
    const int64_t until = fl_monotonic_ms(registry->env) + delay_ms(registry, failures, hint_ms);

    if (until >= job->until_ms)
        return fl_error_set(err, FL_E_TIMEOUT, "not done by the deadline: %s", failed->msg);
    for (;;) {
        const int64_t left = until - fl_monotonic_ms(registry->env);

        if (!fl_registry_tell(job))
            return fl_error_set(err, FL_E_UNAVAILABLE, "the transfer was broken off");
        if (left <= 0)
            return 0;
        FL_LOCKED(registry->lock);
        (void)fl_signal_wait(registry->wake, registry->lock, left < STEP_MS ? left : STEP_MS);
    }
}

/* What people want to read first; NULL: the number says as much. */
static const char *words_for(const struct fl_registry *registry, int status)
{
    switch (status) {
    case 401:
        return registry->bearer        ? "the token is refused"
               : registry->wants_basic ? "user name and password are refused"
                                       : "it wants credentials";
    case 403:
        return "that is not allowed";
    case 404:
        return "that is not there";
    default:
        return NULL;
    }
}

int fl_registry_refused(struct fl_registry_job *job, const struct fl_registry_answer *answer,
                        struct fl_error *err)
{
    const char *text =
        answer->body ? fl_registry_error_text(job->arena, answer->body->data, answer->body->len)
                     : NULL;
    const char *words = words_for(job->registry, answer->status);
    int code = fl_error_from_status(NULL, answer->status);

    /* A success that is not the one hoped for is a failure of the other side. */
    if (answer->status < 400)
        code = FL_E_INVALID;
    return fl_error_set(err, code, "%s%sit answers %d%s%s%s", fl_str_or(words, ""),
                        words ? " (" : "", answer->status, text ? ": " : "", fl_str_or(text, ""),
                        words ? ")" : "");
}

int fl_registry_ask(struct fl_registry_job *job, const struct fl_registry_request *request,
                    struct fl_registry_answer *ret_answer, struct fl_error *err)
{
    for (unsigned failures = 1;; failures++) {
        struct fl_error failed = {0};
        int64_t hint_ms = 0;
        int r = ask_authorised(job, request, ret_answer, &failed);

        if (r == 0 && !fl_registry_status_may_pass(ret_answer->status))
            return 0;
        if (r == 0)
            r = fl_registry_refused(job, ret_answer, &failed);
        hint_ms = fl_registry_hint_ms(job, ret_answer);
        if (request->once || failures >= job->registry->tries ||
            !fl_registry_may_pass(job, failed.code))
            return fl_error_set(err, r, "%s", failed.msg);
        r = fl_registry_wait(job, failures, hint_ms, &failed, err);
        if (r < 0)
            return r;
    }
}

/* --- requests --- */

struct fl_registry_request fl_registry_request_for(struct fl_registry_job *job, const char *method,
                                                   const char *target, const char *scope)
{
    struct fl_registry_request request = {
        .method = method, .url = job->registry->base, .scope = scope};

    request.url.target = target;
    return request;
}

void fl_registry_add_header(struct fl_registry_request *request, const char *header)
{
    assert(request->header_count < FL_REGISTRY_HEADERS_MAX);
    request->headers[request->header_count++] = header;
}

const char *fl_registry_scope(struct fl_registry_job *job, const char *repository,
                              const char *actions)
{
    return fl_arena_printf(job->arena, "repository:%s:%s", repository, actions);
}
