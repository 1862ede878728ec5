#include "controller/apiserver/subresource.h"

#include "controller/apiserver/internal.h"

#include <assert.h>

struct fl_api_stream {
    TAILQ_ENTRY(fl_api_stream) link; /* of server->streams, until it is answered or gone */
    struct fl_request *request;
    struct fl_object *object; /* the arena's */
    fl_loop_fn *gone;
    void *gone_user;
    bool begun, over;
};

const struct fl_apiserver_subresource *fl_subresource_find(const struct fl_apiserver *server,
                                                           const char *group, const char *plural,
                                                           const char *name)
{
    size_t len = strlen(plural);

    for (size_t i = 0; i < server->subresource_count; i++) {
        const struct fl_apiserver_subresource *one = &server->subresources[i];
        const char *rest = one->resource + len;

        if (strncmp(one->resource, plural, len) == 0 && strcmp(one->name, name) == 0 &&
            (*rest == '.' ? strcmp(rest + 1, group) == 0 : !*rest && !*group))
            return one;
    }
    return NULL;
}

static void unref_object(void *user)
{
    fl_object_unref(user);
}

static struct fl_object *find_object(struct fl_request *request, struct fl_error *err)
{
    struct fl_key key = {request->resource->storage, request->ns, request->name};
    struct fl_object *object = fl_store_get(request->server->store, &key);

    if (request->server->draining) /* nobody would end it */
        (void)fl_error_set(err, FL_E_UNAVAILABLE, "the server is shutting down");
    else if (!object)
        (void)fl_error_set(err, FL_E_NOT_FOUND, "%s \"%s\" not found",
                           fl_resource_display(request->resource), request->name);
    if (object)
        fl_arena_on_reset(request->arena, unref_object, object);
    return err->code ? NULL : object;
}

/* Nothing of it is in the server any more, and nobody will be told. */
static struct fl_request *release(struct fl_api_stream *stream)
{
    struct fl_request *request = stream->request;

    TAILQ_REMOVE(&request->server->streams, stream, link);
    stream->over = true;
    fl_http_on_gone(request->http, NULL, NULL);
    return request;
}

static void reader_gone(void *user)
{
    struct fl_api_stream *stream = user;

    fl_respond_done(release(stream), 200);
    if (stream->gone)
        stream->gone(stream->gone_user);
}

void fl_handle_subresource(struct fl_request *request)
{
    const struct fl_apiserver_subresource *elsewhere = request->elsewhere;
    struct fl_error err = {0};
    struct fl_object *object = find_object(request, &err);
    struct fl_api_stream *stream;

    if (!object) {
        fl_respond_failure(request, &err, NULL);
        return;
    }
    stream = fl_new(request->arena, struct fl_api_stream);
    stream->request = request;
    stream->object = object;
    TAILQ_INSERT_TAIL(&request->server->streams, stream, link);
    fl_http_on_gone(request->http, reader_gone, stream);
    elsewhere->get(elsewhere->user, stream);
    assert(stream->over || stream->gone); /* else its owner would outlive it */
}

/* The owner is told before the reader: it must not write into the end. */
void fl_streams_end(struct fl_apiserver *server)
{
    struct fl_api_stream *stream;
    struct fl_error err = {0};

    (void)fl_error_set(&err, FL_E_UNAVAILABLE, "the server is shutting down");
    while ((stream = TAILQ_FIRST(&server->streams))) {
        if (stream->gone)
            stream->gone(stream->gone_user);
        if (stream->begun)
            fl_api_stream_end(stream);
        else
            fl_api_stream_fail(stream, &err);
    }
}

const struct fl_object *fl_api_stream_object(const struct fl_api_stream *stream)
{
    return stream->object;
}

const char *fl_api_stream_param(const struct fl_api_stream *stream, const char *name)
{
    return fl_request_param(stream->request, name);
}

bool fl_api_stream_flag(const struct fl_api_stream *stream, const char *name)
{
    return fl_request_flag(stream->request, name);
}

void fl_api_stream_on_gone(struct fl_api_stream *stream, fl_loop_fn *gone, void *user)
{
    stream->gone = gone;
    stream->gone_user = user;
}

void fl_api_stream_fail(struct fl_api_stream *stream, const struct fl_error *err)
{
    assert(!stream->begun && !stream->over);
    fl_respond_failure(release(stream), err, NULL);
}

void fl_api_stream_begin(struct fl_api_stream *stream, const char *content_type)
{
    assert(!stream->begun);
    stream->begun = true;
    fl_http_stream_begin(stream->request->http, 200, content_type);
}

bool fl_api_stream_write(struct fl_api_stream *stream, const void *data, size_t len)
{
    return fl_http_stream_write(stream->request->http, data, len);
}

size_t fl_api_stream_queued(const struct fl_api_stream *stream)
{
    return fl_http_stream_queued(stream->request->http);
}

void fl_api_stream_on_drained(struct fl_api_stream *stream, fl_loop_fn *drained, void *user)
{
    fl_http_on_drained(stream->request->http, drained, user);
}

void fl_api_stream_end(struct fl_api_stream *stream)
{
    struct fl_request *request = release(stream);

    fl_respond_done(request, 200);
    fl_http_stream_end(request->http);
}
