/* The table of runs, and their records on disk. */
#include "lib/file.h"
#include "lib/folder.h"
#include "lib/str.h"
#include "reconcilers/workload/oakestra/internal.h"

#include <inttypes.h>
#include <unistd.h>

#define RUNS_MAX  100000
#define ARENA_MAX ((size_t)128 * 1024) /* then a record is made anew */
#define SUFFIX    ".json"

static const char *key_of(struct fl_arena *arena, const char *uid, int64_t index)
{
    return fl_arena_printf(arena, "%s/%" PRId64, uid, index);
}

struct oak_run *oak_run_find(struct fl_oakestra *oak, const char *uid, int64_t index)
{
    FL_CLEANUP(fl_freep) char *key = fl_asprintf("%s/%" PRId64, uid, index);

    return fl_map_get(oak->runs, key);
}

/* Into the run's own arena. */
static void take_record(struct oak_run *run, const struct oak_record *record)
{
    struct fl_arena *arena = fl_arena_create();
    FL_JSON json = oak_record_encode(record);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = fl_json_to_bytes(json);
    struct oak_record copy = *record;

    if (oak_record_decode(arena, bytes->data, bytes->len, &copy, NULL) < 0) {
        fl_arena_destroy(arena);
        return;
    }
    copy.trouble = fl_arena_copy(arena, record->trouble);
    copy.acted_turn = record->acted_turn;
    fl_arena_destroy(run->arena);
    run->arena = arena;
    run->record = copy;
}

void oak_run_free(void *user)
{
    struct oak_run *run = user;

    if (!run)
        return;
    json_decref(run->service);
    fl_arena_destroy(run->arena);
    free(run->key);
    free(run->uid);
    free(run->logs);
    free(run);
}

struct oak_run *oak_run_put(struct fl_oakestra *oak, const struct oak_record *record)
{
    struct oak_run *run = fl_calloc(1, sizeof(*run));

    run->driver = oak;
    run->arena = fl_arena_create();
    run->uid = fl_strdup(record->uid);
    run->key = fl_strdup(key_of(run->arena, record->uid, record->index));
    run->record = *record;
    take_record(run, record);
    fl_map_put(oak->runs, run->key, run);
    return run;
}

/* Disk */

static const char *path_of(const struct fl_oakestra *oak, struct fl_arena *arena, const char *uid,
                           int64_t index)
{
    char app[OAK_NAME_SIZE];

    oak_app_name(oak->prefix, uid, app);
    return fl_arena_printf(arena, "%s/%s.%" PRId64 SUFFIX, oak->folder, app, index);
}

int oak_run_write(const struct oak_run *run, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON json = oak_record_encode(&run->record);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = fl_json_to_bytes(json);
    const char *path = path_of(run->driver, arena, run->record.uid, run->record.index);

    if (fl_arena_size_bytes(run->arena) > ARENA_MAX)
        take_record((struct oak_run *)run, &run->record);
    return fl_file_write(path, bytes->data, bytes->len, 0600, err);
}

void oak_run_drop(struct oak_run *run)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_oakestra *oak = run->driver;

    (void)unlink(path_of(oak, arena, run->record.uid, run->record.index));
    (void)fl_map_remove(oak->runs, key_of(arena, run->record.uid, run->record.index));
}

/* A record that cannot be read is set aside: what it spoke of is found again at the root. */
static void read_one(struct fl_oakestra *oak, const char *path)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    struct oak_record record;
    struct fl_error err = {0};
    int r = fl_file_read(path, OAK_RECORD_MAX, &bytes, &err);

    if (r == 0)
        r = oak_record_decode(arena, bytes->data, bytes->len, &record, &err);
    if (r == 0) {
        (void)oak_run_put(oak, &record);
        return;
    }
    fl_log_warn(oak->env->log, "a record is set aside", FL_STR("path", path),
                FL_STR("error", err.msg));
    (void)fl_folder_move(path, fl_arena_printf(arena, "%s.damaged", path), NULL);
}

int oak_runs_read(struct fl_oakestra *oak, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_folder_list list = {0};
    int r = fl_folder_list(arena, oak->folder, false, RUNS_MAX, &list, err);

    for (size_t i = 0; r == 0 && i < list.count; i++)
        if (fl_str_has_suffix(list.names[i], SUFFIX))
            read_one(oak, fl_arena_printf(arena, "%s/%s", oak->folder, list.names[i]));
    return r;
}
