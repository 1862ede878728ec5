#include "reconcilers/workload/place.h"

#include "lib/str.h"

/* Why a node is not taken, the first that holds. */
enum refusal {
    FITS,
    OTHER_PLACE,
    NO_RUNTIME,
    NO_IMAGES,
    NO_LABELS,
    NO_PLATFORM,
    NO_ADDONS,
    NO_DATA,
    NOT_READY,
    CORDONED,
    FULL,
    NO_CPU,
    NO_MEMORY,
    NO_STORAGE,
    NO_GPUS,
    REFUSALS,
};

static const char *const words[REFUSALS][2] = {
    [OTHER_PLACE] = {"is not the named place", "are not the named place"},
    [NO_RUNTIME] = {"cannot run it", "cannot run it"},
    [NO_IMAGES] = {"runs no images (install runc there)", "run no images (install runc there)"},
    [NO_LABELS] = {"lacks labels", "lack labels"},
    [NO_PLATFORM] = {"has another platform (install qemu-user-static there)",
                     "have another platform (install qemu-user-static there)"},
    [NO_ADDONS] = {"lacks add-ons", "lack add-ons"},
    [NO_DATA] = {"lacks data sets", "lack data sets"},
    [NOT_READY] = {"is not ready", "are not ready"},
    [CORDONED] = {"takes nothing new", "take nothing new"},
    [FULL] = {"has as many as it may", "have as many as they may"},
    [NO_CPU] = {"has too little processor time left", "have too little processor time left"},
    [NO_MEMORY] = {"has too little memory left", "have too little memory left"},
    [NO_STORAGE] = {"has too little storage left", "have too little storage left"},
    [NO_GPUS] = {"has too few GPUs left", "have too few GPUs left"},
};

static int64_t most_per_node(const struct fl_workload_spec *spec)
{
    if (spec->has_placement && spec->placement.one_per_node)
        return 1;
    if (spec->has_placement && spec->placement.max_per_node > 0)
        return spec->placement.max_per_node;
    return INT64_MAX;
}

void fl_places_init(struct fl_places *places, const struct fl_decide_input *input,
                    struct fl_arena *arena)
{
    size_t count = input->nodes->count;

    *places = (struct fl_places){
        .input = input,
        .need = fl_workload_needs(input->spec),
        .taken = fl_new_array(arena, struct fl_node_capacity, count),
        .own = fl_new_array(arena, int64_t, count),
        .all = fl_new_array(arena, int64_t, count),
        .max_per_node = most_per_node(input->spec),
    };
    for (size_t i = 0; i < count; i++) {
        places->taken[i] = input->nodes->items[i].requested;
        places->all[i] = input->nodes->items[i].runs;
    }
}

size_t fl_places_find(const struct fl_places *places, const char *cluster, const char *name)
{
    const struct fl_node_list *nodes = places->input->nodes;

    for (size_t i = 0; i < nodes->count; i++)
        if (fl_streq(nodes->items[i].name, name) && fl_streq(nodes->items[i].cluster, cluster))
            return i;
    return FL_NOWHERE;
}

static bool has(const struct fl_string_list *list, const char *text)
{
    for (size_t i = 0; i < list->count; i++)
        if (fl_streq(list->items[i], text))
            return true;
    return false;
}

static bool has_all(const struct fl_string_list *list, const struct fl_string_list *wanted)
{
    for (size_t i = 0; i < wanted->count; i++)
        if (!has(list, wanted->items[i]))
            return false;
    return true;
}

static bool has_one(const struct fl_string_list *list, const struct fl_string_list *wanted)
{
    for (size_t i = 0; i < wanted->count; i++)
        if (has(list, wanted->items[i]))
            return true;
    return wanted->count == 0;
}

static bool has_labels(const struct fl_string_map *labels, const struct fl_string_map *wanted)
{
    for (size_t i = 0; i < wanted->count; i++)
        if (!fl_streq(fl_string_map_get(labels, wanted->items[i].key), wanted->items[i].value))
            return false;
    return true;
}

/* Two clusters may each have a node of the same name, which is then told with its cluster. */
static bool is_named(const struct fl_node *node, const char *name)
{
    size_t len = strlen(node->cluster);

    if (fl_streq(node->name, name))
        return true;
    return strncmp(name, node->cluster, len) == 0 && name[len] == '.' &&
           strcmp(name + len + 1, node->name) == 0;
}

static enum refusal mismatch(const struct fl_workload_spec *spec, const struct fl_node *node)
{
    const struct fl_workload_placement *want = &spec->placement;

    if (spec->image && !node->runs_images)
        return NO_IMAGES;
    if (!spec->image && !node->runs_processes)
        return NO_RUNTIME;
    if (!spec->has_placement)
        return FITS;
    if (want->cluster && !fl_streq(want->cluster, node->cluster))
        return OTHER_PLACE;
    if (want->node && !is_named(node, want->node))
        return OTHER_PLACE;
    if (!has_labels(&node->labels, &want->node_selector))
        return NO_LABELS;
    if (!has_one(&node->platforms, &want->platforms))
        return NO_PLATFORM;
    if (!has_all(&node->addons, &want->addons))
        return NO_ADDONS;
    return has_all(&node->data_tags, &want->data_tags) ? FITS : NO_DATA;
}

bool fl_places_match(const struct fl_places *places, size_t node)
{
    return mismatch(places->input->spec, &places->input->nodes->items[node]) == FITS;
}

bool fl_places_is_cordoned(const struct fl_places *places, size_t node)
{
    return places->input->cordoned && places->input->cordoned[node];
}

bool fl_places_is_lost(const struct fl_places *places, size_t node, int64_t *ret_left_ms)
{
    const struct fl_node *at = &places->input->nodes->items[node];
    int64_t since_us = places->input->now_us - at->ready_changed_us;

    *ret_left_ms = -1;
    if (at->ready)
        return false;
    if (since_us < 0)
        since_us = 0;
    *ret_left_ms = places->input->node_grace_ms - since_us / 1000;
    return *ret_left_ms <= 0;
}

/* Capacity that is not known does not bound; but GPUs that are not known are none. */
static bool fits(int64_t need, int64_t taken, int64_t capacity)
{
    return need == 0 || capacity == 0 || (taken <= capacity && need <= capacity - taken);
}

static enum refusal shortage(const struct fl_places *places, size_t node)
{
    const struct fl_node_capacity *need = &places->need, *taken = &places->taken[node];
    const struct fl_node_capacity *capacity = &places->input->nodes->items[node].capacity;

    if (places->own[node] >= places->max_per_node)
        return FULL;
    if (!fits(need->cpu_milli, taken->cpu_milli, capacity->cpu_milli))
        return NO_CPU;
    if (!fits(need->memory_bytes, taken->memory_bytes, capacity->memory_bytes))
        return NO_MEMORY;
    if (!fits(need->storage_bytes, taken->storage_bytes, capacity->storage_bytes))
        return NO_STORAGE;
    if (need->gpus > 0 && need->gpus > capacity->gpus - taken->gpus)
        return NO_GPUS;
    return FITS;
}

static enum refusal refuse(const struct fl_places *places, size_t node, bool is_new)
{
    const struct fl_node *at = &places->input->nodes->items[node];
    enum refusal why = mismatch(places->input->spec, at);

    if (why != FITS)
        return why;
    if (!at->ready)
        return NOT_READY;
    if (is_new && fl_places_is_cordoned(places, node))
        return CORDONED;
    return shortage(places, node);
}

void fl_places_occupy(struct fl_places *places, size_t node)
{
    places->own[node]++;
}

/* Sums of what was checked to fit, or has no bound: they do not wrap for any count of instances. */
static void add(int64_t *sum, int64_t amount_)
{
    if (__builtin_add_overflow(*sum, amount_, sum))
        *sum = INT64_MAX;
}

static size_t give(struct fl_places *places, size_t node)
{
    struct fl_node_capacity *taken = &places->taken[node];

    places->own[node]++;
    places->all[node]++;
    add(&taken->cpu_milli, places->need.cpu_milli);
    add(&taken->memory_bytes, places->need.memory_bytes);
    add(&taken->storage_bytes, places->need.storage_bytes);
    add(&taken->gpus, places->need.gpus);
    return node;
}

static bool is_better(const struct fl_places *places, size_t node, size_t than)
{
    if (than == FL_NOWHERE || places->own[node] != places->own[than])
        return than == FL_NOWHERE || places->own[node] < places->own[than];
    return places->all[node] < places->all[than];
}

size_t fl_places_take(struct fl_places *places, size_t before)
{
    size_t best = FL_NOWHERE;

    if (before != FL_NOWHERE && refuse(places, before, false) == FITS)
        return give(places, before);
    for (size_t i = 0; i < places->input->nodes->count; i++)
        if (refuse(places, i, true) == FITS && is_better(places, i, best))
            best = i;
    return best == FL_NOWHERE ? best : give(places, best);
}

size_t fl_places_take_at(struct fl_places *places, size_t node)
{
    return refuse(places, node, false) == FITS ? give(places, node) : FL_NOWHERE;
}

const char *fl_places_why_not(const struct fl_places *places, struct fl_arena *arena)
{
    size_t counts[REFUSALS] = {0}, total = places->input->nodes->count;
    const char *text = total == 1 ? "the only node does not fit" : NULL, *separator = ": ";

    if (total == 0)
        return "there are no nodes";
    if (!text)
        text = fl_arena_printf(arena, "none of %zu nodes fits", total);
    for (size_t i = 0; i < total; i++)
        counts[refuse(places, i, true)]++;
    for (size_t why = FITS + 1; why < REFUSALS; why++) {
        if (counts[why] == 0)
            continue;
        text = fl_arena_printf(arena, "%s%s%zu %s", text, separator, counts[why],
                               words[why][counts[why] > 1]);
        separator = ", ";
    }
    return text;
}
