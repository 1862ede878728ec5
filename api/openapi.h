/* OpenAPI documents of what a server serves, from its resources and their schemas.
 *
 * Clients cannot apply, validate or explain without them: v3 (JSON, a document a group version) for
 * kubectl from 1.27, v2 (protobuf, gnostic's openapi.v2 Document, or Swagger JSON) for older ones
 * and for GitOps engines. Pure functions; what is returned is the caller's. Source: the OpenAPI
 * specifications 2.0 and 3.0, gnostic's openapiv2 message definitions, and Kubernetes'
 * x-kubernetes-* extensions. */
#ifndef FL_API_OPENAPI_H
#define FL_API_OPENAPI_H

#include "api/resource.h"
#include "lib/buf.h"
#include "lib/json.h"

struct fl_openapi_kind {
    const struct fl_resource *resource;
    const json_t *schema; /* its structural schema (openAPIV3Schema), or NULL */
};

/* The v3 document of one group version; all kinds given are of it. Paths of collection, item,
 * status, scale and finalize with their parameters and x-kubernetes-* marks; components of the
 * kinds, their lists, ObjectMeta, DeleteOptions, Status, Patch, Scale. */
json_t *fl_openapi_v3(const struct fl_openapi_kind *kinds, size_t count, const char *version);

/* The v2 document of everything, as Swagger JSON, and the same as protobuf. */
json_t *fl_openapi_v2(const struct fl_openapi_kind *kinds, size_t count, const char *version);
void fl_openapi_v2_protobuf(const json_t *document, struct fl_buf *buf);

#endif
