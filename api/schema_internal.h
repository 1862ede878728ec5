/* What the files of the schema engine share: the compiled tree, paths, and the steps of compiling
 * and validating. For api/schema*.c and api/crd.c only.
 *
 * A node is one place in a schema. Structural nodes carry a type and say which fields exist; the
 * branches of allOf, anyOf, oneOf and not are nodes too, that only check values. All of a tree is
 * in one arena and never changes after compilation. */
#ifndef FL_API_SCHEMA_INTERNAL_H
#define FL_API_SCHEMA_INTERNAL_H

#include "api/schema.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fl_cel;

/* Paths: a chain of frames on the stack, written out only when an error needs the text. */
struct fl_schema_path {
    const struct fl_schema_path *parent; /* NULL: the beginning */
    enum { FL_PATH_ROOT, FL_PATH_FIELD, FL_PATH_KEY, FL_PATH_INDEX } kind;
    const char *text; /* of a root (may be ""), a field or a key */
    size_t index;
};
char *fl_schema_path_text(struct fl_arena *arena, const struct fl_schema_path *path);
#define FL_PATH_CHILD(up, name)  (&(struct fl_schema_path){(up), FL_PATH_FIELD, (name), 0})
#define FL_PATH_AT_KEY(up, name) (&(struct fl_schema_path){(up), FL_PATH_KEY, (name), 0})
#define FL_PATH_AT(up, i)        (&(struct fl_schema_path){(up), FL_PATH_INDEX, NULL, (i)})

void fl_schema_add(struct fl_field_errors *errors, enum fl_field_error_type type,
                   const struct fl_schema_path *path, const json_t *value, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* Formats that Kubernetes checks; all others are ignored. */
enum fl_schema_format { FL_FORMAT_NONE, FL_FORMAT_COUNT_ = 32 };
enum fl_schema_format fl_schema_format_find(const char *name);
bool fl_schema_format_matches(enum fl_schema_format format, const char *text, size_t len);

/* Regular expressions: RE2's syntax, matched by PCRE2. */
struct fl_schema_pattern;
#define FL_SCHEMA_PATTERN_MAX ((size_t)16 * 1024)
/* NULL with the reason, worded as Go's regexp/syntax does, in `*ret_problem` (arena). */
struct fl_schema_pattern *fl_schema_pattern_compile(struct fl_arena *arena, const char *pattern,
                                                    const char **ret_problem);
/* 1 matches, 0 does not, -1 took more steps than allowed. */
/* The leftmost match at or behind byte `from`: 1 and its place, 0 for none, < 0 for too much work.
 */
int fl_schema_pattern_find(const struct fl_schema_pattern *pattern, const char *text, size_t len,
                           size_t from, size_t *ret_start, size_t *ret_end);
int fl_schema_pattern_match(const struct fl_schema_pattern *pattern, const char *text, size_t len);

struct fl_schema_property {
    const char *key;
    uint32_t key_len;
    bool required;
    struct fl_schema_node *node;
};

enum fl_schema_additional {
    FL_ADDITIONAL_UNSET,     /* unknown fields are pruned */
    FL_ADDITIONAL_FORBIDDEN, /* additionalProperties: false */
    FL_ADDITIONAL_ANY,
    FL_ADDITIONAL_NODE,
};

struct fl_schema_nodes {
    struct fl_schema_node **items;
    size_t count;
};

struct fl_schema_rule {
    const char *rule, *message, *field_path;
    enum fl_field_error_type reason;
    struct fl_cel *program;
    struct fl_cel *message_program; /* NULL: none */
    bool uses_old, optional_old;
};

struct fl_schema_node {
    enum fl_schema_type type;
    const char *type_name; /* as errors name it; NULL: none */
    enum fl_list_type list_type;
    bool list_type_given;
    bool nullable, preserve_unknown, embedded, map_atomic, is_metadata;
    /* Whether this node or one below it … */
    bool below_defaults, below_lists, below_embedded, below_rules;

    struct fl_schema_property *properties;
    uint32_t property_count, hash_mask;
    uint16_t *hash; /* index + 1 into properties, 0: free */
    enum fl_schema_additional additional;
    struct fl_schema_node *additional_node;
    struct fl_schema_node *items;
    const char *const *list_keys;
    size_t list_key_count;

    json_t *fallback;                      /* the default; frozen, deep-copied on use */
    struct fl_schema_property **defaulted; /* properties with a default */
    size_t defaulted_count;

    /* Value validation. */
    const char **required; /* those that are no property of this node */
    size_t required_count, required_properties;
    enum fl_schema_format format;
    const char *format_name;
    bool has_min, has_max, exclusive_min, exclusive_max, has_multiple;
    double min, max, multiple;
    int64_t min_length, max_length, min_items, max_items, min_properties, max_properties; /* -1 */
    const char *pattern_text;
    struct fl_schema_pattern *pattern;
    json_t *enumeration; /* array or NULL */
    struct fl_schema_nodes all_of, any_of, one_of;
    struct fl_schema_node *none_of; /* not */

    struct fl_schema_rule *rules;
    size_t rule_count;
};

struct fl_schema {
    int refs; /* atomic */
    struct fl_arena *arena;
    struct fl_schema_node *root;
    struct fl_schema_node *object_meta; /* the fields that metadata has */
    struct fl_schema_node *metadata;    /* what the schema itself asks of metadata; NULL: nothing */
};

const struct fl_schema_property *fl_schema_find_property(const struct fl_schema_node *node,
                                                         const char *key, size_t len);

void fl_schema_index_properties(struct fl_arena *arena, struct fl_schema_node *node);

/* Compiling. */
#define FL_SCHEMA_DEPTH_MAX 64u
#define FL_SCHEMA_NODES_MAX 20000u

struct fl_schema_builder {
    struct fl_schema *schema;
    struct fl_field_errors *errors;
    const struct fl_schema_path *uncorrelated; /* below this place there is no oldSelf; NULL: is */
};
/* Compiles x-kubernetes-validations. */
void fl_schema_build_rules(struct fl_schema_builder *builder, struct fl_schema_node *node,
                           const json_t *openapi, const struct fl_schema_path *path);

bool fl_schema_check_structural(const json_t *openapi, const struct fl_schema_path *path,
                                struct fl_field_errors *errors);
struct fl_schema_node *fl_schema_build(struct fl_schema *schema, const json_t *openapi,
                                       const struct fl_schema_path *path,
                                       struct fl_field_errors *errors);
/* The part of a document that a field path (".spec.name", "['a b']" where brackets may be used)
 * leads to; NULL where it leads nowhere. `ret_text` (may be NULL) gets it as errors write it. */
const json_t *fl_schema_find_field(const json_t *schema, const char *path, bool brackets,
                                   struct fl_buf *ret_text);
void fl_schema_check_defaults(const struct fl_schema *schema, const struct fl_schema_path *path,
                              struct fl_field_errors *errors);
/* Prunes a part of an object; `metadata` is the schema's ObjectMeta. */
void fl_schema_prune_part(const struct fl_schema_node *node, json_t *value, bool is_root,
                          const struct fl_schema_node *metadata, fl_schema_path_fn *unknown,
                          void *user);

/* Validating. */
void fl_schema_check_value(const struct fl_schema *schema, const struct fl_schema_node *node,
                           const json_t *value, const json_t *old,
                           const struct fl_schema_path *path, struct fl_field_errors *errors);
void fl_schema_check_lists(const struct fl_schema_node *node, const json_t *value,
                           const struct fl_schema_path *path, struct fl_field_errors *errors);
void fl_schema_check_embedded(const struct fl_schema_node *node, const json_t *value,
                              const struct fl_schema_path *path, struct fl_field_errors *errors);
void fl_schema_check_rules(const struct fl_schema_node *node, const json_t *value,
                           const json_t *old, struct fl_field_errors *errors);
bool fl_schema_equal(const struct fl_schema_node *node, const json_t *value, const json_t *old);

/* Finds the elements of a map list's old value by their keys. */
struct fl_schema_old_list {
    const struct fl_schema_node *list;
    const json_t *old;
    struct fl_schema_old_entry *entries; /* by hash; made for long lists when first needed */
};
/* `old` may be NULL or no list: then nothing is found. */
struct fl_schema_old_list fl_schema_old_list(const struct fl_schema_node *list, const json_t *old);
const json_t *fl_schema_old_element(struct fl_schema_old_list *list, const json_t *element,
                                    size_t index);
void fl_schema_old_list_finish(struct fl_schema_old_list *list);

#endif
