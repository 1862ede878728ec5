/* Requests of the process itself, on a server without a port and a simulated loop. */
#include "lib/http_server.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

struct world {
    struct fl_fake_env fake;
    struct fl_loop *loop;
    struct fl_http_server *server;
    struct fl_http_request *held;
    struct fl_bytes *bytes;
    int gone, drained;
    struct outcome {
        int count, status, code;
        char body[128], type[64], header[64], message[FL_ERROR_TEXT_MAX];
    } outcome;
};

static void answered(void *user, const struct fl_http_answer *answer, const struct fl_error *err)
{
    struct outcome *outcome = user;

    outcome->count++;
    outcome->code = err ? err->code : 0;
    outcome->status = answer ? answer->status : 0;
    if (err)
        (void)snprintf(outcome->message, sizeof(outcome->message), "%s", err->msg);
    if (!answer)
        return;
    (void)snprintf(outcome->body, sizeof(outcome->body), "%s", answer->body->data);
    (void)snprintf(outcome->type, sizeof(outcome->type), "%s",
                   fl_str_or(answer->content_type, "none"));
    (void)snprintf(outcome->header, sizeof(outcome->header), "%s",
                   fl_str_or(fl_http_answer_header(answer, "x-note"), "none"));
}

static void gone(void *user)
{
    struct world *world = user;

    world->gone++;
    world->held = NULL;
}

static void drained(void *user)
{
    ((struct world *)user)->drained++;
}

static void tell_what_was_asked(struct fl_http_request *request)
{
    const struct fl_tls_peer *peer = fl_http_peer(request);
    size_t len;
    const char *body = fl_http_body(request, &len);
    char *text = fl_arena_printf(
        fl_http_arena(request), "%s %s %s|%s %s|%s %zu %s|%s %s", fl_http_method(request),
        fl_http_path(request), fl_http_query(request), fl_http_target(request),
        fl_str_or(fl_http_header(request, "ACCEPT"), "-"), fl_http_peer_address(request), len, body,
        peer->verified ? peer->common_name : "nobody",
        peer->organization_count ? peer->organizations[0] : "-");

    fl_http_set_header(request, "X-Note", "noted");
    fl_http_respond(request, 200, "text/plain", text, strlen(text));
}

static void handle(void *user, struct fl_http_request *request)
{
    struct world *world = user;
    const char *path = fl_http_path(request);

    if (strcmp(path, "/what") == 0) {
        tell_what_was_asked(request);
    } else if (strcmp(path, "/buf") == 0) {
        struct fl_buf buf;

        fl_buf_init(&buf, 0);
        for (int i = 0; i < 10000; i++)
            fl_buf_puts(&buf, "0123456789");
        fl_http_respond_buf(request, 201, NULL, &buf);
    } else if (strcmp(path, "/parts") == 0) {
        struct fl_bytes *parts[] = {world->bytes, world->bytes};

        fl_http_respond_bytes(request, 200, "text/x", parts, *fl_http_query(request) ? 1 : 2);
    } else {
        world->held = request;
        if (strcmp(path, "/held") != 0)
            fl_http_on_gone(request, gone, world);
        if (strcmp(path, "/stream") == 0) {
            fl_http_stream_begin(request, 200, "text/plain");
            fl_http_on_drained(request, drained, world);
            (void)fl_http_stream_write(request, "begin ", 6);
        }
    }
}

static struct world *create_world(void)
{
    struct world *world = fl_calloc(1, sizeof(*world));
    struct fl_http_server_options options = {
        .handler = handle, .user = world, .max_body_bytes = 64};

    fl_fake_env_init(&world->fake, 1, NULL);
    assert_int_equal(fl_loop_create_simulated(&world->fake, &world->loop, NULL), 0);
    options.env = &world->fake.env;
    options.loop = world->loop;
    assert_int_equal(fl_http_server_create(&options, &world->server, NULL), 0);
    world->bytes = fl_bytes_new("part", 4);
    return world;
}

static void step(struct world *world)
{
    while (fl_loop_step(world->loop) > 0)
        ;
}

static void destroy_world(struct world *world)
{
    step(world);
    fl_http_server_destroy(world->server);
    fl_loop_destroy(world->loop);
    assert_int_equal(world->bytes->refs, 1);
    fl_bytes_unref(world->bytes);
    free(world);
}

static struct fl_http_asked *ask(struct world *world, const char *method, const char *target,
                                 size_t max_stream_bytes)
{
    struct fl_http_ask asking = {
        .method = method, .target = target, .max_stream_bytes = max_stream_bytes};

    world->outcome = (struct outcome){0};
    return fl_http_server_ask(world->server, &asking, answered, &world->outcome);
}

static uint64_t open_asks(const struct world *world)
{
    return fl_http_server_stats(world->server).asks_open;
}

static void test_the_handler_sees_a_whole_request(void **state)
{
    static const struct fl_http_pair headers[] = {{"Accept", "text/plain"}, {"X-None", NULL}};
    struct world *world = create_world();
    struct fl_tls_peer peer = {.verified = true, .common_name = "me", .organizations = {"us"}};
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = fl_bytes_new("body", 4);
    struct fl_http_ask asking = {.method = "POST",
                                 .target = "/what?a=b",
                                 .headers = headers,
                                 .header_count = FL_COUNT_OF(headers),
                                 .body = body,
                                 .peer = &peer};

    (void)state;
    peer.organization_count = 1;
    assert_null(fl_http_server_ask(world->server, &asking, answered, &world->outcome));
    assert_int_equal(world->outcome.count, 1);
    assert_int_equal(world->outcome.status, 200);
    assert_string_equal(world->outcome.body,
                        "POST /what a=b|/what?a=b text/plain|127.0.0.1 4 body|me us");
    assert_string_equal(world->outcome.type, "text/plain");
    assert_string_equal(world->outcome.header, "noted");
    assert_int_equal(body->refs, 1);
    assert_int_equal(open_asks(world), 0);
    assert_null(ask(world, "GET", "/what", 0));
    assert_string_equal(world->outcome.body, "GET /what |/what -|127.0.0.1 0 |nobody -");
    assert_null(ask(world, "HEAD", "/what", 0));
    assert_string_equal(world->outcome.body, "");
    destroy_world(world);
}

static void test_every_form_of_answer_arrives(void **state)
{
    struct world *world = create_world();

    (void)state;
    (void)ask(world, "GET", "/buf", 0);
    assert_int_equal(world->outcome.status, 201);
    assert_string_equal(world->outcome.type, "none");
    assert_true(fl_str_has_prefix(world->outcome.body, "0123456789"));
    (void)ask(world, "GET", "/parts", 0);
    assert_string_equal(world->outcome.body, "partpart");
    (void)ask(world, "GET", "/parts?one", 0);
    assert_string_equal(world->outcome.body, "part");
    (void)ask(world, "HEAD", "/parts", 0);
    assert_string_equal(world->outcome.body, "");
    destroy_world(world);
}

static void test_an_answer_may_come_later(void **state)
{
    struct world *world = create_world();

    (void)state;
    for (int with_gone = 0; with_gone < 2; with_gone++) {
        assert_non_null(ask(world, "GET", with_gone ? "/later" : "/held", 0));
        step(world);
        assert_int_equal(world->outcome.count, 0);
        assert_int_equal(open_asks(world), 1);
        fl_http_respond(world->held, 200, "text/plain", "late", 4);
        assert_int_equal(world->outcome.count, 1);
        assert_string_equal(world->outcome.body, "late");
        step(world);
        assert_int_equal(open_asks(world), 0);
    }
    assert_int_equal(world->gone, 0);
    destroy_world(world);
}

static void test_streams_are_collected_up_to_a_bound(void **state)
{
    struct world *world = create_world();

    (void)state;
    assert_non_null(ask(world, "GET", "/stream", 10));
    assert_int_equal(fl_http_stream_queued(world->held), 0);
    assert_true(fl_http_stream_write_bytes(world->held, world->bytes));
    assert_int_equal(world->outcome.count, 0);
    fl_http_stream_end(world->held);
    assert_string_equal(world->outcome.body, "begin part");
    assert_int_equal(world->gone, 0);

    assert_non_null(ask(world, "GET", "/stream", 10));
    assert_true(fl_http_stream_write(world->held, "12345", 5));
    assert_int_equal(world->outcome.count, 1);
    assert_int_equal(world->outcome.code, FL_E_TOO_LARGE);
    assert_int_equal(world->gone, 0); /* never from inside a call */
    assert_true(fl_http_stream_write(world->held, "12345", 5));
    assert_true(fl_http_stream_queued(world->held) > 1000000); /* no use in going on */
    step(world);
    assert_int_equal(world->gone, 1);
    assert_int_equal(world->outcome.count, 1);
    assert_int_equal(open_asks(world), 0);
    destroy_world(world);
}

static void test_streams_are_refused_where_none_was_asked_for(void **state)
{
    struct world *world = create_world();

    (void)state;
    assert_null(ask(world, "GET", "/stream", 0));
    assert_int_equal(world->outcome.code, FL_E_METHOD_NOT_ALLOWED);
    assert_non_null(strstr(world->outcome.message, "GET /stream is a stream"));
    fl_http_stream_end(world->held); /* the owner does not know yet */
    step(world);
    assert_int_equal(world->gone, 0);
    assert_int_equal(open_asks(world), 0);
    assert_null(ask(world, "GET", "/stream", 0));
    step(world);
    assert_int_equal(world->gone, 1);
    destroy_world(world);
}

static void test_a_broken_answer_is_an_error(void **state)
{
    struct world *world = create_world();

    (void)state;
    (void)ask(world, "GET", "/later", 0);
    fl_http_abort(world->held);
    assert_int_equal(world->outcome.code, FL_E_UNAVAILABLE);
    step(world);
    assert_int_equal(world->gone, 0);
    assert_int_equal(open_asks(world), 0);
    destroy_world(world);
}

static void test_who_asked_may_leave(void **state)
{
    struct world *world = create_world();

    (void)state;
    fl_http_server_unask(ask(world, "GET", "/later", 0));
    step(world);
    assert_int_equal(world->gone, 1);
    assert_int_equal(world->outcome.count, 0);
    fl_http_server_unask(ask(world, "GET", "/held", 0)); /* will answer, not knowing */
    step(world);
    assert_int_equal(open_asks(world), 1);
    fl_http_respond(world->held, 200, NULL, "", 0);
    step(world);
    assert_int_equal(world->outcome.count, 0);
    assert_int_equal(open_asks(world), 0);
    destroy_world(world);
}

static void test_a_body_beyond_the_bound_is_refused(void **state)
{
    struct world *world = create_world();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = fl_bytes_new(NULL, 65);
    struct fl_http_ask asking = {.method = "POST", .target = "/what", .body = body};

    (void)state;
    memset(body->data, 'x', body->len);
    assert_null(fl_http_server_ask(world->server, &asking, answered, &world->outcome));
    assert_int_equal(world->outcome.code, FL_E_TOO_LARGE);
    destroy_world(world);
}

static void test_the_end_of_the_server_is_told(void **state)
{
    struct world *world = create_world();
    struct outcome held = {0};

    (void)state;
    (void)fl_http_server_ask(
        world->server, &(struct fl_http_ask){.method = "GET", .target = "/held"}, answered, &held);
    (void)ask(world, "GET", "/later", 0);
    fl_http_server_destroy(FL_TAKE(world->server));
    assert_int_equal(world->outcome.code, FL_E_UNAVAILABLE);
    assert_int_equal(held.code, FL_E_UNAVAILABLE);
    assert_int_equal(world->gone, 1);
    destroy_world(world);
}

static void test_a_drain_waits_for_what_is_under_way(void **state)
{
    struct world *world = create_world();

    (void)state;
    (void)ask(world, "GET", "/later", 0);
    fl_http_server_drain(world->server, 1000, drained, world);
    step(world);
    assert_int_equal(world->drained, 0);
    fl_http_respond(world->held, 200, NULL, "", 0);
    step(world);
    assert_int_equal(world->drained, 1);
    destroy_world(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_handler_sees_a_whole_request),
        cmocka_unit_test(test_every_form_of_answer_arrives),
        cmocka_unit_test(test_an_answer_may_come_later),
        cmocka_unit_test(test_streams_are_collected_up_to_a_bound),
        cmocka_unit_test(test_streams_are_refused_where_none_was_asked_for),
        cmocka_unit_test(test_a_broken_answer_is_an_error),
        cmocka_unit_test(test_who_asked_may_leave),
        cmocka_unit_test(test_a_body_beyond_the_bound_is_refused),
        cmocka_unit_test(test_the_end_of_the_server_is_told),
        cmocka_unit_test(test_a_drain_waits_for_what_is_under_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
