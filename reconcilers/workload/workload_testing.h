/* Shared by the tests of Workload and Orchestrator: an API server with our definitions in simulated
 * time, a manager that is stepped with both kinds, and the fake orchestrator under `local`. */
#ifndef FL_RECONCILERS_WORKLOAD_TESTING_H
#define FL_RECONCILERS_WORKLOAD_TESTING_H

#include "api/gen/crds_embedded.h"
#include "controller/client/client_testing.h"
#include "lib/str.h"
#include "lib/yaml.h"
#include "reconcilers/orchestrator/orchestrator.h"
#include "reconcilers/workload/orchestrator_fake.h"
#include "reconcilers/workload/workload.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define WORKLOADS     "/apis/flops.dev/v1alpha1/namespaces/default/workloads"
#define ORCHESTRATORS "/apis/flops.dev/v1alpha1/orchestrators"
#define EDGENODES     "/apis/flops.dev/v1alpha1/edgenodes"
#define EDGECLUSTERS  "/apis/flops.dev/v1alpha1/edgeclusters"
#define SECRETS       "/api/v1/namespaces/default/secrets"

struct rig {
    struct fl_plane *plane;
    struct fl_client_faults faults;
    struct fl_apiclient *client; /* of the manager */
    int calls;                   /* of it */
    struct fl_arena *arena;
    struct fl_fake_world *world;
    struct fl_orchestrators *orchestrators;
    struct fl_manager *manager;
    struct fl_workload_controller *workloads;
    struct fl_orchestrator_controller *controller;
    /* What programs do; the test's. */
    struct fl_fake_plan plan;
    struct fl_run_env seen_env[8]; /* of the last start; copies */
    size_t seen_env_count;
    struct fl_run_file seen_file;
    int64_t starts;
};

static inline void rig_plan(void *user, const struct fl_run_spec *spec, struct fl_fake_plan *plan)
{
    struct rig *rig = user;

    *plan = rig->plan;
    rig->starts++;
    rig->seen_env_count = 0;
    for (size_t i = 0; i < spec->env_count && i < FL_COUNT_OF(rig->seen_env); i++)
        rig->seen_env[rig->seen_env_count++] =
            (struct fl_run_env){fl_arena_strdup(rig->arena, spec->env[i].name),
                                fl_arena_strdup(rig->arena, spec->env[i].value)};
    if (spec->file_count > 0) {
        rig->seen_file = spec->files[0];
        rig->seen_file.data = fl_arena_strndup(rig->arena, spec->files[0].data, spec->files[0].len);
    }
}

static inline int rig_count_call(void *user, const struct fl_client_moment *moment)
{
    struct rig *rig = user;

    if (moment->use == FL_CLIENT_CALL && !moment->after)
        rig->calls++;
    return 0;
}

/* The controllers' process, so to speak. */

static inline void rig_begin(struct rig *rig)
{
    struct fl_manager_options options = {.env = &rig->plane->env, .client = rig->client};
    struct fl_error err = {0};

    rig->orchestrators = fl_orchestrators_create();
    fl_orchestrators_register(rig->orchestrators, "Local", fl_fake_orchestrator_make, rig->world);
    if (fl_manager_create(&options, &rig->manager, &err) < 0 ||
        fl_workload_controller_create(rig->manager, rig->orchestrators, &rig->workloads, &err) <
            0 ||
        fl_orchestrator_controller_create(rig->manager, rig->orchestrators, &rig->controller,
                                          &err) < 0)
        fail_msg("%s", err.msg);
}

static inline void rig_end(struct rig *rig)
{
    fl_manager_destroy(FL_TAKE(rig->manager));
    fl_workload_controller_destroy(FL_TAKE(rig->workloads));
    fl_orchestrator_controller_destroy(FL_TAKE(rig->controller));
    fl_orchestrators_destroy(FL_TAKE(rig->orchestrators));
}

static inline void rig_put_node(struct rig *rig, const char *cluster, const char *name)
{
    fl_fake_world_put_node(rig->world, &(struct fl_node){.cluster = cluster,
                                                         .name = name,
                                                         .ready = true,
                                                         .runs_processes = true,
                                                         .runs_images = true,
                                                         .capacity = {.cpu_milli = 4000}});
}

static inline int rig_setup(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));
    const char *definitions[FL_EMBEDDED_CRD_COUNT];
    struct fl_plane_options options = {.simulated = true,
                                       .seed = 1,
                                       .definitions = definitions,
                                       .definition_count = FL_EMBEDDED_CRD_COUNT};
    struct fl_error err = {0};

    for (size_t i = 0; i < FL_EMBEDDED_CRD_COUNT; i++)
        definitions[i] = fl_embedded_crds[i].json;
    if (fl_plane_create(&options, &rig->plane, &err) < 0)
        fail_msg("%s", err.msg);
    rig->arena = fl_arena_create();
    rig->faults = (struct fl_client_faults){.moment = rig_count_call, .user = rig};
    rig->client = fl_apiclient_create_faulty(&rig->plane->env, rig->plane->client, &rig->faults);
    rig->world = fl_fake_world_create(&rig->plane->env);
    rig->plan = (struct fl_fake_plan){.start_ms = 100, .ready_ms = 100, .run_ms = -1};
    fl_fake_world_on_plan(rig->world, rig_plan, rig);
    rig_put_node(rig, "c", "a");
    rig_begin(rig);
    if (fl_orchestrator_ensure_local(rig->client, &err) < 0)
        fail_msg("%s", err.msg);
    *state = rig;
    return 0;
}

static inline int rig_teardown(void **state)
{
    struct rig *rig = *state;

    rig_end(rig);
    fl_fake_world_destroy(rig->world);
    fl_apiclient_destroy(rig->client);
    fl_plane_destroy(rig->plane);
    fl_arena_destroy(rig->arena);
    free(rig);
    return 0;
}

static inline void rig_restart(struct rig *rig)
{
    rig_end(rig);
    rig_begin(rig);
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

/* Until nothing is to be done at this time. */
static inline size_t rig_settle(struct rig *rig)
{
    size_t passes = 0, done, turns = 0;

    do {
        size_t now;

        assert_true(fl_plane_settle(rig->plane));
        done = fl_fake_world_step(rig->world) + fl_manager_pump(rig->manager);
        now = rig_process_all(rig);
        passes += now;
        done += now;
        if (++turns > 1000)
            fail_msg("it never settles");
    } while (done > 0);
    return passes;
}

static inline int64_t rig_next_due_ms(struct rig *rig)
{
    int64_t due = fl_manager_next_due_ms(rig->manager);
    int64_t world = fl_fake_world_next_due_ms(rig->world);

    return world < due ? world : due;
}

static inline void rig_run_for(struct rig *rig, int64_t ms)
{
    int64_t end = fl_monotonic_ms(&rig->plane->env) + ms;

    (void)rig_settle(rig);
    for (;;) {
        int64_t due = rig_next_due_ms(rig), now = fl_monotonic_ms(&rig->plane->env);

        if (due >= end)
            break;
        assert_true(fl_plane_advance(rig->plane, due > now ? due - now : 1));
        (void)rig_settle(rig);
    }
    if (end > fl_monotonic_ms(&rig->plane->env))
        assert_true(fl_plane_advance(rig->plane, end - fl_monotonic_ms(&rig->plane->env)));
    (void)rig_settle(rig);
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

static inline void rig_delete(struct rig *rig, const char *target)
{
    (void)rig_try(rig, "DELETE", target, NULL, NULL, NULL);
}

/* `yaml` becomes JSON; strict, as kubectl asks for. */
static inline json_t *rig_send(struct rig *rig, const char *method, const char *target,
                               const char *type, const char *yaml)
{
    struct fl_error err = {0};
    json_t *object = NULL;

    if (fl_yaml_parse(yaml, strlen(yaml), NULL, &object, &err) < 0)
        fail_msg("%s: %s", yaml, err.msg);
    fl_json_in_arena(rig->arena, object);
    return rig_try(rig, method, fl_arena_printf(rig->arena, "%s?fieldValidation=Strict", target),
                   type, fl_json_to_string(rig->arena, object), NULL);
}

static inline json_t *rig_create(struct rig *rig, const char *target, const char *yaml)
{
    return rig_send(rig, "POST", target, "application/json", yaml);
}

static inline json_t *rig_patch(struct rig *rig, const char *target, const char *yaml)
{
    return rig_send(rig, "PATCH", target, "application/merge-patch+json", yaml);
}

/* A Workload `w` of these fields besides the program. Its uid. */
static inline const char *rig_workload(struct rig *rig, const char *spec)
{
    const char *yaml =
        fl_arena_printf(rig->arena,
                        "{apiVersion: flops.dev/v1alpha1, kind: Workload, metadata: {name: w}, "
                        "spec: {process: {program: x}%s%s}}",
                        *spec ? ", " : "", spec);

    return fl_json_str(rig_create(rig, WORKLOADS, yaml), "metadata.uid");
}

static inline const char *rig_patch_spec(struct rig *rig, const char *spec)
{
    return fl_json_str(
        rig_patch(rig, WORKLOADS "/w", fl_arena_printf(rig->arena, "{spec: {%s}}", spec)),
        "metadata.uid");
}

/* Checks. */

static inline const json_t *condition_of(const json_t *object, const char *type)
{
    json_t *condition;
    size_t i;

    json_array_foreach(fl_json_path(object, "status.conditions"), i, condition) {
        if (fl_streq(fl_json_str(condition, "type"), type))
            return condition;
    }
    return NULL;
}

/* "True Running"; "" where there is none. */
static inline const char *rig_condition(struct rig *rig, const char *target, const char *type)
{
    const json_t *condition = condition_of(rig_get(rig, target), type);

    if (!condition)
        return "";
    return fl_arena_printf(rig->arena, "%s %s", fl_json_str(condition, "status"),
                           fl_json_str(condition, "reason"));
}

#define assert_ready(rig, target, expected)                                                        \
    assert_string_equal(rig_condition(rig, target, "Ready"), expected)

static inline size_t rig_living(struct rig *rig)
{
    return fl_fake_world_count(rig->world, NULL).living;
}

static inline size_t rig_left(struct rig *rig)
{
    return rig_living(rig) + fl_fake_world_count(rig->world, NULL).ended;
}

#endif
