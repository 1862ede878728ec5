/* Clients that are slow, broken or mean: each costs little, and gets its status or is closed. */
#include "lib/http_test_rig.h"

#include <sys/resource.h>

static void count_gone(void *user)
{
    ((struct rig *)user)->gone++;
}

/* Until the queue is full. */
static void fill(void *user)
{
    struct fl_http_request *request = user;
    char line[1000];

    memset(line, 'x', sizeof(line));
    while (fl_http_stream_write(request, line, sizeof(line)))
        ;
    assert_true(fl_http_stream_queued(request) <= 1000000);
}

/* A stream whose queue is full again whenever the kernel has found room for all of it. */
static void flood(struct rig *rig, struct fl_http_request *request)
{
    fl_http_on_gone(request, count_gone, rig);
    fl_http_on_drained(request, fill, request);
    fl_http_stream_begin(request, 200, "text/plain");
    fill(request);
    rig->handled++;
}

static void hold(struct rig *rig, struct fl_http_request *request)
{
    fl_http_on_gone(request, count_gone, rig);
    rig->handled++;
}

static void handler(void *user, struct fl_http_request *request)
{
    if (fl_streq(fl_http_path(request), "/flood"))
        flood(user, request);
    else if (fl_streq(fl_http_path(request), "/hold"))
        hold(user, request);
    else
        fl_http_respond(request, 200, "text/plain", "ok", 2);
}

static void error_body(void *user, int status, const char *detail, struct fl_buf *body,
                       const char **ret_content_type)
{
    (void)user;
    fl_buf_printf(body, "{\"kind\":\"Status\",\"code\":%d,\"message\":\"%s\"}", status, detail);
    *ret_content_type = "application/json";
}

/* `patience_ms` is how long a client may dawdle: long where a test is about something else, since
 * a busy machine makes honest clients slow. */
static struct rig *start_with(bool tls, int64_t patience_ms)
{
    return rig_start(&(struct fl_http_server_options){.handler = handler,
                                                      .error_body = error_body,
                                                      .max_header_bytes = 8192,
                                                      .max_headers = 50,
                                                      .max_body_bytes = 1000000,
                                                      .max_queued_bytes = 1000000,
                                                      .max_connections = 1000,
                                                      .header_timeout_ms = patience_ms,
                                                      .body_timeout_ms = patience_ms,
                                                      .idle_timeout_ms = 2 * patience_ms,
                                                      .write_timeout_ms = patience_ms},
                     tls);
}

static struct rig *start(bool tls)
{
    return start_with(tls, 300);
}

static long resident_kib(void)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    const char *line;

    assert_int_equal(fl_file_read("/proc/self/status", 65536, &text, NULL), 0);
    line = strstr(text->data, "VmRSS:");
    return line ? strtol(line + 6, NULL, 10) : 0;
}

#define ASK(rig, text) rig_ask(rig, text, strlen(text))

static void test_errors_have_our_body(void **state)
{
    struct rig *rig = start(false);
    int fd = rig_connect(rig);
    char *reply;

    (void)state;
    rig_puts(fd, "GET / HTTP/1.1\r\n\r\n");
    reply = rig_read_all(fd);
    assert_non_null(strstr(reply, "HTTP/1.1 400 Bad Request\r\n"));
    assert_non_null(strstr(reply, "Content-Type: application/json\r\n"));
    assert_non_null(strstr(reply, "Connection: close\r\n"));
    assert_non_null(strstr(reply, "\r\n\r\n{\"kind\":\"Status\",\"code\":400,"));
    free(reply);
    (void)close(fd);
    rig_stop(rig);
}

static void test_garbage_is_refused_at_once(void **state)
{
    struct rig *rig = start(false);
    char noise[4096];

    (void)state;
    assert_int_equal(ASK(rig, "\x16\x03\x01 a TLS hello"), 400);
    assert_int_equal(ASK(rig, "hello\n"), 400);
    assert_int_equal(ASK(rig, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"), 501);
    assert_int_equal(ASK(rig, "GET / HTTP/3.0\r\nHost: a\r\n\r\n"), 505);
    assert_int_equal(
        ASK(rig, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), 400);
    for (int i = 0; i < 50; i++) {
        int status;

        rig->env.random(NULL, noise, sizeof(noise));
        status = rig_ask(rig, noise, sizeof(noise));
        assert_true(status == 400 || status == 408);
    }
    RIG_WAIT_FOR(rig_stats(rig).connections_open == 0);
    rig_stop(rig);
}

static void test_headers_have_bounds(void **state)
{
    struct rig *rig = start(false);
    struct fl_buf text;

    (void)state;
    fl_buf_init(&text, 0);
    fl_buf_puts(&text, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    while (text.len < 100000)
        fl_buf_putc(&text, 'x');
    assert_int_equal(rig_ask(rig, text.data, text.len), 431);
    fl_buf_clear(&text);
    fl_buf_puts(&text, "GET /");
    while (text.len < 100000)
        fl_buf_putc(&text, 'x');
    assert_int_equal(rig_ask(rig, text.data, text.len), 414);
    fl_buf_clear(&text);
    fl_buf_puts(&text, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < 60; i++)
        fl_buf_puts(&text, "X: y\r\n");
    fl_buf_puts(&text, "\r\n");
    assert_int_equal(rig_ask(rig, text.data, text.len), 431);
    fl_buf_finish(&text);
    rig_stop(rig);
}

/* Sends `head` and then `total` bytes as fast as they are taken; the status that comes. */
static int send_much(struct rig *rig, const char *head, const char *piece, size_t piece_len,
                     size_t total)
{
    int fd = rig_connect(rig), status;
    char *reply;

    rig_puts(fd, head);
    for (size_t sent = 0; sent < total; sent += piece_len)
        if (!rig_send(fd, piece, piece_len))
            break;
    reply = rig_read_all(fd);
    status = rig_status(reply);
    free(reply);
    (void)close(fd);
    return status;
}

static void test_bodies_have_bounds(void **state)
{
    struct rig *rig = start_with(false, 30000);
    FL_CLEANUP(fl_freep) char *zeros = fl_calloc(1, 100000);
    FL_CLEANUP(fl_freep) char *chunk = fl_calloc(1, 100010);
    long before = resident_kib();

    (void)state;
    /* The answer survives although the whole body is sent without a look at it. */
    assert_int_equal(send_much(rig,
                               "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n",
                               zeros, 100000, 100000000),
                     413);
    memcpy(chunk, "186a0\r\n", 7);
    memcpy(chunk + 7 + 100000, "\r\n", 2);
    assert_int_equal(send_much(rig,
                               "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                               chunk, 100009, 100009000),
                     413);
    /* One byte a chunk. */
    assert_int_equal(send_much(rig,
                               "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                               "1\r\nx\r\n", 6, 7000000),
                     413);
    assert_true(resident_kib() - before < 64 * 1024);
    assert_int_equal(rig_stats(rig).bytes_queued, 0);
    rig_stop(rig);
}

/* Each body is within its bound, all together are not. */
static void test_all_bodies_together_have_a_bound(void **state)
{
    struct rig *rig = rig_start(
        &(struct fl_http_server_options){.handler = handler, .max_buffered_bytes = 3000000}, false);
    FL_CLEANUP(fl_freep) char *zeros = fl_calloc(1, 900000);
    int fds[10], refused = 0;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(fds); i++) {
        fds[i] = rig_connect(rig);
        rig_puts(fds[i], "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900001\r\n\r\n");
        (void)rig_send(fds[i], zeros, 900000);
    }
    RIG_WAIT_FOR(rig_stats(rig).refused_total >= 6);
    for (size_t i = 0; i < FL_COUNT_OF(fds); i++) {
        char *reply;

        (void)rig_send(fds[i], "x", 1);
        reply = rig_read_until(fds[i], "\r\n\r\n");
        assert_true(rig_status(reply) == 200 || rig_status(reply) == 503);
        refused += rig_status(reply) == 503;
        free(reply);
        (void)close(fds[i]);
    }
    assert_int_equal(refused, (int)rig_stats(rig).refused_total);
    RIG_WAIT_FOR(rig_stats(rig).connections_open == 0);
    /* The bound is free again. */
    assert_int_equal(ASK(rig, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
                              "Connection: close\r\n\r\nx"),
                     200);
    rig_stop(rig);
}

/* Drips `text` with a pause after each byte until the server has had enough. */
static int drip(struct rig *rig, const char *start_text, const char *text, unsigned pause_ms)
{
    int fd = rig_connect(rig), status;
    char *reply;

    rig_puts(fd, start_text);
    for (; *text; text++) {
        if (!rig_send(fd, text, 1))
            break;
        (void)usleep(pause_ms * 1000);
    }
    reply = rig_read_all(fd);
    status = rig_status(reply);
    free(reply);
    (void)close(fd);
    return status;
}

static void test_slow_clients_run_out_of_time(void **state)
{
    static const char many[] =
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    struct rig *rig = start(false);

    (void)state;
    assert_int_equal(drip(rig, "GET / HTTP/1.1\r\nX: ", many, 20), 408);
    assert_int_equal(drip(rig, "G", "", 0), 408);
    assert_int_equal(
        drip(rig, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n", many, 20), 408);
    assert_int_equal(
        drip(rig, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", "x", 0),
        408);
    /* Who says nothing is closed without a word, also after a request. */
    assert_int_equal(drip(rig, "", "", 0), 0);
    assert_int_equal(drip(rig, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "", 0), 200);
    RIG_WAIT_FOR(rig_stats(rig).connections_open == 0);
    rig_stop(rig);
}

static void test_half_closed_requests(void **state)
{
    static const char *const halves[] = {
        "", "GET / HT", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"};
    struct rig *rig = start(false);

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(halves); i++) {
        int fd = rig_connect(rig);

        rig_puts(fd, halves[i]);
        (void)shutdown(fd, SHUT_WR);
        assert_true(rig_is_closed(fd));
        (void)close(fd);
    }
    RIG_WAIT_FOR(rig_stats(rig).connections_open == 0);
    rig_stop(rig);
}

static void test_a_slow_reader_is_cut_off(void **state)
{
    struct rig *rig = start(false);
    int fd = rig_connect(rig);

    (void)state;
    rig_puts(fd, "GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
    RIG_WAIT_FOR(rig_counts(rig).handled == 1);
    assert_true(rig_stats(rig).bytes_queued <= 1000000);
    RIG_WAIT_FOR(rig_counts(rig).gone == 1); /* nothing was read: write_timeout_ms */
    RIG_WAIT_FOR(rig_stats(rig).connections_open == 0);
    assert_int_equal(rig_stats(rig).bytes_queued, 0);
    (void)close(fd);
    rig_stop(rig);
}

/* A pipeline that never reads an answer: requests behind it are not taken. */
static void test_a_pipeline_without_end_is_bounded(void **state)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    struct rig *rig = start(false);
    struct timeval timeout = {.tv_usec = 200000};
    int fd = rig_connect(rig);
    long before = resident_kib();
    size_t sent = 0;

    (void)state;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    rig_puts(fd, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    while (sent < 50000000 && rig_send(fd, request, sizeof(request) - 1))
        sent += sizeof(request) - 1;
    assert_true(sent < 50000000);
    assert_true(resident_kib() - before < 16 * 1024);
    assert_int_equal(rig_counts(rig).handled, 1);
    (void)close(fd);
    rig_stop(rig);
}

static void allow_descriptors(rlim_t count)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = count < limit.rlim_max ? count : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* 2,000 idle connections against a bound of 1,000: the newest live. */
static void test_idle_connections_make_room(void **state)
{
    static int fds[2000];
    struct rig *rig;

    (void)state;
    allow_descriptors(8192);
    rig = rig_start(&(struct fl_http_server_options){.handler = handler, .max_connections = 1000},
                    false);
    for (size_t i = 0; i < FL_COUNT_OF(fds); i++)
        fds[i] = rig_connect(rig);
    RIG_WAIT_FOR(rig_stats(rig).connections_total == FL_COUNT_OF(fds));
    assert_int_equal(rig_stats(rig).connections_open, 1000);
    assert_int_equal(rig_stats(rig).refused_total, 0);
    assert_true(rig_is_closed(fds[0]) && rig_is_closed(fds[999]));
    for (size_t i = 1000; i < FL_COUNT_OF(fds); i += 333) {
        rig_puts(fds[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        free(rig_read_until(fds[i], "ok"));
    }
    for (size_t i = 0; i < FL_COUNT_OF(fds); i++)
        (void)close(fds[i]);
    RIG_WAIT_FOR(rig_stats(rig).connections_open == 0);
    rig_stop(rig);
}

/* All connections are busy: new ones are told so, and most of many are not even heard. */
static void test_busy_connections_are_not_sacrificed(void **state)
{
    struct rig *rig = rig_start(
        &(struct fl_http_server_options){.handler = handler, .max_connections = 10}, false);
    int busy[10], extra[200], refused = 0;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(busy); i++) {
        busy[i] = rig_connect(rig);
        rig_puts(busy[i], "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    RIG_WAIT_FOR(rig_counts(rig).handled == 10);
    for (size_t i = 0; i < FL_COUNT_OF(extra); i++)
        extra[i] = rig_connect(rig);
    RIG_WAIT_FOR(rig_stats(rig).refused_total == FL_COUNT_OF(extra));
    for (size_t i = 0; i < FL_COUNT_OF(extra); i++) {
        char *reply = rig_read_all(extra[i]);

        assert_true(rig_status(reply) == 503 || !*reply);
        refused += rig_status(reply) == 503;
        free(reply);
        (void)close(extra[i]);
    }
    assert_true(refused > 0);
    assert_int_equal(rig_counts(rig).gone, 0);
    (void)close(busy[0]);
    rig_stop(rig);
}

static void use_up_descriptors(struct rig *rig, void *user)
{
    struct rlimit *saved = user, limit;
    int fd = dup(0);

    (void)rig;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, saved), 0);
    limit = *saved;
    limit.rlim_cur = (rlim_t)fd; /* the next free one is the first that is forbidden */
    (void)close(fd);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void test_running_out_of_descriptors(void **state)
{
    struct rig *rig = start(false);
    struct rlimit saved;
    int busy = rig_connect(rig), fd;
    clock_t before;

    (void)state;
    rig_puts(busy, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    RIG_WAIT_FOR(rig_counts(rig).handled == 1);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    rig_on_loop(rig, use_up_descriptors, &saved);
    {
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_port = htons(fl_http_server_port(rig->server)),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    }
    before = clock();
    (void)usleep(300000);
    assert_true(clock() - before < CLOCKS_PER_SEC / 10); /* it waits, and does not spin */
    assert_int_equal(rig_stats(rig).connections_total, 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &saved), 0);
    rig_puts(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    free(rig_read_until(fd, "ok"));
    (void)close(fd);
    (void)close(busy);
    rig_stop(rig);
}

/* TLS. */

static void test_garbage_on_the_tls_port(void **state)
{
    struct rig *rig = start(true);
    char noise[4096];

    (void)state;
    assert_int_equal(ASK(rig, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    for (int i = 0; i < 50; i++) {
        rig->env.random(NULL, noise, sizeof(noise));
        assert_int_equal(rig_ask(rig, noise, sizeof(noise)), 0);
    }
    /* A handshake that never goes on. */
    assert_int_equal(rig_ask(rig, "\x16\x03\x01\x02", 4), 0);
    assert_int_equal(rig_ask(rig, "", 0), 0);
    RIG_WAIT_FOR(rig_stats(rig).connections_open == 0);
    rig_stop(rig);
}

struct tls_client {
    int fd;
    SSL *ssl;
};

static struct tls_client tls_connect(struct rig *rig, SSL_CTX *context)
{
    struct tls_client client = {.fd = rig_connect(rig), .ssl = SSL_new(context)};

    assert_int_equal(SSL_set_fd(client.ssl, client.fd), 1);
    assert_int_equal(SSL_connect(client.ssl), 1);
    return client;
}

static void tls_close(struct tls_client *client)
{
    SSL_free(client->ssl);
    (void)close(client->fd);
}

static void tls_get(struct tls_client *client, const char *want)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    char reply[4096];
    int n;

    (void)SSL_write(client->ssl, request, sizeof(request) - 1);
    n = SSL_read(client->ssl, reply, sizeof(reply) - 1);
    assert_true(n > 0);
    reply[n] = '\0';
    assert_non_null(strstr(reply, want));
}

static void test_tls_connections_are_bounded_too(void **state)
{
    struct rig *rig =
        rig_start(&(struct fl_http_server_options){.handler = handler, .max_connections = 2}, true);
    struct tls_client clients[4];
    struct fl_tls *tls = NULL;

    (void)state;
    assert_int_equal(fl_tls_client_create(&(struct fl_tls_files){.ca = rig->ca}, &tls, NULL), 0);
    for (int i = 0; i < 3; i++) {
        clients[i] = tls_connect(rig, fl_tls_context(tls));
        tls_get(&clients[i], "ok");
    }
    RIG_WAIT_FOR(rig_stats(rig).connections_open == 2);
    for (int i = 1; i < 3; i++)
        (void)SSL_write(clients[i].ssl, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n", 31);
    RIG_WAIT_FOR(rig_counts(rig).handled == 2);
    clients[3] = tls_connect(rig, fl_tls_context(tls));
    tls_get(&clients[3], "HTTP/1.1 503 ");
    for (int i = 0; i < 4; i++)
        tls_close(&clients[i]);
    fl_tls_destroy(tls);
    rig_stop(rig);
}

/* What an idle connection costs, client's side (about as much) included. */
static void test_idle_tls_connections_are_cheap(void **state)
{
    enum { COUNT = 500 };
    static struct tls_client clients[COUNT];
    struct rig *rig = rig_start(&(struct fl_http_server_options){.handler = handler}, true);
    struct fl_tls *tls = NULL;
    long before, per_connection;

    (void)state;
    assert_int_equal(fl_tls_client_create(&(struct fl_tls_files){.ca = rig->ca}, &tls, NULL), 0);
    before = resident_kib();
    for (int i = 0; i < COUNT; i++) {
        clients[i] = tls_connect(rig, fl_tls_context(tls));
        tls_get(&clients[i], "ok");
    }
    per_connection = (resident_kib() - before) / COUNT;
    print_message("%ld KiB a pair of ends\n", per_connection);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(per_connection < 60);
#endif
    for (int i = 0; i < COUNT; i++)
        tls_close(&clients[i]);
    fl_tls_destroy(tls);
    rig_stop(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_have_our_body),
        cmocka_unit_test(test_garbage_is_refused_at_once),
        cmocka_unit_test(test_headers_have_bounds),
        cmocka_unit_test(test_bodies_have_bounds),
        cmocka_unit_test(test_all_bodies_together_have_a_bound),
        cmocka_unit_test(test_slow_clients_run_out_of_time),
        cmocka_unit_test(test_half_closed_requests),
        cmocka_unit_test(test_a_slow_reader_is_cut_off),
        cmocka_unit_test(test_a_pipeline_without_end_is_bounded),
        cmocka_unit_test(test_idle_connections_make_room),
        cmocka_unit_test(test_busy_connections_are_not_sacrificed),
        cmocka_unit_test(test_running_out_of_descriptors),
        cmocka_unit_test(test_garbage_on_the_tls_port),
        cmocka_unit_test(test_tls_connections_are_bounded_too),
        cmocka_unit_test(test_idle_tls_connections_are_cheap),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
