/* Every field of a project's training reaches the root, and a round's overrides take its place. */
#include "reconcilers/flround/flround_order.h"

#include "lib/json.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define DIGEST "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static const char project_yaml[] =
    "apiVersion: flops.dev/v1alpha1\n"
    "kind: FLProject\n"
    "metadata: {name: p, uid: u, generation: 3}\n"
    "spec:\n"
    "  source: {builtin: {trainer: MLP}}\n"
    "  data: {tags: [a, b], minExamples: 17}\n"
    "  topology: {tiers: [{name: edge, groupBy: Cluster, roundsPerParentRound: 3, deadline: "
    "40s}]}\n"
    "  training:\n"
    "    mode: SemiSync\n"
    "    rounds: 10\n"
    "    seed: 99\n"
    "    local: {epochs: 2, batchSize: 33, learningRate: '0.5', momentum: '0.25',\n"
    "            weightDecay: '0.125', learningRateDecay: '0.5', proximalMu: '0.75',\n"
    "            config: {k: 1}}\n"
    "    strategy: {name: Krum, serverLearningRate: '1.5', serverMomentum: '0.5', beta1: '0.6',\n"
    "               beta2: '0.7', tau: '0.8', q: '0.9', trimFraction: '0.3', byzantineLearners: "
    "1,\n"
    "               selectUpdates: 2, normBound: '4.5', maxIterations: 5, bufferSize: 6}\n"
    "    participation: {minAvailable: 8, availableWithin: 11s, fraction: '0.5',\n"
    "                    overSelection: '1.25', quorum: 4, deadline: 12s, retryLimit: 7,\n"
    "                    selection: Oort, maxExampleShare: '0.5'}\n"
    "    staleness: {maxRounds: 4, weighting: Exponential, exponent: '0.75'}\n"
    "    evaluation: {mode: Federated, everyRounds: 3, fraction: '0.25', deadline: 13s}\n";

static void *read_object(struct fl_arena *arena, const struct fl_kind_type *type, const char *yaml)
{
    struct fl_error err = {0};
    json_t *json = NULL;
    void *object = NULL;

    if (fl_yaml_parse(yaml, strlen(yaml), NULL, &json, &err) < 0 ||
        fl_object_decode(type, fl_json_in_arena(arena, json), arena, &object, &err) < 0)
        fail_msg("%s", err.msg);
    return object;
}

static struct fl_round_order order_of(struct fl_arena *arena, const char *round, int64_t number)
{
    const char *yaml = fl_arena_printf(arena,
                                       "apiVersion: flops.dev/v1alpha1\nkind: FLRound\n"
                                       "metadata: {name: r}\n"
                                       "spec: {project: {name: p}%s%s}\n",
                                       *round ? ", " : "", round);
    const struct fl_flround_plan plan = {.project =
                                             read_object(arena, &fl_project_type, project_yaml),
                                         .round = read_object(arena, &fl_round_type, yaml),
                                         .number = number,
                                         .run = 2,
                                         .base = DIGEST,
                                         .base_size = 123};
    struct fl_round_order order;
    struct fl_error err = {0};

    if (fl_flround_order(&plan, arena, &order, &err) < 0)
        fail_msg("%s", err.msg);
    return order;
}

/* The order in the protocol's own words, so that no member is forgotten here. */
static void assert_order(const struct fl_round_order *order, const char *expected)
{
    FL_JSON is = fl_message_to_json(&fl_form_round_order, order);
    FL_JSON want = NULL;
    struct fl_error err = {0};

    if (fl_yaml_parse(expected, strlen(expected), NULL, &want, &err) < 0)
        fail_msg("%s", err.msg);
    if (!json_equal(is, want)) {
        FL_CLEANUP(fl_freep) char *text = json_dumps(is, JSON_SORT_KEYS | JSON_INDENT(1));

        fail_msg("%s", text);
    }
}

static void test_all_fields(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_round_order order = order_of(arena, "", 3);

    (void)state;
    assert_order(
        &order, "project: p-fl-9860196e2c\nround: 3\nrun: 2\nmodel: '" DIGEST "'\nmodelSize: 123\n"
                "mode: SemiSync\nseed: 99\n"
                "local: {epochs: 2, batchSize: 33, learningRate: 0.125, momentum: 0.25,\n"
                "        weightDecay: 0.125, proximalMu: 0.75, config: {k: 1}}\n"
                "strategy: {name: Krum, serverLearningRate: 1.5, serverMomentum: 0.5, beta1: 0.6,\n"
                "           beta2: 0.7, tau: 0.8, q: 0.9, trimFraction: 0.3, normBound: 4.5,\n"
                "           byzantineLearners: 1, selectUpdates: 2, maxIterations: 5,\n"
                "           bufferSize: 6}\n"
                "participation: {minAvailable: 8, availableWithinMs: 11000, fraction: 0.5,\n"
                "                overSelection: 1.25, quorum: 4, deadlineMs: 12000,\n"
                "                retryLimit: 7, selection: Oort, maxExampleShare: 0.5}\n"
                "staleness: {maxRounds: 4, weighting: Exponential, exponent: 0.75}\n"
                "evaluation: {enabled: true, fraction: 0.25, deadlineMs: 13000}\n"
                "tags: [a, b]\nminExamples: 17\n"
                "roundsPerParentRound: 3\ntierDeadlineMs: 40000\n");
}

static void test_overrides(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_round_order order = order_of(
        arena,
        "local: {epochs: 9, batchSize: 0, learningRate: '2', momentum: '0', weightDecay: '0.5',"
        " learningRateDecay: '1', proximalMu: '0', config: {z: 2}},"
        " strategy: {byzantineLearners: 2, q: '0.5'},"
        " participation: {minAvailable: 3, availableWithin: 1s, fraction: '1', overSelection: '2',"
        " quorum: 2, deadline: 2s, retryLimit: 0, selection: All, maxExampleShare: '1'}",
        4);

    (void)state;
    assert_int_equal(order.local.epochs, 9);
    assert_int_equal(order.local.batch_size, 0);
    assert_true(order.local.learning_rate == 2);
    assert_true(order.local.momentum == 0);
    assert_true(order.local.weight_decay == 0.5);
    assert_true(order.local.proximal_mu == 0);
    assert_int_equal(fl_json_int(order.local.config, "z", 0), 2);
    assert_string_equal(order.strategy.name, "Krum"); /* without a name, the rest stays */
    assert_int_equal(order.strategy.byzantine_learners, 2);
    assert_true(order.strategy.q == 0.5);
    assert_true(order.strategy.norm_bound == 4.5);
    assert_int_equal(order.participation.min_available, 3);
    assert_int_equal(order.participation.available_within_ms, 1000);
    assert_true(order.participation.fraction == 1);
    assert_true(order.participation.over_selection == 2);
    assert_int_equal(order.participation.quorum, 2);
    assert_int_equal(order.participation.deadline_ms, 2000);
    assert_int_equal(order.participation.retry_limit, 0);
    assert_int_equal(order.participation.selection, FL_SELECTION_ALL);
    assert_true(order.participation.max_example_share == 1);
    assert_false(order.evaluation.enabled);
}

static void test_another_strategy(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_round_order order = order_of(arena, "strategy: {name: FedAvg}", 1);

    (void)state;
    assert_string_equal(order.strategy.name, "FedAvg");
    assert_true(order.strategy.byzantine_learners < 0); /* nothing of Krum's is left */
    assert_true(isnan(order.strategy.q));
}

static void test_quorum_of_few(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_round_order order = order_of(arena, "participation: {minAvailable: 2}", 1);

    (void)state;
    assert_int_equal(order.participation.quorum, 2);
}

static void test_evaluation(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_project *project = read_object(arena, &fl_project_type, project_yaml);

    (void)state;
    assert_false(fl_flround_is_evaluated(project, 1));
    assert_true(fl_flround_is_evaluated(project, 6));
    assert_true(fl_flround_is_evaluated(project, 10)); /* the last one always */
    project->spec.training.evaluation.mode = FL_PROJECT_TRAINING_EVALUATION_MODE_NONE;
    assert_false(fl_flround_is_evaluated(project, 10));
}

static void test_privacy_is_not_dropped(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_project *project = read_object(arena, &fl_project_type, project_yaml);
    const struct fl_flround_plan plan = {
        .project = project, .round = fl_object_new(&fl_round_type, arena), .number = 1};
    struct fl_round_order order;

    (void)state;
    project->spec.has_privacy = project->spec.privacy.has_secure_aggregation = true;
    assert_int_equal(fl_flround_order(&plan, arena, &order, NULL), FL_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_fields),       cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_another_strategy), cmocka_unit_test(test_quorum_of_few),
        cmocka_unit_test(test_evaluation),       cmocka_unit_test(test_privacy_is_not_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
