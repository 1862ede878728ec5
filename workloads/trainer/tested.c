#include "workloads/trainer/tested.h"

struct tested {
    struct fl_trainer base;
    struct fl_trainer_ops ops; /* with the name of what trains */
    struct fl_trainer *trains, *judges;
};

static int create_unneeded(const json_t *options, const struct fl_dataset *data,
                           struct fl_trainer **ret_trainer, struct fl_error *err)
{
    (void)options, (void)data, (void)ret_trainer;
    return fl_error_set(err, FL_E_INTERNAL, "this trainer is made of two others, not created");
}

static void destroy(struct fl_trainer *self)
{
    struct tested *tested = (struct tested *)self;

    tested->trains->ops->destroy(tested->trains);
    tested->judges->ops->destroy(tested->judges);
    free(tested);
}

static int init(struct fl_trainer *self, uint64_t seed, struct fl_model **ret_model,
                struct fl_error *err)
{
    struct fl_trainer *trains = ((struct tested *)self)->trains;

    return trains->ops->init(trains, seed, ret_model, err);
}

static int fit(struct fl_trainer *self, const struct fl_model *base,
               const struct fl_fit_options *options, struct fl_fit_result *ret_result,
               struct fl_error *err)
{
    struct fl_trainer *trains = ((struct tested *)self)->trains;

    return trains->ops->fit(trains, base, options, ret_result, err);
}

static int evaluate(struct fl_trainer *self, const struct fl_model *model,
                    struct fl_evaluation *ret_evaluation, struct fl_error *err)
{
    struct fl_trainer *judges = ((struct tested *)self)->judges;

    return judges->ops->evaluate(judges, model, ret_evaluation, err);
}

struct fl_trainer *fl_trainer_tested(struct fl_trainer *trains, struct fl_trainer *judges)
{
    struct tested *tested = fl_calloc(1, sizeof(*tested));

    tested->ops = (struct fl_trainer_ops){.name = trains->ops->name,
                                          .create = create_unneeded,
                                          .destroy = destroy,
                                          .init = init,
                                          .fit = fit,
                                          .evaluate = evaluate};
    tested->base.ops = &tested->ops;
    tested->trains = trains;
    tested->judges = judges;
    return &tested->base;
}
