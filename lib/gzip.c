#include "lib/gzip.h"

#include <limits.h>
#include <zlib.h>

#define GZIP_WINDOW  (15 + 16) /* 16: with a gzip header */
#define MEMORY_LEVEL 8

int fl_gzip(const void *data, size_t len, struct fl_buf *packed)
{
    z_stream stream = {0};
    size_t bound;
    int r;

    if (len > UINT_MAX / 2 || deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW,
                                           MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
        return -1;
    bound = deflateBound(&stream, len);
    fl_buf_reserve(packed, bound);
    if (packed->overflow) {
        (void)deflateEnd(&stream);
        return -1;
    }
    stream.next_in = (Bytef *)data;
    stream.avail_in = (uInt)len;
    stream.next_out = (Bytef *)packed->data + packed->len;
    stream.avail_out = (uInt)bound;
    r = deflate(&stream, Z_FINISH);
    packed->len += stream.total_out;
    packed->data[packed->len] = '\0';
    (void)deflateEnd(&stream);
    return r == Z_STREAM_END ? 0 : -1;
}
