/* FLRounds on a real API server in simulated time, with a fake federation. */
#include "reconcilers/flround/flround.h"

#include "api/gen/crds_embedded.h"
#include "controller/client/client_testing.h"
#include "controller/runtime/manager.h"
#include "lib/file.h"
#include "lib/str.h"
#include "lib/yaml.h"
#include "reconcilers/federation/federation_fake.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define GROUP    "/apis/flops.dev/v1alpha1/namespaces/default/"
#define PROJECTS GROUP "flprojects"
#define ROUNDS   GROUP "flrounds"
#define MODELS   GROUP "modelversions"

struct rig {
    struct fl_plane *plane;
    struct fl_arena *arena;
    struct fl_fake_roots *roots;
    struct fl_blobs *content;
    char folder[64];
    struct fl_federation_driver *driver;
    struct fl_manager *manager;
    struct fl_flround_controller *rounds;
    const char *uid; /* of the project */
    struct fl_fake_round plan;
    struct fl_round_order order; /* the last one; its texts are in the arena */
    size_t orders;
};

/* --- the control plane ---------------------------------------------------------------------- */

static void on_changed(void *user, const char *ns, const char *project)
{
    struct rig *rig = user;

    if (rig->rounds)
        fl_flround_changed(rig->rounds, ns, project);
}

static void on_plan(void *user, const struct fl_round_order *order, struct fl_fake_round *plan)
{
    struct rig *rig = user;

    fl_message_copy(rig->arena, &fl_form_round_order, order, &rig->order);
    rig->orders++;
    *plan = rig->plan;
}

static void begin(struct rig *rig)
{
    const struct fl_manager_options options = {.env = &rig->plane->env,
                                               .client = rig->plane->client};
    struct fl_error err = {0};

    rig->driver = fl_federation_fake_create(rig->roots, rig->content, on_changed, rig);
    if (fl_manager_create(&options, &rig->manager, &err) < 0 ||
        fl_flround_controller_create(rig->manager, rig->driver, &rig->rounds, &err) < 0)
        fail_msg("%s", err.msg);
}

static void end(struct rig *rig)
{
    struct fl_flround_controller *rounds = FL_TAKE(rig->rounds);

    rig->driver->ops->destroy(FL_TAKE(rig->driver));
    fl_manager_destroy(FL_TAKE(rig->manager));
    fl_flround_controller_destroy(rounds);
}

static int setup(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));
    const char *definitions[FL_EMBEDDED_CRD_COUNT];
    struct fl_plane_options options = {.simulated = true,
                                       .seed = 1,
                                       .definitions = definitions,
                                       .definition_count = FL_EMBEDDED_CRD_COUNT};
    struct fl_blobs_options content = {.fleeting = true};
    struct fl_error err = {0};

    for (size_t i = 0; i < FL_EMBEDDED_CRD_COUNT; i++)
        definitions[i] = fl_embedded_crds[i].json;
    (void)snprintf(rig->folder, sizeof(rig->folder), "/tmp/flround-test.XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    if (fl_plane_create(&options, &rig->plane, &err) < 0)
        fail_msg("%s", err.msg);
    content.env = &rig->plane->env;
    content.path = rig->folder;
    if (fl_blobs_open(&content, &rig->content, &err) < 0)
        fail_msg("%s", err.msg);
    rig->arena = fl_arena_create();
    rig->roots = fl_fake_roots_create(&rig->plane->env);
    rig->plan =
        (struct fl_fake_round){.wait_ms = 10, .train_ms = 100, .evaluate_ms = 20, .examples = 100};
    fl_fake_roots_on_plan(rig->roots, on_plan, rig);
    begin(rig);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    end(rig);
    fl_fake_roots_destroy(rig->roots);
    fl_blobs_close(rig->content);
    fl_plane_destroy(rig->plane);
    fl_arena_destroy(rig->arena);
    (void)fl_dir_remove(rig->folder, NULL);
    free(rig);
    return 0;
}

static size_t settle(struct rig *rig)
{
    size_t passes = 0, done, turns = 0;

    do {
        assert_true(fl_plane_settle(rig->plane));
        done = fl_fake_roots_step(rig->roots) + fl_manager_pump(rig->manager);
        for (size_t i = 0; i < fl_manager_controller_count(rig->manager); i++)
            while (fl_controller_process_next(fl_manager_controller(rig->manager, i))) {
                passes++;
                done++;
            }
        if (++turns > 1000)
            fail_msg("it never settles");
    } while (done > 0);
    return passes;
}

static void run_for(struct rig *rig, int64_t ms)
{
    int64_t stop = fl_monotonic_ms(&rig->plane->env) + ms;

    (void)settle(rig);
    for (;;) {
        int64_t due = fl_manager_next_due_ms(rig->manager);
        int64_t world = fl_fake_roots_next_due_ms(rig->roots);
        int64_t now = fl_monotonic_ms(&rig->plane->env);

        due = world < due ? world : due;
        if (due >= stop)
            break;
        assert_true(fl_plane_advance(rig->plane, due > now ? due - now : 1));
        (void)settle(rig);
    }
    if (stop > fl_monotonic_ms(&rig->plane->env))
        assert_true(fl_plane_advance(rig->plane, stop - fl_monotonic_ms(&rig->plane->env)));
    (void)settle(rig);
}

/* --- the API -------------------------------------------------------------------------------- */

static json_t *ask(struct rig *rig, const char *method, const char *target, const char *type,
                   const char *yaml, int *ret_code)
{
    struct fl_error err = {0};
    json_t *body = NULL, *value = NULL;
    const char *text = NULL;
    int r;

    if (yaml && fl_yaml_parse(yaml, strlen(yaml), NULL, &body, &err) < 0)
        fail_msg("%s: %s", yaml, err.msg);
    if (body)
        text = fl_json_to_string(rig->arena, fl_json_in_arena(rig->arena, body));
    r = fl_apiclient_call(rig->plane->client,
                          &(struct fl_api_call){.method = method,
                                                .target = target,
                                                .content_type = text ? type : NULL,
                                                .body = text,
                                                .body_len = text ? strlen(text) : 0},
                          &value, &err);
    if (ret_code)
        *ret_code = r;
    else if (r < 0)
        fail_msg("%s %s: %s", method, target, err.msg);
    return r < 0 ? NULL : fl_json_in_arena(rig->arena, value);
}

static json_t *get(struct rig *rig, const char *target)
{
    return ask(rig, "GET", target, NULL, NULL, NULL);
}

static json_t *create(struct rig *rig, const char *target, const char *yaml)
{
    return ask(rig, "POST", target, "application/json", yaml, NULL);
}

static void patch(struct rig *rig, const char *target, const char *yaml)
{
    (void)ask(rig, "PATCH", target, "application/merge-patch+json", yaml, NULL);
}

static bool is_gone(struct rig *rig, const char *target)
{
    int code;

    (void)ask(rig, "GET", target, NULL, NULL, &code);
    return code == FL_E_NOT_FOUND;
}

static const char *round_at(struct rig *rig, const char *name)
{
    return fl_arena_printf(rig->arena, ROUNDS "/%s", name);
}

static const json_t *condition_of(const json_t *object, const char *type)
{
    json_t *condition;
    size_t i;

    json_array_foreach(fl_json_path(object, "status.conditions"), i, condition)
        if (fl_streq(fl_json_str(condition, "type"), type))
            return condition;
    return NULL;
}

/* "True Committed"; "" where there is none. */
static const char *told(struct rig *rig, const char *name, const char *type)
{
    const json_t *condition = condition_of(get(rig, round_at(rig, name)), type);

    return condition ? fl_arena_printf(rig->arena, "%s %s", fl_json_str(condition, "status"),
                                       fl_json_str(condition, "reason"))
                     : "";
}

#define assert_told(rig, name, type, expected) assert_string_equal(told(rig, name, type), expected)

static const char *text_of(struct rig *rig, const char *name, const char *path)
{
    return fl_str_or(fl_json_str(get(rig, round_at(rig, name)), path), "");
}

static int64_t int_of(struct rig *rig, const char *name, const char *path)
{
    return fl_json_int(get(rig, round_at(rig, name)), path, -1);
}

static void make_project(struct rig *rig, const char *name, const char *training)
{
    const char *yaml =
        fl_arena_printf(rig->arena,
                        "{apiVersion: flops.dev/v1alpha1, kind: FLProject, metadata: {name: %s}, "
                        "spec: {source: {builtin: {trainer: MLP}}, training: {rounds: 10%s%s}}}",
                        name, *training ? ", " : "", training);

    rig->uid = fl_json_str(create(rig, PROJECTS, yaml), "metadata.uid");
}

/* What FLProject would make: the root's Workload, running, and the Secret. */
static void make_root(struct rig *rig, const char *project)
{
    const char *owner = fl_arena_printf(
        rig->arena,
        "ownerReferences: [{apiVersion: flops.dev/v1alpha1, kind: FLProject, name: %s, uid: %s, "
        "controller: true}]",
        project, rig->uid);
    const char *name = fl_child_name(rig->arena, project, rig->uid, "root");

    (void)create(rig, "/api/v1/namespaces/default/secrets",
                 fl_arena_printf(rig->arena,
                                 "{apiVersion: v1, kind: Secret, metadata: {name: %s, %s}, "
                                 "stringData: {token: t}}",
                                 fl_child_name(rig->arena, project, rig->uid, "federation"),
                                 owner));
    (void)create(rig, GROUP "workloads",
                 fl_arena_printf(rig->arena,
                                 "{apiVersion: flops.dev/v1alpha1, kind: Workload, metadata: {name:"
                                 " %s, labels: {flops.dev/role: root}, %s}, spec: {process: "
                                 "{program: x}}}",
                                 name, owner));
    patch(rig, fl_arena_printf(rig->arena, GROUP "workloads/%s/status", name),
          "{status: {instances: [{index: 0, state: Running, address: 127.0.0.1, ports: [{name: "
          "http, port: 7070}]}]}"
          "}");
}

static void make_round(struct rig *rig, const char *name, const char *spec)
{
    (void)create(rig, ROUNDS,
                 fl_arena_printf(rig->arena,
                                 "{apiVersion: flops.dev/v1alpha1, kind: FLRound, metadata: {name: "
                                 "%s}, spec: {project: {name: p}%s%s}}",
                                 name, *spec ? ", " : "", spec));
}

static void make_all(struct rig *rig, const char *training)
{
    make_project(rig, "p", training);
    make_root(rig, "p");
}

static size_t count_models(struct rig *rig)
{
    return json_array_size(json_object_get(get(rig, MODELS), "items"));
}

static void note_commit(void *user, const struct fl_fake_committed *committed)
{
    size_t *counts = user;

    assert_true(committed->round < 10);
    counts[committed->round]++;
}

static void assert_commits(struct rig *rig, size_t rounds)
{
    size_t counts[10] = {0};

    fl_fake_roots_each_commit(rig->roots, note_commit, counts);
    for (size_t i = 1; i < FL_COUNT_OF(counts); i++)
        assert_int_equal(counts[i], i <= rounds ? 1 : 0);
}

/* --- tests ---------------------------------------------------------------------------------- */

static void test_a_root_that_counts_members_only(void **state)
{
    struct rig *rig = *state;

    rig->plan.terse = true;
    make_all(rig, "");
    make_round(rig, "r1", "index: 1");
    run_for(rig, 5000);
    assert_told(rig, "r1", "Ready", "True Committed");
    assert_string_equal(text_of(rig, "r1", "status.participants.summary"), "4/4");
}

static void test_first_round(void **state)
{
    struct rig *rig = *state;
    const char *model;

    make_all(rig, "");
    make_round(rig, "r1", "index: 1");
    run_for(rig, 5000);
    assert_told(rig, "r1", "Ready", "True Committed");
    assert_told(rig, "r1", "Selected", "True Selected");
    assert_told(rig, "r1", "Aggregated", "True Committed");
    assert_told(rig, "r1", "Evaluated", "True Evaluated");
    assert_told(rig, "r1", "Succeeded", "True Committed");
    assert_int_equal(int_of(rig, "r1", "status.index"), 1);
    assert_int_equal(int_of(rig, "r1", "status.attempt"), 1);
    assert_int_equal(int_of(rig, "r1", "status.examples"), 100);
    assert_string_equal(text_of(rig, "r1", "status.participants.summary"), "8/8");
    assert_int_equal(int_of(rig, "r1", "status.participants.selected"), 8);
    assert_string_equal(text_of(rig, "r1", "status.metrics.evaluation.accuracy"), "0.5");
    model = text_of(rig, "r1", "status.model.digest");
    assert_true(fl_blobs_has(rig->content, model));
    assert_int_equal(count_models(rig), 2); /* the initial one, too */
    assert_null(rig->order.model);
    assert_string_equal(
        fl_json_str(get(rig, fl_arena_printf(rig->arena, MODELS "/%s",
                                             text_of(rig, "r1", "status.model.version"))),
                    "spec.digest"),
        model);
    assert_commits(rig, 1);
}

static void test_one_after_the_other(void **state)
{
    struct rig *rig = *state;

    make_all(rig, "");
    make_round(rig, "r3", "index: 3");
    make_round(rig, "r1", "index: 1");
    make_round(rig, "r2", "index: 2");
    run_for(rig, 50);
    assert_told(rig, "r3", "Ready", "False WaitingForTurn");
    run_for(rig, 5000);
    assert_told(rig, "r3", "Ready", "True Committed");
    assert_commits(rig, 3);
    assert_int_equal(count_models(rig), 4);
    assert_string_equal(rig->order.model, text_of(rig, "r2", "status.model.digest"));
}

static void test_numbers_are_given(void **state)
{
    struct rig *rig = *state;

    make_all(rig, "");
    make_round(rig, "r1", "index: 1");
    make_round(rig, "a", "");
    make_round(rig, "b", "");
    run_for(rig, 5000);
    assert_told(rig, "a", "Ready", "True Committed");
    assert_told(rig, "b", "Ready", "True Committed");
    assert_int_equal(int_of(rig, "a", "status.index") + int_of(rig, "b", "status.index"), 5);
    assert_commits(rig, 3);
}

static void test_number_is_taken(void **state)
{
    struct rig *rig = *state;

    make_all(rig, "");
    make_round(rig, "r1", "index: 1");
    run_for(rig, 30);
    make_round(rig, "again", "index: 1");
    run_for(rig, 60);
    assert_told(rig, "again", "Ready", "False NumberTaken");
    assert_told(rig, "again", "Stalled", "True NumberTaken");
    run_for(rig, 5000);
    assert_told(rig, "r1", "Ready", "True Committed");
    assert_commits(rig, 1);
}

static void test_no_project(void **state)
{
    struct rig *rig = *state;

    make_round(rig, "r1", "index: 1");
    run_for(rig, 100);
    assert_told(rig, "r1", "Ready", "False ProjectNotFound");
    make_project(rig, "p", "");
    run_for(rig, 100);
    assert_told(rig, "r1", "Ready", "False StartingAggregators");
    make_root(rig, "p");
    run_for(rig, 5000);
    assert_told(rig, "r1", "Ready", "True Committed");
}

static void test_waits_for_learners(void **state)
{
    struct rig *rig = *state;

    make_all(rig, "participation: {minAvailable: 3}");
    fl_fake_roots_set_members(rig->roots, rig->uid, 1);
    make_round(rig, "r1", "index: 1");
    run_for(rig, 5000);
    assert_told(rig, "r1", "Ready", "False WaitingForLearners");
    assert_int_equal(settle(rig), 0);
    fl_fake_roots_set_members(rig->roots, rig->uid, 3);
    run_for(rig, 5000);
    assert_told(rig, "r1", "Ready", "True Committed");
}

static void test_failure_is_told(void **state)
{
    struct rig *rig = *state;

    rig->plan.failing = 100;
    make_all(rig, "participation: {retryLimit: 2}");
    make_round(rig, "r1", "index: 1");
    run_for(rig, 60000);
    assert_told(rig, "r1", "Ready", "False QuorumNotReached");
    assert_told(rig, "r1", "Stalled", "True QuorumNotReached");
    assert_int_equal(int_of(rig, "r1", "status.attempt"), 3);
    assert_int_equal(rig->orders, 1); /* never by itself */
    assert_int_equal(count_models(rig), 0);
}

static void test_failed_is_begun_anew(void **state)
{
    struct rig *rig = *state;

    rig->plan.failing = 100;
    make_all(rig, "participation: {retryLimit: 0}");
    make_round(rig, "r1", "index: 1");
    run_for(rig, 60000);
    assert_told(rig, "r1", "Stalled", "True QuorumNotReached");
    patch(rig, round_at(rig, "r1"), "{metadata: {annotations: {flops.dev/reconcile: now}}}");
    run_for(rig, 60000);
    assert_told(rig, "r1", "Stalled", "True QuorumNotReached");
    assert_int_equal(rig->orders, 2);
    assert_int_equal(rig->order.run, 1);
    rig->plan.failing = 0;
    patch(rig, PROJECTS "/p", "{spec: {training: {participation: {deadline: 20m}}}}");
    run_for(rig, 60000);
    assert_told(rig, "r1", "Ready", "True Committed");
    assert_int_equal(rig->orders, 3);
    assert_int_equal(rig->order.run, 2);
    assert_int_equal(rig->order.participation.deadline_ms, 20 * 60000);
    assert_commits(rig, 1);
}

static void test_controller_restarts(void **state)
{
    struct rig *rig = *state;

    make_all(rig, "");
    for (int i = 1; i <= 3; i++)
        make_round(rig, fl_arena_printf(rig->arena, "r%d", i),
                   fl_arena_printf(rig->arena, "index: %d", i));
    for (int i = 0; i < 40; i++) {
        run_for(rig, 17);
        end(rig);
        begin(rig);
    }
    run_for(rig, 5000);
    assert_told(rig, "r3", "Ready", "True Committed");
    assert_commits(rig, 3);
    assert_int_equal(rig->orders, 3);
}

static void test_root_restarts(void **state)
{
    struct rig *rig = *state;

    make_all(rig, "");
    make_round(rig, "r1", "index: 1");
    run_for(rig, 60);
    fl_fake_roots_restart(rig->roots, rig->uid, false);
    run_for(rig, 5000);
    assert_told(rig, "r1", "Ready", "True Committed");
    assert_int_equal(int_of(rig, "r1", "status.attempt"), 2);
    assert_commits(rig, 1);
}

static void test_root_loses_its_disk(void **state)
{
    struct rig *rig = *state;

    make_all(rig, "");
    make_round(rig, "r1", "index: 1");
    run_for(rig, 5000);
    make_round(rig, "r2", "index: 2");
    run_for(rig, 60);
    fl_fake_roots_restart(rig->roots, rig->uid, true);
    run_for(rig, 5000);
    assert_told(rig, "r2", "Ready", "True Committed");
    assert_string_equal(rig->order.model, text_of(rig, "r1", "status.model.digest"));
    assert_commits(rig, 2);
}

static void test_unreachable(void **state)
{
    struct rig *rig = *state;

    make_all(rig, "");
    make_round(rig, "r1", "index: 1");
    run_for(rig, 60);
    fl_fake_roots_set_reachable(rig->roots, false);
    run_for(rig, 60000);
    assert_told(rig, "r1", "Ready", "False AggregatorUnreachable");
    fl_fake_roots_set_reachable(rig->roots, true);
    run_for(rig, 5000);
    assert_told(rig, "r1", "Ready", "True Committed");
    assert_commits(rig, 1);
}

static void test_deleted_in_mid_round(void **state)
{
    struct rig *rig = *state;

    make_all(rig, "");
    make_round(rig, "r1", "index: 1");
    run_for(rig, 60);
    assert_int_equal(fl_fake_roots_running(rig->roots), 1);
    (void)ask(rig, "DELETE", ROUNDS "/r1", NULL, NULL, NULL);
    run_for(rig, 1000);
    assert_true(is_gone(rig, ROUNDS "/r1"));
    assert_int_equal(fl_fake_roots_running(rig->roots), 0);
    make_round(rig, "anew", "index: 1");
    run_for(rig, 5000);
    assert_told(rig, "anew", "Ready", "True Committed");
    assert_int_equal(rig->order.run, 1);
    assert_commits(rig, 1);
}

static void test_deleted_while_unreachable(void **state)
{
    struct rig *rig = *state;

    make_all(rig, "");
    make_round(rig, "r1", "index: 1");
    run_for(rig, 60);
    fl_fake_roots_set_reachable(rig->roots, false);
    run_for(rig, 10);
    (void)ask(rig, "DELETE", ROUNDS "/r1", NULL, NULL, NULL);
    run_for(rig, 5000);
    assert_false(is_gone(rig, ROUNDS "/r1"));
    run_for(rig, 60000);
    assert_true(is_gone(rig, ROUNDS "/r1"));
}

static void test_suspended(void **state)
{
    struct rig *rig = *state;

    make_all(rig, "");
    make_round(rig, "r1", "index: 1, suspend: true");
    run_for(rig, 60000);
    assert_told(rig, "r1", "Ready", "False Suspended");
    assert_int_equal(rig->orders, 0);
    patch(rig, ROUNDS "/r1", "{spec: {suspend: false}}");
    run_for(rig, 5000);
    assert_told(rig, "r1", "Ready", "True Committed");
}

/* As if a pass had been cut off once the model was known: what the round has told is not lost, as
 * long as the root knows it. */
static void test_told_once_more(void **state)
{
    struct rig *rig = *state;
    const char *metrics;

    make_all(rig, "");
    make_round(rig, "r1", "index: 1");
    run_for(rig, 5000);
    assert_told(rig, "r1", "Ready", "True Committed");
    metrics = text_of(rig, "r1", "status.metrics.evaluation.accuracy");
    assert_non_null(metrics);
    patch(rig, ROUNDS "/r1/status",
          "{status: {conditions: [], metrics: null, durations: null, participants: null}}");
    run_for(rig, 5000);
    assert_told(rig, "r1", "Ready", "True Committed");
    assert_string_equal(text_of(rig, "r1", "status.metrics.evaluation.accuracy"), metrics);
    assert_non_null(text_of(rig, "r1", "status.durations.total"));
    assert_true(fl_json_int(get(rig, ROUNDS "/r1"), "status.participants.reported", 0) > 0);
}

/* Its root may still be there, while it is scaled down. */
static void test_project_suspended(void **state)
{
    struct rig *rig = *state;

    make_all(rig, "");
    patch(rig, PROJECTS "/p", "{spec: {suspend: true}}");
    make_round(rig, "r1", "index: 1");
    run_for(rig, 60000);
    assert_told(rig, "r1", "Ready", "False Suspended");
    assert_int_equal(rig->orders, 0);
    patch(rig, PROJECTS "/p", "{spec: {suspend: false}}");
    run_for(rig, 5000);
    assert_told(rig, "r1", "Ready", "True Committed");
}

static void test_warm_starts(void **state)
{
    struct rig *rig = *state;
    char digest[FL_DIGEST_SIZE];

    fl_fake_roots_put_uri(rig->roots, "https://x.invalid/m", "a model");
    fl_digest_of("a model", 7, digest);
    make_all(rig, "initialModel: {uri: 'https://x.invalid/m'}");
    make_round(rig, "r1", "index: 1");
    run_for(rig, 5000);
    assert_told(rig, "r1", "Ready", "True Committed");
    assert_string_equal(rig->order.model, digest);
    assert_int_equal(rig->order.model_size, 7);
    assert_int_equal(count_models(rig), 2);
}

static void test_base_is_missing(void **state)
{
    struct rig *rig = *state;
    char digest[FL_DIGEST_SIZE];

    fl_digest_of("late", 4, digest);
    make_all(rig, fl_arena_printf(rig->arena, "initialModel: {digest: '%s'}", digest));
    make_round(rig, "r1", "index: 1");
    run_for(rig, 5000);
    assert_told(rig, "r1", "Ready", "False BaseModelNotFound");
    (void)fl_blobs_put(rig->content, "late", 4, false, digest, NULL);
    run_for(rig, 20000);
    assert_told(rig, "r1", "Ready", "True Committed");
    assert_string_equal(rig->order.model, digest);
}

static void test_rest_writes_nothing(void **state)
{
    struct rig *rig = *state;
    const char *before;

    make_all(rig, "");
    make_round(rig, "r1", "index: 1");
    run_for(rig, 5000);
    before = text_of(rig, "r1", "metadata.resourceVersion");
    patch(rig, PROJECTS "/p", "{spec: {training: {rounds: 11}}}");
    run_for(rig, 5000);
    end(rig);
    begin(rig);
    run_for(rig, 5000);
    assert_string_equal(text_of(rig, "r1", "metadata.resourceVersion"), before);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_first_round),
        TEST(test_a_root_that_counts_members_only),
        TEST(test_one_after_the_other),
        TEST(test_numbers_are_given),
        TEST(test_number_is_taken),
        TEST(test_no_project),
        TEST(test_waits_for_learners),
        TEST(test_failure_is_told),
        TEST(test_failed_is_begun_anew),
        TEST(test_controller_restarts),
        TEST(test_root_restarts),
        TEST(test_root_loses_its_disk),
        TEST(test_unreachable),
        TEST(test_deleted_in_mid_round),
        TEST(test_deleted_while_unreachable),
        TEST(test_suspended),
        TEST(test_project_suspended),
        TEST(test_told_once_more),
        TEST(test_project_suspended),
        TEST(test_told_once_more),
        TEST(test_warm_starts),
        TEST(test_base_is_missing),
        TEST(test_rest_writes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
