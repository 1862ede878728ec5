/* docs/openapi/flops.dev_v1alpha1.json: the group as an OpenAPI v3 document, for editors, clients
 * and documentation tools. The server makes its own, richer one from the definitions it has. */
#include "hack/crdgen/crdgen.h"

#define OBJECT_META "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
#define LIST_META   "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"

static json_t *reference(const char *name)
{
    return json_pack("{s:o}", "$ref", json_sprintf("#/components/schemas/%s", name));
}

static char *schema_name(const struct model *model, const struct kind *kind, const char *suffix)
{
    return fl_arena_printf(model->arena, "dev.flops.%s.%s%s", kind->version_name, kind->name,
                           suffix);
}

static json_t *group_version_kind(const struct kind *kind, const char *name)
{
    return json_pack("[{s:s, s:s, s:s}]", "group", kind->group, "kind", name, "version",
                     kind->version_name);
}

static json_t *kind_schema(const struct kind *kind)
{
    json_t *schema = json_deep_copy(kind->schema);

    (void)json_object_set_new(json_object_get(schema, "properties"), "metadata",
                              reference(OBJECT_META));
    (void)json_object_set_new(schema, "x-kubernetes-group-version-kind",
                              group_version_kind(kind, kind->name));
    return schema;
}

static json_t *list_schema(const struct model *model, const struct kind *kind)
{
    return json_pack("{s:o, s:s, s:[s], s:{s:{s:s}, s:{s:s}, s:o, s:{s:s, s:o}}, s:o}",
                     "description", json_sprintf("A list of %s objects.", kind->name), "type",
                     "object", "required", "items", "properties", "apiVersion", "type", "string",
                     "kind", "type", "string", "metadata", reference(LIST_META), "items", "type",
                     "array", "items", reference(schema_name(model, kind, "")),
                     "x-kubernetes-group-version-kind",
                     group_version_kind(kind, fl_json_str(kind->crd, "spec.names.listKind")));
}

static json_t *meta_schema(const char *description, const char *const *texts)
{
    json_t *properties = json_object();

    for (; *texts; texts++)
        (void)json_object_set_new(properties, *texts, json_pack("{s:s}", "type", "string"));
    return json_pack("{s:s, s:s, s:o}", "description", description, "type", "object", "properties",
                     properties);
}

static json_t *object_meta_schema(void)
{
    static const char *const texts[] = {"name",
                                        "generateName",
                                        "namespace",
                                        "uid",
                                        "resourceVersion",
                                        "creationTimestamp",
                                        "deletionTimestamp",
                                        NULL};
    json_t *schema = meta_schema("Metadata that every object has.", texts);
    json_t *properties = json_object_get(schema, "properties");

    for (int i = 0; i < 2; i++)
        (void)json_object_set_new(properties, i ? "labels" : "annotations",
                                  json_pack("{s:s, s:{s:s}}", "type", "object",
                                            "additionalProperties", "type", "string"));
    (void)json_object_set_new(properties, "generation",
                              json_pack("{s:s, s:s}", "type", "integer", "format", "int64"));
    (void)json_object_set_new(
        properties, "finalizers",
        json_pack("{s:s, s:{s:s}}", "type", "array", "items", "type", "string"));
    (void)json_object_set_new(
        properties, "ownerReferences",
        json_pack("{s:s, s:{s:s}}", "type", "array", "items", "type", "object"));
    return schema;
}

static json_t *list_meta_schema(void)
{
    static const char *const texts[] = {"resourceVersion", "continue", NULL};

    return meta_schema("Metadata of a list.", texts);
}

static json_t *json_content(const char *name)
{
    return json_pack("{s:{s:o}}", "application/json", "schema", reference(name));
}

static json_t *operation(const char *description, const char *response)
{
    return json_pack("{s:s, s:{s:{s:s, s:o}}}", "description", description, "responses", "200",
                     "description", "OK", "content", json_content(response));
}

static json_t *writing_operation(const char *description, const char *name)
{
    json_t *json = operation(description, name);

    (void)json_object_set_new(
        json, "requestBody", json_pack("{s:b, s:o}", "required", 1, "content", json_content(name)));
    return json;
}

static json_t *path_parameter(const char *name)
{
    return json_pack("{s:s, s:s, s:b, s:{s:s}}", "name", name, "in", "path", "required", 1,
                     "schema", "type", "string");
}

static void add_paths(const struct model *model, const struct kind *kind, json_t *paths)
{
    const char *name = schema_name(model, kind, "");
    bool namespaced = strcmp(fl_json_str(kind->crd, "spec.scope"), "Namespaced") == 0;
    const char *base =
        fl_arena_printf(model->arena, "/apis/%s/%s%s/%s", kind->group, kind->version_name,
                        namespaced ? "/namespaces/{namespace}" : "", kind->plural);
    json_t *many = json_object(), *one = json_object();
    json_t *many_parameters = json_array(), *one_parameters;

    if (namespaced)
        (void)json_array_append_new(many_parameters, path_parameter("namespace"));
    one_parameters = json_deep_copy(many_parameters);
    (void)json_array_append_new(one_parameters, path_parameter("name"));
    (void)json_object_set_new(many, "parameters", many_parameters);
    (void)json_object_set_new(
        many, "get", operation("List or watch objects.", schema_name(model, kind, "List")));
    (void)json_object_set_new(many, "post", writing_operation("Create an object.", name));
    (void)json_object_set_new(one, "parameters", one_parameters);
    (void)json_object_set_new(one, "get", operation("Read an object.", name));
    (void)json_object_set_new(one, "put", writing_operation("Replace an object.", name));
    (void)json_object_set_new(one, "delete", operation("Delete an object.", name));
    (void)json_object_set_new(paths, base, many);
    (void)json_object_set_new(paths, fl_arena_printf(model->arena, "%s/{name}", base), one);
}

void write_openapi(const struct model *model, struct fl_buf *buf)
{
    const struct kind *first = &model->kinds[0];
    json_t *schemas = json_object(), *paths = json_object();
    FL_JSON document = NULL;

    for (size_t i = 0; i < model->kind_count; i++) {
        const struct kind *kind = &model->kinds[i];

        (void)json_object_set_new(schemas, schema_name(model, kind, ""), kind_schema(kind));
        (void)json_object_set_new(schemas, schema_name(model, kind, "List"),
                                  list_schema(model, kind));
        add_paths(model, kind, paths);
    }
    (void)json_object_set_new(schemas, OBJECT_META, object_meta_schema());
    (void)json_object_set_new(schemas, LIST_META, list_meta_schema());
    document =
        json_pack("{s:s, s:{s:o, s:s, s:s}, s:o, s:{s:o}}", "openapi", "3.0.0", "info", "title",
                  json_sprintf("FLOps %s", first->group), "version", first->version_name,
                  "description", GENERATED, "paths", paths, "components", "schemas", schemas);
    if (!document)
        die("the OpenAPI document could not be put together");
    fl_json_write_pretty(buf, document);
}
