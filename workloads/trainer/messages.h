/* The heads of the trainer protocol's frames, to and from what trainers take and give. */
#ifndef FL_WORKLOADS_TRAINER_MESSAGES_H
#define FL_WORKLOADS_TRAINER_MESSAGES_H

#include "workloads/trainer/trainer.h"

/* Heads are new. Reading: INVALID names the field; texts and JSON are lent by the head. */
json_t *fl_fit_to_head(const struct fl_fit_options *options);
int fl_fit_from_head(const json_t *head, struct fl_fit_options *ret_options, struct fl_error *err);

/* Without the model; metrics are shared. */
json_t *fl_fit_result_to_head(const struct fl_fit_result *result);
int fl_fit_result_from_head(const json_t *head, struct fl_fit_result *ret_result,
                            struct fl_error *err);
json_t *fl_evaluation_to_head(const struct fl_evaluation *evaluation);
int fl_evaluation_from_head(const json_t *head, struct fl_evaluation *ret_evaluation,
                            struct fl_error *err);

json_t *fl_seed_to_head(uint64_t seed);
int fl_seed_from_head(const json_t *head, uint64_t *ret_seed, struct fl_error *err);

#endif
