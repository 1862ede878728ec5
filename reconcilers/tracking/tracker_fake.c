#include "reconcilers/tracking/tracker_fake.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct fl_fake_tracker {
    json_t *state;
    int64_t calls, fails_at; /* 0: none */
    int code;
    bool after, for_good;
};

struct session {
    struct fl_tracker base;
    struct fl_fake_tracker *fake;
};

struct fl_fake_tracker *fl_fake_tracker_create(void)
{
    struct fl_fake_tracker *fake = fl_calloc(1, sizeof(*fake));

    fake->state = json_pack("{s:{}, s:[], s:[], s:[], s:{}}", "experiments", "runs", "models",
                            "versions", "aliases");
    return fake;
}

void fl_fake_tracker_destroy(struct fl_fake_tracker *fake)
{
    if (!fake)
        return;
    json_decref(fake->state);
    free(fake);
}

void fl_fake_tracker_fail(struct fl_fake_tracker *fake, int64_t ahead, int code, bool after,
                          bool for_good)
{
    fake->fails_at = ahead > 0 ? fake->calls + ahead : 0;
    fake->code = code;
    fake->after = after;
    fake->for_good = for_good;
}

int64_t fl_fake_tracker_calls(const struct fl_fake_tracker *fake)
{
    return fake->calls;
}

json_t *fl_fake_tracker_state(struct fl_fake_tracker *fake)
{
    return fake->state;
}

static struct fl_fake_tracker *of(struct fl_tracker *tracker)
{
    return ((struct session *)tracker)->fake;
}

/* Faults. */

static bool fails_now(const struct fl_fake_tracker *fake)
{
    return fake->fails_at > 0 &&
           (fake->calls == fake->fails_at || (fake->for_good && fake->calls > fake->fails_at));
}

static int failure(const struct fl_fake_tracker *fake, struct fl_error *err)
{
    return fl_error_set(err, fake->code, "the tracker was told to fail");
}

/* Every call begins with it, and … */
static int begin(struct fl_fake_tracker *fake, struct fl_error *err)
{
    fake->calls++;
    return fails_now(fake) && !fake->after ? failure(fake, err) : 0;
}

/* … ends with it: what was asked for has taken place. */
static int end(struct fl_fake_tracker *fake, int r, struct fl_error *err)
{
    return fails_now(fake) && fake->after ? failure(fake, err) : r;
}

/* State. */

static json_t *list(struct fl_fake_tracker *fake, const char *name)
{
    return json_object_get(fake->state, name);
}

static json_t *find(const json_t *items, const char *key, const char *value)
{
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)items, i, item)
        if (fl_streq(fl_json_str(item, key), value))
            return item;
    return NULL;
}

json_t *fl_fake_tracker_run(struct fl_fake_tracker *fake, const char *name)
{
    return find(list(fake, "runs"), "name", name);
}

size_t fl_fake_tracker_points(const json_t *run, const char *metric, int64_t step)
{
    json_t *point;
    size_t count = 0, i;

    json_array_foreach(json_object_get(run, "metrics"), i, point)
        count += fl_streq(json_string_value(json_array_get(point, 0)), metric) &&
                 json_integer_value(json_array_get(point, 1)) == step;
    return count;
}

static json_t *map_to_json(const struct fl_string_map *map)
{
    json_t *object = json_object();

    for (size_t i = 0; i < map->count; i++)
        fl_json_set_str(object, map->items[i].key, map->items[i].value);
    return object;
}

static struct fl_string_map map_from_json(const json_t *object, struct fl_arena *arena)
{
    struct fl_string_map map = {
        .items = fl_new_array(arena, struct fl_string_pair, json_object_size(object) + 1)};
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)object, key, value)
        map.items[map.count++] = (struct fl_string_pair){
            fl_arena_strdup(arena, key), fl_arena_strdup(arena, json_string_value(value))};
    return map;
}

static void read_run(const json_t *run, struct fl_arena *arena, struct fl_tracked_run *ret_run)
{
    *ret_run =
        (struct fl_tracked_run){.id = fl_arena_strdup(arena, fl_json_str(run, "id")),
                                .status = (enum fl_tracked_status)fl_json_int(run, "status", 0),
                                .end_ms = fl_json_int(run, "end", 0),
                                .tags = map_from_json(json_object_get(run, "tags"), arena),
                                .params = map_from_json(json_object_get(run, "params"), arena)};
}

/* The table. */

static int experiment(struct fl_tracker *tracker, const char *name,
                      const struct fl_string_map *tags, struct fl_arena *arena, const char **ret_id,
                      struct fl_error *err)
{
    struct fl_fake_tracker *fake = of(tracker);
    json_t *experiments = list(fake, "experiments");
    int r = begin(fake, err);

    (void)tags;
    if (r < 0)
        return r;
    if (!json_object_get(experiments, name))
        (void)json_object_set_new(experiments, name,
                                  json_sprintf("%zu", json_object_size(experiments) + 1));
    *ret_id = fl_arena_strdup(arena, json_string_value(json_object_get(experiments, name)));
    return end(fake, 0, err);
}

static int find_run(struct fl_tracker *tracker, const char *experiment_id, const char *key,
                    const char *value, struct fl_arena *arena, struct fl_tracked_run *ret_run,
                    struct fl_error *err)
{
    struct fl_fake_tracker *fake = of(tracker);
    json_t *run;
    size_t i;
    int r = begin(fake, err);

    if (r < 0)
        return r;
    json_array_foreach(list(fake, "runs"), i, run) {
        const char *has = json_string_value(json_object_get(json_object_get(run, "tags"), key));

        if (fl_streq(has, value) && fl_streq(fl_json_str(run, "experiment"), experiment_id)) {
            read_run(run, arena, ret_run);
            return end(fake, 0, err);
        }
    }
    return end(fake, fl_error_set(err, FL_E_NOT_FOUND, "no such run"), err);
}

static int create_run(struct fl_tracker *tracker, const char *experiment_id,
                      const struct fl_tracked_new_run *run, struct fl_arena *arena,
                      struct fl_tracked_run *ret_run, struct fl_error *err)
{
    struct fl_fake_tracker *fake = of(tracker);
    json_t *made;
    int r = begin(fake, err);

    if (r < 0)
        return r;
    made = json_pack("{s:o, s:s, s:s, s:I, s:i, s:I, s:o, s:{}, s:[], s:{}}", "id",
                     json_sprintf("run-%zu", json_array_size(list(fake, "runs")) + 1), "experiment",
                     experiment_id, "name", run->name, "start", (json_int_t)run->start_ms, "status",
                     FL_TRACKED_RUNNING, "end", (json_int_t)0, "tags", map_to_json(&run->tags),
                     "params", "metrics", "inputs");
    (void)json_array_append_new(list(fake, "runs"), made);
    read_run(made, arena, ret_run);
    return end(fake, 0, err);
}

static int log_params(json_t *run, const struct fl_string_map *params, struct fl_error *err)
{
    json_t *has = json_object_get(run, "params");

    for (size_t i = 0; i < params->count; i++) {
        const char *key = params->items[i].key, *value = params->items[i].value;
        const char *old = json_string_value(json_object_get(has, key));

        if (old && strcmp(old, value) != 0)
            return fl_error_set(err, FL_E_INVALID, "param %s cannot be changed", key);
        fl_json_set_str(has, key, value);
    }
    return 0;
}

/* As a table with a primary key: the same point again is no point more. */
static void log_metric(json_t *run, const struct fl_tracked_metric *metric)
{
    json_t *points = json_object_get(run, "metrics"), *has;
    json_t *point = json_pack("[s, I, I, f]", metric->key, (json_int_t)metric->step,
                              (json_int_t)metric->time_ms, metric->value);
    size_t i;

    json_array_foreach(points, i, has)
        if (json_equal(has, point)) {
            json_decref(point);
            return;
        }
    (void)json_array_append_new(points, point);
}

static int log_batch(struct fl_tracker *tracker, const char *run_id,
                     const struct fl_tracked_batch *batch, struct fl_error *err)
{
    struct fl_fake_tracker *fake = of(tracker);
    json_t *run = find(list(fake, "runs"), "id", run_id);
    int r = begin(fake, err);

    if (r < 0)
        return r;
    if (!run)
        return fl_error_set(err, FL_E_NOT_FOUND, "no run %s", run_id);
    r = log_params(run, &batch->params, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < batch->metric_count; i++) {
        if (fails_now(fake) && fake->after && i == batch->metric_count / 2)
            return failure(fake, err); /* half of it is there */
        log_metric(run, &batch->metrics[i]);
    }
    for (size_t i = 0; i < batch->tags.count; i++)
        fl_json_set_str(json_object_get(run, "tags"), batch->tags.items[i].key,
                        batch->tags.items[i].value);
    return end(fake, 0, err);
}

static int compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static int steps(struct fl_tracker *tracker, const char *run_id, const char *metric,
                 struct fl_arena *arena, struct fl_int_list *ret_steps, struct fl_error *err)
{
    struct fl_fake_tracker *fake = of(tracker);
    json_t *points, *point;
    size_t i;
    int r = begin(fake, err);

    if (r < 0)
        return r;
    points = json_object_get(find(list(fake, "runs"), "id", run_id), "metrics");
    *ret_steps =
        (struct fl_int_list){.items = fl_new_array(arena, int64_t, json_array_size(points) + 1)};
    json_array_foreach(points, i, point)
        if (fl_streq(json_string_value(json_array_get(point, 0)), metric))
            ret_steps->items[ret_steps->count++] = json_integer_value(json_array_get(point, 1));
    if (ret_steps->count > 1)
        qsort(ret_steps->items, ret_steps->count, sizeof(int64_t), compare);
    return end(fake, 0, err);
}

static int inputs(struct fl_tracker *tracker, const char *run_id,
                  const struct fl_tracked_dataset *datasets, size_t count, struct fl_error *err)
{
    struct fl_fake_tracker *fake = of(tracker);
    json_t *run = find(list(fake, "runs"), "id", run_id);
    int r = begin(fake, err);

    if (r < 0)
        return r;
    for (size_t i = 0; i < count; i++)
        fl_json_set_str(json_object_get(run, "inputs"), datasets[i].name, datasets[i].digest);
    return end(fake, 0, err);
}

static int set_status(struct fl_tracker *tracker, const char *run_id, enum fl_tracked_status status,
                      int64_t end_ms, struct fl_error *err)
{
    struct fl_fake_tracker *fake = of(tracker);
    json_t *run = find(list(fake, "runs"), "id", run_id);
    int r = begin(fake, err);

    if (r < 0)
        return r;
    (void)json_object_set_new(run, "status", json_integer(status));
    (void)json_object_set_new(run, "end", json_integer(end_ms));
    return end(fake, 0, err);
}

/* Models. */

static int ensure_model(struct fl_fake_tracker *fake, const struct fl_tracked_model *model,
                        const char **ret_id, struct fl_error *err)
{
    json_t *models = list(fake, "models"), *has = find(models, "digest", model->digest);
    const char *folder = NULL;
    int r = has ? 0 : model->make(model->user, &folder, err);

    if (r < 0)
        return r;
    if (!has) {
        has = json_pack("{s:o, s:s, s:s, s:s}", "id",
                        json_sprintf("m-%zu", json_array_size(models) + 1), "run", model->run_id,
                        "digest", model->digest, "files", folder);
        (void)json_array_append_new(models, has);
    }
    *ret_id = fl_json_str(has, "id");
    return 0;
}

static json_t *find_version(const json_t *versions, const struct fl_tracked_model *model,
                            const char *id)
{
    json_t *version;
    size_t i;

    json_array_foreach((json_t *)versions, i, version)
        if (fl_streq(fl_json_str(version, "name"), model->registered) &&
            fl_streq(fl_json_str(version, "model"), id) &&
            fl_streq(fl_json_str(version, "owner"), model->owner))
            return version;
    return NULL;
}

static size_t count_versions(const json_t *versions, const char *name)
{
    json_t *version;
    size_t count = 0, i;

    json_array_foreach((json_t *)versions, i, version)
        count += fl_streq(fl_json_str(version, "name"), name);
    return count;
}

static void set_alias(struct fl_fake_tracker *fake, const struct fl_tracked_model *model,
                      const char *alias, const json_t *version, bool is_new)
{
    FL_CLEANUP(fl_freep) char *key = fl_asprintf("%s/%s", model->registered, alias);
    json_t *aliases = list(fake, "aliases"), *has = json_object_get(aliases, key);

    if (has && !is_new && !fl_streq(fl_json_str(has, "owner"), model->owner))
        return;
    (void)json_object_set(aliases, key, (json_t *)version);
}

static int put_model(struct fl_tracker *tracker, const struct fl_tracked_model *model,
                     struct fl_arena *arena, struct fl_tracked_version *ret_version,
                     struct fl_error *err)
{
    struct fl_fake_tracker *fake = of(tracker);
    json_t *versions = list(fake, "versions"), *version;
    const char *id = NULL;
    bool is_new;
    int r = begin(fake, err);

    if (r == 0)
        r = ensure_model(fake, model, &id, err);
    if (r < 0)
        return r;
    version = find_version(versions, model, id);
    is_new = !version;
    if (is_new) {
        version = json_pack("{s:s, s:o, s:s, s:s, s:o}", "name", model->registered, "version",
                            json_sprintf("%zu", count_versions(versions, model->registered) + 1),
                            "model", id, "owner", model->owner, "tags", map_to_json(&model->tags));
        (void)json_array_append_new(versions, version);
    }
    for (size_t i = 0; i < model->alias_count; i++)
        set_alias(fake, model, model->aliases[i], version, is_new);
    *ret_version = (struct fl_tracked_version){
        .model_id = fl_arena_strdup(arena, id),
        .version = fl_arena_strdup(arena, fl_json_str(version, "version")),
        .url = fl_arena_printf(arena, "fake://%s", id)};
    return end(fake, 0, err);
}

static const char *run_url(struct fl_tracker *tracker, const char *experiment_id,
                           const char *run_id, struct fl_arena *arena)
{
    (void)tracker;
    return fl_arena_printf(arena, "fake://%s/%s", experiment_id, run_id);
}

static void destroy(struct fl_tracker *tracker)
{
    free(tracker);
}

static const struct fl_tracker_ops ops = {
    .name = "fake",
    .destroy = destroy,
    .experiment = experiment,
    .find_run = find_run,
    .create_run = create_run,
    .log = log_batch,
    .steps = steps,
    .inputs = inputs,
    .set_status = set_status,
    .model = put_model,
    .run_url = run_url,
};

int fl_tracker_fake_open(void *user, const struct fl_tracker_options *options,
                         struct fl_tracker **ret_tracker, struct fl_error *err)
{
    struct session *session = fl_calloc(1, sizeof(*session));

    (void)options;
    (void)err;
    session->base.ops = &ops;
    session->fake = user;
    *ret_tracker = &session->base;
    return 0;
}
