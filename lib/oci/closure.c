#include "lib/oci/closure.h"

#include "lib/file.h"
#include "lib/map.h"
#include "lib/process.h"
#include "lib/str.h"

#include <inttypes.h>

struct closing {
    const struct fl_oci_closing *how;
    struct fl_arena *arena;
    struct fl_map *documents_seen, *blobs_seen; /* digests: one may stand for both */
    struct fl_oci_closure closure;
    size_t capacity, documents, document_bytes;
};

static void unref_document(void *user)
{
    fl_bytes_unref(user);
}

/* False: it was there already. */
static bool is_new(struct fl_map *seen, const char *digest)
{
    if (fl_map_get(seen, digest))
        return false;
    fl_map_put(seen, digest, seen);
    return true;
}

static int add_part(struct closing *closing, const struct fl_oci_part *part, struct fl_error *err)
{
    struct fl_oci_closure *closure = &closing->closure;

    if (closure->count == FL_OCI_CLOSURE_BLOBS_MAX + FL_OCI_DOCUMENTS_MAX ||
        part->descriptor.size > INT64_MAX / 2 - closure->bytes)
        return fl_error_set(err, FL_E_INVALID, "the image has more than %d parts",
                            FL_OCI_CLOSURE_BLOBS_MAX);
    if (closure->count == closing->capacity) {
        struct fl_oci_part *old = closure->parts;

        closing->capacity = closing->capacity ? 2 * closing->capacity : 32;
        closure->parts = fl_new_array(closing->arena, struct fl_oci_part, closing->capacity);
        if (old)
            memcpy(closure->parts, old, closure->count * sizeof(*old));
    }
    closure->parts[closure->count++] = *part;
    closure->bytes += part->descriptor.size;
    return 0;
}

static int add_blob(struct closing *closing, const struct fl_oci_descriptor *descriptor,
                    struct fl_error *err)
{
    return is_new(closing->blobs_seen, descriptor->digest)
               ? add_part(closing, &(struct fl_oci_part){.descriptor = *descriptor}, err)
               : 0;
}

static int check_document(struct closing *closing, const struct fl_oci_descriptor *descriptor,
                          const struct fl_bytes *document, struct fl_error *err)
{
    char digest[FL_DIGEST_SIZE];

    closing->document_bytes += document->len;
    if (++closing->documents > FL_OCI_DOCUMENTS_MAX ||
        closing->document_bytes > FL_OCI_DOCUMENTS_BYTES)
        return fl_error_set(err, FL_E_INVALID, "the image has too many manifests");
    if ((int64_t)document->len != descriptor->size)
        return fl_error_set(err, FL_E_INVALID, "it has %zu bytes, not %" PRId64, document->len,
                            descriptor->size);
    fl_digest_of(document->data, document->len, digest);
    if (!fl_streq(digest, descriptor->digest))
        return fl_error_set(err, FL_E_INVALID, "its content is %s", digest);
    return 0;
}

static int load(struct closing *closing, const struct fl_oci_descriptor *descriptor,
                struct fl_oci_part *ret_part, struct fl_error *err)
{
    struct fl_oci_manifest *manifest = fl_new(closing->arena, struct fl_oci_manifest);
    struct fl_bytes *document = NULL;
    int r;

    if (descriptor->size > (int64_t)FL_OCI_MANIFEST_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "a manifest has at most %zu bytes",
                            FL_OCI_MANIFEST_MAX);
    r = closing->how->load(closing->how->user, descriptor, &document, err);
    if (r < 0)
        return r;
    fl_arena_on_reset(closing->arena, unref_document, document);
    r = check_document(closing, descriptor, document, err);
    if (r == 0)
        r = fl_oci_manifest_parse(closing->arena, document->data, document->len,
                                  descriptor->media_type, manifest, err);
    if (r < 0)
        return r;
    *ret_part = (struct fl_oci_part){*descriptor, document, manifest};
    return 0;
}

static int add_manifest(struct closing *closing, const struct fl_oci_descriptor *descriptor,
                        unsigned depth, struct fl_error *err);

static int add_platforms(struct closing *closing, const struct fl_oci_manifest *index,
                         unsigned depth, struct fl_error *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < closing->how->platform_count; i++) {
        const struct fl_oci_descriptor *chosen =
            fl_oci_index_choose(index, &closing->how->platforms[i], err);

        r = chosen ? add_manifest(closing, chosen, depth, err) : FL_E_NOT_FOUND;
    }
    return r;
}

static int add_children(struct closing *closing, const struct fl_oci_manifest *manifest,
                        unsigned depth, struct fl_error *err)
{
    int r = 0;

    if (manifest->is_index && closing->how->platform_count > 0)
        return add_platforms(closing, manifest, depth, err);
    if (!manifest->is_index)
        r = add_blob(closing, &manifest->config, err);
    for (size_t i = 0; r == 0 && i < manifest->layers.count; i++)
        r = manifest->is_index ? add_manifest(closing, &manifest->layers.items[i], depth, err)
                               : add_blob(closing, &manifest->layers.items[i], err);
    return r;
}

static int add_manifest(struct closing *closing, const struct fl_oci_descriptor *descriptor,
                        unsigned depth, struct fl_error *err)
{
    const struct fl_oci_closing *how = closing->how;
    struct fl_oci_part part = {0};
    int r;

    if (depth > FL_OCI_NESTING_MAX)
        return fl_error_set(err, FL_E_INVALID, "indexes are nested more than %d deep",
                            FL_OCI_NESTING_MAX);
    if (!is_new(closing->documents_seen, descriptor->digest) ||
        (depth > 0 && how->is_there && how->is_there(how->there_user, descriptor)))
        return 0;
    r = load(closing, descriptor, &part, err);
    if (r < 0) {
        (void)fl_error_wrap(err, "manifest %s", descriptor->digest);
        return r;
    }
    r = add_children(closing, part.manifest, depth + 1, err);
    return r < 0 ? r : add_part(closing, &part, err);
}

int fl_oci_closure(struct fl_arena *arena, const struct fl_oci_descriptor *root,
                   const struct fl_oci_closing *closing, struct fl_oci_closure *ret_closure,
                   struct fl_error *err)
{
    FL_CLEANUP(fl_map_destroyp) struct fl_map *documents = fl_map_create(NULL);
    FL_CLEANUP(fl_map_destroyp) struct fl_map *blobs = fl_map_create(NULL);
    struct closing state = {
        .how = closing, .arena = arena, .documents_seen = documents, .blobs_seen = blobs};
    int r = add_manifest(&state, root, 0, err);

    if (r == 0)
        *ret_closure = state.closure;
    return r;
}

int fl_oci_load_blob(void *user, const struct fl_oci_descriptor *descriptor,
                     struct fl_bytes **ret_document, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    int64_t size;
    int r = fl_blobs_get(user, descriptor->digest, &fd, &size, err);

    return r < 0 ? r : fl_fd_read(fd, FL_OCI_MANIFEST_MAX, ret_document, err);
}

/* --- taking --- */

/* > 0: it is there, and pinned. */
static int pin_what_is_there(struct fl_blobs *blobs, const struct fl_oci_descriptor *descriptor,
                             struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    int64_t size = 0;
    int r;

    if (fl_blobs_pin(blobs, descriptor->digest, NULL) < 0)
        return 0;
    r = fl_blobs_get(blobs, descriptor->digest, &fd, &size, err);
    if (r == 0 && size != descriptor->size)
        r = fl_error_set(err, FL_E_INVALID, "it has %" PRId64 " bytes, not %" PRId64, size,
                         descriptor->size);
    if (r < 0)
        fl_blobs_unpin(blobs, descriptor->digest);
    return r < 0 ? r : 1;
}

static int take_part(const struct fl_oci_part *part, struct fl_blobs *blobs, fl_oci_bring_fn *bring,
                     void *user, struct fl_oci_taken *taken, struct fl_error *err)
{
    char digest[FL_DIGEST_SIZE];
    int there = pin_what_is_there(blobs, &part->descriptor, err), r;

    if (there < 0)
        return there;
    r = bring(user, part, there > 0, err);
    if (r == 0 && there == 0 && part->document)
        r = fl_blobs_put(blobs, part->document->data, part->document->len, true, digest, err);
    if (r < 0 && there > 0)
        fl_blobs_unpin(blobs, part->descriptor.digest);
    if (r < 0)
        return r;
    taken->parts_there += there > 0;
    taken->bytes_there += there > 0 ? part->descriptor.size : 0;
    taken->parts_taken += there == 0;
    taken->bytes_taken += there == 0 ? part->descriptor.size : 0;
    return 0;
}

void fl_oci_unpin(struct fl_blobs *blobs, const struct fl_oci_taken *taken)
{
    for (size_t i = 0; i < taken->pinned.count; i++)
        fl_blobs_unpin(blobs, taken->pinned.items[i]);
}

int fl_oci_take(const struct fl_oci_closure *closure, struct fl_blobs *blobs,
                fl_oci_bring_fn *bring, void *user, struct fl_arena *arena,
                struct fl_oci_taken *ret_taken, struct fl_error *err)
{
    struct fl_oci_taken taken = {.root = closure->parts[closure->count - 1].descriptor};

    taken.root.media_type = fl_arena_strdup(arena, taken.root.media_type);
    taken.root.digest = fl_arena_strdup(arena, taken.root.digest);
    taken.pinned.items = fl_new_array(arena, const char *, closure->count);
    for (size_t i = 0; i < closure->count; i++) {
        const struct fl_oci_part *part = &closure->parts[i];
        int r = take_part(part, blobs, bring, user, &taken, err);

        if (r < 0) {
            fl_oci_unpin(blobs, &taken);
            (void)fl_error_wrap(err, "%s", part->descriptor.digest);
            return r;
        }
        taken.pinned.items[taken.pinned.count++] = fl_arena_strdup(arena, part->descriptor.digest);
    }
    *ret_taken = taken;
    return 0;
}
