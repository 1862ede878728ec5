/* The driver for models of this program's own trainers: each seat has a network of its own, all
 * share the weights. */
#include "workloads/serve/predictor_driver.h"

#include "workloads/model/predictor.h"
#include "workloads/tensor/safetensors.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

struct native {
    struct fl_model *model;
    struct fl_signature signature; /* its texts are the first predictor's */
    char platform[64];
    unsigned seats;
    struct fl_predictor *predictors[];
};

static void native_destroy(void *state)
{
    struct native *native = state;

    if (!native)
        return;
    for (unsigned i = 0; i < native->seats; i++)
        fl_predictor_destroy(native->predictors[i]);
    fl_model_unref(native->model);
    free(native);
}

static void native_destroyp(struct native **native)
{
    native_destroy(*native);
}

static void describe(struct native *native)
{
    const struct fl_description *description = fl_predictor_description(native->predictors[0]);
    struct fl_signature *signature = &native->signature;

    *signature = (struct fl_signature){.input = description->input_name,
                                       .output = description->output_name,
                                       .rank = description->rank,
                                       .width = fl_description_width(description),
                                       .classes = (size_t)description->classes};
    memcpy(signature->shape, description->shape, description->rank * sizeof(*signature->shape));
    (void)snprintf(native->platform, sizeof(native->platform), "flops_%s", description->trainer);
    for (char *at = native->platform; *at; at++)
        *at = (char)tolower((unsigned char)*at);
}

static int native_load(const struct fl_predictor_source *source, void **ret_state,
                       struct fl_error *err)
{
    FL_CLEANUP(native_destroyp)
    struct native *native =
        fl_calloc(1, sizeof(*native) + source->seats * sizeof(native->predictors[0]));
    int r;

    native->seats = source->seats;
    r = fl_safetensors_read(source->data, source->len, NULL, &native->model, err);
    for (unsigned i = 0; i < source->seats && r == 0; i++)
        r = fl_predictor_create(native->model, source->max_batch, &native->predictors[i], err);
    if (r < 0)
        return r;
    describe(native);
    *ret_state = FL_TAKE(native);
    return 0;
}

static const struct fl_signature *native_signature(const void *state)
{
    return &((const struct native *)state)->signature;
}

static const char *native_platform(const void *state)
{
    return ((const struct native *)state)->platform;
}

static int native_predict(void *state, unsigned seat, const float *rows, size_t count,
                          float *ret_answers, struct fl_error *err)
{
    struct native *native = state;

    (void)err;
    fl_predictor_predict(native->predictors[seat], FL_PROBABILITIES, rows, count, ret_answers);
    return 0;
}

const struct fl_predictor_ops fl_native_predictor = {.name = "native",
                                                     .knows = fl_safetensors_seems,
                                                     .load = native_load,
                                                     .signature = native_signature,
                                                     .platform = native_platform,
                                                     .predict = native_predict,
                                                     .destroy = native_destroy};
