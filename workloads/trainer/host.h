/* The learner's side of the trainer protocol: a program that trains, started and looked after.
 *
 * What is made here is an fl_trainer like any other, so that native and foreign trainers are driven
 * alike: its calls block until the program has answered, ask `cancelled` meanwhile, and end with a
 * clear reason when the program crashes, exits, hangs (no word within the deadline), talks
 * nonsense or takes more memory than it may; the program and its process group are then killed, and
 * every further call is UNAVAILABLE. An error that the program reports leaves it running. Nothing
 * of what it sends is trusted: sizes are bounded, shared memory must be sealed, a trained model
 * must have the tensors of the one it was made from, and finite numbers.
 *
 * One thread at a time, which may wait (a worker, not a loop). The owner destroys it by its table.
 */
#ifndef FL_WORKLOADS_TRAINER_HOST_H
#define FL_WORKLOADS_TRAINER_HOST_H

#include "lib/env.h"
#include "workloads/trainer/trainer.h"

struct fl_trainer_program {
    const char *const *argv;    /* ended by NULL; argv[0] is the program's path */
    const char *const *environ; /* ended by NULL; all that it gets */
    int64_t start_timeout_ms;   /* until its hello; 0: 2 minutes (Python imports slowly) */
    int64_t silence_timeout_ms; /* between two words of it while it works; 0: 5 minutes */
    int64_t
        cancel_timeout_ms;   /* from a cancellation to its answer, and from stop to exit; 0: 10 s */
    int64_t work_timeout_ms; /* that one request may take, at work or not; 0: no bound */
    uint64_t max_model_bytes;  /* 0: 8 GiB */
    uint64_t max_memory_bytes; /* resident, of the program itself; 0: no bound */
    bool predicts;             /* it is only to predict: see fl_trainer_load */
    const json_t *data;        /* that it is to train on, as its hello says it; lent; may be NULL */
    bool shared;               /* by learners, whose turn fl_trainer_turn begins */
    /* A line that it wrote on its standard streams, without its end; may be NULL. */
    void (*output)(void *user, const char *line);
    /* Whether a model or an evaluation is not wanted any more (a fit is asked itself); may be NULL.
     */
    bool (*cancelled)(void *user);
    void *user;
};

/* Why a trainer failed: `reason` is one of those below or the program's own word. */
#define FL_TRAINER_NOT_STARTED    "TrainerNotStarted"    /* cannot be executed, or no hello */
#define FL_TRAINER_CRASHED        "TrainerCrashed"       /* ended by a signal */
#define FL_TRAINER_EXITED         "TrainerExited"        /* ended by itself, unasked */
#define FL_TRAINER_HUNG           "TrainerHung"          /* said nothing within the deadline */
#define FL_TRAINER_TOO_SLOW       "TrainerTooSlow"       /* worked longer than it may */
#define FL_TRAINER_PROTOCOL       "TrainerProtocolError" /* what it sent breaks the protocol */
#define FL_TRAINER_TOO_BIG        "TrainerOutOfMemory"   /* more memory than it may have */
#define FL_TRAINER_WOULD_NOT_STOP "TrainerNotCancelled"  /* went on after a cancellation */
#define FL_TRAINER_BAD_RESULT     "TrainerBadResult"     /* other tensors, or NaN in them */

struct fl_trainer_failure {
    char reason[64];
    char message[4096];
    char *traceback; /* of the program's own error; NULL: none */
};

/* Texts of `program` are used here only. The trainer is ready when this returns. */
int fl_trainer_start(const struct fl_trainer_program *program, const struct fl_env *env,
                     struct fl_trainer **ret_trainer, struct fl_error *err);

/* It has ended (or was killed), and every further call is UNAVAILABLE: another is to be started. */
bool fl_trainer_has_ended(const struct fl_trainer *trainer);
/* Without waiting for its end, which its next call tells, or `destroy` awaits. */
void fl_trainer_kill(struct fl_trainer *trainer);
/* Of a trainer made here. The last failure; reason "" where none was. Lent until its next call. */
const struct fl_trainer_failure *fl_trainer_last_failure(const struct fl_trainer *trainer);
const char *fl_trainer_name(const struct fl_trainer *trainer); /* as it calls itself */
int64_t fl_trainer_examples(const struct fl_trainer *trainer); /* that it has */
/* What it offers: "export", … */
bool fl_trainer_can(const struct fl_trainer *trainer, const char *request);
/* What a loaded model takes and gives. */
struct fl_trainer_form {
    int64_t shape[FL_TENSOR_RANK_MAX]; /* of one row */
    unsigned rank;
    size_t width, answer; /* numbers of a row, and of what is answered to it */
};
#define FL_TRAINER_WIDTH_MAX  ((int64_t)1 << 26)
#define FL_TRAINER_ANSWER_MAX ((int64_t)1 << 20)
/* From the bytes of a model's file: what predictions are made with from now on. NOT_ACCEPTABLE
 * where the program does not predict. */
int fl_trainer_load(struct fl_trainer *trainer, const void *file, size_t len,
                    struct fl_trainer_form *ret_form, struct fl_error *err);
/* ret_answers: count * form->answer numbers, all finite. */
int fl_trainer_predict(struct fl_trainer *trainer, const struct fl_trainer_form *form,
                       const float *rows, size_t count, float *ret_answers, struct fl_error *err);
/* What is asked from now on is this learner's, of a program that is shared. Texts and data are used
 * here only. NOT_ACCEPTABLE where it serves one learner only. */
struct fl_trainer_turn {
    const char *learner;
    uint64_t seed;
    size_t part, parts; /* its number, and of how many */
    bool keep;          /* what it leaves is there again at its next turn; else each is its first */
    const json_t *data; /* as in fl_trainer_program */
};
int fl_trainer_turn(struct fl_trainer *trainer, const struct fl_trainer_turn *turn,
                    struct fl_error *err);
/* The model in another format ("onnx"), as bytes. NOT_ACCEPTABLE where it cannot. */
int fl_trainer_export(struct fl_trainer *trainer, const struct fl_model *model, const char *format,
                      struct fl_bytes **ret_bytes, struct fl_error *err);

#endif
