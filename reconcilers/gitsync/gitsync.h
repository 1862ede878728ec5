/* The reconciler of GitSync: fetch, verify, apply, prune, and keep it so.
 *
 * A try is a fetch (begun in the background under the object's uid, seen later) and an apply of
 * what it found. Tries come every spec.interval (with up to a tenth of jitter, so that many
 * GitSyncs do not beat as one; at least a second), after retryInterval, doubled, while they fail,
 * when the spec or the annotation flops.dev/reconcile changes, and when a watched folder has news.
 * Each interval what is live is put right again, whether the remote can be reached or not.
 *
 * Before anything is applied, the inventory that then must be pruned some day is in the status: the
 * pass that finds a new revision records it and stops, and the next one applies. So a crash
 * anywhere leaves nothing behind that nobody knows of. Decisions are made on the newest state of
 * the object; a pass that has read an older one ends in a conflict and comes again.
 *
 * In memory there are, by uid, what was fetched and when to look again; all of it can be lost, and
 * costs a fetch. What is live stays live while the newest revision cannot be fetched, is not
 * signed, or (ApplyNothing) has faults; it is kept right as long as this process has it.
 *
 * Whose rights it has
 *   A GitSync acts as user "system:gitsync:NAMESPACE:NAME" of the groups "system:gitsyncs",
 *   "system:gitsyncs:NAMESPACE" and "system:authenticated", also when it reads its credentials and
 *   when it prunes because it is deleted; never as the control plane. The reconciler makes, once, a
 *   RoleBinding "flops-gitsync" in the namespace, which gives that group the ClusterRole "edit"
 *   there. So:
 *   - Whoever may write GitSyncs in a namespace can do there what "edit" can, and nothing
 * elsewhere: objects of other namespaces and of the cluster, and roles, are FORBIDDEN, and the
 * fault says which user an administrator would have to bind. Somebody who may write GitSyncs but
 * has less than "edit" gains by it, as with Pods and service accounts: an administrator who does
 * not want that changes the RoleBinding (one that exists is left as it is, whatever it says).
 *   - What an administrator binds to a GitSync's user, everybody has who may write that GitSync, or
 *     make one of that name: its URL and allowed signers are theirs to change.
 *   - A GitSync cannot bind what its user does not have (the API refuses escalation), cannot take a
 *     name with a colon, and so cannot be another's user.
 *   - The mark on objects and status.inventory may be written by whoever may edit; neither gives
 *     rights: what is pruned is pruned with the GitSync's own, and only if mark, field manager and
 *     inventory agree. A forged mark does not lock an object either: its named source must exist
 *     and hold the object.
 *   - Credentials come from a Secret of the same namespace, which the GitSync's own user must be
 *     allowed to read.
 *   - `dir://` and `file://` name what is on the control plane's machine. They are for GitSyncs of
 *     namespace flops-system, unless the options say that whoever may write GitSyncs may read that.
 *   - GitSyncs of namespace flops-system act as group system:masters: whoever may write there, be
 *     it "edit" only, is as trusted as the control plane. Bind nobody there lightly.
 *   - Messages of the API about Secrets are left out of status, since they quote values.
 *
 * The memory is shared by the worker threads (one lock inside). */
#ifndef FL_RECONCILERS_GITSYNC_H
#define FL_RECONCILERS_GITSYNC_H

#include "controller/runtime/manager.h"
#include "controller/runtime/reconcile.h"
#include "controller/source/source.h"

#define FL_GITSYNC_ROLE_BINDING "flops-gitsync"
#define FL_GITSYNC_MANAGER      "flops-gitsync" /* field manager of what is applied */
#define FL_GITSYNC_ANNOTATION   "flops.dev/reconcile"

extern const struct fl_kind_ops fl_gitsync_ops;

struct fl_gitsync_options {
    /* Opens the values of a sealed Secret (controller/source/seal.h); may be NULL. */
    int (*unseal)(void *user, json_t *secret, const char *ns, struct fl_error *err);
    void *user;
    bool local_everywhere; /* file:// and dir:// in every namespace */
};

/* What fl_manager_add takes as `user` beside fl_gitsync_ops. Order: create; make the source with
 * fl_gitsync_source_changed and this as its user; attach; add; …; stop the manager, destroy the
 * source, then this. */
struct fl_gitsyncs;
struct fl_gitsyncs *fl_gitsyncs_create(const struct fl_gitsync_options *options);
void fl_gitsyncs_destroy(struct fl_gitsyncs *syncs);
FL_DEFINE_CLEANUP(struct fl_gitsyncs, fl_gitsyncs_destroy)
void fl_gitsyncs_attach(struct fl_gitsyncs *syncs, struct fl_manager *manager,
                        struct fl_source *source);
void fl_gitsync_source_changed(void *user, const char *key);

#endif
