/* Who takes part in a round: pure functions from candidates and a seed to an order.
 *
 * All       everyone; the order is Random's (it says who is asked first where a round needs fewer).
 * Random    by a hash of (seed, round, attempt, id): independent of the order of joining, uniform.
 * Availability  by the share of tasks that were finished, (done + 1) / (asked + 2), ties by Random.
 * Oort      Lai, Zhu, Madhyastha, Chowdhury, Oort: Efficient Federated Learning via Guided
 *           Participant Selection, OSDI 2021, Algorithm 1, see select.c.
 *
 * Those that hold an update for the very work that is to be done come first: it costs them nothing.
 * Any thread. */
#ifndef FL_WORKLOADS_AGGREGATOR_SELECT_H
#define FL_WORKLOADS_AGGREGATOR_SELECT_H

#include "workloads/protocol/protocol.h"

/* What is known of one who could take part; it is kept with the member. */
struct fl_candidate {
    const char *id;
    bool holds;            /* an update for this work */
    int64_t asked, done;   /* tasks */
    int64_t examples;      /* trained on the last time, or declared */
    double loss;           /* root mean square (or mean) loss of that; NAN: never took part */
    int64_t last_round;    /* in which that was */
    int64_t duration_ms;   /* from task to update; 0: not known */
    double expected_speed; /* of those not tried yet: higher first; 0: not known */
};

/* Oort's memory between rounds. Lost with the process: then it explores anew. */
struct fl_oort {
    double exploration;  /* share of those that were never tried */
    double preferred_ms; /* the pacer's T; 0: not set yet */
    double pacer_step_ms;
    double window_now,
        window_before; /* utility gained in this window of rounds, and the one before */
    int64_t rounds;    /* in this window */
};
void fl_oort_init(struct fl_oort *oort);
/* After a round: the sum of statistical utility of those that took part. */
void fl_oort_round_done(struct fl_oort *oort, double utility);
double fl_oort_statistical_utility(const struct fl_candidate *candidate);

struct fl_select {
    enum fl_selection selection;
    int64_t seed, round, attempt;
    size_t want;          /* how many will be asked first: exploration is a share of it */
    struct fl_oort *oort; /* Oort only; changed */
};
/* Orders `candidates`: the first `want` are the choice, the rest replace them in that order. */
void fl_select_order(const struct fl_select *select, struct fl_candidate **candidates,
                     size_t count);

/* 64 bits of (seed, round, attempt, id). */
uint64_t fl_select_hash(int64_t seed, int64_t round, int64_t attempt, const char *id);

#endif
