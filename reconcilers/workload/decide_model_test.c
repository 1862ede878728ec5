/* The policy against the fake orchestrator: a control plane that only decides and acts, in a world
 * where programs crash, hang and end, nodes come and go, and users change their minds. At each step
 * nothing may happen that must never; in the end, when all is quiet, there is what the spec says
 * and nothing else. */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "lib/str.h"
#include "reconcilers/workload/decide.h"
#include "reconcilers/workload/orchestrator_fake.h"

#include <inttypes.h>
#include <stdio.h>

#define SEEDS      400
#define EDITS      40
#define QUIET_MAX  20000 /* steps until all must be quiet */
#define NODE_COUNT 4
#define GRACE_MS   60000

struct model {
    uint64_t seed;
    struct fl_fake_env env;
    struct fl_fake_world *world;
    struct fl_orchestrator_driver *driver;
    struct fl_arena *arena; /* of the spec */
    struct fl_workload *workload;
    enum fl_workload_intent intent;
    int64_t version; /* of the spec, in its hash */
    bool troubled;   /* programs fail as they like; else all start and stay */
};

static uint64_t below(struct model *m, uint64_t bound)
{
    return fl_random_below(&m->env.env, bound);
}

static bool chance(struct model *m, uint64_t percent)
{
    return below(m, 100) < percent;
}

static const char *hash_of(struct model *m, struct fl_arena *arena)
{
    return fl_arena_printf(arena, "v%" PRId64, m->version);
}

/* What programs do. */
static void plan(void *user, const struct fl_run_spec *spec, struct fl_fake_plan *plan)
{
    static const struct fl_run_exit exits[] = {
        {.has_code = true, .code = 1, .reason = "Error"},
        {.has_code = true, .code = 0, .reason = "Completed"},
        {.signal = "SIGSEGV", .reason = "Signal"},
        {.reason = "StartFailed", .message = "no such file"},
        {.oom_killed = true, .signal = "SIGKILL", .reason = "OOMKilled"},
    };
    struct model *m = user;

    (void)spec;
    if (!m->troubled)
        return;
    plan->exit = exits[below(m, FL_COUNT_OF(exits))];
    plan->run_ms = chance(m, 50) ? (int64_t)below(m, 100000) : -1;
    plan->start_ms = chance(m, 5) ? 3600000 : plan->start_ms; /* hangs */
    plan->ready_ms = chance(m, 5) ? -1 : plan->ready_ms;
    plan->stop_ms = chance(m, 10) ? -1 : plan->stop_ms;
}

static void put_node(struct model *m, uint64_t i)
{
    char name[8];

    (void)snprintf(name, sizeof(name), "n%u", (unsigned)i);
    fl_fake_world_put_node(m->world, &(struct fl_node){.cluster = i % 2 ? "odd" : "even",
                                                       .name = name,
                                                       .ready = true,
                                                       .runs_processes = true,
                                                       .capacity = {.cpu_milli = 4000}});
}

static void disturb_node(struct model *m)
{
    uint64_t i = below(m, NODE_COUNT);
    char name[8];

    (void)snprintf(name, sizeof(name), "n%u", (unsigned)i);
    put_node(m, i);
    if (chance(m, 40))
        fl_fake_world_set_ready(m->world, name, false);
    else if (chance(m, 40))
        fl_fake_world_remove_node(m->world, name);
}

static void edit_spec(struct model *m)
{
    struct fl_workload_spec *spec = &m->workload->spec;

    switch (below(m, 7)) {
    case 0:
        spec->instances = (int64_t)below(m, 6);
        break;
    case 1:
        spec->restart_policy = FL_WORKLOAD_RESTART_POLICY_ALWAYS + below(m, 3);
        break;
    case 2:
        spec->has_placement = chance(m, 50);
        spec->placement.cluster = chance(m, 50) ? "odd" : NULL;
        spec->placement.max_per_node = (int64_t)below(m, 3);
        spec->placement.one_per_node = chance(m, 30);
        break;
    case 3:
        m->intent = chance(m, 70) ? FL_INTENT_RUN : FL_INTENT_SUSPEND;
        break;
    case 4:
        spec->has_resources = true;
        spec->resources.cpu = chance(m, 50) ? "1" : "1500m";
        m->version++;
        break;
    case 5:
        spec->restart.limit = (int64_t)below(m, 8);
        break;
    default:
        m->version++;
        break;
    }
}

/* One look: what the reconciler will do, without the API. */
struct look {
    struct fl_arena *arena;
    struct fl_node_list nodes;
    struct fl_run_list runs;
    struct fl_decision decision;
};

static void look(struct model *m, struct fl_arena *arena, struct look *ret_look)
{
    struct fl_error err;

    ret_look->arena = arena;
    assert_int_equal(m->driver->ops->nodes(m->driver, arena, &ret_look->nodes, &err), 0);
    assert_int_equal(m->driver->ops->observe(m->driver, "u", arena, &ret_look->runs, &err), 0);
    fl_decide(&(struct fl_decide_input){.intent = m->intent,
                                        .spec = &m->workload->spec,
                                        .spec_hash = hash_of(m, arena),
                                        .nodes = &ret_look->nodes,
                                        .runs = &ret_look->runs,
                                        .now_us = fl_realtime_us(&m->env.env),
                                        .node_grace_ms = GRACE_MS},
              arena, &ret_look->decision);
}

static const struct fl_run *run_of(const struct look *l, int64_t index)
{
    for (size_t i = 0; i < l->runs.count; i++)
        if (l->runs.items[i].index == index)
            return &l->runs.items[i];
    return NULL;
}

static const struct fl_node *node_of(const struct look *l, const char *name)
{
    for (size_t i = 0; i < l->nodes.count; i++)
        if (fl_streq(l->nodes.items[i].name, name))
            return &l->nodes.items[i];
    return NULL;
}

/* What must never be decided. */

static void check_start(struct model *m, const struct look *l, const struct fl_action *action)
{
    const struct fl_run *run = run_of(l, action->index);
    const struct fl_node *node = node_of(l, action->node);
    const struct fl_workload_spec *spec = &m->workload->spec;

    assert_int_equal(m->intent, FL_INTENT_RUN);
    assert_true(!run || run->state == FL_RUN_ENDED);
    assert_true(action->number == (run ? run->number : 0) + 1);
    assert_true(node && node->ready);
    if (spec->has_placement && spec->placement.cluster)
        assert_string_equal(node->cluster, spec->placement.cluster);
    if (spec->has_placement && spec->placement.one_per_node)
        return;
    assert_true(action->index < spec->instances);
}

/* A ready run that is only outdated is stopped alone, and with all others well. */
static void check_stop(struct model *m, const struct look *l, const struct fl_action *action)
{
    const struct fl_run *run = run_of(l, action->index);
    size_t stops = 0;

    assert_true(run && run->state != FL_RUN_ENDED);
    if (m->intent != FL_INTENT_RUN || !run->ready || !node_of(l, run->node) ||
        !node_of(l, run->node)->ready || m->workload->spec.has_placement ||
        action->index >= m->workload->spec.instances ||
        fl_streq(run->spec_hash, hash_of(m, l->arena)))
        return;
    for (size_t i = 0; i < l->decision.action_count; i++)
        if (l->decision.actions[i].type == FL_ACTION_STOP &&
            l->decision.actions[i].index < m->workload->spec.instances)
            stops++;
    assert_int_equal(stops, 1);
    for (int64_t i = 0; i < m->workload->spec.instances; i++) {
        const struct fl_run *other = run_of(l, i);

        if (other && other->state != FL_RUN_ENDED)
            assert_true(other->ready);
    }
}

static void check_decision(struct model *m, const struct look *l)
{
    int64_t last = -1;

    for (size_t i = 0; i < l->decision.action_count; i++) {
        const struct fl_action *action = &l->decision.actions[i];

        assert_true(action->index > last); /* in order, one an instance */
        last = action->index;
        if (action->type == FL_ACTION_START)
            check_start(m, l, action);
        else if (action->type == FL_ACTION_STOP)
            check_stop(m, l, action);
        else
            assert_int_equal(run_of(l, action->index)->state, FL_RUN_ENDED);
    }
}

/* What must never be, whatever was decided. */
static void check_world(struct model *m, const struct look *l)
{
    struct fl_node_list nodes;
    struct fl_error err;

    assert_int_equal(m->driver->ops->nodes(m->driver, l->arena, &nodes, &err), 0);
    for (size_t i = 0; i < nodes.count; i++)
        assert_true(nodes.items[i].requested.cpu_milli <= nodes.items[i].capacity.cpu_milli);
}

static void do_action(struct model *m, const struct look *l, const struct fl_action *action)
{
    const struct fl_orchestrator_ops *ops = m->driver->ops;
    struct fl_run_id id = {"u", action->index};
    struct fl_error err = {0};
    int r;

    if (action->type == FL_ACTION_START)
        r = ops->start(m->driver,
                       &(struct fl_run_spec){.id = id,
                                             .number = action->number,
                                             .restarts = action->restarts,
                                             .failures = action->failures,
                                             .first_us = action->first_us,
                                             .spec_hash = hash_of(m, l->arena),
                                             .ns = "ns",
                                             .name = "w",
                                             .cluster = action->cluster,
                                             .node = action->node,
                                             .spec = &m->workload->spec},
                       &err);
    else if (action->type == FL_ACTION_STOP)
        r = ops->stop(m->driver, &id, action->grace_ms, action->reason, &err);
    else
        r = ops->remove(m->driver, &id, &err);
    if (r < 0)
        fail_msg("seed %" PRIu64 ": instance %" PRId64 ": %s", m->seed, action->index, err.msg);
}

/* Looks, acts, and looks again until there is nothing to do now; how long nothing will be. */
static int64_t reconcile(struct model *m)
{
    for (int turn = 0; turn < 100; turn++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct look l;

        look(m, arena, &l);
        check_decision(m, &l);
        if (l.decision.action_count == 0)
            return l.decision.look_again_ms;
        for (size_t i = 0; i < l.decision.action_count; i++)
            do_action(m, &l, &l.decision.actions[i]);
        check_world(m, &l);
    }
    fail_msg("seed %" PRIu64 ": there is always something to do", m->seed);
    return -1;
}

/* To what happens next: a program's doing, or a look that was asked for. False: nothing will. */
static bool advance(struct model *m, int64_t look_again_ms, int64_t most_ms)
{
    int64_t due = fl_fake_world_next_due_ms(m->world);
    int64_t wait = due == INT64_MAX ? INT64_MAX : due - m->env.monotonic_ms;

    if (look_again_ms >= 0 && look_again_ms < wait)
        wait = look_again_ms;
    if (wait == INT64_MAX)
        return false;
    if (wait < 0)
        wait = 0;
    fl_fake_env_advance(&m->env, wait < most_ms ? wait : most_ms);
    (void)fl_fake_world_step(m->world);
    return true;
}

static void jump_clock(struct model *m)
{
    int64_t by_us = (int64_t)below(m, 7200) * 1000000;

    m->env.realtime_us += chance(m, 50) ? by_us : -by_us;
}

static void disturb(struct model *m)
{
    for (int i = 0; i < EDITS; i++) {
        if (chance(m, 50))
            edit_spec(m);
        if (chance(m, 20))
            disturb_node(m);
        if (chance(m, 5))
            jump_clock(m);
        for (uint64_t turns = below(m, 20); turns > 0; turns--)
            (void)advance(m, reconcile(m), 60000);
    }
}

/* Quiet: everything that was given up gets a new spec, all nodes are there, nothing fails. */
static void calm(struct model *m)
{
    m->troubled = false;
    m->intent = FL_INTENT_RUN;
    m->workload->spec.restart_policy = FL_WORKLOAD_RESTART_POLICY_ALWAYS;
    m->workload->spec.resources.cpu = "1";
    m->workload->spec.placement.cluster = NULL;
    m->workload->spec.placement.max_per_node = 0;
    m->version++;
    for (uint64_t i = 0; i < NODE_COUNT; i++)
        put_node(m, i);
}

static void settle(struct model *m)
{
    for (int i = 0; i < QUIET_MAX; i++)
        if (!advance(m, reconcile(m), INT64_MAX))
            return;
    fail_msg("seed %" PRIu64 ": never quiet", m->seed);
}

static void check_quiet(struct model *m)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_workload_spec *spec = &m->workload->spec;
    bool per_node = spec->has_placement && spec->placement.one_per_node;
    int64_t wanted = per_node ? NODE_COUNT : spec->instances;
    struct look l;

    look(m, arena, &l);
    if (l.decision.verdict != FL_VERDICT_READY || (int64_t)l.runs.count != wanted)
        fail_msg("seed %" PRIu64 ": %zu runs, not %" PRId64 "; %s: %s", m->seed, l.runs.count,
                 wanted, l.decision.reason, l.decision.message);
    for (size_t i = 0; i < l.runs.count; i++) {
        assert_true(l.runs.items[i].ready);
        assert_string_equal(l.runs.items[i].spec_hash, hash_of(m, arena));
    }
}

static void check_deletion(struct model *m)
{
    m->intent = FL_INTENT_DELETE;
    settle(m);
    assert_int_equal(fl_fake_world_count(m->world, NULL).living, 0);
    assert_int_equal(fl_fake_world_count(m->world, NULL).ended, 0);
}

static void run_seed(uint64_t seed)
{
    struct model m = {.seed = seed, .intent = FL_INTENT_RUN, .troubled = true};

    fl_fake_env_init(&m.env, seed, NULL);
    m.arena = fl_arena_create();
    m.workload = fl_workload_new(m.arena);
    m.workload->spec.instances = 3;
    m.world = fl_fake_world_create(&m.env.env);
    m.driver = fl_fake_orchestrator_create(m.world, NULL, NULL);
    fl_fake_world_on_plan(m.world, plan, &m);
    for (uint64_t i = 0; i < NODE_COUNT; i++)
        put_node(&m, i);
    disturb(&m);
    calm(&m);
    settle(&m);
    check_quiet(&m);
    check_deletion(&m);
    m.driver->ops->destroy(m.driver);
    fl_fake_world_destroy(m.world);
    fl_arena_destroy(m.arena);
}

static void converges_from_any_trouble(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run_seed(seed);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(converges_from_any_trouble),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
