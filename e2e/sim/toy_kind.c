#include "e2e/sim/toy_kind.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>

static const struct fl_gvr broods = {"sim.dev", "v1", "broods", true};

static bool planted(const struct fl_reconcile *rc, const char *bug)
{
    const struct toy_kinds *kinds = rc->user;

    return sim_planted(kinds->process->sim, bug);
}

/* Planted: what was done once for this generation is taken for done. */
static bool trusts_generation(const struct fl_reconcile *rc, const struct toy_brood *brood)
{
    const struct fl_condition *ready = fl_condition_find(&brood->status.conditions, "Ready");

    return planted(rc, "generation-trusted") && ready &&
           ready->status == FL_CONDITION_STATUS_TRUE &&
           brood->status.observed_generation == brood->meta.generation;
}

/* Chicks. */

static const char *chick_role(struct fl_reconcile *rc, int64_t i)
{
    if (planted(rc, "unstable-names"))
        return fl_arena_printf(rc->arena, "chick-%" PRId64 "-%" PRIu64, i,
                               fl_random_below(rc->env, 1000));
    return fl_arena_printf(rc->arena, "chick-%" PRId64, i);
}

struct wanted_chicks {
    struct fl_reconcile *rc;
    const struct toy_brood *brood;
    const char **names;
};

static bool is_wanted_chick(void *user, const void *child)
{
    const struct wanted_chicks *wanted = user;
    const struct toy_chick *chick = child;

    if (planted(wanted->rc, "unstable-names"))
        return true;
    for (int64_t i = 0; i < wanted->brood->spec.chicks; i++) {
        if (fl_streq(wanted->names[i], chick->meta.name))
            return true;
    }
    return false;
}

static int apply_chicks(struct fl_reconcile *rc, const struct toy_brood *brood,
                        struct fl_error *err)
{
    for (int64_t i = 0; i < brood->spec.chicks; i++) {
        struct toy_chick *chick = fl_object_new(&toy_chick_type, rc->arena);
        int r;

        chick->spec.payload = brood->spec.payload;
        r = fl_apply_child(rc, &toy_chick_type, chick_role(rc, i), chick, NULL, err);
        if (r < 0)
            return fl_error_wrap(err, "chick %" PRId64, i);
    }
    return 0;
}

/* Planted: whether there were to be more when it last looked. */
static bool sees_fewer(struct fl_reconcile *rc, const struct toy_brood *brood)
{
    const struct toy_kinds *kinds = rc->user;
    const char *text = fl_map_get(kinds->memory, brood->meta.uid);
    int64_t last = text ? strtoll(text, NULL, 10) : 0;

    fl_map_put(kinds->memory, brood->meta.uid, fl_asprintf("%" PRId64, brood->spec.chicks));
    return last > brood->spec.chicks;
}

static int prune_chicks(struct fl_reconcile *rc, const struct toy_brood *brood,
                        struct fl_error *err)
{
    struct wanted_chicks wanted = {.rc = rc, .brood = brood};

    if (planted(rc, "edge-triggered-prune") && !sees_fewer(rc, brood))
        return 0;
    wanted.names = fl_new_array(rc->arena, const char *, (size_t)brood->spec.chicks + 1);
    for (int64_t i = 0; i < brood->spec.chicks; i++)
        wanted.names[i] = fl_child_name(rc->arena, brood->meta.name, brood->meta.uid,
                                        fl_arena_printf(rc->arena, "chick-%" PRId64, i));
    return fl_prune_children(rc, &toy_chick_type, is_wanted_chick, &wanted, err);
}

static int ensure_chicks(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct toy_brood *brood = object;
    int r;

    if (trusts_generation(rc, brood))
        return 0;
    r = apply_chicks(rc, brood, err);
    if (r == 0)
        r = prune_chicks(rc, brood, err);
    if (r < 0)
        return r;
    brood->status.chicks = brood->spec.chicks;
    brood->status.has_chicks = true;
    if (r > 0)
        return fl_not_yet(rc, "ChicksReady", "Pruning", "%d to go", r);
    fl_true(rc, "ChicksReady", "Hatched", "all are there");
    return 0;
}

/* The cache may show what is past. What has no fixed name in the store must not follow from that.
 */
static int check_fresh(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    const struct toy_brood *brood = object, *live;
    void *read;
    int r = fl_read_live(rc, &toy_brood_type, brood->meta.namespace, brood->meta.name, &read, err);

    if (r < 0)
        return r;
    live = read;
    if (!fl_streq(live->meta.resource_version, brood->meta.resource_version))
        return fl_error_set(err, FL_E_CONFLICT, "%s has changed", brood->meta.name);
    return 0;
}

/* The thing. */

static struct toy_thing next_thing(const struct toy_brood *brood, const struct toy_thing *last)
{
    struct toy_thing thing = {
        .number = last ? last->number + 1 : 1,
        .restarts = last ? last->restarts + !last->stopped : 0,
    };

    (void)snprintf(thing.owner, sizeof(thing.owner), "%s", brood->meta.uid);
    (void)snprintf(thing.payload, sizeof(thing.payload), "%s", fl_str_or(brood->spec.payload, ""));
    (void)snprintf(thing.name, sizeof(thing.name), "%s-%" PRId64, thing.owner, thing.number);
    return thing;
}

static int start(struct fl_reconcile *rc, const struct toy_brood *brood,
                 const struct toy_thing *last, struct fl_error *err)
{
    const struct toy_kinds *kinds = rc->user;
    struct toy_thing thing = next_thing(brood, last);
    int r;

    if (planted(rc, "restarts-lost"))
        thing.restarts = 0;
    r = toy_thing_start(kinds->process, kinds->things, &thing, err);
    if (r == FL_E_TIMEOUT && planted(rc, "double-start")) {
        thing.number++;
        (void)snprintf(thing.name, sizeof(thing.name), "%s-%" PRId64, thing.owner, thing.number);
        r = toy_thing_start(kinds->process, kinds->things, &thing, err);
    }
    if (r < 0)
        return fl_error_wrap(err, "start");
    if (planted(rc, "progress-in-memory"))
        fl_map_put(kinds->memory, thing.owner, fl_strdup("started"));
    fl_requeue_after(rc, 10000);
    return fl_not_yet(rc, "ThingReady", "Starting", "it was started");
}

static int forget_older(struct fl_reconcile *rc, const struct toy_thing *items, size_t count,
                        struct fl_error *err)
{
    const struct toy_kinds *kinds = rc->user;

    for (size_t i = 0; i + 1 < count; i++) {
        int r = toy_thing_remove(kinds->process, kinds->things, items[i].name, err);

        if (r < 0)
            return fl_error_wrap(err, "remove %s", items[i].name);
    }
    return 0;
}

static int stop(struct fl_reconcile *rc, const struct toy_thing *thing, struct fl_error *err)
{
    const struct toy_kinds *kinds = rc->user;
    int r = toy_thing_stop(kinds->process, kinds->things, thing->name, err);

    if (r < 0)
        return fl_error_wrap(err, "stop");
    fl_requeue_after(rc, 1000);
    return fl_not_yet(rc, "ThingReady", "Replacing", "it is stopped");
}

/* Planted: what was done is believed to have been done, whatever the world says. */
static bool believes_it_runs(struct fl_reconcile *rc, const struct toy_brood *brood)
{
    const struct toy_kinds *kinds = rc->user;

    if (planted(rc, "progress-in-status"))
        return fl_condition_find(&brood->status.conditions, "ThingReady") &&
               fl_streq(brood->status.checked, "started");
    return planted(rc, "progress-in-memory") && fl_map_get(kinds->memory, brood->meta.uid);
}

static int ensure_thing(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    const struct toy_kinds *kinds = rc->user;
    struct toy_brood *brood = object;
    struct toy_thing *items, *last;
    size_t count;
    int r;

    if (trusts_generation(rc, brood) || believes_it_runs(rc, brood))
        return 0;
    r = toy_thing_list(kinds->process, kinds->things, brood->meta.uid, rc->arena, &items, &count,
                       err);
    if (r < 0)
        return fl_error_wrap(err, "things");
    if (planted(rc, "progress-in-status"))
        brood->status.checked = "started";
    last = count ? &items[count - 1] : NULL;
    if (!last || !last->living)
        return start(rc, brood, last, err);
    if (!fl_streq(last->payload, fl_str_or(brood->spec.payload, "")))
        return stop(rc, last, err);
    brood->status.restarts = last->restarts;
    brood->status.has_restarts = true;
    fl_true(rc, "ThingReady", "Running", "it runs");
    fl_requeue_after(rc, 60000);
    return forget_older(rc, items, count, err);
}

/* True when all is gone; what was told to go is looked for again. */
static int remove_things(struct fl_reconcile *rc, const char *owner, struct fl_error *err)
{
    const struct toy_kinds *kinds = rc->user;
    struct toy_thing *items;
    size_t count;
    int r = toy_thing_list(kinds->process, kinds->things, owner, rc->arena, &items, &count, err);

    for (size_t i = 0; r == 0 && i < count; i++) {
        if (items[i].living)
            r = toy_thing_stop(kinds->process, kinds->things, items[i].name, err);
        if (r == 0)
            r = toy_thing_remove(kinds->process, kinds->things, items[i].name, err);
        if (planted(rc, "ignored-delete-failure"))
            r = 0;
    }
    if (r < 0)
        return fl_error_wrap(err, "remove things");
    if (count == 0 || planted(rc, "ignored-delete-failure"))
        return FL_STEP_DONE;
    fl_requeue_after(rc, 1000);
    return FL_STEP_WAIT;
}

/* Things of Broods that are gone. The cache may not know the newest ones, so it is asked live. */
static int sweep(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    const struct toy_kinds *kinds = rc->user;
    FL_CLEANUP(fl_map_destroyp) struct fl_map *known = fl_map_create(NULL);
    struct toy_thing *items;
    size_t count, i;
    FL_JSON live = NULL;
    const json_t *item;
    int r = toy_thing_list(kinds->process, kinds->things, NULL, rc->arena, &items, &count, err);

    (void)object;
    if (r == 0)
        r = fl_apiclient_list(rc->client, &broods, NULL, NULL, &live, err);
    if (r < 0)
        return fl_error_wrap(err, "sweep");
    if (planted(rc, "stale-cache-sweep")) {
        struct fl_list list;

        fl_cache_list(fl_manager_cache(rc->manager, &broods), NULL, &list);
        for (i = 0; i < list.count; i++)
            fl_map_put(known, list.objects[i]->uid, known);
        fl_list_finish(&list);
    } else {
        json_array_foreach(live, i, item)
            fl_map_put(known, fl_str_or(fl_json_str(item, "metadata.uid"), ""), known);
    }
    for (i = 0; i < count; i++) {
        if (!fl_map_get(known, items[i].owner)) {
            r = remove_things(rc, items[i].owner, err);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

/* Maps. */

static bool has_text(const struct fl_string_list *list, const char *text)
{
    for (size_t i = 0; i < list->count; i++) {
        if (fl_streq(list->items[i], text))
            return true;
    }
    return false;
}

static void add_text(struct fl_reconcile *rc, struct fl_string_list *list, const char *text)
{
    const char **items = fl_new_array(rc->arena, const char *, list->count + 1);

    if (list->count)
        memcpy(items, list->items, list->count * sizeof(*items));
    items[list->count] = text;
    list->items = items;
    list->count++;
}

/* What will exist is in the inventory before it exists. */
static int plan_maps(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct toy_brood *brood = object;
    bool more = false;

    for (size_t i = 0; i < brood->spec.maps.count; i++) {
        if (has_text(&brood->status.inventory, brood->spec.maps.items[i]))
            continue;
        add_text(rc, &brood->status.inventory, brood->spec.maps.items[i]);
        more = true;
    }
    (void)err;
    if (!more || planted(rc, "late-inventory"))
        return 0; /* planted: with the rest of status, at the end */
    fl_requeue_after(rc, 0);
    return fl_not_yet(rc, "MapsReady", "Planned", "what is to be applied is written down");
}

static int apply_map(struct fl_reconcile *rc, const struct toy_brood *brood, const char *name,
                     struct fl_error *err)
{
    struct fl_apply_options options = {.manager = rc->manager_name};
    FL_JSON map = json_pack("{s:s,s:s,s:{s:s,s:s,s:{s:s}},s:{s:s}}", "apiVersion", "v1", "kind",
                            "ConfigMap", "metadata", "name", name, "namespace",
                            brood->meta.namespace, "annotations", TOY_SOURCE, brood->meta.uid,
                            "data", "payload", fl_str_or(brood->spec.payload, ""));

    return fl_apiclient_apply(rc->client, &fl_gvr_configmaps, map, &options, NULL, err);
}

/* Only what still carries our mark. */
static int prune_map(struct fl_reconcile *rc, const struct toy_brood *brood, const char *name,
                     struct fl_error *err)
{
    FL_JSON map = NULL;
    const json_t *annotations;
    int r =
        fl_apiclient_get(rc->client, &fl_gvr_configmaps, brood->meta.namespace, name, &map, err);

    if (r < 0)
        return r == FL_E_NOT_FOUND ? 0 : r;
    annotations = fl_json_path(map, "metadata.annotations");
    if (!fl_streq(json_string_value(json_object_get(annotations, TOY_SOURCE)), brood->meta.uid) &&
        !planted(rc, "foreign-pruned"))
        return 0;
    return fl_apiclient_delete(rc->client, &fl_gvr_configmaps, brood->meta.namespace, name,
                               fl_json_str(map, "metadata.uid"), err);
}

static int prune_maps(struct fl_reconcile *rc, struct toy_brood *brood, bool all,
                      struct fl_error *err)
{
    struct fl_string_list kept = {0};

    for (size_t i = 0; i < brood->status.inventory.count; i++) {
        const char *name = brood->status.inventory.items[i];
        int r;

        if (!all && has_text(&brood->spec.maps, name)) {
            add_text(rc, &kept, name);
            continue;
        }
        r = prune_map(rc, brood, name, err);
        if (r < 0)
            return fl_error_wrap(err, "prune %s", name);
    }
    brood->status.inventory = kept;
    return 0;
}

static int ensure_maps(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct toy_brood *brood = object;

    for (size_t i = 0; i < brood->spec.maps.count; i++) {
        int r = apply_map(rc, brood, brood->spec.maps.items[i], err);

        if (r < 0)
            return fl_error_wrap(err, "map %s", brood->spec.maps.items[i]);
    }
    fl_true(rc, "MapsReady", "Applied", "all are there");
    return prune_maps(rc, brood, false, err);
}

/* The ends. */

static bool is_suspended(const void *object)
{
    return ((const struct toy_brood *)object)->spec.suspend;
}

static int suspend(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    int r = check_fresh(rc, object, err);

    return r < 0 ? r : remove_things(rc, ((const struct toy_brood *)object)->meta.uid, err);
}

static int finalize(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct toy_brood *brood = object;
    struct wanted_chicks none = {.rc = rc, .brood = brood};
    int left, r;

    if (planted(rc, "finalizer-early"))
        return FL_STEP_DONE;
    brood->spec.chicks = 0;
    left = fl_prune_children(rc, &toy_chick_type, is_wanted_chick, &none, err);
    if (left < 0)
        return left;
    r = prune_maps(rc, brood, true, err);
    if (r == 0)
        r = remove_things(rc, brood->meta.uid, err);
    if (r < 0)
        return r;
    return left > 0 ? FL_STEP_WAIT : r;
}

/* Planted steps. */

static int stamp_status(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct toy_brood *brood = object;

    (void)err;
    brood->status.checked = fl_arena_printf(rc->arena, "%" PRId64, fl_realtime_us(rc->env));
    return 0;
}

static int add_finalizer(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    const struct toy_brood *brood = object;
    FL_JSON patch = json_pack("{s:{s:[s]}}", "metadata", "finalizers", TOY_FINALIZER);

    if (brood->meta.deletion_timestamp)
        return 0;
    return fl_apiclient_patch(rc->client, &broods, brood->meta.namespace, brood->meta.name, NULL,
                              patch, NULL, err);
}

static const struct fl_kind_ops ops = {
    .controller = "brood",
    .type = &toy_brood_type,
    FL_STATUS_OF(struct toy_brood),
    .finalizer = TOY_FINALIZER,
    .wakes = {{.gvr = {"sim.dev", "v1", "chicks", true}}},
    .is_suspended = is_suspended,
    .suspend = suspend,
    .steps = {ensure_chicks, sweep, check_fresh, plan_maps, ensure_maps, ensure_thing},
    .finalize = finalize,
};

void toy_kind_ops(const struct sim *sim, struct fl_kind_ops *ret_ops)
{
    *ret_ops = ops;
    if (sim_planted(sim, "status-every-pass"))
        ret_ops->steps[6] = stamp_status;
    if (sim_planted(sim, "finalizer-late")) {
        ret_ops->finalizer = NULL;
        ret_ops->finalize = NULL;
        ret_ops->steps[6] = add_finalizer;
    }
}
