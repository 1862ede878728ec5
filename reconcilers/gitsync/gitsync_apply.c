#include "reconcilers/gitsync/gitsync_internal.h"

#define REVISION_MAX 400

/* What other sources hold, asked of their inventories. */
struct held {
    struct fl_sync *sync;
    const char *source; /* that was looked at last */
    struct fl_map *items;
};

static bool split_mark(struct fl_arena *arena, const char *mark, const char **ret_ns,
                       const char **ret_name, const char **ret_uid)
{
    const char *rest = mark;

    *ret_ns = fl_str_next(arena, &rest, '/');
    *ret_name = rest ? fl_str_next(arena, &rest, '/') : NULL;
    *ret_uid = rest ? fl_str_next(arena, &rest, '/') : NULL;
    return *ret_ns && *ret_name && *ret_uid && !rest;
}

static const char *item_key(struct fl_arena *arena, const char *group, const char *kind,
                            const char *ns, const char *name)
{
    return fl_arena_printf(arena, "%s/%s/%s/%s", group, kind, ns, name);
}

/* None where the source is gone, is another object by now, or leaves all behind as it goes. */
static void look_up_source(struct held *held, const char *mark)
{
    struct fl_reconcile *rc = held->sync->rc;
    const char *ns, *name, *uid;
    void *object = NULL;
    const struct fl_gitsync *other;

    held->source = fl_arena_strdup(rc->arena, mark);
    fl_map_destroy(held->items);
    held->items = fl_map_create(NULL);
    if (!split_mark(rc->arena, mark, &ns, &name, &uid) ||
        fl_read_cached(rc, &fl_gitsync_type, ns, name, &object, NULL) < 0)
        return;
    other = object;
    if (!fl_streq(other->meta.uid, uid) ||
        (other->meta.deletion_timestamp &&
         other->spec.deletion_policy == FL_GITSYNC_DELETION_POLICY_KEEP))
        return;
    for (size_t i = 0; i < other->status.inventory.count; i++) {
        const struct fl_gitsync_status_inventory *item = &other->status.inventory.items[i];

        fl_map_put(held->items,
                   item_key(rc->arena, item->group, item->kind, item->namespace, item->name), held);
    }
}

static bool is_held(void *user, const char *source, const struct fl_inventory_item *item)
{
    struct held *held = user;

    if (!fl_streq(source, held->source))
        look_up_source(held, source);
    return fl_map_get(held->items, item_key(held->sync->rc->arena, item->group, item->kind,
                                            item->ns, item->name)) != NULL;
}

/* One apply */

static int unseal(void *user, json_t *secret, const char *ns, struct fl_error *err)
{
    const struct held *held = user;
    const struct fl_gitsync_options *options = &held->sync->syncs->options;

    if (!options->unseal)
        return fl_error_set(err, FL_E_INVALID, "is sealed, and there is no key to open it with");
    return options->unseal(options->user, secret, ns, err);
}

static struct fl_applyset_options options_of(struct fl_sync *sync, struct held *held)
{
    const struct fl_gitsync_spec *spec = &sync->object->spec;

    return (struct fl_applyset_options){
        .env = sync->rc->env,
        .manager = FL_GITSYNC_MANAGER,
        .source = fl_arena_printf(sync->rc->arena, "%s/%s/%s", sync->ns, sync->name, sync->uid),
        .ns = fl_str_or(spec->target_namespace, sync->ns),
        .force = spec->force,
        .prune = spec->prune,
        .all_or_nothing = spec->on_error == FL_GITSYNC_ON_ERROR_APPLY_NOTHING,
        .deadline_ms =
            fl_monotonic_ms(sync->rc->env) + fl_sync_duration_ms(spec->timeout, 1, 120000),
        .unseal = unseal,
        .is_held = is_held,
        .user = held,
        .forbidden_hint = fl_sync_forbidden_hint(sync),
        .memo = sync->memory->memo,
        .witness = sync->rc->client,
    };
}

static void run(struct fl_sync *sync, struct held *held, const struct fl_applyset_options *options,
                const struct fl_manifests *manifests, const struct fl_inventory *inventory,
                struct fl_applyset_result *ret_result)
{
    FL_CLEANUP(fl_apiclient_destroyp) struct fl_apiclient *client = fl_sync_client(sync);
    struct fl_applyset_options own = *options;

    own.client = client;
    fl_applyset_apply(&own, manifests, inventory, sync->rc->arena, ret_result);
    fl_map_destroy(held->items);
    held->items = NULL;
    held->source = NULL;
}

/* What is decided here must not be decided on an old state: the inventory of an older one may lack
 * what a newer one has. */
int fl_sync_check_newest(struct fl_sync *sync, struct fl_error *err)
{
    struct fl_gvr gvr = fl_gvr_of(&fl_gitsync_type);
    FL_JSON live = NULL;
    int r = fl_apiclient_get(sync->rc->client, &gvr, sync->ns, sync->name, &live, err);

    if (r < 0)
        return r;
    if (!fl_is_as_read(sync->rc, live))
        return fl_error_set(err, FL_E_CONFLICT, "the GitSync has changed since it was read");
    return 0;
}

/* Reports */

static bool is_head(const struct fl_sync *sync, const struct fl_snapshot *snapshot)
{
    return snapshot == sync->memory->head && !sync->memory->fetch_failed;
}

static void note_live_revision(struct fl_sync *sync, const struct fl_snapshot *snapshot)
{
    struct fl_gitsync_status *status = &sync->object->status;
    const char *revision = fl_sync_cut(sync, snapshot->revision, REVISION_MAX);
    char now[FL_TIME_SIZE];

    if (fl_streq(status->last_applied_revision, revision))
        return;
    fl_time_format(fl_realtime_us(sync->rc->env), now);
    status->last_applied_revision = revision;
    status->last_applied_time = fl_arena_strdup(sync->rc->arena, now);
    status->signer = fl_sync_cut(sync, snapshot->signer, REVISION_MAX);
    fl_event_note(sync->rc, FL_NORMAL, "Applied", "%s is live", revision);
}

static void say_applied(struct fl_sync *sync, const struct fl_snapshot *snapshot,
                        const struct fl_applyset_result *result)
{
    bool drifted = fl_streq(sync->object->status.last_applied_revision,
                            fl_sync_cut(sync, snapshot->revision, REVISION_MAX)) &&
                   result->created + result->changed > 0;

    if (drifted)
        fl_event_note(sync->rc, FL_NORMAL, "DriftCorrected", "%zu objects were put right",
                      result->created + result->changed);
    note_live_revision(sync, snapshot);
    fl_true(sync->rc, "Applied", "Applied", "%zu objects of %s", result->total,
            fl_sync_cut(sync, snapshot->revision, REVISION_MAX));
}

static const char *failure_reason(const struct fl_applyset_result *result)
{
    return result->prune_failed && result->failed == 0 ? "PruneFailed" : "ApplyFailed";
}

/* Whether all of it is as wanted; says so either way. */
static bool report(struct fl_sync *sync, const struct fl_snapshot *snapshot,
                   const struct fl_applyset_result *result)
{
    fl_sync_set_result(sync, result);
    if (result->complete) {
        say_applied(sync, snapshot, result);
        return true;
    }
    fl_false(sync->rc, "Applied", failure_reason(result), "%s%s",
             result->refused ? "nothing was applied: " : "", fl_sync_tell_faults(sync, result));
    return false;
}

/* The passes */

static void record(struct fl_sync *sync, const struct fl_snapshot *snapshot,
                   const struct fl_manifests *manifests, const struct fl_inventory *inventory)
{
    fl_sync_set_inventory(sync, inventory);
    fl_requeue_after(sync->rc, 0);
    (void)fl_not_yet(sync->rc, "Applied", "Applying", "%zu objects of %s", manifests->count,
                     fl_sync_cut(sync, snapshot->revision, REVISION_MAX));
}

static bool cannot_plan(struct fl_sync *sync, const struct fl_error *why)
{
    struct fl_fault fault = {.message = why->msg};
    struct fl_applyset_result result = {.faults = &fault, .fault_count = 1, .failed = 1};

    fl_sync_get_inventory(sync, &result.inventory);
    fl_sync_set_result(sync, &result);
    fl_false(sync->rc, "Applied", "ApplyFailed", "%s", why->msg);
    return false;
}

/* What is live stays right while the newest is refused; nothing is pruned of what that one holds.
 */
static void keep_live(struct fl_sync *sync, const struct fl_inventory *inventory)
{
    struct held held = {.sync = sync};
    struct fl_applyset_options options = options_of(sync, &held);
    struct fl_applyset_result result;
    struct fl_manifests manifests;

    if (!sync->memory->live)
        return;
    options.prune = false;
    options.all_or_nothing = false;
    fl_manifests_read(sync->memory->live, sync->rc->arena, &manifests);
    run(sync, &held, &options, &manifests, inventory, &result);
}

static void set_live(struct fl_sync *sync, struct fl_snapshot *snapshot)
{
    struct fl_snapshot *old = sync->memory->live;

    sync->memory->live = fl_snapshot_ref(snapshot);
    fl_snapshot_unref(old);
}

/* One pass' view of a snapshot. */
struct attempt {
    struct fl_snapshot *snapshot;
    struct held held;
    struct fl_applyset_options options;
    struct fl_manifests manifests;
    struct fl_inventory inventory;
    struct fl_applyset_result result;
};

static void attempt_begin(struct fl_sync *sync, struct fl_snapshot *snapshot,
                          struct attempt *attempt)
{
    *attempt = (struct attempt){.snapshot = snapshot, .held = {.sync = sync}};
    attempt->options = options_of(sync, &attempt->held);
    fl_manifests_read(snapshot, sync->rc->arena, &attempt->manifests);
    fl_sync_get_inventory(sync, &attempt->inventory);
}

static void attempt_run(struct fl_sync *sync, struct attempt *attempt, enum fl_applyset_part part)
{
    attempt->options.part = part;
    run(sync, &attempt->held, &attempt->options, &attempt->manifests, &attempt->inventory,
        &attempt->result);
}

static bool end_refused(struct fl_sync *sync, struct attempt *attempt)
{
    keep_live(sync, &attempt->inventory);
    return report(sync, attempt->snapshot, &attempt->result);
}

/* No room to remember the new ones: what has left goes first, and makes some. > 0: it did. */
static int make_room(struct fl_sync *sync, struct attempt *attempt, const struct fl_error *why,
                     bool *ret_good)
{
    attempt_run(sync, attempt, FL_APPLYSET_PRUNE);
    if (attempt->result.inventory.count < attempt->inventory.count) {
        record(sync, attempt->snapshot, &attempt->manifests, &attempt->result.inventory);
        return 1;
    }
    *ret_good = cannot_plan(sync, why);
    return 0;
}

/* > 0: what will be applied is recorded, and the next pass goes on. A revision that is refused as a
 * whole leaves no trace. */
static int record_plan(struct fl_sync *sync, struct attempt *attempt,
                       const struct fl_inventory *plan, bool *ret_good)
{
    if (attempt->options.all_or_nothing) {
        attempt_run(sync, attempt, FL_APPLYSET_TRY);
        if (attempt->result.refused) {
            *ret_good = end_refused(sync, attempt);
            return 0;
        }
    }
    record(sync, attempt->snapshot, &attempt->manifests, plan);
    return 1;
}

static bool apply_whole(struct fl_sync *sync, struct attempt *attempt)
{
    attempt_run(sync, attempt, FL_APPLYSET_WHOLE);
    if (attempt->result.refused)
        return end_refused(sync, attempt);
    set_live(sync, attempt->snapshot);
    return report(sync, attempt->snapshot, &attempt->result);
}

/* < 0: the pass cannot go on; 0: *ret_good says how it went; > 0: recorded only. */
static int apply_snapshot(struct fl_sync *sync, struct fl_snapshot *snapshot, bool *ret_good,
                          struct fl_error *err)
{
    struct fl_inventory plan = {0};
    struct fl_error why = {0};
    struct attempt attempt;
    int r = fl_sync_check_newest(sync, err);

    if (r == 0)
        r = fl_sync_ensure_rights(sync, err);
    if (r < 0)
        return r;
    attempt_begin(sync, snapshot, &attempt);
    r = fl_applyset_plan(&attempt.manifests, &attempt.inventory, attempt.options.ns,
                         sync->rc->arena, &plan, &why);
    if (r < 0)
        return make_room(sync, &attempt, &why, ret_good);
    if (!fl_inventory_covers(&attempt.inventory, &plan))
        return record_plan(sync, &attempt, &plan, ret_good);
    *ret_good = apply_whole(sync, &attempt);
    return 0;
}

/* The newest, where it could be had; else what is live. NULL: neither. */
static struct fl_snapshot *choose(const struct fl_sync *sync)
{
    const struct fl_sync_memory *memory = sync->memory;

    return memory->try_open && !memory->fetch_failed ? memory->head : memory->live;
}

static bool has_work(const struct fl_sync *sync)
{
    const struct fl_sync_memory *memory = sync->memory;

    return memory->try_open || (memory->live && sync->now_ms >= memory->apply_due_ms);
}

/* Between two tries: what is live is put right, and the next try stays when it is. */
static void end_check(struct fl_sync *sync)
{
    sync->memory->apply_due_ms = fl_monotonic_ms(sync->rc->env) + fl_sync_interval_ms(sync);
}

static int conclude(struct fl_sync *sync, const struct fl_snapshot *snapshot, bool good)
{
    if (sync->memory->try_open)
        fl_sync_end_try(sync, good && is_head(sync, snapshot));
    else
        end_check(sync);
    fl_sync_requeue(sync);
    fl_sync_note_told(sync);
    return fl_sync_sum_up(sync);
}

int fl_sync_apply(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct fl_snapshot *snapshot;
    struct fl_sync sync;
    bool good = false;
    int r = 0;

    fl_sync_begin(&sync, rc, object);
    if (!sync.memory->waiting && !fl_sync_was_told(&sync))
        sync.memory->try_open = true; /* the report was not written: once more */
    if (!has_work(&sync)) {
        fl_sync_requeue(&sync);
        return fl_sync_repeat(&sync);
    }
    snapshot = choose(&sync);
    if (snapshot)
        r = apply_snapshot(&sync, snapshot, &good, err);
    if (r < 0)
        return fl_failed(rc, "Applied", "ApplyFailed", err);
    return r > 0 ? FL_STEP_WAIT : conclude(&sync, snapshot, good);
}

/* The end */

/* A namespace that goes takes its objects along, and the rights to delete them. */
static bool namespace_ends(struct fl_sync *sync)
{
    FL_JSON ns = NULL;

    return fl_apiclient_get(sync->rc->client, &fl_gvr_namespaces, NULL, sync->ns, &ns, NULL) == 0 &&
           fl_json_str(ns, "metadata.deletionTimestamp") != NULL;
}

static void leave_to_namespace(struct fl_sync *sync, struct fl_inventory *inventory)
{
    size_t count = 0;

    if (!namespace_ends(sync))
        return;
    for (size_t i = 0; i < inventory->count; i++)
        if (strcmp(inventory->items[i].ns, sync->ns) != 0)
            inventory->items[count++] = inventory->items[i];
    inventory->count = count;
}

static int prune_rest(struct fl_sync *sync, const struct fl_inventory *inventory,
                      struct fl_error *err)
{
    struct held held = {.sync = sync};
    struct fl_applyset_options options = options_of(sync, &held);
    struct fl_applyset_result result;
    struct fl_manifests none = {0};
    int r = namespace_ends(sync) ? 0 : fl_sync_ensure_rights(sync, err);

    if (r < 0)
        return r;
    options.prune = true;
    options.all_or_nothing = false;
    run(sync, &held, &options, &none, inventory, &result);
    if (result.inventory.count == 0)
        return FL_STEP_DONE;
    fl_sync_set_result(sync, &result);
    fl_sync_end_try(sync, false);
    fl_requeue_after(sync->rc, sync->memory->fetch_due_ms - fl_monotonic_ms(sync->rc->env));
    return fl_not_yet(sync->rc, "Applied", "PruneFailed",
                      "%zu objects are left: %s (spec.deletionPolicy Keep leaves them behind)",
                      result.inventory.count, fl_sync_tell_faults(sync, &result));
}

/* What is on disk under the key would be nobody's: that it goes is waited for. */
static int forget(struct fl_sync *sync, struct fl_error *err)
{
    struct fl_source *source = sync->syncs->source;
    int r = source->ops->forget(source, sync->uid, err);

    if (r < 0)
        return fl_error_wrap(err, "forget what was fetched");
    fl_sync_memory_drop(sync);
    fl_sync_drop_rights(sync);
    return FL_STEP_DONE;
}

int fl_sync_prune(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct fl_inventory inventory;
    struct fl_sync sync;
    int r = FL_STEP_DONE;

    fl_sync_begin(&sync, rc, object);
    fl_sync_get_inventory(&sync, &inventory);
    if (sync.object->spec.deletion_policy == FL_GITSYNC_DELETION_POLICY_KEEP)
        inventory.count = 0;
    leave_to_namespace(&sync, &inventory);
    if (inventory.count > 0)
        r = prune_rest(&sync, &inventory, err);
    if (r == FL_STEP_DONE)
        r = forget(&sync, err);
    return r < 0 ? fl_failed(rc, "Applied", "PruneFailed", err) : r;
}
