/* What a schema must keep to before it is compiled: Kubernetes' rules of structural schemas and of
 * its extensions, with the words of the real server. */
#include "api/schema_internal.h"
#include "lib/str.h"

#include <math.h>
#include <string.h>

enum level { LEVEL_ROOT, LEVEL_ITEM, LEVEL_FIELD };

/* What holds at a place because of what stands above it. */
struct scope {
    enum level level;
    bool nested;             /* in a branch of allOf, anyOf, oneOf or not */
    bool may_have_type;      /* … that is one of the two types of an int-or-string */
    bool holds_pair;         /* … whose anyOf is that pair */
    bool inside_meta;        /* in the schema of apiVersion, kind or metadata */
    const char *no_defaults; /* why there may be no default; NULL: there may */
    unsigned depth;
};

struct checker {
    struct fl_field_errors *errors;
    size_t nodes;
    bool stopped; /* too large or misshapen to go on */
};

static void check_schema(struct checker *c, const json_t *schema, struct scope scope,
                         const struct fl_schema_path *path);

static void complain(struct checker *c, enum fl_field_error_type type,
                     const struct fl_schema_path *path, const char *key, const json_t *value,
                     const char *detail)
{
    struct fl_schema_path at = {path, FL_PATH_FIELD, key, 0};

    fl_schema_add(c->errors, type, key ? &at : path, value, "%s", detail);
}

static void forbid(struct checker *c, const struct fl_schema_path *path, const char *key,
                   const char *detail)
{
    complain(c, FL_FIELD_FORBIDDEN, path, key, NULL, detail);
}

/* A keyword that is null is as if it were not there. */
static json_t *get(const json_t *schema, const char *key)
{
    json_t *value = json_object_get(schema, key);

    return json_is_null(value) ? NULL : value;
}

static const char *text(const json_t *schema, const char *key)
{
    return fl_str_or(json_string_value(json_object_get(schema, key)), "");
}

static bool flag(const json_t *schema, const char *key)
{
    return json_is_true(json_object_get(schema, key));
}

static bool is_type(const json_t *schema, const char *type)
{
    return fl_streq(text(schema, "type"), type);
}

static json_t *json_text(struct checker *c, const char *value)
{
    return fl_json_in_arena(c->errors->arena, json_string(value));
}

/* The shape of the keywords, so that nothing below meets a number where a list should be. */

enum shape {
    TEXT,
    FLAG,
    NUMBER,
    COUNT,
    LIST,
    TEXTS,
    MAP,
    SCHEMA,
    SCHEMAS,
    SCHEMA_MAP,
    SCHEMA_OR_FLAG
};

static const struct keyword {
    const char *name;
    enum shape shape;
} keywords[] = {
    {"type", TEXT},
    {"format", TEXT},
    {"title", TEXT},
    {"description", TEXT},
    {"pattern", TEXT},
    {"nullable", FLAG},
    {"uniqueItems", FLAG},
    {"exclusiveMinimum", FLAG},
    {"exclusiveMaximum", FLAG},
    {"minimum", NUMBER},
    {"maximum", NUMBER},
    {"multipleOf", NUMBER},
    {"minLength", COUNT},
    {"maxLength", COUNT},
    {"minItems", COUNT},
    {"maxItems", COUNT},
    {"minProperties", COUNT},
    {"maxProperties", COUNT},
    {"enum", LIST},
    {"required", TEXTS},
    {"items", SCHEMA},
    {"not", SCHEMA},
    {"allOf", SCHEMAS},
    {"anyOf", SCHEMAS},
    {"oneOf", SCHEMAS},
    {"properties", SCHEMA_MAP},
    {"additionalProperties", SCHEMA_OR_FLAG},
    {"externalDocs", MAP},
    {"x-kubernetes-preserve-unknown-fields", FLAG},
    {"x-kubernetes-embedded-resource", FLAG},
    {"x-kubernetes-int-or-string", FLAG},
    {"x-kubernetes-list-type", TEXT},
    {"x-kubernetes-map-type", TEXT},
    {"x-kubernetes-list-map-keys", TEXTS},
    {"x-kubernetes-validations", SCHEMAS},
};

static bool all_are(const json_t *list, json_type type)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item) {
        if (json_typeof(item) != type)
            return false;
    }
    return true;
}

static bool members_are_objects(const json_t *object)
{
    const char *key;
    json_t *member;

    json_object_foreach((json_t *)object, key, member) {
        if (!json_is_object(member))
            return false;
    }
    return true;
}

static const char *shape_problem(enum shape shape, const json_t *value)
{
    switch (shape) {
    case TEXT:
        return json_is_string(value) ? NULL : "must be a string";
    case FLAG:
        return json_is_boolean(value) ? NULL : "must be a boolean";
    case NUMBER:
        return json_is_number(value) ? NULL : "must be a number";
    case COUNT:
        return json_is_integer(value) ||
                       (json_is_real(value) && fabs(json_real_value(value)) < 9e15 &&
                        json_real_value(value) == floor(json_real_value(value)))
                   ? NULL
                   : "must be an integer";
    case LIST:
        return json_is_array(value) ? NULL : "must be a list";
    case TEXTS:
        return json_is_array(value) && all_are(value, JSON_STRING) ? NULL
                                                                   : "must be a list of strings";
    case MAP:
    case SCHEMA:
        return json_is_object(value) ? NULL : "must be an object";
    case SCHEMAS:
        return json_is_array(value) && all_are(value, JSON_OBJECT) ? NULL
                                                                   : "must be a list of objects";
    case SCHEMA_MAP:
        return json_is_object(value) && members_are_objects(value) ? NULL
                                                                   : "must be a map of objects";
    default:
        return json_is_object(value) || json_is_boolean(value) ? NULL
                                                               : "must be an object or a boolean";
    }
}

static bool check_shapes(struct checker *c, const json_t *schema, const struct fl_schema_path *path)
{
    bool sound = true;

    for (size_t i = 0; i < FL_COUNT_OF(keywords); i++) {
        const json_t *value = get(schema, keywords[i].name);
        const char *problem = value ? shape_problem(keywords[i].shape, value) : NULL;

        if (!problem)
            continue;
        if (fl_streq(keywords[i].name, "items") && json_is_array(value))
            forbid(c, path, "items", "items must be a schema object and not an array");
        else
            complain(c, FL_FIELD_INVALID, path, keywords[i].name, value, problem);
        sound = false;
    }
    return sound;
}

/* What OpenAPI knows and Kubernetes does not take. */

static void check_refused(struct checker *c, const json_t *schema, struct scope scope,
                          const struct fl_schema_path *path)
{
    static const char *const refused[] = {"id",          "additionalItems", "patternProperties",
                                          "definitions", "dependencies",    "$ref"};
    static const char *const types[] = {"",       "array",  "boolean", "integer",
                                        "number", "object", "string"};
    size_t i = 0;

    for (size_t r = 0; r < FL_COUNT_OF(refused); r++) {
        const json_t *value = get(schema, refused[r]);
        bool is_empty = (json_is_object(value) && json_object_size(value) == 0 && r != 4) ||
                        (json_is_string(value) && r == 0 && !*json_string_value(value));

        if (value && !is_empty)
            forbid(c, path, refused[r],
                   fl_arena_printf(c->errors->arena, "%s is not supported", refused[r]));
    }
    while (i < FL_COUNT_OF(types) && !is_type(schema, types[i]))
        i++;
    if (i == FL_COUNT_OF(types))
        complain(c, FL_FIELD_NOT_SUPPORTED, path, "type", get(schema, "type"),
                 "\"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"");
    if (is_type(schema, "null"))
        forbid(c, path, "type", "type cannot be set to null, use nullable as an alternative");
    if (flag(schema, "uniqueItems"))
        forbid(c, path, "uniqueItems",
               "uniqueItems cannot be set to true since the runtime "
               "complexity becomes quadratic");
    if (get(schema, "default") && scope.no_defaults)
        forbid(c, path, "default",
               fl_arena_printf(c->errors->arena, "must not be set%s", scope.no_defaults));
    if (scope.inside_meta && flag(schema, "x-kubernetes-embedded-resource"))
        forbid(c, path, "x-kubernetes-embedded-resource",
               "must not be used inside of resource meta");
}

/* Lists and maps. */

static void check_set_items(struct checker *c, const json_t *items,
                            const struct fl_schema_path *path)
{
    static const char words[] = "must be atomic as item of a list with x-kubernetes-list-type=set";
    struct fl_schema_path at = {path, FL_PATH_FIELD, "items", 0};
    const json_t *list_type = get(items, "x-kubernetes-list-type");

    if (is_type(items, "array") && list_type && !fl_streq(json_string_value(list_type), "atomic"))
        complain(c, FL_FIELD_INVALID, &at, "x-kubernetes-list-type", list_type, words);
    if (is_type(items, "object") && !fl_streq(text(items, "x-kubernetes-map-type"), "atomic"))
        complain(c, FL_FIELD_INVALID, &at, "x-kubernetes-map-type", list_type, words);
}

static bool has_text(const json_t *list, const char *wanted, size_t before)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item) {
        if (i < before && fl_streq(json_string_value(item), wanted))
            return true;
    }
    return false;
}

static void check_map_key(struct checker *c, const json_t *items, const char *key,
                          const struct fl_schema_path *path)
{
    struct fl_schema_path properties = {path, FL_PATH_FIELD, "properties", 0};
    struct fl_schema_path at = {&properties, FL_PATH_KEY, key, 0};
    const json_t *property = json_object_get(get(items, "properties"), key);

    if (is_type(property, "array") || is_type(property, "object"))
        complain(c, FL_FIELD_INVALID, &at, "type", get(items, "type"),
                 "must be a scalar type if parent array's x-kubernetes-list-type is map");
    if (!has_text(get(items, "required"), key, SIZE_MAX) && !get(property, "default"))
        complain(c, FL_FIELD_REQUIRED, &at, "default", NULL,
                 "this property is in x-kubernetes-list-map-keys, so it must have a default or be "
                 "a required property");
    if (flag(property, "nullable"))
        forbid(c, &at, "nullable",
               "this property is in x-kubernetes-list-map-keys, so it cannot be nullable");
}

static void check_map_list(struct checker *c, const json_t *schema,
                           const struct fl_schema_path *path)
{
    static const char name[] = "x-kubernetes-list-map-keys";
    const json_t *items = get(schema, "items"), *keys = get(schema, name), *key;
    struct fl_schema_path at = {path, FL_PATH_FIELD, "items", 0};
    size_t i;

    if (json_array_size(keys) == 0)
        complain(c, FL_FIELD_REQUIRED, path, name, NULL,
                 "must not be empty if x-kubernetes-list-type is map");
    if (!items) {
        complain(c, FL_FIELD_REQUIRED, path, "items", NULL,
                 "must have a schema if x-kubernetes-list-type is map");
        return;
    }
    if (!is_type(items, "object")) {
        complain(c, FL_FIELD_INVALID, &at, "type", json_text(c, text(items, "type")),
                 "must be object if parent array's x-kubernetes-list-type is map");
        return;
    }
    json_array_foreach(keys, i, key) {
        if (json_object_get(get(items, "properties"), json_string_value(key)))
            check_map_key(c, items, json_string_value(key), &at);
        else
            complain(c, FL_FIELD_INVALID, path, name, keys,
                     "entries must all be names of item properties");
        if (has_text(keys, json_string_value(key), i))
            complain(c, FL_FIELD_INVALID, path, name, keys, "must not contain duplicate entries");
    }
}

static void check_list(struct checker *c, const json_t *schema, const struct fl_schema_path *path)
{
    static const char name[] = "x-kubernetes-list-type";
    const json_t *type = get(schema, name), *items = get(schema, "items");
    const char *word = json_string_value(type);
    bool has_keys = json_array_size(get(schema, "x-kubernetes-list-map-keys")) > 0;

    if (has_keys && !type)
        complain(c, FL_FIELD_REQUIRED, path, name, NULL,
                 "must be map if x-kubernetes-list-map-keys is non-empty");
    else if (has_keys && !fl_streq(word, "map"))
        complain(c, FL_FIELD_INVALID, path, name, type,
                 "must be map if x-kubernetes-list-map-keys is non-empty");
    if (!type)
        return;
    if (!is_type(schema, "array"))
        complain(c, *text(schema, "type") ? FL_FIELD_INVALID : FL_FIELD_REQUIRED, path, "type",
                 get(schema, "type"), "must be array if x-kubernetes-list-type is specified");
    else if (fl_streq(word, "set") && items)
        check_set_items(c, items, path);
    if (!fl_streq(word, "atomic") && !fl_streq(word, "set") && !fl_streq(word, "map"))
        complain(c, FL_FIELD_NOT_SUPPORTED, path, name, type, "\"atomic\", \"set\", \"map\"");
    if (fl_streq(word, "map"))
        check_map_list(c, schema, path);
    if ((fl_streq(word, "map") || fl_streq(word, "set")) && flag(items, "nullable"))
        forbid(c, FL_PATH_CHILD(path, "items"), "nullable",
               fl_arena_printf(c->errors->arena,
                               "cannot be nullable when x-kubernetes-list-type "
                               "is %s",
                               word));
}

static void check_map(struct checker *c, const json_t *schema, const struct fl_schema_path *path)
{
    const json_t *type = get(schema, "x-kubernetes-map-type");
    const char *word = json_string_value(type);
    const json_t *additional = get(schema, "additionalProperties");

    if (type && !is_type(schema, "object"))
        complain(c, *text(schema, "type") ? FL_FIELD_INVALID : FL_FIELD_REQUIRED, path, "type",
                 get(schema, "type"), "must be object if x-kubernetes-map-type is specified");
    if (type && !fl_streq(word, "atomic") && !fl_streq(word, "granular"))
        complain(c, FL_FIELD_NOT_SUPPORTED, path, "x-kubernetes-map-type", type,
                 "\"atomic\", \"granular\"");
    if (additional && !json_is_true(additional) && json_object_size(get(schema, "properties")) > 0)
        forbid(c, path, "additionalProperties",
               "additionalProperties and properties are mutual exclusive");
}

static void check_extensions(struct checker *c, const json_t *schema,
                             const struct fl_schema_path *path)
{
    static const char preserve[] = "x-kubernetes-preserve-unknown-fields";
    static const char embedded[] = "x-kubernetes-embedded-resource";
    bool is_int_or_string = flag(schema, "x-kubernetes-int-or-string");

    if (json_is_false(get(schema, preserve)))
        complain(c, FL_FIELD_INVALID, path, preserve, get(schema, preserve),
                 "must be true or undefined");
    if (is_int_or_string && flag(schema, preserve))
        complain(c, FL_FIELD_INVALID, path, preserve, get(schema, preserve),
                 "must be false if x-kubernetes-int-or-string is true");
    if (is_int_or_string && flag(schema, embedded))
        complain(c, FL_FIELD_INVALID, path, embedded, get(schema, embedded),
                 "must be false if x-kubernetes-int-or-string is true");
}

/* Rules, as far as they can be checked without compiling them. */

static bool is_blank(const char *words)
{
    return words[strspn(words, " \t\r\n\v\f")] == '\0';
}

/* A line break inside, not at an end. */
static bool is_broken(const char *words)
{
    const char *end = words + strlen(words);

    words += strspn(words, " \t\r\n\v\f");
    while (end > words && strchr(" \t\r\n\v\f", end[-1]))
        end--;
    return memchr(words, '\n', (size_t)(end - words)) || memchr(words, '\r', (size_t)(end - words));
}

static void check_rule_message(struct checker *c, const json_t *rule,
                               const struct fl_schema_path *path)
{
    const char *message = text(rule, "message"), *expression = text(rule, "rule");

    if (is_blank(expression))
        complain(c, FL_FIELD_REQUIRED, path, "rule", NULL, "rule is not specified");
    else if (*message && is_blank(message))
        complain(c, FL_FIELD_INVALID, path, "message", get(rule, "message"),
                 "message must be non-empty if specified");
    else if (is_broken(message))
        complain(c, FL_FIELD_INVALID, path, "message", get(rule, "message"),
                 "message must not contain line breaks");
    else if (is_broken(expression) && !*message)
        complain(c, FL_FIELD_REQUIRED, path, "message", NULL,
                 "message must be specified if rule contains line breaks");
    if (*text(rule, "messageExpression") && is_blank(text(rule, "messageExpression")))
        complain(c, FL_FIELD_REQUIRED, path, "messageExpression", NULL,
                 "messageExpression must be non-empty if specified");
}

static void check_rule_reason(struct checker *c, const json_t *rule,
                              const struct fl_schema_path *path)
{
    static const enum fl_field_error_type reasons[] = {FL_FIELD_INVALID, FL_FIELD_REQUIRED,
                                                       FL_FIELD_FORBIDDEN, FL_FIELD_DUPLICATE};
    const json_t *reason = get(rule, "reason");

    if (!reason)
        return;
    for (size_t i = 0; i < FL_COUNT_OF(reasons); i++) {
        if (fl_streq(json_string_value(reason), fl_field_error_reason(reasons[i])))
            return;
    }
    complain(c, FL_FIELD_NOT_SUPPORTED, path, "reason", reason,
             "\"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", "
             "\"FieldValueRequired\"");
}

static void check_rules(struct checker *c, const json_t *schema, const struct fl_schema_path *path)
{
    static const char *const texts[] = {"rule", "message", "messageExpression", "reason",
                                        "fieldPath"};
    const json_t *rules = get(schema, "x-kubernetes-validations"), *rule;
    struct fl_schema_path up = {path, FL_PATH_FIELD, "x-kubernetes-validations", 0};
    size_t i;

    json_array_foreach(rules, i, rule) {
        struct fl_schema_path at = {&up, FL_PATH_INDEX, NULL, i};
        const char *field = text(rule, "fieldPath");
        bool sound = true;

        for (size_t t = 0; t < FL_COUNT_OF(texts); t++) {
            if (get(rule, texts[t]) && !json_is_string(get(rule, texts[t]))) {
                complain(c, FL_FIELD_INVALID, &at, texts[t], get(rule, texts[t]),
                         "must be a string");
                sound = false;
            }
        }
        if (!sound)
            continue;
        check_rule_message(c, rule, &at);
        check_rule_reason(c, rule, &at);
        if (*field && is_blank(field))
            complain(c, FL_FIELD_INVALID, &at, "fieldPath", get(rule, "fieldPath"),
                     "fieldPath must be non-empty if specified");
        if (strpbrk(field, "\r\n"))
            complain(c, FL_FIELD_INVALID, &at, "fieldPath", get(rule, "fieldPath"),
                     "fieldPath must not contain line breaks");
        if (*field && !fl_schema_find_field(schema, field, true, NULL))
            complain(c, FL_FIELD_INVALID, &at, "fieldPath", get(rule, "fieldPath"),
                     "fieldPath must be a valid path");
    }
}

/* Structure. */

static void check_nested(struct checker *c, const json_t *schema, struct scope scope,
                         const struct fl_schema_path *path)
{
    static const struct {
        const char *key, *words;
    } forbidden[] = {
        {"type", "must be empty to be structural"},
        {"additionalProperties", "must be undefined to be structural"},
        {"default", "must be undefined to be structural"},
        {"title", "must be empty to be structural"},
        {"description", "must be empty to be structural"},
        {"nullable", "must be false to be structural"},
        {"x-kubernetes-preserve-unknown-fields", "must be false to be structural"},
        {"x-kubernetes-embedded-resource", "must be false to be structural"},
        {"x-kubernetes-int-or-string", "must be false to be structural"},
        {"x-kubernetes-list-map-keys", "must be empty to be structural"},
        {"x-kubernetes-list-type", "must be undefined to be structural"},
        {"x-kubernetes-map-type", "must be undefined to be structural"},
        {"x-kubernetes-validations", "must be empty to be structural"},
    };
    struct fl_schema_path properties = {path, FL_PATH_FIELD, "properties", 0};

    for (size_t i = 0; i < FL_COUNT_OF(forbidden); i++) {
        const json_t *value = get(schema, forbidden[i].key);
        bool is_unset = !value || json_is_false(value) ||
                        (json_is_string(value) && i < 5 && !*json_string_value(value)) ||
                        (json_is_array(value) && json_array_size(value) == 0);

        if (!is_unset && !(i == 0 && scope.may_have_type))
            forbid(c, path, forbidden[i].key, forbidden[i].words);
    }
    if (json_object_get(get(schema, "properties"), "metadata"))
        forbid(c, &properties, NULL, "must not be specified in a nested context");
}

static void check_has_type(struct checker *c, const json_t *schema, enum level level,
                           const struct fl_schema_path *path)
{
    static const char *const words[] = {
        [LEVEL_ROOT] = "must not be empty at the root",
        [LEVEL_ITEM] = "must not be empty for specified array items",
        [LEVEL_FIELD] = "must not be empty for specified object fields",
    };
    bool has_type = *text(schema, "type");

    if (flag(schema, "x-kubernetes-embedded-resource") && !is_type(schema, "object"))
        complain(c, has_type ? FL_FIELD_INVALID : FL_FIELD_REQUIRED, path, "type",
                 get(schema, "type"), "must be object if x-kubernetes-embedded-resource is true");
    else if (!has_type && !flag(schema, "x-kubernetes-int-or-string") &&
             !flag(schema, "x-kubernetes-preserve-unknown-fields"))
        complain(c, FL_FIELD_REQUIRED, path, "type", NULL, words[level]);
    if (level == LEVEL_ROOT && has_type && !is_type(schema, "object"))
        complain(c, FL_FIELD_INVALID, path, "type", get(schema, "type"),
                 "must be object at the root");
    if (is_type(schema, "array") && !get(schema, "items"))
        complain(c, FL_FIELD_REQUIRED, path, "items", NULL, "must be specified");
}

/* At the root a schema may say of metadata only what name and generateName look like. */
static void check_root_metadata(struct checker *c, const json_t *metadata,
                                const struct fl_schema_path *path)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)metadata, key, value) {
        bool fine = json_is_null(value) || fl_streq(key, "type") || fl_streq(key, "default") ||
                    fl_streq(key, "externalDocs") || fl_streq(key, "example");

        if (fl_streq(key, "properties")) {
            const char *name;
            json_t *property;

            fine = true;
            json_object_foreach(value, name, property)
                fine &= fl_streq(name, "name") || fl_streq(name, "generateName");
        }
        if (!fine) {
            forbid(c, path, NULL,
                   "must not specify anything other than name and generateName, but "
                   "metadata is implicitly specified");
            return;
        }
    }
}

static void check_type_meta(struct checker *c, const json_t *schema, enum level level,
                            const struct fl_schema_path *path)
{
    static const char *const names[] = {"apiVersion", "kind", "metadata"};
    struct fl_schema_path up = {path, FL_PATH_FIELD, "properties", 0};
    bool is_resource = level == LEVEL_ROOT || flag(schema, "x-kubernetes-embedded-resource");

    for (size_t i = 0; is_resource && i < FL_COUNT_OF(names); i++) {
        const json_t *property = json_object_get(get(schema, "properties"), names[i]);
        struct fl_schema_path at = {&up, FL_PATH_KEY, names[i], 0};

        if (property && !is_type(property, i < 2 ? "string" : "object"))
            complain(c, FL_FIELD_INVALID, &at, "type", json_text(c, text(property, "type")),
                     i < 2 ? "must be string" : "must be object");
        if (property && i == 2 && level == LEVEL_ROOT)
            check_root_metadata(c, property, &at);
    }
}

static void check_structure(struct checker *c, const json_t *schema, struct scope scope,
                            const struct fl_schema_path *path)
{
    bool is_embedded = flag(schema, "x-kubernetes-embedded-resource");
    const json_t *additional = get(schema, "additionalProperties");

    if (scope.level == LEVEL_ROOT && additional)
        forbid(c, path, "additionalProperties", "must not be used at the root");
    if (scope.level == LEVEL_ROOT && flag(schema, "nullable"))
        forbid(c, path, "nullable", "nullable cannot be true at the root");
    if (is_embedded && additional)
        forbid(c, path, "additionalProperties",
               "must not be used if x-kubernetes-embedded-resource is set");
    if (is_embedded && !flag(schema, "x-kubernetes-preserve-unknown-fields") &&
        json_object_size(get(schema, "properties")) == 0)
        complain(c, FL_FIELD_REQUIRED, path, "properties", NULL,
                 "must not be empty if x-kubernetes-embedded-resource is true without "
                 "x-kubernetes-preserve-unknown-fields");
    check_has_type(c, schema, scope.level, path);
    check_type_meta(c, schema, scope.level, path);
}

/* Where the walk goes on. */

static bool is_only_type(const json_t *schema, const char *type)
{
    return json_object_size(schema) == 1 && is_type(schema, type);
}

static bool is_int_or_string_pair(const json_t *branches)
{
    return json_array_size(branches) == 2 && is_only_type(json_array_get(branches, 0), "integer") &&
           is_only_type(json_array_get(branches, 1), "string");
}

static void check_branches(struct checker *c, const json_t *schema, struct scope scope,
                           const struct fl_schema_path *path)
{
    static const char *const junctions[] = {"allOf", "anyOf", "oneOf"};
    const json_t *branch, *none = get(schema, "not");
    size_t i;

    scope.depth++;
    for (size_t j = 0; j < FL_COUNT_OF(junctions); j++) {
        const json_t *branches = get(schema, junctions[j]);
        struct fl_schema_path up = {path, FL_PATH_FIELD, junctions[j], 0};

        json_array_foreach(branches, i, branch) {
            struct scope below = scope;

            below.nested = true;
            below.may_have_type =
                j == 1 && is_int_or_string_pair(branches) && (!scope.nested || scope.holds_pair);
            below.holds_pair = j == 0 && i == 0 && !scope.nested;
            check_schema(c, branch, below, FL_PATH_AT(&up, i));
        }
    }
    scope.nested = true;
    scope.may_have_type = scope.holds_pair = false;
    if (none)
        check_schema(c, none, scope, FL_PATH_CHILD(path, "not"));
}

static void check_properties(struct checker *c, const json_t *schema, struct scope scope,
                             const struct fl_schema_path *path)
{
    bool is_root = scope.level == LEVEL_ROOT && !scope.nested;
    struct fl_schema_path up = {path, FL_PATH_FIELD, "properties", 0};
    json_t *property;
    const char *key;

    scope.level = LEVEL_FIELD;
    scope.may_have_type = scope.holds_pair = false;
    scope.depth++;
    json_object_foreach(get(schema, "properties"), key, property) {
        struct scope below = scope;

        if ((is_root || flag(schema, "x-kubernetes-embedded-resource")) &&
            (fl_streq(key, "metadata") || fl_streq(key, "kind") || fl_streq(key, "apiVersion"))) {
            below.inside_meta = true;
            if (is_root)
                below.no_defaults = fl_arena_printf(c->errors->arena, " in top-level %s", key);
        }
        check_schema(c, property, below, FL_PATH_AT_KEY(&up, key));
    }
}

static bool within_bounds(struct checker *c, struct scope scope, const struct fl_schema_path *path)
{
    if (scope.depth <= FL_SCHEMA_DEPTH_MAX && ++c->nodes <= FL_SCHEMA_NODES_MAX)
        return true;
    if (!c->stopped)
        fl_schema_add(c->errors, FL_FIELD_FORBIDDEN, path, NULL,
                      scope.depth > FL_SCHEMA_DEPTH_MAX ? "nests deeper than %u levels"
                                                        : "has more than %u parts",
                      scope.depth > FL_SCHEMA_DEPTH_MAX ? FL_SCHEMA_DEPTH_MAX
                                                        : FL_SCHEMA_NODES_MAX);
    c->stopped = true;
    return false;
}

static void check_schema(struct checker *c, const json_t *schema, struct scope scope,
                         const struct fl_schema_path *path)
{
    const json_t *additional, *items;
    struct scope below = scope;

    if (c->stopped || !within_bounds(c, scope, path) || !check_shapes(c, schema, path))
        return;
    additional = get(schema, "additionalProperties");
    items = get(schema, "items");
    check_refused(c, schema, scope, path);
    check_list(c, schema, path);
    check_map(c, schema, path);
    check_extensions(c, schema, path);
    check_rules(c, schema, path);
    if (scope.nested)
        check_nested(c, schema, scope, path);
    else
        check_structure(c, schema, scope, path);
    check_branches(c, schema, scope, path);
    check_properties(c, schema, scope, path);
    below.depth++;
    below.may_have_type = below.holds_pair = false;
    if (items) {
        below.level = LEVEL_ITEM;
        check_schema(c, items, below, FL_PATH_CHILD(path, "items"));
    }
    if (json_is_object(additional) && !scope.nested) {
        below.level = LEVEL_FIELD;
        if (scope.inside_meta)
            below.no_defaults = " inside additionalProperties applying to object metadata";
        check_schema(c, additional, below, FL_PATH_CHILD(path, "additionalProperties"));
    }
}

/* What a branch at the root says of a field must be about a field that exists. */

static void check_complete(struct checker *c, const json_t *branch, const json_t *schema,
                           const struct fl_schema_path *branch_path,
                           const struct fl_schema_path *path, bool is_branch, unsigned depth);

static void check_junctions_complete(struct checker *c, const json_t *branch, const json_t *schema,
                                     const struct fl_schema_path *branch_path,
                                     const struct fl_schema_path *path, unsigned depth)
{
    static const char *const junctions[] = {"allOf", "anyOf", "oneOf"};
    const json_t *below;
    size_t i;

    for (size_t j = 0; j < FL_COUNT_OF(junctions); j++) {
        struct fl_schema_path up = {branch_path, FL_PATH_FIELD, junctions[j], 0};

        json_array_foreach(get(branch, junctions[j]), i, below)
            check_complete(c, below, schema, FL_PATH_AT(&up, i), path, true, depth + 1);
    }
    if (get(branch, "not"))
        check_complete(c, get(branch, "not"), schema, FL_PATH_CHILD(branch_path, "not"), path, true,
                       depth + 1);
}

static void check_complete(struct checker *c, const json_t *branch, const json_t *schema,
                           const struct fl_schema_path *branch_path,
                           const struct fl_schema_path *path, bool is_branch, unsigned depth)
{
    struct fl_schema_path up = {path, FL_PATH_FIELD, "properties", 0};
    struct fl_schema_path branch_up = {branch_path, FL_PATH_FIELD, "properties", 0};
    const char *key;
    json_t *below;

    if (depth > FL_SCHEMA_DEPTH_MAX)
        return;
    if (!schema) {
        fl_schema_add(c->errors, FL_FIELD_REQUIRED, path, NULL, "because it is defined in %s",
                      fl_schema_path_text(c->errors->arena, branch_path));
        return;
    }
    check_junctions_complete(c, branch, schema, branch_path, path, depth);
    if (!is_branch)
        return;
    if (get(branch, "items"))
        check_complete(c, get(branch, "items"), get(schema, "items"),
                       FL_PATH_CHILD(branch_path, "items"), FL_PATH_CHILD(path, "items"), true,
                       depth + 1);
    json_object_foreach(get(branch, "properties"), key, below)
        check_complete(c, below, json_object_get(get(schema, "properties"), key),
                       FL_PATH_AT_KEY(&branch_up, key), FL_PATH_AT_KEY(&up, key), true, depth + 1);
}

bool fl_schema_check_structural(const json_t *openapi, const struct fl_schema_path *path,
                                struct fl_field_errors *errors)
{
    struct checker checker = {errors, 0, false};
    size_t before = errors->count + errors->dropped;

    if (!json_is_object(openapi)) {
        fl_schema_add(errors, FL_FIELD_INVALID, path, openapi, "must be an object");
        return false;
    }
    check_schema(&checker, openapi, (struct scope){.level = LEVEL_ROOT}, path);
    if (!checker.stopped)
        check_complete(&checker, openapi, openapi, path, path, false, 0);
    return errors->count + errors->dropped == before;
}

/* Defaults: each must be whole by itself. */

static void note_unknown(void *user, const char *path)
{
    (void)path;
    *(bool *)user = true;
}

static void check_default(const struct fl_schema *schema, const struct fl_schema_node *node,
                          const struct fl_schema_path *path, struct fl_field_errors *errors)
{
    struct fl_schema_path at = {path, FL_PATH_FIELD, "default", 0};
    struct fl_schema_path root = {NULL, FL_PATH_ROOT, "", 0};
    struct fl_field_errors *found = fl_new(errors->arena, struct fl_field_errors);
    FL_JSON copy = json_deep_copy(node->fallback);
    bool has_unknown = false;

    fl_field_errors_init(found, errors->arena);
    fl_schema_prune_part(node, copy, false, schema->object_meta, note_unknown, &has_unknown);
    if (has_unknown)
        fl_schema_add(errors, FL_FIELD_INVALID, &at, node->fallback,
                      "must not have unknown fields");
    fl_schema_check_embedded(node, node->fallback, &root, found);
    if (found->count == 0)
        fl_schema_check_value(schema, node, node->fallback, NULL, &root, found);
    if (found->count == 0 && node->below_rules)
        fl_schema_check_rules(node, node->fallback, NULL, found);
    for (size_t i = 0; i < found->count; i++) {
        bool is_whole = fl_streq(found->items[i].path, "<nil>");
        struct fl_schema_path inside = {&at, FL_PATH_FIELD, found->items[i].path, 0};

        fl_field_error_add_whole(errors, found->items[i].type,
                                 fl_schema_path_text(errors->arena, is_whole ? &at : &inside),
                                 found->items[i].message);
    }
}

static void check_defaults(const struct fl_schema *schema, const struct fl_schema_node *node,
                           const struct fl_schema_path *path, struct fl_field_errors *errors)
{
    struct fl_schema_path up = {path, FL_PATH_FIELD, "properties", 0};

    if (node->fallback)
        check_default(schema, node, path, errors);
    if (node->items)
        check_defaults(schema, node->items, FL_PATH_CHILD(path, "items"), errors);
    for (uint32_t i = 0; i < node->property_count; i++)
        check_defaults(schema, node->properties[i].node,
                       FL_PATH_AT_KEY(&up, node->properties[i].key), errors);
}

void fl_schema_check_defaults(const struct fl_schema *schema, const struct fl_schema_path *path,
                              struct fl_field_errors *errors)
{
    check_defaults(schema, schema->root, path, errors);
}

/* Paths of fields in rules and selectable fields: ".spec.tiers", "['a b']". */

static size_t read_step(const char *path, bool brackets, char *name, size_t size)
{
    size_t n = 0, at = 1;

    if (*path == '.') {
        at += strcspn(path + 1, ".[]");
        n = at - 1;
        if (n == 0 || n >= size)
            return 0;
        memcpy(name, path + 1, n);
    } else if (brackets && path[0] == '[' && path[1] == '\'') {
        for (at = 2; path[at] && path[at] != '\''; at++) {
            if (path[at] == '\\' && (path[at + 1] == '\'' || path[at + 1] == '\\'))
                at++;
            if (n + 1 >= size)
                return 0;
            name[n++] = path[at];
        }
        if (path[at] != '\'' || path[at + 1] != ']')
            return 0;
        at += 2;
    } else {
        return 0;
    }
    name[n] = '\0';
    return at;
}

const json_t *fl_schema_find_field(const json_t *schema, const char *path, bool brackets,
                                   struct fl_buf *ret_text)
{
    char name[256];

    while (*path && schema) {
        size_t used = read_step(path, brackets, name, sizeof(name));
        const json_t *properties = get(schema, "properties");
        const json_t *additional = get(schema, "additionalProperties");

        if (used == 0)
            return NULL;
        if (json_object_size(properties) > 0) {
            schema = json_object_get(properties, name);
            if (ret_text)
                fl_buf_printf(ret_text, "%s%s", ret_text->len ? "." : "", name);
        } else {
            schema = json_is_object(additional) ? additional : NULL;
            if (ret_text)
                fl_buf_printf(ret_text, "[%s]", name);
        }
        path += used;
    }
    return schema;
}
