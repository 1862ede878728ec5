/* The driver's side in the control plane: who waits for what, a few threads that each stand by one
 * child, and what is known of each key. libgit2 is not used here.
 *
 *     DATA_DIR/git/KEY/   repository   what was fetched, bare
 *                         snapshot     the chosen files of the last good revision
 *                         home, lock   of the child
 */
#include "controller/source/git_internal.h"

#include "lib/file.h"
#include "lib/log.h"
#include "lib/map.h"
#include "lib/run.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>

/* Children at once; a deadline counts from when its child begins. One that has not ended after a
 * while waits for its remote and costs next to nothing: it makes room for another, so that remotes
 * that hang do not hold up those that answer. */
#define AT_ONCE     8
#define AT_ONCE_MAX 32
#define SLOW_MS     3000
#define GRAVE       ".gone-"

/* What is known of a key. Fields are the lock's; `job` is the worker's while `is_running`. */
struct entry {
    struct entry *next; /* waiting */
    char *key;
    bool is_waiting, is_running;
    struct fl_run_cancel *cancel;
    struct fl_bytes *job; /* the request as JSON; wiped when it was sent */
    char *dir, *digest;
    int64_t timeout_ms, began_ms;
    uint64_t ticket;
    enum fl_fetch_state state;
    struct fl_snapshot *snapshot; /* the last good one of this digest */
    char *attempted;
    const char *reason;
    struct fl_error err;
    int64_t finished_ms;
};

struct git_source {
    struct fl_source base;
    struct fl_source_options options;
    char *dir, *data_dir;
    struct fl_lock *lock;
    struct fl_signal *work, *ended;
    struct fl_map *entries;
    struct entry *first, **last; /* that wait for a worker */
    struct fl_thread *workers[AT_ONCE_MAX];
    struct entry *running[AT_ONCE_MAX];
    size_t worker_count, idle, waiting, running_count;
    uint64_t tickets, graves;
    bool closing;
};

/* --- entries --- */

static void wipe_job(struct entry *entry)
{
    if (entry->job)
        sodium_memzero(entry->job->data, entry->job->len);
    fl_bytes_unref(FL_TAKE(entry->job));
}

static void destroy_entry(void *value)
{
    struct entry *entry = value;

    wipe_job(entry);
    fl_run_cancel_destroy(entry->cancel);
    fl_snapshot_unref(entry->snapshot);
    free(entry->key);
    free(entry->dir);
    free(entry->digest);
    free(entry->attempted);
    free(entry);
}

static struct entry *ensure_entry(struct git_source *source, const char *key)
{
    struct entry *entry = fl_map_get(source->entries, key);

    if (entry)
        return entry;
    entry = fl_calloc(1, sizeof(*entry));
    entry->key = fl_strdup(key);
    entry->dir = fl_asprintf("%s/%s", source->dir, key);
    fl_map_put(source->entries, key, entry);
    return entry;
}

/* It becomes the name of a folder. */
static int check_key(const char *key, struct fl_error *err)
{
    size_t len = strlen(key);

    if (len == 0 || len > FL_GIT_KEY_MAX || *key == '.' ||
        strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != len)
        return fl_error_set(err, FL_E_INVALID, "\"%.140s\" is no key of a source", key);
    return 0;
}

static void enqueue(struct git_source *source, struct entry *entry)
{
    entry->next = NULL;
    entry->is_waiting = true;
    *source->last = entry;
    source->last = &entry->next;
    source->waiting++;
    fl_signal_one(source->work);
}

static void dequeue(struct git_source *source, struct entry *entry)
{
    struct entry **at = &source->first;

    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    if (source->last == &entry->next)
        source->last = at;
    entry->is_waiting = false;
    source->waiting--;
}

/* --- one job, without the lock --- */

/* What a worker found out; handed to the entry at the end. */
struct outcome {
    struct fl_snapshot *snapshot; /* a new one, or NULL */
    char *attempted;
    const char *reason;
    struct fl_error err; /* code 0: done */
};

static const char *known_reason(const char *text)
{
    static const char *const reasons[] = {"RevisionNotFound", "NotSigned"};

    for (size_t i = 0; i < FL_COUNT_OF(reasons); i++)
        if (fl_streq(text, reasons[i]))
            return reasons[i];
    return "FetchFailed";
}

static int run_child(struct git_source *source, const struct entry *entry, json_t **ret_answer,
                     struct fl_error *err)
{
    struct fl_run_result result;
    int r =
        fl_git_child_run(entry->job, entry->timeout_ms, entry->cancel, ret_answer, &result, err);

    if (r < 0 && r != FL_E_TIMEOUT && r != FL_E_CONFLICT && !*ret_answer && result.errors)
        fl_log_warn(source->options.env->log, "git fetch ended without an answer",
                    FL_STR("key", entry->key), FL_INT("exit", result.status),
                    FL_INT("signal", result.signum), FL_STR("output", result.errors->data));
    fl_run_result_finish(&result);
    return r;
}

/* Only the worker changes an entry's snapshot while it runs, so it may look without the lock. */
static bool is_known(const struct entry *entry, const json_t *answer)
{
    return entry->snapshot &&
           fl_streq(entry->snapshot->revision, fl_json_str(answer, "revision")) &&
           fl_streq(entry->snapshot->signer, fl_json_str(answer, "signer"));
}

static int read_answer(const struct entry *entry, const json_t *answer, struct outcome *outcome)
{
    const char *revision = fl_json_str(answer, "revision");

    if (revision)
        outcome->attempted = fl_strdup(revision);
    if (!fl_json_bool(answer, "done", false)) {
        outcome->reason = known_reason(fl_json_str(answer, "reason"));
        return fl_error_set(&outcome->err, fl_error_from_status(fl_json_str(answer, "code"), 500),
                            "%s", fl_str_or(fl_json_str(answer, "message"), "no message"));
    }
    if (is_known(entry, answer)) {
        outcome->snapshot = fl_snapshot_ref(entry->snapshot);
        return 0;
    }
    return fl_git_snapshot_read(entry->dir, entry->digest, &outcome->snapshot, &outcome->err);
}

/* After a restart, and after a change of what is asked for: what was good last. */
static void recall(struct git_source *source, struct entry *entry)
{
    struct fl_snapshot *kept = NULL;
    struct fl_error err = {0};
    int r = fl_git_snapshot_read(entry->dir, entry->digest, &kept, &err);

    if (r < 0 && r != FL_E_NOT_FOUND)
        fl_log_warn(source->options.env->log, "kept snapshot is not used",
                    FL_STR("key", entry->key), FL_STR("error", err.msg));
    FL_LOCKED(source->lock);
    entry->snapshot = kept;
}

static struct outcome do_job(struct git_source *source, struct entry *entry, bool is_new)
{
    struct outcome outcome = {.reason = "FetchFailed"};
    FL_JSON answer = NULL;
    int r = fl_dir_ensure(entry->dir, 0700, &outcome.err);

    if (r == 0 && is_new)
        recall(source, entry);
    if (r == 0)
        r = run_child(source, entry, &answer, &outcome.err);
    if (r == 0)
        r = read_answer(entry, answer, &outcome);
    if (r == 0)
        outcome.reason = NULL;
    return outcome;
}

static void settle(struct git_source *source, struct entry *entry, struct outcome *outcome)
{
    entry->state = outcome->snapshot ? FL_FETCH_DONE : FL_FETCH_FAILED;
    if (outcome->snapshot) {
        fl_snapshot_unref(entry->snapshot);
        entry->snapshot = outcome->snapshot;
    }
    free(entry->attempted);
    entry->attempted = outcome->attempted;
    entry->reason = outcome->reason;
    entry->err = outcome->err;
    entry->finished_ms = fl_monotonic_ms(source->options.env);
    wipe_job(entry);
    fl_run_cancel_destroy(FL_TAKE(entry->cancel));
}

/* --- workers --- */

static void begin_running(struct git_source *source, struct entry *entry)
{
    dequeue(source, entry);
    entry->is_running = true;
    entry->began_ms = fl_monotonic_ms(source->options.env);
    source->running[source->running_count++] = entry;
    if (source->first) /* somebody has to see when there is room */
        fl_signal_one(source->work);
}

static void end_running(struct git_source *source, struct entry *entry)
{
    size_t i = 0;

    while (source->running[i] != entry)
        i++;
    source->running[i] = source->running[--source->running_count];
    entry->is_running = false;
    fl_signal_all(source->ended);
    fl_signal_one(source->work); /* there is room for one more */
}

/* How long until one more may run, should nothing end before; 0: now. */
static int64_t until_room_ms(const struct git_source *source)
{
    int64_t now_ms = fl_monotonic_ms(source->options.env), soonest_ms = SLOW_MS;
    size_t quick = 0;

    for (size_t i = 0; i < source->running_count; i++) {
        int64_t left_ms = source->running[i]->began_ms + SLOW_MS - now_ms;

        if (left_ms <= 0)
            continue;
        quick++;
        soonest_ms = left_ms < soonest_ms ? left_ms : soonest_ms;
    }
    return quick < AT_ONCE ? 0 : soonest_ms;
}

/* With the lock, which is given back while the child runs. */
static void work_on(struct git_source *source, struct entry *entry)
{
    FL_CLEANUP(fl_freep) char *key = fl_strdup(entry->key);
    bool is_new = !entry->snapshot;
    struct outcome outcome;

    begin_running(source, entry);
    fl_lock_release(source->lock);
    outcome = do_job(source, entry, is_new);
    fl_lock_take(source->lock);
    settle(source, entry, &outcome);
    end_running(source, entry);
    if (source->closing || !source->options.changed)
        return;
    fl_lock_release(source->lock);
    source->options.changed(source->options.user, key);
    fl_lock_take(source->lock);
}

static void worker(void *user)
{
    struct git_source *source = user;

    FL_LOCKED(source->lock);
    while (!source->closing) {
        int64_t wait_ms = source->first ? until_room_ms(source) : -1;

        if (wait_ms == 0) {
            work_on(source, source->first);
            continue;
        }
        source->idle++;
        (void)fl_signal_wait(source->work, source->lock, wait_ms);
        source->idle--;
    }
}

/* One more where all have something to do. That there are some is enough. */
static int ensure_worker(struct git_source *source, struct fl_error *err)
{
    int r;

    if (source->waiting < source->idle || source->worker_count == AT_ONCE_MAX)
        return 0;
    r = fl_thread_start("git-source", worker, source, &source->workers[source->worker_count], err);
    if (r == 0)
        source->worker_count++;
    return source->worker_count > 0 ? 0 : r;
}

/* --- the table --- */

static int encode_job(const struct git_source *source, const struct entry *entry,
                      const struct fl_source_request *request, struct fl_bytes **ret_job,
                      struct fl_error *err)
{
    const struct fl_git_request whole = {
        .source = *request, .dir = entry->dir, .data_dir = source->data_dir};
    FL_JSON value = fl_git_request_encode(&whole);
    struct fl_bytes *job = fl_json_to_bytes(value);

    fl_git_request_wipe(value);
    if (job->len > FL_GIT_REQUEST_MAX) {
        sodium_memzero(job->data, job->len);
        fl_bytes_unref(job);
        return fl_error_set(err, FL_E_TOO_LARGE,
                            "credentials and options of a source have %zu "
                            "bytes at most",
                            FL_GIT_REQUEST_MAX);
    }
    *ret_job = job;
    return 0;
}

/* What was good for another request says nothing about this one. */
static void set_digest(struct entry *entry, const struct fl_source_request *request)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *digest = fl_git_request_digest(request, arena);

    if (fl_streq(entry->digest, digest))
        return;
    fl_snapshot_unref(FL_TAKE(entry->snapshot));
    free(entry->digest);
    entry->digest = fl_strdup(digest);
}

static int begin(struct git_source *source, struct entry *entry,
                 const struct fl_source_request *request, struct fl_error *err)
{
    int r = ensure_worker(source, err);

    if (r == 0)
        r = fl_run_cancel_create(&entry->cancel, err);
    if (r == 0)
        r = encode_job(source, entry, request, &entry->job, err);
    if (r < 0) {
        fl_run_cancel_destroy(FL_TAKE(entry->cancel));
        return r;
    }
    set_digest(entry, request);
    entry->timeout_ms = request->timeout_ms;
    entry->ticket = ++source->tickets;
    entry->state = FL_FETCH_RUNNING;
    entry->reason = NULL;
    entry->err = (struct fl_error){0};
    free(FL_TAKE(entry->attempted));
    enqueue(source, entry);
    return 0;
}

static int fetch(struct fl_source *self, const char *key, const struct fl_source_request *request,
                 uint64_t *ret_ticket, struct fl_error *err)
{
    struct git_source *source = (struct git_source *)self;
    struct entry *entry;
    int r = check_key(key, err);

    if (r < 0)
        return r;
    if (request->timeout_ms <= 0 || !request->url)
        return fl_error_set(err, FL_E_INVALID, "a fetch needs a URL and a time-out");
    FL_LOCKED(source->lock);
    entry = ensure_entry(source, key);
    if (!entry->is_waiting && !entry->is_running) {
        r = begin(source, entry, request, err);
        if (r < 0)
            return r;
    }
    *ret_ticket = entry->ticket;
    return 0;
}

static int observe(struct fl_source *self, const char *key, struct fl_arena *arena,
                   struct fl_fetch_result *ret_result, struct fl_error *err)
{
    struct git_source *source = (struct git_source *)self;
    const struct entry *entry;

    (void)err;
    *ret_result = (struct fl_fetch_result){0};
    FL_LOCKED(source->lock);
    entry = fl_map_get(source->entries, key);
    if (!entry)
        return 0;
    ret_result->state = entry->state;
    ret_result->ticket = entry->ticket;
    ret_result->snapshot = fl_snapshot_ref(entry->snapshot);
    ret_result->attempted = entry->attempted ? fl_arena_strdup(arena, entry->attempted) : NULL;
    ret_result->reason = entry->reason;
    ret_result->err = entry->err;
    ret_result->finished_ms = entry->finished_ms;
    return 0;
}

/* Nobody works on it any more and nobody waits for it; its folder is under a name of no key, so
 * that a new fetch may begin while the old one is being removed. */
static int bury(struct git_source *source, const char *key, char **ret_grave, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *dir = fl_asprintf("%s/%s", source->dir, key);
    FL_CLEANUP(fl_freep)
    char *grave = fl_asprintf("%s/" GRAVE "%" PRIu64, source->dir, ++source->graves);
    struct entry *entry;

    while ((entry = fl_map_get(source->entries, key)) && entry->is_running) {
        fl_run_cancel(entry->cancel);
        (void)fl_signal_wait(source->ended, source->lock, -1);
    }
    if (entry && entry->is_waiting)
        dequeue(source, entry);
    if (entry)
        (void)fl_map_remove(source->entries, key);
    if (rename(dir, grave) == 0) {
        *ret_grave = FL_TAKE(grave);
        return 0;
    }
    return errno == ENOENT ? 0 : fl_error_errno(err, errno, "remove %s", dir);
}

static int forget(struct fl_source *self, const char *key, struct fl_error *err)
{
    struct git_source *source = (struct git_source *)self;
    FL_CLEANUP(fl_freep) char *grave = NULL;
    int r = check_key(key, err);

    if (r < 0)
        return r;
    fl_lock_take(source->lock);
    r = bury(source, key, &grave, err);
    fl_lock_release(source->lock);
    return r == 0 && grave ? fl_dir_remove(grave, err) : r;
}

static void stop(struct git_source *source)
{
    void *cursor = NULL, *value;
    const char *key;

    FL_LOCKED(source->lock);
    source->closing = true;
    while (fl_map_next(source->entries, &cursor, &key, &value))
        if (((struct entry *)value)->is_running)
            fl_run_cancel(((struct entry *)value)->cancel);
    fl_signal_all(source->work);
}

static void destroy(struct fl_source *self)
{
    struct git_source *source = (struct git_source *)self;

    if (!source)
        return;
    stop(source);
    for (size_t i = 0; i < source->worker_count; i++)
        fl_thread_join(source->workers[i]);
    fl_map_destroy(source->entries);
    fl_signal_destroy(source->work);
    fl_signal_destroy(source->ended);
    fl_lock_destroy(source->lock);
    free(source->dir);
    free(source->data_dir);
    free(source);
}

static const struct fl_source_ops git_ops = {
    .name = "git",
    .destroy = destroy,
    .fetch = fetch,
    .observe = observe,
    .forget = forget,
};

/* Those whose removal was cut short by an end of the program. */
static void clear_graves(const char *folder)
{
    DIR *dir = opendir(folder);
    const struct dirent *found;

    while (dir && (found = readdir(dir))) {
        FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/%s", folder, found->d_name);

        if (fl_str_has_prefix(found->d_name, GRAVE))
            (void)fl_dir_remove(path, NULL);
    }
    if (dir)
        (void)closedir(dir);
}

int fl_source_git_create(const struct fl_source_options *options, struct fl_source **ret_source,
                         struct fl_error *err)
{
    struct git_source *source;
    FL_CLEANUP(fl_freep)
    char *dir = fl_asprintf("%s/%s", options->data_dir, fl_str_or(options->folder, "git"));
    int r = fl_dir_ensure(dir, 0700, err);

    if (r == 0 && sodium_init() < 0)
        r = fl_error_set(err, FL_E_INTERNAL, "libsodium cannot be used");
    if (r < 0)
        return r;
    clear_graves(dir);
    source = fl_calloc(1, sizeof(*source));
    source->base.ops = &git_ops;
    source->options = *options;
    source->dir = FL_TAKE(dir);
    source->data_dir = fl_strdup(options->data_dir);
    source->lock = fl_lock_create();
    source->work = fl_signal_create();
    source->ended = fl_signal_create();
    source->entries = fl_map_create(destroy_entry);
    source->last = &source->first;
    *ret_source = &source->base;
    return 0;
}
