/* Opening, closing and simple reads. */
#include "controller/store/store_internal.h"

#include "lib/str.h"

#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_HISTORY_EVENTS 20000
#define DEFAULT_HISTORY_BYTES  ((size_t)16 * 1024 * 1024)
#define DEFAULT_HISTORY_MS     ((int64_t)5 * 60 * 1000)
#define DEFAULT_OBJECT_BYTES   ((size_t)3 * 512 * 1024)
#define DEFAULT_PENDING_WRITES 4096
#define SEAL_KEY_BYTES         crypto_aead_xchacha20poly1305_ietf_KEYBYTES

static void set_options(struct fl_store *store, const struct fl_store_options *options)
{
    struct fl_store_options *own = &store->options;

    *own = *options;
    own->max_history_events = own->max_history_events ?: DEFAULT_HISTORY_EVENTS;
    own->max_history_bytes = own->max_history_bytes ?: DEFAULT_HISTORY_BYTES;
    own->history_ms = own->history_ms ?: DEFAULT_HISTORY_MS;
    own->max_object_bytes = own->max_object_bytes ?: DEFAULT_OBJECT_BYTES;
    own->max_pending_writes = own->max_pending_writes ?: DEFAULT_PENDING_WRITES;
    own->seal_key = NULL;
    if (!options->seal_key)
        return;
    store->seal_key = sodium_malloc(SEAL_KEY_BYTES);
    if (!store->seal_key)
        abort();
    memcpy(store->seal_key, options->seal_key, SEAL_KEY_BYTES);
}

static struct fl_store *store_create(const struct fl_store_options *options)
{
    struct fl_store *store = fl_calloc(1, sizeof(*store));

    if (sodium_init() < 0)
        abort();
    set_options(store, options);
    (void)pthread_mutex_init(&store->lock, NULL);
    (void)pthread_mutex_init(&store->hooks_lock, NULL);
    store->resources = fl_map_create(fl_resource_destroy);
    fl_history_init(&store->history);
    fl_commit_init(store);
    return store;
}

/* Takes one record back in, as it was when it was committed. */
static int load_record(void *user, const struct fl_store_record *record, struct fl_error *err)
{
    struct fl_store *store = user;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *plain = NULL;
    FL_CLEANUP(fl_object_unrefp) struct fl_object *object = NULL;
    struct fl_key key = {record->resource, record->ns, record->name};
    struct fl_resource *resource;
    struct fl_content content;
    struct fl_entry *entry;
    int r;

    if (record->revision <= store->given_out)
        return fl_error_set(err, FL_E_INTERNAL, "out of order");
    r = fl_unseal(store, record, &plain, err);
    if (r < 0)
        return r;
    r = fl_content_scan(plain->data, plain->len, &content, err);
    if (r < 0)
        return r;
    object = fl_object_create(&key, record->revision, &content);
    resource = fl_index_ensure_resource(store, record->resource);
    entry = fl_index_ensure(resource, record->ns, record->name);
    fl_history_append(store, resource, record->op, record->revision, record->time_us, object,
                      entry->durable);
    fl_index_set_durable(store, resource, entry,
                         record->op == FL_STORE_DELETE ? NULL : FL_TAKE(object));
    fl_index_tidy(resource, entry);
    fl_history_trim(store, record->time_us);
    store->given_out = record->revision;
    return 0;
}

/* What is younger than the compacted revision is history; of what is older, only what lives still
 * is known, so nothing can be said of changes before it. */
static void settle_history(struct fl_store *store, uint64_t compacted)
{
    struct fl_resource *resource;
    void *cursor = NULL, *value;

    fl_history_forget_up_to(store, compacted);
    store->history.unknown_before = compacted;
    while (fl_map_next(store->resources, &cursor, NULL, &value)) {
        resource = value;
        if (resource->forgotten < compacted)
            resource->forgotten = compacted;
    }
    fl_history_trim(store, fl_realtime_us(store->options.env));
    store->tend = true;
}

static int load(struct fl_store *store, struct fl_error *err)
{
    uint64_t last = 0, compacted = 0;
    int r;

    r = store->driver->ops->load(store->driver, load_record, store, &last, &compacted, err);
    if (r < 0)
        return r;
    if (last < store->given_out)
        last = store->given_out;
    store->revision = store->given_out = last > compacted ? last : compacted;
    settle_history(store, compacted);
    return 0;
}

int fl_store_open(const struct fl_store_options *options, struct fl_store **ret_store,
                  struct fl_error *err)
{
    const struct fl_store_driver_ops *ops = fl_store_driver_find(options->driver);
    FL_CLEANUP(fl_store_closep) struct fl_store *store = NULL;
    int r;

    assert(options->env);
    if (!ops)
        return fl_error_set(err, FL_E_INVALID, "no store driver is named \"%s\"",
                            fl_str_or(options->driver, ""));
    if (options->sealed && !options->seal_key)
        return fl_error_set(err, FL_E_INVALID, "sealed resources need a key");
    store = store_create(options);
    r = ops->open(&store->options, &store->driver, err);
    if (r < 0)
        return r;
    r = load(store, err);
    if (r < 0)
        return r;
    r = fl_commit_start(store, err);
    if (r < 0)
        return r;
    *ret_store = FL_TAKE(store);
    return 0;
}

void fl_store_close(struct fl_store *store)
{
    if (!store)
        return;
    fl_commit_stop(store);
    assert(store->watch_count == 0);
    if (store->driver)
        store->driver->ops->close(store->driver);
    fl_history_finish(&store->history);
    fl_map_destroy(store->resources);
    (void)pthread_cond_destroy(&store->work);
    (void)pthread_mutex_destroy(&store->lock);
    (void)pthread_mutex_destroy(&store->hooks_lock);
    sodium_free(store->seal_key);
    free(store->hooks);
    free(store);
}

static struct fl_object *get(struct fl_store *store, const struct fl_key *key, bool newest)
{
    struct fl_object *object = NULL;
    struct fl_resource *resource;
    struct fl_entry *entry;

    pthread_mutex_lock(&store->lock);
    resource = fl_index_resource(store, key->resource);
    entry = resource ? fl_index_find(resource, fl_str_or(key->ns, ""), key->name) : NULL;
    if (entry)
        object = newest ? fl_entry_newest(entry) : entry->durable;
    if (object)
        fl_object_ref(object);
    pthread_mutex_unlock(&store->lock);
    return object;
}

struct fl_object *fl_store_get(struct fl_store *store, const struct fl_key *key)
{
    return get(store, key, false);
}

struct fl_object *fl_store_get_newest(struct fl_store *store, const struct fl_key *key)
{
    return get(store, key, true);
}

size_t fl_store_count(struct fl_store *store, const char *resource)
{
    const struct fl_resource *found;
    size_t count;

    pthread_mutex_lock(&store->lock);
    found = fl_index_resource(store, resource);
    count = found ? found->count : 0;
    pthread_mutex_unlock(&store->lock);
    return count;
}

struct fl_store_stats fl_store_stats(struct fl_store *store)
{
    struct fl_store_stats stats;

    pthread_mutex_lock(&store->lock);
    stats = (struct fl_store_stats){
        .objects = store->object_count,
        .history_events = store->history.count,
        .pending_writes = store->pending,
        .revision = store->revision,
        .compacted_revision = store->history.forgotten,
        .commits = store->commits,
        .writes = store->writes,
    };
    pthread_mutex_unlock(&store->lock);
    return stats;
}

uint64_t fl_store_revision(struct fl_store *store)
{
    return fl_store_stats(store).revision;
}

uint64_t fl_store_compacted_revision(struct fl_store *store)
{
    return fl_store_stats(store).compacted_revision;
}

int fl_store_compact(struct fl_store *store, uint64_t revision, struct fl_error *err)
{
    int r = 0;

    pthread_mutex_lock(&store->lock);
    if (revision > store->revision) {
        r = fl_error_set(err, FL_E_INVALID,
                         "revision %" PRIu64 " is in the future, now is %" PRIu64, revision,
                         store->revision);
    } else {
        settle_history(store, revision);
        fl_commit_tend(store);
    }
    pthread_mutex_unlock(&store->lock);
    return r;
}
