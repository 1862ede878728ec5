#include "reconcilers/workload/workload_log.h"

#include "lib/str.h"
#include "lib/thread.h"

#include <stdio.h>

#define READ_BYTES ((size_t)64 * 1024)
#define QUEUED_MAX ((size_t)256 * 1024) /* then the reader is waited for */

struct fl_workload_logs {
    struct fl_loop *loop;
    struct fl_orchestrators *orchestrators;
};

/* One reader of one instance's output. The driver may wake it from any thread at any time until the
 * log is closed: so the loop is asked at most once at a time, and the tail is freed only when no
 * such question is under way. */
struct tail {
    struct fl_workload_logs *logs;
    struct fl_api_stream *stream; /* NULL: gone or ended */
    struct fl_orchestrator_driver *driver;
    struct fl_log_reader *reader;
    bool follow;
    struct fl_lock *lock; /* the rest */
    bool asked;           /* the loop will look */
};

static void pump(struct tail *tail);

static void tail_free(struct tail *tail)
{
    fl_lock_destroy(tail->lock);
    free(tail);
}

/* After it the driver wakes nobody any more; a question that is under way finds no stream. */
static void tail_close(struct tail *tail)
{
    bool asked;

    tail->stream = NULL;
    if (tail->reader)
        tail->driver->ops->log_close(FL_TAKE(tail->reader));
    if (tail->driver)
        fl_orchestrators_put(tail->logs->orchestrators, FL_TAKE(tail->driver));
    fl_lock_take(tail->lock);
    asked = tail->asked;
    fl_lock_release(tail->lock);
    if (!asked)
        tail_free(tail);
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

static void look(void *user)
{
    struct tail *tail = user;

    fl_lock_take(tail->lock);
    tail->asked = false;
    fl_lock_release(tail->lock);
    if (tail->stream)
        pump(tail);
    else
        tail_free(tail);
}

/* Any thread. */
static void on_more(void *user)
{
    struct tail *tail = user;
    bool first;

    fl_lock_take(tail->lock);
    first = !tail->asked;
    tail->asked = true;
    fl_lock_release(tail->lock);
    if (first)
        fl_loop_post(tail->logs->loop, look, tail);
}

static void pump(struct tail *tail)
{
    FL_CLEANUP(fl_freep) char *data = fl_malloc(READ_BYTES);
    bool ended = false;

    while (fl_api_stream_queued(tail->stream) < QUEUED_MAX) {
        int64_t n = tail->driver->ops->log_read(tail->reader, data, READ_BYTES, &ended, NULL);

        if (n < 0 || (n > 0 && !fl_api_stream_write(tail->stream, data, (size_t)n))) {
            end_stream(tail);
            return;
        }
        if (n > 0)
            continue;
        if (ended || !tail->follow)
            end_stream(tail);
        return;
    }
}

static void on_drained(void *user)
{
    pump(user);
}

/* What is asked for */

static int read_query(const struct fl_api_stream *stream, const json_t *workload,
                      struct fl_log_query *ret_query, struct fl_error *err)
{
    const char *instance = fl_api_stream_param(stream, "instance");
    const char *lines = fl_api_stream_param(stream, "tailLines");

    *ret_query = (struct fl_log_query){
        .id = {.workload_uid = fl_json_str(workload, "metadata.uid")},
        .previous = fl_api_stream_flag(stream, "previous"),
        .tail_lines = -1,
        .timestamps = fl_api_stream_flag(stream, "timestamps"),
    };
    if (instance && !fl_str_to_int64(instance, 0, 1000000, &ret_query->id.index))
        return fl_error_set(err, FL_E_BAD_REQUEST, "instance must be a number, not below 0");
    if (lines && !fl_str_to_int64(lines, 0, INT64_MAX, &ret_query->tail_lines))
        return fl_error_set(err, FL_E_BAD_REQUEST, "tailLines must be a number, not below 0");
    return 0;
}

static int open_log(struct tail *tail, const struct fl_api_stream *stream, struct fl_error *err)
{
    FL_JSON workload = fl_object_parse(fl_api_stream_object(stream));
    const char *orchestrator = fl_str_or(fl_json_str(workload, "spec.orchestrator"), "local");
    struct fl_log_query query;
    int r = read_query(stream, workload, &query, err);

    if (r < 0)
        return r;
    tail->driver = fl_orchestrators_get(tail->logs->orchestrators, orchestrator);
    if (!tail->driver)
        return fl_error_set(err, FL_E_UNAVAILABLE, "orchestrator \"%s\" is not ready",
                            orchestrator);
    if (!tail->driver->ops->log_open)
        return fl_error_set(err, FL_E_BAD_REQUEST, "orchestrator \"%s\" keeps no logs",
                            orchestrator);
    return tail->driver->ops->log_open(tail->driver, &query, on_more, tail, &tail->reader, err);
}

static void get_log(void *user, struct fl_api_stream *stream)
{
    struct tail *tail = fl_calloc(1, sizeof(*tail));
    struct fl_error err = {0};

    tail->logs = user;
    tail->lock = fl_lock_create();
    tail->follow = fl_api_stream_flag(stream, "follow");
    if (open_log(tail, stream, &err) < 0) {
        tail_close(tail);
        fl_api_stream_fail(stream, &err);
        return;
    }
    tail->stream = stream;
    fl_api_stream_on_gone(stream, on_gone, tail);
    fl_api_stream_begin(stream, "text/plain; charset=utf-8");
    fl_api_stream_on_drained(stream, on_drained, tail);
    pump(tail);
}

struct fl_workload_logs *fl_workload_logs_create(struct fl_loop *loop,
                                                 struct fl_orchestrators *orchestrators)
{
    struct fl_workload_logs *logs = fl_calloc(1, sizeof(*logs));

    logs->loop = loop;
    logs->orchestrators = orchestrators;
    return logs;
}

void fl_workload_logs_destroy(struct fl_workload_logs *logs)
{
    free(logs);
}

struct fl_apiserver_subresource fl_workload_logs_subresource(struct fl_workload_logs *logs)
{
    return (struct fl_apiserver_subresource){
        .resource = "workloads.flops.dev", .name = "log", .get = get_log, .user = logs};
}
