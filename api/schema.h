/* Structural schemas: what an object may look like, compiled once from a CRD's OpenAPI v3 schema.
 *
 * A compiled schema is immutable and shared by threads; it owns copies of all it needs. It prunes,
 * defaults and validates JSON values, and tells server-side apply how lists and maps merge.
 * Bounded: size and depth of a schema, regular expressions (PCRE2 with match limits; what RE2 does
 * not know is refused), cost of rules.
 *
 * Order for a request, as in Kubernetes: decode → prune → default → validate (schema, list types,
 * rules). */
#ifndef FL_API_SCHEMA_H
#define FL_API_SCHEMA_H

#include "api/status.h"
#include "lib/error.h"
#include "lib/json.h"

#include <stdbool.h>
#include <stddef.h>

struct fl_schema;

/* Compiles `openapi` (the value of openAPIV3Schema). What breaks the rules of structural schemas
 * is added to `errors` with paths below `path` ("spec.versions[0].schema.openAPIV3Schema"), and
 * INVALID is returned. The root gets apiVersion, kind and metadata (ObjectMeta) by itself. */
int fl_schema_compile(const json_t *openapi, const char *path, struct fl_schema **ret_schema,
                      struct fl_field_errors *errors, struct fl_error *err);
struct fl_schema *fl_schema_ref(struct fl_schema *schema);
void fl_schema_unref(struct fl_schema *schema);
FL_DEFINE_CLEANUP(struct fl_schema, fl_schema_unref)

/* Removes fields that the schema does not know, in place; `unknown` (may be NULL) gets the path of
 * each removed field ("spec.roundz"), in document order. */
typedef void fl_schema_path_fn(void *user, const char *path);
void fl_schema_prune(const struct fl_schema *schema, json_t *object, fl_schema_path_fn *unknown,
                     void *user);

/* Fills in defaults, in place. A null where a default exists and the field is not nullable is
 * dropped first. */
void fl_schema_default(const struct fl_schema *schema, json_t *object);

/* Validates; `old` is the stored object of an update (ratcheting: parts that did not change are not
 * complained about again; transition rules see it as oldSelf) or NULL. Integral reals count as
 * integers. Adds to `errors`; nothing added means valid. metadata is checked elsewhere. */
void fl_schema_validate(const struct fl_schema *schema, const json_t *object, const json_t *old,
                        struct fl_field_errors *errors);

/* Normalises numbers in place, as Go's decoder does for custom resources: an integral real in an
 * integer field (or a field without a type) becomes an integer. */
void fl_schema_normalize(const struct fl_schema *schema, json_t *object);

/* The nodes, for server-side apply, tables and explain. A node lives as long as its schema; every
 * accessor accepts NULL (a value the schema knows nothing of: deduced). */
struct fl_schema_node;
enum fl_schema_type {
    FL_SCHEMA_ANY,
    FL_SCHEMA_OBJECT,
    FL_SCHEMA_ARRAY,
    FL_SCHEMA_STRING,
    FL_SCHEMA_INTEGER,
    FL_SCHEMA_NUMBER,
    FL_SCHEMA_BOOLEAN,
    FL_SCHEMA_INT_OR_STRING
};
enum fl_list_type { FL_LIST_ATOMIC, FL_LIST_SET, FL_LIST_MAP };

const struct fl_schema_node *fl_schema_root(const struct fl_schema *schema);
enum fl_schema_type fl_schema_node_type(const struct fl_schema_node *node);
/* The node of an object's member: a property, or additionalProperties; NULL where unknown. */
const struct fl_schema_node *fl_schema_node_member(const struct fl_schema_node *node,
                                                   const char *key);
/* An object whose fields are its properties: no map, and no embedded resource. */
bool fl_schema_node_is_struct(const struct fl_schema_node *node);
const struct fl_schema_node *fl_schema_node_items(const struct fl_schema_node *node);
enum fl_list_type fl_schema_node_list_type(const struct fl_schema_node *node);
size_t fl_schema_node_list_keys(const struct fl_schema_node *node, const char *const **ret_keys);
/* x-kubernetes-map-type: atomic */
bool fl_schema_node_is_atomic(const struct fl_schema_node *node);
bool fl_schema_node_preserves_unknown(const struct fl_schema_node *node);
const json_t *fl_schema_node_default(const struct fl_schema_node *node); /* NULL if none */
const char *fl_schema_node_format(const struct fl_schema_node *node);    /* NULL if none */

#endif
