/* Models: logged ones (3.x) or files of a run (2.x), and their versions in the registry. */
#include "lib/folder.h"
#include "lib/process.h"
#include "lib/str.h"
#include "reconcilers/tracking/mlflow_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define FILES_MAX    4096 /* in a folder of a model's */
#define DEPTH_MAX    24
#define PAGES_MAX    50 /* of versions */
#define PAGE         200
#define MODELS_MAX   20 /* logged ones with one tag */
#define CONTENT_FILE "MLmodel"

/* One pass of one model. */
struct upload {
    struct fl_mlflow *mlflow;
    const struct fl_tracked_model *model;
    struct fl_arena *arena;
    const char *model_id; /* NULL: the server has no logged models */
    const char *source;   /* what a version is made of */
};

static int ask(struct upload *upload, const char *method, const char *path, const json_t *body,
               enum fl_mlflow_code *ret_code, const json_t **ret_answer, struct fl_error *err)
{
    const struct fl_mlflow_call call = {method, path, body, ret_code};

    return fl_mlflow_call(upload->mlflow, &call, upload->arena, ret_answer, err);
}

/* Files. */

/* What of a model's folder is there; the folder is only this model's. Of a server that does not
 * tell, nothing. */
static int list_there(struct upload *upload, const char *to, const json_t **ret_files,
                      struct fl_error *err)
{
    const char *path = fl_arena_printf(upload->arena, "/mlflow-artifacts/artifacts?path=%s",
                                       fl_url_encode(upload->arena, to));
    struct fl_error quiet = {0};
    const json_t *answer = NULL;
    int r = ask(upload, "GET", path, NULL, NULL, &answer, &quiet);

    *ret_files = json_object_get(answer, "files");
    if (r == 0 || r == FL_E_NOT_FOUND || r == FL_E_INVALID || r == FL_E_FORBIDDEN)
        return 0;
    return fl_error_set(err, r, "%s", quiet.msg);
}

/* As long as it should be: what was broken off is shorter. */
static bool is_there(const json_t *files, const char *name, int64_t size)
{
    json_t *file;
    size_t i;

    json_array_foreach((json_t *)files, i, file)
        if (fl_streq(fl_json_str(file, "path"), name))
            return fl_mlflow_int(json_object_get(file, "file_size")) == size;
    return false;
}

static int put_file(struct upload *upload, const char *folder, const char *name, const char *to,
                    const json_t *there, struct fl_error *err)
{
    const char *path = fl_arena_printf(upload->arena, "%s/%s", folder, name);
    FL_CLEANUP(fl_fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;

    if (fd < 0 || fstat(fd, &about) < 0)
        return fl_error_errno(err, errno, "%s", path);
    if (is_there(there, name, about.st_size))
        return 0;
    return fl_mlflow_put_file(upload->mlflow, fl_arena_printf(upload->arena, "%s/%s", to, name), fd,
                              about.st_size, err);
}

static bool is_folder(const struct fl_folder_list *folders, const char *name)
{
    for (size_t i = 0; i < folders->count; i++)
        if (strcmp(folders->names[i], name) == 0)
            return true;
    return false;
}

/* What an earlier pass brought there is not sent again, so that each pass comes further, however
 * many answers are lost. `last` (NULL: none) is left to the caller. */
static int put_tree(struct upload *upload, const char *folder, const char *to, const json_t *there,
                    const char *last, unsigned depth, struct fl_error *err)
{
    struct fl_folder_list all = {0}, folders = {0};
    int r = depth == 0 ? fl_error_set(err, FL_E_TOO_LARGE, "%s: folders are too deep", folder) : 0;

    if (r == 0)
        r = fl_folder_list(upload->arena, folder, false, FILES_MAX, &all, err);
    if (r == 0)
        r = fl_folder_list(upload->arena, folder, true, FILES_MAX, &folders, err);
    for (size_t i = 0; i < all.count && r == 0; i++) {
        const char *from = fl_arena_printf(upload->arena, "%s/%s", folder, all.names[i]);
        const char *below = fl_arena_printf(upload->arena, "%s/%s", to, all.names[i]);
        const json_t *there_below = NULL;

        if (last && strcmp(all.names[i], last) == 0)
            continue;
        if (!is_folder(&folders, all.names[i])) {
            r = put_file(upload, folder, all.names[i], to, there, err);
            continue;
        }
        r = list_there(upload, below, &there_below, err);
        if (r == 0)
            r = put_tree(upload, from, below, there_below, NULL, depth - 1, err);
    }
    return r;
}

/* What says that it is a model comes last. */
static int put_folder(struct upload *upload, const char *to, struct fl_error *err)
{
    const char *folder = upload->model->folder;
    const json_t *there = NULL;
    int r = list_there(upload, to, &there, err);

    if (r == 0 && !folder)
        r = upload->model->make(upload->model->user, &folder, err);
    if (r == 0)
        r = put_tree(upload, folder, to, there, CONTENT_FILE, DEPTH_MAX, err);
    return r < 0 ? r : put_file(upload, folder, CONTENT_FILE, to, there, err);
}

/* Logged models. */

static json_t *model_tags(const struct fl_tracked_model *model)
{
    json_t *tags = fl_mlflow_pairs(&model->tags);

    (void)json_array_append_new(tags,
                                json_pack("{s:s, s:s}", "key", model->key, "value", model->digest));
    return tags;
}

static bool is_ready(const json_t *model)
{
    return fl_streq(fl_json_str(model, "info.status"), "LOGGED_MODEL_READY");
}

/* A ready one, or one that was begun. *ret_known false: the server has no logged models. */
static int find_logged(struct upload *upload, bool *ret_known, const json_t **ret_model,
                       struct fl_error *err)
{
    const struct fl_tracked_model *model = upload->model;
    FL_JSON body =
        json_pack("{s:[s], s:s, s:i}", "experiment_ids", model->experiment_id, "filter",
                  fl_arena_printf(upload->arena, "tags.`%s` = '%s'", model->key, model->digest),
                  "max_results", MODELS_MAX);
    enum fl_mlflow_code code = FL_MLFLOW_NONE;
    const json_t *answer = NULL;
    json_t *item;
    size_t i;
    int r = ask(upload, "POST", "/mlflow/logged-models/search", body, &code, &answer, err);

    *ret_known = code != FL_MLFLOW_NO_ENDPOINT;
    *ret_model = NULL;
    if (!*ret_known)
        return 0;
    json_array_foreach(json_object_get(answer, "models"), i, item) {
        bool failed = fl_streq(fl_json_str(item, "info.status"), "LOGGED_MODEL_UPLOAD_FAILED");

        if (!failed && (!*ret_model || (is_ready(item) && !is_ready(*ret_model))))
            *ret_model = item;
    }
    return r;
}

static int create_logged(struct upload *upload, const json_t **ret_model, struct fl_error *err)
{
    const struct fl_tracked_model *model = upload->model;
    FL_JSON body = json_pack("{s:s, s:s, s:s, s:o, s:o}", "experiment_id", model->experiment_id,
                             "name", model->name, "source_run_id", model->run_id, "params",
                             fl_mlflow_pairs(&model->params), "tags", model_tags(model));
    const json_t *answer = NULL;
    int r = ask(upload, "POST", "/mlflow/logged-models", body, NULL, &answer, err);

    if (r < 0)
        return r;
    *ret_model = json_object_get(answer, "model");
    return 0;
}

static bool is_output(const json_t *answer, const char *model_id)
{
    json_t *output;
    size_t i;

    json_array_foreach(fl_json_path(answer, "run.outputs.model_outputs"), i, output)
        if (fl_streq(fl_json_str(output, "model_id"), model_id))
            return true;
    return false;
}

/* That the run made it. The same again is refused, so it is asked first. */
static int ensure_output(struct upload *upload, struct fl_error *err)
{
    const char *run_id = upload->model->run_id;
    FL_JSON body = json_pack("{s:s, s:[{s:s, s:I}]}", "run_id", run_id, "models", "model_id",
                             upload->model_id, "step", (json_int_t)upload->model->step);
    const json_t *answer = NULL;
    int r = ask(upload, "GET",
                fl_arena_printf(upload->arena, "/mlflow/runs/get?run_id=%s",
                                fl_url_encode(upload->arena, run_id)),
                NULL, NULL, &answer, err);

    if (r < 0 || is_output(answer, upload->model_id))
        return r;
    return ask(upload, "POST", "/mlflow/runs/outputs", body, NULL, NULL, err);
}

static int fill_logged(struct upload *upload, const char *uri, struct fl_error *err)
{
    const char *id = fl_url_encode(upload->arena, upload->model_id), *to = NULL;
    FL_JSON ready =
        json_pack("{s:s, s:s}", "model_id", upload->model_id, "status", "LOGGED_MODEL_READY");
    int r = fl_mlflow_proxy_path(uri, upload->arena, &to, err);

    if (r == 0)
        r = put_folder(upload, to, err);
    if (r == 0)
        r = ensure_output(upload, err);
    return r < 0 ? r
                 : ask(upload, "PATCH",
                       fl_arena_printf(upload->arena, "/mlflow/logged-models/%s", id), ready, NULL,
                       NULL, err);
}

static int ensure_logged(struct upload *upload, const json_t *found, struct fl_error *err)
{
    const json_t *model = found;
    const char *uri = NULL;
    int r = model ? 0 : create_logged(upload, &model, err);

    if (r == 0)
        r = fl_mlflow_text(model, "info.model_id", upload->arena, &upload->model_id, err);
    if (r == 0)
        r = fl_mlflow_text(model, "info.artifact_uri", upload->arena, &uri, err);
    if (r == 0 && !is_ready(model))
        r = fill_logged(upload, uri, err);
    if (r < 0)
        return fl_error_wrap(err, "logged model");
    upload->source = fl_arena_printf(upload->arena, "models:/%s", upload->model_id);
    return 0;
}

/* 2.x: a folder among the run's files, and a tag that it is whole. */

static int ensure_files(struct upload *upload, struct fl_error *err)
{
    const struct fl_tracked_model *model = upload->model;
    struct fl_arena *arena = upload->arena;
    const char *path =
        fl_arena_printf(arena, "/mlflow/runs/get?run_id=%s", fl_url_encode(arena, model->run_id));
    const char *name = fl_arena_printf(arena, "%s-%" PRId64, model->name, model->step), *uri = NULL,
               *to = NULL;
    const char *tag = fl_arena_printf(arena, "%s.%" PRId64, model->key, model->step);
    FL_JSON body =
        json_pack("{s:s, s:s, s:s}", "run_id", model->run_id, "key", tag, "value", model->digest);
    struct fl_tracked_run run;
    const json_t *answer = NULL;
    int r = ask(upload, "GET", path, NULL, NULL, &answer, err);

    if (r == 0)
        r = fl_mlflow_read_run(json_object_get(answer, "run"), arena, &run, err);
    if (r == 0)
        r = fl_mlflow_text(answer, "run.info.artifact_uri", arena, &uri, err);
    if (r < 0)
        return r;
    upload->source = fl_arena_printf(arena, "%s/%s", uri, name);
    if (fl_streq(fl_string_map_get(&run.tags, tag), model->digest))
        return 0;
    r = fl_mlflow_proxy_path(upload->source, arena, &to, err);
    if (r == 0)
        r = put_folder(upload, to, err);
    return r < 0 ? r : ask(upload, "POST", "/mlflow/runs/set-tag", body, NULL, NULL, err);
}

/* The registry. */

static int ensure_registered(struct upload *upload, struct fl_error *err)
{
    const char *name = upload->model->registered;
    FL_JSON body = json_pack("{s:s}", "name", name);
    int r = ask(upload, "GET",
                fl_arena_printf(upload->arena, "/mlflow/registered-models/get?name=%s",
                                fl_url_encode(upload->arena, name)),
                NULL, NULL, NULL, err);

    if (r != FL_E_NOT_FOUND)
        return r;
    r = ask(upload, "POST", "/mlflow/registered-models/create", body, NULL, NULL, err);
    return r == FL_E_ALREADY_EXISTS ? 0 : r;
}

static const char *tag_of(const json_t *version, const char *key)
{
    json_t *tag;
    size_t i;

    json_array_foreach(json_object_get(version, "tags"), i, tag)
        if (fl_streq(fl_json_str(tag, "key"), key))
            return fl_json_str(tag, "value");
    return NULL;
}

static bool is_this(const struct fl_tracked_model *model, const json_t *version)
{
    return fl_streq(tag_of(version, model->key), model->digest) &&
           fl_streq(tag_of(version, model->owner_key), model->owner) &&
           !fl_streq(fl_json_str(version, "status"), "FAILED_REGISTRATION");
}

/* A filter's text is quoted with what it does not have. */
static const char *quote(struct fl_arena *arena, const char *text)
{
    return fl_arena_printf(arena, strchr(text, '\'') ? "\"%s\"" : "'%s'", text);
}

/* *ret_version NULL: there is none. */
static int find_version(struct upload *upload, const char **ret_version, struct fl_error *err)
{
    const struct fl_tracked_model *model = upload->model;
    struct fl_arena *arena = upload->arena;
    const char *filter =
        fl_url_encode(arena, fl_arena_printf(arena, "name=%s", quote(arena, model->registered)));
    const char *token = NULL;
    int r = 0;

    *ret_version = NULL;
    for (int page = 0; page < PAGES_MAX && r == 0 && !*ret_version && (page == 0 || token);
         page++) {
        const json_t *answer = NULL;
        json_t *version;
        size_t i;

        r = ask(upload, "GET",
                fl_arena_printf(arena, "/mlflow/model-versions/search?filter=%s&max_results=%d%s%s",
                                filter, PAGE, token ? "&page_token=" : "",
                                token ? fl_url_encode(arena, token) : ""),
                NULL, NULL, &answer, err);
        json_array_foreach(json_object_get(answer, "model_versions"), i, version)
            if (is_this(model, version))
                *ret_version = fl_json_str(version, "version");
        token = fl_json_str(answer, "next_page_token");
        token = token && *token ? token : NULL;
    }
    return r;
}

static json_t *version_tags(const struct fl_tracked_model *model)
{
    json_t *tags = model_tags(model);

    (void)json_array_append_new(
        tags, json_pack("{s:s, s:s}", "key", model->owner_key, "value", model->owner));
    return tags;
}

static int create_version(struct upload *upload, const char **ret_version, struct fl_error *err)
{
    const struct fl_tracked_model *model = upload->model;
    FL_JSON body = json_pack("{s:s, s:s, s:s, s:o, s:s*}", "name", model->registered, "source",
                             upload->source, "run_id", model->run_id, "tags", version_tags(model),
                             "model_id", upload->model_id);
    const json_t *answer = NULL;
    int r = ask(upload, "POST", "/mlflow/model-versions/create", body, NULL, &answer, err);

    return r < 0 ? r
                 : fl_mlflow_text(answer, "model_version.version", upload->arena, ret_version, err);
}

/* Aliases. */

/* On which version it stands: NULL: none. */
static int find_alias(struct upload *upload, const char *alias, const json_t **ret_version,
                      struct fl_error *err)
{
    const char *path =
        fl_arena_printf(upload->arena, "/mlflow/registered-models/alias?name=%s&alias=%s",
                        fl_url_encode(upload->arena, upload->model->registered),
                        fl_url_encode(upload->arena, alias));
    enum fl_mlflow_code code = FL_MLFLOW_NONE;
    const json_t *answer = NULL;
    int r = ask(upload, "GET", path, NULL, &code, &answer, err);

    /* A model without that alias is told as INVALID_PARAMETER_VALUE. */
    if (r == FL_E_NOT_FOUND || (r == FL_E_INVALID && code == FL_MLFLOW_OTHER))
        return 0;
    if (r == 0)
        *ret_version = json_object_get(answer, "model_version");
    return r;
}

static int ensure_alias(struct upload *upload, const char *alias, const char *version, bool is_new,
                        struct fl_error *err)
{
    const struct fl_tracked_model *model = upload->model;
    FL_JSON body =
        json_pack("{s:s, s:s, s:s}", "name", model->registered, "alias", alias, "version", version);
    const json_t *has = NULL;
    int r = find_alias(upload, alias, &has, err);

    if (r < 0 || fl_streq(fl_json_str(has, "version"), version))
        return r;
    if (has && !is_new && !fl_streq(tag_of(has, model->owner_key), model->owner))
        return 0;
    return ask(upload, "POST", "/mlflow/registered-models/alias", body, NULL, NULL, err);
}

static int ensure_version(struct upload *upload, const char **ret_version, struct fl_error *err)
{
    const char *version = NULL;
    bool is_new;
    int r = ensure_registered(upload, err);

    if (r == 0)
        r = find_version(upload, &version, err);
    is_new = !version;
    if (r == 0 && is_new)
        r = create_version(upload, &version, err);
    for (size_t i = 0; i < upload->model->alias_count && r == 0; i++)
        r = ensure_alias(upload, upload->model->aliases[i], version, is_new, err);
    if (r < 0)
        return fl_error_wrap(err, "registered model %s", upload->model->registered);
    *ret_version = version;
    return 0;
}

int fl_mlflow_model(struct fl_tracker *tracker, const struct fl_tracked_model *model,
                    struct fl_arena *arena, struct fl_tracked_version *ret_version,
                    struct fl_error *err)
{
    struct upload upload = {.mlflow = (struct fl_mlflow *)tracker, .model = model, .arena = arena};
    const json_t *found = NULL;
    const char *version = NULL;
    bool known = false;
    int r = find_logged(&upload, &known, &found, err);

    if (r == 0)
        r = known ? ensure_logged(&upload, found, err) : ensure_files(&upload, err);
    if (r == 0)
        r = ensure_version(&upload, &version, err);
    if (r < 0)
        return r;
    *ret_version = (struct fl_tracked_version){
        .model_id = upload.model_id,
        .version = version,
        .url = fl_arena_printf(arena, "%s/#/models/%s/versions/%s", upload.mlflow->url,
                               fl_url_encode(arena, model->registered), version)};
    return 0;
}
