/* InferenceServers over a fake orchestrator and routers by script: models that come, go and change
 * their alias, images, servers that never come up, fail or die, routers that forget their table or
 * cannot be reached; users who change model, number and roll-out in mid-flight, suspend, delete and
 * make anew, and take away what was made. */
#include "e2e/sim/serving.h"

#include "controller/content/content.h"
#include "lib/file.h"
#include "lib/str.h"
#include "reconcilers/inferenceserver/inferenceserver.h"
#include "reconcilers/modelversion/controller.h"
#include "reconcilers/orchestrator/orchestrator.h"
#include "reconcilers/workload/workload.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS_MAX 12
#define MENDED_MS  (20 * 60 * 1000)

const struct fl_gvr serving_servers = {"flops.dev", "v1alpha1", "inferenceservers", true},
                    serving_models = {"flops.dev", "v1alpha1", "modelversions", true},
                    serving_workloads = {"flops.dev", "v1alpha1", "workloads", true};
static const struct fl_gvr orchestrators = {"flops.dev", "v1alpha1", "orchestrators", false};
static const struct fl_gvr *const caches[] = {&serving_servers, &serving_models, &serving_workloads,
                                              &orchestrators,   &fl_gvr_secrets, NULL};
const char *const serving_names[SERVING_NAMES] = {"ann", "bob"};
static const char *const nodes[] = {"a", "b"};
static const char *const beats[] = {"orchestrators.flops.dev", "edgenodes.flops.dev",
                                    "edgeclusters.flops.dev", NULL};
static const char *const images[] = {"good-1", "good-2", "bad-1", "bad-2", "broken"};

struct kinds {
    struct sim_process *process;
    struct fl_orchestrators *orchestrators;
    struct fl_workload_controller *workloads;
    struct fl_orchestrator_controller *controller;
    struct fl_modelversion_controller *models;
    struct fl_router_driver *routers;
    struct fl_inferenceserver_controller *servers;
};

/* --- what models are like ------------------------------------------------------------------- */

static int64_t round_of(const char *model)
{
    return fl_str_has_prefix(model, "sha256:") ? strtoll(model + strlen("sha256:"), NULL, 10) : 0;
}

bool serving_is_broken(const char *model)
{
    return fl_streq(model, "broken") || (model && round_of(model) % 7 == 6);
}

bool serving_is_bad(const char *model)
{
    return fl_str_has_prefix(model, "bad") || (model && round_of(model) % 5 == 4);
}

/* --- whose is what -------------------------------------------------------------------------- */

const char *serving_owner_of(const json_t *object)
{
    return fl_json_str(json_array_get(fl_json_path(object, "metadata.ownerReferences"), 0), "uid");
}

const char *serving_revision_of(const json_t *workload)
{
    return json_string_value(
        json_object_get(fl_json_path(workload, "metadata.labels"), "flops.dev/revision"));
}

const char *serving_model_of(const json_t *workload)
{
    const json_t *args = fl_json_path(workload, "spec.args"), *arg;
    size_t i;

    json_array_foreach(args, i, arg)
        if (fl_streq(json_string_value(arg), "--digest"))
            return json_string_value(json_array_get(args, i + 1));
    return fl_json_str(workload, "spec.image");
}

/* --- the world ------------------------------------------------------------------------------ */

static enum fl_fake_fault fake_fault(enum sim_fault fault, bool after)
{
    if (after && fault == SIM_CRASH_AFTER)
        return FL_FAKE_CRASH;
    if (after)
        return fault == SIM_LOST_ANSWER ? FL_FAKE_ERROR : FL_FAKE_GOOD;
    return fault == SIM_CRASH_BEFORE ? FL_FAKE_CRASH
           : fault == SIM_ERROR      ? FL_FAKE_ERROR
           : fault == SIM_FORGET     ? FL_FAKE_FORGET
                                     : FL_FAKE_GOOD;
}

static enum fl_fake_fault on_run_fault(void *user, enum fl_fake_op op, bool after)
{
    const bool changes = op == FL_FAKE_START || op == FL_FAKE_STOP || op == FL_FAKE_REMOVE;
    struct serving *serving = user;
    struct sim_process *process = serving->sim->processes[0];

    if (!process)
        return FL_FAKE_GOOD;
    if (after)
        sim_call_done(process, serving->fault);
    else
        serving->fault = sim_call(process, changes ? SIM_CALL_DRIVER_WRITE : SIM_CALL_DRIVER_READ,
                                  "orchestrator");
    return fake_fault(serving->fault, after);
}

static void on_run_plan(void *user, const struct fl_run_spec *spec, struct fl_fake_plan *plan)
{
    struct serving *serving = user;
    struct sim *sim = serving->sim;
    const json_t *workload = sim_object_by_uid(sim, spec->id.workload_uid);

    if (sim->processes[0])
        sim_rule_effect(sim->processes[0], spec->id.workload_uid, "flops.dev/workload");
    *plan = (struct fl_fake_plan){.start_ms = (int64_t)sim_below(sim, 1000),
                                  .ready_ms = (int64_t)sim_below(sim, 1000),
                                  .run_ms = -1,
                                  .stop_ms = (int64_t)sim_below(sim, 1000)};
    if (serving_is_broken(serving_model_of(workload)) && sim_now_ms(sim) < serving->mended_ms)
        plan->ready_ms = -1;
}

static void put_node(struct serving *serving, const char *name)
{
    fl_fake_world_put_node(serving->world, &(struct fl_node){.cluster = name,
                                                             .name = name,
                                                             .ready = true,
                                                             .runs_processes = true,
                                                             .runs_images = true,
                                                             .capacity = {.cpu_milli = 64000}});
}

static void *create(struct sim *sim)
{
    struct serving *serving = fl_calloc(1, sizeof(*serving));

    serving->sim = sim;
    serving->kills_left = 4;
    serving->mended_ms = INT64_MAX;
    serving->world = fl_fake_world_create(&sim->env);
    serving->routers = fl_map_create(serving_router_free);
    serving->sets = fl_map_create(free);
    serving->stopping = fl_map_create(NULL);
    fl_fake_world_on_plan(serving->world, on_run_plan, serving);
    fl_fake_world_on_fault(serving->world, on_run_fault, serving);
    for (size_t i = 0; i < FL_COUNT_OF(nodes); i++)
        put_node(serving, nodes[i]);
    sim_create(sim, &orchestrators,
               json_pack("{s:s,s:s,s:{s:s},s:{s:s}}", "apiVersion", "flops.dev/v1alpha1", "kind",
                         "Orchestrator", "metadata", "name", "local", "spec", "type", "Local"));
    return serving;
}

static void destroy(void *world)
{
    struct serving *serving = world;

    fl_map_destroy(serving->routers);
    fl_map_destroy(serving->sets);
    fl_map_destroy(serving->stopping);
    fl_fake_world_destroy(serving->world);
    fl_contents_close(serving->contents);
    if (*serving->folder)
        (void)fl_dir_remove(serving->folder, NULL);
    free(serving);
}

/* Empty: what models say is all that matters here. Runs are processes, each has its own. */
static int open_contents(struct serving *serving, struct fl_error *err)
{
    const struct fl_contents_options options = {.env = &serving->sim->env, .path = serving->folder};

    if (serving->contents)
        return 0;
    (void)snprintf(serving->folder, sizeof(serving->folder), "/tmp/flops-sim-%d", (int)getpid());
    return fl_contents_open(&options, &serving->contents, err);
}

static int grant(void *user, const char *digest, struct fl_arena *arena,
                 struct fl_content_grant *ret_grant, struct fl_error *err)
{
    (void)user;
    (void)err;
    *ret_grant = (struct fl_content_grant){
        .url = fl_arena_printf(arena, "https://api/content/%s", digest), .token = "t"};
    return 0;
}

static void on_changed(void *user, const char *ns, const char *name)
{
    struct kinds *kinds = user;

    if (kinds->servers && !kinds->process->dead)
        fl_inferenceserver_router_changed(kinds->servers, ns, name);
}

static int join(struct sim_process *process, struct fl_error *err)
{
    struct serving *serving = process->sim->world;
    struct kinds *kinds = fl_calloc(1, sizeof(*kinds));
    struct fl_inferenceserver_options options = {.grant = grant};
    int r;

    process->kinds = kinds;
    kinds->process = process;
    kinds->orchestrators = fl_orchestrators_create();
    fl_orchestrators_register(kinds->orchestrators, "Local", fl_fake_orchestrator_make,
                              serving->world);
    r = open_contents(serving, err);
    if (r == 0)
        r = fl_workload_controller_create(process->manager, kinds->orchestrators, &kinds->workloads,
                                          err);
    if (r == 0)
        r = fl_modelversion_controller_create(process->manager, serving->contents, &kinds->models,
                                              err);
    if (r == 0)
        r = fl_orchestrator_controller_create(process->manager, kinds->orchestrators,
                                              &kinds->controller, err);
    kinds->routers = options.routers = serving_driver_create(serving, process, on_changed, kinds);
    return r < 0 ? r
                 : fl_inferenceserver_controller_create(process->manager, &options, &kinds->servers,
                                                        err);
}

static void leave(struct sim_process *process)
{
    struct kinds *kinds = process->kinds;

    if (kinds->routers)
        kinds->routers->ops->destroy(kinds->routers);
    fl_inferenceserver_controller_destroy(kinds->servers);
    fl_modelversion_controller_destroy(kinds->models);
    fl_workload_controller_destroy(kinds->workloads);
    fl_orchestrator_controller_destroy(kinds->controller);
    fl_orchestrators_destroy(kinds->orchestrators);
    free(kinds);
}

/* --- users ---------------------------------------------------------------------------------- */

static json_t *some_model(struct sim *sim)
{
    struct serving *serving = sim->world;
    json_t *project;

    if (sim_chance(sim, 45))
        return json_pack("{s:s,s:n}", "image", images[sim_below(sim, FL_COUNT_OF(images))],
                         "project");
    project = json_pack("{s:s,s:s,s:n}", "name", SERVING_PROJECT, "select",
                        sim_chance(sim, 50) ? "Latest" : "Best", "round");
    if (sim_chance(sim, 25)) {
        json_object_set_new(project, "select", json_string("Round"));
        json_object_set_new(
            project, "round",
            json_integer(1 + (json_int_t)sim_below(sim, (uint64_t)serving->last_round + 2)));
    }
    return json_pack("{s:n,s:o}", "image", "project", project);
}

static json_t *some_rollout(struct sim *sim)
{
    const char *deadline = sim_chance(sim, 50) ? "2m" : "10m";

    if (sim_chance(sim, 30))
        return json_pack("{s:s,s:n,s:n,s:s}", "strategy", "Recreate", "steps", "maxUnavailable",
                         "progressDeadline", deadline);
    if (sim_chance(sim, 40))
        return json_pack("{s:s,s:n,s:i,s:s}", "strategy", "Rolling", "steps", "maxUnavailable",
                         (int)sim_below(sim, 2), "progressDeadline", deadline);
    return json_pack("{s:s,s:[i,i],s:n,s:s,s:s,s:i,s:{s:s}}", "strategy", "Canary", "steps",
                     (int)sim_below(sim, 2) * 20, 50, "maxUnavailable", "progressDeadline",
                     deadline, "interval", "5s", "minRequests", 3, "metric", "tolerance",
                     sim_chance(sim, 50) ? "0.1" : "1");
}

static int some_replicas(struct sim *sim)
{
    return sim_chance(sim, 12) ? 0 : 1 + (int)sim_below(sim, 3);
}

/* What a patch takes away is not there to begin with. */
static void drop_nulls(json_t *object)
{
    const char *key;
    void *next;
    json_t *value;

    json_object_foreach_safe(object, next, key, value) {
        if (json_is_null(value))
            (void)json_object_del(object, key);
        else
            drop_nulls(value);
    }
}

/* Where nobody may serve, or nobody judges, oracles must know until when. */
static void note_past(struct sim *sim, size_t i)
{
    struct serving_past *past = &((struct serving *)sim->world)->past[i];
    FL_JSON server = sim_get(sim, &serving_servers, SERVING_NS, serving_names[i]);
    const char *uid = fl_str_or(fl_json_str(server, "metadata.uid"), "");
    const int64_t generation = fl_json_int(server, "metadata.generation", 0);
    const char *strategy = fl_json_str(server, "spec.rollout.strategy");

    if (strcmp(past->uid, uid) != 0) {
        *past = (struct serving_past){.meddled = false};
        (void)snprintf(past->uid, sizeof(past->uid), "%s", uid);
    }
    if (fl_json_bool(server, "spec.suspend", false) || fl_streq(strategy, "Recreate") ||
        fl_json_int(server, "spec.replicas", 1) == 0)
        past->empty_generation = generation;
    if (fl_json_bool(server, "spec.suspend", false))
        past->suspend_generation = generation;
    if (!fl_streq(strategy, "Canary"))
        past->canary_generation = 0;
    else if (past->canary_generation == 0)
        past->canary_generation = generation;
}

static void make(struct sim *sim, size_t i)
{
    json_t *spec =
        json_pack("{s:o,s:o,s:i,s:i,s:s}", "model", some_model(sim), "rollout", some_rollout(sim),
                  "replicas", some_replicas(sim), "port", 8081 + (int)i, "gracePeriod", "5s");

    sim_trace(sim, "user: %s is made", serving_names[i]);
    drop_nulls(spec);
    sim_create(sim, &serving_servers,
               json_pack("{s:s,s:s,s:{s:s,s:s},s:o}", "apiVersion", "flops.dev/v1alpha1", "kind",
                         "InferenceServer", "metadata", "name", serving_names[i], "namespace",
                         SERVING_NS, "spec", spec));
}

static json_t *some_change(struct sim *sim)
{
    switch (sim_below(sim, 10)) {
    case 0:
    case 1:
    case 2:
    case 3:
        return json_pack("{s:o}", "model", some_model(sim));
    case 4:
    case 5:
        return json_pack("{s:i}", "replicas", some_replicas(sim));
    case 6:
    case 7:
        return json_pack("{s:o}", "rollout", some_rollout(sim));
    case 8:
        return json_pack("{s:[{s:s,s:s}]}", "env", "name", "A", "value",
                         sim_chance(sim, 50) ? "1" : "2");
    default:
        return json_pack("{s:b}", "suspend", (int)sim_below(sim, 2));
    }
}

/* Something that was made for an InferenceServer is deleted by hand. */
static void take_away(struct sim *sim)
{
    struct serving *serving = sim->world;
    const bool secret = sim_chance(sim, 50);
    const struct fl_gvr *gvr = secret ? &fl_gvr_secrets : &serving_workloads;
    FL_JSON items = sim_list(sim, gvr);
    const json_t *item =
        json_array_get(items, json_array_size(items) ? sim_below(sim, json_array_size(items)) : 0);

    if (!item)
        return;
    for (size_t i = 0; i < SERVING_NAMES; i++)
        if (fl_streq(serving->past[i].uid, serving_owner_of(item)))
            serving->past[i].meddled = true;
    sim_trace(sim, "user: %s %s is deleted", gvr->plural, fl_json_str(item, "metadata.name"));
    sim_delete(sim, gvr, SERVING_NS, fl_json_str(item, "metadata.name"));
}

static void edit(struct sim *sim)
{
    const size_t i = sim_below(sim, SERVING_NAMES);
    FL_JSON server = sim_get(sim, &serving_servers, SERVING_NS, serving_names[i]);

    if (!server) {
        make(sim, i);
    } else if (sim_chance(sim, 8)) {
        sim_trace(sim, "user: %s is deleted", serving_names[i]);
        sim_delete(sim, &serving_servers, SERVING_NS, serving_names[i]);
    } else if (sim_chance(sim, 5)) {
        take_away(sim);
    } else {
        sim_trace(sim, "user: the spec of %s changes", serving_names[i]);
        sim_patch(sim, &serving_servers, SERVING_NS, serving_names[i],
                  json_pack("{s:o}", "spec", some_change(sim)));
    }
    note_past(sim, i);
}

/* --- what happens --------------------------------------------------------------------------- */

static void set_aliases(struct sim *sim, const json_t *model, bool best, bool latest)
{
    json_t *aliases = json_array();

    if (best)
        json_array_append_new(aliases, json_string("best"));
    if (latest)
        json_array_append_new(aliases, json_string("latest"));
    sim_patch(sim, &serving_models, SERVING_NS, fl_json_str(model, "metadata.name"),
              json_pack("{s:{s:o}}", "spec", "aliases", aliases));
}

static void commit_round(struct sim *sim)
{
    struct serving *serving = sim->world;
    const int64_t round = ++serving->last_round;
    char name[24], digest[96], accuracy[24];

    (void)snprintf(name, sizeof(name), "p-%" PRId64, round);
    (void)snprintf(digest, sizeof(digest), "sha256:%04" PRId64 "%060d", round, 0);
    (void)snprintf(accuracy, sizeof(accuracy), "0.%d", (int)(1 + sim_below(sim, 9)));
    sim_trace(sim, "round %" PRId64 " is committed: %s", round, accuracy);
    sim_create(sim, &serving_models,
               json_pack("{s:s,s:s,s:{s:s,s:s},s:{s:{s:s},s:I,s:s,s:{s:s},s:[s]}}", "apiVersion",
                         "flops.dev/v1alpha1", "kind", "ModelVersion", "metadata", "name", name,
                         "namespace", SERVING_NS, "spec", "project", "name", SERVING_PROJECT,
                         "round", (json_int_t)round, "digest", digest, "metrics", "accuracy",
                         accuracy, "aliases", "latest"));
}

static void change_models(struct sim *sim)
{
    const struct serving *serving = sim->world;
    FL_JSON models = sim_list(sim, &serving_models);
    const size_t count = json_array_size(models);
    const json_t *model = json_array_get(models, count ? sim_below(sim, count) : 0);

    if (serving->last_round < ROUNDS_MAX && (!model || sim_chance(sim, 40))) {
        commit_round(sim);
    } else if (model && sim_chance(sim, 25)) {
        sim_trace(sim, "model %s goes", fl_json_str(model, "metadata.name"));
        sim_delete(sim, &serving_models, SERVING_NS, fl_json_str(model, "metadata.name"));
    } else if (model) {
        sim_trace(sim, "model %s has other aliases", fl_json_str(model, "metadata.name"));
        set_aliases(sim, model, sim_chance(sim, 50), sim_chance(sim, 50));
    }
}

static void kill_some_run(struct sim *sim)
{
    struct serving *serving = sim->world;
    FL_JSON items = sim_list(sim, &serving_workloads);
    const json_t *workload;
    struct fl_run_id id;

    if (json_array_size(items) == 0 || serving->kills_left == 0)
        return;
    workload = json_array_get(items, sim_below(sim, json_array_size(items)));
    id = (struct fl_run_id){fl_json_str(workload, "metadata.uid"), (int64_t)sim_below(sim, 2)};
    if (!fl_fake_world_end_run(
            serving->world, &id,
            &(struct fl_run_exit){.signal = "SIGKILL", .reason = "Signal", .ended_us = 1}))
        return;
    sim_trace(sim, "the run of %s/%" PRId64 " is killed", fl_json_str(workload, "metadata.name"),
              id.index);
    serving->kills_left--;
    serving->killed++;
}

static void disturb(struct sim *sim)
{
    struct serving *serving = sim->world;
    const bool good = sim_chance(sim, 60);

    switch (sim_below(sim, 8)) {
    case 0:
        sim_trace(sim, "the orchestrator is %s", good ? "reachable" : "not reachable");
        fl_fake_world_set_reachable(serving->world, good);
        break;
    case 1:
        sim_trace(sim, "routers are %s", good ? "reachable" : "not reachable");
        serving->cut = !good;
        break;
    case 2:
    case 3:
        kill_some_run(sim);
        break;
    default:
        change_models(sim);
        break;
    }
}

/* What never came up does now, so that there is an end. */
static void mend_run(void *user, const struct fl_fake_item *item)
{
    struct fl_run_id *id = user;

    if (item->state == FL_RUN_RUNNING && !item->ready)
        *id = (struct fl_run_id){item->uid, item->index};
}

static bool mend(struct serving *serving)
{
    struct fl_run_id id = {.workload_uid = NULL};

    if (sim_now_ms(serving->sim) < serving->mended_ms)
        return false;
    fl_fake_world_each(serving->world, mend_run, &id);
    return id.workload_uid && fl_fake_world_turn_run(serving->world, &id, true);
}

static bool happen(struct sim *sim, bool calm)
{
    struct serving *serving = sim->world;
    const size_t count = fl_fake_world_step(serving->world);
    bool news;

    if (count)
        sim_trace(sim, "%zu things happen on the orchestrator", count);
    if (!calm && sim_chance(sim, 25))
        disturb(sim);
    news = serving_routers_step(serving, calm);
    return mend(serving) || news || count > 0;
}

static int64_t next_due_ms(struct sim *sim)
{
    const struct serving *serving = sim->world;
    const int64_t runs = fl_fake_world_next_due_ms(serving->world),
                  requests = serving_routers_due_ms(serving);

    const int64_t mended = serving->mended_ms > sim_now_ms(sim) ? serving->mended_ms : INT64_MAX;
    const int64_t first = runs < requests ? runs : requests;

    return first < mended ? first : mended;
}

static void calm(struct sim *sim)
{
    struct serving *serving = sim->world;

    fl_fake_world_set_reachable(serving->world, true);
    serving->cut = false;
    if (serving->mended_ms == INT64_MAX)
        serving->mended_ms = sim_now_ms(sim) + (sim_chance(sim, 50) ? 0 : MENDED_MS);
}

/* --- the end -------------------------------------------------------------------------------- */

static void touch(struct sim *sim, struct sim_process *process)
{
    FL_JSON items = sim_list(sim, &serving_workloads);
    json_t *workload;
    size_t i;

    for (i = 0; i < SERVING_NAMES; i++)
        fl_manager_enqueue(process->manager, "inferenceserver", SERVING_NS, serving_names[i]);
    json_array_foreach(items, i, workload)
        fl_manager_enqueue(process->manager, "workload", SERVING_NS,
                           fl_json_str(workload, "metadata.name"));
    fl_manager_enqueue(process->manager, "orchestrator", NULL, "local");
}

static uint64_t actions(struct sim *sim)
{
    const struct serving *serving = sim->world;
    const struct fl_fake_counts counts = fl_fake_world_count(serving->world, NULL);

    return counts.starts + counts.stops + serving->puts;
}

static void remove_all(struct sim *sim)
{
    for (size_t i = 0; i < SERVING_NAMES; i++)
        sim_delete(sim, &serving_servers, SERVING_NS, serving_names[i]);
}

static bool nothing_left(struct sim *sim, struct fl_buf *why)
{
    static const char *const kinds[] = {"inferenceservers.flops.dev", "workloads.flops.dev",
                                        "secrets"};
    const struct serving *serving = sim->world;
    const struct fl_fake_counts counts = fl_fake_world_count(serving->world, NULL);

    for (size_t i = 0; i < FL_COUNT_OF(kinds); i++)
        if (fl_store_count(sim->store, kinds[i]))
            return sim_wrong(why, "%zu %s are left", fl_store_count(sim->store, kinds[i]),
                             kinds[i]);
    if (counts.living + counts.ended)
        return sim_wrong(why, "%zu runs live and %zu records are left", counts.living,
                         counts.ended);
    return true;
}

const struct sim_scenario sim_serving = {
    .weight = 8,
    .name = "serving",
    .processes = 1,
    .one_clock = true,
    .caches = caches,
    .turns = 220,
    .edits = 10,
    .patience_ms = 2 * 60 * 60 * 1000,
    .settle_ms = 60 * 1000,
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
    .watchful = serving_watchful,
    .converged = serving_converged,
    .touch = touch,
    .actions = actions,
    .remove_all = remove_all,
    .nothing_left = nothing_left,
};
