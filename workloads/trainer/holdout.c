#include "workloads/trainer/holdout.h"

#include "workloads/data/random.h"

#define STREAM 0x686f6c64 /* of chance: nobody else's */

struct holdout {
    struct fl_trainer base;
    struct fl_dataset *kept, *rest;
    struct fl_trainer *judge, *learner; /* on kept; on the rest */
};

static struct holdout *holdout_of(struct fl_trainer *self)
{
    return (struct holdout *)self;
}

static void destroy_one(struct fl_trainer *trainer)
{
    if (trainer)
        trainer->ops->destroy(trainer);
}

static void destroy(struct fl_trainer *self)
{
    struct holdout *holdout = holdout_of(self);

    destroy_one(holdout->judge);
    destroy_one(holdout->learner);
    fl_dataset_unref(holdout->kept);
    fl_dataset_unref(holdout->rest);
    free(holdout);
}

static int init(struct fl_trainer *self, uint64_t seed, struct fl_model **ret_model,
                struct fl_error *err)
{
    struct fl_trainer *learner = holdout_of(self)->learner;

    return learner->ops->init(learner, seed, ret_model, err);
}

static int fit(struct fl_trainer *self, const struct fl_model *base,
               const struct fl_fit_options *options, struct fl_fit_result *ret_result,
               struct fl_error *err)
{
    struct fl_trainer *learner = holdout_of(self)->learner;

    return learner->ops->fit(learner, base, options, ret_result, err);
}

static int evaluate(struct fl_trainer *self, const struct fl_model *model,
                    struct fl_evaluation *ret_evaluation, struct fl_error *err)
{
    struct fl_trainer *judge = holdout_of(self)->judge;

    return judge->ops->evaluate(judge, model, ret_evaluation, err);
}

static const struct fl_trainer_ops holdout_ops = {
    .name = "holdout",
    .destroy = destroy,
    .init = init,
    .fit = fit,
    .evaluate = evaluate,
};

static int by_number(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* Both parts in the order of the whole, so that reading goes forward. */
static int divide(struct fl_dataset *data, size_t kept, struct holdout *holdout,
                  struct fl_error *err)
{
    struct fl_random random = fl_random_from(data->count, STREAM);
    FL_CLEANUP(fl_freep) uint32_t *rows = fl_calloc(data->count, sizeof(*rows));
    int r;

    for (size_t i = 0; i < data->count; i++)
        rows[i] = (uint32_t)i;
    fl_random_shuffle(&random, rows, data->count);
    qsort(rows, kept, sizeof(*rows), by_number);
    qsort(rows + kept, data->count - kept, sizeof(*rows), by_number);
    r = fl_dataset_view(data, rows, kept, &holdout->kept, err);
    return r < 0 ? r : fl_dataset_view(data, rows + kept, data->count - kept, &holdout->rest, err);
}

int fl_trainer_create_holdout(const struct fl_trainer_ops *ops, const json_t *options,
                              struct fl_dataset *data, double share,
                              struct fl_trainer **ret_trainer, size_t *ret_examples,
                              struct fl_error *err)
{
    size_t kept = (size_t)((double)data->count * share);
    struct holdout *holdout;
    int r;

    *ret_examples = data->count;
    if (!(share > 0 && share < 1) || data->count < 2)
        return ops->create(options, data, ret_trainer, err);
    holdout = fl_calloc(1, sizeof(*holdout));
    holdout->base.ops = &holdout_ops;
    kept = kept == 0 ? 1 : kept >= data->count ? data->count - 1 : kept;
    r = divide(data, kept, holdout, err);
    if (r == 0)
        r = ops->create(options, holdout->rest, &holdout->learner, err);
    if (r == 0)
        r = ops->create(options, holdout->kept, &holdout->judge, err);
    if (r < 0) {
        destroy(&holdout->base);
        return r;
    }
    *ret_examples = data->count - kept;
    *ret_trainer = &holdout->base;
    return 0;
}
