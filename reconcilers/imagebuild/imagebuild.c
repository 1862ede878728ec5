#include "reconcilers/imagebuild/imagebuild.h"

#include "api/quantity.h"
#include "controller/source/access.h"
#include "lib/map.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "reconcilers/imagebuild/build_log.h"
#include "reconcilers/imagebuild/imagebuild_internal.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#define TIMEOUT_MS     ((int64_t)30 * 60 * 1000)
#define TAG_COMMIT_LEN 40
#define SOON_MS        1000

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

/* Keys. */

static const char *key_of(const struct fl_build_view *view, int64_t attempt)
{
    return fl_build_attempt_key(view->rc->arena, view->object->meta.uid, attempt);
}

static void waiting_free(void *user)
{
    struct waiting *waiting = user;

    free(waiting->ns);
    free(waiting->name);
    free(waiting);
}

static void wait_for(const struct fl_build_view *view, const char *key)
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

static int forget(struct fl_build_view *view, int64_t attempt, struct fl_error *err)
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

static const char *repository_of(const struct fl_build_view *view)
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

static int read_secret(const struct fl_build_view *view, const char *name, json_t **ret_secret,
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

static int read_source(const struct fl_build_view *view, struct fl_build *build,
                       struct fl_error *err)
{
    const struct fl_imagebuild_source *source = &view->object->spec.source;
    struct fl_source_request request = {0};
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
    fl_source_take_credentials(&request, secret, view->rc->arena);
    build->username = request.username;
    build->password = request.password;
    build->identity = request.identity;
    build->known_hosts = request.known_hosts;
    build->ca_pem = request.ca_pem;
    return 0;
}

/* "host:port/prefix" of a foreign registry: the prefix goes in front of the name. */
static int name_foreign(const struct fl_build_view *view, struct fl_build *build,
                        struct fl_error *err)
{
    const char *url = view->object->spec.registry.url;
    struct fl_arena *arena = view->rc->arena;
    size_t host = strcspn(url, "/"), len = strlen(url);

    if (strstr(url, "://"))
        return fl_error_set(err, FL_E_INVALID,
                            "registry.url is host, port and prefix, without a scheme: %.200s", url);
    while (len > host && url[len - 1] == '/')
        len--;
    build->registry = fl_arena_strndup(arena, url, host);
    if (len > host)
        build->repository = fl_arena_printf(arena, "%.*s/%s", (int)(len - host - 1), url + host + 1,
                                            build->repository);
    build->registry_plain_http = build->registry_insecure = view->object->spec.registry.insecure;
    return 0;
}

/* What may be made in a namespace may be written below its name, and nowhere else. */
static int check_own(const struct fl_build_view *view, const struct fl_build *build,
                     struct fl_error *err)
{
    const char *ns = view->object->meta.namespace;
    size_t len = strlen(ns);

    if (strncmp(build->repository, ns, len) == 0 && build->repository[len] == '/')
        return 0;
    return fl_error_set(err, FL_E_INVALID,
                        "image %.200s: in the control plane's registry, images of namespace %s "
                        "have names that begin with \"%s/\"",
                        build->repository, ns, ns);
}

/* Where the image goes, without what is needed to write there. */
static int name_image(const struct fl_build_view *view, struct fl_build *build,
                      struct fl_error *err)
{
    const struct fl_imagebuild_options *options = &view->controller->options;
    int r;

    build->repository = repository_of(view);
    if (view->object->spec.has_registry)
        return name_foreign(view, build, err);
    r = check_own(view, build, err);
    return r < 0 ? r
                 : options->own_registry(options->user, build->repository, view->rc->arena, build,
                                         err);
}

static int read_registry(const struct fl_build_view *view, struct fl_build *build,
                         struct fl_error *err)
{
    const struct fl_registry_ref *registry = &view->object->spec.registry;
    const char *name = registry->credentials_secret.name;
    json_t *secret;
    int r;

    if (!view->object->spec.has_registry || !registry->has_credentials_secret)
        return 0;
    r = read_secret(view, name, &secret, err);
    if (r < 0)
        return r;
    build->registry_username = fl_secret_text(view->rc->arena, secret, "username");
    build->registry_password = fl_secret_text(view->rc->arena, secret, "password");
    build->registry_ca_pem = fl_secret_text(view->rc->arena, secret, "ca.crt");
    if (!build->registry_username != !build->registry_password ||
        (!build->registry_username && !build->registry_ca_pem))
        return fl_error_set(err, FL_E_NOT_FOUND,
                            "Secret %s: username and password, or ca.crt, are missing", name);
    return 0;
}

static void add_tags(const struct fl_build_view *view, struct fl_build *build)
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

static int64_t timeout_ms(const struct fl_build_view *view)
{
    int64_t ms;

    return view->object->spec.timeout && fl_duration_parse(view->object->spec.timeout, &ms)
               ? ms
               : TIMEOUT_MS;
}

static const char *log_path(const struct fl_build_view *view)
{
    const char *folder = view->controller->options.common->folder;

    return folder ? fl_build_log_path(view->rc->arena, folder, view->object->meta.uid) : NULL;
}

/* "NAME=value", ended by NULL. */
static const char *const *args_of(const struct fl_build_view *view)
{
    const struct fl_string_map *map = &view->object->spec.args;
    const char **args = fl_new_array(view->rc->arena, const char *, map->count + 1);

    for (size_t i = 0; i < map->count; i++)
        args[i] = fl_arena_printf(view->rc->arena, "%s=%s", map->items[i].key, map->items[i].value);
    return args;
}

static int64_t amount_of(const char *quantity, int64_t scale)
{
    int64_t amount;

    return quantity && fl_quantity_parse(quantity, scale, &amount) ? amount : 0;
}

static void describe(const struct fl_build_view *view, struct fl_build *build)
{
    const struct fl_imagebuild_spec *spec = &view->object->spec;

    *build = *view->controller->options.common;
    build->target = spec->target;
    build->backend = spec->backend;
    build->lock_policy = spec->lock_policy;
    build->containerfile = spec->file;
    build->builder_version = spec->builder_version;
    build->log_file = log_path(view);
    build->base_image = spec->base_image;
    build->args = args_of(view);
    build->cpu_milli = amount_of(spec->resources.cpu, 1000);
    build->memory_bytes = amount_of(spec->resources.memory, 1);
    build->timeout_ms = timeout_ms(view);
    for (size_t i = 0; i < spec->platforms.count && i < FL_BUILD_PLATFORMS_MAX; i++)
        build->platforms[build->platform_count++] = spec->platforms.items[i];
    add_tags(view, build);
}

/* Where it fails, under the condition that says of what kind it is. */
static int make_request(const struct fl_build_view *view, struct fl_build *ret_build,
                        struct fl_error *err)
{
    const struct fl_imagebuild_options *options = &view->controller->options;
    struct fl_build build;
    int r = 0;

    describe(view, &build);
    if (view->object->spec.has_source)
        r = read_source(view, &build, err);
    if (r == 0 && view->object->spec.has_model)
        r = options->model(options->user, view->object->spec.model.digest, view->rc->arena,
                           &build.model, err);
    if (r < 0)
        return fl_failed(view->rc, "SourceReady", "SourceNotReady", err);
    r = name_image(view, &build, err);
    if (r == 0)
        r = read_registry(view, &build, err);
    if (r < 0)
        return fl_failed(view->rc, "Pushed", "PushFailed", err);
    *ret_build = build;
    return 0;
}

/* What the builder tells. */

static void show_platforms(struct fl_build_view *view)
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

static void show_result(struct fl_build_view *view, const struct fl_build *build)
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
    status->key = result->key;
    status->has_attestations = result->sbom != NULL;
    status->attestations = (struct fl_imagebuild_status_attestations){
        .sbom = result->sbom,
        .provenance = result->provenance,
        .signature = result->signature,
    };
    status->size_summary = fl_str_from_size(arena, result->size);
    status->completion_time = fl_build_time_text(arena, view->known.ended_us);
    status->duration =
        fl_build_duration_text(arena, (view->known.ended_us - view->known.started_us) / 1000);
    show_platforms(view);
}

/* Deciding. */

/* What is begun must not be begun on an old state: an attempt that is over, or an object that is
 * gone, whose build nobody would ever forget. */
static int check_newest(const struct fl_build_view *view, struct fl_error *err)
{
    const struct fl_object_meta *meta = &view->object->meta;
    struct fl_gvr gvr = fl_gvr_of(&fl_imagebuild_type);
    FL_JSON live = NULL;
    int r = fl_apiclient_get(view->rc->client, &gvr, meta->namespace, meta->name, &live, err);

    if (r < 0)
        return r;
    if (!fl_is_as_read(view->rc, live))
        return fl_error_set(err, FL_E_CONFLICT, "the ImageBuild has changed since it was read");
    return 0;
}

static int start(struct fl_build_view *view, int64_t attempt, struct fl_error *err)
{
    struct fl_builder *builder = view->controller->builder;
    struct fl_imagebuild_status *status = &view->object->status;
    const char *key = key_of(view, attempt);
    struct fl_build build;
    int r = check_newest(view, err);

    if (r == 0)
        r = make_request(view, &build, err);
    if (r < 0)
        return r;
    wait_for(view, key);
    r = builder->ops->start(builder, key, &build, err);
    if (r < 0)
        return fl_failed(view->rc, "Built", "BuildFailed", err);
    status->attempts = attempt;
    status->has_attempts = true;
    if (!status->start_time)
        status->start_time = fl_build_time_text(view->rc->arena, fl_realtime_us(view->rc->env));
    fl_requeue_after(view->rc, SOON_MS); /* nobody tells that it waits for others */
    return fl_not_yet(view->rc, "Succeeded", "Building", "attempt %" PRId64 " begins", attempt);
}

static int show_success(struct fl_build_view *view, struct fl_error *err)
{
    struct fl_reconcile *rc = view->rc;
    struct fl_build build = *view->controller->options.common;
    int r = name_image(view, &build, err);

    if (r < 0)
        return fl_failed(rc, "Pushed", "PushFailed", err);
    fl_build_show_stages(view);
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
    return !object->spec.has_source ||
           fl_source_may_be_read(object->spec.source.url, object->meta.namespace);
}

static struct fl_imagebuild_decision decide(const struct fl_build_view *view)
{
    const struct fl_imagebuild *object = view->object;
    const struct fl_condition *stalled = fl_condition_find(&object->status.conditions, "Stalled");
    const struct fl_imagebuild_facts facts = {
        .attempts = fl_build_attempts(view),
        .retry_limit = object->spec.retry_limit,
        .given_up = stalled && stalled->status == FL_CONDITION_STATUS_TRUE,
        .edited = object->status.observed_generation != object->meta.generation,
        .state = view->known.state,
        .failure = view->known.err.code,
        .ended_us = view->known.ended_us,
        .now_us = fl_realtime_us(view->rc->env),
    };

    return fl_imagebuild_decide(&facts);
}

static int act(struct fl_build_view *view, struct fl_error *err)
{
    const struct fl_imagebuild_decision decision = decide(view);

    switch (decision.action) {
    case FL_IMAGEBUILD_BEGIN:
        return start(view, decision.attempt, err);
    case FL_IMAGEBUILD_SHOW:
        return show_success(view, err);
    case FL_IMAGEBUILD_WAIT:
        return fl_build_wait_to_retry(view, &decision);
    case FL_IMAGEBUILD_GIVE_UP:
        return fl_build_give_up(view);
    case FL_IMAGEBUILD_STAY:
        return fl_build_stay_given_up(view);
    default:
        wait_for(view, key_of(view, fl_build_attempts(view)));
        return fl_build_tell_running(view);
    }
}

static int build(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct fl_build_view view = {.rc = rc, .controller = rc->user, .object = object};
    struct fl_builder *builder = view.controller->builder;
    int64_t attempt = fl_build_attempts(&view);
    int r = 0;

    fl_ready_as(rc, "Built", "the image is built");
    if (is_done(object))
        return FL_STEP_DONE;
    if (!may_be_read(object))
        return fl_stalled(rc, "SourceReady", "SourceNotReady",
                          "%.200s is on the control plane's machine, which is for ImageBuilds of "
                          "namespace %s only",
                          view.object->spec.source.url, FL_SYSTEM_NAMESPACE);
    if (attempt > 0)
        r = builder->ops->observe(builder, key_of(&view, attempt), rc->arena, &view.known, err);
    return r < 0 ? r : act(&view, err);
}

/* From the last: also what was begun, and status could not tell. */
static int forget_attempts(struct fl_build_view *view, int64_t first, struct fl_error *err)
{
    int r = 0;

    for (int64_t i = fl_build_attempts(view) + 1; r == 0 && i >= first && i > 0; i--)
        r = forget(view, i, err);
    return r;
}

/* Also while it runs: it is begun anew later. */
static int suspend(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct fl_build_view view = {.rc = rc, .controller = rc->user, .object = object};
    int r = is_done(object) ? 0 : forget_attempts(&view, fl_build_attempts(&view), err);

    return r < 0 ? r : FL_STEP_DONE;
}

static int finalize(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct fl_build_view view = {.rc = rc, .controller = rc->user, .object = object};
    int r = forget_attempts(&view, 1, err);

    if (r < 0)
        return r;
    if (log_path(&view))
        fl_build_log_remove(log_path(&view));
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
