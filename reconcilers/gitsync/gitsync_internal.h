/* The parts of the GitSync reconciler. */
#ifndef FL_RECONCILERS_GITSYNC_INTERNAL_H
#define FL_RECONCILERS_GITSYNC_INTERNAL_H

#include "controller/source/applyset.h"
#include "lib/map.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "reconcilers/gitsync/gitsync.h"

/* What is remembered of one GitSync. Used by its passes, of which there is one at a time. */
struct fl_sync_memory {
    char *ns, *name;
    uint64_t asked_ticket, seen_ticket;
    bool waiting;             /* for the end of a fetch */
    int64_t asked_generation; /* of the spec that the newest fetch is about */
    char *asked_for;          /* the annotation's value that it answers; NULL: none */
    uint64_t asked_with;      /* revision of the credentials' Secret that it was begun with */
    bool try_open;            /* a fetch ended, and what it found was not dealt with yet */
    bool fetch_failed;
    struct fl_snapshot *head;           /* what the newest good fetch found */
    struct fl_snapshot *live;           /* what was applied last, if only in part */
    int64_t fetch_due_ms, apply_due_ms; /* monotonic */
    char *told; /* what status must say since the last try; else it was not written */
    struct fl_applyset_memo *memo;
};

struct fl_gitsyncs {
    struct fl_gitsync_options options;
    struct fl_manager *manager;
    struct fl_source *source;
    struct fl_lock *lock;
    struct fl_map *memories; /* by uid */
};

/* One pass. */
struct fl_sync {
    struct fl_reconcile *rc;
    struct fl_gitsyncs *syncs;
    struct fl_gitsync *object;
    struct fl_sync_memory *memory;
    const char *ns, *name, *uid;
    int64_t now_ms;
};
void fl_sync_begin(struct fl_sync *sync, struct fl_reconcile *rc, void *object);

/* gitsync_memory.c */
struct fl_sync_memory *fl_sync_memory_get(struct fl_sync *sync); /* made where there is none */
void fl_sync_memory_drop(struct fl_sync *sync);

/* gitsync_rights.c */
struct fl_apiclient *fl_sync_client(struct fl_sync *sync); /* as its own user; the caller's */
int fl_sync_ensure_rights(struct fl_sync *sync, struct fl_error *err);
void fl_sync_drop_rights(struct fl_sync *sync); /* of the last GitSync of the namespace */
const char *fl_sync_forbidden_hint(struct fl_sync *sync);

/* gitsync_fetch.c */
/* Looks at the fetch, begins one where it is due. */
int fl_sync_fetch(struct fl_reconcile *rc, void *object, struct fl_error *err);
/* More is asked for than what the newest fetch answers: by the annotation, or by credentials that
 * have changed since. */
bool fl_sync_is_asked_for(struct fl_sync *sync);

/* gitsync_apply.c */
int fl_sync_apply(struct fl_reconcile *rc, void *object, struct fl_error *err);
/* CONFLICT or NOT_FOUND where the object that this pass has read is not the server's. */
int fl_sync_check_newest(struct fl_sync *sync, struct fl_error *err);
int fl_sync_prune(struct fl_reconcile *rc, void *object, struct fl_error *err);

/* gitsync_report.c */
void fl_sync_set_inventory(struct fl_sync *sync, const struct fl_inventory *inventory);
void fl_sync_get_inventory(struct fl_sync *sync, struct fl_inventory *ret_inventory);
void fl_sync_set_result(struct fl_sync *sync, const struct fl_applyset_result *result);
const char *fl_sync_tell_faults(struct fl_sync *sync, const struct fl_applyset_result *result);
const char *fl_sync_cut(struct fl_sync *sync, const char *text, size_t max);
/* The try has ended: when the next one is, and what status says of it. */
void fl_sync_end_try(struct fl_sync *sync, bool good);
/* What conditions said before is still so; Fetching where they said nothing of this spec. */
int fl_sync_repeat(struct fl_sync *sync);
/* Ready is what the conditions of this pass add up to. */
int fl_sync_sum_up(struct fl_sync *sync);
/* A pass that has told of a try ends with its status written, or that write failed: then the next
 * one finds that status does not say what was told. */
void fl_sync_note_told(struct fl_sync *sync);
bool fl_sync_was_told(struct fl_sync *sync);
void fl_sync_requeue(struct fl_sync *sync);
int64_t fl_sync_duration_ms(const char *text, int64_t least_ms, int64_t fallback_ms);
int64_t fl_sync_interval_ms(const struct fl_sync *sync);

#endif
