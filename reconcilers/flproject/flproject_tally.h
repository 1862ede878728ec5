/* How far a training is: what its rounds and models tell, and what they carry on.
 *
 * Pure; all is in the arena or lent by the input. */
#ifndef FL_RECONCILERS_FLPROJECT_TALLY_H
#define FL_RECONCILERS_FLPROJECT_TALLY_H

#include "reconcilers/flproject/flproject_decide.h"

enum fl_flproject_phase {
    FL_FLPROJECT_ROUND_OPEN = 1, /* to be run, or running */
    FL_FLPROJECT_ROUND_COMMITTED,
    FL_FLPROJECT_ROUND_FAILED,
};

struct fl_flproject_round {
    const struct fl_round *round;
    int64_t number; /* 0: it has none yet */
    enum fl_flproject_phase phase;
    bool is_own; /* made by the project */
    bool is_deleting;
};

/* A committed model: from its round, its ModelVersion, or a tally. */
struct fl_flproject_version {
    int64_t number; /* 0: none */
    struct fl_model model;
    struct fl_string_map metrics; /* evaluation; empty: not evaluated */
};

struct fl_flproject_tally {
    struct fl_flproject_round *rounds; /* by number; those without one last */
    size_t round_count;
    const struct fl_flproject_round *newest; /* of the project's own, by number; NULL: none */
    int64_t completed;                       /* rounds that are committed */
    int64_t failed;                          /* attempts that were given up */
    int64_t started_us;                      /* 0: no round has begun */
    const char *started;                     /* the same, as text */
    struct fl_flproject_version last;        /* the last committed model */
    struct fl_flproject_version evaluated;   /* the last that was evaluated */
    struct fl_flproject_version best;
    /* Of patience: the value that counted as better last, and evaluations since then. */
    bool has_mark;
    double mark;
    int64_t since_mark;
};

void fl_flproject_count(const struct fl_flproject_input *input, struct fl_arena *arena,
                        struct fl_flproject_tally *ret_tally);
/* What no object tells any more, the root may still know: it counts where no round is open. */
void fl_flproject_count_root(const struct fl_flproject_input *input,
                             struct fl_flproject_tally *tally);
/* For the annotation of the round after `tally`. */
const char *fl_flproject_tally_text(const struct fl_flproject_input *input,
                                    const struct fl_flproject_tally *tally, struct fl_arena *arena);
/* The value of the metric that decides; false: there is none, or it is no number. */
bool fl_flproject_value(const struct fl_project *project, const struct fl_string_map *metrics,
                        double *ret_value);
/* Whether `a` is better than `b` by more than nothing, or by at least `by` where that is > 0. */
bool fl_flproject_is_better(const struct fl_project *project, double a, double b, double by);

#endif
