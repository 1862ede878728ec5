#include "lib/oci/registry_internal.h"
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

/* What broke after the last byte does not matter: the digest decides. */
static bool is_complete(const struct fetch *fetch)
{
    return fetch->blob->size > 0 && fl_blob_writer_size(fetch->writer) == fetch->blob->size;
}

/* A drop now and then is no progress: so many bytes must come before failures are forgiven. */
static void forgive(struct fetch *fetch)
{
    const int64_t have = fl_blob_writer_size(fetch->writer);

    if (have < fetch->milestone)
        return;
    fetch->milestone = have + MIB;
    fetch->failures = 0;
}

static int fetch_all(struct fetch *fetch, const char *target, const char *scope,
                     struct fl_error *err)
{
    for (;;) {
        struct fl_error failed = {0};
        int64_t hint_ms = 0;
        int r = fetch_once(fetch, target, scope, &hint_ms, &failed);

        if (r == 0 || (!fetch->ours && is_complete(fetch)))
            return 0;
        forgive(fetch);
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

static int bring(void *user, const struct fl_oci_part *part, bool is_there, struct fl_error *err)
{
    struct pull *pull = user;
    struct fl_registry_job *job = pull->job;

    job->what = part->descriptor.digest;
    if (!fl_registry_tell(job))
        return fl_error_set(err, FL_E_UNAVAILABLE, "the transfer was broken off");
    if (!is_there && !part->document)
        return fl_registry_fetch_blob(job, pull->repository, &part->descriptor, pull->blobs, err);
    job->done += part->descriptor.size;
    return 0;
}

/* The type that the document says of itself, where the answer was of none or a general one. */
static int describe(const struct fl_registry_document *document, struct fl_arena *arena,
                    struct fl_oci_descriptor *ret_root, struct fl_error *err)
{
    struct fl_oci_manifest manifest;
    const char *type = document->media_type;
    int r;

    if (fl_streq(type, "application/json") || fl_streq(type, "text/plain"))
        type = NULL;
    r = fl_oci_manifest_parse(arena, document->text->data, document->text->len, type, &manifest,
                              err);
    if (r == 0)
        *ret_root = fl_oci_describe(arena, manifest.media_type, document->text);
    return r;
}

static int pull_all(struct pull *pull, const struct fl_platform *platforms, size_t count,
                    struct fl_arena *arena, struct fl_oci_taken *ret_taken, struct fl_error *err)
{
    const struct fl_oci_closing closing = {
        .load = load, .user = pull, .platforms = platforms, .platform_count = count};
    struct fl_oci_closure closure = {0};
    struct fl_oci_descriptor root;
    int r = describe(pull->root, pull->job->arena, &root, err);

    if (r == 0)
        r = fl_oci_closure(pull->job->arena, &root, &closing, &closure, err);
    if (r < 0)
        return r;
    pull->job->total = closure.bytes;
    r = fl_oci_take(&closure, pull->blobs, bring, pull, arena, ret_taken, err);
    if (r == 0)
        (void)fl_registry_tell(pull->job);
    return r;
}

int fl_registry_pull(struct fl_registry *registry, const struct fl_image_reference *reference,
                     const struct fl_platform *platforms, size_t platform_count,
                     struct fl_blobs *blobs, const struct fl_registry_progress *progress,
                     struct fl_arena *arena, struct fl_oci_taken *ret_taken, struct fl_error *err)
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
        r = pull_all(&pull, platforms, platform_count, arena, ret_taken, err);
    fl_bytes_unref(root.text);
    if (r < 0)
        (void)fl_error_wrap(err, "pull %s/%s", registry->name, reference->repository);
    return r;
}
