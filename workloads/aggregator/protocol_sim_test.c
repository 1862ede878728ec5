/* The round protocol, simulated (sim/rig.h): worlds by seed, and mistakes that must be found.
 *
 *   protocol_sim_test COUNT [FIRST [-v]]   worlds (make sim-protocol SEEDS=…)
 *   protocol_sim_test planted [COUNT]      each planted mistake, in up to COUNT worlds */
#include "lib/env.h"
#include "lib/str.h"
#include "workloads/aggregator/sim/rig.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

/* Of what `make check` runs; a sanitizer sees enough in fewer. */
#ifdef __SANITIZE_ADDRESS__
#define WORLDS 100
#else
#define WORLDS 400
#endif

static void print_totals(uint64_t count, uint64_t failures, const struct rig_totals *totals,
                         int64_t began_us)
{
    printf("%" PRIu64 " seeds, %" PRIu64 " failures; %zu events, %zu crashes, %zu messages lost, "
           "%zu sums finished, %zu late updates, %zu refused, %zu trainers hung, %zu rounds "
           "aborted, %zu learners left, %zu journals replaced; %.1f s\n",
           count, failures, totals->steps, totals->crashes, totals->lost, totals->commits,
           totals->late, totals->refused, totals->hung, totals->aborts, totals->leaves,
           totals->replacements, (double)(fl_machine_monotonic_us() - began_us) / 1e6);
}

static uint64_t run_many(uint64_t first, uint64_t count, bool verbose)
{
    struct rig_totals totals = {0};
    int64_t began_us = fl_machine_monotonic_us();
    uint64_t failures = 0;
    char failure[400];

    for (uint64_t seed = first; seed < first + count; seed++) {
        rig_run(seed, RIG_BUG_NONE, verbose, failure, &totals);
        if (*failure && ++failures <= 20)
            printf("seed %" PRIu64 ": %s\n", seed, failure);
    }
    print_totals(count, failures, &totals, began_us);
    return failures;
}

/* The seed that finds it; 0: none does. */
static uint64_t hunt(enum rig_bug bug, uint64_t count, char failure[400])
{
    struct rig_totals totals = {0};

    for (uint64_t seed = 1; seed <= count; seed++) {
        rig_run(seed, bug, false, failure, &totals);
        if (*failure)
            return seed;
    }
    return 0;
}

static uint64_t hunt_all(uint64_t count)
{
    uint64_t missed = 0;
    char failure[400];

    for (enum rig_bug bug = RIG_BUG_NONE + 1; bug < RIG_BUGS; bug++) {
        uint64_t seed = hunt(bug, count, failure);

        missed += seed == 0;
        printf("%-20s %s %" PRIu64 "%s%s\n", rig_bugs[bug],
               seed ? "is found by seed" : "IS NOT FOUND in worlds up to", seed ? seed : count,
               seed ? ": " : "", seed ? failure : "");
    }
    return missed;
}

static void test_worlds(void **state)
{
    (void)state;
    assert_int_equal(run_many(1, WORLDS, false), 0);
}

static void test_planted_mistakes_are_found(void **state)
{
    (void)state;
    assert_int_equal(hunt_all(2000), 0);
}

static void test_a_seed_is_a_world(void **state)
{
    struct rig_totals once = {0}, again = {0};
    char failure[400];

    (void)state;
    for (uint64_t seed = 1; seed < 20; seed++) {
        rig_run(seed, RIG_BUG_NONE, false, failure, &once);
        rig_run(seed, RIG_BUG_NONE, false, failure, &again);
        assert_memory_equal(&once, &again, sizeof(once));
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_seed_is_a_world),
        cmocka_unit_test(test_worlds),
        cmocka_unit_test(test_planted_mistakes_are_found),
    };
    bool planted = argc > 1 && strcmp(argv[1], "planted") == 0;
    int64_t count = 2000, first = 1;

    if (argc == 1)
        return cmocka_run_group_tests(tests, NULL, NULL);
    if ((!planted && !fl_str_to_int64(argv[1], 1, INT32_MAX, &count)) ||
        (argc > 2 && !fl_str_to_int64(argv[2], 1, INT32_MAX, planted ? &count : &first))) {
        (void)fprintf(stderr, "usage: %s [COUNT [FIRST [-v]] | planted [COUNT]]\n", argv[0]);
        return 2;
    }
    if (planted)
        return hunt_all((uint64_t)count) > 0;
    return run_many((uint64_t)first, (uint64_t)count, argc > 3) > 0;
}
