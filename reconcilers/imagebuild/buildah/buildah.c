#include "reconcilers/imagebuild/buildah/buildah_internal.h"

#include "lib/file.h"
#include "lib/folder.h"
#include "lib/machine.h"
#include "lib/oci/layout.h"
#include "lib/oci/overlay.h"
#include "lib/process.h"
#include "lib/str.h"
#include "reconcilers/imagebuild/buildah/containerfile.h"

#include <inttypes.h>
#include <string.h>

#define USUAL_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define ENV_MAX    32

/* Opening. */

static const char *on_path(const struct fl_buildah *buildah, const char *name)
{
    const char *rest = fl_str_or(buildah->options.path, USUAL_PATH);

    while (rest) {
        const char *folder = fl_str_next(buildah->arena, &rest, ':');
        const char *path = fl_arena_printf(buildah->arena, "%s/%s", folder, name);

        if (*folder == '/' && fl_path_is_executable(path))
            return path;
    }
    return NULL;
}

static const char *below(const struct fl_buildah *buildah, const char *name)
{
    return fl_arena_printf(buildah->arena, "%s/%s", buildah->options.folder, name);
}

static int find_programs(struct fl_buildah *buildah, struct fl_error *err)
{
    const struct {
        const char *name, *package, **path;
    } programs[] = {{"buildah", "buildah", &buildah->program},
                    {"setpriv", "util-linux", &buildah->setpriv},
                    {"unshare", "util-linux", &buildah->unshare}};

    for (size_t i = 0; i < FL_COUNT_OF(programs); i++) {
        *programs[i].path = on_path(buildah, programs[i].name);
        if (!*programs[i].path)
            return fl_error_set(err, FL_E_UNAVAILABLE,
                                "%s is not on this machine, and the build needs it: install "
                                "Debian's package %s",
                                programs[i].name, programs[i].package);
    }
    return 0;
}

/* What the machine's own configuration would change in the result is not read. */
static int make_folders(struct fl_buildah *buildah, struct fl_error *err)
{
    static const char *const folders[] = {"home", "tmp", "run", "store"};
    static const struct {
        const char *name, *text;
    } files[] = {{"containers.conf", ""}, {"auth.json", "{}\n"}};
    int r = 0;

    for (size_t i = 0; r == 0 && i < FL_COUNT_OF(folders); i++)
        r = fl_dir_ensure(below(buildah, folders[i]), 0700, err);
    for (size_t i = 0; r == 0 && i < FL_COUNT_OF(files); i++)
        if (!fl_path_exists(below(buildah, files[i].name)))
            r = fl_file_write(below(buildah, files[i].name), files[i].text, strlen(files[i].text),
                              0600, err);
    return r;
}

static int choose_driver(struct fl_buildah *buildah, struct fl_error *err)
{
    unsigned can = fl_process_is_root() ? fl_overlay_probe(below(buildah, "probe")) : 0;
    const char *text;

    buildah->driver = can & FL_OVERLAY_ON_DISK ? "overlay" : "vfs";
    text = fl_arena_printf(buildah->arena,
                           "[storage]\ndriver = \"%s\"\ngraphroot = \"%s/%s\"\n"
                           "runroot = \"%s\"\n",
                           buildah->driver, below(buildah, "store"), buildah->driver,
                           below(buildah, "run"));
    return fl_file_write(below(buildah, "storage.conf"), text, strlen(text), 0600, err);
}

static bool is_wanted(const char *entry)
{
    static const char *const prefixes[] = {
        "http_proxy=",  "https_proxy=", "no_proxy=",      "HTTP_PROXY=",
        "HTTPS_PROXY=", "NO_PROXY=",    "SSL_CERT_FILE=", "SSL_CERT_DIR="};

    for (size_t i = 0; i < FL_COUNT_OF(prefixes); i++)
        if (fl_str_has_prefix(entry, prefixes[i]))
            return true;
    return false;
}

static void make_env(struct fl_buildah *buildah)
{
    struct fl_arena *arena = buildah->arena;
    const char **env = fl_new_array(arena, const char *, ENV_MAX + 1);
    const struct {
        const char *name, *value;
    } own[] = {
        {"PATH", fl_str_or(buildah->options.path, USUAL_PATH)},
        {"LANG", "C.UTF-8"},
        {"HOME", below(buildah, "home")},
        {"TMPDIR", below(buildah, "tmp")},
        {"XDG_RUNTIME_DIR", below(buildah, "run")},
        {"CONTAINERS_CONF", below(buildah, "containers.conf")},
        {"CONTAINERS_STORAGE_CONF", below(buildah, "storage.conf")},
        {"REGISTRY_AUTH_FILE", below(buildah, "auth.json")},
        {"BUILDAH_ISOLATION", "chroot"},
    };
    size_t count = 0;

    for (size_t i = 0; i < FL_COUNT_OF(own); i++)
        env[count++] = fl_arena_printf(arena, "%s=%s", own[i].name, own[i].value);
    for (const char *const *entry = buildah->options.extra_env; entry && *entry; entry++)
        if (count < ENV_MAX && is_wanted(*entry))
            env[count++] = *entry;
    buildah->env = env;
}

/* A builder that was killed leaves containers behind, and says so by this file. */

static int remove_leftovers(struct fl_buildah *buildah, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct buildah_words words;
    int r;

    if (!fl_path_exists(below(buildah, "under-way")))
        return 0;
    buildah_begin(buildah, arena, &words);
    buildah_say(&words, "rm");
    buildah_say(&words, "--all");
    r = buildah_run(buildah, &words, false, NULL, NULL);
    if (r == FL_E_INVALID) { /* the store itself is damaged: all of it is a cache */
        r = fl_dir_remove(below(buildah, "store"), err);
        if (r == 0)
            r = fl_dir_ensure(below(buildah, "store"), 0700, err);
    }
    if (r == 0)
        r = fl_dir_empty(below(buildah, "tmp"), err);
    if (r == 0)
        fl_path_remove(below(buildah, "under-way"));
    return r < 0 ? fl_error_wrap(err, "what an earlier build left") : 0;
}

int fl_buildah_open(const struct fl_buildah_options *options, struct fl_buildah **ret_buildah,
                    struct fl_error *err)
{
    FL_CLEANUP(fl_buildah_closep) struct fl_buildah *buildah = fl_calloc(1, sizeof(*buildah));
    int r;

    buildah->options = *options;
    buildah->arena = fl_arena_create();
    r = find_programs(buildah, err);
    if (r == 0)
        r = make_folders(buildah, err);
    if (r == 0)
        r = choose_driver(buildah, err);
    if (r < 0)
        return r;
    make_env(buildah);
    r = remove_leftovers(buildah, err);
    if (r == 0)
        *ret_buildah = FL_TAKE(buildah);
    return r;
}

void fl_buildah_close(struct fl_buildah *buildah)
{
    if (!buildah)
        return;
    fl_arena_destroy(buildah->arena);
    free(buildah);
}

const char *fl_buildah_driver(const struct fl_buildah *buildah)
{
    return buildah->driver;
}

/* Command lines. */

void buildah_say(struct buildah_words *words, const char *word)
{
    if (words->count < BUILDAH_ARGUMENTS_MAX)
        words->argv[words->count++] = word;
    words->argv[words->count] = NULL;
}

static void say_all(struct buildah_words *words, const char *const *list)
{
    for (; *list; list++)
        buildah_say(words, *list);
}

/* Whoever kills this process kills the first of the new process namespace, and with it all of them;
 * their mounts go with their mount namespace. */
void buildah_begin(struct fl_buildah *buildah, struct fl_arena *arena, struct buildah_words *words)
{
    *words = (struct buildah_words){.arena = arena};
    buildah_say(words, buildah->setpriv);
    say_all(words, (const char *const[]){"--pdeathsig", "KILL", "--", NULL});
    buildah_say(words, buildah->unshare);
    say_all(words, (const char *const[]){"--mount", "--pid", "--ipc", "--uts", "--fork",
                                         "--kill-child=KILL", "--mount-proc", NULL});
    if (!fl_process_is_root())
        say_all(words, (const char *const[]){"--user", "--map-root-user", "--map-auto", NULL});
    buildah_say(words, "--");
    buildah_say(words, buildah->program);
}

static void say_option(struct buildah_words *words, const char *name, const char *value)
{
    buildah_say(words, name);
    buildah_say(words, value);
}

/* A build. */

struct job {
    struct fl_buildah *buildah;
    const struct fl_buildah_build *build;
    struct fl_arena *arena;
    const char *scratch; /* a folder */
    const char *image;   /* its name in the store */
};

static int check_platform(const struct job *job, struct fl_error *err)
{
    const struct fl_platform here = fl_platform_of_machine(), *wanted = job->build->platform;
    const char *text = fl_platform_text(job->arena, wanted), *foreign[16];
    size_t count = fl_machine_foreign(NULL, foreign, FL_COUNT_OF(foreign));

    if (fl_platform_fits(&here, wanted))
        return 0;
    for (size_t i = 0; i < count; i++)
        if (fl_streq(foreign[i], text))
            return 0;
    return fl_error_set(err, FL_E_INVALID,
                        "a RUN line must be run for %s, which this machine does not run: install "
                        "qemu-user-static and binfmt-support, or leave the platform out",
                        text);
}

static int check_containerfile(const struct job *job, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    const char *slash = strrchr(job->build->containerfile, '/');
    struct fl_containerfile found;
    int r = fl_file_read(job->build->containerfile, FL_CONTAINERFILE_MAX, &text, err);

    if (r == 0)
        r = fl_containerfile_read(text->data, text->len, &found, err);
    if (r == 0 && found.runs)
        r = check_platform(job, err);
    return r < 0 ? fl_error_wrap(err, "%s", slash ? slash + 1 : job->build->containerfile) : 0;
}

/* The images that FROM names, where the program can read them. */
static int write_bases(const struct job *job, struct fl_error *err)
{
    const struct fl_buildah_build *build = job->build;
    const char *layout = fl_arena_printf(job->arena, "%s/bases", job->scratch);
    int r = 0;

    for (size_t i = 0; r == 0 && i < build->base_count; i++)
        r = fl_layout_write(layout, job->buildah->options.blobs, &build->bases[i].root,
                            build->bases[i].name, err);
    return r < 0 ? fl_error_wrap(err, "the images to build on") : 0;
}

static void say_bases(const struct job *job, struct buildah_words *words)
{
    const struct fl_buildah_build *build = job->build;

    for (size_t i = 0; i < build->base_count; i++) {
        const char *name = build->bases[i].name;
        const char *image = fl_arena_printf(job->arena, "oci:%s/bases:%s", job->scratch, name);

        if (build->base_image && fl_streq(build->base_image, name))
            say_option(words, "--from", image);
        else
            say_option(words, "--build-context",
                       fl_arena_printf(job->arena, "%s=docker-image://%s", name, image));
    }
}

/* Of what a container may, a build needs neither another root nor devices nor raw packets. */
static const char *const fixed[] = {"--isolation", "chroot",
                                    "--layers",    "--format",
                                    "oci",         "--cap-drop",
                                    "SYS_CHROOT",  "--cap-drop",
                                    "MKNOD",       "--cap-drop",
                                    "NET_RAW",     "--cap-drop",
                                    "AUDIT_WRITE", "--identity-label=false",
                                    "--retry",     "2",
                                    NULL};

static void say_build(const struct job *job, struct buildah_words *words)
{
    const struct fl_buildah_build *build = job->build;

    buildah_say(words, "build");
    say_all(words, fixed);
    say_option(words, "--timestamp", fl_arena_printf(job->arena, "%" PRId64, build->epoch_s));
    say_option(words, "--platform", fl_platform_text(job->arena, build->platform));
    for (const char *const *arg = build->args; arg && *arg; arg++)
        say_option(words, "--build-arg", *arg);
    say_bases(job, words);
    for (size_t i = 0; i < build->secret_count; i++)
        say_option(words, "--secret",
                   fl_arena_printf(job->arena, "id=%s,src=%s", build->secrets[i].id,
                                   build->secrets[i].path));
    say_option(words, "--tag", job->image);
    say_option(words, "--file", build->containerfile);
    buildah_say(words, "--");
    buildah_say(words, build->context);
}

static int run_build(const struct job *job, struct fl_error *err)
{
    struct fl_buildah *buildah = job->buildah;
    struct buildah_words words;
    int r = fl_file_write(below(buildah, "under-way"), "", 0, 0600, err);

    if (r < 0)
        return r;
    buildah_begin(buildah, job->arena, &words);
    say_build(job, &words);
    r = buildah_run(buildah, &words, true, NULL, err);
    /* A step that fails leaves nothing; who is killed does. */
    if (r == 0 || r == FL_E_INVALID)
        fl_path_remove(below(buildah, "under-way"));
    return r;
}

static int take(const struct job *job, struct fl_oci_taken *ret_taken, struct fl_error *err)
{
    const char *layout = fl_arena_printf(job->arena, "%s/image", job->scratch);
    struct buildah_words words;
    int r;

    buildah_begin(job->buildah, job->arena, &words);
    buildah_say(&words, "push");
    buildah_say(&words, "--quiet");
    buildah_say(&words, job->image);
    buildah_say(&words, fl_arena_printf(job->arena, "oci:%s:image", layout));
    r = buildah_run(job->buildah, &words, false, NULL, err);
    if (r == 0)
        r = fl_layout_read(layout, "image", job->buildah->options.blobs, job->arena, ret_taken,
                           err);
    return r < 0 ? fl_error_wrap(err, "what buildah made") : 0;
}

/* All images are caches: when they become many, they go. Copies take more room than overlays. */
static void make_room(const struct job *job)
{
    size_t images = 0, most = fl_streq(job->buildah->driver, "overlay") ? 400 : 60;
    struct buildah_words words;

    buildah_begin(job->buildah, job->arena, &words);
    say_all(&words, (const char *const[]){"images", "--all", "--quiet", NULL});
    if (buildah_run(job->buildah, &words, false, &images, NULL) < 0 || images <= most)
        return;
    buildah_begin(job->buildah, job->arena, &words);
    say_all(&words, (const char *const[]){"rmi", "--all", "--force", NULL});
    (void)buildah_run(job->buildah, &words, false, NULL, NULL);
}

static int build_in(const struct job *job, struct fl_oci_taken *ret_taken, struct fl_error *err)
{
    int r = fl_dir_ensure(job->scratch, 0700, err);

    if (r == 0)
        r = check_containerfile(job, err);
    if (r == 0)
        r = write_bases(job, err);
    if (r == 0)
        r = run_build(job, err);
    if (r == 0)
        r = take(job, ret_taken, err);
    if (r == 0)
        make_room(job);
    return r;
}

int fl_buildah_build(struct fl_buildah *buildah, const struct fl_buildah_build *build,
                     struct fl_arena *arena, struct fl_oci_taken *ret_taken, struct fl_error *err)
{
    const struct fl_platform *platform = build->platform;
    const struct job job = {
        .buildah = buildah,
        .build = build,
        .arena = arena,
        .scratch = below(buildah, "scratch"),
        .image =
            fl_arena_printf(arena, "localhost/flops/%s:%s%s%s", build->name, platform->architecture,
                            platform->variant ? "-" : "", fl_str_or(platform->variant, "")),
    };
    int r = fl_dir_remove(job.scratch, err);

    if (r == 0)
        r = build_in(&job, ret_taken, err);
    (void)fl_dir_remove(job.scratch, NULL);
    return r;
}
