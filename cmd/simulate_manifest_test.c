#include "cmd/simulate_manifest.h"

#include "lib/file.h"
#include "lib/str.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

static const char head[] = "apiVersion: flops.dev/v1alpha1\n"
                           "kind: FLProject\n"
                           "metadata: {name: p}\n"
                           "spec:\n"
                           "  data: {tags: [mnist, more]}\n"
                           "  learners: {count: 40}\n";

static int read_text(struct fl_arena *arena, const char *text, struct fl_simulation *simulation,
                     const char **ret_tag, struct fl_error *err)
{
    char path[] = "/tmp/flops-simulate-XXXXXX.yaml";
    int fd = mkstemps(path, 5), r;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    (void)close(fd);
    fl_simulation_init(simulation);
    r = fl_simulate_manifest_read(arena, path, simulation, ret_tag, err);
    (void)unlink(path);
    return r;
}

static void test_all_is_taken(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *text = fl_arena_printf(
        arena, "%s%s", head,
        "  source: {builtin: {trainer: CNN, options: {filters: [8]}}}\n"
        "  training:\n"
        "    mode: SemiSync\n"
        "    rounds: 30\n"
        "    seed: 42\n"
        "    local: {epochs: 5, batchSize: 10, learningRate: \"0.1\", momentum: \"0.9\"}\n"
        "    strategy: {name: TrimmedMean, trimFraction: \"0.3\"}\n"
        "    participation: {minAvailable: 8, fraction: \"0.5\", overSelection: \"1.3\", quorum: "
        "6,\n"
        "                    deadline: 2m, selection: Oort, maxExampleShare: \"0.25\"}\n"
        "    staleness: {maxRounds: 3, exponent: \"0.7\"}\n"
        "    evaluation: {everyRounds: 2}\n"
        "    bestModel: {metric: accuracy, stopWhen: {target: \"0.99\"}}\n");
    struct fl_simulation simulation;
    const struct fl_round_order *spec = &simulation.spec;
    const char *tag = NULL;
    struct fl_error err = {0};

    (void)state;
    if (read_text(arena, text, &simulation, &tag, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(tag, "mnist");
    assert_string_equal(simulation.trainer->name, "CNN");
    assert_int_equal(json_array_size(json_object_get(simulation.trainer_options, "filters")), 1);
    assert_int_equal(simulation.partition.learners, 40);
    assert_int_equal(simulation.rounds, 30);
    assert_int_equal(simulation.evaluate_every, 2);
    assert_true(simulation.target_accuracy == 0.99);
    assert_int_equal(spec->mode, FL_MODE_SEMISYNC);
    assert_int_equal(spec->seed, 42);
    assert_int_equal(spec->local.epochs, 5);
    assert_int_equal(spec->local.batch_size, 10);
    assert_true(spec->local.learning_rate == 0.1 && spec->local.momentum == 0.9);
    assert_string_equal(spec->strategy.name, "TrimmedMean");
    assert_true(spec->strategy.trim_fraction == 0.3 && isnan(spec->strategy.q));
    assert_true(spec->participation.fraction == 0.5 && spec->participation.over_selection == 1.3);
    assert_int_equal(spec->participation.quorum, 6);
    assert_int_equal(spec->participation.deadline_ms, 120000);
    assert_int_equal(spec->participation.selection, FL_SELECTION_OORT);
    assert_true(spec->participation.max_example_share == 0.25);
    assert_int_equal(spec->staleness.max_rounds, 3);
    assert_true(spec->staleness.exponent == 0.7);
}

static void test_code_of_its_own(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *text = fl_arena_printf(arena, "%s%s", head,
                                       "  source: {image: example.org/learner}\n"
                                       "  training: {rounds: 3}\n");
    struct fl_simulation simulation;
    const char *tag = NULL;

    (void)state;
    assert_int_equal(read_text(arena, text, &simulation, &tag, NULL), 0);
    assert_null(simulation.trainer);
    assert_int_equal(simulation.rounds, 3);
}

static void test_what_cannot_be_read(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\n", "no FLProject"},
        {"a: [", "yaml"},
        {"apiVersion: flops.dev/v1alpha1\nkind: FLProject\nmetadata: {name: p}\n"
         "spec: {source: {builtin: {trainer: MLP}}, training: {rounds: many}}\n",
         "rounds"},
        {"apiVersion: flops.dev/v1alpha1\nkind: FLProject\nmetadata: {name: p}\n"
         "spec: {source: {builtin: {trainer: MLP}}, training: {rounds: 1, participation: "
         "{fraction: \"7\"}}}\n",
         "fraction"},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_simulation simulation;
        struct fl_error err = {0};
        const char *tag;

        assert_true(read_text(arena, cases[i].text, &simulation, &tag, &err) < 0);
        if (!strstr(err.msg, cases[i].message))
            fail_msg("%s: %s", cases[i].message, err.msg);
    }
}

static void test_parameters(void **state)
{
    static const struct {
        const char *text;
        bool good;
    } cases[] = {
        {"trimFraction=0.25", true},
        {"byzantineLearners=4", true},
        {"beta1=1e-1", true},
        {"byzantineLearners=4.5", false},
        {"byzantineLearners=-1", false},
        {"trim=1", false},
        {"trimFraction", false},
        {"trimFraction=", false},
        {"trimFraction=x", false},
        {"q=1 ", false},
        {"=1", false},
    };
    struct fl_simulation simulation;

    (void)state;
    fl_simulation_init(&simulation);
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_error err = {0};
        int r = fl_simulate_parameter(cases[i].text, &simulation.spec.strategy, &err);

        assert_int_equal(r, cases[i].good ? 0 : FL_E_INVALID);
        assert_true(cases[i].good || strstr(err.msg, cases[i].text));
    }
    assert_true(simulation.spec.strategy.trim_fraction == 0.25);
    assert_true(simulation.spec.strategy.beta1 == 0.1);
    assert_int_equal(simulation.spec.strategy.byzantine_learners, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_is_taken),
        cmocka_unit_test(test_code_of_its_own),
        cmocka_unit_test(test_what_cannot_be_read),
        cmocka_unit_test(test_parameters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
