#include "workloads/trainer/network.h"

#include "workloads/data/random.h"
#include "workloads/tensor/kernels.h"
#include "workloads/trainer/thin.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LAYERS_MAX      (FL_NETWORK_CONVS_MAX + FL_NETWORK_HIDDEN_MAX + 1)
#define PARAMETERS_MAX  ((size_t)1 << 30)
#define SLICE_MAX       256
#define SLICE_BYTES_MAX ((size_t)64 << 20)
#define SPACE_MAX       ((size_t)2 << 30)
#define STREAM_OF_INIT  1

struct layer {
    bool is_conv;
    enum fl_activation activation;
    struct fl_window window;   /* of a convolution: what it looks at */
    size_t fan_in, units;      /* of an output; filters are units */
    size_t in_size, out_size;  /* floats of an example */
    size_t weight_at, bias_at; /* floats into the model's block */
    char name[32];
    float *out;     /* of a slice */
    uint8_t *which; /* of a slice, after a pool */
    float *padded;  /* of an image of the layer's input: its frame stays zero */
};

struct fl_network {
    struct layer layers[LAYERS_MAX];
    size_t count, width, classes, slice, loaded;
    size_t channels; /* of an image that is stored pixel by pixel; 1: nothing to reorder */
    bool predicts;   /* only: there is no space for gradients */
    struct fl_model *form;
    float *input;
    int32_t *labels;
    float *delta, *delta_below; /* of a slice */
    float *cols, *raw;          /* of an image: columns, and what comes before the pool */
    void *memory;
};

/* Form */

static size_t area_of(const struct fl_window *window)
{
    return window->height * window->width;
}

static struct layer *add_layer(struct fl_network *network, const char *kind, size_t number)
{
    struct layer *layer = &network->layers[network->count++];

    if (number > 0)
        (void)snprintf(layer->name, sizeof(layer->name), "%s%zu", kind, number);
    else
        (void)snprintf(layer->name, sizeof(layer->name), "%s", kind);
    return layer;
}

/* Gives the image that the next layer sees. */
static void add_conv(struct fl_network *network, const struct fl_network_shape *shape, size_t i,
                     struct fl_window *image)
{
    struct layer *layer = add_layer(network, "conv", i + 1);

    layer->is_conv = true;
    layer->activation = shape->activation;
    layer->window = *image;
    layer->fan_in = image->channels * shape->kernel * shape->kernel;
    layer->units = shape->filters[i];
    layer->in_size = image->channels * area_of(image);
    image->channels = layer->units;
    image->height = (image->height + 1) / 2;
    image->width = (image->width + 1) / 2;
    layer->out_size = image->channels * area_of(image);
}

static void add_dense(struct fl_network *network, const char *kind, size_t number, size_t inputs,
                      size_t units, enum fl_activation activation)
{
    struct layer *layer = add_layer(network, kind, number);

    layer->activation = activation;
    layer->fan_in = layer->in_size = inputs;
    layer->units = layer->out_size = units;
}

static void add_layers(struct fl_network *network, const struct fl_network_shape *shape,
                       struct fl_window image)
{
    size_t inputs = network->width;

    for (size_t i = 0; i < shape->filters_count; i++)
        add_conv(network, shape, i, &image);
    if (shape->filters_count > 0)
        inputs = image.channels * area_of(&image);
    for (size_t i = 0; i < shape->hidden_count; i++) {
        add_dense(network, "dense", i + 1, inputs, shape->hidden[i], shape->activation);
        inputs = shape->hidden[i];
    }
    add_dense(network, "output", 0, inputs, network->classes, FL_IDENTITY);
}

/* Sizes are each below 2^40 or so: options bound what they name, the data lies in memory. */
static int check_size(const struct fl_network *network, const struct fl_model *model,
                      struct fl_error *err)
{
    double parameters = 0;

    for (size_t i = 0; i < network->count; i++)
        parameters += ((double)network->layers[i].fan_in + 1) * (double)network->layers[i].units;
    if (parameters > (double)PARAMETERS_MAX)
        return fl_error_set(err, FL_E_INVALID,
                            "the model would have %.0f parameters, more than %zu", parameters,
                            PARAMETERS_MAX);
    if (model && (double)model->parameters != parameters)
        return fl_error_set(err, FL_E_INVALID,
                            "the model has %zu parameters where there would be %.0f",
                            model->parameters, parameters);
    return 0;
}

static void describe_weight(const struct layer *layer, const char *name, struct fl_tensor *tensor)
{
    const struct fl_window *window = &layer->window;

    *tensor = (struct fl_tensor){.name = name,
                                 .dtype = FL_DTYPE_F32,
                                 .rank = 2,
                                 .shape = {(int64_t)layer->units, (int64_t)layer->fan_in}};
    if (!layer->is_conv)
        return;
    tensor->rank = 4;
    tensor->shape[1] = (int64_t)window->channels;
    tensor->shape[2] = tensor->shape[3] = (int64_t)window->kernel;
}

static float *floats(const struct fl_model *model)
{
    void *block = model->data;

    return block;
}

static size_t place_of(const struct fl_model *model, const char *name)
{
    return (size_t)((float *)fl_model_find(model, name)->data - floats(model));
}

static int make_form(struct fl_network *network, struct fl_error *err)
{
    struct fl_tensor tensors[2 * LAYERS_MAX] = {0};
    char names[2 * LAYERS_MAX][48];
    int r;

    for (size_t i = 0; i < network->count; i++) {
        const struct layer *layer = &network->layers[i];

        (void)snprintf(names[2 * i], sizeof(names[0]), "%s.weight", layer->name);
        (void)snprintf(names[2 * i + 1], sizeof(names[0]), "%s.bias", layer->name);
        describe_weight(layer, names[2 * i], &tensors[2 * i]);
        tensors[2 * i + 1] = (struct fl_tensor){.name = names[2 * i + 1],
                                                .dtype = FL_DTYPE_F32,
                                                .rank = 1,
                                                .shape = {(int64_t)layer->units}};
    }
    r = fl_model_create(tensors, 2 * network->count, &network->form, err);
    for (size_t i = 0; i < network->count && r == 0; i++) {
        network->layers[i].weight_at = place_of(network->form, names[2 * i]);
        network->layers[i].bias_at = place_of(network->form, names[2 * i + 1]);
    }
    return r;
}

/* Space */

#define ALIGN 64

/* Of all buffers: first they are measured, then the same calls hand them out. */
struct space {
    unsigned char *base; /* NULL: measuring */
    size_t used;
};

static void *give(struct space *space, size_t count, size_t size)
{
    void *place = space->base ? space->base + space->used : NULL;

    space->used += (count * size + ALIGN - 1) / ALIGN * ALIGN;
    return place;
}

static size_t max_of(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void share_out(struct fl_network *network, struct space *space)
{
    size_t n = network->slice, widest = network->width, cols = 0, raw = 0;

    network->input = give(space, n * network->width, sizeof(float));
    network->labels = give(space, n, sizeof(int32_t));
    for (size_t i = 0; i < network->count; i++) {
        struct layer *layer = &network->layers[i];

        layer->out = give(space, n * layer->out_size, sizeof(float));
        widest = max_of(widest, layer->out_size);
        if (!layer->is_conv)
            continue;
        layer->which = give(space, n * layer->out_size, 1);
        layer->padded = give(space, fl_window_padded_size(&layer->window), sizeof(float));
        cols = max_of(cols, fl_window_cols_size(&layer->window));
        raw = max_of(raw, layer->units * area_of(&layer->window));
    }
    if (!network->predicts) {
        network->delta = give(space, n * widest, sizeof(float));
        network->delta_below = give(space, n * widest, sizeof(float));
    }
    network->cols = give(space, cols, sizeof(float));
    network->raw = give(space, raw, sizeof(float));
}

static size_t slice_for(const struct fl_network *network, size_t examples)
{
    size_t floats = network->width, most = SLICE_MAX, fit;

    for (size_t i = 0; i < network->count; i++)
        floats += 3 * network->layers[i].out_size; /* with both deltas, at most */
    fit = SLICE_BYTES_MAX / sizeof(float) / floats;
    most = fit < most ? fit : most;
    most = examples < most ? examples : most;
    return most > 0 ? most : 1;
}

static int make_space(struct fl_network *network, struct fl_error *err)
{
    struct space space = {0};

    share_out(network, &space);
    if (space.used > SPACE_MAX)
        return fl_error_set(err, FL_E_INVALID,
                            "training this model would need %zu bytes beside it, more than %zu",
                            space.used, SPACE_MAX);
    network->memory = calloc(1, space.used + ALIGN); /* what is not used costs nothing */
    if (!network->memory)
        return fl_error_set(err, FL_E_UNAVAILABLE, "no memory for %zu bytes to train in",
                            space.used);
    space = (struct space){.base = (unsigned char *)network->memory +
                                   (ALIGN - (uintptr_t)network->memory % ALIGN) % ALIGN};
    share_out(network, &space);
    return 0;
}

/* height x width, or height x width x channels */
static struct fl_window image_of(const struct fl_network_shape *shape,
                                 const struct fl_network_examples *examples)
{
    return (struct fl_window){.channels = examples->rank == 3 ? (size_t)examples->shape[2] : 1,
                              .height = (size_t)examples->shape[0],
                              .width = (size_t)examples->shape[1],
                              .kernel = shape->kernel};
}

static int make(const struct fl_network_shape *shape, const struct fl_network_examples *examples,
                bool predicts, struct fl_network **ret_network, struct fl_error *err)
{
    FL_CLEANUP(fl_network_destroyp)
    struct fl_network *network = fl_calloc(1, sizeof(*network));
    struct fl_window image = {.channels = 1};
    int r;

    if (shape->filters_count > 0 && examples->rank != 2 && examples->rank != 3)
        return fl_error_set(err, FL_E_INVALID,
                            "a CNN needs images; the examples have %u dimensions", examples->rank);
    if (shape->filters_count > 0)
        image = image_of(shape, examples);
    network->predicts = predicts;
    network->channels = image.channels;
    network->classes = (size_t)examples->classes;
    network->width = 1;
    for (unsigned i = 0; i < examples->rank; i++)
        network->width *= (size_t)examples->shape[i];
    add_layers(network, shape, image);
    network->slice = slice_for(network, examples->batch > 0 ? examples->batch : SLICE_MAX);
    r = check_size(network, examples->model, err);
    if (r == 0)
        r = make_form(network, err);
    if (r == 0)
        r = make_space(network, err);
    if (r < 0)
        return r;
    *ret_network = FL_TAKE(network);
    return 0;
}

int fl_network_create(const struct fl_network_shape *shape, const struct fl_dataset *data,
                      struct fl_network **ret_network, struct fl_error *err)
{
    const struct fl_network_examples examples = {
        .shape = data->shape, .rank = data->rank, .classes = data->classes, .batch = data->count};

    if (data->classes < 2 || !data->labels)
        return fl_error_set(err, FL_E_INVALID, "the data has no labels to learn");
    if (data->count == 0 || data->width == 0)
        return fl_error_set(err, FL_E_INVALID, "the data is empty");
    return make(shape, &examples, false, ret_network, err);
}

int fl_network_create_for(const struct fl_network_shape *shape,
                          const struct fl_network_examples *examples,
                          struct fl_network **ret_network, struct fl_error *err)
{
    return make(shape, examples, true, ret_network, err);
}

void fl_network_destroy(struct fl_network *network)
{
    if (!network)
        return;
    fl_model_unref(network->form);
    free(network->memory);
    free(network);
}

size_t fl_network_slice(const struct fl_network *network)
{
    return network->slice;
}

const struct fl_model *fl_network_form(const struct fl_network *network)
{
    return network->form;
}

void fl_network_drop_form(struct fl_network *network)
{
    fl_model_unref(FL_TAKE(network->form));
}

void fl_network_init(const struct fl_network *network, uint64_t seed, struct fl_model *model)
{
    struct fl_random random = fl_random_from(seed, STREAM_OF_INIT);

    memset(model->data, 0, model->size);
    for (size_t i = 0; i < network->count; i++) {
        const struct layer *layer = &network->layers[i];
        float gain = layer->activation == FL_RELU ? 6.0f : 3.0f;
        float bound = sqrtf(gain / (float)layer->fan_in);
        float *weight = floats(model) + layer->weight_at;

        for (size_t k = 0; k < layer->fan_in * layer->units; k++)
            weight[k] = bound * (float)(2 * fl_random_uniform(&random) - 1);
    }
}

/* Forward */

static void load_example(const struct fl_network *network, const float *from, float *to)
{
    size_t area = network->width / network->channels;

    if (network->channels == 1) {
        memcpy(to, from, network->width * sizeof(float));
        return;
    }
    for (size_t c = 0; c < network->channels; c++)
        for (size_t i = 0; i < area; i++)
            *to++ = from[i * network->channels + c];
}

void fl_network_load(struct fl_network *network, const struct fl_dataset *data,
                     const uint32_t *rows, size_t first, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t row = fl_dataset_row(data, rows ? rows[first + i] : first + i);

        load_example(network, data->features + row * data->width,
                     network->input + i * network->width);
        network->labels[i] = data->labels[row];
    }
    network->loaded = count;
}

static const float *input_of(const struct fl_network *network, size_t i)
{
    return i == 0 ? network->input : network->layers[i - 1].out;
}

static const float *weight_of(const struct layer *layer, const struct fl_model *model)
{
    return floats(model) + layer->weight_at;
}

static bool is_thin(const struct layer *layer, size_t n, struct fl_thin *ret_size)
{
    *ret_size = (struct fl_thin){.rows = n, .inputs = layer->fan_in, .units = layer->units};
    return fl_thin_is_worth(ret_size);
}

static void dense_forward(const struct layer *layer, const struct fl_model *model, size_t n,
                          const float *in)
{
    struct fl_thin size;

    if (is_thin(layer, n, &size))
        fl_thin_forward(&size, in, weight_of(layer, model), layer->out);
    else
        fl_k_gemm(false, true, n, layer->units, layer->fan_in, 1, in, weight_of(layer, model), 0,
                  layer->out);
    fl_activate(layer->activation, n, layer->units, floats(model) + layer->bias_at, layer->out);
}

/* Image by image, so that all that one needs stays near the processor. */
static void conv_forward(const struct fl_network *network, const struct layer *layer,
                         const struct fl_model *model, const float *in)
{
    const struct fl_window *window = &layer->window;
    size_t pooled = layer->out_size / layer->units;

    for (size_t i = 0; i < network->loaded; i++) {
        float *out = layer->out + i * layer->out_size;

        fl_im2col(window, in + i * layer->in_size, layer->padded, network->cols);
        fl_k_gemm(false, false, layer->units, area_of(window), layer->fan_in, 1,
                  weight_of(layer, model), network->cols, 0, network->raw);
        fl_pool(layer->units, window->height, window->width, network->raw, out,
                layer->which + i * layer->out_size);
        fl_activate_image(layer->activation, layer->units, pooled, floats(model) + layer->bias_at,
                          out);
    }
}

static void compute(struct fl_network *network, const struct fl_model *model)
{
    for (size_t i = 0; i < network->count; i++) {
        const struct layer *layer = &network->layers[i];

        if (layer->is_conv)
            conv_forward(network, layer, model, input_of(network, i));
        else
            dense_forward(layer, model, network->loaded, input_of(network, i));
    }
}

static float *logits_of(const struct fl_network *network)
{
    return network->layers[network->count - 1].out;
}

double fl_network_forward(struct fl_network *network, const struct fl_model *model, float scale,
                          size_t *hits)
{
    compute(network, model);
    return fl_softmax_loss(network->loaded, network->classes, scale, network->labels,
                           logits_of(network), hits);
}

static void predict_slice(struct fl_network *network, const struct fl_model *model,
                          enum fl_network_answer answer, const float *examples, float *answers)
{
    for (size_t i = 0; i < network->loaded; i++)
        load_example(network, examples + i * network->width, network->input + i * network->width);
    compute(network, model);
    if (answer == FL_PROBABILITIES)
        fl_softmax(network->loaded, network->classes, logits_of(network));
    memcpy(answers, logits_of(network), network->loaded * network->classes * sizeof(float));
}

void fl_network_predict(struct fl_network *network, const struct fl_model *model,
                        enum fl_network_answer answer, const float *examples, size_t count,
                        float *ret_answers)
{
    for (size_t at = 0; at < count; at += network->loaded) {
        network->loaded = count - at < network->slice ? count - at : network->slice;
        predict_slice(network, model, answer, examples + at * network->width,
                      ret_answers + at * network->classes);
    }
}

/* Backward. `delta` is the gradient by the layer's output before its activation. */

static void dense_backward(const struct fl_network *network, const struct layer *layer,
                           const struct fl_model *model, const float *in, const float *delta,
                           float *below, const struct fl_network_sink *sink)
{
    size_t n = network->loaded;
    struct fl_thin size;

    if (below && is_thin(layer, n, &size))
        fl_thin_backward(&size, delta, weight_of(layer, model), below);
    else if (below)
        fl_k_gemm(false, false, n, layer->fan_in, layer->units, 1, delta, weight_of(layer, model),
                  0, below);
    fl_k_gemm(true, false, layer->units, layer->fan_in, n, sink->alpha, delta, in, sink->beta,
              sink->target + layer->weight_at);
    fl_sum_rows(n, layer->units, delta, sink->alpha, sink->beta, sink->target + layer->bias_at);
}

static void unpool(const struct fl_network *network, const struct layer *layer, size_t i,
                   const float *delta)
{
    fl_pool_back(layer->units, layer->window.height, layer->window.width,
                 delta + i * layer->out_size, layer->which + i * layer->out_size, network->raw);
}

static void conv_backward_below(const struct fl_network *network, const struct layer *layer,
                                const struct fl_model *model, const float *delta, float *below)
{
    for (size_t i = 0; i < network->loaded; i++) {
        unpool(network, layer, i, delta);
        fl_k_gemm(true, false, layer->fan_in, area_of(&layer->window), layer->units, 1,
                  weight_of(layer, model), network->raw, 0, network->cols);
        fl_col2im(&layer->window, network->cols, layer->padded, below + i * layer->in_size);
    }
    memset(layer->padded, 0, fl_window_padded_size(&layer->window) * sizeof(float));
}

static void conv_backward(const struct fl_network *network, const struct layer *layer,
                          const struct fl_model *model, const float *in, const float *delta,
                          float *below, const struct fl_network_sink *sink)
{
    const struct fl_window *window = &layer->window;

    if (below)
        conv_backward_below(network, layer, model, delta, below);
    for (size_t i = 0; i < network->loaded; i++) {
        unpool(network, layer, i, delta);
        fl_im2col(window, in + i * layer->in_size, layer->padded, network->cols);
        fl_k_gemm(false, true, layer->units, layer->fan_in, area_of(window), sink->alpha,
                  network->raw, network->cols, i == 0 ? sink->beta : 1,
                  sink->target + layer->weight_at);
    }
    fl_sum_images(network->loaded, layer->units, layer->out_size / layer->units, delta, sink->alpha,
                  sink->beta, sink->target + layer->bias_at);
}

void fl_network_backward(struct fl_network *network, const struct fl_model *model,
                         const struct fl_network_sink *sink)
{
    float *delta = network->layers[network->count - 1].out, *below = network->delta;
    float *other = network->delta_below;

    for (size_t i = network->count; i-- > 0;) {
        const struct layer *layer = &network->layers[i];
        const float *in = input_of(network, i);
        float *next = i > 0 ? below : NULL;

        if (layer->is_conv)
            conv_backward(network, layer, model, in, delta, next, sink);
        else
            dense_backward(network, layer, model, in, delta, next, sink);
        if (i == 0)
            break;
        fl_activate_back(network->layers[i - 1].activation, network->loaded * layer->in_size, in,
                         next);
        delta = next;
        below = other;
        other = next;
    }
}
