/* What must hold of InferenceServers: at each turn, and when all has come to rest. */
#include "e2e/sim/serving.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETS_MAX 10
#define RUNS_MAX 16

/* All that is of one InferenceServer. */
struct look {
    struct sim *sim;
    struct fl_buf *why;
    const json_t *server, *router;
    const json_t *sets[SETS_MAX];
    size_t set_count;
    json_t *workloads;               /* which lends the above */
    const char *name, *uid, *wanted; /* wanted: a model; NULL: there is none */
    char digest[80];                 /* for `wanted` */
    int64_t replicas;
};

static void look_finish(struct look *look)
{
    json_decref(look->workloads);
}

static bool has_alias(const json_t *model, const char *alias)
{
    const json_t *item;
    size_t i;

    json_array_foreach(fl_json_path(model, "spec.aliases"), i, item)
        if (fl_streq(json_string_value(item), alias))
            return true;
    return false;
}

static bool is_selected(const json_t *server, const json_t *model)
{
    const char *select = fl_json_str(server, "spec.model.project.select");

    if (fl_streq(select, "Round"))
        return fl_json_int(model, "spec.round", 0) ==
               fl_json_int(server, "spec.model.project.round", -1);
    return has_alias(model, fl_streq(select, "Latest") ? "latest" : "best");
}

static void find_wanted(struct look *look)
{
    FL_JSON models = sim_list(look->sim, &serving_models);
    const json_t *model;
    int64_t round = 0;
    size_t i;

    look->wanted = fl_json_str(look->server, "spec.model.image");
    if (look->wanted)
        return;
    json_array_foreach(models, i, model) {
        if (!is_selected(look->server, model) || fl_json_int(model, "spec.round", 0) <= round)
            continue;
        round = fl_json_int(model, "spec.round", 0);
        (void)snprintf(look->digest, sizeof(look->digest), "%s", fl_json_str(model, "spec.digest"));
        look->wanted = look->digest;
    }
}

static void look_init(struct look *look, struct sim *sim, const json_t *server, struct fl_buf *why)
{
    const json_t *workload;
    size_t i;

    *look = (struct look){.sim = sim,
                          .why = why,
                          .server = server,
                          .name = fl_json_str(server, "metadata.name"),
                          .uid = fl_json_str(server, "metadata.uid"),
                          .workloads = sim_list(sim, &serving_workloads),
                          .replicas = fl_json_int(server, "spec.replicas", 1)};
    find_wanted(look);
    json_array_foreach(look->workloads, i, workload) {
        if (!fl_streq(serving_owner_of(workload), look->uid))
            continue;
        if (!serving_revision_of(workload))
            look->router = workload;
        else if (look->set_count < SETS_MAX)
            look->sets[look->set_count++] = workload;
    }
}

static const char *note(const json_t *workload, const char *name)
{
    return json_string_value(json_object_get(fl_json_path(workload, "metadata.annotations"), name));
}

static const struct serving_router *router_of(const struct look *look)
{
    const struct serving *serving = look->sim->world;
    const char *uid = fl_json_str(look->router, "metadata.uid");

    return uid ? fl_map_get(serving->routers, uid) : NULL;
}

/* --- runs ----------------------------------------------------------------------------------- */

struct runs {
    const char *uid;
    size_t living, ready;
    int64_t ports[RUNS_MAX]; /* of those that are ready */
};

static void count_run(void *user, const struct fl_fake_item *item)
{
    struct runs *runs = user;

    if (!fl_streq(item->uid, runs->uid) || item->state == FL_RUN_ENDED)
        return;
    runs->living++;
    if (item->ready && item->port_count > 0 && runs->ready < RUNS_MAX)
        runs->ports[runs->ready++] = item->ports[0].host_port;
}

static struct runs runs_of(const struct look *look, const json_t *workload)
{
    const struct serving *serving = look->sim->world;
    struct runs runs = {.uid = fl_json_str(workload, "metadata.uid")};

    if (runs.uid)
        fl_fake_world_each(serving->world, count_run, &runs);
    return runs;
}

/* --- at rest -------------------------------------------------------------------------------- */

static const char *ready_says(const struct look *look, const char *what)
{
    return fl_str_or(fl_json_str(sim_condition(look->server, "Ready"), what), "?");
}

static bool is_told(const struct look *look, const char *reason)
{
    return fl_streq(ready_says(look, "reason"), reason)
               ? true
               : sim_wrong(look->why, "%s: Ready is %s, not %s: %s", look->name,
                           ready_says(look, "reason"), reason, ready_says(look, "message"));
}

static bool is_settled(const struct look *look)
{
    return !sim_is_condition(look->server, "Reconciling", "True")
               ? true
               : sim_wrong(look->why, "%s: still Reconciling: %s: %s", look->name,
                           ready_says(look, "reason"), ready_says(look, "message"));
}

static bool nothing_runs(const struct look *look)
{
    for (size_t i = 0; i < look->set_count; i++)
        if (runs_of(look, look->sets[i]).living > 0)
            return sim_wrong(look->why, "%s: servers run, and none should", look->name);
    return true;
}

static bool is_in_table(const json_t *table, int64_t port)
{
    const json_t *backend;
    size_t i;

    json_array_foreach(json_object_get(table, "backends"), i, backend)
        if (strtoll(strrchr(fl_json_str(backend, "url"), ':') + 1, NULL, 10) == port)
            return true;
    return false;
}

/* Exactly these servers get all requests. */
static bool table_right(const struct look *look, const struct runs *runs)
{
    const struct serving_router *router = router_of(look);
    const json_t *table = router && router->routes ? fl_routes_table(router->routes) : NULL,
                 *groups = json_object_get(table, "groups");

    if (!router || !router->routes || runs_of(look, look->router).ready != 1)
        return sim_wrong(look->why, "%s: its router does not live", look->name);
    if (json_array_size(groups) != (runs->ready > 0) ||
        json_array_size(json_object_get(table, "backends")) != runs->ready)
        return sim_wrong(look->why, "%s: the table has %zu groups and %zu servers, of %zu ready",
                         look->name, json_array_size(groups),
                         json_array_size(json_object_get(table, "backends")), runs->ready);
    for (size_t i = 0; i < runs->ready; i++)
        if (!is_in_table(table, runs->ports[i]))
            return sim_wrong(look->why, "%s: a ready server is not in the table", look->name);
    if (runs->ready > 0 && (fl_json_int(json_array_get(groups, 0), "percent", 0) != 100 ||
                            fl_json_bool(json_array_get(groups, 0), "mirror", false)))
        return sim_wrong(look->why, "%s: the only group does not get all requests", look->name);
    return true;
}

/* Secrets are for what there is. */
static bool secrets_right(const struct look *look)
{
    FL_JSON secrets = sim_list(look->sim, &fl_gvr_secrets);
    size_t count = 0, wanted = 1, i;
    const json_t *secret;

    json_array_foreach(secrets, i, secret)
        count += fl_streq(serving_owner_of(secret), look->uid);
    for (i = 0; i < look->set_count; i++)
        wanted += fl_str_has_prefix(serving_model_of(look->sets[i]), "sha256:");
    return count == wanted ? true
                           : sim_wrong(look->why, "%s: there are %zu Secrets, not %zu", look->name,
                                       count, wanted);
}

static bool counts_right(const struct look *look, const struct runs *runs)
{
    const json_t *traffic = fl_json_path(look->server, "status.traffic");

    if (fl_json_int(look->server, "status.replicas.ready", -1) != (int64_t)runs->ready)
        return sim_wrong(look->why, "%s: status tells of %" PRId64 " ready, not %zu", look->name,
                         fl_json_int(look->server, "status.replicas.ready", -1), runs->ready);
    if (json_array_size(traffic) != (runs->ready > 0) ||
        (runs->ready > 0 && fl_json_int(json_array_get(traffic, 0), "percent", 0) != 100))
        return sim_wrong(look->why, "%s: status tells of other traffic", look->name);
    return true;
}

static const char *env_of(const json_t *object)
{
    return fl_json_str(json_array_get(fl_json_path(object, "spec.env"), 0), "value");
}

static bool env_right(const struct look *look, const json_t *set)
{
    return fl_streq(env_of(look->server), env_of(set))
               ? true
               : sim_wrong(look->why, "%s: its servers have another environment", look->name);
}

/* One that was taken back had to be. */
static bool may_be_rejected(const struct look *look)
{
    const struct serving *serving = look->sim->world;
    const char *message = fl_str_or(fl_json_str(look->server, "status.rollout.message"), "");

    if (strstr(message, "were not ready within") || strstr(message, "that of the serving model"))
        return true;
    if (strstr(message, "requests failed") && (serving_is_bad(look->wanted) || serving->killed > 0))
        return true;
    return sim_wrong(look->why, "%s: %s was taken back without a reason: %s", look->name,
                     look->wanted, message);
}

static bool is_rolled_back(const struct look *look)
{
    return fl_streq(fl_json_str(look->server, "status.rollout.state"), "RolledBack");
}

static bool serves_right(const struct look *look, const json_t *set)
{
    const struct runs runs = runs_of(look, set);
    const char *model = serving_model_of(set);
    const size_t ready = (size_t)look->replicas;

    if (!fl_streq(note(set, "flops.dev/stable"), "true"))
        return sim_wrong(look->why, "%s: its only servers are not the stable ones", look->name);
    if (runs.living != (size_t)look->replicas || runs.ready != ready)
        return sim_wrong(look->why, "%s: %zu servers live and %zu are ready, not %" PRId64,
                         look->name, runs.living, runs.ready, look->replicas);
    if (ready > 0 && !fl_streq(fl_json_str(look->server, "status.model.digest"),
                               fl_str_has_prefix(model, "sha256:") ? model : NULL))
        return sim_wrong(look->why, "%s: status tells of another model than %s", look->name, model);
    return table_right(look, &runs) && counts_right(look, &runs) && secrets_right(look);
}

static bool is_wanted_set(const struct look *look, const json_t *set)
{
    return fl_streq(serving_model_of(set), look->wanted);
}

static bool model_right(const struct look *look, const json_t *set)
{
    const bool up = look->replicas > 0;

    if (!look->wanted)
        return is_told(look, "WaitingForModel");
    if (is_rolled_back(look))
        return may_be_rejected(look) && (!up || is_told(look, "RolledBack"));
    if (!is_wanted_set(look, set))
        return sim_wrong(look->why, "%s: %s serves, not %s", look->name, serving_model_of(set),
                         look->wanted);
    return env_right(look, set) && (!up || is_told(look, "Serving")) && is_settled(look);
}

static bool running_right(const struct look *look)
{
    if (look->set_count == 0 && !look->wanted)
        return is_told(look, "WaitingForModel") && secrets_right(look);
    if (look->set_count == 0 && look->replicas == 0)
        return table_right(look, &(struct runs){.living = 0}) && is_settled(look);
    if (look->set_count != 1)
        return sim_wrong(look->why, "%s: there are %zu sets of servers", look->name,
                         look->set_count);
    return serves_right(look, look->sets[0]) && model_right(look, look->sets[0]);
}

static bool server_right(const struct look *look)
{
    if (fl_json_str(look->server, "metadata.deletionTimestamp"))
        return sim_wrong(look->why, "%s is still being deleted", look->name);
    if (fl_json_int(look->server, "status.observedGeneration", -1) !=
        fl_json_int(look->server, "metadata.generation", 0))
        return sim_wrong(look->why, "%s: its last generation is not observed", look->name);
    if (fl_json_bool(look->server, "spec.suspend", false))
        return is_told(look, "Suspended") && nothing_runs(look) && is_settled(look);
    return running_right(look);
}

bool serving_converged(struct sim *sim, struct fl_buf *why)
{
    const struct serving *serving = sim->world;

    for (size_t i = 0; i < SERVING_NAMES; i++) {
        FL_JSON server = sim_get(sim, &serving_servers, SERVING_NS, serving_names[i]);
        struct look look;
        bool right;

        if (!server)
            continue;
        look_init(&look, sim, server, why);
        right = server_right(&look);
        look_finish(&look);
        if (!right)
            return false;
    }
    return fl_fake_world_next_due_ms(serving->world) == INT64_MAX
               ? true
               : sim_wrong(why, "the orchestrator has not come to rest");
}

/* --- at each turn --------------------------------------------------------------------------- */

static struct serving_past *past_of(struct serving *serving, const char *uid)
{
    for (size_t i = 0; i < SERVING_NAMES; i++)
        if (fl_streq(serving->past[i].uid, uid))
            return &serving->past[i];
    return NULL;
}

/* The object that all promises are made to; NULL: it goes, or somebody took things away. */
static const json_t *promised(struct serving *serving, const char *uid,
                              const struct serving_past **ret_past)
{
    const json_t *server = uid ? sim_object_by_uid(serving->sim, uid) : NULL;

    *ret_past = uid ? past_of(serving, uid) : NULL;
    if (!server || fl_json_str(server, "metadata.deletionTimestamp") || !*ret_past ||
        (*ret_past)->meddled)
        return NULL;
    return server;
}

static bool may_know(const json_t *server, int64_t generation)
{
    return fl_json_int(server, "status.observedGeneration", -1) <= generation;
}

/* A server is asked to end only when no request can come to it any more, nor is under way. */
static void check_stop(void *user, const struct fl_fake_item *item)
{
    struct serving *serving = user;
    const json_t *workload = sim_object_by_uid(serving->sim, item->uid), *server;
    const struct serving_past *past;
    char key[96];

    (void)snprintf(key, sizeof(key), "%s/%" PRId64 "/%" PRId64, item->uid, item->index,
                   item->number);
    if (item->state != FL_RUN_STOPPING || fl_map_get(serving->stopping, key))
        return;
    fl_map_put(serving->stopping, key, serving);
    if (!workload || !serving_revision_of(workload) || item->port_count == 0)
        return;
    server = promised(serving, serving_owner_of(workload), &past);
    if (!server || may_know(server, past->suspend_generation))
        return;
    if (serving_is_called(serving, item->ports[0].host_port))
        sim_fail(serving->sim, "drained", "a server of %s is stopped that requests may come to",
                 fl_json_str(workload, "metadata.name"));
}

static bool is_rejected(const struct look *look, const json_t *set)
{
    for (size_t i = 0; i < look->set_count; i++)
        if (fl_streq(note(look->sets[i], "flops.dev/stable"), "true") &&
            fl_streq(note(look->sets[i], "flops.dev/rejected"), serving_revision_of(set)))
            return true;
    return false;
}

/* Whoever fails all requests does not get through a trial; who has others' place is stable. */
static bool may_be_promoted(const struct look *look, const json_t *set,
                            const struct serving_past *past, bool had_stable)
{
    return !had_stable || !serving_is_bad(serving_model_of(set)) || look->replicas == 0 ||
           past->canary_generation == 0 || may_know(look->server, past->canary_generation - 1);
}

static bool has_stable(const struct look *look, const struct serving *serving, const json_t *but)
{
    for (size_t i = 0; i < look->set_count; i++) {
        const char *seen = fl_map_get(serving->sets, fl_json_str(look->sets[i], "metadata.uid"));

        if (look->sets[i] != but && fl_streq(seen, "stable"))
            return true;
    }
    return false;
}

/* While all is calm, nobody acts upon an old cache, which does not know who was taken back. */
static void check_set(struct serving *serving, const struct look *look, const json_t *set,
                      const struct serving_past *past)
{
    const char *uid = fl_json_str(set, "metadata.uid"), *seen = fl_map_get(serving->sets, uid);
    const bool stable = fl_streq(note(set, "flops.dev/stable"), "true");

    if (past && !past->meddled) {
        if (!serving->sim->busy && !seen && is_rejected(look, set))
            sim_fail(serving->sim, "tried-again", "%s was taken back, and is made again",
                     fl_json_str(set, "metadata.name"));
        if (stable && !fl_streq(seen, "stable") &&
            !may_be_promoted(look, set, past, has_stable(look, serving, set)))
            sim_fail(serving->sim, "promoted", "%s fails all requests, and takes over",
                     fl_json_str(set, "metadata.name"));
    }
    if (!seen || stable != fl_streq(seen, "stable"))
        fl_map_put(serving->sets, uid, fl_strdup(stable ? "stable" : "other"));
}

static void check_sets(struct serving *serving, size_t i)
{
    FL_JSON server = sim_get(serving->sim, &serving_servers, SERVING_NS, serving_names[i]);
    struct look look;

    if (!server)
        return;
    look_init(&look, serving->sim, server, NULL);
    for (size_t s = 0; s < look.set_count; s++)
        check_set(serving, &look, look.sets[s], past_of(serving, look.uid));
    look_finish(&look);
}

bool serving_watchful(struct sim *sim)
{
    struct serving *serving = sim->world;

    fl_fake_world_each(serving->world, check_stop, serving);
    if (serving->seen_revision == sim->last_revision)
        return true;
    serving->seen_revision = sim->last_revision;
    for (size_t i = 0; i < SERVING_NAMES; i++)
        check_sets(serving, i);
    return true;
}

/* --- tables --------------------------------------------------------------------------------- */

struct table_look {
    struct serving *serving;
    const json_t *table;
    size_t ready, never_ready;
};

static void look_at_run(void *user, const struct fl_fake_item *item)
{
    struct table_look *look = user;

    if (item->state == FL_RUN_ENDED || item->port_count == 0 ||
        !is_in_table(look->table, item->ports[0].host_port))
        return;
    look->ready += item->ready;
    look->never_ready +=
        item->state == FL_RUN_STARTING || (item->state == FL_RUN_RUNNING && !item->ready);
}

static struct table_look look_at_table(struct serving *serving, const json_t *table)
{
    struct table_look look = {.serving = serving, .table = table};

    fl_fake_world_each(serving->world, look_at_run, &look);
    return look;
}

/* Who comes into a table is ready, and those who serve do not go for nobody. */
void serving_check_table(struct serving *serving, const struct fl_router_at *at,
                         const struct serving_router *router, const json_t *table)
{
    const struct serving_past *past;
    const json_t *server = promised(serving, at->uid, &past);
    const json_t *in_force = router && router->routes ? fl_routes_table(router->routes) : NULL;

    if (look_at_table(serving, table).never_ready > 0)
        sim_fail(serving->sim, "not-ready", "a server of %s gets requests before it is ready",
                 at->name);
    if (!server || may_know(server, past->empty_generation) ||
        json_array_size(json_object_get(table, "backends")) > 0)
        return;
    if (look_at_table(serving, in_force).ready > 0)
        sim_fail(serving->sim, "nobody", "%s loses all servers although some are ready", at->name);
}
