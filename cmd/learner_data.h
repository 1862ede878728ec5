/* Which data a learner trains on: what it was told, or what its node has and its number says. */
#ifndef FL_CMD_LEARNER_DATA_H
#define FL_CMD_LEARNER_DATA_H

#include "cmd/options.h"
#include "lib/error.h"
#include "workloads/data/store.h"

/* The number within its training: `first` and the number of this instance, which an orchestrator
 * says in FLOPS_INSTANCE. */
int64_t fl_learner_number(int64_t first);

/* "0.2"; NULL is 0. False where it is no share from 0 to below 1. */
bool fl_learner_read_share(const char *text, double *ret_share);

/* A data set by tag. Without a tag the node's only one. Where it is divided, the part that falls to
 * `number` (< 0: the whole). *ret_tag: what was opened: "mnist.3". */
int fl_learner_open_data(const struct fl_data_store *store, struct fl_arena *arena,
                         const struct fl_words *tags, int64_t number, const char **ret_tag,
                         struct fl_dataset **ret_dataset, struct fl_error *err);

#endif
