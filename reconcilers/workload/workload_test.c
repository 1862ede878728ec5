/* The Workload kind on a real API server, with the fake orchestrator. */
#include "reconcilers/workload/workload_testing.h"

#define W WORKLOADS "/w"

static const char *text_at(struct rig *rig, const char *path)
{
    return fl_str_or(fl_json_str(rig_get(rig, W), path), "");
}

static const json_t *instance(struct rig *rig, size_t i)
{
    return json_array_get(fl_json_path(rig_get(rig, W), "status.instances"), i);
}

static void runs(void **state)
{
    struct rig *rig = *state;

    (void)rig_workload(rig, "instances: 3, ports: [{name: http}]");
    (void)rig_settle(rig);
    assert_ready(rig, W, "False Starting");
    assert_int_equal(rig_living(rig), 3);
    rig_run_for(rig, 1000);
    assert_ready(rig, W, "True Running");
    assert_string_equal(rig_condition(rig, W, "Scheduled"), "True Placed");
    assert_string_equal(rig_condition(rig, W, "Available"), "True Running");
    assert_string_equal(rig_condition(rig, W, "Complete"), "");
    assert_string_equal(rig_condition(rig, W, "Reconciling"), "");
    assert_string_equal(text_at(rig, "status.replicas.summary"), "3/3");
    assert_string_equal(fl_json_str(instance(rig, 1), "state"), "Running");
    assert_string_equal(fl_json_str(instance(rig, 1), "node"), "a");
    assert_int_equal(json_array_size(fl_json_path(rig_get(rig, W), "status.addresses")), 3);
}

/* When all is well a pass asks the server nothing, and nothing wakes one. */
static void rests(void **state)
{
    struct rig *rig = *state;

    (void)rig_workload(rig, "instances: 2");
    rig_run_for(rig, 60000);
    rig->calls = 0;
    fl_manager_enqueue(rig->manager, "workload", "default", "w");
    assert_int_equal(rig_settle(rig), 1);
    rig_run_for(rig, 300000);
    assert_int_equal(rig->calls, 0);
    assert_ready(rig, W, "True Running");
}

static void scales(void **state)
{
    struct rig *rig = *state;

    (void)rig_workload(rig, "instances: 1");
    rig_run_for(rig, 1000);
    (void)rig_patch_spec(rig, "instances: 5");
    rig_run_for(rig, 1000);
    assert_string_equal(text_at(rig, "status.replicas.summary"), "5/5");
    (void)rig_patch_spec(rig, "instances: 2");
    rig_run_for(rig, 60000);
    assert_string_equal(text_at(rig, "status.replicas.summary"), "2/2");
    assert_int_equal(rig_left(rig), 2);
}

static void leaves_nothing_when_deleted(void **state)
{
    struct rig *rig = *state;

    rig->plan.stop_ms = 500;
    (void)rig_workload(rig, "instances: 2");
    rig_run_for(rig, 1000);
    rig_delete(rig, W);
    (void)rig_settle(rig);
    assert_ready(rig, W, "False Deleting");
    assert_int_equal(rig_living(rig), 2);
    rig_run_for(rig, 1000);
    assert_true(rig_is_gone(rig, W));
    assert_int_equal(rig_left(rig), 0);
}

static void kills_what_does_not_stop(void **state)
{
    struct rig *rig = *state;

    rig->plan.stop_ms = -1;
    (void)rig_workload(rig, "gracePeriod: 7s");
    rig_run_for(rig, 1000);
    rig_delete(rig, W);
    rig_run_for(rig, 6500);
    assert_int_equal(rig_living(rig), 1);
    rig_run_for(rig, 1000);
    assert_true(rig_is_gone(rig, W));
}

static void suspends_and_resumes(void **state)
{
    struct rig *rig = *state;

    rig->plan.stop_ms = 500;
    (void)rig_workload(rig, "instances: 2");
    rig_run_for(rig, 1000);
    (void)rig_patch_spec(rig, "suspend: true");
    (void)rig_settle(rig);
    assert_string_equal(rig_condition(rig, W, "Reconciling"), "True Suspending");
    rig_run_for(rig, 5000);
    assert_ready(rig, W, "False Suspended");
    assert_string_equal(rig_condition(rig, W, "Reconciling"), "");
    assert_int_equal(rig_living(rig), 0);
    assert_int_equal(rig_left(rig), 2);
    (void)rig_patch_spec(rig, "suspend: false");
    rig_run_for(rig, 1000);
    assert_ready(rig, W, "True Running");
}

static void restarts_with_growing_delays(void **state)
{
    struct rig *rig = *state;

    rig->plan.run_ms = 300;
    rig->plan.exit =
        (struct fl_run_exit){.has_code = true, .code = 3, .reason = "Error", .log_tail = "oh\n"};
    (void)rig_workload(rig, "restart: {limit: 4}");
    rig_run_for(rig, 500);
    assert_ready(rig, W, "False Restarting");
    assert_string_equal(fl_json_str(instance(rig, 0), "state"), "Waiting");
    assert_int_equal(fl_json_int(instance(rig, 0), "lastExit.code", -1), 3);
    assert_string_equal(fl_json_str(instance(rig, 0), "lastExit.logTail"), "oh\n");
    rig_run_for(rig, 60000);
    assert_int_equal(rig->starts, 5);
    assert_ready(rig, W, "False OutOfRestarts");
    assert_string_equal(rig_condition(rig, W, "Stalled"), "True OutOfRestarts");
    assert_string_equal(fl_json_str(instance(rig, 0), "state"), "Failed");

    rig->plan.run_ms = -1; /* a new spec is a new chance */
    (void)rig_patch_spec(rig, "args: [better]");
    rig_run_for(rig, 1000);
    assert_ready(rig, W, "True Running");
}

/* The status is written, however much a driver has to say. */
static void bounds_what_a_driver_says(void **state)
{
    struct rig *rig = *state;
    char *text = fl_alloc(rig->arena, 8001);

    memset(text, 'x', 8000);
    rig->plan.exit = (struct fl_run_exit){.reason = "StartFailed", .message = text};
    (void)rig_workload(rig, "");
    rig_run_for(rig, 500);
    assert_ready(rig, W, "False Restarting");
    rig->plan = (struct fl_fake_plan){
        .start_ms = 1, .run_ms = 1, .exit = {.signal = text, .reason = "Error", .log_tail = text}};
    rig_run_for(rig, 1500);
    assert_int_equal(strlen(fl_json_str(instance(rig, 0), "lastExit.logTail")), 2048);
}

static void completes(void **state)
{
    struct rig *rig = *state;

    rig->plan.run_ms = 300;
    rig->plan.exit = (struct fl_run_exit){.has_code = true, .reason = "Completed"};
    (void)rig_workload(rig, "restartPolicy: OnFailure, instances: 2");
    rig_run_for(rig, 350);
    assert_string_equal(rig_condition(rig, W, "Complete"), "False Running");
    rig_run_for(rig, 60000);
    assert_ready(rig, W, "True Completed");
    assert_string_equal(rig_condition(rig, W, "Complete"), "True Completed");
    assert_string_equal(rig_condition(rig, W, "Available"), "False Completed");
    assert_int_equal(rig->starts, 2);
}

static void replaces_one_after_the_other(void **state)
{
    struct rig *rig = *state;

    (void)rig_workload(rig, "instances: 3");
    rig_run_for(rig, 1000);
    (void)rig_patch_spec(rig, "args: [new]");
    for (int i = 0; i < 40; i++) { /* never less than two */
        rig_run_for(rig, 50);
        assert_true(fl_json_int(rig_get(rig, W), "status.replicas.ready", 0) >= 2);
    }
    assert_ready(rig, W, "True Running");
    assert_int_equal(rig->starts, 6);
}

static void enforces_the_start_deadline(void **state)
{
    struct rig *rig = *state;

    rig->plan.ready_ms = -1;
    (void)rig_workload(rig, "startDeadline: 10s, restart: {limit: 0}");
    rig_run_for(rig, 9000);
    assert_ready(rig, W, "False Starting");
    rig_run_for(rig, 2000);
    assert_ready(rig, W, "False OutOfRestarts");
    assert_string_equal(fl_json_str(instance(rig, 0), "lastExit.reason"), "DeadlineExceeded");
    assert_int_equal(rig_living(rig), 0);
}

static void hands_secrets_over(void **state)
{
    struct rig *rig = *state;

    (void)rig_workload(rig, "env: [{name: A, value: plain}, {name: B, valueFrom: {secretKeyRef: "
                            "{name: s, key: k}}}, {name: C, valueFrom: {secretKeyRef: {name: s, "
                            "key: none, optional: true}}}], files: [{path: f, mode: '0600', "
                            "secretKeyRef: {name: s, key: k}}]");
    (void)rig_settle(rig);
    assert_ready(rig, W, "False SecretNotFound");
    assert_int_equal(rig->starts, 0);
    (void)rig_create(rig, SECRETS,
                     "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {x: ''}}");
    (void)rig_settle(rig);
    assert_ready(rig, W, "False SecretNotFound");
    (void)rig_patch(rig, SECRETS "/s", "{data: {k: aHVzaA==}}"); /* wakes it */
    rig_run_for(rig, 1000);
    assert_ready(rig, W, "True Running");
    assert_int_equal(rig->seen_env_count, 2);
    assert_string_equal(rig->seen_env[0].value, "plain");
    assert_string_equal(rig->seen_env[1].value, "hush");
    assert_memory_equal(rig->seen_file.data, "hush", 4);
    assert_int_equal(rig->seen_file.mode, 0600);
    assert_null(strstr(fl_json_to_string(rig->arena, rig_get(rig, W)), "hush"));
}

/* A missing Secret holds up what would need it, and nothing else. */
static void goes_on_without_secret(void **state)
{
    struct rig *rig = *state;

    (void)rig_workload(rig, "instances: 3");
    rig_run_for(rig, 1000);
    (void)rig_patch_spec(rig, "instances: 1, env: [{name: B, valueFrom: {secretKeyRef: {name: s, "
                              "key: k}}}]");
    rig_run_for(rig, 60000);
    assert_ready(rig, W, "False SecretNotFound");
    assert_int_equal(rig_living(rig), 0); /* the old one made way */
    assert_int_equal(rig_left(rig), 1);
}

static void waits_for_room(void **state)
{
    struct rig *rig = *state;

    (void)rig_workload(rig, "instances: 3, resources: {cpu: 2}");
    rig_run_for(rig, 1000);
    assert_ready(rig, W, "False NoPlace");
    assert_string_equal(rig_condition(rig, W, "Scheduled"), "False NoPlace");
    assert_string_equal(text_at(rig, "status.replicas.summary"), "2/3");
    rig_put_node(rig, "c", "b");
    rig_run_for(rig, 1000); /* told, not polled */
    assert_ready(rig, W, "True Running");
}

static void leaves_room_of_others_alone(void **state)
{
    struct rig *rig = *state;

    (void)rig_workload(rig, "resources: {cpu: 3}");
    rig_run_for(rig, 1000);
    (void)rig_create(rig, WORKLOADS,
                     "{apiVersion: flops.dev/v1alpha1, kind: Workload, metadata: {name: v}, spec: "
                     "{process: {program: x}, resources: {cpu: 2}}}");
    rig_run_for(rig, 1000);
    assert_ready(rig, W, "True Running");
    assert_ready(rig, WORKLOADS "/v", "False NoPlace");
    rig_delete(rig, W);
    rig_run_for(rig, 4000); /* told, not polled */
    assert_ready(rig, WORKLOADS "/v", "True Running");
}

static void moves_from_a_node_that_goes(void **state)
{
    struct rig *rig = *state;

    rig_put_node(rig, "c", "b");
    (void)rig_workload(rig, "instances: 2");
    rig_run_for(rig, 1000);
    fl_fake_world_set_ready(rig->world, "a", false);
    rig_run_for(rig, 590000);
    assert_ready(rig, W, "True Running");
    assert_string_equal(fl_json_str(instance(rig, 0), "node"), "a");
    rig_run_for(rig, 20000);
    assert_ready(rig, W, "True Running");
    assert_string_equal(fl_json_str(instance(rig, 0), "node"), "b");
}

static void respects_unschedulable(void **state)
{
    struct rig *rig = *state;

    rig_run_for(rig, 1000);
    (void)rig_patch(rig, EDGENODES "/a", "{spec: {unschedulable: true}}");
    (void)rig_workload(rig, "");
    rig_run_for(rig, 1000);
    assert_ready(rig, W, "False NoPlace");
    (void)rig_patch(rig, EDGENODES "/a", "{spec: {unschedulable: false}}");
    rig_run_for(rig, 1000);
    assert_ready(rig, W, "True Running");
    (void)rig_patch(rig, EDGENODES "/a", "{spec: {unschedulable: true}}");
    rig_run_for(rig, 1000);
    assert_ready(rig, W, "True Running"); /* what runs goes on */
}

static void needs_its_orchestrator(void **state)
{
    struct rig *rig = *state;

    (void)rig_workload(rig, "orchestrator: other");
    (void)rig_settle(rig);
    assert_ready(rig, W, "False OrchestratorNotReady");
    (void)rig_create(rig, ORCHESTRATORS,
                     "{apiVersion: flops.dev/v1alpha1, kind: Orchestrator, metadata: {name: "
                     "other}, spec: {type: Oakestra, endpoint: 'http://x', credentialsSecret: "
                     "{name: s, namespace: default}}}");
    rig_run_for(rig, 1000);
    assert_ready(rig, W, "False OrchestratorNotReady");
    rig_delete(rig, ORCHESTRATORS "/other");
    rig_delete(rig, W); /* nothing ever ran there */
    rig_run_for(rig, 1000);
    assert_true(rig_is_gone(rig, W));
}

static void survives_a_restart(void **state)
{
    struct rig *rig = *state;
    const char *before;

    (void)rig_workload(rig, "instances: 2");
    rig_run_for(rig, 1000);
    before = text_at(rig, "metadata.resourceVersion");
    rig_restart(rig);
    rig_run_for(rig, 60000);
    assert_ready(rig, W, "True Running");
    assert_int_equal(rig->starts, 2);
    assert_string_equal(text_at(rig, "metadata.resourceVersion"), before); /* not even a flicker */
}

static void tells_when_it_cannot_ask(void **state)
{
    struct rig *rig = *state;

    (void)rig_workload(rig, "");
    rig_run_for(rig, 1000);
    fl_fake_world_set_reachable(rig->world, false);
    rig_run_for(rig, 5000);
    assert_ready(rig, W, "False OrchestratorNotReady");
    assert_ready(rig, ORCHESTRATORS "/local", "False Unreachable");
    fl_fake_world_set_reachable(rig->world, true);
    rig_run_for(rig, 5000);
    assert_ready(rig, W, "True Running");
    assert_ready(rig, ORCHESTRATORS "/local", "True Reachable");
    assert_int_equal(rig->starts, 1);
}

/* Faults of the driver: each once, before and after each kind of call. */

struct fault {
    enum fl_fake_op op;
    bool after;
    enum fl_fake_fault fault;
    int left;
};

static enum fl_fake_fault fail_once(void *user, enum fl_fake_op op, bool after)
{
    struct fault *fault = user;

    if (fault->left == 0 || fault->op != op || fault->after != after)
        return FL_FAKE_GOOD;
    fault->left--;
    return fault->fault;
}

static void check_fault(struct rig *rig, struct fault fault)
{
    fl_fake_world_on_fault(rig->world, fail_once, &fault);
    (void)rig_workload(rig, "instances: 2");
    rig_run_for(rig, 20000);
    assert_ready(rig, W, "True Running");
    assert_int_equal(rig_living(rig), 2);
    assert_int_equal(fl_fake_world_count(rig->world, NULL).starts % 2, 0);
    rig_delete(rig, W);
    rig_run_for(rig, 60000);
    assert_true(rig_is_gone(rig, W));
    assert_int_equal(rig_left(rig), 0);
    assert_int_equal(fault.left, 0);
    fl_fake_world_on_fault(rig->world, NULL, NULL);
}

static void survives_faults_of_the_driver(void **state)
{
    static const enum fl_fake_op ops[] = {FL_FAKE_NODES, FL_FAKE_OBSERVE, FL_FAKE_START,
                                          FL_FAKE_STOP, FL_FAKE_REMOVE};
    struct rig *rig = *state;

    rig_run_for(rig, 1000);
    for (size_t i = 0; i < FL_COUNT_OF(ops); i++) {
        for (int left = 1; left < 3; left++) {
            check_fault(rig, (struct fault){ops[i], false, FL_FAKE_ERROR, left});
            check_fault(rig, (struct fault){ops[i], true, FL_FAKE_ERROR, left});
        }
        check_fault(rig, (struct fault){ops[i], false, FL_FAKE_FORGET, 1});
        check_fault(rig, (struct fault){ops[i], false, FL_FAKE_FORGET, 9}); /* over many passes */
    }
}

/* The control plane ends in the middle of a call, before or after it took effect, and begins anew:
 * each once while a Workload comes, changes and goes. */

static void check_crash(struct rig *rig, enum fl_fake_op op, bool after, int nth)
{
    struct fault fault = {op, after, FL_FAKE_CRASH, 1};
    const char *edits[] = {"instances: 3", "instances: 2, args: [new]"};

    (void)rig_workload(rig, "instances: 2");
    rig_run_for(rig, 1000 + nth * 50);
    for (size_t i = 0; i < FL_COUNT_OF(edits); i++) {
        fault.left = 1;
        fl_fake_world_on_fault(rig->world, fail_once, &fault);
        (void)rig_patch_spec(rig, edits[i]);
        rig_run_for(rig, 100 + nth * 50);
        fl_fake_world_on_fault(rig->world, NULL, NULL);
        rig_restart(rig);
        rig_run_for(rig, 60000);
        assert_ready(rig, W, "True Running");
        assert_int_equal(rig_left(rig), fl_json_int(rig_get(rig, W), "spec.instances", 0));
    }
    fault.left = 1;
    fl_fake_world_on_fault(rig->world, fail_once, &fault);
    rig_delete(rig, W);
    rig_run_for(rig, 100 + nth * 50);
    fl_fake_world_on_fault(rig->world, NULL, NULL);
    rig_restart(rig);
    rig_run_for(rig, 60000);
    assert_true(rig_is_gone(rig, W));
    assert_int_equal(rig_left(rig), 0);
}

static void survives_crashes(void **state)
{
    static const enum fl_fake_op ops[] = {FL_FAKE_NODES,    FL_FAKE_OBSERVE, FL_FAKE_START,
                                          FL_FAKE_STOP,     FL_FAKE_REMOVE,  FL_FAKE_CONFIGURE,
                                          FL_FAKE_WORKLOADS};

    for (size_t i = 0; i < FL_COUNT_OF(ops); i++)
        for (int nth = 0; nth < 3; nth++) {
            check_crash(*state, ops[i], false, nth);
            check_crash(*state, ops[i], true, nth);
        }
}

/* The same for the API: each call of a life fails once, before or after it was done. */

struct api_fault {
    struct rig *rig;
    int at, seen; /* which moment; how many there were */
};

static int fail_at(void *user, const struct fl_client_moment *moment)
{
    struct api_fault *fault = user;

    if (moment->use != FL_CLIENT_CALL) /* what becomes of watches is the cache's test */
        return 0;
    return ++fault->seen == fault->at ? FL_E_UNAVAILABLE : 0;
}

static int live_once(struct rig *rig, int at)
{
    struct api_fault fault = {rig, at, 0};

    rig->faults.moment = fail_at;
    rig->faults.user = &fault;
    (void)rig_workload(rig, "instances: 2");
    rig_run_for(rig, 5000);
    (void)rig_patch_spec(rig, "instances: 1, args: [new]");
    rig_run_for(rig, 60000);
    assert_ready(rig, W, "True Running");
    assert_int_equal(rig_left(rig), 1);
    rig_delete(rig, W);
    rig_run_for(rig, 60000);
    assert_true(rig_is_gone(rig, W));
    assert_int_equal(rig_left(rig), 0);
    rig->faults.moment = NULL;
    return fault.seen;
}

static void survives_faults_of_the_api(void **state)
{
    int moments = live_once(*state, 0);

    assert_true(moments > 10);
    for (int at = 1; at <= moments; at++)
        (void)live_once(*state, at);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    static const struct CMUnitTest tests[] = {
        TEST(runs),
        TEST(rests),
        TEST(scales),
        TEST(leaves_nothing_when_deleted),
        TEST(kills_what_does_not_stop),
        TEST(suspends_and_resumes),
        TEST(restarts_with_growing_delays),
        TEST(bounds_what_a_driver_says),
        TEST(completes),
        TEST(replaces_one_after_the_other),
        TEST(enforces_the_start_deadline),
        TEST(hands_secrets_over),
        TEST(goes_on_without_secret),
        TEST(waits_for_room),
        TEST(leaves_room_of_others_alone),
        TEST(moves_from_a_node_that_goes),
        TEST(respects_unschedulable),
        TEST(needs_its_orchestrator),
        TEST(survives_a_restart),
        TEST(tells_when_it_cannot_ask),
        TEST(survives_faults_of_the_driver),
        TEST(survives_crashes),
        TEST(survives_faults_of_the_api),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
