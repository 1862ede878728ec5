/* Writes: checked against the newest state, queued in order of revision, and committed in groups by
 * one committer at a time.
 *
 * Where the driver may wait for a disk, the committer is a thread of the store's own; while it
 * waits for one group, the next one gathers. Where it never waits, a writer that finds nobody
 * committing does it himself, for others too.
 *
 * When a commit fails, every write under way fails with it, also those queued since: they were
 * checked against a state that never came to be. Their revisions are not given out again. */
#include "controller/store/store_internal.h"

#include "lib/log.h"
#include "lib/str.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH_WRITES_MAX 512
#define BATCH_BYTES_MAX  ((size_t)8 * 1024 * 1024)
/* Without work for so long, the committer has spare time. */
#define SPARE_AFTER_MS 20
/* How long the next group may gather, as a share of what a commit takes, and at most. */
#define GATHER_SHARE  4
#define GATHER_US_MAX 1000
/* Under lasting load it makes time for one step after so many writes, so that compaction, which
 * takes as many in a step, keeps up. */
#define UNTENDED_WRITES_MAX 256
#define KEY_PART_MAX        1024

struct batch {
    struct fl_pending_queue writes;
    size_t count;
    struct fl_store_record *records;
    struct fl_bytes **sealed; /* what records' data is, where it is not the object's own */
    struct fl_event *events;
};

/* Moves what is queued, up to the bounds, into the batch. Under the lock. */
static void take_batch(struct fl_store *store, struct batch *batch)
{
    struct fl_pending *pending;
    size_t bytes = 0;

    *batch = (struct batch){0};
    STAILQ_INIT(&batch->writes);
    while ((pending = STAILQ_FIRST(&store->queue)) && batch->count < BATCH_WRITES_MAX) {
        bytes += pending->object->json->len;
        if (batch->count && bytes > BATCH_BYTES_MAX)
            break;
        STAILQ_REMOVE_HEAD(&store->queue, link);
        STAILQ_INSERT_TAIL(&batch->writes, pending, link);
        batch->count++;
    }
}

static void make_record(const struct fl_store *store, const struct fl_pending *pending,
                        struct fl_store_record *record, struct fl_bytes **sealed)
{
    const struct fl_object *object = pending->object;

    *record = (struct fl_store_record){
        .revision = object->revision,
        .previous = pending->previous,
        .op = pending->op,
        .resource = object->resource,
        .ns = object->ns,
        .name = object->name,
        .data = object->json->data,
        .len = object->json->len,
        .time_us = pending->time_us,
    };
    *sealed = fl_seal_applies(store, object->resource) ? fl_seal(store, record) : NULL;
    if (*sealed) {
        record->data = (*sealed)->data;
        record->len = (*sealed)->len;
    }
}

static int write_batch(struct fl_store *store, struct batch *batch, struct fl_error *err)
{
    struct fl_pending *pending;
    size_t i = 0;

    batch->records = fl_calloc(batch->count, sizeof(*batch->records));
    batch->sealed = fl_calloc(batch->count, sizeof(struct fl_bytes *));
    STAILQ_FOREACH(pending, &batch->writes, link) {
        make_record(store, pending, &batch->records[i], &batch->sealed[i]);
        i++;
    }
    return store->driver->ops->commit(store->driver, batch->records, batch->count, err);
}

static void finish_batch(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        fl_bytes_unref(batch->sealed[i]);
        if (batch->events) {
            fl_object_unref(batch->events[i].object);
            fl_object_unref(batch->events[i].previous);
        }
    }
    free(batch->records);
    free(batch->sealed);
    free(batch->events);
}

/* Makes one durable write visible. The event's references keep both states until all who want to
 * know were told, whatever the history's bounds. */
static void apply(struct fl_store *store, struct fl_pending *pending, struct fl_event *event)
{
    struct fl_entry *entry = pending->entry;
    struct fl_object *object = pending->object, *previous = entry->durable;

    *event = (struct fl_event){
        .type = fl_history_event_type(pending->op),
        .revision = object->revision,
        .object = fl_object_ref(object),
        .previous = previous ? fl_object_ref(previous) : NULL,
    };
    fl_history_append(store, pending->resource, pending->op, object->revision, pending->time_us,
                      object, previous);
    fl_index_set_durable(store, pending->resource, entry,
                         pending->op == FL_STORE_DELETE ? NULL : fl_object_ref(object));
    store->revision = object->revision;
    if (entry->newest == pending)
        entry->newest = NULL;
    fl_index_tidy(pending->resource, entry);
}

static void apply_batch(struct fl_store *store, struct batch *batch)
{
    struct fl_pending *pending;
    size_t i = 0;

    batch->events = fl_calloc(batch->count, sizeof(*batch->events));
    STAILQ_FOREACH(pending, &batch->writes, link)
        apply(store, pending, &batch->events[i++]);
    store->pending -= batch->count;
    store->in_flight = batch->count + store->pending;
    store->commits++;
    store->writes += batch->count;
    fl_history_trim(store, fl_realtime_us(store->options.env));
    store->tend = true;
}

/* Undoes all that is under way: the batch and what was queued since. */
static void revert_all(struct fl_store *store, struct batch *batch)
{
    struct fl_pending *pending;

    STAILQ_CONCAT(&batch->writes, &store->queue);
    STAILQ_FOREACH(pending, &batch->writes, link) {
        if (pending->entry->newest != pending)
            continue;
        pending->entry->newest = NULL;
        fl_index_tidy(pending->resource, pending->entry);
    }
    store->pending = 0;
}

static void run_hooks(struct fl_store *store, const struct batch *batch)
{
    pthread_mutex_lock(&store->hooks_lock);
    for (size_t i = 0; i < store->hook_count; i++)
        store->hooks[i].fn(store->hooks[i].user, batch->events, batch->count);
    pthread_mutex_unlock(&store->hooks_lock);
}

static void tell(struct fl_store *store, struct batch *batch, int code, const struct fl_error *err)
{
    struct fl_pending *pending;

    if (code == 0)
        run_hooks(store, batch);
    while ((pending = STAILQ_FIRST(&batch->writes))) {
        STAILQ_REMOVE_HEAD(&batch->writes, link);
        if (pending->done)
            pending->done(pending->user, code, code == 0 ? pending->object : NULL, err);
        fl_object_unref(pending->object);
        free(pending);
    }
}

/* Under the lock, which is let go meanwhile. */
static void commit_once(struct fl_store *store)
{
    struct fl_error err = {0};
    struct batch batch;
    int r;

    take_batch(store, &batch);
    pthread_mutex_unlock(&store->lock);
    r = write_batch(store, &batch, &err);
    pthread_mutex_lock(&store->lock);
    if (r < 0)
        revert_all(store, &batch);
    else
        apply_batch(store, &batch);
    pthread_mutex_unlock(&store->lock);
    tell(store, &batch, r < 0 ? r : 0, r < 0 ? &err : NULL);
    finish_batch(&batch);
    pthread_mutex_lock(&store->lock);
}

/* One step of compaction. A failure costs disk space, not correctness: it is said once, and tried
 * again after later writes. Under the lock, which is let go meanwhile. */
static void tend_once(struct fl_store *store)
{
    struct fl_error err = {0};
    uint64_t revision;
    bool first_failure;
    int r;

    fl_history_trim(store, fl_realtime_us(store->options.env));
    revision = store->history.forgotten;
    store->tend = false;
    store->tended_at = store->writes;
    pthread_mutex_unlock(&store->lock);
    r = store->driver->ops->compact(store->driver, revision, &err);
    pthread_mutex_lock(&store->lock);
    first_failure = r < 0 && !store->tending_failed;
    store->tending_failed = r < 0;
    store->tend = store->tend || r > 0;
    if (first_failure)
        fl_log_warn(store->options.env->log, "store compaction failed", FL_STR("error", err.msg));
}

static void commit_all(struct fl_store *store)
{
    store->committing = true;
    do {
        while (!STAILQ_EMPTY(&store->queue))
            commit_once(store);
        tend_once(store);
    } while (!STAILQ_EMPTY(&store->queue)); /* others may have queued meanwhile */
    store->committing = false;
}

/* How long until the oldest event is too old, within what is sensible to wait. */
static int64_t until_oldest_expires_ms(const struct fl_store *store)
{
    const struct fl_history_event *oldest = TAILQ_FIRST(&store->history.events);
    int64_t ms = 60000;

    if (oldest)
        ms = store->options.history_ms +
             (oldest->time_us - fl_realtime_us(store->options.env)) / 1000;
    return ms < 1000 ? 1000 : ms > 60000 ? 60000 : ms;
}

/* Waits for so many writes. False where the time was over before. */
static bool wait_for_writes(struct fl_store *store, size_t count, int64_t us)
{
    int64_t end = fl_machine_monotonic_us() + us;
    struct timespec deadline = {end / 1000000, end % 1000000 * 1000};
    int r = 0;

    store->awaited = count;
    while (r != ETIMEDOUT && store->pending < count && !store->stopping)
        r = pthread_cond_timedwait(&store->work, &store->lock, &deadline);
    store->awaited = 0;
    return store->pending >= count || store->stopping;
}

static bool wait_for_work(struct fl_store *store)
{
    int64_t ms = store->tend ? SPARE_AFTER_MS : until_oldest_expires_ms(store);

    return wait_for_writes(store, 1, ms * 1000);
}

/* Those who were just answered are about to write again. Committing at once what others queued
 * meanwhile would split the writers into two groups that take turns, each waiting for two commits;
 * a short wait, measured by what it may save, keeps them together. */
static void gather(struct fl_store *store)
{
    int64_t us = store->commit_us / GATHER_SHARE;

    if (store->pending < store->in_flight)
        (void)wait_for_writes(store, store->in_flight, us < GATHER_US_MAX ? us : GATHER_US_MAX);
}

static void *run_committer(void *user)
{
    struct fl_store *store = user;
    int64_t start_us;

    pthread_mutex_lock(&store->lock);
    for (;;) {
        if (STAILQ_EMPTY(&store->queue) && !wait_for_work(store)) {
            tend_once(store);
            continue;
        }
        if (STAILQ_EMPTY(&store->queue))
            break;
        gather(store);
        start_us = fl_machine_monotonic_us();
        commit_once(store);
        store->commit_us += (fl_machine_monotonic_us() - start_us - store->commit_us) / 8;
        if (store->writes - store->tended_at >= UNTENDED_WRITES_MAX)
            tend_once(store);
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

void fl_commit_init(struct fl_store *store)
{
    pthread_condattr_t attributes;

    STAILQ_INIT(&store->queue);
    if (pthread_condattr_init(&attributes) != 0)
        abort();
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&store->work, &attributes);
    (void)pthread_condattr_destroy(&attributes);
}

int fl_commit_start(struct fl_store *store, struct fl_error *err)
{
    int r;

    if (!store->driver->ops->blocking)
        return 0;
    r = pthread_create(&store->committer, NULL, run_committer, store);
    if (r != 0)
        return fl_error_errno(err, r, "start the store's committer");
    store->has_committer = true;
    return 0;
}

void fl_commit_stop(struct fl_store *store)
{
    pthread_mutex_lock(&store->lock);
    store->stopping = true;
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->lock);
    if (store->has_committer)
        (void)pthread_join(store->committer, NULL);
    store->has_committer = false;
}

void fl_commit_tend(struct fl_store *store)
{
    store->tend = true;
    if (!store->driver->ops->blocking && !store->committing)
        commit_all(store);
}

void fl_store_on_commit(struct fl_store *store, fl_store_commit_fn *fn, void *user)
{
    pthread_mutex_lock(&store->hooks_lock);
    store->hooks = fl_realloc(store->hooks, (store->hook_count + 1) * sizeof(*store->hooks));
    store->hooks[store->hook_count++] = (struct fl_commit_hook){fn, user};
    pthread_mutex_unlock(&store->hooks_lock);
}

void fl_store_off_commit(struct fl_store *store, fl_store_commit_fn *fn, void *user)
{
    size_t kept = 0;

    pthread_mutex_lock(&store->hooks_lock);
    for (size_t i = 0; i < store->hook_count; i++)
        if (store->hooks[i].fn != fn || store->hooks[i].user != user)
            store->hooks[kept++] = store->hooks[i];
    store->hook_count = kept;
    pthread_mutex_unlock(&store->hooks_lock);
}

/* Writes. */

static int check_key(const struct fl_key *key, struct fl_error *err)
{
    if (!key->resource || !*key->resource || !key->name || !*key->name)
        return fl_error_set(err, FL_E_INVALID, "a key needs a resource and a name");
    if (strlen(key->resource) > KEY_PART_MAX || strlen(key->name) > KEY_PART_MAX ||
        strlen(fl_str_or(key->ns, "")) > KEY_PART_MAX)
        return fl_error_set(err, FL_E_INVALID, "a part of the key is longer than %d bytes",
                            KEY_PART_MAX);
    return 0;
}

static int check_size(const struct fl_store *store, size_t len, struct fl_error *err)
{
    if (len <= store->options.max_object_bytes)
        return 0;
    return fl_error_set(err, FL_E_TOO_LARGE, "the object has %zu bytes; at most %zu are stored",
                        len, store->options.max_object_bytes);
}

static int check_state(const struct fl_store_write *write, const struct fl_object *newest,
                       struct fl_error *err)
{
    const struct fl_key *key = &write->key;

    if (write->op == FL_STORE_CREATE && newest)
        return fl_error_set(err, FL_E_ALREADY_EXISTS, "%s \"%s\" already exists", key->resource,
                            key->name);
    if (write->op == FL_STORE_CREATE)
        return 0;
    if (!newest)
        return fl_error_set(err, FL_E_NOT_FOUND, "%s \"%s\" not found", key->resource, key->name);
    if (write->expect_revision && write->expect_revision != newest->revision)
        return fl_error_set(err, FL_E_CONFLICT, "%s \"%s\" has revision %" PRIu64 ", not %" PRIu64,
                            key->resource, key->name, newest->revision, write->expect_revision);
    return 0;
}

static struct fl_pending *make_pending(struct fl_store *store, const struct fl_store_write *write,
                                       const struct fl_content *content)
{
    struct fl_resource *resource = fl_index_ensure_resource(store, write->key.resource);
    struct fl_entry *entry =
        fl_index_ensure(resource, fl_str_or(write->key.ns, ""), write->key.name);
    struct fl_object *newest = fl_entry_newest(entry);
    struct fl_pending *pending = fl_calloc(1, sizeof(*pending));

    *pending = (struct fl_pending){
        .op = write->op,
        .entry = entry,
        .resource = resource,
        .object = fl_object_create(&write->key, ++store->given_out, content),
        .previous = newest ? newest->revision : 0,
        .time_us = fl_realtime_us(store->options.env),
    };
    entry->newest = pending;
    return pending;
}

static void enqueue(struct fl_store *store, struct fl_pending *pending)
{
    STAILQ_INSERT_TAIL(&store->queue, pending, link);
    store->pending++;
    if (store->driver->ops->blocking) {
        if (store->awaited && store->pending >= store->awaited)
            pthread_cond_signal(&store->work);
    } else if (!store->committing) {
        commit_all(store);
    }
}

/* `content` is NULL for a DELETE that leaves the last content. Under the lock. */
static int accept_write(struct fl_store *store, const struct fl_store_write *write,
                        const struct fl_content *content, fl_store_done_fn *done, void *user,
                        struct fl_error *err)
{
    struct fl_resource *resource = fl_index_resource(store, write->key.resource);
    const char *ns = fl_str_or(write->key.ns, "");
    struct fl_entry *entry = resource ? fl_index_find(resource, ns, write->key.name) : NULL;
    struct fl_object *newest = entry ? fl_entry_newest(entry) : NULL;
    struct fl_pending *pending;
    struct fl_content last;
    int r;

    if (store->stopping)
        return fl_error_set(err, FL_E_UNAVAILABLE, "the store is closing");
    r = check_state(write, newest, err);
    if (r < 0)
        return r;
    if (store->pending >= store->options.max_pending_writes)
        return fl_error_set(err, FL_E_UNAVAILABLE, "%zu writes are under way", store->pending);
    if (!content && newest) {
        r = fl_content_scan(newest->json->data, newest->json->len, &last, err);
        if (r < 0)
            return r;
        content = &last;
    }
    pending = make_pending(store, write, content);
    pending->done = done;
    pending->user = user;
    enqueue(store, pending);
    return 0;
}

int fl_store_write(struct fl_store *store, const struct fl_store_write *write,
                   fl_store_done_fn *done, void *user, struct fl_error *err)
{
    struct fl_content content = {0};
    struct fl_buf text;
    int r;

    assert(write->object || write->op == FL_STORE_DELETE);
    r = check_key(&write->key, err);
    if (r < 0)
        return r;
    /* All that needs no lock first: the text is most of the work. */
    fl_buf_init(&text, 0);
    if (write->object) {
        fl_buf_reserve(&text, 2048);
        fl_json_write(&text, write->object);
        r = fl_content_scan(fl_buf_text(&text), text.len, &content, err);
        if (r == 0)
            r = check_size(store, text.len, err);
    }
    if (r == 0) {
        pthread_mutex_lock(&store->lock);
        r = accept_write(store, write, write->object ? &content : NULL, done, user, err);
        pthread_mutex_unlock(&store->lock);
    }
    fl_buf_finish(&text);
    return r;
}

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t over;
    bool is_over;
    int code;
    struct fl_object *object;
    struct fl_error *err;
};

static void wake_waiter(void *user, int code, struct fl_object *object, const struct fl_error *err)
{
    struct waiter *waiter = user;

    pthread_mutex_lock(&waiter->lock);
    waiter->code = code;
    waiter->object = object ? fl_object_ref(object) : NULL;
    if (code < 0 && waiter->err)
        *waiter->err = *err;
    waiter->is_over = true;
    pthread_cond_signal(&waiter->over);
    pthread_mutex_unlock(&waiter->lock);
}

int fl_store_write_wait(struct fl_store *store, const struct fl_store_write *write,
                        struct fl_object **ret_object, struct fl_error *err)
{
    struct waiter waiter = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .over = PTHREAD_COND_INITIALIZER,
        .err = err,
    };
    int r = fl_store_write(store, write, wake_waiter, &waiter, err);

    if (r < 0)
        return r;
    pthread_mutex_lock(&waiter.lock);
    while (!waiter.is_over)
        (void)pthread_cond_wait(&waiter.over, &waiter.lock);
    pthread_mutex_unlock(&waiter.lock);
    (void)pthread_cond_destroy(&waiter.over);
    (void)pthread_mutex_destroy(&waiter.lock);
    if (waiter.code == 0 && ret_object)
        *ret_object = FL_TAKE(waiter.object);
    fl_object_unref(waiter.object);
    return waiter.code;
}
