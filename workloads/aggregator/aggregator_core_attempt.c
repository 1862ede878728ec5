/* An attempt: who is asked, what is missing, when it is enough. */
#include "workloads/aggregator/aggregator_core_internal.h"
#include "workloads/aggregator/bounds.h"

#include "lib/str.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define BUFFER_DEFAULT 10 /* FedBuff's */

void attempt_finish(struct attempt *attempt)
{
    fl_map_destroy(attempt->counted);
    fl_arena_destroy(attempt->arena);
    free(attempt->download_ms);
    free(attempt->train_ms);
    free(attempt->upload_ms);
    *attempt = (struct attempt){0};
}

/* --- beginning an attempt ------------------------------------------------------------------- */

static bool can_be_asked(const struct fl_aggregator_core *core, const struct member *member)
{
    return is_available(core, member) && fits_round(core, member) && member->duty == DUTY_NONE &&
           !(member->asked_round == core->spec.round &&
             member->asked_attempt == core->attempt_number);
}

int64_t count_learners(const struct fl_aggregator_core *core)
{
    void *cursor = NULL, *value;
    int64_t count = 0;

    while (fl_map_next(core->members, &cursor, NULL, &value)) {
        const struct member *member = value;

        if (is_available(core, member) && fits_round(core, member))
            count += member->aggregator ? member->learners : 1;
    }
    return count;
}

size_t count_available(const struct fl_aggregator_core *core)
{
    void *cursor = NULL, *value;
    size_t count = 0;

    while (fl_map_next(core->members, &cursor, NULL, &value))
        count += is_available(core, value) && fits_round(core, value);
    return count;
}

size_t share_of(double share, size_t count)
{
    size_t n = (size_t)ceil(share * (double)count - 1e-9);

    return n > 0 ? n : 1;
}

static int64_t quorum_of(const struct fl_aggregator_core *core)
{
    const struct fl_participation_spec *part = &core->spec.participation;

    if (part->quorum > 0)
        return part->quorum;
    if (core->spec.mode == FL_MODE_ASYNC)
        return 1;
    return (int64_t)share_of(part->fraction, (size_t)part->min_available);
}

/* Learners whose update counts: of a tier all that its sum is made of. */
static int64_t reported_learners(const struct fl_aggregator_core *core)
{
    int64_t below = (int64_t)core->attempt.contributor_count;

    return core->has_tiers && below > core->status.reported ? below : core->status.reported;
}

static void plan_size(struct fl_aggregator_core *core, size_t available)
{
    const struct fl_participation_spec *part = &core->spec.participation;
    int64_t buffer = core->spec.strategy.buffer_size, quorum = quorum_of(core);
    size_t want = share_of(part->fraction, available);

    if (want < (size_t)quorum)
        want = (size_t)quorum;
    if (core->has_tiers && want > available) /* a quorum of learners, of fewer members */
        want = available;
    core->attempt.ask = share_of(part->over_selection, want);
    if (core->attempt.ask > available)
        core->attempt.ask = available;
    if (core->spec.mode == FL_MODE_ASYNC)
        want = (size_t)(buffer > 0 ? buffer : BUFFER_DEFAULT);
    core->attempt.want = want;
}

static void choose(struct fl_aggregator_core *core)
{
    struct attempt *attempt = &core->attempt;
    size_t count = 0, most = fl_map_count(core->members);
    FL_CLEANUP(fl_freep) struct fl_candidate **candidates = fl_calloc(most + 1, sizeof(void *));
    struct fl_select how = {.selection = core->spec.participation.selection,
                            .seed = core->spec.seed,
                            .round = core->spec.round,
                            .attempt = core->attempt_number,
                            .want = attempt->ask,
                            .oort = &core->oort};
    void *cursor = NULL, *value;

    while (fl_map_next(core->members, &cursor, NULL, &value)) {
        struct member *member = value;

        if (!can_be_asked(core, member))
            continue;
        member->stats.holds = fl_map_get(core->holders, member->id) != NULL;
        candidates[count++] = &member->stats;
    }
    fl_select_order(&how, candidates, count);
    attempt->order = fl_new_array(attempt->arena, const char *, count + 1);
    attempt->order_count = count;
    for (size_t i = 0; i < count; i++)
        attempt->order[i] = fl_arena_strdup(attempt->arena, candidates[i]->id);
}

static size_t list_declared(const struct fl_aggregator_core *core, struct fl_declared *list)
{
    void *cursor = NULL, *value;
    size_t count = 0;

    while (fl_map_next(core->members, &cursor, NULL, &value)) {
        const struct member *member = value;
        int64_t learners = member->aggregator ? member->learners : 1;

        if (learners > 0 && member->examples > 0)
            list[count++] = (struct fl_declared){member->examples, learners};
    }
    return count;
}

int64_t most_examples(const struct fl_aggregator_core *core)
{
    FL_CLEANUP(fl_freep) struct fl_declared *list = NULL;
    int64_t bound;

    if (core->tier.present)
        return core->tier.max_examples;
    if (core->spec.participation.max_example_share >= 1)
        return 0;
    list = fl_calloc(fl_map_count(core->members) + 1, sizeof(*list));
    bound = fl_bound_examples(list, list_declared(core, list),
                              core->spec.participation.max_example_share);
    return bound < FL_PROTOCOL_NUMBER_MAX ? bound : FL_PROTOCOL_NUMBER_MAX;
}

static int64_t planned_weight(const struct fl_aggregator_core *core, int64_t most)
{
    FL_CLEANUP(fl_freep)
    struct fl_declared *list = fl_calloc(fl_map_count(core->members) + 1, sizeof(*list));

    return fl_bound_weight(list, list_declared(core, list), most);
}

/* Where what members declare is more than can be summed, sums are planned for what can: who boasts
 * does not fit, and costs nobody else the round. */
static int plan_sums(struct fl_aggregator_core *core, struct fl_error *err)
{
    const struct fl_round_order *spec = &core->spec;
    struct attempt *attempt = &core->attempt;
    struct fl_exact_precision precision;
    int64_t weight;
    int r;

    attempt->max_examples = most_examples(core);
    if (core->tier.present) {
        attempt->precision = core->tier.precision;
        return 0;
    }
    weight = spec->max_weight ? spec->max_weight : planned_weight(core, attempt->max_examples);
    r = fl_exact_plan((unsigned)spec->range_bits, weight, &precision, err);
    while (r < 0 && !spec->max_weight && weight > 1) {
        weight /= 2;
        r = fl_exact_plan((unsigned)spec->range_bits, weight, &precision, err);
    }
    if (r == 0)
        attempt->precision =
            (struct fl_precision_spec){precision.range_bits, precision.bits, precision.max_weight};
    return r;
}

static void reset_counts(struct fl_aggregator_core *core)
{
    struct fl_round_report *status = &core->status;

    status->selected = status->reported = status->late = status->dropped = status->rejected = 0;
    status->excluded.count = 0;
    status->excluded_omitted = 0;
    status->asked = status->learners = status->examples = 0;
    status->staleness_max = 0;
    status->staleness_mean = 0;
    status->reason = status->message = NULL;
    fl_map_destroy(core->train_metrics);
    core->train_metrics = fl_map_create(free);
}

void fail_attempt(struct fl_aggregator_core *core, const char *reason, const char *message,
                  bool again)
{
    struct fl_round_report *status = &core->status;

    core->attempt.closed = true;
    discard_uploads(core, true);
    end_duties(core, DUTY_FIT, false, NULL);
    if (core->attempt.ticket)
        act(core, FL_AGGREGATOR_ABANDON);
    core->attempt.ticket = 0;
    if (!again || core->failures++ >= core->spec.participation.retry_limit) {
        fail_round(core, FL_ROUND_FAILED, reason, message);
        return;
    }
    status->reason = fl_arena_strdup(core->round_arena, reason);
    status->message = fl_arena_strdup(core->round_arena, message);
    wait_for_members(core);
}

/* Momenta are those of one rule; within a tier, of one round of the parent. */
static const char *state_to_begin_with(const struct fl_aggregator_core *core)
{
    char rule[FL_DIGEST_SIZE];

    digest_rule(core, rule);
    return fl_streq(rule, core->rule) ? text_or_null(core->state) : NULL;
}

void begin_attempt(struct fl_aggregator_core *core, size_t available)
{
    struct attempt *attempt = &core->attempt;
    struct fl_record record = {.kind = FL_RECORD_ATTEMPT, .round = core->spec.round};
    struct fl_aggregator_action *action;
    struct fl_error err = {0};

    attempt_finish(attempt);
    reset_counts(core);
    core->status.attempt = record.attempt = ++core->attempt_number;
    core->status.select_ms = core->now_ms - core->round_start_ms;
    journal(core, &record);
    attempt->arena = fl_arena_create();
    attempt->counted = fl_map_create(NULL);
    attempt->start_ms = core->now_ms;
    attempt->deadline_ms = core->now_ms + core->spec.participation.deadline_ms;
    plan_size(core, available);
    if (plan_sums(core, &err) < 0) {
        fail_attempt(core, "Invalid", err.msg, false);
        return;
    }
    digest_work(core, true, core->tier_work);
    choose(core);
    if (!core->swept) /* now it is known what this life begins with */
        act(core, FL_AGGREGATOR_SWEEP);
    core->swept = true;
    action = act(core, FL_AGGREGATOR_BEGIN);
    action->ticket = attempt->ticket = ++core->tickets;
    action->begin.base = act_text(core, core->spec.model);
    action->begin.state = act_text(core, state_to_begin_with(core));
    action->begin.strategy = &core->spec.strategy;
    action->begin.local_learning_rate = core->spec.local.learning_rate;
    action->begin.precision = attempt->precision;
    action->begin.max_examples = attempt->max_examples;
    action->begin.partial = core->tier.present;
    core->status.phase = FL_ROUND_TRAINING;
    touch(core);
}

void fl_aggregator_begun(struct fl_aggregator_core *core, int64_t now_ms, uint64_t ticket,
                         const struct fl_error *err)
{
    core->now_ms = now_ms;
    if (ticket != core->attempt.ticket || core->attempt.begun)
        return;
    if (err && err->code == FL_E_NOT_FOUND)
        fail_attempt(core, "BaseModelNotFound", err->msg, false);
    else if (err)
        fail_attempt(core, fl_error_reason(err->code), err->msg, fl_error_is_retryable(err->code));
    else
        core->attempt.begun = true;
    advance(core);
}

/* --- training ------------------------------------------------------------------------------- */

static void ask(struct fl_aggregator_core *core, struct member *member)
{
    member->duty = DUTY_FIT;
    member->duty_round = member->asked_round = core->spec.round;
    member->duty_attempt = member->asked_attempt = core->attempt_number;
    member->asked_ms = core->now_ms;
    member->stats.asked++;
    core->attempt.active++;
    core->status.selected++;
    core->status.asked = add_up(core->status.asked, member->aggregator ? member->learners : 1);
    touch(core);
    set_task(core, member, FL_TASK_FIT);
}

static struct member *next_candidate(struct fl_aggregator_core *core)
{
    struct attempt *attempt = &core->attempt;
    void *cursor = NULL, *value;

    while (attempt->order_next < attempt->order_count) {
        struct member *member = find_member(core, attempt->order[attempt->order_next++]);

        if (member && can_be_asked(core, member))
            return member;
    }
    while (fl_map_next(core->members, &cursor, NULL, &value)) /* who came later */
        if (can_be_asked(core, value))
            return value;
    return NULL;
}

/* At first as many as are to be asked; then as many as are missing. */
static void ask_members(struct fl_aggregator_core *core)
{
    struct attempt *attempt = &core->attempt;
    bool first = core->status.selected == 0, async = core->spec.mode == FL_MODE_ASYNC;
    size_t target = first || async ? attempt->ask : attempt->want;
    struct member *member;

    while ((async ? 0 : (size_t)core->status.reported) + attempt->active < target &&
           (member = next_candidate(core)) != NULL)
        ask(core, member);
}

static void finish_attempt(struct fl_aggregator_core *core)
{
    struct fl_aggregator_action *action;
    int64_t quorum = quorum_of(core);
    char message[600];

    if (reported_learners(core) < quorum) {
        (void)snprintf(message, sizeof(message),
                       "%" PRId64 " of %" PRId64 " updates until the deadline: %" PRId64
                       " learners were asked, %" PRId64 " dropped, %" PRId64 " late, %" PRId64
                       " rejected%s%.300s",
                       reported_learners(core), quorum, core->status.selected, core->status.dropped,
                       core->status.late, core->status.rejected, core->attempt.lack ? "; " : "",
                       fl_str_or(core->attempt.lack, ""));
        fail_attempt(core, "QuorumNotReached", message, true);
        return;
    }
    action =
        act(core, core->tier.present && core->spec.round % core->tier.rounds_per_parent_round == 0
                      ? FL_AGGREGATOR_PARTIAL
                      : FL_AGGREGATOR_FINISH);
    action->ticket = core->attempt.ticket;
    core->finishing++;
    core->attempt.finish_ms = core->now_ms;
    core->status.message = NULL;
    core->status.phase = FL_ROUND_AGGREGATING;
    touch(core);
}

static void close_attempt(struct fl_aggregator_core *core, const char *reason)
{
    core->attempt.closed = true;
    discard_uploads(core, false);
    end_duties(core, DUTY_FIT, true, reason);
    if (core->attempt.folding == 0)
        finish_attempt(core);
}

/* Whoever was asked has settled; in mode Async, so have those that are late, and nobody is left to
 * be asked: a buffer larger than what there is does not fill. */
static bool nothing_can_come(const struct fl_aggregator_core *core)
{
    void *cursor = NULL, *value;

    while (core->spec.mode == FL_MODE_ASYNC && fl_map_next(core->members, &cursor, NULL, &value))
        if (((struct member *)value)->duty == DUTY_FIT || can_be_asked(core, value))
            return false;
    return true;
}

void advance_training(struct fl_aggregator_core *core)
{
    struct attempt *attempt = &core->attempt;
    size_t reported = (size_t)core->status.reported;
    bool past = core->now_ms >= attempt->deadline_ms, all_in;

    if (!attempt->begun) {
        if (past)
            fail_attempt(core, "Timeout", "the attempt did not begin before its deadline", true);
        return;
    }
    if (attempt->closed) {
        if (attempt->folding == 0)
            finish_attempt(core);
        return;
    }
    if (!past)
        ask_members(core);
    fold_staged(core);
    all_in = attempt->active == 0 && attempt->folding == 0 && reported > 0 &&
             reported_learners(core) >= quorum_of(core) && nothing_can_come(core);
    if (reported >= attempt->want && attempt->folding == 0 && core->spec.mode != FL_MODE_SEMISYNC)
        close_attempt(core, "EnoughUpdates");
    else if (all_in || past)
        close_attempt(core, "Deadline");
}
