/* A trainer that trains on one data set and is judged by another: the test set.
 *
 * Made of two trainers of one kind, each with data of its own; driven like either of them. One
 * thread at a time. */
#ifndef FL_WORKLOADS_TRAINER_TESTED_H
#define FL_WORKLOADS_TRAINER_TESTED_H

#include "workloads/trainer/trainer.h"

/* Takes both, and destroys them by its own table. Never fails. */
struct fl_trainer *fl_trainer_tested(struct fl_trainer *trains, struct fl_trainer *judges);

#endif
