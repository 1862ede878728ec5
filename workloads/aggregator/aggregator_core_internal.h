/* What the files of the aggregator's core share.
 *
 * aggregator_core.c             the front door: life, actions, time
 * aggregator_core_control.c     requests, and those of the control plane
 * aggregator_core_parent.c      the parent's tasks
 * aggregator_core_member.c      members, their tasks and polls
 * aggregator_core_round.c       the life of a round, duties and their end
 * aggregator_core_attempt.c     one attempt: who is asked, when it is enough
 * aggregator_core_update.c      offers, uploads, folds
 * aggregator_core_held.c        offers that wait for their answer
 * aggregator_core_commit.c      the commit
 * aggregator_core_evaluation.c  evaluation, metrics
 * aggregator_core_initial.c     the initial model */
#ifndef FL_WORKLOADS_AGGREGATOR_CORE_INTERNAL_H
#define FL_WORKLOADS_AGGREGATOR_CORE_INTERNAL_H

#include "lib/map.h"
#include "workloads/aggregator/aggregator_core.h"
#include "workloads/aggregator/journal.h"
#include "workloads/aggregator/select.h"
#include "workloads/strategy/exact.h"

#include <sys/queue.h>

/* Means over examples that do not depend on the order of reports. */
struct metric_sum {
    struct fl_exact_scalar sum;
    int64_t weight;
};

enum duty { DUTY_NONE = 0, DUTY_FIT, DUTY_EVALUATE, DUTY_INIT };

struct member {
    char *id, *project, *token;
    int64_t examples, learners;
    bool aggregator;
    char **tags;
    size_t tag_count;
    int64_t heard_ms;
    char *move_to; /* orphans: where they belong; NULL: here */
    /* Its task. Any change gives it a new seq. */
    int64_t seq;
    enum fl_task_kind task;
    enum duty duty; /* what is still wanted of it */
    int64_t duty_round, duty_attempt;
    int64_t asked_ms;
    int64_t asked_round, asked_attempt; /* nobody is asked twice in one attempt */
    bool asked_evaluation, asked_initial;
    /* How its last update fared, for those who ask again. */
    int64_t settled_round, settled_attempt;
    enum fl_verdict settled;
    char settled_reason[64];
    int64_t counted_round, counted_attempt; /* in which its last update was counted */
    bool told_end;
    /* The poll that waits for a change; 0: none. */
    uint64_t poll;
    int64_t poll_until_ms;
    TAILQ_ENTRY(member) polling;
    struct fl_candidate stats;
};

enum upload_state { UPLOAD_EXPECTED = 1, UPLOAD_STAGED, UPLOAD_FOLDING };

struct upload {
    uint64_t id;
    struct fl_arena *arena;
    struct fl_offer offer;
    char *member;
    enum upload_state state;
    int64_t since_ms, until_ms;
    int64_t staleness;
    uint64_t ticket;
    TAILQ_ENTRY(upload) all;
};

struct watcher {
    uint64_t request;
    bool of_status; /* else of the round */
    int64_t after, until_ms;
    TAILQ_ENTRY(watcher) all;
};

struct held; /* an offer that waits for its answer: aggregator_core_held.c */
TAILQ_HEAD(held_list, held);
struct held_stamp {
    int64_t round, attempt;
    enum fl_round_phase phase;
    bool begun, closed, stopped;
};

struct queued {
    struct fl_aggregator_action action;
    TAILQ_ENTRY(queued) all;
};

struct past_base { /* of earlier rounds: what late updates began with */
    int64_t round;
    char digest[FL_DIGEST_SIZE];
};
#define PAST_MAX        64
#define FORGET_SILENCES 10 /* who is not heard of for so many silences is no member any more */

/* One attempt of a round. */
struct attempt {
    const char **order; /* who is asked next */
    size_t order_count, order_next;
    size_t want, ask;
    size_t active;      /* asked, and neither settled nor dropped */
    size_t folding;     /* FOLD without its result */
    bool begun, closed; /* closed: nothing more is taken in */
    uint64_t ticket;
    int64_t start_ms, deadline_ms, last_fold_ms, finish_ms;
    struct fl_precision_spec precision;
    int64_t max_examples;
    struct fl_map *counted; /* "round:learner" -> in this attempt's sum (or being folded) */
    struct fl_arena *arena;
    const char **contributors;
    size_t contributor_count, contributor_cap;
    size_t name_bytes; /* of those that count, being folded or already */
    int64_t *download_ms, *train_ms, *upload_ms;
    size_t times;
    size_t time_cap;
    int64_t staleness_sum;
    double utility;
    const char *lack; /* what keeps updates from being taken in; NULL: nothing */
};

struct evaluation {
    char model[FL_DIGEST_SIZE];
    int64_t round, model_size;
    bool for_parent;
    int64_t start_ms, deadline_ms;
    size_t active, reported;
    int64_t examples;
    int64_t max_examples; /* that one may claim; 0: no bound */
};

/* The making of an initial model; `work` and `made` stay for those who ask again. */
struct initial {
    bool active, for_parent;
    int64_t round, attempt, seed, patience_ms, until_ms;
    struct member *maker; /* who is at it; NULL: nobody */
    uint64_t ticket;      /* what came is being taken over; 0: not yet */
    int64_t asked;
    char work[FL_DIGEST_SIZE], made[FL_DIGEST_SIZE];
    char message[500]; /* how it went with the last one */
};

struct fl_aggregator_core {
    struct fl_aggregator_options options;
    char *id, *project, *parent;
    int64_t now_ms;
    int64_t life, seq, version;
    uint64_t tickets;
    struct fl_map *members;
    int64_t sum_learners, sum_examples; /* as last told */
    bool has_tiers;                     /* an aggregator has joined: members are not learners */
    bool members_changed;
    TAILQ_HEAD(, member) polls;
    TAILQ_HEAD(, upload) uploads;
    size_t upload_count;
    struct held_list held_for_place, held_for_fold;
    struct held_stamp held_stamp; /* when they were last looked at */
    uint64_t answered;            /* of them */
    TAILQ_HEAD(, watcher) watchers;
    bool status_changed;         /* perhaps */
    struct fl_bytes *status_was; /* without its version, which is: */
    int64_t status_version, status_ms;
    TAILQ_HEAD(, queued) actions;
    struct queued *lent;
    struct fl_arena *action_arena;
    struct fl_map *children; /* id -> address */
    bool stopped, stop_told;
    int64_t stop_until_ms;
    char *stop_message;
    int64_t sweep_ms;
    size_t journal_len, compact_len; /* as it is; as it was when it was replaced last */
    bool swept;                      /* what earlier lives left is gone */

    /* The round */
    bool has_round;
    struct fl_arena *round_arena;
    struct fl_round_order spec;
    struct fl_bytes *spec_text; /* to tell the same from another */
    struct fl_tier_spec tier;
    const char *origin, *work; /* below a parent: its task's */
    char leaf_work[FL_DIGEST_SIZE], tier_work[FL_DIGEST_SIZE];
    struct fl_round_report status;
    struct fl_exclusion *excluded;
    int64_t round_start_ms, wait_until_ms;
    int64_t failures;
    int64_t attempt_number;
    struct attempt attempt;
    struct fl_map *holders;
    struct fl_map *train_metrics, *evaluation_metrics; /* struct metric_sum */
    struct fl_oort oort;
    struct evaluation evaluation;
    struct initial initial;
    bool made_base; /* the order had none */

    /* What is committed */
    int64_t committed;
    char model[FL_DIGEST_SIZE], state[FL_DIGEST_SIZE];
    char rule[FL_DIGEST_SIZE]; /* that made the state: another begins without it */
    int64_t model_size;
    struct fl_arena *committed_arena;
    struct fl_texts contributors;
    char (*kept)[FL_DIGEST_SIZE]; /* models that were begun with or made, the oldest first */
    size_t kept_count;
    size_t finishing;       /* FINISH and PARTIAL without their result */
    struct fl_map *counted; /* modes with late updates: "round:learner" of committed rounds */
    struct past_base past[PAST_MAX];
    size_t past_count;
    struct fl_arena *parent_arena;
    struct fl_task *parent_task; /* that is being worked on, or was last */
};

/* core */
struct fl_aggregator_action *act(struct fl_aggregator_core *core,
                                 enum fl_aggregator_action_kind kind);
const char *act_text(struct fl_aggregator_core *core, const char *text);
void reply(struct fl_aggregator_core *core, uint64_t request, const struct fl_form *form,
           const void *message);
void reply_error(struct fl_aggregator_core *core, uint64_t request, const struct fl_error *err,
                 const char *reason);
void journal(struct fl_aggregator_core *core, const struct fl_record *record);
void shorten_journal(struct fl_aggregator_core *core); /* where no attempt runs */
void touch(struct fl_aggregator_core *core);           /* the status changed */
void tell_parent_fit(struct fl_aggregator_core *core, const char *reason, const char *message);
void tell_parent_evaluation(struct fl_aggregator_core *core);
void next_parent_step(struct fl_aggregator_core *core);

/* members */
struct member *find_member(const struct fl_aggregator_core *core, const char *id);
void member_destroy(void *value);
void handle_join(struct fl_aggregator_core *core, uint64_t request, const struct fl_join *join);
void handle_poll(struct fl_aggregator_core *core, uint64_t request, const struct fl_routed *poll);
void handle_progress(struct fl_aggregator_core *core, uint64_t request,
                     const struct fl_progress *progress);
void handle_leave(struct fl_aggregator_core *core, uint64_t request, const struct fl_leave *leave);
void set_task(struct fl_aggregator_core *core, struct member *member, enum fl_task_kind kind);
void drop_poll(struct fl_aggregator_core *core, struct member *member);
void answer_poll(struct fl_aggregator_core *core, struct member *member);
void remove_member(struct fl_aggregator_core *core, struct member *member);
bool is_available(const struct fl_aggregator_core *core, const struct member *member);
bool fits_round(const struct fl_aggregator_core *core, const struct member *member);
void tell_members(struct fl_aggregator_core *core);

/* requests */
void flush_watchers(struct fl_aggregator_core *core);
int64_t watch_deadline(const struct fl_aggregator_core *core);

/* rounds */
void start_round(struct fl_aggregator_core *core, const struct fl_round_order *spec,
                 const struct fl_tier_spec *tier, const char *origin, const char *work,
                 int64_t attempt);
void install_round(struct fl_aggregator_core *core, const struct fl_round_order *spec,
                   const struct fl_tier_spec *tier, const char *origin, const char *work,
                   int64_t attempt);
void digest_rule(const struct fl_aggregator_core *core, char out[FL_DIGEST_SIZE]);
void digest_work(const struct fl_aggregator_core *core, bool tier, char out[FL_DIGEST_SIZE]);
void wait_for_members(struct fl_aggregator_core *core);
void fail_round(struct fl_aggregator_core *core, enum fl_round_phase phase, const char *reason,
                const char *message);
void abort_round(struct fl_aggregator_core *core, const char *message);
bool round_is_over(const struct fl_aggregator_core *core);
void advance(struct fl_aggregator_core *core); /* whatever can happen now, does */
int64_t round_deadline(const struct fl_aggregator_core *core);
void drop_member(struct fl_aggregator_core *core, struct member *member, const char *reason,
                 const char *message);
void exclude(struct fl_aggregator_core *core, const char *learner, enum fl_outcome outcome,
             const char *reason, const char *message);
void finish_duty(struct fl_aggregator_core *core, struct member *member);
void end_duties(struct fl_aggregator_core *core, enum duty duty, bool late_goes_on,
                const char *reason);
bool may_be_late(const struct fl_aggregator_core *core, const struct member *member);

/* commits */
void keep_model(struct fl_aggregator_core *core, const char *digest);
bool is_kept(const struct fl_aggregator_core *core, const char *digest);

/* attempts */
size_t count_available(const struct fl_aggregator_core *core);
/* The learners of those, through all tiers. */
int64_t count_learners(const struct fl_aggregator_core *core);
size_t share_of(double share, size_t count);
int64_t most_examples(const struct fl_aggregator_core *core); /* of one learner; 0: no bound */
void begin_attempt(struct fl_aggregator_core *core, size_t available);
void advance_training(struct fl_aggregator_core *core);
void fail_attempt(struct fl_aggregator_core *core, const char *reason, const char *message,
                  bool again);
void attempt_finish(struct attempt *attempt);

/* evaluation */
void handle_result(struct fl_aggregator_core *core, uint64_t request,
                   const struct fl_result *result);
void start_evaluation(struct fl_aggregator_core *core, const char *model, int64_t model_size,
                      int64_t round, int64_t deadline_ms, bool for_parent);
void advance_evaluation(struct fl_aggregator_core *core);
void finish_evaluation(struct fl_aggregator_core *core);
void drop_evaluation(struct fl_aggregator_core *core);
void add_metrics(struct fl_map *sums, const struct fl_metrics *metrics, double loss,
                 int64_t examples);
struct fl_metrics metrics_of(struct fl_arena *arena, const struct fl_map *sums);

/* the initial model */
void need_initial(struct fl_aggregator_core *core);
void drop_initial(struct fl_aggregator_core *core);
void maker_lost(struct fl_aggregator_core *core, const struct member *member, const char *reason,
                const char *message);
void set_base(struct fl_aggregator_core *core, const char *digest, int64_t size);
bool is_initial_offer(const struct fl_aggregator_core *core, const struct member *member,
                      const struct fl_offer *offer);
void handle_initial_offer(struct fl_aggregator_core *core, uint64_t request, struct member *member,
                          const struct fl_offer *offer);
void fill_init(const struct fl_aggregator_core *core, struct fl_task *task);
void advance_initial(struct fl_aggregator_core *core);
int64_t initial_deadline(const struct fl_aggregator_core *core);
/* `reason` NULL: it is there */
void tell_parent_initial(struct fl_aggregator_core *core, const char *digest, int64_t size,
                         const char *reason, const char *message);

/* updates */
struct upload *upload_of(const struct fl_aggregator_core *core, const char *member);
struct upload *find_folding(const struct fl_aggregator_core *core, uint64_t ticket);
void remove_upload(struct fl_aggregator_core *core, struct upload *upload, bool discard);
void take_upload(struct fl_aggregator_core *core, uint64_t request, struct member *member,
                 const struct fl_offer *offer, bool place);
void answer_offer(struct fl_aggregator_core *core, uint64_t request, enum fl_verdict verdict,
                  const char *reason);
void handle_offer(struct fl_aggregator_core *core, uint64_t request, const struct fl_offer *offer);
void fold_staged(struct fl_aggregator_core *core);
void discard_uploads(struct fl_aggregator_core *core, bool folding_too);
void discard_uploads_of(struct fl_aggregator_core *core, const char *member);
bool is_folding(const struct fl_aggregator_core *core, const char *member);
void expire_uploads(struct fl_aggregator_core *core);
void upload_destroy(struct upload *upload);
struct upload *find_upload(const struct fl_aggregator_core *core, uint64_t id);
bool has_place(const struct fl_aggregator_core *core); /* for one more update */

/* held offers: one of them becomes an answer when it can, later on or when its time is up */
void hold_offer(struct fl_aggregator_core *core, uint64_t request, const struct fl_offer *offer,
                uint64_t upload);
bool answer_held(struct fl_aggregator_core *core);
bool drop_held(struct fl_aggregator_core *core, uint64_t request); /* its connection went away */
void destroy_held(struct fl_aggregator_core *core);
int64_t held_deadline(const struct fl_aggregator_core *core);

/* Sums of what members claim stop where a message could not hold them. */
static inline int64_t add_up(int64_t a, int64_t b)
{
    return b < FL_PROTOCOL_NUMBER_MAX - a ? a + b : FL_PROTOCOL_NUMBER_MAX;
}

static inline const char *text_or_null(const char *text)
{
    return *text ? text : NULL;
}

#endif
