/* Tracking beside real objects: on a real API server in simulated time, step by step, with a
 * tracker in memory that fails when it is told to; and with its threads. */
#include "reconcilers/tracking/tracking.h"

#include "controller/runtime/manager.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/thread.h"
#include "reconcilers/tracking/plan.h"
#include "reconcilers/tracking/tracker_fake.h"
#include "reconcilers/workload/workload_testing.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define FLPROJECTS "/apis/flops.dev/v1alpha1/namespaces/default/flprojects"
#define FLROUNDS   "/apis/flops.dev/v1alpha1/namespaces/default/flrounds"
#define HISTORIES  "/apis/flops.dev/v1alpha1/namespaces/default/flhistories"
#define MANY       1000
#define PATIENCE   3000 /* of 10 ms */

struct bench {
    struct rig *rig;
    struct fl_fake_tracker *fake;
    struct fl_tracking *tracking;
    struct fl_env real;
    char folder[64];
    atomic_int changes;
    struct fl_tracking_state state;
};

static void changed(void *user, const char *ns, const char *project)
{
    assert_string_equal(ns, "default");
    assert_non_null(project);
    atomic_fetch_add(&((struct bench *)user)->changes, 1);
}

static void join(struct bench *bench, const struct fl_env *env)
{
    const struct fl_tracking_options options = {.env = env,
                                                .manager = bench->rig->manager,
                                                .client = bench->rig->client,
                                                .folder = bench->folder,
                                                .open = fl_tracker_fake_open,
                                                .open_user = bench->fake,
                                                .changed = changed,
                                                .user = bench};
    struct fl_error err = {0};

    if (fl_tracking_create(&options, &bench->tracking, &err) < 0)
        fail_msg("%s", err.msg);
}

static int setup(void **state)
{
    struct bench *bench = fl_calloc(1, sizeof(*bench));
    void *rig = NULL;

    (void)rig_setup(&rig);
    bench->rig = rig;
    bench->fake = fl_fake_tracker_create();
    bench->real = fl_env_real(fl_log_create(STDERR_FILENO, FL_LOG_ERROR, false));
    (void)snprintf(bench->folder, sizeof(bench->folder), "/tmp/flops-tracking-XXXXXX");
    assert_non_null(mkdtemp(bench->folder));
    join(bench, &bench->rig->plane->env);
    *state = bench;
    return 0;
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    void *rig = bench->rig;

    fl_tracking_destroy(bench->tracking);
    (void)rig_teardown(&rig);
    fl_fake_tracker_destroy(bench->fake);
    fl_log_destroy(bench->real.log);
    (void)fl_dir_remove(bench->folder, NULL);
    free(bench);
    return 0;
}

/* Objects. */

static void put_project(struct bench *bench, const char *name, const char *more)
{
    struct fl_arena *arena = bench->rig->arena;

    (void)rig_create(
        bench->rig, FLPROJECTS,
        fl_arena_printf(arena,
                        "{apiVersion: flops.dev/v1alpha1, kind: FLProject, metadata: {name: %s}, "
                        "spec: {source: {builtin: {trainer: MLP}}, training: {rounds: 3}, "
                        "tracking: {mlflow: {url: 'http://tracker/'%s}}}}",
                        name, more));
    (void)rig_settle(bench->rig);
}

static void put_round(struct bench *bench, const char *project, int number)
{
    struct fl_arena *arena = bench->rig->arena;
    const char *name = fl_arena_printf(arena, "%s-%d", project, number);

    (void)rig_create(bench->rig, FLROUNDS,
                     fl_arena_printf(arena,
                                     "{apiVersion: flops.dev/v1alpha1, kind: FLRound, metadata: "
                                     "{name: %s}, spec: {project: {name: %s}, index: %d}}",
                                     name, project, number));
    (void)rig_patch(
        bench->rig, fl_arena_printf(arena, FLROUNDS "/%s/status", name),
        fl_arena_printf(arena,
                        "{status: {index: %d, startTime: '2020-01-01T00:00:00Z', completionTime: "
                        "'2020-01-01T00:01:00Z', metrics: {evaluation: {accuracy: '0.5'}}, "
                        "conditions: [{type: Succeeded, status: 'True', reason: Committed, "
                        "message: m, lastTransitionTime: '2020-01-01T00:00:00Z'}]}}",
                        number));
    (void)rig_settle(bench->rig);
}

/* Steps. */

static const struct fl_object_meta *meta_of(struct bench *bench, const char *name)
{
    const char *path = fl_arena_printf(bench->rig->arena, FLPROJECTS "/%s", name);
    struct fl_project *project = NULL;
    struct fl_error err = {0};

    if (fl_project_decode(rig_get(bench->rig, path), bench->rig->arena, &project, &err) < 0)
        fail_msg("%s", err.msg);
    return &project->meta;
}

static void wake(struct bench *bench, const char *name)
{
    fl_tracking_wake(bench->tracking, meta_of(bench, name), true);
}

/* All that is due within so long. */
static int run_for(struct bench *bench, int64_t ms)
{
    const struct fl_env *env = &bench->rig->plane->env;
    const int64_t end = fl_monotonic_ms(env) + ms;
    int passes = 0;

    for (int i = 0; i < MANY; i++) {
        int64_t due = fl_tracking_next_due_ms(bench->tracking), now = fl_monotonic_ms(env);

        if (due > end)
            break;
        if (due > now)
            assert_true(fl_plane_advance(bench->rig->plane, due - now));
        passes += fl_tracking_step(bench->tracking);
    }
    if (end > fl_monotonic_ms(env))
        assert_true(fl_plane_advance(bench->rig->plane, end - fl_monotonic_ms(env)));
    return passes;
}

static const char *reason(struct bench *bench, const char *name)
{
    fl_tracking_state(bench->tracking, "default", name, meta_of(bench, name)->uid,
                      bench->rig->arena, &bench->state);
    return bench->state.reason;
}

static size_t points(struct bench *bench, const char *project, int64_t step)
{
    return fl_fake_tracker_points(fl_fake_tracker_run(bench->fake, project), FL_TRACK_ROUND, step);
}

/* Tests. */

static void test_recorded(void **state)
{
    struct bench *bench = *state;

    put_project(bench, "p", "");
    assert_string_equal(reason(bench, "p"), "Pending");
    wake(bench, "p");
    assert_int_equal(run_for(bench, 1000), 1);
    assert_string_equal(reason(bench, "p"), "Recorded"); /* a wrong address is told before work */
    assert_null(bench->state.run_id);
    put_round(bench, "p", 1);
    wake(bench, "p");
    wake(bench, "p");
    assert_int_equal(run_for(bench, 1000), 1); /* one pass for both */
    assert_int_equal(points(bench, "p", 1), 1);
    assert_string_equal(reason(bench, "p"), "Recorded");
    assert_true(bench->state.holds);
    assert_string_equal(bench->state.run_id, "run-1");
    assert_int_equal(atomic_load(&bench->changes), 2);
    wake(bench, "p");
    assert_int_equal(run_for(bench, 1000), 1);
    assert_int_equal(atomic_load(&bench->changes), 2); /* no news, nobody is woken */
    assert_int_equal(run_for(bench, 3600000), 0);      /* and nothing polls */
}

static void test_gone_and_back(void **state)
{
    struct bench *bench = *state;
    int64_t calls;
    int passes;

    put_project(bench, "p", "");
    put_round(bench, "p", 1);
    wake(bench, "p");
    (void)run_for(bench, 1000);
    fl_fake_tracker_fail(bench->fake, 1, FL_E_UNAVAILABLE, false, true);
    put_round(bench, "p", 2);
    wake(bench, "p");
    passes = run_for(bench, 600000);
    assert_in_range(passes, 10, 20); /* with back-off, of a minute at last */
    assert_string_equal(reason(bench, "p"), "Unreachable");
    assert_false(bench->state.holds);
    assert_string_equal(bench->state.run_id, "run-1"); /* it is known still */
    assert_int_equal(bench->state.pending, 1);
    calls = fl_fake_tracker_calls(bench->fake);
    put_round(bench, "p", 3);
    wake(bench, "p");
    (void)run_for(bench, 500);
    assert_int_equal(fl_fake_tracker_calls(bench->fake), calls); /* that does not hurry it */
    assert_string_equal(reason(bench, "p"), "Unreachable");
    assert_int_equal(bench->state.pending, 2); /* but is told */
    fl_fake_tracker_fail(bench->fake, 0, 0, false, false);
    (void)run_for(bench, 120000);
    assert_string_equal(reason(bench, "p"), "Recorded");
    assert_int_equal(bench->state.pending, 0);
    assert_int_equal(points(bench, "p", 1), 1);
    for (int64_t i = 1; i <= 3; i++)
        assert_int_equal(points(bench, "p", i), 1);
}

/* What FLRounds told that are gone is delivered from the history. */
static void test_history(void **state)
{
    struct bench *bench = *state;

    put_project(bench, "p", "");
    (void)rig_create(bench->rig, HISTORIES,
                     "{apiVersion: flops.dev/v1alpha1, kind: FLHistory, metadata: {name: h}, spec: "
                     "{project: {name: p}, first: 1, rounds: [{round: 1, name: p-1, status: "
                     "{index: 1, startTime: '2020-01-01T00:00:00Z'}}, {round: 2, name: p-2, "
                     "status: {index: 2}}]}}");
    put_round(bench, "p", 3);
    wake(bench, "p");
    (void)run_for(bench, 1000);
    for (int64_t i = 1; i <= 3; i++)
        assert_int_equal(points(bench, "p", i), 1);
}

static void test_credentials(void **state)
{
    struct bench *bench = *state;

    put_project(bench, "p", ", credentialsSecret: {name: s}");
    put_round(bench, "p", 1);
    wake(bench, "p");
    (void)run_for(bench, 1000);
    assert_string_equal(reason(bench, "p"), "CredentialsMissing");
    assert_int_equal(fl_fake_tracker_calls(bench->fake), 0);
    (void)rig_create(bench->rig, SECRETS,
                     "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {token: t}}");
    (void)rig_settle(bench->rig);
    (void)run_for(bench, 30000);
    assert_string_equal(reason(bench, "p"), "Recorded");
    assert_int_equal(points(bench, "p", 1), 1);
}

static void test_refused(void **state)
{
    struct bench *bench = *state;

    put_project(bench, "p", "");
    put_round(bench, "p", 1);
    fl_fake_tracker_fail(bench->fake, 1, FL_E_FORBIDDEN, false, true);
    wake(bench, "p");
    (void)run_for(bench, 1000);
    assert_string_equal(reason(bench, "p"), "Unauthorized");
    /* What the user changes is tried at once. */
    fl_fake_tracker_fail(bench->fake, 0, 0, false, false);
    (void)rig_patch(bench->rig, FLPROJECTS "/p",
                    "{spec: {tracking: {mlflow: {url: 'http://other'}}}}");
    (void)rig_settle(bench->rig);
    wake(bench, "p");
    (void)run_for(bench, 200);
    assert_string_equal(reason(bench, "p"), "Recorded");
}

/* A restart remembers nothing, and doubles nothing. */
static void test_restart(void **state)
{
    struct bench *bench = *state;

    put_project(bench, "p", "");
    put_round(bench, "p", 1);
    wake(bench, "p");
    (void)run_for(bench, 1000);
    fl_tracking_destroy(FL_TAKE(bench->tracking));
    join(bench, &bench->rig->plane->env);
    put_round(bench, "p", 2);
    wake(bench, "p");
    (void)run_for(bench, 1000);
    assert_int_equal(json_array_size(json_object_get(fl_fake_tracker_state(bench->fake), "runs")),
                     1);
    assert_int_equal(points(bench, "p", 1), 1);
    assert_int_equal(points(bench, "p", 2), 1);
}

static void test_no_longer_wanted(void **state)
{
    struct bench *bench = *state;

    put_project(bench, "p", "");
    wake(bench, "p");
    (void)run_for(bench, 1000);
    (void)rig_patch(bench->rig, FLPROJECTS "/p", "{spec: {tracking: null}}");
    (void)rig_settle(bench->rig);
    fl_tracking_wake(bench->tracking, meta_of(bench, "p"), false);
    assert_int_equal(run_for(bench, 1000), 1);
    fl_tracking_wake(bench->tracking, meta_of(bench, "p"), false);
    assert_int_equal(run_for(bench, 1000), 0); /* it is forgotten */
}

/* The real thing: workers that wait; and their end. */
static void test_threads(void **state)
{
    struct bench *bench = *state;
    struct fl_error err = {0};

    fl_tracking_destroy(FL_TAKE(bench->tracking));
    join(bench, &bench->real);
    put_project(bench, "p", "");
    put_round(bench, "p", 1);
    assert_int_equal(fl_tracking_start(bench->tracking, &err), 0);
    wake(bench, "p");
    for (int i = 0; i < PATIENCE && strcmp(reason(bench, "p"), "Recorded") != 0; i++)
        (void)usleep(10000);
    assert_string_equal(reason(bench, "p"), "Recorded");
    fl_tracking_stop(bench->tracking);
    assert_int_equal(points(bench, "p", 1), 1);
    wake(bench, "p"); /* after its end: nothing */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_recorded),         TEST(test_gone_and_back), TEST(test_history),
        TEST(test_credentials),      TEST(test_refused),       TEST(test_restart),
        TEST(test_no_longer_wanted), TEST(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
