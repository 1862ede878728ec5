/* What people and programs are told of a decision: instances, counts, and the reason of Ready. No
 * text depends on how much time is left, or else every look would be a change. */
#include "lib/str.h"
#include "reconcilers/workload/decide_internal.h"

#include <inttypes.h>

/* As the CRD bounds them. */
#define MESSAGE_MAX   1024
#define REASON_MAX    128
#define SIGNAL_MAX    16
#define ID_MAX        256
#define ADDRESS_MAX   512
#define LOG_TAIL_MAX  2048
#define LAST_LINE_MAX 300

/* What a driver says is as long as it likes; the API's fields are not. NULL stays NULL. */
static const char *cut(struct fl_decide *d, const char *text, size_t max)
{
    size_t len = text ? strlen(text) : 0;

    return len <= max ? text : fl_arena_strndup(d->arena, text, fl_utf8_cut(text, len, max));
}

static const char *time_text(struct fl_decide *d, int64_t us)
{
    char text[FL_TIME_SIZE];

    if (us <= 0)
        return NULL;
    fl_time_format(us, text);
    return fl_arena_strdup(d->arena, text);
}

/* "Error (exit code 1)", "Signal (SIGKILL)", "StartFailed (no such file)". */
static const char *exit_text(struct fl_decide *d, const struct fl_run_exit *exit)
{
    const char *reason = fl_str_or(exit->reason, "Unknown");

    if (exit->message)
        return fl_arena_printf(d->arena, "%s (%s)", reason, exit->message);
    if (exit->signal)
        return fl_arena_printf(d->arena, "%s (%s)", reason, exit->signal);
    if (exit->has_code)
        return fl_arena_printf(d->arena, "%s (exit code %" PRId64 ")", reason, exit->code);
    return reason;
}

/* With what the program has said last: most of the time that is the cause. */
static const char *exit_story(struct fl_decide *d, const struct fl_run_exit *exit)
{
    const char *said =
        exit->log_tail ? fl_str_last_line(d->arena, exit->log_tail, LAST_LINE_MAX) : "";

    return fl_arena_printf(d->arena, "%s%s%s", exit_text(d, exit), *said ? ": " : "", said);
}

static const struct fl_run_exit *last_exit(const struct fl_run *run)
{
    return run->state == FL_RUN_ENDED ? &run->exit : &run->last_exit;
}

/* A failure to start that has a word of its own. */
static const char *restart_reason(const struct fl_run *run)
{
    const char *reason = last_exit(run)->reason;

    if (fl_streq(reason, "ImageNotFound") || fl_streq(reason, "PortTaken"))
        return reason;
    return "Restarting";
}

static bool is_restarting(const struct fl_slot *slot)
{
    if (slot->phase == FL_PHASE_BACKOFF)
        return true;
    if (slot->phase == FL_PHASE_DUE)
        return slot->next.failures > 0;
    return slot->phase == FL_PHASE_STARTING && slot->run->failures > 0;
}

/* One instance. */

static enum fl_workload_status_instance_state state_of(const struct fl_slot *slot)
{
    switch (slot->phase) {
    case FL_PHASE_GONE:
    case FL_PHASE_DUE:
    case FL_PHASE_NO_PLACE:
    case FL_PHASE_BACKOFF:
    case FL_PHASE_UNKNOWN:
        break;
    case FL_PHASE_STARTING:
        return FL_WORKLOAD_STATUS_INSTANCE_STATE_STARTING;
    case FL_PHASE_RUNNING:
        return FL_WORKLOAD_STATUS_INSTANCE_STATE_RUNNING;
    case FL_PHASE_STOPPING:
        return FL_WORKLOAD_STATUS_INSTANCE_STATE_STOPPING;
    case FL_PHASE_SUCCEEDED:
        return FL_WORKLOAD_STATUS_INSTANCE_STATE_SUCCEEDED;
    case FL_PHASE_FAILED:
        return FL_WORKLOAD_STATUS_INSTANCE_STATE_FAILED;
    }
    return FL_WORKLOAD_STATUS_INSTANCE_STATE_WAITING;
}

static const char *reason_of(const struct fl_slot *slot)
{
    switch (slot->phase) {
    case FL_PHASE_GONE:
        return "Suspended";
    case FL_PHASE_DUE:
    case FL_PHASE_STARTING:
        return is_restarting(slot) ? restart_reason(slot->run) : "Starting";
    case FL_PHASE_NO_PLACE:
        return "NoPlace";
    case FL_PHASE_BACKOFF:
        return restart_reason(slot->run);
    case FL_PHASE_RUNNING:
        return "Running";
    case FL_PHASE_STOPPING:
        return "Stopping";
    case FL_PHASE_UNKNOWN:
        return "OrchestratorNotReady";
    case FL_PHASE_SUCCEEDED:
        return "Completed";
    case FL_PHASE_FAILED:
        return slot->reason;
    }
    return NULL;
}

static const char *message_of(struct fl_decide *d, const struct fl_slot *slot)
{
    if (slot->phase == FL_PHASE_BACKOFF)
        return fl_arena_printf(d->arena, "last exit: %s; starts again at %s",
                               exit_text(d, &slot->run->exit), time_text(d, slot->until_us));
    if (slot->phase == FL_PHASE_FAILED)
        return fl_arena_printf(d->arena, "given up; last exit: %s", exit_text(d, &slot->run->exit));
    if (slot->phase == FL_PHASE_NO_PLACE)
        return d->out->no_place;
    /* A probe that fails, or a limit that does not hold here: also of one that is ready. */
    return slot->phase == FL_PHASE_STARTING || slot->phase == FL_PHASE_RUNNING ? slot->run->message
                                                                               : NULL;
}

static void show_exit(struct fl_decide *d, const struct fl_run_exit *exit,
                      struct fl_workload_status_instance *shown)
{
    if (!exit->reason)
        return;
    shown->has_last_exit = true;
    shown->last_exit = (struct fl_workload_status_instance_last_exit){
        .code = exit->code,
        .has_code = exit->has_code,
        .signal = cut(d, exit->signal, SIGNAL_MAX),
        .oom_killed = exit->oom_killed,
        .has_oom_killed = exit->oom_killed,
        .reason = cut(d, exit->reason, REASON_MAX),
        .time = time_text(d, exit->ended_us),
        .log_tail = cut(d, exit->log_tail, LOG_TAIL_MAX),
    };
}

static void show_ports(struct fl_decide *d, const struct fl_run *run,
                       struct fl_workload_status_instance *shown)
{
    shown->ports.items =
        fl_new_array(d->arena, struct fl_workload_status_instance_port, run->port_count);
    shown->ports.count = run->port_count;
    for (size_t i = 0; i < run->port_count; i++)
        shown->ports.items[i] = (struct fl_workload_status_instance_port){
            .name = run->ports[i].name,
            .port = run->ports[i].port,
            .has_port = true,
            .host_port = run->ports[i].host_port,
            .has_host_port = run->ports[i].host_port > 0,
        };
}

/* Where it runs and how it is reached: only while it does. */
static void show_run(struct fl_decide *d, const struct fl_run *run,
                     struct fl_workload_status_instance *shown)
{
    shown->cluster = run->cluster;
    shown->node = run->node;
    shown->start_time = time_text(d, run->started_us);
    shown->image_digest = run->image_digest;
    shown->restarts = run->restarts;
    shown->has_restarts = true;
    show_exit(d, last_exit(run), shown);
    if (run->state == FL_RUN_ENDED)
        return;
    shown->id = cut(d, run->id, ID_MAX);
    shown->address = cut(d, run->address, ADDRESS_MAX);
    if (run->port_count > 0)
        show_ports(d, run, shown);
}

static void show_instance(struct fl_decide *d, const struct fl_slot *slot,
                          struct fl_workload_status_instance *shown)
{
    *shown = (struct fl_workload_status_instance){
        .index = slot->index,
        .state = state_of(slot),
        .ready = slot->phase == FL_PHASE_RUNNING,
        .has_ready = true,
        .reason = reason_of(slot),
        .message = cut(d, message_of(d, slot), MESSAGE_MAX),
    };
    if (slot->run)
        show_run(d, slot->run, shown);
}

static void show_instances(struct fl_decide *d)
{
    struct fl_workload_status_instance_list *list = &d->out->instances;

    list->items = fl_new_array(d->arena, struct fl_workload_status_instance, d->count);
    for (size_t i = 0; i < d->count; i++)
        if (d->slots[i].is_wanted || d->slots[i].phase == FL_PHASE_STOPPING)
            show_instance(d, &d->slots[i], &list->items[list->count++]);
}

/* Counts. */

static void count(struct fl_decide *d)
{
    struct fl_workload_status_replicas *replicas = &d->out->replicas;

    *replicas = (struct fl_workload_status_replicas){
        .desired = d->input->intent == FL_INTENT_RUN ? d->desired : 0,
        .has_desired = true,
        .has_current = true,
        .has_ready = true,
        .has_succeeded = true,
        .has_failed = true,
        .has_restarts = true,
    };
    for (size_t i = 0; i < d->count; i++) {
        const struct fl_slot *slot = &d->slots[i];

        d->out->left += slot->run != NULL;
        replicas->current += slot->run && slot->run->state != FL_RUN_ENDED;
        replicas->ready += slot->phase == FL_PHASE_RUNNING;
        replicas->succeeded += slot->phase == FL_PHASE_SUCCEEDED;
        replicas->failed += slot->phase == FL_PHASE_FAILED;
        replicas->restarts += slot->is_wanted && slot->run ? slot->run->restarts : 0;
    }
    d->out->living = (size_t)replicas->current;
    replicas->summary =
        fl_arena_printf(d->arena, "%" PRId64 "/%" PRId64, replicas->ready, replicas->desired);
}

/* The verdict: of all that could be said the most useful. */

static void conclude(struct fl_decide *d, enum fl_verdict_type verdict, const char *reason,
                     const char *message)
{
    d->out->verdict = verdict;
    d->out->reason = reason;
    d->out->message = message;
}

/* The first wanted instance of which it holds. */
static const struct fl_slot *first(const struct fl_decide *d,
                                   bool (*holds)(const struct fl_slot *slot))
{
    for (size_t i = 0; i < d->count; i++)
        if (d->slots[i].is_wanted && holds(&d->slots[i]))
            return &d->slots[i];
    return NULL;
}

static bool has_failed(const struct fl_slot *slot)
{
    return slot->phase == FL_PHASE_FAILED;
}

static bool has_no_place(const struct fl_slot *slot)
{
    return slot->phase == FL_PHASE_NO_PLACE;
}

static bool is_unknown(const struct fl_slot *slot)
{
    return slot->phase == FL_PHASE_UNKNOWN;
}

static bool is_not_there(const struct fl_slot *slot)
{
    return slot->is_outdated || slot->is_misplaced || slot->stop_reason ||
           (slot->phase != FL_PHASE_RUNNING && slot->phase != FL_PHASE_SUCCEEDED);
}

static bool is_running(const struct fl_slot *slot)
{
    return slot->phase == FL_PHASE_RUNNING;
}

static void conclude_failed(struct fl_decide *d, const struct fl_slot *slot)
{
    conclude(d, FL_VERDICT_STALLED, slot->reason,
             fl_arena_printf(d->arena,
                             "instance %" PRId64 " was given up after %" PRId64
                             " restarts; last exit: %s",
                             slot->index, slot->run->restarts, exit_story(d, &slot->run->exit)));
}

static void conclude_restarting(struct fl_decide *d, const struct fl_slot *slot)
{
    conclude(d, FL_VERDICT_NOT_YET, restart_reason(slot->run),
             fl_arena_printf(
                 d->arena, "%s instances are ready; instance %" PRId64 ": last exit: %s",
                 d->out->replicas.summary, slot->index, exit_story(d, last_exit(slot->run))));
}

static void conclude_good(struct fl_decide *d)
{
    const char *summary = d->out->replicas.summary;

    if (d->desired > 0 && !first(d, is_running))
        conclude(d, FL_VERDICT_READY, "Completed",
                 fl_arena_printf(d->arena, "all %" PRId64 " instances ended well", d->desired));
    else
        conclude(d, FL_VERDICT_READY, "Running",
                 fl_arena_printf(d->arena, "%s instances are ready", summary));
}

static void conclude_run(struct fl_decide *d)
{
    const struct fl_slot *slot;

    if ((slot = first(d, has_failed)))
        conclude_failed(d, slot);
    else if (first(d, has_no_place))
        conclude(d, FL_VERDICT_NOT_YET, "NoPlace", d->out->no_place);
    else if (first(d, is_unknown))
        conclude(d, FL_VERDICT_NOT_YET, "OrchestratorNotReady",
                 "the orchestrator cannot say how instances are");
    else if ((slot = first(d, is_restarting)))
        conclude_restarting(d, slot);
    else if (first(d, is_not_there))
        conclude(d, FL_VERDICT_NOT_YET, "Starting",
                 fl_arena_printf(d->arena, "%s instances are ready", d->out->replicas.summary));
    else
        conclude_good(d);
}

static void conclude_stop(struct fl_decide *d)
{
    if (d->out->living > 0)
        conclude(d, FL_VERDICT_NOT_YET, "Suspended",
                 fl_arena_printf(d->arena, "%zu instances are stopping", d->out->living));
    else
        conclude(d, FL_VERDICT_READY, "Suspended", "no instance runs");
}

void fl_decide_show(struct fl_decide *d)
{
    const struct fl_slot *homeless = first(d, has_no_place);

    if (homeless)
        d->out->no_place =
            fl_arena_printf(d->arena, "instance %" PRId64 " has no place: %s", homeless->index,
                            fl_places_why_not(&d->places, d->arena));
    count(d);
    show_instances(d);
    if (d->input->intent == FL_INTENT_RUN)
        conclude_run(d);
    else
        conclude_stop(d);
}
