#include "reconcilers/imagebuild/imagebuild_decide.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

#define BEGIN   FL_IMAGEBUILD_BEGIN
#define WAIT    FL_IMAGEBUILD_WAIT
#define GIVE_UP FL_IMAGEBUILD_GIVE_UP
#define FAILED  FL_BUILDER_FAILED
#define US(s)   ((int64_t)(s)*1000000)

static void test_table(void **state)
{
    static const struct {
        const char *what;
        struct fl_imagebuild_facts facts;
        struct fl_imagebuild_decision decision;
    } rows[] = {
        {"the first", {.attempts = 0, .retry_limit = 2}, {BEGIN, 1, 0}},
        {"the first, with no retries", {.attempts = 0, .retry_limit = 0}, {BEGIN, 1, 0}},
        {"a refusal of another kind", {.attempts = 0, .given_up = true}, {BEGIN, 1, 0}},
        {"a restart", {.attempts = 2, .retry_limit = 2}, {BEGIN, 2, 0}},
        {"a restart past the limit", {.attempts = 3, .retry_limit = 2}, {BEGIN, 3, 0}},
        {"a restart after the end",
         {.attempts = 3, .retry_limit = 2, .given_up = true},
         {FL_IMAGEBUILD_STAY, 0, 0}},
        {"an edit after the end and a restart",
         {.attempts = 3, .retry_limit = 2, .given_up = true, .edited = true},
         {BEGIN, 4, 0}},
        {"it waits", {.attempts = 1, .state = FL_BUILDER_WAITING}, {FL_IMAGEBUILD_FOLLOW, 0, 0}},
        {"it runs",
         {.attempts = 1, .state = FL_BUILDER_RUNNING, .edited = true},
         {FL_IMAGEBUILD_FOLLOW, 0, 0}},
        {"it is built", {.attempts = 1, .state = FL_BUILDER_DONE}, {FL_IMAGEBUILD_SHOW, 0, 0}},
        {"built at last",
         {.attempts = 9, .state = FL_BUILDER_DONE, .given_up = true},
         {FL_IMAGEBUILD_SHOW, 0, 0}},
        {"failed just now",
         {.attempts = 1, .retry_limit = 2, .state = FAILED, .failure = FL_E_UNAVAILABLE},
         {WAIT, 2, 10000}},
        {"failed a while ago",
         {.attempts = 1,
          .retry_limit = 2,
          .state = FAILED,
          .failure = FL_E_UNAVAILABLE,
          .ended_us = US(100),
          .now_us = US(104)},
         {WAIT, 2, 6000}},
        {"failed long enough ago",
         {.attempts = 1,
          .retry_limit = 2,
          .state = FAILED,
          .failure = FL_E_UNAVAILABLE,
          .ended_us = US(100),
          .now_us = US(110)},
         {BEGIN, 2, 0}},
        {"the delay doubles",
         {.attempts = 3, .retry_limit = 9, .state = FAILED, .failure = FL_E_INTERNAL},
         {WAIT, 4, 40000}},
        {"up to five minutes",
         {.attempts = 90, .retry_limit = 100, .state = FAILED, .failure = FL_E_CONFLICT},
         {WAIT, 91, 300000}},
        {"a clock that was put back",
         {.attempts = 1,
          .retry_limit = 2,
          .state = FAILED,
          .failure = FL_E_UNAVAILABLE,
          .ended_us = US(5000),
          .now_us = US(100)},
         {WAIT, 2, 10000}},
        {"the last has failed",
         {.attempts = 3, .retry_limit = 2, .state = FAILED, .failure = FL_E_UNAVAILABLE},
         {GIVE_UP, 0, 0}},
        {"without retries",
         {.attempts = 1, .retry_limit = 0, .state = FAILED, .failure = FL_E_UNAVAILABLE},
         {GIVE_UP, 0, 0}},
        {"given up, and looked at again",
         {.attempts = 3,
          .retry_limit = 2,
          .given_up = true,
          .state = FAILED,
          .failure = FL_E_UNAVAILABLE},
         {GIVE_UP, 0, 0}},
        {"given up, and edited",
         {.attempts = 3,
          .retry_limit = 2,
          .given_up = true,
          .edited = true,
          .state = FAILED,
          .failure = FL_E_UNAVAILABLE},
         {BEGIN, 4, 0}},
        {"wrong code, and edited",
         {.attempts = 1,
          .retry_limit = 2,
          .given_up = true,
          .edited = true,
          .state = FAILED,
          .failure = FL_E_INVALID},
         {BEGIN, 2, 0}},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct fl_imagebuild_decision decision = fl_imagebuild_decide(&rows[i].facts);

        if (decision.action != rows[i].decision.action ||
            decision.attempt != rows[i].decision.attempt ||
            decision.wait_ms != rows[i].decision.wait_ms)
            fail_msg("%s: %d, attempt %lld in %lld ms", rows[i].what, (int)decision.action,
                     (long long)decision.attempt, (long long)decision.wait_ms);
    }
}

/* What the code or the request is to blame for ends the build at once. */
static void test_causes(void **state)
{
    static const struct {
        int code;
        bool passes;
    } rows[] = {
        {FL_E_UNAVAILABLE, true},   {FL_E_INTERNAL, true},          {FL_E_CONFLICT, true},
        {FL_E_TIMEOUT, false},      {FL_E_INVALID, false},          {FL_E_BAD_REQUEST, false},
        {FL_E_UNAUTHORIZED, false}, {FL_E_FORBIDDEN, false},        {FL_E_NOT_FOUND, false},
        {FL_E_TOO_LARGE, false},    {FL_E_TOO_MANY_REQUESTS, true},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        const struct fl_imagebuild_facts facts = {
            .attempts = 1, .retry_limit = 2, .state = FAILED, .failure = rows[i].code};

        assert_int_equal(fl_imagebuild_decide(&facts).action, rows[i].passes ? WAIT : GIVE_UP);
    }
}

/* Whatever is observed, in whatever order: never more attempts than there may be, and no attempt
 * left out. */
static void test_attempts_are_bounded(void **state)
{
    struct fl_imagebuild_facts facts = {.retry_limit = 4};
    uint64_t chance = 1;

    (void)state;
    for (int i = 0; i < 100000; i++) {
        struct fl_imagebuild_decision decision;

        chance = chance * 6364136223846793005u + 1442695040888963407u;
        facts.state = (enum fl_builder_state)((chance >> 33) % 5);
        facts.failure = (chance >> 40) % 2 ? FL_E_UNAVAILABLE : FL_E_INTERNAL;
        facts.now_us += US((chance >> 45) % 400);
        decision = fl_imagebuild_decide(&facts);
        facts.given_up = decision.action == GIVE_UP || decision.action == FL_IMAGEBUILD_STAY;
        if (decision.action != BEGIN)
            continue;
        assert_true(decision.attempt == facts.attempts || decision.attempt == facts.attempts + 1);
        facts.attempts = decision.attempt;
        assert_true(facts.attempts <= facts.retry_limit + 1);
    }
    assert_int_equal(facts.attempts, facts.retry_limit + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_causes),
        cmocka_unit_test(test_attempts_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
