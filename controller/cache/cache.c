/* Listing, watching, and telling. What an event says of an object counts only where it is newer
 * than what is known of that object, so events may come late, twice or in another order than they
 * happened, and lists may be older than events: the cache never goes back. */
#include "controller/cache/cache.h"

#include "controller/cache/cache_internal.h"
#include "controller/runtime/metrics.h"
#include "lib/log.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#define RESYNC_MS        (INT64_C(10) * 3600 * 1000)
#define RETRY_FIRST_MS   800
#define RETRY_LONGEST_MS 30000

struct handler {
    fl_cache_handler_fn *fn;
    void *user;
};

struct fl_cache {
    struct fl_cache_options options; /* constant, as the next two */
    char *resource, *labels;
    struct handler *handlers; /* constant from the first pump on */
    size_t handler_count;

    /* the pump's own */
    struct fl_apiclient_watch *watch; /* NULL: there is none, a list is due */
    struct fl_cache_deletions deletions;
    int64_t listed_ms, list_due_ms, resync_due_ms;
    unsigned list_failures, watch_failures; /* since one worked */
    uint64_t lists;

    atomic_bool waiting; /* the watch may have something */

    struct fl_lock *lock; /* the pump writes what follows, others read */
    struct fl_cache_objects objects;
    uint64_t revision, changes;
    int64_t due_ms;
    bool synced, stale; /* stale: a list is to begin before it is synced */
};

static const struct fl_metric_about objects_metric = {
    .name = "flops_cache_objects",
    .help = "Objects in a cache",
    .type = FL_METRIC_GAUGE,
};
static const struct fl_metric_about changes_metric = {
    .name = "flops_cache_changes_total",
    .help = "Changes that a cache took, from its watch or found by a list",
    .type = FL_METRIC_COUNTER,
};
static const struct fl_metric_about lists_metric = {
    .name = "flops_cache_lists_total",
    .help = "Lists that a cache asked for, by result",
    .type = FL_METRIC_COUNTER,
};

static double compute_objects(void *user)
{
    return (double)fl_cache_count(user);
}

static double compute_changes(void *user)
{
    struct fl_cache *cache = user;

    FL_LOCKED(cache->lock);
    return (double)cache->changes;
}

static void count_list(struct fl_cache *cache, const char *result)
{
    FL_CLEANUP(fl_freep) char *labels = fl_asprintf("%s,result=\"%s\"", cache->labels, result);

    fl_metric_add(cache->options.metrics, &lists_metric, labels, 1);
}

static int64_t random_up_to(const struct fl_env *env, int64_t range)
{
    return (int64_t)fl_random_below(env, (uint64_t)range + 1);
}

static char *resource_name(const struct fl_gvr *gvr)
{
    return *gvr->group ? fl_asprintf("%s.%s", gvr->plural, gvr->group) : fl_strdup(gvr->plural);
}

struct fl_cache *fl_cache_create(const struct fl_cache_options *options)
{
    struct fl_cache *cache = fl_calloc(1, sizeof(*cache));

    cache->options = *options;
    if (cache->options.resync_ms == 0)
        cache->options.resync_ms = RESYNC_MS;
    cache->resource = resource_name(&options->gvr);
    cache->labels = fl_asprintf("namespace=\"%s\",resource=\"%s\"", options->ns ? options->ns : "",
                                cache->resource);
    cache->lock = fl_lock_create();
    fl_cache_deletions_init(&cache->deletions);
    fl_cache_objects_init(&cache->objects, options->indexes, options->index_count);
    fl_metric_compute(options->metrics, &objects_metric, cache->labels, compute_objects, cache);
    fl_metric_compute(options->metrics, &changes_metric, cache->labels, compute_changes, cache);
    return cache;
}

static void close_watch(struct fl_cache *cache)
{
    if (cache->watch)
        fl_apiclient_watch_close(FL_TAKE(cache->watch));
}

void fl_cache_destroy(struct fl_cache *cache)
{
    if (!cache)
        return;
    close_watch(cache);
    fl_metric_compute_end(cache->options.metrics, &objects_metric, cache->labels);
    fl_metric_compute_end(cache->options.metrics, &changes_metric, cache->labels);
    fl_cache_objects_finish(&cache->objects);
    fl_cache_deletions_finish(&cache->deletions);
    fl_lock_destroy(cache->lock);
    free(cache->handlers);
    free(cache->labels);
    free(cache->resource);
    free(cache);
}

void fl_cache_on_change(struct fl_cache *cache, fl_cache_handler_fn *handler, void *user)
{
    assert(cache->lists == 0);
    cache->handlers =
        fl_realloc(cache->handlers, (cache->handler_count + 1) * sizeof(*cache->handlers));
    cache->handlers[cache->handler_count++] = (struct handler){handler, user};
}

static void tell(struct fl_cache *cache, struct fl_object *old, struct fl_object *object)
{
    for (size_t i = 0; i < cache->handler_count; i++)
        cache->handlers[i].fn(cache->handlers[i].user, old, object);
}

/* An object under the name of one that went meanwhile is another object. */
static bool is_replacement(const struct fl_object *old, const struct fl_object *object)
{
    return old && object && *old->uid && *object->uid && strcmp(old->uid, object->uid) != 0;
}

/* Takes the reference to `old`. */
static void tell_change(struct fl_cache *cache, struct fl_object *old, struct fl_object *object)
{
    if (is_replacement(old, object)) {
        tell(cache, old, NULL);
        tell(cache, NULL, object);
    } else {
        tell(cache, old, object);
    }
    fl_object_unref(old);
}

/* Up to this revision, nothing that is said of the object is news. */
static uint64_t known_revision(struct fl_cache *cache, const struct fl_object *object)
{
    const struct fl_cache_entry *entry =
        fl_cache_objects_find(&cache->objects, object->ns, object->name);

    return entry ? entry->object->revision
                 : fl_cache_deletions_known(&cache->deletions, object->ns, object->name);
}

/* Under the lock. */
static void note_revision(struct fl_cache *cache, uint64_t revision)
{
    if (cache->revision < revision)
        cache->revision = revision;
}

static void saw_revision(struct fl_cache *cache, uint64_t revision)
{
    FL_LOCKED(cache->lock);
    note_revision(cache, revision);
}

static struct fl_object *replace(struct fl_cache *cache, struct fl_object *object,
                                 const struct fl_cache_terms *terms, uint64_t revision)
{
    FL_LOCKED(cache->lock);
    cache->changes++;
    note_revision(cache, revision);
    return fl_cache_objects_put(&cache->objects, object, terms);
}

/* `revision` is what the cache has reached with this change; 0: it is part of more. */
static void put(struct fl_cache *cache, struct fl_object *object, uint64_t revision)
{
    FL_CLEANUP(fl_cache_terms_finish) struct fl_cache_terms terms;

    fl_cache_terms_make(&cache->objects, object, &terms);
    tell_change(cache, replace(cache, object, &terms, revision), object);
}

static struct fl_object *take_out(struct fl_cache *cache, struct fl_cache_entry *entry,
                                  uint64_t revision)
{
    FL_LOCKED(cache->lock);
    cache->changes++;
    note_revision(cache, revision);
    return fl_cache_objects_remove(&cache->objects, entry);
}

static void take_deletion(struct fl_cache *cache, const struct fl_event *event)
{
    const struct fl_object *object = event->object;
    struct fl_cache_entry *entry = fl_cache_objects_find(&cache->objects, object->ns, object->name);

    fl_cache_deletions_note(&cache->deletions, object->ns, object->name, event->revision);
    if (entry)
        tell_change(cache, take_out(cache, entry, event->revision), NULL);
    else
        saw_revision(cache, event->revision);
}

static void take_event(struct fl_cache *cache, const struct fl_event *event)
{
    if (event->revision <= known_revision(cache, event->object))
        return;
    if (event->type == FL_EVENT_DELETED)
        take_deletion(cache, event);
    else
        put(cache, event->object, event->revision);
}

/* Spread above the delay, or below the longest one. */
static int64_t retry_delay(const struct fl_cache *cache, unsigned failures)
{
    int64_t delay = RETRY_FIRST_MS, jitter;

    for (; failures > 1 && delay < RETRY_LONGEST_MS; failures--)
        delay *= 2;
    if (delay > RETRY_LONGEST_MS)
        delay = RETRY_LONGEST_MS;
    jitter = random_up_to(cache->options.env, delay / 10);
    return delay + jitter <= RETRY_LONGEST_MS ? delay + jitter : delay - jitter;
}

static void retry_later(struct fl_cache *cache, unsigned *failures, const char *what,
                        const struct fl_error *err)
{
    int64_t delay = retry_delay(cache, ++*failures);

    cache->list_due_ms = fl_monotonic_ms(cache->options.env) + delay;
    fl_log_warn(cache->options.env->log, what, FL_STR("resource", cache->resource),
                FL_STR("error", err->msg), FL_INT("retry_ms", delay));
}

/* A watch that worked is listed anew at once, though not twice within the shortest delay; one that
 * ended before it said anything is a failure as any other. */
static void watch_ended(struct fl_cache *cache, const struct fl_error *err)
{
    close_watch(cache);
    if (cache->watch_failures > 0) {
        retry_later(cache, &cache->watch_failures, "watch for the cache ended", err);
        return;
    }
    cache->watch_failures++;
    cache->list_due_ms = cache->listed_ms + RETRY_FIRST_MS;
}

static size_t take_events(struct fl_cache *cache, size_t limit)
{
    struct fl_error err = {0};
    struct fl_event event;
    size_t count = 0;
    int r = 1;

    atomic_store(&cache->waiting, false);
    if (!cache->watch)
        return 0;
    while (limit == 0 || count < limit) {
        r = fl_apiclient_watch_next(cache->watch, &event, &err);
        if (r <= 0)
            break;
        cache->watch_failures = 0;
        take_event(cache, &event);
        count++;
    }
    if (r > 0)
        atomic_store(&cache->waiting, true);
    else if (r < 0)
        watch_ended(cache, &err);
    else
        cache->watch_failures = 0;
    return count;
}

/* An object of a list; true where it is news. */
static bool take_listed(struct fl_cache *cache, struct fl_object *object)
{
    bool is_news = object->revision > known_revision(cache, object);
    struct fl_cache_entry *entry;

    if (is_news)
        put(cache, object, 0);
    entry = fl_cache_objects_find(&cache->objects, object->ns, object->name);
    if (entry)
        entry->listed = cache->lists;
    return is_news;
}

/* What is not in the list went, where the list is not older than the object. */
static size_t sweep_unlisted(struct fl_cache *cache, uint64_t revision)
{
    struct fl_cache_entry *entry = fl_cache_objects_next(&cache->objects, NULL), *next;
    size_t count = 0;

    for (; entry; entry = next) {
        next = fl_cache_objects_next(&cache->objects, entry);
        if (entry->listed == cache->lists || entry->object->revision > revision)
            continue;
        tell_change(cache, take_out(cache, entry, 0), NULL);
        count++;
    }
    return count;
}

static void mark_synced(struct fl_cache *cache)
{
    FL_LOCKED(cache->lock);
    cache->synced = !cache->stale;
}

static size_t merge_list(struct fl_cache *cache, const struct fl_list *list)
{
    size_t count = 0;

    for (size_t i = 0; i < list->count; i++)
        count += take_listed(cache, list->objects[i]);
    count += sweep_unlisted(cache, list->revision);
    fl_cache_deletions_listed(&cache->deletions, list->revision);
    saw_revision(cache, list->revision);
    mark_synced(cache);
    return count;
}

static size_t tell_all(struct fl_cache *cache)
{
    struct fl_cache_entry *entry = NULL;

    while ((entry = fl_cache_objects_next(&cache->objects, entry)))
        tell(cache, entry->object, entry->object);
    return cache->objects.count;
}

static void plan_resync(struct fl_cache *cache)
{
    int64_t tenth = cache->options.resync_ms / 10;

    cache->resync_due_ms = cache->listed_ms + cache->options.resync_ms - tenth +
                           random_up_to(cache->options.env, 2 * tenth);
}

static void wake(void *user)
{
    struct fl_cache *cache = user;

    atomic_store(&cache->waiting, true);
    if (cache->options.wake)
        cache->options.wake(cache->options.wake_user);
}

static void watch_from(struct fl_cache *cache, uint64_t revision)
{
    const struct fl_cache_options *options = &cache->options;
    struct fl_error err = {0};

    close_watch(cache);
    cache->list_due_ms = cache->resync_due_ms;
    if (fl_apiclient_watch(options->client, &options->gvr, options->ns, revision, wake, cache,
                           &cache->watch, &err) < 0)
        retry_later(cache, &cache->watch_failures, "watch for the cache failed", &err);
}

/* The watch goes on until a list is in. Then a new one begins where the list ends, because the old
 * one may be what lost the changes that the list found. */
static size_t list_anew(struct fl_cache *cache)
{
    const struct fl_cache_options *options = &cache->options;
    FL_CLEANUP(fl_list_finish) struct fl_list list = {0};
    struct fl_error err = {0};
    bool first = cache->lists == 0, resync;
    size_t count;

    cache->listed_ms = fl_monotonic_ms(options->env);
    if (fl_apiclient_list_objects(options->client, &options->gvr, options->ns, &list, &err) < 0) {
        count_list(cache, "error");
        retry_later(cache, &cache->list_failures, "list for the cache failed", &err);
        return 0;
    }
    count_list(cache, "success");
    cache->list_failures = 0;
    cache->lists++;
    resync = !first && cache->listed_ms >= cache->resync_due_ms;
    count = merge_list(cache, &list);
    if (resync)
        count += tell_all(cache);
    if (first || resync)
        plan_resync(cache);
    watch_from(cache, list.revision);
    return count;
}

void fl_cache_refresh(struct fl_cache *cache)
{
    FL_LOCKED(cache->lock);
    cache->stale = true;
    cache->synced = false;
}

/* The list that it asks for begins now; where that fails it is tried again as any other. */
static void take_refresh(struct fl_cache *cache)
{
    FL_LOCKED(cache->lock);
    if (cache->stale)
        cache->list_due_ms = fl_monotonic_ms(cache->options.env);
    cache->stale = false;
}

static void note_due(struct fl_cache *cache)
{
    FL_LOCKED(cache->lock);
    cache->due_ms = cache->list_due_ms;
}

size_t fl_cache_pump(struct fl_cache *cache, size_t limit)
{
    size_t count = take_events(cache, limit);

    take_refresh(cache);
    if (fl_monotonic_ms(cache->options.env) >= cache->list_due_ms) {
        count += list_anew(cache);
        if (limit == 0 || count < limit)
            count += take_events(cache, limit == 0 ? 0 : limit - count);
        else
            atomic_store(&cache->waiting, true);
    }
    note_due(cache);
    return count;
}

int64_t fl_cache_next_due_ms(struct fl_cache *cache)
{
    if (atomic_load(&cache->waiting))
        return 0;
    FL_LOCKED(cache->lock);
    return cache->stale || cache->due_ms <= fl_monotonic_ms(cache->options.env) ? 0 : cache->due_ms;
}

bool fl_cache_synced(struct fl_cache *cache)
{
    FL_LOCKED(cache->lock);
    return cache->synced;
}

uint64_t fl_cache_revision(struct fl_cache *cache)
{
    FL_LOCKED(cache->lock);
    return cache->revision;
}

size_t fl_cache_count(struct fl_cache *cache)
{
    FL_LOCKED(cache->lock);
    return cache->objects.count;
}

struct fl_object *fl_cache_get(struct fl_cache *cache, const char *ns, const char *name)
{
    const struct fl_cache_entry *entry;

    FL_LOCKED(cache->lock);
    entry = fl_cache_objects_find(&cache->objects, fl_str_or(ns, ""), name);
    return entry ? fl_object_ref(entry->object) : NULL;
}

void fl_cache_list(struct fl_cache *cache, const char *ns, struct fl_list *ret_list)
{
    FL_LOCKED(cache->lock);
    fl_cache_objects_list(&cache->objects, ns, ret_list);
    ret_list->revision = cache->revision;
}

void fl_cache_list_by(struct fl_cache *cache, const char *index, const char *value,
                      struct fl_list *ret_list)
{
    FL_LOCKED(cache->lock);
    fl_cache_objects_list_by(&cache->objects, index, value, ret_list);
    ret_list->revision = cache->revision;
}
