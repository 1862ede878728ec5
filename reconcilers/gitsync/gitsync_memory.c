#include "reconcilers/gitsync/gitsync_internal.h"

static struct fl_sync_memory *memory_create(const struct fl_sync *sync)
{
    struct fl_sync_memory *memory = fl_calloc(1, sizeof(*memory));

    memory->ns = fl_strdup(sync->ns);
    memory->name = fl_strdup(sync->name);
    memory->memo = fl_applyset_memo_create();
    return memory;
}

static void memory_destroy(void *value)
{
    struct fl_sync_memory *memory = value;

    fl_snapshot_unref(memory->head);
    fl_snapshot_unref(memory->live);
    fl_applyset_memo_destroy(memory->memo);
    free(memory->asked_for);
    free(memory->told);
    free(memory->ns);
    free(memory->name);
    free(memory);
}

struct fl_gitsyncs *fl_gitsyncs_create(const struct fl_gitsync_options *options)
{
    struct fl_gitsyncs *syncs = fl_calloc(1, sizeof(*syncs));

    if (options)
        syncs->options = *options;
    syncs->lock = fl_lock_create();
    syncs->memories = fl_map_create(memory_destroy);
    return syncs;
}

void fl_gitsyncs_destroy(struct fl_gitsyncs *syncs)
{
    if (!syncs)
        return;
    fl_map_destroy(syncs->memories);
    fl_lock_destroy(syncs->lock);
    free(syncs);
}

void fl_gitsyncs_attach(struct fl_gitsyncs *syncs, struct fl_manager *manager,
                        struct fl_source *source)
{
    FL_LOCKED(syncs->lock);

    syncs->manager = manager;
    syncs->source = source;
}

void fl_gitsync_source_changed(void *user, const char *key)
{
    struct fl_gitsyncs *syncs = user;
    FL_CLEANUP(fl_freep) char *ns = NULL;
    FL_CLEANUP(fl_freep) char *name = NULL;
    struct fl_manager *manager;

    {
        FL_LOCKED(syncs->lock);
        const struct fl_sync_memory *memory = fl_map_get(syncs->memories, key);

        if (!memory || !syncs->manager)
            return;
        ns = fl_strdup(memory->ns);
        name = fl_strdup(memory->name);
        manager = syncs->manager;
    }
    fl_manager_enqueue(manager, fl_gitsync_ops.controller, ns, name);
}

/* Another object under the name, or none: the one that was had its finalizer taken away by force.
 * Never the caller's own, and never one whose pass is under way, for that has been cached. */
static bool is_gone(struct fl_cache *cache, const char *uid, const struct fl_sync_memory *memory)
{
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *object = fl_cache_get(cache, memory->ns, memory->name);

    return !object || strcmp(object->uid, uid) != 0;
}

static const char *find_gone(struct fl_sync *sync, struct fl_cache *cache)
{
    const char *uid;
    void *cursor = NULL, *value;

    while (fl_map_next(sync->syncs->memories, &cursor, &uid, &value))
        if (fl_streq(((struct fl_sync_memory *)value)->name, sync->name) &&
            fl_streq(((struct fl_sync_memory *)value)->ns, sync->ns) && is_gone(cache, uid, value))
            return fl_arena_strdup(sync->rc->arena, uid);
    return NULL;
}

/* Under the lock. The memory of an object that had this name before: its passes are over, since
 * this is a pass of the same key. */
static void sweep(struct fl_sync *sync)
{
    struct fl_gvr gvr = fl_gvr_of(&fl_gitsync_type);
    struct fl_cache *cache = fl_manager_cache(sync->rc->manager, &gvr);
    const char *uid;

    while ((uid = find_gone(sync, cache))) {
        (void)fl_map_remove(sync->syncs->memories, uid);
        (void)sync->syncs->source->ops->forget(sync->syncs->source, uid, NULL);
    }
}

struct fl_sync_memory *fl_sync_memory_get(struct fl_sync *sync)
{
    struct fl_gitsyncs *syncs = sync->syncs;
    FL_LOCKED(syncs->lock);
    struct fl_sync_memory *memory = fl_map_get(syncs->memories, sync->uid);

    if (memory)
        return memory;
    sweep(sync);
    memory = memory_create(sync);
    fl_map_put(syncs->memories, sync->uid, memory);
    return memory;
}

void fl_sync_memory_drop(struct fl_sync *sync)
{
    FL_LOCKED(sync->syncs->lock);

    (void)fl_map_remove(sync->syncs->memories, sync->uid);
    sync->memory = NULL;
}
