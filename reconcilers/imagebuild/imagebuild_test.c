/* ImageBuilds on a real API server over a memory store and a builder by plan; the test steps, in
 * virtual time. What a user would see is what is asserted, and what the builder was asked for. */
#include "reconcilers/imagebuild/imagebuild.h"

#include "api/gen/crds_embedded.h"
#include "controller/client/client_testing.h"
#include "lib/map.h"
#include "lib/str.h"
#include "reconcilers/imagebuild/builder_fake.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

#define URL       "https://git.test/team/Scikit_MNIST.git"
#define COMMIT    "0123456789abcdef0123456789abcdef01234567"
#define SOURCE    "\"source\":{\"url\":\"" URL "\",\"commit\":\"" COMMIT "\"}"
#define MINUTE_MS 60000
#define HOUR_MS   (60 * MINUTE_MS)
#define ALWAYS    (-1)

struct world {
    struct fl_plane *plane;
    struct fl_client_faults faults;
    struct fl_apiclient *client; /* of the manager; may fail */
    struct fl_arena *arena;
    struct fl_builder_fake *fake;
    struct fl_imagebuild_controller *controller;
    struct fl_manager *manager;
    struct fl_build common;
    struct fl_builder_fake_plan plan; /* of what begins */
    int fail_first;                   /* so many fail as planned; the others succeed at once */
    size_t plans;
    bool registry_is_away, model_is_there;
    int fail_at, uses; /* of the manager's writes */
    bool fail_after;
    int fail_code;
};

static const struct fl_gvr imagebuilds = {"flops.dev", "v1alpha1", "imagebuilds", true};

/* The process: what a crash takes away */

static int own_registry(void *user, const char *repository, struct fl_arena *arena,
                        struct fl_build *build, struct fl_error *err)
{
    const struct world *w = user;

    if (w->registry_is_away)
        return fl_error_set(err, FL_E_UNAVAILABLE, "the registry is away");
    build->registry = "own.test:5000";
    build->registry_username = "flops";
    build->registry_password = fl_arena_printf(arena, "token-for-%s", repository);
    return 0;
}

static int model_file(void *user, const char *digest, struct fl_arena *arena, const char **ret_path,
                      struct fl_error *err)
{
    const struct world *w = user;

    if (!w->model_is_there)
        return fl_error_set(err, FL_E_NOT_FOUND, "model: %s is not here", digest);
    *ret_path = fl_arena_printf(arena, "/content/%s", digest);
    return 0;
}

static void plan(void *user, const char *key, const struct fl_build *build,
                 struct fl_builder_fake_plan *ret_plan)
{
    struct world *w = user;

    (void)key, (void)build;
    if ((int)w->plans++ < w->fail_first)
        *ret_plan = w->plan;
    else
        *ret_plan = (struct fl_builder_fake_plan){.run_ms = w->plan.code ? 0 : w->plan.run_ms,
                                                  .stage = w->plan.code ? NULL : w->plan.stage,
                                                  .log_tail = w->plan.log_tail};
}

static void start(struct world *w)
{
    struct fl_error err = {0};
    const struct fl_manager_options options = {.env = &w->plane->env, .client = w->client};
    const struct fl_imagebuild_options builds = {
        .common = &w->common, .own_registry = own_registry, .model = model_file, .user = w};

    w->controller = fl_imagebuild_controller_create(&builds);
    if (fl_manager_create(&options, &w->manager, &err) < 0)
        fail_msg("%s", err.msg);
    fl_builder_fake_on_change(w->fake, fl_imagebuild_changed, w->controller);
    if (fl_imagebuild_controller_attach(w->controller, w->manager, fl_builder_fake_builder(w->fake),
                                        &err) < 0)
        fail_msg("%s", err.msg);
}

static void crash(struct world *w)
{
    fl_manager_destroy(FL_TAKE(w->manager));
    fl_builder_fake_crash(w->fake);
    fl_imagebuild_controller_destroy(FL_TAKE(w->controller));
    w->faults.crashed = false;
    start(w);
}

static int watch_calls(void *user, const struct fl_client_moment *moment)
{
    struct world *w = user;

    if (moment->use != FL_CLIENT_CALL || strcmp(moment->call->method, "GET") == 0 ||
        moment->after != w->fail_after || !w->fail_code)
        return 0;
    return w->uses++ == w->fail_at || w->fail_at == ALWAYS ? w->fail_code : 0;
}

static int setup(void **state)
{
    struct world *w = fl_calloc(1, sizeof(*w));
    const char *definitions[FL_EMBEDDED_CRD_COUNT];
    struct fl_error err = {0};

    for (size_t i = 0; i < FL_EMBEDDED_CRD_COUNT; i++)
        definitions[i] = fl_embedded_crds[i].json;
    if (fl_plane_create(&(struct fl_plane_options){.simulated = true,
                                                   .seed = 7,
                                                   .definitions = definitions,
                                                   .definition_count = FL_EMBEDDED_CRD_COUNT},
                        &w->plane, &err) < 0)
        fail_msg("%s", err.msg);
    w->faults = (struct fl_client_faults){.moment = watch_calls, .user = w};
    w->client = fl_apiclient_create_faulty(&w->plane->env, w->plane->client, &w->faults);
    w->arena = fl_arena_create();
    w->fake = fl_builder_fake_create(&w->plane->env);
    fl_builder_fake_on_plan(w->fake, plan, w);
    start(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    fl_manager_destroy(w->manager);
    fl_builder_fake_destroy(w->fake);
    fl_imagebuild_controller_destroy(w->controller);
    fl_apiclient_destroy(w->client);
    fl_plane_destroy(w->plane);
    fl_arena_destroy(w->arena);
    free(w);
    return 0;
}

/* Time */

static size_t turn(struct world *w)
{
    size_t done;

    assert_true(fl_plane_settle(w->plane));
    done = fl_builder_fake_step(w->fake) + fl_manager_pump(w->manager);
    while (fl_controller_process_next(fl_manager_controller(w->manager, 0)))
        done++;
    (void)fl_manager_write_events(w->manager);
    if (w->faults.crashed) {
        crash(w);
        done++;
    }
    return done;
}

static void settle(struct world *w)
{
    for (int turns = 0; turn(w) > 0; turns++)
        if (turns > 500)
            fail_msg("it never settles");
}

static void run_for(struct world *w, int64_t ms)
{
    int64_t end = fl_monotonic_ms(&w->plane->env) + ms;

    settle(w);
    for (;;) {
        int64_t now = fl_monotonic_ms(&w->plane->env);
        int64_t due = fl_manager_next_due_ms(w->manager);
        int64_t built = fl_builder_fake_next_due_ms(w->fake);

        if (now >= end)
            break;
        due = due < built ? due : built;
        due = due < end ? due : end;
        assert_true(fl_plane_advance(w->plane, due > now ? due - now : 1));
        settle(w);
    }
}

/* Objects */

static json_t *parse(struct world *w, const char *text)
{
    json_t *value = NULL;

    assert_int_equal(fl_json_parse(text, strlen(text), NULL, NULL, NULL, &value, NULL), 0);
    return fl_json_in_arena(w->arena, value);
}

static void create_in(struct world *w, const struct fl_gvr *gvr, const char *ns, const char *text)
{
    struct fl_error err = {0};

    if (fl_apiclient_create_object(w->plane->client, gvr, ns, parse(w, text), NULL, &err) < 0)
        fail_msg("%s", err.msg);
}

static void make_in(struct world *w, const char *ns, const char *name, const char *spec)
{
    create_in(w, &imagebuilds, ns,
              fl_arena_printf(w->arena,
                              "{\"apiVersion\":\"flops.dev/v1alpha1\",\"kind\":\"ImageBuild\","
                              "\"metadata\":{\"name\":\"%s\"},\"spec\":{%s}}",
                              name, spec));
}

static void make(struct world *w, const char *spec)
{
    make_in(w, "default", "main", spec);
}

static void make_secret(struct world *w, const char *name, const char *data)
{
    create_in(w, &fl_gvr_secrets, "default",
              fl_arena_printf(w->arena,
                              "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":"
                              "\"%s\"},\"stringData\":{%s}}",
                              name, data));
}

static void make_namespace(struct world *w, const char *name)
{
    create_in(w, &fl_gvr_namespaces, NULL,
              fl_arena_printf(w->arena,
                              "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{"
                              "\"name\":\"%s\"}}",
                              name));
}

static json_t *get_in(struct world *w, const char *ns, const char *name)
{
    json_t *object = NULL;

    if (fl_apiclient_get(w->plane->client, &imagebuilds, ns, name, &object, NULL) < 0)
        return NULL;
    return fl_json_in_arena(w->arena, object);
}

static json_t *get(struct world *w)
{
    return get_in(w, "default", "main");
}

static void patch(struct world *w, const char *spec)
{
    struct fl_error err = {0};

    if (fl_apiclient_patch(w->plane->client, &imagebuilds, "default", "main", NULL,
                           parse(w, fl_arena_printf(w->arena, "{\"spec\":{%s}}", spec)), NULL,
                           &err) < 0)
        fail_msg("%s", err.msg);
}

static void delete (struct world *w)
{
    assert_int_equal(
        fl_apiclient_delete(w->plane->client, &imagebuilds, "default", "main", NULL, NULL), 0);
}

static const char *key_of(struct world *w, int64_t attempt)
{
    return fl_arena_printf(w->arena, "%s-%" PRId64, fl_json_str(get(w), "metadata.uid"), attempt);
}

/* Checks */

static const json_t *condition(const json_t *object, const char *type)
{
    size_t i;
    const json_t *item;

    json_array_foreach(fl_json_path(object, "status.conditions"), i, item)
        if (fl_streq(fl_json_str(item, "type"), type))
            return item;
    return NULL;
}

static void expect_in(struct world *w, const json_t *object, const char *type, const char *status,
                      const char *reason, const char *message)
{
    const json_t *found = condition(object, type);

    if (!found || !fl_streq(fl_json_str(found, "status"), status) ||
        !fl_streq(fl_json_str(found, "reason"), reason) ||
        (message && !fl_streq(fl_json_str(found, "message"), message)))
        fail_msg("%s is not %s, %s, \"%s\": %s", type, status, reason, fl_str_or(message, "*"),
                 fl_json_to_string(w->arena, fl_json_path(object, "status")));
}

static void expect(struct world *w, const char *type, const char *status, const char *reason,
                   const char *message)
{
    expect_in(w, get(w), type, status, reason, message);
}

static void expect_stalled(struct world *w, const char *type, const char *reason,
                           const char *message)
{
    expect(w, type, "False", reason, message);
    expect(w, "Ready", "False", reason, message);
    expect(w, "Stalled", "True", reason, message);
}

static int64_t attempts(struct world *w)
{
    return fl_json_int(get(w), "status.attempts", 0);
}

static size_t begun(struct world *w)
{
    return fl_builder_fake_begun(w->fake);
}

static const char *digest(struct world *w)
{
    return fl_json_str(get(w), "status.image.digest");
}

static bool has_event(struct world *w, const char *reason, const char *words)
{
    json_t *list = NULL;
    const json_t *item;
    size_t i;

    assert_int_equal(
        fl_apiclient_list(w->plane->client, &fl_gvr_events, "default", NULL, &list, NULL), 0);
    list = fl_json_in_arena(w->arena, list);
    json_array_foreach(list, i, item) {
        const char *note = fl_json_str(item, "note");

        if (fl_streq(fl_json_str(item, "reason"), reason) &&
            strstr(fl_str_or(note, fl_str_or(fl_json_str(item, "message"), "")), words))
            return true;
    }
    return false;
}

/* Of the first stage. */
static const char *stage(struct world *w, const char *field)
{
    return fl_json_str(json_array_get(fl_json_path(get(w), "status.stages"), 0), field);
}

static size_t live(struct world *w)
{
    size_t count;

    (void)fl_builder_fake_live(w->fake, "", &count);
    return count;
}

/* Tests */

static void test_a_commit_becomes_an_image(void **state)
{
    struct world *w = *state;

    w->plan = (struct fl_builder_fake_plan){.run_ms = 2500, .log_tail = "one\ntwo\n"};
    make(w, SOURCE ",\"platforms\":[\"linux/amd64\",\"linux/arm64\"],\"tags\":[\"v1\"]");
    settle(w);
    expect(w, "Ready", "False", "Building", "Base");
    expect(w, "SourceReady", "True", "Ready", COMMIT);
    assert_string_equal(stage(w, "state"), "Running");
    assert_null(digest(w));
    run_for(w, 3000);
    expect(w, "Ready", "True", "Built", "the image is built");
    expect(w, "SourceReady", "True", "Ready", COMMIT);
    expect(w, "Built", "True", "Built", "2 platforms");
    expect(w, "Pushed", "True", "Pushed", "own.test:5000/default/scikit-mnist");
    expect(w, "Succeeded", "True", "Built", digest(w));
    assert_string_equal(fl_json_str(get(w), "status.image.name"),
                        "own.test:5000/default/scikit-mnist");
    assert_string_equal(fl_json_str(get(w), "status.duration"), "2.500s");
    assert_string_equal(fl_json_str(get(w), "status.logTail"), "one\ntwo\n");
    assert_string_equal(stage(w, "duration"), "2.500s");
    assert_int_equal(json_array_size(fl_json_path(get(w), "status.platforms")), 2);
    assert_string_equal(fl_builder_fake_asked(w->fake, key_of(w, 1), w->arena),
                        "own.test:5000/default/scikit-mnist flops "
                        "token-for-default/scikit-mnist " COMMIT " v1");
    assert_true(has_event(w, "Built", "the image is built"));
    assert_int_equal(attempts(w), 1);
    assert_int_equal(begun(w), 1);
}

/* What was built stays so: edited, looked at again, or in another life. */
static void test_what_is_built_stays(void **state)
{
    struct world *w = *state;
    const char *first, *version;

    make(w, SOURCE);
    settle(w);
    expect(w, "Ready", "True", "Built", NULL);
    first = digest(w);
    crash(w);
    run_for(w, HOUR_MS);
    patch(w, "\"timeout\":\"5m\",\"retryLimit\":7");
    run_for(w, HOUR_MS);
    patch(w, "\"suspend\":true");
    run_for(w, MINUTE_MS);
    expect(w, "Ready", "False", "Suspended", NULL);
    patch(w, "\"suspend\":false");
    run_for(w, MINUTE_MS);
    expect(w, "Ready", "True", "Built", NULL);
    assert_string_equal(digest(w), first);
    assert_int_equal(begun(w), 1);
    version = fl_json_str(get(w), "metadata.resourceVersion");
    run_for(w, 3 * HOUR_MS);
    assert_string_equal(fl_json_str(get(w), "metadata.resourceVersion"), version);
}

static void test_what_passes_is_tried_again(void **state)
{
    struct world *w = *state;

    w->plan = (struct fl_builder_fake_plan){
        .code = FL_E_UNAVAILABLE, .stage = "Push", .message = "the registry is away"};
    w->fail_first = 2;
    make(w, SOURCE);
    settle(w);
    expect(w, "Pushed", "False", "PushFailed", "Push: the registry is away; attempt 2 comes next");
    expect(w, "Built", "True", "Built", "1 platforms");
    expect(w, "Reconciling", "True", "Progressing", NULL);
    run_for(w, 9900);
    assert_int_equal(begun(w), 1);
    run_for(w, 200);
    assert_int_equal(begun(w), 2);
    assert_int_equal(attempts(w), 2);
    run_for(w, 19500);
    assert_int_equal(begun(w), 2);
    run_for(w, 600);
    assert_int_equal(begun(w), 3);
    expect(w, "Ready", "True", "Built", NULL);
    expect(w, "Pushed", "True", "Pushed", NULL);
    assert_int_equal(attempts(w), 3);
    assert_true(has_event(w, "PushFailed", "the registry is away"));
}

static void test_attempts_have_a_limit(void **state)
{
    struct world *w = *state;

    w->plan = (struct fl_builder_fake_plan){
        .code = FL_E_UNAVAILABLE, .stage = "Resolve", .message = "no network"};
    w->fail_first = 99;
    make(w, SOURCE ",\"retryLimit\":1");
    run_for(w, HOUR_MS);
    expect_stalled(w, "Built", "BuildFailed", "Resolve (attempt 2, the last): no network");
    expect(w, "SourceReady", "True", "Ready", COMMIT);
    assert_int_equal(begun(w), 2);
    run_for(w, 24 * HOUR_MS);
    assert_int_equal(begun(w), 2);
    assert_null(digest(w));
}

static void test_no_retries(void **state)
{
    struct world *w = *state;

    w->plan = (struct fl_builder_fake_plan){.code = FL_E_INTERNAL,
                                            .message = "the builder ended without an answer"};
    w->fail_first = 99;
    make(w, SOURCE ",\"retryLimit\":0");
    run_for(w, HOUR_MS);
    expect_stalled(w, "Built", "BuildFailed", "Base: the builder ended without an answer");
    assert_int_equal(begun(w), 1);
}

/* Given up stays given up in the next life, with all that was told; an edit is one more go. */
static void test_a_restart_is_no_retry(void **state)
{
    struct world *w = *state;

    w->plan = (struct fl_builder_fake_plan){
        .code = FL_E_UNAVAILABLE, .stage = "Push", .message = "away", .log_tail = "why\n"};
    w->fail_first = 3;
    make(w, SOURCE ",\"retryLimit\":1");
    run_for(w, HOUR_MS);
    assert_int_equal(begun(w), 2);
    for (int i = 0; i < 3; i++) {
        crash(w);
        run_for(w, HOUR_MS);
    }
    assert_int_equal(begun(w), 2);
    expect_stalled(w, "Pushed", "PushFailed", "Push (attempt 2, the last): away");
    assert_string_equal(fl_json_str(get(w), "status.logTail"), "why\n");
    patch(w, "\"timeout\":\"1h\"");
    run_for(w, HOUR_MS);
    assert_int_equal(begun(w), 3);
    expect_stalled(w, "Pushed", "PushFailed", "Push (attempt 3, the last): away");
    patch(w, "\"suspend\":true");
    run_for(w, MINUTE_MS);
    patch(w, "\"suspend\":false");
    run_for(w, MINUTE_MS);
    expect(w, "Ready", "True", "Built", NULL);
}

/* By stage and cause: which condition, which reason. */
static void test_what_ends_it_at_once(void **state)
{
    static const struct {
        struct fl_builder_fake_plan plan;
        const char *condition, *reason, *message;
    } rows[] = {
        {{.code = FL_E_NOT_FOUND, .stage = "Fetch", .message = "there is no such commit"},
         "SourceReady",
         "SourceNotReady",
         "Fetch: there is no such commit"},
        {{.code = FL_E_UNAUTHORIZED, .stage = "Fetch", .message = "the password is refused"},
         "SourceReady",
         "SourceNotReady",
         "Fetch: the password is refused"},
        {{.code = FL_E_INVALID, .stage = "Check", .message = "trainer.py has no class Trainer"},
         "SourceReady",
         "SourceInvalid",
         "Check: trainer.py has no class Trainer"},
        {{.code = FL_E_INVALID, .stage = "Resolve", .message = "no matching distribution"},
         "Built",
         "BuildFailed",
         "Resolve: no matching distribution"},
        {{.code = FL_E_INVALID, .stage = "Dependencies", .message = "not what its RECORD says"},
         "Built",
         "BuildFailed",
         "Dependencies: not what its RECORD says"},
        {{.code = FL_E_FORBIDDEN, .stage = "Push", .message = "may not push"},
         "Pushed",
         "PushFailed",
         "Push: may not push"},
        {{.code = FL_E_TOO_LARGE, .message = "more than there may be"},
         "Built",
         "BuildFailed",
         "Base: more than there may be"},
        {{.run_ms = -1, .stage = "Push"},
         "Pushed",
         "DeadlineExceeded",
         "Push: the build took longer than it may"},
        {{.run_ms = -1, .stage = "Fetch"},
         "SourceReady",
         "DeadlineExceeded",
         "Fetch: the build took longer than it may"},
    };
    struct world *w = *state;

    w->fail_first = 99;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        w->plan = rows[i].plan;
        make(w, SOURCE);
        run_for(w, HOUR_MS);
        expect_stalled(w, rows[i].condition, rows[i].reason, rows[i].message);
        assert_true(has_event(w, rows[i].reason, rows[i].message));
        assert_int_equal(attempts(w), 1);
        assert_int_equal(begun(w), i + 1);
        delete (w);
        settle(w);
        assert_null(get(w));
        assert_int_equal(fl_builder_fake_known(w->fake), 0);
    }
}

static void test_the_deadline_is_the_objects(void **state)
{
    struct world *w = *state;

    w->plan = (struct fl_builder_fake_plan){.run_ms = -1};
    w->fail_first = 99;
    make(w, SOURCE ",\"timeout\":\"5m\"");
    run_for(w, 5 * MINUTE_MS - 1000);
    expect(w, "Ready", "False", "Building", "Base");
    run_for(w, 2000);
    expect_stalled(w, "Built", "DeadlineExceeded", "Base: the build took longer than it may");
}

/* One after the other, and who waits says so. */
static void test_builds_take_turns(void **state)
{
    struct world *w = *state;

    w->plan = (struct fl_builder_fake_plan){.run_ms = MINUTE_MS};
    make(w, SOURCE);
    settle(w);
    make_in(w, "default", "other", "\"target\":\"Aggregator\"");
    run_for(w, 2000);
    expect_in(w, get_in(w, "default", "other"), "Ready", "False", "Building",
              "waits for builds before it");
    run_for(w, MINUTE_MS);
    expect(w, "Ready", "True", "Built", NULL);
    expect_in(w, get_in(w, "default", "other"), "Ready", "False", "Building", "Base");
    run_for(w, MINUTE_MS);
    expect_in(w, get_in(w, "default", "other"), "Ready", "True", "Built", NULL);
    expect_in(w, get_in(w, "default", "other"), "SourceReady", "True", "Ready",
              "no code is needed");
}

static void test_suspending(void **state)
{
    struct world *w = *state;

    make(w, SOURCE ",\"suspend\":true");
    run_for(w, HOUR_MS);
    expect(w, "Ready", "False", "Suspended", NULL);
    assert_int_equal(begun(w), 0);
    w->plan = (struct fl_builder_fake_plan){.run_ms = 10 * MINUTE_MS};
    patch(w, "\"suspend\":false");
    run_for(w, MINUTE_MS);
    expect(w, "Ready", "False", "Building", NULL);
    patch(w, "\"suspend\":true");
    run_for(w, HOUR_MS);
    expect(w, "Ready", "False", "Suspended", NULL);
    assert_int_equal(fl_builder_fake_known(w->fake), 0); /* it was ended */
    patch(w, "\"suspend\":false");
    run_for(w, 11 * MINUTE_MS);
    expect(w, "Ready", "True", "Built", NULL);
    assert_int_equal(begun(w), 2);
    assert_int_equal(attempts(w), 1); /* what was broken off counts once */
}

static void test_deletion(void **state)
{
    struct world *w = *state;

    w->plan = (struct fl_builder_fake_plan){.run_ms = -1};
    w->fail_first = 99;
    make(w, SOURCE);
    settle(w);
    assert_int_equal(fl_builder_fake_known(w->fake), 1);
    delete (w);
    settle(w);
    assert_null(get(w));
    assert_int_equal(fl_builder_fake_known(w->fake), 0);
    make(w, SOURCE); /* another of the name */
    settle(w);
    assert_int_equal(attempts(w), 1);
    assert_int_equal(begun(w), 2);
}

static void test_a_restart_in_the_middle(void **state)
{
    struct world *w = *state;

    w->plan = (struct fl_builder_fake_plan){.run_ms = 10 * MINUTE_MS};
    make(w, SOURCE);
    run_for(w, 5 * MINUTE_MS);
    crash(w);
    run_for(w, MINUTE_MS);
    expect(w, "Ready", "False", "Building", NULL);
    assert_int_equal(begun(w), 2);
    assert_int_equal(attempts(w), 1);
    run_for(w, 10 * MINUTE_MS);
    expect(w, "Ready", "True", "Built", NULL);
    assert_int_equal(begun(w), 2);
}

/* The process dies at each of its writes, before and after it took place: it is built once all the
 * same, or once more where nobody was told, and two never run at a time. */
static void test_a_crash_at_each_write(void **state)
{
    struct world *w = *state;

    for (int at = 0; at < 2 * 8; at++) {
        size_t before = begun(w);

        w->plan = (struct fl_builder_fake_plan){.code = FL_E_UNAVAILABLE, .message = "away"};
        w->plans = 0;
        w->fail_first = 1;
        w->fail_at = at / 2;
        w->fail_after = at % 2;
        w->fail_code = FL_CLIENT_CRASH;
        w->uses = 0;
        make(w, SOURCE);
        run_for(w, HOUR_MS);
        expect(w, "Ready", "True", "Built", NULL);
        assert_in_range(begun(w) - before, 2, 3);
        assert_in_range(attempts(w), 1, 2);
        w->fail_code = 0;
        delete (w);
        run_for(w, MINUTE_MS);
        assert_null(get(w));
        assert_int_equal(fl_builder_fake_known(w->fake), 0);
    }
}

/* The status that tells of an attempt is lost, and the object is suspended then: nothing of it goes
 * on. */
static void test_suspended_when_status_was_lost(void **state)
{
    struct world *w = *state;

    w->plan = (struct fl_builder_fake_plan){.code = FL_E_UNAVAILABLE, .message = "away"};
    w->fail_first = 1;
    make(w, SOURCE);
    settle(w);
    assert_int_equal(attempts(w), 1);
    w->plan = (struct fl_builder_fake_plan){.run_ms = -1};
    w->fail_first = 99;
    w->fail_code = FL_E_UNAVAILABLE; /* of every write */
    w->fail_at = ALWAYS;
    run_for(w, 11000);
    assert_int_equal(begun(w), 2);
    assert_int_equal(live(w), 1);
    assert_int_equal(attempts(w), 1);
    patch(w, "\"suspend\":true");
    run_for(w, MINUTE_MS);
    assert_int_equal(live(w), 0);
    w->fail_code = 0;
    run_for(w, 30 * MINUTE_MS);
    expect(w, "Ready", "False", "Suspended", NULL);
    assert_int_equal(live(w), 0);
}

/* Registries */

static void test_names(void **state)
{
    static const struct {
        const char *spec, *asked;
    } rows[] = {
        {SOURCE, "own.test:5000/default/scikit-mnist flops token-for-default/scikit-mnist"},
        {"\"target\":\"Aggregator\"",
         "own.test:5000/default/aggregator flops token-for-default/aggregator"},
        {SOURCE ",\"image\":\"default/mine\"",
         "own.test:5000/default/mine flops token-for-default/mine"},
        {SOURCE ",\"registry\":{\"url\":\"reg.test\"}", "reg.test/default/scikit-mnist - -"},
        {SOURCE ",\"registry\":{\"url\":\"reg.test:5000/team/\"},\"image\":\"mine\"",
         "reg.test:5000/team/mine - -"},
        {SOURCE ",\"registry\":{\"url\":\"reg.test/a/b//\"},\"image\":\"x/y\"",
         "reg.test/a/b/x/y - -"},
    };
    struct world *w = *state;

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        const char *asked;

        make(w, rows[i].spec);
        settle(w);
        expect(w, "Ready", "True", "Built", NULL);
        asked = fl_builder_fake_asked(w->fake, key_of(w, 1), w->arena);
        if (!asked || !fl_str_has_prefix(asked, rows[i].asked))
            fail_msg("%s instead of %s", fl_str_or(asked, "nothing"), rows[i].asked);
        assert_true(fl_str_has_prefix(rows[i].asked, fl_json_str(get(w), "status.image.name")));
        delete (w);
        settle(w);
    }
}

static void test_names_that_are_refused(void **state)
{
    static const struct {
        const char *spec, *words;
    } rows[] = {
        {SOURCE ",\"image\":\"mine\"", "begin with \"default/\""},
        {SOURCE ",\"image\":\"other/mine\"", "begin with \"default/\""},
        {SOURCE ",\"image\":\"default2/mine\"", "begin with \"default/\""},
        {SOURCE ",\"registry\":{\"url\":\"https://reg.test/team\"}", "without a scheme"},
    };
    struct world *w = *state;

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        make(w, rows[i].spec);
        run_for(w, MINUTE_MS);
        expect(w, "Stalled", "True", "PushFailed", NULL);
        expect(w, "Pushed", "False", "PushFailed", NULL);
        if (!strstr(fl_json_str(condition(get(w), "Pushed"), "message"), rows[i].words))
            fail_msg("%s", fl_json_str(condition(get(w), "Pushed"), "message"));
        assert_int_equal(begun(w), 0);
        delete (w);
        settle(w);
    }
}

#define WITH_SECRET                                                                                \
    SOURCE ",\"registry\":{\"url\":\"reg.test\",\"credentialsSecret\":{\"name\":\"s\"}}"

static void test_a_registrys_secret(void **state)
{
    struct world *w = *state;

    make(w, WITH_SECRET);
    run_for(w, MINUTE_MS);
    expect(w, "Ready", "False", "PushFailed", NULL);
    assert_non_null(strstr(fl_json_str(condition(get(w), "Pushed"), "message"), "Secret s"));
    assert_int_equal(begun(w), 0);
    make_secret(w, "s", "\"user\":\"u\"");
    run_for(w, 10 * MINUTE_MS);
    expect(w, "Ready", "False", "PushFailed",
           "Secret s: username and password, or ca.crt, are missing");
    assert_int_equal(begun(w), 0);
    assert_int_equal(
        fl_apiclient_delete(w->plane->client, &fl_gvr_secrets, "default", "s", NULL, NULL), 0);
    make_secret(w, "s", "\"username\":\"u\",\"password\":\"geheim\"");
    w->plan = (struct fl_builder_fake_plan){.run_ms = MINUTE_MS};
    run_for(w, 30 * MINUTE_MS);
    expect(w, "Ready", "True", "Built", NULL);
    assert_string_equal(fl_builder_fake_asked(w->fake, key_of(w, 1), w->arena),
                        "reg.test/default/scikit-mnist u geheim " COMMIT);
    assert_null(strstr(fl_json_to_string(w->arena, get(w)), "geheim"));
}

/* It was needed to push; to say that it was pushed it is not. */
static void test_a_secret_that_goes_meanwhile(void **state)
{
    struct world *w = *state;

    make_secret(w, "s", "\"username\":\"u\",\"password\":\"p\"");
    w->plan = (struct fl_builder_fake_plan){.run_ms = MINUTE_MS};
    make(w, WITH_SECRET);
    run_for(w, 1000);
    assert_int_equal(
        fl_apiclient_delete(w->plane->client, &fl_gvr_secrets, "default", "s", NULL, NULL), 0);
    run_for(w, 2 * MINUTE_MS);
    expect(w, "Ready", "True", "Built", NULL);
    expect(w, "Pushed", "True", "Pushed", "reg.test/default/scikit-mnist");
}

static void test_a_registry_that_is_away(void **state)
{
    struct world *w = *state;

    w->registry_is_away = true;
    make(w, SOURCE);
    run_for(w, MINUTE_MS);
    expect(w, "Ready", "False", "PushFailed", "the registry is away");
    expect(w, "Reconciling", "True", "ProgressingWithRetry", NULL);
    w->registry_is_away = false;
    run_for(w, 30 * MINUTE_MS);
    expect(w, "Ready", "True", "Built", NULL);
}

/* Sources */

#define PRIVATE                                                                                    \
    "\"source\":{\"url\":\"" URL "\",\"commit\":\"" COMMIT                                         \
    "\",\"credentialsSecret\":{\"name\":\"git\"}}"

static void test_a_private_repository(void **state)
{
    struct world *w = *state;

    make(w, PRIVATE);
    run_for(w, MINUTE_MS);
    expect(w, "Ready", "False", "SourceNotReady", NULL);
    expect(w, "SourceReady", "False", "SourceNotReady", NULL);
    assert_non_null(strstr(fl_json_str(condition(get(w), "Ready"), "message"), "Secret git"));
    assert_int_equal(begun(w), 0);
    make_secret(w, "git", "\"username\":\"u\",\"password\":\"geheim\"");
    run_for(w, 30 * MINUTE_MS);
    expect(w, "Ready", "True", "Built", NULL);
}

#define MODEL "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_a_model(void **state)
{
    struct world *w = *state;
    const char *asked;

    make(w, "\"target\":\"InferenceServer\",\"model\":{\"digest\":\"" MODEL "\"}");
    run_for(w, MINUTE_MS);
    expect(w, "Ready", "False", "SourceNotReady", "model: " MODEL " is not here");
    assert_int_equal(begun(w), 0);
    w->model_is_there = true;
    run_for(w, 30 * MINUTE_MS);
    expect(w, "Ready", "True", "Built", NULL);
    asked = fl_builder_fake_asked(w->fake, key_of(w, 1), w->arena);
    assert_true(fl_str_has_prefix(asked, "own.test:5000/default/inference-server "));
    assert_true(fl_str_has_suffix(asked, ", /content/" MODEL));
}

static void test_files_of_the_machine(void **state)
{
    static const struct {
        const char *ns, *url;
        bool allowed;
    } rows[] = {
        {"default", "file:///srv/repo", false},
        {"team", "file:///srv/repo", false},
        {"flops-system", "file:///srv/repo", true},
        {"team", "https://git.test/file:///srv", true},
    };
    struct world *w = *state;

    make_namespace(w, "team");
    make_namespace(w, "flops-system");
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        const char *name = fl_arena_printf(w->arena, "b%zu", i);
        size_t before = begun(w);

        make_in(w, rows[i].ns, name,
                fl_arena_printf(w->arena, "\"source\":{\"url\":\"%s\",\"commit\":\"" COMMIT "\"}",
                                rows[i].url));
        run_for(w, MINUTE_MS);
        if (rows[i].allowed)
            expect_in(w, get_in(w, rows[i].ns, name), "Ready", "True", "Built", NULL);
        else
            expect_in(w, get_in(w, rows[i].ns, name), "SourceReady", "False", "SourceNotReady",
                      "file:///srv/repo is on the control plane's machine, which is for "
                      "ImageBuilds of namespace flops-system only");
        assert_int_equal(begun(w) - before, rows[i].allowed);
    }
}

static void test_names_of_repositories(void **state)
{
    static const char *const rows[][2] = {
        {"https://git.test/team/scikit-mnist.git", "scikit-mnist"},
        {"https://git.test/team/Scikit_MNIST/", "scikit-mnist"},
        {"git@git.test:repo.git", "repo"},
        {"https://git.test/.git", "image"},
        {"https://git.test/---", "image"},
        {"https://git.test/\xc3\xa4\xc3\xa4.git", "image"},
        {"https://git.test/a//", "a"},
        {"file:///srv/my repo", "my-repo"},
        {"https://git.test/--a--b--.git", "a--b"},
        {".git", "git"},
        {"", "image"},
    };
    struct world *w = *state;

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++)
        assert_string_equal(fl_imagebuild_name_of(w->arena, rows[i][0]), rows[i][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_a_commit_becomes_an_image),
        TEST(test_what_is_built_stays),
        TEST(test_what_passes_is_tried_again),
        TEST(test_attempts_have_a_limit),
        TEST(test_no_retries),
        TEST(test_a_restart_is_no_retry),
        TEST(test_what_ends_it_at_once),
        TEST(test_the_deadline_is_the_objects),
        TEST(test_builds_take_turns),
        TEST(test_suspending),
        TEST(test_deletion),
        TEST(test_a_restart_in_the_middle),
        TEST(test_a_crash_at_each_write),
        TEST(test_suspended_when_status_was_lost),
        TEST(test_names),
        TEST(test_names_that_are_refused),
        TEST(test_a_registrys_secret),
        TEST(test_a_secret_that_goes_meanwhile),
        TEST(test_a_registry_that_is_away),
        TEST(test_a_private_repository),
        TEST(test_a_model),
        TEST(test_files_of_the_machine),
        TEST(test_names_of_repositories),
#undef TEST
    };

    json_object_seed(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
