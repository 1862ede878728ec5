/* Work that waits for the disk. As many threads as help, the rest waits for its turn: each job has
 * a client that waits for it, so their number is bounded by that of connections. */
#include "controller/registry/internal.h"

#include "lib/str.h"

#define RUNNING_MAX 32

struct fl_repos_job *fl_repos_job_new(const struct fl_repos_call *call,
                                      const struct fl_repos_words *words)
{
    struct fl_repos_job *job = fl_calloc(1, sizeof(*job));

    job->repositories = call->repositories;
    job->loop = fl_raw_loop(call->raw);
    job->raw = call->raw;
    job->words = words;
    job->arena = fl_arena_create();
    job->repository = fl_arena_strdup(job->arena, call->path.repository);
    job->reference = fl_arena_strdup(job->arena, fl_str_or(call->path.reference, ""));
    return job;
}

static void release(struct fl_repos_job *job)
{
    fl_thread_join(FL_TAKE(job->thread));
    fl_blob_writer_close(FL_TAKE(job->writer));
    if (job->body)
        fl_bytes_unref(FL_TAKE(job->body));
    fl_arena_destroy(FL_TAKE(job->arena));
}

static void client_gone(void *user)
{
    struct fl_repos_job *job = user;

    job->raw = NULL;
}

static void settle(struct fl_repos_job *job)
{
    struct fl_raw_request *raw = job->raw;

    if (!raw)
        return;
    if (job->result.code) {
        job->raw = NULL;
        fl_repos_refuse(raw, &job->result, job->words);
    } else {
        job->answer(job);
    }
}

static void start_waiting(struct fl_repositories *repositories);

static void job_ended(void *user)
{
    struct fl_repos_job *job = user;
    struct fl_repositories *repositories = job->repositories;

    if (job->orphan) {
        free(job);
        return;
    }
    settle(job);
    TAILQ_REMOVE(&repositories->jobs, job, link);
    repositories->running--;
    release(job);
    free(job);
    start_waiting(repositories);
}

static void run(void *user)
{
    struct fl_repos_job *job = user;

    job->work(job);
    fl_loop_post(job->loop, job_ended, job);
}

/* A simulated loop has no threads beside it. */
static void start_now(struct fl_repos_job *job)
{
    job->repositories->running++;
    if (fl_loop_is_simulated(job->loop))
        run(job);
    else if (fl_thread_start("flops-registry", run, job, &job->thread, &job->result) < 0)
        fl_loop_post(job->loop, job_ended, job); /* with the reason as its result */
}

static void start_waiting(struct fl_repositories *repositories)
{
    struct fl_repos_job *job;
    size_t at = 0;

    TAILQ_FOREACH(job, &repositories->jobs, link)
        if (at++ == repositories->running)
            break;
    if (job && repositories->running < RUNNING_MAX)
        start_now(job);
}

void fl_repos_job_start(struct fl_repos_job *job)
{
    struct fl_repositories *repositories = job->repositories;

    fl_raw_on_gone(job->raw, client_gone, job);
    TAILQ_INSERT_TAIL(&repositories->jobs, job, link);
    start_waiting(repositories);
}

void fl_repos_jobs_end(struct fl_repositories *repositories)
{
    struct fl_repos_job *job;

    while ((job = TAILQ_FIRST(&repositories->jobs))) {
        TAILQ_REMOVE(&repositories->jobs, job, link);
        job->orphan = repositories->running > 0;
        repositories->running -= job->orphan;
        release(job);
        if (!job->orphan)
            free(job);
    }
}
