/* What every orchestrator promises, whatever its driver: the same table of tests for each. */
#include "reconcilers/workload/local/container_testing.h"
#include "reconcilers/workload/local/local_testing.h"
#include "reconcilers/workload/oakestra/oakestra_testing.h"
#include "reconcilers/workload/orchestrator_fake.h"
#include "reconcilers/workload/orchestrator_testing.h"

/* The fake: virtual time, and plans in place of programs. */

struct fake_world {
    struct fl_fake_env env;
    struct fl_fake_world *world;
};

static const struct fl_fake_plan plans[] = {
    [RUNS] = {.start_ms = 10, .run_ms = -1, .stop_ms = 20},
    [EXITS_0] = {.start_ms = 10,
                 .run_ms = 5,
                 .exit = {.has_code = true, .code = 0, .reason = "Completed"}},
    [EXITS_7] = {.start_ms = 10,
                 .run_ms = 5,
                 .exit = {.has_code = true, .code = 7, .reason = "Error"}},
    [CRASHES] = {.start_ms = 10, .run_ms = 5, .exit = {.signal = "SIGSEGV", .reason = "Signal"}},
    [IGNORES] = {.start_ms = 10, .run_ms = -1, .stop_ms = -1},
    [PRINTS] = {.start_ms = 10, .run_ms = -1, .stop_ms = 20},
    [CANNOT_BE] = {.start_ms = 10,
                   .exit = {.reason = "StartFailed", .message = "there is no such program"}},
};

static void plan_run(void *user, const struct fl_run_spec *spec, struct fl_fake_plan *plan)
{
    int64_t behaviour = 0;

    (void)user;
    assert_true(fl_str_to_int64(spec->spec->args.items[0], 0, CANNOT_BE, &behaviour));
    *plan = plans[behaviour];
}

static void *fake_begin(void)
{
    struct fake_world *fake = test_malloc(sizeof(*fake));
    const char *platform = "linux/amd64";
    struct fl_node node = {.cluster = "local",
                           .name = "node",
                           .platforms = {.items = &platform, .count = 1},
                           .ready = true,
                           .runs_processes = true};

    fl_fake_env_init(&fake->env, 1, NULL);
    fake->world = fl_fake_world_create(&fake->env.env);
    fl_fake_world_on_plan(fake->world, plan_run, NULL);
    fl_fake_world_put_node(fake->world, &node);
    return fake;
}

static void fake_end(void *world)
{
    struct fake_world *fake = world;

    fl_fake_world_destroy(fake->world);
    test_free(fake);
}

static struct fl_orchestrator_driver *fake_open(void *world, fl_run_changed_fn *changed, void *user)
{
    struct fake_world *fake = world;

    return fl_fake_orchestrator_create(fake->world, changed, user);
}

static void fake_behave(void *world, struct fl_arena *arena, enum behaviour behaviour,
                        struct fl_workload_spec *spec)
{
    (void)world;
    spec->has_process = true;
    spec->process.program = "/program";
    spec->args.items = fl_new_array(arena, const char *, 1);
    spec->args.items[spec->args.count++] = fl_arena_printf(arena, "%d", (int)behaviour);
}

static void fake_let_pass(void *world)
{
    struct fake_world *fake = world;

    fl_fake_env_advance(&fake->env, 1);
    while (fl_fake_world_step(fake->world) > 0)
        ;
}

static const struct harness fake_harness = {
    .name = "fake",
    .begin = fake_begin,
    .end = fake_end,
    .open = fake_open,
    .behave = fake_behave,
    .let_pass = fake_let_pass,
    .patience = 1000,
};

static const struct harness *const harnesses[] = {&fake_harness, &local_harness, &container_harness,
                                                  &oakestra_harness};
static const struct harness *harness;

static int setup(void **state)
{
    struct fixture *f = test_malloc(sizeof(*f));

    fixture_init(f, harness);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_finish(*state);
    test_free(*state);
    return 0;
}

/* The contract. */

static void has_a_whole_table(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(fl_orchestrator_check(f->driver->ops, NULL), 0);
}

static void knows_nothing_at_first(void **state)
{
    struct fixture *f = *state;
    struct fl_run_id id = {.workload_uid = "uid-1"};
    struct fl_run_list list = {0};

    assert_int_equal(f->driver->ops->observe(f->driver, "uid-1", f->arena, &list, NULL), 0);
    assert_int_equal(list.count, 0);
    assert_false(knows(f, "uid-1"));
    assert_int_equal(stop(f, &id, 0, "Stopped"), 0);
    assert_int_equal(forget(f, &id), 0);
}

static void runs_what_is_started(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, RUNS, 2, 5);
    struct fl_run run;

    spec.restarts = 3;
    spec.failures = 2;
    spec.first_us = 1234567;
    spec.cluster = "local";
    spec.node = "node";
    assert_int_equal(start(f, &spec), 0);
    run = wait_until_ready(f, &spec.id);
    assert_int_equal(run.state, FL_RUN_RUNNING);
    assert_int_equal(run.index, 2);
    assert_int_equal(run.number, 5);
    assert_int_equal(run.restarts, 3);
    assert_int_equal(run.failures, 2);
    assert_int_equal(run.first_us, 1234567);
    assert_string_equal(run.spec_hash, "hash-1");
    assert_string_equal(run.cluster, "local");
    assert_string_equal(run.node, "node");
    assert_true(run.requested_us > 0 && run.started_us >= run.requested_us);
    assert_true(run.ready_us >= run.started_us);
    assert_null(run.exit.reason);
    assert_null(run.last_exit.reason);
    assert_true(knows(f, "uid-1"));
}

static void tells_of_changes(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, EXITS_0, 0, 1);
    FL_CLEANUP(fl_lock_releasep) struct fl_lock *lock = NULL;

    assert_int_equal(start(f, &spec), 0);
    (void)wait_for_state(f, &spec.id, FL_RUN_ENDED);
    for (unsigned i = 0; i < harness->patience; i++) {
        FL_LOCKED(f->change.lock);
        if (f->change.count > 0)
            break;
        harness->let_pass(f->world);
    }
    lock = fl_lock_taken(f->change.lock);
    assert_true(f->change.count > 0);
    assert_string_equal(f->change.ns, "default");
    assert_string_equal(f->change.name, "one");
}

static void starts_a_run_once(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, RUNS, 0, 2), other = a_run(f, RUNS, 0, 3),
                       earlier = a_run(f, RUNS, 0, 1);
    struct fl_run first, second;

    assert_int_equal(start(f, &spec), 0);
    first = wait_until_ready(f, &spec.id);
    assert_int_equal(start(f, &spec), 0);
    assert_int_equal(start(f, &other), FL_E_CONFLICT);
    assert_int_equal(start(f, &earlier), FL_E_CONFLICT);
    second = look(f, &spec.id);
    assert_int_equal(second.number, 2);
    assert_int_equal(second.started_us, first.started_us);
    assert_int_equal(stop(f, &spec.id, 30000, "Stopped"), 0);
    (void)wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_int_equal(start(f, &spec), 0); /* it was begun: not again */
    assert_int_equal(look(f, &spec.id).state, FL_RUN_ENDED);
    assert_int_equal(start(f, &earlier), FL_E_CONFLICT);
}

static void tells_how_it_ended(void **state)
{
    static const struct {
        enum behaviour behaviour;
        bool has_code;
        int64_t code;
        const char *signal, *reason;
    } rows[] = {
        {EXITS_0, true, 0, NULL, "Completed"},
        {EXITS_7, true, 7, NULL, "Error"},
        {CRASHES, false, 0, "SIGSEGV", "Signal"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct fl_run_spec spec = a_run(f, rows[i].behaviour, (int64_t)i, 1);
        struct fl_run run;

        assert_int_equal(start(f, &spec), 0);
        run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
        if (harness->tells_no_codes && rows[i].code == 0 && !rows[i].signal) {
            assert_string_equal(run.exit.reason, "Completed");
        } else if (harness->tells_no_codes) {
            assert_string_equal(run.exit.reason, "Error");
        } else {
            assert_int_equal(run.exit.has_code, rows[i].has_code);
            assert_int_equal(run.exit.code, rows[i].code);
            assert_true(fl_streq(run.exit.signal, rows[i].signal));
            assert_string_equal(run.exit.reason, rows[i].reason);
        }
        assert_true(run.exit.ended_us >= run.started_us && run.started_us > 0);
        assert_false(run.ready);
        assert_false(run.exit.oom_killed);
    }
}

static void a_start_that_fails_is_an_end(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, CANNOT_BE, 0, 1);
    struct fl_run run;

    assert_int_equal(start(f, &spec), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "StartFailed");
    assert_non_null(run.exit.message);
    assert_int_equal(run.started_us, 0);
    assert_false(run.exit.has_code);
}

static void stops_what_runs(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, RUNS, 0, 1);
    struct fl_run run;

    assert_int_equal(start(f, &spec), 0);
    (void)wait_until_ready(f, &spec.id);
    assert_int_equal(stop(f, &spec.id, 600000, "Suspended"), 0);
    run = look(f, &spec.id);
    assert_true(run.state == FL_RUN_STOPPING || run.state == FL_RUN_ENDED);
    assert_false(run.ready);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "Suspended");
    assert_int_equal(stop(f, &spec.id, 0, "Other"), 0);
    assert_string_equal(look(f, &spec.id).exit.reason, "Suspended");
}

static void kills_what_does_not_listen(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, IGNORES, 0, 1);
    struct fl_run run;

    assert_int_equal(start(f, &spec), 0);
    (void)wait_until_ready(f, &spec.id);
    assert_int_equal(stop(f, &spec.id, 50, "Stopped"), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_true(harness->tells_no_codes || fl_streq(run.exit.signal, "SIGKILL"));
    assert_string_equal(run.exit.reason, "Stopped");
    assert_false(run.exit.has_code);
}

static void grace_can_only_shrink(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, IGNORES, 0, 1);
    struct fl_run run;

    assert_int_equal(start(f, &spec), 0);
    (void)wait_until_ready(f, &spec.id);
    assert_int_equal(stop(f, &spec.id, 3600000, "Stopped"), 0);
    assert_int_equal(stop(f, &spec.id, 0, "Stopped"), 0);
    assert_int_equal(stop(f, &spec.id, 3600000, "Stopped"), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_true(harness->tells_no_codes || fl_streq(run.exit.signal, "SIGKILL"));
}

static void assert_same_run(const struct fl_run *a, const struct fl_run *b)
{
    assert_int_equal(a->state, b->state);
    assert_int_equal(a->ready, b->ready);
    assert_int_equal(a->number, b->number);
    assert_int_equal(a->restarts, b->restarts);
    assert_int_equal(a->failures, b->failures);
    assert_int_equal(a->first_us, b->first_us);
    assert_int_equal(a->requested_us, b->requested_us);
    assert_int_equal(a->started_us, b->started_us);
    assert_int_equal(a->ready_us, b->ready_us);
    assert_true(fl_streq(a->spec_hash, b->spec_hash));
    assert_true(fl_streq(a->node, b->node));
    assert_true(fl_streq(a->id, b->id));
    assert_true(fl_streq(a->exit.reason, b->exit.reason));
    assert_int_equal(a->exit.code, b->exit.code);
    assert_int_equal(a->exit.ended_us, b->exit.ended_us);
    assert_true(fl_streq(a->last_exit.reason, b->last_exit.reason));
}

static void remembers_over_a_restart(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec lives = a_run(f, RUNS, 0, 4), ended = a_run(f, EXITS_7, 1, 2);
    struct fl_run before[2], after[2];

    lives.restarts = 3;
    assert_int_equal(start(f, &lives), 0);
    assert_int_equal(start(f, &ended), 0);
    before[0] = wait_until_ready(f, &lives.id);
    before[1] = wait_for_state(f, &ended.id, FL_RUN_ENDED);
    fixture_restart(f);
    after[0] = look(f, &lives.id);
    after[1] = look(f, &ended.id);
    assert_same_run(&before[0], &after[0]);
    assert_same_run(&before[1], &after[1]);
    assert_int_equal(start(f, &lives), 0);
    assert_int_equal(look(f, &lives.id).started_us, before[0].started_us);
    assert_int_equal(stop(f, &lives.id, 600000, "Stopped"), 0);
    after[0] = wait_for_state(f, &lives.id, FL_RUN_ENDED);
    assert_string_equal(after[0].exit.reason, "Stopped");
}

/* What ends while no control plane is there has ended there. */
static void learns_what_it_missed(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec ends = a_run(f, EXITS_7, 0, 1), stops = a_run(f, RUNS, 1, 1);
    struct fl_run run;

    assert_int_equal(start(f, &stops), 0);
    (void)wait_until_ready(f, &stops.id);
    assert_int_equal(start(f, &ends), 0);
    wait_until_begun(f, &ends.id);
    assert_int_equal(stop(f, &stops.id, 600000, "Suspended"), 0);
    f->driver->ops->destroy(f->driver);
    for (unsigned i = 0; i < 100; i++)
        harness->let_pass(f->world);
    fixture_open(f);
    run = wait_for_state(f, &ends.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "Error");
    assert_int_equal(run.exit.code, harness->tells_no_codes ? 0 : 7);
    run = wait_for_state(f, &stops.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "Suspended");
}

static void the_next_run_knows_the_last_exit(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec first = a_run(f, EXITS_7, 0, 1), second = a_run(f, RUNS, 0, 2);
    struct fl_run run;

    assert_int_equal(start(f, &first), 0);
    (void)wait_for_state(f, &first.id, FL_RUN_ENDED);
    second.restarts = 1;
    second.spec_hash = "hash-2";
    assert_int_equal(start(f, &second), 0);
    run = wait_until_ready(f, &second.id);
    assert_int_equal(run.number, 2);
    assert_int_equal(run.restarts, 1);
    assert_string_equal(run.spec_hash, "hash-2");
    assert_string_equal(run.last_exit.reason, "Error");
    assert_int_equal(run.last_exit.code, harness->tells_no_codes ? 0 : 7);
    fixture_restart(f);
    assert_string_equal(look(f, &second.id).last_exit.reason, "Error");
}

static void lists_instances_by_index(void **state)
{
    static const int64_t indexes[] = {3, 0, 7};
    struct fixture *f = *state;
    struct fl_run_list list = {0};

    for (size_t i = 0; i < FL_COUNT_OF(indexes); i++) {
        struct fl_run_spec spec = a_run(f, EXITS_0, indexes[i], 1);

        assert_int_equal(start(f, &spec), 0);
    }
    assert_int_equal(f->driver->ops->observe(f->driver, "uid-1", f->arena, &list, NULL), 0);
    assert_int_equal(list.count, 3);
    assert_int_equal(list.items[0].index, 0);
    assert_int_equal(list.items[1].index, 3);
    assert_int_equal(list.items[2].index, 7);
}

static void forgets_what_has_ended(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, RUNS, 0, 1), other = a_run(f, EXITS_0, 1, 1);

    assert_int_equal(start(f, &spec), 0);
    assert_int_equal(start(f, &other), 0);
    (void)wait_until_ready(f, &spec.id);
    (void)wait_for_state(f, &other.id, FL_RUN_ENDED);
    assert_int_equal(forget(f, &spec.id), FL_E_CONFLICT);
    assert_int_equal(forget(f, &other.id), 0);
    assert_int_equal(look(f, &other.id).state, 0);
    assert_true(knows(f, "uid-1"));
    assert_int_equal(stop(f, &spec.id, 0, "Stopped"), 0);
    (void)wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_int_equal(forget(f, &spec.id), 0);
    assert_false(knows(f, "uid-1"));
    fixture_restart(f);
    assert_false(knows(f, "uid-1"));
    assert_int_equal(start(f, &spec), 0); /* as if it had never been */
    (void)wait_until_ready(f, &spec.id);
}

static void counts_what_runs_on_a_node(void **state)
{
    struct fixture *f = *state;
    struct fl_node_list list = {0};
    struct fl_run_spec spec = a_run(f, RUNS, 0, 1);
    struct fl_workload_spec *workload = (struct fl_workload_spec *)spec.spec;

    assert_int_equal(f->driver->ops->nodes(f->driver, f->arena, &list, NULL), 0);
    assert_int_equal(list.count, 1);
    assert_true(list.items[0].ready);
    assert_int_equal(list.items[0].runs, 0);
    spec.cluster = list.items[0].cluster;
    spec.node = list.items[0].name;
    workload->has_resources = true;
    workload->resources.memory = "256Mi";
    assert_int_equal(start(f, &spec), 0);
    (void)wait_until_ready(f, &spec.id);
    assert_int_equal(f->driver->ops->nodes(f->driver, f->arena, &list, NULL), 0);
    assert_int_equal(list.items[0].runs, 1);
    assert_int_equal(list.items[0].requested.memory_bytes, 256 * 1024 * 1024);
    assert_int_equal(stop(f, &spec.id, 0, "Stopped"), 0);
    (void)wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_int_equal(f->driver->ops->nodes(f->driver, f->arena, &list, NULL), 0);
    assert_int_equal(list.items[0].runs, 0);
    assert_int_equal(list.items[0].requested.memory_bytes, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(has_a_whole_table, setup, teardown),
        cmocka_unit_test_setup_teardown(knows_nothing_at_first, setup, teardown),
        cmocka_unit_test_setup_teardown(runs_what_is_started, setup, teardown),
        cmocka_unit_test_setup_teardown(tells_of_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(starts_a_run_once, setup, teardown),
        cmocka_unit_test_setup_teardown(tells_how_it_ended, setup, teardown),
        cmocka_unit_test_setup_teardown(a_start_that_fails_is_an_end, setup, teardown),
        cmocka_unit_test_setup_teardown(stops_what_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(kills_what_does_not_listen, setup, teardown),
        cmocka_unit_test_setup_teardown(grace_can_only_shrink, setup, teardown),
        cmocka_unit_test_setup_teardown(remembers_over_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(learns_what_it_missed, setup, teardown),
        cmocka_unit_test_setup_teardown(the_next_run_knows_the_last_exit, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_instances_by_index, setup, teardown),
        cmocka_unit_test_setup_teardown(forgets_what_has_ended, setup, teardown),
        cmocka_unit_test_setup_teardown(counts_what_runs_on_a_node, setup, teardown),
    };
    int failed = 0;

    if (local_is_shim(argc, argv))
        return fl_shim_main();
    take_turn();
    for (size_t i = 0; i < FL_COUNT_OF(harnesses); i++) {
        harness = harnesses[i];
        if (harness == &container_harness && container_why_not()) {
            print_message("NOT RUN: %s: %s\n", harness->name, container_why_not());
            continue;
        }
        failed += cmocka_run_group_tests_name(harness->name, tests, NULL, NULL);
    }
    return failed;
}
