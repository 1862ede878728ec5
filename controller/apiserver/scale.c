#include "controller/apiserver/scale.h"

#include "controller/apiserver/options.h"
#include "lib/str.h"

/* ".spec.replicas" without the dot, as fl_json_path takes it. */
static const char *bare(const char *path)
{
    return path && *path == '.' ? path + 1 : path;
}

json_t *fl_scale_from_object(const struct fl_resource *resource, const json_t *object)
{
    static const char *const kept[] = {"name", "namespace", "uid", "resourceVersion",
                                       "creationTimestamp"};
    const json_t *meta = json_object_get(object, "metadata");
    json_t *scale_meta = json_object(), *status = json_object(), *spec = json_object();
    const char *selector;

    for (size_t i = 0; i < FL_COUNT_OF(kept); i++)
        fl_json_set_str(scale_meta, kept[i], fl_json_str(meta, kept[i]));
    (void)json_object_set_new(
        spec, "replicas", json_integer(fl_json_int(object, bare(resource->scale_spec_path), 0)));
    (void)json_object_set_new(
        status, "replicas",
        json_integer(fl_json_int(object, bare(resource->scale_status_path), 0)));
    selector = resource->scale_selector_path
                   ? fl_json_str(object, bare(resource->scale_selector_path))
                   : NULL;
    fl_json_set_str(status, "selector", selector);
    return json_pack("{s:s, s:s, s:o, s:o, s:o}", "kind", "Scale", "apiVersion", "autoscaling/v1",
                     "metadata", scale_meta, "spec", spec, "status", status);
}

/* Sets an integer at a path, making objects on the way. */
static void set_at(json_t *object, const char *path, int64_t value)
{
    const char *dot;
    char key[256];

    while ((dot = strchr(path, '.')) && (size_t)(dot - path) < sizeof(key)) {
        memcpy(key, path, (size_t)(dot - path));
        key[dot - path] = '\0';
        object = fl_json_ensure_object(object, key);
        path = dot + 1;
    }
    (void)json_object_set_new(object, path, json_integer(value));
}

int fl_scale_into_object(const struct fl_resource *resource, const json_t *scale,
                         const json_t *object, json_t **ret_object, struct fl_field_errors *errors,
                         struct fl_error *err)
{
    const char *revision = fl_json_str(scale, "metadata.resourceVersion");
    const char *name = fl_json_str(object, "metadata.name");
    const json_t *replicas = fl_json_path(scale, "spec.replicas");
    int64_t wanted = fl_json_int(scale, "spec.replicas", 0);
    uint64_t number;

    if (!json_is_object(scale))
        return fl_error_set(err, FL_E_BAD_REQUEST, "a Scale must be an object");
    if (fl_option_revision("metadata.resourceVersion", revision, &number, err) < 0)
        return FL_E_BAD_REQUEST;
    if (revision && *revision &&
        !fl_streq(revision, fl_json_str(object, "metadata.resourceVersion")))
        return fl_resource_stale(resource, name, err);
    if (replicas && !json_is_integer(replicas))
        return fl_error_set(err, FL_E_BAD_REQUEST, "spec.replicas of a Scale must be an integer");
    if (wanted < 0)
        fl_field_error_add(errors, FL_FIELD_INVALID, "spec.replicas", replicas,
                           "must be greater than or equal to 0");
    *ret_object = json_deep_copy(object);
    set_at(*ret_object, bare(resource->scale_spec_path), wanted);
    return 0;
}
