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

/* Credentials that change wake who uses them: no need to wait for the next try. */

#define CREDENTIALS "credentials"

static void emit_credentials(const json_t *object, fl_index_emit_fn *emit, void *user)
{
    const char *name = fl_json_str(object, "spec.credentialsSecret.name");
    FL_CLEANUP(fl_freep) char *value = NULL;

    if (!name)
        return;
    value = fl_asprintf("%s/%s", fl_str_or(fl_json_str(object, "metadata.namespace"), ""), name);
    emit(user, value);
}

static void by_credentials(struct fl_cache *cache, const json_t *secret, fl_wake_add_fn *add,
                           void *user)
{
    FL_CLEANUP(fl_list_finish) struct fl_list list = {0};
    FL_CLEANUP(fl_freep)
    char *value = fl_asprintf("%s/%s", fl_str_or(fl_json_str(secret, "metadata.namespace"), ""),
                              fl_str_or(fl_json_str(secret, "metadata.name"), ""));

    fl_cache_list_by(cache, CREDENTIALS, value, &list);
    for (size_t i = 0; i < list.count; i++)
        add(user, list.objects[i]->ns, list.objects[i]->name);
}

static const struct fl_cache_index indexes[] = {{CREDENTIALS, emit_credentials}};

const struct fl_kind_ops fl_gitsync_ops = {
    .controller = "gitsync",
    .type = &fl_gitsync_type,
    FL_STATUS_OF(struct fl_gitsync),
    .finalizer = "flops.dev/gitsync",
    .wakes = {{.gvr = {"", "v1", "secrets", true}, .map = by_credentials}},
    .indexes = indexes,
    .index_count = FL_COUNT_OF(indexes),
    .is_suspended = is_suspended,
    .steps = {fl_sync_fetch, fl_sync_apply},
    .finalize = fl_sync_prune,
    .workers = 4,
};
