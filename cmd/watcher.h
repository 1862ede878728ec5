/* Objects of one kind, followed on a loop for as long as somebody looks: a list, page by page, then
 * a watch from it, again and again. What cmd/follow.h does for a command that waits for one thing,
 * this does for a view of several kinds that also has a screen and keys.
 *
 * Nothing here ends by itself: a lost connection is tried again with longer and longer pauses, and
 * after that the list is given anew. Only what the server refuses for good ends it. The watcher
 * keeps a line that comes and no objects. Loop thread. */
#ifndef FL_CMD_WATCHER_H
#define FL_CMD_WATCHER_H

#include "cmd/client.h"
#include "lib/http_async.h"

enum fl_watcher_state {
    FL_WATCHER_NEW,     /* no list has come yet */
    FL_WATCHER_LIVE,    /* what was told is what there is */
    FL_WATCHER_LOST,    /* was live, or nearly; it is tried again */
    FL_WATCHER_REFUSED, /* for good */
};

struct fl_watcher_events {
    void (*begin)(void *user); /* a list begins: what is not told before its end is gone */
    void (*object)(void *user, const json_t *object); /* is there, or has changed */
    void (*end)(void *user);                          /* of the list */
    void (*gone)(void *user, const json_t *object);
    /* `why` is NULL where it is live. */
    void (*state)(void *user, enum fl_watcher_state state, const struct fl_error *why);
};

struct fl_watcher_options {
    struct fl_loop *loop;
    struct fl_http_async *async;
    const struct fl_client *client; /* whom to ask; lent, as all else */
    const struct fl_api_resource *resource;
    const char *ns;             /* NULL: all namespaces */
    const char *field_selector; /* NULL: all objects */
    const struct fl_watcher_events *events;
    void *user;
};

struct fl_watcher;
/* It begins with the loop's next turn. */
struct fl_watcher *fl_watcher_create(const struct fl_watcher_options *options);
void fl_watcher_destroy(struct fl_watcher *watcher); /* before the async client; NULL is fine */
FL_DEFINE_CLEANUP(struct fl_watcher, fl_watcher_destroy)

#endif
