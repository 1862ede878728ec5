/* What a training is made of, as params: the fields of the spec that matter, by their paths. */
#include "lib/str.h"
#include "reconcilers/tracking/plan_internal.h"

#include <string.h>

#define PARAMS_MAX 200
#define DEPTH_MAX  6

/* Where a part of the spec stands, and which name its params begin with. */
static const struct {
    const char *path, *prefix;
} parts[] = {
    {"spec.training", ""},
    {"spec.data", "data"},
    {"spec.source.builtin", "source.builtin"},
    {"spec.source.git.ref", "source.ref"},
    {"spec.topology", "topology"},
    {"spec.privacy", "privacy"},
    {"spec.learners.count", "learners.count"},
};

static const char *text_of(const json_t *value, struct fl_arena *arena)
{
    return json_is_string(value) ? json_string_value(value) : fl_json_to_string(arena, value);
}

static void flatten(struct fl_track_pairs *pairs, const char *name, const json_t *value, int depth)
{
    struct fl_arena *arena = pairs->arena;
    const char *key;
    json_t *item;

    if (!json_is_object(value) || depth == DEPTH_MAX) {
        fl_track_pairs_add(pairs, fl_track_key(arena, name), text_of(value, arena));
        return;
    }
    json_object_foreach((json_t *)value, key, item)
        flatten(pairs, *name ? fl_arena_printf(arena, "%s.%s", name, key) : key, item, depth + 1);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct fl_string_pair *)a)->key, ((const struct fl_string_pair *)b)->key);
}

struct fl_string_map fl_track_params(const json_t *project, struct fl_arena *arena)
{
    struct fl_track_pairs pairs = {.arena = arena, .max = PARAMS_MAX};

    for (size_t i = 0; i < FL_COUNT_OF(parts); i++) {
        const json_t *part = fl_json_path(project, parts[i].path);

        if (part)
            flatten(&pairs, parts[i].prefix, part, 0);
    }
    if (pairs.map.count > 1)
        qsort(pairs.map.items, pairs.map.count, sizeof(*pairs.map.items), by_key);
    return pairs.map;
}
