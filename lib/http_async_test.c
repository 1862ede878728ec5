#include "lib/http_async.h"

#include "lib/buf.h"
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

struct rig {
    struct fl_env env;
    struct fl_loop *loop;
    struct fl_http_server *server;
    struct fl_http_async *async;
    struct fl_http_client *to;
    struct fl_http_request *held;
    int served;
};

struct outcome {
    struct rig *rig;
    int calls, status, code;
    char body[128], header[64], type[64];
    size_t len;
    bool again;
};

static void gone(void *user)
{
    struct rig *rig = user;

    rig->held = NULL;
}

static void serve(void *user, struct fl_http_request *request)
{
    struct rig *rig = user;
    size_t len;
    const char *body = fl_http_body(request, &len), *path = fl_http_path(request);

    rig->served++;
    if (strcmp(path, "/hold") == 0) {
        rig->held = request;
        fl_http_on_gone(request, gone, rig);
        return;
    }
    if (strcmp(path, "/break") == 0) {
        fl_http_abort(request);
        return;
    }
    fl_http_set_header(request, "X-Method", fl_http_method(request));
    fl_http_set_header(request, "X-Empty", "");
    if (strcmp(path, "/missing") == 0) {
        fl_http_respond(request, 404, "text/plain", "no", 2);
        return;
    }
    fl_http_set_header(request, "X-Said", fl_str_or(fl_http_header(request, "X-Say"), "nothing"));
    fl_http_respond(request, 200, fl_str_or(fl_http_header(request, "Content-Type"), "none"), body,
                    len);
}

static int setup(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));
    struct fl_http_server_options server = {.address = "127.0.0.1", .handler = serve, .user = rig};
    struct fl_http_async_options async = {0};
    struct fl_http_client_options to = {.max_response_bytes = 1000};
    struct fl_error err = {0};

    rig->env = fl_env_real(fl_log_create(STDERR_FILENO, FL_LOG_ERROR, false));
    assert_int_equal(fl_loop_create(&rig->loop, &err), 0);
    server.env = &rig->env;
    server.loop = async.loop = rig->loop;
    assert_int_equal(fl_http_server_create(&server, &rig->server, &err), 0);
    assert_int_equal(fl_http_async_create(&async, &rig->async, &err), 0);
    {
        FL_CLEANUP(fl_freep)
        char *url = fl_asprintf("http://127.0.0.1:%u", fl_http_server_port(rig->server));

        to.base_url = url;
        assert_int_equal(fl_http_client_create(&to, &rig->to, &err), 0);
    }
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    fl_http_async_destroy(rig->async);
    fl_http_client_destroy(rig->to);
    fl_http_server_destroy(rig->server);
    fl_loop_destroy(rig->loop);
    fl_log_destroy(rig->env.log);
    free(rig);
    return 0;
}

static void note(struct outcome *outcome, const struct fl_http_answer *answer)
{
    outcome->status = answer->status;
    outcome->len = answer->body->len;
    (void)snprintf(outcome->body, sizeof(outcome->body), "%.*s", (int)answer->body->len,
                   (const char *)answer->body->data);
    (void)snprintf(outcome->header, sizeof(outcome->header), "%s",
                   fl_str_or(fl_http_answer_header(answer, "x-said"), ""));
    (void)snprintf(outcome->type, sizeof(outcome->type), "%s", fl_str_or(answer->content_type, ""));
}

static void done(void *user, const struct fl_http_answer *answer, const struct fl_error *err)
{
    struct outcome *outcome = user;

    outcome->calls++;
    if (answer)
        note(outcome, answer);
    else
        outcome->code = err->code;
    fl_loop_stop(outcome->rig->loop);
}

static struct outcome call(struct rig *rig, const struct fl_http_async_call *call)
{
    struct outcome outcome = {.rig = rig};

    (void)fl_http_async_start(rig->async, rig->to, call, done, &outcome);
    assert_int_equal(outcome.calls, 0); /* never from within the start */
    fl_loop_run_for(rig->loop, 20000);
    assert_int_equal(outcome.calls, 1);
    assert_int_equal(fl_http_async_open(rig->async), 0);
    return outcome;
}

static struct fl_bytes *bytes(size_t len)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf buf = {0};

    for (size_t i = 0; i < len; i++)
        fl_buf_putc(&buf, (char)('a' + i % 26));
    return fl_buf_to_bytes(&buf);
}

static void test_call(void **state)
{
    struct rig *rig = *state;
    const struct fl_http_pair headers[] = {{"X-Say", "hello"}, {"Content-Type", "text/x"}};
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = bytes(3);
    struct outcome outcome = call(rig, &(struct fl_http_async_call){.method = "POST",
                                                                    .target = "/echo",
                                                                    .headers = headers,
                                                                    .header_count = 2,
                                                                    .body = body});

    assert_int_equal(outcome.status, 200);
    assert_string_equal(outcome.body, "abc");
    assert_string_equal(outcome.header, "hello");
    assert_string_equal(outcome.type, "text/x");
    outcome = call(rig, &(struct fl_http_async_call){.method = "GET", .target = "/missing"});
    assert_int_equal(outcome.status, 404);
    assert_string_equal(outcome.body, "no");
    outcome = call(rig, &(struct fl_http_async_call){.method = "HEAD", .target = "/echo"});
    assert_int_equal(outcome.status, 200);
    /* All over one connection. */
    assert_int_equal(fl_http_server_stats(rig->server).connections_total, 1);
}

static void test_failures(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *large = bytes(2000);
    const struct fl_http_pair bad = {"X-Say", "a\r\nX-Other: b"};
    const struct {
        struct fl_http_async_call call;
        int code;
    } cases[] = {
        {{.method = "GET", .target = "/hold", .timeout_ms = 50}, FL_E_TIMEOUT},
        {{.method = "GET", .target = "/break"}, FL_E_UNAVAILABLE},
        {{.method = "POST", .target = "/echo", .body = large}, FL_E_TOO_LARGE},
        {{.method = "GET", .target = "/a\nb"}, FL_E_BAD_REQUEST},
        {{.method = "GET", .target = "/echo", .headers = &bad, .header_count = 1},
         FL_E_BAD_REQUEST},
    };

    for (size_t i = 0; i < FL_COUNT_OF(cases); i++)
        assert_int_equal(call(rig, &cases[i].call).code, cases[i].code);
    /* And it goes on. */
    assert_int_equal(
        call(rig, &(struct fl_http_async_call){.method = "GET", .target = "/echo"}).status, 200);
}

static void test_nobody_there(void **state)
{
    struct rig *rig = *state;

    fl_http_server_destroy(FL_TAKE(rig->server));
    assert_int_equal(
        call(rig, &(struct fl_http_async_call){.method = "GET", .target = "/echo"}).code,
        FL_E_UNAVAILABLE);
}

static void count(void *user, const struct fl_http_answer *answer, const struct fl_error *err)
{
    struct outcome *outcome = user;

    (void)err;
    assert_non_null(answer);
    if (++outcome->calls == 500)
        fl_loop_stop(outcome->rig->loop);
}

static void test_many(void **state)
{
    struct rig *rig = *state;
    struct outcome outcome = {.rig = rig};

    for (int i = 0; i < 500; i++)
        (void)fl_http_async_start(rig->async, rig->to,
                                  &(struct fl_http_async_call){.method = "GET", .target = "/echo"},
                                  count, &outcome);
    assert_int_equal(fl_http_async_open(rig->async), 500);
    fl_loop_run_for(rig->loop, 20000);
    assert_int_equal(outcome.calls, 500);
    assert_int_equal(fl_http_async_open(rig->async), 0);
}

static void test_cancel(void **state)
{
    struct rig *rig = *state;
    struct outcome outcome = {.rig = rig};
    const struct fl_http_async_call hold = {.method = "GET", .target = "/hold"};
    struct fl_http_async_request *request =
        fl_http_async_start(rig->async, rig->to, &hold, done, &outcome);
    const struct fl_http_async_call wrong = {.method = "GET", .target = "/\n"};

    for (int i = 0; i < 1000 && !rig->held; i++)
        fl_loop_run_for(rig->loop, 10);
    assert_non_null(rig->held);
    fl_http_async_cancel(request);
    fl_http_respond(FL_TAKE(rig->held), 200, "text/plain", "late", 4);
    fl_loop_run_for(rig->loop, 10);
    assert_int_equal(outcome.calls, 0);
    fl_http_async_cancel(fl_http_async_start(rig->async, rig->to, &wrong, done, &outcome));
    fl_loop_run_for(rig->loop, 10);
    assert_int_equal(outcome.calls, 0);
    /* Under way when the client goes: the teardown breaks it off. */
    (void)fl_http_async_start(rig->async, rig->to, &hold, done, &outcome);
    fl_loop_run_for(rig->loop, 10);
}

/* A kept connection that the peer has closed meanwhile is no failure. */
static void test_closed_meanwhile(void **state)
{
    struct rig *rig = *state;
    const struct fl_http_async_call echo = {.method = "GET", .target = "/echo"};
    const struct fl_http_server_options again = {.env = &rig->env,
                                                 .loop = rig->loop,
                                                 .address = "127.0.0.1",
                                                 .port = fl_http_server_port(rig->server),
                                                 .handler = serve,
                                                 .user = rig};
    struct fl_error err = {0};

    assert_int_equal(call(rig, &echo).status, 200);
    fl_http_server_destroy(FL_TAKE(rig->server));
    assert_int_equal(fl_http_server_create(&again, &rig->server, &err), 0);
    assert_int_equal(call(rig, &echo).status, 200);
}

/* A body that is had as it comes. */

struct pieces {
    struct outcome outcome; /* first: `done` takes it */
    char text[64];
    size_t len;
    bool enough;
};

static int take_piece(void *user, const char *data, size_t len, struct fl_error *err)
{
    struct pieces *pieces = user;

    if (pieces->enough)
        return fl_error_set(err, FL_E_CONFLICT, "enough");
    assert_true(pieces->len + len < sizeof(pieces->text));
    memcpy(pieces->text + pieces->len, data, len);
    pieces->len += len;
    return 0;
}

static void test_pieces(void **state)
{
    static const struct {
        const char *target;
        bool enough;
        int status, code;
        const char *pieces, *body;
    } examples[] = {
        {"/echo", false, 200, 0, "one\ntwo\n", ""},
        {"/missing", false, 404, 0, "", "no"}, /* what is refused says why, as a whole */
        {"/echo", true, 0, FL_E_CONFLICT, "", ""},
        {"/break", false, 0, FL_E_UNAVAILABLE, "", ""},
    };
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = fl_bytes_new("one\ntwo\n", 8);
    struct rig *rig = *state;

    for (size_t i = 0; i < FL_COUNT_OF(examples); i++) {
        struct pieces pieces = {.outcome = {.rig = rig}, .enough = examples[i].enough};
        const struct fl_http_async_call call = {
            .method = "POST", .target = examples[i].target, .body = body, .piece = take_piece};

        (void)fl_http_async_start(rig->async, rig->to, &call, done, &pieces);
        fl_loop_run_for(rig->loop, 20000);
        assert_int_equal(pieces.outcome.calls, 1);
        assert_int_equal(pieces.outcome.status, examples[i].status);
        assert_int_equal(pieces.outcome.code, examples[i].code);
        assert_string_equal(pieces.text, examples[i].pieces);
        assert_string_equal(pieces.outcome.body, examples[i].body);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_call),   TEST(test_failures),         TEST(test_nobody_there), TEST(test_many),
        TEST(test_cancel), TEST(test_closed_meanwhile), TEST(test_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
