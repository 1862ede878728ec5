#include "reconcilers/modelversion/modelversion.h"

#include "lib/process.h"
#include "lib/str.h"
#include "reconcilers/modelversion/controller.h"

#include <inttypes.h>

#define LOOK_AGAIN_MS 5000 /* for content that comes: nothing tells of it */
#define SIBLINGS_MS   200  /* one pass for a round's changes, or a project's */
#define BY_PROJECT    "project"
/* Who moves an alias gives it first and takes it then: a claim so young may be half of a move. */
#define SETTLE_US ((int64_t)3 * 1000000)

struct fl_modelversion_controller {
    struct fl_contents *contents;
    struct fl_cache *versions;
};

/* One of the ModelVersions of a project, this one among them. */
struct sibling {
    const struct fl_modelversion *version;
    const json_t *json;
};

struct view {
    struct fl_reconcile *rc;
    struct fl_modelversion_controller *controller;
    struct fl_modelversion *version;
    struct sibling *siblings; /* without this one, and without those that are being deleted */
    size_t count;
};

/* Looking */

static char *project_key(struct fl_arena *arena, const char *ns, const char *project)
{
    return fl_arena_printf(arena, "%s/%s", fl_str_or(ns, ""), fl_str_or(project, ""));
}

static int look(struct view *view, struct fl_error *err)
{
    FL_CLEANUP(fl_list_finish) struct fl_list list = {0};
    const struct fl_modelversion *own = view->version;
    struct fl_arena *arena = view->rc->arena;

    fl_cache_list_by(view->controller->versions, BY_PROJECT,
                     project_key(arena, own->meta.namespace, own->spec.project.name), &list);
    view->siblings = fl_new_array(arena, struct sibling, list.count);
    for (size_t i = 0; i < list.count; i++) {
        json_t *json = fl_json_in_arena(arena, fl_object_parse(list.objects[i]));
        struct fl_modelversion *version;
        int r = fl_modelversion_decode(json, arena, &version, err);

        if (r < 0)
            return fl_error_wrap(err, "%s", list.objects[i]->name);
        if (version->meta.deletion_timestamp || fl_streq(version->meta.uid, own->meta.uid))
            continue;
        view->siblings[view->count++] = (struct sibling){version, json};
    }
    return 0;
}

/* The content. */

static void tell_content(struct view *view, int64_t size)
{
    struct fl_modelversion *version = view->version;

    version->status.uri =
        fl_arena_printf(view->rc->arena, FL_CONTENTS_BLOBS "/%s", version->spec.digest);
    version->status.size_summary = fl_str_from_size(view->rc->arena, size);
    fl_true(view->rc, "Stored", "Stored", "%" PRId64 " bytes are in the content store", size);
    fl_ready_as(view->rc, "Stored", "the model is in the content store");
}

static int find_content(struct view *view, struct fl_error *err)
{
    const struct fl_modelversion_spec *spec = &view->version->spec;
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    int64_t size = 0;
    int r =
        fl_blobs_get(fl_contents_blobs(view->controller->contents), spec->digest, &fd, &size, err);

    if (r == FL_E_NOT_FOUND) {
        view->version->status.uri = NULL;
        fl_requeue_after(view->rc, LOOK_AGAIN_MS);
        return fl_not_yet(view->rc, "Stored", "ContentMissing",
                          "%s is not in the content store: upload it (PUT " FL_CONTENTS_BLOBS
                          "/%s), or delete this ModelVersion",
                          spec->digest, spec->digest);
    }
    if (r < 0)
        return fl_failed(view->rc, "Stored", "ContentMissing", err);
    if (spec->has_size && spec->size != size)
        return fl_stalled(view->rc, "Stored", "DigestMismatch",
                          "spec.size is %" PRId64 ", and what has this digest has %" PRId64
                          " bytes: one of the two is wrong",
                          spec->size, size);
    tell_content(view, size);
    return FL_STEP_DONE;
}

/* Aliases. */

/* When it was given the alias: the last time that whoever owns this entry of the set wrote, in
 * whole seconds. A model that nobody says to have been given it has had it from the start. */
static int64_t claimed_us(const struct sibling *one, const char *alias)
{
    FL_CLEANUP(fl_freep) char *key = fl_asprintf("v:\"%s\"", alias);
    int64_t newest = 0, when;
    json_t *entry;
    size_t i;

    json_array_foreach(fl_json_path(one->json, "metadata.managedFields"), i, entry) {
        const json_t *aliases = fl_json_path(entry, "fieldsV1.f:spec.f:aliases");

        if (json_object_get(aliases, key) &&
            fl_time_parse(fl_str_or(fl_json_str(entry, "time"), ""), &when) && when > newest)
            newest = when;
    }
    return newest;
}

static bool claims(const struct fl_modelversion *version, const char *alias)
{
    for (size_t i = 0; i < version->spec.aliases.count; i++)
        if (fl_streq(version->spec.aliases.items[i], alias))
            return true;
    return false;
}

/* The newest claim wins; of one second the later round, and then the name. A total order: all who
 * look at the same objects say the same. */
static bool beats(const struct sibling *other, const struct sibling *own, const char *alias)
{
    int64_t theirs = claimed_us(other, alias), ours = claimed_us(own, alias);

    if (theirs != ours)
        return theirs > ours;
    if (other->version->spec.round != own->version->spec.round)
        return other->version->spec.round > own->version->spec.round;
    return strcmp(other->version->meta.name, own->version->meta.name) > 0;
}

static const struct sibling *winner_of(const struct view *view, const char *alias)
{
    const struct sibling own = {view->version, view->rc->json};

    for (size_t i = 0; i < view->count; i++)
        if (claims(view->siblings[i].version, alias) && beats(&view->siblings[i], &own, alias))
            return &view->siblings[i];
    return NULL;
}

static int drop_aliases(struct view *view, json_t *kept, struct fl_error *err)
{
    const struct fl_object_meta *meta = &view->version->meta;
    struct fl_gvr gvr = fl_gvr_of(&fl_modelversion_type);
    FL_JSON patch = json_pack("{s:{s:s, s:s}, s:{s:O}}", "metadata", "uid", meta->uid,
                              "resourceVersion", meta->resource_version, "spec", "aliases", kept);
    int r = fl_apiclient_patch(view->rc->client, &gvr, meta->namespace, meta->name, NULL, patch,
                               NULL, err);

    if (r < 0)
        return fl_error_wrap(err, "aliases");
    return fl_error_set(err, FL_E_CONFLICT, "what was read has changed, by ourselves");
}

/* Whether the winner's claim is too young to act on it; then it is looked at again. */
static bool is_fresh(const struct view *view, const struct sibling *winner, const char *alias)
{
    int64_t age_us = fl_realtime_us(view->rc->env) - claimed_us(winner, alias);

    if (age_us < 0 || age_us >= SETTLE_US)
        return false;
    fl_requeue_after(view->rc, (SETTLE_US - age_us) / 1000 + 1);
    return true;
}

static int settle_aliases(struct view *view, struct fl_error *err)
{
    struct fl_modelversion *version = view->version;
    FL_JSON kept = json_array();
    struct fl_buf summary;

    fl_buf_init(&summary, 0);
    for (size_t i = 0; i < version->spec.aliases.count; i++) {
        const char *alias = version->spec.aliases.items[i];
        const struct sibling *winner = winner_of(view, alias);

        if (winner && !is_fresh(view, winner, alias)) {
            fl_event_note(view->rc, FL_NORMAL, "AliasMoved", "%s is %s now", alias,
                          winner->version->meta.name);
            continue;
        }
        fl_buf_printf(&summary, summary.len > 0 ? ",%s" : "%s", alias);
        (void)json_array_append_new(kept, json_string(alias));
    }
    version->status.alias_summary = fl_arena_strdup(view->rc->arena, fl_buf_text(&summary));
    fl_buf_finish(&summary);
    if (json_array_size(kept) == version->spec.aliases.count)
        return FL_STEP_DONE;
    return drop_aliases(view, kept, err);
}

/* History. */

static bool is_kept(const struct fl_modelversion *version)
{
    return version->spec.keep || version->spec.aliases.count > 0;
}

static bool is_newer(const struct fl_modelversion *other, const struct fl_modelversion *own)
{
    if (other->spec.round != own->spec.round)
        return other->spec.round > own->spec.round;
    return strcmp(other->meta.name, own->meta.name) > 0;
}

/* Only what is as it was seen: an alias that was given meanwhile keeps it. */
static int delete_this(struct view *view, struct fl_error *err)
{
    const struct fl_object_meta *meta = &view->version->meta;
    FL_JSON options =
        json_pack("{s:s, s:s, s:{s:s, s:s}}", "apiVersion", "v1", "kind", "DeleteOptions",
                  "preconditions", "uid", meta->uid, "resourceVersion", meta->resource_version);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = fl_json_to_bytes(options);
    const struct fl_api_call call = {
        .method = "DELETE",
        .target = fl_arena_printf(view->rc->arena, "/apis/%s/%s/namespaces/%s/%s/%s",
                                  fl_modelversion_type.group, fl_modelversion_type.version,
                                  meta->namespace, fl_modelversion_type.plural, meta->name),
        .content_type = "application/json",
        .body = body->data,
        .body_len = body->len};
    int r = fl_apiclient_call(view->rc->client, &call, NULL, err);

    if (r < 0 && r != FL_E_NOT_FOUND)
        return fl_error_wrap(err, "delete what the history does not keep");
    return FL_STEP_DONE; /* there is no status any more to say anything in */
}

static int keep_history(struct view *view, struct fl_error *err)
{
    const struct fl_modelversion *own = view->version;
    struct fl_project *project;
    void *object = NULL;
    int64_t newer = 0, newer_unkept = 0;

    for (size_t i = 0; i < view->count; i++) {
        bool is_later = is_newer(view->siblings[i].version, own);

        newer += is_later;
        newer_unkept += is_later && !is_kept(view->siblings[i].version);
    }
    if (is_kept(own) || newer == 0 ||
        fl_read_cached(view->rc, &fl_project_type, own->meta.namespace, own->spec.project.name,
                       &object, NULL) < 0)
        return FL_STEP_DONE;
    project = object;
    if (project->meta.deletion_timestamp || newer_unkept < project->spec.model_history_limit)
        return FL_STEP_DONE;
    return delete_this(view, err);
}

/* The kind. */

static int look_after(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct view view = {.rc = rc, .controller = rc->user, .version = object};
    int r;

    r = look(&view, err);
    if (r == 0)
        r = settle_aliases(&view, err);
    if (r == 0)
        r = keep_history(&view, err);
    if (r == 0)
        r = find_content(&view, err);
    return r;
}

static void index_project(const json_t *object, fl_index_emit_fn *emit, void *user)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    emit(user, project_key(arena, fl_json_str(object, "metadata.namespace"),
                           fl_json_str(object, "spec.project.name")));
}

static void wake_all(struct fl_cache *cache, const char *ns, const char *project,
                     fl_wake_add_fn *add, void *user)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_list_finish) struct fl_list list = {0};

    fl_cache_list_by(cache, BY_PROJECT, project_key(arena, ns, project), &list);
    for (size_t i = 0; i < list.count; i++)
        add(user, list.objects[i]->ns, list.objects[i]->name);
}

static void by_sibling(struct fl_cache *cache, const json_t *version, fl_wake_add_fn *add,
                       void *user)
{
    wake_all(cache, fl_json_str(version, "metadata.namespace"),
             fl_json_str(version, "spec.project.name"), add, user);
}

static void by_project(struct fl_cache *cache, const json_t *project, fl_wake_add_fn *add,
                       void *user)
{
    wake_all(cache, fl_json_str(project, "metadata.namespace"),
             fl_json_str(project, "metadata.name"), add, user);
}

static const struct fl_cache_index indexes[] = {{BY_PROJECT, index_project}};

static const struct fl_kind_ops ops = {
    .controller = "modelversion",
    .type = &fl_modelversion_type,
    FL_STATUS_OF(struct fl_modelversion),
    .wakes = {{.gvr = {"flops.dev", "v1alpha1", "modelversions", true},
               .map = by_sibling,
               .delay_ms = SIBLINGS_MS},
              {.gvr = {"flops.dev", "v1alpha1", "flprojects", true},
               .map = by_project,
               .delay_ms = SIBLINGS_MS}},
    .indexes = indexes,
    .index_count = FL_COUNT_OF(indexes),
    .steps = {look_after},
    .workers = 1,
};

int fl_modelversion_controller_create(struct fl_manager *manager, struct fl_contents *contents,
                                      struct fl_modelversion_controller **ret_controller,
                                      struct fl_error *err)
{
    FL_CLEANUP(fl_modelversion_controller_destroyp)
    struct fl_modelversion_controller *controller = fl_calloc(1, sizeof(*controller));
    struct fl_gvr versions = fl_gvr_of(&fl_modelversion_type);
    int r;

    controller->contents = contents;
    r = fl_manager_add(manager, &ops, controller, err);
    if (r < 0)
        return fl_error_wrap(err, "modelversion controller");
    controller->versions = fl_manager_cache(manager, &versions);
    *ret_controller = FL_TAKE(controller);
    return 0;
}

void fl_modelversion_controller_destroy(struct fl_modelversion_controller *controller)
{
    free(controller);
}
