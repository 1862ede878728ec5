#include "reconcilers/imagebuild/build_log.h"

#include "lib/file.h"
#include "lib/rotating_file.h"
#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define OLD_FILES 1

const char *fl_build_log_path(struct fl_arena *arena, const char *folder, const char *uid)
{
    return fl_arena_printf(arena, "%s/logs/%s.log", folder, uid);
}

const char *fl_build_attempt_key(struct fl_arena *arena, const char *uid, int64_t attempt)
{
    return fl_arena_printf(arena, "%s-%" PRId64, uid, attempt);
}

void fl_build_log_remove(const char *path)
{
    for (unsigned i = 1; i <= OLD_FILES; i++) {
        FL_CLEANUP(fl_freep) char *old = fl_asprintf("%s.%u", path, i);

        (void)unlink(old);
    }
    (void)unlink(path);
}

/* --- writing --- */

struct fl_build_log {
    const struct fl_env *env;
    struct fl_rotating_file *file;
    struct fl_buf line;
};

static int ensure_folder(const char *path, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *folder = fl_strdup(path);
    char *slash = strrchr(folder, '/');

    if (!slash)
        return 0;
    *slash = '\0';
    return fl_dir_ensure(folder, 0700, err);
}

int fl_build_log_open(const struct fl_env *env, const char *path, struct fl_build_log **ret_log,
                      struct fl_error *err)
{
    struct fl_rotating_file *file = NULL;
    struct fl_build_log *log;
    int r = ensure_folder(path, err);

    if (r == 0)
        r = fl_rotating_file_open(path, FL_BUILD_LOG_MAX, OLD_FILES, &file, err);
    if (r < 0)
        return r;
    log = fl_calloc(1, sizeof(*log));
    log->env = env;
    log->file = file;
    fl_buf_init(&log->line, 0);
    *ret_log = log;
    return 0;
}

/* What strangers' programs say goes to a terminal in the end: no control characters. */
void fl_build_log_line(struct fl_build_log *log, const char *text)
{
    char time[FL_TIME_SIZE];

    if (!log)
        return;
    fl_time_format_micro(fl_realtime_us(log->env), time);
    fl_buf_clear(&log->line);
    fl_buf_printf(&log->line, "%s ", time);
    for (const char *c = text; *c; c++)
        fl_buf_putc(&log->line, (unsigned char)*c < ' ' && *c != '\t' ? ' ' : *c);
    fl_buf_putc(&log->line, '\n');
    (void)fl_rotating_file_write(log->file, log->line.data, log->line.len, NULL);
}

void fl_build_log_close(struct fl_build_log *log)
{
    if (!log)
        return;
    fl_rotating_file_close(log->file);
    fl_buf_finish(&log->line);
    free(log);
}
