/* Dependencies that come about by running what strangers wrote: in a container of buildah's, by
 * pip, with Containerfiles that are made here. */
#include "reconcilers/imagebuild/build_internal.h"

#include "lib/buf.h"
#include "lib/file.h"
#include "lib/folder.h"
#include "lib/str.h"

#include <string.h>

#define REQUIREMENTS "requirements.txt"
#define SECRETS      "--mount=type=secret,id=pip --mount=type=secret,id=ca"
/* pip with the settings that are there only while it runs; there may be no shell, and no env. */
#define PIP                                                                                        \
    "\"python3\", \"-c\", \"import os, runpy; os.environ['PIP_CONFIG_FILE'] = "                    \
    "'/run/secrets/pip'; "                                                                         \
    "runpy.run_module('pip', run_name='__main__')\""

/* What builds of extension modules need, beside what the base has. */
static const char *const tools[] = {"coreutils", "dash",        "grep",        "sed",
                                    "tar",       "g++",         "gcc",         "libc6-dev",
                                    "make",      "python3-dev", "python3-pip", NULL};

/* What is to be installed, in a folder of its own: so a change of code changes nothing there. */

static int copy_file(const char *from, const char *to, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    int r = fl_file_read(from, (size_t)4 * 1024 * 1024, &text, err);

    return r < 0 ? r : fl_file_write(to, text->data, text->len, 0644, err);
}

static const char *in_context(const struct fl_building *building, const char *name)
{
    return fl_arena_printf(building->arena, "%s/generated/%s", building->build->folder, name);
}

static int write_requirements(struct fl_building *building, struct fl_error *err)
{
    const struct fl_recipe *recipe = &building->recipe;
    const char *to = in_context(building, REQUIREMENTS), *text = "";

    switch (recipe->lock) {
    case FL_LOCK_PROJECT:
        to = in_context(building, "pyproject.toml");
        break;
    case FL_LOCK_PYLOCK:
        return fl_error_set(err, FL_E_INVALID,
                            "%s: nothing is compiled from a lock; a requirements.txt with hashes "
                            "can be",
                            recipe->file);
    case FL_LOCK_CONDA:
        text = recipe->requirements;
        return fl_file_write(to, text, strlen(text), 0644, err);
    case FL_LOCK_NONE:
        return fl_file_write(to, text, 0, 0644, err);
    default:
        break;
    }
    return copy_file(fl_arena_printf(building->arena, "%s/%s", building->code, recipe->file), to,
                     err);
}

/* pip's settings that mean something elsewhere, too; addresses may hold passwords. */
static int write_pip_settings(struct fl_building *building, const char *path, struct fl_error *err)
{
    static const char *const names[][2] = {{"PIP_INDEX_URL=", "index-url"},
                                           {"PIP_EXTRA_INDEX_URL=", "extra-index-url"},
                                           {"PIP_TRUSTED_HOST=", "trusted-host"},
                                           {"PIP_RETRIES=", "retries"},
                                           {"PIP_DEFAULT_TIMEOUT=", "timeout"}};
    struct fl_buf text;
    int r;

    fl_buf_init(&text, 0);
    fl_buf_puts(&text, "[global]\ncert = /run/secrets/ca\ndisable-pip-version-check = true\n"
                       "break-system-packages = true\nprogress-bar = off\n");
    for (const char *const *entry = building->build->packages_env; entry && *entry; entry++)
        for (size_t i = 0; i < FL_COUNT_OF(names); i++)
            if (fl_str_has_prefix(*entry, names[i][0]) && !strchr(*entry, '\n'))
                fl_buf_printf(&text, "%s = %s\n", names[i][1], *entry + strlen(names[i][0]));
    r = fl_file_write(path, text.data, text.len, 0600, err);
    fl_buf_finish(&text);
    return r;
}

/* The machine's certificates: its own may be among them. */
static const char *certificates(const struct fl_building *building)
{
    static const char *const names[] = {"PIP_CERT=", "SSL_CERT_FILE="};
    const char *const *env = building->build->packages_env;

    for (size_t i = 0; i < FL_COUNT_OF(names); i++)
        for (const char *const *entry = env; entry && *entry; entry++)
            if (fl_str_has_prefix(*entry, names[i]) && fl_path_exists(*entry + strlen(names[i])))
                return *entry + strlen(names[i]);
    return "/etc/ssl/certs/ca-certificates.crt";
}

/* pip reads no pyproject.toml without building it. */
static const char read_project[] =
    "RUN [\"python3\", \"-c\", \"import tomllib; document = tomllib.load(open("
    "'/opt/flops/build/pyproject.toml', 'rb')); open('/opt/flops/build/" REQUIREMENTS
    "', 'w').write('\\\\n'.join(document.get('project', {}).get('dependencies', [])))\"]\n";

static void say_copy(const struct fl_building *building, struct fl_buf *text)
{
    bool is_project = building->recipe.lock == FL_LOCK_PROJECT;

    fl_buf_printf(text, "COPY %s /opt/flops/build/\n",
                  is_project ? "pyproject.toml" : REQUIREMENTS);
    if (is_project)
        fl_buf_puts(text, read_project);
}

static int write_containerfile(struct fl_building *building, const struct fl_buf *text,
                               const char **ret_path, struct fl_error *err)
{
    *ret_path =
        fl_arena_printf(building->arena, "%s/generated.Containerfile", building->build->folder);
    return fl_file_write(*ret_path, text->data, text->len, 0644, err);
}

static int prepare(struct fl_building *building, const struct fl_buf *text,
                   struct fl_buildah_build *job, struct fl_error *err)
{
    const char *settings =
        fl_arena_printf(building->arena, "%s/generated.pip", building->build->folder);
    int r;

    *job = (struct fl_buildah_build){
        .context = fl_arena_printf(building->arena, "%s/generated", building->build->folder),
        .epoch_s = 0,
        .name = fl_arena_printf(building->arena, "%s-d", fl_build_cache_name(building)),
        .secrets = {{"pip", settings}, {"ca", certificates(building)}},
        .secret_count = 2,
    };
    r = fl_dir_remove(job->context, err);
    if (r == 0)
        r = fl_dir_ensure(job->context, 0700, err);
    if (r == 0)
        r = write_requirements(building, err);
    if (r == 0)
        r = write_pip_settings(building, settings, err);
    if (r == 0)
        r = write_containerfile(building, text, &job->containerfile, err);
    return r;
}

static int run_all(struct fl_building *building, struct fl_buildah *buildah,
                   struct fl_buildah_build *job, const char *name,
                   const struct fl_oci_descriptor *bases, struct fl_oci_descriptor *ret_images,
                   struct fl_error *err)
{
    struct fl_oci_taken taken;
    int r = 0;

    for (size_t i = 0; r == 0 && i < building->build->platform_count; i++) {
        job->platform = &building->platforms[i];
        job->bases[0] = (struct fl_buildah_base){name, bases[i]};
        job->base_count = 1;
        r = fl_buildah_build(buildah, job, building->arena, &taken, err);
        if (r == 0)
            ret_images[i] = taken.root;
    }
    return r;
}

/* Into the base image, by its own pip. */

/* Whom the image runs as, who need not be permitted to install anything. */
static int user_of(struct fl_building *building, const struct fl_oci_descriptor *image,
                   const char **ret_user, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL, *config_text = NULL;
    struct fl_oci_manifest manifest = {0};
    struct fl_oci_config config = {0};
    int r = fl_oci_load_blob(building->blobs, image, &text, err);

    if (r == 0)
        r = fl_oci_manifest_parse(building->arena, text->data, text->len, NULL, &manifest, err);
    if (r == 0)
        r = fl_oci_load_blob(building->blobs, &manifest.config, &config_text, err);
    if (r == 0)
        r = fl_oci_config_parse(building->arena, config_text->data, config_text->len, &config, err);
    if (r == 0)
        *ret_user = config.user;
    return r;
}

static void say_install(const struct fl_building *building, const char *user, struct fl_buf *text)
{
    fl_buf_puts(text, "FROM " FL_BUILD_BASE_NAME "\n");
    if (user)
        fl_buf_puts(text, "USER 0:0\n");
    say_copy(building, text);
    fl_buf_puts(text,
                "RUN " SECRETS " [" PIP ", \"install\", \"--no-cache-dir\", \"--no-compile\", "
                "\"-r\", \"/opt/flops/build/" REQUIREMENTS "\"]\n");
    if (user)
        fl_buf_printf(text, "USER %s\n", user);
}

/* A name that would be another line. */
static bool is_odd(const char *user)
{
    return user && user[strcspn(user, " \t\r\n\\\"'$")] != '\0';
}

int fl_build_install(struct fl_building *building, struct fl_buildah *buildah, struct fl_error *err)
{
    struct fl_buildah_build job;
    const char *user = NULL;
    struct fl_buf text;
    int r = user_of(building, &building->bases[0], &user, err);

    if (r == 0 && is_odd(user))
        r = fl_error_set(err, FL_E_INVALID, "the base image's user is no name");
    if (r < 0)
        return r;
    fl_buf_init(&text, 0);
    say_install(building, user, &text);
    r = prepare(building, &text, &job, err);
    if (r == 0)
        r = run_all(building, buildah, &job, FL_BUILD_BASE_NAME, building->bases, building->bases,
                    err);
    fl_buf_finish(&text);
    return r;
}

/* Compiled: the result is a layer, and who compiled it is not in the image. */

static int compose_tools(struct fl_building *building, struct fl_oci_descriptor *ret_manifests,
                         struct fl_error *err)
{
    struct fl_compose composing = fl_build_composing(building);
    struct fl_composed composed;
    int r;

    composing.only_base_with = tools;
    r = fl_compose(&composing, building->arena, &composed, err);
    for (size_t i = 0; r == 0 && i < composed.platform_count; i++)
        r = fl_build_choose(building, &composed.root, &building->platforms[i], &ret_manifests[i],
                            err);
    return r < 0 ? fl_error_wrap(err, "the compilers") : 0;
}

static void say_compile(struct fl_building *building, struct fl_buf *text)
{
    fl_buf_puts(text, "FROM flops-tools AS tools\nUSER 0:0\nENV CC=gcc CXX=g++\n");
    say_copy(building, text);
    fl_buf_puts(text,
                "RUN " SECRETS " [" PIP
                ", \"install\", \"--no-cache-dir\", \"--no-compile\", \"--ignore-installed\", "
                "\"--break-system-packages\", \"--root\", \"/out\", \"-r\", "
                "\"/opt/flops/build/" REQUIREMENTS "\"");
    if (building->recipe.lock != FL_LOCK_HASHED) /* where all must have hashes, it must be there */
        fl_buf_puts(text, ", \"numpy\"");
    fl_buf_puts(text, "]\nFROM scratch\nCOPY --from=tools /out/ /\n");
}

int fl_build_compile(struct fl_building *building, struct fl_error *err)
{
    FL_CLEANUP(fl_buildah_closep) struct fl_buildah *buildah = NULL;
    struct fl_oci_descriptor manifests[FL_BUILD_PLATFORMS_MAX];
    struct fl_buildah_build job;
    struct fl_buf text;
    int r;

    fl_buf_init(&text, 0);
    say_compile(building, &text);
    r = fl_build_open_buildah(building, &buildah, err);
    if (r == 0)
        r = prepare(building, &text, &job, err);
    if (r == 0)
        r = compose_tools(building, manifests, err);
    if (r == 0)
        r = run_all(building, buildah, &job, "flops-tools", manifests, building->dependencies, err);
    building->has_dependencies = r == 0;
    fl_buf_finish(&text);
    return r;
}

/* What is said of a package that has no wheel at all. A version
 * that is not there is named among others, and no compiler would find it. */
bool fl_build_must_compile(const struct fl_building *building, int r, const struct fl_error *err)
{
    return r == FL_E_INVALID && err && building->build->backend == FL_IMAGEBUILD_BACKEND_AUTO &&
           !building->has_dependencies && !building->has_bases &&
           fl_streq(building->stage, "Resolve") && strstr(err->msg, FL_NO_WHEEL);
}
