/* The objects of each resource, in order of namespace and name. */
#include "controller/store/store_internal.h"

#include <stdlib.h>
#include <string.h>

int fl_key_compare(const char *ns_a, const char *name_a, const char *ns_b, const char *name_b)
{
    int r = strcmp(ns_a, ns_b);

    return r ? r : strcmp(name_a, name_b);
}

static int compare_entries(struct fl_entry *a, struct fl_entry *b)
{
    return fl_key_compare(a->key, a->name, b->key, b->name);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wnull-dereference" /* the tree's invariants are beyond it */
RB_GENERATE_INTERNAL(fl_entry_tree, fl_entry, link, compare_entries, __attribute__((unused)) static)
#pragma GCC diagnostic pop

struct fl_resource *fl_index_resource(struct fl_store *store, const char *name)
{
    return fl_map_get(store->resources, name);
}

struct fl_resource *fl_index_ensure_resource(struct fl_store *store, const char *name)
{
    struct fl_resource *resource = fl_index_resource(store, name);

    if (resource)
        return resource;
    resource = fl_calloc(1, sizeof(*resource));
    resource->name = fl_strdup(name);
    resource->forgotten = store->history.unknown_before;
    RB_INIT(&resource->entries);
    TAILQ_INIT(&resource->events);
    fl_map_put(store->resources, name, resource);
    return resource;
}

/* Walks down by hand, because the tree's own look-up would need an entry to compare with.
 * *ret_above is the first entry behind the key where none is at it. */
static struct fl_entry *descend(struct fl_resource *resource, const char *ns, const char *name,
                                struct fl_entry **ret_above)
{
    struct fl_entry *entry = RB_ROOT(&resource->entries);

    *ret_above = NULL;
    while (entry) {
        int r = fl_key_compare(ns, name, entry->key, entry->name);

        if (r == 0)
            return entry;
        if (r < 0)
            *ret_above = entry;
        entry = r < 0 ? RB_LEFT(entry, link) : RB_RIGHT(entry, link);
    }
    return NULL;
}

struct fl_entry *fl_index_find(struct fl_resource *resource, const char *ns, const char *name)
{
    struct fl_entry *above;

    return descend(resource, ns, name, &above);
}

struct fl_entry *fl_index_seek(struct fl_resource *resource, const char *ns, const char *name,
                               bool inclusive)
{
    struct fl_entry *above, *found = descend(resource, ns, name, &above);

    if (!found)
        return above;
    return inclusive ? found : fl_index_next(found);
}

struct fl_entry *fl_index_next(struct fl_entry *entry)
{
    return RB_NEXT(fl_entry_tree, NULL, entry);
}

struct fl_entry *fl_index_ensure(struct fl_resource *resource, const char *ns, const char *name)
{
    struct fl_entry *entry = fl_index_find(resource, ns, name);
    size_t ns_size = strlen(ns) + 1, name_size = strlen(name) + 1;

    if (entry)
        return entry;
    entry = fl_calloc(1, sizeof(*entry) + ns_size + name_size);
    memcpy(entry->key, ns, ns_size);
    entry->name = memcpy(entry->key + ns_size, name, name_size);
    RB_INSERT(fl_entry_tree, &resource->entries, entry);
    return entry;
}

struct fl_object *fl_entry_newest(const struct fl_entry *entry)
{
    if (!entry->newest)
        return entry->durable;
    return entry->newest->op == FL_STORE_DELETE ? NULL : entry->newest->object;
}

void fl_index_set_durable(struct fl_store *store, struct fl_resource *resource,
                          struct fl_entry *entry, struct fl_object *object)
{
    struct fl_object *old = entry->durable;

    resource->count += (object != NULL);
    resource->count -= (old != NULL);
    store->object_count += (object != NULL);
    store->object_count -= (old != NULL);
    entry->durable = object;
    fl_object_unref(old);
}

void fl_index_tidy(struct fl_resource *resource, struct fl_entry *entry)
{
    if (entry->durable || entry->newest)
        return;
    RB_REMOVE(fl_entry_tree, &resource->entries, entry);
    free(entry);
}

void fl_resource_destroy(void *user)
{
    struct fl_resource *resource = user;
    struct fl_entry *entry;

    while ((entry = RB_ROOT(&resource->entries))) {
        RB_REMOVE(fl_entry_tree, &resource->entries, entry);
        fl_object_unref(entry->durable);
        free(entry);
    }
    free(resource->name);
    free(resource);
}
