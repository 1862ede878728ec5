/* Between flproject_decide.c (what should exist) and flproject_show.c (what is told of it, and
 * whether all is there that a round needs). */
#ifndef FL_RECONCILERS_FLPROJECT_SHOW_H
#define FL_RECONCILERS_FLPROJECT_SHOW_H

#include "reconcilers/flproject/flproject_tally.h"

struct fl_flproject_decide {
    const struct fl_flproject_input *input;
    const struct fl_project *project;
    struct fl_arena *arena;
    struct fl_flproject_decision *out;
    struct fl_flproject_tally tally;
    bool is_over; /* no further round is wanted */
    const char *over_reason, *over_message;
    const struct fl_flproject_round *open;   /* a round that is under way; NULL: none */
    const struct fl_flproject_round *failed; /* one that stands in the way; NULL: none */
    bool waits_for_drop;                     /* one that is about to go */
    bool is_paused;                          /* services are scaled down */
    bool may_start;                          /* a round can begin now: of fl_flproject_show */
};

/* In so long, if nothing happens before. */
void fl_flproject_look_again(struct fl_flproject_decide *d, int64_t delay_ms);
void fl_flproject_show(struct fl_flproject_decide *d);

#endif
