#include "api/meta.h"

#include "lib/str.h"

#include <ctype.h>
#include <string.h>

#define ANNOTATIONS_MAX_BYTES ((size_t)256 * 1024)
#define GENERATE_NAME_MAX     58
#define MANAGED_FIELDS_MAX    1000

/* Names */

static bool is_lower_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
    return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

/* One DNS label of `len` bytes, without a bound on its length. */
static bool is_dns_label(const char *text, size_t len)
{
    if (len == 0 || !is_lower_alnum(text[0]) || !is_lower_alnum(text[len - 1]))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_lower_alnum(text[i]) && text[i] != '-')
            return false;
    return true;
}

static bool is_dns_subdomain(const char *text, size_t len)
{
    while (len > 0) {
        const char *dot = memchr(text, '.', len);
        size_t label = dot ? (size_t)(dot - text) : len;

        if (!is_dns_label(text, label))
            return false;
        if (!dot)
            return true;
        text += label + 1;
        len -= label + 1;
    }
    return false;
}

bool fl_name_is_subdomain(const char *name, const char **ret_why)
{
    if (strlen(name) > 253) {
        *ret_why = "must be no more than 253 characters";
        return false;
    }
    *ret_why = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "
               "'-' or '.', and must start and end with an alphanumeric character (e.g. "
               "'example.com', regex used for validation is "
               "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    return is_dns_subdomain(name, strlen(name));
}

bool fl_name_is_label(const char *name, const char **ret_why)
{
    if (strlen(name) > 63) {
        *ret_why = "must be no more than 63 characters";
        return false;
    }
    *ret_why = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or "
               "'-', and must start and end with an alphanumeric character (e.g. 'my-name',  or "
               "'123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    return is_dns_label(name, strlen(name));
}

bool fl_name_is_path_segment(const char *name, const char **ret_why)
{
    *ret_why = "may not be '.' or '..', and may not contain '/' or '%'";
    return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !strpbrk(name, "/%") &&
           strlen(name) <= 253;
}

/* The name part of a qualified name, or a label value: alphanumeric at both ends. */
static bool is_qualified_part(const char *text, size_t len)
{
    if (len == 0 || !is_alnum(text[0]) || !is_alnum(text[len - 1]))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_alnum(text[i]) && !strchr("-_.", text[i]))
            return false;
    return true;
}

bool fl_name_is_qualified(const char *name, const char **ret_why)
{
    const char *slash = strchr(name, '/'), *part = slash ? slash + 1 : name;

    if (slash &&
        (slash == name || slash - name > 253 || !is_dns_subdomain(name, (size_t)(slash - name)))) {
        *ret_why = "prefix part a lowercase RFC 1123 subdomain must consist of lower case "
                   "alphanumeric characters, '-' or '.', and must start and end with an "
                   "alphanumeric character";
        return false;
    }
    if (strlen(part) > 63) {
        *ret_why = "name part must be no more than 63 characters";
        return false;
    }
    *ret_why = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start "
               "and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or "
               "'123-abc', regex used for validation is "
               "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    return is_qualified_part(part, strlen(part));
}

bool fl_name_is_label_value(const char *value, const char **ret_why)
{
    if (strlen(value) > 63) {
        *ret_why = "must be no more than 63 characters";
        return false;
    }
    *ret_why = "a valid label must be an empty string or consist of alphanumeric characters, '-', "
               "'_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue', "
               " or 'my_value',  or '12345', regex used for validation is "
               "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
    return !*value || is_qualified_part(value, strlen(value));
}

/* Validation of metadata */

enum member_type { TEXT, INTEGER, STRING_MAP, STRING_LIST, TIME, OWNERS, MANAGED };

static const struct member {
    const char *name;
    enum member_type type;
} members[] = {
    {"name", TEXT},
    {"generateName", TEXT},
    {"namespace", TEXT},
    {"selfLink", TEXT},
    {"uid", TEXT},
    {"resourceVersion", TEXT},
    {"generation", INTEGER},
    {"creationTimestamp", TIME},
    {"deletionTimestamp", TIME},
    {"deletionGracePeriodSeconds", INTEGER},
    {"labels", STRING_MAP},
    {"annotations", STRING_MAP},
    {"ownerReferences", OWNERS},
    {"finalizers", STRING_LIST},
    {"managedFields", MANAGED},
};

static const struct member *find_member(const char *name)
{
    for (size_t i = 0; i < FL_COUNT_OF(members); i++)
        if (strcmp(members[i].name, name) == 0)
            return &members[i];
    return NULL;
}

static void wrong_type(struct fl_field_errors *errors, const char *path, const json_t *value,
                       const char *wanted)
{
    fl_field_error_add_text(errors, FL_FIELD_TYPE_INVALID, path,
                            fl_arena_printf(errors->arena, "\"%s\"", fl_json_type_name(value)),
                            "%s in body must be of type %s: \"%s\"", path, wanted,
                            fl_json_type_name(value));
}

static void validate_labels(const json_t *labels, struct fl_field_errors *errors)
{
    const char *key, *why;
    json_t *value;

    json_object_foreach((json_t *)labels, key, value) {
        if (!fl_name_is_qualified(key, &why))
            fl_field_error_add_text(errors, FL_FIELD_INVALID, "metadata.labels",
                                    fl_arena_printf(errors->arena, "\"%s\"", key), "%s", why);
        if (!fl_name_is_label_value(json_string_value(value), &why))
            fl_field_error_add(errors, FL_FIELD_INVALID, "metadata.labels", value, "%s", why);
    }
}

/* Keys are checked in lower case: upper case is allowed in the prefix of an annotation. */
static void validate_annotations(const json_t *annotations, struct fl_field_errors *errors)
{
    const char *key, *why;
    json_t *value;
    size_t total = 0;

    json_object_foreach((json_t *)annotations, key, value) {
        char *lower = fl_arena_strdup(errors->arena, key);

        for (char *c = lower; *c; c++)
            *c = (char)tolower((unsigned char)*c);
        if (!fl_name_is_qualified(lower, &why))
            fl_field_error_add_text(errors, FL_FIELD_INVALID, "metadata.annotations",
                                    fl_arena_printf(errors->arena, "\"%s\"", key), "%s", why);
        total += strlen(key) + json_string_length(value);
    }
    if (total > ANNOTATIONS_MAX_BYTES)
        fl_field_error_add(errors, FL_FIELD_TOO_LONG, "metadata.annotations", NULL,
                           "may not be more than %zu bytes", ANNOTATIONS_MAX_BYTES);
}

static void validate_string_map(const char *path, json_t *value, struct fl_field_errors *errors)
{
    const char *key;
    json_t *text;
    size_t before = errors->count;

    json_object_foreach(value, key, text)
        if (!json_is_string(text))
            wrong_type(errors, fl_arena_printf(errors->arena, "%s.%s", path, key), text, "string");
    if (errors->count != before)
        return;
    if (strcmp(path, "metadata.labels") == 0)
        validate_labels(value, errors);
    else
        validate_annotations(value, errors);
}

static void validate_finalizers(const json_t *list, struct fl_field_errors *errors)
{
    const char *why;
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)list, i, item) {
        const char *path = fl_arena_printf(errors->arena, "metadata.finalizers[%zu]", i);

        if (!json_is_string(item))
            wrong_type(errors, path, item, "string");
        else if (!fl_name_is_qualified(json_string_value(item), &why))
            fl_field_error_add(errors, FL_FIELD_INVALID, "metadata.finalizers", item, "%s", why);
    }
}

static void validate_owner(const char *path, const json_t *owner, struct fl_field_errors *errors)
{
    static const char *const required[] = {"apiVersion", "kind", "name", "uid"};

    for (size_t i = 0; i < FL_COUNT_OF(required); i++) {
        const char *text = fl_json_str(owner, required[i]);

        if (!text || !*text)
            fl_field_error_add(errors, FL_FIELD_INVALID,
                               fl_arena_printf(errors->arena, "%s.%s", path, required[i]),
                               json_object_get(owner, required[i]), "must not be empty");
    }
    for (const char *const *flag = (const char *const[]){"controller", "blockOwnerDeletion", NULL};
         *flag; flag++) {
        const json_t *value = json_object_get(owner, *flag);

        if (value && !json_is_boolean(value) && !json_is_null(value))
            wrong_type(errors, fl_arena_printf(errors->arena, "%s.%s", path, *flag), value,
                       "boolean");
    }
}

static void validate_owners(const json_t *owners, struct fl_field_errors *errors)
{
    const char *controller = NULL;
    json_t *owner;
    size_t i;

    json_array_foreach((json_t *)owners, i, owner) {
        const char *path = fl_arena_printf(errors->arena, "metadata.ownerReferences[%zu]", i);

        if (!json_is_object(owner)) {
            wrong_type(errors, path, owner, "object");
            continue;
        }
        validate_owner(path, owner, errors);
        if (!fl_json_bool(owner, "controller", false))
            continue;
        if (controller)
            fl_field_error_add(errors, FL_FIELD_INVALID, "metadata.ownerReferences", NULL,
                               "Only one reference can have Controller set to true. Found \"true\" "
                               "in references for %s and %s",
                               controller, fl_str_or(fl_json_str(owner, "name"), ""));
        controller = fl_str_or(fl_json_str(owner, "name"), "");
    }
}

static void validate_time(const char *path, json_t *meta, const char *key, const json_t *value,
                          struct fl_field_errors *errors)
{
    char normal[FL_TIME_SIZE];
    int64_t when;

    if (!json_is_string(value)) {
        wrong_type(errors, path, value, "string");
    } else if (!fl_time_parse(json_string_value(value), &when)) {
        fl_field_error_add(errors, FL_FIELD_INVALID, path, value, "must be an RFC 3339 time");
    } else {
        fl_time_format(when, normal);
        fl_json_set_str(meta, key, normal);
    }
}

static void validate_member(const struct member *member, json_t *meta, json_t *value,
                            struct fl_field_errors *errors)
{
    const char *path = fl_arena_printf(errors->arena, "metadata.%s", member->name);

    switch (member->type) {
    case TEXT:
        if (!json_is_string(value))
            wrong_type(errors, path, value, "string");
        break;
    case INTEGER:
        if (!json_is_integer(value))
            wrong_type(errors, path, value, "integer");
        break;
    case TIME:
        validate_time(path, meta, member->name, value, errors);
        break;
    case STRING_MAP:
        if (json_is_object(value))
            validate_string_map(path, value, errors);
        else
            wrong_type(errors, path, value, "object");
        break;
    case STRING_LIST:
        if (json_is_array(value))
            validate_finalizers(value, errors);
        else
            wrong_type(errors, path, value, "array");
        break;
    case OWNERS:
        if (json_is_array(value))
            validate_owners(value, errors);
        else
            wrong_type(errors, path, value, "array");
        break;
    case MANAGED:
        if (!json_is_array(value))
            wrong_type(errors, path, value, "array");
        else if (json_array_size(value) > MANAGED_FIELDS_MAX)
            fl_field_error_add(errors, FL_FIELD_TOO_MANY, path, NULL, "must have at most %d items",
                               MANAGED_FIELDS_MAX);
        break;
    }
}

static void validate_names(const struct fl_traits *traits, const json_t *meta,
                           struct fl_field_errors *errors)
{
    const char *name = fl_json_str(meta, "name"), *prefix = fl_json_str(meta, "generateName");
    const char *why;

    if ((!name || !*name) && (!prefix || !*prefix)) {
        fl_field_error_add(errors, FL_FIELD_REQUIRED, "metadata.name", NULL,
                           "name or generateName is required");
        return;
    }
    if (name && *name &&
        !(traits->namespace_like ? fl_name_is_label(name, &why)
          : traits->loose_names  ? fl_name_is_path_segment(name, &why)
                                 : fl_name_is_subdomain(name, &why)))
        fl_field_error_add(errors, FL_FIELD_INVALID, "metadata.name", json_object_get(meta, "name"),
                           "%s", why);
    /* The characters that follow make a trailing dash or dot legal. */
    if (prefix && *prefix && !traits->loose_names &&
        !fl_name_is_subdomain(fl_arena_printf(errors->arena, "%.*sx", GENERATE_NAME_MAX, prefix),
                              &why))
        fl_field_error_add(errors, FL_FIELD_INVALID, "metadata.generateName",
                           json_object_get(meta, "generateName"), "%s", why);
}

/* Empty is absent, as in a typed client: but [] in managedFields asks for a reset. */
static bool is_absent(const struct member *member, const json_t *value)
{
    if (json_is_null(value))
        return true;
    if (json_is_object(value))
        return json_object_size(value) == 0;
    if (json_is_array(value))
        return json_array_size(value) == 0 && member->type != MANAGED;
    return json_is_string(value) && json_string_length(value) == 0;
}

void fl_meta_validate(const struct fl_traits *traits, json_t *object,
                      void (*unknown)(void *user, const char *path), void *user,
                      struct fl_field_errors *errors)
{
    json_t *meta = json_object_get(object, "metadata"), *value;
    const char *key;
    void *next;

    if (meta && !json_is_object(meta)) {
        wrong_type(errors, "metadata", meta, "object");
        return;
    }
    meta = fl_json_ensure_object(object, "metadata");
    json_object_foreach_safe(meta, next, key, value) {
        const struct member *member = find_member(key);

        if (!member) {
            if (unknown)
                unknown(user, fl_arena_printf(errors->arena, "metadata.%s", key));
            (void)json_object_del(meta, key);
        } else if (is_absent(member, value)) {
            (void)json_object_del(meta, key);
        } else {
            validate_member(member, meta, value, errors);
        }
    }
    validate_names(traits, meta, errors);
}

/* Life */

static void generate_name(const struct fl_env *env, json_t *meta)
{
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
    char name[GENERATE_NAME_MAX + 6];
    const char *prefix = fl_json_str(meta, "generateName");
    size_t len = strnlen(prefix, GENERATE_NAME_MAX);

    memcpy(name, prefix, len);
    for (int i = 0; i < 5; i++)
        name[len++] = alphabet[fl_random_below(env, sizeof(alphabet) - 1)];
    name[len] = '\0';
    fl_json_set_str(meta, "name", name);
}

static void set_int(json_t *object, const char *key, int64_t value)
{
    (void)json_object_set_new_nocheck(object, key, json_integer(value));
}

static void stamp(const struct fl_env *env, json_t *meta, const char *key)
{
    char now[FL_TIME_SIZE];

    fl_time_format(fl_realtime_us(env), now);
    fl_json_set_str(meta, key, now);
}

void fl_meta_prepare_create(const struct fl_env *env, const struct fl_traits *traits,
                            const char *ns, json_t *object)
{
    static const char *const server_sets[] = {"selfLink", "resourceVersion", "generation",
                                              "deletionTimestamp", "deletionGracePeriodSeconds"};
    json_t *meta = fl_json_ensure_object(object, "metadata");
    const char *name = fl_json_str(meta, "name");
    char uid[FL_UUID_SIZE];

    for (size_t i = 0; i < FL_COUNT_OF(server_sets); i++)
        (void)json_object_del(meta, server_sets[i]);
    if ((!name || !*name) && fl_json_str(meta, "generateName"))
        generate_name(env, meta);
    fl_json_set_str(meta, "namespace", traits->namespaced ? ns : NULL);
    fl_uuid_v4(env, uid);
    fl_json_set_str(meta, "uid", uid);
    stamp(env, meta, "creationTimestamp");
    if (traits->has_generation)
        set_int(meta, "generation", 1);
    if (traits->has_status)
        (void)json_object_del(object, "status");
}

static void carry_over(const json_t *live, json_t *object, const char *key)
{
    json_t *value = json_object_get(live, key);

    if (value)
        (void)json_object_set_nocheck(object, key, value);
    else
        (void)json_object_del(object, key);
}

static bool list_has(const json_t *list, const char *text)
{
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)list, i, item)
        if (fl_streq(json_string_value(item), text))
            return true;
    return false;
}

static void refuse_new_finalizers(const json_t *live_meta, const json_t *meta,
                                  struct fl_field_errors *errors)
{
    const json_t *before = json_object_get(live_meta, "finalizers");
    json_t *item;
    size_t i;

    json_array_foreach(json_object_get(meta, "finalizers"), i, item) {
        if (json_is_string(item) && !list_has(before, json_string_value(item)))
            fl_field_error_add(errors, FL_FIELD_FORBIDDEN, "metadata.finalizers", NULL,
                               "no new finalizers can be added if the object is being deleted, "
                               "found new finalizers []string{\"%s\"}",
                               json_string_value(item));
    }
}

static void refuse_change(const json_t *live_meta, const json_t *meta, const char *key,
                          struct fl_field_errors *errors)
{
    const char *sent = fl_json_str(meta, key);

    if (sent && *sent && !fl_streq(sent, fl_json_str(live_meta, key)))
        fl_field_error_add(errors, FL_FIELD_INVALID,
                           fl_arena_printf(errors->arena, "metadata.%s", key),
                           json_object_get(meta, key), "field is immutable");
}

/* Gives `object` the members of `live` and no others, but leaves one alone. What is equal stays:
 * comparing costs less than copying. */
static void take_members(const json_t *live, json_t *object, const char *except)
{
    const char *key;
    json_t *value;
    void *next;

    json_object_foreach_safe(object, next, key, value) {
        if (strcmp(key, except) != 0 && !json_object_get(live, key))
            (void)json_object_del(object, key);
    }
    json_object_foreach((json_t *)live, key, value) {
        if (strcmp(key, except) != 0 && !json_equal(value, json_object_get(object, key)))
            (void)json_object_set_new(object, key, json_deep_copy(value));
    }
}

/* The status endpoint changes status and nothing else; managedFields are made by the caller. */
static void keep_all_but_status(const json_t *live, json_t *object)
{
    FL_JSON managed = json_incref(fl_json_path(object, "metadata.managedFields"));

    take_members(live, object, "status");
    if (managed)
        (void)json_object_set(json_object_get(object, "metadata"), "managedFields", managed);
}

int fl_meta_prepare_update(const struct fl_traits *traits, enum fl_part part, const json_t *live,
                           json_t *object, struct fl_field_errors *errors, struct fl_error *err)
{
    static const char *const fixed[] = {"name",
                                        "namespace",
                                        "uid",
                                        "creationTimestamp",
                                        "deletionTimestamp",
                                        "deletionGracePeriodSeconds",
                                        "generation",
                                        "selfLink",
                                        "resourceVersion",
                                        "generateName"};
    const json_t *live_meta = json_object_get(live, "metadata");
    json_t *meta = fl_json_ensure_object(object, "metadata");
    const char *uid = fl_json_str(meta, "uid"), *live_uid = fl_json_str(live_meta, "uid");

    if (uid && *uid && !fl_streq(uid, live_uid))
        return fl_error_set(err, FL_E_CONFLICT,
                            "Precondition failed: UID in precondition: %s, UID in object meta: %s",
                            uid, fl_str_or(live_uid, ""));
    if (part == FL_PART_STATUS) {
        keep_all_but_status(live, object);
        return 0;
    }
    refuse_change(live_meta, meta, "name", errors);
    refuse_change(live_meta, meta, "namespace", errors);
    if (json_object_get(live_meta, "deletionTimestamp"))
        refuse_new_finalizers(live_meta, meta, errors);
    for (size_t i = 0; i < FL_COUNT_OF(fixed); i++)
        carry_over(live_meta, meta, fixed[i]);
    if (traits->has_status)
        carry_over(live, object, "status");
    return 0;
}

static size_t members_that_count(const struct fl_traits *traits, const json_t *object)
{
    return json_object_size(object) - (json_object_get(object, "metadata") != NULL) -
           (traits->has_status && json_object_get(object, "status"));
}

/* Everything outside metadata, and outside status where that is a subresource. */
static bool same_desire(const struct fl_traits *traits, const json_t *a, const json_t *b)
{
    const char *key;
    json_t *value;

    if (members_that_count(traits, a) != members_that_count(traits, b))
        return false;
    json_object_foreach((json_t *)a, key, value) {
        if (strcmp(key, "metadata") == 0 || (traits->has_status && strcmp(key, "status") == 0))
            continue;
        if (!json_equal(value, json_object_get(b, key)))
            return false;
    }
    return true;
}

static bool is_held(const struct fl_traits *traits, const json_t *object)
{
    return json_array_size(fl_json_path(object, "metadata.finalizers")) > 0 ||
           (traits->namespace_like && json_array_size(fl_json_path(object, "spec.finalizers")) > 0);
}

enum fl_outcome fl_meta_finish_update(const struct fl_traits *traits, const json_t *live,
                                      json_t *object)
{
    json_t *meta = json_object_get(object, "metadata");
    int64_t generation = fl_json_int(live, "metadata.generation", 1);

    if (traits->has_generation)
        set_int(meta, "generation", generation + !same_desire(traits, live, object));
    if (fl_meta_is_deleting(object) && !is_held(traits, object))
        return FL_OUTCOME_REMOVED;
    return json_equal(live, object) ? FL_OUTCOME_UNCHANGED : FL_OUTCOME_CHANGED;
}

bool fl_meta_has_finalizer(const json_t *object, const char *finalizer)
{
    return list_has(fl_json_path(object, "metadata.finalizers"), finalizer);
}

bool fl_meta_is_deleting(const json_t *object)
{
    return fl_json_path(object, "metadata.deletionTimestamp") != NULL;
}

static void set_finalizer(json_t *meta, const char *finalizer, bool wanted)
{
    json_t *list = json_object_get(meta, "finalizers");

    if (wanted && !list_has(list, finalizer)) {
        if (!list) {
            list = json_array();
            (void)json_object_set_new_nocheck(meta, "finalizers", list);
        }
        (void)json_array_append_new(list, json_string(finalizer));
    }
    for (size_t i = wanted ? json_array_size(list) : 0; i < json_array_size(list);) {
        if (fl_streq(json_string_value(json_array_get(list, i)), finalizer))
            (void)json_array_remove(list, i);
        else
            i++;
    }
    if (list && json_array_size(list) == 0)
        (void)json_object_del(meta, "finalizers");
}

enum fl_outcome fl_meta_prepare_delete(const struct fl_env *env, const struct fl_traits *traits,
                                       enum fl_propagation propagation, const json_t *live,
                                       json_t **ret_object)
{
    json_t *object = json_deep_copy(live);
    json_t *meta = json_object_get(object, "metadata");
    bool deleting = fl_meta_is_deleting(live);

    *ret_object = object;
    if (propagation != FL_PROPAGATION_DEFAULT) {
        set_finalizer(meta, FL_FINALIZER_FOREGROUND, propagation == FL_PROPAGATION_FOREGROUND);
        set_finalizer(meta, FL_FINALIZER_ORPHAN, propagation == FL_PROPAGATION_ORPHAN);
    }
    if (!is_held(traits, object))
        return FL_OUTCOME_REMOVED;
    if (deleting)
        return json_equal(live, object) ? FL_OUTCOME_UNCHANGED : FL_OUTCOME_CHANGED;
    stamp(env, meta, "deletionTimestamp");
    set_int(meta, "deletionGracePeriodSeconds", 0);
    if (traits->has_generation)
        set_int(meta, "generation", fl_json_int(meta, "generation", 1) + 1);
    return FL_OUTCOME_CHANGED;
}
