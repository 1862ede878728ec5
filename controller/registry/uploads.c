/* Uploads: content that comes in pieces, in order, and gets its name at the end. What has come is
 * kept when a connection breaks, and is gone on with from there. */
#include "controller/registry/internal.h"

#include "lib/loop.h"
#include "lib/str.h"

#include <inttypes.h>

#define LOOK_MS         (INT64_C(30) * 1000)
#define UPLOAD_TOTAL_MS (INT64_C(24) * 60 * 60 * 1000)

struct transfer;

struct fl_registry_upload {
    TAILQ_ENTRY(fl_registry_upload) link;
    struct fl_repositories *repositories;
    char id[FL_UUID_SIZE];
    char *repository;
    struct fl_blob_writer *writer;
    struct transfer *transfer; /* the request that brings data now, or NULL */
    int64_t started_ms, used_ms;
    bool single; /* of one request, which tells nobody where it could go on */
};

/* A request that brings data. In its arena. */
struct transfer {
    struct fl_registry_call call;
    struct fl_registry_upload *upload; /* NULL: it is refused */
    int64_t left;                      /* bytes that are still to come; < 0: nobody said */
    bool out_of_order;                 /* refused for that: told where to go on */
    const struct fl_registry_words *words;
    struct fl_error refusal;
};

static void upload_destroy(struct fl_registry_upload *upload)
{
    TAILQ_REMOVE(&upload->repositories->uploads, upload, link);
    fl_blob_writer_close(upload->writer);
    free(upload->repository);
    free(upload);
}

static int refuse(struct transfer *transfer, const struct fl_registry_words *words)
{
    transfer->words = words;
    transfer->upload = NULL;
    return transfer->refusal.code;
}

/* The request is not let near the upload any more. Its next bytes find that out. */
static void take_from(struct fl_registry_upload *upload)
{
    struct transfer *transfer = FL_TAKE(upload->transfer);

    if (!transfer)
        return;
    (void)fl_error_set(&transfer->refusal, FL_E_CONFLICT, "another request ended this one's part");
    (void)refuse(transfer, &fl_registry_upload_words);
}

static void give_up(struct fl_registry_upload *upload)
{
    take_from(upload);
    upload_destroy(upload);
}

static bool is_expired(const struct fl_registry_upload *upload)
{
    int64_t now_ms = fl_monotonic_ms(upload->repositories->env);

    return now_ms - upload->used_ms >= upload->repositories->upload_idle_ms ||
           now_ms - upload->started_ms >= UPLOAD_TOTAL_MS;
}

static void expire(void *user)
{
    struct fl_repositories *repositories = user;
    struct fl_registry_upload *upload = TAILQ_FIRST(&repositories->uploads), *next;

    for (; upload; upload = next) {
        next = TAILQ_NEXT(upload, link);
        if (is_expired(upload))
            give_up(upload);
    }
    if (TAILQ_EMPTY(&repositories->uploads) && repositories->expiry)
        fl_timer_cancel(repositories->expiry);
}

void fl_registry_uploads_end(struct fl_repositories *repositories)
{
    while (!TAILQ_EMPTY(&repositories->uploads))
        give_up(TAILQ_FIRST(&repositories->uploads));
    if (repositories->expiry)
        fl_timer_destroy(FL_TAKE(repositories->expiry));
}

/* What uploads have on the disk so far, and how many there are. */
static int64_t count_uploads(const struct fl_repositories *repositories, size_t *ret_count)
{
    const struct fl_registry_upload *upload;
    int64_t bytes = 0;

    *ret_count = 0;
    TAILQ_FOREACH(upload, &repositories->uploads, link) {
        bytes += fl_blob_writer_size(upload->writer);
        (*ret_count)++;
    }
    return bytes;
}

static void watch(struct fl_repositories *repositories, struct fl_loop *loop)
{
    if (!repositories->expiry)
        repositories->expiry = fl_timer_create(loop, expire, repositories);
    if (TAILQ_EMPTY(&repositories->uploads))
        fl_timer_repeat(repositories->expiry, LOOK_MS);
}

static int upload_create(const struct fl_registry_call *call,
                         struct fl_registry_upload **ret_upload, struct fl_error *err)
{
    struct fl_repositories *repositories = call->repositories;
    struct fl_registry_upload *upload;
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

static int upload_find(const struct fl_registry_call *call, struct fl_registry_upload **ret_upload,
                       struct fl_error *err)
{
    struct fl_registry_upload *upload;

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

/* Where to go on, and how far it came. "0-0" may be nothing or one byte, as everywhere. */
static void describe(const struct fl_registry_upload *upload, struct fl_registry_call *call)
{
    int64_t size = fl_blob_writer_size(upload->writer);

    fl_http_set_header(call->http, "Location",
                       fl_arena_printf(call->arena, FL_REPOSITORIES_PREFIX "%s/blobs/uploads/%s",
                                       upload->repository, upload->id));
    fl_http_set_header(call->http, "Range",
                       fl_arena_printf(call->arena, "0-%" PRId64, size > 0 ? size - 1 : 0));
    fl_http_set_header(call->http, "Docker-Upload-UUID", upload->id);
}

/* Bringing data */

static bool is_last(const struct fl_registry_call *call)
{
    return !fl_registry_is(call, "PATCH");
}

static int check_digest(struct fl_registry_call *call, struct fl_error *err)
{
    const char *digest = fl_registry_param(call->arena, fl_http_query(call->http), "digest");

    if (is_last(call) && !fl_digest_is_valid(fl_str_or(digest, "")))
        return fl_error_set(err, FL_E_INVALID,
                            "the upload's end needs digest=sha256:<64 hexadecimal digits>");
    return 0;
}

/* What a client says it will send is refused before it does. */
static int check_room(struct transfer *transfer, struct fl_error *err)
{
    struct fl_repositories *repositories = transfer->call.repositories;
    const char *length = fl_http_header(transfer->call.http, "Content-Length");
    int64_t room = fl_contents_room(repositories->contents), size = 0;
    size_t count;

    if (length && !fl_str_to_int64(length, 0, INT64_MAX, &size))
        return fl_error_set(err, FL_E_BAD_REQUEST, "Content-Length: %.40s is no size", length);
    if (length && transfer->left >= 0 && transfer->left != size)
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "Content-Range has %" PRId64 " bytes, Content-Length %" PRId64,
                            transfer->left, size);
    if (size > FL_OCI_BLOB_MAX - fl_blob_writer_size(transfer->upload->writer) ||
        size > room - count_uploads(repositories, &count))
        return fl_error_set(err, FL_E_TOO_LARGE, "%" PRId64 " more bytes do not fit", size);
    return 0;
}

/* A chunk must begin where the last one ended. */
static int check_order(struct transfer *transfer, struct fl_error *err)
{
    const char *header = fl_http_header(transfer->call.http, "Content-Range");
    int64_t first, last;

    transfer->left = -1;
    if (!header)
        return 0;
    if (!fl_registry_range_parse(header, &first, &last))
        return fl_error_set(err, FL_E_BAD_REQUEST, "Content-Range: %.60s is not FIRST-LAST",
                            header);
    transfer->left = last - first + 1;
    transfer->out_of_order = first != fl_blob_writer_size(transfer->upload->writer);
    return transfer->out_of_order
               ? fl_error_set(err, FL_E_CONFLICT, "the chunk is not the next one")
               : 0;
}

static void transfer_gone(void *user)
{
    struct transfer *transfer = user;
    struct fl_registry_upload *upload = FL_TAKE(transfer->upload);

    if (!upload)
        return;
    upload->transfer = NULL;
    if (upload->single)
        upload_destroy(upload);
}

static int transfer_open(struct transfer *transfer)
{
    struct fl_registry_call *call = &transfer->call;
    struct fl_registry_upload *upload = NULL;
    bool single = call->path.route == FL_REGISTRY_UPLOADS;
    struct fl_error *err = &transfer->refusal;

    fl_raw_on_gone(call->raw, transfer_gone, transfer);
    if (check_digest(call, err) < 0)
        return refuse(transfer, &fl_registry_blob_words);
    if ((single ? upload_create(call, &upload, err) : upload_find(call, &upload, err)) < 0)
        return refuse(transfer, &fl_registry_upload_words);
    take_from(upload);
    upload->single = single;
    transfer->upload = upload;
    if (check_order(transfer, err) < 0 || check_room(transfer, err) < 0) {
        if (transfer->out_of_order)
            describe(upload, call);
        if (single)
            upload_destroy(upload);
        return refuse(transfer, &fl_registry_upload_words);
    }
    upload->transfer = transfer;
    return 0;
}

/* The specification's 416: the client asks where to go on, and does. */
static void answer_refusal(struct transfer *transfer)
{
    struct fl_raw_request *raw = transfer->call.raw;

    if (transfer->out_of_order)
        fl_registry_answer(raw, 416);
    else
        fl_registry_refuse(raw, &transfer->refusal, transfer->words);
}

static int transfer_add(struct transfer *transfer, const void *data, size_t len)
{
    struct fl_registry_upload *upload = transfer->upload;
    struct fl_error *err = &transfer->refusal;
    int r = 0;

    if (!upload)
        return -1;
    if (transfer->left >= 0 && (int64_t)len > transfer->left)
        r = fl_error_set(err, FL_E_BAD_REQUEST, "there are more bytes than Content-Range has");
    if (r == 0)
        r = fl_blob_writer_add(upload->writer, data, len, err);
    if (r < 0) {
        upload->transfer = NULL;
        if (upload->single)
            upload_destroy(upload);
        return refuse(transfer, &fl_registry_upload_words);
    }
    if (transfer->left >= 0)
        transfer->left -= (int64_t)len;
    upload->used_ms = fl_monotonic_ms(upload->repositories->env);
    return 0;
}

static int on_data(void *user, const void *data, size_t len)
{
    struct transfer *transfer = user;

    if (transfer_add(transfer, data, len) == 0)
        return 0;
    answer_refusal(transfer);
    return -1;
}

static bool brings_data(const struct fl_registry_call *call)
{
    if (call->path.route == FL_REGISTRY_UPLOAD)
        return fl_registry_is(call, "PATCH") || fl_registry_is(call, "PUT");
    return fl_registry_is(call, "POST") &&
           fl_registry_param(call->arena, fl_http_query(call->http), "digest");
}

static struct transfer *transfer_new(const struct fl_registry_call *call)
{
    struct transfer *transfer = fl_new(call->arena, struct transfer);

    transfer->call = *call;
    (void)transfer_open(transfer);
    fl_raw_set(call->raw, transfer);
    return transfer;
}

void fl_registry_upload_begin(struct fl_registry_call *call)
{
    if (!brings_data(call))
        return;
    fl_http_limit_body(call->http, SIZE_MAX); /* the store has a bound, nothing is in memory */
    fl_http_stream_body(call->http, on_data, transfer_new(call));
}

/* The end */

static void work_end(struct fl_registry_job *job)
{
    struct fl_repositories *repositories = job->repositories;
    int64_t size = fl_blob_writer_size(job->writer);
    char digest[FL_DIGEST_SIZE];

    if (fl_blob_writer_finish(job->writer, job->digest, true, digest, &job->result) < 0)
        return;
    (void)fl_registry_index_add_blob(repositories->index, job->repository, digest, size,
                                     &job->result);
    fl_blobs_unpin(repositories->blobs, digest);
}

static void answer_end(struct fl_registry_job *job)
{
    struct fl_http_request *http = fl_raw_http(job->raw);

    fl_http_set_header(http, "Location",
                       fl_arena_printf(fl_http_arena(http), FL_REPOSITORIES_PREFIX "%s/blobs/%s",
                                       job->repository, job->digest));
    fl_http_set_header(http, "Docker-Content-Digest", job->digest);
    fl_registry_answer(job->raw, 201);
}

static void end(struct transfer *transfer)
{
    struct fl_registry_call *call = &transfer->call;
    struct fl_registry_upload *upload = FL_TAKE(transfer->upload);
    struct fl_registry_job *job = fl_registry_job_new(call, &fl_registry_blob_words);

    job->work = work_end;
    job->answer = answer_end;
    job->writer = FL_TAKE(upload->writer);
    job->digest = fl_arena_strdup(
        job->arena, fl_registry_param(call->arena, fl_http_query(call->http), "digest"));
    upload_destroy(upload);
    fl_registry_job_start(job);
}

/* All of a request's body is here. */
static void finish(struct transfer *transfer)
{
    struct fl_registry_call *call = &transfer->call;
    struct fl_registry_upload *upload = transfer->upload;

    if (upload && transfer->left > 0) {
        (void)fl_error_set(&transfer->refusal, FL_E_BAD_REQUEST,
                           "there are fewer bytes than Content-Range has");
        upload->transfer = NULL;
        if (upload->single)
            upload_destroy(upload);
        (void)refuse(transfer, &fl_registry_upload_words);
    }
    if (!transfer->upload) {
        answer_refusal(transfer);
        return;
    }
    upload->transfer = NULL;
    if (is_last(call)) {
        end(transfer);
        return;
    }
    transfer->upload = NULL;
    describe(upload, call);
    fl_registry_answer(call->raw, 202);
}

/* A request of the process itself has its body with it. */
static void take_data(struct fl_registry_call *call)
{
    struct transfer *transfer = fl_raw_get(call->raw);
    const char *body;
    size_t len;

    if (!transfer) {
        transfer = transfer_new(call);
        body = fl_http_body(call->http, &len);
        if (len > 0)
            (void)transfer_add(transfer, body, len);
    }
    finish(transfer);
}

/* Without data */

static void serve_session(struct fl_registry_call *call)
{
    struct fl_registry_upload *upload;
    struct fl_error err = {0};

    if (upload_find(call, &upload, &err) < 0) {
        fl_registry_refuse(call->raw, &err, &fl_registry_upload_words);
        return;
    }
    if (fl_registry_is(call, "DELETE"))
        give_up(upload);
    else
        describe(upload, call);
    fl_registry_answer(call->raw, 204);
}

void fl_registry_upload_serve(struct fl_registry_call *call)
{
    if (brings_data(call))
        take_data(call);
    else if (fl_registry_reads(call) || fl_registry_is(call, "DELETE"))
        serve_session(call);
    else
        fl_registry_refuse_method(call->raw, "GET, HEAD, PATCH, PUT, DELETE");
}

static void open_session(struct fl_registry_call *call)
{
    struct fl_registry_upload *upload;
    struct fl_error err = {0};

    if (upload_create(call, &upload, &err) < 0) {
        fl_registry_refuse(call->raw, &err, &fl_registry_upload_words);
        return;
    }
    describe(upload, call);
    fl_registry_answer(call->raw, 202);
}

void fl_registry_uploads_serve(struct fl_registry_call *call)
{
    if (!fl_registry_is(call, "POST"))
        fl_registry_refuse_method(call->raw, "POST");
    else if (brings_data(call))
        take_data(call);
    else if (!fl_registry_mount(call))
        open_session(call);
}
