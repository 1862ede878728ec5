#include "reconcilers/workload/oakestra/core.h"

#include "lib/str.h"

#include <assert.h>

#define S(seconds)    ((seconds)*INT64_C(1000000))
#define CREATES_MAX   3
#define DEPLOYS_MAX   3
#define SETTLE_US     S(3) /* until what a broken-off call caused can be seen */
#define AGAIN_US      S(5) /* before a call is repeated; doubled each time */
#define AGAIN_MAX_US  S(60)
#define MISSING_US    S(10) /* until it is believed that something has gone by itself */
#define UNDEPLOYS_MAX 4     /* then the service is deleted with its instance */
#define TAIL_MAX      2048

struct judging {
    struct oak_record *record;
    struct fl_arena *arena;
    const struct oak_sight *sight;
    const struct oak_settings *settings;
    struct oak_act *act;
};

static void do_next(const struct judging *j, enum oak_act_type type)
{
    j->act->type = type;
}

static void look_again_at(const struct judging *j, int64_t at_us)
{
    if (j->act->again_us == 0 || at_us < j->act->again_us)
        j->act->again_us = at_us;
}

/* Whether so long has passed since; if not, when. Outages do not count; nor does what a clock that
 * was set back calls the future: then it is long ago. */
static bool is_over(const struct judging *j, int64_t since_us, int64_t delay_us)
{
    int64_t now_us = j->sight->now_us;

    if (since_us < j->sight->silent_us)
        since_us = j->sight->silent_us;
    if (since_us > now_us || now_us - since_us >= delay_us)
        return true;
    look_again_at(j, since_us + delay_us);
    return false;
}

static int64_t backoff_us(int64_t calls)
{
    int64_t delay_us = AGAIN_US;

    for (int64_t i = 1; i < calls && delay_us < AGAIN_MAX_US; i++)
        delay_us *= 2;
    return delay_us < AGAIN_MAX_US ? delay_us : AGAIN_MAX_US;
}

/* The end */

static const char *tail_of(struct fl_arena *arena, const char *logs)
{
    size_t len = logs ? strlen(logs) : 0;

    if (len == 0)
        return NULL;
    logs += len > TAIL_MAX ? len - TAIL_MAX : 0;
    while ((*logs & 0xC0) == 0x80)
        logs++;
    return fl_arena_strdup(arena, logs);
}

static struct fl_run_exit *end(const struct judging *j, const char *reason, const char *message)
{
    struct fl_run_exit *exit = &j->record->exit;

    *exit = (struct fl_run_exit){
        .reason = fl_arena_strdup(j->arena, reason),
        .message = message ? fl_arena_strdup(j->arena, message) : NULL,
        .ended_us = j->sight->now_us,
    };
    j->act->changed = true;
    return exit;
}

static void end_as_told(const struct judging *j, const struct oak_instance *instance,
                        const char *reason, const char *message)
{
    end(j, reason, message)->log_tail = tail_of(j->arena, instance->logs);
}

void oak_call_back(struct oak_record *record, struct fl_arena *arena, const char *reason,
                   int64_t now_us)
{
    if (record->exit.reason)
        return;
    record->exit =
        (struct fl_run_exit){.reason = fl_arena_strdup(arena, reason), .ended_us = now_us};
}

static void be_gone(const struct judging *j)
{
    struct oak_record *record = j->record;

    record->gone = true;
    record->service_id = NULL;
    record->instance = -1;
    record->trouble = NULL;
    /* What was called back has ended when it is gone, not when it was called. */
    if (!record->exit.has_code && record->exit.ended_us < j->sight->now_us && !record->exit.message)
        record->exit.ended_us = j->sight->now_us;
    j->act->changed = true;
}

/* Not in the list */

/* Whether that is so for a while now. */
static bool is_missing(const struct judging *j, int64_t while_us)
{
    struct oak_record *record = j->record;

    if (record->missing_us == 0) {
        record->missing_us = j->sight->asked_us;
        j->act->changed = true;
    }
    return is_over(j, record->missing_us, while_us) &&
           (while_us == 0 || j->sight->asked_us > record->missing_us);
}

static void create_if_due(const struct judging *j)
{
    struct oak_record *record = j->record;

    if (!j->sight->has_sla) {
        if (record->creates == 0 || is_missing(j, SETTLE_US)) {
            end(j, "Lost", "the control plane ended before the root had it");
            be_gone(j);
        }
        return;
    }
    if (record->creates > 0 && !is_over(j, record->acted_us, SETTLE_US))
        return;
    if (record->creates >= CREATES_MAX)
        end(j, "StartFailed",
            fl_str_or(record->trouble, "the service does not appear at the root"));
    else
        do_next(j, OAK_CREATE);
}

static void miss(const struct judging *j)
{
    struct oak_record *record = j->record;
    bool could_appear = record->creates > 0 && !record->service_id && record->deletes == 0;

    if (record->exit.reason) {
        /* A call that broke off may still have its effect. */
        if (is_missing(j, could_appear ? SETTLE_US : 0))
            be_gone(j);
    } else if (!record->service_id) {
        create_if_due(j);
    } else if (is_missing(j, MISSING_US)) {
        end(j, "Lost", "the service has gone from the root");
        be_gone(j);
    }
}

/* In the list, and ending */

static void retreat(const struct judging *j)
{
    const struct oak_service *service = j->sight->service;
    struct oak_record *record = j->record;
    int64_t calls = record->undeploys + record->deletes;

    if (calls > 0 &&
        !is_over(j, record->acted_us,
                 service->instance_count > 0 || record->deletes > 0 ? backoff_us(calls) : 0))
        return;
    if (service->instance_count > 0 && record->undeploys < UNDEPLOYS_MAX) {
        j->act->instance = service->instances[0].number;
        do_next(j, OAK_UNDEPLOY);
        return;
    }
    do_next(j, OAK_DELETE);
}

/* In the list, and wanted */

static void see_status(const struct judging *j, enum oak_status status)
{
    if (j->record->status == status)
        return;
    j->record->status = status;
    j->record->status_us = j->sight->now_us;
    j->act->changed = true;
}

static void refuse(const struct judging *j)
{
    const struct oak_service *service = j->sight->service;

    end(j, "StartFailed",
        fl_arena_printf(j->arena, "Oakestra's scheduler: %s%s%s", service->status_text,
                        service->detail[0] ? ": " : "", service->detail));
}

/* A deploy call that had no effect: lost, or still on its way through the scheduler. A second
 * instance that comes of asking again is removed. */
static void deploy_if_due(const struct judging *j)
{
    struct oak_record *record = j->record;

    if (record->instance >= 0) {
        if (is_missing(j, MISSING_US))
            end(j, "Lost", "its instance has gone from the root");
        return;
    }
    if (record->deploys > 0 && j->sight->service->status == OAK_REFUSED) {
        refuse(j);
        return;
    }
    if (record->deploys > 0 &&
        !is_over(j, record->acted_us, j->settings->schedule_ms * 1000 / DEPLOYS_MAX))
        return;
    if (record->deploys >= DEPLOYS_MAX)
        end(j, "StartFailed", "Oakestra does not schedule it, asked three times");
    else
        do_next(j, OAK_DEPLOY);
}

/* The one that runs, or else the first. */
static const struct oak_instance *pick(const struct oak_service *service)
{
    for (size_t i = 0; i < service->instance_count; i++)
        if (service->instances[i].status == OAK_RUNNING)
            return &service->instances[i];
    return &service->instances[0];
}

static bool remove_extra(const struct judging *j, const struct oak_instance *kept)
{
    const struct oak_service *service = j->sight->service;

    for (size_t i = 0; i < service->instance_count; i++) {
        if (service->instances[i].number == kept->number)
            continue;
        if (j->record->undeploys > 0 &&
            !is_over(j, j->record->acted_us, backoff_us(j->record->undeploys)))
            return false;
        j->act->instance = service->instances[i].number;
        do_next(j, OAK_UNDEPLOY);
        return true;
    }
    return false;
}

static int64_t patience_us(const struct judging *j, enum oak_status status)
{
    int64_t schedule_us = j->settings->schedule_ms * 1000;

    switch (status) {
    case OAK_REQUESTED:
        return schedule_us;
    case OAK_CLUSTER_SCHEDULED:
        return 2 * schedule_us; /* may hang there for ever where its cluster finds no node */
    case OAK_NODE_SCHEDULED:
        return 10 * schedule_us; /* some nodes say no more than that while they fetch the image */
    default:
        return 30 * schedule_us; /* an image of gigabytes on its way to the edge */
    }
}

static void wait(const struct judging *j, const struct oak_instance *instance)
{
    struct oak_record *record = j->record;

    if (record->started_us > 0) {
        end_as_told(j, instance, "Error",
                    "it ended, and the cluster was about to start it again by itself");
        return;
    }
    if (is_over(j, record->status_us, patience_us(j, instance->status)))
        end_as_told(
            j, instance, "StartFailed",
            fl_arena_printf(j->arena, "it stays %s%s%s",
                            instance->status_text[0] ? instance->status_text : "without a state",
                            instance->detail[0] ? ": " : "", instance->detail));
}

static void see_running(const struct judging *j, const struct oak_instance *instance)
{
    struct oak_record *record = j->record;

    if (record->started_us == 0) {
        record->started_us = j->sight->now_us;
        j->act->changed = true;
    }
    if (record->ready_us == 0)
        record->ready_us = j->sight->now_us;
    if (instance->public_ip[0] && !fl_streq(record->public_ip, instance->public_ip)) {
        record->public_ip = fl_arena_strdup(j->arena, instance->public_ip);
        j->act->changed = true;
    }
}

/* Oakestra tells no exit code, but what the node says of it. */
static void see_failed(const struct judging *j, const struct oak_instance *instance)
{
    const char *detail = instance->detail;

    if (strcasestr(detail, "failed to start") || strcasestr(detail, "pull")) {
        end_as_told(j, instance, "StartFailed", detail);
        return;
    }
    if (strcasestr(detail, "worker")) {
        end_as_told(j, instance, j->record->started_us > 0 ? "Lost" : "StartFailed", detail);
        return;
    }
    if (j->record->started_us == 0)
        j->record->started_us = j->sight->now_us;
    end_as_told(j, instance, "Error", detail[0] ? detail : NULL);
}

static void see_completed(const struct judging *j, const struct oak_instance *instance)
{
    struct fl_run_exit *exit;

    if (j->record->started_us == 0)
        j->record->started_us = j->sight->now_us;
    exit = end(j, "Completed", NULL);
    exit->has_code = true;
    exit->log_tail = tail_of(j->arena, instance->logs);
}

static void follow(const struct judging *j, const struct oak_instance *instance)
{
    see_status(j, instance->status);
    switch (instance->status) {
    case OAK_RUNNING:
        see_running(j, instance);
        return;
    case OAK_DEAD:
    case OAK_COMPLETED:
        see_completed(j, instance);
        return;
    case OAK_FAILED:
        see_failed(j, instance);
        return;
    case OAK_UNDEPLOYED:
        end_as_told(j, instance, "Lost", "Oakestra undeployed it");
        return;
    case OAK_REFUSED: /* a cluster tries again for ever; here the reconciler does, with back-off */
        end_as_told(
            j, instance, "StartFailed",
            fl_arena_printf(j->arena, "the cluster's scheduler: %s", instance->status_text));
        return;
    default:
        wait(j, instance);
        return;
    }
}

static void advance(const struct judging *j)
{
    const struct oak_service *service = j->sight->service;
    struct oak_record *record = j->record;
    const struct oak_instance *instance;

    if (service->instance_count == 0) {
        deploy_if_due(j);
        return;
    }
    instance = pick(service);
    if (remove_extra(j, instance))
        return;
    if (record->instance != instance->number) {
        record->instance = instance->number;
        j->act->changed = true;
    }
    record->missing_us = 0;
    if (record->cluster_id && instance->cluster_id[0] &&
        strcmp(record->cluster_id, instance->cluster_id) != 0) {
        end_as_told(j, instance, "StartFailed",
                    fl_arena_printf(j->arena, "Oakestra put it into another cluster than %s",
                                    fl_str_or(record->cluster, "")));
        return;
    }
    follow(j, instance);
}

static void see_service(const struct judging *j)
{
    struct oak_record *record = j->record;

    if (!fl_streq(record->service_id, j->sight->service->id)) {
        record->service_id = fl_arena_strdup(j->arena, j->sight->service->id);
        j->act->changed = true;
    }
    if (j->sight->service->instance_count > 0 || record->instance < 0)
        record->missing_us = 0;
}

void oak_judge(struct oak_record *record, struct fl_arena *arena, const struct oak_sight *sight,
               const struct oak_settings *settings, struct oak_act *ret_act)
{
    const struct judging j = {record, arena, sight, settings, ret_act};

    *ret_act = (struct oak_act){.type = OAK_NOTHING};
    if (record->gone || sight->turn < record->acted_turn)
        return;
    /* It was called back before anything was sent. */
    if (record->exit.reason && record->creates == 0 && !record->service_id && !sight->service) {
        be_gone(&j);
        return;
    }
    if (!sight->service) {
        miss(&j);
        return;
    }
    see_service(&j);
    if (!record->exit.reason)
        advance(&j);
    if (record->exit.reason)
        retreat(&j);
}

/* Calls */

void oak_acting(struct oak_record *record, const struct oak_act *act, int64_t now_us)
{
    record->creates += act->type == OAK_CREATE;
    record->deploys += act->type == OAK_DEPLOY;
    record->undeploys += act->type == OAK_UNDEPLOY;
    record->deletes += act->type == OAK_DELETE;
    record->acted_us = now_us;
}

void oak_acted(struct oak_record *record, struct fl_arena *arena, const char *problem,
               int64_t now_us, int64_t turn)
{
    record->acted_us = now_us;
    record->acted_turn = turn;
    record->trouble = fl_arena_copy(arena, problem);
}

bool oak_is_settled(const struct oak_record *record)
{
    return record->gone || (!record->exit.reason && record->status == OAK_RUNNING);
}
