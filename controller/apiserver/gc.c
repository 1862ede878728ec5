/* Garbage collection by owner references.
 *
 * Kept in memory: for each owner's uid, which objects name it (only objects with owners cost
 * anything). A look at an object asks the store whether its owners exist, and does one of: nothing;
 * removes references to owners that are gone; deletes the object, whose owners are all gone. An
 * owner deleted in the foreground waits for the dependents that block it, one that orphans has its
 * references removed first. Owners that wait for each other in a circle stop blocking. Looks are
 * queued by what changed and repeated until nothing is left; a write that fails later than it was
 * accepted queues a look, too. A run is bounded by count and by time: others want the loop. */
#include "controller/apiserver/internal.h"

#define LOOKS_PER_RUN 500
#define EDITS_PER_RUN 200 /* of dependents that are orphaned */
#define RUN_MS        10
#define CIRCLE_MAX    10000 /* owners walked through in search of a circle */
#define OWNERS_MAX    64

struct ref { /* names an object */
    char *resource, *ns, *name;
};

struct dependent { /* what an owner knows of one */
    struct ref what;
    bool blocks;
    bool sent; /* the edit that orphans it is under way */
};

struct dependents {
    struct fl_map *items; /* "resource/ns/name" → struct dependent */
    size_t blocking, sent;
};

struct waiting { /* an owner whose deletion waits for its dependents */
    struct ref what;
    bool foreground; /* else it orphans them */
};

struct look {
    STAILQ_ENTRY(look) link;
    struct ref what;
};

struct fl_gc {
    struct fl_apiserver *server;
    struct fl_map *dependents; /* owner uid → struct dependents */
    struct fl_map *owners;     /* "resource/ns/name" → json: uid of an owner → does it block */
    struct fl_map *waiting;    /* uid of an owner → struct waiting */
    struct fl_map *queued;     /* "resource/ns/name" → struct look */
    STAILQ_HEAD(, look) queue;
    size_t edits; /* of this run */
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

static void dependent_destroy(void *value)
{
    struct dependent *dependent = value;

    ref_finish(&dependent->what);
    free(dependent);
}

static void dependents_destroy(void *value)
{
    struct dependents *dependents = value;

    fl_map_destroy(dependents->items);
    free(dependents);
}

static void waiting_destroy(void *value)
{
    struct waiting *waiting = value;

    ref_finish(&waiting->what);
    free(waiting);
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

static void add_dependent(struct fl_gc *gc, const char *owner_uid, const struct fl_object *object,
                          const char *key, bool blocks)
{
    struct dependents *dependents = fl_map_get(gc->dependents, owner_uid);
    struct dependent *dependent;

    if (!dependents) {
        dependents = fl_calloc(1, sizeof(*dependents));
        dependents->items = fl_map_create(dependent_destroy);
        fl_map_put(gc->dependents, owner_uid, dependents);
    }
    dependent = fl_map_get(dependents->items, key);
    if (!dependent) {
        dependent = fl_calloc(1, sizeof(*dependent));
        dependent->what = ref_new(object->resource, object->ns, object->name);
        fl_map_put(dependents->items, key, dependent);
    }
    dependents->blocking += (size_t)blocks - (size_t)dependent->blocks;
    dependent->blocks = blocks;
}

static void remove_dependent(struct fl_gc *gc, const char *owner_uid, const char *key)
{
    struct dependents *dependents = fl_map_get(gc->dependents, owner_uid);
    struct dependent *dependent = dependents ? fl_map_get(dependents->items, key) : NULL;

    if (!dependent)
        return;
    dependents->blocking -= dependent->blocks;
    dependents->sent -= dependent->sent;
    (void)fl_map_remove(dependents->items, key);
    if (fl_map_count(dependents->items) == 0)
        (void)fl_map_remove(gc->dependents, owner_uid);
}

/* An owner that may have waited for just what happened to a dependent. */
static void wake_owner(struct fl_gc *gc, const char *uid)
{
    const struct waiting *owner = fl_map_get(gc->waiting, uid);
    const struct dependents *dependents = fl_map_get(gc->dependents, uid);

    if (owner && (!dependents || (owner->foreground ? !dependents->blocking : !dependents->sent)))
        enqueue(gc, owner->what.resource, owner->what.ns, owner->what.name);
}

static json_t *owners_of(const json_t *object)
{
    json_t *owners = json_object(), *owner;
    size_t i;

    json_array_foreach(fl_json_path(object, "metadata.ownerReferences"), i, owner) {
        const char *uid = fl_json_str(owner, "uid");

        if (uid && i < OWNERS_MAX)
            (void)json_object_set_new(
                owners, uid,
                json_boolean(fl_json_bool(owner, "blockOwnerDeletion", false) ||
                             json_is_true(json_object_get(owners, uid))));
    }
    return owners;
}

/* `owners` (taken) are those an object has now; NULL: it is gone. */
static void index_owners(struct fl_gc *gc, const struct fl_object *object, json_t *owners)
{
    char key[KEY_MAX];
    FL_JSON before = NULL;
    const char *uid;
    json_t *blocks;

    make_key(key, object->resource, object->ns, object->name);
    before = fl_map_take(gc->owners, key);
    json_object_foreach(before, uid, blocks)
        if (!json_object_get(owners, uid))
            remove_dependent(gc, uid, key);
    json_object_foreach(owners, uid, blocks)
        add_dependent(gc, uid, object, key, json_is_true(blocks));
    json_object_foreach(before, uid, blocks)
        wake_owner(gc, uid);
    if (json_object_size(owners) > 0)
        fl_map_put(gc->owners, key, owners);
    else
        json_decref(owners);
}

/* Those that wait themselves have been looked at as what they are: owners. */
static bool waits(struct fl_gc *gc, const struct dependent *dependent)
{
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *object = fl_store_get_newest(
        gc->server->store,
        &(struct fl_key){dependent->what.resource, dependent->what.ns, dependent->what.name});

    return object && fl_map_get(gc->waiting, object->uid);
}

static void enqueue_dependents(struct fl_gc *gc, const char *uid)
{
    const struct dependents *dependents = fl_map_get(gc->dependents, uid);
    void *cursor = NULL, *value;

    while (dependents && fl_map_next(dependents->items, &cursor, NULL, &value)) {
        const struct dependent *dependent = value;

        if (!waits(gc, dependent))
            enqueue(gc, dependent->what.resource, dependent->what.ns, dependent->what.name);
    }
}

static bool mentions(const struct fl_object *object, const char *word)
{
    return object && strstr(object->json->data, word) != NULL;
}

static void note_waiting(struct fl_gc *gc, const struct fl_object *object, const json_t *value)
{
    bool foreground = fl_meta_has_finalizer(value, FL_FINALIZER_FOREGROUND);
    bool orphan = fl_meta_has_finalizer(value, FL_FINALIZER_ORPHAN);
    struct waiting *waiting;

    if (!fl_meta_is_deleting(value) || (!foreground && !orphan)) {
        (void)fl_map_remove(gc->waiting, object->uid);
        return;
    }
    waiting = fl_calloc(1, sizeof(*waiting));
    waiting->what = ref_new(object->resource, object->ns, object->name);
    waiting->foreground = !orphan;
    fl_map_put(gc->waiting, object->uid, waiting);
    enqueue(gc, object->resource, object->ns, object->name);
}

static void see(struct fl_gc *gc, const struct fl_object *object)
{
    FL_JSON value = NULL;

    if (!mentions(object, "\"ownerReferences\"") && !mentions(object, "\"deletionTimestamp\""))
        return;
    value = fl_object_parse(object);
    if (fl_json_path(value, "metadata.ownerReferences")) {
        index_owners(gc, object, owners_of(value));
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
    if (mentions(event->previous, "\"ownerReferences\"") &&
        !mentions(object, "\"ownerReferences\""))
        index_owners(gc, object, NULL);
    see(gc, object);
}

struct fl_gc *fl_gc_create(struct fl_apiserver *server, struct fl_error *err)
{
    struct fl_gc *gc = fl_calloc(1, sizeof(*gc));
    const struct fl_group_version *all;
    size_t versions = fl_catalog_group_versions(server->catalog, &all);

    gc->server = server;
    gc->dependents = fl_map_create(dependents_destroy);
    gc->owners = fl_map_create(forget_json);
    gc->waiting = fl_map_create(waiting_destroy);
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
    char key[KEY_MAX];
    const char *uid;
    json_t *blocks;

    /* If it was to be orphaned, it still is. */
    json_object_foreach(fl_map_get(gc->owners, make_key(key, resource, ns, name)), uid, blocks) {
        struct dependents *dependents = fl_map_get(gc->dependents, uid);
        struct dependent *dependent = dependents ? fl_map_get(dependents->items, key) : NULL;

        if (!dependent || !dependent->sent)
            continue;
        dependent->sent = false;
        dependents->sent--;
        wake_owner(gc, uid);
    }
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
    bool owns = fl_map_get(gc->dependents, object->uid) != NULL;
    struct owners owners;

    if (fl_meta_is_deleting(value))
        return 0;
    judge(gc, object, value, &owners);
    if (owners.unknown || (!owners.gone && !owners.waiting))
        return 0;
    if (owners.solid)
        return fl_edit_object(gc->server, resource, object, remove_references, &owners, err);
    return fl_delete_object(
        gc->server, resource, object,
        owners.waiting && owns ? FL_PROPAGATION_FOREGROUND : FL_PROPAGATION_BACKGROUND, err);
}

struct walk {            /* through owners that wait */
    struct fl_map *seen; /* by uid */
    const struct waiting **items;
    size_t count, cap;
};

/* Adds the owners that an object blocks, and that wait, to those to walk through. */
static void walk_up(struct fl_gc *gc, const struct ref *what, struct walk *walk)
{
    char key[KEY_MAX];
    const char *uid;
    json_t *blocks;

    json_object_foreach(fl_map_get(gc->owners, make_key(key, what->resource, what->ns, what->name)),
                        uid, blocks) {
        struct waiting *owner = fl_map_get(gc->waiting, uid);

        if (!owner || !owner->foreground || !json_is_true(blocks) || fl_map_get(walk->seen, uid))
            continue;
        fl_map_put(walk->seen, uid, owner);
        if (walk->count == walk->cap) {
            walk->cap = walk->cap ? walk->cap * 2 : 8;
            walk->items = fl_realloc(walk->items, walk->cap * sizeof(struct waiting *));
        }
        walk->items[walk->count++] = owner;
    }
}

/* Whether an owner that waits blocks, over others that wait, itself. */
static bool is_in_circle(struct fl_gc *gc, const struct ref *what, const char *uid)
{
    struct walk walk = {.seen = fl_map_create(NULL)};
    bool found;

    walk_up(gc, what, &walk);
    for (size_t i = 0; i < walk.count && i < CIRCLE_MAX && !fl_map_get(walk.seen, uid); i++)
        walk_up(gc, &walk.items[i]->what, &walk);
    found = fl_map_get(walk.seen, uid) != NULL;
    fl_map_destroy(walk.seen);
    free(walk.items);
    return found;
}

static void stop_blocking(void *user, json_t *object)
{
    struct fl_gc *gc = user;
    json_t *owner;
    size_t i;

    json_array_foreach(fl_json_path(object, "metadata.ownerReferences"), i, owner)
        if (fl_json_bool(owner, "blockOwnerDeletion", false) &&
            fl_map_get(gc->waiting, fl_str_or(fl_json_str(owner, "uid"), "")))
            (void)json_object_set_new(owner, "blockOwnerDeletion", json_false());
}

/* As an owner that is deleted in the foreground: dependents first. */
static int finish_foreground(struct fl_gc *gc, const struct fl_resource *resource,
                             const struct fl_object *object, struct fl_error *err)
{
    const struct dependents *dependents = fl_map_get(gc->dependents, object->uid);
    struct ref what = {(char *)object->resource, (char *)object->ns, (char *)object->name};

    enqueue_dependents(gc, object->uid);
    if (!dependents || !dependents->blocking)
        return fl_drop_finalizer(gc->server, resource, object, FL_FINALIZER_FOREGROUND, err);
    if (is_in_circle(gc, &what, object->uid))
        return fl_edit_object(gc->server, resource, object, stop_blocking, gc, err);
    return 0; /* their going is an event that brings us back */
}

/* > 0: the edit is under way. */
static int orphan_one(struct fl_gc *gc, const char *owner_uid, const struct ref *ref,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *dependent =
        fl_store_get_newest(gc->server->store, &(struct fl_key){ref->resource, ref->ns, ref->name});
    struct owners owners = {.remove = {owner_uid}, .remove_count = 1};
    struct fl_resource buf;
    int r;

    if (!dependent || !mentions(dependent, owner_uid))
        return 0; /* another's change, which may fail yet */
    r = fl_edit_object(gc->server, fl_resource_of_stored(gc->server, dependent, &buf), dependent,
                       remove_references, &owners, err);
    return r < 0 ? r : 1;
}

/* As an owner whose dependents stay: it goes when the last reference to it is gone. */
static int finish_orphan(struct fl_gc *gc, const struct fl_resource *resource,
                         const struct fl_object *object, struct fl_error *err)
{
    struct dependents *dependents = fl_map_get(gc->dependents, object->uid);
    void *cursor = NULL, *value;
    int r = 0;

    if (!dependents)
        return fl_drop_finalizer(gc->server, resource, object, FL_FINALIZER_ORPHAN, err);
    if (dependents->sent == fl_map_count(dependents->items))
        return 0; /* the end of the last of them brings us back */
    while (gc->edits < EDITS_PER_RUN && fl_map_next(dependents->items, &cursor, NULL, &value)) {
        struct dependent *dependent = value;

        if (dependent->sent)
            continue;
        r = orphan_one(gc, object->uid, &dependent->what, err);
        if (r < 0)
            return r;
        gc->edits++;
        dependent->sent = r > 0;
        dependents->sent += dependent->sent;
    }
    if (dependents->sent < fl_map_count(dependents->items)) {
        enqueue(gc, object->resource, object->ns, object->name);
        gc->edits = EDITS_PER_RUN; /* the rest in the next run */
    }
    return 0;
}

static int look_at(struct fl_gc *gc, const struct ref *what, struct fl_error *err)
{
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *object = fl_store_get_newest(
        gc->server->store, &(struct fl_key){what->resource, what->ns, what->name});
    const struct fl_resource *resource;
    struct fl_resource buf;
    FL_JSON value = NULL;

    if (!object)
        return 0;
    resource = fl_resource_of_stored(gc->server, object, &buf);
    value = fl_object_parse(object);
    if (fl_meta_is_deleting(value) && fl_meta_has_finalizer(value, FL_FINALIZER_ORPHAN))
        return finish_orphan(gc, resource, object, err);
    if (fl_meta_is_deleting(value) && fl_meta_has_finalizer(value, FL_FINALIZER_FOREGROUND))
        return finish_foreground(gc, resource, object, err);
    return look_up(gc, resource, object, value, err);
}

void fl_gc_run(struct fl_gc *gc)
{
    int64_t end_ms = fl_monotonic_ms(gc->server->env) + RUN_MS;
    struct look *look;

    gc->edits = 0;
    for (int i = 0; i < LOOKS_PER_RUN && gc->edits < EDITS_PER_RUN &&
                    fl_monotonic_ms(gc->server->env) < end_ms && (look = take_look(gc));
         i++) {
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
