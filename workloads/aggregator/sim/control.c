/* The control plane: starts rounds, watches them, aborts some, tells who is where, stops. */
#include "workloads/aggregator/sim/rig.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>

#define CHILDREN_MS 45000 /* it says again where tiers are: what was said may be forgotten */

static void ask(struct rig_world *world, const char *method, const char *target,
                struct fl_bytes *body)
{
    struct rig_event again = rig_event_for(world, RIG_CONTROL, world->controller, 25000);

    world->control_ticket = ++world->order;
    again.ticket = world->control_ticket; /* if nothing is heard until then */
    rig_push(world, again);
    rig_send_request(world, world->controller, world->control_ticket, "root", method, target, body);
}

static void put_round(struct rig_world *world)
{
    struct fl_round_order spec = rig_spec(world, world->round);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    char target[80];

    spec.run = world->run;
    if (world->round > 1 || !world->from_nothing) {
        spec.model = world->model;
        spec.model_size = world->model_size;
    }
    if (world->bug == RIG_BUG_QUORUM_OFF && spec.participation.quorum > 1)
        spec.participation.quorum--;
    (void)snprintf(target, sizeof(target), "/v1/rounds/%" PRId64, world->round);
    body = fl_message_encode(&fl_form_round_order, &spec);
    ask(world, "PUT", target, body);
}

static void watch_round(struct rig_world *world)
{
    bool abort = world->aborts && rig_chance(world, 15);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = abort ? fl_bytes_new("{}", 2) : NULL;
    char target[80];

    if (abort)
        (void)snprintf(target, sizeof(target), "/v1/rounds/%" PRId64 "/abort", world->round);
    else
        (void)snprintf(target, sizeof(target), "/v1/rounds/%" PRId64 "?after=%" PRId64,
                       world->round, world->control_version);
    world->totals.aborts += abort;
    ask(world, abort ? "POST" : "GET", target, body);
}

static void stop(struct rig_world *world)
{
    const struct fl_stop stop = {.message = "done"};
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = fl_message_encode(&fl_form_stop, &stop);

    ask(world, "POST", "/v1/stop", body);
}

static void be_done(struct rig_world *world)
{
    world->all_done = true;
    world->stop_at = world->now;
}

void rig_control(struct rig_world *world)
{
    if (world->all_done)
        return;
    if (world->round > world->rounds && world->nodes[0].ended)
        be_done(world); /* its answer was lost */
    else if (world->round > world->rounds)
        stop(world);
    else if (!world->put_done)
        put_round(world);
    else
        watch_round(world);
}

/* To each aggregator its own. */
void rig_tell_children(struct rig_world *world)
{
    for (int i = 0; i < world->node_count; i++) {
        struct fl_pair pairs[RIG_NODES_MAX];
        struct fl_children children = {{pairs, 0}};
        const struct rig_node *above = &world->nodes[i];
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;

        if (above->role != RIG_ROOT && above->role != RIG_TIER)
            continue;
        for (int j = 0; j < world->node_count; j++)
            if (world->nodes[j].role == RIG_TIER && !world->nodes[j].gone &&
                fl_streq(world->nodes[j].home, above->id))
                pairs[children.children.count++] =
                    (struct fl_pair){world->nodes[j].id, world->nodes[j].address};
        if (children.children.count == 0)
            continue;
        body = fl_message_encode(&fl_form_children, &children);
        rig_send_request(world, world->controller, ++world->order, above->address, "PUT",
                         "/v1/children", body);
    }
    if (!world->all_done)
        rig_push(world, rig_event_for(world, RIG_CHILDREN, world->controller, CHILDREN_MS));
}

/* --- what comes back --- */

static void next_run(struct rig_world *world, bool next_round)
{
    world->round += next_round;
    world->run = next_round ? 0 : world->run + 1;
    world->put_done = false;
    world->control_version = 0;
}

static void round_failed(struct rig_world *world, const struct fl_round_report *status)
{
    rig_say(world, &world->nodes[world->controller], "round %" PRId64 " failed: %s: %s",
            world->round, fl_str_or(status->reason, ""), fl_str_or(status->message, ""));
    if (!status->reason || !status->message)
        rig_fail(world, "a round failed without a reason");
    if (world->now > world->quiet_at + 30 * 60000)
        rig_fail(world, "round %" PRId64 " fails in quiet: %s", world->round, status->message);
    if (++world->failed > 80)
        rig_fail(world, "round %" PRId64 " fails for ever", world->round);
    next_run(world, false);
}

static void check_evaluation(struct rig_world *world, const struct fl_round_report *status)
{
    for (size_t i = 0; i < status->evaluation.count; i++)
        if (fl_streq(status->evaluation.items[i].name, "loss") &&
            status->evaluation.items[i].value != 0.5)
            rig_fail(world, "the mean of equal losses is another");
    if (status->evaluation.count == 0 && world->evaluate &&
        world->now > world->quiet_at + 30 * 60000)
        rig_fail(world, "nobody evaluates in quiet");
}

static void watched(struct rig_world *world, const struct fl_round_report *status)
{
    if (status->round != world->round || status->version < world->control_version)
        return;
    world->control_version = status->version;
    if (status->run != world->run)
        rig_fail(world, "round %" PRId64 " tells of another run", world->round);
    if (status->phase == FL_ROUND_COMMITTED) {
        rig_say(world, &world->nodes[world->controller], "round %" PRId64 " is committed: %s",
                world->round, status->model);
        (void)snprintf(world->model, sizeof(world->model), "%s", status->model);
        world->model_size = status->model_size;
        check_evaluation(world, status);
        next_run(world, true);
    } else if (status->phase == FL_ROUND_FAILED || status->phase == FL_ROUND_ABORTED) {
        round_failed(world, status);
    }
}

static void take_answer(struct rig_world *world, const struct rig_event *event)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_round_report status;
    struct fl_error err = {0};

    if (event->status != 200) {
        /* what was started may be lost with a crash before it was written */
        if (event->status != 404 || !world->put_done)
            rig_fail(world, "the controller is refused: %d %.200s", event->status,
                     event->body->data);
        world->put_done = false;
        world->control_version = 0;
    } else if (fl_message_decode(arena, &fl_form_round_report, event->body->data, event->body->len,
                                 &status, &err) < 0) {
        rig_fail(world, "status: %s", err.msg);
    } else {
        world->put_done = true;
        watched(world, &status);
    }
}

void rig_controlled(struct rig_world *world, const struct rig_event *event)
{
    if (event->ticket != world->control_ticket)
        return;
    world->control_ticket = 0;
    if (event->failed || event->status == 503) {
        rig_push(world, rig_event_for(world, RIG_CONTROL, world->controller, 2000));
        return;
    }
    if (world->round > world->rounds && event->status == 200) {
        be_done(world);
        return;
    }
    take_answer(world, event);
    rig_control(world);
}
