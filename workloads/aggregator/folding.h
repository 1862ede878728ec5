/* The arithmetic of an aggregator, on a thread of its own: what the core asks of a strategy, in the
 * order in which it asks. Models and updates are mapped from their files, one at a time; what is
 * made is put into the blobs, durable, before it is told. Loop thread, as the callback. */
#ifndef FL_WORKLOADS_FOLDING_H
#define FL_WORKLOADS_FOLDING_H

#include "lib/blobs.h"
#include "lib/env.h"
#include "lib/loop.h"
#include "workloads/aggregator/aggregator_core.h"
#include "workloads/strategy/strategy.h"

/* What the protocol says of a strategy, as options of it. */
void fl_strategy_spec_options(const struct fl_strategy_spec *spec, double local_learning_rate,
                              struct fl_strategy_options *ret_options);

struct fl_folding;

struct fl_fold_result {
    enum fl_aggregator_action_kind kind; /* BEGIN, FOLD, FINISH, PARTIAL, ADOPT */
    uint64_t ticket, upload;
    const char *reason; /* of a refused update; NULL */
    struct fl_finished finished;
    const struct fl_error *err; /* NULL: done */
};
typedef void fl_folded_fn(void *user, const struct fl_fold_result *result);

struct fl_folding_options {
    const struct fl_env *env;
    struct fl_loop *loop;
    struct fl_blobs *blobs; /* lent */
    const char *spill_dir;  /* where robust rules keep updates; lent */
    fl_folded_fn *folded;
    void *user;
};
int fl_folding_create(const struct fl_folding_options *options, struct fl_folding **ret_folding,
                      struct fl_error *err);
void fl_folding_destroy(struct fl_folding *folding); /* waits for what is being done */
FL_DEFINE_CLEANUP(struct fl_folding, fl_folding_destroy)

/* BEGIN, FOLD and ADOPT (`path`: the update's file), FINISH, PARTIAL, ABANDON. */
void fl_folding_do(struct fl_folding *folding, const struct fl_aggregator_action *action,
                   const char *path);

#endif
