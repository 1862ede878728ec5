#include "workloads/model/predictor.h"

#include "workloads/tensor/kernels.h"
#include "workloads/trainer/native.h"
#include "workloads/trainer/trainer_testing.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

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

static const struct fl_patterns patterns = {
    .count = 40, .height = 9, .width = 7, .channels = 2, .classes = 5, .noise = 1, .seed = 4};

static const struct {
    const char *trainer, *options, *resolved;
} kinds[] = {
    {"SoftmaxRegression", NULL, "{}"},
    {"MLP", NULL, "{\"activation\":\"ReLU\",\"hiddenUnits\":[200,200]}"},
    {"MLP", "{\"hiddenUnits\":[6],\"activation\":\"Tanh\"}",
     "{\"activation\":\"Tanh\",\"hiddenUnits\":[6]}"},
    {"CNN", "{\"filters\":[3,4],\"hiddenUnits\":[8],\"kernelSize\":4}",
     "{\"activation\":\"ReLU\",\"filters\":[3,4],\"hiddenUnits\":[8],\"kernelSize\":4}"},
};

static struct fl_trainer *trainer_of(size_t i, const struct fl_dataset *data)
{
    FL_JSON options = kinds[i].options ? json_loads(kinds[i].options, 0, NULL) : NULL;
    struct fl_trainer *trainer = NULL;

    assert_int_equal(fl_trainer_find(kinds[i].trainer)->create(options, data, &trainer, NULL), 0);
    return trainer;
}

static double accuracy_of(struct fl_predictor *predictor, const struct fl_dataset *data)
{
    float answers[40 * 5];
    size_t hits = 0;

    fl_predictor_predict(predictor, FL_PROBABILITIES, data->features, data->count, answers);
    for (size_t i = 0; i < data->count; i++) {
        size_t best = 0;

        for (size_t c = 1; c < 5; c++)
            if (answers[i * 5 + c] > answers[i * 5 + best])
                best = c;
        hits += best == (size_t)data->labels[i];
    }
    return (double)hits / (double)data->count;
}

/* The model that a trainer made is all that is needed to answer as the trainer would. */
static void a_model_is_enough(void **state)
{
    struct fl_dataset data;

    (void)state;
    fl_patterns_make(&patterns, &data);
    for (size_t i = 0; i < FL_COUNT_OF(kinds); i++) {
        FL_CLEANUP(destroy_trainer) struct fl_trainer *trainer = trainer_of(i, &data);
        FL_CLEANUP(fl_predictor_destroyp) struct fl_predictor *predictor = NULL;
        FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
        FL_CLEANUP(fl_freep) char *options = NULL;
        const struct fl_description *description;
        struct fl_evaluation evaluation;

        assert_int_equal(trainer->ops->init(trainer, 3, &model, NULL), 0);
        assert_int_equal(fl_predictor_create(model, 7, &predictor, NULL), 0);
        assert_int_equal(trainer->ops->evaluate(trainer, model, &evaluation, NULL), 0);
        assert_true(fabs(accuracy_of(predictor, &data) - evaluation.accuracy) < 1e-9);
        description = fl_predictor_description(predictor);
        assert_string_equal(description->trainer, kinds[i].trainer);
        options = json_dumps(description->options, JSON_COMPACT | JSON_SORT_KEYS);
        assert_string_equal(options, kinds[i].resolved);
        assert_int_equal(fl_description_width(description), data.width);
    }
    fl_patterns_finish(&data);
}

static const struct {
    const char *key, *value, *says;
} lies[] = {
    {"flops.trainer", "Oracle", "there is no trainer \"Oracle\""},
    {"flops.options", "{\"depth\":3}", "no such option"},
    {"flops.options", "{\"hiddenUnits\":[7]}", "parameters where there would be"},
    {"flops.options", "{\"hiddenUnits\":[65536,65536]}", "more than"},
    {"flops.input", "{\"dtype\":\"F32\",\"name\":\"x\",\"shape\":[3]}", "parameters where"},
    {"flops.output", "{\"classes\":4,\"name\":\"y\"}", "parameters where there would be"},
    {"flops.output", "{\"classes\":65536,\"name\":\"y\"}", "parameters where there would be"},
    {"flops.trainer", "CNN", "parameters where there would be"},
};

static void what_does_not_fit_is_refused(void **state)
{
    struct fl_dataset data;

    (void)state;
    fl_patterns_make(&patterns, &data);
    for (size_t i = 0; i <= FL_COUNT_OF(lies); i++) {
        FL_CLEANUP(destroy_trainer) struct fl_trainer *trainer = trainer_of(2, &data);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
        struct fl_predictor *predictor = NULL;
        struct fl_error err = {0};

        assert_int_equal(trainer->ops->init(trainer, 3, &model, NULL), 0);
        if (i < FL_COUNT_OF(lies))
            fl_model_note(model, lies[i].key, lies[i].value);
        else
            fl_tensor_set(&model->tensors[1], 2, NAN);
        assert_int_equal(fl_predictor_create(model, 0, &predictor, &err), FL_E_INVALID);
        assert_null(predictor);
        if (!strstr(err.msg, i < FL_COUNT_OF(lies) ? lies[i].says : "NaN"))
            fail_msg("%zu: %s", i, err.msg);
    }
    fl_patterns_finish(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_enough),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };

    return cmocka_run_group_tests(tests, begin, NULL);
}
