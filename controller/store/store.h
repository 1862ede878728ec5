/* The store: every object's current content, and the changes that led there.
 *
 * Objects are canonical JSON under (resource, namespace, name). Each accepted write gets the next
 * revision, one counter for all resources, which becomes the object's metadata.resourceVersion.
 * The store knows nothing of what objects mean (that is api/meta.h); it promises:
 *  - a write was checked against the newest state, including writes not yet durable, and is
 *    acknowledged (`done`) only when durable; readers and watchers see only durable state, in
 *    revision order, each change once;
 *  - after a crash at any point, all that was acknowledged is there, nothing is there in part, and
 *    what was not acknowledged is there whole or not at all;
 *  - if the disk refuses, the writes under way fail with UNAVAILABLE and the state stays what was
 *    durable.
 * Writes under way are committed together (group commit), in order; a write may build on one that
 * is not durable yet, and fails with it.
 *
 * All functions may be called from any thread. Objects are immutable and reference counted. */
#ifndef FL_CONTROLLER_STORE_H
#define FL_CONTROLLER_STORE_H

#include "lib/env.h"
#include "lib/error.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fl_store;

struct fl_label {
    const char *key, *value;
};

struct fl_object {
    int refs; /* fl_object_ref and fl_object_unref only */
    uint64_t revision;
    const char *resource; /* "flprojects.flops.dev"; core resources have no group: "secrets" */
    const char *ns;       /* "" for cluster-scoped ones */
    const char *name;
    const char *uid;               /* "" if the content has none */
    struct fl_bytes *json;         /* canonical, with its resourceVersion */
    const struct fl_label *labels; /* sorted by key */
    size_t label_count;
};

struct fl_object *fl_object_ref(struct fl_object *object);
void fl_object_unref(struct fl_object *object);
FL_DEFINE_CLEANUP(struct fl_object, fl_object_unref)
/* The content as a value of the caller's own. */
json_t *fl_object_parse(const struct fl_object *object);

struct fl_store_options {
    const struct fl_env *env;
    const char *driver;        /* "memory", "sqlite" */
    const char *path;          /* sqlite: the database file */
    size_t max_history_events; /* 0: 20,000; the oldest go first, whatever their age */
    size_t max_history_bytes;  /* 0: 16 MiB, counting content that only history holds */
    int64_t history_ms;        /* events are kept at least so long within the bounds; 0: 5 min */
    size_t max_object_bytes;   /* 0: 1.5 MiB */
    size_t max_pending_writes; /* 0: 4096; UNAVAILABLE beyond */
    /* Content of these resources is encrypted at rest (XChaCha20-Poly1305, bound to its key and
     * revision). NULL: none. The key is copied and wiped at close. */
    bool (*sealed)(const char *resource);
    const unsigned char *seal_key; /* 32 bytes */
};

int fl_store_open(const struct fl_store_options *options, struct fl_store **ret_store,
                  struct fl_error *err);
/* Waits for the writes under way, then closes. Watches must be gone. */
void fl_store_close(struct fl_store *store);
FL_DEFINE_CLEANUP(struct fl_store, fl_store_close)

/* Writes. */
struct fl_key {
    const char *resource, *ns, *name; /* ns NULL or "": cluster-scoped */
};

enum fl_store_op { FL_STORE_CREATE, FL_STORE_UPDATE, FL_STORE_DELETE };

struct fl_store_write {
    enum fl_store_op op;
    struct fl_key key;
    json_t *object;           /* content; its metadata.resourceVersion is set by the store. A
                                 DELETE takes NULL: the last content, or content for the final
                                 event */
    uint64_t expect_revision; /* update, delete: CONFLICT unless this is the newest; 0: any */
};

/* Called once: `code` 0 with the stored object (for a DELETE its final state), or an error. On any
 * thread, possibly before fl_store_write returns (memory driver); must not block or write. */
typedef void fl_store_done_fn(void *user, int code, struct fl_object *object,
                              const struct fl_error *err);

/* ALREADY_EXISTS, NOT_FOUND, CONFLICT, TOO_LARGE, UNAVAILABLE at once (then `done` is not called);
 * 0: accepted, `done` follows. */
int fl_store_write(struct fl_store *store, const struct fl_store_write *write,
                   fl_store_done_fn *done, void *user, struct fl_error *err);
/* The same, waiting until it is durable. *ret_object (may be NULL) is the caller's reference. */
int fl_store_write_wait(struct fl_store *store, const struct fl_store_write *write,
                        struct fl_object **ret_object, struct fl_error *err);

/* Reads. */
/* A reference, or NULL. `newest` includes writes that are not durable yet: for read-modify-write
 * only, never for an answer. */
struct fl_object *fl_store_get(struct fl_store *store, const struct fl_key *key);
struct fl_object *fl_store_get_newest(struct fl_store *store, const struct fl_key *key);
uint64_t fl_store_revision(struct fl_store *store);           /* newest durable */
uint64_t fl_store_compacted_revision(struct fl_store *store); /* history begins behind it */
size_t fl_store_count(struct fl_store *store, const char *resource);

struct fl_list_query {
    const char *resource;
    const char *ns;       /* NULL: all */
    const char *after_ns; /* begin behind this (namespace, name); NULL: at the start */
    const char *after_name;
    size_t limit;      /* 0: all */
    uint64_t revision; /* 0: now; else the state at exactly that revision, EXPIRED if
                          compacted, INVALID if in the future */
    bool (*match)(void *user, const struct fl_object *object); /* may be NULL; under the store's
                                 lock: quick, no calls into the store */
    void *user;
};

struct fl_list {
    struct fl_object **objects; /* ordered by namespace, then name (bytes) */
    size_t count;
    uint64_t revision;
    bool more;        /* the limit cut it off */
    size_t remaining; /* how many more, where `match` is NULL */
};

int fl_store_list(struct fl_store *store, const struct fl_list_query *query,
                  struct fl_list *ret_list, struct fl_error *err);
void fl_list_finish(struct fl_list *list);

/* Watching. A watch is a cursor into the history: whoever holds it asks for the next change when
 * there is room for it. */
enum fl_event_type { FL_EVENT_ADDED, FL_EVENT_MODIFIED, FL_EVENT_DELETED };

struct fl_event {
    enum fl_event_type type;
    uint64_t revision;
    struct fl_object *object;   /* DELETED: its final state, with the deletion's revision */
    struct fl_object *previous; /* what was there before; NULL for ADDED */
    struct fl_bytes **cache;    /* a place for the reader to keep what it made of the event (a
                                   watch frame), shared by all watches; lasts as long as the
                                   event; see fl_event_cache_put. NULL in commit callbacks */
};

struct fl_watch;

/* Changes after `revision` to a resource (in one namespace, or all where ns is NULL). EXPIRED where
 * a change to this resource after `revision` was forgotten: a flood of other resources' changes
 * does not end its watches. (After a restart nothing is known from before the compacted revision.)
 * `revision` may be in the future: what comes before it is passed over. */
int fl_store_watch(struct fl_store *store, const char *resource, const char *ns, uint64_t revision,
                   struct fl_watch **ret_watch, struct fl_error *err);
void fl_watch_close(struct fl_watch *watch);
/* 1: *ret_event is the next change (its references last until the next call on this watch);
 * 0: none now; EXPIRED: this watch fell behind the history. */
int fl_watch_next(struct fl_watch *watch, struct fl_event *ret_event, struct fl_error *err);
/* Every change up to this one has been returned: what a bookmark may say. */
uint64_t fl_watch_revision(struct fl_watch *watch);

/* Stores a frame for the event for others who watch; takes the reference. The first one is kept,
 * for a while: frames are many, and the oldest go. By the holder of the watch, for the event it
 * returned last. */
void fl_event_cache_put(struct fl_watch *watch, const struct fl_event *event,
                        struct fl_bytes *frame);

/* Called after each commit, on the committing thread, with its changes in order: to wake loops and
 * keep indexes. Those added first are called first. Must be quick, must not write, and adds or
 * removes no other. A commit under way when it is added may pass it by; after the removal it is not
 * called any more. */
typedef void fl_store_commit_fn(void *user, const struct fl_event *events, size_t count);
void fl_store_on_commit(struct fl_store *store, fl_store_commit_fn *fn, void *user);
void fl_store_off_commit(struct fl_store *store, fl_store_commit_fn *fn, void *user);

/* Forgets history up to `revision` (also done by itself, by the bounds in the options). */
int fl_store_compact(struct fl_store *store, uint64_t revision, struct fl_error *err);

struct fl_store_stats {
    size_t objects, history_events, pending_writes;
    uint64_t revision, compacted_revision, commits, writes;
};
struct fl_store_stats fl_store_stats(struct fl_store *store);

#endif
