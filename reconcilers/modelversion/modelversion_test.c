/* The ModelVersion kind on a real API server in simulated time, with a real content store. */
#include "reconcilers/modelversion/modelversion.h"

#include "api/gen/crds_embedded.h"
#include "controller/client/client_testing.h"
#include "controller/registry/index.h"
#include "controller/registry/registry.h"
#include "lib/file.h"
#include "reconcilers/modelversion/collect.h"
#include "reconcilers/modelversion/controller.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define API      "/apis/flops.dev/v1alpha1/namespaces/default"
#define PROJECTS API "/flprojects"
#define VERSIONS API "/modelversions"
#define GRACE_MS 10000

struct rig {
    struct fl_plane *plane;
    struct fl_manager *manager;
    struct fl_contents *contents;
    struct fl_modelversion_controller *controller;
    struct fl_arena *arena;
    struct fl_reconcile rc; /* what makes versions */
    char path[64];
};

static int setup(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));
    const char *definitions[FL_EMBEDDED_CRD_COUNT];
    const struct fl_plane_options options = {.simulated = true,
                                             .seed = 1,
                                             .definitions = definitions,
                                             .definition_count = FL_EMBEDDED_CRD_COUNT};
    struct fl_contents_options contents = {.path = rig->path, .grace_ms = GRACE_MS};
    struct fl_manager_options manager = {0};

    for (size_t i = 0; i < FL_EMBEDDED_CRD_COUNT; i++)
        definitions[i] = fl_embedded_crds[i].json;
    assert_int_equal(fl_plane_create(&options, &rig->plane, NULL), 0);
    (void)snprintf(rig->path, sizeof(rig->path), "/tmp/flops-versions-XXXXXX");
    assert_non_null(mkdtemp(rig->path));
    contents.env = manager.env = &rig->plane->env;
    manager.client = rig->plane->client;
    assert_int_equal(fl_contents_open(&contents, &rig->contents, NULL), 0);
    assert_int_equal(fl_manager_create(&manager, &rig->manager, NULL), 0);
    assert_int_equal(
        fl_modelversion_controller_create(rig->manager, rig->contents, &rig->controller, NULL), 0);
    rig->arena = fl_arena_create();
    rig->rc = (struct fl_reconcile){.arena = rig->arena, .client = rig->plane->client};
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    fl_manager_destroy(rig->manager);
    fl_modelversion_controller_destroy(rig->controller);
    fl_contents_close(rig->contents);
    fl_plane_destroy(rig->plane);
    assert_int_equal(fl_dir_remove(rig->path, NULL), 0);
    fl_arena_destroy(rig->arena);
    free(rig);
    return 0;
}

/* Until nothing is to be done at this time. */
static void settle(struct rig *rig)
{
    size_t done, turns = 0;

    do {
        assert_true(fl_plane_settle(rig->plane));
        done = fl_manager_pump(rig->manager);
        for (size_t i = 0; i < fl_manager_controller_count(rig->manager); i++)
            while (fl_controller_process_next(fl_manager_controller(rig->manager, i)))
                done++;
        assert_true(++turns < 1000);
    } while (done > 0);
}

static void run_for(struct rig *rig, int64_t ms)
{
    for (int64_t at = 0; at < ms; at += 250) {
        settle(rig);
        assert_true(fl_plane_advance(rig->plane, 250));
    }
    settle(rig);
}

static json_t *ask(struct rig *rig, const char *method, const char *target, const json_t *body,
                   struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = body ? fl_json_to_bytes(body) : NULL;
    const struct fl_api_call call = {.method = method,
                                     .target = target,
                                     .content_type = strcmp(method, "PATCH") == 0
                                                         ? "application/merge-patch+json"
                                                         : "application/json",
                                     .body = text ? text->data : NULL,
                                     .body_len = text ? text->len : 0};
    json_t *answer = NULL;

    if (fl_apiclient_call(rig->plane->client, &call, &answer, err) < 0)
        return NULL;
    return fl_json_in_arena(rig->arena, answer);
}

static json_t *get(struct rig *rig, const char *target)
{
    return ask(rig, "GET", target, NULL, NULL);
}

static const char *put_content(struct rig *rig, const char *text)
{
    char digest[FL_DIGEST_SIZE];

    assert_int_equal(
        fl_blobs_put(fl_contents_blobs(rig->contents), text, strlen(text), false, digest, NULL), 0);
    return fl_arena_strdup(rig->arena, digest);
}

/* The meta of an FLProject. */
static const struct fl_object_meta *make_project(struct rig *rig, const char *name, int limit)
{
    FL_JSON object = json_loads(
        "{\"apiVersion\":\"flops.dev/v1alpha1\",\"kind\":\"FLProject\",\"metadata\":{},\"spec\":"
        "{\"source\":{\"builtin\":{\"trainer\":\"MLP\"}},\"data\":{\"tags\":[\"x\"]},\"training\":{"
        "\"rounds\":3}}}",
        0, NULL);
    struct fl_object_meta *meta = fl_new(rig->arena, struct fl_object_meta);
    struct fl_error err = {0};
    json_t *live;

    (void)json_object_set_new(json_object_get(object, "metadata"), "name", json_string(name));
    (void)json_object_set_new(json_object_get(object, "spec"), "modelHistoryLimit",
                              json_integer(limit));
    live = ask(rig, "POST", PROJECTS, object, &err);
    if (!live)
        fail_msg("%s", err.msg);
    meta->name = fl_json_str(live, "metadata.name");
    meta->namespace = "default";
    meta->uid = fl_json_str(live, "metadata.uid");
    return meta;
}

static const char *make_version(struct rig *rig, const struct fl_object_meta *project,
                                int64_t round, const char *digest)
{
    const struct fl_modelversion_spec spec = {.round = round,
                                              .digest = digest,
                                              .format = FL_MODELVERSION_FORMAT_SAFETENSORS,
                                              .has_lineage = true,
                                              .lineage = {.strategy = "FedAvg"}};
    struct fl_error err = {0};
    const char *name = NULL;

    if (fl_model_version_make(&rig->rc, project, &spec, &name, &err) < 0)
        fail_msg("%s", err.msg);
    return name;
}

static json_t *version_of(struct rig *rig, const char *name)
{
    return get(rig, fl_arena_printf(rig->arena, VERSIONS "/%s", name));
}

static void assert_ready(struct rig *rig, const char *name, const char *status, const char *reason)
{
    json_t *condition;
    size_t i;

    json_array_foreach(fl_json_path(version_of(rig, name), "status.conditions"), i, condition) {
        if (strcmp(fl_json_str(condition, "type"), "Ready") != 0)
            continue;
        assert_string_equal(fl_json_str(condition, "status"), status);
        assert_string_equal(fl_json_str(condition, "reason"), reason);
        return;
    }
    fail_msg("%s has no condition Ready", name);
}

static const char *aliases_of(struct rig *rig, const char *name)
{
    const json_t *version = version_of(rig, name);

    return fl_json_str(version, "status.aliasSummary") ? fl_json_str(version, "status.aliasSummary")
                                                       : "";
}

static void give_alias(struct rig *rig, const char *name, const char *aliases)
{
    FL_JSON patch = json_pack("{s:{s:o}}", "spec", "aliases", json_loads(aliases, 0, NULL));

    assert_non_null(
        ask(rig, "PATCH", fl_arena_printf(rig->arena, VERSIONS "/%s", name), patch, NULL));
}

static void made_twice_is_made_once(void **state)
{
    struct rig *rig = *state;
    const struct fl_object_meta *project = make_project(rig, "mnist", 10);
    const char *digest = put_content(rig, "a model"), *other = put_content(rig, "another");
    const char *name = make_version(rig, project, 3, digest), *again;
    const struct fl_modelversion_spec different = {.round = 3, .digest = other};
    struct fl_error err = {0};
    const json_t *version;

    assert_string_equal(make_version(rig, project, 3, digest), name);
    assert_int_equal(fl_model_version_make(&rig->rc, project, &different, &again, &err),
                     FL_E_CONFLICT);
    run_for(rig, 1000);
    assert_ready(rig, name, "True", "Stored");
    version = version_of(rig, name);
    assert_string_equal(fl_json_str(version, "status.sizeSummary"), "7 B");
    assert_string_equal(fl_json_str(version, "spec.project.name"), "mnist");
    assert_string_equal(fl_json_str(version, "spec.lineage.strategy"), "FedAvg");
    assert_int_equal(json_array_size(json_object_get(get(rig, VERSIONS), "items")), 1);
    assert_non_null(strstr(fl_json_str(version, "status.uri"), digest));
    /* A pass with nothing to do writes nothing. */
    run_for(rig, 5000);
    assert_string_equal(fl_json_str(version_of(rig, name), "metadata.resourceVersion"),
                        fl_json_str(version, "metadata.resourceVersion"));
}

static void it_goes_with_its_project(void **state)
{
    struct rig *rig = *state;
    const struct fl_object_meta *project = make_project(rig, "mnist", 10);
    const char *name = make_version(rig, project, 1, put_content(rig, "a model"));

    run_for(rig, 1000);
    assert_non_null(ask(rig, "DELETE", PROJECTS "/mnist", NULL, NULL));
    run_for(rig, 5000);
    assert_null(version_of(rig, name));
}

static void missing_content_is_told_and_found_later(void **state)
{
    struct rig *rig = *state;
    const struct fl_object_meta *project = make_project(rig, "mnist", 10);
    char digest[FL_DIGEST_SIZE];
    const char *name;

    fl_digest_of("late", 4, digest);
    name = make_version(rig, project, 1, digest);
    run_for(rig, 1000);
    assert_ready(rig, name, "False", "ContentMissing");
    assert_string_equal(put_content(rig, "late"), digest);
    run_for(rig, 10000);
    assert_ready(rig, name, "True", "Stored");
}

static void an_alias_is_one_models(void **state)
{
    struct rig *rig = *state;
    const struct fl_object_meta *mnist = make_project(rig, "mnist", 10);
    const struct fl_object_meta *other = make_project(rig, "other", 10);
    const char *digest = put_content(rig, "a model"), *names[3], *stranger;

    for (int64_t i = 0; i < 3; i++)
        names[i] = make_version(rig, mnist, i + 1, digest);
    stranger = make_version(rig, other, 1, digest);
    give_alias(rig, names[1], "[\"best\", \"mine\"]");
    give_alias(rig, stranger, "[\"best\"]");
    run_for(rig, 2000);
    assert_string_equal(aliases_of(rig, names[1]), "best,mine");
    run_for(rig, 2000);
    give_alias(rig, names[0], "[\"best\"]"); /* an older round, but a newer claim */
    run_for(rig, 1000);
    assert_string_equal(aliases_of(rig, names[1]), "best,mine"); /* it may be half of a move */
    run_for(rig, 4000);
    assert_string_equal(aliases_of(rig, names[0]), "best");
    assert_string_equal(aliases_of(rig, names[1]), "mine");
    assert_string_equal(aliases_of(rig, stranger), "best"); /* of another project */
    assert_int_equal(json_array_size(fl_json_path(version_of(rig, names[1]), "spec.aliases")), 1);
    /* In one second: the later round has it. */
    give_alias(rig, names[0], "[\"fine\"]");
    give_alias(rig, names[2], "[\"fine\"]");
    run_for(rig, 5000);
    assert_string_equal(aliases_of(rig, names[2]), "fine");
    assert_string_equal(aliases_of(rig, names[0]), "");
}

static void aliases_are_moved(void **state)
{
    struct rig *rig = *state;
    const struct fl_object_meta *project = make_project(rig, "mnist", 10);
    const char *digest = put_content(rig, "a model"), *names[2];
    struct fl_error err = {0};

    for (int64_t i = 0; i < 2; i++)
        names[i] = make_version(rig, project, i + 1, digest);
    give_alias(rig, names[1], "[\"best\", \"mine\"]");
    /* Within one second, to an earlier round: without waiting for the controller. */
    assert_int_equal(
        fl_model_version_alias(rig->plane->client, "default", "mnist", "best", names[0], &err), 0);
    assert_int_equal(
        fl_model_version_alias(rig->plane->client, "default", "mnist", "best", names[0], &err), 0);
    run_for(rig, 2000);
    assert_string_equal(aliases_of(rig, names[0]), "best");
    assert_string_equal(aliases_of(rig, names[1]), "mine");
    assert_int_equal(
        fl_model_version_alias(rig->plane->client, "default", "mnist", "best", "none", &err),
        FL_E_NOT_FOUND);
}

/* Besides those with an alias, or which are to be kept, and always the newest. */
static void history_is_limited(void **state)
{
    struct rig *rig = *state;
    const struct fl_object_meta *project = make_project(rig, "mnist", 2);
    const char *digest = put_content(rig, "a model"), *names[7];
    FL_JSON keep = json_pack("{s:{s:b}}", "spec", "keep", 1);
    FL_JSON none = json_pack("{s:{s:i}}", "spec", "modelHistoryLimit", 0);

    for (int64_t i = 0; i < 7; i++) {
        names[i] = make_version(rig, project, i, digest);
        if (i == 0)
            give_alias(rig, names[i], "[\"first\"]");
        if (i == 2)
            assert_non_null(ask(rig, "PATCH", fl_arena_printf(rig->arena, VERSIONS "/%s", names[i]),
                                keep, NULL));
    }
    run_for(rig, 3000);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(version_of(rig, names[i]) != NULL, i == 0 || i == 2 || i >= 5);
    assert_non_null(ask(rig, "PATCH", PROJECTS "/mnist", none, NULL));
    run_for(rig, 3000);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(version_of(rig, names[i]) != NULL, i == 0 || i == 2 || i == 6);
}

static struct fl_swept collect_with(struct rig *rig, struct fl_repositories *repositories)
{
    struct fl_error err = {0};
    struct fl_swept swept;

    if (fl_content_collect(rig->plane->client, rig->contents, repositories, &swept, &err) < 0)
        fail_msg("%s", err.msg);
    return swept;
}

static struct fl_swept collect(struct rig *rig)
{
    return collect_with(rig, NULL);
}

static void content_without_an_object_is_collected(void **state)
{
    struct rig *rig = *state;
    const struct fl_object_meta *project = make_project(rig, "mnist", 10);
    const char *named = put_content(rig, "a model"), *unnamed = put_content(rig, "nobody's");
    struct fl_blobs *blobs = fl_contents_blobs(rig->contents);
    const char *name = make_version(rig, project, 1, named);

    assert_int_equal(collect(rig).waiting, 1);
    run_for(rig, GRACE_MS + 1000);
    assert_int_equal(collect(rig).removed, 1);
    assert_false(fl_blobs_has(blobs, unnamed));
    assert_true(fl_blobs_has(blobs, named));
    assert_non_null(
        ask(rig, "DELETE", fl_arena_printf(rig->arena, VERSIONS "/%s", name), NULL, NULL));
    run_for(rig, 1000);
    assert_int_equal(collect(rig).waiting, 1);
    run_for(rig, GRACE_MS + 1000);
    assert_int_equal(collect(rig).removed, 1);
    assert_int_equal(fl_blobs_stats(blobs).count, 0);
}

/* Content goes when neither an object nor a repository holds it any more. */
static void what_a_repository_holds_stays(void **state)
{
    struct rig *rig = *state;
    const char *path = fl_arena_printf(rig->arena, "%s/registry.db", rig->path);
    const struct fl_repositories_options options = {
        .env = &rig->plane->env, .contents = rig->contents, .path = path, .grace_ms = 2 * GRACE_MS};
    const char *held = put_content(rig, "a layer"), *loose = put_content(rig, "nobody's");
    struct fl_blobs *blobs = fl_contents_blobs(rig->contents);
    struct fl_repositories *repositories;
    struct fl_repos_index *index;

    assert_int_equal(fl_repos_index_open(&rig->plane->env, path, &index, NULL), 0);
    assert_int_equal(fl_repos_index_add_blob(index, "team/app", held, 7, NULL), 0);
    fl_repos_index_close(index);
    assert_int_equal(fl_repositories_open(&options, &repositories, NULL), 0);
    assert_int_equal(collect_with(rig, repositories).waiting, 1);
    run_for(rig, GRACE_MS + 1000);
    assert_int_equal(collect_with(rig, repositories).removed, 1);
    assert_false(fl_blobs_has(blobs, loose));
    run_for(rig, 2 * GRACE_MS);
    assert_int_equal(collect_with(rig, repositories).waiting, 1); /* its row is gone */
    run_for(rig, GRACE_MS + 1000);
    assert_int_equal(collect_with(rig, repositories).removed, 1);
    fl_repositories_close(repositories);
}

static int refuse_rounds(void *user, const struct fl_client_moment *moment)
{
    (void)user;
    return !moment->after && moment->use == FL_CLIENT_LIST &&
                   strcmp(moment->gvr->plural, "flrounds") == 0
               ? FL_E_UNAVAILABLE
               : 0;
}

static void half_a_look_collects_nothing(void **state)
{
    struct rig *rig = *state;
    struct fl_client_faults faults = {.moment = refuse_rounds};
    FL_CLEANUP(fl_apiclient_destroyp)
    struct fl_apiclient *client =
        fl_apiclient_create_faulty(&rig->plane->env, rig->plane->client, &faults);
    struct fl_error err = {0};
    struct fl_swept swept;

    (void)put_content(rig, "nobody's");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fl_content_collect(client, rig->contents, NULL, &swept, &err),
                         FL_E_UNAVAILABLE);
        run_for(rig, GRACE_MS + 1000);
    }
    assert_int_equal(fl_blobs_stats(fl_contents_blobs(rig->contents)).count, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(made_twice_is_made_once),
        TEST(it_goes_with_its_project),
        TEST(missing_content_is_told_and_found_later),
        TEST(an_alias_is_one_models),
        TEST(aliases_are_moved),
        TEST(history_is_limited),
        TEST(content_without_an_object_is_collected),
        TEST(what_a_repository_holds_stays),
        TEST(half_a_look_collects_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
