#include "cmd/top_state.h"

#include "lib/str.h"
#include "lib/yaml.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *object_of(const char *uid, const char *name)
{
    return json_pack("{s:{s:s, s:s, s:s}}", "metadata", "uid", uid, "name", name, "namespace", "a");
}

static void put(struct fl_top *top, enum fl_top_kind kind, const char *uid, const char *name)
{
    FL_JSON object = object_of(uid, name);

    (void)fl_top_put(top, kind, object);
}

/* Their names, in order. */
static void assert_names(const struct fl_top *top, enum fl_top_kind kind, const char *expected)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_buf_finish) struct fl_buf names = {0};
    size_t count;
    const json_t **objects = fl_top_sorted(top, kind, arena, &count);

    for (size_t i = 0; i < count; i++)
        fl_buf_printf(&names, "%s%s", i > 0 ? " " : "", fl_json_str(objects[i], "metadata.name"));
    assert_string_equal(fl_buf_text(&names), expected);
}

static void note_gone(void *user, const json_t *object)
{
    assert_string_equal(fl_json_str(object, "metadata.name"), "a");
    (*(int *)user)++;
}

static void a_list_replaces_what_was_known(void **state)
{
    FL_CLEANUP(fl_top_destroyp) struct fl_top *top = fl_top_create();
    FL_JSON gone = object_of("3", "c");
    int gone_count = 0;

    (void)state;
    fl_top_begin(top, FL_TOP_PROJECTS);
    put(top, FL_TOP_PROJECTS, "1", "a");
    put(top, FL_TOP_PROJECTS, "2", "b");
    fl_top_end(top, FL_TOP_PROJECTS, note_gone, &gone_count);
    put(top, FL_TOP_PROJECTS, "3", "c");
    put(top, FL_TOP_WORKLOADS, "4", "w");
    assert_names(top, FL_TOP_PROJECTS, "a b c");
    fl_top_remove(top, FL_TOP_PROJECTS, gone);
    assert_names(top, FL_TOP_PROJECTS, "a b");
    fl_top_begin(top, FL_TOP_PROJECTS);
    put(top, FL_TOP_PROJECTS, "2", "b");
    assert_names(top, FL_TOP_PROJECTS, "a b"); /* until the list is at its end */
    put(top, FL_TOP_PROJECTS, "5", "0");
    fl_top_end(top, FL_TOP_PROJECTS, note_gone, &gone_count);
    assert_names(top, FL_TOP_PROJECTS, "0 b");
    assert_int_equal(gone_count, 1);
    assert_names(top, FL_TOP_WORKLOADS, "w");
}

static void there_is_a_bound(void **state)
{
    FL_CLEANUP(fl_top_destroyp) struct fl_top *top = fl_top_create();
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    size_t count;

    (void)state;
    for (int i = 0; i < FL_TOP_OBJECTS_MAX; i++)
        put(top, FL_TOP_WORKLOADS, fl_arena_printf(arena, "u%d", i), "w");
    assert_false(fl_top_is_full(top, FL_TOP_WORKLOADS));
    put(top, FL_TOP_WORKLOADS, "u0", "changed");
    assert_false(fl_top_is_full(top, FL_TOP_WORKLOADS));
    put(top, FL_TOP_WORKLOADS, "one more", "w");
    assert_true(fl_top_is_full(top, FL_TOP_WORKLOADS));
    (void)fl_top_sorted(top, FL_TOP_WORKLOADS, arena, &count);
    assert_int_equal(count, FL_TOP_OBJECTS_MAX);
    fl_top_begin(top, FL_TOP_WORKLOADS);
    put(top, FL_TOP_WORKLOADS, "u0", "w");
    fl_top_end(top, FL_TOP_WORKLOADS, NULL, NULL);
    assert_false(fl_top_is_full(top, FL_TOP_WORKLOADS));
}

/* However large an object is, what is kept of it is not. */
static void little_is_kept(void **state)
{
    FL_CLEANUP(fl_top_destroyp) struct fl_top *top = fl_top_create();
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};
    FL_CLEANUP(fl_freep) char *blah = fl_malloc(30001);
    FL_JSON object = object_of("1", "w");
    json_t *status = fl_json_ensure_object(object, "status"), *instances = json_array();
    const json_t *kept;

    (void)state;
    memset(blah, 'x', 30000);
    blah[30000] = '\0';
    for (int i = 0; i < 256; i++)
        (void)json_array_append_new(instances,
                                    json_pack("{s:i, s:s, s:{s:s, s:i}}", "index", i, "message",
                                              blah, "lastExit", "logTail", blah, "code", 1));
    (void)json_object_set_new(status, "instances", instances);
    (void)json_object_set_new(status, "conditions",
                              json_pack("[{s:s, s:s, s:s}, {s:s, s:s}]", "type", "Ready", "reason",
                                        "Restarting", "message", blah, "type", "Other", "message",
                                        blah));
    fl_json_set_str(fl_json_ensure_object(object, "spec"), "image", blah);
    kept = fl_top_put(top, FL_TOP_WORKLOADS, object);
    fl_json_write(&text, kept);
    assert_true(text.len < 8000);
    assert_int_equal(json_array_size(json_object_get(kept, "instances")), 8);
    assert_int_equal(
        fl_json_int(json_array_get(json_object_get(kept, "instances"), 0), "lastExit.code", 0), 1);
    assert_int_equal(
        strlen(fl_json_str(json_array_get(fl_json_path(kept, "status.conditions"), 0), "message")),
        300);
}

static void groups_lie_together(void **state)
{
    static const struct {
        const char *ns, *group, *names;
    } examples[] = {{"a", "p", "p1 p2 p10"}, {"a", "q", "q1"},  {"b", "p", "x"},
                    {"a", "none", ""},       {"none", "p", ""}, {"", "", ""}};
    static const char *const rounds[][4] = {{"a", "p", "10", "p10"},
                                            {"b", "p", "3", "x"},
                                            {"a", "p", "2", "p2"},
                                            {"a", "q", "1", "q1"},
                                            {"a", "p", "1", "p1"}};
    FL_CLEANUP(fl_top_destroyp) struct fl_top *top = fl_top_create();
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const json_t **all;
    size_t count;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rounds); i++) {
        FL_JSON round =
            json_pack("{s:{s:s, s:s, s:s}, s:{s:i, s:{s:s}}}", "metadata", "uid", rounds[i][3],
                      "name", rounds[i][3], "namespace", rounds[i][0], "spec", "index",
                      atoi(rounds[i][2]), "project", "name", rounds[i][1]);

        (void)fl_top_put(top, FL_TOP_ROUNDS, round);
    }
    all = fl_top_sorted(top, FL_TOP_ROUNDS, arena, &count);
    for (size_t i = 0; i < FL_COUNT_OF(examples); i++) {
        FL_CLEANUP(fl_buf_finish) struct fl_buf names = {0};
        size_t found;
        const json_t **group = fl_top_group(all, count, examples[i].ns, examples[i].group, &found);

        for (size_t k = 0; k < found; k++)
            fl_buf_printf(&names, "%s%s", k > 0 ? " " : "", fl_json_str(group[k], "metadata.name"));
        assert_string_equal(fl_buf_text(&names), examples[i].names);
    }
}

static void rates(void **state)
{
    static const struct {
        const char *what;
        int64_t spans[30][2]; /* seconds: start and end of each round; 0: not yet */
        double rate;
        const char *duration; /* of each, where it is told */
    } examples[] = {
        {"none", {{0}}, NAN, NULL},
        {"one that runs", {{10, 0}}, NAN, NULL},
        {"one", {{10, 14}}, 0.25, NULL},
        {"with a pause", {{10, 12}, {16, 20}}, 0.2, NULL},
        {"and the one that runs", {{10, 12}, {12, 14}, {14, 0}}, 0.5, NULL},
        {"within a second", {{10, 10}, {10, 10}}, NAN, NULL},
        {"which is told", {{10, 10}, {10, 10}}, 4, "250ms"},
        {"and is less than what lies between", {{10, 11}, {14, 15}}, 0.4, "0.5s"},
        {"faster now", /* the first is longer ago than is looked at */
         {{1, 100},
          {100, 103},
          {103, 106},
          {106, 109},
          {109, 112},
          {112, 115},
          {115, 118},
          {118, 121},
          {121, 124},
          {124, 127},
          {127, 130}},
         1.0 / 3,
         NULL},
        {"many a second", /* one second is not enough to tell */
         {{1, 3},
          {3, 5},
          {5, 7},
          {7, 9},
          {9, 11},
          {11, 13},
          {13, 13},
          {13, 13},
          {13, 13},
          {13, 14},
          {14, 14},
          {14, 14},
          {14, 14},
          {14, 14},
          {14, 14},
          {14, 14},
          {14, 14},
          {14, 14}},
         18.0 / 13,
         NULL},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(examples); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        const json_t *rounds[30];
        size_t count = 0;
        double rate;

        for (; count < 30 && examples[i].spans[count][0] > 0; count++) {
            char start[FL_TIME_SIZE], end[FL_TIME_SIZE];
            json_t *status = json_object(), *round = json_pack("{s:o}", "status", status);

            fl_time_format((1000000000 + examples[i].spans[count][0]) * 1000000, start);
            fl_time_format((1000000000 + examples[i].spans[count][1]) * 1000000, end);
            fl_json_set_str(status, "startTime", start);
            if (examples[i].spans[count][1] > 0)
                fl_json_set_str(status, "completionTime", end);
            if (examples[i].duration)
                fl_json_set_str(fl_json_ensure_object(status, "durations"), "total",
                                examples[i].duration);
            rounds[count] = fl_json_in_arena(arena, round);
        }
        rate = fl_top_rate(rounds, count);
        if (isnan(examples[i].rate) ? !isnan(rate) : !(fabs(rate - examples[i].rate) < 1e-9))
            fail_msg("%s: %g", examples[i].what, rate);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_replaces_what_was_known),
        cmocka_unit_test(there_is_a_bound),
        cmocka_unit_test(little_is_kept),
        cmocka_unit_test(groups_lie_together),
        cmocka_unit_test(rates),
    };

    return cmocka_run_group_tests_name("top_state", tests, NULL, NULL);
}
