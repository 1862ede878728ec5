#include "controller/source/applyset_internal.h"

#include "lib/str.h"

static void document_destroy(void *value)
{
    json_decref(value);
}

void fl_mapper_init(struct fl_mapper *mapper, struct fl_apiclient *client, struct fl_arena *arena)
{
    *mapper = (struct fl_mapper){client, arena, fl_map_create(document_destroy), NULL};
}

void fl_mapper_finish(struct fl_mapper *mapper)
{
    fl_map_destroy(mapper->documents);
    json_decref(FL_TAKE(mapper->definitions));
}

void fl_mapper_refresh(struct fl_mapper *mapper)
{
    fl_mapper_finish(mapper);
    mapper->documents = fl_map_create(document_destroy);
}

static int get(struct fl_mapper *mapper, const char *target, json_t **ret_value,
               struct fl_error *err)
{
    const struct fl_api_call call = {.method = "GET", .target = target};

    return fl_apiclient_call(mapper->client, &call, ret_value, err);
}

static const char *group_target(struct fl_mapper *mapper, const char *group)
{
    return fl_arena_printf(mapper->arena, "/apis/%s", fl_url_encode(mapper->arena, group));
}

/* The list of a version's resources; lent. What is not served is an empty list. */
static int get_document(struct fl_mapper *mapper, const char *group, const char *version,
                        json_t **ret_document, struct fl_error *err)
{
    const char *key = fl_arena_printf(mapper->arena, "%s/%s", group, version);
    const char *base = *group ? group_target(mapper, group) : "/api";
    json_t *document = fl_map_get(mapper->documents, key);

    if (!document) {
        int r = get(
            mapper,
            fl_arena_printf(mapper->arena, "%s/%s", base, fl_url_encode(mapper->arena, version)),
            &document, err);

        if (r == FL_E_NOT_FOUND)
            document = json_object();
        else if (r < 0)
            return fl_error_wrap(err, "the kinds of %s", *group ? key : version);
        fl_map_put(mapper->documents, key, document);
    }
    *ret_document = document;
    return 0;
}

/* Lists name subresources, too ("pods/status"), with the kind of what they take. */
static const json_t *find_kind(const json_t *document, const char *kind)
{
    size_t i;
    const json_t *entry;

    json_array_foreach(json_object_get(document, "resources"), i, entry) {
        const char *name = fl_json_str(entry, "name");

        if (name && !strchr(name, '/') && fl_streq(fl_json_str(entry, "kind"), kind))
            return entry;
    }
    return NULL;
}

int fl_mapper_find(struct fl_mapper *mapper, const char *group, const char *version,
                   const char *kind, struct fl_gvr *ret_gvr, struct fl_error *err)
{
    const json_t *entry;
    json_t *document;
    int r = get_document(mapper, group, version, &document, err);

    if (r < 0)
        return r;
    entry = find_kind(document, kind);
    if (!entry)
        return fl_error_set(err, FL_E_NOT_FOUND, "the API has no kind %s in %s%s%s", kind, group,
                            *group ? "/" : "", version);
    *ret_gvr = (struct fl_gvr){
        .group = group,
        .version = version,
        .plural = fl_arena_strdup(mapper->arena, fl_json_str(entry, "name")),
        .namespaced = fl_json_bool(entry, "namespaced", false),
    };
    return 0;
}

static int find_among(struct fl_mapper *mapper, const char *group, const json_t *versions,
                      const char *kind, struct fl_gvr *ret_gvr, struct fl_error *err)
{
    size_t i;
    const json_t *entry;

    json_array_foreach(versions, i, entry) {
        const char *version =
            fl_arena_strdup(mapper->arena, fl_str_or(fl_json_str(entry, "version"), ""));
        int r = fl_mapper_find(mapper, group, version, kind, ret_gvr, err);

        if (r != FL_E_NOT_FOUND)
            return r;
    }
    return fl_error_set(err, FL_E_NOT_FOUND, "the API has no kind %s in %s", kind, group);
}

int fl_mapper_find_any(struct fl_mapper *mapper, const char *group, const char *version,
                       const char *kind, struct fl_gvr *ret_gvr, struct fl_error *err)
{
    FL_JSON document = NULL;
    int r = fl_mapper_find(mapper, group, version, kind, ret_gvr, err);

    if (r != FL_E_NOT_FOUND || !*group)
        return r;
    r = get(mapper, group_target(mapper, group), &document, err);
    if (r < 0)
        return r;
    return find_among(mapper, group, json_object_get(document, "versions"), kind, ret_gvr, err);
}

int fl_mapper_is_defined(struct fl_mapper *mapper, struct fl_apiclient *witness, const char *group,
                         const char *kind, struct fl_error *err)
{
    static const struct fl_gvr definitions = {"apiextensions.k8s.io", "v1",
                                              "customresourcedefinitions", false};
    size_t i;
    const json_t *definition;
    int r = 0;

    if (witness && !mapper->definitions)
        r = fl_apiclient_list(witness, &definitions, NULL, NULL, &mapper->definitions, err);
    if (r < 0)
        return fl_error_wrap(err, "whether %s of %s is defined", kind, group);
    json_array_foreach(mapper->definitions, i, definition)
        if (fl_streq(fl_json_str(definition, "spec.group"), group) &&
            fl_streq(fl_json_str(definition, "spec.names.kind"), kind))
            return 1;
    return 0;
}
