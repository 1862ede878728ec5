/* Conditions, and what they come to. */
#include "controller/runtime/runtime_testing.h"

struct bench {
    struct fl_controller controller;
    struct fl_kind_ops ops;
    struct fl_pass pass;
    struct fl_reconcile rc;
    struct ship *ship;
};

static int setup(void **state)
{
    struct bench *bench = fl_calloc(1, sizeof(*bench));
    struct fl_arena *arena = fl_arena_create();

    bench->ops = (struct fl_kind_ops){.controller = "ship", FL_STATUS_OF(struct ship)};
    bench->controller.ops = &bench->ops;
    bench->ship = fl_new(arena, struct ship);
    bench->ship->meta.generation = 4;
    bench->pass = (struct fl_pass){.controller = &bench->controller,
                                   .object = bench->ship,
                                   .meta = &bench->ship->meta,
                                   .now = "2026-01-01T00:00:00Z",
                                   .ready = {.reason = "Ready"}};
    bench->rc = (struct fl_reconcile){.arena = arena, .pass = &bench->pass};
    *state = bench;
    return 0;
}

static int teardown(void **state)
{
    struct bench *bench = *state;

    fl_arena_destroy(bench->rc.arena);
    free(bench);
    return 0;
}

static const struct fl_condition *find(const struct bench *bench, const char *type)
{
    return fl_condition_find(&bench->ship->status.conditions, type);
}

static void assert_is(const struct bench *bench, const char *type, enum fl_condition_status status,
                      const char *reason, const char *message)
{
    const struct fl_condition *condition = find(bench, type);

    if (!reason) {
        assert_null(condition);
        return;
    }
    assert_non_null(condition);
    assert_int_equal(condition->status, status);
    assert_string_equal(condition->reason, reason);
    assert_string_equal(condition->message, message);
    assert_true(condition->has_observed_generation);
    assert_int_equal(condition->observed_generation, 4);
    assert_non_null(condition->last_transition_time);
}

#define IS_TRUE  FL_CONDITION_STATUS_TRUE
#define IS_FALSE FL_CONDITION_STATUS_FALSE

static void test_summary(void **state)
{
    static const struct {
        enum fl_progress progress;
        enum fl_condition_status ready;
        const char *reason, *message; /* of Ready */
        const char *reconciling, *stalled;
    } cases[] = {
        {FL_PROGRESS_DONE, IS_TRUE, "Sailing", "with all", NULL, NULL},
        {FL_PROGRESS_WAIT, IS_FALSE, "Loading", "a while", "Progressing", NULL},
        {FL_PROGRESS_STALLED, IS_FALSE, "Loading", "a while", NULL, "Loading"},
        {FL_PROGRESS_RETRYING, IS_FALSE, "Loading", "a while", "ProgressingWithRetry", NULL},
        {FL_PROGRESS_FAILED, IS_FALSE, "Loading", "a while", NULL, "Loading"},
        {FL_PROGRESS_SUSPENDED, IS_FALSE, "Suspended", "spec.suspend is set", NULL, NULL},
        {FL_PROGRESS_SUSPENDING, IS_FALSE, "Suspended", "a while", "Suspending", NULL},
        {FL_PROGRESS_DELETING, IS_FALSE, "Deleting", "a while", "Deleting", NULL},
        {FL_PROGRESS_DELETE_RETRYING, IS_FALSE, "Deleting", "a while", "ProgressingWithRetry",
         NULL},
        {FL_PROGRESS_DELETE_STALLED, IS_FALSE, "Deleting", "a while", NULL, "Loading"},
    };
    struct bench *bench = *state;

    /* each after each other one: nothing of the former stays */
    for (size_t i = 0; i < FL_COUNT_OF(cases) * FL_COUNT_OF(cases); i++) {
        size_t at = i % 2 ? i % FL_COUNT_OF(cases) : i / FL_COUNT_OF(cases);

        (void)fl_not_yet(&bench->rc, "Loaded", "Loading", "a %s", "while");
        fl_ready_as(&bench->rc, "Sailing", "with %s", "all");
        fl_summarize(&bench->rc, cases[at].progress);
        assert_is(bench, "Ready", cases[at].ready, cases[at].reason, cases[at].message);
        assert_is(bench, "Reconciling", IS_TRUE, cases[at].reconciling, cases[at].message);
        assert_is(bench, "Stalled", IS_TRUE, cases[at].stalled, cases[at].message);
        assert_int_equal(bench->ship->status.observed_generation, 4);
        assert_true(bench->ship->status.has_observed_generation);
    }
}

static void test_setting(void **state)
{
    struct bench *bench = *state;
    struct fl_error err = {0};

    fl_true(&bench->rc, "A", "Good", "%d of %d", 2, 3);
    assert_is(bench, "A", IS_TRUE, "Good", "2 of 3");
    fl_false(&bench->rc, "B", "Bad", "not at all");
    assert_is(bench, "B", IS_FALSE, "Bad", "not at all");
    assert_null(bench->pass.cause.reason);
    assert_int_equal(fl_not_yet(&bench->rc, "C", "Soon", "wait"), FL_STEP_WAIT);
    assert_string_equal(bench->pass.cause.reason, "Soon");
    assert_int_equal(fl_stalled(&bench->rc, "D", "Stuck", "for ever"), FL_STEP_STALLED);
    assert_string_equal(bench->pass.cause.message, "for ever");
    (void)fl_error_set(&err, FL_E_FORBIDDEN, "no way");
    assert_int_equal(fl_failed(&bench->rc, "E", "Closed", &err), FL_E_FORBIDDEN);
    assert_is(bench, "E", IS_FALSE, "Closed", "no way");
    assert_int_equal(fl_not_yet(&bench->rc, NULL, "Later", "told already"), FL_STEP_WAIT);
    assert_string_equal(bench->pass.cause.reason, "Later");
    assert_int_equal(bench->ship->status.conditions.count, 5);
    fl_condition_remove(&bench->rc, "B");
    fl_condition_remove(&bench->rc, "B");
    fl_condition_remove(&bench->rc, "Unknown");
    assert_int_equal(bench->ship->status.conditions.count, 4);
    assert_string_equal(bench->ship->status.conditions.items[1].type, "C");
    assert_null(find(bench, "B"));
}

static void test_transitions(void **state)
{
    struct bench *bench = *state;

    fl_true(&bench->rc, "A", "Good", "one");
    bench->pass.now = "2026-01-01T00:00:01Z";
    fl_true(&bench->rc, "A", "Better", "two");
    assert_string_equal(find(bench, "A")->last_transition_time, "2026-01-01T00:00:00Z");
    fl_false(&bench->rc, "A", "Better", "two");
    assert_string_equal(find(bench, "A")->last_transition_time, "2026-01-01T00:00:01Z");
}

static void test_long_message(void **state)
{
    struct bench *bench = *state;
    FL_CLEANUP(fl_freep) char *text = fl_malloc(40001);

    memset(text, 'x', 40000);
    text[40000] = '\0';
    memcpy(text + 32767, "\xc3\xa4", 2); /* across the bound */
    fl_true(&bench->rc, "A", "Long", "%s", text);
    assert_int_equal(strlen(find(bench, "A")->message), 32767);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_summary),
        TEST(test_setting),
        TEST(test_transitions),
        TEST(test_long_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
