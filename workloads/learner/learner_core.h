/* The learner's state machine, without sockets, files, threads or a clock: join, poll, download,
 * train, offer, upload, evaluate, move.
 *
 * Who runs it gives events, each with the time, and takes actions until there is none left. It asks
 * for at most one POLL, one CALL, one DOWNLOAD, one UPLOAD and one TRAIN or EVALUATE at a time;
 * each is answered by its event with the same `ticket`, in any order, or never (each has a deadline
 * here). What was cancelled needs no answer; one that comes nevertheless is ignored. Requests that
 * fail are repeated with jittered, growing delays, without end: a learner waits for its aggregator
 * as long as it runs, but turns to the parent of an aggregator that is gone for `lost_ms`.
 *
 * Training and evaluation are broken off `grace_ms` after the deadline of their task, and given up
 * with the reason Timeout, unless what is late may still count: then the aggregator says when it
 * does not.
 *
 * An update is kept (KEEP names it; the program may keep it on disk) until a task asks for other
 * work; `kept` gives it back after a restart. One thread. */
#ifndef FL_WORKLOADS_LEARNER_CORE_H
#define FL_WORKLOADS_LEARNER_CORE_H

#include "lib/error.h"
#include "lib/mem.h"
#include "workloads/protocol/protocol.h"

struct fl_learner_core;

/* An update that was made and not yet superseded. The offer holds all but round and attempt, which
 * are those of the task that asks for the same work. */
struct fl_kept {
    struct fl_offer offer;
    int64_t seed;
    const char *origin;  /* of the last task it was offered for */
    const char *offered; /* aggregator it was last offered to; NULL: none */
};

/* For the disk, and back. INVALID: it cannot be read. */
struct fl_bytes *fl_kept_encode(const struct fl_kept *kept);
int fl_kept_decode(struct fl_arena *arena, const void *data, size_t len, struct fl_kept *ret_kept,
                   struct fl_error *err);

struct fl_learner_options {
    struct fl_join join;    /* who it is; copied */
    const char *address;    /* of its aggregator */
    const char *parent;     /* to turn to if that is gone; the aggregator says so, too; or NULL */
    int64_t lost_ms;        /* 0: 60 s */
    int64_t request_ms;     /* a CALL without an answer has failed; 0: 20 s */
    int64_t transfer_ms;    /* a transfer without progress has failed; 0: 60 s */
    int64_t backoff_ms;     /* the first delay; 0: 500 ms */
    int64_t backoff_max_ms; /* 0: 30 s */
    int64_t grace_ms;       /* beyond a task's deadline; 0: 30 s */
    int64_t max_failures;   /* of download, training or upload of one task; 0: 5 */
    uint64_t seed;          /* of jitter and tokens: another in each life */
    const struct fl_kept *kept; /* from an earlier life; NULL: none */
};
int fl_learner_create(const struct fl_learner_options *options, int64_t now_ms,
                      struct fl_learner_core **ret_core, struct fl_error *err);
void fl_learner_destroy(struct fl_learner_core *core);
FL_DEFINE_CLEANUP(struct fl_learner_core, fl_learner_destroy)

/* --- events --------------------------------------------------------------------------------- */

/* Of a POLL or CALL: an answer, or (err) none. */
void fl_learner_answered(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                         int http_status, const void *body, size_t len);
void fl_learner_unanswered(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                           const struct fl_error *err);
/* Of transfers and trainers, while they run: bytes or steps. */
void fl_learner_progressed(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                           int64_t done, int64_t all);
void fl_learner_downloaded(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                           const struct fl_error *err);
void fl_learner_uploaded(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                         const struct fl_error *err);
/* The update is in its place under its digest. Of `facts`: digest, size, examples, steps, losses,
 * metrics, partial, contributors. `err`: it failed; `terminal`: it would again. */
void fl_learner_trained(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                        const struct fl_offer *facts);
/* Of `result`: examples, loss, metrics. */
void fl_learner_evaluated(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                          const struct fl_result *result);
void fl_learner_failed(struct fl_learner_core *core, int64_t now_ms, uint64_t ticket,
                       const char *reason, const struct fl_error *err); /* TRAIN or EVALUATE */

/* What it declares has changed (an aggregator's learners): joins again. */
void fl_learner_declare(struct fl_learner_core *core, int64_t now_ms, int64_t examples,
                        int64_t learners);
/* The program ends: breaks off, says goodbye; ENDED follows within request_ms. */
void fl_learner_leave(struct fl_learner_core *core, int64_t now_ms, const char *message);

void fl_learner_tick(struct fl_learner_core *core, int64_t now_ms);
int64_t fl_learner_deadline(const struct fl_learner_core *core); /* INT64_MAX: none */

/* --- actions -------------------------------------------------------------------------------- */

enum fl_learner_action_kind {
    FL_LEARNER_POLL = 1, /* ticket, address, method, target -> answered. It is held for long */
    FL_LEARNER_CALL,     /* ticket, address, method, target, body -> answered */
    FL_LEARNER_DOWNLOAD, /* ticket, address, digest, size -> downloaded (at once where it is here)
                          */
    FL_LEARNER_UPLOAD, /* ticket, address, target (the path of the offer's answer), digest, size */
    FL_LEARNER_TRAIN,  /* ticket, task (Fit, or Init) -> trained, failed */
    FL_LEARNER_EVALUATE, /* ticket, task -> evaluated, failed */
    FL_LEARNER_CANCEL,   /* ticket: of any of the above */
    FL_LEARNER_KEEP,     /* kept: remember for the next life, before going on */
    FL_LEARNER_RELEASE,  /* digest: a model or update that is not needed any more */
    FL_LEARNER_ENDED,    /* message: training is over, or it left; nothing follows */
};
struct fl_learner_action {
    enum fl_learner_action_kind kind;
    uint64_t ticket;
    const char *address, *method, *target;
    struct fl_bytes *body;
    const char *digest, *message;
    int64_t size, timeout_ms;
    int64_t chunk_bytes; /* UPLOAD: at most, in one piece */
    const struct fl_task *task;
    const struct fl_kept *kept;
};
/* The next action, lent until the next call of any function here; NULL: none. */
const struct fl_learner_action *fl_learner_next(struct fl_learner_core *core);

/* Is it the model of the task, or the update that is kept. */
bool fl_learner_needs(const struct fl_learner_core *core, const char *digest);
/* What it does, for a status line: "Joining", "Idle", "Downloading", "Training" … */
const char *fl_learner_doing(const struct fl_learner_core *core);

#endif
