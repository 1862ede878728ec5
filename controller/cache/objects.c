/* Objects in order of namespace and name, and under the values of each index in the same order. */
#include "controller/cache/cache_internal.h"

#include "lib/str.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static int compare_keys(const char *ns_a, const char *name_a, const char *ns_b, const char *name_b)
{
    int r = strcmp(ns_a, ns_b);

    return r ? r : strcmp(name_a, name_b);
}

static int compare_entries(const struct fl_cache_entry *a, const struct fl_cache_entry *b)
{
    return compare_keys(a->object->ns, a->object->name, b->object->ns, b->object->name);
}

static int compare_members(const struct fl_cache_member *a, const struct fl_cache_member *b)
{
    return compare_entries(a->entry, b->entry);
}

RB_HEAD(member_tree, fl_cache_member);

struct fl_cache_bucket {
    struct member_tree members;
    size_t count, index;
    char value[];
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wnull-dereference" /* the tree's invariants are beyond it */
RB_GENERATE_INTERNAL(fl_cache_tree, fl_cache_entry, link, compare_entries,
                     __attribute__((unused)) static)
RB_GENERATE_INTERNAL(member_tree, fl_cache_member, link, compare_members,
                     __attribute__((unused)) static)
#pragma GCC diagnostic pop

static void emit_owners(const json_t *object, fl_index_emit_fn *emit, void *user)
{
    const json_t *owner;
    size_t i;

    json_array_foreach(fl_json_path(object, "metadata.ownerReferences"), i, owner)
        emit(user, fl_json_str(owner, "uid"));
}

struct emitting {
    struct fl_cache_terms *terms;
    size_t index;
};

static void add_term(void *user, const char *value)
{
    const struct emitting *emitting = user;
    struct fl_cache_terms *terms = emitting->terms;

    if (!value)
        return;
    if (terms->count == terms->room) {
        terms->room = terms->room ? 2 * terms->room : 4;
        terms->items = fl_realloc(terms->items, terms->room * sizeof(*terms->items));
    }
    terms->items[terms->count++] = (struct fl_cache_term){emitting->index, fl_strdup(value)};
}

static int compare_terms(const void *left, const void *right)
{
    const struct fl_cache_term *a = left, *b = right;

    return a->index != b->index ? (a->index > b->index) - (a->index < b->index)
                                : strcmp(a->value, b->value);
}

static void drop_doubles(struct fl_cache_terms *terms)
{
    size_t kept = 0;

    if (terms->count == 0)
        return;
    qsort(terms->items, terms->count, sizeof(*terms->items), compare_terms);
    for (size_t i = 1; i < terms->count; i++) {
        if (compare_terms(&terms->items[kept], &terms->items[i]) == 0)
            free(terms->items[i].value);
        else
            terms->items[++kept] = terms->items[i];
    }
    terms->count = kept + 1;
}

/* Parsing costs far more than looking at the bytes, and most objects have no owner. The name of a
 * field cannot be written otherwise in canonical text; where a string holds the same bytes, they
 * are escaped. */
static bool must_parse(const struct fl_cache_objects *objects, const struct fl_object *object)
{
    static const char field[] = "\"ownerReferences\":";

    return objects->index_count > 1 ||
           memmem(object->json->data, object->json->len, field, sizeof(field) - 1);
}

void fl_cache_terms_make(const struct fl_cache_objects *objects, const struct fl_object *object,
                         struct fl_cache_terms *ret_terms)
{
    FL_JSON value = NULL;

    *ret_terms = (struct fl_cache_terms){0};
    if (!must_parse(objects, object))
        return;
    value = fl_object_parse(object);
    for (size_t i = 0; i < objects->index_count; i++)
        objects->indexes[i].values(value, add_term, &(struct emitting){ret_terms, i});
    drop_doubles(ret_terms);
}

void fl_cache_terms_finish(struct fl_cache_terms *terms)
{
    for (size_t i = 0; i < terms->count; i++)
        free(terms->items[i].value);
    free(terms->items);
    *terms = (struct fl_cache_terms){0};
}

void fl_cache_objects_init(struct fl_cache_objects *objects, const struct fl_cache_index *indexes,
                           size_t index_count)
{
    assert(index_count <= FL_CACHE_INDEXES_MAX);
    *objects = (struct fl_cache_objects){.index_count = index_count + 1};
    objects->indexes[0] = (struct fl_cache_index){FL_INDEX_OWNER, emit_owners};
    for (size_t i = 0; i < index_count; i++)
        objects->indexes[i + 1] = indexes[i];
    for (size_t i = 0; i < objects->index_count; i++)
        objects->buckets[i] = fl_map_create(free);
    RB_INIT(&objects->tree);
}

void fl_cache_objects_finish(struct fl_cache_objects *objects)
{
    struct fl_cache_entry *entry;

    while ((entry = RB_ROOT(&objects->tree)))
        fl_object_unref(fl_cache_objects_remove(objects, entry));
    for (size_t i = 0; i < objects->index_count; i++)
        fl_map_destroy(FL_TAKE(objects->buckets[i]));
}

/* Walks down by hand, because the tree's own look-up would need an object to compare with.
 * *ret_above is the first entry behind the key where none is at it. */
static struct fl_cache_entry *descend(struct fl_cache_objects *objects, const char *ns,
                                      const char *name, struct fl_cache_entry **ret_above)
{
    struct fl_cache_entry *entry = RB_ROOT(&objects->tree);

    *ret_above = NULL;
    while (entry) {
        int r = compare_keys(ns, name, entry->object->ns, entry->object->name);

        if (r == 0)
            return entry;
        if (r < 0)
            *ret_above = entry;
        entry = r < 0 ? RB_LEFT(entry, link) : RB_RIGHT(entry, link);
    }
    return NULL;
}

struct fl_cache_entry *fl_cache_objects_find(struct fl_cache_objects *objects, const char *ns,
                                             const char *name)
{
    struct fl_cache_entry *above;

    return descend(objects, ns, name, &above);
}

struct fl_cache_entry *fl_cache_objects_next(struct fl_cache_objects *objects,
                                             struct fl_cache_entry *entry)
{
    return entry ? RB_NEXT(fl_cache_tree, &objects->tree, entry)
                 : RB_MIN(fl_cache_tree, &objects->tree);
}

static struct fl_cache_bucket *ensure_bucket(struct fl_cache_objects *objects,
                                             const struct fl_cache_term *term)
{
    struct fl_map *map = objects->buckets[term->index];
    struct fl_cache_bucket *bucket = fl_map_get(map, term->value);
    size_t size = strlen(term->value) + 1;

    if (bucket)
        return bucket;
    bucket = fl_calloc(1, sizeof(*bucket) + size);
    RB_INIT(&bucket->members);
    bucket->index = term->index;
    memcpy(bucket->value, term->value, size);
    fl_map_put(map, bucket->value, bucket);
    return bucket;
}

static void enter_indexes(struct fl_cache_objects *objects, struct fl_cache_entry *entry,
                          const struct fl_cache_terms *terms)
{
    if (terms->count == 0)
        return;
    entry->members = fl_calloc(terms->count, sizeof(*entry->members));
    entry->member_count = terms->count;
    for (size_t i = 0; i < terms->count; i++) {
        struct fl_cache_member *member = &entry->members[i];

        member->entry = entry;
        member->bucket = ensure_bucket(objects, &terms->items[i]);
        member->bucket->count++;
        RB_INSERT(member_tree, &member->bucket->members, member);
    }
}

static void leave_indexes(struct fl_cache_objects *objects, struct fl_cache_entry *entry)
{
    for (size_t i = 0; i < entry->member_count; i++) {
        struct fl_cache_bucket *bucket = entry->members[i].bucket;

        RB_REMOVE(member_tree, &bucket->members, &entry->members[i]);
        if (--bucket->count == 0)
            (void)fl_map_remove(objects->buckets[bucket->index], bucket->value);
    }
    free(FL_TAKE(entry->members));
    entry->member_count = 0;
}

struct fl_object *fl_cache_objects_put(struct fl_cache_objects *objects, struct fl_object *object,
                                       const struct fl_cache_terms *terms)
{
    struct fl_cache_entry *entry = fl_cache_objects_find(objects, object->ns, object->name);
    struct fl_object *old = NULL;

    if (entry) {
        leave_indexes(objects, entry);
        old = entry->object;
        entry->object = fl_object_ref(object);
    } else {
        entry = fl_calloc(1, sizeof(*entry));
        entry->object = fl_object_ref(object);
        RB_INSERT(fl_cache_tree, &objects->tree, entry);
        objects->count++;
    }
    enter_indexes(objects, entry, terms);
    return old;
}

struct fl_object *fl_cache_objects_remove(struct fl_cache_objects *objects,
                                          struct fl_cache_entry *entry)
{
    struct fl_object *object = entry->object;

    leave_indexes(objects, entry);
    RB_REMOVE(fl_cache_tree, &objects->tree, entry);
    objects->count--;
    free(entry);
    return object;
}

static void push(struct fl_list *list, size_t *room, struct fl_object *object)
{
    if (list->count == *room) {
        *room = *room ? 2 * *room : 16;
        list->objects = fl_realloc(list->objects, *room * sizeof(struct fl_object *));
    }
    list->objects[list->count++] = fl_object_ref(object);
}

void fl_cache_objects_list(struct fl_cache_objects *objects, const char *ns,
                           struct fl_list *ret_list)
{
    struct fl_cache_entry *entry = NULL, *above;
    struct fl_list list = {0};
    size_t room = ns ? 0 : objects->count;

    if (room > 0)
        list.objects = fl_calloc(room, sizeof(struct fl_object *));
    entry = descend(objects, fl_str_or(ns, ""), "", &above);
    for (entry = entry ? entry : above; entry; entry = fl_cache_objects_next(objects, entry)) {
        if (ns && strcmp(entry->object->ns, ns) != 0)
            break;
        push(&list, &room, entry->object);
    }
    *ret_list = list;
}

static size_t find_index(const struct fl_cache_objects *objects, const char *name)
{
    size_t i = 0;

    while (i < objects->index_count && strcmp(objects->indexes[i].name, name) != 0)
        i++;
    assert(i < objects->index_count);
    return i;
}

void fl_cache_objects_list_by(struct fl_cache_objects *objects, const char *index,
                              const char *value, struct fl_list *ret_list)
{
    struct fl_cache_bucket *bucket =
        fl_map_get(objects->buckets[find_index(objects, index)], value);
    struct fl_cache_member *member;
    struct fl_list list = {0};
    size_t room = 0;

    if (bucket) {
        room = bucket->count;
        list.objects = fl_calloc(room, sizeof(struct fl_object *));
        RB_FOREACH(member, member_tree, &bucket->members)
            push(&list, &room, member->entry->object);
    }
    *ret_list = list;
}
