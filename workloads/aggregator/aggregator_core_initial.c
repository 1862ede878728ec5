/* The initial model: made by one learner from the project's seed, where a round has no base.
 *
 * One member at a time is asked, in an order that follows from the seed; a member that is lost,
 * fails or takes too long is followed by the next. Below a parent the same is done for the parent's
 * task. What comes is taken over as a model of ours (ADOPT) before anything is made of it. */
#include "workloads/aggregator/aggregator_core_internal.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TRIES_MAX 5 /* members that are asked before it is given up */

static void digest_initial_work(const struct fl_aggregator_core *core, int64_t seed,
                                char out[FL_DIGEST_SIZE])
{
    FL_CLEANUP(fl_freep)
    char *text = fl_asprintf("Init %s %" PRId64, fl_str_or(core->project, ""), seed);

    fl_digest_of(text, strlen(text), out);
}

static void start_initial(struct fl_aggregator_core *core, const struct initial *wanted)
{
    struct initial *initial = &core->initial;
    void *cursor = NULL, *value;

    drop_initial(core);
    *initial = *wanted;
    initial->active = true;
    initial->until_ms = core->now_ms + initial->patience_ms; /* for somebody to be asked */
    while (fl_map_next(core->members, &cursor, NULL, &value))
        ((struct member *)value)->asked_initial = false;
    touch(core);
}

void need_initial(struct fl_aggregator_core *core)
{
    struct initial wanted = {.round = core->spec.round,
                             .attempt = core->attempt_number + 1,
                             .seed = core->spec.seed,
                             .patience_ms = core->spec.participation.deadline_ms};

    digest_initial_work(core, wanted.seed, wanted.work);
    start_initial(core, &wanted);
}

/* --- who is asked --------------------------------------------------------------------------- */

static struct member *next_maker(const struct fl_aggregator_core *core)
{
    const struct initial *initial = &core->initial;
    FL_CLEANUP(fl_freep)
    struct fl_candidate **candidates = fl_calloc(fl_map_count(core->members) + 1, sizeof(void *));
    const struct fl_select how = {.selection = FL_SELECTION_RANDOM,
                                  .seed = initial->seed,
                                  .round = initial->round,
                                  .attempt = -3,
                                  .want = 1};
    void *cursor = NULL, *value;
    size_t count = 0;

    while (fl_map_next(core->members, &cursor, NULL, &value)) {
        struct member *member = value;

        if (!is_available(core, member) || member->asked_initial || member->duty != DUTY_NONE ||
            (!initial->for_parent && !fits_round(core, member)) ||
            (member->aggregator && member->learners == 0))
            continue;
        member->stats.holds = false;
        candidates[count++] = &member->stats;
    }
    if (count == 0)
        return NULL;
    fl_select_order(&how, candidates, count);
    return find_member(core, candidates[0]->id);
}

static void ask_maker(struct fl_aggregator_core *core, struct member *member)
{
    struct initial *initial = &core->initial;

    initial->asked++;
    initial->maker = member;
    initial->until_ms = core->now_ms + initial->patience_ms;
    member->asked_initial = true;
    member->duty = DUTY_INIT;
    member->duty_round = initial->round;
    member->duty_attempt = initial->attempt;
    set_task(core, member, FL_TASK_INIT);
}

void fill_init(const struct fl_aggregator_core *core, struct fl_task *task)
{
    const struct initial *initial = &core->initial;
    int64_t left = initial->until_ms - core->now_ms;

    task->attempt = initial->attempt;
    task->work = initial->work;
    task->seed = initial->seed;
    task->deadline_ms = left > 0 ? left : 0;
    task->tags = core->has_round ? core->spec.tags : (struct fl_texts){0};
}

/* --- its end -------------------------------------------------------------------------------- */

void drop_initial(struct fl_aggregator_core *core)
{
    struct member *maker = core->initial.maker;

    if (maker) {
        finish_duty(core, maker);
        set_task(core, maker, FL_TASK_WAIT);
    }
    core->initial.active = false;
    core->initial.maker = NULL;
    core->initial.ticket = 0;
}

/* It is no longer at it, and why. */
void maker_lost(struct fl_aggregator_core *core, const struct member *member, const char *reason,
                const char *message)
{
    struct initial *initial = &core->initial;

    if (member != initial->maker)
        return;
    initial->maker = NULL;
    (void)snprintf(initial->message, sizeof(initial->message), "%.100s: %.60s%s%.300s", member->id,
                   reason, message ? ": " : "", fl_str_or(message, ""));
}

static void fail_initial(struct fl_aggregator_core *core)
{
    struct initial *initial = &core->initial;
    bool for_parent = initial->for_parent;
    char message[600];

    (void)snprintf(message, sizeof(message),
                   "no initial model: %" PRId64 " learners were asked; the last, %s",
                   initial->asked, *initial->message ? initial->message : "nobody");
    drop_initial(core);
    if (for_parent)
        tell_parent_initial(core, NULL, 0, "InitialModelFailed", message);
    else
        fail_attempt(core, "InitialModelFailed", message, true);
}

void set_base(struct fl_aggregator_core *core, const char *digest, int64_t size)
{
    core->made_base = true;
    core->spec.model = fl_arena_strdup(core->round_arena, digest);
    core->spec.model_size = size;
    core->status.base = core->spec.model;
    core->status.base_size = size;
    digest_work(core, false, core->leaf_work);
}

static void take_base(struct fl_aggregator_core *core, const char *digest, int64_t size)
{
    const struct fl_record record = {
        .kind = FL_RECORD_BASE, .round = core->spec.round, .model = digest, .model_size = size};

    set_base(core, digest, size);
    core->status.reason = core->status.message = NULL;
    journal(core, &record);
    keep_model(core, digest);
    wait_for_members(core);
}

/* --- what comes ----------------------------------------------------------------------------- */

static bool is_wanted(const struct fl_aggregator_core *core, const struct member *member,
                      const struct fl_offer *offer)
{
    const struct initial *initial = &core->initial;

    return initial->active && member == initial->maker && member->duty == DUTY_INIT &&
           offer->round == initial->round && offer->attempt == initial->attempt &&
           fl_streq(offer->work, initial->work) && !offer->partial &&
           fl_digest_is_valid(offer->digest) && /* it becomes a model's name */
           offer->size <= core->options.max_update_bytes;
}

bool is_initial_offer(const struct fl_aggregator_core *core, const struct member *member,
                      const struct fl_offer *offer)
{
    return member->duty == DUTY_INIT ||
           (*core->initial.work && fl_streq(offer->work, core->initial.work));
}

void handle_initial_offer(struct fl_aggregator_core *core, uint64_t request, struct member *member,
                          const struct fl_offer *offer)
{
    bool taken =
        !core->initial.active && *core->initial.made && fl_streq(offer->digest, core->initial.made);

    if (is_wanted(core, member, offer)) {
        take_upload(core, request, member, offer,
                    (int64_t)core->upload_count < core->options.max_uploads);
        return;
    }
    if (member->duty == DUTY_INIT) {
        maker_lost(core, member, "WrongWork", NULL);
        finish_duty(core, member);
        set_task(core, member, FL_TASK_WAIT);
    }
    answer_offer(core, request, taken ? FL_VERDICT_COUNTED : FL_VERDICT_REFUSED,
                 taken ? NULL : "NotAsked");
}

static void adopt(struct fl_aggregator_core *core, struct upload *upload)
{
    struct fl_aggregator_action *action = act(core, FL_AGGREGATOR_ADOPT);

    upload->state = UPLOAD_FOLDING;
    upload->ticket = core->initial.ticket = ++core->tickets;
    action->ticket = upload->ticket;
    action->upload = upload->id;
    action->digest = act_text(core, upload->offer.digest);
    action->size = upload->offer.size;
}

static void initial_is_here(struct fl_aggregator_core *core, const char *digest, int64_t size)
{
    struct initial *initial = &core->initial;

    (void)snprintf(initial->made, sizeof(initial->made), "%s", digest);
    drop_initial(core);
    if (initial->for_parent)
        tell_parent_initial(core, digest, size, NULL, NULL);
    else
        take_base(core, digest, size);
}

void fl_aggregator_adopted(struct fl_aggregator_core *core, int64_t now_ms, uint64_t ticket,
                           const struct fl_error *err)
{
    struct upload *upload = find_folding(core, ticket);
    struct fl_arena *arena;
    struct fl_offer offer;

    core->now_ms = now_ms;
    if (!upload)
        return;
    arena = FL_TAKE(upload->arena);
    offer = upload->offer;
    remove_upload(core, upload, true);
    if (!core->initial.active || ticket != core->initial.ticket) {
        if (!err)
            act(core, FL_AGGREGATOR_RELEASE)->model = act_text(core, offer.digest);
    } else if (err) {
        struct member *maker = core->initial.maker;

        core->initial.ticket = 0;
        if (maker)
            drop_member(core, maker, fl_error_reason(err->code), err->msg);
    } else {
        initial_is_here(core, offer.digest, offer.size);
    }
    fl_arena_destroy(arena);
    advance(core);
}

/* --- what happens next ---------------------------------------------------------------------- */

void advance_initial(struct fl_aggregator_core *core)
{
    struct initial *initial = &core->initial;
    struct upload *upload = initial->maker ? upload_of(core, initial->maker->id) : NULL;
    struct member *next;

    if (initial->ticket)
        return;
    if (upload && upload->state == UPLOAD_STAGED) {
        adopt(core, upload);
        return;
    }
    if (initial->maker && core->now_ms >= initial->until_ms)
        drop_member(core, initial->maker, "Timeout", "was not done by its deadline");
    if (initial->maker)
        return;
    next = initial->asked < TRIES_MAX ? next_maker(core) : NULL;
    if (next)
        ask_maker(core, next);
    else if (initial->asked > 0 || core->now_ms >= initial->until_ms)
        fail_initial(core);
}

int64_t initial_deadline(const struct fl_aggregator_core *core)
{
    return core->initial.active && !core->initial.ticket ? core->initial.until_ms : INT64_MAX;
}

/* --- below a parent ------------------------------------------------------------------------- */

void fl_aggregator_parent_init(struct fl_aggregator_core *core, int64_t now_ms,
                               const struct fl_task *task)
{
    struct initial wanted = {.for_parent = true,
                             .round = task->round,
                             .attempt = task->attempt,
                             .seed = task->seed,
                             .patience_ms = task->deadline_ms / 2 + 1};

    core->now_ms = now_ms;
    abort_round(core, "the parent has gone on");
    drop_evaluation(core);
    if (!core->project)
        core->project = fl_strdup(task->project);
    (void)snprintf(wanted.work, sizeof(wanted.work), "%.*s", (int)sizeof(wanted.work) - 1,
                   task->work);
    start_initial(core, &wanted);
    advance(core);
}
