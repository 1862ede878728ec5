/* Documents: what is served (discovery, plain and aggregated) and what it looks like (OpenAPI), the
 * version, health, metrics. Documents are made when first asked for and kept until what is served
 * changes. */
#include "controller/apiserver/internal.h"

#include "api/openapi.h"
#include "controller/apiserver/health.h"

#include <assert.h>
#include <sodium.h>

#define AGGREGATED          "as=APIGroupDiscoveryList"
#define PROTOBUF_V2_REQUEST "com.github.proto-openapi.spec.v2"
#define PROTOBUF_V2_TYPE    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

struct document {
    struct fl_bytes *bytes;
    char etag[2 * crypto_hash_sha256_BYTES + 3]; /* with its quotes */
};

struct fl_documents {
    struct fl_apiserver *server;
    uint64_t generation;
    struct fl_map *by_name;
};

static void document_destroy(void *value)
{
    struct document *document = value;

    fl_bytes_unref(document->bytes);
    free(document);
}

struct fl_documents *fl_documents_create(struct fl_apiserver *server)
{
    struct fl_documents *documents = fl_calloc(1, sizeof(*documents));

    documents->server = server;
    documents->by_name = fl_map_create(document_destroy);
    return documents;
}

void fl_documents_destroy(struct fl_documents *documents)
{
    if (!documents)
        return;
    fl_map_destroy(documents->by_name);
    free(documents);
}

static struct document *document_new(struct fl_bytes *bytes)
{
    struct document *document = fl_calloc(1, sizeof(*document));
    unsigned char hash[crypto_hash_sha256_BYTES];

    document->bytes = bytes;
    (void)crypto_hash_sha256(hash, (const unsigned char *)bytes->data, bytes->len);
    document->etag[0] = '"';
    fl_hex_encode(hash, sizeof(hash), document->etag + 1);
    document->etag[1 + 2 * sizeof(hash)] = '"'; /* the NUL behind it is calloc's */
    return document;
}

typedef struct fl_bytes *make_fn(struct fl_request *request, const char *argument);

static struct document *get_document(struct fl_request *request, const char *name, make_fn *make,
                                     const char *argument)
{
    struct fl_documents *documents = request->server->documents;
    uint64_t generation = fl_catalog_generation(request->server->catalog);
    struct document *document;

    if (documents->generation != generation) {
        fl_map_destroy(documents->by_name);
        documents->by_name = fl_map_create(document_destroy);
        documents->generation = generation;
    }
    document = fl_map_get(documents->by_name, name);
    if (!document) {
        struct fl_bytes *bytes = make(request, argument);

        if (!bytes)
            return NULL;
        document = document_new(bytes);
        fl_map_put(documents->by_name, name, document);
    }
    return document;
}

static struct fl_bytes *to_bytes(json_t *value)
{
    struct fl_bytes *bytes = fl_json_to_bytes(value);

    json_decref(value);
    return bytes;
}

static void respond_document(struct fl_request *request, const struct document *document,
                             const char *content_type, bool cacheable)
{
    const char *known = fl_http_header(request->http, "If-None-Match");
    struct fl_buf buf;

    assert(document);
    fl_http_set_header(request->http, "ETag", document->etag);
    fl_http_set_header(request->http, "Vary", "Accept");
    if (cacheable)
        fl_http_set_header(request->http, "Cache-Control", "public, immutable, max-age=31536000");
    if (known && strstr(known, document->etag)) {
        fl_respond_done(request, 304);
        fl_http_respond(request->http, 304, content_type, "", 0);
        return;
    }
    fl_buf_init(&buf, 0);
    fl_buf_append(&buf, document->bytes->data, document->bytes->len);
    fl_respond_buf(request, 200, content_type, &buf);
}

/* Discovery */

static json_t *words_to_json(const struct fl_words *words)
{
    json_t *list = json_array();

    for (size_t i = 0; i < words->count; i++)
        (void)json_array_append_new(list, json_string(words->items[i]));
    return list;
}

static json_t *verbs_to_json(const struct fl_resource *resource)
{
    /* The order that a cluster lists them in. */
    static const enum fl_verb order[] = {FL_VERB_DELETE, FL_VERB_DELETE_COLLECTION,
                                         FL_VERB_GET,    FL_VERB_LIST,
                                         FL_VERB_PATCH,  FL_VERB_CREATE,
                                         FL_VERB_UPDATE, FL_VERB_WATCH};
    json_t *list = json_array();

    for (size_t i = 0; i < FL_COUNT_OF(order); i++)
        if (fl_resource_allows(resource, order[i]))
            (void)json_array_append_new(list, json_string(fl_verb_name(order[i])));
    return list;
}

/* What a resource has below its objects, as discovery tells it. */
struct subresource {
    const char *name;
    bool scale, update_only, get_only;
};

#define SUBRESOURCES_MAX 16

static size_t list_subresources(const struct fl_apiserver *server,
                                const struct fl_resource *resource,
                                struct subresource list[SUBRESOURCES_MAX])
{
    size_t count = 0;

    if (resource->traits.has_status)
        list[count++] = (struct subresource){.name = "status"};
    if (resource->has_scale)
        list[count++] = (struct subresource){.name = "scale", .scale = true};
    if (resource->has_finalize)
        list[count++] = (struct subresource){.name = "finalize", .update_only = true};
    for (size_t i = 0; i < server->subresource_count && count < SUBRESOURCES_MAX; i++)
        if (strcmp(server->subresources[i].resource, resource->storage) == 0)
            list[count++] =
                (struct subresource){.name = server->subresources[i].name, .get_only = true};
    return count;
}

static json_t *subresource_verbs(const struct subresource *subresource)
{
    if (subresource->update_only)
        return json_pack("[s]", "update");
    return subresource->get_only ? json_pack("[s]", "get")
                                 : json_pack("[s,s,s]", "get", "patch", "update");
}

static json_t *storage_hash(const struct fl_resource *resource)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *text =
        fl_arena_printf(arena, "%s/%s/%s", resource->group, resource->version, resource->kind);
    unsigned char hash[crypto_hash_sha256_BYTES];

    (void)crypto_hash_sha256(hash, (const unsigned char *)text, strlen(text));
    return json_string(fl_base64_encode(arena, hash, 8));
}

static json_t *api_resource(const struct fl_resource *resource)
{
    json_t *entry = json_pack("{s:s, s:s, s:b, s:s, s:o}", "name", resource->plural, "singularName",
                              resource->singular, "namespaced", resource->traits.namespaced, "kind",
                              resource->kind, "verbs", verbs_to_json(resource));

    if (resource->short_names.count)
        (void)json_object_set_new(entry, "shortNames", words_to_json(&resource->short_names));
    if (resource->categories.count)
        (void)json_object_set_new(entry, "categories", words_to_json(&resource->categories));
    if (fl_resource_allows(resource, FL_VERB_LIST))
        (void)json_object_set_new(entry, "storageVersionHash", storage_hash(resource));
    return entry;
}

static void add_api_subresource(json_t *list, const struct fl_resource *resource,
                                const struct subresource *subresource)
{
    json_t *entry = json_pack("{s:s+, s:s, s:b, s:s, s:o}", "name", resource->plural, "",
                              "singularName", "", "namespaced", resource->traits.namespaced, "kind",
                              subresource->scale ? "Scale" : resource->kind, "verbs",
                              subresource_verbs(subresource));
    char path[600];

    (void)snprintf(path, sizeof(path), "%s/%s", resource->plural, subresource->name);
    fl_json_set_str(entry, "name", path);
    if (subresource->scale) {
        fl_json_set_str(entry, "group", "autoscaling");
        fl_json_set_str(entry, "version", "v1");
    }
    (void)json_array_append_new(list, entry);
}

static const struct fl_group_version *find_group_version(struct fl_request *request,
                                                         const char *group, const char *version)
{
    const struct fl_group_version *all;
    size_t count = fl_catalog_group_versions(request->server->catalog, &all);

    for (size_t i = 0; i < count; i++)
        if (strcmp(all[i].group, group) == 0 && (!version || strcmp(all[i].version, version) == 0))
            return &all[i];
    return NULL;
}

static const char *join_version(struct fl_request *request, const struct fl_group_version *gv)
{
    return *gv->group ? fl_arena_printf(request->arena, "%s/%s", gv->group, gv->version)
                      : gv->version;
}

/* `argument` is "group/version", the group empty for the core group. */
static const struct fl_group_version *group_version_argument(struct fl_request *request,
                                                             const char *argument)
{
    const char *slash = strrchr(argument, '/');

    return find_group_version(
        request, fl_arena_strndup(request->arena, argument, (size_t)(slash - argument)), slash + 1);
}

static struct fl_bytes *make_resource_list(struct fl_request *request, const char *argument)
{
    const struct fl_group_version *gv = group_version_argument(request, argument);
    json_t *list;

    if (!gv)
        return NULL;
    list = json_array();
    for (size_t i = 0; i < gv->count; i++) {
        const struct fl_resource *resource = gv->items[i]->resource;
        struct subresource subresources[SUBRESOURCES_MAX];
        size_t count = list_subresources(request->server, resource, subresources);

        (void)json_array_append_new(list, api_resource(resource));
        for (size_t k = 0; k < count; k++)
            add_api_subresource(list, resource, &subresources[k]);
    }
    return to_bytes(json_pack("{s:s, s:s, s:s, s:o}", "kind", "APIResourceList", "apiVersion", "v1",
                              "groupVersion", join_version(request, gv), "resources", list));
}

static json_t *group_json(struct fl_request *request, const char *group)
{
    const struct fl_group_version *all;
    size_t count = fl_catalog_group_versions(request->server->catalog, &all);
    json_t *versions = json_array();

    for (size_t i = 0; i < count; i++)
        if (strcmp(all[i].group, group) == 0)
            (void)json_array_append_new(versions, json_pack("{s:s, s:s}", "groupVersion",
                                                            join_version(request, &all[i]),
                                                            "version", all[i].version));
    return json_pack("{s:s, s:o, s:O}", "name", group, "versions", versions, "preferredVersion",
                     json_array_get(versions, 0));
}

static struct fl_bytes *make_group(struct fl_request *request, const char *group)
{
    json_t *value;

    if (!find_group_version(request, group, NULL))
        return NULL;
    value = group_json(request, group);
    fl_json_set_str(value, "kind", "APIGroup");
    fl_json_set_str(value, "apiVersion", "v1");
    return to_bytes(value);
}

static struct fl_bytes *make_groups(struct fl_request *request, const char *argument)
{
    const struct fl_group_version *all;
    size_t count = fl_catalog_group_versions(request->server->catalog, &all);
    json_t *groups = json_array();

    (void)argument;
    for (size_t i = 0; i < count; i++)
        if (*all[i].group && (i == 0 || strcmp(all[i].group, all[i - 1].group) != 0))
            (void)json_array_append_new(groups, group_json(request, all[i].group));
    return to_bytes(
        json_pack("{s:s, s:s, s:o}", "kind", "APIGroupList", "apiVersion", "v1", "groups", groups));
}

static struct fl_bytes *make_core(struct fl_request *request, const char *argument)
{
    (void)argument;
    return to_bytes(json_pack("{s:s, s:[s], s:[{s:s, s:s}]}", "kind", "APIVersions", "versions",
                              "v1", "serverAddressByClientCIDRs", "clientCIDR", "0.0.0.0/0",
                              "serverAddress", request->server->server_address));
}

/* Aggregated discovery */

static json_t *response_kind(const struct fl_resource *resource)
{
    return json_pack("{s:s, s:s, s:s}", "group", resource->builtin ? "" : resource->group,
                     "version", resource->builtin ? "" : resource->version, "kind", resource->kind);
}

static json_t *discovery_subresources(const struct fl_apiserver *server,
                                      const struct fl_resource *resource)
{
    struct subresource subresources[SUBRESOURCES_MAX];
    size_t count = list_subresources(server, resource, subresources);
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++) {
        json_t *kind = subresources[i].scale ? json_pack("{s:s, s:s, s:s}", "group", "autoscaling",
                                                         "version", "v1", "kind", "Scale")
                                             : response_kind(resource);

        (void)json_array_append_new(list, json_pack("{s:s, s:o, s:o}", "subresource",
                                                    subresources[i].name, "responseKind", kind,
                                                    "verbs", subresource_verbs(&subresources[i])));
    }
    return list;
}

static json_t *discovery_resource(const struct fl_apiserver *server,
                                  const struct fl_resource *resource)
{
    FL_JSON subresources = discovery_subresources(server, resource);
    json_t *entry = json_pack(
        "{s:s, s:o, s:s, s:s, s:o}", "resource", resource->plural, "responseKind",
        response_kind(resource), "scope", resource->traits.namespaced ? "Namespaced" : "Cluster",
        "singularResource", resource->singular, "verbs", verbs_to_json(resource));

    if (resource->short_names.count)
        (void)json_object_set_new(entry, "shortNames", words_to_json(&resource->short_names));
    if (resource->categories.count)
        (void)json_object_set_new(entry, "categories", words_to_json(&resource->categories));
    if (json_array_size(subresources))
        (void)json_object_set(entry, "subresources", subresources);
    return entry;
}

static json_t *discovery_version(const struct fl_apiserver *server,
                                 const struct fl_group_version *gv)
{
    json_t *resources = json_array();

    for (size_t i = 0; i < gv->count; i++)
        (void)json_array_append_new(resources, discovery_resource(server, gv->items[i]->resource));
    return json_pack("{s:s, s:o, s:s}", "version", gv->version, "resources", resources, "freshness",
                     "Current");
}

/* `argument` is "core" or "groups", and the discovery version behind a slash. */
static struct fl_bytes *make_aggregated(struct fl_request *request, const char *argument)
{
    bool core = fl_str_has_prefix(argument, "core");
    const struct fl_group_version *all;
    size_t count = fl_catalog_group_versions(request->server->catalog, &all);
    json_t *items = json_array(), *versions = NULL;

    for (size_t i = 0; i < count; i++) {
        if (core != !*all[i].group)
            continue;
        if (i == 0 || strcmp(all[i].group, all[i - 1].group) != 0 || !versions) {
            json_t *meta = json_pack("{s:n}", "creationTimestamp");

            versions = json_array();
            if (*all[i].group)
                fl_json_set_str(meta, "name", all[i].group);
            (void)json_array_append_new(
                items, json_pack("{s:o, s:o}", "metadata", meta, "versions", versions));
        }
        (void)json_array_append_new(versions, discovery_version(request->server, &all[i]));
    }
    return to_bytes(json_pack("{s:s, s:s+, s:{}, s:o}", "kind", "APIGroupDiscoveryList",
                              "apiVersion", "apidiscovery.k8s.io/", strchr(argument, '/') + 1,
                              "metadata", "items", items));
}

/* The first form of the Accept header that is served: aggregated v2, v2beta1, or plain. */
static const char *aggregated_version(struct fl_request *request)
{
    const char *rest = fl_http_header(request->http, "Accept");
    char *clause;

    while (rest && (clause = fl_str_next(request->arena, &rest, ','))) {
        if (!strstr(clause, AGGREGATED))
            return NULL;
        if (strstr(clause, "v=v2beta1"))
            return "v2beta1";
        if (strstr(clause, "v=v2;") || fl_str_has_suffix(clause, "v=v2"))
            return "v2";
    }
    return NULL;
}

static void respond_discovery(struct fl_request *request, bool core)
{
    const char *version = aggregated_version(request);
    const char *name;

    if (!version) {
        respond_document(request,
                         core ? get_document(request, "core", make_core, "")
                              : get_document(request, "groups", make_groups, ""),
                         "application/json", false);
        return;
    }
    name = fl_arena_printf(request->arena, "%s/%s", core ? "core" : "groups", version);
    respond_document(request, get_document(request, name, make_aggregated, name),
                     fl_arena_printf(request->arena,
                                     "application/json;g=apidiscovery.k8s.io;v=%s;" AGGREGATED,
                                     version),
                     false);
}

/* OpenAPI */

/* The schemas are not kept with the resources: they are read from where they stand when a document
 * is made. */
struct schemas {
    json_t *builtins;
    struct fl_map *definitions; /* storage name → json_t */
};

static void forget_json(void *value)
{
    json_decref(value);
}

static const json_t *builtin_schema(const struct schemas *schemas,
                                    const struct fl_resource *resource)
{
    json_t *entry;
    size_t i;

    json_array_foreach(schemas->builtins, i, entry)
        if (fl_streq(fl_json_str(entry, "names.plural"), resource->plural) &&
            fl_streq(fl_json_str(entry, "group"), resource->group))
            return json_object_get(entry, "schema");
    return NULL;
}

static const json_t *definition_schema(struct fl_request *request, struct schemas *schemas,
                                       const struct fl_resource *resource)
{
    struct fl_key key = {"customresourcedefinitions.apiextensions.k8s.io", NULL, resource->storage};
    json_t *crd = fl_map_get(schemas->definitions, resource->storage), *version;
    size_t i;

    if (!crd) {
        FL_CLEANUP(fl_object_unrefp)
        struct fl_object *object = fl_store_get(request->server->store, &key);

        if (!object)
            return NULL;
        crd = fl_object_parse(object);
        fl_map_put(schemas->definitions, resource->storage, crd);
    }
    json_array_foreach(fl_json_path(crd, "spec.versions"), i, version)
        if (fl_streq(fl_json_str(version, "name"), resource->version))
            return fl_json_path(version, "schema.openAPIV3Schema");
    return NULL;
}

static size_t collect_kinds(struct fl_request *request, const struct fl_group_version *only,
                            struct schemas *schemas, struct fl_openapi_kind **ret_kinds)
{
    const struct fl_group_version *all;
    size_t versions = fl_catalog_group_versions(request->server->catalog, &all), total = 0;
    struct fl_error err = {0};
    struct fl_openapi_kind *kinds;

    for (size_t i = 0; i < versions; i++)
        total += all[i].count;
    kinds = fl_new_array(request->arena, struct fl_openapi_kind, total);
    *schemas = (struct schemas){.definitions = fl_map_create(forget_json)};
    (void)fl_builtin_load(&schemas->builtins, &err);
    total = 0;
    for (size_t i = 0; i < versions; i++) {
        for (size_t k = 0; k < all[i].count && (!only || only == &all[i]); k++) {
            const struct fl_resource *resource = all[i].items[k]->resource;

            kinds[total].resource = resource;
            kinds[total++].schema = resource->builtin
                                        ? builtin_schema(schemas, resource)
                                        : definition_schema(request, schemas, resource);
        }
    }
    *ret_kinds = kinds;
    return total;
}

static void schemas_finish(struct schemas *schemas)
{
    json_decref(schemas->builtins);
    fl_map_destroy(schemas->definitions);
}

static struct fl_bytes *make_openapi_v3(struct fl_request *request, const char *argument)
{
    const struct fl_group_version *gv = group_version_argument(request, argument);
    struct fl_openapi_kind *kinds;
    struct schemas schemas;
    json_t *document;
    size_t count;

    if (!gv)
        return NULL;
    count = collect_kinds(request, gv, &schemas, &kinds);
    document = fl_openapi_v3(kinds, count, request->server->version);
    schemas_finish(&schemas);
    return to_bytes(document);
}

static struct fl_bytes *make_openapi_v2(struct fl_request *request, const char *argument)
{
    struct fl_openapi_kind *kinds;
    struct schemas schemas;
    size_t count = collect_kinds(request, NULL, &schemas, &kinds);
    FL_JSON document = fl_openapi_v2(kinds, count, request->server->version);
    struct fl_bytes *bytes;
    struct fl_buf buf;

    schemas_finish(&schemas);
    if (strcmp(argument, "json") == 0)
        return fl_json_to_bytes(document);
    fl_buf_init(&buf, 0);
    fl_openapi_v2_protobuf(document, &buf);
    bytes = fl_buf_to_bytes(&buf);
    fl_buf_finish(&buf);
    return bytes;
}

static struct document *openapi_v3_document(struct fl_request *request, const char *group,
                                            const char *version)
{
    return get_document(request,
                        fl_arena_printf(request->arena, "openapi/v3/%s/%s", group, version),
                        make_openapi_v3, fl_arena_printf(request->arena, "%s/%s", group, version));
}

static const char *openapi_path(struct fl_request *request, const struct fl_group_version *gv)
{
    return *gv->group ? fl_arena_printf(request->arena, "apis/%s/%s", gv->group, gv->version)
                      : fl_arena_printf(request->arena, "api/%s", gv->version);
}

static const char *bare_hash(struct fl_request *request, const struct document *document)
{
    return fl_arena_strndup(request->arena, document->etag + 1, strlen(document->etag) - 2);
}

static struct fl_bytes *make_openapi_v3_index(struct fl_request *request, const char *argument)
{
    const struct fl_group_version *all;
    size_t count = fl_catalog_group_versions(request->server->catalog, &all);
    json_t *paths = json_object();

    (void)argument;
    for (size_t i = 0; i < count; i++) {
        const char *path = openapi_path(request, &all[i]);
        const struct document *document =
            openapi_v3_document(request, all[i].group, all[i].version);

        assert(document); /* of a group and version that is served there is one */
        (void)json_object_set_new(
            paths, path,
            json_pack("{s:s}", "serverRelativeURL",
                      fl_arena_printf(request->arena, "/openapi/v3/%s?hash=%s", path,
                                      bare_hash(request, document))));
    }
    return to_bytes(json_pack("{s:o}", "paths", paths));
}

static bool respond_openapi_v3(struct fl_request *request, const char *path)
{
    const char *hash = fl_request_param(request, "hash");
    struct document *document;
    const char *slash;

    if (fl_str_has_prefix(path, "api/")) {
        document = find_group_version(request, "", path + 4)
                       ? openapi_v3_document(request, "", path + 4)
                       : NULL;
    } else {
        slash = fl_str_has_prefix(path, "apis/") ? strrchr(path + 5, '/') : NULL;
        document = slash ? openapi_v3_document(request,
                                               fl_arena_strndup(request->arena, path + 5,
                                                                (size_t)(slash - path - 5)),
                                               slash + 1)
                         : NULL;
    }
    if (!document)
        return false;
    respond_document(request, document, "application/json",
                     fl_streq(hash, bare_hash(request, document)));
    return true;
}

static void respond_openapi_v2(struct fl_request *request)
{
    const char *accept = fl_str_or(fl_http_header(request->http, "Accept"), "");

    if (strstr(accept, PROTOBUF_V2_REQUEST))
        respond_document(request, get_document(request, "v2.pb", make_openapi_v2, "protobuf"),
                         PROTOBUF_V2_TYPE, false);
    else
        respond_document(request, get_document(request, "v2.json", make_openapi_v2, "json"),
                         "application/json", false);
}

/* Which document a path names */

static void respond_root(struct fl_request *request)
{
    const struct fl_group_version *all;
    size_t count = fl_catalog_group_versions(request->server->catalog, &all);
    FL_JSON paths = json_pack("[s,s,s,s,s,s,s,s]", "/api", "/apis", "/healthz", "/livez",
                              "/metrics", "/openapi/v2", "/openapi/v3", "/readyz");
    FL_JSON value = NULL;

    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(
            paths,
            json_string(fl_arena_printf(request->arena, "/%s", openapi_path(request, &all[i]))));
    (void)json_array_append_new(paths, json_string("/version"));
    value = json_pack("{s:O}", "paths", paths);
    fl_respond_json(request, 200, value);
}

static bool respond_group_path(struct fl_request *request, const char *path)
{
    const char *slash = strchr(path, '/');
    struct document *document;

    /* Nothing is kept for names that strangers make up. */
    if (!slash ? !find_group_version(request, path, NULL)
               : strchr(slash + 1, '/') || !group_version_argument(request, path))
        return false;
    if (!slash)
        document = get_document(request, fl_arena_printf(request->arena, "group/%s", path),
                                make_group, path);
    else
        document = get_document(request, fl_arena_printf(request->arena, "list/%s", path),
                                make_resource_list, path);
    if (document)
        respond_document(request, document, "application/json", false);
    return document != NULL;
}

static const char *without_slash(struct fl_request *request, const char *path)
{
    size_t len = strlen(path);

    return len > 1 && path[len - 1] == '/' ? fl_arena_strndup(request->arena, path, len - 1) : path;
}

bool fl_handle_document(struct fl_request *request, const char *raw_path)
{
    const char *path = without_slash(request, raw_path);

    if (strcmp(request->verb, "get") != 0 && strcmp(request->verb, "list") != 0 &&
        strcmp(request->verb, "head") != 0)
        return false;
    if (strcmp(path, "/") == 0)
        respond_root(request);
    else if (strcmp(path, "/api") == 0 || strcmp(path, "/apis") == 0)
        respond_discovery(request, strcmp(path, "/api") == 0);
    else if (strcmp(path, "/api/v1") == 0)
        return respond_group_path(request, "/v1");
    else if (fl_str_has_prefix(path, "/apis/"))
        return respond_group_path(request, path + 6);
    else if (strcmp(path, "/openapi/v3") == 0)
        respond_document(request, get_document(request, "v3", make_openapi_v3_index, ""),
                         "application/json", false);
    else if (fl_str_has_prefix(path, "/openapi/v3/"))
        return respond_openapi_v3(request, path + 12);
    else if (strcmp(path, "/openapi/v2") == 0)
        respond_openapi_v2(request);
    else
        return fl_handle_health(request, path);
    return true;
}
