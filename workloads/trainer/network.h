/* A feed-forward network for classification: convolutions, then dense layers, softmax at the end.
 *
 * The parameters are a model's (the caller's), the space to compute in is the network's and made
 * once. It computes slices of at most `slice` examples; a larger batch is several slices whose
 * gradients add up. Each convolution (same padding) is followed by a pool of 2 and then by bias and
 * activation: as all activations grow with their argument, that is the same as activating first,
 * for a quarter of the work. The last layer gives the logits.
 *
 * Tensors of the model are named and laid out as PyTorch does: conv1.weight [filters, channels,
 * kernel, kernel], conv1.bias [filters], …, dense1.weight [units, inputs], dense1.bias [units], …,
 * output.weight, output.bias. Dense layers see an image channel by channel. One thread. */
#ifndef FL_WORKLOADS_TRAINER_NETWORK_H
#define FL_WORKLOADS_TRAINER_NETWORK_H

#include "workloads/data/dataset.h"
#include "workloads/tensor/tensor.h"
#include "workloads/trainer/layers.h"

#define FL_NETWORK_HIDDEN_MAX 16
#define FL_NETWORK_CONVS_MAX  8

struct fl_network_shape {
    size_t hidden[FL_NETWORK_HIDDEN_MAX], hidden_count;
    size_t filters[FL_NETWORK_CONVS_MAX], filters_count;
    size_t kernel;
    enum fl_activation activation;
};

struct fl_network;

/* For examples as `data` has them. INVALID: no labels, no image where there are convolutions, more
 * parameters than memory should hold. */
int fl_network_create(const struct fl_network_shape *shape, const struct fl_dataset *data,
                      struct fl_network **ret_network, struct fl_error *err);
/* The same without a data set, for predicting only: examples of a form that is given, at most
 * `batch` (0: some) computed at once, in less space than training needs. It must not be asked to
 * load, go forward or backward. */
struct fl_network_examples {
    const int64_t *shape;
    unsigned rank;
    int64_t classes;
    size_t batch;
    /* A stranger's: where it has not as many parameters as the network would, that is INVALID
     * before anything is allocated. NULL: any. */
    const struct fl_model *model;
};
int fl_network_create_for(const struct fl_network_shape *shape,
                          const struct fl_network_examples *examples,
                          struct fl_network **ret_network, struct fl_error *err);
void fl_network_destroy(struct fl_network *network);
FL_DEFINE_CLEANUP(struct fl_network, fl_network_destroy)

size_t fl_network_slice(const struct fl_network *network);
const struct fl_model *fl_network_form(const struct fl_network *network); /* all zero */
/* Gives its memory, as large as a model, back: predicting does not need it. NULL from then on. */
void fl_network_drop_form(struct fl_network *network);

/* Weights uniform within ±sqrt(g / fan-in), g being 6 before ReLU (He et al. 2015) and 3 elsewhere
 * (LeCun et al. 1998), drawn layer by layer from the seed; biases 0. */
void fl_network_init(const struct fl_network *network, uint64_t seed, struct fl_model *model);

/* Takes up rows of the data (`rows` NULL: from `first` on), at most a slice. */
void fl_network_load(struct fl_network *network, const struct fl_dataset *data,
                     const uint32_t *rows, size_t first, size_t count);
/* Of what was loaded: the sum of losses, and how many were right. With `scale` it leaves what
 * fl_network_backward needs, for the gradient of scale * (that sum). */
double fl_network_forward(struct fl_network *network, const struct fl_model *model, float scale,
                          size_t *hits);

/* What the model says of `count` examples that lie one behind the other as data sets have them:
 * `classes` logits each, or probabilities. */
enum fl_network_answer { FL_LOGITS, FL_PROBABILITIES };
void fl_network_predict(struct fl_network *network, const struct fl_model *model,
                        enum fl_network_answer answer, const float *examples, size_t count,
                        float *ret_answers);

/* target = beta * target + alpha * gradient, in a block laid out as the model's. The target may be
 * the model's own block: each layer is done with its weights before they change. So plain gradient
 * descent is one pass over the weights. */
struct fl_network_sink {
    float *target;
    float alpha, beta;
};
void fl_network_backward(struct fl_network *network, const struct fl_model *model,
                         const struct fl_network_sink *sink);

#endif
