/* From one registry to another, a blob at a time: what is there is not fetched, and no more than
 * one blob is on the disk. */
#include "lib/oci/registry_internal.h"
#include "lib/str.h"

#include <assert.h>

struct copy {
    struct fl_registry_job from, to;
    const char *repository; /* of the one that it comes from */
    struct fl_blobs *blobs;
    const struct fl_registry_progress *progress;
    int64_t fetched, sent;
    const struct fl_registry_document *root;
};

/* Each byte counts twice: when it comes and when it goes. */
static bool tell(const struct copy *copy, const char *what)
{
    const struct fl_registry_progress *progress = copy->progress;

    return !progress || !progress->moved ||
           progress->moved(progress->user, what, copy->fetched + copy->sent, 2 * copy->to.total);
}

static bool on_fetched(void *user, const char *what, int64_t done, int64_t total)
{
    struct copy *copy = user;

    (void)total;
    copy->fetched = done;
    return tell(copy, what);
}

static bool on_sent(void *user, const char *what, int64_t done, int64_t total)
{
    struct copy *copy = user;

    (void)total;
    copy->sent = done;
    return tell(copy, what);
}

static int load(void *user, const struct fl_oci_descriptor *descriptor,
                struct fl_bytes **ret_document, struct fl_error *err)
{
    struct copy *copy = user;
    struct fl_registry_document document = {0};
    int r;

    copy->from.done += descriptor->size;
    if (fl_streq(descriptor->digest, copy->root->digest)) {
        *ret_document = fl_bytes_ref(copy->root->text);
        return 0;
    }
    r = fl_registry_get_manifest(&copy->from, copy->repository, descriptor->digest, &document, err);
    if (r == 0)
        *ret_document = document.text;
    return r;
}

static int open_blob(void *user, const struct fl_oci_descriptor *blob, int *ret_file,
                     struct fl_error *err)
{
    struct copy *copy = user;
    int64_t size;
    int r;

    copy->from.what = blob->digest;
    r = fl_registry_fetch_blob(&copy->from, copy->repository, blob, copy->blobs, err);
    if (r < 0)
        return r;
    r = fl_blobs_get(copy->blobs, blob->digest, ret_file, &size, err);
    if (r < 0)
        fl_blobs_unpin(copy->blobs, blob->digest);
    return r;
}

static void close_blob(void *user, const struct fl_oci_descriptor *blob)
{
    struct copy *copy = user;

    fl_blobs_unpin(copy->blobs, blob->digest);
    (void)fl_blobs_remove(copy->blobs, blob->digest, NULL); /* another's pin keeps it */
}

static void skipped(void *user, const struct fl_oci_descriptor *part)
{
    ((struct copy *)user)->from.done += part->size;
}

static int get_root(struct copy *copy, const struct fl_image_reference *reference,
                    struct fl_registry_document *document, struct fl_oci_descriptor *ret_root,
                    struct fl_error *err)
{
    struct fl_oci_manifest manifest = {0};
    int r = fl_registry_get_manifest(&copy->from, reference->repository,
                                     fl_str_or(reference->digest, reference->tag), document, err);

    if (r == 0)
        r = fl_oci_manifest_parse(copy->from.arena, document->text->data, document->text->len,
                                  document->media_type, &manifest, err);
    if (r < 0) {
        (void)fl_error_wrap(err, "%s/%s", copy->from.registry->name, reference->repository);
        return r;
    }
    *ret_root = fl_oci_describe(copy->from.arena, manifest.media_type, document->text);
    copy->root = document;
    return 0;
}

static int copy_image(struct copy *copy, const struct fl_image_reference *reference,
                      const struct fl_registry_target *target, struct fl_arena *arena,
                      struct fl_oci_descriptor *ret_root, struct fl_registry_pushed *ret_pushed,
                      struct fl_error *err)
{
    const struct fl_registry_source source = {load, open_blob, close_blob, skipped, copy};
    struct fl_registry_document document = {0};
    struct fl_oci_descriptor root = {0};
    int r = get_root(copy, reference, &document, &root, err);

    if (r == 0)
        r = fl_registry_push_from(&copy->to, &source, &root, target, ret_pushed, err);
    fl_bytes_unref(document.text);
    if (r < 0)
        return r;
    *ret_root = root;
    ret_root->media_type = fl_arena_strdup(arena, root.media_type);
    ret_root->digest = fl_arena_strdup(arena, root.digest);
    return 0;
}

int fl_registry_copy(struct fl_registry *from, const struct fl_image_reference *reference,
                     struct fl_registry *to, const char *repository, const char *const *tags,
                     size_t tag_count, struct fl_blobs *blobs,
                     const struct fl_registry_progress *progress, struct fl_arena *arena,
                     struct fl_oci_descriptor *ret_root, struct fl_registry_pushed *ret_pushed,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *own = fl_arena_create();
    struct copy copy = {.repository = reference->repository, .blobs = blobs, .progress = progress};
    const struct fl_registry_progress fetched = {on_fetched, &copy}, sent = {on_sent, &copy};
    const bool mounts = fl_registry_url_same_origin(&from->base, &to->base) &&
                        !fl_streq(reference->repository, repository);
    const struct fl_registry_target target = {repository, mounts ? reference->repository : NULL,
                                              tags, tag_count};

    assert(reference->tag || reference->digest);

    copy.from = fl_registry_begin(from, &fetched, own);
    copy.to = fl_registry_begin(to, &sent, own);
    return copy_image(&copy, reference, &target, arena, ret_root, ret_pushed, err);
}
