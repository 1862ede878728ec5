/* Uploads: content that comes in pieces, in order, and gets its name at the end. What has come is
 * kept when a connection breaks, and is gone on with from there. */
#include "controller/registry/uploads.h"

#include "lib/loop.h"
#include "lib/str.h"

#include <inttypes.h>

#define LOOK_MS (INT64_C(30) * 1000)

void fl_repos_upload_destroy(struct fl_repos_upload *upload)
{
    TAILQ_REMOVE(&upload->repositories->uploads, upload, link);
    fl_blob_writer_close(upload->writer);
    free(upload->repository);
    free(upload);
}

static void give_up(struct fl_repos_upload *upload)
{
    if (upload->transfer)
        fl_repos_transfer_part(upload->transfer);
    fl_repos_upload_destroy(upload);
}

static bool is_expired(const struct fl_repos_upload *upload)
{
    int64_t now_ms = fl_monotonic_ms(upload->repositories->env);

    return now_ms - upload->used_ms >= upload->repositories->upload_idle_ms ||
           now_ms - upload->started_ms >= FL_REPOS_UPLOAD_TOTAL_MS;
}

static void expire(void *user)
{
    struct fl_repositories *repositories = user;
    struct fl_repos_upload *upload = TAILQ_FIRST(&repositories->uploads), *next;

    for (; upload; upload = next) {
        next = TAILQ_NEXT(upload, link);
        if (is_expired(upload))
            give_up(upload);
    }
    if (TAILQ_EMPTY(&repositories->uploads) && repositories->expiry)
        fl_timer_cancel(repositories->expiry);
}

void fl_repos_uploads_end(struct fl_repositories *repositories)
{
    while (!TAILQ_EMPTY(&repositories->uploads))
        give_up(TAILQ_FIRST(&repositories->uploads));
    if (repositories->expiry)
        fl_timer_destroy(FL_TAKE(repositories->expiry));
}

/* What uploads have on the disk so far, and how many there are. */
static int64_t count_uploads(const struct fl_repositories *repositories, size_t *ret_count)
{
    const struct fl_repos_upload *upload;
    int64_t bytes = 0;

    *ret_count = 0;
    TAILQ_FOREACH(upload, &repositories->uploads, link) {
        bytes += fl_blob_writer_size(upload->writer);
        (*ret_count)++;
    }
    return bytes;
}

int64_t fl_repos_upload_room(const struct fl_repositories *repositories)
{
    size_t count;

    return fl_contents_room(repositories->contents) - count_uploads(repositories, &count);
}

static void watch(struct fl_repositories *repositories, struct fl_loop *loop)
{
    if (!repositories->expiry)
        repositories->expiry = fl_timer_create(loop, expire, repositories);
    if (TAILQ_EMPTY(&repositories->uploads))
        fl_timer_repeat(repositories->expiry, LOOK_MS);
}

int fl_repos_upload_create(const struct fl_repos_call *call, struct fl_repos_upload **ret_upload,
                           struct fl_error *err)
{
    struct fl_repositories *repositories = call->repositories;
    struct fl_repos_upload *upload;
    struct fl_blob_writer *writer;
    size_t count;
    int r;

    expire(repositories);
    (void)count_uploads(repositories, &count);
    if (count >= repositories->max_uploads)
        return fl_error_set(err, FL_E_TOO_MANY_REQUESTS, "%zu uploads are under way", count);
    r = fl_blob_writer_open(repositories->blobs, &writer, err);
    if (r < 0)
        return fl_error_wrap(err, "the content store");
    watch(repositories, fl_raw_loop(call->raw));
    upload = fl_calloc(1, sizeof(*upload));
    upload->repositories = repositories;
    upload->repository = fl_strdup(call->path.repository);
    upload->writer = writer;
    upload->started_ms = upload->used_ms = fl_monotonic_ms(repositories->env);
    fl_uuid_v4(repositories->env, upload->id);
    TAILQ_INSERT_TAIL(&repositories->uploads, upload, link);
    *ret_upload = upload;
    return 0;
}

int fl_repos_upload_find(const struct fl_repos_call *call, struct fl_repos_upload **ret_upload,
                         struct fl_error *err)
{
    struct fl_repos_upload *upload;

    TAILQ_FOREACH(upload, &call->repositories->uploads, link)
        if (strcmp(upload->id, call->path.reference) == 0 &&
            strcmp(upload->repository, call->path.repository) == 0 && !is_expired(upload))
            break;
    if (!upload)
        return fl_error_set(err, FL_E_NOT_FOUND, "there is no such upload; begin anew");
    upload->used_ms = fl_monotonic_ms(call->repositories->env);
    *ret_upload = upload;
    return 0;
}

/* "0-0" may be nothing or one byte, as everywhere. */
void fl_repos_upload_describe(const struct fl_repos_upload *upload,
                              const struct fl_repos_call *call)
{
    int64_t size = fl_blob_writer_size(upload->writer);

    fl_http_set_header(call->http, "Location",
                       fl_arena_printf(call->arena, FL_REPOSITORIES_PREFIX "%s/blobs/uploads/%s",
                                       upload->repository, upload->id));
    fl_http_set_header(call->http, "Range",
                       fl_arena_printf(call->arena, "0-%" PRId64, size > 0 ? size - 1 : 0));
    fl_http_set_header(call->http, "Docker-Upload-UUID", upload->id);
}

/* Without data */

static void serve_session(struct fl_repos_call *call)
{
    struct fl_repos_upload *upload;
    struct fl_error err = {0};

    if (fl_repos_upload_find(call, &upload, &err) < 0) {
        fl_repos_refuse(call->raw, &err, &fl_repos_upload_words);
        return;
    }
    if (fl_repos_is(call, "DELETE"))
        give_up(upload);
    else
        fl_repos_upload_describe(upload, call);
    fl_repos_answer(call->raw, 204);
}

void fl_repos_upload_serve(struct fl_repos_call *call)
{
    if (fl_repos_transfer_is_one(call))
        fl_repos_transfer_serve(call);
    else if (fl_repos_reads(call) || fl_repos_is(call, "DELETE"))
        serve_session(call);
    else
        fl_repos_refuse_method(call->raw, "GET, HEAD, PATCH, PUT, DELETE");
}

static void open_session(struct fl_repos_call *call)
{
    struct fl_repos_upload *upload;
    struct fl_error err = {0};

    if (fl_repos_upload_create(call, &upload, &err) < 0) {
        fl_repos_refuse(call->raw, &err, &fl_repos_upload_words);
        return;
    }
    fl_repos_upload_describe(upload, call);
    fl_repos_answer(call->raw, 202);
}

void fl_repos_uploads_serve(struct fl_repos_call *call)
{
    if (!fl_repos_is(call, "POST"))
        fl_repos_refuse_method(call->raw, "POST");
    else if (fl_repos_transfer_is_one(call))
        fl_repos_transfer_serve(call);
    else if (!fl_repos_mount(call))
        open_session(call);
}
