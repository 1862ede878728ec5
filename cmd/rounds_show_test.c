#include "cmd/rounds_show.h"

#include "lib/str.h"
#include "lib/text.h"
#include "lib/yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const yaml[] = {
    "spec: {index: 10}\n"
    "status: {index: 10, attempt: 2, participants: {summary: 1/4},\n"
    "  conditions: [{type: Ready, status: 'False', reason: Training}]}\n",
    "spec: {index: 9}\n"
    "status: {index: 9, attempt: 1, participants: {summary: 4/4}, examples: 640,\n"
    "  metrics: {train: {loss: '0.25'}, evaluation: {accuracy: '0.9'}}, durations: {total: 74ms},\n"
    "  model: {digest: "
    "'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'},\n"
    "  conditions: [{type: Ready, status: 'True', reason: Committed}]}\n",
    "spec: {index: 11}\n"
    "status: {index: 11, attempt: 3,\n"
    "  conditions: [{type: Ready, status: 'False', reason: QuorumNotReached, message: 1 of 2},\n"
    "    {type: Stalled, status: 'True'}]}\n",
};

static struct fl_rounds rounds_of(struct fl_arena *arena)
{
    struct fl_rounds rounds = {.arena = arena, .metric = "accuracy"};

    rounds.items = fl_new_array(arena, const json_t *, FL_COUNT_OF(yaml));
    for (size_t i = 0; i < FL_COUNT_OF(yaml); i++) {
        json_t *round = NULL;

        assert_int_equal(fl_yaml_parse(yaml[i], strlen(yaml[i]), NULL, &round, NULL), 0);
        rounds.items[rounds.count++] = fl_json_in_arena(arena, round);
    }
    fl_rounds_sort(&rounds);
    return rounds;
}

static void as_a_table(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_buf_finish) struct fl_buf out = {0};
    const struct fl_rounds rounds = rounds_of(arena);

    (void)state;
    fl_rounds_table(&rounds, false, &out);
    assert_string_equal(
        fl_buf_text(&out),
        "round   attempt   learners   examples   loss   accuracy   duration   model          "
        "status\n"
        "9       1         4/4        640        0.25   0.9        74ms       0123456789ab   "
        "Committed\n"
        "10      2         1/4        0                                                      "
        "Training\n"
        "11      3                    0                                                      "
        "QuorumNotReached\n");
    fl_buf_clear(&out);
    fl_rounds_table(&rounds, true, &out);
    assert_non_null(strstr(fl_buf_text(&out), "status\n11 "));
}

static void as_comma_separated_values(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_buf_finish) struct fl_buf out = {0};
    const struct fl_rounds rounds = rounds_of(arena);

    (void)state;
    fl_rounds_csv(&rounds, &out);
    assert_string_equal(fl_buf_text(&out),
                        "round,attempt,learners,examples,loss,accuracy,duration,model,status\n"
                        "9,1,4/4,640,0.25,0.9,74ms,0123456789ab,Committed\n"
                        "10,2,1/4,0,,,,,Training\n"
                        "11,3,,0,,,,,QuorumNotReached\n");
}

static void as_lines(void **state)
{
    static const struct {
        bool over;
        int64_t total;
        const char *line;
    } expected[] = {
        {true, 20, "round 9/20  accuracy 0.9  loss 0.25  learners 4/4  74ms  Committed"},
        {false, 0, "round 10  learners 1/4  Training"},
        {true, 0, "round 11  QuorumNotReached: 1 of 2"},
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_rounds rounds = rounds_of(arena);

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(expected); i++) {
        FL_CLEANUP(fl_buf_finish) struct fl_buf line = {0};

        assert_int_equal(fl_round_is_over(rounds.items[i]), expected[i].over);
        fl_rounds_line(&rounds, rounds.items[i], expected[i].total, &line);
        assert_string_equal(fl_buf_text(&line), expected[i].line);
    }
}

static void as_a_curve(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_buf_finish) struct fl_buf out = {0};
    struct fl_rounds rounds = rounds_of(arena);

    (void)state;
    fl_rounds_chart(&rounds, 80, false, &out);
    assert_true(fl_str_has_prefix(fl_buf_text(&out), "accuracy\n       0.9 |"));
    assert_true(fl_str_has_suffix(fl_buf_text(&out), "+ round 9 ... 11\n"));
    fl_buf_clear(&out);
    rounds.metric = "recall"; /* which nobody measured */
    fl_rounds_chart(&rounds, 80, true, &out);
    rounds.count = 0;
    fl_rounds_chart(&rounds, 80, true, &out);
    assert_int_equal(out.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_a_table),
        cmocka_unit_test(as_comma_separated_values),
        cmocka_unit_test(as_lines),
        cmocka_unit_test(as_a_curve),
    };

    return cmocka_run_group_tests_name("rounds_show", tests, NULL, NULL);
}
