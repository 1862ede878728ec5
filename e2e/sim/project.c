/* FLProjects with their FLRounds and Workloads, on a fake orchestrator and fake roots: made, edited
 * in mid-flight, suspended, deleted and made again, while runs end, roots crash or lose their disk,
 * rounds fail and are deleted under way. */
#include "e2e/sim/project.h"

#include "lib/file.h"
#include "lib/str.h"
#include "reconcilers/flproject/flproject.h"
#include "reconcilers/flround/flround.h"
#include "reconcilers/orchestrator/orchestrator.h"
#include "reconcilers/workload/workload.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

const struct fl_gvr project_projects = {"flops.dev", "v1alpha1", "flprojects", true},
                    project_rounds = {"flops.dev", "v1alpha1", "flrounds", true},
                    project_models = {"flops.dev", "v1alpha1", "modelversions", true},
                    project_workloads = {"flops.dev", "v1alpha1", "workloads", true},
                    project_orchestrators = {"flops.dev", "v1alpha1", "orchestrators", false};
static const struct fl_gvr *const caches[] = {&project_projects,      &project_rounds,
                                              &project_models,        &project_workloads,
                                              &project_orchestrators, NULL};
const char *const project_names[PROJECT_NAMES] = {"ann", "bob"};
static const char *const nodes[] = {"a", "b"};
static const char *const beats[] = {"orchestrators.flops.dev", "edgenodes.flops.dev",
                                    "edgeclusters.flops.dev", NULL};

struct kinds {
    struct sim_process *process;
    struct fl_orchestrators *orchestrators;
    struct fl_workload_controller *workloads;
    struct fl_orchestrator_controller *controller;
    struct fl_federation_driver *federation;
    struct fl_flround_controller *rounds;
    struct fl_flproject_controller *projects;
};

/* Drivers, with faults. */

static enum sim_fault before_call(struct project_place *place, bool changes, const char *what)
{
    place->fault = sim_call(place->sim->processes[0],
                            changes ? SIM_CALL_DRIVER_WRITE : SIM_CALL_DRIVER_READ, what);
    return place->fault;
}

static enum fl_fake_fault on_run_fault(void *user, enum fl_fake_op op, bool after)
{
    static const enum fl_fake_fault faults[SIM_FAULT_COUNT] = {[SIM_CRASH_BEFORE] = FL_FAKE_CRASH,
                                                               [SIM_ERROR] = FL_FAKE_ERROR,
                                                               [SIM_FORGET] = FL_FAKE_FORGET};
    bool changes = op == FL_FAKE_START || op == FL_FAKE_STOP || op == FL_FAKE_REMOVE;
    struct project_place *place = user;
    struct sim_process *process = place->sim->processes[0];

    if (!process)
        return FL_FAKE_GOOD;
    if (!after)
        return faults[before_call(place, changes, "orchestrator")];
    sim_call_done(process, place->fault);
    if (place->fault == SIM_CRASH_AFTER)
        return FL_FAKE_CRASH;
    return place->fault == SIM_LOST_ANSWER ? FL_FAKE_ERROR : FL_FAKE_GOOD;
}

static enum fl_fake_federation_fault on_root_fault(void *user, enum fl_fake_federation_op op,
                                                   bool after)
{
    static const enum fl_fake_federation_fault faults[SIM_FAULT_COUNT] = {
        [SIM_CRASH_BEFORE] = FL_FAKE_FEDERATION_CRASH,
        [SIM_ERROR] = FL_FAKE_FEDERATION_ERROR,
        [SIM_FORGET] = FL_FAKE_FEDERATION_FORGET};
    bool changes = op != FL_FAKE_FEDERATION_STATUS && op != FL_FAKE_FEDERATION_OBSERVE;
    struct project_place *place = user;
    struct sim_process *process = place->sim->processes[0];

    if (!process)
        return FL_FAKE_FEDERATION_GOOD;
    if (!after)
        return faults[before_call(place, changes, "root")];
    sim_call_done(process, place->fault);
    if (place->fault == SIM_CRASH_AFTER)
        return FL_FAKE_FEDERATION_CRASH;
    return place->fault == SIM_LOST_ANSWER ? FL_FAKE_FEDERATION_ERROR : FL_FAKE_FEDERATION_GOOD;
}

static void on_run_plan(void *user, const struct fl_run_spec *spec, struct fl_fake_plan *plan)
{
    struct sim *sim = ((struct project_place *)user)->sim;

    if (sim->processes[0])
        sim_rule_effect(sim->processes[0], spec->id.workload_uid, "flops.dev/workload");
    *plan = (struct fl_fake_plan){.start_ms = (int64_t)sim_below(sim, 500),
                                  .ready_ms = (int64_t)sim_below(sim, 500),
                                  .run_ms = -1,
                                  .stop_ms = (int64_t)sim_below(sim, 1000)};
}

/* While all is calm, nobody acts upon a spec that is long past. */
static void check_order(struct project_place *place, const struct fl_round_order *order)
{
    for (size_t i = 0; i < PROJECT_NAMES && !place->sim->busy; i++) {
        FL_JSON project = sim_get(place->sim, &project_projects, PROJECT_NS, project_names[i]);

        if (fl_str_has_prefix(order->project, project_names[i]) &&
            fl_json_bool(project, "spec.suspend", false))
            sim_fail(place->sim, "suspended", "round %" PRId64 " of %s begins", order->round,
                     project_names[i]);
    }
}

/* Some attempts fail, but never a whole round. */
static void on_round_plan(void *user, const struct fl_round_order *order,
                          struct fl_fake_round *plan)
{
    struct project_place *place = user;
    struct sim *sim = place->sim;

    sim_trace(sim, "  round %" PRId64 " of %s is ordered", order->round, order->project);
    check_order(place, order);
    plan->train_ms = (int64_t)sim_below(sim, 2000);
    if (sim->busy && place->fails_left > 0 && sim_chance(sim, 20)) {
        place->fails_left--;
        plan->failing = 1;
    }
}

/* The world. */

static void put_node(struct project_place *place, const char *name)
{
    fl_fake_world_put_node(place->world, &(struct fl_node){.cluster = name,
                                                           .name = name,
                                                           .ready = true,
                                                           .runs_processes = true,
                                                           .capacity = {.cpu_milli = 8000}});
}

static void *create(struct sim *sim)
{
    struct project_place *place = fl_calloc(1, sizeof(*place));

    place->sim = sim;
    place->ends_left = place->fails_left = 4;
    place->world = fl_fake_world_create(&sim->env);
    place->roots = fl_fake_roots_create(&sim->env);
    fl_fake_world_on_plan(place->world, on_run_plan, place);
    fl_fake_world_on_fault(place->world, on_run_fault, place);
    fl_fake_roots_on_plan(place->roots, on_round_plan, place);
    fl_fake_roots_on_fault(place->roots, on_root_fault, place);
    for (size_t i = 0; i < FL_COUNT_OF(nodes); i++)
        put_node(place, nodes[i]);
    sim_create(sim, &project_orchestrators,
               json_pack("{s:s,s:s,s:{s:s},s:{s:s}}", "apiVersion", "flops.dev/v1alpha1", "kind",
                         "Orchestrator", "metadata", "name", "local", "spec", "type", "Local"));
    return place;
}

static void close_content(struct project_place *place)
{
    fl_blobs_close(FL_TAKE(place->content));
    if (*place->folder)
        (void)fl_dir_remove(place->folder, NULL);
    *place->folder = '\0';
}

static void destroy(void *world)
{
    struct project_place *place = world;

    close_content(place);
    fl_fake_world_destroy(place->world);
    fl_fake_roots_destroy(place->roots);
    free(place);
}

/* Each run has a folder of its own: runs are processes. */
static int open_content(struct project_place *place, struct fl_error *err)
{
    const struct fl_blobs_options options = {
        .env = &place->sim->env, .path = place->folder, .fleeting = true};

    if (place->content)
        return 0;
    (void)snprintf(place->folder, sizeof(place->folder), "/tmp/flops-sim-%d", (int)getpid());
    return fl_blobs_open(&options, &place->content, err);
}

static void on_changed(void *user, const char *ns, const char *project)
{
    struct kinds *kinds = user;

    if (kinds->projects)
        fl_flproject_changed(kinds->projects, ns, project);
    if (kinds->rounds)
        fl_flround_changed(kinds->rounds, ns, project);
}

static int join(struct sim_process *process, struct fl_error *err)
{
    struct project_place *place = process->sim->world;
    struct kinds *kinds = fl_calloc(1, sizeof(*kinds));
    int r = open_content(place, err);

    process->kinds = kinds;
    kinds->process = process;
    kinds->orchestrators = fl_orchestrators_create();
    fl_orchestrators_register(kinds->orchestrators, "Local", fl_fake_orchestrator_make,
                              place->world);
    if (r == 0)
        r = fl_workload_controller_create(process->manager, kinds->orchestrators, &kinds->workloads,
                                          err);
    if (r == 0)
        r = fl_orchestrator_controller_create(process->manager, kinds->orchestrators,
                                              &kinds->controller, err);
    if (r < 0)
        return r;
    kinds->federation = fl_federation_fake_create(place->roots, place->content, on_changed, kinds);
    r = fl_flround_controller_create(process->manager, kinds->federation, &kinds->rounds, err);
    return r < 0 ? r
                 : fl_flproject_controller_create(process->manager, kinds->federation, NULL,
                                                  &kinds->projects, err);
}

static void leave(struct sim_process *process)
{
    struct kinds *kinds = process->kinds;

    if (kinds->federation)
        kinds->federation->ops->destroy(kinds->federation);
    fl_flproject_controller_destroy(kinds->projects);
    fl_flround_controller_destroy(kinds->rounds);
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

static json_t *some_tiers(struct sim *sim)
{
    return sim_chance(sim, 50) ? json_array() : json_pack("[{s:s}]", "name", "edge");
}

static void make(struct sim *sim, const char *name)
{
    sim_trace(sim, "user: %s is made", name);
    sim_create(sim, &project_projects,
               json_pack("{s:s,s:s,s:{s:s,s:s},s:{s:{s:{s:s}},s:{s:i},s:{s:i},s:{s:o},s:i}}",
                         "apiVersion", "flops.dev/v1alpha1", "kind", "FLProject", "metadata",
                         "name", name, "namespace", PROJECT_NS, "spec", "source", "builtin",
                         "trainer", "MLP", "training", "rounds", 1 + (int)sim_below(sim, 3),
                         "learners", "count", 2, "topology", "tiers", some_tiers(sim),
                         "roundHistoryLimit", (int)sim_below(sim, 3)));
}

static json_t *some_change(struct sim *sim)
{
    switch (sim_below(sim, 10)) {
    case 0:
    case 1:
        return json_pack("{s:{s:i}}", "training", "rounds", 1 + (int)sim_below(sim, 5));
    case 2:
        return json_pack("{s:b}", "suspend", (int)sim_below(sim, 2));
    case 3:
        return json_pack("{s:{s:o}}", "topology", "tiers", some_tiers(sim));
    case 4:
        return json_pack("{s:{s:i},s:{s:{s:i}}}", "learners", "count", 1 + (int)sim_below(sim, 3),
                         "training", "participation", "minAvailable", 1);
    case 5:
        return json_pack("{s:{s:{s:i}}}", "training", "local", "epochs",
                         1 + (int)sim_below(sim, 3));
    case 6:
        return json_pack("{s:{s:{s:s}}}", "training", "strategy", "name",
                         sim_chance(sim, 50) ? "FedAvg" : "FedAdam");
    case 7:
        return json_pack("{s:{s:{s:s,s:i}},s:{s:i}}", "training", "participation", "deadline",
                         sim_chance(sim, 50) ? "1m" : "10m", "minAvailable",
                         1 + (int)sim_below(sim, 2), "learners", "count", 2);
    case 8:
        return json_pack("{s:{s:{s:s}}}", "training", "participation", "fraction",
                         sim_chance(sim, 50) ? "1" : "0.5");
    default:
        return json_pack("{s:i}", "roundHistoryLimit", (int)sim_below(sim, 4));
    }
}

/* A round of its own, beside those that the project makes. */
static void declare(struct sim *sim, const char *project)
{
    struct project_place *place = sim->world;
    char name[24];

    (void)snprintf(name, sizeof(name), "by-hand-%u", ++place->hand_made);
    sim_trace(sim, "user: declares %s of %s", name, project);
    sim_create(sim, &project_rounds,
               json_pack("{s:s,s:s,s:{s:s,s:s},s:{s:{s:s}}}", "apiVersion", "flops.dev/v1alpha1",
                         "kind", "FLRound", "metadata", "name", name, "namespace", PROJECT_NS,
                         "spec", "project", "name", project));
}

/* Something that the project made is deleted by hand. */
static void delete_some(struct sim *sim, const struct fl_gvr *gvr)
{
    FL_JSON items = sim_list(sim, gvr);
    const char *name;

    if (json_array_size(items) == 0)
        return;
    name =
        fl_json_str(json_array_get(items, sim_below(sim, json_array_size(items))), "metadata.name");
    sim_trace(sim, "user: %s %s is deleted", gvr->plural, name);
    sim_delete(sim, gvr, PROJECT_NS, name);
}

static void edit(struct sim *sim)
{
    const char *name = any(sim, project_names, PROJECT_NAMES);
    FL_JSON project = sim_get(sim, &project_projects, PROJECT_NS, name);

    if (!project) {
        make(sim, name);
    } else if (sim_chance(sim, 12)) {
        sim_trace(sim, "user: %s is deleted", name);
        sim_delete(sim, &project_projects, PROJECT_NS, name);
    } else if (sim_chance(sim, 10)) {
        delete_some(sim, &project_rounds);
    } else if (sim_chance(sim, 10)) {
        delete_some(sim, &project_workloads);
    } else if (sim_chance(sim, 15)) {
        declare(sim, name);
    } else {
        sim_trace(sim, "user: the spec of %s changes", name);
        sim_patch(sim, &project_projects, PROJECT_NS, name,
                  json_pack("{s:o}", "spec", some_change(sim)));
    }
}

/* What happens. */

static void end_some_run(struct sim *sim, struct project_place *place)
{
    FL_JSON items = sim_list(sim, &project_workloads);
    const json_t *workload;
    struct fl_run_id id = {.index = (int64_t)sim_below(sim, 2)};

    if (json_array_size(items) == 0 || place->ends_left == 0)
        return;
    workload = json_array_get(items, sim_below(sim, json_array_size(items)));
    id.workload_uid = fl_json_str(workload, "metadata.uid");
    if (!fl_fake_world_end_run(
            place->world, &id,
            &(struct fl_run_exit){.signal = "SIGKILL", .reason = "Signal", .ended_us = 1}))
        return;
    sim_trace(sim, "the run of %s is killed", fl_json_str(workload, "metadata.name"));
    place->ends_left--;
}

static void crash_some_root(struct sim *sim, struct project_place *place)
{
    FL_JSON project =
        sim_get(sim, &project_projects, PROJECT_NS, any(sim, project_names, PROJECT_NAMES));
    bool lost = sim_chance(sim, 25);

    if (!project)
        return;
    place->lost |= lost;
    sim_trace(sim, "the root of %s crashes%s", fl_json_str(project, "metadata.name"),
              lost ? " and loses its disk" : "");
    fl_fake_roots_restart(place->roots, fl_json_str(project, "metadata.uid"), lost);
}

static void disturb(struct sim *sim, struct project_place *place)
{
    bool good = sim_chance(sim, 60);

    switch (sim_below(sim, 5)) {
    case 0:
        sim_trace(sim, "the orchestrator is %s", good ? "reachable" : "not reachable");
        fl_fake_world_set_reachable(place->world, good);
        break;
    case 1:
        sim_trace(sim, "roots are %s", good ? "reachable" : "not reachable");
        fl_fake_roots_set_reachable(place->roots, good);
        break;
    case 2:
        crash_some_root(sim, place);
        break;
    default:
        end_some_run(sim, place);
        break;
    }
}

static bool happen(struct sim *sim, bool calm)
{
    struct project_place *place = sim->world;
    size_t count = fl_fake_world_step(place->world) + fl_fake_roots_step(place->roots);

    if (count)
        sim_trace(sim, "%zu things happen outside", count);
    if (!calm && sim_chance(sim, 20))
        disturb(sim, place);
    return count > 0;
}

static int64_t next_due_ms(struct sim *sim)
{
    struct project_place *place = sim->world;
    int64_t runs = fl_fake_world_next_due_ms(place->world);
    int64_t roots = fl_fake_roots_next_due_ms(place->roots);

    return runs < roots ? runs : roots;
}

static void calm(struct sim *sim)
{
    struct project_place *place = sim->world;

    fl_fake_world_set_reachable(place->world, true);
    fl_fake_roots_set_reachable(place->roots, true);
}

static void touch(struct sim *sim, struct sim_process *process)
{
    FL_JSON all = sim_list(sim, &project_rounds);
    json_t *round;
    size_t i;

    for (i = 0; i < PROJECT_NAMES; i++)
        fl_manager_enqueue(process->manager, "flproject", PROJECT_NS, project_names[i]);
    json_array_foreach(all, i, round)
        fl_manager_enqueue(process->manager, "flround", PROJECT_NS,
                           fl_json_str(round, "metadata.name"));
    fl_manager_enqueue(process->manager, "orchestrator", NULL, "local");
}

static uint64_t actions(struct sim *sim)
{
    struct project_place *place = sim->world;
    struct fl_fake_counts runs = fl_fake_world_count(place->world, NULL);
    struct fl_fake_roots_counts roots = fl_fake_roots_count(place->roots);

    return runs.starts + runs.stops + roots.starts + roots.aborts;
}

static void remove_all(struct sim *sim)
{
    FL_JSON all = sim_list(sim, &project_rounds);
    json_t *round;
    size_t i;

    for (i = 0; i < PROJECT_NAMES; i++)
        sim_delete(sim, &project_projects, PROJECT_NS, project_names[i]);
    json_array_foreach(all, i, round)
        if (fl_str_has_prefix(fl_json_str(round, "metadata.name"), "by-hand"))
            sim_delete(sim, &project_rounds, PROJECT_NS, fl_json_str(round, "metadata.name"));
}

static bool nothing_left(struct sim *sim, struct fl_buf *why)
{
    static const char *const kinds[] = {"flprojects.flops.dev",  "flrounds.flops.dev",
                                        "workloads.flops.dev",   "modelversions.flops.dev",
                                        "flhistories.flops.dev", "secrets"};
    struct project_place *place = sim->world;
    struct fl_fake_counts counts = fl_fake_world_count(place->world, NULL);

    for (size_t i = 0; i < FL_COUNT_OF(kinds); i++)
        if (fl_store_count(sim->store, kinds[i]))
            return sim_wrong(why, "%zu %s are left", fl_store_count(sim->store, kinds[i]),
                             kinds[i]);
    if (counts.living + counts.ended)
        return sim_wrong(why, "%zu runs live and %zu records are left", counts.living,
                         counts.ended);
    if (fl_fake_roots_running(place->roots))
        return sim_wrong(why, "a round still runs");
    return true;
}

const struct sim_scenario sim_project = {
    .weight = 10,
    .name = "project",
    .processes = 1,
    .one_clock = true,
    .caches = caches,
    .turns = 160,
    .edits = 8,
    .patience_ms = 6 * 60 * 60 * 1000,
    .is_thrifty = true,
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
    .converged = project_converged,
    .touch = touch,
    .actions = actions,
    .remove_all = remove_all,
    .nothing_left = nothing_left,
};
