/* A cache of one resource: list and watch into indexed, immutable objects.
 *
 * It holds what was true some moments ago, never invents anything, and catches up with whatever it
 * missed: a watch that expired or broke is listed anew, and every `resync_ms` all objects are told
 * to the handlers again. With the client's driver `local` it shares the store's objects.
 *
 * What is said of an object counts only where it is newer than what is known of it: events may be
 * lost, late, doubled or in another order, lists may be old. The next list, at the resync at the
 * latest, finds what was missed, and the handlers are told as if it had just happened. For them,
 * `old` is always what they were told last, and an object that was replaced by another one of its
 * name goes and comes.
 *
 * Reading: any thread. fl_cache_pump runs on one thread at a time (the manager's, or the
 * simulation's turn); handlers are called from it, without the cache's lock, in the order of the
 * changes, and must not block: they put keys into queues. */
#ifndef FL_CONTROLLER_CACHE_H
#define FL_CONTROLLER_CACHE_H

#include "controller/client/client.h"
#include "controller/store/store.h"

struct fl_cache;

/* The values under which an object is found: calls emit for each. */
typedef void fl_index_emit_fn(void *user, const char *value);
struct fl_cache_index {
    const char *name;
    void (*values)(const json_t *object, fl_index_emit_fn *emit, void *user);
};
#define FL_CACHE_INDEXES_MAX 8

/* Every cache has it: the uids of an object's owners. */
#define FL_INDEX_OWNER "owner"

/* `old` NULL: it is new; `object` NULL: it went (old is what was known last); both the same
 * pointer: a resync. Lent for the call. */
typedef void fl_cache_handler_fn(void *user, struct fl_object *old, struct fl_object *object);

struct fl_cache_options { /* what it points to is lent for the cache's life */
    const struct fl_env *env;
    struct fl_apiclient *client;
    struct fl_gvr gvr;
    const char *ns;    /* NULL: all namespaces */
    int64_t resync_ms; /* a list, then all is told; 0: 10 h; spread by a tenth */
    const struct fl_cache_index *indexes;
    size_t index_count;
    /* Any thread: there is something to pump. Must not block, nor take a lock that is held around
     * fl_cache_pump or fl_cache_destroy, which wait for it to return. */
    void (*wake)(void *user);
    void *wake_user;
    struct fl_metric_registry *metrics; /* may be NULL */
};

struct fl_cache *fl_cache_create(const struct fl_cache_options *options);
void fl_cache_destroy(struct fl_cache *cache);
FL_DEFINE_CLEANUP(struct fl_cache, fl_cache_destroy)
/* Before the first pump. */
void fl_cache_on_change(struct fl_cache *cache, fl_cache_handler_fn *handler, void *user);

/* Takes up to `limit` changes of the watch (0: all that are there) and lists where that is due;
 * returns how many changes these were, and objects told again. A list that fails is tried again
 * with back-off (0.8 s to 30 s), as is a watch that ends before it worked; the cache serves what it
 * has, and a watch that works goes on until a list is in. */
size_t fl_cache_pump(struct fl_cache *cache, size_t limit);
/* Monotonic time of the next list or resync that is due by time alone; 0: a pump has work now. */
int64_t fl_cache_next_due_ms(struct fl_cache *cache);
bool fl_cache_synced(struct fl_cache *cache); /* the first list, or the one asked for, is in */
/* Any thread: it is not synced until a list is in that begins after this; the next pump makes it.
 * Does not wake: whoever pumps is to be told. */
void fl_cache_refresh(struct fl_cache *cache);
uint64_t fl_cache_revision(struct fl_cache *cache);
size_t fl_cache_count(struct fl_cache *cache);

/* References of the caller's. get: NULL where it is not known. */
struct fl_object *fl_cache_get(struct fl_cache *cache, const char *ns, const char *name);
/* In order of namespace and name; ns NULL: all. fl_list_finish. */
void fl_cache_list(struct fl_cache *cache, const char *ns, struct fl_list *ret_list);
void fl_cache_list_by(struct fl_cache *cache, const char *index, const char *value,
                      struct fl_list *ret_list);

#endif
