#include "lib/buf.h"
#include "lib/rotating_file.h"
#include "lib/shim_internal.h"
#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINE_MAX    ((size_t)16 * 1024) /* longer ones are written in parts */
#define BATCH_MAX   ((size_t)64 * 1024) /* of records written together */
#define RECORD_REST 11                  /* what a record has beside its time and text */

struct line {
    char *data; /* NULL until something is written */
    size_t len;
};

struct fl_shim_output {
    char *path;
    size_t max_bytes;
    unsigned kept;
    struct fl_rotating_file *file; /* NULL: to be opened */
    int64_t lost;
    struct line lines[FL_SHIM_STREAMS];
    struct fl_buf batch; /* whole records that are not written yet, never beyond one take */
    size_t batch_max;    /* of this one */
    int64_t batch_lines;
    char time[80]; /* of the take */
    char tail[FL_SHIM_TAIL_MAX];
    size_t tail_len;
    bool tail_cut;
};

struct fl_shim_output *fl_shim_output_create(const struct fl_shim_spec *spec)
{
    struct fl_shim_output *output = fl_calloc(1, sizeof(*output));

    output->path = fl_asprintf("%s/" FL_SHIM_LOG, spec->folder);
    output->max_bytes = spec->log_max_bytes > 0 ? (size_t)spec->log_max_bytes : SIZE_MAX / 2;
    output->kept = spec->log_files > 1 ? (unsigned)spec->log_files - 1 : 0;
    fl_buf_init(&output->batch, 0);
    (void)fl_rotating_file_open(output->path, output->max_bytes, output->kept, &output->file, NULL);
    return output;
}

void fl_shim_output_destroy(struct fl_shim_output *output)
{
    if (!output)
        return;
    fl_rotating_file_close(output->file);
    for (size_t i = 0; i < FL_COUNT_OF(output->lines); i++)
        free(output->lines[i].data);
    fl_buf_finish(&output->batch);
    free(output->path);
    free(output);
}

static void remember(struct fl_shim_output *output, const char *data, size_t len)
{
    size_t over;

    if (len > sizeof(output->tail)) {
        data += len - sizeof(output->tail);
        len = sizeof(output->tail);
        output->tail_cut = true;
    }
    over = output->tail_len + len > sizeof(output->tail)
               ? output->tail_len + len - sizeof(output->tail)
               : 0;
    if (over > 0) {
        memmove(output->tail, output->tail + over, output->tail_len - over);
        output->tail_len -= over;
        output->tail_cut = true;
    }
    memcpy(output->tail + output->tail_len, data, len);
    output->tail_len += len;
}

static void note_time(struct fl_shim_output *output)
{
    struct timespec now;
    struct tm utc;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &utc);
    (void)snprintf(output->time, sizeof(output->time), "%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ",
                   utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
                   utc.tm_sec, now.tv_nsec);
}

static bool write_out(struct fl_shim_output *output, const struct fl_buf *records)
{
    if (!output->file && fl_rotating_file_open(output->path, output->max_bytes, output->kept,
                                               &output->file, NULL) < 0)
        return false;
    return fl_rotating_file_write(output->file, records->data, records->len, NULL) == 0;
}

static void put_record(const struct fl_shim_output *output, struct fl_buf *out, unsigned stream,
                       char flag, const char *data, size_t len)
{
    fl_buf_puts(out, output->time);
    fl_buf_puts(out, stream == FL_SHIM_STDOUT ? " stdout " : " stderr ");
    fl_buf_putc(out, flag);
    fl_buf_putc(out, ' ');
    fl_buf_append(out, data, len);
    fl_buf_putc(out, '\n');
}

/* What a full disk swallowed is told when there is room again: a log must not look whole when it is
 * not. */
static void tell_loss(struct fl_shim_output *output)
{
    char text[96];
    int n =
        snprintf(text, sizeof(text), "[%" PRId64 " lines could not be written here]", output->lost);
    struct fl_buf record;

    fl_buf_init(&record, 0);
    put_record(output, &record, FL_SHIM_STDERR, 'F', text, (size_t)n);
    if (write_out(output, &record))
        output->lost = 0;
    fl_buf_finish(&record);
}

static void write_batch(struct fl_shim_output *output)
{
    if (output->batch.len == 0)
        return;
    if (output->lost > 0)
        tell_loss(output);
    if (output->lost > 0 || !write_out(output, &output->batch))
        output->lost += output->batch_lines;
    fl_buf_clear(&output->batch);
    output->batch_lines = 0;
}

/* As if each record were written alone: a batch ends where the file does. */
static void make_room(struct fl_shim_output *output, size_t record_len)
{
    size_t room;

    if (output->batch.len > 0 && output->batch.len + record_len > output->batch_max)
        write_batch(output);
    if (output->batch.len > 0)
        return;
    room = output->file ? fl_rotating_file_room(output->file) : output->max_bytes;
    if (record_len > room) /* begins a file */
        room = output->max_bytes;
    output->batch_max = room < BATCH_MAX ? room : BATCH_MAX;
}

/* A call of the kernel for each line would hold up a program that prints much. */
static void flush(struct fl_shim_output *output, unsigned stream, char flag)
{
    struct line *line = &output->lines[stream];

    make_room(output, strlen(output->time) + line->len + RECORD_REST);
    put_record(output, &output->batch, stream, flag, line->data, line->len);
    output->batch_lines++;
    line->len = 0;
}

static void append(struct fl_shim_output *output, unsigned stream, const char *data, size_t len)
{
    struct line *line = &output->lines[stream];

    if (!line->data)
        line->data = fl_malloc(LINE_MAX);
    while (len > 0) {
        size_t room = LINE_MAX - line->len, n = len < room ? len : room;

        memcpy(line->data + line->len, data, n);
        line->len += n;
        data += n;
        len -= n;
        if (line->len == LINE_MAX)
            flush(output, stream, 'P');
    }
}

static void take_lines(struct fl_shim_output *output, unsigned stream, const char *data, size_t len)
{
    while (len > 0) {
        const char *end = memchr(data, '\n', len);
        size_t n = end ? (size_t)(end - data) : len;

        append(output, stream, data, n);
        if (!end)
            return;
        flush(output, stream, 'F');
        data += n + 1;
        len -= n + 1;
    }
}

void fl_shim_output_take(struct fl_shim_output *output, unsigned stream, const char *data,
                         size_t len)
{
    remember(output, data, len);
    note_time(output);
    take_lines(output, stream, data, len);
    write_batch(output);
}

void fl_shim_output_finish(struct fl_shim_output *output)
{
    note_time(output);
    for (unsigned i = 0; i < FL_SHIM_STREAMS; i++)
        if (output->lines[i].len > 0)
            flush(output, i, 'P');
    write_batch(output);
    if (output->lost > 0)
        tell_loss(output);
}

char *fl_shim_output_tail(const struct fl_shim_output *output)
{
    const char *from = output->tail, *line;
    size_t len = output->tail_len;
    char *text;

    line = output->tail_cut ? memchr(from, '\n', len) : NULL;
    if (line && line + 1 < from + len) {
        len -= (size_t)(line + 1 - from);
        from = line + 1;
    }
    if (len == 0)
        return NULL;
    text = fl_strndup("", 0);
    text = fl_realloc(text, len + 1);
    for (size_t i = 0; i < len; i++)
        text[i] = from[i] ? from[i] : '?';
    text[len] = '\0';
    return text;
}
