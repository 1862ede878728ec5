/* The policy of Workloads, case by case. Nodes, runs and answers are written in small languages:
 *
 *   nodes   "a b/cluster(cpu=1000,notready=5000)": name, cluster (default "c"), properties
 *   runs    "0:ready@a(f=2,end=-1000)": index, state, node, properties; times in ms from now
 *   actions "start 0#1@a; stop 1 Stopped; remove 2"
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "lib/str.h"
#include "lib/yaml.h"
#include "reconcilers/workload/decide.h"

#include <inttypes.h>

#define NOW_US ((int64_t)1700000000 * 1000000)
#define NEW    "new" /* hash of the spec; runs have it unless they say otherwise */

struct fixture {
    struct fl_arena *arena;
    struct fl_workload *workload;
    struct fl_node nodes[16];
    bool cordoned[16];
    struct fl_node_list node_list;
    struct fl_run runs[16];
    struct fl_run_list run_list;
    struct fl_decision decision;
};

/* "name(key=value,key)": calls `set` for each property; cuts the parentheses off. */
static void each_property(struct fl_arena *arena, char *text, void *of,
                          void (*set)(struct fl_arena *arena, void *of, const char *key,
                                      const char *value))
{
    char *open = strchr(text, '(');
    const char *rest;
    char *item;

    if (!open)
        return;
    *open = '\0';
    open[1 + strcspn(open + 1, ")")] = '\0';
    rest = open + 1;
    while ((item = fl_str_next(arena, &rest, ','))) {
        char *value = strchr(item, '=');

        if (value)
            *value++ = '\0';
        set(arena, of, item, value);
    }
}

static int64_t number(const char *text)
{
    int64_t value = 0;

    assert_true(fl_str_to_int64(text, INT64_MIN, INT64_MAX, &value));
    return value;
}

static struct fl_string_list one(struct fl_arena *arena, const char *text)
{
    struct fl_string_list list = {fl_new_array(arena, const char *, 1), 1};

    list.items[0] = text;
    return list;
}

struct node_target {
    struct fl_node *node;
    bool *cordoned;
};

static void set_node(struct fl_arena *arena, void *of, const char *key, const char *value)
{
    struct node_target *target = of;
    struct fl_node *node = target->node;

    if (fl_streq(key, "cpu"))
        node->capacity.cpu_milli = number(value);
    else if (fl_streq(key, "memory"))
        node->capacity.memory_bytes = number(value);
    else if (fl_streq(key, "gpus"))
        node->capacity.gpus = number(value);
    else if (fl_streq(key, "used"))
        node->requested.cpu_milli = number(value);
    else if (fl_streq(key, "runs"))
        node->runs = number(value);
    else if (fl_streq(key, "site")) {
        node->labels.items = fl_new(arena, struct fl_string_pair);
        node->labels.items[0] = (struct fl_string_pair){"site", value};
        node->labels.count = 1;
    } else if (fl_streq(key, "platform"))
        node->platforms = one(arena, value);
    else if (fl_streq(key, "addon"))
        node->addons = one(arena, value);
    else if (fl_streq(key, "data"))
        node->data_tags = one(arena, value);
    else if (fl_streq(key, "notready")) {
        node->ready = false;
        node->ready_changed_us = NOW_US - number(value) * 1000;
    } else if (fl_streq(key, "noprocesses"))
        node->runs_processes = false;
    else if (fl_streq(key, "cordoned"))
        *target->cordoned = true;
    else
        fail_msg("node property %s", key);
}

static void read_nodes(struct fixture *f, const char *text)
{
    char *item;

    while (text && *text && (item = fl_str_next(f->arena, &text, ' '))) {
        struct fl_node *node = &f->nodes[f->node_list.count];
        char *slash;

        *node = (struct fl_node){.cluster = "c", .ready = true, .runs_processes = true};
        each_property(f->arena, item, &(struct node_target){node, &f->cordoned[f->node_list.count]},
                      set_node);
        slash = strchr(item, '/');
        if (slash) {
            *slash = '\0';
            node->cluster = slash + 1;
        }
        node->name = item;
        f->node_list.count++;
    }
}

static void set_run(struct fl_arena *arena, void *of, const char *key, const char *value)
{
    struct fl_run *run = of;

    (void)arena;
    if (fl_streq(key, "n"))
        run->number = number(value);
    else if (fl_streq(key, "f"))
        run->failures = number(value);
    else if (fl_streq(key, "r"))
        run->restarts = number(value);
    else if (fl_streq(key, "hash"))
        run->spec_hash = value;
    else if (fl_streq(key, "cluster"))
        run->cluster = value;
    else if (fl_streq(key, "first"))
        run->first_us = NOW_US + number(value) * 1000;
    else if (fl_streq(key, "req"))
        run->requested_us = NOW_US + number(value) * 1000;
    else if (fl_streq(key, "up"))
        run->started_us = NOW_US + number(value) * 1000;
    else if (fl_streq(key, "wasready"))
        run->ready_us = NOW_US + number(value) * 1000;
    else if (fl_streq(key, "end"))
        run->exit.ended_us = NOW_US + number(value) * 1000;
    else if (fl_streq(key, "code")) {
        run->exit.has_code = true;
        run->exit.code = number(value);
    } else
        fail_msg("run property %s", key);
}

static void set_state(struct fl_run *run, const char *state)
{
    run->state = FL_RUN_ENDED;
    if (fl_streq(state, "starting"))
        run->state = FL_RUN_STARTING;
    else if (fl_streq(state, "running") || fl_streq(state, "ready"))
        run->state = FL_RUN_RUNNING;
    else if (fl_streq(state, "stopping"))
        run->state = FL_RUN_STOPPING;
    else if (fl_streq(state, "unknown"))
        run->state = FL_RUN_UNKNOWN;
    else
        run->exit.reason = state; /* an ended one */
    run->ready = fl_streq(state, "ready");
}

static void read_run(struct fixture *f, char *item)
{
    struct fl_run *run = &f->runs[f->run_list.count++];
    char *state, *node;

    *run = (struct fl_run){.number = 1,
                           .spec_hash = NEW,
                           .cluster = "c",
                           .node = "a",
                           .requested_us = NOW_US - 1000000,
                           .first_us = NOW_US - 1000000};
    each_property(f->arena, item, run, set_run);
    state = strchr(item, ':');
    assert_non_null(state);
    *state++ = '\0';
    node = strchr(state, '@');
    if (node) {
        *node++ = '\0';
        run->node = node;
    }
    run->index = number(item);
    set_state(run, state);
}

static void read_runs(struct fixture *f, const char *text)
{
    char *item;

    while (text && *text && (item = fl_str_next(f->arena, &text, ' ')))
        read_run(f, item);
}

static void read_spec(struct fixture *f, const char *yaml)
{
    char *text = fl_arena_printf(f->arena,
                                 "{apiVersion: flops.dev/v1alpha1, kind: Workload, metadata: "
                                 "{name: w}, spec: {process: {program: x}%s%s}}",
                                 *yaml ? ", " : "", yaml);
    struct fl_error err = {0};
    json_t *object = NULL;

    if (fl_yaml_parse(text, strlen(text), NULL, &object, &err) < 0)
        fail_msg("%s: %s", yaml, err.msg);
    fl_json_in_arena(f->arena, object);
    if (fl_workload_decode(object, f->arena, &f->workload, &err) < 0)
        fail_msg("%s: %s", yaml, err.msg);
}

static void decide(struct fixture *f, enum fl_workload_intent intent)
{
    f->node_list.items = f->nodes;
    f->run_list.items = f->runs;
    fl_decide(&(struct fl_decide_input){.intent = intent,
                                        .spec = &f->workload->spec,
                                        .spec_hash = NEW,
                                        .nodes = &f->node_list,
                                        .cordoned = f->cordoned,
                                        .runs = &f->run_list,
                                        .now_us = NOW_US,
                                        .node_grace_ms = 600000},
              f->arena, &f->decision);
}

static const char *action_text(struct fl_arena *arena, const struct fl_action *action)
{
    if (action->type == FL_ACTION_START)
        return fl_arena_printf(arena, "start %" PRId64 "#%" PRId64 "@%s", action->index,
                               action->number, action->node);
    if (action->type == FL_ACTION_STOP)
        return fl_arena_printf(arena, "stop %" PRId64 " %s", action->index, action->reason);
    return fl_arena_printf(arena, "remove %" PRId64, action->index);
}

static const char *actions_text(struct fixture *f)
{
    const char *text = "";

    for (size_t i = 0; i < f->decision.action_count; i++)
        text = fl_arena_printf(f->arena, "%s%s%s", text, i > 0 ? "; " : "",
                               action_text(f->arena, &f->decision.actions[i]));
    return text;
}

static const char *verdict_text(struct fixture *f)
{
    static const char *const names[] = {"", "ready", "not yet", "stalled"};

    return fl_arena_printf(f->arena, "%s %s", names[f->decision.verdict], f->decision.reason);
}

struct policy_case {
    const char *what, *spec, *nodes, *runs, *actions, *verdict;
    int64_t look_again_ms; /* 0: does not matter; < 0: never */
    enum fl_workload_intent intent;
};

static void check_case(const struct policy_case *c)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fixture f = {.arena = arena};

    read_spec(&f, c->spec);
    read_nodes(&f, c->nodes);
    read_runs(&f, c->runs);
    decide(&f, c->intent);
    if (!fl_streq(actions_text(&f), c->actions))
        fail_msg("%s: actions \"%s\", not \"%s\"", c->what, actions_text(&f), c->actions);
    if (!fl_streq(verdict_text(&f), c->verdict))
        fail_msg("%s: verdict \"%s\", not \"%s\"", c->what, verdict_text(&f), c->verdict);
    if (c->look_again_ms != 0 && f.decision.look_again_ms != c->look_again_ms)
        fail_msg("%s: looks again in %" PRId64 ", not %" PRId64, c->what, f.decision.look_again_ms,
                 c->look_again_ms);
}

static void check_cases(const struct policy_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        check_case(&cases[i]);
}

static void scales(void **state)
{
    static const struct policy_case cases[] = {
        {.what = "the first start", "", "a", "", "start 0#1@a", "not yet Starting", -1},
        {.what = "all at once, spread",
         "instances: 4",
         "a b",
         "",
         "start 0#1@a; start 1#1@b; start 2#1@a; start 3#1@b",
         "not yet Starting"},
        {.what = "nothing to do",
         "instances: 2",
         "a b",
         "0:ready@a 1:ready@b",
         "",
         "ready Running",
         -1},
        {.what = "a gap is filled",
         "instances: 3",
         "a b",
         "0:ready@a 2:ready@b",
         "start 1#1@a",
         "not yet Starting"},
        {.what = "the highest go first",
         "instances: 1",
         "a",
         "0:ready 1:ready 2:ready",
         "stop 1 Stopped; stop 2 Stopped",
         "ready Running"},
        {.what = "then their records",
         "instances: 1",
         "a",
         "0:ready 1:stopping 2:Stopped",
         "remove 2",
         "ready Running",
         35000},
        {.what = "none is wanted", "instances: 0", "a", "", "", "ready Running", -1},
        {.what = "back after it was called back",
         "instances: 2",
         "a",
         "0:ready 1:Stopped(n=3,r=2,f=2)",
         "start 1#4@a",
         "not yet Restarting"},
        {.what = "it cannot be asked",
         "",
         "a",
         "0:unknown",
         "",
         "not yet OrchestratorNotReady",
         10000},
    };

    (void)state;
    check_cases(cases, FL_COUNT_OF(cases));
}

static void stops_for_suspend_and_deletion(void **state)
{
    static const struct policy_case cases[] = {
        {.what = "suspend stops, and keeps",
         "instances: 2",
         "a",
         "0:ready 1:Error 2:Stopped",
         "stop 0 Suspended; remove 2",
         "not yet Suspended",
         0,
         FL_INTENT_SUSPEND},
        {.what = "suspended",
         "instances: 2",
         "a",
         "0:Suspended 1:Error",
         "",
         "ready Suspended",
         -1,
         FL_INTENT_SUSPEND},
        {.what = "resumed, without a delay and with a new deadline",
         "activeDeadline: 1m",
         "a",
         "0:Suspended(n=2,first=-3600000)",
         "start 0#3@a",
         "not yet Starting"},
        {.what = "deletion stops and removes",
         "instances: 2",
         "a",
         "0:ready 1:Error 7:starting",
         "stop 0 Stopped; remove 1; stop 7 Stopped",
         "not yet Suspended",
         0,
         FL_INTENT_DELETE},
        {.what = "deletion waits",
         "",
         "a",
         "0:stopping",
         "",
         "not yet Suspended",
         35000,
         FL_INTENT_DELETE},
        {.what = "nothing is left", "", "a", "", "", "ready Suspended", -1, FL_INTENT_DELETE},
        {.what = "deletion does not need nodes",
         "",
         "",
         "0:ready",
         "stop 0 Stopped",
         "not yet Suspended",
         0,
         FL_INTENT_DELETE},
    };

    (void)state;
    check_cases(cases, FL_COUNT_OF(cases));
}

static void restarts(void **state)
{
    static const struct policy_case cases[] = {
        {.what = "always, after a delay",
         "",
         "a",
         "0:Error(end=-400,code=1)",
         "",
         "not yet Restarting",
         600},
        {.what = "always, even when it ended well",
         "",
         "a",
         "0:Completed(end=-1000,code=0)",
         "start 0#2@a",
         "not yet Restarting"},
        {.what = "the delay doubles",
         "",
         "a",
         "0:Error(end=-1000,f=3,r=3)",
         "",
         "not yet Restarting",
         7000},
        {.what = "up to its bound",
         "restart: {limit: 1000}",
         "a",
         "0:Error(end=-1000,f=900)",
         "",
         "not yet Restarting",
         299000},
        {.what = "none",
         "restart: {initialDelay: 0s}",
         "a",
         "0:Error(end=0,f=5)",
         "start 0#2@a",
         "not yet Restarting"},
        {.what = "an initial delay above the bound",
         "restart: {initialDelay: 10s, maxDelay: 2s}",
         "a",
         "0:Error(end=0)",
         "",
         "not yet Restarting",
         2000},
        {.what = "running well forgets failures",
         "",
         "a",
         "0:Error(f=9,up=-700000,end=-500)",
         "",
         "not yet Restarting",
         500},
        {.what = "not long enough",
         "",
         "a",
         "0:Error(f=9,up=-500000,end=-500)",
         "",
         "not yet Restarting",
         299500},
        {.what = "given up",
         "",
         "a",
         "0:Error(f=10,r=10,end=-999999)",
         "",
         "stalled OutOfRestarts",
         -1},
        {.what = "given up at once",
         "restart: {limit: 0}",
         "a",
         "0:Error(end=-5)",
         "",
         "stalled OutOfRestarts"},
        {.what = "others go on",
         "instances: 3",
         "a",
         "0:ready 1:Error(f=10) 2:Error(end=-9000)",
         "start 2#2@a",
         "stalled OutOfRestarts"},
        {.what = "on failure: failed",
         "restartPolicy: OnFailure",
         "a",
         "0:Error(end=-5000,code=1)",
         "start 0#2@a",
         "not yet Restarting"},
        {.what = "on failure: out of memory",
         "restartPolicy: OnFailure",
         "a",
         "0:OOMKilled(end=-5000)",
         "start 0#2@a",
         "not yet Restarting"},
        {.what = "on failure: lost",
         "restartPolicy: OnFailure",
         "a",
         "0:Lost(end=-5000)",
         "start 0#2@a",
         "not yet Restarting"},
        {.what = "on failure: well",
         "restartPolicy: OnFailure",
         "a",
         "0:Completed(end=-5000,code=0)",
         "",
         "ready Completed",
         -1},
        {.what = "some well, some yet to be",
         "restartPolicy: OnFailure, instances: 2",
         "a",
         "0:Completed(code=0) 1:ready",
         "",
         "ready Running"},
        {.what = "never: well",
         "restartPolicy: Never",
         "a",
         "0:Completed(end=-5000,code=0)",
         "",
         "ready Completed"},
        {.what = "never: failed",
         "restartPolicy: Never",
         "a",
         "0:Error(end=-5000,code=1)",
         "",
         "stalled OutOfRestarts",
         -1},
        {.what = "never: called back is no end",
         "restartPolicy: Never",
         "a",
         "0:Stopped(end=-5)",
         "start 0#2@a",
         "not yet Starting"},
        {.what = "an image that is not there",
         "",
         "a",
         "0:ImageNotFound(end=-500)",
         "",
         "not yet ImageNotFound",
         500},
        {.what = "a port that is taken",
         "",
         "a",
         "0:PortTaken(end=-500)",
         "",
         "not yet PortTaken",
         500},
        {.what = "the clock went back: start at once",
         "",
         "a",
         "0:Error(end=86400000,f=8)",
         "start 0#2@a",
         "not yet Restarting"},
        {.what = "restarting until it is ready",
         "",
         "a",
         "0:starting(f=1,req=-1000)",
         "",
         "not yet Restarting",
         299000},
    };

    (void)state;
    check_cases(cases, FL_COUNT_OF(cases));
}

static void keeps_deadlines(void **state)
{
    static const struct policy_case cases[] = {
        {.what = "in time", "", "a", "0:starting(req=-1000)", "", "not yet Starting", 299000},
        {.what = "too late",
         "",
         "a",
         "0:running(req=-300000)",
         "stop 0 DeadlineExceeded",
         "not yet Starting"},
        {.what = "it was ready once",
         "",
         "a",
         "0:running(req=-900000,wasready=-800000)",
         "",
         "not yet Starting",
         -1},
        {.what = "that counts as a failure",
         "",
         "a",
         "0:DeadlineExceeded(end=-400)",
         "",
         "not yet Restarting",
         600},
        {.what = "requested in the future",
         "",
         "a",
         "0:starting(req=86400000)",
         "",
         "not yet Starting",
         300000},
        {.what = "active in time",
         "activeDeadline: 1m",
         "a",
         "0:ready(first=-20000)",
         "",
         "ready Running",
         40000},
        {.what = "active too long",
         "activeDeadline: 1m",
         "a",
         "0:ready(first=-60000)",
         "stop 0 DeadlineExceeded",
         "not yet Starting"},
        {.what = "then it is over",
         "activeDeadline: 1m",
         "a",
         "0:DeadlineExceeded(first=-70000,end=-5000)",
         "",
         "stalled DeadlineExceeded",
         -1},
        {.what = "even if the clock went back",
         "activeDeadline: 1m",
         "a",
         "0:DeadlineExceeded(first=1000000,end=1070000)",
         "",
         "stalled DeadlineExceeded"},
        {.what = "all runs together",
         "activeDeadline: 1m",
         "a",
         "0:Error(first=-59500,end=-100)",
         "",
         "not yet Restarting",
         500},
        {.what = "who ended well in time",
         "activeDeadline: 1m, restartPolicy: OnFailure",
         "a",
         "0:Completed(first=-99999,end=-50000,code=0)",
         "",
         "ready Completed",
         -1},
    };

    (void)state;
    check_cases(cases, FL_COUNT_OF(cases));
}

static void replaces_what_is_outdated(void **state)
{
    static const struct policy_case cases[] = {
        {.what = "the only one",
         "",
         "a",
         "0:ready(hash=old)",
         "stop 0 Stopped",
         "not yet Starting"},
        {.what = "one at a time",
         "instances: 3",
         "a",
         "0:ready(hash=old) 1:ready(hash=old) 2:ready(hash=old)",
         "stop 0 Stopped",
         "not yet Starting"},
        {.what = "while it stops",
         "instances: 3",
         "a",
         "0:stopping(hash=old) 1:ready(hash=old) 2:ready(hash=old)",
         "",
         "not yet Starting"},
        {.what = "it starts anew, without a past",
         "instances: 2",
         "a",
         "0:Stopped(hash=old,n=4,f=3,r=3) 1:ready(hash=old)",
         "start 0#5@a",
         "not yet Starting"},
        {.what = "until it is ready",
         "instances: 2",
         "a",
         "0:running 1:ready(hash=old)",
         "",
         "not yet Starting"},
        {.what = "then the next",
         "instances: 2",
         "a",
         "0:ready 1:ready(hash=old)",
         "stop 1 Stopped",
         "not yet Starting"},
        {.what = "a new one that fails holds the rest",
         "instances: 2",
         "a",
         "0:Error(f=10) 1:ready(hash=old)",
         "",
         "stalled OutOfRestarts"},
        {.what = "those that are not ready at once",
         "instances: 3",
         "a",
         "0:running(hash=old) 1:ready(hash=old) 2:starting(hash=old)",
         "stop 0 Stopped; stop 2 Stopped",
         "not yet Starting"},
        {.what = "one that was given up gets its chance",
         "instances: 1",
         "a",
         "0:Error(hash=old,f=10)",
         "start 0#2@a",
         "not yet Starting"},
        {.what = "one that had ended well runs again",
         "restartPolicy: Never",
         "a",
         "0:Completed(hash=old,code=0)",
         "start 0#2@a",
         "not yet Starting"},
        {.what = "no deadline of the old one",
         "",
         "a",
         "0:ready(hash=old,req=-999999)",
         "stop 0 Stopped",
         "not yet Starting"},
        {.what = "one without a place holds nothing up",
         "instances: 3, placement: {maxPerNode: 1}",
         "a b",
         "0:ready@a(hash=old) 1:ready@b(hash=old)",
         "stop 0 Stopped",
         "not yet NoPlace"},
    };

    (void)state;
    check_cases(cases, FL_COUNT_OF(cases));
}

static void places(void **state)
{
    static const struct policy_case cases[] = {
        {.what = "no nodes", "", "", "", "", "not yet NoPlace", -1},
        {.what = "by cluster",
         "placement: {cluster: d}",
         "a b/d",
         "",
         "start 0#1@b",
         "not yet Starting"},
        {.what = "by node", "placement: {node: b}", "a b", "", "start 0#1@b", "not yet Starting"},
        {.what = "by node and cluster",
         "placement: {node: d.a}",
         "a a/d",
         "",
         "start 0#1@a",
         "not yet Starting"},
        {.what = "by label",
         "placement: {nodeSelector: {site: x}}",
         "a b(site=y) e(site=x)",
         "",
         "start 0#1@e",
         "not yet Starting"},
        {.what = "by platform",
         "placement: {platforms: [linux/arm64, linux/386]}",
         "a b(platform=linux/amd64) e(platform=linux/386)",
         "",
         "start 0#1@e",
         "not yet Starting"},
        {.what = "by add-on",
         "placement: {addons: [x]}",
         "a(addon=y) b(addon=x)",
         "",
         "start 0#1@b",
         "not yet Starting"},
        {.what = "by data",
         "placement: {dataTags: [x]}",
         "a(data=y) b(data=x)",
         "",
         "start 0#1@b",
         "not yet Starting"},
        {.what = "that can run it", "", "a(noprocesses) b", "", "start 0#1@b", "not yet Starting"},
        {.what = "that is ready", "", "a(notready=5) b", "", "start 0#1@b", "not yet Starting"},
        {.what = "that is not cordoned",
         "",
         "a(cordoned) b",
         "",
         "start 0#1@b",
         "not yet Starting"},
        {.what = "the emptier", "", "a(runs=2) b(runs=1)", "", "start 0#1@b", "not yet Starting"},
        {.what = "its own count more",
         "instances: 2",
         "a(runs=2) b(runs=9)",
         "0:ready@a",
         "start 1#1@b",
         "not yet Starting"},
        {.what = "that has room",
         "resources: {cpu: 500m}",
         "a(cpu=1000,used=600) b(cpu=1000,used=500)",
         "",
         "start 0#1@b",
         "not yet Starting"},
        {.what = "none has",
         "resources: {cpu: 500m}",
         "a(cpu=1000,used=600)",
         "",
         "",
         "not yet NoPlace"},
        {.what = "room is used up",
         "instances: 3, resources: {cpu: 500m}",
         "a(cpu=1000)",
         "",
         "start 0#1@a; start 1#1@a",
         "not yet NoPlace"},
        {.what = "memory",
         "resources: {memory: 1Ki}",
         "a(memory=1023) b(memory=1024)",
         "",
         "start 0#1@b",
         "not yet Starting"},
        {.what = "GPUs must be known",
         "resources: {gpus: 1}",
         "a b(gpus=1)",
         "",
         "start 0#1@b",
         "not yet Starting"},
        {.what = "most per node",
         "instances: 3, placement: {maxPerNode: 1}",
         "a b",
         "",
         "start 0#1@a; start 1#1@b",
         "not yet NoPlace"},
        {.what = "a place is kept for what will come back",
         "instances: 2, placement: {maxPerNode: 1}",
         "a b",
         "0:Error@a(end=-400)",
         "start 1#1@b",
         "not yet Restarting"},
        {.what = "back where it was",
         "instances: 2",
         "a b",
         "0:ready@b 1:Error@b(end=-9000)",
         "start 1#2@b",
         "not yet Restarting"},
        {.what = "even if cordoned since",
         "",
         "a b(cordoned)",
         "0:Error@b(end=-9000)",
         "start 0#2@b",
         "not yet Restarting"},
        {.what = "elsewhere if it is not ready",
         "",
         "a b(notready=1)",
         "0:Lost@b(end=-9000)",
         "start 0#2@a",
         "not yet Restarting"},
        {.what = "stays, although spread badly",
         "instances: 2",
         "a b",
         "0:ready@a 1:ready@a",
         "",
         "ready Running"},
    };

    (void)state;
    check_cases(cases, FL_COUNT_OF(cases));
}

static void moves(void **state)
{
    static const struct policy_case cases[] = {
        {.what = "a node that is gone", "", "b", "0:ready@a", "stop 0 Stopped", "not yet Starting"},
        {.what = "a node that is not ready has time",
         "",
         "a(notready=60000) b",
         "0:ready@a",
         "",
         "ready Running",
         540000},
        {.what = "but not for ever",
         "",
         "a(notready=600000) b",
         "0:ready@a",
         "stop 0 Stopped",
         "not yet Starting"},
        {.what = "not ready since the future",
         "",
         "a(notready=-5000) b",
         "0:ready@a",
         "",
         "ready Running",
         600000},
        {.what = "moved",
         "",
         "a(notready=600000) b",
         "0:Stopped@a",
         "start 0#2@b",
         "not yet Starting"},
        {.what = "a node that is cordoned keeps it",
         "",
         "a(cordoned) b",
         "0:ready@a",
         "",
         "ready Running"},
        {.what = "a place that holds no more, one at a time",
         "instances: 2, placement: {node: b}",
         "a b",
         "0:ready@a 1:ready@a",
         "stop 0 Stopped",
         "not yet Starting"},
        {.what = "too many on one",
         "instances: 3, placement: {maxPerNode: 2}",
         "a b",
         "0:ready@a 1:ready@a 2:ready@a",
         "stop 2 Stopped",
         "not yet Starting"},
    };

    (void)state;
    check_cases(cases, FL_COUNT_OF(cases));
}

#define ONE "placement: {onePerNode: true}"

static void runs_one_per_node(void **state)
{
    static const struct policy_case cases[] = {
        {.what = "on each",
         ONE,
         "a b e",
         "",
         "start 0#1@a; start 1#1@b; start 2#1@e",
         "not yet Starting"},
        {.what = "on each that matches",
         "placement: {onePerNode: true, cluster: d}",
         "a b/d e/d",
         "",
         "start 0#1@b; start 1#1@e",
         "not yet Starting"},
        {.what = "a new node",
         ONE,
         "a b e",
         "0:ready@a 1:ready@e",
         "start 2#1@b",
         "not yet Starting"},
        {.what = "a node went: its own goes, whatever the index",
         ONE,
         "b e",
         "0:ready@a 1:ready@b 2:ready@e",
         "stop 0 Stopped",
         "ready Running"},
        {.what = "its record goes",
         ONE,
         "b e",
         "0:Stopped@a 1:ready@b 2:ready@e",
         "remove 0",
         "ready Running"},
        {.what = "a free index is used",
         ONE,
         "a b",
         "1:ready@b",
         "start 0#1@a",
         "not yet Starting"},
        {.what = "not ready, within the grace",
         ONE,
         "a(notready=5) b",
         "0:ready@a 1:ready@b",
         "",
         "ready Running"},
        {.what = "not ready for too long",
         ONE,
         "a(notready=600000) b",
         "0:ready@a 1:ready@b",
         "stop 0 Stopped",
         "ready Running"},
        {.what = "not ready, and none there",
         ONE,
         "a(notready=5) b",
         "0:ready@b",
         "",
         "ready Running"},
        {.what = "restarts where it belongs",
         ONE,
         "a b",
         "0:ready@a 1:Error@b(end=-9000)",
         "start 1#2@b",
         "not yet Restarting"},
        {.what = "two on one node",
         ONE,
         "a",
         "0:ready@a 1:ready@a",
         "stop 1 Stopped",
         "ready Running"},
        {.what = "no room",
         "resources: {cpu: 500m}, " ONE,
         "a(cpu=100) b",
         "",
         "start 1#1@b",
         "not yet NoPlace"},
    };

    (void)state;
    check_cases(cases, FL_COUNT_OF(cases));
}

static void says_why_there_is_no_place(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fixture f = {.arena = arena};

    (void)state;
    read_spec(&f, "instances: 2, resources: {cpu: 1}, placement: {nodeSelector: {site: x}}");
    read_nodes(&f, "a b e(notready=1,site=x) g(site=x,cpu=1500)");
    decide(&f, FL_INTENT_RUN);
    assert_string_equal(actions_text(&f), "start 0#1@g");
    assert_string_equal(f.decision.message,
                        "instance 1 has no place: none of 4 nodes fits: 2 lack labels, 1 is not "
                        "ready, 1 has too little processor time left");
}

static void shows_instances(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fixture f = {.arena = arena};
    const struct fl_workload_status_instance *items;

    (void)state;
    read_spec(&f, "instances: 4");
    read_nodes(&f, "a");
    read_runs(&f,
              "0:ready(r=2) 1:Error(end=-400,code=3,r=1,f=1) 2:Error(f=10,r=10,end=-9) 9:ready");
    f.runs[1].exit.log_tail = "no such file\n";
    f.runs[2].exit.log_tail = "begins\nno such host\n";
    decide(&f, FL_INTENT_RUN);
    items = f.decision.instances.items;
    assert_int_equal(f.decision.instances.count, 5);
    assert_non_null(strstr(f.decision.message, "after 10 restarts; last exit: Error"));
    assert_non_null(strstr(f.decision.message, ": no such host"));
    assert_string_equal(f.decision.replicas.summary, "1/4");
    assert_int_equal(f.decision.replicas.current, 2);
    assert_int_equal(f.decision.replicas.failed, 1);
    assert_int_equal(f.decision.replicas.restarts, 13);
    assert_int_equal(f.decision.left, 4);
    assert_int_equal(items[0].state, FL_WORKLOAD_STATUS_INSTANCE_STATE_RUNNING);
    assert_int_equal(items[0].restarts, 2);
    assert_int_equal(items[1].state, FL_WORKLOAD_STATUS_INSTANCE_STATE_WAITING);
    assert_string_equal(items[1].reason, "Restarting");
    assert_string_equal(items[1].message,
                        "last exit: Error (exit code 3); starts again at 2023-11-14T22:13:21Z");
    assert_int_equal(items[1].last_exit.code, 3);
    assert_string_equal(items[1].last_exit.log_tail, "no such file\n");
    assert_int_equal(items[2].state, FL_WORKLOAD_STATUS_INSTANCE_STATE_FAILED);
    assert_int_equal(items[3].state, FL_WORKLOAD_STATUS_INSTANCE_STATE_WAITING);
    assert_int_equal(items[4].index, 9);
    assert_int_equal(items[4].state, FL_WORKLOAD_STATUS_INSTANCE_STATE_STOPPING);
}

static const char *hash_of(struct fixture *f, const char *spec)
{
    read_spec(f, spec);
    return fl_workload_spec_hash(f->workload, f->arena);
}

static void hashes_what_needs_a_new_run(void **state)
{
    static const char *const same[] = {
        "instances: 7",         "suspend: true",
        "restartPolicy: Never", "restart: {limit: 3}",
        "activeDeadline: 1h",   "startDeadline: 1h",
        "gracePeriod: 1s",      "placement: {cluster: x}",
        "role: Learner",        "placement: {maxPerNode: 2}",
    };
    static const char *const other[] = {
        "args: [a]",
        "env: [{name: A, value: b}]",
        "files: [{path: x, content: text}]",
        "mounts: [{path: x, type: State}]",
        "ports: [{name: x}]",
        "probes: {readiness: {tcp: {port: x}}}",
        "resources: {cpu: 1}",
        "stopSignal: SIGINT",
        "security: {network: None}",
        "log: {maxFiles: 9}",
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fixture f = {.arena = arena};
    const char *plain = hash_of(&f, "");

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(same); i++)
        assert_string_equal(hash_of(&f, same[i]), plain);
    for (size_t i = 0; i < FL_COUNT_OF(other); i++)
        assert_string_not_equal(hash_of(&f, other[i]), plain);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(scales),
        cmocka_unit_test(stops_for_suspend_and_deletion),
        cmocka_unit_test(restarts),
        cmocka_unit_test(keeps_deadlines),
        cmocka_unit_test(replaces_what_is_outdated),
        cmocka_unit_test(places),
        cmocka_unit_test(moves),
        cmocka_unit_test(runs_one_per_node),
        cmocka_unit_test(says_why_there_is_no_place),
        cmocka_unit_test(shows_instances),
        cmocka_unit_test(hashes_what_needs_a_new_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
