#include "api/protobuf.h"

#include "lib/str.h"

#include <assert.h>
#include <inttypes.h>
#include <time.h>

/* Tables: which field is which member. */

enum type {
    TEXT,
    TRUTH,
    INTEGER,
    TIME,       /* {seconds = 1, nanos = 2}; empty is null */
    MICRO_TIME, /* the same, printed to the microsecond */
    MESSAGE,
    TEXTS,
    MESSAGES,
    TEXT_MAP,
    BYTES_MAP, /* values in base64 */
    TEXTS_MAP, /* values are messages with texts in field 1 */
    JSON,      /* a message with JSON text in field 1 */
};

/* When a member is there in JSON. */
enum presence {
    OMITTED, /* unless it is empty, false or 0 */
    POINTER, /* where it was sent, whatever it is */
    ALWAYS,
};

struct message;

struct field {
    unsigned number;
    enum type type;
    enum presence presence;
    const char *name;
    const struct message *message; /* of MESSAGE and MESSAGES */
};

struct message {
    const struct field *fields;
    size_t count;
};

/* A field a line. */
/* clang-format off */

#define TABLE(name, ...)                                       \
    static const struct field name##_fields[] = {__VA_ARGS__}; \
    static const struct message name = {name##_fields, FL_COUNT_OF(name##_fields)}

TABLE(owner_reference,
      {1, TEXT, ALWAYS, "kind", NULL},
      {3, TEXT, ALWAYS, "name", NULL},
      {4, TEXT, ALWAYS, "uid", NULL},
      {5, TEXT, ALWAYS, "apiVersion", NULL},
      {6, TRUTH, POINTER, "controller", NULL},
      {7, TRUTH, POINTER, "blockOwnerDeletion", NULL});

TABLE(managed_fields_entry,
      {1, TEXT, OMITTED, "manager", NULL},
      {2, TEXT, OMITTED, "operation", NULL},
      {3, TEXT, OMITTED, "apiVersion", NULL},
      {4, TIME, POINTER, "time", NULL},
      {6, TEXT, OMITTED, "fieldsType", NULL},
      {7, JSON, POINTER, "fieldsV1", NULL},
      {8, TEXT, OMITTED, "subresource", NULL});

TABLE(object_meta,
      {1, TEXT, OMITTED, "name", NULL},
      {2, TEXT, OMITTED, "generateName", NULL},
      {3, TEXT, OMITTED, "namespace", NULL},
      {4, TEXT, OMITTED, "selfLink", NULL},
      {5, TEXT, OMITTED, "uid", NULL},
      {6, TEXT, OMITTED, "resourceVersion", NULL},
      {7, INTEGER, OMITTED, "generation", NULL},
      {8, TIME, OMITTED, "creationTimestamp", NULL},
      {9, TIME, POINTER, "deletionTimestamp", NULL},
      {10, INTEGER, POINTER, "deletionGracePeriodSeconds", NULL},
      {11, TEXT_MAP, OMITTED, "labels", NULL},
      {12, TEXT_MAP, OMITTED, "annotations", NULL},
      {13, MESSAGES, OMITTED, "ownerReferences", &owner_reference},
      {14, TEXTS, OMITTED, "finalizers", NULL},
      {17, MESSAGES, OMITTED, "managedFields", &managed_fields_entry});

#define METADATA {1, MESSAGE, ALWAYS, "metadata", &object_meta}

TABLE(preconditions,
      {1, TEXT, POINTER, "uid", NULL},
      {2, TEXT, POINTER, "resourceVersion", NULL});

TABLE(delete_options,
      {1, INTEGER, POINTER, "gracePeriodSeconds", NULL},
      {2, MESSAGE, POINTER, "preconditions", &preconditions},
      {3, TRUTH, POINTER, "orphanDependents", NULL},
      {4, TEXT, POINTER, "propagationPolicy", NULL},
      {5, TEXTS, OMITTED, "dryRun", NULL},
      {6, TRUTH, POINTER, "ignoreStoreReadErrorWithClusterBreakingPotential", NULL});

TABLE(list_meta,
      {1, TEXT, OMITTED, "selfLink", NULL},
      {2, TEXT, OMITTED, "resourceVersion", NULL},
      {3, TEXT, OMITTED, "continue", NULL},
      {4, INTEGER, POINTER, "remainingItemCount", NULL});

TABLE(status_cause,
      {1, TEXT, OMITTED, "reason", NULL},
      {2, TEXT, OMITTED, "message", NULL},
      {3, TEXT, OMITTED, "field", NULL});

TABLE(status_details,
      {1, TEXT, OMITTED, "name", NULL},
      {2, TEXT, OMITTED, "group", NULL},
      {3, TEXT, OMITTED, "kind", NULL},
      {4, MESSAGES, OMITTED, "causes", &status_cause},
      {5, INTEGER, OMITTED, "retryAfterSeconds", NULL},
      {6, TEXT, OMITTED, "uid", NULL});

TABLE(status,
      {1, MESSAGE, ALWAYS, "metadata", &list_meta},
      {2, TEXT, OMITTED, "status", NULL},
      {3, TEXT, OMITTED, "message", NULL},
      {4, TEXT, OMITTED, "reason", NULL},
      {5, MESSAGE, POINTER, "details", &status_details},
      {6, INTEGER, OMITTED, "code", NULL});

/* Core */

TABLE(namespace_spec,
      {1, TEXTS, OMITTED, "finalizers", NULL});

TABLE(namespace_condition,
      {1, TEXT, ALWAYS, "type", NULL},
      {2, TEXT, ALWAYS, "status", NULL},
      {4, TIME, ALWAYS, "lastTransitionTime", NULL},
      {5, TEXT, OMITTED, "reason", NULL},
      {6, TEXT, OMITTED, "message", NULL});

TABLE(namespace_status,
      {1, TEXT, OMITTED, "phase", NULL},
      {2, MESSAGES, OMITTED, "conditions", &namespace_condition});

TABLE(namespace,
      METADATA,
      {2, MESSAGE, ALWAYS, "spec", &namespace_spec},
      {3, MESSAGE, ALWAYS, "status", &namespace_status});

TABLE(config_map,
      METADATA,
      {2, TEXT_MAP, OMITTED, "data", NULL},
      {3, BYTES_MAP, OMITTED, "binaryData", NULL},
      {4, TRUTH, POINTER, "immutable", NULL});

TABLE(secret,
      METADATA,
      {2, BYTES_MAP, OMITTED, "data", NULL},
      {3, TEXT, OMITTED, "type", NULL},
      {4, TEXT_MAP, OMITTED, "stringData", NULL},
      {5, TRUTH, POINTER, "immutable", NULL});

TABLE(object_reference,
      {1, TEXT, OMITTED, "kind", NULL},
      {2, TEXT, OMITTED, "namespace", NULL},
      {3, TEXT, OMITTED, "name", NULL},
      {4, TEXT, OMITTED, "uid", NULL},
      {5, TEXT, OMITTED, "apiVersion", NULL},
      {6, TEXT, OMITTED, "resourceVersion", NULL},
      {7, TEXT, OMITTED, "fieldPath", NULL});

TABLE(local_object_reference,
      {1, TEXT, OMITTED, "name", NULL});

TABLE(service_account,
      METADATA,
      {2, MESSAGES, OMITTED, "secrets", &object_reference},
      {3, MESSAGES, OMITTED, "imagePullSecrets", &local_object_reference},
      {4, TRUTH, POINTER, "automountServiceAccountToken", NULL});

TABLE(event_source,
      {1, TEXT, OMITTED, "component", NULL},
      {2, TEXT, OMITTED, "host", NULL});

TABLE(core_event_series,
      {1, INTEGER, OMITTED, "count", NULL},
      {2, MICRO_TIME, ALWAYS, "lastObservedTime", NULL});

TABLE(core_event,
      METADATA,
      {2, MESSAGE, ALWAYS, "involvedObject", &object_reference},
      {3, TEXT, OMITTED, "reason", NULL},
      {4, TEXT, OMITTED, "message", NULL},
      {5, MESSAGE, ALWAYS, "source", &event_source},
      {6, TIME, ALWAYS, "firstTimestamp", NULL},
      {7, TIME, ALWAYS, "lastTimestamp", NULL},
      {8, INTEGER, OMITTED, "count", NULL},
      {9, TEXT, OMITTED, "type", NULL},
      {10, MICRO_TIME, ALWAYS, "eventTime", NULL},
      {11, MESSAGE, POINTER, "series", &core_event_series},
      {12, TEXT, OMITTED, "action", NULL},
      {13, MESSAGE, POINTER, "related", &object_reference},
      {14, TEXT, ALWAYS, "reportingComponent", NULL},
      {15, TEXT, ALWAYS, "reportingInstance", NULL});

/* Other groups */

TABLE(event_series,
      {1, INTEGER, ALWAYS, "count", NULL},
      {2, MICRO_TIME, ALWAYS, "lastObservedTime", NULL});

TABLE(event,
      METADATA,
      {2, MICRO_TIME, ALWAYS, "eventTime", NULL},
      {3, MESSAGE, POINTER, "series", &event_series},
      {4, TEXT, OMITTED, "reportingController", NULL},
      {5, TEXT, OMITTED, "reportingInstance", NULL},
      {6, TEXT, OMITTED, "action", NULL},
      {7, TEXT, OMITTED, "reason", NULL},
      {8, MESSAGE, ALWAYS, "regarding", &object_reference},
      {9, MESSAGE, POINTER, "related", &object_reference},
      {10, TEXT, OMITTED, "note", NULL},
      {11, TEXT, OMITTED, "type", NULL},
      {12, MESSAGE, ALWAYS, "deprecatedSource", &event_source},
      {13, TIME, ALWAYS, "deprecatedFirstTimestamp", NULL},
      {14, TIME, ALWAYS, "deprecatedLastTimestamp", NULL},
      {15, INTEGER, OMITTED, "deprecatedCount", NULL});

TABLE(lease_spec,
      {1, TEXT, POINTER, "holderIdentity", NULL},
      {2, INTEGER, POINTER, "leaseDurationSeconds", NULL},
      {3, MICRO_TIME, POINTER, "acquireTime", NULL},
      {4, MICRO_TIME, POINTER, "renewTime", NULL},
      {5, INTEGER, POINTER, "leaseTransitions", NULL},
      {6, TEXT, POINTER, "strategy", NULL},
      {7, TEXT, POINTER, "preferredHolder", NULL});

TABLE(lease,
      METADATA,
      {2, MESSAGE, ALWAYS, "spec", &lease_spec});

TABLE(selector_requirement,
      {1, TEXT, ALWAYS, "key", NULL},
      {2, TEXT, ALWAYS, "operator", NULL},
      {3, TEXTS, OMITTED, "values", NULL});

TABLE(selector_attributes,
      {1, TEXT, OMITTED, "rawSelector", NULL},
      {2, MESSAGES, OMITTED, "requirements", &selector_requirement});

TABLE(resource_attributes,
      {1, TEXT, OMITTED, "namespace", NULL},
      {2, TEXT, OMITTED, "verb", NULL},
      {3, TEXT, OMITTED, "group", NULL},
      {4, TEXT, OMITTED, "version", NULL},
      {5, TEXT, OMITTED, "resource", NULL},
      {6, TEXT, OMITTED, "subresource", NULL},
      {7, TEXT, OMITTED, "name", NULL},
      {8, MESSAGE, POINTER, "fieldSelector", &selector_attributes},
      {9, MESSAGE, POINTER, "labelSelector", &selector_attributes});

TABLE(non_resource_attributes,
      {1, TEXT, OMITTED, "path", NULL},
      {2, TEXT, OMITTED, "verb", NULL});

TABLE(access_review_status,
      {1, TRUTH, ALWAYS, "allowed", NULL},
      {2, TEXT, OMITTED, "reason", NULL},
      {3, TEXT, OMITTED, "evaluationError", NULL},
      {4, TRUTH, OMITTED, "denied", NULL});

TABLE(self_access_review_spec,
      {1, MESSAGE, POINTER, "resourceAttributes", &resource_attributes},
      {2, MESSAGE, POINTER, "nonResourceAttributes", &non_resource_attributes});

TABLE(self_access_review,
      METADATA,
      {2, MESSAGE, ALWAYS, "spec", &self_access_review_spec},
      {3, MESSAGE, ALWAYS, "status", &access_review_status});

TABLE(access_review_spec,
      {1, MESSAGE, POINTER, "resourceAttributes", &resource_attributes},
      {2, MESSAGE, POINTER, "nonResourceAttributes", &non_resource_attributes},
      {3, TEXT, OMITTED, "user", NULL},
      {4, TEXTS, OMITTED, "groups", NULL},
      {5, TEXTS_MAP, OMITTED, "extra", NULL},
      {6, TEXT, OMITTED, "uid", NULL});

TABLE(access_review,
      METADATA,
      {2, MESSAGE, ALWAYS, "spec", &access_review_spec},
      {3, MESSAGE, ALWAYS, "status", &access_review_status});

TABLE(resource_rule,
      {1, TEXTS, ALWAYS, "verbs", NULL},
      {2, TEXTS, OMITTED, "apiGroups", NULL},
      {3, TEXTS, OMITTED, "resources", NULL},
      {4, TEXTS, OMITTED, "resourceNames", NULL});

TABLE(non_resource_rule,
      {1, TEXTS, ALWAYS, "verbs", NULL},
      {2, TEXTS, OMITTED, "nonResourceURLs", NULL});

TABLE(rules_review_status,
      {1, MESSAGES, ALWAYS, "resourceRules", &resource_rule},
      {2, MESSAGES, ALWAYS, "nonResourceRules", &non_resource_rule},
      {3, TRUTH, ALWAYS, "incomplete", NULL},
      {4, TEXT, OMITTED, "evaluationError", NULL});

TABLE(rules_review_spec,
      {1, TEXT, OMITTED, "namespace", NULL});

TABLE(rules_review,
      METADATA,
      {2, MESSAGE, ALWAYS, "spec", &rules_review_spec},
      {3, MESSAGE, ALWAYS, "status", &rules_review_status});

TABLE(user_info,
      {1, TEXT, OMITTED, "username", NULL},
      {2, TEXT, OMITTED, "uid", NULL},
      {3, TEXTS, OMITTED, "groups", NULL},
      {4, TEXTS_MAP, OMITTED, "extra", NULL});

TABLE(self_review_status,
      {1, MESSAGE, ALWAYS, "userInfo", &user_info});

TABLE(self_review,
      METADATA,
      {2, MESSAGE, ALWAYS, "status", &self_review_status});

TABLE(token_review_spec,
      {1, TEXT, OMITTED, "token", NULL},
      {2, TEXTS, OMITTED, "audiences", NULL});

TABLE(token_review_status,
      {1, TRUTH, OMITTED, "authenticated", NULL},
      {2, MESSAGE, ALWAYS, "user", &user_info},
      {3, TEXT, OMITTED, "error", NULL},
      {4, TEXTS, OMITTED, "audiences", NULL});

TABLE(token_review,
      METADATA,
      {2, MESSAGE, ALWAYS, "spec", &token_review_spec},
      {3, MESSAGE, ALWAYS, "status", &token_review_status});

TABLE(policy_rule,
      {1, TEXTS, ALWAYS, "verbs", NULL},
      {2, TEXTS, OMITTED, "apiGroups", NULL},
      {3, TEXTS, OMITTED, "resources", NULL},
      {4, TEXTS, OMITTED, "resourceNames", NULL},
      {5, TEXTS, OMITTED, "nonResourceURLs", NULL});

TABLE(role,
      METADATA,
      {2, MESSAGES, ALWAYS, "rules", &policy_rule});

TABLE(label_selector,
      {1, TEXT_MAP, OMITTED, "matchLabels", NULL},
      {2, MESSAGES, OMITTED, "matchExpressions", &selector_requirement});

TABLE(aggregation_rule,
      {1, MESSAGES, OMITTED, "clusterRoleSelectors", &label_selector});

TABLE(cluster_role,
      METADATA,
      {2, MESSAGES, ALWAYS, "rules", &policy_rule},
      {3, MESSAGE, POINTER, "aggregationRule", &aggregation_rule});

TABLE(subject,
      {1, TEXT, ALWAYS, "kind", NULL},
      {2, TEXT, OMITTED, "apiGroup", NULL},
      {3, TEXT, ALWAYS, "name", NULL},
      {4, TEXT, OMITTED, "namespace", NULL});

TABLE(role_ref,
      {1, TEXT, ALWAYS, "apiGroup", NULL},
      {2, TEXT, ALWAYS, "kind", NULL},
      {3, TEXT, ALWAYS, "name", NULL});

TABLE(role_binding,
      METADATA,
      {2, MESSAGES, OMITTED, "subjects", &subject},
      {3, MESSAGE, ALWAYS, "roleRef", &role_ref});

TABLE(type_meta,
      {1, TEXT, ALWAYS, "apiVersion", NULL},
      {2, TEXT, ALWAYS, "kind", NULL});

/* clang-format on */

static const struct {
    const char *api_version; /* NULL: of any group, as DeleteOptions are */
    const char *kind;
    const struct message *message;
} kinds[] = {
    {NULL, "DeleteOptions", &delete_options},
    {"v1", "Status", &status},
    {"v1", "Namespace", &namespace},
    {"v1", "ConfigMap", &config_map},
    {"v1", "Secret", &secret},
    {"v1", "ServiceAccount", &service_account},
    {"v1", "Event", &core_event},
    {"events.k8s.io/v1", "Event", &event},
    {"coordination.k8s.io/v1", "Lease", &lease},
    {"authorization.k8s.io/v1", "SelfSubjectAccessReview", &self_access_review},
    {"authorization.k8s.io/v1", "SelfSubjectRulesReview", &rules_review},
    {"authorization.k8s.io/v1", "SubjectAccessReview", &access_review},
    {"authentication.k8s.io/v1", "SelfSubjectReview", &self_review},
    {"authentication.k8s.io/v1", "TokenReview", &token_review},
    {"rbac.authorization.k8s.io/v1", "Role", &role},
    {"rbac.authorization.k8s.io/v1", "ClusterRole", &cluster_role},
    {"rbac.authorization.k8s.io/v1", "RoleBinding", &role_binding},
    {"rbac.authorization.k8s.io/v1", "ClusterRoleBinding", &role_binding},
};

/* Reading */

enum wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct slice {
    const unsigned char *data;
    size_t len;
};

/* One field as it was sent. */
struct item {
    unsigned number;
    enum wire wire;
    uint64_t varint;    /* of VARINT */
    struct slice bytes; /* of BYTES */
};

/* Two bytes can ask for a JSON object of hundreds, so that values are counted: more than this is
 * no object of a person or a program. */
#define VALUES_MAX 200000

struct decoder {
    struct fl_arena *arena;
    size_t values;
    struct fl_error *err;
};

static int broken(struct decoder *decoder, const char *what)
{
    return fl_error_set(decoder->err, FL_E_BAD_REQUEST, "protobuf: %s", what);
}

static int count_value(struct decoder *decoder)
{
    if (++decoder->values > VALUES_MAX)
        return fl_error_set(decoder->err, FL_E_TOO_LARGE, "protobuf: more than %d values",
                            VALUES_MAX);
    return 0;
}

static int read_varint(struct decoder *decoder, struct slice *rest, uint64_t *ret_value)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64 && rest->len > 0; shift += 7) {
        unsigned char byte = *rest->data;

        rest->data++;
        rest->len--;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret_value = value;
            return 0;
        }
    }
    return broken(decoder, "a number is cut off or too long");
}

static int read_bytes(struct decoder *decoder, struct slice *rest, uint64_t len, struct slice *ret)
{
    if (len > rest->len)
        return broken(decoder, "the message is cut off");
    *ret = (struct slice){rest->data, (size_t)len};
    rest->data += len;
    rest->len -= (size_t)len;
    return 0;
}

/* The next field of a message. */
static int read_item(struct decoder *decoder, struct slice *rest, struct item *ret_item)
{
    struct item item = {0};
    struct slice skipped;
    uint64_t tag, len;
    int r;

    r = read_varint(decoder, rest, &tag);
    if (r < 0)
        return r;
    if (tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
        return broken(decoder, "a field number is out of range");
    item.number = (unsigned)(tag >> 3);
    item.wire = (enum wire)(tag & 7);
    switch (item.wire) {
    case WIRE_VARINT:
        r = read_varint(decoder, rest, &item.varint);
        break;
    case WIRE_BYTES:
        r = read_varint(decoder, rest, &len);
        if (r == 0)
            r = read_bytes(decoder, rest, len, &item.bytes);
        break;
    case WIRE_FIXED64:
        r = read_bytes(decoder, rest, 8, &skipped);
        break;
    case WIRE_FIXED32:
        r = read_bytes(decoder, rest, 4, &skipped);
        break;
    default:
        return broken(decoder, "a field has an unknown wire type");
    }
    if (r < 0)
        return r;
    *ret_item = item;
    return 0;
}

static int read_text(struct decoder *decoder, struct slice bytes, json_t **ret_value)
{
    int r = count_value(decoder);

    if (r < 0)
        return r;
    if (memchr(bytes.data, 0, bytes.len) || !fl_utf8_valid((const char *)bytes.data, bytes.len))
        return broken(decoder, "a string has a NUL or is not UTF-8");
    *ret_value = json_stringn((const char *)bytes.data, bytes.len);
    return 0;
}

static int read_time(struct decoder *decoder, struct slice bytes, bool micro, json_t **ret_value)
{
    int64_t seconds = 0, nanos = 0;
    char text[64];
    size_t used;
    struct tm tm;
    time_t at;

    if (bytes.len == 0) { /* the zero time */
        *ret_value = json_null();
        return 0;
    }
    while (bytes.len > 0) {
        struct item item;
        int r = read_item(decoder, &bytes, &item);

        if (r < 0)
            return r;
        if (item.wire == WIRE_VARINT && item.number == 1)
            seconds = (int64_t)item.varint;
        else if (item.wire == WIRE_VARINT && item.number == 2)
            nanos = (int64_t)item.varint;
    }
    /* From the year 1 to 9999, all that RFC 3339 can say and Go does. */
    if (seconds < -62135596800 || seconds > 253402300799 || nanos < 0 || nanos > 999999999)
        return broken(decoder, "a time is out of range");
    at = (time_t)seconds;
    (void)gmtime_r(&at, &tm);
    used = (size_t)snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900,
                            tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    if (micro)
        (void)snprintf(text + used, sizeof(text) - used, ".%06" PRId64 "Z", nanos / 1000);
    else
        (void)snprintf(text + used, sizeof(text) - used, "Z");
    *ret_value = json_string(text);
    return 0;
}

/* The bytes in field `number` of a message; empty where there are none. */
static int read_inner(struct decoder *decoder, struct slice message, unsigned number,
                      struct slice *ret_bytes)
{
    struct slice found = {(const unsigned char *)"", 0};

    while (message.len > 0) {
        struct item item;
        int r = read_item(decoder, &message, &item);

        if (r < 0)
            return r;
        if (item.number == number && item.wire == WIRE_BYTES)
            found = item.bytes;
    }
    *ret_bytes = found;
    return 0;
}

static int read_json(struct decoder *decoder, struct slice message, json_t **ret_value)
{
    struct slice text;
    int r;

    r = read_inner(decoder, message, 1, &text);
    if (r < 0)
        return r;
    if (text.len == 0) {
        *ret_value = json_null();
        return 0;
    }
    r = fl_json_parse((const char *)text.data, text.len, NULL, NULL, NULL, ret_value, decoder->err);
    return r < 0 ? fl_error_wrap(decoder->err, "protobuf: JSON within") : 0;
}

static int read_texts(struct decoder *decoder, struct slice message, json_t **ret_value)
{
    FL_JSON list = json_array();
    int r = count_value(decoder);

    while (r == 0 && message.len > 0) {
        struct item item;
        json_t *text;

        r = read_item(decoder, &message, &item);
        if (r == 0 && item.number == 1 && item.wire == WIRE_BYTES) {
            r = read_text(decoder, item.bytes, &text);
            if (r == 0)
                json_array_append_new(list, text);
        }
    }
    if (r == 0)
        *ret_value = FL_TAKE(list);
    return r;
}

static int read_map_value(struct decoder *decoder, enum type type, struct slice bytes,
                          json_t **ret_value)
{
    int r;

    if (type == TEXTS_MAP)
        return read_texts(decoder, bytes, ret_value);
    if (type == TEXT_MAP)
        return read_text(decoder, bytes, ret_value);
    r = count_value(decoder);
    if (r == 0)
        *ret_value = json_string(fl_base64_encode(decoder->arena, bytes.data, bytes.len));
    return r;
}

static int add_map_entry(struct decoder *decoder, enum type type, struct slice entry, json_t *map)
{
    FL_JSON key = NULL;
    struct slice key_bytes, value_bytes;
    json_t *value;
    int r;

    r = read_inner(decoder, entry, 1, &key_bytes);
    if (r == 0)
        r = read_inner(decoder, entry, 2, &value_bytes);
    if (r == 0)
        r = read_text(decoder, key_bytes, &key);
    if (r == 0)
        r = read_map_value(decoder, type, value_bytes, &value);
    if (r == 0)
        json_object_set_new(map, json_string_value(key), value);
    return r;
}

static int read_message(struct decoder *decoder, const struct message *message, struct slice bytes,
                        json_t **ret_value);

static bool is_list(enum type type)
{
    return type == TEXTS || type == MESSAGES;
}

static bool is_map(enum type type)
{
    return type == TEXT_MAP || type == BYTES_MAP || type == TEXTS_MAP;
}

/* The collection that a repeated field adds to. */
static json_t *collection(json_t *object, const struct field *field)
{
    json_t *found = json_object_get(object, field->name);

    if (!found) {
        found = is_list(field->type) ? json_array() : json_object();
        json_object_set_new(object, field->name, found);
    }
    return found;
}

static int read_value(struct decoder *decoder, const struct field *field, const struct item *item,
                      json_t **ret_value)
{
    switch (field->type) {
    case TRUTH:
        *ret_value = json_boolean(item->varint != 0);
        return 0;
    case INTEGER:
        *ret_value = json_integer((json_int_t)item->varint);
        return 0;
    case TIME:
    case MICRO_TIME:
        return read_time(decoder, item->bytes, field->type == MICRO_TIME, ret_value);
    case MESSAGE:
    case MESSAGES:
        return read_message(decoder, field->message, item->bytes, ret_value);
    case JSON:
        return read_json(decoder, item->bytes, ret_value);
    default:
        return read_text(decoder, item->bytes, ret_value);
    }
}

static int add_field(struct decoder *decoder, const struct field *field, const struct item *item,
                     json_t *object)
{
    bool is_number = field->type == TRUTH || field->type == INTEGER;
    json_t *value = NULL;
    int r;

    if (item->wire != (is_number ? WIRE_VARINT : WIRE_BYTES))
        return fl_error_set(decoder->err, FL_E_BAD_REQUEST, "protobuf: %s has the wrong wire type",
                            field->name);
    if (is_map(field->type)) {
        r = add_map_entry(decoder, field->type, item->bytes, collection(object, field));
        return r < 0 ? fl_error_wrap(decoder->err, "%s", field->name) : 0;
    }
    r = read_value(decoder, field, item, &value);
    if (r < 0)
        return fl_error_wrap(decoder->err, "%s", field->name);
    if (is_list(field->type))
        json_array_append_new(collection(object, field), value);
    else
        json_object_set_new(object, field->name, value);
    return 0;
}

static const struct field *find_field(const struct message *message, unsigned number)
{
    for (size_t i = 0; i < message->count; i++)
        if (message->fields[i].number == number)
            return &message->fields[i];
    return NULL;
}

static bool is_zero(const json_t *value)
{
    return json_is_null(value) || json_is_false(value) ||
           (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_integer(value) && json_integer_value(value) == 0);
}

static int read_zero(struct decoder *decoder, const struct field *field, json_t **ret_value)
{
    switch (field->type) {
    case TEXT:
        *ret_value = json_string("");
        return 0;
    case TRUTH:
        *ret_value = json_false();
        return 0;
    case INTEGER:
        *ret_value = json_integer(0);
        return 0;
    case MESSAGE:
        return read_message(decoder, field->message, (struct slice){NULL, 0}, ret_value);
    default:
        *ret_value = json_null();
        return 0;
    }
}

/* Members that JSON has though they were not sent, and those that it has not though they were. */
static int settle(struct decoder *decoder, const struct message *message, json_t *object)
{
    for (size_t i = 0; i < message->count; i++) {
        const struct field *field = &message->fields[i];
        json_t *value = json_object_get(object, field->name);
        int r;

        if (field->presence == OMITTED && value && is_zero(value))
            (void)json_object_del(object, field->name);
        if (field->presence != ALWAYS || value)
            continue;
        r = read_zero(decoder, field, &value);
        if (r < 0)
            return r;
        json_object_set_new(object, field->name, value);
    }
    return 0;
}

static int read_message(struct decoder *decoder, const struct message *message, struct slice bytes,
                        json_t **ret_value)
{
    FL_JSON object = json_object();
    int r = count_value(decoder);

    while (r == 0 && bytes.len > 0) {
        const struct field *field;
        struct item item;

        r = read_item(decoder, &bytes, &item);
        if (r < 0)
            return r;
        field = find_field(message, item.number);
        if (field)
            r = add_field(decoder, field, &item, object);
    }
    if (r == 0)
        r = settle(decoder, message, object);
    if (r < 0)
        return r;
    *ret_value = FL_TAKE(object);
    return 0;
}

/* The envelope: Unknown {typeMeta = 1, raw = 2, contentEncoding = 3, contentType = 4}. */
struct envelope {
    struct slice type_meta, raw, encoding, content_type;
};

static int read_envelope(struct decoder *decoder, struct slice bytes, struct envelope *envelope)
{
    struct slice *const members[] = {&envelope->type_meta, &envelope->raw, &envelope->encoding,
                                     &envelope->content_type};

    while (bytes.len > 0) {
        struct item item;
        int r = read_item(decoder, &bytes, &item);

        if (r < 0)
            return r;
        if (item.number <= FL_COUNT_OF(members) && item.wire == WIRE_BYTES)
            *members[item.number - 1] = item.bytes;
    }
    return 0;
}

static const struct message *find_kind(const char *api_version, const char *kind)
{
    for (size_t i = 0; i < FL_COUNT_OF(kinds); i++)
        if (strcmp(kinds[i].kind, kind) == 0 &&
            (!kinds[i].api_version || strcmp(kinds[i].api_version, api_version) == 0))
            return kinds[i].message;
    return NULL;
}

static int decode(struct decoder *decoder, struct slice bytes, json_t **ret_value)
{
    struct envelope envelope = {0};
    const struct message *message;
    const char *api_version, *kind;
    FL_JSON meta = NULL;
    FL_JSON value = NULL;
    int r;

    r = read_envelope(decoder, bytes, &envelope);
    if (r == 0)
        r = read_message(decoder, &type_meta, envelope.type_meta, &meta);
    if (r < 0)
        return r;
    if (envelope.encoding.len > 0)
        return broken(decoder, "encoded content is not supported");
    api_version = fl_json_str(meta, "apiVersion");
    kind = fl_json_str(meta, "kind");
    message = find_kind(api_version, kind);
    if (!message)
        return fl_error_set(decoder->err, FL_E_UNSUPPORTED_MEDIA,
                            "%.100s %.100s is not accepted as protobuf, send JSON", api_version,
                            kind);
    r = read_message(decoder, message, envelope.raw, &value);
    if (r < 0)
        return fl_error_wrap(decoder->err, "%s", kind);
    (void)json_object_update(value, meta);
    *ret_value = FL_TAKE(value);
    return 0;
}

int fl_protobuf_decode(const void *data, size_t len, json_t **ret_value, struct fl_error *err)
{
    static const char magic[4] = {'k', '8', 's', 0};
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct decoder decoder = {.arena = arena, .err = err};

    assert((data || len == 0) && ret_value);

    if (len < sizeof(magic) || memcmp(data, magic, sizeof(magic)) != 0)
        return broken(&decoder, "the body does not begin as Kubernetes' protobuf does");
    return decode(&decoder,
                  (struct slice){(const unsigned char *)data + sizeof(magic), len - sizeof(magic)},
                  ret_value);
}
