/* Content over HTTP. An upload is written as it comes; its end is a thread's work, because it waits
 * for the disk. */
#include "controller/content/internal.h"

#include "lib/http_range.h"
#include "lib/process.h"
#include "lib/str.h"

#include <assert.h>
#include <inttypes.h>

#define UPLOADS_MAX 64

struct fl_content_upload {
    TAILQ_ENTRY(fl_content_upload) link;
    struct fl_contents *contents;
    struct fl_loop *loop;
    struct fl_raw_request *raw; /* NULL: its client is gone */
    struct fl_blob_writer *writer;
    char digest[FL_DIGEST_SIZE];
    struct fl_thread *thread; /* of its end */
    struct fl_error result;
    bool orphan; /* the store is closed: the loop frees it when it hears of the end */
};

static void upload_release(struct fl_content_upload *upload)
{
    TAILQ_REMOVE(&upload->contents->uploads, upload, link);
    fl_thread_join(FL_TAKE(upload->thread));
    fl_blob_writer_close(FL_TAKE(upload->writer));
}

static void upload_destroy(struct fl_content_upload *upload)
{
    upload_release(upload);
    free(upload);
}

/* The client left before all of it was here. While the end is being written, that goes on. */
static void upload_gone(void *user)
{
    struct fl_content_upload *upload = user;

    upload->raw = NULL;
    if (!upload->thread)
        upload_destroy(upload);
}

static void upload_fail(struct fl_content_upload *upload, const struct fl_error *err)
{
    struct fl_raw_request *raw = FL_TAKE(upload->raw);

    if (raw)
        fl_raw_fail(raw, err);
}

static void answer_put(struct fl_raw_request *raw, int status)
{
    fl_http_respond(fl_raw_done(raw, status), status, NULL, "", 0);
}

/* The digest that a path names, or NULL. */
static const char *digest_of(struct fl_http_request *http)
{
    const char *text = fl_http_path(http) + strlen(FL_CONTENTS_BLOBS);
    const char *digest;

    if (*text != '/')
        return NULL;
    digest = fl_url_decode(fl_http_arena(http), text + 1, strlen(text + 1), false);
    return fl_digest_is_valid(digest) ? digest : NULL;
}

static int bad_digest(struct fl_error *err)
{
    return fl_error_set(err, FL_E_BAD_REQUEST,
                        "content is named by its digest: " FL_CONTENTS_BLOBS
                        "/sha256:<64 hexadecimal digits>");
}

/* What a client says it will send is refused before it does. */
static int check_room(const struct fl_contents *contents, struct fl_http_request *http,
                      struct fl_error *err)
{
    const char *length = fl_http_header(http, "Content-Length");
    int64_t left = contents->max_bytes - fl_blobs_stats(contents->blobs).bytes, size;

    if (contents->max_bytes == 0 || !length || !fl_str_to_int64(length, 0, INT64_MAX, &size) ||
        size <= left)
        return 0;
    return fl_error_set(err, FL_E_TOO_LARGE,
                        "the content store is full: %" PRId64 " bytes do not fit, %" PRId64
                        " of %" PRId64 " are in use. Delete ModelVersions that are not needed, or "
                        "give it more room",
                        size, contents->max_bytes - left, contents->max_bytes);
}

static size_t count_uploads(const struct fl_contents *contents)
{
    const struct fl_content_upload *upload;
    size_t count = 0;

    TAILQ_FOREACH(upload, &contents->uploads, link)
        count++;
    return count;
}

static int upload_open(struct fl_contents *contents, struct fl_raw_request *raw,
                       struct fl_content_upload **ret_upload, struct fl_error *err)
{
    struct fl_http_request *http = fl_raw_http(raw);
    const char *digest = digest_of(http);
    struct fl_blob_writer *writer;
    struct fl_content_upload *upload;
    int r;

    if (!digest)
        return bad_digest(err);
    if (count_uploads(contents) >= UPLOADS_MAX)
        return fl_error_set(err, FL_E_TOO_MANY_REQUESTS, "%d uploads are under way", UPLOADS_MAX);
    r = fl_blobs_has(contents->blobs, digest) ? 0 : check_room(contents, http, err);
    if (r == 0)
        r = fl_blob_writer_open(contents->blobs, &writer, err);
    if (r < 0)
        return r;
    upload = fl_calloc(1, sizeof(*upload));
    upload->contents = contents;
    upload->loop = fl_raw_loop(raw);
    upload->raw = raw;
    upload->writer = writer;
    memcpy(upload->digest, digest, FL_DIGEST_SIZE);
    TAILQ_INSERT_TAIL(&contents->uploads, upload, link);
    fl_raw_on_gone(raw, upload_gone, upload);
    *ret_upload = upload;
    return 0;
}

static int upload_add(struct fl_content_upload *upload, const void *data, size_t len,
                      struct fl_error *err)
{
    int r = fl_blob_writer_add(upload->writer, data, len, err);

    return r < 0 ? fl_error_wrap(err, "the content store") : 0;
}

static int on_data(void *user, const void *data, size_t len)
{
    struct fl_content_upload *upload = user;
    struct fl_error err = {0};

    if (upload_add(upload, data, len, &err) == 0)
        return 0;
    upload_fail(upload, &err);
    upload_destroy(upload);
    return -1;
}

/* In place of a body that cannot be taken. */
struct refusal {
    struct fl_raw_request *raw;
    struct fl_error err;
};

static int refuse_data(void *user, const void *data, size_t len)
{
    struct refusal *refusal = user;

    (void)data;
    (void)len;
    fl_raw_fail(refusal->raw, &refusal->err);
    return -1;
}

/* Its path is refused by `serve`, which comes to it without a body. */
static void begin(void *user, struct fl_raw_request *raw)
{
    struct fl_http_request *http = fl_raw_http(raw);
    struct refusal *refusal = fl_new(fl_http_arena(http), struct refusal);
    struct fl_content_upload *upload;

    refusal->raw = raw;
    if (strcmp(fl_http_method(http), "PUT") != 0)
        return;
    if (upload_open(user, raw, &upload, &refusal->err) < 0) {
        fl_http_limit_body(http, SIZE_MAX); /* so that it is this refusal that is heard */
        fl_http_stream_body(http, refuse_data, refusal);
        return;
    }
    fl_raw_set(raw, upload);
    fl_http_limit_body(http, SIZE_MAX); /* the store has its own bound, and nothing is in memory */
    fl_http_stream_body(http, on_data, upload);
}

/* The end */

static void upload_ended(void *user)
{
    struct fl_content_upload *upload = user;
    struct fl_raw_request *raw = FL_TAKE(upload->raw);

    if (upload->orphan) {
        free(upload);
        return;
    }
    if (raw && upload->result.code)
        fl_raw_fail(raw, &upload->result);
    else if (raw)
        answer_put(raw, 201);
    upload_destroy(upload);
}

static void write_end(struct fl_content_upload *upload)
{
    char digest[FL_DIGEST_SIZE];

    if (fl_blob_writer_finish(upload->writer, upload->digest, false, digest, &upload->result) < 0)
        (void)fl_error_wrap(&upload->result, "the content store");
}

static void run_end(void *user)
{
    struct fl_content_upload *upload = user;

    write_end(upload);
    fl_loop_post(upload->loop, upload_ended, upload);
}

static void upload_end(struct fl_content_upload *upload)
{
    struct fl_error err = {0};

    if (fl_thread_start("flops-content", run_end, upload, &upload->thread, &err) < 0) {
        upload_fail(upload, &err);
        upload_destroy(upload);
    }
}

void fl_content_uploads_end(struct fl_contents *contents)
{
    struct fl_content_upload *upload;

    while ((upload = TAILQ_FIRST(&contents->uploads))) {
        upload->orphan = upload->thread != NULL;
        upload_release(upload);
        if (!upload->orphan)
            free(upload);
    }
}

/* A request of the process itself has its body with it, and waits for nobody. */
static void put_at_once(struct fl_contents *contents, struct fl_raw_request *raw)
{
    struct fl_content_upload *upload;
    struct fl_error err = {0};
    const char *body;
    size_t len;

    if (upload_open(contents, raw, &upload, &err) < 0) {
        fl_raw_fail(raw, &err);
        return;
    }
    body = fl_http_body(fl_raw_http(raw), &len);
    if (upload_add(upload, body, len, &upload->result) == 0)
        write_end(upload);
    upload_ended(upload);
}

static void put(struct fl_contents *contents, struct fl_raw_request *raw)
{
    struct fl_content_upload *upload = fl_raw_get(raw);

    if (upload)
        upload_end(upload);
    else
        put_at_once(contents, raw);
}

/* Reading */

static void get_blob(struct fl_contents *contents, struct fl_raw_request *raw)
{
    struct fl_http_request *http = fl_raw_http(raw);
    const char *digest = digest_of(http);
    struct fl_error err = {0};
    const char *etag;
    int64_t size;
    int fd, r;

    r = digest ? fl_blobs_get(contents->blobs, digest, &fd, &size, &err) : bad_digest(&err);
    if (r < 0) {
        fl_raw_fail(raw, &err);
        return;
    }
    etag = fl_arena_printf(fl_http_arena(http), "\"%s\"", digest);
    (void)fl_raw_done(raw, 200);
    fl_http_set_header(http, "Cache-Control", "private, immutable, max-age=31536000");
    fl_http_respond_ranges(http, etag, "application/octet-stream", fd, (uint64_t)size);
}

static json_t *show(struct fl_contents *contents, const struct fl_blob_entry *entry,
                    struct fl_arena *arena)
{
    const char **references = fl_contents_references(contents, entry->digest, arena);
    json_t *list = json_array();

    for (; *references; references++)
        (void)json_array_append_new(list, json_string(*references));
    return json_pack("{s:s, s:I, s:o}", "digest", entry->digest, "size", (json_int_t)entry->size,
                     "references", list);
}

static void get_list(struct fl_contents *contents, struct fl_raw_request *raw)
{
    struct fl_http_request *http = fl_raw_http(raw);
    struct fl_arena *arena = fl_http_arena(http);
    FL_JSON items = json_array();
    FL_JSON answer = NULL;
    struct fl_blob_entry *entries;
    size_t count = fl_blobs_list(contents->blobs, arena, &entries);
    struct fl_buf text;

    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(items, show(contents, &entries[i], arena));
    answer = json_pack("{s:O, s:I, s:I}", "items", items, "bytes",
                       (json_int_t)fl_blobs_stats(contents->blobs).bytes, "maxBytes",
                       (json_int_t)contents->max_bytes);
    fl_buf_init(&text, 0);
    fl_json_write(&text, answer);
    (void)fl_raw_done(raw, 200);
    fl_http_respond_buf(http, 200, "application/json", &text);
}

static void refuse_method(struct fl_raw_request *raw, const char *allowed)
{
    struct fl_error err = {0};

    fl_http_set_header(fl_raw_http(raw), "Allow", allowed);
    (void)fl_error_set(&err, FL_E_METHOD_NOT_ALLOWED, "%s is not for this, only %s",
                       fl_http_method(fl_raw_http(raw)), allowed);
    fl_raw_fail(raw, &err);
}

static bool reads(struct fl_http_request *http)
{
    return strcmp(fl_http_method(http), "GET") == 0 || strcmp(fl_http_method(http), "HEAD") == 0;
}

static void serve(void *user, struct fl_raw_request *raw)
{
    struct fl_http_request *http = fl_raw_http(raw);
    const char *path = fl_http_path(http);
    const size_t len = strlen(FL_CONTENTS_BLOBS);
    struct fl_error err = {0};

    if (!fl_str_has_prefix(path, FL_CONTENTS_BLOBS) || (path[len] && path[len] != '/')) {
        (void)fl_error_set(&err, FL_E_NOT_FOUND, "there is nothing but " FL_CONTENTS_BLOBS);
        fl_raw_fail(raw, &err);
    } else if (!path[len]) {
        if (reads(http))
            get_list(user, raw);
        else
            refuse_method(raw, "GET, HEAD");
    } else if (strcmp(fl_http_method(http), "PUT") == 0) {
        put(user, raw);
    } else if (reads(http)) {
        get_blob(user, raw);
    } else {
        refuse_method(raw, "GET, HEAD, PUT");
    }
}

struct fl_apiserver_raw fl_contents_raw(struct fl_contents *contents)
{
    return (struct fl_apiserver_raw){
        .prefix = FL_CONTENTS_PREFIX, .serve = serve, .begin = begin, .user = contents};
}
