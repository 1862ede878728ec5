/* Places: a root tells of clusters, not of their nodes, and deploys to clusters. So each cluster is
 * one node, which has what the cluster has. */
#include "lib/str.h"
#include "reconcilers/workload/oakestra/internal.h"

#define REACH_MS       INT64_C(20000)      /* without an answer: then the root is out of reach */
#define CLUSTER_LABEL  "flops.dev/cluster" /* as of the driver local */
#define LOCATION_LABEL "oakestra.io/location"
#define MIB            INT64_C(1048576)

const struct oak_place *oak_place_find(const struct fl_oakestra *oak, const char *name)
{
    for (size_t i = 0; i < oak->place_count; i++)
        if (fl_streq(oak->places[i].name, name))
            return &oak->places[i];
    return NULL;
}

/* What was seen */

static const char *const *clone_words(struct fl_arena *arena, const char *const *words,
                                      size_t count)
{
    const char **copy = fl_new_array(arena, const char *, count + 1);

    for (size_t i = 0; i < count; i++)
        copy[i] = fl_arena_strdup(arena, words[i]);
    return copy;
}

static struct oak_cluster clone_cluster(struct fl_arena *arena, const struct oak_cluster *from)
{
    struct oak_cluster copy = *from;

    copy.id = fl_arena_strdup(arena, from->id);
    copy.name = fl_arena_strdup(arena, from->name);
    copy.location = fl_arena_copy(arena, from->location);
    copy.virtualization = clone_words(arena, from->virtualization, from->virtualization_count);
    copy.addons = clone_words(arena, from->addons, from->addon_count);
    copy.csi_drivers = clone_words(arena, from->csi_drivers, from->csi_count);
    return copy;
}

static bool is_listed(const struct oak_clusters *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].name, name) == 0)
            return true;
    return false;
}

/* Of a cluster that registered anew and has two entries, the active one. */
static bool is_shadowed(const struct oak_clusters *list, size_t at)
{
    const struct oak_cluster *one = &list->items[at];

    for (size_t i = 0; i < list->count; i++) {
        const struct oak_cluster *other = &list->items[i];

        if (other == one || strcmp(other->name, one->name) != 0)
            continue;
        if (other->active != one->active ? other->active : i > at)
            return true;
    }
    return false;
}

static bool same_words(const char *const *a, size_t a_count, const char *const *b, size_t b_count)
{
    for (size_t i = 0; a_count == b_count && i < a_count; i++)
        if (strcmp(a[i], b[i]) != 0)
            return false;
    return a_count == b_count;
}

/* What goes up and down all the time is seen with the rest, every now and then. */
static bool is_same(const struct oak_cluster *a, const struct oak_cluster *b)
{
    return a->active == b->active && a->nodes == b->nodes && fl_streq(a->id, b->id) &&
           fl_streq(a->location, b->location) &&
           same_words(a->addons, a->addon_count, b->addons, b->addon_count) &&
           same_words(a->virtualization, a->virtualization_count, b->virtualization,
                      b->virtualization_count);
}

static bool is_ready(const struct oak_cluster *cluster)
{
    return cluster->active && cluster->nodes != 0;
}

static bool add_place(const struct fl_oakestra *oak, struct fl_arena *arena,
                      const struct oak_cluster *cluster, bool listed, struct oak_place *place)
{
    const char *name = oak_safe_name(arena, cluster->name);
    const struct oak_place *old = oak_place_find(oak, name);
    bool changed = !old || is_ready(&old->cluster) != is_ready(cluster);

    *place = (struct oak_place){
        .cluster = clone_cluster(arena, cluster),
        .name = name,
        .changed_us = changed ? fl_realtime_us(oak->env) : old->changed_us,
        .listed = listed,
    };
    return !old || !is_same(&old->cluster, cluster);
}

static int64_t grace_us(const struct fl_oakestra *oak)
{
    const struct oak_config *config = oak_config_of(oak);

    return config ? config->grace_ms * 1000 : 0;
}

/* One that is not listed any more is out for as long as nodes may be: a root that has just begun
 * does not know its clusters yet. */
static bool remember(const struct fl_oakestra *oak, struct fl_arena *arena,
                     const struct oak_place *old, struct oak_place *place)
{
    struct oak_cluster cluster = old->cluster;

    cluster.active = false;
    if (!old->listed && fl_realtime_us(oak->env) - old->changed_us > grace_us(oak))
        return false;
    (void)add_place(oak, arena, &cluster, false, place);
    return true;
}

bool oak_see_clusters(struct fl_oakestra *oak, const struct oak_clusters *list)
{
    struct fl_arena *arena = fl_arena_create();
    struct oak_place *places =
        fl_new_array(arena, struct oak_place, list->count + oak->place_count);
    size_t count = 0;
    bool changed = false;

    for (size_t i = 0; i < list->count; i++)
        if (!is_shadowed(list, i))
            changed |= add_place(oak, arena, &list->items[i], true, &places[count++]);
    for (size_t i = 0; i < oak->place_count; i++) {
        if (is_listed(list, oak->places[i].cluster.name))
            continue;
        changed |= oak->places[i].listed;
        if (remember(oak, arena, &oak->places[i], &places[count]))
            count++;
        else
            changed = true;
    }
    fl_arena_destroy(oak->seen_arena);
    oak->seen_arena = arena;
    oak->places = places;
    oak->place_count = count;
    return changed;
}

/* What is told */

int oak_check_reach(const struct fl_oakestra *oak, struct fl_error *err)
{
    bool fresh = oak->seen_us > 0 && fl_monotonic_ms(oak->env) - oak->seen_ms < REACH_MS;

    if (oak->seen_us > 0 && (fresh || oak->problem.code == 0))
        return 0;
    if (oak->problem.code == 0)
        return fl_error_set(err, FL_E_UNAVAILABLE, "the root was not asked yet");
    return fl_error_set(err, FL_E_UNAVAILABLE, "%s", oak->problem.msg);
}

static struct fl_string_list words_of(struct fl_arena *arena, const char *const *words,
                                      size_t count)
{
    struct fl_string_list list = {fl_new_array(arena, const char *, count + 1), count};

    for (size_t i = 0; i < count; i++)
        list.items[i] = fl_arena_strdup(arena, words[i]);
    return list;
}

static bool runs_containers(const struct oak_cluster *cluster)
{
    for (size_t i = 0; i < cluster->virtualization_count; i++)
        if (strcmp(cluster->virtualization[i], "container") == 0 ||
            strcmp(cluster->virtualization[i], "docker") == 0)
            return true;
    return cluster->virtualization_count == 0;
}

static void add(int64_t *sum, int64_t amount)
{
    if (__builtin_add_overflow(*sum, amount, sum))
        *sum = INT64_MAX;
}

static void add_needs(struct fl_node_capacity *sum, const struct fl_node_capacity *needs)
{
    add(&sum->cpu_milli, needs->cpu_milli);
    add(&sum->memory_bytes, needs->memory_bytes);
    add(&sum->storage_bytes, needs->storage_bytes);
    add(&sum->gpus, needs->gpus);
}

/* A cluster reports what is free, which what runs has been taken from already: so that is added
 * again to what there is. */
static void count_runs(const struct fl_oakestra *oak, const struct oak_place *place,
                       struct fl_node *node)
{
    struct fl_node_capacity running = {0};
    void *cursor = NULL, *value;

    while (fl_map_next(oak->runs, &cursor, NULL, &value)) {
        const struct oak_record *record = &((struct oak_run *)value)->record;

        if (record->gone || !fl_streq(record->cluster, place->name))
            continue;
        node->runs++;
        add_needs(&node->requested, &record->requested);
        if (record->status == OAK_RUNNING)
            add_needs(&running, &record->requested);
    }
    if (node->capacity.cpu_milli > 0)
        add(&node->capacity.cpu_milli, running.cpu_milli);
    if (node->capacity.memory_bytes > 0)
        add(&node->capacity.memory_bytes, running.memory_bytes);
}

static bool is_label(const char *text)
{
    size_t len = strlen(text);

    return len > 0 && len <= 63 &&
           strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") ==
               len &&
           !strchr("-_.", text[0]) && !strchr("-_.", text[len - 1]);
}

static void set_label(struct fl_arena *arena, struct fl_string_map *map, const char *key,
                      const char *value)
{
    size_t i = 0;

    while (i < map->count && strcmp(map->items[i].key, key) != 0)
        i++;
    map->items[i].key = fl_arena_strdup(arena, key);
    map->items[i].value = fl_arena_strdup(arena, value);
    map->count += i == map->count;
}

/* What the Orchestrator says of it; NULL: nothing. */
static const struct fl_orchestrator_oakestra_cluster *declared(const struct oak_config *config,
                                                               const char *name)
{
    for (size_t i = 0; config && i < config->spec->oakestra.clusters.count; i++)
        if (fl_streq(config->spec->oakestra.clusters.items[i].name, name))
            return &config->spec->oakestra.clusters.items[i];
    return NULL;
}

static struct fl_string_map labels_of(struct fl_arena *arena, const struct oak_place *place,
                                      const struct fl_orchestrator_oakestra_cluster *more)
{
    const struct oak_cluster *cluster = &place->cluster;
    size_t count = more ? more->labels.count : 0;
    struct fl_string_map map = {fl_alloc_array(arena, count + 2, sizeof(*map.items)), 0};

    if (cluster->location && is_label(cluster->location))
        set_label(arena, &map, LOCATION_LABEL, cluster->location);
    for (size_t i = 0; i < count; i++)
        set_label(arena, &map, more->labels.items[i].key, more->labels.items[i].value);
    set_label(arena, &map, CLUSTER_LABEL, place->name);
    return map;
}

static int64_t at_least_0(int64_t value, int64_t max)
{
    return value < 0 ? 0 : value > max ? max : value;
}

static void show_place(const struct fl_oakestra *oak, const struct oak_place *place,
                       struct fl_arena *arena, struct fl_node *node)
{
    const struct oak_cluster *cluster = &place->cluster;
    const struct oak_config *config = oak_config_of(oak);
    const struct fl_orchestrator_oakestra_cluster *more = declared(config, cluster->name);
    bool containers = runs_containers(cluster);

    *node = (struct fl_node){
        .cluster = fl_arena_strdup(arena, place->name),
        .name = fl_arena_strdup(arena, place->name),
        .labels = labels_of(arena, place, more),
        .addons = words_of(arena, cluster->addons, cluster->addon_count),
        .capacity = {.cpu_milli = at_least_0(cluster->vcpus, INT32_MAX) * 1000,
                     .memory_bytes = at_least_0(cluster->memory_mb, INT32_MAX) * MIB,
                     .gpus = at_least_0(cluster->vgpus, INT32_MAX)},
        .ready = is_ready(cluster),
        .ready_changed_us = place->changed_us,
        .runs_images = containers,
        .runs_processes = containers && config && config->program_image,
    };
    if (more) {
        node->platforms = words_of(arena, more->platforms.items, more->platforms.count);
        node->data_tags = words_of(arena, more->data_tags.items, more->data_tags.count);
    }
    if (!node->ready)
        node->message = !place->listed     ? "the root does not list the cluster"
                        : !cluster->active ? "the root calls the cluster inactive"
                                           : "the cluster has no worker";
    count_runs(oak, place, node);
}

int oak_nodes(struct fl_orchestrator_driver *self, struct fl_arena *arena,
              struct fl_node_list *ret_nodes, struct fl_error *err)
{
    struct fl_oakestra *oak = oak_of(self);
    struct fl_node_list list = {NULL, 0};
    FL_LOCKED(oak->lock);
    int r = oak_check_reach(oak, err);

    if (r < 0)
        return r;
    list.items = fl_new_array(arena, struct fl_node, oak->place_count);
    for (; list.count < oak->place_count; list.count++)
        show_place(oak, &oak->places[list.count], arena, &list.items[list.count]);
    *ret_nodes = list;
    return 0;
}
