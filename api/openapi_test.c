#include "api/openapi.h"

#include "lib/file.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define META_V1   "io.k8s.apimachinery.pkg.apis.meta.v1."
#define MAX_KINDS 64

/* The built-in kinds and those of crds/, as a server has them. */
struct kinds {
    json_t *sources[2 * MAX_KINDS];
    size_t source_count;
    struct fl_openapi_kind items[MAX_KINDS];
    size_t count;
};

static void add_kind(struct kinds *kinds, struct fl_resource *resource, const json_t *schema)
{
    assert_true(kinds->count < MAX_KINDS);
    kinds->items[kinds->count++] = (struct fl_openapi_kind){resource, schema};
}

static void add_builtin(struct kinds *kinds)
{
    struct fl_error err = {0};
    json_t *entries = NULL, *entry;
    size_t i;

    if (fl_builtin_load(&entries, &err) < 0)
        fail_msg("%s", err.msg);
    kinds->sources[kinds->source_count++] = entries;
    json_array_foreach(entries, i, entry) {
        struct fl_resource *resource = NULL;

        if (fl_resource_from_builtin(entry, &resource, &err) < 0)
            fail_msg("%s", err.msg);
        add_kind(kinds, resource, json_object_get(entry, "schema"));
    }
}

static void add_crd(struct kinds *kinds, const char *text, size_t len)
{
    struct fl_error err = {0};
    json_t *crd = NULL, *version;
    size_t i;

    if (fl_yaml_parse(text, len, NULL, &crd, &err) < 0)
        fail_msg("%s", err.msg);
    kinds->sources[kinds->source_count++] = crd;
    json_array_foreach(fl_json_path(crd, "spec.versions"), i, version) {
        struct fl_resource *resource = NULL;

        if (fl_resource_from_crd(crd, version, &resource, &err) < 0)
            fail_msg("%s", err.msg);
        add_kind(kinds, resource, fl_json_path(version, "schema.openAPIV3Schema"));
    }
}

static void add_crds_folder(struct kinds *kinds)
{
    glob_t files;

    assert_int_equal(glob("crds/*.yaml", 0, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;

        assert_int_equal(fl_file_read(files.gl_pathv[i], 1 << 20, &text, NULL), 0);
        add_crd(kinds, text->data, text->len);
    }
    globfree(&files);
}

static void finish(struct kinds *kinds)
{
    for (size_t i = 0; i < kinds->count; i++)
        fl_resource_unref((struct fl_resource *)kinds->items[i].resource);
    for (size_t i = 0; i < kinds->source_count; i++)
        json_decref(kinds->sources[i]);
}

static int set_up(void **state)
{
    struct kinds *kinds = fl_calloc(1, sizeof(*kinds));

    add_builtin(kinds);
    add_crds_folder(kinds);
    *state = kinds;
    return 0;
}

static int tear_down(void **state)
{
    finish(*state);
    free(*state);
    return 0;
}

/* The v3 document of one group version. */
static json_t *document_v3(const struct kinds *kinds, const char *api_version)
{
    struct fl_openapi_kind chosen[MAX_KINDS];
    size_t count = 0;

    for (size_t i = 0; i < kinds->count; i++)
        if (strcmp(kinds->items[i].resource->api_version, api_version) == 0)
            chosen[count++] = kinds->items[i];
    assert_true(count > 0);
    return fl_openapi_v3(chosen, count, "v9");
}

static json_t *document_v2(const struct kinds *kinds)
{
    return fl_openapi_v2(kinds->items, kinds->count, "v9");
}

static json_t *parse(const char *text)
{
    struct fl_error err = {0};
    json_t *value = NULL;

    if (fl_yaml_parse(text, strlen(text), NULL, &value, &err) < 0)
        fail_msg("%s: %s", text, err.msg);
    return value;
}

static void assert_json(const json_t *value, const char *expected, const char *what)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON wanted = parse(expected);

    if (!json_equal(value, wanted))
        fail_msg("%s:\ngot    %s\nwanted %s", what,
                 value ? fl_json_to_string(arena, value) : "nothing",
                 fl_json_to_string(arena, wanted));
}

/* A member by a path whose steps are separated by blanks, as names here have dots and slashes. */
static json_t *at(const json_t *value, const char *path)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *rest = path, *step;

    while ((step = fl_str_next(arena, &rest, ' ')))
        value = json_object_get(value, step);
    return (json_t *)value;
}

static json_t *must(const json_t *value, const char *path)
{
    json_t *found = at(value, path);

    if (!found)
        fail_msg("there is no %s", path);
    return found;
}

static bool has_parameter(const json_t *operation, const char *name, const char *in)
{
    json_t *parameter;
    size_t i;

    json_array_foreach(json_object_get(operation, "parameters"), i, parameter)
        if (fl_streq(fl_json_str(parameter, "name"), name) &&
            fl_streq(fl_json_str(parameter, "in"), in))
            return true;
    return false;
}

/* All of `document` that `$ref`s name exists. */
static void check_refs(const json_t *document, const json_t *node)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *key, *rest, *step;
    json_t *member;
    size_t i;

    json_object_foreach((json_t *)node, key, member) {
        const json_t *found = document;

        check_refs(document, member);
        if (strcmp(key, "$ref") != 0 || !json_is_string(member))
            continue;
        rest = json_string_value(member);
        assert_string_equal(fl_str_next(arena, &rest, '/'), "#");
        while ((step = fl_str_next(arena, &rest, '/')))
            found = json_object_get(found, step);
        if (!found)
            fail_msg("%s leads nowhere", json_string_value(member));
    }
    json_array_foreach((json_t *)node, i, member)
        check_refs(document, member);
}

static void check_operation_ids(const json_t *document)
{
    FL_JSON seen = json_object();
    const char *path_name, *method;
    json_t *path, *operation;

    json_object_foreach(json_object_get(document, "paths"), path_name, path) {
        json_object_foreach(path, method, operation) {
            const char *id = fl_json_str(operation, "operationId");

            if (strcmp(method, "parameters") == 0)
                continue;
            if (!id || json_object_get(seen, id))
                fail_msg("%s %s: operationId %s", method, path_name, fl_str_or(id, "is missing"));
            json_object_set_new(seen, id, json_true());
        }
    }
}

static void test_documents_are_whole(void **state)
{
    const struct kinds *kinds = *state;
    FL_JSON v2 = document_v2(kinds);

    assert_json(json_object_get(v2, "info"), "{title: FLOps, version: v9}", "info");
    assert_string_equal(fl_json_str(v2, "swagger"), "2.0");
    check_refs(v2, v2);
    check_operation_ids(v2);
    for (size_t i = 0; i < kinds->count; i++) {
        FL_JSON v3 = document_v3(kinds, kinds->items[i].resource->api_version);

        assert_string_equal(fl_json_str(v3, "openapi"), "3.0.0");
        check_refs(v3, v3);
        check_operation_ids(v3);
    }
}

/* What kubectl looks for: a patch with the kind's mark and fieldValidation, a get, and a schema
 * with the mark in a list; and in v2 dryRun among the parameters of the patch itself. */
static void test_every_kind_is_found_by_its_mark(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct kinds *kinds = *state;
    FL_JSON v2 = document_v2(kinds);

    for (size_t i = 0; i < kinds->count; i++) {
        const struct fl_resource *resource = kinds->items[i].resource;
        FL_JSON v3 = document_v3(kinds, resource->api_version);
        const char *path = fl_arena_printf(
            arena, "%s/%s/%s%s", *resource->group ? "/apis" : "/api", resource->api_version,
            resource->traits.namespaced ? "namespaces/{namespace}/" : "", resource->plural);
        FL_JSON mark = json_pack("{s:s, s:s, s:s}", "group", resource->group, "version",
                                 resource->version, "kind", resource->kind);
        const json_t *documents[] = {v3, v2};

        for (size_t d = 0; d < FL_COUNT_OF(documents); d++) {
            const json_t *paths = json_object_get(documents[d], "paths");
            const json_t *collection = must(paths, path);
            const json_t *item = at(paths, fl_arena_printf(arena, "%s/{name}", path));
            const json_t *patch = json_object_get(item, "patch");

            if (fl_resource_allows(resource, FL_VERB_CREATE))
                assert_true(has_parameter(must(collection, "post"), "fieldValidation", "query"));
            assert_int_equal(patch != NULL, fl_resource_allows(resource, FL_VERB_PATCH));
            if (!patch)
                continue;
            assert_true(json_equal(must(patch, "x-kubernetes-group-version-kind"), mark));
            assert_true(has_parameter(patch, "fieldValidation", "query"));
            assert_true(has_parameter(patch, "dryRun", "query"));
            assert_true(has_parameter(patch, "fieldManager", "query"));
            assert_true(has_parameter(patch, "force", "query"));
            assert_true(has_parameter(item, "name", "path"));
            assert_int_equal(has_parameter(item, "namespace", "path"), resource->traits.namespaced);
        }
    }
}

static void test_names(void **state)
{
    static const char *const definitions[] = {
        "dev.flops.v1alpha1.FLProject",
        "dev.flops.v1alpha1.FLProjectList",
        "io.k8s.api.core.v1.Namespace",
        "io.k8s.api.core.v1.SecretList",
        "io.k8s.api.coordination.v1.Lease",
        "io.k8s.api.rbac.v1.Role",
        "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        "io.k8s.api.autoscaling.v1.Scale",
        META_V1 "ObjectMeta",
        META_V1 "ListMeta",
        META_V1 "ManagedFieldsEntry",
        META_V1 "FieldsV1",
        META_V1 "OwnerReference",
        META_V1 "Time",
        META_V1 "MicroTime",
        META_V1 "DeleteOptions",
        META_V1 "Preconditions",
        META_V1 "Patch",
        META_V1 "Status",
        META_V1 "StatusCause",
        META_V1 "StatusDetails",
    };
    FL_JSON v2 = document_v2(*state);
    const json_t *found = json_object_get(v2, "definitions");

    for (size_t i = 0; i < FL_COUNT_OF(definitions); i++)
        (void)must(found, definitions[i]);
    /* Reviews are asked and not kept: there is no list of them. */
    assert_null(at(found, "io.k8s.api.authorization.v1.SelfSubjectAccessReviewList"));
    assert_string_equal(json_string_value(must(v2, "paths /api/v1/secrets get operationId")),
                        "listCoreV1SecretForAllNamespaces");
    assert_string_equal(
        json_string_value(must(v2, "paths /apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
                                   "/roles delete operationId")),
        "deleteRbacAuthorizationV1CollectionNamespacedRole");
    assert_string_equal(
        json_string_value(must(v2, "paths /apis/flops.dev/v1alpha1/namespaces/{namespace}/workloads"
                                   "/{name}/scale put operationId")),
        "replaceFlopsDevV1alpha1NamespacedWorkloadScale");
}

/* Methods of a path, sorted and without its parameters. */
static char *methods(struct fl_arena *arena, const json_t *document, const char *path)
{
    static const char *const names[] = {"get", "put", "post", "delete", "patch"};
    const json_t *found = json_object_get(json_object_get(document, "paths"), path);
    char *text = fl_arena_strdup(arena, found ? "" : "none");

    for (size_t i = 0; i < FL_COUNT_OF(names); i++)
        if (json_object_get(found, names[i]))
            text = fl_arena_printf(arena, "%s%s%s", text, *text ? " " : "", names[i]);
    return text;
}

static void test_paths(void **state)
{
    static const struct {
        const char *path, *methods;
    } cases[] = {
        {"/api/v1/namespaces", "get post"},
        {"/api/v1/namespaces/{name}", "get put delete patch"},
        {"/api/v1/namespaces/{name}/status", "get put patch"},
        {"/api/v1/namespaces/{name}/finalize", "put"},
        {"/api/v1/namespaces/{namespace}/secrets", "get post delete"},
        {"/api/v1/secrets", "get"},
        {"/api/v1/namespaces/{namespace}/secrets/{name}/status", "none"},
        {"/api/v1/namespaces/{namespace}/services", "get"},
        {"/api/v1/namespaces/{namespace}/services/{name}", "get"},
        {"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "post"},
        {"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews/{name}", "none"},
        {"/apis/flops.dev/v1alpha1/flprojects", "get"},
        {"/apis/flops.dev/v1alpha1/orchestrators", "get post delete"},
        {"/apis/flops.dev/v1alpha1/namespaces/{namespace}/workloads/{name}/scale", "get put patch"},
        {"/apis/flops.dev/v1alpha1/namespaces/{namespace}/gitsyncs/{name}/scale", "none"},
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON v2 = document_v2(*state);

    for (size_t i = 0; i < FL_COUNT_OF(cases); i++)
        if (strcmp(methods(arena, v2, cases[i].path), cases[i].methods) != 0)
            fail_msg("%s has %s, not %s", cases[i].path, methods(arena, v2, cases[i].path),
                     cases[i].methods);
}

static void test_operations(void **state)
{
    FL_JSON v2 = document_v2(*state);
    FL_JSON v3 = document_v3(*state, "flops.dev/v1alpha1");
    const char *path = "paths /apis/flops.dev/v1alpha1/namespaces/{namespace}/workloads/{name}";
    const json_t *item3 = must(v3, path), *item2 = must(v2, path);

    assert_string_equal(json_string_value(must(item3, "patch x-kubernetes-action")), "patch");
    assert_json(must(item3, "patch requestBody content application/apply-patch+yaml schema"),
                "{$ref: '#/components/schemas/" META_V1 "Patch'}", "v3 patch");
    assert_null(at(item3, "patch requestBody content application/strategic-merge-patch+json"));
    assert_json(must(item3, "put responses 201 content application/json schema"),
                "{$ref: '#/components/schemas/dev.flops.v1alpha1.Workload'}", "v3 put");
    assert_json(must(item3, "delete responses 202 content application/yaml schema"),
                "{$ref: '#/components/schemas/" META_V1 "Status'}", "v3 delete");
    assert_true(has_parameter(must(item2, "put"), "body", "body"));
    assert_json(must(item2, "put responses 200 schema"),
                "{$ref: '#/definitions/dev.flops.v1alpha1.Workload'}", "v2 put");
    assert_json(must(item2, "patch consumes"),
                "[application/json-patch+json, application/merge-patch+json, "
                "application/apply-patch+yaml]",
                "v2 patch");
    assert_json(must(v2, "paths /api/v1/namespaces/{name} patch consumes"),
                "[application/json-patch+json, application/merge-patch+json, "
                "application/apply-patch+yaml, application/strategic-merge-patch+json]",
                "v2 patch of a built-in kind");
}

static void test_metadata_says_how_its_lists_merge(void **state)
{
    FL_JSON v2 = document_v2(*state);
    FL_JSON v3 = document_v3(*state, "v1");
    const json_t *meta = must(v3, "components schemas " META_V1 "ObjectMeta properties");
    const json_t *owners = must(meta, "ownerReferences");

    assert_json(must(owners, "x-kubernetes-patch-merge-key"), "uid", "owners");
    assert_json(must(owners, "x-kubernetes-patch-strategy"), "merge", "owners");
    assert_json(must(owners, "x-kubernetes-list-map-keys"), "[uid]", "owners");
    assert_json(must(meta, "finalizers x-kubernetes-patch-strategy"), "merge", "finalizers");
    assert_json(must(meta, "finalizers x-kubernetes-list-type"), "set", "finalizers");
    assert_json(must(v3, "components schemas " META_V1 "OwnerReference required"),
                "[apiVersion, kind, name, uid]", "owner reference");
    assert_json(must(v2, "definitions " META_V1 "ObjectMeta properties creationTimestamp $ref"),
                "'#/definitions/" META_V1 "Time'", "time");
    assert_json(must(v2, "definitions " META_V1 "Time type"), "string", "time");
}

static const char widget_crd[] =
    "apiVersion: apiextensions.k8s.io/v1\n"
    "kind: CustomResourceDefinition\n"
    "metadata: {name: widgets.tools.example.org}\n"
    "spec:\n"
    "  group: tools.example.org\n"
    "  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}\n"
    "  scope: Namespaced\n"
    "  versions:\n"
    "  - name: v1\n"
    "    served: true\n"
    "    storage: true\n"
    "    selectableFields: [{jsonPath: .spec.color}]\n"
    "    schema: {openAPIV3Schema: {type: object, properties: {spec: %s}}}\n";

struct schema_case {
    const char *schema; /* of spec */
    const char *v3;     /* NULL: as it is */
    const char *v2;
};

/* What a real server (1.32) publishes for the same. */
static const struct schema_case schema_cases[] = {
    {"{type: string, default: a, enum: [a, b], maxLength: 3, description: A letter.}", NULL,
     "{type: string, enum: [a, b], maxLength: 3, description: A letter.}"},
    {"{type: object, required: [a], properties: {a: {type: integer, format: int32}}}", NULL,
     "{type: object, required: [a], properties: {a: {type: integer, format: int32}}}"},
    {"{type: object, properties: {a: {type: string}}, oneOf: [{required: [a]}], not: {required: "
     "[b]}, anyOf: [{required: [a]}], allOf: [{required: [a]}]}",
     NULL, "{type: object, properties: {a: {type: string}}}"},
    /* int-or-string, plain, with its words and with other words */
    {"{x-kubernetes-int-or-string: true}",
     "{x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}]}",
     "{x-kubernetes-int-or-string: true}"},
    {"{x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}]}", NULL,
     "{x-kubernetes-int-or-string: true}"},
    {"{x-kubernetes-int-or-string: true, allOf: [{anyOf: [{type: integer}, {type: string}]}, "
     "{maximum: 3}]}",
     NULL, "{x-kubernetes-int-or-string: true}"},
    {"{x-kubernetes-int-or-string: true, anyOf: [{maximum: 3}]}",
     "{x-kubernetes-int-or-string: true, anyOf: [{maximum: 3}], allOf: [{anyOf: [{type: integer}, "
     "{type: string}]}]}",
     "{x-kubernetes-int-or-string: true}"},
    /* what v2 cannot say at all loses its type */
    {"{type: object, x-kubernetes-preserve-unknown-fields: true, maxProperties: 4, properties: {a: "
     "{type: string}}}",
     NULL, "{x-kubernetes-preserve-unknown-fields: true, maxProperties: 4}"},
    {"{type: object, nullable: true, description: D, properties: {a: {type: string}}}", NULL,
     "{description: D}"},
    {"{type: array, nullable: true, items: {type: string}}", NULL, "{}"},
    /* kubectl refuses null for what is required */
    {"{type: object, required: [a, b], properties: {a: {type: string, nullable: true}, b: {type: "
     "string}}}",
     NULL, "{type: object, required: [b], properties: {a: {}, b: {type: string}}}"},
    {"{type: object, required: [a], properties: {a: {type: string, nullable: true}}}", NULL,
     "{type: object, properties: {a: {}}}"},
    {"{type: object, additionalProperties: {type: string, nullable: true}}", NULL,
     "{type: object, additionalProperties: {}}"},
    /* lists and maps, within each other; marks stay */
    {"{type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [k], items: {type: "
     "object, required: [k], properties: {k: {type: string}, v: {type: integer, default: 3}}}}",
     NULL,
     "{type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [k], items: {type: "
     "object, required: [k], properties: {k: {type: string}, v: {type: integer}}}}"},
    {"{type: object, x-kubernetes-map-type: atomic, additionalProperties: {type: array, items: "
     "{x-kubernetes-int-or-string: true}}}",
     "{type: object, x-kubernetes-map-type: atomic, additionalProperties: {type: array, items: "
     "{x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}]}}}",
     "{type: object, x-kubernetes-map-type: atomic, additionalProperties: {type: array, items: "
     "{x-kubernetes-int-or-string: true}}}"},
    {"{type: integer, x-kubernetes-validations: [{rule: self > 1, message: more}]}", NULL,
     "{type: integer, x-kubernetes-validations: [{rule: self > 1, message: more}]}"},
    /* a property may be called as a keyword is */
    {"{type: object, properties: {default: {type: string}, items: {type: string, nullable: true}}}",
     NULL, "{type: object, properties: {default: {type: string}, items: {}}}"},
};

static void one_widget(struct kinds *kinds, const char *spec)
{
    char *text;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    text = fl_asprintf(widget_crd, spec);
#pragma GCC diagnostic pop
    add_crd(kinds, text, strlen(text));
    free(text);
}

static void test_schemas(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(schema_cases); i++) {
        const struct schema_case *c = &schema_cases[i];
        struct kinds kinds = {0};

        one_widget(&kinds, c->schema);
        {
            FL_JSON v3 = fl_openapi_v3(kinds.items, kinds.count, "v1");
            FL_JSON v2 = fl_openapi_v2(kinds.items, kinds.count, "v1");

            assert_json(at(v3, "components schemas org.example.tools.v1.Widget properties spec"),
                        fl_str_or(c->v3, c->schema), "v3");
            assert_json(at(v2, "definitions org.example.tools.v1.Widget properties spec"), c->v2,
                        "v2");
        }
        finish(&kinds);
    }
}

static void test_embedded_resource(void **state)
{
    struct kinds kinds = {0};

    (void)state;
    one_widget(&kinds, "{type: object, properties: {"
                       "a: {type: object, x-kubernetes-embedded-resource: true, properties: {spec: "
                       "{type: object}}}, "
                       "b: {type: object, x-kubernetes-embedded-resource: true, "
                       "x-kubernetes-preserve-unknown-fields: true}}}");
    {
        const char *path = "org.example.tools.v1.Widget properties spec properties";
        FL_JSON v3 = fl_openapi_v3(kinds.items, kinds.count, "v1");
        FL_JSON v2 = fl_openapi_v2(kinds.items, kinds.count, "v1");
        const json_t *in_v3 = must(must(v3, "components schemas"), path);
        const json_t *in_v2 = must(must(v2, "definitions"), path);

        assert_json(must(in_v3, "a required"), "[kind, apiVersion]", "v3");
        assert_json(must(in_v3, "b required"), "[kind, apiVersion]", "v3");
        assert_json(must(in_v3, "a properties metadata allOf"),
                    "[{$ref: '#/components/schemas/" META_V1 "ObjectMeta'}]", "v3");
        assert_json(must(in_v2, "a properties metadata $ref"),
                    "'#/definitions/" META_V1 "ObjectMeta'", "v2");
        (void)must(in_v2, "a properties spec");
        assert_null(at(in_v2, "b properties"));
        assert_null(at(in_v2, "b required"));
    }
    finish(&kinds);
}

static void test_a_kind_of_its_own(void **state)
{
    struct kinds kinds = {0};

    (void)state;
    one_widget(&kinds, "{type: object}");
    {
        FL_JSON v3 = fl_openapi_v3(kinds.items, kinds.count, "v1");
        const json_t *schemas = must(v3, "components schemas");
        const json_t *widget = must(schemas, "org.example.tools.v1.Widget");

        assert_json(must(widget, "x-kubernetes-group-version-kind"),
                    "[{group: tools.example.org, version: v1, kind: Widget}]", "mark");
        assert_json(must(widget, "x-kubernetes-selectable-fields"), "[{fieldPath: spec.color}]",
                    "selectable");
        assert_json(must(widget, "properties metadata allOf"),
                    "[{$ref: '#/components/schemas/" META_V1 "ObjectMeta'}]", "metadata");
        assert_json(must(schemas, "org.example.tools.v1.WidgetList properties items items"),
                    "{$ref: '#/components/schemas/org.example.tools.v1.Widget'}", "list");
        assert_json(must(schemas, "org.example.tools.v1.WidgetList required"), "[items]", "list");
        /* Scale is described where something can be scaled. */
        assert_null(at(schemas, "io.k8s.api.autoscaling.v1.Scale"));
    }
    finish(&kinds);
}

/* Without a schema nothing may be said of members, or kubectl takes all others for unknown. */
static void test_a_kind_without_schema(void **state)
{
    struct kinds kinds = {0};

    (void)state;
    one_widget(&kinds, "{type: object}");
    kinds.items[0].schema = NULL;
    {
        FL_JSON v2 = fl_openapi_v2(kinds.items, kinds.count, "v1");

        assert_json(must(v2, "definitions org.example.tools.v1.Widget type"), "object", "type");
        assert_null(at(v2, "definitions org.example.tools.v1.Widget properties"));
    }
    finish(&kinds);
}

static struct fl_buf bytes_of(const struct kinds *kinds, bool protobuf)
{
    FL_JSON v2 = document_v2(kinds);
    struct fl_buf buf;

    fl_buf_init(&buf, 0);
    if (protobuf)
        fl_openapi_v2_protobuf(v2, &buf);
    else
        fl_json_write(&buf, v2);
    return buf;
}

/* Equal documents are equal bytes, so that a hash of them is an ETag; the order in which kinds
 * came to be does not matter. */
static void test_bytes_are_stable(void **state)
{
    const struct kinds *kinds = *state;
    struct kinds other = *kinds;

    for (size_t i = 0; i < kinds->count; i++)
        other.items[i] = kinds->items[kinds->count - 1 - i];
    for (unsigned protobuf = 0; protobuf < 2; protobuf++) {
        struct fl_buf a = bytes_of(kinds, protobuf), b = bytes_of(&other, protobuf);

        assert_int_equal(a.len, b.len);
        assert_memory_equal(a.data, b.data, a.len);
        fl_buf_finish(&a);
        fl_buf_finish(&b);
    }
}

/* A document that has each form once, and its bytes as gnostic (0.6.8) writes them, but that the
 * text of YAML is JSON here. */
static void test_protobuf_bytes(void **state)
{
    static const char document[] =
        "swagger: '2.0'\n"
        "info: {title: T, version: V}\n"
        "paths: {/p: {get: {operationId: o, parameters: [{in: query, name: q, type: string, "
        "uniqueItems: true}, {in: path, name: who, type: string, required: true}, {in: body, name: "
        "body, schema: {$ref: R}}], responses: {'200': {description: OK, schema: {$ref: R}}}, "
        "x-a: [1]}}}\n"
        "definitions: {d: {type: object, minimum: 0, maximum: 1.5, maxLength: 300, required: [x], "
        "enum: [e], additionalProperties: true, properties: {x: {items: {type: string}}}}}\n"
        "securityDefinitions: {b: {type: apiKey, in: header, name: key}}\n"
        "security: [{b: []}]\n";
    static const char expected[] =
        "0a03322e3012060a01541201564286011283010a022f70127d127b2a016f421b0a1912171a151205"
        "71756572792201713206737472696e67a00101421b0a19121722150801120470617468220377686f"
        "2a06737472696e6742150a130a111204626f64791a04626f64792a030a01524a160a140a03323030"
        "120d0a0b0a024f4b12050a030a01526a0d0a03782d61120612045b315d0a4a4a0a480a0164124339"
        "000000000000f83f58ac029a010178a2010612042265220aaa01021001b201080a066f626a656374"
        "ca01170a150a01781210ba010d0a0bb201080a06737472696e6762070a050a016212006a1e0a1c0a"
        "0162121712150a066170694b657912036b65791a06686561646572";
    FL_JSON value = parse(document);
    struct fl_buf buf;

    (void)state;
    fl_buf_init(&buf, 0);
    fl_openapi_v2_protobuf(value, &buf);
    {
        FL_CLEANUP(fl_freep) char *hex = fl_malloc(2 * buf.len + 1);

        fl_hex_encode(buf.data, buf.len, hex);
        assert_string_equal(hex, expected);
    }
    fl_buf_finish(&buf);
}

/* A vendor extension's text is read as YAML, by clients that then refuse the whole document. */
static void test_protobuf_text_is_yaml(void **state)
{
    static const struct {
        const char *json, *yaml;
    } cases[] = {
        {"\"a\\u007fb\"", "\"a\\u007fb\"\n"},
        {"\"\\u0085\\u009f\\u00a0\"", "\"\\u0085\\u009f\u00a0\"\n"},
        {"\"\\u2028\\u2029\\u2030\"", "\"\\u2028\\u2029\u2030\"\n"},
        {"\"\\ufeff\\ufffd\\ufffe\\uffff\"", "\"\\ufeff\ufffd\\ufffe\\uffff\"\n"},
        {"\"\\ud83d\\ude00\\n\"", "\"\U0001f600\\n\"\n"},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_JSON text = json_loads(cases[i].json, JSON_DECODE_ANY, NULL);
        FL_JSON document = json_pack("{s:O}", "x-a", text);
        struct fl_buf buf;

        fl_buf_init(&buf, 0);
        fl_openapi_v2_protobuf(document, &buf);
        /* the field and its length, the name, the value and its length, the text and its length */
        assert_true(buf.len > 12);
        assert_string_equal(buf.data + 12, cases[i].yaml);
        fl_buf_finish(&buf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents_are_whole),
        cmocka_unit_test(test_every_kind_is_found_by_its_mark),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_operations),
        cmocka_unit_test(test_metadata_says_how_its_lists_merge),
        cmocka_unit_test(test_schemas),
        cmocka_unit_test(test_embedded_resource),
        cmocka_unit_test(test_a_kind_of_its_own),
        cmocka_unit_test(test_a_kind_without_schema),
        cmocka_unit_test(test_bytes_are_stable),
        cmocka_unit_test(test_protobuf_bytes),
        cmocka_unit_test(test_protobuf_text_is_yaml),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
