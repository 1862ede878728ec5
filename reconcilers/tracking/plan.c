#include "reconcilers/tracking/plan.h"

#include "controller/runtime/reconcile.h"
#include "lib/digest.h"
#include "lib/str.h"
#include "reconcilers/tracking/plan_internal.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#define KEY_MAX      200
#define TAGS_MAX     60
#define DATASETS_MAX 64
#define DIGEST_CHARS 32 /* of a data set; trackers take 36 */

const char *fl_track_key(struct fl_arena *arena, const char *text)
{
    char *key = fl_arena_strndup(arena, text, strnlen(text, KEY_MAX));

    for (char *c = key; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("_-.", *c))
            *c = '_';
    if (*key == '.')
        *key = '_';
    return *key ? key : "_";
}

void fl_track_pairs_add(struct fl_track_pairs *pairs, const char *key, const char *value)
{
    size_t len = value ? strlen(value) : 0;

    if (len == 0 || pairs->map.count == pairs->max || fl_string_map_get(&pairs->map, key))
        return;
    if (pairs->map.count == pairs->room) {
        struct fl_string_pair *more =
            fl_new_array(pairs->arena, struct fl_string_pair, pairs->room * 2 + 16);

        if (pairs->map.count > 0)
            memcpy(more, pairs->map.items, pairs->map.count * sizeof(*more));
        pairs->map.items = more;
        pairs->room = pairs->room * 2 + 16;
    }
    if (len > FL_TRACK_VALUE_MAX)
        len = fl_utf8_cut(value, len, FL_TRACK_VALUE_MAX);
    pairs->map.items[pairs->map.count++] =
        (struct fl_string_pair){key, fl_arena_strndup(pairs->arena, value, len)};
}

int64_t fl_track_time_ms(const char *text)
{
    int64_t us = 0;

    return text && fl_time_parse(text, &us) ? us / 1000 : 0;
}

bool fl_track_is(const struct fl_condition_list *conditions, const char *type,
                 int64_t *ret_since_ms)
{
    const struct fl_condition *condition = fl_condition_find(conditions, type);
    bool holds = condition && condition->status == FL_CONDITION_STATUS_TRUE;

    if (holds && ret_since_ms)
        *ret_since_ms = fl_track_time_ms(condition->last_transition_time);
    return holds;
}

/* Tags. */

static struct fl_track_pairs new_tags(const struct fl_project *project, const char *key,
                                      struct fl_arena *arena)
{
    struct fl_track_pairs tags = {.arena = arena, .max = TAGS_MAX};

    fl_track_pairs_add(&tags, FL_TRACK_RUN, key);
    fl_track_pairs_add(&tags, FL_TRACK_OWNER, project->meta.uid);
    fl_track_pairs_add(
        &tags, "flops.project",
        fl_arena_printf(arena, "%s/%s", project->meta.namespace, project->meta.name));
    return tags;
}

static void add_source(struct fl_track_pairs *tags, const struct fl_track_input *input)
{
    const struct fl_project *project = input->project;
    const char *url = fl_json_str(input->json, "spec.source.git.url");
    const char *builtin = fl_json_str(input->json, "spec.source.builtin.trainer");

    fl_track_pairs_add(tags, "mlflow.source.type", url ? "PROJECT" : "JOB");
    fl_track_pairs_add(tags, "mlflow.source.name",
                       url       ? url
                       : builtin ? builtin
                                 : fl_json_str(input->json, "spec.source.image"));
    fl_track_pairs_add(tags, "mlflow.source.git.repoURL", url);
    if (project->status.has_source)
        fl_track_pairs_add(tags, "mlflow.source.git.commit", project->status.source.commit);
    if (project->status.has_image)
        fl_track_pairs_add(tags, "flops.image.digest", project->status.image.digest);
}

static struct fl_string_map training_tags(const struct fl_track_input *input, const char *key,
                                          struct fl_arena *arena)
{
    struct fl_track_pairs tags = new_tags(input->project, key, arena);

    fl_track_pairs_add(&tags, "mlflow.user", "flops");
    fl_track_pairs_add(&tags, "flops.strategy",
                       fl_json_str(input->json, "spec.training.strategy.name"));
    fl_track_pairs_add(&tags, "flops.mode", fl_json_str(input->json, "spec.training.mode"));
    add_source(&tags, input);
    return tags.map;
}

/* Data sets. What they hold is not known here, and where they lie not told: what is recorded says
 * that two rounds of one project used data of one name. */
static void add_datasets(const struct fl_project *project, struct fl_arena *arena,
                         struct fl_track_run *run)
{
    const struct fl_string_list *tags = &project->spec.data.tags;

    run->datasets = fl_new_array(arena, struct fl_tracked_dataset, tags->count + 1);
    for (size_t i = 0; i < tags->count && i < DATASETS_MAX; i++) {
        const char *text = fl_arena_printf(arena, "%s/%s", project->meta.uid, tags->items[i]);
        char digest[FL_DIGEST_SIZE];

        fl_digest_of(text, strlen(text), digest);
        run->datasets[run->dataset_count++] = (struct fl_tracked_dataset){
            tags->items[i], fl_arena_strndup(arena, digest + strlen("sha256:"), DIGEST_CHARS)};
    }
}

/* Runs. */

/* A training that stalled may go on, and one that is complete be given more rounds: then it runs
 * again. */
static void set_status(const struct fl_project *project, struct fl_track_run *run)
{
    const struct fl_condition_list *conditions = &project->status.conditions;
    int64_t since = 0;

    run->status = FL_TRACKED_RUNNING;
    if (fl_track_is(conditions, "Complete", &since)) {
        run->status = FL_TRACKED_FINISHED;
        run->end_ms = fl_track_time_ms(project->status.completion_time);
    } else if (fl_track_is(conditions, "Stalled", &since)) {
        run->status = FL_TRACKED_FAILED;
    }
    if (run->end_ms == 0)
        run->end_ms = since;
}

static struct fl_track_run training_run(const struct fl_track_input *input, int64_t start_ms,
                                        struct fl_arena *arena)
{
    const struct fl_project *project = input->project;
    struct fl_track_run run = {.key = project->meta.uid,
                               .run = {.name = project->meta.name, .start_ms = start_ms}};

    run.run.tags = training_tags(input, run.key, arena);
    run.params = fl_track_params(input->json, arena);
    add_datasets(project, arena, &run);
    fl_track_rounds(input, arena, &run);
    set_status(project, &run);
    return run;
}

static struct fl_track_run tier_run(const struct fl_track_input *input,
                                    const struct fl_project_topology_tier *tier, int64_t depth,
                                    const struct fl_track_run *parent, struct fl_arena *arena)
{
    const struct fl_project *project = input->project;
    struct fl_track_pairs params = {.arena = arena, .max = TAGS_MAX};
    struct fl_track_pairs tags;
    struct fl_track_run run = {
        .key = fl_arena_printf(arena, "%s/tier/%s", project->meta.uid, tier->name),
        .run = {.name = fl_arena_printf(arena, "%s/%s", project->meta.name, tier->name),
                .start_ms = parent->run.start_ms},
        .is_child = true,
        .status = parent->status,
        .end_ms = parent->end_ms};

    tags = new_tags(project, run.key, arena);
    fl_track_pairs_add(&tags, "mlflow.user", "flops");
    fl_track_pairs_add(&tags, "flops.tier", tier->name);
    run.run.tags = tags.map;
    fl_track_pairs_add(&params, "depth", fl_arena_printf(arena, "%" PRId64, depth));
    fl_track_pairs_add(&params, "groupBy", tier->group_by);
    fl_track_pairs_add(&params, "maxChildren",
                       fl_arena_printf(arena, "%" PRId64, tier->max_children));
    fl_track_pairs_add(&params, "roundsPerParentRound",
                       fl_arena_printf(arena, "%" PRId64, tier->rounds_per_parent_round));
    fl_track_pairs_add(&params, "deadline", tier->deadline);
    run.params = params.map;
    return run;
}

/* 0: no round has begun. */
static int64_t started_ms(const struct fl_track_input *input)
{
    int64_t first = fl_track_time_ms(input->project->status.start_time);

    for (size_t i = 0; i < input->round_count; i++) {
        int64_t at = fl_track_time_ms(input->rounds[i].status->start_time);

        if (at > 0 && (first == 0 || at < first))
            first = at;
    }
    return first;
}

void fl_track_plan(const struct fl_track_input *input, struct fl_arena *arena,
                   struct fl_track_plan *ret_plan)
{
    const struct fl_project *project = input->project;
    const struct fl_project_topology *topology = &project->spec.topology;
    struct fl_track_pairs tags = {.arena = arena, .max = TAGS_MAX};
    struct fl_track_plan plan = {.project = project, .owner = project->meta.uid};
    int64_t start_ms = started_ms(input);

    plan.experiment =
        fl_str_or(project->spec.tracking.mlflow.experiment,
                  fl_arena_printf(arena, "%s/%s", project->meta.namespace, project->meta.name));
    fl_track_pairs_add(&tags, "flops.made", "FLProject");
    plan.experiment_tags = tags.map;
    if (start_ms > 0) {
        plan.runs = fl_new_array(arena, struct fl_track_run, topology->tiers.count + 1);
        plan.runs[plan.run_count++] = training_run(input, start_ms, arena);
        for (size_t i = 0; i < topology->tiers.count; i++)
            plan.runs[plan.run_count++] =
                tier_run(input, &topology->tiers.items[i], (int64_t)i + 1, &plan.runs[0], arena);
        fl_track_models(input, arena, &plan);
    }
    *ret_plan = plan;
}
