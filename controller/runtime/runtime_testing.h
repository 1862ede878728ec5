/* Shared by the runtime's tests: an API server on a simulated loop over a memory store, a manager
 * that the test steps, and a kind whose steps the test writes: a Ship, which may own Barrels.
 *
 * Time stands still until the test moves it; everything runs on the test's thread. */
#ifndef FL_CONTROLLER_RUNTIME_TESTING_H
#define FL_CONTROLLER_RUNTIME_TESTING_H

#include "controller/client/client_testing.h"
#include "controller/runtime/internal.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define SHIPS     "/apis/test.dev/v1/namespaces/default/ships"
#define BARRELS   "/apis/test.dev/v1/namespaces/default/barrels"
#define EVENTS    "/api/v1/namespaces/default/events"
#define LEASES    "/apis/coordination.k8s.io/v1/namespaces/default/leases"
#define FINALIZER "test.dev/ship"

/* The kinds. */

struct ship {
    struct fl_object_meta meta;
    struct {
        int64_t barrels;
        const char *text;
        bool suspend;
    } spec;
    struct {
        int64_t observed_generation;
        bool has_observed_generation;
        struct fl_condition_list conditions;
        int64_t loaded;
        bool has_loaded;
        const char *port;
    } status;
};

struct barrel {
    struct fl_object_meta meta;
    struct {
        const char *text;
        int64_t weight;
    } spec;
};

static const char *const testing_statuses[] = {"True", "False", "Unknown", NULL};

static const struct fl_field testing_condition_fields[] = {
    {.name = "type", .type = FL_F_STRING, .offset = offsetof(struct fl_condition, type)},
    {.name = "status",
     .type = FL_F_ENUM,
     .offset = offsetof(struct fl_condition, status),
     .values = testing_statuses},
    {.name = "observedGeneration",
     .type = FL_F_INT,
     .offset = offsetof(struct fl_condition, observed_generation),
     .has_offset = offsetof(struct fl_condition, has_observed_generation)},
    {.name = "lastTransitionTime",
     .type = FL_F_TIME,
     .offset = offsetof(struct fl_condition, last_transition_time)},
    {.name = "reason", .type = FL_F_STRING, .offset = offsetof(struct fl_condition, reason)},
    {.name = "message", .type = FL_F_STRING, .offset = offsetof(struct fl_condition, message)},
    {.name = NULL},
};

#define SHIP_AT(part, member) (offsetof(struct ship, part.member) - offsetof(struct ship, part))

static const struct fl_field ship_spec_fields[] = {
    {.name = "barrels", .type = FL_F_INT, .offset = SHIP_AT(spec, barrels), .def = "0"},
    {.name = "text", .type = FL_F_STRING, .offset = SHIP_AT(spec, text)},
    {.name = "suspend", .type = FL_F_BOOL, .offset = SHIP_AT(spec, suspend), .def = "false"},
    {.name = NULL},
};

static const struct fl_field ship_status_fields[] = {
    {.name = "observedGeneration",
     .type = FL_F_INT,
     .offset = SHIP_AT(status, observed_generation),
     .has_offset = SHIP_AT(status, has_observed_generation)},
    {.name = "conditions",
     .type = FL_F_LIST,
     .offset = SHIP_AT(status, conditions),
     .element = FL_F_OBJECT,
     .fields = testing_condition_fields,
     .size = sizeof(struct fl_condition)},
    {.name = "loaded",
     .type = FL_F_INT,
     .offset = SHIP_AT(status, loaded),
     .has_offset = SHIP_AT(status, has_loaded)},
    {.name = "port", .type = FL_F_STRING, .offset = SHIP_AT(status, port)},
    {.name = NULL},
};

static const struct fl_field ship_fields[] = {
    {.name = "spec",
     .type = FL_F_OBJECT,
     .offset = offsetof(struct ship, spec),
     .fields = ship_spec_fields,
     .size = sizeof(((struct ship *)0)->spec)},
    {.name = "status",
     .type = FL_F_OBJECT,
     .offset = offsetof(struct ship, status),
     .fields = ship_status_fields,
     .size = sizeof(((struct ship *)0)->status)},
    {.name = NULL},
};

#define BARREL_AT(member) (offsetof(struct barrel, spec.member) - offsetof(struct barrel, spec))

static const struct fl_field barrel_spec_fields[] = {
    {.name = "text", .type = FL_F_STRING, .offset = BARREL_AT(text)},
    {.name = "weight", .type = FL_F_INT, .offset = BARREL_AT(weight), .def = "1"},
    {.name = NULL},
};

static const struct fl_field barrel_fields[] = {
    {.name = "spec",
     .type = FL_F_OBJECT,
     .offset = offsetof(struct barrel, spec),
     .fields = barrel_spec_fields,
     .size = sizeof(((struct barrel *)0)->spec)},
    {.name = NULL},
};

static const struct fl_kind_type ship_type = {
    .group = "test.dev",
    .version = "v1",
    .kind = "Ship",
    .plural = "ships",
    .namespaced = true,
    .fields = ship_fields,
    .size = sizeof(struct ship),
};

static const struct fl_kind_type barrel_type = {
    .group = "test.dev",
    .version = "v1",
    .kind = "Barrel",
    .plural = "barrels",
    .namespaced = true,
    .fields = barrel_fields,
    .size = sizeof(struct barrel),
};

#define TESTING_DEFINITION(plural, kind, scope)                                                    \
    "{\"apiVersion\":\"apiextensions.k8s.io/v1\",\"kind\":\"CustomResourceDefinition\","           \
    "\"metadata\":{\"name\":\"" plural ".test.dev\"},\"spec\":{\"group\":\"test.dev\","            \
    "\"scope\":\"" scope "\",\"names\":{\"plural\":\"" plural "\",\"kind\":\"" kind "\"},"         \
    "\"versions\":[{\"name\":\"v1\",\"served\":true,\"storage\":true,"                             \
    "\"subresources\":{\"status\":{}},\"schema\":{\"openAPIV3Schema\":{\"type\":\"object\","       \
    "\"properties\":{\"spec\":{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true}" \
    ",\"status\":{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true}}}}}]}}"

static const char *const testing_definitions[] = {
    TESTING_DEFINITION("ships", "Ship", "Namespaced"),
    TESTING_DEFINITION("barrels", "Barrel", "Namespaced"),
    TESTING_DEFINITION("harbours", "Harbour", "Cluster")};

/* The rig. */

struct rig;
typedef int rig_step_fn(struct rig *rig, struct fl_reconcile *rc, struct ship *ship,
                        struct fl_error *err);

struct rig {
    struct fl_plane *plane;
    struct fl_client_faults faults;
    const struct fl_env *env;
    struct fl_apiclient *client; /* of the manager; it fails when told to */
    int calls;                   /* of it */
    struct fl_metric_registry *metrics;
    struct fl_manager *manager;
    struct fl_arena *arena;
    struct fl_kind_ops ops;
    rig_step_fn *step, *suspend, *finalize; /* NULL: done at once */
    int steps, suspends, finalizes;         /* how often they ran */
    int64_t knob;                           /* for steps */
};

static inline int rig_run_step(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct rig *rig = rc->user;

    rig->steps++;
    return rig->step ? rig->step(rig, rc, object, err) : FL_STEP_DONE;
}

static inline int rig_run_suspend(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct rig *rig = rc->user;

    rig->suspends++;
    return rig->suspend ? rig->suspend(rig, rc, object, err) : FL_STEP_DONE;
}

static inline int rig_run_finalize(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct rig *rig = rc->user;

    rig->finalizes++;
    return rig->finalize ? rig->finalize(rig, rc, object, err) : FL_STEP_DONE;
}

static inline bool rig_is_suspended(const void *object)
{
    return ((const struct ship *)object)->spec.suspend;
}

static inline struct fl_kind_ops rig_ops(void)
{
    return (struct fl_kind_ops){
        .controller = "ship",
        .type = &ship_type,
        FL_STATUS_OF(struct ship),
        .finalizer = FINALIZER,
        .wakes = {{.gvr = {"test.dev", "v1", "barrels", true}}},
        .is_suspended = rig_is_suspended,
        .suspend = rig_run_suspend,
        .steps = {rig_run_step},
        .finalize = rig_run_finalize,
    };
}

static inline void rig_make_manager(struct rig *rig)
{
    struct fl_error err = {0};
    struct fl_manager_options options = {
        .env = rig->env, .client = rig->client, .metrics = rig->metrics};

    if (fl_manager_create(&options, &rig->manager, &err) < 0 ||
        fl_manager_add(rig->manager, &rig->ops, rig, &err) < 0)
        fail_msg("%s", err.msg);
}

/* A process that ended and came back: all that was in memory is gone. */
static inline void rig_restart(struct rig *rig)
{
    fl_manager_destroy(FL_TAKE(rig->manager));
    rig_make_manager(rig);
}

static inline int rig_count_call(void *user, const struct fl_client_moment *moment)
{
    struct rig *rig = user;

    if (moment->use == FL_CLIENT_CALL && !moment->after)
        rig->calls++;
    return 0;
}

static inline struct rig *rig_create(uint64_t seed)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));
    struct fl_plane_options options = {
        .simulated = true,
        .seed = seed,
        .definitions = testing_definitions,
        .definition_count = FL_COUNT_OF(testing_definitions),
    };
    struct fl_error err = {0};

    if (fl_plane_create(&options, &rig->plane, &err) < 0)
        fail_msg("%s", err.msg);
    rig->env = &rig->plane->env;
    rig->arena = fl_arena_create();
    rig->metrics = fl_metrics_registry_create();
    rig->faults = (struct fl_client_faults){.moment = rig_count_call, .user = rig};
    rig->client = fl_apiclient_create_faulty(rig->env, rig->plane->client, &rig->faults);
    return rig;
}

static inline void rig_destroy(struct rig *rig)
{
    fl_manager_destroy(rig->manager);
    fl_apiclient_destroy(rig->client);
    fl_plane_destroy(rig->plane);
    fl_metrics_registry_destroy(rig->metrics);
    fl_arena_destroy(rig->arena);
    free(rig);
}

static inline int rig_setup(void **state)
{
    struct rig *rig = rig_create(1);

    rig->ops = rig_ops();
    rig_make_manager(rig);
    *state = rig;
    return 0;
}

static inline int rig_teardown(void **state)
{
    rig_destroy(*state);
    return 0;
}

/* Steps. */

static inline size_t rig_process_all(struct rig *rig)
{
    size_t passes = 0;

    for (size_t i = 0; i < fl_manager_controller_count(rig->manager); i++)
        while (fl_controller_process_next(fl_manager_controller(rig->manager, i)))
            passes++;
    return passes;
}

/* Until nothing is to be done at this time; how many passes ran. */
static inline size_t rig_settle(struct rig *rig)
{
    size_t passes = 0, done, turns = 0;

    do {
        size_t now;

        assert_true(fl_plane_settle(rig->plane));
        done = fl_manager_pump(rig->manager);
        now = rig_process_all(rig);
        passes += now;
        done += now;
        if (++turns > 1000)
            fail_msg("it never settles");
    } while (done > 0);
    return passes;
}

static inline size_t rig_advance(struct rig *rig, int64_t ms)
{
    assert_true(fl_plane_advance(rig->plane, ms));
    return rig_settle(rig);
}

/* Back-offs pass, each pass when it is due. */
static inline size_t rig_run_for(struct rig *rig, int64_t ms)
{
    int64_t end = fl_monotonic_ms(rig->env) + ms;
    size_t passes = rig_settle(rig);

    for (;;) {
        int64_t due = fl_manager_next_due_ms(rig->manager), now = fl_monotonic_ms(rig->env);

        if (due >= end)
            break;
        passes += rig_advance(rig, due > now ? due - now : 1);
    }
    if (end > fl_monotonic_ms(rig->env))
        passes += rig_advance(rig, end - fl_monotonic_ms(rig->env));
    return passes;
}

/* The API. */

/* NULL and a code where it fails. */
static inline json_t *rig_try(struct rig *rig, const char *method, const char *target,
                              const char *type, const char *body, int *ret_code)
{
    struct fl_error err = {0};
    json_t *value = NULL;
    int r = fl_apiclient_call(rig->plane->client,
                              &(struct fl_api_call){.method = method,
                                                    .target = target,
                                                    .content_type = body ? type : NULL,
                                                    .body = body,
                                                    .body_len = body ? strlen(body) : 0},
                              &value, &err);

    if (ret_code)
        *ret_code = r;
    else if (r < 0)
        fail_msg("%s %s: %s", method, target, err.msg);
    return r < 0 ? NULL : fl_json_in_arena(rig->arena, value);
}

static inline json_t *rig_get(struct rig *rig, const char *target)
{
    return rig_try(rig, "GET", target, NULL, NULL, NULL);
}

static inline bool rig_is_gone(struct rig *rig, const char *target)
{
    int code;

    (void)rig_try(rig, "GET", target, NULL, NULL, &code);
    return code == FL_E_NOT_FOUND;
}

static inline json_t *rig_patch(struct rig *rig, const char *target, const char *body)
{
    return rig_try(rig, "PATCH", target, "application/merge-patch+json", body, NULL);
}

static inline json_t *rig_delete(struct rig *rig, const char *target)
{
    return rig_try(rig, "DELETE", target, NULL, NULL, NULL);
}

/* `spec` as JSON. */
static inline json_t *rig_ship(struct rig *rig, const char *name, const char *spec)
{
    const char *body = fl_arena_printf(rig->arena,
                                       "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Ship\","
                                       "\"metadata\":{\"name\":\"%s\"},\"spec\":%s}",
                                       name, spec);

    return rig_try(rig, "POST", SHIPS, "application/json", body, NULL);
}

static inline size_t rig_count(struct rig *rig, const char *target)
{
    return json_array_size(json_object_get(rig_get(rig, target), "items"));
}

/* Checks. */

static inline const json_t *condition_of(const json_t *object, const char *type)
{
    json_t *condition;
    size_t i;

    json_array_foreach(fl_json_path(object, "status.conditions"), i, condition)
        if (fl_streq(fl_json_str(condition, "type"), type))
            return condition;
    return NULL;
}

/* `status` NULL: there is none. `reason` and `message` NULL: any. */
static inline void assert_condition(struct rig *rig, const char *target, const char *type,
                                    const char *status, const char *reason, const char *message)
{
    const json_t *object = rig_get(rig, target), *condition = condition_of(object, type);

    if (!status) {
        assert_null(condition);
        return;
    }
    if (!condition)
        fail_msg("no condition %s", type);
    assert_string_equal(fl_json_str(condition, "status"), status);
    if (reason)
        assert_string_equal(fl_json_str(condition, "reason"), reason);
    if (message)
        assert_string_equal(fl_json_str(condition, "message"), message);
    assert_int_equal(fl_json_int(condition, "observedGeneration", -1),
                     fl_json_int(object, "metadata.generation", -2));
    assert_int_equal(fl_json_int(object, "status.observedGeneration", -1),
                     fl_json_int(object, "metadata.generation", -2));
}

static inline void assert_ready(struct rig *rig, const char *target, const char *status,
                                const char *reason)
{
    assert_condition(rig, target, FL_CONDITION_READY, status, reason, NULL);
}

static inline void assert_kstatus(struct rig *rig, const char *target, bool reconciling,
                                  bool stalled)
{
    assert_condition(rig, target, FL_CONDITION_RECONCILING, reconciling ? "True" : NULL, NULL,
                     NULL);
    assert_condition(rig, target, FL_CONDITION_STALLED, stalled ? "True" : NULL, NULL, NULL);
}

static inline bool rig_metric_is(struct rig *rig, const char *line)
{
    struct fl_buf text;
    bool found;

    fl_buf_init(&text, 0);
    fl_metrics_registry_write(rig->metrics, &text);
    found = strstr(fl_buf_text(&text), line) != NULL;
    fl_buf_finish(&text);
    return found;
}

#endif
