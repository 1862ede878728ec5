/* GitSyncs on a real API server over a memory store and a source by script; the test steps, in
 * virtual time. What a user would see is what is asserted. */
#include "reconcilers/gitsync/gitsync.h"

#include "api/gen/crds_embedded.h"
#include "controller/client/client_testing.h"
#include "controller/source/manifests.h"
#include "controller/source/source_fake.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

#define URL       "https://git.test/repo"
#define MINUTE_MS 60000

struct world {
    struct fl_plane *plane;
    struct fl_client_faults faults;
    struct fl_apiclient *client; /* of the manager; may fail */
    struct fl_arena *arena;
    struct fl_source_fake *remote;
    struct fl_gitsyncs *syncs;
    struct fl_manager *manager;
    struct fl_gitsync_options options;
    int writes; /* asked for by the manager's process */
    int fail_at, fail_code, uses;
    bool fail_after;
};

static const struct fl_gvr gitsyncs = {"flops.dev", "v1alpha1", "gitsyncs", true};

/* The process: what a crash takes away */

static void start(struct world *w)
{
    struct fl_error err = {0};
    struct fl_manager_options options = {.env = &w->plane->env, .client = w->client};

    w->syncs = fl_gitsyncs_create(&w->options);
    if (fl_manager_create(&options, &w->manager, &err) < 0)
        fail_msg("%s", err.msg);
    fl_source_fake_on_change(w->remote, fl_gitsync_source_changed, w->syncs);
    fl_gitsyncs_attach(w->syncs, w->manager, fl_source_fake_source(w->remote));
    if (fl_manager_add(w->manager, &fl_gitsync_ops, w->syncs, &err) < 0)
        fail_msg("%s", err.msg);
}

static void crash(struct world *w)
{
    fl_manager_destroy(FL_TAKE(w->manager));
    fl_source_fake_crash(w->remote);
    fl_gitsyncs_destroy(FL_TAKE(w->syncs));
    w->faults.crashed = false;
    start(w);
}

static bool is_write(const struct fl_api_call *call)
{
    return strcmp(call->method, "GET") != 0;
}

static int watch_calls(void *user, const struct fl_client_moment *moment)
{
    struct world *w = user;

    if (moment->use != FL_CLIENT_CALL)
        return 0;
    if (!moment->after && is_write(moment->call))
        w->writes++;
    if (moment->after == w->fail_after && w->fail_code && w->uses++ == w->fail_at)
        return w->fail_code;
    return 0;
}

static int setup(void **state)
{
    struct world *w = fl_calloc(1, sizeof(*w));
    const char *definitions[FL_EMBEDDED_CRD_COUNT];
    struct fl_error err = {0};

    for (size_t i = 0; i < FL_EMBEDDED_CRD_COUNT; i++)
        definitions[i] = fl_embedded_crds[i].json;
    if (fl_plane_create(&(struct fl_plane_options){.simulated = true,
                                                   .seed = 11,
                                                   .definitions = definitions,
                                                   .definition_count = FL_EMBEDDED_CRD_COUNT},
                        &w->plane, &err) < 0)
        fail_msg("%s", err.msg);
    w->faults = (struct fl_client_faults){.moment = watch_calls, .user = w};
    w->client = fl_apiclient_create_faulty(&w->plane->env, w->plane->client, &w->faults);
    w->arena = fl_arena_create();
    w->remote = fl_source_fake_create(&w->plane->env);
    start(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    fl_manager_destroy(w->manager);
    fl_source_fake_destroy(w->remote);
    fl_gitsyncs_destroy(w->syncs);
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
    done = fl_source_fake_step(w->remote) + fl_manager_pump(w->manager);
    while (fl_controller_process_next(fl_manager_controller(w->manager, 0)))
        done++;
    (void)fl_manager_write_events(w->manager);
    return done;
}

static void settle(struct world *w)
{
    for (int turns = 0; turn(w) > 0; turns++)
        if (turns > 500)
            fail_msg("it never settles");
}

static int64_t next_due_ms(struct world *w)
{
    int64_t manager = fl_manager_next_due_ms(w->manager);
    int64_t remote = fl_source_fake_next_due_ms(w->remote);

    return manager < remote ? manager : remote;
}

static void run_for(struct world *w, int64_t ms)
{
    int64_t end = fl_monotonic_ms(&w->plane->env) + ms;

    settle(w);
    for (;;) {
        int64_t now = fl_monotonic_ms(&w->plane->env), due = next_due_ms(w);

        if (now >= end)
            break;
        if (due > end)
            due = end;
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

static json_t *get_in(struct world *w, const struct fl_gvr *gvr, const char *ns, const char *name)
{
    json_t *object = NULL;

    if (fl_apiclient_get(w->plane->client, gvr, ns, name, &object, NULL) < 0)
        return NULL;
    return fl_json_in_arena(w->arena, object);
}

static void create_in(struct world *w, const struct fl_gvr *gvr, const char *ns, const char *text)
{
    struct fl_error err = {0};

    if (fl_apiclient_create_object(w->plane->client, gvr, ns, parse(w, text), NULL, &err) < 0)
        fail_msg("%s", err.msg);
}

static void patch_in(struct world *w, const struct fl_gvr *gvr, const char *ns, const char *name,
                     const char *text)
{
    struct fl_error err = {0};

    if (fl_apiclient_patch(w->plane->client, gvr, ns, name, NULL, parse(w, text), NULL, &err) < 0)
        fail_msg("%s", err.msg);
}

static void delete_in(struct world *w, const struct fl_gvr *gvr, const char *ns, const char *name)
{
    assert_int_equal(fl_apiclient_delete(w->plane->client, gvr, ns, name, NULL, NULL), 0);
}

static json_t *sync_of(struct world *w)
{
    return get_in(w, &gitsyncs, "default", "main");
}

static void make_sync_in(struct world *w, const char *ns, const char *more)
{
    create_in(w, &gitsyncs, ns,
              fl_arena_printf(w->arena,
                              "{\"apiVersion\":\"flops.dev/v1alpha1\",\"kind\":\"GitSync\","
                              "\"metadata\":{\"name\":\"main\"},\"spec\":{\"url\":\"" URL "\"%s}}",
                              more));
}

static void make_sync(struct world *w, const char *more)
{
    make_sync_in(w, "default", more);
}

static const char *map_value(struct world *w, const char *name)
{
    return fl_json_str(get_in(w, &fl_gvr_configmaps, "default", name), "data.key");
}

static void make_namespace(struct world *w, const char *name)
{
    create_in(
        w, &fl_gvr_namespaces, NULL,
        fl_arena_printf(w->arena,
                        "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":"
                        "\"%s\"}}",
                        name));
}

#define CM(name, value)                                                                            \
    "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: " name "}, data: {key: '" value "'}}" \
    "\n"

static const char *commit(struct world *w, const char *text)
{
    const struct fl_source_fake_file files[] = {{"a.yaml", text}, {NULL, NULL}};

    return fl_source_fake_commit(w->remote, URL, NULL, files);
}

/* The annotation that asks at once. */
static void ask(struct world *w, const char *value)
{
    patch_in(w, &gitsyncs, "default", "main",
             fl_arena_printf(w->arena,
                             "{\"metadata\":{\"annotations\":{\"flops.dev/reconcile\":\"%s\"}}}",
                             value));
    settle(w);
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

static void expect_condition_of(struct world *w, const json_t *object, const char *type,
                                const char *status, const char *reason, const char *words)
{
    const json_t *found = condition(object, type);

    if (!found || !fl_streq(fl_json_str(found, "status"), status) ||
        !fl_streq(fl_json_str(found, "reason"), reason) ||
        !strstr(fl_str_or(fl_json_str(found, "message"), ""), words))
        fail_msg("%s is not %s, %s, \"%s\": %s", type, status, reason, words,
                 fl_json_to_string(w->arena, fl_json_path(object, "status")));
}

static void expect_condition(struct world *w, const char *type, const char *status,
                             const char *reason, const char *words)
{
    expect_condition_of(w, sync_of(w), type, status, reason, words);
}

static void expect_ready(struct world *w)
{
    expect_condition(w, "Ready", "True", "Applied", "is live");
}

static void expect_status(struct world *w, const char *path, const char *value)
{
    const char *found = fl_json_str(sync_of(w), fl_arena_printf(w->arena, "status.%s", path));

    if (!fl_streq(found, value))
        fail_msg("%s is %s instead of %s", path, fl_str_or(found, "nothing"),
                 fl_str_or(value, "nothing"));
}

static int64_t status_number(struct world *w, const char *path)
{
    return fl_json_int(sync_of(w), fl_arena_printf(w->arena, "status.%s", path), -1);
}

static size_t inventory_size(struct world *w)
{
    return json_array_size(fl_json_path(sync_of(w), "status.inventory"));
}

static const char *live_of(struct world *w, const char *commit)
{
    return fl_arena_printf(w->arena, "main@%s", commit);
}

/* Tests */

static void test_follows_commits(void **state)
{
    struct world *w = *state;
    const char *first = commit(w, CM("a", "1") CM("b", "1")), *second;

    make_sync(w, "");
    settle(w);
    expect_ready(w);
    assert_string_equal(map_value(w, "a"), "1");
    expect_status(w, "lastAppliedRevision", live_of(w, first));
    expect_status(w, "lastAttemptedRevision", live_of(w, first));
    expect_status(w, "objects.summary", "2/2");
    assert_int_equal(status_number(w, "objects.created"), 2);
    assert_int_equal(status_number(w, "failures"), 0);
    assert_int_equal(inventory_size(w), 2);
    assert_null(condition(sync_of(w), "Verified"));

    second = commit(w, CM("a", "2") CM("c", "1"));
    run_for(w, 2 * MINUTE_MS);
    expect_ready(w);
    expect_status(w, "lastAppliedRevision", live_of(w, second));
    assert_string_equal(map_value(w, "a"), "2");
    assert_string_equal(map_value(w, "c"), "1");
    assert_null(map_value(w, "b"));
    assert_int_equal(inventory_size(w), 2);

    (void)fl_source_fake_commit(w->remote, URL, first, NULL); /* the branch is forced back */
    run_for(w, 2 * MINUTE_MS);
    expect_status(w, "lastAppliedRevision", live_of(w, first));
    assert_string_equal(map_value(w, "a"), "1");
    assert_string_equal(map_value(w, "b"), "1");
    assert_null(map_value(w, "c"));
}

static void test_quiet_writes_nothing(void **state)
{
    struct world *w = *state;
    size_t fetches;

    (void)commit(w, CM("a", "1") CM("b", "1"));
    make_sync(w, "");
    run_for(w, 3 * MINUTE_MS);
    expect_ready(w);
    w->writes = 0;
    fetches = fl_source_fake_fetches(w->remote);
    run_for(w, 60 * MINUTE_MS);
    assert_true(fl_source_fake_fetches(w->remote) - fetches >= 50);
    assert_true(fl_source_fake_fetches(w->remote) - fetches <= 60);
    assert_int_equal(w->writes, 0);
    expect_ready(w);
}

static void test_drift_is_corrected_by_and_by(void **state)
{
    struct world *w = *state;

    (void)commit(w, CM("a", "1") CM("b", "1"));
    make_sync(w, ",\"force\":true");
    settle(w);
    patch_in(w, &fl_gvr_configmaps, "default", "a", "{\"data\":{\"key\":\"drifted\"}}");
    delete_in(w, &fl_gvr_configmaps, "default", "b");
    run_for(w, 2 * MINUTE_MS);
    assert_string_equal(map_value(w, "a"), "1");
    assert_string_equal(map_value(w, "b"), "1");
    expect_ready(w);

    /* Also while the remote cannot be reached. */
    fl_source_fake_reach(w->remote, URL, false);
    run_for(w, 30 * MINUTE_MS);
    delete_in(w, &fl_gvr_configmaps, "default", "b");
    run_for(w, 2 * MINUTE_MS);
    assert_string_equal(map_value(w, "b"), "1");
    expect_condition(w, "Ready", "False", "FetchFailed", "cannot be reached");
}

/* The last good snapshot outlives the process, and is kept right. */
static void test_drift_is_corrected_after_a_restart(void **state)
{
    struct world *w = *state;

    (void)commit(w, CM("a", "1"));
    make_sync(w, "");
    settle(w);
    fl_source_fake_reach(w->remote, URL, false);
    delete_in(w, &fl_gvr_configmaps, "default", "a");
    crash(w);
    run_for(w, 2 * MINUTE_MS);
    assert_string_equal(map_value(w, "a"), "1");
    expect_condition(w, "Ready", "False", "FetchFailed", "cannot be reached");
    expect_condition(w, "Applied", "True", "Applied", "");
}

static void test_annotation_asks_at_once(void **state)
{
    struct world *w = *state;
    const char *second;

    (void)commit(w, CM("a", "1"));
    make_sync(w, ",\"interval\":\"10h\"");
    settle(w);
    second = commit(w, CM("a", "2"));
    settle(w);
    assert_string_equal(map_value(w, "a"), "1");
    ask(w, "now");
    assert_string_equal(map_value(w, "a"), "2");
    expect_status(w, "lastAppliedRevision", live_of(w, second));
    expect_status(w, "lastHandledReconcileAt", "now");

    /* One that comes while a fetch is under way is about a later one. */
    fl_source_fake_slow(w->remote, URL, 5000);
    ask(w, "again");
    ask(w, "and again");
    (void)commit(w, CM("a", "3"));
    run_for(w, 5001);
    expect_status(w, "lastHandledReconcileAt", "again");
    run_for(w, 5001);
    expect_status(w, "lastHandledReconcileAt", "and again");
    assert_string_equal(map_value(w, "a"), "3");
}

static void test_a_changed_spec_is_followed_at_once(void **state)
{
    struct world *w = *state;
    const struct fl_source_fake_file files[] = {
        {"one/a.yaml", CM("a", "1")}, {"two/b.yaml", CM("b", "1")}, {NULL, NULL}};

    (void)fl_source_fake_commit(w->remote, URL, NULL, files);
    make_sync(w, ",\"path\":\"one\",\"interval\":\"10h\"");
    settle(w);
    assert_string_equal(map_value(w, "a"), "1");
    patch_in(w, &gitsyncs, "default", "main", "{\"spec\":{\"path\":\"two\"}}");
    settle(w);
    assert_null(map_value(w, "a"));
    assert_string_equal(map_value(w, "b"), "1");
    expect_ready(w);
}

static void test_unreachable_remote_backs_off(void **state)
{
    struct world *w = *state;
    size_t fetches;

    (void)commit(w, CM("a", "1"));
    make_sync(w, ",\"retryInterval\":\"1s\"");
    settle(w);
    fl_source_fake_reach(w->remote, URL, false);
    run_for(w, 70000);
    expect_condition(w, "Ready", "False", "FetchFailed", "cannot be reached");
    expect_condition(w, "Fetched", "False", "FetchFailed", "cannot be reached");
    assert_string_equal(map_value(w, "a"), "1");
    assert_non_null(fl_json_str(sync_of(w), "status.nextAttemptTime"));
    run_for(w, 60 * MINUTE_MS);
    assert_true(status_number(w, "failures") >= 10);
    fetches = fl_source_fake_fetches(w->remote);
    run_for(w, 100 * MINUTE_MS);
    assert_int_equal(fl_source_fake_fetches(w->remote) - fetches, 10); /* at most ten minutes */

    fl_source_fake_reach(w->remote, URL, true);
    run_for(w, 11 * MINUTE_MS);
    expect_ready(w);
    expect_status(w, "nextAttemptTime", NULL);
    assert_int_equal(status_number(w, "failures"), 0);
}

static void test_a_remote_that_hangs_ends_at_its_deadline(void **state)
{
    struct world *w = *state;

    (void)commit(w, CM("a", "1"));
    fl_source_fake_slow(w->remote, URL, 100 * MINUTE_MS);
    make_sync(w, ",\"timeout\":\"30s\"");
    settle(w);
    expect_condition(w, "Ready", "False", "Fetching", URL);
    run_for(w, 30001);
    expect_condition(w, "Ready", "False", "FetchFailed", "cannot be reached");
}

static void test_unsigned_heads_are_not_applied(void **state)
{
    static const char key[] =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA good";
    struct world *w = *state;
    const char *good = commit(w, CM("a", "1")), *bad;

    fl_source_fake_sign(w->remote, URL, key);
    make_sync(w, fl_arena_printf(w->arena,
                                 ",\"verify\":{\"allowedSigners\":[\"%s\"]},\"force\":true", key));
    settle(w);
    expect_ready(w);
    expect_condition(w, "Verified", "True", "Signed", "good");
    expect_status(w, "signer", key);

    bad = commit(w, CM("a", "forged"));
    run_for(w, 2 * MINUTE_MS);
    expect_condition(w, "Ready", "False", "NotSigned", "is not signed");
    expect_condition(w, "Verified", "False", "NotSigned", "is not signed");
    expect_condition(w, "Fetched", "True", "Fetched", bad);
    expect_status(w, "lastAppliedRevision", live_of(w, good));
    expect_status(w, "lastAttemptedRevision", live_of(w, bad));
    patch_in(w, &fl_gvr_configmaps, "default", "a", "{\"data\":{\"key\":\"drifted\"}}");
    run_for(w, 2 * MINUTE_MS);
    assert_string_equal(map_value(w, "a"), "1");

    fl_source_fake_sign(w->remote, URL, key);
    run_for(w, 20 * MINUTE_MS);
    expect_ready(w);
    assert_string_equal(map_value(w, "a"), "forged");
}

static void test_a_broken_file_applies_the_rest(void **state)
{
    struct world *w = *state;
    const char *good = commit(w, CM("a", "1") CM("b", "1"));
    const json_t *fault;

    make_sync(w, "");
    settle(w);
    (void)commit(w, CM("a", "2") "---\nkind: [\n");
    run_for(w, 2 * MINUTE_MS);
    expect_condition(w, "Ready", "False", "ApplyFailed", "a.yaml, line 5: line 5");
    fault = json_array_get(fl_json_path(sync_of(w), "status.errors"), 0);
    assert_string_equal(fl_json_str(fault, "file"), "a.yaml");
    assert_int_equal(fl_json_int(fault, "line", 0), 5);
    assert_string_equal(map_value(w, "a"), "2");
    assert_string_equal(map_value(w, "b"), "1");
    expect_status(w, "lastAppliedRevision", live_of(w, good));
    assert_int_equal(inventory_size(w), 2);

    (void)commit(w, CM("a", "2"));
    run_for(w, 10 * MINUTE_MS);
    expect_ready(w);
    assert_null(map_value(w, "b"));
    assert_null(fl_json_path(sync_of(w), "status.errors"));
}

/* A name in a repository must not write lines of its own into what people read. */
static void test_names_of_files_are_shown_harmless(void **state)
{
    static const struct fl_source_fake_file files[] = {{"a\n\033[2J\xff.yaml", "kind: ["},
                                                       {NULL, NULL}};
    struct world *w = *state;

    (void)fl_source_fake_commit(w->remote, URL, NULL, files);
    make_sync(w, "");
    settle(w);
    expect_condition(w, "Ready", "False", "ApplyFailed", "a  [2J?.yaml, line 2: ");
    assert_string_equal(
        fl_json_str(json_array_get(fl_json_path(sync_of(w), "status.errors"), 0), "file"),
        "a  [2J?.yaml");
}

/* One that is about to go, held by somebody else, needs the namespace's rights no more. */
static void test_rights_go_with_the_last_that_stays(void **state)
{
    struct world *w = *state;

    (void)commit(w, CM("a", "1"));
    make_sync(w, "");
    create_in(w, &gitsyncs, "default",
              "{\"apiVersion\":\"flops.dev/v1alpha1\",\"kind\":\"GitSync\",\"metadata\":{\"name\":"
              "\"second\",\"finalizers\":[\"test.dev/hold\"]},\"spec\":{\"url\":\"" URL "\"}}");
    settle(w);
    delete_in(w, &gitsyncs, "default", "second");
    settle(w);
    assert_non_null(get_in(w, &gitsyncs, "default", "second"));
    assert_non_null(get_in(w, &fl_gvr_rolebindings, "default", FL_GITSYNC_ROLE_BINDING));
    delete_in(w, &gitsyncs, "default", "main");
    run_for(w, MINUTE_MS);
    assert_null(sync_of(w));
    assert_null(map_value(w, "a"));
    assert_null(get_in(w, &fl_gvr_rolebindings, "default", FL_GITSYNC_ROLE_BINDING));
}

static void test_apply_nothing_keeps_the_last_good_one(void **state)
{
    struct world *w = *state;
    const char *good = commit(w, CM("a", "1") CM("b", "1"));

    make_sync(w, ",\"onError\":\"ApplyNothing\",\"force\":true");
    settle(w);
    (void)commit(w, CM("a", "2") CM("c", "1") "---\nkind: [\n");
    run_for(w, 2 * MINUTE_MS);
    expect_condition(w, "Ready", "False", "ApplyFailed", "nothing was applied");
    expect_status(w, "lastAppliedRevision", live_of(w, good));
    assert_string_equal(map_value(w, "a"), "1");
    assert_string_equal(map_value(w, "b"), "1");
    assert_null(map_value(w, "c"));
    assert_int_equal(inventory_size(w), 2); /* a refused one leaves no trace */

    patch_in(w, &fl_gvr_configmaps, "default", "a", "{\"data\":{\"key\":\"drifted\"}}");
    delete_in(w, &fl_gvr_configmaps, "default", "b");
    run_for(w, 2 * MINUTE_MS);
    assert_string_equal(map_value(w, "a"), "1");
    assert_string_equal(map_value(w, "b"), "1");

    (void)commit(w, CM("a", "3"));
    run_for(w, 20 * MINUTE_MS);
    expect_ready(w);
    assert_string_equal(map_value(w, "a"), "3");
    assert_null(map_value(w, "b"));
}

static void test_suspend_and_resume(void **state)
{
    struct world *w = *state;
    size_t fetches;

    (void)commit(w, CM("a", "1"));
    make_sync(w, "");
    settle(w);
    patch_in(w, &gitsyncs, "default", "main", "{\"spec\":{\"suspend\":true}}");
    settle(w);
    expect_condition(w, "Ready", "False", "Suspended", "");
    (void)commit(w, CM("a", "2"));
    fetches = fl_source_fake_fetches(w->remote);
    run_for(w, 20 * MINUTE_MS);
    assert_int_equal(fl_source_fake_fetches(w->remote), fetches);
    assert_string_equal(map_value(w, "a"), "1");
    patch_in(w, &gitsyncs, "default", "main", "{\"spec\":{\"suspend\":false}}");
    settle(w);
    expect_ready(w);
    assert_string_equal(map_value(w, "a"), "2");
}

static bool has_binding(struct world *w)
{
    return get_in(w, &fl_gvr_rolebindings, "default", FL_GITSYNC_ROLE_BINDING) != NULL;
}

static void test_deletion_prunes(void **state)
{
    struct world *w = *state;

    (void)commit(w, CM("a", "1") CM("b", "1"));
    make_sync(w, ",\"prune\":false");
    settle(w);
    patch_in(w, &fl_gvr_configmaps, "default", "b",
             "{\"metadata\":{\"annotations\":{\"flops.dev/prune\":\"disabled\"}}}");
    assert_true(has_binding(w));
    delete_in(w, &gitsyncs, "default", "main");
    settle(w);
    assert_null(sync_of(w));
    assert_null(map_value(w, "a"));
    assert_string_equal(map_value(w, "b"), "1");
    assert_false(has_binding(w));
    assert_int_equal(fl_source_fake_next_due_ms(w->remote), INT64_MAX);
}

static void test_deletion_can_leave_all_behind(void **state)
{
    struct world *w = *state;

    (void)commit(w, CM("a", "1"));
    make_sync(w, ",\"deletionPolicy\":\"Keep\"");
    settle(w);
    delete_in(w, &gitsyncs, "default", "main");
    settle(w);
    assert_null(sync_of(w));
    assert_string_equal(map_value(w, "a"), "1");

    make_sync(w, ""); /* another one may take them over */
    settle(w);
    expect_ready(w);
    delete_in(w, &gitsyncs, "default", "main");
    settle(w);
    assert_null(map_value(w, "a"));
}

/* Whose rights */

static void test_reaches_its_own_namespace_only(void **state)
{
    struct world *w = *state;

    make_namespace(w, "other");
    (void)commit(w, CM("a", "1") //
                 "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: other}}\n"
                 "---\n{apiVersion: v1, kind: Namespace, metadata: {name: mine}}\n"
                 "---\n{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: "
                 "{name: more}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, "
                 "name: cluster-admin}, subjects: [{kind: Group, apiGroup: "
                 "rbac.authorization.k8s.io, name: 'system:gitsyncs:default'}]}\n");
    make_sync(w, "");
    settle(w);
    expect_condition(w, "Ready", "False", "ApplyFailed",
                     "binding a role to user system:gitsync:default:main");
    assert_string_equal(map_value(w, "a"), "1");
    assert_null(get_in(w, &fl_gvr_configmaps, "other", "x"));
    assert_null(get_in(w, &fl_gvr_namespaces, NULL, "mine"));
    assert_null(get_in(w, &fl_gvr_rolebindings, "default", "more"));
    assert_int_equal(status_number(w, "objects.failed"), 3);

    /* An administrator allows one thing more. */
    create_in(w, &fl_gvr_rolebindings, "other",
              "{\"apiVersion\":\"rbac.authorization.k8s.io/v1\",\"kind\":\"RoleBinding\","
              "\"metadata\":{\"name\":\"sync\"},\"roleRef\":{\"apiGroup\":"
              "\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"edit\"},"
              "\"subjects\":[{\"kind\":\"User\",\"apiGroup\":\"rbac.authorization.k8s.io\","
              "\"name\":\"system:gitsync:default:main\"}]}");
    ask(w, "1");
    assert_non_null(get_in(w, &fl_gvr_configmaps, "other", "x"));
}

static void test_prunes_with_its_own_rights_and_says_what_is_left(void **state)
{
    struct world *w = *state;

    make_namespace(w, "other");
    create_in(w, &fl_gvr_rolebindings, "other",
              "{\"apiVersion\":\"rbac.authorization.k8s.io/v1\",\"kind\":\"RoleBinding\","
              "\"metadata\":{\"name\":\"sync\"},\"roleRef\":{\"apiGroup\":"
              "\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"edit\"},"
              "\"subjects\":[{\"kind\":\"Group\",\"apiGroup\":\"rbac.authorization.k8s.io\","
              "\"name\":\"system:gitsyncs:default\"}]}");
    (void)commit(w, CM("a", "1") //
                 "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: other}}\n");
    make_sync(w, "");
    settle(w);
    expect_ready(w);
    delete_in(w, &fl_gvr_rolebindings, "other", "sync");
    delete_in(w, &gitsyncs, "default", "main");
    settle(w);
    expect_condition(w, "Applied", "False", "PruneFailed", "ConfigMap/x");
    expect_condition(w, "Ready", "False", "Deleting", "deletionPolicy Keep");
    assert_null(map_value(w, "a"));
    assert_int_equal(inventory_size(w), 1);
    patch_in(w, &gitsyncs, "default", "main", "{\"spec\":{\"deletionPolicy\":\"Keep\"}}");
    settle(w);
    assert_null(sync_of(w));
    assert_non_null(get_in(w, &fl_gvr_configmaps, "other", "x"));
}

static void test_a_binding_that_is_there_is_left_alone(void **state)
{
    struct world *w = *state;

    create_in(w, &fl_gvr_rolebindings, "default",
              "{\"apiVersion\":\"rbac.authorization.k8s.io/v1\",\"kind\":\"RoleBinding\","
              "\"metadata\":{\"name\":\"flops-gitsync\"},\"roleRef\":{\"apiGroup\":"
              "\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"view\"},"
              "\"subjects\":[]}");
    (void)commit(w, CM("a", "1"));
    make_sync(w, "");
    settle(w);
    expect_condition(w, "Ready", "False", "ApplyFailed", "system:gitsync:default:main");
    assert_null(map_value(w, "a"));
    delete_in(w, &gitsyncs, "default", "main");
    settle(w);
    assert_null(sync_of(w));
    assert_true(has_binding(w));
}

static void test_system_namespace_is_trusted(void **state)
{
    struct world *w = *state;

    if (!get_in(w, &fl_gvr_namespaces, NULL, "flops-system"))
        make_namespace(w, "flops-system");
    (void)commit(w,
                 "{apiVersion: v1, kind: Namespace, metadata: {name: mine}}\n"
                 "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: mine}}\n");
    make_sync_in(w, "flops-system", "");
    settle(w);
    expect_condition_of(w, get_in(w, &gitsyncs, "flops-system", "main"), "Ready", "True", "Applied",
                        "");
    assert_non_null(get_in(w, &fl_gvr_configmaps, "mine", "a"));
    assert_null(get_in(w, &fl_gvr_rolebindings, "flops-system", FL_GITSYNC_ROLE_BINDING));
}

static void test_local_folders_are_not_for_everybody(void **state)
{
    static const char *const urls[] = {"file:///srv/repo.git", "dir:///srv/manifests"};
    struct world *w = *state;

    for (size_t i = 0; i < FL_COUNT_OF(urls); i++) {
        const struct fl_source_fake_file files[] = {{"a.yaml", CM("a", "1")}, {NULL, NULL}};

        (void)fl_source_fake_commit(w->remote, urls[i], NULL, files);
        make_sync(w, "");
        patch_in(w, &gitsyncs, "default", "main",
                 fl_arena_printf(w->arena, "{\"spec\":{\"url\":\"%s\"}}", urls[i]));
        settle(w);
        expect_condition(w, "Ready", "False", "FetchFailed", "control plane's machine");
        expect_condition(w, "Stalled", "True", "FetchFailed", "");
        assert_null(map_value(w, "a"));
        w->options.local_everywhere = true;
        crash(w);
        settle(w);
        assert_string_equal(map_value(w, "a"), "1");
        delete_in(w, &gitsyncs, "default", "main");
        settle(w);
        w->options.local_everywhere = false;
        crash(w);
    }
}

static void test_credentials_come_from_the_secret(void **state)
{
    struct world *w = *state;
    const char *uid;

    (void)commit(w, CM("a", "1"));
    make_sync(w, ",\"credentialsSecret\":{\"name\":\"git\"},\"retryInterval\":\"10h\","
                 "\"interval\":\"10h\",\"ref\":{\"branch\":\"dev\"}");
    settle(w);
    expect_condition(w, "Ready", "False", "FetchFailed", "credentialsSecret git");
    create_in(w, &fl_gvr_secrets, "default",
              "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"git\"},"
              "\"stringData\":{\"username\":\"me\",\"password\":\"hunter2\"}}");
    settle(w); /* at once: who uses them is told of credentials */
    expect_ready(w);
    uid = fl_json_str(sync_of(w), "metadata.uid");
    assert_string_equal(fl_source_fake_asked(w->remote, uid), URL " dev . me hunter2");
    patch_in(w, &fl_gvr_secrets, "default", "git", "{\"stringData\":{\"username\":\"you\"}}");
    settle(w);
    assert_string_equal(fl_source_fake_asked(w->remote, uid), URL " dev . you hunter2");
    assert_null(strstr(fl_json_to_string(w->arena, sync_of(w)), "hunter2"));
}

static void test_two_syncs_do_not_share_an_object(void **state)
{
    struct world *w = *state;
    const char *other;

    (void)commit(w, CM("a", "1"));
    make_sync(w, "");
    settle(w);
    create_in(w, &gitsyncs, "default",
              "{\"apiVersion\":\"flops.dev/v1alpha1\",\"kind\":\"GitSync\",\"metadata\":{\"name\":"
              "\"second\"},\"spec\":{\"url\":\"" URL "\",\"retryInterval\":\"1s\"}}");
    settle(w);
    other = fl_json_str(condition(get_in(w, &gitsyncs, "default", "second"), "Ready"), "message");
    assert_non_null(strstr(other, "is applied by GitSync default/main already"));
    expect_ready(w);
    delete_in(w, &gitsyncs, "default", "main");
    run_for(w, 5 * MINUTE_MS);
    expect_condition_of(w, get_in(w, &gitsyncs, "default", "second"), "Ready", "True", "Applied",
                        "");
    assert_string_equal(map_value(w, "a"), "1");
}

static void test_a_namespace_can_go(void **state)
{
    struct world *w = *state;

    make_namespace(w, "going");
    (void)commit(w, CM("a", "1"));
    make_sync_in(w, "going", "");
    settle(w);
    assert_non_null(get_in(w, &fl_gvr_configmaps, "going", "a"));
    delete_in(w, &fl_gvr_namespaces, NULL, "going");
    run_for(w, 10 * MINUTE_MS);
    assert_null(get_in(w, &gitsyncs, "going", "main"));
    assert_null(get_in(w, &fl_gvr_namespaces, NULL, "going"));
}

static void test_a_watched_folder_has_news(void **state)
{
    struct world *w = *state;

    (void)commit(w, CM("a", "1"));
    make_sync(w, ",\"interval\":\"10h\"");
    settle(w);
    (void)commit(w, CM("a", "2"));
    fl_source_fake_announce(w->remote, URL);
    settle(w);
    assert_string_equal(map_value(w, "a"), "2");
    expect_ready(w);
}

static void test_too_many_objects_are_refused(void **state)
{
    struct world *w = *state;
    struct fl_buf text;

    (void)commit(w, CM("a", "1"));
    make_sync(w, "");
    settle(w);
    fl_buf_init(&text, 0);
    for (int i = 0; i <= FL_MANIFESTS_MAX; i++)
        fl_buf_printf(&text, CM("m%d", "1"), i);
    (void)commit(w, text.data);
    fl_buf_finish(&text);
    run_for(w, 2 * MINUTE_MS);
    expect_condition(w, "Ready", "False", "ApplyFailed", "more than 5000 objects");
    assert_string_equal(map_value(w, "a"), "1");
    assert_null(map_value(w, "m0"));
}

static const char *many(struct world *w, const char *prefix, int count)
{
    struct fl_buf text;
    const char *copy;

    fl_buf_init(&text, 0);
    for (int i = 0; i < count; i++)
        fl_buf_printf(&text, "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: %s%d}}\n",
                      prefix, i);
    copy = fl_arena_strdup(w->arena, text.data);
    fl_buf_finish(&text);
    return copy;
}

/* A status has no room for what leaves and what comes together. */
static void test_makes_room_for_another_set(void **state)
{
    struct world *w = *state;

    (void)commit(w, many(w, "a", 3000));
    make_sync(w, ",\"timeout\":\"1h\"");
    settle(w);
    expect_ready(w);
    assert_int_equal(inventory_size(w), 3000);
    (void)commit(w, many(w, "b", 3000));
    run_for(w, 2 * MINUTE_MS);
    expect_ready(w);
    assert_int_equal(inventory_size(w), 3000);
    assert_null(get_in(w, &fl_gvr_configmaps, "default", "a7"));
    assert_non_null(get_in(w, &fl_gvr_configmaps, "default", "b7"));
}

/* Crashes and failures at every call. */

static void expect_end(struct world *w)
{
    run_for(w, 30 * MINUTE_MS);
    expect_ready(w);
    assert_string_equal(map_value(w, "a"), "2");
    assert_string_equal(map_value(w, "c"), "1");
    assert_null(map_value(w, "b"));
    delete_in(w, &gitsyncs, "default", "main");
    run_for(w, 30 * MINUTE_MS);
    assert_null(sync_of(w));
    assert_null(map_value(w, "a"));
    assert_null(map_value(w, "c"));
}

/* Returns whether the failure took place. What was applied must be in the inventory at any time. */
static bool live_through(struct world *w, int at, int code, bool after)
{
    bool met;

    w->fail_code = 0;
    (void)commit(w, CM("a", "1") CM("b", "1"));
    make_sync(w, "");
    settle(w);
    w->uses = 0;
    w->fail_at = at;
    w->fail_code = code;
    w->fail_after = after;
    (void)commit(w, CM("a", "2") CM("c", "1"));
    run_for(w, 2 * MINUTE_MS);
    met = w->uses > at;
    w->fail_code = 0;
    if (w->faults.crashed)
        crash(w);
    if (map_value(w, "c"))
        assert_true(inventory_size(w) >= 2);
    expect_end(w);
    return met;
}

static void test_survives_a_failure_at_each_call(void **state)
{
    static const int codes[] = {FL_CLIENT_CRASH, FL_E_UNAVAILABLE, FL_E_CONFLICT};
    struct world *w = *state;
    int places = 0;

    for (size_t i = 0; i < FL_COUNT_OF(codes); i++)
        for (int after = 0; after <= 1; after++)
            for (int at = 0; at < 60 && live_through(w, at, codes[i], after); at++)
                places++;
    assert_true(places > 60);
}

/* A crash in mid-apply, and then the commit is taken back: nothing stays behind. */
static bool crash_and_take_back(struct world *w, int at)
{
    const char *first = commit(w, CM("a", "1"));
    bool met;

    make_sync(w, "");
    settle(w);
    w->uses = 0;
    w->fail_at = at;
    w->fail_code = FL_CLIENT_CRASH;
    w->fail_after = true;
    (void)commit(w, CM("a", "2") CM("b", "1") CM("c", "1") CM("d", "1"));
    run_for(w, 2 * MINUTE_MS);
    met = w->uses > at;
    w->fail_code = 0;
    (void)fl_source_fake_commit(w->remote, URL, first, NULL);
    if (w->faults.crashed)
        crash(w);
    run_for(w, 30 * MINUTE_MS);
    assert_string_equal(map_value(w, "a"), "1");
    assert_null(map_value(w, "b"));
    assert_null(map_value(w, "c"));
    assert_null(map_value(w, "d"));
    delete_in(w, &gitsyncs, "default", "main");
    settle(w);
    assert_null(map_value(w, "a"));
    return met;
}

static void test_a_crash_leaves_nothing_that_nobody_knows(void **state)
{
    struct world *w = *state;
    int at = 0;

    while (at < 60 && crash_and_take_back(w, at))
        at++;
    assert_true(at > 10);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_follows_commits),
        T(test_quiet_writes_nothing),
        T(test_drift_is_corrected_by_and_by),
        T(test_drift_is_corrected_after_a_restart),
        T(test_annotation_asks_at_once),
        T(test_a_changed_spec_is_followed_at_once),
        T(test_unreachable_remote_backs_off),
        T(test_a_remote_that_hangs_ends_at_its_deadline),
        T(test_unsigned_heads_are_not_applied),
        T(test_a_broken_file_applies_the_rest),
        T(test_names_of_files_are_shown_harmless),
        T(test_rights_go_with_the_last_that_stays),
        T(test_apply_nothing_keeps_the_last_good_one),
        T(test_suspend_and_resume),
        T(test_deletion_prunes),
        T(test_deletion_can_leave_all_behind),
        T(test_reaches_its_own_namespace_only),
        T(test_prunes_with_its_own_rights_and_says_what_is_left),
        T(test_a_binding_that_is_there_is_left_alone),
        T(test_system_namespace_is_trusted),
        T(test_local_folders_are_not_for_everybody),
        T(test_credentials_come_from_the_secret),
        T(test_two_syncs_do_not_share_an_object),
        T(test_a_namespace_can_go),
        T(test_a_watched_folder_has_news),
        T(test_too_many_objects_are_refused),
        T(test_makes_room_for_another_set),
        T(test_survives_a_failure_at_each_call),
        T(test_a_crash_leaves_nothing_that_nobody_knows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
