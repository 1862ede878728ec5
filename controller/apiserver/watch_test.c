/* Watches: order, selectors, bookmarks, initial events, ends, slow readers. */
#include "controller/apiserver/apiserver_testing.h"

#define WATCH WIDGETS "?watch=true"

static uint64_t frame_revision(const json_t *frame)
{
    uint64_t revision = 0;

    (void)fl_str_to_uint64(fl_str_or(fl_json_str(frame, "object.metadata.resourceVersion"), ""),
                           INT64_MAX, &revision);
    return revision;
}

static void add_widget(struct rig *rig, const char *name, const char *spec)
{
    assert_answer(do_post(rig, WIDGETS, widget(rig, name, spec)), 201);
}

static void test_order(void **state)
{
    struct rig *rig = *state;
    struct frames *frames;
    struct answer made = do_post(rig, WIDGETS, widget(rig, "a", "\"size\":1"));
    json_t *frame;
    uint64_t last;

    assert_answer(made, 201);
    frames = frames_open(rig, WATCH);
    frame = expect_frame(frames, "ADDED", "a");
    assert_true(json_equal(json_object_get(frame, "object"), made.body));
    assert_answer(do_patch(rig, WIDGETS "/a", "{\"spec\":{\"size\":2}}"), 200);
    assert_answer(do_patch(rig, WIDGETS "/a", "{\"spec\":{\"size\":2}}"), 200); /* nothing new */
    add_widget(rig, "b", "");
    assert_answer(do_delete(rig, WIDGETS "/a"), 200);
    frame = expect_frame(frames, "MODIFIED", "a");
    assert_int_equal(fl_json_int(frame, "object.spec.size", 0), 2);
    last = frame_revision(frame);
    assert_true(last > revision_in(made));
    frame = expect_frame(frames, "ADDED", "b");
    assert_true(frame_revision(frame) > last);
    last = frame_revision(frame);
    frame = expect_frame(frames, "DELETED", "a");
    assert_true(frame_revision(frame) > last);
    assert_int_equal(fl_json_int(frame, "object.spec.size", 0), 2);
    expect_silence(frames);
    frames_close(frames);
}

static void test_from_a_revision(void **state)
{
    struct rig *rig = *state;
    struct frames *frames;
    uint64_t from;

    add_widget(rig, "a", "");
    from = revision_in(do_get(rig, WIDGETS));
    add_widget(rig, "b", "");
    add_widget(rig, "c", "");
    frames = frames_open(rig, format(rig, WATCH "&resourceVersion=%" PRIu64, from));
    (void)expect_frame(frames, "ADDED", "b");
    (void)expect_frame(frames, "ADDED", "c");
    expect_silence(frames);
    frames_close(frames);
    frames = frames_open(rig, "/apis/test.dev/v1/watch/namespaces/default/widgets/c");
    (void)expect_frame(frames, "ADDED", "c");
    assert_answer(do_delete(rig, WIDGETS "/b"), 200);
    expect_silence(frames);
    frames_close(frames);
}

static void test_bad_options(void **state)
{
    static const struct {
        const char *query;
        int status;
        const char *reason;
    } cases[] = {
        {"&resourceVersion=x", 400, "BadRequest"},
        {"&timeoutSeconds=x", 400, "BadRequest"},
        {"&labelSelector=a+in", 400, "BadRequest"},
        {"&fieldSelector=spec.size=1", 400, "BadRequest"},
        {"&resourceVersionMatch=Exact", 422, "Invalid"},
        {"&sendInitialEvents=true", 422, "Invalid"},
        {"&sendInitialEvents=true&resourceVersionMatch=Exact", 422, "Invalid"},
    };
    struct rig *rig = *state;

    for (size_t i = 0; i < FL_COUNT_OF(cases); i++)
        assert_refused(do_get(rig, format(rig, WATCH "%s", cases[i].query)), cases[i].status,
                       cases[i].reason, "");
}

static void test_entering_and_leaving_a_selection(void **state)
{
    struct rig *rig = *state;
    struct frames *by_label = frames_open(rig, WATCH "&labelSelector=team%3Dred");
    struct frames *by_field = frames_open(rig, WATCH "&fieldSelector=spec.color%3Dblue");
    json_t *frame;

    add_widget(rig, "a", "");
    assert_answer(do_patch(rig, WIDGETS "/a", "{\"metadata\":{\"labels\":{\"team\":\"red\"}}}"),
                  200);
    (void)expect_frame(by_label, "ADDED", "a");
    assert_answer(do_patch(rig, WIDGETS "/a", "{\"spec\":{\"color\":\"blue\"}}"), 200);
    (void)expect_frame(by_label, "MODIFIED", "a");
    (void)expect_frame(by_field, "ADDED", "a");
    assert_answer(do_patch(rig, WIDGETS "/a", "{\"metadata\":{\"labels\":null}}"), 200);
    frame = expect_frame(by_label, "DELETED", "a");
    assert_string_equal(fl_json_str(frame, "object.metadata.labels.team"), "red");
    assert_int_equal(frame_revision(frame), fl_store_revision(rig->store));
    (void)expect_frame(by_field, "MODIFIED", "a");
    assert_answer(do_delete(rig, WIDGETS "/a"), 200);
    (void)expect_frame(by_field, "DELETED", "a");
    expect_silence(by_label);
    frames_close(by_label);
    frames_close(by_field);
}

/* Each watcher gets objects in the version it asked for, whoever watches beside it. */
static void test_versions_side_by_side(void **state)
{
    struct rig *rig = *state;
    struct frames *v1 = frames_open(rig, WATCH);
    struct frames *v2 = frames_open(rig, "/apis/test.dev/v2/widgets?watch=true");
    struct frames *again = frames_open(rig, WATCH);
    static const char *const types[] = {"ADDED", "MODIFIED", "DELETED"};

    add_widget(rig, "a", "");
    assert_answer(
        do_patch(rig, "/apis/test.dev/v2/namespaces/default/widgets/a", "{\"spec\":{\"size\":2}}"),
        200);
    assert_answer(do_delete(rig, WIDGETS "/a"), 200);
    for (size_t i = 0; i < FL_COUNT_OF(types); i++) {
        assert_string_equal(fl_json_str(expect_frame(v1, types[i], "a"), "object.apiVersion"),
                            "test.dev/v1");
        assert_string_equal(fl_json_str(expect_frame(v2, types[i], "a"), "object.apiVersion"),
                            "test.dev/v2");
        assert_string_equal(fl_json_str(expect_frame(again, types[i], "a"), "object.apiVersion"),
                            "test.dev/v1");
    }
    frames_close(v1);
    frames_close(v2);
    frames_close(again);
}

static void test_events_of_both_groups(void **state)
{
    struct rig *rig = *state;
    struct frames *core = frames_open(rig, "/api/v1/events?watch=true");
    struct frames *newer = frames_open(rig, "/apis/events.k8s.io/v1/events?watch=true");
    json_t *frame;

    assert_answer(do_post(rig, "/api/v1/namespaces/default/events",
                          "{\"metadata\":{\"name\":\"e\"},\"involvedObject\":{\"kind\":\"Widget\","
                          "\"name\":\"a\",\"namespace\":\"default\"},\"reason\":\"Made\","
                          "\"message\":\"words\",\"type\":\"Normal\"}"),
                  201);
    frame = expect_frame(core, "ADDED", "e");
    assert_string_equal(fl_json_str(frame, "object.apiVersion"), "v1");
    assert_string_equal(fl_json_str(frame, "object.message"), "words");
    frame = expect_frame(newer, "ADDED", "e");
    assert_string_equal(fl_json_str(frame, "object.apiVersion"), "events.k8s.io/v1");
    assert_string_equal(fl_json_str(frame, "object.note"), "words");
    assert_string_equal(fl_json_str(frame, "object.regarding.name"), "a");
    frames_close(core);
    frames_close(newer);
}

static void test_initial_events_end(void **state)
{
    struct rig *rig = *state;
    struct frames *frames;
    json_t *frame;

    add_widget(rig, "a", "");
    add_widget(rig, "b", "");
    frames = frames_open(rig, WATCH "&sendInitialEvents=true&allowWatchBookmarks=true"
                                    "&resourceVersionMatch=NotOlderThan");
    (void)expect_frame(frames, "ADDED", "a");
    (void)expect_frame(frames, "ADDED", "b");
    frame = expect_frame(frames, "BOOKMARK", NULL);
    assert_string_equal(fl_json_str(frame, "object.kind"), "Widget");
    assert_string_equal(fl_json_str(frame, "object.apiVersion"), "test.dev/v1");
    assert_int_equal(frame_revision(frame), fl_store_revision(rig->store));
    assert_string_equal(
        json_string_value(json_object_get(fl_json_path(frame, "object.metadata.annotations"),
                                          "k8s.io/initial-events-end")),
        "true");
    add_widget(rig, "c", "");
    (void)expect_frame(frames, "ADDED", "c");
    frames_close(frames);
}

/* Without initial events and a revision it begins now. */
static void test_only_what_comes(void **state)
{
    struct rig *rig = *state;
    struct frames *frames;

    add_widget(rig, "a", "");
    frames = frames_open(rig, WATCH "&sendInitialEvents=false&resourceVersionMatch=NotOlderThan");
    expect_silence(frames);
    add_widget(rig, "b", "");
    (void)expect_frame(frames, "ADDED", "b");
    frames_close(frames);
}

static void test_bookmark_before_the_end(void **state)
{
    struct rig *rig = *state;
    struct frames *frames = frames_open(rig, WATCH "&timeoutSeconds=2&allowWatchBookmarks=true");
    json_t *frame;

    add_widget(rig, "a", "");
    (void)expect_frame(frames, "ADDED", "a");
    assert_answer(do_post(rig, CONFIGMAPS, configmap(rig, "a", "b")), 201);
    frame = expect_frame(frames, "BOOKMARK", NULL);
    assert_int_equal(frame_revision(frame), fl_store_revision(rig->store));
    expect_end(frames);
    frames_close(frames);
}

static void test_timeout(void **state)
{
    struct rig *rig = *state;
    struct frames *frames = frames_open(rig, WATCH "&timeoutSeconds=1");

    expect_end(frames);
    frames_close(frames);
    assert_int_equal(rig_queued_bytes(rig), 0);
}

static void compact(struct rig *rig)
{
    assert_int_equal(fl_store_compact(rig->store, fl_store_revision(rig->store), NULL), 0);
}

static void test_too_old(void **state)
{
    struct rig *rig = *state;
    struct frames *frames;
    uint64_t old;
    json_t *frame;

    add_widget(rig, "a", "");
    old = fl_store_revision(rig->store);
    add_widget(rig, "b", "");
    compact(rig);
    frames = frames_open(rig, format(rig, WATCH "&resourceVersion=%" PRIu64, old));
    frame = expect_frame(frames, "ERROR", NULL);
    assert_int_equal(fl_json_int(frame, "object.code", 0), 410);
    assert_string_equal(fl_json_str(frame, "object.reason"), "Expired");
    assert_string_equal(fl_json_str(frame, "object.kind"), "Status");
    expect_end(frames);
    frames_close(frames);
}

static void test_tables(void **state)
{
    struct rig *rig = *state;
    struct frames *frames;
    json_t *frame;

    add_widget(rig, "a", "\"size\":7");
    frames = frames_open_as(
        rig, &(struct ask){.who = ADMIN,
                           .method = "GET",
                           .target = WATCH,
                           .headers = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io\r\n"});
    frame = expect_frame(frames, "ADDED", NULL);
    assert_string_equal(fl_json_str(frame, "object.kind"), "Table");
    assert_int_equal(json_array_size(fl_json_path(frame, "object.columnDefinitions")), 2);
    frame = json_array_get(fl_json_path(frame, "object.rows"), 0);
    assert_string_equal(json_string_value(json_array_get(json_object_get(frame, "cells"), 0)), "a");
    assert_int_equal(json_integer_value(json_array_get(json_object_get(frame, "cells"), 1)), 7);
    assert_answer(do_patch(rig, WIDGETS "/a", "{\"spec\":{\"size\":8}}"), 200);
    frame = expect_frame(frames, "MODIFIED", NULL);
    assert_int_equal(json_array_size(fl_json_path(frame, "object.columnDefinitions")), 0);
    frames_close(frames);
}

static void test_ends_with_its_definition(void **state)
{
    struct rig *rig = *state;
    struct frames *frames = frames_open(rig, ALL_WIDGETS "?watch=true");
    struct frames *other = frames_open(rig, GADGETS "?watch=true");

    assert_answer(
        do_patch(rig, CRDS "/widgets.test.dev", "{\"spec\":{\"names\":{\"shortNames\":[\"wg\"]}}}"),
        200);
    expect_end(frames);
    frames_close(frames);
    frames = frames_open(rig, ALL_WIDGETS "?watch=true");
    assert_answer(do_delete(rig, CRDS "/widgets.test.dev"), 200);
    expect_end(frames);
    frames_close(frames);
    expect_silence(other);
    frames_close(other);
}

#define WATCHERS 200
#define CHANGES  30

static void test_many_watchers(void **state)
{
    struct rig *rig = *state;
    struct frames *watchers[WATCHERS];

    for (size_t i = 0; i < WATCHERS; i++)
        watchers[i] = frames_open(rig, i % 2 ? WATCH : ALL_WIDGETS "?watch=true");
    for (int i = 0; i < CHANGES; i++)
        add_widget(rig, format(rig, "w%d", i), "");
    for (size_t i = 0; i < WATCHERS; i++) {
        for (int k = 0; k < CHANGES; k++)
            (void)expect_frame(watchers[i], "ADDED", format(rig, "w%d", k));
    }
    expect_silence(watchers[0]);
    for (size_t i = 0; i < WATCHERS; i++)
        frames_close(watchers[i]);
    WAIT_FOR(
        strstr(do_get(rig, "/metrics").text, "apiserver_longrunning_requests{verb=\"WATCH\"} 0\n"));
}

/* What is there already comes whole, though it is more than may wait for a reader. */
static void test_much_initially(void **state)
{
    struct rig *rig = *state;
    char *big = fl_alloc(rig->arena, 500 * 1024 + 1);
    struct frames *frames;

    memset(big, 'x', 500 * 1024);
    for (int i = 0; i < 30; i++) {
        FL_CLEANUP(fl_freep)
        char *body =
            fl_asprintf("{\"metadata\":{\"name\":\"c%02d\"},\"data\":{\"k\":\"%s\"}}", i, big);

        assert_answer(do_post(rig, CONFIGMAPS, body), 201);
    }
    frames = frames_open(rig, CONFIGMAPS "?watch=true&sendInitialEvents=true&resourceVersionMatch="
                                         "NotOlderThan&allowWatchBookmarks=true");
    rig_pause(100);
    assert_true(rig_queued_bytes(rig) < 4 * 1024 * 1024);
    assert_answer(do_post(rig, CONFIGMAPS, configmap(rig, "later", "")), 201);
    for (int i = 0; i < 30; i++)
        (void)expect_frame(frames, "ADDED", format(rig, "c%02d", i));
    (void)expect_frame(frames, "BOOKMARK", NULL);
    (void)expect_frame(frames, "ADDED", "later");
    frames_close(frames);
}

/* A reader that does not read costs a bounded amount, and later learns what it missed or that it
 * missed too much. */
static void test_slow_reader(void **state)
{
    struct rig *rig = *state;
    struct frames *frames = frames_open(rig, CONFIGMAPS "?watch=true");
    char *big = fl_alloc(rig->arena, 500 * 1024 + 1);
    size_t seen = 0;
    json_t *frame;

    memset(big, 'x', 500 * 1024);
    for (int i = 0; i < 60; i++) {
        FL_CLEANUP(fl_freep)
        char *body =
            fl_asprintf("{\"metadata\":{\"name\":\"c%d\"},\"data\":{\"k\":\"%s\"}}", i, big);

        assert_answer(do_post(rig, CONFIGMAPS, body), 201);
        assert_true(rig_queued_bytes(rig) < 4 * 1024 * 1024);
    }
    for (;;) {
        frame = frames_next(frames);
        if (strcmp(fl_json_str(frame, "type"), "ADDED") != 0)
            break;
        assert_string_equal(fl_json_str(frame, "object.metadata.name"), format(rig, "c%zu", seen));
        if (++seen == 60)
            break;
    }
    if (seen < 60) {
        assert_string_equal(fl_json_str(frame, "type"), "ERROR");
        assert_int_equal(fl_json_int(frame, "object.code", 0), 410);
        expect_end(frames);
    }
    frames_close(frames);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_order),
        TEST(test_from_a_revision),
        TEST(test_bad_options),
        TEST(test_entering_and_leaving_a_selection),
        TEST(test_versions_side_by_side),
        TEST(test_events_of_both_groups),
        TEST(test_initial_events_end),
        TEST(test_only_what_comes),
        TEST(test_bookmark_before_the_end),
        TEST(test_timeout),
        TEST(test_too_old),
        TEST(test_tables),
        TEST(test_ends_with_its_definition),
        TEST(test_many_watchers),
        TEST(test_much_initially),
        TEST(test_slow_reader),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
