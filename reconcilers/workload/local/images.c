/* The store's life and its threads. */
#include "lib/file.h"
#include "lib/log.h"
#include "lib/str.h"
#include "reconcilers/workload/local/images_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define THREADS      3
#define BLOBS_BYTES  ((int64_t)20 * 1024 * 1024 * 1024)
#define UNPACKED_MAX ((int64_t)16 * 1024 * 1024 * 1024)
#define TIMEOUT_MS   (30 * 60 * 1000)
#define TELL_MS      2000
#define MEGABYTE     1000000

/* Jobs. */

bool job_goes_on(void *user)
{
    struct fl_image_job *job = user;
    FL_LOCKED(job->images->lock);

    return !job->cancelled && !job->images->closing &&
           fl_monotonic_ms(job->images->env) < job->deadline_ms;
}

void job_stage(struct fl_image_job *job, const char *stage, int64_t bytes, int64_t total)
{
    int64_t now_ms = fl_monotonic_ms(job->images->env);
    bool tell;

    {
        FL_LOCKED(job->images->lock);
        tell = !fl_streq(stage, job->stage) || now_ms - job->told_ms >= TELL_MS;
        job->stage = stage;
        job->bytes = bytes;
        job->total = total;
        if (tell)
            job->told_ms = now_ms;
    }
    if (tell && job->moved)
        job->moved(job->user);
}

void fl_image_job_describe(struct fl_image_job *job, char *out, size_t size)
{
    FL_LOCKED(job->images->lock);

    if (job->total > 0)
        (void)snprintf(out, size, "%s %s: %" PRId64 "/%" PRId64 " MB", job->stage,
                       job->wish.reference, job->bytes / MEGABYTE, job->total / MEGABYTE);
    else
        (void)snprintf(out, size, "%s %s", job->stage, job->wish.reference);
}

void fl_image_job_cancel(struct fl_image_job *job)
{
    FL_LOCKED(job->images->lock);

    job->cancelled = true;
    fl_signal_all(job->images->changed);
}

static void unref(struct fl_image_job *job)
{
    unsigned left;

    {
        FL_LOCKED(job->images->lock);
        left = --job->refs;
    }
    if (left > 0)
        return;
    fl_arena_destroy(job->arena);
    free(job);
}

void fl_image_job_unref(struct fl_image_job *job)
{
    if (job)
        unref(job);
}

static struct fl_image_wish copy_wish(struct fl_arena *arena, const struct fl_image_wish *wish)
{
    struct fl_image_wish copied = *wish;
    struct fl_platform *platforms = fl_new_array(arena, struct fl_platform, wish->platform_count);

    for (size_t i = 0; i < wish->platform_count; i++)
        platforms[i] = (struct fl_platform){fl_arena_copy(arena, wish->platforms[i].os),
                                            fl_arena_copy(arena, wish->platforms[i].architecture),
                                            fl_arena_copy(arena, wish->platforms[i].variant)};
    copied.platforms = platforms;
    copied.reference = fl_arena_copy(arena, wish->reference);
    copied.pull_secret = fl_arena_copy(arena, wish->pull_secret);
    copied.unpack_to = fl_arena_copy(arena, wish->unpack_to);
    return copied;
}

/* The work. */

static void finish(struct fl_image_job *job, struct made_image *made, const struct fl_error *err)
{
    if (made) {
        job->done(job->user, &made->image, NULL);
        return;
    }
    job->done(job->user, NULL, err);
}

static int make(struct fl_image_job *job, struct made_image **ret_made, struct fl_error *err)
{
    struct made_image *made = fl_calloc(1, sizeof(*made));
    int r;

    made->images = job->images;
    made->arena = fl_arena_create();
    r = image_fetch(job, made, err);
    if (r < 0)
        fl_image_release(&made->image);
    else
        *ret_made = made;
    return r;
}

static void do_job(struct fl_image_job *job)
{
    const struct fl_images *images = job->images;
    struct made_image *made = NULL;
    struct fl_error err = {0};
    int r;

    if (!job_goes_on(job))
        r = fl_error_set(&err, FL_E_UNAVAILABLE, "it is not wanted any more");
    else
        r = make(job, &made, &err);
    if (r < 0 && fl_monotonic_ms(images->env) >= job->deadline_ms)
        err.code = FL_E_TIMEOUT;
    finish(job, made, &err);
}

/* The first whose image nobody pulls already: the second of two finds what the first has brought.
 */
static struct fl_image_job *take_job(struct fl_images *images)
{
    struct fl_image_job *before = NULL;

    for (struct fl_image_job *job = images->first; job; before = job, job = job->next) {
        if (fl_map_get(images->busy, job->wish.reference))
            continue;
        if (before)
            before->next = job->next;
        else
            images->first = job->next;
        if (images->last == job)
            images->last = before;
        fl_map_put(images->busy, job->wish.reference, job);
        return job;
    }
    return NULL;
}

static struct fl_image_job *wait_for_job(struct fl_images *images)
{
    FL_LOCKED(images->lock);

    for (;;) {
        struct fl_image_job *job = take_job(images);

        if (job || images->closing)
            return job;
        (void)fl_signal_wait(images->changed, images->lock, -1);
    }
}

static void work(void *user)
{
    struct fl_images *images = user;
    struct fl_image_job *job;

    while ((job = wait_for_job(images))) {
        do_job(job);
        {
            FL_LOCKED(images->lock);
            (void)fl_map_remove(images->busy, job->wish.reference);
            fl_signal_all(images->changed);
        }
        unref(job);
    }
}

/* Threads are begun when they are first needed. */
static void begin_thread(struct fl_images *images)
{
    char name[16];

    if (images->thread_count == THREADS)
        return;
    (void)snprintf(name, sizeof(name), "images-%zu", images->thread_count);
    if (fl_thread_start(name, work, images, &images->threads[images->thread_count], NULL) == 0)
        images->thread_count++;
}

struct fl_image_job *fl_images_want(struct fl_images *images, const struct fl_image_wish *wish,
                                    fl_image_done_fn *done, void (*moved)(void *user), void *user)
{
    struct fl_image_job *job = fl_calloc(1, sizeof(*job));
    int64_t timeout_ms = wish->timeout_ms > 0 ? wish->timeout_ms : TIMEOUT_MS;

    job->images = images;
    job->refs = 2;
    job->arena = fl_arena_create();
    job->wish = copy_wish(job->arena, wish);
    job->done = done;
    job->moved = moved;
    job->user = user;
    job->stage = "waiting for";
    job->deadline_ms = fl_monotonic_ms(images->env) + timeout_ms;
    {
        FL_LOCKED(images->lock);
        if (images->last)
            images->last->next = job;
        else
            images->first = job;
        images->last = job;
        begin_thread(images);
        fl_signal_all(images->changed);
    }
    return job;
}

/* Images. */

void fl_image_release(struct fl_image *image)
{
    struct made_image *made = (struct made_image *)image;

    if (!made)
        return;
    fl_images_unhold(made->images, made->image.layers, made->image.layer_count);
    fl_arena_destroy(made->arena);
    free(made);
}

/* Life. */

int fl_images_open(const struct fl_images_options *options, struct fl_images **ret_images,
                   struct fl_error *err)
{
    struct fl_images *images = fl_calloc(1, sizeof(*images));
    FL_CLEANUP(fl_freep) char *blobs = fl_asprintf("%s/blobs", options->path);
    struct fl_blobs_options content = {
        .env = options->env,
        .path = blobs,
        .max_bytes = options->max_blob_bytes > 0 ? options->max_blob_bytes : BLOBS_BYTES,
    };
    int r;

    images->env = options->env;
    images->path = fl_strdup(options->path);
    images->layers_folder = fl_asprintf("%s/layers", options->path);
    if (options->source)
        images->source = *options->source;
    images->overlay = options->overlay;
    images->keep_owners = options->keep_owners;
    images->max_layer_bytes = options->max_layer_bytes > 0 ? options->max_layer_bytes : BLOBS_BYTES;
    images->unpacked_max_bytes =
        options->unpacked_max_bytes > 0 ? options->unpacked_max_bytes : UNPACKED_MAX;
    images->lock = fl_lock_create();
    images->changed = fl_signal_create();
    images->layers = fl_map_create(free);
    images->busy = fl_map_create(NULL);
    images->threads = fl_calloc(THREADS, sizeof(struct fl_thread *));
    r = fl_dir_ensure(images->path, 0711, err);
    if (r == 0)
        r = fl_blobs_open(&content, &images->blobs, err);
    if (r == 0)
        r = layers_open(images, err);
    if (r < 0) {
        fl_images_close(images);
        return fl_error_wrap(err, "images");
    }
    *ret_images = images;
    return 0;
}

void fl_images_stop(struct fl_images *images)
{
    struct fl_image_job *job;

    {
        FL_LOCKED(images->lock);
        images->closing = true;
        fl_signal_all(images->changed);
    }
    for (size_t i = 0; i < images->thread_count; i++)
        fl_thread_join(images->threads[i]);
    images->thread_count = 0;
    while ((job = images->first)) {
        images->first = job->next;
        do_job(job);
        unref(job);
    }
}

void fl_images_close(struct fl_images *images)
{
    if (!images)
        return;
    fl_images_stop(images);
    fl_blobs_close(images->blobs);
    fl_map_destroy(images->layers);
    fl_map_destroy(images->busy);
    fl_signal_destroy(images->changed);
    fl_lock_destroy(images->lock);
    free(images->threads);
    free(images->layers_folder);
    free(images->path);
    free(images);
}

struct fl_blobs *fl_images_blobs(struct fl_images *images)
{
    return images->blobs;
}

const char *fl_images_layers_folder(const struct fl_images *images)
{
    return images->layers_folder;
}
