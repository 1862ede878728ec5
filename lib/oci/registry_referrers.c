/* Who refers to a manifest: by the registry's own list, or by a tag that clients keep. */
#include "lib/oci/registry_internal.h"
#include "lib/str.h"

#define FALLBACK_TRIES 4

/* "sha256-<hex>": a tag has no ':'. */
static const char *fallback_tag(struct fl_registry_job *job, const char *digest)
{
    char *tag = fl_arena_strdup(job->arena, digest);

    tag[strcspn(tag, ":")] = '-';
    return tag;
}

static int add_matching(struct fl_arena *arena, const struct fl_oci_manifest *index,
                        const char *artifact_type, struct fl_oci_descriptors *found,
                        struct fl_error *err)
{
    struct fl_oci_descriptor *items;

    if (found->count + index->layers.count > (size_t)FL_OCI_MANIFESTS_MAX * 16)
        return fl_error_set(err, FL_E_TOO_LARGE, "too many documents refer to it");
    items = fl_new_array(arena, struct fl_oci_descriptor, found->count + index->layers.count + 1);
    if (found->count > 0)
        memcpy(items, found->items, found->count * sizeof(*items));
    for (size_t i = 0; i < index->layers.count; i++)
        if (!artifact_type || fl_streq(index->layers.items[i].artifact_type, artifact_type))
            items[found->count++] = index->layers.items[i];
    found->items = items;
    return 0;
}

struct listing {
    struct fl_arena *arena;
    const char *artifact_type;
    struct fl_oci_descriptors found;
};

static int on_page(void *user, struct fl_registry_job *job, const struct fl_registry_answer *answer,
                   struct fl_error *err)
{
    struct listing *listing = user;
    struct fl_oci_manifest index;
    int r = fl_oci_manifest_parse(listing->arena, answer->body->data, answer->body->len,
                                  FL_OCI_INDEX, &index, err);

    (void)job;
    if (r < 0) {
        (void)fl_error_wrap(err, "list of referrers");
        return r;
    }
    return add_matching(listing->arena, &index, listing->artifact_type, &listing->found, err);
}

/* The index of the tag; a missing one is empty, and *ret_document stays empty. */
static int get_fallback(struct fl_registry_job *job, struct fl_arena *arena, const char *repository,
                        const char *tag, struct fl_oci_manifest *ret_index, struct fl_error *err)
{
    struct fl_registry_document document = {0};
    struct fl_error failed = {0};
    int r = fl_registry_get_manifest(job, repository, tag, &document, &failed);

    *ret_index = (struct fl_oci_manifest){.is_index = true, .media_type = FL_OCI_INDEX};
    if (r == FL_E_NOT_FOUND)
        return 0;
    if (r == 0)
        r = fl_oci_manifest_parse(arena, document.text->data, document.text->len,
                                  document.media_type, ret_index, &failed);
    fl_bytes_unref(document.text);
    if (r < 0)
        return fl_error_set(err, r, "tag %s: %s", tag, failed.msg);
    if (!ret_index->is_index)
        return fl_error_set(err, FL_E_INVALID, "tag %s is no index", tag);
    return 0;
}

static int list_fallback(struct fl_registry_job *job, const char *repository, const char *digest,
                         struct listing *listing, struct fl_error *err)
{
    struct fl_oci_manifest index;
    int r = get_fallback(job, listing->arena, repository, fallback_tag(job, digest), &index, err);

    return r < 0
               ? r
               : add_matching(listing->arena, &index, listing->artifact_type, &listing->found, err);
}

int fl_registry_referrers(struct fl_registry *registry, const char *repository, const char *digest,
                          const char *artifact_type, struct fl_arena *arena,
                          struct fl_oci_descriptors *ret_referrers, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *own = fl_arena_create();
    struct fl_registry_job job = fl_registry_begin(registry, NULL, own);
    const char *target = fl_arena_printf(own, "/v2/%s/referrers/%s", repository, digest);
    struct listing listing = {.arena = arena, .artifact_type = artifact_type};
    struct fl_registry_request request;
    struct fl_error failed = {0};
    int r;

    if (artifact_type)
        target = fl_registry_query(own, target, "artifactType", artifact_type);
    request =
        fl_registry_request_for(&job, "GET", target, fl_registry_scope(&job, repository, "pull"));
    fl_registry_add_header(&request, "Accept: " FL_OCI_INDEX);
    r = fl_registry_pages(&job, &request, on_page, &listing, &failed);
    if (r == FL_E_NOT_FOUND)
        r = list_fallback(&job, repository, digest, &listing, &failed);
    if (r < 0)
        return fl_error_set(err, r, "%s/%s: %s", registry->name, repository, failed.msg);
    *ret_referrers = listing.found;
    return 0;
}

/* --- keeping the tag --- */

static bool lists(const struct fl_oci_manifest *index, const char *digest)
{
    for (size_t i = 0; i < index->layers.count; i++)
        if (fl_streq(index->layers.items[i].digest, digest))
            return true;
    return false;
}

static int put_with(struct fl_registry_job *job, const char *repository, const char *tag,
                    struct fl_oci_manifest *index, const struct fl_oci_descriptor *more,
                    struct fl_error *err)
{
    struct fl_oci_descriptor *items =
        fl_new_array(job->arena, struct fl_oci_descriptor, index->layers.count + 1);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    bool unused;

    if (index->layers.count == FL_OCI_MANIFESTS_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "tag %s is full", tag);
    if (index->layers.count > 0)
        memcpy(items, index->layers.items, index->layers.count * sizeof(*items));
    items[index->layers.count++] = *more;
    index->layers.items = items;
    text = fl_oci_manifest_encode(index);
    return fl_registry_put_manifest(job, repository, tag, index->media_type, text, &unused, err);
}

/* Two who add at a time may undo each other: who comes looks again whether it is there. */
int fl_registry_add_referrer(struct fl_registry_job *job, const char *repository,
                             const struct fl_oci_descriptor *descriptor,
                             const struct fl_oci_manifest *manifest, struct fl_error *err)
{
    const char *tag = fallback_tag(job, manifest->subject.digest);
    struct fl_oci_descriptor entry = {.media_type = manifest->media_type,
                                      .digest = descriptor->digest,
                                      .size = descriptor->size,
                                      .artifact_type = fl_oci_manifest_artifact_type(manifest),
                                      .annotations = manifest->annotations};

    for (int i = 0; i < FALLBACK_TRIES; i++) {
        struct fl_oci_manifest index;
        int r = get_fallback(job, job->arena, repository, tag, &index, err);

        if (r < 0 || lists(&index, descriptor->digest))
            return r;
        r = put_with(job, repository, tag, &index, &entry, err);
        if (r < 0)
            return r;
    }
    return fl_error_set(err, FL_E_CONFLICT, "tag %s: others keep changing it", tag);
}
