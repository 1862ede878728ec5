/* What a pass sees of the world. */
#include "controller/runtime/manager.h"
#include "lib/str.h"
#include "reconcilers/flproject/flproject_internal.h"

#include <stdio.h>

static struct fl_cache *cache_of(struct fl_flproject_view *view, const struct fl_kind_type *type)
{
    struct fl_gvr gvr = fl_gvr_of(type);

    return fl_manager_cache(view->controller->manager, &gvr);
}

/* Decodes what is listed; what is not of the project's kind of interest is not parsed at all. */
static int decode(struct fl_flproject_view *view, const struct fl_kind_type *type,
                  const struct fl_object *object, void **ret_object, struct fl_error *err)
{
    struct fl_arena *arena = view->rc->arena;
    int r = fl_object_decode(type, fl_json_in_arena(arena, fl_object_parse(object)), arena,
                             ret_object, err);

    return r < 0 ? fl_error_wrap(err, "%s %s", type->kind, object->name) : 0;
}

bool fl_flproject_is_named(const struct fl_object *object, const char *project)
{
    char mark[300];
    int len = snprintf(mark, sizeof(mark), "\"project\":{\"name\":\"%s\"}", project);

    return len > 0 && (size_t)len < sizeof(mark) &&
           memmem(object->json->data, object->json->len, mark, (size_t)len) != NULL;
}

static int list_named(struct fl_flproject_view *view, const struct fl_kind_type *type,
                      void ***ret_items, size_t *ret_count, struct fl_error *err)
{
    FL_CLEANUP(fl_list_finish) struct fl_list list = {0};
    void **items;
    size_t count = 0;
    int r = 0;

    fl_cache_list(cache_of(view, type), view->project->meta.namespace, &list);
    items = fl_new_array(view->rc->arena, void *, list.count + 1);
    for (size_t i = 0; i < list.count && r == 0; i++)
        if (fl_flproject_is_named(list.objects[i], view->project->meta.name)) {
            r = decode(view, type, list.objects[i], &items[count], err);
            count += r == 0;
        }
    *ret_items = items;
    *ret_count = count;
    return r;
}

static int look_at_orchestrator(struct fl_flproject_view *view, struct fl_error *err)
{
    const char *name = fl_str_or(view->project->spec.orchestrator, "local");
    const struct fl_condition *ready;
    struct fl_orchestrator *orchestrator;
    void *object = NULL;
    int r = fl_read_cached(view->rc, &fl_orchestrator_type, NULL, name, &object, err);

    if (r == FL_E_NOT_FOUND)
        return 0;
    if (r < 0)
        return r;
    orchestrator = object;
    ready = fl_condition_find(&orchestrator->status.conditions, "Ready");
    view->input.has_orchestrator = true;
    /* One that takes nothing new may still run what it has. */
    view->input.orchestrator_ready =
        orchestrator->spec.suspend || (ready && ready->status == FL_CONDITION_STATUS_TRUE);
    view->input.orchestrator_message = ready ? ready->message : NULL;
    return 0;
}

static bool is_closed(struct fl_cache *cache, const char *name)
{
    FL_CLEANUP(fl_object_unrefp) struct fl_object *object = fl_cache_get(cache, NULL, name);
    static const char mark[] = "\"unschedulable\":true";

    return object && memmem(object->json->data, object->json->len, mark, sizeof(mark) - 1);
}

/* The object of a node whose name is not unique is called CLUSTER.NAME. */
static const char *node_name(const struct fl_edgenode *node)
{
    size_t len = strlen(node->spec.cluster);

    return strncmp(node->meta.name, node->spec.cluster, len) == 0 && node->meta.name[len] == '.'
               ? node->meta.name + len + 1
               : node->meta.name;
}

static void add_node(struct fl_flproject_view *view, const struct fl_edgenode *node,
                     struct fl_flproject_node *nodes)
{
    const struct fl_condition *ready = fl_condition_find(&node->status.conditions, "Ready");

    nodes[view->input.node_count++] = (struct fl_flproject_node){
        .cluster = node->spec.cluster,
        .name = node_name(node),
        .labels = node->status.labels,
        .data_tags = node->status.data_tags,
        .ready = ready && ready->status == FL_CONDITION_STATUS_TRUE,
        .closed = node->spec.unschedulable ||
                  is_closed(cache_of(view, &fl_edgecluster_type), node->spec.cluster),
    };
}

static int look_at_nodes(struct fl_flproject_view *view, struct fl_error *err)
{
    FL_CLEANUP(fl_list_finish) struct fl_list list = {0};
    const char *name = fl_str_or(view->project->spec.orchestrator, "local");
    struct fl_flproject_node *nodes;
    int r = 0;

    fl_cache_list(cache_of(view, &fl_edgenode_type), NULL, &list);
    nodes = fl_new_array(view->rc->arena, struct fl_flproject_node, list.count + 1);
    view->input.nodes = nodes;
    for (size_t i = 0; i < list.count && r == 0; i++) {
        void *object = NULL;

        r = decode(view, &fl_edgenode_type, list.objects[i], &object, err);
        if (r == 0 && fl_streq(((struct fl_edgenode *)object)->spec.orchestrator, name))
            add_node(view, object, nodes);
    }
    return r;
}

/* Without a source none are made. */
static int look_at_builds(struct fl_flproject_view *view, struct fl_error *err)
{
    struct fl_child_list list = {0};
    int r;

    if (!view->controller->source)
        return 0;
    r = fl_list_children(view->rc, &fl_imagebuild_type, &list, err);
    view->input.builds = (struct fl_imagebuild *const *)list.items;
    view->input.build_count = list.count;
    return r;
}

static int look_at_children(struct fl_flproject_view *view, struct fl_error *err)
{
    struct fl_flproject_input *input = &view->input;
    struct fl_child_list list = {0};
    void **rounds = NULL, **models = NULL;
    int r;

    r = fl_list_children(view->rc, &fl_workload_type, &list, err);
    input->workloads = (struct fl_workload *const *)list.items;
    input->workload_count = list.count;
    if (r == 0)
        r = list_named(view, &fl_round_type, &rounds, &input->round_count, err);
    if (r == 0)
        r = list_named(view, &fl_modelversion_type, &models, &input->model_count, err);
    input->rounds = (struct fl_round *const *)rounds;
    input->models = (struct fl_modelversion *const *)models;
    if (r == 0)
        r = fl_list_children(view->rc, &fl_inferenceserver_type, &list, err);
    input->server = r == 0 && list.count > 0 ? list.items[0] : NULL;
    return r == 0 ? look_at_builds(view, err) : r;
}

/* The token is made once, and never shown. */
static int look_at_secret(struct fl_flproject_view *view, struct fl_error *err)
{
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *object =
        fl_cache_get(fl_manager_cache(view->controller->manager, &fl_gvr_secrets),
                     view->project->meta.namespace, view->secret);
    FL_JSON json = object ? fl_object_parse(object) : NULL;
    const char *text =
        json_string_value(json_object_get(json_object_get(json, "data"), FL_FLPROJECT_TOKEN));
    char *token = NULL;
    size_t len;

    if (!object)
        return 0;
    if (!text || !fl_base64_decode(view->rc->arena, text, strlen(text), &token, &len) || len == 0) {
        (void)fl_error_set(err, FL_E_INVALID,
                           "Secret %s has no token: delete it to have it made "
                           "anew",
                           view->secret);
        return fl_failed(view->rc, "TiersReady", "StartingAggregators", err);
    }
    view->token = token;
    return 0;
}

static bool is_up(const struct fl_workload *workload)
{
    return workload->status.instances.count > 0 && workload->status.instances.items[0].ready;
}

/* One that only starts is not asked: it would be taken for one that cannot be reached. */
static void look_at_root(struct fl_flproject_view *view)
{
    const char *name = fl_child_name(view->rc->arena, view->project->meta.name,
                                     view->project->meta.uid, FL_FLPROJECT_ROOT);

    for (size_t i = 0; i < view->input.workload_count; i++)
        if (fl_streq(view->input.workloads[i]->meta.name, name) && is_up(view->input.workloads[i]))
            view->root = fl_flproject_address(view->input.workloads[i], view->rc->arena);
}

/* What another project has to begin with. */

static bool goes_by(const struct fl_modelversion *model, const char *alias)
{
    for (size_t i = 0; i < model->spec.aliases.count; i++)
        if (strcmp(model->spec.aliases.items[i], alias) == 0)
            return true;
    return false;
}

static int look_at_initial_model(struct fl_flproject_view *view, struct fl_error *err)
{
    const struct fl_project_training *training = &view->project->spec.training;
    const struct fl_project_training_initial_model_project *from = &training->initial_model.project;
    bool latest = from->select == FL_PROJECT_TRAINING_INITIAL_MODEL_PROJECT_SELECT_LATEST;
    const char *alias = latest ? "latest" : "best";
    FL_CLEANUP(fl_list_finish) struct fl_list list = {0};
    int r = 0;

    if (training->has_initial_model && training->initial_model.uri && view->input.round_count == 0)
        return fl_flproject_import(view, err);
    if (!training->has_initial_model || !training->initial_model.has_project)
        return 0;
    fl_cache_list(cache_of(view, &fl_modelversion_type), view->project->meta.namespace, &list);
    for (size_t i = 0; i < list.count && r == 0; i++) {
        void *object = NULL;

        if (!fl_flproject_is_named(list.objects[i], from->name))
            continue;
        r = decode(view, &fl_modelversion_type, list.objects[i], &object, err);
        if (r == 0 && goes_by(object, alias))
            view->input.initial_model = ((struct fl_modelversion *)object)->spec.digest;
    }
    if (!view->input.initial_model)
        view->input.initial_problem = fl_arena_printf(
            view->rc->arena,
            "training.initialModel: project %s has no %s model yet; training begins when it has",
            from->name, alias);
    return r;
}

int fl_flproject_look(struct fl_flproject_view *view, struct fl_error *err)
{
    int r;

    view->secret = fl_child_name(view->rc->arena, view->project->meta.name, view->project->meta.uid,
                                 FL_FLPROJECT_SECRET);
    view->input.project = view->project;
    view->input.json = view->rc->json;
    view->input.suspend = view->project->spec.suspend;
    view->input.now_us = fl_realtime_us(view->rc->env);
    r = look_at_orchestrator(view, err);
    if (r == 0)
        r = look_at_nodes(view, err);
    if (r == 0)
        r = look_at_children(view, err);
    if (r == 0)
        r = look_at_secret(view, err);
    if (r == 0)
        r = look_at_initial_model(view, err);
    if (r == 0)
        r = fl_flproject_look_at_fetch(view, err);
    if (r < 0)
        return r;
    look_at_root(view);
    fl_flproject_look_at_tracking(view);
    r = fl_flproject_ask_root(view, err);
    if (r == 0)
        fl_flproject_decide(&view->input, view->rc->arena, &view->decision);
    return r;
}
