#include "lib/crew.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#define CHORES 200

struct work {
    struct fl_chore chore;
    int number;
    long result;
};

static void square(struct fl_chore *chore)
{
    struct work *work = (struct work *)chore;

    work->result = (long)work->number * work->number;
}

static void all_are_done_in_any_order(void **state)
{
    (void)state;
    for (size_t jobs = 1; jobs <= 5; jobs += 2) {
        FL_CLEANUP(fl_crew_destroyp) struct fl_crew *crew = NULL;
        struct work works[CHORES];

        assert_int_equal(fl_crew_create("test", jobs, &crew, NULL), 0);
        assert_int_equal(fl_crew_jobs(crew), jobs);
        for (int i = 0; i < CHORES; i++) {
            works[i] = (struct work){.chore = {.run = square}, .number = i};
            fl_crew_submit(crew, &works[i].chore);
        }
        for (int i = 0; i < CHORES; i++) {
            const int at = i * 77 % CHORES;

            fl_crew_wait(crew, &works[at].chore);
            assert_int_equal(works[at].result, at * at);
        }
    }
}

static void linger(struct fl_chore *chore)
{
    while (!__atomic_load_n(&chore->cancelled, __ATOMIC_RELAXED))
        ;
    ((struct work *)chore)->result = 1;
}

/* One that runs is told and waited for, one that waits is never run. */
static void chores_are_cancelled(void **state)
{
    (void)state;
    for (int again = 0; again < 50; again++) {
        FL_CLEANUP(fl_crew_destroyp) struct fl_crew *crew = NULL;
        struct work first = {.chore = {.run = linger}}, second = {.chore = {.run = square}};

        second.number = 3;
        assert_int_equal(fl_crew_create("test", 2, &crew, NULL), 0);
        fl_crew_submit(crew, &first.chore);
        fl_crew_submit(crew, &second.chore);
        fl_crew_cancel(crew, &second.chore);
        fl_crew_cancel(crew, &first.chore);
        assert_int_equal(first.chore.state, FL_CHORE_DONE);
        assert_int_equal(second.chore.state, FL_CHORE_DONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_are_done_in_any_order),
        cmocka_unit_test(chores_are_cancelled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
