/* The driver against a router whose answers are held back and come in another order. */
#include "lib/http_server.h"
#include "lib/log.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "reconcilers/inferenceserver/router_driver.h"

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

/* The router's script. It changes on its loop's thread only. */
struct rig {
    struct fl_env env;
    struct fl_loop *loop;
    struct fl_http_server *server;
    struct fl_thread *thread;
    struct fl_router_driver *driver;
    struct fl_arena *arena;
    struct fl_router_at at;
    struct fl_http_request *poll, *put;
    atomic_int puts;
};

/* A status at a change, where the server "a" leaves at the second and is gone at the third. */
static void say(struct fl_http_request *request, int change)
{
    static const char *const backends[] = {"", "",
                                           "{\"id\":\"a\",\"group\":\"m\",\"removed\":true}", ""};
    char text[256];
    const int len = snprintf(text, sizeof(text),
                             "{\"life\":7,\"version\":%d,\"groups\":[],\"backends\":[%s],"
                             "\"change\":%d}",
                             change > 1 ? 2 : 1, backends[change], change);

    fl_http_respond(request, 200, "application/json", text, (size_t)len);
}

/* The table is taken at change 2, and the answer that says so overtaken by change 3. */
static void on_put(struct rig *rig, struct fl_http_request *request)
{
    if (atomic_fetch_add(&rig->puts, 1) > 0)
        return; /* has no answer: nothing more is told */
    rig->put = request;
    if (rig->poll)
        say(FL_TAKE(rig->poll), 3);
}

static void on_get(struct rig *rig, struct fl_http_request *request)
{
    const char *query = fl_http_query(request);

    if (!fl_str_has_prefix(query, "after=")) {
        say(request, 1);
        return;
    }
    if (strcmp(query, "after=1") == 0 && rig->put) {
        say(request, 3);
        return;
    }
    if (strcmp(query, "after=3") == 0 && rig->put)
        say(FL_TAKE(rig->put), 2);
    rig->poll = request;
}

static void handle(void *user, struct fl_http_request *request)
{
    struct rig *rig = user;

    if (strcmp(fl_http_method(request), "PUT") == 0)
        on_put(rig, request);
    else
        on_get(rig, request);
}

static void run(void *user)
{
    struct rig *rig = user;

    fl_loop_run(rig->loop);
}

static void changed(void *user, const char *ns, const char *name)
{
    (void)user;
    (void)ns;
    (void)name;
}

static void rig_open(struct rig *rig)
{
    struct fl_http_server_options options = {
        .env = &rig->env, .address = "127.0.0.1", .handler = handle, .user = rig};
    struct fl_error err = {0};

    *rig = (struct rig){.arena = fl_arena_create(),
                        .at = {.uid = "uid-1", .ns = "default", .name = "digits"}};
    rig->env = fl_env_real(fl_log_create(STDERR_FILENO, FL_LOG_ERROR, false));
    assert_int_equal(fl_loop_create(&rig->loop, &err), 0);
    options.loop = rig->loop;
    assert_int_equal(fl_http_server_create(&options, &rig->server, &err), 0);
    rig->at.address =
        fl_arena_printf(rig->arena, "http://127.0.0.1:%u", fl_http_server_port(rig->server));
    assert_int_equal(fl_thread_start("router", run, rig, &rig->thread, &err), 0);
    assert_int_equal(fl_router_http_create(&rig->env, changed, rig, &rig->driver, &err), 0);
}

static void rig_finish(struct rig *rig)
{
    rig->driver->ops->destroy(rig->driver);
    fl_loop_stop(rig->loop);
    fl_thread_join(rig->thread);
    fl_http_server_destroy(rig->server);
    fl_loop_destroy(rig->loop);
    fl_log_destroy(rig->env.log);
    fl_arena_destroy(rig->arena);
}

static struct fl_router_view look(struct rig *rig)
{
    struct fl_router_view view;
    struct fl_error err = {0};

    assert_int_equal(rig->driver->ops->observe(rig->driver, &rig->at, -1, rig->arena, &view, &err),
                     0);
    return view;
}

static void put(struct rig *rig, const char *text)
{
    FL_JSON table = json_loads(text, 0, NULL);
    struct fl_error err = {0};

    assert_int_equal(rig->driver->ops->put(rig->driver, &rig->at, table, &err), 0);
}

/* What is older than what is known says nothing. Else a server that has left would be waited for
 * until the router has other news. */
static void test_overtaken(void **state)
{
    struct rig rig;
    struct fl_router_view view = {0};

    (void)state;
    rig_open(&rig);
    for (int i = 0; i < TRIES && !view.known; i++, (void)usleep(10000))
        view = look(&rig);
    put(&rig, "{\"version\":2,\"groups\":[],\"backends\":[]}");
    for (int i = 0; i < TRIES && atomic_load(&rig.puts) < 1; i++)
        (void)usleep(10000);
    /* One put at a time: the second is sent when the answer to the first has been read. */
    put(&rig, "{\"version\":3,\"groups\":[],\"backends\":[]}");
    for (int i = 0; i < TRIES && atomic_load(&rig.puts) < 2; i++)
        (void)usleep(10000);
    assert_int_equal(atomic_load(&rig.puts), 2);
    assert_int_equal(look(&rig).backend_count, 0);
    assert_int_equal(look(&rig).version, 2);
    rig_finish(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_overtaken)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
