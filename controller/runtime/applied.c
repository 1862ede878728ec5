/* Whether a server-side apply would change nothing, judged by what the object says of its fields'
 * managers, so that a pass with nothing to do makes no call. */
#include "controller/runtime/internal.h"

static bool covers(const json_t *owned, const json_t *applied, const json_t *live);

/* Ownership that has no parts: a scalar, an atomic list or map. Others may own parts of a map that
 * we apply empty. */
static bool is_leaf(const json_t *owned)
{
    return json_object_size(owned) == 0;
}

static bool covers_leaf(const json_t *applied, const json_t *live)
{
    if (json_is_object(applied) && json_object_size(applied) == 0)
        return json_is_object(live);
    return live && json_equal((json_t *)applied, (json_t *)live);
}

/* Not owned, ever. */
static bool is_identity(const char *path, const char *key)
{
    if (path[0] == '\0')
        return fl_streq(key, "apiVersion") || fl_streq(key, "kind");
    return fl_streq(path, "metadata") && (fl_streq(key, "name") || fl_streq(key, "namespace"));
}

static bool owns_nothing_else(const json_t *owned, const json_t *applied)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)owned, key, value)
        if (!fl_streq(key, ".") &&
            !(fl_str_has_prefix(key, "f:") && json_object_get(applied, key + 2)))
            return false;
    return true;
}

static bool covers_members(const json_t *owned, const json_t *applied, const json_t *live,
                           const char *path)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)applied, key, value) {
        FL_CLEANUP(fl_freep) char *field = fl_asprintf("f:%s", key);
        const json_t *part = json_object_get(owned, field);

        if (is_identity(path, key))
            continue;
        if (!part || (fl_streq(key, "metadata") && path[0] == '\0'
                          ? !covers_members(part, value, json_object_get(live, key), "metadata")
                          : !covers(part, value, json_object_get(live, key))))
            return false;
    }
    return owns_nothing_else(owned, applied);
}

/* Keyed lists: k:{"name":"a"} for each item. */

static bool has_keys(const json_t *item, const json_t *keys)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)keys, key, value)
        if (!json_equal(json_object_get(item, key), value))
            return false;
    return true;
}

static const json_t *find_item(const json_t *list, const json_t *keys)
{
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)list, i, item)
        if (has_keys(item, keys))
            return item;
    return NULL;
}

static bool covers_keyed(const char *path_key, const json_t *owned, const json_t *applied,
                         const json_t *live)
{
    FL_JSON keys = NULL;
    const json_t *item, *live_item;

    if (fl_json_parse(path_key + 2, strlen(path_key + 2), NULL, NULL, NULL, &keys, NULL) < 0)
        return false;
    item = find_item(applied, keys);
    live_item = find_item(live, keys);
    return item && live_item && covers(owned, item, live_item);
}

/* Sets: v:"a" for each value. */
static bool has_value(const char *path_key, const json_t *applied, const json_t *live)
{
    FL_JSON wanted = NULL;
    bool found = false;
    json_t *value;
    size_t i;

    if (fl_json_parse(path_key + 2, strlen(path_key + 2), NULL, NULL, NULL, &wanted, NULL) < 0)
        return false;
    json_array_foreach((json_t *)applied, i, value)
        found = found || json_equal(value, wanted);
    if (!found)
        return false;
    json_array_foreach((json_t *)live, i, value)
        if (json_equal(value, wanted))
            return true;
    return false;
}

static bool covers_items(const json_t *owned, const json_t *applied, const json_t *live)
{
    size_t items = 0;
    const char *key;
    json_t *part;

    json_object_foreach((json_t *)owned, key, part) {
        if (fl_streq(key, "."))
            continue;
        if (!(fl_str_has_prefix(key, "k:") && covers_keyed(key, part, applied, live)) &&
            !(fl_str_has_prefix(key, "v:") && has_value(key, applied, live)))
            return false;
        items++;
    }
    return items == json_array_size(applied);
}

static bool covers(const json_t *owned, const json_t *applied, const json_t *live)
{
    if (is_leaf(owned))
        return covers_leaf(applied, live);
    if (json_is_array(applied))
        return json_is_array(live) && covers_items(owned, applied, live);
    return json_is_object(applied) && json_is_object(live) &&
           covers_members(owned, applied, live, "-");
}

static const json_t *owned_by(const json_t *live, const char *manager)
{
    json_t *entry;
    size_t i;

    json_array_foreach(fl_json_path(live, "metadata.managedFields"), i, entry)
        if (fl_streq(fl_json_str(entry, "manager"), manager) &&
            fl_streq(fl_json_str(entry, "operation"), "Apply") &&
            fl_str_or(fl_json_str(entry, "subresource"), "")[0] == '\0')
            return json_object_get(entry, "fieldsV1");
    return NULL;
}

bool fl_is_applied(const json_t *live, const json_t *applied, const char *manager)
{
    const json_t *owned = owned_by(live, manager);

    return owned && fl_streq(fl_json_str(live, "apiVersion"), fl_json_str(applied, "apiVersion")) &&
           covers_members(owned, applied, live, "");
}
