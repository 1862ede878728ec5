/* Field ownership and server-side apply: metadata.managedFields as Kubernetes keeps it.
 *
 * Semantics of sigs.k8s.io/structured-merge-diff v4 and of the API server around it; the facts and
 * the public documentation of server-side apply are the source. Pure functions on JSON values.
 *
 * managedFields entries: manager, operation Apply|Update, apiVersion, time, fieldsType FieldsV1,
 * fieldsV1, subresource. Not owned, ever: apiVersion, kind, metadata itself, metadata.{name,
 * namespace, creationTimestamp, selfLink, uid, generation, managedFields, resourceVersion,
 * deletionTimestamp, deletionGracePeriodSeconds}. At most 10 Update entries (the oldest merge into
 * "ancient-changes"); sorted Apply before Update, then time, then manager. */
#ifndef FL_API_MANAGED_FIELDS_H
#define FL_API_MANAGED_FIELDS_H

#include "api/schema.h"
#include "api/status.h"
#include "lib/error.h"
#include "lib/json.h"

#include <stdbool.h>

struct fl_managed_write {
    const struct fl_schema *schema; /* of the object's kind; may be NULL: all deduced */
    const char *manager;            /* who writes */
    const char *api_version;        /* "flops.dev/v1alpha1" */
    const char *subresource;        /* "", "status", "scale" */
    const char *time;               /* RFC 3339, for entries that change */
    bool has_status;                /* the kind has a status subresource: then a write owns fields
                                       of status through it only, and nothing but status */
};

/* After a create (live NULL), update or patch: sets `object`'s managedFields from `live`'s and what
 * changed. Client-sent managedFields in `object` are taken as the new base (they may be a reset:
 * [] or [{}]), those of `live` where `object` has none. An entry keeps its time while its set
 * stays. */
int fl_managed_update(const struct fl_managed_write *write, const json_t *live, json_t *object,
                      struct fl_error *err);

struct fl_managed_conflict {
    const char *manager, *api_version; /* arena */
    const char *time, *subresource, *operation;
    const char *path; /* ".spec.rounds" */
};

/* Apply: merges `applied` (the configuration sent, without managedFields) into `live` (NULL where
 * it does not exist yet) for the manager; fields it owned before and no longer lists are removed if
 * nobody else owns them. CONFLICT, with the conflicts listed in the arena, where another manager
 * owns a field with a different value and `force` is false. *ret_object is new and the caller's,
 * with its managedFields set; where nothing changed it equals `live` (times too). */
int fl_managed_apply(const struct fl_managed_write *write, const json_t *live,
                     const json_t *applied, bool force, struct fl_arena *arena, json_t **ret_object,
                     struct fl_managed_conflict **ret_conflicts, size_t *ret_conflict_count,
                     struct fl_error *err);

/* The message and causes of a conflict, as the API server words them: `Apply failed with 1
 * conflict: conflict with "m" using v1: .spec.x`. */
int fl_managed_conflict_error(const struct fl_managed_conflict *conflicts, size_t count,
                              struct fl_field_errors *causes, struct fl_error *err);

/* Whether managedFields sent by a client can be read; BAD_REQUEST/INVALID where not. */
int fl_managed_validate(const json_t *managed_fields, struct fl_error *err);

#endif
