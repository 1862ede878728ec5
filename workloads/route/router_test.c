#include "workloads/route/router.h"

#include "lib/buf.h"
#include "lib/file.h"
#include "lib/http_async.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#define SERVERS 3

struct server {
    struct fl_http_server *http;
    int served, busy, failing, refusing; /* answers 503, 500, 400 */
    bool breaking;                       /* closes without an answer */
    struct fl_http_request *held;
    bool holding;
    char target[64], said[64], authorization[64];
    size_t body_len;
};

struct rig {
    struct fl_env env;
    struct fl_loop *loop;
    struct fl_arena *arena;
    char folder[64];
    struct server servers[SERVERS];
    struct fl_router *router;
    struct fl_router_options options;
    struct fl_http_async *async;
    struct fl_http_client *client, *admin;
};

struct outcome {
    struct rig *rig;
    int calls, status, code;
    char body[4096], by[16], retry_after[16];
};

static void serve(void *user, struct fl_http_request *request)
{
    struct server *server = user;
    char by[16];

    server->served++;
    (void)fl_http_body(request, &server->body_len);
    (void)snprintf(server->target, sizeof(server->target), "%s", fl_http_target(request));
    (void)snprintf(server->said, sizeof(server->said), "%s",
                   fl_str_or(fl_http_header(request, "X-Say"), ""));
    (void)snprintf(server->authorization, sizeof(server->authorization), "%s",
                   fl_str_or(fl_http_header(request, "Authorization"), ""));
    if (server->holding) {
        server->held = request;
        return;
    }
    if (server->breaking) {
        fl_http_abort(request);
        return;
    }
    (void)snprintf(by, sizeof(by), "%u", fl_http_server_port(server->http));
    fl_http_set_header(request, "X-By", by);
    fl_http_respond(request,
                    server->busy       ? 503
                    : server->failing  ? 500
                    : server->refusing ? 400
                                       : 200,
                    "text/x", "hi", 2);
}

static void start_server(struct rig *rig, size_t i, uint16_t port)
{
    const struct fl_http_server_options options = {.env = &rig->env,
                                                   .loop = rig->loop,
                                                   .address = "127.0.0.1",
                                                   .port = port,
                                                   .handler = serve,
                                                   .user = &rig->servers[i]};
    struct fl_error err = {0};

    assert_int_equal(fl_http_server_create(&options, &rig->servers[i].http, &err), 0);
}

static struct fl_http_client *client_to(struct rig *rig, uint16_t port, const char *token)
{
    const struct fl_http_client_options options = {
        .base_url = fl_arena_printf(rig->arena, "http://127.0.0.1:%u", port),
        .bearer_token = token};
    struct fl_http_client *client = NULL;
    struct fl_error err = {0};

    assert_int_equal(fl_http_client_create(&options, &client, &err), 0);
    return client;
}

static void start_router(struct rig *rig)
{
    struct fl_error err = {0};

    assert_int_equal(fl_router_create(&rig->options, &rig->router, &err), 0);
    rig->client = client_to(rig, fl_router_port(rig->router), NULL);
    rig->admin = client_to(rig, fl_router_admin_port(rig->router), rig->options.admin_token);
}

static void stop_router(struct rig *rig)
{
    fl_http_async_destroy(rig->async);
    fl_http_client_destroy(rig->client);
    fl_http_client_destroy(rig->admin);
    fl_router_destroy(rig->router);
}

static int setup(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));
    struct fl_http_async_options async = {0};
    struct fl_error err = {0};

    (void)strcpy(rig->folder, "/tmp/router-test-XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    rig->arena = fl_arena_create();
    rig->env = fl_env_real(fl_log_create(STDERR_FILENO, FL_LOG_ERROR, false));
    assert_int_equal(fl_loop_create(&rig->loop, &err), 0);
    for (size_t i = 0; i < SERVERS; i++)
        start_server(rig, i, 0);
    async.loop = rig->loop;
    assert_int_equal(fl_http_async_create(&async, &rig->async, &err), 0);
    rig->options = (struct fl_router_options){.env = &rig->env,
                                              .loop = rig->loop,
                                              .address = "127.0.0.1",
                                              .admin_address = "127.0.0.1",
                                              .folder = rig->folder,
                                              .max_body_bytes = 1000,
                                              .timeout_ms = 10000,
                                              .hold_ms = 50};
    start_router(rig);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    stop_router(rig);
    for (size_t i = 0; i < SERVERS; i++)
        fl_http_server_destroy(rig->servers[i].http);
    fl_loop_destroy(rig->loop);
    fl_log_destroy(rig->env.log);
    (void)fl_dir_remove(rig->folder, NULL);
    fl_arena_destroy(rig->arena);
    free(rig);
    return 0;
}

static void done(void *user, const struct fl_http_answer *answer, const struct fl_error *err)
{
    struct outcome *outcome = user;

    outcome->calls++;
    outcome->code = err ? err->code : 0;
    if (answer) {
        outcome->status = answer->status;
        (void)snprintf(outcome->body, sizeof(outcome->body), "%.*s", (int)answer->body->len,
                       (const char *)answer->body->data);
        (void)snprintf(outcome->by, sizeof(outcome->by), "%s",
                       fl_str_or(fl_http_answer_header(answer, "X-By"), ""));
        (void)snprintf(outcome->retry_after, sizeof(outcome->retry_after), "%s",
                       fl_str_or(fl_http_answer_header(answer, "Retry-After"), ""));
    }
    fl_loop_stop(outcome->rig->loop);
}

static struct outcome send_it(struct rig *rig, struct fl_http_client *to, const char *method,
                              const char *target, const char *text)
{
    const struct fl_http_pair header = {"X-Say", "hello"};
    FL_CLEANUP(fl_bytes_unrefp)
    struct fl_bytes *body = text ? fl_bytes_new(text, strlen(text)) : NULL;
    const struct fl_http_async_call call = {
        .method = method, .target = target, .headers = &header, .header_count = 1, .body = body};
    struct outcome outcome = {.rig = rig};

    (void)fl_http_async_start(rig->async, to, &call, done, &outcome);
    for (int i = 0; i < 3000 && outcome.calls == 0; i++)
        fl_loop_run_for(rig->loop, 10);
    assert_int_equal(outcome.calls, 1);
    return outcome;
}

static struct outcome ask(struct rig *rig, const char *method, const char *text)
{
    return send_it(rig, rig->client, method, "/v2/models/m/infer?x=%20y", text);
}

static uint16_t port_of(const struct rig *rig, size_t i)
{
    return fl_http_server_port(rig->servers[i].http);
}

static const char *a_table(struct rig *rig, int version, size_t servers)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};

    fl_buf_printf(&text,
                  "{\"version\":%d,\"groups\":[{\"name\":\"m\",\"percent\":100},{\"name\":\"dark\","
                  "\"percent\":0,\"mirror\":true}],\"backends\":[",
                  version);
    for (size_t i = 0; i < servers; i++)
        fl_buf_printf(&text, "%s{\"id\":\"%zu\",\"group\":\"m\",\"url\":\"http://127.0.0.1:%u\"}",
                      i > 0 ? "," : "", i, port_of(rig, i));
    fl_buf_puts(&text, "]}");
    return fl_arena_strdup(rig->arena, fl_buf_text(&text));
}

static void route(struct rig *rig, int version, size_t servers)
{
    assert_int_equal(
        send_it(rig, rig->admin, "PUT", "/v1/routes", a_table(rig, version, servers)).status, 200);
}

static void test_forward(void **state)
{
    struct rig *rig = *state;
    struct outcome outcome;
    char by[16];

    route(rig, 1, 1);
    outcome = ask(rig, "POST", "abc");
    assert_int_equal(outcome.status, 200);
    assert_string_equal(outcome.body, "hi");
    (void)snprintf(by, sizeof(by), "%u", port_of(rig, 0));
    assert_string_equal(outcome.by, by);
    assert_string_equal(rig->servers[0].target, "/v2/models/m/infer?x=%20y");
    assert_string_equal(rig->servers[0].said, "hello");
    assert_int_equal(rig->servers[0].body_len, 3);
    rig->servers[0].failing = 1; /* what a server says is said */
    assert_int_equal(ask(rig, "GET", NULL).status, 500);
    assert_int_equal(rig->servers[0].served, 2);
}

static void test_another_one_is_asked(void **state)
{
    struct rig *rig = *state;

    route(rig, 1, 3);
    rig->servers[0].busy = 1;
    rig->servers[1].breaking = true;
    for (int i = 0; i < 12; i++)
        assert_int_equal(ask(rig, "POST", "abc").status, 200);
    assert_int_equal(rig->servers[2].served, 12);
    fl_http_server_destroy(FL_TAKE(rig->servers[2].http));
    rig->servers[1].breaking = false;
    assert_int_equal(ask(rig, "POST", "abc").status, 200);
    start_server(rig, 2, 0);
}

static void route_trial(struct rig *rig, int version, const char *kind)
{
    const char *table = fl_arena_printf(
        rig->arena,
        "{\"version\":%d,\"groups\":[{\"name\":\"old\",\"percent\":50},{\"name\":\"new\","
        "\"percent\":50,\"epoch\":\"%d\",%s}],\"backends\":["
        "{\"id\":\"0\",\"group\":\"old\",\"url\":\"http://127.0.0.1:%u\"},"
        "{\"id\":\"1\",\"group\":\"new\",\"url\":\"http://127.0.0.1:%u\"}]}",
        version, version, kind, port_of(rig, 0), port_of(rig, 1));

    assert_int_equal(send_it(rig, rig->admin, "PUT", "/v1/routes", table).status, 200);
}

/* {requests, errors} of the group "new". */
static void counts_of_new(struct rig *rig, int64_t *ret_requests, int64_t *ret_errors)
{
    struct outcome seen = send_it(rig, rig->admin, "GET", "/v1/routes", NULL);
    FL_JSON status = json_loads(seen.body, 0, NULL);
    const json_t *group = json_array_get(json_object_get(status, "groups"), 1);

    assert_string_equal(fl_json_str(group, "name"), "new");
    *ret_requests = fl_json_int(group, "requests", -1);
    *ret_errors = fl_json_int(group, "errors", -1);
}

/* A client sees nothing of what a group on trial does badly; the group is blamed for what the other
 * one can do. */
static void test_trial(void **state)
{
    static const struct {
        struct server old, new;
        int status;
        int64_t requests, errors; /* of 5 that the new one gets */
    } cases[] = {
        {{0}, {0}, 200, 5, 0},
        {{0}, {.refusing = 1}, 200, 5, 5},
        {{0}, {.failing = 1}, 200, 5, 5},
        {{0}, {.breaking = true}, 200, 1, 1}, /* then it is left out */
        {{.refusing = 1}, {.refusing = 1}, 400, 5, 0},
        {{.refusing = 1}, {0}, 0, 5, 0}, /* 400 of the old one is what it says */
        {{.failing = 1}, {.failing = 1}, 500, 5, 5},
        {{.breaking = true}, {.refusing = 1}, 400, 10, 0}, /* nobody else to ask */
    };
    struct rig *rig = *state;

    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        int64_t requests, errors;

        stop_router(rig);
        (void)fl_dir_remove(rig->folder, NULL);
        assert_int_equal(fl_http_async_create(&(struct fl_http_async_options){.loop = rig->loop},
                                              &rig->async, NULL),
                         0);
        start_router(rig);
        for (size_t s = 0; s < 2; s++) {
            const struct server *how = s == 0 ? &cases[i].old : &cases[i].new;

            rig->servers[s].failing = how->failing;
            rig->servers[s].refusing = how->refusing;
            rig->servers[s].breaking = how->breaking;
        }
        route_trial(rig, 1, "\"trial\":true");
        for (int n = 0; n < 10; n++) {
            const int status = ask(rig, "POST", "abc").status;

            if (cases[i].status && status != cases[i].status)
                fail_msg("case %zu: %d", i, status);
        }
        counts_of_new(rig, &requests, &errors);
        if (requests != cases[i].requests || errors != cases[i].errors)
            fail_msg("case %zu: %d of %d", i, (int)errors, (int)requests);
    }
}

/* It was taken back while it had a request, which the other one answers. */
static void test_trial_is_over(void **state)
{
    struct rig *rig = *state;
    const struct fl_http_async_call call = {.method = "GET", .target = "/x"};
    struct outcome first = {.rig = rig}, second = {.rig = rig};

    route_trial(rig, 1, "\"trial\":true");
    rig->servers[1].holding = true;
    (void)fl_http_async_start(rig->async, rig->client, &call, done, &first);
    (void)fl_http_async_start(rig->async, rig->client, &call, done, &second);
    for (int i = 0; i < 2000 && !rig->servers[1].held; i++)
        fl_loop_run_for(rig->loop, 10);
    route(rig, 2, 1);
    fl_http_respond(FL_TAKE(rig->servers[1].held), 400, "text/x", "no", 2);
    for (int i = 0; i < 2000 && (first.calls == 0 || second.calls == 0); i++)
        fl_loop_run_for(rig->loop, 10);
    assert_int_equal(first.status, 200);
    assert_int_equal(second.status, 200);
}

/* In a dark launch, too, what the serving one could do and the new one not is its fault. */
static void test_dark_launch(void **state)
{
    struct rig *rig = *state;
    int64_t requests = 0, errors = 0;

    route_trial(rig, 1, "\"mirror\":true");
    rig->servers[1].refusing = 1;
    for (int n = 0; n < 5; n++)
        assert_int_equal(ask(rig, "POST", "abc").status, 200);
    for (int n = 0; n < 300 && requests < 5; n++)
        counts_of_new(rig, &requests, &errors);
    assert_int_equal(requests, 5);
    assert_int_equal(errors, 5);
    rig->servers[0].refusing = 1; /* what nobody can do says nothing */
    for (int n = 0; n < 5; n++)
        assert_int_equal(ask(rig, "POST", "abc").status, 400);
    fl_loop_run_for(rig->loop, 20);
    assert_int_equal(rig->servers[1].served, 5);
}

static void test_nobody(void **state)
{
    struct rig *rig = *state;
    struct outcome outcome = ask(rig, "POST", "abc");

    assert_int_equal(outcome.status, 503);
    assert_string_equal(outcome.retry_after, "1");
    route(rig, 1, 1);
    rig->servers[0].breaking = true;
    assert_int_equal(ask(rig, "POST", "abc").status, 503);
}

static void test_waits_for_a_server(void **state)
{
    struct rig *rig = *state;
    const struct fl_http_async_call call = {.method = "GET", .target = "/x"};
    struct outcome outcome = {.rig = rig};

    stop_router(rig);
    rig->options.hold_ms = 20000;
    assert_int_equal(
        fl_http_async_create(&(struct fl_http_async_options){.loop = rig->loop}, &rig->async, NULL),
        0);
    start_router(rig);
    (void)fl_http_async_start(rig->async, rig->client, &call, done, &outcome);
    fl_loop_run_for(rig->loop, 50);
    assert_int_equal(outcome.calls, 0);
    route(rig, 1, 1);
    for (int i = 0; i < 2000 && outcome.calls == 0; i++)
        fl_loop_run_for(rig->loop, 10);
    assert_int_equal(outcome.status, 200);
}

/* The only server is killed and started again: clients do not hear of it. */
static void test_waits_for_its_server(void **state)
{
    struct rig *rig = *state;
    const struct fl_http_async_call call = {.method = "GET", .target = "/x"};
    struct outcome outcome = {.rig = rig};
    uint16_t port;

    stop_router(rig);
    rig->options.hold_ms = 20000;
    assert_int_equal(
        fl_http_async_create(&(struct fl_http_async_options){.loop = rig->loop}, &rig->async, NULL),
        0);
    start_router(rig);
    route(rig, 1, 1);
    port = port_of(rig, 0);
    fl_http_server_destroy(FL_TAKE(rig->servers[0].http));
    (void)fl_http_async_start(rig->async, rig->client, &call, done, &outcome);
    fl_loop_run_for(rig->loop, 50);
    assert_int_equal(outcome.calls, 0);
    start_server(rig, 0, port);
    for (int i = 0; i < 2000 && outcome.calls == 0; i++)
        fl_loop_run_for(rig->loop, 10);
    assert_int_equal(outcome.status, 200);
    rig->servers[0].busy = 1; /* who has too much to do is not pressed */
    assert_string_equal(ask(rig, "GET", NULL).body, "{\"error\":\"all servers are busy\"}");
}

static void test_refusals(void **state)
{
    struct rig *rig = *state;
    char large[1200];

    route(rig, 1, 1);
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    assert_int_equal(ask(rig, "POST", large).status, 413);
    assert_int_equal(send_it(rig, rig->admin, "PUT", "/v1/routes", "{}").status, 422);
    assert_int_equal(send_it(rig, rig->admin, "PUT", "/v1/routes", "nonsense").status, 400);
    assert_int_equal(send_it(rig, rig->admin, "GET", "/v1/other", NULL).status, 404);
    assert_int_equal(send_it(rig, rig->admin, "GET", "/v1/routes?after=x", NULL).status, 400);
    assert_int_equal(ask(rig, "POST", "abc").status, 200);
}

static void test_tokens(void **state)
{
    struct rig *rig = *state;
    const char *tokens[] = {"one", "two"};
    struct fl_http_client *with_token, *wrong;

    stop_router(rig);
    rig->options.tokens = tokens;
    rig->options.token_count = 2;
    rig->options.admin_token = "secret";
    assert_int_equal(
        fl_http_async_create(&(struct fl_http_async_options){.loop = rig->loop}, &rig->async, NULL),
        0);
    start_router(rig);
    route(rig, 1, 1);
    with_token = client_to(rig, fl_router_port(rig->router), "two");
    wrong = client_to(rig, fl_router_admin_port(rig->router), "secre");
    assert_int_equal(ask(rig, "GET", NULL).status, 401);
    assert_int_equal(send_it(rig, with_token, "GET", "/x", NULL).status, 200);
    assert_string_equal(rig->servers[0].authorization, ""); /* not told to servers */
    assert_int_equal(send_it(rig, wrong, "GET", "/v1/routes", NULL).status, 401);
    assert_int_equal(send_it(rig, wrong, "GET", "/healthz", NULL).status, 200);
    fl_http_async_destroy(FL_TAKE(rig->async));
    fl_http_client_destroy(with_token);
    fl_http_client_destroy(wrong);
}

/* Killed and started again it goes on at once. */
static void test_kept(void **state)
{
    struct rig *rig = *state;

    route(rig, 7, 2);
    stop_router(rig);
    assert_int_equal(
        fl_http_async_create(&(struct fl_http_async_options){.loop = rig->loop}, &rig->async, NULL),
        0);
    start_router(rig);
    assert_int_equal(ask(rig, "GET", NULL).status, 200);
    assert_int_equal(send_it(rig, rig->admin, "PUT", "/v1/routes", a_table(rig, 6, 1)).status, 409);
}

/* Who leaves the table is told of until its last request has ended. */
static void test_leaving(void **state)
{
    struct rig *rig = *state;
    const struct fl_http_async_call call = {.method = "GET", .target = "/x"},
                                    watch = {.method = "GET", .target = "/v1/routes?after=2"};
    struct outcome held = {.rig = rig}, seen = {.rig = rig};

    route(rig, 1, 1);
    rig->servers[0].holding = true;
    (void)fl_http_async_start(rig->async, rig->client, &call, done, &held);
    for (int i = 0; i < 2000 && !rig->servers[0].held; i++)
        fl_loop_run_for(rig->loop, 10);
    route(rig, 2, 0);
    assert_non_null(
        strstr(send_it(rig, rig->admin, "GET", "/v1/routes", NULL).body, "\"change\":2"));
    (void)fl_http_async_start(rig->async, rig->admin, &watch, done, &seen);
    fl_loop_run_for(rig->loop, 50);
    assert_int_equal(seen.calls, 0);
    fl_http_respond(rig->servers[0].held, 200, "text/x", "late", 4);
    for (int i = 0; i < 2000 && (seen.calls == 0 || held.calls == 0); i++)
        fl_loop_run_for(rig->loop, 10);
    assert_string_equal(held.body, "late");
    assert_non_null(strstr(seen.body, "\"backends\":[]"));
}

static void test_client_goes(void **state)
{
    struct rig *rig = *state;
    const struct fl_http_async_call call = {.method = "GET", .target = "/x"};
    struct outcome outcome = {.rig = rig};
    struct fl_http_async_request *request;

    route(rig, 1, 1);
    rig->servers[0].holding = true;
    request = fl_http_async_start(rig->async, rig->client, &call, done, &outcome);
    for (int i = 0; i < 2000 && !rig->servers[0].held; i++)
        fl_loop_run_for(rig->loop, 10);
    fl_http_async_cancel(request);
    fl_http_respond(FL_TAKE(rig->servers[0].held), 200, "text/x", "late", 4);
    fl_loop_run_for(rig->loop, 20);
    rig->servers[0].holding = false;
    assert_int_equal(ask(rig, "GET", NULL).status, 200);
}

static void test_metrics(void **state)
{
    struct rig *rig = *state;
    struct outcome outcome;

    route(rig, 1, 1);
    (void)ask(rig, "GET", NULL);
    outcome = send_it(rig, rig->admin, "GET", "/metrics", NULL);
    assert_int_equal(outcome.status, 200);
    assert_non_null(strstr(outcome.body, "flops_router_requests_total 1\n"));
    assert_non_null(strstr(outcome.body, "flops_router_group_requests_total{group=\"m\"} 1\n"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_forward),       TEST(test_another_one_is_asked),
        TEST(test_nobody),        TEST(test_waits_for_a_server),
        TEST(test_refusals),      TEST(test_tokens),
        TEST(test_kept),          TEST(test_leaving),
        TEST(test_client_goes),   TEST(test_metrics),
        TEST(test_trial),         TEST(test_waits_for_its_server),
        TEST(test_trial_is_over), TEST(test_dark_launch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
