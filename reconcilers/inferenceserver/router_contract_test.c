/* What every driver of routers keeps. The real one is held against a real router on a loop of its
 * own. */
#include "lib/log.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "reconcilers/inferenceserver/router_fake.h"
#include "workloads/route/router.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#define TRIES 2000 /* of 10 ms */

struct rig {
    bool real;
    struct fl_env env;
    struct fl_loop *loop;
    struct fl_router *router;
    struct fl_thread *thread;
    struct fl_router_driver *driver;
    struct fl_arena *arena;
    struct fl_router_at at;
    atomic_int changes;
};

static void changed(void *user, const char *ns, const char *name)
{
    struct rig *rig = user;

    assert_string_equal(ns, "default");
    assert_string_equal(name, "digits");
    atomic_fetch_add(&rig->changes, 1);
}

static void run(void *user)
{
    struct rig *rig = user;

    fl_loop_run(rig->loop);
}

static void start_router(struct rig *rig)
{
    const struct fl_router_options options = {.env = &rig->env,
                                              .loop = rig->loop,
                                              .address = "127.0.0.1",
                                              .admin_address = "127.0.0.1",
                                              .admin_token = "secret"};
    struct fl_error err = {0};

    assert_int_equal(fl_router_create(&options, &rig->router, &err), 0);
    rig->at.address =
        fl_arena_printf(rig->arena, "http://127.0.0.1:%u", fl_router_admin_port(rig->router));
    assert_int_equal(fl_thread_start("router", run, rig, &rig->thread, &err), 0);
}

static void rig_open(struct rig *rig, bool real)
{
    struct fl_error err = {0};

    *rig = (struct rig){.real = real,
                        .arena = fl_arena_create(),
                        .at = {.uid = "uid-1",
                               .ns = "default",
                               .name = "digits",
                               .address = "http://fake:1",
                               .token = "secret"}};
    rig->env = fl_env_real(fl_log_create(STDERR_FILENO, FL_LOG_ERROR, false));
    if (!real) {
        rig->driver = fl_router_fake_create(changed, rig);
        return;
    }
    assert_int_equal(fl_loop_create(&rig->loop, &err), 0);
    start_router(rig);
    assert_int_equal(fl_router_http_create(&rig->env, changed, rig, &rig->driver, &err), 0);
}

static void rig_finish(struct rig *rig)
{
    rig->driver->ops->destroy(rig->driver);
    if (rig->real) {
        fl_loop_stop(rig->loop);
        fl_thread_join(rig->thread);
        fl_router_destroy(rig->router);
        fl_loop_destroy(rig->loop);
    }
    fl_log_destroy(rig->env.log);
    fl_arena_destroy(rig->arena);
}

static struct fl_router_view look(struct rig *rig, int64_t fresh_in_ms)
{
    struct fl_router_view view;
    struct fl_error err = {0};

    assert_int_equal(
        rig->driver->ops->observe(rig->driver, &rig->at, fresh_in_ms, rig->arena, &view, &err), 0);
    return view;
}

static struct fl_router_view wait_for_version(struct rig *rig, int64_t version)
{
    for (int i = 0; i < TRIES; i++) {
        struct fl_router_view view = look(rig, -1);

        if (view.known && view.version == version)
            return view;
        (void)usleep(10000);
    }
    fail_msg("version %lld never came into force", (long long)version);
    return (struct fl_router_view){0};
}

static void put(struct rig *rig, const char *text)
{
    FL_JSON table = json_loads(text, 0, NULL);
    struct fl_error err = {0};

    assert_non_null(table);
    assert_int_equal(rig->driver->ops->put(rig->driver, &rig->at, table, &err), 0);
}

#define TABLE(version, backends)                                                                   \
    "{\"version\":" version ",\"groups\":[{\"name\":\"m\",\"percent\":100,\"trial\":true,"         \
    "\"epoch\":\"e\"}],"                                                                           \
    "\"backends\":[" backends "],\"load\":{\"metric\":\"RequestRate\",\"windowMs\":5000,"          \
    "\"delayMs\":0}}"
#define BACKEND "{\"id\":\"a\",\"group\":\"m\",\"url\":\"http://127.0.0.1:1\"}"

static void with_both(void (*test)(struct rig *rig))
{
    for (int real = 0; real < 2; real++) {
        struct rig rig;

        rig_open(&rig, real);
        test(&rig);
        rig_finish(&rig);
    }
}

static void check_put(struct rig *rig)
{
    struct fl_router_view view = wait_for_version(rig, 0);

    assert_int_equal(view.group_count, 0);
    put(rig, TABLE("3", BACKEND));
    view = wait_for_version(rig, 3);
    assert_int_equal(view.group_count, 1);
    assert_string_equal(view.groups[0].name, "m");
    assert_string_equal(view.groups[0].epoch, "e");
    assert_int_equal(view.groups[0].percent, 100);
    assert_true(view.groups[0].trial);
    assert_string_equal(view.load.metric, "RequestRate");
    assert_int_equal(view.load.window_ms, 5000);
    assert_false(view.groups[0].mirror);
    assert_int_equal(view.backend_count, 1);
    assert_string_equal(view.backends[0].id, "a");
    assert_false(view.backends[0].removed);
    assert_true(atomic_load(&rig->changes) > 0);
    put(rig, TABLE("4", ""));
    view = wait_for_version(rig, 4);
    assert_int_equal(view.backend_count, 0);
}

static void test_put(void **state)
{
    (void)state;
    with_both(check_put);
}

/* Who knows less than the router does not undo what it has. */
static void check_older(struct rig *rig)
{
    put(rig, TABLE("9", ""));
    (void)wait_for_version(rig, 9);
    put(rig, TABLE("2", BACKEND));
    put(rig, TABLE("10", ""));
    assert_int_equal(wait_for_version(rig, 10).backend_count, 0);
}

static void test_older(void **state)
{
    (void)state;
    with_both(check_older);
}

/* A new process of the control plane sees what the old one made. */
static void check_forgotten(struct rig *rig)
{
    put(rig, TABLE("5", BACKEND));
    (void)wait_for_version(rig, 5);
    rig->driver->ops->forget(rig->driver, rig->at.uid);
    assert_int_equal(wait_for_version(rig, 5).backend_count, 1);
    rig->driver->ops->forget(rig->driver, "nobody");
}

static void test_forgotten(void **state)
{
    (void)state;
    with_both(check_forgotten);
}

/* Who asks again at each answer is not answered all the time. */
static void check_fresh(struct rig *rig)
{
    const int64_t began_us = fl_machine_monotonic_us();
    int before;

    put(rig, TABLE("1", ""));
    (void)wait_for_version(rig, 1);
    for (int round = 0; rig->real && round < 3; round++) {
        before = atomic_load(&rig->changes);
        (void)look(rig, 100);
        (void)look(rig, 100);
        for (int i = 0; i < TRIES && atomic_load(&rig->changes) == before; i++)
            (void)usleep(1000);
        assert_true(atomic_load(&rig->changes) > before);
    }
    assert_true(!rig->real || fl_machine_monotonic_us() - began_us >= 300000);
    assert_true(look(rig, 0).known);
}

static void test_fresh(void **state)
{
    (void)state;
    with_both(check_fresh);
}

static void check_wrong_token(struct rig *rig)
{
    struct fl_router_view view;

    rig->at.token = "wrong";
    for (int i = 0; i < TRIES; i++) {
        view = look(rig, -1);
        if (view.message && strstr(view.message, "401"))
            break;
        (void)usleep(10000);
    }
    assert_false(view.known);
    assert_non_null(strstr(view.message, "401"));
    rig->at.token = "secret";
    (void)wait_for_version(rig, 0);
}

static void test_out_of_reach(void **state)
{
    struct rig rig;

    (void)state;
    rig_open(&rig, false);
    fl_router_fake_reach(rig.driver, false);
    assert_false(look(&rig, false).known);
    put(&rig, TABLE("1", ""));
    fl_router_fake_reach(rig.driver, true);
    assert_int_equal(look(&rig, false).version, 0);
    rig_finish(&rig);
    rig_open(&rig, true);
    check_wrong_token(&rig);
    rig_finish(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put),          cmocka_unit_test(test_older),
        cmocka_unit_test(test_forgotten),    cmocka_unit_test(test_fresh),
        cmocka_unit_test(test_out_of_reach),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
