/* A round by the protocol: the core of an aggregator and one of each learner, in virtual time.
 *
 * Messages, transfers and folds take no time and are delivered in order; training takes what the
 * learner's delay says. All that follows from one training happens before the next one ends, so the
 * order of arrival is that of the delays, and of asking where those are equal. Timers of the cores
 * go off when nothing else is left to do at that time.
 *
 * Nothing is lost and nobody crashes here (that is the simulation of the protocol, beside the
 * aggregator): the journal is not kept, and an update is handed over rather than copied. */
#include "lib/map.h"
#include "lib/str.h"
#include "workloads/aggregator/aggregator_core.h"
#include "workloads/learner/learner_core.h"
#include "workloads/simulate/simulate_internal.h"
#include "workloads/tensor/safetensors.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define HOUR_MS      ((int64_t)3600 * 1000)
#define ADDRESS      "root"
#define CONTROLLER   ((uint64_t)0xfffff)
#define LEARNER_BITS 20 /* of a request's number: who asks */

enum message_kind {
    MESSAGE_REQUEST,
    MESSAGE_REPLY,
    MESSAGE_DOWNLOADED,
    MESSAGE_UPLOADED, /* to the learner */
    MESSAGE_STAGED,   /* the same upload, to the aggregator */
    MESSAGE_BEGUN,
    MESSAGE_FOLDED,
    MESSAGE_FINISHED,
};

struct message {
    STAILQ_ENTRY(message) link;
    enum message_kind kind;
    size_t learner; /* whom it is for, or from */
    uint64_t request, ticket, upload;
    int http_status;
    char method[8], *target;
    struct fl_bytes *body;
    struct fl_error err; /* code 0: none */
};

struct node {
    struct fl_learner_core *core;
    char id[LEARNER_ID_SIZE];
    int64_t tick_ms;         /* the timer that is set; INT64_MAX: none */
    struct fl_model *update; /* made, and not yet handed over */
    char digest[FL_DIGEST_SIZE];
};

struct virtual_world {
    struct course *course; /* lent */
    struct fl_aggregator_core *aggregator;
    struct node *nodes;
    size_t count;
    struct fl_map *models; /* digest -> the global models that are not released */
    STAILQ_HEAD(, message) messages;
    struct timers timers; /* of the learners, and of the aggregator: the last */
    /* of the round that is watched */
    uint64_t control_tickets;
    int64_t version;
    struct fl_arena *arena;
    struct fl_round_report status;
    struct fl_error failure; /* the simulation's own */
};

static void note_deadline(struct virtual_world *world, size_t node, int64_t deadline_ms)
{
    int64_t now_ms = world->course->now_ms;

    timers_set(&world->timers, node, deadline_ms < now_ms ? now_ms : deadline_ms);
}

/* --- messages ------------------------------------------------------------------------------- */

static struct message *post(struct virtual_world *world, enum message_kind kind, size_t learner)
{
    struct message *message = fl_calloc(1, sizeof(*message));

    message->kind = kind;
    message->learner = learner;
    STAILQ_INSERT_TAIL(&world->messages, message, link);
    return message;
}

static void message_destroy(struct message *message)
{
    if (!message)
        return;
    free(message->target);
    fl_bytes_unref(message->body);
    free(message);
}
FL_DEFINE_CLEANUP(struct message, message_destroy)

static void post_request(struct virtual_world *world, uint64_t who, uint64_t ticket,
                         const char *method, const char *target, struct fl_bytes *body)
{
    struct message *message = post(world, MESSAGE_REQUEST, (size_t)who);

    message->request = ticket << LEARNER_BITS | who;
    (void)snprintf(message->method, sizeof(message->method), "%s", method);
    message->target = fl_strdup(target);
    message->body = body ? fl_bytes_ref(body) : NULL;
}

/* --- what the aggregator asks for ----------------------------------------------------------- */

static void post_result(struct virtual_world *world, enum message_kind kind,
                        const struct fl_aggregator_action *action, const struct fl_error *err)
{
    struct message *message = post(world, kind, world->count);

    message->ticket = action->ticket;
    if (err->code != 0)
        message->err = *err;
}

static void begin(struct virtual_world *world, const struct fl_aggregator_action *action)
{
    const struct fl_precision_spec *spec = &action->begin.precision;
    const struct fl_exact_precision precision = {(unsigned)spec->range_bits, (unsigned)spec->bits,
                                                 spec->max_weight};
    struct fl_model *base = fl_map_get(world->models, action->begin.base);
    struct fl_error err = {0};

    if (!base)
        (void)fl_error_set(&err, FL_E_NOT_FOUND, "no model %s", action->begin.base);
    else
        (void)fl_strategy_begin(world->course->strategy, base, &precision,
                                action->begin.max_examples, &err);
    post_result(world, MESSAGE_BEGUN, action, &err);
}

static void fold(struct virtual_world *world, const struct fl_aggregator_action *action)
{
    const struct fl_aggregator_fold *fold = &action->fold;
    struct node *node = &world->nodes[learner_index(fold->learner)];
    const struct fl_update_facts facts = {.learner = fold->learner,
                                          .examples = fold->examples,
                                          .steps = fold->steps,
                                          .loss = fold->loss_before,
                                          .staleness = fold->staleness,
                                          .base = fl_map_get(world->models, fold->base)};
    struct fl_error err = {0};

    assert(node->update && fl_streq(node->digest, fold->digest));
    (void)fl_strategy_add(world->course->strategy, node->update, &facts, &err);
    fl_model_unref(FL_TAKE(node->update)); /* a round that fails is not tried again */
    post_result(world, MESSAGE_FOLDED, action, &err);
}

static void unref_model(void *model)
{
    fl_model_unref(model);
}

static void keep_model(struct virtual_world *world, struct fl_model *model,
                       const char digest[FL_DIGEST_SIZE])
{
    fl_map_put(world->models, digest, fl_model_ref(model));
}

static void finish(struct virtual_world *world, const struct fl_aggregator_action *action)
{
    struct course *course = world->course;
    struct fl_model *model = NULL;
    struct fl_error err = {0};
    struct message *message;

    if (fl_strategy_finish(course->strategy, &model, &err) == 0) {
        course_take_model(course, model);
        keep_model(world, model, course->digest);
    }
    message = post(world, MESSAGE_FINISHED, world->count);
    message->ticket = action->ticket;
    message->err = err;
}

static void reply(struct virtual_world *world, const struct fl_aggregator_action *action)
{
    struct message *message =
        post(world, MESSAGE_REPLY, (size_t)(action->request & ((1u << LEARNER_BITS) - 1)));

    message->ticket = action->request >> LEARNER_BITS;
    message->http_status = action->http_status;
    message->body = fl_bytes_ref(action->body);
}

static void do_aggregator(struct virtual_world *world, const struct fl_aggregator_action *action)
{
    switch (action->kind) {
    case FL_AGGREGATOR_REPLY:
        reply(world, action);
        break;
    case FL_AGGREGATOR_BEGIN:
        begin(world, action);
        break;
    case FL_AGGREGATOR_FOLD:
        fold(world, action);
        break;
    case FL_AGGREGATOR_FINISH:
        finish(world, action);
        break;
    case FL_AGGREGATOR_ABANDON:
        fl_strategy_abandon(world->course->strategy);
        break;
    case FL_AGGREGATOR_RELEASE:
        fl_map_remove(world->models, action->model);
        break;
    default: /* the journal and the bulk side: there is no disk, and bytes are where they belong */
        break;
    }
}

/* --- what a learner asks for ---------------------------------------------------------------- */

static void train(struct virtual_world *world, size_t learner,
                  const struct fl_learner_action *action)
{
    struct course *course = world->course;
    const struct fl_task *task = action->task;
    struct fl_model *base = fl_map_get(world->models, task->model);
    struct lesson *lesson;

    assert(base);
    lesson = lesson_create(course->population, learner, task->round, base);
    lesson->ticket = action->ticket;
    lesson->seed = (uint64_t)task->seed;
    lesson->local = task->local;
    lesson->local.config = NULL;
    lesson->digest = true;
    lesson->asked_ms = course->now_ms;
    lesson->finish_ms =
        course->now_ms + population_delay_ms(course->population, learner, task->round);
    schedule_add(&course->schedule, lesson);
}

static void upload(struct virtual_world *world, size_t learner,
                   const struct fl_learner_action *action)
{
    struct message *message = post(world, MESSAGE_STAGED, world->count);

    message->upload = strtoull(strrchr(action->target, '/') + 1, NULL, 10);
    message = post(world, MESSAGE_UPLOADED, learner);
    message->ticket = action->ticket;
}

static void do_learner(struct virtual_world *world, size_t learner,
                       const struct fl_learner_action *action)
{
    struct node *node = &world->nodes[learner];

    switch (action->kind) {
    case FL_LEARNER_POLL:
    case FL_LEARNER_CALL:
        post_request(world, learner, action->ticket, action->method, action->target, action->body);
        break;
    case FL_LEARNER_DOWNLOAD:
        post(world, MESSAGE_DOWNLOADED, learner)->ticket = action->ticket;
        break;
    case FL_LEARNER_UPLOAD:
        upload(world, learner, action);
        break;
    case FL_LEARNER_TRAIN:
        train(world, learner, action);
        break;
    case FL_LEARNER_CANCEL:
        schedule_cancel(&world->course->schedule, learner, action->ticket);
        break;
    case FL_LEARNER_RELEASE:
        if (fl_streq(node->digest, action->digest))
            fl_model_unref(FL_TAKE(node->update));
        break;
    default: /* nothing is kept for another life, and nobody evaluates here */
        break;
    }
}

/* --- delivery ------------------------------------------------------------------------------- */

static void drain_aggregator(struct virtual_world *world)
{
    const struct fl_aggregator_action *action;

    while ((action = fl_aggregator_next(world->aggregator)) != NULL)
        do_aggregator(world, action);
    note_deadline(world, world->count, fl_aggregator_deadline(world->aggregator));
}

static void drain_learner(struct virtual_world *world, size_t learner)
{
    struct fl_learner_core *core = world->nodes[learner].core;
    const struct fl_learner_action *action;

    while ((action = fl_learner_next(core)) != NULL)
        do_learner(world, learner, action);
    note_deadline(world, learner, fl_learner_deadline(core));
}

static void request(struct virtual_world *world, const struct message *message)
{
    bool control = message->learner == CONTROLLER;
    const struct fl_aggregator_request request = {
        .request = message->request,
        .method = message->method,
        .target = message->target,
        .body = message->body ? message->body->data : "",
        .body_len = message->body ? message->body->len : 0,
        .peer = control ? NULL : world->nodes[message->learner].id,
        .control_plane = control};

    fl_aggregator_request(world->aggregator, world->course->now_ms, &request);
}

/* The controller hears of the round, and asks to hear more. */
static void watch(struct virtual_world *world, const struct message *message)
{
    char target[80];
    bool unknown;
    int r = 0;

    fl_arena_reset(world->arena);
    if (message->http_status != 200)
        r = fl_protocol_read_error(message->http_status, message->body->data, message->body->len,
                                   &unknown, &world->failure);
    else
        r = fl_message_decode(world->arena, &fl_form_round_report, message->body->data,
                              message->body->len, &world->status, &world->failure);
    if (r < 0)
        return;
    (void)snprintf(target, sizeof(target), "/v1/rounds/%" PRId64 "?after=%" PRId64,
                   world->status.round, world->status.version);
    if (world->status.phase < FL_ROUND_COMMITTED)
        post_request(world, CONTROLLER, ++world->control_tickets, "GET", target, NULL);
}

static void deliver_to_aggregator(struct virtual_world *world, const struct message *message)
{
    struct course *course = world->course;
    const struct fl_error *err = message->err.code ? &message->err : NULL;
    const struct fl_finished finished = {.model = course->digest, .size = 1};

    switch (message->kind) {
    case MESSAGE_REQUEST:
        request(world, message);
        break;
    case MESSAGE_STAGED:
        fl_aggregator_uploaded(world->aggregator, course->now_ms, message->upload, NULL);
        break;
    case MESSAGE_BEGUN:
        fl_aggregator_begun(world->aggregator, course->now_ms, message->ticket, err);
        break;
    case MESSAGE_FOLDED:
        fl_aggregator_folded(world->aggregator, course->now_ms, message->ticket, NULL, err);
        break;
    default:
        fl_aggregator_finished(world->aggregator, course->now_ms, message->ticket,
                               err ? NULL : &finished, err);
        break;
    }
    drain_aggregator(world);
}

static void deliver_to_learner(struct virtual_world *world, const struct message *message)
{
    struct fl_learner_core *core = world->nodes[message->learner].core;
    int64_t now_ms = world->course->now_ms;

    if (message->kind == MESSAGE_REPLY)
        fl_learner_answered(core, now_ms, message->ticket, message->http_status,
                            message->body->data, message->body->len);
    else if (message->kind == MESSAGE_DOWNLOADED)
        fl_learner_downloaded(core, now_ms, message->ticket, NULL);
    else
        fl_learner_uploaded(core, now_ms, message->ticket, NULL);
    drain_learner(world, message->learner);
}

static bool deliver_next(struct virtual_world *world)
{
    FL_CLEANUP(message_destroyp) struct message *message = STAILQ_FIRST(&world->messages);

    if (!message)
        return false;
    STAILQ_REMOVE_HEAD(&world->messages, link);
    if (message->kind == MESSAGE_REPLY && message->learner == CONTROLLER)
        watch(world, message);
    else if (message->kind == MESSAGE_REPLY || message->kind == MESSAGE_DOWNLOADED ||
             message->kind == MESSAGE_UPLOADED)
        deliver_to_learner(world, message);
    else
        deliver_to_aggregator(world, message);
    return true;
}

/* --- time ----------------------------------------------------------------------------------- */

static int64_t size_of(const struct fl_model *model)
{
    size_t size;

    fl_bytes_unref(fl_safetensors_header(model, &size));

    return (int64_t)size;
}

static void hand_in(struct virtual_world *world, struct lesson *lesson)
{
    struct node *node = &world->nodes[lesson->learner];
    struct fl_offer facts;

    fl_message_init(&fl_form_offer, &facts);
    facts.learner = node->id;
    facts.digest = lesson->name;
    facts.size = size_of(lesson->fit.model);
    facts.examples = lesson->fit.examples;
    facts.steps = lesson->fit.steps;
    facts.loss_before = lesson->fit.loss_before;
    facts.loss = lesson->fit.loss;
    fl_model_unref(node->update);
    node->update = FL_TAKE(lesson->fit.model);
    (void)snprintf(node->digest, sizeof(node->digest), "%s", lesson->name);
    fl_learner_trained(node->core, world->course->now_ms, lesson->ticket, &facts);
}

static void finish_lesson(struct virtual_world *world)
{
    struct course *course = world->course;
    FL_CLEANUP(lesson_destroyp) struct lesson *lesson = schedule_take(&course->schedule);
    struct fl_learner_core *core = world->nodes[lesson->learner].core;
    struct fl_error err = lesson->err;

    course->now_ms = lesson->finish_ms;
    if (lesson_check(lesson, &world->failure) < 0)
        return;
    if (lesson->drops)
        (void)fl_error_set(&err, FL_E_INVALID, "it was switched off");
    else if (lesson->result < 0)
        course_note_failure(course, world->nodes[lesson->learner].id, &err);
    if (lesson->drops || lesson->result < 0)
        fl_learner_failed(core, course->now_ms, lesson->ticket, "TrainingFailed", &err);
    else
        hand_in(world, lesson);
    drain_learner(world, lesson->learner);
}

static void ring(struct virtual_world *world, const struct timer *timer)
{
    timers_drop(&world->timers);
    world->course->now_ms = timer->at_ms;
    if (timer->node == world->count) {
        fl_aggregator_tick(world->aggregator, timer->at_ms);
        drain_aggregator(world);
    } else {
        fl_learner_tick(world->nodes[timer->node].core, timer->at_ms);
        drain_learner(world, timer->node);
    }
}

/* The next thing that happens; false: nothing ever will. */
static bool step(struct virtual_world *world)
{
    const struct lesson *lesson;
    struct timer timer;
    bool rings;

    if (deliver_next(world))
        return true;
    lesson = schedule_next(&world->course->schedule);
    rings = timers_next(&world->timers, &timer);
    if (lesson && (!rings || lesson->finish_ms < timer.at_ms))
        finish_lesson(world);
    else if (rings)
        ring(world, &timer);
    return lesson || rings;
}

/* --- rounds --------------------------------------------------------------------------------- */

static double metric(const struct fl_metrics *metrics, const char *name)
{
    for (size_t i = 0; i < metrics->count; i++)
        if (fl_streq(metrics->items[i].name, name))
            return metrics->items[i].value;
    return (double)NAN;
}

static void take_counts(const struct fl_round_report *status, struct fl_simulated_round *round)
{
    round->selected = status->selected;
    round->reported = status->reported;
    round->late = status->late;
    round->dropped = status->dropped;
    round->rejected = status->rejected;
    round->examples = status->examples;
    round->train_loss = metric(&status->train, "loss");
}

/* Late updates of others may be among those reported. */
static void tell_progress(struct virtual_world *world, int64_t *told)
{
    const struct fl_simulation *simulation = world->course->simulation;
    int64_t reported = world->status.reported, selected = world->status.selected;

    if (!simulation->update_done || reported == *told)
        return;
    *told = reported;
    simulation->update_done(simulation->user, world->status.round, reported,
                            selected > reported ? selected : reported);
}

int virtual_round(struct virtual_world *world, const struct fl_round_order *spec,
                  struct fl_simulated_round *ret_round, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    int64_t told = 0;
    char target[40];
    int r = course_use_strategy(world->course, spec, err);

    if (r < 0)
        return r;
    while (deliver_next(world)) /* everybody waits for a task: they hear of it in order of asking */
        ;
    body = fl_message_encode(&fl_form_round_order, spec);
    (void)snprintf(target, sizeof(target), "/v1/rounds/%" PRId64, spec->round);
    world->status.phase = FL_ROUND_WAITING;
    post_request(world, CONTROLLER, ++world->control_tickets, "PUT", target, body);
    while (world->failure.code == 0 && world->status.phase < FL_ROUND_COMMITTED) {
        if (!step(world))
            return fl_error_set(err, FL_E_INTERNAL, "the protocol stands still");
        r = course_check_interrupt(world->course, err);
        if (r < 0)
            return r;
        tell_progress(world, &told);
    }
    if (world->failure.code) {
        *err = world->failure;
        return err->code;
    }
    take_counts(&world->status, ret_round);
    if (world->status.phase != FL_ROUND_COMMITTED)
        return fl_error_set(err, FL_E_TIMEOUT, "%s: %s", world->status.reason,
                            fl_str_or(world->status.message, ""));
    return 0;
}

/* --- life ----------------------------------------------------------------------------------- */

/* Nobody is ever silent here, so nobody needs to speak often. */
static int create_aggregator(struct virtual_world *world, struct fl_error *err)
{
    const struct fl_aggregator_options options = {.id = ADDRESS,
                                                  .poll_ms = 24 * HOUR_MS,
                                                  .silence_ms = 24 * 30 * HOUR_MS,
                                                  .progress_ms = 24 * HOUR_MS};

    return fl_aggregator_create(&options, world->course->now_ms, NULL, 0, &world->aggregator, err);
}

static int create_learner(struct virtual_world *world, size_t learner, struct fl_error *err)
{
    struct node *node = &world->nodes[learner];
    struct fl_learner_options options = {.address = ADDRESS, .seed = learner + 1};

    learner_id(learner, node->id);
    fl_message_init(&fl_form_join, &options.join);
    options.join.protocol = FL_PROTOCOL_VERSION;
    options.join.learner = node->id;
    options.join.examples = (int64_t)world->course->population->data[learner]->count;
    return fl_learner_create(&options, world->course->now_ms, &node->core, err);
}

int virtual_world_create(struct course *course, struct virtual_world **ret_world,
                         struct fl_error *err)
{
    struct virtual_world *world = fl_calloc(1, sizeof(*world));
    int r;

    world->course = course;
    world->count = course->population->count;
    world->nodes = fl_calloc(world->count, sizeof(*world->nodes));
    world->models = fl_map_create(unref_model);
    world->arena = fl_arena_create();
    timers_init(&world->timers, world->count + 1);
    STAILQ_INIT(&world->messages);
    keep_model(world, course->model, course->digest);
    r = create_aggregator(world, err);
    for (size_t i = 0; i < world->count && r == 0; i++)
        r = create_learner(world, i, err);
    if (r < 0) {
        virtual_world_destroy(world);
        return r;
    }
    drain_aggregator(world);
    for (size_t i = 0; i < world->count; i++)
        drain_learner(world, i);
    *ret_world = world;
    return 0;
}

void virtual_world_destroy(struct virtual_world *world)
{
    struct message *message;

    if (!world)
        return;
    while ((message = STAILQ_FIRST(&world->messages)) != NULL) {
        STAILQ_REMOVE_HEAD(&world->messages, link);
        message_destroy(message);
    }
    for (size_t i = 0; i < world->count; i++) {
        fl_learner_destroy(world->nodes[i].core);
        fl_model_unref(world->nodes[i].update);
    }
    fl_aggregator_destroy(world->aggregator);
    fl_map_destroy(world->models);
    fl_arena_destroy(world->arena);
    free(world->nodes);
    timers_finish(&world->timers);
    free(world);
}
