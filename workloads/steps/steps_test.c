/* The table of steps is whole, and requests have theirs. */
#include "workloads/steps/steps.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

static void names_are_words_and_each_its_own(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_STEP_COUNT; i++) {
        assert_true(fl_steps[i].who != 0 && *fl_steps[i].what);
        assert_int_equal(strspn(fl_steps[i].name, "abcdefghijklmnopqrstuvwxyz-"),
                         strlen(fl_steps[i].name));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(fl_steps[i].name, fl_steps[j].name);
    }
}

static void requests_have_steps(void **state)
{
    static const struct {
        const char *target;
        enum fl_step unanswered, asking;
    } cases[] = {
        {"/v1/join", FL_STEP_JOIN_UNANSWERED, FL_STEP_JOINING},
        {"/v1/task?learner=a&after=0", FL_STEP_TASK_UNANSWERED, FL_STEP_POLLING},
        {"/v1/updates", FL_STEP_OFFER_UNANSWERED, FL_STEP_OFFERING},
        {"/v1/rounds/3", FL_STEP_ROUND_UNANSWERED, FL_STEP_NONE},
        {"/v1/stop", FL_STEP_NONE, FL_STEP_NONE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const struct fl_request_steps steps = fl_steps_of_request(cases[i].target);

        assert_int_equal(steps.unanswered, cases[i].unanswered);
        assert_int_equal(steps.asking, cases[i].asking);
    }
}

static void note(void *user, const char *step)
{
    *(const char **)user = step;
}

static void env_is_told(void **state)
{
    const char *told = NULL;
    const struct fl_env env = {.reached = note, .reached_user = &told}, deaf = {0};

    (void)state;
    fl_step(&env, FL_STEP_NONE);
    assert_null(told);
    fl_step(&env, FL_STEP_COMMIT_WRITTEN);
    assert_string_equal(told, "commit-written");
    fl_step(&deaf, FL_STEP_COMMIT_WRITTEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names_are_words_and_each_its_own),
                                       cmocka_unit_test(requests_have_steps),
                                       cmocka_unit_test(env_is_told)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
