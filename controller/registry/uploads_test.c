/* Blobs, and the uploads that bring them. */
#include "controller/registry/registry_testing.h"

static void a_blob_comes_at_once(void **state)
{
    struct fixture *f = *state;
    const char *digest = push_blob(f, "team/app", "0123456789");
    struct answer answer = look(f, BLOB, "team/app", digest);

    assert_answer(answer, 200);
    assert_string_equal(answer.text, "0123456789");
    assert_header(f, answer, "Docker-Content-Digest", digest);
    assert_header(f, answer, "Content-Type", "application/octet-stream");
    answer = send_as_admin(f, "HEAD", format(f->rig, BLOB, "team/app", digest), NULL);
    assert_answer(answer, 200);
    assert_header(f, answer, "Content-Length", "10");
    answer = send_to(f, ADMIN, "GET", format(f->rig, BLOB, "team/app", digest),
                     "Range: bytes=3-5\r\n", NULL);
    assert_answer(answer, 206);
    assert_string_equal(answer.text, "345");
    assert_header(f, answer, "Content-Range", "bytes 3-5/10");
    assert_failed(look(f, BLOB, "team/app", digest_of(f, "other")), 404, "BLOB_UNKNOWN", "");
    assert_failed(look(f, BLOB, "team/app", "sha256:12"), 400, "DIGEST_INVALID", "no digest");
    assert_failed(send_as_admin(f, "PUT", format(f->rig, BLOB, "team/app", digest), "x"), 405,
                  "UNSUPPORTED", "only GET");
}

static const char *chunk_header(struct fixture *f, size_t first, const char *chunk)
{
    return format(f->rig, "Content-Range: %zu-%zu\r\n", first, first + strlen(chunk) - 1);
}

static void a_blob_comes_in_chunks(void **state)
{
    struct fixture *f = *state;
    const char *location = open_upload(f, "a"), *digest = digest_of(f, "0123456789");
    struct answer answer;

    answer = send_to(f, ADMIN, "PATCH", location, chunk_header(f, 0, "01234"), "01234");
    assert_answer(answer, 202);
    assert_header(f, answer, "Range", "0-4");
    assert_header(f, answer, "Location", location);
    answer = send_to(f, ADMIN, "PATCH", location, chunk_header(f, 0, "01234"), "01234");
    assert_answer(answer, 416);
    assert_header(f, answer, "Range", "0-4");
    assert_header(f, answer, "Location", location);
    answer = send_as_admin(f, "GET", location, NULL);
    assert_answer(answer, 204);
    assert_header(f, answer, "Range", "0-4");
    assert_answer(send_to(f, ADMIN, "PATCH", location, NULL, "567"), 202); /* as Docker sends it */
    answer = send_to(f, ADMIN, "PUT", format(f->rig, "%s?digest=%s", location, digest),
                     chunk_header(f, 8, "89"), "89");
    assert_answer(answer, 201);
    assert_header(f, answer, "Location", format(f->rig, BLOB, "a", digest));
    assert_string_equal(look(f, BLOB, "a", digest).text, "0123456789");
    assert_failed(send_as_admin(f, "GET", location, NULL), 404, "BLOB_UPLOAD_UNKNOWN", "");
}

static void what_is_wrong_with_an_upload_is_said(void **state)
{
    struct fixture *f = *state;
    const char *location = open_upload(f, "a"), *digest = digest_of(f, "right");

    assert_failed(send_as_admin(f, "PUT", location, "right"), 400, "DIGEST_INVALID",
                  "needs digest");
    assert_failed(send_as_admin(f, "PUT", format(f->rig, "%s?digest=sha512:ab", location), "x"),
                  400, "DIGEST_INVALID", "");
    assert_failed(send_to(f, ADMIN, "PATCH", location, "Content-Range: x\r\n", "right"), 400,
                  "BLOB_UPLOAD_INVALID", "Content-Range");
    assert_failed(send_to(f, ADMIN, "PATCH", location, "Content-Range: 0-9\r\n", "right"), 400,
                  "BLOB_UPLOAD_INVALID", "Content-Length");
    assert_failed(send_as_admin(f, "PATCH", "/v2/b/blobs/uploads/1-2", "x"), 404,
                  "BLOB_UPLOAD_UNKNOWN", "");
    assert_failed(
        send_as_admin(f, "GET",
                      format(f->rig, "/v2/b/blobs/uploads/%s", strrchr(location, '/') + 1), NULL),
        404, "BLOB_UPLOAD_UNKNOWN", ""); /* another repository's */
    assert_failed(
        send_as_admin(f, "PUT", format(f->rig, "%s?digest=%s", location, digest), "wrong"), 400,
        "DIGEST_INVALID", "the content is sha256:");
    assert_failed(look(f, BLOB, "a", digest), 404, "BLOB_UNKNOWN", "");
    assert_failed(send_as_admin(f, "DELETE", "/v2/a/blobs/uploads/", NULL), 405, "UNSUPPORTED", "");
    assert_failed(send_as_admin(f, "POST", location, ""), 405, "UNSUPPORTED", "");
    assert_int_equal(fl_blobs_stats(fl_contents_blobs(f->contents)).count, 0);
}

static void an_upload_can_be_cancelled(void **state)
{
    struct fixture *f = *state;
    const char *location = open_upload(f, "a");

    assert_answer(send_as_admin(f, "PATCH", location, "01234"), 202);
    assert_answer(send_as_admin(f, "DELETE", location, NULL), 204);
    assert_failed(send_as_admin(f, "GET", location, NULL), 404, "BLOB_UPLOAD_UNKNOWN", "");
    assert_failed(send_as_admin(f, "DELETE", location, NULL), 404, "BLOB_UPLOAD_UNKNOWN", "");
}

/* The head of a PATCH with so many bytes, and the first of them. */
static int begin_patch(struct fixture *f, const char *location, size_t len, const char *first)
{
    const char *text =
        format(f->rig,
               "PATCH %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAuthorization: Bearer "
               "admin-token\r\nContent-Length: %zu\r\n\r\n%s",
               location, len, first);
    int fd = rig_connect(f->rig);

    rig_send(fd, text, strlen(text));
    return fd;
}

static bool came_to(struct fixture *f, const char *location, const char *range)
{
    return fl_streq(header_of(f, send_as_admin(f, "GET", location, NULL), "Range"), range);
}

static void a_broken_upload_goes_on(void **state)
{
    struct fixture *f = *state;
    const char *location = open_upload(f, "a"), *digest = digest_of(f, "0123456789");
    int fd = begin_patch(f, location, 10, "0123");

    WAIT_FOR(came_to(f, location, "0-3"));
    (void)close(fd);
    assert_answer(send_to(f, ADMIN, "PATCH", location, chunk_header(f, 4, "456"), "456"), 202);
    assert_answer(send_as_admin(f, "PUT", format(f->rig, "%s?digest=%s", location, digest), "789"),
                  201);
    assert_string_equal(look(f, BLOB, "a", digest).text, "0123456789");
}

/* Whoever comes later has seen how far it came: the connection that hangs is not heard any more. */
static void a_stalled_upload_is_taken_over(void **state)
{
    struct fixture *f = *state;
    const char *location = open_upload(f, "a"), *digest = digest_of(f, "0123456789");
    int fd = begin_patch(f, location, 10, "0123");

    WAIT_FOR(came_to(f, location, "0-3"));
    assert_answer(send_to(f, ADMIN, "PATCH", location, chunk_header(f, 4, "4567"), "4567"), 202);
    rig_send(fd, "xxxxxx", 6);
    assert_failed(rig_take_answer(f->rig, fd), 409, "BLOB_UPLOAD_INVALID", "another request");
    assert_answer(send_as_admin(f, "PUT", format(f->rig, "%s?digest=%s", location, digest), "89"),
                  201);
}

static void uploads_are_bounded(void **state)
{
    struct fixture *f = *state;
    const char *first = open_upload(f, "a"), *big;
    struct answer answer;
    int fd;

    big = format(f->rig,
                 "PATCH %s HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer admin-token\r\n"
                 "Content-Length: %d\r\n\r\nx",
                 first, CONTENTS_MAX + 1);
    fd = rig_connect(f->rig);
    rig_send(fd, big, strlen(big)); /* and no more: it is refused for what it says */
    answer = rig_take_answer(f->rig, fd);
    assert_failed(answer, 413, "SIZE_INVALID", "do not fit");
    for (int i = 1; i < UPLOADS_MAX; i++)
        (void)open_upload(f, "a");
    answer = send_as_admin(f, "POST", "/v2/a/blobs/uploads/", NULL);
    assert_failed(answer, 429, "TOOMANYREQUESTS", "uploads are under way");
    assert_header(f, answer, "Retry-After", "1");
    atomic_fetch_add(&f->rig->shift_ms, IDLE_MS / 2);
    assert_answer(send_as_admin(f, "PATCH", first, "x"), 202);
    atomic_fetch_add(&f->rig->shift_ms, IDLE_MS / 2 + 1000);
    (void)open_upload(f, "a"); /* all but the first one have expired */
    assert_answer(send_as_admin(f, "GET", first, NULL), 204);
    atomic_fetch_add(&f->rig->shift_ms, IDLE_MS + 1000);
    assert_failed(send_as_admin(f, "GET", first, NULL), 404, "BLOB_UPLOAD_UNKNOWN", "begin anew");
}

static void single_uploads_that_break_leave_no_session(void **state)
{
    struct fixture *f = *state;
    const char *head = format(f->rig,
                              "POST /v2/a/blobs/uploads/?digest=%s HTTP/1.1\r\nHost: test\r\n"
                              "Authorization: Bearer admin-token\r\nContent-Length: 9\r\n\r\nx",
                              digest_of(f, "xxxxxxxxx"));

    for (int i = 0; i < 3 * UPLOADS_MAX; i++) {
        int fd = rig_connect(f->rig);

        rig_send(fd, head, strlen(head));
        (void)close(fd);
        WAIT_FOR(send_as_admin(f, "GET", "/v2/", NULL).status == 200);
    }
    WAIT_FOR(send_as_admin(f, "POST", "/v2/a/blobs/uploads/", NULL).status == 202);
}

static void a_blob_is_seen_through_its_repositories_only(void **state)
{
    struct fixture *f = *state;
    const char *digest = push_blob(f, "a", "blob");
    struct answer answer;

    assert_failed(look(f, BLOB, "b", digest), 404, "BLOB_UNKNOWN", "is not in b");
    answer = send_as_admin(f, "POST",
                           format(f->rig, "/v2/b/blobs/uploads/?mount=%s&from=a", digest), NULL);
    assert_answer(answer, 201);
    assert_header(f, answer, "Location", format(f->rig, BLOB, "b", digest));
    assert_string_equal(look(f, BLOB, "b", digest).text, "blob");
    assert_answer(send_as_admin(f, "DELETE", format(f->rig, BLOB, "a", digest), NULL), 202);
    assert_failed(look(f, BLOB, "a", digest), 404, "BLOB_UNKNOWN", "");
    assert_failed(send_as_admin(f, "DELETE", format(f->rig, BLOB, "a", digest), NULL), 404,
                  "BLOB_UNKNOWN", "");
    assert_answer(look(f, BLOB, "b", digest), 200);
    /* What is nowhere is an upload. */
    answer = send_as_admin(
        f, "POST", format(f->rig, "/v2/b/blobs/uploads/?mount=%s&from=a", digest_of(f, "nowhere")),
        NULL);
    assert_answer(answer, 202);
    assert_non_null(header_of(f, answer, "Location"));
}

/* Models are in the same store. */
static void content_can_be_mounted(void **state)
{
    struct fixture *f = *state;
    char digest[FL_DIGEST_SIZE];

    assert_int_equal(fl_blobs_put(fl_contents_blobs(f->contents), "model", 5, false, digest, NULL),
                     0);
    assert_failed(look(f, BLOB, "models/m", digest), 404, "BLOB_UNKNOWN", "");
    assert_answer(send_as_admin(f, "POST",
                                format(f->rig, "/v2/models/m/blobs/uploads/?mount=%s", digest),
                                NULL),
                  201);
    assert_string_equal(look(f, BLOB, "models/m", digest).text, "model");
}

static void the_store_may_be_full(void **state)
{
    struct fixture *f = *state;
    const size_t len = CONTENTS_MAX / 2 - 1000;
    char *text = fl_alloc(f->rig->arena, len + 1);
    const char *location;

    memset(text, 'x', len);
    (void)push_blob(f, "a", text);
    location = open_upload(f, "a");
    text[0] = 'y';
    assert_answer(send_as_admin(f, "PATCH", location, text), 202);
    assert_failed(send_as_admin(f, "PATCH", location, text), 413, "SIZE_INVALID", "do not fit");
    assert_answer(send_as_admin(f, "GET", location, NULL), 204); /* what fitted is there */
    assert_answer(
        send_as_admin(f, "PUT", format(f->rig, "%s?digest=%s", location, digest_of(f, text)), ""),
        201);
    text[1] = 'y';
    assert_failed(
        send_as_admin(f, "POST",
                      format(f->rig, "/v2/a/blobs/uploads/?digest=%s", digest_of(f, text)), text),
        413, "SIZE_INVALID", "");
    assert_failed(look(f, BLOB, "a", digest_of(f, text)), 404, "BLOB_UNKNOWN", "");
}

/* What is here already has its room, though others took what was left meanwhile. */
static void an_upload_ends_where_there_is_no_room_for_more(void **state)
{
    struct fixture *f = *state;
    const size_t len = CONTENTS_MAX / 5 * 2;
    char *text = fl_alloc(f->rig->arena, len + 1), digest[FL_DIGEST_SIZE];
    const char *first = open_upload(f, "a"), *second = open_upload(f, "a");

    memset(text, 'x', len);
    assert_answer(send_as_admin(f, "PATCH", first, text), 202);
    assert_answer(send_as_admin(f, "PATCH", second, text), 202);
    text[0] = 'm'; /* a model */
    assert_int_equal(fl_blobs_put(fl_contents_blobs(f->contents), text, len, false, digest, NULL),
                     0);
    text[0] = 'x';
    assert_failed(send_as_admin(f, "PATCH", first, "y"), 413, "SIZE_INVALID", "do not fit");
    assert_answer(
        send_as_admin(f, "PUT", format(f->rig, "%s?digest=%s", first, digest_of(f, text)), ""),
        201);
}

/* Who does not say how much comes is stopped where there is no more room. */
static void an_endless_upload_is_stopped(void **state)
{
    struct fixture *f = *state;
    const size_t len = 100000;
    char *piece = fl_alloc(f->rig->arena, len + 1);
    const char *head, *size = format(f->rig, "%zx\r\n", len);
    int fd = rig_connect(f->rig), pieces = 0;
    struct answer answer;

    memset(piece, 'x', len);
    head = format(f->rig,
                  "PATCH %s HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer admin-token\r\n"
                  "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
                  open_upload(f, "a"));
    rig_send(fd, head, strlen(head));
    while (
        pieces++ < 2 * CONTENTS_MAX / (int)len && send(fd, size, strlen(size), MSG_NOSIGNAL) > 0 &&
        send(fd, piece, len, MSG_NOSIGNAL) == (ssize_t)len && send(fd, "\r\n", 2, MSG_NOSIGNAL) > 0)
        ;
    answer = rig_take_answer(f->rig, fd);
    assert_failed(answer, 413, "SIZE_INVALID", "do not fit");
    assert_int_equal(fl_blobs_stats(fl_contents_blobs(f->contents)).count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_blob_comes_at_once),
        TEST(a_blob_comes_in_chunks),
        TEST(what_is_wrong_with_an_upload_is_said),
        TEST(an_upload_can_be_cancelled),
        TEST(a_broken_upload_goes_on),
        TEST(a_stalled_upload_is_taken_over),
        TEST(uploads_are_bounded),
        TEST(single_uploads_that_break_leave_no_session),
        TEST(a_blob_is_seen_through_its_repositories_only),
        TEST(content_can_be_mounted),
        TEST(the_store_may_be_full),
        TEST(an_upload_ends_where_there_is_no_room_for_more),
        TEST(an_endless_upload_is_stopped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
