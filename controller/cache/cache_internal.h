/* Inside the cache: the objects with their indexes, and what is known of objects that went. Nobody
 * outside controller/cache includes this. The pump's thread alone changes these, and takes the
 * cache's lock for it; so it may read without, and others read under the lock. */
#ifndef FL_CONTROLLER_CACHE_INTERNAL_H
#define FL_CONTROLLER_CACHE_INTERNAL_H

#include "controller/cache/cache.h"
#include "lib/map.h"

#include <bsd/sys/tree.h>

/* An object under one of its values. */
struct fl_cache_member {
    RB_ENTRY(fl_cache_member) link;
    struct fl_cache_entry *entry;
    struct fl_cache_bucket *bucket;
};

struct fl_cache_entry {
    RB_ENTRY(fl_cache_entry) link;
    struct fl_object *object; /* a reference; it names the entry, too */
    struct fl_cache_member *members;
    size_t member_count;
    uint64_t listed; /* the last list it was in */
};
RB_HEAD(fl_cache_tree, fl_cache_entry);

/* The first index is that of owners. */
#define FL_CACHE_TREES_MAX (FL_CACHE_INDEXES_MAX + 1)

struct fl_cache_objects {
    struct fl_cache_index indexes[FL_CACHE_TREES_MAX]; /* constant, as the count */
    struct fl_map *buckets[FL_CACHE_TREES_MAX];        /* value → struct fl_cache_bucket */
    size_t index_count;
    struct fl_cache_tree tree;
    size_t count;
};

/* The values of an object in each index, without doubles: made outside the lock. */
struct fl_cache_terms {
    struct fl_cache_term {
        size_t index;
        char *value;
    } * items;
    size_t count, room;
};

void fl_cache_terms_make(const struct fl_cache_objects *objects, const struct fl_object *object,
                         struct fl_cache_terms *ret_terms);
void fl_cache_terms_finish(struct fl_cache_terms *terms);

void fl_cache_objects_init(struct fl_cache_objects *objects, const struct fl_cache_index *indexes,
                           size_t index_count);
void fl_cache_objects_finish(struct fl_cache_objects *objects);
struct fl_cache_entry *fl_cache_objects_find(struct fl_cache_objects *objects, const char *ns,
                                             const char *name);
/* In order, from the beginning (`entry` NULL). */
struct fl_cache_entry *fl_cache_objects_next(struct fl_cache_objects *objects,
                                             struct fl_cache_entry *entry);
/* Takes a reference of its own. What stood there before is the caller's; NULL: nothing. */
struct fl_object *fl_cache_objects_put(struct fl_cache_objects *objects, struct fl_object *object,
                                       const struct fl_cache_terms *terms);
/* The object is the caller's. */
struct fl_object *fl_cache_objects_remove(struct fl_cache_objects *objects,
                                          struct fl_cache_entry *entry);
void fl_cache_objects_list(struct fl_cache_objects *objects, const char *ns,
                           struct fl_list *ret_list);
void fl_cache_objects_list_by(struct fl_cache_objects *objects, const char *index,
                              const char *value, struct fl_list *ret_list);

/* When objects went, so that an event that comes late brings none of them back. Only so many are
 * remembered one by one; of all others it is known that they are not newer than `floor`. */
struct fl_cache_deletions {
    struct fl_map *revisions; /* "namespace/name" → uint64_t, the oldest first */
    uint64_t floor;
};
void fl_cache_deletions_init(struct fl_cache_deletions *deletions);
void fl_cache_deletions_finish(struct fl_cache_deletions *deletions);
void fl_cache_deletions_note(struct fl_cache_deletions *deletions, const char *ns, const char *name,
                             uint64_t revision);
/* Everything up to this revision is known from a list. */
void fl_cache_deletions_listed(struct fl_cache_deletions *deletions, uint64_t revision);
/* What is said of an object that is not there is old up to this revision. */
uint64_t fl_cache_deletions_known(const struct fl_cache_deletions *deletions, const char *ns,
                                  const char *name);

#endif
