/* The life of a round: waiting for learners, attempts, the commit, evaluation. */
#include "workloads/aggregator/aggregator_core_internal.h"

#include "lib/str.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define BUFFER_DEFAULT 10 /* FedBuff's */

bool round_is_over(const struct fl_aggregator_core *core)
{
    return core->status.phase == FL_ROUND_COMMITTED || core->status.phase == FL_ROUND_FAILED ||
           core->status.phase == FL_ROUND_ABORTED;
}

/* --- metrics -------------------------------------------------------------------------------- */

static void add_metric(struct fl_map *sums, const char *name, double value, int64_t examples)
{
    struct metric_sum *sum = fl_map_get(sums, name);

    if (!isfinite(value) || examples < 1)
        return;
    if (!sum) {
        if (fl_map_count(sums) >= FL_PROTOCOL_METRICS_MAX)
            return;
        sum = fl_calloc(1, sizeof(*sum));
        fl_map_put(sums, name, sum);
    }
    fl_exact_scalar_add(&sum->sum, value * (double)examples);
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

        if (sum->sum.overflow)
            continue;
        metrics.items[metrics.count++] = (struct fl_metric){
            fl_arena_strdup(arena, name), fl_exact_scalar_get(&sum->sum) / (double)sum->weight};
    }
    if (metrics.count > 0)
        qsort(metrics.items, metrics.count, sizeof(*metrics.items), by_metric_name);
    return metrics;
}

/* --- a new round ---------------------------------------------------------------------------- */

void attempt_finish(struct attempt *attempt)
{
    fl_map_destroy(attempt->counted);
    fl_arena_destroy(attempt->arena);
    free(attempt->download_ms);
    free(attempt->train_ms);
    free(attempt->upload_ms);
    *attempt = (struct attempt){0};
}

static void digest_work(const struct fl_aggregator_core *core, bool tier, char out[FL_DIGEST_SIZE])
{
    const struct fl_round_spec *spec = &core->spec;
    struct fl_round_spec work;
    struct fl_tier_spec sums;
    FL_JSON value = json_object();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;

    fl_message_init(&fl_form_round_spec, &work);
    work.project = spec->project;
    work.round = spec->round;
    work.model = spec->model;
    work.model_size = spec->model_size;
    work.seed = spec->seed;
    work.local = spec->local;
    work.tags = spec->tags;
    work.strategy.name = "FedAvg"; /* what the server makes of it is no part of the work */
    json_object_set_new(value, "work", fl_message_to_json(&fl_form_round_spec, &work));
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

void install_round(struct fl_aggregator_core *core, const struct fl_round_spec *spec,
                   const struct fl_tier_spec *tier, const char *origin, const char *work,
                   int64_t attempt)
{
    struct fl_arena *arena = fl_arena_create();

    fl_message_copy(arena, &fl_form_round_spec, spec, &core->spec);
    fl_bytes_unref(core->spec_text);
    core->spec_text = fl_message_encode(&fl_form_round_spec, spec);
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
    if (!core->project)
        core->project = fl_strdup(spec->project);
    attempt_finish(&core->attempt);
    fl_map_destroy(core->holders);
    core->holders = fl_map_create(NULL);
    core->round_start_ms = core->now_ms;
    fl_message_init(&fl_form_round_status, &core->status);
    core->status.project = core->project;
    core->status.round = spec->round;
    core->status.attempt = attempt;
    digest_work(core, false, core->leaf_work);
}

static void wait_for_members(struct fl_aggregator_core *core)
{
    core->status.phase = FL_ROUND_WAITING;
    core->wait_until_ms = core->now_ms + core->spec.participation.available_within_ms;
    touch(core);
}

void start_round(struct fl_aggregator_core *core, const struct fl_round_spec *spec,
                 const struct fl_tier_spec *tier, const char *origin, const char *work,
                 int64_t attempt)
{
    struct fl_record record = {
        .kind = FL_RECORD_SPEC, .round = spec->round, .attempt = attempt, .work = work};

    record.origin = origin;
    record.spec = *spec;
    if (tier)
        record.tier = *tier;
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
    struct fl_round_status *status = &core->status;

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

static void end_duties(struct fl_aggregator_core *core, enum duty duty, bool late_goes_on,
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

/* --- beginning an attempt ------------------------------------------------------------------- */

static bool can_be_asked(const struct fl_aggregator_core *core, const struct member *member)
{
    return is_available(core, member) && fits_round(core, member) && member->duty == DUTY_NONE &&
           !(member->asked_round == core->spec.round &&
             member->asked_attempt == core->attempt_number);
}

static size_t count_available(const struct fl_aggregator_core *core)
{
    void *cursor = NULL, *value;
    size_t count = 0;

    while (fl_map_next(core->members, &cursor, NULL, &value))
        count += is_available(core, value) && fits_round(core, value);
    return count;
}

static size_t share_of(double share, size_t count)
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

static void plan_size(struct fl_aggregator_core *core, size_t available)
{
    const struct fl_participation_spec *part = &core->spec.participation;
    int64_t buffer = core->spec.strategy.buffer_size, quorum = quorum_of(core);
    size_t want = share_of(part->fraction, available);

    if (want < (size_t)quorum)
        want = (size_t)quorum;
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

/* Sums are planned for all that members declare, twice over and rounded up to a power of two, so
 * that whoever comes or goes rarely changes it, and tiers do not at all. */
static int plan_sums(struct fl_aggregator_core *core, struct fl_error *err)
{
    const struct fl_round_spec *spec = &core->spec;
    struct attempt *attempt = &core->attempt;
    struct fl_exact_precision precision;
    int64_t weight = 1, all = 0;
    void *cursor = NULL, *value;
    int r;

    if (core->tier.present) {
        attempt->precision = core->tier.precision;
        attempt->max_examples = core->tier.max_examples;
        return 0;
    }
    while (fl_map_next(core->members, &cursor, NULL, &value)) {
        int64_t examples = ((struct member *)value)->examples;

        all = examples < ((int64_t)1 << 50) - all ? all + examples : (int64_t)1 << 50;
    }
    while (weight < all * 2)
        weight *= 2;
    r = fl_exact_plan((unsigned)spec->range_bits, spec->max_weight ? spec->max_weight : weight,
                      &precision, err);
    if (r < 0)
        return r;
    attempt->precision =
        (struct fl_precision_spec){precision.range_bits, precision.bits, precision.max_weight};
    if (spec->participation.max_example_share < 1) {
        attempt->max_examples = (int64_t)(spec->participation.max_example_share * (double)all);
        attempt->max_examples = attempt->max_examples > 0 ? attempt->max_examples : 1;
    }
    return 0;
}

static void reset_counts(struct fl_aggregator_core *core)
{
    struct fl_round_status *status = &core->status;

    status->selected = status->reported = status->late = status->dropped = status->rejected = 0;
    status->excluded.count = 0;
    status->excluded_omitted = 0;
    status->learners = status->examples = 0;
    status->staleness_max = 0;
    status->staleness_mean = 0;
    status->reason = status->message = NULL;
    fl_map_destroy(core->train_metrics);
    core->train_metrics = fl_map_create(free);
}

static void fail_round(struct fl_aggregator_core *core, enum fl_round_phase phase,
                       const char *reason, const char *message)
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

static void fail_attempt(struct fl_aggregator_core *core, const char *reason, const char *message,
                         bool again)
{
    struct fl_round_status *status = &core->status;

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

static void begin_attempt(struct fl_aggregator_core *core, size_t available)
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
    action = act(core, FL_AGGREGATOR_BEGIN);
    action->ticket = attempt->ticket = ++core->tickets;
    action->begin.base = act_text(core, core->spec.model);
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
    char message[200];

    if (core->status.reported < quorum) {
        (void)snprintf(message, sizeof(message),
                       "%" PRId64 " of %" PRId64 " updates until the deadline: %" PRId64
                       " learners were asked, %" PRId64 " dropped, %" PRId64 " late, %" PRId64
                       " rejected",
                       core->status.reported, quorum, core->status.selected, core->status.dropped,
                       core->status.late, core->status.rejected);
        fail_attempt(core, "QuorumNotReached", message, true);
        return;
    }
    action =
        act(core, core->tier.present && core->spec.round % core->tier.rounds_per_parent_round == 0
                      ? FL_AGGREGATOR_PARTIAL
                      : FL_AGGREGATOR_FINISH);
    action->ticket = core->attempt.ticket;
    core->attempt.finish_ms = core->now_ms;
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

static void advance_training(struct fl_aggregator_core *core)
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
             (int64_t)reported >= quorum_of(core) && core->spec.mode != FL_MODE_ASYNC;
    if (reported >= attempt->want && attempt->folding == 0 && core->spec.mode != FL_MODE_SEMISYNC)
        close_attempt(core, "EnoughUpdates");
    else if (all_in || past)
        close_attempt(core, "Deadline");
}

/* --- the commit ----------------------------------------------------------------------------- */

static int by_int(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static int64_t median(int64_t *values, size_t count)
{
    if (count == 0)
        return 0;
    qsort(values, count, sizeof(*values), by_int);
    return values[count / 2];
}

static void fill_status(struct fl_aggregator_core *core, const struct fl_finished *finished)
{
    struct fl_round_status *status = &core->status;
    struct attempt *attempt = &core->attempt;

    status->model = fl_arena_strdup(core->round_arena, finished->model);
    status->model_size = finished->size;
    status->train = metrics_of(core->round_arena, core->train_metrics);
    status->download_ms = median(attempt->download_ms, attempt->times);
    status->train_ms = median(attempt->train_ms, attempt->times);
    status->upload_ms = median(attempt->upload_ms, attempt->times);
    status->aggregate_ms = core->now_ms - attempt->last_fold_ms;
    status->total_ms = core->now_ms - core->round_start_ms;
    if (status->reported > 0)
        status->staleness_mean = (double)attempt->staleness_sum / (double)status->reported;
    status->phase = core->spec.evaluation.enabled && !core->tier.present ? FL_ROUND_EVALUATING
                                                                         : FL_ROUND_COMMITTED;
}

static void release(struct fl_aggregator_core *core, const char *digest)
{
    if (*digest)
        act(core, FL_AGGREGATOR_RELEASE)->model = act_text(core, digest);
}

static void keep_model(struct fl_aggregator_core *core, const char *digest)
{
    int64_t late = core->spec.mode == FL_MODE_SYNC ? 0 : core->spec.staleness.max_rounds;
    size_t most = (size_t)(core->options.keep_models + (late < PAST_MAX ? late : PAST_MAX));

    for (size_t i = 0; i < core->kept_count; i++)
        if (fl_streq(core->kept[i], digest))
            return;
    core->kept = fl_realloc(core->kept, (core->kept_count + 1) * sizeof(*core->kept));
    (void)snprintf(core->kept[core->kept_count++], FL_DIGEST_SIZE, "%s", digest);
    while (core->kept_count > most) {
        if (!fl_streq(core->kept[0], core->spec.model))
            release(core, core->kept[0]);
        memmove(core->kept, core->kept + 1, --core->kept_count * sizeof(*core->kept));
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What late updates could otherwise repeat. */
static void remember_counted(struct fl_aggregator_core *core)
{
    int64_t oldest = core->spec.round - core->spec.staleness.max_rounds;
    void *cursor = NULL, *value;
    const char *key;

    if (core->spec.mode == FL_MODE_SYNC)
        return;
    while (fl_map_next(core->counted, &cursor, &key, &value))
        if (strtoll(key, NULL, 10) < oldest)
            fl_map_remove(core->counted, key);
    cursor = NULL;
    while (fl_map_next(core->attempt.counted, &cursor, &key, &value))
        fl_map_put(core->counted, key, core);
}

static void remember_commit(struct fl_aggregator_core *core, const struct fl_finished *finished)
{
    struct attempt *attempt = &core->attempt;
    struct fl_arena *arena = fl_arena_create();
    struct past_base *past;

    core->committed = core->spec.round;
    (void)snprintf(core->model, sizeof(core->model), "%s", finished->model);
    if (!fl_streq(text_or_null(core->state), finished->state))
        release(core, core->state);
    (void)snprintf(core->state, sizeof(core->state), "%s", fl_str_or(finished->state, ""));
    core->model_size = finished->size;
    core->contributors =
        (struct fl_texts){fl_new_array(arena, const char *, attempt->contributor_count + 1),
                          attempt->contributor_count};
    for (size_t i = 0; i < attempt->contributor_count; i++)
        core->contributors.items[i] = fl_arena_strdup(arena, attempt->contributors[i]);
    fl_arena_destroy(core->committed_arena);
    core->committed_arena = arena;
    remember_counted(core);
    if (core->past_count == PAST_MAX)
        memmove(core->past, core->past + 1, --core->past_count * sizeof(*core->past));
    past = &core->past[core->past_count++];
    past->round = core->spec.round;
    (void)snprintf(past->digest, sizeof(past->digest), "%s", core->spec.model);
}

static void commit(struct fl_aggregator_core *core, const struct fl_finished *finished)
{
    struct attempt *attempt = &core->attempt;
    struct fl_record record = {.kind = FL_RECORD_COMMIT,
                               .round = core->spec.round,
                               .attempt = core->attempt_number,
                               .model = finished->model,
                               .state = finished->state,
                               .model_size = finished->size};

    if (attempt->contributor_count > 1)
        qsort(attempt->contributors, attempt->contributor_count, sizeof(char *), by_text);
    fill_status(core, finished);
    touch(core);
    record.status = core->status;
    if (core->tier.present)
        record.contributors = (struct fl_texts){attempt->contributors, attempt->contributor_count};
    journal(core, &record);
    remember_commit(core, finished);
    keep_model(core, finished->model);
    fl_oort_round_done(&core->oort, attempt->utility);
    attempt->ticket = 0;
    if (core->tier.present)
        next_parent_step(core);
    else if (core->spec.evaluation.enabled)
        start_evaluation(core, core->model, core->model_size, core->spec.round,
                         core->spec.evaluation.deadline_ms, false);
}

void fl_aggregator_finished(struct fl_aggregator_core *core, int64_t now_ms, uint64_t ticket,
                            const struct fl_finished *finished, const struct fl_error *err)
{
    core->now_ms = now_ms;
    if (ticket != core->attempt.ticket || core->status.phase != FL_ROUND_AGGREGATING)
        return;
    if (err)
        fail_attempt(core, "AggregationFailed", err->msg, true);
    else
        commit(core, finished);
    advance(core);
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
                                      .deadline_ms = core->now_ms + deadline_ms};
    (void)snprintf(evaluation->model, sizeof(evaluation->model), "%s", model);
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

static void finish_evaluation(struct fl_aggregator_core *core)
{
    struct fl_record record = {.kind = FL_RECORD_EVALUATE, .round = core->evaluation.round};
    struct fl_round_status *status = &core->status;

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

static void advance_evaluation(struct fl_aggregator_core *core)
{
    struct evaluation *evaluation = &core->evaluation;

    if (evaluation->active == 0 && evaluation->reported == 0 &&
        core->now_ms < evaluation->deadline_ms)
        ask_to_evaluate(core);
    if ((evaluation->active == 0 && evaluation->reported > 0) ||
        core->now_ms >= evaluation->deadline_ms)
        finish_evaluation(core);
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
        add_metrics(core->evaluation_metrics, &result->metrics, result->loss, result->examples);
        core->evaluation.examples += result->examples;
        core->evaluation.reported++;
        finish_duty(core, member);
        set_task(core, member, FL_TASK_WAIT);
    }
    reply(core, request, &fl_form_answer, &answer);
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
    size_t needed = (size_t)core->spec.participation.min_available;
    size_t available = fl_map_count(core->members) < needed ? 0 : count_available(core);
    char message[120];

    if (available >= needed && available > 0) {
        begin_attempt(core, available);
    } else if (core->now_ms >= core->wait_until_ms) {
        (void)snprintf(message, sizeof(message), "%zu of %zu learners are available",
                       count_available(core), needed);
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
    if (!core->has_round || core->stopped)
        return;
    if (core->status.phase == FL_ROUND_WAITING)
        advance_waiting(core);
    if (core->status.phase == FL_ROUND_TRAINING)
        advance_training(core);
}

int64_t round_deadline(const struct fl_aggregator_core *core)
{
    int64_t soonest = fl_map_count(core->members) > 0 ? core->sweep_ms : INT64_MAX;

#define SOONER(condition, time) soonest = (condition) && (time) < soonest ? (time) : soonest
    SOONER(core->evaluation.deadline_ms > 0, core->evaluation.deadline_ms);
    if (!core->has_round)
        return soonest;
    SOONER(core->status.phase == FL_ROUND_WAITING, core->wait_until_ms);
    SOONER(core->status.phase == FL_ROUND_TRAINING && !core->attempt.closed,
           core->attempt.deadline_ms);
#undef SOONER
    return soonest;
}
