/* Both sides of bulk transfer against each other, directly and through a bad network. */
#include "workloads/transfer/bulk_parse.h"
#include "workloads/transfer/bulk_testing.h"
#include "workloads/transfer/crc32c.h"

#include "lib/folder.h"

#include <inttypes.h>
#include <sys/stat.h>

#define MIB ((size_t)1024 * 1024)

static struct fl_blobs *open_fetched(struct rig *rig)
{
    struct fl_blobs *blobs = NULL;

    assert_int_equal(
        fl_blobs_open(
            &(struct fl_blobs_options){.env = &rig->env, .path = rig->fetched, .fleeting = true},
            &blobs, NULL),
        0);
    return blobs;
}

static void assert_blob_is(struct fl_blobs *blobs, const char *digest, const char *data, size_t len)
{
    struct fl_blob_map map;

    assert_int_equal(fl_blobs_map(blobs, digest, &map, NULL), 0);
    assert_int_equal(map.size, len);
    assert_memory_equal(len ? map.data : "", data, len);
    fl_blob_unmap(&map);
}

/* --- models --- */

static void test_models_are_fetched(void **state)
{
    static const size_t sizes[] = {0, 1, 1000, 16 * 1024, 100001, 5 * 1024 * 1024};
    struct rig *rig = rig_start(NULL);
    struct fl_bulk_client *client = rig_client(rig, 0);
    struct fl_blobs *fetched = open_fetched(rig);

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(sizes); i++) {
        FL_CLEANUP(fl_freep) char *data = rig_noise(i + 1, sizes[i]);
        struct fl_error err = {0};
        struct fl_bulk_fetch fetch;
        char digest[FL_DIGEST_SIZE];

        assert_int_equal(fl_blobs_put(rig->blobs, data, sizes[i], false, digest, NULL), 0);
        fetch = (struct fl_bulk_fetch){.digest = digest, .pin = true};
        if (fl_bulk_fetch(client, &fetch, fetched, &err) < 0)
            fail_msg("%s", err.msg);
        assert_blob_is(fetched, digest, data, sizes[i]);
    }
    assert_int_equal(fl_blobs_stats(fetched).pinned, FL_COUNT_OF(sizes));
    fl_blobs_close(fetched);
    fl_bulk_client_destroy(client);
    rig_stop(rig);
}

static void test_what_cannot_be_fetched_is_an_error(void **state)
{
    struct rig *rig = rig_start(NULL);
    struct fl_bulk_client *client = rig_client(rig, 0);
    struct fl_blobs *fetched = open_fetched(rig);
    struct fl_bulk_fetch fetch = {0};
    char digest[FL_DIGEST_SIZE], absent[FL_DIGEST_SIZE];

    (void)state;
    fl_digest_of("absent", 6, absent);
    assert_int_equal(fl_blobs_put(rig->blobs, "0123456789", 10, false, digest, NULL), 0);
    fetch.digest = absent;
    assert_int_equal(fl_bulk_fetch(client, &fetch, fetched, NULL), FL_E_NOT_FOUND);
    fetch.digest = "sha256:nothing";
    assert_int_equal(fl_bulk_fetch(client, &fetch, fetched, NULL), FL_E_BAD_REQUEST);
    fetch.digest = digest;
    fetch.max_bytes = 9;
    assert_int_equal(fl_bulk_fetch(client, &fetch, fetched, NULL), FL_E_TOO_LARGE);
    rig->refuse_all = true;
    fetch.max_bytes = 10;
    assert_int_equal(fl_bulk_fetch(client, &fetch, fetched, NULL), FL_E_FORBIDDEN);
    rig->refuse_all = false;
    assert_int_equal(fl_bulk_fetch(client, &fetch, fetched, NULL), 0);
    fl_blobs_close(fetched);
    fl_bulk_client_destroy(client);
    rig_stop(rig);
}

/* The digest that comes with a model is what is checked; where it has none, its name is. */
static void test_damaged_models_are_not_taken(void **state)
{
    (void)state;
    for (int checks = 0; checks < 2; checks++) {
        struct rig *rig = rig_start_with(NULL, checks);
        struct fl_bulk_client *client = rig_client(rig, 0);
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_blobs *fetched = open_fetched(rig);
        struct fl_bulk_fetch fetch = {0};
        struct fl_error err = {0};
        char digest[FL_DIGEST_SIZE], check[FL_DIGEST_SIZE];
        const char *path;

        assert_int_equal(fl_blobs_put(rig->blobs, "0123456789", 10, false, digest, NULL), 0);
        assert_int_equal(fl_blobs_path(rig->blobs, digest, arena, &path, NULL), 0);
        assert_int_equal(fl_file_write(path, "012345678X", 10, 0600, NULL), 0);
        fetch.digest = digest;
        assert_int_equal(fl_bulk_fetch(client, &fetch, fetched, &err), FL_E_INVALID);
        assert_non_null(strstr(err.msg, checks ? "not xxh128:" : "not sha256:"));
        assert_false(fl_blobs_has(fetched, digest));
        assert_int_equal(fl_file_write(path, "0123456789", 10, 0600, NULL), 0);
        assert_int_equal(fl_bulk_fetch(client, &fetch, fetched, NULL), 0);
        assert_int_equal(fl_blobs_check(fetched, digest, check), checks);
        assert_int_equal(fl_blobs_verify(fetched, digest, NULL), 0);
        fl_blobs_close(fetched);
        fl_bulk_client_destroy(client);
        rig_stop(rig);
    }
}

/* What curl or anybody else asks for, by hand. */
struct exchange {
    const char *method, *target, *headers[4];
    const char *body;
    int status;
    const char *expect; /* "Name: value" of the answer */
    const char *expect_body;
};

static void check_exchange(struct fl_http_client *client, const struct exchange *exchange)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    FL_CLEANUP(fl_freep) char *headers = NULL;
    struct fl_http_transfer transfer = {.method = exchange->method,
                                        .target = exchange->target,
                                        .headers = exchange->headers,
                                        .body = exchange->body,
                                        .body_len = exchange->body ? strlen(exchange->body) : 0};
    struct fl_error err = {0};
    int status;

    while (transfer.header_count < 4 && exchange->headers[transfer.header_count])
        transfer.header_count++;
    if (fl_http_transfer(client, &transfer, &status, &body, &headers, &err) < 0)
        fail_msg("%s %s: %s", exchange->method, exchange->target, err.msg);
    if (status != exchange->status)
        fail_msg("%s %s: %d, not %d: %s", exchange->method, exchange->target, status,
                 exchange->status, body->data);
    if (exchange->expect && !strstr(headers, exchange->expect))
        fail_msg("%s %s: no \"%s\" in\n%s", exchange->method, exchange->target, exchange->expect,
                 headers);
    if (exchange->expect_body)
        assert_string_equal(body->data, exchange->expect_body);
}

static struct fl_http_client *plain_client(struct rig *rig)
{
    struct fl_http_client *client = NULL;
    char url[64];

    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", rig->port);
    assert_int_equal(
        fl_http_client_create(&(struct fl_http_client_options){.base_url = url}, &client, NULL), 0);
    return client;
}

#define DIGEST_OF_0_9 "sha256:84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"
#define MODEL         "/v1/models/" DIGEST_OF_0_9
#define ETAG          "\"" DIGEST_OF_0_9 "\""

static void test_models_as_http_has_it(void **state)
{
    static const struct exchange exchanges[] = {
        {"GET", MODEL, {0}, NULL, 200, "ETag: " ETAG "\n", "0123456789"},
        {"GET", MODEL, {0}, NULL, 200, "Accept-Ranges: bytes\n", "0123456789"},
        {"GET",
         "/v1/models/sha256%3A84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f"
         "7882",
         {0},
         NULL,
         200,
         "Content-Length: 10\n",
         "0123456789"},
        {"HEAD", MODEL, {0}, NULL, 200, "Content-Length: 10\n", ""},
        {"GET", MODEL, {"Range: bytes=2-4"}, NULL, 206, "Content-Range: bytes 2-4/10\n", "234"},
        {"GET", MODEL, {"Range: bytes=7-"}, NULL, 206, "Content-Range: bytes 7-9/10\n", "789"},
        {"GET", MODEL, {"Range: bytes=-2"}, NULL, 206, "Content-Range: bytes 8-9/10\n", "89"},
        {"GET", MODEL, {"Range: bytes=10-"}, NULL, 416, "Content-Range: bytes */10\n", ""},
        {"GET", MODEL, {"Range: bytes=0-1,4-5"}, NULL, 200, NULL, "0123456789"},
        {"GET", MODEL, {"Range: bytes=2-4", "If-Range: \"x\""}, NULL, 200, NULL, "0123456789"},
        {"GET", MODEL, {"Range: bytes=2-4", "If-Range: " ETAG}, NULL, 206, NULL, "234"},
        {"GET", MODEL, {"If-None-Match: " ETAG}, NULL, 304, "ETag: " ETAG "\n", ""},
        {"GET", MODEL, {"If-None-Match: \"x\", W/" ETAG}, NULL, 304, NULL, ""},
        {"GET", MODEL, {"If-None-Match: \"x\""}, NULL, 200, NULL, "0123456789"},
        {"POST", MODEL, {0}, "x", 405, "Allow: GET, HEAD, PUT\n", NULL},
        {"GET", "/v1/models/latest", {0}, NULL, 400, NULL, NULL},
        {"GET", "/v1/models/../x", {0}, NULL, 400, NULL, NULL},
        {"GET", "/v1/else", {0}, NULL, 404, NULL, NULL},
    };
    struct rig *rig = rig_start(NULL);
    struct fl_http_client *client = plain_client(rig);
    char digest[FL_DIGEST_SIZE];

    (void)state;
    assert_int_equal(fl_blobs_put(rig->blobs, "0123456789", 10, false, digest, NULL), 0);
    assert_string_equal(digest, DIGEST_OF_0_9);
    for (size_t i = 0; i < FL_COUNT_OF(exchanges); i++)
        check_exchange(client, &exchanges[i]);
    fl_http_client_destroy(client);
    rig_stop(rig);
}

static size_t resident_bytes(void)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    size_t pages;

    assert_int_equal(fl_file_read("/proc/self/statm", 4096, &text, NULL), 0);
    pages = strtoul(strchr(text->data, ' '), NULL, 10);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* A reader that does not read costs a socket's buffers, whatever it asks for. */
static void test_a_slow_reader_costs_no_memory(void **state)
{
    struct rig *rig = rig_start(NULL);
    const size_t len = 64 * MIB;
    FL_CLEANUP(fl_freep) char *data = rig_noise(1, len);
    char digest[FL_DIGEST_SIZE], request[200];
    size_t before;
    int fds[8];

    (void)state;
    assert_int_equal(fl_blobs_put(rig->blobs, data, len, false, digest, NULL), 0);
    (void)snprintf(request, sizeof(request), "GET /v1/models/%s HTTP/1.1\r\nHost: x\r\n\r\n",
                   digest);
    before = resident_bytes();
    for (size_t i = 0; i < FL_COUNT_OF(fds); i++) {
        fds[i] = rig_connect(rig->port);
        assert_true(rig_send(fds[i], request, strlen(request)));
    }
    RIG_WAIT_FOR(rig_stats(rig).http.requests_total == FL_COUNT_OF(fds));
    assert_true(resident_bytes() < before + 16 * MIB);
    assert_true(rig_stats(rig).http.connections_open == FL_COUNT_OF(fds));
    for (size_t i = 0; i < FL_COUNT_OF(fds); i++)
        (void)close(fds[i]);
    RIG_WAIT_FOR(rig_stats(rig).http.connections_open == 0);
    rig_stop(rig);
}

/* --- uploads --- */

static struct fl_bulk_send sending(const char *target, const char *data, size_t len,
                                   char digest[FL_DIGEST_SIZE])
{
    fl_digest_of(data, len, digest);
    return (struct fl_bulk_send){
        .target = target, .data = data, .fd = -1, .size = (int64_t)len, .digest = digest};
}

static void xxh128_of(const char *data, size_t len, char digest[FL_DIGEST_SIZE])
{
    FL_CLEANUP(fl_hash_destroyp) struct fl_hash *hash = fl_hash_create(FL_DIGEST_XXH128);

    fl_hash_add(hash, data, len);
    fl_hash_end(hash, digest);
}

struct look {
    const char *key;
    bool there, complete;
    int64_t size;
    char path[256];
};

static void look_up(struct rig *rig, void *user)
{
    struct fl_bulk_upload upload;
    struct look *look = user;

    look->there = fl_bulk_server_find(rig->server, look->key, &upload, NULL) == 0;
    if (!look->there)
        return;
    look->complete = upload.complete;
    look->size = upload.size;
    (void)snprintf(look->path, sizeof(look->path), "%s", upload.path);
}

static void assert_upload_is(struct rig *rig, const char *key, const char *data, size_t len)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    struct look look = {.key = key};

    rig_on_loop(rig, look_up, &look);
    assert_true(look.there && look.complete);
    assert_int_equal(look.size, len);
    assert_int_equal(fl_file_read(look.path, len + 1, &bytes, NULL), 0);
    assert_int_equal(bytes->len, len);
    assert_memory_equal(bytes->data, data, len);
}

static void test_updates_are_sent(void **state)
{
    static const size_t sizes[] = {0, 1, 256 * 1024, 256 * 1024 + 1, 3000000};
    struct rig *rig = rig_start(NULL);
    struct fl_bulk_client *client = rig_client(rig, 0);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(sizes); i++) {
        FL_CLEANUP(fl_freep) char *data = rig_noise(i + 1, sizes[i]);
        const char *key = fl_arena_printf(arena, "p/%zu ä?&", i);
        char digest[FL_DIGEST_SIZE];
        struct fl_bulk_send send =
            sending(fl_bulk_upload_target(arena, key), data, sizes[i], digest);
        struct fl_error err = {0};

        if (fl_bulk_send(client, &send, &err) < 0)
            fail_msg("%s", err.msg);
        assert_upload_is(rig, key, data, sizes[i]);
        assert_int_equal(fl_bulk_send(client, &send, NULL), 0); /* again is the same */
        assert_upload_is(rig, key, data, sizes[i]);
    }
    assert_int_equal(rig->completed, FL_COUNT_OF(sizes));
    assert_int_equal(fl_bulk_client_stats(client).failures, 0);
    fl_bulk_client_destroy(client);
    rig_stop(rig);
}

static void test_an_update_may_come_from_a_file(void **state)
{
    struct rig *rig = rig_start(NULL);
    struct fl_bulk_client *client = rig_client(rig, 0);
    FL_CLEANUP(fl_freep) char *data = rig_noise(7, MIB);
    char path[] = "/tmp/flops-bulk-file-XXXXXX", digest[FL_DIGEST_SIZE];
    FL_CLEANUP(fl_fd_closep) int fd = mkstemp(path);
    struct fl_bulk_send send = sending("/v1/uploads/f", data, MIB, digest);

    (void)state;
    assert_int_equal(write(fd, data, MIB), MIB);
    (void)unlink(path);
    send.data = NULL;
    send.fd = fd;
    assert_int_equal(fl_bulk_send(client, &send, NULL), 0);
    assert_upload_is(rig, "f", data, MIB);
    assert_int_equal(ftruncate(fd, 1000), 0);
    send.target = "/v1/uploads/g";
    assert_int_equal(fl_bulk_send(client, &send, NULL), FL_E_BAD_REQUEST);
    fl_bulk_client_destroy(client);
    rig_stop(rig);
}

#define PUT_0_9(offset) "/v1/uploads/k?size=10&digest=" DIGEST_OF_0_9 "&offset=" offset

static const char *crc_header(struct fl_arena *arena, const char *text)
{
    char check[FL_BULK_CHECK_TEXT_SIZE];

    fl_bulk_check_crc32c_text(fl_crc32c(0, text, strlen(text)), check);
    return fl_arena_printf(arena, "Content-Digest: %s", check);
}

static void test_uploads_as_http_has_it(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *first = crc_header(arena, "01234"), *second = crc_header(arena, "56789"),
               *nothing = crc_header(arena, ""), *long_one = crc_header(arena, "0123456789x");
    const struct exchange exchanges[] = {
        {"HEAD", "/v1/uploads/k", {0}, NULL, 404, NULL, NULL},
        {"PUT", PUT_0_9("0"), {0}, "01234", 400, NULL, NULL}, /* no check */
        {"PUT", "/v1/uploads/k?offset=0", {first}, "01234", 400, NULL, NULL},
        {"PUT", PUT_0_9("5"), {second}, "56789", 409, "Upload-Offset: 0\n", NULL},
        {"PUT", PUT_0_9("0"), {second}, "01234", 422, "Upload-Offset: 0\n", NULL}, /* damaged */
        {"PUT", PUT_0_9("0"), {long_one}, "0123456789x", 413, NULL, NULL},
        {"PUT", PUT_0_9("0"), {first}, "01234", 204, "Upload-Offset: 5\n", ""},
        {"PUT", PUT_0_9("0"), {first}, "01234", 409, "Upload-Offset: 5\n", NULL}, /* repeated */
        {"HEAD", "/v1/uploads/k", {0}, NULL, 200, "Upload-Offset: 5\n", ""},
        {"HEAD", "/v1/uploads/k", {0}, NULL, 200, "Upload-Complete: ?0\n", ""},
        {"PUT", PUT_0_9("5"), {nothing}, "", 204, "Upload-Offset: 5\n", ""},
        {"PUT", PUT_0_9("5"), {"Content-Digest: md5=:x:"}, "56789", 400, NULL, NULL},
        {"PUT", PUT_0_9("5"), {second}, "56789", 201, "Upload-Complete: ?1\n", ""},
        {"PUT", PUT_0_9("5"), {second}, "56789", 201, "Upload-Offset: 10\n", ""}, /* repeated */
        {"HEAD", "/v1/uploads/k", {0}, NULL, 200, "Upload-Complete: ?1\n", ""},
        {"DELETE", "/v1/uploads/k", {0}, NULL, 409, NULL, NULL},
        {"PUT",
         "/v1/uploads/k?offset=0&size=5&digest=sha256:"
         "3bd47b9ebc82d23488d61710c8b94a835a076ff9a39355d8aed0a9e273292911",
         {first},
         "01234",
         409,
         NULL,
         NULL}, /* something else under the name */
        /* the whole is damaged: every chunk was right, but the digest is another's */
        {"PUT",
         "/v1/uploads/w?offset=0&size=5&digest=" DIGEST_OF_0_9,
         {first},
         "01234",
         422,
         "Upload-Offset: 0\n",
         NULL},
        {"HEAD", "/v1/uploads/w", {0}, NULL, 404, NULL, NULL},
        /* replaced while it is not complete */
        {"PUT",
         "/v1/uploads/r?offset=0&size=11&digest=" DIGEST_OF_0_9,
         {first},
         "01234",
         204,
         NULL,
         NULL},
        {"PUT",
         "/v1/uploads/r?offset=0&size=10&digest=" DIGEST_OF_0_9,
         {first},
         "01234",
         204,
         "Upload-Offset: 5\n",
         NULL},
        {"DELETE", "/v1/uploads/r", {0}, NULL, 204, NULL, NULL},
        {"HEAD", "/v1/uploads/r", {0}, NULL, 404, NULL, NULL},
        {"POST", "/v1/uploads/r", {0}, "x", 405, "Allow: PUT, HEAD, DELETE\n", NULL},
        {"HEAD", "/v1/uploads/a/b", {0}, NULL, 400, NULL, NULL},
        {"HEAD", "/v1/uploads/a%00b", {0}, NULL, 400, NULL, NULL},
    };
    struct rig *rig = rig_start(NULL);
    struct fl_http_client *client = plain_client(rig);

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(exchanges); i++)
        check_exchange(client, &exchanges[i]);
    assert_int_equal(rig->completed, 1);
    assert_int_equal(rig_stats(rig).chunks_damaged, 1);
    assert_int_equal(rig_stats(rig).uploads_damaged, 1);
    fl_http_client_destroy(client);
    rig_stop(rig);
}

#define XXH128_OF_0_9 "xxh128:e353667619ec664b49655fc9692165fb"
#define PUT_X(offset) "/v1/uploads/x?size=10&digest=" XXH128_OF_0_9 "&offset=" offset

/* Made as the bytes come; of the file where some came that did not count. */
static void test_updates_named_by_xxh128(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *first = crc_header(arena, "01234"), *second = crc_header(arena, "56789");
    const struct exchange exchanges[] = {
        {"PUT", PUT_X("0"), {first}, "01234", 204, "Upload-Offset: 5\n", ""},
        {"PUT", PUT_X("5"), {second}, "56789", 201, "Upload-Complete: ?1\n", ""},
    };
    const struct exchange damaged[] = {
        {"PUT", PUT_X("0"), {first}, "01234", 204, "Upload-Offset: 5\n", ""},
        {"PUT", PUT_X("5"), {first}, "56789", 422, "Upload-Offset: 5\n", NULL},
        {"PUT", PUT_X("5"), {second}, "56789", 201, "Upload-Complete: ?1\n", ""},
    };
    const struct exchange other[] = {
        {"PUT", PUT_X("0"), {first}, "01234", 204, "Upload-Offset: 5\n", ""},
        {"PUT", PUT_X("5"), {first}, "01234", 422, "Upload-Offset: 0\n", NULL},
        {"PUT", PUT_X("0"), {first}, "01234", 204, "Upload-Offset: 5\n", ""},
        {"PUT", PUT_X("5"), {second}, "56789", 201, "Upload-Complete: ?1\n", ""},
    };
    const struct {
        const struct exchange *exchanges;
        size_t count;
    } courses[] = {{exchanges, FL_COUNT_OF(exchanges)},
                   {damaged, FL_COUNT_OF(damaged)},
                   {other, FL_COUNT_OF(other)}};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(courses); i++) {
        struct rig *rig = rig_start(NULL);
        struct fl_http_client *client = plain_client(rig);

        for (size_t at = 0; at < courses[i].count; at++)
            check_exchange(client, &courses[i].exchanges[at]);
        assert_upload_is(rig, "x", "0123456789", 10);
        assert_int_equal(rig->completed, 1);
        fl_http_client_destroy(client);
        rig_stop(rig);
    }
}

static void test_chunks_may_have_sha256(void **state)
{
    struct rig *rig = rig_start(NULL);
    struct fl_http_client *client = plain_client(rig);
    unsigned char hash[FL_SHA256_SIZE];
    FL_CLEANUP(fl_sha256_destroyp) struct fl_sha256 *sha = fl_sha256_create();
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct exchange good = {"PUT", PUT_0_9("0"), {0}, "01234", 204, "Upload-Offset: 5\n", ""};
    struct exchange bad = {"PUT", PUT_0_9("5"), {0}, "56789", 422, "Upload-Offset: 5\n", NULL};

    (void)state;
    fl_sha256_add(sha, "01234", 5);
    fl_sha256_end(sha, hash);
    good.headers[0] = bad.headers[0] = fl_arena_printf(
        arena, "Content-Digest: sha-256=:%s:", fl_base64_encode(arena, hash, sizeof(hash)));
    check_exchange(client, &good);
    check_exchange(client, &bad);
    fl_http_client_destroy(client);
    rig_stop(rig);
}

static size_t files_in(const char *path);

static void test_models_are_put(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *first = crc_header(arena, "01234"), *second = crc_header(arena, "56789");
    const char *other = "/v1/models/sha256:"
                        "cd372fb85148700fa88095e3492d3f9f5beb43e555e5ff26d95f5a6adc36f8e6";
    const struct exchange exchanges[] = {
        {"PUT", MODEL, {0}, "012345678x", 422, NULL, NULL},
        {"GET", MODEL, {0}, NULL, 404, NULL, NULL},
        {"PUT", MODEL, {0}, "0123456789", 201, NULL, NULL},
        {"GET", MODEL, {0}, NULL, 200, NULL, "0123456789"},
        {"PUT", MODEL, {0}, "0123456789", 201, NULL, NULL},
        {"PUT", MODEL "?offset=0&size=10&digest=" DIGEST_OF_0_9, {first}, "01234", 201, NULL, NULL},
        {"PUT", other, {0}, "0123456789", 422, NULL, NULL},
        {"PUT",
         fl_arena_printf(arena, "%s?offset=0&size=10&digest=%s", other, DIGEST_OF_0_9),
         {first},
         "01234",
         400,
         NULL,
         NULL},
        {"HEAD", "/v1/uploads/" DIGEST_OF_0_9, {0}, NULL, 400, NULL, NULL},
    };
    const struct exchange again[] = {
        {"PUT",
         MODEL "?offset=0&size=10&digest=" DIGEST_OF_0_9,
         {first},
         "01234",
         204,
         "Upload-Offset: 5\n",
         NULL},
        {"PUT",
         MODEL "?offset=5&size=10&digest=" DIGEST_OF_0_9,
         {second},
         "56789",
         201,
         NULL,
         NULL},
        {"GET", MODEL, {0}, NULL, 200, NULL, "0123456789"},
    };
    struct rig *rig = rig_start(NULL);
    struct fl_http_client *client = plain_client(rig);

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(exchanges); i++)
        check_exchange(client, &exchanges[i]);
    assert_int_equal(fl_blobs_remove(rig->blobs, DIGEST_OF_0_9, NULL), 0);
    for (size_t i = 0; i < FL_COUNT_OF(again); i++)
        check_exchange(client, &again[i]);
    assert_int_equal(rig->completed, 0);
    assert_int_equal(rig_stats(rig).uploads, 0);
    assert_int_equal(files_in(rig->uploads), 0);
    fl_http_client_destroy(client);
    rig_stop(rig);
}

static void test_bounds(void **state)
{
    struct rig *rig = rig_start(&(struct fl_bulk_server_options){
        .max_upload_bytes = 2000, .max_total_bytes = 5000, .max_uploads = 3});
    struct fl_http_client *client = plain_client(rig);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *check = crc_header(arena, "x");
    static const struct {
        const char *key;
        int size, status;
    } steps[] = {{"a", 2001, 413}, {"a", 2000, 204}, {"b", 2000, 204}, {"c", 2000, 503},
                 {"c", 1000, 204}, {"d", 10, 429},   {"a", 1000, 204}};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(steps); i++) {
        struct exchange exchange = {"PUT",
                                    fl_arena_printf(arena,
                                                    "/v1/uploads/%s?offset=0&size=%d&digest=%s",
                                                    steps[i].key, steps[i].size, DIGEST_OF_0_9),
                                    {check},
                                    "x",
                                    steps[i].status,
                                    NULL,
                                    NULL};

        check_exchange(client, &exchange);
    }
    assert_int_equal(rig_stats(rig).announced_bytes, 4000);
    fl_http_client_destroy(client);
    rig_stop(rig);
}

/* More than any disk has: told before the bytes are sent. */
static void test_a_disk_without_room_is_told(void **state)
{
    struct rig *rig = rig_start(&(struct fl_bulk_server_options){
        .max_upload_bytes = INT64_C(1) << 60, .max_total_bytes = INT64_C(1) << 60});
    struct fl_http_client *client = plain_client(rig);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct exchange exchange = {
        "PUT",
        fl_arena_printf(arena, "/v1/uploads/huge?offset=0&size=%" PRId64 "&digest=%s",
                        INT64_C(1) << 59, DIGEST_OF_0_9),
        {crc_header(arena, "x")},
        "x",
        503,
        NULL,
        NULL};

    (void)state;
    check_exchange(client, &exchange);
    assert_int_equal(rig_stats(rig).announced_bytes, 0);
    assert_int_equal(files_in(rig->uploads), 0);
    fl_http_client_destroy(client);
    rig_stop(rig);
}

static void test_the_owner_may_refuse(void **state)
{
    struct rig *rig = rig_start(NULL);
    struct fl_bulk_client *client = rig_client(rig, 0);
    char digest[FL_DIGEST_SIZE];
    struct fl_bulk_send send = sending("/v1/uploads/x", "data", 4, digest);
    struct look look = {.key = "x"};

    (void)state;
    rig->refuse_complete = true;
    assert_int_equal(fl_bulk_send(client, &send, NULL), FL_E_EXPIRED);
    rig_on_loop(rig, look_up, &look);
    assert_false(look.there);
    rig->refuse_all = true;
    assert_int_equal(fl_bulk_send(client, &send, NULL), FL_E_FORBIDDEN);
    fl_bulk_client_destroy(client);
    rig_stop(rig);
}

static void forget_x(struct rig *rig, void *user)
{
    (void)user;
    fl_bulk_server_forget(rig->server, "x");
    fl_bulk_server_forget(rig->server, "x");
}

static void take_x(struct rig *rig, void *user)
{
    assert_int_equal(fl_bulk_server_take(rig->server, "x", user, NULL), 0);
    assert_int_equal(fl_bulk_server_take(rig->server, "x", user, NULL), FL_E_NOT_FOUND);
}

static size_t files_in(const char *path)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_folder_list list;

    assert_int_equal(fl_folder_list(arena, path, false, 10000, &list, NULL), 0);
    return list.count;
}

static void test_uploads_are_taken_and_forgotten(void **state)
{
    struct rig *rig = rig_start(NULL);
    struct fl_bulk_client *client = rig_client(rig, 0);
    char digest[FL_DIGEST_SIZE], path[96];
    struct fl_bulk_send send = sending("/v1/uploads/x", "data", 4, digest);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/taken", rig->folder);
    assert_int_equal(fl_bulk_send(client, &send, NULL), 0);
    rig_on_loop(rig, take_x, path);
    assert_int_equal(fl_file_read(path, 10, &bytes, NULL), 0);
    assert_string_equal(bytes->data, "data");
    assert_int_equal(fl_bulk_send(client, &send, NULL), 0);
    assert_int_equal(files_in(rig->uploads), 2);
    rig_on_loop(rig, forget_x, NULL);
    assert_int_equal(files_in(rig->uploads), 0);
    assert_int_equal(rig_stats(rig).announced_bytes, 0);
    fl_bulk_client_destroy(client);
    rig_stop(rig);
}

static void test_idle_uploads_expire(void **state)
{
    struct rig *rig = rig_start(&(struct fl_bulk_server_options){.idle_ms = 50});
    struct fl_http_client *client = plain_client(rig);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct exchange part = {"PUT", PUT_0_9("0"), {crc_header(arena, "01234")}, "01234", 204,
                            NULL,  NULL};

    (void)state;
    check_exchange(client, &part);
    RIG_WAIT_FOR(rig_stats(rig).expired == 1);
    assert_int_equal(rig_stats(rig).uploads, 0);
    assert_int_equal(files_in(rig->uploads), 0);
    fl_http_client_destroy(client);
    rig_stop(rig);
}

/* The newest connection wins; what the older one had sent of its chunk does not count. */
static void test_one_sender_a_key(void **state)
{
    struct rig *rig = rig_start(NULL);
    struct fl_http_client *client = plain_client(rig);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *check = crc_header(arena, "0123456789");
    const char *half = fl_arena_printf(arena,
                                       "PUT %s HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: "
                                       "10\r\n\r\n0123x",
                                       PUT_0_9("0"), check);
    struct exchange whole = {"PUT", PUT_0_9("0"), {check}, "0123456789", 201, NULL, NULL};
    int fd = rig_connect(rig->port);
    char c;

    (void)state;
    assert_true(rig_send(fd, half, strlen(half)));
    RIG_WAIT_FOR(rig_stats(rig).uploads == 1);
    check_exchange(client, &whole);
    assert_true(recv(fd, &c, 1, 0) <= 0);
    assert_upload_is(rig, "k", "0123456789", 10);
    (void)close(fd);
    fl_http_client_destroy(client);
    rig_stop(rig);
}

/* --- restarts --- */

static void test_a_restarted_server_goes_on(void **state)
{
    struct rig *rig = rig_start(NULL);
    struct fl_http_client *client = plain_client(rig);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct exchange first = {"PUT", PUT_0_9("0"), {crc_header(arena, "01234")}, "01234", 204,
                             NULL,  NULL};
    struct exchange ask = {"HEAD", "/v1/uploads/k", {0}, NULL, 200, "Upload-Offset: 5\n", NULL};
    struct exchange rest = {"PUT", PUT_0_9("5"), {crc_header(arena, "56789")}, "56789", 201,
                            NULL,  NULL};
    char path[128];

    (void)state;
    check_exchange(client, &first);
    rig_halt(rig);
    /* what a crash may leave beside it */
    (void)snprintf(path, sizeof(path), "%s/lost.part", rig->uploads);
    assert_int_equal(fl_file_write(path, "x", 1, 0600, NULL), 0);
    (void)snprintf(path, sizeof(path), "%s/torn.state", rig->uploads);
    assert_int_equal(fl_file_write(path, "00000", 5, 0600, NULL), 0);
    rig_serve(rig);
    assert_int_equal(files_in(rig->uploads), 2);
    check_exchange(client, &ask);
    check_exchange(client, &rest);
    rig_halt(rig);
    rig_serve(rig);
    assert_upload_is(rig, "k", "0123456789", 10);
    fl_http_client_destroy(client);
    rig_stop(rig);
}

static void test_fleeting_uploads_end_with_the_server(void **state)
{
    const struct fl_bulk_server_options options = {.fleeting = true};
    struct rig *rig = rig_start(&options);
    struct fl_http_client *client = plain_client(rig);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct exchange first = {"PUT", PUT_0_9("0"), {crc_header(arena, "01234")}, "01234", 204,
                             NULL,  NULL};
    struct exchange rest = {"PUT", PUT_0_9("5"), {crc_header(arena, "56789")}, "56789", 201,
                            NULL,  NULL};
    struct exchange gone = {"HEAD", "/v1/uploads/k", {0}, NULL, 404, NULL, NULL};

    (void)state;
    check_exchange(client, &first);
    assert_int_equal(files_in(rig->uploads), 1);
    check_exchange(client, &rest);
    assert_upload_is(rig, "k", "0123456789", 10);
    rig_halt(rig);
    rig_serve(rig);
    assert_int_equal(files_in(rig->uploads), 0);
    check_exchange(client, &gone);
    fl_http_client_destroy(client);
    rig_stop(rig);
}

/* A part that is shorter than its state says is nothing to go on with. */
static void test_a_lost_part_begins_anew(void **state)
{
    struct rig *rig = rig_start(NULL);
    struct fl_http_client *client = plain_client(rig);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct exchange first = {"PUT", PUT_0_9("0"), {crc_header(arena, "01234")}, "01234", 204,
                             NULL,  NULL};
    struct exchange ask = {"HEAD", "/v1/uploads/k", {0}, NULL, 404, NULL, NULL};
    struct look look = {.key = "k"};

    (void)state;
    check_exchange(client, &first);
    rig_on_loop(rig, look_up, &look);
    rig_halt(rig);
    assert_int_equal(truncate(look.path, 4), 0);
    rig_serve(rig);
    check_exchange(client, &ask);
    assert_int_equal(files_in(rig->uploads), 0);
    fl_http_client_destroy(client);
    rig_stop(rig);
}

struct sender {
    struct fl_bulk_client *client;
    struct fl_bulk_send send;
    struct fl_thread *thread;
    struct fl_error err;
    int result;
    atomic_long done;
};

static void note_done(void *user, int64_t done, int64_t all)
{
    struct sender *sender = user;

    (void)all;
    sender->done = done;
}

static void run_sender(void *user)
{
    struct sender *sender = user;

    sender->result = fl_bulk_send(sender->client, &sender->send, &sender->err);
}

static void test_a_server_restarts_in_mid_upload(void **state)
{
    struct rig *rig = rig_start(NULL);
    const size_t len = 24 * MIB;
    FL_CLEANUP(fl_freep) char *data = rig_noise(3, len);
    char digest[FL_DIGEST_SIZE];
    struct sender sender = {.client = rig_client(rig, 0),
                            .send = sending("/v1/uploads/k", data, len, digest)};

    (void)state;
    sender.send.progress = note_done;
    sender.send.user = &sender;
    assert_int_equal(fl_thread_start("sender", run_sender, &sender, &sender.thread, NULL), 0);
    for (long part = 1; part <= 3; part++) {
        RIG_WAIT_FOR(sender.done >= (long)(len / 4) * part);
        rig_halt(rig);
        rig_serve(rig);
    }
    fl_thread_join(sender.thread);
    if (sender.result < 0)
        fail_msg("%s", sender.err.msg);
    assert_upload_is(rig, "k", data, len);
    fl_bulk_client_destroy(sender.client);
    rig_stop(rig);
}

static void test_transfers_are_cancelled(void **state)
{
    struct rig *rig = rig_start(NULL);
    char digest[FL_DIGEST_SIZE];
    struct sender sender = {.client = rig_client(rig, 0),
                            .send = sending("/v1/uploads/k", "x", 1, digest)};

    (void)state;
    rig_halt(rig); /* nobody listens: it tries again and again */
    assert_int_equal(fl_thread_start("sender", run_sender, &sender, &sender.thread, NULL), 0);
    (void)usleep(20000);
    fl_bulk_client_cancel(sender.client);
    fl_thread_join(sender.thread);
    assert_int_equal(sender.result, FL_E_UNAVAILABLE);
    fl_bulk_client_reset(sender.client);
    sender.send.deadline_ms = 1;
    assert_int_equal(fl_bulk_send(sender.client, &sender.send, NULL), FL_E_TIMEOUT);
    rig_serve(rig);
    sender.send.deadline_ms = 0;
    assert_int_equal(fl_bulk_send(sender.client, &sender.send, NULL), 0);
    fl_bulk_client_destroy(sender.client);
    rig_stop(rig);
}

/* --- the bad network --- */

static void send_through(struct rig *rig, struct proxy *proxy, int i)
{
    const size_t len = 2 * MIB + (size_t)i * 1000;
    FL_CLEANUP(fl_freep) char *data = rig_noise((uint64_t)i + 100, len);
    struct fl_bulk_client *client = rig_client(rig, proxy->port);
    char digest[FL_DIGEST_SIZE], key[16], target[40];
    struct fl_bulk_send send = sending(target, data, len, digest);
    struct fl_error err = {0};

    if (i % 2 == 1)
        xxh128_of(data, len, digest);
    (void)snprintf(key, sizeof(key), "key-%d", i);
    (void)snprintf(target, sizeof(target), "/v1/uploads/%s", key);
    if (fl_bulk_send(client, &send, &err) < 0)
        fail_msg("upload %d: %s", i, err.msg);
    assert_upload_is(rig, key, data, len);
    fl_bulk_client_destroy(client);
}

static void fetch_through(struct rig *rig, struct proxy *proxy, struct fl_blobs *fetched, int i)
{
    const size_t len = 2 * MIB + (size_t)i * 1000;
    FL_CLEANUP(fl_freep) char *data = rig_noise((uint64_t)i + 200, len);
    struct fl_bulk_client *client = rig_client(rig, proxy->port);
    struct fl_error err = {0};
    char digest[FL_DIGEST_SIZE];

    assert_int_equal(fl_blobs_put(rig->blobs, data, len, false, digest, NULL), 0);
    if (fl_bulk_fetch(client, &(struct fl_bulk_fetch){.digest = digest}, fetched, &err) < 0)
        fail_msg("download %d: %s", i, err.msg);
    assert_blob_is(fetched, digest, data, len);
    fl_bulk_client_destroy(client);
}

static void a_bad_network_only_costs_time(bool checks)
{
    struct rig *rig = rig_start_with(NULL, checks);
    struct proxy *proxy = proxy_start(rig, 42 + checks, 3 * MIB);
    struct fl_blobs *fetched = open_fetched(rig);

    for (int i = 0; i < 30; i++) {
        send_through(rig, proxy, i);
        fetch_through(rig, proxy, fetched, i);
    }
    assert_int_equal(rig->completed, 30); /* each once, whatever was repeated */
    for (int fault = CUT_UP; fault < FAULTS; fault++)
        if (proxy->done[fault] == 0)
            fail_msg("fault %d never happened", fault);
    fl_blobs_close(fetched);
    proxy_stop(proxy);
    rig_stop(rig);
}

static void test_a_bad_network_only_costs_time(void **state)
{
    (void)state;
    a_bad_network_only_costs_time(false);
}

static void test_a_bad_network_and_models_with_their_digest(void **state)
{
    (void)state;
    a_bad_network_only_costs_time(true);
}

/* --- many at once --- */

#define MANY 40

static void test_many_senders(void **state)
{
    struct rig *rig = rig_start(NULL);
    FL_CLEANUP(fl_freep) char *data = rig_noise(9, MIB);
    struct sender *senders = fl_calloc(MANY, sizeof(*senders));
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    char digests[MANY][FL_DIGEST_SIZE]; /* which others read while the next is made */

    (void)state;
    for (size_t i = 0; i < MANY; i++) {
        senders[i].client = rig_client(rig, 0);
        senders[i].send =
            sending(fl_arena_printf(arena, "/v1/uploads/%zu", i), data, MIB, digests[i]);
        assert_int_equal(
            fl_thread_start("sender", run_sender, &senders[i], &senders[i].thread, NULL), 0);
    }
    for (size_t i = 0; i < MANY; i++) {
        fl_thread_join(senders[i].thread);
        if (senders[i].result < 0)
            fail_msg("%s", senders[i].err.msg);
        assert_upload_is(rig, fl_arena_printf(arena, "%zu", i), data, MIB);
        fl_bulk_client_destroy(senders[i].client);
    }
    assert_int_equal(rig->completed, MANY);
    free(senders);
    rig_stop(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models_are_fetched),
        cmocka_unit_test(test_what_cannot_be_fetched_is_an_error),
        cmocka_unit_test(test_damaged_models_are_not_taken),
        cmocka_unit_test(test_models_as_http_has_it),
        cmocka_unit_test(test_a_slow_reader_costs_no_memory),
        cmocka_unit_test(test_updates_are_sent),
        cmocka_unit_test(test_an_update_may_come_from_a_file),
        cmocka_unit_test(test_uploads_as_http_has_it),
        cmocka_unit_test(test_updates_named_by_xxh128),
        cmocka_unit_test(test_chunks_may_have_sha256),
        cmocka_unit_test(test_models_are_put),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_a_disk_without_room_is_told),
        cmocka_unit_test(test_the_owner_may_refuse),
        cmocka_unit_test(test_uploads_are_taken_and_forgotten),
        cmocka_unit_test(test_idle_uploads_expire),
        cmocka_unit_test(test_one_sender_a_key),
        cmocka_unit_test(test_a_restarted_server_goes_on),
        cmocka_unit_test(test_fleeting_uploads_end_with_the_server),
        cmocka_unit_test(test_a_lost_part_begins_anew),
        cmocka_unit_test(test_a_server_restarts_in_mid_upload),
        cmocka_unit_test(test_transfers_are_cancelled),
        cmocka_unit_test(test_a_bad_network_only_costs_time),
        cmocka_unit_test(test_a_bad_network_and_models_with_their_digest),
        cmocka_unit_test(test_many_senders),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
