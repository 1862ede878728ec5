/* The entries of metadata.managedFields: reading, bounding their number, order, writing. */
#include "api/managed_fields_internal.h"

#include "lib/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_UPDATERS           10u
#define MANAGER_OF_OLD_UPDATES "ancient-changes"

/* Seconds since 1970 of an RFC 3339 time; 0 where it is none. */
static int64_t seconds_of(const char *time)
{
    int year, month, day, hour, minute, second, used = 0, zone_hour, zone_minute;
    int64_t days, zone = 0;

    if (!time || sscanf(time, "%4d-%2d-%2dT%2d:%2d:%2d%n", &year, &month, &day, &hour, &minute,
                        &second, &used) != 6)
        return 0;
    time += used;
    if (*time == '.')
        time += 1 + strspn(time + 1, "0123456789");
    if ((*time == '+' || *time == '-') &&
        sscanf(time + 1, "%2d:%2d", &zone_hour, &zone_minute) == 2)
        zone = (*time == '-' ? -60 : 60) * (zone_hour * 60 + zone_minute);
    /* Years begin in March here, so that a leap day is a year's last. */
    year -= month <= 2;
    days = 365LL * year + year / 4 - year / 100 + year / 400 +
           (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1 - 719468;
    return days * 86400 + hour * 3600 + minute * 60 + second - zone;
}

static const char *text_at(const json_t *object, const char *key)
{
    return fl_str_or(json_string_value(json_object_get(object, key)), "");
}

static bool is_same_manager(const struct fl_entry *a, const struct fl_entry *b)
{
    return a->is_apply == b->is_apply && strcmp(a->manager, b->manager) == 0 &&
           strcmp(a->subresource, b->subresource) == 0 &&
           (a->is_apply || strcmp(a->api_version, b->api_version) == 0);
}

struct fl_entry *fl_entries_find(const struct fl_entries *entries, const struct fl_entry *like)
{
    for (size_t i = 0; i < entries->count; i++) {
        if (is_same_manager(&entries->items[i], like))
            return &entries->items[i];
    }
    return NULL;
}

void fl_entries_put(struct fl_entries *entries, const struct fl_entry *entry)
{
    struct fl_entry *have = fl_entries_find(entries, entry), *items;

    if (have) {
        *have = *entry;
        return;
    }
    items = fl_new_array(entries->arena, struct fl_entry, entries->count + 1);
    if (entries->count)
        memcpy(items, entries->items, entries->count * sizeof(*items));
    items[entries->count++] = *entry;
    entries->items = items;
}

void fl_entries_set(struct fl_entry *entry, struct fl_fields set)
{
    entry->set = set;
    entry->json = NULL;
}

void fl_entries_drop_empty(struct fl_entries *entries)
{
    size_t kept = 0;

    for (size_t i = 0; i < entries->count; i++) {
        if (!fl_fields_is_empty(&entries->items[i].set))
            entries->items[kept++] = entries->items[i];
    }
    entries->count = kept;
}

static int read_entry(struct fl_arena *arena, size_t index, json_t *json,
                      struct fl_entry *ret_entry, struct fl_error *err)
{
    const char *operation = text_at(json, "operation"), *type = text_at(json, "fieldsType");
    const json_t *fields = json_object_get(json, "fieldsV1");
    struct fl_entry entry = {
        .manager = text_at(json, "manager"),
        .api_version = text_at(json, "apiVersion"),
        .subresource = text_at(json, "subresource"),
        .time = json_string_value(json_object_get(json, "time")),
        .is_apply = strcmp(operation, "Apply") == 0,
        .json = json,
    };
    int r;

    if (!entry.is_apply && strcmp(operation, "Update") != 0)
        return fl_error_set(err, FL_E_INVALID,
                            "metadata.managedFields[%zu].operation: must be Apply or Update",
                            index);
    if (entry.api_version[0] == '\0')
        return fl_error_set(err, FL_E_INVALID,
                            "metadata.managedFields[%zu].apiVersion: must not be empty", index);
    if (strcmp(type, "FieldsV1") != 0)
        return fl_error_set(err, FL_E_INVALID,
                            "metadata.managedFields[%zu].fieldsType: must be FieldsV1", index);
    if (json_is_null(fields))
        fields = NULL;
    r = fl_fields_from_json(arena, fields, &entry.set, err);
    if (r < 0)
        return fl_error_wrap(err, "metadata.managedFields[%zu].fieldsV1", index);
    *ret_entry = entry;
    return 0;
}

int fl_entries_read(struct fl_arena *arena, const json_t *managed_fields,
                    struct fl_entries *ret_entries, struct fl_error *err)
{
    struct fl_entries entries = {.arena = arena};
    json_t *json;
    size_t i;
    int r;

    *ret_entries = entries;
    if (!managed_fields || json_is_null(managed_fields))
        return 0;
    if (!json_is_array(managed_fields))
        return fl_error_set(err, FL_E_BAD_REQUEST, "metadata.managedFields: must be a list");
    if (json_array_size(managed_fields) > FL_ENTRIES_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE,
                            "metadata.managedFields: %zu entries, at most %u are allowed",
                            json_array_size(managed_fields), FL_ENTRIES_MAX);
    entries.items = fl_new_array(arena, struct fl_entry, json_array_size(managed_fields) + 1);
    json_array_foreach(managed_fields, i, json) {
        struct fl_entry entry, *have;

        r = read_entry(arena, i, json, &entry, err);
        if (r < 0)
            return r;
        have = fl_entries_find(&entries, &entry);
        *(have ? have : &entries.items[entries.count++]) = entry;
    }
    *ret_entries = entries;
    return 0;
}

/* Bounding */

/* Whole seconds in UTC, as the server writes them: these sort as text. */
static bool is_plain_time(const char *time)
{
    return time && strlen(time) == strlen("2006-01-02T15:04:05Z") && time[19] == 'Z';
}

static int compare_times(const char *a, const char *b)
{
    int64_t left, right;

    if (is_plain_time(a) && is_plain_time(b))
        return strcmp(a, b);
    left = seconds_of(a);
    right = seconds_of(b);
    return left < right ? -1 : left > right;
}

static int compare_age(const void *a, const void *b)
{
    const struct fl_entry *left = *(const struct fl_entry *const *)a;
    const struct fl_entry *right = *(const struct fl_entry *const *)b;
    int c = compare_times(left->time, right->time);

    if (c == 0)
        c = strcmp(left->manager, right->manager);
    if (c == 0)
        c = strcmp(left->api_version, right->api_version);
    return c ? c : strcmp(left->subresource, right->subresource);
}

static struct fl_entry *first_of_version(struct fl_entry *const *old, size_t count,
                                         const char *api_version)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(old[i]->api_version, api_version) == 0)
            return old[i];
    }
    return NULL;
}

/* The entry that collects the old ones of its version: the one there is, or the first of them under
 * another name. */
static struct fl_entry *bucket_of(const struct fl_entries *entries, struct fl_entry *first)
{
    struct fl_entry like = {
        .manager = MANAGER_OF_OLD_UPDATES, .api_version = first->api_version, .subresource = ""};
    struct fl_entry *bucket = fl_entries_find(entries, &like);

    if (bucket)
        return bucket;
    first->manager = like.manager;
    first->subresource = like.subresource;
    return first;
}

/* Moves what the first `count` of `old` own into `bucket`, where `buckets` says so. */
static void pour(struct fl_arena *arena, struct fl_entry *bucket, struct fl_entry *const *old,
                 struct fl_entry *const *buckets, size_t count)
{
    struct fl_fields *sets = fl_new_array(arena, struct fl_fields, count + 1);
    size_t poured = 0;

    for (size_t i = 0; i < count; i++) {
        if (buckets[i] != bucket)
            continue;
        sets[poured++] = old[i]->set;
        bucket->time = old[i]->time;
        fl_entries_set(old[i], (struct fl_fields){0});
    }
    if (poured == 0)
        return;
    sets[poured++] = bucket->set;
    fl_entries_set(bucket, fl_fields_union_all(arena, sets, poured));
}

void fl_entries_cap(struct fl_entries *entries)
{
    struct fl_entry **old, **buckets;
    size_t updaters = 0, left, count;

    for (size_t i = 0; i < entries->count; i++)
        updaters += !entries->items[i].is_apply;
    if (updaters <= MAX_UPDATERS)
        return;
    old = fl_new_array(entries->arena, struct fl_entry *, updaters);
    buckets = fl_new_array(entries->arena, struct fl_entry *, updaters);
    left = updaters;
    updaters = 0;
    for (size_t i = 0; i < entries->count; i++) {
        if (!entries->items[i].is_apply)
            old[updaters++] = &entries->items[i];
    }
    qsort(old, updaters, sizeof(*old), compare_age);
    for (count = 0; count < updaters && left > MAX_UPDATERS; count++) {
        struct fl_entry *first = first_of_version(old, count, old[count]->api_version);

        if (!first)
            continue;
        buckets[count] = bucket_of(entries, first);
        if (buckets[count] == old[count])
            buckets[count] = NULL;
        else
            left--;
    }
    for (size_t i = 0; i < updaters; i++)
        pour(entries->arena, old[i], old, buckets, count);
    fl_entries_drop_empty(entries);
}

/* Writing */

static int compare_entries(const void *a, const void *b)
{
    const struct fl_entry *left = a, *right = b;

    if (left->is_apply != right->is_apply)
        return left->is_apply ? -1 : 1;
    return compare_age(&left, &right);
}

static json_t *write_entry(const struct fl_entry *entry, bool steal)
{
    json_t *json;

    if (entry->json)
        return steal ? json_incref(entry->json) : json_deep_copy(entry->json);
    json = json_object();
    fl_json_set_str(json, "apiVersion", entry->api_version);
    fl_json_set_str(json, "fieldsType", "FieldsV1");
    (void)json_object_set_new_nocheck(json, "fieldsV1", fl_fields_to_json(&entry->set));
    if (entry->manager[0])
        fl_json_set_str(json, "manager", entry->manager);
    fl_json_set_str(json, "operation", entry->is_apply ? "Apply" : "Update");
    if (entry->subresource[0])
        fl_json_set_str(json, "subresource", entry->subresource);
    fl_json_set_str(json, "time", entry->time);
    return json;
}

json_t *fl_entries_write(const struct fl_entries *entries, bool steal)
{
    json_t *result;

    if (entries->count == 0)
        return NULL;
    if (entries->count > 1)
        qsort(entries->items, entries->count, sizeof(*entries->items), compare_entries);
    result = json_array();
    for (size_t i = 0; i < entries->count; i++)
        (void)json_array_append_new(result, write_entry(&entries->items[i], steal));
    return result;
}
