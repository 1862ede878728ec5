/* A round of mode Sync without messages: who is asked, who is in time, what counts, all by the
 * rules of the aggregator's core, so that both make the same model of the same options. */
#include "workloads/aggregator/bounds.h"
#include "workloads/aggregator/select.h"
#include "workloads/simulate/simulate_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

struct memory_rounds {
    struct course *course; /* lent */
    struct fl_candidate *candidates;
    char (*ids)[LEARNER_ID_SIZE];
    struct fl_oort oort;
};

struct round {
    struct memory_rounds *rounds;
    const struct fl_round_order *spec;
    struct fl_candidate **order; /* who is asked next */
    size_t order_count, order_next;
    size_t want, ask, quorum;
    int64_t max_examples; /* that one may count with; 0: no bound */
    int64_t start_ms, deadline_ms;
    struct fl_exact_scalar loss;
    int64_t loss_examples;
    double utility;
    struct fl_simulated_round *counts;
};

int memory_rounds_create(struct course *course, struct memory_rounds **ret_rounds,
                         struct fl_error *err)
{
    struct memory_rounds *rounds = fl_calloc(1, sizeof(*rounds));
    size_t count = course->population->count;

    (void)err;
    rounds->course = course;
    rounds->candidates = fl_calloc(count, sizeof(*rounds->candidates));
    rounds->ids = fl_calloc(count, sizeof(*rounds->ids));
    fl_oort_init(&rounds->oort);
    for (size_t i = 0; i < count; i++) {
        learner_id(i, rounds->ids[i]);
        rounds->candidates[i] =
            (struct fl_candidate){.id = rounds->ids[i],
                                  .examples = (int64_t)course->population->data[i]->count,
                                  .loss = NAN};
    }
    *ret_rounds = rounds;
    return 0;
}

void memory_rounds_destroy(struct memory_rounds *rounds)
{
    if (!rounds)
        return;
    free(rounds->candidates);
    free(rounds->ids);
    free(rounds);
}

/* --- who, and how many ---------------------------------------------------------------------- */

static size_t share_of(double share, size_t count)
{
    size_t n = (size_t)ceil(share * (double)count - 1e-9);

    return n > 0 ? n : 1;
}

static void plan_size(struct round *round)
{
    const struct fl_participation_spec *part = &round->spec->participation;
    size_t available = round->rounds->course->population->count;
    size_t want = share_of(part->fraction, available);

    round->quorum = part->quorum > 0 ? (size_t)part->quorum : want;
    round->want = want < round->quorum ? round->quorum : want;
    round->ask = share_of(part->over_selection, round->want);
    if (round->ask > available)
        round->ask = available;
}

static void choose(struct round *round)
{
    struct memory_rounds *rounds = round->rounds;
    const struct fl_select how = {.selection = round->spec->participation.selection,
                                  .seed = round->spec->seed,
                                  .round = round->spec->round,
                                  .attempt = 1,
                                  .want = round->ask,
                                  .oort = &rounds->oort};

    round->order_count = rounds->course->population->count;
    round->order = fl_calloc(round->order_count, sizeof(struct fl_candidate *));
    for (size_t i = 0; i < round->order_count; i++)
        round->order[i] = &rounds->candidates[i];
    fl_select_order(&how, round->order, round->order_count);
}

static int plan_sums(const struct round *round, struct fl_exact_precision *ret_precision,
                     int64_t *ret_max_examples, struct fl_error *err)
{
    const struct fl_round_order *spec = round->spec;
    const struct population *population = round->rounds->course->population;
    FL_CLEANUP(fl_freep)
    struct fl_declared *list = fl_calloc(population->count + 1, sizeof(*list));
    int64_t weight;

    for (size_t i = 0; i < population->count; i++)
        list[i] = (struct fl_declared){(int64_t)population->data[i]->count, 1};
    *ret_max_examples =
        spec->participation.max_example_share < 1
            ? fl_bound_examples(list, population->count, spec->participation.max_example_share)
            : 0;
    weight = spec->max_weight ? spec->max_weight
                              : fl_bound_weight(list, population->count, *ret_max_examples);
    return fl_exact_plan((unsigned)spec->range_bits, weight, ret_precision, err);
}

static int begin(struct round *round, struct fl_error *err)
{
    struct course *course = round->rounds->course;
    struct fl_exact_precision precision;
    int r = course_use_strategy(course, round->spec, err);

    if (r == 0)
        r = plan_sums(round, &precision, &round->max_examples, err);
    if (r == 0)
        r = fl_strategy_begin(course->strategy, course->model, &precision, round->max_examples,
                              err);
    if (r < 0)
        return r;
    round->start_ms = course->now_ms;
    round->deadline_ms = course->now_ms + round->spec->participation.deadline_ms;
    plan_size(round);
    choose(round);
    return 0;
}

/* --- training ------------------------------------------------------------------------------- */

static void ask(struct round *round, struct fl_candidate *candidate)
{
    struct course *course = round->rounds->course;
    size_t learner = (size_t)(candidate - round->rounds->candidates);
    struct lesson *lesson =
        lesson_create(course->population, learner, round->spec->round, course->model);

    lesson->seed = (uint64_t)fl_protocol_seed(round->spec->seed, round->spec->round, candidate->id);
    lesson->local = round->spec->local;
    lesson->finish_ms =
        course->now_ms + population_delay_ms(course->population, learner, round->spec->round);
    lesson->asked_ms = course->now_ms;
    candidate->asked++;
    round->counts->selected++;
    schedule_add(&course->schedule, lesson);
}

/* At first as many as are to be asked; then as many as are missing. */
static void ask_learners(struct round *round)
{
    const struct schedule *schedule = &round->rounds->course->schedule;
    size_t target = round->counts->selected == 0 ? round->ask : round->want;

    while ((size_t)round->counts->reported + schedule->count < target &&
           round->order_next < round->order_count)
        ask(round, round->order[round->order_next++]);
}

static void accept(struct round *round, const struct lesson *lesson)
{
    struct fl_candidate *candidate = &round->rounds->candidates[lesson->learner];
    struct fl_simulated_round *counts = round->counts;
    int64_t examples = lesson->fit.examples, counted = examples;

    if (round->max_examples > 0 && counted > round->max_examples)
        counted = round->max_examples;
    counts->reported++;
    counts->examples += counted;
    if (isfinite(lesson->fit.loss)) {
        fl_exact_scalar_add(&round->loss, lesson->fit.loss * (double)counted);
        round->loss_examples += counted;
    }
    candidate->done++;
    candidate->examples = examples;
    candidate->loss = lesson->fit.loss;
    candidate->last_round = round->spec->round;
    candidate->duration_ms = lesson->finish_ms - lesson->asked_ms;
    round->utility += fl_oort_statistical_utility(candidate);
}

/* What it brings counts, is refused, or there is nothing. */
static int settle(struct round *round, struct lesson *lesson, struct fl_error *err)
{
    struct course *course = round->rounds->course;
    const struct fl_update_facts facts = {.learner = round->rounds->ids[lesson->learner],
                                          .examples = lesson->fit.examples,
                                          .steps = lesson->fit.steps,
                                          .loss = lesson->fit.loss_before};

    if (lesson->drops || lesson->result < 0) {
        round->counts->dropped++;
        if (!lesson->drops)
            course_note_failure(course, facts.learner, &lesson->err);
        return lesson_check(lesson, err);
    }
    if (fl_strategy_add(course->strategy, lesson->fit.model, &facts, NULL) < 0)
        round->counts->rejected++;
    else
        accept(round, lesson);
    return 0;
}

/* Until all that is wanted is there, nobody is left to ask, or time is over. */
static int train(struct round *round, struct fl_error *err)
{
    const struct fl_simulation *simulation = round->rounds->course->simulation;
    struct course *course = round->rounds->course;

    while ((size_t)round->counts->reported < round->want) {
        FL_CLEANUP(lesson_destroyp) struct lesson *lesson = NULL;
        const struct lesson *next;
        int r;

        ask_learners(round);
        next = schedule_next(&course->schedule);
        if (!next && (size_t)round->counts->reported >= round->quorum)
            break;
        if (!next || next->finish_ms >= round->deadline_ms) {
            course->now_ms = round->deadline_ms;
            break;
        }
        lesson = schedule_take(&course->schedule);
        course->now_ms = lesson->finish_ms;
        r = course_check_interrupt(course, err);
        if (r == 0)
            r = settle(round, lesson, err);
        if (r < 0)
            return r;
        if (simulation->update_done)
            simulation->update_done(simulation->user, round->spec->round, round->counts->reported,
                                    (int64_t)round->want);
    }
    round->counts->late = (int64_t)course->schedule.count;
    schedule_clear(&course->schedule);
    return 0;
}

static int finish(struct round *round, struct fl_error *err)
{
    struct course *course = round->rounds->course;
    const struct fl_simulated_round *counts = round->counts;
    struct fl_model *model;
    int r;

    if ((size_t)counts->reported < round->quorum)
        return fl_error_set(err, FL_E_TIMEOUT,
                            "QuorumNotReached: %" PRId64 " of %zu updates until the deadline: "
                            "%" PRId64 " learners were asked, %" PRId64 " dropped, %" PRId64
                            " late, %" PRId64 " rejected",
                            counts->reported, round->quorum, counts->selected, counts->dropped,
                            counts->late, counts->rejected);
    r = fl_strategy_finish(course->strategy, &model, err);
    if (r < 0)
        return fl_error_wrap(err, "AggregationFailed");
    course_take_model(course, model);
    fl_oort_round_done(&round->rounds->oort, round->utility);
    if (round->loss_examples > 0)
        round->counts->train_loss =
            fl_exact_scalar_get(&round->loss) / (double)round->loss_examples;
    return 0;
}

int memory_round(struct memory_rounds *rounds, const struct fl_round_order *spec,
                 struct fl_simulated_round *ret_round, struct fl_error *err)
{
    struct round round = {.rounds = rounds, .spec = spec, .counts = ret_round};
    int r = begin(&round, err);

    if (r == 0)
        r = train(&round, err);
    if (r == 0)
        r = finish(&round, err);
    schedule_clear(&rounds->course->schedule);
    if (rounds->course->strategy)
        fl_strategy_abandon(rounds->course->strategy);
    free(round.order);
    return r;
}
