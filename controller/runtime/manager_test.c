/* The manager with its threads, on a real loop: what is started ends, nothing is done twice at a
 * time, and nothing turns where nothing is to do. */
#include "controller/runtime/runtime_testing.h"

#define SHIP_COUNT 40
#define TIMEOUT_MS 60000
#define WORKERS    4

struct fleet {
    struct fl_plane *plane;
    struct fl_manager *manager;
    struct fl_metric_registry *metrics;
    struct fl_arena *arena;
    struct fl_kind_ops ops;
    struct fl_lock *lock; /* of what follows */
    struct fl_map *under_way;
    int passes, doubles, lost;
};

/* Looks until the condition holds; the test fails where it never does. */
#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        int64_t end_ = fl_machine_monotonic_us() + (int64_t)TIMEOUT_MS * 1000;                     \
        while (!(condition) && fl_machine_monotonic_us() < end_)                                   \
            (void)usleep(5000);                                                                    \
        if (!(condition))                                                                          \
            fail_msg("never: %s", #condition);                                                     \
    } while (0)

static void enter(struct fleet *fleet, const char *name)
{
    FL_LOCKED(fleet->lock);

    fleet->passes++;
    if (fl_map_get(fleet->under_way, name))
        fleet->doubles++;
    fl_map_put(fleet->under_way, name, fleet);
}

static void leave(struct fleet *fleet, const char *name)
{
    FL_LOCKED(fleet->lock);

    (void)fl_map_remove(fleet->under_way, name);
}

static int load_one(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct barrel *barrel = fl_object_new(&barrel_type, rc->arena);
    struct fleet *fleet = rc->user;
    struct ship *ship = object;
    int r;

    enter(fleet, ship->meta.name);
    barrel->spec.text = ship->spec.text;
    r = fl_apply_child(rc, &barrel_type, "barrel", barrel, NULL, err);
    leave(fleet, ship->meta.name);
    return r;
}

static int unload(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    (void)rc;
    (void)object;
    (void)err;
    return FL_STEP_DONE;
}

static int passes(struct fleet *fleet)
{
    FL_LOCKED(fleet->lock);

    return fleet->passes;
}

static int lost(struct fleet *fleet)
{
    FL_LOCKED(fleet->lock);

    return fleet->lost;
}

static void count_lost(void *user)
{
    struct fleet *fleet = user;
    FL_LOCKED(fleet->lock);

    fleet->lost++;
}

static void start(struct fleet *fleet, const char *identity)
{
    struct fl_manager_options options = {.env = &fleet->plane->env,
                                         .client = fleet->plane->client,
                                         .metrics = fleet->metrics,
                                         .identity = identity,
                                         .lease_namespace = "default",
                                         .lease_name = "flops",
                                         .lost = count_lost,
                                         .lost_user = fleet};
    struct fl_error err = {0};

    if (fl_manager_create(&options, &fleet->manager, &err) < 0 ||
        fl_manager_add(fleet->manager, &fleet->ops, fleet, &err) < 0 ||
        fl_manager_start(fleet->manager, &err) < 0)
        fail_msg("%s", err.msg);
}

static void stop(struct fleet *fleet)
{
    fl_manager_stop(fleet->manager);
    fl_manager_destroy(FL_TAKE(fleet->manager));
}

static int setup(void **state)
{
    struct fleet *fleet = fl_calloc(1, sizeof(*fleet));
    struct fl_plane_options options = {.definitions = testing_definitions,
                                       .definition_count = FL_COUNT_OF(testing_definitions)};
    struct fl_error err = {0};

    if (fl_plane_create(&options, &fleet->plane, &err) < 0)
        fail_msg("%s", err.msg);
    fleet->metrics = fl_metrics_registry_create();
    fleet->arena = fl_arena_create();
    fleet->lock = fl_lock_create();
    fleet->under_way = fl_map_create(NULL);
    fleet->ops = (struct fl_kind_ops){.controller = "ship",
                                      .type = &ship_type,
                                      FL_STATUS_OF(struct ship),
                                      .finalizer = FINALIZER,
                                      .finalize = unload,
                                      .wakes = {{.gvr = {"test.dev", "v1", "barrels", true}}},
                                      .steps = {load_one},
                                      .workers = WORKERS};
    *state = fleet;
    return 0;
}

static int teardown(void **state)
{
    struct fleet *fleet = *state;

    fl_plane_destroy(fleet->plane);
    fl_metrics_registry_destroy(fleet->metrics);
    fl_arena_destroy(fleet->arena);
    fl_map_destroy(fleet->under_way);
    fl_lock_destroy(fleet->lock);
    free(fleet);
    return 0;
}

/* The API. */

static json_t *ask(struct fleet *fleet, const char *method, const char *target, const char *body)
{
    const char *type =
        fl_streq(method, "PATCH") ? "application/merge-patch+json" : "application/json";
    struct fl_error err = {0};
    json_t *value = NULL;

    if (fl_apiclient_call(fleet->plane->client,
                          &(struct fl_api_call){.method = method,
                                                .target = target,
                                                .content_type = body ? type : NULL,
                                                .body = body,
                                                .body_len = body ? strlen(body) : 0},
                          &value, &err) < 0)
        fail_msg("%s %s: %s", method, target, err.msg);
    return fl_json_in_arena(fleet->arena, value);
}

static const char *ship_path(struct fleet *fleet, int i)
{
    return fl_arena_printf(fleet->arena, SHIPS "/boat-%d", i);
}

static void make_ships(struct fleet *fleet)
{
    for (int i = 0; i < SHIP_COUNT; i++)
        (void)ask(fleet, "POST", SHIPS,
                  fl_arena_printf(fleet->arena,
                                  "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Ship\",\"metadata\":"
                                  "{\"name\":\"boat-%d\"},\"spec\":{\"text\":\"tea\"}}",
                                  i));
}

static bool are_all_ready(struct fleet *fleet)
{
    json_t *ship;
    size_t i;

    json_array_foreach(json_object_get(ask(fleet, "GET", SHIPS, NULL), "items"), i, ship)
        if (!fl_streq(fl_json_str(condition_of(ship, "Ready"), "status"), "True") ||
            fl_json_int(ship, "status.observedGeneration", -1) !=
                fl_json_int(ship, "metadata.generation", -2))
            return false;
    return true;
}

static bool all_barrels_hold(struct fleet *fleet, const char *text)
{
    json_t *items = json_object_get(ask(fleet, "GET", BARRELS, NULL), "items"), *barrel;
    size_t i;

    json_array_foreach(items, i, barrel)
        if (!fl_streq(fl_json_str(barrel, "spec.text"), text))
            return false;
    return json_array_size(items) == SHIP_COUNT;
}

static size_t count(struct fleet *fleet, const char *target)
{
    return json_array_size(json_object_get(ask(fleet, "GET", target, NULL), "items"));
}

/* Tests. */

static void test_life(void **state)
{
    struct fleet *fleet = *state;

    make_ships(fleet);
    start(fleet, NULL);
    WAIT_FOR(are_all_ready(fleet) && all_barrels_hold(fleet, "tea"));
    for (int i = 0; i < SHIP_COUNT; i++)
        (void)ask(fleet, "PATCH", ship_path(fleet, i), "{\"spec\":{\"text\":\"rum\"}}");
    WAIT_FOR(are_all_ready(fleet) && all_barrels_hold(fleet, "rum"));
    WAIT_FOR(count(fleet, EVENTS) == SHIP_COUNT);
    for (int i = 0; i < SHIP_COUNT; i++)
        (void)ask(fleet, "DELETE", ship_path(fleet, i), NULL);
    WAIT_FOR(count(fleet, SHIPS) == 0 && count(fleet, BARRELS) == 0);
    stop(fleet);
    assert_int_equal(fleet->doubles, 0);
}

/* All of it is ready, and then not one pass and not one call more. */
static void test_rest(void **state)
{
    struct fleet *fleet = *state;
    uint64_t revision;
    int before;

    make_ships(fleet);
    start(fleet, NULL);
    WAIT_FOR(are_all_ready(fleet) && count(fleet, EVENTS) == SHIP_COUNT);
    do { /* barrels may still wake their ships */
        before = passes(fleet);
        (void)usleep(200000);
    } while (passes(fleet) != before || fl_manager_next_due_ms(fleet->manager) == 0);
    revision = fl_store_revision(fleet->plane->store);
    (void)usleep(300000);
    assert_int_equal(passes(fleet), before);
    assert_int_equal(fl_store_revision(fleet->plane->store), revision);
    stop(fleet);
}

/* Stopped and started again in the middle of it, many times. */
static void test_restarts(void **state)
{
    struct fleet *fleet = *state;

    start(fleet, NULL);
    make_ships(fleet);
    for (int i = 0; i < 10; i++) {
        stop(fleet);
        (void)ask(fleet, "PATCH", ship_path(fleet, i), "{\"spec\":{\"text\":\"rum\"}}");
        start(fleet, NULL);
        (void)ask(fleet, "PATCH", ship_path(fleet, i), "{\"spec\":{\"text\":\"tea\"}}");
    }
    WAIT_FOR(are_all_ready(fleet) && all_barrels_hold(fleet, "tea"));
    stop(fleet);
    assert_int_equal(fleet->doubles, 0);
}

/* The second one starts its work when the first one has gone. */
static void test_hand_over(void **state)
{
    struct fleet *fleet = *state;
    struct fl_manager *first, *second;

    start(fleet, "first");
    first = fleet->manager;
    WAIT_FOR(fl_manager_is_leader(first));
    start(fleet, "second");
    second = fleet->manager;
    WAIT_FOR(fl_manager_synced(second));
    assert_false(fl_manager_is_leader(second));
    make_ships(fleet);
    WAIT_FOR(are_all_ready(fleet));
    fl_manager_stop(first);
    assert_false(fl_manager_is_leader(first));
    (void)ask(fleet, "PATCH", ship_path(fleet, 0), "{\"spec\":{\"text\":\"rum\"}}");
    WAIT_FOR(fl_manager_is_leader(second));
    WAIT_FOR(are_all_ready(fleet));
    fl_manager_destroy(first);
    stop(fleet);
    assert_int_equal(lost(fleet), 0);
    assert_int_equal(fleet->doubles, 0);
}

/* Somebody else takes the lease by force: the work stops, and the owner is told. */
static void test_lost(void **state)
{
    struct fleet *fleet = *state;
    int before;

    start(fleet, "first");
    WAIT_FOR(fl_manager_is_leader(fleet->manager));
    (void)ask(fleet, "PATCH", LEASES "/flops", "{\"spec\":{\"holderIdentity\":\"thief\"}}");
    WAIT_FOR(lost(fleet) == 1);
    assert_false(fl_manager_is_leader(fleet->manager));
    before = passes(fleet);
    make_ships(fleet);
    (void)usleep(300000);
    assert_int_equal(passes(fleet), before);
    stop(fleet);
}

/* What was written while somebody else led is known before the first pass: all caches are listed
 * anew. The thief is taken for dead when its short lease is over. */
static void test_regained(void **state)
{
    struct fleet *fleet = *state;

    start(fleet, "first");
    WAIT_FOR(fl_manager_is_leader(fleet->manager) && fl_manager_synced(fleet->manager));
    (void)ask(fleet, "PATCH", LEASES "/flops",
              "{\"spec\":{\"holderIdentity\":\"thief\",\"leaseDurationSeconds\":1}}");
    WAIT_FOR(lost(fleet) == 1);
    make_ships(fleet);
    WAIT_FOR(fl_manager_is_leader(fleet->manager) && are_all_ready(fleet));
    assert_int_equal(lost(fleet), 1);
    stop(fleet);
    assert_int_equal(fleet->doubles, 0);
}

/* Keys come from many threads while workers work. */

static void enqueue_many(void *user)
{
    struct fleet *fleet = user;

    for (int i = 0; i < 2000; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "boat-%d", i % SHIP_COUNT);
        fl_manager_enqueue(fleet->manager, "ship", "default", name);
        fl_manager_enqueue(fleet->manager, "unknown", "default", name);
    }
}

static void test_enqueue_from_threads(void **state)
{
    struct fleet *fleet = *state;
    struct fl_thread *threads[3];
    struct fl_error err = {0};

    make_ships(fleet);
    start(fleet, NULL);
    for (size_t i = 0; i < FL_COUNT_OF(threads); i++)
        assert_int_equal(fl_thread_start("driver", enqueue_many, fleet, &threads[i], &err), 0);
    for (size_t i = 0; i < FL_COUNT_OF(threads); i++)
        fl_thread_join(threads[i]);
    WAIT_FOR(are_all_ready(fleet) && all_barrels_hold(fleet, "tea"));
    stop(fleet);
    assert_int_equal(fleet->doubles, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_life),
        TEST(test_rest),
        TEST(test_restarts),
        TEST(test_hand_over),
        TEST(test_lost),
        TEST(test_regained),
        TEST(test_enqueue_from_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
