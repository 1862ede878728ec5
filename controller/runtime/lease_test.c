/* Leadership: who has it, and that there are never two. */
#include "controller/runtime/runtime_testing.h"

#define LEASE LEASES "/flops"

static struct fl_lease *candidate(struct rig *rig, const char *identity)
{
    struct fl_lease_options options = {.env = rig->env,
                                       .client = rig->client,
                                       .ns = "default",
                                       .name = "flops",
                                       .identity = identity};
    struct fl_lease *lease = NULL;
    struct fl_error err = {0};

    if (fl_lease_create(&options, &lease, &err) < 0)
        fail_msg("%s", err.msg);
    return lease;
}

/* Time goes on by `ms`, second by second; those given act when they are due. Never two at once. */
static void go_on(struct rig *rig, int64_t ms, struct fl_lease *a, struct fl_lease *b)
{
    for (int64_t at = 0; at < ms; at += 100) {
        assert_true(fl_plane_advance(rig->plane, 100));
        if (a)
            fl_lease_try(a);
        if (b)
            fl_lease_try(b);
        assert_false(a && b && fl_lease_holds(a) && fl_lease_holds(b));
    }
}

static void assert_holder(struct rig *rig, const char *identity, int64_t transitions)
{
    json_t *lease = rig_get(rig, LEASE);

    assert_string_equal(fl_json_str(lease, "spec.holderIdentity"), identity);
    assert_int_equal(fl_json_int(lease, "spec.leaseTransitions", -1), transitions);
}

static void test_first_come(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_lease_destroyp) struct fl_lease *a = candidate(rig, "a");
    FL_CLEANUP(fl_lease_destroyp) struct fl_lease *b = candidate(rig, "b");
    const char *acquired;
    json_t *lease;

    assert_false(fl_lease_holds(a));
    fl_lease_try(a);
    fl_lease_try(b);
    assert_true(fl_lease_holds(a));
    assert_false(fl_lease_holds(b));
    lease = rig_get(rig, LEASE);
    acquired = fl_json_str(lease, "spec.acquireTime");
    assert_string_equal(fl_json_str(lease, "spec.renewTime"), acquired);
    assert_int_equal(fl_json_int(lease, "spec.leaseDurationSeconds", 0), 15);
    go_on(rig, 120000, a, b);
    assert_true(fl_lease_holds(a));
    assert_holder(rig, "a", 0);
    lease = rig_get(rig, LEASE);
    assert_string_equal(fl_json_str(lease, "spec.acquireTime"), acquired);
    assert_string_not_equal(fl_json_str(lease, "spec.renewTime"), acquired);
}

/* One that is not heard of stops by itself, before the other one takes over. */
static void test_paused(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_lease_destroyp) struct fl_lease *a = candidate(rig, "a");
    FL_CLEANUP(fl_lease_destroyp) struct fl_lease *b = candidate(rig, "b");
    int64_t stopped = 0, taken = 0;

    fl_lease_try(a);
    go_on(rig, 30000, a, b);
    for (int64_t at = 100; at < 60000 && !taken; at += 100) {
        go_on(rig, 100, NULL, b);
        if (!stopped && !fl_lease_holds(a))
            stopped = at;
        if (fl_lease_holds(b))
            taken = at;
        assert_false(fl_lease_holds(a) && fl_lease_holds(b));
    }
    assert_in_range(stopped, 8000, 10000);
    assert_in_range(taken, stopped + 3000, 20000);
    assert_holder(rig, "b", 1);
    go_on(rig, 30000, a, b); /* it comes back, and sees */
    assert_false(fl_lease_holds(a));
    assert_true(fl_lease_holds(b));
}

/* What the clock of another machine says does not matter. */
static void test_clocks_are_not_compared(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_lease_destroyp) struct fl_lease *b = candidate(rig, "b");
    const char *body =
        "{\"apiVersion\":\"coordination.k8s.io/v1\",\"kind\":\"Lease\",\"metadata\":{\"name\":"
        "\"flops\"},\"spec\":{\"holderIdentity\":\"a\",\"leaseDurationSeconds\":15,"
        "\"renewTime\":\"1999-01-01T00:00:00.000000Z\",\"leaseTransitions\":4}}";

    (void)rig_try(rig, "POST", LEASES, "application/json", body, NULL);
    fl_lease_try(b);
    assert_false(fl_lease_holds(b));
    go_on(rig, 14900, NULL, b);
    assert_false(fl_lease_holds(b));
    go_on(rig, 5000, NULL, b);
    assert_true(fl_lease_holds(b));
    assert_holder(rig, "b", 5);
}

static void test_release(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_lease_destroyp) struct fl_lease *a = candidate(rig, "a");
    FL_CLEANUP(fl_lease_destroyp) struct fl_lease *b = candidate(rig, "b");

    fl_lease_try(a);
    fl_lease_try(b);
    fl_lease_release(b); /* not its own: nothing */
    assert_holder(rig, "a", 0);
    fl_lease_release(a);
    assert_false(fl_lease_holds(a));
    assert_holder(rig, "", 0);
    go_on(rig, 2500, NULL, b);
    assert_true(fl_lease_holds(b));
    assert_holder(rig, "b", 1);
}

/* A process that comes back with its old identity need not wait for itself. */
static void test_same_identity(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_lease_destroyp) struct fl_lease *a = candidate(rig, "a");
    FL_CLEANUP(fl_lease_destroyp) struct fl_lease *again = candidate(rig, "a");

    fl_lease_try(a);
    fl_lease_try(again);
    assert_true(fl_lease_holds(again));
    assert_holder(rig, "a", 0);
}

static int fail_calls(void *user, const struct fl_client_moment *moment)
{
    struct rig *rig = user;

    return moment->use == FL_CLIENT_CALL && !moment->after ? (int)rig->knob : 0;
}

/* A server that does not answer: leadership goes on for as long as it is safe. */
static void test_server_away(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_lease_destroyp) struct fl_lease *a = candidate(rig, "a");

    rig->faults.moment = fail_calls;
    fl_lease_try(a);
    rig->knob = FL_E_UNAVAILABLE;
    go_on(rig, 9900, a, NULL);
    assert_true(fl_lease_holds(a));
    assert_true(fl_lease_next_due_ms(a) <= fl_monotonic_ms(rig->env) + 100);
    go_on(rig, 100, a, NULL);
    assert_false(fl_lease_holds(a));
    rig->knob = 0;
    go_on(rig, 3000, a, NULL);
    assert_true(fl_lease_holds(a));
    rig->knob = FL_E_UNAVAILABLE;
    go_on(rig, 5000, a, NULL);
    rig->knob = 0;
    go_on(rig, 3000, a, NULL);
    rig->knob = FL_E_UNAVAILABLE;
    go_on(rig, 5000, a, NULL);
    assert_true(fl_lease_holds(a)); /* renewed in between */
}

static int lose_answers(void *user, const struct fl_client_moment *moment)
{
    struct rig *rig = user;

    return moment->use == FL_CLIENT_CALL && moment->after ? (int)rig->knob : 0;
}

/* The write took place and nobody was told: it is seen at the next look, and is ours. */
static void test_answers_lost(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_lease_destroyp) struct fl_lease *a = candidate(rig, "a");

    rig->faults.moment = lose_answers;
    rig->knob = FL_E_TIMEOUT;
    fl_lease_try(a); /* the look fails */
    assert_false(fl_lease_holds(a));
    rig->knob = 0;
    go_on(rig, 3000, a, NULL);
    assert_true(fl_lease_holds(a));
}

static void test_refused_options(void **state)
{
    static const struct fl_lease_options bad[] = {
        {.ns = "n", .name = "l"},
        {.ns = "n", .name = "l", .identity = ""},
        {.ns = "n", .identity = "i"},
        {.name = "l", .identity = "i"},
        {.ns = "n", .name = "l", .identity = "i", .lease_ms = 10000, .renew_ms = 10000},
        {.ns = "n", .name = "l", .identity = "i", .renew_ms = 2400, .retry_ms = 2000},
        {.ns = "n", .name = "l", .identity = "i", .lease_ms = 500, .renew_ms = 100, .retry_ms = 10},
    };
    struct fl_lease *lease = NULL;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(bad); i++) {
        struct fl_error err = {0};

        assert_int_equal(fl_lease_create(&bad[i], &lease, &err), FL_E_INVALID);
        assert_true(err.msg[0] != '\0');
    }
}

/* Managers. */

struct side {
    struct fl_manager *manager;
    int lost;
};

static void count_lost(void *user)
{
    struct side *side = user;

    side->lost++;
}

static void make_side(struct rig *rig, struct side *side, const char *identity)
{
    struct fl_manager_options options = {.env = rig->env,
                                         .client = rig->client,
                                         .metrics = rig->metrics,
                                         .identity = identity,
                                         .lease_namespace = "default",
                                         .lease_name = "flops",
                                         .lost = count_lost,
                                         .lost_user = side};
    struct fl_error err = {0};

    *side = (struct side){0};
    if (fl_manager_create(&options, &side->manager, &err) < 0 ||
        fl_manager_add(side->manager, &rig->ops, rig, &err) < 0)
        fail_msg("%s", err.msg);
}

static bool turn(struct side *side)
{
    fl_manager_lead(side->manager);
    (void)fl_manager_pump(side->manager);
    return fl_controller_process_next(fl_manager_controller(side->manager, 0));
}

/* Two managers on one store: one works; paused, it has stopped before the other one starts. */
static void test_two_managers(void **state)
{
    struct rig *rig = *state;
    struct side a, b;
    bool b_worked = false;

    make_side(rig, &a, "a");
    make_side(rig, &b, "b");
    (void)rig_ship(rig, "boat", "{}");
    assert_true(turn(&a));
    assert_false(turn(&b));
    assert_true(fl_manager_is_leader(a.manager));
    assert_true(rig_metric_is(rig, "leader_election_master_status{name=\"flops\"} 1"));
    assert_ready(rig, SHIPS "/boat", "True", "Ready");
    for (int i = 0; i < 300 && !b_worked; i++) {
        fl_manager_enqueue(a.manager, "ship", "default", "boat");
        fl_manager_enqueue(b.manager, "ship", "default", "boat");
        b_worked = turn(&b);
        assert_false(b_worked && fl_controller_process_next(fl_manager_controller(a.manager, 0)));
        assert_true(fl_plane_advance(rig->plane, 100));
    }
    assert_true(b_worked);
    assert_int_equal(a.lost, 0); /* it sleeps */
    assert_false(turn(&a));
    assert_int_equal(a.lost, 1);
    assert_false(turn(&a));
    assert_int_equal(a.lost, 1);
    fl_manager_stop(b.manager);
    assert_false(turn(&b));
    assert_true(fl_plane_advance(rig->plane, 3000));
    assert_true(turn(&a));
    fl_manager_destroy(a.manager);
    fl_manager_destroy(b.manager);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_first_come),   TEST(test_paused),          TEST(test_clocks_are_not_compared),
        TEST(test_release),      TEST(test_same_identity),   TEST(test_server_away),
        TEST(test_answers_lost), TEST(test_refused_options), TEST(test_two_managers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
