/* Whole trainings in one process: many virtual learners, real data, the native trainers.
 *
 * Data is divided among learners, each round's learners train, their updates make the next model,
 * and the model is evaluated on test data. Time is virtual: learners may be slow, give up, or
 * attack. There are two ways to run a round, and the same options give the same models, to the bit:
 *
 *   in memory     the rounds' rules alone (mode Sync)
 *   protocol      the state machines of aggregator and learners exchange their messages, which take
 *                 no time; all modes
 *
 * Everything random comes from the seeds; the number of threads changes nothing but the speed. A
 * round that does not reach its quorum ends the simulation: it is not tried again.
 *
 * What trains is a native trainer, or code of somebody's own: programs that speak the trainer
 * protocol, each of which serves many learners, one after the other. What goes wrong in it, an end
 * of the program included, is a dropout of that learner. The models are then the same again if the
 * code's are: its seeds are.
 *
 * Memory: the data, and a few updates for each thread; robust strategies keep all updates of a
 * round, in `spill_dir` or in memory. Call fl_kernels_init before. One thread calls; callbacks come
 * on it. */
#ifndef FL_WORKLOADS_SIMULATE_H
#define FL_WORKLOADS_SIMULATE_H

#include "lib/digest.h"
#include "workloads/data/dataset.h"
#include "workloads/protocol/protocol.h"
#include "workloads/trainer/host.h"
#include "workloads/trainer/trainer.h"

enum fl_attack_kind {
    FL_ATTACK_NONE = 0,
    FL_ATTACK_SIGN_FLIP,  /* base - scale * (own - base) */
    FL_ATTACK_NOISE,      /* base + normal numbers of standard deviation `scale` */
    FL_ATTACK_LABEL_FLIP, /* trains on labels that are turned round: classes - 1 - label */
    FL_ATTACK_SCALED,     /* the same, then base + scale * (own - base): model replacement
                             (Bagdasaryan et al. 2020) */
};
const char *fl_attack_name(enum fl_attack_kind kind);                 /* "None", "SignFlip", … */
bool fl_attack_find(const char *name, enum fl_attack_kind *ret_kind); /* in any case of letters */

struct fl_attack {
    enum fl_attack_kind kind;
    size_t learners; /* how many of all; which ones, the seed says */
    double scale;    /* 0: 1, but for Scaled 10 */
};

/* What training takes learner i in round r: median_ms * exp(spread * a_i + jitter * b_ir), a and b
 * being normal numbers; and how often it gives up at the end of that. */
struct fl_delays {
    int64_t median_ms; /* 0: no time */
    double spread, jitter;
    double dropout; /* 0 … 1 */
};

/* Code of somebody's own. Texts are lent. */
struct fl_simulated_code {
    const char *name;                  /* for reports */
    struct fl_trainer_program program; /* its `output` is called on any thread */
    const struct fl_env *env;
    const char *folder; /* for the learners' data, a file each; the caller's to remove */
    /* What a learner's code keeps is there when it trains again, as in a program of its own; what a
     * program's learners kept ends with it. Otherwise each training begins with code that is made
     * anew. */
    bool stateful;
};

struct fl_simulated_failure {
    char learner[24]; /* "learner-000003"; "judge": the evaluation on the test data */
    char error[512];  /* "CodeFailed: training: ValueError: …" */
};

struct fl_simulated_round {
    int64_t round;
    int64_t selected, reported, late, dropped, rejected, examples;
    double train_loss;  /* mean of what learners say of their last epoch; NAN: nothing */
    int64_t virtual_ms; /* from the begin of the simulation to the end of this round */
    bool evaluated;     /* then: on the test data */
    double loss, accuracy;
    const char *model; /* digest */
    /* Why learners dropped out, in order; the first FL_SIMULATED_FAILURES_MAX. */
    const struct fl_simulated_failure *failures;
    size_t failure_count;
};
#define FL_SIMULATED_FAILURES_MAX 1000

struct fl_simulation {
    struct fl_dataset *train, *test; /* lent */
    struct fl_model *initial;        /* to begin with; NULL: the trainer makes one; lent */
    struct fl_partition partition;
    const struct fl_trainer_ops *trainer; /* or `code` */
    const json_t *trainer_options;        /* may be NULL; lent */
    const struct fl_simulated_code *code;
    /* As for PUT /v1/rounds/N; minAvailable, project, round, model, evaluation are filled in. */
    struct fl_round_order spec;
    double learning_rate_decay; /* of the learners' rate, each round; 0: 1 */
    int64_t rounds;
    int64_t evaluate_every; /* and after the last round; 0: then only */
    double target_accuracy; /* at which it ends; NAN: none */
    struct fl_attack attack;
    struct fl_delays delays;
    bool protocol;
    size_t jobs;           /* threads, and programs; 0: 1 */
    const char *spill_dir; /* robust strategies: where updates wait; NULL: memory */

    /* Whether to end now: asked by any thread, often. May be NULL. */
    bool (*interrupted)(void *user);
    void (*update_done)(void *user, int64_t round, int64_t done, int64_t all); /* may be NULL */
    void (*round_done)(void *user, const struct fl_simulated_round *round);    /* may be NULL */
    void *user;
};

/* With spec's defaults; the strategy is FedAvg. */
void fl_simulation_init(struct fl_simulation *simulation);
/* Until the last round, or the target; UNAVAILABLE where it was interrupted. INVALID: options that
 * cannot be, by name. What a round fails of is told with its number. `ret_model` may be NULL. */
int fl_simulate(const struct fl_simulation *simulation, struct fl_model **ret_model,
                struct fl_error *err);

#endif
