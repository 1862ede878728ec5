/* The local client in threads, where something is slow or ends: a store that holds its commits, a
 * loop that is busy, a server that hangs up. */
#include "controller/client/client_testing.h"
#include "controller/store/store_faulty.h"

#include "lib/str.h"

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#define PATIENCE_MS 20000

#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        int tries_ = PATIENCE_MS;                                                                  \
        while (!(condition) && --tries_ > 0)                                                       \
            (void)usleep(1000);                                                                    \
        if (tries_ <= 0)                                                                           \
            fail_msg("never: %s", #condition);                                                     \
    } while (0)

static int setup(void **state)
{
    struct fl_plane_options options = {.driver = "faulty-memory"};
    struct fl_error err = {0};
    struct fl_plane *plane = NULL;

    fl_store_faults = (struct fl_store_faults){0};
    if (fl_plane_create(&options, &plane, &err) < 0)
        fail_msg("%s", err.msg);
    *state = plane;
    return 0;
}

static int teardown(void **state)
{
    atomic_store(&fl_store_faults.hold_commits, false);
    fl_plane_destroy(*state);
    return 0;
}

static int create_within(struct fl_plane *plane, const char *name, int64_t timeout_ms,
                         struct fl_error *err)
{
    FL_CLEANUP(fl_freep)
    char *body = fl_asprintf("{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":"
                             "{\"name\":\"%s\"}}",
                             name);
    struct fl_api_call call = {.method = "POST",
                               .target = "/api/v1/namespaces/default/configmaps",
                               .content_type = "application/json",
                               .body = body,
                               .body_len = strlen(body),
                               .timeout_ms = timeout_ms};

    return fl_apiclient_call(plane->client, &call, NULL, err);
}

static int look(struct fl_plane *plane, const char *name)
{
    return fl_apiclient_get(plane->client, &fl_gvr_configmaps, "default", name, NULL, NULL);
}

static int64_t left(void *user)
{
    return *(int64_t *)user;
}

/* Nobody waits beyond the fence, and nothing begins when nothing is left. */
static void test_a_fence(void **state)
{
    struct fl_plane *plane = *state;
    int64_t left_ms = 50;
    FL_CLEANUP(fl_apiclient_destroyp)
    struct fl_apiclient *fenced = fl_apiclient_fenced(plane->client, left, &left_ms);
    FL_CLEANUP(fl_apiclient_destroyp)
    struct fl_apiclient *alice =
        fl_apiclient_as(fenced, &(struct fl_api_user){.name = "alice", .group_count = 0});
    FL_JSON object = json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "ConfigMap",
                               "metadata", "name", "slow");
    struct fl_error err = {0};

    atomic_store(&fl_store_faults.hold_commits, true);
    assert_int_equal(
        fl_apiclient_create_object(fenced, &fl_gvr_configmaps, "default", object, NULL, &err),
        FL_E_TIMEOUT);
    assert_non_null(strstr(err.msg, "within 50 ms"));
    atomic_store(&fl_store_faults.hold_commits, false);
    left_ms = 0;
    assert_int_equal(fl_apiclient_get(fenced, &fl_gvr_configmaps, "default", "slow", NULL, &err),
                     FL_E_CONFLICT);
    assert_int_equal(fl_apiclient_get(alice, &fl_gvr_configmaps, "default", "slow", NULL, &err),
                     FL_E_CONFLICT);
    WAIT_FOR(look(plane, "slow") == 0);
}

/* TIMEOUT leaves open whether a write took place: this one did, later. */
static void test_a_write_may_outlive_its_caller(void **state)
{
    struct fl_plane *plane = *state;
    struct fl_error err = {0};

    atomic_store(&fl_store_faults.hold_commits, true);
    assert_int_equal(create_within(plane, "slow", 50, &err), FL_E_TIMEOUT);
    assert_non_null(strstr(err.msg, "no answer to POST"));
    assert_int_equal(look(plane, "slow"), FL_E_NOT_FOUND);
    atomic_store(&fl_store_faults.hold_commits, false);
    WAIT_FOR(look(plane, "slow") == 0);
    assert_int_equal(create_within(plane, "next", 0, &err), 0);
}

struct obstacle {
    sem_t begun, over;
};

static void stand_in_the_way(void *user)
{
    struct obstacle *obstacle = user;

    (void)sem_post(&obstacle->begun);
    (void)sem_wait(&obstacle->over);
}

/* Nobody waits for it any more, so it is better not begun. */
static void test_what_has_not_begun_in_time_is_not_begun(void **state)
{
    struct fl_plane *plane = *state;
    struct obstacle obstacle;
    struct fl_error err = {0};

    (void)sem_init(&obstacle.begun, 0, 0);
    (void)sem_init(&obstacle.over, 0, 0);
    fl_loop_post(plane->loop, stand_in_the_way, &obstacle);
    (void)sem_wait(&obstacle.begun);
    assert_int_equal(create_within(plane, "late", 30, &err), FL_E_TIMEOUT);
    (void)sem_post(&obstacle.over);
    assert_int_equal(create_within(plane, "next", 0, &err), 0);
    assert_int_equal(look(plane, "late"), FL_E_NOT_FOUND);
    (void)sem_destroy(&obstacle.begun);
    (void)sem_destroy(&obstacle.over);
}

struct caller {
    struct fl_plane *plane;
    struct fl_thread *thread;
    char name[16];
    int r;
};

static void call_and_wait(void *user)
{
    struct caller *caller = user;

    caller->r = create_within(caller->plane, caller->name, PATIENCE_MS, NULL);
}

static void hang_up(void *user)
{
    fl_apiserver_hang_up(((struct fl_plane *)user)->server);
}

#define CALLERS 3

static void test_callers_hear_that_the_server_hangs_up(void **state)
{
    struct fl_plane *plane = *state;
    struct caller callers[CALLERS] = {0};
    struct fl_error err = {0};

    atomic_store(&fl_store_faults.hold_commits, true);
    for (int i = 0; i < CALLERS; i++) {
        callers[i].plane = plane;
        (void)snprintf(callers[i].name, sizeof(callers[i].name), "c%d", i);
        assert_int_equal(
            fl_thread_start("caller", call_and_wait, &callers[i], &callers[i].thread, &err), 0);
    }
    WAIT_FOR(fl_store_stats(plane->store).pending_writes == CALLERS);
    fl_loop_post(plane->loop, hang_up, plane);
    for (int i = 0; i < CALLERS; i++) {
        fl_thread_join(callers[i].thread);
        assert_int_equal(callers[i].r, FL_E_UNAVAILABLE);
    }
    assert_int_equal(create_within(plane, "after", 0, &err), FL_E_UNAVAILABLE);
}

/* A disk that refuses is an error with the server's words. */
static void test_a_failed_commit_is_unavailable(void **state)
{
    struct fl_plane *plane = *state;
    struct fl_error err = {0};

    atomic_store(&fl_store_faults.fail_commits, 1);
    assert_int_equal(create_within(plane, "a", 0, &err), FL_E_UNAVAILABLE);
    assert_true(err.msg[0] != '\0');
    assert_int_equal(create_within(plane, "a", 0, &err), 0);
}

/* Watches come and go while others write: who has closed one is not called any more. */

struct watcher {
    struct fl_plane *plane;
    struct fl_thread *thread;
    atomic_bool closed, called_after;
    int seen;
};

static void wake(void *user)
{
    struct watcher *watcher = user;

    if (atomic_load(&watcher->closed))
        atomic_store(&watcher->called_after, true);
}

static void come_and_go(void *user)
{
    struct watcher *watcher = user;

    for (int i = 0; i < 200; i++) {
        struct fl_apiclient_watch *watch = NULL;
        struct fl_event event;

        atomic_store(&watcher->closed, false);
        if (fl_apiclient_watch(watcher->plane->client, &fl_gvr_configmaps, NULL,
                               fl_store_revision(watcher->plane->store), wake, watcher, &watch,
                               NULL) < 0)
            abort();
        for (int k = 0; k < 20; k++)
            watcher->seen += fl_apiclient_watch_next(watch, &event, NULL) > 0;
        fl_apiclient_watch_close(watch);
        atomic_store(&watcher->closed, true);
    }
}

static void test_a_closed_watch_does_not_wake(void **state)
{
    struct watcher watchers[CALLERS] = {0};
    struct fl_plane *plane = *state;
    struct fl_error err = {0};
    char name[16];

    for (int i = 0; i < CALLERS; i++) {
        watchers[i].plane = plane;
        assert_int_equal(
            fl_thread_start("watcher", come_and_go, &watchers[i], &watchers[i].thread, &err), 0);
    }
    for (int i = 0; i < 200; i++) {
        (void)snprintf(name, sizeof(name), "w%d", i);
        assert_int_equal(create_within(plane, name, 0, &err), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        fl_thread_join(watchers[i].thread);
        assert_false(atomic_load(&watchers[i].called_after));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_write_may_outlive_its_caller),
        TEST(test_a_fence),
        TEST(test_what_has_not_begun_in_time_is_not_begun),
        TEST(test_callers_hear_that_the_server_hangs_up),
        TEST(test_a_failed_commit_is_unavailable),
        TEST(test_a_closed_watch_does_not_wake),
    };

    if (fl_store_faulty_register(NULL) < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
