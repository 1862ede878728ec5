#include "lib/thread.h"
#include "workloads/simulate/simulate_internal.h"

#include <stdio.h>

struct crew {
    struct fl_lock *lock;
    struct fl_signal *work, *done;
    STAILQ_HEAD(, chore) queue;
    bool ending;
    struct fl_thread **threads;
    size_t count; /* of threads; who waits is one more */
};

static void carry_out(struct crew *crew, struct chore *chore)
{
    chore->run(chore);
    FL_LOCKED(crew->lock);
    chore->state = CHORE_DONE;
    fl_signal_all(crew->done);
}

static struct chore *next_chore(struct crew *crew)
{
    struct chore *chore;

    FL_LOCKED(crew->lock);
    while (!crew->ending && STAILQ_EMPTY(&crew->queue))
        (void)fl_signal_wait(crew->work, crew->lock, -1);
    if (crew->ending)
        return NULL;
    chore = STAILQ_FIRST(&crew->queue);
    STAILQ_REMOVE_HEAD(&crew->queue, link);
    chore->state = CHORE_RUNNING;
    return chore;
}

static void crew_run(void *user)
{
    struct crew *crew = user;
    struct chore *chore;

    while ((chore = next_chore(crew)))
        carry_out(crew, chore);
}

int crew_create(size_t jobs, struct crew **ret_crew, struct fl_error *err)
{
    struct crew *crew = fl_calloc(1, sizeof(*crew));
    int r = 0;

    crew->lock = fl_lock_create();
    crew->work = fl_signal_create();
    crew->done = fl_signal_create();
    STAILQ_INIT(&crew->queue);
    crew->threads = fl_calloc(jobs, sizeof(struct fl_thread *));
    for (; crew->count + 1 < jobs && r == 0; crew->count += r == 0) {
        char name[16];

        (void)snprintf(name, sizeof(name), "learn-%zu", crew->count);
        r = fl_thread_start(name, crew_run, crew, &crew->threads[crew->count], err);
    }
    if (r < 0) {
        crew_destroy(crew);
        return r;
    }
    *ret_crew = crew;
    return 0;
}

void crew_destroy(struct crew *crew)
{
    if (!crew)
        return;
    fl_lock_take(crew->lock);
    crew->ending = true;
    fl_signal_all(crew->work);
    fl_lock_release(crew->lock);
    for (size_t i = 0; i < crew->count; i++)
        fl_thread_join(crew->threads[i]);
    free(crew->threads);
    fl_signal_destroy(crew->work);
    fl_signal_destroy(crew->done);
    fl_lock_destroy(crew->lock);
    free(crew);
}

size_t crew_jobs(const struct crew *crew)
{
    return crew->count + 1;
}

void crew_submit(struct crew *crew, struct chore *chore)
{
    FL_LOCKED(crew->lock);
    chore->state = CHORE_QUEUED;
    STAILQ_INSERT_TAIL(&crew->queue, chore, link);
    fl_signal_one(crew->work);
}

/* True: it is the caller's to do. */
static bool take_back(struct crew *crew, struct chore *chore)
{
    FL_LOCKED(crew->lock);
    if (chore->state != CHORE_QUEUED)
        return false;
    STAILQ_REMOVE(&crew->queue, chore, chore, link);
    chore->state = CHORE_RUNNING;
    return true;
}

static void wait_until_done(struct crew *crew, const struct chore *chore)
{
    FL_LOCKED(crew->lock);
    while (chore->state != CHORE_DONE)
        (void)fl_signal_wait(crew->done, crew->lock, -1);
}

void crew_wait(struct crew *crew, struct chore *chore)
{
    if (take_back(crew, chore))
        carry_out(crew, chore);
    else
        wait_until_done(crew, chore);
}

void crew_cancel(struct crew *crew, struct chore *chore)
{
    __atomic_store_n(&chore->cancelled, true, __ATOMIC_RELAXED);
    if (!take_back(crew, chore))
        wait_until_done(crew, chore);
    chore->state = CHORE_DONE;
}
