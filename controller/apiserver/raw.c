#include "controller/apiserver/raw.h"

#include "controller/apiserver/internal.h"
#include "controller/apiserver/raw_internal.h"

#include <assert.h>

struct fl_raw_request {
    TAILQ_ENTRY(fl_raw_request) link; /* of server->raws, until it is answered or gone */
    struct fl_request *request;
    const struct fl_apiserver_raw *owner;
    struct fl_error refusal; /* of a body whose sender is not allowed to send it */
    void *state;
    fl_loop_fn *gone;
    void *gone_user;
    bool over;
};

const struct fl_apiserver_raw *fl_raw_find(const struct fl_apiserver *server, const char *path)
{
    for (size_t i = 0; i < server->raw_count; i++)
        if (fl_str_has_prefix(path, server->raws[i].prefix))
            return &server->raws[i];
    return NULL;
}

static struct fl_request *release(struct fl_raw_request *raw)
{
    TAILQ_REMOVE(&raw->request->server->raw_requests, raw, link);
    raw->over = true;
    fl_http_on_gone(raw->request->http, NULL, NULL);
    return raw->request;
}

static void client_gone(void *user)
{
    struct fl_raw_request *raw = user;

    fl_respond_done(release(raw), 499); /* nobody sees it but metrics and audit */
    if (raw->gone)
        raw->gone(raw->gone_user);
}

static struct fl_raw_request *create(struct fl_request *request,
                                     const struct fl_apiserver_raw *owner)
{
    struct fl_raw_request *raw = fl_new(request->arena, struct fl_raw_request);

    raw->request = request;
    raw->owner = owner;
    request->is_write = strcmp(request->verb, "get") != 0 && strcmp(request->verb, "head") != 0;
    TAILQ_INSERT_TAIL(&request->server->raw_requests, raw, link);
    fl_http_on_gone(request->http, client_gone, raw);
    return raw;
}

/* The rest of a body is not read for nothing. */
static int refuse_body(void *user, const void *data, size_t len)
{
    struct fl_raw_request *raw = user;

    (void)data;
    (void)len;
    fl_raw_fail(raw, &raw->refusal);
    return -1;
}

void fl_raw_begin(struct fl_request *request, const struct fl_apiserver_raw *owner,
                  const struct fl_error *refusal)
{
    struct fl_raw_request *raw = create(request, owner);

    if (refusal) {
        raw->refusal = *refusal;
        fl_http_stream_body(request->http, refuse_body, raw);
        return;
    }
    owner->begin(owner->user, raw);
}

static void serve(struct fl_raw_request *raw)
{
    if (raw->refusal.code) { /* there was no body to refuse */
        fl_raw_fail(raw, &raw->refusal);
        return;
    }
    raw->owner->serve(raw->owner->user, raw);
    assert(raw->over || raw->gone); /* else its owner would outlive it */
}

bool fl_raw_resume(struct fl_apiserver *server, const struct fl_http_request *http)
{
    struct fl_raw_request *raw;

    TAILQ_FOREACH(raw, &server->raw_requests, link) {
        if (raw->request->http == http) {
            serve(raw);
            return true;
        }
    }
    return false;
}

bool fl_handle_raw(struct fl_request *request, const char *path)
{
    const struct fl_apiserver_raw *owner = fl_raw_find(request->server, path);

    if (!owner)
        return false;
    serve(create(request, owner));
    return true;
}

struct fl_http_request *fl_raw_http(struct fl_raw_request *raw)
{
    return raw->request->http;
}

struct fl_loop *fl_raw_loop(const struct fl_raw_request *raw)
{
    return raw->request->server->loop;
}

void fl_raw_set(struct fl_raw_request *raw, void *state)
{
    raw->state = state;
}

void *fl_raw_get(const struct fl_raw_request *raw)
{
    return raw->state;
}

void fl_raw_on_gone(struct fl_raw_request *raw, fl_loop_fn *gone, void *user)
{
    raw->gone = gone;
    raw->gone_user = user;
}

bool fl_raw_allows(struct fl_raw_request *raw, const char *verb, const char *path)
{
    struct fl_access access = {.user = raw->request->user,
                               .verb = verb,
                               .group = "",
                               .resource = "",
                               .subresource = "",
                               .ns = "",
                               .name = "",
                               .path = path};

    return fl_auth_allows(raw->request->server->auth, &access);
}

/* What clients of the owner's protocol understand. */
void fl_raw_refuse(struct fl_request *request, const struct fl_apiserver_raw *owner,
                   const struct fl_error *err)
{
    FL_JSON body = owner && owner->word ? owner->word(owner->user, err) : NULL;
    char challenge[128];

    if (!body) {
        fl_respond_failure(request, err, NULL);
        return;
    }
    request->failure = fl_error_reason(err->code);
    if (err->code == FL_E_UNAUTHORIZED && owner->basic_realm) {
        (void)snprintf(challenge, sizeof(challenge), "Basic realm=\"%s\"", owner->basic_realm);
        fl_http_set_header(request->http, "WWW-Authenticate", challenge);
    }
    if (err->code == FL_E_TOO_MANY_REQUESTS || err->code == FL_E_UNAVAILABLE)
        fl_http_set_header(request->http, "Retry-After", "1");
    fl_respond_json(request, fl_error_http_status(err->code), body);
}

void fl_raw_fail(struct fl_raw_request *raw, const struct fl_error *err)
{
    const struct fl_error copy = *err; /* it may be in what ends here */

    assert(!raw->over);
    fl_raw_refuse(release(raw), raw->owner, &copy);
}

struct fl_http_request *fl_raw_done(struct fl_raw_request *raw, int status)
{
    struct fl_request *request = release(raw);

    fl_respond_done(request, status);
    return request->http;
}
