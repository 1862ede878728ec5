/* What trains for `flops learner` and in `flops trainer`: one of the builtin trainers on data sets
 * of this node, or a program of somebody's that speaks the protocol of trainer/protocol.h.
 *
 * Everything is the struct's, and stays where it is while its trainer lives. The trainer may be
 * used by one thread at a time. */
#ifndef FL_CMD_TRAINING_H
#define FL_CMD_TRAINING_H

#include "cmd/options.h"
#include "lib/env.h"
#include "workloads/data/store.h"
#include "workloads/trainer/host.h"

struct fl_training_flags {
    const char *builtin, *options, *test_data, *data_dir;
    struct fl_words tags;    /* see learner_data.h, as the number */
    int64_t number;          /* < 0: the whole data set */
    double share;            /* kept for evaluation, where there is no test set */
    struct fl_words program; /* and its arguments; none: builtin */
    int64_t start_ms, silence_ms, cancel_ms, memory_mib;
};

struct fl_training {
    const struct fl_env *env;
    struct fl_dataset *data, *test;
    struct fl_words opened; /* of the data: "mnist.3"; a program's own are what it was told */
    size_t examples;        /* it trains on */
    struct fl_trainer *trainer;
    const char **argv; /* NULL: builtin */
    struct fl_data_store store;
    struct fl_arena *arena; /* lent */
    struct fl_training_flags limits;
};

/* `env` is lent. */
int fl_training_open(const struct fl_training_flags *flags, const struct fl_env *env,
                     struct fl_arena *arena, struct fl_training *training, struct fl_error *err);
void fl_training_finish(struct fl_training *training);
int64_t fl_training_examples(const struct fl_training *training);

/* For a learner (see learner.h): why it failed; another program where that one has ended. `user` is
 * the training. */
const char *fl_training_why(const struct fl_trainer *trainer);
int fl_training_renew(void *user, struct fl_trainer **trainer, struct fl_error *err);

/* A name without a folder is looked for where a shell would; NULL: nowhere. */
const char *fl_find_program(struct fl_arena *arena, const char *name);
/* The same, and flops-trainer, which belongs to this installation, needs no place in PATH. */
const char *fl_find_trainer(struct fl_arena *arena, const char *name);

#endif
