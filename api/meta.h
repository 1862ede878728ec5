/* The rules every object's metadata and life follow, whatever its kind: names, labels, stamps on
 * create, what an update may touch, generation, finalizers, deletion.
 *
 * Pure functions on JSON values; time and chance come from env. Source: the Kubernetes API
 * conventions and the measured behaviour of kube-apiserver. */
#ifndef FL_API_META_H
#define FL_API_META_H

#include "api/status.h"
#include "lib/env.h"
#include "lib/error.h"
#include "lib/json.h"

#include <stdbool.h>

/* What of the rules depends on the kind. */
struct fl_traits {
    bool namespaced;
    bool has_status;     /* a status subresource: the main endpoint ignores status */
    bool has_generation; /* custom resources and a few built-in kinds */
    bool namespace_like; /* names are DNS labels, and an empty spec.finalizers completes deletion */
    bool loose_names;    /* names are path segments (RBAC objects) */
};

/* RFC 1123 names. `*ret_why` says what is wrong, in Kubernetes' words. */
bool fl_name_is_subdomain(const char *name, const char **ret_why);
bool fl_name_is_label(const char *name, const char **ret_why);
bool fl_name_is_path_segment(const char *name, const char **ret_why);
bool fl_name_is_qualified(const char *name, const char **ret_why); /* label and annotation keys */
bool fl_name_is_label_value(const char *value, const char **ret_why);

/* Types and contents of metadata as a client sent it: every member has its type, labels and
 * annotations are valid and within 256 KiB, owner references are whole, finalizers are names.
 * Members that metadata does not have are removed and told to `unknown` (may be NULL). */
void fl_meta_validate(const struct fl_traits *traits, json_t *object,
                      void (*unknown)(void *user, const char *path), void *user,
                      struct fl_field_errors *errors);

/* Create: name from generateName where there is none (five characters), namespace set, uid,
 * creationTimestamp, generation 1; what only the server sets is removed; status too, where it is a
 * subresource. */
void fl_meta_prepare_create(const struct fl_env *env, const struct fl_traits *traits,
                            const char *ns, json_t *object);

enum fl_part { FL_PART_MAIN, FL_PART_STATUS };

/* Update: carries over from `live` what a client cannot change and what this part of the object
 * does not cover, and refuses what must not change (into `errors`). CONFLICT where the object names
 * another uid. */
int fl_meta_prepare_update(const struct fl_traits *traits, enum fl_part part, const json_t *live,
                           json_t *object, struct fl_field_errors *errors, struct fl_error *err);

enum fl_outcome {
    FL_OUTCOME_UNCHANGED, /* nothing to write */
    FL_OUTCOME_CHANGED,
    FL_OUTCOME_REMOVED, /* it was being deleted and nothing holds it any more */
};

/* The last step, once managedFields are right: sets the generation and says what to do. */
enum fl_outcome fl_meta_finish_update(const struct fl_traits *traits, const json_t *live,
                                      json_t *object);

enum fl_propagation {
    FL_PROPAGATION_DEFAULT,
    FL_PROPAGATION_BACKGROUND,
    FL_PROPAGATION_FOREGROUND,
    FL_PROPAGATION_ORPHAN,
};

/* Delete: `*ret_object` (the caller's) is the live object as it must now be: for CHANGED with
 * deletionTimestamp and the propagation's finalizers, for REMOVED its final state. UNCHANGED where
 * it is being deleted already. */
enum fl_outcome fl_meta_prepare_delete(const struct fl_env *env, const struct fl_traits *traits,
                                       enum fl_propagation propagation, const json_t *live,
                                       json_t **ret_object);

#define FL_FINALIZER_FOREGROUND "foregroundDeletion"
#define FL_FINALIZER_ORPHAN     "orphan"

bool fl_meta_has_finalizer(const json_t *object, const char *finalizer);
bool fl_meta_is_deleting(const json_t *object);

#endif
