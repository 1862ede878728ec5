/* Programs that predict, well and badly: each is this one (predicting_testing.h). */
#include "workloads/trainer/host.h"
#include "workloads/trainer/predicting_testing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#define ROWS 20000 /* more than goes through the socket */

static struct fl_env env;

static void destroy_trainer(struct fl_trainer **trainer)
{
    if (*trainer)
        (*trainer)->ops->destroy(*trainer);
}
#define TRAINER FL_CLEANUP(destroy_trainer) struct fl_trainer *

static struct fl_trainer *start(const char *role)
{
    const char *const argv[] = {"/proc/self/exe", "predictor", role, NULL};
    const struct fl_trainer_program program = {.argv = argv,
                                               .environ = (const char *const *)environ,
                                               .silence_timeout_ms = 2000,
                                               .predicts = true};
    struct fl_trainer *trainer = NULL;
    struct fl_error err = {0};

    if (fl_trainer_start(&program, &env, &trainer, &err) < 0)
        fail_msg("%s", err.msg);
    return trainer;
}

static void load(struct fl_trainer *trainer, struct fl_trainer_form *form)
{
    assert_int_equal(fl_trainer_load(trainer, "\5 is the bias", 13, form, NULL), 0);
}

static void rows_are_answered(void **state)
{
    TRAINER trainer = start("good");
    struct fl_trainer_form form = {0};
    static float rows[2 * ROWS], answers[ROWS];

    (void)state;
    load(trainer, &form);
    assert_int_equal(form.rank, 1);
    assert_int_equal(form.width, 2);
    assert_int_equal(form.answer, 1);
    for (size_t i = 0; i < ROWS; i++) {
        rows[2 * i] = (float)(i % 90);
        rows[2 * i + 1] = (float)(i % 7);
    }
    for (size_t count = 1; count <= ROWS; count *= 10) {
        memset(answers, 0, sizeof(answers));
        assert_int_equal(fl_trainer_predict(trainer, &form, rows, count, answers, NULL), 0);
        for (size_t i = 0; i < count; i++)
            assert_float_equal(answers[i], rows[2 * i] + rows[2 * i + 1] + 5, 0);
    }
    assert_int_equal(fl_trainer_load(trainer, "\7", 1, &form, NULL), 0);
    assert_int_equal(fl_trainer_predict(trainer, &form, rows, 1, answers, NULL), 0);
    assert_float_equal(answers[0], 7, 0);
}

static void how_they_fail_is_told(void **state)
{
    static const struct {
        float first;
        int code;
        const char *words;
        bool lives;
    } cases[] = {
        {FL_PREDICTING_KILL, FL_E_UNAVAILABLE, "TrainerCrashed: it was ended by SIGKILL", false},
        {FL_PREDICTING_HANG, FL_E_UNAVAILABLE, "ms while asked to PREDICT", false},
        {FL_PREDICTING_NAN, FL_E_INVALID, "number 1 of its answers is not finite", true},
        {FL_PREDICTING_SHORT, FL_E_INVALID, "4 bytes, where 2 numbers are due", true},
        {FL_PREDICTING_ERROR, FL_E_INVALID, "CodeFailed: ValueError: bad luck", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        TRAINER trainer = start("good");
        const float rows[] = {cases[i].first, 1, 2, 3}, others[] = {1, 1};
        struct fl_trainer_form form;
        struct fl_error err = {0};
        float answers[2];

        load(trainer, &form);
        assert_int_equal(fl_trainer_predict(trainer, &form, rows, 2, answers, &err), cases[i].code);
        if (!strstr(err.msg, cases[i].words))
            fail_msg("%s: %s", cases[i].words, err.msg);
        assert_int_equal(fl_trainer_has_ended(trainer), !cases[i].lives);
        assert_int_equal(fl_trainer_predict(trainer, &form, others, 1, answers, &err),
                         cases[i].lives ? 0 : FL_E_UNAVAILABLE);
    }
}

static void models_that_cannot_be_loaded(void **state)
{
    static const struct {
        const char *role;
        int code;
        const char *words;
    } cases[] = {
        {"mute", FL_E_NOT_ACCEPTABLE, "program sums does not predict"},
        {"shape", FL_E_INVALID, "input.shape[0]: must be a size"},
        {"size", FL_E_INVALID, "output.size: must be from 1 to"},
        {"unloadable", FL_E_UNAVAILABLE, "it exited with status 3"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        TRAINER trainer = start(cases[i].role);
        struct fl_trainer_form form;
        struct fl_error err = {0};

        assert_int_equal(fl_trainer_load(trainer, "m", 1, &form, &err), cases[i].code);
        if (!strstr(err.msg, cases[i].words))
            fail_msg("%s: %s", cases[i].words, err.msg);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_answered),
        cmocka_unit_test(how_they_fail_is_told),
        cmocka_unit_test(models_that_cannot_be_loaded),
    };

    if (argc == 3 && strcmp(argv[1], "predictor") == 0)
        return fl_predicting_main(argv[2]);
    env = fl_env_real(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
