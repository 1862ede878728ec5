/* What the files of the strategies share.
 *
 * strategy.c  the front door, options, and the life of a round
 * sums.c      rules that need exact sums only
 * robust.c    rules that need all updates at once
 * spill.c     where those wait, and how they are read back in blocks */
#ifndef FL_WORKLOADS_STRATEGY_INTERNAL_H
#define FL_WORKLOADS_STRATEGY_INTERNAL_H

#include "workloads/strategy/strategy.h"

/* The numbers that are added up beside the updates. */
struct fl_round_sums {
    struct fl_exact_scalar factors; /* sum of weight * factor */
    struct fl_exact_scalar extra;   /* the rule's own: FedNova's steps, QFedAvg's h */
    int64_t updates;
};

/* How an update enters the sum: weight * factor * (update - base). */
struct fl_share {
    int64_t weight;
    double factor, extra;
};

struct fl_rule {
    const char *name;
    /* Sums: what an update weighs, and the step from base and sums to the next model. */
    int (*weigh)(const struct fl_strategy *strategy, const struct fl_model *update,
                 const struct fl_update_facts *facts, struct fl_share *ret_share,
                 struct fl_error *err);
    int (*step)(struct fl_strategy *strategy, struct fl_model *out, struct fl_error *err);
    /* Robust rules: from all updates. */
    int (*reduce)(struct fl_strategy *strategy, struct fl_model *out, struct fl_error *err);
    int64_t (*min_updates)(const struct fl_strategy_options *options); /* NULL: 1 */
    unsigned states; /* of the server: 0, 1 (m) or 2 (m, v) values a parameter */
    double server_learning_rate, server_momentum, beta1, beta2; /* defaults */
};

extern const struct fl_rule fl_sum_rules[], fl_robust_rules[]; /* ended by one without a name */

struct fl_spill;

struct fl_strategy {
    const struct fl_rule *rule;
    struct fl_strategy_options options;
    char *spill_dir;
    struct fl_model *base; /* of the round; NULL between rounds */
    struct fl_exact *sum;
    struct fl_exact_precision precision;
    int64_t max_examples;
    struct fl_round_sums sums;
    struct fl_spill *spill;
    struct fl_model *state;      /* F32 tensors "m/NAME" and "v/NAME"; NULL before the first step */
    struct fl_model *next_state; /* while a round is being finished */
};

int64_t fl_strategy_examples(const struct fl_strategy *strategy,
                             const struct fl_update_facts *facts);

/* Updates that wait, in the order of their learners' names. */
struct fl_spilled {
    const char *learner;
    int64_t examples;
};
int fl_spill_create(const char *dir, const struct fl_model *like, struct fl_spill **ret_spill,
                    struct fl_error *err);
void fl_spill_destroy(struct fl_spill *spill);
int fl_spill_add(struct fl_spill *spill, const struct fl_model *update, const char *learner,
                 int64_t examples, struct fl_error *err);
size_t fl_spill_count(const struct fl_spill *spill);
const struct fl_spilled *fl_spill_get(struct fl_spill *spill, size_t i);
/* Elements from…from+count of a tensor of update i, as doubles. */
int fl_spill_read(struct fl_spill *spill, size_t i, const struct fl_tensor *tensor, size_t from,
                  size_t count, double *out, struct fl_error *err);

#endif
