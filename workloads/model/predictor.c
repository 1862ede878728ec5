#include "workloads/model/predictor.h"

#include "workloads/trainer/native.h"

struct fl_predictor {
    struct fl_arena *arena; /* the description's */
    struct fl_description description;
    struct fl_network_shape shape;
    struct fl_model *model;
    struct fl_network *network;
};

static int build(struct fl_predictor *predictor, size_t batch, struct fl_error *err)
{
    const struct fl_description *description = &predictor->description;
    const struct fl_network_examples examples = {.shape = description->shape,
                                                 .rank = description->rank,
                                                 .classes = description->classes,
                                                 .batch = batch,
                                                 .model = predictor->model};
    int r;

    if (!fl_trainer_find(description->trainer))
        return fl_error_set(err, FL_E_INVALID, "there is no trainer \"%.64s\"",
                            description->trainer);
    r = fl_native_shape(description->trainer, description->options, &predictor->shape, err);
    if (r == 0)
        r = fl_network_create_for(&predictor->shape, &examples, &predictor->network, err);
    if (r == 0)
        r = fl_model_check_like(fl_network_form(predictor->network), predictor->model, err);
    if (r == 0)
        r = fl_model_check_finite(predictor->model, err);
    if (r < 0)
        return fl_error_wrap(err, "the model is not what it says");
    fl_network_drop_form(predictor->network);
    return 0;
}

int fl_predictor_create(struct fl_model *model, size_t batch, struct fl_predictor **ret_predictor,
                        struct fl_error *err)
{
    FL_CLEANUP(fl_predictor_destroyp)
    struct fl_predictor *predictor = fl_calloc(1, sizeof(*predictor));
    int r;

    predictor->arena = fl_arena_create();
    predictor->model = fl_model_ref(model);
    r = fl_description_read(model, predictor->arena, &predictor->description, err);
    if (r == 0)
        r = build(predictor, batch, err);
    if (r < 0)
        return r;
    *ret_predictor = FL_TAKE(predictor);
    return 0;
}

void fl_predictor_destroy(struct fl_predictor *predictor)
{
    if (!predictor)
        return;
    fl_network_destroy(predictor->network);
    fl_model_unref(predictor->model);
    fl_arena_destroy(predictor->arena);
    free(predictor);
}

const struct fl_description *fl_predictor_description(const struct fl_predictor *predictor)
{
    return &predictor->description;
}

const struct fl_network_shape *fl_predictor_shape(const struct fl_predictor *predictor)
{
    return &predictor->shape;
}

const struct fl_model *fl_predictor_model(const struct fl_predictor *predictor)
{
    return predictor->model;
}

void fl_predictor_predict(struct fl_predictor *predictor, enum fl_network_answer answer,
                          const float *examples, size_t count, float *ret_answers)
{
    fl_network_predict(predictor->network, predictor->model, answer, examples, count, ret_answers);
}
