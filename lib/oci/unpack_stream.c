/* Bytes out of a descriptor. gzip and zstd are known by how they begin and may be in several pieces
 * behind one another; whatever follows the last piece and is none is refused, and so is an end
 * before its time. */
#include "lib/oci/unpack_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define IN_SIZE     ((size_t)128 * 1024)
#define OUT_SIZE    ((size_t)256 * 1024)
#define WINDOW_LOG  27      /* of zstd: 128 MiB */
#define BOMB_FACTOR 1000    /* out for one byte in … */
#define BOMB_FREE   1048576 /* … beyond the first of these */

enum packing { UNKNOWN, PLAIN, GZIP, ZSTD };

struct fl_unpack_stream {
    int fd;
    struct fl_unpack_limits limits;
    enum packing packing;
    struct fl_sha256 *hash;
    z_stream gzip;
    bool gzip_open, within; /* within: a piece is not at its end */
    ZSTD_DStream *zstd;
    bool ended; /* the descriptor is at its end */
    int64_t in, out, last;
    size_t have, at; /* in `input` */
    unsigned char *input, *output;
};

struct fl_unpack_stream *fl_unpack_stream_open(int fd, const struct fl_unpack_limits *limits)
{
    struct fl_unpack_stream *stream = fl_calloc(1, sizeof(*stream));

    stream->fd = fd;
    stream->limits = *limits;
    stream->hash = fl_sha256_create();
    stream->input = fl_malloc(IN_SIZE);
    stream->output = fl_malloc(OUT_SIZE);
    return stream;
}

void fl_unpack_stream_close(struct fl_unpack_stream *stream)
{
    if (!stream)
        return;
    if (stream->gzip_open)
        (void)inflateEnd(&stream->gzip);
    (void)ZSTD_freeDStream(stream->zstd);
    fl_sha256_destroy(stream->hash);
    free(stream->input);
    free(stream->output);
    free(stream);
}

/* More of the input behind what is there; none where it has ended or there is no room. */
static int fill(struct fl_unpack_stream *s, struct fl_error *err)
{
    ssize_t n;

    if (s->at > 0) {
        memmove(s->input, s->input + s->at, s->have - s->at);
        s->have -= s->at;
        s->at = 0;
    }
    if (s->ended || s->have == IN_SIZE)
        return 0;
    do
        n = read(s->fd, s->input + s->have, IN_SIZE - s->have);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return fl_error_errno(err, errno, "read the archive");
    s->ended = n == 0;
    s->have += (size_t)n;
    s->in += n;
    if (s->limits.in_bytes >= 0 && s->in > s->limits.in_bytes)
        return fl_error_set(err, FL_E_INVALID,
                            "the archive has more than the %" PRId64 " bytes it should have",
                            s->limits.in_bytes);
    return 0;
}

/* At least `wanted` bytes where there are as many. */
static int ensure(struct fl_unpack_stream *s, size_t wanted, struct fl_error *err)
{
    int r = 0;

    while (r == 0 && !s->ended && s->have - s->at < wanted)
        r = fill(s, err);
    return r;
}

static bool is_gzip(const unsigned char *at, size_t len)
{
    return len >= 2 && at[0] == 0x1f && at[1] == 0x8b;
}

/* A frame, or one that is to be skipped. */
static bool is_zstd(const unsigned char *at, size_t len)
{
    uint32_t magic;

    if (len < 4)
        return false;
    magic = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
    return magic == ZSTD_MAGICNUMBER ||
           (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
}

static int begin(struct fl_unpack_stream *s, struct fl_error *err)
{
    int r = ensure(s, 4, err);

    if (r < 0)
        return r;
    s->packing = PLAIN;
    if (is_gzip(s->input + s->at, s->have - s->at)) {
        if (inflateInit2(&s->gzip, 15 + 16) != Z_OK)
            return fl_error_set(err, FL_E_INTERNAL, "zlib does not begin");
        s->gzip_open = s->within = true;
        s->packing = GZIP;
    } else if (is_zstd(s->input + s->at, s->have - s->at)) {
        s->zstd = ZSTD_createDStream();
        if (!s->zstd ||
            ZSTD_isError(ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, WINDOW_LOG)))
            return fl_error_set(err, FL_E_INTERNAL, "zstd does not begin");
        s->within = true;
        s->packing = ZSTD;
    }
    return 0;
}

/* True where another piece begins; what is something else is an error. */
static int next_piece(struct fl_unpack_stream *s, struct fl_error *err)
{
    const unsigned char *at;
    size_t len;
    int r = ensure(s, 4, err);

    if (r < 0)
        return r;
    at = s->input + s->at, len = s->have - s->at;
    if (len == 0)
        return 0;
    if (s->packing == GZIP ? !is_gzip(at, len) : !is_zstd(at, len))
        return fl_error_set(err, FL_E_INVALID, "something follows the end of what was compressed");
    if (s->packing == GZIP && inflateReset(&s->gzip) != Z_OK)
        return fl_error_set(err, FL_E_INTERNAL, "zlib does not begin anew");
    s->within = true;
    return 1;
}

static int inflate_some(struct fl_unpack_stream *s, size_t *ret_len, struct fl_error *err)
{
    int r;

    s->gzip.next_in = s->input + s->at;
    s->gzip.avail_in = (uInt)(s->have - s->at);
    s->gzip.next_out = s->output;
    s->gzip.avail_out = (uInt)OUT_SIZE;
    r = inflate(&s->gzip, Z_NO_FLUSH);
    s->at = s->have - s->gzip.avail_in;
    *ret_len = OUT_SIZE - s->gzip.avail_out;
    if (r == Z_STREAM_END)
        s->within = false;
    else if (r != Z_OK && r != Z_BUF_ERROR)
        return fl_error_set(err, FL_E_INVALID, "the gzip data are damaged: %s",
                            s->gzip.msg ? s->gzip.msg : "no reason known");
    return 0;
}

static int unzstd_some(struct fl_unpack_stream *s, size_t *ret_len, struct fl_error *err)
{
    ZSTD_inBuffer in = {s->input + s->at, s->have - s->at, 0};
    ZSTD_outBuffer out = {s->output, OUT_SIZE, 0};
    size_t r = ZSTD_decompressStream(s->zstd, &out, &in);

    if (ZSTD_isError(r))
        return fl_error_set(err, FL_E_INVALID, "the zstd data are damaged: %s",
                            ZSTD_getErrorName(r));
    s->at += in.pos;
    *ret_len = out.pos;
    if (r == 0)
        s->within = false;
    return 0;
}

static int unpack_some(struct fl_unpack_stream *s, size_t *ret_len, struct fl_error *err)
{
    int r = 0;

    *ret_len = 0;
    while (r == 0 && *ret_len == 0) {
        size_t before;

        if (!s->within) {
            r = next_piece(s, err);
            if (r <= 0)
                return r;
        }
        r = ensure(s, 1, err);
        if (r < 0)
            return r;
        before = s->have - s->at;
        r = s->packing == GZIP ? inflate_some(s, ret_len, err) : unzstd_some(s, ret_len, err);
        if (r == 0 && *ret_len == 0 && s->within && s->ended && s->have - s->at == before)
            return fl_error_set(err, FL_E_INVALID, "the archive is cut off");
    }
    return r;
}

static int take_plain(struct fl_unpack_stream *s, size_t *ret_len, struct fl_error *err)
{
    int r = ensure(s, 1, err);

    *ret_len = s->have - s->at;
    memcpy(s->output, s->input + s->at, *ret_len);
    s->at = s->have;
    return r;
}

static int count(struct fl_unpack_stream *s, size_t len, struct fl_error *err)
{
    size_t last = len;

    while (last > 0 && s->output[last - 1] == 0)
        last--;
    if (last > 0)
        s->last = s->out + (int64_t)last;
    s->out += (int64_t)len;
    if (s->out > s->limits.max_bytes)
        return fl_error_set(err, FL_E_TOO_LARGE,
                            "the archive unpacks to more than %" PRId64 " bytes",
                            s->limits.max_bytes);
    if (s->out > BOMB_FREE && s->out / BOMB_FACTOR > s->in)
        return fl_error_set(err, FL_E_TOO_LARGE,
                            "the archive unpacks to more than %d times its size", BOMB_FACTOR);
    return 0;
}

int64_t fl_unpack_stream_read(struct fl_unpack_stream *s, const void **ret_data,
                              struct fl_error *err)
{
    size_t len = 0;
    int r = s->packing == UNKNOWN ? begin(s, err) : 0;

    if (r == 0)
        r = s->packing == PLAIN ? take_plain(s, &len, err) : unpack_some(s, &len, err);
    if (r == 0)
        r = count(s, len, err);
    if (r < 0)
        return r;
    fl_sha256_add(s->hash, s->output, len);
    *ret_data = s->output;
    return (int64_t)len;
}

int64_t fl_unpack_stream_read_raw(struct fl_unpack_stream *s, const void **ret_data,
                                  struct fl_error *err)
{
    size_t len = 0;
    int r = take_plain(s, &len, err);

    if (r < 0)
        return r;
    *ret_data = s->output;
    return (int64_t)len;
}

int fl_unpack_stream_check(const struct fl_unpack_stream *s, struct fl_error *err)
{
    if (s->limits.in_bytes >= 0 && s->in != s->limits.in_bytes)
        return fl_error_set(err, FL_E_INVALID,
                            "the archive has %" PRId64 " bytes and should have %" PRId64, s->in,
                            s->limits.in_bytes);
    return 0;
}

int64_t fl_unpack_stream_in(const struct fl_unpack_stream *s)
{
    return s->in;
}

int64_t fl_unpack_stream_last(const struct fl_unpack_stream *s)
{
    return s->last;
}

void fl_unpack_stream_digest(struct fl_unpack_stream *s, char out[FL_DIGEST_SIZE])
{
    fl_sha256_end_text(s->hash, out);
}
