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

/* A single kink of ReLU or the pool near the weight would show as a wrong slope: the nearer look
 * decides. */
static double slope_of(struct fixture *f, float *weight, float h)
{
    float kept = *weight;
    double up, down, width;

    *weight = kept + h;
    width = *weight;
    up = loss_of(f);
    *weight = kept - h;
    width -= *weight;
    down = loss_of(f);
    *weight = kept;
    return (up - down) / width;
}

static bool agrees(double slope, double gradient)
{
    return fabs(slope - gradient) <= 3e-3 * (0.3 + fabs(gradient));
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
        for (size_t k = 0; k < f.model->parameters; k++) {
            double told = (double)gradient[k];

            if (!agrees(slope_of(&f, &weights[k], 4e-3f), told) &&
                !agrees(slope_of(&f, &weights[k], 5e-4f), told))
                fail_msg("%s: parameter %zu: gradient %g, slope %g", shapes[i].what, k, told,
                         slope_of(&f, &weights[k], 1e-3f));
        }
        fixture_finish(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_slopes),
    };

    return cmocka_run_group_tests(tests, begin, NULL);
}
