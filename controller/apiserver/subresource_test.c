/* Subresources that somebody else serves, and metrics that somebody else adds: a log of numbered
 * lines below widgets. */
#include "controller/apiserver/apiserver_testing.h"

#define LOG        WIDGETS "/a/log"
#define LINE_BYTES 64
#define FILL_BYTES ((size_t)256 * 1024)

static struct logs {
    atomic_int open, gone, ended, refused;
    atomic_size_t most_queued;
} logs;

struct log {
    struct fl_api_stream *stream;
    int64_t next, lines; /* lines < 0: for ever */
    bool follow;
};

static void log_free(struct log *log)
{
    (void)atomic_fetch_sub(&logs.open, 1);
    free(log);
}

static void reader_gone(void *user)
{
    (void)atomic_fetch_add(&logs.gone, 1);
    log_free(user);
}

static void write_lines(void *user)
{
    struct log *log = user;
    char line[LINE_BYTES + 1];

    while (log->next < log->lines && fl_api_stream_queued(log->stream) < FILL_BYTES) {
        (void)snprintf(line, sizeof(line), "%-*" PRId64 "\n", LINE_BYTES - 1, log->next++);
        assert_true(fl_api_stream_write(log->stream, line, LINE_BYTES));
    }
    if (fl_api_stream_queued(log->stream) > atomic_load(&logs.most_queued))
        atomic_store(&logs.most_queued, fl_api_stream_queued(log->stream));
    if (log->next < log->lines || log->follow)
        return;
    fl_api_stream_end(log->stream);
    (void)atomic_fetch_add(&logs.ended, 1);
    log_free(log);
}

static void get_log(void *user, struct fl_api_stream *stream)
{
    const char *lines = fl_str_or(fl_api_stream_param(stream, "lines"), "2");
    struct fl_error err = {0};
    struct log *log;
    int64_t count;

    assert_ptr_equal(user, &logs);
    assert_string_equal(fl_api_stream_object(stream)->name, "a");
    if (!fl_str_to_int64(lines, 0, 1000000, &count)) {
        (void)fl_error_set(&err, FL_E_BAD_REQUEST, "lines: \"%s\" is no number", lines);
        (void)atomic_fetch_add(&logs.refused, 1);
        fl_api_stream_fail(stream, &err);
        return;
    }
    log = fl_calloc(1, sizeof(*log));
    *log = (struct log){stream, 0, count, fl_api_stream_flag(stream, "follow")};
    (void)atomic_fetch_add(&logs.open, 1);
    fl_api_stream_on_gone(stream, reader_gone, log);
    if (fl_api_stream_flag(stream, "wait"))
        return; /* nothing yet, not even a header */
    fl_api_stream_begin(stream, "text/plain");
    fl_api_stream_on_drained(stream, write_lines, log);
    write_lines(log);
}

static const struct fl_apiserver_subresource table[] = {
    {"widgets.test.dev", "log", get_log, &logs},
};

static void add_metrics(void *user, struct fl_buf *text)
{
    assert_non_null(user);
    fl_buf_puts(text, "# TYPE test_things gauge\ntest_things 3\n");
}

static int setup(void **state)
{
    struct rig *rig = rig_create("faulty-memory");

    memset(&logs, 0, sizeof(logs));
    rig->subresources = table;
    rig->subresource_count = FL_COUNT_OF(table);
    rig->metrics = add_metrics;
    rig_open(rig);
    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "")), 201);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    int r = rig_teardown(state);

    assert_int_equal(atomic_load(&logs.open), 0);
    return r;
}

static struct answer ask_log(struct rig *rig, const char *method, const char *target,
                             const char *headers)
{
    return rig_ask(
        rig, &(struct ask){.who = ADMIN, .method = method, .target = target, .headers = headers});
}

static void test_a_log_is_text(void **state)
{
    struct rig *rig = *state;
    static const char *const accepted[] = {NULL, "Accept: text/plain\r\n",
                                           "Accept: application/json, */*\r\n"};

    for (size_t i = 0; i < FL_COUNT_OF(accepted); i++) {
        struct answer answer = ask_log(rig, "GET", LOG, accepted[i]);

        assert_answer(answer, 200);
        assert_non_null(strstr(answer.headers, "Content-Type: text/plain\r\n"));
        assert_non_null(strstr(answer.headers, "Transfer-Encoding: chunked\r\n"));
        assert_non_null(strstr(answer.text, "\n1 "));
    }
    assert_int_equal(atomic_load(&logs.ended), 3);
}

static void test_what_is_not_there_is_told(void **state)
{
    struct rig *rig = *state;

    assert_refused(do_get(rig, WIDGETS "/none/log"), 404, "NotFound",
                   "widgets.test.dev \"none\" not found");
    assert_refused(do_get(rig, LOG "?lines=x"), 400, "BadRequest", "lines: \"x\" is no number");
    assert_int_equal(do_get(rig, WIDGETS "/a/logs").status, 404);
    assert_int_equal(do_get(rig, GADGETS "/a/log").status, 404);
    assert_int_equal(do_get(rig, CONFIGMAPS "/a/log").status, 404);
    for (size_t i = 0; i < 4; i++) {
        static const char *const methods[] = {"POST", "PUT", "PATCH", "DELETE"};

        assert_refused(ask_log(rig, methods[i], LOG, NULL), 405, "MethodNotAllowed", "");
    }
    assert_int_equal(ask_log(rig, "HEAD", LOG, NULL).status, 405);
    assert_int_equal(atomic_load(&logs.refused), 1);
}

#define ROLE_AND_BINDING(who, resources)                                                           \
    assert_answer(do_post(rig, RBAC "/namespaces/default/roles",                                   \
                          "{\"metadata\":{\"name\":\"" who "\"},\"rules\":[{\"verbs\":[\"get\"],"  \
                          "\"apiGroups\":[\"test.dev\"],\"resources\":[\"" resources "\"]}]}"),    \
                  201);                                                                            \
    assert_answer(do_post(rig, RBAC "/namespaces/default/rolebindings",                            \
                          "{\"metadata\":{\"name\":\"" who "\"},\"roleRef\":{\"apiGroup\":"        \
                          "\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"" who "\"}," \
                          "\"subjects\":[{\"kind\":\"User\",\"name\":\"" who "\"}]}"),             \
                  201)

static void test_rights_are_for_the_subresource(void **state)
{
    struct rig *rig = *state;

    ROLE_AND_BINDING("alice", "widgets/log");
    ROLE_AND_BINDING("bob", "widgets");
    assert_answer(do_as(rig, ALICE, "GET", LOG, NULL), 200);
    assert_refused(do_as(rig, ALICE, "GET", WIDGETS "/a", NULL), 403, "Forbidden", "");
    assert_answer(do_as(rig, BOB, "GET", WIDGETS "/a", NULL), 200);
    assert_refused(do_as(rig, BOB, "GET", LOG, NULL), 403, "Forbidden",
                   "User \"bob\" cannot get resource \"widgets/log\"");
    assert_int_equal(do_as(rig, NOBODY, "GET", LOG, NULL).status, 401);
}

/* The default role for readers, in the group for which it is made. */
static void test_view_may_read_logs(void **state)
{
    struct rig *rig = *state;
    struct answer answer;

    assert_answer(
        do_post(rig, RBAC "/namespaces/default/rolebindings",
                "{\"metadata\":{\"name\":\"bob\"},\"roleRef\":{\"apiGroup\":"
                "\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"view\"},"
                "\"subjects\":[{\"kind\":\"User\",\"name\":\"bob\"}]}"),
        201);
    answer = do_as(rig, BOB, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                   "{\"spec\":{\"resourceAttributes\":{\"namespace\":\"default\",\"verb\":\"get\","
                   "\"group\":\"flops.dev\",\"resource\":\"workloads\",\"subresource\":\"log\"}}}");
    assert_answer(answer, 201);
    assert_true(json_is_true(fl_json_path(answer.body, "status.allowed")));
}

static void test_discovery_lists_it(void **state)
{
    struct rig *rig = *state;
    struct answer plain = do_get(rig, "/apis/test.dev/v1");
    struct answer aggregated =
        ask_log(rig, "GET", "/apis",
                "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList\r\n");

    assert_non_null(strstr(plain.text, "\"name\":\"widgets/log\""));
    assert_non_null(strstr(plain.text,
                           "{\"kind\":\"Widget\",\"name\":\"widgets/log\",\"namespaced\""
                           ":true,\"singularName\":\"\",\"verbs\":[\"get\"]}"));
    assert_null(strstr(plain.text, "gadgets/log"));
    assert_non_null(strstr(aggregated.text, "\"subresource\":\"log\",\"verbs\":[\"get\"]"));
}

/* Much of it, read slowly: it arrives whole and in order, and little of it waits in memory. */
static void test_a_slow_reader_holds_the_writer_back(void **state)
{
    struct rig *rig = *state;
    struct frames *frames = frames_open(rig, LOG "?lines=200000");

    rig_pause(50);
    assert_true(rig_queued_bytes(rig) < 2 * FILL_BYTES);
    while (!frames->ended) {
        assert_true(frames_receive(frames, TEST_TIMEOUT_MS));
        frames_unchunk(frames);
    }
    assert_int_equal(frames->text.len, (size_t)200000 * LINE_BYTES);
    for (size_t i = 0; i < 200000; i++)
        assert_int_equal(strtoul(frames->text.data + i * LINE_BYTES, NULL, 10), i);
    assert_true(atomic_load(&logs.most_queued) < 2 * FILL_BYTES);
    WAIT_FOR(atomic_load(&logs.ended) == 1);
    frames_close(frames);
}

static void test_a_follower_that_leaves_is_noticed(void **state)
{
    struct rig *rig = *state;
    struct frames *frames = frames_open(rig, LOG "?follow=true");

    frames_unchunk(frames);
    frames_close(frames);
    WAIT_FOR(atomic_load(&logs.gone) == 1);
    frames = frames_open(rig, LOG "?follow=true&lines=1000000"); /* in the middle of it */
    frames_close(frames);
    WAIT_FOR(atomic_load(&logs.gone) == 2);
}

static void test_the_end_of_the_server_ends_streams(void **state)
{
    struct rig *rig = *state;
    struct frames *frames = frames_open(rig, LOG "?follow=true");
    int fd = rig_connect(rig);

    rig_send_ask(fd, &(struct ask){.who = ADMIN, .method = "GET", .target = LOG "?wait=true"});
    WAIT_FOR(atomic_load(&logs.open) == 2);
    rig_close(rig);
    assert_int_equal(atomic_load(&logs.gone), 2);
    while (!frames->ended && frames_receive(frames, TEST_TIMEOUT_MS))
        frames_unchunk(frames);
    frames_unchunk(frames);
    assert_true(frames->ended); /* properly */
    frames_close(frames);
    assert_refused(rig_take_answer(rig, fd), 503, "ServiceUnavailable", "shutting down");
    rig_open(rig); /* for the teardown */
}

static void test_metrics_are_added(void **state)
{
    struct answer answer = do_get(*state, "/metrics");

    assert_answer(answer, 200);
    assert_non_null(strstr(answer.text, "\ntest_things 3\n"));
    assert_non_null(strstr(answer.text, "flops_store_revision"));
    (void)do_get(*state, LOG);
    answer = do_get(*state, "/metrics");
    assert_non_null(strstr(answer.text, "subresource=\"log\""));
}

/* Within the process: collected up to a bound. */

struct inside {
    struct rig *rig;
    const char *target;
    size_t max_stream_bytes;
    int status, code;
    size_t len;
    atomic_bool done;
};

static void inside_done(void *user, const struct fl_http_answer *answer, const struct fl_error *err)
{
    struct inside *inside = user;

    inside->status = answer ? answer->status : 0;
    inside->len = answer ? answer->body->len : 0;
    inside->code = err ? err->code : 0;
    atomic_store(&inside->done, true);
}

static void inside_begin(void *user)
{
    static const char *const groups[] = {"system:masters"};
    struct inside *inside = user;

    (void)fl_apiserver_ask(inside->rig->server,
                           &(struct fl_apiserver_ask){
                               .method = "GET",
                               .target = inside->target,
                               .user = "me",
                               .groups = groups,
                               .group_count = 1,
                               .max_stream_bytes = inside->max_stream_bytes,
                           },
                           inside_done, inside);
}

static void ask_inside(struct inside *inside)
{
    fl_loop_post(inside->rig->loop, inside_begin, inside);
    WAIT_FOR(atomic_load(&inside->done));
}

static void test_a_stream_within_the_process(void **state)
{
    struct inside small = {.rig = *state, .target = LOG, .max_stream_bytes = 1000},
                  big = {.rig = *state, .target = LOG "?lines=100", .max_stream_bytes = 1000},
                  none = {.rig = *state, .target = LOG};

    ask_inside(&small);
    assert_int_equal(small.status, 200);
    assert_int_equal(small.len, 2 * LINE_BYTES);
    ask_inside(&big);
    assert_int_equal(big.code, FL_E_TOO_LARGE);
    ask_inside(&none);
    assert_int_equal(none.code, FL_E_METHOD_NOT_ALLOWED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_log_is_text),
        TEST(test_what_is_not_there_is_told),
        TEST(test_rights_are_for_the_subresource),
        TEST(test_view_may_read_logs),
        TEST(test_discovery_lists_it),
        TEST(test_a_slow_reader_holds_the_writer_back),
        TEST(test_a_follower_that_leaves_is_noticed),
        TEST(test_the_end_of_the_server_ends_streams),
        TEST(test_metrics_are_added),
        TEST(test_a_stream_within_the_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
