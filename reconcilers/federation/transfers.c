#include "reconcilers/federation/transfers.h"

#include "lib/map.h"
#include "lib/process.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "workloads/tensor/safetensors.h"
#include "workloads/transfer/bulk_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

#define THREADS     4
#define MODEL_MAX   (INT64_C(8) << 30)
#define QUIET_MS    10000 /* a root that says nothing for so long has failed */
#define TRIES       3     /* in a row; who asks tries again, more slowly */
#define DEADLINE_MS (INT64_C(60) * 60 * 1000)
#define ANSWER_MAX  ((size_t)64 * 1024)
#define SHORT_MS    10000
#define WAITING_MAX 10000 /* transfers that are known of */

struct job {
    char *key;
    struct fl_transfers *transfers;
    struct fl_arena *arena;
    struct fl_transfer_order order; /* in the arena */
    STAILQ_ENTRY(job) waiting;
    bool running, over, dropped;
    struct fl_bulk_client *bulk; /* behind the lock, as long as it is used */
    int64_t done, all;
    int result;
    struct fl_error err;
    char digest[FL_DIGEST_SIZE];
};

struct fl_transfers {
    struct fl_transfers_options options;
    struct fl_thread *threads[THREADS];
    struct fl_lock *lock;
    struct fl_signal *wake;
    struct fl_map *jobs; /* key -> struct job; dropped ones are their thread's */
    STAILQ_HEAD(, job) waiting;
    bool ending;
};

static void job_free(void *value)
{
    struct job *job = value;

    if (!job)
        return;
    fl_arena_destroy(job->arena);
    free(job->key);
    free(job);
}

static struct job *new_job(struct fl_transfers *transfers, const char *key,
                           const struct fl_transfer_order *order)
{
    struct job *job = fl_calloc(1, sizeof(*job));
    struct fl_arena *arena = job->arena = fl_arena_create();
    const struct fl_federation_at *at = &order->at;

    job->transfers = transfers;
    job->key = fl_strdup(key);
    job->order = *order;
    job->order.what = fl_arena_copy(arena, order->what);
    job->order.at = (struct fl_federation_at){.project_uid = fl_arena_copy(arena, at->project_uid),
                                              .ns = fl_arena_copy(arena, at->ns),
                                              .name = fl_arena_copy(arena, at->name),
                                              .address = fl_arena_copy(arena, at->address),
                                              .token = fl_arena_copy(arena, at->token),
                                              .ca = fl_arena_copy(arena, at->ca)};
    return job;
}

/* On a transfer's thread. */

static bool is_broken_off(struct job *job)
{
    FL_LOCKED(job->transfers->lock);
    return job->dropped || job->transfers->ending;
}

static void note_progress(void *user, int64_t done, int64_t all)
{
    struct job *job = user;
    FL_LOCKED(job->transfers->lock);

    job->done = done;
    job->all = all > 0 ? all : 0;
}

static struct fl_http_client_options root_of(const struct job *job)
{
    return (struct fl_http_client_options){.base_url = job->order.at.address,
                                           .bearer_token = job->order.at.token,
                                           .ca_pem = job->order.at.ca,
                                           .user_agent = "flops-controller",
                                           .max_response_bytes = ANSWER_MAX};
}

static int open_bulk(struct job *job, struct fl_error *err)
{
    const struct fl_bulk_client_options options = {.env = job->transfers->options.env,
                                                   .http = root_of(job),
                                                   .quiet_ms = QUIET_MS,
                                                   .max_failures = TRIES};
    struct fl_bulk_client *bulk = NULL;
    int r = fl_bulk_client_create(&options, &bulk, err);

    if (r < 0)
        return r;
    FL_LOCKED(job->transfers->lock);
    job->bulk = bulk;
    if (job->dropped || job->transfers->ending)
        fl_bulk_client_cancel(bulk);
    return 0;
}

static void close_bulk(struct job *job)
{
    struct fl_bulk_client *bulk;

    fl_lock_take(job->transfers->lock);
    bulk = FL_TAKE(job->bulk);
    fl_lock_release(job->transfers->lock);
    fl_bulk_client_destroy(bulk);
}

static int64_t bound_of(const struct job *job)
{
    const int64_t max = job->transfers->options.max_bytes;

    if (job->order.size > 0)
        return job->order.size;
    return max > 0 ? max : MODEL_MAX;
}

static int get(struct job *job)
{
    const struct fl_bulk_fetch fetch = {.digest = job->order.what,
                                        .max_bytes = bound_of(job),
                                        .deadline_ms = DEADLINE_MS,
                                        .progress = note_progress,
                                        .user = job};

    return fl_bulk_fetch(job->bulk, &fetch, job->transfers->options.content, &job->err);
}

/* 0: no; 1: yes. */
static int root_has(struct job *job)
{
    const struct fl_http_client_options options = root_of(job);
    FL_CLEANUP(fl_http_client_destroyp) struct fl_http_client *client = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    struct fl_http_call call = {.method = "HEAD", .timeout_ms = SHORT_MS};
    int status = 0, r = fl_http_client_create(&options, &client, &job->err);

    call.target = fl_arena_printf(job->arena, "/v1/models/%s", job->order.what);
    if (r == 0)
        r = fl_http_call(client, &call, &status, &body, NULL, &job->err);
    if (r < 0)
        return r;
    if (status == 200 || status == 404)
        return status == 200;
    return fl_error_set(&job->err, fl_error_from_status(NULL, status), "the root says status %d",
                        status);
}

static int put(struct job *job)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    struct fl_bulk_send send = {.digest = job->order.what,
                                .deadline_ms = DEADLINE_MS,
                                .progress = note_progress,
                                .user = job};
    int r = root_has(job);

    if (r != 0)
        return r < 0 ? r : 0;
    r = fl_blobs_get(job->transfers->options.content, job->order.what, &fd, &send.size, &job->err);
    if (r < 0)
        return r;
    send.fd = fd;
    send.target = fl_arena_printf(job->arena, "/v1/models/%s", job->order.what);
    return fl_bulk_send(job->bulk, &send, &job->err);
}

static int over_the_root(struct job *job)
{
    int r = open_bulk(job, &job->err);

    if (r == 0)
        r = job->order.kind == FL_TRANSFER_GET ? get(job) : put(job);
    close_bulk(job);
    return r;
}

/* Imports */

struct import {
    struct job *job;
    struct fl_blob_writer *writer;
};

static int import_piece(void *user, const void *data, size_t len, struct fl_error *err)
{
    struct import *import = user;
    const int64_t max = bound_of(import->job);
    const int64_t have = fl_blob_writer_size(import->writer);

    if (have + (int64_t)len > max)
        return fl_error_set(err, FL_E_TOO_LARGE, "it has more than %lld bytes", (long long)max);
    note_progress(import->job, have + (int64_t)len, 0);
    return fl_blob_writer_add(import->writer, data, len, err);
}

static bool import_beat(void *user, int64_t sent, int64_t received)
{
    (void)sent;
    (void)received;
    return !is_broken_off(((struct import *)user)->job);
}

static int import_https(struct import *import)
{
    struct job *job = import->job;
    const char *path = strchr(job->order.what + strlen("https://"), '/');
    const struct fl_http_client_options options = {
        .base_url =
            fl_arena_strndup(job->arena, job->order.what,
                             path ? (size_t)(path - job->order.what) : strlen(job->order.what)),
        .ca_file = job->transfers->options.ca_file,
        .user_agent = "flops-controller",
        .max_response_bytes = ANSWER_MAX};
    const struct fl_http_transfer transfer = {.method = "GET",
                                              .target = path ? path : "/",
                                              .piece = import_piece,
                                              .beat = import_beat,
                                              .user = import,
                                              .quiet_ms = QUIET_MS,
                                              .total_ms = DEADLINE_MS};
    FL_CLEANUP(fl_http_client_destroyp) struct fl_http_client *client = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    int status = 0, r = fl_http_client_create(&options, &client, &job->err);

    if (r == 0)
        r = fl_http_transfer(client, &transfer, &status, &body, NULL, &job->err);
    if (r < 0 || status == 200)
        return r;
    return fl_error_set(&job->err, fl_error_from_status(NULL, status), "status %d", status);
}

static int import_file(struct job *job)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    const char *path = job->order.what + strlen("file://");
    struct stat about;

    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &about) < 0)
        return fl_error_errno(&job->err, errno, "open %s", path);
    if (!S_ISREG(about.st_mode))
        return fl_error_set(&job->err, FL_E_INVALID, "%s is no file", path);
    if (about.st_size > bound_of(job))
        return fl_error_set(&job->err, FL_E_TOO_LARGE, "it has more than %lld bytes",
                            (long long)bound_of(job));
    job->all = about.st_size;
    return fl_blobs_put_fd(job->transfers->options.content, fd, NULL, false, job->digest,
                           &job->err);
}

/* Nothing but a model stays. */
static int check_model(struct job *job)
{
    struct fl_blobs *content = job->transfers->options.content;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    const char *path;
    int r = fl_blobs_path(content, job->digest, job->arena, &path, &job->err);

    if (r == 0)
        r = fl_safetensors_open(path, NULL, &model, &job->err);
    if (r < 0)
        (void)fl_blobs_remove(content, job->digest, NULL);
    return r;
}

static int import_by_https(struct job *job)
{
    struct import what = {.job = job};
    int r = fl_blob_writer_open(job->transfers->options.content, &what.writer, &job->err);

    if (r == 0)
        r = import_https(&what);
    job->all = r == 0 ? fl_blob_writer_size(what.writer) : 0;
    if (r == 0)
        r = fl_blob_writer_finish(what.writer, NULL, false, job->digest, &job->err);
    fl_blob_writer_close(what.writer);
    return r;
}

static int import(struct job *job)
{
    int r;

    if (fl_str_has_prefix(job->order.what, "https://"))
        r = import_by_https(job);
    else if (fl_str_has_prefix(job->order.what, "file:///"))
        r = import_file(job);
    else
        r = fl_error_set(&job->err, FL_E_INVALID, "it is neither https:// nor file:///");
    return r < 0 ? r : check_model(job);
}

static void carry_out(struct job *job)
{
    job->result = job->order.kind == FL_TRANSFER_IMPORT ? import(job) : over_the_root(job);
}

static struct job *next_job(struct fl_transfers *transfers)
{
    struct job *job;
    FL_LOCKED(transfers->lock);

    while (!transfers->ending && STAILQ_EMPTY(&transfers->waiting))
        (void)fl_signal_wait(transfers->wake, transfers->lock, -1);
    if (transfers->ending)
        return NULL;
    job = STAILQ_FIRST(&transfers->waiting);
    STAILQ_REMOVE_HEAD(&transfers->waiting, waiting);
    job->running = true;
    return job;
}

static void end_job(struct fl_transfers *transfers, struct job *job)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_transfer_order order = job->order;
    const int failed = job->result < 0 ? job->result : 0;
    bool dropped;

    order.what = fl_arena_copy(arena, order.what);
    order.at = (struct fl_federation_at){.project_uid = fl_arena_copy(arena, order.at.project_uid),
                                         .ns = fl_arena_copy(arena, order.at.ns),
                                         .name = fl_arena_copy(arena, order.at.name)};
    fl_lock_take(transfers->lock);
    job->running = false;
    job->over = true;
    dropped = job->dropped; /* and so nobody else's */
    fl_lock_release(transfers->lock);
    if (dropped)
        job_free(job);
    else
        transfers->options.ended(transfers->options.user, &order, failed);
}

static void run(void *user)
{
    struct fl_transfers *transfers = user;
    struct job *job;

    while ((job = next_job(transfers))) {
        carry_out(job);
        end_job(transfers, job);
    }
}

/* Any thread. */

static void tell(const struct job *job, struct fl_arena *arena, struct fl_transfer *transfer)
{
    if (!job->over)
        *transfer =
            (struct fl_transfer){.state = FL_TRANSFER_RUNNING, .done = job->done, .all = job->all};
    else if (job->result < 0)
        *transfer = (struct fl_transfer){.state = FL_TRANSFER_FAILED,
                                         .failed = job->result,
                                         .message = fl_arena_strdup(arena, job->err.msg)};
    else
        *transfer = (struct fl_transfer){
            .state = FL_TRANSFER_DONE,
            .done = job->all,
            .all = job->all,
            .digest = fl_arena_strdup(arena, *job->digest ? job->digest : job->order.what)};
}

static bool is_here(struct fl_transfers *transfers, const struct fl_transfer_order *order,
                    struct fl_transfer *transfer)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    int64_t size;

    if (order->kind != FL_TRANSFER_GET ||
        fl_blobs_get(transfers->options.content, order->what, &fd, &size, NULL) < 0)
        return false;
    *transfer = (struct fl_transfer){.state = FL_TRANSFER_DONE, .done = size, .all = size};
    return true;
}

/* With the lock. */
static void begin(struct fl_transfers *transfers, const char *key,
                  const struct fl_transfer_order *order)
{
    struct job *job = new_job(transfers, key, order);

    fl_map_put(transfers->jobs, key, job);
    STAILQ_INSERT_TAIL(&transfers->waiting, job, waiting);
    fl_signal_one(transfers->wake);
}

void fl_transfers_ask(struct fl_transfers *transfers, const struct fl_transfer_order *order,
                      struct fl_arena *arena, struct fl_transfer *ret_transfer)
{
    const char *key = fl_arena_printf(arena, "%d %s %s", (int)order->kind,
                                      fl_str_or(order->at.project_uid, ""), order->what);
    struct job *job;

    if (is_here(transfers, order, ret_transfer)) {
        ret_transfer->digest = order->what;
        return;
    }
    *ret_transfer = (struct fl_transfer){.state = FL_TRANSFER_RUNNING};
    FL_LOCKED(transfers->lock);
    job = fl_map_get(transfers->jobs, key);
    if (job)
        tell(job, arena, ret_transfer);
    else if (fl_map_count(transfers->jobs) < WAITING_MAX)
        begin(transfers, key, order);
    else
        *ret_transfer = (struct fl_transfer){.state = FL_TRANSFER_FAILED,
                                             .failed = FL_E_TOO_MANY_REQUESTS,
                                             .message = "too many transfers are waiting"};
    if (job && job->over)
        fl_map_remove(transfers->jobs, key);
}

/* With the lock. */
static void drop(struct fl_transfers *transfers, struct job *job)
{
    job->dropped = true;
    if (job->bulk)
        fl_bulk_client_cancel(job->bulk);
    (void)fl_map_take(transfers->jobs, job->key);
    if (job->running)
        return;
    if (!job->over)
        STAILQ_REMOVE(&transfers->waiting, job, job, waiting);
    job_free(job);
}

void fl_transfers_forget(struct fl_transfers *transfers, const char *project_uid)
{
    void *cursor = NULL, *value;
    FL_LOCKED(transfers->lock);

    while (fl_map_next(transfers->jobs, &cursor, NULL, &value)) {
        struct job *job = value;

        if (fl_streq(job->order.at.project_uid, project_uid))
            drop(transfers, job);
    }
}

int fl_transfers_create(const struct fl_transfers_options *options,
                        struct fl_transfers **ret_transfers, struct fl_error *err)
{
    FL_CLEANUP(fl_transfers_destroyp)
    struct fl_transfers *transfers = fl_calloc(1, sizeof(*transfers));
    int r = 0;

    transfers->options = *options;
    transfers->lock = fl_lock_create();
    transfers->wake = fl_signal_create();
    transfers->jobs = fl_map_create(job_free);
    STAILQ_INIT(&transfers->waiting);
    for (size_t i = 0; i < THREADS && r == 0; i++)
        r = fl_thread_start("flops-models", run, transfers, &transfers->threads[i], err);
    if (r < 0)
        return r;
    *ret_transfers = FL_TAKE(transfers);
    return 0;
}

static void break_off_all(struct fl_transfers *transfers)
{
    void *cursor = NULL, *value;
    FL_LOCKED(transfers->lock);

    transfers->ending = true;
    fl_signal_all(transfers->wake);
    while (fl_map_next(transfers->jobs, &cursor, NULL, &value))
        if (((struct job *)value)->bulk)
            fl_bulk_client_cancel(((struct job *)value)->bulk);
}

void fl_transfers_destroy(struct fl_transfers *transfers)
{
    if (!transfers)
        return;
    break_off_all(transfers);
    for (size_t i = 0; i < THREADS; i++)
        fl_thread_join(transfers->threads[i]);
    fl_map_destroy(transfers->jobs);
    fl_signal_destroy(transfers->wake);
    fl_lock_destroy(transfers->lock);
    free(transfers);
}
