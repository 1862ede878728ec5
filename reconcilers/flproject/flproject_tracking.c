/* The record of a project in a tracking server: kept beside the project's passes, which only say
 * that something changed, and show what came of it. */
#include "reconcilers/flproject/flproject_internal.h"
#include "reconcilers/tracking/tracking.h"

static bool is_tracked(const struct fl_flproject_view *view)
{
    const struct fl_project_spec *spec = &view->project->spec;

    return view->controller->tracking && spec->has_tracking && spec->tracking.has_mlflow;
}

void fl_flproject_look_at_tracking(struct fl_flproject_view *view)
{
    const struct fl_object_meta *meta = &view->project->meta;
    struct fl_flproject_tracking *to = &view->input.tracking;
    struct fl_tracking_state state;

    if (!is_tracked(view))
        return;
    fl_tracking_state(view->controller->tracking, meta->namespace, meta->name, meta->uid,
                      view->rc->arena, &state);
    *to = (struct fl_flproject_tracking){
        .known = true,
        .told = {"Tracked", state.holds, state.reason, state.message},
        .status = {.url = state.url,
                   .experiment_id = state.experiment_id,
                   .run_id = state.run_id,
                   .pending = state.pending,
                   .has_pending = true}};
}

void fl_flproject_wake_tracking(const struct fl_flproject_view *view)
{
    if (view->controller->tracking)
        fl_tracking_wake(view->controller->tracking, &view->project->meta, is_tracked(view));
}
