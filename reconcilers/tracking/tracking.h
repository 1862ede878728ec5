/* Keeping spec.tracking of FLProjects, beside training and never in its way.
 *
 * Threads of its own with a queue of their own look at a project, its rounds and its models (the
 * manager's caches), plan what its tracker should hold (plan.h) and deliver what is missing
 * (deliver.h). What fails is tried again with back-off, for ever, and what is owed is delivered
 * once the tracker is back. A tracker that does not answer is asked for one project at a time, so
 * that the others' are not held up. Nothing is remembered that the tracker does not tell again.
 *
 * Who reconciles the project says when to look (fl_tracking_wake) and shows what came of it
 * (fl_tracking_state); `changed` tells it when that has changed. */
#ifndef FL_RECONCILERS_TRACKING_H
#define FL_RECONCILERS_TRACKING_H

#include "lib/blobs.h"
#include "reconcilers/tracking/tracker.h"

struct fl_manager;
struct fl_apiclient;
struct fl_tracking;

struct fl_tracking_options {
    const struct fl_env *env;
    struct fl_manager *manager; /* not started yet */
    struct fl_apiclient *client;
    struct fl_blobs *blobs;   /* the models' content */
    const char *folder;       /* for models that are being sent; made, and emptied */
    const char *adapter;      /* the adapter for Python's modules; NULL: models go without code */
    fl_tracker_open_fn *open; /* fl_tracker_mlflow_open */
    void *open_user;
    void (*changed)(void *user, const char *ns, const char *project); /* any thread; may be NULL */
    void *user;
    int64_t base_delay_ms, max_delay_ms; /* of back-off; 0: 1 s, 60 s */
};

/* What it points to is lent. */
int fl_tracking_create(const struct fl_tracking_options *options, struct fl_tracking **ret_tracking,
                       struct fl_error *err);
/* Stopped before. */
void fl_tracking_destroy(struct fl_tracking *tracking);
FL_DEFINE_CLEANUP(struct fl_tracking, fl_tracking_destroy)

/* Production: threads that wait. */
int fl_tracking_start(struct fl_tracking *tracking, struct fl_error *err);
/* Breaks calls off; within about a second. Never started is fine. */
void fl_tracking_stop(struct fl_tracking *tracking);
/* Tests and the simulation: one project, if one is due; false: none. */
bool fl_tracking_step(struct fl_tracking *tracking);
int64_t fl_tracking_next_due_ms(struct fl_tracking *tracking);

/* Any thread. Something about the project, which is to be tracked or not, may have changed. One
 * that failed waits for its next try, unless it has another metadata.generation by now. */
void fl_tracking_wake(struct fl_tracking *tracking, const struct fl_object_meta *project,
                      bool wanted);

/* What there is to show. Reasons: Recorded (holds), Unreachable, Unauthorized, Refused,
 * CredentialsMissing, Pending (not looked at yet). */
struct fl_tracking_state {
    bool holds;
    const char *reason, *message;
    const char *url, *experiment_id, *run_id; /* NULL: not known */
    int64_t pending;                          /* rounds and models that are owed */
};
/* Of the project with this uid, into the arena. */
void fl_tracking_state(struct fl_tracking *tracking, const char *ns, const char *project,
                       const char *uid, struct fl_arena *arena,
                       struct fl_tracking_state *ret_state);

#endif
