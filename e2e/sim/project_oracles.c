/* What must hold of FLProjects when all has come to rest. */
#include "e2e/sim/project.h"

#include "lib/str.h"

#include <inttypes.h>

static const char *ready_says(const json_t *object, const char *what)
{
    return fl_str_or(fl_json_str(sim_condition(object, "Ready"), what), "?");
}

static bool is_models_project(const json_t *model, const json_t *project)
{
    return fl_streq(fl_json_str(model, "spec.project.name"), fl_json_str(project, "metadata.name"));
}

/* One model at most for each round, and the latest goes by its alias. */
static bool models_right(struct sim *sim, const json_t *project, int64_t completed,
                         struct fl_buf *why)
{
    FL_JSON items = sim_list(sim, &project_models);
    const char *name = fl_json_str(project, "metadata.name");
    int64_t newest = 0, seen[64] = {0};
    json_t *model;
    size_t i;

    json_array_foreach(items, i, model) {
        int64_t number = fl_json_int(model, "spec.round", 0);

        if (!is_models_project(model, project))
            continue;
        if (number > 0 && number < 64 && seen[number]++ > 0)
            return sim_wrong(why, "%s: two models of round %" PRId64, name, number);
        if (number > newest)
            newest = number;
    }
    if (newest != completed)
        return sim_wrong(why, "%s: the newest model is of round %" PRId64 ", not %" PRId64, name,
                         newest, completed);
    return true;
}

static bool no_round_open(struct sim *sim, const json_t *project, struct fl_buf *why)
{
    FL_JSON items = sim_list(sim, &project_rounds);
    json_t *round;
    size_t i;

    json_array_foreach(items, i, round) {
        if (is_models_project(round, project) && !sim_is_condition(round, "Succeeded", "True"))
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
