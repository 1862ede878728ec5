/* EdgeClusters and EdgeNodes. What they are is applied, so that a user's unschedulable stays; how
 * they are goes into their status. Nothing is written that is there already. */
#include "lib/map.h"
#include "lib/str.h"
#include "reconcilers/orchestrator/orchestrator_internal.h"

#define COUNTS_EACH_US  ((int64_t)5 * 1000000) /* what only counts is written no oftener */
#define COUNTS_AGAIN_MS 5000

static char present[] = ""; /* of sets */

/* One of them, as it should be. Texts are lent, the values are the caller's. */
struct edge {
    struct fl_gvr gvr;
    struct fl_cache *cache;
    const char *kind, *name;
    json_t *spec, *labels, *status;
    bool is_ready;
    const char *message; /* why not */
};

static void release(struct edge *edge)
{
    json_decref(edge->spec);
    json_decref(edge->labels);
    json_decref(edge->status);
}

static json_t *from_map(const struct fl_string_map *map)
{
    json_t *object = json_object();

    for (size_t i = 0; i < map->count; i++)
        fl_json_set_str(object, map->items[i].key, map->items[i].value);
    return object;
}

/* What it is. */

static bool has_all(const json_t *object, const json_t *wanted)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)wanted, key, value) {
        if (!json_equal(json_object_get(object, key), value))
            return false;
    }
    return true;
}

/* Labels that were reported and are not any more are told by the last status. */
static bool is_applied(const struct edge *edge, const json_t *live, const char *owner_uid)
{
    const json_t *owner = json_array_get(fl_json_path(live, "metadata.ownerReferences"), 0);
    const json_t *reported = fl_json_path(live, "status.labels");

    return live && fl_streq(fl_json_str(owner, "uid"), owner_uid) &&
           has_all(json_object_get(live, "spec"), edge->spec) &&
           has_all(fl_json_path(live, "metadata.labels"), edge->labels) &&
           (!reported || has_all(edge->labels, reported));
}

static json_t *owner_of(const struct fl_orchestrator_view *view)
{
    const struct fl_object_meta *meta = &view->orchestrator->meta;

    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:b}", "apiVersion", "flops.dev/v1alpha1", "kind",
                     "Orchestrator", "name", meta->name, "uid", meta->uid, "controller", 1,
                     "blockOwnerDeletion", 1);
}

static int apply(const struct fl_orchestrator_view *view, const struct edge *edge, json_t **live,
                 struct fl_error *err)
{
    struct fl_apply_options options = {.manager = view->rc->manager_name, .force = true};
    FL_JSON object =
        json_pack("{s:s, s:s, s:{s:s, s:O, s:[o]}, s:O}", "apiVersion", "flops.dev/v1alpha1",
                  "kind", edge->kind, "metadata", "name", edge->name, "labels", edge->labels,
                  "ownerReferences", owner_of(view), "spec", edge->spec);
    int r;

    json_decref(*live);
    *live = NULL;
    r = fl_apiclient_apply(view->rc->client, &edge->gvr, object, &options, live, err);
    return r < 0 ? fl_error_wrap(err, "%s %s", edge->kind, edge->name) : 0;
}

/* How it is. */

static const json_t *find_condition(const json_t *live, const char *type)
{
    json_t *condition;
    size_t i;

    json_array_foreach(fl_json_path(live, "status.conditions"), i, condition) {
        if (fl_streq(fl_json_str(condition, "type"), type))
            return condition;
    }
    return NULL;
}

static void add_condition(const struct fl_orchestrator_view *view, json_t *status,
                          const json_t *live, const char *type, bool holds, const char *reason,
                          const char *message)
{
    const json_t *old = find_condition(live, type);
    const char *word = holds ? "True" : "False", *since = NULL;
    char now[FL_TIME_SIZE];

    fl_time_format(fl_realtime_us(view->rc->env), now);
    if (fl_streq(fl_json_str(old, "status"), word))
        since = fl_json_str(old, "lastTransitionTime");
    (void)json_array_append_new(
        json_object_get(status, "conditions"),
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:I}", "type", type, "status", word, "reason", reason,
                  "message", message, "lastTransitionTime", fl_str_or(since, now),
                  "observedGeneration", (json_int_t)fl_json_int(live, "metadata.generation", 0)));
}

static void add_conditions(const struct fl_orchestrator_view *view, const struct edge *edge,
                           const json_t *live)
{
    bool closed = fl_json_bool(live, "spec.unschedulable", false);
    const char *reason = !edge->is_ready ? "NotReady" : closed ? "Unschedulable" : "Ready";
    const char *message = !edge->is_ready ? fl_str_or(edge->message, "it is not ready")
                          : closed        ? "spec.unschedulable is set"
                                          : "services can be started";

    (void)json_object_set_new(edge->status, "conditions", json_array());
    (void)json_object_set_new(edge->status, "observedGeneration",
                              json_integer(fl_json_int(live, "metadata.generation", 0)));
    add_condition(view, edge->status, live, "Reachable", edge->is_ready,
                  edge->is_ready ? "Reported" : "NotReady",
                  edge->is_ready ? "the orchestrator reports it" : message);
    add_condition(view, edge->status, live, "Ready", edge->is_ready && !closed, reason, message);
}

static bool is_count(const char *key)
{
    return fl_streq(key, "available") || fl_streq(key, "workloads");
}

/* A merge patch from what is shown to what should be, member by member; `*ret_serious`: more than
 * counts changed. NULL: nothing did. */
static json_t *difference(const json_t *shown, const json_t *wanted, bool *ret_serious)
{
    json_t *patch = json_object(), *value;
    const char *key;

    *ret_serious = false;
    json_object_foreach((json_t *)wanted, key, value) {
        if (json_equal(json_object_get(shown, key), value))
            continue;
        (void)json_object_set(patch, key, value);
        *ret_serious = *ret_serious || !is_count(key);
    }
    json_object_foreach((json_t *)shown, key, value) {
        if (json_object_get(wanted, key) || fl_streq(key, "lastSeenTime"))
            continue;
        (void)json_object_set_new(patch, key, json_null());
        *ret_serious = true;
    }
    if (json_object_size(patch) == 0) {
        json_decref(patch);
        return NULL;
    }
    return patch;
}

static bool was_written_lately(const struct fl_orchestrator_view *view, const json_t *shown)
{
    int64_t now_us = fl_realtime_us(view->rc->env), last_us = 0;
    const char *text = fl_json_str(shown, "lastSeenTime");

    return text && fl_time_parse(text, &last_us) && now_us >= last_us &&
           now_us - last_us < COUNTS_EACH_US;
}

/* Members whose parts went have to be emptied first: a merge patch only adds to an object. */
static void empty_objects(const json_t *shown, json_t *patch)
{
    json_t *value, *part;
    const char *key, *name;

    json_object_foreach(patch, key, value) {
        if (!json_is_object(value))
            continue;
        json_object_foreach(json_object_get(shown, key), name, part) {
            if (!json_object_get(value, name))
                (void)json_object_set_new(value, name, json_null());
        }
    }
}

/* What was read is the precondition: from an old state of it, times of transition would be wrong.
 */
static int write_status(const struct fl_orchestrator_view *view, const struct edge *edge,
                        const json_t *live, json_t *difference_, struct fl_error *err)
{
    FL_JSON status = json_deep_copy(difference_);
    FL_JSON patch = NULL;
    char now[FL_TIME_SIZE];
    int r;

    fl_time_format(fl_realtime_us(view->rc->env), now);
    empty_objects(json_object_get(live, "status"), status);
    fl_json_set_str(status, "lastSeenTime", now);
    patch = json_pack("{s:{s:s*, s:s*}, s:O}", "metadata", "uid", fl_json_str(live, "metadata.uid"),
                      "resourceVersion", fl_json_str(live, "metadata.resourceVersion"), "status",
                      status);
    r = fl_apiclient_patch(view->rc->client, &edge->gvr, NULL, edge->name, "status", patch, NULL,
                           err);
    return r < 0 ? fl_error_wrap(err, "status of %s %s", edge->kind, edge->name) : 0;
}

static int show_status(const struct fl_orchestrator_view *view, const struct edge *edge,
                       const json_t *live, struct fl_error *err)
{
    const json_t *shown = json_object_get(live, "status");
    bool serious = false;
    FL_JSON changes = NULL;

    add_conditions(view, edge, live);
    changes = difference(shown, edge->status, &serious);
    if (!changes)
        return 0;
    if (!serious && was_written_lately(view, shown)) {
        fl_requeue_after(view->rc, COUNTS_AGAIN_MS);
        return 0;
    }
    return write_status(view, edge, live, changes, err);
}

static bool is_ours(const struct fl_orchestrator_view *view, const json_t *live)
{
    return !live || fl_streq(fl_json_str(live, "spec.orchestrator"), view->orchestrator->meta.name);
}

static int show_edge(const struct fl_orchestrator_view *view, const struct edge *edge,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *object = fl_cache_get(edge->cache, NULL, edge->name);
    FL_JSON live = object ? fl_object_parse(object) : NULL;
    int r = 0;

    if (!is_ours(view, live)) {
        fl_event_note(view->rc, FL_WARNING, "NameTaken", "%s %s belongs to Orchestrator %s",
                      edge->kind, edge->name, fl_json_str(live, "spec.orchestrator"));
        return 0;
    }
    if (!is_applied(edge, live, view->orchestrator->meta.uid))
        r = apply(view, edge, &live, err);
    return r < 0 ? r : show_status(view, edge, live, err);
}

/* Nodes. */

static struct fl_string_list virtualization(struct fl_arena *arena, bool images, bool processes)
{
    struct fl_string_list list = {fl_new_array(arena, const char *, 2), 0};

    if (images)
        list.items[list.count++] = "container";
    if (processes)
        list.items[list.count++] = "process";
    return list;
}

static json_t *node_status(const struct fl_orchestrator_view *view, const struct fl_node *node)
{
    struct fl_arena *arena = view->rc->arena;
    struct fl_node_list alone = {(struct fl_node *)node, 1};
    struct fl_node_capacity all = fl_orchestrator_sum(&alone, NULL, false);
    struct fl_node_capacity left = fl_orchestrator_sum(&alone, NULL, true);
    struct fl_edgenode shown = {.meta = {.name = node->name}};
    FL_JSON object = NULL;

    fl_orchestrator_show_capacity(arena, &all, &shown.status.capacity, &shown.status.has_capacity);
    fl_orchestrator_show_capacity(arena, &left, &shown.status.available,
                                  &shown.status.has_available);
    shown.status.workloads = node->runs;
    shown.status.has_workloads = true;
    shown.status.runtime = node->runs_images ? view->runtime : NULL;
    shown.status.platforms = node->platforms;
    shown.status.virtualization = virtualization(arena, node->runs_images, node->runs_processes);
    shown.status.addons = node->addons;
    shown.status.data_tags = node->data_tags;
    shown.status.labels = node->labels;
    object = fl_edgenode_encode(&shown);
    return json_incref(json_object_get(object, "status"));
}

static int show_node(const struct fl_orchestrator_view *view, size_t i, struct fl_map *kept,
                     struct fl_error *err)
{
    const struct fl_node *node = &view->nodes.items[i];
    struct edge edge = {
        .gvr = fl_gvr_of(&fl_edgenode_type),
        .cache = view->controller->nodes,
        .kind = "EdgeNode",
        .name = fl_edgenode_name(view->rc->arena, &view->nodes, i),
        .spec = json_pack("{s:s, s:s}", "orchestrator", view->orchestrator->meta.name, "cluster",
                          node->cluster),
        .labels = from_map(&node->labels),
        .status = node_status(view, node),
        .is_ready = node->ready,
        .message = node->message,
    };
    int r;

    fl_map_put(kept, edge.name, present);
    r = show_edge(view, &edge, err);
    release(&edge);
    return r;
}

/* Clusters. */

static const struct fl_orchestrator_local_cluster *declared(const struct fl_orchestrator_view *view,
                                                            const char *name)
{
    const struct fl_orchestrator_local_cluster_list *list =
        &view->orchestrator->spec.local.clusters;

    for (size_t i = 0; view->orchestrator->spec.has_local && i < list->count; i++)
        if (fl_streq(list->items[i].name, name))
            return &list->items[i];
    return NULL;
}

static void join(struct fl_arena *arena, struct fl_string_list *all,
                 const struct fl_string_list *more)
{
    const char **items = fl_new_array(arena, const char *, all->count + more->count);
    size_t count = 0;

    for (; count < all->count; count++)
        items[count] = all->items[count];
    for (size_t i = 0; i < more->count; i++) {
        bool seen = false;

        for (size_t at = 0; at < count && !seen; at++)
            seen = fl_streq(items[at], more->items[i]);
        if (!seen)
            items[count++] = more->items[i];
    }
    *all = (struct fl_string_list){items, count};
}

static void join_nodes(const struct fl_orchestrator_view *view, const char *cluster,
                       struct fl_edgecluster_status *status)
{
    struct fl_arena *arena = view->rc->arena;
    bool images = false, processes = false;

    for (size_t i = 0; i < view->nodes.count; i++) {
        const struct fl_node *node = &view->nodes.items[i];

        if (!fl_streq(node->cluster, cluster))
            continue;
        join(arena, &status->platforms, &node->platforms);
        join(arena, &status->addons, &node->addons);
        join(arena, &status->data_tags, &node->data_tags);
        images = images || node->runs_images;
        processes = processes || node->runs_processes;
    }
    status->virtualization = virtualization(arena, images, processes);
}

static json_t *cluster_status(const struct fl_orchestrator_view *view, const char *name,
                              const struct fl_string_map *labels)
{
    struct fl_arena *arena = view->rc->arena;
    struct fl_node_capacity all = fl_orchestrator_sum(&view->nodes, name, false);
    struct fl_node_capacity left = fl_orchestrator_sum(&view->nodes, name, true);
    struct fl_edgecluster shown = {.meta = {.name = name}};
    FL_JSON object = NULL;

    fl_orchestrator_show_capacity(arena, &all, &shown.status.capacity, &shown.status.has_capacity);
    fl_orchestrator_show_capacity(arena, &left, &shown.status.available,
                                  &shown.status.has_available);
    shown.status.nodes = fl_orchestrator_count(arena, &view->nodes, name);
    shown.status.has_nodes = true;
    join_nodes(view, name, &shown.status);
    if (labels)
        shown.status.labels = *labels;
    object = fl_edgecluster_encode(&shown);
    return json_incref(json_object_get(object, "status"));
}

static int show_cluster(const struct fl_orchestrator_view *view, const char *name,
                        struct fl_error *err)
{
    static const struct fl_string_map none = {NULL, 0};
    const struct fl_orchestrator_local_cluster *local = declared(view, name);
    const struct fl_string_map *labels = local ? &local->labels : &none;
    struct edge edge = {
        .gvr = fl_gvr_of(&fl_edgecluster_type),
        .cache = view->controller->clusters,
        .kind = "EdgeCluster",
        .name = name,
        .spec = json_pack("{s:s}", "orchestrator", view->orchestrator->meta.name),
        .labels = from_map(labels),
        .status = cluster_status(view, name, labels),
        .is_ready = fl_orchestrator_count(view->rc->arena, &view->nodes, name).ready > 0,
        .message = "none of its nodes is ready",
    };
    int r;

    if (local && local->location)
        fl_json_set_str(edge.spec, "location", local->location);
    r = show_edge(view, &edge, err);
    release(&edge);
    return r;
}

/* Those that are reported no more. */

static int prune(const struct fl_orchestrator_view *view, struct fl_cache *cache,
                 const struct fl_kind_type *type, const struct fl_map *kept, struct fl_error *err)
{
    struct fl_gvr gvr = fl_gvr_of(type);
    struct fl_list list;
    int r = 0;

    fl_cache_list_by(cache, FL_INDEX_OWNER, view->orchestrator->meta.uid, &list);
    for (size_t i = 0; r == 0 && i < list.count; i++) {
        const struct fl_object *object = list.objects[i];

        if (!fl_map_get(kept, object->name))
            r = fl_apiclient_delete(view->rc->client, &gvr, NULL, object->name, object->uid, err);
    }
    fl_list_finish(&list);
    return r < 0 ? fl_error_wrap(err, "prune %s", type->plural) : 0;
}

static int show_nodes(const struct fl_orchestrator_view *view, struct fl_error *err)
{
    FL_CLEANUP(fl_map_destroyp) struct fl_map *kept = fl_map_create(NULL);
    int r = 0;

    for (size_t i = 0; r == 0 && i < view->nodes.count; i++)
        r = show_node(view, i, kept, err);
    return r < 0 ? r : prune(view, view->controller->nodes, &fl_edgenode_type, kept, err);
}

static int show_clusters(const struct fl_orchestrator_view *view, struct fl_error *err)
{
    FL_CLEANUP(fl_map_destroyp) struct fl_map *kept = fl_map_create(NULL);
    int r = 0;

    for (size_t i = 0; r == 0 && i < view->nodes.count; i++) {
        const char *name = view->nodes.items[i].cluster;

        if (fl_map_get(kept, name))
            continue;
        fl_map_put(kept, name, present);
        r = show_cluster(view, name, err);
    }
    return r < 0 ? r : prune(view, view->controller->clusters, &fl_edgecluster_type, kept, err);
}

int fl_orchestrator_show_edges(const struct fl_orchestrator_view *view, struct fl_error *err)
{
    int r = show_clusters(view, err);

    return r < 0 ? r : show_nodes(view, err);
}
