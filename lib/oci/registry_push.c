#include "lib/oci/registry_internal.h"
#include "lib/str.h"

struct push {
    struct fl_registry_job *job;
    const struct fl_registry_source *source;
    const struct fl_registry_target *target;
    const struct fl_oci_descriptor *root;
    const char *scope;
    struct fl_registry_pushed pushed;
    struct fl_error failed; /* while it was looked what is there */
};

static void note_there(struct push *push, const struct fl_oci_descriptor *part, size_t *count)
{
    (*count)++;
    push->pushed.bytes_there += part->size;
    if (push->source->skipped)
        push->source->skipped(push->source->user, part);
}

static void note_sent(struct push *push, const struct fl_oci_descriptor *part)
{
    push->pushed.blobs_sent++;
    push->pushed.bytes_sent += part->size;
}

static int is_there(struct push *push, const char *kind, const struct fl_oci_descriptor *part,
                    struct fl_error *err)
{
    return fl_registry_is_there(push->job, push->target->repository, kind, part->digest,
                                push->scope, err);
}

/* A failure is told when the closure is complete. */
static bool is_manifest_there(void *user, const struct fl_oci_descriptor *descriptor)
{
    struct push *push = user;
    int r = push->failed.code ? 1 : is_there(push, "manifests", descriptor, &push->failed);

    if (r > 0)
        note_there(push, descriptor, &push->pushed.blobs_there);
    return r != 0;
}

/* --- parts --- */

static int send_blob(struct push *push, const struct fl_oci_descriptor *blob, struct fl_error *err)
{
    const struct fl_registry_upload upload = {push->target->repository, push->target->from, *blob,
                                              push->source};
    int r = fl_registry_send_blob(push->job, &upload, err);

    if (r > 0)
        note_there(push, blob, &push->pushed.blobs_mounted);
    if (r == 0)
        note_sent(push, blob);
    return r < 0 ? r : 0;
}

static int push_blob(struct push *push, const struct fl_oci_descriptor *blob, struct fl_error *err)
{
    int r = is_there(push, "blobs", blob, err);

    if (r == 0)
        return send_blob(push, blob, err);
    if (r > 0) {
        push->job->done += blob->size;
        note_there(push, blob, &push->pushed.blobs_there);
    }
    return r < 0 ? r : 0;
}

static int put(struct push *push, const struct fl_oci_part *part, const char *reference,
               struct fl_error *err)
{
    const char *repository = push->target->repository;
    bool knows_subject = false;
    int r = fl_registry_put_manifest(push->job, repository, reference, part->manifest->media_type,
                                     part->document, &knows_subject, err);

    if (r == 0 && part->manifest->has_subject && !knows_subject)
        r = fl_registry_add_referrer(push->job, repository, &part->descriptor, part->manifest, err);
    return r;
}

static int push_manifest(struct push *push, const struct fl_oci_part *part, struct fl_error *err)
{
    int r = put(push, part, part->descriptor.digest, err);

    if (r < 0)
        return r;
    note_sent(push, &part->descriptor);
    push->job->done += part->descriptor.size;
    return 0;
}

static int push_tags(struct push *push, const struct fl_oci_part *root, struct fl_error *err)
{
    for (size_t i = 0; i < push->target->tag_count; i++) {
        int r = put(push, root, push->target->tags[i], err);

        if (r < 0) {
            (void)fl_error_wrap(err, "tag %s", push->target->tags[i]);
            return r;
        }
    }
    return 0;
}

static int push_part(struct push *push, const struct fl_oci_part *part, struct fl_error *err)
{
    int r;

    push->job->what = part->descriptor.digest;
    if (!fl_registry_tell(push->job))
        return fl_error_set(err, FL_E_UNAVAILABLE, "the transfer was broken off");
    r = part->document ? push_manifest(push, part, err) : push_blob(push, &part->descriptor, err);
    if (r < 0)
        (void)fl_error_wrap(err, "%s", part->descriptor.digest);
    return r;
}

/* All parts but the root: with tags it is put under each of them, else under its digest. */
static int push_parts(struct push *push, const struct fl_oci_closure *closure, struct fl_error *err)
{
    const struct fl_oci_part *root = &closure->parts[closure->count - 1];
    int r = 0;

    push->job->total = closure->bytes;
    for (size_t i = 0; r == 0 && i + 1 < closure->count; i++)
        r = push_part(push, &closure->parts[i], err);
    if (r == 0 && push->target->tag_count == 0)
        r = push_part(push, root, err);
    else if (r == 0) {
        r = push_tags(push, root, err);
        note_sent(push, &root->descriptor);
        push->job->done += root->descriptor.size;
    }
    if (r == 0)
        (void)fl_registry_tell(push->job);
    return r;
}

/* A root that is there has its parts there: it gets its tags, and that is all. */
static bool leave_out(void *user, const struct fl_oci_descriptor *descriptor)
{
    (void)user;
    (void)descriptor;
    return true;
}

static int push_known(struct push *push, const struct fl_oci_closure *closure, struct fl_error *err)
{
    note_there(push, push->root, &push->pushed.blobs_there);
    return push_tags(push, &closure->parts[closure->count - 1], err);
}

static int push_all(struct push *push, struct fl_error *err)
{
    struct fl_oci_closing closing = {
        .load = push->source->load, .user = push->source->user, .is_there = NULL};
    struct fl_oci_closure closure = {0};
    int there = is_there(push, "manifests", push->root, err);
    int r = there < 0 ? there : 0;

    closing.is_there = there > 0 ? leave_out : is_manifest_there;
    closing.there_user = push;
    if (r == 0)
        r = fl_oci_closure(push->job->arena, push->root, &closing, &closure, err);
    if (r == 0 && push->failed.code)
        r = fl_error_set(err, push->failed.code, "%s", push->failed.msg);
    if (r < 0)
        return r;
    return there > 0 ? push_known(push, &closure, err) : push_parts(push, &closure, err);
}

int fl_registry_push_from(struct fl_registry_job *job, const struct fl_registry_source *source,
                          const struct fl_oci_descriptor *root,
                          const struct fl_registry_target *target,
                          struct fl_registry_pushed *ret_pushed, struct fl_error *err)
{
    struct push push = {.job = job,
                        .source = source,
                        .target = target,
                        .root = root,
                        .scope = fl_registry_scope(job, target->repository, "pull,push")};
    int r = push_all(&push, err);

    if (r < 0) {
        (void)fl_error_wrap(err, "push %s/%s", job->registry->name, target->repository);
        return r;
    }
    if (ret_pushed)
        *ret_pushed = push.pushed;
    return 0;
}

/* --- out of blobs --- */

static int open_blob(void *user, const struct fl_oci_descriptor *blob, int *ret_file,
                     struct fl_error *err)
{
    int64_t size;

    return fl_blobs_get(user, blob->digest, ret_file, &size, err);
}

int fl_registry_push(struct fl_registry *registry, const char *repository, const char *from,
                     const struct fl_oci_descriptor *root, const char *const *tags,
                     size_t tag_count, struct fl_blobs *blobs,
                     const struct fl_registry_progress *progress,
                     struct fl_registry_pushed *ret_pushed, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *own = fl_arena_create();
    struct fl_registry_job job = fl_registry_begin(registry, progress, own);
    const struct fl_registry_source source = {
        .load = fl_oci_load_blob, .open = open_blob, .user = blobs};
    const struct fl_registry_target target = {repository, from, tags, tag_count};

    return fl_registry_push_from(&job, &source, root, &target, ret_pushed, err);
}
