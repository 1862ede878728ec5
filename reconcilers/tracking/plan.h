/* What a tracker should hold of a project: a pure function of objects.
 *
 * One experiment (of the name the project gives, or NAMESPACE/NAME); in it one run for the
 * training, found again by the project's uid, and one child run a tier. Params are what the
 * training is made of; metrics are the rounds', with the number of the round as step and the time
 * it was committed as time, so that making them twice makes the same points. The last of a round's
 * metrics is FL_TRACK_ROUND: a round whose FL_TRACK_ROUND is there is there in whole.
 *
 * Single learners are told of only where spec.tracking.mlflow.perLearner says so, and then under
 * pseudonyms. All is in the arena or lent by the input. */
#ifndef FL_RECONCILERS_TRACKING_PLAN_H
#define FL_RECONCILERS_TRACKING_PLAN_H

#include "api/gen/flops_types.h"
#include "reconcilers/tracking/tracker.h"

/* Names of our own there. */
#define FL_TRACK_ROUND "flops.round"  /* metric: rounds that are delivered */
#define FL_TRACK_RUN   "flops.run"    /* tag: which run of ours it is */
#define FL_TRACK_MODEL "flops.digest" /* tag of models */
#define FL_TRACK_OWNER "flops.uid"    /* tag: the project's uid */
#define FL_TRACK_CHANGE                                                                            \
    "flops.spec." /* tags: params that were changed after they were recorded                       \
                   */
#define FL_TRACK_DATA "flops.datasets"

/* A round that is over: from its FLRound, or from the history of those that are gone. */
struct fl_track_past {
    int64_t number;
    bool committed;
    const struct fl_round_status *status;
};

struct fl_track_input {
    const struct fl_project *project;
    const json_t *json; /* the same, as it was read */
    const struct fl_track_past *rounds;
    size_t round_count;
    struct fl_modelversion *const *models;
    size_t model_count;
};

struct fl_track_round {
    int64_t number, time_ms;
    const struct fl_round_status *status;
    bool has_spent;
    double spent; /* of privacy, up to and with it */
};

struct fl_track_run {
    const char *key; /* value of the tag FL_TRACK_RUN */
    struct fl_tracked_new_run run;
    bool is_child; /* of the first */
    struct fl_string_map params;
    struct fl_tracked_dataset *datasets;
    size_t dataset_count;
    struct fl_track_round *rounds; /* ascending */
    size_t round_count;
    enum fl_tracked_status status;
    int64_t end_ms;
};

struct fl_track_model {
    const struct fl_modelversion *version;
    const char *name, *registered;
    const char **aliases;
    size_t alias_count;
    struct fl_string_map params, tags;
};

struct fl_track_plan {
    const struct fl_project *project;
    const char *owner; /* uid */
    const char *experiment;
    struct fl_string_map experiment_tags;
    struct fl_track_run *runs; /* the training's first */
    size_t run_count;          /* 0: no round has begun */
    struct fl_track_model *models;
    size_t model_count;
};

void fl_track_plan(const struct fl_track_input *input, struct fl_arena *arena,
                   struct fl_track_plan *ret_plan);

/* The metrics of one round: made when they are needed, as most rounds are delivered already. */
void fl_track_metrics(const struct fl_track_plan *plan, const struct fl_track_round *round,
                      struct fl_arena *arena, const struct fl_tracked_metric **ret_metrics,
                      size_t *ret_count);

/* A name that trackers take for a key, of at most 200 bytes: letters, digits, _ - . and no path. */
const char *fl_track_key(struct fl_arena *arena, const char *text);

#endif
