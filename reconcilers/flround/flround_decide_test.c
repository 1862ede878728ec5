/* The policy of FLRound: numbers, turns, bases, runs. */
#include "reconcilers/flround/flround_decide.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define MAX 8

struct scene {
    struct fl_arena *arena;
    struct fl_project project;
    struct fl_round rounds[MAX], *round_list[MAX];
    struct fl_modelversion models[MAX], *model_list[MAX];
    struct fl_flround_world world; /* about the first round */
};

static int setup(void **state)
{
    struct scene *scene = fl_calloc(1, sizeof(*scene));

    scene->arena = fl_arena_create();
    scene->project.meta.generation = 1;
    scene->world = (struct fl_flround_world){.round = &scene->rounds[0],
                                             .project = &scene->project,
                                             .rounds = scene->round_list,
                                             .models = scene->model_list};
    *state = scene;
    return 0;
}

static int teardown(void **state)
{
    struct scene *scene = *state;

    fl_arena_destroy(scene->arena);
    free(scene);
    return 0;
}

/* `marks`: s has succeeded, b has begun, g was given its number by the user. */
static struct fl_round *add_round(struct scene *scene, const char *uid, int64_t number,
                                  const char *marks)
{
    struct fl_round *round = &scene->rounds[scene->world.round_count];
    static struct fl_condition succeeded = {.type = "Succeeded",
                                            .status = FL_CONDITION_STATUS_TRUE};

    scene->round_list[scene->world.round_count++] = round;
    round->meta.uid = round->meta.name = uid;
    round->spec.has_index = strchr(marks, 'g') != NULL;
    round->spec.index = number;
    round->status.has_index = number > 0;
    round->status.index = number;
    if (strchr(marks, 's'))
        round->status.conditions = (struct fl_condition_list){&succeeded, 1};
    if (strchr(marks, 'b'))
        round->status.start_time = "2026-01-01T00:00:00Z";
    return round;
}

static void add_model(struct scene *scene, int64_t round, const char *digest)
{
    struct fl_modelversion *model = &scene->models[scene->world.model_count];

    scene->model_list[scene->world.model_count++] = model;
    model->spec.round = round;
    model->spec.digest = digest;
    model->spec.size = 10 + round;
    model->spec.has_size = true;
}

static void test_free_number(void **state)
{
    struct scene *scene = *state;

    add_round(scene, "me", 0, "");
    assert_int_equal(fl_flround_free_number(&scene->world), 1);
    add_round(scene, "a", 3, "g");
    assert_int_equal(fl_flround_free_number(&scene->world), 4);
    add_model(scene, 7, "m7"); /* its round is gone */
    assert_int_equal(fl_flround_free_number(&scene->world), 8);
    scene->rounds[0].status.index = 20; /* what it had itself does not count */
    scene->rounds[0].status.has_index = true;
    assert_int_equal(fl_flround_free_number(&scene->world), 8);
}

static void test_turns(void **state)
{
    static const struct {
        int64_t mine;
        const char *my_marks;
        int64_t other;
        const char *other_marks;
        enum fl_flround_turn turn;
    } cases[] = {
        {2, "g", 1, "g", FL_FLROUND_LATER},  {2, "g", 1, "gb", FL_FLROUND_LATER},
        {2, "g", 1, "gs", FL_FLROUND_OURS},  {1, "g", 2, "gb", FL_FLROUND_OURS},
        {2, "g", 0, "", FL_FLROUND_OURS},    {2, "g", 2, "gs", FL_FLROUND_TAKEN},
        {2, "g", 2, "gb", FL_FLROUND_TAKEN}, {2, "gb", 2, "g", FL_FLROUND_OURS},
        {2, "g", 2, "", FL_FLROUND_OURS},    {2, "", 2, "g", FL_FLROUND_TAKEN},
        {2, "", 2, "", FL_FLROUND_TAKEN}, /* of two equals the lower uid */
    };

    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        const struct fl_round *other = NULL;
        struct scene *scene;

        (void)setup((void **)&scene);
        add_round(scene, "me", cases[i].mine, cases[i].my_marks);
        add_round(scene, "b", cases[i].other, cases[i].other_marks);
        assert_int_equal(fl_flround_turn(&scene->world, cases[i].mine, &other), cases[i].turn);
        assert_ptr_equal(other, cases[i].turn == FL_FLROUND_OURS ? NULL : &scene->rounds[1]);
        (void)teardown((void **)&scene);
    }
    (void)state;
}

static struct fl_flround_base base_of(struct scene *scene, int64_t number,
                                      const struct fl_project *source)
{
    struct fl_flround_base base;

    fl_flround_base(&scene->world, number, source, scene->arena, &base);
    return base;
}

static void test_bases(void **state)
{
    struct scene *scene = *state;
    struct fl_round *me = add_round(scene, "me", 3, "g"), *before;

    assert_int_equal(base_of(scene, 3, NULL).kind, FL_FLROUND_BASE_SEED);
    add_model(scene, 0, "m0");
    assert_string_equal(base_of(scene, 1, NULL).digest, "m0");
    add_model(scene, 1, "m1");
    add_model(scene, 3, "m3"); /* not one's own, nor a later one */
    assert_string_equal(base_of(scene, 3, NULL).digest, "m1");
    assert_int_equal(base_of(scene, 3, NULL).size, 11);
    before = add_round(scene, "b", 2, "gs"); /* newer than what is known of models */
    before->status.model.digest = "m2";
    assert_string_equal(base_of(scene, 3, NULL).digest, "m2");
    me->spec.has_base_model = true;
    me->spec.base_model.digest = "mine";
    assert_string_equal(base_of(scene, 3, NULL).digest, "mine");
}

static void test_initial_models(void **state)
{
    struct scene *scene = *state;
    struct fl_project_training *training = &scene->project.spec.training;
    struct fl_project other = {
        .status = {.model = {.digest = "last"}, .best_model = {.digest = "best"}}};

    add_round(scene, "me", 1, "g");
    training->has_initial_model = true;
    training->initial_model.digest = "given";
    assert_string_equal(base_of(scene, 1, NULL).digest, "given");
    training->initial_model.digest = NULL;
    training->initial_model.uri = "https://x/m";
    assert_int_equal(base_of(scene, 1, NULL).kind, FL_FLROUND_BASE_IMPORT);
    training->initial_model.has_project = true;
    training->initial_model.project.name = "other";
    assert_int_equal(base_of(scene, 1, NULL).kind, FL_FLROUND_BASE_MISSING);
    assert_string_equal(base_of(scene, 1, &other).digest, "best");
    training->initial_model.project.select =
        FL_PROJECT_TRAINING_INITIAL_MODEL_PROJECT_SELECT_LATEST;
    assert_string_equal(base_of(scene, 1, &other).digest, "last");
    add_model(scene, 0, "m0"); /* what was imported once */
    assert_string_equal(base_of(scene, 1, &other).digest, "m0");
}

static enum fl_flround_run run_of(struct scene *scene, enum fl_round_phase phase, int64_t run,
                                  const char *reason, int64_t *ret_run)
{
    const struct fl_round_report report = {.phase = phase, .run = run, .reason = reason};

    return fl_flround_run(&scene->world, &report, ret_run);
}

static void test_runs(void **state)
{
    struct scene *scene = *state;
    struct fl_round *me = add_round(scene, "me", 1, "g");
    int64_t run;

    assert_int_equal(run_of(scene, FL_ROUND_TRAINING, 0, NULL, &run), FL_FLROUND_RUN_GOES_ON);
    assert_int_equal(run_of(scene, FL_ROUND_COMMITTED, 4, NULL, &run), FL_FLROUND_RUN_GOES_ON);
    /* another object's */
    assert_int_equal(run_of(scene, FL_ROUND_ABORTED, 4, "Aborted", &run), FL_FLROUND_RUN_RECORD);
    assert_int_equal(run, 5);
    me->status.run = 5;
    me->status.has_run = me->status.has_project_generation = true;
    me->status.project_generation = 1;
    me->status.start_time = "2026-01-01T00:00:00Z";
    assert_int_equal(run_of(scene, FL_ROUND_ABORTED, 4, "Aborted", &run), FL_FLROUND_RUN_START);
    assert_int_equal(run, 5);
    assert_int_equal(run_of(scene, FL_ROUND_FAILED, 5, "Quorum", &run), FL_FLROUND_RUN_FAILED);
    scene->world.reconcile_at = "now";
    assert_int_equal(run_of(scene, FL_ROUND_FAILED, 5, "Quorum", &run), FL_FLROUND_RUN_RECORD);
    assert_int_equal(run, 6);
    me->status.last_handled_reconcile_at = "now";
    assert_int_equal(run_of(scene, FL_ROUND_FAILED, 5, "Quorum", &run), FL_FLROUND_RUN_FAILED);
    scene->project.meta.generation = 2;
    assert_int_equal(run_of(scene, FL_ROUND_FAILED, 5, "Quorum", &run), FL_FLROUND_RUN_RECORD);
}

static void test_lost_base(void **state)
{
    struct scene *scene = *state;
    struct fl_round *me = add_round(scene, "me", 1, "gb");
    int64_t run;

    me->status.has_project_generation = true;
    me->status.project_generation = 1;
    assert_int_equal(run_of(scene, FL_ROUND_FAILED, 0, FL_FLROUND_LOST_BASE, &run),
                     FL_FLROUND_RUN_RECORD);
    assert_int_equal(
        run_of(scene, FL_ROUND_FAILED, FL_FLROUND_LOST_BASE_MAX, FL_FLROUND_LOST_BASE, &run),
        FL_FLROUND_RUN_FAILED);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_free_number),    TEST(test_turns), TEST(test_bases),
        TEST(test_initial_models), TEST(test_runs),  TEST(test_lost_base),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
