/* The scenario of the toy: Broods made, changed, suspended, deleted and made again by users, whose
 * things end by themselves and whose children are meddled with. */
#include "e2e/sim/toy_kind.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>

static const struct fl_gvr broods = {"sim.dev", "v1", "broods", true};
static const struct fl_gvr chicks = {"sim.dev", "v1", "chicks", true};
static const struct fl_gvr *const caches[] = {&broods, &chicks, NULL};
static const char *const names[] = {"ann", "bob", "cid"};
static const char *const payloads[] = {"red", "green", "blue"};
static const char *const map_ends[] = {"a", "b", "c"};

struct toy {
    struct toy_things things;
    struct fl_map *foreign; /* ConfigMaps that somebody took over: nobody's to prune */
    unsigned ends_left;
};

static void *create(struct sim *sim)
{
    struct toy *toy = fl_calloc(1, sizeof(*toy));

    (void)sim;
    toy->foreign = fl_map_create(NULL);
    toy->ends_left = 4;
    return toy;
}

static void destroy(void *world)
{
    struct toy *toy = world;

    fl_map_destroy(toy->foreign);
    free(toy);
}

static int join(struct sim_process *process, struct fl_error *err)
{
    struct toy *toy = process->sim->world;
    struct toy_kinds *kinds = fl_calloc(1, sizeof(*kinds));

    kinds->process = process;
    kinds->things = &toy->things;
    kinds->memory = fl_map_create(free);
    toy_kind_ops(process->sim, &kinds->ops);
    process->kinds = kinds;
    return fl_manager_add(process->manager, &kinds->ops, kinds, err);
}

static void leave(struct sim_process *process)
{
    struct toy_kinds *kinds = process->kinds;

    fl_map_destroy(kinds->memory);
    free(kinds);
}

/* Users. */

static const char *any(struct sim *sim, const char *const *items, size_t count)
{
    return items[sim_below(sim, count)];
}

static const char *map_name(char out[32], const char *brood, const char *end)
{
    (void)snprintf(out, 32, "%s-%s", brood, end);
    return out;
}

/* Maps that are somebody else's are not asked for again. */
static json_t *some_maps(struct sim *sim, const char *brood)
{
    const struct toy *toy = sim->world;
    json_t *maps = json_array();
    char name[32];

    for (size_t i = 0; i < FL_COUNT_OF(map_ends); i++) {
        if (!fl_map_get(toy->foreign, map_name(name, brood, map_ends[i])) && sim_chance(sim, 50))
            (void)json_array_append_new(maps, json_string(name));
    }
    return maps;
}

static void make_brood(struct sim *sim, const char *name)
{
    sim_trace(sim, "user: %s is made", name);
    sim_create(sim, &broods,
               json_pack("{s:s,s:s,s:{s:s,s:s},s:{s:i,s:s,s:o}}", "apiVersion", "sim.dev/v1",
                         "kind", "Brood", "metadata", "name", name, "namespace", TOY_NS, "spec",
                         "chicks", (int)sim_below(sim, 4), "payload",
                         any(sim, payloads, FL_COUNT_OF(payloads)), "maps", some_maps(sim, name)));
}

static void change_spec(struct sim *sim, const char *name)
{
    json_t *spec = NULL;

    switch (sim_below(sim, 6)) {
    case 0:
    case 1:
        spec = json_pack("{s:i}", "chicks", (int)sim_below(sim, 5));
        break;
    case 2:
        spec = json_pack("{s:s}", "payload", any(sim, payloads, FL_COUNT_OF(payloads)));
        break;
    case 3:
        spec = json_pack("{s:b}", "suspend", (int)sim_below(sim, 2));
        break;
    default:
        spec = json_pack("{s:o}", "maps", some_maps(sim, name));
        break;
    }
    sim_trace(sim, "user: the spec of %s changes", name);
    sim_patch(sim, &broods, TOY_NS, name, json_pack("{s:o}", "spec", spec));
}

static void annotate(struct sim *sim, const char *name)
{
    char value[24];

    (void)snprintf(value, sizeof(value), "%" PRIu64, sim_random(sim));
    sim_trace(sim, "user: %s is annotated", name);
    sim_patch(sim, &broods, TOY_NS, name,
              json_pack("{s:{s:{s:s}}}", "metadata", "annotations", "sim.dev/note", value));
}

static void meddle_with_chick(struct sim *sim)
{
    FL_JSON items = sim_list(sim, &chicks);
    const char *name;

    if (json_array_size(items) == 0)
        return;
    name =
        fl_json_str(json_array_get(items, sim_below(sim, json_array_size(items))), "metadata.name");
    sim_trace(sim, "user: meddles with chick %s", name);
    if (sim_chance(sim, 50))
        sim_delete(sim, &chicks, TOY_NS, name);
    else
        sim_patch(sim, &chicks, TOY_NS, name, json_pack("{s:{s:s}}", "spec", "payload", "meddled"));
}

static bool is_listed(const json_t *list, const char *text)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item) {
        if (fl_streq(json_string_value(item), text))
            return true;
    }
    return false;
}

/* Somebody takes a map over and leaves the Brood without it, in whichever order. */
static void take_map_over(struct sim *sim, const char *name)
{
    struct toy *toy = sim->world;
    FL_JSON brood = sim_get(sim, &broods, TOY_NS, name);
    FL_JSON map = NULL;
    json_t *wanted = fl_json_path(brood, "spec.maps"), *less = json_array(), *item;
    char taken[32];
    size_t i;

    (void)map_name(taken, name, any(sim, map_ends, FL_COUNT_OF(map_ends)));
    map = sim_get(sim, &fl_gvr_configmaps, TOY_NS, taken);
    json_array_foreach(wanted, i, item) {
        if (!fl_streq(json_string_value(item), taken))
            (void)json_array_append(less, item);
    }
    if (map && is_listed(wanted, taken)) {
        sim_trace(sim, "user: takes %s over", taken);
        fl_map_put(toy->foreign, taken, toy);
        sim_patch(sim, &fl_gvr_configmaps, TOY_NS, taken,
                  json_pack("{s:{s:{s:s}}}", "metadata", "annotations", TOY_SOURCE, "another"));
        sim_patch(sim, &broods, TOY_NS, name, json_pack("{s:{s:O}}", "spec", "maps", less));
    }
    json_decref(less);
}

static void edit(struct sim *sim)
{
    const char *name = any(sim, names, FL_COUNT_OF(names));
    FL_JSON brood = sim_get(sim, &broods, TOY_NS, name);

    if (!brood) {
        make_brood(sim, name);
        return;
    }
    switch (sim_below(sim, 10)) {
    case 0:
        sim_trace(sim, "user: %s is deleted", name);
        sim_delete(sim, &broods, TOY_NS, name);
        break;
    case 1:
        annotate(sim, name);
        break;
    case 2:
        meddle_with_chick(sim);
        break;
    case 3:
        take_map_over(sim, name);
        break;
    default:
        change_spec(sim, name);
        break;
    }
}

static bool happen(struct sim *sim, bool calm)
{
    struct toy *toy = sim->world;

    if (calm || toy->ends_left == 0 || !toy_thing_ends(sim, &toy->things))
        return false;
    toy->ends_left--;
    return true;
}

/* Oracles. */

static bool watchful(struct sim *sim)
{
    const struct toy *toy = sim->world;

    for (size_t i = 0; i < toy->things.count; i++) {
        const char *owner = toy->things.items[i].owner;

        if (toy_living_of(&toy->things, owner) > 1) {
            sim_fail(sim, "one-only", "%zu things of %s live", toy_living_of(&toy->things, owner),
                     owner);
            return false;
        }
    }
    return true;
}

static size_t count_chicks(const json_t *items, const char *uid, const char *payload,
                           size_t *ret_right)
{
    const json_t *item;
    size_t i, count = 0;

    *ret_right = 0;
    json_array_foreach(items, i, item) {
        const json_t *owner = json_array_get(fl_json_path(item, "metadata.ownerReferences"), 0);

        if (!fl_streq(fl_json_str(owner, "uid"), uid))
            continue;
        count++;
        *ret_right += fl_streq(fl_json_str(item, "spec.payload"), payload);
    }
    return count;
}

static bool chicks_right(struct sim *sim, const json_t *brood, struct fl_buf *why)
{
    FL_JSON items = sim_list(sim, &chicks);
    size_t wanted = (size_t)fl_json_int(brood, "spec.chicks", 0), right, count;

    count = count_chicks(items, fl_json_str(brood, "metadata.uid"),
                         fl_json_str(brood, "spec.payload"), &right);
    if (count != wanted || right != wanted)
        return sim_wrong(why, "%s has %zu chicks, %zu of them right, not %zu",
                         fl_json_str(brood, "metadata.name"), count, right, wanted);
    return true;
}

static bool maps_right(struct sim *sim, const json_t *brood, struct fl_buf *why)
{
    const struct toy *toy = sim->world;
    const char *uid = fl_json_str(brood, "metadata.uid");
    char name[32];

    for (size_t i = 0; i < FL_COUNT_OF(map_ends); i++) {
        FL_JSON map = NULL;
        const char *source;
        bool wanted;

        (void)map_name(name, fl_json_str(brood, "metadata.name"), map_ends[i]);
        map = sim_get(sim, &fl_gvr_configmaps, TOY_NS, name);
        wanted = is_listed(fl_json_path(brood, "spec.maps"), name);
        source = json_string_value(
            json_object_get(fl_json_path(map, "metadata.annotations"), TOY_SOURCE));
        if (fl_map_get(toy->foreign, name))
            continue;
        if (wanted != !!map || (map && !fl_streq(source, uid)))
            return sim_wrong(why, "map %s is %s, and %s", name, map ? "there" : "missing",
                             wanted ? "wanted" : "not wanted");
    }
    if (!json_equal(fl_json_path(brood, "spec.maps"), fl_json_path(brood, "status.inventory")) &&
        json_array_size(fl_json_path(brood, "spec.maps")) !=
            json_array_size(fl_json_path(brood, "status.inventory")))
        return sim_wrong(why, "the inventory of %s is not its maps",
                         fl_json_str(brood, "metadata.name"));
    return true;
}

static bool thing_right(struct sim *sim, const json_t *brood, struct fl_buf *why)
{
    struct toy *toy = sim->world;
    const char *uid = fl_json_str(brood, "metadata.uid"),
               *name = fl_json_str(brood, "metadata.name");
    const struct toy_thing *thing = toy_thing_of(&toy->things, uid);

    if (toy_living_of(&toy->things, uid) != 1)
        return sim_wrong(why, "no thing of %s lives", name);
    if (toy_records_of(&toy->things, uid) != 1)
        return sim_wrong(why, "older things of %s are left", name);
    if (!fl_streq(thing->payload, fl_json_str(brood, "spec.payload")))
        return sim_wrong(why, "the thing of %s is of another spec", name);
    if (thing->restarts != toy_ends_of(&toy->things, uid) ||
        fl_json_int(brood, "status.restarts", 0) != thing->restarts)
        return sim_wrong(why, "%s: %" PRId64 " restarts, %" PRId64 " in status, %" PRId64 " ends",
                         name, thing->restarts, fl_json_int(brood, "status.restarts", 0),
                         toy_ends_of(&toy->things, uid));
    return true;
}

static bool status_right(const json_t *brood, const char *ready, struct fl_buf *why)
{
    const char *name = fl_json_str(brood, "metadata.name");

    if (fl_json_int(brood, "status.observedGeneration", -1) !=
        fl_json_int(brood, "metadata.generation", 0))
        return sim_wrong(why, "%s: its last generation is not observed", name);
    if (!sim_is_condition(brood, "Ready", ready))
        return sim_wrong(why, "%s: Ready is not %s", name, ready);
    if (sim_is_condition(brood, "Reconciling", "True"))
        return sim_wrong(why, "%s: still Reconciling", name);
    return true;
}

static bool suspended_right(struct sim *sim, const json_t *brood, struct fl_buf *why)
{
    struct toy *toy = sim->world;

    if (toy_thing_of(&toy->things, fl_json_str(brood, "metadata.uid")))
        return sim_wrong(why, "%s is suspended and has a thing",
                         fl_json_str(brood, "metadata.name"));
    return status_right(brood, "False", why);
}

static bool brood_right(struct sim *sim, const json_t *brood, struct fl_buf *why)
{
    if (fl_json_str(brood, "metadata.deletionTimestamp"))
        return sim_wrong(why, "%s is still being deleted", fl_json_str(brood, "metadata.name"));
    if (fl_json_bool(brood, "spec.suspend", false))
        return suspended_right(sim, brood, why);
    return chicks_right(sim, brood, why) && maps_right(sim, brood, why) &&
           thing_right(sim, brood, why) && status_right(brood, "True", why);
}

/* What nobody owns is what should not be there. */
static bool leftovers(struct sim *sim, struct fl_buf *why)
{
    const struct toy *toy = sim->world;
    FL_JSON items = sim_list(sim, &chicks);
    const json_t *item;
    size_t i;

    for (i = 0; i < toy->things.count; i++) {
        if (!sim_object_by_uid(sim, toy->things.items[i].owner))
            return !sim_wrong(why, "thing %s is nobody's", toy->things.items[i].name);
    }
    json_array_foreach(items, i, item) {
        const json_t *owner = json_array_get(fl_json_path(item, "metadata.ownerReferences"), 0);

        if (!sim_object_by_uid(sim, fl_str_or(fl_json_str(owner, "uid"), "")))
            return !sim_wrong(why, "chick %s is nobody's", fl_json_str(item, "metadata.name"));
    }
    return false;
}

/* Maps of Broods that are gone, and foreign ones that should be there. */
static bool gone_maps_right(struct sim *sim, const char *brood, struct fl_buf *why)
{
    const struct toy *toy = sim->world;
    char name[32];

    for (size_t i = 0; i < FL_COUNT_OF(map_ends); i++) {
        FL_JSON map = sim_get(sim, &fl_gvr_configmaps, TOY_NS, map_name(name, brood, map_ends[i]));
        bool foreign = fl_map_get(toy->foreign, name) != NULL;

        if (foreign && !map)
            return sim_wrong(why, "map %s, which is another's, is gone", name);
        if (!foreign && map)
            return sim_wrong(why, "map %s is left over", name);
    }
    return true;
}

static bool foreign_maps_there(struct sim *sim, struct fl_buf *why)
{
    const struct toy *toy = sim->world;
    void *cursor = NULL;
    const char *name;

    while (fl_map_next(toy->foreign, &cursor, &name, NULL)) {
        FL_JSON map = sim_get(sim, &fl_gvr_configmaps, TOY_NS, name);

        if (!map)
            return sim_wrong(why, "map %s, which is another's, is gone", name);
    }
    return true;
}

static bool converged(struct sim *sim, struct fl_buf *why)
{
    for (size_t i = 0; i < FL_COUNT_OF(names); i++) {
        FL_JSON brood = sim_get(sim, &broods, TOY_NS, names[i]);

        if (brood ? !brood_right(sim, brood, why) : !gone_maps_right(sim, names[i], why))
            return false;
    }
    return foreign_maps_there(sim, why) && !leftovers(sim, why);
}

static void touch(struct sim *sim, struct sim_process *process)
{
    (void)sim;
    for (size_t i = 0; i < FL_COUNT_OF(names); i++)
        fl_manager_enqueue(process->manager, "brood", TOY_NS, names[i]);
}

static uint64_t actions(struct sim *sim)
{
    return ((const struct toy *)sim->world)->things.actions;
}

static void remove_all(struct sim *sim)
{
    for (size_t i = 0; i < FL_COUNT_OF(names); i++)
        sim_delete(sim, &broods, TOY_NS, names[i]);
}

static bool nothing_left(struct sim *sim, struct fl_buf *why)
{
    const struct toy *toy = sim->world;

    if (fl_store_count(sim->store, "broods.sim.dev") ||
        fl_store_count(sim->store, "chicks.sim.dev"))
        return sim_wrong(why, "%zu broods and %zu chicks are left",
                         fl_store_count(sim->store, "broods.sim.dev"),
                         fl_store_count(sim->store, "chicks.sim.dev"));
    if (toy->things.count)
        return sim_wrong(why, "%zu things are left", toy->things.count);
    for (size_t i = 0; i < FL_COUNT_OF(names); i++) {
        if (!gone_maps_right(sim, names[i], why))
            return false;
    }
    return true;
}

#define TOY                                                                                        \
    .definitions = toy_definitions, .caches = caches, .create = create, .destroy = destroy,        \
    .join = join, .leave = leave, .edit = edit, .happen = happen, .watchful = watchful,            \
    .converged = converged, .touch = touch, .actions = actions, .remove_all = remove_all,          \
    .nothing_left = nothing_left, .patience_ms = 2 * 60 * 60 * 1000

const struct sim_scenario sim_toy = {
    .name = "toy",
    .processes = 1,
    .turns = 150,
    .edits = 14,
    .idle_ms = 15 * 60 * 1000,
    TOY,
};

const struct sim_scenario sim_toy_pair = {
    .name = "toy-pair",
    .processes = 2,
    .turns = 250,
    .edits = 12,
    .idle_ms = 12 * 60 * 1000,
    TOY,
};
