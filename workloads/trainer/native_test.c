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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_papers_models),
        cmocka_unit_test(options_shape_the_model),
        cmocka_unit_test(wrong_options_are_named),
        cmocka_unit_test(data_that_cannot_be_learnt_is_refused),
        cmocka_unit_test(they_learn),
    };

    return cmocka_run_group_tests(tests, begin, NULL);
}
