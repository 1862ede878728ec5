/* Lists that are sets or maps, equality as ratcheting sees it, and embedded resources. */
#include "api/schema_internal.h"
#include "lib/str.h"

#include <stdlib.h>
#include <string.h>

/* Two elements of a map list are the same one where all their keys are equal; a key that is
 * missing equals one that is missing. */
static bool same_key(const struct fl_schema_node *list, const json_t *a, const json_t *b)
{
    for (size_t i = 0; i < list->list_key_count; i++) {
        const json_t *left = json_object_get(a, list->list_keys[i]);
        const json_t *right = json_object_get(b, list->list_keys[i]);

        if ((left || right) && !(left && right && json_equal(left, right)))
            return false;
    }
    return true;
}

/* Elements ordered by a hash, so that long lists are not compared each with each. */
struct fl_schema_old_entry {
    uint64_t hash;
    size_t index;
};

static void mix(uint64_t *hash, const void *data, size_t len)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < len; i++)
        *hash = (*hash ^ bytes[i]) * 1099511628211u;
}

/* Equal values have equal hashes; objects count the sum of their members, whatever the order. */
static uint64_t hash_value(const json_t *value, unsigned depth)
{
    uint64_t hash = 14695981039346656037u + (uint64_t)json_typeof(value), sum = 0;
    const char *key;
    json_t *part;
    size_t i, len;

    if (depth > FL_JSON_MAX_DEPTH)
        return hash;
    switch (json_typeof(value)) {
    case JSON_STRING:
        mix(&hash, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        sum = (uint64_t)json_integer_value(value);
        mix(&hash, &sum, sizeof(sum));
        break;
    case JSON_REAL:
        mix(&hash, &(double){json_real_value(value)}, sizeof(double));
        break;
    case JSON_ARRAY:
        json_array_foreach(value, i, part)
            mix(&hash, &(uint64_t){hash_value(part, depth + 1)}, sizeof(uint64_t));
        break;
    case JSON_OBJECT:
        json_object_keylen_foreach((json_t *)value, key, len, part) {
            uint64_t member = hash_value(part, depth + 1);

            mix(&member, key, len);
            sum += member;
        }
        mix(&hash, &sum, sizeof(sum));
        break;
    default:
        break;
    }
    return hash;
}

static uint64_t hash_element(const struct fl_schema_node *list, const json_t *element)
{
    uint64_t hash = 14695981039346656037u;

    if (list->list_type == FL_LIST_SET)
        return hash_value(element, 0);
    for (size_t i = 0; i < list->list_key_count; i++) {
        const json_t *key = json_object_get(element, list->list_keys[i]);
        uint64_t part = key ? hash_value(key, 0) : 0;

        mix(&hash, &part, sizeof(part));
    }
    return hash;
}

static int compare_entries(const void *a, const void *b)
{
    const struct fl_schema_old_entry *left = a, *right = b;

    if (left->hash != right->hash)
        return left->hash < right->hash ? -1 : 1;
    return left->index < right->index ? -1 : left->index > right->index;
}

static int compare_indices(const void *a, const void *b)
{
    const size_t *left = a, *right = b;

    return *left < *right ? -1 : *left > *right;
}

static bool same_element(const struct fl_schema_node *list, const json_t *a, const json_t *b)
{
    return list->list_type == FL_LIST_SET ? json_equal(a, b) : same_key(list, a, b);
}

/* The second appearance of each element that is there more than once, in the list's order. */
static size_t find_repeated(const struct fl_schema_node *list, const json_t *value, size_t *out)
{
    size_t count = json_array_size(value), found = 0;
    struct fl_schema_old_entry few[32], *entries = few;

    if (count > FL_COUNT_OF(few))
        entries = fl_calloc(count, sizeof(*entries));
    for (size_t i = 0; i < count; i++)
        entries[i] = (struct fl_schema_old_entry){hash_element(list, json_array_get(value, i)), i};
    qsort(entries, count, sizeof(*entries), compare_entries);
    for (size_t i = 1; i < count; i++) {
        size_t equals = 0;

        for (size_t j = i; j-- > 0 && entries[j].hash == entries[i].hash && equals < 2;)
            equals += same_element(list, json_array_get(value, entries[j].index),
                                   json_array_get(value, entries[i].index));
        if (equals == 1)
            out[found++] = entries[i].index;
    }
    qsort(out, found, sizeof(*out), compare_indices);
    if (entries != few)
        free(entries);
    return found;
}

static void complain_repeated(const struct fl_schema_node *list, const json_t *element,
                              const struct fl_schema_path *path, struct fl_field_errors *errors)
{
    FL_JSON keys = json_object();

    for (size_t i = 0; i < list->list_key_count; i++) {
        json_t *key = json_object_get(element, list->list_keys[i]);

        if (key)
            (void)json_object_set(keys, list->list_keys[i], key);
    }
    fl_schema_add(errors, FL_FIELD_DUPLICATE, path, list->list_type == FL_LIST_SET ? element : keys,
                  "%s", "");
}

static void check_list(const struct fl_schema_node *list, const json_t *value,
                       const struct fl_schema_path *path, struct fl_field_errors *errors)
{
    size_t few[32], *repeated = few, count = json_array_size(value);

    for (size_t i = 0; list->list_type == FL_LIST_MAP && i < count; i++) {
        const json_t *element = json_array_get(value, i);

        if (!json_is_object(element) && !json_is_null(element)) {
            fl_schema_add(errors, FL_FIELD_INVALID, FL_PATH_AT(path, i), element,
                          "must be an object for an array of list-type map");
            return;
        }
    }
    if (count < 2)
        return;
    if (count > FL_COUNT_OF(few))
        repeated = fl_calloc(count, sizeof(*repeated));
    count = find_repeated(list, value, repeated);
    for (size_t i = 0; i < count; i++)
        complain_repeated(list, json_array_get(value, repeated[i]), FL_PATH_AT(path, repeated[i]),
                          errors);
    if (repeated != few)
        free(repeated);
}

void fl_schema_check_lists(const struct fl_schema_node *node, const json_t *value,
                           const struct fl_schema_path *path, struct fl_field_errors *errors)
{
    const char *key;
    json_t *part;
    size_t i, len;

    if (!node->below_lists)
        return;
    if (json_is_array(value)) {
        if (node->list_type != FL_LIST_ATOMIC)
            check_list(node, value, path, errors);
        if (!node->items || !node->items->below_lists)
            return;
        json_array_foreach(value, i, part)
            fl_schema_check_lists(node->items, part, FL_PATH_AT(path, i), errors);
    } else if (json_is_object(value)) {
        json_object_keylen_foreach((json_t *)value, key, len, part) {
            const struct fl_schema_property *property = fl_schema_find_property(node, key, len);

            if (property && !property->node->is_metadata)
                fl_schema_check_lists(property->node, part, FL_PATH_CHILD(path, key), errors);
            else if (!property && node->additional_node)
                fl_schema_check_lists(node->additional_node, part, FL_PATH_AT_KEY(path, key),
                                      errors);
        }
    }
}

struct fl_schema_old_list fl_schema_old_list(const struct fl_schema_node *list, const json_t *old)
{
    bool can_be_found = list->list_type == FL_LIST_MAP && json_is_array(old);

    return (struct fl_schema_old_list){list, can_be_found ? old : NULL, NULL};
}

void fl_schema_old_list_finish(struct fl_schema_old_list *list)
{
    free(list->entries);
    list->entries = NULL;
}

static bool has_keys(const struct fl_schema_node *list, const json_t *element)
{
    for (size_t i = 0; i < list->list_key_count; i++) {
        if (!json_object_get(element, list->list_keys[i]))
            return false;
    }
    return json_is_object(element);
}

static const json_t *match_old(const struct fl_schema_old_list *list, const json_t *element,
                               size_t index)
{
    const json_t *old = json_array_get(list->old, index);

    return json_is_object(old) && same_key(list->list, element, old) ? old : NULL;
}

static void index_old(struct fl_schema_old_list *list, size_t count)
{
    list->entries = fl_calloc(count, sizeof(*list->entries));
    for (size_t i = 0; i < count; i++)
        list->entries[i] =
            (struct fl_schema_old_entry){hash_element(list->list, json_array_get(list->old, i)), i};
    qsort(list->entries, count, sizeof(*list->entries), compare_entries);
}

/* Elements mostly stay where they were; short lists are looked through, long ones by hash. */
const json_t *fl_schema_old_element(struct fl_schema_old_list *list, const json_t *element,
                                    size_t index)
{
    size_t count = json_array_size(list->old), low = 0, high = count;
    const json_t *found;
    uint64_t hash;

    if (!list->old || !has_keys(list->list, element))
        return NULL;
    found = match_old(list, element, index);
    for (size_t i = 0; !found && count <= 16 && i < count; i++)
        found = match_old(list, element, i);
    if (found || count <= 16)
        return found;
    if (!list->entries)
        index_old(list, count);
    hash = hash_element(list->list, element);
    while (low < high) {
        size_t middle = (low + high) / 2;

        if (list->entries[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    for (; !found && low < count && list->entries[low].hash == hash; low++)
        found = match_old(list, element, list->entries[low].index);
    return found;
}

static bool equal_lists(const struct fl_schema_node *node, const json_t *value, const json_t *old)
{
    struct fl_schema_old_list before = fl_schema_old_list(node, old);
    bool equal = json_array_size(value) == json_array_size(old);
    const json_t *item;
    size_t i;

    if (!before.old || !node->items)
        return json_equal(value, old);
    json_array_foreach(value, i, item) {
        const json_t *element = equal ? fl_schema_old_element(&before, item, i) : NULL;

        equal = element && fl_schema_equal(node->items, item, element);
        if (!equal)
            break;
    }
    fl_schema_old_list_finish(&before);
    return equal;
}

bool fl_schema_equal(const struct fl_schema_node *node, const json_t *value, const json_t *old)
{
    const char *key;
    json_t *member;
    size_t len;

    if (json_typeof(value) != json_typeof(old))
        return false;
    if (!node || !node->below_lists || json_is_null(value))
        return json_equal(value, old);
    if (json_is_array(value))
        return equal_lists(node, value, old);
    if (!json_is_object(value))
        return json_equal(value, old);
    if (json_object_size(value) != json_object_size(old))
        return false;
    json_object_keylen_foreach((json_t *)value, key, len, member) {
        const struct fl_schema_property *property = fl_schema_find_property(node, key, len);
        const json_t *before = json_object_getn(old, key, len);

        if (!before ||
            !fl_schema_equal(property ? property->node : node->additional_node, member, before))
            return false;
    }
    return true;
}

/* Embedded resources. */

static bool is_kind(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] + 32) : text[i];

        if (!((c >= 'a' && c <= 'z') || (i > 0 && c >= '0' && c <= '9') ||
              (i > 0 && i + 1 < len && c == '-')))
            return false;
    }
    return len > 0 && len <= 63;
}

static void check_type_meta(const json_t *value, const char *key, const struct fl_schema_path *path,
                            struct fl_field_errors *errors)
{
    const json_t *member = json_object_get(value, key);
    struct fl_schema_path at = {path, FL_PATH_FIELD, key, 0};
    const char *text = json_string_value(member);

    if (!member)
        fl_schema_add(errors, FL_FIELD_REQUIRED, &at, NULL, "must not be empty");
    else if (!text)
        fl_schema_add(errors, FL_FIELD_INVALID, &at, member, "must be a string");
    else if (!*text)
        fl_schema_add(errors, FL_FIELD_INVALID, &at, member, "must not be empty");
    else if (fl_streq(key, "apiVersion") && strchr(text, '/') != strrchr(text, '/'))
        fl_schema_add(errors, FL_FIELD_INVALID, &at, member, "unexpected GroupVersion string: %s",
                      text);
    else if (fl_streq(key, "kind") && !is_kind(text, json_string_length(member)))
        fl_schema_add(errors, FL_FIELD_INVALID, &at, member,
                      "may have mixed case, but should otherwise match: a DNS-1035 label must "
                      "consist of lower case alphanumeric characters or '-', start with an "
                      "alphabetic character, and end with an alphanumeric character (e.g. "
                      "'my-name',  or 'abc-123', regex used for validation is "
                      "'[a-z]([-a-z0-9]*[a-z0-9])?')");
}

static void check_resource(const json_t *value, const struct fl_schema_path *path,
                           struct fl_field_errors *errors)
{
    const json_t *metadata = json_object_get(value, "metadata");

    check_type_meta(value, "apiVersion", path, errors);
    check_type_meta(value, "kind", path, errors);
    if (metadata && !json_is_object(metadata))
        fl_schema_add(errors, FL_FIELD_INVALID, FL_PATH_CHILD(path, "metadata"), metadata,
                      "must be an object");
}

void fl_schema_check_embedded(const struct fl_schema_node *node, const json_t *value,
                              const struct fl_schema_path *path, struct fl_field_errors *errors)
{
    const char *key;
    json_t *part;
    size_t i, len;

    if (!node->below_embedded)
        return;
    if (json_is_array(value) && node->items) {
        json_array_foreach(value, i, part)
            fl_schema_check_embedded(node->items, part, FL_PATH_AT(path, i), errors);
    } else if (json_is_object(value)) {
        if (node->embedded)
            check_resource(value, path, errors);
        json_object_keylen_foreach((json_t *)value, key, len, part) {
            const struct fl_schema_property *property = fl_schema_find_property(node, key, len);

            if (property)
                fl_schema_check_embedded(property->node, part, FL_PATH_CHILD(path, key), errors);
            else if (node->additional_node)
                fl_schema_check_embedded(node->additional_node, part, FL_PATH_AT_KEY(path, key),
                                         errors);
        }
    }
}
