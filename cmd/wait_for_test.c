#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cmd/wait_for.h"
#include "lib/yaml.h"

#include <string.h>

static const char object_text[] =
    "metadata: {generation: 2, finalizers: [a/b, c/d]}\n"
    "spec: {rounds: 10, names: [x, y]}\n"
    "status:\n"
    "  conditions:\n"
    "  - {type: Ready, status: 'False', reason: Starting, message: 1 of 2}\n"
    "  - {type: Healthy, status: 'True'}\n"
    "  - {type: Old, status: 'True', observedGeneration: 1}\n"
    "  - {type: New, status: 'True', observedGeneration: 2}\n";

static void test_goals(void **state)
{
    static const struct {
        const char *goal;
        bool met;
        const char *text;
    } cases[] = {
        {"condition=Ready", false, "Ready is False (Starting): 1 of 2"},
        {"condition=ready=false", true, NULL},
        {"condition=Healthy", true, "Healthy is True"},
        {"condition=Old", false, "Old is True (of an older generation)"},
        {"condition=New", true, NULL},
        {"condition=Nope", false, "it has no condition Nope"},
        {"jsonpath={.spec.rounds}=10", true, NULL},
        {"jsonpath={.spec.rounds}='10'", true, NULL},
        {"jsonpath=.spec.rounds=10", true, NULL},
        {"jsonpath={.spec.rounds}=1", false, "{.spec.rounds} is \"10\""},
        {"jsonpath={.spec.rounds}", true, NULL},
        {"jsonpath={.spec.nope}", false, "{.spec.nope} is not there"},
        {"jsonpath={.spec.nope}=", false, "{.spec.nope} is not there"},
        {"jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=False", true, NULL},
        {"jsonpath={.spec.names[*]}=x", false, NULL},
        {"create", true, NULL},
        {"delete", false, "nobody has deleted it"},
    };
    struct fl_error err = {0};
    FL_JSON object = NULL;

    (void)state;
    assert_int_equal(fl_yaml_parse(object_text, strlen(object_text), NULL, &object, &err), 0);
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        FL_CLEANUP(fl_wait_for_finish) struct fl_wait_for goal = {0};
        char text[FL_WAIT_TEXT_SIZE];

        assert_int_equal(fl_wait_for_parse(arena, cases[i].goal, &goal, &err), 0);
        if (fl_wait_for_is_met(&goal, object, text) != cases[i].met)
            fail_msg("%s: %s", cases[i].goal, text);
        if (cases[i].text)
            assert_string_equal(text, cases[i].text);
    }
}

static void test_existence(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_wait_for goal = {0};
    struct fl_error err = {0};
    FL_JSON object = NULL;
    char text[FL_WAIT_TEXT_SIZE];

    (void)state;
    assert_int_equal(fl_yaml_parse(object_text, strlen(object_text), NULL, &object, &err), 0);
    fl_json_set_str(json_object_get(object, "metadata"), "deletionTimestamp",
                    "2026-01-01T00:00:00Z");
    assert_int_equal(fl_wait_for_parse(arena, "delete", &goal, &err), 0);
    assert_false(fl_wait_for_is_met(&goal, object, text));
    assert_string_equal(text, "it is being deleted; finalizers: a/b, c/d");
    assert_true(fl_wait_for_is_met(&goal, NULL, text));
    assert_int_equal(fl_wait_for_parse(arena, "condition=X", &goal, &err), 0);
    assert_false(fl_wait_for_is_met(&goal, NULL, text));
    assert_string_equal(text, "it does not exist");
}

static void test_long_text(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_wait_for_finish) struct fl_wait_for goal = {0};
    struct fl_error err = {0};
    FL_JSON object = json_object();
    char text[FL_WAIT_TEXT_SIZE], *long_text = fl_alloc(arena, 5000);

    (void)state;
    memset(long_text, 'x', 4999);
    fl_json_set_str(object, "a", long_text);
    assert_int_equal(fl_wait_for_parse(arena, "jsonpath={.a}=y", &goal, &err), 0);
    assert_false(fl_wait_for_is_met(&goal, object, text));
    assert_int_equal(strlen(text), FL_WAIT_TEXT_SIZE - 1);
}

static void test_mistakes(void **state)
{
    static const char *const texts[] = {"",          "foo",       "condition=", "condition==True",
                                        "condition", "jsonpath=", "jsonpath={", "jsonpath={.a[}=x"};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(texts); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_wait_for goal = {0};
        struct fl_error err = {0};

        assert_int_equal(fl_wait_for_parse(arena, texts[i], &goal, &err), FL_E_BAD_REQUEST);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goals),
        cmocka_unit_test(test_existence),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_mistakes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
