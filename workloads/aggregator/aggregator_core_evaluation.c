/* Evaluation of a model, and metrics, which are means over examples. */
#include "workloads/aggregator/aggregator_core_internal.h"

#include "lib/str.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- metrics -------------------------------------------------------------------------------- */

static void add_metric(struct fl_map *sums, const char *name, double value, int64_t examples)
{
    struct metric_sum *sum = fl_map_get(sums, name);

    struct fl_exact_scalar more;

    if (!isfinite(value) || examples < 1)
        return;
    if (!sum) {
        if (fl_map_count(sums) >= FL_PROTOCOL_METRICS_MAX)
            return;
        sum = fl_calloc(1, sizeof(*sum));
        fl_map_put(sums, name, sum);
    }
    more = sum->sum;
    fl_exact_scalar_add(&more, value * (double)examples);
    if (more.overflow || examples > FL_PROTOCOL_NUMBER_MAX - sum->weight)
        return; /* what does not fit costs nobody else anything */
    sum->sum = more;
    sum->weight += examples;
}

void add_metrics(struct fl_map *sums, const struct fl_metrics *metrics, double loss,
                 int64_t examples)
{
    add_metric(sums, "loss", loss, examples);
    for (size_t i = 0; i < metrics->count; i++)
        if (!fl_streq(metrics->items[i].name, "loss") || !isfinite(loss))
            add_metric(sums, metrics->items[i].name, metrics->items[i].value, examples);
}

static int by_metric_name(const void *a, const void *b)
{
    return strcmp(((const struct fl_metric *)a)->name, ((const struct fl_metric *)b)->name);
}

struct fl_metrics metrics_of(struct fl_arena *arena, const struct fl_map *sums)
{
    struct fl_metrics metrics = {fl_new_array(arena, struct fl_metric, fl_map_count(sums) + 1), 0};
    void *cursor = NULL, *value;
    const char *name;

    while (fl_map_next(sums, &cursor, &name, &value)) {
        const struct metric_sum *sum = value;

        metrics.items[metrics.count++] = (struct fl_metric){
            fl_arena_strdup(arena, name), fl_exact_scalar_get(&sum->sum) / (double)sum->weight};
    }
    if (metrics.count > 0)
        qsort(metrics.items, metrics.count, sizeof(*metrics.items), by_metric_name);
    return metrics;
}

/* --- evaluation ----------------------------------------------------------------------------- */

void start_evaluation(struct fl_aggregator_core *core, const char *model, int64_t model_size,
                      int64_t round, int64_t deadline_ms, bool for_parent)
{
    struct evaluation *evaluation = &core->evaluation;
    void *cursor = NULL, *value;

    drop_evaluation(core);
    *evaluation = (struct evaluation){.round = round,
                                      .model_size = model_size,
                                      .for_parent = for_parent,
                                      .start_ms = core->now_ms,
                                      .deadline_ms = core->now_ms + deadline_ms,
                                      .max_examples = most_examples(core)};
    (void)snprintf(evaluation->model, sizeof(evaluation->model), "%s", model);
    keep_model(core, model);
    fl_map_destroy(core->evaluation_metrics);
    core->evaluation_metrics = fl_map_create(free);
    while (fl_map_next(core->members, &cursor, NULL, &value))
        ((struct member *)value)->asked_evaluation = false;
    if (!for_parent)
        core->status.phase = FL_ROUND_EVALUATING;
    touch(core);
}

static void ask_to_evaluate(struct fl_aggregator_core *core)
{
    FL_CLEANUP(fl_freep)
    struct fl_candidate **candidates = fl_calloc(fl_map_count(core->members) + 1, sizeof(void *));
    struct fl_select how = {.selection = FL_SELECTION_RANDOM,
                            .seed = core->spec.seed,
                            .round = core->evaluation.round,
                            .attempt = -2};
    void *cursor = NULL, *value;
    size_t count = 0, want;

    while (fl_map_next(core->members, &cursor, NULL, &value)) {
        struct member *member = value;

        if (is_available(core, member) && fits_round(core, member) && member->duty == DUTY_NONE &&
            !member->asked_evaluation) {
            member->stats.holds = false;
            candidates[count++] = &member->stats;
        }
    }
    if (count == 0)
        return;
    fl_select_order(&how, candidates, count);
    want = core->evaluation.for_parent ? count : share_of(core->spec.evaluation.fraction, count);
    for (size_t i = 0; i < want; i++) {
        struct member *member = find_member(core, candidates[i]->id);

        member->duty = DUTY_EVALUATE;
        member->duty_round = core->evaluation.round;
        member->asked_evaluation = true;
        core->evaluation.active++;
        set_task(core, member, FL_TASK_EVALUATE);
    }
}

void finish_evaluation(struct fl_aggregator_core *core)
{
    struct fl_record record = {.kind = FL_RECORD_EVALUATE, .round = core->evaluation.round};
    struct fl_round_report *status = &core->status;

    end_duties(core, DUTY_EVALUATE, false, NULL);
    if (core->evaluation.for_parent) {
        tell_parent_evaluation(core);
        core->evaluation = (struct evaluation){0};
        return;
    }
    status->evaluation = metrics_of(core->round_arena, core->evaluation_metrics);
    status->evaluate_ms = core->now_ms - core->evaluation.start_ms;
    status->total_ms = core->now_ms - core->round_start_ms;
    status->phase = FL_ROUND_COMMITTED;
    touch(core);
    record.attempt = core->attempt_number;
    record.status = *status;
    journal(core, &record);
    core->evaluation = (struct evaluation){0};
}

/* Nobody wants to know any more. */
void drop_evaluation(struct fl_aggregator_core *core)
{
    end_duties(core, DUTY_EVALUATE, false, NULL);
    core->evaluation = (struct evaluation){0};
}

void advance_evaluation(struct fl_aggregator_core *core)
{
    struct evaluation *evaluation = &core->evaluation;

    if (evaluation->active == 0 && evaluation->reported == 0 &&
        core->now_ms < evaluation->deadline_ms)
        ask_to_evaluate(core);
    if ((evaluation->active == 0 && evaluation->reported > 0) ||
        core->now_ms >= evaluation->deadline_ms)
        finish_evaluation(core);
}

/* A claim is bounded as in training; a tier's is of many. */
static void count_result(struct fl_aggregator_core *core, const struct member *member,
                         const struct fl_result *result)
{
    int64_t most = core->evaluation.max_examples, examples = result->examples;

    if (most > 0 && !member->aggregator && examples > most)
        examples = most;
    add_metrics(core->evaluation_metrics, &result->metrics, result->loss, examples);
    core->evaluation.examples = add_up(core->evaluation.examples, examples);
}

void handle_result(struct fl_aggregator_core *core, uint64_t request,
                   const struct fl_result *result)
{
    struct member *member = find_member(core, result->learner);
    struct fl_answer answer = {.verdict = FL_VERDICT_COUNTED};
    struct fl_error err;

    if (!member) {
        (void)fl_error_set(&err, FL_E_NOT_FOUND, "not a member: join first");
        reply_error(core, request, &err, FL_REASON_NOT_JOINED);
        return;
    }
    member->heard_ms = core->now_ms;
    if (member->duty != DUTY_EVALUATE || !fl_streq(result->model, core->evaluation.model)) {
        answer.verdict = member->asked_evaluation ? FL_VERDICT_COUNTED : FL_VERDICT_REFUSED;
        answer.reason = member->asked_evaluation ? NULL : "NotAsked";
    } else {
        count_result(core, member, result);
        core->evaluation.reported++;
        finish_duty(core, member);
        set_task(core, member, FL_TASK_WAIT);
    }
    reply(core, request, &fl_form_answer, &answer);
}
