/* What an image stands on, where that is not composed: what a Containerfile makes, or an image that
 * is there already. */
#include "reconcilers/imagebuild/build_internal.h"

#include "lib/str.h"

#include <ctype.h>
#include <string.h>

/* An image of somebody else. */

static int open_registry(struct fl_building *building, const struct fl_image_reference *reference,
                         struct fl_registry **ret_registry, struct fl_error *err)
{
    const struct fl_build *build = building->build;
    bool is_ours = fl_streq(reference->registry, build->registry);
    const struct fl_registry_options options = {
        .env = build->env,
        .host = reference->registry,
        .plain_http = is_ours && build->registry_plain_http,
        .insecure = is_ours && build->registry_insecure,
        .ca_pem = is_ours ? build->registry_ca_pem : NULL,
        .username = is_ours ? build->registry_username : NULL,
        .password = is_ours ? build->registry_password : NULL,
        .total_ms = building->deadline_ms - fl_monotonic_ms(build->env),
    };

    return fl_registry_open(&options, ret_registry, err);
}

static int parse_base(struct fl_building *building, struct fl_image_reference *ret_reference,
                      struct fl_error *err)
{
    int r =
        fl_image_reference_parse(building->arena, building->build->base_image, ret_reference, err);

    if (r == 0 && !ret_reference->registry)
        r = fl_error_set(err, FL_E_INVALID, "it needs its registry: HOST[:PORT]/NAME[:TAG]");
    return r;
}

static bool is_going_on(void *user, const char *what, int64_t done, int64_t total)
{
    (void)what, (void)done, (void)total;
    return fl_build_keep_going(user);
}

int fl_build_choose(struct fl_building *building, const struct fl_oci_descriptor *root,
                    const struct fl_platform *platform, struct fl_oci_descriptor *ret_manifest,
                    struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    const struct fl_oci_descriptor *chosen;
    struct fl_oci_manifest manifest = {0};
    int r = fl_oci_load_blob(building->blobs, root, &text, err);

    if (r == 0)
        r = fl_oci_manifest_parse(building->arena, text->data, text->len, NULL, &manifest, err);
    if (r < 0)
        return r;
    if (!manifest.is_index) {
        *ret_manifest = *root;
        return 0;
    }
    chosen = fl_oci_index_choose(&manifest, platform, err);
    if (!chosen)
        return err ? err->code : FL_E_NOT_FOUND;
    *ret_manifest = *chosen;
    return 0;
}

static int pull(struct fl_building *building, struct fl_error *err)
{
    const struct fl_registry_progress progress = {.moved = is_going_on, .user = building};
    FL_CLEANUP(fl_registry_closep) struct fl_registry *registry = NULL;
    struct fl_image_reference reference;
    struct fl_oci_taken taken;
    int r = parse_base(building, &reference, err);

    if (r == 0)
        r = open_registry(building, &reference, &registry, err);
    if (r == 0)
        r = fl_registry_pull(registry, &reference, building->platforms,
                             building->build->platform_count, building->blobs, &progress,
                             building->arena, &taken, err);
    for (size_t i = 0; r == 0 && i < building->build->platform_count; i++)
        r = fl_build_choose(building, &taken.root, &building->platforms[i], &building->bases[i],
                            err);
    return r < 0 ? fl_error_wrap(err, "baseImage %s", building->build->base_image) : 0;
}

/* A Containerfile. */

static int check_args(const struct fl_build *build, struct fl_error *err)
{
    size_t count = 0;

    for (const char *const *arg = build->args; arg && *arg; arg++) {
        const char *at = *arg;

        while (isalnum((unsigned char)*at) || *at == '_')
            at++;
        if (at == *arg || isdigit((unsigned char)**arg) || *at != '=')
            return fl_error_set(err, FL_E_INVALID, "args: \"%.*s\" is no name of an argument",
                                (int)strcspn(*arg, "="), *arg);
        if (++count > FL_BUILDAH_ARGS_MAX)
            return fl_error_set(err, FL_E_INVALID, "args: more than %d", FL_BUILDAH_ARGS_MAX);
    }
    return 0;
}

static void on_line(void *user, const char *line)
{
    fl_build_log(user, line);
}

/* Builds of the same code share caches. */
const char *fl_build_cache_name(const struct fl_building *building)
{
    const struct fl_build *build = building->build;
    const char *text = fl_arena_printf(building->arena, "%s\n%s\n%s", fl_str_or(build->url, ""),
                                       fl_str_or(build->path, ""), fl_str_or(build->code, ""));
    char digest[FL_DIGEST_SIZE];

    fl_digest_of(text, strlen(text), digest);
    return fl_arena_printf(building->arena, "c%.24s", strchr(digest, ':') + 1);
}

int fl_build_open_buildah(struct fl_building *building, struct fl_buildah **ret_buildah,
                          struct fl_error *err)
{
    const struct fl_build *build = building->build;
    const struct fl_buildah_options options = {
        .env = build->env,
        .folder = fl_arena_printf(building->arena, "%s/buildah", build->folder),
        .blobs = building->blobs,
        .extra_env = build->packages_env,
        .deadline_ms = building->deadline_ms,
        .line = on_line,
        .keep_going = fl_build_keep_going,
        .user = building,
    };

    building->built.backend = "Buildah";
    return fl_buildah_open(&options, ret_buildah, err);
}

static int run_containerfile(struct fl_building *building, struct fl_buildah *buildah,
                             struct fl_error *err)
{
    const struct fl_build *build = building->build;
    struct fl_buildah_build job = {
        .context = building->code,
        .containerfile = fl_arena_printf(building->arena, "%s/%s", building->code,
                                         building->recipe.containerfile),
        .args = build->args,
        .epoch_s = building->epoch_s,
        .name = fl_build_cache_name(building),
    };
    struct fl_oci_taken taken;
    int r = 0;

    for (size_t i = 0; r == 0 && i < build->platform_count; i++) {
        job.platform = &building->platforms[i];
        if (build->base_image) {
            job.base_image = FL_BUILD_BASE_NAME;
            job.bases[0] = (struct fl_buildah_base){FL_BUILD_BASE_NAME, building->bases[i]};
            job.base_count = 1;
        }
        r = fl_buildah_build(buildah, &job, building->arena, &taken, err);
        building->bases[i] = taken.root;
    }
    return r;
}

static int build_containerfile(struct fl_building *building, struct fl_error *err)
{
    FL_CLEANUP(fl_buildah_closep) struct fl_buildah *buildah = NULL;
    int r = check_args(building->build, err);

    if (r == 0)
        r = fl_build_open_buildah(building, &buildah, err);
    if (r < 0)
        return r;
    return building->recipe.containerfile ? run_containerfile(building, buildah, err)
                                          : fl_build_install(building, buildah, err);
}

/* Something is run: the user's Containerfile, or what puts dependencies into the base image. */
static bool runs_something(const struct fl_building *building)
{
    const struct fl_recipe *recipe = &building->recipe;

    return recipe->containerfile ||
           (recipe->needs_buildah && building->build->base_image && recipe->lock != FL_LOCK_NONE);
}

static int compile(struct fl_building *building, struct fl_error *err)
{
    int r;

    fl_build_begin(building, "Build", building->recipe.file);
    r = fl_build_compile(building, err);
    fl_build_end(building, "Build", r, err);
    return r;
}

int fl_build_make_bases(struct fl_building *building, struct fl_error *err)
{
    const struct fl_build *build = building->build;
    bool runs = runs_something(building);
    int r = 0;

    if (!runs && !build->base_image)
        return building->recipe.needs_buildah ? compile(building, err) : 0;
    fl_build_begin(building, "Build", runs ? building->recipe.containerfile : build->base_image);
    if (build->base_image)
        r = pull(building, err);
    if (r == 0 && runs)
        r = build_containerfile(building, err);
    building->has_bases = r == 0;
    fl_build_end(building, "Build", r, err);
    return r;
}
