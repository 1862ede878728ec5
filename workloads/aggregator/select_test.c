/* Selection: rules, and what is drawn how often. */
#include "workloads/aggregator/select.h"

#include "lib/mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define MANY 20

struct group {
    struct fl_candidate all[MANY];
    char names[MANY][16];
    struct fl_candidate *order[MANY];
};

static void make_group(struct group *group)
{
    memset(group, 0, sizeof(*group));
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(group->names[i], sizeof(group->names[i]), "l-%d", i);
        group->all[i] =
            (struct fl_candidate){.id = group->names[i], .examples = 10, .loss = (double)NAN};
        group->order[i] = &group->all[i];
    }
}

static void order(struct group *group, enum fl_selection how, int64_t round, size_t want,
                  struct fl_oort *oort)
{
    const struct fl_select select = {
        .selection = how, .seed = 7, .round = round, .attempt = 1, .want = want, .oort = oort};

    fl_select_order(&select, group->order, MANY);
}

static int index_of(const struct group *group, const struct fl_candidate *candidate)
{
    return (int)(candidate - group->all);
}

static void test_everybody_is_in_the_order_once(void **state)
{
    (void)state;
    for (int how = FL_SELECTION_ALL; how <= FL_SELECTION_OORT; how++)
        for (int64_t round = 1; round < 30; round++) {
            struct fl_oort oort;
            struct group group;
            bool seen[MANY] = {false};

            fl_oort_init(&oort);
            make_group(&group);
            for (int i = 0; i < MANY; i += 3) {
                group.all[i].loss = i;
                group.all[i].duration_ms = 10 * i;
            }
            order(&group, (enum fl_selection)how, round, (size_t)round % (MANY + 1), &oort);
            for (int i = 0; i < MANY; i++) {
                assert_false(seen[index_of(&group, group.order[i])]);
                seen[index_of(&group, group.order[i])] = true;
            }
        }
}

static void test_the_order_of_joining_does_not_matter(void **state)
{
    struct group one, other;

    (void)state;
    make_group(&one);
    make_group(&other);
    for (int i = 0; i < MANY; i++)
        other.order[i] = &other.all[MANY - 1 - i];
    order(&one, FL_SELECTION_RANDOM, 3, 5, NULL);
    order(&other, FL_SELECTION_RANDOM, 3, 5, NULL);
    for (int i = 0; i < MANY; i++)
        assert_string_equal(one.order[i]->id, other.order[i]->id);
}

/* 4,000 rounds of 5 of 20: each is expected 1,000 times, with a deviation of 27. */
static void test_random_is_uniform(void **state)
{
    int64_t chosen[MANY] = {0};

    (void)state;
    for (int64_t round = 1; round <= 4000; round++) {
        struct group group;

        make_group(&group);
        order(&group, FL_SELECTION_RANDOM, round, 5, NULL);
        for (int i = 0; i < 5; i++)
            chosen[index_of(&group, group.order[i])]++;
    }
    for (int i = 0; i < MANY; i++)
        assert_in_range(chosen[i], 1000 - 6 * 27, 1000 + 6 * 27);
}

static void test_whoever_holds_an_update_comes_first(void **state)
{
    (void)state;
    for (int how = FL_SELECTION_ALL; how <= FL_SELECTION_OORT; how++) {
        struct fl_oort oort;
        struct group group;

        fl_oort_init(&oort);
        make_group(&group);
        group.all[13].holds = group.all[4].holds = true;
        order(&group, (enum fl_selection)how, 9, 3, &oort);
        assert_true(group.order[0]->holds && group.order[1]->holds && !group.order[2]->holds);
    }
}

static void test_availability_prefers_who_finishes(void **state)
{
    struct group group;

    (void)state;
    make_group(&group);
    for (int i = 0; i < MANY; i++)
        group.all[i].asked = 10;
    group.all[6].done = 10; /* 11/12 */
    group.all[2].done = 9;
    group.all[11] = (struct fl_candidate){.id = "l-11"}; /* 1/2: not tried */
    order(&group, FL_SELECTION_AVAILABILITY, 1, 3, NULL);
    assert_string_equal(group.order[0]->id, "l-6");
    assert_string_equal(group.order[1]->id, "l-2");
    assert_string_equal(group.order[2]->id, "l-11");
}

static void test_oort_explores_less_and_less(void **state)
{
    struct fl_oort oort;

    (void)state;
    fl_oort_init(&oort);
    assert_true(fabs(oort.exploration - (0.9)) < 1e-12);
    fl_oort_round_done(&oort, 1);
    assert_true(fabs(oort.exploration - (0.9 * 0.98)) < 1e-12);
    for (int i = 0; i < 200; i++)
        fl_oort_round_done(&oort, 1);
    assert_true(fabs(oort.exploration - (0.2)) < 1e-12);
}

/* Half were tried: of 10 wanted, 2 (a share of 0.2) are new; of the others those with high losses
 * win, but no liar does by a loss beyond all measure. */
static void test_oort_exploits_utility(void **state)
{
    int64_t chosen[MANY] = {0};

    (void)state;
    for (int64_t round = 100; round < 600; round++) {
        struct fl_oort oort = {.exploration = 0.2};
        struct group group;
        int fresh = 0;

        make_group(&group);
        for (int i = 0; i < MANY / 2; i++) {
            group.all[i].loss = i < 2 ? 5 : 0.1;
            group.all[i].last_round = round - 1;
            group.all[i].duration_ms = 1000;
        }
        group.all[0].loss = 1e30;
        order(&group, FL_SELECTION_OORT, round, 5, &oort);
        for (int i = 0; i < 5; i++) {
            chosen[index_of(&group, group.order[i])]++;
            fresh += isnan(group.order[i]->loss);
        }
        assert_int_equal(fresh, 1);
    }
    assert_true(chosen[0] > 400 && chosen[1] > 400); /* a share of two, not all to the liar */
    assert_true(chosen[1] > chosen[5]);
}

static void test_oort_avoids_the_slow(void **state)
{
    int64_t fast = 0, slow = 0;

    (void)state;
    for (int64_t round = 10; round < 200; round++) {
        struct fl_oort oort = {.exploration = 0.2, .preferred_ms = 1000};
        struct group group;

        make_group(&group);
        for (int i = 0; i < MANY; i++) {
            group.all[i].loss = 1;
            group.all[i].last_round = round - 1;
            group.all[i].duration_ms = i % 2 ? 10000 : 1000;
        }
        order(&group, FL_SELECTION_OORT, round, 5, &oort);
        for (int i = 0; i < 5; i++)
            *(group.order[i]->duration_ms > 1000 ? &slow : &fast) += 1;
    }
    assert_int_equal(slow, 0);
    assert_int_equal(fast, 5 * 190);
}

static void test_the_pacer_gives_more_time_where_utility_falls(void **state)
{
    struct fl_oort oort = {.exploration = 0.5, .preferred_ms = 900, .pacer_step_ms = 300};

    (void)state;
    for (int i = 0; i < 20; i++)
        fl_oort_round_done(&oort, 10);
    assert_true(fabs(oort.preferred_ms - (900)) < 1e-9);
    for (int i = 0; i < 20; i++)
        fl_oort_round_done(&oort, 9);
    assert_true(fabs(oort.preferred_ms - (1200)) < 1e-9);
    for (int i = 0; i < 20; i++)
        fl_oort_round_done(&oort, 11);
    assert_true(fabs(oort.preferred_ms - (1200)) < 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everybody_is_in_the_order_once),
        cmocka_unit_test(test_the_order_of_joining_does_not_matter),
        cmocka_unit_test(test_random_is_uniform),
        cmocka_unit_test(test_whoever_holds_an_update_comes_first),
        cmocka_unit_test(test_availability_prefers_who_finishes),
        cmocka_unit_test(test_oort_explores_less_and_less),
        cmocka_unit_test(test_oort_exploits_utility),
        cmocka_unit_test(test_oort_avoids_the_slow),
        cmocka_unit_test(test_the_pacer_gives_more_time_where_utility_falls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
