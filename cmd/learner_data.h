/* Which data a learner trains on: what it was told, or what its node has and its number says. */
#ifndef FL_CMD_LEARNER_DATA_H
#define FL_CMD_LEARNER_DATA_H

#include "cmd/options.h"
#include "lib/error.h"
#include "lib/json.h"
#include "workloads/data/store.h"

/* The number within its training: `first` and the number of this instance, which an orchestrator
 * says in FLOPS_INSTANCE. */
int64_t fl_learner_number(int64_t first);

/* "0.2"; NULL is 0. False where it is no share from 0 to below 1. */
bool fl_learner_read_share(const char *text, double *ret_share);

/* Data sets by tag, as one. Without a tag all that the node has. Of one that is divided, the part
 * that falls to `number` (< 0: the whole). *ret_opened: what was opened: "mnist.3". */
int fl_learner_open_data(const struct fl_data_store *store, struct fl_arena *arena,
                         const struct fl_words *tags, int64_t number, struct fl_words *ret_opened,
                         struct fl_dataset **ret_dataset, struct fl_error *err);

/* The same for a program that trains, as the trainer protocol's hello hands it over: what the node
 * has of these, by file; what it has not by name only, since programs may have data of their own.
 * *ret_data is the caller's. */
int fl_learner_find_data(const struct fl_data_store *store, struct fl_arena *arena,
                         const struct fl_words *tags, int64_t number, struct fl_words *ret_opened,
                         json_t **ret_data, struct fl_error *err);

/* The names that data sets are known by: a part is known by the name of the whole, too. */
struct fl_words fl_learner_tags(struct fl_arena *arena, const struct fl_words *opened);

#endif
