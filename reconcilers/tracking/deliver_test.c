/* What a tracker should hold, and that it comes to hold just that, whatever fails on the way. */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "lib/str.h"
#include "lib/yaml.h"
#include "reconcilers/tracking/deliver.h"
#include "reconcilers/tracking/tracker_fake.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define ROUNDS_MAX 60

/* A project with rounds and models, as text. */
struct world {
    struct fl_arena *arena;
    struct fl_track_input input;
    struct fl_track_past past[ROUNDS_MAX];
    struct fl_modelversion *models[4];
};

static json_t *parse(struct fl_arena *arena, const char *text)
{
    json_t *json = NULL;
    struct fl_error err = {0};

    if (fl_yaml_parse(text, strlen(text), NULL, &json, &err) < 0)
        fail_msg("%s", err.msg);
    return fl_json_in_arena(arena, json);
}

static const char project_text[] =
    "apiVersion: flops.dev/v1alpha1\nkind: FLProject\n"
    "metadata: {name: digits, namespace: team, uid: uid-1, generation: 1}\n"
    "spec:\n"
    "  source: {git: {url: 'https://example.org/digits.git'}}\n"
    "  data: {tags: [mnist]}\n"
    "  training: {rounds: 3, seed: 7, mode: Sync, strategy: {name: FedAvg},"
    " local: {learningRate: '0.1', config: {'odd key/..': 1}}}\n"
    "  topology: {tiers: [{name: edge, groupBy: Cluster}]}\n"
    "  learners: {count: 4}\n"
    "  tracking: {mlflow: {url: 'http://tracker', perLearner: %s}}\n"
    "status:\n"
    "  startTime: '2026-01-02T03:04:05Z'\n"
    "  completionTime: '2026-01-02T04:00:00Z'\n"
    "  source: {commit: 0123456789abcdef0123456789abcdef01234567}\n"
    "  conditions: [%s]\n";

static const char complete[] = "{type: Complete, status: 'True', lastTransitionTime: "
                               "'2026-01-02T04:00:01Z', reason: Complete, message: done}";

static void read_project(struct world *world, const char *per_learner, const char *conditions)
{
    struct fl_project *project = NULL;
    struct fl_error err = {0};

    world->input.json =
        parse(world->arena, fl_arena_printf(world->arena, project_text, per_learner, conditions));
    if (fl_project_decode(world->input.json, world->arena, &project, &err) < 0)
        fail_msg("%s", err.msg);
    world->input.project = project;
}

static void add_round(struct world *world, int64_t number, bool committed)
{
    static const char text[] =
        "apiVersion: flops.dev/v1alpha1\nkind: FLRound\nmetadata: {name: r}\n"
        "spec: {project: {name: digits}}\n"
        "status: {index: %" PRId64 ", attempt: 1, startTime: '2026-01-02T03:05:00Z',"
        " completionTime: '2026-01-02T03:%02d:00Z', examples: 100,"
        " participants: {selected: 4, reported: 3, late: 0, dropped: 1, rejected: 0},"
        " excluded: [{learner: secret-name, outcome: Dropped}],"
        " metrics: {train: {loss: '0.5'}, evaluation: {accuracy: '0.9', 'a/b': NaN}},"
        " durations: {total: 1m30s}, privacy: {epsilon: '0.25'}}\n";
    struct fl_round *round = NULL;
    struct fl_error err = {0};
    json_t *json =
        parse(world->arena, fl_arena_printf(world->arena, text, number, (int)(number % 50) + 6));

    if (fl_round_decode(json, world->arena, &round, &err) < 0)
        fail_msg("%s", err.msg);
    world->past[world->input.round_count++] =
        (struct fl_track_past){number, committed, &round->status};
    world->input.rounds = world->past;
}

static void add_model(struct world *world, int64_t round, const char *aliases)
{
    static const char text[] =
        "apiVersion: flops.dev/v1alpha1\nkind: ModelVersion\n"
        "metadata: {name: digits-model-%" PRId64 ", namespace: team, uid: uid-m}\n"
        "spec: {project: {name: digits}, round: %" PRId64 ", aliases: [%s],"
        " digest: 'sha256:%064" PRIx64 "', metrics: {accuracy: '0.9'}}\n";
    struct fl_error err = {0};
    json_t *json =
        parse(world->arena, fl_arena_printf(world->arena, text, round, round, aliases, round));

    if (fl_modelversion_decode(json, world->arena, &world->models[world->input.model_count++],
                               &err) < 0)
        fail_msg("%s", err.msg);
    world->input.models = world->models;
}

static void world_begin(struct world *world, const char *per_learner, const char *conditions)
{
    *world = (struct world){.arena = fl_arena_create()};
    read_project(world, per_learner, conditions);
}

static void world_finish(struct world *world)
{
    fl_arena_destroy(world->arena);
}

static struct fl_track_plan plan_of(struct world *world)
{
    struct fl_track_plan plan;

    fl_track_plan(&world->input, world->arena, &plan);
    return plan;
}

/* Plans. */

static void test_plan(void **state)
{
    FL_CLEANUP(world_finish) struct world world;
    struct fl_track_plan plan;
    const struct fl_track_run *run;

    (void)state;
    world_begin(&world, "false", complete);
    add_round(&world, 2, true);
    add_round(&world, 1, true);
    add_round(&world, 3, false);
    add_round(&world, 2, true); /* in the history, too */
    add_model(&world, 1, "best, my.own");
    add_model(&world, 2, "latest");
    plan = plan_of(&world);
    assert_string_equal(plan.experiment, "team/digits");
    assert_int_equal(plan.run_count, 2);
    run = &plan.runs[0];
    assert_string_equal(run->key, "uid-1");
    assert_int_equal(run->round_count, 2);
    assert_int_equal(run->rounds[0].number, 1);
    assert_int_equal(run->status, FL_TRACKED_FINISHED);
    assert_true(run->end_ms > run->run.start_ms);
    assert_string_equal(fl_string_map_get(&run->params, "strategy.name"), "FedAvg");
    assert_string_equal(fl_string_map_get(&run->params, "local.config.odd_key_.."), "1");
    assert_string_equal(fl_string_map_get(&run->params, "learners.count"), "4");
    assert_string_equal(fl_string_map_get(&run->run.tags, "mlflow.source.git.commit"),
                        "0123456789abcdef0123456789abcdef01234567");
    assert_int_equal(run->dataset_count, 1);
    assert_string_equal(run->datasets[0].name, "mnist");
    assert_int_equal(strlen(run->datasets[0].digest), 32);
    assert_true(plan.runs[1].is_child);
    assert_string_equal(fl_string_map_get(&plan.runs[1].params, "groupBy"), "Cluster");
    assert_int_equal(plan.model_count, 1); /* latest is a name that trackers keep */
    assert_string_equal(plan.models[0].aliases[0], "best");
    assert_string_equal(plan.models[0].aliases[1], "my-own");
    assert_string_equal(plan.models[0].registered, "digits");
}

static const struct fl_tracked_metric *find_metric(const struct fl_tracked_metric *metrics,
                                                   size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(metrics[i].key, key) == 0)
            return &metrics[i];
    return NULL;
}

static void test_metrics(void **state)
{
    FL_CLEANUP(world_finish) struct world world;
    const struct fl_tracked_metric *metrics = NULL;
    struct fl_track_plan plan;
    size_t count = 0;

    (void)state;
    world_begin(&world, "false", "");
    add_round(&world, 1, true);
    add_round(&world, 2, true);
    plan = plan_of(&world);
    assert_int_equal(plan.runs[0].status, FL_TRACKED_RUNNING);
    fl_track_metrics(&plan, &plan.runs[0].rounds[1], world.arena, &metrics, &count);
    assert_true(find_metric(metrics, count, "train/loss")->value == 0.5);
    assert_true(isnan(find_metric(metrics, count, "evaluation/a_b")->value));
    assert_true(find_metric(metrics, count, "duration/total_seconds")->value == 90);
    assert_true(find_metric(metrics, count, "learners/reported")->value == 3);
    assert_true(find_metric(metrics, count, "privacy/epsilon_of_round")->value == 0.25);
    assert_true(find_metric(metrics, count, "privacy/epsilon_spent")->value == 0.5);
    assert_string_equal(metrics[count - 1].key, FL_TRACK_ROUND);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(metrics[i].step, 2);
        assert_int_equal(metrics[i].time_ms, plan.runs[0].rounds[1].time_ms);
        assert_false(fl_str_has_prefix(metrics[i].key, "learner/"));
    }
}

/* Under another name, and only where it is wanted. */
static void test_learners(void **state)
{
    FL_CLEANUP(world_finish) struct world world;
    const struct fl_tracked_metric *metrics = NULL;
    struct fl_track_plan plan;
    size_t count = 0, told = 0;

    (void)state;
    world_begin(&world, "true", "");
    add_round(&world, 1, true);
    plan = plan_of(&world);
    fl_track_metrics(&plan, &plan.runs[0].rounds[0], world.arena, &metrics, &count);
    for (size_t i = 0; i < count; i++) {
        told += fl_str_has_prefix(metrics[i].key, "learner/");
        assert_null(strstr(metrics[i].key, "secret-name"));
    }
    assert_int_equal(told, 1);
}

/* Delivering. */

struct delivering {
    struct fl_fake_tracker *fake;
    struct fl_tracker *tracker;
    struct fl_track_memory *memory;
    size_t exports;
};

static void delivering_begin(struct delivering *delivering)
{
    const struct fl_tracker_options options = {0};
    struct fl_error err = {0};

    *delivering =
        (struct delivering){.fake = fl_fake_tracker_create(), .memory = fl_track_memory_create()};
    assert_int_equal(fl_tracker_fake_open(delivering->fake, &options, &delivering->tracker, &err),
                     0);
}

static void delivering_finish(struct delivering *delivering)
{
    fl_tracker_destroy(delivering->tracker);
    fl_track_memory_destroy(delivering->memory);
    fl_fake_tracker_destroy(delivering->fake);
}

static int export_nothing(void *user, const struct fl_track_model *model, const char **ret_folder,
                          struct fl_error *err)
{
    (void)model;
    (void)err;
    ((struct delivering *)user)->exports++;
    *ret_folder = "folder";
    return 0;
}

static int deliver(struct delivering *delivering, struct world *world,
                   struct fl_track_progress *ret_progress)
{
    const struct fl_track_plan plan = plan_of(world);
    const struct fl_track_delivery delivery = {.tracker = delivering->tracker,
                                               .plan = &plan,
                                               .memory = delivering->memory,
                                               .arena = world->arena,
                                               .export = export_nothing,
                                               .user = delivering};
    struct fl_error err = {0};

    return fl_track_deliver(&delivery, ret_progress, &err);
}

/* All is there, and nothing twice. */
static void assert_recorded(struct delivering *delivering, size_t rounds, size_t models)
{
    const json_t *state = fl_fake_tracker_state(delivering->fake);
    const json_t *run = fl_fake_tracker_run(delivering->fake, "digits");
    const json_t *child = fl_fake_tracker_run(delivering->fake, "digits/edge");

    assert_int_equal(json_object_size(json_object_get(state, "experiments")), 1);
    assert_int_equal(json_array_size(json_object_get(state, "runs")), 2);
    assert_int_equal(json_array_size(json_object_get(state, "models")), models);
    assert_int_equal(json_array_size(json_object_get(state, "versions")), models);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(child, "tags"), "mlflow.parentRunId")),
        fl_json_str(run, "id"));
    for (size_t i = 1; i <= rounds; i++) {
        assert_int_equal(fl_fake_tracker_points(run, FL_TRACK_ROUND, (int64_t)i), 1);
        assert_int_equal(fl_fake_tracker_points(run, "evaluation/accuracy", (int64_t)i), 1);
        assert_int_equal(fl_fake_tracker_points(run, "learners/dropped", (int64_t)i), 1);
    }
    assert_int_equal(fl_fake_tracker_points(run, FL_TRACK_ROUND, (int64_t)rounds + 1), 0);
}

static void test_deliver(void **state)
{
    FL_CLEANUP(delivering_finish) struct delivering delivering;
    FL_CLEANUP(world_finish) struct world world;
    struct fl_track_progress progress;
    int64_t calls;

    (void)state;
    delivering_begin(&delivering);
    world_begin(&world, "false", complete);
    for (int64_t i = 1; i <= 45; i++)
        add_round(&world, i, true);
    add_model(&world, 4, "best");
    assert_int_equal(deliver(&delivering, &world, &progress), 0);
    assert_recorded(&delivering, 45, 1);
    assert_int_equal(progress.owed_rounds, 0);
    assert_int_equal(progress.owed_models, 0);
    assert_string_equal(progress.versions[0].version, "1");
    assert_int_equal(fl_json_int(fl_fake_tracker_run(delivering.fake, "digits"), "status", 0),
                     FL_TRACKED_FINISHED);
    /* Nothing new: nobody is asked. */
    calls = fl_fake_tracker_calls(delivering.fake);
    assert_int_equal(deliver(&delivering, &world, &progress), 0);
    assert_int_equal(fl_fake_tracker_calls(delivering.fake), calls);
    /* And without a memory: nothing is made anew. */
    fl_track_memory_clear(delivering.memory);
    assert_int_equal(deliver(&delivering, &world, &progress), 0);
    assert_recorded(&delivering, 45, 1);
    assert_int_equal(delivering.exports, 1);
}

/* Each call fails once, before and after it took place. */
static void test_faults(void **state)
{
    (void)state;
    for (int after = 0; after < 2; after++)
        for (int64_t at = 1; at <= 20; at++) {
            FL_CLEANUP(delivering_finish) struct delivering delivering;
            FL_CLEANUP(world_finish) struct world world;
            struct fl_track_progress progress;
            int tries = 0;

            delivering_begin(&delivering);
            world_begin(&world, "false", complete);
            for (int64_t i = 1; i <= 25; i++)
                add_round(&world, i, true);
            add_model(&world, 4, "best");
            fl_fake_tracker_fail(delivering.fake, at, FL_E_UNAVAILABLE, after, false);
            while (deliver(&delivering, &world, &progress) < 0)
                assert_in_range(++tries, 1, 2);
            assert_recorded(&delivering, 25, 1);
        }
}

/* A round that comes late, out of its turn, is delivered, too. */
static void test_late_round(void **state)
{
    FL_CLEANUP(delivering_finish) struct delivering delivering;
    FL_CLEANUP(world_finish) struct world world;
    struct fl_track_progress progress;

    (void)state;
    delivering_begin(&delivering);
    world_begin(&world, "false", "");
    add_round(&world, 1, true);
    add_round(&world, 3, true);
    assert_int_equal(deliver(&delivering, &world, &progress), 0);
    add_round(&world, 2, true);
    assert_int_equal(deliver(&delivering, &world, &progress), 0);
    assert_recorded(&delivering, 3, 0);
}

/* What is owed is told, and grows while nobody answers. */
static void test_gone(void **state)
{
    FL_CLEANUP(delivering_finish) struct delivering delivering;
    FL_CLEANUP(world_finish) struct world world;
    struct fl_track_progress progress;

    (void)state;
    delivering_begin(&delivering);
    world_begin(&world, "false", complete);
    add_round(&world, 1, true);
    add_model(&world, 1, "best");
    fl_fake_tracker_fail(delivering.fake, 1, FL_E_TIMEOUT, false, true);
    assert_int_equal(deliver(&delivering, &world, &progress), FL_E_TIMEOUT);
    assert_int_equal(progress.owed_rounds, 1);
    assert_int_equal(progress.owed_models, 1);
    add_round(&world, 2, true);
    assert_int_equal(deliver(&delivering, &world, &progress), FL_E_TIMEOUT);
    assert_int_equal(progress.owed_rounds, 2);
    fl_fake_tracker_fail(delivering.fake, 0, 0, false, false);
    assert_int_equal(deliver(&delivering, &world, &progress), 0);
    assert_recorded(&delivering, 2, 1);
}

/* A param is written once: what it becomes later is a tag. */
static void test_changed_param(void **state)
{
    FL_CLEANUP(delivering_finish) struct delivering delivering;
    FL_CLEANUP(world_finish) struct world world;
    struct fl_track_progress progress;
    const json_t *run;

    (void)state;
    delivering_begin(&delivering);
    world_begin(&world, "false", complete);
    add_round(&world, 1, true);
    assert_int_equal(deliver(&delivering, &world, &progress), 0);
    world_finish(&world);
    world_begin(&world, "false", "");
    (void)json_object_set_new(fl_json_path(world.input.json, "spec.training"), "rounds",
                              json_integer(9));
    add_round(&world, 1, true);
    assert_int_equal(deliver(&delivering, &world, &progress), 0);
    run = fl_fake_tracker_run(delivering.fake, "digits");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(run, "params"), "rounds")), "3");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(run, "tags"), FL_TRACK_CHANGE "rounds")),
        "9");
    assert_int_equal(fl_json_int(run, "status", 0), FL_TRACKED_RUNNING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan),     cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_learners), cmocka_unit_test(test_deliver),
        cmocka_unit_test(test_faults),   cmocka_unit_test(test_late_round),
        cmocka_unit_test(test_gone),     cmocka_unit_test(test_changed_param),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
