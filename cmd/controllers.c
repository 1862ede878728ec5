#include "cmd/controllers.h"

#include "cmd/building.h"
#include "cmd/command.h"
#include "cmd/federation.h"
#include "cmd/identity.h"
#include "cmd/oakestra.h"
#include "cmd/parts.h"
#include "controller/apiserver/capability.h"
#include "controller/content/content.h"
#include "controller/runtime/manager.h"
#include "controller/source/access.h"
#include "controller/source/seal.h"
#include "controller/source/source.h"
#include "lib/file.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "reconcilers/flproject/flproject.h"
#include "reconcilers/flround/flround.h"
#include "reconcilers/gitsync/gitsync.h"
#include "reconcilers/imagebuild/build_log.h"
#include "reconcilers/imagebuild/imagebuild.h"
#include "reconcilers/inferenceserver/inferenceserver.h"
#include "reconcilers/modelversion/collect.h"
#include "reconcilers/modelversion/controller.h"
#include "reconcilers/modelversion/export.h"
#include "reconcilers/orchestrator/orchestrator.h"
#include "reconcilers/tracking/mlflow.h"
#include "reconcilers/tracking/tracking.h"
#include "reconcilers/workload/local/image_registry.h"
#include "reconcilers/workload/local/local.h"
#include "reconcilers/workload/workload.h"
#include "reconcilers/workload/workload_log.h"

#include <errno.h>

#define SYSTEM_NAMESPACE FL_SYSTEM_NAMESPACE
#define LEASE_NAME       "flops-controller-manager"
#define FIELD_MANAGER    "flops-up"
#define CODE_FOLDER      "code"
#define TRIES            10 /* of what must be there before the loops begin */
#define PAUSE_MS         500
#define CA_MAX_BYTES     ((size_t)256 * 1024)
#define RESYNC_MS        (INT64_C(10) * 60 * 1000)

struct fl_controllers {
    const struct fl_controllers_options *options;
    struct fl_arena *arena;
    char *identity, *program;
    struct fl_metric_registry *metrics;
    struct fl_apiclient *client;
    struct fl_orchestrators *orchestrators;
    struct fl_oakestras *oakestras;
    struct fl_workload_logs *logs;
    struct fl_seal_keys *keys;
    struct fl_gitsyncs *syncs;
    struct fl_source *source, *code; /* of manifests, of projects */
    struct fl_manager *manager;
    struct fl_workload_controller *workloads;
    struct fl_orchestrator_controller *orchestrator;
    struct fl_federation_driver *federation;
    struct fl_flproject_controller *projects;
    struct fl_tracking *tracking;
    struct fl_flround_controller *rounds;
    struct fl_modelversion_controller *versions;
    struct fl_router_driver *routers;
    struct fl_inferenceserver_controller *servers;
    struct fl_build common_build;
    struct fl_imagebuild_controller *builds;
    struct fl_builder *builder;
    struct fl_build_logs *build_logs;
    struct fl_collector *collector;
    struct fl_thread *beginner, *stopper;
    struct fl_lock *lock; /* the rest */
    struct fl_signal *halted;
    bool stopping;
    struct fl_error failure;
    fl_loop_fn *stopped;
    void *stopped_user;
    char *registry_pem; /* NULL: images are not prepared for */
    struct fl_image_registries registries;
    struct fl_image_source images;
};

/* Loop thread. */
static void tell_failure(void *user)
{
    struct fl_controllers *controllers = user;

    controllers->options->failed(controllers->options->user, &controllers->failure);
}

static void fail(struct fl_controllers *controllers, const struct fl_error *err)
{
    fl_lock_take(controllers->lock);
    controllers->failure = *err;
    fl_lock_release(controllers->lock);
    fl_loop_post(controllers->options->loop, tell_failure, controllers);
}

/* Opens one repository of the registry that is beside the API, for the node that pulls from it. */
static const char *grant_repository(void *user, const char *repository, struct fl_arena *arena)
{
    const struct fl_controllers_options *options = ((struct fl_controllers *)user)->options;
    char token[FL_CAPABILITY_TOKEN_SIZE];

    fl_capability_make(options->capability_key, fl_arena_printf(arena, "/v2/%s/", repository),
                       token);
    return fl_arena_strdup(arena, token);
}

/* The API server's address is known when the first orchestrator is made. */
static int prepare_images(struct fl_controllers *controllers, struct fl_error *err)
{
    const struct fl_controllers_options *options = controllers->options;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *pem = NULL;

    if (controllers->registry_pem)
        return 0;
    if (options->ca_file && fl_file_read(options->ca_file, CA_MAX_BYTES, &pem, err) < 0)
        return fl_error_wrap(err, "certificate of the registry");
    controllers->registry_pem = fl_strdup(pem ? pem->data : "");
    controllers->registries = (struct fl_image_registries){
        .env = options->env,
        .url = options->url,
        .ca_pem = pem ? controllers->registry_pem : NULL,
        .token = grant_repository,
        .user = controllers,
    };
    controllers->images = fl_image_registries_source(&controllers->registries);
    return 0;
}

static int make_local(void *user, const char *name, fl_run_changed_fn *changed, void *changed_user,
                      struct fl_orchestrator_driver **ret_driver, struct fl_error *err)
{
    struct fl_controllers *controllers = user;
    const struct fl_local_options options = {
        .env = controllers->options->env,
        .data_dir = controllers->options->data_dir,
        .program = controllers->program,
        .version = fl_version(),
        .images = &controllers->images,
        .changed = changed,
        .changed_user = changed_user,
    };
    int r;

    if (strcmp(name, FL_ORCHESTRATOR_LOCAL) != 0)
        return fl_error_set(err, FL_E_INVALID,
                            "there is one machine: the Orchestrator of type Local is \"%s\"",
                            FL_ORCHESTRATOR_LOCAL);
    r = prepare_images(controllers, err);
    return r < 0 ? r : fl_local_create(&options, ret_driver, err);
}

static int unseal(void *user, json_t *secret, const char *ns, struct fl_error *err)
{
    return fl_seal_open(user, secret, ns, err);
}

/* Parts that need nobody else. */
static int make_parts(struct fl_controllers *controllers, struct fl_error *err)
{
    const struct fl_controllers_options *options = controllers->options;
    int r = fl_identity_ensure(options->env, options->data_dir, &controllers->identity, err);

    controllers->program = realpath("/proc/self/exe", NULL);
    if (r == 0 && !controllers->program)
        r = fl_error_errno(err, errno, "the program's own path");
    if (r == 0)
        r = fl_seal_keys_load(options->data_dir, &controllers->keys, err);
    if (r < 0)
        return r;
    controllers->metrics = fl_metrics_registry_create();
    controllers->orchestrators = fl_orchestrators_create();
    fl_orchestrators_register(controllers->orchestrators, "Local", make_local, controllers);
    controllers->oakestras =
        fl_oakestras_create(options->env, options->data_dir, controllers->identity);
    fl_orchestrators_register(controllers->orchestrators, "Oakestra", fl_oakestras_make,
                              controllers->oakestras);
    controllers->logs = fl_workload_logs_create(options->loop, controllers->orchestrators);
    controllers->build_logs =
        fl_build_logs_create(options->env, options->loop,
                             fl_arena_printf(controllers->arena, "%s/builds", options->data_dir));
    return 0;
}

static int make_sources(struct fl_controllers *controllers, struct fl_error *err)
{
    const struct fl_controllers_options *options = controllers->options;
    const struct fl_gitsync_options syncs = {.unseal = unseal, .user = controllers->keys};
    struct fl_source_options sources = {
        .env = options->env,
        .data_dir = options->data_dir,
        .directories = &options->manifests,
        .directory_count = options->manifests ? 1 : 0,
        .changed = fl_gitsync_source_changed,
    };
    struct fl_source *dir = NULL, *git = NULL;
    int r;

    controllers->syncs = fl_gitsyncs_create(&syncs);
    sources.user = controllers->syncs;
    r = fl_source_dir_create(&sources, &dir, err);
    if (r < 0)
        return r;
    r = fl_source_git_create(&sources, &git, err);
    if (r < 0) {
        dir->ops->destroy(dir);
        return r;
    }
    controllers->source = fl_source_create_routed(dir, git);
    return 0;
}

/* The driver's thread; who is woken was made before the loops begin. */
static void federation_changed(void *user, const char *ns, const char *project)
{
    struct fl_controllers *controllers = user;

    if (controllers->rounds)
        fl_flround_changed(controllers->rounds, ns, project);
    if (controllers->projects)
        fl_flproject_changed(controllers->projects, ns, project);
}

static void code_changed(void *user, const char *key)
{
    struct fl_controllers *controllers = user;

    if (controllers->projects)
        fl_flproject_source_changed(controllers->projects, key);
}

/* Which commits projects mean. What an earlier process asked is of no use any more. */
static int make_code(struct fl_controllers *controllers, struct fl_error *err)
{
    const struct fl_controllers_options *options = controllers->options;
    const struct fl_source_options source = {
        .env = options->env,
        .data_dir = options->data_dir,
        .folder = CODE_FOLDER,
        .changed = code_changed,
        .user = controllers,
    };
    int r = fl_dir_remove(
        fl_arena_printf(controllers->arena, "%s/%s", options->data_dir, CODE_FOLDER), err);

    return r < 0 ? r : fl_source_git_create(&source, &controllers->code, err);
}

static void tracking_changed(void *user, const char *ns, const char *project)
{
    struct fl_controllers *controllers = user;

    if (controllers->projects)
        fl_flproject_changed(controllers->projects, ns, project);
}

static int make_tracking(struct fl_controllers *controllers, struct fl_error *err)
{
    const struct fl_controllers_options *options = controllers->options;
    const struct fl_tracking_options tracking = {
        .env = options->env,
        .manager = controllers->manager,
        .client = controllers->client,
        .blobs = fl_contents_blobs(options->contents),
        .folder = fl_arena_printf(controllers->arena, "%s/tracking", options->data_dir),
        .adapter = fl_part_modules(controllers->arena),
        .open = fl_tracker_mlflow_open,
        .changed = tracking_changed,
        .user = controllers};
    int r = fl_tracking_create(&tracking, &controllers->tracking, err);

    if (r == 0)
        fl_flproject_track(controllers->projects, controllers->tracking);
    return r;
}

static int make_projects(struct fl_controllers *controllers, struct fl_error *err)
{
    int r = fl_federation_open(controllers->options->env,
                               fl_contents_blobs(controllers->options->contents),
                               federation_changed, controllers, &controllers->federation, err);

    if (r == 0)
        r = make_code(controllers, err);
    if (r == 0)
        r = fl_flround_controller_create(controllers->manager, controllers->federation,
                                         &controllers->rounds, err);
    if (r == 0)
        r = fl_flproject_controller_create(controllers->manager, controllers->federation,
                                           controllers->code, &controllers->projects, err);
    return r < 0 ? r : make_tracking(controllers, err);
}

static int grant_content(void *user, const char *digest, struct fl_arena *arena,
                         struct fl_content_grant *ret_grant, struct fl_error *err)
{
    const struct fl_controllers_options *options = ((struct fl_controllers *)user)->options;
    const char *path = fl_arena_printf(arena, FL_CONTENTS_BLOBS "/%s", digest);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *ca = NULL;
    char token[FL_CAPABILITY_TOKEN_SIZE];
    int r = fl_file_read(options->ca_file, CA_MAX_BYTES, &ca, err);

    if (r < 0)
        return r;
    fl_capability_make(options->capability_key, path, token);
    *ret_grant = (struct fl_content_grant){
        .url = fl_arena_printf(arena, "%s%s", options->url, path),
        .token = fl_arena_strdup(arena, token),
        .ca_pem = fl_arena_strndup(arena, (const char *)ca->data, ca->len)};
    return 0;
}

static bool needs_code(void *user, const char *digest)
{
    const struct fl_controllers *controllers = user;
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *path;

    return fl_blobs_path(fl_contents_blobs(controllers->options->contents), digest, arena, &path,
                         NULL) == 0 &&
           fl_model_needs_code(path);
}

static void router_changed(void *user, const char *ns, const char *name)
{
    struct fl_controllers *controllers = user;

    if (controllers->servers)
        fl_inferenceserver_router_changed(controllers->servers, ns, name);
}

static int make_servers(struct fl_controllers *controllers, struct fl_error *err)
{
    struct fl_inferenceserver_options options = {
        .grant = grant_content, .needs_code = needs_code, .user = controllers};
    int r = fl_router_http_create(controllers->options->env, router_changed, controllers,
                                  &controllers->routers, err);

    options.routers = controllers->routers;
    return r < 0 ? r
                 : fl_inferenceserver_controller_create(controllers->manager, &options,
                                                        &controllers->servers, err);
}

/* Opens one repository of the registry beside the API for the builder that pushes to it. */
static int own_registry(void *user, const char *repository, struct fl_arena *arena,
                        struct fl_build *build, struct fl_error *err)
{
    const struct fl_controllers_options *options = ((struct fl_controllers *)user)->options;
    const char *scheme = strstr(options->url, "://");
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *ca = NULL;
    char token[FL_CAPABILITY_TOKEN_SIZE];
    int r = fl_file_read(options->ca_file, CA_MAX_BYTES, &ca, err);

    if (r < 0)
        return fl_error_wrap(err, "certificate of the registry");
    fl_capability_make_writer(options->capability_key,
                              fl_arena_printf(arena, "/v2/%s/", repository), token);
    build->registry = scheme ? scheme + strlen("://") : options->url;
    build->registry_ca_pem = fl_arena_strndup(arena, ca->data, ca->len);
    build->registry_username = "flops";
    build->registry_password = fl_arena_strdup(arena, token);
    return 0;
}

static int model_file(void *user, const char *digest, struct fl_arena *arena, const char **ret_path,
                      struct fl_error *err)
{
    const struct fl_controllers_options *options = ((struct fl_controllers *)user)->options;
    int r = fl_blobs_path(fl_contents_blobs(options->contents), digest, arena, ret_path, err);

    return r < 0 ? fl_error_wrap(err, "model") : 0;
}

static int make_builds(struct fl_controllers *controllers, struct fl_error *err)
{
    const struct fl_controllers_options *options = controllers->options;
    const struct fl_imagebuild_options builds = {.common = &controllers->common_build,
                                                 .own_registry = own_registry,
                                                 .model = model_file,
                                                 .user = controllers};
    struct fl_builder_options builder = {.env = options->env, .changed = fl_imagebuild_changed};
    int r = fl_building_prepare(options->env, options->data_dir, controllers->arena,
                                &controllers->common_build, err);

    if (r < 0)
        return r;
    controllers->builds = fl_imagebuild_controller_create(&builds);
    builder.user = controllers->builds;
    r = fl_builder_process_create(&builder, &controllers->builder, err);
    fl_build_logs_attach(controllers->build_logs, controllers->builder);
    return r < 0 ? r
                 : fl_imagebuild_controller_attach(controllers->builds, controllers->manager,
                                                   controllers->builder, err);
}

static int make_manager(struct fl_controllers *controllers, struct fl_apiserver *server,
                        struct fl_error *err)
{
    const struct fl_controllers_options *options = controllers->options;
    /* Who opened the store is its only control plane: where the lease cannot be renewed, on a disk
     * that is full, the loops pause, what is served goes on, and they go on when it can. */
    struct fl_manager_options manager = {
        .env = options->env,
        .metrics = controllers->metrics,
        .resync_ms = RESYNC_MS,
        .identity = controllers->identity,
        .lease_namespace = SYSTEM_NAMESPACE,
        .lease_name = LEASE_NAME,
    };
    int r;

    controllers->client =
        fl_apiclient_create_local(options->env, options->loop, options->store, server);
    fl_oakestras_attach(controllers->oakestras, controllers->client);
    manager.client = controllers->client;
    r = fl_manager_create(&manager, &controllers->manager, err);
    if (r == 0)
        r = fl_workload_controller_create(controllers->manager, controllers->orchestrators,
                                          &controllers->workloads, err);
    if (r == 0)
        r = fl_orchestrator_controller_create(controllers->manager, controllers->orchestrators,
                                              &controllers->orchestrator, err);
    if (r == 0)
        r = fl_modelversion_controller_create(controllers->manager, options->contents,
                                              &controllers->versions, err);
    if (r == 0)
        r = make_servers(controllers, err);
    if (r == 0) /* they look at all of the above */
        r = make_projects(controllers, err);
    if (r == 0)
        r = make_builds(controllers, err);
    if (r == 0)
        r = make_sources(controllers, err);
    if (r < 0)
        return r;
    fl_gitsyncs_attach(controllers->syncs, controllers->manager, controllers->source);
    return fl_manager_add(controllers->manager, &fl_gitsync_ops, controllers->syncs, err);
}

int fl_controllers_create(const struct fl_controllers_options *options,
                          struct fl_controllers **ret_controllers, struct fl_error *err)
{
    struct fl_controllers *controllers = fl_calloc(1, sizeof(*controllers));
    int r;

    controllers->options = options;
    controllers->arena = fl_arena_create();
    controllers->lock = fl_lock_create();
    controllers->halted = fl_signal_create();
    r = make_parts(controllers, err);
    if (r < 0) {
        fl_controllers_destroy(controllers);
        return r;
    }
    *ret_controllers = controllers;
    return 0;
}

void fl_controllers_logs(struct fl_controllers *controllers,
                         struct fl_apiserver_subresource ret_logs[FL_CONTROLLERS_LOGS])
{
    ret_logs[0] = fl_workload_logs_subresource(controllers->logs);
    ret_logs[1] = fl_build_logs_subresource(controllers->build_logs);
}

void fl_controllers_metrics(void *controllers, struct fl_buf *text)
{
    fl_metrics_registry_write(((struct fl_controllers *)controllers)->metrics, text);
}

/* Objects that exist by themselves */

static int apply(struct fl_controllers *controllers, const struct fl_gvr *gvr, const json_t *object,
                 struct fl_error *err)
{
    const struct fl_apply_options options = {.manager = FIELD_MANAGER, .force = true};

    return fl_apiclient_apply(controllers->client, gvr, object, &options, NULL, err);
}

static int ensure_namespace(struct fl_controllers *controllers, const char *name,
                            struct fl_error *err)
{
    FL_JSON object = json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "Namespace",
                               "metadata", "name", name);

    return apply(controllers, &fl_gvr_namespaces, object, err);
}

static int ensure_sealing_key(struct fl_controllers *controllers, struct fl_error *err)
{
    FL_JSON object = fl_seal_config_map(controllers->keys);

    return apply(controllers, &fl_gvr_configmaps, object, err);
}

/* By which everybody checks what was built here. */
static int ensure_signing_key(struct fl_controllers *controllers, struct fl_error *err)
{
    struct fl_signing_key key;
    char text[FL_PUBLIC_KEY_TEXT_SIZE];
    FL_JSON object = NULL;
    int r = fl_signing_key_load(controllers->common_build.signing_key, &key, err);

    if (r < 0)
        return r;
    fl_public_key_text(&key.public_key, text);
    fl_signing_key_wipe(&key);
    object = json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s}}", "apiVersion", "v1", "kind", "ConfigMap",
                       "metadata", "name", FL_SIGNING_CONFIG_MAP, "namespace", SYSTEM_NAMESPACE,
                       "data", FL_SIGNING_CONFIG_KEY, text);
    return apply(controllers, &fl_gvr_configmaps, object, err);
}

static int ensure_sync(struct fl_controllers *controllers, const char *name, json_t *spec,
                       struct fl_error *err)
{
    FL_JSON object =
        json_pack("{s:s, s:s, s:{s:s, s:s}, s:o}", "apiVersion", "flops.dev/v1alpha1", "kind",
                  "GitSync", "metadata", "name", name, "namespace", SYSTEM_NAMESPACE, "spec", spec);
    const struct fl_gvr gvr = fl_gvr_of(&fl_gitsync_type);

    return apply(controllers, &gvr, object, err);
}

/* A folder's name may have blanks and what else a URL must not have. */
static json_t *folder_url(struct fl_controllers *controllers, const char *folder)
{
    const char *url = "dir://", *rest = folder + 1, *step;

    while ((step = fl_str_next(controllers->arena, &rest, '/')))
        url = fl_arena_printf(controllers->arena, "%s/%s", url,
                              fl_url_encode(controllers->arena, step));
    return json_string(url);
}

static int ensure_syncs(struct fl_controllers *controllers, struct fl_error *err)
{
    const struct fl_controllers_options *options = controllers->options;
    int r = 0;

    if (options->manifests)
        r = ensure_sync(controllers, "manifests",
                        json_pack("{s:o, s:s}", "url", folder_url(controllers, options->manifests),
                                  "targetNamespace", "default"),
                        err);
    if (r == 0 && options->git_url) {
        json_t *spec =
            json_pack("{s:s, s:s}", "url", options->git_url, "targetNamespace", "default");

        if (options->git_branch)
            (void)json_object_set_new(spec, "ref",
                                      json_pack("{s:s}", "branch", options->git_branch));
        fl_json_set_str(spec, "path", options->git_path);
        r = ensure_sync(controllers, "git", spec, err);
    }
    return r;
}

static int ensure_objects(struct fl_controllers *controllers, struct fl_error *err)
{
    int r = ensure_namespace(controllers, SYSTEM_NAMESPACE, err);

    if (r == 0)
        r = ensure_namespace(controllers, FL_SEAL_NAMESPACE, err);
    if (r == 0)
        r = ensure_sealing_key(controllers, err);
    if (r == 0)
        r = ensure_signing_key(controllers, err);
    if (r == 0)
        r = fl_orchestrator_ensure_local(controllers->client, err);
    return r < 0 ? r : ensure_syncs(controllers, err);
}

/* Begin and end */

/* False when it is time to stop. */
static bool pause_beginning(struct fl_controllers *controllers)
{
    FL_LOCKED(controllers->lock);
    if (!controllers->stopping)
        (void)fl_signal_wait(controllers->halted, controllers->lock, PAUSE_MS);
    return !controllers->stopping;
}

static bool is_stopping(struct fl_controllers *controllers)
{
    FL_LOCKED(controllers->lock);
    return controllers->stopping;
}

/* On a thread of its own: each call needs the loop to turn. */
static void begin(void *user)
{
    struct fl_controllers *controllers = user;
    struct fl_error err = {0};
    int r = ensure_objects(controllers, &err);

    for (int i = 1; r < 0 && fl_error_is_retryable(r) && i < TRIES; i++) {
        if (!pause_beginning(controllers))
            return;
        r = ensure_objects(controllers, &err);
    }
    if (is_stopping(controllers))
        return;
    if (r == 0)
        r = fl_manager_start(controllers->manager, &err);
    if (r == 0)
        r = fl_tracking_start(controllers->tracking, &err);
    if (r < 0) {
        (void)fl_error_wrap(&err, "the control loops cannot begin");
        fail(controllers, &err);
    }
}

int fl_controllers_start(struct fl_controllers *controllers, struct fl_apiserver *server,
                         struct fl_error *err)
{
    struct fl_collector_options collector = {.env = controllers->options->env,
                                             .contents = controllers->options->contents,
                                             .repositories = controllers->options->repositories};
    int r = make_manager(controllers, server, err);

    collector.client = controllers->client;
    if (r == 0)
        r = fl_collector_start(&collector, &controllers->collector, err);
    return r < 0 ? r
                 : fl_thread_start("flops-begin", begin, controllers, &controllers->beginner, err);
}

static void report_stopped(void *user)
{
    struct fl_controllers *controllers = user;

    fl_thread_join(FL_TAKE(controllers->stopper));
    controllers->stopped(controllers->stopped_user);
}

static void stop(void *user)
{
    struct fl_controllers *controllers = user;

    fl_thread_join(FL_TAKE(controllers->beginner));
    fl_collector_stop(FL_TAKE(controllers->collector));
    if (controllers->manager)
        fl_manager_stop(controllers->manager);
    if (controllers->tracking)
        fl_tracking_stop(controllers->tracking);
    fl_oakestras_stop(controllers->oakestras);
    fl_loop_post(controllers->options->loop, report_stopped, controllers);
}

void fl_controllers_stop(struct fl_controllers *controllers, fl_loop_fn *done, void *user)
{
    struct fl_error err = {0};

    controllers->stopped = done;
    controllers->stopped_user = user;
    fl_lock_take(controllers->lock);
    controllers->stopping = true;
    fl_signal_all(controllers->halted);
    fl_lock_release(controllers->lock);
    if (fl_thread_start("flops-stop", stop, controllers, &controllers->stopper, &err) < 0) {
        fl_log_error(controllers->options->env->log, "stop", FL_STR("error", err.msg));
        done(user);
    }
}

void fl_controllers_destroy(struct fl_controllers *controllers)
{
    if (!controllers)
        return;
    fl_collector_stop(controllers->collector);
    if (controllers->code)
        controllers->code->ops->destroy(controllers->code);
    if (controllers->source) /* which tells the manager */
        controllers->source->ops->destroy(controllers->source);
    fl_federation_close(controllers->federation); /* which tells the manager, too */
    if (controllers->routers)                     /* and so does this one */
        controllers->routers->ops->destroy(controllers->routers);
    if (controllers->builder)
        controllers->builder->ops->destroy(controllers->builder);
    fl_manager_destroy(controllers->manager);
    fl_tracking_destroy(controllers->tracking);
    fl_imagebuild_controller_destroy(controllers->builds);
    fl_workload_controller_destroy(controllers->workloads);
    fl_orchestrator_controller_destroy(controllers->orchestrator);
    fl_flproject_controller_destroy(controllers->projects);
    fl_flround_controller_destroy(controllers->rounds);
    fl_modelversion_controller_destroy(controllers->versions);
    fl_inferenceserver_controller_destroy(controllers->servers);
    fl_gitsyncs_destroy(controllers->syncs);
    fl_workload_logs_destroy(controllers->logs);
    fl_build_logs_destroy(controllers->build_logs);
    fl_orchestrators_destroy(controllers->orchestrators);
    fl_oakestras_destroy(controllers->oakestras);
    fl_apiclient_destroy(controllers->client);
    fl_seal_keys_destroy(controllers->keys);
    fl_metrics_registry_destroy(controllers->metrics);
    free(controllers->registry_pem);
    fl_signal_destroy(controllers->halted);
    fl_lock_destroy(controllers->lock);
    free(controllers->identity);
    free(controllers->program);
    fl_arena_destroy(controllers->arena);
    free(controllers);
}
