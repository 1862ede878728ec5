/* What must hold of FLProjects when all has come to rest. */
#include "e2e/sim/project.h"

#include "lib/str.h"

#include <inttypes.h>

#define ROUNDS_MAX 40

static const char *ready_says(const json_t *object, const char *what)
{
    return fl_str_or(fl_json_str(sim_condition(object, "Ready"), what), "?");
}

static bool is_models_project(const json_t *model, const json_t *project)
{
    return fl_streq(fl_json_str(model, "spec.project.name"), fl_json_str(project, "metadata.name"));
}

/* What the root of one project committed. */
struct history {
    const char *uid;
    struct fl_fake_committed all[ROUNDS_MAX * 4];
    size_t count, times[ROUNDS_MAX];
};

static void note_commit(void *user, const struct fl_fake_committed *committed)
{
    struct history *history = user;

    if (!fl_streq(committed->uid, history->uid) || committed->round >= ROUNDS_MAX ||
        history->count == FL_COUNT_OF(history->all))
        return;
    history->all[history->count++] = *committed;
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

/* The models of one project, by round. */
static bool list_models(const json_t *project, const json_t *items, const json_t **ret_models,
                        struct fl_buf *why)
{
    json_t *model;
    size_t i;

    json_array_foreach((json_t *)items, i, model) {
        const int64_t number = fl_json_int(model, "spec.round", -1);

        if (!is_models_project(model, project))
            continue;
        if (number < 0 || number >= ROUNDS_MAX || ret_models[number])
            return sim_wrong(why, "%s: two models of round %" PRId64,
                             fl_json_str(project, "metadata.name"), number);
        ret_models[number] = model;
    }
    return true;
}

/* Its root made it, once, of the model before. */
static bool model_right(const struct project_place *place, const struct history *history,
                        const json_t *const *of_round, int64_t round, struct fl_buf *why)
{
    const char *digest = fl_json_str(of_round[round], "spec.digest");
    const struct fl_fake_committed *commit = find_commit(history, round, digest);

    if (!commit)
        return sim_wrong(why, "round %" PRId64 " has a model that no root made", round);
    if (!place->lost && history->times[round] != 1)
        return sim_wrong(why, "round %" PRId64 " was committed %zu times", round,
                         history->times[round]);
    if (round > 1 && !fl_streq(commit->base, fl_json_str(of_round[round - 1], "spec.digest")))
        return sim_wrong(why, "round %" PRId64 " began with another model than the one before made",
                         round);
    return true;
}

/* How many of them go by it. */
static size_t count_alias(const json_t *const *of_round, const char *alias)
{
    size_t count = 0, i;
    const json_t *item;

    for (int64_t round = 0; round < ROUNDS_MAX; round++)
        json_array_foreach(fl_json_path(of_round[round], "spec.aliases"), i, item)
            count += fl_streq(json_string_value(item), alias);
    return count;
}

static bool aliases_right(const json_t *const *of_round, int64_t completed, struct fl_buf *why)
{
    const json_t *latest[ROUNDS_MAX] = {of_round[completed]};

    if (count_alias(of_round, "latest") != 1 || count_alias(latest, "latest") != 1)
        return sim_wrong(why, "the model of round %" PRId64 " does not go by latest alone",
                         completed);
    return count_alias(of_round, "best") == 1
               ? true
               : sim_wrong(why, "%zu models go by best", count_alias(of_round, "best"));
}

/* One model for each round up to the last, without a gap, and none beyond. */
static bool models_right(struct sim *sim, const json_t *project, int64_t completed,
                         struct fl_buf *why)
{
    const struct project_place *place = sim->world;
    FL_JSON items = sim_list(sim, &project_models);
    const json_t *of_round[ROUNDS_MAX] = {NULL};
    const char *name = fl_json_str(project, "metadata.name");
    struct history history = {.uid = fl_json_str(project, "metadata.uid")};

    fl_fake_roots_each_commit(place->roots, note_commit, &history);
    if (!list_models(project, items, of_round, why))
        return false;
    for (int64_t round = 1; round < ROUNDS_MAX; round++) {
        if (!of_round[round] != (round > completed))
            return sim_wrong(why, "%s: %" PRId64 " rounds are done, and round %" PRId64 " has %s",
                             name, completed, round, of_round[round] ? "a model" : "none");
        if (of_round[round] && !model_right(place, &history, of_round, round, why))
            return false;
    }
    return completed == 0 || aliases_right(of_round, completed, why);
}

/* One that was declared by hand may end badly: nobody minds. */
static bool may_fail(const json_t *round)
{
    return fl_str_has_prefix(fl_json_str(round, "metadata.name"), "by-hand");
}

static bool is_round_done(const json_t *round)
{
    return sim_is_condition(round, "Succeeded", "True") ||
           (may_fail(round) && sim_is_condition(round, "Stalled", "True"));
}

static bool no_round_open(struct sim *sim, const json_t *project, struct fl_buf *why)
{
    FL_JSON items = sim_list(sim, &project_rounds);
    json_t *round;
    size_t i;

    json_array_foreach(items, i, round) {
        if (is_models_project(round, project) && !is_round_done(round))
            return sim_wrong(why, "%s: round %s is not done: %s (%s)",
                             fl_json_str(project, "metadata.name"),
                             fl_json_str(round, "metadata.name"), ready_says(round, "reason"),
                             ready_says(round, "message"));
    }
    return true;
}

static bool status_right(const json_t *project, bool suspended, struct fl_buf *why)
{
    const char *name = fl_json_str(project, "metadata.name");
    const char *reason = suspended ? "Suspended" : "Complete";

    if (fl_json_int(project, "status.observedGeneration", -1) !=
        fl_json_int(project, "metadata.generation", 0))
        return sim_wrong(why, "%s: its last generation is not observed", name);
    if (!fl_streq(ready_says(project, "reason"), reason))
        return sim_wrong(why, "%s: Ready is %s, not %s: %s", name, ready_says(project, "reason"),
                         reason, ready_says(project, "message"));
    if (sim_is_condition(project, "Reconciling", "True"))
        return sim_wrong(why, "%s: still Reconciling: %s", name, ready_says(project, "message"));
    return true;
}

static bool project_right(struct sim *sim, const json_t *project, struct fl_buf *why)
{
    const char *name = fl_json_str(project, "metadata.name");
    bool suspended = fl_json_bool(project, "spec.suspend", false);
    int64_t completed = fl_json_int(project, "status.rounds.completed", 0);

    if (fl_json_str(project, "metadata.deletionTimestamp"))
        return sim_wrong(why, "%s is still being deleted: %s", name,
                         ready_says(project, "message"));
    if (!status_right(project, suspended, why))
        return false;
    if (suspended)
        return true;
    if (completed < fl_json_int(project, "spec.training.rounds", 0))
        return sim_wrong(why, "%s: complete after %" PRId64 " rounds", name, completed);
    return no_round_open(sim, project, why) && models_right(sim, project, completed, why);
}

/* All that is the projects' is at rest, too. */
static bool services_right(struct sim *sim, struct fl_buf *why)
{
    FL_JSON items = sim_list(sim, &project_workloads);
    FL_JSON orchestrator = sim_get(sim, &project_orchestrators, NULL, "local");
    json_t *workload;
    size_t i;

    if (!sim_is_condition(orchestrator, "Ready", "True"))
        return sim_wrong(why, "the orchestrator is not ready");
    json_array_foreach(items, i, workload) {
        if (!fl_streq(ready_says(workload, "reason"), "Suspended") ||
            sim_is_condition(workload, "Reconciling", "True"))
            return sim_wrong(why, "Workload %s is %s: %s", fl_json_str(workload, "metadata.name"),
                             ready_says(workload, "reason"), ready_says(workload, "message"));
    }
    return true;
}

bool project_converged(struct sim *sim, struct fl_buf *why)
{
    const struct project_place *place = sim->world;
    size_t living = fl_fake_world_count(place->world, NULL).living;

    for (size_t i = 0; i < PROJECT_NAMES; i++) {
        FL_JSON project = sim_get(sim, &project_projects, PROJECT_NS, project_names[i]);

        if (project && !project_right(sim, project, why))
            return false;
    }
    if (living > 0)
        return sim_wrong(why, "%zu runs live, and nothing is to be done", living);
    return services_right(sim, why);
}
