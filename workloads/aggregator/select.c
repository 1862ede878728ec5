/* Selection. Oort (Lai et al., OSDI 2021), as built here:
 *
 *   statistical utility of learner i   |B_i| * sqrt(mean of squared losses); where a learner says
 *                                      its mean loss only, that
 *   staleness of that knowledge        + sqrt(0.1 ln R / last round), times the mean utility, since
 *                                      utilities have no unit
 *   systemic utility                   * (T / t_i)^alpha where t_i > T, alpha = 2
 *   utilities are cut at their 95th percentile, so that outliers (and liars) do not always win
 *   exploitation                       by chance in proportion to utility, among those of at least
 *                                      95 % of the utility of the one at the cut
 *   exploration                        a share of 0.9 at first, times 0.98 each round, at least
 * 0.2: of those never tried, by expected speed pacer                              T grows by a step
 * where the utility gained in a window of 20 rounds falls below that of the window before
 *
 * T begins as the duration of the learner at the 30th percentile of those tried, and its step is a
 * third of that. */
#include "workloads/aggregator/select.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EXPLORATION_FIRST 0.9
#define EXPLORATION_DECAY 0.98
#define EXPLORATION_LEAST 0.2
#define CUT               0.95
#define PACER_WINDOW      20
#define PACER_SHARE       0.3
#define SLOW_PENALTY      2.0

struct ranked {
    struct fl_candidate *candidate;
    double key; /* the highest first */
    uint64_t hash;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->key != y->key)
        return x->key > y->key ? -1 : 1;
    if (x->hash != y->hash)
        return x->hash > y->hash ? -1 : 1;
    return strcmp(x->candidate->id, y->candidate->id);
}

uint64_t fl_select_hash(int64_t seed, int64_t round, int64_t attempt, const char *id)
{
    return fl_protocol_hash(seed, round, attempt + 1, id);
}

/* --- Oort ----------------------------------------------------------------------------------- */

void fl_oort_init(struct fl_oort *oort)
{
    *oort = (struct fl_oort){.exploration = EXPLORATION_FIRST};
}

double fl_oort_statistical_utility(const struct fl_candidate *candidate)
{
    return isfinite(candidate->loss) ? (double)candidate->examples * fabs(candidate->loss) : 0;
}

void fl_oort_round_done(struct fl_oort *oort, double utility)
{
    oort->exploration = fmax(EXPLORATION_LEAST, oort->exploration * EXPLORATION_DECAY);
    oort->window_now += utility;
    if (++oort->rounds < PACER_WINDOW)
        return;
    if (oort->window_now < oort->window_before)
        oort->preferred_ms += oort->pacer_step_ms;
    oort->window_before = oort->window_now;
    oort->window_now = 0;
    oort->rounds = 0;
}

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double percentile(double *values, size_t count, double share)
{
    qsort(values, count, sizeof(*values), by_double);
    return values[(size_t)((double)(count - 1) * share)];
}

static void set_pace(struct fl_oort *oort, const struct ranked *tried, size_t count)
{
    FL_CLEANUP(fl_freep) double *durations = fl_calloc(count, sizeof(*durations));
    size_t known = 0;

    for (size_t i = 0; i < count; i++)
        if (tried[i].candidate->duration_ms > 0)
            durations[known++] = (double)tried[i].candidate->duration_ms;
    if (known == 0)
        return;
    oort->preferred_ms = percentile(durations, known, PACER_SHARE);
    oort->pacer_step_ms = oort->preferred_ms / 3;
}

/* Utility of all that were tried, into their keys. */
static void rate(const struct fl_select *select, struct ranked *tried, size_t count)
{
    FL_CLEANUP(fl_freep) double *sorted = fl_calloc(count, sizeof(*sorted));
    double mean = 0, cut, pace = select->oort->preferred_ms;

    for (size_t i = 0; i < count; i++)
        sorted[i] = tried[i].key = fl_oort_statistical_utility(tried[i].candidate);
    cut = percentile(sorted, count, CUT);
    for (size_t i = 0; i < count; i++) /* a liar's would drown all others' */
        mean += fmin(tried[i].key, cut) / (double)count;
    for (size_t i = 0; i < count; i++) {
        const struct fl_candidate *candidate = tried[i].candidate;
        double last = (double)(candidate->last_round > 0 ? candidate->last_round : 1);
        double slow = (double)candidate->duration_ms;

        tried[i].key =
            fmin(tried[i].key, cut) + mean * sqrt(0.1 * log((double)select->round + 1) / last);
        if (pace > 0 && slow > pace)
            tried[i].key *= pow(pace / slow, SLOW_PENALTY);
    }
}

/* In proportion to utility among the best: the key becomes u^(1/w) (Efraimidis and Spirakis), with
 * u from the hash. Those below the cut follow by utility. */
static void draw(struct ranked *tried, size_t count, size_t want)
{
    double cut;

    qsort(tried, count, sizeof(*tried), by_rank);
    cut = CUT * tried[want < count ? want : count - 1].key;
    for (size_t i = 0; i < count; i++) {
        double uniform = ((double)(tried[i].hash >> 11) + 0.5) / 9007199254740992.0;

        if (tried[i].key >= cut && tried[i].key > 0)
            tried[i].key = 1 + exp(log(uniform) / (tried[i].key / cut));
        else
            tried[i].key = tried[i].key / (1 + tried[i].key); /* below 1, in the same order */
    }
    qsort(tried, count, sizeof(*tried), by_rank);
}

/* Tried ones first in `ranked`, then the others; both in order; then mixed by the shares. */
static void order_by_oort(const struct fl_select *select, struct ranked *ranked, size_t count,
                          size_t tried)
{
    FL_CLEANUP(fl_freep) struct ranked *mixed = fl_calloc(count + 1, sizeof(*mixed));
    size_t want = select->want < count ? select->want : count;
    size_t explore = (size_t)((double)want * select->oort->exploration + 0.5), used = 0, fresh;

    if (select->oort->preferred_ms <= 0)
        set_pace(select->oort, ranked, tried);
    explore = explore < count - tried ? explore : count - tried;
    if (want - explore > tried)
        explore = want - tried;
    if (tried > 0) {
        rate(select, ranked, tried);
        draw(ranked, tried, want - explore);
    }
    qsort(ranked + tried, count - tried, sizeof(*ranked), by_rank);
    for (size_t i = 0; i < want - explore; i++)
        mixed[used++] = ranked[i];
    for (fresh = 0; fresh < explore; fresh++)
        mixed[used++] = ranked[tried + fresh];
    for (size_t i = want - explore; i < tried; i++)
        mixed[used++] = ranked[i];
    for (; tried + fresh < count; fresh++)
        mixed[used++] = ranked[tried + fresh];
    memcpy(ranked, mixed, count * sizeof(*ranked));
}

/* --- the front door ------------------------------------------------------------------------- */

static double key_of(const struct fl_select *select, const struct fl_candidate *candidate)
{
    if (select->selection == FL_SELECTION_AVAILABILITY)
        return (double)(candidate->done + 1) / (double)(candidate->asked + 2);
    if (select->selection == FL_SELECTION_OORT && isnan(candidate->loss))
        return candidate->expected_speed;
    return 0;
}

void fl_select_order(const struct fl_select *select, struct fl_candidate **candidates, size_t count)
{
    FL_CLEANUP(fl_freep) struct ranked *ranked = fl_calloc(count + 1, sizeof(*ranked));
    bool oort = select->selection == FL_SELECTION_OORT;
    size_t holders = 0, front, back = count, tried;

    for (size_t i = 0; i < count; i++)
        holders += candidates[i]->holds;
    front = holders;
    holders = 0;
    for (size_t i = 0; i < count; i++) {
        struct fl_candidate *c = candidates[i];
        bool last = !c->holds && oort && isnan(c->loss);
        size_t at = c->holds ? holders++ : last ? --back : front++;

        ranked[at] =
            (struct ranked){c, key_of(select, c),
                            fl_select_hash(select->seed, select->round, select->attempt, c->id)};
    }
    tried = front - holders;
    qsort(ranked, holders, sizeof(*ranked), by_rank);
    if (oort) {
        struct fl_select rest = *select;

        rest.want = select->want > holders ? select->want - holders : 0;
        order_by_oort(&rest, ranked + holders, count - holders, tried);
    } else {
        qsort(ranked + holders, count - holders, sizeof(*ranked), by_rank);
    }
    for (size_t i = 0; i < count; i++)
        candidates[i] = ranked[i].candidate;
}
