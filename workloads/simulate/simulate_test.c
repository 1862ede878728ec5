#include "lib/str.h"
#include "workloads/simulate/simulate.h"
#include "workloads/tensor/kernels.h"
#include "workloads/tensor/safetensors.h"
#include "workloads/trainer/trainer_testing.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka wants these first */
#include <cmocka.h>

#define ROUNDS_MAX 64

static struct fl_dataset *train_set, *test_set;

/* What a simulation told. */
struct told {
    struct fl_simulated_round rounds[ROUNDS_MAX];
    char models[ROUNDS_MAX][FL_DIGEST_SIZE];
    size_t count;
    int64_t updates;
};

static void take_round(void *user, const struct fl_simulated_round *round)
{
    struct told *told = user;

    assert_true(told->count < ROUNDS_MAX);
    told->rounds[told->count] = *round;
    (void)snprintf(told->models[told->count], FL_DIGEST_SIZE, "%s", round->model);
    __atomic_store_n(&told->count, told->count + 1, __ATOMIC_RELAXED);
}

static void take_update(void *user, int64_t round, int64_t done, int64_t all)
{
    struct told *told = user;

    (void)round;
    assert_true(done >= 0 && done <= all);
    told->updates++;
}

/* Twelve learners, four rounds, a small softmax regression. */
static struct fl_simulation small(void)
{
    struct fl_simulation simulation;

    fl_simulation_init(&simulation);
    simulation.train = train_set;
    simulation.test = test_set;
    simulation.partition.learners = 12;
    simulation.partition.seed = 3;
    simulation.trainer = fl_trainer_find("SoftmaxRegression");
    simulation.rounds = 4;
    simulation.spec.seed = 7;
    simulation.spec.local.batch_size = 8;
    simulation.spec.local.learning_rate = 0.05;
    simulation.spec.participation.fraction = 0.5;
    return simulation;
}

static int run(struct fl_simulation simulation, struct told *told, struct fl_error *err)
{
    *told = (struct told){0};
    simulation.round_done = take_round;
    simulation.update_done = take_update;
    simulation.user = told;
    return fl_simulate(&simulation, NULL, err);
}

static void assert_same_number(double a, double b)
{
    assert_true(a == b || (isnan(a) && isnan(b)));
}

static void assert_same_course(const struct told *a, const struct told *b)
{
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        const struct fl_simulated_round *x = &a->rounds[i], *y = &b->rounds[i];

        assert_string_equal(a->models[i], b->models[i]);
        assert_int_equal(x->selected, y->selected);
        assert_int_equal(x->reported, y->reported);
        assert_int_equal(x->late, y->late);
        assert_int_equal(x->dropped, y->dropped);
        assert_int_equal(x->rejected, y->rejected);
        assert_int_equal(x->examples, y->examples);
        assert_int_equal(x->virtual_ms, y->virtual_ms);
        assert_same_number(x->train_loss, y->train_loss);
        assert_same_number(x->loss, y->loss);
        assert_same_number(x->accuracy, y->accuracy);
    }
}

/* With and without the protocol, by one thread and by three: one course. */
static void assert_one_course(struct fl_simulation simulation, const char *name)
{
    struct told memory, threads, protocol;
    struct fl_error err = {0};

    if (run(simulation, &memory, &err) < 0)
        fail_msg("%s: %s", name, err.msg);
    assert_int_equal(memory.count, simulation.rounds);
    simulation.jobs = 3;
    assert_int_equal(run(simulation, &threads, &err), 0);
    assert_same_course(&memory, &threads);
    simulation.protocol = true;
    if (run(simulation, &protocol, &err) < 0)
        fail_msg("%s, by the protocol: %s", name, err.msg);
    assert_same_course(&memory, &protocol);
    assert_true(memory.updates > 0 && protocol.updates > 0);
}

static void test_strategies_agree(void **state)
{
    static const char *const names[] = {"FedAvg",  "FedAvgM",         "FedProx",  "FedAdagrad",
                                        "FedAdam", "FedYogi",         "FedNova",  "QFedAvg",
                                        "Median",  "TrimmedMean",     "Krum",     "MultiKrum",
                                        "Bulyan",  "GeometricMedian", "NormBound"};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(names); i++) {
        struct fl_simulation simulation = small();

        simulation.spec.strategy.name = names[i];
        simulation.spec.strategy.norm_bound = 1;
        simulation.learning_rate_decay = 0.9;
        assert_one_course(simulation, names[i]);
    }
}

static void test_lots_agree(void **state)
{
    struct fl_simulation simulation = small();

    (void)state;
    simulation.rounds = 10;
    simulation.delays = (struct fl_delays){.median_ms = 1000, .spread = 0.8, .jitter = 0.3};
    simulation.spec.participation.over_selection = 1.5;
    assert_one_course(simulation, "over-selection");
    simulation.delays.dropout = 0.3;
    assert_one_course(simulation, "dropouts");
    simulation.spec.participation.deadline_ms = 2500;
    simulation.spec.participation.quorum = 1;
    assert_one_course(simulation, "deadline");
    simulation.delays.spread = simulation.delays.jitter = 0; /* all at once */
    simulation.spec.participation.deadline_ms = 600000;
    assert_one_course(simulation, "at once");
}

static void test_selections_agree(void **state)
{
    (void)state;
    for (int i = FL_SELECTION_ALL; i <= FL_SELECTION_OORT; i++) {
        struct fl_simulation simulation = small();

        simulation.rounds = 12;
        simulation.spec.participation.selection = (enum fl_selection)i;
        if (i == FL_SELECTION_ALL)
            simulation.spec.participation.fraction = 1;
        simulation.delays = (struct fl_delays){.median_ms = 900, .spread = 1, .dropout = 0.2};
        simulation.spec.participation.quorum = 1;
        simulation.spec.participation.max_example_share = 0.05;
        simulation.partition.kind = FL_PARTITION_QUANTITY;
        assert_one_course(simulation, fl_selections[i - 1]);
    }
}

static void test_attacks_agree(void **state)
{
    (void)state;
    for (int i = FL_ATTACK_SIGN_FLIP; i <= FL_ATTACK_SCALED; i++) {
        struct fl_simulation simulation = small();

        simulation.attack = (struct fl_attack){.kind = (enum fl_attack_kind)i, .learners = 4};
        assert_one_course(simulation, fl_attack_name((enum fl_attack_kind)i));
    }
}

/* An update with numbers beyond what is summed is refused, and another learner takes its place. */
static void test_refused_are_replaced(void **state)
{
    struct fl_simulation simulation = small();
    struct told told;

    (void)state;
    simulation.attack = (struct fl_attack){.kind = FL_ATTACK_NOISE, .learners = 3, .scale = 100000};
    assert_one_course(simulation, "refused");
    assert_int_equal(run(simulation, &told, NULL), 0);
    assert_true(told.rounds[0].rejected + told.rounds[1].rejected + told.rounds[2].rejected > 0);
    for (size_t i = 0; i < told.count; i++)
        assert_int_equal(told.rounds[i].reported, 6);
}

/* A learning rate at which training blows up: nobody brings anything, and the round says so. */
static void test_failed_rounds_agree(void **state)
{
    struct fl_simulation simulation = small();
    struct fl_error memory = {0}, protocol = {0};
    struct told told;

    (void)state;
    simulation.delays = (struct fl_delays){.median_ms = 1000, .dropout = 1};
    assert_true(run(simulation, &told, &memory) < 0);
    assert_int_equal(told.count, 0);
    simulation.protocol = true;
    assert_true(run(simulation, &told, &protocol) < 0);
    assert_string_equal(memory.msg, protocol.msg);
    assert_non_null(strstr(memory.msg, "round 1: QuorumNotReached: 0 of 6 updates"));

    simulation = small();
    simulation.spec.strategy.name = "Bulyan";
    simulation.spec.strategy.byzantine_learners = 2;
    assert_true(run(simulation, &told, &memory) < 0);
    simulation.protocol = true;
    assert_true(run(simulation, &told, &protocol) < 0);
    assert_string_equal(memory.msg, protocol.msg);
    assert_non_null(strstr(memory.msg, "Bulyan needs 11 updates and has 6"));
}

/* Slow learners: a buffer is full long before everybody is there, and what is late counts. */
static void test_other_modes(void **state)
{
    struct fl_simulation simulation = small();
    struct told sync, semi, async, again;
    struct fl_error err = {0};

    (void)state;
    simulation.rounds = 12;
    simulation.protocol = true;
    simulation.spec.participation.fraction = 1;
    simulation.delays = (struct fl_delays){.median_ms = 1000, .spread = 1, .jitter = 0.2};
    assert_int_equal(run(simulation, &sync, &err), 0);

    simulation.spec.mode = FL_MODE_SEMISYNC;
    simulation.spec.participation.quorum = 1;
    simulation.spec.participation.deadline_ms = 1500;
    assert_int_equal(run(simulation, &semi, &err), 0);
    assert_true(semi.rounds[11].virtual_ms <= 12 * 1500);
    assert_true(semi.rounds[11].virtual_ms < sync.rounds[11].virtual_ms);
    assert_true(semi.rounds[11].accuracy > 0.8);

    simulation.spec.mode = FL_MODE_ASYNC;
    simulation.spec.strategy.name = "FedBuff";
    simulation.spec.strategy.buffer_size = 4;
    simulation.spec.participation.deadline_ms = 600000;
    if (run(simulation, &async, &err) < 0)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < async.count; i++)
        assert_int_equal(async.rounds[i].reported, 4);
    assert_true(async.rounds[11].virtual_ms < sync.rounds[11].virtual_ms / 2);
    simulation.jobs = 2;
    assert_int_equal(run(simulation, &again, &err), 0);
    assert_same_course(&async, &again);
}

static double accuracy_of(const char *strategy, size_t attackers)
{
    struct fl_simulation simulation = small();
    struct told told;

    simulation.rounds = 8;
    simulation.evaluate_every = 0;
    simulation.spec.strategy.name = strategy;
    simulation.spec.strategy.byzantine_learners = 3;
    simulation.spec.participation.fraction = 1;
    simulation.attack = (struct fl_attack){FL_ATTACK_SIGN_FLIP, attackers, 8};
    assert_int_equal(run(simulation, &told, NULL), 0);
    assert_false(told.rounds[0].evaluated);
    assert_true(told.rounds[7].evaluated);
    return told.rounds[7].accuracy;
}

static void test_robust_rules_hold(void **state)
{
    (void)state;
    assert_true(accuracy_of("FedAvg", 0) > 0.9);
    assert_true(accuracy_of("FedAvg", 3) < 0.5);
    assert_true(accuracy_of("Median", 3) > 0.8);
    assert_true(accuracy_of("Krum", 3) > 0.8);
}

static void test_ends_at_target(void **state)
{
    struct fl_simulation simulation = small();
    struct told told;
    struct fl_model *model = NULL;
    char digest[FL_DIGEST_SIZE];

    (void)state;
    simulation.rounds = 50;
    simulation.target_accuracy = 0.5;
    assert_int_equal(run(simulation, &told, NULL), 0);
    assert_true(told.count < 50);
    assert_true(told.rounds[told.count - 1].accuracy >= 0.5);
    simulation.rounds = (int64_t)told.count;
    assert_int_equal(fl_simulate(&simulation, &model, NULL), 0);
    fl_model_digest(model, digest);
    assert_string_equal(digest, told.models[told.count - 1]);
    fl_model_unref(model);
}

static void test_seeds_differ(void **state)
{
    struct fl_simulation simulation = small();
    struct told one, other;

    (void)state;
    assert_int_equal(run(simulation, &one, NULL), 0);
    simulation.spec.seed++;
    assert_int_equal(run(simulation, &other, NULL), 0);
    assert_string_not_equal(one.models[0], other.models[0]);
}

static void no_learners(struct fl_simulation *simulation)
{
    simulation->partition.learners = 0;
}
static void no_rounds(struct fl_simulation *simulation)
{
    simulation->rounds = 0;
}
static void many_attackers(struct fl_simulation *simulation)
{
    simulation->attack = (struct fl_attack){.kind = FL_ATTACK_NOISE, .learners = 13};
}
static void no_protocol(struct fl_simulation *simulation)
{
    simulation->spec.mode = FL_MODE_SEMISYNC;
}
static void no_rate(struct fl_simulation *simulation)
{
    simulation->spec.local.learning_rate = -1;
}
static void no_quorum(struct fl_simulation *simulation)
{
    simulation->spec.participation.quorum = 13;
}
static void no_strategy(struct fl_simulation *simulation)
{
    simulation->spec.strategy.name = "FedFoo";
}
static void bad_trim(struct fl_simulation *simulation)
{
    simulation->spec.strategy.name = "TrimmedMean";
    simulation->spec.strategy.trim_fraction = 0.5;
}
static void sure_dropout(struct fl_simulation *simulation)
{
    simulation->delays.dropout = 1.5;
}
static void few_examples(struct fl_simulation *simulation)
{
    simulation->partition.learners = 1000;
}

/* Asked by several threads. */
static bool in_the_second_round(void *user)
{
    const struct told *told = user;

    return __atomic_load_n(&told->count, __ATOMIC_RELAXED) > 0;
}

static void test_ends_when_interrupted(void **state)
{
    struct fl_simulation simulation = small();
    struct fl_error err = {0};
    struct told told;

    (void)state;
    simulation.interrupted = in_the_second_round;
    for (int way = 0; way < 4; way++) {
        simulation.protocol = way % 2;
        simulation.jobs = way < 2 ? 1 : 3;
        assert_int_equal(run(simulation, &told, &err), FL_E_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "round 2: interrupted"));
        assert_int_equal(told.count, 1);
    }
}

static void test_what_cannot_be(void **state)
{
    static const struct {
        void (*spoil)(struct fl_simulation *simulation);
        const char *message;
    } cases[] = {
        {no_learners, "0 learners"},
        {no_rounds, "0 rounds"},
        {many_attackers, "13 attackers of 12"},
        {no_protocol, "SemiSync needs the protocol"},
        {no_rate, "learningRate"},
        {no_quorum, "quorum"},
        {no_strategy, "FedFoo"},
        {bad_trim, "trimFraction"},
        {sure_dropout, "dropout 1.5"},
        {few_examples, "examples"},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_simulation simulation = small();
        struct fl_error err = {0};
        struct told told;

        cases[i].spoil(&simulation);
        assert_int_equal(run(simulation, &told, &err), FL_E_INVALID);
        if (!strstr(err.msg, cases[i].message))
            fail_msg("%s: %s", cases[i].message, err.msg);
        assert_int_equal(told.count, 0);
    }
}

static struct fl_dataset *make_set(size_t count, uint64_t seed)
{
    const struct fl_patterns patterns = {
        .count = count, .height = 6, .width = 6, .classes = 4, .noise = 1, .seed = seed};
    struct fl_dataset form, *set = NULL;

    fl_patterns_make(&patterns, &form);
    if (fl_dataset_create(&form, &set, NULL) < 0)
        abort();
    fl_patterns_finish(&form);
    return set;
}

static int set_up(void **state)
{
    (void)state;
    (void)fl_kernels_init(NULL);
    train_set = make_set(240, 1);
    test_set = make_set(80, 2);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fl_dataset_unref(train_set);
    fl_dataset_unref(test_set);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strategies_agree),      cmocka_unit_test(test_lots_agree),
        cmocka_unit_test(test_selections_agree),      cmocka_unit_test(test_attacks_agree),
        cmocka_unit_test(test_refused_are_replaced),  cmocka_unit_test(test_failed_rounds_agree),
        cmocka_unit_test(test_other_modes),           cmocka_unit_test(test_robust_rules_hold),
        cmocka_unit_test(test_ends_at_target),        cmocka_unit_test(test_seeds_differ),
        cmocka_unit_test(test_ends_when_interrupted), cmocka_unit_test(test_what_cannot_be),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
