/* Questions about identity and rights: answered at once, never stored. */
#include "controller/apiserver/internal.h"

void fl_handle_review(struct fl_request *request)
{
    const struct fl_resource *resource = request->resource;
    struct fl_error err = {0};
    FL_JSON review = NULL;
    int r = fl_request_body(request, NULL, NULL, &review, &err);

    if (r == 0 && !json_is_object(review))
        r = fl_error_set(&err, FL_E_BAD_REQUEST, "a %s must be an object", resource->kind);
    if (r == 0)
        r = fl_auth_review(request->server->auth, request->user, resource->kind, review, &err);
    if (r < 0) {
        fl_respond_failure(request, &err, NULL);
        return;
    }
    request->is_write = false;
    fl_json_set_str(review, "apiVersion", resource->api_version);
    fl_json_set_str(review, "kind", resource->kind);
    if (!json_object_get(review, "metadata"))
        (void)json_object_set_new(review, "metadata", json_pack("{s:n}", "creationTimestamp"));
    fl_respond_value(request, 201, review);
}
