/* Trainers: what really trains, a long-lived child of the learner or a native one in its process.
 *
 * A native trainer is a table; `flops trainer` runs any native one behind the protocol of
 * workloads/trainer/protocol.h, so that native and foreign trainers are driven alike. Everything
 * random comes from the seed that is given: the same data, model and seed give the same bits on one
 * machine type. One thread; calls take as long as training takes, and ask `cancelled` between
 * batches. */
#ifndef FL_WORKLOADS_TRAINER_H
#define FL_WORKLOADS_TRAINER_H

#include "lib/json.h"
#include "workloads/data/dataset.h"
#include "workloads/tensor/tensor.h"

struct fl_trainer;

struct fl_fit_options {
    int64_t epochs;     /* > 0 */
    int64_t batch_size; /* 0: all examples */
    double learning_rate, momentum, proximal_mu, weight_decay;
    bool without_loss_before; /* saves a pass over the data; loss_before is NAN then */
    uint64_t seed;
    const json_t *config;          /* the user's own; may be NULL */
    bool (*cancelled)(void *user); /* may be NULL */
    void (*progress)(void *user, int64_t done_steps, int64_t all_steps); /* may be NULL */
    void *user;
};

struct fl_fit_result {
    struct fl_model *model; /* the caller's */
    int64_t examples, steps;
    double loss_before, loss; /* mean over the examples: before, and in the last epoch */
    json_t *metrics;          /* numbers by name that a foreign trainer adds; NULL; the caller's */
};

struct fl_evaluation {
    int64_t examples;
    double loss, accuracy; /* accuracy NAN where there is none */
    json_t *metrics;       /* as of fl_fit_result */
};

struct fl_trainer_ops {
    const char *name; /* "SoftmaxRegression", "MLP", "CNN" as in FLProject.spec.source.builtin */
    /* options: spec.source.builtin.options (may be NULL); INVALID says which is wrong. The data is
     * lent and outlives the trainer. */
    int (*create)(const json_t *options, const struct fl_dataset *data,
                  struct fl_trainer **ret_trainer, struct fl_error *err);
    void (*destroy)(struct fl_trainer *self);
    /* A fresh model, from the seed. */
    int (*init)(struct fl_trainer *self, uint64_t seed, struct fl_model **ret_model,
                struct fl_error *err);
    int (*fit)(struct fl_trainer *self, const struct fl_model *base,
               const struct fl_fit_options *options, struct fl_fit_result *ret_result,
               struct fl_error *err);
    int (*evaluate)(struct fl_trainer *self, const struct fl_model *model,
                    struct fl_evaluation *ret_evaluation, struct fl_error *err);
};
struct fl_trainer {
    const struct fl_trainer_ops *ops;
};

/* Of the native ones, by name; NULL: none. */
const struct fl_trainer_ops *fl_trainer_find(const char *name);

#endif
