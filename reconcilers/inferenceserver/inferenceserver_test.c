/* The InferenceServer kind on a real API server in simulated time. What runs Workloads is the test:
 * it says in their status what they would. Routers are fakes with the real rules. */
#include "reconcilers/inferenceserver/inferenceserver.h"

#include "api/gen/crds_embedded.h"
#include "controller/client/client_testing.h"
#include "lib/file.h"
#include "lib/str.h"
#include "reconcilers/inferenceserver/router_fake.h"
#include "reconcilers/modelversion/controller.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define API       "/apis/flops.dev/v1alpha1/namespaces/default"
#define SERVERS   API "/inferenceservers"
#define WORKLOADS API "/workloads"
#define VERSIONS  API "/modelversions"
#define SECRETS   "/api/v1/namespaces/default/secrets"
#define SERVER    SERVERS "/digits"
#define ROUTER    "http://127.0.0.1:31000" /* its admin */

struct rig {
    struct fl_plane *plane;
    struct fl_manager *manager;
    struct fl_contents *contents;
    struct fl_modelversion_controller *versions;
    struct fl_router_driver *routers;
    struct fl_inferenceserver_controller *controller;
    struct fl_arena *arena;
    char path[64];
    bool needs_code; /* models do */
    bool broken;     /* servers that are made do not become ready */
};

static int grant(void *user, const char *digest, struct fl_arena *arena,
                 struct fl_content_grant *ret_grant, struct fl_error *err)
{
    (void)user;
    (void)err;
    *ret_grant =
        (struct fl_content_grant){.url = fl_arena_printf(arena, "https://api/content/%s", digest),
                                  .token = "s3cret-token",
                                  .ca_pem = "a certificate"};
    return 0;
}

static bool needs_code(void *user, const char *digest)
{
    (void)digest;
    return ((const struct rig *)user)->needs_code;
}

static void changed(void *user, const char *ns, const char *name)
{
    struct rig *rig = user;

    if (rig->controller)
        fl_inferenceserver_router_changed(rig->controller, ns, name);
}

static int setup(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));
    const char *definitions[FL_EMBEDDED_CRD_COUNT];
    const struct fl_plane_options options = {.simulated = true,
                                             .seed = 1,
                                             .definitions = definitions,
                                             .definition_count = FL_EMBEDDED_CRD_COUNT};
    struct fl_contents_options contents = {.path = rig->path};
    struct fl_inferenceserver_options servers = {
        .grant = grant, .needs_code = needs_code, .user = rig};
    struct fl_manager_options manager = {0};

    for (size_t i = 0; i < FL_EMBEDDED_CRD_COUNT; i++)
        definitions[i] = fl_embedded_crds[i].json;
    assert_int_equal(fl_plane_create(&options, &rig->plane, NULL), 0);
    (void)snprintf(rig->path, sizeof(rig->path), "/tmp/flops-servers-XXXXXX");
    assert_non_null(mkdtemp(rig->path));
    contents.env = manager.env = &rig->plane->env;
    manager.client = rig->plane->client;
    rig->routers = servers.routers = fl_router_fake_create(changed, rig);
    assert_int_equal(fl_contents_open(&contents, &rig->contents, NULL), 0);
    assert_int_equal(fl_manager_create(&manager, &rig->manager, NULL), 0);
    assert_int_equal(
        fl_modelversion_controller_create(rig->manager, rig->contents, &rig->versions, NULL), 0);
    assert_int_equal(
        fl_inferenceserver_controller_create(rig->manager, &servers, &rig->controller, NULL), 0);
    rig->arena = fl_arena_create();
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    fl_manager_destroy(rig->manager);
    fl_modelversion_controller_destroy(rig->versions);
    fl_inferenceserver_controller_destroy(rig->controller);
    rig->routers->ops->destroy(rig->routers);
    fl_contents_close(rig->contents);
    fl_plane_destroy(rig->plane);
    assert_int_equal(fl_dir_remove(rig->path, NULL), 0);
    fl_arena_destroy(rig->arena);
    free(rig);
    return 0;
}

static json_t *ask(struct rig *rig, const char *method, const char *target, const char *body)
{
    const struct fl_api_call call = {.method = method,
                                     .target = target,
                                     .content_type = strcmp(method, "PATCH") == 0
                                                         ? "application/merge-patch+json"
                                                         : "application/json",
                                     .body = body,
                                     .body_len = body ? strlen(body) : 0};
    struct fl_error err = {0};
    json_t *answer = NULL;

    if (fl_apiclient_call(rig->plane->client, &call, &answer, &err) < 0) {
        if (err.code != FL_E_NOT_FOUND)
            fail_msg("%s %s: %s", method, target, err.msg);
        return NULL;
    }
    return fl_json_in_arena(rig->arena, answer);
}

static json_t *get(struct rig *rig, const char *target)
{
    return ask(rig, "GET", target, NULL);
}

static const json_t *items(struct rig *rig, const char *target)
{
    return json_object_get(get(rig, target), "items");
}

/* Until nothing is to be done at this time. */
static size_t settle(struct rig *rig)
{
    size_t done, all = 0, turns = 0;

    do {
        assert_true(fl_plane_settle(rig->plane));
        done = fl_manager_pump(rig->manager);
        for (size_t i = 0; i < fl_manager_controller_count(rig->manager); i++)
            while (fl_controller_process_next(fl_manager_controller(rig->manager, i)))
                done++;
        all += done;
        assert_true(++turns < 1000);
    } while (done > 0);
    return all;
}

/* Workloads */

static const char *revision_of(const json_t *workload)
{
    return json_string_value(
        json_object_get(fl_json_path(workload, "metadata.labels"), "flops.dev/revision"));
}

static json_t *an_instance(int64_t index, const char *port, int64_t number, bool ready)
{
    return json_pack("{s:I, s:s, s:b, s:s, s:[{s:s, s:I}]}", "index", (json_int_t)index, "state",
                     ready ? "Running" : "Starting", "ready", ready, "address", "127.0.0.1",
                     "ports", "name", port, "port", (json_int_t)number);
}

static json_t *instances_of(struct rig *rig, const json_t *workload)
{
    json_t *list = json_array(), *router;
    const int64_t wanted = fl_json_bool(workload, "spec.suspend", false)
                               ? 0
                               : fl_json_int(workload, "spec.instances", 1);
    const char *revision = revision_of(workload);

    if (!revision && wanted > 0) {
        router = an_instance(0, "http", 8080, true);
        (void)json_array_append_new(json_object_get(router, "ports"),
                                    json_pack("{s:s, s:i}", "name", "admin", "port", 31000));
        (void)json_array_append_new(list, router);
    }
    for (int64_t i = 0; revision && i < wanted; i++)
        (void)json_array_append_new(
            list, an_instance(i, "http", 32000 + (strtol(revision, NULL, 16) & 0xFF) * 4 + i,
                              !rig->broken));
    return list;
}

/* Each Workload's servers do what they should; whether anything was new. */
static bool play(struct rig *rig)
{
    const json_t *workload;
    bool news = false;
    size_t i;

    json_array_foreach(items(rig, WORKLOADS), i, workload) {
        FL_JSON wanted = instances_of(rig, workload);
        FL_JSON patch = json_pack("{s:{s:o, s:{s:i}}}", "status", "instances", json_incref(wanted),
                                  "replicas", "current", (int)json_array_size(wanted));
        FL_CLEANUP(fl_freep) char *text = json_dumps(patch, 0);

        if (json_equal(fl_json_path(workload, "status.instances"), wanted) ||
            (!fl_json_path(workload, "status.instances") && json_array_size(wanted) == 0))
            continue;
        news = true;
        (void)ask(rig, "PATCH",
                  fl_arena_printf(rig->arena, WORKLOADS "/%s/status",
                                  fl_json_str(workload, "metadata.name")),
                  text);
    }
    return news;
}

static void live(struct rig *rig)
{
    int turns = 0;

    do
        (void)settle(rig);
    while (play(rig) && ++turns < 200);
    assert_true(turns < 200);
}

static void live_for(struct rig *rig, int64_t ms)
{
    for (int64_t at = 0; at < ms; at += 500) {
        live(rig);
        assert_true(fl_plane_advance(rig->plane, 500));
    }
    live(rig);
}

/* Models */

static void add_version(struct rig *rig, int round, const char *accuracy, const char *alias)
{
    FL_CLEANUP(fl_freep)
    char *body = fl_asprintf(
        "{\"apiVersion\":\"flops.dev/v1alpha1\",\"kind\":\"ModelVersion\",\"metadata\":{\"name\":"
        "\"m-%d\"},\"spec\":{\"project\":{\"name\":\"p\"},\"round\":%d,\"digest\":\"sha256:%064d\","
        "\"metrics\":{\"accuracy\":\"%s\"},\"aliases\":[%s%s%s]}}",
        round, round, round, accuracy, alias ? "\"" : "", alias ? alias : "", alias ? "\"" : "");

    assert_non_null(ask(rig, "POST", VERSIONS, body));
}

static void move_best(struct rig *rig, int from, int to)
{
    FL_CLEANUP(fl_freep) char *old = fl_asprintf(VERSIONS "/m-%d", from);
    FL_CLEANUP(fl_freep) char *new = fl_asprintf(VERSIONS "/m-%d", to);

    (void)ask(rig, "PATCH", new, "{\"spec\":{\"aliases\":[\"best\"]}}");
    (void)ask(rig, "PATCH", old, "{\"spec\":{\"aliases\":[]}}");
}

static void add_server(struct rig *rig, const char *more)
{
    FL_CLEANUP(fl_freep)
    char *body = fl_asprintf("{\"apiVersion\":\"flops.dev/v1alpha1\",\"kind\":\"InferenceServer\","
                             "\"metadata\":{\"name\":\"digits\"},\"spec\":{\"model\":{\"project\":{"
                             "\"name\":\"p\"}},\"replicas\":2%s}}",
                             more);

    assert_non_null(ask(rig, "POST", SERVERS, body));
}

static const char *reason(struct rig *rig, const char *type)
{
    const json_t *condition;
    size_t i;

    json_array_foreach(fl_json_path(get(rig, SERVER), "status.conditions"), i, condition)
        if (fl_streq(fl_json_str(condition, "type"), type))
            return fl_json_str(condition, "reason");
    return "";
}

static const char *text(struct rig *rig, const char *path)
{
    return fl_str_or(fl_json_str(get(rig, SERVER), path), "");
}

static const char *digest_of(struct rig *rig, int round)
{
    return fl_arena_printf(rig->arena, "sha256:%064d", round);
}

static const json_t *the_set(struct rig *rig)
{
    const json_t *workload, *found = NULL;
    size_t i;

    json_array_foreach(items(rig, WORKLOADS), i, workload)
        if (revision_of(workload)) {
            assert_null(found);
            found = workload;
        }
    return found;
}

static void test_serves(void **state)
{
    struct rig *rig = *state;
    const json_t *set;
    char *all;

    add_server(rig, "");
    live(rig);
    assert_string_equal(reason(rig, "Ready"), "WaitingForModel");
    assert_null(the_set(rig));
    add_version(rig, 1, "0.9", "best");
    live(rig);
    assert_string_equal(reason(rig, "Ready"), "Serving");
    assert_string_equal(text(rig, "status.url"), "http://127.0.0.1:8080");
    assert_string_equal(text(rig, "status.model.digest"), digest_of(rig, 1));
    assert_string_equal(text(rig, "status.replicas.summary"), "2/2");
    set = the_set(rig);
    all = json_dumps(fl_json_path(set, "spec"), 0);
    assert_non_null(strstr(all, digest_of(rig, 1)));
    assert_null(strstr(all, "s3cret-token"));
    free(all);
    assert_int_equal(settle(rig), 0);
    assert_int_equal(json_array_size(items(rig, SECRETS)), 2);
}

static void test_follows(void **state)
{
    struct rig *rig = *state;

    add_version(rig, 1, "0.9", "best");
    add_server(rig, "");
    live(rig);
    add_version(rig, 2, "0.95", NULL);
    live(rig);
    assert_string_equal(text(rig, "status.model.digest"), digest_of(rig, 1));
    move_best(rig, 1, 2);
    live(rig);
    assert_string_equal(text(rig, "status.model.digest"), digest_of(rig, 2));
    assert_string_equal(reason(rig, "Ready"), "Serving");
    assert_string_equal(text(rig, "status.rollout.state"), "Complete");
    assert_non_null(the_set(rig)); /* the old one is gone */
    assert_int_equal(json_array_size(items(rig, SECRETS)), 2);
    (void)ask(rig, "PATCH", SERVER, "{\"spec\":{\"replicas\":4}}");
    live(rig);
    assert_string_equal(text(rig, "status.replicas.summary"), "4/4");
    assert_int_equal(fl_json_int(the_set(rig), "spec.instances", 0), 4);
    /* Other settings are other servers. */
    (void)ask(rig, "PATCH", SERVER, "{\"spec\":{\"limits\":{\"maxConcurrency\":7}}}");
    live(rig);
    assert_string_equal(text(rig, "status.replicas.summary"), "4/4");
    assert_non_null(the_set(rig));
}

static void add_project(struct rig *rig, const char *source)
{
    FL_CLEANUP(fl_freep)
    char *body =
        fl_asprintf("{\"apiVersion\":\"flops.dev/v1alpha1\",\"kind\":\"FLProject\",\"metadata\":{"
                    "\"name\":\"p\"},\"spec\":{\"source\":{%s},\"training\":{\"rounds\":1}}}",
                    source);

    assert_non_null(ask(rig, "POST", API "/flprojects", body));
}

/* By the image of the commit, as soon as the project tells it. */
static void test_code_predicts(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_freep)
    char *status = fl_asprintf("{\"status\":{\"image\":{\"name\":\"r/code\",\"digest\":"
                               "\"sha256:%064d\"}}}",
                               7),
         *image = fl_asprintf("r/code@sha256:%064d", 7);
    const json_t *args;
    size_t count;

    rig->needs_code = true;
    add_version(rig, 1, "0.9", "best");
    add_server(rig, "");
    live(rig);
    assert_string_equal(reason(rig, "Ready"), "WaitingForCode");
    add_project(rig, "\"git\":{\"url\":\"https://h/r.git\",\"entrypoint\":\"m:Code\"}");
    live(rig);
    assert_string_equal(reason(rig, "Ready"), "WaitingForCode");
    assert_null(the_set(rig));
    (void)ask(rig, "PATCH", API "/flprojects/p/status", status);
    live_for(rig, 6000);
    assert_string_equal(reason(rig, "Ready"), "Serving");
    assert_string_equal(fl_json_str(the_set(rig), "spec.image"), image);
    args = fl_json_path(the_set(rig), "spec.args");
    count = json_array_size(args);
    assert_string_equal(json_string_value(json_array_get(args, count - 4)), "--");
    assert_string_equal(json_string_value(json_array_get(args, count - 3)), "flops-trainer");
    assert_string_equal(json_string_value(json_array_get(args, count - 1)), "m:Code");
    /* A model that says what it is needs no code. */
    rig->needs_code = false;
    add_version(rig, 2, "0.95", NULL);
    move_best(rig, 1, 2);
    live(rig);
    assert_string_equal(reason(rig, "Ready"), "Serving");
    assert_null(fl_json_str(the_set(rig), "spec.image"));
}

static const json_t *capability(struct rig *rig)
{
    const json_t *secret;
    size_t i;

    json_array_foreach(items(rig, SECRETS), i, secret)
        if (fl_str_has_prefix(json_string_value(json_object_get(
                                  fl_json_path(secret, "metadata.labels"), "flops.dev/role")),
                              "model-"))
            return secret;
    return NULL;
}

/* As if whoever made it had been cut short before the set, whose model is not wanted any more. */
static void leave_capability(struct rig *rig)
{
    FL_JSON left = json_pack("{s:s, s:s, s:{s:s, s:{s:s}, s:[{s:s, s:s, s:s, s:s}]}}", "apiVersion",
                             "v1", "kind", "Secret", "metadata", "name", "left", "labels",
                             "flops.dev/role", "model-0123456789", "ownerReferences", "apiVersion",
                             "flops.dev/v1alpha1", "kind", "InferenceServer", "name", "digits",
                             "uid", fl_json_str(get(rig, SERVER), "metadata.uid"));
    FL_CLEANUP(fl_freep) char *body = json_dumps(left, 0);

    assert_non_null(ask(rig, "POST", SECRETS, body));
}

/* Each set has one for as long as it is there; servers could not start without. */
static void test_capabilities(void **state)
{
    struct rig *rig = *state;
    const char *name;

    add_version(rig, 1, "0.9", "best");
    add_server(rig, "");
    live(rig);
    assert_int_equal(json_array_size(items(rig, SECRETS)), 2);
    name = fl_json_str(capability(rig), "metadata.name");
    (void)ask(rig, "DELETE", fl_arena_printf(rig->arena, SECRETS "/%s", name), NULL);
    assert_null(capability(rig));
    (void)ask(rig, "PATCH", SERVER, "{\"spec\":{\"replicas\":1}}");
    live(rig);
    assert_string_equal(fl_json_str(capability(rig), "metadata.name"), name);
    leave_capability(rig);
    (void)ask(rig, "PATCH", SERVER, "{\"spec\":{\"replicas\":2}}");
    live(rig);
    assert_int_equal(json_array_size(items(rig, SECRETS)), 2);
    assert_string_equal(fl_json_str(capability(rig), "metadata.name"), name);
}

/* None is what is wanted, so nobody waits for any. */
static void test_scaled_to_zero(void **state)
{
    struct rig *rig = *state;

    add_version(rig, 1, "0.9", "best");
    add_server(rig, ",\"rollout\":{\"progressDeadline\":\"30s\"}");
    live(rig);
    (void)ask(rig, "PATCH", SERVER, "{\"spec\":{\"replicas\":0}}");
    live_for(rig, 60 * 1000);
    assert_string_equal(reason(rig, "Ready"), "ScaledToZero");
    assert_string_equal(reason(rig, "Available"), "ScaledToZero");
    assert_string_equal(reason(rig, "Stalled"), "");
    assert_int_equal(fl_json_int(the_set(rig), "spec.instances", -1), 0);
    (void)ask(rig, "PATCH", SERVER, "{\"spec\":{\"replicas\":1}}");
    live(rig);
    assert_string_equal(reason(rig, "Ready"), "Serving");
}

static void serve_requests(struct rig *rig, const char *failing_group)
{
    struct fl_routes *routes = fl_router_fake_routes(rig->routers, ROUTER);

    for (int i = 0; i < 60; i++) {
        struct fl_route_backend *backend = fl_routes_choose(routes, 0, NULL, 0);
        const bool fails = backend && fl_streq(fl_route_group(backend), failing_group);

        assert_non_null(backend);
        (void)fl_routes_ended(routes, backend, fails ? FL_ROUTE_FAILED : FL_ROUTE_ANSWERED, 900, 0);
    }
}

static const char *candidate(struct rig *rig)
{
    const json_t *workload;
    size_t i;

    json_array_foreach(items(rig, WORKLOADS), i, workload)
        if (revision_of(workload) &&
            !json_object_get(fl_json_path(workload, "metadata.annotations"), "flops.dev/stable"))
            return revision_of(workload);
    return NULL;
}

#define CANARY                                                                                     \
    ",\"rollout\":{\"strategy\":\"Canary\",\"steps\":[50],\"interval\":\"5s\",\"minRequests\":10}"

static void test_canary(void **state)
{
    struct rig *rig = *state;

    add_version(rig, 1, "0.9", "best");
    add_server(rig, CANARY);
    live(rig);
    assert_string_equal(reason(rig, "Ready"), "Serving");
    add_version(rig, 2, "0.95", NULL);
    move_best(rig, 1, 2);
    live(rig);
    assert_string_equal(reason(rig, "Ready"), "RollingOut");
    assert_string_equal(reason(rig, "Available"), "Serving"); /* all the time */
    assert_int_equal(fl_json_int(get(rig, SERVER), "status.rollout.step", 0), 1);
    assert_int_equal(json_array_size(fl_json_path(get(rig, SERVER), "status.traffic")), 2);
    for (int i = 0; i < 20; i++) {
        serve_requests(rig, NULL);
        live_for(rig, 1000);
    }
    assert_string_equal(reason(rig, "Ready"), "Serving");
    assert_string_equal(text(rig, "status.model.digest"), digest_of(rig, 2));
    /* One that fails is taken back, and not tried again. */
    add_version(rig, 3, "0.96", NULL);
    move_best(rig, 2, 3);
    live(rig);
    serve_requests(rig, candidate(rig));
    live_for(rig, 3000);
    assert_string_equal(reason(rig, "Ready"), "RolledBack");
    assert_string_equal(text(rig, "status.rollout.rejected"), digest_of(rig, 3));
    live_for(rig, 20000);
    assert_string_equal(text(rig, "status.model.digest"), digest_of(rig, 2));
    assert_non_null(the_set(rig));
}

static void test_suspend(void **state)
{
    struct rig *rig = *state;
    const json_t *workload;
    size_t i;

    add_version(rig, 1, "0.9", "best");
    add_server(rig, "");
    live(rig);
    (void)ask(rig, "PATCH", SERVER, "{\"spec\":{\"suspend\":true}}");
    live(rig);
    assert_string_equal(reason(rig, "Ready"), "Suspended");
    json_array_foreach(items(rig, WORKLOADS), i, workload)
        assert_true(fl_json_bool(workload, "spec.suspend", false));
    (void)ask(rig, "PATCH", SERVER, "{\"spec\":{\"suspend\":false}}");
    live(rig);
    assert_string_equal(reason(rig, "Ready"), "Serving");
}

static void test_deleted(void **state)
{
    struct rig *rig = *state;

    add_version(rig, 1, "0.9", "best");
    add_server(rig, "");
    live(rig);
    (void)ask(rig, "DELETE", SERVER, NULL);
    live_for(rig, 2000);
    assert_null(get(rig, SERVER));
    assert_int_equal(json_array_size(items(rig, WORKLOADS)), 0);
    assert_int_equal(json_array_size(items(rig, SECRETS)), 0);
}

static void test_what_is_missing(void **state)
{
    struct rig *rig = *state;

    add_version(rig, 1, "0.9", "best");
    add_server(rig, ",\"tokensSecret\":{\"name\":\"keys\"}");
    live(rig);
    assert_string_equal(reason(rig, "Ready"), "SecretNotFound");
    (void)ask(rig, "POST", SECRETS,
              "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"keys\"},"
              "\"stringData\":{\"alice\":\"one\",\"bob\":\"two\"}}");
    live(rig);
    assert_string_equal(reason(rig, "Ready"), "Serving");
}

static void test_never_ready(void **state)
{
    struct rig *rig = *state;

    rig->broken = true;
    add_version(rig, 1, "0.9", "best");
    add_server(rig, ",\"rollout\":{\"progressDeadline\":\"20s\"}");
    live(rig);
    assert_string_equal(reason(rig, "Ready"), "Starting");
    live_for(rig, 25000);
    assert_string_not_equal(reason(rig, "Stalled"), "");
    rig->broken = false;
    live(rig);
    assert_string_equal(reason(rig, "Ready"), "Serving");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_serves),          TEST(test_follows),      TEST(test_code_predicts),
        TEST(test_scaled_to_zero),  TEST(test_capabilities), TEST(test_scaled_to_zero),
        TEST(test_canary),          TEST(test_suspend),      TEST(test_deleted),
        TEST(test_what_is_missing), TEST(test_never_ready),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
