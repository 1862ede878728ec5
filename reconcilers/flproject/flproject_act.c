/* What a pass does. Each act may be done twice. */
#include "lib/str.h"
#include "reconcilers/flproject/flproject_internal.h"
#include "reconcilers/inferenceserver/inferenceserver.h"
#include "reconcilers/modelversion/modelversion.h"

#include <inttypes.h>
#include <stdio.h>

#define TOKEN_BYTES 32

/* Children that are made once, or under a name of the user's. */

json_t *fl_flproject_child_json(struct fl_flproject_view *view, const char *api_version,
                                const char *kind, const char *name, const char *role)
{
    const struct fl_object_meta *meta = &view->project->meta;

    return json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s, s:s}, s:[{s:s, s:s, s:s, s:s, s:b, s:b}]}}",
                     "apiVersion", api_version, "kind", kind, "metadata", "name", name, "namespace",
                     meta->namespace, "labels", "flops.dev/role", role, "flops.dev/project",
                     meta->name, "ownerReferences", "apiVersion", "flops.dev/v1alpha1", "kind",
                     "FLProject", "name", meta->name, "uid", meta->uid, "controller", 1,
                     "blockOwnerDeletion", 1);
}

/* One that is there already is fine: it was made by an earlier pass. */
static int create(struct fl_flproject_view *view, const struct fl_gvr *gvr, const json_t *object,
                  struct fl_error *err)
{
    int r = fl_apiclient_create_object(view->rc->client, gvr, view->project->meta.namespace, object,
                                       NULL, err);

    return r == FL_E_ALREADY_EXISTS ? 0 : r;
}

static int ensure_secret(struct fl_flproject_view *view, struct fl_error *err)
{
    FL_JSON object = NULL;
    unsigned char bytes[TOKEN_BYTES];
    char token[2 * TOKEN_BYTES + 1];
    const struct fl_env *env = view->rc->env;

    if (view->token)
        return 0;
    env->random(env->user, bytes, sizeof(bytes));
    fl_hex_encode(bytes, sizeof(bytes), token);
    object = fl_flproject_child_json(view, "v1", "Secret", view->secret, FL_FLPROJECT_SECRET);
    (void)json_object_set_new(object, "type", json_string("Opaque"));
    (void)json_object_set_new(object, "data",
                              json_pack("{s:s}", FL_FLPROJECT_TOKEN,
                                        fl_base64_encode(view->rc->arena, token, strlen(token))));
    if (create(view, &fl_gvr_secrets, object, err) < 0)
        return fl_error_wrap(err, "Secret %s", view->secret);
    return 0;
}

/* Services */

static bool is_planned(void *user, const void *child)
{
    const struct fl_flproject_view *view = user;
    const struct fl_flproject_services *services = &view->decision.plan.services;

    for (size_t i = 0; i < services->count; i++)
        if (fl_streq(((const struct fl_workload *)child)->meta.name,
                     fl_child_name(view->rc->arena, view->project->meta.name,
                                   view->project->meta.uid, services->items[i].role)))
            return true;
    return false;
}

/* Where no node matches, which may be for a moment only, what runs is left alone. */
static int prune_services(struct fl_flproject_view *view, struct fl_error *err)
{
    int r = 0;

    if (view->decision.plan.places > 0)
        r = fl_prune_children(view->rc, &fl_workload_type, is_planned, view, err);
    return r < 0 ? r : 0;
}

static int apply_services(struct fl_flproject_view *view, struct fl_error *err)
{
    struct fl_flproject_services *services = &view->decision.plan.services;
    int r;

    r = ensure_secret(view, err);
    for (size_t i = 0; i < services->count && r == 0; i++) {
        struct fl_flproject_service *service = &services->items[i];

        if (service->workload)
            r = fl_apply_child(view->rc, &fl_workload_type, service->role, service->workload, NULL,
                               err);
    }
    if (r == 0)
        r = prune_services(view, err);
    return r == 0 ? fl_flproject_tell_tiers(view, err) : r;
}

/* Rounds */

static int drop_rounds(struct fl_flproject_view *view, struct fl_error *err)
{
    struct fl_gvr gvr = fl_gvr_of(&fl_round_type);
    int r = fl_flproject_record_rounds(view, err);

    for (size_t i = 0; i < view->decision.drop_count && r == 0; i++) {
        const struct fl_object_meta *meta = &view->decision.drops[i]->meta;

        r = fl_apiclient_delete(view->rc->client, &gvr, meta->namespace, meta->name, meta->uid,
                                err);
    }
    return r;
}

/* Only what is ours is applied: others may have annotated it. */
static int apply_pauses(struct fl_flproject_view *view, struct fl_error *err)
{
    int r = 0;

    for (size_t i = 0; i < view->decision.pause_count && r == 0; i++) {
        struct fl_round *round = view->decision.pauses[i];
        struct fl_gvr gvr = fl_gvr_of(&fl_round_type);
        FL_JSON patch = json_pack("{s:{s:s}, s:{s:b}}", "metadata", "uid", round->meta.uid, "spec",
                                  "suspend", (int)round->spec.suspend);

        r = fl_apiclient_patch(view->rc->client, &gvr, round->meta.namespace, round->meta.name,
                               NULL, patch, NULL, err);
        if (r == FL_E_NOT_FOUND) /* it went meanwhile */
            r = 0;
    }
    return r;
}

static int start_round(struct fl_flproject_view *view, struct fl_error *err)
{
    struct fl_round *round = view->decision.start;
    const char *role = fl_flproject_round_role(view->rc->arena, view->decision.start_number);
    struct fl_gvr gvr = fl_gvr_of(&fl_round_type);
    FL_JSON object = NULL;
    FL_JSON encoded = fl_round_encode(round);
    int r;

    object = fl_flproject_child_json(
        view, "flops.dev/v1alpha1", "FLRound",
        fl_child_name(view->rc->arena, view->project->meta.name, view->project->meta.uid, role),
        role);
    (void)json_object_set(json_object_get(object, "metadata"), "annotations",
                          (json_t *)round->meta.annotations);
    (void)json_object_set(object, "spec", json_object_get(encoded, "spec"));
    r = create(view, &gvr, object, err);
    if (r < 0)
        return fl_error_wrap(err, "round %" PRId64, view->decision.start_number);
    fl_log_info(view->rc->log, "round begins", FL_INT("round", view->decision.start_number));
    return 0;
}

static int act_on_rounds(struct fl_flproject_view *view, struct fl_error *err)
{
    int r = drop_rounds(view, err);

    if (r == 0)
        r = apply_pauses(view, err);
    if (r == 0 && view->decision.start)
        r = start_round(view, err);
    return r;
}

/* Models */

static bool has(const struct fl_modelversion *model, const char *name)
{
    for (size_t i = 0; i < model->spec.aliases.count; i++)
        if (strcmp(model->spec.aliases.items[i], name) == 0)
            return true;
    return false;
}

/* Written only where it is not so yet. */
static int move_alias(struct fl_flproject_view *view, const char *name,
                      bool (*wants)(const struct fl_flproject_alias *alias), struct fl_error *err)
{
    const struct fl_flproject_decision *decision = &view->decision;
    const struct fl_flproject_alias *wanted = NULL;
    bool is_right = true;

    for (size_t i = 0; i < decision->alias_count; i++) {
        const struct fl_flproject_alias *alias = &decision->aliases[i];

        if (wants(alias))
            wanted = alias;
        is_right = is_right && wants(alias) == has(alias->model, name);
    }
    if (!wanted || is_right)
        return 0;
    return fl_model_version_alias(view->rc->client, view->project->meta.namespace,
                                  view->project->meta.name, name, wanted->model->meta.name, err);
}

static bool wants_best(const struct fl_flproject_alias *alias)
{
    return alias->best;
}

static bool wants_latest(const struct fl_flproject_alias *alias)
{
    return alias->latest;
}

static int act_on_models(struct fl_flproject_view *view, struct fl_error *err)
{
    int r = move_alias(view, "best", wants_best, err);

    return r < 0 ? r : move_alias(view, "latest", wants_latest, err);
}

/* Serving: the template, with the model that it serves. */

static json_t *server_spec(const struct fl_flproject_view *view)
{
    const json_t *serve = fl_json_path(view->rc->json, "spec.serve");
    json_t *spec = json_deep_copy(serve);
    const char *select = fl_str_or(fl_json_str(serve, "select"), "Best");

    (void)json_object_set_new(
        spec, "model",
        json_pack("{s:{s:s, s:s}}", "project", "name", view->project->meta.name, "select", select));
    if (!json_object_get(spec, "orchestrator"))
        fl_json_set_str(spec, "orchestrator", view->project->spec.orchestrator);
    (void)json_object_del(spec, "name");
    (void)json_object_del(spec, "select");
    (void)json_object_del(spec, "labels");
    return spec;
}

static json_t *server_json(struct fl_flproject_view *view, const char *name)
{
    const json_t *labels = fl_json_path(view->rc->json, "spec.serve.labels");
    json_t *object =
        fl_flproject_child_json(view, "flops.dev/v1alpha1", "InferenceServer", name, "serve");
    json_t *own = fl_json_path(object, "metadata.labels");
    const char *image = view->decision.code.server_image;

    if (image)
        (void)json_object_set_new(fl_json_path(object, "metadata"), "annotations",
                                  json_pack("{s:s}", FL_SERVING_PROGRAM_IMAGE, image));
    if (labels)
        (void)json_object_update_missing(own, (json_t *)labels);
    (void)json_object_set_new(object, "spec", server_spec(view));
    return object;
}

static bool is_server(void *user, const void *child)
{
    return fl_streq(((const struct fl_inferenceserver *)child)->meta.name, user);
}

/* Whether the name is somebody else's. */
static int name_is_taken(struct fl_flproject_view *view, const char *name, struct fl_error *err)
{
    void *object = NULL;
    int r = fl_read_cached(view->rc, &fl_inferenceserver_type, view->project->meta.namespace, name,
                           &object, err);

    if (r == FL_E_NOT_FOUND)
        return 0;
    if (r < 0)
        return r;
    return !view->input.server ||
           !fl_streq(view->input.server->meta.uid, ((struct fl_inferenceserver *)object)->meta.uid);
}

static int apply_server(struct fl_flproject_view *view, const char *name, struct fl_error *err)
{
    const struct fl_apply_options options = {.manager = view->rc->manager_name, .force = true};
    struct fl_gvr gvr = fl_gvr_of(&fl_inferenceserver_type);
    FL_JSON object = NULL;
    int r = name_is_taken(view, name, err);

    if (r < 0)
        return r;
    if (r > 0) {
        (void)fl_error_set(err, FL_E_INVALID,
                           "an InferenceServer %s exists already: choose another spec.serve.name",
                           name);
        return fl_failed(view->rc, "ModelServed", "NameTaken", err);
    }
    object = server_json(view, name);
    if (fl_apiclient_apply(view->rc->client, &gvr, object, &options, NULL, err) < 0)
        return fl_failed(view->rc, "ModelServed", "WaitingForServer", err);
    return 0;
}

static int act_on_server(struct fl_flproject_view *view, struct fl_error *err)
{
    const struct fl_project_spec *spec = &view->project->spec;
    const char *name = fl_str_or(spec->serve.name, view->project->meta.name);
    int r;

    r = fl_prune_children(view->rc, &fl_inferenceserver_type, is_server,
                          spec->has_serve ? (void *)name : NULL, err);
    if (r < 0 || !view->decision.serve)
        return r < 0 ? r : 0;
    if (view->decision.code.is_needed && !view->decision.code.server_image)
        return 0; /* what serves goes on as it is */
    return apply_server(view, name, err);
}

int fl_flproject_act(struct fl_flproject_view *view, struct fl_error *err)
{
    int r = fl_flproject_act_on_fetch(view, err);

    if (r == 0)
        r = fl_flproject_act_on_builds(view, err);
    if (r == 0 && view->decision.has_services && !view->decision.holds)
        r = apply_services(view, err);
    if (r == 0)
        r = act_on_rounds(view, err);
    if (r == 0)
        r = act_on_models(view, err);
    return r == 0 ? act_on_server(view, err) : r;
}

/* The end */

/* What goes in one phase. */
struct removal {
    struct fl_gvr gvr;
    bool by_name;     /* also what only names the project */
    const char *role; /* spec.role; NULL: any */
};

static bool is_ours(const struct fl_flproject_view *view, const struct removal *removal,
                    const json_t *item)
{
    const json_t *owners = fl_json_path(item, "metadata.ownerReferences");
    json_t *owner;
    size_t i;

    if (removal->role && !fl_streq(fl_json_str(item, "spec.role"), removal->role))
        return false;
    if (removal->by_name &&
        fl_streq(fl_json_str(item, "spec.project.name"), view->project->meta.name))
        return true;
    json_array_foreach((json_t *)owners, i, owner) {
        if (fl_streq(fl_json_str(owner, "uid"), view->project->meta.uid))
            return true;
    }
    return false;
}

/* Looked for live: an old cache must leave nothing behind. */
static int remove_kind(struct fl_flproject_view *view, const struct removal *removal,
                       struct fl_error *err)
{
    const char *ns = view->project->meta.namespace;
    FL_JSON items = NULL;
    json_t *item;
    int left = 0, r;
    size_t i;

    r = fl_apiclient_list(view->rc->client, &removal->gvr, ns, NULL, &items, err);
    json_array_foreach(items, i, item) {
        if (r < 0)
            break;
        if (!is_ours(view, removal, item))
            continue;
        left++;
        if (!fl_json_str(item, "metadata.deletionTimestamp"))
            r = fl_apiclient_delete(view->rc->client, &removal->gvr, ns,
                                    fl_json_str(item, "metadata.name"),
                                    fl_json_str(item, "metadata.uid"), err);
    }
    return r < 0 ? fl_error_wrap(err, "remove %s", removal->gvr.plural) : left;
}

static int remove_kinds(struct fl_flproject_view *view, const struct removal *removals,
                        size_t count, struct fl_error *err)
{
    int left = 0;

    for (size_t i = 0; i < count; i++) {
        int r = remove_kind(view, &removals[i], err);

        if (r < 0)
            return r;
        left += r;
    }
    return left;
}

/* Learners say goodbye, and rounds are broken off, while their aggregators are still there. */
int fl_flproject_remove_all(struct fl_flproject_view *view, struct fl_error *err)
{
    const struct removal first[] = {
        {.gvr = fl_gvr_of(&fl_inferenceserver_type)},
        {.gvr = fl_gvr_of(&fl_round_type), .by_name = true},
        {.gvr = fl_gvr_of(&fl_workload_type), .role = "Learner"},
    };
    const struct removal then[] = {
        {.gvr = fl_gvr_of(&fl_modelversion_type), .by_name = true},
        {.gvr = fl_gvr_of(&fl_history_type)},
        {.gvr = fl_gvr_of(&fl_workload_type)},
        {.gvr = fl_gvr_of(&fl_imagebuild_type)},
        {.gvr = fl_gvr_secrets},
    };
    int left = remove_kinds(view, first, FL_COUNT_OF(first), err);

    return left != 0 ? left : remove_kinds(view, then, FL_COUNT_OF(then), err);
}
