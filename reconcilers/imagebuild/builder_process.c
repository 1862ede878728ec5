/* Builds in processes of their own, one at a time: who waits, and what is known of each. */
#include "reconcilers/imagebuild/build_child.h"

#include "lib/log.h"
#include "lib/map.h"
#include "lib/run.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <inttypes.h>
#include <sodium.h>
#include <string.h>

#define OUTPUT_MAX ((size_t)64 * 1024 * 1024)
#define ERRORS_MAX ((size_t)8 * 1024)
#define GRACE_MS   10000
#define TIMEOUT_MS ((int64_t)30 * 60 * 1000)
#define TAIL_MAX   ((size_t)4 * 1024)

/* Fields are the lock's; `job` is the worker's while it runs. */
struct entry {
    struct entry *next; /* waiting */
    char *key;
    struct fl_arena *arena; /* of all texts of `known` */
    struct fl_builder_known known;
    struct fl_bytes *job; /* the request; wiped when it was sent */
    int64_t timeout_ms;
    struct fl_run_cancel *cancel; /* while it runs */
    struct fl_buf line, tail;     /* the worker's: what has come of a line; the lock's */
    bool answered, forgotten;
};

struct process_builder {
    struct fl_builder base;
    struct fl_builder_options options;
    struct fl_lock *lock;
    struct fl_signal *work;
    struct fl_map *entries; /* of those not forgotten */
    struct entry *first, **last;
    struct entry *running;
    struct fl_thread *thread;
    bool closing;
};

static void entry_free(struct entry *entry)
{
    if (entry->job)
        sodium_memzero(entry->job->data, entry->job->len);
    fl_bytes_unref(entry->job);
    fl_run_cancel_destroy(entry->cancel);
    fl_buf_finish(&entry->line);
    fl_buf_finish(&entry->tail);
    fl_arena_destroy(entry->arena);
    free(entry->key);
    free(entry);
}

static int64_t now_us(const struct process_builder *builder)
{
    return fl_realtime_us(builder->options.env);
}

/* What the child says; with the lock. */

static struct fl_builder_stage *stage_named(struct fl_builder_known *known, const char *name)
{
    for (size_t i = 0; i < known->stage_count; i++)
        if (fl_streq(known->stages[i].name, name))
            return &known->stages[i];
    return NULL;
}

/* A stage may run several times, once a platform: it has begun with the first, and its state is the
 * last's, but that what was made once is not said to have been there. */
static void hear_stage(struct process_builder *builder, struct entry *entry, const json_t *value)
{
    enum fl_stage_state state = fl_stage_state_parse(fl_json_str(value, "state"));
    const char *name = fl_json_str(value, "stage"), *message = fl_json_str(value, "message");
    struct fl_builder_stage *stage = stage_named(&entry->known, name);

    if (state == 0 || strlen(name) > 63)
        return;
    if (!stage) {
        if (entry->known.stage_count == FL_BUILD_STAGES_MAX)
            return;
        stage = &entry->known.stages[entry->known.stage_count++];
        *stage = (struct fl_builder_stage){.name = fl_arena_strdup(entry->arena, name),
                                           .started_us = now_us(builder)};
    }
    if (!(state == FL_STAGE_CACHED && stage->state == FL_STAGE_DONE))
        stage->state = state;
    stage->message = message ? fl_arena_strndup(entry->arena, message,
                                                fl_utf8_cut(message, strlen(message), 1000))
                             : NULL;
    if (state != FL_STAGE_RUNNING)
        stage->took_ms = (now_us(builder) - stage->started_us) / 1000;
}

static void hear_log(struct entry *entry, const char *line)
{
    if (entry->tail.len + strlen(line) + 1 > TAIL_MAX)
        fl_buf_clear(&entry->tail);
    fl_buf_puts(&entry->tail, line);
    fl_buf_putc(&entry->tail, '\n');
}

static void hear_error(struct entry *entry, const json_t *error)
{
    const char *stage = fl_json_str(error, "stage");

    entry->known.state = FL_BUILDER_FAILED;
    entry->known.failed_stage = stage ? fl_arena_strdup(entry->arena, stage) : NULL;
    (void)fl_error_set(&entry->known.err, fl_error_from_status(fl_json_str(error, "code"), 500),
                       "%s", fl_str_or(fl_json_str(error, "message"), "no message"));
}

static void hear_line(struct process_builder *builder, struct entry *entry, const char *text,
                      size_t len)
{
    FL_JSON value = NULL;
    struct fl_error err = {0};

    if (fl_json_parse(text, len, NULL, NULL, NULL, &value, NULL) < 0)
        return;
    if (fl_json_str(value, "stage")) {
        hear_stage(builder, entry, value);
    } else if (fl_json_str(value, "log")) {
        hear_log(entry, fl_json_str(value, "log"));
    } else if (json_object_get(value, "error")) {
        entry->answered = true;
        hear_error(entry, json_object_get(value, "error"));
    } else if (json_object_get(value, "result")) {
        entry->answered = true;
        entry->known.state = FL_BUILDER_DONE;
        if (fl_builder_result_parse(json_object_get(value, "result"), entry->arena,
                                    &entry->known.result, &err) < 0) {
            entry->known.state = FL_BUILDER_FAILED;
            entry->known.err = err;
        }
    }
}

struct hearing {
    struct process_builder *builder;
    struct entry *entry;
};

static void on_output(void *user, const char *data, size_t len)
{
    const struct hearing *hearing = user;
    struct process_builder *builder = hearing->builder;
    struct entry *entry = hearing->entry;
    char *key;

    {
        FL_LOCKED(builder->lock);
        for (size_t i = 0; i < len; i++) {
            if (data[i] != '\n') {
                fl_buf_putc(&entry->line, data[i]);
                continue;
            }
            if (!entry->line.overflow)
                hear_line(builder, entry, fl_buf_text(&entry->line), entry->line.len);
            fl_buf_clear(&entry->line);
        }
        key = entry->forgotten ? NULL : fl_strdup(entry->key);
    }
    if (key)
        builder->options.changed(builder->options.user, key);
    free(key);
}

/* The worker. */

static void fail(struct entry *entry, const struct fl_error *err)
{
    entry->known.state = FL_BUILDER_FAILED;
    entry->known.err = *err;
}

static void settle(struct process_builder *builder, struct entry *entry,
                   const struct fl_run_result *result, int r, struct fl_error *err)
{
    if (r == FL_E_TIMEOUT)
        (void)fl_error_set(err, FL_E_TIMEOUT, "the build took longer than it may");
    else if (r == 0 && !entry->answered)
        r = fl_error_set(err, FL_E_INTERNAL,
                         "the builder ended without an answer (status %d, signal %d): %.300s",
                         result->status, result->signum, result->errors->data);
    if (r < 0)
        fail(entry, err);
    entry->known.ended_us = now_us(builder);
    fl_run_cancel_destroy(FL_TAKE(entry->cancel));
}

/* With the lock, which is given back while the child runs. */
static void work_on(struct process_builder *builder, struct entry *entry)
{
    static const char *const argv[] = {"flops", FL_BUILD_CHILD_COMMAND, NULL};
    struct hearing hearing = {builder, entry};
    struct fl_run_options options = {
        .program = FL_RUN_SELF,
        .argv = argv,
        .input = entry->job->data,
        .input_len = entry->job->len,
        .output_max = OUTPUT_MAX,
        .errors_max = ERRORS_MAX,
        .heard = on_output,
        .user = &hearing,
        .timeout_ms = entry->timeout_ms + GRACE_MS,
        .cancel = entry->cancel,
    };
    struct fl_run_result result;
    struct fl_error err = {0};
    char *key = NULL;
    int r;

    builder->running = entry;
    entry->known.state = FL_BUILDER_RUNNING;
    entry->known.started_us = now_us(builder);
    fl_lock_release(builder->lock);
    r = fl_run(&options, &result, &err);
    fl_lock_take(builder->lock);
    settle(builder, entry, &result, r, &err);
    fl_run_result_finish(&result);
    builder->running = NULL;
    if (entry->forgotten)
        entry_free(entry);
    else
        key = fl_strdup(entry->key);
    fl_lock_release(builder->lock);
    if (key)
        builder->options.changed(builder->options.user, key);
    free(key);
    fl_lock_take(builder->lock);
}

static struct entry *take_first(struct process_builder *builder)
{
    struct entry *entry = builder->first;

    builder->first = entry->next;
    if (!builder->first)
        builder->last = &builder->first;
    entry->next = NULL;
    return entry;
}

static void worker(void *user)
{
    struct process_builder *builder = user;

    FL_LOCKED(builder->lock);
    while (!builder->closing) {
        if (builder->first)
            work_on(builder, take_first(builder));
        else
            (void)fl_signal_wait(builder->work, builder->lock, -1);
    }
}

/* The table. */

static int encode_job(const struct fl_build *build, struct fl_bytes **ret_job, struct fl_error *err)
{
    FL_JSON value = fl_build_encode(build);
    struct fl_bytes *job = fl_json_to_bytes(value);

    fl_build_wipe(value);
    if (job->len > FL_BUILD_REQUEST_MAX) {
        sodium_memzero(job->data, job->len);
        fl_bytes_unref(job);
        return fl_error_set(err, FL_E_TOO_LARGE, "what a build is told has at most %zu bytes",
                            FL_BUILD_REQUEST_MAX);
    }
    *ret_job = job;
    return 0;
}

static int process_start(struct fl_builder *self, const char *key, const struct fl_build *build,
                         struct fl_error *err)
{
    struct process_builder *builder = (struct process_builder *)self;
    struct fl_run_cancel *cancel = NULL;
    struct fl_bytes *job = NULL;
    struct entry *entry;
    int r;

    FL_LOCKED(builder->lock);
    if (fl_map_get(builder->entries, key))
        return 0;
    r = encode_job(build, &job, err);
    if (r == 0)
        r = fl_run_cancel_create(&cancel, err);
    if (r < 0) {
        if (job)
            sodium_memzero(job->data, job->len);
        fl_bytes_unref(job);
        return r;
    }
    entry = fl_calloc(1, sizeof(*entry));
    entry->key = fl_strdup(key);
    entry->arena = fl_arena_create();
    entry->job = job;
    entry->cancel = cancel;
    entry->timeout_ms = build->timeout_ms ? build->timeout_ms : TIMEOUT_MS;
    entry->known.state = FL_BUILDER_WAITING;
    fl_buf_init(&entry->line, FL_BUILD_LINE_MAX);
    fl_buf_init(&entry->tail, 0);
    fl_map_put(builder->entries, key, entry);
    *builder->last = entry;
    builder->last = &entry->next;
    fl_signal_one(builder->work);
    return 0;
}

static void copy_known(struct fl_builder_known *known, struct fl_arena *arena)
{
    struct fl_builder_result *result = &known->result;

    for (size_t i = 0; i < known->stage_count; i++) {
        known->stages[i].name = fl_arena_copy(arena, known->stages[i].name);
        known->stages[i].message = fl_arena_copy(arena, known->stages[i].message);
    }
    known->failed_stage = fl_arena_copy(arena, known->failed_stage);
    result->commit = fl_arena_copy(arena, result->commit);
    result->backend = fl_arena_copy(arena, result->backend);
    result->digest = fl_arena_copy(arena, result->digest);
    for (size_t i = 0; i < result->platform_count; i++) {
        result->platforms[i].platform = fl_arena_copy(arena, result->platforms[i].platform);
        result->platforms[i].digest = fl_arena_copy(arena, result->platforms[i].digest);
    }
}

static int process_observe(struct fl_builder *self, const char *key, struct fl_arena *arena,
                           struct fl_builder_known *ret_known, struct fl_error *err)
{
    struct process_builder *builder = (struct process_builder *)self;
    const struct entry *entry;

    (void)err;
    FL_LOCKED(builder->lock);
    entry = fl_map_get(builder->entries, key);
    *ret_known = (struct fl_builder_known){0};
    if (!entry)
        return 0;
    *ret_known = entry->known;
    copy_known(ret_known, arena);
    if (entry->tail.len > 0)
        ret_known->log_tail = fl_arena_strdup(arena, fl_buf_text(&entry->tail));
    return 0;
}

static void unlink_waiting(struct process_builder *builder, const struct entry *entry)
{
    struct entry **at = &builder->first;

    while (*at && *at != entry)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = entry->next;
    if (builder->last == &entry->next)
        builder->last = at;
}

static int process_forget(struct fl_builder *self, const char *key, struct fl_error *err)
{
    struct process_builder *builder = (struct process_builder *)self;
    struct entry *entry;

    (void)err;
    FL_LOCKED(builder->lock);
    entry = fl_map_take(builder->entries, key);
    if (!entry)
        return 0;
    if (entry == builder->running) {
        entry->forgotten = true; /* the worker frees it */
        fl_run_cancel(entry->cancel);
        return 0;
    }
    unlink_waiting(builder, entry);
    entry_free(entry);
    return 0;
}

static void process_destroy(struct fl_builder *self)
{
    struct process_builder *builder = (struct process_builder *)self;
    void *cursor = NULL, *entry;

    if (!builder)
        return;
    {
        FL_LOCKED(builder->lock);
        builder->closing = true;
        if (builder->running && !builder->running->forgotten)
            fl_run_cancel(builder->running->cancel);
        fl_signal_all(builder->work);
    }
    fl_thread_join(builder->thread);
    while (fl_map_next(builder->entries, &cursor, NULL, &entry))
        entry_free(entry);
    fl_map_destroy(builder->entries);
    fl_signal_destroy(builder->work);
    fl_lock_destroy(builder->lock);
    free(builder);
}

int fl_builder_process_create(const struct fl_builder_options *options,
                              struct fl_builder **ret_builder, struct fl_error *err)
{
    static const struct fl_builder_ops ops = {.destroy = process_destroy,
                                              .start = process_start,
                                              .observe = process_observe,
                                              .forget = process_forget};
    struct process_builder *builder = fl_calloc(1, sizeof(*builder));
    int r;

    builder->base.ops = &ops;
    builder->options = *options;
    builder->lock = fl_lock_create();
    builder->work = fl_signal_create();
    builder->entries = fl_map_create(NULL);
    builder->last = &builder->first;
    r = fl_thread_start("builder", worker, builder, &builder->thread, err);
    if (r < 0) {
        process_destroy(&builder->base);
        return r;
    }
    *ret_builder = &builder->base;
    return 0;
}
