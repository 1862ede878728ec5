/* Output: what the shims wrote down, followed. */
#include "lib/log_file.h"
#include "reconcilers/workload/local/internal.h"

#include <inttypes.h>
#include <stdlib.h>

struct fl_log_reader {
    struct fl_local *local;
    struct fl_log_reader *next;
    struct fl_log_file *file;
    char *uid;
    int64_t index, number;
    int watch; /* < 0: none */
    void (*more)(void *user);
    void *user;
};

static void on_changes(void *user, unsigned what)
{
    struct fl_local *local = user;
    FL_LOCKED(local->logs_lock);
    int changes[64];
    size_t count;

    (void)what;
    while ((count = fl_folder_changes(local->log_watcher, changes, FL_COUNT_OF(changes))) > 0)
        for (struct fl_log_reader *reader = local->readers; reader; reader = reader->next)
            for (size_t i = 0; i < count; i++)
                if (reader->watch == changes[i] && reader->more) {
                    reader->more(reader->user);
                    break;
                }
}

int local_logs_begin(struct fl_local *local, struct fl_error *err)
{
    int r = fl_folder_watcher_open(&local->log_watcher, err);

    if (r == 0)
        r = fl_loop_watch_fd(local->loop, local->log_watcher, FL_LOOP_READ, on_changes, local,
                             &local->log_watcher_watch, err);
    return r;
}

void local_logs_end(struct fl_local *local)
{
    fl_loop_unwatch_fd(local->log_watcher_watch);
    fl_folder_watcher_close(local->log_watcher);
    fl_lock_destroy(local->logs_lock);
}

void local_logs_ended(struct instance *instance)
{
    struct fl_local *local = instance->local;
    FL_LOCKED(local->logs_lock);

    for (struct fl_log_reader *reader = local->readers; reader; reader = reader->next)
        if (reader->more && reader->index == instance->index &&
            fl_streq(reader->uid, instance->workload->uid))
            reader->more(reader->user);
}

/* The folder's number is shared by all who watch it. */
static void unwatch(struct fl_log_reader *reader)
{
    for (const struct fl_log_reader *other = reader->local->readers; other; other = other->next)
        if (other != reader && other->watch == reader->watch)
            return;
    if (reader->watch >= 0)
        fl_folder_unwatch(reader->local->log_watcher, reader->watch);
}

/* Watched before it is read: what comes in between is told, not missed. */
static int open_files(struct fl_log_reader *reader, const struct fl_log_query *query,
                      const char *folder, struct fl_error *err)
{
    struct fl_local *local = reader->local;
    FL_LOCKED(local->logs_lock);
    int r = fl_folder_watch(local->log_watcher, folder, &reader->watch, err);

    if (r == 0)
        r = fl_log_file_open(folder, FL_SHIM_LOG, query->tail_lines, query->timestamps,
                             &reader->file, err);
    if (r < 0) {
        unwatch(reader);
        return r;
    }
    reader->next = local->readers;
    local->readers = reader;
    return 0;
}

static int open_locked(struct fl_log_reader *reader, const struct fl_log_query *query,
                       struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_LOCKED(reader->local->lock);
    const struct instance *instance = local_instance(reader->local, &query->id);
    const char *folder;

    if (!instance || (query->previous && instance->record.number < 2))
        return fl_error_set(err, FL_E_NOT_FOUND, "there is no %srun of instance %" PRId64,
                            query->previous ? "earlier " : "", query->id.index);
    reader->number = instance->record.number - query->previous;
    folder = local_run_folder(arena, instance, reader->number);
    if (!fl_path_exists(folder))
        return fl_error_set(err, FL_E_NOT_FOUND, "no output is kept of run %" PRId64,
                            reader->number);
    return open_files(reader, query, folder, err);
}

static void free_reader(struct fl_log_reader *reader)
{
    fl_log_file_close(reader->file);
    free(reader->uid);
    free(reader);
}

int local_log_open(struct fl_orchestrator_driver *self, const struct fl_log_query *query,
                   void (*more)(void *user), void *user, struct fl_log_reader **ret_reader,
                   struct fl_error *err)
{
    struct fl_log_reader *reader = fl_calloc(1, sizeof(*reader));
    int r;

    *reader =
        (struct fl_log_reader){.local = local_of(self), .watch = -1, .more = more, .user = user};
    reader->uid = fl_strdup(query->id.workload_uid);
    reader->index = query->id.index;
    r = open_locked(reader, query, err);
    if (r < 0) {
        free_reader(reader);
        return r;
    }
    *ret_reader = reader;
    return 0;
}

static bool has_ended(const struct fl_log_reader *reader)
{
    FL_LOCKED(reader->local->lock);
    const struct instance *instance = local_instance(
        reader->local, &(struct fl_run_id){.workload_uid = reader->uid, .index = reader->index});

    return !instance || instance->record.number != reader->number || !instance->alive;
}

/* Whether it has ended is asked first: what came last is then in the files. */
int64_t local_log_read(struct fl_log_reader *reader, void *out, size_t size, bool *ret_ended,
                       struct fl_error *err)
{
    bool ended = has_ended(reader);
    int64_t n = fl_log_file_read(reader->file, out, size, err);

    *ret_ended = n == 0 && ended;
    return n;
}

void local_log_close(struct fl_log_reader *reader)
{
    if (!reader)
        return;
    {
        FL_LOCKED(reader->local->logs_lock);
        struct fl_log_reader **at = &reader->local->readers;

        while (*at != reader)
            at = &(*at)->next;
        *at = reader->next;
        unwatch(reader);
    }
    free_reader(reader);
}
