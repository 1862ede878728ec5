/* Showing logs of builds. A follower looks again a few times a second: what it reads is a file that
 * another process writes. */
#include "reconcilers/imagebuild/build_log.h"

#include "lib/file.h"
#include "lib/process.h"
#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_MS     250
#define PATIENCE_MS 15000 /* for a build that is about to begin */
#define READ_BYTES  ((size_t)64 * 1024)
#define QUEUED_MAX  ((size_t)256 * 1024) /* then the reader is waited for */

struct fl_build_logs {
    const struct fl_env *env;
    struct fl_loop *loop;
    const char *folder;
    struct fl_builder *builder;
};

struct tail {
    struct fl_build_logs *logs;
    struct fl_api_stream *stream;
    struct fl_arena *arena;
    struct fl_timer *timer; /* of a follower */
    const char *path, *uid;
    int64_t attempt, patience_until_ms;
    int64_t skip_lines; /* of what was there at the beginning */
    bool follow, timestamps, is_final, was_under_way;
    int fd;
    struct fl_buf line; /* what has come of the next one */
};

static void tail_close(struct tail *tail)
{
    fl_timer_destroy(tail->timer);
    if (tail->fd >= 0)
        (void)close(tail->fd);
    fl_buf_finish(&tail->line);
    fl_arena_destroy(tail->arena);
    free(tail);
}

static void on_gone(void *user)
{
    tail_close(user);
}

static void end_stream(struct tail *tail)
{
    fl_api_stream_end(tail->stream);
    tail_close(tail);
}

/* --- lines --- */

/* A line begins with its time, which is shown to whoever asks for it. */
static bool show_line(struct tail *tail)
{
    const char *text = fl_buf_text(&tail->line), *space = strchr(text, ' ');
    size_t skip = !tail->timestamps && space ? (size_t)(space + 1 - text) : 0;

    if (tail->skip_lines > 0) {
        tail->skip_lines--;
        return true;
    }
    return fl_api_stream_write(tail->stream, text + skip, tail->line.len - skip);
}

static bool show(struct tail *tail, const char *data, size_t len)
{
    bool fits = true;

    for (size_t i = 0; fits && i < len; i++) {
        fl_buf_putc(&tail->line, data[i]);
        if (data[i] != '\n')
            continue;
        fits = show_line(tail);
        fl_buf_clear(&tail->line);
    }
    return fits;
}

/* --- files --- */

static int open_file(const char *path)
{
    return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

/* The file has got another name, or was removed. */
static bool was_rotated(const struct tail *tail)
{
    struct stat mine, current;

    return fstat(tail->fd, &mine) == 0 && stat(tail->path, &current) == 0 &&
           mine.st_ino != current.st_ino;
}

static ssize_t read_some(struct tail *tail, char *data)
{
    ssize_t n;

    if (tail->fd < 0)
        tail->fd = open_file(tail->path);
    if (tail->fd < 0)
        return 0;
    do {
        n = read(tail->fd, data, READ_BYTES);
    } while (n < 0 && errno == EINTR);
    if (n == 0 && was_rotated(tail)) {
        (void)close(tail->fd);
        tail->fd = open_file(tail->path);
        n = tail->fd < 0 ? 0 : read(tail->fd, data, READ_BYTES);
    }
    return n;
}

/* --- whether more is to come --- */

static bool is_under_way(const struct tail *tail, int64_t attempt)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_builder *builder = tail->logs->builder;
    struct fl_builder_known known = {0};

    return builder && attempt > 0 &&
           builder->ops->observe(builder, fl_build_attempt_key(arena, tail->uid, attempt), arena,
                                 &known, NULL) == 0 &&
           (known.state == FL_BUILDER_WAITING || known.state == FL_BUILDER_RUNNING);
}

/* The object said which attempt it was when the log was asked for; the next may have begun. */
static bool is_more_to_come(struct tail *tail)
{
    if (!tail->follow)
        return false;
    if (is_under_way(tail, tail->attempt) || is_under_way(tail, tail->attempt + 1)) {
        tail->was_under_way = true;
        return true;
    }
    return !tail->is_final && !tail->was_under_way &&
           fl_monotonic_ms(tail->logs->env) < tail->patience_until_ms;
}

/* False: the stream has ended. */
static bool pump(struct tail *tail)
{
    FL_CLEANUP(fl_freep) char *data = fl_malloc(READ_BYTES);
    bool more = is_more_to_come(tail); /* asked first: what is written until then is read */

    while (fl_api_stream_queued(tail->stream) < QUEUED_MAX) {
        ssize_t n = read_some(tail, data);

        if (n > 0 && show(tail, data, (size_t)n))
            continue;
        if (n != 0 || !more) {
            end_stream(tail);
            return false;
        }
        break;
    }
    return true;
}

static void on_timer(void *user)
{
    struct tail *tail = user;

    if (pump(tail))
        fl_timer_arm(tail->timer, LOOK_MS);
}

static void on_drained(void *user)
{
    (void)pump(user);
}

/* --- what is asked for --- */

static int64_t count_lines(const char *path)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    int64_t lines = 0;

    if (fl_file_read(path, 2 * FL_BUILD_LOG_MAX, &text, NULL) < 0)
        return 0;
    for (size_t i = 0; i < text->len; i++)
        lines += text->data[i] == '\n';
    return lines;
}

static const char *old_path(const struct tail *tail)
{
    return fl_arena_printf(tail->arena, "%s.1", tail->path);
}

static int read_query(struct tail *tail, const struct fl_api_stream *stream, struct fl_error *err)
{
    const char *lines = fl_api_stream_param(stream, "tailLines");
    int64_t wanted, there;

    tail->follow = fl_api_stream_flag(stream, "follow");
    tail->timestamps = fl_api_stream_flag(stream, "timestamps");
    if (fl_api_stream_flag(stream, "previous"))
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "the log of a build has all attempts: there is no previous one");
    if (!lines)
        return 0;
    if (!fl_str_to_int64(lines, 0, INT64_MAX, &wanted))
        return fl_error_set(err, FL_E_BAD_REQUEST, "tailLines must be a number, not below 0");
    there = count_lines(old_path(tail)) + count_lines(tail->path);
    tail->skip_lines = there > wanted ? there - wanted : 0;
    return 0;
}

static bool has_ended(const json_t *object)
{
    const json_t *condition;
    size_t i;

    json_array_foreach(fl_json_path(object, "status.conditions"), i, condition) {
        const char *type = fl_json_str(condition, "type");

        if (fl_streq(fl_json_str(condition, "status"), "True") &&
            (fl_streq(type, "Succeeded") || fl_streq(type, "Stalled")))
            return true;
    }
    return false;
}

static int open_log(struct tail *tail, const struct fl_api_stream *stream, struct fl_error *err)
{
    FL_JSON object = fl_object_parse(fl_api_stream_object(stream));
    const char *uid = fl_json_str(object, "metadata.uid");

    if (!uid || !*uid || strchr(uid, '/'))
        return fl_error_set(err, FL_E_NOT_FOUND, "the object has no uid");
    tail->uid = fl_arena_strdup(tail->arena, uid);
    tail->path = fl_build_log_path(tail->arena, tail->logs->folder, tail->uid);
    tail->attempt = fl_json_int(object, "status.attempts", 0);
    tail->is_final = has_ended(object);
    tail->patience_until_ms = fl_monotonic_ms(tail->logs->env) + PATIENCE_MS;
    tail->fd = open_file(old_path(tail));
    if (tail->fd < 0)
        tail->fd = open_file(tail->path);
    return read_query(tail, stream, err);
}

static void get_log(void *user, struct fl_api_stream *stream)
{
    struct tail *tail = fl_calloc(1, sizeof(*tail));
    struct fl_error err = {0};

    tail->logs = user;
    tail->arena = fl_arena_create();
    tail->fd = -1;
    fl_buf_init(&tail->line, 0);
    if (open_log(tail, stream, &err) < 0) {
        tail_close(tail);
        fl_api_stream_fail(stream, &err);
        return;
    }
    tail->stream = stream;
    fl_api_stream_on_gone(stream, on_gone, tail);
    fl_api_stream_begin(stream, "text/plain; charset=utf-8");
    fl_api_stream_on_drained(stream, on_drained, tail);
    if (tail->follow)
        tail->timer = fl_timer_create(tail->logs->loop, on_timer, tail);
    if (pump(tail) && tail->timer)
        fl_timer_arm(tail->timer, LOOK_MS);
}

struct fl_build_logs *fl_build_logs_create(const struct fl_env *env, struct fl_loop *loop,
                                           const char *folder)
{
    struct fl_build_logs *logs = fl_calloc(1, sizeof(*logs));

    logs->env = env;
    logs->loop = loop;
    logs->folder = folder;
    return logs;
}

void fl_build_logs_attach(struct fl_build_logs *logs, struct fl_builder *builder)
{
    logs->builder = builder;
}

void fl_build_logs_destroy(struct fl_build_logs *logs)
{
    free(logs);
}

struct fl_apiserver_subresource fl_build_logs_subresource(struct fl_build_logs *logs)
{
    return (struct fl_apiserver_subresource){
        .resource = "imagebuilds.flops.dev", .name = "log", .get = get_log, .user = logs};
}
