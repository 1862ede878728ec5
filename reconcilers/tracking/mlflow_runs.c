/* Experiments and runs. */
#include "lib/str.h"
#include "reconcilers/tracking/mlflow_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Of one log-batch: the server's own bounds are 1,000 entities, 1,000 metrics, 100 params and 100
 * tags; smaller ones keep a call short. */
#define BATCH_METRICS  500
#define BATCH_PAIRS    100
#define STEPS_PAGE     10000
#define STEPS_MAX      1000000 /* rounds of a training */
#define DOUBLES_MAX    20      /* runs with one tag */
#define BATCH_DATASETS 1000

static const char *const status_names[] = {
    [FL_TRACKED_RUNNING] = "RUNNING",
    [FL_TRACKED_FINISHED] = "FINISHED",
    [FL_TRACKED_FAILED] = "FAILED",
    [FL_TRACKED_KILLED] = "KILLED",
};

static struct fl_mlflow *of(struct fl_tracker *tracker)
{
    return (struct fl_mlflow *)tracker;
}

/* Experiments. */

static int get_experiment(struct fl_mlflow *mlflow, const char *name, struct fl_arena *arena,
                          const char **ret_id, struct fl_error *err)
{
    enum fl_mlflow_code code = FL_MLFLOW_NONE;
    const struct fl_mlflow_call call = {
        .method = "GET",
        .path = fl_arena_printf(arena, "/mlflow/experiments/get-by-name?experiment_name=%s",
                                fl_url_encode(arena, name)),
        .ret_code = &code};
    const json_t *answer = NULL;
    int r = fl_mlflow_call(mlflow, &call, arena, &answer, err);

    if (r < 0)
        return r;
    if (fl_streq(fl_json_str(answer, "experiment.lifecycle_stage"), "deleted"))
        return fl_error_set(err, FL_E_INVALID,
                            "the experiment \"%s\" was deleted there: restore it, or name another "
                            "one in spec.tracking.mlflow.experiment",
                            name);
    return fl_mlflow_text(answer, "experiment.experiment_id", arena, ret_id, err);
}

int fl_mlflow_experiment(struct fl_tracker *tracker, const char *name,
                         const struct fl_string_map *tags, struct fl_arena *arena,
                         const char **ret_id, struct fl_error *err)
{
    FL_JSON body = json_pack("{s:s, s:o}", "name", name, "tags", fl_mlflow_pairs(tags));
    const struct fl_mlflow_call call = {"POST", "/mlflow/experiments/create", body, NULL};
    const json_t *answer = NULL;
    int r = get_experiment(of(tracker), name, arena, ret_id, err);

    if (r != FL_E_NOT_FOUND)
        return r;
    r = fl_mlflow_call(of(tracker), &call, arena, &answer, err);
    if (r == FL_E_ALREADY_EXISTS) /* by somebody else, just now */
        return get_experiment(of(tracker), name, arena, ret_id, err);
    return r < 0 ? r : fl_mlflow_text(answer, "experiment_id", arena, ret_id, err);
}

/* Runs. */

static bool has_metrics(const json_t *run)
{
    return json_array_size(fl_json_path(run, "data.metrics")) > 0;
}

/* Of doubles the one that has something, then the first by name: whoever looks finds the same. */
static const json_t *choose(const json_t *runs)
{
    const json_t *best = NULL;
    json_t *run;
    size_t i;

    json_array_foreach((json_t *)runs, i, run) {
        const char *id = fl_str_or(fl_json_str(run, "info.run_id"), "");

        if (!best || (has_metrics(run) && !has_metrics(best)) ||
            (has_metrics(run) == has_metrics(best) &&
             strcmp(id, fl_str_or(fl_json_str(best, "info.run_id"), "")) < 0))
            best = run;
    }
    return best;
}

/* What a create whose answer was lost has left: it has nothing, and nobody knows it. */
static int delete_doubles(struct fl_mlflow *mlflow, const json_t *runs, const json_t *but,
                          struct fl_arena *arena, struct fl_error *err)
{
    json_t *run;
    size_t i;
    int r = 0;

    json_array_foreach((json_t *)runs, i, run) {
        const char *id = fl_json_str(run, "info.run_id");
        FL_JSON body = json_pack("{s:s?}", "run_id", id);
        const struct fl_mlflow_call call = {"POST", "/mlflow/runs/delete", body, NULL};

        if (r == 0 && run != but && id && !has_metrics(run))
            r = fl_mlflow_call(mlflow, &call, arena, NULL, err);
    }
    return r;
}

int fl_mlflow_find_run(struct fl_tracker *tracker, const char *experiment_id, const char *key,
                       const char *value, struct fl_arena *arena, struct fl_tracked_run *ret_run,
                       struct fl_error *err)
{
    FL_JSON body = json_pack("{s:[s], s:s, s:s, s:i}", "experiment_ids", experiment_id, "filter",
                             fl_arena_printf(arena, "tags.`%s` = '%s'", key, value),
                             "run_view_type", "ACTIVE_ONLY", "max_results", DOUBLES_MAX);
    const struct fl_mlflow_call call = {"POST", "/mlflow/runs/search", body, NULL};
    const json_t *answer = NULL, *runs, *run;
    int r = fl_mlflow_call(of(tracker), &call, arena, &answer, err);

    if (r < 0)
        return r;
    runs = json_object_get(answer, "runs");
    run = choose(runs);
    if (!run)
        return fl_error_set(err, FL_E_NOT_FOUND, "no run has %s=%s", key, value);
    r = delete_doubles(of(tracker), runs, run, arena, err);
    return r < 0 ? r : fl_mlflow_read_run(run, arena, ret_run, err);
}

int fl_mlflow_create_run(struct fl_tracker *tracker, const char *experiment_id,
                         const struct fl_tracked_new_run *run, struct fl_arena *arena,
                         struct fl_tracked_run *ret_run, struct fl_error *err)
{
    FL_JSON body =
        json_pack("{s:s, s:s, s:I, s:o}", "experiment_id", experiment_id, "run_name", run->name,
                  "start_time", (json_int_t)run->start_ms, "tags", fl_mlflow_pairs(&run->tags));
    const struct fl_mlflow_call call = {"POST", "/mlflow/runs/create", body, NULL};
    const json_t *answer = NULL;
    int r = fl_mlflow_call(of(tracker), &call, arena, &answer, err);

    return r < 0 ? r : fl_mlflow_read_run(json_object_get(answer, "run"), arena, ret_run, err);
}

int fl_mlflow_set_status(struct fl_tracker *tracker, const char *run_id,
                         enum fl_tracked_status status, int64_t end_ms, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON body = json_pack("{s:s, s:s}", "run_id", run_id, "status", status_names[status]);
    const struct fl_mlflow_call call = {"POST", "/mlflow/runs/update", body, NULL};

    if (status != FL_TRACKED_RUNNING)
        (void)json_object_set_new(body, "end_time", json_integer(end_ms));
    return fl_mlflow_call(of(tracker), &call, arena, NULL, err);
}

/* Batches. */

static json_t *metric_to_json(const struct fl_tracked_metric *metric)
{
    return json_pack("{s:s, s:o, s:I, s:I}", "key", metric->key, "value",
                     fl_mlflow_number(metric->value), "timestamp", (json_int_t)metric->time_ms,
                     "step", (json_int_t)metric->step);
}

static int send_batch(struct fl_mlflow *mlflow, const char *run_id, const char *what, json_t *list,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON body = json_pack("{s:s, s:o}", "run_id", run_id, what, list);
    const struct fl_mlflow_call call = {"POST", "/mlflow/runs/log-batch", body, NULL};

    return fl_mlflow_call(mlflow, &call, arena, NULL, err);
}

static int log_pairs(struct fl_mlflow *mlflow, const char *run_id, const char *what,
                     const struct fl_string_map *map, struct fl_error *err)
{
    int r = 0;

    for (size_t from = 0; from < map->count && r == 0; from += BATCH_PAIRS) {
        const size_t left = map->count - from;
        const struct fl_string_map part = {map->items + from,
                                           left < BATCH_PAIRS ? left : BATCH_PAIRS};

        r = send_batch(mlflow, run_id, what, fl_mlflow_pairs(&part), err);
    }
    return r;
}

static int log_metrics(struct fl_mlflow *mlflow, const char *run_id,
                       const struct fl_tracked_batch *batch, struct fl_error *err)
{
    int r = 0;

    for (size_t i = 0; i < batch->metric_count && r == 0;) {
        json_t *list = json_array();

        for (size_t n = 0; n < BATCH_METRICS && i < batch->metric_count; n++)
            (void)json_array_append_new(list, metric_to_json(&batch->metrics[i++]));
        r = send_batch(mlflow, run_id, "metrics", list, err);
    }
    return r;
}

int fl_mlflow_log(struct fl_tracker *tracker, const char *run_id,
                  const struct fl_tracked_batch *batch, struct fl_error *err)
{
    int r = log_pairs(of(tracker), run_id, "params", &batch->params, err);

    if (r == 0)
        r = log_metrics(of(tracker), run_id, batch, err);
    return r < 0 ? r : log_pairs(of(tracker), run_id, "tags", &batch->tags, err);
}

/* The history of a metric. */

static int compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

struct history {
    int64_t *steps;
    size_t count, room;
};

static void history_finish(struct history *history)
{
    free(history->steps);
}

static void history_add(struct history *history, const json_t *metrics)
{
    json_t *metric;
    size_t i;

    json_array_foreach((json_t *)metrics, i, metric) {
        if (history->count == history->room) {
            history->room = history->room ? history->room * 2 : 64;
            history->steps = fl_realloc(history->steps, history->room * sizeof(*history->steps));
        }
        history->steps[history->count++] = fl_mlflow_int(json_object_get(metric, "step"));
    }
}

static int read_page(struct fl_mlflow *mlflow, const char *run_id, const char *metric,
                     struct history *history, char **token, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_mlflow_call call = {
        .method = "GET",
        .path = fl_arena_printf(
            arena, "/mlflow/metrics/get-history?run_id=%s&metric_key=%s&max_results=%d%s%s",
            fl_url_encode(arena, run_id), fl_url_encode(arena, metric), STEPS_PAGE,
            *token ? "&page_token=" : "", *token ? fl_url_encode(arena, *token) : "")};
    const json_t *answer = NULL;
    const char *next;
    int r = fl_mlflow_call(mlflow, &call, arena, &answer, err);

    if (r < 0)
        return r;
    history_add(history, json_object_get(answer, "metrics"));
    next = fl_json_str(answer, "next_page_token");
    free(FL_TAKE(*token));
    *token = next && *next ? fl_strdup(next) : NULL;
    return 0;
}

int fl_mlflow_steps(struct fl_tracker *tracker, const char *run_id, const char *metric,
                    struct fl_arena *arena, struct fl_int_list *ret_steps, struct fl_error *err)
{
    FL_CLEANUP(history_finish) struct history history = {0};
    FL_CLEANUP(fl_freep) char *token = NULL;
    int r;

    do
        r = read_page(of(tracker), run_id, metric, &history, &token, err);
    while (r == 0 && token && history.count < STEPS_MAX);
    if (r < 0)
        return r;
    if (history.count > 1)
        qsort(history.steps, history.count, sizeof(*history.steps), compare);
    ret_steps->items = fl_new_array(arena, int64_t, history.count + 1);
    ret_steps->count = history.count;
    if (history.count > 0)
        memcpy(ret_steps->items, history.steps, history.count * sizeof(*history.steps));
    return 0;
}

int fl_mlflow_inputs(struct fl_tracker *tracker, const char *run_id,
                     const struct fl_tracked_dataset *datasets, size_t count, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    json_t *list = json_array();
    FL_JSON body = json_pack("{s:s, s:o}", "run_id", run_id, "datasets", list);
    const struct fl_mlflow_call call = {"POST", "/mlflow/runs/log-inputs", body, NULL};

    for (size_t i = 0; i < count && i < BATCH_DATASETS; i++)
        (void)json_array_append_new(list, json_pack("{s:[{s:s, s:s}], s:{s:s, s:s, s:s, s:s}}",
                                                    "tags", "key", "mlflow.data.context", "value",
                                                    "training", "dataset", "name", datasets[i].name,
                                                    "digest", datasets[i].digest, "source_type",
                                                    "flops", "source", "{}"));
    return fl_mlflow_call(of(tracker), &call, arena, NULL, err);
}
