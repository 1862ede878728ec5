#include "controller/source/source.h"

struct fl_snapshot *fl_snapshot_create(void)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_snapshot *snapshot = fl_new(arena, struct fl_snapshot);

    snapshot->refs = 1;
    snapshot->arena = arena;
    return snapshot;
}

struct fl_snapshot *fl_snapshot_ref(struct fl_snapshot *snapshot)
{
    if (snapshot)
        (void)__atomic_add_fetch(&snapshot->refs, 1, __ATOMIC_RELAXED);
    return snapshot;
}

void fl_snapshot_unref(struct fl_snapshot *snapshot)
{
    if (snapshot && __atomic_sub_fetch(&snapshot->refs, 1, __ATOMIC_ACQ_REL) == 0)
        fl_arena_destroy(snapshot->arena);
}

void fl_fetch_result_finish(struct fl_fetch_result *result)
{
    fl_snapshot_unref(result->snapshot);
    *result = (struct fl_fetch_result){0};
}
