/* The data of uploads: as they come into the store, and their end, which is a job. */
#include "controller/registry/uploads.h"

#include "lib/str.h"

#include <inttypes.h>

#define GRANT_BYTES (INT64_C(16) << 20) /* between two looks for room */

static int refuse(struct fl_repos_transfer *transfer, const struct fl_repos_words *words)
{
    transfer->words = words;
    transfer->upload = NULL;
    return transfer->refusal.code;
}

void fl_repos_transfer_part(struct fl_repos_transfer *transfer)
{
    transfer->upload->transfer = NULL;
    (void)fl_error_set(&transfer->refusal, FL_E_CONFLICT, "another request ended this one's part");
    (void)refuse(transfer, &fl_repos_upload_words);
}

static bool is_last(const struct fl_repos_call *call)
{
    return !fl_repos_is(call, "PATCH");
}

static int check_digest(struct fl_repos_call *call, struct fl_error *err)
{
    const char *digest = fl_repos_param(call->arena, fl_http_query(call->http), "digest");

    if (is_last(call) && !fl_digest_is_valid(fl_str_or(digest, "")))
        return fl_error_set(err, FL_E_INVALID,
                            "the upload's end needs digest=sha256:<64 hexadecimal digits>");
    return 0;
}

/* How many bytes may come: not more than a blob may have, nor than there is room for. */
static void grant(struct fl_repos_transfer *transfer)
{
    int64_t left = FL_OCI_BLOB_MAX - fl_blob_writer_size(transfer->upload->writer);
    int64_t room = fl_repos_upload_room(transfer->call.repositories);

    transfer->granted = left < room ? left : room;
}

static int refuse_size(int64_t size, struct fl_error *err)
{
    return fl_error_set(err, FL_E_TOO_LARGE, "%" PRId64 " more bytes do not fit", size);
}

/* What a client says it will send is refused before it does. */
static int check_room(struct fl_repos_transfer *transfer, struct fl_error *err)
{
    const char *length = fl_http_header(transfer->call.http, "Content-Length");
    int64_t size = 0;

    if (length && !fl_str_to_int64(length, 0, INT64_MAX, &size))
        return fl_error_set(err, FL_E_BAD_REQUEST, "Content-Length: %.40s is no size", length);
    if (length && transfer->left >= 0 && transfer->left != size)
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "Content-Range has %" PRId64 " bytes, Content-Length %" PRId64,
                            transfer->left, size);
    grant(transfer);
    if (size > 0 && size > transfer->granted) /* an end brings nothing */
        return refuse_size(size, err);
    transfer->granted = 0;
    return 0;
}

/* Not for each piece: looking is not for nothing. */
static int take_room(struct fl_repos_transfer *transfer, int64_t len, struct fl_error *err)
{
    if (len > transfer->granted) {
        grant(transfer);
        if (len > transfer->granted)
            return refuse_size(len, err);
        if (transfer->granted > GRANT_BYTES + len)
            transfer->granted = GRANT_BYTES + len;
    }
    transfer->granted -= len;
    return 0;
}

/* A chunk must begin where the last one ended. */
static int check_order(struct fl_repos_transfer *transfer, struct fl_error *err)
{
    const char *header = fl_http_header(transfer->call.http, "Content-Range");
    int64_t first, last;

    transfer->left = -1;
    if (!header)
        return 0;
    if (!fl_repos_range_parse(header, &first, &last))
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
    struct fl_repos_transfer *transfer = user;
    struct fl_repos_upload *upload = FL_TAKE(transfer->upload);

    if (!upload)
        return;
    upload->transfer = NULL;
    if (upload->single)
        fl_repos_upload_destroy(upload);
}

static int transfer_open(struct fl_repos_transfer *transfer)
{
    struct fl_repos_call *call = &transfer->call;
    struct fl_repos_upload *upload = NULL;
    bool single = call->path.route == FL_REPOS_UPLOADS;
    struct fl_error *err = &transfer->refusal;

    fl_raw_on_gone(call->raw, transfer_gone, transfer);
    if (check_digest(call, err) < 0)
        return refuse(transfer, &fl_repos_blob_words);
    if ((single ? fl_repos_upload_create(call, &upload, err)
                : fl_repos_upload_find(call, &upload, err)) < 0)
        return refuse(transfer, &fl_repos_upload_words);
    if (upload->transfer)
        fl_repos_transfer_part(upload->transfer);
    upload->single = single;
    transfer->upload = upload;
    if (check_order(transfer, err) < 0 || check_room(transfer, err) < 0) {
        if (transfer->out_of_order)
            fl_repos_upload_describe(upload, call);
        if (single)
            fl_repos_upload_destroy(upload);
        return refuse(transfer, &fl_repos_upload_words);
    }
    upload->transfer = transfer;
    return 0;
}

/* The specification's 416: the client asks where to go on, and does. */
static void answer_refusal(struct fl_repos_transfer *transfer)
{
    struct fl_raw_request *raw = transfer->call.raw;

    if (transfer->out_of_order)
        fl_repos_answer(raw, 416);
    else
        fl_repos_refuse(raw, &transfer->refusal, transfer->words);
}

static int transfer_add(struct fl_repos_transfer *transfer, const void *data, size_t len)
{
    struct fl_repos_upload *upload = transfer->upload;
    struct fl_error *err = &transfer->refusal;
    int r = 0;

    if (!upload)
        return -1;
    if (transfer->left >= 0 && (int64_t)len > transfer->left)
        r = fl_error_set(err, FL_E_BAD_REQUEST, "there are more bytes than Content-Range has");
    if (r == 0)
        r = take_room(transfer, (int64_t)len, err);
    if (r == 0)
        r = fl_blob_writer_add(upload->writer, data, len, err);
    if (r < 0) {
        upload->transfer = NULL;
        if (upload->single)
            fl_repos_upload_destroy(upload);
        return refuse(transfer, &fl_repos_upload_words);
    }
    if (transfer->left >= 0)
        transfer->left -= (int64_t)len;
    upload->used_ms = fl_monotonic_ms(upload->repositories->env);
    return 0;
}

static int on_data(void *user, const void *data, size_t len)
{
    struct fl_repos_transfer *transfer = user;

    if (transfer_add(transfer, data, len) == 0)
        return 0;
    answer_refusal(transfer);
    return -1;
}

bool fl_repos_transfer_is_one(const struct fl_repos_call *call)
{
    if (call->path.route == FL_REPOS_UPLOAD)
        return fl_repos_is(call, "PATCH") || fl_repos_is(call, "PUT");
    return fl_repos_is(call, "POST") &&
           fl_repos_param(call->arena, fl_http_query(call->http), "digest");
}

static struct fl_repos_transfer *transfer_new(const struct fl_repos_call *call)
{
    struct fl_repos_transfer *transfer = fl_new(call->arena, struct fl_repos_transfer);

    transfer->call = *call;
    (void)transfer_open(transfer);
    fl_raw_set(call->raw, transfer);
    return transfer;
}

void fl_repos_upload_begin(struct fl_repos_call *call)
{
    if (!fl_repos_transfer_is_one(call))
        return;
    fl_http_limit_body(call->http, SIZE_MAX); /* the store has a bound, nothing is in memory */
    fl_http_stream_body(call->http, on_data, transfer_new(call));
}

/* The end */

static void work_end(struct fl_repos_job *job)
{
    struct fl_repositories *repositories = job->repositories;
    int64_t size = fl_blob_writer_size(job->writer);
    char digest[FL_DIGEST_SIZE];

    if (fl_blob_writer_finish(job->writer, job->digest, true, digest, &job->result) < 0)
        return;
    (void)fl_repos_index_add_blob(repositories->index, job->repository, digest, size, &job->result);
    fl_blobs_unpin(repositories->blobs, digest);
}

static void answer_end(struct fl_repos_job *job)
{
    struct fl_http_request *http = fl_raw_http(job->raw);

    fl_http_set_header(http, "Location",
                       fl_arena_printf(fl_http_arena(http), FL_REPOSITORIES_PREFIX "%s/blobs/%s",
                                       job->repository, job->digest));
    fl_http_set_header(http, "Docker-Content-Digest", job->digest);
    fl_repos_answer(job->raw, 201);
}

static void end(struct fl_repos_transfer *transfer)
{
    struct fl_repos_call *call = &transfer->call;
    struct fl_repos_upload *upload = FL_TAKE(transfer->upload);
    struct fl_repos_job *job = fl_repos_job_new(call, &fl_repos_blob_words);

    job->work = work_end;
    job->answer = answer_end;
    job->writer = FL_TAKE(upload->writer);
    job->digest = fl_arena_strdup(job->arena,
                                  fl_repos_param(call->arena, fl_http_query(call->http), "digest"));
    fl_repos_upload_destroy(upload);
    fl_repos_job_start(job);
}

/* All of a request's body is here. */
static void finish(struct fl_repos_transfer *transfer)
{
    struct fl_repos_call *call = &transfer->call;
    struct fl_repos_upload *upload = transfer->upload;

    if (upload && transfer->left > 0) {
        (void)fl_error_set(&transfer->refusal, FL_E_BAD_REQUEST,
                           "there are fewer bytes than Content-Range has");
        upload->transfer = NULL;
        if (upload->single)
            fl_repos_upload_destroy(upload);
        (void)refuse(transfer, &fl_repos_upload_words);
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
    fl_repos_upload_describe(upload, call);
    fl_repos_answer(call->raw, 202);
}

/* A request of the process itself has its body with it. */
void fl_repos_transfer_serve(struct fl_repos_call *call)
{
    struct fl_repos_transfer *transfer = fl_raw_get(call->raw);
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
