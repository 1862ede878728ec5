#include "lib/log_file.h"

#include "lib/process.h"
#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* "2026-01-02T03:04:05.123456789Z stdout F text" */
#define TIME_LEN  31 /* with its space */
#define FLAG_AT   38
#define TEXT_AT   40
#define BLOCK     ((size_t)64 * 1024)
#define FILES_MAX 1000

struct fl_log_file {
    char *path;
    int fd; /* -1: nothing to read yet */
    char data[BLOCK];
    size_t begin, end;       /* of what was read and not given yet */
    const char *text;        /* of the record that is being given; NULL: none */
    size_t text_len, record; /* and the length of the whole record */
    size_t time_left;        /* of the time before the text: what is not given yet */
    bool newline;
    bool timestamps, in_line; /* in_line: the record before was a part of a line */
};

static char *path_of(const struct fl_log_file *file, unsigned number)
{
    return number ? fl_asprintf("%s.%u", file->path, number) : fl_strdup(file->path);
}

static int open_number(const struct fl_log_file *file, unsigned number)
{
    FL_CLEANUP(fl_freep) char *path = path_of(file, number);

    return open(path, O_RDONLY | O_CLOEXEC);
}

static bool is_open_file(const struct fl_log_file *file, unsigned number)
{
    FL_CLEANUP(fl_freep) char *path = path_of(file, number);
    struct stat ours, there;

    return fstat(file->fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino &&
           ours.st_dev == there.st_dev;
}

static unsigned oldest(const struct fl_log_file *file)
{
    unsigned number = 0;

    while (number < FILES_MAX) {
        FL_CLEANUP(fl_freep) char *path = path_of(file, number + 1);

        if (access(path, F_OK) != 0)
            break;
        number++;
    }
    return number;
}

/* The tail: backwards over records, of which those flagged F end a line. */

struct scan {
    int fd;
    int64_t wanted, lines;
};

/* True when the record that begins here belongs to what is not wanted any more. */
static bool is_before_tail(struct scan *scan, off_t start, bool last)
{
    char flag = 'F';

    if (pread(scan->fd, &flag, 1, start + FLAG_AT) != 1)
        return false; /* cut off */
    if (flag == 'F' || last)
        scan->lines++;
    return scan->lines > scan->wanted && flag == 'F';
}

/* Where the tail begins in this file; 0 where all of it belongs to the tail. */
static off_t find_tail(struct scan *scan, bool newest)
{
    char block[4096];
    off_t size = lseek(scan->fd, 0, SEEK_END), at = size, record_end = size;

    while (at > 0) {
        size_t n = at < (off_t)sizeof(block) ? (size_t)at : sizeof(block);

        if (pread(scan->fd, block, n, at - (off_t)n) != (ssize_t)n)
            return 0;
        for (size_t i = n; i-- > 0;) {
            off_t here = at - (off_t)n + (off_t)i;

            if (block[i] != '\n' || here == size - 1)
                continue;
            if (is_before_tail(scan, here + 1, newest && record_end == size))
                return record_end;
            record_end = here + 1;
        }
        at -= (off_t)n;
    }
    if (size > 0 && is_before_tail(scan, 0, newest && record_end == size))
        return record_end;
    return 0;
}

static void seek_tail(struct fl_log_file *file, int64_t tail_lines)
{
    struct scan scan = {.wanted = tail_lines};
    unsigned last = oldest(file);

    for (unsigned number = 0; number <= last; number++) {
        int fd = open_number(file, number);
        off_t from;

        if (fd < 0)
            continue;
        fl_fd_closep(&file->fd);
        file->fd = scan.fd = fd;
        from = find_tail(&scan, number == 0);
        (void)lseek(fd, from, SEEK_SET);
        if (scan.lines > scan.wanted)
            return;
    }
}

int fl_log_file_open(const char *folder, const char *name, int64_t tail_lines, bool timestamps,
                     struct fl_log_file **ret_file, struct fl_error *err)
{
    struct fl_log_file *file = fl_calloc(1, sizeof(*file));

    file->path = fl_asprintf("%s/%s", folder, name);
    file->timestamps = timestamps;
    if (tail_lines >= 0) {
        file->fd = -1;
        seek_tail(file, tail_lines);
    } else {
        file->fd = open_number(file, oldest(file));
    }
    if (file->fd < 0 && errno != ENOENT && errno != 0) {
        int r = fl_error_errno(err, errno, "open %s", file->path);

        fl_log_file_close(file);
        return r;
    }
    *ret_file = file;
    return 0;
}

void fl_log_file_close(struct fl_log_file *file)
{
    if (!file)
        return;
    fl_fd_closep(&file->fd);
    free(file->path);
    free(file);
}

/* > 0: more was read; 0: the end of this file; < 0: failed. */
static int read_more(struct fl_log_file *file)
{
    ssize_t n;

    if (file->begin > 0) {
        memmove(file->data, file->data + file->begin, file->end - file->begin);
        file->end -= file->begin;
        file->begin = 0;
    }
    if (file->end == sizeof(file->data)) /* no record is that long */
        file->end = 0;
    do
        n = read(file->fd, file->data + file->end, sizeof(file->data) - file->end);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        file->end += (size_t)n;
    return n < 0 ? -1 : n > 0;
}

/* The file after the one that was read to its end; false where that is the last. */
static bool open_next(struct fl_log_file *file)
{
    unsigned last = oldest(file), number = 0;
    int next;

    while (number <= last && !is_open_file(file, number))
        number++;
    if (number == 0)
        return false;
    next = open_number(file, number > last ? last : number - 1);
    if (next < 0)
        return false;
    (void)close(file->fd);
    file->fd = next;
    file->begin = file->end = 0; /* what was cut off stays so */
    return true;
}

static bool take_record(struct fl_log_file *file)
{
    const char *from = file->data + file->begin;
    const char *end = memchr(from, '\n', file->end - file->begin);
    size_t len;

    if (!end)
        return false;
    len = (size_t)(end - from);
    file->record = len + 1;
    file->text = from + (len < TEXT_AT ? len : TEXT_AT);
    file->text_len = len < TEXT_AT ? 0 : len - TEXT_AT;
    file->newline = len >= TEXT_AT && from[FLAG_AT] == 'F';
    file->time_left = file->timestamps && !file->in_line && len >= TEXT_AT ? TIME_LEN : 0;
    file->in_line = !file->newline;
    return true;
}

/* False: nothing more for now. */
static int next_record(struct fl_log_file *file)
{
    bool at_end = false;

    while (!take_record(file)) {
        int r;

        if (file->fd < 0) {
            file->fd = open_number(file, oldest(file));
            if (file->fd < 0)
                return 0;
        }
        r = read_more(file);
        if (r < 0)
            return -1;
        if (r > 0) {
            at_end = false;
            continue;
        }
        /* Once it has been rotated nobody writes to it any more, so that its second end is one. */
        if (at_end && !open_next(file))
            return 0;
        if (!at_end && is_open_file(file, 0))
            return 0;
        at_end = !at_end;
    }
    return 1;
}

static size_t give_time(struct fl_log_file *file, char *out, size_t size)
{
    const char *from = file->data + file->begin + (TIME_LEN - file->time_left);
    size_t n = file->time_left < size ? file->time_left : size;

    memcpy(out, from, n);
    file->time_left -= n;
    return n;
}

static size_t give(struct fl_log_file *file, char *out, size_t size)
{
    size_t n = file->text_len < size ? file->text_len : size;

    if (file->time_left > 0)
        return give_time(file, out, size);
    memcpy(out, file->text, n);
    file->text += n;
    file->text_len -= n;
    if (file->text_len > 0)
        return n;
    if (file->newline) {
        if (n == size)
            return n;
        out[n++] = '\n';
    }
    file->begin += file->record;
    file->text = NULL;
    return n;
}

int64_t fl_log_file_read(struct fl_log_file *file, void *out, size_t size, struct fl_error *err)
{
    char *to = out;
    size_t done = 0;

    while (done < size) {
        int r = file->text ? 1 : next_record(file);

        if (r < 0)
            return fl_error_errno(err, errno, "read %s", file->path);
        if (r == 0)
            break;
        done += give(file, to + done, size - done);
    }
    return (int64_t)done;
}
