/* From an OpenAPI document that passed the structural checks to the compiled tree. */
#include "api/schema_internal.h"
#include "lib/str.h"

#include <stdlib.h>
#include <string.h>

/* metav1.ObjectMeta as far as pruning and server-side apply need it; what its values must be is
 * not checked here. */
static const char object_meta_text[] =
    "{\"type\":\"object\",\"properties\":{"
    "\"name\":{\"type\":\"string\"},\"generateName\":{\"type\":\"string\"},"
    "\"namespace\":{\"type\":\"string\"},\"selfLink\":{\"type\":\"string\"},"
    "\"uid\":{\"type\":\"string\"},\"resourceVersion\":{\"type\":\"string\"},"
    "\"generation\":{\"type\":\"integer\"},"
    "\"creationTimestamp\":{\"type\":\"string\",\"nullable\":true},"
    "\"deletionTimestamp\":{\"type\":\"string\",\"nullable\":true},"
    "\"deletionGracePeriodSeconds\":{\"type\":\"integer\",\"nullable\":true},"
    "\"labels\":{\"type\":\"object\",\"nullable\":true,"
    "\"additionalProperties\":{\"type\":\"string\",\"nullable\":true}},"
    "\"annotations\":{\"type\":\"object\",\"nullable\":true,"
    "\"additionalProperties\":{\"type\":\"string\",\"nullable\":true}},"
    "\"finalizers\":{\"type\":\"array\",\"nullable\":true,\"x-kubernetes-list-type\":\"set\","
    "\"items\":{\"type\":\"string\"}},"
    "\"ownerReferences\":{\"type\":\"array\",\"nullable\":true,\"x-kubernetes-list-type\":\"map\","
    "\"x-kubernetes-list-map-keys\":[\"uid\"],\"items\":{\"type\":\"object\","
    "\"x-kubernetes-map-type\":\"atomic\",\"properties\":{\"apiVersion\":{\"type\":\"string\"},"
    "\"kind\":{\"type\":\"string\"},\"name\":{\"type\":\"string\"},\"uid\":{\"type\":\"string\"},"
    "\"controller\":{\"type\":\"boolean\",\"nullable\":true},"
    "\"blockOwnerDeletion\":{\"type\":\"boolean\",\"nullable\":true}}}},"
    "\"managedFields\":{\"type\":\"array\",\"nullable\":true,"
    "\"items\":{\"type\":\"object\",\"properties\":{"
    "\"manager\":{\"type\":\"string\"},\"operation\":{\"type\":\"string\"},"
    "\"apiVersion\":{\"type\":\"string\"},\"time\":{\"type\":\"string\",\"nullable\":true},"
    "\"fieldsType\":{\"type\":\"string\"},\"subresource\":{\"type\":\"string\"},"
    "\"fieldsV1\":{\"type\":\"object\",\"nullable\":true,"
    "\"x-kubernetes-preserve-unknown-fields\":true}}}}}}";

static struct fl_schema_node *build(struct fl_schema_builder *b, const json_t *openapi,
                                    const struct fl_schema_path *path);

static bool flag(const json_t *openapi, const char *key)
{
    return json_is_true(json_object_get(openapi, key));
}

static const char *text_of(struct fl_schema_builder *b, const json_t *value)
{
    const char *text = json_string_value(value);

    return text && *text ? fl_arena_strdup(b->schema->arena, text) : NULL;
}

static int64_t count_of(const json_t *openapi, const char *key)
{
    const json_t *value = json_object_get(openapi, key);

    if (json_is_real(value))
        return (int64_t)json_real_value(value);
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

static bool number_of(const json_t *openapi, const char *key, double *ret_value)
{
    const json_t *value = json_object_get(openapi, key);

    if (!json_is_number(value))
        return false;
    *ret_value = json_number_value(value);
    return true;
}

static json_t *frozen_copy(struct fl_schema_builder *b, const json_t *value)
{
    return fl_json_in_arena(b->schema->arena, json_deep_copy(value));
}

static void set_type(struct fl_schema_builder *b, struct fl_schema_node *node,
                     const json_t *openapi)
{
    static const struct {
        const char *name;
        enum fl_schema_type type;
    } types[] = {
        {"object", FL_SCHEMA_OBJECT}, {"array", FL_SCHEMA_ARRAY},
        {"string", FL_SCHEMA_STRING}, {"integer", FL_SCHEMA_INTEGER},
        {"number", FL_SCHEMA_NUMBER}, {"boolean", FL_SCHEMA_BOOLEAN},
    };

    if (flag(openapi, "x-kubernetes-int-or-string")) {
        node->type = FL_SCHEMA_INT_OR_STRING;
        node->type_name = "integer,string";
        return;
    }
    node->type_name = text_of(b, json_object_get(openapi, "type"));
    for (size_t i = 0; node->type_name && i < FL_COUNT_OF(types); i++) {
        if (fl_streq(types[i].name, node->type_name))
            node->type = types[i].type;
    }
}

static void set_list(struct fl_schema_builder *b, struct fl_schema_node *node,
                     const json_t *openapi)
{
    const char *type = json_string_value(json_object_get(openapi, "x-kubernetes-list-type"));
    const json_t *keys = json_object_get(openapi, "x-kubernetes-list-map-keys"), *key;
    size_t count = json_array_size(keys), i;
    const char **texts;

    node->list_type_given = type != NULL;
    if (fl_streq(type, "set"))
        node->list_type = FL_LIST_SET;
    else if (fl_streq(type, "map"))
        node->list_type = FL_LIST_MAP;
    if (count == 0)
        return;
    texts = fl_new_array(b->schema->arena, const char *, count);
    json_array_foreach(keys, i, key)
        texts[i] = fl_arena_strdup(b->schema->arena, fl_str_or(json_string_value(key), ""));
    node->list_keys = texts;
    node->list_key_count = count;
}

static void set_numbers(struct fl_schema_node *node, const json_t *openapi)
{
    node->has_min = number_of(openapi, "minimum", &node->min);
    node->has_max = number_of(openapi, "maximum", &node->max);
    node->has_multiple = number_of(openapi, "multipleOf", &node->multiple);
    node->exclusive_min = flag(openapi, "exclusiveMinimum");
    node->exclusive_max = flag(openapi, "exclusiveMaximum");
    node->min_length = count_of(openapi, "minLength");
    node->max_length = count_of(openapi, "maxLength");
    node->min_items = count_of(openapi, "minItems");
    node->max_items = count_of(openapi, "maxItems");
    node->min_properties = count_of(openapi, "minProperties");
    node->max_properties = count_of(openapi, "maxProperties");
}

static void set_pattern(struct fl_schema_builder *b, struct fl_schema_node *node,
                        const json_t *openapi, const struct fl_schema_path *path)
{
    const json_t *value = json_object_get(openapi, "pattern");
    const char *problem = NULL;

    node->pattern_text = text_of(b, value);
    if (!node->pattern_text)
        return;
    node->pattern = fl_schema_pattern_compile(b->schema->arena, node->pattern_text, &problem);
    if (!node->pattern)
        fl_schema_add(b->errors, FL_FIELD_INVALID, FL_PATH_CHILD(path, "pattern"), value,
                      "must be a valid regular expression, but isn't: %s", problem);
}

static struct fl_schema_nodes build_branches(struct fl_schema_builder *b, const json_t *openapi,
                                             const char *key, const struct fl_schema_path *path)
{
    const json_t *branches = json_object_get(openapi, key), *branch;
    struct fl_schema_nodes nodes = {NULL, json_array_size(branches)};
    size_t i;

    if (nodes.count == 0)
        return nodes;
    nodes.items = fl_new_array(b->schema->arena, struct fl_schema_node *, nodes.count);
    json_array_foreach(branches, i, branch)
        nodes.items[i] = build(b, branch, FL_PATH_AT(FL_PATH_CHILD(path, key), i));
    return nodes;
}

/* What is known of the parts below a node goes up to it. */
static void inherit(struct fl_schema_node *node, const struct fl_schema_node *child)
{
    node->below_defaults |= child->below_defaults || child->fallback;
    node->below_lists |= child->below_lists;
    node->below_embedded |= child->below_embedded;
    node->below_rules |= child->below_rules;
}

static void build_properties(struct fl_schema_builder *b, struct fl_schema_node *node,
                             const json_t *openapi, const struct fl_schema_path *path)
{
    json_t *properties = json_object_get(openapi, "properties"), *sub;
    size_t count = json_object_size(properties), len, defaulted = 0;
    const char *key;

    const struct fl_schema_path *uncorrelated = b->uncorrelated;

    if (count == 0)
        return;
    if (node->map_atomic && !b->uncorrelated)
        b->uncorrelated = path;
    node->properties = fl_new_array(b->schema->arena, struct fl_schema_property, count);
    json_object_keylen_foreach(properties, key, len, sub) {
        struct fl_schema_property *property = &node->properties[node->property_count++];
        struct fl_schema_path up = {path, FL_PATH_FIELD, "properties", 0};

        property->key = fl_arena_strndup(b->schema->arena, key, len);
        property->key_len = (uint32_t)len;
        property->node = build(b, sub, FL_PATH_AT_KEY(&up, property->key));
        inherit(node, property->node);
        defaulted += property->node->fallback != NULL;
    }
    b->uncorrelated = uncorrelated;
    fl_schema_index_properties(b->schema->arena, node);
    node->defaulted = fl_new_array(b->schema->arena, struct fl_schema_property *, defaulted + 1);
    for (uint32_t i = 0; i < node->property_count; i++) {
        if (node->properties[i].node->fallback)
            node->defaulted[node->defaulted_count++] = &node->properties[i];
    }
}

/* Only the elements of a map list can be told from those of the old list. */
static void build_items(struct fl_schema_builder *b, struct fl_schema_node *node,
                        const json_t *items, const struct fl_schema_path *path)
{
    const struct fl_schema_path *uncorrelated = b->uncorrelated;

    if (!json_is_object(items))
        return;
    if (node->list_type != FL_LIST_MAP && !b->uncorrelated)
        b->uncorrelated = path;
    node->items = build(b, items, FL_PATH_CHILD(path, "items"));
    b->uncorrelated = uncorrelated;
    inherit(node, node->items);
}

static void build_additional(struct fl_schema_builder *b, struct fl_schema_node *node,
                             const json_t *openapi, const struct fl_schema_path *path)
{
    const json_t *additional = json_object_get(openapi, "additionalProperties");

    if (json_is_boolean(additional)) {
        node->additional = json_is_true(additional) ? FL_ADDITIONAL_ANY : FL_ADDITIONAL_FORBIDDEN;
    } else if (json_is_object(additional)) {
        node->additional = FL_ADDITIONAL_NODE;
        node->additional_node = build(b, additional, FL_PATH_CHILD(path, "additionalProperties"));
        inherit(node, node->additional_node);
    }
}

/* A property carries its own mark, so that ordinarily one pass over an object counts them. */
static void set_required(struct fl_schema_builder *b, struct fl_schema_node *node,
                         const json_t *openapi)
{
    const json_t *required = json_object_get(openapi, "required"), *name;
    size_t i;

    node->required = fl_new_array(b->schema->arena, const char *, json_array_size(required) + 1);
    json_array_foreach(required, i, name) {
        struct fl_schema_property *property = (struct fl_schema_property *)fl_schema_find_property(
            node, json_string_value(name), json_string_length(name));

        if (property && !property->required) {
            property->required = true;
            node->required_properties++;
        } else if (!property) {
            node->required[node->required_count++] = text_of(b, name);
        }
    }
}

static struct fl_schema_node *build(struct fl_schema_builder *b, const json_t *openapi,
                                    const struct fl_schema_path *path)
{
    struct fl_schema_node *node = fl_new(b->schema->arena, struct fl_schema_node);
    const json_t *part;

    set_type(b, node, openapi);
    set_list(b, node, openapi);
    set_numbers(node, openapi);
    set_pattern(b, node, openapi, path);
    node->nullable = flag(openapi, "nullable");
    node->preserve_unknown = flag(openapi, "x-kubernetes-preserve-unknown-fields");
    node->embedded = node->below_embedded = flag(openapi, "x-kubernetes-embedded-resource");
    node->map_atomic =
        fl_streq(json_string_value(json_object_get(openapi, "x-kubernetes-map-type")), "atomic");
    node->below_lists = node->list_type != FL_LIST_ATOMIC;
    node->format_name = text_of(b, json_object_get(openapi, "format"));
    node->format = node->format_name ? fl_schema_format_find(node->format_name) : FL_FORMAT_NONE;
    part = json_object_get(openapi, "default");
    if (part && !json_is_null(part))
        node->fallback = frozen_copy(b, part);
    part = json_object_get(openapi, "enum");
    if (json_array_size(part) > 0)
        node->enumeration = frozen_copy(b, part);
    build_items(b, node, json_object_get(openapi, "items"), path);
    build_properties(b, node, openapi, path);
    build_additional(b, node, openapi, path);
    set_required(b, node, openapi);
    node->all_of = build_branches(b, openapi, "allOf", path);
    node->any_of = build_branches(b, openapi, "anyOf", path);
    node->one_of = build_branches(b, openapi, "oneOf", path);
    part = json_object_get(openapi, "not");
    if (json_is_object(part))
        node->none_of = build(b, part, FL_PATH_CHILD(path, "not"));
    fl_schema_build_rules(b, node, openapi, path);
    return node;
}

static json_t *parse_object_meta(void)
{
    json_t *document = NULL;

    if (fl_json_parse(object_meta_text, sizeof(object_meta_text) - 1, NULL, NULL, NULL, &document,
                      NULL) < 0)
        abort();
    return document;
}

/* The document with what every object has. The schema's own words on metadata are kept apart: they
 * restrict name and generateName, but do not say which fields exist. */
static json_t *with_type_meta(const json_t *openapi)
{
    json_t *whole = json_copy((json_t *)openapi), *properties;
    static const char *const names[] = {"apiVersion", "kind"};

    properties = json_object_get(openapi, "properties");
    properties = properties ? json_copy(properties) : json_object();
    (void)json_object_set_new(whole, "properties", properties);
    for (size_t i = 0; i < FL_COUNT_OF(names); i++) {
        if (!json_object_get(properties, names[i]))
            (void)json_object_set_new(properties, names[i], json_pack("{s:s}", "type", "string"));
    }
    (void)json_object_set_new(properties, "metadata", parse_object_meta());
    return whole;
}

/* Pruning an embedded resource prunes its metadata too. */
static void mark_metadata(struct fl_schema_node *node, struct fl_schema_node *metadata)
{
    struct fl_schema_property *property =
        (struct fl_schema_property *)fl_schema_find_property(node, "metadata", strlen("metadata"));

    if (property)
        property->node = metadata;
}

struct fl_schema_node *fl_schema_build(struct fl_schema *schema, const json_t *openapi,
                                       const struct fl_schema_path *path,
                                       struct fl_field_errors *errors)
{
    struct fl_schema_builder builder = {schema, errors, NULL};
    struct fl_schema_path properties = {path, FL_PATH_FIELD, "properties", 0};
    FL_JSON whole = with_type_meta(openapi);
    FL_JSON object_meta = parse_object_meta();
    const json_t *metadata = json_object_get(json_object_get(openapi, "properties"), "metadata");
    struct fl_schema_node *root;

    schema->object_meta = build(&builder, object_meta, path);
    schema->object_meta->is_metadata = true;
    root = build(&builder, whole, path);
    mark_metadata(root, schema->object_meta);
    if (json_object_size(json_object_get(metadata, "properties")) > 0)
        schema->metadata = build(&builder, metadata, FL_PATH_AT_KEY(&properties, "metadata"));
    return root;
}
