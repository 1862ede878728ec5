/* Which model is wanted. */
#include "lib/str.h"
#include "reconcilers/inferenceserver/inferenceserver_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#define CODE_AGAIN_MS 5000

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

static void use_code(struct fl_serving_view *view, const struct fl_project *project)
{
    const struct fl_project_spec *spec = &project->spec;
    const struct fl_project_status_image *built = &project->status.image;

    view->model.code_image =
        spec->source.image ? spec->source.image
        : project->status.has_image && built->name && built->digest
            ? fl_arena_printf(view->rc->arena, "%s@%s", built->name, built->digest)
            : NULL;
    if (spec->source.has_git)
        view->model.entrypoint = spec->source.git.entrypoint;
    if (spec->build.has_registry && spec->build.registry.has_credentials_secret)
        view->model.pull_secret = spec->build.registry.credentials_secret.name;
}

/* What the code of a project trained is predicted with by that code. */
static int find_code(struct fl_serving_view *view, struct fl_error *err)
{
    const struct fl_inferenceserver_options *options = &view->controller->options;
    const char *name = view->server->spec.model.project.name;
    struct fl_project *project = NULL;
    int r;

    if (!options->needs_code || !options->needs_code(options->user, view->model.digest))
        return FL_STEP_DONE;
    r = fl_read_cached(view->rc, &fl_project_type, view->server->meta.namespace, name,
                       (void **)&project, err);
    if (r < 0 && r != FL_E_NOT_FOUND)
        return r;
    if (r == 0 && project->spec.source.has_builtin)
        return FL_STEP_DONE; /* by whatever made it: the server says what is wrong with it */
    if (r == 0)
        use_code(view, project);
    if (view->model.code_image)
        return FL_STEP_DONE;
    fl_requeue_after(view->rc, CODE_AGAIN_MS);
    return fl_not_yet(view->rc, "ModelReady", "WaitingForCode",
                      "%s is of code that predicts with it, and %s", view->model.version,
                      r < 0 ? "its project is gone" : "its project has no image of that yet");
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
    r = find_code(view, err);
    if (r != FL_STEP_DONE)
        return r;
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
