/* An archive's entries, one after another, each checked before anything is made of it. */
#include "lib/oci/unpack.h"

#include "lib/oci/unpack_internal.h"
#include "lib/process.h"
#include "lib/str.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_BYTES     ((int64_t)16 * 1024 * 1024 * 1024)
#define MAX_ENTRIES   1000000
#define PATH_LENGTH   4095
#define HEADER_BYTES  4096 /* of a tar, for each entry, with what pads it */
#define HEADERS_BYTES ((int64_t)64 * 1024 * 1024)
#define BOMB_FACTOR   1000
#define BOMB_FREE     ((int64_t)1024 * 1024)
#define ASK_EVERY     64 /* blocks of a file */
#define BLOCK_SIZE    65536
#define WHITEOUT      ".wh."
#define OPAQUE        ".wh..wh..opq"
#define AUFS          ".wh..wh."

struct job {
    const struct fl_unpack *unpack;
    int64_t max_bytes, max_entries;
    struct fl_unpack_stream *stream; /* NULL: of a wheel */
    struct archive *outer;           /* of a package: what `archive` is in */
    struct archive *archive;
    struct fl_place *place;
    struct fl_unpacked done;
    struct fl_error stream_error; /* says more than libarchive's words for it */
    off_t base, size;             /* of a wheel */
    unsigned blocks;
    char block[BLOCK_SIZE];
};

/* Bounds. */

static int keep_going(struct job *job, struct fl_error *err)
{
    const struct fl_unpack *unpack = job->unpack;

    if (!unpack->keep_going || unpack->keep_going(unpack->user))
        return 0;
    return fl_error_set(err, FL_E_UNAVAILABLE, "unpacking was broken off");
}

static int64_t bytes_in(const struct job *job)
{
    return job->stream ? fl_unpack_stream_in(job->stream) : job->size;
}

static int count_bytes(struct job *job, int64_t bytes, struct fl_error *err)
{
    if (bytes < 0 || bytes > job->max_bytes - job->done.bytes)
        return fl_error_set(err, FL_E_TOO_LARGE, "the archive holds more than %" PRId64 " bytes",
                            job->max_bytes);
    job->done.bytes += bytes;
    if (job->done.bytes > BOMB_FREE && job->done.bytes / BOMB_FACTOR > bytes_in(job))
        return fl_error_set(err, FL_E_TOO_LARGE,
                            "the archive unpacks to more than %d times its "
                            "size",
                            BOMB_FACTOR);
    return 0;
}

/* What libarchive stumbled over: the stream's own words, where it was that. */
static int archive_failed(struct job *job, struct fl_error *err)
{
    const char *text = archive_error_string(job->archive);
    const char *outer = job->outer ? archive_error_string(job->outer) : NULL;

    if (job->stream_error.code) {
        if (err)
            *err = job->stream_error;
        return fl_error_negative(job->stream_error.code);
    }
    return fl_error_set(err, FL_E_INVALID, "the archive is damaged: %s",
                        fl_str_or(text, fl_str_or(outer, "no reason known")));
}

/* Names. */

/* "./a//b/" is a/b; "" is the folder itself. INVALID for what leads elsewhere. */
static int clean_path(const char *path, char out[PATH_LENGTH + 1], struct fl_error *err)
{
    size_t len = 0;

    if (*path == '/')
        return fl_error_set(err, FL_E_INVALID, "the path is absolute");
    while (*path) {
        size_t part = strcspn(path, "/");

        if (part == 2 && path[0] == '.' && path[1] == '.')
            return fl_error_set(err, FL_E_INVALID, "the path has \"..\"");
        if (part > 0 && !(part == 1 && *path == '.')) {
            if (len + part + 1 > PATH_LENGTH || part > 255)
                return fl_error_set(err, FL_E_INVALID, "the path is too long");
            if (len > 0)
                out[len++] = '/';
            memcpy(out + len, path, part);
            len += part;
        }
        path += part + (path[part] == '/');
    }
    out[len] = '\0';
    return 0;
}

/* As it is in the archive, else as UTF-8: libarchive has no other for what this process' locale
 * lacks. NULL: it has none. */
static const char *path_of(struct archive_entry *entry)
{
    const char *path = archive_entry_pathname(entry);

    return path ? path : archive_entry_pathname_utf8(entry);
}

static const char *link_of(struct archive_entry *entry)
{
    const char *path = archive_entry_symlink(entry);

    return path ? path : archive_entry_symlink_utf8(entry);
}

static const char *hard_link_of(struct archive_entry *entry)
{
    const char *path = archive_entry_hardlink(entry);

    return path ? path : archive_entry_hardlink_utf8(entry);
}

/* Things. */

static int write_block(struct job *job, int fd, const char *data, size_t len, int64_t offset,
                       struct fl_error *err)
{
    if (++job->blocks % ASK_EVERY == 0 && keep_going(job, err) < 0)
        return err->code;
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fl_error_errno(err, errno, "write it");
        data += n, offset += n, len -= (size_t)n;
    }
    return 0;
}

/* Holes stay holes, but count. */
static int write_data(struct job *job, int fd, int64_t size, struct fl_error *err)
{
    int64_t end = 0, offset;
    const void *data;
    size_t len;
    int r;

    while ((r = archive_read_data_block(job->archive, &data, &len, &offset)) == ARCHIVE_OK ||
           r == ARCHIVE_WARN) {
        if (offset < end || offset > INT64_MAX / 2)
            return fl_error_set(err, FL_E_INVALID, "its pieces are out of order");
        r = count_bytes(job, offset + (int64_t)len - end, err);
        if (r == 0)
            r = write_block(job, fd, data, len, offset, err);
        if (r < 0)
            return r;
        end = offset + (int64_t)len;
    }
    if (r != ARCHIVE_EOF)
        return archive_failed(job, err);
    if (size <= end)
        return 0;
    r = count_bytes(job, size - end, err);
    if (r == 0 && ftruncate(fd, size) != 0)
        r = fl_error_errno(err, errno, "make it %" PRId64 " bytes long", size);
    return r;
}

static int put_file(struct job *job, const char *path, const struct fl_place_meta *meta,
                    struct archive_entry *entry, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    int64_t size = archive_entry_size_is_set(entry) ? archive_entry_size(entry) : 0;
    int r;

    if (size < 0 || size > job->max_bytes)
        return fl_error_set(err, FL_E_TOO_LARGE, "%" PRId64 " bytes are too many", size);
    r = fl_place_file(job->place, path, &fd, err);
    if (r == 0)
        r = write_data(job, fd, size, err);
    return r < 0 ? r : fl_place_finish_file(job->place, fd, meta, err);
}

static int put_link(struct job *job, const char *path, const struct fl_place_meta *meta,
                    struct archive_entry *entry, struct fl_error *err)
{
    const char *target = link_of(entry);

    if (!target || !*target || strlen(target) > PATH_LENGTH)
        return fl_error_set(err, FL_E_INVALID, "a link to nowhere");
    return fl_place_link(job->place, path, target, meta, err);
}

static int put_hard_link(struct job *job, const char *path, const char *to, struct fl_error *err)
{
    char target[PATH_LENGTH + 1];
    int r = clean_path(to, target, err);

    return r < 0 ? r : fl_place_hard_link(job->place, path, target, err);
}

static struct fl_place_meta meta_of(const struct job *job, struct archive_entry *entry)
{
    struct fl_place_meta meta = {.mode = archive_entry_mode(entry) & 07777,
                                 .user = archive_entry_uid(entry),
                                 .group = archive_entry_gid(entry)};

    if (archive_entry_mtime_is_set(entry)) {
        meta.changed.tv_sec = archive_entry_mtime(entry);
        meta.changed.tv_nsec = archive_entry_mtime_nsec(entry);
    }
    if (meta.changed.tv_sec < 0 || meta.changed.tv_nsec < 0 || meta.changed.tv_nsec > 999999999)
        meta.changed = (struct timespec){0};
    if (meta.mode == 0 && job->unpack->format == FL_ARCHIVE_WHEEL)
        meta.mode = 0644; /* who packed it had no modes */
    return meta;
}

static bool has_owner(const struct fl_place_meta *meta)
{
    return meta->user >= 0 && meta->user < INT32_MAX && meta->group >= 0 && meta->group < INT32_MAX;
}

static int put(struct job *job, const char *path, struct archive_entry *entry, struct fl_error *err)
{
    struct fl_place_meta meta = meta_of(job, entry);
    const char *to = hard_link_of(entry);

    if (!has_owner(&meta))
        return fl_error_set(err, FL_E_INVALID, "its owner is no user");
    if (to)
        return put_hard_link(job, path, to, err);
    switch (archive_entry_filetype(entry)) {
    case AE_IFDIR:
        return fl_place_folder(job->place, path, &meta, err);
    case AE_IFREG:
        return put_file(job, path, &meta, entry, err);
    case AE_IFLNK:
        return put_link(job, path, &meta, entry, err);
    default:
        return fl_error_set(err, FL_E_INVALID, "devices, pipes and sockets are not unpacked");
    }
}

/* 0: it is no whiteout. */
static int put_whiteout(struct job *job, char *path, struct fl_error *err)
{
    bool overlay = job->unpack->for_overlay;
    char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    int r;

    if (job->unpack->format != FL_ARCHIVE_LAYER || !fl_str_has_prefix(name, WHITEOUT))
        return 0;
    if (strcmp(name, OPAQUE) == 0) {
        *(slash ? slash : path) = '\0';
        r = fl_place_opaque(job->place, path, overlay, err);
        return r < 0 ? r : 1;
    }
    if (fl_str_has_prefix(name, AUFS))
        return 1; /* another program's notes to itself */
    memmove(name, name + strlen(WHITEOUT), strlen(name + strlen(WHITEOUT)) + 1);
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return fl_error_set(err, FL_E_INVALID, "a whiteout of nothing");
    r = fl_place_whiteout(job->place, path, overlay, err);
    return r < 0 ? r : 1;
}

static int take_entry(struct job *job, struct archive_entry *entry, const char *shown,
                      struct fl_error *err)
{
    char path[PATH_LENGTH + 1];
    int r = clean_path(shown, path, err);

    if (r < 0 || !*path)
        return r;
    if (job->unpack->skip && job->unpack->skip(job->unpack->user, path))
        return 0;
    r = put_whiteout(job, path, err);
    if (r == 0)
        r = put(job, path, entry, err);
    return r < 0 ? r : 0;
}

static int take_entries(struct job *job, struct fl_error *err)
{
    struct archive_entry *entry;
    int r;

    while ((r = archive_read_next_header(job->archive, &entry)) == ARCHIVE_OK ||
           r == ARCHIVE_WARN) {
        const char *shown = path_of(entry);

        if (++job->done.entries > job->max_entries)
            return fl_error_set(err, FL_E_TOO_LARGE, "more than %" PRId64 " entries",
                                job->max_entries);
        if (!shown || !*shown)
            return fl_error_set(err, FL_E_INVALID, "entry %" PRId64 " has no name",
                                job->done.entries);
        r = keep_going(job, err);
        if (r == 0)
            r = take_entry(job, entry, shown, err);
        if (r < 0)
            return fl_error_wrap(err, "%.200s", shown);
    }
    return r == ARCHIVE_EOF ? 0 : archive_failed(job, err);
}

/* Layers. */

static la_ssize_t read_stream(struct archive *archive, void *user, const void **ret_data)
{
    struct job *job = user;
    int64_t n = fl_unpack_stream_read(job->stream, ret_data, &job->stream_error);

    if (n < 0)
        archive_set_error(archive, EIO, "%s", job->stream_error.msg);
    return n < 0 ? ARCHIVE_FATAL : (la_ssize_t)n;
}

/* What follows the end belongs to the digest, and must be nothing: others might read on there. */
static int finish_layer(struct job *job, struct fl_error *err)
{
    int64_t end = archive_read_header_position(job->archive), n;
    const void *data;

    do
        n = fl_unpack_stream_read(job->stream, &data, err);
    while (n > 0);
    if (n < 0)
        return (int)n;
    if (fl_unpack_stream_last(job->stream) > end)
        return fl_error_set(err, FL_E_INVALID, "something follows the end of the archive");
    fl_unpack_stream_digest(job->stream, job->done.diff_id);
    return fl_unpack_stream_check(job->stream, err);
}

static int unpack_layer(struct job *job, struct fl_error *err)
{
    int r;

    (void)archive_read_support_format_tar(job->archive);
    if (archive_read_open(job->archive, job, NULL, read_stream, NULL) != ARCHIVE_OK)
        return archive_failed(job, err);
    r = take_entries(job, err);
    return r < 0 ? r : finish_layer(job, err);
}

/* Debian packages: an archive in an archive. */

static la_ssize_t read_raw(struct archive *archive, void *user, const void **ret_data)
{
    struct job *job = user;
    int64_t n = fl_unpack_stream_read_raw(job->stream, ret_data, &job->stream_error);

    if (n < 0)
        archive_set_error(archive, EIO, "%s", job->stream_error.msg);
    return n < 0 ? ARCHIVE_FATAL : (la_ssize_t)n;
}

static la_ssize_t read_member(struct archive *archive, void *user, const void **ret_data)
{
    struct job *job = user;
    la_ssize_t n = archive_read_data(job->outer, job->block, sizeof(job->block));

    if (n < 0)
        archive_set_error(archive, EIO, "%s",
                          fl_str_or(archive_error_string(job->outer), "the package is damaged"));
    *ret_data = job->block;
    return n < 0 ? ARCHIVE_FATAL : n;
}

static int find_data(struct job *job, struct fl_error *err)
{
    struct archive_entry *entry;
    int r;

    (void)archive_read_support_format_ar(job->outer);
    if (archive_read_open(job->outer, job, NULL, read_raw, NULL) != ARCHIVE_OK)
        return archive_failed(job, err);
    while ((r = archive_read_next_header(job->outer, &entry)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
        const char *name = archive_entry_pathname(entry);

        if (name && fl_str_has_prefix(name, "data.tar"))
            return 0;
    }
    if (r != ARCHIVE_EOF)
        return archive_failed(job, err);
    return fl_error_set(err, FL_E_INVALID, "this is no Debian package: it has no data.tar");
}

static int finish_package(struct job *job, struct fl_error *err)
{
    const void *data;
    int64_t n;

    if (archive_read_data_skip(job->outer) != ARCHIVE_OK)
        return archive_failed(job, err);
    do
        n = fl_unpack_stream_read_raw(job->stream, &data, err);
    while (n > 0);
    return n < 0 ? (int)n : fl_unpack_stream_check(job->stream, err);
}

static int unpack_package(struct job *job, struct fl_error *err)
{
    int r;

    job->outer = archive_read_new();
    r = find_data(job, err);
    if (r < 0)
        return r;
    (void)archive_read_support_filter_xz(job->archive);
    (void)archive_read_support_filter_zstd(job->archive);
    (void)archive_read_support_filter_gzip(job->archive);
    (void)archive_read_support_filter_bzip2(job->archive);
    (void)archive_read_support_format_tar(job->archive);
    if (archive_read_open(job->archive, job, NULL, read_member, NULL) != ARCHIVE_OK)
        return archive_failed(job, err);
    r = take_entries(job, err);
    return r < 0 ? r : finish_package(job, err);
}

/* Wheels: read from their list of contents, as Python does. */

static la_ssize_t read_file(struct archive *archive, void *user, const void **ret_data)
{
    struct job *job = user;
    ssize_t n;

    do
        n = read(job->unpack->fd, job->block, sizeof(job->block));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        archive_set_error(archive, errno, "it cannot be read");
    *ret_data = job->block;
    return n < 0 ? ARCHIVE_FATAL : n;
}

static la_int64_t seek_file(struct archive *archive, void *user, la_int64_t offset, int whence)
{
    const struct job *job = user;
    off_t at = lseek(job->unpack->fd, whence == SEEK_SET ? job->base + offset : offset, whence);

    if (at < job->base) {
        archive_set_error(archive, EINVAL, "it points before its beginning");
        return ARCHIVE_FATAL;
    }
    return at - job->base;
}

static int unpack_wheel(struct job *job, struct fl_error *err)
{
    int fd = job->unpack->fd;

    job->base = lseek(fd, 0, SEEK_CUR);
    job->size = job->base < 0 ? -1 : lseek(fd, 0, SEEK_END) - job->base;
    if (job->base < 0 || job->size < 0 || lseek(fd, job->base, SEEK_SET) < 0)
        return fl_error_set(err, FL_E_INVALID, "a wheel is read from a file only");
    if (job->unpack->in_bytes >= 0 && job->size != job->unpack->in_bytes)
        return fl_error_set(err, FL_E_INVALID,
                            "the archive has %" PRId64 " bytes and should have %" PRId64,
                            (int64_t)job->size, job->unpack->in_bytes);
    (void)archive_read_support_format_zip_seekable(job->archive);
    (void)archive_read_set_seek_callback(job->archive, seek_file);
    if (archive_read_open(job->archive, job, NULL, read_file, NULL) != ARCHIVE_OK)
        return archive_failed(job, err);
    return take_entries(job, err);
}

/* All of it. */

static int run(struct job *job, struct fl_error *err)
{
    switch (job->unpack->format) {
    case FL_ARCHIVE_LAYER:
        return unpack_layer(job, err);
    case FL_ARCHIVE_DEBIAN:
        return unpack_package(job, err);
    default:
        return unpack_wheel(job, err);
    }
}

static struct fl_unpack_limits limits_of(const struct job *job)
{
    int64_t headers = job->max_entries > HEADERS_BYTES ? HEADERS_BYTES * HEADER_BYTES
                                                       : job->max_entries * HEADER_BYTES;

    return (struct fl_unpack_limits){
        .in_bytes = job->unpack->in_bytes,
        .max_bytes =
            job->max_bytes > INT64_MAX / 2 ? INT64_MAX : job->max_bytes + headers + HEADERS_BYTES,
    };
}

int fl_unpack(const struct fl_unpack *unpack, struct fl_unpacked *ret_unpacked,
              struct fl_error *err)
{
    struct fl_unpack_limits limits;
    struct fl_error why = {0};
    struct job *job;
    int r;

    job = fl_calloc(1, sizeof(*job));
    job->unpack = unpack;
    job->max_bytes = unpack->max_bytes > 0 ? unpack->max_bytes : MAX_BYTES;
    job->max_entries = unpack->max_entries > 0 ? unpack->max_entries : MAX_ENTRIES;
    limits = limits_of(job);
    if (unpack->format != FL_ARCHIVE_WHEEL)
        job->stream = fl_unpack_stream_open(unpack->fd, &limits);
    job->archive = archive_read_new();
    r = fl_place_open(unpack->folder, unpack->keep_owners, &job->place, &why);
    if (r == 0)
        r = run(job, &why);
    if (r == 0)
        *ret_unpacked = job->done;
    else if (err)
        *err = why;
    (void)archive_read_free(job->archive);
    if (job->outer)
        (void)archive_read_free(job->outer);
    fl_place_close(job->place);
    fl_unpack_stream_close(job->stream);
    free(job);
    return r;
}
