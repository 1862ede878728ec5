/* The life of objects on every store: generation follows what is desired and nothing else, status
 * and the rest do not touch each other, finalizers hold what is being deleted. The rules are
 * api/meta.h's; this is how the API server puts them on a store, and they must hold whatever its
 * driver, after it was opened again too. */
#include "controller/store/store_testing.h"

#include "api/meta.h"
#include "controller/store/store_faulty.h"

static const struct subject {
    const char *driver;
    bool durable;
} subjects[] = {
    {"memory", false},
    {"sqlite", true},
    {"faulty-memory", false},
    {"faulty-sqlite", true},
};
static const struct subject *subject;

static const struct fl_traits traits = {
    .namespaced = true, .has_status = true, .has_generation = true};

static int setup(void **state)
{
    struct fixture *f = test_malloc(sizeof(*f));

    fixture_init(f, subject->driver);
    fl_store_faults = (struct fl_store_faults){0};
    fixture_open(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_finish(*state);
    test_free(*state);
    return 0;
}

/* Where a driver keeps what it is told, all that follows must hold after a restart. */
static void reopen(struct fixture *f)
{
    if (!subject->durable)
        return;
    fixture_close(f);
    fixture_open(f);
}

static json_t *read_a(struct fixture *f)
{
    FL_CLEANUP(fl_object_unrefp) struct fl_object *object = get(f->store, "ns", "a");

    return object ? fl_object_parse(object) : NULL;
}

static uint64_t revision_of(const json_t *object)
{
    uint64_t revision = 0;

    assert_true(fl_str_to_uint64(fl_str_or(fl_json_str(object, "metadata.resourceVersion"), ""),
                                 INT64_MAX, &revision));
    return revision;
}

static void create_a(struct fixture *f, const char *text)
{
    FL_JSON object = json_loads(text, 0, NULL);
    struct fl_store_write write = {FL_STORE_CREATE, {PROJECTS, "ns", "a"}, object, 0};

    assert_non_null(object);
    fl_meta_prepare_create(&f->env, &traits, "ns", object);
    assert_int_equal(fl_store_write_wait(f->store, &write, NULL, NULL), 0);
}

/* Replaces the object's main part or status by what the text says; the outcome, or an error. */
static int change_a(struct fixture *f, enum fl_part part, const char *text)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON live = read_a(f);
    FL_JSON object = json_loads(text, 0, NULL);
    struct fl_store_write write = {FL_STORE_UPDATE, {PROJECTS, "ns", "a"}, object, 0};
    struct fl_field_errors errors;
    enum fl_outcome outcome;
    int r;

    assert_non_null(live);
    assert_non_null(object);
    fl_field_errors_init(&errors, arena);
    write.expect_revision = revision_of(live);
    r = fl_meta_prepare_update(&traits, part, live, object, &errors, NULL);
    if (r < 0 || errors.count)
        return r < 0 ? r : FL_E_INVALID;
    outcome = fl_meta_finish_update(&traits, live, object);
    if (outcome == FL_OUTCOME_REMOVED)
        write.op = FL_STORE_DELETE;
    if (outcome != FL_OUTCOME_UNCHANGED)
        assert_int_equal(fl_store_write_wait(f->store, &write, NULL, NULL), 0);
    return (int)outcome;
}

static enum fl_outcome delete_a(struct fixture *f, enum fl_propagation propagation)
{
    FL_JSON live = read_a(f);
    FL_JSON after = NULL;
    enum fl_outcome outcome = fl_meta_prepare_delete(&f->env, &traits, propagation, live, &after);
    struct fl_store_write write = {outcome == FL_OUTCOME_REMOVED ? FL_STORE_DELETE
                                                                 : FL_STORE_UPDATE,
                                   {PROJECTS, "ns", "a"},
                                   after,
                                   revision_of(live)};

    if (outcome != FL_OUTCOME_UNCHANGED)
        assert_int_equal(fl_store_write_wait(f->store, &write, NULL, NULL), 0);
    return outcome;
}

#define PLAIN "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"x\":1}}"

static void test_generation_follows_desire(void **state)
{
    static const struct {
        enum fl_part part;
        const char *text;
        enum fl_outcome outcome;
        int generation;
    } steps[] = {
        {FL_PART_MAIN, PLAIN, FL_OUTCOME_UNCHANGED, 1},
        {FL_PART_MAIN, "{\"metadata\":{\"labels\":{\"l\":\"m\"}},\"spec\":{\"x\":1}}",
         FL_OUTCOME_CHANGED, 1},
        {FL_PART_STATUS, "{\"status\":{\"y\":1}}", FL_OUTCOME_CHANGED, 1},
        {FL_PART_STATUS, "{\"status\":{\"y\":1}}", FL_OUTCOME_UNCHANGED, 1},
        {FL_PART_MAIN, "{\"metadata\":{\"generation\":50},\"spec\":{\"x\":2}}", FL_OUTCOME_CHANGED,
         2},
        {FL_PART_MAIN, "{\"metadata\":{},\"spec\":{\"x\":2},\"more\":true}", FL_OUTCOME_CHANGED, 3},
    };
    struct fixture *f = *state;
    uint64_t revision = 0;

    create_a(f, PLAIN);
    for (size_t i = 0; i < FL_COUNT_OF(steps); i++) {
        FL_JSON after = NULL;

        assert_int_equal(change_a(f, steps[i].part, steps[i].text), steps[i].outcome);
        reopen(f);
        after = read_a(f);
        assert_int_equal(fl_json_int(after, "metadata.generation", 0), steps[i].generation);
        if (steps[i].outcome == FL_OUTCOME_CHANGED)
            assert_true(revision_of(after) > revision);
        revision = revision_of(after);
    }
}

static void test_status_and_spec_are_apart(void **state)
{
    struct fixture *f = *state;
    FL_JSON first = NULL;
    FL_JSON second = NULL;
    FL_JSON third = NULL;

    create_a(f, "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"x\":1},\"status\":{\"y\":1}}");
    first = read_a(f);
    assert_null(json_object_get(first, "status"));
    (void)change_a(f, FL_PART_STATUS, "{\"spec\":{\"x\":9},\"status\":{\"y\":2}}");
    reopen(f);
    second = read_a(f);
    assert_true(json_equal(json_object_get(second, "spec"), json_object_get(first, "spec")));
    assert_int_equal(fl_json_int(second, "status.y", 0), 2);
    (void)change_a(f, FL_PART_MAIN, "{\"spec\":{\"x\":3},\"status\":{\"y\":9}}");
    reopen(f);
    third = read_a(f);
    assert_true(json_equal(json_object_get(third, "status"), json_object_get(second, "status")));
    assert_int_equal(fl_json_int(third, "spec.x", 0), 3);
}

/* Two writers of the two parts who both read the same state: one must look again. */
static void test_parts_share_a_revision(void **state)
{
    struct fixture *f = *state;
    FL_JSON live = NULL;
    struct fl_store_write write = {FL_STORE_UPDATE, {PROJECTS, "ns", "a"}, NULL, 0};

    create_a(f, PLAIN);
    live = read_a(f);
    assert_int_equal(change_a(f, FL_PART_STATUS, "{\"status\":{\"y\":1}}"), FL_OUTCOME_CHANGED);
    write.object = live;
    write.expect_revision = revision_of(live);
    assert_int_equal(fl_store_write_wait(f->store, &write, NULL, NULL), FL_E_CONFLICT);
}

static void test_finalizers_hold(void **state)
{
    struct fixture *f = *state;
    FL_JSON deleting = NULL;
    FL_JSON gone = NULL;
    struct fl_watch *watch;
    struct fl_event event;

    create_a(f, "{\"metadata\":{\"name\":\"a\",\"finalizers\":[\"x.dev/one\",\"x.dev/two\"]},"
                "\"spec\":{\"x\":1}}");
    assert_int_equal(delete_a(f, FL_PROPAGATION_DEFAULT), FL_OUTCOME_CHANGED);
    reopen(f);
    assert_int_equal(delete_a(f, FL_PROPAGATION_DEFAULT), FL_OUTCOME_UNCHANGED);
    deleting = read_a(f);
    assert_true(fl_meta_is_deleting(deleting));
    assert_int_equal(fl_json_int(deleting, "metadata.generation", 0), 2);
    assert_int_equal(change_a(f, FL_PART_MAIN,
                              "{\"metadata\":{\"finalizers\":[\"x.dev/one\",\"x.dev/new\"]},"
                              "\"spec\":{\"x\":1}}"),
                     FL_E_INVALID);
    assert_int_equal(change_a(f, FL_PART_MAIN,
                              "{\"metadata\":{\"finalizers\":[\"x.dev/two\"]},\"spec\":{\"x\":1}}"),
                     FL_OUTCOME_CHANGED);
    /* Status may still be reported. */
    assert_int_equal(change_a(f, FL_PART_STATUS, "{\"status\":{\"y\":1}}"), FL_OUTCOME_CHANGED);
    assert_int_equal(
        fl_store_watch(f->store, PROJECTS, NULL, fl_store_revision(f->store), &watch, NULL), 0);
    assert_int_equal(change_a(f, FL_PART_MAIN, PLAIN), FL_OUTCOME_REMOVED);
    assert_int_equal(fl_watch_next(watch, &event, NULL), 1);
    assert_int_equal(event.type, FL_EVENT_DELETED);
    assert_null(strstr(event.object->json->data, "finalizers"));
    fl_watch_close(watch);
    reopen(f);
    gone = read_a(f);
    assert_null(gone);
    create_a(f, PLAIN);
}

static void test_propagation_holds(void **state)
{
    static const enum fl_propagation propagations[] = {FL_PROPAGATION_FOREGROUND,
                                                       FL_PROPAGATION_ORPHAN};
    struct fixture *f = *state;

    for (size_t i = 0; i < FL_COUNT_OF(propagations); i++) {
        create_a(f, PLAIN);
        assert_int_equal(delete_a(f, propagations[i]), FL_OUTCOME_CHANGED);
        reopen(f);
        assert_int_equal(change_a(f, FL_PART_MAIN, PLAIN), FL_OUTCOME_REMOVED);
        assert_null(get(f->store, "ns", "a"));
    }
    create_a(f, PLAIN);
    assert_int_equal(delete_a(f, FL_PROPAGATION_BACKGROUND), FL_OUTCOME_REMOVED);
    assert_null(get(f->store, "ns", "a"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
    TEST(test_generation_follows_desire), TEST(test_status_and_spec_are_apart),
    TEST(test_parts_share_a_revision),    TEST(test_finalizers_hold),
    TEST(test_propagation_holds),
};

int main(void)
{
    struct fl_error err;
    int failed = 0;

    if (fl_store_faulty_register(&err) < 0)
        return 1;
    for (size_t i = 0; i < FL_COUNT_OF(subjects); i++) {
        subject = &subjects[i];
        failed += _cmocka_run_group_tests(subject->driver, tests, FL_COUNT_OF(tests), NULL, NULL);
    }
    return failed != 0;
}
