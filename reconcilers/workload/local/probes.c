/* Probes: on the driver's loop, one try of each at a time. Commands are run by the shim, within the
 * run's control group and with its environment. */
#include "lib/net.h"
#include "reconcilers/workload/local/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHIM_LATE_MS 5000 /* past a command's time-out: then the shim does not answer */

static const char *const role_names[] = {
    [PROBE_STARTUP] = "startup", [PROBE_READINESS] = "readiness", [PROBE_LIVENESS] = "liveness"};

static int64_t duration(const char *text, int64_t fallback_ms)
{
    int64_t ms;

    return text && fl_duration_parse(text, &ms) ? ms : fallback_ms;
}

static int64_t now_ms(const struct probe *probe)
{
    return fl_monotonic_ms(probe->instance->local->env);
}

/* It is not fatal for it to be lost: a restart asks the probes anew. */
static void keep(struct instance *instance)
{
    struct fl_error err = {0};

    if (record_write(instance, &err) < 0)
        fl_log_warn(instance->local->env->log, "a run's readiness cannot be written",
                    FL_STR("error", err.msg));
}

static void set_ready(struct instance *instance, bool ready)
{
    instance->record.ready = ready;
    if (ready && instance->record.ready_us == 0)
        instance->record.ready_us = fl_realtime_us(instance->local->env);
}

/* Without probes nothing is written: a restart sees the same from what the shim wrote. */
void probes_restore(struct instance *instance)
{
    if (instance->record.has_probes || instance->status.started_us == 0)
        return;
    instance->record.started = instance->record.ready = true;
    instance->record.ready_us = instance->status.started_us;
}

/* The tries. */

static bool finish_try(struct probe *probe, const char *problem);

static void on_answer(void *user, const char *problem)
{
    struct probe *probe = user;
    struct news news = {.local = probe->instance->local};

    {
        FL_LOCKED(probe->instance->local->lock);
        probe->check = NULL;
        if (finish_try(probe, problem))
            news_note(&news, probe->instance);
    }
    news_spread(&news);
}

/* A number, or the name of one of the run's ports. */
static const struct run_port *find_port(const struct instance *instance, const char *text)
{
    for (size_t i = 0; text && i < instance->record.port_count; i++)
        if (strcmp(instance->record.ports[i].name, text) == 0)
            return &instance->record.ports[i];
    return NULL;
}

static bool ask_network(struct probe *probe)
{
    const struct fl_probe *spec = probe->spec;
    const char *text = spec->has_http ? spec->http.port : spec->tcp.port;
    const struct run_port *port = find_port(probe->instance, text);
    struct fl_net_question question = {
        .address = port ? port->address : probe->instance->record.address,
        .http = spec->has_http,
        .tls = spec->has_http && spec->http.scheme == FL_PROBE_HTTP_SCHEME_HTTPS,
        .path = spec->http.path,
        .timeout_ms = duration(spec->timeout, 1000),
    };

    if (port)
        question.port = port->port;
    else if (!text || !fl_str_to_int64(text, 1, 65535, &question.port))
        return false;
    if (strcmp(question.address, "0.0.0.0") == 0)
        question.address = "127.0.0.1";
    probe->check = fl_net_ask(probe->instance->local->loop, &question, on_answer, probe);
    return true;
}

static bool ask_command(struct probe *probe)
{
    int64_t timeout_ms = duration(probe->spec->timeout, 1000);

    probe->ticket = ++probe->instance->local->next_ticket;
    if (fl_shim_check(&probe->instance->shim, probe->role, probe->ticket, timeout_ms, NULL) < 0)
        return false;
    fl_timer_arm(probe->timer, timeout_ms + SHIM_LATE_MS);
    return true;
}

/* True where something changed already. */
static bool try_or_give_up(struct probe *probe)
{
    bool asked;

    if (probe->ticket)
        return finish_try(probe, "the shim does not answer");
    probe->asked_ms = now_ms(probe);
    asked = probe->spec->has_exec ? ask_command(probe) : ask_network(probe);
    return !asked && finish_try(probe, "it cannot be asked: there is no such port, or no shim");
}

static void on_time(void *user)
{
    struct probe *probe = user;
    struct news news = {.local = probe->instance->local};

    {
        FL_LOCKED(probe->instance->local->lock);
        if (try_or_give_up(probe))
            news_note(&news, probe->instance);
    }
    news_spread(&news);
}

static void schedule_first(struct probe *probe)
{
    struct instance *instance = probe->instance;
    int64_t delay_ms = duration(probe->spec->initial_delay, 0);
    int64_t up_ms = (fl_realtime_us(instance->local->env) - instance->status.started_us) / 1000;

    if (up_ms > 0)
        delay_ms = up_ms < delay_ms ? delay_ms - up_ms : 0;
    fl_timer_arm(probe->timer, delay_ms);
}

/* What the tries add up to. */

static void begin_role(struct instance *instance, enum probe_role role)
{
    struct probe *probe = &instance->probes[role];

    if (probe->spec)
        schedule_first(probe);
}

static void passed_startup(struct instance *instance)
{
    instance->record.started = true;
    if (!instance->probes[PROBE_READINESS].spec)
        set_ready(instance, true);
    begin_role(instance, PROBE_READINESS);
    begin_role(instance, PROBE_LIVENESS);
}

/* > 0: asked again. */
static int passed(struct probe *probe)
{
    struct instance *instance = probe->instance;

    if (probe->role == PROBE_STARTUP) {
        passed_startup(instance);
        keep(instance);
        return 0;
    }
    if (probe->role == PROBE_READINESS && !instance->record.ready) {
        set_ready(instance, true);
        keep(instance);
    }
    return 1;
}

static int failed(struct probe *probe, const char *problem)
{
    struct instance *instance = probe->instance;
    char message[FL_ERROR_TEXT_MAX];

    if (probe->role == PROBE_READINESS) {
        if (instance->record.ready) {
            instance->record.ready = false;
            keep(instance);
        }
        return 1;
    }
    (void)snprintf(message, sizeof(message), "%s probe failed %" PRId64 " times: %s",
                   role_names[probe->role], probe->bad, problem);
    return local_stop(instance, instance->record.grace_ms, "ProbeFailed", message, NULL) < 0;
}

/* Each probe has its own say, so that one that is well does not hide what another one lacks. */
static void show_problem(struct probe *probe, const char *problem)
{
    struct instance *instance = probe->instance;
    const char *shown = NULL;

    free(probe->problem);
    probe->problem = problem ? fl_asprintf("%s probe: %s", role_names[probe->role], problem) : NULL;
    for (unsigned role = 0; role < PROBE_ROLES && !shown; role++)
        shown = instance->probes[role].problem;
    (void)snprintf(instance->message, sizeof(instance->message), "%s", fl_str_or(shown, ""));
}

static void count_try(struct probe *probe, const char *problem)
{
    int64_t period_ms = duration(probe->spec->period, 10000), spent_ms;
    int again = 1;

    probe->ticket = 0;
    probe->good = problem ? 0 : probe->good + 1;
    probe->bad = problem ? probe->bad + 1 : 0;
    show_problem(probe, problem);
    if (probe->instance->stopping)
        return;
    if (!problem && probe->good >= probe->spec->success_threshold)
        again = passed(probe);
    else if (problem && probe->bad >= probe->spec->failure_threshold)
        again = failed(probe, problem);
    spent_ms = now_ms(probe) - probe->asked_ms;
    if (again)
        fl_timer_arm(probe->timer, spent_ms < period_ms ? period_ms - spent_ms : 0);
    else
        fl_timer_cancel(probe->timer);
}

/* True where something changed that can be observed: the same answer again is no news. */
static bool finish_try(struct probe *probe, const char *problem)
{
    struct instance *instance = probe->instance;
    bool started = instance->record.started, ready = instance->record.ready;
    bool stopping = instance->stopping;
    char message[sizeof(instance->message)];

    (void)snprintf(message, sizeof(message), "%s", instance->message);
    count_try(probe, problem);
    return started != instance->record.started || ready != instance->record.ready ||
           stopping != instance->stopping || strcmp(message, instance->message) != 0;
}

bool probes_checked(struct instance *instance, int64_t ticket, int64_t code)
{
    char problem[64];

    for (unsigned role = 0; role < PROBE_ROLES; role++) {
        struct probe *probe = &instance->probes[role];

        if (!probe->timer || !probe->spec || probe->ticket != ticket)
            continue;
        if (code == FL_SHIM_CHECK_TIMEOUT)
            (void)snprintf(problem, sizeof(problem), "the command did not end in time");
        else if (code == FL_SHIM_CHECK_FAILED)
            (void)snprintf(problem, sizeof(problem), "the command cannot be run");
        else
            (void)snprintf(problem, sizeof(problem), "the command ended with %" PRId64, code);
        return finish_try(probe, code == 0 ? NULL : problem);
    }
    return false;
}

static void set_up(struct instance *instance, enum probe_role role, const struct fl_probe *spec,
                   bool present)
{
    instance->probes[role] = (struct probe){
        .instance = instance,
        .role = role,
        .spec = present && (spec->has_http || spec->has_tcp || spec->has_exec) ? spec : NULL,
    };
    instance->probes[role].timer =
        fl_timer_create(instance->local->loop, on_time, &instance->probes[role]);
}

void probes_begin(struct instance *instance)
{
    const struct fl_workload_probes *probes = &instance->record.probes;
    bool any = instance->record.has_probes;

    set_up(instance, PROBE_STARTUP, &probes->startup, any && probes->has_startup);
    set_up(instance, PROBE_READINESS, &probes->readiness, any && probes->has_readiness);
    set_up(instance, PROBE_LIVENESS, &probes->liveness, any && probes->has_liveness);
    if (instance->probes[PROBE_STARTUP].spec && !instance->record.started) {
        begin_role(instance, PROBE_STARTUP);
        return;
    }
    probes_restore(instance);
    passed_startup(instance);
    if (instance->record.has_probes)
        keep(instance);
}

void probes_end(struct instance *instance)
{
    for (unsigned role = 0; role < PROBE_ROLES; role++) {
        struct probe *probe = &instance->probes[role];

        fl_net_cancel(FL_TAKE(probe->check));
        fl_timer_destroy(FL_TAKE(probe->timer));
        free(FL_TAKE(probe->problem));
        probe->ticket = 0;
    }
}
