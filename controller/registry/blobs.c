/* Blobs: looking, taking, mounting and deleting. */
#include "controller/registry/internal.h"

#include "lib/http_range.h"
#include "lib/str.h"

#include <unistd.h>

#define IMMUTABLE "private, immutable, max-age=31536000"

static int bad_digest(const char *digest, struct fl_error *err)
{
    return fl_error_set(err, FL_E_INVALID,
                        "\"%.80s\" is no digest: sha256: and 64 hexadecimal digits", digest);
}

static void get_blob(struct fl_repos_call *call)
{
    struct fl_repositories *repositories = call->repositories;
    const char *digest = call->path.reference;
    struct fl_error err = {0};
    int64_t size = 0;
    int fd = -1, r;

    r = fl_repos_index_blob(repositories->index, call->path.repository, digest, &size, &err);
    if (r == 0)
        r = fl_blobs_get(repositories->blobs, digest, &fd, &size, &err);
    if (r < 0) {
        fl_repos_refuse(call->raw, &err, &fl_repos_blob_words);
        return;
    }
    fl_http_set_header(call->http, "Docker-Content-Digest", digest);
    fl_http_set_header(call->http, "Cache-Control", IMMUTABLE);
    (void)fl_raw_done(call->raw, 200);
    fl_http_respond_ranges(call->http, fl_arena_printf(call->arena, "\"%s\"", digest),
                           "application/octet-stream", fd, (uint64_t)size);
}

static void work_drop(struct fl_repos_job *job)
{
    (void)fl_repos_index_drop_blob(job->repositories->index, job->repository, job->reference,
                                   &job->result);
}

static void answer_dropped(struct fl_repos_job *job)
{
    fl_repos_answer(job->raw, 202);
}

void fl_repos_blob_serve(struct fl_repos_call *call)
{
    struct fl_repos_job *job;
    struct fl_error err = {0};

    if (!fl_digest_is_valid(call->path.reference)) {
        (void)bad_digest(call->path.reference, &err);
        fl_repos_refuse(call->raw, &err, &fl_repos_blob_words);
    } else if (fl_repos_reads(call)) {
        get_blob(call);
    } else if (fl_repos_is(call, "DELETE")) {
        job = fl_repos_job_new(call, &fl_repos_blob_words);
        job->work = work_drop;
        job->answer = answer_dropped;
        fl_repos_job_start(job);
    } else {
        fl_repos_refuse_method(call->raw, "GET, HEAD, DELETE");
    }
}

/* Mounting: a blob of another repository, or of the content store itself, becomes one of this
 * repository, where who asks may read it there. Everything else is an upload, as the specification
 * wants it. */

static bool may_read(const struct fl_repos_call *call, const char *from, const char *digest)
{
    const char *path =
        from ? fl_arena_printf(call->arena, FL_REPOSITORIES_PREFIX "%s/blobs/%s", from, digest)
             : fl_arena_printf(call->arena, FL_CONTENTS_BLOBS "/%s", digest);
    int64_t size;

    if (!fl_raw_allows(call->raw, "get", path))
        return false;
    return !from || fl_repos_index_blob(call->repositories->index, from, digest, &size, NULL) == 0;
}

static bool can_mount(const struct fl_repos_call *call, const char *digest)
{
    const char *from = fl_repos_param(call->arena, fl_http_query(call->http), "from");

    if (!fl_blobs_has(call->repositories->blobs, digest))
        return false;
    return may_read(call, call->path.repository, digest) ||
           (from && may_read(call, from, digest)) || may_read(call, NULL, digest);
}

static void work_mount(struct fl_repos_job *job)
{
    struct fl_repositories *repositories = job->repositories;
    int64_t size;
    int fd;

    if (fl_blobs_pin(repositories->blobs, job->digest, &job->result) < 0)
        return;
    if (fl_blobs_get(repositories->blobs, job->digest, &fd, &size, &job->result) == 0) {
        (void)close(fd);
        (void)fl_repos_index_add_blob(repositories->index, job->repository, job->digest, size,
                                      &job->result);
    }
    fl_blobs_unpin(repositories->blobs, job->digest);
}

static void answer_mounted(struct fl_repos_job *job)
{
    struct fl_http_request *http = fl_raw_http(job->raw);

    fl_http_set_header(http, "Location",
                       fl_arena_printf(fl_http_arena(http), FL_REPOSITORIES_PREFIX "%s/blobs/%s",
                                       job->repository, job->digest));
    fl_http_set_header(http, "Docker-Content-Digest", job->digest);
    fl_repos_answer(job->raw, 201);
}

bool fl_repos_mount(struct fl_repos_call *call)
{
    const char *digest = fl_repos_param(call->arena, fl_http_query(call->http), "mount");
    struct fl_repos_job *job;

    if (!digest || !fl_digest_is_valid(digest) || !can_mount(call, digest))
        return false;
    job = fl_repos_job_new(call, &fl_repos_blob_words);
    job->work = work_mount;
    job->answer = answer_mounted;
    job->digest = fl_arena_strdup(job->arena, digest);
    fl_repos_job_start(job);
    return true;
}
