#include "reconcilers/flround/flround_order.h"

#include "api/field.h"
#include "lib/str.h"
#include "reconcilers/federation/where.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

static void set_real(double *to, const char *decimal)
{
    if (decimal)
        *to = strtod(decimal, NULL);
}

static void set_span(int64_t *to, const char *duration)
{
    if (duration)
        (void)fl_duration_parse(duration, to);
}

static void set_int(int64_t *to, bool has, int64_t value)
{
    if (has)
        *to = value;
}

/* --- local ---------------------------------------------------------------------------------- */

static void put_local(const struct fl_flround_plan *plan, struct fl_local_options *local)
{
    const struct fl_project_training_local *from = &plan->project->spec.training.local;
    const struct fl_round_local *over = &plan->round->spec.local;
    double decay = 1;

    local->epochs = from->epochs;
    local->batch_size = from->batch_size;
    set_int(&local->epochs, over->has_epochs, over->epochs);
    set_int(&local->batch_size, over->has_batch_size, over->batch_size);
    set_real(&local->learning_rate, fl_str_or(over->learning_rate, from->learning_rate));
    set_real(&local->momentum, fl_str_or(over->momentum, from->momentum));
    set_real(&local->weight_decay, fl_str_or(over->weight_decay, from->weight_decay));
    set_real(&local->proximal_mu, fl_str_or(over->proximal_mu, from->proximal_mu));
    set_real(&decay, fl_str_or(over->learning_rate_decay, from->learning_rate_decay));
    local->learning_rate *= pow(decay, (double)(plan->number - 1));
    local->config = over->config ? over->config : from->config;
}

/* --- strategy ------------------------------------------------------------------------------- */

static const char *const strategies[] = {
    [FL_PROJECT_TRAINING_STRATEGY_NAME_FED_AVG] = "FedAvg",
    [FL_PROJECT_TRAINING_STRATEGY_NAME_FED_AVG_M] = "FedAvgM",
    [FL_PROJECT_TRAINING_STRATEGY_NAME_FED_PROX] = "FedProx",
    [FL_PROJECT_TRAINING_STRATEGY_NAME_FED_ADAGRAD] = "FedAdagrad",
    [FL_PROJECT_TRAINING_STRATEGY_NAME_FED_ADAM] = "FedAdam",
    [FL_PROJECT_TRAINING_STRATEGY_NAME_FED_YOGI] = "FedYogi",
    [FL_PROJECT_TRAINING_STRATEGY_NAME_FED_NOVA] = "FedNova",
    [FL_PROJECT_TRAINING_STRATEGY_NAME_QFED_AVG] = "QFedAvg",
    [FL_PROJECT_TRAINING_STRATEGY_NAME_MEDIAN] = "Median",
    [FL_PROJECT_TRAINING_STRATEGY_NAME_TRIMMED_MEAN] = "TrimmedMean",
    [FL_PROJECT_TRAINING_STRATEGY_NAME_KRUM] = "Krum",
    [FL_PROJECT_TRAINING_STRATEGY_NAME_MULTI_KRUM] = "MultiKrum",
    [FL_PROJECT_TRAINING_STRATEGY_NAME_BULYAN] = "Bulyan",
    [FL_PROJECT_TRAINING_STRATEGY_NAME_GEOMETRIC_MEDIAN] = "GeometricMedian",
    [FL_PROJECT_TRAINING_STRATEGY_NAME_NORM_BOUND] = "NormBound",
    [FL_PROJECT_TRAINING_STRATEGY_NAME_FED_BUFF] = "FedBuff",
};

/* The two enums list the same rules. */
static_assert((int)FL_ROUND_STRATEGY_NAME_FED_BUFF ==
                  (int)FL_PROJECT_TRAINING_STRATEGY_NAME_FED_BUFF,
              "a round's rules are the project's");

/* Project and round have the same fields in two structs. */
#define PUT_STRATEGY(to, from)                                                                     \
    do {                                                                                           \
        if ((from)->name)                                                                          \
            (to)->name = strategies[(from)->name];                                                 \
        set_real(&(to)->server_learning_rate, (from)->server_learning_rate);                       \
        set_real(&(to)->server_momentum, (from)->server_momentum);                                 \
        set_real(&(to)->beta1, (from)->beta1);                                                     \
        set_real(&(to)->beta2, (from)->beta2);                                                     \
        set_real(&(to)->tau, (from)->tau);                                                         \
        set_real(&(to)->q, (from)->q);                                                             \
        set_real(&(to)->trim_fraction, (from)->trim_fraction);                                     \
        set_real(&(to)->norm_bound, (from)->norm_bound);                                           \
        set_int(&(to)->byzantine_learners, (from)->has_byzantine_learners,                         \
                (from)->byzantine_learners);                                                       \
        set_int(&(to)->select_updates, (from)->has_select_updates, (from)->select_updates);        \
        set_int(&(to)->max_iterations, (from)->has_max_iterations, (from)->max_iterations);        \
        set_int(&(to)->buffer_size, (from)->has_buffer_size, (from)->buffer_size);                 \
    } while (0)

/* With a name the round's takes the place of the project's as a whole. */
static void put_strategy(const struct fl_flround_plan *plan, struct fl_strategy_spec *strategy)
{
    const struct fl_project_training_strategy *from = &plan->project->spec.training.strategy;
    const struct fl_round_strategy *over = &plan->round->spec.strategy;

    if (!plan->round->spec.has_strategy || !over->name)
        PUT_STRATEGY(strategy, from);
    if (plan->round->spec.has_strategy)
        PUT_STRATEGY(strategy, over);
}

/* --- participation -------------------------------------------------------------------------- */

static void put_participation(const struct fl_flround_plan *plan, struct fl_participation_spec *to)
{
    const struct fl_project_training_participation *from =
        &plan->project->spec.training.participation;
    const struct fl_round_participation *over = &plan->round->spec.participation;

    to->min_available = from->min_available;
    to->retry_limit = from->retry_limit;
    set_int(&to->quorum, from->has_quorum, from->quorum);
    set_int(&to->min_available, over->has_min_available, over->min_available);
    set_int(&to->retry_limit, over->has_retry_limit, over->retry_limit);
    set_int(&to->quorum, over->has_quorum, over->quorum);
    set_span(&to->available_within_ms, fl_str_or(over->available_within, from->available_within));
    set_span(&to->deadline_ms, fl_str_or(over->deadline, from->deadline));
    set_real(&to->fraction, fl_str_or(over->fraction, from->fraction));
    set_real(&to->over_selection, fl_str_or(over->over_selection, from->over_selection));
    set_real(&to->max_example_share, fl_str_or(over->max_example_share, from->max_example_share));
    if (from->selection)
        to->selection = (enum fl_selection)from->selection;
    if (over->selection)
        to->selection = (enum fl_selection)over->selection;
    if (to->quorum > to->min_available)
        to->quorum = to->min_available; /* overridden apart from each other */
}

static_assert((int)FL_PROJECT_TRAINING_PARTICIPATION_SELECTION_OORT == (int)FL_SELECTION_OORT &&
                  (int)FL_ROUND_PARTICIPATION_SELECTION_OORT == (int)FL_SELECTION_OORT,
              "selections are the protocol's");

/* --- the rest ------------------------------------------------------------------------------- */

bool fl_flround_is_evaluated(const struct fl_project *project, int64_t number)
{
    const struct fl_project_training_evaluation *evaluation = &project->spec.training.evaluation;
    const int64_t every = evaluation->every_rounds > 0 ? evaluation->every_rounds : 1;

    return evaluation->mode != FL_PROJECT_TRAINING_EVALUATION_MODE_NONE &&
           (number % every == 0 || number >= project->spec.training.rounds);
}

static_assert((int)FL_PROJECT_TRAINING_MODE_ASYNC == (int)FL_MODE_ASYNC &&
                  (int)FL_PROJECT_TRAINING_STALENESS_WEIGHTING_EXPONENTIAL ==
                      (int)FL_WEIGHTING_EXPONENTIAL,
              "modes and weightings are the protocol's");

static void put_staleness(const struct fl_project_training *training, struct fl_staleness_spec *to)
{
    if (!training->has_staleness)
        return;
    to->max_rounds = training->staleness.max_rounds;
    if (training->staleness.weighting)
        to->weighting = (enum fl_weighting)training->staleness.weighting;
    set_real(&to->exponent, training->staleness.exponent);
}

static void put_evaluation(const struct fl_flround_plan *plan, struct fl_evaluation_spec *to)
{
    const struct fl_project_training_evaluation *from = &plan->project->spec.training.evaluation;

    to->enabled = fl_flround_is_evaluated(plan->project, plan->number);
    set_real(&to->fraction, from->fraction);
    set_span(&to->deadline_ms, from->deadline);
}

/* The root tells the first tier; each hands it on. */
static void put_tiers(const struct fl_project_spec *spec, struct fl_round_order *order)
{
    const struct fl_project_topology_tier *first =
        spec->topology.tiers.count > 0 ? &spec->topology.tiers.items[0] : NULL;

    if (!first)
        return;
    if (first->rounds_per_parent_round > 0)
        order->rounds_per_parent_round = first->rounds_per_parent_round;
    set_span(&order->tier_deadline_ms, first->deadline);
}

/* What protects people must not be left out in silence. */
static int check(const struct fl_project_spec *spec, struct fl_error *err)
{
    if (spec->has_privacy &&
        (spec->privacy.has_secure_aggregation || spec->privacy.has_differential_privacy))
        return fl_error_set(err, FL_E_INVALID,
                            "the project's spec.privacy is not kept by this version, and nothing "
                            "is trained without it");
    return 0;
}

int fl_flround_order(const struct fl_flround_plan *plan, struct fl_arena *arena,
                     struct fl_round_order *ret_order, struct fl_error *err)
{
    const struct fl_project_spec *spec = &plan->project->spec;
    struct fl_round_order *order = ret_order;

    if (check(spec, err) < 0)
        return err ? err->code : FL_E_INVALID;
    fl_message_init(&fl_form_round_order, order);
    order->project = fl_federation_name(arena, &plan->project->meta);
    order->round = plan->number;
    order->run = plan->run;
    order->model = plan->base;
    order->model_size = plan->base ? plan->base_size : 0;
    if (spec->training.mode)
        order->mode = (enum fl_mode)spec->training.mode;
    order->seed = spec->training.seed;
    put_local(plan, &order->local);
    put_strategy(plan, &order->strategy);
    put_participation(plan, &order->participation);
    put_staleness(&spec->training, &order->staleness);
    put_evaluation(plan, &order->evaluation);
    order->tags.items = fl_new_array(arena, const char *, spec->data.tags.count + 1);
    for (size_t i = 0; i < spec->data.tags.count; i++)
        order->tags.items[order->tags.count++] = spec->data.tags.items[i];
    order->min_examples = spec->data.min_examples;
    put_tiers(spec, order);
    return 0;
}
