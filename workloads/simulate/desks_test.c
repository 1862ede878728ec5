/* Programs shared by many learners: each program is this one, started again. */
#include "lib/file.h"
#include "lib/str.h"
#include "workloads/simulate/simulate.h"
#include "workloads/tensor/kernels.h"
#include "workloads/trainer/link.h"
#include "workloads/trainer/messages.h"
#include "workloads/trainer/trainer_testing.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#define LEARNERS  12
#define CRASHES   3
#define FAILS     4
#define HANGS     5
#define LONG_MS   60000
#define SHORT_MS  2500
#define WEIGHTS   4
#define TURNS_MAX 64

/* --- the program ---------------------------------------------------------------------------- */

struct child {
    struct fl_link link;
    const char *role;
    uint32_t id;
    size_t part;
    bool keep;
    int64_t turns[TURNS_MAX]; /* fits of each learner that keeps */
    int64_t fits;             /* in this turn */
    char learner[32];
};

static int tell(struct child *child, unsigned type, json_t *head, const struct fl_model *model)
{
    const struct fl_body body = {.model = model};
    FL_CLEANUP(fl_outgoing_finish) struct fl_outgoing outgoing = {.fd = -1};
    int r =
        fl_link_prepare(&child->link, type, child->id, head, model ? &body : NULL, &outgoing, NULL);

    while (r == 0 && (r = fl_link_push(&child->link, &outgoing, NULL)) == 0) {
        struct fl_channel_wait wait = {.fd = child->link.fd, .write = true};

        (void)fl_channel_wait(&wait, 1, LONG_MS);
    }
    return r < 0 ? r : 0;
}

static int say_hello(struct child *child, const struct fl_frame *frame)
{
    bool single = strcmp(child->role, "single") == 0;

    if (!fl_json_bool(frame->head, "shared", false))
        return tell(child, FL_FRAME_ERROR, json_pack("{s:s}", "reason", "NotShared"), NULL);
    return tell(child, FL_FRAME_RESULT,
                json_pack("{s:i, s:s, s:[s, s]}", "version", 1, "name", "fake", "can", "fit",
                          single ? "evaluate" : "learner"),
                NULL);
}

/* Its data is where it is said to be, and of the size that is said. */
static int begin_turn(struct child *child, const struct fl_frame *frame)
{
    const json_t *entry = json_array_get(json_object_get(frame->head, "data"), 0);
    int64_t examples = fl_json_int(entry, "examples", 0);
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *data = NULL;
    struct fl_dataset_limits limits = {0};

    (void)snprintf(child->learner, sizeof(child->learner), "%s",
                   fl_str_or(fl_json_str(frame->head, "learner"), ""));
    child->part = (size_t)fl_json_int(frame->head, "part", -1);
    child->keep = fl_json_bool(frame->head, "keep", false);
    child->fits = 0;
    if (fl_dataset_read_safetensors(fl_json_str(entry, "file"), &limits, &data, NULL) < 0 ||
        (int64_t)data->count != examples)
        return tell(child, FL_FRAME_ERROR, json_pack("{s:s}", "reason", "DataMissing"), NULL);
    return tell(child, FL_FRAME_RESULT, json_pack("{s:I}", "examples", (json_int_t)examples), NULL);
}

static int make_model(struct child *child)
{
    const struct fl_tensor form = {
        .name = "w", .dtype = FL_DTYPE_F32, .rank = 1, .shape = {WEIGHTS}};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;

    return fl_model_create(&form, 1, &model, NULL) < 0 ? -1
                                                       : tell(child, FL_FRAME_RESULT, NULL, model);
}

static void misbehave(const struct child *child)
{
    if (strcmp(child->role, "frail") == 0 && child->part == CRASHES)
        (void)raise(SIGABRT);
    if (strcmp(child->role, "hangs") == 0 && child->part == HANGS)
        (void)pause();
}

/* The weights grow by the learner's number; the loss is how often it has trained before. */
static int train(struct child *child, const struct fl_frame *frame)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    int64_t *fits = child->keep ? &child->turns[child->part % TURNS_MAX] : &child->fits;
    struct fl_fit_result result = {.examples = 1, .steps = 1, .loss_before = (double)NAN};

    misbehave(child);
    if (strcmp(child->role, "frail") == 0 && child->part == FAILS)
        return tell(child, FL_FRAME_ERROR,
                    json_pack("{s:s, s:s}", "reason", "CodeFailed", "message", "four"), NULL);
    if (fl_link_model(&child->link, frame, &model, NULL) < 0)
        return -1;
    for (size_t i = 0; i < WEIGHTS; i++)
        fl_tensor_set(&model->tensors[0], i,
                      fl_tensor_get(&model->tensors[0], i) + (double)child->part);
    result.loss = (double)(*fits)++;
    return tell(child, FL_FRAME_RESULT, fl_fit_result_to_head(&result), model);
}

/* Only the judge judges, and loss is a weight. */
static int judge(struct child *child, const struct fl_frame *frame)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_evaluation evaluation = {.examples = 2, .accuracy = 0.3};

    if (strcmp(child->learner, "judge") != 0 || !child->keep ||
        fl_link_model(&child->link, frame, &model, NULL) < 0 || strcmp(child->role, "blind") == 0)
        return tell(child, FL_FRAME_ERROR, json_pack("{s:s}", "reason", "NotTheJudge"), NULL);
    evaluation.loss = fl_tensor_get(&model->tensors[0], 0);
    return tell(child, FL_FRAME_RESULT, fl_evaluation_to_head(&evaluation), NULL);
}

static int answer(struct child *child, const struct fl_frame *frame)
{
    child->id = frame->id;
    switch (frame->type) {
    case FL_FRAME_HELLO:
        return say_hello(child, frame);
    case FL_FRAME_LEARNER:
        return begin_turn(child, frame);
    case FL_FRAME_INIT:
        return make_model(child);
    case FL_FRAME_FIT:
        return train(child, frame);
    case FL_FRAME_EVALUATE:
        return judge(child, frame);
    default:
        return tell(child, FL_FRAME_RESULT, NULL, NULL);
    }
}

static int serve(const char *role, const char *folder)
{
    struct child child = {.role = role};
    bool stopped = false;
    char path[256];
    int r = fl_channel_adopt(FL_TRAINER_FD, NULL);

    (void)snprintf(path, sizeof(path), "%s/process-%d", folder, (int)getpid());
    (void)fl_file_write(path, "", 0, 0600, NULL);
    fl_link_init(&child.link, FL_TRAINER_FD, FL_TRAINER_BODY_MAX);
    while (r >= 0 && !stopped) {
        FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};
        struct fl_channel_wait wait = {.fd = FL_TRAINER_FD};

        r = fl_link_pull(&child.link, &frame, NULL);
        if (r == 0)
            (void)fl_channel_wait(&wait, 1, LONG_MS);
        stopped = r > 0 && frame.type == FL_FRAME_STOP;
        if (r > 0)
            r = answer(&child, &frame);
    }
    fl_link_finish(&child.link);
    return r < 0 ? 3 : 0;
}

/* --- simulations ---------------------------------------------------------------------------- */

#define ROUNDS 2

struct told {
    size_t rounds, failures;
    struct fl_simulated_round last;
    char model[FL_DIGEST_SIZE];
    char errors[LEARNERS][128]; /* by learner, of the last round */
    char judge[128];
};

static struct fl_dataset *train_set, *test_set;
static struct fl_env env;
static char folder[] = "/tmp/flops-desks-XXXXXX";

static void close_dir(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

static void take_round(void *user, const struct fl_simulated_round *round)
{
    struct told *told = user;

    told->rounds++;
    told->last = *round;
    told->failures = round->failure_count;
    memset(told->errors, 0, sizeof(told->errors));
    (void)snprintf(told->model, sizeof(told->model), "%s", round->model);
    for (size_t i = 0; i < round->failure_count; i++) {
        const struct fl_simulated_failure *failure = &round->failures[i];

        if (strcmp(failure->learner, "judge") == 0)
            (void)snprintf(told->judge, sizeof(told->judge), "%.120s", failure->error);
        else
            (void)snprintf(told->errors[strtoul(failure->learner + 8, NULL, 10)],
                           sizeof(told->errors[0]), "%.120s", failure->error);
    }
}

static size_t count_processes(void)
{
    FL_CLEANUP(close_dir) DIR *dir = opendir(folder);
    const struct dirent *entry;
    size_t count = 0;

    while ((entry = readdir(dir)))
        count += fl_str_has_prefix(entry->d_name, "process-");
    return count;
}

struct run {
    const char *role;
    size_t jobs;
    bool stateful, protocol;
};

static int simulate(const struct run *run, struct told *told, struct fl_error *err)
{
    const char *const argv[] = {"/proc/self/exe", "child", run->role, folder, NULL};
    const char *const nothing[] = {"ASAN_OPTIONS=detect_leaks=0", NULL};
    const struct fl_simulated_code code = {
        .name = "fake",
        .program = {.argv = argv,
                    .environ = nothing,
                    .silence_timeout_ms = strcmp(run->role, "hangs") == 0 ? SHORT_MS : LONG_MS},
        .env = &env,
        .folder = folder,
        .stateful = run->stateful};
    struct fl_simulation simulation;

    assert_int_equal(fl_dir_empty(folder, NULL), 0);
    fl_simulation_init(&simulation);
    simulation.train = train_set;
    simulation.test = test_set;
    simulation.partition.learners = LEARNERS;
    simulation.code = &code;
    simulation.rounds = ROUNDS;
    simulation.jobs = run->jobs;
    simulation.protocol = run->protocol;
    simulation.spec.participation.quorum = LEARNERS - 2;
    simulation.round_done = take_round;
    simulation.user = told;
    *told = (struct told){0};
    return fl_simulate(&simulation, NULL, err);
}

static void simulate_well(const struct run *run, struct told *told)
{
    struct fl_error err = {0};

    if (simulate(run, told, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(told->rounds, ROUNDS);
}

/* --- tests ---------------------------------------------------------------------------------- */

/* However they share programs, learners have their own numbers: the mean grows by 5.5 a round. */
static void learners_share_programs(void **state)
{
    static const struct run runs[] = {
        {"good", 1, false, false}, {"good", 2, false, false}, {"good", 3, false, true},
        {"good", 2, true, false},  {"good", 3, true, true},
    };
    char model[FL_DIGEST_SIZE] = "";
    struct told told;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(runs); i++) {
        simulate_well(&runs[i], &told);
        assert_int_equal(told.failures, 0);
        assert_int_equal(told.last.reported, LEARNERS);
        assert_true(fabs(told.last.loss - 5.5 * ROUNDS) < 1e-6);
        assert_in_range(count_processes(), 1, runs[i].jobs);
        assert_true(i == 0 || strcmp(model, told.model) == 0);
        (void)snprintf(model, sizeof(model), "%s", told.model);
        /* what it kept: in the second round each has trained once before */
        assert_true(told.last.train_loss == (runs[i].stateful ? ROUNDS - 1 : 0));
    }
}

static void what_fails_is_a_dropout(void **state)
{
    static const struct run runs[] = {
        {"frail", 1, false, false}, {"frail", 2, false, true}, {"frail", 2, true, false}};
    struct told told;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(runs); i++) {
        simulate_well(&runs[i], &told);
        assert_int_equal(told.last.reported, LEARNERS - 2);
        assert_int_equal(told.last.dropped, 2);
        assert_int_equal(told.failures, 2);
        assert_string_equal(told.errors[CRASHES], "TrainerCrashed: it was ended by SIGABRT");
        assert_string_equal(told.errors[FAILS], "CodeFailed: four");
        assert_true(told.last.evaluated && fabs(told.last.accuracy - 0.3) < 1e-9);
    }
}

static void who_hangs_is_a_dropout(void **state)
{
    const struct run run = {"hangs", 2, false, false};
    struct told told;

    (void)state;
    simulate_well(&run, &told);
    assert_int_equal(told.last.reported, LEARNERS - 1);
    assert_true(fl_str_has_prefix(told.errors[HANGS], "TrainerHung: it said nothing for "));
}

static void a_judge_that_fails_is_told(void **state)
{
    const struct run run = {"blind", 2, false, false};
    struct told told;

    (void)state;
    simulate_well(&run, &told);
    assert_false(told.last.evaluated);
    assert_true(isnan(told.last.accuracy));
    assert_int_equal(told.last.reported, LEARNERS);
    assert_string_equal(told.judge, "evaluation: NotTheJudge: it said no more");
}

static void a_program_of_one_learner_is_refused(void **state)
{
    const struct run run = {"single", 2, false, false};
    struct fl_error err = {0};
    struct told told;

    (void)state;
    assert_int_equal(simulate(&run, &told, &err), FL_E_NOT_ACCEPTABLE);
    assert_non_null(strstr(err.msg, "serves one learner only"));
}

static int set_up(void **state)
{
    const struct fl_patterns patterns = {
        .count = 120, .height = 4, .width = 4, .classes = 3, .noise = 1, .seed = 1};
    struct fl_dataset form;

    (void)state;
    env = fl_env_real(NULL);
    fl_patterns_make(&patterns, &form);
    if (!mkdtemp(folder) || fl_dataset_create(&form, &train_set, NULL) < 0 ||
        fl_dataset_create(&form, &test_set, NULL) < 0)
        return -1;
    fl_patterns_finish(&form);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fl_dataset_unref(train_set);
    fl_dataset_unref(test_set);
    return fl_dir_remove(folder, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learners_share_programs),
        cmocka_unit_test(what_fails_is_a_dropout),
        cmocka_unit_test(who_hangs_is_a_dropout),
        cmocka_unit_test(a_judge_that_fails_is_told),
        cmocka_unit_test(a_program_of_one_learner_is_refused),
    };

    if (argc == 4 && strcmp(argv[1], "child") == 0)
        return serve(argv[2], argv[3]);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
