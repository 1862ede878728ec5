/* Pages of a resource, now or at an older revision.
 *
 * The older state is the present one with the changes since then taken back: for each object that
 * changed, what stood there before the first of those changes overrides the index. */
#include "controller/store/store_internal.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdlib.h>

struct override {
    uint64_t revision; /* of the change that is taken back */
    const struct fl_object *changed;
    struct fl_object *before; /* NULL: was not there */
};

struct snapshot {
    struct override *overrides; /* in order of key, one an object */
    size_t count, at;
    struct fl_entry *entry;
    const char *ns;
};

static int compare_overrides(const void *left, const void *right)
{
    const struct override *a = left, *b = right;
    int r = fl_key_compare(a->changed->ns, a->changed->name, b->changed->ns, b->changed->name);

    return r ? r : (a->revision > b->revision) - (a->revision < b->revision);
}

static void collect_overrides(struct snapshot *snapshot, const struct fl_resource *resource,
                              uint64_t revision)
{
    struct fl_history_event *event;
    size_t room = 0, kept = 0;

    TAILQ_FOREACH_REVERSE(event, &resource->events, fl_event_list, by_resource) {
        if (event->revision <= revision)
            break;
        if (snapshot->count == room) {
            room = room ? 2 * room : 64;
            snapshot->overrides =
                fl_realloc(snapshot->overrides, room * sizeof(*snapshot->overrides));
        }
        snapshot->overrides[snapshot->count++] =
            (struct override){event->revision, event->object, event->previous};
    }
    if (snapshot->count == 0)
        return;
    qsort(snapshot->overrides, snapshot->count, sizeof(*snapshot->overrides), compare_overrides);
    for (size_t i = 1; i < snapshot->count; i++) {
        const struct fl_object *a = snapshot->overrides[kept].changed;
        const struct fl_object *b = snapshot->overrides[i].changed;

        if (fl_key_compare(a->ns, a->name, b->ns, b->name) != 0)
            snapshot->overrides[++kept] = snapshot->overrides[i];
    }
    snapshot->count = kept + 1;
}

static void seek(struct snapshot *snapshot, struct fl_resource *resource,
                 const struct fl_list_query *query)
{
    const char *ns = fl_str_or(query->after_ns, ""), *name = fl_str_or(query->after_name, "");
    bool inclusive = !query->after_ns && !query->after_name;

    if (query->ns && fl_key_compare(ns, name, query->ns, "") < 0) {
        ns = query->ns;
        name = "";
        inclusive = true;
    }
    snapshot->ns = query->ns;
    snapshot->entry = fl_index_seek(resource, ns, name, inclusive);
    while (snapshot->at < snapshot->count) {
        const struct fl_object *changed = snapshot->overrides[snapshot->at].changed;
        int r = fl_key_compare(changed->ns, changed->name, ns, name);

        if (r > 0 || (r == 0 && inclusive))
            break;
        snapshot->at++;
    }
}

/* < 0: the index comes first, > 0: the override, 0: both are the same object. */
static int compare_heads(const struct snapshot *snapshot)
{
    const struct fl_object *changed;

    if (snapshot->at == snapshot->count)
        return -1;
    if (!snapshot->entry)
        return 1;
    changed = snapshot->overrides[snapshot->at].changed;
    return fl_key_compare(snapshot->entry->key, snapshot->entry->name, changed->ns, changed->name);
}

/* The next object in order, lent; NULL at the end. */
static struct fl_object *next_object(struct snapshot *snapshot)
{
    while (snapshot->entry || snapshot->at < snapshot->count) {
        int r = compare_heads(snapshot);
        struct fl_object *object =
            r < 0 ? snapshot->entry->durable : snapshot->overrides[snapshot->at].before;

        if (snapshot->ns &&
            !fl_streq(snapshot->ns,
                      r < 0 ? snapshot->entry->key : snapshot->overrides[snapshot->at].changed->ns))
            return NULL;
        if (r <= 0)
            snapshot->entry = fl_index_next(snapshot->entry);
        if (r >= 0)
            snapshot->at++;
        if (object)
            return object;
    }
    return NULL;
}

static void fill(struct snapshot *snapshot, const struct fl_list_query *query, size_t expected,
                 struct fl_list *list)
{
    size_t room = query->limit && query->limit < expected ? query->limit : expected;
    struct fl_object *object;

    list->objects = fl_malloc((room ? room : 1) * sizeof(struct fl_object *));
    while ((object = next_object(snapshot))) {
        if (query->match && !query->match(query->user, object))
            continue;
        if (query->limit && list->count == query->limit) {
            list->more = true;
            break;
        }
        if (list->count == room) {
            room = room ? 2 * room : 16;
            list->objects = fl_realloc(list->objects, room * sizeof(struct fl_object *));
        }
        list->objects[list->count++] = fl_object_ref(object);
    }
    if (list->more && !query->match)
        for (list->remaining = 1; next_object(snapshot);)
            list->remaining++;
}

static int list_locked(struct fl_store *store, const struct fl_list_query *query,
                       struct fl_list *list, struct fl_error *err)
{
    struct fl_resource *resource = fl_index_resource(store, query->resource);
    struct snapshot snapshot = {0};
    int r;

    list->revision = query->revision ? query->revision : store->revision;
    if (list->revision > store->revision)
        return fl_error_set(err, FL_E_INVALID,
                            "revision %" PRIu64 " is in the future, now is %" PRIu64,
                            list->revision, store->revision);
    if (!resource)
        resource = fl_index_ensure_resource(store, query->resource);
    r = fl_history_reaches(resource, list->revision, err);
    if (r < 0)
        return r;
    collect_overrides(&snapshot, resource, list->revision);
    seek(&snapshot, resource, query);
    fill(&snapshot, query, resource->count, list);
    free(snapshot.overrides);
    return 0;
}

int fl_store_list(struct fl_store *store, const struct fl_list_query *query,
                  struct fl_list *ret_list, struct fl_error *err)
{
    struct fl_list list = {0};
    int r;

    pthread_mutex_lock(&store->lock);
    r = list_locked(store, query, &list, err);
    pthread_mutex_unlock(&store->lock);
    if (r == 0)
        *ret_list = list;
    return r;
}

void fl_list_finish(struct fl_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        fl_object_unref(list->objects[i]);
    free(list->objects);
    *list = (struct fl_list){0};
}
