#include "workloads/learner/learner.h"

#include "lib/file.h"
#include "lib/log.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "workloads/learner/uplink.h"
#include "workloads/steps/steps.h"
#include "workloads/tensor/safetensors.h"

#include <assert.h>
#include <math.h>

#define PROGRESS_MS 500
#define OBEY_MS     30000

/* What the trainer's thread is asked; one at a time. */
struct lesson {
    struct fl_learner_node *node;
    struct fl_arena *arena;
    bool evaluate;
    uint64_t ticket;
    struct fl_task task;
    json_t *config;
    int64_t told_ms;

    int result;
    struct fl_error err;
    const char *reason;
    struct fl_offer offer;
    struct fl_result evaluation;
    char digest[FL_DIGEST_SIZE];
};

struct fl_learner_node {
    struct fl_learner_node_options options;
    char *kept_path;
    struct fl_blobs *blobs;
    struct fl_learner_core *core;
    struct fl_uplink *uplink;
    struct fl_timer *patience; /* with a trainer that was cancelled and goes on */
    bool swept;                /* what earlier lives left is gone */

    struct fl_thread *thread;
    struct fl_lock *lock;
    struct fl_signal *wake;
    struct lesson *next, *current; /* with the lock */
    bool cancelled, ending;
    int64_t cancelled_ms; /* when the current one was */
    int notices;          /* posted, not yet delivered; with the lock */
    bool closed;          /* nothing more is delivered */
};

static int64_t now_ms(const struct fl_learner_node *node)
{
    return fl_monotonic_ms(node->options.env);
}

static void step(const struct fl_learner_node *node, enum fl_step step)
{
    fl_step(node->options.env, step);
}

static void lesson_destroy(struct lesson *lesson)
{
    if (!lesson)
        return;
    json_decref(lesson->config);
    fl_arena_destroy(lesson->arena);
    free(lesson);
}

/* --- words from the trainer's thread to the loop --- */

struct notice {
    struct fl_learner_node *node;
    struct lesson *lesson; /* over; NULL: progress */
    uint64_t ticket;
    int64_t done, all;
};

static void node_free(struct fl_learner_node *node)
{
    fl_signal_destroy(node->wake);
    fl_lock_destroy(node->lock);
    free(node);
}

static void tell_core(struct fl_learner_node *node, const struct lesson *lesson)
{
    if (lesson->result < 0)
        fl_learner_failed(node->core, now_ms(node), lesson->ticket, lesson->reason, &lesson->err);
    else if (lesson->evaluate)
        fl_learner_evaluated(node->core, now_ms(node), lesson->ticket, &lesson->evaluation);
    else
        fl_learner_trained(node->core, now_ms(node), lesson->ticket, &lesson->offer);
}

static void deliver(void *user)
{
    struct notice *notice = user;
    struct fl_learner_node *node = notice->node;
    bool last;

    if (!node->closed) {
        if (notice->lesson)
            tell_core(node, notice->lesson);
        else
            fl_learner_progressed(node->core, now_ms(node), notice->ticket, notice->done,
                                  notice->all);
        fl_uplink_pump(node->uplink);
    }
    lesson_destroy(notice->lesson);
    free(notice);
    fl_lock_take(node->lock);
    last = --node->notices == 0 && node->closed;
    fl_lock_release(node->lock);
    if (last)
        node_free(node);
}

static void post(struct fl_learner_node *node, const struct notice *notice)
{
    struct notice *copy = fl_malloc(sizeof(*copy));

    *copy = *notice;
    copy->node = node;
    fl_lock_take(node->lock);
    node->notices++;
    fl_lock_release(node->lock);
    fl_loop_post(node->options.loop, deliver, copy);
}

/* --- on the trainer's thread --- */

static bool is_cancelled(void *user)
{
    struct lesson *lesson = user;

    FL_LOCKED(lesson->node->lock);
    return lesson->node->cancelled || lesson->node->ending;
}

static void note_progress(void *user, int64_t done, int64_t all)
{
    struct lesson *lesson = user;
    const int64_t now = now_ms(lesson->node);

    step(lesson->node, FL_STEP_HALF_TRAINED);
    if (now - lesson->told_ms < PROGRESS_MS)
        return;
    lesson->told_ms = now;
    post(lesson->node, &(struct notice){.ticket = lesson->ticket, .done = done, .all = all});
}

static int open_model(struct lesson *lesson, struct fl_model **ret_model)
{
    const char *path;
    int r =
        fl_blobs_path(lesson->node->blobs, lesson->task.model, lesson->arena, &path, &lesson->err);

    return r < 0 ? r : fl_safetensors_open(path, NULL, ret_model, &lesson->err);
}

static void take_metrics(struct lesson *lesson, const json_t *values, struct fl_metrics *metrics)
{
    const char *name;
    json_t *value;

    metrics->items = fl_new_array(lesson->arena, struct fl_metric, FL_PROTOCOL_METRICS_MAX);
    json_object_foreach((json_t *)values, name, value)
        if (json_is_number(value) && metrics->count < FL_PROTOCOL_METRICS_MAX)
            metrics->items[metrics->count++] =
                (struct fl_metric){fl_arena_strdup(lesson->arena, name), json_number_value(value)};
}

static int put_model(struct lesson *lesson, const struct fl_model *model, enum fl_digest_kind kind)
{
    int r = fl_safetensors_put(model, lesson->node->blobs, kind, NULL, lesson->digest,
                               &lesson->offer.size, &lesson->err);

    lesson->offer.digest = lesson->digest;
    return r;
}

static int fit(struct lesson *lesson, const struct fl_model *base)
{
    struct fl_trainer *trainer = lesson->node->options.trainer;
    const struct fl_local_options *local = &lesson->task.local;
    const struct fl_fit_options options = {.epochs = local->epochs,
                                           .batch_size = local->batch_size,
                                           .learning_rate = local->learning_rate,
                                           .momentum = local->momentum,
                                           .proximal_mu = local->proximal_mu,
                                           .weight_decay = local->weight_decay,
                                           .seed = (uint64_t)lesson->task.seed,
                                           .config = lesson->config,
                                           .cancelled = is_cancelled,
                                           .progress = note_progress,
                                           .user = lesson};
    struct fl_fit_result result = {0};
    int r;

    step(lesson->node, FL_STEP_TRAINING);
    r = trainer->ops->fit(trainer, base, &options, &result, &lesson->err);
    if (r < 0)
        return r;
    step(lesson->node, FL_STEP_TRAINED);
    lesson->offer.examples = result.examples;
    lesson->offer.steps = result.steps;
    lesson->offer.loss_before = result.loss_before;
    lesson->offer.loss = result.loss;
    take_metrics(lesson, result.metrics, &lesson->offer.metrics);
    r = put_model(lesson, result.model, FL_DIGEST_XXH128);
    fl_model_unref(result.model);
    json_decref(result.metrics);
    if (r == 0)
        step(lesson->node, FL_STEP_UPDATE_MADE);
    return r;
}

static int init(struct lesson *lesson)
{
    struct fl_trainer *trainer = lesson->node->options.trainer;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    int r = trainer->ops->init(trainer, (uint64_t)lesson->task.seed, &model, &lesson->err);

    lesson->offer.examples = 1; /* of nobody's data */
    return r < 0 ? r : put_model(lesson, model, FL_DIGEST_SHA256);
}

static int evaluate(struct lesson *lesson, const struct fl_model *model)
{
    struct fl_trainer *trainer = lesson->node->options.trainer;
    struct fl_metrics *metrics = &lesson->evaluation.metrics;
    struct fl_evaluation result = {.accuracy = (double)NAN};
    int r;

    step(lesson->node, FL_STEP_EVALUATING);
    r = trainer->ops->evaluate(trainer, model, &result, &lesson->err);
    if (r < 0)
        return r;
    step(lesson->node, FL_STEP_EVALUATED);
    lesson->evaluation.examples = result.examples;
    lesson->evaluation.loss = result.loss;
    take_metrics(lesson, result.metrics, metrics);
    if (!isnan(result.accuracy) && metrics->count < FL_PROTOCOL_METRICS_MAX)
        metrics->items[metrics->count++] = (struct fl_metric){"accuracy", result.accuracy};
    json_decref(result.metrics);
    return 0;
}

static int follow_task(struct lesson *lesson, const struct fl_model *model)
{
    if (lesson->task.kind == FL_TASK_INIT)
        return init(lesson);
    return lesson->evaluate ? evaluate(lesson, model) : fit(lesson, model);
}

static void learn(struct lesson *lesson)
{
    struct fl_learner_node_options *options = &lesson->node->options;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;

    lesson->told_ms = now_ms(lesson->node);
    lesson->reason = "TrainerNotStarted";
    lesson->result =
        options->renew ? options->renew(options->user, &options->trainer, &lesson->err) : 0;
    if (lesson->result < 0)
        return;
    lesson->result = lesson->task.kind == FL_TASK_INIT ? 0 : open_model(lesson, &model);
    lesson->reason = "NoModel";
    if (lesson->result < 0)
        return;
    lesson->result = follow_task(lesson, model);
    lesson->reason = options->why ? options->why(options->trainer) : NULL;
    if (!lesson->reason || !*lesson->reason)
        lesson->reason = lesson->evaluate ? "EvaluationFailed" : "TrainingFailed";
    lesson->reason = fl_arena_strdup(lesson->arena, lesson->reason);
}

static struct lesson *next_lesson(struct fl_learner_node *node)
{
    FL_LOCKED(node->lock);
    node->current = NULL;
    while (!node->ending && !node->next)
        (void)fl_signal_wait(node->wake, node->lock, -1);
    if (node->ending)
        return NULL;
    node->cancelled = false;
    node->current = FL_TAKE(node->next);
    return node->current;
}

static void train_run(void *user)
{
    struct fl_learner_node *node = user;
    struct lesson *lesson;

    while ((lesson = next_lesson(node))) {
        learn(lesson);
        fl_lock_take(node->lock);
        node->current = NULL;
        fl_lock_release(node->lock);
        post(node, &(struct notice){.lesson = lesson});
    }
}

/* --- actions --- */

/* Only the update that is kept and the model that is wanted now survive a restart. */
static bool is_needed(void *user, const char *digest)
{
    return fl_learner_needs(user, digest);
}

static void sweep(struct fl_learner_node *node)
{
    struct fl_error err = {0};

    if (!node->swept && fl_blobs_sweep(node->blobs, is_needed, node->core, &err) < 0)
        fl_log_warn(node->options.env->log, "models of an earlier life stay",
                    FL_STR("error", err.msg));
    node->swept = true;
}

/* The lesson that waits behind one that was cancelled long ago; NULL: none. */
static struct lesson *take_hopeless(struct fl_learner_node *node, int64_t *ret_due_ms)
{
    *ret_due_ms = INT64_MAX;
    FL_LOCKED(node->lock);
    if (!node->next || !node->current || !node->cancelled)
        return NULL;
    *ret_due_ms = node->cancelled_ms + node->options.obey_ms;
    return now_ms(node) >= *ret_due_ms ? FL_TAKE(node->next) : NULL;
}

static void lose_patience(void *user)
{
    struct fl_learner_node *node = user;
    int64_t due_ms;
    struct lesson *lesson = take_hopeless(node, &due_ms);
    struct fl_error err = {0};

    if (lesson) {
        (void)fl_error_set(&err, FL_E_CONFLICT,
                           "the trainer was told to stop an earlier task and goes on with it");
        fl_learner_failed(node->core, now_ms(node), lesson->ticket, "TrainerHung", &err);
        lesson_destroy(lesson);
        fl_uplink_pump(node->uplink);
    } else if (due_ms != INT64_MAX) {
        fl_timer_arm(node->patience, due_ms - now_ms(node));
    }
}

/* One that was cancelled before it began is replaced. */
static void begin_lesson(struct fl_learner_node *node, const struct fl_learner_action *action)
{
    struct lesson *lesson = fl_calloc(1, sizeof(*lesson));

    lesson->node = node;
    lesson->arena = fl_arena_create();
    lesson->evaluate = action->kind == FL_LEARNER_EVALUATE;
    lesson->ticket = action->ticket;
    fl_message_copy(lesson->arena, &fl_form_task, action->task, &lesson->task);
    fl_message_init(&fl_form_offer, &lesson->offer);
    fl_message_init(&fl_form_result, &lesson->evaluation);
    lesson->config = json_deep_copy(action->task->local.config);
    sweep(node);
    fl_lock_take(node->lock);
    lesson_destroy(node->next);
    node->next = lesson;
    fl_signal_one(node->wake);
    fl_lock_release(node->lock);
    fl_timer_arm(node->patience, 0);
}

static void cancel_lesson(struct fl_learner_node *node, uint64_t ticket)
{
    FL_LOCKED(node->lock);
    if (node->next && node->next->ticket == ticket)
        lesson_destroy(FL_TAKE(node->next));
    if (node->current && node->current->ticket == ticket) {
        node->cancelled = true;
        node->cancelled_ms = now_ms(node);
    }
}

/* Without it a restart only trains once more. */
static void keep(struct fl_learner_node *node, const struct fl_kept *kept)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_kept_encode(kept);
    struct fl_error err = {0};

    step(node, FL_STEP_KEEPING);
    if (fl_file_write(node->kept_path, text->data, text->len, 0600, &err) < 0)
        fl_log_warn(node->options.env->log, "the update would be lost in a restart",
                    FL_STR("error", err.msg));
    step(node, FL_STEP_KEPT);
}

static void act(void *user, const struct fl_learner_action *action)
{
    struct fl_learner_node *node = user;
    struct fl_error err = {0};

    switch (action->kind) {
    case FL_LEARNER_TRAIN:
    case FL_LEARNER_EVALUATE:
        begin_lesson(node, action);
        break;
    case FL_LEARNER_CANCEL:
        cancel_lesson(node, action->ticket);
        break;
    case FL_LEARNER_KEEP:
        keep(node, action->kept);
        break;
    case FL_LEARNER_RELEASE:
        step(node, FL_STEP_RELEASING);
        if (fl_blobs_remove(node->blobs, action->digest, &err) < 0)
            fl_log_warn(node->options.env->log, "a model stays", FL_STR("error", err.msg));
        break;
    case FL_LEARNER_ENDED:
        node->options.ended(node->options.user, action->message);
        break;
    default:
        break; /* the uplink's */
    }
}

/* --- the node --- */

/* What cannot be read is as if it had not been kept. */
static const struct fl_kept *load_kept(struct fl_learner_node *node, struct fl_arena *arena)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    struct fl_kept *kept = fl_new(arena, struct fl_kept);

    if (fl_file_read(node->kept_path, FL_PROTOCOL_BODY_MAX, &text, NULL) < 0 ||
        fl_kept_decode(arena, text->data, text->len, kept, NULL) < 0)
        return NULL;
    return fl_blobs_has(node->blobs, kept->offer.digest) ? kept : NULL;
}

static int open_folder(struct fl_learner_node *node, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *models = fl_asprintf("%s/models", node->options.folder);
    const struct fl_blobs_options options = {.env = node->options.env, .path = models};

    node->kept_path = fl_asprintf("%s/kept.json", node->options.folder);
    return fl_blobs_open(&options, &node->blobs, err);
}

static int make_core(struct fl_learner_node *node, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_learner_options options = {.join = node->options.join,
                                         .address = node->options.aggregator,
                                         .lost_ms = node->options.lost_ms,
                                         .kept = load_kept(node, arena)};

    node->options.env->random(node->options.env->user, &options.seed, sizeof(options.seed));
    return fl_learner_create(&options, now_ms(node), &node->core, err);
}

static int make_uplink(struct fl_learner_node *node, struct fl_error *err)
{
    const struct fl_uplink_options options = {.env = node->options.env,
                                              .loop = node->options.loop,
                                              .core = node->core,
                                              .http = node->options.http,
                                              .blobs = node->blobs,
                                              .act = act,
                                              .user = node};

    return fl_uplink_create(&options, &node->uplink, err);
}

int fl_learner_node_create(const struct fl_learner_node_options *options,
                           struct fl_learner_node **ret_node, struct fl_error *err)
{
    FL_CLEANUP(fl_learner_node_destroyp)
    struct fl_learner_node *node = fl_calloc(1, sizeof(*node));
    int r;

    assert(options->trainer && options->ended);

    node->options = *options;
    node->lock = fl_lock_create();
    node->wake = fl_signal_create();
    node->patience = fl_timer_create(node->options.loop, lose_patience, node);
    if (node->options.obey_ms <= 0)
        node->options.obey_ms = OBEY_MS;
    r = open_folder(node, err);
    if (r == 0)
        r = make_core(node, err);
    if (r == 0)
        r = make_uplink(node, err);
    if (r == 0)
        r = fl_thread_start("train", train_run, node, &node->thread, err);
    if (r < 0)
        return r;
    fl_uplink_pump(node->uplink);
    *ret_node = FL_TAKE(node);
    return 0;
}

void fl_learner_node_leave(struct fl_learner_node *node, const char *message)
{
    fl_learner_leave(node->core, now_ms(node), message);
    fl_uplink_pump(node->uplink);
}

void fl_learner_node_destroy(struct fl_learner_node *node)
{
    bool last;

    if (!node)
        return;
    fl_lock_take(node->lock);
    node->ending = true;
    fl_signal_all(node->wake);
    fl_lock_release(node->lock);
    fl_thread_join(node->thread);
    lesson_destroy(node->next);
    fl_timer_destroy(node->patience);
    fl_uplink_destroy(node->uplink);
    fl_learner_destroy(node->core);
    fl_blobs_close(node->blobs);
    free(node->kept_path);
    fl_lock_take(node->lock);
    node->closed = true;
    last = node->notices == 0;
    fl_lock_release(node->lock);
    if (last)
        node_free(node);
}
