#include "workloads/trainer/native.h"

#include "lib/str.h"
#include "workloads/data/random.h"
#include "workloads/model/description.h"
#include "workloads/tensor/kernels.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>

#define STREAM_OF_FIT 2

struct native {
    struct fl_trainer base;
    const struct fl_dataset *data; /* lent */
    struct fl_network_shape shape;
    struct fl_network *network;
    uint32_t *order; /* of the examples, in an epoch */
    float *velocity; /* or the gradient; made when first needed */
};

static void destroy(struct fl_trainer *self)
{
    struct native *native = (struct native *)self;

    if (!native)
        return;
    fl_network_destroy(native->network);
    free(native->order);
    free(native->velocity);
    free(native);
}

static void destroy_native(struct native **native)
{
    destroy(*native ? &(*native)->base : NULL);
}

static int create(const struct fl_trainer_ops *ops, const json_t *options,
                  const struct fl_dataset *data, struct fl_trainer **ret_trainer,
                  struct fl_error *err)
{
    FL_CLEANUP(destroy_native) struct native *native = fl_calloc(1, sizeof(*native));
    int r;

    native->base.ops = ops;
    native->data = data;
    r = fl_native_shape(ops->name, options, &native->shape, err);
    if (r == 0)
        r = fl_network_create(&native->shape, data, &native->network, err);
    if (r < 0)
        return r;
    native->order = fl_calloc(data->count, sizeof(*native->order));
    *ret_trainer = &FL_TAKE(native)->base;
    return 0;
}

/* So that it can be used, wherever it goes, without what it was trained with. */
static void describe(const struct native *native, struct fl_model *model)
{
    const struct fl_dataset *data = native->data;
    FL_JSON options = fl_native_options(&native->shape);
    struct fl_description description = {.trainer = native->base.ops->name,
                                         .options = options,
                                         .input_name = "input",
                                         .output_name = "probabilities",
                                         .input_dtype = FL_DTYPE_F32,
                                         .rank = data->rank,
                                         .classes = data->classes,
                                         .class_names = data->class_names};

    memcpy(description.shape, data->shape, sizeof(description.shape));
    fl_description_write(&description, model);
}

static int init(struct fl_trainer *self, uint64_t seed, struct fl_model **ret_model,
                struct fl_error *err)
{
    struct native *native = (struct native *)self;
    struct fl_model *model;
    int r = fl_model_like(fl_network_form(native->network), false, &model, err);

    if (r < 0)
        return r;
    fl_network_init(native->network, seed, model);
    describe(native, model);
    *ret_model = model;
    return 0;
}

static int check_model(const struct native *native, const struct fl_model *model,
                       struct fl_error *err)
{
    int r = fl_model_check_like(fl_network_form(native->network), model, err);

    return r < 0 ? fl_error_wrap(err, "the model is not this trainer's") : 0;
}

static bool is_cancelled(const struct fl_fit_options *options)
{
    return options && options->cancelled && options->cancelled(options->user);
}

/* Over all examples, in their order. `options` only to be cancelled; may be NULL. */
static int measure(struct native *native, const struct fl_model *model,
                   const struct fl_fit_options *options, struct fl_evaluation *ret_evaluation,
                   struct fl_error *err)
{
    size_t count = native->data->count, slice = fl_network_slice(native->network), hits = 0;
    double loss = 0;

    for (size_t at = 0; at < count; at += slice) {
        if (is_cancelled(options))
            return fl_error_set(err, FL_E_CONFLICT, "cancelled while evaluating");
        fl_network_load(native->network, native->data, NULL, at,
                        count - at < slice ? count - at : slice);
        loss += fl_network_forward(native->network, model, 0, &hits);
    }
    *ret_evaluation = (struct fl_evaluation){.examples = (int64_t)count,
                                             .loss = loss / (double)count,
                                             .accuracy = (double)hits / (double)count};
    return 0;
}

static int evaluate(struct fl_trainer *self, const struct fl_model *model,
                    struct fl_evaluation *ret_evaluation, struct fl_error *err)
{
    struct native *native = (struct native *)self;
    int r = check_model(native, model, err);

    return r < 0 ? r : measure(native, model, NULL, ret_evaluation, err);
}

/* Descent */

struct descent {
    struct native *native;
    const struct fl_fit_options *options;
    const struct fl_model *base;
    struct fl_model *model;
    struct fl_random random;
    size_t batch;
    int64_t steps, all_steps, epoch;
    double epoch_loss; /* summed over the examples */
};

static float *floats(const struct fl_model *model)
{
    void *block = model->data;

    return block;
}

/* The gradient of a batch into v = momentum * v + g. */
static double gather_gradient(const struct descent *descent, size_t first, size_t count)
{
    struct fl_network *network = descent->native->network;
    struct fl_network_sink sink = {
        .target = descent->native->velocity, .alpha = 1, .beta = (float)descent->options->momentum};
    size_t slice = fl_network_slice(network), hits = 0;
    double loss = 0;

    for (size_t at = 0; at < count; at += slice) {
        fl_network_load(network, descent->native->data, descent->native->order, first + at,
                        count - at < slice ? count - at : slice);
        loss += fl_network_forward(network, descent->model, 1.0f / (float)count, &hits);
        fl_network_backward(network, descent->model, &sink);
        sink.beta = 1;
    }
    return loss;
}

/* w -= lr * v, after v += (decay + mu) * w - mu * base. */
static void follow_velocity(const struct descent *descent)
{
    float *weights = floats(descent->model), *velocity = descent->native->velocity;
    size_t n = descent->model->parameters;
    double mu = descent->options->proximal_mu, pull = descent->options->weight_decay + mu;

    if (pull > 0)
        fl_k_axpy(n, (float)pull, weights, velocity);
    if (mu > 0)
        fl_k_axpy(n, (float)-mu, floats(descent->base), velocity);
    fl_k_axpy(n, (float)-descent->options->learning_rate, velocity, weights);
}

/* Without momentum, and where a batch is one slice, the weights take the gradient directly: w = (1
 * - lr * (decay + mu)) * w - lr * g + lr * mu * base. */
static double step_directly(const struct descent *descent, size_t first, size_t count)
{
    struct fl_network *network = descent->native->network;
    double rate = descent->options->learning_rate, mu = descent->options->proximal_mu;
    double pull = descent->options->weight_decay + mu, loss;
    const struct fl_network_sink sink = {
        .target = floats(descent->model), .alpha = (float)-rate, .beta = (float)(1 - rate * pull)};
    size_t hits = 0;

    fl_network_load(network, descent->native->data, descent->native->order, first, count);
    loss = fl_network_forward(network, descent->model, 1.0f / (float)count, &hits);
    fl_network_backward(network, descent->model, &sink);
    if (mu > 0)
        fl_k_axpy(descent->model->parameters, (float)(rate * mu), floats(descent->base),
                  floats(descent->model));
    return loss;
}

static bool is_direct(const struct descent *descent)
{
    return descent->options->momentum == 0 &&
           descent->batch <= fl_network_slice(descent->native->network);
}

static int step(struct descent *descent, size_t first, size_t count, struct fl_error *err)
{
    const struct fl_fit_options *options = descent->options;
    double loss;

    if (is_cancelled(options))
        return fl_error_set(err, FL_E_CONFLICT, "cancelled after step %" PRId64 " of %" PRId64,
                            descent->steps, descent->all_steps);
    if (is_direct(descent)) {
        loss = step_directly(descent, first, count);
    } else {
        loss = gather_gradient(descent, first, count);
        follow_velocity(descent);
    }
    descent->steps++;
    if (!isfinite(loss))
        return fl_error_set(err, FL_E_INVALID,
                            "the loss is no longer a number at step %" PRId64 " (epoch %" PRId64
                            "): the learning rate %g may be too high",
                            descent->steps, descent->epoch, options->learning_rate);
    descent->epoch_loss += loss;
    if (options->progress)
        options->progress(options->user, descent->steps, descent->all_steps);
    return 0;
}

static int run_epoch(struct descent *descent, struct fl_error *err)
{
    size_t count = descent->native->data->count;

    descent->epoch++;
    descent->epoch_loss = 0;
    fl_random_shuffle(&descent->random, descent->native->order, count);
    for (size_t at = 0; at < count; at += descent->batch) {
        int r = step(descent, at, count - at < descent->batch ? count - at : descent->batch, err);

        if (r < 0)
            return r;
    }
    return 0;
}

/* Zero, at first. */
static int begin_velocity(struct native *native, size_t size, struct fl_error *err)
{
    if (!native->velocity)
        native->velocity = malloc(size);
    if (!native->velocity)
        return fl_error_set(err, FL_E_UNAVAILABLE, "no memory for %zu bytes of gradient", size);
    memset(native->velocity, 0, size);
    return 0;
}

static int prepare(struct descent *descent, struct fl_error *err)
{
    struct native *native = descent->native;
    const struct fl_fit_options *options = descent->options;
    size_t count = native->data->count;

    assert(count > 0 && descent->model); /* create and fit saw to it */
    descent->batch = options->batch_size > 0 && (size_t)options->batch_size < count
                         ? (size_t)options->batch_size
                         : count;
    descent->all_steps = options->epochs * (int64_t)((count + descent->batch - 1) / descent->batch);
    descent->random = fl_random_from(options->seed, STREAM_OF_FIT);
    for (size_t i = 0; i < count; i++)
        native->order[i] = (uint32_t)i;
    if (is_direct(descent))
        return 0;
    return begin_velocity(native, descent->model->size, err);
}

static int descend(struct descent *descent, struct fl_error *err)
{
    int r = prepare(descent, err);

    for (int64_t i = 0; i < descent->options->epochs && r == 0; i++)
        r = run_epoch(descent, err);
    if (r == 0)
        r = fl_model_check_finite(descent->model, err);
    return r;
}

static int fit(struct fl_trainer *self, const struct fl_model *base,
               const struct fl_fit_options *options, struct fl_fit_result *ret_result,
               struct fl_error *err)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct native *native = (struct native *)self;
    struct fl_evaluation before = {.loss = NAN};
    struct descent descent = {.native = native, .options = options, .base = base};
    int r;

    r = fl_fit_options_check(options, err);
    if (r == 0)
        r = check_model(native, base, err);
    if (r == 0 && !options->without_loss_before)
        r = measure(native, base, options, &before, err);
    if (r == 0)
        r = fl_model_like(base, true, &model, err);
    if (r < 0)
        return r;
    descent.model = model;
    r = descend(&descent, err);
    if (r < 0)
        return r;
    *ret_result = (struct fl_fit_result){.model = FL_TAKE(model),
                                         .examples = (int64_t)native->data->count,
                                         .steps = descent.steps,
                                         .loss_before = before.loss,
                                         .loss = descent.epoch_loss / (double)native->data->count};
    return 0;
}

/* The tables */

#define TRAINER(id, title)                                                                         \
    static int create_##id(const json_t *options, const struct fl_dataset *data,                   \
                           struct fl_trainer **ret_trainer, struct fl_error *err);                 \
    static const struct fl_trainer_ops id = {title, create_##id, destroy, init, fit, evaluate};    \
    static int create_##id(const json_t *options, const struct fl_dataset *data,                   \
                           struct fl_trainer **ret_trainer, struct fl_error *err)                  \
    {                                                                                              \
        return create(&id, options, data, ret_trainer, err);                                       \
    }

TRAINER(softmax_regression, "SoftmaxRegression")
TRAINER(mlp, "MLP")
TRAINER(cnn, "CNN")

const struct fl_trainer_ops *fl_trainer_find(const char *name)
{
    static const struct fl_trainer_ops *const all[] = {&softmax_regression, &mlp, &cnn};

    for (size_t i = 0; i < FL_COUNT_OF(all); i++)
        if (fl_streq(all[i]->name, name))
            return all[i];
    return NULL;
}
