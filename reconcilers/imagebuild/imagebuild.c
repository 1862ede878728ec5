#include "reconcilers/imagebuild/imagebuild.h"

#include "lib/map.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "reconcilers/gitsync/gitsync.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#define RETRY_FIRST_MS 10000
#define RETRY_MOST_MS  300000
#define TIMEOUT_MS     ((int64_t)30 * 60 * 1000)
#define TAG_COMMIT_LEN 40

/* Who is to be woken for a key. */
struct waiting {
    char *ns, *name;
};

struct fl_imagebuild_controller {
    struct fl_imagebuild_options options;
    struct fl_manager *manager;
    struct fl_builder *builder;
    struct fl_lock *lock;
    struct fl_map *waiting; /* by key */
};

struct view {
    struct fl_reconcile *rc;
    struct fl_imagebuild_controller *controller;
    struct fl_imagebuild *object;
    struct fl_builder_known known;
};

/* Keys. */

static const char *key_of(const struct view *view, int64_t attempt)
{
    return fl_arena_printf(view->rc->arena, "%s-%" PRId64, view->object->meta.uid, attempt);
}

static void waiting_free(void *user)
{
    struct waiting *waiting = user;

    free(waiting->ns);
    free(waiting->name);
    free(waiting);
}

static void wait_for(const struct view *view, const char *key)
{
    struct waiting *waiting = fl_calloc(1, sizeof(*waiting));

    waiting->ns = fl_strdup(view->object->meta.namespace);
    waiting->name = fl_strdup(view->object->meta.name);
    FL_LOCKED(view->controller->lock);
    fl_map_put(view->controller->waiting, key, waiting);
}

void fl_imagebuild_changed(void *user, const char *key)
{
    struct fl_imagebuild_controller *controller = user;
    FL_CLEANUP(fl_freep) char *ns = NULL;
    FL_CLEANUP(fl_freep) char *name = NULL;

    {
        FL_LOCKED(controller->lock);
        const struct waiting *waiting = fl_map_get(controller->waiting, key);

        if (!waiting || !controller->manager)
            return;
        ns = fl_strdup(waiting->ns);
        name = fl_strdup(waiting->name);
    }
    fl_manager_enqueue(controller->manager, fl_imagebuild_ops.controller, ns, name);
}

static int forget(struct view *view, int64_t attempt, struct fl_error *err)
{
    struct fl_builder *builder = view->controller->builder;
    const char *key = key_of(view, attempt);

    {
        FL_LOCKED(view->controller->lock);
        (void)fl_map_remove(view->controller->waiting, key);
    }
    return builder->ops->forget(builder, key, err);
}

/* Names. */

const char *fl_imagebuild_name_of(struct fl_arena *arena, const char *url)
{
    size_t len = strlen(url), begin;
    char *name;

    while (len > 0 && url[len - 1] == '/')
        len--;
    if (len > 4 && strncmp(url + len - 4, ".git", 4) == 0)
        len -= 4;
    begin = len;
    while (begin > 0 && url[begin - 1] != '/' && url[begin - 1] != ':')
        begin--;
    name = fl_arena_strndup(arena, url + begin, len - begin);
    for (char *c = name; *c; c++)
        *c = (char)(isalnum((unsigned char)*c) ? tolower((unsigned char)*c) : '-');
    while (*name == '-')
        name++;
    for (len = strlen(name); len > 0 && name[len - 1] == '-'; len--)
        name[len - 1] = '\0';
    return *name ? name : "image";
}

static const char *repository_of(const struct view *view)
{
    const struct fl_imagebuild_spec *spec = &view->object->spec;
    struct fl_arena *arena = view->rc->arena;
    const char *role = spec->target == FL_IMAGEBUILD_TARGET_AGGREGATOR         ? "aggregator"
                       : spec->target == FL_IMAGEBUILD_TARGET_INFERENCE_SERVER ? "inference-server"
                       : spec->has_source ? fl_imagebuild_name_of(arena, spec->source.url)
                                          : "learner";

    if (spec->image)
        return spec->image;
    return fl_arena_printf(arena, "%s/%s", view->object->meta.namespace, role);
}

/* Secrets. */

static int read_secret(const struct view *view, const char *name, json_t **ret_secret,
                       struct fl_error *err)
{
    json_t *secret = NULL;
    int r = fl_apiclient_get(view->rc->client, &fl_gvr_secrets, view->object->meta.namespace, name,
                             &secret, err);

    if (r < 0)
        return fl_error_wrap(err, "Secret %s", name);
    *ret_secret = fl_json_in_arena(view->rc->arena, secret);
    return 0;
}

static int read_source(const struct view *view, struct fl_build *build, struct fl_error *err)
{
    const struct fl_imagebuild_source *source = &view->object->spec.source;
    json_t *secret;
    int r;

    build->url = source->url;
    build->commit = source->commit;
    build->path = source->path;
    if (!source->timeout || !fl_duration_parse(source->timeout, &build->fetch_timeout_ms))
        build->fetch_timeout_ms = 0;
    if (!source->has_credentials_secret)
        return 0;
    r = read_secret(view, source->credentials_secret.name, &secret, err);
    if (r < 0)
        return r;
    build->username = fl_secret_text(view->rc->arena, secret, "username");
    build->password = fl_secret_text(view->rc->arena, secret, "password");
    build->identity = fl_secret_text(view->rc->arena, secret, "identity");
    build->known_hosts = fl_secret_text(view->rc->arena, secret, "known_hosts");
    build->ca_pem = fl_secret_text(view->rc->arena, secret, "ca.crt");
    return 0;
}

/* "host:port/prefix" of a foreign registry goes in front of the name. */
static int read_registry(const struct view *view, struct fl_build *build, struct fl_error *err)
{
    const struct fl_registry_ref *registry = &view->object->spec.registry;
    struct fl_arena *arena = view->rc->arena;
    const char *slash = strchr(registry->url, '/');
    json_t *secret;
    int r;

    build->registry = slash
                          ? fl_arena_strndup(arena, registry->url, (size_t)(slash - registry->url))
                          : registry->url;
    if (slash && slash[1])
        build->repository = fl_arena_printf(arena, "%s/%s", slash + 1, build->repository);
    build->registry_plain_http = build->registry_insecure = registry->insecure;
    if (!registry->has_credentials_secret)
        return 0;
    r = read_secret(view, registry->credentials_secret.name, &secret, err);
    if (r < 0)
        return r;
    build->registry_username = fl_secret_text(view->rc->arena, secret, "username");
    build->registry_password = fl_secret_text(view->rc->arena, secret, "password");
    build->registry_ca_pem = fl_secret_text(view->rc->arena, secret, "ca.crt");
    return 0;
}

static void add_tags(const struct view *view, struct fl_build *build)
{
    const struct fl_imagebuild_spec *spec = &view->object->spec;

    if (spec->has_source)
        build->tags[build->tag_count++] =
            fl_arena_strndup(view->rc->arena, spec->source.commit, TAG_COMMIT_LEN);
    else
        build->tags[build->tag_count++] = view->object->meta.uid;
    for (size_t i = 0; i < spec->tags.count && build->tag_count < FL_BUILD_TAGS_MAX; i++)
        build->tags[build->tag_count++] = spec->tags.items[i];
}

static int64_t timeout_ms(const struct view *view)
{
    int64_t ms;

    return view->object->spec.timeout && fl_duration_parse(view->object->spec.timeout, &ms)
               ? ms
               : TIMEOUT_MS;
}

static int make_request(struct view *view, struct fl_build *ret_build, struct fl_error *err)
{
    const struct fl_imagebuild_options *options = &view->controller->options;
    const struct fl_imagebuild_spec *spec = &view->object->spec;
    struct fl_build build = *options->common;
    int r = 0;

    build.target = spec->target;
    build.backend = spec->backend;
    build.lock_policy = spec->lock_policy;
    build.containerfile = spec->file;
    build.timeout_ms = timeout_ms(view);
    for (size_t i = 0; i < spec->platforms.count && i < FL_BUILD_PLATFORMS_MAX; i++)
        build.platforms[build.platform_count++] = spec->platforms.items[i];
    build.repository = repository_of(view);
    add_tags(view, &build);
    if (spec->has_source)
        r = read_source(view, &build, err);
    if (r == 0)
        r = spec->has_registry ? read_registry(view, &build, err)
                               : options->own_registry(options->user, build.repository,
                                                       view->rc->arena, &build, err);
    if (r == 0)
        *ret_build = build;
    return r;
}

/* What the builder tells. */

static const char *time_text(struct fl_arena *arena, int64_t realtime_us)
{
    char *text = fl_alloc(arena, FL_TIME_SIZE);

    fl_time_format(realtime_us, text);
    return text;
}

static const char *duration_text(struct fl_arena *arena, int64_t ms)
{
    return fl_arena_printf(arena, "%" PRId64 ".%03" PRId64 "s", ms / 1000, ms % 1000);
}

static void show_stages(struct view *view)
{
    static const enum fl_imagebuild_status_stage_state states[] = {
        [FL_STAGE_RUNNING] = FL_IMAGEBUILD_STATUS_STAGE_STATE_RUNNING,
        [FL_STAGE_DONE] = FL_IMAGEBUILD_STATUS_STAGE_STATE_DONE,
        [FL_STAGE_CACHED] = FL_IMAGEBUILD_STATUS_STAGE_STATE_CACHED,
        [FL_STAGE_FAILED] = FL_IMAGEBUILD_STATUS_STAGE_STATE_FAILED,
    };
    const struct fl_builder_known *known = &view->known;
    struct fl_arena *arena = view->rc->arena;
    struct fl_imagebuild_status_stage *items =
        fl_new_array(arena, struct fl_imagebuild_status_stage, known->stage_count + 1);

    for (size_t i = 0; i < known->stage_count; i++) {
        const struct fl_builder_stage *stage = &known->stages[i];

        items[i] = (struct fl_imagebuild_status_stage){
            .name = stage->name,
            .state = states[stage->state],
            .start_time = time_text(arena, stage->started_us),
            .duration =
                stage->state == FL_STAGE_RUNNING ? NULL : duration_text(arena, stage->took_ms),
            .message = stage->state == FL_STAGE_FAILED ? stage->message : NULL,
        };
    }
    view->object->status.stages =
        (struct fl_imagebuild_status_stage_list){items, known->stage_count};
    view->object->status.log_tail = known->log_tail;
}

static void show_platforms(struct view *view)
{
    const struct fl_builder_result *result = &view->known.result;
    struct fl_imagebuild_status_platform *items = fl_new_array(
        view->rc->arena, struct fl_imagebuild_status_platform, result->platform_count + 1);

    for (size_t i = 0; i < result->platform_count; i++) {
        const struct fl_builder_platform *item = &result->platforms[i];

        items[i] = (struct fl_imagebuild_status_platform){
            .platform = item->platform,
            .digest = item->digest,
            .size = item->size,
            .has_size = true,
            .unpacked_size = item->unpacked_size,
            .has_unpacked_size = true,
            .layers = item->layers,
            .has_layers = true,
            .cached_layers = item->cached_layers,
            .has_cached_layers = true,
        };
    }
    view->object->status.platforms =
        (struct fl_imagebuild_status_platform_list){items, result->platform_count};
}

static void show_result(struct view *view, const struct fl_build *build)
{
    struct fl_imagebuild_status *status = &view->object->status;
    const struct fl_builder_result *result = &view->known.result;
    struct fl_arena *arena = view->rc->arena;

    status->backend = fl_streq(result->backend, "Buildah") ? FL_IMAGEBUILD_STATUS_BACKEND_BUILDAH
                                                           : FL_IMAGEBUILD_STATUS_BACKEND_COMPOSE;
    status->has_image = true;
    status->image = (struct fl_imagebuild_status_image){
        .name = fl_arena_printf(arena, "%s/%s", build->registry, build->repository),
        .digest = result->digest,
        .size = result->size,
        .has_size = true,
    };
    status->has_cache = true;
    status->cache = (struct fl_imagebuild_status_cache){
        .hits = result->cache_hits,
        .has_hits = true,
        .misses = result->cache_misses,
        .has_misses = true,
        .bytes_fetched = result->bytes_fetched,
        .has_bytes_fetched = true,
        .bytes_pushed = result->bytes_pushed,
        .has_bytes_pushed = true,
    };
    status->size_summary = fl_str_from_size(arena, result->size);
    status->completion_time = time_text(arena, view->known.ended_us);
    status->duration = duration_text(arena, (view->known.ended_us - view->known.started_us) / 1000);
    show_platforms(view);
}

/* Deciding. */

static int64_t attempts(const struct view *view)
{
    return view->object->status.has_attempts ? view->object->status.attempts : 0;
}

static int start(struct view *view, int64_t attempt, struct fl_error *err)
{
    struct fl_builder *builder = view->controller->builder;
    struct fl_imagebuild_status *status = &view->object->status;
    const char *key = key_of(view, attempt);
    struct fl_build build;
    int r = make_request(view, &build, err);

    if (r < 0)
        return fl_failed(view->rc, "SourceReady", "SourceNotReady", err);
    wait_for(view, key);
    r = builder->ops->start(builder, key, &build, err);
    if (r < 0)
        return fl_failed(view->rc, "Built", "BuildFailed", err);
    status->attempts = attempt;
    status->has_attempts = true;
    if (!status->start_time)
        status->start_time = time_text(view->rc->arena, fl_realtime_us(view->rc->env));
    return fl_not_yet(view->rc, "Succeeded", "Building", "attempt %" PRId64 " begins", attempt);
}

static const struct stage_meaning {
    const char *stage, *condition, *running, *failed;
} meanings[] = {
    {"Fetch", "SourceReady", "Fetching", "SourceNotReady"},
    {"Check", "SourceReady", "Fetching", "SourceInvalid"},
    {"Resolve", "Built", "Resolving", "BuildFailed"},
    {"Push", "Pushed", "Pushing", "PushFailed"},
};

static struct stage_meaning meaning_of(const char *stage)
{
    static const struct stage_meaning other = {NULL, "Built", "Building", "BuildFailed"};

    for (size_t i = 0; i < FL_COUNT_OF(meanings); i++)
        if (fl_streq(stage, meanings[i].stage))
            return meanings[i];
    return other;
}

static int show_running(struct view *view)
{
    const struct fl_builder_known *known = &view->known;
    const struct fl_builder_stage *last =
        known->stage_count > 0 ? &known->stages[known->stage_count - 1] : NULL;
    struct stage_meaning meaning = meaning_of(last ? last->name : NULL);

    show_stages(view);
    if (known->state == FL_BUILDER_WAITING)
        return fl_not_yet(view->rc, "Succeeded", "Building", "waits for builds before it");
    return fl_not_yet(view->rc, "Succeeded", meaning.running, "%s", last ? last->name : "begins");
}

static int64_t retry_after_ms(int64_t attempt)
{
    int64_t ms = RETRY_FIRST_MS;

    for (int64_t i = 1; i < attempt && ms < RETRY_MOST_MS; i++)
        ms *= 2;
    return ms < RETRY_MOST_MS ? ms : RETRY_MOST_MS;
}

/* What the code or the request is to blame for does not get better. */
static bool is_worth_retrying(int code)
{
    return fl_error_is_retryable(code) && code != FL_E_TIMEOUT;
}

static int show_failure(struct view *view, struct fl_error *err)
{
    const struct fl_builder_known *known = &view->known;
    struct fl_reconcile *rc = view->rc;
    struct stage_meaning meaning = meaning_of(known->failed_stage);
    const char *reason = known->err.code == FL_E_TIMEOUT ? "DeadlineExceeded" : meaning.failed;
    int64_t attempt = attempts(view), left_ms;

    show_stages(view);
    if (!is_worth_retrying(known->err.code))
        return fl_stalled(rc, meaning.condition, reason, "%s: %s",
                          fl_str_or(known->failed_stage, "Build"), known->err.msg);
    if (attempt > view->object->spec.retry_limit)
        return fl_stalled(rc, meaning.condition, reason, "%s (attempt %" PRId64 ", the last): %s",
                          fl_str_or(known->failed_stage, "Build"), attempt, known->err.msg);
    left_ms = retry_after_ms(attempt) - (fl_realtime_us(rc->env) - known->ended_us) / 1000;
    if (left_ms > 0) {
        fl_requeue_after(rc, left_ms);
        return fl_not_yet(rc, meaning.condition, reason, "%s: %s; attempt %" PRId64 " comes next",
                          fl_str_or(known->failed_stage, "Build"), known->err.msg, attempt + 1);
    }
    return start(view, attempt + 1, err);
}

static int show_success(struct view *view, struct fl_error *err)
{
    struct fl_reconcile *rc = view->rc;
    struct fl_build build;
    int r = make_request(view, &build, err);

    if (r < 0)
        return fl_failed(rc, "Pushed", "PushFailed", err);
    show_stages(view);
    show_result(view, &build);
    fl_true(rc, "SourceReady", "Ready", "%s",
            view->known.result.commit ? view->known.result.commit : "no code is needed");
    fl_true(rc, "Built", "Built", "%zu platforms", view->known.result.platform_count);
    fl_true(rc, "Pushed", "Pushed", "%s", view->object->status.image.name);
    fl_true(rc, "Succeeded", "Built", "%s", view->known.result.digest);
    return FL_STEP_DONE;
}

static bool is_done(const struct fl_imagebuild *object)
{
    const struct fl_condition *succeeded =
        fl_condition_find(&object->status.conditions, "Succeeded");

    return succeeded && succeeded->status == FL_CONDITION_STATUS_TRUE && object->status.has_image &&
           object->status.image.digest;
}

/* What the control plane's machine has is not for everybody who may write an ImageBuild. */
static bool may_be_read(const struct fl_imagebuild *object)
{
    return !object->spec.has_source || !fl_str_has_prefix(object->spec.source.url, "file:") ||
           fl_streq(object->meta.namespace, FL_GITSYNC_SYSTEM_NAMESPACE);
}

static int build(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct view view = {.rc = rc, .controller = rc->user, .object = object};
    struct fl_builder *builder = view.controller->builder;
    int64_t attempt = attempts(&view);
    int r;

    fl_ready_as(rc, "Built", "the image is built");
    if (is_done(object))
        return FL_STEP_DONE;
    if (!may_be_read(object))
        return fl_stalled(rc, "SourceReady", "SourceNotReady",
                          "%.200s is on the control plane's machine, which is for ImageBuilds of "
                          "namespace %s only",
                          view.object->spec.source.url, FL_GITSYNC_SYSTEM_NAMESPACE);
    if (attempt == 0)
        return start(&view, 1, err);
    r = builder->ops->observe(builder, key_of(&view, attempt), rc->arena, &view.known, err);
    if (r < 0)
        return r;
    switch (view.known.state) {
    case FL_BUILDER_NONE: /* the control plane was begun anew */
        return start(&view, attempt, err);
    case FL_BUILDER_DONE:
        return show_success(&view, err);
    case FL_BUILDER_FAILED:
        return show_failure(&view, err);
    default:
        wait_for(&view, key_of(&view, attempt));
        return show_running(&view);
    }
}

/* Also while it runs: it is begun anew later. */
static int suspend(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct view view = {.rc = rc, .controller = rc->user, .object = object};
    int r = is_done(object) ? 0 : forget(&view, attempts(&view), err);

    return r < 0 ? r : FL_STEP_DONE;
}

static int finalize(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct view view = {.rc = rc, .controller = rc->user, .object = object};

    for (int64_t i = attempts(&view) + 1; i > 0; i--) {
        int r = forget(&view, i, err);

        if (r < 0)
            return r;
    }
    return FL_STEP_DONE;
}

static bool is_suspended(const void *object)
{
    return ((const struct fl_imagebuild *)object)->spec.suspend;
}

const struct fl_kind_ops fl_imagebuild_ops = {
    .controller = "imagebuild",
    .type = &fl_imagebuild_type,
    FL_STATUS_OF(struct fl_imagebuild),
    .finalizer = "flops.dev/imagebuild",
    .is_suspended = is_suspended,
    .suspend = suspend,
    .steps = {build},
    .finalize = finalize,
};

struct fl_imagebuild_controller *
fl_imagebuild_controller_create(const struct fl_imagebuild_options *options)
{
    struct fl_imagebuild_controller *controller = fl_calloc(1, sizeof(*controller));

    controller->options = *options;
    controller->lock = fl_lock_create();
    controller->waiting = fl_map_create(waiting_free);
    return controller;
}

int fl_imagebuild_controller_attach(struct fl_imagebuild_controller *controller,
                                    struct fl_manager *manager, struct fl_builder *builder,
                                    struct fl_error *err)
{
    controller->builder = builder;
    {
        FL_LOCKED(controller->lock);
        controller->manager = manager;
    }
    return fl_manager_add(manager, &fl_imagebuild_ops, controller, err);
}

void fl_imagebuild_controller_destroy(struct fl_imagebuild_controller *controller)
{
    if (!controller)
        return;
    fl_map_destroy(controller->waiting);
    fl_lock_destroy(controller->lock);
    free(controller);
}
