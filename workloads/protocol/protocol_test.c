/* Messages: every form there and back, its bounds, routes, errors, seeds. */
#include "workloads/protocol/protocol.h"

#include "lib/str.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define D "\"sha256:1111111111111111111111111111111111111111111111111111111111111111\""

static const struct {
    const struct fl_form *form;
    const char *least; /* all that is required */
    const char *full;  /* canonical, with all that is not a default */
} forms[] = {
    {&fl_form_join, "{\"learner\":\"l\",\"protocol\":1}",
     "{\"aggregator\":true,\"examples\":9,\"expectedFitMs\":5,\"labels\":{\"k\":\"v\"},"
     "\"learner\":\"a.b_c-d/e:f\",\"learners\":3,\"name\":\"n\",\"orphanOf\":\"t\",\"platform\":"
     "\"x\",\"project\":\"p\",\"protocol\":1,\"tags\":[\"m\"],\"token\":\"t-1\"}"},
    {&fl_form_joined, "{\"aggregator\":\"a\",\"protocol\":1}",
     "{\"aggregator\":\"a\",\"chunkBytes\":1024,\"maxUpdateBytes\":1,\"parent\":\"u\",\"pollMs\":1,"
     "\"progressMs\":1,\"project\":\"p\",\"protocol\":1,\"silenceMs\":1}"},
    {&fl_form_task, "{\"kind\":\"Wait\"}",
     "{\"attempt\":1,\"deadlineMs\":7,\"kind\":\"Fit\",\"late\":true,\"local\":{\"batchSize\":1,"
     "\"config\":{\"a\":[1]},\"epochs\":2,\"learningRate\":0.5,\"momentum\":0.25,\"proximalMu\":1."
     "5,"
     "\"weightDecay\":0.125},\"message\":\"m\",\"minExamples\":1,\"model\":" D
     ",\"modelSize\":5,\"origin\":\"1.1\",\"project\":\"p\",\"round\":1,\"seed\":3,\"seq\":2,"
     "\"tags\":[\"t\"],\"tier\":{\"deadlineMs\":1,\"fraction\":0.5,\"maxExamples\":2,"
     "\"overSelection\":1.5,\"precision\":{\"bits\":1,\"maxWeight\":2,\"rangeBits\":3},\"quorum\":"
     "2,"
     "\"retryLimit\":1,\"roundsPerParentRound\":2,\"strategy\":{\"name\":\"FedAvg\"}},\"work\":"
     "\"w\"}"},
    {&fl_form_progress, "{\"learner\":\"l\"}",
     "{\"all\":2,\"attempt\":1,\"done\":1,\"gaveUp\":true,\"learner\":\"l\",\"message\":\"m\","
     "\"project\":\"p\",\"reason\":\"R\",\"round\":1,\"stage\":\"Training\"}"},
    {&fl_form_offer,
     "{\"attempt\":1,\"digest\":" D
     ",\"examples\":1,\"learner\":\"l\",\"project\":\"p\",\"round\":1,\"size\":1,\"work\":\"w\"}",
     "{\"attempt\":1,\"base\":" D ",\"contributors\":[\"a\",\"b\"],\"digest\":" D
     ",\"downloadMs\":1,\"examples\":1,\"learner\":\"l\",\"loss\":0.5,\"lossBefore\":1.5,"
     "\"lossRms\":0.25,\"metrics\":{\"x\":-2.5},\"partial\":true,\"project\":\"p\",\"round\":1,"
     "\"size\":1,\"steps\":4,\"trainMs\":2,\"work\":\"w\"}"},
    {&fl_form_result, "{\"learner\":\"l\",\"model\":" D ",\"project\":\"p\",\"round\":1}",
     "{\"examples\":3,\"learner\":\"l\",\"loss\":0.5,\"metrics\":{\"accuracy\":0.75},\"model\":" D
     ",\"project\":\"p\",\"round\":1}"},
    {&fl_form_leave, "{\"learner\":\"l\"}", "{\"learner\":\"l\",\"message\":\"m\"}"},
    {&fl_form_answer, "{\"verdict\":\"Ok\"}",
     "{\"message\":\"m\",\"path\":\"/v1/uploads/1\",\"reason\":\"R\",\"retryMs\":5,\"verdict\":"
     "\"Refused\"}"},
    {&fl_form_tier, "{}", "{\"quorum\":2,\"strategy\":{\"name\":\"FedAdam\"}}"},
    {&fl_form_round_order,
     "{\"model\":" D
     ",\"modelSize\":1,\"project\":\"p\",\"round\":1,\"strategy\":{\"name\":\"FedAvg\"}}",
     "{\"evaluation\":{\"deadlineMs\":1,\"enabled\":true,\"fraction\":0.5},\"maxWeight\":9,"
     "\"minExamples\":2,\"mode\":\"Async\",\"model\":" D
     ",\"modelSize\":1,\"participation\":{\"availableWithinMs\":1,\"deadlineMs\":2,\"fraction\":0."
     "5,"
     "\"maxExampleShare\":0.25,\"minAvailable\":3,\"overSelection\":1.5,\"quorum\":2,"
     "\"retryLimit\":"
     "0,\"selection\":\"Oort\"},\"project\":\"p\",\"rangeBits\":3,\"round\":1,"
     "\"roundsPerParentRound\":2,\"run\":1,\"seed\":4,\"staleness\":{\"exponent\":1.5,"
     "\"maxRounds\":"
     "2,\"weighting\":\"Exponential\"},\"strategy\":{\"beta1\":0.5,\"bufferSize\":5,\"name\":"
     "\"FedBuff\"},\"tags\":[\"a\",\"b\"],\"tierDeadlineMs\":8}"},
    {&fl_form_round_report, "{}",
     "{\"asked\":9,\"attempt\":1,\"bytesUp\":5,\"evaluation\":{\"loss\":0.5},\"excluded\":[{"
     "\"learner\":\"l\","
     "\"message\":\"m\",\"outcome\":\"Late\",\"reason\":\"Deadline\"}],\"model\":" D
     ",\"phase\":\"Committed\",\"project\":\"p\",\"reported\":2,\"round\":1,\"version\":7}"},
    {&fl_form_children, "{}", "{\"children\":{\"t-0\":\"https://x\"}}"},
    {&fl_form_stop, "{}", "{\"message\":\"m\"}"},
    {&fl_form_status, "{\"aggregator\":\"a\",\"protocol\":1}",
     "{\"aggregator\":\"a\",\"available\":1,\"committed\":2,\"examples\":3,\"learners\":4,\"life\":"
     "5,\"members\":6,\"model\":" D
     ",\"project\":\"p\",\"protocol\":1,\"round\":3,\"stopped\":true}"},
};

union any {
    struct fl_join join;
    struct fl_joined joined;
    struct fl_task task;
    struct fl_offer offer;
    struct fl_round_order spec;
    struct fl_round_report status;
    struct fl_status all;
};

static int decode(struct fl_arena *arena, const struct fl_form *form, const char *text,
                  union any *message, struct fl_error *err)
{
    return fl_message_decode(arena, form, text, strlen(text), message, err);
}

static void test_every_form_there_and_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(forms); i++) {
        const char *texts[] = {forms[i].least, forms[i].full};

        for (size_t k = 0; k < 2; k++) {
            FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
            FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
            FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *copied = NULL;
            union any message, copy;
            struct fl_error err = {0};

            if (decode(arena, forms[i].form, texts[k], &message, &err) < 0)
                fail_msg("%s: %s", texts[k], err.msg);
            text = fl_message_encode(forms[i].form, &message);
            assert_string_equal(text->data, texts[k]);
            fl_message_copy(arena, forms[i].form, &message, &copy);
            copied = fl_message_encode(forms[i].form, &copy);
            assert_string_equal(copied->data, texts[k]);
        }
    }
}

/* Newer peers say more. */
static void test_unknown_members_are_ignored(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(forms); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
        const char *more = fl_arena_printf(arena, "{\"Zzz\":[{}],%s", forms[i].full + 1);
        union any message;

        assert_int_equal(decode(arena, forms[i].form, more, &message, NULL), 0);
        text = fl_message_encode(forms[i].form, &message);
        assert_string_equal(text->data, forms[i].full);
    }
}

/* Each required member, left out; the struct stays as it was. */
static void test_what_is_required_must_be_there(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(forms); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        FL_JSON least = NULL;
        const char *key;
        json_t *value;

        assert_int_equal(
            fl_json_parse(forms[i].least, strlen(forms[i].least), NULL, NULL, NULL, &least, NULL),
            0);
        json_object_foreach(least, key, value) {
            FL_JSON without = json_copy(least);
            union any message, before;

            memset(&message, 0x5a, sizeof(message));
            before = message;
            json_object_del(without, key);
            assert_int_equal(fl_message_from_json(arena, forms[i].form, without, &message, NULL),
                             FL_E_INVALID);
            assert_memory_equal(&message, &before, sizeof(message));
        }
    }
}

static void test_bounds_are_told_with_their_place(void **state)
{
    static const struct {
        const struct fl_form *form;
        const char *text, *message;
        int code;
    } cases[] = {
        {&fl_form_join, "{\"learner\":\"l\"", "", FL_E_BAD_REQUEST},
        {&fl_form_join, "[]", "", FL_E_INVALID},
        {&fl_form_join, "{\"protocol\":1,\"learner\":\"../x\"}", "join.learner: is no name",
         FL_E_INVALID},
        {&fl_form_join, "{\"protocol\":1,\"learner\":\"\"}", "join.learner: is no name",
         FL_E_INVALID},
        {&fl_form_join, "{\"protocol\":0,\"learner\":\"l\"}", "join.protocol: 0 is not from 1",
         FL_E_INVALID},
        {&fl_form_join, "{\"protocol\":1,\"learner\":\"l\",\"examples\":9007199254740992}",
         "join.examples: ", FL_E_INVALID},
        {&fl_form_join, "{\"protocol\":1,\"learner\":\"l\",\"examples\":1.5}", "join.examples: is ",
         FL_E_INVALID},
        {&fl_form_join, "{\"protocol\":1,\"learner\":\"l\",\"tags\":[\"a\",1]}",
         "join.tags[1]: ", FL_E_INVALID},
        {&fl_form_join, "{\"protocol\":1,\"learner\":\"l\",\"labels\":{\"a\":1}}",
         "join.labels.a: ", FL_E_INVALID},
        {&fl_form_task, "{\"kind\":\"Sleep\"}", "task.kind: there is no such word", FL_E_INVALID},
        {&fl_form_task, "{\"kind\":\"Fit\"}", "work needs", FL_E_INVALID},
        {&fl_form_task, "{\"kind\":\"Init\"}", "Init needs", FL_E_INVALID},
        {&fl_form_task, "{\"kind\":\"Move\"}", "Move needs an address", FL_E_INVALID},
        {&fl_form_task, "{\"kind\":\"Wait\",\"local\":{\"epochs\":0}}", "task.local.epochs: 0",
         FL_E_INVALID},
        {&fl_form_task, "{\"kind\":\"Wait\",\"local\":{\"learningRate\":1e999}}", "",
         FL_E_BAD_REQUEST},
        {&fl_form_task, "{\"kind\":\"Wait\",\"model\":\"sha256:1\"}", "task.model: is no digest",
         FL_E_INVALID},
        {&fl_form_round_order,
         "{\"model\":" D ",\"modelSize\":1,\"project\":\"p\",\"round\":1,\"strategy\":{\"name\":"
         "\"FedBuff\"}}",
         "FedBuff belongs to mode Async", FL_E_INVALID},
        {&fl_form_round_order,
         "{\"model\":" D ",\"modelSize\":1,\"project\":\"p\",\"round\":1,\"strategy\":{\"name\":"
         "\"FedAvg\"},\"participation\":{\"quorum\":2}}",
         "quorum: is above minAvailable", FL_E_INVALID},
        {&fl_form_round_report, "{\"excluded\":[{\"learner\":\"l\",\"outcome\":\"Lost\"}]}",
         "excluded[0].outcome: ", FL_E_INVALID},
        {&fl_form_result,
         "{\"learner\":\"l\",\"model\":" D
         ",\"project\":\"p\",\"round\":1,\"metrics\":{\"a\":\"b\"}}",
         "result.metrics.a: ", FL_E_INVALID},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_error err = {0};
        union any message;
        int r = decode(arena, cases[i].form, cases[i].text, &message, &err);

        if (r != cases[i].code || !strstr(err.msg, cases[i].message))
            fail_msg("%s: %d %s", cases[i].text, r, err.msg);
    }
}

static void test_contributors_rise(void **state)
{
    static const struct {
        const char *list;
        int result;
    } cases[] = {
        {"[\"a\",\"b\"]", 0},
        {"[\"b\",\"a\"]", FL_E_INVALID},
        {"[\"a\",\"a\"]", FL_E_INVALID}, /* twice in one sum */
        {"[]", FL_E_INVALID},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        const char *text = fl_arena_printf(
            arena,
            "{\"attempt\":1,\"base\":" D ",\"digest\":" D ",\"examples\":1,\"learner\":\"l\","
            "\"project\":\"p\",\"round\":1,\"size\":1,\"work\":\"w\",\"partial\":true,"
            "\"contributors\":%s}",
            cases[i].list);
        union any message;

        assert_int_equal(decode(arena, &fl_form_offer, text, &message, NULL), cases[i].result);
    }
}

static void test_a_body_has_a_bound(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_buf text;
    union any message;

    (void)state;
    fl_buf_init(&text, 0);
    fl_buf_puts(&text, "{\"learner\":\"l\",\"protocol\":1,\"name\":\"");
    while (text.len <= FL_PROTOCOL_BODY_MAX)
        fl_buf_puts(&text, "0123456789abcdef");
    fl_buf_puts(&text, "\"}");
    assert_int_equal(fl_message_decode(arena, &fl_form_join, text.data, text.len, &message, NULL),
                     FL_E_TOO_LARGE);
    fl_buf_finish(&text);
}

static void test_routes(void **state)
{
    static const struct {
        const char *method, *target;
        int result;
        enum fl_route route;
        int64_t round, after;
        const char *learner;
    } cases[] = {
        {"POST", "/v1/join", 0, FL_ROUTE_JOIN, 0, 0, NULL},
        {"GET", "/v1/task?learner=a%2Fb&after=7&join=t", 0, FL_ROUTE_TASK, 0, 7, "a/b"},
        {"GET", "/v1/task", FL_E_BAD_REQUEST, 0, 0, 0, NULL},
        {"GET", "/v1/task?learner=l&after=-1", FL_E_BAD_REQUEST, 0, 0, 0, NULL},
        {"GET", "/v1/task?learner=l&after=9007199254740992", FL_E_BAD_REQUEST, 0, 0, 0, NULL},
        {"PUT", "/v1/rounds/12", 0, FL_ROUTE_START_ROUND, 12, 0, NULL},
        {"GET", "/v1/rounds/12?after=3", 0, FL_ROUTE_WATCH_ROUND, 12, 3, NULL},
        {"POST", "/v1/rounds/12/abort", 0, FL_ROUTE_ABORT_ROUND, 12, 0, NULL},
        {"DELETE", "/v1/rounds/12", FL_E_METHOD_NOT_ALLOWED, 0, 0, 0, NULL},
        {"PUT", "/v1/rounds/x", FL_E_NOT_FOUND, 0, 0, 0, NULL},
        {"PUT", "/v1/children", 0, FL_ROUTE_CHILDREN, 0, 0, NULL},
        {"POST", "/v1/stop", 0, FL_ROUTE_STOP, 0, 0, NULL},
        {"GET", "/v1/status", 0, FL_ROUTE_STATUS, 0, -1, NULL},
        {"GET", "/v1/status?after=4", 0, FL_ROUTE_STATUS, 0, 4, NULL},
        {"GET", "/v1/models/sha256:1", FL_E_NOT_FOUND, 0, 0, 0, NULL}, /* bulk */
        {"GET", "/", FL_E_NOT_FOUND, 0, 0, 0, NULL},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_routed routed = {0};

        assert_int_equal(fl_protocol_route(arena, cases[i].method, cases[i].target, &routed, NULL),
                         cases[i].result);
        assert_int_equal(routed.route, cases[i].route);
        assert_int_equal(routed.round, cases[i].round);
        assert_int_equal(routed.after, cases[i].after);
        assert_true(fl_streq(routed.learner, cases[i].learner));
    }
}

static void test_errors_there_and_back(void **state)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *unknown = NULL;
    struct fl_error err = {0}, back = {0};
    bool not_joined;

    (void)state;
    (void)fl_error_set(&err, FL_E_CONFLICT, "round 3 is not over");
    text = fl_protocol_error(&err, NULL);
    assert_int_equal(fl_protocol_read_error(409, text->data, text->len, &not_joined, &back),
                     FL_E_CONFLICT);
    assert_string_equal(back.msg, "round 3 is not over");
    assert_false(not_joined);
    unknown = fl_protocol_error(&err, FL_REASON_NOT_JOINED);
    (void)fl_protocol_read_error(404, unknown->data, unknown->len, &not_joined, &back);
    assert_true(not_joined);
    assert_int_equal(fl_protocol_read_error(502, "<html>", 6, &not_joined, &back),
                     fl_error_from_status(NULL, 502));
    assert_false(not_joined);
}

static void test_seeds_depend_on_all_and_fit(void **state)
{
    int64_t one = fl_protocol_seed(1, 2, "l");

    (void)state;
    assert_int_equal(one, fl_protocol_seed(1, 2, "l"));
    assert_int_not_equal(one, fl_protocol_seed(2, 2, "l"));
    assert_int_not_equal(one, fl_protocol_seed(1, 3, "l"));
    assert_int_not_equal(one, fl_protocol_seed(1, 2, "m"));
    for (int64_t i = 0; i < 1000; i++)
        assert_in_range(fl_protocol_seed(i, i, "l"), 0, FL_PROTOCOL_NUMBER_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_form_there_and_back),
        cmocka_unit_test(test_unknown_members_are_ignored),
        cmocka_unit_test(test_what_is_required_must_be_there),
        cmocka_unit_test(test_bounds_are_told_with_their_place),
        cmocka_unit_test(test_contributors_rise),
        cmocka_unit_test(test_a_body_has_a_bound),
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_errors_there_and_back),
        cmocka_unit_test(test_seeds_depend_on_all_and_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
