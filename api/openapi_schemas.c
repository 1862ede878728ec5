/* Definitions: the kinds' own schemas as each version of OpenAPI may say them, their lists, and the
 * types of Kubernetes that they and the operations refer to. */
#include "api/openapi_internal.h"

#include "lib/str.h"

#include <assert.h>

/* What a member of a common type is. REF and REFS name another common type. */
enum shape { TEXT, TRUTH, INT32, INT64, TEXTS, TEXT_MAP, REF, REFS, OBJECT, TIMESTAMP };

struct member {
    const char *name;
    enum shape shape;
    const char *target; /* the type that REF and REFS mean */
    const char *description;
    bool required;
    const char *list_type; /* x-kubernetes-list-type */
    const char *merge_key; /* the key by which lists of objects are merged */
    bool merges;           /* a strategic merge patch merges this list */
};

struct type {
    const char *name; /* below meta.v1 unless `full_name` */
    const char *full_name;
    enum shape shape; /* OBJECT with members, or a scalar */
    const char *description;
    const struct member *members;
    size_t member_count;
    const char *kind; /* a kind of its own: apiVersion and kind are members too */
    const char *kind_group;
    bool atomic;
};

#define API_VERSION_TEXT "The group and version of the schema that this object follows."
#define KIND_TEXT        "The kind of the object, in CamelCase. It cannot be changed."
#define METADATA_TEXT    "Name, namespace, labels and what else every object has."

static const struct member object_meta[] = {
    {.name = "annotations",
     .shape = TEXT_MAP,
     .description =
         "Text by key that tools and people attach. It cannot be selected by; all values "
         "together are at most 256 KiB."},
    {.name = "creationTimestamp",
     .shape = REF,
     .target = "Time",
     .description = "When the object was created, in UTC. Set by the server."},
    {.name = "deletionGracePeriodSeconds",
     .shape = INT64,
     .description = "How long the object may take to end once it is being deleted. Set by the "
                    "server."},
    {.name = "deletionTimestamp",
     .shape = REF,
     .target = "Time",
     .description =
         "Set by the server when deletion was asked for while finalizers hold the object. "
         "It is gone when the list of finalizers is empty."},
    {.name = "finalizers",
     .shape = TEXTS,
     .list_type = "set",
     .merges = true,
     .description = "Who must act before a deleted object may go. Each takes its own entry away "
                    "when it is done."},
    {.name = "generateName",
     .shape = TEXT,
     .description = "A prefix from which the server makes a unique name where `name` is empty."},
    {.name = "generation",
     .shape = INT64,
     .description = "A number that grows with each change of what is wanted. Set by the server."},
    {.name = "labels",
     .shape = TEXT_MAP,
     .description = "Short values by key, to organise objects and to select them."},
    {.name = "managedFields",
     .shape = REFS,
     .target = "ManagedFieldsEntry",
     .list_type = "atomic",
     .description = "Which manager set which fields. Kept by the server for apply."},
    {.name = "name",
     .shape = TEXT,
     .description =
         "The object's name, unique for its kind in its namespace. It cannot be changed."},
    {.name = "namespace",
     .shape = TEXT,
     .description =
         "The namespace the object is in; none for kinds of the whole cluster. It cannot "
         "be changed."},
    {.name = "ownerReferences",
     .shape = REFS,
     .target = "OwnerReference",
     .list_type = "map",
     .merge_key = "uid",
     .merges = true,
     .description =
         "The objects this one belongs to. When all of them are deleted, so is this one."},
    {.name = "resourceVersion",
     .shape = TEXT,
     .description = "Changes with each write. A write that names an older one is refused with a "
                    "conflict. It has no meaning but to be given back."},
    {.name = "selfLink", .shape = TEXT, .description = "Not used any more."},
    {.name = "uid",
     .shape = TEXT,
     .description =
         "Tells this object from others of the same name before and after it. Set by the "
         "server."},
};

static const struct member list_meta[] = {
    {.name = "continue",
     .shape = TEXT,
     .description =
         "Given back as parameter `continue`, it leads to the next page. Empty on the last "
         "one."},
    {.name = "remainingItemCount",
     .shape = INT64,
     .description = "How many objects are on the pages after this one, where that is known."},
    {.name = "resourceVersion",
     .shape = TEXT,
     .description = "The state that was listed. A watch goes on from it."},
    {.name = "selfLink", .shape = TEXT, .description = "Not used any more."},
};

static const struct member managed_fields_entry[] = {
    {.name = "apiVersion",
     .shape = TEXT,
     .description = "The version of the object whose fields are meant."},
    {.name = "fieldsType", .shape = TEXT, .description = "Always FieldsV1."},
    {.name = "fieldsV1", .shape = REF, .target = "FieldsV1", .description = "The fields."},
    {.name = "manager", .shape = TEXT, .description = "Who set them."},
    {.name = "operation", .shape = TEXT, .description = "How: Apply or Update."},
    {.name = "subresource",
     .shape = TEXT,
     .description = "Through which subresource, such as status; empty for the object itself."},
    {.name = "time", .shape = REF, .target = "Time", .description = "When the entry last changed."},
};

static const struct member owner_reference[] = {
    {.name = "apiVersion",
     .shape = TEXT,
     .required = true,
     .description = "The owner's API version."},
    {.name = "blockOwnerDeletion",
     .shape = TRUTH,
     .description = "If true, an owner deleted in the foreground stays until this object is gone."},
    {.name = "controller",
     .shape = TRUTH,
     .description = "If true, the owner manages this object. At most one owner does."},
    {.name = "kind", .shape = TEXT, .required = true, .description = "The owner's kind."},
    {.name = "name", .shape = TEXT, .required = true, .description = "The owner's name."},
    {.name = "uid", .shape = TEXT, .required = true, .description = "The owner's uid."},
};

static const struct member delete_options[] = {
    {.name = "dryRun",
     .shape = TEXTS,
     .list_type = "atomic",
     .description = "With `All`, do everything but store the result."},
    {.name = "gracePeriodSeconds",
     .shape = INT64,
     .description = "How long the object may take to end. 0 is at once."},
    {.name = "ignoreStoreReadErrorWithClusterBreakingPotential",
     .shape = TRUTH,
     .description = "Accepted for clients that set it."},
    {.name = "orphanDependents",
     .shape = TRUTH,
     .description = "Deprecated, use propagationPolicy."},
    {.name = "preconditions",
     .shape = REF,
     .target = "Preconditions",
     .description = "What must hold, or the object is not deleted."},
    {.name = "propagationPolicy",
     .shape = TEXT,
     .description = "What becomes of the objects that this one owns: Background, Foreground or "
                    "Orphan."},
};

static const struct member preconditions[] = {
    {.name = "resourceVersion",
     .shape = TEXT,
     .description = "The resourceVersion the object must have."},
    {.name = "uid", .shape = TEXT, .description = "The uid the object must have."},
};

static const struct member status[] = {
    {.name = "code", .shape = INT32, .description = "The HTTP status."},
    {.name = "details",
     .shape = REF,
     .target = "StatusDetails",
     .list_type = "atomic",
     .description = "What it is about, and the causes."},
    {.name = "message", .shape = TEXT, .description = "A sentence for people."},
    {.name = "metadata", .shape = REF, .target = "ListMeta", .description = "Empty."},
    {.name = "reason",
     .shape = TEXT,
     .description = "A CamelCase word for programs, such as NotFound."},
    {.name = "status", .shape = TEXT, .description = "Success or Failure."},
};

static const struct member status_cause[] = {
    {.name = "field", .shape = TEXT, .description = "The field, such as `spec.tiers[0].name`."},
    {.name = "message", .shape = TEXT, .description = "What is wrong with it."},
    {.name = "reason",
     .shape = TEXT,
     .description = "A CamelCase word for programs, such as FieldValueInvalid."},
};

static const struct member status_details[] = {
    {.name = "causes",
     .shape = REFS,
     .target = "StatusCause",
     .list_type = "atomic",
     .description = "Each fault that was found."},
    {.name = "group", .shape = TEXT, .description = "The API group of what it is about."},
    {.name = "kind", .shape = TEXT, .description = "Its kind or resource."},
    {.name = "name", .shape = TEXT, .description = "Its name."},
    {.name = "retryAfterSeconds",
     .shape = INT32,
     .description = "When it is worth to try again, if it is."},
    {.name = "uid", .shape = TEXT, .description = "Its uid."},
};

static const struct member scale[] = {
    {.name = "metadata", .shape = REF, .target = "ObjectMeta", .description = METADATA_TEXT},
    {.name = "spec",
     .shape = REF,
     .target = FL_OPENAPI_SCALE "Spec",
     .description = "How many are wanted."},
    {.name = "status",
     .shape = REF,
     .target = FL_OPENAPI_SCALE "Status",
     .description = "How many there are."},
};

static const struct member scale_spec[] = {
    {.name = "replicas", .shape = INT32, .description = "How many are wanted."},
};

static const struct member scale_status[] = {
    {.name = "replicas", .shape = INT32, .required = true, .description = "How many there are."},
    {.name = "selector", .shape = TEXT, .description = "The labels by which they are counted."},
};

#define MEMBERS(list) .members = (list), .member_count = FL_COUNT_OF(list)

static const struct type common_types[] = {
    {.name = "DeleteOptions",
     .shape = OBJECT,
     MEMBERS(delete_options),
     .kind = "DeleteOptions",
     .description = "How to delete an object."},
    {.name = "FieldsV1",
     .shape = OBJECT,
     .description =
         "A set of fields as a tree: `f:<name>` is a field, `k:<keys>` a list item by its "
         "keys, `v:<value>` one by its value, `i:<index>` one by its place; `.` is the "
         "node itself."},
    {.name = "ListMeta",
     .shape = OBJECT,
     MEMBERS(list_meta),
     .description = "What every list tells of itself."},
    {.name = "ManagedFieldsEntry",
     .shape = OBJECT,
     MEMBERS(managed_fields_entry),
     .description = "The fields that one manager has set in one way."},
    {.name = "MicroTime",
     .shape = TIMESTAMP,
     .description = "A moment in RFC 3339 form, to the microsecond."},
    {.name = "ObjectMeta", .shape = OBJECT, MEMBERS(object_meta), .description = METADATA_TEXT},
    {.name = "OwnerReference",
     .shape = OBJECT,
     MEMBERS(owner_reference),
     .atomic = true,
     .description =
         "An object that another one belongs to. Both are in one namespace, or the owner "
         "is of the whole cluster."},
    {.name = "Patch",
     .shape = OBJECT,
     .description = "A change of an object; its media type says in which form."},
    {.name = "Preconditions",
     .shape = OBJECT,
     MEMBERS(preconditions),
     .description = "What must hold before an object is deleted."},
    {.name = "Status",
     .shape = OBJECT,
     MEMBERS(status),
     .kind = "Status",
     .description = "The answer of a request that returns no object."},
    {.name = "StatusCause",
     .shape = OBJECT,
     MEMBERS(status_cause),
     .description = "One cause of a failure."},
    {.name = "StatusDetails",
     .shape = OBJECT,
     MEMBERS(status_details),
     .description = "What a Status is about."},
    {.name = "Time", .shape = TIMESTAMP, .description = "A moment in RFC 3339 form."},
};

static const struct type scale_types[] = {
    {.full_name = FL_OPENAPI_SCALE,
     .shape = OBJECT,
     MEMBERS(scale),
     .kind = "Scale",
     .kind_group = "autoscaling",
     .description = "How many replicas of an object are wanted, and how many there are."},
    {.full_name = FL_OPENAPI_SCALE "Spec",
     .shape = OBJECT,
     MEMBERS(scale_spec),
     .description = "How many are wanted."},
    {.full_name = FL_OPENAPI_SCALE "Status",
     .shape = OBJECT,
     MEMBERS(scale_status),
     .description = "How many there are."},
};

/* Names */

char *fl_openapi_definition_name(struct fl_arena *arena, const struct fl_resource *resource,
                                 const char *kind)
{
    const char *group = resource->group, *dot = strchr(group, '.');
    size_t first = dot ? (size_t)(dot - group) : strlen(group);
    char *reversed;

    if (resource->builtin) {
        if (strcmp(group, "apiextensions.k8s.io") == 0)
            return fl_arena_printf(arena,
                                   "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.%s.%s",
                                   resource->version, kind);
        if (!*group)
            group = "core", first = strlen(group);
        return fl_arena_printf(arena, "io.k8s.api.%.*s.%s.%s", (int)first, group, resource->version,
                               kind);
    }
    reversed = fl_arena_strndup(arena, group, first);
    while (dot) {
        const char *label = dot + 1;

        dot = strchr(label, '.');
        reversed = fl_arena_printf(arena, "%.*s.%s", dot ? (int)(dot - label) : (int)strlen(label),
                                   label, reversed);
    }
    return fl_arena_printf(arena, "%s.%s.%s", reversed, resource->version, kind);
}

json_t *fl_openapi_ref(enum fl_openapi_dialect dialect, const char *definition)
{
    return json_pack("{s:s+}", "$ref",
                     dialect == FL_OPENAPI_V3 ? "#/components/schemas/" : "#/definitions/",
                     definition);
}

json_t *fl_openapi_gvk(const struct fl_resource *resource, const char *kind)
{
    return json_pack("{s:s, s:s, s:s}", "group", resource->group, "version", resource->version,
                     "kind", kind);
}

/* A member that is another type. In v3 a reference may have no siblings, so that allOf holds it. */
static json_t *described_ref(enum fl_openapi_dialect dialect, const char *definition,
                             const char *description)
{
    json_t *ref = fl_openapi_ref(dialect, definition);

    if (dialect == FL_OPENAPI_V3)
        return json_pack("{s:s, s:[o]}", "description", description, "allOf", ref);
    json_object_set_new(ref, "description", json_string(description));
    return ref;
}

static json_t *text_member(const char *description)
{
    return json_pack("{s:s, s:s}", "type", "string", "description", description);
}

/* Common types */

static const char *target_name(struct fl_arena *arena, const char *target)
{
    if (strchr(target, '.'))
        return target;
    return fl_arena_printf(arena, "%s%s", FL_OPENAPI_META_V1, target);
}

static json_t *shape_schema(enum shape shape)
{
    switch (shape) {
    case TRUTH:
        return json_pack("{s:s}", "type", "boolean");
    case INT32:
        return json_pack("{s:s, s:s}", "type", "integer", "format", "int32");
    case INT64:
        return json_pack("{s:s, s:s}", "type", "integer", "format", "int64");
    case TIMESTAMP:
        return json_pack("{s:s, s:s}", "type", "string", "format", "date-time");
    case TEXTS:
        return json_pack("{s:s, s:{s:s}}", "type", "array", "items", "type", "string");
    case TEXT_MAP:
        return json_pack("{s:s, s:{s:s}}", "type", "object", "additionalProperties", "type",
                         "string");
    case OBJECT:
        return json_pack("{s:s}", "type", "object");
    default:
        return json_pack("{s:s}", "type", "string");
    }
}

static json_t *member_schema(enum fl_openapi_dialect dialect, struct fl_arena *arena,
                             const struct member *member)
{
    const char *target = member->target ? target_name(arena, member->target) : NULL;
    json_t *made;

    if (member->shape == REF)
        made = described_ref(dialect, target, member->description);
    else if (member->shape == REFS)
        made = json_pack("{s:s, s:o}", "type", "array", "items", fl_openapi_ref(dialect, target));
    else
        made = shape_schema(member->shape);
    if (member->shape != REF)
        json_object_set_new(made, "description", json_string(member->description));
    if (member->list_type)
        json_object_set_new(made, "x-kubernetes-list-type", json_string(member->list_type));
    if (member->merge_key) {
        json_object_set_new(made, "x-kubernetes-list-map-keys",
                            json_pack("[s]", member->merge_key));
        json_object_set_new(made, "x-kubernetes-patch-merge-key", json_string(member->merge_key));
    }
    if (member->merges)
        json_object_set_new(made, "x-kubernetes-patch-strategy", json_string("merge"));
    return made;
}

static json_t *type_schema(enum fl_openapi_dialect dialect, struct fl_arena *arena,
                           const struct type *type)
{
    json_t *made = shape_schema(type->shape), *properties = json_object();
    FL_JSON required = json_array();

    json_object_set_new(made, "description", json_string(type->description));
    if (type->kind) {
        json_object_set_new(properties, "apiVersion", text_member(API_VERSION_TEXT));
        json_object_set_new(properties, "kind", text_member(KIND_TEXT));
        json_object_set_new(made, "x-kubernetes-group-version-kind",
                            json_pack("[{s:s, s:s, s:s}]", "group", fl_str_or(type->kind_group, ""),
                                      "version", "v1", "kind", type->kind));
    }
    for (size_t i = 0; i < type->member_count; i++) {
        json_object_set_new(properties, type->members[i].name,
                            member_schema(dialect, arena, &type->members[i]));
        if (type->members[i].required)
            json_array_append_new(required, json_string(type->members[i].name));
    }
    if (json_array_size(required) > 0)
        json_object_set(made, "required", required);
    if (json_object_size(properties) > 0)
        json_object_set(made, "properties", properties);
    json_decref(properties);
    if (type->atomic)
        json_object_set_new(made, "x-kubernetes-map-type", json_string("atomic"));
    return made;
}

static void add_types(json_t *definitions, enum fl_openapi_dialect dialect, struct fl_arena *arena,
                      const struct type *types, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *name =
            types[i].full_name ? types[i].full_name : target_name(arena, types[i].name);

        json_object_set_new(definitions, name, type_schema(dialect, arena, &types[i]));
    }
}

/* Schemas of kinds. A structural schema is almost one of OpenAPI v3; v2 says less, and kubectl's
 * client-side validation needs some of the rest left out (as a real server does). */

static bool is_set(const json_t *schema, const char *key)
{
    return json_is_true(json_object_get(schema, key));
}

static bool is_subschema_key(const char *key)
{
    return strcmp(key, "items") == 0 || strcmp(key, "additionalProperties") == 0;
}

static json_t *convert(enum fl_openapi_dialect dialect, const json_t *schema);

static json_t *convert_properties(enum fl_openapi_dialect dialect, const json_t *properties)
{
    json_t *made = json_object(), *property;
    const char *name;

    json_object_foreach((json_t *)properties, name, property)
        json_object_set_new(made, name, convert(dialect, property));
    return made;
}

static json_t *int_or_string(void)
{
    return json_pack("[{s:s}, {s:s}]", "type", "integer", "type", "string");
}

/* An int-or-string says so in standard words too, unless its author already did. */
static void unfold_int_or_string(json_t *schema)
{
    FL_JSON words = int_or_string();
    json_t *any = json_object_get(schema, "anyOf"), *all = json_object_get(schema, "allOf");

    if (json_equal(any, words) ||
        json_equal(json_object_get(json_array_get(all, 0), "anyOf"), words))
        return;
    if (!any) {
        json_object_set(schema, "anyOf", words);
        return;
    }
    if (!all) {
        all = json_array();
        json_object_set_new(schema, "allOf", all);
    }
    json_array_insert_new(all, 0, json_pack("{s:O}", "anyOf", words));
}

static json_t *convert_v3(const json_t *schema)
{
    json_t *made = json_object(), *value;
    const char *key;

    json_object_foreach((json_t *)schema, key, value) {
        if (strcmp(key, "properties") == 0)
            json_object_set_new(made, key, convert_properties(FL_OPENAPI_V3, value));
        else if (is_subschema_key(key) && json_is_object(value))
            json_object_set_new(made, key, convert(FL_OPENAPI_V3, value));
        else
            json_object_set_new(made, key, json_deep_copy(value));
    }
    if (is_set(schema, "x-kubernetes-int-or-string"))
        unfold_int_or_string(made);
    return made;
}

static bool is_missing_in_v2(const char *key)
{
    static const char *const keys[] = {"allOf", "anyOf", "oneOf", "not", "nullable", "default"};

    for (size_t i = 0; i < FL_COUNT_OF(keys); i++)
        if (strcmp(key, keys[i]) == 0)
            return true;
    return false;
}

/* kubectl refuses a null for what is required, so that what may be null is not. */
static void drop_nullable_from_required(const json_t *schema, json_t *made)
{
    const json_t *properties = json_object_get(made, "properties") /* those that were kept */
                                   ? json_object_get(schema, "properties")
                                   : NULL;
    json_t *required = json_object_get(made, "required");

    if (is_set(json_object_get(schema, "additionalProperties"), "nullable")) {
        json_object_del(made, "required");
        return;
    }
    for (size_t i = json_array_size(required); i-- > 0;) {
        const char *name = json_string_value(json_array_get(required, i));

        if (name && is_set(json_object_get(properties, name), "nullable"))
            json_array_remove(required, i);
    }
    if (required && json_array_size(required) == 0)
        json_object_del(made, "required");
}

static json_t *convert_v2(const json_t *schema)
{
    bool open = is_set(schema, "x-kubernetes-preserve-unknown-fields");
    bool nullable = is_set(schema, "nullable");
    json_t *made = json_object(), *value;
    const char *key, *type;

    json_object_foreach((json_t *)schema, key, value) {
        bool members = strcmp(key, "items") == 0 || strcmp(key, "properties") == 0;

        if (is_missing_in_v2(key) || (members && (open || nullable)) ||
            (nullable && strcmp(key, "type") == 0))
            continue;
        if (strcmp(key, "properties") == 0)
            json_object_set_new(made, key, convert_properties(FL_OPENAPI_V2, value));
        else if (is_subschema_key(key) && json_is_object(value))
            json_object_set_new(made, key, convert(FL_OPENAPI_V2, value));
        else
            json_object_set_new(made, key, json_deep_copy(value));
    }
    /* An array without items and an object of anything are more than kubectl can check. */
    type = json_string_value(json_object_get(made, "type"));
    if ((fl_streq(type, "array") && !json_object_get(made, "items")) ||
        (fl_streq(type, "object") && open))
        json_object_del(made, "type");
    drop_nullable_from_required(schema, made);
    return made;
}

static void require(json_t *schema, const char *name)
{
    json_t *required = json_object_get(schema, "required"), *item;
    size_t i;

    if (!required) {
        required = json_array();
        json_object_set_new(schema, "required", required);
    }
    json_array_foreach(required, i, item)
        if (fl_streq(json_string_value(item), name))
            return;
    json_array_append_new(required, json_string(name));
}

/* Where an author described a member of ours, that text stays. */
static void add_object_members(enum fl_openapi_dialect dialect, json_t *schema)
{
    json_t *properties = fl_json_ensure_object(schema, "properties");
    const char *version = fl_json_str(properties, "apiVersion.description");
    const char *kind = fl_json_str(properties, "kind.description");
    const char *metadata = fl_json_str(properties, "metadata.description");

    json_object_set_new(properties, "apiVersion",
                        text_member(fl_str_or(version, API_VERSION_TEXT)));
    json_object_set_new(properties, "kind", text_member(fl_str_or(kind, KIND_TEXT)));
    json_object_set_new(properties, "metadata",
                        described_ref(dialect, FL_OPENAPI_META_V1 "ObjectMeta",
                                      fl_str_or(metadata, METADATA_TEXT)));
}

static json_t *convert(enum fl_openapi_dialect dialect, const json_t *schema)
{
    json_t *made = dialect == FL_OPENAPI_V3 ? convert_v3(schema) : convert_v2(schema);

    if (is_set(schema, "x-kubernetes-embedded-resource") &&
        !(dialect == FL_OPENAPI_V2 && is_set(schema, "x-kubernetes-preserve-unknown-fields"))) {
        add_object_members(dialect, made);
        require(made, "kind");
        require(made, "apiVersion");
    }
    return made;
}

/* Marks the lists that a strategic merge patch merges; those of metadata are marked already. */
static void mark_strategic_lists(const struct fl_resource *resource, json_t *schema)
{
    for (size_t i = 0; i < resource->strategic_list_count; i++) {
        const struct fl_strategic_list *list = &resource->strategic_lists[i];
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        json_t *node = schema;
        const char *rest = list->path, *name;

        while (node && (name = fl_str_next(arena, &rest, '.')))
            node = json_object_get(json_object_get(node, "properties"), name);
        if (!fl_streq(fl_json_str(node, "type"), "array"))
            continue;
        json_object_set_new(node, "x-kubernetes-patch-strategy", json_string("merge"));
        if (list->merge_key)
            json_object_set_new(node, "x-kubernetes-patch-merge-key", json_string(list->merge_key));
    }
}

static void add_selectable_fields(const struct fl_resource *resource, json_t *schema)
{
    json_t *list;

    if (resource->builtin || resource->selectable.count == 0)
        return;
    list = json_array();
    json_object_set_new(schema, "x-kubernetes-selectable-fields", list);
    for (size_t i = 0; i < resource->selectable.count; i++) {
        const char *path = resource->selectable.items[i];

        json_array_append_new(list,
                              json_pack("{s:s}", "fieldPath", *path == '.' ? path + 1 : path));
    }
}

static json_t *kind_schema(enum fl_openapi_dialect dialect, const struct fl_openapi_kind *kind)
{
    const struct fl_resource *resource = kind->resource;
    json_t *made;

    if (!kind->schema || (dialect == FL_OPENAPI_V2 &&
                          is_set(kind->schema, "x-kubernetes-preserve-unknown-fields"))) {
        /* No members at all: with some, kubectl would take all others for unknown. */
        made = json_pack("{s:s}", "type", "object");
    } else {
        made = convert(dialect, kind->schema);
        add_object_members(dialect, made);
        mark_strategic_lists(resource, made);
    }
    json_object_set_new(made, "x-kubernetes-group-version-kind",
                        json_pack("[o]", fl_openapi_gvk(resource, resource->kind)));
    add_selectable_fields(resource, made);
    return made;
}

static json_t *list_schema(enum fl_openapi_dialect dialect, struct fl_arena *arena,
                           const struct fl_resource *resource)
{
    const char *item = fl_openapi_definition_name(arena, resource, resource->kind);
    json_t *made = json_pack(
        "{s:s, s:s, s:[s], s:{s:o, s:o, s:o, s:{s:s, s:s, s:o}}, s:[o]}", "type", "object",
        "description", fl_arena_printf(arena, "A list of objects of kind %s.", resource->kind),
        "required", "items", "properties", "apiVersion", text_member(API_VERSION_TEXT), "kind",
        text_member(KIND_TEXT), "metadata",
        described_ref(dialect, FL_OPENAPI_META_V1 "ListMeta", "What the list tells of itself."),
        "items", "type", "array", "description", "The objects.", "items",
        fl_openapi_ref(dialect, item), "x-kubernetes-group-version-kind",
        fl_openapi_gvk(resource, resource->list_kind));

    add_selectable_fields(resource, made);
    return made;
}

json_t *fl_openapi_definitions(enum fl_openapi_dialect dialect, const struct fl_openapi_kind *kinds,
                               size_t count)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    json_t *definitions = json_object();
    bool any_scale = false;

    for (size_t i = 0; i < count; i++) {
        const struct fl_resource *resource = kinds[i].resource;

        json_object_set_new(definitions,
                            fl_openapi_definition_name(arena, resource, resource->kind),
                            kind_schema(dialect, &kinds[i]));
        if (fl_resource_allows(resource, FL_VERB_LIST))
            json_object_set_new(definitions,
                                fl_openapi_definition_name(arena, resource, resource->list_kind),
                                list_schema(dialect, arena, resource));
        any_scale = any_scale || resource->has_scale;
    }
    add_types(definitions, dialect, arena, common_types, FL_COUNT_OF(common_types));
    if (any_scale)
        add_types(definitions, dialect, arena, scale_types, FL_COUNT_OF(scale_types));
    return definitions;
}
