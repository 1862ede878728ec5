/* A learner as a program has it: the core (learner_core.h), its network (uplink.h), a thread that
 * trains, and a folder that outlives it.
 *
 *   FOLDER/models/     models and updates by digest
 *   FOLDER/kept.json   the update that was made last, until other work is asked for
 *
 * Killed anywhere and started again over the same folder, it offers the update it has instead of
 * training once more. A trainer that does not end when it is told to gets no more work: what is
 * wanted meanwhile is given up with the reason TrainerHung, so that another learner may do it. (A
 * program is killed by its host before that, and renewed.) Loop thread, but for the trainer: its
 * calls are made on a thread of their own, one at a time. */
#ifndef FL_WORKLOADS_LEARNER_H
#define FL_WORKLOADS_LEARNER_H

#include "lib/env.h"
#include "lib/http_client.h"
#include "lib/loop.h"
#include "workloads/learner/learner_core.h"
#include "workloads/trainer/trainer.h"

struct fl_learner_node;

struct fl_learner_node_options {
    const struct fl_env *env;
    struct fl_loop *loop;
    struct fl_join join;                /* who it is, with examples and tags; copied */
    const char *aggregator;             /* "https://…", no slash at the end */
    struct fl_http_client_options http; /* as whom; its texts are lent. base_url is not used */
    const char *folder;                 /* one process at a time */
    struct fl_trainer *trainer;         /* lent */
    /* One CamelCase word for the trainer's last failure; may be NULL, and return NULL. */
    const char *(*why)(const struct fl_trainer *trainer);
    /* Before each lesson, on the trainer's thread: puts another where that one has ended (see
     * fl_trainer_has_ended), and destroys it; NULL: they do not end. UNAVAILABLE is tried again. */
    int (*renew)(void *user, struct fl_trainer **trainer, struct fl_error *err);
    int64_t obey_ms; /* a trainer that goes on for so long after it was cancelled hangs; 0: 30 s */
    int64_t lost_ms; /* see struct fl_learner_options; 0: its default */
    void (*ended)(void *user, const char *message); /* training is over, or it has left */
    void *user;
};
int fl_learner_node_create(const struct fl_learner_node_options *options,
                           struct fl_learner_node **ret_node, struct fl_error *err);
/* Waits for the trainer's call to end, which is asked to. */
void fl_learner_node_destroy(struct fl_learner_node *node);
FL_DEFINE_CLEANUP(struct fl_learner_node, fl_learner_node_destroy)

/* Says goodbye; `ended` follows. */
void fl_learner_node_leave(struct fl_learner_node *node, const char *message);

#endif
