/* What trains and what judges are two. */
#include "workloads/trainer/tested.h"

#include "workloads/tensor/kernels.h"
#include "workloads/trainer/trainer_testing.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants these first */
#include <cmocka.h>

static const struct fl_patterns many = {
    .count = 120, .height = 6, .width = 6, .classes = 4, .noise = 1, .seed = 3, .pattern_seed = 9};
static const struct fl_patterns few = {
    .count = 40, .height = 6, .width = 6, .classes = 4, .noise = 1, .seed = 4, .pattern_seed = 9};

static struct fl_trainer *make(const struct fl_dataset *data)
{
    struct fl_trainer *trainer = NULL;

    assert_int_equal(fl_trainer_find("SoftmaxRegression")->create(NULL, data, &trainer, NULL), 0);
    return trainer;
}

static void one_trains_and_the_other_judges(void **state)
{
    const struct fl_fit_options options = {
        .epochs = 3, .batch_size = 10, .learning_rate = 0.1, .seed = 7};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *base = NULL;
    struct fl_dataset training, test;
    struct fl_trainer *tested, *alone;
    struct fl_fit_result result = {0}, same = {0};
    struct fl_evaluation judged, judged_alone;

    (void)state;
    fl_patterns_make(&many, &training);
    fl_patterns_make(&few, &test);
    alone = make(&test);
    tested = fl_trainer_tested(make(&training), make(&test));
    assert_string_equal(tested->ops->name, "SoftmaxRegression");
    assert_int_equal(tested->ops->init(tested, 5, &base, NULL), 0);
    assert_int_equal(tested->ops->fit(tested, base, &options, &result, NULL), 0);
    assert_int_equal(result.examples, 120);
    assert_int_equal(tested->ops->evaluate(tested, result.model, &judged, NULL), 0);
    assert_int_equal(alone->ops->evaluate(alone, result.model, &judged_alone, NULL), 0);
    assert_int_equal(judged.examples, 40);
    assert_true(judged.loss == judged_alone.loss && judged.accuracy == judged_alone.accuracy);
    assert_int_equal(alone->ops->fit(alone, base, &options, &same, NULL), 0);
    assert_memory_not_equal(same.model->data, result.model->data, same.model->size);
    fl_model_unref(result.model);
    fl_model_unref(same.model);
    tested->ops->destroy(tested);
    alone->ops->destroy(alone);
    fl_patterns_finish(&training);
    fl_patterns_finish(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_trains_and_the_other_judges)};

    return fl_kernels_init(NULL) < 0 || cmocka_run_group_tests(tests, NULL, NULL);
}
