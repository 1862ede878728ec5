#include "cmd/rounds_history.h"

#include "lib/str.h"

#include <string.h>

static bool is_there(const struct fl_rounds *rounds, const char *name)
{
    for (size_t i = 0; i < rounds->count; i++)
        if (fl_streq(fl_json_str(rounds->items[i], "metadata.name"), name))
            return true;
    return false;
}

/* Only what was committed is kept. */
static json_t *as_round(const json_t *history, const json_t *kept)
{
    json_t *status = json_deep_copy(json_object_get(kept, "status"));
    json_t *round =
        json_pack("{s:s, s:s, s:{s:O, s:O?}, s:{s:O, s:O}}", "apiVersion", "flops.dev/v1alpha1",
                  "kind", "FLRound", "metadata", "name", json_object_get(kept, "name"), "namespace",
                  fl_json_path(history, "metadata.namespace"), "spec", "project",
                  fl_json_path(history, "spec.project"), "index", json_object_get(kept, "round"));

    if (!round || !status) { /* it lacks what every history has */
        json_decref(round);
        json_decref(status);
        return NULL;
    }
    (void)json_object_set_new(
        status, "conditions",
        json_pack("[{s:s, s:s, s:s}]", "type", "Ready", "status", "True", "reason", "Committed"));
    (void)json_object_set_new(round, "status", status);
    return round;
}

static size_t count_kept(const json_t *histories)
{
    json_t *history;
    size_t count = 0, i;

    json_array_foreach((json_t *)histories, i, history)
        count += json_array_size(fl_json_path(history, "spec.rounds"));
    return count;
}

void fl_rounds_add_history(struct fl_rounds *rounds, const json_t *histories)
{
    const json_t **items =
        fl_new_array(rounds->arena, const json_t *, rounds->count + count_kept(histories) + 1);
    size_t count = rounds->count, i, n;
    json_t *history, *kept;

    if (count > 0)
        memcpy(items, rounds->items, count * sizeof(*items));
    json_array_foreach((json_t *)histories, i, history) {
        json_array_foreach(fl_json_path(history, "spec.rounds"), n, kept) {
            json_t *round = NULL;

            if (!is_there(rounds, fl_json_str(kept, "name")))
                round = as_round(history, kept);
            if (round)
                items[count++] = fl_json_in_arena(rounds->arena, round);
        }
    }
    rounds->items = items;
    rounds->count = count;
    fl_rounds_sort(rounds);
}
