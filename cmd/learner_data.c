#include "cmd/learner_data.h"

#include "lib/str.h"

#include <inttypes.h>

#define NAMES_SHOWN 8

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

/* The one that there is. */
static int find_only(const struct fl_data_store *store, struct fl_arena *arena,
                     const char **ret_tag, struct fl_error *err)
{
    struct fl_data_list list = {0};
    const char *names = "";
    size_t count = 0;
    int r = fl_data_store_list(store, arena, &list, err);

    if (r < 0)
        return r;
    for (size_t i = 0; i < list.count; i++) {
        if (list.items[i].of)
            continue;
        *ret_tag = list.items[i].name;
        if (count++ < NAMES_SHOWN)
            names = fl_arena_printf(arena, "%s%s%s", names, *names ? ", " : "", list.items[i].name);
    }
    if (count == 1)
        return 0;
    if (count == 0)
        return fl_error_set(err, FL_E_NOT_FOUND,
                            "the node has no data: push some with `flops data push`");
    return fl_error_set(err, FL_E_INVALID, "the node has %zu data sets (%s): name one in data.tags",
                        count, names);
}

static int find_tag(const struct fl_data_store *store, struct fl_arena *arena,
                    const struct fl_words *tags, const char **ret_tag, struct fl_error *err)
{
    if (tags->count == 0)
        return find_only(store, arena, ret_tag, err);
    if (tags->count > 1)
        return fl_error_set(err, FL_E_INVALID,
                            "a builtin trainer trains on one data set, and data.tags names %zu",
                            tags->count);
    *ret_tag = tags->items[0];
    return 0;
}

int fl_learner_open_data(const struct fl_data_store *store, struct fl_arena *arena,
                         const struct fl_words *tags, int64_t number, const char **ret_tag,
                         struct fl_dataset **ret_dataset, struct fl_error *err)
{
    struct fl_data_info parts = {0};
    const char *tag = NULL;
    struct fl_error none = {0};
    int r = find_tag(store, arena, tags, &tag, err);

    if (r < 0)
        return r;
    if (number >= 0 && !strchr(tag, '.') &&
        fl_data_store_get(store, arena, fl_arena_printf(arena, "%s" FL_DATA_PARTS_SUFFIX, tag),
                          &parts, &none) == 0 &&
        parts.partition.learners > 0)
        tag =
            fl_arena_printf(arena, "%s.%" PRId64, tag, number % (int64_t)parts.partition.learners);
    *ret_tag = tag;
    r = fl_data_store_open(store, tag, NULL, ret_dataset, err);
    return r < 0 ? fl_error_wrap(err, "data set %s", tag) : 0;
}
