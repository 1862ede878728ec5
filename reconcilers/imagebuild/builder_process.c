/* Builds in processes of their own, one at a time: who waits, and what is known of each. */
#include "reconcilers/imagebuild/build_child.h"
#include "reconcilers/imagebuild/builder_heard.h"

#include "lib/cgroup.h"
#include "lib/digest.h"
#include "lib/log.h"
#include "lib/map.h"
#include "lib/run.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define OUTPUT_MAX     ((size_t)64 * 1024 * 1024)
#define ERRORS_MAX     ((size_t)8 * 1024)
#define GRACE_MS       10000
#define TIMEOUT_MS     ((int64_t)30 * 60 * 1000)
#define SWEEPS         500
#define SWEEP_EVERY_MS 10

/* Fields are the lock's; `job` is the worker's while it runs. */
struct entry {
    struct entry *next; /* waiting */
    char *key;
    enum fl_builder_state state;
    int64_t started_us, ended_us;
    struct fl_error err;  /* FAILED */
    struct fl_bytes *job; /* the request; wiped when it was sent */
    char group[48];       /* the name of its control group */
    int64_t timeout_ms;
    struct fl_run_cancel *cancel;  /* while it runs */
    struct fl_builder_heard heard; /* from the child */
    bool forgotten;
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

static void job_free(struct fl_bytes *job)
{
    if (job)
        sodium_memzero(job->data, job->len);
    fl_bytes_unref(job);
}

static void entry_free(struct entry *entry)
{
    job_free(entry->job);
    fl_run_cancel_destroy(entry->cancel);
    fl_builder_heard_finish(&entry->heard);
    free(entry->key);
    free(entry);
}

static int64_t now_us(const struct process_builder *builder)
{
    return fl_realtime_us(builder->options.env);
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
        fl_builder_heard_take(&entry->heard, data, len, now_us(builder));
        key = entry->forgotten ? NULL : fl_strdup(entry->key);
    }
    if (key)
        builder->options.changed(builder->options.user, key);
    free(key);
}

/* The worker. */

static void settle(struct process_builder *builder, struct entry *entry,
                   const struct fl_run_result *result, int r, struct fl_error *err)
{
    const struct fl_builder_heard *heard = &entry->heard;

    if (r == FL_E_TIMEOUT)
        (void)fl_error_set(err, FL_E_TIMEOUT, "the build took longer than it may");
    else if (r == 0 && heard->answer == 0)
        r = fl_error_set(err, FL_E_INTERNAL,
                         "the builder ended without an answer (status %d, signal %d): %.300s",
                         result->status, result->signum, result->errors->data);
    entry->state = r < 0 ? FL_BUILDER_FAILED : heard->answer;
    entry->err = r < 0 ? *err : heard->err;
    entry->ended_us = now_us(builder);
    fl_run_cancel_destroy(FL_TAKE(entry->cancel));
}

/* What the child started and left, because it was killed or because that fled from it. Without the
 * lock. */
static void sweep(struct process_builder *builder, const struct entry *entry)
{
    FL_CLEANUP(fl_cgroups_destroyp)
    struct fl_cgroups *cgroups = fl_cgroups_detect("", FL_BUILD_GROUPS);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_cgroup_limits none = {0};
    struct fl_cgroup group;
    unsigned missing;

    if (!fl_cgroups_usable(cgroups) ||
        fl_cgroups_make(cgroups, entry->group, &none, arena, &group, &missing, NULL) < 0)
        return;
    for (int tries = 0; tries < SWEEPS && (fl_cgroup_kill(&group) || !fl_cgroup_remove(&group));
         tries++) {
        FL_LOCKED(builder->lock);
        (void)fl_signal_wait(builder->work, builder->lock, SWEEP_EVERY_MS);
    }
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
        .timeout_ms =
            entry->timeout_ms + (builder->options.grace_ms ? builder->options.grace_ms : GRACE_MS),
        .cancel = entry->cancel,
    };
    struct fl_run_result result;
    struct fl_error err = {0};
    char *key = NULL;
    int r;

    builder->running = entry;
    entry->state = FL_BUILDER_RUNNING;
    entry->started_us = now_us(builder);
    fl_lock_release(builder->lock);
    r = fl_run(&options, &result, &err);
    sweep(builder, entry);
    fl_lock_take(builder->lock);
    job_free(FL_TAKE(entry->job));
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

static int encode_job(const struct fl_build *build, const char *group, struct fl_bytes **ret_job,
                      struct fl_error *err)
{
    struct fl_build copy = *build;
    FL_JSON value = NULL;
    struct fl_bytes *job;

    copy.group = group;
    value = fl_build_encode(&copy);
    job = fl_json_to_bytes(value);
    fl_build_wipe(value);
    if (job->len > FL_BUILD_REQUEST_MAX) {
        job_free(job);
        return fl_error_set(err, FL_E_TOO_LARGE, "what a build is told has at most %zu bytes",
                            FL_BUILD_REQUEST_MAX);
    }
    *ret_job = job;
    return 0;
}

static void name_group(const char *key, char group[48])
{
    char digest[FL_DIGEST_SIZE];

    fl_digest_of(key, strlen(key), digest);
    (void)snprintf(group, 48, "build-%.32s", strchr(digest, ':') + 1);
}

static int process_start(struct fl_builder *self, const char *key, const struct fl_build *build,
                         struct fl_error *err)
{
    struct process_builder *builder = (struct process_builder *)self;
    struct fl_run_cancel *cancel = NULL;
    struct fl_bytes *job = NULL;
    struct entry *entry;
    char group[48];
    int r;

    FL_LOCKED(builder->lock);
    if (fl_map_get(builder->entries, key))
        return 0;
    name_group(key, group);
    r = encode_job(build, group, &job, err);
    if (r == 0)
        r = fl_run_cancel_create(&cancel, err);
    if (r < 0) {
        job_free(job);
        return r;
    }
    entry = fl_calloc(1, sizeof(*entry));
    entry->key = fl_strdup(key);
    entry->job = job;
    (void)memcpy(entry->group, group, sizeof(group));
    entry->cancel = cancel;
    entry->timeout_ms = build->timeout_ms ? build->timeout_ms : TIMEOUT_MS;
    entry->state = FL_BUILDER_WAITING;
    fl_builder_heard_init(&entry->heard);
    fl_map_put(builder->entries, key, entry);
    *builder->last = entry;
    builder->last = &entry->next;
    fl_signal_one(builder->work);
    return 0;
}

static struct fl_builder_result copy_result(const struct fl_builder_result *from,
                                            struct fl_arena *arena)
{
    struct fl_builder_result result = *from;

    result.commit = fl_arena_copy(arena, result.commit);
    result.backend = fl_arena_copy(arena, result.backend);
    result.digest = fl_arena_copy(arena, result.digest);
    result.key = fl_arena_copy(arena, result.key);
    result.sbom = fl_arena_copy(arena, result.sbom);
    result.provenance = fl_arena_copy(arena, result.provenance);
    result.signature = fl_arena_copy(arena, result.signature);
    for (size_t i = 0; i < result.platform_count; i++) {
        result.platforms[i].platform = fl_arena_copy(arena, result.platforms[i].platform);
        result.platforms[i].digest = fl_arena_copy(arena, result.platforms[i].digest);
    }
    return result;
}

static void show(const struct entry *entry, struct fl_arena *arena, struct fl_builder_known *known)
{
    const struct fl_builder_heard *heard = &entry->heard;

    *known = (struct fl_builder_known){.state = entry->state,
                                       .started_us = entry->started_us,
                                       .ended_us = entry->ended_us,
                                       .stage_count = heard->stage_count};
    for (size_t i = 0; i < heard->stage_count; i++) {
        known->stages[i] = heard->stages[i];
        known->stages[i].name = fl_arena_copy(arena, heard->stages[i].name);
        known->stages[i].message = fl_arena_copy(arena, heard->stages[i].message);
    }
    if (heard->tail.len > 0)
        known->log_tail = fl_arena_strdup(arena, fl_buf_text(&heard->tail));
    if (entry->state == FL_BUILDER_DONE)
        known->result = copy_result(&heard->result, arena);
    if (entry->state != FL_BUILDER_FAILED)
        return;
    known->failed_stage = fl_arena_copy(arena, heard->failed_stage);
    known->err = entry->err;
}

static int process_observe(struct fl_builder *self, const char *key, struct fl_arena *arena,
                           struct fl_builder_known *ret_known, struct fl_error *err)
{
    struct process_builder *builder = (struct process_builder *)self;
    const struct entry *entry;

    (void)err;
    FL_LOCKED(builder->lock);
    entry = fl_map_get(builder->entries, key);
    if (entry)
        show(entry, arena, ret_known);
    else
        *ret_known = (struct fl_builder_known){0};
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
