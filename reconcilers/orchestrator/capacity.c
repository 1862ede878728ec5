/* Sums over nodes, as statuses show them. */
#include "api/quantity.h"
#include "lib/str.h"
#include "reconcilers/orchestrator/orchestrator_internal.h"

#include <inttypes.h>

static int64_t rest(int64_t capacity, int64_t requested)
{
    return capacity > requested ? capacity - requested : 0;
}

static void add(int64_t *sum, int64_t amount)
{
    if (__builtin_add_overflow(*sum, amount, sum))
        *sum = INT64_MAX;
}

static struct fl_node_capacity of_node(const struct fl_node *node, bool free)
{
    const struct fl_node_capacity *all = &node->capacity, *used = &node->requested;

    if (!free)
        return *all;
    return (struct fl_node_capacity){
        .cpu_milli = rest(all->cpu_milli, used->cpu_milli),
        .memory_bytes = rest(all->memory_bytes, used->memory_bytes),
        .storage_bytes = rest(all->storage_bytes, used->storage_bytes),
        .gpus = rest(all->gpus, used->gpus),
    };
}

struct fl_node_capacity fl_orchestrator_sum(const struct fl_node_list *nodes, const char *cluster,
                                            bool free)
{
    struct fl_node_capacity sum = {0};

    for (size_t i = 0; i < nodes->count; i++) {
        struct fl_node_capacity of = of_node(&nodes->items[i], free);

        if (cluster && !fl_streq(cluster, nodes->items[i].cluster))
            continue;
        add(&sum.cpu_milli, of.cpu_milli);
        add(&sum.memory_bytes, of.memory_bytes);
        add(&sum.storage_bytes, of.storage_bytes);
        add(&sum.gpus, of.gpus);
    }
    return sum;
}

void fl_orchestrator_show_capacity(struct fl_arena *arena, const struct fl_node_capacity *from,
                                   struct fl_capacity *ret_capacity, bool *ret_has)
{
    *ret_capacity = (struct fl_capacity){
        .cpu = from->cpu_milli > 0 ? fl_quantity_of_milli(arena, from->cpu_milli) : NULL,
        .memory = from->memory_bytes > 0 ? fl_quantity_of_bytes(arena, from->memory_bytes) : NULL,
        .storage =
            from->storage_bytes > 0 ? fl_quantity_of_bytes(arena, from->storage_bytes) : NULL,
        .gpus = from->gpus,
        .has_gpus = from->gpus > 0,
    };
    *ret_has = ret_capacity->cpu || ret_capacity->memory || ret_capacity->storage ||
               ret_capacity->has_gpus;
}

struct fl_node_counts fl_orchestrator_count(struct fl_arena *arena,
                                            const struct fl_node_list *nodes, const char *cluster)
{
    struct fl_node_counts counts = {.has_total = true, .has_ready = true};

    for (size_t i = 0; i < nodes->count; i++) {
        if (cluster && !fl_streq(cluster, nodes->items[i].cluster))
            continue;
        counts.total++;
        counts.ready += nodes->items[i].ready;
    }
    counts.summary = fl_arena_printf(arena, "%" PRId64 "/%" PRId64, counts.ready, counts.total);
    return counts;
}
