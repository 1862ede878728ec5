/* Which model is wanted. */
#include "lib/str.h"
#include "reconcilers/inferenceserver/inferenceserver_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static bool has_alias(const struct fl_modelversion *version, const char *alias)
{
    for (size_t i = 0; i < version->spec.aliases.count; i++)
        if (fl_streq(version->spec.aliases.items[i], alias))
            return true;
    return false;
}

static bool is_wanted(const struct fl_inferenceserver_model_project *project,
                      const struct fl_modelversion *version)
{
    switch (project->select) {
    case FL_INFERENCESERVER_MODEL_PROJECT_SELECT_LATEST:
        return has_alias(version, "latest");
    case FL_INFERENCESERVER_MODEL_PROJECT_SELECT_ROUND:
        return version->spec.round == project->round;
    default:
        return has_alias(version, "best");
    }
}

/* While an alias moves two may have it: the later one is meant. */
static int pick_version(struct fl_serving_view *view, struct fl_modelversion **ret_version,
                        struct fl_error *err)
{
    const struct fl_inferenceserver_model_project *project = &view->server->spec.model.project;
    FL_CLEANUP(fl_list_finish) struct fl_list list = {0};
    struct fl_modelversion *picked = NULL;
    int r = 0;

    fl_cache_list_by(
        view->controller->versions, "project",
        fl_arena_printf(view->rc->arena, "%s/%s", view->server->meta.namespace, project->name),
        &list);
    for (size_t i = 0; i < list.count && r == 0; i++) {
        struct fl_modelversion *version = NULL;

        r = fl_read_cached(view->rc, &fl_modelversion_type, list.objects[i]->ns,
                           list.objects[i]->name, (void **)&version, err);
        if (r == FL_E_NOT_FOUND) {
            r = 0;
            continue;
        }
        if (r == 0 && is_wanted(project, version) &&
            (!picked || version->spec.round > picked->spec.round))
            picked = version;
    }
    *ret_version = picked;
    return r;
}

static double metric_of(const struct fl_serving_view *view, const struct fl_modelversion *version)
{
    const struct fl_rollout_metric *metric = &view->server->spec.rollout.metric;
    const char *value =
        fl_string_map_get(&version->spec.metrics, fl_str_or(metric->name, "accuracy"));

    return value ? strtod(value, NULL) : NAN;
}

static int no_version(struct fl_serving_view *view)
{
    const struct fl_inferenceserver_model_project *project = &view->server->spec.model.project;

    if (project->select == FL_INFERENCESERVER_MODEL_PROJECT_SELECT_ROUND)
        return fl_not_yet(view->rc, "ModelReady", "WaitingForModel",
                          "project %s has no model of round %" PRId64, project->name,
                          project->round);
    return fl_not_yet(view->rc, "ModelReady", "WaitingForModel",
                      "project %s has committed no model yet that is its %s", project->name,
                      project->select == FL_INFERENCESERVER_MODEL_PROJECT_SELECT_LATEST ? "latest"
                                                                                        : "best");
}

static int find_in_project(struct fl_serving_view *view, struct fl_error *err)
{
    struct fl_modelversion *version = NULL;
    int r = pick_version(view, &version, err);

    if (r < 0)
        return r;
    if (!version)
        return no_version(view);
    view->model.digest = version->spec.digest;
    view->model.version = version->meta.name;
    view->model.round = version->spec.round;
    view->model.has_round = true;
    view->model.metric = metric_of(view, version);
    fl_true(view->rc, "ModelReady", "Found", "%s, of round %" PRId64, version->meta.name,
            version->spec.round);
    return FL_STEP_DONE;
}

int fl_serving_find_model(struct fl_serving_view *view, struct fl_error *err)
{
    const struct fl_inferenceserver_model *model = &view->server->spec.model;
    int r = FL_STEP_DONE;

    view->model = (struct fl_serving_model){.name = fl_str_or(model->name, view->server->meta.name),
                                            .digest = model->digest,
                                            .uri = model->uri,
                                            .image = model->image,
                                            .metric = NAN};
    if (model->has_project)
        r = find_in_project(view, err);
    else
        fl_true(view->rc, "ModelReady", "Given", "%s", fl_str_or(model->uri, model->image));
    view->has_model = r == FL_STEP_DONE;
    return r;
}
