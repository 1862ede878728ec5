/* The parts of field ownership that the files of managed_fields share: sets of field paths, and
 * values seen through the schema.
 *
 * Everything lives in the arena of the call. Sets never change once made, so operations share
 * their subtrees; names and values inside are borrowed from the JSON they were read from. */
#ifndef FL_API_MANAGED_FIELDS_INTERNAL_H
#define FL_API_MANAGED_FIELDS_INTERNAL_H

#include "api/managed_fields.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Path elements, in the order in which they sort. */
enum fl_element_kind {
    FL_ELEMENT_FIELD, /* f:name — a member of an object */
    FL_ELEMENT_KEY,   /* k:{"name":"a"} — the item of a list with these keys */
    FL_ELEMENT_VALUE, /* v:"a" — the item of a set */
    FL_ELEMENT_INDEX, /* i:0 */
};

struct fl_element_key {
    const char *name;
    const json_t *value;
};

struct fl_element {
    enum fl_element_kind kind;
    uint32_t key_count;
    union {
        const char *name;
        const struct fl_element_key *keys; /* sorted by name */
        const json_t *value;
        int64_t index;
    };
};

/* What a node says of its own path. An ordinary set knows FL_MARK_MEMBER only; a comparison says in
 * which way the path changed. Without marks a node only leads to its children. */
enum fl_mark {
    FL_MARK_MEMBER = 1,
    FL_MARK_ADDED = 1,
    FL_MARK_MODIFIED = 2,
    FL_MARK_REMOVED = 4,
};

struct fl_fields {
    struct fl_field_node *nodes; /* sorted by element, each once */
    size_t count;
};

struct fl_field_node {
    struct fl_element element;
    unsigned marks;
    struct fl_fields children;
};

/* Collects the nodes of one level in any order. */
struct fl_fields_builder {
    struct fl_arena *arena;
    struct fl_field_node *nodes;
    size_t count, capacity;
    bool is_unsorted;
};

void fl_fields_add(struct fl_fields_builder *builder, const struct fl_field_node *node);
/* Sorts; nodes of the same element become one, with the marks of all and the children of one. */
struct fl_fields fl_fields_build(struct fl_fields_builder *builder);

int fl_element_compare(const struct fl_element *a, const struct fl_element *b);
struct fl_element fl_element_field(const char *name);
/* ".name", "[name=\"a\"]", "[=\"a\"]", "[0]" */
void fl_element_print(struct fl_buf *buf, const struct fl_element *element);

/* Numbers compare by value, whatever their form. */
bool fl_value_equal(const json_t *a, const json_t *b);
/* Canonical text as Go writes it: it escapes what could end a script in a web page. */
void fl_value_write(struct fl_buf *buf, const json_t *value);

bool fl_fields_is_empty(const struct fl_fields *set); /* no marked path in it */
bool fl_fields_same(const struct fl_fields *a, const struct fl_fields *b);
const struct fl_field_node *fl_fields_find(const struct fl_fields *set,
                                           const struct fl_element *element);
struct fl_fields fl_fields_union(struct fl_arena *arena, const struct fl_fields *a,
                                 const struct fl_fields *b);
/* In halves, so that many sets cost no more than their size times a logarithm. */
struct fl_fields fl_fields_union_all(struct fl_arena *arena, const struct fl_fields *sets,
                                     size_t count);
/* The paths of `a` that `b` does not have itself; what lies below a path of b stays. */
struct fl_fields fl_fields_difference(struct fl_arena *arena, const struct fl_fields *a,
                                      const struct fl_fields *b);
struct fl_fields fl_fields_intersection(struct fl_arena *arena, const struct fl_fields *a,
                                        const struct fl_fields *b);
bool fl_fields_intersect(const struct fl_fields *a, const struct fl_fields *b);
/* The paths that have one of `marks`, as an ordinary set. */
struct fl_fields fl_fields_select(struct fl_arena *arena, const struct fl_fields *set,
                                  unsigned marks);
/* Without these members of the top level, and what lies below them. */
struct fl_fields fl_fields_without(struct fl_arena *arena, const struct fl_fields *set,
                                   const char *const *names, size_t count);

typedef void fl_fields_path_fn(void *user, const char *path);
/* Each member's path as people read it, parents before children. */
void fl_fields_each(const struct fl_fields *set, fl_fields_path_fn *fn, void *user);

/* fieldsV1. Values that stand in keys (k:, v:) live in the arena; names are borrowed. */
int fl_fields_from_json(struct fl_arena *arena, const json_t *fields, struct fl_fields *ret_set,
                        struct fl_error *err);
json_t *fl_fields_to_json(const struct fl_fields *set);

/* Entries of metadata.managedFields */

#define FL_ENTRIES_MAX 1000u

struct fl_entry {
    const char *manager, *api_version, *subresource,
        *time; /* borrowed or arena; time may be NULL */
    bool is_apply;
    struct fl_fields set;
    json_t *json; /* borrowed: as it was read; NULL where it changed or is new */
};

struct fl_entries {
    struct fl_arena *arena;
    struct fl_entry *items; /* one more than `count` fits */
    size_t count;
};

int fl_entries_read(struct fl_arena *arena, const json_t *managed_fields,
                    struct fl_entries *ret_entries, struct fl_error *err);
/* The entry of a manager; NULL if none. One manager applies in one version at a time. */
struct fl_entry *fl_entries_find(const struct fl_entries *entries, const struct fl_entry *like);
/* Adds or replaces; an empty set removes the entry. */
void fl_entries_put(struct fl_entries *entries, const struct fl_entry *entry);
void fl_entries_set(struct fl_entry *entry, struct fl_fields set);
void fl_entries_drop_empty(struct fl_entries *entries);
/* Merges the oldest Update entries into one, so that ten are left. */
void fl_entries_cap(struct fl_entries *entries);
/* NULL where there are none. `steal`: the entries' own JSON may be used, it is nobody else's. */
json_t *fl_entries_write(const struct fl_entries *entries, bool steal);

/* Values seen through the schema */

enum fl_typed_kind {
    FL_TYPED_DEDUCED, /* nothing is known: objects are granular, lists atomic */
    FL_TYPED_NODE,    /* a node of the schema */
    FL_TYPED_ROOT,    /* likewise, with metadata */
    FL_TYPED_META,    /* ObjectMeta and what is in it */
    FL_TYPED_SCALAR,
    FL_TYPED_TEXT_MAP,
    FL_TYPED_TEXT_SET,
    FL_TYPED_OWNERS,
    FL_TYPED_ATOMIC,
};

struct fl_typed {
    enum fl_typed_kind kind;
    const struct fl_schema_node *node;
};

struct fl_typed fl_typed_root(const struct fl_schema *schema);
/* Each leaf and each item that the value mentions. */
struct fl_fields fl_typed_fields(struct fl_arena *arena, struct fl_typed type, const json_t *value);
/* What changed from `before` to `after`: nodes with marks ADDED, MODIFIED, REMOVED. */
struct fl_fields fl_typed_compare(struct fl_arena *arena, struct fl_typed type,
                                  const json_t *before, const json_t *after);
/* `live` with what `applied` says; new. */
json_t *fl_typed_merge(struct fl_arena *arena, struct fl_typed type, const json_t *live,
                       const json_t *applied);
/* Removes the paths of the set, and what lies below them, in place. An object or list left empty
 * becomes null unless `keep_empty`. */
void fl_typed_remove(struct fl_arena *arena, struct fl_typed type, json_t *value,
                     const struct fl_fields *set, bool keep_empty);
/* The set with the declared fields on the way to its paths. */
struct fl_fields fl_typed_with_named(struct fl_arena *arena, struct fl_typed type,
                                     const struct fl_fields *set);
/* A set that was written under an older schema: what became atomic is owned as a whole. */
struct fl_fields fl_typed_reconcile(struct fl_arena *arena, struct fl_typed type,
                                    const struct fl_fields *set);
/* INVALID where a list of the value cannot be addressed: a key missing, an item doubled. */
int fl_typed_check(struct fl_arena *arena, struct fl_typed type, const json_t *value,
                   struct fl_error *err);

#endif
