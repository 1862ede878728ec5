/* For the tests of this folder: a trained-looking model of each form that trainers make. */
#ifndef FL_WORKLOADS_MODEL_TESTING_H
#define FL_WORKLOADS_MODEL_TESTING_H

#include "workloads/data/random.h"
#include "workloads/trainer/trainer.h"
#include "workloads/trainer/trainer_testing.h"

struct testing_form {
    const char *what, *trainer, *options; /* options NULL: the trainer's own */
    struct fl_patterns patterns;
};

static const struct testing_form testing_forms[] = {
    {"softmax",
     "SoftmaxRegression",
     NULL,
     {.count = 4, .height = 5, .width = 3, .classes = 3, .seed = 1}},
    {"dense, ReLU",
     "MLP",
     "{\"hiddenUnits\":[7,6]}",
     {.count = 4, .height = 4, .width = 4, .channels = 2, .classes = 4, .seed = 2}},
    {"dense, Sigmoid",
     "MLP",
     "{\"hiddenUnits\":[5],\"activation\":\"Sigmoid\"}",
     {.count = 4, .height = 1, .width = 6, .classes = 2, .seed = 3}},
    {"grey images",
     "CNN",
     "{\"filters\":[3,4],\"hiddenUnits\":[8],\"kernelSize\":5}",
     {.count = 4, .height = 9, .width = 7, .classes = 3, .seed = 4}},
    {"coloured images, even kernel, Tanh",
     "CNN",
     "{\"filters\":[4,3,2],\"hiddenUnits\":[5,4],\"kernelSize\":4,\"activation\":\"Tanh\"}",
     {.count = 4, .height = 6, .width = 11, .channels = 3, .classes = 5, .seed = 5}},
};

/* As a trainer makes it, with biases, too, so that each matters. The caller's; NULL where it
 * cannot be. */
static inline struct fl_model *testing_model(const struct testing_form *form)
{
    FL_JSON options = form->options ? json_loads(form->options, 0, NULL) : NULL;
    struct fl_random random = fl_random_from(form->patterns.seed, 7);
    struct fl_trainer *trainer = NULL;
    struct fl_model *model = NULL;
    struct fl_dataset data;

    fl_patterns_make(&form->patterns, &data);
    if (fl_trainer_find(form->trainer)->create(options, &data, &trainer, NULL) == 0) {
        (void)trainer->ops->init(trainer, form->patterns.seed, &model, NULL);
        trainer->ops->destroy(trainer);
    }
    for (size_t t = 0; model && t < model->count; t++)
        if (model->tensors[t].rank == 1)
            for (size_t k = 0; k < model->tensors[t].count; k++)
                fl_tensor_set(&model->tensors[t], k, fl_random_uniform(&random) - 0.5);
    fl_patterns_finish(&data);
    return model;
}

#endif
