/* Subresources that somebody else serves: GET …/workloads/NAME/log.
 *
 * A table in the server's options names them; the server does what it does for every request (who,
 * whether they may, metrics, discovery; the object must exist) and then hands over a stream, which
 * the handler answers at once or later: with fl_api_stream_fail, or with begin, writes and end.
 * Only GET. RBAC knows it as "workloads/log", verb get; a rule for "*" contains it, so the default
 * roles admin, edit and view of flops.dev do.
 *
 * Loop thread. A stream is the server's; it is valid until it was failed or ended, or `gone` was
 * called: the reader has left, or the server is draining. A slow reader is the writer's to respect:
 * write while queued is small, then wait for `drained`. */
#ifndef FL_CONTROLLER_APISERVER_SUBRESOURCE_H
#define FL_CONTROLLER_APISERVER_SUBRESOURCE_H

#include "controller/store/store.h"
#include "lib/error.h"
#include "lib/loop.h"

#include <stdbool.h>
#include <stddef.h>

struct fl_api_stream;

struct fl_apiserver_subresource {
    const char *resource; /* the store's name of it: "workloads.flops.dev" */
    const char *name;     /* "log" */
    /* Answers, or sets on_gone before it returns. */
    void (*get)(void *user, struct fl_api_stream *stream);
    void *user;
};

/* What was asked. Lent, as long as the stream is valid. */
const struct fl_object *fl_api_stream_object(const struct fl_api_stream *stream);
const char *fl_api_stream_param(const struct fl_api_stream *stream, const char *name); /* or NULL */
bool fl_api_stream_flag(const struct fl_api_stream *stream, const char *name); /* "true" or "1" */

/* `gone(user)` runs from the loop, never within one of these calls. */
void fl_api_stream_on_gone(struct fl_api_stream *stream, fl_loop_fn *gone, void *user);
/* A Status instead of a stream. */
void fl_api_stream_fail(struct fl_api_stream *stream, const struct fl_error *err);
/* Headers go out at once, and each write. */
void fl_api_stream_begin(struct fl_api_stream *stream, const char *content_type);
/* False: the reader is too far behind (8 MiB are queued), nothing was written. */
bool fl_api_stream_write(struct fl_api_stream *stream, const void *data, size_t len);
size_t fl_api_stream_queued(const struct fl_api_stream *stream);
/* `drained(user)` runs each time what was queued has been sent. */
void fl_api_stream_on_drained(struct fl_api_stream *stream, fl_loop_fn *drained, void *user);
void fl_api_stream_end(struct fl_api_stream *stream);

#endif
