/* The policy of FLRound: which number a round has, whose turn it is, what it begins with, and when
 * one that has failed is tried again. Pure functions of what a pass sees.
 *
 * Everything is in the arena or lent by the input. Any thread. */
#ifndef FL_RECONCILERS_FLROUND_DECIDE_H
#define FL_RECONCILERS_FLROUND_DECIDE_H

#include "api/gen/flops_types.h"
#include "workloads/protocol/protocol.h"

struct fl_flround_world {
    const struct fl_round *round;
    const struct fl_project *project;
    struct fl_round *const *rounds; /* all that name the project, this one too */
    size_t round_count;
    struct fl_modelversion *const *models; /* all that name the project */
    size_t model_count;
    const char *reconcile_at; /* value of the annotation flops.dev/reconcile; NULL: none */
};

/* 0: it has none yet. */
int64_t fl_flround_number_of(const struct fl_round *round);
/* The next one that no round and no model has. */
int64_t fl_flround_free_number(const struct fl_flround_world *world);

enum fl_flround_turn {
    FL_FLROUND_OURS = 1,
    FL_FLROUND_LATER, /* a lower one comes first */
    FL_FLROUND_TAKEN, /* another FLRound has the number */
};
/* `ret_other`: which one it is; not for OURS. */
enum fl_flround_turn fl_flround_turn(const struct fl_flround_world *world, int64_t number,
                                     const struct fl_round **ret_other);

/* The model that this round, or a former one of its number, has committed; NULL: none. */
const struct fl_modelversion *fl_flround_committed(const struct fl_flround_world *world,
                                                   int64_t number);

/* What it begins with. */
enum fl_flround_base_kind {
    FL_FLROUND_BASE_MODEL = 1, /* digest; size 0: not known */
    FL_FLROUND_BASE_IMPORT,    /* uri */
    FL_FLROUND_BASE_SEED,      /* a learner makes it */
    FL_FLROUND_BASE_MISSING,   /* message */
};
struct fl_flround_base {
    enum fl_flround_base_kind kind;
    const char *digest, *uri, *message;
    int64_t size;
};
/* `source`: the project that training.initialModel names; NULL: there is none. */
void fl_flround_base(const struct fl_flround_world *world, int64_t number,
                     const struct fl_project *source, struct fl_arena *arena,
                     struct fl_flround_base *ret_base);

/* How the root's report and the status of the object fit together. */
enum fl_flround_run {
    FL_FLROUND_RUN_GOES_ON = 1, /* follow it */
    FL_FLROUND_RUN_FAILED,      /* for good, until somebody changes something */
    FL_FLROUND_RUN_RECORD,      /* a new run is due: it is written down first, */
    FL_FLROUND_RUN_START,       /* and then begun */
};
/* *ret_run: of the run that is, or is to be, begun. */
enum fl_flround_run fl_flround_run(const struct fl_flround_world *world,
                                   const struct fl_round_report *report, int64_t *ret_run);
/* Whether what a new run waits for has changed since the last was begun. */
bool fl_flround_is_asked_anew(const struct fl_flround_world *world);

#define FL_FLROUND_RECONCILE     "flops.dev/reconcile"
#define FL_FLROUND_RECONCILE_MAX 128                 /* of its value, as far as it is looked at */
#define FL_FLROUND_LOST_BASE     "BaseModelNotFound" /* the root's word for it */
#define FL_FLROUND_LOST_BASE_MAX 3                   /* runs that follow by themselves */

#endif
