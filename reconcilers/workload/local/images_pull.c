/* From a reference to an image: what is here, then what a source has. */
#include "lib/file.h"
#include "lib/log.h"
#include "lib/oci/image.h"
#include "lib/str.h"
#include "reconcilers/workload/local/images_internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define TRIES         3
#define FIRST_WAIT_MS 1000
#define TAG_MAX       256

struct fetch {
    struct fl_image_job *job;
    struct fl_images *images;
    struct made_image *made;
    struct fl_image_reference reference;
    struct fl_oci_manifest manifest; /* of the image */
    const char *digest;
};

static const char *platforms_text(const struct fetch *f)
{
    const struct fl_image_wish *wish = &f->job->wish;
    const char *text = "";

    for (size_t i = 0; i < wish->platform_count; i++)
        text = fl_arena_printf(f->made->arena, "%s%s%s", text, i ? ", " : "",
                               fl_platform_text(f->made->arena, &wish->platforms[i]));
    return text;
}

static int no_platform(const struct fetch *f, const char *has, struct fl_error *err)
{
    return fl_error_set(err, FL_E_NOT_FOUND,
                        "no image for this machine, which runs %s: %s; to run others, install "
                        "qemu-user-static, and see that binfmt_misc lists it with the flag F",
                        platforms_text(f), has);
}

/* What is here. NOT_FOUND where a part is missing. */

static int read_blob(const struct fetch *f, const char *digest, struct fl_bytes **ret_bytes,
                     struct fl_error *err)
{
    struct fl_blob_map map;
    int r = fl_blobs_map(f->images->blobs, digest, &map, err);

    if (r < 0)
        return r;
    if (map.size > FL_OCI_MANIFEST_MAX)
        r = fl_error_set(err, FL_E_TOO_LARGE, "%s is too large for a document", digest);
    else
        *ret_bytes = fl_bytes_new(map.data, map.size);
    fl_blob_unmap(&map);
    return r;
}

static int read_manifest(struct fetch *f, const char *digest, struct fl_oci_manifest *ret_manifest,
                         struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    int r = read_blob(f, digest, &bytes, err);

    return r < 0 ? r
                 : fl_oci_manifest_parse(f->made->arena, bytes->data, bytes->len, NULL,
                                         ret_manifest, err);
}

static const struct fl_oci_descriptor *
choose(const struct fetch *f, const struct fl_oci_manifest *index, struct fl_error *err)
{
    const struct fl_oci_descriptor *found = NULL;

    for (size_t i = 0; i < f->job->wish.platform_count && !found; i++)
        found = fl_oci_index_choose(index, &f->job->wish.platforms[i], err);
    return found;
}

static int read_image_manifest(struct fetch *f, const char *digest, struct fl_error *err)
{
    const struct fl_oci_descriptor *chosen;
    struct fl_error why = {0};
    int r = read_manifest(f, digest, &f->manifest, err);

    if (r < 0)
        return r;
    f->digest = digest;
    if (!f->manifest.is_index)
        return 0;
    chosen = choose(f, &f->manifest, &why);
    if (!chosen)
        return no_platform(f, why.msg, err);
    f->digest = chosen->digest;
    r = read_manifest(f, chosen->digest, &f->manifest, err);
    if (r == 0 && f->manifest.is_index)
        r = fl_error_set(err, FL_E_INVALID, "an index within an index");
    return r;
}

static int read_config(struct fetch *f, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    struct fl_image *image = &f->made->image;
    int r = read_blob(f, f->manifest.config.digest, &bytes, err);

    if (r == 0)
        r = fl_oci_config_parse(f->made->arena, bytes->data, bytes->len, &image->config, err);
    if (r < 0)
        return r;
    if (image->config.diff_ids.count != f->manifest.layers.count ||
        f->manifest.layers.count > FL_OCI_LAYERS_MAX)
        return fl_error_set(err, FL_E_INVALID, "the image has %zu layers and names %zu",
                            f->manifest.layers.count, image->config.diff_ids.count);
    image->platform = image->config.platform;
    for (size_t i = 0; i < f->job->wish.platform_count; i++)
        if (fl_platform_fits(&image->platform, &f->job->wish.platforms[i]))
            return 0;
    return no_platform(f, fl_platform_text(f->made->arena, &image->platform), err);
}

/* Everything but what is unpacked is to be here. */
static int read_here(struct fetch *f, const char *digest, struct fl_error *err)
{
    int r = read_image_manifest(f, digest, err);

    if (r == 0)
        r = read_config(f, err);
    for (size_t i = 0; r == 0 && i < f->manifest.layers.count; i++) {
        const char *layer = f->manifest.layers.items[i].digest;

        if (!(f->images->overlay &&
              layers_have(f->images, f->made->image.config.diff_ids.items[i])) &&
            !fl_blobs_has(f->images->blobs, layer))
            r = fl_error_set(err, FL_E_NOT_FOUND, "layer %s is not here", layer);
    }
    return r;
}

/* Tags that were pulled, for when a registry cannot be reached. */

static const char *tag_path(const struct fetch *f)
{
    char digest[FL_DIGEST_SIZE];

    fl_digest_of(f->job->wish.reference, strlen(f->job->wish.reference), digest);
    return fl_arena_printf(f->made->arena, "%s/tags/%s", f->images->path,
                           digest + strlen("sha256:"));
}

static void keep_tag(const struct fetch *f, const char *digest)
{
    const char *folder = fl_arena_printf(f->made->arena, "%s/tags", f->images->path);

    if (fl_dir_ensure(folder, 0700, NULL) == 0)
        (void)fl_file_write(tag_path(f), digest, strlen(digest), 0600, NULL);
}

static const char *find_tag(const struct fetch *f)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;

    if (fl_file_read(tag_path(f), TAG_MAX, &bytes, NULL) < 0 || !fl_digest_is_valid(bytes->data))
        return NULL;
    return fl_arena_strdup(f->made->arena, bytes->data);
}

/* What a source has. */

static bool on_moved(void *user, const char *what, int64_t done, int64_t total)
{
    (void)what;
    job_stage(user, "pulling", done, total);
    return job_goes_on(user);
}

static int pull_platform(struct fetch *f, const struct fl_platform *platform,
                         struct fl_oci_taken *ret_taken, struct fl_error *err)
{
    const struct fl_image_source *source = &f->images->source;
    struct fl_registry_progress progress = {on_moved, f->job};
    struct fl_image_request request = {
        .reference = f->reference,
        .platforms = platform,
        .platform_count = 1,
        .timeout_ms = f->job->deadline_ms - fl_monotonic_ms(f->images->env),
    };

    if (f->job->wish.pull_secret)
        (void)fl_pull_secret_find(f->made->arena, f->job->wish.pull_secret, f->reference.registry,
                                  &request.username, &request.password);
    return source->pull(source->user, &request, f->images->blobs, &progress, f->made->arena,
                        ret_taken, err);
}

/* The best platform that there is. The first refusal is the one to be told. */
static int pull_once(struct fetch *f, struct fl_oci_taken *ret_taken, struct fl_error *err)
{
    const struct fl_image_wish *wish = &f->job->wish;
    int r = FL_E_NOT_FOUND;

    for (size_t i = 0; i < wish->platform_count && r == FL_E_NOT_FOUND; i++) {
        struct fl_error why = {0};

        r = pull_platform(f, &wish->platforms[i], ret_taken, i == 0 ? err : &why);
        if (r < 0 && r != FL_E_NOT_FOUND && i > 0)
            *err = why;
    }
    return r;
}

static bool wait_for_retry(const struct fetch *f, int64_t wait_ms)
{
    int64_t until_ms = fl_monotonic_ms(f->images->env) + wait_ms, now_ms;

    while (job_goes_on(f->job) && (now_ms = fl_monotonic_ms(f->images->env)) < until_ms) {
        FL_LOCKED(f->images->lock);
        (void)fl_signal_wait(f->images->changed, f->images->lock, until_ms - now_ms);
    }
    return job_goes_on(f->job);
}

static int pull(struct fetch *f, struct fl_oci_taken *ret_taken, struct fl_error *err)
{
    int64_t wait_ms = FIRST_WAIT_MS;
    int r = 0;

    if (!f->images->source.pull)
        return fl_error_set(err, FL_E_NOT_FOUND, "the image is not here, and there is no registry");
    for (unsigned i = 0; i < TRIES; i++, wait_ms *= 4) {
        job_stage(f->job, "pulling", 0, 0);
        r = pull_once(f, ret_taken, err);
        if (r == 0 || !fl_error_is_retryable(r) || !wait_for_retry(f, wait_ms))
            break;
    }
    return r;
}

/* Making it usable. */

static int take_layers(struct fetch *f, struct fl_error *err)
{
    struct fl_image *image = &f->made->image;
    size_t count = f->manifest.layers.count;
    char name[LAYER_NAME_SIZE];
    int r = 0;

    image->layers = fl_new_array(f->made->arena, const char *, count + 1);
    for (size_t i = count; r == 0 && i-- > 0;) {
        job_stage(f->job, "unpacking", 0, 0);
        r = layers_take(f->job, image->config.diff_ids.items[i], &f->manifest.layers.items[i], name,
                        err);
        if (r == 0)
            image->layers[image->layer_count++] = fl_arena_strdup(f->made->arena, name);
    }
    return r;
}

static int unpack_all(struct fetch *f, struct fl_error *err)
{
    int64_t bytes;
    int r = 0;

    for (size_t i = 0; r == 0 && i < f->manifest.layers.count; i++) {
        job_stage(f->job, "unpacking", 0, 0);
        r = layer_unpack(f->job, f->made->image.config.diff_ids.items[i],
                         &f->manifest.layers.items[i], f->job->wish.unpack_to, false, &bytes, err);
    }
    return r;
}

static int make_usable(struct fetch *f, struct fl_error *err)
{
    int r;

    f->made->image.digest = f->digest;
    r = f->images->overlay ? take_layers(f, err) : unpack_all(f, err);
    if (r == FL_E_NOT_FOUND) /* it went to make room for others: it can be pulled again */
        return fl_error_set(err, FL_E_UNAVAILABLE, "a layer was removed meanwhile");
    return r;
}

/* A copy of what was pulled before is better than none. */
static bool falls_back(struct fetch *f, int code, const struct fl_error *why)
{
    const char *digest = f->reference.digest ? NULL : find_tag(f);

    if (!digest || !fl_error_is_retryable(code) || !job_goes_on(f->job) ||
        read_here(f, digest, NULL) < 0)
        return false;
    fl_log_warn(f->images->env->log, "an image cannot be pulled, an earlier one of its tag is used",
                FL_STR("image", f->job->wish.reference), FL_STR("digest", digest),
                FL_STR("error", why->msg));
    return true;
}

static int fetch_remote(struct fetch *f, struct fl_error *err)
{
    struct fl_oci_taken taken = {0};
    int r = pull(f, &taken, err);

    if (r == FL_E_NOT_FOUND && strstr(err->msg, "linux/")) /* it is there, for others */
        return no_platform(f, fl_arena_strdup(f->made->arena, err->msg), err);
    if (r < 0)
        return falls_back(f, r, err) ? make_usable(f, err) : r;
    r = read_here(f, taken.root.digest, err);
    if (r == 0)
        r = make_usable(f, err);
    fl_oci_unpin(f->images->blobs, &taken);
    if (r == 0 && !f->reference.digest)
        keep_tag(f, taken.root.digest);
    return r;
}

int image_fetch(struct fl_image_job *job, struct made_image *made, struct fl_error *err)
{
    struct fetch f = {.job = job, .images = job->images, .made = made};
    int r = fl_image_reference_parse(made->arena, job->wish.reference, &f.reference, err);

    if (r == 0 && job->wish.platform_count == 0)
        r = fl_error_set(err, FL_E_INVALID, "no platform will do");
    if (r < 0)
        return r;
    if (f.reference.digest && read_here(&f, f.reference.digest, NULL) == 0)
        r = make_usable(&f, err);
    else
        r = fetch_remote(&f, err);
    return r < 0 ? fl_error_wrap(err, "image %s", job->wish.reference) : 0;
}
