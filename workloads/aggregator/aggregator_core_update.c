/* Updates: what is offered, brought, folded, refused. */
#include "workloads/aggregator/aggregator_core_internal.h"

#include "lib/str.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define NAMES_MAX_BYTES (FL_PROTOCOL_BODY_MAX - (size_t)256 * 1024)

void upload_destroy(struct upload *upload)
{
    free(upload->member);
    fl_arena_destroy(upload->arena);
    free(upload);
}

struct upload *find_upload(const struct fl_aggregator_core *core, uint64_t id)
{
    struct upload *upload;

    TAILQ_FOREACH(upload, &core->uploads, all)
        if (upload->id == id)
            return upload;
    return NULL;
}

struct upload *upload_of(const struct fl_aggregator_core *core, const char *member)
{
    struct upload *upload;

    TAILQ_FOREACH(upload, &core->uploads, all)
        if (fl_streq(upload->member, member))
            return upload;
    return NULL;
}

bool is_folding(const struct fl_aggregator_core *core, const char *member)
{
    const struct upload *upload = upload_of(core, member);

    return upload && upload->state == UPLOAD_FOLDING;
}

void remove_upload(struct fl_aggregator_core *core, struct upload *upload, bool discard)
{
    if (discard)
        act(core, FL_AGGREGATOR_DISCARD)->upload = upload->id;
    TAILQ_REMOVE(&core->uploads, upload, all);
    core->upload_count--;
    upload_destroy(upload);
}

void discard_uploads(struct fl_aggregator_core *core, bool folding_too)
{
    struct upload *upload = TAILQ_FIRST(&core->uploads);

    while (upload) {
        struct upload *next = TAILQ_NEXT(upload, all);
        const struct member *member = find_member(core, upload->member);
        bool late = member && may_be_late(core, member);

        if (upload->state == UPLOAD_FOLDING ? folding_too : !late)
            remove_upload(core, upload, true);
        upload = next;
    }
    if (folding_too)
        core->attempt.folding = 0;
}

void discard_uploads_of(struct fl_aggregator_core *core, const char *member)
{
    struct upload *upload = upload_of(core, member);

    if (upload && upload->state != UPLOAD_FOLDING)
        remove_upload(core, upload, true);
}

/* Nobody may keep a place with an upload that does not end; the learner may offer again. */
void expire_uploads(struct fl_aggregator_core *core)
{
    struct upload *upload = TAILQ_FIRST(&core->uploads);

    while (upload) {
        struct upload *next = TAILQ_NEXT(upload, all);

        if (upload->state == UPLOAD_EXPECTED && core->now_ms >= upload->until_ms)
            remove_upload(core, upload, true);
        upload = next;
    }
}

/* --- what counts already -------------------------------------------------------------------- */

static const char *counted_key(struct fl_buf *buf, int64_t round, const char *learner)
{
    fl_buf_clear(buf);
    fl_buf_printf(buf, "%" PRId64 ":%s", round, learner);
    return fl_buf_text(buf);
}

/* The learners of an offer: those of a partial sum, or who offers it. */
static size_t contributors_of(const struct fl_offer *offer, const char *const **ret_learners)
{
    *ret_learners = offer->partial ? offer->contributors.items : &offer->learner;
    return offer->partial ? offer->contributors.count : 1;
}

static bool is_counted(const struct fl_offer *offer, const struct fl_map *counted)
{
    const char *const *learners;
    size_t count = contributors_of(offer, &learners);
    struct fl_buf key;
    bool found = false;

    fl_buf_init(&key, 0);
    for (size_t i = 0; i < count && !found; i++)
        found = fl_map_get(counted, counted_key(&key, offer->round, learners[i])) != NULL;
    fl_buf_finish(&key);
    return found;
}

static size_t bytes_of_names(const struct fl_offer *offer)
{
    const char *const *learners;
    size_t count = contributors_of(offer, &learners), bytes = 0;

    for (size_t i = 0; i < count; i++)
        bytes += strlen(learners[i]) + 3; /* quotes and comma */
    return bytes;
}

/* A partial sum names its learners to the parent, in one message. */
static bool are_too_many(const struct fl_aggregator_core *core, const struct fl_offer *offer)
{
    const char *const *learners;
    size_t count = contributors_of(offer, &learners), bytes = core->attempt.name_bytes;

    if (!core->tier.present || !core->attempt.counted)
        return false;
    count += fl_map_count(core->attempt.counted) + core->contributors.count;
    for (size_t i = 0; i < core->contributors.count; i++) /* of earlier steps */
        bytes += strlen(core->contributors.items[i]) + 3;
    return count > FL_PROTOCOL_CONTRIBUTORS_MAX || bytes + bytes_of_names(offer) > NAMES_MAX_BYTES;
}

static void mark_counted(struct fl_aggregator_core *core, const struct fl_offer *offer, bool counts)
{
    const char *const *learners;
    size_t count = contributors_of(offer, &learners);
    struct fl_buf key;

    fl_buf_init(&key, 0);
    for (size_t i = 0; i < count; i++) {
        (void)counted_key(&key, offer->round, learners[i]);
        if (counts)
            fl_map_put(core->attempt.counted, key.data, core);
        else
            fl_map_remove(core->attempt.counted, key.data);
    }
    if (counts)
        core->attempt.name_bytes += bytes_of_names(offer);
    else
        core->attempt.name_bytes -= bytes_of_names(offer);
    fl_buf_finish(&key);
}

/* --- offers --------------------------------------------------------------------------------- */

struct refusal {
    const char *reason, *message;
};

static void settle(struct member *member, const struct fl_offer *offer, enum fl_verdict verdict,
                   const char *reason)
{
    member->settled_round = offer->round;
    member->settled_attempt = offer->attempt;
    member->settled = verdict;
    (void)snprintf(member->settled_reason, sizeof(member->settled_reason), "%s",
                   fl_str_or(reason, ""));
}

static void answer(struct fl_aggregator_core *core, uint64_t request, enum fl_verdict verdict,
                   int64_t retry_ms, const char *reason)
{
    const struct fl_answer message = {.verdict = verdict, .retry_ms = retry_ms, .reason = reason};

    reply(core, request, &fl_form_answer, &message);
}

static void answer_send(struct fl_aggregator_core *core, uint64_t request,
                        const struct upload *upload)
{
    char path[64];
    const struct fl_answer message = {.verdict = FL_VERDICT_SEND, .path = path};

    (void)snprintf(path, sizeof(path), "/v1/uploads/%" PRIu64, upload->id);
    reply(core, request, &fl_form_answer, &message);
}

static const struct past_base *find_past(const struct fl_aggregator_core *core, int64_t round)
{
    for (size_t i = 0; i < core->past_count; i++)
        if (core->past[i].round == round)
            return &core->past[i];
    return NULL;
}

/* What is wrong with an offer for the attempt that runs; NULL: nothing. */
static const char *check_current(const struct fl_aggregator_core *core, const struct member *member,
                                 const struct fl_offer *offer)
{
    const char *work = member->aggregator ? core->tier_work : core->leaf_work;

    if (offer->attempt != core->attempt_number)
        return "AttemptOver";
    if (core->status.phase != FL_ROUND_TRAINING || core->attempt.closed)
        return core->spec.mode == FL_MODE_SYNC ? "TooLate" : NULL;
    if (member->duty != DUTY_FIT || member->duty_round != offer->round ||
        member->duty_attempt != offer->attempt)
        return "NotAsked";
    if (!fl_streq(offer->work, work) || !fl_streq(offer->base, core->spec.model))
        return "WrongWork";
    return NULL;
}

static const char *check_late(const struct fl_aggregator_core *core, const struct member *member,
                              const struct fl_offer *offer)
{
    const struct past_base *past = find_past(core, offer->round);

    if (core->spec.mode == FL_MODE_SYNC || offer->partial)
        return "TooLate";
    if (core->spec.round - offer->round > core->spec.staleness.max_rounds)
        return "TooStale";
    if (!past || !fl_streq(past->digest, offer->base) || !is_kept(core, offer->base))
        return "BaseUnknown";
    if (member->duty != DUTY_FIT || member->duty_round != offer->round)
        return "NotAsked";
    if (is_counted(offer, core->counted))
        return "CountedAlready";
    return NULL;
}

static const char *check_offer(const struct fl_aggregator_core *core, const struct member *member,
                               const struct fl_offer *offer)
{
    const char *reason;

    if (!core->has_round || !fl_streq(offer->project, core->project))
        return "NotAsked";
    if (offer->partial != member->aggregator)
        return "WrongKind";
    if (offer->size > core->options.max_update_bytes)
        return "TooLarge";
    if (offer->round > core->spec.round)
        return "NotAsked";
    reason = offer->round == core->spec.round ? check_current(core, member, offer)
                                              : check_late(core, member, offer);
    if (!reason && core->attempt.counted && is_counted(offer, core->attempt.counted))
        reason = "CountedAlready"; /* by another aggregator, which they left */
    if (!reason && are_too_many(core, offer))
        reason = "TooManyContributors";
    return reason;
}

/* Only a member with a duty can be rejected; whoever was not asked costs the round nothing. */
static void refuse(struct fl_aggregator_core *core, uint64_t request, struct member *member,
                   const struct fl_offer *offer, const char *reason)
{
    bool asked = member->duty == DUTY_FIT && member->duty_round == offer->round &&
                 member->duty_attempt == offer->attempt;

    if (asked) {
        if (offer->round == core->spec.round && core->status.phase == FL_ROUND_TRAINING)
            exclude(core, member->id, FL_OUTCOME_REJECTED, reason, NULL);
        settle(member, offer, FL_VERDICT_REFUSED, reason);
        finish_duty(core, member);
        set_task(core, member, FL_TASK_WAIT);
    }
    answer(core, request, FL_VERDICT_REFUSED, 0, reason);
}

static void expect(struct fl_aggregator_core *core, uint64_t request, struct member *member,
                   const struct fl_offer *offer)
{
    struct upload *upload = fl_calloc(1, sizeof(*upload));
    struct fl_aggregator_action *action = act(core, FL_AGGREGATOR_EXPECT);

    upload->id = (uint64_t)core->life << 32 | (++core->tickets & UINT32_MAX);
    upload->arena = fl_arena_create();
    fl_message_copy(upload->arena, &fl_form_offer, offer, &upload->offer);
    upload->member = fl_strdup(member->id);
    upload->state = UPLOAD_EXPECTED;
    upload->since_ms = core->now_ms;
    upload->until_ms = core->now_ms + core->options.upload_ms;
    TAILQ_INSERT_TAIL(&core->uploads, upload, all);
    core->upload_count++;
    action->upload = upload->id;
    action->learner = act_text(core, member->id);
    action->digest = act_text(core, offer->digest);
    action->size = offer->size;
    answer_send(core, request, upload);
}

static bool can_fold_now(const struct fl_aggregator_core *core)
{
    return core->status.phase == FL_ROUND_TRAINING && core->attempt.begun && !core->attempt.closed;
}

bool has_place(const struct fl_aggregator_core *core)
{
    return can_fold_now(core) && (int64_t)core->upload_count < core->options.max_uploads;
}

void answer_offer(struct fl_aggregator_core *core, uint64_t request, enum fl_verdict verdict,
                  const char *reason)
{
    answer(core, request, verdict, 0, reason);
}

/* `place`: its bytes can be taken now. */
void take_upload(struct fl_aggregator_core *core, uint64_t request, struct member *member,
                 const struct fl_offer *offer, bool place)
{
    struct upload *upload = upload_of(core, member->id);

    if (upload && upload->state == UPLOAD_EXPECTED &&
        (upload->offer.round != offer->round || upload->offer.attempt != offer->attempt ||
         !fl_streq(upload->offer.digest, offer->digest))) {
        remove_upload(core, upload, true); /* it trained again, and differently */
        upload = NULL;
    }
    if (upload && upload->state == UPLOAD_EXPECTED)
        answer_send(core, request, upload);
    else if (upload || !place)
        hold_offer(core, request, offer, upload ? upload->id : 0);
    else
        expect(core, request, member, offer);
}

static void take_offer(struct fl_aggregator_core *core, uint64_t request, struct member *member,
                       const struct fl_offer *offer)
{
    take_upload(core, request, member, offer, has_place(core));
}

void handle_offer(struct fl_aggregator_core *core, uint64_t request, const struct fl_offer *offer)
{
    struct member *member = find_member(core, offer->learner);
    const struct upload *upload;
    const char *reason;
    struct fl_error err;

    if (!member) {
        (void)fl_error_set(&err, FL_E_NOT_FOUND, "not a member: join first");
        reply_error(core, request, &err, FL_REASON_NOT_JOINED);
        return;
    }
    member->heard_ms = core->now_ms;
    if (is_initial_offer(core, member, offer)) {
        handle_initial_offer(core, request, member, offer);
        return;
    }
    if (member->settled_round == offer->round && member->settled_attempt == offer->attempt) {
        answer(core, request, member->settled, 0, text_or_null(member->settled_reason));
        return;
    }
    upload = upload_of(core, member->id);
    if (upload && upload->state == UPLOAD_FOLDING) {
        hold_offer(core, request, offer, upload->id);
        return;
    }
    reason = check_offer(core, member, offer);
    if (reason)
        refuse(core, request, member, offer, reason);
    else
        take_offer(core, request, member, offer);
}

/* --- bytes and folds ------------------------------------------------------------------------ */

void fl_aggregator_moved_bytes(struct fl_aggregator_core *core, int64_t now_ms, const char *learner,
                               uint64_t id, int64_t bytes)
{
    struct member *member = find_member(core, learner);
    struct upload *upload = id ? find_upload(core, id) : NULL;

    core->now_ms = now_ms;
    if (member)
        member->heard_ms = now_ms;
    if (upload)
        upload->until_ms = now_ms + core->options.upload_ms;
    if (id)
        core->status.bytes_up += bytes;
    else
        core->status.bytes_down += bytes;
}

void fl_aggregator_lacks(struct fl_aggregator_core *core, int64_t now_ms, const char *message)
{
    struct attempt *attempt = &core->attempt;

    core->now_ms = now_ms;
    if (core->status.phase != FL_ROUND_TRAINING || !attempt->arena || attempt->lack)
        return;
    attempt->lack = fl_arena_printf(attempt->arena, "updates cannot be taken: %s", message);
    core->status.message = fl_arena_strdup(core->round_arena, attempt->lack);
    touch(core);
}

static void lacks_no_more(struct fl_aggregator_core *core)
{
    if (core->attempt.lack) {
        core->attempt.lack = core->status.message = NULL;
        touch(core);
    }
}

void fl_aggregator_uploaded(struct fl_aggregator_core *core, int64_t now_ms, uint64_t id,
                            const struct fl_error *err)
{
    struct upload *upload = find_upload(core, id);

    core->now_ms = now_ms;
    if (!upload || upload->state != UPLOAD_EXPECTED) {
        if (!upload && !err)
            act(core, FL_AGGREGATOR_DISCARD)->upload = id;
        return;
    }
    if (err) {
        remove_upload(core, upload, true); /* the learner offers again */
    } else {
        upload->state = UPLOAD_STAGED;
        lacks_no_more(core);
    }
    advance(core);
}

/* Late updates weigh less; FedBuff's rule does so itself. At least 1: they are wanted. */
static int64_t weigh(const struct fl_aggregator_core *core, int64_t examples, int64_t staleness)
{
    const struct fl_staleness_spec *spec = &core->spec.staleness;
    double factor = 1;

    if (staleness == 0 || core->spec.mode != FL_MODE_SEMISYNC)
        return examples;
    if (spec->weighting == FL_WEIGHTING_POLYNOMIAL)
        factor = pow(1.0 + (double)staleness, -spec->exponent);
    else if (spec->weighting == FL_WEIGHTING_EXPONENTIAL)
        factor = exp(-spec->exponent * (double)staleness);
    return (int64_t)fmax(1, floor((double)examples * factor));
}

static void fold(struct fl_aggregator_core *core, struct upload *upload)
{
    struct fl_aggregator_action *action = act(core, FL_AGGREGATOR_FOLD);
    const struct fl_offer *offer = &upload->offer;

    upload->state = UPLOAD_FOLDING;
    upload->ticket = ++core->tickets;
    upload->staleness = core->spec.round - offer->round;
    core->attempt.folding++;
    mark_counted(core, offer, true);
    action->ticket = upload->ticket;
    action->upload = upload->id;
    action->fold = (struct fl_aggregator_fold){
        .learner = act_text(core, offer->learner),
        .base = act_text(core, offer->base),
        .digest = act_text(core, offer->digest),
        .examples = weigh(core, offer->examples, upload->staleness),
        .steps = offer->steps,
        .staleness = upload->staleness,
        .loss_before = offer->loss_before,
        .partial = offer->partial,
    };
}

/* Between offer and fold the world may have moved on. */
static const char *check_again(const struct fl_aggregator_core *core, const struct member *member,
                               const struct upload *upload)
{
    const struct fl_offer *offer = &upload->offer;

    if (core->spec.mode != FL_MODE_ASYNC && member->counted_round == core->spec.round &&
        member->counted_attempt == core->attempt_number)
        return "CountedAlready";
    return check_offer(core, member, offer);
}

void fold_staged(struct fl_aggregator_core *core)
{
    struct upload *upload = TAILQ_FIRST(&core->uploads);

    while (upload && can_fold_now(core)) {
        struct upload *next = TAILQ_NEXT(upload, all);
        struct member *member = find_member(core, upload->member);
        bool room = (size_t)core->status.reported + core->attempt.folding < core->attempt.want ||
                    core->spec.mode == FL_MODE_SEMISYNC;
        const char *reason;

        if (upload->state == UPLOAD_STAGED && room) {
            reason = member ? check_again(core, member, upload) : "NotAsked";
            if (!reason) {
                fold(core, upload);
            } else if (member) {
                bool ours = upload->offer.round == core->spec.round;

                settle(member, &upload->offer, FL_VERDICT_REFUSED, reason);
                if (ours)
                    exclude(core, member->id, FL_OUTCOME_REJECTED, reason, NULL);
                remove_upload(core, upload, true);
                finish_duty(core, member);
                set_task(core, member, FL_TASK_WAIT);
            } else {
                remove_upload(core, upload, true);
            }
        }
        upload = next;
    }
}

/* Whoever left and came back while it was folded may have another by now. */
static void end_duty_of(struct fl_aggregator_core *core, struct member *member,
                        const struct fl_offer *offer)
{
    if (member->duty != DUTY_FIT || member->duty_round != offer->round ||
        member->duty_attempt != offer->attempt)
        return;
    finish_duty(core, member);
    set_task(core, member, FL_TASK_WAIT);
}

static void note_times(struct attempt *attempt, const struct upload *upload, int64_t now_ms)
{
    if (attempt->times == attempt->time_cap) {
        attempt->time_cap = attempt->time_cap ? attempt->time_cap * 2 : 16;
        attempt->download_ms =
            fl_realloc(attempt->download_ms, attempt->time_cap * sizeof(int64_t));
        attempt->train_ms = fl_realloc(attempt->train_ms, attempt->time_cap * sizeof(int64_t));
        attempt->upload_ms = fl_realloc(attempt->upload_ms, attempt->time_cap * sizeof(int64_t));
    }
    attempt->download_ms[attempt->times] = upload->offer.download_ms;
    attempt->train_ms[attempt->times] = upload->offer.train_ms;
    attempt->upload_ms[attempt->times++] = now_ms - upload->since_ms;
}

static void note_contributors(struct attempt *attempt, const struct fl_offer *offer)
{
    const char *const *learners;
    size_t count = contributors_of(offer, &learners);

    while (attempt->contributor_count + count > attempt->contributor_cap) {
        const char **old = attempt->contributors;

        attempt->contributor_cap = attempt->contributor_cap ? attempt->contributor_cap * 2 : 16;
        attempt->contributors =
            fl_new_array(attempt->arena, const char *, attempt->contributor_cap);
        if (attempt->contributor_count > 0)
            memcpy(attempt->contributors, old, attempt->contributor_count * sizeof(*old));
    }
    for (size_t i = 0; i < count; i++)
        attempt->contributors[attempt->contributor_count++] =
            fl_arena_strdup(attempt->arena, learners[i]);
}

static void note_member(struct fl_aggregator_core *core, struct member *member,
                        const struct upload *upload)
{
    const struct fl_offer *offer = &upload->offer;

    settle(member, offer, FL_VERDICT_COUNTED, NULL);
    member->counted_round = core->spec.round;
    member->counted_attempt = core->attempt_number;
    member->stats.done++;
    member->stats.examples = offer->examples;
    member->stats.loss = isfinite(offer->loss_rms) ? offer->loss_rms : offer->loss;
    member->stats.last_round = core->spec.round;
    member->stats.duration_ms = core->now_ms - member->asked_ms;
    core->attempt.utility += fl_oort_statistical_utility(&member->stats);
}

/* No claim counts as more than the bound; a tier has bounded its learners'. */
static int64_t counted_examples(const struct fl_aggregator_core *core, const struct fl_offer *offer)
{
    int64_t most = core->attempt.max_examples;

    return most > 0 && !offer->partial && offer->examples > most ? most : offer->examples;
}

static void accept(struct fl_aggregator_core *core, const struct upload *upload)
{
    const struct fl_offer *offer = &upload->offer;
    struct fl_round_report *status = &core->status;
    struct member *member = find_member(core, upload->member);
    int64_t examples = counted_examples(core, offer);
    const struct fl_record record = {.kind = FL_RECORD_ACCEPT,
                                     .round = core->spec.round,
                                     .attempt = core->attempt_number,
                                     .learner = offer->learner,
                                     .digest = offer->digest,
                                     .work_round = offer->round,
                                     .examples = offer->examples,
                                     .steps = offer->steps,
                                     .contributors = offer->contributors};

    journal(core, &record);
    fl_map_put(core->holders, offer->learner, core);
    status->reported++;
    status->learners += offer->partial ? (int64_t)offer->contributors.count : 1;
    status->examples = add_up(status->examples, examples);
    if (upload->staleness > status->staleness_max)
        status->staleness_max = upload->staleness;
    core->attempt.staleness_sum += upload->staleness;
    core->attempt.last_fold_ms = core->now_ms;
    note_times(&core->attempt, upload, core->now_ms);
    note_contributors(&core->attempt, offer);
    add_metrics(core->train_metrics, &offer->metrics, offer->loss, examples);
    touch(core);
    if (!member)
        return;
    note_member(core, member, upload);
    end_duty_of(core, member, offer);
}

static void reject(struct fl_aggregator_core *core, const struct upload *upload, const char *reason,
                   const char *message)
{
    struct member *member = find_member(core, upload->member);

    mark_counted(core, &upload->offer, false);
    exclude(core, upload->offer.learner, FL_OUTCOME_REJECTED, reason, message);
    if (!member)
        return;
    settle(member, &upload->offer, FL_VERDICT_REFUSED, reason);
    end_duty_of(core, member, &upload->offer);
}

struct upload *find_folding(const struct fl_aggregator_core *core, uint64_t ticket)
{
    struct upload *upload;

    TAILQ_FOREACH(upload, &core->uploads, all)
        if (upload->state == UPLOAD_FOLDING && upload->ticket == ticket)
            return upload;
    return NULL;
}

void fl_aggregator_folded(struct fl_aggregator_core *core, int64_t now_ms, uint64_t ticket,
                          const char *reason, const struct fl_error *err)
{
    struct upload *upload = find_folding(core, ticket);

    core->now_ms = now_ms;
    if (!upload)
        return; /* of an attempt that is over */
    TAILQ_REMOVE(&core->uploads, upload, all);
    core->upload_count--;
    core->attempt.folding--;
    if (err)
        reject(core, upload, fl_str_or(reason, fl_error_reason(err->code)), err->msg);
    else
        accept(core, upload);
    act(core, FL_AGGREGATOR_DISCARD)->upload = upload->id;
    upload_destroy(upload);
    advance(core);
}
