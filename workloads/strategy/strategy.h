/* Strategies: from a global model and learners' updates to the next global model.
 *
 * A strategy is a table. There are two families. **Sums** need only exact weighted sums of updates
 * (and of a few numbers), so updates are folded in as they come, memory does not grow with their
 * number, and tiers may add them up: FedAvg, FedAvgM, FedProx, FedAdagrad, FedAdam, FedYogi,
 * FedNova, QFedAvg, NormBound, FedBuff. **Robust rules** need all updates of a round at once: they
 * are spilled to disk as they come and read back in blocks: Median, TrimmedMean, Krum, MultiKrum,
 * Bulyan, GeometricMedian.
 *
 * What a learner says of its update (examples, steps, loss) is claimed; `max_share` bounds a
 * claimed count of examples. An update with a NaN, an infinity, another shape or what does not fit
 * is refused with the reason and costs nobody else anything. Integer and boolean tensors and those
 * without dimensions keep type and shape; integers are the base model's.
 *
 * Each rule's update formula and its source stand in its file. One thread at a time. */
#ifndef FL_WORKLOADS_STRATEGY_H
#define FL_WORKLOADS_STRATEGY_H

#include "lib/env.h"
#include "workloads/strategy/exact.h"

struct fl_strategy;

/* Hyper-parameters; what is NAN (or < 0 for counts) takes the rule's default. */
struct fl_strategy_options {
    const char *name; /* "FedAvg" … as in FLProject.spec.training.strategy.name */
    double server_learning_rate, server_momentum, beta1, beta2, tau, q, trim_fraction, norm_bound;
    double local_learning_rate; /* QFedAvg's L = 1 / it */
    int64_t byzantine_learners, select_updates, max_iterations, buffer_size;
    bool any_number; /* Krum, MultiKrum, Bulyan: go on with fewer updates than they need to hold
                        what they promise */
    const char *spill_dir; /* robust rules: where updates wait; NULL: memory */
    size_t block_bytes;    /* robust rules: of all updates' blocks together; 0: 32 MiB */
    struct fl_crew *crew;  /* lent: adds up large tensors; NULL: the caller's thread alone */
};
void fl_strategy_options_init(struct fl_strategy_options *options, const char *name);

/* What a learner says of its update. */
struct fl_update_facts {
    const char *learner;         /* robust rules sort by it, so that arrival does not matter */
    int64_t examples;            /* > 0 */
    int64_t steps;               /* local steps; FedNova */
    double loss;                 /* before training, on its data; QFedAvg. NAN: not said */
    int64_t staleness;           /* rounds since its base model; FedBuff and late updates */
    const struct fl_model *base; /* what it started from; NULL: the round's */
};

/* INVALID: an unknown name, or a parameter out of its range, by name. */
int fl_strategy_create(const struct fl_strategy_options *options, struct fl_strategy **ret_strategy,
                       struct fl_error *err);
void fl_strategy_destroy(struct fl_strategy *strategy);
FL_DEFINE_CLEANUP(struct fl_strategy, fl_strategy_destroy)
const char *fl_strategy_name(const struct fl_strategy *strategy);
bool fl_strategy_is_sum(const struct fl_strategy *strategy);
int64_t fl_strategy_min_updates(const struct fl_strategy *strategy); /* Krum: 2f + 3 … */

/* A round. `base` (referenced) is what learners start from; a claim of more than `max_examples` (0:
 * no bound) counts as that many. */
int fl_strategy_begin(struct fl_strategy *strategy, struct fl_model *base,
                      const struct fl_exact_precision *precision, int64_t max_examples,
                      struct fl_error *err);
/* All or nothing. Twice from one learner is a mistake of the caller's. */
int fl_strategy_add(struct fl_strategy *strategy, const struct fl_model *update,
                    const struct fl_update_facts *facts, struct fl_error *err);
/* Several, each as by fl_strategy_add, which is quicker for large models; at most FL_FOLDS_MAX. */
struct fl_strategy_addend {
    const struct fl_model *update;
    const struct fl_update_facts *facts;
    int result; /* the answer, and its error */
    struct fl_error err;
};
void fl_strategy_add_all(struct fl_strategy *strategy, struct fl_strategy_addend *addends,
                         size_t count);
/* Sums only: what this tier hands up (a model of I64 tensors; its notes carry the numbers), and
 * taking a lower tier's in. */
int fl_strategy_partial(struct fl_strategy *strategy, struct fl_model **ret_partial,
                        struct fl_error *err);
int fl_strategy_add_partial(struct fl_strategy *strategy, const struct fl_model *partial,
                            struct fl_error *err);
size_t fl_strategy_update_count(const struct fl_strategy *strategy);
/* The next global model, with the base's notes; the server's own state (momenta) moves on. INVALID
 * below min_updates: then the round may go on. */
int fl_strategy_finish(struct fl_strategy *strategy, struct fl_model **ret_model,
                       struct fl_error *err);
void fl_strategy_abandon(struct fl_strategy *strategy); /* the round, not the state */

/* The server's state between rounds as a model (NULL: none), for a journal; and back. */
struct fl_model *fl_strategy_state(const struct fl_strategy *strategy);
int fl_strategy_restore(struct fl_strategy *strategy, const struct fl_model *state,
                        struct fl_error *err);

#endif
