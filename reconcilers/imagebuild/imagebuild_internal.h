/* The parts of the reconciler of ImageBuild among themselves. */
#ifndef FL_RECONCILERS_IMAGEBUILD_INTERNAL_H
#define FL_RECONCILERS_IMAGEBUILD_INTERNAL_H

#include "reconcilers/imagebuild/imagebuild.h"
#include "reconcilers/imagebuild/imagebuild_decide.h"

/* One pass. */
struct fl_build_view {
    struct fl_reconcile *rc;
    struct fl_imagebuild_controller *controller;
    struct fl_imagebuild *object;
    struct fl_builder_known known; /* of the last attempt */
};

/* imagebuild_tell.c: what status says. Texts are in the arena; the others return a step's result.
 */
int64_t fl_build_attempts(const struct fl_build_view *view);
const char *fl_build_time_text(struct fl_arena *arena, int64_t realtime_us);
const char *fl_build_duration_text(struct fl_arena *arena, int64_t ms);
void fl_build_show_stages(struct fl_build_view *view);
int fl_build_tell_running(struct fl_build_view *view);
int fl_build_wait_to_retry(struct fl_build_view *view,
                           const struct fl_imagebuild_decision *decision);
int fl_build_give_up(struct fl_build_view *view);
/* It was given up in an earlier life of the control plane: for the cause that is told. */
int fl_build_stay_given_up(struct fl_build_view *view);

#endif
