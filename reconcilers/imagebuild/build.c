#include "reconcilers/imagebuild/build_internal.h"

#include "controller/source/checkout.h"
#include "lib/file.h"
#include "lib/folder.h"
#include "lib/oci/layout.h"
#include "lib/process.h"
#include "lib/str.h"
#include "reconcilers/imagebuild/build_kept.h"

#include <inttypes.h>
#include <string.h>

#define KEPT_BYTES       ((int64_t)20 * 1024 * 1024 * 1024)
#define TIMEOUT_MS       ((int64_t)30 * 60 * 1000)
#define FETCH_TIMEOUT_MS ((int64_t)2 * 60 * 1000)

void fl_build_begin(struct fl_building *building, const char *stage, const char *message)
{
    const struct fl_compose_hooks *hooks = &building->build->hooks;

    building->stage = stage;
    if (hooks->stage)
        hooks->stage(hooks->user, stage, FL_STAGE_RUNNING, message);
}

void fl_build_end(struct fl_building *building, const char *stage, int r,
                  const struct fl_error *err)
{
    const struct fl_compose_hooks *hooks = &building->build->hooks;

    if (hooks->stage)
        hooks->stage(hooks->user, stage, r < 0 ? FL_STAGE_FAILED : FL_STAGE_DONE,
                     r < 0 && err ? err->msg : NULL);
}

void fl_build_log(const struct fl_building *building, const char *line)
{
    if (building->build->log)
        building->build->log(building->build->hooks.user, line);
}

static int64_t left_ms(const struct fl_building *building)
{
    return building->deadline_ms - fl_monotonic_ms(building->build->env);
}

/* At most `most`, and never none, which others take for no limit. */
static int64_t timeout_of(const struct fl_building *building, int64_t most_ms)
{
    int64_t ms = left_ms(building) < most_ms ? left_ms(building) : most_ms;

    return ms > 0 ? ms : 1;
}

bool fl_build_keep_going(void *user)
{
    struct fl_building *building = user;
    const struct fl_compose_hooks *hooks = &building->build->hooks;

    return left_ms(building) > 0 && (!hooks->keep_going || hooks->keep_going(hooks->user));
}

static void on_stage(void *user, const char *name, enum fl_stage_state state, const char *message)
{
    struct fl_building *building = user;
    const struct fl_compose_hooks *hooks = &building->build->hooks;

    building->stage = name;
    if (hooks->stage)
        hooks->stage(hooks->user, name, state, message);
}

/* What is there to begin with. */

static int open_folder(struct fl_building *building, struct fl_error *err)
{
    const struct fl_build *build = building->build;
    struct fl_blobs_options options = {
        .env = build->env,
        .path = fl_arena_printf(building->arena, "%s/content", build->folder),
        .max_bytes = build->kept_bytes ? build->kept_bytes : KEPT_BYTES,
    };
    int r = fl_dir_ensure(build->folder, 0700, err);

    if (r == 0)
        r = fl_file_lock(fl_arena_printf(building->arena, "%s/lock", build->folder),
                         &building->lock, err);
    if (r < 0)
        return fl_error_wrap(err, "another build is under way");
    return fl_blobs_open(&options, &building->blobs, err);
}

static int add_program(struct fl_building *building, const struct fl_platform *platform)
{
    const struct fl_build *build = building->build;
    const struct fl_platform here = fl_platform_of_machine();
    const char *path = NULL;

    if (fl_platform_fits(&here, platform))
        path = build->program;
    else if (build->programs)
        path = fl_arena_printf(building->arena, "%s/%s-%s/flops", build->programs, platform->os,
                               platform->architecture);
    if (path && fl_path_exists(path))
        building->programs[building->program_count++] =
            (struct fl_compose_program){.platform = *platform, .path = path};
    return 0;
}

static int read_platforms(struct fl_building *building, struct fl_error *err)
{
    const struct fl_build *build = building->build;
    int r = 0;

    for (size_t i = 0; r == 0 && i < build->platform_count; i++) {
        r = fl_platform_parse(building->arena, build->platforms[i], &building->platforms[i], err);
        if (r == 0)
            r = add_program(building, &building->platforms[i]);
    }
    return r;
}

/* The code. */

static int fetch(struct fl_building *building, struct fl_error *err)
{
    const struct fl_build *build = building->build;
    const struct fl_source_request request = {
        .url = build->url,
        .commit = build->commit,
        .path = build->path,
        .username = build->username,
        .password = build->password,
        .identity = build->identity,
        .known_hosts = build->known_hosts,
        .ca_pem = build->ca_pem,
        .timeout_ms = timeout_of(building, build->fetch_timeout_ms ? build->fetch_timeout_ms
                                                                   : FETCH_TIMEOUT_MS),
    };
    char digest[FL_DIGEST_SIZE];
    struct fl_checkout checkout = {.request = &request, .data_dir = build->data_dir};
    struct fl_checked_out out;
    int r;

    fl_digest_of(build->url, strlen(build->url), digest);
    checkout.dir =
        fl_arena_printf(building->arena, "%s/git/%.32s", build->folder, strchr(digest, ':') + 1);
    checkout.folder = fl_arena_printf(building->arena, "%s/checkout", build->folder);
    fl_build_begin(building, "Fetch", build->url);
    r = fl_git_checkout(&checkout, building->arena, &out, err);
    fl_build_end(building, "Fetch", r, err);
    if (r < 0)
        return r;
    building->code = checkout.folder;
    building->epoch_s = out.committed_s;
    building->built.commit = out.commit;
    return 0;
}

static int check(struct fl_building *building, struct fl_error *err)
{
    const struct fl_build *build = building->build;
    const struct fl_recipe_options options = {.folder = building->code,
                                              .backend = build->backend,
                                              .lock_policy = build->lock_policy,
                                              .containerfile = build->containerfile,
                                              .has_base = build->base_image != NULL};
    int r;

    fl_build_begin(building, "Check", NULL);
    r = fl_recipe_find(&options, building->arena, &building->recipe, err);
    for (const char *const *note = building->recipe.notes; r == 0 && *note; note++)
        fl_build_log(building, *note);
    fl_build_end(building, "Check", r, err);
    return r;
}

static int get_code(struct fl_building *building, struct fl_error *err)
{
    const struct fl_build *build = building->build;
    int r = 0;

    building->epoch_s = fl_realtime_us(build->env) / 1000000;
    if (build->target != FL_IMAGEBUILD_TARGET_LEARNER) {
        building->epoch_s = 0;
        return 0;
    }
    building->code = build->code;
    if (!building->code)
        r = fetch(building, err);
    else
        building->epoch_s = 0; /* of a folder nobody knows when it was made */
    return r == 0 ? check(building, err) : r;
}

/* The image. */

/* What was built before is there with all its parts; a commit stays what it is. */
static bool find_kept(struct fl_building *building)
{
    const struct fl_build *build = building->build;
    const struct fl_compose_hooks *hooks = &build->hooks;
    struct fl_build_kept kept;

    if (build->anew ||
        !fl_build_kept_get(build, building->built.key, building->blobs, building->arena, &kept))
        return false;
    building->built.composed = kept.composed;
    building->built.backend = kept.backend;
    building->built.commit = build->commit;
    building->built.is_kept = true;
    building->recipe.file = kept.lock_file;
    building->epoch_s = kept.epoch_s;
    if (hooks->stage)
        hooks->stage(hooks->user, "Check", FL_STAGE_CACHED, NULL);
    fl_build_log(building, "the same was built before: it is taken as it is");
    return true;
}

static int keep(struct fl_building *building, struct fl_error *err)
{
    const struct fl_build_kept kept = {.composed = building->built.composed,
                                       .backend = building->built.backend,
                                       .lock_file = building->recipe.file,
                                       .epoch_s = building->epoch_s};

    return fl_build_kept_put(building->build, building->built.key, &kept, building->blobs, err);
}

struct fl_compose fl_build_composing(struct fl_building *building)
{
    const struct fl_build *build = building->build;

    return (struct fl_compose){
        .env = build->env,
        .folder = build->folder,
        .blobs = building->blobs,
        .target = build->target,
        .platforms = building->platforms,
        .platform_count = build->platform_count,
        .programs = building->programs,
        .program_count = building->program_count,
        .code = building->code,
        .recipe = &building->recipe,
        .bases = building->has_bases ? building->bases : NULL,
        .dependencies = building->has_dependencies ? building->dependencies : NULL,
        .adapter = build->adapter,
        .model = build->model,
        .epoch_s = building->epoch_s,
        .url = build->url,
        .revision = building->built.commit,
        .packages = {.deadline_ms = building->deadline_ms,
                     .apt_sources = build->apt_sources,
                     .extra_env = build->packages_env},
        .hooks = {.stage = on_stage, .keep_going = fl_build_keep_going, .user = building},
    };
}

static int compose_once(struct fl_building *building, struct fl_error *err)
{
    const struct fl_compose composing = fl_build_composing(building);

    return fl_compose(&composing, building->arena, &building->built.composed, err);
}

static int compose(struct fl_building *building, struct fl_error *err)
{
    int r = compose_once(building, err);

    if (!fl_build_must_compile(building, r, err))
        return r;
    fl_build_log(building, err->msg);
    fl_build_begin(building, "Build", building->recipe.file);
    r = fl_build_compile(building, err);
    fl_build_end(building, "Build", r, err);
    return r < 0 ? r : compose_once(building, err);
}

static bool on_moved(void *user, const char *what, int64_t done, int64_t total)
{
    struct fl_building *building = user;
    char message[64];

    (void)what;
    (void)snprintf(message, sizeof(message), "%" PRId64 " of %" PRId64 " MB", done / 1000000,
                   total / 1000000);
    on_stage(building, "Push", FL_STAGE_RUNNING, message);
    return fl_build_keep_going(building);
}

static const char *const target_names[] = {
    [FL_IMAGEBUILD_TARGET_LEARNER] = "Learner",
    [FL_IMAGEBUILD_TARGET_AGGREGATOR] = "Aggregator",
    [FL_IMAGEBUILD_TARGET_INFERENCE_SERVER] = "InferenceServer",
};
static const char *const policy_names[] = {
    [FL_IMAGEBUILD_LOCK_POLICY_REQUIRE] = "Require",
    [FL_IMAGEBUILD_LOCK_POLICY_PREFER] = "Prefer",
    [FL_IMAGEBUILD_LOCK_POLICY_SOLVE] = "Solve",
};

/* The key is read when all that strangers wrote has been unpacked. */
static int attest(struct fl_building *building, struct fl_registry *registry, struct fl_error *err)
{
    const struct fl_build *build = building->build;
    struct fl_built *built = &building->built;
    bool is_learner = build->target == FL_IMAGEBUILD_TARGET_LEARNER;
    const struct fl_attest attest = {
        .name = fl_arena_printf(building->arena, "%s/%s", build->registry, build->repository),
        .version = build->version,
        .backend = built->backend,
        .target = target_names[build->target],
        .lock_policy = is_learner ? policy_names[build->lock_policy] : NULL,
        .url = build->url,
        .commit = built->commit,
        .path = build->path,
        .lock_file = building->recipe.file,
        .containerfile = build->containerfile,
        .base_image = build->base_image,
        .args = build->args,
        .key = built->key,
        .epoch_s = building->epoch_s,
        .composed = &built->composed,
    };
    struct fl_signing_key key;
    int r = build->signing_key ? fl_signing_key_load(build->signing_key, &key, err) : 0;

    if (r == 0)
        r = fl_attest_put(&attest, build->signing_key ? &key : NULL, building->blobs,
                          building->arena, &built->attestations, err);
    if (build->signing_key)
        fl_signing_key_wipe(&key);
    return r < 0 ? r
                 : fl_attest_push(&built->attestations, registry, build->repository,
                                  building->blobs, err);
}

static int push(struct fl_building *building, struct fl_error *err)
{
    const struct fl_build *build = building->build;
    const struct fl_registry_options options = {
        .env = build->env,
        .host = build->registry,
        .plain_http = build->registry_plain_http,
        .insecure = build->registry_insecure,
        .ca_pem = build->registry_ca_pem,
        .username = build->registry_username,
        .password = build->registry_password,
        .total_ms = timeout_of(building, INT64_MAX),
    };
    const struct fl_registry_progress progress = {.moved = on_moved, .user = building};
    FL_CLEANUP(fl_registry_closep) struct fl_registry *registry = NULL;
    int r = fl_registry_open(&options, &registry, err);

    if (r == 0)
        r = fl_registry_push(registry, build->repository, NULL, &building->built.composed.root,
                             build->tags, build->tag_count, building->blobs, &progress,
                             &building->built.pushed, err);
    return r < 0 ? r : attest(building, registry, err);
}

static int deliver(struct fl_building *building, struct fl_error *err)
{
    const struct fl_build *build = building->build;
    int r = 0;

    fl_build_begin(building, "Push", build->layout ? build->layout : build->registry);
    if (build->layout)
        r = fl_layout_write(build->layout, building->blobs, &building->built.composed.root,
                            build->tag_count > 0 ? build->tags[0] : NULL, err);
    else if (build->registry)
        r = push(building, err);
    fl_build_end(building, "Push", r, err);
    return r;
}

static int build_image(struct fl_building *building, struct fl_error *err)
{
    int r = get_code(building, err);

    if (r == 0)
        r = fl_build_make_bases(building, err);
    if (r == 0)
        r = compose(building, err);
    return r < 0 ? r : keep(building, err);
}

/* Whatever broke when the time was over, that it was over is what there is to know. */
static int say_if_late(const struct fl_building *building, int r, struct fl_error *err)
{
    struct fl_error failed;

    if (!err || left_ms(building) > 0)
        return r;
    failed = *err;
    return fl_error_set(err, FL_E_TIMEOUT, "the build took longer than it may: %s", failed.msg);
}

static int run(struct fl_building *building, struct fl_error *err)
{
    int r;

    building->stage = "Check";
    r = open_folder(building, err);
    if (r == 0)
        r = read_platforms(building, err);
    if (r == 0)
        r = fl_build_key(building->build, building->programs, building->program_count,
                         building->arena, &building->built.key, err);
    if (r == 0 && !find_kept(building))
        r = build_image(building, err);
    if (r == 0)
        r = deliver(building, err);
    return r < 0 ? say_if_late(building, r, err) : 0;
}

int fl_build_run(const struct fl_build *build, struct fl_arena *arena, struct fl_built *ret_built,
                 const char **ret_stage, struct fl_error *err)
{
    struct fl_building building = {
        .build = build,
        .arena = arena,
        .lock = -1,
        .deadline_ms =
            fl_monotonic_ms(build->env) + (build->timeout_ms ? build->timeout_ms : TIMEOUT_MS),
        .built = {.backend = "Compose"},
    };
    int r = run(&building, err);

    if (ret_stage)
        *ret_stage = building.stage;
    fl_blobs_close(building.blobs);
    fl_file_unlockp(&building.lock);
    if (r == 0)
        *ret_built = building.built;
    return r;
}
