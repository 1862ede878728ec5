#include "workloads/trainer/holdout.h"

#include "workloads/tensor/kernels.h"
#include "workloads/trainer/trainer_testing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka wants the three above first */
#include <cmocka.h>

#define COUNT 200

static struct fl_dataset *make_data(void)
{
    struct fl_dataset form = {0}, *data = NULL;
    struct fl_patterns patterns = {.count = COUNT,
                                   .height = 4,
                                   .width = 4,
                                   .classes = 3,
                                   .noise = 0.2F,
                                   .seed = 1,
                                   .pattern_seed = 2};
    struct fl_error err = {0};

    assert_int_equal(fl_kernels_init(&err), 0);
    fl_patterns_make(&patterns, &form);
    assert_int_equal(fl_dataset_create(&form, &data, &err), 0);
    fl_patterns_finish(&form);
    return data;
}

static struct fl_trainer *make_trainer(struct fl_dataset *data, double share, size_t *ret_examples)
{
    struct fl_trainer *trainer = NULL;
    struct fl_error err = {0};

    if (fl_trainer_create_holdout(fl_trainer_find("SoftmaxRegression"), NULL, data, share, &trainer,
                                  ret_examples, &err) < 0)
        fail_msg("%s", err.msg);
    return trainer;
}

/* Trains on what is left, and is judged by what was kept. */
static void test_divides(void **state)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *data = make_data();
    size_t examples = 0;
    struct fl_trainer *trainer = make_trainer(data, 0.25, &examples);
    const struct fl_fit_options options = {
        .epochs = 3, .batch_size = 10, .learning_rate = 0.1, .seed = 3};
    struct fl_fit_result result = {0};
    struct fl_evaluation evaluation = {0};
    struct fl_model *model = NULL;
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(examples, COUNT * 3 / 4);
    assert_int_equal(trainer->ops->init(trainer, 1, &model, &err), 0);
    assert_int_equal(trainer->ops->fit(trainer, model, &options, &result, &err), 0);
    assert_int_equal(result.examples, COUNT * 3 / 4);
    assert_int_equal(trainer->ops->evaluate(trainer, result.model, &evaluation, &err), 0);
    assert_int_equal(evaluation.examples, COUNT / 4);
    assert_true(evaluation.accuracy > 0.8);
    fl_model_unref(model);
    fl_model_unref(result.model);
    json_decref(result.metrics);
    json_decref(evaluation.metrics);
    trainer->ops->destroy(trainer);
}

static void test_edges(void **state)
{
    static const struct {
        double share;
        size_t examples;
    } cases[] = {{0, COUNT}, {1e-9, COUNT - 1}, {0.9999, 1}, {0.5, COUNT / 2}};
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *data = make_data();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        size_t examples = 0;
        struct fl_trainer *trainer = make_trainer(data, cases[i].share, &examples);

        assert_int_equal(examples, cases[i].examples);
        trainer->ops->destroy(trainer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_divides),
        cmocka_unit_test(test_edges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
