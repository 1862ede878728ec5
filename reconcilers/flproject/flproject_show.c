/* What is told, and whether a round can begin. The checks stand in the order in which a person
 * would look: the first that does not hold is the cause; the others are told all the same. */
#include "reconcilers/flproject/flproject_show.h"

#include "controller/runtime/reconcile.h"
#include "lib/str.h"

#include <inttypes.h>

#define LINE_MAX_BYTES 300   /* of what a program has said last */
#define SETTLE_MS      15000 /* a learner that runs for so long has joined, or will not soon */

/* Conditions */

static void tell(struct fl_flproject_decide *d, const char *type, bool holds, const char *reason,
                 const char *message)
{
    struct fl_flproject_decision *out = d->out;

    out->told[out->told_count++] = (struct fl_flproject_told){type, holds, reason, message};
}

/* The first cause counts. */
static void blame(struct fl_flproject_decide *d, enum fl_flproject_verdict verdict,
                  const char *type, const char *reason, const char *message)
{
    if (d->out->verdict != FL_FLPROJECT_DONE)
        return;
    d->out->verdict = verdict;
    d->out->cause = (struct fl_flproject_told){type, false, reason, message};
}

static int64_t since_us(const char *time, int64_t now_us)
{
    int64_t at;

    return time && fl_time_parse(time, &at) && at < now_us ? now_us - at : 0;
}

static int64_t patience_ms(const struct fl_flproject_decide *d)
{
    int64_t ms = 600000;

    (void)fl_duration_parse(
        fl_str_or(d->project->spec.training.participation.available_within, "10m"), &ms);
    return ms;
}

/* For how long it has not held. */
static int64_t lasting_ms(const struct fl_flproject_decide *d, const char *type)
{
    const struct fl_condition *before = fl_condition_find(&d->project->status.conditions, type);

    return before && before->status == FL_CONDITION_STATUS_FALSE
               ? since_us(before->last_transition_time, d->input->now_us) / 1000
               : 0;
}

/* What lasts longer than a round would wait is shown as Stalled; it goes on as soon as it can. */
static void lack(struct fl_flproject_decide *d, const char *type, const char *reason,
                 const char *message)
{
    int64_t lasted_ms = lasting_ms(d, type), most_ms = patience_ms(d);

    tell(d, type, false, reason, message);
    if (lasted_ms >= most_ms) {
        blame(d, FL_FLPROJECT_STALLED, type, reason, message);
        return;
    }
    blame(d, FL_FLPROJECT_NOT_YET, type, reason, message);
    fl_flproject_look_again(d, most_ms - lasted_ms);
}

/* Why a Workload is not ready, for people. */

static const char *trouble_of(struct fl_flproject_decide *d, const struct fl_workload *workload)
{
    const struct fl_workload_status_instance_list *list = &workload->status.instances;
    const struct fl_condition *ready = fl_condition_find(&workload->status.conditions, "Ready");

    for (size_t i = 0; i < list->count; i++) {
        const struct fl_workload_status_instance *it = &list->items[i];

        if (it->ready || it->state == FL_WORKLOAD_STATUS_INSTANCE_STATE_RUNNING ||
            !it->has_last_exit)
            continue;
        return fl_arena_printf(
            d->arena, "instance %" PRId64 " of Workload %s ended (%s)%s%s", it->index,
            workload->meta.name, fl_str_or(it->last_exit.reason, "?"),
            it->last_exit.log_tail ? ": " : "",
            it->last_exit.log_tail
                ? fl_str_last_line(d->arena, it->last_exit.log_tail, LINE_MAX_BYTES)
                : "");
    }
    if (!ready || ready->status == FL_CONDITION_STATUS_TRUE ||
        fl_streq(ready->reason, "Starting") || fl_streq(ready->reason, "Progressing"))
        return NULL;
    return fl_arena_printf(d->arena, "Workload %s: %s", workload->meta.name,
                           fl_str_or(ready->message, ready->reason));
}

static const char *trouble_among(struct fl_flproject_decide *d, bool aggregators)
{
    const struct fl_flproject_services *services = &d->out->plan.services;

    for (size_t i = 0; i < services->count; i++) {
        const struct fl_flproject_service *service = &services->items[i];
        const char *trouble = NULL;

        if ((service->id != NULL) == aggregators && service->current &&
            service->ready < service->desired)
            trouble = trouble_of(d, service->current);
        if (trouble)
            return trouble;
    }
    return NULL;
}

/* Source and what else this version can and cannot do */

/* Where services have an image already, training goes on with it; what is wrong is told. */
static void miss(struct fl_flproject_decide *d, enum fl_flproject_verdict verdict, const char *type,
                 const char *reason, const char *message)
{
    tell(d, type, false, reason, message);
    if (!d->out->has_services)
        blame(d, verdict, type, reason, message);
}

static void check_commit(struct fl_flproject_decide *d)
{
    const struct fl_flproject_fetched *fetched = &d->input->fetched;
    const struct fl_flproject_code *code = &d->out->code;

    if (code->commit)
        tell(d, "SourceReady", true, "Fetched", code->commit);
    else if (fetched->state == FL_FLPROJECT_FETCH_FAILED)
        miss(d, fetched->final ? FL_FLPROJECT_STALLED : FL_FLPROJECT_NOT_YET, "SourceReady",
             fetched->final ? fetched->reason : "SourceNotReady", fetched->message);
    else
        miss(d, FL_FLPROJECT_NOT_YET, "SourceReady", "SourceNotReady",
             fl_arena_printf(d->arena, "the commit is asked for: %.300s",
                             d->project->spec.source.git.url));
}

/* Of one that is not done. */
static void check_build(struct fl_flproject_decide *d, const struct fl_imagebuild *build)
{
    const struct fl_condition *ready =
        build ? fl_condition_find(&build->status.conditions, "Ready") : NULL;
    const struct fl_condition *stalled =
        build ? fl_condition_find(&build->status.conditions, "Stalled") : NULL;
    bool is_over = stalled && stalled->status == FL_CONDITION_STATUS_TRUE;
    const char *message =
        fl_arena_printf(d->arena, "ImageBuild %s: %s", build ? build->meta.name : "is made",
                        ready ? fl_str_or(ready->message, ready->reason) : "begins");

    miss(d, is_over ? FL_FLPROJECT_STALLED : FL_FLPROJECT_NOT_YET, "ImageReady",
         is_over ? "BuildFailed" : "BuildingImage", message);
}

static void check_images(struct fl_flproject_decide *d)
{
    const struct fl_flproject_code *code = &d->out->code;

    if (code->is_current)
        tell(d, "ImageReady", true, "Built", code->learner_image);
    else if (code->learner.role &&
             (!code->learner.current || !fl_flproject_built(code->learner.current, d->arena)))
        check_build(d, code->learner.current);
    else if (code->aggregator.role)
        check_build(d, code->aggregator.current);
    else
        miss(d, FL_FLPROJECT_NOT_YET, "ImageReady", "BuildingImage", "there is no commit yet");
}

static void check_source(struct fl_flproject_decide *d)
{
    const struct fl_project_source *source = &d->project->spec.source;
    const struct fl_flproject_code *code = &d->out->code;

    d->out->has_services = source->has_builtin ||
                           (code->learner_image && (code->aggregator_image || !code->is_needed));
    if (source->has_builtin) {
        tell(d, "SourceReady", true, "Builtin", "the trainer is part of the program");
        tell(d, "ImageReady", true, "NotNeeded", "a builtin trainer needs no image");
    } else if (!code->is_needed) {
        tell(d, "SourceReady", true, "Image", "the code is in the image");
        tell(d, "ImageReady", true, "Given", code->learner_image);
    } else {
        check_commit(d);
        check_images(d);
    }
}

/* What protects people must not be left out in silence. */
static const char *unsupported(const struct fl_flproject_decide *d)
{
    const struct fl_project_spec *spec = &d->project->spec;

    if (spec->has_privacy &&
        (spec->privacy.has_secure_aggregation || spec->privacy.has_differential_privacy))
        return "spec.privacy is not kept by this version, and nothing is trained without it: "
               "remove it if the data permit that";
    return NULL;
}

/* Training does not wait for what only records. */
static void check_tracking(struct fl_flproject_decide *d)
{
    const struct fl_flproject_tracking *tracking = &d->input->tracking;

    if (!d->project->spec.has_tracking || !d->project->spec.tracking.has_mlflow)
        return;
    if (tracking->known) {
        tell(d, tracking->told.type, tracking->told.holds, tracking->told.reason,
             tracking->told.message);
        d->out->status.tracking = tracking->status;
        d->out->status.has_tracking = true;
    } else {
        tell(d, "Tracked", false, "NotSupported",
             "spec.tracking is not kept here: nothing is recorded there; status and FLRounds have "
             "the metrics");
    }
}

static void check_support(struct fl_flproject_decide *d)
{
    const char *why = unsupported(d);

    if (!why)
        return;
    d->out->has_services = false;
    blame(d, FL_FLPROJECT_STALLED, "Training", "NotSupported", why);
}

static void check_initial_model(struct fl_flproject_decide *d)
{
    if (d->tally.completed > 0 || d->is_over || d->open || !d->input->initial_problem)
        return;
    blame(d, FL_FLPROJECT_NOT_YET, "Training", "BaseModelNotFound", d->input->initial_problem);
}

static void check_orchestrator(struct fl_flproject_decide *d)
{
    const char *name = fl_str_or(d->project->spec.orchestrator, "local"), *message;

    if (d->input->has_orchestrator && d->input->orchestrator_ready)
        return;
    if (d->input->has_orchestrator)
        message = fl_arena_printf(d->arena, "Orchestrator %s is not ready: %s", name,
                                  fl_str_or(d->input->orchestrator_message, "not reachable"));
    else
        message = fl_arena_printf(d->arena,
                                  "there is no Orchestrator %s: create it, or make the project "
                                  "anew with another spec.orchestrator",
                                  name);
    if (!d->input->has_orchestrator)
        d->out->has_services = false;
    lack(d, "TiersReady", "OrchestratorNotReady", message);
}

/* Aggregators */

static void count_aggregators(const struct fl_flproject_decide *d, int64_t *ret_ready,
                              int64_t *ret_all)
{
    const struct fl_flproject_services *services = &d->out->plan.services;

    *ret_ready = *ret_all = 0;
    for (size_t i = 0; i < services->count; i++) {
        if (!services->items[i].id)
            continue;
        *ret_all += services->items[i].desired;
        *ret_ready += services->items[i].ready;
    }
}

/* One that comes up for the first time takes its time; one that has ended may be back at once. */
static bool is_coming(const struct fl_flproject_decide *d,
                      const struct fl_flproject_service *service)
{
    const struct fl_workload *current = service->current;

    if (!current || current->status.observed_generation != current->meta.generation ||
        current->status.instances.count == 0)
        return true;
    return !current->status.instances.items[0].has_last_exit ||
           lasting_ms(d, "TiersReady") < SETTLE_MS;
}

/* Whether to go on without those that are not up, whose learners are dropouts. Nothing goes without
 * the root. */
static bool can_do_without(struct fl_flproject_decide *d)
{
    const struct fl_flproject_services *services = &d->out->plan.services;

    for (size_t i = 0; i < services->count; i++) {
        const struct fl_flproject_service *service = &services->items[i];

        if (!service->id || service->ready >= service->desired)
            continue;
        if (!service->parent)
            return false;
        if (is_coming(d, service)) {
            fl_flproject_look_again(d, SETTLE_MS);
            return false;
        }
    }
    return true;
}

static bool check_tiers(struct fl_flproject_decide *d)
{
    const struct fl_flproject_federation *root = &d->input->federation;
    const char *message, *trouble;
    int64_t ready, all;

    count_aggregators(d, &ready, &all);
    if (ready < all) {
        trouble = trouble_among(d, true);
        message = fl_arena_printf(d->arena, "%" PRId64 " of %" PRId64 " aggregators are ready%s%s",
                                  ready, all, trouble ? "; " : "", fl_str_or(trouble, ""));
        if (root->known == FL_FLPROJECT_KNOWN && can_do_without(d)) {
            tell(d, "TiersReady", false, "SomeMissing", message);
            return true;
        }
        lack(d, "TiersReady", "StartingAggregators", message);
        return false;
    }
    if (root->known != FL_FLPROJECT_KNOWN) {
        lack(d, "TiersReady", "StartingAggregators",
             root->known == FL_FLPROJECT_UNREACHABLE
                 ? fl_arena_printf(d->arena, "the root aggregator does not answer: %s",
                                   fl_str_or(root->message, "no answer"))
                 : "the root aggregator is asked");
        return false;
    }
    tell(d, "TiersReady", true, "Running",
         fl_arena_printf(d->arena,
                         all == 1 ? "%" PRId64 " aggregator is ready"
                                  : "%" PRId64 " aggregators are ready",
                         all));
    return true;
}

/* Learners */

/* When its program, or the last above it, came up; INT64_MAX: one of them is not up. */
static int64_t up_since_us(const struct fl_flproject_service *service,
                           const struct fl_workload_status_instance *instance)
{
    int64_t newest = INT64_MIN, at;

    if (!instance->start_time || !fl_time_parse(instance->start_time, &newest))
        return INT64_MAX;
    for (const struct fl_flproject_service *above = service->parent; above; above = above->parent) {
        const struct fl_workload_status_instance_list *list =
            above->current ? &above->current->status.instances : NULL;

        if (!list || list->count == 0 || !list->items[0].start_time ||
            !fl_time_parse(list->items[0].start_time, &at))
            return INT64_MAX;
        if (at > newest)
            newest = at;
    }
    return newest;
}

/* How long one may still be expected to join; 0: not any more. */
static int64_t expected_ms(const struct fl_flproject_decide *d,
                           const struct fl_flproject_service *service,
                           const struct fl_workload_status_instance *instance)
{
    int64_t since_ms;

    if (instance->state == FL_WORKLOAD_STATUS_INSTANCE_STATE_RUNNING) {
        since_ms = (d->input->now_us - up_since_us(service, instance)) / 1000;
        return since_ms < 0 ? SETTLE_MS : since_ms < SETTLE_MS ? SETTLE_MS - since_ms : 0;
    }
    return (instance->state == FL_WORKLOAD_STATUS_INSTANCE_STATE_WAITING ||
            instance->state == FL_WORKLOAD_STATUS_INSTANCE_STATE_STARTING) &&
                   !instance->has_last_exit
               ? SETTLE_MS
               : 0;
}

static bool is_alive(const struct fl_workload_status_instance *instance)
{
    return instance->state == FL_WORKLOAD_STATUS_INSTANCE_STATE_RUNNING || !instance->has_last_exit;
}

/* Whether some that have not joined may do so soon: not where as many have as are alive. */
static bool some_are_coming(struct fl_flproject_decide *d)
{
    const struct fl_flproject_services *services = &d->out->plan.services;
    int64_t longest = 0, alive = 0;

    for (size_t i = 0; i < services->count; i++) {
        const struct fl_flproject_service *service = &services->items[i];
        const struct fl_workload *current = service->current;

        if (service->id)
            continue;
        if (!current || current->status.observed_generation != current->meta.generation)
            return true; /* it will tell */
        for (size_t n = 0; n < current->status.instances.count; n++) {
            int64_t ms = expected_ms(d, service, &current->status.instances.items[n]);

            if (ms > longest)
                longest = ms;
            alive += is_alive(&current->status.instances.items[n]);
        }
        if (service->desired > (int64_t)current->status.instances.count) /* not listed */
            alive += service->desired - (int64_t)current->status.instances.count;
    }
    if (d->input->federation.learners >= alive)
        return false;
    if (longest > 0)
        fl_flproject_look_again(d, longest);
    return longest > 0;
}

static const char *learners_message(struct fl_flproject_decide *d)
{
    const struct fl_flproject_federation *root = &d->input->federation;
    const char *trouble = trouble_among(d, false);

    if (!trouble)
        trouble = d->out->plan.lack;
    return fl_arena_printf(d->arena, "%" PRId64 " of %" PRId64 " learners have joined%s%s",
                           root->learners, d->out->plan.learners, trouble ? "; " : "",
                           fl_str_or(trouble, ""));
}

static bool check_learners(struct fl_flproject_decide *d)
{
    const struct fl_flproject_federation *root = &d->input->federation;
    int64_t least = d->project->spec.training.participation.min_available;

    if (d->out->plan.learners == 0) {
        lack(d, "LearnersReady", "WaitingForLearners", fl_str_or(d->out->plan.lack, "no learners"));
        return false;
    }
    if (d->out->plan.learners < least && !d->open) {
        lack(d, "LearnersReady", "QuorumNotReached",
             fl_arena_printf(d->arena,
                             "a round needs %" PRId64 " learners (participation.minAvailable), and "
                             "there can be %" PRId64 ": lower it, or add nodes or learners.count",
                             least, d->out->plan.learners));
        return false;
    }
    if (root->known != FL_FLPROJECT_KNOWN) {
        lack(d, "LearnersReady", "WaitingForLearners", "the root aggregator is not ready");
        return false;
    }
    if (root->learners >= d->out->plan.learners && !d->out->plan.lack) {
        tell(d, "LearnersReady", true, "Joined",
             fl_arena_printf(d->arena, "%" PRId64 " learners have joined", root->learners));
        return true;
    }
    if (root->learners >= least && (d->open || !some_are_coming(d))) {
        /* Who is missing is a dropout; that does not keep the others from training. */
        tell(d, "LearnersReady", false, "SomeMissing", learners_message(d));
        return true;
    }
    if (d->open) { /* which has a deadline of its own */
        tell(d, "LearnersReady", false, "WaitingForLearners", learners_message(d));
        return true;
    }
    lack(d, "LearnersReady", "WaitingForLearners",
         fl_arena_printf(d->arena, "%s; a round needs %" PRId64, learners_message(d), least));
    return false;
}

/* Training */

static const char *say(const struct fl_round *round, const char *fallback)
{
    const struct fl_condition *ready = fl_condition_find(&round->status.conditions, "Ready");

    return ready && ready->message && *ready->message ? ready->message : fallback;
}

static const char *open_reason(const struct fl_round *round)
{
    const struct fl_condition *ready = fl_condition_find(&round->status.conditions, "Ready");
    static const char *const shown[] = {"Evaluating", "WaitingForLearners"};

    for (size_t i = 0; ready && i < FL_COUNT_OF(shown); i++)
        if (fl_streq(ready->reason, shown[i]))
            return shown[i];
    return "Training";
}

static void tell_open(struct fl_flproject_decide *d)
{
    const struct fl_round *round = d->open->round;
    const char *reason = open_reason(round);
    const char *message =
        fl_arena_printf(d->arena, "round %" PRId64 " of %" PRId64 ": %s", d->open->number,
                        d->project->spec.training.rounds, say(round, "it begins"));

    tell(d, "Training", true, reason, message);
    blame(d, FL_FLPROJECT_NOT_YET, "Complete", reason, message);
}

static void tell_failed(struct fl_flproject_decide *d)
{
    const struct fl_round *round = d->failed->round;
    const struct fl_condition *ready = fl_condition_find(&round->status.conditions, "Ready");
    const char *message = fl_arena_printf(
        d->arena,
        "round %" PRId64 " failed: %s. To try it again, change spec.training, or delete FLRound %s",
        d->failed->number, say(round, "it says no more"), round->meta.name);
    const char *reason =
        ready && ready->reason && *ready->reason ? ready->reason : "QuorumNotReached";

    tell(d, "Training", false, reason, message);
    blame(d, FL_FLPROJECT_STALLED, "Training", reason, message);
}

/* Without a single model there is nothing to be complete with. */
static void tell_over(struct fl_flproject_decide *d)
{
    if (d->tally.completed == 0) {
        tell(d, "Training", false, d->over_reason,
             fl_arena_printf(d->arena, "%s: raise the deadline to go on", d->over_message));
        blame(d, FL_FLPROJECT_STALLED, "Training", d->over_reason, d->over_message);
        return;
    }
    tell(d, "Training", false, "Complete", d->over_message);
    tell(d, "Complete", true, d->over_reason, d->over_message);
}

static void tell_pause(struct fl_flproject_decide *d, const char *reason, const char *message)
{
    tell(d, "TiersReady", false, reason, message);
    tell(d, "LearnersReady", false, reason, message);
}

static void tell_hold(struct fl_flproject_decide *d)
{
    static const char message[] = "the services that the spec asks for come with the next round";

    tell(d, "TiersReady", true, "ChangePending", message);
    tell(d, "LearnersReady", true, "ChangePending", message);
    tell_open(d);
}

static void check_training(struct fl_flproject_decide *d)
{
    bool tiers, learners;

    if (d->out->holds) {
        tell_hold(d);
        return;
    }
    check_initial_model(d);
    tiers = check_tiers(d);
    learners = check_learners(d);
    if (d->open) {
        tell_open(d);
    } else if (d->waits_for_drop) {
        tell(d, "Training", false, "Restarting", "a round that is not wanted any more is removed");
        blame(d, FL_FLPROJECT_NOT_YET, "Training", "Training", "a round is removed");
    } else if (tiers && learners && d->out->verdict == FL_FLPROJECT_DONE) {
        d->may_start = true;
        tell(d, "Training", true, "Training",
             fl_arena_printf(d->arena, "round %" PRId64 " of %" PRId64 " begins",
                             d->tally.completed + 1, d->project->spec.training.rounds));
        blame(d, FL_FLPROJECT_NOT_YET, "Complete", "Training", "a round begins");
    }
}

static void check_all(struct fl_flproject_decide *d)
{
    check_source(d);
    check_support(d);
    if (d->out->verdict != FL_FLPROJECT_DONE)
        return;
    if (d->input->suspend) {
        tell_pause(d, "Suspended", "spec.suspend is set");
        tell(d, "Training", false, "Suspended", "spec.suspend is set");
        if (d->is_over && d->tally.completed > 0)
            tell(d, "Complete", true, d->over_reason, d->over_message);
    } else if (d->is_over && !d->open) {
        tell_pause(d, "Complete", "services are scaled down: training is over");
        tell_over(d);
    } else if (d->failed && !d->open) {
        tell_pause(d, "Stalled", "services are scaled down until the round can be tried again");
        tell_failed(d);
    } else {
        check_orchestrator(d);
        if (d->out->verdict == FL_FLPROJECT_DONE)
            check_training(d);
    }
}

/* Serving */

static void check_serving(struct fl_flproject_decide *d)
{
    const struct fl_inferenceserver *server = d->input->server;
    const struct fl_condition *ready =
        server ? fl_condition_find(&server->status.conditions, "Ready") : NULL;
    const char *message;

    if (!d->project->spec.has_serve)
        return;
    if (ready && ready->status == FL_CONDITION_STATUS_TRUE) {
        tell(d, "ModelServed", true, "Serving",
             fl_str_or(server->status.url, "the model is served"));
        return;
    }
    message = !d->out->serve ? "there is no model yet"
              : !server && d->out->code.is_needed && !d->out->code.server_image
                  ? "the image of the server is built"
              : ready ? fl_str_or(ready->message, "the server is not ready")
                      : "the server starts";
    tell(d, "ModelServed", false, d->out->serve ? "WaitingForServer" : "NoModel", message);
    if (d->out->serve)
        blame(d, FL_FLPROJECT_NOT_YET, "ModelServed", "WaitingForServer", message);
}

/* Status */

static void show_rounds(struct fl_flproject_decide *d)
{
    struct fl_project_status_rounds *rounds = &d->out->status.rounds;
    int64_t total = d->project->spec.training.rounds;

    d->out->status.has_rounds = true;
    *rounds = (struct fl_project_status_rounds){
        .current = d->open && d->open->number > 0 ? d->open->number : d->tally.completed,
        .has_current = true,
        .completed = d->tally.completed,
        .has_completed = true,
        .failed = d->tally.failed,
        .has_failed = true,
        .total = total,
        .has_total = true,
        .summary = fl_arena_printf(d->arena, "%" PRId64 "/%" PRId64, d->tally.completed, total),
    };
}

static void show_metrics(const struct fl_flproject_version *version,
                         struct fl_round_metrics *metrics, bool *has)
{
    if (version->metrics.count == 0)
        return;
    *has = true;
    *metrics = (struct fl_round_metrics){
        .round = version->number, .has_round = true, .values = version->metrics};
}

static void show_image(struct fl_flproject_decide *d)
{
    const struct fl_flproject_code *code = &d->out->code;
    const struct fl_imagebuild *build = code->learner.current;
    struct fl_project_status *status = &d->out->status;
    const struct fl_imagebuild_status_platform_list *platforms;
    struct fl_string_pair *pairs;

    if (!code->is_needed)
        return;
    status->has_source = code->commit != NULL;
    status->source = (struct fl_project_status_source){code->commit, code->ref, code->signer};
    if (!code->is_current)
        return;
    platforms = &build->status.platforms;
    pairs = fl_new_array(d->arena, struct fl_string_pair, platforms->count + 1);
    for (size_t i = 0; i < platforms->count; i++)
        pairs[i] =
            (struct fl_string_pair){platforms->items[i].platform, platforms->items[i].digest};
    status->has_image = true;
    status->image = (struct fl_project_status_image){
        build->status.image.name, build->status.image.digest, {pairs, platforms->count}};
}

static void show_models(struct fl_flproject_decide *d)
{
    struct fl_project_status *status = &d->out->status;

    show_metrics(&d->tally.evaluated, &status->metrics.last, &status->metrics.has_last);
    show_metrics(&d->tally.best, &status->metrics.best, &status->metrics.has_best);
    status->has_metrics = status->metrics.has_last || status->metrics.has_best;
    status->has_model = d->tally.last.number > 0;
    status->model = d->tally.last.model;
    status->has_best_model = d->tally.best.number > 0;
    status->best_model = d->tally.best.model;
}

static void show_learners(struct fl_flproject_decide *d)
{
    struct fl_project_status_learners *learners = &d->out->status.learners;
    const struct fl_flproject_federation *root = &d->input->federation;
    bool is_known = root->known == FL_FLPROJECT_KNOWN && !d->is_paused;

    d->out->status.has_learners = true;
    learners->has_desired = learners->has_ready = learners->has_selected = true;
    learners->desired = d->is_paused || !d->out->has_services ? 0 : d->out->plan.learners;
    learners->ready = is_known ? root->learners : 0;
    if (d->open && d->open->round->status.has_participants)
        learners->selected = d->open->round->status.participants.selected;
    learners->summary =
        fl_arena_printf(d->arena, "%" PRId64 "/%" PRId64, learners->ready, learners->desired);
}

static struct fl_project_status_tier *find_tier(struct fl_project_status_tier_list *list,
                                                const char *name)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].name, name) == 0)
            return &list->items[i];
    list->items[list->count] =
        (struct fl_project_status_tier){.name = name, .has_desired = true, .has_ready = true};
    return &list->items[list->count++];
}

static void show_tiers(struct fl_flproject_decide *d)
{
    struct fl_project_status_tier_list *list = &d->out->status.tiers;
    const struct fl_flproject_services *services = &d->out->plan.services;

    if (!d->out->has_services)
        return;
    list->items = fl_new_array(d->arena, struct fl_project_status_tier,
                               d->project->spec.topology.tiers.count + 1);
    for (size_t i = 0; i < services->count; i++) {
        const struct fl_flproject_service *service = &services->items[i];
        struct fl_project_status_tier *tier;

        if (!service->id)
            continue;
        tier = find_tier(list, service->tier);
        tier->desired += d->is_paused ? 0 : service->desired;
        tier->ready += service->ready;
        if (!tier->address)
            tier->address = service->address;
    }
}

static const char *now_text(struct fl_flproject_decide *d)
{
    char text[FL_TIME_SIZE];

    fl_time_format(d->input->now_us, text);
    return fl_arena_strdup(d->arena, text);
}

static bool is_complete(const struct fl_flproject_decide *d)
{
    return d->is_over && !d->open && d->tally.completed > 0;
}

void fl_flproject_show(struct fl_flproject_decide *d)
{
    struct fl_project_status *status = &d->out->status;
    const struct fl_inferenceserver *server = d->input->server;
    const json_t *annotations = d->project->meta.annotations;

    check_all(d);
    check_serving(d);
    check_tracking(d);
    show_rounds(d);
    show_models(d);
    show_image(d);
    show_learners(d);
    show_tiers(d);
    status->start_time = d->tally.started;
    if (is_complete(d))
        status->completion_time = fl_str_or(d->project->status.completion_time, now_text(d));
    status->has_serving = server != NULL;
    if (server)
        status->serving = (struct fl_project_status_serving){server->meta.name, server->status.url};
    status->last_handled_reconcile_at =
        json_string_value(json_object_get(annotations, "flops.dev/reconcile"));
    if (!d->input->suspend && !is_complete(d) && d->out->verdict == FL_FLPROJECT_DONE)
        blame(d, FL_FLPROJECT_NOT_YET, "Complete", "Training", "something is under way");
}
