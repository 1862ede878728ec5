/* A process's client: the local driver of the world, with faults.
 *
 * Requests meet faults before and after they take place. Lists can be old, but never older than
 * what this process has seen of the resource. Watch events can be late, come twice, or be dropped
 * by a watch that then breaks: it says EXPIRED, as a connection that was lost. */
#include "api/status.h"
#include "e2e/sim/sim.h"
#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>

#define USERS_MAX     16
#define OLD_REVISIONS 30 /* how far behind an old list can be */

struct sim_watch {
    struct sim_process *process;
    struct sim_watch *next;
    struct fl_apiclient_watch *inner;
    char resource[96];
    void (*wake)(void *user);
    void *user;
    bool held;   /* events wait until it is stirred */
    bool broken; /* EXPIRED is all it says from now on, once `held` is over */
    bool twice;  /* the last event comes once more */
    struct fl_event last;
};

struct driver {
    struct sim_process *process;
    struct as_user {
        char name[128];
        struct fl_apiclient *client;
    } users[USERS_MAX];
    size_t user_count;
};

/* Requests. */

static struct fl_apiclient *as_user(struct driver *driver, const struct fl_api_user *user)
{
    struct as_user *entry;

    for (size_t i = 0; i < driver->user_count; i++) {
        if (fl_streq(driver->users[i].name, user->name))
            return driver->users[i].client;
    }
    if (driver->user_count == USERS_MAX)
        return driver->process->sim->client;
    entry = &driver->users[driver->user_count++];
    (void)snprintf(entry->name, sizeof(entry->name), "%s", user->name);
    entry->client = fl_apiclient_as(driver->process->sim->client, user);
    return entry->client;
}

static bool is_read(const struct fl_api_call *call)
{
    return fl_streq(call->method, "GET") || fl_streq(call->method, "HEAD");
}

static bool is_lease(const char *target)
{
    return strstr(target, "/leases") != NULL;
}

static int answer_with(json_t *body, int status, int *ret_status, struct fl_bytes **ret_body)
{
    FL_JSON owned = body;

    *ret_status = status;
    *ret_body = fl_json_to_bytes(owned);
    return 0;
}

/* As the server said it, which the client above will read once more. */
static int answer_with_status(const struct fl_error *err, int *ret_status,
                              struct fl_bytes **ret_body)
{
    int status = fl_error_http_status(err->code);

    return answer_with(json_pack("{s:s,s:s,s:s,s:s,s:s,s:i}", "kind", "Status", "apiVersion", "v1",
                                 "status", "Failure", "message", err->msg, "reason",
                                 fl_error_reason(err->code), "code", status),
                       status, ret_status, ret_body);
}

/* Planted: a lease that looks old by the own clock is taken for a free one. */
static void judge_by_clock(struct sim_process *process, json_t *lease)
{
    json_t *spec = json_object_get(lease, "spec");
    const char *text = fl_json_str(spec, "renewTime");
    int64_t renewed_us;

    if (!text || !fl_time_parse(text, &renewed_us))
        return;
    if (renewed_us + fl_json_int(spec, "leaseDurationSeconds", 15) * 1000000 <
        fl_realtime_us(&process->env))
        (void)json_object_set_new(spec, "holderIdentity", json_string(""));
}

static int forward(struct driver *driver, const struct fl_api_user *user,
                   const struct fl_api_call *call, int *ret_status, struct fl_bytes **ret_body)
{
    struct sim *sim = driver->process->sim;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    struct fl_api_call sent = *call;
    struct fl_error err = {0};
    json_t *value = NULL;
    int r;

    body = sim_plant_in_call(sim, &sent);
    sim->acting = driver->process;
    r = fl_apiclient_call(as_user(driver, user), &sent, &value, &err);
    sim->acting = NULL;
    if (r < 0)
        return answer_with_status(&err, ret_status, ret_body);
    if (is_read(call) && is_lease(call->target) && sim_planted(sim, "lease-by-clock"))
        judge_by_clock(driver->process, value);
    return answer_with(value ? value : json_object(), 200, ret_status, ret_body);
}

static int call_server(void *self, const struct fl_api_user *user, const struct fl_api_call *call,
                       int *ret_status, struct fl_bytes **ret_body, struct fl_error *err)
{
    struct driver *driver = self;
    struct sim_process *process = driver->process;
    char what[200];
    enum sim_fault fault;
    uint64_t revision;
    int r;

    (void)snprintf(what, sizeof(what), "%s %s", call->method, call->target);
    fault = sim_call(process, is_read(call) ? SIM_CALL_READ : SIM_CALL_WRITE, what);
    if (!sim_takes_place(fault))
        return sim_fault_error(fault, err);
    if (!is_read(call) && !is_lease(call->target))
        sim_rule_leader(process, what);
    revision = process->sim->last_revision;
    r = forward(driver, user, call, ret_status, ret_body);
    if (process->sim->idle && process->sim->scenario->is_thrifty && !is_read(call) &&
        !is_lease(call->target) && !strstr(call->target, "/events") &&
        process->sim->last_revision == revision)
        sim_fail(process->sim, "idle-call", "%s changes nothing", what);
    sim_call_done(process, fault);
    sim_trace(process->sim, "    -> %d", *ret_status);
    if (sim_fault_error(fault, err) == 0)
        return r;
    fl_bytes_unref(*ret_body);
    *ret_body = NULL;
    return err ? err->code : FL_E_TIMEOUT;
}

/* Lists. */

static void resource_name(const struct fl_gvr *gvr, char *out, size_t size)
{
    if (*gvr->group)
        (void)snprintf(out, size, "%s.%s", gvr->plural, gvr->group);
    else
        (void)snprintf(out, size, "%s", gvr->plural);
}

static uint64_t *seen_of(struct sim_process *process, const char *resource)
{
    uint64_t *seen = fl_map_get(process->seen, resource);

    if (!seen) {
        seen = fl_calloc(1, sizeof(*seen));
        fl_map_put(process->seen, resource, seen);
    }
    return seen;
}

/* Some moments ago; 0: now. */
static uint64_t how_old(struct sim *sim, uint64_t seen)
{
    uint64_t now = fl_store_revision(sim->store), back;

    if (!sim_is_odd(sim) || now <= seen || !sim_chance(sim, 40))
        return 0;
    back = now - sim_below(sim, OLD_REVISIONS);
    return back < now && back >= seen && back > sim->first_revision ? back : 0;
}

static int list(void *self, const struct fl_gvr *gvr, const char *ns, struct fl_list *ret_list,
                struct fl_error *err)
{
    struct sim_process *process = ((struct driver *)self)->process;
    struct sim *sim = process->sim;
    char resource[96], what[128];
    struct fl_list_query query = {.resource = resource, .ns = ns};
    enum sim_fault fault;
    uint64_t *seen;
    int r;

    resource_name(gvr, resource, sizeof(resource));
    seen = seen_of(process, resource);
    query.revision = how_old(sim, *seen);
    (void)snprintf(what, sizeof(what), "LIST %s%s", resource, query.revision ? " (old)" : "");
    fault = sim_call(process, SIM_CALL_READ, what);
    if (fault && fault != SIM_SLOW) {
        sim_call_done(process, fault);
        return sim_fault_error(fault, err);
    }
    r = query.revision ? fl_store_list(sim->store, &query, ret_list, err)
                       : fl_apiclient_list_objects(sim->client, gvr, ns, ret_list, err);
    if (r == 0)
        *seen = ret_list->revision;
    return r;
}

/* Watches. */

static void keep_last(struct sim_watch *watch, const struct fl_event *event)
{
    fl_object_unref(watch->last.object);
    fl_object_unref(watch->last.previous);
    watch->last = event ? *event : (struct fl_event){0};
    watch->last.cache = NULL;
    if (watch->last.object)
        (void)fl_object_ref(watch->last.object);
    if (watch->last.previous)
        (void)fl_object_ref(watch->last.previous);
}

static int watch(void *self, const struct fl_gvr *gvr, const char *ns, uint64_t revision,
                 void (*wake)(void *user), void *user, void **ret_watch, struct fl_error *err)
{
    struct sim_process *process = ((struct driver *)self)->process;
    struct sim_watch *watch = fl_calloc(1, sizeof(*watch));
    bool behind = revision < fl_store_revision(process->sim->store);
    char what[128];
    enum sim_fault fault;
    int r;

    *watch = (struct sim_watch){.process = process, .wake = wake, .user = user};
    resource_name(gvr, watch->resource, sizeof(watch->resource));
    (void)snprintf(what, sizeof(what), "WATCH %s", watch->resource);
    fault = sim_call(process, SIM_CALL_READ, what);
    sim_call_done(process, fault);
    r = fault == SIM_SLOW ? 0 : sim_fault_error(fault, err);
    if (r == 0)
        r = fl_apiclient_watch(process->sim->client, gvr, ns, revision, wake, user, &watch->inner,
                               err);
    if (r < 0) {
        free(watch);
        return r;
    }
    watch->held = sim_is_odd(process->sim) && sim_chance(process->sim, behind ? 60 : 10);
    watch->next = process->watches;
    process->watches = watch;
    *ret_watch = watch;
    return 0;
}

/* What becomes of an event: late, dropped with the watch, or doubled. */
enum fate { FATE_COMES, FATE_LATE, FATE_DROPPED, FATE_TWICE };

static enum fate fate_of_event(struct sim *sim)
{
    uint64_t n;

    if (!sim_is_odd(sim))
        return FATE_COMES;
    n = sim_below(sim, 100);
    return n < 5 ? FATE_LATE : n < 7 ? FATE_DROPPED : n < 12 ? FATE_TWICE : FATE_COMES;
}

static int expired(struct sim_watch *watch, struct fl_error *err)
{
    sim_trace(watch->process->sim, "  watch of %s by %u broke", watch->resource,
              watch->process->number);
    return fl_error_set(err, FL_E_EXPIRED, "the watch was lost");
}

static int watch_next(void *self, void *watch_, struct fl_event *ret_event, struct fl_error *err)
{
    struct sim_watch *watch = watch_;
    struct sim_process *process = watch->process;
    enum fate fate;
    int r;

    (void)self;
    if (process->dead || watch->held)
        return 0;
    if (watch->broken)
        return expired(watch, err);
    if (watch->twice) {
        watch->twice = false;
        *ret_event = watch->last;
        return 1;
    }
    fate = fate_of_event(process->sim);
    watch->held = fate == FATE_LATE;
    if (watch->held)
        return 0;
    r = fl_apiclient_watch_next(watch->inner, ret_event, err);
    if (r <= 0)
        return r;
    *seen_of(process, watch->resource) = ret_event->revision;
    sim_trace(process->sim, "  event of %s/%s (%" PRIu64 ") to %u%s", watch->resource,
              ret_event->object->name, ret_event->revision, process->number,
              fate == FATE_DROPPED ? " dropped"
              : fate == FATE_TWICE ? " twice"
                                   : "");
    watch->broken = watch->held = fate == FATE_DROPPED; /* says so when it is stirred */
    watch->twice = fate == FATE_TWICE;
    keep_last(watch, watch->twice ? ret_event : NULL);
    return !watch->broken;
}

static void watch_close(void *self, void *watch_)
{
    struct sim_watch *watch = watch_, **link = &watch->process->watches;

    (void)self;
    while (*link != watch)
        link = &(*link)->next;
    *link = watch->next;
    keep_last(watch, NULL);
    fl_apiclient_watch_close(watch->inner);
    free(watch);
}

bool sim_watches_stir(struct sim_process *process)
{
    for (struct sim_watch *watch = process->watches; watch; watch = watch->next) {
        if (watch->held) {
            watch->held = false;
            watch->wake(watch->user);
            return true;
        }
    }
    return false;
}

void sim_watches_settle(struct sim_process *process)
{
    while (sim_watches_stir(process))
        ;
}

static void destroy(void *self)
{
    struct driver *driver = self;

    for (size_t i = 0; i < driver->user_count; i++)
        fl_apiclient_destroy(driver->users[i].client);
    free(driver);
}

static const struct fl_apiclient_ops ops = {
    .name = "simulated",
    .destroy = destroy,
    .call = call_server,
    .list = list,
    .watch = watch,
    .watch_next = watch_next,
    .watch_close = watch_close,
};

struct fl_apiclient *sim_client_create(struct sim_process *process)
{
    struct driver *driver = fl_calloc(1, sizeof(*driver));

    driver->process = process;
    return fl_apiclient_create(&process->env, &ops, driver);
}
