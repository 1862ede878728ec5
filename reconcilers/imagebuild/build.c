#include "reconcilers/imagebuild/build.h"

#include "controller/source/checkout.h"
#include "lib/file.h"
#include "lib/folder.h"
#include "lib/oci/layout.h"
#include "lib/process.h"
#include "lib/str.h"

#include <inttypes.h>
#include <string.h>

#define KEPT_BYTES       ((int64_t)20 * 1024 * 1024 * 1024)
#define TIMEOUT_MS       ((int64_t)30 * 60 * 1000)
#define FETCH_TIMEOUT_MS ((int64_t)2 * 60 * 1000)

struct building {
    const struct fl_build *build;
    struct fl_arena *arena;
    struct fl_blobs *blobs;
    int lock;
    int64_t deadline_ms;
    struct fl_platform platforms[FL_BUILD_PLATFORMS_MAX];
    struct fl_compose_program programs[FL_BUILD_PLATFORMS_MAX];
    size_t program_count;
    const char *code; /* where it is on disk */
    int64_t epoch_s;
    struct fl_recipe recipe;
    const char *stage;
    bool timed_out;
    struct fl_built built;
};

static void begin(struct building *building, const char *stage, const char *message)
{
    const struct fl_compose_hooks *hooks = &building->build->hooks;

    building->stage = stage;
    if (hooks->stage)
        hooks->stage(hooks->user, stage, FL_STAGE_RUNNING, message);
}

static void end(struct building *building, const char *stage, int r, const struct fl_error *err)
{
    const struct fl_compose_hooks *hooks = &building->build->hooks;

    if (hooks->stage)
        hooks->stage(hooks->user, stage, r < 0 ? FL_STAGE_FAILED : FL_STAGE_DONE,
                     r < 0 && err ? err->msg : NULL);
}

static void log_line(const struct building *building, const char *line)
{
    if (building->build->log)
        building->build->log(building->build->hooks.user, line);
}

static bool keep_going(void *user)
{
    struct building *building = user;
    const struct fl_compose_hooks *hooks = &building->build->hooks;

    building->timed_out = fl_monotonic_ms(building->build->env) >= building->deadline_ms;
    return !building->timed_out && (!hooks->keep_going || hooks->keep_going(hooks->user));
}

static void on_stage(void *user, const char *name, enum fl_stage_state state, const char *message)
{
    struct building *building = user;
    const struct fl_compose_hooks *hooks = &building->build->hooks;

    building->stage = name;
    if (hooks->stage)
        hooks->stage(hooks->user, name, state, message);
}

/* What is there to begin with. */

static int open_folder(struct building *building, struct fl_error *err)
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

static int add_program(struct building *building, const struct fl_platform *platform)
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

static int read_platforms(struct building *building, struct fl_error *err)
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

static int fetch(struct building *building, struct fl_error *err)
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
        .timeout_ms = build->fetch_timeout_ms ? build->fetch_timeout_ms : FETCH_TIMEOUT_MS,
    };
    char digest[FL_DIGEST_SIZE];
    struct fl_checkout checkout = {.request = &request, .data_dir = build->data_dir};
    struct fl_checked_out out;
    int r;

    fl_digest_of(build->url, strlen(build->url), digest);
    checkout.dir =
        fl_arena_printf(building->arena, "%s/git/%.32s", build->folder, strchr(digest, ':') + 1);
    checkout.folder = fl_arena_printf(building->arena, "%s/checkout", build->folder);
    begin(building, "Fetch", build->url);
    r = fl_git_checkout(&checkout, building->arena, &out, err);
    end(building, "Fetch", r, err);
    if (r < 0)
        return r;
    building->code = checkout.folder;
    building->epoch_s = out.committed_s;
    building->built.commit = out.commit;
    return 0;
}

static int check(struct building *building, struct fl_error *err)
{
    const struct fl_build *build = building->build;
    const struct fl_recipe_options options = {.folder = building->code,
                                              .backend = build->backend,
                                              .lock_policy = build->lock_policy,
                                              .containerfile = build->containerfile};
    int r;

    begin(building, "Check", NULL);
    r = fl_recipe_find(&options, building->arena, &building->recipe, err);
    if (r == 0 && building->recipe.needs_buildah)
        r = fl_error_set(err, FL_E_INVALID,
                         "%s asks for the Buildah backend, which this version does not have: set "
                         "backend: Compose, or remove it",
                         building->recipe.containerfile);
    for (const char *const *note = building->recipe.notes; r == 0 && *note; note++)
        log_line(building, *note);
    end(building, "Check", r, err);
    return r;
}

static int get_code(struct building *building, struct fl_error *err)
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

static int compose(struct building *building, struct fl_error *err)
{
    const struct fl_build *build = building->build;
    const struct fl_compose composing = {
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
        .adapter = build->adapter,
        .model = build->model,
        .epoch_s = building->epoch_s,
        .url = build->url,
        .revision = building->built.commit,
        .packages = {.deadline_ms = building->deadline_ms,
                     .apt_sources = build->apt_sources,
                     .extra_env = build->packages_env},
        .hooks = {.stage = on_stage, .keep_going = keep_going, .user = building},
    };

    return fl_compose(&composing, building->arena, &building->built.composed, err);
}

static bool on_moved(void *user, const char *what, int64_t done, int64_t total)
{
    struct building *building = user;
    char message[64];

    (void)what;
    (void)snprintf(message, sizeof(message), "%" PRId64 " of %" PRId64 " MB", done / 1000000,
                   total / 1000000);
    on_stage(building, "Push", FL_STAGE_RUNNING, message);
    return keep_going(building);
}

static int push(struct building *building, struct fl_error *err)
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
        .total_ms = building->deadline_ms - fl_monotonic_ms(build->env),
    };
    const struct fl_registry_progress progress = {.moved = on_moved, .user = building};
    FL_CLEANUP(fl_registry_closep) struct fl_registry *registry = NULL;
    int r = fl_registry_open(&options, &registry, err);

    if (r == 0)
        r = fl_registry_push(registry, build->repository, NULL, &building->built.composed.root,
                             build->tags, build->tag_count, building->blobs, &progress,
                             &building->built.pushed, err);
    return r;
}

static int deliver(struct building *building, struct fl_error *err)
{
    const struct fl_build *build = building->build;
    int r = 0;

    begin(building, "Push", build->layout ? build->layout : build->registry);
    if (build->layout)
        r = fl_layout_write(build->layout, building->blobs, &building->built.composed.root,
                            build->tag_count > 0 ? build->tags[0] : NULL, err);
    else if (build->registry)
        r = push(building, err);
    end(building, "Push", r, err);
    return r;
}

static int run(struct building *building, struct fl_error *err)
{
    int r;

    begin(building, "Check", NULL);
    r = open_folder(building, err);
    if (r == 0)
        r = read_platforms(building, err);
    if (r == 0)
        r = get_code(building, err);
    if (r == 0)
        r = compose(building, err);
    if (r == 0)
        r = deliver(building, err);
    if (r < 0 && building->timed_out)
        r = fl_error_set(err, FL_E_TIMEOUT, "the build took longer than it may");
    return r;
}

int fl_build_run(const struct fl_build *build, struct fl_arena *arena, struct fl_built *ret_built,
                 const char **ret_stage, struct fl_error *err)
{
    struct building building = {
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
