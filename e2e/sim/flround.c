/* FLRounds of one project over a root by script: rounds that fail, roots that crash and come back
 * with or without their disk, or cannot be reached; users who declare rounds with and without a
 * number, delete them in mid-flight, suspend them, ask for them anew, change the project. */
#include "reconcilers/flround/flround.h"

#include "e2e/sim/sim.h"
#include "lib/file.h"
#include "lib/str.h"
#include "reconcilers/federation/federation_fake.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS         "default"
#define PROJECT    "p"
#define FINALIZER  "flops.dev/flround"
#define ROUNDS_MAX 9 /* objects that a user makes */
#define NUMBER_MAX 24

static const struct fl_gvr rounds = {"flops.dev", "v1alpha1", "flrounds", true};
static const struct fl_gvr projects = {"flops.dev", "v1alpha1", "flprojects", true};
static const struct fl_gvr models = {"flops.dev", "v1alpha1", "modelversions", true};
static const struct fl_gvr workloads = {"flops.dev", "v1alpha1", "workloads", true};
static const struct fl_gvr *const caches[] = {&rounds,    &projects,       &models,
                                              &workloads, &fl_gvr_secrets, NULL};

struct field {
    struct sim *sim;
    struct fl_fake_roots *roots;
    char folder[64];          /* of all runs: each has one below it */
    struct fl_blobs *content; /* opened in the run */
    char uid[64];             /* of the project */
    unsigned made;
    bool calm, lost; /* lost: a root has lost its disk */
};

/* A process's door to the federation: with faults. What it says is in the process's memory, so
 * nothing is forgotten there; what is lost on the way to a root is the root's affair. */
struct door {
    struct fl_federation_driver base;
    struct sim_process *process;
    struct fl_federation_driver *inner;
};

struct kinds {
    struct door door;
    struct fl_flround_controller *rounds;
    struct sim_process *process;
};

/* --- the door ------------------------------------------------------------------------------- */

static int answer(enum sim_fault fault, int r, struct fl_error *err)
{
    int fault_code = sim_fault_error(fault, err);

    return fault_code < 0 ? fault_code : r;
}

#define THROUGH(what, call)                                                                        \
    struct door *door = (struct door *)self;                                                       \
    enum sim_fault fault = sim_call(door->process, SIM_CALL_DRIVER_READ, what);                    \
    int r = 0;                                                                                     \
                                                                                                   \
    if (sim_takes_place(fault))                                                                    \
        r = door->inner->ops->call;                                                                \
    sim_call_done(door->process, fault);                                                           \
    return answer(fault, r, err)

static int status(struct fl_federation_driver *self, const struct fl_federation_at *at,
                  struct fl_arena *arena, struct fl_federation_status *ret_status,
                  struct fl_error *err)
{
    THROUGH("root status", status(door->inner, at, arena, ret_status, err));
}

static bool has_finalizer(const json_t *object)
{
    json_t *item;
    size_t i;

    json_array_foreach(fl_json_path(object, "metadata.finalizers"), i, item)
        if (fl_streq(json_string_value(item), FINALIZER))
            return true;
    return false;
}

/* Whoever orders a round can take it back when its object goes. */
static void check_finalizer(struct sim *sim, int64_t number)
{
    FL_JSON list = sim_list(sim, &rounds);
    json_t *round;
    size_t i;

    json_array_foreach(list, i, round)
        if (fl_json_int(round, "status.index", fl_json_int(round, "spec.index", 0)) == number &&
            has_finalizer(round))
            return;
    if (sim->busy && sim_is_odd(sim)) /* it may have gone since the pass began */
        return;
    sim_fail(sim, "finalizer", "round %" PRId64 " is ordered for no object that has its finalizer",
             number);
}

static int start_round(struct fl_federation_driver *self, const struct fl_federation_at *at,
                       const struct fl_round_order *order, struct fl_error *err)
{
    struct sim_process *process = ((struct door *)self)->process;
    struct fl_round_order given = *order;

    if (!process->dead)
        check_finalizer(process->sim, order->round);
    if (sim_planted(process->sim, "round-base-forgotten")) {
        given.model = NULL;
        given.model_size = 0;
    }
    THROUGH("start round", start_round(door->inner, at, &given, err));
}

/* Planted. */
static void mistake(const struct sim *sim, struct fl_federation_round *seen)
{
    if (seen->known != FL_FEDERATION_KNOWN)
        return;
    if (sim_planted(sim, "round-failure-lost") && seen->report.phase == FL_ROUND_FAILED)
        seen->report.phase = FL_ROUND_TRAINING;
    if (sim_planted(sim, "round-model-early") && seen->report.phase == FL_ROUND_AGGREGATING) {
        seen->report.phase = FL_ROUND_COMMITTED;
        seen->report.model = seen->report.base;
        seen->report.model_size = seen->report.base_size;
    }
}

static int observe_round(struct fl_federation_driver *self, const struct fl_federation_at *at,
                         int64_t round, struct fl_arena *arena,
                         struct fl_federation_round *ret_round, struct fl_error *err)
{
    struct door *door = (struct door *)self;
    enum sim_fault fault = sim_call(door->process, SIM_CALL_DRIVER_READ, "observe round");
    int r = 0;

    if (sim_takes_place(fault))
        r = door->inner->ops->observe_round(door->inner, at, round, arena, ret_round, err);
    if (r == 0 && sim_takes_place(fault))
        mistake(door->process->sim, ret_round);
    sim_call_done(door->process, fault);
    return answer(fault, r, err);
}

static int abort_round(struct fl_federation_driver *self, const struct fl_federation_at *at,
                       int64_t round, struct fl_error *err)
{
    THROUGH("abort round", abort_round(door->inner, at, round, err));
}

static int put_model(struct fl_federation_driver *self, const struct fl_federation_at *at,
                     const char *digest, struct fl_arena *arena, struct fl_transfer *ret_transfer,
                     struct fl_error *err)
{
    THROUGH("put model", put_model(door->inner, at, digest, arena, ret_transfer, err));
}

static int get_model(struct fl_federation_driver *self, const struct fl_federation_at *at,
                     const char *digest, int64_t size, struct fl_arena *arena,
                     struct fl_transfer *ret_transfer, struct fl_error *err)
{
    if (sim_planted(((struct door *)self)->process->sim, "round-model-not-kept")) {
        *ret_transfer = (struct fl_transfer){.state = FL_TRANSFER_DONE, .all = 1};
        return 0;
    }
    THROUGH("get model", get_model(door->inner, at, digest, size, arena, ret_transfer, err));
}

static int import_model(struct fl_federation_driver *self, const char *uri, const char *ns,
                        const char *project, struct fl_arena *arena,
                        struct fl_transfer *ret_transfer, struct fl_error *err)
{
    THROUGH("import model", import_model(door->inner, uri, ns, project, arena, ret_transfer, err));
}

static int children(struct fl_federation_driver *self, const struct fl_federation_at *at,
                    const struct fl_children *wanted, struct fl_error *err)
{
    THROUGH("children", children(door->inner, at, wanted, err));
}

static void forget(struct fl_federation_driver *self, const char *uid)
{
    struct door *door = (struct door *)self;

    door->inner->ops->forget(door->inner, uid);
}

static void leave_open(struct fl_federation_driver *self)
{
    (void)self;
}

static const struct fl_federation_ops door_ops = {
    .name = "simulated",
    .destroy = leave_open,
    .status = status,
    .start_round = start_round,
    .observe_round = observe_round,
    .abort_round = abort_round,
    .put_model = put_model,
    .get_model = get_model,
    .import_model = import_model,
    .children = children,
    .forget = forget,
};

/* --- the world ------------------------------------------------------------------------------ */

static void on_plan(void *user, const struct fl_round_order *order, struct fl_fake_round *plan)
{
    struct field *field = user;
    struct sim *sim = field->sim;

    plan->wait_ms = (int64_t)sim_below(sim, 2000);
    plan->train_ms = (int64_t)sim_below(sim, 20000);
    plan->evaluate_ms = (int64_t)sim_below(sim, 5000);
    plan->failing = !field->calm && sim_chance(sim, 30) ? (int64_t)sim_below(sim, 6) : 0;
    sim_trace(sim,
              "the root begins round %" PRId64 ", run %" PRId64 "; %" PRId64 " attempts will fail",
              order->round, order->run, plan->failing);
}

static json_t *owner(const struct field *field)
{
    return json_pack("[{s:s,s:s,s:s,s:s,s:b}]", "apiVersion", "flops.dev/v1alpha1", "kind",
                     "FLProject", "name", PROJECT, "uid", field->uid, "controller", 1);
}

static void patch_status(struct sim *sim, const char *target, json_t *patch)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_json_to_bytes(patch);
    struct fl_error err = {0};
    json_t *value = NULL;

    json_decref(patch);
    if (fl_apiclient_call(sim->client,
                          &(struct fl_api_call){.method = "PATCH",
                                                .target = target,
                                                .content_type = "application/merge-patch+json",
                                                .body = text->data,
                                                .body_len = text->len},
                          &value, &err) < 0)
        sim_fail(sim, "set-up", "%s", err.msg);
    json_decref(value);
}

/* What FLProject would have made. */
static void make_root(struct field *field)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *root = fl_child_name(arena, PROJECT, field->uid, "root");

    sim_create(field->sim, &fl_gvr_secrets,
               json_pack("{s:s,s:s,s:{s:s,s:s,s:o},s:{s:s}}", "apiVersion", "v1", "kind", "Secret",
                         "metadata", "name",
                         fl_child_name(arena, PROJECT, field->uid, "federation"), "namespace", NS,
                         "ownerReferences", owner(field), "stringData", "token", "t"));
    sim_create(field->sim, &workloads,
               json_pack("{s:s,s:s,s:{s:s,s:s,s:{s:s},s:o},s:{s:{s:s}}}", "apiVersion",
                         "flops.dev/v1alpha1", "kind", "Workload", "metadata", "name", root,
                         "namespace", NS, "labels", "flops.dev/role", "root", "ownerReferences",
                         owner(field), "spec", "process", "program", "x"));
    patch_status(field->sim,
                 fl_arena_printf(
                     arena, "/apis/flops.dev/v1alpha1/namespaces/" NS "/workloads/%s/status", root),
                 json_pack("{s:{s:[{s:i,s:s,s:s,s:[{s:s,s:i}]}]}}", "status", "instances", "index",
                           0, "state", "Running", "address", "127.0.0.1", "ports", "name", "http",
                           "port", 7070));
}

static void *create(struct sim *sim)
{
    struct field *field = fl_calloc(1, sizeof(*field));
    FL_JSON project = NULL;

    field->sim = sim;
    field->roots = fl_fake_roots_create(&sim->env);
    fl_fake_roots_on_plan(field->roots, on_plan, field);
    (void)snprintf(field->folder, sizeof(field->folder), "/tmp/flops-sim.XXXXXX");
    if (!mkdtemp(field->folder))
        abort();
    sim_create(sim, &projects,
               json_pack("{s:s,s:s,s:{s:s,s:s},s:{s:{s:{s:s}},s:{s:i,s:{s:i}}}}", "apiVersion",
                         "flops.dev/v1alpha1", "kind", "FLProject", "metadata", "name", PROJECT,
                         "namespace", NS, "spec", "source", "builtin", "trainer", "MLP", "training",
                         "rounds", 10, "participation", "retryLimit", 2));
    project = sim_get(sim, &projects, NS, PROJECT);
    (void)snprintf(field->uid, sizeof(field->uid), "%s",
                   fl_str_or(fl_json_str(project, "metadata.uid"), ""));
    make_root(field);
    return field;
}

static void destroy(void *world)
{
    struct field *field = world;

    fl_fake_roots_destroy(field->roots);
    fl_blobs_close(field->content);
    (void)fl_dir_remove(field->folder, NULL);
    free(field);
}

/* Runs are forks of one world: each has a content store of its own. */
static int open_content(struct field *field, struct fl_error *err)
{
    const struct sim_options *options = &field->sim->options;
    FL_CLEANUP(fl_freep)
    char *path = fl_asprintf("%s/%" PRIu64 "-%" PRIu64 "-%d", field->folder, options->seed,
                             options->fault_at, (int)options->fault);
    const struct fl_blobs_options blobs = {.env = &field->sim->env, .path = path, .fleeting = true};

    return field->content ? 0 : fl_blobs_open(&blobs, &field->content, err);
}

static void on_changed(void *user, const char *ns, const char *project)
{
    struct kinds *kinds = user;

    if (kinds->rounds && !kinds->process->dead)
        fl_flround_changed(kinds->rounds, ns, project);
}

static int join(struct sim_process *process, struct fl_error *err)
{
    struct field *field = process->sim->world;
    struct kinds *kinds = fl_calloc(1, sizeof(*kinds));
    int r = open_content(field, err);

    process->kinds = kinds;
    kinds->process = process;
    if (r < 0)
        return r;
    kinds->door = (struct door){
        .base = {&door_ops},
        .process = process,
        .inner = fl_federation_fake_create(field->roots, field->content, on_changed, kinds)};
    return fl_flround_controller_create(process->manager, &kinds->door.base, &kinds->rounds, err);
}

static void leave(struct sim_process *process)
{
    struct kinds *kinds = process->kinds;

    if (kinds->door.inner)
        kinds->door.inner->ops->destroy(kinds->door.inner);
    fl_flround_controller_destroy(kinds->rounds);
    free(kinds);
}

/* --- users ---------------------------------------------------------------------------------- */

static int64_t number_of(const json_t *round)
{
    return fl_json_int(round, "spec.index", fl_json_int(round, "status.index", 0));
}

static bool has_succeeded(const json_t *round)
{
    return sim_is_condition(round, "Succeeded", "True");
}

static int64_t next_number(struct sim *sim)
{
    FL_JSON list = sim_list(sim, &rounds);
    FL_JSON versions = sim_list(sim, &models);
    int64_t last = 0;
    json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
        last = number_of(item) > last ? number_of(item) : last;
    json_array_foreach(versions, i, item)
        last =
            fl_json_int(item, "spec.round", 0) > last ? fl_json_int(item, "spec.round", 0) : last;
    return last + 1;
}

static void declare(struct sim *sim)
{
    struct field *field = sim->world;
    bool numbered = sim_chance(sim, 60);
    int64_t number = next_number(sim);
    char name[16];
    json_t *spec = json_pack("{s:{s:s}}", "project", "name", PROJECT);

    (void)snprintf(name, sizeof(name), "r-%u", ++field->made);
    if (numbered)
        json_object_set_new(spec, "index", json_integer(number));
    sim_trace(sim, "user: declares %s%s", name, numbered ? " with its number" : "");
    sim_create(sim, &rounds,
               json_pack("{s:s,s:s,s:{s:s,s:s},s:o}", "apiVersion", "flops.dev/v1alpha1", "kind",
                         "FLRound", "metadata", "name", name, "namespace", NS, "spec", spec));
}

static void meddle(struct sim *sim, const char *name)
{
    char value[24];

    (void)snprintf(value, sizeof(value), "%" PRIu64, sim_random(sim));
    switch (sim_below(sim, 4)) {
    case 0:
        sim_trace(sim, "user: deletes %s", name);
        sim_delete(sim, &rounds, NS, name);
        break;
    case 1:
        sim_trace(sim, "user: suspends or resumes %s", name);
        sim_patch(sim, &rounds, NS, name,
                  json_pack("{s:{s:b}}", "spec", "suspend", (int)sim_below(sim, 2)));
        break;
    case 2:
        sim_trace(sim, "user: wants %s anew", name);
        sim_patch(
            sim, &rounds, NS, name,
            json_pack("{s:{s:{s:s}}}", "metadata", "annotations", "flops.dev/reconcile", value));
        break;
    default:
        sim_trace(sim, "user: changes the project");
        sim_patch(sim, &projects, NS, PROJECT,
                  json_pack("{s:{s:{s:i}}}", "spec", "training", "rounds",
                            (int)(10 + sim_below(sim, 5))));
    }
}

static void edit(struct sim *sim)
{
    const struct field *field = sim->world;
    FL_JSON list = sim_list(sim, &rounds);
    size_t count = json_array_size(list);

    if (field->made < ROUNDS_MAX && (count == 0 || sim_chance(sim, 55)))
        declare(sim);
    else if (count > 0)
        meddle(sim, fl_json_str(json_array_get(list, sim_below(sim, count)), "metadata.name"));
}

static bool happen(struct sim *sim, bool is_calm)
{
    struct field *field = sim->world;
    size_t count = fl_fake_roots_step(field->roots);
    bool lose;

    if (count)
        sim_trace(sim, "%zu things happen at the root", count);
    if (is_calm || !sim_chance(sim, 12))
        return count > 0;
    switch (sim_below(sim, 3)) {
    case 0:
        lose = sim_chance(sim, 30);
        field->lost |= lose;
        sim_trace(sim, "the root crashes%s", lose ? " and loses its disk" : "");
        fl_fake_roots_restart(field->roots, field->uid, lose);
        break;
    case 1:
        lose = sim_chance(sim, 40);
        sim_trace(sim, "the root is %s", lose ? "away" : "reachable");
        fl_fake_roots_set_reachable(field->roots, !lose);
        break;
    default:
        fl_fake_roots_set_members(field->roots, field->uid, (int64_t)sim_below(sim, 5));
    }
    return true;
}

static int64_t next_due_ms(struct sim *sim)
{
    return fl_fake_roots_next_due_ms(((struct field *)sim->world)->roots);
}

static void calm(struct sim *sim)
{
    struct field *field = sim->world;

    field->calm = true;
    fl_fake_roots_set_reachable(field->roots, true);
    fl_fake_roots_set_members(field->roots, field->uid, 4);
}

/* --- oracles -------------------------------------------------------------------------------- */

struct history {
    struct sim *sim;
    struct fl_fake_committed all[64];
    size_t count, times[NUMBER_MAX];
};

static void note_commit(void *user, const struct fl_fake_committed *committed)
{
    struct history *history = user;

    if (history->count < FL_COUNT_OF(history->all))
        history->all[history->count++] = *committed;
    if (committed->round < NUMBER_MAX)
        history->times[committed->round]++;
}

static const struct fl_fake_committed *find_commit(const struct history *history, int64_t round,
                                                   const char *model)
{
    for (size_t i = 0; i < history->count; i++)
        if (history->all[i].round == round && fl_streq(history->all[i].model, model))
            return &history->all[i];
    return NULL;
}

static const json_t *find_version(const json_t *versions, int64_t round)
{
    json_t *version;
    size_t i;

    json_array_foreach((json_t *)versions, i, version)
        if (fl_json_int(version, "spec.round", -1) == round)
            return version;
    return NULL;
}

/* Each model is what its round made, of the model before, and is kept. */
static bool version_right(struct sim *sim, const struct history *history, const json_t *versions,
                          const json_t *version, struct fl_buf *why)
{
    const struct field *field = sim->world;
    const int64_t round = fl_json_int(version, "spec.round", -1);
    const char *digest = fl_json_str(version, "spec.digest");
    const json_t *before = find_version(versions, round - 1);
    const struct fl_fake_committed *commit;

    if (!fl_blobs_has(field->content, digest))
        return sim_wrong(why, "the model of round %" PRId64 " is not kept", round);
    if (round == 0)
        return true;
    commit = find_commit(history, round, digest);
    if (!commit)
        return sim_wrong(why, "round %" PRId64 " has a model that no root made", round);
    if (!field->lost && history->times[round] != 1)
        return sim_wrong(why, "round %" PRId64 " was committed %zu times", round,
                         history->times[round]);
    if (before && !fl_streq(commit->base, fl_json_str(before, "spec.digest")))
        return sim_wrong(why,
                         "round %" PRId64 " began with another model than round %" PRId64 " made",
                         round, round - 1);
    return true;
}

static bool versions_right(struct sim *sim, const struct history *history, const json_t *versions,
                           struct fl_buf *why)
{
    size_t seen[NUMBER_MAX] = {0};
    json_t *version;
    size_t i;

    json_array_foreach((json_t *)versions, i, version) {
        const int64_t round = fl_json_int(version, "spec.round", -1);

        if (round < 0 || round >= NUMBER_MAX || seen[round]++ > 0)
            return sim_wrong(why, "round %" PRId64 " has two models", round);
        if (!version_right(sim, history, versions, version, why))
            return false;
    }
    return true;
}

static bool is_told(const json_t *round, const char *reason)
{
    return fl_streq(fl_json_str(sim_condition(round, "Ready"), "reason"), reason);
}

/* Whether nothing keeps it from being begun: no lower one, and the root's count. */
static bool is_next(const json_t *list, const json_t *round, int64_t committed)
{
    json_t *other;
    size_t i;

    json_array_foreach((json_t *)list, i, other)
        if (other != round && number_of(other) > 0 && number_of(other) < number_of(round) &&
            !has_succeeded(other))
            return false;
    return committed == 0 || number_of(round) == committed + 1;
}

static bool round_right(const json_t *list, const json_t *round, const json_t *versions,
                        int64_t committed, struct fl_buf *why)
{
    const char *name = fl_json_str(round, "metadata.name");
    const json_t *version = find_version(versions, number_of(round));

    if (fl_json_str(round, "metadata.deletionTimestamp"))
        return sim_wrong(why, "%s is still being deleted", name);
    if (has_succeeded(round))
        return version && fl_streq(fl_json_str(round, "status.model.digest"),
                                   fl_json_str(version, "spec.digest"))
                   ? true
                   : sim_wrong(why, "%s says another model than its ModelVersion", name);
    if (version)
        return sim_wrong(why, "%s has a model and did not succeed", name);
    if (is_told(round, "QuorumNotReached") || is_told(round, "NumberTaken") ||
        is_told(round, "Aborted"))
        return sim_is_condition(round, "Stalled", "True") ? true
                                                          : sim_wrong(why, "%s is lost", name);
    if (is_told(round, "Suspended") && fl_json_bool(round, "spec.suspend", false))
        return true;
    if (is_told(round, "WaitingForTurn") && !is_next(list, round, committed))
        return true;
    return sim_wrong(why, "%s, round %" PRId64 ", ends as %s", name, number_of(round),
                     fl_str_or(fl_json_str(sim_condition(round, "Ready"), "reason"), "nothing"));
}

static bool converged(struct sim *sim, struct fl_buf *why)
{
    const struct field *field = sim->world;
    FL_JSON list = sim_list(sim, &rounds);
    FL_JSON versions = sim_list(sim, &models);
    struct history history = {.sim = sim};
    json_t *round;
    size_t i;

    fl_fake_roots_each_commit(field->roots, note_commit, &history);
    if (fl_fake_roots_running(field->roots) > 0)
        return sim_wrong(why, "a round runs at the root");
    json_array_foreach(list, i, round)
        if (!round_right(list, round, versions, fl_fake_roots_committed(field->roots, field->uid),
                         why))
            return false;
    return versions_right(sim, &history, versions, why);
}

static void touch(struct sim *sim, struct sim_process *process)
{
    FL_JSON list = sim_list(sim, &rounds);
    json_t *round;
    size_t i;

    json_array_foreach(list, i, round)
        fl_manager_enqueue(process->manager, "flround", NS, fl_json_str(round, "metadata.name"));
}

static uint64_t actions(struct sim *sim)
{
    const struct field *field = sim->world;
    const struct fl_fake_roots_counts counts = fl_fake_roots_count(field->roots);

    return counts.starts + counts.aborts;
}

static void remove_all(struct sim *sim)
{
    FL_JSON list = sim_list(sim, &rounds);
    json_t *round;
    size_t i;

    json_array_foreach(list, i, round)
        sim_delete(sim, &rounds, NS, fl_json_str(round, "metadata.name"));
}

static bool nothing_left(struct sim *sim, struct fl_buf *why)
{
    const struct field *field = sim->world;

    if (fl_store_count(sim->store, "flrounds.flops.dev"))
        return sim_wrong(why, "an FLRound is left");
    if (fl_fake_roots_running(field->roots) > 0)
        return sim_wrong(why, "a round runs for nobody");
    return true;
}

const struct sim_scenario sim_flround = {
    .weight = 3,
    .name = "flround",
    .processes = 1,
    .caches = caches,
    .turns = 250,
    .edits = 14,
    .patience_ms = 3 * 60 * 60 * 1000,
    .settle_ms = 60 * 1000,
    .idle_ms = 3 * 60 * 1000,
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
