/* A pass, on a real API server over a memory store: what it writes, and when it writes nothing. */
#include "controller/runtime/runtime_testing.h"

#include "api/meta.h"

#define BOAT SHIPS "/boat"

static struct fl_controller *controller(struct rig *rig)
{
    return fl_manager_controller(rig->manager, 0);
}

static void enqueue(struct rig *rig)
{
    fl_manager_enqueue(rig->manager, "ship", "default", "boat");
}

static void test_ready(void **state)
{
    struct rig *rig = *state;

    (void)rig_ship(rig, "boat", "{}");
    (void)rig_settle(rig);
    assert_ready(rig, BOAT, "True", "Ready");
    assert_kstatus(rig, BOAT, false, false);
    assert_string_equal(json_string_value(json_array_get(
                            fl_json_path(rig_get(rig, BOAT), "metadata.finalizers"), 0)),
                        FINALIZER);
    assert_true(rig_metric_is(
        rig, "controller_runtime_reconcile_total{controller=\"ship\",result=\"success\"} 1\n"));
}

static int see_finalizer(struct rig *rig, struct fl_reconcile *rc, struct ship *ship,
                         struct fl_error *err)
{
    json_t *stored = rig_get(rig, BOAT);

    (void)ship;
    (void)err;
    rig->knob = fl_meta_has_finalizer(stored, FINALIZER) && json_equal(stored, (json_t *)rc->json);
    return FL_STEP_DONE;
}

/* Before anything is caused in the world, the server knows that there will be something to undo;
 * and the step sees what the server has. */
static void test_finalizer_comes_first(void **state)
{
    struct rig *rig = *state;

    rig->step = see_finalizer;
    (void)rig_ship(rig, "boat", "{}");
    assert_int_equal(rig_settle(rig), 1);
    assert_true(rig->knob);
}

/* One pass makes it ready, and its own writes wake nobody. */
static void test_own_writes_do_not_wake(void **state)
{
    struct rig *rig = *state;

    (void)rig_ship(rig, "boat", "{}");
    assert_int_equal(rig_settle(rig), 1);
    assert_int_equal(rig->steps, 1);
    assert_int_equal(fl_own_writes_count(controller(rig)->own_writes), 0);
}

static void test_noop_asks_nothing(void **state)
{
    struct rig *rig = *state;

    (void)rig_ship(rig, "boat", "{}");
    (void)rig_settle(rig);
    rig->calls = 0;
    for (int i = 0; i < 5; i++) {
        enqueue(rig);
        assert_int_equal(rig_advance(rig, 60000), 1);
    }
    rig_restart(rig);
    assert_int_equal(rig_settle(rig), 1);
    assert_int_equal(rig->calls, 0);
}

static int say_loaded(struct rig *rig, struct fl_reconcile *rc, struct ship *ship,
                      struct fl_error *err)
{
    (void)err;
    ship->status.loaded = rig->knob;
    ship->status.has_loaded = rig->knob >= 0;
    fl_true(rc, "Loaded", "Counted", "%" PRId64 " barrels", rig->knob);
    fl_ready_as(rc, "Sailing", "with %" PRId64, rig->knob);
    return FL_STEP_DONE;
}

/* Fields and conditions that others keep in status survive; what the step takes away goes. */
static void test_unknown_fields_survive(void **state)
{
    struct rig *rig = *state;
    json_t *ship;

    rig->step = say_loaded;
    rig->knob = 3;
    (void)rig_ship(rig, "boat", "{}");
    (void)rig_patch(rig, BOAT "/status",
                    "{\"status\":{\"future\":{\"deep\":1},\"loaded\":9,\"conditions\":[{\"type\":"
                    "\"Foreign\",\"status\":\"True\",\"reason\":\"Other\",\"message\":\"\","
                    "\"lastTransitionTime\":\"2020-01-01T00:00:00Z\"}]}}");
    (void)rig_settle(rig);
    ship = rig_get(rig, BOAT);
    assert_int_equal(fl_json_int(ship, "status.future.deep", 0), 1);
    assert_int_equal(fl_json_int(ship, "status.loaded", 0), 3);
    assert_string_equal(fl_json_str(condition_of(ship, "Foreign"), "reason"), "Other");
    assert_condition(rig, BOAT, "Loaded", "True", "Counted", "3 barrels");
    assert_condition(rig, BOAT, "Ready", "True", "Sailing", "with 3");
    rig->knob = -1;
    enqueue(rig);
    (void)rig_settle(rig);
    ship = rig_get(rig, BOAT);
    assert_null(fl_json_path(ship, "status.loaded"));
    assert_int_equal(fl_json_int(ship, "status.future.deep", 0), 1);
}

/* A status that somebody bent is put right. */
static void test_tampering(void **state)
{
    struct rig *rig = *state;

    rig->step = say_loaded;
    rig->knob = 3;
    (void)rig_ship(rig, "boat", "{}");
    (void)rig_settle(rig);
    (void)rig_patch(rig, BOAT "/status", "{\"status\":{\"loaded\":null,\"conditions\":null}}");
    (void)rig_settle(rig);
    assert_int_equal(fl_json_int(rig_get(rig, BOAT), "status.loaded", 0), 3);
    assert_ready(rig, BOAT, "True", "Sailing");
}

static int by_knob(struct rig *rig, struct fl_reconcile *rc, struct ship *ship,
                   struct fl_error *err)
{
    (void)ship;
    (void)err;
    if (rig->knob == 1)
        return fl_not_yet(rc, "Loaded", "Loading", "wait for it");
    if (rig->knob == 2)
        return fl_stalled(rc, "Loaded", "TooHeavy", "it sinks");
    fl_true(rc, "Loaded", "AllIn", "all of it");
    return FL_STEP_DONE;
}

static void test_progress(void **state)
{
    struct rig *rig = *state;

    rig->step = by_knob;
    rig->knob = 1;
    (void)rig_ship(rig, "boat", "{}");
    (void)rig_settle(rig);
    assert_condition(rig, BOAT, "Ready", "False", "Loading", "wait for it");
    assert_condition(rig, BOAT, "Reconciling", "True", "Progressing", "wait for it");
    assert_kstatus(rig, BOAT, true, false);
    rig->knob = 2;
    enqueue(rig);
    (void)rig_settle(rig);
    assert_condition(rig, BOAT, "Ready", "False", "TooHeavy", "it sinks");
    assert_condition(rig, BOAT, "Stalled", "True", "TooHeavy", "it sinks");
    assert_kstatus(rig, BOAT, false, true);
    rig->knob = 0;
    enqueue(rig);
    (void)rig_settle(rig);
    assert_ready(rig, BOAT, "True", "Ready");
    assert_kstatus(rig, BOAT, false, false);
}

/* lastTransitionTime moves with the status, not with the words. */
static void test_transition_time(void **state)
{
    struct rig *rig = *state;
    const char *first, *second;

    rig->step = say_loaded;
    rig->knob = 1;
    (void)rig_ship(rig, "boat", "{}");
    (void)rig_settle(rig);
    first = fl_json_str(condition_of(rig_get(rig, BOAT), "Loaded"), "lastTransitionTime");
    rig->knob = 2;
    enqueue(rig);
    (void)rig_advance(rig, 5000);
    assert_condition(rig, BOAT, "Loaded", "True", "Counted", "2 barrels");
    second = fl_json_str(condition_of(rig_get(rig, BOAT), "Loaded"), "lastTransitionTime");
    assert_string_equal(first, second);
    rig->step = by_knob;
    rig->knob = 1;
    enqueue(rig);
    (void)rig_advance(rig, 5000);
    second = fl_json_str(condition_of(rig_get(rig, BOAT), "Loaded"), "lastTransitionTime");
    assert_string_not_equal(first, second);
}

static int fail_with_knob(struct rig *rig, struct fl_reconcile *rc, struct ship *ship,
                          struct fl_error *err)
{
    (void)rc;
    (void)ship;
    if (rig->knob == 0)
        return FL_STEP_DONE;
    return fl_error_set(err, (int)rig->knob, "no luck");
}

/* The first failure may be chance, the second is told; it goes on being tried. */
static void test_retryable_error(void **state)
{
    struct rig *rig = *state;

    rig->step = fail_with_knob;
    rig->knob = FL_E_UNAVAILABLE;
    (void)rig_ship(rig, "boat", "{}");
    assert_int_equal(rig_settle(rig), 1);
    assert_null(condition_of(rig_get(rig, BOAT), "Ready"));
    (void)rig_run_for(rig, 12);
    assert_int_equal(rig->steps, 2);
    assert_condition(rig, BOAT, "Ready", "False", "ServiceUnavailable", "no luck");
    assert_condition(rig, BOAT, "Reconciling", "True", "ProgressingWithRetry", "no luck");
    assert_kstatus(rig, BOAT, true, false);
    (void)rig_run_for(rig, 10000);
    assert_in_range(rig->steps, 8, 13); /* 5 ms, doubled each time */
    rig->knob = 0;
    (void)rig_run_for(rig, 300000);
    assert_ready(rig, BOAT, "True", "Ready");
    assert_int_equal(fl_queue_failures(controller(rig)->queue, "default/boat"), 0);
}

static void test_terminal_error(void **state)
{
    struct rig *rig = *state;

    rig->step = fail_with_knob;
    rig->knob = FL_E_INVALID;
    (void)rig_ship(rig, "boat", "{}");
    (void)rig_run_for(rig, 3600000);
    assert_int_equal(rig->steps, 1);
    assert_condition(rig, BOAT, "Ready", "False", "Invalid", "no luck");
    assert_kstatus(rig, BOAT, false, true);
    assert_true(rig_metric_is(
        rig, "controller_runtime_terminal_reconcile_errors_total{controller=\"ship\"} 1\n"));
    rig->knob = 0;
    (void)rig_patch(rig, BOAT, "{\"spec\":{\"text\":\"better\"}}");
    (void)rig_settle(rig);
    assert_ready(rig, BOAT, "True", "Ready");
    assert_kstatus(rig, BOAT, false, false);
}

/* Conflicts are nobody's business. */
static void test_conflicts_are_silent(void **state)
{
    struct rig *rig = *state;

    rig->step = fail_with_knob;
    rig->knob = FL_E_CONFLICT;
    (void)rig_ship(rig, "boat", "{}");
    (void)rig_run_for(rig, 1000);
    assert_true(rig->steps > 3);
    assert_null(condition_of(rig_get(rig, BOAT), "Ready"));
    rig->knob = 0;
    (void)rig_run_for(rig, 300000);
    assert_ready(rig, BOAT, "True", "Ready");
}

static int be_disturbed(struct rig *rig, struct fl_reconcile *rc, struct ship *ship,
                        struct fl_error *err)
{
    (void)ship, (void)err;
    (void)rig_patch(rig, BOAT,
                    rig->knob ? "{\"spec\":{\"text\":\"other\"}}"
                              : "{\"metadata\":{\"annotations\":{\"test.dev/now\":\"1\"}}}");
    return fl_not_yet(rc, "Loaded", "Loading", "soon");
}

/* An annotation that comes in the middle of a pass costs no pass, and is looked at afterwards; a
 * spec does. */
static void test_status_is_written_beside_annotations(void **state)
{
    for (int spec = 0; spec <= 1; spec++) {
        struct rig *rig = *state;
        struct fl_controller *ships;

        (void)rig_ship(rig, "boat", "{}");
        (void)rig_settle(rig);
        ships = controller(rig);
        rig->step = be_disturbed;
        rig->knob = spec;
        rig->steps = 0;
        enqueue(rig);
        assert_true(fl_controller_process_next(ships));
        assert_int_equal(rig->steps, 1);
        assert_string_equal(fl_json_str(condition_of(rig_get(rig, BOAT), "Ready"), "reason"),
                            spec ? "Ready" : "Loading");
        rig->step = NULL;
        (void)rig_run_for(rig, 1000);
        assert_ready(rig, BOAT, "True", "Ready");
        assert_true(rig->steps > 1);
        (void)rig_delete(rig, BOAT);
        (void)rig_settle(rig);
    }
}

static int fail_named(struct rig *rig, struct fl_reconcile *rc, struct ship *ship,
                      struct fl_error *err)
{
    (void)rig;
    (void)ship;
    (void)fl_error_set(err, FL_E_BAD_REQUEST, "no such port");
    (void)fl_failed(rc, "Loaded", "PortUnknown", err);
    return fl_error_wrap(err, "harbour");
}

static void test_failed_names_its_condition(void **state)
{
    struct rig *rig = *state;

    rig->step = fail_named;
    (void)rig_ship(rig, "boat", "{}");
    (void)rig_settle(rig);
    assert_condition(rig, BOAT, "Loaded", "False", "PortUnknown", "no such port");
    assert_condition(rig, BOAT, "Ready", "False", "PortUnknown", "harbour: no such port");
}

static int requeue_soon(struct rig *rig, struct fl_reconcile *rc, struct ship *ship,
                        struct fl_error *err)
{
    (void)ship;
    (void)err;
    fl_requeue_after(rc, 60000);
    fl_requeue_after(rc, 1000);
    fl_requeue_after(rc, 30000);
    return rig->knob ? fl_not_yet(rc, "Loaded", "Loading", "soon") : FL_STEP_DONE;
}

static void test_requeue_after(void **state)
{
    struct rig *rig = *state;

    rig->step = requeue_soon;
    rig->knob = 1;
    (void)rig_ship(rig, "boat", "{}");
    (void)rig_settle(rig);
    assert_int_equal(rig_advance(rig, 999), 0);
    assert_int_equal(rig_advance(rig, 1), 1);
    rig->knob = 0;
    assert_int_equal(rig_advance(rig, 1000), 1);
    assert_int_equal(rig_advance(rig, 1000), 1);
    assert_true(rig_metric_is(
        rig, "controller_runtime_reconcile_total{controller=\"ship\",result=\"requeue_after\"} 4"));
}

/* Suspended. */

static int stopping(struct rig *rig, struct fl_reconcile *rc, struct ship *ship,
                    struct fl_error *err)
{
    (void)ship;
    (void)err;
    return rig->knob ? fl_not_yet(rc, "Loaded", "Unloading", "%" PRId64 " to go", rig->knob)
                     : FL_STEP_DONE;
}

static void test_suspend(void **state)
{
    struct rig *rig = *state;

    rig->suspend = stopping;
    rig->knob = 2;
    (void)rig_ship(rig, "boat", "{\"suspend\":true}");
    (void)rig_settle(rig);
    assert_condition(rig, BOAT, "Ready", "False", "Suspended", "2 to go");
    assert_kstatus(rig, BOAT, true, false);
    rig->knob = 0;
    enqueue(rig);
    (void)rig_settle(rig);
    assert_ready(rig, BOAT, "False", "Suspended");
    assert_kstatus(rig, BOAT, false, false);
    assert_int_equal(rig->steps, 0);
    (void)rig_patch(rig, BOAT, "{\"spec\":{\"suspend\":false}}");
    (void)rig_settle(rig);
    assert_ready(rig, BOAT, "True", "Ready");
}

/* Deletion. */

static int finalize_by_knob(struct rig *rig, struct fl_reconcile *rc, struct ship *ship,
                            struct fl_error *err)
{
    (void)ship;
    if (rig->knob < 0)
        return fl_error_set(err, (int)rig->knob, "it clings");
    return rig->knob ? fl_not_yet(rc, "Loaded", "Unloading", "%" PRId64 " to go", rig->knob)
                     : FL_STEP_DONE;
}

static void test_finalize(void **state)
{
    struct rig *rig = *state;

    rig->finalize = finalize_by_knob;
    rig->knob = 2;
    (void)rig_ship(rig, "boat", "{}");
    (void)rig_settle(rig);
    (void)rig_delete(rig, BOAT);
    (void)rig_settle(rig);
    assert_int_equal(rig->steps, 1);
    assert_condition(rig, BOAT, "Ready", "False", "Deleting", "2 to go");
    assert_kstatus(rig, BOAT, true, false);
    rig->knob = FL_E_INVALID; /* even so */
    enqueue(rig);
    (void)rig_run_for(rig, 1000);
    assert_condition(rig, BOAT, "Ready", "False", "Deleting", "it clings");
    assert_kstatus(rig, BOAT, true, false);
    rig->knob = 0;
    (void)rig_run_for(rig, 600000);
    assert_true(rig_is_gone(rig, BOAT));
    assert_int_equal(fl_queue_depth(controller(rig)->queue), 0);
    assert_int_equal(fl_queue_delayed(controller(rig)->queue), 0);
}

/* What never had the finalizer has nothing to finalize, and others' finalizers stay. */
static void test_foreign_finalizer(void **state)
{
    struct rig *rig = *state;
    json_t *ship;

    (void)rig_ship(rig, "boat", "{}");
    (void)rig_patch(rig, BOAT, "{\"metadata\":{\"finalizers\":[\"other.dev/x\"]}}");
    (void)rig_settle(rig);
    assert_int_equal(json_array_size(fl_json_path(rig_get(rig, BOAT), "metadata.finalizers")), 2);
    (void)rig_delete(rig, BOAT);
    (void)rig_settle(rig);
    ship = rig_get(rig, BOAT);
    assert_int_equal(rig->finalizes, 1);
    assert_int_equal(json_array_size(fl_json_path(ship, "metadata.finalizers")), 1);
    enqueue(rig);
    (void)rig_settle(rig);
    assert_int_equal(rig->finalizes, 1);
    (void)rig_patch(rig, BOAT, "{\"metadata\":{\"finalizers\":null}}");
    (void)rig_settle(rig);
    assert_true(rig_is_gone(rig, BOAT));
}

/* The cache still shows the one that is being deleted, while it is gone and another one has its
 * name: the world is the new one's now, and nothing of it is taken away. */
static void test_recreated_under_the_name(void **state)
{
    struct rig *rig = *state;
    json_t *ship;

    rig->finalize = finalize_by_knob;
    rig->knob = 1;
    (void)rig_ship(rig, "boat", "{}");
    (void)rig_settle(rig);
    (void)rig_delete(rig, BOAT);
    (void)rig_settle(rig);
    assert_int_equal(rig->finalizes, 1);
    rig->knob = 0;
    (void)rig_patch(rig, BOAT, "{\"metadata\":{\"finalizers\":null}}"); /* an impatient user */
    (void)rig_ship(rig, "boat", "{}");
    enqueue(rig);
    assert_true(fl_controller_process_next(controller(rig)));
    assert_int_equal(rig->finalizes, 1);
    ship = rig_get(rig, BOAT);
    assert_null(fl_json_path(ship, "metadata.deletionTimestamp"));
    (void)rig_settle(rig);
    assert_int_equal(rig->finalizes, 1);
    assert_ready(rig, BOAT, "True", "Ready");
}

/* A stale cache. */

/* The spec changes behind the cache's back: the status of the old one is refused, silently. */
static void test_stale_status_is_refused(void **state)
{
    struct rig *rig = *state;

    rig->step = say_loaded;
    rig->knob = 1;
    (void)rig_ship(rig, "boat", "{}");
    (void)rig_settle(rig);
    rig->knob = 2;
    (void)rig_patch(rig, BOAT, "{\"spec\":{\"text\":\"new\"}}");
    enqueue(rig);
    assert_true(fl_controller_process_next(controller(rig)));
    assert_int_equal(fl_json_int(rig_get(rig, BOAT), "status.loaded", 0), 1);
    assert_true(rig_metric_is(
        rig, "controller_runtime_reconcile_total{controller=\"ship\",result=\"requeue\"} 1"));
    (void)rig_run_for(rig, 1000);
    assert_int_equal(fl_json_int(rig_get(rig, BOAT), "status.loaded", 0), 2);
    assert_ready(rig, BOAT, "True", "Sailing");
}

/* After its own write a key waits for the cache, and goes on at once when that has caught up. */
static void test_waits_for_own_write(void **state)
{
    struct rig *rig = *state;

    (void)rig_ship(rig, "boat", "{}");
    (void)fl_manager_pump(rig->manager);
    assert_true(fl_controller_process_next(controller(rig)));
    assert_int_equal(rig->steps, 1);
    enqueue(rig);
    assert_true(fl_controller_process_next(controller(rig)));
    assert_int_equal(rig->steps, 1); /* not from the old state */
    assert_int_equal(fl_controller_depth(controller(rig)), 0);
    (void)fl_manager_pump(rig->manager);
    assert_int_equal(rig_process_all(rig), 1);
    assert_int_equal(rig->steps, 2);
}

/* A cache that does not catch up within five seconds is believed. */
static void test_does_not_wait_for_ever(void **state)
{
    struct rig *rig = *state;

    rig->step = say_loaded;
    (void)rig_ship(rig, "boat", "{}");
    (void)rig_settle(rig);
    rig->knob = 1;
    enqueue(rig);
    assert_int_equal(rig_process_all(rig), 1);
    enqueue(rig);
    assert_int_equal(rig_process_all(rig), 1);
    assert_int_equal(rig->steps, 2);
    (void)fl_plane_advance(rig->plane, FL_OWN_WRITE_WAIT_MS - 1);
    assert_int_equal(rig_process_all(rig), 0);
    (void)fl_plane_advance(rig->plane, 1);
    assert_int_equal(rig_process_all(rig), 1);
    assert_int_equal(rig->steps, 3);
    (void)rig_run_for(rig, 1000);
    assert_int_equal(fl_json_int(rig_get(rig, BOAT), "status.loaded", 0), 1);
}

/* Children. */

static int load_barrels(struct rig *rig, struct fl_reconcile *rc, struct ship *ship,
                        struct fl_error *err);

static bool is_wanted(void *user, const void *child)
{
    const struct fl_child_list *wanted = user;
    const struct barrel *barrel = child;

    for (size_t i = 0; i < wanted->count; i++)
        if (fl_streq(wanted->names[i], barrel->meta.name))
            return true;
    return false;
}

static int load_barrels(struct rig *rig, struct fl_reconcile *rc, struct ship *ship,
                        struct fl_error *err)
{
    struct fl_child_list wanted = {.count = (size_t)ship->spec.barrels};
    int r;

    (void)rig;
    wanted.names = fl_new_array(rc->arena, const char *, wanted.count);
    for (size_t i = 0; i < wanted.count; i++) {
        struct barrel *barrel = fl_object_new(&barrel_type, rc->arena);

        barrel->spec.text = ship->spec.text;
        r = fl_apply_child(rc, &barrel_type, fl_arena_printf(rc->arena, "barrel-%zu", i), barrel,
                           NULL, err);
        if (r < 0)
            return r;
        wanted.names[i] = barrel->meta.name;
    }
    r = fl_prune_children(rc, &barrel_type, is_wanted, &wanted, err);
    if (r < 0)
        return r;
    return r > 0 ? fl_not_yet(rc, "Loaded", "Pruning", "%d to go", r) : FL_STEP_DONE;
}

static void test_children(void **state)
{
    struct rig *rig = *state;
    const json_t *barrel;
    const char *path;

    rig->step = load_barrels;
    (void)rig_ship(rig, "boat", "{\"barrels\":3,\"text\":\"tea\"}");
    (void)rig_run_for(rig, 1000);
    assert_int_equal(rig_count(rig, BARRELS), 3);
    barrel = json_array_get(json_object_get(rig_get(rig, BARRELS), "items"), 0);
    assert_string_equal(fl_json_str(barrel, "spec.text"), "tea");
    assert_string_equal(json_string_value(json_object_get(fl_json_path(barrel, "metadata.labels"),
                                                          "flops.dev/role")),
                        "barrel-0");
    assert_string_equal(
        fl_json_str(json_array_get(fl_json_path(barrel, "metadata.ownerReferences"), 0), "name"),
        "boat");
    path = fl_arena_printf(rig->arena, BARRELS "/%s", fl_json_str(barrel, "metadata.name"));

    rig->calls = 0; /* nothing to do: no call */
    enqueue(rig);
    assert_int_equal(rig_settle(rig), 1);
    assert_int_equal(rig->calls, 0);

    (void)rig_patch(rig, path, "{\"spec\":{\"text\":\"coffee\"}}"); /* drift */
    (void)rig_settle(rig);
    assert_string_equal(fl_json_str(rig_get(rig, path), "spec.text"), "tea");

    (void)rig_delete(rig, path); /* gone: made again, under the same name */
    (void)rig_settle(rig);
    assert_string_equal(fl_json_str(rig_get(rig, path), "spec.text"), "tea");

    (void)rig_patch(rig, BOAT, "{\"spec\":{\"barrels\":1,\"text\":null}}"); /* a field less */
    (void)rig_run_for(rig, 1000);
    assert_int_equal(rig_count(rig, BARRELS), 1);
    barrel = json_array_get(json_object_get(rig_get(rig, BARRELS), "items"), 0);
    assert_null(fl_json_path(barrel, "spec.text"));
    assert_ready(rig, BOAT, "True", "Ready");
}

static bool is_none_wanted(void *user, const void *child)
{
    (void)user;
    (void)child;
    return false;
}

static int prune_by_knob(struct rig *rig, struct fl_reconcile *rc, struct ship *ship,
                         struct fl_error *err)
{
    int r;

    if (rig->knob == 0)
        return load_barrels(rig, rc, ship, err);
    r = fl_prune_children(rc, &barrel_type, is_none_wanted, NULL, err);
    return r > 0 ? fl_not_yet(rc, "Loaded", "Pruning", "%d to go", r) : r;
}

/* The cache still shows a child that went, and somebody else's object has its name: not ours to
 * delete. */
static void test_prune_takes_no_other(void **state)
{
    struct rig *rig = *state;
    const char *name, *path;

    rig->step = prune_by_knob;
    (void)rig_ship(rig, "boat", "{\"barrels\":1}");
    (void)rig_settle(rig);
    name = fl_json_str(json_array_get(json_object_get(rig_get(rig, BARRELS), "items"), 0),
                       "metadata.name");
    path = fl_arena_printf(rig->arena, BARRELS "/%s", name);
    rig->knob = 1;
    (void)rig_delete(rig, path);
    (void)rig_try(rig, "POST", BARRELS, "application/json",
                  fl_arena_printf(rig->arena,
                                  "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Barrel\","
                                  "\"metadata\":{\"name\":\"%s\"},\"spec\":{}}",
                                  name),
                  NULL);
    enqueue(rig);
    assert_true(fl_controller_process_next(controller(rig)));
    assert_condition(rig, BOAT, "Ready", "False", "Pruning", NULL);
    assert_false(rig_is_gone(rig, path));
    (void)rig_run_for(rig, 1000);
    assert_false(rig_is_gone(rig, path));
    assert_ready(rig, BOAT, "True", "Ready");
}

static int read_peers(struct rig *rig, struct fl_reconcile *rc, struct ship *ship,
                      struct fl_error *err)
{
    void *cached = NULL, *live = NULL;
    int r;

    (void)rig;
    if (!ship->spec.text)
        return FL_STEP_DONE;
    r = fl_read_cached(rc, &ship_type, "default", ship->spec.text, &cached, err);
    if (r == 0)
        r = fl_read_live(rc, &ship_type, "default", ship->spec.text, &live, err);
    if (r < 0)
        return fl_failed(rc, "Loaded", "PeerNotFound", err);
    ship->status.loaded =
        ((struct ship *)cached)->spec.barrels + ((struct ship *)live)->spec.barrels;
    ship->status.has_loaded = true;
    return FL_STEP_DONE;
}

static void test_reading(void **state)
{
    struct rig *rig = *state;

    rig->step = read_peers;
    (void)rig_ship(rig, "boat", "{\"text\":\"raft\"}");
    (void)rig_run_for(rig, 1000);
    assert_ready(rig, BOAT, "False", "PeerNotFound");
    (void)rig_ship(rig, "raft", "{\"barrels\":4}");
    (void)rig_run_for(rig, 300000);
    assert_ready(rig, BOAT, "True", "Ready");
    assert_int_equal(fl_json_int(rig_get(rig, BOAT), "status.loaded", 0), 8);
}

/* Wakes. */

static void text_of(const json_t *object, fl_index_emit_fn *emit, void *user)
{
    const char *text = fl_json_str(object, "spec.text");

    if (text)
        emit(user, text);
}

static const struct fl_cache_index by_text[] = {{"text", text_of}};

/* A Secret wakes the ships whose text names it. */
static void ships_of(struct fl_cache *cache, const json_t *object, fl_wake_add_fn *add, void *user)
{
    FL_CLEANUP(fl_list_finish) struct fl_list list = {0};

    fl_cache_list_by(cache, "text", fl_json_str(object, "metadata.name"), &list);
    for (size_t i = 0; i < list.count; i++)
        add(user, list.objects[i]->ns, list.objects[i]->name);
}

static void put_secret(struct rig *rig, const char *name)
{
    (void)rig_try(rig, "POST", "/api/v1/namespaces/default/secrets", "application/json",
                  fl_arena_printf(rig->arena,
                                  "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":"
                                  "{\"name\":\"%s\"}}",
                                  name),
                  NULL);
}

static void test_mapped_wakes(void **state)
{
    struct rig *rig = *state;

    rig->ops.wakes[0] = (struct fl_wake){.gvr = fl_gvr_secrets, .map = ships_of};
    rig->ops.indexes = by_text;
    rig->ops.index_count = 1;
    rig_restart(rig);
    (void)rig_ship(rig, "boat", "{\"text\":\"token\"}");
    (void)rig_ship(rig, "raft", "{\"text\":\"token\"}");
    (void)rig_ship(rig, "tug", "{\"text\":\"other\"}");
    (void)rig_settle(rig);
    put_secret(rig, "unknown");
    assert_int_equal(rig_settle(rig), 0);
    put_secret(rig, "token");
    assert_int_equal(rig_settle(rig), 2);
    (void)rig_delete(rig, "/api/v1/namespaces/default/secrets/token");
    assert_int_equal(rig_settle(rig), 2);
}

/* A cache that was made without a kind's indexes cannot get them later. */
static void test_indexes_come_first(void **state)
{
    struct rig *rig = *state;
    struct fl_kind_ops ops = rig_ops();
    struct fl_error err = {0};

    ops.indexes = by_text;
    ops.index_count = 1;
    assert_int_equal(fl_manager_add(rig->manager, &ops, rig, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "ship"));
}

/* Others. */

/* The same struct, in no namespace. */
static const struct fl_kind_type harbour_type = {
    .group = "test.dev",
    .version = "v1",
    .kind = "Harbour",
    .plural = "harbours",
    .fields = ship_fields,
    .size = sizeof(struct ship),
};

static void test_cluster_scoped(void **state)
{
    static const char *const harbour = "/apis/test.dev/v1/harbours/kiel";
    struct rig *rig = *state;

    rig->ops.type = &harbour_type;
    rig_restart(rig);
    (void)rig_try(rig, "POST", "/apis/test.dev/v1/harbours", "application/json",
                  "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Harbour\",\"metadata\":{"
                  "\"name\":\"kiel\"},\"spec\":{}}",
                  NULL);
    (void)rig_settle(rig);
    assert_ready(rig, harbour, "True", "Ready");
    assert_int_equal(fl_manager_write_events(rig->manager), 1);
    assert_int_equal(rig_count(rig, EVENTS), 1);
    fl_manager_enqueue(rig->manager, "ship", NULL, "kiel");
    assert_int_equal(rig_settle(rig), 1);
    (void)rig_delete(rig, harbour);
    (void)rig_settle(rig);
    assert_true(rig_is_gone(rig, harbour));
}

static void test_unreadable(void **state)
{
    struct rig *rig = *state;

    (void)rig_ship(rig, "boat", "{\"barrels\":\"many\"}");
    (void)rig_run_for(rig, 1000);
    assert_int_equal(rig->steps, 0);
    assert_true(fl_manager_write_events(rig->manager) > 0);
    assert_int_equal(rig_count(rig, EVENTS), 1);
    (void)rig_patch(rig, BOAT, "{\"spec\":{\"barrels\":1}}");
    (void)rig_settle(rig);
    assert_ready(rig, BOAT, "True", "Ready");
}

static void test_ready_is_told(void **state)
{
    struct rig *rig = *state;
    const json_t *items, *event;

    rig->step = by_knob;
    rig->knob = 2;
    (void)rig_ship(rig, "boat", "{}");
    (void)rig_settle(rig);
    rig->knob = 0;
    enqueue(rig);
    (void)rig_settle(rig);
    enqueue(rig);
    (void)rig_settle(rig);
    assert_int_equal(fl_manager_write_events(rig->manager), 2);
    items = json_object_get(rig_get(rig, EVENTS), "items");
    assert_int_equal(json_array_size(items), 2);
    event = json_array_get(items, 0);
    assert_string_equal(fl_json_str(event, "reason"), "TooHeavy");
    assert_string_equal(fl_json_str(event, "type"), "Warning");
    assert_string_equal(fl_json_str(event, "message"), "it sinks");
    assert_string_equal(fl_json_str(event, "involvedObject.kind"), "Ship");
    assert_string_equal(fl_json_str(event, "reportingComponent"), "ship");
}

/* A table that lacks what it needs is refused. */
static void test_refused_tables(void **state)
{
    struct rig *rig = *state;
    struct fl_kind_ops good = rig_ops();
    struct fl_kind_ops bad[6] = {good, good, good, good, good, good};
    struct fl_error err;

    bad[0].controller = NULL;
    bad[1].conditions_offset = 0;
    bad[2].steps[0] = NULL;
    bad[3].finalize = NULL;
    bad[4].is_suspended = NULL;
    bad[5].type = &barrel_type;
    for (size_t i = 0; i < FL_COUNT_OF(bad); i++) {
        err = (struct fl_error){0};
        assert_int_equal(fl_manager_add(rig->manager, &bad[i], rig, &err), FL_E_INVALID);
        assert_true(err.msg[0] != '\0');
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ready),
        TEST(test_finalizer_comes_first),
        TEST(test_own_writes_do_not_wake),
        TEST(test_noop_asks_nothing),
        TEST(test_unknown_fields_survive),
        TEST(test_tampering),
        TEST(test_progress),
        TEST(test_transition_time),
        TEST(test_retryable_error),
        TEST(test_terminal_error),
        TEST(test_conflicts_are_silent),
        TEST(test_status_is_written_beside_annotations),
        TEST(test_failed_names_its_condition),
        TEST(test_requeue_after),
        TEST(test_suspend),
        TEST(test_finalize),
        TEST(test_foreign_finalizer),
        TEST(test_recreated_under_the_name),
        TEST(test_stale_status_is_refused),
        TEST(test_waits_for_own_write),
        TEST(test_does_not_wait_for_ever),
        TEST(test_children),
        TEST(test_prune_takes_no_other),
        TEST(test_reading),
        TEST(test_mapped_wakes),
        TEST(test_indexes_come_first),
        TEST(test_cluster_scoped),
        TEST(test_unreadable),
        TEST(test_ready_is_told),
        TEST(test_refused_tables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
