#include "api/resource.h"

#include "lib/str.h"
#include "lib/yaml.h"

#include <string.h>

static const char *const verb_names[FL_VERB_COUNT] = {
    "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection",
};

const char *fl_verb_name(enum fl_verb verb)
{
    return verb_names[verb];
}

/* The lists of metadata, the only ones that built-in kinds merge strategically here. */
static const struct fl_strategic_list metadata_lists[] = {
    {"metadata.ownerReferences", "uid"},
    {"metadata.finalizers", NULL},
};

static struct fl_resource *create(void)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_resource *resource = fl_new(arena, struct fl_resource);

    resource->refs = 1;
    resource->arena = arena;
    return resource;
}

struct fl_resource *fl_resource_ref(struct fl_resource *resource)
{
    __atomic_add_fetch(&resource->refs, 1, __ATOMIC_RELAXED);
    return resource;
}

void fl_resource_unref(struct fl_resource *resource)
{
    if (!resource || __atomic_sub_fetch(&resource->refs, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    fl_schema_unref(resource->schema);
    fl_arena_destroy(resource->arena); /* the resource itself is in it */
}

static const char *text(struct fl_resource *resource, const json_t *value, const char *path)
{
    return fl_arena_strdup(resource->arena, fl_str_or(fl_json_str(value, path), ""));
}

static void read_words(struct fl_resource *resource, const json_t *list, const char *member,
                       struct fl_words *words)
{
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)list, i, item) {
        const char *word = member ? fl_json_str(item, member) : json_string_value(item);

        if (word && words->count < FL_RESOURCE_WORDS_MAX)
            words->items[words->count++] = fl_arena_strdup(resource->arena, word);
    }
}

static void read_names(struct fl_resource *resource, const json_t *names)
{
    resource->plural = text(resource, names, "plural");
    resource->singular = text(resource, names, "singular");
    resource->kind = text(resource, names, "kind");
    resource->list_kind = text(resource, names, "listKind");
    read_words(resource, json_object_get(names, "shortNames"), NULL, &resource->short_names);
    read_words(resource, json_object_get(names, "categories"), NULL, &resource->categories);
    if (*resource->group) {
        resource->api_version =
            fl_arena_printf(resource->arena, "%s/%s", resource->group, resource->version);
        resource->storage =
            fl_arena_printf(resource->arena, "%s.%s", resource->plural, resource->group);
    } else {
        resource->api_version = resource->version;
        resource->storage = resource->plural;
    }
}

static int compile_schema(struct fl_resource *resource, const json_t *schema, const char *path,
                          struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_field_errors errors;

    if (!schema)
        return 0;
    fl_field_errors_init(&errors, arena);
    return fl_schema_compile(schema, path, &resource->schema, &errors, err);
}

static const char *path_or_null(struct fl_resource *resource, const json_t *scale, const char *key)
{
    const char *path = fl_json_str(scale, key);

    return path && *path ? fl_arena_strdup(resource->arena, path) : NULL;
}

static void read_subresources(struct fl_resource *resource, const json_t *version)
{
    const json_t *scale = fl_json_path(version, "subresources.scale");

    resource->traits.has_status = fl_json_path(version, "subresources.status") != NULL;
    resource->has_scale = scale != NULL;
    resource->scale_spec_path = path_or_null(resource, scale, "specReplicasPath");
    resource->scale_status_path = path_or_null(resource, scale, "statusReplicasPath");
    resource->scale_selector_path = path_or_null(resource, scale, "labelSelectorPath");
}

static void read_deprecation(struct fl_resource *resource, const json_t *version)
{
    const char *warning = fl_json_str(version, "deprecationWarning");

    resource->deprecated = fl_json_bool(version, "deprecated", false);
    resource->deprecation_warning = warning
                                        ? fl_arena_strdup(resource->arena, warning)
                                        : fl_arena_printf(resource->arena, "%s %s is deprecated",
                                                          resource->api_version, resource->kind);
}

int fl_resource_from_crd(const json_t *crd, const json_t *version,
                         struct fl_resource **ret_resource, struct fl_error *err)
{
    FL_CLEANUP(fl_resource_unrefp) struct fl_resource *resource = create();
    json_t *columns = json_object_get(version, "additionalPrinterColumns");
    int r;

    resource->group = text(resource, crd, "spec.group");
    resource->version = text(resource, version, "name");
    read_names(resource, fl_json_path(crd, "spec.names"));
    resource->traits.namespaced = fl_streq(fl_json_str(crd, "spec.scope"), "Namespaced");
    resource->traits.has_generation = true;
    resource->verbs = (1u << FL_VERB_COUNT) - 1;
    read_subresources(resource, version);
    read_deprecation(resource, version);
    read_words(resource, json_object_get(version, "selectableFields"), "jsonPath",
               &resource->selectable);
    if (columns)
        resource->printer_columns = fl_json_in_arena(resource->arena, json_deep_copy(columns));
    r = compile_schema(resource, fl_json_path(version, "schema.openAPIV3Schema"),
                       "schema.openAPIV3Schema", err);
    if (r < 0)
        return fl_error_wrap(err, "%s %s", resource->storage, resource->version);
    *ret_resource = FL_TAKE(resource);
    return 0;
}

static unsigned read_verbs(const json_t *list)
{
    unsigned verbs = 0;
    json_t *item;
    size_t i;

    if (!list)
        return (1u << FL_VERB_COUNT) - 1;
    json_array_foreach((json_t *)list, i, item)
        for (unsigned verb = 0; verb < FL_VERB_COUNT; verb++)
            if (strcmp(verb_names[verb], json_string_value(item)) == 0)
                verbs |= 1u << verb;
    return verbs;
}

static bool list_names(const json_t *list, const char *name)
{
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)list, i, item)
        if (fl_streq(json_string_value(item), name))
            return true;
    return false;
}

static void read_builtin_traits(struct fl_resource *resource, const json_t *entry)
{
    const json_t *subresources = json_object_get(entry, "subresources");
    const char *rule = fl_json_str(entry, "nameRule");

    resource->traits = (struct fl_traits){
        .namespaced = fl_streq(fl_json_str(entry, "scope"), "Namespaced"),
        .has_status = list_names(subresources, "status"),
        .has_generation = fl_json_bool(entry, "generation", false),
        .namespace_like = fl_streq(rule, "label"),
        .loose_names = fl_streq(rule, "pathSegment"),
    };
    resource->has_finalize = list_names(subresources, "finalize");
}

/* What decodes bytes of a built-in kind takes empty ones, which the format's check refuses; that
 * they are base64 is checked by who decodes them. Documents keep the format. */
static void forget_byte_formats(json_t *schema)
{
    const char *key;
    json_t *value;
    size_t i;

    if (fl_streq(fl_json_str(schema, "format"), "byte"))
        (void)json_object_del(schema, "format");
    json_object_foreach(schema, key, value)
        forget_byte_formats(value);
    json_array_foreach(schema, i, value)
        forget_byte_formats(value);
}

int fl_resource_from_builtin(const json_t *entry, struct fl_resource **ret_resource,
                             struct fl_error *err)
{
    FL_CLEANUP(fl_resource_unrefp) struct fl_resource *resource = create();
    FL_JSON schema = NULL;
    int r;

    resource->builtin = true;
    resource->group = text(resource, entry, "group");
    resource->version = text(resource, entry, "version");
    read_names(resource, json_object_get(entry, "names"));
    read_builtin_traits(resource, entry);
    resource->converted = json_object_get(entry, "storage") != NULL;
    if (resource->converted)
        resource->storage = text(resource, entry, "storage");
    resource->verbs = read_verbs(json_object_get(entry, "verbs"));
    read_words(resource, json_object_get(entry, "fieldSelectors"), NULL, &resource->selectable);
    resource->strategic_lists = metadata_lists;
    resource->strategic_list_count = FL_COUNT_OF(metadata_lists);
    schema = json_deep_copy(json_object_get(entry, "schema"));
    forget_byte_formats(schema);
    r = compile_schema(resource, schema, "schema", err);
    if (r < 0)
        return fl_error_wrap(err, "built-in %s", resource->storage);
    *ret_resource = FL_TAKE(resource);
    return 0;
}

int fl_resource_stale(const struct fl_resource *resource, const char *name, struct fl_error *err)
{
    return fl_error_set(err, FL_E_CONFLICT,
                        "Operation cannot be fulfilled on %s \"%s\": the object has been modified; "
                        "please apply your changes to the latest version and try again",
                        fl_resource_display(resource), name);
}

/* events.k8s.io/v1 names some members of an event anew; nothing else differs. */
static const char *const event_names[][2] = {
    /* stored, shown */
    {"involvedObject", "regarding"},
    {"message", "note"},
    {"reportingComponent", "reportingController"},
    {"source", "deprecatedSource"},
    {"firstTimestamp", "deprecatedFirstTimestamp"},
    {"lastTimestamp", "deprecatedLastTimestamp"},
    {"count", "deprecatedCount"},
};

static void rename_members(json_t *object, int from, int to)
{
    for (size_t i = 0; i < FL_COUNT_OF(event_names); i++) {
        json_t *value = json_object_get(object, event_names[i][from]);

        if (!value)
            continue;
        (void)json_object_set(object, event_names[i][to], value);
        (void)json_object_del(object, event_names[i][from]);
    }
}

void fl_resource_from_stored(const struct fl_resource *resource, json_t *object)
{
    fl_json_set_str(object, "apiVersion", resource->api_version);
    if (resource->converted)
        rename_members(object, 0, 1);
}

void fl_resource_to_stored(const struct fl_resource *resource, json_t *object)
{
    if (!resource->converted)
        return;
    fl_json_set_str(object, "apiVersion", "v1");
    rename_members(object, 1, 0);
}

/* The table is text in the program, so that it is as easy to read as a CRD. Its symbols are global:
 * arm64's linker finds what is local to an object by its section alone. */
#define EMBED(symbol, path)                                                                        \
    __asm__(".section .rodata\n.global " #symbol "\n.hidden " #symbol "\n" #symbol                 \
            ":\n.incbin \"" path "\"\n.byte 0\n.previous\n");                                      \
    extern const char symbol[] __attribute__((visibility("hidden")))

EMBED(fl_builtin_core, "api/builtin/core.yaml");
EMBED(fl_builtin_groups, "api/builtin/groups.yaml");

int fl_builtin_load(json_t **ret_entries, struct fl_error *err)
{
    FL_JSON entries = NULL;
    FL_JSON more = NULL;
    int r;

    r = fl_yaml_parse(fl_builtin_core, strlen(fl_builtin_core), NULL, &entries, err);
    if (r == 0)
        r = fl_yaml_parse(fl_builtin_groups, strlen(fl_builtin_groups), NULL, &more, err);
    if (r < 0)
        return fl_error_wrap(err, "table of built-in kinds");
    (void)json_array_extend(entries, more);
    *ret_entries = FL_TAKE(entries);
    return 0;
}
