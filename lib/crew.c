#include "lib/crew.h"

#include "lib/thread.h"

#include <stdio.h>

struct fl_crew {
    struct fl_lock *lock;
    struct fl_signal *work, *done;
    STAILQ_HEAD(, fl_chore) queue;
    bool ending;
    struct fl_thread **threads;
    size_t count; /* of threads; who waits is one more */
};

static void carry_out(struct fl_crew *crew, struct fl_chore *chore)
{
    chore->run(chore);
    FL_LOCKED(crew->lock);
    chore->state = FL_CHORE_DONE;
    fl_signal_all(crew->done);
}

static struct fl_chore *next_chore(struct fl_crew *crew)
{
    struct fl_chore *chore;

    FL_LOCKED(crew->lock);
    while (!crew->ending && STAILQ_EMPTY(&crew->queue))
        (void)fl_signal_wait(crew->work, crew->lock, -1);
    if (crew->ending)
        return NULL;
    chore = STAILQ_FIRST(&crew->queue);
    STAILQ_REMOVE_HEAD(&crew->queue, link);
    chore->state = FL_CHORE_RUNNING;
    return chore;
}

static void crew_run(void *user)
{
    struct fl_crew *crew = user;
    struct fl_chore *chore;

    while ((chore = next_chore(crew)))
        carry_out(crew, chore);
}

int fl_crew_create(const char *name, size_t jobs, struct fl_crew **ret_crew, struct fl_error *err)
{
    struct fl_crew *crew = fl_calloc(1, sizeof(*crew));
    int r = 0;

    crew->lock = fl_lock_create();
    crew->work = fl_signal_create();
    crew->done = fl_signal_create();
    STAILQ_INIT(&crew->queue);
    crew->threads = fl_calloc(jobs, sizeof(struct fl_thread *));
    for (; crew->count + 1 < jobs && r == 0; crew->count += r == 0) {
        char its[16];

        (void)snprintf(its, sizeof(its), "%s-%zu", name, crew->count);
        r = fl_thread_start(its, crew_run, crew, &crew->threads[crew->count], err);
    }
    if (r < 0) {
        fl_crew_destroy(crew);
        return r;
    }
    *ret_crew = crew;
    return 0;
}

void fl_crew_destroy(struct fl_crew *crew)
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

size_t fl_crew_jobs(const struct fl_crew *crew)
{
    return crew->count + 1;
}

void fl_crew_submit(struct fl_crew *crew, struct fl_chore *chore)
{
    FL_LOCKED(crew->lock);
    chore->state = FL_CHORE_QUEUED;
    STAILQ_INSERT_TAIL(&crew->queue, chore, link);
    fl_signal_one(crew->work);
}

/* True: it is the caller's to do. */
static bool take_back(struct fl_crew *crew, struct fl_chore *chore)
{
    FL_LOCKED(crew->lock);
    if (chore->state != FL_CHORE_QUEUED)
        return false;
    STAILQ_REMOVE(&crew->queue, chore, fl_chore, link);
    chore->state = FL_CHORE_RUNNING;
    return true;
}

static void wait_until_done(struct fl_crew *crew, const struct fl_chore *chore)
{
    FL_LOCKED(crew->lock);
    while (chore->state != FL_CHORE_DONE)
        (void)fl_signal_wait(crew->done, crew->lock, -1);
}

void fl_crew_wait(struct fl_crew *crew, struct fl_chore *chore)
{
    if (take_back(crew, chore))
        carry_out(crew, chore);
    else
        wait_until_done(crew, chore);
}

void fl_crew_cancel(struct fl_crew *crew, struct fl_chore *chore)
{
    __atomic_store_n(&chore->cancelled, true, __ATOMIC_RELAXED);
    if (!take_back(crew, chore))
        wait_until_done(crew, chore);
    chore->state = FL_CHORE_DONE;
}
