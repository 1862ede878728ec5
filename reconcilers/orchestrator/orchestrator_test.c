/* The Orchestrator kind on a real API server, with the fake orchestrator. */
#include "reconcilers/workload/workload_testing.h"

#define LOCAL ORCHESTRATORS "/local"

static const char *text_of(struct rig *rig, const char *target, const char *path)
{
    return fl_str_or(fl_json_str(rig_get(rig, target), path), "");
}

static size_t count(struct rig *rig, const char *target)
{
    return json_array_size(json_object_get(rig_get(rig, target), "items"));
}

static void shows_what_there_is(void **state)
{
    struct rig *rig = *state;
    struct fl_string_pair label = {"site", "x"};
    const char *tags[] = {"mnist"};

    fl_fake_world_put_node(
        rig->world, &(struct fl_node){.cluster = "d",
                                      .name = "b",
                                      .labels = {&label, 1},
                                      .data_tags = {tags, 1},
                                      .runs_images = true,
                                      .message = "asleep",
                                      .capacity = {.cpu_milli = 500, .memory_bytes = 1 << 20}});
    rig_run_for(rig, 1000);
    assert_ready(rig, LOCAL, "True Reachable");
    assert_string_equal(text_of(rig, LOCAL, "status.nodes.summary"), "1/2");
    assert_string_equal(text_of(rig, LOCAL, "status.capacity.cpu"), "4500m");
    assert_string_equal(text_of(rig, LOCAL, "status.capacity.memory"), "1Mi");
    assert_int_equal(fl_json_int(rig_get(rig, LOCAL), "status.clusters", 0), 2);
    assert_int_equal(count(rig, EDGENODES), 2);
    assert_int_equal(count(rig, EDGECLUSTERS), 2);
    assert_ready(rig, EDGENODES "/a", "True Ready");
    assert_ready(rig, EDGENODES "/b", "False NotReady");
    assert_ready(rig, EDGECLUSTERS "/d", "False NotReady");
    assert_string_equal(text_of(rig, EDGENODES "/b", "spec.cluster"), "d");
    assert_string_equal(text_of(rig, EDGENODES "/b", "metadata.labels.site"), "x");
    assert_string_equal(json_string_value(json_array_get(
                            fl_json_path(rig_get(rig, EDGECLUSTERS "/d"), "status.dataTags"), 0)),
                        "mnist");
}

static void follows_changes(void **state)
{
    struct rig *rig = *state;

    rig_put_node(rig, "c", "b");
    rig_run_for(rig, 1000);
    fl_fake_world_set_ready(rig->world, "b", false);
    (void)rig_settle(rig);
    assert_ready(rig, EDGENODES "/b", "False NotReady");
    assert_string_equal(text_of(rig, LOCAL, "status.nodes.summary"), "1/2");
    fl_fake_world_remove_node(rig->world, "b");
    (void)rig_settle(rig);
    assert_true(rig_is_gone(rig, EDGENODES "/b"));
    assert_string_equal(text_of(rig, LOCAL, "status.nodes.summary"), "1/1");
}

static void undoes_what_others_did(void **state)
{
    struct rig *rig = *state;

    struct fl_string_pair label = {"site", "x"};

    fl_fake_world_put_node(
        rig->world,
        &(struct fl_node){.cluster = "c", .name = "b", .labels = {&label, 1}, .ready = true});
    rig_run_for(rig, 1000);
    rig_delete(rig, EDGENODES "/a");
    (void)rig_patch(rig, EDGENODES "/b", "{metadata: {labels: {site: other}}}");
    (void)rig_patch(rig, EDGECLUSTERS "/c", "{metadata: {labels: {mine: 'yes'}}}");
    (void)rig_settle(rig);
    assert_ready(rig, EDGENODES "/a", "True Ready");
    assert_string_equal(text_of(rig, EDGENODES "/b", "metadata.labels.site"), "x");
    assert_string_equal(text_of(rig, EDGECLUSTERS "/c", "metadata.labels.mine"), "yes");
}

static void rests(void **state)
{
    struct rig *rig = *state;

    rig_run_for(rig, 1000);
    rig->calls = 0;
    for (int i = 0; i < 3; i++)
        fl_manager_enqueue(rig->manager, "orchestrator", NULL, "local");
    assert_int_equal(rig_settle(rig), 1);
    assert_int_equal(rig->calls, 0);
    rig_restart(rig);
    (void)rig_settle(rig);
    assert_int_equal(rig->calls, 0);
}

static void counts_what_runs(void **state)
{
    struct rig *rig = *state;

    rig_run_for(rig, 10000);
    (void)rig_workload(rig, "instances: 2, resources: {cpu: 500m}");
    rig_run_for(rig, 10000);
    assert_int_equal(fl_json_int(rig_get(rig, LOCAL), "status.workloads", 0), 1);
    assert_int_equal(fl_json_int(rig_get(rig, EDGENODES "/a"), "status.workloads", 0), 2);
    assert_string_equal(text_of(rig, EDGENODES "/a", "status.available.cpu"), "3");
    assert_string_equal(text_of(rig, LOCAL, "status.available.cpu"), "3");
}

/* Not each of many changes: what only counts can wait for the next few seconds. */
static void counts_are_not_written_each_time(void **state)
{
    struct rig *rig = *state;
    const char *revision = "";
    int changes = 0;

    (void)rig_workload(rig, "");
    rig_run_for(rig, 10000);
    for (int i = 0; i < 20; i++) {
        const char *now;

        (void)rig_patch_spec(rig, fl_arena_printf(rig->arena, "instances: %d", i % 5 + 2));
        fl_manager_enqueue(rig->manager, "orchestrator", NULL, "local");
        rig_run_for(rig, 200);
        now = text_of(rig, EDGENODES "/a", "metadata.resourceVersion");
        changes += !fl_streq(now, revision);
        revision = now;
    }
    assert_true(changes <= 3);
}

static void local_comes_back(void **state)
{
    struct rig *rig = *state;
    const char *before;

    (void)rig_workload(rig, "");
    rig_run_for(rig, 1000);
    before = text_of(rig, LOCAL, "metadata.uid");
    rig_delete(rig, LOCAL);
    rig_run_for(rig, 1000);
    assert_string_not_equal(text_of(rig, LOCAL, "metadata.uid"), before);
    assert_ready(rig, LOCAL, "True Reachable");
    assert_ready(rig, WORKLOADS "/w", "True Running");
    assert_int_equal(rig->starts, 1); /* what ran went on */
    assert_ready(rig, EDGENODES "/a", "True Ready");
    assert_string_equal(
        fl_json_str(json_array_get(
                        fl_json_path(rig_get(rig, EDGENODES "/a"), "metadata.ownerReferences"), 0),
                    "uid"),
        text_of(rig, LOCAL, "metadata.uid"));
}

static const char other[] = "{apiVersion: flops.dev/v1alpha1, kind: Orchestrator, metadata: {name: "
                            "other}, spec: {type: Kubernetes}}";

static void another_waits_for_its_workloads(void **state)
{
    struct rig *rig = *state;
    struct fl_fake_world *world = fl_fake_world_create(&rig->plane->env);

    fl_fake_world_put_node(
        world,
        &(struct fl_node){.cluster = "k", .name = "k1", .ready = true, .runs_processes = true});
    fl_orchestrators_register(rig->orchestrators, "Kubernetes", fl_fake_orchestrator_make, world);
    (void)rig_create(rig, ORCHESTRATORS, other);
    (void)rig_workload(rig, "orchestrator: other");
    rig_run_for(rig, 1000);
    assert_int_equal(fl_fake_world_count(world, NULL).living, 1);
    rig_delete(rig, ORCHESTRATORS "/other");
    rig_run_for(rig, 60000);
    assert_ready(rig, ORCHESTRATORS "/other", "False Deleting");
    assert_int_equal(fl_fake_world_count(world, NULL).living, 1);
    rig_delete(rig, WORKLOADS "/w");
    for (int i = 0; i < 10; i++) { /* nobody but us asks this world what is next */
        rig_run_for(rig, 1000);
        (void)fl_fake_world_step(world);
    }
    rig_run_for(rig, 60000);
    assert_true(rig_is_gone(rig, WORKLOADS "/w"));
    assert_true(rig_is_gone(rig, ORCHESTRATORS "/other"));
    assert_int_equal(fl_fake_world_count(world, NULL).ended, 0);
    rig_restart(rig);
    fl_fake_world_destroy(world);
}

static void a_type_without_driver_is_told(void **state)
{
    struct rig *rig = *state;

    (void)rig_create(rig, ORCHESTRATORS, other);
    rig_run_for(rig, 1000);
    assert_ready(rig, ORCHESTRATORS "/other", "False Unreachable");
    assert_string_equal(rig_condition(rig, ORCHESTRATORS "/other", "Stalled"), "True Unreachable");
    rig_delete(rig, ORCHESTRATORS "/other");
    rig_run_for(rig, 1000);
    assert_true(rig_is_gone(rig, ORCHESTRATORS "/other"));
}

static void suspended_starts_nothing_new(void **state)
{
    struct rig *rig = *state;

    (void)rig_workload(rig, "");
    rig_run_for(rig, 1000);
    (void)rig_patch(rig, LOCAL, "{spec: {suspend: true}}");
    rig_run_for(rig, 1000);
    assert_ready(rig, LOCAL, "False Suspended");
    assert_ready(rig, WORKLOADS "/w", "True Running");
    (void)rig_patch_spec(rig, "instances: 2");
    rig_run_for(rig, 1000);
    assert_ready(rig, WORKLOADS "/w", "False NoPlace");
    assert_int_equal(rig_living(rig), 1);
    (void)rig_patch(rig, LOCAL, "{spec: {suspend: false}}");
    rig_run_for(rig, 1000);
    assert_ready(rig, WORKLOADS "/w", "True Running");
}

static void gives_defaults(void **state)
{
    struct rig *rig = *state;

    (void)rig_patch(rig, LOCAL, "{spec: {defaults: {resources: {cpu: 3}}}}");
    (void)rig_workload(rig, "instances: 2");
    rig_run_for(rig, 1000);
    assert_ready(rig, WORKLOADS "/w", "False NoPlace");
    assert_int_equal(rig_living(rig), 1);
}

/* Orphans. */

static void begin_orphan(struct rig *rig, const char *uid)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_orchestrator_driver *driver = fl_orchestrators_get(rig->orchestrators, "local");
    struct fl_workload *workload = fl_workload_new(arena);
    struct fl_error err;

    assert_int_equal(driver->ops->start(driver,
                                        &(struct fl_run_spec){.id = {uid, 0},
                                                              .number = 1,
                                                              .spec_hash = "h",
                                                              .ns = "default",
                                                              .name = "ghost",
                                                              .cluster = "c",
                                                              .node = "a",
                                                              .spec = &workload->spec},
                                        &err),
                     0);
    fl_orchestrators_put(rig->orchestrators, driver);
}

static void removes_orphans(void **state)
{
    struct rig *rig = *state;

    (void)rig_workload(rig, "");
    rig_run_for(rig, 1000);
    begin_orphan(rig, "nobody");
    rig_restart(rig); /* looked for at the start */
    rig_run_for(rig, 30000);
    assert_int_equal(fl_fake_world_count(rig->world, "nobody").living, 0);
    assert_int_equal(rig_left(rig), 1);
    begin_orphan(rig, "nobody");
    rig_run_for(rig, 700000); /* and now and then */
    assert_int_equal(rig_left(rig), 1);
    assert_ready(rig, WORKLOADS "/w", "True Running");
}

static enum fl_client_fate drop_workloads(void *user, const struct fl_gvr *gvr,
                                          const struct fl_event *event)
{
    (void)user;
    (void)event;
    return strcmp(gvr->plural, "workloads") == 0 ? FL_CLIENT_DROP : FL_CLIENT_PASS;
}

/* A cache that missed a Workload does not cost it its instances. */
static void believes_no_cache(void **state)
{
    struct rig *rig = *state;
    const char *uid;

    rig_run_for(rig, 1000);
    rig->faults.event = drop_workloads;
    uid = rig_workload(rig, "");
    begin_orphan(rig, uid);
    fl_manager_enqueue(rig->manager, "orchestrator", NULL, "local");
    rig_run_for(rig, 60000);
    assert_int_equal(fl_fake_world_count(rig->world, uid).living, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    static const struct CMUnitTest tests[] = {
        TEST(shows_what_there_is),
        TEST(follows_changes),
        TEST(undoes_what_others_did),
        TEST(rests),
        TEST(counts_what_runs),
        TEST(counts_are_not_written_each_time),
        TEST(local_comes_back),
        TEST(another_waits_for_its_workloads),
        TEST(a_type_without_driver_is_told),
        TEST(suspended_starts_nothing_new),
        TEST(gives_defaults),
        TEST(removes_orphans),
        TEST(believes_no_cache),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
