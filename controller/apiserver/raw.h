/* Paths that somebody else serves: /content/v1/…
 *
 * A table in the server's options names them by prefix. The server does what it does for every
 * request that names no resource (who, whether they may by nonResourceURLs with the method as verb,
 * metrics, and audit of what is not GET or HEAD), and hands over the request, which the owner
 * answers at once or later: with fl_raw_fail, or with fl_raw_done and one of fl_http_respond….
 *
 * A body may be taken as it comes: `begin` is called when the header of a PUT, POST or PATCH is
 * complete and allowed, and may choose a limit for it, or call fl_http_stream_body. It is not
 * called for requests of the process itself, which bring their body with them.
 *
 * Loop thread. A raw request is valid until it was answered, or `gone` was called. */
#ifndef FL_CONTROLLER_APISERVER_RAW_H
#define FL_CONTROLLER_APISERVER_RAW_H

#include "lib/error.h"
#include "lib/http_server.h"
#include "lib/json.h"

struct fl_raw_request;

struct fl_apiserver_raw {
    const char *prefix; /* "/content/v1/" */
    /* Must answer, or set on_gone before it returns. */
    void (*serve)(void *user, struct fl_raw_request *raw);
    void (*begin)(void *user, struct fl_raw_request *raw); /* may be NULL */
    void *user;
    /* Not NULL: clients that know no bearer tokens may show one as the password of Basic
     * credentials, whatever the user's name, and who shows none is asked for them. */
    const char *basic_realm;
    /* How failures read on these paths, the server's own too (new); NULL: a Status. */
    json_t *(*word)(void *user, const struct fl_error *err);
};

struct fl_http_request *fl_raw_http(struct fl_raw_request *raw);
struct fl_loop *fl_raw_loop(const struct fl_raw_request *raw); /* the server's */
/* Whether who asks may also do this: another path, a verb in lower case. */
bool fl_raw_allows(struct fl_raw_request *raw, const char *verb, const char *path);
/* What `begin` leaves for `serve`; NULL at first. */
void fl_raw_set(struct fl_raw_request *raw, void *state);
void *fl_raw_get(const struct fl_raw_request *raw);
/* `gone(user)` runs from the loop, never within one of these calls. */
void fl_raw_on_gone(struct fl_raw_request *raw, fl_loop_fn *gone, void *user);
/* A Status, or what `word` makes of it. The raw request is gone. */
void fl_raw_fail(struct fl_raw_request *raw, const struct fl_error *err);
/* Right before an answer through fl_http_respond…: it is counted. The raw request is gone. */
struct fl_http_request *fl_raw_done(struct fl_raw_request *raw, int status);

#endif
