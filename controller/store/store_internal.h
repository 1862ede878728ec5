/* Inside the store: what its files share. Nobody outside controller/store includes this.
 *
 *   store.c    opening, closing, reads
 *   object.c   stored objects: built from canonical text without parsing it whole
 *   index.c    the objects of a resource in order, each with its durable and its newest state
 *   history.c  the changes in order, bounded, and the cursors (watches) into them
 *   list.c     pages of the state now or at an older revision
 *   commit.c   writes: checked and queued, committed in groups, applied, or failed together
 *   seal.c     encryption at rest
 *   driver.c   the table of drivers; memory.c and sqlite.c are two
 *
 * One mutex (`lock`) guards all of struct fl_store but the hooks and what is marked. It is never
 * held while the driver works or a caller's function runs, except fl_list_query.match. */
#ifndef FL_CONTROLLER_STORE_INTERNAL_H
#define FL_CONTROLLER_STORE_INTERNAL_H

#include "controller/store/store_driver.h"

#include "lib/map.h"

#include <bsd/sys/tree.h>
#include <pthread.h>
#include <sys/queue.h>

/* Canonical text, and where in it the store has business. */
struct fl_content {
    const char *text;
    size_t len;
    size_t cut, resume;          /* the new revision goes between text[0,cut) and text[resume,) */
    const char *prefix, *suffix; /* around its digits */
    const char *uid, *labels;    /* JSON values within text; NULL: none */
    const char *end;
};

/* INVALID where the text is no object with metadata. Lends from `text`. */
int fl_content_scan(const char *text, size_t len, struct fl_content *ret_content,
                    struct fl_error *err);
struct fl_object *fl_object_create(const struct fl_key *key, uint64_t revision,
                                   const struct fl_content *content);

/* A write under way. Queued in order of revision. */
struct fl_pending {
    STAILQ_ENTRY(fl_pending) link;
    enum fl_store_op op;
    struct fl_entry *entry;
    struct fl_resource *resource;
    struct fl_object *object; /* what it leaves; a DELETE's final state */
    uint64_t previous;
    int64_t time_us;
    fl_store_done_fn *done;
    void *user;
};
STAILQ_HEAD(fl_pending_queue, fl_pending);

struct fl_entry {
    RB_ENTRY(fl_entry) link;
    struct fl_object *durable; /* what readers see; NULL: nothing */
    struct fl_pending *newest; /* the last write under way; NULL: none */
    const char *name;          /* in key, behind the namespace */
    char key[];
};
RB_HEAD(fl_entry_tree, fl_entry);

struct fl_history_event {
    TAILQ_ENTRY(fl_history_event) by_age;
    TAILQ_ENTRY(fl_history_event) by_resource;
    struct fl_resource *resource;
    struct fl_object *object, *previous;
    struct fl_bytes *frame;
    uint64_t revision;
    int64_t time_us;
    size_t charge; /* bytes that only history holds because of it */
    int refs;      /* the history's, and one a watch that stands on it */
    enum fl_event_type type;
    bool forgotten;
};
TAILQ_HEAD(fl_event_list, fl_history_event);

/* Never removed once made, so that watches and writes may point to it. */
struct fl_resource {
    char *name;
    struct fl_entry_tree entries;
    size_t count; /* of durable objects */
    struct fl_event_list events;
    uint64_t forgotten; /* its newest change that history lost; 0: none */
};

/* Frames are wanted while many watches pass the same event; older ones would only cost memory. */
#define FL_FRAMES_MAX      1024
#define FL_FRAME_BYTES_MAX ((size_t)2 * 1024 * 1024)

struct fl_history {
    struct fl_event_list events;
    size_t count, bytes;
    uint64_t forgotten;      /* newest change lost, or the revision compacted up to */
    uint64_t unknown_before; /* what was loaded says nothing of changes up to this one */
    struct fl_history_event *framed[FL_FRAMES_MAX]; /* a ring; each holds a reference */
    size_t framed_first, framed_count, frame_bytes;
};

struct fl_commit_hook {
    fl_store_commit_fn *fn;
    void *user;
};

struct fl_store {
    struct fl_store_options options; /* with its defaults filled in; constant */
    unsigned char *seal_key;         /* constant; NULL: none */
    struct fl_store_driver *driver;  /* the committer's */
    pthread_t committer;             /* where the driver blocks */
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct fl_map *resources;
    struct fl_history history;
    struct fl_pending_queue queue;
    size_t pending;     /* queued, and in the batch being committed */
    uint64_t revision;  /* newest durable */
    uint64_t given_out; /* newest of all */
    bool has_committer, committing, stopping, tend, tending_failed;
    size_t awaited;             /* the committer sleeps until so many are queued; 0: awake */
    size_t in_flight;           /* writers that the last commit saw */
    int64_t commit_us;          /* what a commit takes, smoothed */
    pthread_mutex_t hooks_lock; /* the hooks; held while they run, never while `lock` is */
    struct fl_commit_hook *hooks;
    size_t hook_count;
    size_t object_count, watch_count;
    uint64_t commits, writes, tended_at;
};

/* index.c: all under the lock */
struct fl_resource *fl_index_resource(struct fl_store *store, const char *name); /* may be NULL */
struct fl_resource *fl_index_ensure_resource(struct fl_store *store, const char *name);
struct fl_entry *fl_index_find(struct fl_resource *resource, const char *ns, const char *name);
struct fl_entry *fl_index_ensure(struct fl_resource *resource, const char *ns, const char *name);
/* The first entry behind (ns, name), or at it where `inclusive`; the first of all: ns "". */
struct fl_entry *fl_index_seek(struct fl_resource *resource, const char *ns, const char *name,
                               bool inclusive);
struct fl_entry *fl_index_next(struct fl_entry *entry);
int fl_key_compare(const char *ns_a, const char *name_a, const char *ns_b, const char *name_b);
struct fl_object *fl_entry_newest(const struct fl_entry *entry); /* lent; NULL: not there */
/* Replaces the durable state (steals `object`, may be NULL) and keeps the counts. */
void fl_index_set_durable(struct fl_store *store, struct fl_resource *resource,
                          struct fl_entry *entry, struct fl_object *object);
/* Drops the entry where nothing is left in it. */
void fl_index_tidy(struct fl_resource *resource, struct fl_entry *entry);
void fl_resource_destroy(void *user); /* a struct fl_resource */

/* history.c: all under the lock */
void fl_history_init(struct fl_history *history);
void fl_history_finish(struct fl_history *history);
enum fl_event_type fl_history_event_type(enum fl_store_op op);
/* Takes references of its own. */
void fl_history_append(struct fl_store *store, struct fl_resource *resource, enum fl_store_op op,
                       uint64_t revision, int64_t time_us, struct fl_object *object,
                       struct fl_object *previous);
void fl_history_trim(struct fl_store *store, int64_t now_us);
void fl_history_forget_up_to(struct fl_store *store, uint64_t revision);
int fl_history_reaches(const struct fl_resource *resource, uint64_t revision, struct fl_error *err);

/* commit.c */
void fl_commit_init(struct fl_store *store);
int fl_commit_start(struct fl_store *store, struct fl_error *err);
void fl_commit_stop(struct fl_store *store); /* when all writes under way have ended */
void fl_commit_tend(struct fl_store *store); /* there may be something to compact; under the lock */

/* seal.c */
bool fl_seal_applies(const struct fl_store *store, const char *resource);
struct fl_bytes *fl_seal(const struct fl_store *store, const struct fl_store_record *plain);
int fl_unseal(const struct fl_store *store, const struct fl_store_record *record,
              struct fl_bytes **ret_plain, struct fl_error *err);

#endif
