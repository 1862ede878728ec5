/* The decision by itself: what was measured of Oakestra's roots, step by step. */
#include "reconcilers/workload/oakestra/core.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka wants these first */
#include <cmocka.h>

#define SECOND INT64_C(1000000)

struct world {
    struct fl_arena *arena;
    struct oak_record record;
    struct oak_sight sight;
    struct oak_settings settings;
    struct oak_service service;
    struct oak_instance instances[3];
    struct oak_act act;
};

static int setup(void **state)
{
    struct world *w = test_calloc(1, sizeof(*w));

    w->arena = fl_arena_create();
    w->settings.schedule_ms = 60000;
    w->record = (struct oak_record){.uid = "uid-1",
                                    .number = 1,
                                    .requested_us = 1000 * SECOND,
                                    .spec_hash = "hash",
                                    .ns = "default",
                                    .name = "one",
                                    .cluster = "a",
                                    .cluster_id = "c-a",
                                    .instance = -1};
    w->sight.now_us = 1000 * SECOND;
    w->sight.has_sla = true;
    w->service = (struct oak_service){
        .id = "s1", .status_text = "", .detail = "", .instances = w->instances};
    for (size_t i = 0; i < 3; i++)
        w->instances[i] = (struct oak_instance){.number = (int64_t)i,
                                                .status_text = "",
                                                .detail = "",
                                                .cluster_id = "c-a",
                                                .public_ip = "",
                                                .logs = ""};
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    fl_arena_destroy(w->arena);
    test_free(w);
    return 0;
}

/* A new list, so much later. */
static enum oak_act_type look(struct world *w, int64_t later_ms)
{
    w->sight.now_us += later_ms * 1000;
    w->sight.asked_us = w->sight.now_us;
    w->sight.turn++;
    oak_judge(&w->record, w->arena, &w->sight, &w->settings, &w->act);
    return w->act.type;
}

static void do_act(struct world *w, const char *problem)
{
    oak_acting(&w->record, &w->act, w->sight.now_us);
    oak_acted(&w->record, w->arena, problem, w->sight.now_us, ++w->sight.turn);
}

static void show(struct world *w, size_t count, const char *status)
{
    w->sight.service = &w->service;
    w->service.instance_count = count;
    for (size_t i = 0; i < count; i++) {
        w->instances[i].status_text = status;
        w->instances[i].status = oak_status_of(status);
    }
}

static void bring_up(struct world *w)
{
    assert_int_equal(look(w, 0), OAK_CREATE);
    do_act(w, NULL);
    show(w, 0, NULL);
    assert_int_equal(look(w, 100), OAK_DEPLOY);
    do_act(w, NULL);
    show(w, 1, "RUNNING");
    assert_int_equal(look(w, 100), OAK_NOTHING);
    assert_true(w->record.started_us > 0 && w->record.ready_us > 0);
    assert_true(oak_is_settled(&w->record));
}

/* Until nothing of it is at the root. */
static void take_down(struct world *w)
{
    for (int i = 0; i < 20 && !w->record.gone; i++) {
        enum oak_act_type type = look(w, 1000);

        if (type == OAK_UNDEPLOY)
            w->service.instance_count--;
        if (type == OAK_DELETE)
            w->sight.service = NULL;
        if (type != OAK_NOTHING)
            do_act(w, NULL);
    }
    assert_true(w->record.gone);
}

static void creates_deploys_and_runs(void **state)
{
    bring_up(*state);
}

static void an_old_list_says_nothing(void **state)
{
    struct world *w = *state;

    assert_int_equal(look(w, 0), OAK_CREATE);
    oak_acting(&w->record, &w->act, w->sight.now_us);
    oak_acted(&w->record, w->arena, NULL, w->sight.now_us, w->sight.turn + 5);
    assert_int_equal(look(w, 10000), OAK_NOTHING);
    assert_int_equal(w->record.creates, 1);
}

static void what_may_still_appear_is_not_created_again_at_once(void **state)
{
    struct world *w = *state;

    assert_int_equal(look(w, 0), OAK_CREATE);
    do_act(w, "timeout");
    assert_int_equal(look(w, 500), OAK_NOTHING);
    assert_true(w->act.again_us > w->sight.now_us);
    show(w, 0, NULL);
    assert_int_equal(look(w, 500), OAK_DEPLOY);
    assert_int_equal(w->record.creates, 1);
}

static void gives_up_what_cannot_be_created(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < 3; i++) {
        assert_int_equal(look(w, 4000), OAK_CREATE);
        do_act(w, "the root lists it as failed: taken address");
    }
    assert_int_equal(look(w, 4000), OAK_NOTHING);
    assert_string_equal(w->record.exit.reason, "StartFailed");
    assert_string_equal(w->record.exit.message, "the root lists it as failed: taken address");
    take_down(w);
}

static void a_lost_deploy_is_asked_again_and_then_given_up(void **state)
{
    struct world *w = *state;

    assert_int_equal(look(w, 0), OAK_CREATE);
    do_act(w, NULL);
    show(w, 0, NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(look(w, 100), i == 0 ? OAK_DEPLOY : OAK_NOTHING);
        if (i > 0)
            assert_int_equal(look(w, 20000), OAK_DEPLOY);
        do_act(w, NULL);
    }
    assert_int_equal(look(w, 21000), OAK_DELETE);
    assert_string_equal(w->record.exit.reason, "StartFailed");
    take_down(w);
}

static void of_two_instances_one_stays(void **state)
{
    struct world *w = *state;

    bring_up(w);
    show(w, 2, "RUNNING");
    assert_int_equal(look(w, 1000), OAK_UNDEPLOY);
    assert_int_equal(w->act.instance, 1);
    do_act(w, NULL);
    w->service.instance_count = 1;
    assert_int_equal(look(w, 1000), OAK_NOTHING);
    assert_null(w->record.exit.reason);
}

static void the_one_that_runs_is_the_one_that_stays(void **state)
{
    struct world *w = *state;

    assert_int_equal(look(w, 0), OAK_CREATE);
    do_act(w, NULL);
    show(w, 2, "REQUESTED");
    w->instances[1].status = OAK_RUNNING;
    assert_int_equal(look(w, 1000), OAK_UNDEPLOY);
    assert_int_equal(w->act.instance, 0);
}

static void a_refusal_is_of_the_job(void **state)
{
    struct world *w = *state;

    assert_int_equal(look(w, 0), OAK_CREATE);
    do_act(w, NULL);
    show(w, 0, NULL);
    assert_int_equal(look(w, 100), OAK_DEPLOY);
    do_act(w, NULL);
    w->service.status_text = "NoActiveClusterWithCapacity";
    w->service.status = oak_status_of(w->service.status_text);
    w->service.detail = "Waiting for scheduling decision";
    assert_int_equal(look(w, 100), OAK_DELETE);
    assert_string_equal(w->record.exit.reason, "StartFailed");
    assert_non_null(strstr(w->record.exit.message, "NoActiveClusterWithCapacity"));
    do_act(w, NULL);
    w->sight.service = NULL;
    assert_int_equal(look(w, 100), OAK_NOTHING);
    assert_true(w->record.gone);
}

/* Ends by the instance's state, and how they are told. */
static void ends_as_the_instance_did(void **state)
{
    static const struct {
        const char *status, *detail;
        bool ran; /* it was seen running before */
        const char *reason;
        bool has_code;
    } rows[] = {
        {"COMPLETED", "", true, "Completed", true},
        {"COMPLETED", "", false, "Completed", true},
        {"DEAD", "", true, "Completed", true},
        {"FAILED", "", true, "Error", false},
        {"FAILED", "", false, "Error", false},
        {"FAILED", "Container failed to start: no such file", false, "StartFailed", false},
        {"FAILED", "cannot pull image", false, "StartFailed", false},
        {"FAILED", "no suitable worker found", true, "Lost", false},
        {"FAILED", "no suitable worker found", false, "StartFailed", false},
        {"UNDEPLOYED", "", true, "Lost", false},
        {"NO_WORKER_CAPACITY", "", false, "StartFailed", false},
        {"NoQualifiedWorkerFound", "", false, "StartFailed", false},
        /* The cluster starts it again by itself: a loop without end. */
        {"REQUESTED", "", true, "Error", false},
        {"CLUSTER_SCHEDULED", "", true, "Error", false},
        {"NODE_SCHEDULED", "", true, "Error", false},
        {"CREATED", "", true, "Error", false},
    };

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct world *w;

        (void)teardown(state);
        (void)setup(state);
        w = *state;
        assert_int_equal(look(w, 0), OAK_CREATE);
        do_act(w, NULL);
        if (rows[i].ran) {
            show(w, 1, "RUNNING");
            assert_int_equal(look(w, 100), OAK_NOTHING);
        }
        show(w, 1, rows[i].status);
        w->instances[0].detail = rows[i].detail;
        assert_int_equal(look(w, 100), OAK_UNDEPLOY);
        assert_string_equal(w->record.exit.reason, rows[i].reason);
        assert_int_equal(w->record.exit.has_code, rows[i].has_code);
        assert_false(w->record.gone);
        do_act(w, NULL);
        take_down(w);
        assert_string_equal(w->record.exit.reason, rows[i].reason);
    }
}

static void each_waiting_state_has_its_deadline(void **state)
{
    static const struct {
        const char *status;
        int64_t patience_s;
    } rows[] = {{"REQUESTED", 60},  {"CLUSTER_SCHEDULED", 120}, {"NODE_SCHEDULED", 600},
                {"CREATING", 1800}, {"INSTANTIATION", 1800},    {"SOMETHING_NEW", 1800}};

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct world *w;

        (void)teardown(state);
        (void)setup(state);
        w = *state;
        assert_int_equal(look(w, 0), OAK_CREATE);
        do_act(w, NULL);
        show(w, 1, "UNSEEN");
        w->record.status = OAK_REQUESTED + (i == 0);
        show(w, 1, rows[i].status);
        assert_int_equal(look(w, 100), OAK_NOTHING);
        assert_int_equal(look(w, (rows[i].patience_s - 1) * 1000), OAK_NOTHING);
        assert_null(w->record.exit.reason);
        assert_int_equal(look(w, 1500), OAK_UNDEPLOY);
        assert_string_equal(w->record.exit.reason, "StartFailed");
        assert_non_null(strstr(w->record.exit.message, rows[i].status));
    }
}

static void an_outage_is_no_waiting(void **state)
{
    struct world *w = *state;

    assert_int_equal(look(w, 0), OAK_CREATE);
    do_act(w, NULL);
    show(w, 1, "CLUSTER_SCHEDULED");
    assert_int_equal(look(w, 1000), OAK_NOTHING);
    w->sight.now_us += 600 * SECOND;
    w->sight.silent_us = w->sight.now_us;
    assert_int_equal(look(w, 100), OAK_NOTHING);
    assert_null(w->record.exit.reason);
    assert_int_equal(look(w, 121000), OAK_UNDEPLOY);
}

static void another_cluster_is_not_accepted(void **state)
{
    struct world *w = *state;

    assert_int_equal(look(w, 0), OAK_CREATE);
    do_act(w, NULL);
    show(w, 1, "CLUSTER_SCHEDULED");
    w->instances[0].cluster_id = "c-b";
    assert_int_equal(look(w, 100), OAK_UNDEPLOY);
    assert_string_equal(w->record.exit.reason, "StartFailed");
    assert_non_null(strstr(w->record.exit.message, "another cluster than a"));
}

static void what_vanishes_is_believed_after_a_while(void **state)
{
    struct world *w = *state;

    bring_up(w);
    w->sight.service = NULL;
    assert_int_equal(look(w, 100), OAK_NOTHING);
    assert_int_equal(look(w, 100), OAK_NOTHING);
    assert_null(w->record.exit.reason);
    show(w, 1, "RUNNING"); /* it was only a list that had it not */
    assert_int_equal(look(w, 100), OAK_NOTHING);
    w->sight.service = NULL;
    assert_int_equal(look(w, 20000), OAK_NOTHING);
    assert_null(w->record.exit.reason);
    assert_int_equal(look(w, 10000), OAK_NOTHING);
    assert_string_equal(w->record.exit.reason, "Lost");
    assert_true(w->record.gone);
}

static void an_instance_that_vanishes_ends_the_run(void **state)
{
    struct world *w = *state;

    bring_up(w);
    show(w, 0, NULL);
    assert_int_equal(look(w, 100), OAK_NOTHING);
    assert_int_equal(look(w, 11000), OAK_DELETE);
    assert_string_equal(w->record.exit.reason, "Lost");
    assert_int_equal(w->record.deploys, 1);
}

static void is_called_back_before_anything_was_sent(void **state)
{
    struct world *w = *state;

    oak_call_back(&w->record, w->arena, "Suspended", w->sight.now_us);
    assert_int_equal(look(w, 100), OAK_NOTHING);
    assert_true(w->record.gone);
    assert_string_equal(w->record.exit.reason, "Suspended");
}

static void is_called_back_while_it_is_created(void **state)
{
    struct world *w = *state;

    assert_int_equal(look(w, 0), OAK_CREATE);
    do_act(w, "timeout");
    oak_call_back(&w->record, w->arena, "Stopped", w->sight.now_us);
    assert_int_equal(look(w, 100), OAK_NOTHING);
    assert_false(w->record.gone); /* it may still appear */
    show(w, 0, NULL);
    assert_int_equal(look(w, 100), OAK_DELETE);
    do_act(w, NULL);
    w->sight.service = NULL;
    assert_int_equal(look(w, 100), OAK_NOTHING);
    assert_true(w->record.gone);
}

static void the_first_reason_stays(void **state)
{
    struct world *w = *state;

    bring_up(w);
    oak_call_back(&w->record, w->arena, "Suspended", w->sight.now_us);
    oak_call_back(&w->record, w->arena, "Stopped", w->sight.now_us);
    take_down(w);
    assert_string_equal(w->record.exit.reason, "Suspended");
}

/* Instances first, one by one, then the service; a call without effect is repeated, ever seldomer.
 */
static void deletes_patiently(void **state)
{
    struct world *w = *state;
    int64_t calls = 0;

    bring_up(w);
    oak_call_back(&w->record, w->arena, "Stopped", w->sight.now_us);
    for (int i = 0; i < 600; i++) { /* ten minutes in which nothing is heard of it */
        if (look(w, 1000) != OAK_NOTHING) {
            assert_int_equal(w->act.type, calls < 4 ? OAK_UNDEPLOY : OAK_DELETE);
            do_act(w, calls % 2 ? "500: Job not deleted" : NULL);
            calls++;
        }
    }
    assert_true(calls >= 8 && calls <= 20);
    assert_false(w->record.gone);
    w->sight.service = NULL;
    assert_int_equal(look(w, 1000), OAK_NOTHING);
    assert_true(w->record.gone);
}

static void is_lost_where_its_sla_is(void **state)
{
    struct world *w = *state;

    w->sight.has_sla = false;
    assert_int_equal(look(w, 0), OAK_NOTHING);
    assert_true(w->record.gone);
    assert_string_equal(w->record.exit.reason, "Lost");
}

static void may_have_been_created_before_a_restart(void **state)
{
    struct world *w = *state;

    w->sight.has_sla = false;
    w->record.creates = 1;
    assert_int_equal(look(w, 0), OAK_NOTHING);
    assert_false(w->record.gone);
    show(w, 0, NULL);
    assert_int_equal(look(w, 100), OAK_DEPLOY);
}

static void a_clock_that_is_set_back_stops_nothing(void **state)
{
    struct world *w = *state;

    assert_int_equal(look(w, 0), OAK_CREATE);
    do_act(w, NULL);
    show(w, 0, NULL);
    assert_int_equal(look(w, -500000), OAK_DEPLOY);
    do_act(w, NULL);
    show(w, 1, "RUNNING");
    assert_int_equal(look(w, -300000), OAK_NOTHING);
    assert_true(oak_is_settled(&w->record));
    oak_call_back(&w->record, w->arena, "Stopped", w->sight.now_us);
    take_down(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(creates_deploys_and_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(an_old_list_says_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(what_may_still_appear_is_not_created_again_at_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(gives_up_what_cannot_be_created, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_deploy_is_asked_again_and_then_given_up, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(of_two_instances_one_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(the_one_that_runs_is_the_one_that_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refusal_is_of_the_job, setup, teardown),
        cmocka_unit_test_setup_teardown(ends_as_the_instance_did, setup, teardown),
        cmocka_unit_test_setup_teardown(each_waiting_state_has_its_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(an_outage_is_no_waiting, setup, teardown),
        cmocka_unit_test_setup_teardown(another_cluster_is_not_accepted, setup, teardown),
        cmocka_unit_test_setup_teardown(what_vanishes_is_believed_after_a_while, setup, teardown),
        cmocka_unit_test_setup_teardown(an_instance_that_vanishes_ends_the_run, setup, teardown),
        cmocka_unit_test_setup_teardown(is_called_back_before_anything_was_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(is_called_back_while_it_is_created, setup, teardown),
        cmocka_unit_test_setup_teardown(the_first_reason_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(deletes_patiently, setup, teardown),
        cmocka_unit_test_setup_teardown(is_lost_where_its_sla_is, setup, teardown),
        cmocka_unit_test_setup_teardown(may_have_been_created_before_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(a_clock_that_is_set_back_stops_nothing, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
