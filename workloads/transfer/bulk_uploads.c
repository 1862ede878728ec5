#include "workloads/transfer/bulk_server_internal.h"

#include "lib/file.h"
#include "lib/folder.h"
#include "lib/process.h"
#include "lib/str.h"
#include "workloads/transfer/crc32c.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define READ_BYTES  ((size_t)256 * 1024)
#define SMALL_BYTES 65536 /* are read at once: a worker costs more than their digest */

/* The whole digest, computed by a worker. */
struct fl_bulk_verify {
    struct fl_bulk_incoming *upload; /* NULL: it went meanwhile */
    int fd;
    bool durable;
    char expected[FL_DIGEST_SIZE];
    char found[FL_DIGEST_SIZE]; /* "": not known yet */
    int result;
    struct fl_error err;
};

/* --- files --- */

static void close_files(struct fl_bulk_incoming *upload)
{
    fl_fd_closep(&upload->fd);
    fl_fd_closep(&upload->state_fd);
    upload->fd = upload->state_fd = -1;
}

static int open_files(struct fl_bulk_incoming *upload, int flags, struct fl_error *err)
{
    int r;

    if (upload->fd >= 0)
        return 0;
    if (upload->state_path)
        upload->state_fd = open(upload->state_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
    upload->fd = open(upload->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
    if (upload->fd >= 0 && (upload->state_fd >= 0 || !upload->state_path))
        return 0;
    r = fl_error_errno(err, errno, "open %s", upload->path);
    close_files(upload);
    return r;
}

struct last_hold {
    int fd;
};

static void release_hold(void *user)
{
    struct last_hold *hold = user;

    fl_fd_closep(&hold->fd);
}

/* What a removed file held is given back when its last descriptor is closed, which takes
 * milliseconds for a large one: not on the loop. */
static void release_elsewhere(struct fl_bulk_server *server, int fd)
{
    struct last_hold *hold = fl_calloc(1, sizeof(*hold));

    hold->fd = fd;
    if (fl_loop_offload(server->options.loop, release_hold, free, hold, NULL) < 0) {
        release_hold(hold);
        free(hold);
    }
}

/* The state goes first: a part without one is removed at the next start. */
static void remove_files(const struct fl_bulk_incoming *upload)
{
    const int hold = upload->state.size > SMALL_BYTES
                         ? open(upload->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
                         : -1;

    if (upload->state_path)
        (void)unlink(upload->state_path);
    (void)unlink(upload->path);
    if (hold >= 0)
        release_elsewhere(upload->server, hold);
}

/* Only what changes is written again: short, in place, and in one go. */
static int save_state(const struct fl_bulk_incoming *upload, bool all, struct fl_error *err)
{
    char text[FL_BULK_STATE_MAX + 1];
    size_t len;

    if (!upload->state_path)
        return 0;
    fl_bulk_state_format(&upload->state, text);
    len = all ? strlen(text) : FL_BULK_STATE_FIXED;
    if (pwrite(upload->state_fd, text, len, 0) != (ssize_t)len)
        return fl_error_errno(err, errno, "write %s", upload->state_path);
    return 0;
}

/* --- coming and going --- */

/* File names say nothing: keys are anybody's text. */
static char *file_name(const char *dir, const char *key, const char *suffix)
{
    char digest[FL_DIGEST_SIZE];

    fl_digest_of(key, strlen(key), digest);
    return fl_asprintf("%s/%s.%s", dir, digest + 7, suffix);
}

static struct fl_bulk_incoming *create_upload(struct fl_bulk_server *server,
                                              const struct fl_bulk_state *state)
{
    struct fl_bulk_incoming *upload = fl_calloc(1, sizeof(*upload));

    upload->server = server;
    upload->state = *state;
    upload->path = file_name(server->uploads_dir, state->key, "part");
    if (!server->options.fleeting)
        upload->state_path = file_name(server->uploads_dir, state->key, "state");
    upload->fd = upload->state_fd = -1;
    upload->last_ms = fl_monotonic_ms(server->options.env);
    return upload;
}

static void register_upload(struct fl_bulk_incoming *upload)
{
    struct fl_bulk_server *server = upload->server;

    fl_map_put(server->uploads, upload->state.key, upload);
    server->stats.announced_bytes += upload->state.size;
}

void fl_bulk_upload_free(void *user)
{
    struct fl_bulk_incoming *upload = user;

    if (!upload)
        return;
    if (upload->verify)
        upload->verify->upload = NULL;
    close_files(upload);
    fl_sha256_destroy(upload->hash);
    fl_hash_destroy(upload->whole);
    free(upload->path);
    free(upload->state_path);
    free(upload);
}
FL_DEFINE_CLEANUP(struct fl_bulk_incoming, fl_bulk_upload_free)

/* Bytes that do not count have come: their digest is that of the file, when it is all there. */
static void release_whole(struct fl_bulk_incoming *upload)
{
    if (upload->received > 0)
        fl_hash_destroy(FL_TAKE(upload->whole));
}

static struct fl_http_request *release_request(struct fl_bulk_incoming *upload)
{
    struct fl_http_request *request = FL_TAKE(upload->request);

    release_whole(upload);
    upload->received = 0;
    fl_sha256_destroy(FL_TAKE(upload->hash));
    if (request)
        fl_http_on_gone(request, NULL, NULL);
    return request;
}

void fl_bulk_upload_drop(struct fl_bulk_incoming *upload)
{
    struct fl_bulk_server *server = upload->server;
    struct fl_http_request *request = release_request(upload);

    if (request)
        fl_http_abort(request);
    remove_files(upload);
    server->stats.announced_bytes -= upload->state.size;
    (void)fl_map_remove(server->uploads, upload->state.key);
}

/* Room for all of it, so that a full disk is told before the bytes are sent, and writing them has
 * less to do. A file system that cannot do it is asked for room with each write. What cannot fit is
 * not tried: it would take all there is for a moment. */
static int reserve(const struct fl_bulk_incoming *upload, struct fl_error *err)
{
    struct statvfs disk;

    if (upload->state.size <= SMALL_BYTES)
        return 0;
    if (fstatvfs(upload->fd, &disk) == 0 && disk.f_blocks > 0 &&
        (uint64_t)upload->state.size >= (uint64_t)disk.f_bavail * disk.f_frsize)
        return fl_error_set(err, FL_E_UNAVAILABLE, "the disk has no room for %lld bytes now",
                            (long long)upload->state.size);
    if (fallocate(upload->fd, FALLOC_FL_KEEP_SIZE, 0, upload->state.size) == 0 ||
        (errno != ENOSPC && errno != EDQUOT))
        return 0;
    return fl_error_errno(err, errno, "make room for an upload of %lld bytes",
                          (long long)upload->state.size);
}

/* Files of an earlier upload of that name may be there: they are nobody's. */
static int make_files(struct fl_bulk_incoming *upload, struct fl_error *err)
{
    int r;

    remove_files(upload);
    r = open_files(upload, O_CREAT | O_EXCL, err);
    if (r == 0)
        r = reserve(upload, err);
    return r < 0 ? r : save_state(upload, true, err);
}

static int check_bounds(const struct fl_bulk_server *server, int64_t size, struct fl_error *err)
{
    const struct fl_bulk_server_options *options = &server->options;

    if (size > options->max_upload_bytes)
        return fl_error_set(err, FL_E_TOO_LARGE, "an upload has at most %lld bytes",
                            (long long)options->max_upload_bytes);
    if (fl_map_count(server->uploads) >= options->max_uploads)
        return fl_error_set(err, FL_E_TOO_MANY_REQUESTS, "%zu uploads are here already",
                            options->max_uploads);
    if (size > options->max_total_bytes - server->stats.announced_bytes)
        return fl_error_set(err, FL_E_UNAVAILABLE, "there is no room for %lld bytes now",
                            (long long)size);
    return 0;
}

int fl_bulk_upload_start(struct fl_bulk_server *server, const char *key,
                         const struct fl_bulk_put *put, struct fl_bulk_incoming **ret_upload,
                         struct fl_error *err)
{
    FL_CLEANUP(fl_bulk_upload_freep) struct fl_bulk_incoming *upload = NULL;
    struct fl_bulk_state state = {.size = put->size};
    int r = check_bounds(server, put->size, err);

    if (r < 0)
        return r;
    memcpy(state.digest, put->digest, FL_DIGEST_SIZE);
    (void)snprintf(state.key, sizeof(state.key), "%s", key);
    upload = create_upload(server, &state);
    if (fl_digest_kind(put->digest) == FL_DIGEST_XXH128)
        upload->whole = fl_hash_create(FL_DIGEST_XXH128);
    r = make_files(upload, err);
    if (r < 0) {
        remove_files(upload);
        return r;
    }
    *ret_upload = upload;
    register_upload(FL_TAKE(upload));
    return 0;
}

/* --- receiving --- */

static void sender_gone(void *user)
{
    struct fl_bulk_incoming *upload = user;

    (void)release_request(upload);
}

static int write_at(int fd, const char *data, size_t len, int64_t offset)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        len -= (size_t)n;
        offset += n;
    }
    return 0;
}

static int take_data(void *user, const void *data, size_t len)
{
    struct fl_bulk_incoming *upload = user;
    int r = write_at(upload->fd, data, len, upload->state.safe + upload->received);

    if (r < 0) {
        struct fl_error err = {0};

        (void)fl_error_errno(&err, -r, "write the upload");
        fl_bulk_refuse_upload(upload, release_request(upload), &err);
        return -1;
    }
    if (upload->check.kind == FL_BULK_CHECK_SHA256)
        fl_sha256_add(upload->hash, data, len);
    else
        upload->crc = fl_crc32c(upload->crc, data, len);
    if (upload->whole)
        fl_hash_add(upload->whole, data, len);
    upload->received += (int64_t)len;
    if (upload->server->options.moved)
        upload->server->options.moved(upload->server->options.user, upload->state.key, NULL,
                                      (int64_t)len);
    return 0;
}

/* Bounds are set on the request itself, so that what is too long is refused unread. */
void fl_bulk_upload_receive(struct fl_bulk_incoming *upload, struct fl_http_request *request,
                            const struct fl_bulk_check *check)
{
    struct fl_http_request *older = release_request(upload);
    const int64_t left = upload->state.size - upload->state.safe;
    const int64_t chunk = upload->server->options.max_chunk_bytes;
    struct fl_error err = {0};

    if (older)
        fl_http_abort(older);
    if (open_files(upload, 0, &err) < 0) {
        fl_bulk_refuse_upload(upload, request, &err);
        return;
    }
    upload->last_ms = fl_monotonic_ms(upload->server->options.env);
    upload->request = request;
    upload->check = *check;
    upload->crc = 0;
    if (check->kind == FL_BULK_CHECK_SHA256)
        upload->hash = fl_sha256_create();
    fl_http_on_gone(request, sender_gone, upload);
    fl_http_limit_body(request,
                       (size_t)(left < chunk || check->kind == FL_BULK_CHECK_NONE ? left : chunk));
    fl_http_stream_body(request, take_data, upload);
}

static bool chunk_is_whole(struct fl_bulk_incoming *upload)
{
    unsigned char found[FL_SHA256_SIZE];

    if (upload->check.kind == FL_BULK_CHECK_NONE)
        return true; /* the whole digest is its check */
    if (upload->check.kind == FL_BULK_CHECK_SHA256) {
        fl_sha256_end(upload->hash, found);
        return memcmp(found, upload->check.value, FL_SHA256_SIZE) == 0;
    }
    for (int i = 0; i < 4; i++)
        found[i] = (unsigned char)(upload->crc >> (24 - 8 * i));
    return memcmp(found, upload->check.value, 4) == 0;
}

/* --- the whole --- */

static void hash_file(struct fl_bulk_verify *verify)
{
    FL_CLEANUP(fl_hash_destroyp)
    struct fl_hash *hash = fl_hash_create(fl_digest_kind(verify->expected));
    FL_CLEANUP(fl_freep) char *piece = fl_malloc(READ_BYTES);
    off_t at = 0;
    ssize_t n;

    while ((n = pread(verify->fd, piece, READ_BYTES, at)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            verify->result = fl_error_errno(&verify->err, errno, "read the upload");
            return;
        }
        fl_hash_add(hash, piece, (size_t)n);
        at += n;
    }
    fl_hash_end(hash, verify->found);
}

/* On a worker. */
static void verify_work(void *user)
{
    struct fl_bulk_verify *verify = user;

    if (!*verify->found)
        hash_file(verify);
    if (verify->result == 0 && strcmp(verify->found, verify->expected) != 0)
        verify->result =
            fl_error_set(&verify->err, FL_E_INVALID, "what came is %s, not %s; begin anew",
                         verify->found, verify->expected);
    if (verify->result == 0 && verify->durable && fdatasync(verify->fd) != 0)
        verify->result = fl_error_errno(&verify->err, errno, "sync the upload");
}

static void answer_and_drop(struct fl_bulk_incoming *upload, const struct fl_error *err)
{
    struct fl_http_request *request = release_request(upload);

    upload->state.safe = 0; /* where to go on */
    if (request)
        fl_bulk_refuse_upload(upload, request, err);
    fl_bulk_upload_drop(upload);
}

static struct fl_bulk_upload shown(const struct fl_bulk_incoming *upload)
{
    return (struct fl_bulk_upload){.key = upload->state.key,
                                   .digest = upload->state.digest,
                                   .size = upload->state.size,
                                   .path = upload->path,
                                   .complete = upload->state.complete};
}

static int hand_over(struct fl_bulk_server *server, const struct fl_bulk_upload *upload,
                     struct fl_error *err)
{
    const struct fl_bulk_server_options *options = &server->options;
    int r;

    if (!fl_bulk_model_of_key(upload->key))
        return options->complete ? options->complete(options->user, upload, err) : 0;
    r = fl_blobs_adopt(options->blobs, upload->path, upload->digest, false, err);
    if (r == 0)
        fl_bulk_server_forget(server, upload->digest);
    return r;
}

/* The owner may take or forget the upload in its callback, so the answer is made from a copy. */
static void tell_complete(struct fl_bulk_incoming *upload)
{
    struct fl_bulk_server *server = upload->server;
    struct fl_http_request *request = release_request(upload);
    const struct fl_bulk_incoming copy = {.server = server, .state = upload->state};
    const struct fl_bulk_upload told = shown(upload);
    struct fl_error err = {0};

    server->stats.uploads_completed++;
    if (hand_over(server, &told, &err) < 0) {
        fl_bulk_server_forget(server, copy.state.key);
        if (request)
            fl_bulk_refuse(server, request, &err);
    } else if (request) {
        fl_bulk_answer_upload(&copy, request, 201);
    }
}

static void verdict(struct fl_bulk_incoming *upload, const struct fl_bulk_verify *verify)
{
    struct fl_error err = {0};

    if (verify->result < 0) {
        upload->server->stats.uploads_damaged += verify->result == FL_E_INVALID;
        answer_and_drop(upload, &verify->err);
        return;
    }
    upload->state.complete = true;
    if (save_state(upload, false, &err) < 0) {
        answer_and_drop(upload, &err);
        return;
    }
    close_files(upload);
    tell_complete(upload);
}

static void verify_done(void *user)
{
    struct fl_bulk_verify *verify = user;
    struct fl_bulk_incoming *upload = verify->upload;

    if (upload) {
        upload->verify = NULL;
        verdict(upload, verify);
    }
    fl_fd_closep(&verify->fd);
    free(verify);
}

static void begin_verify(struct fl_bulk_incoming *upload)
{
    struct fl_bulk_verify *verify;
    struct fl_error err = {0};

    if (upload->verify)
        return;
    verify = fl_calloc(1, sizeof(*verify));
    verify->upload = upload;
    verify->durable = upload->server->options.durable;
    memcpy(verify->expected, upload->state.digest, FL_DIGEST_SIZE);
    if (upload->whole)
        fl_hash_end(upload->whole, verify->found);
    fl_hash_destroy(FL_TAKE(upload->whole));
    verify->fd = fcntl(upload->fd, F_DUPFD_CLOEXEC, 0);
    if (verify->fd < 0)
        (void)fl_error_errno(&err, errno, "open the upload once more");
    else if ((upload->state.size <= SMALL_BYTES || *verify->found) && !verify->durable) {
        upload->verify = verify;
        verify_work(verify);
        verify_done(verify);
        return;
    } else if (fl_loop_offload(upload->server->options.loop, verify_work, verify_done, verify,
                               &err) == 0) {
        upload->verify = verify;
        return;
    }
    fl_fd_closep(&verify->fd);
    free(verify);
    fl_bulk_refuse_upload(upload, release_request(upload), &err);
}

void fl_bulk_upload_received(struct fl_bulk_incoming *upload)
{
    struct fl_bulk_server *server = upload->server;
    struct fl_error err = {0};

    server->stats.chunks++;
    if (!chunk_is_whole(upload)) {
        server->stats.chunks_damaged++;
        (void)fl_error_set(&err, FL_E_INVALID, "the chunk is not what its Content-Digest says");
        fl_bulk_refuse_upload(upload, release_request(upload), &err);
        return;
    }
    upload->state.safe += upload->received;
    upload->received = 0;
    if (save_state(upload, false, &err) < 0)
        fl_bulk_refuse_upload(upload, release_request(upload), &err);
    else if (upload->state.safe < upload->state.size)
        fl_bulk_answer_upload(upload, release_request(upload), 204);
    else
        begin_verify(upload);
}

/* --- an earlier life, and the end of one --- */

static bool part_fits(const struct fl_bulk_incoming *upload)
{
    struct stat st;

    return lstat(upload->path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= upload->state.safe;
}

static void load_state(struct fl_bulk_server *server, const char *path)
{
    FL_CLEANUP(fl_bulk_upload_freep) struct fl_bulk_incoming *upload = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    struct fl_bulk_state state;

    if (fl_file_read(path, FL_BULK_STATE_MAX, &text, NULL) < 0 ||
        !fl_bulk_state_parse(text->data, text->len, &state)) {
        (void)unlink(path);
        return;
    }
    upload = create_upload(server, &state);
    if (strcmp(path, upload->state_path) == 0 && part_fits(upload) &&
        check_bounds(server, state.size, NULL) == 0) {
        register_upload(FL_TAKE(upload));
        return;
    }
    (void)unlink(path);
    (void)unlink(upload->path);
}

static bool has_state(const char *part)
{
    FL_CLEANUP(fl_freep)
    char *state = fl_asprintf("%.*s.state", (int)(strlen(part) - strlen(".part")), part);

    return fl_path_exists(state);
}

/* Of what an earlier life has left. */
static bool is_nobodys(const struct fl_bulk_server *server, const char *path)
{
    return server->options.fleeting || (fl_str_has_suffix(path, ".part") && !has_state(path));
}

int fl_bulk_uploads_load(struct fl_bulk_server *server, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_folder_list list;
    int r = fl_folder_list(arena, server->uploads_dir, false,
                           2 * server->options.max_uploads + 1024, &list, err);

    for (int pass = 0; r == 0 && pass < 2; pass++)
        for (size_t i = 0; i < list.count; i++) {
            const char *path = fl_arena_printf(arena, "%s/%s", server->uploads_dir, list.names[i]);

            if (pass == 0 && !server->options.fleeting && fl_str_has_suffix(path, ".state"))
                load_state(server, path);
            else if (pass == 1 && is_nobodys(server, path))
                (void)unlink(path);
        }
    return r;
}

void fl_bulk_uploads_expire(void *user)
{
    struct fl_bulk_server *server = user;
    const int64_t since = fl_monotonic_ms(server->options.env) - server->options.idle_ms;
    void *cursor = NULL, *value;
    const char *key;

    while (fl_map_next(server->uploads, &cursor, &key, &value)) {
        struct fl_bulk_incoming *upload = value;

        if (upload->request || upload->verify || upload->state.complete || upload->last_ms > since)
            continue;
        server->stats.expired++;
        fl_bulk_upload_drop(upload);
    }
}

/* --- the owner's --- */

int fl_bulk_server_find(struct fl_bulk_server *server, const char *key,
                        struct fl_bulk_upload *ret_upload, struct fl_error *err)
{
    const struct fl_bulk_incoming *upload = fl_map_get(server->uploads, key);

    if (!upload)
        return fl_error_set(err, FL_E_NOT_FOUND, "upload \"%s\" is not here", key);
    *ret_upload = shown(upload);
    return 0;
}

void fl_bulk_server_each(struct fl_bulk_server *server,
                         void (*fn)(void *user, const struct fl_bulk_upload *upload), void *user)
{
    void *cursor = NULL, *value;
    const char *key;

    while (fl_map_next(server->uploads, &cursor, &key, &value)) {
        const struct fl_bulk_upload upload = shown(value);

        fn(user, &upload);
    }
}

int fl_bulk_server_take(struct fl_bulk_server *server, const char *key, const char *path,
                        struct fl_error *err)
{
    struct fl_bulk_incoming *upload = fl_map_get(server->uploads, key);

    if (!upload || !upload->state.complete)
        return fl_error_set(err, FL_E_NOT_FOUND, "upload \"%s\" is not complete here", key);
    if (rename(upload->path, path) != 0)
        return fl_error_errno(err, errno, "move an upload to %s", path);
    fl_bulk_upload_drop(upload);
    return 0;
}

void fl_bulk_server_forget(struct fl_bulk_server *server, const char *key)
{
    struct fl_bulk_incoming *upload = fl_map_get(server->uploads, key);

    if (upload)
        fl_bulk_upload_drop(upload);
}
