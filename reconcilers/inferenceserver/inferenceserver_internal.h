/* The parts of an InferenceServer's pass. All is in the pass's arena. */
#ifndef FL_RECONCILERS_INFERENCESERVER_INTERNAL_H
#define FL_RECONCILERS_INFERENCESERVER_INTERNAL_H

#include "reconcilers/inferenceserver/inferenceserver.h"
#include "reconcilers/inferenceserver/plan.h"

#define FL_SERVING_REVISION_LABEL "flops.dev/revision"
#define FL_SERVING_TOKEN_FILE     "model.token" /* of a server: its capability */

struct fl_inferenceserver_controller {
    struct fl_manager *manager;
    struct fl_inferenceserver_options options;
    struct fl_cache *versions; /* ModelVersions, by project */
    struct fl_cache *secrets;
};

/* The model that is wanted. */
struct fl_serving_model {
    const char *name;   /* in addresses */
    const char *digest; /* NULL: not known before it is fetched */
    const char *uri, *image;
    /* The image with the code that predicts, "NAME@sha256:…"; NULL: the program does. */
    const char *code_image, *entrypoint, *pull_secret;
    const char *version; /* the ModelVersion */
    int64_t round;
    bool has_round;
    double metric; /* by which a roll-out is judged; NAN */
};

struct fl_serving_view {
    struct fl_reconcile *rc;
    struct fl_inferenceserver_controller *controller;
    struct fl_inferenceserver *server;
    struct fl_serving_model model;
    bool has_model;
    struct fl_workload *router; /* NULL: not made yet */
    struct fl_workload *sets[FL_SERVING_SETS_MAX];
    size_t set_count;
    const char *admin_token;
    struct fl_router_at at; /* address NULL: not known yet */
    struct fl_serving_world world;
    const char *scaled; /* load asks for another number of servers: why; or NULL */
    struct fl_serving_plan plan;
};

/* inferenceserver_model.c: FL_STEP_WAIT and FL_STEP_STALLED are told already. */
int fl_serving_find_model(struct fl_serving_view *view, struct fl_error *err);

/* inferenceserver_service.c: what the children look like. */
const char *fl_serving_revision(struct fl_serving_view *view);
struct fl_workload *fl_serving_new_set(struct fl_serving_view *view, const char *revision,
                                       const char *secret, const struct fl_content_grant *grant);
struct fl_workload *fl_serving_new_router(struct fl_serving_view *view, const char *secret);
/* Labels and annotations by which a set is known; `wish` decides what may change of them. */
void fl_serving_mark_set(struct fl_serving_view *view, struct fl_workload *set,
                         const struct fl_serving_wish *wish);
const char *fl_serving_set_role(struct fl_arena *arena, const char *revision);
/* "http://127.0.0.1:8080" of the named port of its first instance that has one; NULL. */
const char *fl_serving_address(struct fl_arena *arena, const struct fl_workload *workload,
                               const char *port, const char *scheme);

/* inferenceserver_look.c */
int fl_serving_look(struct fl_serving_view *view, struct fl_error *err);

/* inferenceserver_act.c */
int fl_serving_ensure_router(struct fl_serving_view *view, struct fl_error *err);
int fl_serving_act(struct fl_serving_view *view, struct fl_error *err);
/* Whoever made a Secret may have been cut short before its set: what is for no set goes. */
int fl_serving_tidy(struct fl_serving_view *view, struct fl_error *err);

/* inferenceserver_report.c */
int fl_serving_report(struct fl_serving_view *view);

#endif
