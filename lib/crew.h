/* A crew: threads that do chores which somebody asks for and waits for.
 *
 * Who waits for a chore that nobody has begun does it, so a crew of one has no thread, and chores
 * may be waited for in any order. One thread asks and waits; a chore belongs to who asked. */
#ifndef FL_LIB_CREW_H
#define FL_LIB_CREW_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

enum fl_chore_state { FL_CHORE_NEW, FL_CHORE_QUEUED, FL_CHORE_RUNNING, FL_CHORE_DONE };

/* Something to do. Its results may be read once fl_crew_wait is through. */
struct fl_chore {
    void (*run)(struct fl_chore *chore);
    bool cancelled;            /* atomic; `run` looks at it now and then */
    enum fl_chore_state state; /* the crew's */
    STAILQ_ENTRY(fl_chore) link;
};

struct fl_crew;
/* `jobs` at a time, by whoever waits and by threads called "NAME-n". */
int fl_crew_create(const char *name, size_t jobs, struct fl_crew **ret_crew, struct fl_error *err);
void fl_crew_destroy(struct fl_crew *crew); /* no chore is left */
FL_DEFINE_CLEANUP(struct fl_crew, fl_crew_destroy)
size_t fl_crew_jobs(const struct fl_crew *crew);
void fl_crew_submit(struct fl_crew *crew, struct fl_chore *chore);
void fl_crew_wait(struct fl_crew *crew, struct fl_chore *chore);
/* Afterwards nobody looks at it any more. */
void fl_crew_cancel(struct fl_crew *crew, struct fl_chore *chore);

#endif
