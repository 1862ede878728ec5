/* What should become of an FLProject: all of the policy, as one pure function.
 *
 * From the spec, the children, the rounds, the models, the nodes, what the root says and the time
 * follow what should exist and what is to be shown. Nothing is remembered between calls but what
 * objects carry: each FLRound that the project makes carries a tally of all before it (best model,
 * patience, failures), so that old rounds may go. It may be asked at any time, twice, or after a
 * crash.
 *
 * Everything is in the arena or lent by the input. Any thread. */
#ifndef FL_RECONCILERS_FLPROJECT_DECIDE_H
#define FL_RECONCILERS_FLPROJECT_DECIDE_H

#include "reconcilers/flproject/flproject_code.h"
#include "reconcilers/flproject/flproject_plan.h"

/* Annotation of the FLRounds that a project makes. */
#define FL_FLPROJECT_TALLY    "flops.dev/tally"
#define FL_FLPROJECT_SERVICES "flops.dev/services" /* a digest of those it began with */

enum fl_flproject_known {
    FL_FLPROJECT_UNKNOWN = 1, /* under way */
    FL_FLPROJECT_UNREACHABLE,
    FL_FLPROJECT_KNOWN,
};

/* What the root says. */
struct fl_flproject_federation {
    enum fl_flproject_known known;
    const char *message; /* UNREACHABLE: why */
    int64_t members, available, learners;
    int64_t committed;
    const char *model; /* of the last committed round */
};

/* A condition to be set. */
struct fl_flproject_told {
    const char *type;
    bool holds;
    const char *reason, *message;
};

/* What the tracking server has of it. */
struct fl_flproject_tracking {
    bool known; /* false: nobody keeps spec.tracking */
    struct fl_flproject_told told;
    struct fl_project_status_tracking status;
};

struct fl_flproject_input {
    const struct fl_project *project;
    const json_t *json; /* the same, as it was read */
    bool suspend;
    int64_t now_us; /* realtime */

    bool has_orchestrator, orchestrator_ready;
    const char *orchestrator_message; /* why it is not ready; may be NULL */
    const struct fl_flproject_node *nodes;
    size_t node_count;
    struct fl_workload *const *workloads; /* children */
    size_t workload_count;
    struct fl_round *const *rounds; /* all that name the project */
    size_t round_count;
    struct fl_modelversion *const *models; /* all that name the project */
    size_t model_count;
    struct fl_flproject_fetched fetched; /* the commit of source.git */
    struct fl_imagebuild *const *builds; /* children */
    size_t build_count;
    const struct fl_inferenceserver *server; /* the child; NULL: there is none */
    struct fl_flproject_federation federation;
    struct fl_flproject_tracking tracking;
    /* What to begin with, where spec.training.initialModel names a project or an address. */
    const char *initial_model;   /* digest; NULL: there is none */
    const char *initial_problem; /* why there is none */
};

enum fl_flproject_verdict {
    FL_FLPROJECT_DONE = 1, /* all is as it should be */
    FL_FLPROJECT_NOT_YET,
    FL_FLPROJECT_STALLED,
};

/* Aliases that the project gives a model. */
struct fl_flproject_alias {
    const struct fl_modelversion *model;
    bool best, latest;
};

#define FL_FLPROJECT_TOLD_MAX 10

struct fl_flproject_decision {
    /* What should exist. */
    bool has_services; /* false: what there is stays as it is */
    bool holds;        /* the same, until the round under way is done: it began with others */
    struct fl_flproject_plan plan;
    struct fl_flproject_code code;
    struct fl_round *start;   /* to be applied; NULL: none. Its number is … */
    int64_t start_number;     /* … this */
    struct fl_round **pauses; /* own rounds whose suspend changes, as they should be */
    size_t pause_count;
    const struct fl_round **drops; /* rounds to be deleted */
    size_t drop_count;
    struct fl_flproject_alias *aliases; /* of all models that have some, or should */
    size_t alias_count;
    bool serve; /* there is a model to serve, and spec.serve */

    /* What is to be shown. */
    struct fl_project_status status; /* but conditions and generation */
    struct fl_flproject_told told[FL_FLPROJECT_TOLD_MAX];
    size_t told_count;
    enum fl_flproject_verdict verdict;
    struct fl_flproject_told cause; /* of a verdict other than DONE; else reason and message */
    int64_t look_again_ms;          /* < 0: need not */
};

void fl_flproject_decide(const struct fl_flproject_input *input, struct fl_arena *arena,
                         struct fl_flproject_decision *ret_decision);

/* Role of the FLRound with this number. */
const char *fl_flproject_round_role(struct fl_arena *arena, int64_t number);

#endif
