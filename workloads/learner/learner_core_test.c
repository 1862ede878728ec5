/* The learner's core by itself: deadlines, what it lets go of, moves. */
#include "workloads/learner/learner_core.h"

#include "lib/str.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define A "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define B "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define U "sha256:3333333333333333333333333333333333333333333333333333333333333333"

struct rig {
    struct fl_learner_core *core;
    int64_t now_ms;
    uint64_t poll, call, job, cancelled;
    enum fl_learner_action_kind job_kind;
    char address[64], target[128], body[2048], released[FL_DIGEST_SIZE];
    int trainings, releases;
};

static void take(struct rig *rig, const struct fl_learner_action *action)
{
    switch (action->kind) {
    case FL_LEARNER_POLL:
        rig->poll = action->ticket;
        break;
    case FL_LEARNER_CALL:
        rig->call = action->ticket;
        (void)snprintf(rig->address, sizeof(rig->address), "%s", action->address);
        (void)snprintf(rig->target, sizeof(rig->target), "%s", action->target);
        (void)snprintf(rig->body, sizeof(rig->body), "%.*s", (int)action->body->len,
                       action->body->data);
        break;
    case FL_LEARNER_TRAIN:
    case FL_LEARNER_EVALUATE:
        rig->trainings++;
        rig->job = action->ticket;
        rig->job_kind = action->kind;
        break;
    case FL_LEARNER_DOWNLOAD:
    case FL_LEARNER_UPLOAD:
        rig->job = action->ticket;
        rig->job_kind = action->kind;
        break;
    case FL_LEARNER_CANCEL:
        rig->cancelled = action->ticket;
        break;
    case FL_LEARNER_RELEASE:
        rig->releases++;
        (void)snprintf(rig->released, sizeof(rig->released), "%s", action->digest);
        break;
    default:
        break;
    }
}

static void pump(struct rig *rig)
{
    const struct fl_learner_action *action;

    while ((action = fl_learner_next(rig->core)) != NULL)
        take(rig, action);
}

static void answer(struct rig *rig, uint64_t ticket, const char *text)
{
    fl_learner_answered(rig->core, rig->now_ms, ticket, 200, text, strlen(text));
    pump(rig);
}

static void open_rig(struct rig *rig)
{
    struct fl_learner_options options = {.address = "home", .grace_ms = 5000, .seed = 1};

    *rig = (struct rig){.now_ms = 1000};
    fl_message_init(&fl_form_join, &options.join);
    options.join.protocol = 1;
    options.join.learner = "l";
    options.join.examples = 10;
    assert_int_equal(fl_learner_create(&options, rig->now_ms, &rig->core, NULL), 0);
    pump(rig);
    assert_string_equal(rig->target, "/v1/join");
    answer(rig, rig->call, "{\"protocol\":1,\"aggregator\":\"t\",\"parent\":\"above\"}");
    assert_int_not_equal(rig->poll, 0);
}

static void give(struct rig *rig, int64_t seq, const char *kind, int64_t round, const char *model,
                 const char *more)
{
    char text[600];

    (void)snprintf(text, sizeof(text),
                   "{\"seq\":%" PRId64 ",\"kind\":\"%s\",\"project\":\"p\",\"round\":%" PRId64
                   ",\"attempt\":1,\"work\":\"w-%" PRId64
                   "\",\"model\":\"%s\",\"modelSize\":9,\"deadlineMs\":60000,\"seed\":1%s}",
                   seq, kind, round, round, model, more);
    answer(rig, rig->poll, text);
}

static void download(struct rig *rig)
{
    assert_int_equal(rig->job_kind, FL_LEARNER_DOWNLOAD);
    fl_learner_downloaded(rig->core, rig->now_ms, rig->job, NULL);
    pump(rig);
}

static void tick_at(struct rig *rig, int64_t now_ms)
{
    rig->now_ms = now_ms;
    fl_learner_tick(rig->core, now_ms);
    pump(rig);
}

static void finish_training(struct rig *rig, const char *digest)
{
    struct fl_offer facts;

    fl_message_init(&fl_form_offer, &facts);
    facts.digest = digest;
    facts.size = facts.examples = 10;
    fl_learner_trained(rig->core, rig->now_ms, rig->job, &facts);
    pump(rig);
}

static void test_training_ends_with_its_deadline(void **state)
{
    static const char *const kinds[] = {"Fit", "Evaluate"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct rig rig;

        open_rig(&rig);
        give(&rig, 1, kinds[i], 1, A, "");
        download(&rig);
        assert_int_equal(rig.trainings, 1);
        fl_learner_progressed(rig.core, rig.now_ms, rig.job, 1, 10); /* moves no deadline */
        assert_true(fl_learner_deadline(rig.core) <= 66000);
        tick_at(&rig, 65999);
        assert_int_not_equal(rig.cancelled, rig.job);
        if (strcmp(rig.target, "/v1/progress") == 0)
            answer(&rig, rig.call, "{\"verdict\":\"Ok\"}");
        tick_at(&rig, 66000);
        assert_int_equal(rig.cancelled, rig.job);
        tick_at(&rig, 67000); /* its poll had no answer either: a moment later */
        assert_string_equal(rig.target, "/v1/progress");
        assert_non_null(strstr(rig.body, "\"gaveUp\":true"));
        assert_non_null(strstr(rig.body, "\"reason\":\"Timeout\""));
        fl_learner_destroy(rig.core);
    }
}

/* Late work may count: the aggregator says when it does not. A new attempt gives new time. */
static void test_deadlines_that_move(void **state)
{
    struct rig rig;

    (void)state;
    open_rig(&rig);
    give(&rig, 1, "Fit", 1, A, ",\"late\":true");
    download(&rig);
    tick_at(&rig, 4000000);
    assert_int_not_equal(rig.cancelled, rig.job);
    fl_learner_destroy(rig.core);

    open_rig(&rig);
    give(&rig, 1, "Fit", 1, A, "");
    download(&rig);
    tick_at(&rig, 30000);
    give(&rig, 2, "Fit", 1, A, "");
    tick_at(&rig, 70000);
    assert_int_not_equal(rig.cancelled, rig.job);
    tick_at(&rig, 95000);
    assert_int_equal(rig.cancelled, rig.job);
    assert_int_equal(rig.trainings, 1);
    fl_learner_destroy(rig.core);
}

static void test_models_are_let_go(void **state)
{
    struct rig rig;

    (void)state;
    open_rig(&rig);
    give(&rig, 1, "Fit", 1, A, "");
    download(&rig);
    finish_training(&rig, U);
    assert_true(fl_learner_needs(rig.core, A) && fl_learner_needs(rig.core, U));
    give(&rig, 2, "Wait", 1, A, "");
    give(&rig, 3, "Evaluate", 1, B, "");
    assert_int_equal(rig.releases, 1);
    assert_string_equal(rig.released, A);
    assert_true(fl_learner_needs(rig.core, B) && fl_learner_needs(rig.core, U));
    give(&rig, 4, "Fit", 2, B, ""); /* other work: the update goes */
    assert_int_equal(rig.releases, 2);
    assert_string_equal(rig.released, U);
    fl_learner_destroy(rig.core);
}

/* Where an update is the next global model, it is not let go of as an update. */
static void test_an_update_that_became_the_model_stays(void **state)
{
    struct rig rig;

    (void)state;
    open_rig(&rig);
    give(&rig, 1, "Fit", 1, A, "");
    download(&rig);
    finish_training(&rig, U);
    give(&rig, 2, "Fit", 2, U, "");
    assert_int_equal(rig.releases, 1);
    assert_string_equal(rig.released, A);
    fl_learner_destroy(rig.core);
}

static void test_what_comes_after_a_cancellation_is_let_go(void **state)
{
    struct rig rig;

    (void)state;
    open_rig(&rig);
    give(&rig, 1, "Fit", 1, A, "");
    download(&rig);
    give(&rig, 2, "Wait", 1, A, "");
    assert_int_equal(rig.cancelled, rig.job);
    finish_training(&rig, U);
    assert_int_equal(rig.releases, 1);
    assert_string_equal(rig.released, U);
    fl_learner_destroy(rig.core);
}

/* Its aggregator is silent: it joins above as an orphan, and goes where it is sent. */
static void test_an_orphan_is_sent_on(void **state)
{
    struct rig rig;

    (void)state;
    open_rig(&rig);
    for (int i = 0; i < 200 && strcmp(rig.address, "above") != 0; i++)
        tick_at(&rig, rig.now_ms + 1000);
    assert_string_equal(rig.address, "above");
    assert_non_null(strstr(rig.body, "\"orphanOf\":\"t\""));
    answer(&rig, rig.call, "{\"protocol\":1,\"aggregator\":\"root\"}");
    answer(&rig, rig.poll, "{\"seq\":1,\"kind\":\"Move\",\"address\":\"other\"}");
    assert_string_equal(rig.address, "other");
    assert_string_equal(rig.target, "/v1/join");
    assert_null(strstr(rig.body, "orphanOf"));
    fl_learner_destroy(rig.core);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training_ends_with_its_deadline),
        cmocka_unit_test(test_deadlines_that_move),
        cmocka_unit_test(test_models_are_let_go),
        cmocka_unit_test(test_an_update_that_became_the_model_stays),
        cmocka_unit_test(test_what_comes_after_a_cancellation_is_let_go),
        cmocka_unit_test(test_an_orphan_is_sent_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
