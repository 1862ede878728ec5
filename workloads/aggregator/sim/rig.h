/* A rig for the round protocol: a controller, a root, tiers of any depth and learners in one thread
 * and virtual time, with messages lost, late, doubled and reordered, learners that lie, fail, hang,
 * leave and return, and every party crashing at any action. For tests only.
 *
 * Models are tiny and real: what any aggregator commits must have the same bits as a recomputation
 * from what its journal says it accepted, and what the root commits those of a flat sum (audit.c).
 * A seed is a world. Mistakes can be planted in the adapters between the cores and this world, so
 * that it is known that the audit finds them.
 *
 *   world.c        chance, time, the run of a world
 *   plan.c         what a world is like, by its seed
 *   node.c         processes, their disks, the network
 *   aggregators.c  what aggregators' cores ask for
 *   learners.c     what learners' cores ask for
 *   control.c      the control plane
 *   audit.c        what must be true at the end */
#ifndef FL_WORKLOADS_AGGREGATOR_SIM_RIG_H
#define FL_WORKLOADS_AGGREGATOR_SIM_RIG_H

#include "lib/json.h"
#include "lib/map.h"
#include "workloads/aggregator/aggregator_core.h"
#include "workloads/aggregator/journal.h"
#include "workloads/learner/learner_core.h"
#include "workloads/strategy/strategy.h"

#define RIG_NODES_MAX  40
#define RIG_ROUNDS_MAX 8
#define RIG_NEVER      INT64_MAX
#define RIG_KEEP       2 /* options.keep_models */

/* Mistakes that can be planted. */
enum rig_bug {
    RIG_BUG_NONE = 0,
    RIG_BUG_UNSYNCED_JOURNAL, /* what a crash finds written last was not synced */
    RIG_BUG_SUM_OUTLIVES,     /* a restarted aggregator goes on with the sum of its earlier life */
    RIG_BUG_HALF_COMMIT,      /* a model is not durable when its commit is */
    RIG_BUG_QUORUM_OFF,       /* one update fewer than the quorum is enough */
    RIG_BUG_LATE_TWICE,       /* a late update is added twice */
    RIG_BUG_MOVED_TWICE,      /* a learner that moved is counted in both tiers */
    RIG_BUG_TAIL_STAYS,       /* a torn write is not cut off */
    RIG_BUG_REPLACE_TORN,     /* a journal is replaced in place */
    RIG_BUG_REPLACE_FORGETS,  /* a replaced journal forgets what was counted */
    RIG_BUG_UPLOADS_MIXED,    /* uploads of two lives have the same name */
    RIG_BUG_STATE_LOST,       /* momenta are lost with a restart */
    RIG_BUG_STATE_RUNS_ON,    /* a sum that was not committed moves the momenta */
    RIG_BUG_REFUSED_COUNTS,   /* a refused update is reported as folded */
    RIG_BUG_OWN_PRECISION,    /* a tier sums as it likes */
    RIG_BUG_SHARE_IGNORED,    /* claims are not bounded */
    RIG_BUG_STALE_BASE,       /* a learner trains from the model it has instead of the task's */
    RIG_BUG_TIMER_LOST,       /* a learner's timer does not fire any more */
    RIG_BUG_RELEASED_EARLY,   /* a model goes while it is needed */
    RIG_BUG_NEVER_RELEASED,   /* models stay for ever */
    RIG_BUG_WRONG_BYTES,      /* an upload's digest is not checked */
    RIG_BUG_HANG_WAITED_FOR,  /* a trainer that hangs is waited for */
    RIG_BUG_STEP_LEFT_OUT,    /* of a parent's round, a tier's last step begins with its base */
    RIG_BUGS,
};
extern const char *const rig_bugs[RIG_BUGS];

enum rig_event_kind {
    RIG_TICK,       /* of a node's cores */
    RIG_START,      /* of a node */
    RIG_REQUEST,    /* arrives at a node */
    RIG_REPLY,      /* arrives at a node: ticket, status, body */
    RIG_DOWNLOAD,   /* is looked for at a node */
    RIG_DOWNLOADED, /* arrives */
    RIG_UPLOAD,
    RIG_UPLOADED,
    RIG_STAGED,
    RIG_TRAINED,
    RIG_BEGUN,
    RIG_FOLDED,
    RIG_FINISHED,
    RIG_ADOPTED,
    RIG_KILL,
    RIG_LEAVE,
    RIG_HUNG,     /* a trainer should have been broken off by now: ticket */
    RIG_CONTROL,  /* the controller's next step */
    RIG_CHILDREN, /* the controller says where tiers are */
};

struct rig_event {
    int64_t at;
    uint64_t order;
    enum rig_event_kind kind;
    int node, from;
    int64_t life; /* of the node it is for: others ignore it */
    uint64_t ticket, request, upload;
    int status;
    char method[8], *target;
    struct fl_bytes *body;
    char digest[FL_DIGEST_SIZE], state[FL_DIGEST_SIZE];
    bool failed, evaluation;
    struct fl_error err;
    struct fl_bytes *offer; /* RIG_TRAINED: the facts */
};

enum rig_role { RIG_ROOT, RIG_TIER, RIG_LEARNER, RIG_CONTROLLER };
enum rig_nature { RIG_HONEST, RIG_NOT_FINITE, RIG_FAILING, RIG_SLOW, RIG_HANGING, RIG_BOASTING };

struct rig_node {
    enum rig_role role;
    char id[16], address[16], home[16], above[16]; /* home: its aggregator; above: that one's */
    int level;                                     /* of tiers: 1 below the root */
    int64_t life;                                  /* grows with each start */
    bool up, gone;                                 /* gone: for ever */
    bool ended, leaving;
    int64_t tick_at;
    /* disk */
    struct fl_buf journal;
    size_t journal_synced; /* RIG_BUG_UNSYNCED_JOURNAL */
    struct fl_map *files;  /* digest -> struct fl_model */
    struct fl_map *found;  /* digests that were there at its start */
    struct fl_bytes *kept;
    json_t *ledger; /* every record that was ever durable, with what it began with */
    size_t ledger_synced;
    /* a process' memory */
    struct fl_aggregator_core *aggregator;
    struct fl_learner_core *learner;
    struct fl_strategy *strategy, *outlived;
    char rule[64], state[FL_DIGEST_SIZE], fresh[FL_DIGEST_SIZE];
    struct fl_map *held;    /* digest -> who needs it; tiers */
    struct fl_map *staged;  /* upload id -> struct rig_staged */
    uint64_t parent_ticket; /* of a tier's learner core */
    bool swept, began;
    int ticks;
    uint64_t hanging; /* the job that hangs */
    char first_base[FL_DIGEST_SIZE];
    /* of a learner */
    int64_t examples;
    enum rig_nature nature;
};

struct rig_staged {
    char digest[FL_DIGEST_SIZE];
    struct fl_model *model;
};

struct rig_totals {
    size_t crashes, commits, lost, steps, replacements, aborts, leaves, moves, refused, late, hung,
        adopted;
};

struct rig_world {
    uint64_t seed, random, order, requests;
    enum rig_bug bug;
    bool verbose;
    int64_t now, quiet_at; /* no more faults from then on */
    int64_t stop_at;
    struct rig_event *heap;
    size_t count, cap, steps;
    struct rig_node nodes[RIG_NODES_MAX];
    int node_count, depth, tiers, learners, controller;
    struct fl_map *asked;   /* request -> who asked */
    struct fl_map *archive; /* digest -> every model there ever was, for the audit */
    /* the plan */
    unsigned loss, doubling, crash; /* chances in 1/1000 */
    enum fl_mode mode;
    const char *strategy;
    double share;
    int64_t rounds, inner, quorum, max_weight;
    bool evaluate, varies, aborts;
    bool twins;        /* two learners with one name, in two tiers */
    bool from_nothing; /* a learner makes the first model */
    /* the control plane */
    int64_t round, run, failed;
    bool put_done, all_done;
    uint64_t control_ticket;
    int64_t control_version;
    char model[FL_DIGEST_SIZE];
    int64_t model_size;
    struct rig_totals totals;
    char failure[400];
};

/* The failure's text in `out`, empty where all is well. */
void rig_run(uint64_t seed, enum rig_bug bug, bool verbose, char out[400],
             struct rig_totals *totals);

/* world.c */
void rig_fail(struct rig_world *world, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void rig_say(const struct rig_world *world, const struct rig_node *node, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int64_t rig_below(struct rig_world *world, int64_t bound);
bool rig_chance(struct rig_world *world, unsigned per_mille); /* never once all is quiet */
int64_t rig_latency(struct rig_world *world);
void rig_push(struct rig_world *world, struct rig_event event);
struct rig_event rig_event_for(struct rig_world *world, enum rig_event_kind kind, int node,
                               int64_t delay_ms);
void rig_event_finish(struct rig_event *event);

/* plan.c */
void rig_build(struct rig_world *world, uint64_t seed);
/* What the seed makes: the first model, by whomever. */
struct fl_model *rig_first_model(const struct rig_world *world);
/* The spec of a round: a function of the seed and the round. */
struct fl_round_order rig_spec(const struct rig_world *world, int64_t round);
int64_t rig_project_seed(const struct rig_world *world);

/* node.c */
int rig_index(const struct rig_world *world, const struct rig_node *node);
struct rig_node *rig_node_at(struct rig_world *world, const char *address);
void rig_start(struct rig_world *world, struct rig_node *node);
void rig_crash(struct rig_world *world, struct rig_node *node);
void rig_node_finish(struct rig_node *node);
void rig_staged_destroy(void *staged);
void rig_put_file(struct rig_world *world, struct rig_node *node, struct fl_model *model,
                  enum fl_digest_kind kind, char digest[FL_DIGEST_SIZE]);
void rig_archive(struct rig_world *world, struct fl_model *model, enum fl_digest_kind kind,
                 char digest[FL_DIGEST_SIZE]);
void rig_sweep(struct rig_node *node, bool (*needs)(const struct rig_node *, const char *));
int64_t rig_file_size(const struct fl_model *model);
void rig_send_request(struct rig_world *world, int from, uint64_t ticket, const char *address,
                      const char *method, const char *target, struct fl_bytes *body);
void rig_send_reply(struct rig_world *world, uint64_t request, int status, struct fl_bytes *body);
void rig_refuse_connection(struct rig_world *world, const struct rig_event *event);

/* aggregators.c. False: the process died of it. */
bool rig_do_aggregator(struct rig_world *world, struct rig_node *node,
                       const struct fl_aggregator_action *action);
void rig_use_rule(struct fl_strategy_options *options, const struct fl_strategy_spec *spec);
void rig_release(struct rig_node *node, const char *digest, uintptr_t who);
void rig_hold(struct rig_node *node, const char *digest, uintptr_t who);
enum { RIG_HELD_BY_CORE = 1, RIG_HELD_BY_UPLINK = 2 };

/* learners.c */
bool rig_do_learner(struct rig_world *world, struct rig_node *node,
                    const struct fl_learner_action *action);
void rig_trained(struct rig_world *world, struct rig_node *node, const struct rig_event *event);
/* What a learner makes of a base: a function of its seed, as a trainer is. */
struct fl_model *rig_train(const struct fl_model *base, int64_t seed);
int64_t rig_steps(int64_t examples);
double rig_loss(int64_t seed);

/* control.c */
void rig_control(struct rig_world *world);
void rig_controlled(struct rig_world *world, const struct rig_event *event);
void rig_tell_children(struct rig_world *world);

/* audit.c */
void rig_audit(struct rig_world *world);
void rig_compare_journals(struct rig_world *world, struct rig_node *node,
                          const struct fl_journal_state *old, const struct fl_journal_state *new);

#endif
