/* The tables: workloads by uid, their instances by index. */
#include "reconcilers/workload/local/internal.h"

#include "lib/file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TRASH ".trash"

struct workload *local_workload(struct fl_local *local, const char *uid)
{
    return fl_map_get(local->workloads, uid);
}

/* Where the index is, or would be. */
static size_t place_of(const struct workload *workload, int64_t index)
{
    size_t low = 0, high = workload->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (workload->instances[middle]->index < index)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct instance *find(const struct workload *workload, int64_t index)
{
    size_t at = workload ? place_of(workload, index) : 0;

    return workload && at < workload->count && workload->instances[at]->index == index
               ? workload->instances[at]
               : NULL;
}

struct instance *local_instance(struct fl_local *local, const struct fl_run_id *id)
{
    return find(local_workload(local, id->workload_uid), id->index);
}

static struct workload *ensure_workload(struct fl_local *local, const char *uid)
{
    struct workload *workload = local_workload(local, uid);

    if (!workload) {
        workload = fl_calloc(1, sizeof(*workload));
        workload->uid = fl_strdup(uid);
        fl_map_put(local->workloads, uid, workload);
    }
    return workload;
}

static void insert(struct workload *workload, struct instance *instance)
{
    size_t at = place_of(workload, instance->index);

    if (workload->count == workload->cap) {
        workload->cap = workload->cap ? workload->cap * 2 : 4;
        workload->instances =
            fl_realloc(workload->instances, workload->cap * sizeof(*workload->instances));
    }
    memmove(workload->instances + at + 1, workload->instances + at,
            (workload->count - at) * sizeof(*workload->instances));
    workload->instances[at] = instance;
    workload->count++;
}

struct instance *local_instance_ensure(struct fl_local *local, const char *uid, int64_t index)
{
    struct workload *workload = ensure_workload(local, uid);
    struct instance *instance = find(workload, index);

    if (instance)
        return instance;
    instance = fl_calloc(1, sizeof(*instance));
    instance->local = local;
    instance->workload = workload;
    instance->index = index;
    instance->arena = fl_arena_create();
    instance->shim = (struct fl_shim){.socket = -1, .pidfd = -1};
    insert(workload, instance);
    return instance;
}

/* What the loop owns was given back when the run ended; only the rest is left here. */
void local_instance_free(void *user)
{
    struct instance *instance = user;

    if (!instance)
        return;
    fl_timer_destroy(instance->watchdog);
    probes_end(instance);
    fl_loop_unwatch_fd(instance->socket_watch);
    fl_loop_unwatch_fd(instance->pidfd_watch);
    fl_shim_close(&instance->shim);
    if (instance->removing > 0)
        fl_fd_closep(&instance->removing);
    fl_arena_destroy(instance->arena);
    free(instance);
}

void local_workload_free(void *user)
{
    struct workload *workload = user;

    for (size_t i = 0; i < workload->count; i++)
        local_instance_free(workload->instances[i]);
    free(workload->instances);
    free(workload->uid);
    free(workload);
}

void local_instance_drop(struct instance *instance)
{
    struct workload *workload = instance->workload;
    struct fl_local *local = instance->local;
    size_t at = place_of(workload, instance->index);

    ports_release(instance, &instance->record, false);
    memmove(workload->instances + at, workload->instances + at + 1,
            (workload->count - at - 1) * sizeof(*workload->instances));
    workload->count--;
    instance->workload = NULL;
    instance->gone = true;
    if (workload->count == 0)
        (void)fl_map_remove(local->workloads, workload->uid);
    fl_loop_post(local->loop, local_instance_free, instance);
}

const char *local_instance_folder(struct fl_arena *arena, const struct instance *instance)
{
    return fl_arena_printf(arena, "%s/%s/%" PRId64, instance->local->folder,
                           instance->workload->uid, instance->index);
}

const char *local_run_folder(struct fl_arena *arena, const struct instance *instance,
                             int64_t number)
{
    return fl_arena_printf(arena, "%s/run-%" PRId64, local_instance_folder(arena, instance),
                           number);
}

const char *local_mark(struct fl_arena *arena, const struct instance *instance)
{
    return fl_arena_printf(arena, MARK_NAME "=%s/%" PRId64 "/%" PRId64, instance->workload->uid,
                           instance->index, instance->record.number);
}

/* Slow work for a worker: what a run left may be large. The folder itself stays: somebody may be
 * about to move something into it. */
static void empty_trash(void *user)
{
    struct fl_local *local = user;
    FL_CLEANUP(fl_freep) char *trash = fl_asprintf("%s/" TRASH, local->folder);
    struct fl_error err = {0};

    if (fl_dir_empty(trash, &err) < 0)
        fl_log_warn(local->env->log, "what was removed stays on disk", FL_STR("error", err.msg));
}

static void begin_to_empty(void *user);

static void trash_is_empty(void *user)
{
    struct fl_local *local = user;

    local->emptying = false;
    if (local->empty_again)
        begin_to_empty(local);
}

/* What comes while the worker is at it may be too late for it. */
static void begin_to_empty(void *user)
{
    struct fl_local *local = user;

    local->empty_again = local->emptying;
    if (!local->emptying)
        local->emptying =
            fl_loop_offload(local->loop, empty_trash, trash_is_empty, local, NULL) == 0;
}

void local_empty_trash(struct fl_local *local)
{
    fl_loop_post(local->loop, begin_to_empty, local);
}

void local_trash(struct fl_local *local, const char *path)
{
    FL_CLEANUP(fl_freep) char *trash = fl_asprintf("%s/" TRASH, local->folder);
    FL_CLEANUP(fl_freep) char *to = fl_asprintf("%s/%" PRId64, trash, local->next_trash++);
    struct fl_error err = {0};

    if (!fl_path_exists(path))
        return;
    if (fl_dir_ensure(trash, 0700, &err) == 0 && fl_folder_move(path, to, &err) == 0)
        local_empty_trash(local);
    else
        fl_log_warn(local->env->log, "what is not needed any more stays on disk",
                    FL_STR("path", path), FL_STR("error", err.msg));
}

void local_tell(struct fl_local *local, const char *ns, const char *name)
{
    if (local->changed)
        local->changed(local->changed_user, ns, name);
}
