/* A resource: one version of one kind that the server serves, with all a request needs to know.
 *
 * Made from a CustomResourceDefinition or from the table of built-in kinds; immutable, reference
 * counted, shared by threads. */
#ifndef FL_API_RESOURCE_H
#define FL_API_RESOURCE_H

#include "api/meta.h"
#include "api/patch.h"
#include "api/schema.h"
#include "api/status.h"
#include "lib/error.h"
#include "lib/json.h"

#include <stdbool.h>
#include <stddef.h>

enum fl_verb {
    FL_VERB_GET,
    FL_VERB_LIST,
    FL_VERB_WATCH,
    FL_VERB_CREATE,
    FL_VERB_UPDATE,
    FL_VERB_PATCH,
    FL_VERB_DELETE,
    FL_VERB_DELETE_COLLECTION,
    FL_VERB_COUNT,
};
const char *fl_verb_name(enum fl_verb verb); /* "deletecollection" */

#define FL_RESOURCE_WORDS_MAX 16

struct fl_words {
    const char *items[FL_RESOURCE_WORDS_MAX];
    size_t count;
};

struct fl_resource {
    int refs;
    struct fl_arena *arena; /* owns the strings */
    const char *group, *version;
    const char *api_version; /* "v1", "flops.dev/v1alpha1" */
    const char *plural, *singular, *kind, *list_kind;
    const char *storage; /* the store's name of it: "flprojects.flops.dev", "secrets" */
    struct fl_words short_names, categories;
    struct fl_traits traits;
    bool builtin;
    bool converted; /* stored in another form: events.k8s.io shows the core group's events */
    bool has_scale, has_finalize;
    bool deprecated;
    const char *deprecation_warning;
    unsigned verbs;           /* bits 1 << enum fl_verb */
    struct fl_schema *schema; /* NULL: anything goes */
    const char *scale_spec_path, *scale_status_path, *scale_selector_path; /* ".spec.replicas" */
    struct fl_words selectable;    /* fields that selectors may name, besides metadata's */
    const json_t *printer_columns; /* additionalPrinterColumns, or NULL */
    const struct fl_strategic_list *strategic_lists; /* built-in kinds only */
    size_t strategic_list_count;
};

/* From one version of a (validated, defaulted) CustomResourceDefinition. */
int fl_resource_from_crd(const json_t *crd, const json_t *version,
                         struct fl_resource **ret_resource, struct fl_error *err);
/* From an entry of the table of built-in kinds (api/builtin). */
int fl_resource_from_builtin(const json_t *entry, struct fl_resource **ret_resource,
                             struct fl_error *err);
struct fl_resource *fl_resource_ref(struct fl_resource *resource);
void fl_resource_unref(struct fl_resource *resource);
FL_DEFINE_CLEANUP(struct fl_resource, fl_resource_unref)

static inline bool fl_resource_allows(const struct fl_resource *resource, enum fl_verb verb)
{
    return resource->verbs & (1u << verb);
}

/* "flprojects.flops.dev", as messages name it; "secrets" for core resources. */
static inline const char *fl_resource_display(const struct fl_resource *resource)
{
    return resource->storage;
}

/* CONFLICT, in Kubernetes' words: somebody wrote `name` since the caller read it. */
int fl_resource_stale(const struct fl_resource *resource, const char *name, struct fl_error *err);

/* Objects of a converted resource, from and to the form they are stored in; in place. */
void fl_resource_from_stored(const struct fl_resource *resource, json_t *object);
void fl_resource_to_stored(const struct fl_resource *resource, json_t *object);

/* All entries of the built-in table, in one array; the caller owns it. */
int fl_builtin_load(json_t **ret_entries, struct fl_error *err);

#endif
