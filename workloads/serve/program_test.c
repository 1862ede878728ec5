/* Programs that fail while they serve: each is this one (predicting_testing.h). */
#include "workloads/serve/program.h"
#include "workloads/trainer/host.h"
#include "workloads/trainer/predicting_testing.h"

#include "lib/process.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

static struct fl_env env;

struct rig {
    const char *argv[4];
    struct fl_trainer_program program;
    void *state;
    struct fl_error err;
};

static int load(struct rig *rig, const char *role, unsigned seats)
{
    const struct fl_predictor_source source = {.data = "\5",
                                               .len = 1,
                                               .seats = seats,
                                               .max_batch = 4,
                                               .program = &rig->program,
                                               .env = &env};

    *rig = (struct rig){.argv = {"/proc/self/exe", "predictor", role, NULL}};
    rig->program = (struct fl_trainer_program){
        .argv = rig->argv, .environ = (const char *const *)environ, .silence_timeout_ms = 1000};
    return fl_program_predictor.load(&source, &rig->state, &rig->err);
}

static void rig_finish(struct rig *rig)
{
    fl_program_predictor.destroy(rig->state);
}
#define RIG FL_CLEANUP(rig_finish) struct rig

static int ask(struct rig *rig, unsigned seat, float first)
{
    const float row[] = {first, 2};
    float answer = 0;
    int r;

    rig->err = (struct fl_error){0};
    r = fl_program_predictor.predict(rig->state, seat, row, 1, &answer, &rig->err);
    if (r == 0) {
        assert_float_equal(answer, first + 2 + 5, 0);
        assert_int_equal(rig->err.code, 0);
    }
    return r;
}

static void assert_told(const struct rig *rig, const char *words)
{
    if (!strstr(rig->err.msg, words))
        fail_msg("%s: %s", words, rig->err.msg);
}

static size_t kill_children(void)
{
    pid_t pids[16];
    size_t count = fl_process_descendants(getpid(), pids, 16);

    for (size_t i = 0; i < count; i++)
        assert_int_equal(kill(pids[i], SIGKILL), 0);
    return count;
}

static void who_was_found_dead_costs_nothing(void **state)
{
    RIG rig;

    (void)state;
    assert_int_equal(load(&rig, "good", 3), 0);
    assert_int_equal(kill_children(), 2); /* seat 0 shares the first one's */
    for (unsigned seat = 0; seat < 3; seat++)
        assert_int_equal(ask(&rig, seat, 1), 0);
    assert_int_equal(fl_program_predictor.restarts(rig.state), 2);
}

static void each_failure_costs_its_batch_alone(void **state)
{
    static const struct {
        float first;
        int code;
        const char *words;
        unsigned restarts; /* until the next batch is answered */
    } cases[] = {
        {FL_PREDICTING_KILL, FL_E_UNAVAILABLE, "ended by SIGKILL", 2}, /* is tried twice */
        {FL_PREDICTING_HANG, FL_E_UNAVAILABLE, "it said nothing for", 1},
        {FL_PREDICTING_ERROR, FL_E_INTERNAL, "CodeFailed: ValueError: bad luck", 0},
        {FL_PREDICTING_NAN, FL_E_INTERNAL, "is not finite", 0},
        {FL_PREDICTING_SHORT, FL_E_INTERNAL, "where 1 numbers are due", 0},
    };
    RIG rig;

    (void)state;
    assert_int_equal(load(&rig, "good", 3), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const uint64_t before = fl_program_predictor.restarts(rig.state);

        assert_int_equal(ask(&rig, 1, cases[i].first), cases[i].code);
        assert_told(&rig, cases[i].words);
        assert_int_equal(ask(&rig, 2, 1), 0);
        assert_int_equal(ask(&rig, 1, 1), 0);
        assert_int_equal(fl_program_predictor.restarts(rig.state) - before, cases[i].restarts);
    }
}

/* As long as the file is there, it cannot be started. */
static void who_cannot_be_started_again_is_tried_again(void **state)
{
    char path[] = "/tmp/flops-program-XXXXXX";
    int fd = mkstemp(path);
    RIG rig;

    (void)state;
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(load(&rig, path, 2), FL_E_UNAVAILABLE);
    assert_told(&rig, "exited with status 4");
    assert_null(rig.state);
    (void)unlink(path);
    assert_int_equal(load(&rig, path, 2), 0);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    (void)close(fd);
    assert_int_equal(kill_children(), 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ask(&rig, 1, 1), FL_E_UNAVAILABLE);
        assert_told(&rig, "exited with status 4");
    }
    (void)unlink(path);
    assert_int_equal(ask(&rig, 1, 1), 0);
}

static void what_cannot_be_loaded_says_why(void **state)
{
    static const struct {
        const char *role;
        int code;
        const char *words;
    } cases[] = {{"mute", FL_E_NOT_ACCEPTABLE, "program sums does not predict"},
                 {"shape", FL_E_INVALID, "input.shape[0]"},
                 {"unloadable", FL_E_UNAVAILABLE, "exited with status 3"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        RIG rig;

        assert_int_equal(load(&rig, cases[i].role, 3), cases[i].code);
        assert_told(&rig, cases[i].words);
        assert_null(rig.state);
        assert_int_equal(kill_children(), 0);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_was_found_dead_costs_nothing),
        cmocka_unit_test(each_failure_costs_its_batch_alone),
        cmocka_unit_test(who_cannot_be_started_again_is_tried_again),
        cmocka_unit_test(what_cannot_be_loaded_says_why),
    };

    if (argc == 3 && strcmp(argv[1], "predictor") == 0)
        return fl_predicting_main(argv[2]);
    env = fl_env_real(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
