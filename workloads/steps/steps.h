/* The steps of a round that have names, on both sides of it.
 *
 * A process that is killed at any of them and started again must lose nothing and count nothing
 * twice. That is tested by killing it exactly there: the program tells its env of each step as it
 * gets there (fl_step), and where a test has put something into env->reached, that happens. Code
 * and tests share this one table; `flops aggregator --die-at list` prints it. Any thread. */
#ifndef FL_WORKLOADS_STEPS_H
#define FL_WORKLOADS_STEPS_H

#include "lib/env.h"

#include <stdbool.h>
#include <stddef.h>

/* Who gets there: the root, a tier below a parent, a learner. */
enum { FL_STEP_ROOT = 1, FL_STEP_TIER = 2, FL_STEP_LEARNER = 4 };
#define FL_STEP_SERVER_ (FL_STEP_ROOT | FL_STEP_TIER)
#define FL_STEP_CALLER_ (FL_STEP_TIER | FL_STEP_LEARNER)

#define FL_STEPS_OF_RECORD_(X, NAME, name, who)                                                    \
    X(NAME##_UNWRITTEN, name "-unwritten", who, "it is decided")                                   \
    X(NAME##_UNSYNCED, name "-unsynced", who, "it is in the journal, perhaps in part")             \
    X(NAME##_WRITTEN, name "-written", who, "it is on disk, and nobody was told")

#define FL_STEPS(X)                                                                                \
    /* aggregators: requests are understood, and what follows from them is on disk */              \
    X(JOIN_UNANSWERED, "join-unanswered", FL_STEP_SERVER_, "a member has joined")                  \
    X(TASK_UNANSWERED, "task-unanswered", FL_STEP_SERVER_, "a member's poll has its answer")       \
    X(OFFER_UNANSWERED, "offer-unanswered", FL_STEP_SERVER_, "an update was offered")              \
    X(RESULT_UNANSWERED, "result-unanswered", FL_STEP_SERVER_, "an evaluation came")               \
    X(ROUND_UNANSWERED, "round-unanswered", FL_STEP_ROOT, "a round was ordered, or looked at")     \
    /* bulk */                                                                                     \
    X(MODEL_ASKED, "model-asked", FL_STEP_SERVER_, "somebody fetches a model")                     \
    X(UPDATE_ARRIVING, "update-arriving", FL_STEP_SERVER_, "bytes of an update came")              \
    X(UPDATE_ARRIVED, "update-arrived", FL_STEP_SERVER_, "an update is here, its digest is right") \
    /* sums */                                                                                     \
    X(FOLDING, "folding", FL_STEP_SERVER_, "an update is to be added")                             \
    X(FOLDED, "folded", FL_STEP_SERVER_, "it was added, in memory")                                \
    X(FINISHING, "finishing", FL_STEP_SERVER_, "the sum is to become a model or a partial sum")    \
    X(FINISHED, "finished", FL_STEP_SERVER_, "that is on disk, and no record says so")             \
    /* the journal's records */                                                                    \
    FL_STEPS_OF_RECORD_(X, START, "start", FL_STEP_SERVER_)                                        \
    FL_STEPS_OF_RECORD_(X, SPEC, "spec", FL_STEP_SERVER_)                                          \
    FL_STEPS_OF_RECORD_(X, ATTEMPT, "attempt", FL_STEP_SERVER_)                                    \
    FL_STEPS_OF_RECORD_(X, ACCEPT, "accept", FL_STEP_SERVER_)                                      \
    FL_STEPS_OF_RECORD_(X, COMMIT, "commit", FL_STEP_SERVER_)                                      \
    FL_STEPS_OF_RECORD_(X, EVALUATE, "evaluate", FL_STEP_ROOT)                                     \
    FL_STEPS_OF_RECORD_(X, FAIL, "fail", FL_STEP_SERVER_)                                          \
    FL_STEPS_OF_RECORD_(X, STOP, "stop", FL_STEP_SERVER_)                                          \
    X(SHORTER_UNWRITTEN, "shorter-unwritten", FL_STEP_SERVER_, "the journal is to be shortened")   \
    X(SHORTER_WRITTEN, "shorter-written", FL_STEP_SERVER_, "it is, on disk")                       \
    /* below a parent */                                                                           \
    X(ORDERED, "ordered", FL_STEP_TIER, "a task from above is here with its model")                \
    X(SUM_READY, "sum-ready", FL_STEP_TIER, "the partial sum is to be handed up")                  \
    X(SCORE_READY, "score-ready", FL_STEP_TIER, "the evaluation is to be handed up")               \
    /* who calls: before a request is sent, and when its answer is there and not yet heeded */     \
    X(JOINING, "joining", FL_STEP_CALLER_, "it is about to join")                                  \
    X(JOINED, "joined", FL_STEP_CALLER_, "the answer to that is here")                             \
    X(POLLING, "polling", FL_STEP_CALLER_, "it is about to ask for its task")                      \
    X(TASK_GIVEN, "task-given", FL_STEP_CALLER_, "the answer to that is here")                     \
    X(OFFERING, "offering", FL_STEP_CALLER_, "it is about to offer its update")                    \
    X(OFFERED, "offered", FL_STEP_CALLER_, "the answer to that is here")                           \
    X(REPORTING, "reporting", FL_STEP_CALLER_, "it is about to tell of its evaluation")            \
    X(REPORTED, "reported", FL_STEP_CALLER_, "the answer to that is here")                         \
    X(DOWNLOADING, "downloading", FL_STEP_CALLER_, "it is about to fetch a model")                 \
    X(DOWNLOADED, "downloaded", FL_STEP_CALLER_, "the model is in its place")                      \
    X(UPLOADING, "uploading", FL_STEP_CALLER_, "it is about to send its update")                   \
    X(HALF_UPLOADED, "half-uploaded", FL_STEP_CALLER_, "some of it is there, not all")             \
    X(UPLOADED, "uploaded", FL_STEP_CALLER_, "all of it is there")                                 \
    X(KEEPING, "keeping", FL_STEP_CALLER_, "where its update is offered is to be written down")    \
    X(KEPT, "kept", FL_STEP_CALLER_, "that is on disk")                                            \
    /* learners */                                                                                 \
    X(TRAINING, "training", FL_STEP_LEARNER, "it is about to train")                               \
    X(HALF_TRAINED, "half-trained", FL_STEP_LEARNER, "some batches are done")                      \
    X(TRAINED, "trained", FL_STEP_LEARNER, "the update is in memory")                              \
    X(UPDATE_MADE, "update-made", FL_STEP_LEARNER, "it is in its place on disk")                   \
    X(EVALUATING, "evaluating", FL_STEP_LEARNER, "it is about to evaluate")                        \
    X(EVALUATED, "evaluated", FL_STEP_LEARNER, "the evaluation is in memory")                      \
    X(RELEASING, "releasing", FL_STEP_LEARNER, "a model that is not needed is to be removed")

enum fl_step {
#define FL_STEP_(NAME, name, who, what) FL_STEP_##NAME,
    FL_STEPS(FL_STEP_)
#undef FL_STEP_
        FL_STEP_COUNT,
    FL_STEP_NONE = -1
};

struct fl_step_info {
    const char *name, *what;
    unsigned who;
};
/* [step]; FL_STEP_COUNT of them. */
extern const struct fl_step_info fl_steps[];

static inline void fl_step(const struct fl_env *env, enum fl_step step)
{
    if (step != FL_STEP_NONE)
        fl_reached(env, fl_steps[step].name);
}

/* A control request has steps by its path: unanswered (of an aggregator), about to be sent and
 * answered (of who calls). FL_STEP_NONE: it has none. */
struct fl_request_steps {
    enum fl_step unanswered, asking, answered;
};
struct fl_request_steps fl_steps_of_request(const char *target);

#endif
