/* Workloads on a fake orchestrator: made, scaled, changed, moved, suspended, deleted and made again
 * while runs end, nodes go away and the orchestrator is not always to be reached. */
#include "reconcilers/workload/workload.h"
#include "e2e/sim/sim.h"
#include "lib/str.h"
#include "reconcilers/orchestrator/orchestrator.h"
#include "reconcilers/workload/orchestrator_fake.h"

#include <inttypes.h>
#include <stdio.h>

#define NS        "default"
#define FINALIZER "flops.dev/workload"
#define NODES     2

static const struct fl_gvr workloads = {"flops.dev", "v1alpha1", "workloads", true};
static const struct fl_gvr orchestrators = {"flops.dev", "v1alpha1", "orchestrators", false};
static const struct fl_gvr *const caches[] = {&workloads, &orchestrators, NULL};
static const char *const names[] = {"ann", "bob"};
static const char *const nodes[NODES] = {"a", "b"};
static const char *const works[] = {"sow", "reap"};

static const char *const beats[] = {"orchestrators.flops.dev", "edgenodes.flops.dev",
                                    "edgeclusters.flops.dev", NULL};

struct place {
    struct sim *sim;
    struct fl_fake_world *world;
    struct fl_map *works; /* "uid/index" → what its last run was told to do */
    bool lost[NODES];
    unsigned ends_left;
    enum sim_fault fault; /* of the driver's call under way */
};

struct kinds {
    struct fl_orchestrators *orchestrators;
    struct fl_workload_controller *workloads;
    struct fl_orchestrator_controller *controller;
};

/* The orchestrator. */

static enum sim_call_kind kind_of(enum fl_fake_op op)
{
    bool changes = op == FL_FAKE_START || op == FL_FAKE_STOP || op == FL_FAKE_REMOVE;

    return changes ? SIM_CALL_DRIVER_WRITE : SIM_CALL_DRIVER_READ;
}

static enum fl_fake_fault before_call(struct place *place, struct sim_process *process,
                                      enum fl_fake_op op)
{
    static const char *const ops[] = {"configure", "nodes",  "observe",  "start",
                                      "stop",      "remove", "workloads"};

    place->fault = sim_call(process, kind_of(op), ops[op]);
    switch (place->fault) {
    case SIM_CRASH_BEFORE:
        return FL_FAKE_CRASH;
    case SIM_ERROR:
        return FL_FAKE_ERROR;
    case SIM_FORGET:
        return FL_FAKE_FORGET;
    default:
        return FL_FAKE_GOOD;
    }
}

static enum fl_fake_fault on_fault(void *user, enum fl_fake_op op, bool after)
{
    struct place *place = user;
    struct sim_process *process = place->sim->processes[0];

    if (!process)
        return FL_FAKE_GOOD;
    if (!after)
        return before_call(place, process, op);
    sim_call_done(process, place->fault);
    if (place->fault == SIM_CRASH_AFTER)
        return FL_FAKE_CRASH;
    return place->fault == SIM_LOST_ANSWER ? FL_FAKE_ERROR : FL_FAKE_GOOD;
}

static void note_work(struct place *place, const struct fl_run_spec *spec)
{
    char key[80];

    (void)snprintf(key, sizeof(key), "%s/%" PRId64, spec->id.workload_uid, spec->id.index);
    fl_map_put(place->works, key,
               fl_strdup(spec->spec->args.count ? spec->spec->args.items[0] : ""));
}

/* Some runs end by themselves soon, while the world is busy. */
static void on_plan(void *user, const struct fl_run_spec *spec, struct fl_fake_plan *plan)
{
    struct place *place = user;
    struct sim *sim = place->sim;

    sim_trace(sim, "  run %" PRId64 " of %s/%" PRId64 " begins on %s", spec->number, spec->name,
              spec->id.index, spec->node);
    if (sim->processes[0])
        sim_rule_effect(sim->processes[0], spec->id.workload_uid, FINALIZER);
    note_work(place, spec);
    *plan = (struct fl_fake_plan){.start_ms = (int64_t)sim_below(sim, 2000),
                                  .ready_ms = (int64_t)sim_below(sim, 1000),
                                  .run_ms = -1,
                                  .stop_ms = (int64_t)sim_below(sim, 3000)};
    if (sim->busy && place->ends_left > 0 && sim_chance(sim, 15)) {
        place->ends_left--;
        plan->run_ms = (int64_t)sim_below(sim, 5000);
        plan->exit = (struct fl_run_exit){.has_code = true, .code = 1, .reason = "Error"};
    }
}

static void put_node(struct place *place, const char *name)
{
    fl_fake_world_put_node(place->world, &(struct fl_node){.cluster = "c",
                                                           .name = name,
                                                           .ready = true,
                                                           .runs_processes = true,
                                                           .capacity = {.cpu_milli = 4000}});
}

static void *create(struct sim *sim)
{
    struct place *place = fl_calloc(1, sizeof(*place));

    place->sim = sim;
    place->ends_left = 5;
    place->works = fl_map_create(free);
    place->world = fl_fake_world_create(&sim->env);
    fl_fake_world_on_plan(place->world, on_plan, place);
    fl_fake_world_on_fault(place->world, on_fault, place);
    for (size_t i = 0; i < FL_COUNT_OF(nodes); i++)
        put_node(place, nodes[i]);
    sim_create(sim, &orchestrators,
               json_pack("{s:s,s:s,s:{s:s},s:{s:s}}", "apiVersion", "flops.dev/v1alpha1", "kind",
                         "Orchestrator", "metadata", "name", "local", "spec", "type", "Local"));
    return place;
}

static void destroy(void *world)
{
    struct place *place = world;

    fl_fake_world_destroy(place->world);
    fl_map_destroy(place->works);
    free(place);
}

static int join(struct sim_process *process, struct fl_error *err)
{
    struct place *place = process->sim->world;
    struct kinds *kinds = fl_calloc(1, sizeof(*kinds));
    int r;

    process->kinds = kinds;
    kinds->orchestrators = fl_orchestrators_create();
    fl_orchestrators_register(kinds->orchestrators, "Local", fl_fake_orchestrator_make,
                              place->world);
    r = fl_workload_controller_create(process->manager, kinds->orchestrators, &kinds->workloads,
                                      err);
    if (r == 0)
        r = fl_orchestrator_controller_create(process->manager, kinds->orchestrators,
                                              &kinds->controller, err);
    return r;
}

static void leave(struct sim_process *process)
{
    struct kinds *kinds = process->kinds;

    fl_workload_controller_destroy(kinds->workloads);
    fl_orchestrator_controller_destroy(kinds->controller);
    fl_orchestrators_destroy(kinds->orchestrators);
    free(kinds);
}

/* Users. */

static const char *any(struct sim *sim, const char *const *items, size_t count)
{
    return items[sim_below(sim, count)];
}

static void make(struct sim *sim, const char *name)
{
    sim_trace(sim, "user: %s is made", name);
    sim_create(sim, &workloads,
               json_pack("{s:s,s:s,s:{s:s,s:s},s:{s:{s:s},s:[s],s:i,s:{s:i}}}", "apiVersion",
                         "flops.dev/v1alpha1", "kind", "Workload", "metadata", "name", name,
                         "namespace", NS, "spec", "process", "program", "work", "args",
                         any(sim, works, FL_COUNT_OF(works)), "instances", (int)sim_below(sim, 4),
                         "restart", "limit", 100));
}

static json_t *some_change(struct sim *sim)
{
    switch (sim_below(sim, 5)) {
    case 0:
    case 1:
        return json_pack("{s:i}", "instances", (int)sim_below(sim, 4));
    case 2:
        return json_pack("{s:[s]}", "args", any(sim, works, FL_COUNT_OF(works)));
    case 3:
        return json_pack("{s:b}", "suspend", (int)sim_below(sim, 2));
    default:
        if (sim_chance(sim, 30))
            return json_pack("{s:n}", "placement");
        return json_pack("{s:{s:s}}", "placement", "node", any(sim, nodes, FL_COUNT_OF(nodes)));
    }
}

static void edit(struct sim *sim)
{
    const char *name = any(sim, names, FL_COUNT_OF(names));
    FL_JSON workload = sim_get(sim, &workloads, NS, name);

    if (!workload) {
        make(sim, name);
    } else if (sim_chance(sim, 15)) {
        sim_trace(sim, "user: %s is deleted", name);
        sim_delete(sim, &workloads, NS, name);
    } else if (sim_chance(sim, 10)) {
        sim_patch(sim, &workloads, NS, name,
                  json_pack("{s:{s:{s:s}}}", "metadata", "annotations", "sim.dev/note", "x"));
    } else {
        sim_trace(sim, "user: the spec of %s changes", name);
        sim_patch(sim, &workloads, NS, name, json_pack("{s:o}", "spec", some_change(sim)));
    }
}

/* What happens. */

static void end_some_run(struct sim *sim, struct place *place)
{
    FL_JSON items = sim_list(sim, &workloads);
    const json_t *workload;
    struct fl_run_id id;

    if (json_array_size(items) == 0 || place->ends_left == 0)
        return;
    workload = json_array_get(items, sim_below(sim, json_array_size(items)));
    id = (struct fl_run_id){fl_json_str(workload, "metadata.uid"), (int64_t)sim_below(sim, 3)};
    if (!fl_fake_world_end_run(
            place->world, &id,
            &(struct fl_run_exit){.signal = "SIGKILL", .reason = "Signal", .ended_us = 1}))
        return;
    sim_trace(sim, "the run of %s/%" PRId64 " is killed", fl_json_str(workload, "metadata.name"),
              id.index);
    place->ends_left--;
}

static void set_there(struct place *place, size_t node, bool there)
{
    if (there && place->lost[node])
        put_node(place, nodes[node]);
    else if (!there && !place->lost[node])
        fl_fake_world_remove_node(place->world, nodes[node]);
    place->lost[node] = !there;
}

static void disturb(struct sim *sim, struct place *place)
{
    size_t i = sim_below(sim, NODES);
    const char *node = nodes[i];
    bool good = sim_chance(sim, 60);

    switch (sim_below(sim, 6)) {
    case 0:
        sim_trace(sim, "node %s is %s", node, good ? "ready" : "not ready");
        if (!place->lost[i])
            fl_fake_world_set_ready(place->world, node, good);
        break;
    case 1:
        sim_trace(sim, "the orchestrator is %s", good ? "reachable" : "not reachable");
        fl_fake_world_set_reachable(place->world, good);
        break;
    case 2:
        sim_trace(sim, "node %s is %s", node, good ? "there" : "lost");
        set_there(place, i, good);
        break;
    default:
        end_some_run(sim, place);
        break;
    }
}

static bool happen(struct sim *sim, bool calm)
{
    struct place *place = sim->world;
    size_t count = fl_fake_world_step(place->world);

    if (count)
        sim_trace(sim, "%zu things happen on the orchestrator", count);
    if (!calm && sim_chance(sim, 30))
        disturb(sim, place);
    return count > 0;
}

static int64_t next_due_ms(struct sim *sim)
{
    return fl_fake_world_next_due_ms(((struct place *)sim->world)->world);
}

static void calm(struct sim *sim)
{
    struct place *place = sim->world;

    fl_fake_world_set_reachable(place->world, true);
    for (size_t i = 0; i < FL_COUNT_OF(nodes); i++) {
        set_there(place, i, true);
        fl_fake_world_set_ready(place->world, nodes[i], true);
    }
}

/* Oracles. */

struct survey {
    struct sim *sim;
    const json_t *workload;
    const char *uid;
    size_t living, right;
    struct fl_buf *why; /* of nobody's runs */
    bool orphans;
};

static bool is_right(const struct survey *survey, const struct fl_fake_item *item)
{
    const struct place *place = survey->sim->world;
    const char *node = fl_json_str(survey->workload, "spec.placement.node");
    const char *work =
        json_string_value(json_array_get(fl_json_path(survey->workload, "spec.args"), 0));
    char key[80];

    (void)snprintf(key, sizeof(key), "%s/%" PRId64, item->uid, item->index);
    return item->index < fl_json_int(survey->workload, "spec.instances", 1) && item->ready &&
           (!node || fl_streq(node, item->node)) && fl_streq(fl_map_get(place->works, key), work);
}

static void look_at(void *user, const struct fl_fake_item *item)
{
    struct survey *survey = user;

    if (!sim_object_by_uid(survey->sim, item->uid) && !survey->orphans)
        survey->orphans = !sim_wrong(survey->why, "a run of %s is nobody's", item->name);
    if (!fl_streq(item->uid, survey->uid) || item->state == FL_RUN_ENDED)
        return;
    survey->living++;
    survey->right += is_right(survey, item);
}

static bool status_right(const json_t *workload, bool ready, const char *reason, struct fl_buf *why)
{
    const char *name = fl_json_str(workload, "metadata.name");

    if (fl_json_int(workload, "status.observedGeneration", -1) !=
        fl_json_int(workload, "metadata.generation", 0))
        return sim_wrong(why, "%s: its last generation is not observed", name);
    if (!sim_is_condition(workload, "Ready", ready ? "True" : "False") ||
        !fl_streq(fl_json_str(sim_condition(workload, "Ready"), "reason"), reason))
        return sim_wrong(why, "%s: Ready is %s, not %s", name,
                         fl_str_or(fl_json_str(sim_condition(workload, "Ready"), "reason"), "?"),
                         reason);
    if (sim_is_condition(workload, "Reconciling", "True"))
        return sim_wrong(why, "%s: still Reconciling", name);
    return true;
}

static bool workload_right(struct sim *sim, const json_t *workload, struct fl_buf *why)
{
    const struct place *place = sim->world;
    const char *name = fl_json_str(workload, "metadata.name");
    bool suspended = fl_json_bool(workload, "spec.suspend", false);
    size_t wanted = suspended ? 0 : (size_t)fl_json_int(workload, "spec.instances", 1);
    struct survey survey = {.sim = sim, .workload = workload, .why = why};

    if (fl_json_str(workload, "metadata.deletionTimestamp"))
        return sim_wrong(why, "%s is still being deleted", name);
    survey.uid = fl_json_str(workload, "metadata.uid");
    fl_fake_world_each(place->world, look_at, &survey);
    if (survey.orphans)
        return false;
    if (survey.living != wanted || survey.right != wanted)
        return sim_wrong(why, "%s: %zu runs live, %zu of them right, not %zu (%s)", name,
                         survey.living, survey.right, wanted,
                         fl_str_or(fl_json_str(sim_condition(workload, "Ready"), "message"), ""));
    if (!suspended && fl_json_int(workload, "status.replicas.ready", 0) != (int64_t)wanted)
        return sim_wrong(why, "%s: status tells of %" PRId64 " ready", name,
                         fl_json_int(workload, "status.replicas.ready", 0));
    return status_right(workload, !suspended, suspended ? "Suspended" : "Running", why);
}

static bool converged(struct sim *sim, struct fl_buf *why)
{
    const struct place *place = sim->world;
    struct survey survey = {.sim = sim, .why = why};

    for (size_t i = 0; i < FL_COUNT_OF(names); i++) {
        FL_JSON workload = sim_get(sim, &workloads, NS, names[i]);

        if (workload && !workload_right(sim, workload, why))
            return false;
    }
    fl_fake_world_each(place->world, look_at, &survey);
    if (fl_fake_world_next_due_ms(place->world) != INT64_MAX)
        return sim_wrong(why, "the orchestrator has not come to rest");
    return !survey.orphans;
}

static void touch(struct sim *sim, struct sim_process *process)
{
    (void)sim;
    for (size_t i = 0; i < FL_COUNT_OF(names); i++)
        fl_manager_enqueue(process->manager, "workload", NS, names[i]);
    fl_manager_enqueue(process->manager, "orchestrator", NULL, "local");
}

static uint64_t actions(struct sim *sim)
{
    struct fl_fake_counts counts = fl_fake_world_count(((struct place *)sim->world)->world, NULL);

    return counts.starts + counts.stops;
}

static void remove_all(struct sim *sim)
{
    for (size_t i = 0; i < FL_COUNT_OF(names); i++)
        sim_delete(sim, &workloads, NS, names[i]);
}

static bool nothing_left(struct sim *sim, struct fl_buf *why)
{
    struct fl_fake_counts counts = fl_fake_world_count(((struct place *)sim->world)->world, NULL);

    if (fl_store_count(sim->store, "workloads.flops.dev"))
        return sim_wrong(why, "%zu Workloads are left",
                         fl_store_count(sim->store, "workloads.flops.dev"));
    if (counts.living + counts.ended)
        return sim_wrong(why, "%zu runs live and %zu records are left", counts.living,
                         counts.ended);
    return true;
}

const struct sim_scenario sim_workload = {
    .name = "workload",
    .processes = 1,
    .one_clock = true,
    .caches = caches,
    .turns = 160,
    .edits = 12,
    .patience_ms = 2 * 60 * 60 * 1000,
    .idle_ms = 15 * 60 * 1000,
    .beats = beats,
    .create = create,
    .destroy = destroy,
    .join = join,
    .leave = leave,
    .edit = edit,
    .happen = happen,
    .next_due_ms = next_due_ms,
    .calm = calm,
    .converged = converged,
    .touch = touch,
    .actions = actions,
    .remove_all = remove_all,
    .nothing_left = nothing_left,
};
