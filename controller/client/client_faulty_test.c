/* The faulty client does what it was told to, and nothing else. */
#include "controller/client/client_testing.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

struct world {
    struct fl_plane *plane;
    struct fl_client_faults faults;
    struct fl_apiclient *client;
    struct fl_apiclient_watch *watch;
    int woken;
    /* the next fault: at this use and moment, once */
    enum fl_client_use use;
    bool after;
    int code, result;
    enum fl_client_fate fates[8];
    int fate_at;
};

static int fail_once(void *user, const struct fl_client_moment *moment)
{
    struct world *world = user;
    int code = world->code;

    if (moment->use != world->use || moment->after != world->after)
        return 0;
    world->code = 0;
    world->result = moment->result;
    return code;
}

static enum fl_client_fate next_fate(void *user, const struct fl_gvr *gvr,
                                     const struct fl_event *event)
{
    struct world *world = user;

    assert_string_equal(gvr->plural, "configmaps");
    assert_non_null(event->object);
    return world->fates[world->fate_at++];
}

static struct world *create_world(void)
{
    struct world *world = fl_calloc(1, sizeof(*world));
    struct fl_plane_options options = {.simulated = true};

    assert_int_equal(fl_plane_create(&options, &world->plane, NULL), 0);
    world->faults = (struct fl_client_faults){.moment = fail_once, .user = world};
    world->client =
        fl_apiclient_create_faulty(&world->plane->env, world->plane->client, &world->faults);
    return world;
}

static void destroy_world(struct world *world)
{
    fl_apiclient_watch_close(world->watch);
    fl_apiclient_destroy(world->client);
    fl_plane_destroy(world->plane);
    free(world);
}

static void plan(struct world *world, enum fl_client_use use, bool after, int code)
{
    world->use = use;
    world->after = after;
    world->code = code;
}

static int create(struct world *world, const char *name)
{
    FL_JSON map = json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "ConfigMap",
                            "metadata", "name", name);

    return fl_apiclient_create_object(world->client, &fl_gvr_configmaps, "default", map, NULL,
                                      NULL);
}

static bool exists(struct world *world, const char *name)
{
    return fl_apiclient_get(world->plane->client, &fl_gvr_configmaps, "default", name, NULL,
                            NULL) == 0;
}

static void test_a_call_fails_before_or_after_it_was_done(void **state)
{
    static const int codes[] = {FL_E_UNAVAILABLE, FL_E_TIMEOUT, FL_E_CONFLICT};
    struct world *world = create_world();
    char name[8];

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(codes); i++) {
        (void)snprintf(name, sizeof(name), "m%zu", i);
        plan(world, FL_CLIENT_CALL, false, codes[i]);
        assert_int_equal(create(world, name), codes[i]);
        assert_false(exists(world, name));
        plan(world, FL_CLIENT_CALL, true, codes[i]);
        assert_int_equal(create(world, name), codes[i]);
        assert_true(exists(world, name));
        assert_int_equal(world->result, 201);
    }
    assert_int_equal(create(world, "fine"), 0);
    destroy_world(world);
}

static void test_a_crash_lasts_until_it_is_cleared(void **state)
{
    struct world *world = create_world();
    struct fl_list list;
    uint64_t moments;

    (void)state;
    plan(world, FL_CLIENT_CALL, true, FL_CLIENT_CRASH);
    assert_int_equal(create(world, "a"), FL_CLIENT_CRASH);
    assert_true(world->faults.crashed);
    assert_true(exists(world, "a")); /* it was done */
    moments = world->faults.moments;
    assert_int_equal(create(world, "b"), FL_CLIENT_CRASH);
    assert_int_equal(
        fl_apiclient_list_objects(world->client, &fl_gvr_configmaps, NULL, &list, NULL),
        FL_CLIENT_CRASH);
    assert_false(exists(world, "b"));
    assert_true(world->faults.moments == moments);
    world->faults.crashed = false;
    assert_int_equal(create(world, "b"), 0);
    assert_true(world->faults.moments == moments + 2);
    destroy_world(world);
}

static void wake(void *user)
{
    ((struct world *)user)->woken++;
}

static uint64_t list(struct world *world, size_t count)
{
    struct fl_list list = {0};
    uint64_t revision;

    assert_int_equal(
        fl_apiclient_list_objects(world->client, &fl_gvr_configmaps, "default", &list, NULL), 0);
    assert_int_equal(list.count, count);
    revision = list.revision;
    fl_list_finish(&list);
    return revision;
}

static void watch(struct world *world, uint64_t revision)
{
    assert_int_equal(fl_apiclient_watch(world->client, &fl_gvr_configmaps, "default", revision,
                                        wake, world, &world->watch, NULL),
                     0);
}

/* Names of the events that come until there is none. */
static void expect_events(struct world *world, const char *names)
{
    struct fl_event event;
    char seen[64] = "";
    int r;

    while ((r = fl_apiclient_watch_next(world->watch, &event, NULL)) > 0)
        (void)snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%s", event.object->name);
    assert_int_equal(r, 0);
    assert_string_equal(seen, names);
}

static void test_a_stale_list_is_served_once_and_can_be_watched_from(void **state)
{
    struct world *world = create_world();
    uint64_t before, now;

    (void)state;
    plan(world, FL_CLIENT_LIST, false, FL_CLIENT_STALE);
    before = list(world, 0); /* there is no earlier one */
    assert_int_equal(create(world, "a"), 0);
    plan(world, FL_CLIENT_LIST, false, FL_CLIENT_STALE);
    assert_true(list(world, 0) == before);
    watch(world, before);
    expect_events(world, "a");
    now = list(world, 1);
    assert_true(now > before);
    destroy_world(world);
}

static void test_lists_and_watches_fail(void **state)
{
    struct world *world = create_world();
    struct fl_list none = {0};
    struct fl_event event;

    (void)state;
    for (int after = 0; after < 2; after++) {
        plan(world, FL_CLIENT_LIST, after, FL_E_UNAVAILABLE);
        assert_int_equal(
            fl_apiclient_list_objects(world->client, &fl_gvr_configmaps, NULL, &none, NULL),
            FL_E_UNAVAILABLE);
        plan(world, FL_CLIENT_WATCH, after, FL_E_EXPIRED);
        assert_int_equal(fl_apiclient_watch(world->client, &fl_gvr_configmaps, NULL, 1, wake, world,
                                            &world->watch, NULL),
                         FL_E_EXPIRED);
        assert_null(world->watch);
    }
    watch(world, list(world, 0));
    assert_int_equal(create(world, "a"), 0);
    plan(world, FL_CLIENT_WATCH_NEXT, true, FL_E_UNAVAILABLE);
    assert_int_equal(fl_apiclient_watch_next(world->watch, &event, NULL), FL_E_UNAVAILABLE);
    assert_int_equal(world->result, 1);
    expect_events(world, "a"); /* it comes again */
    destroy_world(world);
}

static void test_events_are_dropped_doubled_and_held(void **state)
{
    struct world *world = create_world();

    (void)state;
    world->faults.event = next_fate;
    watch(world, list(world, 0));
    expect_events(world, "");
    world->fates[0] = FL_CLIENT_DROP;
    world->fates[1] = FL_CLIENT_DOUBLE;
    world->fates[2] = FL_CLIENT_HOLD;
    world->fates[3] = FL_CLIENT_HOLD;
    for (const char *name = "abcd"; *name; name++)
        assert_int_equal(create(world, (char[]){*name, '\0'}), 0);
    assert_int_equal(world->woken, 1);
    expect_events(world, "bb"); /* c is held */
    assert_true(fl_client_faults_holding(world->client));
    expect_events(world, "");
    assert_int_equal(world->woken, 1);
    fl_client_faults_release(world->client);
    assert_int_equal(world->woken, 2);
    expect_events(world, "cd"); /* fates 4 and 5: pass */
    assert_false(fl_client_faults_holding(world->client));
    fl_client_faults_release(world->client);
    assert_int_equal(world->woken, 2);
    destroy_world(world);
}

/* What may be found by counting: without a fault, the same run has the same moments. */
static void test_moments_are_counted_alike_in_each_run(void **state)
{
    uint64_t moments[2];

    (void)state;
    for (int run = 0; run < 2; run++) {
        struct world *world = create_world();

        assert_int_equal(create(world, "a"), 0);
        watch(world, list(world, 1));
        assert_int_equal(create(world, "b"), 0);
        expect_events(world, "b");
        moments[run] = world->faults.moments;
        destroy_world(world);
    }
    assert_int_equal(moments[0], 12);
    assert_true(moments[0] == moments[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_fails_before_or_after_it_was_done),
        cmocka_unit_test(test_a_crash_lasts_until_it_is_cleared),
        cmocka_unit_test(test_a_stale_list_is_served_once_and_can_be_watched_from),
        cmocka_unit_test(test_lists_and_watches_fail),
        cmocka_unit_test(test_events_are_dropped_doubled_and_held),
        cmocka_unit_test(test_moments_are_counted_alike_in_each_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
