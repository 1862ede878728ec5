/* What rounds tell, as metrics; and which models go to the registry. */
#include "lib/digest.h"
#include "lib/str.h"
#include "reconcilers/tracking/plan_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define METRICS_MAX   360 /* of a round: two maps of 64, the fixed ones, and 100 learners */
#define PSEUDONYM     12
#define ALIAS_MAX     100
#define MODEL_PAIRS   100
#define DIGEST_PREFIX (sizeof("sha256:") - 1)
#define NOT_AN_ALIAS  "latest" /* trackers keep it for themselves */
#define WHEN_COMPLETE "best"   /* it moves while the training runs */

/* One round's. */
struct metrics {
    struct fl_arena *arena;
    const struct fl_track_round *round;
    struct fl_tracked_metric *items;
    size_t count;
};

static void add(struct metrics *metrics, const char *key, double value)
{
    const struct fl_track_round *round = metrics->round;

    if (metrics->count == METRICS_MAX)
        return;
    for (size_t i = 0; i < metrics->count; i++)
        if (strcmp(metrics->items[i].key, key) == 0)
            return;
    metrics->items[metrics->count++] =
        (struct fl_tracked_metric){key, value, round->time_ms, round->number};
}

static bool read_number(const char *text, double *ret_value)
{
    char *end = NULL;

    if (!text || !*text)
        return false;
    *ret_value = strtod(text, &end);
    return *end == '\0';
}

static void add_text(struct metrics *metrics, const char *key, const char *text)
{
    double value;

    if (read_number(text, &value))
        add(metrics, key, value);
}

static void add_map(struct metrics *metrics, const char *prefix, const struct fl_string_map *map)
{
    for (size_t i = 0; i < map->count; i++)
        add_text(metrics,
                 fl_arena_printf(metrics->arena, "%s/%s", prefix,
                                 fl_track_key(metrics->arena, map->items[i].key)),
                 map->items[i].value);
}

static void add_seconds(struct metrics *metrics, const char *name, const char *duration)
{
    int64_t ms;

    if (duration && fl_duration_parse(duration, &ms))
        add(metrics, fl_arena_printf(metrics->arena, "duration/%s_seconds", name),
            (double)ms / 1000.0);
}

static void add_durations(struct metrics *metrics,
                          const struct fl_round_status_durations *durations)
{
    add_seconds(metrics, "select", durations->select);
    add_seconds(metrics, "download", durations->download);
    add_seconds(metrics, "train", durations->train);
    add_seconds(metrics, "upload", durations->upload);
    add_seconds(metrics, "aggregate", durations->aggregate);
    add_seconds(metrics, "evaluate", durations->evaluate);
    add_seconds(metrics, "total", durations->total);
}

static void add_counts(struct metrics *metrics, const struct fl_round_status *status)
{
    const struct fl_round_status_participants *learners = &status->participants;

    if (status->has_participants) {
        add(metrics, "learners/selected", (double)learners->selected);
        add(metrics, "learners/reported", (double)learners->reported);
        add(metrics, "learners/late", (double)learners->late);
        add(metrics, "learners/dropped", (double)learners->dropped);
        add(metrics, "learners/rejected", (double)learners->rejected);
    }
    if (status->has_examples)
        add(metrics, "examples", (double)status->examples);
    if (status->has_attempt)
        add(metrics, "attempts", (double)status->attempt);
    if (status->has_bytes) {
        add(metrics, "bytes/up", (double)status->bytes.up);
        add(metrics, "bytes/down", (double)status->bytes.down);
    }
    if (status->has_staleness) {
        add(metrics, "staleness/max", (double)status->staleness.max);
        add_text(metrics, "staleness/mean", status->staleness.mean);
    }
}

/* The same learner of one project has the same name, which leads to no learner of another one. */
static const char *pseudonym(const struct fl_project *project, const char *learner,
                             struct fl_arena *arena)
{
    const char *text = fl_arena_printf(arena, "%s/%s", project->meta.uid, learner);
    char digest[FL_DIGEST_SIZE];

    fl_digest_of(text, strlen(text), digest);
    return fl_arena_strndup(arena, digest + DIGEST_PREFIX, PSEUDONYM);
}

static void add_learners(struct metrics *metrics, const struct fl_project *project,
                         const struct fl_round_status_excluded_list *excluded)
{
    if (!project->spec.tracking.mlflow.per_learner)
        return;
    for (size_t i = 0; i < excluded->count; i++)
        add(metrics,
            fl_arena_printf(metrics->arena, "learner/%s/excluded",
                            pseudonym(project, excluded->items[i].learner, metrics->arena)),
            1);
}

void fl_track_metrics(const struct fl_track_plan *plan, const struct fl_track_round *round,
                      struct fl_arena *arena, const struct fl_tracked_metric **ret_metrics,
                      size_t *ret_count)
{
    const struct fl_round_status *status = round->status;
    struct metrics metrics = {.arena = arena, .round = round};

    metrics.items = fl_new_array(arena, struct fl_tracked_metric, METRICS_MAX + 1);
    if (status->has_metrics) {
        add_map(&metrics, "train", &status->metrics.train);
        add_map(&metrics, "evaluation", &status->metrics.evaluation);
    }
    add_counts(&metrics, status);
    if (status->has_durations)
        add_durations(&metrics, &status->durations);
    if (status->has_privacy)
        add_text(&metrics, "privacy/epsilon_of_round", status->privacy.epsilon);
    if (round->has_spent)
        add(&metrics, "privacy/epsilon_spent", round->spent);
    add_learners(&metrics, plan->project, &status->excluded);
    /* The last: then all is there. */
    metrics.items[metrics.count++] = (struct fl_tracked_metric){
        FL_TRACK_ROUND, (double)round->number, round->time_ms, round->number};
    *ret_metrics = metrics.items;
    *ret_count = metrics.count;
}

/* What was spent in all, as far as every round before is known. */
static void add_spent(struct fl_track_run *run)
{
    double sum = 0, value;

    for (size_t i = 0; i < run->round_count; i++) {
        struct fl_track_round *round = &run->rounds[i];

        if (round->number != (int64_t)i + 1 || !round->status->has_privacy ||
            !read_number(round->status->privacy.epsilon, &value))
            return;
        sum += value;
        round->spent = sum;
        round->has_spent = true;
    }
}

static int by_number(const void *a, const void *b)
{
    const struct fl_track_past *x = a, *y = b;

    return (x->number > y->number) - (x->number < y->number);
}

void fl_track_rounds(const struct fl_track_input *input, struct fl_arena *arena,
                     struct fl_track_run *run)
{
    struct fl_track_past *past = fl_new_array(arena, struct fl_track_past, input->round_count + 1);
    size_t count = 0;

    for (size_t i = 0; i < input->round_count; i++)
        if (input->rounds[i].committed && input->rounds[i].number > 0)
            past[count++] = input->rounds[i];
    if (count > 1)
        qsort(past, count, sizeof(*past), by_number);
    run->rounds = fl_new_array(arena, struct fl_track_round, count + 1);
    for (size_t i = 0; i < count; i++) {
        const struct fl_round_status *status = past[i].status;

        if (i == 0 || past[i].number != past[i - 1].number)
            run->rounds[run->round_count++] = (struct fl_track_round){
                .number = past[i].number,
                .time_ms = fl_track_time_ms(fl_str_or(status->completion_time, status->start_time)),
                .status = status};
    }
    add_spent(run);
}

/* Models. */

/* A version number, and what has other characters, is no alias there. */
static const char *alias_of(const char *alias, bool complete, struct fl_arena *arena)
{
    char *text;

    if (strcmp(alias, NOT_AN_ALIAS) == 0 || (strcmp(alias, WHEN_COMPLETE) == 0 && !complete))
        return NULL;
    text = fl_arena_strndup(arena, alias, strnlen(alias, ALIAS_MAX));
    for (char *c = strchr(text, '.'); c; c = strchr(c, '.'))
        *c = '-';
    return text;
}

static struct fl_string_map model_tags(const struct fl_modelversion *version,
                                       struct fl_arena *arena)
{
    const struct fl_modelversion_lineage *lineage = &version->spec.lineage;
    struct fl_track_pairs tags = {.arena = arena, .max = MODEL_PAIRS};

    fl_track_pairs_add(
        &tags, "flops.modelVersion",
        fl_arena_printf(arena, "%s/%s", version->meta.namespace, version->meta.name));
    fl_track_pairs_add(&tags, FL_TRACK_ROUND,
                       fl_arena_printf(arena, "%" PRId64, version->spec.round));
    if (version->spec.has_lineage) {
        fl_track_pairs_add(&tags, "flops.baseModel", lineage->base_model);
        fl_track_pairs_add(&tags, "flops.image.digest", lineage->image_digest);
        fl_track_pairs_add(&tags, "flops.strategy", lineage->strategy);
        fl_track_pairs_add(&tags, "flops.epsilon", lineage->epsilon);
        if (lineage->has_source)
            fl_track_pairs_add(&tags, "flops.commit", lineage->source.commit);
    }
    for (size_t i = 0; i < version->spec.metrics.count; i++)
        fl_track_pairs_add(&tags,
                           fl_arena_printf(arena, "flops.evaluation.%s",
                                           fl_track_key(arena, version->spec.metrics.items[i].key)),
                           version->spec.metrics.items[i].value);
    return tags.map;
}

static void add_model(const struct fl_track_input *input, const struct fl_modelversion *version,
                      bool complete, struct fl_arena *arena, struct fl_track_plan *plan)
{
    const struct fl_project *project = input->project;
    struct fl_track_model model = {
        .version = version,
        .name = fl_track_key(arena, project->meta.name),
        .registered = fl_str_or(project->spec.tracking.mlflow.registered_model, project->meta.name),
        .aliases = fl_new_array(arena, const char *, version->spec.aliases.count + 1)};

    for (size_t i = 0; i < version->spec.aliases.count; i++) {
        const char *alias = alias_of(version->spec.aliases.items[i], complete, arena);

        if (alias)
            model.aliases[model.alias_count++] = alias;
    }
    if (model.alias_count == 0)
        return;
    model.tags = model_tags(version, arena);
    plan->models[plan->model_count++] = model;
}

void fl_track_models(const struct fl_track_input *input, struct fl_arena *arena,
                     struct fl_track_plan *plan)
{
    bool complete = fl_track_is(&input->project->status.conditions, "Complete", NULL);

    plan->models = fl_new_array(arena, struct fl_track_model, input->model_count + 1);
    for (size_t i = 0; i < input->model_count; i++)
        if (!input->models[i]->meta.deletion_timestamp)
            add_model(input, input->models[i], complete, arena, plan);
}
