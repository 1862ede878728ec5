/* Manifests: taken whole, and only when all they name is here. */
#include "controller/registry/internal.h"

#include "lib/http_range.h"
#include "lib/str.h"

/* --- taking --- */

void fl_repos_manifest_begin(struct fl_repos_call *call)
{
    if (fl_repos_is(call, "PUT"))
        fl_http_limit_body(call->http, FL_OCI_MANIFEST_MAX);
}

static bool is_digest(const char *reference)
{
    return strchr(reference, ':') != NULL;
}

/* What the header says, without parameters; NULL where it says nothing of manifests. */
static const char *media_type_of(const struct fl_repos_call *call, struct fl_arena *arena)
{
    const char *header = fl_str_or(fl_http_header(call->http, "Content-Type"), "");
    const char *type = fl_arena_strndup(arena, header, strcspn(header, "; \t"));

    return strcmp(type, "") == 0 || strcmp(type, "application/json") == 0 ||
                   strcmp(type, "application/octet-stream") == 0 || strcmp(type, "text/plain") == 0
               ? NULL
               : type;
}

static int check_part(struct fl_repos_job *job, const struct fl_oci_descriptor *part,
                      struct fl_error *err)
{
    if (fl_blobs_has(job->repositories->blobs, part->digest) || fl_repos_may_be_missing(part))
        return 0;
    return fl_error_set(err, FL_E_NOT_FOUND, "%s, which it names, is not here", part->digest);
}

/* What content was found damaged, and removed, the rows do not know. */
static int check_content(struct fl_repos_job *job, const struct fl_oci_manifest *content,
                         struct fl_error *err)
{
    int r = content->is_index ? 0 : check_part(job, &content->config, err);

    for (size_t i = 0; r == 0 && i < content->layers.count; i++)
        r = check_part(job, &content->layers.items[i], err);
    return r;
}

static const char *annotations_of(struct fl_arena *arena, const struct fl_oci_manifest *content)
{
    FL_JSON object = NULL;

    if (content->annotations.count == 0)
        return NULL;
    object = json_object();
    for (size_t i = 0; i < content->annotations.count; i++)
        fl_json_set_str(object, content->annotations.items[i].name,
                        content->annotations.items[i].value);
    return fl_json_to_string(arena, object);
}

static int put_content(struct fl_repos_job *job, const struct fl_oci_manifest *content,
                       struct fl_error *err)
{
    struct fl_repositories *repositories = job->repositories;
    struct fl_repos_manifest manifest = {
        .digest = job->digest,
        .media_type = content->media_type,
        .size = (int64_t)job->body->len,
        .artifact_type = fl_oci_manifest_artifact_type(content),
        .subject = content->has_subject ? content->subject.digest : NULL,
        .annotations = annotations_of(job->arena, content),
    };
    char digest[FL_DIGEST_SIZE];
    int r;

    job->subject = manifest.subject;
    r = fl_blobs_put(repositories->blobs, job->body->data, job->body->len, true, digest, err);
    if (r < 0)
        return fl_error_wrap(err, "the content store");
    r = fl_repos_index_put(repositories->index, job->repository, &manifest, content,
                           is_digest(job->reference) ? NULL : job->reference, err);
    fl_blobs_unpin(repositories->blobs, digest);
    return r;
}

static void work_put(struct fl_repos_job *job)
{
    struct fl_oci_manifest content;
    char digest[FL_DIGEST_SIZE];
    int r;

    fl_digest_of(job->body->data, job->body->len, digest);
    job->digest = fl_arena_strdup(job->arena, digest);
    if (is_digest(job->reference) && strcmp(job->reference, digest) != 0) {
        job->words = &fl_repos_blob_words;
        (void)fl_error_set(&job->result, FL_E_INVALID, "the manifest is %s, not %s", digest,
                           job->reference);
        return;
    }
    r = fl_oci_manifest_parse(job->arena, job->body->data, job->body->len, job->media_type,
                              &content, &job->result);
    if (r == 0)
        r = check_content(job, &content, &job->result);
    if (r == 0)
        (void)put_content(job, &content, &job->result);
}

static void answer_put(struct fl_repos_job *job)
{
    struct fl_http_request *http = fl_raw_http(job->raw);

    fl_http_set_header(http, "Location",
                       fl_arena_printf(fl_http_arena(http),
                                       FL_REPOSITORIES_PREFIX "%s/manifests/%s", job->repository,
                                       job->digest));
    fl_http_set_header(http, "Docker-Content-Digest", job->digest);
    if (job->subject)
        fl_http_set_header(http, "OCI-Subject", job->subject);
    fl_repos_answer(job->raw, 201);
}

static int check_reference(const char *reference, struct fl_error *err)
{
    if (is_digest(reference) ? fl_digest_is_valid(reference) : fl_oci_tag_is_valid(reference))
        return 0;
    return fl_error_set(err, FL_E_INVALID, "\"%.140s\" is neither a tag nor a digest", reference);
}

static void put(struct fl_repos_call *call)
{
    struct fl_repos_job *job;
    struct fl_error err = {0};
    const char *body;
    size_t len;

    if (check_reference(call->path.reference, &err) < 0) {
        fl_repos_refuse(call->raw, &err,
                        is_digest(call->path.reference) ? &fl_repos_blob_words
                                                        : &fl_repos_manifest_words);
        return;
    }
    body = fl_http_body(call->http, &len);
    job = fl_repos_job_new(call, &fl_repos_push_words);
    job->work = work_put;
    job->answer = answer_put;
    job->body = fl_bytes_new(body, len);
    job->media_type = media_type_of(call, job->arena);
    fl_repos_job_start(job);
}

/* --- giving --- */

static int open_manifest(struct fl_repos_call *call, struct fl_repos_manifest *manifest,
                         int *ret_fd, struct fl_error *err)
{
    const char *accept = fl_http_header(call->http, "Accept");
    int64_t size;
    int r;

    r = fl_repos_index_manifest(call->repositories->index, call->arena, call->path.repository,
                                call->path.reference, manifest, err);
    if (r < 0)
        return r;
    if (!fl_repos_accepts(accept, manifest->media_type))
        return fl_error_set(err, FL_E_NOT_FOUND, "it is %.200s, which Accept does not name",
                            manifest->media_type);
    return fl_blobs_get(call->repositories->blobs, manifest->digest, ret_fd, &size, err);
}

static void get(struct fl_repos_call *call)
{
    struct fl_repos_manifest manifest;
    struct fl_error err = {0};
    int fd;

    if (open_manifest(call, &manifest, &fd, &err) < 0) {
        fl_repos_refuse(call->raw, &err, &fl_repos_manifest_words);
        return;
    }
    fl_http_set_header(call->http, "Docker-Content-Digest", manifest.digest);
    (void)fl_raw_done(call->raw, 200);
    fl_http_respond_ranges(call->http, fl_arena_printf(call->arena, "\"%s\"", manifest.digest),
                           manifest.media_type, fd, (uint64_t)manifest.size);
}

/* --- deleting --- */

static void work_drop(struct fl_repos_job *job)
{
    if (is_digest(job->reference))
        (void)fl_repos_index_drop_manifest(job->repositories->index, job->repository,
                                           job->reference, &job->result);
    else
        (void)fl_repos_index_drop_tag(job->repositories->index, job->repository, job->reference,
                                      &job->result);
}

static void answer_dropped(struct fl_repos_job *job)
{
    fl_repos_answer(job->raw, 202);
}

static void drop(struct fl_repos_call *call)
{
    struct fl_repos_job *job = fl_repos_job_new(call, &fl_repos_manifest_words);

    job->work = work_drop;
    job->answer = answer_dropped;
    fl_repos_job_start(job);
}

void fl_repos_manifest_serve(struct fl_repos_call *call)
{
    if (fl_repos_is(call, "PUT"))
        put(call);
    else if (fl_repos_reads(call))
        get(call);
    else if (fl_repos_is(call, "DELETE"))
        drop(call);
    else
        fl_repos_refuse_method(call->raw, "GET, HEAD, PUT, DELETE");
}
