/* Garbage collection by owner references.
 *
 * Kept in memory: for each owner's uid, which objects name it (only objects with owners cost
 * anything). A look at an object asks the store whether its owners exist, and does one of: nothing;
 * removes references to owners that are gone; deletes the object, whose owners are all gone. An
 * owner deleted in the foreground waits for the dependents that block it, one that orphans has its
 * references removed first. Looks are queued by what changed and repeated until nothing is left; a
 * write that fails later than it was accepted queues a look, too. */
#include "controller/apiserver/internal.h"

#define LOOKS_PER_RUN 500
#define OWNERS_MAX 64

struct ref { /* one object that names an owner */
    char *resource, *ns, *name;
};

struct refs {
    struct ref *items;
    size_t count, cap;
};

struct look {
    STAILQ_ENTRY(look) link;
    struct ref what;
};

struct fl_gc {
    struct fl_apiserver *server;
    struct fl_map *dependents; /* owner uid → struct refs */
    struct fl_map *owners;     /* "resource/ns/name" → json array of owner uids, as last seen */
    struct fl_map *waiting;    /* uid of an owner whose deletion waits → struct ref */
    struct fl_map *queued;     /* "resource/ns/name" → struct look */
    STAILQ_HEAD(, look) queue;
};

#define KEY_MAX 1024

static const char *make_key(char buf[KEY_MAX], const char *resource, const char *ns,
                            const char *name)
{
    (void)snprintf(buf, KEY_MAX, "%s/%s/%s", resource, ns, name);
    return buf;
}

static struct ref ref_new(const char *resource, const char *ns, const char *name)
{
    return (struct ref){fl_strdup(resource), fl_strdup(ns), fl_strdup(name)};
}

static void ref_finish(struct ref *ref)
{
    free(ref->resource);
    free(ref->ns);
    free(ref->name);
}

static void ref_destroy(void *value)
{
    ref_finish(value);
    free(value);
}

static void refs_destroy(void *value)
{
    struct refs *refs = value;

    for (size_t i = 0; i < refs->count; i++)
        ref_finish(&refs->items[i]);
    free(refs->items);
    free(refs);
}

static void forget_json(void *value)
{
    json_decref(value);
}

static void enqueue(struct fl_gc *gc, const char *resource, const char *ns, const char *name)
{
    char key[KEY_MAX];
    struct look *look;

    if (fl_map_get(gc->queued, make_key(key, resource, ns, name)))
        return;
    look = fl_calloc(1, sizeof(*look));
    look->what = ref_new(resource, ns, name);
    fl_map_put(gc->queued, key, look);
    STAILQ_INSERT_TAIL(&gc->queue, look, link);
}

/* The index of dependents */

static bool refers(const struct ref *ref, const struct fl_object *object)
{
    return strcmp(ref->name, object->name) == 0 && strcmp(ref->ns, object->ns) == 0 &&
           strcmp(ref->resource, object->resource) == 0;
}

static void add_dependent(struct fl_gc *gc, const char *owner_uid, const struct fl_object *object)
{
    struct refs *refs = fl_map_get(gc->dependents, owner_uid);

    if (!refs) {
        refs = fl_calloc(1, sizeof(*refs));
        fl_map_put(gc->dependents, owner_uid, refs);
    }
    for (size_t i = 0; i < refs->count; i++)
        if (refers(&refs->items[i], object))
            return;
    if (refs->count == refs->cap) {
        refs->cap = refs->cap ? refs->cap * 2 : 4;
        refs->items = fl_realloc(refs->items, refs->cap * sizeof(struct ref));
    }
    refs->items[refs->count++] = ref_new(object->resource, object->ns, object->name);
}

static void remove_dependent(struct fl_gc *gc, const char *owner_uid,
                             const struct fl_object *object)
{
    struct refs *refs = fl_map_get(gc->dependents, owner_uid);
    const struct ref *owner = fl_map_get(gc->waiting, owner_uid);

    for (size_t i = 0; refs && i < refs->count; i++) {
        if (!refers(&refs->items[i], object))
            continue;
        ref_finish(&refs->items[i]);
        refs->items[i] = refs->items[--refs->count];
        if (refs->count == 0)
            (void)fl_map_remove(gc->dependents, owner_uid);
        break;
    }
    if (owner) /* it may have waited for just this */
        enqueue(gc, owner->resource, owner->ns, owner->name);
}

static bool names_uid(const json_t *uids, const char *uid)
{
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)uids, i, item)
        if (fl_streq(json_string_value(item), uid))
            return true;
    return false;
}

static json_t *owner_uids(const json_t *object)
{
    json_t *uids = json_array(), *owner;
    size_t i;

    json_array_foreach(fl_json_path(object, "metadata.ownerReferences"), i, owner)
        if (fl_json_str(owner, "uid") && i < OWNERS_MAX)
            (void)json_array_append_new(uids, json_string(fl_json_str(owner, "uid")));
    return uids;
}

/* `uids` (taken) are the owners an object has now; NULL: it is gone. */
static void index_owners(struct fl_gc *gc, const struct fl_object *object, json_t *uids)
{
    char key[KEY_MAX];
    FL_JSON before = NULL;
    json_t *uid;
    size_t i;

    make_key(key, object->resource, object->ns, object->name);
    before = fl_map_take(gc->owners, key);
    json_array_foreach(before, i, uid)
        if (!names_uid(uids, json_string_value(uid)))
            remove_dependent(gc, json_string_value(uid), object);
    json_array_foreach(uids, i, uid)
        add_dependent(gc, json_string_value(uid), object);
    if (json_array_size(uids) > 0)
        fl_map_put(gc->owners, key, uids);
    else
        json_decref(uids);
}

static void enqueue_dependents(struct fl_gc *gc, const char *uid)
{
    const struct refs *refs = fl_map_get(gc->dependents, uid);

    for (size_t i = 0; refs && i < refs->count; i++)
        enqueue(gc, refs->items[i].resource, refs->items[i].ns, refs->items[i].name);
}

static bool mentions(const struct fl_object *object, const char *word)
{
    return object && strstr(object->json->data, word) != NULL;
}

static void note_waiting(struct fl_gc *gc, const struct fl_object *object, const json_t *value)
{
    struct ref *ref;

    if (!fl_meta_is_deleting(value) || (!fl_meta_has_finalizer(value, FL_FINALIZER_FOREGROUND) &&
                                        !fl_meta_has_finalizer(value, FL_FINALIZER_ORPHAN)))
        return;
    ref = fl_calloc(1, sizeof(*ref));
    *ref = ref_new(object->resource, object->ns, object->name);
    fl_map_put(gc->waiting, object->uid, ref);
    enqueue(gc, object->resource, object->ns, object->name);
}

static void see(struct fl_gc *gc, const struct fl_object *object)
{
    FL_JSON value = NULL;

    if (!mentions(object, "\"ownerReferences\"") && !mentions(object, "\"deletionTimestamp\""))
        return;
    value = fl_object_parse(object);
    if (fl_json_path(value, "metadata.ownerReferences")) {
        index_owners(gc, object, owner_uids(value));
        enqueue(gc, object->resource, object->ns, object->name);
    }
    note_waiting(gc, object, value);
}

void fl_gc_observe(struct fl_gc *gc, const struct fl_event *event)
{
    const struct fl_object *object = event->object;

    if (event->type == FL_EVENT_DELETED) {
        if (mentions(object, "\"ownerReferences\"") ||
            mentions(event->previous, "\"ownerReferences\""))
            index_owners(gc, object, NULL);
        (void)fl_map_remove(gc->waiting, object->uid);
        enqueue_dependents(gc, object->uid);
        return;
    }
    if (mentions(event->previous, "\"ownerReferences\"") && !mentions(object, "\"ownerReferences\""))
        index_owners(gc, object, NULL);
    see(gc, object);
}

struct fl_gc *fl_gc_create(struct fl_apiserver *server, struct fl_error *err)
{
    struct fl_gc *gc = fl_calloc(1, sizeof(*gc));
    const struct fl_group_version *all;
    size_t versions = fl_catalog_group_versions(server->catalog, &all);

    gc->server = server;
    gc->dependents = fl_map_create(refs_destroy);
    gc->owners = fl_map_create(forget_json);
    gc->waiting = fl_map_create(ref_destroy);
    gc->queued = fl_map_create(NULL);
    STAILQ_INIT(&gc->queue);
    for (size_t i = 0; i < versions; i++) {
        for (size_t k = 0; k < all[i].count; k++) {
            struct fl_list_query query = {.resource = all[i].items[k]->resource->storage};
            struct fl_list list;

            if (fl_store_list(server->store, &query, &list, err) < 0)
                continue; /* nothing but memory could be missing */
            for (size_t n = 0; n < list.count; n++)
                see(gc, list.objects[n]);
            fl_list_finish(&list);
        }
    }
    return gc;
}

void fl_gc_look_again(struct fl_gc *gc, const char *resource, const char *ns, const char *name)
{
    enqueue(gc, resource, ns, name);
}

static struct look *take_look(struct fl_gc *gc)
{
    struct look *look = STAILQ_FIRST(&gc->queue);
    char key[KEY_MAX];

    if (!look)
        return NULL;
    STAILQ_REMOVE_HEAD(&gc->queue, link);
    (void)fl_map_take(gc->queued,
                      make_key(key, look->what.resource, look->what.ns, look->what.name));
    return look;
}

static void look_destroy(struct look *look)
{
    ref_finish(&look->what);
    free(look);
}

void fl_gc_destroy(struct fl_gc *gc)
{
    struct look *look;

    if (!gc)
        return;
    while ((look = take_look(gc)))
        look_destroy(look);
    fl_map_destroy(gc->dependents);
    fl_map_destroy(gc->owners);
    fl_map_destroy(gc->waiting);
    fl_map_destroy(gc->queued);
    free(gc);
}

/* Looking */

enum owner_state { SOLID, GONE, WAITING, UNKNOWN };

static enum owner_state owner_state(struct fl_gc *gc, const struct fl_object *object,
                                    const json_t *owner)
{
    struct fl_served *served =
        fl_catalog_find_kind(gc->server->catalog, fl_str_or(fl_json_str(owner, "apiVersion"), ""),
                             fl_str_or(fl_json_str(owner, "kind"), ""));
    FL_CLEANUP(fl_object_unrefp) struct fl_object *have = NULL;
    struct fl_key key;
    FL_JSON value = NULL;

    if (!served)
        return UNKNOWN; /* not ours to judge: nothing is deleted for a kind that is not served */
    key = (struct fl_key){served->resource->storage,
                          served->resource->traits.namespaced ? object->ns : "",
                          fl_str_or(fl_json_str(owner, "name"), "")};
    if (served->resource->traits.namespaced && !*object->ns)
        return UNKNOWN; /* the owner would have to be in a namespace, and nobody says in which */
    have = fl_store_get_newest(gc->server->store, &key);
    if (!have || !fl_streq(have->uid, fl_json_str(owner, "uid")))
        return GONE;
    if (!mentions(have, "\"" FL_FINALIZER_FOREGROUND "\""))
        return SOLID;
    value = fl_object_parse(have);
    return fl_meta_is_deleting(value) && fl_meta_has_finalizer(value, FL_FINALIZER_FOREGROUND)
               ? WAITING
               : SOLID;
}

struct owners {
    size_t solid, gone, waiting, unknown;
    const char *remove[OWNERS_MAX]; /* uids of references that are to go */
    size_t remove_count;
};

static void judge(struct fl_gc *gc, const struct fl_object *object, const json_t *value,
                  struct owners *owners)
{
    json_t *owner;
    size_t i;

    *owners = (struct owners){0};
    json_array_foreach(fl_json_path(value, "metadata.ownerReferences"), i, owner) {
        enum owner_state state = owner_state(gc, object, owner);

        owners->solid += state == SOLID;
        owners->gone += state == GONE;
        owners->waiting += state == WAITING;
        owners->unknown += state == UNKNOWN;
        if ((state == GONE || state == WAITING) && owners->remove_count < OWNERS_MAX)
            owners->remove[owners->remove_count++] = fl_json_str(owner, "uid");
    }
}

static void remove_references(void *user, json_t *object)
{
    const struct owners *owners = user;
    json_t *meta = json_object_get(object, "metadata");
    json_t *list = json_object_get(meta, "ownerReferences");

    for (size_t i = 0; i < json_array_size(list);) {
        const char *uid = fl_json_str(json_array_get(list, i), "uid");
        bool remove = false;

        for (size_t k = 0; k < owners->remove_count && !remove; k++)
            remove = fl_streq(uid, owners->remove[k]);
        if (remove)
            (void)json_array_remove(list, i);
        else
            i++;
    }
    if (list && json_array_size(list) == 0)
        (void)json_object_del(meta, "ownerReferences");
}

/* As a dependent: does anyone still own it? */
static int look_up(struct fl_gc *gc, const struct fl_resource *resource,
                   const struct fl_object *object, const json_t *value, struct fl_error *err)
{
    const struct refs *own = fl_map_get(gc->dependents, object->uid);
    struct owners owners;

    if (fl_meta_is_deleting(value))
        return 0;
    judge(gc, object, value, &owners);
    if (owners.unknown || (!owners.gone && !owners.waiting))
        return 0;
    if (owners.solid)
        return fl_edit_object(gc->server, resource, object, remove_references, &owners, err);
    return fl_delete_object(gc->server, resource, object,
                            owners.waiting && own && own->count ? FL_PROPAGATION_FOREGROUND
                                                                : FL_PROPAGATION_BACKGROUND,
                            err);
}

static bool blocks(struct fl_gc *gc, const struct ref *ref, const char *owner_uid)
{
    FL_CLEANUP(fl_object_unrefp) struct fl_object *object = fl_store_get_newest(
        gc->server->store, &(struct fl_key){ref->resource, ref->ns, ref->name});
    FL_JSON value = object ? fl_object_parse(object) : NULL;
    json_t *owner;
    size_t i;

    json_array_foreach(fl_json_path(value, "metadata.ownerReferences"), i, owner)
        if (fl_streq(fl_json_str(owner, "uid"), owner_uid) &&
            fl_json_bool(owner, "blockOwnerDeletion", false))
            return true;
    return false;
}

/* As an owner that is deleted in the foreground: dependents first. */
static int finish_foreground(struct fl_gc *gc, const struct fl_resource *resource,
                             const struct fl_object *object, struct fl_error *err)
{
    const struct refs *refs = fl_map_get(gc->dependents, object->uid);
    bool blocked = false;

    for (size_t i = 0; refs && i < refs->count; i++)
        blocked = blocks(gc, &refs->items[i], object->uid) || blocked;
    enqueue_dependents(gc, object->uid);
    if (blocked)
        return 0; /* their going is an event that brings us back */
    return fl_drop_finalizer(gc->server, resource, object, FL_FINALIZER_FOREGROUND, err);
}

static int finish_orphan(struct fl_gc *gc, const struct fl_resource *resource,
                         const struct fl_object *object, struct fl_error *err)
{
    const struct refs *refs = fl_map_get(gc->dependents, object->uid);
    struct owners owners = {.remove = {object->uid}, .remove_count = 1};
    int r = 0;

    if (!refs || refs->count == 0)
        return fl_drop_finalizer(gc->server, resource, object, FL_FINALIZER_ORPHAN, err);
    for (size_t i = 0; i < refs->count && r == 0; i++) {
        const struct ref *ref = &refs->items[i];
        struct fl_served *served = fl_catalog_find_storage(gc->server->catalog, ref->resource);
        FL_CLEANUP(fl_object_unrefp) struct fl_object *dependent = fl_store_get_newest(
            gc->server->store, &(struct fl_key){ref->resource, ref->ns, ref->name});

        if (served && dependent)
            r = fl_edit_object(gc->server, served->resource, dependent, remove_references, &owners,
                               err);
    }
    return r;
}

static int look_at(struct fl_gc *gc, const struct ref *what, struct fl_error *err)
{
    struct fl_served *served = fl_catalog_find_storage(gc->server->catalog, what->resource);
    FL_CLEANUP(fl_object_unrefp) struct fl_object *object = fl_store_get_newest(
        gc->server->store, &(struct fl_key){what->resource, what->ns, what->name});
    FL_JSON value = NULL;

    if (!served || !object)
        return 0;
    value = fl_object_parse(object);
    if (fl_meta_is_deleting(value) && fl_meta_has_finalizer(value, FL_FINALIZER_ORPHAN))
        return finish_orphan(gc, served->resource, object, err);
    if (fl_meta_is_deleting(value) && fl_meta_has_finalizer(value, FL_FINALIZER_FOREGROUND))
        return finish_foreground(gc, served->resource, object, err);
    return look_up(gc, served->resource, object, value, err);
}

void fl_gc_run(struct fl_gc *gc)
{
    struct look *look;

    for (int i = 0; i < LOOKS_PER_RUN && (look = take_look(gc)); i++) {
        struct fl_error err = {0};
        int r = look_at(gc, &look->what, &err);

        /* A conflict or a full disk passes: the next run looks again. */
        if (r < 0 && r != FL_E_NOT_FOUND)
            enqueue(gc, look->what.resource, look->what.ns, look->what.name);
        look_destroy(look);
        if (r < 0 && r != FL_E_NOT_FOUND)
            break;
    }
    if (!STAILQ_EMPTY(&gc->queue))
        fl_apiserver_run_soon(gc->server);
}
