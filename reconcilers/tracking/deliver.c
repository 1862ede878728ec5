#include "reconcilers/tracking/deliver.h"

#include "lib/digest.h"
#include "lib/str.h"

#include <stdlib.h>
#include <string.h>

#define ROUNDS_A_CALL 20 /* of metrics: what is lost where a call fails is sent again */
#define PAIRS_MAX     400

/* A run as it is there. */
struct known_run {
    const char *key;
    struct fl_tracked_run run;
    int64_t *delivered; /* rounds, ascending; heap */
    size_t count, room;
};

/* A model that is there, and by which words it is. */
struct known_model {
    const char *name; /* its digest, name in the registry and aliases */
    struct fl_tracked_version version;
};

struct fl_track_memory {
    struct fl_arena *arena;
    const char *experiment, *experiment_id;
    struct known_run *runs; /* in the plan's order; heap */
    size_t run_count;
    struct known_model *models; /* heap */
    size_t model_count;
};

struct fl_track_memory *fl_track_memory_create(void)
{
    struct fl_track_memory *memory = fl_calloc(1, sizeof(*memory));

    memory->arena = fl_arena_create();
    return memory;
}

void fl_track_memory_clear(struct fl_track_memory *memory)
{
    struct fl_arena *arena = memory->arena;

    for (size_t i = 0; i < memory->run_count; i++)
        free(memory->runs[i].delivered);
    free(memory->runs);
    free(memory->models);
    fl_arena_reset(arena);
    *memory = (struct fl_track_memory){.arena = arena};
}

void fl_track_memory_destroy(struct fl_track_memory *memory)
{
    if (!memory)
        return;
    fl_track_memory_clear(memory);
    fl_arena_destroy(memory->arena);
    free(memory);
}

/* What was delivered. */

static bool has_round(const struct known_run *known, int64_t number)
{
    size_t low = 0, high = known->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (known->delivered[middle] == number)
            return true;
        if (known->delivered[middle] < number)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static void note_round(struct known_run *known, int64_t number)
{
    size_t at = known->count;

    if (has_round(known, number))
        return;
    if (known->count == known->room) {
        known->room = known->room ? known->room * 2 : 32;
        known->delivered = fl_realloc(known->delivered, known->room * sizeof(*known->delivered));
    }
    for (; at > 0 && known->delivered[at - 1] > number; at--)
        known->delivered[at] = known->delivered[at - 1];
    known->delivered[at] = number;
    known->count++;
}

static int64_t count_owed(const struct known_run *known, const struct fl_track_run *run)
{
    int64_t owed = 0;

    for (size_t i = 0; i < run->round_count; i++)
        owed += !known || !has_round(known, run->rounds[i].number);
    return owed;
}

/* The experiment and its runs. */

static int ensure_experiment(const struct fl_track_delivery *delivery, struct fl_error *err)
{
    const struct fl_track_plan *plan = delivery->plan;
    struct fl_track_memory *memory = delivery->memory;
    const char *id = NULL;
    int r;

    if (fl_streq(memory->experiment, plan->experiment))
        return 0;
    fl_track_memory_clear(memory);
    r = delivery->tracker->ops->experiment(delivery->tracker, plan->experiment,
                                           &plan->experiment_tags, memory->arena, &id, err);
    if (r < 0)
        return fl_error_wrap(err, "experiment \"%s\"", plan->experiment);
    memory->experiment = fl_arena_strdup(memory->arena, plan->experiment);
    memory->experiment_id = id;
    return 0;
}

static struct known_run *find_known(struct fl_track_memory *memory, const char *key)
{
    for (size_t i = 0; i < memory->run_count; i++)
        if (strcmp(memory->runs[i].key, key) == 0)
            return &memory->runs[i];
    return NULL;
}

static struct known_run *remember_run(struct fl_track_memory *memory, const char *key,
                                      const struct fl_tracked_run *run,
                                      const struct fl_int_list *steps)
{
    struct known_run *known;

    memory->runs = fl_realloc(memory->runs, (memory->run_count + 1) * sizeof(*memory->runs));
    known = &memory->runs[memory->run_count++];
    *known = (struct known_run){.key = fl_arena_strdup(memory->arena, key), .run = *run};
    for (size_t i = 0; i < steps->count; i++)
        note_round(known, steps->items[i]);
    return known;
}

static struct fl_tracked_new_run new_run(const struct fl_track_delivery *delivery,
                                         const struct fl_track_run *run, const char *parent_id)
{
    struct fl_tracked_new_run made = run->run;
    struct fl_string_pair *tags =
        fl_new_array(delivery->arena, struct fl_string_pair, made.tags.count + 1);

    memcpy(tags, made.tags.items, made.tags.count * sizeof(*tags));
    made.tags.items = tags;
    if (parent_id)
        tags[made.tags.count++] = (struct fl_string_pair){"mlflow.parentRunId", parent_id};
    return made;
}

static int find_or_make(const struct fl_track_delivery *delivery, const struct fl_track_run *run,
                        const char *parent_id, struct known_run **ret_known, struct fl_error *err)
{
    struct fl_tracker *tracker = delivery->tracker;
    struct fl_track_memory *memory = delivery->memory;
    struct fl_tracked_new_run made = new_run(delivery, run, parent_id);
    struct fl_tracked_run found = {0};
    struct fl_int_list steps = {0};
    int r = tracker->ops->find_run(tracker, memory->experiment_id, FL_TRACK_RUN, run->key,
                                   memory->arena, &found, err);

    if (r == FL_E_NOT_FOUND)
        r = tracker->ops->create_run(tracker, memory->experiment_id, &made, memory->arena, &found,
                                     err);
    else if (r == 0 && run->round_count > 0)
        r = tracker->ops->steps(tracker, found.id, FL_TRACK_ROUND, delivery->arena, &steps, err);
    if (r == 0)
        *ret_known = remember_run(memory, run->key, &found, &steps);
    return r;
}

/* Params and tags. */

static void put(struct fl_string_map *map, const char *key, const char *value)
{
    if (map->count < PAIRS_MAX)
        map->items[map->count++] = (struct fl_string_pair){key, value};
}

/* What the run lacks. A param that differs cannot be changed there: what it is now is a tag. */
static void find_missing(const struct fl_track_delivery *delivery, const struct known_run *known,
                         const struct fl_track_run *run, struct fl_tracked_batch *ret_batch)
{
    struct fl_arena *arena = delivery->arena;
    struct fl_tracked_batch batch = {
        .params.items = fl_new_array(arena, struct fl_string_pair, PAIRS_MAX),
        .tags.items = fl_new_array(arena, struct fl_string_pair, PAIRS_MAX)};

    for (size_t i = 0; i < run->params.count; i++) {
        const struct fl_string_pair *param = &run->params.items[i];
        const char *has = fl_string_map_get(&known->run.params, param->key);
        const char *tag = fl_arena_printf(arena, FL_TRACK_CHANGE "%s", param->key);
        const char *changed = fl_string_map_get(&known->run.tags, tag);

        if (!has)
            put(&batch.params, param->key, param->value);
        else if (!fl_streq(fl_str_or(changed, has), param->value))
            put(&batch.tags, tag, param->value);
    }
    for (size_t i = 0; i < run->run.tags.count; i++) {
        const struct fl_string_pair *tag = &run->run.tags.items[i];

        if (!fl_streq(fl_string_map_get(&known->run.tags, tag->key), tag->value))
            put(&batch.tags, tag->key, tag->value);
    }
    *ret_batch = batch;
}

/* In place of those with the same keys. */
static void merge(struct fl_arena *arena, struct fl_string_map *into,
                  const struct fl_string_map *more)
{
    struct fl_string_pair *items =
        fl_new_array(arena, struct fl_string_pair, into->count + more->count + 1);
    size_t count = 0;

    for (size_t i = 0; i < into->count; i++)
        if (!fl_string_map_get(more, into->items[i].key))
            items[count++] = into->items[i];
    for (size_t i = 0; i < more->count; i++)
        items[count++] = (struct fl_string_pair){fl_arena_strdup(arena, more->items[i].key),
                                                 fl_arena_strdup(arena, more->items[i].value)};
    *into = (struct fl_string_map){items, count};
}

static int send_pairs(const struct fl_track_delivery *delivery, struct known_run *known,
                      const struct fl_track_run *run, struct fl_error *err)
{
    struct fl_tracked_batch batch;
    int r;

    find_missing(delivery, known, run, &batch);
    if (batch.params.count == 0 && batch.tags.count == 0)
        return 0;
    r = delivery->tracker->ops->log(delivery->tracker, known->run.id, &batch, err);
    if (r < 0)
        return r;
    merge(delivery->memory->arena, &known->run.params, &batch.params);
    merge(delivery->memory->arena, &known->run.tags, &batch.tags);
    return 0;
}

/* Data sets: a tag says which are recorded. */
static int send_datasets(const struct fl_track_delivery *delivery, struct known_run *known,
                         const struct fl_track_run *run, struct fl_error *err)
{
    struct fl_tracker *tracker = delivery->tracker;
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};
    char digest[FL_DIGEST_SIZE];
    struct fl_string_pair tag = {FL_TRACK_DATA, digest};
    const struct fl_tracked_batch batch = {.tags = {&tag, 1}};
    int r;

    for (size_t i = 0; i < run->dataset_count; i++)
        fl_buf_printf(&text, "%s %s\n", run->datasets[i].name, run->datasets[i].digest);
    fl_digest_of(text.data, text.len, digest);
    if (run->dataset_count == 0 ||
        fl_streq(fl_string_map_get(&known->run.tags, FL_TRACK_DATA), digest))
        return 0;
    r = tracker->ops->inputs(tracker, known->run.id, run->datasets, run->dataset_count, err);
    if (r == 0)
        r = tracker->ops->log(tracker, known->run.id, &batch, err);
    if (r == 0)
        merge(delivery->memory->arena, &known->run.tags, &batch.tags);
    return r < 0 ? fl_error_wrap(err, "data sets") : 0;
}

/* Rounds. */

struct bundle {
    struct fl_arena *arena;
    struct fl_tracked_metric *metrics;
    size_t count;
    int64_t rounds[ROUNDS_A_CALL];
    size_t round_count;
};

static void bundle_add(struct bundle *bundle, const struct fl_track_plan *plan,
                       const struct fl_track_round *round)
{
    const struct fl_tracked_metric *metrics = NULL;
    struct fl_tracked_metric *all;
    size_t count = 0;

    fl_track_metrics(plan, round, bundle->arena, &metrics, &count);
    all = fl_new_array(bundle->arena, struct fl_tracked_metric, bundle->count + count);
    if (bundle->count > 0)
        memcpy(all, bundle->metrics, bundle->count * sizeof(*all));
    memcpy(all + bundle->count, metrics, count * sizeof(*all));
    bundle->metrics = all;
    bundle->count += count;
    bundle->rounds[bundle->round_count++] = round->number;
}

static int send_bundle(const struct fl_track_delivery *delivery, struct known_run *known,
                       const struct bundle *bundle, struct fl_error *err)
{
    const struct fl_tracked_batch batch = {.metrics = bundle->metrics,
                                           .metric_count = bundle->count};
    int r = 0;

    if (bundle->count > 0)
        r = delivery->tracker->ops->log(delivery->tracker, known->run.id, &batch, err);
    for (size_t i = 0; i < bundle->round_count && r == 0; i++)
        note_round(known, bundle->rounds[i]);
    return r;
}

static int send_rounds(const struct fl_track_delivery *delivery, struct known_run *known,
                       const struct fl_track_run *run, struct fl_error *err)
{
    int r = 0;

    for (size_t i = 0; i < run->round_count && r == 0;) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct bundle bundle = {.arena = arena};

        for (; i < run->round_count && bundle.round_count < ROUNDS_A_CALL; i++)
            if (!has_round(known, run->rounds[i].number))
                bundle_add(&bundle, delivery->plan, &run->rounds[i]);
        r = send_bundle(delivery, known, &bundle, err);
    }
    return r < 0 ? fl_error_wrap(err, "metrics of rounds") : 0;
}

static int send_status(const struct fl_track_delivery *delivery, struct known_run *known,
                       const struct fl_track_run *run, struct fl_error *err)
{
    int r;

    if (known->run.status == run->status &&
        (run->status == FL_TRACKED_RUNNING || known->run.end_ms == run->end_ms))
        return 0;
    r = delivery->tracker->ops->set_status(delivery->tracker, known->run.id, run->status,
                                           run->end_ms, err);
    if (r < 0)
        return r;
    known->run.status = run->status;
    known->run.end_ms = run->end_ms;
    return 0;
}

static int deliver_run(const struct fl_track_delivery *delivery, const struct fl_track_run *run,
                       const char *parent_id, struct fl_error *err)
{
    struct known_run *known = find_known(delivery->memory, run->key);
    int r = 0;

    if (!known)
        r = find_or_make(delivery, run, parent_id, &known, err);
    if (r == 0)
        r = send_pairs(delivery, known, run, err);
    if (r == 0)
        r = send_datasets(delivery, known, run, err);
    if (r == 0)
        r = send_rounds(delivery, known, run, err);
    if (r == 0)
        r = send_status(delivery, known, run, err);
    return r < 0 ? fl_error_wrap(err, "run %s", run->run.name) : 0;
}

static int deliver_runs(const struct fl_track_delivery *delivery, struct fl_error *err)
{
    const struct fl_track_plan *plan = delivery->plan;
    int r = 0;

    for (size_t i = 0; i < plan->run_count && r == 0; i++) {
        const struct known_run *parent =
            plan->runs[i].is_child ? find_known(delivery->memory, plan->runs[0].key) : NULL;

        r = deliver_run(delivery, &plan->runs[i], parent ? parent->run.id : NULL, err);
    }
    return r;
}

/* Models. */

struct export
{
    const struct fl_track_delivery *delivery;
    const struct fl_track_model *model;
};

static int make_folder(void *user, const char **ret_folder, struct fl_error *err)
{
    const struct export *export = user;

    return export->delivery->export(export->delivery->user, export->model, ret_folder, err);
}

static const char *model_name(struct fl_arena *arena, const struct fl_track_model *model)
{
    const char *name =
        fl_arena_printf(arena, "%s %s", model->version->spec.digest, model->registered);

    for (size_t i = 0; i < model->alias_count; i++)
        name = fl_arena_printf(arena, "%s %s", name, model->aliases[i]);
    return name;
}

static const struct known_model *find_model(const struct fl_track_memory *memory, const char *name)
{
    for (size_t i = 0; i < memory->model_count; i++)
        if (strcmp(memory->models[i].name, name) == 0)
            return &memory->models[i];
    return NULL;
}

static void remember_model(struct fl_track_memory *memory, const char *name,
                           const struct fl_tracked_version *version)
{
    memory->models =
        fl_realloc(memory->models, (memory->model_count + 1) * sizeof(*memory->models));
    memory->models[memory->model_count++] =
        (struct known_model){fl_arena_strdup(memory->arena, name),
                             {.model_id = fl_arena_copy(memory->arena, version->model_id),
                              .version = fl_arena_copy(memory->arena, version->version),
                              .url = fl_arena_copy(memory->arena, version->url)}};
}

static int deliver_model(const struct fl_track_delivery *delivery,
                         const struct fl_track_model *model, struct fl_tracked_version *ret_version,
                         struct fl_error *err)
{
    struct fl_track_memory *memory = delivery->memory;
    struct export export = {delivery, model};
    const char *name = model_name(delivery->arena, model);
    const struct known_model *known = find_model(memory, name);
    const struct fl_tracked_model wanted = {
        .experiment_id = memory->experiment_id,
        .run_id = find_known(memory, delivery->plan->runs[0].key)->run.id,
        .name = model->name,
        .key = FL_TRACK_MODEL,
        .digest = model->version->spec.digest,
        .step = model->version->spec.round,
        .params = model->params,
        .tags = model->tags,
        .make = make_folder,
        .user = &export,
        .registered = model->registered,
        .aliases = model->aliases,
        .alias_count = model->alias_count,
        .owner_key = FL_TRACK_OWNER,
        .owner = delivery->plan->owner};
    int r;

    if (known) {
        *ret_version = known->version;
        return 0;
    }
    r = delivery->tracker->ops->model(delivery->tracker, &wanted, delivery->arena, ret_version,
                                      err);
    if (r < 0)
        return fl_error_wrap(err, "model of round %lld", (long long)model->version->spec.round);
    remember_model(memory, name, ret_version);
    return 0;
}

static int deliver_models(const struct fl_track_delivery *delivery,
                          struct fl_track_progress *progress, struct fl_error *err)
{
    const struct fl_track_plan *plan = delivery->plan;
    int r = 0;

    for (size_t i = 0; i < plan->model_count && r == 0; i++) {
        r = deliver_model(delivery, &plan->models[i], &progress->versions[i], err);
        progress->owed_models -= r == 0;
    }
    return r;
}

/* All. */

static void fill_progress(const struct fl_track_delivery *delivery,
                          struct fl_track_progress *progress)
{
    const struct fl_track_plan *plan = delivery->plan;
    const struct fl_track_memory *memory = delivery->memory;
    struct known_run *known;

    progress->experiment_id = fl_arena_copy(delivery->arena, memory->experiment_id);
    if (plan->run_count == 0)
        return;
    known = find_known(delivery->memory, plan->runs[0].key);
    progress->rounds = (int64_t)plan->runs[0].round_count;
    progress->owed_rounds = count_owed(known, &plan->runs[0]);
    if (!known)
        return;
    progress->run_id = fl_arena_strdup(delivery->arena, known->run.id);
    progress->url = delivery->tracker->ops->run_url(delivery->tracker, memory->experiment_id,
                                                    known->run.id, delivery->arena);
}

int fl_track_deliver(const struct fl_track_delivery *delivery,
                     struct fl_track_progress *ret_progress, struct fl_error *err)
{
    const struct fl_track_plan *plan = delivery->plan;
    struct fl_track_progress progress = {.owed_models = (int64_t)plan->model_count};
    int r;

    progress.versions =
        fl_new_array(delivery->arena, struct fl_tracked_version, plan->model_count + 1);
    r = ensure_experiment(delivery, err);
    if (r == 0)
        r = deliver_runs(delivery, err);
    if (r == 0)
        r = deliver_models(delivery, &progress, err);
    fill_progress(delivery, &progress);
    if (r < 0)
        fl_track_memory_clear(delivery->memory);
    *ret_progress = progress;
    return r;
}
