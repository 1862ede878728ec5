#include "workloads/route/routes.h"

#include "lib/histogram.h"
#include "lib/str.h"
#include "workloads/route/load.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX        512
#define DOWN_FIRST_MS   1000
#define DOWN_LONGEST_MS 30000

struct counts {
    int64_t requests, errors;
};

struct group {
    char *name, *epoch;
    int64_t percent, current; /* of the smooth weighted round robin */
    bool mirror, trial, wanted;
    struct counts counts;
    struct fl_histogram latency; /* µs */
};

struct fl_route_backend {
    struct group *group; /* NULL: its group has gone */
    char *id, *url, *group_name;
    bool wanted; /* in the table */
    int64_t in_flight, last_used;
    int64_t down_until_ms, down_ms; /* 0: it answers */
    struct counts counts;
    void *user;
};

struct fl_routes {
    json_t *table;
    int64_t version, uses;
    struct group *groups[FL_ROUTES_GROUPS_MAX];
    size_t group_count;
    struct fl_route_backend **backends;
    size_t backend_count, backend_room;
    void (*drop)(void *user);
    struct fl_load load;
};

struct fl_routes *fl_routes_create(void)
{
    return fl_calloc(1, sizeof(struct fl_routes));
}

static void group_free(struct group *group)
{
    free(group->name);
    free(group->epoch);
    free(group);
}

static void backend_free(struct fl_routes *routes, struct fl_route_backend *backend)
{
    if (backend->user && routes->drop)
        routes->drop(backend->user);
    free(backend->id);
    free(backend->url);
    free(backend->group_name);
    free(backend);
}

void fl_routes_destroy(struct fl_routes *routes)
{
    if (!routes)
        return;
    for (size_t i = 0; i < routes->backend_count; i++)
        backend_free(routes, routes->backends[i]);
    for (size_t i = 0; i < routes->group_count; i++)
        group_free(routes->groups[i]);
    free(routes->backends);
    json_decref(routes->table);
    free(routes);
}

/* The table */

static int check_text(const json_t *item, const char *list, size_t i, const char *member,
                      struct fl_error *err)
{
    const char *text = fl_json_str(item, member);

    if (!text || !*text || strlen(text) > TEXT_MAX)
        return fl_error_set(err, FL_E_INVALID, "%s[%zu].%s: must be a text of 1 to %d characters",
                            list, i, member, TEXT_MAX);
    return 0;
}

static bool has_named(const json_t *list, const char *member, const char *name, size_t before)
{
    for (size_t i = 0; i < before; i++)
        if (fl_streq(fl_json_str(json_array_get(list, i), member), name))
            return true;
    return false;
}

static int check_groups(const json_t *groups, struct fl_error *err)
{
    const json_t *item;
    size_t i;

    if (!json_is_array(groups) || json_array_size(groups) > FL_ROUTES_GROUPS_MAX)
        return fl_error_set(err, FL_E_INVALID, "groups: must be a list of at most %d",
                            FL_ROUTES_GROUPS_MAX);
    json_array_foreach(groups, i, item) {
        int64_t percent = fl_json_int(item, "percent", -1);
        int r = check_text(item, "groups", i, "name", err);

        if (r < 0)
            return r;
        if (percent < 0 || percent > 100)
            return fl_error_set(err, FL_E_INVALID, "groups[%zu].percent: must be from 0 to 100", i);
        if (has_named(groups, "name", fl_json_str(item, "name"), i))
            return fl_error_set(err, FL_E_INVALID, "groups[%zu].name: stands there twice", i);
    }
    return 0;
}

static int check_backends(const json_t *table, struct fl_error *err)
{
    const json_t *backends = json_object_get(table, "backends"),
                 *groups = json_object_get(table, "groups"), *item;
    size_t i;

    if (!json_is_array(backends) || json_array_size(backends) > FL_ROUTES_BACKENDS_MAX)
        return fl_error_set(err, FL_E_INVALID, "backends: must be a list of at most %d",
                            FL_ROUTES_BACKENDS_MAX);
    json_array_foreach(backends, i, item) {
        const char *url = fl_json_str(item, "url");
        int r = check_text(item, "backends", i, "id", err);

        if (r == 0)
            r = check_text(item, "backends", i, "url", err);
        if (r == 0)
            r = check_text(item, "backends", i, "group", err);
        if (r < 0)
            return r;
        if (!fl_str_has_prefix(url, "http://") && !fl_str_has_prefix(url, "https://"))
            return fl_error_set(err, FL_E_INVALID, "backends[%zu].url: must be http or https", i);
        if (!has_named(groups, "name", fl_json_str(item, "group"), json_array_size(groups)))
            return fl_error_set(err, FL_E_INVALID, "backends[%zu].group: there is no such group",
                                i);
        if (has_named(backends, "id", fl_json_str(item, "id"), i))
            return fl_error_set(err, FL_E_INVALID, "backends[%zu].id: stands there twice", i);
    }
    return 0;
}

static int check_table(const struct fl_routes *routes, const json_t *table,
                       struct fl_load_terms *ret_load, struct fl_error *err)
{
    const int64_t version = fl_json_int(table, "version", 0);
    int r;

    if (version < 1)
        return fl_error_set(err, FL_E_INVALID, "version: must be a number from 1 on");
    if (version < routes->version)
        return fl_error_set(err, FL_E_CONFLICT,
                            "version %" PRId64 " is in force, and %" PRId64 " is an older one",
                            routes->version, version);
    r = check_groups(json_object_get(table, "groups"), err);
    if (r == 0)
        r = check_backends(table, err);
    return r < 0 ? r : fl_load_read_terms(json_object_get(table, "load"), ret_load, err);
}

static struct group *find_group(const struct fl_routes *routes, const char *name)
{
    for (size_t i = 0; i < routes->group_count; i++)
        if (strcmp(routes->groups[i]->name, name) == 0)
            return routes->groups[i];
    return NULL;
}

static struct fl_route_backend *find_backend(const struct fl_routes *routes, const char *id)
{
    for (size_t i = 0; i < routes->backend_count; i++)
        if (strcmp(routes->backends[i]->id, id) == 0)
            return routes->backends[i];
    return NULL;
}

static void begin_epoch(struct group *group, const char *epoch)
{
    free(group->epoch);
    group->epoch = fl_strdup(epoch);
    group->counts = (struct counts){0};
    group->latency = (struct fl_histogram){0};
}

static struct group *make_group(const char *name, const char *epoch)
{
    struct group *group = fl_calloc(1, sizeof(*group));

    group->name = fl_strdup(name);
    begin_epoch(group, epoch);
    return group;
}

static void forget_groups(struct group **groups, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!groups[i]->wanted)
            group_free(groups[i]);
}

static void apply_groups(struct fl_routes *routes, const json_t *list)
{
    struct group *groups[FL_ROUTES_GROUPS_MAX];
    size_t count = 0, i;
    const json_t *item;

    for (i = 0; i < routes->group_count; i++)
        routes->groups[i]->wanted = false;
    json_array_foreach(list, i, item) {
        const char *name = fl_json_str(item, "name");
        const char *epoch = fl_str_or(fl_json_str(item, "epoch"), "");
        struct group *group = find_group(routes, name);

        if (!group)
            group = make_group(name, epoch);
        else if (strcmp(group->epoch, epoch) != 0)
            begin_epoch(group, epoch);
        group->wanted = true;
        group->percent = fl_json_int(item, "percent", 0);
        group->mirror = fl_json_bool(item, "mirror", false);
        group->trial = fl_json_bool(item, "trial", false);
        group->current = 0;
        groups[count++] = group;
    }
    forget_groups(routes->groups, routes->group_count);
    memcpy(routes->groups, groups, count * sizeof(*groups));
    routes->group_count = count;
}

static struct fl_route_backend *add_backend(struct fl_routes *routes, const char *id,
                                            const char *url)
{
    struct fl_route_backend *backend = fl_calloc(1, sizeof(*backend));

    backend->id = fl_strdup(id);
    backend->url = fl_strdup(url);
    if (routes->backend_count == routes->backend_room) {
        routes->backend_room = routes->backend_room ? routes->backend_room * 2 : 16;
        routes->backends =
            fl_realloc(routes->backends, routes->backend_room * sizeof(struct fl_route_backend *));
    }
    routes->backends[routes->backend_count++] = backend;
    return backend;
}

/* The same server under another address is another backend; the old one ends its requests. */
static void retire_moved(struct fl_route_backend *backend, const char *url)
{
    if (backend && strcmp(backend->url, url) != 0) {
        free(backend->id);
        backend->id = fl_strdup("");
        backend->group = NULL;
    }
}

static void drop_idle(struct fl_routes *routes)
{
    size_t kept = 0;

    for (size_t i = 0; i < routes->backend_count; i++) {
        struct fl_route_backend *backend = routes->backends[i];

        if (backend->wanted || backend->in_flight > 0)
            routes->backends[kept++] = backend;
        else
            backend_free(routes, backend);
    }
    routes->backend_count = kept;
}

static void apply_backends(struct fl_routes *routes, const json_t *list)
{
    const json_t *item;
    size_t i;

    for (i = 0; i < routes->backend_count; i++) {
        routes->backends[i]->wanted = false;
        routes->backends[i]->group = NULL;
    }
    json_array_foreach(list, i, item) {
        const char *id = fl_json_str(item, "id"), *url = fl_json_str(item, "url"),
                   *group = fl_json_str(item, "group");
        struct fl_route_backend *backend;

        retire_moved(find_backend(routes, id), url);
        backend = find_backend(routes, id);
        if (!backend)
            backend = add_backend(routes, id, url);
        backend->wanted = true;
        backend->group = find_group(routes, group);
        free(backend->group_name);
        backend->group_name = fl_strdup(group);
    }
    drop_idle(routes);
}

int fl_routes_apply(struct fl_routes *routes, const json_t *table, int64_t now_ms,
                    struct fl_error *err)
{
    struct fl_load_terms load = {0};
    int r = check_table(routes, table, &load, err);

    if (r < 0)
        return r;
    apply_groups(routes, json_object_get(table, "groups"));
    apply_backends(routes, json_object_get(table, "backends"));
    fl_load_set(&routes->load, &load, now_ms * 1000);
    routes->version = fl_json_int(table, "version", 0);
    json_decref(routes->table);
    routes->table = json_deep_copy(table);
    return 0;
}

int64_t fl_routes_version(const struct fl_routes *routes)
{
    return routes->version;
}

const json_t *fl_routes_table(const struct fl_routes *routes)
{
    return routes->table;
}

/* Choosing */

static bool was_tried(const struct fl_route_backend *backend, struct fl_route_backend *const *tried,
                      size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (tried[i] == backend)
            return true;
    return false;
}

/* Fewest under way; of equals the one that waits longest. */
static bool is_better(const struct fl_route_backend *a, const struct fl_route_backend *b)
{
    return a->in_flight != b->in_flight ? a->in_flight < b->in_flight : a->last_used < b->last_used;
}

/* `any`: also those that do not answer just now. */
static struct fl_route_backend *best_of(const struct fl_routes *routes, const struct group *group,
                                        int64_t now_ms, struct fl_route_backend *const *tried,
                                        size_t count, bool any)
{
    struct fl_route_backend *best = NULL;

    for (size_t i = 0; i < routes->backend_count; i++) {
        struct fl_route_backend *backend = routes->backends[i];

        if (backend->group != group || was_tried(backend, tried, count) ||
            (!any && backend->down_until_ms > now_ms))
            continue;
        if (!best || is_better(backend, best))
            best = backend;
    }
    return best;
}

static struct fl_route_backend *use(struct fl_routes *routes, struct fl_route_backend *backend)
{
    backend->in_flight++;
    backend->last_used = ++routes->uses;
    return backend;
}

enum among { AMONG_REACHABLE, AMONG_PROVEN, AMONG_ALL };

static bool takes_part(const struct group *group, enum among among)
{
    return !group->mirror && group->percent > 0 && !(among == AMONG_PROVEN && group->trial);
}

/* Smooth weighted round robin over the groups that have somebody: each gains its weight, the
 * richest is chosen and pays for all. */
static struct fl_route_backend *choose(struct fl_routes *routes, int64_t now_ms,
                                       struct fl_route_backend *const *tried, size_t count,
                                       enum among among)
{
    struct fl_route_backend *found[FL_ROUTES_GROUPS_MAX] = {0};
    int64_t total = 0;
    size_t chosen = SIZE_MAX;

    for (size_t i = 0; i < routes->group_count; i++) {
        struct group *group = routes->groups[i];

        if (!takes_part(group, among))
            continue;
        found[i] = best_of(routes, group, now_ms, tried, count, among == AMONG_ALL);
        if (!found[i])
            continue;
        total += group->percent;
        if (count == 0) /* a second try is no new request */
            group->current += group->percent;
        if (chosen == SIZE_MAX || group->current > routes->groups[chosen]->current)
            chosen = i;
    }
    if (chosen == SIZE_MAX)
        return NULL;
    if (count == 0)
        routes->groups[chosen]->current -= total;
    return use(routes, found[chosen]);
}

/* A second try stays in the request's group where it can. Who was tried may be gone by now, and is
 * only compared. */
static struct fl_route_backend *choose_beside(struct fl_routes *routes, int64_t now_ms,
                                              struct fl_route_backend *const *tried, size_t count)
{
    for (size_t i = 0; count > 0 && i < routes->backend_count; i++)
        if (routes->backends[i] == tried[0] && tried[0]->group) {
            struct fl_route_backend *beside =
                best_of(routes, tried[0]->group, now_ms, tried, count, false);

            return beside ? use(routes, beside) : NULL;
        }
    return NULL;
}

struct fl_route_backend *fl_routes_choose(struct fl_routes *routes, int64_t now_ms,
                                          struct fl_route_backend *const *tried, size_t count)
{
    struct fl_route_backend *backend = choose_beside(routes, now_ms, tried, count);

    if (!backend)
        backend = choose(routes, now_ms, tried, count, AMONG_REACHABLE);
    return backend ? backend : choose(routes, now_ms, tried, count, AMONG_ALL);
}

struct fl_route_backend *fl_routes_choose_proven(struct fl_routes *routes, int64_t now_ms,
                                                 struct fl_route_backend *const *tried,
                                                 size_t count)
{
    return choose(routes, now_ms, tried, count, AMONG_PROVEN);
}

size_t fl_routes_mirrors(struct fl_routes *routes, int64_t now_ms,
                         struct fl_route_backend **ret_backends, size_t max)
{
    size_t count = 0;

    for (size_t i = 0; i < routes->group_count && count < max; i++) {
        struct fl_route_backend *backend =
            routes->groups[i]->mirror ? best_of(routes, routes->groups[i], now_ms, NULL, 0, false)
                                      : NULL;

        if (backend)
            ret_backends[count++] = use(routes, backend);
    }
    return count;
}

const char *fl_route_url(const struct fl_route_backend *backend)
{
    return backend->url;
}

const char *fl_route_id(const struct fl_route_backend *backend)
{
    return backend->id;
}

const char *fl_route_group(const struct fl_route_backend *backend)
{
    return backend->group_name;
}

bool fl_route_is_on_trial(const struct fl_route_backend *backend)
{
    return backend->group && backend->group->trial;
}

void **fl_route_user(struct fl_route_backend *backend)
{
    return &backend->user;
}

void fl_routes_on_drop(struct fl_routes *routes, void (*drop)(void *user))
{
    routes->drop = drop;
}

static void count(struct counts *counts, bool error)
{
    counts->requests++;
    counts->errors += error;
}

static void tell_reachable(struct fl_route_backend *backend, bool reachable, int64_t now_ms)
{
    if (reachable) {
        backend->down_until_ms = backend->down_ms = 0;
        return;
    }
    backend->down_ms = backend->down_ms == 0 ? DOWN_FIRST_MS : backend->down_ms * 2;
    if (backend->down_ms > DOWN_LONGEST_MS)
        backend->down_ms = DOWN_LONGEST_MS;
    backend->down_until_ms = now_ms + backend->down_ms;
}

bool fl_routes_ended(struct fl_routes *routes, struct fl_route_backend *backend,
                     enum fl_route_result result, int64_t took_us, int64_t now_ms)
{
    const bool was_down = backend->down_ms > 0,
               error = result == FL_ROUTE_FAILED || result == FL_ROUTE_UNREACHABLE;
    bool changed;

    backend->in_flight--;
    if (result != FL_ROUTE_CANCELLED)
        tell_reachable(backend, result != FL_ROUTE_UNREACHABLE, now_ms);
    changed = was_down != (backend->down_ms > 0) || (!backend->wanted && backend->in_flight == 0);
    if (result != FL_ROUTE_CANCELLED && result != FL_ROUTE_BUSY) {
        count(&backend->counts, error);
        if (backend->group) {
            count(&backend->group->counts, error);
            fl_histogram_add(&backend->group->latency, took_us);
        }
    }
    if (!backend->wanted && backend->in_flight == 0)
        drop_idle(routes);
    return changed;
}

/* What it looks like */

static json_t *show_group(const struct group *group)
{
    return json_pack("{s:s, s:s, s:I, s:b, s:b, s:I, s:I, s:I, s:I}", "name", group->name, "epoch",
                     group->epoch, "percent", (json_int_t)group->percent, "mirror", group->mirror,
                     "trial", group->trial, "requests", (json_int_t)group->counts.requests,
                     "errors", (json_int_t)group->counts.errors, "p50Us",
                     (json_int_t)fl_histogram_quantile(&group->latency, 0.5), "p99Us",
                     (json_int_t)fl_histogram_quantile(&group->latency, 0.99));
}

static json_t *show_backend(const struct fl_route_backend *backend, int64_t now_ms)
{
    return json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:I, s:b, s:b}", "id", backend->id, "group", backend->group_name,
        "url", backend->url, "inFlight", (json_int_t)backend->in_flight, "requests",
        (json_int_t)backend->counts.requests, "errors", (json_int_t)backend->counts.errors,
        "reachable", backend->down_until_ms <= now_ms, "removed", !backend->wanted);
}

json_t *fl_routes_status(struct fl_routes *routes, int64_t now_ms)
{
    json_t *groups = json_array(), *backends = json_array();

    for (size_t i = 0; i < routes->group_count; i++)
        (void)json_array_append_new(groups, show_group(routes->groups[i]));
    for (size_t i = 0; i < routes->backend_count; i++)
        (void)json_array_append_new(backends, show_backend(routes->backends[i], now_ms));
    return json_pack("{s:I, s:o, s:o, s:o*}", "version", (json_int_t)routes->version, "groups",
                     groups, "backends", backends, "load",
                     fl_load_show(&routes->load, now_ms * 1000));
}

void fl_routes_request_came(struct fl_routes *routes, int64_t now_ms)
{
    fl_load_began(&routes->load, now_ms * 1000);
}

void fl_routes_request_left(struct fl_routes *routes, int64_t now_ms)
{
    fl_load_ended(&routes->load, now_ms * 1000);
}
