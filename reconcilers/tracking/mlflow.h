/* A tracker that is an MLflow server, 2.x or 3.x, by its REST API 2.0.
 *
 * Sources: MLflow's REST documentation and what its own client sends. What 2.x does not have
 * (logged models) is found out by asking for it. Models are put through the server's artifact
 * proxy; a server that gives out addresses of a store of its own is refused with a word about
 * --serve-artifacts. Redirects are not followed. */
#ifndef FL_RECONCILERS_TRACKING_MLFLOW_H
#define FL_RECONCILERS_TRACKING_MLFLOW_H

#include "reconcilers/tracking/tracker.h"

/* A fl_tracker_open_fn; `user` is not used. */
int fl_tracker_mlflow_open(void *user, const struct fl_tracker_options *options,
                           struct fl_tracker **ret_tracker, struct fl_error *err);

#endif
