/* The two documents: their frames around paths and schemas. */
#include "api/openapi_internal.h"

#include <assert.h>

static json_t *bearer_token(void)
{
    return json_pack("{s:{s:s, s:s, s:s, s:s}}", "BearerToken", "type", "apiKey", "in", "header",
                     "name", "authorization", "description",
                     "Bearer token, or a client certificate");
}

json_t *fl_openapi_v3(const struct fl_openapi_kind *kinds, size_t count, const char *version)
{
    assert((kinds || count == 0) && version);

    return json_pack("{s:s, s:{s:s, s:s}, s:o, s:{s:o, s:o}}", "openapi", "3.0.0", "info", "title",
                     "FLOps", "version", version, "paths",
                     fl_openapi_paths(FL_OPENAPI_V3, kinds, count), "components", "schemas",
                     fl_openapi_definitions(FL_OPENAPI_V3, kinds, count), "securitySchemes",
                     bearer_token());
}

json_t *fl_openapi_v2(const struct fl_openapi_kind *kinds, size_t count, const char *version)
{
    assert((kinds || count == 0) && version);

    return json_pack("{s:s, s:{s:s, s:s}, s:o, s:o, s:o, s:[{s:[]}]}", "swagger", "2.0", "info",
                     "title", "FLOps", "version", version, "paths",
                     fl_openapi_paths(FL_OPENAPI_V2, kinds, count), "definitions",
                     fl_openapi_definitions(FL_OPENAPI_V2, kinds, count), "securityDefinitions",
                     bearer_token(), "security", "BearerToken");
}
