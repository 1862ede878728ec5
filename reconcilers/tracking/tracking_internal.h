/* Between the parts of tracking. */
#ifndef FL_RECONCILERS_TRACKING_INTERNAL_H
#define FL_RECONCILERS_TRACKING_INTERNAL_H

#include "controller/cache/cache.h"
#include "controller/runtime/reconcile.h"
#include "reconcilers/tracking/plan.h"
#include "reconcilers/tracking/tracking.h"

struct fl_track_caches {
    struct fl_cache *projects, *rounds, *histories, *models, *secrets;
};

/* What a pass sees. All is in its arena. */
struct fl_track_view {
    struct fl_arena *arena;
    bool wanted; /* there is such a project, and it is to be tracked */
    const struct fl_project *project;
    struct fl_track_input input;
    const json_t **models; /* the objects of input.models, in order */
    struct fl_tracker_server server;
    const char *missing; /* why there are no credentials; NULL: there are, or none are needed */
};
int fl_track_look(const struct fl_track_caches *caches, const char *ns, const char *name,
                  struct fl_arena *arena, struct fl_track_view *ret_view, struct fl_error *err);

/* Writes a model's MLflow directory below `folder`. */
int fl_track_export(const struct fl_tracking_options *options, const json_t *version,
                    const char *folder, struct fl_arena *arena, const char **ret_path,
                    struct fl_error *err);

/* Writes what was registered into the ModelVersions' status. */
int fl_track_note_versions(struct fl_apiclient *client, const struct fl_track_plan *plan,
                           const struct fl_tracked_version *versions, struct fl_error *err);

#endif
