/* What pip says, and what people are told. */
#include "reconcilers/imagebuild/compose/packages_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *said, *told;
} cases[] = {
    {"python3: Could not find a version that satisfies the requirement joblib==0.1 (from versions: "
     "0.8.0, 0.8.1); No matching distribution found for joblib==0.1",
     "nothing fulfils joblib==0.1 for linux/arm64 and Python 3.11: other versions have wheels, "
     "this "
     "one has none"},
    {"python3: Could not find a version that satisfies the requirement nothing (from versions: "
     "none); No matching distribution found for nothing",
     "nothing has no wheel for linux/arm64 and Python 3.11: there is no such package, or it has to "
     "be compiled"},
    {"python3: Cannot install numpy, numpy==1.26.4 and numpy>=2 because these package versions "
     "have "
     "conflicting dependencies.; ResolutionImpossible: for help visit somewhere",
     "these cannot be had together: numpy, numpy==1.26.4 and numpy>=2"},
    {"python3: Invalid requirement: '=='", "pip: Invalid requirement: '=='"},
    {"nothing that is known", "pip: nothing that is known"},
    {"satisfies the requirement cut", "pip: satisfies the requirement cut"},
};

static void people_are_told_what_to_change(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_error err = {0};

        assert_int_equal(fl_packages_explain_pip(arena, cases[i].said, "linux/arm64", "3.11", &err),
                         FL_E_INVALID);
        assert_string_equal(err.msg, cases[i].told);
    }
}

static void an_index_out_of_reach_is_told_apart(void **state)
{
    (void)state;
    assert_true(fl_packages_is_offline(
        "WARNING: Retrying (Retry(total=4, connect=None)) after connection broken by x\nERROR: "
        "Could not find a version that satisfies the requirement x (from versions: none)\n"));
    assert_false(fl_packages_is_offline(
        "ERROR: Could not find a version that satisfies the requirement x (from versions: none)"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(people_are_told_what_to_change),
        cmocka_unit_test(an_index_out_of_reach_is_told_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
