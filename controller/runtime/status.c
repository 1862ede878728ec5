/* What a pass writes to its own object: status, and the finalizer. Each write has what was read as
 * its precondition (of a status: that spec and status are still that), so that a stale cache costs
 * a retry and never a change. */
#include "controller/runtime/internal.h"

#include <assert.h>

static void put_difference(json_t *patch, const char *key, json_t *before, json_t *after)
{
    json_t *part = after ? fl_merge_diff(before, after) : json_null();

    if (part)
        (void)json_object_set_new(patch, key, part);
}

static json_t *object_diff(const json_t *before, const json_t *after)
{
    json_t *patch = json_object(), *value;
    const char *key;

    json_object_foreach((json_t *)after, key, value)
        put_difference(patch, key, json_object_get(before, key), value);
    json_object_foreach((json_t *)before, key, value)
        if (!json_object_get(after, key))
            put_difference(patch, key, value, NULL);
    if (json_object_size(patch) == 0) {
        json_decref(patch);
        return NULL;
    }
    return patch;
}

/* An object that comes new is told whole: into what is no object, a merge patch puts its members.
 */
json_t *fl_merge_diff(const json_t *before, const json_t *after)
{
    if (before && json_equal((json_t *)before, (json_t *)after))
        return NULL;
    if (json_is_object(before) && json_is_object(after))
        return object_diff(before, after);
    return json_deep_copy(after);
}

static json_t *with_preconditions(const struct fl_object_meta *meta)
{
    return json_pack("{s:{s:s, s:s}}", "metadata", "uid", meta->uid, "resourceVersion",
                     meta->resource_version);
}

static uint64_t revision_of(const json_t *object)
{
    uint64_t revision = 0;

    (void)fl_str_to_uint64(fl_str_or(fl_json_str(object, "metadata.resourceVersion"), ""),
                           UINT64_MAX, &revision);
    return revision;
}

/* Writes, and remembers that the change is our own. */
static int patch_own(struct fl_reconcile *rc, const char *subresource, const json_t *patch,
                     json_t **ret_object, struct fl_error *err)
{
    struct fl_pass *pass = rc->pass;
    struct fl_controller *controller = pass->controller;
    struct fl_gvr gvr = fl_gvr_of(rc->type);
    FL_JSON answer = NULL;
    uint64_t revision = 0;
    int r;

    fl_own_writes_begin(controller->own_writes, pass->key);
    r = fl_apiclient_patch(rc->client, &gvr, pass->ns, pass->name, subresource, patch, &answer,
                           err);
    if (r == 0)
        revision = revision_of(answer);
    if (fl_own_writes_end(controller->own_writes, pass->key, pass->revision, revision,
                          fl_monotonic_ms(rc->env)))
        fl_queue_add(controller->queue, pass->key);
    if (r == 0 && ret_object)
        *ret_object = FL_TAKE(answer);
    return r;
}

static json_t *status_diff(const struct fl_reconcile *rc)
{
    const struct fl_field *status = rc->pass->controller->status;
    const char *before = rc->pass->before, *after = rc->pass->object;
    FL_JSON old = NULL;
    FL_JSON new = NULL;

    if (fl_fields_equal(status->fields, before + status->offset, after + status->offset))
        return NULL;
    old = fl_fields_encode(status->fields, before + status->offset);
    new = fl_fields_encode(status->fields, after + status->offset);
    return fl_merge_diff(old, new);
}

bool fl_is_as_read(const struct fl_reconcile *rc, const json_t *live)
{
    static const char *const same[] = {"metadata.uid", "metadata.generation",
                                       "metadata.deletionTimestamp", "status"};

    for (size_t i = 0; i < FL_COUNT_OF(same); i++)
        if (!json_equal(fl_json_path(live, same[i]), fl_json_path(rc->json, same[i])) &&
            (fl_json_path(live, same[i]) || fl_json_path(rc->json, same[i])))
            return false;
    return true;
}

/* Somebody was quicker, but not with anything that this status depends on: an annotation that is
 * written all the time must not keep it from ever being written. The other change is looked at
 * afterwards. */
static int patch_anew(struct fl_reconcile *rc, json_t *patch, struct fl_error *err)
{
    struct fl_gvr gvr = fl_gvr_of(rc->type);
    FL_JSON live = NULL;
    int r = fl_apiclient_get(rc->client, &gvr, rc->pass->ns, rc->pass->name, &live, NULL);

    if (r < 0 || !fl_is_as_read(rc, live))
        return FL_E_CONFLICT;
    fl_json_set_str(json_object_get(patch, "metadata"), "resourceVersion",
                    fl_json_str(live, "metadata.resourceVersion"));
    r = patch_own(rc, "status", patch, NULL, err);
    if (r == 0)
        fl_queue_add(rc->pass->controller->queue, rc->pass->key);
    return r;
}

#define STALE_TRIES 5

int fl_patch_status(struct fl_reconcile *rc, struct fl_error *err)
{
    FL_JSON diff = status_diff(rc);
    FL_JSON patch = NULL;
    int r;

    if (!diff)
        return 0;
    patch = with_preconditions(rc->pass->meta);
    (void)json_object_set(patch, "status", diff);
    r = patch_own(rc, "status", patch, NULL, err);
    for (int i = 0; r == FL_E_CONFLICT && i < STALE_TRIES; i++)
        r = patch_anew(rc, patch, err);
    if (r < 0)
        return fl_error_wrap(err, "status");
    return 1;
}

static json_t *finalizers_patch(const struct fl_reconcile *rc)
{
    json_t *patch = with_preconditions(rc->pass->meta);

    (void)json_object_set_new(json_object_get(patch, "metadata"), "finalizers", json_array());
    return patch;
}

/* All finalizers but this one, in a merge patch (which knows lists only whole). */
static json_t *without_finalizer(const struct fl_reconcile *rc, const char *finalizer)
{
    json_t *patch = finalizers_patch(rc), *list = fl_json_path(patch, "metadata.finalizers"), *item;
    size_t i;

    json_array_foreach(fl_json_path(rc->json, "metadata.finalizers"), i, item)
        if (!fl_streq(json_string_value(item), finalizer))
            (void)json_array_append(list, item);
    return patch;
}

static int patch_finalizers(struct fl_reconcile *rc, const json_t *patch, struct fl_error *err)
{
    json_t *answer = NULL;
    int r;

    r = patch_own(rc, NULL, patch, &answer, err);
    if (r < 0)
        return fl_error_wrap(err, "finalizer");
    return fl_pass_take(rc, answer, err);
}

int fl_add_finalizer(struct fl_reconcile *rc, struct fl_error *err)
{
    const char *finalizer = rc->pass->controller->ops->finalizer;
    FL_JSON patch = without_finalizer(rc, finalizer);

    (void)json_array_append_new(fl_json_path(patch, "metadata.finalizers"), json_string(finalizer));
    return patch_finalizers(rc, patch, err);
}

int fl_pass_drop_finalizer(struct fl_reconcile *rc, struct fl_error *err)
{
    FL_JSON patch = without_finalizer(rc, rc->pass->controller->ops->finalizer);
    int r;

    r = patch_own(rc, NULL, patch, NULL, err);
    return r < 0 ? fl_error_wrap(err, "finalizer") : 0;
}
