/* What built-in kinds need beyond their schema. */
#include "controller/apiserver/internal.h"

#include "api/crd.h"

#include <ctype.h>

#define SECRET_MAX_BYTES ((size_t)1024 * 1024)

bool fl_apiserver_seals(const char *resource)
{
    return strcmp(resource, "secrets") == 0;
}

/* Namespaces */

static void default_namespace(struct fl_apiserver *server, json_t *object, const json_t *old)
{
    json_t *meta = json_object_get(object, "metadata");

    (void)server;
    fl_json_set_str(fl_json_ensure_object(meta, "labels"), "kubernetes.io/metadata.name",
                    fl_json_str(meta, "name"));
    if (old)
        return;
    (void)json_object_set_new(object, "spec", json_pack("{s:[s]}", "finalizers", "kubernetes"));
    (void)json_object_set_new(object, "status", json_pack("{s:s}", "phase", "Active"));
}

/* ConfigMaps and Secrets */

static void check_data_keys(const json_t *object, const char *member,
                            struct fl_field_errors *errors, size_t *total)
{
    const char *key;
    json_t *value;

    json_object_foreach(json_object_get(object, member), key, value) {
        *total += json_string_length(value);
        if (!*key || strlen(key) > 253 ||
            strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") !=
                strlen(key) ||
            strcmp(key, ".") == 0 || strcmp(key, "..") == 0)
            fl_field_error_add_text(errors, FL_FIELD_INVALID,
                                    fl_arena_printf(errors->arena, "%s[%s]", member, key),
                                    fl_arena_printf(errors->arena, "\"%s\"", key),
                                    "a valid config key must consist of alphanumeric characters, "
                                    "'-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
                                    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')");
    }
}

static void check_size(size_t total, struct fl_field_errors *errors)
{
    if (total > SECRET_MAX_BYTES)
        fl_field_error_add(errors, FL_FIELD_TOO_LONG, "data", NULL,
                           "may not be more than %zu bytes", SECRET_MAX_BYTES);
}

static void check_immutable(const json_t *object, const json_t *old, struct fl_field_errors *errors)
{
    static const char *const fixed[] = {"data", "binaryData"};

    if (!old || !fl_json_bool(old, "immutable", false))
        return;
    if (!fl_json_bool(object, "immutable", false))
        fl_field_error_add(errors, FL_FIELD_FORBIDDEN, "immutable", NULL,
                           "field is immutable when `immutable` is set");
    for (size_t i = 0; i < FL_COUNT_OF(fixed); i++) {
        const json_t *a = json_object_get(object, fixed[i]), *b = json_object_get(old, fixed[i]);

        if (a != b && !(a && b && json_equal(a, b)))
            fl_field_error_add(errors, FL_FIELD_FORBIDDEN, fixed[i], NULL,
                               "field is immutable when `immutable` is set");
    }
}

static void check_configmap(const json_t *object, const json_t *old, struct fl_field_errors *errors)
{
    const json_t *binary = json_object_get(object, "binaryData");
    size_t total = 0;
    const char *key;
    json_t *value;

    check_data_keys(object, "data", errors, &total);
    check_data_keys(object, "binaryData", errors, &total);
    json_object_foreach(json_object_get(object, "data"), key, value)
        if (json_object_get(binary, key))
            fl_field_error_add_text(errors, FL_FIELD_INVALID,
                                    fl_arena_printf(errors->arena, "data[%s]", key),
                                    fl_arena_printf(errors->arena, "\"%s\"", key),
                                    "duplicate of key present in binaryData");
    check_size(total, errors);
    check_immutable(object, old, errors);
}

/* stringData is for writing: it goes into data and is never kept. */
static void default_secret(json_t *object)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    json_t *plain = json_object_get(object, "stringData"), *data = json_object_get(object, "data");
    json_t *value;
    const char *key;

    if (!fl_json_str(object, "type") || !*fl_json_str(object, "type"))
        fl_json_set_str(object, "type", "Opaque");
    if (!json_is_object(plain) || (data && !json_is_null(data) && !json_is_object(data)))
        return; /* the schema says so */
    json_object_foreach(plain, key, value)
        if (!json_is_string(value))
            return;
    json_object_foreach(plain, key, value)
        fl_json_set_str(
            fl_json_ensure_object(object, "data"), key,
            fl_base64_encode(arena, json_string_value(value), json_string_length(value)));
    (void)json_object_del(object, "stringData");
}

static size_t base64_prefix(const char *text, size_t len)
{
    size_t at = 0;

    while (at < len && (isalnum((unsigned char)text[at]) || text[at] == '+' || text[at] == '/'))
        at++;
    if (len % 4 == 0 && len - at <= 2 && strspn(text + at, "=") == len - at)
        return len;
    return at;
}

bool fl_kind_bad_base64(const struct fl_resource *resource, const json_t *object, size_t *ret_at)
{
    const char *member = strcmp(resource->storage, "secrets") == 0      ? "data"
                         : strcmp(resource->storage, "configmaps") == 0 ? "binaryData"
                                                                        : NULL;
    const char *key;
    json_t *value;

    if (!member)
        return false;
    json_object_foreach(json_object_get(object, member), key, value) {
        size_t len = json_string_length(value);

        if (!json_is_string(value))
            continue; /* the schema says so */
        *ret_at = base64_prefix(json_string_value(value), len);
        if (*ret_at < len)
            return true;
    }
    return false;
}

static void check_secret(const json_t *object, const json_t *old, struct fl_field_errors *errors)
{
    static const struct {
        const char *type, *key;
    } needed[] = {
        {"kubernetes.io/tls", "tls.crt"},
        {"kubernetes.io/tls", "tls.key"},
        {"kubernetes.io/dockerconfigjson", ".dockerconfigjson"},
        {"kubernetes.io/ssh-auth", "ssh-privatekey"},
    };
    const char *type = fl_json_str(object, "type");
    size_t total = 0;

    check_data_keys(object, "data", errors, &total);
    check_size(total, errors);
    check_immutable(object, old, errors);
    if (old && !fl_streq(type, fl_json_str(old, "type")))
        fl_field_error_add(errors, FL_FIELD_INVALID, "type", json_object_get(object, "type"),
                           "field is immutable");
    for (size_t i = 0; i < FL_COUNT_OF(needed); i++)
        if (fl_streq(type, needed[i].type) &&
            !json_object_get(json_object_get(object, "data"), needed[i].key))
            fl_field_error_add(errors, FL_FIELD_REQUIRED,
                               fl_arena_printf(errors->arena, "data[%s]", needed[i].key), NULL,
                               "%s", "");
}

/* Leases, events: times have six decimals there (MicroTime). */
static void set_micro_time(json_t *object, const char *member, const char *key)
{
    json_t *holder = member ? json_object_get(object, member) : object;
    const char *text = fl_json_str(holder, key);
    char normal[FL_TIME_SIZE];
    int64_t when;

    if (!text || !fl_time_parse(text, &when))
        return;
    fl_time_format_micro(when, normal);
    fl_json_set_str(holder, key, normal);
}

static void set_time(json_t *object, const char *key)
{
    const char *text = fl_json_str(object, key);
    char normal[FL_TIME_SIZE];
    int64_t when;

    if (!text || !fl_time_parse(text, &when))
        return;
    fl_time_format(when, normal);
    fl_json_set_str(object, key, normal);
}

static void default_event(json_t *object)
{
    static const char *const nullable[] = {"eventTime", "firstTimestamp", "lastTimestamp"};

    for (size_t i = 0; i < FL_COUNT_OF(nullable); i++)
        if (!json_object_get(object, nullable[i]))
            (void)json_object_set_new(object, nullable[i], json_null());
    set_time(object, "firstTimestamp");
    set_time(object, "lastTimestamp");
    set_micro_time(object, NULL, "eventTime");
    set_micro_time(object, "series", "lastObservedTime");
}

/* Does something to an object in the form it is stored in, and brings it back. */
static void as_stored(const struct fl_resource *resource, json_t *object,
                      void (*fn)(json_t *object))
{
    fl_resource_to_stored(resource, object);
    fn(object);
    fl_resource_from_stored(resource, object);
}

/* The newer form demands what the older one only allows. */
static void check_new_event(const json_t *object, struct fl_field_errors *errors)
{
    static const char *const needed[] = {"eventTime", "reportingController", "reportingInstance",
                                         "action", "reason"};
    const char *type = fl_str_or(fl_json_str(object, "type"), "");

    for (size_t i = 0; i < FL_COUNT_OF(needed); i++)
        if (!*fl_str_or(fl_json_str(object, needed[i]), ""))
            fl_field_error_add(errors, FL_FIELD_REQUIRED, needed[i], NULL, "%s", "");
    if (strcmp(type, "Normal") != 0 && strcmp(type, "Warning") != 0)
        fl_field_error_add_text(errors, FL_FIELD_INVALID, "type",
                                fl_arena_printf(errors->arena, "\"%s\"", type),
                                "has invalid value: %s", type);
}

static void check_event(const struct fl_resource *resource, const json_t *object,
                        struct fl_field_errors *errors)
{
    const char *ns = fl_json_str(object, resource->converted ? "regarding.namespace"
                                                             : "involvedObject.namespace");
    const char *own = fl_json_str(object, "metadata.namespace");

    if (resource->converted)
        check_new_event(object, errors);
    if (ns && *ns ? !fl_streq(ns, own) : !fl_streq(own, "default"))
        fl_field_error_add(errors, FL_FIELD_INVALID, "involvedObject.namespace", NULL,
                           "does not match event.namespace");
}

static void default_lease(json_t *object)
{
    set_micro_time(object, "spec", "acquireTime");
    set_micro_time(object, "spec", "renewTime");
}

static bool is(const struct fl_resource *resource, const char *storage)
{
    return resource->builtin && strcmp(resource->storage, storage) == 0;
}

/* Bytes may be written over several lines, as YAML does. */
static void join_lines(json_t *object, const char *member)
{
    const char *key;
    json_t *value;

    json_object_foreach(json_object_get(object, member), key, value) {
        const char *text = json_string_value(value);
        struct fl_buf joined;

        if (!text || !strpbrk(text, "\r\n"))
            continue;
        fl_buf_init(&joined, 0);
        for (; *text; text++)
            if (*text != '\r' && *text != '\n')
                fl_buf_putc(&joined, *text);
        (void)json_string_set(value, fl_buf_text(&joined));
        fl_buf_finish(&joined);
    }
}

void fl_kind_prune(const struct fl_resource *resource, json_t *object, fl_schema_path_fn *unknown,
                   void *user)
{
    if (is(resource, "secrets"))
        join_lines(object, "data");
    if (is(resource, "configmaps"))
        join_lines(object, "binaryData");
    if (is(resource, "customresourcedefinitions.apiextensions.k8s.io"))
        fl_crd_prune(object, unknown, user);
}

void fl_kind_default(struct fl_apiserver *server, const struct fl_resource *resource,
                     json_t *object, const json_t *old)
{
    if (!resource->builtin)
        return;
    if (is(resource, "namespaces"))
        default_namespace(server, object, old);
    else if (is(resource, "secrets"))
        default_secret(object);
    else if (is(resource, "events"))
        as_stored(resource, object, default_event);
    else if (is(resource, "leases.coordination.k8s.io"))
        default_lease(object);
    else if (is(resource, "customresourcedefinitions.apiextensions.k8s.io"))
        fl_definition_default(server, object, old);
}

void fl_kind_validate(struct fl_apiserver *server, const struct fl_resource *resource,
                      const json_t *object, const json_t *old, struct fl_field_errors *errors)
{
    (void)server;
    if (!resource->builtin || errors->count)
        return; /* what follows relies on types being right */
    if (is(resource, "configmaps"))
        check_configmap(object, old, errors);
    else if (is(resource, "secrets"))
        check_secret(object, old, errors);
    else if (is(resource, "events"))
        check_event(resource, object, errors);
    else if (is(resource, "customresourcedefinitions.apiextensions.k8s.io"))
        fl_crd_validate(object, old, errors);
}

void fl_kind_deleting(struct fl_apiserver *server, const struct fl_resource *resource,
                      json_t *object)
{
    if (is(resource, "namespaces") && fl_meta_is_deleting(object))
        fl_json_set_str(fl_json_ensure_object(object, "status"), "phase", "Terminating");
    else if (is(resource, "customresourcedefinitions.apiextensions.k8s.io") &&
             fl_meta_is_deleting(object))
        fl_definition_terminating(server, object);
}
