#include "lib/oci/closure.h"
#include "lib/oci/registry_internal.h"
#include "lib/process.h"
#include "lib/str.h"

#include <inttypes.h>

struct push {
    struct fl_registry_job *job;
    const char *repository, *from, *scope;
    struct fl_blobs *blobs;
    struct fl_registry_pushed pushed;
    const struct fl_oci_descriptor *root;
    struct fl_error failed; /* while it was looked what is there */
};

static int load(void *user, const struct fl_oci_descriptor *descriptor,
                struct fl_bytes **ret_document, struct fl_error *err)
{
    const struct push *push = user;

    return fl_oci_load_blob(push->blobs, descriptor, ret_document, err);
}

static bool is_manifest_there(void *user, const struct fl_oci_descriptor *descriptor)
{
    struct push *push = user;
    int r = push->failed.code
                ? 0
                : fl_registry_is_there(push->job, push->repository, "manifests", descriptor->digest,
                                       push->scope, &push->failed);

    push->pushed.blobs_there += r > 0;
    push->pushed.bytes_there += r > 0 ? descriptor->size : 0;
    return r != 0;
}

static int send_blob(struct push *push, const struct fl_oci_descriptor *blob, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    struct fl_registry_upload upload = {push->repository, push->from, *blob, -1};
    int64_t size;
    int r = fl_blobs_get(push->blobs, blob->digest, &fd, &size, err);

    if (r < 0)
        return r;
    if (size != blob->size)
        return fl_error_set(err, FL_E_INVALID, "it has %" PRId64 " bytes, not %" PRId64, size,
                            blob->size);
    upload.file = fd;
    r = fl_registry_send_blob(push->job, &upload, err);
    if (r < 0)
        return r;
    push->pushed.blobs_mounted += r > 0;
    push->pushed.blobs_sent += r == 0;
    push->pushed.bytes_sent += r == 0 ? blob->size : 0;
    push->pushed.bytes_there += r > 0 ? blob->size : 0;
    return 0;
}

static int push_blob(struct push *push, const struct fl_oci_descriptor *blob, struct fl_error *err)
{
    int r =
        fl_registry_is_there(push->job, push->repository, "blobs", blob->digest, push->scope, err);

    if (r == 0)
        return send_blob(push, blob, err);
    if (r > 0) {
        push->pushed.blobs_there++;
        push->pushed.bytes_there += blob->size;
        push->job->done += blob->size;
    }
    return r < 0 ? r : 0;
}

static int put(struct push *push, const struct fl_oci_part *part, const char *reference,
               struct fl_error *err)
{
    bool knows_subject = false;
    int r =
        fl_registry_put_manifest(push->job, push->repository, reference, part->manifest->media_type,
                                 part->document, &knows_subject, err);

    if (r == 0 && part->manifest->has_subject && !knows_subject)
        r = fl_registry_add_referrer(push->job, push->repository, &part->descriptor, part->manifest,
                                     err);
    return r;
}

static int push_manifest(struct push *push, const struct fl_oci_part *part, struct fl_error *err)
{
    int r = put(push, part, part->descriptor.digest, err);

    if (r < 0)
        return r;
    push->pushed.blobs_sent++;
    push->pushed.bytes_sent += part->descriptor.size;
    push->job->done += part->descriptor.size;
    return 0;
}

static int push_tags(struct push *push, const struct fl_oci_part *root, const char *const *tags,
                     size_t tag_count, struct fl_error *err)
{
    for (size_t i = 0; i < tag_count; i++) {
        int r = put(push, root, tags[i], err);

        if (r < 0)
            return fl_error_wrap(err, "tag %s", tags[i]);
    }
    return 0;
}

/* All parts but the root: with tags it is put under each of them, else under its digest. */
static int push_parts(struct push *push, const struct fl_oci_closure *closure,
                      const char *const *tags, size_t tag_count, struct fl_error *err)
{
    const struct fl_oci_part *root = &closure->parts[closure->count - 1];
    int r = 0;

    push->job->total = closure->bytes;
    for (size_t i = 0; r == 0 && i < closure->count; i++) {
        const struct fl_oci_part *part = &closure->parts[i];

        push->job->what = part->descriptor.digest;
        if (!fl_registry_tell(push->job))
            return fl_error_set(err, FL_E_UNAVAILABLE, "the transfer was broken off");
        if (part != root || tag_count == 0)
            r = part->document ? push_manifest(push, part, err)
                               : push_blob(push, &part->descriptor, err);
        if (r < 0)
            return fl_error_wrap(err, "%s", part->descriptor.digest);
    }
    if (tag_count == 0)
        return 0;
    r = push_tags(push, root, tags, tag_count, err);
    push->pushed.blobs_sent++;
    push->pushed.bytes_sent += root->descriptor.size;
    push->job->done += root->descriptor.size;
    (void)fl_registry_tell(push->job);
    return r;
}

/* A root that is there has its parts there: it gets its tags, and that is all. */
static bool no_child(void *user, const struct fl_oci_descriptor *descriptor)
{
    (void)user;
    (void)descriptor;
    return true;
}

static int push_all(struct push *push, const char *const *tags, size_t tag_count,
                    struct fl_error *err)
{
    struct fl_oci_closing closing = {.load = load, .user = push, .is_there = is_manifest_there};
    struct fl_oci_closure closure = {0};
    int there = fl_registry_is_there(push->job, push->repository, "manifests", push->root->digest,
                                     push->scope, err);
    int r = there < 0 ? there : 0;

    if (there > 0)
        closing.is_there = no_child;
    if (r == 0)
        r = fl_oci_closure(push->job->arena, push->root, &closing, &closure, err);
    if (r == 0 && push->failed.code)
        r = fl_error_set(err, push->failed.code, "%s", push->failed.msg);
    if (r == 0 && there > 0) {
        push->pushed.blobs_there++;
        push->pushed.bytes_there += push->root->size;
        return push_tags(push, &closure.parts[closure.count - 1], tags, tag_count, err);
    }
    return r < 0 ? r : push_parts(push, &closure, tags, tag_count, err);
}

int fl_registry_push(struct fl_registry *registry, const char *repository, const char *from,
                     const struct fl_oci_descriptor *root, const char *const *tags,
                     size_t tag_count, struct fl_blobs *blobs,
                     const struct fl_registry_progress *progress,
                     struct fl_registry_pushed *ret_pushed, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *own = fl_arena_create();
    struct fl_registry_job job = fl_registry_begin(registry, progress, own);
    struct push push = {.job = &job,
                        .repository = repository,
                        .from = from,
                        .scope = fl_registry_scope(&job, repository, "pull,push"),
                        .blobs = blobs,
                        .root = root};
    int r = push_all(&push, tags, tag_count, err);

    if (r < 0)
        return fl_error_wrap(err, "push %s/%s", registry->base.host, repository);
    if (ret_pushed)
        *ret_pushed = push.pushed;
    return 0;
}
