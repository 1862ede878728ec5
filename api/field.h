/* Typed views of objects: descriptor tables say where each field of a kind's JSON lives in a C
 * struct, and one engine walks them.
 *
 * Structs and tables are generated from crds/ (api/gen). A decoded object lives in the arena it was
 * decoded into, texts and lists included; free-form fields point into the JSON, which the arena
 * keeps and nobody may change from then on. Fields the tables do not know are ignored, so nothing
 * may be written back whole: what this version does not know must survive.
 *
 * Presence: a text is NULL, an enum UNSET (0), a list or map has items == NULL where it is absent;
 * numbers, booleans and objects that may be absent have a flag `has_…`. Decoding fills in defaults.
 *
 * Patterns and rules across fields are the schema engine's (api/schema.h), which sees an object
 * first. Here types, bounds and required fields are checked once more, since a struct is trusted by
 * all that comes after. */
#ifndef FL_API_FIELD_H
#define FL_API_FIELD_H

#include "lib/buf.h"
#include "lib/error.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Types of fields, with their C types. */
enum fl_field_type {
    FL_F_STRING = 1, /* const char * */
    FL_F_DECIMAL,    /* const char *: "0.1", exactly as written */
    FL_F_DURATION,   /* const char *: "1m30s"; fl_duration_parse */
    FL_F_QUANTITY,   /* const char *: "500m", "256Mi"; a number in JSON becomes text */
    FL_F_TIME,       /* const char *: RFC 3339 */
    FL_F_INT,        /* int64_t */
    FL_F_BOOL,       /* bool */
    FL_F_ENUM,       /* an enum whose value n is values[n - 1], 0 is unset */
    FL_F_OBJECT,     /* an embedded struct */
    FL_F_LIST,       /* struct …_list of `element` */
    FL_F_MAP,        /* struct fl_string_map */
    FL_F_JSON,       /* const json_t * */
};

struct fl_field {
    const char *name;
    enum fl_field_type type;
    size_t offset;
    size_t has_offset; /* of the flag, 0 where there is none */
    bool required;
    int64_t min, max;          /* value, characters or items; max 0: unbounded */
    const char *def;           /* default: plain text for scalars, JSON for the rest */
    const char *const *values; /* of an enum, ended by NULL */
    enum fl_field_type element;
    const struct fl_field
        *fields; /* of an object or of a list's objects, ended by one without a name */
    size_t size; /* of that struct */
};

struct fl_string_list {
    const char **items;
    size_t count;
};

struct fl_int_list {
    int64_t *items;
    size_t count;
};

struct fl_string_pair {
    const char *key, *value;
};

struct fl_string_map {
    struct fl_string_pair *items;
    size_t count;
};

const char *fl_string_map_get(const struct fl_string_map *map, const char *key); /* or NULL */

/* What typed code needs of metadata. First member of each kind's struct. */
struct fl_object_meta {
    const char *name, *namespace, *uid, *resource_version;
    const char *deletion_timestamp; /* NULL unless it is being deleted */
    int64_t generation;
    const json_t *labels, *annotations; /* objects of texts, or NULL */
};

struct fl_kind_type {
    const char *group, *version, *kind, *list_kind, *plural, *singular;
    const char *const *short_names; /* ended by NULL */
    bool namespaced;
    const struct fl_field *fields;
    size_t size;
};

/* BAD_REQUEST where it is another kind, INVALID with the field's path where it breaks the table:
 * "spec.training.rounds: 0 is less than 1". */
int fl_object_decode(const struct fl_kind_type *type, const json_t *object, struct fl_arena *arena,
                     void **ret_object, struct fl_error *err);
/* A new object with all defaults, and nothing else. */
void *fl_object_new(const struct fl_kind_type *type, struct fl_arena *arena);
json_t *fl_object_encode(const struct fl_kind_type *type, const void *object); /* the caller's */
void *fl_object_clone(const struct fl_kind_type *type, const void *object, struct fl_arena *arena);
bool fl_object_equal(const struct fl_kind_type *type, const void *a, const void *b);
void fl_object_print(const struct fl_kind_type *type, const void *object,
                     struct fl_buf *buf); /* YAML */

/* The same on one table, for parts of an object. `path` stands before the names in errors ("" or
 * "spec"). Decoding begins by zeroing the struct of `size` bytes. */
int fl_fields_decode(const struct fl_field *fields, size_t size, const json_t *json,
                     const char *path, struct fl_arena *arena, void *ret_struct,
                     struct fl_error *err);
void fl_fields_default(const struct fl_field *fields, size_t size, struct fl_arena *arena,
                       void *ret_struct);
json_t *fl_fields_encode(const struct fl_field *fields, const void *from);
void fl_fields_clone(const struct fl_field *fields, size_t size, const void *from,
                     struct fl_arena *arena, void *ret_struct);
bool fl_fields_equal(const struct fl_field *fields, const void *a, const void *b);

/* "1h30m", "1.5s", "250ms": milliseconds. False where it is no duration, or longer than INT64. */
bool fl_duration_parse(const char *text, int64_t *ret_ms);

#endif
