/* FLProjects on a real API server in simulated time, with the fake orchestrator. What a root says
 * and what becomes of FLRounds is the test's. */
#include "reconcilers/flproject/flproject.h"

#include "controller/source/source_fake.h"
#include "reconcilers/federation/federation.h"
#include "reconcilers/flproject/flproject_decide.h"
#include "reconcilers/inferenceserver/inferenceserver.h"
#include "reconcilers/workload/workload_testing.h"

#define FLPROJECTS  "/apis/flops.dev/v1alpha1/namespaces/default/flprojects"
#define FLROUNDS    "/apis/flops.dev/v1alpha1/namespaces/default/flrounds"
#define MODELS      "/apis/flops.dev/v1alpha1/namespaces/default/modelversions"
#define HISTORIES   "/apis/flops.dev/v1alpha1/namespaces/default/flhistories"
#define SERVERS     "/apis/flops.dev/v1alpha1/namespaces/default/inferenceservers"
#define BUILDS      "/apis/flops.dev/v1alpha1/namespaces/default/imagebuilds"
#define PROJECT     FLPROJECTS "/p"
#define CODE        "https://example.org/code"
#define COMMIT_A    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define COMMIT_B    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define LEARNERS    2
#define A_LONG_TIME 60000

/* A root that says what the test wants. */
struct root {
    struct fl_federation_driver base;
    int64_t learners, committed;
    bool is_silent;
    int64_t forgotten;
    size_t children; /* that were told last */
    char *address;   /* that it was asked at last */
};

static struct root *root_of(struct fl_federation_driver *self)
{
    return (struct root *)self;
}

static int root_status(struct fl_federation_driver *self, const struct fl_federation_at *at,
                       struct fl_arena *arena, struct fl_federation_status *ret_status,
                       struct fl_error *err)
{
    struct root *root = root_of(self);

    (void)arena;
    (void)err;
    assert_non_null(at->token);
    free(root->address);
    root->address = fl_strdup(at->address);
    *ret_status = (struct fl_federation_status){
        .known = root->is_silent ? FL_FEDERATION_UNREACHABLE : FL_FEDERATION_KNOWN,
        .message = "nobody there",
        .status = {.learners = root->learners, .committed = root->committed}};
    return 0;
}

static int root_children(struct fl_federation_driver *self, const struct fl_federation_at *at,
                         const struct fl_children *children, struct fl_error *err)
{
    (void)at;
    (void)err;
    root_of(self)->children = children->children.count;
    return 0;
}

static void root_forget(struct fl_federation_driver *self, const char *uid)
{
    (void)uid;
    root_of(self)->forgotten++;
}

static const struct fl_federation_ops root_ops = {
    .name = "test", .status = root_status, .children = root_children, .forget = root_forget};

struct bench {
    struct rig *rig;
    struct root root;
    struct fl_source_fake *code;
    struct fl_flproject_controller *projects;
};

static void join(struct bench *bench)
{
    struct fl_error err = {0};

    if (fl_flproject_controller_create(bench->rig->manager, &bench->root.base,
                                       fl_source_fake_source(bench->code), &bench->projects,
                                       &err) < 0)
        fail_msg("%s", err.msg);
    fl_source_fake_on_change(bench->code, fl_flproject_source_changed, bench->projects);
}

static int setup(void **state)
{
    struct bench *bench = fl_calloc(1, sizeof(*bench));
    void *rig = NULL;

    (void)rig_setup(&rig);
    bench->rig = rig;
    bench->root = (struct root){.base = {&root_ops}, .learners = LEARNERS};
    rig_put_node(bench->rig, "d", "b");
    bench->code = fl_source_fake_create(&bench->rig->plane->env);
    join(bench);
    *state = bench;
    return 0;
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    void *rig = bench->rig;

    fl_source_fake_destroy(bench->code);
    (void)rig_teardown(&rig);
    fl_flproject_controller_destroy(bench->projects);
    free(bench->root.address);
    free(bench);
    return 0;
}

static void restart(struct bench *bench)
{
    rig_end(bench->rig);
    fl_source_fake_crash(bench->code);
    fl_flproject_controller_destroy(FL_TAKE(bench->projects));
    rig_begin(bench->rig);
    join(bench);
}

static void make_project(struct bench *bench, const char *spec)
{
    (void)rig_create(bench->rig, FLPROJECTS,
                     fl_arena_printf(bench->rig->arena,
                                     "{apiVersion: flops.dev/v1alpha1, kind: FLProject, metadata: "
                                     "{name: p}, spec: {source: {builtin: {trainer: MLP}}, "
                                     "learners: {count: 2}, training: {rounds: 3}%s%s}}",
                                     *spec ? ", " : "", spec));
    rig_run_for(bench->rig, A_LONG_TIME);
}

static void patch_project(struct bench *bench, const char *yaml)
{
    (void)rig_patch(bench->rig, PROJECT, yaml);
    rig_run_for(bench->rig, A_LONG_TIME);
}

static size_t count_of(struct bench *bench, const char *target)
{
    return json_array_size(json_object_get(rig_get(bench->rig, target), "items"));
}

/* The round with this number; NULL: there is none. */
static const json_t *round_of(struct bench *bench, int64_t number)
{
    const json_t *items = json_object_get(rig_get(bench->rig, FLROUNDS), "items");
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)items, i, item) {
        if (fl_json_int(item, "spec.index", 0) == number)
            return item;
    }
    return NULL;
}

static const char *condition_yaml(struct bench *bench, const char *type, bool holds,
                                  const char *reason)
{
    return fl_arena_printf(bench->rig->arena,
                           "{type: %s, status: '%s', reason: %s, message: words, "
                           "lastTransitionTime: '2020-01-01T00:00:00Z'}",
                           type, holds ? "True" : "False", reason);
}

static void end_round(struct bench *bench, int64_t number, bool well, const char *accuracy)
{
    const json_t *round = round_of(bench, number);
    const char *yaml;

    assert_non_null(round);
    yaml = fl_arena_printf(
        bench->rig->arena,
        "{status: {observedGeneration: 1, attempt: 1, startTime: '2020-01-01T00:00:00Z', index: "
        "%" PRId64 ", conditions: [%s, %s], metrics: {evaluation: {accuracy: '%s'}}, model: "
        "{digest: 'sha256:%064" PRId64 "'}}}",
        number, condition_yaml(bench, well ? "Succeeded" : "Stalled", true, "Why"),
        condition_yaml(bench, "Ready", well, well ? "Committed" : "QuorumNotReached"), accuracy,
        number);
    (void)rig_patch(bench->rig,
                    fl_arena_printf(bench->rig->arena, FLROUNDS "/%s/status",
                                    fl_json_str(round, "metadata.name")),
                    yaml);
    bench->root.committed = well ? number : bench->root.committed;
    rig_run_for(bench->rig, A_LONG_TIME);
}

#define assert_project(bench, expected) assert_ready((bench)->rig, PROJECT, expected)

static void test_first_round(void **state)
{
    struct bench *bench = *state;
    const json_t *round;

    make_project(bench, "data: {holdout: '0.5'}");
    round = round_of(bench, 1);
    assert_non_null(round);
    assert_string_equal(fl_json_str(round, "spec.participation.deadline"), "10m");
    assert_int_equal(fl_json_int(round, "spec.local.batchSize", 0), 32);
    assert_string_equal(
        fl_json_str(json_array_get(fl_json_path(round, "metadata.ownerReferences"), 0), "kind"),
        "FLProject");
    assert_int_equal(count_of(bench, WORKLOADS), 2);
    assert_int_equal(count_of(bench, FLROUNDS), 1);
    assert_project(bench, "False Training");
    assert_string_equal(rig_condition(bench->rig, PROJECT, "LearnersReady"), "True Joined");
}

static void test_tiers(void **state)
{
    struct bench *bench = *state;

    make_project(bench, "topology: {tiers: [{name: edge}]}");
    assert_int_equal(count_of(bench, WORKLOADS), 5);
    assert_int_equal(bench->root.children, 2);
    assert_non_null(round_of(bench, 1));
    patch_project(bench, "{spec: {topology: null}}"); /* which counts from the next round on */
    assert_int_equal(count_of(bench, WORKLOADS), 5);
    end_round(bench, 1, true, "0.5");
    assert_int_equal(count_of(bench, WORKLOADS), 2);
    assert_non_null(round_of(bench, 2));
}

static void test_to_the_end_and_on(void **state)
{
    struct bench *bench = *state;
    const json_t *project;

    make_project(bench, "");
    end_round(bench, 1, true, "0.5");
    assert_null(round_of(bench, 3));
    end_round(bench, 2, true, "0.7");
    end_round(bench, 3, true, "0.6");
    assert_project(bench, "True Complete");
    assert_string_equal(rig_condition(bench->rig, PROJECT, "Complete"), "True RoundsDone");
    project = rig_get(bench->rig, PROJECT);
    assert_string_equal(fl_json_str(project, "status.rounds.summary"), "3/3");
    assert_int_equal(fl_json_int(project, "status.bestModel.round", 0), 2);
    assert_int_equal(fl_json_int(project, "status.model.round", 0), 3);
    assert_string_equal(fl_json_str(project, "status.metrics.last.values.accuracy"), "0.6");
    assert_non_null(fl_json_str(project, "status.completionTime"));
    assert_int_equal(rig_living(bench->rig), 0);
    patch_project(bench, "{spec: {training: {rounds: 4}}}");
    assert_non_null(round_of(bench, 4));
    assert_int_equal(rig_living(bench->rig), 3);
    end_round(bench, 4, true, "0.6");
    assert_project(bench, "True Complete");
}

static void test_restart_knows_all(void **state)
{
    struct bench *bench = *state;

    make_project(bench, "");
    end_round(bench, 1, true, "0.5");
    restart(bench);
    rig_run_for(bench->rig, A_LONG_TIME);
    assert_int_equal(count_of(bench, FLROUNDS), 2);
    end_round(bench, 2, true, "0.4");
    assert_int_equal(fl_json_int(rig_get(bench->rig, PROJECT), "status.metrics.best.round", 0), 1);
}

static void test_quiet(void **state)
{
    struct bench *bench = *state;
    int calls;

    make_project(bench, "topology: {tiers: [{name: edge}]}");
    calls = bench->rig->calls;
    fl_manager_enqueue(bench->rig->manager, "flproject", "default", "p");
    (void)rig_settle(bench->rig);
    assert_int_equal(bench->rig->calls, calls);
}

static void test_history(void **state)
{
    struct bench *bench = *state;
    const json_t *kept;

    make_project(bench, "roundHistoryLimit: 1");
    end_round(bench, 1, true, "0.5");
    end_round(bench, 2, true, "0.7");
    end_round(bench, 3, true, "0.6");
    assert_project(bench, "True Complete");
    assert_int_equal(count_of(bench, FLROUNDS), 1);
    assert_int_equal(fl_json_int(rig_get(bench->rig, PROJECT), "status.metrics.best.round", 0), 2);
    assert_string_equal(fl_json_str(rig_get(bench->rig, PROJECT), "status.rounds.summary"), "3/3");
    assert_int_equal(count_of(bench, HISTORIES), 1);
    kept = fl_json_path(json_array_get(fl_json_path(rig_get(bench->rig, HISTORIES), "items"), 0),
                        "spec.rounds");
    assert_int_equal(json_array_size(kept), 2); /* what those told that are gone */
    for (size_t i = 0; i < 2; i++)
        assert_string_equal(
            fl_json_str(json_array_get(kept, i), "status.metrics.evaluation.accuracy"),
            i == 0 ? "0.5" : "0.7");
}

static void test_failed_round(void **state)
{
    struct bench *bench = *state;

    make_project(bench, "");
    end_round(bench, 1, false, "0");
    assert_project(bench, "False QuorumNotReached");
    assert_string_equal(rig_condition(bench->rig, PROJECT, "Stalled"), "True QuorumNotReached");
    assert_int_equal(rig_living(bench->rig), 0);
    patch_project(bench, "{spec: {training: {participation: {deadline: 1m}}}}");
    assert_string_equal(fl_json_str(round_of(bench, 1), "spec.participation.deadline"), "1m");
    assert_project(bench, "False Training");
    assert_int_equal(rig_living(bench->rig), 3);
}

static void test_suspend(void **state)
{
    struct bench *bench = *state;

    make_project(bench, "");
    patch_project(bench, "{spec: {suspend: true}}");
    assert_project(bench, "False Suspended");
    assert_int_equal(rig_living(bench->rig), 0);
    assert_true(fl_json_bool(round_of(bench, 1), "spec.suspend", false));
    patch_project(bench, "{spec: {suspend: false}}");
    assert_int_equal(rig_living(bench->rig), 3);
    assert_false(fl_json_bool(round_of(bench, 1), "spec.suspend", true));
    assert_project(bench, "False Training");
}

/* What is edited meanwhile counts from the next round on. */
static void test_edit(void **state)
{
    struct bench *bench = *state;

    make_project(bench, "");
    patch_project(bench, "{spec: {training: {local: {epochs: 5}}}}");
    assert_int_equal(fl_json_int(round_of(bench, 1), "spec.local.epochs", 0), 1);
    end_round(bench, 1, true, "0.5");
    assert_int_equal(fl_json_int(round_of(bench, 2), "spec.local.epochs", 0), 5);
}

static void test_lost_address(void **state)
{
    struct bench *bench = *state;
    const char *uid;
    char *before;

    make_project(bench, "");
    before = fl_strdup(bench->root.address);
    uid = fl_json_str(json_array_get(json_object_get(rig_get(bench->rig, WORKLOADS), "items"), 1),
                      "metadata.uid");
    assert_true(fl_fake_world_end_run(
        bench->rig->world, &(struct fl_run_id){uid, 0},
        &(struct fl_run_exit){.signal = "SIGKILL", .reason = "Signal", .ended_us = 1}));
    rig_run_for(bench->rig, A_LONG_TIME);
    assert_string_not_equal(bench->root.address, before); /* as this orchestrator has it */
    assert_int_equal(rig_living(bench->rig), 3);
    assert_project(bench, "False Training");
    free(before);
}

static void test_models(void **state)
{
    struct bench *bench = *state;

    make_project(bench, "");
    for (int i = 1; i <= 2; i++) {
        end_round(bench, i, true, i == 1 ? "0.9" : "0.1");
        (void)rig_create(
            bench->rig, MODELS,
            fl_arena_printf(bench->rig->arena,
                            "{apiVersion: flops.dev/v1alpha1, kind: ModelVersion, metadata: "
                            "{name: m%d}, spec: {project: {name: p}, round: %d, digest: "
                            "'sha256:%064d', aliases: [mine%d]}}",
                            i, i, i, i));
        rig_run_for(bench->rig, A_LONG_TIME);
    }
    assert_string_equal(
        fl_json_to_string(bench->rig->arena,
                          fl_json_path(rig_get(bench->rig, MODELS "/m1"), "spec.aliases")),
        "[\"mine1\",\"best\"]");
    assert_string_equal(
        fl_json_to_string(bench->rig->arena,
                          fl_json_path(rig_get(bench->rig, MODELS "/m2"), "spec.aliases")),
        "[\"mine2\",\"latest\"]");
}

static void test_server(void **state)
{
    struct bench *bench = *state;
    const json_t *server;

    make_project(bench, "serve: {port: 9000, labels: {team: x}}");
    assert_true(rig_is_gone(bench->rig, SERVERS "/p"));
    end_round(bench, 1, true, "0.5");
    server = rig_get(bench->rig, SERVERS "/p");
    assert_string_equal(fl_json_str(server, "spec.model.project.name"), "p");
    assert_int_equal(fl_json_int(server, "spec.port", 0), 9000);
    assert_string_equal(fl_json_str(server, "metadata.labels.team"), "x");
    patch_project(bench, "{spec: {serve: null}}");
    assert_true(rig_is_gone(bench->rig, SERVERS "/p"));
}

static void test_name_of_server_is_taken(void **state)
{
    struct bench *bench = *state;

    (void)rig_create(bench->rig, SERVERS,
                     "{apiVersion: flops.dev/v1alpha1, kind: InferenceServer, metadata: {name: p}, "
                     "spec: {model: {project: {name: other}}}}");
    make_project(bench, "serve: {}");
    end_round(bench, 1, true, "0.5");
    assert_string_equal(rig_condition(bench->rig, PROJECT, "ModelServed"), "False NameTaken");
    assert_string_equal(fl_json_str(rig_get(bench->rig, SERVERS "/p"), "spec.model.project.name"),
                        "other");
}

static void test_deletion(void **state)
{
    struct bench *bench = *state;

    make_project(bench, "serve: {}, topology: {tiers: [{name: edge}]}");
    end_round(bench, 1, true, "0.5");
    (void)rig_create(
        bench->rig, FLROUNDS,
        "{apiVersion: flops.dev/v1alpha1, kind: FLRound, metadata: {name: mine}, spec: "
        "{project: {name: p}, suspend: true}}");
    rig_delete(bench->rig, PROJECT);
    rig_run_for(bench->rig, A_LONG_TIME);
    assert_true(rig_is_gone(bench->rig, PROJECT));
    assert_int_equal(count_of(bench, WORKLOADS), 0);
    assert_int_equal(count_of(bench, FLROUNDS), 0);
    assert_int_equal(count_of(bench, SERVERS), 0);
    assert_int_equal(count_of(bench, SECRETS), 0);
    assert_int_equal(rig_left(bench->rig), 0);
    assert_int_equal(bench->root.forgotten, 1);
}

/* Code. What becomes of ImageBuilds is the test's. */

static void fetch(struct bench *bench)
{
    rig_run_for(bench->rig, 1000);
    (void)fl_source_fake_step(bench->code);
    rig_run_for(bench->rig, 1000);
}

static void make_git_project(struct bench *bench)
{
    (void)rig_create(bench->rig, FLPROJECTS,
                     "{apiVersion: flops.dev/v1alpha1, kind: FLProject, metadata: {name: p}, spec: "
                     "{source: {git: {url: '" CODE "', ref: {branch: main}}}, learners: {count: "
                     "2}, training: {rounds: 3}, serve: {}}}");
    fetch(bench);
}

static const json_t *build_for(struct bench *bench, const char *target, const char *commit)
{
    const json_t *items = json_object_get(rig_get(bench->rig, BUILDS), "items");
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)items, i, item) {
        if (fl_streq(fl_json_str(item, "spec.target"), target) &&
            (!commit || fl_streq(fl_json_str(item, "spec.source.commit"), commit)))
            return item;
    }
    return NULL;
}

static void finish_build(struct bench *bench, const json_t *build, const char *image)
{
    assert_non_null(build);
    (void)rig_patch(
        bench->rig,
        fl_arena_printf(bench->rig->arena, BUILDS "/%s/status",
                        fl_json_str(build, "metadata.name")),
        fl_arena_printf(bench->rig->arena,
                        "{status: {conditions: [%s], image: {name: %s, digest: 'sha256:%064d'}}}",
                        condition_yaml(bench, "Succeeded", true, "Built"), image, 1));
    rig_run_for(bench->rig, 1000);
}

static int64_t workloads_with(struct bench *bench, const char *image)
{
    const json_t *items = json_object_get(rig_get(bench->rig, WORKLOADS), "items");
    const char *prefix = fl_arena_printf(bench->rig->arena, "%s@sha256:", image);
    json_t *item;
    int64_t count = 0;
    size_t i;

    json_array_foreach((json_t *)items, i, item)
        count += fl_str_has_prefix(fl_str_or(fl_json_str(item, "spec.image"), ""), prefix);
    return count;
}

static void test_code_becomes_images(void **state)
{
    struct bench *bench = *state;
    const struct fl_source_fake_file nothing[] = {{0}};

    (void)fl_source_fake_commit(bench->code, CODE, COMMIT_A, nothing);
    make_git_project(bench);
    assert_string_equal(rig_condition(bench->rig, PROJECT, "SourceReady"), "True Fetched");
    assert_project(bench, "False BuildingImage");
    assert_int_equal(count_of(bench, WORKLOADS), 0);
    (void)fl_source_fake_commit(bench->code, CODE, COMMIT_B, nothing); /* which is not for it */
    restart(bench);
    rig_run_for(bench->rig, A_LONG_TIME);
    assert_int_equal(fl_source_fake_fetches(bench->code), 1);
    finish_build(bench, build_for(bench, "Learner", NULL), "r/learner");
    finish_build(bench, build_for(bench, "Aggregator", NULL), "r/aggregator");
    finish_build(bench, build_for(bench, "InferenceServer", NULL), "r/server");
    rig_run_for(bench->rig, A_LONG_TIME);
    assert_int_equal(workloads_with(bench, "r/learner"), 1);
    assert_int_equal(workloads_with(bench, "r/aggregator"), 1);
    assert_string_equal(rig_condition(bench->rig, PROJECT, "ImageReady"), "True Built");
    end_round(bench, 1, true, "0.5");
    assert_true(fl_str_has_prefix(
        json_string_value(
            json_object_get(fl_json_path(rig_get(bench->rig, SERVERS "/p"), "metadata.annotations"),
                            FL_SERVING_PROGRAM_IMAGE)),
        "r/server@"));
    rig_delete(bench->rig, PROJECT);
    rig_run_for(bench->rig, A_LONG_TIME);
    assert_true(rig_is_gone(bench->rig, PROJECT));
    assert_int_equal(count_of(bench, BUILDS), 0);
}

static void test_code_that_changes(void **state)
{
    struct bench *bench = *state;
    const struct fl_source_fake_file nothing[] = {{0}};

    (void)fl_source_fake_commit(bench->code, CODE, COMMIT_A, nothing);
    make_git_project(bench);
    finish_build(bench, build_for(bench, "Learner", NULL), "r/old");
    finish_build(bench, build_for(bench, "Aggregator", NULL), "r/aggregator");
    finish_build(bench, build_for(bench, "InferenceServer", NULL), "r/server");
    rig_run_for(bench->rig, A_LONG_TIME);
    (void)fl_source_fake_commit(bench->code, CODE, COMMIT_B, nothing);
    patch_project(bench, "{spec: {source: {git: {ref: {branch: null, tag: v2}}}}}");
    fetch(bench);
    assert_int_equal(fl_source_fake_fetches(bench->code), 2);
    assert_int_equal(count_of(bench, BUILDS), 4);
    assert_string_equal(rig_condition(bench->rig, PROJECT, "ImageReady"), "False BuildingImage");
    end_round(bench, 1, true, "0.5"); /* training goes on with what it has */
    assert_non_null(round_of(bench, 2));
    finish_build(bench, build_for(bench, "Learner", COMMIT_B), "r/new");
    assert_int_equal(workloads_with(bench, "r/old"), 1); /* until the round is over */
    end_round(bench, 2, true, "0.6");
    assert_int_equal(workloads_with(bench, "r/new"), 1);
    assert_int_equal(workloads_with(bench, "r/old"), 0);
    assert_int_equal(count_of(bench, BUILDS), 3);
}

static void test_code_that_cannot_be_had(void **state)
{
    struct bench *bench = *state;
    const struct fl_source_fake_file nothing[] = {{0}};

    fl_source_fake_reach(bench->code, CODE, false);
    make_git_project(bench);
    assert_project(bench, "False SourceNotReady");
    assert_int_equal(count_of(bench, BUILDS), 0);
    (void)fl_source_fake_commit(bench->code, CODE, COMMIT_A, nothing);
    fl_source_fake_reach(bench->code, CODE, true);
    rig_run_for(bench->rig, A_LONG_TIME);
    fetch(bench);
    assert_project(bench, "False BuildingImage");
    assert_int_equal(count_of(bench, BUILDS), 3);
}

static void test_lacks(void **state)
{
    static const struct {
        const char *spec, *ready, *stalled;
    } examples[] = {
        {"orchestrator: other", "False OrchestratorNotReady", "True OrchestratorNotReady"},
        {"data: {tags: [none]}", "False WaitingForLearners", "True WaitingForLearners"},
        {"source: {builtin: null, git: {url: 'file:///x/y'}}", "False SourceInvalid",
         "True SourceInvalid"},
        {"privacy: {secureAggregation: {}}, training: {rounds: 3, participation: {minAvailable: 3, "
         "quorum: 3}}, learners: {count: 3}",
         "False NotSupported", "True NotSupported"},
    };
    struct bench *bench = *state;

    for (size_t i = 0; i < FL_COUNT_OF(examples); i++) {
        json_t *project = NULL;
        struct fl_error err = {0};
        json_t *more = NULL, *spec;
        const char *yaml = fl_arena_printf(bench->rig->arena, "{%s}", examples[i].spec);

        if (fl_yaml_parse(yaml, strlen(yaml), NULL, &more, &err) < 0)
            fail_msg("%s", err.msg);
        spec = json_pack("{s:{s:{s:s}}, s:{s:i}, s:{s:i}}", "source", "builtin", "trainer", "MLP",
                         "learners", "count", 2, "training", "rounds", 3);
        if (json_object_get(more, "source"))
            (void)json_object_del(json_object_get(more, "source"), "builtin");
        (void)json_object_update(spec, fl_json_in_arena(bench->rig->arena, more));
        project = json_pack("{s:s, s:s, s:{s:s}, s:o}", "apiVersion", "flops.dev/v1alpha1", "kind",
                            "FLProject", "metadata", "name", "p", "spec", spec);
        fl_json_in_arena(bench->rig->arena, project);
        (void)rig_create(bench->rig, FLPROJECTS, fl_json_to_string(bench->rig->arena, project));
        rig_run_for(bench->rig, A_LONG_TIME);
        assert_project(bench, examples[i].ready);
        rig_run_for(bench->rig, 11 * 60 * 1000);
        assert_string_equal(rig_condition(bench->rig, PROJECT, "Stalled"), examples[i].stalled);
        assert_int_equal(count_of(bench, FLROUNDS), 0);
        rig_delete(bench->rig, PROJECT);
        rig_run_for(bench->rig, A_LONG_TIME);
        assert_true(rig_is_gone(bench->rig, PROJECT));
    }
}

/* What was missing comes: it goes on by itself. */
static void test_lack_ends(void **state)
{
    struct bench *bench = *state;
    const char *tags[] = {"toy"};

    make_project(bench, "data: {tags: [toy]}");
    rig_run_for(bench->rig, 11 * 60 * 1000);
    assert_string_equal(rig_condition(bench->rig, PROJECT, "Stalled"), "True WaitingForLearners");
    fl_fake_world_put_node(bench->rig->world, &(struct fl_node){.cluster = "c",
                                                                .name = "with-data",
                                                                .ready = true,
                                                                .runs_processes = true,
                                                                .data_tags = {tags, 1},
                                                                .capacity = {.cpu_milli = 4000}});
    rig_run_for(bench->rig, A_LONG_TIME);
    assert_project(bench, "False Training");
    assert_non_null(round_of(bench, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_first_round, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tiers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_to_the_end_and_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restart_knows_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_quiet, setup, teardown),
        cmocka_unit_test_setup_teardown(test_history, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_round, setup, teardown),
        cmocka_unit_test_setup_teardown(test_suspend, setup, teardown),
        cmocka_unit_test_setup_teardown(test_edit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost_address, setup, teardown),
        cmocka_unit_test_setup_teardown(test_models, setup, teardown),
        cmocka_unit_test_setup_teardown(test_server, setup, teardown),
        cmocka_unit_test_setup_teardown(test_name_of_server_is_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deletion, setup, teardown),
        cmocka_unit_test_setup_teardown(test_code_becomes_images, setup, teardown),
        cmocka_unit_test_setup_teardown(test_code_that_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_code_that_cannot_be_had, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lacks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lack_ends, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
