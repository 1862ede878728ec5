#include "workloads/tensor/kernels.h"
#include "workloads/tensor/safetensors.h"
#include "workloads/trainer/native.h"
#include "workloads/trainer/trainer_testing.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

static const char *const names[] = {"SoftmaxRegression", "MLP", "CNN"};

static int begin(void **state)
{
    (void)state;
    return fl_kernels_init(NULL);
}

static void destroy_trainer(struct fl_trainer **trainer)
{
    if (*trainer)
        (*trainer)->ops->destroy(*trainer);
}
#define TRAINER FL_CLEANUP(destroy_trainer) struct fl_trainer *

static struct fl_trainer *make(const char *name, const char *options, const struct fl_dataset *data)
{
    FL_JSON value = options ? json_loads(options, 0, NULL) : NULL;
    struct fl_trainer *trainer = NULL;
    struct fl_error err = {0};
    int r = fl_trainer_find(name)->create(value, data, &trainer, &err);

    if (r < 0)
        fail_msg("%s: %s", name, err.msg);
    return trainer;
}

static struct fl_model *start(struct fl_trainer *trainer, uint64_t seed)
{
    struct fl_model *model = NULL;

    assert_int_equal(trainer->ops->init(trainer, seed, &model, NULL), 0);
    return model;
}

static struct fl_fit_result fit(struct fl_trainer *trainer, const struct fl_model *base,
                                const struct fl_fit_options *options)
{
    struct fl_fit_result result = {0};
    struct fl_error err = {0};

    if (trainer->ops->fit(trainer, base, options, &result, &err) < 0)
        fail_msg("%s", err.msg);
    return result;
}

static const struct fl_patterns small = {.count = 300,
                                         .height = 8,
                                         .width = 8,
                                         .classes = 10,
                                         .noise = 1.0f,
                                         .seed = 3,
                                         .pattern_seed = 9};

/* Shapes */

static void the_papers_models(void **state)
{
    const struct fl_patterns mnist = {.count = 10, .height = 28, .width = 28, .classes = 10};
    static const size_t parameters[] = {7850, 199210, 1663370};
    struct fl_dataset data;

    (void)state;
    fl_patterns_make(&mnist, &data);
    for (size_t i = 0; i < FL_COUNT_OF(names); i++) {
        TRAINER trainer = make(names[i], NULL, &data);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *model = start(trainer, 1);

        assert_int_equal(model->parameters, parameters[i]);
        assert_int_equal(fl_model_check_finite(model, NULL), 0);
    }
    fl_patterns_finish(&data);
}

static void options_shape_the_model(void **state)
{
    static const struct {
        const char *name, *options;
        size_t parameters;
    } cases[] = {
        {"MLP", "{\"hiddenUnits\":[5]}", 64 * 5 + 5 + 5 * 10 + 10},
        {"MLP", "{\"hiddenUnits\":[3,2,1],\"activation\":\"Tanh\"}", 195 + 8 + 3 + 20},
        {"CNN", "{\"filters\":[3],\"kernelSize\":4,\"hiddenUnits\":[2]}", 48 + 3 + 98 + 30},
        {"CNN", "{\"filters\":[1,1,1,1,1],\"kernelSize\":1,\"hiddenUnits\":[1]}", 10 + 2 + 20},
        {"SoftmaxRegression", "{}", 650},
    };
    struct fl_dataset data;

    (void)state;
    fl_patterns_make(&small, &data);
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        TRAINER trainer = make(cases[i].name, cases[i].options, &data);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *model = start(trainer, 1);

        assert_int_equal(model->parameters, cases[i].parameters);
    }
    fl_patterns_finish(&data);
}

static void wrong_options_are_named(void **state)
{
    static const struct {
        const char *name, *options, *message;
    } cases[] = {
        {"MLP", "[]", "options: must be an object, not array"},
        {"MLP", "{\"hiddenUnits\":5}", "options: hiddenUnits: must be a list of integers"},
        {"MLP", "{\"hiddenUnits\":[]}", "options: hiddenUnits: must have 1 to 16 entries, not 0"},
        {"MLP", "{\"hiddenUnits\":[5,0]}", "options: hiddenUnits[1]: 0 is not from 1 to 65536"},
        {"MLP", "{\"hiddenUnits\":[1.5]}", "options: hiddenUnits[0]: must be an integer"},
        {"MLP", "{\"filters\":[5]}", "options: filters: this trainer has no such option"},
        {"MLP", "{\"activation\":\"relu\"}", "options: activation: must be ReLU, Tanh or Sigmoid"},
        {"SoftmaxRegression", "{\"hiddenUnits\":[5]}", "options: hiddenUnits: this trainer has"},
        {"CNN", "{\"kernelSize\":16}", "options: kernelSize: 16 is not from 1 to 15"},
        {"CNN", "{\"filters\":[1,1,1,1,1,1,1,1,1]}", "options: filters: must have 1 to 8 entries"},
        {"CNN", "{\"depth\":2}", "options: depth: this trainer has no such option"},
        {"MLP", "{\"hiddenUnits\":[65536,65536]}", "the model would have 4299948042 parameters"},
    };
    struct fl_dataset data;

    (void)state;
    fl_patterns_make(&small, &data);
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_JSON options = json_loads(cases[i].options, 0, NULL);
        struct fl_trainer *trainer = NULL;
        struct fl_error err = {0};

        assert_int_equal(fl_trainer_find(cases[i].name)->create(options, &data, &trainer, &err),
                         FL_E_INVALID);
        assert_null(trainer);
        if (!strstr(err.msg, cases[i].message))
            fail_msg("\"%s\" instead of \"%s\"", err.msg, cases[i].message);
    }
    fl_patterns_finish(&data);
}

static void data_that_cannot_be_learnt_is_refused(void **state)
{
    struct fl_dataset data, wrong;
    struct fl_trainer *trainer = NULL;
    struct fl_error err = {0};

    (void)state;
    fl_patterns_make(&small, &data);
    wrong = data;
    wrong.classes = 0;
    assert_int_equal(fl_trainer_find("MLP")->create(NULL, &wrong, &trainer, &err), FL_E_INVALID);
    wrong = data;
    wrong.count = 0;
    assert_int_equal(fl_trainer_find("MLP")->create(NULL, &wrong, &trainer, &err), FL_E_INVALID);
    wrong = data;
    wrong.rank = 1;
    assert_int_equal(fl_trainer_find("CNN")->create(NULL, &wrong, &trainer, &err), FL_E_INVALID);
    assert_string_equal(err.msg, "a CNN needs images; the examples have 1 dimensions");
    assert_null(trainer);
    assert_null(fl_trainer_find("Perceptron"));
    fl_patterns_finish(&data);
}

/* Learning */

static void they_learn(void **state)
{
    struct fl_patterns unseen = small;
    struct fl_dataset data, fresh;

    (void)state;
    unseen.seed = 4;
    fl_patterns_make(&small, &data);
    fl_patterns_make(&unseen, &fresh);
    for (size_t i = 0; i < FL_COUNT_OF(names); i++) {
        const struct fl_fit_options options = {
            .epochs = 6, .batch_size = 10, .learning_rate = 0.05, .seed = 1};
        TRAINER trainer = make(names[i], NULL, &data);
        TRAINER judge = make(names[i], NULL, &fresh);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *base = start(trainer, 1);
        struct fl_fit_result result = fit(trainer, base, &options);
        struct fl_evaluation before, after;

        assert_int_equal(result.steps, 180);
        assert_int_equal(result.examples, 300);
        assert_true(result.loss_before > 1.5 && result.loss < 0.3);
        assert_int_equal(judge->ops->evaluate(judge, base, &before, NULL), 0);
        assert_int_equal(judge->ops->evaluate(judge, result.model, &after, NULL), 0);
        assert_true(before.accuracy < 0.4);
        assert_true(after.accuracy > 0.95);
        fl_model_unref(result.model);
    }
    fl_patterns_finish(&data);
    fl_patterns_finish(&fresh);
}

static struct fl_model *train(const char *name, const struct fl_dataset *data,
                              const struct fl_fit_options *options, uint64_t seed)
{
    TRAINER trainer = make(name, NULL, data);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *base = start(trainer, seed);
    struct fl_fit_result result = fit(trainer, base, options);

    return result.model;
}

static double distance(const struct fl_model *a, const struct fl_model *b)
{
    return sqrt(fl_ref_distance2(a->parameters, (float *)a->data, (float *)b->data));
}

/* The same data, model and seed give the same bits, in a trainer that was used before, too. */
static void seeds_decide_all(void **state)
{
    struct fl_fit_options options = {
        .epochs = 2, .batch_size = 16, .learning_rate = 0.05, .momentum = 0.5, .seed = 8};
    struct fl_dataset data;

    (void)state;
    fl_patterns_make(&small, &data);
    for (size_t i = 0; i < FL_COUNT_OF(names); i++) {
        TRAINER used = make(names[i], NULL, &data);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *base = start(used, 5);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *one = fit(used, base, &options).model;
        FL_CLEANUP(fl_model_unrefp) struct fl_model *again = fit(used, base, &options).model;
        FL_CLEANUP(fl_model_unrefp) struct fl_model *fresh = train(names[i], &data, &options, 5);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *other = start(used, 6);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *order = NULL;

        assert_memory_equal(one->data, again->data, one->size);
        assert_memory_equal(one->data, fresh->data, one->size);
        assert_true(memcmp(base->data, other->data, base->size) != 0);
        options.seed++;
        order = fit(used, base, &options).model;
        options.seed--;
        assert_true(memcmp(one->data, order->data, one->size) != 0);
    }
    fl_patterns_finish(&data);
}

/* The ways in which a step can be done are one way: a momentum that is next to nothing takes the
 * one with a velocity. */
static void direct_steps_are_plain_steps(void **state)
{
    static const struct {
        double mu, decay;
    } cases[] = {{0, 0}, {0.5, 0}, {0, 0.01}, {0.3, 0.02}};
    struct fl_dataset data;

    (void)state;
    fl_patterns_make(&small, &data);
    for (size_t i = 0; i < FL_COUNT_OF(names); i++) {
        for (size_t c = 0; c < FL_COUNT_OF(cases); c++) {
            struct fl_fit_options options = {.epochs = 1,
                                             .batch_size = 10,
                                             .learning_rate = 0.02,
                                             .proximal_mu = cases[c].mu,
                                             .weight_decay = cases[c].decay};
            FL_CLEANUP(fl_model_unrefp) struct fl_model *direct = NULL, *plain = NULL;
            FL_CLEANUP(fl_model_unrefp) struct fl_model *far = NULL;

            direct = train(names[i], &data, &options, 5);
            options.momentum = 1e-12;
            plain = train(names[i], &data, &options, 5);
            options.momentum = 0.9;
            far = train(names[i], &data, &options, 5);
            /* rounding may tip a ReLU or a pool now and then */
            assert_true(distance(direct, plain) < 0.02 * distance(direct, far));
            assert_true(distance(direct, far) > 0.1);
        }
    }
    fl_patterns_finish(&data);
}

/* One step of one example by hand: w = w - lr * (p - y) x for softmax regression, and the velocity
 * and pulls of the second. */
static void two_steps_by_hand(void **state)
{
    static const float x[] = {1, -2};
    static const int32_t label = 1;
    const struct fl_dataset data = {.count = 1,
                                    .width = 2,
                                    .shape = {2},
                                    .rank = 1,
                                    .classes = 2,
                                    .features = x,
                                    .labels = &label};
    const struct fl_fit_options options = {.epochs = 2,
                                           .learning_rate = 0.1,
                                           .momentum = 0.5,
                                           .proximal_mu = 0.2,
                                           .weight_decay = 0.3};
    TRAINER trainer = make("SoftmaxRegression", NULL, &data);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *base = start(trainer, 5), *model = NULL;
    double w[6], w0[6], v[6] = {0}; /* bias 0, 1, then the weights of class 0 and 1 */

    (void)state;
    for (size_t k = 0; k < 6; k++)
        w[k] = w0[k] = (double)((float *)base->data)[k];
    for (int step = 0; step < 2; step++) {
        double z0 = w[0] + w[2] * 1 + w[3] * -2, z1 = w[1] + w[4] * 1 + w[5] * -2;
        double p0 = 1 / (1 + exp(z1 - z0)), d[] = {p0, (1 - p0) - 1};
        const double g[] = {d[0], d[1], d[0] * 1, d[0] * -2, d[1] * 1, d[1] * -2};

        for (size_t k = 0; k < 6; k++) {
            v[k] = 0.5 * v[k] + g[k] + 0.3 * w[k] + 0.2 * (w[k] - w0[k]);
            w[k] -= 0.1 * v[k];
        }
    }
    model = fit(trainer, base, &options).model;
    for (size_t k = 0; k < 6; k++)
        assert_true(fabs((double)((float *)model->data)[k] - w[k]) < 1e-6);
}

/* More than a slice: the batch is the same, however it is cut. */
static void batches_larger_than_a_slice(void **state)
{
    struct fl_patterns many = small;
    const struct fl_fit_options all = {.epochs = 1, .learning_rate = 0.5};
    struct fl_dataset data, twice;
    FL_CLEANUP(fl_freep) uint32_t *rows = NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *one = NULL, *two = NULL;

    (void)state;
    many.count = 200;
    fl_patterns_make(&many, &data);
    rows = fl_calloc(800, sizeof(*rows));
    for (uint32_t i = 0; i < 800; i++)
        rows[i] = i % 200;
    twice = data;
    twice.rows = rows;
    twice.count = 800; /* the same mean gradient, in four slices */
    one = train("MLP", &data, &all, 5);
    two = train("MLP", &twice, &all, 5);
    assert_true(distance(one, two) < 1e-4);
    fl_patterns_finish(&data);
}

static void a_diverging_fit_says_where(void **state)
{
    const struct fl_fit_options options = {
        .epochs = 3, .batch_size = 100, .learning_rate = 1e30, .seed = 1};
    struct fl_dataset data;
    TRAINER trainer = NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *base = NULL;
    struct fl_fit_result result = {0};
    struct fl_error err = {0};

    (void)state;
    fl_patterns_make(&small, &data);
    trainer = make("MLP", NULL, &data);
    base = start(trainer, 1);
    assert_int_equal(trainer->ops->fit(trainer, base, &options, &result, &err), FL_E_INVALID);
    assert_string_equal(err.msg, "the loss is no longer a number at step 2 (epoch 1): the learning "
                                 "rate 1e+30 may be too high");
    assert_null(result.model);
    fl_patterns_finish(&data);
}

static void wrong_fits_are_refused(void **state)
{
    static const struct {
        struct fl_fit_options options;
        const char *message;
    } cases[] = {
        {{.epochs = 0, .learning_rate = 1}, "epochs: 0 is not from 1 to 10000"},
        {{.epochs = 1, .batch_size = -1, .learning_rate = 1}, "batchSize: -1 is not from 0"},
        {{.epochs = 1}, "learningRate: 0 is not above 0"},
        {{.epochs = 1, .learning_rate = NAN}, "learningRate: "},
        {{.epochs = 1, .learning_rate = 1, .momentum = 1}, "momentum: 1 is not at least 0 and"},
        {{.epochs = 1, .learning_rate = 1, .proximal_mu = -1}, "proximalMu: -1 is not"},
        {{.epochs = 1, .learning_rate = 1, .weight_decay = NAN}, "weightDecay: "},
    };
    const struct fl_fit_options good = {.epochs = 1, .learning_rate = 0.1};
    struct fl_dataset data;
    TRAINER trainer = NULL;
    TRAINER other = NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *base = NULL, *strange = NULL;
    struct fl_fit_result result = {0};
    struct fl_evaluation judged;
    struct fl_error err = {0};

    (void)state;
    fl_patterns_make(&small, &data);
    trainer = make("MLP", NULL, &data);
    other = make("SoftmaxRegression", NULL, &data);
    base = start(trainer, 1);
    strange = start(other, 1);
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        assert_int_equal(trainer->ops->fit(trainer, base, &cases[i].options, &result, &err),
                         FL_E_INVALID);
        if (!strstr(err.msg, cases[i].message))
            fail_msg("\"%s\" instead of \"%s\"", err.msg, cases[i].message);
    }
    assert_int_equal(trainer->ops->fit(trainer, strange, &good, &result, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "the model is not this trainer's: "));
    assert_int_equal(trainer->ops->evaluate(trainer, strange, &judged, &err), FL_E_INVALID);
    fl_patterns_finish(&data);
}

struct watched {
    int64_t done, all, stop_at;
};

static bool is_cancelled(void *user)
{
    const struct watched *watched = user;

    return watched->done >= watched->stop_at;
}

static void on_progress(void *user, int64_t done, int64_t all)
{
    struct watched *watched = user;

    assert_int_equal(done, watched->done + 1);
    watched->done = done;
    watched->all = all;
}

static void a_fit_is_watched_and_cancelled(void **state)
{
    struct watched watched = {.stop_at = 1000};
    struct fl_fit_options options = {.epochs = 3,
                                     .batch_size = 70,
                                     .learning_rate = 0.1,
                                     .cancelled = is_cancelled,
                                     .progress = on_progress,
                                     .user = &watched};
    struct fl_dataset data;
    TRAINER trainer = NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *base = NULL;
    struct fl_fit_result result = {0};
    struct fl_error err = {0};

    (void)state;
    fl_patterns_make(&small, &data);
    trainer = make("MLP", NULL, &data);
    base = start(trainer, 1);
    result = fit(trainer, base, &options);
    fl_model_unref(result.model);
    assert_int_equal(watched.done, 15); /* 70, 70, 70, 70, 20; three times */
    assert_int_equal(watched.all, 15);
    watched = (struct watched){.stop_at = 7};
    assert_int_equal(trainer->ops->fit(trainer, base, &options, &result, &err), FL_E_CONFLICT);
    assert_string_equal(err.msg, "cancelled after step 7 of 15");
    fl_patterns_finish(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_papers_models),
        cmocka_unit_test(options_shape_the_model),
        cmocka_unit_test(wrong_options_are_named),
        cmocka_unit_test(data_that_cannot_be_learnt_is_refused),
        cmocka_unit_test(they_learn),
        cmocka_unit_test(seeds_decide_all),
        cmocka_unit_test(direct_steps_are_plain_steps),
        cmocka_unit_test(two_steps_by_hand),
        cmocka_unit_test(batches_larger_than_a_slice),
        cmocka_unit_test(a_diverging_fit_says_where),
        cmocka_unit_test(wrong_fits_are_refused),
        cmocka_unit_test(a_fit_is_watched_and_cancelled),
    };

    return cmocka_run_group_tests(tests, begin, NULL);
}
