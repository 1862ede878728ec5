#include "workloads/trainer/network.h"

#include "workloads/data/random.h"
#include "workloads/tensor/kernels.h"
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

static const struct fl_patterns grey = {
    .count = 7, .height = 7, .width = 5, .classes = 3, .noise = 1, .seed = 1, .pattern_seed = 2};
static const struct fl_patterns colour = {.count = 5,
                                          .height = 4,
                                          .width = 6,
                                          .channels = 3,
                                          .classes = 4,
                                          .noise = 1,
                                          .seed = 1,
                                          .pattern_seed = 2};

/* Each kind of layer, first, last and between others. */
static const struct {
    const char *what;
    const struct fl_patterns *patterns;
    struct fl_network_shape shape;
} shapes[] = {
    {"softmax", &grey, {.activation = FL_IDENTITY}},
    {"one dense", &grey, {.hidden = {6}, .hidden_count = 1, .activation = FL_TANH}},
    {"two dense", &grey, {.hidden = {6, 4}, .hidden_count = 2, .activation = FL_SIGMOID}},
    {"dense, ReLU", &grey, {.hidden = {9, 8}, .hidden_count = 2, .activation = FL_RELU}},
    {"one convolution",
     &grey,
     {.filters = {3}, .filters_count = 1, .kernel = 3, .activation = FL_TANH}},
    {"even kernel",
     &grey,
     {.filters = {2}, .filters_count = 1, .kernel = 4, .activation = FL_SIGMOID}},
    {"two convolutions",
     &colour,
     {.filters = {3, 4},
      .filters_count = 2,
      .hidden = {5},
      .hidden_count = 1,
      .kernel = 5,
      .activation = FL_TANH}},
    {"three convolutions, ReLU",
     &colour,
     {.filters = {4, 3, 2},
      .filters_count = 3,
      .hidden = {5},
      .hidden_count = 1,
      .kernel = 3,
      .activation = FL_RELU}},
};

struct fixture {
    struct fl_dataset data;
    struct fl_network *network;
    struct fl_model *model, *gradient;
};

static void fixture_make(struct fixture *f, size_t i)
{
    struct fl_random random = fl_random_from(5, 0);

    fl_patterns_make(shapes[i].patterns, &f->data);
    assert_int_equal(fl_network_create(&shapes[i].shape, &f->data, &f->network, NULL), 0);
    assert_int_equal(fl_model_like(fl_network_form(f->network), false, &f->model, NULL), 0);
    assert_int_equal(fl_model_like(f->model, false, &f->gradient, NULL), 0);
    fl_network_init(f->network, 11, f->model);
    for (size_t t = 0; t < f->model->count; t++) /* biases, too, so that each matters */
        if (f->model->tensors[t].rank == 1)
            for (size_t k = 0; k < f->model->tensors[t].count; k++)
                fl_tensor_set(&f->model->tensors[t], k, 0.6 * fl_random_uniform(&random) - 0.3);
}

static void fixture_finish(struct fixture *f)
{
    fl_model_unref(f->gradient);
    fl_model_unref(f->model);
    fl_network_destroy(f->network);
    fl_patterns_finish(&f->data);
}

static double loss_of(struct fixture *f)
{
    size_t hits = 0;

    fl_network_load(f->network, &f->data, NULL, 0, f->data.count);
    return fl_network_forward(f->network, f->model, 0, &hits);
}

static void take_gradient(struct fixture *f, float *target, float alpha, float beta)
{
    const struct fl_network_sink sink = {target, alpha, beta};
    size_t hits = 0;

    fl_network_load(f->network, &f->data, NULL, 0, f->data.count);
    (void)fl_network_forward(f->network, f->model, 1, &hits);
    fl_network_backward(f->network, f->model, &sink);
}

static double loss_at(struct fixture *f, float *weight, float h, float *ret_moved)
{
    float kept = *weight;
    double loss;

    *weight = kept + h;
    *ret_moved = *weight - kept;
    loss = loss_of(f);
    *weight = kept;
    return loss;
}

/* Between two points beside the weight, or the weight itself. */
static double slope_of(struct fixture *f, float *weight, float down, float up)
{
    float from, to;
    double low = loss_at(f, weight, -down, &from), high = loss_at(f, weight, up, &to);

    return (high - low) / (double)(to - from);
}

/* ReLU and pools have kinks. One that is near the weight bends the slope on its own side only, so
 * that a right gradient is seen from the other side, or from nearer. */
static bool is_slope(struct fixture *f, float *weight, double gradient)
{
    static const float looks[][2] = {{4e-3f, 4e-3f}, {5e-4f, 5e-4f}, {2e-3f, 0}, {0, 2e-3f}};

    for (size_t i = 0; i < FL_COUNT_OF(looks); i++)
        if (fabs(slope_of(f, weight, looks[i][0], looks[i][1]) - gradient) <=
            4e-3 * (0.3 + fabs(gradient)))
            return true;
    return false;
}

static void gradients_are_slopes(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(shapes); i++) {
        struct fixture f = {0};
        float *weights, *gradient;

        fixture_make(&f, i);
        weights = (float *)f.model->data;
        gradient = (float *)f.gradient->data;
        take_gradient(&f, gradient, 1, 0);
        for (size_t k = 0; k < f.model->parameters; k++)
            if (!is_slope(&f, &weights[k], (double)gradient[k]))
                fail_msg("%s: parameter %zu: gradient %g, slope %g", shapes[i].what, k,
                         (double)gradient[k], slope_of(&f, &weights[k], 1e-3f, 1e-3f));
        fixture_finish(&f);
    }
}

/* target = beta * target + alpha * gradient, also where the target is the weights themselves. */
static void sinks(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(shapes); i++) {
        struct fixture f = {0};
        FL_CLEANUP(fl_model_unrefp) struct fl_model *start = NULL;
        float *weights, *gradient;

        fixture_make(&f, i);
        weights = (float *)f.model->data;
        gradient = (float *)f.gradient->data;
        assert_int_equal(fl_model_like(f.model, true, &start, NULL), 0);
        take_gradient(&f, gradient, 1, 0);
        take_gradient(&f, weights, -0.25f, 0.5f);
        for (size_t k = 0; k < f.model->parameters; k++) {
            float expected = 0.5f * ((float *)start->data)[k] - 0.25f * gradient[k];

            assert_true(fabsf(weights[k] - expected) <= 1e-5f * (1 + fabsf(expected)));
        }
        fixture_finish(&f);
    }
}

/* Without OpenBLAS the plain product is used: the whole network, fast and plain. */
static double plain_loss, plain_first;

static int without_blas(void **state)
{
    struct fixture f = {0};

    (void)state;
    fixture_make(&f, 6);
    plain_loss = loss_of(&f);
    take_gradient(&f, (float *)f.gradient->data, 1, 0);
    plain_first = (double)((float *)f.gradient->data)[0];
    fixture_finish(&f);
    return begin(NULL);
}

static void fast_is_plain(void **state)
{
    struct fixture f = {0};

    (void)state;
    fixture_make(&f, 6);
    assert_true(fabs(loss_of(&f) - plain_loss) < 1e-5 * plain_loss);
    take_gradient(&f, (float *)f.gradient->data, 1, 0);
    assert_true(fabs((double)((float *)f.gradient->data)[0] - plain_first) < 1e-4);
    fixture_finish(&f);
}

/* Without a data set, in other slices, the network says what it says in training: the loss follows
 * from the probabilities, and they from the logits. */
static void predictions_are_what_training_sees(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(shapes); i++) {
        FL_CLEANUP(fl_network_destroyp) struct fl_network *network = NULL;
        struct fixture f = {0};
        float logits[7 * 4], probabilities[7 * 4];
        double loss = 0;

        fixture_make(&f, i);
        assert_int_equal(
            fl_network_create_for(&shapes[i].shape,
                                  &(struct fl_network_examples){.shape = f.data.shape,
                                                                .rank = f.data.rank,
                                                                .classes = f.data.classes,
                                                                .batch = 2},
                                  &network, NULL),
            0);
        assert_int_equal(fl_model_check_like(fl_network_form(network), f.model, NULL), 0);
        fl_network_predict(network, f.model, FL_LOGITS, f.data.features, f.data.count, logits);
        fl_network_predict(network, f.model, FL_PROBABILITIES, f.data.features, f.data.count,
                           probabilities);
        for (size_t n = 0; n < f.data.count; n++) {
            const float *row = logits + n * (size_t)f.data.classes;
            double total = 0, sum = 0;

            for (int64_t c = 0; c < f.data.classes; c++)
                total += exp((double)row[c]);
            for (int64_t c = 0; c < f.data.classes; c++) {
                double p = (double)probabilities[n * (size_t)f.data.classes + (size_t)c];

                assert_true(fabs(p - exp((double)row[c]) / total) < 1e-6);
                sum += p;
            }
            assert_true(fabs(sum - 1) < 1e-6);
            loss -= log(exp((double)row[f.data.labels[n]]) / total);
        }
        assert_true(fabs(loss - loss_of(&f)) < 1e-5 * (1 + loss));
        fixture_finish(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_slopes),
        cmocka_unit_test(sinks),
        cmocka_unit_test(fast_is_plain),
        cmocka_unit_test(predictions_are_what_training_sees),
    };

    return cmocka_run_group_tests(tests, without_blas, NULL);
}
