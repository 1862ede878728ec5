/* CustomResourceDefinitions (apiextensions.k8s.io/v1): what they must be, and what their status
 * says.
 *
 * Pure functions on JSON objects. The order for a request: prune (unknown fields), default,
 * validate; then, once the server has looked at the names that others use, fl_crd_set_status.
 * Conversion between versions rewrites apiVersion and nothing else: strategy None. */
#ifndef FL_API_CRD_H
#define FL_API_CRD_H

#include "api/schema.h"
#include "api/status.h"
#include "lib/json.h"

#include <stdbool.h>

/* Removes the fields that a CustomResourceDefinition does not have, in place; keywords of schemas
 * too. `unknown` (may be NULL) gets the path of each. */
void fl_crd_prune(json_t *crd, fl_schema_path_fn *unknown, void *user);

/* names.singular, names.listKind, conversion, and the storage version in status.storedVersions; on
 * updates too. */
void fl_crd_default(json_t *crd);

/* Adds what is wrong to `errors`, in the words of the real server; nothing added means valid. `old`
 * is the stored object of an update, or NULL. Schemas are compiled and thrown away. */
void fl_crd_validate(const json_t *crd, const json_t *old, struct fl_field_errors *errors);

/* Sets conditions, acceptedNames and storedVersions: `accepted` says whether the names are free
 * (where not, `reason` and `message` tell which is taken: "PluralConflict", …; else both may be
 * NULL). An object once established stays so. `now` is RFC 3339; a condition's transition time
 * moves only when its status does. */
void fl_crd_set_status(json_t *crd, bool accepted, const char *reason, const char *message,
                       const char *now);
bool fl_crd_is_established(const json_t *crd);

/* A version of spec.versions by its name; NULL where there is none. Borrowed. */
const json_t *fl_crd_version(const json_t *crd, const char *name);
const json_t *fl_crd_storage_version(const json_t *crd);
/* The schema of a version, compiled; the caller unrefs. INVALID where it cannot be. */
int fl_crd_compile_schema(const json_t *version, struct fl_schema **ret_schema,
                          struct fl_error *err);

#endif
