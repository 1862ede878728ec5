/* The core by itself: single decisions, as actions. The whole is in protocol_sim_test.c. */
#include "workloads/aggregator/aggregator_core.h"

#include "lib/str.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define MODEL "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define OTHER "sha256:2222222222222222222222222222222222222222222222222222222222222222"

struct rig {
    struct fl_aggregator_core *core;
    int64_t now_ms;
    uint64_t requests;
    /* of the last turn */
    struct fl_aggregator_begin begin;
    uint64_t begin_ticket, finish_ticket, upload, fold_ticket;
    int status, begins, releases, replaced, failed_to_parent;
    char body[8192], reason[64];
};

static void take(struct rig *rig, const struct fl_aggregator_action *action)
{
    switch (action->kind) {
    case FL_AGGREGATOR_REPLY:
        rig->status = action->http_status;
        (void)snprintf(rig->body, sizeof(rig->body), "%.*s", (int)action->body->len,
                       action->body->data);
        break;
    case FL_AGGREGATOR_BEGIN:
        rig->begin = action->begin;
        rig->begin_ticket = action->ticket;
        rig->begins++;
        break;
    case FL_AGGREGATOR_EXPECT:
        rig->upload = action->upload;
        break;
    case FL_AGGREGATOR_FOLD:
        rig->fold_ticket = action->ticket;
        break;
    case FL_AGGREGATOR_FINISH:
    case FL_AGGREGATOR_PARTIAL:
        rig->finish_ticket = action->ticket;
        break;
    case FL_AGGREGATOR_RELEASE:
        rig->releases++;
        break;
    case FL_AGGREGATOR_JOURNAL_REPLACE:
        rig->replaced++;
        break;
    case FL_AGGREGATOR_PARENT_RESULT:
        rig->failed_to_parent += !action->parent.ok;
        (void)snprintf(rig->reason, sizeof(rig->reason), "%s",
                       fl_str_or(action->parent.reason, ""));
        break;
    default:
        break;
    }
}

static void pump(struct rig *rig)
{
    const struct fl_aggregator_action *action;

    while ((action = fl_aggregator_next(rig->core)) != NULL)
        take(rig, action);
}

static void ask(struct rig *rig, const char *method, const char *target, const char *body)
{
    const struct fl_aggregator_request request = {.request = ++rig->requests,
                                                  .method = method,
                                                  .target = target,
                                                  .body = body,
                                                  .body_len = strlen(body),
                                                  .control_plane = true};

    fl_aggregator_request(rig->core, rig->now_ms, &request);
    pump(rig);
}

static void open_rig(struct rig *rig, const struct fl_aggregator_options *options)
{
    *rig = (struct rig){.now_ms = 1000};
    assert_int_equal(fl_aggregator_create(options, rig->now_ms, NULL, 0, &rig->core, NULL), 0);
    pump(rig);
}

static void join(struct rig *rig, const char *learner, int64_t examples)
{
    char body[200];

    (void)snprintf(body, sizeof(body),
                   "{\"protocol\":1,\"learner\":\"%s\",\"examples\":%" PRId64 "}", learner,
                   examples);
    ask(rig, "POST", "/v1/join", body);
    assert_int_equal(rig->status, 200);
}

static void start_round(struct rig *rig, int64_t round, const char *more)
{
    char body[900], target[60];

    (void)snprintf(target, sizeof(target), "/v1/rounds/%" PRId64, round);
    (void)snprintf(body, sizeof(body),
                   "{\"project\":\"p\",\"round\":%" PRId64 ",\"model\":\"" MODEL
                   "\",\"modelSize\":100,\"strategy\":{\"name\":\"FedAvg\"}%s}",
                   round, more);
    ask(rig, "PUT", target, body);
}

/* The learner's part of a round, up to the fold. */
static void bring(struct rig *rig, const char *learner, int64_t round, int64_t examples)
{
    char target[80], body[900], *work, *end;

    (void)snprintf(target, sizeof(target), "/v1/task?learner=%s", learner);
    ask(rig, "GET", target, "");
    work = strstr(rig->body, "\"work\":\"");
    assert_non_null(work);
    end = strchr(work + 8, '"');
    (void)snprintf(body, sizeof(body),
                   "{\"learner\":\"%s\",\"project\":\"p\",\"round\":%" PRId64
                   ",\"attempt\":1,\"work\":\"%.*s\",\"base\":\"" MODEL "\",\"digest\":\"" OTHER
                   "\",\"size\":10,\"loss\":0.5,\"examples\":%" PRId64 "}",
                   learner, round, (int)(end - work - 8), work + 8, examples);
    ask(rig, "POST", "/v1/updates", body);
    assert_non_null(strstr(rig->body, "\"Send\""));
    fl_aggregator_uploaded(rig->core, rig->now_ms, rig->upload, NULL);
    pump(rig);
}

static void begin_done(struct rig *rig)
{
    fl_aggregator_begun(rig->core, rig->now_ms, rig->begin_ticket, NULL);
    pump(rig);
}

/* --- shares --- */

static void test_no_boast_raises_its_own_bound(void **state)
{
    static const struct {
        int64_t examples[4];
        double share;
        int64_t bound;
    } cases[] = {
        {{10, 10, 10, 10}, 1, 0},                        /* none */
        {{10, 10, 10, 10}, 0.5, 20},                     /* of 40 */
        {{10, 10, 10, 30}, 0.5, 30},                     /* it is just half */
        {{10, 10, 10, 1000}, 0.5, 30},                   /* half of 30 + 30 */
        {{10, 10, 10, FL_PROTOCOL_NUMBER_MAX}, 0.5, 30}, /* and no more */
        {{10, 10, 1000, 1000}, 0.4, 40},                 /* 0.4 * (20 + 2 * 40) */
        {{10, 20, 30, 40}, 0.25, 10},                    /* four of a quarter: equal */
        {{5, 20, 30, 40}, 0.2, 5},                       /* cannot be: as equal as can be */
    };
    const struct fl_aggregator_options options = {.id = "root"};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct rig rig;
        char more[200], name[16];

        open_rig(&rig, &options);
        for (int k = 0; k < 4; k++) {
            (void)snprintf(name, sizeof(name), "l-%d", k);
            join(&rig, name, cases[i].examples[k]);
        }
        (void)snprintf(more, sizeof(more), ",\"participation\":{\"maxExampleShare\":%g}",
                       cases[i].share);
        start_round(&rig, 1, more);
        assert_int_equal(rig.begins, 1);
        assert_int_equal(rig.begin.max_examples, cases[i].bound);
        fl_aggregator_destroy(rig.core);
    }
}

/* Without a bound, sums are planned for what can be summed. */
static void test_a_boast_costs_nobody_else_the_round(void **state)
{
    const struct fl_aggregator_options options = {.id = "root"};
    struct rig rig;

    (void)state;
    open_rig(&rig, &options);
    join(&rig, "l-0", 10);
    join(&rig, "l-1", FL_PROTOCOL_NUMBER_MAX);
    start_round(&rig, 1, "");
    assert_int_equal(rig.begins, 1);
    assert_true(rig.begin.precision.bits >= 20 && rig.begin.precision.max_weight >= 20);
    ask(&rig, "GET", "/v1/status", "");
    assert_non_null(strstr(rig.body, "\"examples\":9007199254740991"));
    fl_aggregator_destroy(rig.core);
}

/* --- strangers --- */

/* At an address that was another's before. */
static void test_a_learner_of_another_project_is_refused(void **state)
{
    const struct fl_aggregator_options options = {.id = "root", .project = "ours"};
    struct rig rig;

    (void)state;
    open_rig(&rig, &options);
    ask(&rig, "POST", "/v1/join", "{\"protocol\":1,\"learner\":\"l-0\",\"project\":\"theirs\"}");
    assert_int_equal(rig.status, 409);
    assert_non_null(strstr(rig.body, "ours"));
    ask(&rig, "GET", "/v1/status", "");
    assert_null(strstr(rig.body, "\"members\":1"));
    ask(&rig, "POST", "/v1/join", "{\"protocol\":1,\"learner\":\"l-0\",\"project\":\"ours\"}");
    assert_int_equal(rig.status, 200);
    ask(&rig, "GET", "/v1/status", "");
    assert_non_null(strstr(rig.body, "\"members\":1"));
    fl_aggregator_destroy(rig.core);
}

/* --- a lack --- */

/* Of room for updates: told while it lasts, and why the round failed if it lasts too long. */
static void test_a_lack_is_told(void **state)
{
    const struct fl_aggregator_options options = {.id = "root"};
    struct rig rig;

    (void)state;
    open_rig(&rig, &options);
    join(&rig, "l-0", 10);
    start_round(&rig, 1, ",\"participation\":{\"deadlineMs\":5000,\"retryLimit\":0}");
    begin_done(&rig);
    fl_aggregator_lacks(rig.core, rig.now_ms, "write x: no space");
    fl_aggregator_lacks(rig.core, rig.now_ms, "write y: no space"); /* the first is told */
    ask(&rig, "GET", "/v1/rounds/1", "");
    assert_non_null(strstr(rig.body, "updates cannot be taken: write x: no space"));
    rig.now_ms += 6000;
    fl_aggregator_tick(rig.core, rig.now_ms);
    pump(&rig);
    ask(&rig, "GET", "/v1/rounds/1", "");
    assert_non_null(strstr(rig.body, "QuorumNotReached"));
    assert_non_null(strstr(rig.body, "; updates cannot be taken: write x: no space"));
    fl_aggregator_destroy(rig.core);
}

static void test_a_lack_ends_with_an_update(void **state)
{
    const struct fl_aggregator_options options = {.id = "root"};
    struct rig rig;

    (void)state;
    open_rig(&rig, &options);
    join(&rig, "l-0", 10);
    join(&rig, "l-1", 10);
    start_round(&rig, 1, "");
    begin_done(&rig);
    fl_aggregator_lacks(rig.core, rig.now_ms, "write x: no space");
    bring(&rig, "l-0", 1, 10);
    ask(&rig, "GET", "/v1/rounds/1", "");
    assert_non_null(strstr(rig.body, "Training"));
    assert_null(strstr(rig.body, "no space"));
    fl_aggregator_destroy(rig.core);
}

/* --- ends --- */

static void test_a_buffer_that_cannot_fill_is_not_waited_for(void **state)
{
    const struct fl_aggregator_options options = {.id = "root"};
    struct rig rig;

    (void)state;
    open_rig(&rig, &options);
    join(&rig, "l-0", 10);
    ask(&rig, "PUT", "/v1/rounds/1",
        "{\"project\":\"p\",\"round\":1,\"model\":\"" MODEL
        "\",\"modelSize\":100,\"mode\":\"Async\",\"strategy\":{\"name\":\"FedBuff\"}}");
    begin_done(&rig);
    bring(&rig, "l-0", 1, 10);
    assert_int_equal(rig.finish_ticket, 0);
    fl_aggregator_folded(rig.core, rig.now_ms, rig.fold_ticket, NULL, NULL);
    pump(&rig);
    assert_int_not_equal(rig.finish_ticket, 0); /* one of ten, and nobody else is there */
    fl_aggregator_destroy(rig.core);
}

static void test_an_abort_while_it_is_summed_up(void **state)
{
    const struct fl_aggregator_options options = {.id = "root"};
    const struct fl_finished finished = {OTHER, NULL, 100};
    struct rig rig;
    uint64_t stale;

    (void)state;
    open_rig(&rig, &options);
    join(&rig, "l-0", 10);
    start_round(&rig, 1, "");
    begin_done(&rig);
    bring(&rig, "l-0", 1, 10);
    fl_aggregator_folded(rig.core, rig.now_ms, rig.fold_ticket, NULL, NULL);
    pump(&rig);
    stale = rig.finish_ticket;
    assert_int_not_equal(stale, 0);
    ask(&rig, "POST", "/v1/rounds/1/abort", "{}");
    assert_non_null(strstr(rig.body, "\"Aborted\""));
    fl_aggregator_finished(rig.core, rig.now_ms, stale, &finished, NULL);
    pump(&rig);
    ask(&rig, "GET", "/v1/status", "");
    assert_null(strstr(rig.body, "\"committed\""));
    start_round(&rig, 1, ""); /* the same is no news */
    assert_non_null(strstr(rig.body, "\"Aborted\""));
    start_round(&rig, 1, ",\"run\":1");
    assert_int_equal(rig.begins, 2);
    fl_aggregator_destroy(rig.core);
}

/* --- a parent --- */

static void test_a_parent_that_asks_for_nonsense_is_told(void **state)
{
    static const struct {
        int64_t range_bits, quorum, round;
        int told;
    } cases[] = {{7, 1, 1, 0}, {40, 1, 1, 1}, {7, 3, 1, 0}, {7, 1, (int64_t)1 << 31, 1}};
    const struct fl_aggregator_options options = {.id = "t", .has_parent = true};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_task task;
        struct rig rig;

        fl_message_init(&fl_form_task, &task);
        task.kind = FL_TASK_FIT;
        task.project = task.work = "p";
        task.round = cases[i].round;
        task.attempt = 1;
        task.model = MODEL;
        task.model_size = 100;
        task.tier.present = true;
        task.tier.strategy.name = "FedAvg";
        task.tier.rounds_per_parent_round = 2;
        task.tier.precision.range_bits = cases[i].range_bits;
        task.tier.quorum = cases[i].quorum;
        if (task.round > INT32_MAX)
            task.round = INT32_MAX;
        open_rig(&rig, &options);
        fl_aggregator_parent_fit(rig.core, rig.now_ms, &task);
        pump(&rig);
        assert_int_equal(rig.failed_to_parent, cases[i].told);
        assert_string_equal(rig.reason, cases[i].told ? "Invalid" : "");
        fl_aggregator_destroy(rig.core);
    }
}

/* --- tiers --- */

static void test_learners_below_a_tier_are_counted(void **state)
{
    const struct fl_aggregator_options options = {.id = "root"};
    struct rig rig;

    (void)state;
    open_rig(&rig, &options);
    join(&rig, "l-0", 10);
    ask(&rig, "POST", "/v1/join",
        "{\"protocol\":1,\"learner\":\"t-0\",\"examples\":30,\"aggregator\":true,\"learners\":3}");
    assert_int_equal(rig.status, 200);
    start_round(&rig, 1, "");
    begin_done(&rig);
    ask(&rig, "GET", "/v1/rounds/1", "");
    assert_non_null(strstr(rig.body, "\"asked\":4"));
    assert_non_null(strstr(rig.body, "\"selected\":2"));
    fl_aggregator_destroy(rig.core);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_boast_raises_its_own_bound),
        cmocka_unit_test(test_a_boast_costs_nobody_else_the_round),
        cmocka_unit_test(test_a_lack_is_told),
        cmocka_unit_test(test_a_lack_ends_with_an_update),
        cmocka_unit_test(test_a_learner_of_another_project_is_refused),
        cmocka_unit_test(test_a_buffer_that_cannot_fill_is_not_waited_for),
        cmocka_unit_test(test_an_abort_while_it_is_summed_up),
        cmocka_unit_test(test_a_parent_that_asks_for_nonsense_is_told),
        cmocka_unit_test(test_learners_below_a_tier_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
