/* What becomes of a noted event: a new Event, one more of a known one, or nothing. One thread. */
#ifndef FL_CONTROLLER_EVENTS_INTERNAL_H
#define FL_CONTROLLER_EVENTS_INTERNAL_H

#include "controller/runtime/events.h"

struct fl_event_note { /* lives in its arena */
    struct fl_event_note *next;
    struct fl_arena *arena;
    struct fl_event_about about;   /* texts are never NULL */
    int64_t time_us, monotonic_ms; /* when it was noted */
    const char *name;
    bool correlated;
    unsigned tries;
    int64_t due_ms;
    struct {
        const char *name, *message;
        int64_t count, first_us;
    } write; /* what fl_correlate decided */
};

struct fl_correlator;
struct fl_correlator *fl_correlator_create(void);
void fl_correlator_destroy(struct fl_correlator *correlator);
/* False: the object has used up its budget. */
bool fl_correlate(struct fl_correlator *correlator, struct fl_event_note *note);

#endif
