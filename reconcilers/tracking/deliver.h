/* Bringing a tracker to a plan, through its table.
 *
 * What is there already is asked for, and only what is missing is sent: experiment, runs, params
 * (once; what is changed later stands in tags), tags, data sets, rounds in order, states, models.
 * It can be broken off anywhere and done again; nothing is doubled. The memory only spares
 * questions: it may be thrown away at any time, and is by itself after an error. */
#ifndef FL_RECONCILERS_TRACKING_DELIVER_H
#define FL_RECONCILERS_TRACKING_DELIVER_H

#include "reconcilers/tracking/plan.h"

struct fl_track_memory;
struct fl_track_memory *fl_track_memory_create(void);
void fl_track_memory_destroy(struct fl_track_memory *memory);
FL_DEFINE_CLEANUP(struct fl_track_memory, fl_track_memory_destroy)
void fl_track_memory_clear(struct fl_track_memory *memory);

/* Makes a model's folder, when it is needed. */
typedef int fl_track_export_fn(void *user, const struct fl_track_model *model,
                               const char **ret_folder, struct fl_error *err);

struct fl_track_delivery {
    struct fl_tracker *tracker;
    const struct fl_track_plan *plan;
    struct fl_track_memory *memory;
    struct fl_arena *arena;
    fl_track_export_fn *export;
    void *user;
};

/* How far it came; also where it failed. */
struct fl_track_progress {
    const char *experiment_id, *run_id, *url; /* NULL: not known */
    int64_t rounds, owed_rounds;
    int64_t owed_models;
    /* Of each model of the plan, in order; version NULL: not delivered. */
    struct fl_tracked_version *versions;
};

int fl_track_deliver(const struct fl_track_delivery *delivery,
                     struct fl_track_progress *ret_progress, struct fl_error *err);

#endif
