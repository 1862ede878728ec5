#include "cmd/top_state.h"

#include "api/field.h"
#include "lib/map.h"
#include "lib/str.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX      300 /* bytes of one text: a condition's message, what a program said last */
#define INSTANCES_MAX 8   /* of a workload; the others are in its numbers */
#define METRICS_MAX   16
#define RATE_ROUNDS   10       /* at least so many are looked at, */
#define RATE_US       20000000 /* and so long: times are given in whole seconds */

struct entry {
    json_t *object;
    unsigned list; /* the last that told of it */
};

struct kind {
    struct fl_map *entries; /* by uid */
    bool full;
    unsigned list;
    enum fl_watcher_state state;
    char *why;
};

struct fl_top {
    struct kind kinds[FL_TOP_KINDS];
};

static void destroy_entry(void *value)
{
    struct entry *entry = value;

    json_decref(entry->object);
    free(entry);
}

struct fl_top *fl_top_create(void)
{
    struct fl_top *top = fl_calloc(1, sizeof(*top));

    for (size_t i = 0; i < FL_TOP_KINDS; i++)
        top->kinds[i].entries = fl_map_create(destroy_entry);
    return top;
}

void fl_top_destroy(struct fl_top *top)
{
    if (!top)
        return;
    for (size_t i = 0; i < FL_TOP_KINDS; i++) {
        fl_map_destroy(top->kinds[i].entries);
        free(top->kinds[i].why);
    }
    free(top);
}

/* What is kept of an object */

static const char *const paths_of_kinds[FL_TOP_KINDS][10] = {
    [FL_TOP_PROJECTS] = {"spec.suspend", "spec.training.bestModel.metric", "spec.training.rounds",
                         "status.rounds", "status.learners", "status.tiers"},
    [FL_TOP_ROUNDS] = {"spec.index", "spec.project.name", "status.index", "status.attempt",
                       "status.participants", "status.startTime", "status.completionTime",
                       "status.examples", "status.durations.total", "status.model.digest"},
    [FL_TOP_WORKLOADS] = {"spec.role", "spec.instances", "spec.suspend", "status.replicas"},
    [FL_TOP_SERVERS] = {"spec.suspend", "spec.model.project.name", "status.url", "status.replicas",
                        "status.model.round", "status.rollout.state", "status.traffic"},
};

static json_t *cut_text(const char *text)
{
    const size_t len = strlen(text);

    return json_stringn(text, len > TEXT_MAX ? fl_utf8_cut(text, len, TEXT_MAX) : len);
}

/* A copy that has its own values, with texts cut. */
static json_t *copy(const json_t *value)
{
    json_t *to, *item;
    const char *key;
    size_t i;

    if (json_is_string(value))
        return cut_text(json_string_value(value));
    if (json_is_array(value)) {
        to = json_array();
        json_array_foreach((json_t *)value, i, item)
            (void)json_array_append_new(to, copy(item));
        return to;
    }
    if (!json_is_object(value))
        return json_deep_copy(value);
    to = json_object();
    json_object_foreach((json_t *)value, key, item)
        (void)json_object_set_new(to, key, copy(item));
    return to;
}

/* The object at the path but for its last key, made where it is absent; `*ret_key` is that key. */
static json_t *parent_of(json_t *object, const char *path, const char **ret_key)
{
    const char *dot;

    while ((dot = strchr(path, '.'))) {
        FL_CLEANUP(fl_freep) char *key = fl_strndup(path, (size_t)(dot - path));

        object = fl_json_ensure_object(object, key);
        path = dot + 1;
    }
    *ret_key = path;
    return object;
}

static void keep(json_t *to, const json_t *from, const char *path)
{
    const json_t *value = fl_json_path(from, path);
    const char *key;
    json_t *parent;

    if (!value)
        return;
    parent = parent_of(to, path, &key);
    (void)json_object_set_new(parent, key, copy(value));
}

/* Of those that are shown. */
static void keep_conditions(json_t *to, const json_t *from)
{
    static const char *const types[] = {"Ready", "Stalled", "Complete"};
    static const char *const fields[] = {"type", "status", "reason", "message",
                                         "observedGeneration"};
    json_t *conditions = json_array(), *condition;
    size_t i;

    json_array_foreach(fl_json_path(from, "status.conditions"), i, condition)
        for (size_t t = 0; t < FL_COUNT_OF(types); t++) {
            json_t *kept;

            if (!fl_streq(fl_json_str(condition, "type"), types[t]))
                continue;
            (void)json_array_append_new(conditions, kept = json_object());
            for (size_t f = 0; f < FL_COUNT_OF(fields); f++)
                keep(kept, condition, fields[f]);
        }
    (void)json_object_set_new(fl_json_ensure_object(to, "status"), "conditions", conditions);
}

/* Whose it is, and what for. */
static void keep_owner(json_t *to, const json_t *from)
{
    const json_t *labels = fl_json_path(from, "metadata.labels");
    const char *role = json_string_value(json_object_get(labels, "flops.dev/role"));
    json_t *owner;
    size_t i;

    fl_json_set_str(to, "role", role);
    json_array_foreach(fl_json_path(from, "metadata.ownerReferences"), i, owner)
        if (fl_json_bool(owner, "controller", false))
            fl_json_set_str(to, "owner", fl_json_str(owner, "uid"));
}

static void keep_instances(json_t *to, const json_t *from)
{
    static const char *const fields[] = {"index",   "state", "ready",   "reason",
                                         "message", "node",  "lastExit"};
    const json_t *instances = fl_json_path(from, "status.instances");
    json_t *kept = json_array(), *instance;
    size_t i;

    json_array_foreach((json_t *)instances, i, instance) {
        json_t *one = json_object();

        for (size_t f = 0; f < FL_COUNT_OF(fields); f++)
            keep(one, instance, fields[f]);
        (void)json_array_append_new(kept, one);
        if (i + 1 == INSTANCES_MAX)
            break;
    }
    (void)json_object_set_new(to, "instances", kept);
}

static void keep_metrics(json_t *to, const json_t *from, const char *path)
{
    json_t *kept = json_object(), *value;
    const char *key;

    json_object_foreach(fl_json_path(from, path), key, value)
        if (json_object_size(kept) < METRICS_MAX)
            (void)json_object_set_new(kept, key, copy(value));
    if (json_object_size(kept) > 0) {
        const char *last;
        json_t *parent = parent_of(to, path, &last);

        (void)json_object_set(parent, last, kept);
    }
    json_decref(kept);
}

static json_t *keep_object(enum fl_top_kind kind, const json_t *object)
{
    static const char *const everywhere[] = {
        "metadata.name",       "metadata.namespace",         "metadata.uid",
        "metadata.generation", "metadata.deletionTimestamp", "status.observedGeneration"};
    static const char *const metrics[] = {"status.metrics.last.values",
                                          "status.metrics.best.values", "status.metrics.evaluation",
                                          "status.metrics.train"};
    json_t *kept = json_object();

    for (size_t i = 0; i < FL_COUNT_OF(everywhere); i++)
        keep(kept, object, everywhere[i]);
    for (size_t i = 0; i < FL_COUNT_OF(paths_of_kinds[kind]) && paths_of_kinds[kind][i]; i++)
        keep(kept, object, paths_of_kinds[kind][i]);
    keep(kept, object, "status.metrics.best.round");
    keep(kept, object, "status.metrics.last.round");
    for (size_t i = 0; i < FL_COUNT_OF(metrics); i++)
        keep_metrics(kept, object, metrics[i]);
    keep_conditions(kept, object);
    keep_owner(kept, object);
    if (kind == FL_TOP_WORKLOADS)
        keep_instances(kept, object);
    return kept;
}

/* What is told */

void fl_top_begin(struct fl_top *top, enum fl_top_kind kind)
{
    top->kinds[kind].list++;
    top->kinds[kind].full = false;
}

const json_t *fl_top_put(struct fl_top *top, enum fl_top_kind kind, const json_t *object)
{
    struct kind *of = &top->kinds[kind];
    const char *uid = fl_str_or(fl_json_str(object, "metadata.uid"), "");
    struct entry *entry = fl_map_get(of->entries, uid);

    if (!entry && fl_map_count(of->entries) >= FL_TOP_OBJECTS_MAX) {
        of->full = true;
        return NULL;
    }
    if (!entry) {
        entry = fl_calloc(1, sizeof(*entry));
        fl_map_put(of->entries, uid, entry);
    }
    json_decref(entry->object);
    entry->object = keep_object(kind, object);
    entry->list = of->list;
    return entry->object;
}

void fl_top_end(struct fl_top *top, enum fl_top_kind kind,
                void (*gone)(void *user, const json_t *object), void *user)
{
    struct kind *of = &top->kinds[kind];
    void *cursor = NULL, *value;
    const char *uid;

    while (fl_map_next(of->entries, &cursor, &uid, &value))
        if (((struct entry *)value)->list != of->list) {
            if (gone)
                gone(user, ((struct entry *)value)->object);
            (void)fl_map_remove(of->entries, uid);
        }
}

void fl_top_remove(struct fl_top *top, enum fl_top_kind kind, const json_t *object)
{
    (void)fl_map_remove(top->kinds[kind].entries,
                        fl_str_or(fl_json_str(object, "metadata.uid"), ""));
}

void fl_top_set_state(struct fl_top *top, enum fl_top_kind kind, enum fl_watcher_state state,
                      const char *why)
{
    struct kind *of = &top->kinds[kind];

    of->state = state;
    free(of->why);
    of->why = why ? fl_strdup(why) : NULL;
}

/* What is known */

enum fl_watcher_state fl_top_state(const struct fl_top *top, enum fl_top_kind kind,
                                   const char **ret_why)
{
    *ret_why = fl_str_or(top->kinds[kind].why, "");
    return top->kinds[kind].state;
}

bool fl_top_is_full(const struct fl_top *top, enum fl_top_kind kind)
{
    return top->kinds[kind].full;
}

int64_t fl_top_number(const json_t *round)
{
    return fl_json_int(round, "status.index", fl_json_int(round, "spec.index", 0));
}

static const char *text_of(const json_t *object, const char *path)
{
    return fl_str_or(fl_json_str(object, path), "");
}

static const char *group_of(const json_t *object)
{
    const char *project = fl_json_str(object, "spec.project.name");

    return project ? project : fl_top_owner(object);
}

static int compare_group(const json_t *object, const char *ns, const char *group)
{
    const int by_namespace = strcmp(text_of(object, "metadata.namespace"), ns);

    return by_namespace != 0 ? by_namespace : strcmp(group_of(object), group);
}

static int compare(const void *a, const void *b)
{
    const json_t *x = *(const json_t *const *)a, *y = *(const json_t *const *)b;
    const int by_group = compare_group(x, text_of(y, "metadata.namespace"), group_of(y));
    const int64_t i = fl_top_number(x), j = fl_top_number(y);

    if (by_group != 0)
        return by_group;
    return i != j ? (i > j) - (i < j)
                  : strcmp(text_of(x, "metadata.name"), text_of(y, "metadata.name"));
}

const json_t **fl_top_sorted(const struct fl_top *top, enum fl_top_kind kind,
                             struct fl_arena *arena, size_t *ret_count)
{
    const struct fl_map *entries = top->kinds[kind].entries;
    const json_t **objects = fl_new_array(arena, const json_t *, fl_map_count(entries) + 1);
    void *cursor = NULL, *value;
    const char *uid;
    size_t count = 0;

    while (fl_map_next(entries, &cursor, &uid, &value))
        objects[count++] = ((struct entry *)value)->object;
    qsort(objects, count, sizeof(*objects), compare);
    *ret_count = count;
    return objects;
}

const json_t **fl_top_group(const json_t **sorted, size_t count, const char *ns, const char *group,
                            size_t *ret_count)
{
    size_t low = 0, high = count, end;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (compare_group(sorted[middle], ns, group) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (end = low; end < count && compare_group(sorted[end], ns, group) == 0;)
        end++;
    *ret_count = end - low;
    return sorted + low;
}

const char *fl_top_owner(const json_t *object)
{
    return fl_str_or(fl_json_str(object, "owner"), "");
}

const char *fl_top_role(const json_t *object)
{
    const char *role = fl_json_str(object, "role");

    return role ? role : fl_str_or(fl_json_str(object, "metadata.name"), "");
}

static bool time_of(const json_t *round, const char *path, int64_t *ret_us)
{
    const char *text = fl_json_str(round, path);

    return text && fl_time_parse(text, ret_us);
}

static int64_t duration_us(const json_t *round)
{
    const char *text = fl_json_str(round, "status.durations.total");
    int64_t ms;

    return text && fl_duration_parse(text, &ms) ? ms * 1000 : 0;
}

double fl_top_rate(const json_t *const *rounds, size_t count)
{
    int64_t begin_us = 0, end_us = 0, took_us = 0, us;
    size_t ended = 0;

    for (size_t i = count; i > 0; i--) {
        if (ended >= RATE_ROUNDS && end_us - begin_us >= RATE_US)
            break;
        if (!time_of(rounds[i - 1], "status.completionTime", &us))
            continue;
        end_us = ended == 0 || us > end_us ? us : end_us;
        if (time_of(rounds[i - 1], "status.startTime", &us))
            begin_us = ended == 0 || us < begin_us ? us : begin_us;
        took_us += duration_us(rounds[i - 1]);
        ended++;
    }
    us = begin_us > 0 && end_us - begin_us > took_us ? end_us - begin_us : took_us;
    return us > 0 ? (double)ended * 1e6 / (double)us : NAN;
}
