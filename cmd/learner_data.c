#include "cmd/learner_data.h"

#include "lib/str.h"

#include <inttypes.h>

int64_t fl_learner_number(int64_t first)
{
    const char *text = getenv("FLOPS_INSTANCE");
    int64_t instance = 0;

    if (text)
        (void)fl_str_to_int64(text, 0, INT32_MAX, &instance);
    return first + instance;
}

bool fl_learner_read_share(const char *text, double *ret_share)
{
    char *end = NULL;

    *ret_share = text ? strtod(text, &end) : 0;
    return !text || (end != text && *end == '\0' && *ret_share >= 0 && *ret_share < 1);
}

/* All but parts, which are of those. */
static int find_all(const struct fl_data_store *store, struct fl_arena *arena,
                    struct fl_words *ret_tags, struct fl_error *err)
{
    struct fl_data_list list = {0};
    int r = fl_data_store_list(store, arena, &list, err);

    if (r < 0)
        return r;
    *ret_tags = (struct fl_words){fl_new_array(arena, const char *, list.count + 1), 0};
    for (size_t i = 0; i < list.count; i++)
        if (!list.items[i].of)
            ret_tags->items[ret_tags->count++] = list.items[i].name;
    if (ret_tags->count == 0)
        return fl_error_set(err, FL_E_NOT_FOUND,
                            "the node has no data: push some with `flops data push`");
    return 0;
}

static const char *part_of(const struct fl_data_store *store, struct fl_arena *arena,
                           const char *tag, int64_t number)
{
    struct fl_data_info parts = {0};
    struct fl_error none = {0};

    if (number < 0 || strchr(tag, '.') ||
        fl_data_store_get(store, arena, fl_arena_printf(arena, "%s" FL_DATA_PARTS_SUFFIX, tag),
                          &parts, &none) < 0 ||
        parts.partition.learners == 0)
        return tag;
    return fl_arena_printf(arena, "%s.%" PRId64, tag, number % (int64_t)parts.partition.learners);
}

static int open_all(const struct fl_data_store *store, const struct fl_words *tags,
                    struct fl_dataset_part *parts, struct fl_error *err)
{
    for (size_t i = 0; i < tags->count; i++) {
        parts[i].name = tags->items[i];
        if (fl_data_store_open(store, tags->items[i], NULL, &parts[i].dataset, err) < 0)
            return fl_error_wrap(err, "data set %s", tags->items[i]);
    }
    return 0;
}

int fl_learner_open_data(const struct fl_data_store *store, struct fl_arena *arena,
                         const struct fl_words *tags, int64_t number, struct fl_words *ret_opened,
                         struct fl_dataset **ret_dataset, struct fl_error *err)
{
    struct fl_words named = *tags, opened;
    struct fl_dataset_part *parts;
    int r = tags->count == 0 ? find_all(store, arena, &named, err) : 0;

    if (r < 0)
        return r;
    opened = (struct fl_words){fl_new_array(arena, const char *, named.count), named.count};
    for (size_t i = 0; i < named.count; i++)
        opened.items[i] = part_of(store, arena, named.items[i], number);
    parts = fl_new_array(arena, struct fl_dataset_part, named.count);
    r = open_all(store, &opened, parts, err);
    if (r == 0)
        r = fl_dataset_join(parts, opened.count, ret_dataset, err);
    for (size_t i = 0; i < opened.count; i++)
        fl_dataset_unref(parts[i].dataset);
    if (r < 0 && tags->count == 0)
        return fl_error_wrap(err, "all data sets of the node (data.tags names none)");
    if (r == 0)
        *ret_opened = opened;
    return r;
}

static json_t *place_to_json(const char *name, const struct fl_data_place *place)
{
    json_t *entry = json_object();

    fl_json_set_str(entry, "name", name);
    if (!place->file)
        return entry;
    fl_json_set_str(entry, "file", place->file);
    (void)json_object_set_new(entry, "examples", json_integer(place->examples));
    if (place->rows)
        (void)json_object_set_new(
            entry, "rows",
            json_pack("{s:s, s:I}", "file", place->rows, "part", (json_int_t)place->part));
    return entry;
}

static int find_one(const struct fl_data_store *store, struct fl_arena *arena, const char *name,
                    json_t *data, struct fl_error *err)
{
    struct fl_data_place place = {0};
    struct fl_error why = {0};
    int r = fl_data_store_find(store, arena, name, &place, &why);

    if (r < 0 && r != FL_E_NOT_FOUND && r != FL_E_BAD_REQUEST)
        return fl_error_set(err, r, "data set %s: %s", name, why.msg);
    (void)json_array_append_new(data, place_to_json(name, &place));
    return 0;
}

int fl_learner_find_data(const struct fl_data_store *store, struct fl_arena *arena,
                         const struct fl_words *tags, int64_t number, struct fl_words *ret_opened,
                         json_t **ret_data, struct fl_error *err)
{
    struct fl_words named = *tags, opened;
    FL_JSON data = json_array();
    int r = tags->count == 0 ? find_all(store, arena, &named, err) : 0;

    if (r < 0 && r != FL_E_NOT_FOUND)
        return r;
    opened = (struct fl_words){fl_new_array(arena, const char *, named.count + 1), named.count};
    r = 0;
    for (size_t i = 0; i < named.count && r == 0; i++) {
        opened.items[i] = part_of(store, arena, named.items[i], number);
        r = find_one(store, arena, opened.items[i], data, err);
    }
    if (r < 0)
        return r;
    *ret_opened = opened;
    *ret_data = FL_TAKE(data);
    return 0;
}

struct fl_words fl_learner_tags(struct fl_arena *arena, const struct fl_words *opened)
{
    struct fl_words tags = {fl_new_array(arena, const char *, 2 * opened->count + 1), 0};

    for (size_t i = 0; i < opened->count; i++) {
        const char *name = opened->items[i], *dot = strchr(name, '.');

        tags.items[tags.count++] = name;
        if (dot)
            tags.items[tags.count++] = fl_arena_strndup(arena, name, (size_t)(dot - name));
    }
    return tags;
}
