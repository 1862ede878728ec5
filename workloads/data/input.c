#include "workloads/data/input.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define BUFFER_BYTES (128u * 1024)
#define PIECE_BYTES  ((size_t)1 << 30) /* zlib counts in unsigned */

static int check_regular(int fd, struct fl_error *err)
{
    struct stat info;

    if (fstat(fd, &info) != 0)
        return fl_error_errno(err, errno, "stat");
    if (!S_ISREG(info.st_mode))
        return fl_error_set(err, FL_E_BAD_REQUEST, "not a regular file");
    return 0;
}

int fl_input_open(const char *path, struct fl_input *ret_input, struct fl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r; /* a pipe must not hold us */
    gzFile file;

    if (fd < 0)
        return fl_error_errno(err, errno, "open");
    r = check_regular(fd, err);
    file = r < 0 ? NULL : gzdopen(fd, "rb");
    if (!file) {
        (void)close(fd);
        return r < 0 ? r : fl_error_set(err, FL_E_UNAVAILABLE, "zlib cannot read");
    }
    (void)gzbuffer(file, BUFFER_BYTES);
    *ret_input = (struct fl_input){.file = file};
    return 0;
}

struct fl_input fl_input_of(const void *data, size_t len)
{
    return (struct fl_input){.data = data, .len = len};
}

void fl_input_close(struct fl_input *input)
{
    if (input->file)
        (void)gzclose_r(input->file);
    *input = (struct fl_input){0};
}

static int file_error(const struct fl_input *input, struct fl_error *err)
{
    int code;
    const char *text = gzerror(input->file, &code);

    if (code == Z_ERRNO)
        return fl_error_errno(err, errno, "read");
    return fl_error_set(err, FL_E_INVALID, "gzip data is damaged after %" PRIu64 " bytes: %s",
                        input->at, text);
}

static int read_file(struct fl_input *input, unsigned char *out, size_t len, size_t *ret_len,
                     struct fl_error *err)
{
    size_t done = 0;

    while (done < len) {
        size_t piece = len - done < PIECE_BYTES ? len - done : PIECE_BYTES;
        int n = gzread(input->file, out + done, (unsigned)piece), code = Z_OK;

        if (n == 0)
            (void)gzerror(input->file, &code); /* a cut-off stream ends like a whole one */
        if (n < 0 || (code != Z_OK && code != Z_STREAM_END))
            return file_error(input, err);
        if (n == 0)
            break;
        done += (size_t)n;
        input->at += (size_t)n;
    }
    *ret_len = done;
    return 0;
}

int fl_input_some(struct fl_input *input, void *out, size_t len, size_t *ret_len,
                  struct fl_error *err)
{
    size_t left = input->len - (size_t)input->at;

    if (input->file)
        return read_file(input, out, len, ret_len, err);
    *ret_len = len < left ? len : left;
    if (*ret_len > 0)
        memcpy(out, input->data + input->at, *ret_len);
    input->at += *ret_len;
    return 0;
}

int fl_input_exactly(struct fl_input *input, void *out, size_t len, struct fl_error *err)
{
    uint64_t began = input->at;
    size_t got = 0;
    int r = fl_input_some(input, out, len, &got, err);

    if (r < 0 || got == len)
        return r;
    return fl_error_set(err, FL_E_INVALID,
                        "ends at byte %" PRIu64 ", where byte %" PRIu64 " is needed", input->at,
                        began + len - 1);
}

int fl_input_end(struct fl_input *input, struct fl_error *err)
{
    unsigned char byte;
    size_t got = 0;
    int r = fl_input_some(input, &byte, 1, &got, err);

    if (r < 0 || got == 0)
        return r;
    return fl_error_set(err, FL_E_INVALID, "more data than announced, from byte %" PRIu64,
                        input->at - 1);
}
