/* The life of a round: its beginning, duties and their end, what time does. */
#include "workloads/aggregator/aggregator_core_internal.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool round_is_over(const struct fl_aggregator_core *core)
{
    return core->status.phase == FL_ROUND_COMMITTED || core->status.phase == FL_ROUND_FAILED ||
           core->status.phase == FL_ROUND_ABORTED;
}

/* --- a new round ---------------------------------------------------------------------------- */

void digest_work(const struct fl_aggregator_core *core, bool tier, char out[FL_DIGEST_SIZE])
{
    const struct fl_round_order *spec = &core->spec;
    struct fl_round_order work;
    struct fl_tier_spec sums;
    FL_JSON value = json_object();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;

    fl_message_init(&fl_form_round_order, &work);
    work.project = spec->project;
    work.round = spec->round;
    work.model = spec->model;
    work.model_size = spec->model_size;
    work.seed = spec->seed;
    work.local = spec->local;
    work.tags = spec->tags;
    work.strategy.name = "FedAvg"; /* what the server makes of it is no part of the work */
    json_object_set_new(value, "work", fl_message_to_json(&fl_form_round_order, &work));
    fl_message_init(&fl_form_tier, &sums);
    sums.present = tier;
    sums.strategy = spec->strategy;
    sums.precision = core->attempt.precision;
    sums.max_examples = core->attempt.max_examples;
    sums.rounds_per_parent_round = spec->rounds_per_parent_round;
    if (tier)
        json_object_set_new(value, "tier", fl_message_to_json(&fl_form_tier, &sums));
    text = fl_json_to_bytes(value);
    fl_digest_of(text->data, text->len, out);
}

void install_round(struct fl_aggregator_core *core, const struct fl_round_order *spec,
                   const struct fl_tier_spec *tier, const char *origin, const char *work,
                   int64_t attempt)
{
    struct fl_arena *arena = fl_arena_create();

    fl_message_copy(arena, &fl_form_round_order, spec, &core->spec);
    fl_bytes_unref(core->spec_text);
    core->spec_text = fl_message_encode(&fl_form_round_order, spec);
    fl_message_init(&fl_form_tier, &core->tier);
    if (tier && tier->present)
        fl_message_copy(arena, &fl_form_tier, tier, &core->tier);
    core->origin = origin ? fl_arena_strdup(arena, origin) : NULL;
    core->work = work ? fl_arena_strdup(arena, work) : NULL;
    core->excluded = fl_new_array(arena, struct fl_exclusion, FL_PROTOCOL_EXCLUDED_MAX);
    fl_arena_destroy(core->round_arena);
    core->round_arena = arena;
    core->has_round = true;
    core->attempt_number = attempt;
    core->failures = 0;
    core->made_base = false;
    if (!core->project)
        core->project = fl_strdup(spec->project);
    attempt_finish(&core->attempt);
    fl_map_destroy(core->holders);
    core->holders = fl_map_create(NULL);
    core->round_start_ms = core->now_ms;
    fl_message_init(&fl_form_round_report, &core->status);
    core->status.project = core->project;
    core->status.round = spec->round;
    core->status.run = spec->run;
    core->status.base = core->spec.model;
    core->status.base_size = core->spec.model_size;
    core->status.attempt = attempt;
    digest_work(core, false, core->leaf_work);
}

/* Which strategy, with which parameters. */
void digest_rule(const struct fl_aggregator_core *core, char out[FL_DIGEST_SIZE])
{
    struct fl_tier_spec tier;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;

    fl_message_init(&fl_form_tier, &tier);
    tier.strategy = core->spec.strategy;
    text = fl_message_encode(&fl_form_tier, &tier);
    fl_digest_of(text->data, text->len, out);
}

void wait_for_members(struct fl_aggregator_core *core)
{
    core->status.phase = FL_ROUND_WAITING;
    core->wait_until_ms = core->now_ms + core->spec.participation.available_within_ms;
    touch(core);
}

void start_round(struct fl_aggregator_core *core, const struct fl_round_order *spec,
                 const struct fl_tier_spec *tier, const char *origin, const char *work,
                 int64_t attempt)
{
    struct fl_record record = {
        .kind = FL_RECORD_SPEC, .round = spec->round, .attempt = attempt, .work = work};

    record.origin = origin;
    record.spec = *spec;
    if (tier)
        record.tier = *tier;
    shorten_journal(core);
    drop_initial(core);
    if (spec->model)
        keep_model(core, spec->model);
    install_round(core, spec, tier, origin, work, attempt);
    journal(core, &record);
    wait_for_members(core);
}

/* --- the end of duties ---------------------------------------------------------------------- */

void finish_duty(struct fl_aggregator_core *core, struct member *member)
{
    bool current =
        member->duty_round == core->spec.round && member->duty_attempt == core->attempt_number;

    if (member->duty == DUTY_FIT && current && core->attempt.active > 0)
        core->attempt.active--;
    if (member->duty == DUTY_EVALUATE && core->evaluation.active > 0)
        core->evaluation.active--;
    if (member->duty != DUTY_NONE) {
        member->duty = DUTY_NONE;
        discard_uploads_of(core, member->id);
    }
}

void exclude(struct fl_aggregator_core *core, const char *learner, enum fl_outcome outcome,
             const char *reason, const char *message)
{
    struct fl_round_report *status = &core->status;

    status->late += outcome == FL_OUTCOME_LATE;
    status->dropped += outcome == FL_OUTCOME_DROPPED;
    status->rejected += outcome == FL_OUTCOME_REJECTED;
    if (status->excluded.count < FL_PROTOCOL_EXCLUDED_MAX) {
        status->excluded.items = core->excluded;
        core->excluded[status->excluded.count++] = (struct fl_exclusion){
            .learner = fl_arena_strdup(core->round_arena, learner),
            .outcome = outcome,
            .reason = fl_arena_strdup(core->round_arena, reason),
            .message = message ? fl_arena_strdup(core->round_arena, message) : NULL,
        };
    } else {
        status->excluded_omitted++;
    }
    touch(core);
}

/* Its work is lost, whatever it was. */
void drop_member(struct fl_aggregator_core *core, struct member *member, const char *reason,
                 const char *message)
{
    bool training = member->duty == DUTY_FIT && member->duty_round == core->spec.round &&
                    member->duty_attempt == core->attempt_number && !round_is_over(core);

    if (training && core->status.phase == FL_ROUND_TRAINING && !is_folding(core, member->id))
        exclude(core, member->id, FL_OUTCOME_DROPPED, reason, message);
    maker_lost(core, member, reason, message);
    finish_duty(core, member);
    set_task(core, member, FL_TASK_WAIT);
}

/* Late work goes on where it may still count. */
bool may_be_late(const struct fl_aggregator_core *core, const struct member *member)
{
    return core->spec.mode != FL_MODE_SYNC && !member->aggregator && !core->stopped &&
           member->duty == DUTY_FIT &&
           core->spec.round - member->duty_round <= core->spec.staleness.max_rounds;
}

void end_duties(struct fl_aggregator_core *core, enum duty duty, bool late_goes_on,
                const char *reason)
{
    void *cursor = NULL, *value;

    while (fl_map_next(core->members, &cursor, NULL, &value)) {
        struct member *member = value;

        if (member->duty != duty || (late_goes_on && may_be_late(core, member)))
            continue;
        if (is_folding(core, member->id)) /* it came in time */
            continue;
        if (reason && member->duty_round == core->spec.round &&
            member->duty_attempt == core->attempt_number)
            exclude(core, member->id, FL_OUTCOME_LATE, reason, NULL);
        finish_duty(core, member);
        set_task(core, member, FL_TASK_WAIT);
    }
}

void fail_round(struct fl_aggregator_core *core, enum fl_round_phase phase, const char *reason,
                const char *message)
{
    struct fl_record record = {
        .kind = FL_RECORD_FAIL, .round = core->spec.round, .attempt = core->attempt_number};

    core->status.phase = phase;
    core->status.reason = fl_arena_strdup(core->round_arena, reason);
    core->status.message = fl_arena_strndup(
        core->round_arena, message, fl_utf8_cut(message, strlen(message), FL_PROTOCOL_TEXT_MAX));
    core->status.total_ms = core->now_ms - core->round_start_ms;
    touch(core);
    record.status = core->status;
    journal(core, &record);
    if (core->tier.present)
        tell_parent_fit(core, reason, message);
}

/* --- what time does ------------------------------------------------------------------------- */

void abort_round(struct fl_aggregator_core *core, const char *message)
{
    if (!core->has_round || round_is_over(core))
        return;
    if (core->status.phase == FL_ROUND_EVALUATING) { /* the model stays committed */
        finish_evaluation(core);
        return;
    }
    if (!core->initial.for_parent)
        drop_initial(core);
    core->attempt.closed = true;
    discard_uploads(core, true);
    end_duties(core, DUTY_FIT, false, NULL);
    if (core->attempt.ticket)
        act(core, FL_AGGREGATOR_ABANDON);
    core->attempt.ticket = 0;
    fail_round(core, FL_ROUND_ABORTED, "Aborted", message);
}

static void sweep(struct fl_aggregator_core *core)
{
    int64_t silence = core->options.silence_ms;
    void *cursor = NULL, *value;

    if (core->now_ms < core->sweep_ms)
        return;
    core->sweep_ms = core->now_ms + (silence + 3) / 4;
    core->status_changed = true; /* who was heard of too long ago is not available */
    while (fl_map_next(core->members, &cursor, NULL, &value)) {
        struct member *member = value;
        int64_t silent = core->now_ms - member->heard_ms;

        if (silent > silence && member->duty != DUTY_NONE)
            drop_member(core, member, "Silent", "was not heard of");
        if (silent > silence * FORGET_SILENCES)
            remove_member(core, member);
    }
}

static void advance_waiting(struct fl_aggregator_core *core)
{
    int64_t needed = core->spec.participation.min_available;
    bool may_be = core->has_tiers || (int64_t)fl_map_count(core->members) >= needed;
    bool enough = may_be && count_learners(core) >= needed;
    size_t available = enough ? count_available(core) : 0;
    char message[120];

    if (core->initial.active && !core->initial.for_parent)
        return; /* that comes first, and has deadlines of its own */
    if (available > 0 && !core->spec.model) {
        need_initial(core);
    } else if (available > 0) {
        begin_attempt(core, available);
    } else if (core->now_ms >= core->wait_until_ms) {
        (void)snprintf(message, sizeof(message),
                       "%" PRId64 " of %" PRId64 " learners are available", count_learners(core),
                       needed);
        fail_attempt(core, "NotEnoughLearners", message, true);
    }
}

void advance(struct fl_aggregator_core *core)
{
    sweep(core);
    expire_uploads(core);
    if (core->members_changed)
        tell_members(core);
    if (core->evaluation.deadline_ms > 0)
        advance_evaluation(core);
    if (core->initial.active && !core->stopped)
        advance_initial(core);
    if (!core->has_round || core->stopped)
        return;
    if (core->status.phase == FL_ROUND_WAITING)
        advance_waiting(core);
    if (core->initial.active && !core->initial.maker) /* it has just become needed */
        advance_initial(core);
    if (core->status.phase == FL_ROUND_TRAINING)
        advance_training(core);
}

int64_t round_deadline(const struct fl_aggregator_core *core)
{
    int64_t soonest = fl_map_count(core->members) > 0 ? core->sweep_ms : INT64_MAX;

#define SOONER(condition, time) soonest = (condition) && (time) < soonest ? (time) : soonest
    SOONER(core->evaluation.deadline_ms > 0, core->evaluation.deadline_ms);
    SOONER(true, initial_deadline(core));
    if (!core->has_round)
        return soonest;
    SOONER(core->status.phase == FL_ROUND_WAITING && !core->initial.active, core->wait_until_ms);
    SOONER(core->status.phase == FL_ROUND_TRAINING && !core->attempt.closed,
           core->attempt.deadline_ms);
#undef SOONER
    return soonest;
}
