#include "reconcilers/flproject/flproject_tally.h"

#include "controller/runtime/reconcile.h"
#include "lib/str.h"

#include <math.h>

/* Values */

static bool minimizes(const struct fl_project *project)
{
    return project->spec.training.best_model.direction ==
           FL_PROJECT_TRAINING_BEST_MODEL_DIRECTION_MINIMIZE;
}

static bool read_number(const char *text, double *ret_value)
{
    char *end = NULL;

    if (!text || !*text)
        return false;
    *ret_value = strtod(text, &end);
    return *end == '\0' && !isnan(*ret_value);
}

bool fl_flproject_value(const struct fl_project *project, const struct fl_string_map *metrics,
                        double *ret_value)
{
    return read_number(
        fl_string_map_get(metrics, fl_str_or(project->spec.training.best_model.metric, "accuracy")),
        ret_value);
}

bool fl_flproject_is_better(const struct fl_project *project, double a, double b, double by)
{
    double gain = minimizes(project) ? b - a : a - b;

    return by > 0 ? gain >= by : gain > 0;
}

/* Rounds */

static bool is_condition(const struct fl_condition_list *conditions, const char *type)
{
    const struct fl_condition *condition = fl_condition_find(conditions, type);

    return condition && condition->status == FL_CONDITION_STATUS_TRUE;
}

static enum fl_flproject_phase phase_of(const struct fl_round *round)
{
    if (is_condition(&round->status.conditions, "Succeeded"))
        return FL_FLPROJECT_ROUND_COMMITTED;
    if (is_condition(&round->status.conditions, "Stalled"))
        return FL_FLPROJECT_ROUND_FAILED;
    return FL_FLPROJECT_ROUND_OPEN;
}

static bool is_own(const struct fl_project *project, const struct fl_round *round, int64_t number,
                   struct fl_arena *arena)
{
    return fl_streq(round->meta.name, fl_child_name(arena, project->meta.name, project->meta.uid,
                                                    fl_flproject_round_role(arena, number)));
}

static int by_number(const void *a, const void *b)
{
    const struct fl_flproject_round *x = a, *y = b;

    if (x->number == y->number)
        return strcmp(x->round->meta.name, y->round->meta.name);
    if (x->number == 0 || y->number == 0)
        return x->number == 0 ? 1 : -1;
    return x->number < y->number ? -1 : 1;
}

static void list_rounds(const struct fl_flproject_input *input, struct fl_arena *arena,
                        struct fl_flproject_tally *tally)
{
    tally->rounds = fl_new_array(arena, struct fl_flproject_round, input->round_count);
    for (size_t i = 0; i < input->round_count; i++) {
        const struct fl_round *round = input->rounds[i];
        struct fl_flproject_round *to = &tally->rounds[tally->round_count++];

        to->round = round;
        to->number = round->spec.has_index ? round->spec.index : 0;
        if (to->number == 0 && round->status.has_index)
            to->number = round->status.index;
        to->phase = phase_of(round);
        to->is_own = is_own(input->project, round, to->number, arena);
        to->is_deleting = round->meta.deletion_timestamp != NULL;
    }
    qsort(tally->rounds, tally->round_count, sizeof(*tally->rounds), by_number);
    for (size_t i = 0; i < tally->round_count; i++)
        if (tally->rounds[i].is_own && tally->rounds[i].number > 0)
            tally->newest = &tally->rounds[i];
}

/* Versions: one a number, the rounds' words before the ModelVersions'. */

struct versions {
    struct fl_flproject_version *items;
    size_t count;
};

static void add_round(struct versions *versions, const struct fl_flproject_round *round)
{
    const struct fl_round_status *status = &round->round->status;
    struct fl_flproject_version *to = &versions->items[versions->count];

    if (round->phase != FL_FLPROJECT_ROUND_COMMITTED || round->number == 0)
        return;
    versions->count++;
    to->number = round->number;
    to->model = status->model;
    to->model.round = round->number;
    to->model.has_round = true;
    to->metrics = status->metrics.evaluation;
}

static void add_model(struct versions *versions, const struct fl_modelversion *model)
{
    struct fl_flproject_version *to = &versions->items[versions->count];

    for (size_t i = 0; i < versions->count; i++)
        if (versions->items[i].number == model->spec.round) {
            if (!versions->items[i].model.version)
                versions->items[i].model.version = model->meta.name;
            return;
        }
    versions->count++;
    to->number = model->spec.round;
    to->metrics = model->spec.metrics;
    to->model = (struct fl_model){.digest = model->spec.digest,
                                  .uri = model->status.uri,
                                  .round = model->spec.round,
                                  .has_round = true,
                                  .version = model->meta.name,
                                  .size = model->spec.size,
                                  .has_size = model->spec.has_size};
}

static int by_version(const void *a, const void *b)
{
    const struct fl_flproject_version *x = a, *y = b;

    return x->number < y->number ? -1 : x->number > y->number;
}

static struct versions list_versions(const struct fl_flproject_input *input, struct fl_arena *arena,
                                     const struct fl_flproject_tally *tally)
{
    struct versions versions = {.items = fl_new_array(arena, struct fl_flproject_version,
                                                      input->round_count + input->model_count)};

    for (size_t i = 0; i < tally->round_count; i++)
        add_round(&versions, &tally->rounds[i]);
    for (size_t i = 0; i < input->model_count; i++)
        if (!input->models[i]->meta.deletion_timestamp)
            add_model(&versions, input->models[i]);
    qsort(versions.items, versions.count, sizeof(*versions.items), by_version);
    return versions;
}

/* The annotation */

static const char *measure_of(const struct fl_project *project, struct fl_arena *arena)
{
    return fl_arena_printf(arena, "%s %s", minimizes(project) ? "least" : "most",
                           fl_str_or(project->spec.training.best_model.metric, "accuracy"));
}

static json_t *version_to_json(const struct fl_flproject_version *version)
{
    json_t *metrics = json_object();
    json_t *json = json_object();

    for (size_t i = 0; i < version->metrics.count; i++)
        fl_json_set_str(metrics, version->metrics.items[i].key, version->metrics.items[i].value);
    (void)json_object_set_new(json, "round", json_integer(version->number));
    fl_json_set_str(json, "digest", version->model.digest);
    fl_json_set_str(json, "version", version->model.version);
    if (version->model.has_size)
        (void)json_object_set_new(json, "size", json_integer(version->model.size));
    (void)json_object_set_new(json, "metrics", metrics);
    return json;
}

static struct fl_string_map metrics_from_json(const json_t *json, struct fl_arena *arena)
{
    struct fl_string_map map = {
        .items = fl_new_array(arena, struct fl_string_pair, json_object_size(json))};
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)json, key, value) {
        if (json_is_string(value))
            map.items[map.count++] = (struct fl_string_pair){
                fl_arena_strdup(arena, key), fl_arena_strdup(arena, json_string_value(value))};
    }
    return map;
}

static struct fl_flproject_version version_from_json(const json_t *json, struct fl_arena *arena)
{
    struct fl_flproject_version version = {.number = fl_json_int(json, "round", 0)};
    const char *digest = fl_json_str(json, "digest"), *name = fl_json_str(json, "version");

    version.metrics = metrics_from_json(json_object_get(json, "metrics"), arena);
    version.model = (struct fl_model){.digest = digest ? fl_arena_strdup(arena, digest) : NULL,
                                      .version = name ? fl_arena_strdup(arena, name) : NULL,
                                      .round = version.number,
                                      .has_round = true,
                                      .size = fl_json_int(json, "size", 0),
                                      .has_size = json_object_get(json, "size") != NULL};
    return version;
}

const char *fl_flproject_tally_text(const struct fl_flproject_input *input,
                                    const struct fl_flproject_tally *tally, struct fl_arena *arena)
{
    FL_JSON json = json_object();

    (void)json_object_set_new(json, "failed", json_integer(tally->failed));
    fl_json_set_str(json, "started", tally->started);
    fl_json_set_str(json, "measure", measure_of(input->project, arena));
    if (tally->best.metrics.count > 0) /* else it is only the last */
        (void)json_object_set_new(json, "best", version_to_json(&tally->best));
    if (tally->evaluated.number > 0)
        (void)json_object_set_new(json, "evaluated", version_to_json(&tally->evaluated));
    if (tally->has_mark) {
        (void)json_object_set_new(json, "mark", json_real(tally->mark));
        (void)json_object_set_new(json, "sinceMark", json_integer(tally->since_mark));
    }
    return fl_json_to_string(arena, json);
}

/* What was before the newest round of the project's. Broken or of another measure: counted anew
 * from what there is. Returns from which number on rounds are to be counted. */
static int64_t take_up(const struct fl_flproject_input *input, struct fl_arena *arena,
                       struct fl_flproject_tally *tally)
{
    const struct fl_flproject_round *newest = tally->newest;
    const json_t *annotations = newest ? newest->round->meta.annotations : NULL;
    const char *text = json_string_value(json_object_get(annotations, FL_FLPROJECT_TALLY));
    const char *started;
    FL_JSON json = NULL;
    struct fl_error err;

    if (!newest || !text || fl_json_parse(text, strlen(text), NULL, NULL, NULL, &json, &err) < 0)
        return 0;
    tally->failed = fl_json_int(json, "failed", 0);
    started = fl_json_str(json, "started");
    if (started && fl_time_parse(started, &tally->started_us))
        tally->started = fl_arena_strdup(arena, started);
    tally->completed = newest->number - 1;
    if (json_object_get(json, "evaluated"))
        tally->evaluated = version_from_json(json_object_get(json, "evaluated"), arena);
    if (!fl_streq(fl_json_str(json, "measure"), measure_of(input->project, arena)))
        return 0;
    if (json_object_get(json, "best"))
        tally->best = version_from_json(json_object_get(json, "best"), arena);
    if (json_is_number(json_object_get(json, "mark"))) {
        tally->has_mark = true;
        tally->mark = json_number_value(json_object_get(json, "mark"));
        tally->since_mark = fl_json_int(json, "sinceMark", 0);
    }
    return newest->number;
}

/* Counting */

static void count_mark(const struct fl_project *project, struct fl_flproject_tally *tally,
                       bool has_value, double value)
{
    double by = 0;

    (void)read_number(project->spec.training.best_model.stop_when.min_delta, &by);
    if (has_value &&
        (!tally->has_mark || fl_flproject_is_better(project, value, tally->mark, by))) {
        tally->has_mark = true;
        tally->mark = value;
        tally->since_mark = 0;
    } else {
        tally->since_mark++;
    }
}

/* The earlier of equals is the best. */
static void count_version(const struct fl_project *project, struct fl_flproject_tally *tally,
                          const struct fl_flproject_version *version)
{
    double value = 0, best = 0;
    bool has_value;

    if (version->metrics.count == 0)
        return;
    if (version->number >= tally->evaluated.number)
        tally->evaluated = *version;
    has_value = fl_flproject_value(project, &version->metrics, &value);
    count_mark(project, tally, has_value, value);
    if (has_value && (!fl_flproject_value(project, &tally->best.metrics, &best) ||
                      fl_flproject_is_better(project, value, best, 0)))
        tally->best = *version;
}

static void count_round(struct fl_flproject_tally *tally, const struct fl_flproject_round *round,
                        int64_t from, struct fl_arena *arena)
{
    const struct fl_round_status *status = &round->round->status;
    int64_t attempts = status->has_attempt ? status->attempt : 0, at;

    if (round->number >= from)
        tally->failed += round->phase == FL_FLPROJECT_ROUND_FAILED ? attempts
                         : attempts > 0                            ? attempts - 1
                                                                   : 0;
    if (status->start_time && fl_time_parse(status->start_time, &at) &&
        (tally->started_us == 0 || at < tally->started_us)) {
        tally->started_us = at;
        tally->started = fl_arena_strdup(arena, status->start_time);
    }
}

void fl_flproject_count_root(const struct fl_flproject_input *input,
                             struct fl_flproject_tally *tally)
{
    const struct fl_flproject_federation *root = &input->federation;

    for (size_t i = 0; i < tally->round_count; i++)
        if (tally->rounds[i].phase == FL_FLPROJECT_ROUND_OPEN)
            return;
    if (root->known != FL_FLPROJECT_KNOWN || root->committed <= tally->completed)
        return;
    tally->completed = root->committed;
    tally->last = (struct fl_flproject_version){
        .number = root->committed,
        .model = {.digest = root->model, .round = root->committed, .has_round = true}};
    if (tally->best.number == 0)
        tally->best = tally->last;
}

void fl_flproject_count(const struct fl_flproject_input *input, struct fl_arena *arena,
                        struct fl_flproject_tally *ret_tally)
{
    struct fl_flproject_tally tally = {0};
    struct versions versions;
    int64_t from;

    list_rounds(input, arena, &tally);
    from = take_up(input, arena, &tally);
    versions = list_versions(input, arena, &tally);
    for (size_t i = 0; i < versions.count; i++) {
        const struct fl_flproject_version *version = &versions.items[i];

        if (version->number >= from)
            count_version(input->project, &tally, version);
        tally.last = *version;
        if (version->number > tally.completed)
            tally.completed = version->number;
    }
    for (size_t i = 0; i < tally.round_count; i++)
        count_round(&tally, &tally.rounds[i], from, arena);
    if (tally.best.number == 0) /* without an evaluation the last is as good as any */
        tally.best = tally.last;
    *ret_tally = tally;
}
