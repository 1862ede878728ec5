/* The aggregator's round state machine, without sockets, files, threads or a clock.
 *
 * Who runs it gives events, each with the time (milliseconds of a monotonic clock), and then takes
 * actions until there is none left. Actions are carried out **in order**. A JOURNAL action must be
 * durable before anything after it is carried out; so nothing is told to anybody that a crash could
 * take back. A JOURNAL_REPLACE means the same as all that was written before it, and takes its
 * place: one or the other must be there whatever happens. An action that says `result` takes as
 * long as it needs, and its event comes when it is done; the core does not wait for it otherwise.
 *
 * It decides who trains, what counts, and when a round ends; it never sees a number of a model:
 * BEGIN, FOLD, FINISH and so on ask for what workloads/strategy does, in the order given (they may
 * be queued to one thread). It is started from its journal's bytes: killed at any point, it goes on
 * as journal.h says.
 *
 * Below a parent the program has a learner core beside it (workloads/learner): its TRAIN and
 * EVALUATE become fl_aggregator_parent_fit and …_evaluate here, and the action PARENT_RESULT
 * becomes …_trained, …_evaluated or …_failed there.
 *
 * Modes. Sync: a round ends with the updates it wants, or at its deadline with a quorum; what comes
 * later is Late. SemiSync: a round ends at its deadline, or when everyone asked has reported; a
 * late update counts in the next round, with less weight; its learner gets no new task before.
 * Async: the round ends when the buffer is full; a learner gets a task as soon as there is a model
 * that it has not worked on. Partial sums of tiers are never taken late.
 *
 * A round without a base first asks one member, then others, to make the initial model.
 *
 * An attempt that has no quorum at its deadline is tried again up to retryLimit times, then the
 * round fails and says why. Dropped learners (left, silent, refused, gave up) are replaced from
 * those not asked yet.
 *
 * Memory: per member about 1 KiB; nothing grows with the number of rounds. One thread. */
#ifndef FL_WORKLOADS_AGGREGATOR_CORE_H
#define FL_WORKLOADS_AGGREGATOR_CORE_H

#include "lib/error.h"
#include "lib/mem.h"
#include "workloads/protocol/protocol.h"

struct fl_aggregator_core;

struct fl_aggregator_options {
    const char *id;           /* stable; as a member of its parent, too */
    const char *project;      /* NULL: that of the first round */
    bool has_parent;          /* rounds come from the parent, not by PUT */
    const char *parent;       /* address that learners turn to if this one is gone; may be NULL */
    int64_t poll_ms;          /* 0: 30 s */
    int64_t silence_ms;       /* 0: 90 s */
    int64_t progress_ms;      /* 0: 10 s */
    int64_t chunk_bytes;      /* 0: 4 MiB */
    int64_t max_update_bytes; /* 0: 8 GiB */
    int64_t max_members;      /* 0: 100,000 */
    int64_t max_uploads;      /* under way or waiting to be folded; 0: 16 */
    int64_t upload_ms;        /* an upload that is not complete after it makes room; 0: 10 min */
    int64_t stop_ms;          /* after a stop, members are told End for so long; 0: 60 s */
    int64_t keep_models;      /* bases and results, beyond what late updates need; 0: 2 */
    int64_t journal_bytes;    /* the journal is replaced when it is longer; 0: 1 MiB */
};

/* `journal`: what was written before (NULL, 0: nothing). INVALID: it cannot be read. */
int fl_aggregator_create(const struct fl_aggregator_options *options, int64_t now_ms,
                         const void *journal, size_t len, struct fl_aggregator_core **ret_core,
                         struct fl_error *err);
void fl_aggregator_destroy(struct fl_aggregator_core *core);
FL_DEFINE_CLEANUP(struct fl_aggregator_core, fl_aggregator_destroy)

/* --- events --------------------------------------------------------------------------------- */

/* A control request (its connection is that of `peer`: the identity of a certificate, which must be
 * the learner's id; NULL: not checked). Answered by a REPLY with the same `request`, now or later.
 * `control_plane`: whether who asks may use the control interface. */
struct fl_aggregator_request {
    uint64_t request; /* unique, not 0 */
    const char *method, *target;
    const void *body;
    size_t body_len;
    const char *peer;
    bool control_plane;
};
void fl_aggregator_request(struct fl_aggregator_core *core, int64_t now_ms,
                           const struct fl_aggregator_request *request);
/* Its connection went away: no reply is wanted any more. */
void fl_aggregator_request_gone(struct fl_aggregator_core *core, int64_t now_ms, uint64_t request);

/* Bytes on the bulk side: that learner is alive; counted for status. `id` of the upload; 0: a
 * download. */
void fl_aggregator_moved_bytes(struct fl_aggregator_core *core, int64_t now_ms, const char *learner,
                               uint64_t id, int64_t bytes);
/* An upload is complete and its digest right (err NULL), or cannot be completed. */
void fl_aggregator_uploaded(struct fl_aggregator_core *core, int64_t now_ms, uint64_t id,
                            const struct fl_error *err);
/* An update could not be taken in for now, as on a full disk: the round's report says so until one
 * is. */
void fl_aggregator_lacks(struct fl_aggregator_core *core, int64_t now_ms, const char *message);

/* Results of actions; `err` NULL: done. `ticket` is the action's. */
void fl_aggregator_begun(struct fl_aggregator_core *core, int64_t now_ms, uint64_t ticket,
                         const struct fl_error *err);
/* `reason`: of an update that was refused, one CamelCase word ("NotFinite", "WrongShape"); NULL:
 * that of the error's code. */
void fl_aggregator_folded(struct fl_aggregator_core *core, int64_t now_ms, uint64_t ticket,
                          const char *reason, const struct fl_error *err);
/* It is among the models; `err`: it is not. */
void fl_aggregator_adopted(struct fl_aggregator_core *core, int64_t now_ms, uint64_t ticket,
                           const struct fl_error *err);
struct fl_finished {
    const char *model, *state; /* digests of durable files; state NULL: none */
    int64_t size;
};
void fl_aggregator_finished(struct fl_aggregator_core *core, int64_t now_ms, uint64_t ticket,
                            const struct fl_finished *finished, const struct fl_error *err);

/* From the learner core above. The same fit again is a no-op, or answers at once where it is done.
 * The model is here. */
void fl_aggregator_parent_fit(struct fl_aggregator_core *core, int64_t now_ms,
                              const struct fl_task *task);
void fl_aggregator_parent_evaluate(struct fl_aggregator_core *core, int64_t now_ms,
                                   const struct fl_task *task);
/* Asks one of its own members for the initial model. */
void fl_aggregator_parent_init(struct fl_aggregator_core *core, int64_t now_ms,
                               const struct fl_task *task);
void fl_aggregator_parent_cancel(struct fl_aggregator_core *core, int64_t now_ms);

/* As POST /v1/stop does: the parent has ended the training. */
void fl_aggregator_stop(struct fl_aggregator_core *core, int64_t now_ms, const char *message);

/* Time passed. To be called when fl_aggregator_deadline has come, or any time before. */
void fl_aggregator_tick(struct fl_aggregator_core *core, int64_t now_ms);
int64_t fl_aggregator_deadline(const struct fl_aggregator_core *core); /* INT64_MAX: none */

/* --- actions -------------------------------------------------------------------------------- */

enum fl_aggregator_action_kind {
    FL_AGGREGATOR_REPLY = 1,       /* request, http_status, body */
    FL_AGGREGATOR_JOURNAL,         /* body: append and make durable before the next action */
    FL_AGGREGATOR_JOURNAL_REPLACE, /* body: instead of all before; durable before the next action */
    FL_AGGREGATOR_CUT,             /* size: the journal's good bytes; cut off the rest (at start) */
    FL_AGGREGATOR_BEGIN,           /* ticket, begin -> begun. Forgets what is not finished */
    FL_AGGREGATOR_EXPECT,  /* upload, learner, digest, size -> uploaded; path's last part is upload
                            */
    FL_AGGREGATOR_DISCARD, /* upload: its bytes are not wanted (any more) */
    FL_AGGREGATOR_FOLD,    /* ticket, upload, fold -> folded; the bytes are then not needed */
    FL_AGGREGATOR_ADOPT,   /* ticket, upload, digest, size -> adopted: its bytes become a model,
                              durable. INVALID where they are none */
    FL_AGGREGATOR_FINISH,  /* ticket -> finished: the next global model, durable */
    FL_AGGREGATOR_PARTIAL, /* ticket -> finished: the partial sum for the parent, durable */
    FL_AGGREGATOR_ABANDON, /* the attempt's sum */
    FL_AGGREGATOR_RELEASE, /* model: no longer needed by this core (models, partials, states) */
    FL_AGGREGATOR_SWEEP,   /* once: what earlier lives left and fl_aggregator_needs does not know */
    FL_AGGREGATOR_PARENT_RESULT, /* parent */
    FL_AGGREGATOR_MEMBERS, /* learners, examples changed: the learner core above joins again */
    FL_AGGREGATOR_STOPPED, /* everyone was told, or stop_ms passed: the program may end */
};

struct fl_aggregator_begin {
    const char *base;  /* digest */
    const char *state; /* digest of the strategy's state to begin with; NULL: none. What a sum that
                          was finished and not committed made of it does not count */
    const struct fl_strategy_spec *strategy;
    double local_learning_rate; /* QFedAvg */
    struct fl_precision_spec precision;
    int64_t max_examples;
    bool partial; /* will be asked for a PARTIAL */
};

struct fl_aggregator_fold {
    const char *learner, *base, *digest;
    int64_t examples; /* weighted by staleness already (FedBuff weighs by itself) */
    int64_t steps, staleness;
    double loss_before;
    bool partial;
};

struct fl_parent_result {
    bool ok;
    bool evaluation;    /* of an Evaluate task: `result` counts, otherwise `offer` */
    const char *work;   /* the task's; of an evaluation: the model's digest */
    const char *reason; /* not ok */
    const char *message;
    struct fl_offer offer; /* digest, size and facts of the partial sum */
    struct fl_result result;
};

struct fl_aggregator_action {
    enum fl_aggregator_action_kind kind;
    uint64_t request, ticket, upload;
    int http_status;
    struct fl_bytes *body;
    const char *learner, *digest, *model;
    int record; /* JOURNAL: an enum fl_record_kind */
    int64_t size, learners, examples;
    struct fl_aggregator_begin begin;
    struct fl_aggregator_fold fold;
    struct fl_parent_result parent;
};
/* The next action, lent until the next call of any function here; NULL: none. */
const struct fl_aggregator_action *fl_aggregator_next(struct fl_aggregator_core *core);

/* For the bulk side: is this digest an object that learners may fetch now. */
bool fl_aggregator_serves(const struct fl_aggregator_core *core, const char *digest);
/* Is it any model, partial sum or state that this core may still ask for. */
bool fl_aggregator_needs(const struct fl_aggregator_core *core, const char *digest);

#endif
