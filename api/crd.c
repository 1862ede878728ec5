#include "api/crd.h"

#include "api/meta.h"
#include "api/schema_internal.h"
#include "lib/str.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define SELECTABLE_FIELDS_MAX 8u
#define VERSIONS_MAX          64u
#define WARNING_MAX           ((size_t)256)

static json_t *get(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);

    return json_is_null(value) ? NULL : value;
}

static const char *text(const json_t *object, const char *key)
{
    return fl_str_or(json_string_value(json_object_get(object, key)), "");
}

/* Defaults. */

static char *lower(const char *name)
{
    char *copy = fl_strdup(name);

    for (char *c = copy; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return copy;
}

static void default_names(json_t *names)
{
    const char *kind = text(names, "kind");

    if (!*text(names, "singular")) {
        char *singular = lower(kind);

        fl_json_set_str(names, "singular", singular);
        free(singular);
    }
    if (!*text(names, "listKind") && *kind) {
        char *list_kind = fl_asprintf("%sList", kind);

        fl_json_set_str(names, "listKind", list_kind);
        free(list_kind);
    }
}

static bool is_stored(const json_t *stored, const char *version)
{
    const json_t *name;
    size_t i;

    json_array_foreach(stored, i, name) {
        if (fl_streq(json_string_value(name), version))
            return true;
    }
    return false;
}

static void add_stored_version(json_t *crd, json_t *status)
{
    const json_t *storage = fl_crd_storage_version(crd);
    json_t *stored = json_object_get(status, "storedVersions");

    if (!json_is_array(stored)) {
        stored = json_array();
        (void)json_object_set_new(status, "storedVersions", stored);
    }
    if (storage && !is_stored(stored, text(storage, "name")))
        (void)json_array_append_new(stored, json_string(text(storage, "name")));
}

void fl_crd_default(json_t *crd)
{
    json_t *spec = fl_json_ensure_object(crd, "spec");

    default_names(fl_json_ensure_object(spec, "names"));
    if (!get(spec, "conversion"))
        fl_json_set_str(fl_json_ensure_object(spec, "conversion"), "strategy", "None");
    add_stored_version(crd, fl_json_ensure_object(crd, "status"));
}

/* Versions. */

const json_t *fl_crd_version(const json_t *crd, const char *name)
{
    const json_t *version;
    size_t i;

    json_array_foreach(fl_json_path(crd, "spec.versions"), i, version) {
        if (fl_streq(text(version, "name"), name))
            return version;
    }
    return NULL;
}

const json_t *fl_crd_storage_version(const json_t *crd)
{
    const json_t *version;
    size_t i;

    json_array_foreach(fl_json_path(crd, "spec.versions"), i, version) {
        if (json_is_true(get(version, "storage")))
            return version;
    }
    return NULL;
}

int fl_crd_compile_schema(const json_t *version, struct fl_schema **ret_schema,
                          struct fl_error *err)
{
    const json_t *openapi = fl_json_path(version, "schema.openAPIV3Schema");
    struct fl_arena *arena = fl_arena_create();
    struct fl_field_errors *errors = fl_new(arena, struct fl_field_errors);
    FL_JSON empty = json_pack("{s:s}", "type", "object");
    int r;

    fl_field_errors_init(errors, arena);
    r = fl_schema_compile(openapi ? openapi : empty, "openAPIV3Schema", ret_schema, errors, err);
    fl_arena_destroy(arena);
    return r;
}

/* Validation. Each check adds to the errors of one run. */

struct check {
    struct fl_field_errors *errors;
    const json_t *spec;
};

static void complain(struct check *c, enum fl_field_error_type type,
                     const struct fl_schema_path *path, const char *key, const json_t *value,
                     const char *detail)
{
    struct fl_schema_path at = {path, FL_PATH_FIELD, key, 0};

    fl_schema_add(c->errors, type, key ? &at : path, value, "%s", detail);
}

static void require(struct check *c, const json_t *object, const char *key,
                    const struct fl_schema_path *path)
{
    if (!*text(object, key))
        complain(c, FL_FIELD_REQUIRED, path, key, NULL, "");
}

static const char label_words[] =
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
    "regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* RFC 1035: lower-case letters, digits and inner hyphens, a letter first. */
static bool is_label(const char *label, size_t len)
{
    if (len == 0 || !is_alphanumeric(label[0]) || !is_alphanumeric(label[len - 1]) ||
        label[0] <= '9')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_alphanumeric(label[i]) && label[i] != '-')
            return false;
    }
    return true;
}

/* What is wrong with a DNS-1035 label, joined by commas; NULL where nothing is. */
static const char *label_problem(struct check *c, const char *label)
{
    size_t len = strlen(label);
    bool matches = is_label(label, len);

    if (matches && len <= 63)
        return NULL;
    return fl_arena_printf(c->errors->arena, "%s%s%s",
                           len > 63 ? "must be no more than 63 characters" : "",
                           len > 63 && !matches ? "," : "", matches ? "" : label_words);
}

static const char *subdomain_problem(const char *name)
{
    const char *why;

    return fl_name_is_subdomain(name, &why) ? NULL : why;
}

static void check_label(struct check *c, const json_t *value, const struct fl_schema_path *path)
{
    const char *problem = label_problem(c, fl_str_or(json_string_value(value), ""));

    if (problem)
        complain(c, FL_FIELD_INVALID, path, NULL, value, problem);
}

static void check_kind(struct check *c, const json_t *names, const char *key,
                       const struct fl_schema_path *path)
{
    char *name = lower(text(names, key));
    const char *problem = *name ? label_problem(c, name) : NULL;

    if (problem)
        complain(c, FL_FIELD_INVALID, path, key, get(names, key),
                 fl_arena_printf(c->errors->arena,
                                 "may have mixed case, but should otherwise match: %s", problem));
    free(name);
}

static void check_labels(struct check *c, const json_t *list, const struct fl_schema_path *path)
{
    const json_t *value;
    size_t i;

    json_array_foreach(list, i, value)
        check_label(c, value, FL_PATH_AT(path, i));
}

static void check_names(struct check *c, const json_t *names, const struct fl_schema_path *path)
{
    if (*text(names, "plural"))
        check_label(c, get(names, "plural"), FL_PATH_CHILD(path, "plural"));
    if (*text(names, "singular"))
        check_label(c, get(names, "singular"), FL_PATH_CHILD(path, "singular"));
    check_kind(c, names, "kind", path);
    check_kind(c, names, "listKind", path);
    check_labels(c, get(names, "shortNames"), FL_PATH_CHILD(path, "shortNames"));
    check_labels(c, get(names, "categories"), FL_PATH_CHILD(path, "categories"));
    if (*text(names, "kind") && fl_streq(text(names, "kind"), text(names, "listKind")))
        complain(c, FL_FIELD_INVALID, path, "listKind", get(names, "listKind"),
                 "kind and listKind may not be the same");
}

static void check_metadata(struct check *c, const json_t *crd)
{
    struct fl_schema_path root = {NULL, FL_PATH_ROOT, "metadata", 0};
    const json_t *name = fl_json_path(crd, "metadata.name");
    const char *given = fl_str_or(json_string_value(name), ""), *problem;
    const char *wanted = fl_arena_printf(c->errors->arena, "%s.%s",
                                         fl_str_or(fl_json_str(c->spec, "names.plural"), ""),
                                         text(c->spec, "group"));

    if (!*given) {
        complain(c, FL_FIELD_REQUIRED, &root, "name", NULL, "name or generateName is required");
        return;
    }
    problem = subdomain_problem(given);
    if (problem)
        complain(c, FL_FIELD_INVALID, &root, "name", name, problem);
    if (!fl_streq(given, wanted))
        complain(c, FL_FIELD_INVALID, &root, "name", name,
                 "must be spec.names.plural+\".\"+spec.group");
}

static void check_group(struct check *c, const struct fl_schema_path *spec)
{
    const char *group = text(c->spec, "group"), *problem;

    if (!*group) {
        complain(c, FL_FIELD_REQUIRED, spec, "group", NULL, "");
        return;
    }
    problem = subdomain_problem(group);
    if (problem)
        complain(c, FL_FIELD_INVALID, spec, "group", get(c->spec, "group"), problem);
    else if (!strchr(group, '.'))
        complain(c, FL_FIELD_INVALID, spec, "group", get(c->spec, "group"),
                 "should be a domain with at least one dot");
}

static void check_scope(struct check *c, const struct fl_schema_path *spec)
{
    const char *scope = text(c->spec, "scope");

    if (!*scope)
        complain(c, FL_FIELD_REQUIRED, spec, "scope", NULL, "");
    else if (!fl_streq(scope, "Cluster") && !fl_streq(scope, "Namespaced"))
        complain(c, FL_FIELD_NOT_SUPPORTED, spec, "scope", get(c->spec, "scope"),
                 "\"Cluster\", \"Namespaced\"");
}

static void check_conversion(struct check *c, const struct fl_schema_path *spec)
{
    struct fl_schema_path path = {spec, FL_PATH_FIELD, "conversion", 0};
    const json_t *conversion = get(c->spec, "conversion");
    const char *strategy = text(conversion, "strategy");

    if (!conversion)
        return;
    if (!*strategy)
        complain(c, FL_FIELD_REQUIRED, &path, "strategy", NULL, "");
    else if (fl_streq(strategy, "Webhook"))
        complain(c, FL_FIELD_FORBIDDEN, &path, "strategy", NULL,
                 "conversion by webhook is not served here; the strategy must be None");
    else if (!fl_streq(strategy, "None"))
        complain(c, FL_FIELD_NOT_SUPPORTED, &path, "strategy", get(conversion, "strategy"),
                 "\"None\", \"Webhook\"");
    if (get(conversion, "webhook") && !fl_streq(strategy, "Webhook"))
        complain(c, FL_FIELD_FORBIDDEN, &path, "webhookClientConfig", NULL,
                 "should not be set when strategy is not set to Webhook");
    if (json_array_size(fl_json_path(conversion, "webhook.conversionReviewVersions")) > 0 &&
        !fl_streq(strategy, "Webhook"))
        complain(c, FL_FIELD_FORBIDDEN, &path, "conversionReviewVersions", NULL,
                 "should not be set when strategy is not set to Webhook");
}

/* Versions: columns, subresources, selectable fields, schema. */

static void check_simple_path(struct check *c, const json_t *value,
                              const struct fl_schema_path *path, const char *const *prefixes,
                              const char *words)
{
    const char *given = fl_str_or(json_string_value(value), "");

    if (*given != '.') {
        complain(c, FL_FIELD_INVALID, path, NULL, value,
                 "must be a simple json path starting with .");
        return;
    }
    for (; prefixes && *prefixes; prefixes++) {
        if (fl_str_has_prefix(given, *prefixes))
            return;
    }
    if (prefixes)
        complain(c, FL_FIELD_INVALID, path, NULL, value, words);
}

static void check_column(struct check *c, const json_t *column, const struct fl_schema_path *path)
{
    static const char *const types[] = {"boolean", "date", "integer", "number", "string"};
    static const char *const formats[] = {"byte",  "date",  "date-time", "double",
                                          "float", "int32", "int64",     "password"};
    const char *type = text(column, "type"), *format = text(column, "format");
    size_t t = 0, f = 0;

    require(c, column, "name", path);
    while (t < FL_COUNT_OF(types) && !fl_streq(type, types[t]))
        t++;
    if (t == FL_COUNT_OF(types))
        complain(c, *type ? FL_FIELD_INVALID : FL_FIELD_REQUIRED, path, "type", get(column, "type"),
                 "must be one of boolean,date,integer,number,string");
    while (f < FL_COUNT_OF(formats) && !fl_streq(format, formats[f]))
        f++;
    if (*format && f == FL_COUNT_OF(formats))
        complain(c, FL_FIELD_INVALID, path, "format", get(column, "format"),
                 "must be one of byte,date,date-time,double,float,int32,int64,password");
    if (!*text(column, "jsonPath"))
        complain(c, FL_FIELD_REQUIRED, path, "JSONPath", NULL, "");
    else
        check_simple_path(c, get(column, "jsonPath"), FL_PATH_CHILD(path, "JSONPath"), NULL, NULL);
}

static void check_scale(struct check *c, const json_t *scale, const struct fl_schema_path *path)
{
    static const struct {
        const char *key, *prefixes[3], *words;
        bool required;
    } paths[] = {
        {"specReplicasPath", {".spec."}, "should be a json path under .spec", true},
        {"statusReplicasPath", {".status."}, "should be a json path under .status", true},
        {"labelSelectorPath",
         {".spec.", ".status."},
         "should be a json path under either .spec or .status",
         false},
    };
    struct fl_schema_path up = {path, FL_PATH_FIELD, "scale", 0};

    for (size_t i = 0; scale && i < FL_COUNT_OF(paths); i++) {
        if (*text(scale, paths[i].key))
            check_simple_path(c, get(scale, paths[i].key), FL_PATH_CHILD(&up, paths[i].key),
                              paths[i].prefixes, paths[i].words);
        else if (paths[i].required)
            complain(c, FL_FIELD_REQUIRED, &up, paths[i].key, NULL, "");
    }
}

static void check_selectable_field(struct check *c, const json_t *version, const json_t *fields,
                                   size_t index, const struct fl_schema_path *path)
{
    const json_t *value = get(json_array_get(fields, index), "jsonPath"), *found;
    const char *given = fl_str_or(json_string_value(value), ""), *type;

    if (!*given) {
        complain(c, FL_FIELD_REQUIRED, path, "jsonPath", NULL, "");
        return;
    }
    if (*given != '.' && *given != '[') {
        complain(c, FL_FIELD_INVALID, path, "jsonPath", value,
                 fl_arena_printf(c->errors->arena,
                                 "is an invalid path: expected [ or . but got: %.*s",
                                 (int)strcspn(given, ".[]"), given));
        return;
    }
    found =
        fl_schema_find_field(fl_json_path(version, "schema.openAPIV3Schema"), given, false, NULL);
    if (!found) {
        complain(c, FL_FIELD_INVALID, path, "jsonPath", value,
                 strchr(given, '[') ? "is an invalid path: array notation is not allowed"
                                    : "is an invalid path: does not refer to a valid field");
        return;
    }
    type = text(found, "type");
    if (fl_streq(given, ".metadata") || fl_str_has_prefix(given, ".metadata."))
        complain(c, FL_FIELD_INVALID, path, "jsonPath", value,
                 "must not point to fields in metadata");
    if (!fl_streq(type, "string") && !fl_streq(type, "boolean") && !fl_streq(type, "integer"))
        complain(c, FL_FIELD_INVALID, path, "jsonPath", value,
                 "must point to a field of type string, boolean or integer. Enum string fields and "
                 "strings with formats are allowed.");
    for (size_t i = 0; i < index; i++) {
        if (fl_streq(text(json_array_get(fields, i), "jsonPath"), given)) {
            complain(c, FL_FIELD_DUPLICATE, path, "jsonPath", value, "");
            break;
        }
    }
}

static void check_selectable_fields(struct check *c, const json_t *version,
                                    const struct fl_schema_path *path)
{
    const json_t *fields = get(version, "selectableFields");
    size_t count = json_array_size(fields);
    FL_JSON actual = json_integer((json_int_t)count);
    FL_JSON empty = json_string("");

    if (count > 0 && !fl_json_path(version, "schema.openAPIV3Schema")) {
        complain(c, FL_FIELD_INVALID, path, NULL, empty,
                 "selectableFields may only be set when validations.schema is included");
        return;
    }
    if (count > SELECTABLE_FIELDS_MAX)
        fl_schema_add(c->errors, FL_FIELD_TOO_MANY, path, actual, "must have at most %u items",
                      SELECTABLE_FIELDS_MAX);
    for (size_t i = 0; i < count && i < FL_FIELD_ERRORS_MAX; i++)
        check_selectable_field(c, version, fields, i, FL_PATH_AT(path, i));
}

/* With a status subresource the status is validated by itself; a keyword at the root that spans
 * both would be lost then. */
static void check_root_keywords(struct check *c, const json_t *openapi,
                                const struct fl_schema_path *path)
{
    static const char *const allowed[] = {"description",
                                          "type",
                                          "format",
                                          "title",
                                          "maximum",
                                          "exclusiveMaximum",
                                          "minimum",
                                          "exclusiveMinimum",
                                          "maxLength",
                                          "minLength",
                                          "pattern",
                                          "maxItems",
                                          "minItems",
                                          "uniqueItems",
                                          "multipleOf",
                                          "required",
                                          "items",
                                          "properties",
                                          "externalDocs",
                                          "example",
                                          "x-kubernetes-preserve-unknown-fields",
                                          "x-kubernetes-validations"};
    const char *key;
    json_t *value;

    if (*text(openapi, "type") && !fl_streq(text(openapi, "type"), "object")) {
        complain(c, FL_FIELD_INVALID, path, "type", get(openapi, "type"),
                 "only \"object\" is allowed as the type at the root of the schema if the status "
                 "subresource is enabled");
        return;
    }
    json_object_foreach((json_t *)openapi, key, value) {
        size_t i = 0;

        while (i < FL_COUNT_OF(allowed) && !fl_streq(key, allowed[i]))
            i++;
        if (i < FL_COUNT_OF(allowed) || json_is_null(value) || json_is_false(value))
            continue;
        complain(c, FL_FIELD_INVALID, path, NULL, openapi,
                 "only [Description Type Format Title Maximum ExclusiveMaximum Minimum "
                 "ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems "
                 "MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields "
                 "XValidations] fields are allowed at the root of the schema if the status "
                 "subresource is enabled");
        return;
    }
}

static void check_version_schema(struct check *c, const json_t *version,
                                 const struct fl_schema_path *path)
{
    struct fl_schema_path up = {path, FL_PATH_FIELD, "schema", 0};
    struct fl_schema_path at = {&up, FL_PATH_FIELD, "openAPIV3Schema", 0};
    const json_t *openapi = get(get(version, "schema"), "openAPIV3Schema");
    FL_CLEANUP(fl_schema_unrefp) struct fl_schema *schema = NULL;

    if (!openapi) {
        complain(c, FL_FIELD_REQUIRED, &at, NULL, NULL, "schemas are required");
        return;
    }
    if (get(get(version, "subresources"), "status"))
        check_root_keywords(c, openapi, &at);
    (void)fl_schema_compile(openapi, fl_schema_path_text(c->errors->arena, &at), &schema, c->errors,
                            NULL);
}

static void check_deprecation(struct check *c, const json_t *version,
                              const struct fl_schema_path *path)
{
    const json_t *warning = get(version, "deprecationWarning");
    const char *words = json_string_value(warning);

    if (!warning)
        return;
    if (!json_is_true(get(version, "deprecated")))
        complain(c, FL_FIELD_INVALID, path, "deprecationWarning", warning,
                 "can only be set for deprecated versions");
    else if (json_string_length(warning) > WARNING_MAX)
        complain(c, FL_FIELD_INVALID, path, "deprecationWarning", warning,
                 "must be <= 256 characters long");
    else if (!words || !*words)
        complain(c, FL_FIELD_INVALID, path, "deprecationWarning", warning,
                 "must not be an empty string");
    for (size_t i = 0; words && words[i]; i++) {
        if ((unsigned char)words[i] >= 0x20 && words[i] != 0x7f)
            continue;
        complain(c, FL_FIELD_INVALID, path, "deprecationWarning", warning,
                 fl_arena_printf(c->errors->arena,
                                 "must only contain printable UTF-8 characters; "
                                 "non-printable character found at index %zu",
                                 i));
        break;
    }
}

static void check_version(struct check *c, const json_t *version, const struct fl_schema_path *path)
{
    struct fl_schema_path columns = {path, FL_PATH_FIELD, "additionalPrinterColumns", 0};
    const json_t *column;
    size_t i;

    check_label(c, get(version, "name"), FL_PATH_CHILD(path, "name"));
    check_deprecation(c, version, path);
    check_version_schema(c, version, path);
    check_scale(c, get(get(version, "subresources"), "scale"), FL_PATH_CHILD(path, "subresources"));
    json_array_foreach(get(version, "additionalPrinterColumns"), i, column)
        check_column(c, column, FL_PATH_AT(&columns, i));
    check_selectable_fields(c, version, FL_PATH_CHILD(path, "selectableFields"));
}

static void check_versions(struct check *c, const struct fl_schema_path *spec)
{
    struct fl_schema_path path = {spec, FL_PATH_FIELD, "versions", 0};
    const json_t *versions = get(c->spec, "versions"), *version;
    size_t i, storage = 0;
    bool repeated = false;

    if (json_array_size(versions) > VERSIONS_MAX) {
        fl_schema_add(c->errors, FL_FIELD_FORBIDDEN, &path, NULL, "may not be more than %u",
                      VERSIONS_MAX);
        return;
    }
    json_array_foreach(versions, i, version) {
        storage += json_is_true(get(version, "storage"));
        for (size_t j = 0; j < i; j++)
            repeated |= fl_streq(text(version, "name"), text(json_array_get(versions, j), "name"));
        check_version(c, version, FL_PATH_AT(&path, i));
    }
    if (repeated)
        complain(c, FL_FIELD_INVALID, &path, NULL, versions, "must contain unique version names");
    if (storage != 1)
        complain(c, FL_FIELD_INVALID, &path, NULL, versions,
                 "must have exactly one version marked as storage version");
}

/* Each version that objects were stored in must still be there. */
static void check_stored_versions(struct check *c, const json_t *crd)
{
    struct fl_schema_path path = {NULL, FL_PATH_ROOT, "status.storedVersions", 0};
    const json_t *stored = fl_json_path(crd, "status.storedVersions"), *name, *version;
    size_t i;

    if (json_array_size(stored) == 0) {
        complain(c, FL_FIELD_INVALID, &path, NULL, stored, "must have at least one stored version");
        return;
    }
    json_array_foreach(get(c->spec, "versions"), i, version) {
        if (json_is_true(get(version, "storage")) && !is_stored(stored, text(version, "name")))
            complain(c, FL_FIELD_INVALID, &path, NULL, stored,
                     fl_arena_printf(c->errors->arena, "must have the storage version %s",
                                     text(version, "name")));
    }
    json_array_foreach(stored, i, name) {
        if (!fl_crd_version(crd, fl_str_or(json_string_value(name), "")))
            complain(c, FL_FIELD_INVALID, FL_PATH_AT(&path, i), NULL, name,
                     "must appear in spec.versions");
    }
}

static void check_immutable(struct check *c, const json_t *crd, const json_t *old, const char *path)
{
    const json_t *now = fl_json_path(crd, path), *before = fl_json_path(old, path);

    if (!fl_streq(json_string_value(now), json_string_value(before)))
        fl_field_error_add(c->errors, FL_FIELD_INVALID, path, now, "field is immutable");
}

static void check_update(struct check *c, const json_t *crd, const json_t *old)
{
    if (fl_crd_is_established(old)) {
        check_immutable(c, crd, old, "spec.scope");
        check_immutable(c, crd, old, "spec.names.kind");
    }
    check_immutable(c, crd, old, "spec.group");
    check_immutable(c, crd, old, "spec.names.plural");
}

/* The lists and objects that the checks walk over are what they should be. */
static bool check_shapes(struct check *c, const json_t *crd)
{
    static const struct {
        const char *path;
        bool is_list;
    } parts[] = {{"spec", false},
                 {"spec.names", false},
                 {"spec.names.shortNames", true},
                 {"spec.names.categories", true},
                 {"spec.versions", true},
                 {"spec.conversion", false},
                 {"status", false},
                 {"status.storedVersions", true},
                 {"status.conditions", true}};
    const json_t *version;
    bool sound = true;
    size_t i;

    for (i = 0; i < FL_COUNT_OF(parts); i++) {
        const json_t *part = fl_json_path(crd, parts[i].path);

        if (!part || json_is_null(part) ||
            (parts[i].is_list ? json_is_array(part) : json_is_object(part)))
            continue;
        fl_field_error_add(c->errors, FL_FIELD_INVALID, parts[i].path, part,
                           parts[i].is_list ? "must be a list" : "must be an object");
        sound = false;
    }
    json_array_foreach(fl_json_path(crd, "spec.versions"), i, version) {
        if (!json_is_object(version)) {
            fl_field_error_add(c->errors, FL_FIELD_INVALID, "spec.versions", version,
                               "must be a list of objects");
            sound = false;
        }
    }
    return sound;
}

void fl_crd_validate(const json_t *crd, const json_t *old, struct fl_field_errors *errors)
{
    struct fl_schema_path spec = {NULL, FL_PATH_ROOT, "spec", 0};
    struct fl_schema_path names = {&spec, FL_PATH_FIELD, "names", 0};
    struct check check = {errors, get(crd, "spec")};
    static const char *const required[] = {"plural", "singular", "kind", "listKind"};

    if (!check_shapes(&check, crd))
        return;
    if (!old) /* on an update the name is what it was */
        check_metadata(&check, crd);
    check_group(&check, &spec);
    check_scope(&check, &spec);
    check_versions(&check, &spec);
    for (size_t i = 0; i < FL_COUNT_OF(required); i++)
        require(&check, get(check.spec, "names"), required[i], &names);
    check_names(&check, get(check.spec, "names"), &names);
    check_conversion(&check, &spec);
    if (json_is_true(get(check.spec, "preserveUnknownFields")))
        complain(&check, FL_FIELD_INVALID, &spec, "preserveUnknownFields",
                 get(check.spec, "preserveUnknownFields"),
                 "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in "
                 "spec.versions[*].schema instead");
    check_stored_versions(&check, crd);
    if (old)
        check_update(&check, crd, old);
}

/* Status. */

static json_t *find_condition(json_t *conditions, const char *type)
{
    json_t *condition;
    size_t i;

    json_array_foreach(conditions, i, condition) {
        if (fl_streq(text(condition, "type"), type))
            return condition;
    }
    condition = json_pack("{s:s}", "type", type);
    (void)json_array_append_new(conditions, condition);
    return condition;
}

static void set_condition(json_t *conditions, const char *type, bool holds, const char *reason,
                          const char *message, const char *now)
{
    json_t *condition = find_condition(conditions, type);
    const char *status = holds ? "True" : "False";

    if (!fl_streq(text(condition, "status"), status)) {
        fl_json_set_str(condition, "status", status);
        fl_json_set_str(condition, "lastTransitionTime", now);
    }
    fl_json_set_str(condition, "reason", reason);
    fl_json_set_str(condition, "message", message);
}

bool fl_crd_is_established(const json_t *crd)
{
    const json_t *condition;
    size_t i;

    json_array_foreach(fl_json_path(crd, "status.conditions"), i, condition) {
        if (fl_streq(text(condition, "type"), "Established"))
            return fl_streq(text(condition, "status"), "True");
    }
    return false;
}

void fl_crd_set_status(json_t *crd, bool accepted, const char *reason, const char *message,
                       const char *now)
{
    json_t *status = fl_json_ensure_object(crd, "status");
    json_t *conditions = json_object_get(status, "conditions");
    bool was_established = fl_crd_is_established(crd);

    if (!json_is_array(conditions)) {
        conditions = json_array();
        (void)json_object_set_new(status, "conditions", conditions);
    }
    set_condition(conditions, "NamesAccepted", accepted,
                  fl_str_or(reason, accepted ? "NoConflicts" : "NamesConflict"),
                  fl_str_or(message, accepted ? "no conflicts found" : "a name is taken"), now);
    if (accepted) {
        (void)json_object_set_new(status, "acceptedNames",
                                  json_deep_copy(fl_json_path(crd, "spec.names")));
        if (!was_established)
            set_condition(conditions, "Established", true, "InitialNamesAccepted",
                          "the initial names have been accepted", now);
    } else if (!was_established) {
        set_condition(conditions, "Established", false, "NotAccepted", "not all names are accepted",
                      now);
    }
    if (!json_is_object(json_object_get(status, "acceptedNames")))
        (void)json_object_set_new(status, "acceptedNames",
                                  json_pack("{s:s,s:s}", "plural", "", "kind", ""));
    add_stored_version(crd, status);
}

/* Pruning: the type's own fields, and those of a schema at any depth. */

struct pruner {
    fl_schema_path_fn *unknown;
    void *user;
    struct fl_arena *arena;
};

static void prune_fields(struct pruner *p, json_t *object, const char *const *known,
                         const struct fl_schema_path *path)
{
    void *iter = json_object_iter(object);

    while (iter) {
        const char *key = json_object_iter_key(iter);
        struct fl_schema_path at = {path, FL_PATH_FIELD, key, 0};
        const char *const *name = known;

        iter = json_object_iter_next(object, iter);
        while (*name && !fl_streq(*name, key))
            name++;
        if (*name)
            continue;
        if (p->unknown)
            p->unknown(p->user, fl_schema_path_text(p->arena, &at));
        (void)json_object_del(object, key);
    }
}

static void prune_list(struct pruner *p, json_t *list, const char *const *known,
                       const struct fl_schema_path *path)
{
    json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
        prune_fields(p, item, known, FL_PATH_AT(path, i));
}

static void prune_schema(struct pruner *p, json_t *schema, const struct fl_schema_path *path,
                         unsigned depth)
{
    static const char *const known[] = {"$ref",
                                        "$schema",
                                        "additionalItems",
                                        "additionalProperties",
                                        "allOf",
                                        "anyOf",
                                        "default",
                                        "definitions",
                                        "dependencies",
                                        "description",
                                        "enum",
                                        "example",
                                        "exclusiveMaximum",
                                        "exclusiveMinimum",
                                        "externalDocs",
                                        "format",
                                        "id",
                                        "items",
                                        "maxItems",
                                        "maxLength",
                                        "maxProperties",
                                        "maximum",
                                        "minItems",
                                        "minLength",
                                        "minProperties",
                                        "minimum",
                                        "multipleOf",
                                        "not",
                                        "nullable",
                                        "oneOf",
                                        "pattern",
                                        "patternProperties",
                                        "properties",
                                        "required",
                                        "title",
                                        "type",
                                        "uniqueItems",
                                        "x-kubernetes-embedded-resource",
                                        "x-kubernetes-int-or-string",
                                        "x-kubernetes-list-map-keys",
                                        "x-kubernetes-list-type",
                                        "x-kubernetes-map-type",
                                        "x-kubernetes-preserve-unknown-fields",
                                        "x-kubernetes-validations",
                                        NULL};
    static const char *const rule_fields[] = {
        "fieldPath", "message", "messageExpression", "optionalOldSelf", "reason", "rule", NULL};
    static const char *const singles[] = {"items", "not", "additionalProperties"};
    static const char *const lists[] = {"allOf", "anyOf", "oneOf"};
    struct fl_schema_path properties = {path, FL_PATH_FIELD, "properties", 0};
    json_t *part;
    const char *key;
    size_t i;

    if (!json_is_object(schema) || depth > FL_JSON_MAX_DEPTH)
        return;
    prune_fields(p, schema, known, path);
    prune_list(p, json_object_get(schema, "x-kubernetes-validations"), rule_fields,
               FL_PATH_CHILD(path, "x-kubernetes-validations"));
    for (size_t s = 0; s < FL_COUNT_OF(singles); s++)
        prune_schema(p, json_object_get(schema, singles[s]), FL_PATH_CHILD(path, singles[s]),
                     depth + 1);
    for (size_t l = 0; l < FL_COUNT_OF(lists); l++) {
        struct fl_schema_path up = {path, FL_PATH_FIELD, lists[l], 0};

        json_array_foreach(json_object_get(schema, lists[l]), i, part)
            prune_schema(p, part, FL_PATH_AT(&up, i), depth + 1);
    }
    json_object_foreach(json_object_get(schema, "properties"), key, part)
        prune_schema(p, part, FL_PATH_CHILD(&properties, key), depth + 1);
}

static void prune_version(struct pruner *p, json_t *version, const struct fl_schema_path *path)
{
    static const char *const known[] = {"additionalPrinterColumns",
                                        "deprecated",
                                        "deprecationWarning",
                                        "name",
                                        "schema",
                                        "selectableFields",
                                        "served",
                                        "storage",
                                        "subresources",
                                        NULL};
    static const char *const schema_fields[] = {"openAPIV3Schema", NULL};
    static const char *const column_fields[] = {"description", "format", "jsonPath", "name",
                                                "priority",    "type",   NULL};
    static const char *const field_fields[] = {"jsonPath", NULL};
    static const char *const subresources[] = {"scale", "status", NULL};
    static const char *const scale_fields[] = {"labelSelectorPath", "specReplicasPath",
                                               "statusReplicasPath", NULL};
    struct fl_schema_path schema = {path, FL_PATH_FIELD, "schema", 0};
    struct fl_schema_path sub = {path, FL_PATH_FIELD, "subresources", 0};

    prune_fields(p, version, known, path);
    prune_fields(p, json_object_get(version, "schema"), schema_fields, &schema);
    prune_schema(p, json_object_get(json_object_get(version, "schema"), "openAPIV3Schema"),
                 FL_PATH_CHILD(&schema, "openAPIV3Schema"), 0);
    prune_list(p, json_object_get(version, "additionalPrinterColumns"), column_fields,
               FL_PATH_CHILD(path, "additionalPrinterColumns"));
    prune_list(p, json_object_get(version, "selectableFields"), field_fields,
               FL_PATH_CHILD(path, "selectableFields"));
    prune_fields(p, json_object_get(version, "subresources"), subresources, &sub);
    prune_fields(p, json_object_get(json_object_get(version, "subresources"), "scale"),
                 scale_fields, FL_PATH_CHILD(&sub, "scale"));
}

void fl_crd_prune(json_t *crd, fl_schema_path_fn *unknown, void *user)
{
    static const char *const known[] = {"apiVersion", "kind", "metadata", "spec", "status", NULL};
    static const char *const spec_fields[] = {
        "conversion", "group", "names", "preserveUnknownFields", "scope", "versions", NULL};
    static const char *const name_fields[] = {"categories", "kind",     "listKind", "plural",
                                              "shortNames", "singular", NULL};
    static const char *const conversion_fields[] = {"strategy", "webhook", NULL};
    static const char *const status_fields[] = {"acceptedNames", "conditions", "storedVersions",
                                                NULL};
    struct pruner pruner = {unknown, user, fl_arena_create()};
    struct fl_schema_path root = {NULL, FL_PATH_ROOT, "", 0};
    struct fl_schema_path spec = {&root, FL_PATH_FIELD, "spec", 0};
    struct fl_schema_path versions = {&spec, FL_PATH_FIELD, "versions", 0};
    json_t *object = json_object_get(crd, "spec"), *version;
    size_t i;

    prune_fields(&pruner, crd, known, &root);
    prune_fields(&pruner, object, spec_fields, &spec);
    prune_fields(&pruner, json_object_get(object, "names"), name_fields,
                 FL_PATH_CHILD(&spec, "names"));
    prune_fields(&pruner, json_object_get(object, "conversion"), conversion_fields,
                 FL_PATH_CHILD(&spec, "conversion"));
    json_array_foreach(json_object_get(object, "versions"), i, version)
        prune_version(&pruner, version, FL_PATH_AT(&versions, i));
    prune_fields(&pruner, json_object_get(crd, "status"), status_fields,
                 FL_PATH_CHILD(&root, "status"));
    fl_arena_destroy(pruner.arena);
}
