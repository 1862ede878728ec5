/* Applies what a revision wants, and prunes what an earlier one applied and no more.
 *
 * Server-side apply as one field manager, in dependency order (namespaces and definitions first,
 * then roles, then secrets and settings, then the rest; what failed because something of this set
 * was not there yet is tried again at the end), pruned in the opposite order. An object leaves only
 * if it is in the inventory, is not in the set, still carries this set's mark (an annotation with
 * the source's uid, so that another source that took it over keeps it), and does not say
 * `flops.dev/prune: disabled`.
 *
 * Blocks for the API calls it makes; stops at the deadline and says so. One thread. */
#ifndef FL_CONTROLLER_APPLYSET_H
#define FL_CONTROLLER_APPLYSET_H

#include "controller/client/client.h"
#include "controller/source/manifests.h"

#define FL_ANNOTATION_SOURCE "flops.dev/source" /* "NAMESPACE/NAME/UID" of the GitSync */
#define FL_ANNOTATION_PRUNE  "flops.dev/prune"  /* "disabled" */

struct fl_inventory_item {
    const char *group, *version, *kind, *ns, *name;
};
struct fl_inventory {
    struct fl_inventory_item *items;
    size_t count;
};

struct fl_applyset_options {
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
    void *user;
};

struct fl_applyset_result {
    size_t total, created, changed, unchanged, pruned, failed;
    bool complete; /* all of it applied and pruned */
    bool prune_failed;
    bool refused;                  /* all_or_nothing: nothing was applied because of the faults */
    struct fl_inventory inventory; /* what is to be remembered: never less than what may exist */
    struct fl_fault *faults;
    size_t fault_count;
};

/* The inventory that must be stored before applying begins, so that a crash half-way leaves nothing
 * that nobody would prune: the old one and all of the set. */
void fl_applyset_plan(const struct fl_manifests *manifests, const struct fl_inventory *old,
                      const char *ns, struct fl_arena *arena, struct fl_inventory *ret_inventory);
/* Faults of the manifests are counted as failures. < 0 only where nothing could be done at all. */
int fl_applyset_apply(const struct fl_applyset_options *options,
                      const struct fl_manifests *manifests, const struct fl_inventory *inventory,
                      struct fl_arena *arena, struct fl_applyset_result *ret_result,
                      struct fl_error *err);

#endif
