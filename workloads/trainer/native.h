/* The trainers that are part of the program, and what tells them apart: the shape of a network.
 *
 * Training is mini-batch gradient descent with momentum (v = m v + g, w -= lr v), weight decay and
 * the proximal term of FedProx (Li et al. 2020), whose gradients are weight_decay * w and mu * (w -
 * base) beside the mean of the batch's losses. Each epoch shuffles the examples anew from the seed;
 * the last batch of an epoch may be smaller. */
#ifndef FL_WORKLOADS_TRAINER_NATIVE_H
#define FL_WORKLOADS_TRAINER_NATIVE_H

#include "workloads/trainer/network.h"
#include "workloads/trainer/trainer.h"

/* From spec.source.builtin.options (NULL: none) of the trainer that is named. */
int fl_native_shape(const char *trainer, const json_t *options, struct fl_network_shape *ret_shape,
                    struct fl_error *err);
/* The other way: all options with their values, of a shape that came from that trainer's. The
 * caller's. */
json_t *fl_native_options(const struct fl_network_shape *shape);
/* What trainers may be asked: INVALID names the option that is out of its range. */
int fl_fit_options_check(const struct fl_fit_options *options, struct fl_error *err);

#endif
