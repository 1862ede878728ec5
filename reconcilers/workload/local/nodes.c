/* Places: the machine as one node, or divided as the settings say. */
#include "api/quantity.h"
#include "lib/machine.h"
#include "reconcilers/workload/local/internal.h"

#include <string.h>

#define DATA_SETS_MAX  1000
#define FOREIGN_MAX    8
#define OWN_LABELS     5
#define LOCAL_CLUSTER  "local"
#define CLUSTER_LABEL  "flops.dev/cluster"
#define HOSTNAME_LABEL "kubernetes.io/hostname"
#define OS_LABEL       "kubernetes.io/os"
#define ARCH_LABEL     "kubernetes.io/arch"

struct places {
    struct fl_local *local;
    struct fl_arena *arena;
    struct fl_machine machine;
    struct fl_string_list data_sets;
    struct fl_node_list list;
};

/* Data sets are folders in the machine's data store. */
static void list_data_sets(struct places *places)
{
    const char *path = fl_arena_printf(places->arena, "%s/data", places->local->data_dir);
    struct fl_folder_list list = {0};

    if (fl_folder_list(places->arena, path, true, DATA_SETS_MAX, &list, NULL) == 0)
        places->data_sets = (struct fl_string_list){list.names, list.count};
}

static struct fl_string_list copy_list(struct fl_arena *arena, const struct fl_string_list *from)
{
    struct fl_string_list list = {.items = fl_new_array(arena, const char *, from->count + 1)};

    for (; list.count < from->count; list.count++)
        list.items[list.count] = fl_arena_strdup(arena, from->items[list.count]);
    return list;
}

static void set_label(struct fl_arena *arena, struct fl_string_map *labels, const char *key,
                      const char *value)
{
    size_t i = 0;

    while (i < labels->count && strcmp(labels->items[i].key, key) != 0)
        i++;
    labels->items[i] =
        (struct fl_string_pair){fl_arena_strdup(arena, key), fl_arena_strdup(arena, value)};
    labels->count += i == labels->count;
}

static void set_labels(struct fl_arena *arena, struct fl_string_map *labels,
                       const struct fl_string_map *from)
{
    for (size_t i = 0; from && i < from->count; i++)
        set_label(arena, labels, from->items[i].key, from->items[i].value);
}

/* What was declared counts before what the machine says, a node's before its cluster's. */
static struct fl_string_map labels_of(struct places *places, const struct fl_node *node,
                                      const struct fl_string_map *of_cluster,
                                      const struct fl_string_map *of_node)
{
    size_t most =
        OWN_LABELS + (of_cluster ? of_cluster->count : 0) + (of_node ? of_node->count : 0);
    struct fl_string_map labels = {.items =
                                       fl_new_array(places->arena, struct fl_string_pair, most)};

    set_label(places->arena, &labels, HOSTNAME_LABEL, node->name);
    set_label(places->arena, &labels, OS_LABEL, "linux");
    set_label(places->arena, &labels, ARCH_LABEL, strchr(places->machine.platform, '/') + 1);
    set_labels(places->arena, &labels, of_cluster);
    set_labels(places->arena, &labels, of_node);
    set_label(places->arena, &labels, CLUSTER_LABEL, node->cluster);
    return labels;
}

/* Programs of other platforms run in containers only: images bring what they need. */
static void add_platforms(struct places *places, struct fl_node *node)
{
    const char *foreign[FOREIGN_MAX];
    size_t count = node->runs_images ? fl_machine_foreign(NULL, foreign, FOREIGN_MAX) : 0;

    node->platforms.items = fl_new_array(places->arena, const char *, count + 1);
    node->platforms.items[node->platforms.count++] =
        fl_arena_strdup(places->arena, places->machine.platform);
    for (size_t i = 0; i < count; i++)
        node->platforms.items[node->platforms.count++] = foreign[i];
}

static struct fl_node *add(struct places *places, const char *cluster, const char *name)
{
    struct fl_node *node = &places->list.items[places->list.count++];

    *node = (struct fl_node){
        .cluster = fl_arena_strdup(places->arena, cluster),
        .name = fl_arena_strdup(places->arena, name),
        .ready = true,
        .runs_processes = true,
        .runs_images = places->local->images && places->local->runtime.path,
        .data_tags = places->data_sets,
        .capacity = {.cpu_milli = places->machine.cpus * 1000,
                     .memory_bytes = places->machine.memory_bytes,
                     .storage_bytes = places->machine.storage_bytes},
    };
    add_platforms(places, node);
    return node;
}

static void add_declared(struct places *places, const struct fl_orchestrator_local_cluster *cluster,
                         const struct fl_orchestrator_local_cluster_node *from)
{
    struct fl_node *node = add(places, cluster->name, from->name);
    int64_t amount;

    node->labels = labels_of(places, node, &cluster->labels, &from->labels);
    if (from->cpu && fl_quantity_parse(from->cpu, 1000, &amount))
        node->capacity.cpu_milli = amount;
    if (from->memory && fl_quantity_parse(from->memory, 1, &amount))
        node->capacity.memory_bytes = amount;
    node->addons = copy_list(places->arena, &from->addons);
    if (from->data_tags.count > 0)
        node->data_tags = copy_list(places->arena, &from->data_tags);
}

static void add_all(struct places *places)
{
    const struct fl_orchestrator_local_cluster_list *clusters = &places->local->settings.clusters;
    size_t count = 1;

    for (size_t i = 0; i < clusters->count; i++)
        count += clusters->items[i].nodes.count;
    places->list.items = fl_new_array(places->arena, struct fl_node, count);
    for (size_t i = 0; i < clusters->count; i++)
        for (size_t n = 0; n < clusters->items[i].nodes.count; n++)
            add_declared(places, &clusters->items[i], &clusters->items[i].nodes.items[n]);
    if (places->list.count == 0) {
        struct fl_node *node = add(places, LOCAL_CLUSTER, places->machine.name);

        node->labels = labels_of(places, node, NULL, NULL);
    }
}

static void count_run(struct places *places, const struct instance *instance)
{
    const struct record *record = &instance->record;

    for (size_t i = 0; i < places->list.count; i++) {
        struct fl_node *node = &places->list.items[i];

        if (!fl_streq(node->name, record->node) || !fl_streq(node->cluster, record->cluster))
            continue;
        node->requested.cpu_milli += record->requested.cpu_milli;
        node->requested.memory_bytes += record->requested.memory_bytes;
        node->requested.storage_bytes += record->requested.storage_bytes;
        node->requested.gpus += record->requested.gpus;
        node->runs++;
        return;
    }
}

int local_nodes(struct fl_orchestrator_driver *self, struct fl_arena *arena,
                struct fl_node_list *ret_nodes, struct fl_error *err)
{
    struct fl_local *local = local_of(self);
    struct places places = {
        .local = local, .arena = arena, .machine = fl_machine_get(local->data_dir)};
    void *cursor = NULL, *item;

    (void)err;
    list_data_sets(&places);
    {
        FL_LOCKED(local->lock);
        add_all(&places);
        while (fl_map_next(local->workloads, &cursor, NULL, &item)) {
            const struct workload *workload = item;

            for (size_t i = 0; i < workload->count; i++)
                if (workload->instances[i]->alive)
                    count_run(&places, workload->instances[i]);
        }
    }
    *ret_nodes = places.list;
    return 0;
}
