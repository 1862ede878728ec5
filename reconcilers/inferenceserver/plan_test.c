/* The plan is carried out by a little world of its own: servers that start and end, the real rules
 * of a router, requests that fail or do not. */
#include "reconcilers/inferenceserver/plan.h"

#include "lib/str.h"
#include "workloads/route/routes.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define SERVERS_MAX 8
#define PASSES      400

struct server {
    bool exists, ready;
};

struct set {
    char revision[16];
    double metric;
    int64_t created_us, asked, replicas;
    bool stable, broken, failing; /* never ready; answers with errors */
    char rejected[16], why[256];
    struct server servers[SERVERS_MAX];
};

struct world {
    struct fl_arena *arena;
    struct fl_rollout rollout;
    struct fl_autoscale autoscale;
    bool has_autoscale;
    int64_t replicas, now_us;
    const char *target;
    double target_metric;
    struct set sets[FL_SERVING_SETS_MAX];
    size_t count;
    struct fl_routes *routes;
    struct fl_serving_plan plan;
    bool new_broken, new_failing, had_service, allow_gap;
    int64_t requests_a_pass, failed, unserved;
    struct fl_route_backend *held;
};

static struct world world_make(int64_t replicas, enum fl_rollout_strategy strategy)
{
    return (struct world){.arena = fl_arena_create(),
                          .rollout = {.strategy = strategy,
                                      .interval = "1m",
                                      .min_requests = 10,
                                      .max_error_rate = "0.01",
                                      .progress_deadline = "10m"},
                          .replicas = replicas,
                          .now_us = INT64_C(1700000000000000),
                          .target = "one",
                          .target_metric = NAN,
                          .routes = fl_routes_create(),
                          .requests_a_pass = 5};
}

static void world_finish(struct world *world)
{
    fl_routes_destroy(world->routes);
    fl_arena_destroy(world->arena);
}

static struct set *find(struct world *world, const char *revision)
{
    for (size_t i = 0; i < world->count; i++)
        if (strcmp(world->sets[i].revision, revision) == 0)
            return &world->sets[i];
    return NULL;
}

static struct fl_serving_set show(struct world *world, const struct set *set)
{
    struct fl_serving_set shown = {
        .revision = fl_arena_strdup(world->arena, set->revision),
        .digest = set->revision,
        .metric = set->metric,
        .created_us = set->created_us,
        .asked = set->asked,
        .replicas = set->replicas,
        .stable = set->stable,
        .rejected = *set->rejected ? fl_arena_strdup(world->arena, set->rejected) : NULL,
        .rejected_why = fl_arena_strdup(world->arena, set->why)};

    shown.instances = fl_new_array(world->arena, struct fl_serving_instance, SERVERS_MAX);
    for (int64_t i = 0; i < SERVERS_MAX; i++)
        if (set->servers[i].exists)
            shown.instances[shown.instance_count++] = (struct fl_serving_instance){
                .index = i,
                .ready = set->servers[i].ready,
                .id = fl_arena_printf(world->arena, "%s/%" PRId64, set->revision, i),
                .url = fl_arena_printf(world->arena, "http://%s:%" PRId64, set->revision, i)};
    return shown;
}

static void decide(struct world *world)
{
    struct fl_serving_set *sets = fl_new_array(world->arena, struct fl_serving_set, world->count);
    struct fl_serving_world seen = {.rollout = &world->rollout,
                                    .replicas = world->replicas,
                                    .now_us = world->now_us,
                                    .target = {.revision = world->target,
                                               .digest = world->target,
                                               .metric = world->target_metric},
                                    .sets = sets,
                                    .set_count = world->count,
                                    .has_router = true};
    FL_JSON status = fl_routes_status(world->routes, world->now_us / 1000);

    for (size_t i = 0; i < world->count; i++)
        sets[i] = show(world, &world->sets[i]);
    assert_int_equal(fl_router_view_read(world->arena, status, &seen.router, NULL), 0);
    seen.autoscale = world->has_autoscale ? &world->autoscale : NULL;
    seen.replicas = fl_serving_replicas(world->arena, &seen, world->replicas, NULL);
    world->replicas = seen.replicas;
    fl_serving_decide(world->arena, &seen, &world->plan);
}

static void remove_set(struct world *world, struct set *set)
{
    *set = world->sets[--world->count];
}

static void carry_out(struct world *world)
{
    for (size_t i = 0; i < world->plan.wish_count; i++) {
        const struct fl_serving_wish *wish = &world->plan.wishes[i];
        struct set *set = find(world, wish->revision);

        if (wish->remove) {
            if (set)
                remove_set(world, set);
            continue;
        }
        if (!set) {
            assert_true(world->count < FL_SERVING_SETS_MAX);
            set = &world->sets[world->count++];
            *set = (struct set){.metric = world->target_metric,
                                .created_us = world->now_us,
                                .broken = world->new_broken,
                                .failing = world->new_failing};
            (void)snprintf(set->revision, sizeof(set->revision), "%s", wish->revision);
        }
        set->asked = wish->instances;
        set->stable = wish->stable;
        set->replicas = world->has_autoscale ? world->replicas : 0;
        (void)snprintf(set->rejected, sizeof(set->rejected), "%s", fl_str_or(wish->rejected, ""));
        (void)snprintf(set->why, sizeof(set->why), "%s", fl_str_or(wish->rejected_why, ""));
    }
    if (world->plan.table)
        assert_int_equal(
            fl_routes_apply(world->routes, world->plan.table, world->now_us / 1000, NULL), 0);
}

/* One thing happens to each set: a server ends, or becomes ready, or starts. */
static void happen(struct world *world)
{
    for (size_t i = 0; i < world->count; i++) {
        struct set *set = &world->sets[i];

        for (int64_t n = 0; n < SERVERS_MAX; n++) {
            struct server *server = &set->servers[n];

            if (n >= set->asked)
                *server = (struct server){0};
            else if (server->exists && !set->broken)
                server->ready = true;
            else
                server->exists = true;
        }
    }
}

static bool lives(struct world *world, const char *id)
{
    char revision[16];
    const char *slash = strchr(id, '/');
    const struct set *set;

    (void)snprintf(revision, sizeof(revision), "%.*s", (int)(slash - id), id);
    set = find(world, revision);
    return set && set->servers[atoi(slash + 1)].ready;
}

static void request(struct world *world)
{
    struct fl_route_backend *backend = fl_routes_choose(world->routes, 0, NULL, 0);
    bool failing;

    if (!backend) {
        world->unserved++;
        assert_true(world->allow_gap || !world->had_service);
        return;
    }
    world->had_service = true;
    /* Nobody is sent to a server that was told to end. */
    assert_true(lives(world, fl_route_id(backend)));
    failing = find(world, fl_route_group(backend))->failing;
    world->failed += failing;
    (void)fl_routes_ended(world->routes, backend, failing ? FL_ROUTE_FAILED : FL_ROUTE_ANSWERED,
                          3000, 0);
}

static void requests(struct world *world)
{
    struct fl_route_backend *copies[4];
    size_t count;

    for (int64_t i = 0; i < world->requests_a_pass; i++) {
        request(world);
        count = fl_routes_mirrors(world->routes, 0, copies, 4);
        for (size_t n = 0; n < count; n++)
            (void)fl_routes_ended(world->routes, copies[n],
                                  find(world, fl_route_group(copies[n]))->failing
                                      ? FL_ROUTE_FAILED
                                      : FL_ROUTE_ANSWERED,
                                  3000, 0);
    }
}

static void pass(struct world *world)
{
    decide(world);
    carry_out(world);
    requests(world);
    happen(world);
    requests(world);
    world->now_us += 5000000;
}

static bool is_settled(const struct world *world)
{
    return world->count == 1 && world->plan.state == FL_SERVING_SETTLED && !world->plan.table &&
           world->plan.ready == world->replicas && world->sets[0].asked == world->replicas;
}

static void until_settled(struct world *world, const char *revision)
{
    for (int i = 0; i < PASSES; i++) {
        pass(world);
        if (is_settled(world) && strcmp(world->sets[0].revision, revision) == 0) {
            assert_true(world->sets[0].stable);
            assert_string_equal(world->plan.serving, revision);
            return;
        }
    }
    fail_msg("%s never settled: %s", revision, world->plan.message);
}

static void test_first(void **state)
{
    FL_CLEANUP(world_finish) struct world world = world_make(3, FL_ROLLOUT_STRATEGY_ROLLING);

    (void)state;
    until_settled(&world, "one");
    decide(&world);
    assert_int_equal(world.plan.look_again_ms, -1); /* nothing to look for */
    world.replicas = 5;
    until_settled(&world, "one");
    world.replicas = 1;
    until_settled(&world, "one");
    assert_int_equal(world.failed, 0);
}

static void test_rolling(void **state)
{
    (void)state;
    for (int64_t replicas = 1; replicas <= 4; replicas++)
        for (int64_t missing = 0; missing <= 2; missing++) {
            FL_CLEANUP(world_finish)
            struct world world = world_make(replicas, FL_ROLLOUT_STRATEGY_ROLLING);

            world.rollout.max_unavailable = missing;
            world.rollout.has_max_unavailable = true;
            until_settled(&world, "one");
            world.target = "two";
            until_settled(&world, "two");
            assert_int_equal(world.failed, 0);
        }
}

/* A third revision while the second is on its way. */
static void test_change_of_mind(void **state)
{
    const enum fl_rollout_strategy strategies[] = {FL_ROLLOUT_STRATEGY_ROLLING,
                                                   FL_ROLLOUT_STRATEGY_CANARY};

    (void)state;
    for (size_t s = 0; s < FL_COUNT_OF(strategies); s++)
        for (int after = 1; after < 20; after++) {
            FL_CLEANUP(world_finish) struct world world = world_make(3, strategies[s]);

            until_settled(&world, "one");
            world.target = "two";
            for (int i = 0; i < after; i++)
                pass(&world);
            world.target = after % 2 ? "three" : "one";
            until_settled(&world, world.target);
        }
}

static void test_recreate(void **state)
{
    FL_CLEANUP(world_finish) struct world world = world_make(2, FL_ROLLOUT_STRATEGY_RECREATE);

    (void)state;
    until_settled(&world, "one");
    world.allow_gap = true;
    world.target = "two";
    for (int i = 0; i < PASSES && !find(&world, "two"); i++)
        pass(&world);
    for (size_t i = 0; find(&world, "one") && i < SERVERS_MAX; i++) /* never both */
        assert_false(find(&world, "one")->servers[i].exists);
    until_settled(&world, "two");
}

static bool is_on_trial(const struct world *world, const char *revision)
{
    const json_t *groups = json_object_get(fl_routes_table(world->routes), "groups"), *group;
    size_t i;

    json_array_foreach(groups, i, group)
        if (fl_streq(fl_json_str(group, "name"), revision))
            return fl_json_bool(group, "trial", false);
    fail_msg("%s has no group", revision);
    return false;
}

static void test_canary(void **state)
{
    int64_t steps[] = {50, 10};
    int64_t seen[3] = {0};
    FL_CLEANUP(world_finish) struct world world = world_make(3, FL_ROLLOUT_STRATEGY_CANARY);

    (void)state;
    world.rollout.steps = (struct fl_int_list){steps, 2};
    until_settled(&world, "one"); /* the first has nobody to be compared with */
    world.target = "two";
    for (int i = 0; i < PASSES && (i == 0 || !is_settled(&world)); i++) {
        pass(&world);
        if (world.plan.step > 0) {
            assert_true(world.plan.step <= 3);
            seen[world.plan.step - 1]++;
            assert_true(is_on_trial(&world, "two"));
            assert_false(is_on_trial(&world, "one"));
        }
    }
    until_settled(&world, "two");
    assert_false(is_on_trial(&world, "two"));
    /* Each step lasted as long as the interval: 60 s at 5 s a pass. */
    assert_true(seen[0] >= 12 && seen[1] >= 12 && seen[2] >= 1);
}

static void test_canary_waits_for_requests(void **state)
{
    FL_CLEANUP(world_finish) struct world world = world_make(1, FL_ROLLOUT_STRATEGY_CANARY);

    (void)state;
    until_settled(&world, "one");
    world.requests_a_pass = 0;
    world.target = "two";
    for (int i = 0; i < PASSES; i++)
        pass(&world);
    assert_int_equal(world.plan.step, 1);
    assert_true(world.plan.counts_needed);
    world.requests_a_pass = 5;
    until_settled(&world, "two");
}

/* A trial would run a server that nobody asks for, and wait for requests that do not come. */
static void test_none_is_asked_for(void **state)
{
    static const enum fl_rollout_strategy strategies[] = {
        FL_ROLLOUT_STRATEGY_CANARY, FL_ROLLOUT_STRATEGY_RECREATE, FL_ROLLOUT_STRATEGY_ROLLING};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(strategies); i++) {
        FL_CLEANUP(world_finish) struct world world = world_make(1, strategies[i]);

        until_settled(&world, "one");
        world.replicas = world.requests_a_pass = 0;
        world.target = "two";
        world.allow_gap = true;
        for (int pass_count = 0; pass_count < PASSES; pass_count++)
            pass(&world);
        assert_int_equal(world.count, 0);
        assert_int_equal(world.plan.state, FL_SERVING_SETTLED);
    }
}

static void check_taken_back(struct world *world, const char *why)
{
    for (int i = 0;
         i < PASSES && !(world->count == 1 && world->plan.state == FL_SERVING_ROLLED_BACK); i++)
        pass(world);
    for (int i = 0; i < 10; i++) {
        pass(world);
        assert_int_equal(world->plan.state, FL_SERVING_ROLLED_BACK);
        assert_int_equal(world->count, 1);
        assert_string_equal(world->sets[0].revision, "one");
        assert_string_equal(world->sets[0].rejected, "two");
        assert_null(world->plan.table);
    }
    if (!strstr(world->plan.message, why))
        fail_msg("%s", world->plan.message);
}

static void test_taken_back(void **state)
{
    static const struct {
        const char *why;
        double metric;
        bool broken, failing, latency;
        int64_t steps[2];
    } cases[] = {
        {"failed", NAN, false, true, false, {10, 50}},
        {"failed", NAN, false, true, false, {0, 50}}, /* found in the dark: nobody saw an error */
        {"not ready within 10m", NAN, true, false, false, {10, 50}},
        {"accuracy", 0.5, false, false, false, {10, 50}},
        {"99th percentile", NAN, false, false, true, {10, 50}},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(world_finish) struct world world = world_make(2, FL_ROLLOUT_STRATEGY_CANARY);
        int64_t steps[] = {cases[i].steps[0], cases[i].steps[1]};

        world.rollout.steps = (struct fl_int_list){steps, 2};
        world.rollout.has_metric = true;
        world.target_metric = 0.9;
        until_settled(&world, "one");
        world.target = "two";
        world.target_metric = cases[i].metric;
        world.new_broken = cases[i].broken;
        world.new_failing = cases[i].failing;
        world.rollout.max_latency = cases[i].latency ? "1ms" : NULL;
        check_taken_back(&world, cases[i].why);
        assert_true(cases[i].steps[0] > 0 || world.failed == 0);
        /* Another one is tried. */
        world.new_broken = world.new_failing = false;
        world.rollout.max_latency = NULL;
        world.target_metric = 0.95;
        world.target = "three";
        until_settled(&world, "three");
    }
}

static void test_rolling_that_does_not_start(void **state)
{
    FL_CLEANUP(world_finish) struct world world = world_make(2, FL_ROLLOUT_STRATEGY_ROLLING);

    (void)state;
    until_settled(&world, "one");
    world.target = "two";
    world.new_broken = true;
    check_taken_back(&world, "not ready within 10m");
}

static void test_nothing_to_go_back_to(void **state)
{
    FL_CLEANUP(world_finish) struct world world = world_make(1, FL_ROLLOUT_STRATEGY_ROLLING);

    (void)state;
    world.new_broken = true;
    pass(&world);
    pass(&world);
    assert_false(world.plan.overdue);
    assert_true(world.plan.look_again_ms > 0);
    for (int i = 0; i < 200; i++)
        pass(&world);
    assert_true(world.plan.overdue);
    assert_int_equal(world.count, 1);
}

static void hold(struct world *world, int64_t *held, int64_t wanted)
{
    for (; *held < wanted; ++*held)
        fl_routes_request_came(world->routes, world->now_us / 1000);
    for (; *held > wanted; --*held)
        fl_routes_request_left(world->routes, world->now_us / 1000);
}

/* Load leads up and down, while a model rolls out, too; and nobody is sent to who was told to end.
 */
static void test_scaled(void **state)
{
    FL_CLEANUP(world_finish) struct world world = world_make(1, FL_ROLLOUT_STRATEGY_ROLLING);
    int64_t held = 0;

    (void)state;
    world.has_autoscale = true;
    world.autoscale = (struct fl_autoscale){.min_replicas = 1,
                                            .max_replicas = 6,
                                            .metric = FL_AUTOSCALE_METRIC_CONCURRENCY,
                                            .target = 2,
                                            .window = "20s",
                                            .scale_down_delay = "60s"};
    until_settled(&world, "one");
    assert_int_equal(world.sets[0].asked, 1);
    assert_true(world.plan.counts_needed && world.plan.look_again_ms == 1000);
    hold(&world, &held, 6);
    for (int i = 0; i < 12; i++)
        pass(&world);
    assert_int_equal(world.sets[0].asked, 3);
    world.target = "two";
    hold(&world, &held, 10);
    for (int i = 0; i < 40; i++)
        pass(&world);
    assert_int_equal(world.count, 1);
    assert_int_equal(world.sets[0].asked, 5);
    assert_int_equal(world.sets[0].replicas, 5);
    hold(&world, &held, 0);
    for (int i = 0; i < 10; i++)
        pass(&world);
    assert_int_equal(world.sets[0].asked, 5); /* not before the delay */
    for (int i = 0; i < 20; i++)
        pass(&world);
    assert_int_equal(world.sets[0].asked, 1);
    assert_int_equal(world.failed, 0);
    world.has_autoscale = false; /* load is looked at no longer */
    world.replicas = 2;
    until_settled(&world, "two");
    assert_int_equal(world.plan.look_again_ms, -1);
}

/* A server with a request under way is not asked to end. */
static void test_drains(void **state)
{
    FL_CLEANUP(world_finish) struct world world = world_make(1, FL_ROLLOUT_STRATEGY_ROLLING);

    (void)state;
    until_settled(&world, "one");
    world.held = fl_routes_choose(world.routes, 0, NULL, 0);
    world.target = "two";
    for (int i = 0; i < 50; i++)
        pass(&world);
    assert_int_equal(find(&world, "one")->asked, 1);
    assert_true(find(&world, "two")->stable);
    (void)fl_routes_ended(world.routes, world.held, FL_ROUTE_ANSWERED, 10, 0);
    until_settled(&world, "two");
}

/* The router was started anew without its table, or there is none to ask. */
static void test_router_gone(void **state)
{
    FL_CLEANUP(world_finish) struct world world = world_make(2, FL_ROLLOUT_STRATEGY_ROLLING);
    struct fl_serving_world seen = {0};
    struct fl_serving_set set;

    (void)state;
    until_settled(&world, "one");
    fl_routes_destroy(world.routes);
    world.routes = fl_routes_create();
    world.allow_gap = true;
    until_settled(&world, "one");
    set = show(&world, &world.sets[0]);
    seen = (struct fl_serving_world){.rollout = &world.rollout,
                                     .replicas = 1,
                                     .now_us = world.now_us,
                                     .target = set,
                                     .sets = &set,
                                     .set_count = 1,
                                     .has_router = true};
    fl_serving_decide(world.arena, &seen, &world.plan);
    assert_null(world.plan.table);
    assert_int_equal(world.plan.wishes[0].instances, 2); /* not in the dark */
    seen.has_router = false;
    fl_serving_decide(world.arena, &seen, &world.plan);
    assert_int_equal(world.plan.wishes[0].instances, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first),
        cmocka_unit_test(test_rolling),
        cmocka_unit_test(test_change_of_mind),
        cmocka_unit_test(test_recreate),
        cmocka_unit_test(test_canary),
        cmocka_unit_test(test_canary_waits_for_requests),
        cmocka_unit_test(test_none_is_asked_for),
        cmocka_unit_test(test_taken_back),
        cmocka_unit_test(test_rolling_that_does_not_start),
        cmocka_unit_test(test_nothing_to_go_back_to),
        cmocka_unit_test(test_scaled),
        cmocka_unit_test(test_drains),
        cmocka_unit_test(test_router_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
