/* A life of a Ship with Barrels, with something going wrong at each moment of each call, list and
 * watch: whatever it was, the end is the same. */
#include "controller/runtime/runtime_testing.h"

#define BOAT      SHIPS "/boat"
#define LONG_MS   60000 /* more than the back-off after one fault */
#define RESYNC_MS 36000000

static bool is_among_first(void *user, const void *child)
{
    const struct ship *ship = user;
    const struct barrel *barrel = child;

    for (int64_t i = 0; i < ship->spec.barrels; i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        const char *role = fl_arena_printf(arena, "barrel-%" PRId64, i);

        if (fl_streq(barrel->meta.name,
                     fl_child_name(arena, ship->meta.name, ship->meta.uid, role)))
            return true;
    }
    return false;
}

static int load(struct rig *rig, struct fl_reconcile *rc, struct ship *ship, struct fl_error *err)
{
    int r = 0;

    (void)rig;
    for (int64_t i = 0; i < ship->spec.barrels && r == 0; i++) {
        struct barrel *barrel = fl_object_new(&barrel_type, rc->arena);

        barrel->spec.text = ship->spec.text;
        r = fl_apply_child(rc, &barrel_type, fl_arena_printf(rc->arena, "barrel-%" PRId64, i),
                           barrel, NULL, err);
    }
    if (r == 0)
        r = fl_prune_children(rc, &barrel_type, is_among_first, ship, err);
    if (r < 0)
        return r;
    ship->status.loaded = ship->spec.barrels;
    ship->status.has_loaded = true;
    return r > 0 ? fl_not_yet(rc, "Loaded", "Unloading", "%d to go", r) : FL_STEP_DONE;
}

static bool is_none(void *user, const void *child)
{
    (void)user;
    (void)child;
    return false;
}

static int unload(struct rig *rig, struct fl_reconcile *rc, struct ship *ship, struct fl_error *err)
{
    int r = fl_prune_children(rc, &barrel_type, is_none, NULL, err);

    (void)rig;
    (void)ship;
    return r > 0 ? fl_not_yet(rc, "Loaded", "Unloading", "%d to go", r) : r;
}

/* The world goes on; a process that died is started anew. */
static void run(struct rig *rig)
{
    int64_t end = fl_monotonic_ms(rig->env) + LONG_MS;

    while (fl_monotonic_ms(rig->env) < end) {
        (void)rig_run_for(rig, LONG_MS / 10);
        (void)fl_manager_write_events(rig->manager);
        if (!rig->faults.crashed)
            continue;
        rig->faults.crashed = false;
        rig_restart(rig);
    }
}

static void assert_loaded(struct rig *rig, int64_t barrels, const char *text)
{
    const json_t *items = json_object_get(rig_get(rig, BARRELS), "items"), *barrel;
    size_t i;

    assert_int_equal(json_array_size(items), barrels);
    json_array_foreach((json_t *)items, i, barrel)
        assert_string_equal(fl_json_str(barrel, "spec.text"), text);
    assert_ready(rig, BOAT, "True", "Ready");
    assert_kstatus(rig, BOAT, false, false);
    assert_int_equal(fl_json_int(rig_get(rig, BOAT), "status.loaded", -1), barrels);
}

static void live(struct rig *rig)
{
    (void)rig_ship(rig, "boat", "{\"barrels\":3,\"text\":\"tea\"}");
    run(rig);
    assert_loaded(rig, 3, "tea");
    (void)rig_patch(rig, BOAT, "{\"spec\":{\"barrels\":2,\"text\":\"rum\"}}");
    run(rig);
    assert_loaded(rig, 2, "rum");
    (void)rig_delete(rig, BOAT);
    run(rig);
    assert_true(rig_is_gone(rig, BOAT));
    assert_int_equal(rig_count(rig, BARRELS), 0);
    assert_int_equal(fl_own_writes_count(fl_manager_controller(rig->manager, 0)->own_writes), 0);
}

/* The fault at one moment. */

struct plan {
    struct rig *rig;
    int64_t at, now;
    int code;
};

static int strike(void *user, const struct fl_client_moment *moment)
{
    struct plan *plan = user;

    (void)moment;
    return ++plan->now == plan->at ? plan->code : 0;
}

/* Returns how many moments there were. */
static int64_t live_with(int code, int64_t at)
{
    struct rig *rig = rig_create(7);
    struct plan plan = {.rig = rig, .at = at, .code = code};

    rig->ops = rig_ops();
    rig->step = load;
    rig->finalize = unload;
    rig->faults.moment = strike;
    rig->faults.user = &plan;
    rig_make_manager(rig);
    live(rig);
    rig_destroy(rig);
    return plan.now;
}

static void test_each_moment(void **state)
{
    static const int codes[] = {FL_E_UNAVAILABLE, FL_E_TIMEOUT, FL_E_CONFLICT, FL_CLIENT_CRASH};
    int64_t moments = live_with(0, 0);

    (void)state;
    assert_true(moments > 50);
    for (size_t i = 0; i < FL_COUNT_OF(codes); i++)
        for (int64_t at = 1; at <= moments; at++)
            (void)live_with(codes[i], at);
}

/* Events. */

struct fate {
    int64_t at, now;
    enum fl_client_fate fate;
};

static enum fl_client_fate decide(void *user, const struct fl_gvr *gvr,
                                  const struct fl_event *event)
{
    struct fate *fate = user;

    (void)gvr;
    (void)event;
    return ++fate->now == fate->at ? fate->fate : FL_CLIENT_PASS;
}

/* One event is lost: a resync finds it. */
static int64_t live_with_event(enum fl_client_fate what, int64_t at)
{
    struct rig *rig = rig_create(7);
    struct fate fate = {.at = at, .fate = what};
    int64_t events;

    rig->ops = rig_ops();
    rig->step = load;
    rig->finalize = unload;
    rig->faults = (struct fl_client_faults){.event = decide, .user = &fate};
    rig_make_manager(rig);
    (void)rig_ship(rig, "boat", "{\"barrels\":3,\"text\":\"tea\"}");
    (void)rig_settle(rig);
    (void)rig_patch(rig, BOAT, "{\"spec\":{\"barrels\":2,\"text\":\"rum\"}}");
    (void)rig_settle(rig);
    (void)rig_run_for(rig, RESYNC_MS + RESYNC_MS / 5);
    assert_loaded(rig, 2, "rum");
    events = fate.now;
    fate.at += events; /* and the same again */
    (void)rig_delete(rig, BOAT);
    (void)rig_settle(rig);
    (void)rig_run_for(rig, RESYNC_MS + RESYNC_MS / 5);
    assert_true(rig_is_gone(rig, BOAT));
    assert_int_equal(rig_count(rig, BARRELS), 0);
    rig_destroy(rig);
    return events;
}

static void test_each_event(void **state)
{
    static const enum fl_client_fate fates[] = {FL_CLIENT_DROP, FL_CLIENT_DOUBLE};
    int64_t events = live_with_event(FL_CLIENT_PASS, 0);

    (void)state;
    assert_true(events > 5);
    for (size_t i = 0; i < FL_COUNT_OF(fates); i++)
        for (int64_t at = 1; at <= events; at++)
            (void)live_with_event(fates[i], at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_moment),
        cmocka_unit_test(test_each_event),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
