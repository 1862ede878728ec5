/* The round protocol: what learners, aggregators and the control plane say to each other.
 *
 * JSON over HTTP/1.1. Learners call out (they sit behind NAT), so all requests go from the learner
 * to its aggregator. An aggregator of a lower tier is a learner to the one above and speaks the
 * same. Two kinds of connection that never share one:
 *
 *   control   the requests below. One connection holds the long poll, another all the rest.
 *   bulk      models and updates: GET /v1/models/{digest} (ranges; the digest is that of the whole,
 *             see workloads/transfer/bulk_server.h) and the pieces of an upload at the path that
 * the answer to an offer names.
 *
 * What a learner does (anybody may write one):
 *
 *   POST /v1/join          struct fl_join    -> fl_joined. Again at any time: joining is idempotent
 *   GET  /v1/task?learner=ID&after=SEQ&join=TOKEN
 *                                            -> fl_task. Answered once the learner's task is
 * another than SEQ (0: none known), or after joined.pollMs with the same one. Answers may come late
 * or doubled: one with a lower seq than the last is ignored POST /v1/progress      fl_progress ->
 * fl_answer. Where it says Stop, the work is for nothing: what is being done for it is broken off
 *   POST /v1/updates       fl_offer          -> fl_answer. Offers an update. Send: bring its bytes
 *                                            to answer.path (bulk), then offer again. Wait: offer
 *                                            again in retryMs. Counted, Refused: settled. The
 *                                            answer may take ten seconds, until there is one
 *   POST /v1/evaluations   fl_result         -> fl_answer
 *   POST /v1/leave         fl_leave          -> fl_answer
 *
 * All are safe to repeat. 404 NotJoined means that the aggregator began anew, or knows another
 * TOKEN (which may be left out): join again. A learner keeps an update until it has a task whose
 * `work` is another: after a restart of the aggregator, or when an attempt did not succeed, it is
 * asked for the same work again and offers the update that it has. It offers work of one round to
 * one aggregator only, and where it moved it takes part again from the next round or attempt on
 * (task.origin); aggregators refuse what nevertheless would be counted twice.
 *
 * What a controller (or a person) does; all idempotent:
 *
 *   PUT  /v1/rounds/N      fl_round_order     -> fl_round_report. The same spec again changes
 *                                            nothing, another one is a Conflict. The round must be
 *                                            the one after the last committed
 *   GET  /v1/rounds/N?after=VERSION          -> fl_round_report, once its version is above VERSION
 *                                            or after pollMs
 *   POST /v1/rounds/N/abort {}               -> fl_round_report
 *   PUT  /v1/children      fl_children       -> fl_answer. Where aggregators of the tier below can
 *                                            be reached; a learner whose aggregator is gone joins
 *                                            here and is told by Move
 *   POST /v1/stop          fl_stop           -> fl_answer. Learners get End
 *   GET  /v1/status?after=VERSION            -> fl_status, once its version is another than
 *                                            VERSION or after pollMs; without VERSION at once
 *
 * Errors are {"error":{"reason":"NotFound","message":"…"}} with an HTTP status; reasons are those
 * of lib/error.h and NotJoined.
 *
 * Encoding: members that are absent take the default; unknown members are ignored, so that newer
 * peers may say more; wrong types, texts beyond their bounds, numbers out of range and numbers that
 * are not finite are refused with the member's path. Times are spans in milliseconds (peers' clocks
 * differ). What is decoded lives in the arena given. No state; any thread. */
#ifndef FL_WORKLOADS_PROTOCOL_H
#define FL_WORKLOADS_PROTOCOL_H

#include "lib/digest.h"
#include "lib/error.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_PROTOCOL_VERSION 1

/* Bounds of what a peer may say. */
#define FL_PROTOCOL_BODY_MAX         ((size_t)4 * 1024 * 1024)
#define FL_PROTOCOL_NAME_MAX         253
#define FL_PROTOCOL_TEXT_MAX         1024
#define FL_PROTOCOL_LIST_MAX         64
#define FL_PROTOCOL_CONTRIBUTORS_MAX 65536
#define FL_PROTOCOL_METRICS_MAX      64
#define FL_PROTOCOL_CHILDREN_MAX     4096
#define FL_PROTOCOL_EXCLUDED_MAX     100
#define FL_PROTOCOL_NUMBER_MAX       ((int64_t)9007199254740991) /* whole in every JSON reader */

struct fl_texts {
    const char **items;
    size_t count;
};

struct fl_pair {
    const char *key, *value;
};
struct fl_pairs {
    struct fl_pair *items;
    size_t count;
};

struct fl_metric {
    const char *name;
    double value;
};
struct fl_metrics {
    struct fl_metric *items;
    size_t count;
};

/* --- learners ------------------------------------------------------------------------------- */

struct fl_join {
    int64_t protocol;    /* FL_PROTOCOL_VERSION */
    const char *learner; /* stable: the same after a restart */
    const char *name;    /* for people; default: learner */
    const char *token;   /* another with whatever it says here; polls name it, so that of joins that
                            overtake each other the last said counts */
    const char *project; /* that it wants to serve; NULL: any */
    const char *platform;
    int64_t examples;        /* it has; of an aggregator: its learners' sum */
    bool aggregator;         /* of the tier below: hands up partial sums */
    int64_t learners;        /* below it; of an aggregator */
    struct fl_pairs labels;  /* of its node */
    struct fl_texts tags;    /* data sets it has */
    const char *orphan_of;   /* the aggregator it lost */
    int64_t expected_fit_ms; /* how long training took the last time; 0: not known */
};

struct fl_joined {
    int64_t protocol;
    const char *aggregator; /* its id */
    const char *project;
    int64_t poll_ms;          /* how long a poll is held at most */
    int64_t silence_ms;       /* who is not heard of for so long is dropped from the round */
    int64_t progress_ms;      /* how often progress is wanted while a task is worked on */
    int64_t chunk_bytes;      /* of uploads */
    int64_t max_update_bytes; /* larger updates are refused */
    const char *parent;       /* where to turn to if this aggregator is gone; NULL: nowhere */
};

enum fl_task_kind {
    FL_TASK_FIT = 1,
    FL_TASK_EVALUATE,
    FL_TASK_WAIT,
    FL_TASK_MOVE,
    FL_TASK_END,
    FL_TASK_INIT, /* make the initial model from `seed`, and offer it as an update is */
};
extern const char *const fl_task_kinds[]; /* "Fit" …; [kind - 1] */

/* What training is told; see struct fl_fit_options. */
struct fl_local_options {
    int64_t epochs, batch_size;
    double learning_rate, momentum, proximal_mu, weight_decay;
    const json_t *config; /* the user's own object, at most 64 KiB; may be NULL */
};

/* FLProject.spec.training.strategy. What is NAN or < 0 takes the rule's default. */
struct fl_strategy_spec {
    const char *name;
    double server_learning_rate, server_momentum, beta1, beta2, tau, q, trim_fraction, norm_bound;
    int64_t byzantine_learners, select_updates, max_iterations, buffer_size;
};

/* How exact sums are made in this attempt (workloads/strategy/exact.h): the root's choice. */
struct fl_precision_spec {
    int64_t range_bits, bits, max_weight;
};

/* What only an aggregator needs: how to sum for the tier above, and how to run its own rounds. */
struct fl_tier_spec {
    bool present; /* false in a task for a learner */
    struct fl_strategy_spec strategy;
    struct fl_precision_spec precision;
    int64_t max_examples;            /* that one contribution may claim; 0: no bound */
    int64_t rounds_per_parent_round; /* of its own, for this one; the last hands up its sum */
    double fraction;                 /* of its learners in each */
    double over_selection;
    int64_t quorum; /* contributions it needs */
    int64_t retry_limit;
    int64_t deadline_ms; /* of each of its rounds */
};

struct fl_task {
    int64_t seq; /* grows, also across restarts of the aggregator */
    enum fl_task_kind kind;
    /* Fit, Evaluate, Init */
    const char *project;
    int64_t round, attempt;
    const char *origin; /* the root's round and attempt, "12.1": whoever moved skips this one */
    const char *work;   /* Fit, Init: equal work (with an equal seed) gives an equal update */
    const char *model;  /* digest: the base, or the model to be evaluated */
    int64_t model_size;
    int64_t deadline_ms;           /* left */
    struct fl_local_options local; /* Fit */
    int64_t seed;                  /* this learner's; Init: the project's */
    struct fl_texts tags;          /* data sets to use; none: all */
    int64_t min_examples;          /* a learner with fewer takes no part */
    struct fl_tier_spec tier;      /* Fit */
    bool late;                     /* what comes after the deadline may still count */
    /* Move */
    const char *address;
    /* Wait, Move, End: why, for people */
    const char *message;
};

struct fl_progress {
    const char *learner, *project;
    int64_t round, attempt;
    const char *stage;  /* "Downloading", "Training", "Uploading", "Evaluating" */
    int64_t done, all;  /* bytes or steps */
    bool gave_up;       /* it cannot: another may take its place */
    const char *reason; /* gave_up: one CamelCase word */
    const char *message;
};

/* An update is identified by (project, round, attempt, learner). */
struct fl_offer {
    const char *learner, *project;
    int64_t round, attempt;
    const char *work, *base; /* as in the task; base NULL: an initial model */
    const char *digest;      /* a sha256 or an xxh128 (lib/digest.h); of an initial model: sha256 */
    int64_t size;            /* bytes */
    int64_t examples;        /* trained on */
    int64_t steps;
    double loss_before, loss; /* means over the examples; NAN: not said */
    double loss_rms;          /* root of the mean square of the examples' losses; NAN: not said */
    struct fl_metrics metrics;
    int64_t download_ms, train_ms; /* how long it took */
    /* A partial sum, of an aggregator's */
    bool partial;
    struct fl_texts contributors; /* learners in it, sorted */
};

struct fl_result {
    const char *learner, *project;
    int64_t round;
    const char *model; /* digest */
    int64_t examples;  /* 0: it has none to evaluate on */
    double loss;       /* NAN: not said */
    struct fl_metrics metrics;
};

struct fl_leave {
    const char *learner;
    const char *message;
};

enum fl_verdict {
    FL_VERDICT_OK = 1,
    FL_VERDICT_SEND,
    FL_VERDICT_WAIT,
    FL_VERDICT_COUNTED,
    FL_VERDICT_REFUSED,
    FL_VERDICT_STOP
};
extern const char *const fl_verdicts[]; /* "Ok", "Send", "Wait", "Counted", "Refused", "Stop" */

struct fl_answer {
    enum fl_verdict verdict;
    const char *path;   /* Send: where the bytes go */
    int64_t retry_ms;   /* Wait */
    const char *reason; /* Refused, Stop: one CamelCase word */
    const char *message;
};

/* --- the control plane ---------------------------------------------------------------------- */

enum fl_mode { FL_MODE_SYNC = 1, FL_MODE_SEMISYNC, FL_MODE_ASYNC };
extern const char *const fl_modes[];
enum fl_selection {
    FL_SELECTION_ALL = 1,
    FL_SELECTION_RANDOM,
    FL_SELECTION_AVAILABILITY,
    FL_SELECTION_OORT
};
extern const char *const fl_selections[];
enum fl_weighting { FL_WEIGHTING_CONSTANT = 1, FL_WEIGHTING_POLYNOMIAL, FL_WEIGHTING_EXPONENTIAL };
extern const char *const fl_weightings[];

/* FLProject.spec.training.participation, resolved. Least numbers are of learners, through all
 * tiers. */
struct fl_participation_spec {
    int64_t min_available, available_within_ms;
    double fraction, over_selection;
    int64_t quorum; /* 0: fraction of min_available, rounded up */
    int64_t deadline_ms;
    int64_t retry_limit;
    enum fl_selection selection;
    double max_example_share;
};

struct fl_staleness_spec {
    int64_t max_rounds;
    enum fl_weighting weighting;
    double exponent;
};

struct fl_evaluation_spec {
    bool enabled;
    double fraction;
    int64_t deadline_ms;
};

struct fl_round_order {
    const char *project;
    int64_t round;     /* from 1 */
    int64_t run;       /* a failed round may be started again with a higher one */
    const char *model; /* base: digest; must be here (PUT /v1/models/{digest}). NULL: a learner
                          makes it from the seed */
    int64_t model_size;
    enum fl_mode mode;
    int64_t seed; /* the project's */
    struct fl_local_options local;
    struct fl_strategy_spec strategy;
    struct fl_participation_spec participation;
    struct fl_staleness_spec staleness;
    struct fl_evaluation_spec evaluation;
    struct fl_texts tags;
    int64_t min_examples;
    int64_t range_bits; /* values are at most 2^it */
    int64_t
        max_weight; /* sum of examples that sums are planned for; 0: from what members declare */
    int64_t rounds_per_parent_round; /* of the tier below */
    int64_t tier_deadline_ms;        /* of the tier below; 0: its even part of three quarters
                                        of the deadline */
};

enum fl_round_phase {
    FL_ROUND_WAITING = 1, /* for learners */
    FL_ROUND_TRAINING,
    FL_ROUND_AGGREGATING,
    FL_ROUND_EVALUATING,
    FL_ROUND_COMMITTED, /* and evaluated: the end */
    FL_ROUND_FAILED,
    FL_ROUND_ABORTED
};
extern const char *const fl_round_phases[];

enum fl_outcome { FL_OUTCOME_LATE = 1, FL_OUTCOME_DROPPED, FL_OUTCOME_REJECTED };
extern const char *const fl_outcomes[]; /* "Late", "Dropped", "Rejected" */

struct fl_exclusion {
    const char *learner;
    enum fl_outcome outcome;
    const char *reason, *message;
};
struct fl_exclusions {
    struct fl_exclusion *items;
    size_t count;
};

struct fl_round_report { /* what FLRound.status needs */
    const char *project;
    int64_t round, run, attempt;
    int64_t version; /* grows with every change, also across restarts */
    enum fl_round_phase phase;
    const char *reason, *message; /* of Failed, Aborted; of Waiting what for */
    int64_t selected, reported, late, dropped, rejected;
    struct fl_exclusions excluded; /* the first hundred */
    int64_t excluded_omitted;
    int64_t asked;    /* learners that were selected or are below who was; < selected: not said */
    int64_t learners; /* whose update counts, through all tiers */
    int64_t examples;
    struct fl_metrics train, evaluation;
    const char *base; /* digest: what it began with; NULL: a learner is still making it */
    int64_t base_size;
    const char *model; /* digest; set as soon as it is committed */
    int64_t model_size;
    int64_t select_ms, download_ms, train_ms, upload_ms, aggregate_ms, evaluate_ms, total_ms;
    int64_t bytes_up, bytes_down;
    int64_t staleness_max;
    double staleness_mean;
};

struct fl_children {
    struct fl_pairs children; /* aggregator's id to its address */
};

struct fl_stop {
    const char *message;
};

struct fl_status {
    int64_t protocol;
    const char *aggregator, *project;
    int64_t life; /* starts of this aggregator */
    int64_t members, available, learners, examples;
    int64_t round;     /* the last one that was started */
    int64_t committed; /* the last one that was committed */
    const char *model; /* it made */
    bool stopped;
    int64_t version; /* another with every change of the above, also across restarts; 0: it is
                        not counted, and nothing is held */
};

/* --- coding --------------------------------------------------------------------------------- */

/* A message's form: pass &fl_form_join for a struct fl_join … */
struct fl_form;
#define FL_PROTOCOL_FORMS(X)                                                                       \
    X(join, fl_join)                                                                               \
    X(joined, fl_joined)                                                                           \
    X(task, fl_task)                                                                               \
    X(progress, fl_progress)                                                                       \
    X(offer, fl_offer)                                                                             \
    X(result, fl_result)                                                                           \
    X(leave, fl_leave)                                                                             \
    X(answer, fl_answer)                                                                           \
    X(tier, fl_tier_spec)                                                                          \
    X(round_order, fl_round_order)                                                                 \
    X(round_report, fl_round_report)                                                               \
    X(children, fl_children)                                                                       \
    X(stop, fl_stop)                                                                               \
    X(status, fl_status)
#define FL_PROTOCOL_DECLARE_(name, type) extern const struct fl_form fl_form_##name;
FL_PROTOCOL_FORMS(FL_PROTOCOL_DECLARE_)
#undef FL_PROTOCOL_DECLARE_

/* The struct with its defaults. */
void fl_message_init(const struct fl_form *form, void *message);
/* BAD_REQUEST: no JSON; INVALID: "offer.examples: …"; TOO_LARGE. `ret_message` is of the form's
 * struct, and untouched on failure. Free-form members (config) live as long as the arena. */
int fl_message_decode(struct fl_arena *arena, const struct fl_form *form, const void *text,
                      size_t len, void *ret_message, struct fl_error *err);
int fl_message_from_json(struct fl_arena *arena, const struct fl_form *form, const json_t *value,
                         void *ret_message, struct fl_error *err);
/* A copy that needs nothing of the original but its config. */
void fl_message_copy(struct fl_arena *arena, const struct fl_form *form, const void *message,
                     void *ret_message);
/* Canonical: equal messages are equal bytes; what is default is left out. */
struct fl_bytes *fl_message_encode(const struct fl_form *form, const void *message);
json_t *fl_message_to_json(const struct fl_form *form, const void *message);

/* A request's place: which of the above, and its parameters. */
enum fl_route {
    FL_ROUTE_NONE = 0,
    FL_ROUTE_JOIN,
    FL_ROUTE_TASK,
    FL_ROUTE_PROGRESS,
    FL_ROUTE_OFFER,
    FL_ROUTE_RESULT,
    FL_ROUTE_LEAVE,
    FL_ROUTE_START_ROUND,
    FL_ROUTE_WATCH_ROUND,
    FL_ROUTE_ABORT_ROUND,
    FL_ROUTE_CHILDREN,
    FL_ROUTE_STOP,
    FL_ROUTE_STATUS,
};
struct fl_routed {
    enum fl_route route;
    int64_t round;
    const char *learner, *join;
    int64_t after; /* task: seq; watch, status: version (of status: < 0 where it is not said) */
};
/* NOT_FOUND: no such path (bulk paths are not control requests); METHOD_NOT_ALLOWED; BAD_REQUEST:
 * parameters. */
int fl_protocol_route(struct fl_arena *arena, const char *method, const char *target,
                      struct fl_routed *ret_routed, struct fl_error *err);
bool fl_route_is_control_plane(enum fl_route route); /* not for learners: authorize apart */

/* {"error":…} and back: the code, with the peer's words; `reason` NULL: the code's. */
#define FL_REASON_NOT_JOINED "NotJoined"
struct fl_bytes *fl_protocol_error(const struct fl_error *err, const char *reason);
int fl_protocol_read_error(int http_status, const void *text, size_t len, bool *ret_not_joined,
                           struct fl_error *err);

/* The learner's own seed, from the project's: the same in every attempt and below every tier. */
int64_t fl_protocol_seed(int64_t seed, int64_t round, const char *learner);
/* 64 bits that depend on all of these and nothing else; no secret. */
uint64_t fl_protocol_hash(int64_t seed, int64_t a, int64_t b, const char *id);

#endif
