#include "lib/blobs.h"

#include "lib/file.h"
#include "lib/folder.h"
#include "lib/map.h"
#include "lib/process.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT_MAX   ((size_t)65536)
#define READ_BYTES  ((size_t)256 * 1024)
#define EARLY_BYTES ((size_t)1 << 20) /* a piece so large goes to the disk at once */

struct blob {
    int64_t size;
    int64_t used_us; /* since 1970, so that it can be kept as the file's own time */
    unsigned pins;
    bool found; /* when the folder was opened */
    bool has_check;
    unsigned char check[FL_XXH128_SIZE];
};

struct fl_blobs {
    const struct fl_env *env;
    char *path;
    int64_t max_bytes;
    size_t max_count;
    bool keeps, fleeting, checks;
    int folder, temporary; /* descriptors; `folder` is locked */

    struct fl_lock *lock; /* what follows */
    struct fl_map *index; /* digest -> struct blob */
    int64_t bytes;
    uint64_t next_name;
};

struct fl_blob_writer {
    struct fl_blobs *blobs;
    int fd;
    char name[32];
    struct fl_hash *hash;
    struct fl_hash *check; /* NULL: none is made beside the hash */
    int64_t size;
    bool overhangs; /* the file may have more than that */
};

static int no_such(const char *digest, struct fl_error *err)
{
    if (fl_digest_kind(digest) == FL_DIGEST_NONE)
        return fl_error_set(err, FL_E_BAD_REQUEST, "\"%.80s\" is no digest", digest);
    return fl_error_set(err, FL_E_NOT_FOUND, "%s is not here", digest);
}

/* --- opening --- */

static int open_folder(const char *path, int *ret_fd, struct fl_error *err)
{
    int r = fl_dir_ensure(path, 0700, err);

    if (r < 0)
        return r;
    *ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret_fd < 0 ? fl_error_errno(err, errno, "open %s", path) : 0;
}

static int open_folders(struct fl_blobs *blobs, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *temporary = fl_asprintf("%s/new", blobs->path);
    int r = open_folder(blobs->path, &blobs->folder, err);

    if (r < 0)
        return r;
    if (flock(blobs->folder, LOCK_EX | LOCK_NB) != 0)
        return fl_error_set(err, FL_E_UNAVAILABLE, "%s is in use by another process", blobs->path);
    r = fl_dir_remove(temporary, err); /* what a crash left behind */
    return r < 0 ? r : open_folder(temporary, &blobs->temporary, err);
}

static void index_blob(struct fl_blobs *blobs, const char *digest, int64_t size, int64_t used_us)
{
    struct blob *blob = fl_calloc(1, sizeof(*blob));

    *blob = (struct blob){.size = size, .used_us = used_us};
    fl_map_put(blobs->index, digest, blob);
    blobs->bytes += size;
}

/* Files have the digest's digits as their name, of which the two kinds have different numbers. */
static int load_name(struct fl_blobs *blobs, const char *name, struct fl_error *err)
{
    char digest[FL_DIGEST_SIZE];
    struct stat st;

    (void)snprintf(digest, sizeof(digest), "%s%.*s",
                   strlen(name) == (size_t)2 * FL_XXH128_SIZE ? "xxh128:" : "sha256:",
                   2 * FL_SHA256_SIZE, name);
    if (fl_digest_kind(digest) == FL_DIGEST_NONE || !fl_streq(fl_digest_hex(digest), name))
        return 0;
    if (fstatat(blobs->folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
        return 0;
    if (blobs->fleeting)
        return unlinkat(blobs->folder, name, 0) == 0 ? 0 : fl_error_errno(err, errno, "%s", name);
    index_blob(blobs, digest, st.st_size,
               st.st_mtim.tv_sec * INT64_C(1000000) + st.st_mtim.tv_nsec / 1000);
    ((struct blob *)fl_map_get(blobs->index, digest))->found = true;
    return 0;
}

static int load(struct fl_blobs *blobs, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_folder_list list;
    int r = fl_folder_list(arena, blobs->path, false, blobs->max_count + 16, &list, err);

    for (size_t i = 0; r == 0 && i < list.count; i++)
        r = load_name(blobs, list.names[i], err);
    return r;
}

int fl_blobs_open(const struct fl_blobs_options *options, struct fl_blobs **ret_blobs,
                  struct fl_error *err)
{
    FL_CLEANUP(fl_blobs_closep) struct fl_blobs *blobs = fl_calloc(1, sizeof(*blobs));
    int r;

    assert(options->env && options->path && options->max_bytes >= 0);

    blobs->env = options->env;
    blobs->path = fl_strdup(options->path);
    blobs->max_bytes = options->max_bytes ? options->max_bytes : INT64_MAX;
    blobs->max_count = options->max_count ? options->max_count : COUNT_MAX;
    blobs->keeps = options->keeps;
    blobs->fleeting = options->fleeting;
    blobs->checks = options->checks;
    blobs->folder = blobs->temporary = -1;
    blobs->lock = fl_lock_create();
    blobs->index = fl_map_create(free);
    r = open_folders(blobs, err);
    if (r == 0)
        r = load(blobs, err);
    if (r < 0) {
        (void)fl_error_wrap(err, "blobs in %s", options->path);
        return r;
    }
    *ret_blobs = FL_TAKE(blobs);
    return 0;
}

void fl_blobs_close(struct fl_blobs *blobs)
{
    if (!blobs)
        return;
    fl_fd_closep(&blobs->temporary);
    fl_fd_closep(&blobs->folder);
    fl_map_destroy(blobs->index);
    fl_lock_destroy(blobs->lock);
    free(blobs->path);
    free(blobs);
}

/* --- room (with the lock) --- */

static const char *oldest_unpinned(const struct fl_blobs *blobs)
{
    const char *digest, *oldest = NULL;
    int64_t used_us = INT64_MAX;
    void *cursor = NULL, *value;

    while (fl_map_next(blobs->index, &cursor, &digest, &value)) {
        const struct blob *blob = value;

        if (blob->pins > 0 || blob->used_us > used_us || (oldest && blob->used_us == used_us))
            continue;
        oldest = digest;
        used_us = blob->used_us;
    }
    return oldest;
}

/* The file first: what the index does not know would never be removed. */
static int forget(struct fl_blobs *blobs, const char *digest, struct fl_error *err)
{
    const struct blob *blob = fl_map_get(blobs->index, digest);

    if (unlinkat(blobs->folder, fl_digest_hex(digest), 0) != 0 && errno != ENOENT)
        return fl_error_errno(err, errno, "remove %s", digest);
    blobs->bytes -= blob->size;
    (void)fl_map_remove(blobs->index, digest);
    return 0;
}

static int make_room(struct fl_blobs *blobs, int64_t size, struct fl_error *err)
{
    while (size > blobs->max_bytes - blobs->bytes ||
           fl_map_count(blobs->index) >= blobs->max_count) {
        const char *oldest = blobs->keeps ? NULL : oldest_unpinned(blobs);
        char digest[FL_DIGEST_SIZE];
        int r;

        if (!oldest || size > blobs->max_bytes)
            return fl_error_set(err, FL_E_TOO_LARGE,
                                "%lld bytes do not fit: %lld of %lld are in use", (long long)size,
                                (long long)blobs->bytes, (long long)blobs->max_bytes);
        (void)snprintf(digest, sizeof(digest), "%s", oldest); /* the index's own copy goes */
        r = forget(blobs, digest, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static struct blob *use(struct fl_blobs *blobs, const char *digest)
{
    struct blob *blob = digest ? fl_map_get(blobs->index, digest) : NULL;

    if (blob)
        blob->used_us = fl_realtime_us(blobs->env);
    return blob;
}

/* --- writing --- */

static int open_temporary(struct fl_blob_writer *writer, struct fl_error *err)
{
    struct fl_blobs *blobs = writer->blobs;

    {
        FL_LOCKED(blobs->lock);
        (void)snprintf(writer->name, sizeof(writer->name), "%llu",
                       (unsigned long long)blobs->next_name++);
    }
    writer->fd =
        openat(blobs->temporary, writer->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return writer->fd < 0 ? fl_error_errno(err, errno, "make a file in %s/new", blobs->path) : 0;
}

int fl_blob_writer_open(struct fl_blobs *blobs, struct fl_blob_writer **ret_writer,
                        struct fl_error *err)
{
    FL_CLEANUP(fl_blob_writer_closep)
    struct fl_blob_writer *writer = fl_calloc(1, sizeof(*writer));
    int r;

    writer->blobs = blobs;
    writer->fd = -1;
    fl_blob_writer_hash_by(writer, FL_DIGEST_SHA256);
    r = open_temporary(writer, err);
    if (r < 0)
        return r;
    *ret_writer = FL_TAKE(writer);
    return 0;
}

void fl_blob_writer_close(struct fl_blob_writer *writer)
{
    if (!writer)
        return;
    if (writer->fd >= 0) {
        (void)unlinkat(writer->blobs->temporary, writer->name, 0);
        (void)close(writer->fd);
    }
    fl_hash_destroy(writer->check);
    fl_hash_destroy(writer->hash);
    free(writer);
}

void fl_blob_writer_hash_by(struct fl_blob_writer *writer, enum fl_digest_kind kind)
{
    assert(writer->size == 0);

    fl_hash_destroy(writer->hash);
    fl_hash_destroy(writer->check);
    writer->hash = fl_hash_create(kind);
    writer->check =
        writer->blobs->checks && kind != FL_DIGEST_XXH128 ? fl_hash_create(FL_DIGEST_XXH128) : NULL;
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

int fl_blob_writer_add(struct fl_blob_writer *writer, const void *data, size_t len,
                       struct fl_error *err)
{
    int r;

    assert(writer->fd >= 0);

    if ((int64_t)len > writer->blobs->max_bytes - writer->size)
        return fl_error_set(err, FL_E_TOO_LARGE, "the content has more than %lld bytes",
                            (long long)writer->blobs->max_bytes);
    r = write_all(writer->fd, data, len);
    if (r < 0) {
        (void)lseek(writer->fd, writer->size, SEEK_SET); /* what goes on writes over the part */
        writer->overhangs = true;
        return fl_error_errno(err, -r, "write into %s", writer->blobs->path);
    }
    /* The disk may begin while the digest is made; who waits for it is sync_file. */
    if (!writer->blobs->fleeting && len >= EARLY_BYTES)
        (void)sync_file_range(writer->fd, writer->size, (off_t)len, SYNC_FILE_RANGE_WRITE);
    fl_hash_add(writer->hash, data, len);
    if (writer->check)
        fl_hash_add(writer->check, data, len);
    writer->size += (int64_t)len;
    return 0;
}

int64_t fl_blob_writer_size(const struct fl_blob_writer *writer)
{
    return writer->size;
}

int fl_blob_writer_restart(struct fl_blob_writer *writer, struct fl_error *err)
{
    char unused[FL_DIGEST_SIZE];

    fl_hash_end(writer->hash, unused);
    if (writer->check)
        fl_hash_end(writer->check, unused);
    writer->size = 0;
    if (lseek(writer->fd, 0, SEEK_SET) != 0 || ftruncate(writer->fd, 0) != 0)
        return fl_error_errno(err, errno, "begin anew");
    return 0;
}

/* With the lock: so that two who put the same agree, and the bound holds. */
static int place(struct fl_blob_writer *writer, const char *digest, const char *check, bool pin,
                 struct fl_error *err)
{
    struct fl_blobs *blobs = writer->blobs;
    struct blob *blob;
    int r;

    FL_LOCKED(blobs->lock);
    if (!use(blobs, digest)) {
        r = make_room(blobs, writer->size, err);
        if (r < 0)
            return r;
        if (renameat(blobs->temporary, writer->name, blobs->folder, fl_digest_hex(digest)) != 0)
            return fl_error_errno(err, errno, "place %s", digest);
        index_blob(blobs, digest, writer->size, fl_realtime_us(blobs->env));
    }
    blob = fl_map_get(blobs->index, digest);
    blob->has_check |= check && fl_xxh128_bytes(check, blob->check);
    blob->pins += pin;
    return 0;
}

static int sync_file(const struct fl_blob_writer *writer, struct fl_error *err)
{
    if (writer->overhangs && ftruncate(writer->fd, writer->size) != 0)
        return fl_error_errno(err, errno, "cut a file in %s", writer->blobs->path);
    if (!writer->blobs->fleeting && fsync(writer->fd) != 0)
        return fl_error_errno(err, errno, "sync in %s", writer->blobs->path);
    return 0;
}

static int sync_folder(const struct fl_blobs *blobs, struct fl_error *err)
{
    if (!blobs->fleeting && fsync(blobs->folder) != 0)
        return fl_error_errno(err, errno, "sync %s", blobs->path);
    return 0;
}

/* What it is; INVALID where it is not `expected`. `check` receives the xxh128, or "". */
static int end_hashes(struct fl_blob_writer *writer, const char *expected,
                      char found[FL_DIGEST_SIZE], char check[FL_DIGEST_SIZE], struct fl_error *err)
{
    int r;

    fl_hash_end(writer->hash, found);
    check[0] = '\0';
    if (writer->check)
        fl_hash_end(writer->check, check);
    else if (fl_digest_kind(found) == FL_DIGEST_XXH128)
        memcpy(check, found, FL_DIGEST_SIZE);
    if (!expected || strcmp(expected, found) == 0)
        return 0;
    r = fl_blob_writer_restart(writer, err);
    return r < 0 ? r
                 : fl_error_set(err, FL_E_INVALID, "the content is %s, not %s", found, expected);
}

static int put_away(struct fl_blob_writer *writer, const char *name, const char *check, bool pin,
                    struct fl_error *err)
{
    int r = sync_file(writer, err);

    if (r == 0)
        r = place(writer, name, check, pin, err);
    if (r == 0)
        r = sync_folder(writer->blobs, err);
    if (r < 0)
        return r;
    (void)unlinkat(writer->blobs->temporary, writer->name, 0); /* where it was there already */
    (void)close(writer->fd);
    writer->fd = -1;
    return 0;
}

int fl_blob_writer_finish(struct fl_blob_writer *writer, const char *expected, bool pin,
                          char digest[FL_DIGEST_SIZE], struct fl_error *err)
{
    char found[FL_DIGEST_SIZE], check[FL_DIGEST_SIZE];
    int r = end_hashes(writer, expected, found, check, err);

    if (r == 0)
        r = put_away(writer, found, check, pin, err);
    if (r == 0)
        memcpy(digest, found, FL_DIGEST_SIZE);
    return r;
}

int fl_blob_writer_finish_as(struct fl_blob_writer *writer, const char *expected, const char *name,
                             bool pin, struct fl_error *err)
{
    char found[FL_DIGEST_SIZE], check[FL_DIGEST_SIZE];
    int r;

    assert(fl_digest_kind(name) != FL_DIGEST_NONE);

    r = end_hashes(writer, expected, found, check, err);
    return r < 0 ? r : put_away(writer, name, check, pin, err);
}

int fl_blobs_put(struct fl_blobs *blobs, const void *data, size_t len, bool pin,
                 char digest[FL_DIGEST_SIZE], struct fl_error *err)
{
    FL_CLEANUP(fl_blob_writer_closep) struct fl_blob_writer *writer = NULL;
    int r = fl_blob_writer_open(blobs, &writer, err);

    if (r == 0)
        r = fl_blob_writer_add(writer, data, len, err);
    return r < 0 ? r : fl_blob_writer_finish(writer, NULL, pin, digest, err);
}

/* With a temporary name of ours, so that it is placed as everything else. */
static int adopt_into(struct fl_blob_writer *writer, const char *path, const char *digest, bool pin,
                      struct fl_error *err)
{
    struct fl_blobs *blobs = writer->blobs;
    struct stat st;
    int r;

    if (renameat(AT_FDCWD, path, blobs->temporary, writer->name) != 0)
        return fl_error_errno(err, errno, "move %s into %s", path, blobs->path);
    (void)close(writer->fd);
    writer->fd = openat(blobs->temporary, writer->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (writer->fd < 0 || fstat(writer->fd, &st) != 0)
        return fl_error_errno(err, errno, "open %s", digest);
    writer->size = st.st_size;
    r = sync_file(writer, err);
    if (r == 0)
        r = place(writer, digest, NULL, pin, err);
    return r < 0 ? r : sync_folder(blobs, err);
}

int fl_blobs_adopt(struct fl_blobs *blobs, const char *path, const char *digest, bool pin,
                   struct fl_error *err)
{
    FL_CLEANUP(fl_blob_writer_closep) struct fl_blob_writer *writer = NULL;
    int r = fl_blob_writer_open(blobs, &writer, err);

    assert(fl_digest_is_valid(digest));
    return r < 0 ? r : adopt_into(writer, path, digest, pin, err);
}

/* Hands what the descriptor has to `take`, from its beginning. */
static int read_through(int fd,
                        int (*take)(void *user, const void *data, size_t len, struct fl_error *err),
                        void *user, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *piece = fl_malloc(READ_BYTES);
    off_t at = 0;

    for (;;) {
        ssize_t n = pread(fd, piece, READ_BYTES, at);
        int r;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fl_error_errno(err, errno, "read");
        if (n == 0)
            return 0;
        r = take(user, piece, (size_t)n, err);
        if (r < 0)
            return r;
        at += n;
    }
}

static int add_piece(void *user, const void *data, size_t len, struct fl_error *err)
{
    return fl_blob_writer_add(user, data, len, err);
}

int fl_blobs_put_fd(struct fl_blobs *blobs, int fd, const char *expected, bool pin,
                    char digest[FL_DIGEST_SIZE], struct fl_error *err)
{
    FL_CLEANUP(fl_blob_writer_closep) struct fl_blob_writer *writer = NULL;
    int r = fl_blob_writer_open(blobs, &writer, err);

    if (r == 0)
        r = read_through(fd, add_piece, writer, err);
    return r < 0 ? r : fl_blob_writer_finish(writer, expected, pin, digest, err);
}

/* --- using --- */

bool fl_blobs_has(struct fl_blobs *blobs, const char *digest)
{
    FL_LOCKED(blobs->lock);
    return use(blobs, digest) != NULL;
}

/* A blob whose file has gone behind our back is not there. */
static int open_blob(struct fl_blobs *blobs, const char *digest, int *ret_fd, struct fl_error *err)
{
    FL_LOCKED(blobs->lock);
    if (!use(blobs, digest))
        return no_such(digest, err);
    *ret_fd = openat(blobs->folder, fl_digest_hex(digest), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (*ret_fd >= 0) {
        (void)futimens(*ret_fd, NULL); /* the order of use, for the next life */
        return 0;
    }
    if (errno != ENOENT)
        return fl_error_errno(err, errno, "open %s", digest);
    (void)forget(blobs, digest, NULL);
    return no_such(digest, err);
}

int fl_blobs_get(struct fl_blobs *blobs, const char *digest, int *ret_fd, int64_t *ret_size,
                 struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    struct stat st;
    int r = open_blob(blobs, digest, &fd, err);

    if (r < 0)
        return r;
    if (fstat(fd, &st) != 0)
        return fl_error_errno(err, errno, "stat %s", digest);
    *ret_size = st.st_size;
    *ret_fd = fd;
    fd = -1;
    return 0;
}

int fl_blobs_path(struct fl_blobs *blobs, const char *digest, struct fl_arena *arena,
                  const char **ret_path, struct fl_error *err)
{
    FL_LOCKED(blobs->lock);
    if (!use(blobs, digest))
        return no_such(digest, err);
    *ret_path = fl_arena_printf(arena, "%s/%s", blobs->path, fl_digest_hex(digest));
    return 0;
}

int fl_blobs_map(struct fl_blobs *blobs, const char *digest, struct fl_blob_map *ret_map,
                 struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    void *data = NULL;
    int64_t size;
    int r = fl_blobs_get(blobs, digest, &fd, &size, err);

    if (r < 0)
        return r;
    if (size > 0)
        data = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return fl_error_errno(err, errno, "map %s", digest);
    *ret_map = (struct fl_blob_map){data, (size_t)size};
    return 0;
}

void fl_blob_unmap(struct fl_blob_map *map)
{
    if (map->data)
        (void)munmap((void *)map->data, map->size);
    *map = (struct fl_blob_map){0};
}

int fl_blobs_pin(struct fl_blobs *blobs, const char *digest, struct fl_error *err)
{
    struct blob *blob;

    FL_LOCKED(blobs->lock);
    blob = use(blobs, digest);
    if (!blob)
        return no_such(digest, err);
    blob->pins++;
    return 0;
}

void fl_blobs_unpin(struct fl_blobs *blobs, const char *digest)
{
    struct blob *blob;

    FL_LOCKED(blobs->lock);
    blob = fl_map_get(blobs->index, digest);
    if (!blob)
        return; /* it was damaged, and is gone */
    assert(blob->pins > 0);
    blob->pins--;
}

bool fl_blobs_check(struct fl_blobs *blobs, const char *digest, char out[FL_DIGEST_SIZE])
{
    const struct blob *blob;

    FL_LOCKED(blobs->lock);
    blob = fl_map_get(blobs->index, digest);
    if (blob && blob->has_check)
        fl_xxh128_text(blob->check, out);
    return blob && blob->has_check;
}

static int hash_piece(void *user, const void *data, size_t len, struct fl_error *err)
{
    (void)err;
    fl_hash_add(user, data, len);
    return 0;
}

int fl_blobs_verify(struct fl_blobs *blobs, const char *digest, struct fl_error *err)
{
    FL_CLEANUP(fl_hash_destroyp) struct fl_hash *hash = NULL;
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    char found[FL_DIGEST_SIZE];
    int r = open_blob(blobs, digest, &fd, err);

    if (r < 0)
        return r;
    hash = fl_hash_create(fl_digest_kind(digest));
    r = read_through(fd, hash_piece, hash, err);
    if (r < 0)
        return r;
    fl_hash_end(hash, found);
    if (strcmp(found, digest) == 0)
        return 0;
    FL_LOCKED(blobs->lock);
    if (fl_map_get(blobs->index, digest))
        (void)forget(blobs, digest, NULL);
    return fl_error_set(err, FL_E_INVALID, "%s is damaged: its content is %s", digest, found);
}

int fl_blobs_remove(struct fl_blobs *blobs, const char *digest, struct fl_error *err)
{
    const struct blob *blob;

    FL_LOCKED(blobs->lock);
    blob = fl_map_get(blobs->index, digest);
    if (blob && blob->pins > 0)
        return fl_error_set(err, FL_E_CONFLICT, "%s is in use", digest);
    return blob ? forget(blobs, digest, err) : 0;
}

int fl_blobs_sweep(struct fl_blobs *blobs, bool (*needs)(void *user, const char *digest),
                   void *user, struct fl_error *err)
{
    void *cursor = NULL, *value;
    const char *digest;

    FL_LOCKED(blobs->lock);
    while (fl_map_next(blobs->index, &cursor, &digest, &value)) {
        const struct blob *blob = value;
        int r = 0;

        if (blob->found && blob->pins == 0 && !needs(user, digest))
            r = forget(blobs, digest, err); /* the entry that was just returned may go */
        if (r < 0)
            return r;
    }
    return 0;
}

int fl_blobs_remove_unused(struct fl_blobs *blobs, const char *digest, int64_t used_us,
                           struct fl_error *err)
{
    const struct blob *blob;

    FL_LOCKED(blobs->lock);
    blob = fl_map_get(blobs->index, digest);
    if (blob && (blob->pins > 0 || blob->used_us != used_us))
        return fl_error_set(err, FL_E_CONFLICT, "%s is in use", digest);
    return blob ? forget(blobs, digest, err) : 0;
}

static int compare_entries(const void *a, const void *b)
{
    const struct fl_blob_entry *x = a, *y = b;

    return strcmp(x->digest, y->digest);
}

size_t fl_blobs_list(struct fl_blobs *blobs, struct fl_arena *arena,
                     struct fl_blob_entry **ret_entries)
{
    void *cursor = NULL, *value;
    const char *digest;
    size_t count = 0;

    FL_LOCKED(blobs->lock);
    *ret_entries = fl_new_array(arena, struct fl_blob_entry, fl_map_count(blobs->index));
    while (fl_map_next(blobs->index, &cursor, &digest, &value)) {
        const struct blob *blob = value;

        (*ret_entries)[count++] = (struct fl_blob_entry){
            .digest = fl_arena_strdup(arena, digest), .size = blob->size, .used_us = blob->used_us};
    }
    if (count > 0)
        qsort(*ret_entries, count, sizeof(**ret_entries), compare_entries);
    return count;
}

int64_t fl_blobs_bytes(struct fl_blobs *blobs)
{
    FL_LOCKED(blobs->lock);
    return blobs->bytes;
}

struct fl_blobs_stats fl_blobs_stats(struct fl_blobs *blobs)
{
    struct fl_blobs_stats stats = {0};
    void *cursor = NULL, *value;
    const char *digest;

    FL_LOCKED(blobs->lock);
    stats.count = fl_map_count(blobs->index);
    stats.bytes = blobs->bytes;
    while (fl_map_next(blobs->index, &cursor, &digest, &value)) {
        const struct blob *blob = value;

        stats.pinned += blob->pins > 0;
        stats.pinned_bytes += blob->pins > 0 ? blob->size : 0;
    }
    return stats;
}
