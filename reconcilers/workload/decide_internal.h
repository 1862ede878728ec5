/* Between decide.c (what shall be) and decide_show.c (what is told of it). */
#ifndef FL_RECONCILERS_DECIDE_INTERNAL_H
#define FL_RECONCILERS_DECIDE_INTERNAL_H

#include "reconcilers/workload/decide.h"
#include "reconcilers/workload/place.h"

struct fl_decide_settings {
    int64_t grace_ms, initial_delay_ms, max_delay_ms, reset_after_ms, start_deadline_ms;
    int64_t active_deadline_ms; /* < 0: none */
};

enum fl_phase {
    FL_PHASE_GONE = 1, /* nothing runs, and nothing shall */
    FL_PHASE_DUE,      /* to be started now */
    FL_PHASE_NO_PLACE, /* to be started, but nowhere */
    FL_PHASE_BACKOFF,  /* to be started at until_us */
    FL_PHASE_STARTING, /* lives, is not ready */
    FL_PHASE_RUNNING,  /* lives, is ready */
    FL_PHASE_STOPPING,
    FL_PHASE_UNKNOWN,
    FL_PHASE_SUCCEEDED,
    FL_PHASE_FAILED, /* given up for `reason` */
};

/* An instance that is wanted, or of which something is left. */
struct fl_slot {
    int64_t index;
    const struct fl_run *run; /* NULL: none */
    bool is_wanted;
    bool is_outdated;  /* its run is of another spec */
    bool is_misplaced; /* its run is where it should not be */
    bool is_removed;   /* its record goes */
    size_t bound;      /* the node it is meant for; FL_NOWHERE: any */
    enum fl_phase phase;
    const char *reason;
    int64_t until_us;
    const char *stop_reason; /* its run is stopped now */
    struct fl_action next;   /* of one that is due */
};

struct fl_decide {
    const struct fl_decide_input *input;
    struct fl_arena *arena;
    struct fl_decide_settings settings;
    struct fl_places places;
    struct fl_slot *slots; /* by index */
    size_t count;
    int64_t desired;
    struct fl_decision *out;
};

/* Fills what is to be shown. */
void fl_decide_show(struct fl_decide *d);

#endif
