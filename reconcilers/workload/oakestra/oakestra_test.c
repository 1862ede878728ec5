/* The driver before a root with traps: what is asked for comes to be all the same, once, and
 * nothing is left behind. */
#include "reconcilers/workload/oakestra/oakestra_testing.h"

#include "lib/folder.h"

static int setup(void **state)
{
    struct fixture *f = test_malloc(sizeof(*f));

    fixture_init(f, &oakestra_harness);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_finish(*state);
    test_free(*state);
    return 0;
}

static struct fake_root *root_of(struct fixture *f)
{
    return f->world;
}

static int read_int(struct fixture *f, const int *value)
{
    FL_LOCKED(root_of(f)->lock);
    return *value;
}

#define SET(f, member, value)                                                                      \
    do {                                                                                           \
        FL_LOCKED(root_of(f)->lock);                                                               \
        root_of(f)->member = (value);                                                              \
    } while (0)
#define GET(f, member) read_int(f, &root_of(f)->member)
#define UNTIL(f, condition)                                                                        \
    do {                                                                                           \
        unsigned tries_ = (f)->harness->patience;                                                  \
        while (!(condition) && tries_-- > 0)                                                       \
            (f)->harness->let_pass((f)->world);                                                    \
        assert_true(condition);                                                                    \
    } while (0)

static json_t *only_service(struct fixture *f)
{
    FL_LOCKED(root_of(f)->lock);

    assert_int_equal(json_array_size(root_of(f)->services), 1);
    return json_deep_copy(json_array_get(root_of(f)->services, 0));
}

static int services_at(struct fixture *f)
{
    FL_LOCKED(root_of(f)->lock);
    return (int)json_array_size(root_of(f)->services);
}

static bool has_text(const json_t *list, const char *text)
{
    size_t i;
    json_t *item;

    json_array_foreach((json_t *)list, i, item) {
        if (fl_streq(json_string_value(item), text))
            return true;
    }
    return false;
}

static void what_is_sent_is_what_was_asked(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec run = a_run(f, RUNS, 3, 2);
    struct fl_workload_spec *spec = (struct fl_workload_spec *)run.spec;
    struct fl_workload_port port = {.name = "grpc-web", .port = 8080};
    const struct fl_run_env env[] = {{"KEY", "a secret"}, {"FLOPS_INSTANCE", "9"}};
    struct fl_run seen;
    FL_JSON service = NULL;
    const json_t *list;

    spec->ports.items = &port;
    spec->ports.count = 1;
    spec->has_resources = true;
    spec->resources.cpu = "1500m";
    spec->resources.memory = "100Mi";
    run.env = env;
    run.env_count = FL_COUNT_OF(env);
    assert_int_equal(start(f, &run), 0);
    seen = wait_until_ready(f, &run.id);
    service = only_service(f);
    list = json_object_get(service, "environment");
    assert_true(has_text(list, "FLOPS_RUN=uid-1/3/2/0/0/0/hash-1"));
    assert_true(has_text(list, "FLOPS_INSTANCE=3"));
    assert_false(has_text(list, "FLOPS_INSTANCE=9"));
    assert_true(has_text(list, "KEY=a secret"));
    assert_true(has_text(list, "PORT_GRPC_WEB=8080"));
    assert_int_equal(fl_json_int(service, "vcpus", 0), 2);
    assert_int_equal(fl_json_int(service, "memory", 0), 100);
    assert_true(fl_json_bool(service, "one_shot", false));
    assert_string_equal(fl_json_str(service, "microservice_name"), "i3r2");
    assert_string_equal(
        fl_json_str(json_array_get(json_object_get(service, "constraints"), 0), "cluster"),
        "local");
    assert_string_equal(seen.address, fl_json_str(service, "addresses.rr_ip"));
    assert_int_equal(seen.ports[0].port, 8080);
    assert_string_equal(seen.id, fl_json_str(service, "_id"));
}

static void a_port_for_everyone_is_reached_at_the_node(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec run = a_run(f, RUNS, 0, 1);
    struct fl_workload_spec *spec = (struct fl_workload_spec *)run.spec;
    struct fl_workload_port port = {.name = "http", .expose = FL_WORKLOAD_PORT_EXPOSE_NETWORK};
    struct fl_run seen;
    FL_JSON service = NULL;
    const char *mapped;

    spec->ports.items = &port;
    spec->ports.count = 1;
    assert_int_equal(start(f, &run), 0);
    seen = wait_until_ready(f, &run.id);
    service = only_service(f);
    assert_string_equal(seen.address, "127.0.0.1");
    assert_true(seen.ports[0].port >= 20000 && seen.ports[0].port <= 29999);
    mapped =
        fl_arena_printf(f->arena, "%" PRId64 ":%" PRId64, seen.ports[0].port, seen.ports[0].port);
    assert_string_equal(fl_json_str(service, "port"), mapped);
    fixture_restart(f);
    assert_string_equal(look(f, &run.id).address, "127.0.0.1");
}

/* Each trap alone: the run comes up, as one, and what was in the way is over. */
static void comes_up_in_spite_of(void **state)
{
    static const struct {
        const char *what;
        size_t offset;
        int count;
    } rows[] = {
        {"failed services", offsetof(struct fake_root, fail_services), 2},
        {"answers that break off", offsetof(struct fake_root, break_creates), 1},
        {"deploys in twos", offsetof(struct fake_root, double_deploys), 1},
        {"tokens that end", offsetof(struct fake_root, unauthorized), 1},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct fl_run_spec run = a_run(f, RUNS, (int64_t)i, 1);
        FL_JSON service = NULL;

        fl_lock_take(root_of(f)->lock);
        memcpy((char *)root_of(f) + rows[i].offset, &rows[i].count, sizeof(int));
        fl_lock_release(root_of(f)->lock);
        print_message("%s\n", rows[i].what);
        assert_int_equal(start(f, &run), 0);
        (void)wait_until_ready(f, &run.id);
        UNTIL(f, read_int(f, (int *)((char *)root_of(f) + rows[i].offset)) == 0);
        assert_int_equal(stop(f, &run.id, 0, "Stopped"), 0);
        (void)wait_for_state(f, &run.id, FL_RUN_ENDED);
        assert_int_equal(services_at(f), 0);
    }
    assert_int_equal(GET(f, wiped), 0);
}

static void a_refusal_ends_the_run_and_the_next_succeeds(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec run = a_run(f, RUNS, 0, 1);
    struct fl_run seen;

    SET(f, refuse_deploys, 1);
    assert_int_equal(start(f, &run), 0);
    seen = wait_for_state(f, &run.id, FL_RUN_ENDED);
    assert_string_equal(seen.exit.reason, "StartFailed");
    assert_non_null(strstr(seen.exit.message, "NoActiveClusterWithCapacity"));
    run.number = 2;
    assert_int_equal(start(f, &run), 0);
    seen = wait_until_ready(f, &run.id);
    assert_string_equal(seen.last_exit.reason, "StartFailed");
}

static void an_old_root_has_no_addresses_to_give(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec run = a_run(f, RUNS, 0, 1);
    struct fl_workload_spec *spec = (struct fl_workload_spec *)run.spec;
    struct fl_workload_port port = {.name = "http", .port = 8080};
    struct fl_run seen;
    unsigned high, low;

    SET(f, no_addresses, true);
    spec->ports.items = &port;
    spec->ports.count = 1;
    assert_int_equal(start(f, &run), 0);
    seen = wait_until_ready(f, &run.id);
    assert_int_equal(sscanf(seen.address, "10.30.%u.%u", &high, &low), 2);
    assert_true(high <= 255 && low >= 1 && low <= 254);
}

static void another_cluster_is_given_back(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec run = a_run(f, RUNS, 0, 1);
    struct fl_run seen;

    fl_lock_take(root_of(f)->lock);
    oakroot_add_cluster(root_of(f), "other");
    root_of(f)->wrong_cluster = true;
    fl_lock_release(root_of(f)->lock);
    assert_int_equal(start(f, &run), 0);
    seen = wait_for_state(f, &run.id, FL_RUN_ENDED);
    assert_string_equal(seen.exit.reason, "StartFailed");
    assert_non_null(strstr(seen.exit.message, "another cluster"));
    assert_int_equal(services_at(f), 0);
}

static void a_failing_one_shot_is_not_started_for_ever(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec run = a_run(f, EXITS_7, 0, 1);

    assert_int_equal(start(f, &run), 0);
    assert_string_equal(wait_for_state(f, &run.id, FL_RUN_ENDED).exit.reason, "Error");
    assert_int_equal(services_at(f), 0);
    assert_int_equal(GET(f, deploys), 1);
}

static bool is_out_of_reach(struct fixture *f)
{
    struct fl_node_list nodes = {0};

    return f->driver->ops->nodes(f->driver, f->arena, &nodes, NULL) == FL_E_UNAVAILABLE;
}

static void an_outage_ends_nothing(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec run = a_run(f, RUNS, 0, 1);
    struct fl_run before, after;
    int lists;

    assert_int_equal(start(f, &run), 0);
    before = wait_until_ready(f, &run.id);
    SET(f, down, true);
    fixture_begin_again(f); /* the control plane, too */
    UNTIL(f, is_out_of_reach(f));
    after = look(f, &run.id);
    assert_int_equal(after.state, FL_RUN_RUNNING);
    SET(f, down, false);
    lists = GET(f, lists);
    UNTIL(f, GET(f, lists) > lists + 1);
    UNTIL(f, !is_out_of_reach(f));
    after = look(f, &run.id);
    assert_int_equal(after.state, FL_RUN_RUNNING);
    assert_int_equal(after.started_us, before.started_us);
    assert_int_equal(GET(f, deploys), 1);
    assert_int_equal(GET(f, undeploys), 0);
}

/* The records are lost with the disk; the services are still ours. */
static void adopts_what_nobody_remembers(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec run = a_run(f, RUNS, 2, 4);
    struct fl_run seen;

    run.restarts = 3;
    run.failures = 1;
    run.first_us = 1234567;
    assert_int_equal(start(f, &run), 0);
    (void)wait_until_ready(f, &run.id);
    f->driver->ops->destroy(f->driver);
    assert_int_equal(
        fl_dir_remove(fl_arena_printf(f->arena, "%s/oakestra", root_of(f)->folder), NULL), 0);
    fixture_open(f);
    UNTIL(f, knows(f, "uid-1"));
    seen = wait_until_ready(f, &run.id);
    assert_int_equal(seen.number, 4);
    assert_int_equal(seen.restarts, 3);
    assert_int_equal(seen.failures, 1);
    assert_int_equal(seen.first_us, 1234567);
    assert_string_equal(seen.spec_hash, "hash-1");
    assert_string_equal(seen.cluster, "local");
    assert_int_equal(GET(f, deploys), 1);
}

static void leaves_strangers_alone(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec run = a_run(f, RUNS, 0, 1);
    int lists;

    fl_lock_take(root_of(f)->lock);
    json_array_append_new(root_of(f)->apps,
                          json_pack("{s:s, s:s, s:s, s:s, s:s}", "_id", "x1", "applicationID", "x1",
                                    "application_name", "flNotOurs", "application_namespace",
                                    "flops", "application_desc", "FLOps Workload other"));
    json_array_append_new(root_of(f)->services,
                          json_pack("{s:s, s:s, s:s, s:s, s:s, s:[s], s:[s], s:[]}", "_id", "x2",
                                    "applicationID", "x1", "app_name", "flNotOurs", "app_ns",
                                    "flops", "microservice_name", "i0r1", "environment",
                                    "FLOPS_RUN=other/0/1/0/0/0/h", "cmd", "0", "instance_list"));
    fl_lock_release(root_of(f)->lock);
    assert_int_equal(start(f, &run), 0);
    (void)wait_until_ready(f, &run.id);
    fixture_restart(f);
    lists = GET(f, lists);
    UNTIL(f, GET(f, lists) > lists + 1);
    assert_false(knows(f, "other"));
    fl_lock_take(root_of(f)->lock);
    assert_non_null(oakroot_find(root_of(f)->apps, "x1"));
    assert_non_null(oakroot_find(root_of(f)->services, "x2"));
    oakroot_remove(root_of(f)->apps, oakroot_find(root_of(f)->apps, "x1"));
    oakroot_remove(root_of(f)->services, oakroot_find(root_of(f)->services, "x2"));
    fl_lock_release(root_of(f)->lock);
}

static void a_user_without_rights_sees_what_is_his(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec run = a_run(f, RUNS, 0, 1);

    SET(f, not_admin, true);
    assert_int_equal(start(f, &run), 0);
    (void)wait_until_ready(f, &run.id);
    fixture_restart(f);
    (void)wait_until_ready(f, &run.id);
    assert_int_equal(stop(f, &run.id, 0, "Stopped"), 0);
    (void)wait_for_state(f, &run.id, FL_RUN_ENDED);
    assert_int_equal(services_at(f), 0);
}

/* A root that has just begun lists no cluster yet: then they are not ready, but there. */
static void clusters_are_remembered(void **state)
{
    struct fixture *f = *state;
    struct fl_node_list nodes = {0};

    assert_int_equal(f->driver->ops->nodes(f->driver, f->arena, &nodes, NULL), 0);
    assert_int_equal(nodes.count, 1);
    assert_true(nodes.items[0].ready && nodes.items[0].runs_images);
    assert_int_equal(nodes.items[0].capacity.cpu_milli, 8000);
    assert_string_equal(nodes.items[0].addons.items[0], "FLOps-learner");
    SET(f, shy_clusters, true);
    fixture_configure(f); /* asks at once */
    UNTIL(f, f->driver->ops->nodes(f->driver, f->arena, &nodes, NULL) == 0 && nodes.count == 1 &&
                 !nodes.items[0].ready);
    assert_non_null(nodes.items[0].message);
    assert_true(nodes.items[0].ready_changed_us > 0);
}

static void says_what_cannot_be(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec run = a_run(f, RUNS, 0, 1);
    struct fl_workload_spec *spec = (struct fl_workload_spec *)run.spec;
    struct fl_error err = {0};

    spec->has_image_pull_secret = true;
    assert_int_equal(f->driver->ops->start(f->driver, &run, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "imagePullSecret"));
    spec->has_image_pull_secret = false;
    spec->image = NULL;
    spec->has_process = true;
    spec->process.program = "flops";
    assert_int_equal(f->driver->ops->start(f->driver, &run, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "programImage"));
    run = a_run(f, RUNS, 0, 1);
    run.cluster = "nowhere";
    assert_int_equal(f->driver->ops->start(f->driver, &run, &err), FL_E_UNAVAILABLE);
    assert_false(knows(f, "uid-1"));
}

static void tells_the_last_lines(void **state)
{
    static const struct {
        int64_t tail_lines;
        const char *expected;
    } rows[] = {{-1, "line 19\nline 20\n"},
                {5, "line 19\nline 20\n"},
                {2, "line 19\nline 20\n"},
                {1, "line 20\n"},
                {0, ""}};
    struct fixture *f = *state;
    const struct fl_orchestrator_ops *table = f->driver->ops;
    struct fl_run_spec run = a_run(f, RUNS, 0, 1);
    struct fl_log_query query = {.id = run.id};
    struct fl_log_reader *reader = NULL;

    assert_int_equal(table->log_open(f->driver, &query, NULL, NULL, &reader, NULL), FL_E_NOT_FOUND);
    assert_int_equal(start(f, &run), 0);
    (void)wait_until_ready(f, &run.id);
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        char text[64] = "";
        bool ended = false;
        size_t len = 0;

        query.tail_lines = rows[i].tail_lines;
        reader = NULL;
        for (unsigned tries = f->harness->patience; !reader && tries > 0; tries--)
            if (table->log_open(f->driver, &query, NULL, NULL, &reader, NULL) < 0)
                f->harness->let_pass(f->world);
        assert_non_null(reader);
        while (!ended)
            len += (size_t)table->log_read(reader, text + len, 3, &ended, NULL);
        assert_string_equal(text, rows[i].expected);
        table->log_close(reader);
    }
}

/* Settled instances cost one list for all of them. */
static void many_that_run_cost_one_list(void **state)
{
    struct fixture *f = *state;
    int lists, before, logins;

    for (int64_t i = 0; i < 20; i++) {
        struct fl_run_spec run = a_run(f, RUNS, i, 1);

        assert_int_equal(start(f, &run), 0);
    }
    for (int64_t i = 0; i < 20; i++)
        (void)wait_until_ready(f, &(struct fl_run_id){"uid-1", i});
    lists = GET(f, lists);
    before = GET(f, creates) + GET(f, deploys) + GET(f, undeploys) + GET(f, deletes);
    logins = GET(f, logins);
    UNTIL(f, GET(f, lists) >= lists + 3);
    assert_int_equal(GET(f, creates) + GET(f, deploys) + GET(f, undeploys) + GET(f, deletes),
                     before);
    assert_int_equal(GET(f, logins), logins);
    assert_int_equal(GET(f, deploys), 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_sent_is_what_was_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(a_port_for_everyone_is_reached_at_the_node, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(comes_up_in_spite_of, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refusal_ends_the_run_and_the_next_succeeds, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_old_root_has_no_addresses_to_give, setup, teardown),
        cmocka_unit_test_setup_teardown(another_cluster_is_given_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failing_one_shot_is_not_started_for_ever, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_outage_ends_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(adopts_what_nobody_remembers, setup, teardown),
        cmocka_unit_test_setup_teardown(leaves_strangers_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_user_without_rights_sees_what_is_his, setup, teardown),
        cmocka_unit_test_setup_teardown(clusters_are_remembered, setup, teardown),
        cmocka_unit_test_setup_teardown(tells_the_last_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(says_what_cannot_be, setup, teardown),
        cmocka_unit_test_setup_teardown(many_that_run_cost_one_list, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
