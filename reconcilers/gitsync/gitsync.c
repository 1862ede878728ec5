#include "reconcilers/gitsync/gitsync_internal.h"

void fl_sync_begin(struct fl_sync *sync, struct fl_reconcile *rc, void *object)
{
    *sync = (struct fl_sync){.rc = rc, .syncs = rc->user, .object = object};
    sync->ns = sync->object->meta.namespace;
    sync->name = sync->object->meta.name;
    sync->uid = sync->object->meta.uid;
    sync->now_ms = fl_monotonic_ms(rc->env);
    sync->memory = fl_sync_memory_get(sync);
}

static bool is_suspended(const void *object)
{
    return ((const struct fl_gitsync *)object)->spec.suspend;
}

const struct fl_kind_ops fl_gitsync_ops = {
    .controller = "gitsync",
    .type = &fl_gitsync_type,
    FL_STATUS_OF(struct fl_gitsync),
    .finalizer = "flops.dev/gitsync",
    .is_suspended = is_suspended,
    .steps = {fl_sync_fetch, fl_sync_apply},
    .finalize = fl_sync_prune,
    .workers = 4,
};
