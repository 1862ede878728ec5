/* Paths and operations of the resources, the same for both versions of OpenAPI. */
#include "api/openapi_internal.h"

#include "lib/str.h"

#include <assert.h>
#include <ctype.h>

/* Sets of parameters; an operation takes one. */
enum {
    TAKES_NOTHING = 0,
    TAKES_GET = 1 << 0,
    TAKES_LIST = 1 << 1,
    TAKES_WRITE = 1 << 2,
    TAKES_PATCH = 1 << 3,
    TAKES_DELETE = 1 << 4,
    TAKES_DELETE_COLLECTION = 1 << 5,
    TAKES_SETS = 6, /* how many sets there are */
};
#define TAKES_WRITES  (TAKES_WRITE | TAKES_PATCH)
#define TAKES_DELETES (TAKES_DELETE | TAKES_DELETE_COLLECTION)
#define TAKES_LISTS   (TAKES_LIST | TAKES_DELETE_COLLECTION)

struct parameter {
    const char *name, *type, *description;
    unsigned sets;
};

static const struct parameter query_parameters[] = {
    {"allowWatchBookmarks", "boolean",
     "Whether a watch may send BOOKMARK events, which carry nothing but a resourceVersion to go on "
     "from.",
     TAKES_LIST},
    {"continue", "string",
     "Where to go on: metadata.continue of the page before. With 410 Expired start again.",
     TAKES_LISTS},
    {"dryRun", "string", "With `All`, do everything but store the result.",
     TAKES_WRITES | TAKES_DELETES},
    {"fieldManager", "string",
     "Who makes the change, as told in metadata.managedFields. Required for apply.", TAKES_WRITES},
    {"fieldSelector", "string", "Only objects whose fields match, as `metadata.name=x`.",
     TAKES_LISTS},
    {"fieldValidation", "string",
     "What to do about unknown and duplicate fields: `Ignore` them, `Warn`, or refuse the request "
     "(`Strict`).",
     TAKES_WRITES},
    {"force", "boolean",
     "With apply, take fields over from other managers instead of reporting a conflict.",
     TAKES_PATCH},
    {"gracePeriodSeconds", "integer", "How long the object may take to end. 0 is at once.",
     TAKES_DELETES},
    {"labelSelector", "string", "Only objects whose labels match, as `a=b,c in (d,e)`.",
     TAKES_LISTS},
    {"limit", "integer",
     "The most objects of one answer; metadata.continue then leads to the next page.", TAKES_LISTS},
    {"orphanDependents", "boolean", "Deprecated, use propagationPolicy.", TAKES_DELETES},
    {"propagationPolicy", "string",
     "What becomes of the objects that this one owns: `Background`, `Foreground` or `Orphan`.",
     TAKES_DELETES},
    {"resourceVersion", "string",
     "The state to read or to watch from; how exactly is said by resourceVersionMatch.",
     TAKES_GET | TAKES_LISTS},
    {"resourceVersionMatch", "string",
     "`Exact`: the state at resourceVersion. `NotOlderThan`: that or a newer one.", TAKES_LISTS},
    {"sendInitialEvents", "boolean",
     "Begin a watch with an ADDED event for each object there is, then a BOOKMARK.", TAKES_LIST},
    {"timeoutSeconds", "integer", "When the server ends the call.", TAKES_LISTS},
    {"watch", "boolean", "Send changes as they happen instead of a list.", TAKES_LIST},
};

enum body { BODY_NONE, BODY_OBJECT, BODY_PATCH, BODY_DELETE_OPTIONS };
enum answer { ANSWER_OBJECT, ANSWER_LIST, ANSWER_STATUS };

struct operation {
    const char *method, *action;
    const char *word; /* begins the operation's id */
    const char *description;
    enum fl_verb verb; /* served where the resource allows it */
    unsigned parameters;
    enum body body;
    enum answer answer;
    bool created, accepted; /* 201 and 202 happen too */
};

static const struct operation collection_operations[] = {
    {"get", "list", "list", "list or watch objects of kind %s", FL_VERB_LIST, TAKES_LIST, BODY_NONE,
     ANSWER_LIST, false, false},
    {"post", "post", "create", "create a %s", FL_VERB_CREATE, TAKES_WRITE, BODY_OBJECT,
     ANSWER_OBJECT, true, true},
    {"delete", "deletecollection", "delete", "delete collection of %s", FL_VERB_DELETE_COLLECTION,
     TAKES_DELETE_COLLECTION, BODY_DELETE_OPTIONS, ANSWER_STATUS, false, false},
};

static const struct operation item_operations[] = {
    {"get", "get", "read", "read the specified %s", FL_VERB_GET, TAKES_GET, BODY_NONE,
     ANSWER_OBJECT, false, false},
    {"put", "put", "replace", "replace the specified %s", FL_VERB_UPDATE, TAKES_WRITE, BODY_OBJECT,
     ANSWER_OBJECT, true, false},
    {"patch", "patch", "patch", "partially update the specified %s", FL_VERB_PATCH, TAKES_PATCH,
     BODY_PATCH, ANSWER_OBJECT, true, false},
    {"delete", "delete", "delete", "delete a %s", FL_VERB_DELETE, TAKES_DELETE, BODY_DELETE_OPTIONS,
     ANSWER_STATUS, false, true},
};

static const struct operation part_operations[] = {
    {"get", "get", "read", "read %s of the specified %s", FL_VERB_GET, TAKES_GET, BODY_NONE,
     ANSWER_OBJECT, false, false},
    {"put", "put", "replace", "replace %s of the specified %s", FL_VERB_UPDATE, TAKES_WRITE,
     BODY_OBJECT, ANSWER_OBJECT, true, false},
    {"patch", "patch", "patch", "partially update %s of the specified %s", FL_VERB_PATCH,
     TAKES_PATCH, BODY_PATCH, ANSWER_OBJECT, true, false},
};

struct walk {
    enum fl_openapi_dialect dialect;
    struct fl_arena *arena;
    json_t *paths;
    /* Equal for all operations, so they are made once and shared by reference. */
    json_t *parameters[TAKES_SETS + 1];
    json_t *pretty, *namespace, *media, *unauthorized;
};

/* One path of one resource. */
struct place {
    const struct fl_resource *resource;
    const char *subresource; /* "status", or NULL */
    bool namespaced, all_namespaces, collection, scale;
};

static json_t *parameter(const struct walk *walk, const char *name, const char *in,
                         const char *type, const char *description)
{
    json_t *made = json_pack("{s:s, s:s, s:s}", "name", name, "in", in, "description", description);
    json_t *holder = made;

    if (strcmp(in, "path") == 0)
        json_object_set_new(made, "required", json_true());
    if (walk->dialect == FL_OPENAPI_V3) {
        holder = json_object();
        json_object_set_new(made, "schema", holder);
    }
    json_object_set_new(holder, "type", json_string(type));
    json_object_set_new(holder, "uniqueItems", json_true());
    return made;
}

static unsigned set_index(unsigned set)
{
    return set ? (unsigned)__builtin_ctz(set) : TAKES_SETS;
}

static void make_parameters(struct walk *walk)
{
    for (unsigned set = 0; set <= TAKES_SETS; set++)
        walk->parameters[set] = json_array();
    for (size_t i = 0; i < FL_COUNT_OF(query_parameters); i++) {
        const struct parameter *p = &query_parameters[i];
        FL_JSON made = parameter(walk, p->name, "query", p->type, p->description);

        for (unsigned set = 0; set < TAKES_SETS; set++)
            if (p->sets & (1u << set))
                json_array_append(walk->parameters[set], made);
    }
    walk->pretty = parameter(walk, "pretty", "query", "string",
                             "With `true`, the answer is indented for people.");
    walk->namespace = parameter(walk, "namespace", "path", "string", "the namespace to work in");
}

static void begin(struct walk *walk, enum fl_openapi_dialect dialect)
{
    *walk = (struct walk){
        .dialect = dialect,
        .arena = fl_arena_create(),
        .paths = json_object(),
        .media = json_pack("[s, s]", "application/json", "application/yaml"),
        .unauthorized = json_pack("{s:s}", "description", "Unauthorized"),
    };
    make_parameters(walk);
}

static json_t *finish(struct walk *walk)
{
    for (unsigned set = 0; set <= TAKES_SETS; set++)
        json_decref(walk->parameters[set]);
    json_decref(walk->pretty);
    json_decref(walk->namespace);
    json_decref(walk->media);
    json_decref(walk->unauthorized);
    fl_arena_destroy(walk->arena);
    return walk->paths;
}

/* "flops.dev" becomes "flopsDev" or, for ids, "FlopsDev"; "rbac.authorization.k8s.io" loses the
 * suffix that all groups of Kubernetes have. */
static char *camel_group(struct walk *walk, const char *group, bool upper)
{
    static const char suffix[] = ".k8s.io";
    const char *name = *group ? group : "core";
    size_t len = strlen(name), used = 0;
    char *text;

    if (fl_str_has_suffix(name, suffix))
        len -= strlen(suffix);
    text = fl_alloc(walk->arena, len + 1);
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)name[i])) {
            upper = true;
            continue;
        }
        text[used++] = upper ? (char)toupper((unsigned char)name[i]) : name[i];
        upper = false;
    }
    return text;
}

static const char *capital(struct walk *walk, const char *word)
{
    char *text = fl_arena_strdup(walk->arena, word);

    *text = (char)toupper((unsigned char)*text);
    return text;
}

static json_t *operation_id(struct walk *walk, const struct place *place,
                            const struct operation *operation)
{
    const struct fl_resource *resource = place->resource;
    bool whole = operation->verb == FL_VERB_DELETE_COLLECTION;

    return json_string(fl_arena_printf(
        walk->arena, "%s%s%s%s%s%s%s%s", operation->word, camel_group(walk, resource->group, true),
        capital(walk, resource->version), whole ? "Collection" : "",
        place->namespaced && !place->all_namespaces ? "Namespaced" : "", resource->kind,
        place->subresource ? capital(walk, place->subresource) : "",
        place->all_namespaces ? "ForAllNamespaces" : ""));
}

static json_t *description(struct walk *walk, const struct place *place,
                           const struct operation *operation)
{
    char *text;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    text = place->subresource
               ? fl_arena_printf(walk->arena, operation->description, place->subresource,
                                 place->resource->kind)
               : fl_arena_printf(walk->arena, operation->description, place->resource->kind);
#pragma GCC diagnostic pop
    return json_string(text);
}

/* The definition that a body or an answer follows. */
static const char *object_name(struct walk *walk, const struct place *place)
{
    if (place->scale)
        return FL_OPENAPI_SCALE;
    return fl_openapi_definition_name(walk->arena, place->resource, place->resource->kind);
}

static const char *answer_name(struct walk *walk, const struct place *place, enum answer answer)
{
    if (answer == ANSWER_STATUS)
        return FL_OPENAPI_META_V1 "Status";
    if (answer == ANSWER_LIST)
        return fl_openapi_definition_name(walk->arena, place->resource, place->resource->list_kind);
    return object_name(walk, place);
}

static const char *body_name(struct walk *walk, const struct place *place, enum body body)
{
    if (body == BODY_PATCH)
        return FL_OPENAPI_META_V1 "Patch";
    if (body == BODY_DELETE_OPTIONS)
        return FL_OPENAPI_META_V1 "DeleteOptions";
    return object_name(walk, place);
}

static json_t *consumes(const struct walk *walk, const struct place *place, enum body body)
{
    json_t *types;

    if (body != BODY_PATCH)
        return place->resource->builtin ? json_pack("[s]", "*/*") : json_incref(walk->media);
    types = json_pack("[s, s, s]", "application/json-patch+json", "application/merge-patch+json",
                      "application/apply-patch+yaml");
    if (place->resource->builtin)
        json_array_append_new(types, json_string("application/strategic-merge-patch+json"));
    return types;
}

/* v3: {media type: {schema}}. */
static json_t *content(const struct walk *walk, const json_t *types, const char *definition)
{
    FL_JSON entry = json_pack("{s:o}", "schema", fl_openapi_ref(walk->dialect, definition));
    json_t *made = json_object(), *type;
    size_t i;

    json_array_foreach((json_t *)types, i, type)
        json_object_set(made, json_string_value(type), entry);
    return made;
}

static json_t *answer(struct walk *walk, const char *text, const char *definition)
{
    json_t *made = json_pack("{s:s}", "description", text);

    if (walk->dialect == FL_OPENAPI_V3)
        json_object_set_new(made, "content", content(walk, walk->media, definition));
    else
        json_object_set_new(made, "schema", fl_openapi_ref(walk->dialect, definition));
    return made;
}

static json_t *responses(struct walk *walk, const struct place *place,
                         const struct operation *operation)
{
    const char *definition = answer_name(walk, place, operation->answer);
    json_t *made = json_object();

    json_object_set_new(made, "200", answer(walk, "OK", definition));
    if (operation->created)
        json_object_set_new(made, "201", answer(walk, "Created", definition));
    if (operation->accepted)
        json_object_set_new(made, "202", answer(walk, "Accepted", definition));
    json_object_set(made, "401", walk->unauthorized);
    return made;
}

static void add_body_v3(struct walk *walk, const struct place *place,
                        const struct operation *operation, json_t *made)
{
    FL_JSON types = consumes(walk, place, operation->body);
    json_t *body = json_object();

    json_object_set_new(made, "requestBody", body);
    json_object_set_new(body, "content",
                        content(walk, types, body_name(walk, place, operation->body)));
    if (operation->body != BODY_DELETE_OPTIONS)
        json_object_set_new(body, "required", json_true());
}

/* v2 has the body among the parameters, so these are a list of the operation's own. */
static void add_body_v2(struct walk *walk, const struct place *place,
                        const struct operation *operation, json_t *made)
{
    const char *definition = body_name(walk, place, operation->body);
    json_t *body = json_pack("{s:s, s:s, s:o}", "name", "body", "in", "body", "schema",
                             fl_openapi_ref(walk->dialect, definition));
    json_t *parameters = json_array();

    if (operation->body != BODY_DELETE_OPTIONS)
        json_object_set_new(body, "required", json_true());
    json_array_append_new(parameters, body);
    json_array_extend(parameters, json_object_get(made, "parameters"));
    json_object_set_new(made, "parameters", parameters);
}

static json_t *make_operation(struct walk *walk, const struct place *place,
                              const struct operation *operation)
{
    const struct fl_resource *resource = place->resource;
    json_t *made = json_object();

    json_object_set_new(made, "tags",
                        json_pack("[s]", fl_arena_printf(walk->arena, "%s_%s",
                                                         camel_group(walk, resource->group, false),
                                                         resource->version)));
    json_object_set_new(made, "description", description(walk, place, operation));
    json_object_set_new(made, "operationId", operation_id(walk, place, operation));
    json_object_set(made, "parameters", walk->parameters[set_index(operation->parameters)]);
    json_object_set_new(made, "responses", responses(walk, place, operation));
    if (operation->body != BODY_NONE)
        (walk->dialect == FL_OPENAPI_V3 ? add_body_v3 : add_body_v2)(walk, place, operation, made);
    if (walk->dialect == FL_OPENAPI_V2) {
        json_object_set_new(made, "consumes", consumes(walk, place, operation->body));
        json_object_set(made, "produces", walk->media);
        json_object_set_new(made, "schemes", json_pack("[s]", "https"));
    }
    json_object_set_new(made, "x-kubernetes-action", json_string(operation->action));
    json_object_set_new(made, "x-kubernetes-group-version-kind",
                        fl_openapi_gvk(resource, resource->kind));
    return made;
}

static char *path_text(struct walk *walk, const struct place *place)
{
    const struct fl_resource *resource = place->resource;

    return fl_arena_printf(walk->arena, "%s%s/%s%s%s%s%s", *resource->group ? "/apis/" : "/api/",
                           resource->api_version,
                           place->namespaced && !place->all_namespaces ? "namespaces/{namespace}/"
                                                                       : "",
                           resource->plural, place->collection ? "" : "/{name}",
                           place->subresource ? "/" : "", fl_str_or(place->subresource, ""));
}

static json_t *path_parameters(struct walk *walk, const struct place *place)
{
    json_t *list = json_array();

    if (!place->collection)
        json_array_append_new(
            list, parameter(walk, "name", "path", "string",
                            fl_arena_printf(walk->arena, "name of the %s", place->resource->kind)));
    if (place->namespaced && !place->all_namespaces)
        json_array_append(list, walk->namespace);
    json_array_append(list, walk->pretty);
    return list;
}

static void add_path(struct walk *walk, const struct place *place,
                     const struct operation *operations, size_t count)
{
    json_t *path = json_object();

    for (size_t i = 0; i < count; i++)
        if (fl_resource_allows(place->resource, operations[i].verb))
            json_object_set_new(path, operations[i].method,
                                make_operation(walk, place, &operations[i]));
    if (json_object_size(path) == 0) {
        json_decref(path);
        return;
    }
    json_object_set_new(path, "parameters", path_parameters(walk, place));
    json_object_set_new(walk->paths, path_text(walk, place), path);
}

static void add_part(struct walk *walk, struct place place, const char *subresource)
{
    bool finalize = strcmp(subresource, "finalize") == 0;

    place.subresource = subresource;
    place.scale = strcmp(subresource, "scale") == 0;
    if (finalize) /* it can only be put */
        add_path(walk, &place, &part_operations[1], 1);
    else
        add_path(walk, &place, part_operations, FL_COUNT_OF(part_operations));
}

static void add_resource(struct walk *walk, const struct fl_resource *resource)
{
    struct place place = {
        .resource = resource, .namespaced = resource->traits.namespaced, .collection = true};

    add_path(walk, &place, collection_operations, FL_COUNT_OF(collection_operations));
    if (place.namespaced) {
        struct place everywhere = place;

        everywhere.all_namespaces = true;
        add_path(walk, &everywhere, collection_operations, 1);
    }
    place.collection = false;
    add_path(walk, &place, item_operations, FL_COUNT_OF(item_operations));
    if (resource->traits.has_status)
        add_part(walk, place, "status");
    if (resource->has_scale)
        add_part(walk, place, "scale");
    if (resource->has_finalize)
        add_part(walk, place, "finalize");
}

json_t *fl_openapi_paths(enum fl_openapi_dialect dialect, const struct fl_openapi_kind *kinds,
                         size_t count)
{
    struct walk walk;

    begin(&walk, dialect);
    for (size_t i = 0; i < count; i++)
        add_resource(&walk, kinds[i].resource);
    return finish(&walk);
}
