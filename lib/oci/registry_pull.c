#include "lib/oci/closure.h"
#include "lib/oci/registry_internal.h"
#include "lib/process.h"
#include "lib/str.h"

#include <assert.h>
#include <inttypes.h>

#define MIB (INT64_C(1) << 20)

/* --- one blob --- */

struct fetch {
    struct fl_registry_job *job;
    const struct fl_oci_descriptor *blob;
    struct fl_blob_writer *writer;
    int64_t before;    /* of the job, without this blob */
    int64_t milestone; /* progress up to here clears the count of failures */
    unsigned failures;
    bool ours; /* what failed is on this side: not worth another try */
};

static int wrong_size(struct fetch *fetch, int64_t size, struct fl_error *err)
{
    fetch->ours = true;
    return fl_error_set(err, FL_E_INVALID, "it has %" PRId64 " bytes, not %" PRId64, size,
                        fetch->blob->size);
}

static int begin_anew(struct fetch *fetch, struct fl_error *err)
{
    fetch->job->done = fetch->before;
    fetch->ours = true;
    if (fl_blob_writer_size(fetch->writer) > 0 && fl_blob_writer_restart(fetch->writer, err) < 0)
        return FL_E_UNAVAILABLE;
    fetch->ours = false;
    return 0;
}

/* Who does not know ranges sends all once more. */
static int on_begin(void *user, int status, const char *headers, struct fl_error *err)
{
    struct fetch *fetch = user;
    int64_t first, last, size = -1;
    char text[80];

    if (status == 200) {
        if (fl_http_find_header(headers, "Content-Length", text, sizeof(text)) &&
            fl_str_to_int64(text, 0, INT64_MAX, &size) && size != fetch->blob->size)
            return wrong_size(fetch, size, err);
        return begin_anew(fetch, err);
    }
    if (status != 206)
        return 0;
    if (!fl_http_find_header(headers, "Content-Range", text, sizeof(text)) ||
        !fl_registry_content_range_parse(text, &first, &last, &size) ||
        first != fl_blob_writer_size(fetch->writer))
        return fl_error_set(err, FL_E_UNAVAILABLE, "another part came than was asked for");
    return size >= 0 && size != fetch->blob->size ? wrong_size(fetch, size, err) : 0;
}

static int on_piece(void *user, const void *data, size_t len, struct fl_error *err)
{
    struct fetch *fetch = user;
    int r;

    if ((int64_t)len > fetch->blob->size - fl_blob_writer_size(fetch->writer)) {
        fetch->ours = true;
        return fl_error_set(err, FL_E_INVALID, "more came than %" PRId64 " bytes",
                            fetch->blob->size);
    }
    r = fl_blob_writer_add(fetch->writer, data, len, err);
    fetch->ours = r < 0;
    fetch->job->done = fetch->before + fl_blob_writer_size(fetch->writer);
    return r;
}

static int fetch_once(struct fetch *fetch, const char *target, const char *scope,
                      int64_t *ret_hint_ms, struct fl_error *err)
{
    struct fl_registry_job *job = fetch->job;
    struct fl_registry_request request = fl_registry_request_for(job, "GET", target, scope);
    FL_CLEANUP(fl_registry_answer_finish) struct fl_registry_answer answer = {0};
    const int64_t have = fl_blob_writer_size(fetch->writer);
    int r;

    if (have > 0)
        fl_registry_add_header(&request,
                               fl_arena_printf(job->arena, "Range: bytes=%" PRId64 "-", have));
    request.begin = on_begin;
    request.piece = on_piece;
    request.user = fetch;
    request.once = true;
    r = fl_registry_ask(job, &request, &answer, err);
    *ret_hint_ms = fl_registry_hint_ms(job, &answer);
    if (r < 0)
        return r;
    if (answer.status != 200 && answer.status != 206)
        return answer.status == 416 ? wrong_size(fetch, have, err)
                                    : fl_registry_refused(job, &answer, err);
    if (fl_blob_writer_size(fetch->writer) < fetch->blob->size)
        return fl_error_set(err, FL_E_UNAVAILABLE, "it ended too early");
    return 0;
}

/* A drop now and then is no progress: so many bytes must come before failures are forgiven. */
static bool forgive(struct fetch *fetch)
{
    const int64_t have = fl_blob_writer_size(fetch->writer);

    if (have < fetch->milestone)
        return false;
    fetch->milestone = have + MIB;
    fetch->failures = 0;
    return true;
}

static int fetch_all(struct fetch *fetch, const char *target, const char *scope,
                     struct fl_error *err)
{
    for (;;) {
        struct fl_error failed = {0};
        int64_t hint_ms = 0;
        int r = fetch_once(fetch, target, scope, &hint_ms, &failed);

        if (r == 0)
            return 0;
        (void)forgive(fetch);
        if (fetch->ours || !fl_registry_may_pass(fetch->job, failed.code) ||
            ++fetch->failures >= fetch->job->registry->tries)
            return fl_error_set(err, r, "%s", failed.msg);
        r = fl_registry_wait(fetch->job, fetch->failures, hint_ms, &failed, err);
        if (r < 0)
            return r;
    }
}

int fl_registry_fetch_blob(struct fl_registry_job *job, const char *repository,
                           const struct fl_oci_descriptor *blob, struct fl_blobs *blobs,
                           struct fl_error *err)
{
    FL_CLEANUP(fl_blob_writer_closep) struct fl_blob_writer *writer = NULL;
    struct fetch fetch = {.job = job, .blob = blob, .before = job->done, .milestone = MIB};
    char digest[FL_DIGEST_SIZE];
    int r = fl_blob_writer_open(blobs, &writer, err);

    if (r < 0)
        return r;
    fetch.writer = writer;
    r = fetch_all(&fetch, fl_arena_printf(job->arena, "/v2/%s/blobs/%s", repository, blob->digest),
                  fl_registry_scope(job, repository, "pull"), err);
    if (r == 0)
        r = fl_blob_writer_finish(writer, blob->digest, true, digest, err);
    if (r < 0)
        return r;
    job->done = fetch.before + blob->size;
    return 0;
}

/* --- all that a reference names --- */

struct pull {
    struct fl_registry_job *job;
    const char *repository;
    struct fl_blobs *blobs;
    struct fl_registry_pulled pulled;
    const struct fl_registry_document *root;
};

/* The root has come already; what is in the blobs needs no request. */
static int load(void *user, const struct fl_oci_descriptor *descriptor,
                struct fl_bytes **ret_document, struct fl_error *err)
{
    const struct pull *pull = user;
    struct fl_registry_document document = {0};
    int r;

    if (fl_streq(descriptor->digest, pull->root->digest)) {
        *ret_document = fl_bytes_ref(pull->root->text);
        return 0;
    }
    if (fl_oci_load_blob(pull->blobs, descriptor, ret_document, NULL) == 0)
        return 0;
    r = fl_registry_get_manifest(pull->job, pull->repository, descriptor->digest, &document, err);
    if (r == 0)
        *ret_document = document.text;
    return r;
}

/* > 0: it is there, and pinned. */
static int pin_what_is_there(const struct pull *pull, const struct fl_oci_descriptor *descriptor,
                             struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    int64_t size = 0;
    int r;

    if (fl_blobs_pin(pull->blobs, descriptor->digest, NULL) < 0)
        return 0;
    r = fl_blobs_get(pull->blobs, descriptor->digest, &fd, &size, err);
    if (r == 0 && size != descriptor->size)
        r = fl_error_set(err, FL_E_INVALID, "it has %" PRId64 " bytes, not %" PRId64, size,
                         descriptor->size);
    if (r < 0)
        fl_blobs_unpin(pull->blobs, descriptor->digest);
    return r < 0 ? r : 1;
}

static int take_part(struct pull *pull, const struct fl_oci_part *part, struct fl_error *err)
{
    struct fl_registry_job *job = pull->job;
    const struct fl_oci_descriptor *descriptor = &part->descriptor;
    char digest[FL_DIGEST_SIZE];
    int r;

    job->what = descriptor->digest;
    r = pin_what_is_there(pull, descriptor, err);
    if (r != 0) {
        pull->pulled.parts_there += r > 0;
        pull->pulled.bytes_there += r > 0 ? descriptor->size : 0;
        job->done += descriptor->size;
        return r < 0 ? r : 0;
    }
    if (part->document) {
        r = fl_blobs_put(pull->blobs, part->document->data, part->document->len, true, digest, err);
        job->done += descriptor->size;
    } else {
        r = fl_registry_fetch_blob(job, pull->repository, descriptor, pull->blobs, err);
    }
    pull->pulled.parts_received += r == 0;
    pull->pulled.bytes_received += r == 0 ? descriptor->size : 0;
    return r;
}

static int take_parts(struct pull *pull, const struct fl_oci_closure *closure,
                      struct fl_arena *arena, struct fl_error *err)
{
    struct fl_oci_texts *pinned = &pull->pulled.pinned;

    pinned->items = fl_new_array(arena, const char *, closure->count);
    pull->job->total = closure->bytes;
    for (size_t i = 0; i < closure->count; i++) {
        int r = fl_registry_tell(pull->job)
                    ? take_part(pull, &closure->parts[i], err)
                    : fl_error_set(err, FL_E_UNAVAILABLE, "the transfer was broken off");

        if (r < 0)
            return fl_error_wrap(err, "%s", closure->parts[i].descriptor.digest);
        pinned->items[pinned->count++] =
            fl_arena_strdup(arena, closure->parts[i].descriptor.digest);
    }
    (void)fl_registry_tell(pull->job);
    return 0;
}

void fl_registry_unpin(struct fl_blobs *blobs, const struct fl_registry_pulled *pulled)
{
    for (size_t i = 0; i < pulled->pinned.count; i++)
        fl_blobs_unpin(blobs, pulled->pinned.items[i]);
}

/* The type that the document says of itself, where the answer was of none or a general one. */
static int describe_root(struct pull *pull, struct fl_arena *arena, struct fl_error *err)
{
    const struct fl_registry_document *root = pull->root;
    struct fl_oci_manifest manifest;
    const char *type = root->media_type;
    int r;

    if (fl_streq(type, "application/json") || fl_streq(type, "text/plain"))
        type = NULL;
    r = fl_oci_manifest_parse(arena, root->text->data, root->text->len, type, &manifest, err);
    if (r == 0)
        pull->pulled.root = fl_oci_describe(arena, manifest.media_type, root->text);
    return r;
}

static int pull_all(struct pull *pull, const struct fl_platform *platforms, size_t count,
                    struct fl_arena *arena, struct fl_error *err)
{
    const struct fl_oci_closing closing = {
        .load = load, .user = pull, .platforms = platforms, .platform_count = count};
    struct fl_oci_closure closure = {0};
    int r = describe_root(pull, arena, err);

    if (r == 0)
        r = fl_oci_closure(pull->job->arena, &pull->pulled.root, &closing, &closure, err);
    if (r == 0)
        r = take_parts(pull, &closure, arena, err);
    if (r < 0)
        fl_registry_unpin(pull->blobs, &pull->pulled);
    return r;
}

int fl_registry_pull(struct fl_registry *registry, const struct fl_image_reference *reference,
                     const struct fl_platform *platforms, size_t platform_count,
                     struct fl_blobs *blobs, const struct fl_registry_progress *progress,
                     struct fl_arena *arena, struct fl_registry_pulled *ret_pulled,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *own = fl_arena_create();
    struct fl_registry_job job = fl_registry_begin(registry, progress, own);
    struct fl_registry_document root = {0};
    struct pull pull = {
        .job = &job, .repository = reference->repository, .blobs = blobs, .root = &root};
    int r;

    assert(reference->tag || reference->digest);

    r = fl_registry_get_manifest(&job, reference->repository,
                                 fl_str_or(reference->digest, reference->tag), &root, err);
    if (r == 0)
        r = pull_all(&pull, platforms, platform_count, arena, err);
    fl_bytes_unref(root.text);
    if (r < 0)
        return fl_error_wrap(err, "pull %s/%s", registry->base.host, reference->repository);
    *ret_pulled = pull.pulled;
    return 0;
}
