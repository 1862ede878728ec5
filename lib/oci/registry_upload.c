/* One blob to a registry: asked for, mounted, or sent in chunks that go on where they broke. */
#include "lib/oci/registry_internal.h"
#include "lib/process.h"
#include "lib/str.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#define CHUNK_MIN_MAX FL_OCI_BLOB_MAX
#define MIB           (INT64_C(1) << 20)

struct sending {
    struct fl_registry_job *job;
    const struct fl_registry_upload *upload;
    const char *scope;
    int file;
    struct fl_registry_url location; /* of the session; no host: none is open */
    int64_t chunk_bytes;
    int64_t done;      /* what the registry has of it */
    int64_t before;    /* of the job, without this blob */
    int64_t milestone; /* failures are forgiven when it has so much */
    unsigned failures;
    int64_t hint_ms;
    bool complete;
    bool mend; /* the failure was one that asking for the offset may mend */
};

static void note_done(struct sending *sending, int64_t done)
{
    sending->done = done;
    sending->job->done = sending->before + done;
    if (done >= sending->milestone) {
        sending->milestone = done + MIB;
        sending->failures = 0;
    }
}

/* Content goes to the registry's own host only. */
static int note_location(struct sending *sending, const struct fl_registry_answer *answer,
                         bool required, struct fl_error *err)
{
    struct fl_registry_job *job = sending->job;
    const char *text = fl_registry_header(job, answer, "Location");
    struct fl_registry_url url;

    if (!text)
        return required ? fl_error_set(err, FL_E_INVALID, "it does not say where to send to") : 0;
    if (!fl_registry_url_resolve(job->arena, &answer->url, text, &url))
        return fl_error_set(err, FL_E_INVALID, "it says to send to no address");
    if (!fl_registry_url_same_origin(&url, &job->registry->base))
        return fl_error_set(err, FL_E_INVALID, "it says to send to another host, %s:%u", url.host,
                            (unsigned)url.port);
    sending->location = url;
    return 0;
}

static void note_chunk_min(struct sending *sending, const struct fl_registry_answer *answer)
{
    const char *text = fl_registry_header(sending->job, answer, "OCI-Chunk-Min-Length");
    int64_t min;

    if (text && fl_str_to_int64(text, 1, CHUNK_MIN_MAX, &min) && min > sending->chunk_bytes)
        sending->chunk_bytes = min;
}

/* --- sessions --- */

/* > 0: it was mounted. */
static int open_session(struct sending *sending, const char *from, struct fl_error *err)
{
    struct fl_registry_job *job = sending->job;
    const struct fl_registry_upload *upload = sending->upload;
    const char *target = fl_arena_printf(job->arena, "/v2/%s/blobs/uploads/", upload->repository);
    const char *scope = sending->scope;
    struct fl_registry_request request;
    FL_CLEANUP(fl_registry_answer_finish) struct fl_registry_answer answer = {0};
    int r;

    if (from) {
        target = fl_registry_query(job->arena, target, "mount", upload->blob.digest);
        target = fl_registry_query(job->arena, target, "from", from);
        scope = fl_arena_printf(job->arena, "%s repository:%s:pull", scope, from);
    }
    request = fl_registry_request_for(job, "POST", target, scope);
    r = fl_registry_ask(job, &request, &answer, err);
    if (r < 0)
        return r;
    if (from && answer.status == 201)
        return 1;
    if (answer.status != 202)
        return fl_registry_refused(job, &answer, err);
    note_chunk_min(sending, &answer);
    note_done(sending, 0);
    return note_location(sending, &answer, true, err);
}

static struct fl_registry_request request_at(struct sending *sending, const char *method)
{
    struct fl_registry_request request = {
        .method = method, .url = sending->location, .scope = sending->scope, .once = true};

    return request;
}

static void cancel_session(struct sending *sending)
{
    const struct fl_registry_request request = request_at(sending, "DELETE");
    FL_CLEANUP(fl_registry_answer_finish) struct fl_registry_answer answer = {0};

    if (sending->location.host && !sending->job->broken_off)
        (void)fl_registry_ask(sending->job, &request, &answer, NULL);
    sending->location.host = NULL;
}

/* What the registry says it has. An empty session says "0-0" as one of a single byte does. */
static int note_range(struct sending *sending, const struct fl_registry_answer *answer,
                      int64_t sent_up_to, struct fl_error *err)
{
    const char *text = fl_registry_header(sending->job, answer, "Range");
    int64_t count = sent_up_to;

    if (text && !fl_registry_kept_parse(text, &count))
        return fl_error_set(err, FL_E_INVALID, "it has a malformed range");
    if (text && count == 1 && sent_up_to != 1)
        count = 0;
    if (count > sent_up_to)
        return fl_error_set(err, FL_E_INVALID,
                            "it says to have %" PRId64 " bytes, of which %" PRId64 " were sent",
                            count, sent_up_to);
    note_done(sending, count);
    return 0;
}

/* Where a break left it: at an offset, or gone. */
static int ask_offset(struct sending *sending, int64_t sent_up_to, struct fl_error *err)
{
    struct fl_registry_job *job = sending->job;
    struct fl_registry_request request = request_at(sending, "GET");
    FL_CLEANUP(fl_registry_answer_finish) struct fl_registry_answer answer = {0};
    int r;

    request.once = false;
    r = fl_registry_ask(job, &request, &answer, err);
    if (r < 0)
        return r;
    if (answer.status == 204 || answer.status == 202 || answer.status == 200) {
        r = note_range(sending, &answer, sent_up_to, err);
        return r < 0 ? r : note_location(sending, &answer, false, err);
    }
    sending->location.host = NULL; /* it was given up over there: from the beginning */
    return 0;
}

/* --- content --- */

static void add_content(struct sending *sending, struct fl_registry_request *request, int64_t len)
{
    fl_registry_add_header(request, "Content-Type: application/octet-stream");
    request->from_file = true;
    request->file = sending->file;
    request->file_offset = sending->done;
    request->body_len = (size_t)len;
    request->counted = true;
}

/* A failure that says where it stands, or that may pass, is mended by asking. */
static int content_refused(struct sending *sending, const struct fl_registry_answer *answer,
                           struct fl_error *err)
{
    sending->mend = answer->status == 416 || answer->status == 404;
    return fl_registry_refused(sending->job, answer, err);
}

static int send_chunk(struct sending *sending, int64_t len, struct fl_error *err)
{
    struct fl_registry_job *job = sending->job;
    struct fl_registry_request request = request_at(sending, "PATCH");
    FL_CLEANUP(fl_registry_answer_finish) struct fl_registry_answer answer = {0};
    const int64_t end = sending->done + len;
    int r;

    add_content(sending, &request, len);
    fl_registry_add_header(
        &request,
        fl_arena_printf(job->arena, "Content-Range: %" PRId64 "-%" PRId64, sending->done, end - 1));
    r = fl_registry_ask(job, &request, &answer, err);
    sending->hint_ms = fl_registry_hint_ms(job, &answer);
    if (r < 0)
        return r;
    if (answer.status != 202 && answer.status != 204)
        return content_refused(sending, &answer, err);
    r = note_range(sending, &answer, end, err);
    return r < 0 ? r : note_location(sending, &answer, false, err);
}

/* With all that is left; nothing after chunks. */
static int close_session(struct sending *sending, int64_t len, struct fl_error *err)
{
    struct fl_registry_job *job = sending->job;
    struct fl_registry_request request = request_at(sending, "PUT");
    FL_CLEANUP(fl_registry_answer_finish) struct fl_registry_answer answer = {0};
    int r;

    request.url.target =
        fl_registry_query(job->arena, request.url.target, "digest", sending->upload->blob.digest);
    if (len > 0)
        add_content(sending, &request, len);
    r = fl_registry_ask(job, &request, &answer, err);
    sending->hint_ms = fl_registry_hint_ms(job, &answer);
    if (r < 0)
        return r;
    if (answer.status != 201 && answer.status != 204 && answer.status != 200)
        return content_refused(sending, &answer, err);
    sending->complete = true;
    note_done(sending, sending->upload->blob.size);
    return 0;
}

static int send_next(struct sending *sending, struct fl_error *err)
{
    const int64_t left = sending->upload->blob.size - sending->done;

    if (left == 0 || (sending->done == 0 && left <= sending->chunk_bytes))
        return close_session(sending, left, err);
    return send_chunk(sending, left < sending->chunk_bytes ? left : sending->chunk_bytes, err);
}

/* The last answer may be the only thing that was lost. */
static int look_again(struct sending *sending, struct fl_error *err)
{
    const struct fl_registry_upload *upload = sending->upload;
    int r = 0;

    if (sending->done == upload->blob.size || upload->blob.size <= sending->chunk_bytes)
        r = fl_registry_is_there(sending->job, upload->repository, "blobs", upload->blob.digest,
                                 sending->scope, err);
    if (r > 0) {
        sending->complete = true;
        note_done(sending, upload->blob.size);
    }
    if (r != 0 || !sending->location.host)
        return r < 0 ? r : 0;
    return ask_offset(sending, upload->blob.size, err);
}

static int after_failure(struct sending *sending, const struct fl_error *failed,
                         struct fl_error *err)
{
    struct fl_registry_job *job = sending->job;
    int r;

    if ((!sending->mend && !fl_registry_may_pass(job, failed->code)) ||
        ++sending->failures >= job->registry->tries)
        return fl_error_set(err, failed->code, "%s", failed->msg);
    r = fl_registry_wait(job, sending->failures, sending->hint_ms, failed, err);
    return r < 0 ? r : look_again(sending, err);
}

static int send_all(struct sending *sending, struct fl_error *err)
{
    while (!sending->complete) {
        struct fl_error failed = {0};
        int r = sending->location.host ? 0 : open_session(sending, NULL, &failed);
        const int64_t done = sending->done;

        sending->mend = false;
        if (r == 0)
            r = send_next(sending, &failed);
        /* A chunk of which nothing was kept has failed, too. */
        if (r == 0 && !sending->complete && sending->done <= done)
            r = fl_error_set(&failed, FL_E_UNAVAILABLE, "it kept nothing of what was sent");
        if (r < 0)
            r = after_failure(sending, &failed, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int send_opened(struct sending *sending, struct fl_error *err)
{
    const struct fl_registry_upload *upload = sending->upload;
    const struct fl_registry_source *source = upload->source;
    FL_CLEANUP(fl_fd_closep) int file = -1;
    struct stat st;
    int r = source->open(source->user, &upload->blob, &file, err);

    if (r < 0)
        return r;
    sending->file = file;
    if (fstat(file, &st) != 0)
        r = fl_error_errno(err, errno, "what is to be sent");
    else if (st.st_size != upload->blob.size)
        r = fl_error_set(err, FL_E_INVALID, "it has %lld bytes, not %" PRId64,
                         (long long)st.st_size, upload->blob.size);
    if (r == 0)
        r = send_all(sending, err);
    if (source->close)
        source->close(source->user, &upload->blob);
    return r;
}

int fl_registry_send_blob(struct fl_registry_job *job, const struct fl_registry_upload *upload,
                          struct fl_error *err)
{
    struct sending sending = {.job = job,
                              .upload = upload,
                              .scope = fl_registry_scope(job, upload->repository, "pull,push"),
                              .file = -1,
                              .chunk_bytes = job->registry->chunk_bytes,
                              .before = job->done,
                              .milestone = MIB};
    int r = upload->from ? open_session(&sending, upload->from, err) : 0;

    if (r > 0) {
        job->done = sending.before + upload->blob.size;
        return 1;
    }
    if (r == 0)
        r = send_opened(&sending, err);
    if (r < 0)
        cancel_session(&sending);
    return r;
}
