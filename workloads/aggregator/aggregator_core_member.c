/* Members: joining, tasks, polls, who may take part. */
#include "workloads/aggregator/aggregator_core_internal.h"

#include "lib/str.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

void member_destroy(void *value)
{
    struct member *member = value;

    for (size_t i = 0; i < member->tag_count; i++)
        free(member->tags[i]);
    free(member->tags);
    free(member->id);
    free(member->project);
    free(member->token);
    free(member->move_to);
    free(member);
}

struct member *find_member(const struct fl_aggregator_core *core, const char *id)
{
    return id ? fl_map_get(core->members, id) : NULL;
}

bool is_available(const struct fl_aggregator_core *core, const struct member *member)
{
    return !member->move_to && core->now_ms - member->heard_ms <= core->options.silence_ms;
}

static bool has_tag(const struct member *member, const char *tag)
{
    for (size_t i = 0; i < member->tag_count; i++)
        if (fl_streq(member->tags[i], tag))
            return true;
    return false;
}

bool fits_round(const struct fl_aggregator_core *core, const struct member *member)
{
    const struct fl_round_order *spec = &core->spec;

    if (!core->has_round)
        return true;
    if (member->project && !fl_streq(member->project, spec->project))
        return false;
    if (member->examples < spec->min_examples || (member->aggregator && member->learners == 0))
        return false;
    for (size_t i = 0; i < spec->tags.count && !member->aggregator; i++)
        if (!has_tag(member, spec->tags.items[i]))
            return false;
    return true;
}

void tell_members(struct fl_aggregator_core *core)
{
    struct fl_aggregator_action *action;
    int64_t learners = 0, examples = 0;
    void *cursor = NULL, *value;

    core->members_changed = false;
    if (!core->options.has_parent)
        return;
    while (fl_map_next(core->members, &cursor, NULL, &value)) {
        const struct member *member = value;

        learners = add_up(learners, member->aggregator ? member->learners : 1);
        examples = add_up(examples, member->examples);
    }
    if (learners == core->sum_learners && examples == core->sum_examples)
        return;
    action = act(core, FL_AGGREGATOR_MEMBERS);
    action->learners = core->sum_learners = learners;
    action->examples = core->sum_examples = examples;
}

/* --- tasks ---------------------------------------------------------------------------------- */

/* A deep look: also below us. Leaves train for the model only; a tier's sum depends on more. */
static void fill_fit(const struct fl_aggregator_core *core, const struct member *member,
                     struct fl_task *task)
{
    const struct fl_round_order *spec = &core->spec;
    const struct fl_participation_spec *part = &spec->participation;
    int64_t left = core->attempt.deadline_ms - core->now_ms;

    task->attempt = member->duty_attempt;
    task->work = member->aggregator ? core->tier_work : core->leaf_work;
    task->model = spec->model;
    task->model_size = spec->model_size;
    task->deadline_ms = left > 0 ? left : 0;
    task->local = spec->local;
    task->seed = fl_protocol_seed(spec->seed, spec->round, member->id);
    task->tags = spec->tags;
    task->min_examples = spec->min_examples;
    task->late = spec->mode != FL_MODE_SYNC;
    if (!member->aggregator)
        return;
    task->seed = spec->seed; /* each tier derives its learners' from the project's */
    task->tier = (struct fl_tier_spec){
        .present = true,
        .strategy = spec->strategy,
        .precision = core->attempt.precision,
        .max_examples = core->attempt.max_examples,
        .rounds_per_parent_round = spec->rounds_per_parent_round,
        .fraction = part->fraction,
        .over_selection = part->over_selection,
        .quorum = 1,
        .retry_limit = part->retry_limit,
        .deadline_ms = spec->tier_deadline_ms
                           ? spec->tier_deadline_ms
                           : part->deadline_ms * 3 / (4 * spec->rounds_per_parent_round) + 1,
    };
}

static void fill_evaluate(const struct fl_aggregator_core *core, struct fl_task *task)
{
    int64_t left = core->evaluation.deadline_ms - core->now_ms;

    task->model = core->evaluation.model;
    task->model_size = core->evaluation.model_size;
    task->deadline_ms = left > 0 ? left : 0;
    task->tags = core->spec.tags;
    task->local = core->spec.local;
}

static bool duty_is_current(const struct fl_aggregator_core *core, const struct member *member)
{
    return member->duty != DUTY_FIT || (core->has_round && member->duty_round == core->spec.round &&
                                        member->duty_attempt == core->attempt_number);
}

static void fill_task(const struct fl_aggregator_core *core, const struct member *member,
                      struct fl_task *task, char origin[64])
{
    fl_message_init(&fl_form_task, task);
    task->seq = member->seq;
    task->kind = member->task;
    if (!duty_is_current(core, member)) { /* late work goes on; there is nothing new to say of it */
        task->kind = FL_TASK_WAIT;
        return;
    }
    if (task->kind == FL_TASK_MOVE)
        task->address = member->move_to;
    if (task->kind == FL_TASK_END)
        task->message = core->stop_message;
    if (task->kind != FL_TASK_FIT && task->kind != FL_TASK_EVALUATE && task->kind != FL_TASK_INIT)
        return;
    (void)snprintf(origin, 64, "%" PRId64 ".%" PRId64, core->spec.round, core->attempt_number);
    task->origin = core->origin ? core->origin : origin;
    task->project = core->project;
    task->round = member->duty_round;
    if (task->kind == FL_TASK_FIT)
        fill_fit(core, member, task);
    else if (task->kind == FL_TASK_INIT)
        fill_init(core, task);
    else
        fill_evaluate(core, task);
}

void drop_poll(struct fl_aggregator_core *core, struct member *member)
{
    if (!member->poll)
        return;
    TAILQ_REMOVE(&core->polls, member, polling);
    member->poll = 0;
}

void answer_poll(struct fl_aggregator_core *core, struct member *member)
{
    uint64_t request = member->poll;
    struct fl_task task;
    char origin[64];

    if (!request)
        return;
    drop_poll(core, member);
    fill_task(core, member, &task, origin);
    if (task.kind == FL_TASK_END)
        member->told_end = true;
    reply(core, request, &fl_form_task, &task);
}

void set_task(struct fl_aggregator_core *core, struct member *member, enum fl_task_kind kind)
{
    if (core->stopped)
        kind = FL_TASK_END;
    else if (member->move_to)
        kind = FL_TASK_MOVE;
    if (kind == FL_TASK_WAIT && member->task == FL_TASK_WAIT)
        return;
    member->task = kind;
    member->seq = ++core->seq;
    answer_poll(core, member);
}

/* --- requests ------------------------------------------------------------------------------- */

static void not_joined(struct fl_aggregator_core *core, uint64_t request)
{
    struct fl_error err;

    (void)fl_error_set(&err, FL_E_NOT_FOUND, "not a member: join first");
    reply_error(core, request, &err, FL_REASON_NOT_JOINED);
}

static struct member *new_member(struct fl_aggregator_core *core, const char *id)
{
    struct member *member = fl_calloc(1, sizeof(*member));

    member->id = fl_strdup(id);
    member->stats.id = member->id;
    member->stats.loss = NAN;
    fl_map_put(core->members, id, member);
    member->heard_ms = core->now_ms;
    set_task(core, member, FL_TASK_WAIT);
    return member;
}

static void describe(struct member *member, const struct fl_join *join)
{
    free(member->project);
    member->project = join->project ? fl_strdup(join->project) : NULL;
    free(member->token);
    member->token = join->token ? fl_strdup(join->token) : NULL;
    for (size_t i = 0; i < member->tag_count; i++)
        free(member->tags[i]);
    free(member->tags);
    member->tags = fl_calloc(join->tags.count + 1, sizeof(*member->tags));
    member->tag_count = join->tags.count;
    for (size_t i = 0; i < join->tags.count; i++)
        member->tags[i] = fl_strdup(join->tags.items[i]);
    member->examples = join->examples;
    member->learners = join->learners;
    member->aggregator = join->aggregator;
    if (isnan(member->stats.loss))
        member->stats.examples = join->examples;
    if (join->expected_fit_ms > 0)
        member->stats.expected_speed = 1.0 / (double)join->expected_fit_ms;
}

/* Where an orphan belongs: its own aggregator if that is back, otherwise the smallest one. */
static const char *place_orphan(const struct fl_aggregator_core *core, const char *lost)
{
    const char *id, *best = NULL;
    int64_t least = INT64_MAX;
    void *cursor = NULL, *address;

    while (fl_map_next(core->children, &cursor, &id, &address)) {
        const struct member *child = find_member(core, id);

        if (!child || !child->aggregator || !is_available(core, child))
            continue;
        if (fl_streq(id, lost))
            return address;
        if (child->learners < least) {
            least = child->learners;
            best = address;
        }
    }
    return best;
}

void handle_join(struct fl_aggregator_core *core, uint64_t request, const struct fl_join *join)
{
    const struct fl_aggregator_options *options = &core->options;
    struct member *member = find_member(core, join->learner);
    const char *place;
    struct fl_joined joined;
    struct fl_error err;

    if (join->protocol != FL_PROTOCOL_VERSION)
        (void)fl_error_set(&err, FL_E_INVALID, "protocol %" PRId64 " is spoken, not %" PRId64,
                           (int64_t)FL_PROTOCOL_VERSION, join->protocol);
    else if (join->project && core->project && !fl_streq(join->project, core->project))
        (void)fl_error_set(&err, FL_E_CONFLICT, "this is an aggregator of project %s",
                           core->project);
    else if (!member && (int64_t)fl_map_count(core->members) >= options->max_members)
        (void)fl_error_set(&err, FL_E_TOO_MANY_REQUESTS, "there are %" PRId64 " members already",
                           options->max_members);
    else
        err.code = FL_OK;
    if (err.code != FL_OK) {
        reply_error(core, request, &err, NULL);
        return;
    }
    if (!member)
        member = new_member(core, join->learner);
    member->heard_ms = core->now_ms;
    describe(member, join);
    core->has_tiers |= join->aggregator;
    core->members_changed = core->status_changed = true;
    free(FL_TAKE(member->move_to));
    place = join->orphan_of ? place_orphan(core, join->orphan_of) : NULL;
    if (place)
        member->move_to = fl_strdup(place);
    if (place || member->task == FL_TASK_MOVE)
        drop_member(core, member, "Moved", "belongs to another aggregator");
    fl_message_init(&fl_form_joined, &joined);
    joined.protocol = FL_PROTOCOL_VERSION;
    joined.aggregator = core->id;
    joined.project = core->project;
    joined.poll_ms = options->poll_ms;
    joined.silence_ms = options->silence_ms;
    joined.progress_ms = options->progress_ms;
    joined.chunk_bytes = options->chunk_bytes;
    joined.max_update_bytes = options->max_update_bytes;
    joined.parent = core->parent;
    reply(core, request, &fl_form_joined, &joined);
}

void handle_poll(struct fl_aggregator_core *core, uint64_t request, const struct fl_routed *poll)
{
    struct member *member = find_member(core, poll->learner);
    int64_t after = poll->after;

    if (!member || (poll->join && !fl_streq(poll->join, member->token))) {
        not_joined(core, request);
        return;
    }
    member->heard_ms = core->now_ms;
    answer_poll(core, member); /* of an older connection */
    /* It asks for what it was told and does not know (any more). Late work is lost with it. */
    if (after < member->seq && !duty_is_current(core, member)) {
        finish_duty(core, member);
        set_task(core, member, FL_TASK_WAIT);
    }
    member->poll = request;
    member->poll_until_ms = core->now_ms + core->options.poll_ms;
    TAILQ_INSERT_TAIL(&core->polls, member, polling);
    if (after != member->seq)
        answer_poll(core, member);
}

void handle_progress(struct fl_aggregator_core *core, uint64_t request,
                     const struct fl_progress *progress)
{
    struct member *member = find_member(core, progress->learner);
    struct fl_answer answer = {.verdict = FL_VERDICT_OK};
    bool ours;

    if (!member) {
        not_joined(core, request);
        return;
    }
    member->heard_ms = core->now_ms;
    ours = member->duty != DUTY_NONE && member->duty_round == progress->round &&
           (member->duty == DUTY_EVALUATE || member->duty_attempt == progress->attempt);
    if (!ours && progress->round > 0) {
        answer.verdict = FL_VERDICT_STOP;
        answer.reason = "NotWanted";
    } else if (ours && progress->gave_up) {
        drop_member(core, member, fl_str_or(progress->reason, "GaveUp"), progress->message);
    }
    reply(core, request, &fl_form_answer, &answer);
}

void remove_member(struct fl_aggregator_core *core, struct member *member)
{
    answer_poll(core, member);
    discard_uploads_of(core, member->id);
    core->members_changed = core->status_changed = true;
    fl_map_remove(core->members, member->id);
}

void handle_leave(struct fl_aggregator_core *core, uint64_t request, const struct fl_leave *leave)
{
    struct member *member = find_member(core, leave->learner);
    struct fl_answer answer = {.verdict = FL_VERDICT_OK};

    if (member) {
        drop_member(core, member, "Left", leave->message);
        remove_member(core, member);
    }
    reply(core, request, &fl_form_answer, &answer);
}
