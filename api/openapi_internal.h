/* What the files of the OpenAPI module share. Both versions are made by the same walk; they differ
 * in how an operation, a parameter and a reference are written, and in what a schema may say. */
#ifndef FL_API_OPENAPI_INTERNAL_H
#define FL_API_OPENAPI_INTERNAL_H

#include "api/openapi.h"

enum fl_openapi_dialect { FL_OPENAPI_V2, FL_OPENAPI_V3 };

#define FL_OPENAPI_META_V1 "io.k8s.apimachinery.pkg.apis.meta.v1."
#define FL_OPENAPI_SCALE   "io.k8s.api.autoscaling.v1.Scale"

/* A definition's name as on a cluster: "dev.flops.v1alpha1.FLProject" for custom resources,
 * "io.k8s.api.core.v1.Namespace" for built-in kinds. `kind` is the resource's kind or list kind. */
char *fl_openapi_definition_name(struct fl_arena *arena, const struct fl_resource *resource,
                                 const char *kind);

/* {"$ref": …} to a definition. The caller owns it. */
json_t *fl_openapi_ref(enum fl_openapi_dialect dialect, const char *definition);

/* {group, version, kind} */
json_t *fl_openapi_gvk(const struct fl_resource *resource, const char *kind);

/* The schemas of all kinds, their lists and what they refer to, by definition name. */
json_t *fl_openapi_definitions(enum fl_openapi_dialect dialect, const struct fl_openapi_kind *kinds,
                               size_t count);

json_t *fl_openapi_paths(enum fl_openapi_dialect dialect, const struct fl_openapi_kind *kinds,
                         size_t count);

#endif
