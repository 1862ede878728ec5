/* What learners' cores ask for. A tier's core above asks the same; its trainer is the tier. */
#include "workloads/aggregator/sim/rig.h"

#include "lib/str.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longer than all attempts of a round, which may take the same training over. */
#define HANG_MS ((int64_t)12 * 60 * 1000)

struct fl_model *rig_train(const struct fl_model *base, int64_t seed)
{
    struct fl_model *model = NULL;
    struct fl_tensor *w;

    if (fl_model_like(base, true, &model, NULL) < 0)
        abort();
    w = (struct fl_tensor *)fl_model_find(model, "w");
    for (size_t i = 0; i < w->count; i++)
        fl_tensor_set(w, i,
                      fl_tensor_get(w, i) * 0.9 +
                          (double)(fl_protocol_hash(seed, (int64_t)i, 0, "t") % 1000) / 999 - 0.5);
    return model;
}

int64_t rig_steps(int64_t examples)
{
    return 1 + (examples < 1000 ? examples : 1000) / 4;
}

double rig_loss(int64_t seed)
{
    return 0.1 + (double)(fl_protocol_hash(seed, 0, 0, "loss") % 100) / 50;
}

/* --- transfers --- */

static void do_download(struct rig_world *world, struct rig_node *node,
                        const struct fl_learner_action *action)
{
    const struct rig_node *to = rig_node_at(world, action->address);
    struct rig_event event =
        rig_event_for(world, RIG_DOWNLOAD, rig_index(world, to), rig_latency(world));

    if (fl_map_get(node->files, action->digest)) {
        event = rig_event_for(world, RIG_DOWNLOADED, rig_index(world, node), 1);
        event.ticket = action->ticket;
        rig_push(world, event);
        return;
    }
    event.life = node->life; /* the asker's, kept for the way back */
    event.from = rig_index(world, node);
    event.ticket = action->ticket;
    (void)snprintf(event.digest, sizeof(event.digest), "%s", action->digest);
    if (!rig_chance(world, world->loss))
        rig_push(world, event);
}

static void do_upload(struct rig_world *world, struct rig_node *node,
                      const struct fl_learner_action *action)
{
    const struct rig_node *to = rig_node_at(world, action->address);
    struct rig_event event = rig_event_for(world, RIG_UPLOAD, rig_index(world, to),
                                           rig_latency(world) + rig_below(world, 2000));

    event.life = node->life;
    event.from = rig_index(world, node);
    event.ticket = action->ticket;
    event.upload = strtoull(strrchr(action->target, '/') + 1, NULL, 10);
    (void)snprintf(event.digest, sizeof(event.digest), "%s", action->digest);
    if (!fl_map_get(node->files, action->digest))
        rig_fail(world, "%s uploads what it has not", node->id);
    if (!rig_chance(world, world->loss))
        rig_push(world, event);
}

/* --- training --- */

static struct fl_model *base_for(struct rig_world *world, struct rig_node *node,
                                 const struct fl_task *task)
{
    void *cursor = NULL, *value;
    const char *digest;

    while (world->bug == RIG_BUG_STALE_BASE &&
           fl_map_next(world->archive, &cursor, &digest, &value))
        if (!fl_streq(digest, task->model) && fl_model_find(value, "steps"))
            return value;
    return fl_map_get(node->files, task->model);
}

static void make_update(struct rig_world *world, struct rig_node *node, const struct fl_task *task,
                        struct fl_model *base, struct rig_event *done)
{
    FL_CLEANUP(fl_model_unrefp)
    struct fl_model *made = base ? rig_train(base, task->seed) : rig_first_model(world);
    struct fl_offer facts;

    if (node->nature == RIG_NOT_FINITE && base)
        fl_tensor_set((struct fl_tensor *)fl_model_find(made, "w"), 0, (double)NAN);
    rig_archive(world, made, base ? FL_DIGEST_XXH128 : FL_DIGEST_SHA256, done->digest);
    fl_message_init(&fl_form_offer, &facts);
    facts.learner = node->id;
    facts.project = facts.work = "p";
    facts.base = task->model;
    facts.digest = done->digest;
    facts.round = facts.attempt = 1;
    facts.size = rig_file_size(made);
    facts.examples = node->examples;
    facts.steps = rig_steps(node->examples);
    facts.loss = facts.loss_before = rig_loss(task->seed);
    done->offer = fl_message_encode(&fl_form_offer, &facts);
}

static void hang(struct rig_world *world, struct rig_node *node,
                 const struct fl_learner_action *action)
{
    struct rig_event check =
        rig_event_for(world, RIG_HUNG, rig_index(world, node), action->task->deadline_ms + HANG_MS);

    node->hanging = check.ticket = action->ticket;
    world->totals.hung++;
    if (!action->task->late)
        rig_push(world, check);
}

static bool is_needed(const struct rig_node *node, const char *digest)
{
    return fl_learner_needs(node->learner, digest);
}

static void do_train(struct rig_world *world, struct rig_node *node,
                     const struct fl_learner_action *action)
{
    int64_t span =
        node->nature == RIG_SLOW ? 20000 + rig_below(world, 60000) : 500 + rig_below(world, 8000);
    struct rig_event done = rig_event_for(world, RIG_TRAINED, rig_index(world, node), span);
    bool init = action->task->kind == FL_TASK_INIT;
    struct fl_model *base;

    if (node->hanging)
        rig_fail(world, "%s is to train while it hangs", node->id);
    if (!node->swept)
        rig_sweep(node, is_needed);
    base = init ? NULL : base_for(world, node, action->task);
    if (!base && !init) {
        rig_fail(world, "%s trains without a model", node->id);
        return;
    }
    if (node->nature == RIG_HANGING && rig_chance(world, 300)) {
        hang(world, node, action);
        return;
    }
    done.ticket = action->ticket;
    done.evaluation = action->kind == FL_LEARNER_EVALUATE;
    done.failed = node->nature == RIG_FAILING && rig_chance(world, 500);
    if (!done.evaluation && !done.failed)
        make_update(world, node, action->task, base, &done);
    rig_push(world, done);
}

void rig_trained(struct rig_world *world, struct rig_node *node, const struct rig_event *event)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_result result = {.examples = node->examples, .loss = 0.5};
    struct fl_offer facts;
    struct fl_error err = {0};

    if (node->nature == RIG_BOASTING)
        result.examples = FL_PROTOCOL_NUMBER_MAX;
    if (event->failed) {
        (void)fl_error_set(&err, FL_E_INVALID, "the trainer fails");
        fl_learner_failed(node->learner, world->now, event->ticket, "ProcessFailed", &err);
    } else if (event->evaluation) {
        fl_learner_evaluated(node->learner, world->now, event->ticket, &result);
    } else if (fl_message_decode(arena, &fl_form_offer, event->offer->data, event->offer->len,
                                 &facts, &err) < 0) {
        rig_fail(world, "offer: %s", err.msg);
    } else {
        if (!fl_map_get(node->files, facts.digest))
            fl_map_put(node->files, facts.digest,
                       fl_model_ref(fl_map_get(world->archive, facts.digest)));
        fl_learner_trained(node->learner, world->now, event->ticket, &facts);
    }
}

/* A tier trains by rounds of its own. */
static void do_parent_task(struct rig_world *world, struct rig_node *node,
                           const struct fl_learner_action *action)
{
    node->parent_ticket = action->ticket;
    if (action->task->kind == FL_TASK_INIT) {
        fl_aggregator_parent_init(node->aggregator, world->now, action->task);
        return;
    }
    rig_hold(node, action->task->model, RIG_HELD_BY_CORE | RIG_HELD_BY_UPLINK);
    if (!fl_map_get(node->files, action->task->model))
        rig_fail(world, "%s is given a task without its model", node->id);
    if (action->kind == FL_LEARNER_TRAIN)
        fl_aggregator_parent_fit(node->aggregator, world->now, action->task);
    else
        fl_aggregator_parent_evaluate(node->aggregator, world->now, action->task);
}

static void do_cancel(struct rig_world *world, struct rig_node *node, uint64_t ticket)
{
    if (node->hanging == ticket && world->bug != RIG_BUG_HANG_WAITED_FOR)
        node->hanging = 0;
    if (node->role != RIG_TIER || ticket != node->parent_ticket)
        return;
    node->parent_ticket = 0;
    fl_aggregator_parent_cancel(node->aggregator, world->now);
}

/* It left, and may come back; or all is over. */
static void do_ended(struct rig_world *world, struct rig_node *node,
                     const struct fl_learner_action *action)
{
    if (node->role == RIG_TIER) {
        fl_aggregator_stop(node->aggregator, world->now, action->message);
    } else if (node->leaving) {
        rig_crash(world, node);
    } else {
        node->ended = true;
    }
}

static void do_action(struct rig_world *world, struct rig_node *node,
                      const struct fl_learner_action *action)
{
    switch (action->kind) {
    case FL_LEARNER_POLL:
    case FL_LEARNER_CALL:
        rig_send_request(world, rig_index(world, node), action->ticket, action->address,
                         action->method, action->target, action->body);
        break;
    case FL_LEARNER_DOWNLOAD:
        do_download(world, node, action);
        break;
    case FL_LEARNER_UPLOAD:
        do_upload(world, node, action);
        break;
    case FL_LEARNER_TRAIN:
    case FL_LEARNER_EVALUATE:
        if (node->role == RIG_TIER)
            do_parent_task(world, node, action);
        else
            do_train(world, node, action);
        break;
    case FL_LEARNER_CANCEL:
        do_cancel(world, node, action->ticket);
        break;
    case FL_LEARNER_KEEP:
        fl_bytes_unref(node->kept);
        node->kept = fl_kept_encode(action->kept);
        break;
    case FL_LEARNER_RELEASE:
        rig_say(world, node, "releases %s above", action->digest);
        if (node->role == RIG_TIER)
            rig_release(node, action->digest, RIG_HELD_BY_UPLINK);
        else if (world->bug != RIG_BUG_NEVER_RELEASED)
            (void)fl_map_remove(node->files, action->digest);
        break;
    case FL_LEARNER_ENDED:
        do_ended(world, node, action);
        break;
    }
}

bool rig_do_learner(struct rig_world *world, struct rig_node *node,
                    const struct fl_learner_action *action)
{
    bool ends = action->kind == FL_LEARNER_ENDED && node->role == RIG_LEARNER;

    if (rig_chance(world, world->crash)) {
        if (node->role == RIG_LEARNER && rig_chance(world, 300)) /* its disk is gone, too */
            fl_bytes_unref(FL_TAKE(node->kept));
        rig_crash(world, node);
        return false;
    }
    do_action(world, node, action);
    return !ends;
}
