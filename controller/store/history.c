/* The changes, oldest first, and the watches that walk along them.
 *
 * An event stands in two lists: of all changes by age, by which the bounds are kept, and of its
 * resource, along which watches walk. A watch stands on the last event it passed; it has fallen
 * behind when its resource lost a change newer than that. */
#include "controller/store/store_internal.h"

#include "lib/str.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

struct fl_watch {
    struct fl_store *store;
    struct fl_resource *resource;
    char *ns;                    /* NULL: all */
    uint64_t revision;           /* its changes up to this one were returned */
    struct fl_history_event *at; /* a reference; NULL: before the first */
    struct fl_bytes *frame;      /* of `at`; the reader's view of it */
};

void fl_history_init(struct fl_history *history)
{
    TAILQ_INIT(&history->events);
}

static struct fl_history_event *event_ref(struct fl_history_event *event)
{
    event->refs++;
    return event;
}

static void event_unref(struct fl_history_event *event)
{
    if (!event || --event->refs > 0)
        return;
    fl_object_unref(event->object);
    fl_object_unref(event->previous);
    fl_bytes_unref(event->frame);
    free(event);
}

static void drop_oldest_frame(struct fl_history *history)
{
    struct fl_history_event *event = history->framed[history->framed_first];

    history->framed_first = (history->framed_first + 1) % FL_FRAMES_MAX;
    history->framed_count--;
    history->frame_bytes -= event->frame->len;
    fl_bytes_unref(FL_TAKE(event->frame));
    event_unref(event);
}

static void forget_oldest(struct fl_history *history)
{
    struct fl_history_event *event = TAILQ_FIRST(&history->events);

    TAILQ_REMOVE(&history->events, event, by_age);
    TAILQ_REMOVE(&event->resource->events, event, by_resource);
    event->resource->forgotten = event->revision;
    history->forgotten = event->revision;
    history->count--;
    history->bytes -= event->charge;
    event->forgotten = true;
    event_unref(event);
    while (history->framed_count && history->framed[history->framed_first]->forgotten)
        drop_oldest_frame(history);
}

void fl_history_finish(struct fl_history *history)
{
    while (history->framed_count)
        drop_oldest_frame(history);
    while (!TAILQ_EMPTY(&history->events))
        forget_oldest(history);
}

enum fl_event_type fl_history_event_type(enum fl_store_op op)
{
    switch (op) {
    case FL_STORE_CREATE:
        return FL_EVENT_ADDED;
    case FL_STORE_UPDATE:
        return FL_EVENT_MODIFIED;
    default:
        return FL_EVENT_DELETED;
    }
}

static size_t object_bytes(const struct fl_object *object)
{
    return object ? sizeof(*object) + object->json->len : 0;
}

void fl_history_append(struct fl_store *store, struct fl_resource *resource, enum fl_store_op op,
                       uint64_t revision, int64_t time_us, struct fl_object *object,
                       struct fl_object *previous)
{
    struct fl_history *history = &store->history;
    struct fl_history_event *event = fl_calloc(1, sizeof(*event));

    *event = (struct fl_history_event){
        .resource = resource,
        .object = fl_object_ref(object),
        .previous = previous ? fl_object_ref(previous) : NULL,
        .revision = revision,
        .time_us = time_us,
        /* The index no longer holds what it replaced, and never held a final state. */
        .charge = object_bytes(previous) + (op == FL_STORE_DELETE ? object_bytes(object) : 0),
        .refs = 1,
        .type = fl_history_event_type(op),
    };
    TAILQ_INSERT_TAIL(&history->events, event, by_age);
    TAILQ_INSERT_TAIL(&resource->events, event, by_resource);
    history->count++;
    history->bytes += event->charge;
}

static bool is_surplus(const struct fl_store *store, const struct fl_history_event *oldest,
                       int64_t now_us)
{
    const struct fl_store_options *options = &store->options;

    return store->history.count > options->max_history_events ||
           store->history.bytes > options->max_history_bytes ||
           now_us - oldest->time_us > options->history_ms * 1000;
}

void fl_history_trim(struct fl_store *store, int64_t now_us)
{
    struct fl_history_event *oldest;

    while ((oldest = TAILQ_FIRST(&store->history.events)) && is_surplus(store, oldest, now_us))
        forget_oldest(&store->history);
}

void fl_history_forget_up_to(struct fl_store *store, uint64_t revision)
{
    struct fl_history *history = &store->history;
    struct fl_history_event *oldest;

    while ((oldest = TAILQ_FIRST(&history->events)) && oldest->revision <= revision)
        forget_oldest(history);
    if (history->forgotten < revision)
        history->forgotten = revision;
}

int fl_history_reaches(const struct fl_resource *resource, uint64_t revision, struct fl_error *err)
{
    if (revision >= resource->forgotten)
        return 0;
    return fl_error_set(err, FL_E_EXPIRED, "too old resource version: %" PRIu64 " (%" PRIu64 ")",
                        revision, resource->forgotten);
}

/* Most watches begin near the end. */
static struct fl_history_event *last_up_to(const struct fl_resource *resource, uint64_t revision)
{
    struct fl_history_event *event = TAILQ_LAST(&resource->events, fl_event_list);

    while (event && event->revision > revision)
        event = TAILQ_PREV(event, fl_event_list, by_resource);
    return event;
}

int fl_store_watch(struct fl_store *store, const char *resource, const char *ns, uint64_t revision,
                   struct fl_watch **ret_watch, struct fl_error *err)
{
    struct fl_resource *found;
    struct fl_watch *watch;
    int r;

    pthread_mutex_lock(&store->lock);
    found = fl_index_ensure_resource(store, resource);
    r = fl_history_reaches(found, revision, err);
    if (r == 0) {
        watch = fl_calloc(1, sizeof(*watch));
        watch->store = store;
        watch->resource = found;
        watch->ns = ns ? fl_strdup(ns) : NULL;
        watch->revision = revision;
        watch->at = last_up_to(found, revision);
        if (watch->at)
            event_ref(watch->at);
        store->watch_count++;
        *ret_watch = watch;
    }
    pthread_mutex_unlock(&store->lock);
    return r;
}

void fl_watch_close(struct fl_watch *watch)
{
    struct fl_store *store;

    if (!watch)
        return;
    store = watch->store;
    pthread_mutex_lock(&store->lock);
    event_unref(watch->at);
    store->watch_count--;
    pthread_mutex_unlock(&store->lock);
    fl_bytes_unref(watch->frame);
    free(watch->ns);
    free(watch);
}

/* The next event of the resource that the watch has not passed. */
static struct fl_history_event *ahead(const struct fl_watch *watch)
{
    struct fl_history_event *event;

    if (watch->at && !watch->at->forgotten)
        event = TAILQ_NEXT(watch->at, by_resource);
    else
        event = TAILQ_FIRST(&watch->resource->events);
    while (event && event->revision <= watch->revision)
        event = TAILQ_NEXT(event, by_resource);
    return event;
}

/* Stands on the next event that is for this watch, or on the last there is. */
static bool step(struct fl_watch *watch)
{
    struct fl_history_event *event, *passed = NULL;
    bool found = false;

    for (event = ahead(watch); event && !found; event = TAILQ_NEXT(event, by_resource)) {
        passed = event;
        found = !watch->ns || fl_streq(watch->ns, event->object->ns);
    }
    if (passed) {
        event_unref(watch->at);
        watch->at = event_ref(passed);
        watch->revision = passed->revision;
    }
    return found;
}

int fl_watch_next(struct fl_watch *watch, struct fl_event *ret_event, struct fl_error *err)
{
    struct fl_store *store = watch->store;
    int r;

    fl_bytes_unref(FL_TAKE(watch->frame));
    pthread_mutex_lock(&store->lock);
    r = fl_history_reaches(watch->resource, watch->revision, err);
    if (r == 0 && step(watch)) {
        struct fl_history_event *at = watch->at;

        watch->frame = at->frame ? fl_bytes_ref(at->frame) : NULL;
        *ret_event =
            (struct fl_event){at->type, at->revision, at->object, at->previous, &watch->frame};
        r = 1;
    }
    pthread_mutex_unlock(&store->lock);
    return r;
}

uint64_t fl_watch_revision(struct fl_watch *watch)
{
    struct fl_store *store = watch->store;
    uint64_t revision;

    pthread_mutex_lock(&store->lock);
    revision = watch->revision;
    if (revision < store->revision && revision >= watch->resource->forgotten && !ahead(watch))
        revision = store->revision;
    pthread_mutex_unlock(&store->lock);
    return revision;
}

void fl_event_cache_put(struct fl_watch *watch, const struct fl_event *event,
                        struct fl_bytes *frame)
{
    struct fl_store *store = watch->store;
    struct fl_history *history = &store->history;
    struct fl_history_event *at = watch->at;

    assert(event->cache == &watch->frame);
    if (!watch->frame)
        watch->frame = fl_bytes_ref(frame);
    pthread_mutex_lock(&store->lock);
    if (at->frame || at->forgotten || frame->len > FL_FRAME_BYTES_MAX / 2) {
        pthread_mutex_unlock(&store->lock);
        fl_bytes_unref(frame);
        return;
    }
    while (history->framed_count == FL_FRAMES_MAX ||
           (history->framed_count && history->frame_bytes + frame->len > FL_FRAME_BYTES_MAX))
        drop_oldest_frame(history);
    at->frame = frame;
    history->framed[(history->framed_first + history->framed_count++) % FL_FRAMES_MAX] =
        event_ref(at);
    history->frame_bytes += frame->len;
    pthread_mutex_unlock(&store->lock);
}
