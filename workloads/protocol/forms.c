/* What messages consist of. */
#include "workloads/protocol/forms.h"

#include "lib/str.h"

#include <math.h>

const char *const fl_task_kinds[] = {"Fit", "Evaluate", "Wait", "Move", "End", "Init", NULL};
const char *const fl_verdicts[] = {"Ok", "Send", "Wait", "Counted", "Refused", "Stop", NULL};
const char *const fl_modes[] = {"Sync", "SemiSync", "Async", NULL};
const char *const fl_selections[] = {"All", "Random", "Availability", "Oort", NULL};
const char *const fl_weightings[] = {"Constant", "Polynomial", "Exponential", NULL};
const char *const fl_round_phases[] = {"Waiting",   "Training", "Aggregating", "Evaluating",
                                       "Committed", "Failed",   "Aborted",     NULL};
const char *const fl_outcomes[] = {"Late", "Dropped", "Rejected", NULL};

#define NUMBER_MAX FL_PROTOCOL_NUMBER_MAX
#define SPAN_MAX   ((int64_t)366 * 24 * 3600 * 1000)
#define COUNT_MAX  ((int64_t)1 << 31)
#define CONFIG_MAX (64 * 1024)

#define AT(member) .offset = offsetof(struct SELF, member)
#define NAME(json, member)                                                                         \
    {                                                                                              \
        .name = (json), .type = FL_P_NAME, AT(member), .max = FL_PROTOCOL_NAME_MAX                 \
    }
#define NAME_REQUIRED(json, member)                                                                \
    {                                                                                              \
        .name = (json), .type = FL_P_NAME, AT(member), .required = true,                           \
        .max = FL_PROTOCOL_NAME_MAX                                                                \
    }
#define TEXT(json, member)                                                                         \
    {                                                                                              \
        .name = (json), .type = FL_P_TEXT, AT(member), .max = FL_PROTOCOL_TEXT_MAX                 \
    }
#define DIGEST(json, member, must)                                                                 \
    {                                                                                              \
        .name = (json), .type = FL_P_DIGEST, AT(member), .required = (must)                        \
    }
#define ANY_DIGEST(json, member, must)                                                             \
    {                                                                                              \
        .name = (json), .type = FL_P_ANY_DIGEST, AT(member), .required = (must)                    \
    }
#define INT(json, member, low_, high_, default_)                                                   \
    {                                                                                              \
        .name = (json), .type = FL_P_INT, AT(member), .min = (low_), .max = (high_),               \
        .def = (default_)                                                                          \
    }
#define INT_REQUIRED(json, member, low_, high_)                                                    \
    {                                                                                              \
        .name = (json), .type = FL_P_INT, AT(member), .required = true, .min = (low_),             \
        .max = (high_), .def = (low_)                                                              \
    }
#define SPAN(json, member, default_) INT(json, member, 0, SPAN_MAX, default_)
#define COUNT(json, member)          INT(json, member, 0, NUMBER_MAX, 0)
#define REAL(json, member, low_, high_, default_)                                                  \
    {                                                                                              \
        .name = (json), .type = FL_P_REAL, AT(member), .low = (low_), .high = (high_),             \
        .real = (default_)                                                                         \
    }
#define MAYBE(json, member) REAL(json, member, -1e300, 1e300, NAN)
#define BOOL(json, member)                                                                         \
    {                                                                                              \
        .name = (json), .type = FL_P_BOOL, AT(member)                                              \
    }
#define NAMES(json, member)                                                                        \
    {                                                                                              \
        .name = (json), .type = FL_P_NAMES, AT(member), .max = FL_PROTOCOL_LIST_MAX                \
    }
#define SORTED(json, member)                                                                       \
    {                                                                                              \
        .name = (json), .type = FL_P_SORTED, AT(member), .max = FL_PROTOCOL_CONTRIBUTORS_MAX       \
    }
#define PAIRS(json, member, most)                                                                  \
    {                                                                                              \
        .name = (json), .type = FL_P_PAIRS, AT(member), .max = (most)                              \
    }
#define METRICS(json, member)                                                                      \
    {                                                                                              \
        .name = (json), .type = FL_P_METRICS, AT(member), .max = FL_PROTOCOL_METRICS_MAX           \
    }
#define ENUM(json, member, words_, default_)                                                       \
    {                                                                                              \
        .name = (json), .type = FL_P_ENUM, AT(member), .words = (words_), .def = (default_)        \
    }
#define ENUM_REQUIRED(json, member, words_)                                                        \
    {                                                                                              \
        .name = (json), .type = FL_P_ENUM, AT(member), .words = (words_), .required = true         \
    }
#define OBJECT(json, member, form_)                                                                \
    {                                                                                              \
        .name = (json), .type = FL_P_OBJECT, AT(member), .form = &(form_)                          \
    }
#define FORM(id, text, ...)                                                                        \
    const struct fl_form fl_form_##id = {                                                          \
        .name = (text), .size = sizeof(struct SELF), .members = id##_members, __VA_ARGS__}

#define SELF fl_join
static const struct fl_member join_members[] = {
    INT_REQUIRED("protocol", protocol, 1, 1000000),
    NAME_REQUIRED("learner", learner),
    TEXT("name", name),
    NAME("token", token),
    NAME("project", project),
    TEXT("platform", platform),
    COUNT("examples", examples),
    BOOL("aggregator", aggregator),
    INT("learners", learners, 0, COUNT_MAX, 0),
    PAIRS("labels", labels, FL_PROTOCOL_LIST_MAX),
    NAMES("tags", tags),
    NAME("orphanOf", orphan_of),
    SPAN("expectedFitMs", expected_fit_ms, 0),
    {0},
};
FORM(join, "join");
#undef SELF

#define SELF fl_joined
static const struct fl_member joined_members[] = {
    INT_REQUIRED("protocol", protocol, 1, 1000000),
    NAME_REQUIRED("aggregator", aggregator),
    NAME("project", project),
    INT("pollMs", poll_ms, 1, SPAN_MAX, 30000),
    INT("silenceMs", silence_ms, 1, SPAN_MAX, 90000),
    INT("progressMs", progress_ms, 1, SPAN_MAX, 10000),
    INT("chunkBytes", chunk_bytes, 1024, (int64_t)1 << 30, (int64_t)4 << 20),
    INT("maxUpdateBytes", max_update_bytes, 1, NUMBER_MAX, (int64_t)8 << 30),
    TEXT("parent", parent),
    {0},
};
FORM(joined, "joined");
#undef SELF

#define SELF fl_local_options
static const struct fl_member local_members[] = {
    INT("epochs", epochs, 1, 10000, 1),
    INT("batchSize", batch_size, 0, 1000000, 32),
    REAL("learningRate", learning_rate, 1e-300, 1e12, 0.01),
    REAL("momentum", momentum, 0, 1, 0),
    REAL("proximalMu", proximal_mu, 0, 1e12, 0),
    REAL("weightDecay", weight_decay, 0, 1e12, 0),
    {.name = "config", .type = FL_P_JSON, AT(config), .max = CONFIG_MAX},
    {0},
};
static FORM(local, "local");
#undef SELF

#define SELF fl_strategy_spec
static const struct fl_member strategy_members[] = {
    NAME_REQUIRED("name", name),
    MAYBE("serverLearningRate", server_learning_rate),
    MAYBE("serverMomentum", server_momentum),
    MAYBE("beta1", beta1),
    MAYBE("beta2", beta2),
    MAYBE("tau", tau),
    MAYBE("q", q),
    MAYBE("trimFraction", trim_fraction),
    MAYBE("normBound", norm_bound),
    INT("byzantineLearners", byzantine_learners, -1, 10000, -1),
    INT("selectUpdates", select_updates, -1, 100000, -1),
    INT("maxIterations", max_iterations, -1, 1000, -1),
    INT("bufferSize", buffer_size, -1, 100000, -1),
    {0},
};
static FORM(strategy, "strategy");
#undef SELF

#define SELF fl_precision_spec
static const struct fl_member precision_members[] = {
    INT("rangeBits", range_bits, 0, 62, 0),
    INT("bits", bits, 0, 62, 0),
    INT("maxWeight", max_weight, 0, INT64_MAX, 0),
    {0},
};
static FORM(precision, "precision");
#undef SELF

#define SELF fl_tier_spec
static const struct fl_member tier_members[] = {
    OBJECT("strategy", strategy, fl_form_strategy),
    OBJECT("precision", precision, fl_form_precision),
    COUNT("maxExamples", max_examples),
    INT("roundsPerParentRound", rounds_per_parent_round, 1, 1000, 1),
    REAL("fraction", fraction, 1e-12, 1, 1),
    REAL("overSelection", over_selection, 1, 10, 1),
    INT("quorum", quorum, 1, 100000, 1),
    INT("retryLimit", retry_limit, 0, 1000, 3),
    INT("deadlineMs", deadline_ms, 1, SPAN_MAX, 600000),
    {0},
};
FORM(tier, "tier", .present_offset = offsetof(struct fl_tier_spec, present) + 1);
#undef SELF

static int check_task(const void *message, struct fl_error *err)
{
    const struct fl_task *task = message;
    bool work = task->kind == FL_TASK_FIT || task->kind == FL_TASK_EVALUATE;

    if (work && (!task->project || !task->model || task->round < 1 || task->model_size < 1))
        return fl_error_set(err, FL_E_INVALID, "work needs project, round, model and its size");
    if (task->tier.present && !task->tier.strategy.name)
        return fl_error_set(err, FL_E_INVALID, "tier.strategy.name: is missing");
    if (task->kind == FL_TASK_FIT && (task->attempt < 1 || !task->work))
        return fl_error_set(err, FL_E_INVALID, "Fit needs attempt and work");
    if (task->kind == FL_TASK_INIT &&
        (!task->project || task->round < 1 || task->attempt < 1 || !task->work))
        return fl_error_set(err, FL_E_INVALID, "Init needs project, round, attempt and work");
    if (task->kind == FL_TASK_MOVE && !task->address)
        return fl_error_set(err, FL_E_INVALID, "Move needs an address");
    return 0;
}

#define SELF fl_task
static const struct fl_member task_members[] = {
    INT("seq", seq, 0, NUMBER_MAX, 0),
    ENUM_REQUIRED("kind", kind, fl_task_kinds),
    NAME("project", project),
    INT("round", round, 0, COUNT_MAX, 0),
    INT("attempt", attempt, 0, COUNT_MAX, 0),
    NAME("origin", origin),
    NAME("work", work),
    DIGEST("model", model, false),
    COUNT("modelSize", model_size),
    SPAN("deadlineMs", deadline_ms, 0),
    OBJECT("local", local, fl_form_local),
    COUNT("seed", seed),
    NAMES("tags", tags),
    COUNT("minExamples", min_examples),
    OBJECT("tier", tier, fl_form_tier),
    BOOL("late", late),
    TEXT("address", address),
    TEXT("message", message),
    {0},
};
FORM(task, "task", .check = check_task);
#undef SELF

#define SELF fl_progress
static const struct fl_member progress_members[] = {
    NAME_REQUIRED("learner", learner),
    NAME("project", project),
    INT("round", round, 0, COUNT_MAX, 0),
    INT("attempt", attempt, 0, COUNT_MAX, 0),
    NAME("stage", stage),
    COUNT("done", done),
    COUNT("all", all),
    BOOL("gaveUp", gave_up),
    NAME("reason", reason),
    TEXT("message", message),
    {0},
};
FORM(progress, "progress");
#undef SELF

static int check_offer(const void *message, struct fl_error *err)
{
    const struct fl_offer *offer = message;

    if (offer->partial && offer->contributors.count == 0)
        return fl_error_set(err, FL_E_INVALID, "a partial sum names its contributors");
    if (!offer->partial && offer->contributors.count > 0)
        return fl_error_set(err, FL_E_INVALID, "only a partial sum has contributors");
    return 0;
}

#define SELF fl_offer
static const struct fl_member offer_members[] = {
    NAME_REQUIRED("learner", learner),
    NAME_REQUIRED("project", project),
    INT_REQUIRED("round", round, 1, COUNT_MAX),
    INT_REQUIRED("attempt", attempt, 1, COUNT_MAX),
    NAME_REQUIRED("work", work),
    DIGEST("base", base, false),
    ANY_DIGEST("digest", digest, true),
    INT_REQUIRED("size", size, 1, NUMBER_MAX),
    INT_REQUIRED("examples", examples, 1, NUMBER_MAX),
    COUNT("steps", steps),
    MAYBE("lossBefore", loss_before),
    MAYBE("loss", loss),
    MAYBE("lossRms", loss_rms),
    METRICS("metrics", metrics),
    SPAN("downloadMs", download_ms, 0),
    SPAN("trainMs", train_ms, 0),
    BOOL("partial", partial),
    SORTED("contributors", contributors),
    {0},
};
FORM(offer, "offer", .check = check_offer);
#undef SELF

#define SELF fl_result
static const struct fl_member result_members[] = {
    NAME_REQUIRED("learner", learner),
    NAME_REQUIRED("project", project),
    INT_REQUIRED("round", round, 1, COUNT_MAX),
    DIGEST("model", model, true),
    COUNT("examples", examples),
    MAYBE("loss", loss),
    METRICS("metrics", metrics),
    {0},
};
FORM(result, "result");
#undef SELF

#define SELF fl_leave
static const struct fl_member leave_members[] = {
    NAME_REQUIRED("learner", learner),
    TEXT("message", message),
    {0},
};
FORM(leave, "leave");
#undef SELF

#define SELF fl_answer
static const struct fl_member answer_members[] = {
    ENUM_REQUIRED("verdict", verdict, fl_verdicts),
    TEXT("path", path),
    SPAN("retryMs", retry_ms, 0),
    NAME("reason", reason),
    TEXT("message", message),
    {0},
};
FORM(answer, "answer");
#undef SELF

#define SELF fl_participation_spec
static const struct fl_member participation_members[] = {
    INT("minAvailable", min_available, 1, 100000, 1),
    INT("availableWithinMs", available_within_ms, 1, SPAN_MAX, 600000),
    REAL("fraction", fraction, 1e-12, 1, 1),
    REAL("overSelection", over_selection, 1, 10, 1),
    INT("quorum", quorum, 0, 100000, 0),
    INT("deadlineMs", deadline_ms, 1, SPAN_MAX, 600000),
    INT("retryLimit", retry_limit, 0, 1000, 3),
    ENUM("selection", selection, fl_selections, FL_SELECTION_RANDOM),
    REAL("maxExampleShare", max_example_share, 1e-12, 1, 1),
    {0},
};
static FORM(participation, "participation");
#undef SELF

#define SELF fl_staleness_spec
static const struct fl_member staleness_members[] = {
    INT("maxRounds", max_rounds, 0, 10000, 10),
    ENUM("weighting", weighting, fl_weightings, FL_WEIGHTING_POLYNOMIAL),
    REAL("exponent", exponent, 0, 1e6, 0.5),
    {0},
};
static FORM(staleness, "staleness");
#undef SELF

#define SELF fl_evaluation_spec
static const struct fl_member evaluation_members[] = {
    BOOL("enabled", enabled),
    REAL("fraction", fraction, 1e-12, 1, 1),
    INT("deadlineMs", deadline_ms, 1, SPAN_MAX, 300000),
    {0},
};
static FORM(evaluation, "evaluation");
#undef SELF

static int check_round_order(const void *message, struct fl_error *err)
{
    const struct fl_round_order *spec = message;
    const struct fl_participation_spec *part = &spec->participation;
    bool buffered = fl_streq(spec->strategy.name, "FedBuff");

    if (!spec->strategy.name)
        return fl_error_set(err, FL_E_INVALID, "strategy.name: is missing");
    if (!spec->model != (spec->model_size == 0))
        return fl_error_set(err, FL_E_INVALID, "modelSize: belongs to model");
    if (part->quorum > part->min_available)
        return fl_error_set(err, FL_E_INVALID, "participation.quorum: is above minAvailable");
    if (part->selection == FL_SELECTION_ALL && part->fraction < 1)
        return fl_error_set(err, FL_E_INVALID, "participation.fraction: selection All takes all");
    if (buffered != (spec->mode == FL_MODE_ASYNC))
        return fl_error_set(err, FL_E_INVALID, "strategy.name: FedBuff belongs to mode Async");
    return 0;
}

#define SELF fl_round_order
static const struct fl_member round_order_members[] = {
    NAME_REQUIRED("project", project),
    INT_REQUIRED("round", round, 1, COUNT_MAX),
    COUNT("run", run),
    DIGEST("model", model, false),
    COUNT("modelSize", model_size),
    ENUM("mode", mode, fl_modes, FL_MODE_SYNC),
    COUNT("seed", seed),
    OBJECT("local", local, fl_form_local),
    OBJECT("strategy", strategy, fl_form_strategy),
    OBJECT("participation", participation, fl_form_participation),
    OBJECT("staleness", staleness, fl_form_staleness),
    OBJECT("evaluation", evaluation, fl_form_evaluation),
    NAMES("tags", tags),
    INT("minExamples", min_examples, 0, NUMBER_MAX, 1),
    INT("rangeBits", range_bits, 0, 30, 7),
    COUNT("maxWeight", max_weight),
    INT("roundsPerParentRound", rounds_per_parent_round, 1, 1000, 1),
    SPAN("tierDeadlineMs", tier_deadline_ms, 0),
    {0},
};
FORM(round_order, "round", .check = check_round_order);
#undef SELF

#define SELF fl_exclusion
static const struct fl_member exclusion_members[] = {
    NAME_REQUIRED("learner", learner),
    ENUM_REQUIRED("outcome", outcome, fl_outcomes),
    NAME("reason", reason),
    TEXT("message", message),
    {0},
};
static FORM(exclusion, "exclusion");
#undef SELF

#define SELF fl_round_report
static const struct fl_member round_report_members[] = {
    NAME("project", project),
    INT("round", round, 0, COUNT_MAX, 0),
    COUNT("run", run),
    INT("attempt", attempt, 0, COUNT_MAX, 0),
    COUNT("version", version),
    ENUM("phase", phase, fl_round_phases, 0),
    NAME("reason", reason),
    TEXT("message", message),
    COUNT("selected", selected),
    COUNT("reported", reported),
    COUNT("late", late),
    COUNT("dropped", dropped),
    COUNT("rejected", rejected),
    {.name = "excluded",
     .type = FL_P_LIST,
     AT(excluded),
     .max = FL_PROTOCOL_EXCLUDED_MAX,
     .form = &fl_form_exclusion},
    COUNT("excludedOmitted", excluded_omitted),
    COUNT("asked", asked),
    COUNT("learners", learners),
    COUNT("examples", examples),
    METRICS("train", train),
    METRICS("evaluation", evaluation),
    DIGEST("base", base, false),
    COUNT("baseSize", base_size),
    ANY_DIGEST("model", model, false), /* of a lower tier: its partial sum */
    COUNT("modelSize", model_size),
    SPAN("selectMs", select_ms, 0),
    SPAN("downloadMs", download_ms, 0),
    SPAN("trainMs", train_ms, 0),
    SPAN("uploadMs", upload_ms, 0),
    SPAN("aggregateMs", aggregate_ms, 0),
    SPAN("evaluateMs", evaluate_ms, 0),
    SPAN("totalMs", total_ms, 0),
    COUNT("bytesUp", bytes_up),
    COUNT("bytesDown", bytes_down),
    COUNT("stalenessMax", staleness_max),
    REAL("stalenessMean", staleness_mean, 0, 1e9, 0),
    {0},
};
FORM(round_report, "status");
#undef SELF

#define SELF fl_children
static const struct fl_member children_members[] = {
    PAIRS("children", children, FL_PROTOCOL_CHILDREN_MAX),
    {0},
};
FORM(children, "children");
#undef SELF

#define SELF fl_stop
static const struct fl_member stop_members[] = {TEXT("message", message), {0}};
FORM(stop, "stop");
#undef SELF

#define SELF fl_status
static const struct fl_member status_members[] = {
    INT_REQUIRED("protocol", protocol, 1, 1000000),
    NAME_REQUIRED("aggregator", aggregator),
    NAME("project", project),
    COUNT("life", life),
    COUNT("members", members),
    COUNT("available", available),
    COUNT("learners", learners),
    COUNT("examples", examples),
    COUNT("round", round),
    COUNT("committed", committed),
    ANY_DIGEST("model", model, false),
    BOOL("stopped", stopped),
    COUNT("version", version),
    {0},
};
FORM(status, "status");
#undef SELF
