/* What every tracker must do: `fake`, and `mlflow` against a small server here that speaks as much
 * of MLflow's API as we ask for, as 2.x and as 3.x. And how `mlflow` words what goes wrong. */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "lib/file.h"
#include "lib/http_server.h"
#include "lib/log.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "reconcilers/tracking/mlflow.h"
#include "reconcilers/tracking/tracker_fake.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 3 /* of a metric's history: short, so that there are many */

enum kind { FAKE, MLFLOW_2, MLFLOW_3 };

struct rig {
    enum kind kind;
    struct fl_arena *arena, *served; /* of the test; of the server, which is a thread of its own */
    struct fl_env env;
    struct fl_loop *loop;
    struct fl_http_server *server;
    struct fl_thread *thread;
    struct fl_fake_tracker *fake;
    struct fl_tracker *tracker;
    char folder[64];
    /* The server's. Its loop's thread, and the test's between two calls. */
    json_t *experiments, *runs, *models, *versions, *aliases, *files;
    int64_t made;
    const char *authorization; /* that it asks for; NULL: none */
    int says;                  /* a status that it answers to all; 0: as it should */
    const char *says_body;
    int loses, asked; /* every how manyth answer is lost; 0: none */
    int puts;
    bool loses_puts; /* every second one's answer says that nobody knows */
};

/* --- the server ---------------------------------------------------------------------------------
 */

static void answer(struct rig *rig, struct fl_http_request *request, int status, json_t *body)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_json_to_bytes(body);

    if (rig->loses > 0 && ++rig->asked % rig->loses == 0)
        fl_http_abort(request); /* it was done, and nobody is told */
    else
        fl_http_respond(request, status, "application/json", text->data, text->len);
    json_decref(body);
}

static void refuse(struct rig *rig, struct fl_http_request *request, int status, const char *code)
{
    answer(rig, request, status,
           json_pack("{s:s, s:s}", "error_code", code, "message", "as the server words it"));
}

static json_t *find(const json_t *items, const char *path, const char *value)
{
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)items, i, item)
        if (fl_streq(fl_json_str(item, path), value))
            return item;
    return NULL;
}

static const char *pair_of(const json_t *pairs, const char *key)
{
    return fl_json_str(find(pairs, "key", key), "value");
}

static void put_pair(json_t *pairs, const char *key, const char *value)
{
    json_t *has = find(pairs, "key", key);

    if (has)
        fl_json_set_str(has, "value", value);
    else
        (void)json_array_append_new(pairs, json_pack("{s:s, s:s}", "key", key, "value", value));
}

static const char *query(struct rig *rig, struct fl_http_request *request, const char *name)
{
    const char *rest = fl_http_query(request), *part;
    size_t len = strlen(name);

    while ((part = fl_str_next(rig->served, &rest, '&')))
        if (strncmp(part, name, len) == 0 && part[len] == '=')
            return fl_url_decode(rig->served, part + len + 1, strlen(part + len + 1), true);
    return NULL;
}

static void on_experiments(struct rig *rig, struct fl_http_request *request, const json_t *body,
                           const char *path)
{
    const char *name = body ? fl_json_str(body, "name") : query(rig, request, "experiment_name");
    json_t *has = find(rig->experiments, "name", name);

    if (strcmp(path, "experiments/get-by-name") == 0 && !has) {
        refuse(rig, request, 404, "RESOURCE_DOES_NOT_EXIST");
    } else if (!body) {
        answer(rig, request, 200, json_pack("{s:O}", "experiment", has));
    } else if (has) {
        refuse(rig, request, 400, "RESOURCE_ALREADY_EXISTS");
    } else {
        (void)json_array_append_new(rig->experiments,
                                    json_pack("{s:s, s:o, s:s}", "name", name, "experiment_id",
                                              json_sprintf("%" PRId64, ++rig->made),
                                              "lifecycle_stage", "active"));
        answer(rig, request, 200,
               json_pack("{s:o}", "experiment_id", json_sprintf("%" PRId64, rig->made)));
    }
}

static void create_run(struct rig *rig, struct fl_http_request *request, const json_t *body)
{
    const char *id = fl_arena_printf(rig->served, "%032" PRIx64, ++rig->made);
    json_t *run =
        json_pack("{s:{s:s, s:s, s:s, s:O, s:o}, s:{s:O, s:[], s:[]}}", "info", "run_id", id,
                  "status", "RUNNING", "experiment_id", fl_json_str(body, "experiment_id"),
                  "run_name", json_object_get(body, "run_name"), "artifact_uri",
                  json_sprintf("mlflow-artifacts:/1/%s/artifacts", id), "data", "tags",
                  json_object_get(body, "tags"), "params", "metrics");

    (void)json_array_append_new(rig->runs, run);
    answer(rig, request, 200, json_pack("{s:O}", "run", run));
}

/* tags.`KEY` = 'VALUE' */
static bool is_meant(struct rig *rig, const json_t *tags, const char *filter)
{
    const char *rest = filter, *key, *value;

    (void)fl_str_next(rig->served, &rest, '`');
    key = fl_str_next(rig->served, &rest, '`');
    (void)fl_str_next(rig->served, &rest, '\'');
    value = fl_str_next(rig->served, &rest, '\'');
    return key && value && fl_streq(pair_of(tags, key), value);
}

static json_t *search(struct rig *rig, const json_t *items, const char *tags, const char *filter)
{
    json_t *found = json_array(), *item;
    size_t i;

    json_array_foreach((json_t *)items, i, item)
        if (!fl_json_bool(item, "deleted", false) &&
            is_meant(rig, fl_json_path(item, tags), filter))
            (void)json_array_append(found, item);
    return found;
}

static void log_batch(json_t *run, const json_t *body)
{
    json_t *metrics = fl_json_path(run, "data.metrics"), *item, *has;
    size_t i, n;

    json_array_foreach(json_object_get(body, "params"), i, item)
        put_pair(fl_json_path(run, "data.params"), fl_json_str(item, "key"),
                 fl_json_str(item, "value"));
    json_array_foreach(json_object_get(body, "tags"), i, item)
        put_pair(fl_json_path(run, "data.tags"), fl_json_str(item, "key"),
                 fl_json_str(item, "value"));
    json_array_foreach(json_object_get(body, "metrics"), i, item) {
        bool known = false;

        json_array_foreach(metrics, n, has)
            known = known || json_equal(has, item);
        if (!known)
            (void)json_array_append(metrics, item);
    }
}

static bool add_outputs(json_t *run, const json_t *body)
{
    const json_t *model = json_array_get(json_object_get(body, "models"), 0);
    json_t *list = fl_json_path(run, "outputs.model_outputs");

    if (find(list, "model_id", fl_json_str(model, "model_id")))
        return false;
    if (!list)
        (void)json_object_set_new(run, "outputs", json_pack("{s:[O]}", "model_outputs", model));
    else
        (void)json_array_append(list, (json_t *)model);
    return true;
}

static void on_runs(struct rig *rig, struct fl_http_request *request, const json_t *body,
                    const char *path)
{
    const char *id = body ? fl_json_str(body, "run_id") : query(rig, request, "run_id");
    json_t *run = find(rig->runs, "info.run_id", id);

    if (strcmp(path, "runs/create") == 0) {
        create_run(rig, request, body);
        return;
    }
    if (strcmp(path, "runs/search") == 0) {
        answer(rig, request, 200,
               json_pack("{s:o}", "runs",
                         search(rig, rig->runs, "data.tags", fl_json_str(body, "filter"))));
        return;
    }
    if (!run) {
        refuse(rig, request, 404, "RESOURCE_DOES_NOT_EXIST");
        return;
    }
    if (strcmp(path, "runs/get") == 0) {
        answer(rig, request, 200, json_pack("{s:O}", "run", run));
        return;
    }
    if (strcmp(path, "runs/log-batch") == 0)
        log_batch(run, body);
    else if (strcmp(path, "runs/update") == 0)
        (void)json_object_set(json_object_get(run, "info"), "status",
                              json_object_get(body, "status"));
    else if (strcmp(path, "runs/set-tag") == 0)
        put_pair(fl_json_path(run, "data.tags"), fl_json_str(body, "key"),
                 fl_json_str(body, "value"));
    else if (strcmp(path, "runs/delete") == 0)
        (void)json_object_set_new(run, "deleted", json_true());
    else if (strcmp(path, "runs/outputs") == 0 && !add_outputs(run, body)) {
        refuse(rig, request, 400, "BAD_REQUEST"); /* as it is: its database says "not unique" */
        return;
    }
    answer(rig, request, 200, json_object());
}

static void on_history(struct rig *rig, struct fl_http_request *request)
{
    const json_t *run = find(rig->runs, "info.run_id", query(rig, request, "run_id"));
    const char *key = query(rig, request, "metric_key"), *token = query(rig, request, "page_token");
    json_t *all = json_array(), *page = json_array(), *metric, *body;
    size_t i, from = token ? (size_t)strtoul(token, NULL, 10) : 0;

    json_array_foreach(fl_json_path(run, "data.metrics"), i, metric)
        if (fl_streq(fl_json_str(metric, "key"), key))
            (void)json_array_append(all, metric);
    for (i = from; i < from + PAGE && i < json_array_size(all); i++)
        (void)json_array_append(page, json_array_get(all, i));
    body = json_pack("{s:o}", "metrics", page);
    if (from + PAGE < json_array_size(all))
        (void)json_object_set_new(body, "next_page_token", json_sprintf("%zu", from + PAGE));
    json_decref(all);
    answer(rig, request, 200, body);
}

static void on_logged(struct rig *rig, struct fl_http_request *request, const json_t *body,
                      const char *path)
{
    const char *id = path + strlen("logged-models");
    json_t *model;

    if (rig->kind == MLFLOW_2) {
        fl_http_respond(request, 404, "text/html", "<html>", strlen("<html>"));
    } else if (strcmp(id, "/search") == 0) {
        answer(rig, request, 200,
               json_pack("{s:o}", "models",
                         search(rig, rig->models, "info.tags", fl_json_str(body, "filter"))));
    } else if (*id) {
        model = find(rig->models, "info.model_id", id + 1);
        (void)json_object_set(json_object_get(model, "info"), "status",
                              json_object_get(body, "status"));
        answer(rig, request, 200, json_object());
    } else {
        id = fl_arena_printf(rig->served, "m-%" PRId64, ++rig->made);
        model = json_pack("{s:{s:s, s:s, s:o, s:O}}", "info", "model_id", id, "status",
                          "LOGGED_MODEL_PENDING", "artifact_uri",
                          json_sprintf("mlflow-artifacts:/1/models/%s/artifacts", id), "tags",
                          json_object_get(body, "tags"));
        (void)json_array_append_new(rig->models, model);
        answer(rig, request, 200, json_pack("{s:O}", "model", model));
    }
}

static void on_alias(struct rig *rig, struct fl_http_request *request, const json_t *body)
{
    const char *alias = body ? fl_json_str(body, "alias") : query(rig, request, "alias");
    const char *version;

    if (body) {
        (void)json_object_set(rig->aliases, alias, json_object_get(body, "version"));
        answer(rig, request, 200, json_object());
        return;
    }
    version = fl_json_str(rig->aliases, alias);
    if (version)
        answer(rig, request, 200,
               json_pack("{s:O}", "model_version", find(rig->versions, "version", version)));
    else
        refuse(rig, request, 400, "INVALID_PARAMETER_VALUE");
}

static void on_registry(struct rig *rig, struct fl_http_request *request, const json_t *body,
                        const char *path)
{
    json_t *version;

    if (strcmp(path, "registered-models/alias") == 0) {
        on_alias(rig, request, body);
    } else if (strcmp(path, "registered-models/get") == 0 && !json_object_get(rig->aliases, "")) {
        refuse(rig, request, 404, "RESOURCE_DOES_NOT_EXIST");
    } else if (strcmp(path, "registered-models/create") == 0) {
        (void)json_object_set_new(rig->aliases, "", json_true()); /* it is there */
        answer(rig, request, 200, json_object());
    } else if (strcmp(path, "model-versions/search") == 0) {
        answer(rig, request, 200, json_pack("{s:O}", "model_versions", rig->versions));
    } else if (strcmp(path, "model-versions/create") == 0) {
        version = json_deep_copy(body);
        (void)json_object_set_new(version, "version",
                                  json_sprintf("%zu", json_array_size(rig->versions) + 1));
        (void)json_array_append_new(rig->versions, version);
        answer(rig, request, 200, json_pack("{s:O}", "model_version", version));
    } else {
        answer(rig, request, 200, json_object());
    }
}

static void put_file(struct rig *rig, struct fl_http_request *request, const char *path)
{
    size_t len;
    const char *body = fl_http_body(request, &len);

    (void)json_object_set_new(rig->files, path, json_stringn(body, len));
    answer(rig, request, rig->puts++ % 2 == 0 && rig->loses_puts ? 503 : 200, json_object());
}

static void list_files(struct rig *rig, struct fl_http_request *request)
{
    const char *folder = query(rig, request, "path"), *path;
    json_t *found = json_array(), *value;
    size_t len = strlen(folder);

    json_object_foreach(rig->files, path, value)
        if (strncmp(path, folder, len) == 0 && path[len] == '/')
            (void)json_array_append_new(found, json_pack("{s:s, s:b, s:I}", "path", path + len + 1,
                                                         "is_dir", 0, "file_size",
                                                         (json_int_t)json_string_length(value)));
    answer(rig, request, 200, json_pack("{s:o}", "files", found));
}

static void serve(struct rig *rig, struct fl_http_request *request, const json_t *body)
{
    static const char api[] = "/api/2.0/mlflow/", files[] = "/api/2.0/mlflow-artifacts/artifacts/";
    const char *path = fl_http_path(request);

    if (fl_str_has_prefix(path, files)) {
        put_file(rig, request, path + strlen(files));
        return;
    }
    if (strncmp(path, files, strlen(files) - 1) == 0) {
        list_files(rig, request);
        return;
    }
    path += fl_str_has_prefix(path, api) ? strlen(api) : 0;
    if (fl_str_has_prefix(path, "experiments/"))
        on_experiments(rig, request, body, path);
    else if (fl_str_has_prefix(path, "runs/"))
        on_runs(rig, request, body, path);
    else if (fl_str_has_prefix(path, "metrics/"))
        on_history(rig, request);
    else if (fl_str_has_prefix(path, "logged-models"))
        on_logged(rig, request, body, path);
    else
        on_registry(rig, request, body, path);
}

static void handle(void *user, struct fl_http_request *request)
{
    struct rig *rig = user;
    FL_JSON body = NULL;
    size_t len;
    const char *text = fl_http_body(request, &len);

    if (rig->authorization &&
        !fl_streq(fl_http_header(request, "Authorization"), rig->authorization)) {
        refuse(rig, request, 401, "UNAUTHENTICATED");
    } else if (rig->says) {
        fl_http_respond(request, rig->says, "text/html", rig->says_body, strlen(rig->says_body));
    } else {
        if (len > 0 && strcmp(fl_http_method(request), "PUT") != 0)
            assert_int_equal(fl_json_parse(text, len, NULL, NULL, NULL, &body, NULL), 0);
        serve(rig, request, body);
    }
}

/* --- the rig ------------------------------------------------------------------------------------
 */

static void run(void *user)
{
    fl_loop_run(((struct rig *)user)->loop);
}

static void start_server(struct rig *rig)
{
    struct fl_http_server_options options = {
        .env = &rig->env, .address = "127.0.0.1", .handler = handle, .user = rig};
    struct fl_error err = {0};

    assert_int_equal(fl_loop_create(&rig->loop, &err), 0);
    options.loop = rig->loop;
    assert_int_equal(fl_http_server_create(&options, &rig->server, &err), 0);
    assert_int_equal(fl_thread_start("mlflow", run, rig, &rig->thread, &err), 0);
}

static void open_session(struct rig *rig, const char *username, const char *password,
                         const char *token)
{
    struct fl_tracker_server server = {
        .url = "fake", .username = username, .password = password, .token = token};
    const struct fl_tracker_options options = {.env = &rig->env, .server = &server};
    struct fl_error err = {0};

    fl_tracker_destroy(rig->tracker);
    if (rig->kind == FAKE) {
        assert_int_equal(fl_tracker_fake_open(rig->fake, &options, &rig->tracker, &err), 0);
        return;
    }
    server.url =
        fl_arena_printf(rig->arena, "http://127.0.0.1:%u", fl_http_server_port(rig->server));
    assert_int_equal(fl_tracker_mlflow_open(NULL, &options, &rig->tracker, &err), 0);
}

static void make_folder(struct rig *rig)
{
    static const char *const names[] = {"MLmodel", "model.onnx"};
    struct fl_error err = {0};

    (void)snprintf(rig->folder, sizeof(rig->folder), "/tmp/flops-tracker-XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    for (size_t i = 0; i < FL_COUNT_OF(names); i++)
        assert_int_equal(fl_file_write(fl_arena_printf(rig->arena, "%s/%s", rig->folder, names[i]),
                                       names[i], strlen(names[i]), 0600, &err),
                         0);
}

static void rig_begin(struct rig *rig, enum kind kind)
{
    *rig = (struct rig){.kind = kind,
                        .arena = fl_arena_create(),
                        .served = fl_arena_create(),
                        .fake = fl_fake_tracker_create(),
                        .experiments = json_array(),
                        .runs = json_array(),
                        .models = json_array(),
                        .versions = json_array(),
                        .aliases = json_object(),
                        .files = json_object()};
    rig->env = fl_env_real(fl_log_create(STDERR_FILENO, FL_LOG_ERROR, false));
    make_folder(rig);
    if (kind != FAKE)
        start_server(rig);
    open_session(rig, NULL, NULL, NULL);
}

static void rig_finish(struct rig *rig)
{
    fl_tracker_destroy(rig->tracker);
    fl_fake_tracker_destroy(rig->fake);
    if (rig->loop) {
        fl_loop_stop(rig->loop);
        fl_thread_join(rig->thread);
        fl_http_server_destroy(rig->server);
        fl_loop_destroy(rig->loop);
    }
    json_decref(rig->experiments);
    json_decref(rig->runs);
    json_decref(rig->models);
    json_decref(rig->versions);
    json_decref(rig->aliases);
    json_decref(rig->files);
    (void)fl_dir_remove(rig->folder, NULL);
    fl_log_destroy(rig->env.log);
    fl_arena_destroy(rig->arena);
    fl_arena_destroy(rig->served);
}

/* --- the contract -------------------------------------------------------------------------------
 */

static const char *experiment(struct rig *rig)
{
    const struct fl_string_map none = {0};
    const char *id = NULL;
    struct fl_error err = {0};

    if (rig->tracker->ops->experiment(rig->tracker, "team/digits", &none, rig->arena, &id, &err) <
        0)
        fail_msg("%s", err.msg);
    return id;
}

static struct fl_tracked_run make_run(struct rig *rig, const char *value)
{
    struct fl_string_pair tag = {"flops.run", fl_arena_strdup(rig->arena, value)};
    const struct fl_tracked_new_run run = {.name = "run", .start_ms = 1000, .tags = {&tag, 1}};
    struct fl_tracked_run made;
    struct fl_error err = {0};

    if (rig->tracker->ops->create_run(rig->tracker, experiment(rig), &run, rig->arena, &made,
                                      &err) < 0)
        fail_msg("%s", err.msg);
    return made;
}

static int find_run(struct rig *rig, const char *value, struct fl_tracked_run *ret_run)
{
    struct fl_error err = {0};

    return rig->tracker->ops->find_run(rig->tracker, experiment(rig), "flops.run", value,
                                       rig->arena, ret_run, &err);
}

static void check_runs(struct rig *rig)
{
    struct fl_tracked_run made, found;
    struct fl_error err = {0};

    assert_string_equal(experiment(rig), experiment(rig));
    assert_int_equal(find_run(rig, "uid-1", &found), FL_E_NOT_FOUND);
    made = make_run(rig, "uid-1");
    assert_int_equal(find_run(rig, "uid-1", &found), 0);
    assert_string_equal(found.id, made.id);
    assert_int_equal(found.status, FL_TRACKED_RUNNING);
    assert_string_equal(fl_string_map_get(&found.tags, "flops.run"), "uid-1");
    assert_int_equal(find_run(rig, "uid-2", &found), FL_E_NOT_FOUND);
    assert_int_equal(
        rig->tracker->ops->set_status(rig->tracker, made.id, FL_TRACKED_FINISHED, 2000, &err), 0);
    assert_int_equal(find_run(rig, "uid-1", &found), 0);
    assert_int_equal(found.status, FL_TRACKED_FINISHED);
}

static void check_log(struct rig *rig)
{
    struct fl_string_pair param = {"rounds", "3"}, tag = {"color", "green"};
    struct fl_tracked_metric metrics[8];
    const struct fl_tracked_batch batch = {
        .params = {&param, 1}, .tags = {&tag, 1}, .metrics = metrics, .metric_count = 8};
    const struct fl_tracked_dataset data = {"mnist", "0123456789abcdef"};
    struct fl_tracked_run run = make_run(rig, "uid-3"), found;
    struct fl_int_list steps = {0};
    struct fl_error err = {0};

    for (int64_t i = 0; i < 8; i++)
        metrics[i] = (struct fl_tracked_metric){"flops.round", (double)i, 1000 + i, 8 - i};
    for (int again = 0; again < 2; again++)
        assert_int_equal(rig->tracker->ops->log(rig->tracker, run.id, &batch, &err), 0);
    assert_int_equal(
        rig->tracker->ops->steps(rig->tracker, run.id, "flops.round", rig->arena, &steps, &err), 0);
    assert_int_equal(steps.count, 8); /* the same again is none more */
    for (size_t i = 0; i < steps.count; i++)
        assert_int_equal(steps.items[i], i + 1);
    assert_int_equal(
        rig->tracker->ops->steps(rig->tracker, run.id, "other", rig->arena, &steps, &err), 0);
    assert_int_equal(steps.count, 0);
    assert_int_equal(find_run(rig, "uid-3", &found), 0);
    assert_string_equal(fl_string_map_get(&found.params, "rounds"), "3");
    assert_string_equal(fl_string_map_get(&found.tags, "color"), "green");
    assert_int_equal(rig->tracker->ops->inputs(rig->tracker, run.id, &data, 1, &err), 0);
}

static int give_folder(void *user, const char **ret_folder, struct fl_error *err)
{
    (void)err;
    *ret_folder = ((struct rig *)user)->folder;
    return 0;
}

static int try_model(struct rig *rig, const struct fl_tracked_run *run, const char *digest,
                     const char *owner, struct fl_tracked_version *ret_version,
                     struct fl_error *err)
{
    static const char *const aliases[] = {"best"};
    struct fl_string_pair tag = {"flops.round", "4"};
    const struct fl_tracked_model model = {.experiment_id = "1",
                                           .run_id = run->id,
                                           .name = "digits",
                                           .key = "flops.digest",
                                           .digest = digest,
                                           .step = 4,
                                           .tags = {&tag, 1},
                                           .make = give_folder,
                                           .user = rig,
                                           .registered = "digits",
                                           .aliases = aliases,
                                           .alias_count = 1,
                                           .owner_key = "flops.uid",
                                           .owner = owner};

    return rig->tracker->ops->model(rig->tracker, &model, rig->arena, ret_version, err);
}

static struct fl_tracked_version put_model(struct rig *rig, const struct fl_tracked_run *run,
                                           const char *digest, const char *owner)
{
    struct fl_tracked_version version = {0};
    struct fl_error err = {0};

    if (try_model(rig, run, digest, owner, &version, &err) < 0)
        fail_msg("%s", err.msg);
    return version;
}

static const char *alias_of(struct rig *rig)
{
    return rig->kind == FAKE
               ? fl_json_str(
                     json_object_get(json_object_get(fl_fake_tracker_state(rig->fake), "aliases"),
                                     "digits/best"),
                     "version")
               : fl_json_str(rig->aliases, "best");
}

static void check_models(struct rig *rig)
{
    struct fl_tracked_run run = make_run(rig, "uid-4"), other = make_run(rig, "uid-5");

    for (int again = 0; again < 2; again++)
        assert_string_equal(put_model(rig, &run, "sha256:aa", "uid-4").version, "1");
    assert_string_equal(alias_of(rig), "1");
    assert_string_equal(put_model(rig, &other, "sha256:bb", "uid-5").version, "2");
    assert_string_equal(alias_of(rig), "2"); /* a new one takes it, and … */
    assert_string_equal(put_model(rig, &run, "sha256:aa", "uid-4").version, "1");
    assert_string_equal(alias_of(rig), "2"); /* … it is not fought for */
}

static void check_contract(enum kind kind)
{
    FL_CLEANUP(rig_finish) struct rig rig;

    rig_begin(&rig, kind);
    check_runs(&rig);
    check_log(&rig);
    check_models(&rig);
}

static void test_fake(void **state)
{
    (void)state;
    check_contract(FAKE);
}

static void test_mlflow_2(void **state)
{
    (void)state;
    check_contract(MLFLOW_2);
}

static void test_mlflow_3(void **state)
{
    (void)state;
    check_contract(MLFLOW_3);
}

/* --- mlflow alone -------------------------------------------------------------------------------
 */

/* Files of a model are where its loaders look; what says that it is one is put last. One whose
 * answer was lost is put again, at once: as often as all begins anew, no large model would ever
 * arrive. */
static void test_files(void **state)
{
    FL_CLEANUP(rig_finish) struct rig rig;
    struct fl_tracked_version version;
    struct fl_tracked_run made;
    json_t *value;
    const char *path, *last = NULL;

    (void)state;
    rig_begin(&rig, MLFLOW_3);
    rig.loses_puts = true;
    made = make_run(&rig, "uid-1");
    version = put_model(&rig, &made, "sha256:aa", "u");
    assert_int_equal(rig.puts, 4);
    assert_string_equal(version.model_id,
                        fl_json_str(json_array_get(rig.models, 0), "info.model_id"));
    assert_int_equal(json_object_size(rig.files), 2);
    json_object_foreach(rig.files, path, value) {
        last = path;
        assert_true(fl_str_has_prefix(path, "1/models/m-"));
        assert_true(fl_str_has_suffix(path, json_string_value(value)));
    }
    assert_true(fl_str_has_suffix(last, "/MLmodel"));
    assert_string_equal(fl_json_str(json_array_get(rig.models, 0), "info.status"),
                        "LOGGED_MODEL_READY");
    assert_non_null(json_object_get(find(rig.runs, "info.run_id", made.id), "outputs"));
}

/* However many answers are lost: each pass comes further, and nothing is doubled or sent again that
 * is there. */
static void check_lost_answers(enum kind kind, int loses)
{
    FL_CLEANUP(rig_finish) struct rig rig;
    struct fl_tracked_version version = {0};
    struct fl_tracked_run run;
    struct fl_error err = {0};
    int r = -1;

    rig_begin(&rig, kind);
    run = make_run(&rig, "uid-1");
    rig.loses = loses;
    for (int pass = 0; pass < 8 && r < 0; pass++) {
        r = try_model(&rig, &run, "sha256:aa", "u", &version, &err);
        if (r < 0 && r != FL_E_UNAVAILABLE)
            fail_msg("%s", err.msg);
    }
    if (r < 0)
        fail_msg("one of %d answers lost, and it never comes to its end: %s", loses, err.msg);
    assert_string_equal(version.version, "1");
    assert_int_equal(json_array_size(rig.versions), 1);
    assert_int_equal(json_array_size(rig.models), kind == MLFLOW_3 ? 1 : 0);
    assert_true(rig.puts <= 4); /* once more at once, and never again */
    assert_string_equal(alias_of(&rig), "1");
}

static void test_lost_answers(void **state)
{
    (void)state;
    for (int loses = 2; loses <= 9; loses++) {
        check_lost_answers(MLFLOW_2, loses);
        check_lost_answers(MLFLOW_3, loses);
    }
}

/* A create whose answer was lost leaves a run that has nothing. */
static void test_doubles(void **state)
{
    FL_CLEANUP(rig_finish) struct rig rig;
    struct fl_tracked_metric metric = {"flops.round", 1, 1000, 1};
    const struct fl_tracked_batch batch = {.metrics = &metric, .metric_count = 1};
    struct fl_tracked_run used, found;
    struct fl_error err = {0};

    (void)state;
    rig_begin(&rig, MLFLOW_3);
    (void)make_run(&rig, "uid-1");
    used = make_run(&rig, "uid-1");
    assert_int_equal(rig.tracker->ops->log(rig.tracker, used.id, &batch, &err), 0);
    assert_int_equal(find_run(&rig, "uid-1", &found), 0);
    assert_string_equal(found.id, used.id);
    assert_true(fl_json_bool(json_array_get(rig.runs, 0), "deleted", false));
    assert_false(fl_json_bool(json_array_get(rig.runs, 1), "deleted", false));
}

static void test_credentials(void **state)
{
    static const struct {
        const char *username, *password, *token, *header;
    } rows[] = {
        {"ann", "secret", NULL, "Basic YW5uOnNlY3JldA=="},
        {NULL, NULL, "abc", "Bearer abc"},
    };
    const struct fl_string_map none = {0};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        FL_CLEANUP(rig_finish) struct rig rig;
        struct fl_error err = {0};
        const char *id;

        rig_begin(&rig, MLFLOW_3);
        rig.authorization = rows[i].header;
        assert_int_equal(
            rig.tracker->ops->experiment(rig.tracker, "e", &none, rig.arena, &id, &err),
            FL_E_UNAUTHORIZED);
        assert_null(strstr(err.msg, "secret"));
        open_session(&rig, rows[i].username, rows[i].password, rows[i].token);
        assert_non_null(experiment(&rig));
    }
}

static void test_wrong_answers(void **state)
{
    static const struct {
        int status;
        const char *body;
        int code;
        const char *word;
    } rows[] = {
        {200, "<html>hello</html>", FL_E_INVALID, "not as MLflow"},
        {200, "[]", FL_E_INVALID, "not as MLflow"},
        {200, "{}", FL_E_INVALID, "has no experiment"},
        {200, "{\"experiment\":{\"experiment_id\":\"1\",\"lifecycle_stage\":\"deleted\"}}",
         FL_E_INVALID, "deleted"},
        {302, "", FL_E_INVALID, "redirect"},
        {403, "{\"error_code\":\"PERMISSION_DENIED\",\"message\":\"no\\nline\"}", FL_E_FORBIDDEN,
         "PERMISSION_DENIED: no line"},
        {404, "nothing here", FL_E_INVALID, "404"},
        {429, "", FL_E_TOO_MANY_REQUESTS, "429"},
        {500, "", FL_E_UNAVAILABLE, "500"},
        {503, "{\"error_code\":1}", FL_E_UNAVAILABLE, "503"},
    };
    const struct fl_string_map none = {0};
    FL_CLEANUP(rig_finish) struct rig rig;

    (void)state;
    rig_begin(&rig, MLFLOW_3);
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct fl_error err = {0};
        const char *id;

        rig.says = rows[i].status;
        rig.says_body = rows[i].body;
        assert_int_equal(
            rig.tracker->ops->experiment(rig.tracker, "e", &none, rig.arena, &id, &err),
            rows[i].code);
        if (!strstr(err.msg, rows[i].word))
            fail_msg("\"%s\" lacks \"%s\"", err.msg, rows[i].word);
    }
}

static void test_nobody(void **state)
{
    const struct fl_tracker_server server = {.url = "http://127.0.0.1:1"};
    const struct fl_tracker_options options = {.server = &server};
    const struct fl_string_map none = {0};
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_tracker_destroyp) struct fl_tracker *tracker = NULL;
    struct fl_error err = {0};
    const char *id;

    (void)state;
    assert_int_equal(fl_tracker_mlflow_open(NULL, &options, &tracker, &err), 0);
    assert_int_equal(tracker->ops->experiment(tracker, "e", &none, arena, &id, &err),
                     FL_E_UNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fake),         cmocka_unit_test(test_mlflow_2),
        cmocka_unit_test(test_mlflow_3),     cmocka_unit_test(test_files),
        cmocka_unit_test(test_lost_answers), cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_credentials),  cmocka_unit_test(test_wrong_answers),
        cmocka_unit_test(test_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
