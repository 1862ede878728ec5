/* A tree as a layer: tar (libarchive), compressed, into the content store, all in one pass. */
#include "lib/oci/tree.h"

#include "lib/process.h"
#include "lib/str.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define PIECE      ((size_t)256 * 1024)
#define GZIP_LEVEL 6
#define ZSTD_LEVEL 3

/* Where the tar's bytes go. */
struct sink {
    enum fl_layer_compression compression;
    struct fl_sha256 *tar;
    int64_t tar_bytes;
    z_stream gzip;
    ZSTD_CCtx *zstd;
    struct fl_blob_writer *blob;
    unsigned char *packed; /* PIECE bytes */
    struct fl_error *err;
    int failed; /* the first error's code */
};

static int begin_gzip(struct sink *sink, struct fl_error *err)
{
    /* 15 + 16: a gzip header, without a name or a time. */
    if (deflateInit2(&sink->gzip, GZIP_LEVEL, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return fl_error_set(err, FL_E_INTERNAL, "zlib does not begin");
    return 0;
}

static int begin_zstd(struct sink *sink, struct fl_error *err)
{
    sink->zstd = ZSTD_createCCtx();
    if (!sink->zstd ||
        ZSTD_isError(ZSTD_CCtx_setParameter(sink->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(sink->zstd, ZSTD_c_checksumFlag, 1)))
        return fl_error_set(err, FL_E_INTERNAL, "zstd does not begin");
    return 0;
}

static int sink_open(struct sink *sink, enum fl_layer_compression compression,
                     struct fl_blobs *blobs, struct fl_error *err)
{
    *sink = (struct sink){.compression = compression, .err = err};
    sink->tar = fl_sha256_create();
    sink->packed = fl_malloc(PIECE);
    int r = fl_blob_writer_open(blobs, &sink->blob, err);

    if (r == 0 && compression == FL_LAYER_GZIP)
        r = begin_gzip(sink, err);
    if (r == 0 && compression == FL_LAYER_ZSTD)
        r = begin_zstd(sink, err);
    return r;
}

static void sink_close(struct sink *sink)
{
    if (sink->compression == FL_LAYER_GZIP)
        (void)deflateEnd(&sink->gzip);
    (void)ZSTD_freeCCtx(sink->zstd);
    fl_blob_writer_close(sink->blob);
    fl_sha256_destroy(sink->tar);
    free(sink->packed);
}

static int put(struct sink *sink, const void *data, size_t len)
{
    return len == 0 ? 0 : fl_blob_writer_add(sink->blob, data, len, sink->err);
}

static int pack_gzip(struct sink *sink, const void *data, size_t len, bool is_last)
{
    int r, z;

    sink->gzip.next_in = (Bytef *)data;
    sink->gzip.avail_in = (uInt)len;
    do {
        sink->gzip.next_out = sink->packed;
        sink->gzip.avail_out = (uInt)PIECE;
        z = deflate(&sink->gzip, is_last ? Z_FINISH : Z_NO_FLUSH);
        r = put(sink, sink->packed, PIECE - sink->gzip.avail_out);
    } while (r == 0 && (is_last ? z != Z_STREAM_END : sink->gzip.avail_out == 0));
    return r;
}

static int pack_zstd(struct sink *sink, const void *data, size_t len, bool is_last)
{
    ZSTD_inBuffer in = {data, len, 0};
    size_t left;
    int r;

    do {
        ZSTD_outBuffer out = {sink->packed, PIECE, 0};

        left = ZSTD_compressStream2(sink->zstd, &out, &in, is_last ? ZSTD_e_end : ZSTD_e_continue);
        if (ZSTD_isError(left))
            return fl_error_set(sink->err, FL_E_INTERNAL, "zstd: %s", ZSTD_getErrorName(left));
        r = put(sink, sink->packed, out.pos);
    } while (r == 0 && (is_last ? left > 0 : in.pos < in.size));
    return r;
}

static int pack(struct sink *sink, const void *data, size_t len, bool is_last)
{
    if (sink->compression == FL_LAYER_GZIP)
        return pack_gzip(sink, data, len, is_last);
    if (sink->compression == FL_LAYER_ZSTD)
        return pack_zstd(sink, data, len, is_last);
    return put(sink, data, len);
}

/* Called by libarchive with what it made. */
static la_ssize_t on_tar(struct archive *archive, void *user, const void *data, size_t len)
{
    struct sink *sink = user;

    fl_sha256_add(sink->tar, data, len);
    sink->tar_bytes += (int64_t)len;
    sink->failed = pack(sink, data, len, false);
    if (sink->failed == 0)
        return (la_ssize_t)len;
    archive_set_error(archive, EIO, "not taken");
    return -1;
}

/* Entries. */
struct writing {
    struct archive *archive;
    struct archive_entry *entry;
    struct sink *sink;
    int64_t epoch_s;
    bool (*keep_going)(void *user);
    void *user;
    unsigned char *piece;
};

static int archive_failed(const struct writing *writing, const char *path)
{
    if (writing->sink->failed < 0)
        return writing->sink->failed;
    return fl_error_set(writing->sink->err, FL_E_INTERNAL, "%s: %s", path,
                        fl_str_or(archive_error_string(writing->archive), "cannot be written"));
}

static int write_bytes(const struct writing *writing, const char *path, const void *data,
                       size_t len)
{
    if (len == 0 || archive_write_data(writing->archive, data, len) == (la_ssize_t)len)
        return 0;
    return archive_failed(writing, path);
}

static int copy_bytes(const struct writing *writing, const char *path, int fd, int64_t size)
{
    int r = 0;

    for (int64_t left = size; r == 0 && left > 0;) {
        ssize_t n = read(fd, writing->piece, left < (int64_t)PIECE ? (size_t)left : PIECE);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fl_error_set(writing->sink->err, FL_E_CONFLICT,
                                "%s was changed while it was read", path);
        r = write_bytes(writing, path, writing->piece, (size_t)n);
        left -= n;
        if (r == 0 && writing->keep_going && !writing->keep_going(writing->user))
            r = fl_error_set(writing->sink->err, FL_E_UNAVAILABLE, "broken off");
    }
    return r;
}

static int write_header(const struct writing *writing, const struct fl_tree_entry *item,
                        int64_t size)
{
    static const mode_t types[] = {
        [FL_TREE_FOLDER] = AE_IFDIR, [FL_TREE_FILE] = AE_IFREG, [FL_TREE_LINK] = AE_IFLNK};
    struct archive_entry *entry = archive_entry_clear(writing->entry);

    archive_entry_copy_pathname(entry, item->path);
    archive_entry_set_filetype(entry, types[item->type]);
    archive_entry_set_perm(entry, item->mode);
    archive_entry_set_mtime(entry, writing->epoch_s, 0);
    archive_entry_set_size(entry, item->type == FL_TREE_FILE ? size : 0);
    if (item->type == FL_TREE_LINK)
        archive_entry_copy_symlink(entry, item->target);
    if (archive_write_header(writing->archive, entry) != ARCHIVE_OK)
        return archive_failed(writing, item->path);
    return 0;
}

static int write_file(const struct writing *writing, const struct fl_tree_entry *item)
{
    FL_CLEANUP(fl_fd_closep) int fd = open(item->source, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat about;
    int r;

    if (fd < 0 || fstat(fd, &about) != 0)
        return fl_error_errno(writing->sink->err, errno, "%s", item->source);
    if (!S_ISREG(about.st_mode))
        return fl_error_set(writing->sink->err, FL_E_INVALID, "%s is no file", item->source);
    r = write_header(writing, item, about.st_size);
    return r < 0 ? r : copy_bytes(writing, item->path, fd, about.st_size);
}

static int write_entry(const struct writing *writing, const struct fl_tree_entry *item)
{
    int r;

    if (item->type == FL_TREE_FILE && item->source)
        return write_file(writing, item);
    r = write_header(writing, item, (int64_t)item->len);
    if (r == 0 && item->type == FL_TREE_FILE)
        r = write_bytes(writing, item->path, item->data, item->len);
    return r;
}

/* Names are bytes, whatever the locale: libarchive would translate them. */
static int open_tar(struct archive *archive, struct sink *sink)
{
    if (archive_write_set_format_pax_restricted(archive) != ARCHIVE_OK ||
        archive_write_set_options(archive, "hdrcharset=BINARY") != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(archive, 1) != ARCHIVE_OK ||
        archive_write_open(archive, sink, NULL, on_tar, NULL) != ARCHIVE_OK)
        return fl_error_set(sink->err, FL_E_INTERNAL, "tar: %s",
                            fl_str_or(archive_error_string(archive), "does not begin"));
    return 0;
}

static int write_all(const struct fl_tree *tree, struct writing *writing)
{
    struct fl_tree_entry item;
    void *cursor = NULL;
    int r = open_tar(writing->archive, writing->sink);

    while (r == 0 && fl_tree_next(tree, &cursor, &item)) {
        r = write_entry(writing, &item);
        if (r == 0 && writing->keep_going && !writing->keep_going(writing->user))
            r = fl_error_set(writing->sink->err, FL_E_UNAVAILABLE, "broken off");
    }
    if (r == 0 && archive_write_close(writing->archive) != ARCHIVE_OK)
        r = archive_failed(writing, "the end");
    return r == 0 ? pack(writing->sink, NULL, 0, true) : r;
}

static const char *media_type(enum fl_layer_compression compression)
{
    static const char *const types[] = {[FL_LAYER_PLAIN] = FL_OCI_LAYER_TAR,
                                        [FL_LAYER_GZIP] = FL_OCI_LAYER_GZIP,
                                        [FL_LAYER_ZSTD] = FL_OCI_LAYER_ZSTD};

    return types[compression];
}

static int finish(struct sink *sink, struct fl_arena *arena, struct fl_layer *ret_layer)
{
    char *digest = fl_alloc(arena, FL_DIGEST_SIZE), *diff_id = fl_alloc(arena, FL_DIGEST_SIZE);
    int64_t size = fl_blob_writer_size(sink->blob);
    int r = fl_blob_writer_finish(sink->blob, NULL, true, digest, sink->err);

    if (r < 0)
        return r;
    fl_sha256_end_text(sink->tar, diff_id);
    *ret_layer = (struct fl_layer){
        .descriptor = {.media_type = media_type(sink->compression), .digest = digest, .size = size},
        .diff_id = diff_id,
        .unpacked_bytes = sink->tar_bytes,
    };
    return 0;
}

int fl_tree_write_layer(const struct fl_tree *tree, enum fl_layer_compression compression,
                        int64_t epoch_s, struct fl_blobs *blobs, bool (*keep_going)(void *user),
                        void *user, struct fl_arena *arena, struct fl_layer *ret_layer,
                        struct fl_error *err)
{
    struct fl_error ours = {0};
    struct sink sink;
    struct writing writing = {
        .sink = &sink, .epoch_s = epoch_s, .keep_going = keep_going, .user = user};
    int r = sink_open(&sink, compression, blobs, err ? err : &ours);

    if (r == 0) {
        writing.archive = archive_write_new();
        writing.entry = archive_entry_new();
        writing.piece = fl_malloc(PIECE);
        r = write_all(tree, &writing);
        archive_entry_free(writing.entry);
        (void)archive_write_free(writing.archive);
        free(writing.piece);
    }
    if (r == 0)
        r = finish(&sink, arena, ret_layer);
    sink_close(&sink);
    return r;
}

/* Digests of trees. */

static int digest_file(struct fl_sha256 *hash, const char *path, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    FL_CLEANUP(fl_freep) unsigned char *piece = fl_malloc(PIECE);
    struct stat about;
    int64_t left;

    if (fd < 0 || fstat(fd, &about) != 0)
        return fl_error_errno(err, errno, "%s", path);
    fl_sha256_add(hash, &about.st_size, sizeof(about.st_size));
    for (left = about.st_size; left > 0;) {
        ssize_t n = read(fd, piece, left < (int64_t)PIECE ? (size_t)left : PIECE);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fl_error_set(err, FL_E_CONFLICT, "%s was changed while it was read", path);
        fl_sha256_add(hash, piece, (size_t)n);
        left -= n;
    }
    return 0;
}

static int digest_entry(struct fl_sha256 *hash, const struct fl_tree_entry *item,
                        struct fl_error *err)
{
    const int64_t head[] = {item->type, item->mode};
    const int64_t len = (int64_t)item->len;

    fl_sha256_add(hash, item->path, strlen(item->path) + 1);
    fl_sha256_add(hash, head, sizeof(head));
    if (item->type == FL_TREE_LINK)
        fl_sha256_add(hash, item->target, strlen(item->target) + 1);
    if (item->type != FL_TREE_FILE)
        return 0;
    if (item->source)
        return digest_file(hash, item->source, err);
    fl_sha256_add(hash, &len, sizeof(len));
    fl_sha256_add(hash, item->data, item->len);
    return 0;
}

int fl_tree_digest(const struct fl_tree *tree, char digest[FL_DIGEST_SIZE], struct fl_error *err)
{
    FL_CLEANUP(fl_sha256_destroyp) struct fl_sha256 *hash = fl_sha256_create();
    struct fl_tree_entry item;
    void *cursor = NULL;
    int r = 0;

    while (r == 0 && fl_tree_next(tree, &cursor, &item))
        r = digest_entry(hash, &item, err);
    if (r == 0)
        fl_sha256_end_text(hash, digest);
    return r;
}
