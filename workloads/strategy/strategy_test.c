#include "lib/env.h"
#include "workloads/strategy/strategy.h"
#include "workloads/tensor/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

static const char *const names[] = {
    "FedAvg",  "FedAvgM",   "FedProx",   "FedAdagrad",      "FedAdam", "FedYogi",
    "FedNova", "QFedAvg",   "NormBound", "FedBuff",         "Median",  "TrimmedMean",
    "Krum",    "MultiKrum", "Bulyan",    "GeometricMedian",
};

/* A model of `n` floats, a number without dimensions and a counter. */
static struct fl_model *model_of(const double *values, size_t n)
{
    const struct fl_tensor tensors[] = {
        {.name = "w", .dtype = FL_DTYPE_F32, .rank = 1, .shape = {(int64_t)n}},
        {.name = "scalar", .dtype = FL_DTYPE_F32},
        {.name = "steps", .dtype = FL_DTYPE_I64},
    };
    struct fl_model *model = NULL;

    assert_int_equal(fl_model_create(tensors, FL_COUNT_OF(tensors), &model, NULL), 0);
    for (size_t i = 0; i < n; i++)
        fl_tensor_set((struct fl_tensor *)fl_model_find(model, "w"), i, values[i]);
    fl_tensor_set((struct fl_tensor *)fl_model_find(model, "scalar"), 0, n ? values[0] : 0);
    fl_tensor_set((struct fl_tensor *)fl_model_find(model, "steps"), 0, 7);
    return model;
}

static double value(const struct fl_model *model, size_t i)
{
    return fl_tensor_get(fl_model_find(model, "w"), i);
}

struct given {
    double values[4];
    struct fl_update_facts facts;
};

static struct fl_strategy_options options_of(const char *name)
{
    struct fl_strategy_options options;

    fl_strategy_options_init(&options, name);
    options.local_learning_rate = 0.5;
    options.norm_bound = 1;
    return options;
}

static struct fl_strategy *make(const struct fl_strategy_options *options)
{
    struct fl_strategy *strategy = NULL;
    struct fl_error err = {0};

    if (fl_strategy_create(options, &strategy, &err) < 0)
        fail_msg("%s", err.msg);
    return strategy;
}

static void begin(struct fl_strategy *strategy, const double *base, size_t n)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = model_of(base, n);
    struct fl_exact_precision precision;

    fl_model_note(model, "flops.trainer", "MLP"); /* updates have none */
    assert_int_equal(fl_exact_plan(7, 1 << 16, &precision, NULL), 0);
    assert_int_equal(fl_strategy_begin(strategy, model, &precision, 0, NULL), 0);
}

static void add(struct fl_strategy *strategy, const struct given *given, size_t n)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = model_of(given->values, n);
    struct fl_update_facts facts = given->facts;
    struct fl_error err = {0};

    if (facts.examples == 0)
        facts.examples = 1;
    if (facts.steps == 0)
        facts.steps = 1;
    if (fl_strategy_add(strategy, model, &facts, &err) < 0)
        fail_msg("%s", err.msg);
}

static struct fl_model *finish(struct fl_strategy *strategy)
{
    struct fl_model *model = NULL;
    struct fl_error err = {0};

    if (fl_strategy_finish(strategy, &model, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(fl_model_find(model, "scalar")->rank, 0);
    assert_true(fl_tensor_get(fl_model_find(model, "steps"), 0) == 7); /* the base's */
    assert_string_equal(fl_model_get_note(model, "flops.trainer"), "MLP");
    assert_int_equal(model->note_count, 1);
    return model;
}

static void expect(const struct fl_model *model, size_t i, double want)
{
    if (!(fabs(value(model, i) - want) < 2e-6 * (1 + fabs(want))))
        fail_msg("[%zu] is %.9g, not %.9g", i, value(model, i), want);
}

/* One round of one number. */
static void one_round(const struct fl_strategy_options *options, double base,
                      const struct given *given, size_t count, double want)
{
    FL_CLEANUP(fl_strategy_destroyp) struct fl_strategy *strategy = make(options);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;

    begin(strategy, &base, 1);
    for (size_t i = 0; i < count; i++)
        add(strategy, &given[i], 1);
    model = finish(strategy);
    expect(model, 0, want);
}

/* Vectors that other implementations are tested with. */
static void known_results(void **state)
{
    static const struct {
        const char *name;
        int64_t f, select;
        double trim;
        size_t count;
        struct given given[4];
        double want;
    } cases[] = {
        {"Krum", 1, -1, NAN, 3, {{{0.2}, {0}}, {{0.7}, {0}}, {{1.0}, {0}}}, 0.7},
        {"MultiKrum", 1, 2, NAN, 3, {{{0.2}, {0}}, {{0.5}, {0}}, {{1.0}, {0}}}, 0.35},
        {"TrimmedMean", 0, -1, 0.25, 4, {{{0.5}, {0}}, {{1}, {0}}, {{2}, {0}}, {{100}, {0}}}, 1.5},
        {"Median", 0, -1, NAN, 4, {{{4}, {0}}, {{1}, {0}}, {{3}, {0}}, {{100}, {0}}}, 3.5},
        {"FedAvg",
         0,
         -1,
         NAN,
         2,
         {{{1}, {.examples = 1}}, {{29}, {.examples = 2}}},
         (1 + 2 * 29) / 3.0},
    };

    (void)state;
    for (size_t c = 0; c < FL_COUNT_OF(cases); c++) {
        struct fl_strategy_options options = options_of(cases[c].name);
        struct given given[4];

        options.byzantine_learners = cases[c].f;
        options.select_updates = cases[c].select;
        options.trim_fraction = cases[c].trim;
        options.any_number = true;
        memcpy(given, cases[c].given, sizeof(given));
        for (size_t i = 0; i < cases[c].count; i++)
            given[i].facts.learner = (const char *const[]){"a", "b", "c", "d"}[i];
        one_round(&options, 0, given, cases[c].count, cases[c].want);
    }
}

static void medians_of_each_coordinate(void **state)
{
    static const struct given given[] = {{{1, .2, .5, 1}, {.learner = "a"}},
                                         {{.2, .5, 1, .2}, {.learner = "b"}},
                                         {{.5, 1, .2, .5}, {.learner = "c"}},
                                         {{.5, .5, .5, .5}, {.learner = "d"}}};
    static const double zero[4];
    struct fl_strategy_options median = options_of("Median"), trimmed = options_of("TrimmedMean");

    (void)state;
    trimmed.trim_fraction = 0.25;
    for (int which = 0; which < 2; which++) {
        FL_CLEANUP(fl_strategy_destroyp)
        struct fl_strategy *strategy = make(which ? &trimmed : &median);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;

        begin(strategy, zero, 4);
        for (size_t i = 0; i < (which ? 4u : 3u); i++)
            add(strategy, &given[i], 4);
        model = finish(strategy);
        for (size_t i = 0; i < 4; i++)
            expect(model, i, 0.5);
    }
}

/* Worked by hand from the formulas, two rounds each. */
static void steps_of_the_server(void **state)
{
    struct fl_strategy_options options;

    (void)state;
    for (int which = 0; which < 4; which++) {
        static const char *const rules[] = {"FedAvgM", "FedAdagrad", "FedAdam", "FedYogi"};
        FL_CLEANUP(fl_strategy_destroyp) struct fl_strategy *strategy = NULL;
        double w = 1, m = 0, v = 1e-6;

        options = options_of(rules[which]);
        strategy = make(&options);
        for (int round = 0; round < 3; round++) {
            const struct given given[] = {{{w + 0.5}, {.learner = "a", .examples = 3}},
                                          {{w - 0.25 * round}, {.learner = "b", .examples = 1}}};
            double d = (3 * 0.5 - 0.25 * round) / 4, square = d * d;
            FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;

            begin(strategy, &w, 1);
            add(strategy, &given[0], 1);
            add(strategy, &given[1], 1);
            model = finish(strategy);
            if (which == 0) {
                m = 0.9 * m - d;
                w -= m;
            } else {
                double beta1 = which == 1 ? 0 : 0.9, rate = which == 3 ? 0.01 : 0.1;

                m = beta1 * m + (1 - beta1) * d;
                v = which == 1   ? v + square
                    : which == 2 ? 0.99 * v + 0.01 * square
                                 : v - 0.01 * square * ((v > square) - (v < square));
                w += rate * m / (sqrt(v) + 1e-3);
            }
            expect(model, 0, w);
            w = value(model, 0);
        }
    }
}

static void scaled_updates(void **state)
{
    static const struct given nova[] = {
        {{3}, {.learner = "a", .examples = 1, .steps = 2}},
        {{2}, {.learner = "b", .examples = 3, .steps = 4}},
    };
    static const struct given fair[] = {
        {{0.5}, {.learner = "a", .loss = 2}},
        {{2}, {.learner = "b", .loss = 0.5}},
    };
    static const struct given bounded[] = {{{4}, {.learner = "a", .examples = 1}},
                                           {{0.5}, {.learner = "b", .examples = 1}}};
    static const struct given buffered[] = {{{2}, {.learner = "a"}},
                                            {{3}, {.learner = "b", .staleness = 3}}};
    struct fl_strategy_options options = options_of("FedNova");
    double d0, d1, h0, h1;

    (void)state;
    /* tau = (1*2 + 3*4) / 4 = 3.5; sum p d / t = (1/4)(2/2) + (3/4)(1/4) = 0.4375 */
    one_round(&options, 1, nova, 2, 1 + 3.5 * 0.4375);
    options = options_of("QFedAvg");
    options.q = 0.1;
    d0 = pow(2, 0.1) * 2 * (1 - 0.5), d1 = pow(0.5, 0.1) * 2 * (1 - 2);
    h0 = 0.1 * pow(2, -0.9) * 1 + 2 * pow(2, 0.1);
    h1 = 0.1 * pow(0.5, -0.9) * 4 + 2 * pow(0.5, 0.1);
    /* The model has the number twice (as "w" and "scalar"): its distance counts twice. */
    h0 += 0.1 * pow(2, -0.9) * 1, h1 += 0.1 * pow(0.5, -0.9) * 4;
    one_round(&options, 1, fair, 2, 1 - (d0 + d1) / (h0 + h1));
    options = options_of("NormBound");
    one_round(&options, 0, bounded, 2, (1 / sqrt(2) + 0.5) / 2);
    options = options_of("FedBuff");
    one_round(&options, 1, buffered, 2, 1 + (1 + 2 * 0.5) / 2);
}

static void robust_rules_hold(void **state)
{
    static const char *const rules[] = {"Median",    "TrimmedMean", "Krum",
                                        "MultiKrum", "Bulyan",      "GeometricMedian"};

    (void)state;
    for (size_t r = 0; r < FL_COUNT_OF(rules); r++) {
        struct fl_strategy_options options = options_of(rules[r]);
        FL_CLEANUP(fl_strategy_destroyp) struct fl_strategy *strategy = NULL;
        FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
        double zero = 0;

        options.byzantine_learners = 2;
        options.max_iterations = 50;
        strategy = make(&options);
        begin(strategy, &zero, 1);
        for (int i = 0; i < 11; i++) {
            char learner[] = {(char)('a' + i), '\0'};
            const struct given given = {{i < 2 ? 100 - i : 1 + 0.01 * i}, {.learner = learner}};

            add(strategy, &given, 1);
        }
        model = finish(strategy);
        assert_true(value(model, 0) > 1 && value(model, 0) < 1.2);
    }
}

/* The same bits in any order, in memory and spilled, in blocks of any size. */
static void order_and_place_do_not_matter(void **state)
{
    char dir[] = "/tmp/flops-spill-XXXXXX";
    struct fl_fake_env fake;

    (void)state;
    assert_non_null(mkdtemp(dir));
    fl_fake_env_init(&fake, 3, NULL);
    for (size_t s = 0; s < FL_COUNT_OF(names); s++) {
        char first[FL_DIGEST_SIZE], digest[FL_DIGEST_SIZE];

        for (int again = 0; again < 6; again++) {
            struct fl_strategy_options options = options_of(names[s]);
            FL_CLEANUP(fl_strategy_destroyp) struct fl_strategy *strategy = NULL;
            FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
            double base[300] = {0};
            size_t shift = (size_t)again * 5;

            options.byzantine_learners = 1;
            options.spill_dir = again % 2 ? dir : NULL;
            options.block_bytes = again > 2 ? 1 : 0;
            strategy = make(&options);
            begin(strategy, base, 300);
            for (size_t i = 0; i < 9; i++) {
                size_t who = (i * 4 + shift) % 9;
                char learner[] = {(char)('a' + who), '\0'};
                const struct fl_update_facts facts = {.learner = learner,
                                                      .examples = 10 + (int64_t)who,
                                                      .steps = 1 + (int64_t)who,
                                                      .loss = 0.1 * (double)(who + 1)};
                FL_CLEANUP(fl_model_unrefp) struct fl_model *update = NULL;
                double values[300];

                for (size_t v = 0; v < 300; v++)
                    values[v] = sin((double)(who * 1000 + v));
                update = model_of(values, 300);
                assert_int_equal(fl_strategy_add(strategy, update, &facts, NULL), 0);
            }
            model = finish(strategy);
            fl_model_digest(model, again ? digest : first);
            if (again)
                assert_string_equal(digest, first);
        }
    }
    assert_int_equal(rmdir(dir), 0); /* nothing is left in it */
}

static void tiers_are_flat(void **state)
{
    (void)state;
    for (size_t s = 0; s < FL_COUNT_OF(names); s++) {
        struct fl_strategy_options options = options_of(names[s]);
        FL_CLEANUP(fl_strategy_destroyp) struct fl_strategy *flat = make(&options);
        FL_CLEANUP(fl_strategy_destroyp) struct fl_strategy *root = make(&options);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *want = NULL;
        FL_CLEANUP(fl_model_unrefp) struct fl_model *have = NULL;
        char flat_digest[FL_DIGEST_SIZE], root_digest[FL_DIGEST_SIZE];
        double base = 0.5;

        if (!fl_strategy_is_sum(flat)) {
            struct fl_model *partial = NULL;

            begin(root, &base, 1);
            assert_int_equal(fl_strategy_partial(root, &partial, NULL), FL_E_INVALID);
            continue;
        }
        begin(flat, &base, 1);
        begin(root, &base, 1);
        for (int tier = 0; tier < 3; tier++) {
            FL_CLEANUP(fl_strategy_destroyp) struct fl_strategy *middle = make(&options);
            FL_CLEANUP(fl_model_unrefp) struct fl_model *partial = NULL;

            begin(middle, &base, 1);
            for (int i = 0; i < 4; i++) {
                const struct given given = {
                    {sin(tier * 4 + i)},
                    {.examples = 5 + i, .steps = 1 + i, .loss = 0.3 + i, .staleness = tier}};

                add(flat, &given, 1);
                add(middle, &given, 1);
            }
            assert_int_equal(fl_strategy_partial(middle, &partial, NULL), 0);
            assert_int_equal(fl_strategy_add_partial(root, partial, NULL), 0);
        }
        assert_int_equal(fl_strategy_update_count(root), 12);
        want = finish(flat);
        have = finish(root);
        fl_model_digest(want, flat_digest);
        fl_model_digest(have, root_digest);
        assert_string_equal(flat_digest, root_digest);
    }
}

static void bad_updates_cost_nobody_else(void **state)
{
    (void)state;
    for (size_t s = 0; s < FL_COUNT_OF(names); s++) {
        struct fl_strategy_options options = options_of(names[s]);
        FL_CLEANUP(fl_strategy_destroyp) struct fl_strategy *strategy = make(&options);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *other = model_of((double[]){1, 2}, 2);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *good = model_of((double[]){1}, 1);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *next = NULL;
        static const double bad[] = {NAN, INFINITY, -INFINITY};
        struct fl_update_facts facts = {.learner = "x", .examples = 1, .steps = 1, .loss = 1};
        struct fl_error err = {0};
        double base = 1;

        begin(strategy, &base, 1);
        for (size_t i = 0; i < FL_COUNT_OF(bad); i++) {
            FL_CLEANUP(fl_model_unrefp) struct fl_model *update = model_of(&bad[i], 1);

            assert_int_equal(fl_strategy_add(strategy, update, &facts, &err), FL_E_INVALID);
            assert_non_null(strstr(err.msg, i ? "an infinity" : "a NaN"));
        }
        assert_int_equal(fl_strategy_add(strategy, other, &facts, &err), FL_E_INVALID);
        facts.examples = 0;
        assert_int_equal(fl_strategy_add(strategy, good, &facts, &err), FL_E_INVALID);
        assert_int_equal(fl_strategy_update_count(strategy), 0);
        facts.examples = 1;
        for (size_t i = 0; i < 3; i++) {
            facts.learner = (const char *const[]){"a", "b", "c"}[i];
            assert_int_equal(fl_strategy_add(strategy, good, &facts, &err), 0);
        }
        next = finish(strategy);
        expect(next, 0, 1);
    }
}

static void claims_are_bounded(void **state)
{
    static const struct given given[] = {{{0}, {.learner = "honest", .examples = 10}},
                                         {{1}, {.learner = "loud", .examples = 10000}}};
    struct fl_strategy_options options = options_of("FedAvg");
    FL_CLEANUP(fl_strategy_destroyp) struct fl_strategy *strategy = make(&options);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *base = model_of((double[]){0}, 1);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_exact_precision precision;

    (void)state;
    assert_int_equal(fl_exact_plan(7, 1 << 16, &precision, NULL), 0);
    fl_model_note(base, "flops.trainer", "MLP");
    assert_int_equal(fl_strategy_begin(strategy, base, &precision, 30, NULL), 0);
    add(strategy, &given[0], 1);
    add(strategy, &given[1], 1);
    model = finish(strategy);
    expect(model, 0, 0.75);
}

static void stale_updates_move_from_their_own_base(void **state)
{
    struct fl_strategy_options options = options_of("FedBuff");
    FL_CLEANUP(fl_strategy_destroyp) struct fl_strategy *strategy = make(&options);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *own = model_of((double[]){5}, 1);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    const struct given stale = {{6}, {.learner = "a", .base = own}};
    double base = 1;

    (void)state;
    begin(strategy, &base, 1);
    add(strategy, &stale, 1);
    model = finish(strategy);
    expect(model, 0, 2); /* it went one up */
}

static void too_few_updates(void **state)
{
    struct fl_strategy_options options = options_of("Bulyan");
    FL_CLEANUP(fl_strategy_destroyp) struct fl_strategy *strategy = NULL;
    struct fl_model *model = NULL;
    struct fl_error err = {0};
    double base = 0;

    (void)state;
    options.byzantine_learners = 1;
    strategy = make(&options);
    assert_int_equal(fl_strategy_min_updates(strategy), 7);
    begin(strategy, &base, 1);
    assert_int_equal(fl_strategy_finish(strategy, &model, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "needs 7 updates and has 0"));
}

static void options_are_checked(void **state)
{
    struct fl_strategy *strategy = NULL;
    struct fl_strategy_options options = options_of("FedMagic");
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(fl_strategy_create(&options, &strategy, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "no strategy \"FedMagic\""));
    options = options_of("FedAvgM");
    options.server_momentum = 1;
    assert_int_equal(fl_strategy_create(&options, &strategy, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "serverMomentum"));
    options = options_of("NormBound");
    options.norm_bound = NAN;
    assert_int_equal(fl_strategy_create(&options, &strategy, &err), FL_E_INVALID);
    assert_null(strategy);
}

static void state_goes_into_a_journal_and_back(void **state)
{
    struct fl_strategy_options options = options_of("FedAdam");
    FL_CLEANUP(fl_strategy_destroyp)
    struct fl_strategy *one = make(&options), *two = make(&options);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *kept = NULL;
    const struct given given = {{2}, {.learner = "a"}};
    double w = 1;

    (void)state;
    assert_null(fl_strategy_state(one));
    begin(one, &w, 1);
    add(one, &given, 1);
    fl_model_unref(finish(one));
    kept = fl_strategy_state(one);
    assert_int_equal(fl_strategy_restore(two, kept, NULL), 0);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *a = NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *b = NULL;
    begin(one, &w, 1);
    add(one, &given, 1);
    a = finish(one);
    begin(two, &w, 1);
    add(two, &given, 1);
    b = finish(two);
    assert_memory_equal(a->data, b->data, a->size);
}

/* Numbers that are no sums of few powers of two, from whole numbers only. */
static double some_number(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return ((double)(*seed >> 40) - (double)(1 << 23)) / 9e6;
}

static uint32_t bits_after_two_rounds(const char *name)
{
    const struct fl_strategy_options options = options_of(name);
    FL_CLEANUP(fl_strategy_destroyp) struct fl_strategy *strategy = make(&options);
    uint64_t seed = 1;
    uint32_t hash = 2166136261u;

    for (int round = 0; round < 2; round++) {
        static const char *const learners[] = {"a", "b", "c", "d", "e", "f", "g"};
        FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
        double base[4];

        for (size_t i = 0; i < 4; i++)
            base[i] = some_number(&seed);
        begin(strategy, base, 4);
        for (size_t l = 0; l < FL_COUNT_OF(learners); l++) {
            struct given given = {.facts = {.learner = learners[l],
                                            .examples = 3 + (int64_t)l * 7,
                                            .steps = 1 + (int64_t)l,
                                            .loss = 0.3 + 0.1 * (double)l}};

            for (size_t i = 0; i < 4; i++)
                given.values[i] = base[i] + some_number(&seed) / 3;
            add(strategy, &given, 4);
        }
        model = finish(strategy);
        for (size_t i = 0; i < 4; i++) {
            float value32 = (float)value(model, i);
            uint32_t bits;

            memcpy(&bits, &value32, sizeof(bits));
            hash = (hash ^ bits) * 16777619u;
        }
    }
    return hash;
}

/* A root of one kind of machine goes on where one of another kind was. */
static void bits_are_the_same_on_all_machines(void **state)
{
    static const uint32_t known[FL_COUNT_OF(names)] = {
        0x3d2de09a, 0x22c195a7, 0x3d2de09a, 0xbdef72fa, 0x9b02add4, 0x68e28c0b,
        0x2b17484d, 0x3e605991, 0x3d2de09a, 0x115d1a7e, 0x8ff2c2b4, 0xe31f1ca5,
        0x8241414c, 0x3d2de09a, 0x115d1a7e, 0x0c522e0b};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(names); i++) {
        uint32_t bits = bits_after_two_rounds(names[i]);

        if (bits != known[i])
            fail_msg("%s comes to 0x%08x, not 0x%08x", names[i], bits, known[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_results),
        cmocka_unit_test(bits_are_the_same_on_all_machines),
        cmocka_unit_test(medians_of_each_coordinate),
        cmocka_unit_test(steps_of_the_server),
        cmocka_unit_test(scaled_updates),
        cmocka_unit_test(robust_rules_hold),
        cmocka_unit_test(order_and_place_do_not_matter),
        cmocka_unit_test(tiers_are_flat),
        cmocka_unit_test(bad_updates_cost_nobody_else),
        cmocka_unit_test(claims_are_bounded),
        cmocka_unit_test(stale_updates_move_from_their_own_base),
        cmocka_unit_test(too_few_updates),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(state_goes_into_a_journal_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
