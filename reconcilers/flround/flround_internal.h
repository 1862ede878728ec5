/* The parts of an FLRound's pass. All is in the pass's arena. */
#ifndef FL_RECONCILERS_FLROUND_INTERNAL_H
#define FL_RECONCILERS_FLROUND_INTERNAL_H

#include "controller/runtime/manager.h"
#include "lib/map.h"
#include "lib/thread.h"
#include "reconcilers/federation/federation.h"
#include "reconcilers/flround/flround.h"
#include "reconcilers/flround/flround_decide.h"

struct fl_flround_controller {
    struct fl_manager *manager;
    struct fl_federation_driver *federation;
    struct fl_cache *rounds, *models;
    struct fl_lock *lock;
    struct fl_map *paces; /* uid -> struct pace: when counts were last told; behind the lock */
};

/* What a pass sees. */
struct fl_flround_view {
    struct fl_reconcile *rc;
    struct fl_flround_controller *controller;
    struct fl_round *round;
    struct fl_flround_world world;
    int64_t number;
    struct fl_federation_at at; /* valid once the root was found */
    struct fl_flround_base base;
    struct fl_federation_round seen;
};

/* Reads project, fellows and models. FL_STEP_WAIT with the reason where there is no project. */
int fl_flround_look(struct fl_flround_view *view, struct fl_error *err);
/* The same of the fellows, live: for a number that nobody else may have. */
int fl_flround_look_live(struct fl_flround_view *view, struct fl_error *err);

/* From what the round begins with to the order at the root. FL_STEP_WAIT always, unless it failed
 * or is stalled. */
int fl_flround_begin(struct fl_flround_view *view, int64_t run, struct fl_error *err);

/* The root does not take the order. */
int fl_flround_refused(struct fl_flround_view *view);

/* Follows a report that is KNOWN. */
int fl_flround_follow(struct fl_flround_view *view, struct fl_error *err);

/* Makes a model's ModelVersion; it is in the content store. *ret_name: how it is called. */
int fl_flround_make_version(struct fl_flround_view *view, int64_t number, const char *digest,
                            int64_t size, const char **ret_name, struct fl_error *err);

/* Status from a report: all of it, or (where only counts moved, and were told a moment ago) none.
 */
void fl_flround_fill(struct fl_flround_view *view, const struct fl_round_report *report);
void fl_flround_forget_pace(struct fl_flround_controller *controller, const char *uid);
/* Why nothing new is begun; NULL: it may. */
const char *fl_flround_suspended(const struct fl_flround_view *view);
/* What the run is based on, and that it has begun. */
void fl_flround_note_run(struct fl_flround_view *view, int64_t run);
/* What was told last is still so, as far as it can be; else this: FL_STEP_WAIT. */
int fl_flround_repeat(struct fl_flround_view *view, const char *reason, const char *message);

#endif
