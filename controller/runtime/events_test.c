/* Events: what client-go's recorder would have written. */
#include "controller/runtime/events_internal.h"
#include "controller/runtime/runtime_testing.h"

static struct fl_events *make(struct rig *rig)
{
    return fl_events_create(&(struct fl_events_options){
        .env = rig->env, .client = rig->client, .metrics = rig->metrics});
}

static void note(struct fl_events *events, const char *name, const char *reason,
                 const char *message)
{
    fl_events_note(events, &(struct fl_event_about){.api_version = "test.dev/v1",
                                                    .kind = "Ship",
                                                    .ns = "default",
                                                    .name = name,
                                                    .uid = "uid-1",
                                                    .resource_version = "7",
                                                    .component = "ship",
                                                    .severity = FL_NORMAL,
                                                    .reason = reason,
                                                    .message = message});
}

static size_t write_all(struct fl_events *events)
{
    size_t count = 0;

    while (fl_events_write_next(events))
        count++;
    return count;
}

static const json_t *event_at(struct rig *rig, size_t i)
{
    return json_array_get(json_object_get(rig_get(rig, EVENTS), "items"), i);
}

static void test_form(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_events_destroyp) struct fl_events *events = make(rig);
    const json_t *event;

    assert_int_equal(fl_events_next_due_ms(events), INT64_MAX);
    note(events, "boat", "Sailing", "off it goes");
    assert_int_equal(fl_events_next_due_ms(events), 0);
    assert_int_equal(write_all(events), 1);
    assert_int_equal(fl_events_next_due_ms(events), INT64_MAX);
    event = event_at(rig, 0);
    assert_true(fl_str_has_prefix(fl_json_str(event, "metadata.name"), "boat."));
    assert_string_equal(fl_json_str(event, "metadata.namespace"), "default");
    assert_string_equal(fl_json_str(event, "involvedObject.apiVersion"), "test.dev/v1");
    assert_string_equal(fl_json_str(event, "involvedObject.kind"), "Ship");
    assert_string_equal(fl_json_str(event, "involvedObject.namespace"), "default");
    assert_string_equal(fl_json_str(event, "involvedObject.name"), "boat");
    assert_string_equal(fl_json_str(event, "involvedObject.uid"), "uid-1");
    assert_string_equal(fl_json_str(event, "involvedObject.resourceVersion"), "7");
    assert_string_equal(fl_json_str(event, "type"), "Normal");
    assert_string_equal(fl_json_str(event, "reason"), "Sailing");
    assert_string_equal(fl_json_str(event, "message"), "off it goes");
    assert_string_equal(fl_json_str(event, "source.component"), "ship");
    assert_string_equal(fl_json_str(event, "reportingComponent"), "ship");
    assert_int_equal(fl_json_int(event, "count", 0), 1);
    assert_string_equal(fl_json_str(event, "firstTimestamp"), fl_json_str(event, "lastTimestamp"));
}

static void test_cluster_scoped(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_events_destroyp) struct fl_events *events = make(rig);

    fl_events_note(events, &(struct fl_event_about){.api_version = "v1",
                                                    .kind = "Node",
                                                    .name = "n",
                                                    .component = "c",
                                                    .severity = FL_WARNING,
                                                    .reason = "Lost"});
    assert_int_equal(write_all(events), 1);
    assert_string_equal(fl_json_str(event_at(rig, 0), "metadata.namespace"), "default");
    assert_string_equal(fl_json_str(event_at(rig, 0), "type"), "Warning");
    assert_null(fl_json_path(event_at(rig, 0), "involvedObject.namespace"));
}

static void test_same_is_counted(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_events_destroyp) struct fl_events *events = make(rig);
    const json_t *event;

    for (int i = 0; i < 5; i++) {
        note(events, "boat", "Sailing", "off it goes");
        assert_true(fl_plane_advance(rig->plane, 1000));
    }
    note(events, "boat", "Sailing", "and back");
    note(events, "raft", "Sailing", "off it goes");
    note(events, "boat", "Sinking", "off it goes");
    assert_int_equal(write_all(events), 8);
    assert_int_equal(rig_count(rig, EVENTS), 4);
    event = event_at(rig, 0);
    assert_int_equal(fl_json_int(event, "count", 0), 5);
    assert_string_not_equal(fl_json_str(event, "firstTimestamp"),
                            fl_json_str(event, "lastTimestamp"));
}

/* One that expired meanwhile is made again. */
static void test_counted_one_is_gone(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_events_destroyp) struct fl_events *events = make(rig);

    note(events, "boat", "Sailing", "off it goes");
    assert_int_equal(write_all(events), 1);
    (void)rig_delete(rig, fl_arena_printf(rig->arena, EVENTS "/%s",
                                          fl_json_str(event_at(rig, 0), "metadata.name")));
    note(events, "boat", "Sailing", "off it goes");
    assert_int_equal(write_all(events), 1);
    assert_int_equal(rig_count(rig, EVENTS), 1);
    assert_int_equal(fl_json_int(event_at(rig, 0), "count", 0), 2);
}

static size_t count_combined(struct rig *rig, int64_t *ret_count)
{
    size_t combined = 0, i;
    json_t *event;

    json_array_foreach(json_object_get(rig_get(rig, EVENTS), "items"), i, event) {
        if (!fl_str_has_prefix(fl_json_str(event, "message"), "(combined from similar events): "))
            continue;
        combined++;
        *ret_count = fl_json_int(event, "count", 0);
    }
    return combined;
}

static void test_similar_are_combined(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_events_destroyp) struct fl_events *events = make(rig);
    int64_t count = 0;

    for (int i = 0; i < 20; i++)
        note(events, "boat", "Sailing", fl_arena_printf(rig->arena, "trip %d", i));
    assert_int_equal(write_all(events), 20);
    assert_int_equal(rig_count(rig, EVENTS), 10); /* nine of their own */
    assert_int_equal(count_combined(rig, &count), 1);
    assert_int_equal(count, 11);
    assert_true(fl_plane_advance(rig->plane, 601000)); /* long ago */
    note(events, "boat", "Sailing", "trip 20");
    assert_int_equal(write_all(events), 1);
    assert_int_equal(rig_count(rig, EVENTS), 11);
    assert_int_equal(count_combined(rig, &count), 1);
}

/* Ten minutes count from the last one, not from the first. */
static void test_similar_over_time(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_events_destroyp) struct fl_events *events = make(rig);
    int64_t count = 0;

    for (int i = 0; i < 12; i++) {
        note(events, "boat", "Sailing", fl_arena_printf(rig->arena, "trip %d", i));
        assert_int_equal(write_all(events), 1);
        assert_true(fl_plane_advance(rig->plane, 240000));
    }
    assert_int_equal(count_combined(rig, &count), 1);
    assert_int_equal(count, 3);
}

/* 25 at once, one more each five minutes; other objects have their own. */
static void test_budget(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_events_destroyp) struct fl_events *events = make(rig);

    for (int i = 0; i < 30; i++)
        note(events, "boat", fl_arena_printf(rig->arena, "Reason%d", i), "");
    note(events, "raft", "Sailing", "");
    (void)write_all(events);
    assert_int_equal(rig_count(rig, EVENTS), 26);
    assert_true(rig_metric_is(rig, "flops_events_dropped_total{reason=\"budget\"} 5\n"));
    assert_true(fl_plane_advance(rig->plane, 299999));
    note(events, "boat", "Early", "");
    (void)write_all(events);
    assert_int_equal(rig_count(rig, EVENTS), 26);
    assert_true(fl_plane_advance(rig->plane, 1));
    note(events, "boat", "Late", "");
    note(events, "boat", "Later", "");
    (void)write_all(events);
    assert_int_equal(rig_count(rig, EVENTS), 27);
}

static int fail_calls(void *user, const struct fl_client_moment *moment)
{
    struct rig *rig = user;

    if (moment->use != FL_CLIENT_CALL || moment->after || rig->knob == 0)
        return 0;
    rig->calls++;
    return (int)rig->knob;
}

/* A server that is away is tried again; twelve times are enough. */
static void test_server_away(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_events_destroyp) struct fl_events *events = make(rig);

    rig->faults.moment = fail_calls;
    rig->knob = FL_E_UNAVAILABLE;
    note(events, "boat", "Sailing", "one");
    for (int i = 0; i < 5; i++) {
        int64_t due;

        assert_int_equal(write_all(events), 0);
        assert_int_equal(write_all(events), 0); /* not before its time */
        due = fl_events_next_due_ms(events) - fl_monotonic_ms(rig->env);
        assert_in_range(due, 5000, 15000);
        assert_true(fl_plane_advance(rig->plane, due));
    }
    assert_int_equal(rig->calls, 5);
    rig->knob = 0;
    assert_int_equal(write_all(events), 1);
    assert_int_equal(rig_count(rig, EVENTS), 1);
    assert_int_equal(fl_json_int(event_at(rig, 0), "count", 0), 1);

    rig->knob = FL_E_UNAVAILABLE;
    rig->calls = 0;
    note(events, "boat", "Sailing", "two");
    for (int i = 0; i < 100; i++) {
        (void)write_all(events);
        assert_true(fl_plane_advance(rig->plane, 5000));
    }
    assert_int_equal(rig->calls, 12);
    assert_true(rig_metric_is(rig, "flops_events_dropped_total{reason=\"tries\"} 1\n"));
    assert_int_equal(fl_events_next_due_ms(events), INT64_MAX);
}

static void test_refused(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_events_destroyp) struct fl_events *events = make(rig);

    rig->faults.moment = fail_calls;
    rig->knob = FL_E_FORBIDDEN;
    note(events, "boat", "Sailing", "one");
    assert_int_equal(write_all(events), 1);
    assert_int_equal(rig->calls, 1);
    assert_true(rig_metric_is(rig, "flops_events_dropped_total{reason=\"refused\"} 1\n"));
}

/* Nobody waits for a writer that does not come. */
static void test_full_queue(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_events_destroyp) struct fl_events *events = make(rig);

    for (int i = 0; i < FL_EVENTS_QUEUE_MAX + 3; i++)
        note(events, "boat", "Sailing", "on and on");
    assert_true(rig_metric_is(rig, "flops_events_dropped_total{reason=\"queue_full\"} 3\n"));
}

static void test_long_texts(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_events_destroyp) struct fl_events *events = make(rig);
    char name[254], message[3000];

    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    memset(message, 'm', sizeof(message) - 1);
    message[sizeof(message) - 1] = '\0';
    memcpy(message + 1023, "\xc3\xa4", 2); /* across the bound */
    note(events, name, "Sailing", message);
    assert_int_equal(write_all(events), 1);
    assert_int_equal(strlen(fl_json_str(event_at(rig, 0), "message")), 1023);
    assert_string_equal(fl_json_str(event_at(rig, 0), "involvedObject.name"), name);
}

/* Many objects: what was used last is kept, and memory has a bound. */
static void test_many_objects(void **state)
{
    struct fl_correlator *correlator = fl_correlator_create();

    (void)state;
    for (int i = 0; i < 10000; i++) {
        struct fl_arena *arena = fl_arena_create();
        const char *name = i % 2 == 0 ? "often" : fl_arena_printf(arena, "boat-%d", i);
        struct fl_event_note note = {
            .arena = arena,
            .about = {.api_version = "v1",
                      .kind = "Ship",
                      .ns = "",
                      .name = name,
                      .uid = "",
                      .component = "c",
                      .reason = "R",
                      .message = "m"},
            .monotonic_ms = (int64_t)i * 300000,
            .name = "event",
        };

        assert_true(fl_correlate(correlator, &note));
        if (i == 9998)
            assert_int_equal(note.write.count, 5000);
        fl_arena_destroy(arena);
    }
    fl_correlator_destroy(correlator);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_form),
        TEST(test_cluster_scoped),
        TEST(test_same_is_counted),
        TEST(test_counted_one_is_gone),
        TEST(test_similar_are_combined),
        TEST(test_similar_over_time),
        TEST(test_budget),
        TEST(test_server_away),
        TEST(test_refused),
        TEST(test_full_queue),
        TEST(test_long_texts),
        cmocka_unit_test(test_many_objects),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
