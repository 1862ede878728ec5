/* What the files of the learner's core share.
 *
 * learner_core.c        the front door: life, actions, where it belongs, what happens next
 * learner_core_calls.c  requests and their answers
 * learner_core_work.c   tasks, jobs, results
 * learner_core_kept.c   the update that is kept */
#ifndef FL_WORKLOADS_LEARNER_CORE_INTERNAL_H
#define FL_WORKLOADS_LEARNER_CORE_INTERNAL_H

#include "workloads/learner/learner_core.h"

#include <sys/queue.h>

enum stage {
    STAGE_NONE = 0,
    STAGE_DOWNLOAD, /* job: the model */
    STAGE_TRAIN,    /* job */
    STAGE_OFFER,    /* the kept update is to be offered at due_ms */
    STAGE_UPLOAD,   /* job: its bytes */
    STAGE_EVALUATE, /* job */
    STAGE_RESULT,   /* is to be told at due_ms */
    STAGE_GIVE_UP,  /* is to be told at due_ms */
    STAGE_DONE,     /* nothing more to do for this task */
};

enum call { CALL_NONE = 0, CALL_JOIN, CALL_PROGRESS, CALL_OFFER, CALL_RESULT, CALL_LEAVE };

struct queued {
    struct fl_learner_action action;
    TAILQ_ENTRY(queued) all;
};

/* A download that was cancelled, and may be done all the same. */
#define DROPPED_MAX 8
struct learner_dropped {
    uint64_t ticket; /* 0: none */
    char model[FL_DIGEST_SIZE];
};

struct fl_learner_core {
    struct fl_learner_options options;
    struct fl_arena *arena; /* of the options */
    struct fl_join join;
    int64_t now_ms;
    uint64_t tickets, random;
    TAILQ_HEAD(, queued) actions;
    struct queued *lent;
    struct fl_arena *action_arena;

    /* Where it belongs now */
    char *address, *aggregator, *parent, *orphan_of;
    char token[48]; /* of what was said last; of a life that nobody else had */
    uint64_t life, declared;
    bool joined, declare, leaving, ended;
    char *leave_message;
    int64_t heard_ms; /* of the aggregator */
    int64_t poll_ms, progress_ms, chunk_bytes;

    /* Requests */
    uint64_t poll, call;
    int64_t poll_until_ms, call_until_ms;
    enum call calling;
    int64_t call_seq;   /* the task that the call was for */
    int64_t retry_ms;   /* no request before */
    int64_t backoff_ms; /* the next delay */

    /* The task */
    struct fl_arena *task_arena;
    struct fl_task task; /* kind 0: none yet */
    enum stage stage;
    uint64_t job;
    int64_t job_until_ms, job_start_ms;
    int64_t task_until_ms;      /* its deadline and the grace; INT64_MAX: none */
    char model[FL_DIGEST_SIZE]; /* the last that a task named: here, or on its way */
    struct learner_dropped dropped[DROPPED_MAX];
    unsigned dropped_next;
    int64_t done, all; /* progress */
    int64_t due_ms, progress_due_ms;
    int64_t failures, download_ms;
    char reason[64], message[FL_PROTOCOL_TEXT_MAX / 2];
    struct fl_arena *result_arena;
    struct fl_result result;

    /* The update that is kept */
    struct fl_arena *kept_arena;
    struct fl_kept kept;
    bool has_kept;
};

/* learner_core.c */
struct fl_learner_action *learner_act(struct fl_learner_core *core,
                                      enum fl_learner_action_kind kind);
const char *learner_act_text(struct fl_learner_core *core, const char *text);
void learner_cancel(struct fl_learner_core *core, uint64_t *ticket);
void learner_release(struct fl_learner_core *core, const char *digest);
int64_t learner_jitter(struct fl_learner_core *core, int64_t delay_ms);
int64_t learner_next_delay(struct fl_learner_core *core);
void learner_set_text(char **at, const char *text);
void learner_move_to(struct fl_learner_core *core, const char *address, const char *orphan_of);
void learner_advance(struct fl_learner_core *core);
void learner_not_joined(struct fl_learner_core *core);
void learner_request_failed(struct fl_learner_core *core, enum call call);
void learner_heard(struct fl_learner_core *core);

/* learner_core_kept.c */
void learner_set_kept(struct fl_learner_core *core, const struct fl_kept *kept);
void learner_forget_kept(struct fl_learner_core *core);

/* learner_core_calls.c */
void learner_send_call(struct fl_learner_core *core, enum call call, const char *target,
                       const struct fl_form *form, const void *message);
void learner_send_join(struct fl_learner_core *core);
const char *learner_stage_name(enum stage stage);
void learner_send_progress(struct fl_learner_core *core, bool gave_up);
void learner_send_offer(struct fl_learner_core *core);
void learner_send_result(struct fl_learner_core *core);
void learner_send_poll(struct fl_learner_core *core);

/* learner_core_work.c */
void learner_cancel_job(struct fl_learner_core *core);
void learner_drop_work(struct fl_learner_core *core);
void learner_give_up(struct fl_learner_core *core, const char *reason, const char *message);
void learner_start_download(struct fl_learner_core *core);
void learner_start_upload(struct fl_learner_core *core, const char *path);
void learner_start_trainer(struct fl_learner_core *core);
void learner_offer_at(struct fl_learner_core *core, int64_t due_ms);
void learner_retry_job(struct fl_learner_core *core, const char *reason,
                       const struct fl_error *err);
void learner_end(struct fl_learner_core *core, const char *message);
void learner_take_task(struct fl_learner_core *core, const struct fl_task *task);

#endif
