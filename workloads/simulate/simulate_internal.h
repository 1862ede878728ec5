/* What the files of the simulation share.
 *
 * simulate.c    the front door: options, the rounds one after the other, evaluation
 * population.c  who the learners are: data, attackers, delays
 * desks.c       programs that train, shared by the learners
 * lessons.c     one learner's training, and those that are under way by virtual time
 * memory.c      a round, by its rules alone
 * virtual.c     a round, by the state machines of the protocol
 * timers.c      when those want to be looked at again */
#ifndef FL_WORKLOADS_SIMULATE_INTERNAL_H
#define FL_WORKLOADS_SIMULATE_INTERNAL_H

#include "lib/crew.h"
#include "workloads/simulate/simulate.h"
#include "workloads/strategy/strategy.h"

#include <sys/queue.h>

/* --- learners ------------------------------------------------------------------------------- */

#define LEARNER_ID_SIZE 24

#define JUDGE_ID "judge"

struct desks;
struct population {
    const struct fl_simulation *simulation; /* lent */
    size_t count;
    struct fl_dataset **data;
    bool *attacks;
    double *slowness;    /* factor on the delay */
    int64_t examples;    /* of all */
    struct desks *desks; /* NULL: the trainer is a native one */
};
int population_create(const struct fl_simulation *simulation, struct population **ret_population,
                      struct fl_error *err);
void population_destroy(struct population *population);
FL_DEFINE_CLEANUP(struct population, population_destroy)

/* Who trains for a learner, for one training. */
int population_take_trainer(const struct population *population, size_t learner,
                            struct fl_trainer **ret_trainer, struct fl_error *err);
void population_leave_trainer(const struct population *population, struct fl_trainer *trainer);
void learner_id(size_t learner, char out[LEARNER_ID_SIZE]);
size_t learner_index(const char *id); /* of an id made by learner_id */
int64_t population_delay_ms(const struct population *population, size_t learner, int64_t round);
bool population_drops(const struct population *population, size_t learner, int64_t round);
/* What an attacker makes of its update. */
void population_attack(const struct population *population, size_t learner, uint64_t seed,
                       const struct fl_model *base, struct fl_model *update);

/* --- programs ------------------------------------------------------------------------------- */

int desks_create(const struct population *population, size_t count, struct desks **ret_desks,
                 struct fl_error *err);
void desks_destroy(struct desks *desks); /* nobody sits there */
/* Waits until one is free, or its own. `learner` may be the population's count: the judge, whose
 * data is the test data. A program that ended is started anew. */
int desks_take(struct desks *desks, size_t learner, struct fl_trainer **ret_trainer,
               struct fl_error *err);
void desks_leave(struct desks *desks, const struct fl_trainer *trainer);

/* --- training ------------------------------------------------------------------------------- */

struct lesson {
    struct fl_chore chore;
    const struct population *population;
    size_t learner;
    int64_t round;
    uint64_t ticket; /* the protocol's */
    uint64_t seed;
    struct fl_model *base; /* referenced */
    struct fl_local_options local;
    bool drops;  /* gives up in the end: nothing needs to be computed */
    bool digest; /* of the update is wanted, too */
    bool begun;  /* the crew has it */
    int64_t asked_ms, finish_ms;
    uint64_t order; /* among those that finish at the same time */

    int result;
    struct fl_error err;
    struct fl_fit_result fit;
    char name[FL_DIGEST_SIZE];
};
struct lesson *lesson_create(const struct population *population, size_t learner, int64_t round,
                             struct fl_model *base);
void lesson_destroy(struct lesson *lesson); /* it is not with the crew */
FL_DEFINE_CLEANUP(struct lesson, lesson_destroy)
/* What it failed of is the simulation's own trouble (no memory), not the learner's. */
int lesson_check(const struct lesson *lesson, struct fl_error *err);

/* Those under way, by the time at which they finish. A few of the next are being computed. */
struct schedule {
    struct fl_crew *crew;
    struct lesson **items; /* the last one is the next */
    size_t count, cap;
    uint64_t added;
};
void schedule_add(struct schedule *schedule, struct lesson *lesson);
const struct lesson *schedule_next(const struct schedule *schedule); /* NULL: none */
/* The next one, computed; the caller's. */
struct lesson *schedule_take(struct schedule *schedule);
/* If it is still that learner's lesson. */
void schedule_cancel(struct schedule *schedule, size_t learner, uint64_t ticket);
void schedule_clear(struct schedule *schedule);
void schedule_finish(struct schedule *schedule);

/* --- timers --------------------------------------------------------------------------------- */

struct timer {
    int64_t at_ms;
    size_t node;
};

/* One a node. */
struct timers {
    int64_t *set_ms; /* of each node; INT64_MAX: not set */
    struct timer *items;
    size_t count, cap;
};
void timers_init(struct timers *timers, size_t nodes);
void timers_finish(struct timers *timers);
void timers_set(struct timers *timers, size_t node, int64_t at_ms); /* INT64_MAX: none */
/* The soonest, which timers_drop then drops; false: none. */
bool timers_next(struct timers *timers, struct timer *ret_timer);
void timers_drop(struct timers *timers);

/* --- rounds --------------------------------------------------------------------------------- */

/* What both ways to run a round have in common. */
struct course {
    const struct fl_simulation *simulation;
    struct population *population;
    struct fl_crew *crew;
    struct schedule schedule;
    struct fl_strategy *strategy;
    double strategy_rate;   /* that it was made for */
    struct fl_model *model; /* the newest */
    char digest[FL_DIGEST_SIZE];
    int64_t now_ms;                        /* virtual */
    struct fl_simulated_failure *failures; /* of the round */
    size_t failure_count;
};
/* Another one of the round; of a learner that tried more than once, the last. */
void course_note_failure(struct course *course, const char *learner, const struct fl_error *why);
/* UNAVAILABLE where the user wants it to end. */
int course_check_interrupt(const struct course *course, struct fl_error *err);
/* The round's rules: numbered, with the decayed rate. */
struct fl_round_order course_spec(const struct course *course, int64_t round);
/* The strategy as the spec has it; its state goes on. */
int course_use_strategy(struct course *course, const struct fl_round_order *spec,
                        struct fl_error *err);
void course_take_model(struct course *course, struct fl_model *model);

struct memory_rounds;
int memory_rounds_create(struct course *course, struct memory_rounds **ret_rounds,
                         struct fl_error *err);
void memory_rounds_destroy(struct memory_rounds *rounds);
int memory_round(struct memory_rounds *rounds, const struct fl_round_order *spec,
                 struct fl_simulated_round *ret_round, struct fl_error *err);

struct virtual_world;
int virtual_world_create(struct course *course, struct virtual_world **ret_world,
                         struct fl_error *err);
void virtual_world_destroy(struct virtual_world *world);
int virtual_round(struct virtual_world *world, const struct fl_round_order *spec,
                  struct fl_simulated_round *ret_round, struct fl_error *err);

#endif
