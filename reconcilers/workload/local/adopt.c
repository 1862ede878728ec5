/* After a restart: what the folders say, and who of the shims lives. Nothing is started here. */
#include "lib/file.h"

#include "reconcilers/workload/local/internal.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* Whose record cannot be read can be told to nobody, so it does not go on. */
static void end_runs_in(struct fl_arena *arena, const char *path)
{
    struct fl_folder_list list = {0};

    (void)fl_folder_list(arena, path, true, INSTANCES_MAX, &list, NULL);
    for (size_t i = 0; i < list.count; i++) {
        const char *folder = fl_arena_printf(arena, "%s/%s", path, list.names[i]);
        struct fl_shim shim;

        if (fl_shim_connect(folder, &shim, NULL) < 0)
            continue;
        (void)fl_shim_stop(&shim, SIGKILL, 0, "Lost", "its record cannot be read", NULL);
        fl_shim_close(&shim);
    }
}

static void set_aside(struct fl_local *local, const char *path, const char *why)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_freep)
    char *to = fl_asprintf("%s/.broken-%" PRId64, local->folder, fl_realtime_us(local->env));
    struct fl_error err = {0};

    fl_log_warn(local->env->log, "a folder is not understood and set aside", FL_STR("path", path),
                FL_STR("moved_to", to), FL_STR("why", why));
    end_runs_in(arena, path);
    if (fl_folder_move(path, to, &err) < 0)
        fl_log_error(local->env->log, "it cannot be moved", FL_STR("error", err.msg));
}

static int read_record(struct instance *instance, const char *folder, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    const char *path = fl_arena_printf(instance->arena, "%s/instance.json", folder);
    int r = fl_file_read(path, RECORD_MAX, &bytes, err);

    if (r == 0)
        r = record_decode(instance->arena, bytes->data, bytes->len, &instance->record, err);
    return r;
}

/* The shim's word is the last: while it lives it may not have written its end yet. */
static void find_shim(struct instance *instance)
{
    const char *folder = local_run_folder(instance->arena, instance, instance->record.number);
    struct fl_local *local = instance->local;
    struct fl_error err = {0};
    int r = fl_shim_connect(folder, &instance->shim, &err);

    if (r < 0 && r != FL_E_NOT_FOUND)
        fl_log_warn(local->env->log, "a shim cannot be reached", FL_STR("error", err.msg));
    if (fl_shim_status_read(instance->arena, folder, &instance->status, &err) < 0)
        instance->status = (struct fl_shim_status){0};
    probes_restore(instance);
    instance->alive = r == 0 || !instance->status.ended;
    if (!instance->alive)
        return;
    container_adopt(instance);
    local_supervise(instance);
}

/* A start that came to nothing before its record was there left an empty folder. */
static void adopt_instance(struct fl_local *local, const char *uid, int64_t index,
                           const char *folder)
{
    struct instance *instance = local_instance_ensure(local, uid, index);
    struct fl_error err = {0};
    int r = read_record(instance, folder, &err);

    if (r == 0) {
        find_shim(instance);
        ports_hold(instance, &instance->record, !instance->alive);
        return;
    }
    local_instance_drop(instance);
    if (r == FL_E_NOT_FOUND)
        local_trash(local, folder);
    else
        set_aside(local, folder, err.msg);
}

static int adopt_workload(struct fl_local *local, struct fl_arena *arena, const char *uid,
                          struct fl_error *err)
{
    const char *folder = fl_arena_printf(arena, "%s/%s", local->folder, uid);
    struct fl_folder_list list;
    int r = fl_folder_list(arena, folder, true, INSTANCES_MAX, &list, err);

    if (r < 0)
        return r;
    for (size_t i = 0; i < list.count; i++) {
        const char *path = fl_arena_printf(arena, "%s/%s", folder, list.names[i]);
        int64_t index;

        if (fl_str_to_int64(list.names[i], 0, INT32_MAX, &index))
            adopt_instance(local, uid, index, path);
        else
            set_aside(local, path, "its name is no number");
    }
    if (list.count == 0)
        local_trash(local, folder);
    return 0;
}

int local_adopt(struct fl_local *local, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_folder_list list;
    int r = fl_folder_list(arena, local->folder, true, WORKLOADS_MAX, &list, err);

    for (size_t i = 0; r == 0 && i < list.count; i++)
        r = adopt_workload(local, arena, list.names[i], err);
    return r;
}
