#include "workloads/transfer/bulk_client.h"

#include "lib/json.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "workloads/transfer/bulk_parse.h"
#include "workloads/transfer/crc32c.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define ANSWER_MAX        ((size_t)64 * 1024) /* of errors */
#define WHOLE_HEADER_SIZE 256

struct fl_bulk_client {
    const struct fl_env *env;
    struct fl_http_client *http;
    int64_t chunk_bytes, quiet_ms, backoff_ms, backoff_max_ms;
    unsigned max_failures;
    struct fl_bulk_client_stats stats;
    char *chunk; /* made when first needed */

    struct fl_lock *lock;
    struct fl_signal *wake;
    bool cancelled;
};

/* One transfer, however many tries it takes. */
struct job {
    struct fl_bulk_client *client;
    int64_t until_ms;  /* INT64_MAX: no deadline */
    unsigned failures; /* in a row that brought nothing */
    int64_t done, all; /* safe so far; all: < 0 not known */
    int64_t best;      /* the most that was ever safe */
    int64_t hint_ms;   /* the server asked to wait */
    fl_bulk_progress_fn *progress;
    void *user;
};

int fl_bulk_client_create(const struct fl_bulk_client_options *options,
                          struct fl_bulk_client **ret_client, struct fl_error *err)
{
    FL_CLEANUP(fl_bulk_client_destroyp)
    struct fl_bulk_client *client = fl_calloc(1, sizeof(*client));
    struct fl_http_client_options http = options->http;
    int r;

    http.max_response_bytes = ANSWER_MAX;
    client->env = options->env;
    client->chunk_bytes = options->chunk_bytes > 0 ? options->chunk_bytes : INT64_C(4) << 20;
    client->quiet_ms = options->quiet_ms > 0 ? options->quiet_ms : 30000;
    client->max_failures = options->max_failures ? options->max_failures : 8;
    client->backoff_ms = options->backoff_ms > 0 ? options->backoff_ms : 200;
    client->backoff_max_ms = options->backoff_max_ms > 0 ? options->backoff_max_ms : 10000;
    client->lock = fl_lock_create();
    client->wake = fl_signal_create();
    r = fl_http_client_create(&http, &client->http, err);
    if (r < 0)
        return r;
    *ret_client = FL_TAKE(client);
    return 0;
}

void fl_bulk_client_destroy(struct fl_bulk_client *client)
{
    if (!client)
        return;
    fl_http_client_destroy(client->http);
    fl_signal_destroy(client->wake);
    fl_lock_destroy(client->lock);
    free(client->chunk);
    free(client);
}

void fl_bulk_client_cancel(struct fl_bulk_client *client)
{
    FL_LOCKED(client->lock);
    client->cancelled = true;
    fl_signal_all(client->wake);
}

bool fl_bulk_client_is_cancelled(struct fl_bulk_client *client)
{
    FL_LOCKED(client->lock);
    return client->cancelled;
}

void fl_bulk_client_reset(struct fl_bulk_client *client)
{
    FL_LOCKED(client->lock);
    client->cancelled = false;
}

struct fl_bulk_client_stats fl_bulk_client_stats(const struct fl_bulk_client *client)
{
    return client->stats;
}

char *fl_bulk_upload_target(struct fl_arena *arena, const char *key)
{
    return fl_arena_printf(arena, "/v1/uploads/%s", fl_url_encode(arena, key));
}

/* --- tries --- */

static struct job begin_job(struct fl_bulk_client *client, int64_t deadline_ms,
                            fl_bulk_progress_fn *progress, void *user)
{
    return (struct job){.client = client,
                        .until_ms = deadline_ms > 0 ? fl_monotonic_ms(client->env) + deadline_ms
                                                    : INT64_MAX,
                        .all = -1,
                        .progress = progress,
                        .user = user};
}

/* Half of it is chance, so that those cut off together do not come back together. */
static int64_t delay(struct job *job)
{
    const struct fl_bulk_client *client = job->client;
    int64_t ms = client->backoff_ms;

    for (unsigned i = 1; i < job->failures && ms < client->backoff_max_ms; i++)
        ms *= 2;
    if (ms < job->hint_ms)
        ms = job->hint_ms;
    if (ms > client->backoff_max_ms)
        ms = client->backoff_max_ms;
    return ms / 2 + (int64_t)fl_random_below(client->env, (uint64_t)(ms / 2 + 1));
}

static int wait_for(struct job *job, int64_t ms, const struct fl_error *last, struct fl_error *err)
{
    struct fl_bulk_client *client = job->client;
    const int64_t until = fl_monotonic_ms(client->env) + ms;

    if (until >= job->until_ms)
        return fl_error_set(err, FL_E_TIMEOUT, "not done by the deadline: %s", last->msg);
    FL_LOCKED(client->lock);
    while (!client->cancelled) {
        const int64_t left = until - fl_monotonic_ms(client->env);

        if (left <= 0)
            return 0;
        (void)fl_signal_wait(client->wake, client->lock, left);
    }
    return fl_error_set(err, FL_E_UNAVAILABLE, "cancelled");
}

/* What is worth another try waits for it; everything else is the end. INVALID is damage on the way,
 * EXPIRED etc. are not. */
static int after_failure(struct job *job, const struct fl_error *failed, struct fl_error *err)
{
    struct fl_bulk_client *client = job->client;

    client->stats.failures++;
    if (job->done > job->best) {
        job->best = job->done;
        job->failures = 0;
    }
    job->failures++;
    if (fl_bulk_client_is_cancelled(client))
        return fl_error_set(err, FL_E_UNAVAILABLE, "cancelled");
    if (fl_monotonic_ms(client->env) >= job->until_ms)
        return fl_error_set(err, FL_E_TIMEOUT, "not done by the deadline: %s", failed->msg);
    if (failed->code != FL_E_INVALID && !fl_error_is_retryable(failed->code))
        return fl_error_set(err, failed->code, "%s", failed->msg);
    if (job->failures > client->max_failures)
        return fl_error_set(err, failed->code, "given up after %u tries in a row: %s",
                            client->max_failures, failed->msg);
    return wait_for(job, delay(job), failed, err);
}

static int64_t time_left(const struct job *job)
{
    int64_t left;

    if (job->until_ms == INT64_MAX)
        return 0;
    left = job->until_ms - fl_monotonic_ms(job->client->env);
    return left > 0 ? left : 1;
}

static bool beat(void *user, int64_t sent, int64_t received)
{
    struct job *job = user;

    (void)received; /* counted where it is taken */
    if (job->progress)
        job->progress(job->user, job->done + sent, job->all);
    return !fl_bulk_client_is_cancelled(job->client);
}

/* {"reason", "message"}, or whatever somebody on the way has said. */
static int error_of(int status, const struct fl_bytes *body, struct fl_error *err)
{
    FL_JSON value = NULL;
    const char *reason = NULL, *message = NULL;

    if (body && fl_json_parse(body->data, body->len, NULL, NULL, NULL, &value, NULL) == 0) {
        reason = fl_json_str(value, "reason");
        message = fl_json_str(value, "message");
    }
    return fl_error_set(err, fl_error_from_status(reason, status), "status %d: %s", status,
                        fl_str_or(message, "no reason was given"));
}

static void note_retry_after(struct job *job, const char *headers)
{
    char text[24];
    int64_t seconds;

    job->hint_ms = 0;
    if (fl_http_find_header(headers, "Retry-After", text, sizeof(text)) &&
        fl_str_to_int64(text, 0, 3600, &seconds))
        job->hint_ms = seconds * 1000;
}

/* --- fetching --- */

struct fetching {
    struct job job;
    const struct fl_bulk_fetch *fetch;
    struct fl_blob_writer *writer;
    char whole[FL_DIGEST_SIZE]; /* the xxh128 that it must have; "": its name is to be checked */
};

/* "bytes 100-999/1000" */
static bool parse_content_range(const char *text, int64_t *ret_first, int64_t *ret_size)
{
    const char *dash, *slash;
    char first[24];

    if (strncmp(text, "bytes ", 6) != 0)
        return false;
    dash = strchr(text + 6, '-');
    slash = strchr(text + 6, '/');
    if (!dash || !slash || slash < dash || dash - text - 6 >= (ptrdiff_t)sizeof(first))
        return false;
    memcpy(first, text + 6, (size_t)(dash - text - 6));
    first[dash - text - 6] = '\0';
    return fl_str_to_int64(first, 0, INT64_MAX, ret_first) &&
           fl_str_to_int64(slash + 1, 0, INT64_MAX, ret_size);
}

static int check_size(struct fetching *fetching, struct fl_error *err)
{
    const int64_t max = fetching->fetch->max_bytes;

    if (max > 0 && fetching->job.all > max)
        return fl_error_set(err, FL_E_TOO_LARGE,
                            "it has %" PRId64 " bytes, at most %" PRId64 " were expected",
                            fetching->job.all, max);
    return 0;
}

/* Who names the model says what its bytes are, too: a SHA-256 of them is made only where it does
 * not. What was begun by one of them goes on by it. */
static void note_whole_digest(struct fetching *fetching, const char *headers)
{
    char text[WHOLE_HEADER_SIZE];
    const bool known = fl_http_find_header(headers, "Repr-Digest", text, sizeof(text)) &&
                       fl_bulk_whole_parse(text, fetching->whole);

    if (!known)
        fetching->whole[0] = '\0';
    fl_blob_writer_hash_by(fetching->writer, known ? FL_DIGEST_XXH128 : FL_DIGEST_SHA256);
}

/* Somebody on the way may not know ranges: then all comes once more. */
static int fetch_begins(void *user, int status, const char *headers, struct fl_error *err)
{
    struct fetching *fetching = user;
    int64_t first = 0;
    char text[80];
    int r = 0;

    note_retry_after(&fetching->job, headers);
    if (status == 200 && fl_blob_writer_size(fetching->writer) > 0) {
        r = fl_blob_writer_restart(fetching->writer, err);
        fetching->job.done = 0;
    }
    if (r == 0 && fl_blob_writer_size(fetching->writer) == 0)
        note_whole_digest(fetching, headers);
    if (status == 200 && fl_http_find_header(headers, "Content-Length", text, sizeof(text)))
        (void)fl_str_to_int64(text, 0, INT64_MAX, &fetching->job.all);
    if (status == 206 && (!fl_http_find_header(headers, "Content-Range", text, sizeof(text)) ||
                          !parse_content_range(text, &first, &fetching->job.all) ||
                          first != fl_blob_writer_size(fetching->writer)))
        return fl_error_set(err, FL_E_UNAVAILABLE, "another part came than was asked for");
    return r < 0 ? r : check_size(fetching, err);
}

static int fetch_piece(void *user, const void *data, size_t len, struct fl_error *err)
{
    struct fetching *fetching = user;
    int r = fl_blob_writer_add(fetching->writer, data, len, err);

    if (r < 0)
        return r;
    fetching->job.done = fl_blob_writer_size(fetching->writer);
    if (fetching->job.all < fetching->job.done)
        fetching->job.all = fetching->job.done; /* it had not said how much */
    return check_size(fetching, err);
}

static int fetch_once(struct fetching *fetching, struct fl_error *err)
{
    struct fl_bulk_client *client = fetching->job.client;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    const int64_t have = fl_blob_writer_size(fetching->writer);
    char target[FL_DIGEST_SIZE + 16], range[48];
    const char *const headers[] = {range};
    struct fl_http_transfer transfer = {.method = "GET",
                                        .target = target,
                                        .headers = headers,
                                        .header_count = have > 0 ? 1 : 0,
                                        .begin = fetch_begins,
                                        .piece = fetch_piece,
                                        .beat = beat,
                                        .user = fetching,
                                        .quiet_ms = client->quiet_ms,
                                        .total_ms = time_left(&fetching->job)};
    int status, r;

    (void)snprintf(target, sizeof(target), "/v1/models/%s", fetching->fetch->digest);
    (void)snprintf(range, sizeof(range), "Range: bytes=%" PRId64 "-", have);
    client->stats.tries++;
    client->stats.resumed += have > 0;
    r = fl_http_transfer(client->http, &transfer, &status, &body, NULL, err);
    if (r < 0)
        return r;
    /* 416: all was here already when the last try broke off. */
    return status == 200 || status == 206 || (status == 416 && have > 0)
               ? 0
               : error_of(status, body, err);
}

static int fetch_ends(struct fetching *fetching, struct fl_error *err)
{
    const struct fl_bulk_fetch *fetch = fetching->fetch;
    char digest[FL_DIGEST_SIZE];

    return *fetching->whole
               ? fl_blob_writer_finish_as(fetching->writer, fetching->whole, fetch->digest,
                                          fetch->pin, err)
               : fl_blob_writer_finish(fetching->writer, fetch->digest, fetch->pin, digest, err);
}

static int fetch_all(struct fetching *fetching, struct fl_error *err)
{
    int r;

    for (;;) {
        struct fl_error failed = {0};

        r = fetch_once(fetching, &failed);
        if (r == 0)
            r = fetch_ends(fetching, &failed);
        if (r == 0)
            return 0;
        fetching->job.done = fl_blob_writer_size(fetching->writer);
        r = after_failure(&fetching->job, &failed, err);
        if (r < 0)
            return r;
    }
}

int fl_bulk_fetch(struct fl_bulk_client *client, const struct fl_bulk_fetch *fetch,
                  struct fl_blobs *blobs, struct fl_error *err)
{
    FL_CLEANUP(fl_blob_writer_closep) struct fl_blob_writer *writer = NULL;
    struct fetching fetching = {.fetch = fetch};
    int r;

    if (!fl_digest_is_valid(fetch->digest))
        return fl_error_set(err, FL_E_BAD_REQUEST, "a model is named by its digest");
    if (fetch->pin ? fl_blobs_pin(blobs, fetch->digest, NULL) == 0
                   : fl_blobs_has(blobs, fetch->digest))
        return 0;
    r = fl_blob_writer_open(blobs, &writer, err);
    if (r < 0)
        return r;
    fetching.job = begin_job(client, fetch->deadline_ms, fetch->progress, fetch->user);
    fetching.writer = writer;
    r = fetch_all(&fetching, err);
    if (r < 0)
        (void)fl_error_wrap(err, "fetch %s", fetch->digest);
    return r;
}

/* --- sending --- */

struct sending {
    struct job job;
    const struct fl_bulk_send *send;
    bool complete;
};

/* Where to go on, as the server says; it stays as it is where the answer says nothing. */
static void note_offset(struct sending *sending, const char *headers)
{
    char text[24];
    int64_t offset;

    if (fl_http_find_header(headers, "Upload-Offset", text, sizeof(text)) &&
        fl_str_to_int64(text, 0, sending->send->size, &offset))
        sending->job.done = offset;
    if (fl_http_find_header(headers, "Upload-Complete", text, sizeof(text)) &&
        strcmp(text, "?1") == 0)
        sending->complete = true;
    note_retry_after(&sending->job, headers);
}

/* The chunk at the offset that is due; lent until the next. */
static int load_chunk(struct sending *sending, const void **ret_data, size_t *ret_len,
                      struct fl_error *err)
{
    struct fl_bulk_client *client = sending->job.client;
    const struct fl_bulk_send *send = sending->send;
    const int64_t left = send->size - sending->job.done;
    const int64_t most = send->chunk_bytes > 0 && send->chunk_bytes < client->chunk_bytes
                             ? send->chunk_bytes
                             : client->chunk_bytes;
    size_t len = (size_t)(left < most ? left : most), used = 0;

    *ret_len = len;
    if (send->data) {
        *ret_data = (const char *)send->data + sending->job.done;
        return 0;
    }
    if (!client->chunk)
        client->chunk = fl_malloc((size_t)client->chunk_bytes);
    while (used < len) {
        ssize_t n = pread(send->fd, client->chunk + used, len - used,
                          (off_t)(sending->job.done + (int64_t)used));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fl_error_errno(err, errno, "read what is to be sent");
        if (n == 0)
            return fl_error_set(err, FL_E_BAD_REQUEST, "what is to be sent has become shorter");
        used += (size_t)n;
    }
    *ret_data = client->chunk;
    return 0;
}

static int put_chunk(struct sending *sending, const char *target, const void *data, size_t len,
                     struct fl_error *err)
{
    struct fl_bulk_client *client = sending->job.client;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    FL_CLEANUP(fl_freep) char *answer = NULL;
    char digest[FL_BULK_CHECK_TEXT_SIZE], header[FL_BULK_CHECK_TEXT_SIZE + 16];
    const char *const headers[] = {header, "Content-Type: application/octet-stream"};
    const struct fl_http_transfer transfer = {.method = "PUT",
                                              .target = target,
                                              .headers = headers,
                                              .header_count = FL_COUNT_OF(headers),
                                              .body = data,
                                              .body_len = len,
                                              .beat = beat,
                                              .user = sending,
                                              .quiet_ms = client->quiet_ms,
                                              .total_ms = time_left(&sending->job)};
    int status, r;

    fl_bulk_check_crc32c_text(fl_crc32c(0, data, len), digest);
    (void)snprintf(header, sizeof(header), "Content-Digest: %s", digest);
    client->stats.tries++;
    r = fl_http_transfer(client->http, &transfer, &status, &body, &answer, err);
    if (r < 0)
        return r;
    note_offset(sending, answer);
    if (status == 201)
        sending->complete = true;
    return status == 201 || status == 204 ? 0 : error_of(status, body, err);
}

static int send_chunk(struct sending *sending, struct fl_error *err)
{
    const struct fl_bulk_send *send = sending->send;
    FL_CLEANUP(fl_freep)
    char *target = fl_asprintf("%s%soffset=%" PRId64 "&size=%" PRId64 "&digest=%s", send->target,
                               strchr(send->target, '?') ? "&" : "?", sending->job.done, send->size,
                               send->digest);
    const void *data;
    size_t len;
    int r = load_chunk(sending, &data, &len, err);

    return r < 0 ? r : put_chunk(sending, target, data, len, err);
}

/* After a try of which nothing is known: the server says what it has. It has nothing where it does
 * not know the upload. */
static void ask_offset(struct sending *sending)
{
    struct fl_bulk_client *client = sending->job.client;
    FL_CLEANUP(fl_freep) char *answer = NULL;
    const struct fl_http_transfer transfer = {.method = "HEAD",
                                              .target = sending->send->target,
                                              .beat = beat,
                                              .user = sending,
                                              .quiet_ms = client->quiet_ms,
                                              .total_ms = time_left(&sending->job)};
    int status;

    if (fl_http_transfer(client->http, &transfer, &status, NULL, &answer, NULL) < 0)
        return;
    if (status == 404)
        sending->job.done = 0;
    else if (status == 200)
        note_offset(sending, answer);
    client->stats.resumed += sending->job.done > 0;
}

/* Another upload under this name may be complete: only our own answer (201) says that it is ours.
 */
static int send_all(struct sending *sending, struct fl_error *err)
{
    for (;;) {
        struct fl_error failed = {0};
        int r = send_chunk(sending, &failed);

        if (r == 0 && sending->complete)
            return 0;
        sending->complete = false;
        if (r == 0)
            continue;
        /* A conflict has said where to go on: that costs no time, but counts as a try. */
        r = after_failure(&sending->job, &failed, err);
        if (r < 0)
            return r;
        if (failed.code != FL_E_CONFLICT && failed.code != FL_E_INVALID)
            ask_offset(sending);
    }
}

int fl_bulk_send(struct fl_bulk_client *client, const struct fl_bulk_send *send,
                 struct fl_error *err)
{
    struct sending sending = {.send = send};
    int r;

    assert(send->target && fl_digest_kind(send->digest) != FL_DIGEST_NONE && send->size >= 0);

    sending.job = begin_job(client, send->deadline_ms, send->progress, send->user);
    sending.job.all = send->size;
    r = send_all(&sending, err);
    if (r < 0)
        (void)fl_error_wrap(err, "send %s", send->digest);
    return r;
}
