/* What happened in a run, written without a JSON library: the shim shall be small. */
#include "lib/buf.h"
#include "lib/process.h"
#include "lib/shim.h"
#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void put_text(struct fl_buf *out, const char *name, const char *text)
{
    if (!text)
        return;
    fl_buf_printf(out, ",\"%s\":", name);
    fl_buf_json_string(out, text, strlen(text));
}

static void put_status(struct fl_buf *out, const struct fl_shim_status *status)
{
    fl_buf_printf(out, "{\"version\":1,\"pid\":%" PRId64 ",\"startedUs\":%" PRId64, status->pid,
                  status->started_us);
    if (status->ended) {
        fl_buf_printf(out, ",\"endedUs\":%" PRId64 ",\"oomKilled\":%s", status->ended_us,
                      status->oom_killed ? "true" : "false");
        if (status->has_code)
            fl_buf_printf(out, ",\"code\":%" PRId64, status->code);
        put_text(out, "signal", status->signal);
        put_text(out, "reason", status->reason);
        put_text(out, "message", status->message);
        put_text(out, "logTail", status->log_tail);
    }
    fl_buf_puts(out, "}\n");
}

static int fill(int fd, const char *data, size_t len, bool durable)
{
    size_t total = len;

    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        data += n;
        len -= (size_t)n;
    }
    if (ftruncate(fd, (off_t)total) != 0 || (durable && fsync(fd) != 0))
        return errno;
    return 0;
}

static int sync_folder(const char *folder)
{
    FL_CLEANUP(fl_fd_closep) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd >= 0 && fsync(fd) == 0 ? 0 : errno;
}

/* The file to come lies there with its space from the beginning, so that how a run ended can be
 * written on a full disk too. A stale one is of no harm: it is overwritten, then renamed. */
int fl_shim_status_write(const char *folder, const struct fl_shim_status *status, bool durable,
                         struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/" FL_SHIM_STATUS, folder);
    FL_CLEANUP(fl_freep) char *next = fl_asprintf("%s.next", path);
    FL_CLEANUP(fl_fd_closep) int fd = open(next, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    struct fl_buf text;
    int r;

    if (fd < 0)
        return fl_error_errno(err, errno, "create %s", next);
    fl_buf_init(&text, 0);
    put_status(&text, status);
    r = fill(fd, text.data, text.len, durable);
    fl_buf_finish(&text);
    if (r == 0 && rename(next, path) != 0)
        r = errno;
    if (r == 0 && durable)
        r = sync_folder(folder);
    return r ? fl_error_errno(err, r, "write %s", path) : 0;
}
