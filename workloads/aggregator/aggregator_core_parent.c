/* The parent: its tasks become rounds of ours, and their sums go up. */
#include "workloads/aggregator/aggregator_core_internal.h"

#include "lib/str.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static void parent_texts(struct fl_aggregator_core *core, struct fl_offer *offer)
{
    struct fl_arena *arena = core->action_arena;

    offer->digest = fl_arena_strdup(arena, core->model);
    offer->contributors.items = fl_new_array(arena, const char *, core->contributors.count + 1);
    offer->contributors.count = core->contributors.count;
    for (size_t i = 0; i < core->contributors.count; i++)
        offer->contributors.items[i] = fl_arena_strdup(arena, core->contributors.items[i]);
}

/* `reason` NULL: the partial sum is there. */
void tell_parent_fit(struct fl_aggregator_core *core, const char *reason, const char *message)
{
    struct fl_aggregator_action *action;
    struct fl_parent_result *result;
    double loss = NAN;

    if (!core->parent_task || core->parent_task->kind != FL_TASK_FIT)
        return;
    action = act(core, FL_AGGREGATOR_PARENT_RESULT);
    result = &action->parent;
    fl_message_init(&fl_form_offer, &result->offer);
    result->work = act_text(core, core->parent_task->work);
    result->ok = reason == NULL;
    result->reason = act_text(core, reason);
    result->message = act_text(core, message);
    if (reason)
        return;
    parent_texts(core, &result->offer);
    result->offer.size = core->model_size;
    result->offer.partial = true;
    result->offer.examples = core->status.examples;
    result->offer.metrics.items =
        fl_new_array(core->action_arena, struct fl_metric, core->status.train.count + 1);
    for (size_t i = 0; i < core->status.train.count; i++) {
        struct fl_metric metric = core->status.train.items[i];

        if (fl_streq(metric.name, "loss"))
            loss = metric.value;
        metric.name = act_text(core, metric.name);
        result->offer.metrics.items[result->offer.metrics.count++] = metric;
    }
    result->offer.loss = loss;
}

void tell_parent_evaluation(struct fl_aggregator_core *core)
{
    struct fl_aggregator_action *action = act(core, FL_AGGREGATOR_PARENT_RESULT);
    struct fl_parent_result *result = &action->parent;

    fl_message_init(&fl_form_result, &result->result);
    result->ok = true;
    result->evaluation = true;
    result->work = act_text(core, core->evaluation.model);
    result->result.round = core->evaluation.round;
    result->result.model = result->work;
    result->result.examples = core->evaluation.examples;
    result->result.metrics = metrics_of(core->action_arena, core->evaluation_metrics);
    for (size_t i = 0; i < result->result.metrics.count; i++)
        if (fl_streq(result->result.metrics.items[i].name, "loss"))
            result->result.loss = result->result.metrics.items[i].value;
}

/* A parent may ask for what is no round of ours. */
static int check_spec(const struct fl_round_order *spec, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_bytes_unrefp)
    struct fl_bytes *text = fl_message_encode(&fl_form_round_order, spec);
    struct fl_round_order read;

    return fl_message_decode(arena, &fl_form_round_order, text->data, text->len, &read, err);
}

/* Our own rounds for one of the parent's: numbered on, so that round r of the parent is rounds
 * (r - 1) * n + 1 … r * n of ours. */
static void start_parent_step(struct fl_aggregator_core *core, int64_t round, const char *model,
                              int64_t model_size)
{
    const struct fl_task *task = core->parent_task;
    bool again = core->has_round && core->spec.round == round;
    struct fl_round_order spec;
    struct fl_error err = {0};

    fl_message_init(&fl_form_round_order, &spec);
    spec.project = task->project;
    spec.round = round;
    spec.model = model;
    spec.model_size = model_size;
    spec.seed = task->seed;
    spec.local = task->local;
    spec.strategy = task->tier.strategy;
    if (fl_streq(spec.strategy.name, "FedBuff")) { /* its buffer is the parent's; ours is a part */
        spec.mode = FL_MODE_ASYNC;
        spec.staleness.max_rounds = 0;
    }
    spec.tags = task->tags;
    spec.min_examples = task->min_examples;
    spec.range_bits = task->tier.precision.range_bits;
    spec.participation.quorum = spec.participation.min_available = task->tier.quorum;
    spec.participation.fraction = task->tier.fraction;
    spec.participation.over_selection = task->tier.over_selection;
    spec.participation.deadline_ms = task->tier.deadline_ms;
    spec.participation.available_within_ms = task->tier.deadline_ms;
    spec.participation.retry_limit = task->tier.retry_limit;
    spec.rounds_per_parent_round = task->tier.rounds_per_parent_round;
    if (check_spec(&spec, &err) < 0)
        tell_parent_fit(core, "Invalid", err.msg);
    else
        start_round(core, &spec, &task->tier, task->origin, task->work,
                    again ? core->attempt_number : 0);
}

void next_parent_step(struct fl_aggregator_core *core)
{
    const struct fl_task *task = core->parent_task;
    int64_t steps, last, done;
    bool ours;

    if (!task || task->kind != FL_TASK_FIT)
        return;
    steps = task->tier.rounds_per_parent_round;
    last = task->round * steps;
    ours = core->has_round && fl_streq(core->work, task->work);
    done = ours && core->status.phase == FL_ROUND_COMMITTED ? core->spec.round : 0;
    if (ours && !round_is_over(core))
        return;
    if (done == last)
        tell_parent_fit(core, NULL, NULL);
    else if (done > last - steps)
        start_parent_step(core, done + 1, core->model, core->model_size);
    else
        start_parent_step(core, last - steps + 1, task->model, task->model_size);
}

static void set_parent_task(struct fl_aggregator_core *core, const struct fl_task *task)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_task *copy = fl_new(arena, struct fl_task);

    fl_message_copy(arena, &fl_form_task, task, copy);
    fl_arena_destroy(core->parent_arena);
    core->parent_arena = arena;
    core->parent_task = copy;
}

void tell_parent_initial(struct fl_aggregator_core *core, const char *digest, int64_t size,
                         const char *reason, const char *message)
{
    struct fl_aggregator_action *action = act(core, FL_AGGREGATOR_PARENT_RESULT);
    struct fl_parent_result *result = &action->parent;

    fl_message_init(&fl_form_offer, &result->offer);
    result->ok = reason == NULL;
    result->work = act_text(core, core->initial.work);
    result->reason = act_text(core, reason);
    result->message = act_text(core, message);
    result->offer.digest = act_text(core, digest);
    result->offer.size = size;
    result->offer.examples = 1; /* of nobody's data */
}

void fl_aggregator_parent_fit(struct fl_aggregator_core *core, int64_t now_ms,
                              const struct fl_task *task)
{
    core->now_ms = now_ms;
    assert(task->kind == FL_TASK_FIT && task->tier.present);
    set_parent_task(core, task);
    drop_evaluation(core);
    drop_initial(core);
    if (core->has_round && !fl_streq(core->work, task->work))
        abort_round(core, "the parent has gone on");
    next_parent_step(core);
    advance(core);
}

void fl_aggregator_parent_evaluate(struct fl_aggregator_core *core, int64_t now_ms,
                                   const struct fl_task *task)
{
    core->now_ms = now_ms;
    abort_round(core, "the parent has gone on");
    drop_initial(core);
    set_parent_task(core, task);
    start_evaluation(core, task->model, task->model_size, task->round,
                     (task->deadline_ms * 3 + 3) / 4, true);
    advance(core);
}

void fl_aggregator_parent_cancel(struct fl_aggregator_core *core, int64_t now_ms)
{
    core->now_ms = now_ms;
    core->parent_task = NULL;
    drop_evaluation(core);
    drop_initial(core);
    abort_round(core, "the parent has cancelled it");
    advance(core);
}
