/* The generator is a program, not a library: its file of names is included whole. */
#include "hack/crdgen/names.c" /* NOLINT(bugprone-suspicious-include) */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct {
    const char *kind, *c_name;
} kinds[] = {
    {"FLProject", "fl_project"}, {"FLRound", "fl_round"}, {"InferenceServer", "fl_inferenceserver"},
    {"GitSync", "fl_gitsync"},   {"Flag", "fl_flag"},
};

static const struct {
    const char *camel, *snake;
} fields[] = {
    {"maxPerNode", "max_per_node"},
    {"beta1", "beta1"},
    {"proximalMu", "proximal_mu"},
    {"URL", "url"},
    {"q", "q"},
    {"default", "default_"},
    {"roundsPerParentRound", "rounds_per_parent_round"},
};

static const struct {
    const char *value, *constant;
} values[] = {
    {"Sync", "X_SYNC"},
    {"SemiSync", "X_SEMI_SYNC"},
    {"FedAvgM", "X_FED_AVG_M"},
    {"MLflow", "X_MLFLOW"},
    {"KServeV1", "X_KSERVE_V1"},
    {"CPU", "X_CPU"},
    {"InternalIP", "X_INTERNAL_IP"},
    {"linux/amd64", "X_LINUX_AMD64"},
};

static const struct {
    const char *plural, *singular;
} words[] = {
    {"tiers", "tier"}, {"addresses", "address"}, {"branches", "branch"}, {"replies", "reply"},
    {"env", "env"},    {"excluded", "excluded"}, {"class", "class"},
};

static void names_follow_the_house(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(kinds); i++)
        assert_string_equal(kind_to_c(arena, kinds[i].kind), kinds[i].c_name);
    for (size_t i = 0; i < FL_COUNT_OF(fields); i++)
        assert_string_equal(to_snake(arena, fields[i].camel), fields[i].snake);
    for (size_t i = 0; i < FL_COUNT_OF(values); i++)
        assert_string_equal(to_constant(arena, "x", values[i].value), values[i].constant);
    for (size_t i = 0; i < FL_COUNT_OF(words); i++)
        assert_string_equal(to_singular(arena, words[i].plural), words[i].singular);
    assert_string_equal(without_fl("fl_project"), "project");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_follow_the_house),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
