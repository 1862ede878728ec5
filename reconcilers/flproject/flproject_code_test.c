#include "reconcilers/flproject/flproject_code.h"

#include "controller/runtime/reconcile.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka wants the three above first */
#include <cmocka.h>

#define UID      "6f1d2c3b-0000-4000-8000-000000000001"
#define COMMIT_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define COMMIT_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* A project, and the ImageBuilds that were made for it so far. */
struct world {
    struct fl_arena *arena;
    struct fl_project *project;
    struct fl_flproject_code_input input;
    struct fl_flproject_fetched fetched;
    struct fl_imagebuild *builds[8];
    struct fl_flproject_code code;
};

static void edit(struct world *world, const char *source, const char *build)
{
    const char *yaml = fl_arena_printf(
        world->arena,
        "{apiVersion: flops.dev/v1alpha1, kind: FLProject, metadata: {name: p, namespace: d, uid: "
        "%s}, spec: {source: %s, build: %s, training: {rounds: 1}}}",
        UID, source, build);
    struct fl_error err = {0};
    json_t *json = NULL;
    void *object = NULL;

    if (fl_yaml_parse(yaml, strlen(yaml), NULL, &json, &err) < 0 ||
        fl_object_decode(&fl_project_type, fl_json_in_arena(world->arena, json), world->arena,
                         &object, &err) < 0)
        fail_msg("%s", err.msg);
    world->project = object;
    world->input.project = world->project;
    world->input.json = fl_json_in_arena(world->arena, fl_project_encode(world->project));
}

static void begin(struct world *world, const char *source)
{
    *world = (struct world){.arena = fl_arena_create()};
    world->input.fetched = &world->fetched;
    world->input.builds = world->builds;
    edit(world, source, "{}");
}

static void keep(struct world *world, const struct fl_flproject_code_build *build)
{
    if (!build->make)
        return;
    assert_true(world->input.build_count < FL_COUNT_OF(world->builds));
    build->make->meta.name = fl_child_name(world->arena, "p", UID, build->role);
    world->builds[world->input.build_count++] = build->make;
}

/* What the reconciler does: decides, and makes what is to be made. */
static void pass(struct world *world)
{
    fl_flproject_code(&world->input, world->arena, &world->code);
    keep(world, &world->code.learner);
    keep(world, &world->code.aggregator);
    if (world->code.learner.make)
        fl_flproject_code(&world->input, world->arena, &world->code);
}

static void answer(struct world *world, const char *commit)
{
    world->fetched =
        (struct fl_flproject_fetched){.state = FL_FLPROJECT_FETCH_DONE, .commit = commit};
    pass(world);
    world->fetched = (struct fl_flproject_fetched){0};
    pass(world);
}

static void build(struct world *world, size_t number)
{
    static struct fl_condition done = {
        .type = "Succeeded", .status = FL_CONDITION_STATUS_TRUE, .reason = "x", .message = "x"};
    struct fl_imagebuild *it = world->builds[number];

    it->status.conditions = (struct fl_condition_list){&done, 1};
    it->status.has_image = true;
    it->status.image.name = fl_arena_printf(world->arena, "r/%zu", number);
    it->status.image.digest = "sha256:1";
    pass(world);
}

static void end(struct world *world)
{
    fl_arena_destroy(world->arena);
}

#define GIT "{git: {url: 'https://x/y', ref: {branch: main}}}"

static void a_builtin_trainer_needs_nothing(void **state)
{
    struct world world;

    (void)state;
    begin(&world, "{builtin: {trainer: MLP}}");
    pass(&world);
    assert_false(world.code.is_needed || world.code.ask);
    assert_null(world.code.learner_image);
    assert_int_equal(world.input.build_count, 0);
    end(&world);
}

static void an_image_is_taken_as_it_is(void **state)
{
    struct world world;

    (void)state;
    begin(&world, "{image: 'r.example/x@sha256:2'}");
    pass(&world);
    assert_false(world.code.is_needed || world.code.ask);
    assert_string_equal(world.code.learner_image, "r.example/x@sha256:2");
    assert_null(world.code.aggregator_image);
    end(&world);
}

static void a_commit_is_asked_for_then_built_then_run(void **state)
{
    struct world world;

    (void)state;
    begin(&world, GIT);
    pass(&world);
    assert_true(world.code.ask);
    assert_int_equal(world.input.build_count, 0);
    answer(&world, COMMIT_A);
    assert_false(world.code.ask);
    assert_int_equal(world.input.build_count, 2);
    assert_string_equal(world.builds[0]->spec.source.commit, COMMIT_A);
    assert_false(world.builds[1]->spec.has_source);
    assert_int_equal(world.builds[1]->spec.target, FL_IMAGEBUILD_TARGET_AGGREGATOR);
    assert_null(world.code.learner_image);
    build(&world, 0);
    assert_null(world.code.learner_image); /* the aggregators' is missing */
    build(&world, 1);
    assert_string_equal(world.code.learner_image, "r/0@sha256:1");
    assert_string_equal(world.code.aggregator_image, "r/1@sha256:1");
    assert_string_equal(world.code.commit, COMMIT_A);
    assert_string_equal(world.code.ref, "main");
    end(&world);
}

/* The branch has moved on meanwhile: a source that is asked would say so. */
static void what_was_found_stays_while_the_words_do(void **state)
{
    struct world world;

    (void)state;
    begin(&world, GIT);
    answer(&world, COMMIT_A);
    build(&world, 0);
    build(&world, 1);
    edit(&world, GIT, "{retryLimit: 7}");
    pass(&world);
    assert_false(world.code.ask);
    assert_int_equal(world.input.build_count, 4);
    assert_string_equal(world.builds[2]->spec.source.commit, COMMIT_A);
    assert_int_equal(world.builds[2]->spec.retry_limit, 7);
    end(&world);
}

static void another_ref_is_asked_for_while_the_old_image_runs(void **state)
{
    struct world world;
    struct fl_workload learner = {.spec = {.role = FL_WORKLOAD_ROLE_LEARNER}};
    struct fl_workload root = {.spec = {.role = FL_WORKLOAD_ROLE_AGGREGATOR}};
    struct fl_workload *const workloads[] = {&learner, &root};

    (void)state;
    begin(&world, GIT);
    answer(&world, COMMIT_A);
    build(&world, 0);
    build(&world, 1);
    learner.spec.image = world.code.learner_image;
    root.spec.image = world.code.aggregator_image;
    world.input.workloads = workloads;
    world.input.workload_count = FL_COUNT_OF(workloads);
    edit(&world, "{git: {url: 'https://x/y', ref: {tag: v2}}}", "{}");
    pass(&world);
    assert_true(world.code.ask);
    assert_false(world.code.is_current);
    assert_string_equal(world.code.learner_image, "r/0@sha256:1");
    answer(&world, COMMIT_B);
    assert_int_equal(world.input.build_count, 3); /* the aggregators' is the same */
    assert_string_equal(world.code.learner_image, "r/0@sha256:1");
    build(&world, 2);
    assert_true(world.code.is_current);
    assert_string_equal(world.code.learner_image, "r/2@sha256:1");
    assert_string_equal(world.code.aggregator_image, "r/1@sha256:1");
    end(&world);
}

static void settings_are_handed_on(void **state)
{
    struct world world;
    const struct fl_imagebuild_spec *spec;

    (void)state;
    begin(&world, GIT);
    edit(&world,
         "{git: {url: 'https://x/y', path: sub, credentialsSecret: {name: s}, timeout: 5s}}",
         "{backend: Buildah, platforms: [linux/arm64], file: C, args: {A: b}, lockPolicy: Require,"
         " registry: {url: r.example}, timeout: 9m}");
    world.fetched.signer = "SHA256:k me";
    world.fetched.state = FL_FLPROJECT_FETCH_DONE;
    world.fetched.commit = COMMIT_A;
    pass(&world);
    spec = &world.builds[0]->spec;
    assert_string_equal(spec->source.path, "sub");
    assert_string_equal(spec->source.credentials_secret.name, "s");
    assert_string_equal(spec->source.timeout, "5s");
    assert_int_equal(spec->backend, FL_IMAGEBUILD_BACKEND_BUILDAH);
    assert_string_equal(spec->platforms.items[0], "linux/arm64");
    assert_string_equal(spec->file, "C");
    assert_string_equal(fl_string_map_get(&spec->args, "A"), "b");
    assert_int_equal(spec->lock_policy, FL_IMAGEBUILD_LOCK_POLICY_REQUIRE);
    assert_string_equal(spec->registry.url, "r.example");
    assert_string_equal(spec->timeout, "9m");
    assert_string_equal(world.code.signer, "SHA256:k me");
    assert_int_equal(world.builds[1]->spec.backend, FL_IMAGEBUILD_BACKEND_COMPOSE);
    assert_null(world.builds[1]->spec.file);
    end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_builtin_trainer_needs_nothing),
        cmocka_unit_test(an_image_is_taken_as_it_is),
        cmocka_unit_test(a_commit_is_asked_for_then_built_then_run),
        cmocka_unit_test(what_was_found_stays_while_the_words_do),
        cmocka_unit_test(another_ref_is_asked_for_while_the_old_image_runs),
        cmocka_unit_test(settings_are_handed_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
