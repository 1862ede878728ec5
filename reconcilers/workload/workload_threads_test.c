/* Workloads with the manager's own threads and real time: many passes at once, one machine to
 * share. A world without programs, so nothing is waited for but passes. */
#include "reconcilers/workload/workload_testing.h"

#define WORKLOAD_COUNT 24
#define ROOM           4 /* instances that the node has room for */
#define PATIENCE_MS    60000

struct threads {
    struct fl_plane *plane;
    struct fl_arena *arena;
    struct fl_fake_world *world;
    struct fl_orchestrators *orchestrators;
    struct fl_manager *manager;
    struct fl_workload_controller *workloads;
    struct fl_orchestrator_controller *controller;
    struct fl_lock *lock; /* only to wait with */
    struct fl_signal *never;
};

static void at_once(void *user, const struct fl_run_spec *spec, struct fl_fake_plan *plan)
{
    (void)user;
    (void)spec;
    *plan = (struct fl_fake_plan){.run_ms = -1};
}

/* Between a look at the nodes and what follows from it others get their turn. */
static enum fl_fake_fault dawdle(void *user, enum fl_fake_op op, bool after)
{
    (void)user;
    if (op == FL_FAKE_NODES && after) {
        struct fl_lock *lock = fl_lock_create();
        struct fl_signal *never = fl_signal_create();

        fl_lock_take(lock);
        (void)fl_signal_wait(never, lock, 2);
        fl_lock_release(lock);
        fl_signal_destroy(never);
        fl_lock_destroy(lock);
    }
    return FL_FAKE_GOOD;
}

static void begin(struct threads *t)
{
    const char *definitions[FL_EMBEDDED_CRD_COUNT];
    struct fl_plane_options plane = {.definitions = definitions,
                                     .definition_count = FL_EMBEDDED_CRD_COUNT};
    struct fl_manager_options options = {0};
    struct fl_error err = {0};

    for (size_t i = 0; i < FL_EMBEDDED_CRD_COUNT; i++)
        definitions[i] = fl_embedded_crds[i].json;
    if (fl_plane_create(&plane, &t->plane, &err) < 0)
        fail_msg("%s", err.msg);
    t->arena = fl_arena_create();
    t->lock = fl_lock_create();
    t->never = fl_signal_create();
    t->world = fl_fake_world_create(&t->plane->env);
    fl_fake_world_on_plan(t->world, at_once, NULL);
    fl_fake_world_on_fault(t->world, dawdle, NULL);
    fl_fake_world_put_node(t->world, &(struct fl_node){.cluster = "c",
                                                       .name = "a",
                                                       .ready = true,
                                                       .runs_processes = true,
                                                       .capacity = {.cpu_milli = 1000 * ROOM}});
    t->orchestrators = fl_orchestrators_create();
    fl_orchestrators_register(t->orchestrators, "Local", fl_fake_orchestrator_make, t->world);
    options.env = &t->plane->env;
    options.client = t->plane->client;
    if (fl_manager_create(&options, &t->manager, &err) < 0 ||
        fl_workload_controller_create(t->manager, t->orchestrators, &t->workloads, &err) < 0 ||
        fl_orchestrator_controller_create(t->manager, t->orchestrators, &t->controller, &err) < 0 ||
        fl_orchestrator_ensure_local(t->plane->client, &err) < 0 ||
        fl_manager_start(t->manager, &err) < 0)
        fail_msg("%s", err.msg);
}

static void end(struct threads *t)
{
    fl_manager_stop(t->manager);
    fl_manager_destroy(t->manager);
    fl_workload_controller_destroy(t->workloads);
    fl_orchestrator_controller_destroy(t->controller);
    fl_orchestrators_destroy(t->orchestrators);
    fl_fake_world_destroy(t->world);
    fl_plane_destroy(t->plane);
    fl_signal_destroy(t->never);
    fl_lock_destroy(t->lock);
    fl_arena_destroy(t->arena);
}

static void call(struct threads *t, const char *method, const char *target, const char *body)
{
    struct fl_error err = {0};

    if (fl_apiclient_call(t->plane->client,
                          &(struct fl_api_call){.method = method,
                                                .target = target,
                                                .content_type = body ? "application/json" : NULL,
                                                .body = body,
                                                .body_len = body ? strlen(body) : 0},
                          NULL, &err) < 0)
        fail_msg("%s %s: %s", method, target, err.msg);
}

static void create(struct threads *t, int i)
{
    call(t, "POST", WORKLOADS,
         fl_arena_printf(t->arena,
                         "{\"apiVersion\":\"flops.dev/v1alpha1\",\"kind\":\"Workload\","
                         "\"metadata\":{\"name\":\"w%d\"},\"spec\":{\"process\":{\"program\":\"x\"}"
                         ",\"resources\":{\"cpu\":1}}}",
                         i));
}

/* Time passes in the world, and never is more room given away than there is. */
static void let_pass(struct threads *t)
{
    FL_LOCKED(t->lock);

    (void)fl_fake_world_step(t->world);
    assert_true(fl_fake_world_count(t->world, NULL).living <= ROOM);
    (void)fl_signal_wait(t->never, t->lock, 2);
}

static void wait_for(struct threads *t, size_t living, size_t ended)
{
    struct fl_fake_counts counts = {0};
    int64_t end_ms = fl_monotonic_ms(&t->plane->env) + PATIENCE_MS;

    while (fl_monotonic_ms(&t->plane->env) < end_ms) {
        let_pass(t);
        counts = fl_fake_world_count(t->world, NULL);
        if (counts.living == living && counts.ended == ended)
            return;
    }
    fail_msg("%zu live, %zu ended; not %zu and %zu", counts.living, counts.ended, living, ended);
}

static void never_gives_away_more_than_there_is(void **state)
{
    struct threads t = {0};

    (void)state;
    begin(&t);
    for (int i = 0; i < WORKLOAD_COUNT; i++)
        create(&t, i);
    wait_for(&t, ROOM, 0);
    for (int i = 0; i < WORKLOAD_COUNT; i++) { /* each that goes makes room for another */
        int left = WORKLOAD_COUNT - i - 1;

        call(&t, "DELETE", fl_arena_printf(t.arena, WORKLOADS "/w%d", i), NULL);
        let_pass(&t);
        wait_for(&t, left < ROOM ? (size_t)left : ROOM, 0);
    }
    end(&t);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_gives_away_more_than_there_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
