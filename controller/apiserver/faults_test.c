/* When things go wrong: disks that refuse or are slow, too many writes, clients that leave, the end
 * of the server. */
#include "controller/apiserver/apiserver_testing.h"

static int begin(struct rig *rig, const char *method, const char *target, const char *body)
{
    int fd = rig_connect(rig);

    rig_send_ask(fd, &(struct ask){.who = ADMIN, .method = method, .target = target, .body = body});
    return fd;
}

static bool has_answer(int fd, int timeout_ms)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    return poll(&ready, 1, timeout_ms) > 0;
}

static void hold(bool held)
{
    atomic_store(&fl_store_faults.hold_commits, held);
}

static void test_disk_refuses(void **state)
{
    struct rig *rig = *state;
    struct frames *frames;
    struct answer made = do_post(rig, WIDGETS, widget(rig, "a", "\"size\":1")), answer;

    assert_answer(made, 201);
    frames = frames_open(rig, WIDGETS "?watch=true");
    (void)expect_frame(frames, "ADDED", "a");
    atomic_store(&fl_store_faults.fail_commits, -1);
    answer = do_post(rig, WIDGETS, widget(rig, "b", ""));
    assert_refused(answer, 503, "ServiceUnavailable", "");
    assert_non_null(strstr(answer.headers, "Retry-After: 1\r\n"));
    assert_refused(do_patch(rig, WIDGETS "/a", "{\"spec\":{\"size\":2}}"), 503,
                   "ServiceUnavailable", "");
    assert_refused(do_delete(rig, WIDGETS "/a"), 503, "ServiceUnavailable", "");
    assert_refused(do_delete(rig, WIDGETS), 503, "ServiceUnavailable", "");
    assert_true(json_equal(do_get(rig, WIDGETS "/a").body, made.body));
    assert_int_equal(items_in(do_get(rig, WIDGETS)), 1);
    expect_silence(frames);
    atomic_store(&fl_store_faults.fail_commits, 0);
    assert_answer(do_post(rig, WIDGETS, widget(rig, "b", "")), 201);
    (void)expect_frame(frames, "ADDED", "b");
    assert_answer(do_patch(rig, WIDGETS "/a", "{\"spec\":{\"size\":2}}"), 200);
    (void)expect_frame(frames, "MODIFIED", "a");
    frames_close(frames);
}

/* Nothing is answered, shown or told before it is durable. */
static void test_answers_are_durable(void **state)
{
    struct rig *rig = *state;
    struct frames *frames = frames_open(rig, WIDGETS "?watch=true");
    struct answer made;
    int fd;

    hold(true);
    fd = begin(rig, "POST", WIDGETS, widget(rig, "a", ""));
    WAIT_FOR(atomic_load(&fl_store_faults.held) == 1);
    assert_false(has_answer(fd, 60));
    assert_true(is_gone(rig, WIDGETS "/a"));
    assert_int_equal(items_in(do_get(rig, WIDGETS)), 0);
    expect_silence(frames);
    hold(false);
    made = rig_take_answer(rig, fd);
    assert_answer(made, 201);
    assert_true(json_equal(do_get(rig, WIDGETS "/a").body, made.body));
    (void)expect_frame(frames, "ADDED", "a");
    frames_close(frames);
}

/* A write that changes nothing answers with what is there: once that is durable. */
static void test_unchanged_answers_are_durable(void **state)
{
    static const struct {
        const char *method, *target, *body;
    } cases[] = {
        {"PATCH", WIDGETS "/a", "{\"spec\":{\"size\":2}}"},
        {"PATCH", WIDGETS "/a/scale", "{}"},
        {"PATCH", WIDGETS "/a/status", "{}"},
        {"DELETE", WIDGETS "/held", NULL},
    };
    struct rig *rig = *state;
    int first, second, fds[FL_COUNT_OF(cases)];

    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "\"size\":1")), 201);
    assert_answer(do_post(rig, WIDGETS,
                          "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\",\"metadata\":"
                          "{\"name\":\"held\",\"finalizers\":[\"x.dev/y\"]}}"),
                  201);
    for (int round = 0; round < 2; round++) {
        hold(true);
        first = begin(rig, "PATCH", WIDGETS "/a", "{\"spec\":{\"size\":2}}");
        WAIT_FOR(atomic_load(&fl_store_faults.held) == 1);
        second = begin(rig, "DELETE", WIDGETS "/held", NULL);
        rig_pause(30);
        for (size_t i = 0; i < FL_COUNT_OF(cases); i++)
            fds[i] = begin(rig, cases[i].method, cases[i].target, cases[i].body);
        for (size_t i = 0; i < FL_COUNT_OF(cases); i++)
            assert_false(has_answer(fds[i], 60));
        atomic_store(&fl_store_faults.fail_commits, round ? 0 : -1);
        hold(false);
        assert_answer(rig_take_answer(rig, first), round ? 200 : 503);
        assert_answer(rig_take_answer(rig, second), round ? 200 : 503);
        for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
            struct answer answer = rig_take_answer(rig, fds[i]);

            assert_answer(answer, round ? 200 : 503);
            if (round)
                assert_true(revision_in(answer) <= fl_store_revision(rig->store));
        }
    }
    assert_int_equal(rig_writes_in_flight(rig), 0);
}

/* Writers that follow each other on one object build on what is under way, and fail with it. */
static void test_writes_build_on_writes(void **state)
{
    struct rig *rig = *state;
    struct answer answer;
    int fds[5];

    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "\"size\":1")), 201);
    hold(true);
    fds[0] = begin(rig, "PATCH", WIDGETS "/a", "{\"spec\":{\"size\":2}}");
    WAIT_FOR(atomic_load(&fl_store_faults.held) == 1);
    for (int i = 1; i < 5; i++) {
        fds[i] = begin(rig, "PATCH", WIDGETS "/a",
                       format(rig, "{\"metadata\":{\"labels\":{\"n%d\":\"x\"}}}", i));
        rig_pause(10);
    }
    hold(false);
    for (int i = 0; i < 5; i++)
        assert_answer(rig_take_answer(rig, fds[i]), 200);
    answer = do_get(rig, WIDGETS "/a");
    assert_int_equal(json_object_size(fl_json_path(answer.body, "metadata.labels")), 4);
    assert_int_equal(fl_json_int(answer.body, "spec.size", 0), 2);
}

#define ROOM 10
#define MANY 15

static void leave_little_room(struct rig *rig)
{
    rig->server->writes_in_flight += 2000 - ROOM;
}

static void leave_room(struct rig *rig)
{
    rig->server->writes_in_flight -= 2000 - ROOM;
}

static void test_too_many_writes(void **state)
{
    struct rig *rig = *state;
    size_t made = 0, refused = 0;
    int fds[MANY];

    rig_on_loop(rig, leave_little_room);
    hold(true);
    for (int i = 0; i < MANY; i++)
        fds[i] = begin(rig, "POST", CONFIGMAPS, configmap(rig, format(rig, "c%d", i), ""));
    assert_answer(do_get(rig, CONFIGMAPS), 200); /* readers are not held up */
    rig_pause(60);
    hold(false);
    for (int i = 0; i < MANY; i++) {
        struct answer answer = rig_take_answer(rig, fds[i]);

        made += answer.status == 201;
        refused += answer.status == 429;
        if (answer.status == 429) {
            assert_refused(answer, 429, "TooManyRequests", "try again later");
            assert_non_null(strstr(answer.headers, "Retry-After: 1\r\n"));
        }
    }
    assert_int_equal(made, ROOM);
    assert_int_equal(refused, MANY - ROOM);
    assert_int_equal(fl_store_count(rig->store, "configmaps"), ROOM);
    rig_on_loop(rig, leave_room);
    assert_answer(do_post(rig, CONFIGMAPS, configmap(rig, "more", "")), 201);
}

/* A client that leaves takes nothing along: what it asked for is done. */
static void test_clients_leave(void **state)
{
    struct rig *rig = *state;
    int fds[4];

    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "")), 201);
    assert_answer(do_post(rig, WIDGETS, widget(rig, "b", "")), 201);
    hold(true);
    fds[0] = begin(rig, "POST", WIDGETS, widget(rig, "c", ""));
    WAIT_FOR(atomic_load(&fl_store_faults.held) == 1);
    fds[1] = begin(rig, "DELETE", WIDGETS "/a", NULL);
    fds[2] = begin(rig, "DELETE", CONFIGMAPS, NULL);
    fds[3] = begin(rig, "PATCH", WIDGETS "/c", "{}");
    rig_pause(60);
    for (size_t i = 0; i < FL_COUNT_OF(fds); i++)
        (void)close(fds[i]);
    rig_pause(60);
    hold(false);
    WAIT_FOR(is_gone(rig, WIDGETS "/a"));
    assert_answer(do_get(rig, WIDGETS "/c"), 200);
    assert_int_equal(rig_writes_in_flight(rig), 0);
}

static void test_drain(void **state)
{
    struct rig *rig = *state;
    struct frames *frames = frames_open(rig, WIDGETS "?watch=true");
    struct answer answer;
    int writer, late;

    hold(true);
    writer = begin(rig, "POST", WIDGETS, widget(rig, "a", ""));
    WAIT_FOR(atomic_load(&fl_store_faults.held) == 1);
    late = rig_connect(rig);
    rig_send(late, "GET " WIDGETS "?watch=true HTTP/1.1\r\n",
             strlen("GET " WIDGETS "?watch=true HTTP/1.1\r\n"));
    rig_pause(30);
    rig_on_loop(rig, rig_drain);
    expect_end(frames);
    frames_close(frames);
    rig_send(late, "Host: x\r\nAuthorization: Bearer admin-token\r\n\r\n",
             strlen("Host: x\r\nAuthorization: Bearer admin-token\r\n\r\n"));
    answer = rig_take_answer(rig, late);
    assert_refused(answer, 503, "ServiceUnavailable", "shutting down");
    hold(false);
    answer = rig_take_answer(rig, writer);
    assert_answer(answer, 201);
    assert_int_equal(pthread_join(rig->thread, NULL), 0);
    rig->running = false;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_disk_refuses),
        TEST(test_answers_are_durable),
        TEST(test_unchanged_answers_are_durable),
        TEST(test_writes_build_on_writes),
        TEST(test_too_many_writes),
        TEST(test_clients_leave),
        TEST(test_drain),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
