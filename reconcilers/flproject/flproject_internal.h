/* Between the parts of the FLProject reconciler. All is in the pass's arena. */
#ifndef FL_RECONCILERS_FLPROJECT_INTERNAL_H
#define FL_RECONCILERS_FLPROJECT_INTERNAL_H

#include "controller/runtime/reconcile.h"
#include "reconcilers/flproject/flproject.h"
#include "reconcilers/flproject/flproject_decide.h"

struct fl_flproject_controller {
    struct fl_manager *manager;
    struct fl_federation_driver *federation;
    struct fl_source *source;     /* NULL: no images are built */
    struct fl_tracking *tracking; /* NULL: nobody keeps spec.tracking */
};

/* An empty Workload of the project's, on its orchestrator. */
struct fl_workload *fl_flproject_new_workload(const struct fl_flproject_plan_input *input,
                                              struct fl_arena *arena);
/* Gives each service its Workload's content: program, arguments, ports, files; and what is known of
 * the one that runs. Parents come first. */
void fl_flproject_dress(const struct fl_flproject_plan_input *input, struct fl_arena *arena,
                        struct fl_flproject_services *services);
/* "http://…" of a Workload's first instance; NULL: not known now. */
const char *fl_flproject_address(const struct fl_workload *workload, struct fl_arena *arena);

/* What a pass sees. */
struct fl_flproject_view {
    struct fl_reconcile *rc;
    struct fl_flproject_controller *controller;
    struct fl_project *project;
    const char *secret; /* name of the Secret */
    const char *token;  /* NULL: there is no Secret yet */
    const char *root;   /* address; NULL: not known now */
    struct fl_flproject_input input;
    struct fl_flproject_decision decision;
};

int fl_flproject_look(struct fl_flproject_view *view, struct fl_error *err);
/* Makes what was decided true. */
int fl_flproject_act(struct fl_flproject_view *view, struct fl_error *err);
/* Puts the decision into status and conditions; FL_STEP_…. */
int fl_flproject_report(struct fl_flproject_view *view);
/* Deletes all that is the project's; > 0: something is left. */
int fl_flproject_remove_all(struct fl_flproject_view *view, struct fl_error *err);

/* The root, through its driver (flproject_federation.c). */
int fl_flproject_ask_root(struct fl_flproject_view *view, struct fl_error *err);
/* Tells the root where the aggregators of the tiers are. */
int fl_flproject_tell_tiers(struct fl_flproject_view *view, struct fl_error *err);
/* Brings the model of training.initialModel.uri into the content store. */
int fl_flproject_import(struct fl_flproject_view *view, struct fl_error *err);
void fl_flproject_forget(struct fl_flproject_view *view);

/* The commit and the ImageBuilds of source.git (flproject_fetch.c). */
int fl_flproject_look_at_fetch(struct fl_flproject_view *view, struct fl_error *err);
int fl_flproject_act_on_fetch(struct fl_flproject_view *view, struct fl_error *err);
int fl_flproject_act_on_builds(struct fl_flproject_view *view, struct fl_error *err);
void fl_flproject_forget_fetch(struct fl_flproject_view *view);

/* The record in a tracking server (flproject_tracking.c): what there is to tell of it, and that it
 * should look again. */
void fl_flproject_look_at_tracking(struct fl_flproject_view *view);
void fl_flproject_wake_tracking(const struct fl_flproject_view *view);

/* The beginning of a child's object, to be decref'd: who it is, and whose. */
json_t *fl_flproject_child_json(struct fl_flproject_view *view, const char *api_version,
                                const char *kind, const char *name, const char *role);

/* Writes what rounds told that are about to be deleted into FLHistories (flproject_history.c). */
int fl_flproject_record_rounds(struct fl_flproject_view *view, struct fl_error *err);

/* Whether the canonical text of an object names this project in spec.project. */
bool fl_flproject_is_named(const struct fl_object *object, const char *project);

#endif
