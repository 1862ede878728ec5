/* Rounds of several projects beside each other, and rounds that only a history has. */
#include "cmd/rounds_compare.h"
#include "cmd/rounds_history.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *parse(struct fl_arena *arena, const char *text)
{
    json_t *json = NULL;

    assert_int_equal(fl_yaml_parse(text, strlen(text), NULL, &json, NULL), 0);
    return fl_json_in_arena(arena, json);
}

static struct fl_rounds rounds_of(struct fl_arena *arena, const char *text)
{
    struct fl_rounds rounds = {.arena = arena, .metric = "accuracy"};
    json_t *list = parse(arena, text), *round;
    size_t i;

    rounds.items = fl_new_array(arena, const json_t *, json_array_size(list) + 1);
    json_array_foreach(list, i, round)
        rounds.items[rounds.count++] = round;
    fl_rounds_sort(&rounds);
    return rounds;
}

static void compare(struct fl_arena *arena, struct fl_rounds_compared items[2])
{
    items[0] = (struct fl_rounds_compared){
        "old",
        rounds_of(arena, "[{status: {index: 2, metrics: {evaluation: {accuracy: '0.5'}}}},"
                         " {status: {index: 1, metrics: {evaluation: {accuracy: '0.25'}}}}]")};
    items[1] = (struct fl_rounds_compared){
        "new", rounds_of(arena, "[{status: {index: 2, metrics: {evaluation: {accuracy: '0.75'}}}},"
                                " {status: {index: 3}}]")};
}

static void as_a_table(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_buf_finish) struct fl_buf out = {0};
    struct fl_rounds_compared items[2];

    (void)state;
    compare(arena, items);
    fl_rounds_compare_table(items, 2, &out);
    assert_string_equal(fl_buf_text(&out), "round   old    new    difference\n"
                                           "1       0.25          \n"
                                           "2       0.5    0.75   +0.25\n"
                                           "3                     \n");
}

static void as_values(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_buf_finish) struct fl_buf out = {0};
    struct fl_rounds_compared items[2];
    FL_JSON json = NULL;

    (void)state;
    compare(arena, items);
    fl_rounds_compare_csv(items, 2, &out);
    assert_string_equal(fl_buf_text(&out), "round,old,new\n1,0.25,\n2,0.5,0.75\n3,,\n");
    json = fl_rounds_compare_json(items, 2);
    assert_string_equal(fl_json_str(json, "metric"), "accuracy");
    assert_int_equal(json_array_size(json_object_get(json, "projects")), 2);
}

static void of_a_history(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_rounds rounds =
        rounds_of(arena, "[{metadata: {name: p-3}, spec: {index: 3}, status: {index: 3}}]");
    json_t *histories =
        parse(arena, "[{metadata: {namespace: n}, spec: {project: {name: p}, first: 1, rounds: ["
                     "{round: 1, name: p-1, status: {metrics: {evaluation: {accuracy: '0.5'}}}},"
                     "{round: 3, name: p-3, status: {}}, {name: odd}]}}]");

    (void)state;
    fl_rounds_add_history(&rounds, histories);
    assert_int_equal(rounds.count, 2); /* what is there as an FLRound is not told twice */
    assert_int_equal(fl_round_number(rounds.items[0]), 1);
    assert_true(fl_round_is_over(rounds.items[0]));
    assert_string_equal(fl_json_str(rounds.items[0], "status.metrics.evaluation.accuracy"), "0.5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_a_table),
        cmocka_unit_test(as_values),
        cmocka_unit_test(of_a_history),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
