/* Content of models, to and from the content store. */
#include "cmd/models.h"
#include "cmd/progress.h"

#include "controller/content/content.h"
#include "lib/folder.h"
#include "lib/process.h"
#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES       6
#define PAUSE_MS    500
#define QUIET_MS    30000
#define ERROR_BYTES ((size_t)64 * 1024)
#define PIECE       ((size_t)256 * 1024)

/* Fetching. */

struct fetching {
    struct fl_models *models;
    const char *digest;
    int fd;
    int64_t have; /* bytes in the file */
    struct fl_sha256 *hash;
    struct fl_progress progress;
};

static void fetching_finish(struct fetching *fetching)
{
    fl_fd_closep(&fetching->fd);
    fl_sha256_destroy(fetching->hash);
}

/* A server that begins anew is followed. */
static int on_headers(void *user, int status, const char *headers, struct fl_error *err)
{
    struct fetching *fetching = user;
    unsigned char unused[FL_SHA256_SIZE];

    (void)headers;
    if (status != 200 || fetching->have == 0)
        return 0;
    fl_sha256_end(fetching->hash, unused);
    fetching->have = 0;
    if (ftruncate(fetching->fd, 0) != 0 || lseek(fetching->fd, 0, SEEK_SET) != 0)
        return fl_error_errno(err, errno, "begin anew");
    return 0;
}

static int on_piece(void *user, const void *data, size_t len, struct fl_error *err)
{
    struct fetching *fetching = user;
    const char *at = data;

    for (size_t left = len; left > 0;) {
        ssize_t n = write(fetching->fd, at, left);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fl_error_errno(err, errno, "write");
        at += n;
        left -= (size_t)n;
    }
    fl_sha256_add(fetching->hash, data, len);
    fetching->have += (int64_t)len;
    fl_progress_tell(&fetching->progress, fetching->have);
    return 0;
}

static int fetch_once(struct fetching *fetching, struct fl_error *err)
{
    struct fl_models *models = fetching->models;
    const char *range = fl_arena_printf(models->arena, "Range: bytes=%" PRId64 "-", fetching->have);
    const struct fl_http_transfer transfer = {
        .method = "GET",
        .target = fl_arena_printf(models->arena, FL_CONTENTS_BLOBS "/%s", fetching->digest),
        .headers = &range,
        .header_count = fetching->have > 0 ? 1 : 0,
        .begin = on_headers,
        .piece = on_piece,
        .user = fetching,
        .quiet_ms = QUIET_MS};
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    int status = 0;
    int r = fl_http_transfer(models->client->http, &transfer, &status, &body, NULL, err);

    if (r < 0)
        return r;
    if (status == 200 || status == 206 || status == 416) /* 416: all of it is here */
        return 0;
    return fl_client_refused(models->client, status, body, err);
}

static int check_digest(struct fetching *fetching, struct fl_error *err)
{
    char found[FL_DIGEST_SIZE];

    fl_sha256_end_text(fetching->hash, found);
    if (strcmp(found, fetching->digest) != 0)
        return fl_error_set(err, FL_E_INVALID, "what came is %s, not %s", found, fetching->digest);
    return 0;
}

static int fetch_all(struct fetching *fetching, struct fl_error *err)
{
    int r = fetch_once(fetching, err);

    for (int i = 1; i < TRIES && (r == FL_E_UNAVAILABLE || r == FL_E_TIMEOUT); i++) {
        fl_client_pause(PAUSE_MS * i);
        r = fetch_once(fetching, err);
    }
    fl_progress_end(&fetching->progress);
    return r < 0 ? r : check_digest(fetching, err);
}

int fl_models_fetch(struct fl_models *models, const char *digest, int64_t size, const char *path,
                    struct fl_error *err)
{
    FL_CLEANUP(fetching_finish)
    struct fetching fetching = {.models = models,
                                .digest = digest,
                                .fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644),
                                .hash = fl_sha256_create(),
                                .progress =
                                    fl_progress_begin(&models->client->env, "fetching", size)};
    int r;

    if (fetching.fd < 0)
        return fl_error_errno(err, errno, "%s", path);
    r = fetch_all(&fetching, err);
    if (r == 0 && fsync(fetching.fd) != 0)
        r = fl_error_errno(err, errno, "%s", path);
    if (r < 0)
        fl_path_remove(path);
    return r;
}

/* Sending. */

struct sending {
    const unsigned char *data; /* mapped */
    size_t size;
    struct fl_progress progress;
};

static void sending_finish(struct sending *sending)
{
    if (sending->data)
        (void)munmap((void *)sending->data, sending->size);
}

static bool on_beat(void *user, int64_t sent, int64_t received)
{
    struct sending *sending = user;

    (void)received;
    fl_progress_tell(&sending->progress, sent);
    return true;
}

static int map_file(const char *path, struct sending *sending, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    void *data;

    if (fd < 0 || fstat(fd, &st) != 0)
        return fl_error_errno(err, errno, "open");
    if (!S_ISREG(st.st_mode) || st.st_size == 0)
        return fl_error_set(err, FL_E_INVALID, "no file, or an empty one");
    data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return fl_error_errno(err, errno, "map");
    sending->data = data;
    sending->size = (size_t)st.st_size;
    return 0;
}

int fl_models_send(struct fl_models *models, const char *path, char digest[FL_DIGEST_SIZE],
                   struct fl_error *err)
{
    static const char *const type = "Content-Type: application/octet-stream";
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    FL_CLEANUP(sending_finish) struct sending sending = {0};
    struct fl_http_transfer transfer = {
        .method = "PUT", .headers = &type, .header_count = 1, .beat = on_beat, .user = &sending};
    int status = 0, r = map_file(path, &sending, err);

    if (r < 0)
        return r;
    fl_digest_of(sending.data, sending.size, digest);
    sending.progress = fl_progress_begin(&models->client->env, "sending", (int64_t)sending.size);
    transfer.target = fl_arena_printf(models->arena, FL_CONTENTS_BLOBS "/%s", digest);
    transfer.body = sending.data;
    transfer.body_len = sending.size;
    transfer.quiet_ms = QUIET_MS;
    r = fl_http_transfer(models->client->http, &transfer, &status, &body, NULL, err);
    fl_progress_end(&sending.progress);
    if (r < 0)
        return r;
    return status < 300 ? 0 : fl_client_refused(models->client, status, body, err);
}
