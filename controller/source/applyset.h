/* Applies what a revision wants, and prunes what an earlier one applied and no more.
 *
 * Server-side apply as one field manager, in dependency order (namespaces and definitions first,
 * then roles, then secrets and settings, then the rest; what failed because something of this set
 * was not there yet is tried again at the end, until a round makes no progress), pruned in the
 * opposite order. What an object is called in the API (plural, namespaced or not) is asked of the
 * API itself, so that kinds whose definition came with the set work.
 *
 * An object carries its source's mark, an annotation with the source's name and uid. One that
 * another source holds is a fault, unless forced. An object leaves only if it is in the inventory,
 * is not in the set, still carries this set's mark (so that a source that took it over keeps it),
 * is still owned by this field manager, and does not say `flops.dev/prune: disabled` (it is let go
 * of then: it leaves the inventory). While a file could not be read nothing leaves that was in it
 * or may have been moved into it, since what that file wants is not known then, and no Namespace
 * and no definition, which would take others along; those do not leave either while something of
 * the set is in them. "Gone" is said of what the API has accepted to delete: an object with
 * finalizers may stand some time longer.
 *
 * What is right already costs one read, where the memo knows it, and a server-side apply that
 * changes nothing otherwise.
 *
 * What others changed since in an object of this source, other than by applying it, is drift and is
 * overwritten; fields that another applier declares are a conflict that names it, unless forced.
 *
 * With all_or_nothing everything is dry-run first. Of three things a dry run cannot judge, since
 * they need what the set itself brings, only the real apply tells: objects of a kind whose
 * definition the set makes or changes, objects in a namespace that the set makes, and bindings to
 * roles that the set makes.
 *
 * Blocks for the API calls it makes; stops at the deadline, between calls, and says so. What is
 * allocated is in the arena given. One thread. */
#ifndef FL_CONTROLLER_APPLYSET_H
#define FL_CONTROLLER_APPLYSET_H

#include "controller/client/client.h"
#include "controller/source/manifests.h"

#define FL_ANNOTATION_SOURCE "flops.dev/source" /* "NAMESPACE/NAME/UID" of the GitSync */
#define FL_ANNOTATION_PRUNE  "flops.dev/prune"  /* "disabled" */

struct fl_inventory_item {
    const char *group, *version, *kind, *ns, *name;
    const char *file; /* that it was in; NULL: not known, or too much to be remembered */
};
struct fl_inventory {
    struct fl_inventory_item *items;
    size_t count;
};
/* What a status may hold: the items, and the bytes of their texts. */
#define FL_INVENTORY_MAX       5000
#define FL_INVENTORY_BYTES_MAX ((size_t)768 * 1024)
#define FL_INVENTORY_FILE_MAX  1024

/* What was applied last, and which revision of the object came of it: an object that still has that
 * revision needs no apply. A help only; losing it costs time. One thread at a time. */
struct fl_applyset_memo;
struct fl_applyset_memo *fl_applyset_memo_create(void);
void fl_applyset_memo_destroy(struct fl_applyset_memo *memo);

enum fl_applyset_part {
    FL_APPLYSET_WHOLE = 0,
    FL_APPLYSET_TRY,   /* the dry run alone: before what it would apply is remembered */
    FL_APPLYSET_PRUNE, /* what has left the set alone: where there is no room to remember more */
};

struct fl_applyset_options {
    enum fl_applyset_part part;
    const struct fl_env *env;
    struct fl_apiclient *client; /* asks as the source's own user */
    const char *manager;         /* "flops-gitsync" */
    const char *source;          /* value of the annotation */
    const char *ns;              /* for objects that name none */
    bool force, prune;
    bool all_or_nothing; /* onError ApplyNothing: a dry run of all comes first */
    int64_t deadline_ms; /* monotonic */
    /* Replaces a sealed Secret's values (seal.h); NULL: such a Secret is a fault. In place. */
    int (*unseal)(void *user, json_t *secret, const char *ns, struct fl_error *err);
    /* Whether the source with that mark still holds the object. NULL: it does. */
    bool (*is_held)(void *user, const char *source, const struct fl_inventory_item *item);
    void *user;
    const char *forbidden_hint;    /* added to what is forbidden: whom to allow it; may be NULL */
    struct fl_applyset_memo *memo; /* may be NULL */
    /* May read all. Asked, where the source's own user may not read what is to be pruned, whether
     * it is there and is the source's at all: what never came to be must not hold up its end.
     * And asked whether a kind that seems to be gone is. Nothing is written with it, and nobody is
     * told what it saw. May be NULL. */
    struct fl_apiclient *witness;
};

struct fl_applyset_result {
    size_t total, created, changed, unchanged, pruned, failed;
    bool complete; /* all of it applied and pruned */
    bool prune_failed;
    bool refused;                  /* all_or_nothing: nothing was applied because of the faults */
    bool out_of_time;              /* the deadline passed; some of it was not looked at */
    struct fl_inventory inventory; /* what is to be remembered: never less than what may exist */
    struct fl_fault *faults;
    size_t fault_count;
};

/* The inventory that must be stored before applying begins, so that a crash half-way leaves nothing
 * that nobody would prune: the old one and all of the set. The namespace of a cluster-scoped object
 * is not known to be none until it is applied. TOO_LARGE beyond what a status may hold. */
int fl_applyset_plan(const struct fl_manifests *manifests, const struct fl_inventory *old,
                     const char *ns, struct fl_arena *arena, struct fl_inventory *ret_inventory,
                     struct fl_error *err);
/* Every item of `want` is in `have`, of the same file where that is to be remembered. */
bool fl_inventory_covers(const struct fl_inventory *have, const struct fl_inventory *want);

/* Faults of the manifests are counted as failures. An empty set prunes all of the inventory. */
void fl_applyset_apply(const struct fl_applyset_options *options,
                       const struct fl_manifests *manifests, const struct fl_inventory *inventory,
                       struct fl_arena *arena, struct fl_applyset_result *ret_result);

#endif
