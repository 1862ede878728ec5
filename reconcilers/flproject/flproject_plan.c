/* From tiers and nodes to groups, and from groups to services. What a service's Workload looks like
 * is in flproject_service.c. */
#include "reconcilers/flproject/flproject_internal.h"

#include "lib/str.h"

#include <inttypes.h>

#define TIERS_MAX 8

/* A node that learners may be on. */
struct place {
    const struct fl_flproject_node *node;
    size_t rank; /* within its cluster */
    int64_t learners;
};

struct plan {
    const struct fl_flproject_plan_input *input;
    struct fl_arena *arena;
    struct place *places;
    size_t place_count;
    const struct fl_project_topology_tier_list *tiers;
    struct fl_flproject_service **made; /* in the order they were made: children first */
    size_t *depths;
    size_t made_count, made_room;
    struct fl_flproject_plan *out;
};

/* The nodes below one aggregator, or some that share one key, and how to say so to a placement. */
struct group {
    const char *path; /* "edge/c1"; "" at the root */
    struct place **places;
    size_t count;
    struct fl_workload_placement where;
};

/* Who is to have a parent. */
struct kids {
    struct fl_flproject_service **items;
    size_t count;
};

/* Places. */

static bool has_labels(const struct fl_flproject_node *node, const struct fl_string_map *wanted)
{
    for (size_t i = 0; i < wanted->count; i++)
        if (!fl_streq(fl_string_map_get(&node->labels, wanted->items[i].key),
                      wanted->items[i].value))
            return false;
    return true;
}

static bool has_tag(const struct fl_string_list *tags, const char *tag)
{
    for (size_t i = 0; i < tags->count; i++)
        if (strcmp(tags->items[i], tag) == 0)
            return true;
    return false;
}

static bool has_data(const struct fl_flproject_node *node, const struct fl_string_list *tags)
{
    for (size_t i = 0; i < tags->count; i++)
        if (!has_tag(&node->data_tags, tags->items[i]))
            return false;
    return true;
}

static bool is_up(const struct fl_workload_status_instance *instance)
{
    return instance->state == FL_WORKLOAD_STATUS_INSTANCE_STATE_RUNNING ||
           instance->state == FL_WORKLOAD_STATUS_INSTANCE_STATE_STARTING;
}

/* Where nothing new may be started, what runs stays. */
static bool runs_learners(const struct plan *plan, const struct fl_flproject_node *node)
{
    for (size_t i = 0; i < plan->input->workload_count; i++) {
        const struct fl_workload *workload = plan->input->workloads[i];
        const struct fl_workload_status_instance_list *list = &workload->status.instances;

        for (size_t n = 0; workload->spec.role == FL_WORKLOAD_ROLE_LEARNER && n < list->count; n++)
            if (is_up(&list->items[n]) && fl_streq(list->items[n].node, node->name) &&
                fl_streq(list->items[n].cluster, node->cluster))
                return true;
    }
    return false;
}

static bool is_meant(const struct plan *plan, const struct fl_flproject_node *node)
{
    const struct fl_project_spec *spec = &plan->input->project->spec;

    return has_labels(node, &spec->learners.node_selector) && has_data(node, &spec->data.tags);
}

/* What runs on a node that is gone stays its own: it comes back, or is a dropout of the rounds. */
static bool is_place(const struct plan *plan, const struct fl_flproject_node *node)
{
    return is_meant(plan, node) && ((node->ready && !node->closed) || runs_learners(plan, node));
}

static int by_rank(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    int by_cluster = strcmp(x->node->cluster, y->node->cluster);

    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return by_cluster ? by_cluster : strcmp(x->node->name, y->node->name);
}

static int by_name(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    int by_cluster = strcmp(x->node->cluster, y->node->cluster);

    return by_cluster ? by_cluster : strcmp(x->node->name, y->node->name);
}

/* A learner on each cluster's first node before one on any second: few learners are spread. */
static void order_places(struct plan *plan)
{
    qsort(plan->places, plan->place_count, sizeof(*plan->places), by_name);
    for (size_t i = 0; i < plan->place_count; i++)
        plan->places[i].rank =
            i > 0 && strcmp(plan->places[i - 1].node->cluster, plan->places[i].node->cluster) == 0
                ? plan->places[i - 1].rank + 1
                : 0;
    qsort(plan->places, plan->place_count, sizeof(*plan->places), by_rank);
}

static void find_places(struct plan *plan)
{
    plan->places = fl_new_array(plan->arena, struct place, plan->input->node_count);
    for (size_t i = 0; i < plan->input->node_count; i++)
        if (is_place(plan, &plan->input->nodes[i]))
            plan->places[plan->place_count++].node = &plan->input->nodes[i];
    order_places(plan);
    plan->out->places = plan->place_count;
}

static const char *why_no_place(struct plan *plan)
{
    const struct fl_project_spec *spec = &plan->input->project->spec;

    if (plan->input->node_count == 0)
        return "the orchestrator has no nodes";
    for (size_t i = 0; i < plan->input->node_count; i++)
        if (is_meant(plan, &plan->input->nodes[i]))
            return "none of the nodes that are meant is ready and open for new services";
    return fl_arena_printf(plan->arena,
                           "none of %zu nodes %s: label a node, or push the data to one (`flops "
                           "data push`), or change learners.nodeSelector and data.tags",
                           plan->input->node_count,
                           spec->learners.node_selector.count == 0
                               ? "has the data sets of data.tags"
                           : spec->data.tags.count == 0 ? "has the labels of learners.nodeSelector"
                                                        : "has both the labels of "
                                                          "learners.nodeSelector and the data sets "
                                                          "of data.tags");
}

static void spread_learners(struct plan *plan)
{
    const struct fl_project_learners *wanted = &plan->input->project->spec.learners;
    int64_t places = (int64_t)plan->place_count, all = wanted->has_count ? wanted->count : places;

    if (places == 0) {
        plan->out->lack = why_no_place(plan);
        return;
    }
    if (wanted->has_count && wanted->max_per_node > 0 && all / places >= wanted->max_per_node &&
        all > places * wanted->max_per_node) {
        plan->out->lack =
            fl_arena_printf(plan->arena,
                            "%" PRId64 " nodes hold at most %" PRId64 " of %" PRId64
                            " learners: raise learners.maxPerNode or lower learners.count",
                            places, places * wanted->max_per_node, all);
        all = places * wanted->max_per_node;
    }
    for (int64_t i = 0; i < places; i++)
        plan->places[i].learners = all / places + (i < all % places);
    plan->out->learners = all;
}

/* Groups. */

static bool is_cluster_key(const char *group_by)
{
    return strcmp(group_by, "Cluster") == 0;
}

static bool is_node_key(const char *group_by)
{
    return strcmp(group_by, "Node") == 0;
}

/* NULL: the node has no such label. */
static const char *key_of(struct plan *plan, const char *group_by,
                          const struct fl_flproject_node *node)
{
    if (is_cluster_key(group_by))
        return node->cluster;
    if (is_node_key(group_by)) /* names of nodes are unique within their cluster */
        return fl_arena_printf(plan->arena, "%s.%s", node->cluster, node->name);
    return fl_string_map_get(&node->labels, group_by);
}

static void select_label(struct plan *plan, struct fl_string_map *map, const char *key,
                         const char *value)
{
    struct fl_string_pair *items = fl_new_array(plan->arena, struct fl_string_pair, map->count + 1);

    if (map->count > 0)
        memcpy(items, map->items, map->count * sizeof(*items));
    items[map->count++] = (struct fl_string_pair){key, value};
    map->items = items;
}

static void narrow(struct plan *plan, struct fl_workload_placement *where, const char *group_by,
                   const struct fl_flproject_node *node)
{
    if (is_cluster_key(group_by) || is_node_key(group_by))
        where->cluster = node->cluster;
    if (is_node_key(group_by))
        where->node = node->name;
    if (!is_cluster_key(group_by) && !is_node_key(group_by))
        select_label(plan, &where->node_selector, group_by,
                     fl_string_map_get(&node->labels, group_by));
}

/* The part of `whole` that has the key of its `first` node. */
static struct group subgroup(struct plan *plan, const struct group *whole, const char *const *keys,
                             const struct fl_project_topology_tier *tier, size_t first)
{
    struct group group = {
        .path = fl_arena_printf(plan->arena, "%s%s%s/%s", whole->path, *whole->path ? "/" : "",
                                tier->name, keys[first]),
        .places = fl_new_array(plan->arena, struct place *, whole->count - first),
        .where = whole->where,
    };

    for (size_t i = first; i < whole->count; i++)
        if (fl_streq(keys[i], keys[first]))
            group.places[group.count++] = whole->places[i];
    narrow(plan, &group.where, tier->group_by, whole->places[first]->node);
    return group;
}

static const char *const *keys_of(struct plan *plan, const struct group *whole,
                                  const char *group_by)
{
    const char **keys = fl_new_array(plan->arena, const char *, whole->count);

    for (size_t i = 0; i < whole->count; i++)
        keys[i] = key_of(plan, group_by, whole->places[i]->node);
    return keys;
}

static bool is_first_of_key(const char *const *keys, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (fl_streq(keys[i], keys[at]))
            return false;
    return keys[at] != NULL;
}

static int64_t learners_of(const struct group *group)
{
    int64_t sum = 0;

    for (size_t i = 0; i < group->count; i++)
        sum += group->places[i]->learners;
    return sum;
}

/* Services. */

static struct fl_flproject_service *add_service(struct plan *plan, size_t depth, const char *role)
{
    struct fl_flproject_service *service = fl_new(plan->arena, struct fl_flproject_service);

    if (plan->made_count == plan->made_room) {
        size_t room = plan->made_room * 2 + 16;
        struct fl_flproject_service **made =
            fl_new_array(plan->arena, struct fl_flproject_service *, room);
        size_t *depths = fl_new_array(plan->arena, size_t, room);

        if (plan->made_count > 0) {
            memcpy(made, plan->made, plan->made_count * sizeof(*made));
            memcpy(depths, plan->depths, plan->made_count * sizeof(*depths));
        }
        plan->made = made;
        plan->depths = depths;
        plan->made_room = room;
    }
    service->role = role;
    service->desired = 1;
    plan->made[plan->made_count] = service;
    plan->depths[plan->made_count++] = depth;
    return service;
}

static void place_service(struct plan *plan, struct fl_flproject_service *service,
                          const struct fl_workload_placement *where)
{
    service->workload = fl_flproject_new_workload(plan->input, plan->arena);
    service->workload->spec.has_placement = true;
    service->workload->spec.placement = *where;
}

/* "edge/c1", and "edge/c1/1" for a second one of the group. */
static struct fl_flproject_service *add_aggregator(struct plan *plan, size_t depth,
                                                   const struct group *group, size_t shard)
{
    const char *role =
        shard == 0 ? group->path : fl_arena_printf(plan->arena, "%s/%zu", group->path, shard);
    struct fl_flproject_service *service = add_service(plan, depth, role);

    service->id = role;
    service->tier = plan->tiers->items[depth].name;
    place_service(plan, service, &group->where);
    return service;
}

static struct fl_workload_placement learners_where(struct plan *plan,
                                                   const struct fl_workload_placement *group)
{
    const struct fl_project_spec *spec = &plan->input->project->spec;
    struct fl_workload_placement where = *group;

    for (size_t i = 0; i < spec->learners.node_selector.count; i++)
        if (!fl_string_map_get(&where.node_selector, spec->learners.node_selector.items[i].key))
            select_label(plan, &where.node_selector, spec->learners.node_selector.items[i].key,
                         spec->learners.node_selector.items[i].value);
    where.data_tags = spec->data.tags;
    where.max_per_node = spec->learners.max_per_node;
    return where;
}

static struct fl_flproject_service *add_learners(struct plan *plan, const char *role,
                                                 const struct fl_workload_placement *group,
                                                 int64_t count, struct fl_flproject_service *parent)
{
    struct fl_flproject_service *service = add_service(plan, TIERS_MAX, role);
    struct fl_workload_placement where = learners_where(plan, group);

    place_service(plan, service, &where);
    service->desired = count;
    service->parent = parent;
    return service;
}

static const char *learners_role(struct plan *plan, const char *path)
{
    return fl_arena_printf(plan->arena, "learners%s%s", *path ? "/" : "", path);
}

/* All of a group below one aggregator. */
static void join_whole(struct plan *plan, const struct group *group,
                       struct fl_flproject_service *parent)
{
    const struct fl_project_learners *wanted = &plan->input->project->spec.learners;
    struct fl_flproject_service *service = add_learners(plan, learners_role(plan, group->path),
                                                        &group->where, learners_of(group), parent);

    if (!wanted->has_count) {
        service->workload->spec.placement.one_per_node = true;
        service->workload->spec.placement.max_per_node = 0;
    }
}

/* A group with several aggregators: which learner is whose must be said node by node. */
static void join_by_node(struct plan *plan, const struct group *group, const struct kids *parents)
{
    int64_t all = learners_of(group), before = 0;
    size_t shards = parents->count;

    for (size_t i = 0; i < group->count; i++) {
        const struct place *place = group->places[i];
        struct fl_workload_placement where = group->where;

        where.cluster = place->node->cluster;
        where.node = place->node->name;
        for (size_t shard = 0; shard < shards; shard++) {
            int64_t from = all * (int64_t)shard / (int64_t)shards;
            int64_t to = all * (int64_t)(shard + 1) / (int64_t)shards;
            int64_t low = before > from ? before : from;
            int64_t high = before + place->learners < to ? before + place->learners : to;

            if (low < high)
                (void)add_learners(plan,
                                   fl_arena_printf(plan->arena, "%s/%s.%s",
                                                   learners_role(plan, parents->items[shard]->role),
                                                   place->node->cluster, place->node->name),
                                   &where, high - low, parents->items[shard]);
        }
        before += place->learners;
    }
}

static size_t shards_of(const struct fl_project_topology_tier *tier, int64_t children)
{
    return tier->max_children > 0 && children > tier->max_children
               ? (size_t)((children + tier->max_children - 1) / tier->max_children)
               : 1;
}

static struct kids build(struct plan *plan, size_t depth, const struct group *whole);

/* The aggregators of one group of a tier, and all below them. */
static struct kids build_group(struct plan *plan, size_t depth, const struct group *group)
{
    const struct fl_project_topology_tier *tier = &plan->tiers->items[depth];
    bool is_lowest = depth + 1 == plan->tiers->count;
    struct kids below = {0}, own = {0};
    size_t shards;

    if (!is_lowest)
        below = build(plan, depth + 1, group);
    shards = shards_of(tier, is_lowest ? learners_of(group) : (int64_t)below.count);
    own.items = fl_new_array(plan->arena, struct fl_flproject_service *, shards);
    while (own.count < shards) {
        own.items[own.count] = add_aggregator(plan, depth, group, own.count);
        own.count++;
    }
    for (size_t i = 0; i < below.count; i++)
        below.items[i]->parent = own.items[i * shards / below.count];
    if (is_lowest && shards == 1)
        join_whole(plan, group, own.items[0]);
    else if (is_lowest)
        join_by_node(plan, group, &own);
    return own;
}

static void add_kids(struct plan *plan, struct kids *all, const struct kids *own)
{
    struct fl_flproject_service **items =
        fl_new_array(plan->arena, struct fl_flproject_service *, all->count + own->count);

    if (all->count > 0)
        memcpy(items, all->items, all->count * sizeof(*items));
    if (own->count > 0)
        memcpy(items + all->count, own->items, own->count * sizeof(*items));
    *all = (struct kids){items, all->count + own->count};
}

static struct kids build(struct plan *plan, size_t depth, const struct group *whole)
{
    const struct fl_project_topology_tier *tier = &plan->tiers->items[depth];
    const char *const *keys = keys_of(plan, whole, tier->group_by);
    struct kids all = {0};

    for (size_t i = 0; i < whole->count; i++) {
        struct group group;
        struct kids own;

        if (!is_first_of_key(keys, i))
            continue;
        group = subgroup(plan, whole, keys, tier, i);
        if (learners_of(&group) == 0)
            continue;
        own = build_group(plan, depth, &group);
        add_kids(plan, &all, &own);
    }
    return all;
}

/* Nodes without the label that a tier groups by are in no group. */
static void tell_lost(struct plan *plan)
{
    int64_t placed = 0;

    for (size_t i = 0; i < plan->made_count; i++)
        placed += plan->depths[i] == TIERS_MAX ? plan->made[i]->desired : 0;
    if (placed < plan->out->learners && !plan->out->lack)
        plan->out->lack = fl_arena_printf(
            plan->arena,
            "%" PRId64 " of %" PRId64
            " learners are on nodes without the label that topology.tiers group by: label the "
            "nodes",
            plan->out->learners - placed, plan->out->learners);
    plan->out->learners = placed;
}

static void build_all(struct plan *plan)
{
    struct group whole = {.path = "",
                          .places = fl_new_array(plan->arena, struct place *, plan->place_count)};
    struct fl_flproject_service *root = add_service(plan, 0, FL_FLPROJECT_ROOT);
    struct kids top;

    root->id = root->tier = FL_FLPROJECT_ROOT;
    place_service(plan, root, &(struct fl_workload_placement){0});
    root->workload->spec.has_placement = false;
    for (; whole.count < plan->place_count; whole.count++)
        whole.places[whole.count] = &plan->places[whole.count];
    if (plan->tiers->count == 0) {
        if (learners_of(&whole) > 0)
            join_whole(plan, &whole, root);
        return;
    }
    top = build(plan, 0, &whole);
    for (size_t i = 0; i < top.count; i++)
        top.items[i]->parent = root;
    tell_lost(plan);
}

/* Parents first; each depth in the order it was made. Learners are numbered as they stand. */
static void sort_services(struct plan *plan)
{
    struct fl_flproject_services *out = &plan->out->services;
    int64_t number = 0;

    out->items = fl_new_array(plan->arena, struct fl_flproject_service, plan->made_count);
    for (size_t depth = 0; depth <= TIERS_MAX; depth++)
        for (size_t i = 0; i < plan->made_count; i++) {
            struct fl_flproject_service *to = &out->items[out->count];

            if (plan->depths[i] != depth)
                continue;
            *to = *plan->made[i];
            to->first = number;
            number += depth == TIERS_MAX ? to->desired : 0;
            for (size_t n = 0; n < plan->made_count; n++)
                if (plan->made[n]->parent == plan->made[i])
                    plan->made[n]->parent = to;
            out->count++;
        }
}

void fl_flproject_plan(const struct fl_flproject_plan_input *input, struct fl_arena *arena,
                       struct fl_flproject_plan *ret_plan)
{
    struct plan plan = {.input = input,
                        .arena = arena,
                        .tiers = &input->project->spec.topology.tiers,
                        .out = ret_plan};

    *ret_plan = (struct fl_flproject_plan){0};
    find_places(&plan);
    spread_learners(&plan);
    build_all(&plan);
    sort_services(&plan);
    fl_flproject_dress(input, arena, &ret_plan->services);
}
