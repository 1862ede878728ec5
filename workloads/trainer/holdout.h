/* A trainer that keeps a share of its data from training, to evaluate on.
 *
 * Two trainers of the same kind behind one table: one fits on the rows that are left, the other
 * evaluates on those kept. Which rows these are is a function of their number alone, so that they
 * are the same after a restart. */
#ifndef FL_WORKLOADS_HOLDOUT_H
#define FL_WORKLOADS_HOLDOUT_H

#include "workloads/trainer/trainer.h"

/* `share` is 0 … below 1. Some are kept wherever it is above 0 and there are two examples. `data`
 * is lent and outlives the trainer. *ret_examples: what it trains on. */
int fl_trainer_create_holdout(const struct fl_trainer_ops *ops, const json_t *options,
                              struct fl_dataset *data, double share,
                              struct fl_trainer **ret_trainer, size_t *ret_examples,
                              struct fl_error *err);

#endif
