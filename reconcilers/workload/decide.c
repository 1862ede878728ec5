#include "reconcilers/workload/decide.h"

#include "lib/str.h"
#include "reconcilers/workload/decide_internal.h"

#include <inttypes.h>

#define UNKNOWN_AGAIN_MS 10000 /* when an orchestrator that could not be asked is asked again */
#define STOP_SLACK_MS    5000  /* beyond the grace, until a run that stops is looked at again */

/* Waiting. */

static void look_again_in(struct fl_decide *d, int64_t delay_ms)
{
    if (delay_ms < 1)
        delay_ms = 1;
    if (d->out->look_again_ms < 0 || delay_ms < d->out->look_again_ms)
        d->out->look_again_ms = delay_ms;
}

/* Rounded down; a time in the future counts as now. */
static int64_t elapsed_ms(const struct fl_decide *d, int64_t since_us)
{
    return since_us < d->input->now_us ? (d->input->now_us - since_us) / 1000 : 0;
}

/* Whether it is over; if not, that it is looked at again when it is. */
static bool is_over(struct fl_decide *d, int64_t since_us, int64_t deadline_ms)
{
    int64_t elapsed = elapsed_ms(d, since_us);

    if (elapsed >= deadline_ms)
        return true;
    look_again_in(d, deadline_ms - elapsed);
    return false;
}

static int64_t duration(const char *text, int64_t fallback_ms)
{
    int64_t ms = fallback_ms;

    if (text)
        (void)fl_duration_parse(text, &ms);
    return ms;
}

static struct fl_decide_settings read_settings(const struct fl_workload_spec *spec)
{
    return (struct fl_decide_settings){
        .grace_ms = duration(spec->grace_period, 30000),
        .initial_delay_ms = duration(spec->restart.initial_delay, 1000),
        .max_delay_ms = duration(spec->restart.max_delay, 300000),
        .reset_after_ms = duration(spec->restart.reset_after, 600000),
        .start_deadline_ms = duration(spec->start_deadline, 300000),
        .active_deadline_ms = duration(spec->active_deadline, -1),
    };
}

/* What one run means. */

static bool is_alive(const struct fl_run *run)
{
    return run && run->state != FL_RUN_ENDED;
}

/* The control plane itself asked for the end, which says nothing of the program. */
static bool was_called_back(const struct fl_run *run)
{
    return fl_streq(run->exit.reason, "Stopped") || fl_streq(run->exit.reason, "Suspended");
}

static bool ended_well(const struct fl_run *run)
{
    return run->exit.has_code && run->exit.code == 0 && !run->exit.signal &&
           !run->exit.oom_killed && fl_streq(run->exit.reason, "Completed");
}

static bool ran_well(const struct fl_decide *d, const struct fl_run *run)
{
    return run->started_us > 0 && run->exit.ended_us > run->started_us &&
           (run->exit.ended_us - run->started_us) / 1000 >= d->settings.reset_after_ms;
}

static int64_t backoff_ms(const struct fl_decide_settings *settings, int64_t failures)
{
    int64_t delay = settings->initial_delay_ms;

    for (int64_t i = 1; i < failures && delay > 0 && delay < settings->max_delay_ms; i++)
        delay *= 2;
    return delay < settings->max_delay_ms ? delay : settings->max_delay_ms;
}

/* The deadline of all runs together. A clock that jumped back does not revive what had ended
 * beyond it. */
static bool is_overdue(struct fl_decide *d, const struct fl_run *run)
{
    int64_t deadline_ms = d->settings.active_deadline_ms;
    int64_t first_us = run->first_us > 0 ? run->first_us : run->requested_us;

    if (deadline_ms < 0)
        return false;
    if (run->state == FL_RUN_ENDED && run->exit.ended_us - first_us >= deadline_ms * 1000)
        return true;
    return is_over(d, first_us, deadline_ms);
}

/* An instance that shall run. */

static void begin(struct fl_slot *slot, int64_t first_us, int64_t restarts, int64_t failures)
{
    slot->phase = FL_PHASE_DUE;
    slot->next = (struct fl_action){
        .type = FL_ACTION_START,
        .index = slot->index,
        .number = slot->run ? slot->run->number + 1 : 1,
        .restarts = restarts,
        .failures = failures,
        .first_us = first_us,
    };
}

static void give_up(struct fl_slot *slot, const char *reason)
{
    slot->phase = FL_PHASE_FAILED;
    slot->reason = reason;
}

/* After a failure, or an end where there shall be none. */
static void restart(struct fl_decide *d, struct fl_slot *slot)
{
    const struct fl_run *run = slot->run;
    int64_t failures = ran_well(d, run) ? 1 : run->failures + 1, delay_ms;

    if (failures > d->input->spec->restart.limit) {
        give_up(slot, "OutOfRestarts");
        return;
    }
    delay_ms = backoff_ms(&d->settings, failures);
    /* An end in the future: the clock was set back, and nobody knows how long ago it was. */
    if (run->exit.ended_us <= d->input->now_us && !is_over(d, run->exit.ended_us, delay_ms)) {
        slot->phase = FL_PHASE_BACKOFF;
        slot->until_us = run->exit.ended_us + delay_ms * 1000;
        return;
    }
    begin(slot, run->first_us > 0 ? run->first_us : run->requested_us, run->restarts + 1, failures);
}

static void judge_ended(struct fl_decide *d, struct fl_slot *slot)
{
    const struct fl_run *run = slot->run;
    enum fl_workload_restart_policy policy = d->input->spec->restart_policy;

    if (slot->is_outdated)
        begin(slot, d->input->now_us, 0, 0);
    else if (fl_streq(run->exit.reason, "Suspended"))
        begin(slot, d->input->now_us, run->restarts, run->failures);
    else if (policy != FL_WORKLOAD_RESTART_POLICY_ALWAYS && ended_well(run))
        slot->phase = FL_PHASE_SUCCEEDED;
    else if (is_overdue(d, run))
        give_up(slot, "DeadlineExceeded");
    else if (was_called_back(run))
        begin(slot, run->first_us > 0 ? run->first_us : run->requested_us, run->restarts,
              run->failures);
    else if (policy == FL_WORKLOAD_RESTART_POLICY_NEVER)
        give_up(slot, fl_streq(run->exit.reason, "DeadlineExceeded") ? run->exit.reason
                                                                     : "OutOfRestarts");
    else
        restart(d, slot);
}

static void call_back(struct fl_slot *slot, const char *reason)
{
    slot->stop_reason = reason;
}

/* A run that lives keeps its place, unless that is gone, or not ready for too long, or the spec
 * does not want it there any more; the last can wait for its turn. */
static void check_place(struct fl_decide *d, struct fl_slot *slot)
{
    size_t node = fl_places_find(&d->places, slot->run->cluster, slot->run->node);
    int64_t left_ms = -1;

    if (node == FL_NOWHERE || fl_places_is_lost(&d->places, node, &left_ms)) {
        call_back(slot, "Stopped");
        return;
    }
    if (left_ms > 0)
        look_again_in(d, left_ms);
    if (!fl_places_match(&d->places, node) || d->places.own[node] >= d->places.max_per_node)
        slot->is_misplaced = true;
    fl_places_occupy(&d->places, node);
}

static bool is_late(struct fl_decide *d, const struct fl_slot *slot)
{
    return slot->phase == FL_PHASE_STARTING && slot->run->ready_us == 0 &&
           is_over(d, slot->run->requested_us, d->settings.start_deadline_ms);
}

static void check_deadlines(struct fl_decide *d, struct fl_slot *slot)
{
    if (is_overdue(d, slot->run) || is_late(d, slot))
        call_back(slot, "DeadlineExceeded");
}

static void judge_alive(struct fl_decide *d, struct fl_slot *slot)
{
    switch (slot->run->state) {
    case FL_RUN_STOPPING:
        slot->phase = FL_PHASE_STOPPING;
        look_again_in(d, d->settings.grace_ms + STOP_SLACK_MS);
        return;
    case FL_RUN_UNKNOWN:
        slot->phase = FL_PHASE_UNKNOWN;
        look_again_in(d, UNKNOWN_AGAIN_MS);
        return;
    case FL_RUN_RUNNING:
    case FL_RUN_STARTING:
    case FL_RUN_ENDED:
        break;
    }
    slot->phase = slot->run->state == FL_RUN_RUNNING && slot->run->ready ? FL_PHASE_RUNNING
                                                                         : FL_PHASE_STARTING;
    if (!slot->is_outdated)
        check_deadlines(d, slot);
    check_place(d, slot);
}

/* A place is kept for what will come back to it. */
static void occupy_for_later(struct fl_decide *d, const struct fl_slot *slot)
{
    size_t node = fl_places_find(&d->places, slot->run->cluster, slot->run->node);

    if (node != FL_NOWHERE)
        fl_places_occupy(&d->places, node);
}

static void judge_wanted(struct fl_decide *d, struct fl_slot *slot)
{
    if (!slot->run) {
        begin(slot, d->input->now_us, 0, 0);
        return;
    }
    slot->is_outdated = !fl_streq(slot->run->spec_hash, d->input->spec_hash);
    if (is_alive(slot->run))
        judge_alive(d, slot);
    else
        judge_ended(d, slot);
    if (slot->phase == FL_PHASE_BACKOFF || slot->phase == FL_PHASE_STOPPING ||
        slot->phase == FL_PHASE_UNKNOWN)
        occupy_for_later(d, slot);
}

/* An instance that shall not run: too many, suspended, deleted. */
static void judge_unwanted(struct fl_decide *d, struct fl_slot *slot)
{
    bool keeps_record = d->input->intent == FL_INTENT_SUSPEND && slot->is_wanted;

    if (!is_alive(slot->run)) {
        slot->phase = FL_PHASE_GONE;
        slot->is_removed = slot->run && !keeps_record;
        return;
    }
    slot->phase = FL_PHASE_STOPPING;
    if (slot->run->state == FL_RUN_STOPPING)
        look_again_in(d, d->settings.grace_ms + STOP_SLACK_MS);
    else
        call_back(slot, d->input->intent == FL_INTENT_SUSPEND ? "Suspended" : "Stopped");
}

static void judge(struct fl_decide *d)
{
    for (size_t i = 0; i < d->count; i++) {
        struct fl_slot *slot = &d->slots[i];

        if (d->input->intent == FL_INTENT_RUN && slot->is_wanted)
            judge_wanted(d, slot);
        else
            judge_unwanted(d, slot);
    }
}

/* Which instances there are. */

static struct fl_slot *add_slot(struct fl_decide *d, int64_t index, const struct fl_run *run)
{
    struct fl_slot *slot = &d->slots[d->count++];

    *slot = (struct fl_slot){.index = index, .run = run, .bound = FL_NOWHERE};
    return slot;
}

/* Runs and the indexes below `desired`, merged in order. */
static void want_count(struct fl_decide *d, int64_t desired)
{
    const struct fl_run_list *runs = d->input->runs;
    size_t at = 0;

    d->slots = fl_new_array(d->arena, struct fl_slot, runs->count + (size_t)desired);
    for (int64_t index = 0; index < desired; index++) {
        bool has_run = at < runs->count && runs->items[at].index == index;

        add_slot(d, index, has_run ? &runs->items[at] : NULL)->is_wanted = true;
        at += has_run;
    }
    for (; at < runs->count; at++)
        (void)add_slot(d, runs->items[at].index, &runs->items[at]);
    d->desired = desired;
}

/* One on every node that matches: whoever is there stays, whatever its index. */
static void keep_one_per_node(struct fl_decide *d, bool *covered)
{
    const struct fl_run_list *runs = d->input->runs;

    for (size_t i = 0; i < runs->count; i++) {
        struct fl_slot *slot = add_slot(d, runs->items[i].index, &runs->items[i]);
        size_t node = fl_places_find(&d->places, slot->run->cluster, slot->run->node);
        int64_t left_ms;

        if (node == FL_NOWHERE || covered[node] || !fl_places_match(&d->places, node) ||
            fl_places_is_lost(&d->places, node, &left_ms))
            continue;
        covered[node] = slot->is_wanted = true;
        slot->bound = node;
        d->desired++;
    }
}

static int by_index(const void *a, const void *b)
{
    int64_t left = ((const struct fl_slot *)a)->index, right = ((const struct fl_slot *)b)->index;

    return (left > right) - (left < right);
}

/* Nodes without one get the lowest indexes that are free. */
static void want_one_per_node(struct fl_decide *d)
{
    const struct fl_node_list *nodes = d->input->nodes;
    const struct fl_run_list *runs = d->input->runs;
    bool *covered = fl_new_array(d->arena, bool, nodes->count);
    int64_t index = 0;
    size_t at = 0;

    d->slots = fl_new_array(d->arena, struct fl_slot, runs->count + nodes->count);
    keep_one_per_node(d, covered);
    for (size_t node = 0; node < nodes->count; node++) {
        struct fl_slot *slot;

        if (covered[node] || !nodes->items[node].ready || !fl_places_match(&d->places, node) ||
            fl_places_is_cordoned(&d->places, node))
            continue;
        for (; at < runs->count && runs->items[at].index == index; at++)
            index++;
        slot = add_slot(d, index++, NULL);
        slot->is_wanted = true;
        slot->bound = node;
        d->desired++;
    }
    qsort(d->slots, d->count, sizeof(*d->slots), by_index);
}

static void want(struct fl_decide *d)
{
    const struct fl_workload_spec *spec = d->input->spec;

    if (spec->has_placement && spec->placement.one_per_node)
        want_one_per_node(d);
    else
        want_count(d, spec->instances);
}

/* Places for what is due. */

static size_t find_place(struct fl_decide *d, const struct fl_slot *slot)
{
    if (slot->bound != FL_NOWHERE)
        return fl_places_take_at(&d->places, slot->bound);
    return fl_places_take(
        &d->places,
        slot->run ? fl_places_find(&d->places, slot->run->cluster, slot->run->node) : FL_NOWHERE);
}

static void place(struct fl_decide *d)
{
    for (size_t i = 0; i < d->count; i++) {
        struct fl_slot *slot = &d->slots[i];
        size_t node;

        if (slot->phase != FL_PHASE_DUE)
            continue;
        node = find_place(d, slot);
        if (node == FL_NOWHERE) {
            slot->phase = FL_PHASE_NO_PLACE;
            continue;
        }
        slot->next.cluster = d->input->nodes->items[node].cluster;
        slot->next.node = d->input->nodes->items[node].name;
    }
}

/* Replacement of what is outdated or in a wrong place: all that is not ready at once, since nothing
 * is lost; of what is ready one, and only while all others are well. What has no place does not
 * hold the others up: the new spec may be its remedy. */

static bool is_well(const struct fl_slot *slot)
{
    return !slot->is_wanted || slot->phase == FL_PHASE_SUCCEEDED ||
           slot->phase == FL_PHASE_NO_PLACE ||
           (slot->phase == FL_PHASE_RUNNING && !slot->stop_reason);
}

static bool is_replaced(const struct fl_slot *slot)
{
    return slot->is_wanted && (slot->is_outdated || slot->is_misplaced) && !slot->stop_reason;
}

static void replace(struct fl_decide *d)
{
    struct fl_slot *next = NULL;
    bool all_well = true;

    for (size_t i = 0; i < d->count; i++) {
        struct fl_slot *slot = &d->slots[i];

        if (is_replaced(slot) && slot->phase == FL_PHASE_STARTING)
            call_back(slot, "Stopped");
        else if (is_replaced(slot) && slot->phase == FL_PHASE_RUNNING && !next)
            next = slot;
        all_well = all_well && is_well(slot);
    }
    if (next && all_well)
        call_back(next, "Stopped");
}

/* What is to be done. */

static void act(struct fl_decide *d, const struct fl_action *action)
{
    d->out->actions[d->out->action_count++] = *action;
}

static void collect_actions(struct fl_decide *d)
{
    d->out->actions = fl_new_array(d->arena, struct fl_action, d->count);
    for (size_t i = 0; i < d->count; i++) {
        const struct fl_slot *slot = &d->slots[i];

        if (slot->stop_reason)
            act(d, &(struct fl_action){.type = FL_ACTION_STOP,
                                       .index = slot->index,
                                       .reason = slot->stop_reason,
                                       .grace_ms = d->settings.grace_ms});
        else if (slot->is_removed)
            act(d, &(struct fl_action){.type = FL_ACTION_REMOVE, .index = slot->index});
        else if (slot->phase == FL_PHASE_DUE)
            act(d, &slot->next);
    }
}

void fl_decide(const struct fl_decide_input *input, struct fl_arena *arena,
               struct fl_decision *ret_decision)
{
    struct fl_decide d = {
        .input = input,
        .arena = arena,
        .settings = read_settings(input->spec),
        .out = ret_decision,
    };

    *ret_decision = (struct fl_decision){.look_again_ms = -1};
    fl_places_init(&d.places, input, arena);
    want(&d);
    judge(&d);
    place(&d);
    replace(&d);
    collect_actions(&d);
    fl_decide_show(&d);
}
