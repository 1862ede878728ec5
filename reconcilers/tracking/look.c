/* What a pass of tracking sees, and what it writes beside the tracker. */
#include "controller/client/client.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/str.h"
#include "reconcilers/modelversion/export.h"
#include "reconcilers/tracking/plan_internal.h"
#include "reconcilers/tracking/tracking_internal.h"

#include <stdio.h>
#include <string.h>

static int decode(const struct fl_kind_type *type, const struct fl_object *object,
                  struct fl_arena *arena, const json_t **ret_json, void **ret_object,
                  struct fl_error *err)
{
    json_t *json = fl_json_in_arena(arena, fl_object_parse(object));
    int r = fl_object_decode(type, json, arena, ret_object, err);

    if (ret_json)
        *ret_json = json;
    return r < 0 ? fl_error_wrap(err, "%s %s", type->kind, object->name) : 0;
}

/* Those that name the project; others are not parsed at all. */
static bool names(const struct fl_object *object, const char *project)
{
    char mark[300];
    int len = snprintf(mark, sizeof(mark), "\"project\":{\"name\":\"%s\"}", project);

    return len > 0 && (size_t)len < sizeof(mark) &&
           memmem(object->json->data, object->json->len, mark, (size_t)len) != NULL;
}

/* Rounds: those that are there, and what is kept of those that went. */

struct pasts {
    struct fl_track_past *items;
    size_t count, room;
};

static void add_past(struct fl_arena *arena, struct pasts *pasts, int64_t number, bool committed,
                     const struct fl_round_status *status)
{
    if (pasts->count == pasts->room) {
        struct fl_track_past *more =
            fl_new_array(arena, struct fl_track_past, pasts->room * 2 + 64);

        if (pasts->count > 0)
            memcpy(more, pasts->items, pasts->count * sizeof(*more));
        pasts->items = more;
        pasts->room = pasts->room * 2 + 64;
    }
    pasts->items[pasts->count++] = (struct fl_track_past){number, committed, status};
}

static int look_at_rounds(const struct fl_track_caches *caches, struct fl_track_view *view,
                          struct pasts *pasts, struct fl_error *err)
{
    FL_CLEANUP(fl_list_finish) struct fl_list list = {0};
    const struct fl_object_meta *meta = &view->project->meta;
    int r = 0;

    fl_cache_list(caches->rounds, meta->namespace, &list);
    for (size_t i = 0; i < list.count && r == 0; i++) {
        const struct fl_round *round;
        void *object = NULL;

        if (!names(list.objects[i], meta->name))
            continue;
        r = decode(&fl_round_type, list.objects[i], view->arena, NULL, &object, err);
        if (r < 0)
            break;
        round = object;
        add_past(view->arena, pasts,
                 round->spec.has_index ? round->spec.index : round->status.index,
                 fl_track_is(&round->status.conditions, "Succeeded", NULL), &round->status);
    }
    return r;
}

/* What is kept of a round is read as the FLRound it was. */
static int add_kept(struct fl_track_view *view, const struct fl_history_round *kept,
                    struct pasts *pasts, struct fl_error *err)
{
    json_t *object =
        json_pack("{s:s, s:s, s:{s:s}, s:{s:{s:s}}, s:O}", "apiVersion", "flops.dev/v1alpha1",
                  "kind", "FLRound", "metadata", "name", kept->name, "spec", "project", "name",
                  view->project->meta.name, "status", (json_t *)kept->status);
    struct fl_round *round = NULL;
    int r = fl_round_decode(fl_json_in_arena(view->arena, object), view->arena, &round, err);

    if (r < 0)
        return r;
    add_past(view->arena, pasts, kept->round, true, &round->status);
    return 0;
}

static int look_at_history(const struct fl_track_caches *caches, struct fl_track_view *view,
                           struct pasts *pasts, struct fl_error *err)
{
    FL_CLEANUP(fl_list_finish) struct fl_list list = {0};
    const struct fl_object_meta *meta = &view->project->meta;
    int r = 0;

    fl_cache_list(caches->histories, meta->namespace, &list);
    for (size_t i = 0; i < list.count && r == 0; i++) {
        const struct fl_history *history;
        void *object = NULL;

        if (!names(list.objects[i], meta->name))
            continue;
        r = decode(&fl_history_type, list.objects[i], view->arena, NULL, &object, err);
        history = object;
        for (size_t n = 0; r == 0 && n < history->spec.rounds.count; n++)
            r = add_kept(view, &history->spec.rounds.items[n], pasts, err);
    }
    return r;
}

static int look_at_models(const struct fl_track_caches *caches, struct fl_track_view *view,
                          struct fl_error *err)
{
    FL_CLEANUP(fl_list_finish) struct fl_list list = {0};
    const struct fl_object_meta *meta = &view->project->meta;
    struct fl_modelversion **models;
    int r = 0;

    fl_cache_list(caches->models, meta->namespace, &list);
    models = fl_new_array(view->arena, struct fl_modelversion *, list.count + 1);
    view->models = fl_new_array(view->arena, const json_t *, list.count + 1);
    view->input.models = models;
    for (size_t i = 0; i < list.count && r == 0; i++) {
        const size_t at = view->input.model_count;
        void *object = NULL;

        if (!names(list.objects[i], meta->name))
            continue;
        r = decode(&fl_modelversion_type, list.objects[i], view->arena, &view->models[at], &object,
                   err);
        models[at] = object;
        view->input.model_count += r == 0;
    }
    return r;
}

/* The server. */

static void look_at_credentials(const struct fl_track_caches *caches, struct fl_track_view *view)
{
    const struct fl_project_tracking_mlflow *mlflow = &view->project->spec.tracking.mlflow;
    const char *name = mlflow->credentials_secret.name;
    struct fl_tracker_server *server = &view->server;
    struct fl_arena *arena = view->arena;
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *object = NULL;
    const json_t *secret;

    if (!mlflow->has_credentials_secret)
        return;
    object = fl_cache_get(caches->secrets, view->project->meta.namespace, name);
    if (!object) {
        view->missing = fl_arena_printf(arena, "there is no Secret %s", name);
        return;
    }
    secret = fl_json_in_arena(arena, fl_object_parse(object));
    server->username = fl_secret_text(arena, secret, "username");
    server->password = fl_secret_text(arena, secret, "password");
    server->token = fl_secret_text(arena, secret, "token");
    server->ca_pem = fl_secret_text(arena, secret, "ca.crt");
    if (!server->token && !server->ca_pem && !(server->username && server->password))
        view->missing = fl_arena_printf(
            arena, "Secret %s has neither `token`, nor `username` and `password`, nor `ca.crt`",
            name);
}

static const char *without_slash(struct fl_arena *arena, const char *url)
{
    size_t len = strlen(url);

    while (len > 0 && url[len - 1] == '/')
        len--;
    return fl_arena_strndup(arena, url, len);
}

int fl_track_look(const struct fl_track_caches *caches, const char *ns, const char *name,
                  struct fl_arena *arena, struct fl_track_view *ret_view, struct fl_error *err)
{
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *object = fl_cache_get(caches->projects, ns, name);
    struct fl_track_view view = {.arena = arena};
    struct pasts pasts = {0};
    void *project = NULL;
    int r;

    *ret_view = view;
    if (!object)
        return 0;
    r = decode(&fl_project_type, object, arena, &view.input.json, &project, err);
    if (r < 0)
        return r;
    view.project = view.input.project = project;
    view.wanted = !view.project->meta.deletion_timestamp && view.project->spec.has_tracking &&
                  view.project->spec.tracking.has_mlflow;
    if (view.wanted) {
        view.server.url = without_slash(arena, view.project->spec.tracking.mlflow.url);
        look_at_credentials(caches, &view);
        r = look_at_rounds(caches, &view, &pasts, err);
        if (r == 0)
            r = look_at_history(caches, &view, &pasts, err);
        view.input.rounds = pasts.items;
        view.input.round_count = pasts.count;
        if (r == 0)
            r = look_at_models(caches, &view, err);
    }
    *ret_view = view;
    return r;
}

/* Models. */

static int write_model(const struct fl_tracking_options *options, const json_t *version,
                       const char *content, const char *path, struct fl_error *err)
{
    const struct fl_model_tracking tracking = {options->blobs, options->adapter, path};
    struct fl_error why = {0};
    int r = fl_model_version_write_tracked(version, content, &tracking, &why, err);

    if (r == 0 && why.code != 0)
        fl_log_info(options->env->log, "a model is tracked without the code that it is for",
                    FL_STR("model", fl_json_str(version, "metadata.name")),
                    FL_STR("error", why.msg));
    return r;
}

int fl_track_export(const struct fl_tracking_options *options, const json_t *version,
                    const char *folder, struct fl_arena *arena, const char **ret_path,
                    struct fl_error *err)
{
    const char *digest = fl_json_str(version, "spec.digest"), *content = NULL, *path;
    int r;

    if (!digest || !fl_str_has_prefix(digest, "sha256:"))
        return fl_error_set(err, FL_E_INVALID, "the ModelVersion has no digest");
    path = fl_arena_printf(arena, "%s/%s", folder, digest + strlen("sha256:"));
    r = fl_dir_ensure(folder, 0700, err);
    if (r == 0)
        r = fl_dir_remove(path, err);
    if (r == 0)
        r = fl_blobs_path(options->blobs, digest, arena, &content, err);
    if (r == 0)
        r = write_model(options, version, content, path, err);
    if (r < 0)
        return fl_error_wrap(err, "model %s", digest);
    *ret_path = path;
    return 0;
}

static bool is_noted(const struct fl_modelversion *version, const struct fl_tracked_version *known)
{
    const struct fl_modelversion_status_tracking *noted = &version->status.tracking;

    return version->status.has_tracking && fl_streq(noted->version, known->version) &&
           fl_streq(noted->model_id, known->model_id) && fl_streq(noted->url, known->url);
}

int fl_track_note_versions(struct fl_apiclient *client, const struct fl_track_plan *plan,
                           const struct fl_tracked_version *versions, struct fl_error *err)
{
    const struct fl_gvr gvr = fl_gvr_of(&fl_modelversion_type);
    int r = 0;

    for (size_t i = 0; i < plan->model_count && r == 0; i++) {
        const struct fl_modelversion *version = plan->models[i].version;
        FL_JSON patch = NULL;

        if (!versions[i].version || is_noted(version, &versions[i]))
            continue;
        patch = json_pack("{s:{s:s}, s:{s:{s:s?, s:s, s:s}}}", "metadata", "uid", version->meta.uid,
                          "status", "tracking", "modelId", versions[i].model_id, "version",
                          versions[i].version, "url", versions[i].url);
        r = fl_apiclient_patch(client, &gvr, version->meta.namespace, version->meta.name, "status",
                               patch, NULL, err);
        if (r == FL_E_NOT_FOUND || r == FL_E_CONFLICT) /* it went meanwhile */
            r = 0;
    }
    return r < 0 ? fl_error_wrap(err, "status of a ModelVersion") : 0;
}
