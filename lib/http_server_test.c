/* What the server promises to those who behave. http_hostile_test.c has the others. */
#include "lib/http_client.h"
#include "lib/http_test_rig.h"

static void on_gone(void *user)
{
    ((struct rig *)user)->gone++;
}

static void answer_held(void *user)
{
    struct rig *rig = user;

    fl_http_respond(rig->held, 200, "text/plain", "later", 5);
    rig->answered++;
}

static void echo(struct rig *rig, struct fl_http_request *request)
{
    size_t len;
    const char *body = fl_http_body(request, &len);

    (void)rig;
    assert_int_equal(body[len], '\0');
    fl_http_respond(request, 200, "application/octet-stream", body, len);
}

static void describe(struct rig *rig, struct fl_http_request *request)
{
    const char *header = fl_http_header(request, "x-test");
    const struct fl_tls_peer *peer = fl_http_peer(request);
    const char *text =
        fl_arena_printf(fl_http_arena(request), "%s|%s|%s|%s|%s|%s|%s|%s", fl_http_method(request),
                        fl_http_target(request), fl_http_path(request), fl_http_query(request),
                        fl_str_or(header, "-"), fl_http_peer_address(request),
                        peer->verified ? peer->common_name : "nobody",
                        peer->organization_count == 2 ? peer->organizations[1] : "-");

    (void)rig;
    fl_http_set_header(request, "X-Answer", "first");
    fl_http_set_header(request, "x-answer", "yes\r\nX-Evil: no");
    fl_http_add_header(request, "Warning", "a");
    fl_http_add_header(request, "Warning", "b");
    fl_http_respond(request, 201, "text/plain", text, strlen(text));
}

static void later(struct rig *rig, struct fl_http_request *request)
{
    rig->held = request;
    rig->timer = rig->timer ? rig->timer : fl_timer_create(rig->loop, answer_held, rig);
    fl_timer_arm(rig->timer, 30);
}

static void hold(struct rig *rig, struct fl_http_request *request)
{
    rig->held = request;
    fl_http_on_gone(request, on_gone, rig);
}

static void stream(struct rig *rig, struct fl_http_request *request)
{
    (void)rig;
    fl_http_stream_begin(request, 200, "text/plain");
    for (int i = 0; i < 2000; i++) {
        const char *line = fl_arena_printf(fl_http_arena(request), "line %d\n", i);

        assert_true(fl_http_stream_write(request, line, strlen(line)));
    }
    fl_http_stream_end(request);
}

static void watch(struct rig *rig, struct fl_http_request *request)
{
    hold(rig, request);
    fl_http_stream_begin(request, 200, "text/plain");
    assert_true(fl_http_stream_write(request, "begun\n", 6));
}

static void begin_held(void *user)
{
    struct rig *rig = user;

    fl_http_on_gone(rig->held, on_gone, rig);
    fl_http_stream_begin(rig->held, 200, "text/plain");
    rig->answered++;
}

static void watch_later(struct rig *rig, struct fl_http_request *request)
{
    rig->held = request;
    rig->timer = fl_timer_create(rig->loop, begin_held, rig);
    fl_timer_arm(rig->timer, 200);
}

static void big(struct rig *rig, struct fl_http_request *request)
{
    struct fl_buf buf;

    (void)rig;
    fl_buf_init(&buf, 0);
    while (buf.len < 4000000)
        fl_buf_printf(&buf, "%zu\n", buf.len);
    fl_http_respond_buf(request, 200, "text/plain", &buf);
}

static void parts(struct rig *rig, struct fl_http_request *request)
{
    struct fl_bytes *part[60];

    (void)rig;
    for (size_t i = 0; i < FL_COUNT_OF(part); i++) {
        part[i] = fl_bytes_new(NULL, i * 997);
        memset(part[i]->data, 'a' + (int)(i % 26), part[i]->len);
    }
    fl_http_respond_bytes(request, 200, "text/plain", part, FL_COUNT_OF(part));
    for (size_t i = 0; i < FL_COUNT_OF(part); i++)
        fl_bytes_unref(part[i]);
}

static void uploaded(struct rig *rig, struct fl_http_request *request)
{
    const char *text = fl_arena_printf(fl_http_arena(request), "%zu", rig->streamed);

    fl_http_respond(request, 200, "text/plain", text, strlen(text));
}

static void nothing(struct rig *rig, struct fl_http_request *request)
{
    (void)rig;
    fl_http_respond(request, 204, NULL, NULL, 0);
}

static void cut(struct rig *rig, struct fl_http_request *request)
{
    (void)rig;
    fl_http_stream_begin(request, 200, "text/plain");
    assert_true(fl_http_stream_write(request, "half", 4));
    fl_http_abort(request);
}

static const struct {
    const char *path;
    void (*handle)(struct rig *rig, struct fl_http_request *request);
} routes[] = {
    {"/echo", echo}, {"/describe", describe}, {"/later", later},     {"/hold", hold},
    {"/big", big},   {"/stream", stream},     {"/watch", watch},     {"/parts", parts},
    {"/cut", cut},   {"/upload", uploaded},   {"/nothing", nothing}, {"/watch-later", watch_later},
};

static void handler(void *user, struct fl_http_request *request)
{
    struct rig *rig = user;

    rig->handled++;
    for (size_t i = 0; i < FL_COUNT_OF(routes); i++) {
        if (fl_streq(fl_http_path(request), routes[i].path)) {
            routes[i].handle(rig, request);
            return;
        }
    }
    describe(rig, request);
}

static int count_upload(void *user, const void *data, size_t len)
{
    (void)data;
    ((struct rig *)user)->streamed += len;
    return 0;
}

static int refuse_upload(void *user, const void *data, size_t len)
{
    struct rig *rig = user;

    (void)data;
    rig->streamed += len;
    fl_http_respond(rig->held, 403, "text/plain", "no", 2);
    return -1;
}

static void begin(void *user, struct fl_http_request *request)
{
    struct rig *rig = user;

    rig->streamed = 0;
    rig->held = request;
    if (fl_streq(fl_http_path(request), "/upload")) {
        fl_http_limit_body(request, (size_t)1 << 30);
        fl_http_stream_body(request, count_upload, rig);
    } else if (fl_streq(fl_http_path(request), "/refuse")) {
        fl_http_stream_body(request, refuse_upload, rig);
    } else if (fl_streq(fl_http_path(request), "/small")) {
        fl_http_limit_body(request, 10);
    } else if (fl_streq(fl_http_path(request), "/secret")) {
        fl_http_respond(request, 401, "text/plain", "who?", 4);
    }
}

static struct rig *start(bool tls)
{
    return rig_start(&(struct fl_http_server_options){.handler = handler, .begin = begin}, tls);
}

/* Sends to a fresh connection, ends the sending side, expects all of `want` in order. */
static void expect(struct rig *rig, const char *request, const char *const *want)
{
    int fd = rig_connect(rig);
    char *reply, *at;

    rig_puts(fd, request);
    (void)shutdown(fd, SHUT_WR);
    reply = at = rig_read_all(fd);
    for (; *want; want++) {
        char *found = strstr(at, *want);

        if (!found)
            fail_msg("no \"%s\" in \"%s\"", *want, at);
        at = found + strlen(*want);
    }
    free(reply);
    (void)close(fd);
}
#define EXPECT(rig, request, ...) expect(rig, request, (const char *const[]){__VA_ARGS__, NULL})

static void test_requests_and_answers(void **state)
{
    struct rig *rig = start(false);

    (void)state;
    EXPECT(rig, "GET /describe?a=1&b HTTP/1.1\r\nHost: a\r\nX-Test:  one \r\nx-test: two\r\n\r\n",
           "HTTP/1.1 201 Created\r\n", "Date: ", " GMT\r\n", "Content-Type: text/plain\r\n",
           "x-answer: yes  X-Evil: no\r\n", "Warning: a\r\n", "Warning: b",
           "\r\n\r\nGET|/describe?a=1&b|/describe|a=1&b|one, two|127.0.0.1|nobody|-");
    EXPECT(rig, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
           "HTTP/1.1 200 OK\r\n", "Content-Length: 5", "\r\n\r\nhello");
    EXPECT(rig,
           "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
           "3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
           "Content-Length: 13", "\r\n\r\nabc0123456789");
    EXPECT(rig, "HEAD /echo HTTP/1.1\r\nHost: a\r\n\r\nGET /nothing HTTP/1.1\r\nHost: a\r\n\r\n",
           "Content-Length: 0", "\r\n\r\nHTTP/1.1 204 No Content");
    EXPECT(rig, "HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\nGET /echo HTTP/1.1\r\nHost: a\r\n\r\n",
           "Transfer-Encoding: chunked", "\r\n\r\nHTTP/1.1 200 OK");
    EXPECT(rig, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS|*|*||");
    EXPECT(rig, "GET http://x.y:1/a?b HTTP/1.1\r\nHost: a\r\n\r\n", "GET|/a?b|/a|b|");
    EXPECT(rig, "\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n", "GET|/x|");
    rig_stop(rig);
}

static void test_connections_are_kept_or_closed(void **state)
{
    struct rig *rig = start(false);
    int fd = rig_connect(rig);

    (void)state;
    for (int i = 0; i < 3; i++) {
        rig_puts(fd, "GET /describe HTTP/1.1\r\nHost: a\r\n\r\n");
        free(rig_read_until(fd, "nobody|-"));
    }
    rig_puts(fd, "GET /describe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    free(rig_read_until(fd, "Connection: close"));
    free(rig_read_until(fd, "nobody|-"));
    assert_true(rig_is_closed(fd));
    (void)close(fd);
    assert_int_equal(rig_stats(rig).connections_total, 1);
    assert_int_equal(rig_stats(rig).requests_total, 4);

    fd = rig_connect(rig);
    rig_puts(fd, "GET /describe HTTP/1.0\r\n\r\n");
    free(rig_read_until(fd, "nobody|-"));
    assert_true(rig_is_closed(fd));
    (void)close(fd);
    fd = rig_connect(rig);
    rig_puts(fd, "GET /describe HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    free(rig_read_until(fd, "Connection: keep-alive"));
    rig_puts(fd, "GET /describe HTTP/1.0\r\n\r\n");
    free(rig_read_until(fd, "nobody|-"));
    (void)close(fd);
    rig_stop(rig);
}

static void test_pipelined_requests_are_answered_in_order(void **state)
{
    struct rig *rig = start(false);
    int fd = rig_connect(rig);
    struct fl_buf requests;
    char *reply, *at;

    (void)state;
    fl_buf_init(&requests, 0);
    for (int i = 0; i < 20; i++)
        fl_buf_printf(&requests,
                      "GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"
                      "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n%02d",
                      i % 3 == 0 ? "later" : "describe", i);
    rig_puts(fd, fl_buf_text(&requests));
    (void)shutdown(fd, SHUT_WR);
    reply = at = rig_read_all(fd);
    for (int i = 0; i < 20; i++) {
        char want[32];

        (void)snprintf(want, sizeof(want), "\r\n\r\n%02d", i);
        at = strstr(at, i % 3 == 0 ? "later" : "GET|/describe");
        assert_non_null(at);
        at = strstr(at, want);
        assert_non_null(at);
    }
    free(reply);
    fl_buf_finish(&requests);
    (void)close(fd);
    rig_stop(rig);
}

static void test_bytes_may_come_one_by_one(void **state)
{
    static const char request[] = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
                                  "\r\n5\r\nhello\r\n0\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    struct rig *rig = start(false);
    int fd = rig_connect(rig), on = 1;

    (void)state;
    (void)setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof(on));
    for (size_t i = 0; i < sizeof(request) - 1; i++) {
        assert_true(rig_send(fd, request + i, 1));
        (void)usleep(500);
    }
    free(rig_read_until(fd, "\r\n\r\nhello"));
    free(rig_read_until(fd, "GET|/x|"));
    (void)close(fd);
    rig_stop(rig);
}

static void test_100_continue(void **state)
{
    struct rig *rig = start(false);
    int fd = rig_connect(rig);

    (void)state;
    rig_puts(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
                 "Expect: 100-continue\r\n\r\n");
    free(rig_read_until(fd, "HTTP/1.1 100 Continue\r\n\r\n"));
    rig_puts(fd, "abc");
    free(rig_read_until(fd, "\r\n\r\nabc"));
    /* Refused before the body is sent: no 100. */
    rig_puts(fd, "POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n"
                 "Expect: 100-continue\r\n\r\n");
    free(rig_read_until(fd, "HTTP/1.1 413 "));
    (void)close(fd);
    rig_stop(rig);
}

static void test_an_answer_may_come_before_the_body(void **state)
{
    struct rig *rig = start(false);

    (void)state;
    EXPECT(rig, "POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
           "HTTP/1.1 401 ", "Connection: close", "who?");
    EXPECT(rig, "GET /secret HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
           "HTTP/1.1 401 ", "who?HTTP/1.1 201");
    EXPECT(rig, "POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
           "HTTP/1.1 403 ", "Connection: close", "\r\n\r\nno");
    rig_stop(rig);
}

static void test_a_stream_is_chunked_or_ends_with_the_connection(void **state)
{
    struct rig *rig = start(false);

    (void)state;
    EXPECT(rig, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
           "Transfer-Encoding: chunked", "\r\n\r\n7\r\nline 0\n\r\n", "a\r\nline 1999\n\r\n",
           "0\r\n\r\nHTTP/1.1 201");
    EXPECT(rig, "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "Connection: close",
           "\r\n\r\nline 0\nline 1\n", "line 1999\n");
    rig_stop(rig);
}

static void test_an_aborted_stream_has_no_end(void **state)
{
    struct rig *rig = start(false);
    int fd = rig_connect(rig);
    char *reply;

    (void)state;
    rig_puts(fd, "GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
    reply = rig_read_all(fd);
    assert_null(strstr(reply, "0\r\n\r\n"));
    free(reply);
    (void)close(fd);
    rig_stop(rig);
}

static void test_gone_is_told(void **state)
{
    struct rig *rig = start(false);
    struct linger reset = {.l_onoff = 1};
    int fd = rig_connect(rig);

    (void)state;
    /* A stream's reader that ends its side. */
    rig_puts(fd, "GET /watch HTTP/1.1\r\nHost: a\r\n\r\n");
    free(rig_read_until(fd, "begun"));
    assert_int_equal(rig_counts(rig).gone, 0);
    (void)shutdown(fd, SHUT_WR);
    RIG_WAIT_FOR(rig_counts(rig).gone == 1);
    (void)close(fd);
    /* A peer that resets while the answer is made. */
    fd = rig_connect(rig);
    rig_puts(fd, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    RIG_WAIT_FOR(rig_counts(rig).handled == 2);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    (void)close(fd);
    RIG_WAIT_FOR(rig_counts(rig).gone == 2);
    RIG_WAIT_FOR(rig_stats(rig).connections_open == 0);
    rig_stop(rig);
}

static void test_gone_is_told_where_the_stream_began_too_late(void **state)
{
    struct rig *rig = start(false);
    int fd = rig_connect(rig);

    (void)state;
    rig_puts(fd, "GET /watch-later HTTP/1.1\r\nHost: a\r\n\r\n");
    (void)close(fd);
    RIG_WAIT_FOR(rig_counts(rig).answered == 1);
    RIG_WAIT_FOR(rig_counts(rig).gone == 1);
    RIG_WAIT_FOR(rig_stats(rig).connections_open == 0);
    rig_stop(rig);
}

static void test_an_answer_to_nobody_is_harmless(void **state)
{
    struct rig *rig = start(false);
    struct linger reset = {.l_onoff = 1};
    int fd = rig_connect(rig);

    (void)state;
    rig_puts(fd, "GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
    RIG_WAIT_FOR(rig_counts(rig).handled == 1);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    (void)close(fd);
    RIG_WAIT_FOR(rig_counts(rig).answered == 1);
    RIG_WAIT_FOR(rig_stats(rig).connections_open == 0);
    rig_stop(rig);
}

static void test_large_answers(void **state)
{
    struct rig *rig = start(false);
    int fd = rig_connect(rig);
    char *reply, *body;
    size_t total = 0;

    (void)state;
    rig_puts(fd, "GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    reply = rig_read_all(fd);
    body = strstr(reply, "\r\n\r\n") + 4;
    for (size_t at = 0; body[at]; at = total) {
        char number[24];

        (void)snprintf(number, sizeof(number), "%zu\n", at);
        assert_memory_equal(body + at, number, strlen(number));
        total = at + strlen(number);
    }
    assert_true(total >= 4000000);
    free(reply);
    (void)close(fd);
    rig_stop(rig);
}

/* Over TLS, with our own client. */

static struct fl_http_client *connect_client(struct rig *rig, bool with_certificate)
{
    FL_CLEANUP(fl_freep)
    char *url = fl_asprintf("https://127.0.0.1:%u", fl_http_server_port(rig->server));
    struct fl_http_client_options options = {.base_url = url, .ca_file = rig->ca};
    struct fl_http_client *client = NULL;

    if (with_certificate) {
        options.cert_file = rig->client_cert;
        options.key_file = rig->client_key;
    }
    assert_int_equal(fl_http_client_create(&options, &client, NULL), 0);
    return client;
}

static struct fl_bytes *call(struct fl_http_client *client, const char *method, const char *target,
                             const void *body, size_t len, int want)
{
    struct fl_error err = {0};
    struct fl_bytes *answer = NULL;
    int status = 0;

    if (fl_http_call(client,
                     &(struct fl_http_call){.method = method,
                                            .target = target,
                                            .body = body,
                                            .body_len = len,
                                            .timeout_ms = RIG_TIMEOUT_SECONDS * 1000},
                     &status, &answer, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(status, want);
    return answer;
}

static void test_tls_knows_who_calls(void **state)
{
    struct rig *rig = start(true);

    (void)state;
    for (int with = 0; with < 2; with++) {
        FL_CLEANUP(fl_http_client_destroyp)
        struct fl_http_client *client = connect_client(rig, with);

        for (int i = 0; i < 3; i++) {
            struct fl_bytes *answer = call(client, "GET", "/describe", NULL, 0, 201);

            assert_non_null(strstr(answer->data, with ? "|admin|developers" : "|nobody|-"));
            fl_bytes_unref(answer);
        }
    }
    assert_int_equal(rig_stats(rig).connections_total, 2);
    rig_stop(rig);
}

static struct fl_bytes *read_pem(const char *path)
{
    struct fl_bytes *pem = NULL;

    assert_int_equal(fl_file_read(path, (size_t)64 * 1024, &pem, NULL), 0);
    return pem;
}

/* As a kubeconfig has them; text wins over a file, whatever the file is. */
static void test_the_client_takes_certificates_as_text(void **state)
{
    struct rig *rig = start(true);
    FL_CLEANUP(fl_http_client_destroyp) struct fl_http_client *client = NULL;
    FL_CLEANUP(fl_freep)
    char *url = fl_asprintf("https://127.0.0.1:%u", fl_http_server_port(rig->server));
    struct fl_bytes *ca = read_pem(rig->ca), *cert = read_pem(rig->client_cert),
                    *key = read_pem(rig->client_key);
    const struct fl_http_client_options options = {.base_url = url,
                                                   .ca_pem = ca->data,
                                                   .ca_file = "/nowhere",
                                                   .cert_pem = cert->data,
                                                   .cert_file = "/nowhere",
                                                   .key_pem = key->data,
                                                   .key_file = "/nowhere"};

    (void)state;
    assert_int_equal(fl_http_client_create(&options, &client, NULL), 0);
    fl_bytes_unref(ca); /* the client has its own */
    fl_bytes_unref(cert);
    fl_bytes_unref(key);
    for (int i = 0; i < 2; i++) {
        struct fl_bytes *answer = call(client, "GET", "/describe", NULL, 0, 201);

        assert_non_null(strstr(answer->data, "|admin|developers"));
        fl_bytes_unref(answer);
    }
    rig_stop(rig);
}

static void test_tls_carries_large_bodies_both_ways(void **state)
{
    struct rig *rig = start(true);
    FL_CLEANUP(fl_http_client_destroyp) struct fl_http_client *client = connect_client(rig, false);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = fl_bytes_new(NULL, 3000000);
    struct fl_bytes *answer;
    size_t at = 0;

    (void)state;
    rig->env.random(NULL, body->data, body->len);
    answer = call(client, "PUT", "/echo", body->data, body->len, 200);
    assert_int_equal(answer->len, body->len);
    assert_memory_equal(answer->data, body->data, body->len);
    fl_bytes_unref(answer);
    answer = call(client, "GET", "/parts", NULL, 0, 200);
    for (size_t i = 0; i < 60; i++)
        for (size_t k = 0; k < i * 997; k++)
            assert_int_equal(answer->data[at++], 'a' + (int)(i % 26));
    assert_int_equal(answer->len, at);
    fl_bytes_unref(answer);
    answer = call(client, "POST", "/upload", body->data, body->len, 200);
    assert_string_equal(answer->data, "3000000");
    fl_bytes_unref(answer);
    fl_bytes_unref(call(client, "HEAD", "/big", NULL, 0, 200));
    fl_bytes_unref(call(client, "GET", "/big", NULL, 0, 200));
    assert_int_equal(rig_stats(rig).connections_total, 1);
    assert_int_equal(rig_stats(rig).bytes_queued, 0);
    rig_stop(rig);
}

static int check_line(void *user, const char *line, size_t len, struct fl_error *err)
{
    int *count = user;
    char want[24];

    (void)err;
    (void)snprintf(want, sizeof(want), "line %d", *count);
    assert_int_equal(len, strlen(want));
    assert_string_equal(line, want);
    (*count)++;
    return *count == 1500 ? 7 : 0;
}

static int any_line(void *user, const char *line, size_t len, struct fl_error *err)
{
    (void)line;
    (void)len;
    (void)err;
    (*(int *)user)++;
    return 0;
}

static void test_the_client_streams_lines(void **state)
{
    struct rig *rig = start(true);
    FL_CLEANUP(fl_http_client_destroyp) struct fl_http_client *client = connect_client(rig, false);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    struct fl_error err = {0};
    int count = 0, status = 0;

    (void)state;
    assert_int_equal(fl_http_stream(client,
                                    &(struct fl_http_call){.method = "GET", .target = "/stream"},
                                    check_line, &count, &status, &body, &err),
                     7);
    assert_int_equal(count, 1500);
    assert_int_equal(status, 200);
    /* Another status than 200 is no stream. */
    assert_int_equal(fl_http_stream(client,
                                    &(struct fl_http_call){.method = "GET", .target = "/secret"},
                                    check_line, &count, &status, &body, &err),
                     0);
    assert_int_equal(status, 401);
    assert_string_equal(body->data, "who?");
    /* Silence has an end. */
    count = 0;
    assert_int_equal(
        fl_http_stream(
            client, &(struct fl_http_call){.method = "GET", .target = "/watch", .timeout_ms = 300},
            any_line, &count, &status, NULL, &err),
        FL_E_TIMEOUT);
    assert_int_equal(count, 1);
    RIG_WAIT_FOR(rig_counts(rig).gone == 1);
    /* So has a stream with a bound on the whole of it. */
    assert_int_equal(
        fl_http_stream(client,
                       &(struct fl_http_call){.method = "GET", .target = "/watch", .total_ms = 200},
                       any_line, &count, &status, NULL, &err),
        FL_E_TIMEOUT);
    assert_int_equal(count, 2);
    rig_stop(rig);
}

static void test_the_client_says_what_went_wrong(void **state)
{
    struct rig *rig = start(true);
    FL_CLEANUP(fl_http_client_destroyp) struct fl_http_client *client = NULL;
    FL_CLEANUP(fl_freep)
    char *url = fl_asprintf("https://127.0.0.1:%u", fl_http_server_port(rig->server));
    struct fl_http_call get = {.method = "GET", .target = "/hold"};
    struct fl_error err = {0};
    int status = 0;

    (void)state;
    /* A server that nobody vouches for. */
    assert_int_equal(
        fl_http_client_create(&(struct fl_http_client_options){.base_url = url}, &client, NULL), 0);
    assert_int_equal(fl_http_call(client, &get, &status, NULL, NULL, &err), FL_E_UNAVAILABLE);
    fl_http_client_destroy(client);
    client = connect_client(rig, true);
    get.timeout_ms = 200;
    assert_int_equal(fl_http_call(client, &get, &status, NULL, NULL, &err), FL_E_TIMEOUT);
    fl_http_client_destroy(client);
    client = NULL;
    assert_int_equal(fl_http_client_create(
                         &(struct fl_http_client_options){
                             .base_url = url, .ca_file = rig->ca, .max_response_bytes = 1000000},
                         &client, NULL),
                     0);
    get.target = "/big";
    get.timeout_ms = 0;
    assert_int_equal(fl_http_call(client, &get, &status, NULL, NULL, &err), FL_E_TOO_LARGE);
    fl_http_client_destroy(client);
    client = NULL;
    assert_int_equal(
        fl_http_client_create(&(struct fl_http_client_options){.base_url = "http://127.0.0.1:1"},
                              &client, NULL),
        0);
    assert_int_equal(fl_http_call(client, &get, &status, NULL, NULL, &err), FL_E_UNAVAILABLE);
    rig_stop(rig);
}

/* Draining. */

static void on_drained(void *user)
{
    ((struct rig *)user)->answered = 100;
}

static void drain(struct rig *rig, void *user)
{
    fl_http_server_drain(rig->server, *(int *)user, on_drained, rig);
}

static void test_draining_lets_answers_finish(void **state)
{
    struct rig *rig = start(false);
    int busy = rig_connect(rig), idle = rig_connect(rig), deadline_ms = RIG_TIMEOUT_SECONDS * 1000;

    (void)state;
    rig_puts(idle, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    free(rig_read_until(idle, "nobody|-"));
    rig_puts(busy, "GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
    RIG_WAIT_FOR(rig_counts(rig).handled == 2);
    rig_on_loop(rig, drain, &deadline_ms);
    assert_true(rig_is_closed(idle));
    free(rig_read_until(busy, "Connection: close"));
    free(rig_read_until(busy, "later"));
    assert_true(rig_is_closed(busy));
    RIG_WAIT_FOR(rig_counts(rig).answered == 100);
    (void)close(busy);
    (void)close(idle);
    rig_stop(rig);
}

static void leave(struct rig *rig, void *user)
{
    (void)user;
    fl_http_server_leave(rig->server);
}

/* Who is connected may still ask, once; who comes later may not. */
static void test_leaving_answers_what_is_on_its_way(void **state)
{
    struct rig *rig = start(false);
    int idle = rig_connect(rig), waiting = rig_connect(rig),
        deadline_ms = RIG_TIMEOUT_SECONDS * 1000;

    (void)state;
    rig_puts(idle, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    free(rig_read_until(idle, "nobody|-"));
    rig_on_loop(rig, leave, NULL);
    rig_puts(idle, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    free(rig_read_until(idle, "Connection: close"));
    free(rig_read_until(idle, "nobody|-"));
    assert_true(rig_is_closed(idle));
    rig_puts(waiting, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    free(rig_read_until(waiting, "Connection: close"));
    free(rig_read_until(waiting, "nobody|-"));
    assert_true(rig_is_closed(waiting));
    rig_on_loop(rig, drain, &deadline_ms);
    RIG_WAIT_FOR(rig_counts(rig).answered == 100);
    (void)close(waiting);
    (void)close(idle);
    rig_stop(rig);
}

static void test_draining_has_a_deadline(void **state)
{
    struct rig *rig = start(false);
    int fd = rig_connect(rig), deadline_ms = 50;

    (void)state;
    rig_puts(fd, "GET /watch HTTP/1.1\r\nHost: a\r\n\r\n");
    free(rig_read_until(fd, "begun"));
    rig_on_loop(rig, drain, &deadline_ms);
    RIG_WAIT_FOR(rig_counts(rig).answered == 100);
    assert_int_equal(rig_counts(rig).gone, 1);
    (void)close(fd);
    rig_stop(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_and_answers),
        cmocka_unit_test(test_connections_are_kept_or_closed),
        cmocka_unit_test(test_pipelined_requests_are_answered_in_order),
        cmocka_unit_test(test_bytes_may_come_one_by_one),
        cmocka_unit_test(test_100_continue),
        cmocka_unit_test(test_an_answer_may_come_before_the_body),
        cmocka_unit_test(test_a_stream_is_chunked_or_ends_with_the_connection),
        cmocka_unit_test(test_an_aborted_stream_has_no_end),
        cmocka_unit_test(test_gone_is_told),
        cmocka_unit_test(test_gone_is_told_where_the_stream_began_too_late),
        cmocka_unit_test(test_an_answer_to_nobody_is_harmless),
        cmocka_unit_test(test_large_answers),
        cmocka_unit_test(test_tls_knows_who_calls),
        cmocka_unit_test(test_the_client_takes_certificates_as_text),
        cmocka_unit_test(test_tls_carries_large_bodies_both_ways),
        cmocka_unit_test(test_the_client_streams_lines),
        cmocka_unit_test(test_the_client_says_what_went_wrong),
        cmocka_unit_test(test_draining_lets_answers_finish),
        cmocka_unit_test(test_leaving_answers_what_is_on_its_way),
        cmocka_unit_test(test_draining_has_a_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
