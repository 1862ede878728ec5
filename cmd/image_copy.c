/* `flops image pull, push, copy, save, load`: from registries and folders to others, by way of a
 * folder of content that is gone afterwards. */
#include "cmd/command.h"
#include "cmd/image.h"
#include "cmd/progress.h"
#include "lib/file.h"
#include "lib/oci/layout.h"
#include "lib/str.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* One image on its way. */
struct way {
    struct fl_image_command *image;
    char folder[4096]; /* "" where there is none yet */
    struct fl_blobs *blobs;
    struct fl_progress progress;
    struct fl_oci_taken taken;
    const char *platform;
};

static void way_finish(struct way *way)
{
    if (way->blobs)
        fl_oci_unpin(way->blobs, &way->taken);
    fl_blobs_close(way->blobs);
    if (*way->folder)
        (void)fl_dir_remove(way->folder, NULL);
}

/* An interrupt is kept waiting until it is looked for, which happens about every second: so that
 * the temporary folder goes, and a session over there is closed. */
static void hold_interrupts(void)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
}

static bool is_interrupted(void)
{
    sigset_t set;

    return sigpending(&set) == 0 &&
           (sigismember(&set, SIGINT) == 1 || sigismember(&set, SIGTERM) == 1);
}

/* Where there is room: /tmp may be memory. */
static int open_blobs(struct way *way, struct fl_error *err)
{
    const char *temporary = getenv("TMPDIR");
    struct fl_blobs_options options = {.env = &way->image->env, .fleeting = true};
    int len = snprintf(way->folder, sizeof(way->folder), "%s/flops-image-XXXXXX",
                       temporary && *temporary ? temporary : "/var/tmp");

    hold_interrupts();
    if (len < 0 || (size_t)len >= sizeof(way->folder) || !mkdtemp(way->folder)) {
        *way->folder = '\0';
        return fl_error_errno(err, errno, "make a temporary folder");
    }
    options.path = way->folder;
    return fl_blobs_open(&options, &way->blobs, err);
}

static bool moved(void *user, const char *what, int64_t done, int64_t total)
{
    struct way *way = user;

    (void)what;
    way->progress.all = total > 0 ? total : -1;
    fl_progress_tell(&way->progress, done);
    return !is_interrupted();
}

/* --- one step --- */

/* With a platform, the one manifest for it is the image from then on. */
static int choose_platform(struct way *way, struct fl_registry *registry,
                           struct fl_image_reference *reference, struct fl_error *err)
{
    struct fl_arena *arena = way->image->arena;
    const struct fl_oci_descriptor *chosen;
    struct fl_oci_descriptor descriptor;
    struct fl_oci_manifest manifest = {0};
    struct fl_platform platform;
    int r = fl_platform_parse(arena, way->platform, &platform, err);

    if (r == 0)
        r = fl_registry_manifest(registry, reference, arena, &descriptor, &manifest, err);
    if (r < 0 || !manifest.is_index)
        return r;
    chosen = fl_oci_index_choose(&manifest, &platform, err);
    if (!chosen)
        return FL_E_NOT_FOUND;
    reference->digest = chosen->digest;
    return 0;
}

static int take(struct way *way, const char *text, struct fl_error *err)
{
    const struct fl_registry_progress progress = {moved, way};
    struct fl_image_reference reference = {0};
    struct fl_registry *registry = NULL;
    int r = fl_image_reference(way->image, text, &reference, err);

    if (r == 0)
        r = fl_image_registry(way->image, &reference, &registry, err);
    if (r == 0 && way->platform)
        r = choose_platform(way, registry, &reference, err);
    if (r < 0)
        return r;
    way->progress = fl_progress_begin(&way->image->env, "receiving", -1);
    r = fl_registry_pull(registry, &reference, NULL, 0, way->blobs, &progress, way->image->arena,
                         &way->taken, err);
    fl_progress_end(&way->progress);
    return r;
}

static void say(const char *name, const struct fl_oci_descriptor *root,
                const struct fl_registry_pushed *pushed)
{
    (void)printf("%s: %s\n%zu sent (%.1f MB), %zu there already (%.1f MB)\n", name, root->digest,
                 pushed->blobs_sent, (double)pushed->bytes_sent / 1e6,
                 pushed->blobs_there + pushed->blobs_mounted, (double)pushed->bytes_there / 1e6);
}

static int give(struct way *way, const char *text, struct fl_error *err)
{
    const struct fl_registry_progress progress = {moved, way};
    const struct fl_oci_descriptor *root = &way->taken.root;
    struct fl_image_reference reference = {0};
    struct fl_registry_pushed pushed = {0};
    struct fl_registry *registry = NULL;
    int r = fl_image_reference(way->image, text, &reference, err);

    if (r == 0 && reference.digest && !fl_streq(reference.digest, root->digest))
        r = fl_error_set(err, FL_E_INVALID, "%s: the image is %s", text, root->digest);
    if (r == 0)
        r = fl_image_registry(way->image, &reference, &registry, err);
    if (r < 0)
        return r;
    way->progress = fl_progress_begin(&way->image->env, "sending", -1);
    r = fl_registry_push(registry, reference.repository, NULL, root, &reference.tag,
                         reference.tag ? 1 : 0, way->blobs, &progress, &pushed, err);
    fl_progress_end(&way->progress);
    if (r == 0)
        say(fl_image_reference_text(way->image->arena, &reference), root, &pushed);
    return r;
}

static int open_both(struct way *way, const char *from, const char *to,
                     struct fl_image_reference references[2], struct fl_registry *registries[2],
                     struct fl_error *err)
{
    int r = fl_image_reference(way->image, from, &references[0], err);

    if (r == 0)
        r = fl_image_reference(way->image, to, &references[1], err);
    for (size_t i = 0; r == 0 && i < 2; i++)
        r = fl_image_registry(way->image, &references[i], &registries[i], err);
    if (r == 0 && way->platform)
        r = choose_platform(way, registries[0], &references[0], err);
    return r;
}

static int copy_between(struct way *way, const char *from, const char *to, struct fl_error *err)
{
    const struct fl_registry_progress progress = {moved, way};
    struct fl_image_reference references[2] = {0};
    struct fl_registry *registries[2] = {NULL, NULL};
    struct fl_registry_pushed pushed = {0};
    struct fl_oci_descriptor root = {0};
    int r = open_both(way, from, to, references, registries, err);

    if (r == 0 && references[1].digest)
        r = fl_error_set(err, FL_E_BAD_REQUEST, "%s: a copy is named by a tag", to);
    if (r < 0)
        return r;
    way->progress = fl_progress_begin(&way->image->env, "copying", -1);
    r = fl_registry_copy(registries[0], &references[0], registries[1], references[1].repository,
                         &references[1].tag, 1, way->blobs, &progress, way->image->arena, &root,
                         &pushed, err);
    fl_progress_end(&way->progress);
    if (r == 0)
        say(fl_image_reference_text(way->image->arena, &references[1]), &root, &pushed);
    return r;
}

static int copy(struct fl_image_command *image, const char *platform, const char *from,
                const char *to)
{
    FL_CLEANUP(way_finish) struct way way = {.image = image, .platform = platform};
    struct fl_error err = {0};
    int r = open_blobs(&way, &err);

    if (r == 0)
        r = copy_between(&way, from, to, &err);
    return r < 0 ? fl_image_fail(image, &err) : 0;
}

/* --- commands --- */

#define PLATFORM_HELP                                                                              \
    "      --platform P        of an image for several platforms only this one: linux/arm64\n"

static const char pull_help[] =
    "Usage: flops image pull IMAGE [NAME] [options]\n\n"
    "Takes an image from another registry into the control plane's, as NAME or as it is named\n"
    "over there without the host.\n\n" PLATFORM_HELP FL_IMAGE_HELP FL_CLIENT_HELP;

static const char push_help[] =
    "Usage: flops image push NAME IMAGE [options]\n"
    "       flops image push IMAGE [options]\n\n"
    "Gives an image of the control plane's registry to another one. Where only one is said, it is\n"
    "named here as over there.\n\n" PLATFORM_HELP FL_IMAGE_HELP FL_CLIENT_HELP;

static const char copy_help[] =
    "Usage: flops image copy FROM TO [options]\n"
    "       flops image tag FROM TO [options]\n\n"
    "From any registry to any; what is there already is not sent again.\n\n" PLATFORM_HELP
        FL_IMAGE_HELP FL_CLIENT_HELP;

/* The same image without its host: where it is in our registry. */
static int name_here(struct fl_image_command *image, const char *text, const char **ret_name,
                     struct fl_error *err)
{
    struct fl_image_reference reference = {0};
    int r = fl_image_reference(image, text, &reference, err);

    if (r < 0)
        return r;
    if (!reference.registry)
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "%s names no other registry; it would be HOST/%s", text, text);
    reference.registry = NULL;
    reference.digest = NULL; /* a name is needed, and a part has another digest than the whole */
    if (!reference.tag)
        reference.tag = "latest";
    *ret_name = fl_image_reference_text(image->arena, &reference);
    return 0;
}

int fl_image_pull(struct fl_image_command *image, int argc, char **argv)
{
    const char *platform = NULL, *name = NULL;
    const struct fl_option more[] = {{"platform", 0, FL_OPTION_TEXT, &platform}};
    struct fl_error err = {0};
    int status = fl_image_parse(image, pull_help, more, FL_COUNT_OF(more), argc, argv);

    if (status >= 0)
        return status;
    if (image->words.count < 1 || image->words.count > 2)
        return fl_command_usage(image->command, "an image, and perhaps a name for it");
    if (name_here(image, image->words.items[0], &name, &err) < 0)
        return fl_image_fail(image, &err);
    if (image->words.count == 2)
        name = image->words.items[1];
    return copy(image, platform, image->words.items[0], name);
}

int fl_image_push(struct fl_image_command *image, int argc, char **argv)
{
    const char *platform = NULL, *name = NULL;
    const struct fl_option more[] = {{"platform", 0, FL_OPTION_TEXT, &platform}};
    struct fl_error err = {0};
    int status = fl_image_parse(image, push_help, more, FL_COUNT_OF(more), argc, argv);
    size_t count;

    if (status >= 0)
        return status;
    count = image->words.count;
    if (count < 1 || count > 2)
        return fl_command_usage(image->command, "perhaps a name, and an image with its host");
    if (name_here(image, image->words.items[count - 1], &name, &err) < 0)
        return fl_image_fail(image, &err);
    return copy(image, platform, count == 2 ? image->words.items[0] : name,
                image->words.items[count - 1]);
}

int fl_image_copy(struct fl_image_command *image, int argc, char **argv)
{
    const char *platform = NULL;
    const struct fl_option more[] = {{"platform", 0, FL_OPTION_TEXT, &platform}};
    int status = fl_image_parse(image, copy_help, more, FL_COUNT_OF(more), argc, argv);

    if (status >= 0)
        return status;
    if (image->words.count != 2)
        return fl_command_usage(image->command, "two images: from where, to where");
    return copy(image, platform, image->words.items[0], image->words.items[1]);
}

static const char save_help[] =
    "Usage: flops image save IMAGE DIR [options]\n\n"
    "Writes an OCI image layout, as skopeo (oci:DIR:TAG), umoci and podman read it. A folder that\n"
    "is one already keeps its images.\n\n"
    "      --name TAG          its name in there (default: the image's tag)\n" PLATFORM_HELP
        FL_IMAGE_HELP FL_CLIENT_HELP;

int fl_image_save(struct fl_image_command *image, int argc, char **argv)
{
    FL_CLEANUP(way_finish) struct way way = {.image = image};
    const char *name = NULL;
    const struct fl_option more[] = {{"platform", 0, FL_OPTION_TEXT, &way.platform},
                                     {"name", 0, FL_OPTION_TEXT, &name}};
    struct fl_image_reference reference = {0};
    struct fl_error err = {0};
    int status = fl_image_parse(image, save_help, more, FL_COUNT_OF(more), argc, argv), r;

    if (status >= 0)
        return status;
    if (image->words.count != 2)
        return fl_command_usage(image->command, "an image and a folder");
    r = fl_image_reference(image, image->words.items[0], &reference, &err);
    if (r == 0)
        r = open_blobs(&way, &err);
    if (r == 0)
        r = take(&way, image->words.items[0], &err);
    if (r == 0)
        r = fl_layout_write(image->words.items[1], way.blobs, &way.taken.root,
                            fl_str_or(name, reference.tag), &err);
    if (r < 0)
        return fl_image_fail(image, &err);
    (void)printf("%s: %s, %.1f MB\n", image->words.items[1], way.taken.root.digest,
                 (double)way.taken.bytes_taken / 1e6);
    return 0;
}

static const char load_help[] =
    "Usage: flops image load DIR IMAGE [options]\n\n"
    "Takes an image out of an OCI image layout into a registry.\n\n"
    "      --name TAG          which of its images, by name or digest; it need not be said where\n"
    "                          there is one only\n" FL_IMAGE_HELP FL_CLIENT_HELP;

int fl_image_load(struct fl_image_command *image, int argc, char **argv)
{
    FL_CLEANUP(way_finish) struct way way = {.image = image};
    const char *name = NULL;
    const struct fl_option more[] = {{"name", 0, FL_OPTION_TEXT, &name}};
    struct fl_error err = {0};
    int status = fl_image_parse(image, load_help, more, FL_COUNT_OF(more), argc, argv), r;

    if (status >= 0)
        return status;
    if (image->words.count != 2)
        return fl_command_usage(image->command, "a folder and an image");
    r = open_blobs(&way, &err);
    if (r == 0)
        r = fl_layout_read(image->words.items[0], name, way.blobs, image->arena, &way.taken, &err);
    if (r == 0)
        r = give(&way, image->words.items[1], &err);
    return r < 0 ? fl_image_fail(image, &err) : 0;
}
